"""One update of the parameters, made whole or not at all.

It is made from one batch, or from a window of accumulated batches. Where loss, gradient or update
is not finite, everything is again as it was before the batch.
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
    """The update that is being made, and the window of batches that it is made from.

    Parameters
    ----------
    model : Sequential
    updater : Updater
    accumulate : int
        How many batches make one update.
    penalty : Penalty
    clipping : Clipping

    Attributes
    ----------
    updates : int
        Updates made.
    fault : str or None
        What was not finite in the last batch.
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
        """What makes new parameters of a mean gradient."""
        return Update(self.penalty, self.clipping, self.updater, self.accumulate)

    def renew_guard(self, largest: float | None = None) -> None:
        """Guard the model where it is now; `largest` is that of a saved guard."""
        self.guard = self.updater.owner = make_guard(self.model, self.updater)
        if largest is not None:
            self.guard.largest = float(largest)

    def begin(self, weight: float) -> None:
        """Remember everything that a batch of this weight may change."""
        self._weight, self.fault, self._complete = weight, None, False
        self._before = self.window.copy() if self.accumulate > 1 else self.window
        self.guard.remember()

    def update(self, loss: Any) -> Any:
        """Update the parameters by the batch's mean gradient, or add it to the window.

        Return the mean loss of the rows of the update; None where none was made.
        """
        self.fault = self.guard.check_loss(loss)
        if self.fault is not None:
            return None
        updated = self._apply(loss) if self.accumulate == 1 else self._add_part(loss)
        self._complete = self.fault is None
        return updated

    def make_compiled(self, compiled: Any, rows: WeighedRows) -> Step | None:
        """Make a batch's step and update at once; None where the plain step must see to it."""
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
        """Make the steps and updates of batches in memory, until one is not safe; count them.

        Return what was made, and the loss of the last update, None without one.
        """
        window, totals = self.window, chunks.totals[batches]
        limits, shares = self._lend_window(compiled), window.shares(totals)
        due = (window.batches + 1 + np.arange(len(totals))) % self.accumulate == 0
        made = compiled.run(*chunks.rows(batches), limits, due, shares, outputs)
        losses = made.losses[: made.steps].astype(self.model.dtype)
        return made, self._count_compiled(compiled, made, losses, totals)

    def _lend_window(self, compiled: Any) -> Limits | None:
        """Write the window where compiled steps go on with it, and return their limits."""
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
        """Count compiled steps and updates; return the loss of the last one, None without one."""
        updates = (self.window.batches + made.steps) // self.accumulate
        self.guard.count_compiled(made.steps, updates, made.largest)
        self.updates += updates
        return self.window.advance(losses, totals, compiled.mean)

    def end(self) -> None:
        """Restore what was remembered, unless all that the batch changes is changed."""
        if not self._complete:
            self.guard.restore()
            self.window = self._before
        self._before = self.window

    def skip_batch(self) -> Any:
        """Count a batch whose weights are all 0; return the loss of an update that is then due."""
        self.begin(0.0)
        self.window.batches += self.accumulate > 1
        return self._finish(due=self.window.batches == self.accumulate > 1)

    def finish_window(self) -> Any:
        """Make the update of the batches there are; return its loss, or None if no row counts."""
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
        """Make the window's update, if any of its rows counts."""
        if self.window.empty:
            self.window.clear()
            return None
        updated = self._apply(self.window.write(self.model.flat_grads))
        if self.fault is None:
            self.window.clear()
        return updated

    def _apply(self, loss: Any) -> Any:
        """Update by the mean gradient, which the penalty and the limits change first."""
        self.penalty.add_gradient(self.model)
        self.clipping.clip(self.model.flat_grads)
        self.fault = self.guard.update(loss)
        if self.fault is not None:
            return None
        self.updates += 1
        return loss

    def follow_model(self) -> None:
        """Go to the backend that the model was moved to."""
        window = self.window.state_dict(self.guard.backend)
        self.renew_guard()
        self.window.load_state_dict(window, self.model.flat_grads, self.model.backend)
