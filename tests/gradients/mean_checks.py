"""Checks of the mean over the batch: how batches, and single examples, add up to the full batch.

The network is tanh layers and a softmax, for which the reference has a twin without batches.
"""

import numpy as np
from gradients.common import MEAN, assert_close, rng_of

import minigd as gd
from minigd.checks import reference


def tanh_network(inputs=3, widths=(5, 4), classes=3, seed=0):
    """Return tanh layers and a softmax, which `Objective` pairs with the cross-entropy."""
    layers = [layer for width in widths for layer in (gd.Dense(width), gd.Tanh())]
    layers += [gd.Dense(classes), gd.Softmax()]
    return gd.Sequential(layers, inputs=inputs, dtype="float64", seed=seed)


def labelled(n, inputs=3, classes=3, seed=0):
    rng = rng_of(seed, 8, n)
    return rng.standard_normal((n, inputs)), rng.integers(0, classes, n)


def loss_and_gradient(model, x, y, loss="categorical_crossentropy"):
    """Return L and a copy of the flat gradient of one batch."""
    objective = gd.Objective(model, loss)
    # What is not written stays NaN.
    model.flat_grads[...] = np.nan
    value, _ = objective.forward(x, y)
    objective.backward()
    return float(value), model.flat_grads.copy()


def batches_compose_to_the_full_batch(n=2300, batch_size=500, seed=0, shuffle=False):
    """Compare gradients and losses of batches, weighted by their rows, with the full batch's."""
    model = tanh_network(seed=seed)
    x, y = labelled(n, seed=seed)
    full_value, full_gradient = loss_and_gradient(model, x, y)
    batches = gd.Batches(x, y, batch_size=batch_size, shuffle=shuffle, seed=seed)
    sizes, values, rows = [], [], []
    for x_batch, y_batch in batches:
        value, gradient = loss_and_gradient(model, x_batch, y_batch)
        sizes.append(len(x_batch))
        values.append(value)
        rows.append(gradient)
    assert sizes == reference.batch_sizes(n, batch_size)
    assert_close(np.average(rows, axis=0, weights=sizes), full_gradient, MEAN, "gradient")
    assert_close(np.average(values, weights=sizes), full_value, MEAN, "L")


def network_is_the_mean_of_examples(n=9, seed=0):
    """Compare a network with gradients of one example at a time, averaged at the end."""
    model = tanh_network(seed=seed)
    x, y = labelled(n, seed=seed)
    loss_and_gradient(model, x, y)
    weights = [(model.params[f"dense{i}.W"], model.params[f"dense{i}.b"]) for i in (1, 2, 3)]
    examples = reference.per_example_gradients(x, y, weights)
    for i in range(3):
        dW = sum(example[i][0] for example in examples) / n
        db = sum(example[i][1] for example in examples) / n
        assert_close(model.grads[f"dense{i + 1}.W"], dW, MEAN, f"dW of layer {i + 1}")
        assert_close(model.grads[f"dense{i + 1}.b"], db, MEAN, f"db of layer {i + 1}")
