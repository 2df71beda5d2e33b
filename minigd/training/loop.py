"""One epoch: its batches, a step for each, and the totals of their rows."""

import contextlib
import itertools
import threading
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from minigd.backends.workspace import Workspace
from minigd.data.batches import Batch, Batches, no_batch
from minigd.data.sources.array import ArraySource
from minigd.errors import BackendError, check_integer, check_number
from minigd.execution import plain
from minigd.execution.memory import describe_out_of_memory
from minigd.execution.per_example import RowClipping
from minigd.execution.profiler import Profiler
from minigd.execution.runner import Steps
from minigd.nn.metrics import Metric
from minigd.nn.objective import Objective
from minigd.progress import Progress
from minigd.training import divergence
from minigd.training.chunks import Chunks
from minigd.training.epoch_totals import Totals
from minigd.training.evaluation import evaluate, measure
from minigd.training.events import Event
from minigd.training.rows import RowLoader, WeighedRows
from minigd.training.session import Session
from minigd.training.snapshot import BATCHES, SECONDS, NotFinite, Snapshot
from minigd.training.transaction import Transaction


class Loop:
    """Trains on the batches of epochs, and keeps its position.

    Parameters
    ----------
    objective : Objective
    metrics : dict of str to Metric
    transaction : Transaction
    reuse_buffers : bool

    Attributes
    ----------
    epoch, batch : int
        Finished epochs, and finished batches of the current epoch.
    seconds : float
        Training time in the current epoch, in seconds.
    totals : Totals
        The totals of its rows.
    by_row : RowClipping or None
        Set if the norm of each row's own gradient is needed.
    stopping : bool
        Whether to stop after this batch.
    """

    def __init__(
        self,
        objective: Objective,
        metrics: dict[str, Metric],
        transaction: Transaction,
        reuse_buffers: bool,
    ) -> None:
        self.objective, self.metrics, self.transaction = objective, metrics, transaction
        self.reuse_buffers = reuse_buffers
        self.gathered = Workspace(objective.model.backend) if reuse_buffers else None
        self.by_row: RowClipping | None = None
        self.batches: Batches | None = None
        self.stopping, self.epoch = False, 0
        self.steps = Steps(objective, transaction.change, replay=False)
        self.start_epoch()

    def set_compiled(self, compile: bool) -> None:
        """Let NumPy or Numba run the steps from now on, on the model's device."""
        change, plain = self.transaction.change, self.steps.plain
        self.steps = Steps(self.objective, change, self.reuse_buffers, compile)
        self.steps.plain = plain
        self.steps.load_blas()
        self.loader = RowLoader(self.objective, self.metrics)

    def start_epoch(self) -> None:
        """Forget the batches of an epoch, complete or not."""
        self.batch, self.seconds = 0, 0.0
        self.totals = Totals(self.metrics)

    def state_dict(self) -> dict[str, Any]:
        """Return the position, and the sums of the current epoch."""
        return {
            "epoch": self.epoch,
            "batch": self.batch,
            "seconds": self.seconds,
            "totals": self.totals.state_dict(self.objective.model.backend),
        }

    def load_state_dict(self, values: Mapping[str, Any]) -> None:
        """Take what `state_dict` gave."""
        self.epoch = check_integer("epoch", values["epoch"], 0)
        self.start_epoch()
        self.batch = check_integer("batch", values["batch"], 0)
        self.seconds = check_number("seconds", values["seconds"])
        self.totals.load_state_dict(values["totals"], self.objective.model.backend)

    def run(self, session: Session, last: int) -> None:
        """Train until the last epoch is complete, or until something stops it."""
        session.send("start")
        with session.interrupt:
            try:
                while self.epoch < last and not self.stopping:
                    if self.run_epoch(session):
                        self.end_epoch(session)
            except BaseException as error:
                session.end_early(error)
                raise

    def run_epoch(self, session: Session) -> bool:
        """Train on the remaining batches of the epoch, and return whether it is complete."""
        self.transaction.updater.epoch = self.epoch
        self.steps.refresh()
        if self.gathered is not None:
            self.gathered.thread = threading.get_ident()
        defers = session.repeatable and self.transaction.guard.defer()
        return self._run_unread(session) if defers else self._run_steps(session)

    def _run_steps(self, session: Session) -> bool:
        """Make the remaining steps of the epoch."""
        cut = self._cut(session) if self.steps.compiles_epochs else None
        complete = self._run_batches(session) if cut is None else self._run(*cut, session)
        if complete and self.transaction.window.batches:
            self._finish_window(session)
        return complete

    def _run_batches(self, session: Session, most: int | None = None) -> bool:
        """Train on batches one by one, up to a number of them. Return whether none is left."""
        source, profiler = session.batches.source, session.profiler
        epoch = session.batches.epoch(self.epoch, self.batch, self.gathered)
        # Closed at once if an error or an interrupt ends the loop, so that no thread keeps reading.
        with contextlib.closing(epoch):
            started = time.perf_counter()
            for batch in itertools.islice(epoch, most):
                rows = self.loader.load(batch, source)
                if profiler is not None:
                    profiler.begin_step(started)
                session.interrupt.busy = True
                event = self._train(session, batch, rows)
                self.batch += 1
                now = time.perf_counter()
                self.seconds += now - started
                if profiler is not None:
                    profiler.end_step()
                self._report(session, event, len(batch.x))
                session.interrupt.done()
                if self.stopping and not self._is_last(session.batches):
                    return False
                started = now if not session.callbacks else time.perf_counter()
        return True

    def _cut(self, session: Session) -> tuple[Chunks, Any] | None:
        """Return the epoch in chunks and its compiled step, unless single steps are needed."""
        batches = session.batches
        if not (_are_at_hand(batches) and session.by_epoch):
            return None
        if self.transaction.guard.limits is None:
            return None
        model = self.objective.model
        chunks = Chunks(batches, self.epoch, 6 * len(model.flat_params), model.dtype)
        counts = chunks.starts[-1] > 0
        step = self.steps.find_compiled(*chunks.sample, self.by_row) if counts else None
        return None if step is None else (chunks, step)

    def _run(self, chunks: Chunks, step: Any, session: Session) -> bool:
        """Train on the remaining batches, chunk by chunk. Return whether none is left."""
        while self.batch < len(chunks) and not self.stopping:
            end = chunks.end(self.batch)
            started = time.perf_counter()
            if session.profiler is not None:
                session.profiler.begin_step(started)
            session.interrupt.busy = True
            first, updates = self.batch, self.transaction.updates
            if end > first:
                loss = self._make_chunk(chunks, step, end)
            else:
                loss, self.batch = self._pass_over(), first + 1
            now = time.perf_counter()
            self.seconds += now - started
            if session.profiler is not None:
                session.profiler.count("compiled", min(self.batch, end) - first)
                session.profiler.end_step()
            session.interrupt.done()
            chunks.took(now - started)
            if session.progress is not None and self.batch > first:
                rows = int(chunks.starts[self.batch] - chunks.starts[first])
                session.progress.update(loss, rows, self.transaction.updates - updates)
            if self.batch < end:
                # The plain step makes the step that was not safe, or raises the error.
                self._run_batches(session, 1)
        return self.batch == len(chunks)

    def _make_chunk(self, chunks: Chunks, step: Any, end: int) -> Any:
        """Make the steps of batches until one is not safe. Return the loss of the last update."""
        first, starts, wanted = self.batch, chunks.starts, bool(self.metrics)
        made, loss = self.transaction.run_compiled(step, chunks, slice(first, end), wanted)
        self.batch += made.steps
        for block in chunks.blocks(first, self.batch):
            totals, measured = chunks.totals[block], {}
            if wanted:
                own = slice(starts[block.start] - starts[first], starts[block.stop] - starts[first])
                rows = chunks.weighed(block)
                measured = measure(self.objective, self.metrics, made.outputs[own], rows)
            value = np.dot(made.losses[block.start - first : block.stop - first], totals)
            self.totals.add({"loss": float(value), **measured}, float(totals.sum()))
        return loss

    def _train(self, session: Session, batch: Batch, rows: WeighedRows | None) -> Event:
        """Train on one batch, count it, and return its event."""
        if rows is None:
            return self._skip(session, batch)
        with np.errstate(all="ignore"):
            step = self.make_step(rows, session.profiler)
            self._count(step, rows)
        norms = None if step.norms is None else step.norms.copy()
        name, loss = ("batch", step.value) if step.updated is None else ("update", step.updated)
        return Event(name, session.run, loss, rows.x, rows.y, rows.rows, norms)

    def _skip(self, session: Session, batch: Batch) -> Event:
        """Count a batch whose weights are all 0. It may complete a window."""
        updated = self._pass_over()
        name = "batch" if updated is None else "update"
        return Event(name, session.run, updated, rows=batch.rows)

    def _pass_over(self) -> Any:
        """Skip a batch whose weights are all 0. Return the loss of an update that was due."""
        updated = self.transaction.skip_batch()
        self._refuse_fault()
        return updated

    def make_step(self, rows: WeighedRows, profiler: Profiler | None = None) -> plain.Step:
        """Make the step of one batch, or leave everything unchanged."""
        model, transaction = self.objective.model, self.transaction
        model.workspace.thread = threading.get_ident() if self.reuse_buffers else None
        transaction.begin(rows.total)
        try:
            step = self._step(rows, profiler)
        except model.backend.out_of_memory as error:
            raise BackendError(describe_out_of_memory(model, len(rows.x), error)) from error
        finally:
            model.workspace.thread = None
            transaction.end()
        if transaction.fault is not None:
            self._refuse(rows, transaction.fault)
        return step

    def _step(self, rows: WeighedRows, profiler: Profiler | None) -> plain.Step:
        """Run forward, backward and update: compiled, as NumPy's calls, or through the layers."""
        x, y, scale, by_row = rows.x, rows.y, rows.scale, self.by_row
        update = self.transaction.update
        step = self._make_compiled(rows) if self.steps.compiles else None
        traces = step is None and self.steps.traces
        calls = self.steps.find_numpy(x, y, scale, by_row) if traces else None
        if profiler is not None:
            one = "compiled one by one" if step else "by NumPy's calls" if calls else "plain"
            profiler.count(one)
        if step is not None:
            return step
        if calls is None:
            return plain.step(self.objective, x, y, scale, update, by_row)
        return calls(x, y, update, profiler if profiler and profiler.sampling else None)

    def _make_compiled(self, rows: WeighedRows) -> plain.Step | None:
        """Make the compiled step of one batch. Return None if there is none, or it is not safe."""
        compiled = self.steps.find_compiled(rows.x, rows.y, rows.scale, self.by_row)
        return None if compiled is None else self.transaction.make_compiled(compiled, rows)

    def _count(self, step: plain.Step, rows: WeighedRows) -> None:
        """Add the totals of the rows to those of the epoch."""
        weight = rows.total
        loss = self.objective.model.backend.wide(step.value) * weight
        measured = measure(self.objective, self.metrics, step.z, rows)
        self.totals.add({"loss": loss, **measured}, weight)

    def _report(self, session: Session, event: Event, rows: int) -> None:
        """Call the callbacks, and show the progress."""
        if session.callbacks:
            session.call(event)
        if session.progress is not None:
            self._show(session.progress, event, rows)

    def _show(self, progress: Progress, event: Event, rows: int) -> None:
        """Show one more batch. If this reads from a GPU, also check that all was finite."""
        made = event.loss if event.name == "update" else None
        if progress.update(made, rows):
            self.check_unread()

    def _is_last(self, batches: Batches) -> bool:
        return batches.source.rows is not None and self.batch == len(batches.at(self.epoch))

    def _finish_window(self, session: Session) -> None:
        """Make the last update of an epoch if its window is not full."""
        session.interrupt.busy = True
        loss = self.transaction.finish_window()
        self._refuse_fault()
        if loss is not None:
            session.send("update", loss)
            if session.progress is not None:
                session.progress.update(loss)
        session.interrupt.done()

    def end_epoch(self, session: Session) -> None:
        """Evaluate, and put the epoch into the history."""
        means = self.totals.means(self.objective.model.backend)
        if not means:
            raise no_batch(session.batches)
        validation, run = session.validation, session.run
        measured = {} if validation is None else self.evaluate(validation)
        values = {**means, **{f"val_{name}": value for name, value in measured.items()}}
        values |= {"seconds": self.seconds, "updates": float(run.updates)}
        session.interrupt.busy = True
        self.epoch = run.updater.epoch = self.epoch + 1
        self.start_epoch()
        run.history.append(values)
        if session.progress is not None:
            session.progress.epoch(values)
        session.send("epoch", values["loss"])
        session.interrupt.done()

    def evaluate(self, validation: Batches) -> dict[str, float]:
        """Return loss and metrics over rows that `fit` has checked."""
        return evaluate(self.loader, validation)

    # Where numbers are not finite ------------------------------------------------------------

    def _run_unread(self, session: Session) -> bool:
        """Make steps without checking each; repeat from the last snapshot if one was bad."""
        guard, snapshot, error = self.transaction.guard, Snapshot(self.transaction), None

        def watch(event: Event) -> None:
            old = self.batch - snapshot.batch >= BATCHES
            if old or self.seconds - snapshot.seconds >= SECONDS:
                self.check_unread()
                snapshot.take(self.totals, self.batch, self.seconds)

        watching = (watch, frozenset({"batch", "update"}))
        try:
            snapshot.take(self.totals, self.batch, self.seconds)
            complete = self._run_steps(session._replace(callbacks=[*session.callbacks, watching]))
            self.check_unread()
            return complete
        except BaseException as raised:
            busy, session.interrupt.busy = session.interrupt.busy, True
            if not snapshot.taken or guard.is_finite():
                session.interrupt.busy = busy
                raise
            error = raised
        finally:
            guard.defers = False
        reached, stopping, self.stopping = self.batch, self.stopping, False
        self.totals, self.batch, self.seconds = snapshot.restore()
        # Each step is checked, and one more than was counted, because an error may have ended it.
        self._run_batches(session._replace(progress=None), reached + 1 - self.batch)
        self.stopping = stopping
        if not isinstance(error, NotFinite):
            raise error
        return self._run_steps(session)

    def check_unread(self) -> None:
        """Return to the last snapshot if a step since then was bad and was not checked."""
        if not self.transaction.guard.is_finite():
            raise NotFinite

    def _refuse(self, rows: WeighedRows, fault: str) -> None:
        """Raise the error for a batch whose step was not made."""
        backend = self.objective.model.backend
        # A row may have changed since the data were checked.
        backend.check_finite(rows.x, "x", rows.rows)
        backend.check_finite(rows.y, "y", rows.rows)
        if fault.startswith("the loss"):
            fault += divergence.name_layer(self.objective, rows.x)
        raise self._divergence(fault)

    def _refuse_fault(self) -> None:
        if self.transaction.fault is not None:
            raise self._divergence(self.transaction.fault)

    def _divergence(self, fault: str) -> Exception:
        transaction = self.transaction
        rate, update = transaction.updater.learning_rate, transaction.updates + 1
        return divergence.divergence_error(fault, self.epoch + 1, update, rate, self.objective)


def _are_at_hand(batches: Batches) -> bool:
    """Return whether all rows of an epoch, or of many batches, are available at once as arrays."""
    source = batches.source
    if isinstance(source, ArraySource):
        return source.y is not None and not source.sparse
    return source.checked and source.random_access and not batches.weighted
