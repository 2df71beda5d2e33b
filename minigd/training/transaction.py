"""One update of the parameters, made completely or not at all.

It is made from one batch, or from a window of accumulated batches. If loss, gradient or update is
not finite, everything is restored to the values before the batch.
"""

import math
from typing import Any

import numpy as np

from minigd.execution.device_guard import make_guard
from minigd.execution.finite_guard import Limits
from minigd.execution.plain import Step
from minigd.execution.tracer import Update
from minigd.nn.sequential import Sequential
from minigd.optim.accumulation import Accumulation
from minigd.optim.gradient_transforms import Clipping, Penalty
from minigd.optim.updaters import Updater
from minigd.training.rows import WeighedRows


class Transaction:
    """The current update, and the window of batches for it.

    Parameters
    ----------
    model : Sequential
    updater : Updater
    accumulate : int
        The number of batches per update.
    penalty : Penalty
    clipping : Clipping

    Attributes
    ----------
    updates : int
        Updates made.
    fault : str or None
        A description of what was not finite in the last batch.
    window : Accumulation
    guard : Guard
    """

    def __init__(
        self,
        model: Sequential,
        updater: Updater,
        accumulate: int,
        penalty: Penalty,
        clipping: Clipping,
    ) -> None:
        self.model, self.updater = model, updater
        self.accumulate, self.penalty, self.clipping = accumulate, penalty, clipping
        self.updates = 0
        self.fault: str | None = None
        self.window = self._before = Accumulation(accumulate)
        self._weight, self._complete = 0.0, True
        self.renew_guard()

    @property
    def change(self) -> Update:
        """The settings that turn a mean gradient into new parameters."""
        return Update(self.penalty, self.clipping, self.updater, self.accumulate)

    def renew_guard(self, largest: float | None = None) -> None:
        """Guard the model on its current backend. `largest` comes from a saved guard."""
        self.guard = self.updater.owner = make_guard(self.model, self.updater)
        if largest is not None:
            self.guard.largest = float(largest)

    def begin(self, weight: float) -> None:
        """Save everything that a batch of this weight may change."""
        self._weight, self.fault, self._complete = weight, None, False
        self._before = self.window.copy() if self.accumulate > 1 else self.window
        self.guard.remember()

    def update(self, loss: Any) -> Any:
        """Update the parameters with the batch's mean gradient, or add it to the window.

        Return the mean loss of the rows of the update, or None without an update.
        """
        self.fault = self.guard.check_loss(loss)
        if self.fault is not None:
            return None
        updated = self._apply(loss) if self.accumulate == 1 else self._add_part(loss)
        self._complete = self.fault is None
        return updated

    def make_compiled(self, compiled: Any, rows: WeighedRows) -> Step | None:
        """Make a batch's compiled step and update. Return None if the plain step must do it."""
        window, limits = self.window, self._lend_window(compiled)
        if limits is None:
            return None
        share = rows.total / (window.weight + rows.total)
        due = window.batches + 1 == self.accumulate
        step: Step = compiled(rows.x, rows.y, rows.scale, limits, due, share)
        if not step.updated.steps:
            self.guard.restore()
            return None
        updated = self._count_compiled(compiled, step.updated, [step.value], [rows.total])
        self._complete = True
        return step._replace(updated=updated)

    def run_compiled(self, compiled: Any, chunks: Any, batches: slice, outputs: bool) -> Any:
        """Make the steps and updates of batches in memory until one is not safe, and count them.

        Return what was made, and the loss of the last update or None.
        """
        window, totals = self.window, chunks.totals[batches]
        limits, shares = self._lend_window(compiled), window.shares(totals)
        due = (window.batches + 1 + np.arange(len(totals))) % self.accumulate == 0
        made = compiled.run(*chunks.rows(batches), limits, due, shares, outputs)
        losses = made.losses[: made.steps].astype(self.model.dtype)
        return made, self._count_compiled(compiled, made, losses, totals)

    def _lend_window(self, compiled: Any) -> Limits | None:
        """Copy the window to the memory of compiled steps, and return their limits."""
        limits, mean = self.guard.limits, compiled.mean
        if limits is None or self.accumulate == 1:
            return limits
        self.window.write(mean)
        if self.window.empty or limits.finite is not None:
            return limits
        # The plain step may have added a part that was not safe.
        squares = float(self.model.backend.xp.dot(mean, mean))
        length = math.sqrt(squares) if squares >= 0 else math.inf
        return limits._replace(largest=max(limits.largest, length))

    def _count_compiled(self, compiled: Any, made: Any, losses: Any, totals: Any) -> Any:
        """Count compiled steps and updates. Return the loss of the last update, or None."""
        updates = (self.window.batches + made.steps) // self.accumulate
        self.guard.count_compiled(made.steps, updates, made.largest)
        self.updates += updates
        return self.window.advance(losses, totals, compiled.mean)

    def end(self) -> None:
        """Restore the saved values, unless the batch was applied completely."""
        if not self._complete:
            self.guard.restore()
            self.window = self._before
        self._before = self.window

    def skip_batch(self) -> Any:
        """Count a batch whose weights are all 0. Return the loss of an update that is then due."""
        self.begin(0.0)
        self.window.batches += self.accumulate > 1
        return self._finish(due=self.window.batches == self.accumulate > 1)

    def finish_window(self) -> Any:
        """Update from an incomplete window. Return its loss, or None if all weights are 0."""
        self.begin(0.0)
        return self._finish(due=True)

    def _finish(self, due: bool) -> Any:
        with np.errstate(all="ignore"):
            updated = self._close_window() if due else None
        self._complete = self.fault is None
        self.end()
        return updated

    def _add_part(self, loss: Any) -> Any:
        """Add a batch to the window, and make its update if it is full."""
        self.fault = self.guard.check_part(loss)
        if self.fault is not None:
            return None
        self.window.add(self.model.flat_grads, loss, self._weight)
        self.window.batches += 1
        return self._close_window() if self.window.batches == self.accumulate else None

    def _close_window(self) -> Any:
        """Make the window's update, unless all its weights are 0."""
        if self.window.empty:
            self.window.clear()
            return None
        updated = self._apply(self.window.write(self.model.flat_grads))
        if self.fault is None:
            self.window.clear()
        return updated

    def _apply(self, loss: Any) -> Any:
        """Apply penalty and clipping to the mean gradient, and update."""
        self.penalty.add_gradient(self.model)
        self.clipping.clip(self.model.flat_grads)
        self.fault = self.guard.update(loss)
        if self.fault is not None:
            return None
        self.updates += 1
        return loss

    def follow_model(self) -> None:
        """Move to the model's backend."""
        window = self.window.state_dict(self.guard.backend)
        self.renew_guard()
        self.window.load_state_dict(window, self.model.flat_grads, self.model.backend)
