"""A guard makes each update only while loss and gradient are finite, so that parameters stay good.

On the CPU it looks at every step. On a GPU a look would make the host wait, so there a bad step
masks itself and all that follow, and the flag is read with the loss, now and then.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from minigd.backend import Array, Backend
from minigd.model import Sequential
from minigd.updaters import UPDATERS, Updater


class Masked(NamedTuple):
    """How many batches, and updates, a GPU has masked: the first bad one and all behind it."""

    batches: int
    passes: int
    updates: int


class Guard:
    """Makes the updates of one trainer on the CPU.

    Parameters
    ----------
    model : Sequential
    updater : Updater
    """

    def __init__(self, model: Sequential, updater: Updater) -> None:
        self.model = model
        self.backend: Backend = model.backend
        self.workspace = model.workspace
        self.updater = updater
        # Gradients and rates below this can't take a parameter, a velocity or a square out of the
        # range of the dtype, so that no copy is needed.
        self._safe = math.sqrt(float(np.finfo(model.dtype).max)) * 1e-4
        # That is known of the updaters here alone.
        self._bounded = type(updater) in UPDATERS.values()
        self._largest = 1.0
        buffers = [(layer, name) for layer in model.layers for name in layer.running]
        self._running = [layer.buffers[name] for layer, name in buffers]
        self._before: list[Array] = []
        self._passes = model.passes

    def remember(self) -> None:
        """Remember what the next training pass changes beside the parameters."""
        self._passes = self.model.passes
        self._before = [buffer.copy() for buffer in self._running]

    def restore(self) -> None:
        """Take back what the last training pass changed, because its update is not made."""
        self.model.passes = self._passes
        for buffer, before in zip(self._running, self._before, strict=True):
            buffer[...] = before

    def check_loss(self, value: Any) -> str | None:
        """Return what is wrong with the loss, before the gradient is computed, or None."""
        return None if math.isfinite(value) else f"the loss is {float(value)}"

    def check_part(self, value: Any) -> str | None:
        """Return what is wrong with the gradient of a part of a batch, or None."""
        bad = first_nonfinite_gradient(self.model)
        return None if bad is None else f"the gradient of {bad} is not finite"

    def update(self, value: Any) -> str | None:
        """Make the update, or say what is wrong and leave parameters and updater as they were."""
        model, updater = self.model, self.updater
        g = model.flat_grads
        size = math.sqrt(float(np.dot(g, g)))
        if not size <= self._largest:
            self._largest = size if math.isfinite(size) else math.inf
        rate = updater.learning_rate
        # Decay with a share above 1 lets parameters grow that have no gradient.
        grows = rate * getattr(updater, "weight_decay", 0.0) > 1
        if self._bounded and not grows and max(rate, 1.0) * self._largest < self._safe:
            updater.update(model)
            return None
        bad = first_nonfinite_gradient(model)
        if bad is not None:
            return f"the gradient of {bad} is not finite"
        before = model.flat_params.copy()
        state = {name: vector.copy() for name, vector in updater.state.items()}
        updater.update(model)
        if all(np.isfinite(a).all() for a in (model.flat_params, *updater.state.values())):
            return None
        model.flat_params[...] = before
        for name, vector in updater.state.items():
            vector[...] = state.get(name, 0.0)
        updater.step -= 1
        return f"the update is too large for {model.dtype}"

    def end_batch(self) -> None:
        """Close a batch: on a GPU, take back what it changed if it was masked."""

    def skip_batch(self) -> None:
        """Close a batch of which no row counts."""

    left: Callable[[Any], Any] | None = None
    """What stays of a window of parts behind its update; on a GPU all of it if that was masked."""

    def counted(self, total: Any) -> Any:
        """Return what a batch adds to a sum: `total`, or 0 if the batch was masked."""
        return total

    def settle(self) -> Masked | None:
        """Return what was masked since the last call, or None."""
        return None


class DeviceGuard(Guard):
    """Makes the updates of one trainer on a GPU, without asking it anything."""

    def __init__(self, model: Sequential, updater: Updater) -> None:
        super().__init__(model, updater)
        xp = model.backend.xp
        self._good = xp.ones((), dtype="bool")
        self._masked_updates = xp.zeros((), dtype="int64")
        self._masked_batches = xp.zeros((), dtype="int64")
        self._masked_passes = xp.zeros((), dtype="int64")

    def check_loss(self, value: Any) -> str | None:
        """Return None: the loss is looked at in `update`, by the GPU itself."""
        return None

    def check_part(self, value: Any) -> str | None:
        """Mask this part and all behind it if its loss or its gradient is not finite."""
        xp = self.backend.xp
        finite = xp.isfinite(value) & xp.isfinite(self.model.flat_grads).all()
        self._good = self._good & finite
        return None

    def update(self, value: Any) -> str | None:
        """Make the update where this loss, its result, and all before them are finite."""
        good = self._good & self.backend.xp.isfinite(value)
        self._good = self.updater.update(self.model, where=good)
        self._masked_updates = self._masked_updates + ~self._good
        return None

    def end_batch(self) -> None:
        """Take back what a masked batch changed beside the parameters, and count it."""
        self.skip_batch()
        self._masked_passes = self._masked_passes + ~self._good
        for buffer, before in zip(self._running, self._before, strict=True):
            buffer[...] = self.backend.xp.where(self._good, buffer, before)

    def skip_batch(self) -> None:
        """Count a batch that came behind a masked one."""
        self._masked_batches = self._masked_batches + ~self._good

    def counted(self, total: Any) -> Any:
        """Return `total`, or 0 if the batch was masked."""
        return self.backend.xp.where(self._good, total, 0)

    def left(self, total: Any) -> Any:
        """Return 0, or `total` if the update was masked."""
        return self.backend.xp.where(self._good, 0, total)

    def settle(self) -> Masked | None:
        """Read the counts; this is where the host waits."""
        if bool(self._good):
            return None
        batches, passes = int(self._masked_batches), int(self._masked_passes)
        updates = int(self._masked_updates)
        self._good = self._good | True
        self._masked_updates = self._masked_updates * 0
        self._masked_batches = self._masked_batches * 0
        self._masked_passes = self._masked_passes * 0
        self.updater.step -= updates
        self.model.passes -= passes
        return Masked(batches, passes, updates)


def make_guard(model: Sequential, updater: Updater) -> Guard:
    """Return the guard for the model's backend."""
    return (Guard if model.backend.reads_are_free else DeviceGuard)(model, updater)


def first_nonfinite_gradient(model: Sequential) -> str | None:
    """Return the parameter in whose gradient NaN or infinity appeared first in `backward`."""
    for name, grad in reversed(model.grads.items()):
        if not np.isfinite(grad).all():
            return name
    return None
