"""Checks of whole networks: every output layer with every loss that takes its outputs.

PAIRINGS holds them by the names of OUTPUTS and LOSSES.
"""

import math

from gradients.common import EXACT, assert_close, assert_same_gradients, rng_of
from gradients.loss_checks import LOSSES, draw

import minigd as gd

OUTPUTS = {"dense": None, "tanh": gd.Tanh, "sigmoid": gd.Sigmoid, "relu": gd.ReLU}
OUTPUTS["softmax"] = gd.Softmax
HIDDEN = {name: OUTPUTS[name] for name in ("tanh", "sigmoid", "relu", "softmax")}

PAIRINGS = [
    *[(output, loss) for output in OUTPUTS for loss in LOSSES if loss.startswith("mse")],
    *[("sigmoid", loss) for loss in LOSSES if "ce, " in loss],
    # A softmax of one output is always 1, and the cross-entropy of a 1 is nothing to learn from.
    *[("softmax", loss) for loss in LOSSES if "ce, " in loss and LOSSES[loss][1] > 1],
    *[(o, loss) for o in ("dense", "tanh", "relu") for loss in LOSSES if "logits" in loss],
]


def network(output, loss_name, hidden=("tanh",), widths=(4,), inputs=3, seed=0):
    """Return a float64 network with biases off zero that ends in what a case of LOSSES takes."""
    layers = []
    for name, width in zip(hidden, widths, strict=True):
        layers += [gd.Dense(width), HIDDEN[name]()]
    layers.append(gd.Dense(LOSSES[loss_name][1]))
    if OUTPUTS[output]:
        layers.append(OUTPUTS[output]())
    model = gd.Sequential(layers, inputs=inputs, dtype="float64", seed=seed)
    model.flat_params[model.n_weights :] = 0.3 * rng_of(seed, 5).standard_normal(
        model.flat_params.size - model.n_weights
    )
    return model


def network_gradient(output, loss_name, method="complex", n=5, seed=0, **shape):
    """`check_gradients` of a network under a case of LOSSES, by one method."""
    model = network(output, loss_name, seed=seed, **shape)
    loss, _, y = draw(loss_name, n, seed)
    x = rng_of(seed, 6).standard_normal((n, model.n_in))
    errors = gd.check_gradients(model, loss, x, y, method=method, seed=seed)
    assert set(errors) == {*model.params, "x"}
    assert all(math.isfinite(error) for error in errors.values()), errors


def pairing_is_the_chain_rule(output, loss_name, n=6):
    """Compare the gradients of training with those through the last layer's own Jacobian."""
    model = network(output, loss_name)
    loss, _, y = draw(loss_name, n)
    x = rng_of(7).standard_normal((n, model.n_in))
    objective = gd.Objective(model, loss)
    value, _ = objective.forward(x, y)
    dx = objective.backward(input_gradient=True)
    paired = {"x": dx, **{name: grad.copy() for name, grad in model.grads.items()}}
    assert_close(loss.forward(model.forward(x, train=True), y), value, 1e-13, "L")
    dx = model.backward(loss.backward(), input_gradient=True)
    assert_same_gradients({"x": dx, **model.grads}, paired, EXACT)
