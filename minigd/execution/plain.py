"""A training step as in a textbook, through the layers.

It is the reference: faster steps are compared with it, and it does what they can't.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from minigd.execution import per_example
from minigd.execution.per_example import RowClipping
from minigd.nn.objective import Objective
from minigd.types import Array


class Step(NamedTuple):
    """The results of a step: mean loss, outputs, norms of rows if wanted, and that of `update`."""

    value: Any
    z: Array
    norms: Array | None
    updated: Any = None


def no_update(loss: Any) -> None:
    """Leave the parameters unchanged, for a step that only computes gradients."""


def step(
    objective: Objective,
    x: Array,
    y: Array,
    scale: Array | None = None,
    update: Callable[[Any], Any] = no_update,
    by_row: RowClipping | None = None,
) -> Step:
    """Train on one batch, of rows and targets that were checked and converted before.

    Row i of the batch counts ``scale[i]`` = n w_i/Σw. `update` changes the parameters by the mean
    gradients, which are then in ``model.grads``.

    >>> import numpy as np, minigd as gd
    >>> model, updater = gd.Sequential([gd.Dense(1, "ones")], inputs=1), gd.SGD(0.25)
    >>> x, y = np.array([[1.0], [2.0]], "float32"), np.array([[0.0], [2.0]])
    >>> done = step(gd.Objective(model, "mse"), x, y, update=lambda loss: updater.update(model))
    >>> float(done.value)
    0.5
    >>> model.params["dense1.W"]
    array([[0.75]], dtype=float32)
    """
    z = objective.outputs(x)
    loss = objective.mean_loss(z, y, scale)
    norms = backward(objective, scale, by_row)
    updated = update(loss)
    return Step(loss, z, norms, updated)


def backward(objective: Objective, scale: Array | None, by_row: RowClipping | None) -> Array | None:
    """Fill the mean gradients. With `by_row`, limit those of rows and return their norms."""
    if by_row is not None:
        return per_example.backward(objective, by_row, scale)
    objective.backward()
    return None
