"""Finds the wrong part: the loss first, then each layer from the last one, then the whole.

Each is checked alone, with its actual input. The layers before it only compute that input.
"""

import warnings
from collections.abc import Sequence

import numpy as np

from minigd.checks.diagnosis.layer import explain_layer
from minigd.checks.diagnosis.network import dz_of, explain_loss, explain_network
from minigd.checks.passes import Setup, alone, forward, run
from minigd.nn.layers import Layer
from minigd.nn.losses import Loss
from minigd.nn.sequential import Sequential
from minigd.optim.gradient_transforms import Penalty
from minigd.types import Array


def explain(
    model: Sequential,
    layers: Sequence[Layer],
    loss: Loss | None,
    x: Array,
    y: Array,
    weight: Array | None = None,
    penalty: Penalty | None = None,
    first: str = "",
) -> tuple[str, str] | None:
    """Return which gradient is wrong and what it looks like, or None if nothing explains it.

    The model is in float64 on the host, and `layers` are its layers in use. A layer alone has no
    loss, and its dy as y. If the array `first` is wrong and can be explained, it is named.

    Examples
    --------
    >>> import numpy as np, minigd as gd
    >>> class Backwards(gd.Tanh):
    ...     def backward(self, dy):
    ...         return -super().backward(dy)
    >>> layers = [gd.Dense(3), Backwards(), gd.Dense(1)]
    >>> model = gd.Sequential(layers, inputs=2, dtype="float64")
    >>> x, y = np.array([[1.0, 2.0], [0.5, -1.0]]), np.array([[0.5], [-0.5]])
    >>> explain(model, model.layers, gd.MeanSquaredError(), x, y)
    ('dx of backwards1', 'the sign is wrong')
    """
    penalty = penalty or Penalty()
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        inputs = _inputs(model, layers, x)
        dy = y
        if loss is not None:
            right, found = explain_loss(loss, inputs[-1], y, weight)
            if not right:
                return ("the gradient of the loss", found) if found else None
            dy = dz_of(loss, inputs[-1], y, weight)
        for layer, own in zip(reversed(layers), reversed(inputs[:-1]), strict=True):
            begin = first.removeprefix(f"{layer.name}.")
            explained = explain_layer(layer, own, dy, penalty, begin)
            if explained is not None:
                name, found = explained
                dx = "x" if loss is None else f"dx of {layer.name}"
                where = {"x": dx, "": layer.name}.get(name, f"{layer.name}.{name}")
                return (where, found) if found else None
            dy = run(alone(layer), own, dy)["x"]
        if loss is None:
            return None
        return explain_network(Setup(model, layers, loss, x, y, weight, penalty), first)


def _inputs(model: Sequential, layers: Sequence[Layer], x: Array) -> list[Array]:
    """Return each layer's input, and the output of the last."""
    inputs, twin = [x], model.copy()
    for i in range(len(layers)):
        inputs.append(forward(twin, inputs[-1], twin.layers[i : i + 1]).copy())
    return inputs
