"""Two backends side by side: the same steps on each, part by part, and the first difference.

Each part of a step gets the same numbers on both, so a difference shows where it arises.
"""

import copy
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from minigd.backends.base import Backend, backend_of, get_backend
from minigd.checks.passes import from_epochs
from minigd.data.batches import Batches
from minigd.data.row_weights import drop_zero_weights
from minigd.errors import check_integer, given_once, validated
from minigd.execution import plain
from minigd.execution.runner import Steps
from minigd.execution.tracer import Update
from minigd.nn.layers.base import with_inner
from minigd.nn.losses import LossLike
from minigd.nn.objective import Objective
from minigd.nn.sequential import Sequential
from minigd.optim.gradient_transforms import Clipping, Penalty
from minigd.optim.updaters import Updater, get_updater
from minigd.types import Array

ROUNDINGS = 16
"""The allowed difference of two backends, in roundings of a number times the square root of the
number of summands."""


class Difference(NamedTuple):
    """The largest difference of a part of a step between both backends.

    `size` is relative to the largest number of the array; `allowed` is what rounding explains.
    """

    step: int
    part: str
    size: float
    allowed: float

    @property
    def counts(self) -> bool:
        """Whether rounding does not explain it."""
        return not self.size <= self.allowed

    def __str__(self) -> str:
        beyond = "more than" if self.counts else "within"
        return (
            f"step {self.step}, {self.part}: {self.size:.2g} of the largest number, {beyond} the "
            f"{self.allowed:.2g} that rounding explains"
        )


class Comparison(NamedTuple):
    """What `compare_backends` found.

    Attributes
    ----------
    first : Difference or None
        The first one that rounding does not explain.
    worst : Difference
        The largest one, relative to what rounding explains.
    steps : int
        How many steps were made on both.
    """

    first: Difference | None
    worst: Difference
    steps: int

    @property
    def agree(self) -> bool:
        """Whether rounding explains all differences."""
        return self.first is None

    def __str__(self) -> str:
        if self.first is not None:
            return f"the backends differ: {self.first}"
        return f"the backends agree over {self.steps} steps; the largest difference is {self.worst}"


@validated
def compare_backends(
    model: Sequential,
    batches: Batches,
    steps: int = 10,
    *,
    loss: LossLike | None = None,
    updater: str | Updater | None = None,
    backend: str | Backend = "cupy",
    optimizer: str | Updater | None = None,
) -> Comparison:
    """Step a model on NumPy and on another backend, and return where they first differ.

    The forward pass of each layer, the loss and its gradient, the backward pass of each layer, the
    gradient of each parameter, and the update are compared in this order, each from the same
    numbers on both backends. On a GPU the layers are compared first, and then the compiled step
    that a trainer uses instead (`minigd.execution.targets.cuda`). Two results of n-term sums may
    differ by 16 √n roundings of the largest number in the array.

    Parameters
    ----------
    model : Sequential
        It is not changed: copies of it are trained.
    batches : Batches
        With rows on the host and targets. Rows of weight 0 are left out, and other weights count as
        1.
    steps : int, default 10
        The number of batches. Epochs follow each other as in `fit`.
    loss : str or Loss, optional
        By default the loss of the model's last training.
    updater : str or Updater, default "adam"
    backend : str or Backend, default "cupy"
        The backend to compare with NumPy.
    optimizer : str or Updater, optional
        Another name for `updater`.

    Returns
    -------
    Comparison

    Raises
    ------
    ValueError
        If the model was never trained and no loss is given.
    BackendError
        If the other backend is unavailable.

    Examples
    --------
    >>> import numpy as np, minigd as gd
    >>> model = gd.Sequential([gd.Dense(3), gd.Tanh(), gd.Dense(1)], inputs=2)
    >>> X = np.random.default_rng(0).normal(size=(50, 2))
    >>> batches = gd.Batches(X, X[:, :1], batch_size=20)
    >>> print(gd.compare_backends(model, batches, 3, loss="mse", backend="numpy"))
    the backends agree over 3 steps; the largest difference is step 1, forward of dense1: 0 of ...
    """
    updater = given_once("updater", updater, "optimizer", optimizer, "adam")
    steps = check_integer("steps", steps)
    loss = model.loss if loss is None else loss
    if loss is None:
        raise ValueError("the model was never trained: pass a loss, such as loss='mse'")
    one, other = [_Side(model, loss, updater, get_backend(b)) for b in ("numpy", backend)]
    found: list[Difference] = []
    for difference in _differences(one, other, batches, steps):
        found.append(difference)
        if difference.counts:
            break
    first = found[-1] if found[-1].counts else None
    worst = max(found, key=lambda d: d.size / d.allowed if d.size < d.allowed else math.inf)
    return Comparison(first, worst, found[-1].step)


class _Side:
    """A copy of the model on one backend, with its loss and its updater."""

    def __init__(
        self, model: Sequential, loss: LossLike, updater: str | Updater, backend: Backend
    ) -> None:
        self.backend = backend
        self.model = model.copy(backend=backend)
        self.objective = Objective(self.model, copy.copy(loss))
        self.updater = copy.copy(get_updater(updater))
        self.updater.reset()
        self.steps = Steps(self.objective, Update(Penalty(), Clipping(), self.updater))

    def asarray(self, x: Array) -> Array:
        """Return an array of either side on this one."""
        return self.backend.asarray(backend_of(x).to_numpy(x))


def _differences(one: _Side, other: _Side, batches: Batches, steps: int) -> Iterator[Difference]:
    """Make steps on both sides, and yield the difference of each part."""
    for step, batch in enumerate(from_epochs(batches, steps), 1):
        _, x, y = drop_zero_weights(batch.weight, batch.x, batch.y)
        other.model.flat_params[...] = other.asarray(one.model.flat_params)
        x, y = one.model.convert(one.asarray(x), "x"), one.asarray(y)
        yield from _pass(step, one, other, x, y)
        compiled = other.steps.find_compiled(other.asarray(x), other.asarray(y))
        if compiled is not None:
            yield from _compiled(step, one, other, x, y, compiled)
        other.model.flat_grads[...] = other.asarray(one.model.flat_grads)
        for side in (one, other):
            side.updater.update(side.model)
        part = f"the update by {type(one.updater).__name__}"
        a, b = (side.backend.to_numpy(side.model.flat_params) for side in (one, other))
        yield _difference(step, part, a, b, 1)


def _compiled(
    step: int, one: _Side, other: _Side, x: Array, y: Array, compiled: Any
) -> Iterator[Difference]:
    """Make the step that a trainer makes, and yield the difference of each of its results."""
    one.model.passes = other.model.passes = step - 1
    value, z, *_ = plain.step(one.objective, x, y)
    found = compiled(other.asarray(x), other.asarray(y))
    parts = [("the outputs", z, found.z), ("the loss", value, found.value)]
    for key, gradient in one.model.grads.items():
        parts.append((f"the gradient of {key}", gradient, other.model.grads[key]))
    # Sums of one layer are terms of those of the next.
    terms = len(x) * sum(layer.n_in for layer in one.model.layers)
    # The gradient of one parameter may consist only of rounding errors.
    largest = float(np.abs(one.model.flat_grads).max(initial=0.0))
    for part, a, b in parts:
        values = one.backend.to_numpy(a), other.backend.to_numpy(b)
        beside = largest if part.startswith("the gradient") else 0.0
        yield _difference(step, f"{part}, compiled", *values, terms, beside)


def _pass(step: int, one: _Side, other: _Side, x: Array, y: Array) -> Iterator[Difference]:
    """Run forward and backward on both sides, and yield the difference of each part."""

    def between(part: str, a: Array, b: Array, terms: int) -> Difference:
        values = one.backend.to_numpy(a), other.backend.to_numpy(b)
        return _difference(step, part, *values, terms)

    objectives = [side.objective for side in (one, other)]
    layers = list(zip(*[objective.layers for objective in objectives], strict=True))
    n = len(x)
    for layer, twin in layers:
        for each in with_inner([layer, twin]):
            each.passes = step
        y_one, y_other = layer.forward(x, True), twin.forward(other.asarray(x), True)
        yield between(f"forward of {layer.name}", y_one, y_other, layer.n_in)
        x = y_one
    values = []
    for side, objective in zip((one, other), objectives, strict=True):
        objective.loss.backend = side.backend
        targets = objective.targets(side.asarray(y))
        values.append(objective.loss.mean(side.asarray(x), targets))
    yield between("the loss", values[0], values[1], n)
    dy, dy_other = (objective.loss.backward() for objective in objectives)
    yield between("the gradient of the loss", dy, dy_other, dy.shape[1])
    first = next(
        (i for i, (layer, _) in enumerate(layers) if layer.params and layer.trainable), len(layers)
    )
    for i in reversed(range(first, len(layers))):
        layer, twin = layers[i]
        layer.wants_dx = twin.wants_dx = i > first
        dx, dx_other = layer.backward(dy), twin.backward(other.asarray(dy))
        for name in layer.params:
            part = f"the gradient of {layer.name}.{name}"
            yield between(part, layer.grads[name], twin.grads[name], n)
        if layer.wants_dx:
            yield between(f"backward of {layer.name}", dx, dx_other, layer.n_out)
            dy = dx
    for layer, twin in layers:
        layer.forget()
        twin.forget()
        for name in layer.buffers:
            part = f"the buffer {layer.name}.{name}"
            yield between(part, layer.buffers[name], twin.buffers[name], n)


def _difference(
    step: int, part: str, a: Any, b: Any, terms: int, beside: float = 0.0
) -> Difference:
    """Return the difference relative to the largest number, or to another larger one."""
    a, b = np.asarray(a), np.asarray(b)
    largest = max(beside, float(np.abs(a).max(initial=0.0)))
    apart = float(np.abs(a - b).max(initial=0.0))
    size = 0.0 if apart == 0 else apart / largest if largest > 0 else math.inf
    rounding = float(np.finfo(a.dtype).eps) if a.dtype.kind == "f" else 0.0
    allowed = ROUNDINGS * rounding * math.sqrt(terms)
    return Difference(step, part, size, allowed)
