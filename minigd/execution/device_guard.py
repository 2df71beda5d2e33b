"""The guard on a GPU: steps that can be repeated are checked together, at intervals.

Each check makes the host wait until the GPU has finished its work.
"""

import math
from typing import Any

from minigd.execution.finite_guard import Guard, Limits
from minigd.nn.sequential import Sequential
from minigd.optim.updaters import Updater
from minigd.types import Array


class DeviceGuard(Guard):
    """Makes the updates of one trainer on a GPU, and checks each unless it `defers` that."""

    def defer(self) -> bool:
        """From now on, only record on the device whether all is finite."""
        self._finite = self.backend.xp.ones((), dtype="bool")
        self.defers, self.largest = True, math.inf
        return True

    @property
    def limits(self) -> Limits | None:
        """What a compiled step needs to check that it is safe, or to record that it is finite."""
        if self._bounded and self.defers:
            return Limits(math.inf, math.inf, self._finite)
        return super().limits

    def is_finite(self) -> bool:
        """Return whether everything was finite since `defer`. Here the host waits."""
        if not self.defers:
            return True
        self._note(self.model.flat_params, *self.updater.state.values())
        return bool(self._finite)

    def check_loss(self, value: Any) -> str | None:
        """Return what is wrong with the loss, or record whether it is finite."""
        if not self.defers:
            return super().check_loss(value)
        self._finite = self._finite & self.backend.xp.isfinite(value)
        return None

    def check_part(self, value: Any) -> str | None:
        """Return what is wrong with the gradient of a part, or record whether it is finite."""
        if not self.defers:
            return super().check_part(value)
        self._note(self.model.flat_grads)
        return None

    def update(self, value: Any) -> str | None:
        """Make the update, or return what is wrong with it unless that is checked later.

        With minigd's updaters, numbers that are not finite stay so in parameters and vectors. With
        a custom updater that is not known.
        """
        if not self.defers:
            if self.largest == math.inf:  # unknown since `defer`
                self._forget()
            return super().update(value)
        if not self._bounded:
            self._note(self.model.flat_grads)
        self.updater.update(self.model)
        if not self._bounded:
            self._note(self.model.flat_params, *self.updater.state.values())
        return None

    def _note(self, *arrays: Array) -> None:
        """Record on the device whether arrays are finite."""
        for array in arrays:
            self._finite &= self.backend.xp.isfinite(array).all()


def make_guard(model: Sequential, updater: Updater) -> Guard:
    """Return the guard for the model's backend."""
    return (Guard if model.backend.reads_are_free else DeviceGuard)(model, updater)
