"""Checks of whole networks: every output layer with every loss that takes its outputs.

PAIRINGS holds them by the names of OUTPUTS and LOSSES.
"""

import math

import numpy as np
from gradients.common import EXACT, MEAN, assert_close, assert_same_gradients, rng_of
from gradients.loss_checks import LOSSES, draw, weights

import minigd as gd
from minigd.optim.gradient_transforms import Penalty

OUTPUTS = {"dense": None, "tanh": gd.Tanh, "sigmoid": gd.Sigmoid, "relu": gd.ReLU}
OUTPUTS |= {"leaky relu": gd.LeakyReLU, "softmax": gd.Softmax}
HIDDEN = {name: make for name, make in OUTPUTS.items() if make}
HIDDEN |= {"elu": gd.ELU, "gelu": gd.GELU, "silu": gd.SiLU, "softplus": gd.Softplus}
HIDDEN |= {"gelu by tanh": lambda: gd.GELU(approximate=True), "layer norm": gd.LayerNorm}
HIDDEN |= {"batch norm": gd.BatchNorm, "dropout": lambda: gd.Dropout(0.4)}
HIDDEN |= {"residual": lambda: gd.Residual([gd.LayerNorm(), gd.Residual([gd.Tanh()])])}
# λ₁, λ₂ and whether biases, scales and shifts pay too.
PENALTIES = [(0.3, 0.0, False), (0.0, 0.7, False), (0.3, 0.7, False), (0.3, 0.7, True)]

PAIRINGS = [
    *[
        (output, loss)
        for output in OUTPUTS
        for loss in LOSSES
        # A softmax of one output is always 1, which is nothing to learn from, and refused.
        if loss.startswith(("mse", "huber", "mae", "quantile"))
        and (output != "softmax" or LOSSES[loss][1] > 1)
    ],
    *[("sigmoid", loss) for loss in LOSSES if loss.startswith(("bce, ", "focal, "))],
    *[("softmax", loss) for loss in LOSSES if "ce, " in loss and LOSSES[loss][1] > 1],
    *[
        (output, loss)
        for output in ("dense", "tanh", "relu", "leaky relu")
        for loss in LOSSES
        # Nor is a logit that is never below 0 one of a class 0.
        if "logits" in loss and not (output == "relu" and loss.startswith(("bce", "focal")))
    ],
    *[
        (output, loss)
        for output in ("dense", "tanh", "leaky relu")
        for loss in LOSSES
        if loss.startswith(("poisson", "hinge"))
    ],
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


def network_gradient(
    output, loss_name, method="complex", n=5, seed=0, weighted=False, penalty=(0, 0, False), **shape
):
    """`check_gradients` of a network under a case of LOSSES, by one method."""
    model = network(output, loss_name, seed=seed, **shape)
    loss, _, y = draw(loss_name, n, seed)
    if output == "softmax" and loss_name.startswith("bce"):
        y = np.eye(model.n_out)[y.argmax(axis=1)]  # outputs that sum to 1 are for one class a row
    x = rng_of(seed, 6).standard_normal((n, model.n_in))
    weight = weights(n, seed) if weighted else None
    l1, l2, decay_bias = penalty
    errors = gd.check_gradients(
        model, loss, x, y, weight, l1=l1, l2=l2, decay_bias=decay_bias, method=method, seed=seed
    )
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


def penalty_is_the_formula(l1=0.3, l2=0.7, decay_bias=False, n=5, accumulate=1, hidden="tanh"):
    """Compare the effect of a penalty on an update with λ₁ sign(p) + λ₂ p, for any batches.

    An update of plain descent at a rate of 1 is the gradient itself.
    """
    x = rng_of(13).standard_normal((n * accumulate, 3))
    _, _, y = draw("mse, one output", n * accumulate)
    moved = []
    for options in ({}, {"l1": l1, "l2": l2, "decay_bias": decay_bias}):
        model = network("dense", "mse, one output", hidden=(hidden,))
        before = {name: p.copy() for name, p in model.params.items()}
        trainer = gd.Trainer(model, "mse", gd.SGD(1.0), accumulate=accumulate, **options)
        trainer.fit(gd.Batches(x, y, batch_size=n))
        assert trainer.updates == 1
        moved.append({name: before[name] - p for name, p in model.params.items()})
    plain, penalised = moved
    for name, p in before.items():
        pays = decay_bias or name.endswith(".W")
        added = l1 * np.where(p > 0, 1.0, -1.0) + l2 * p if pays else np.zeros_like(p)
        assert_close(penalised[name] - plain[name], added, MEAN, f"what is added for {name}")


def penalty_value_is_the_formula(l1=0.3, l2=0.7, decay_bias=False):
    """Compare a penalty's value with the sums over the parameters that pay."""
    model = network("dense", "mse, one output")
    pays = [p for name, p in model.params.items() if decay_bias or name.endswith(".W")]
    expected = sum(l1 * abs(v) + l2 * v * v / 2 for p in pays for v in p.ravel())
    value = Penalty(l1, l2, decay_bias).value(model)
    assert_close(value, expected, 1e-14, "penalty")
