"""A guard makes an update only if loss and gradient are finite, which keeps parameters finite.

It checks every step. On a GPU, where that makes the host wait, `device_guard.py` can check later.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from minigd.backends.base import Backend
from minigd.nn.sequential import Sequential
from minigd.optim.updaters import UPDATERS, Updater
from minigd.types import Array


class Limits(NamedTuple):
    """`Guard.largest`, and the largest safe size of gradients.

    If a step is checked later, it clears the flag `finite` on the device if it is bad, and is made
    for any size.
    """

    largest: float
    safe: float
    finite: Array | None = None


class Remembered:
    """The old values of what a training pass changes besides the gradients, and of other arrays.

    As a context, it restores everything at its end.
    """

    def __init__(self, model: Sequential, *others: Array) -> None:
        self.model = model
        running = [layer.buffers[name] for layer in model.layers for name in layer.running]
        self.changing: list[Array] = [*running, *others]
        self.remember()

    def remember(self) -> None:
        """Save the current values."""
        self.passes = self.model.passes
        self.before = [array.copy() for array in self.changing]

    def restore(self) -> None:
        """Restore the saved values."""
        self.model.passes = self.passes
        for array, before in zip(self.changing, self.before, strict=True):
            array[...] = before

    def __enter__(self) -> "Remembered":
        return self

    def __exit__(self, *error: object) -> None:
        self.restore()


class Written:
    """The current values of what an updater writes into."""

    def __init__(self, model: Sequential, updater: Updater) -> None:
        self.model, self.updater, self.step = model, updater, updater.step
        self.params = model.flat_params.copy()
        self.state = {name: vector.copy() for name, vector in updater.state.items()}

    def restore(self) -> None:
        """Restore the saved values. Vectors that were created since then become 0."""
        self.updater.step = self.step
        self.model.flat_params[...] = self.params
        for name, vector in self.updater.state.items():
            vector[...] = self.state.get(name, 0.0)


class Guard(Remembered):
    """Makes the updates of one trainer, and checks each.

    Parameters
    ----------
    model : Sequential
    updater : Updater

    Attributes
    ----------
    largest : float
        An upper bound for the norm of every gradient that is still part of the updater's vectors.
    """

    defers = False
    """Whether steps are checked later."""

    def __init__(self, model: Sequential, updater: Updater) -> None:
        super().__init__(model)
        self.backend: Backend = model.backend
        self.workspace = model.workspace
        self.updater = updater
        # Gradients and rates below this can't make a parameter, a velocity or a square overflow, so
        # no copy is needed.
        self._safe = math.sqrt(float(np.finfo(model.dtype).max)) * 1e-4
        # This is known only for minigd's updaters.
        self._bounded = type(updater) in UPDATERS.values()
        self.largest = 1.0
        if updater.state:
            self._forget()

    def defer(self) -> bool:
        """Check the next steps later, and return whether that gains anything."""
        return False

    def is_finite(self) -> bool:
        """Return whether all was finite in the steps that were to be checked later."""
        return True

    def check_loss(self, value: Any) -> str | None:
        """Return what is wrong with the loss, before the gradient is computed, or None."""
        return None if math.isfinite(value) else f"the loss is {float(value)}"

    def check_part(self, value: Any) -> str | None:
        """Return what is wrong with the gradient of a part of a batch, or None."""
        bad = first_nonfinite_gradient(self.model)
        return None if bad is None else f"the gradient of {bad} is not finite"

    @property
    def limits(self) -> Limits | None:
        """What a compiled step needs to check that it is safe, or None if no step is."""
        return Limits(self.largest, self._safe) if self._bounded else None

    def count_compiled(self, passes: int, updates: int, largest: float) -> None:
        """Count compiled steps, with the largest gradient so far."""
        self.largest = largest
        self.model.passes += passes
        self.updater.step += updates

    def update(self, value: Any) -> str | None:
        """Make the update, or return what is wrong and leave parameters and updater unchanged."""
        model, updater = self.model, self.updater
        g = model.flat_grads
        squares, rate = float(self.backend.xp.dot(g, g)), updater.learning_rate
        largest = max(self.largest, math.sqrt(squares)) if squares >= 0 else math.inf
        if self._bounded and max(reach(updater, rate), 1.0) * largest < self._safe:
            self.largest = largest
            updater.update(model)
            return None
        return self._update_or_restore()

    def _update_or_restore(self) -> str | None:
        """Make an update that may overflow, and undo it if it does."""
        model, updater = self.model, self.updater
        bad = first_nonfinite_gradient(model)
        if bad is not None:
            return f"the gradient of {bad} is not finite"
        before = Written(model, updater)
        updater.update(model)
        if all(np.isfinite(a).all() for a in (model.flat_params, *updater.state.values())):
            self._forget()
            return None
        before.restore()
        return f"the update is too large for {model.dtype}"

    def _forget(self) -> None:
        """Forget large gradients when they no longer matter in the updater's vectors."""
        # v and v_max are means or sums of squares. Or v is a velocity, and even one as large as the
        # square of a safe gradient does not make a parameter overflow.
        state = {k: a for k, a in self.updater.state.items() if a.size}
        entries = {k: float(abs(a).max()) for k, a in state.items()}
        self.largest = max([1.0, *[math.sqrt(e) if k[0] == "v" else e for k, e in entries.items()]])


def reach(updater: Updater, rate: float) -> float:
    """Return |η|, the largest step relative to the gradient, or infinity if decay has no bound.

    With a decay outside [0, 1], parameters without a gradient grow.
    """
    return abs(rate) if 0 <= rate * getattr(updater, "weight_decay", 0.0) <= 1 else math.inf


def reaches(updater: Updater, rates: Array) -> Array:
    """Return `reach` for the learning rates of several updates."""
    with np.errstate(invalid="ignore"):  # ∞ · 0
        share = rates * getattr(updater, "weight_decay", 0.0)
    return np.where((share >= 0) & (share <= 1), abs(rates), math.inf)


def first_nonfinite_gradient(model: Sequential) -> str | None:
    """Return the parameter in whose gradient NaN or infinity appeared first in `backward`."""
    for name, grad in reversed(model.grads.items()):
        if not np.isfinite(grad).all():
            return name
    return None
