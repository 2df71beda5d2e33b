"""The guard of a GPU: a bad step masks itself and all that follow, without a number being read.

The flag is read with the loss, now and then, and says what was masked.
"""

from typing import Any

from minigd.execution.finite_guard import Guard, Masked
from minigd.nn.sequential import Sequential
from minigd.optim.updaters import Updater

# What is in, what is out, and what is done, each in one launch.
AND_FINITE = "bool good, T value", "bool now", "now = good && isfinite(value)"
RESTORED = "bool good, T before", "T now", "if (!good) now = before"
WEIGHED = "bool good, T value, float64 weight", "float64 total", "total = good ? value * weight : 0"
CLOSED = (
    "bool good, float64 batches, float64 parts, float64 passes, float64 updates, float64 weight",
    "raw float64 masked",
    """if (!good) {
      masked[0] += batches; masked[1] += parts; masked[2] += passes;
      masked[3] += updates; masked[4] += weight;
    }""",
)


class DeviceGuard(Guard):
    """Makes the updates of one trainer on a GPU, without asking it anything."""

    def __init__(self, model: Sequential, updater: Updater) -> None:
        super().__init__(model, updater)
        xp = model.backend.xp
        self._good = xp.ones((), dtype="bool")
        self._masked = xp.zeros(len(Masked._fields), dtype="float64")
        self._open = 0  # updates since a batch was closed
        self._and_finite = xp.ElementwiseKernel(*AND_FINITE, "minigd_and_finite")
        self._restored = xp.ElementwiseKernel(*RESTORED, "minigd_restored")
        self._weighed = xp.ElementwiseKernel(*WEIGHED, "minigd_weighed")
        self._closed = xp.ElementwiseKernel(*CLOSED, "minigd_closed")

    def check_loss(self, value: Any) -> str | None:
        """Return None: the loss is checked in `update`, by the GPU itself."""
        return None

    def check_part(self, value: Any) -> str | None:
        """Mask this part and all after it if its loss or its gradient is not finite."""
        xp = self.backend.xp
        finite = xp.isfinite(value) & xp.isfinite(self.model.flat_grads).all()
        self._good = self._good & finite
        return None

    def update(self, value: Any) -> str | None:
        """Make the update where this loss, its result, and all before them are finite."""
        self._good = self._and_finite(self._good, value)
        self._good = self.updater.update(self.model, where=self._good)
        self._open += 1
        return None

    def end_batch(self, weight: float = 0.0, batches: int = 1) -> None:
        """Take back what a masked batch changed beside the parameters, and count it."""
        self._close(batches, 1, 1, weight)
        for buffer, before in zip(self.changing, self.before, strict=True):
            self._restored(self._good, before, buffer)

    def skip_batch(self) -> None:
        """Count a batch that came after a masked one."""
        self._close(1, 1, 0, 0.0)

    def _close(self, batches: int, parts: int, passes: int, weight: float) -> None:
        self._closed(self._good, batches, parts, passes, self._open, weight, self._masked)
        self._open = 0

    def weighed(self, value: Any, weight: float) -> Any:
        """Return weight · value in double precision, or 0 if the batch was masked."""
        return self._weighed(self._good, value, weight)

    def counted(self, total: Any) -> Any:
        """Return `total`, or 0 if the batch was masked."""
        return self.backend.xp.where(self._good, total, 0)

    def left(self, total: Any) -> Any:
        """Return 0, or `total` if the update was masked."""
        return self.backend.xp.where(self._good, 0, total)

    def read_masked(self) -> Masked | None:
        """Read the counts; this is where the host waits."""
        if self._open:
            # The update at the end of an epoch whose batches were closed before it.
            self._close(0, 0, 0, 0.0)
        if bool(self._good):
            return None
        *counts, weight = self.backend.to_numpy(self._masked).tolist()
        batches, parts, passes, updates = map(int, counts)
        masked = Masked(batches, parts, passes, updates, weight)
        self._good[...] = True
        self._masked[...] = 0
        self.updater.step -= masked.updates
        self.model.passes -= masked.passes
        return masked


def make_guard(model: Sequential, updater: Updater) -> Guard:
    """Return the guard for the model's backend."""
    return (Guard if model.backend.reads_are_free else DeviceGuard)(model, updater)
