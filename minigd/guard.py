"""A guard makes each update only while loss and gradient are finite, so that parameters stay good.

On the CPU it looks at every step. On a GPU a look would make the host wait, so there a bad step
masks itself and all that follow, and the flag is read with the loss, now and then.
"""

import math
from typing import Any

import numpy as np

from minigd.backend import Backend
from minigd.model import Sequential
from minigd.updaters import Updater


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
        self.updater = updater
        # Gradients and rates below this can't take a parameter, a velocity or a square out of the
        # range of the dtype, so that no copy is needed.
        self._safe = math.sqrt(float(np.finfo(model.dtype).max)) * 1e-4
        self._largest = 1.0

    def check_loss(self, value: Any) -> str | None:
        """Return what is wrong with the loss, before the gradient is computed, or None."""
        return None if math.isfinite(value) else f"the loss is {float(value)}"

    def update(self, value: Any) -> str | None:
        """Make the update, or say what is wrong and leave parameters and updater as they were."""
        model, updater = self.model, self.updater
        g = model.flat_grads
        size = math.sqrt(float(np.dot(g, g)))
        if not size <= self._largest:
            self._largest = size if math.isfinite(size) else math.inf
        if max(updater.learning_rate, 1.0) * self._largest < self._safe:
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

    def counted(self, total: Any) -> Any:
        """Return what a batch adds to an epoch's sums: `total`, or 0 if its update was masked."""
        return total

    def settle(self) -> tuple[str, int] | None:
        """Return what went wrong since the last call, and how many updates were masked, or None."""
        return None


class DeviceGuard(Guard):
    """Makes the updates of one trainer on a GPU, without asking it anything."""

    def __init__(self, model: Sequential, updater: Updater) -> None:
        super().__init__(model, updater)
        xp = model.backend.xp
        self._good = xp.ones((), dtype="bool")
        self._masked = xp.zeros((), dtype="int64")

    def check_loss(self, value: Any) -> str | None:
        """Return None: the loss is looked at in `update`, by the GPU itself."""
        return None

    def update(self, value: Any) -> str | None:
        """Make the update where this loss, its result, and all before them are finite."""
        good = self._good & self.model.backend.xp.isfinite(value)
        self._good = self.updater.update(self.model, where=good)
        self._masked = self._masked + ~self._good
        return None

    def counted(self, total: Any) -> Any:
        """Return `total`, or 0 if the update was masked."""
        return self.model.backend.xp.where(self._good, total, 0)

    def settle(self) -> tuple[str, int] | None:
        """Read the flag; this is where the host waits."""
        masked = int(self._masked)
        if masked == 0:
            return None
        self._good = self._good | True
        self._masked = self._masked * 0
        self.updater.step -= masked
        return "the loss, a gradient or an update is not finite", masked


def make_guard(model: Sequential, updater: Updater) -> Guard:
    """Return the guard for the model's backend."""
    return (Guard if model.backend.reads_are_free else DeviceGuard)(model, updater)


def first_nonfinite_gradient(model: Sequential) -> str | None:
    """Return the parameter in whose gradient NaN or infinity appeared first in `backward`."""
    for name, grad in reversed(model.grads.items()):
        if not np.isfinite(grad).all():
            return name
    return None
