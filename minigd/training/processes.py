"""A run over several processes: each has a part of the rows of every batch.

What a step does is the same as in one process. Between `backward` and the update, the mean
gradients of all parts are combined into that of the batch, together with the loss and a flag for
errors. So the run is the same in all processes: the updates, the history, the callbacks, and its
end.
"""

import contextlib
import math
import signal
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Any, NamedTuple

import numpy as np

from minigd.backends.base import Backend, backend_of
from minigd.data.batches import Batch, Batches
from minigd.data.parts import BatchPart, share
from minigd.data.sources import together
from minigd.data.sources.base import Source
from minigd.distributed.communicator import Communicator, Ended
from minigd.distributed.mpi import connect
from minigd.errors import DataError
from minigd.execution.finite_guard import first_nonfinite_gradient
from minigd.execution.plain import Step
from minigd.execution.profiler import Profiler
from minigd.execution.runner import Steps
from minigd.nn.layers.base import with_inner
from minigd.nn.metrics import Metric
from minigd.optim.accumulation import Accumulation
from minigd.progress import quiet
from minigd.training import agreement
from minigd.training.epoch_totals import Totals, on_host
from minigd.training.evaluation import add_rows, measure
from minigd.training.events import Event
from minigd.training.interrupts import Deadline, Interrupt, OneThread, interruption
from minigd.training.loop import Loop
from minigd.training.rows import RowLoader, WeighedRows
from minigd.training.session import Session
from minigd.training.transaction import Transaction
from minigd.types import Array

UPDATES = 1000
"""The number of updates after which parameters are compared. They also are after each epoch."""


class Own(NamedTuple):
    """The rows of a batch in this process, and in all processes."""

    rows: int  # of this process, without rows of weight 0
    weight: float  # Σ w of them, which is `rows` without weights
    first: int  # rows of the batch in processes before this one
    all_rows: int
    all_weight: float
    checksum: int = 0  # of all rows, if each process reads them all


class SharedWindow(Accumulation):
    """A window in which each process has a share of the gradients. Their sum is the mean."""

    def __init__(self, communicator: Communicator, parts: int) -> None:
        super().__init__(parts)
        self._communicator = communicator

    def write(self, g: Array) -> Any:
        """Write the mean gradient of all processes into g, and return its mean loss."""
        loss = super().write(g)
        backend = backend_of(g)
        total = backend.to_numpy(g)
        self._communicator.sum(total)
        g[...] = backend.asarray(total)
        return loss

    def state_dict(self, backend: Backend) -> dict[str, Any]:
        """Return the window of all processes. An empty one is not summed."""
        values = super().state_dict(backend)
        if values["sum"] is not None:
            self._communicator.sum(values["sum"])
        return values

    def load_state_dict(self, values: Mapping[str, Any], like: Array, backend: Backend) -> None:
        """Restore the window of all processes as rank 0's share."""
        super().load_state_dict(values, like, backend)
        if self._communicator.rank and self._sum is not None:
            self._sum = self._sum * 0


class SharedTransaction(Transaction):
    """One update from the rows of all processes, which each of them makes in the same way."""

    def __init__(self, communicator: Communicator, *given: Any) -> None:
        self.communicator = communicator
        self.own = Own(0, 0.0, 0, 0, 0.0)
        self.own_loss: Any = 0.0
        super().__init__(*given)
        self.window = self._before = SharedWindow(communicator, self.accumulate)

    def update(self, loss: Any) -> Any:
        """Combine the mean gradients and losses of all processes, and update.

        If an update has several batches, `SharedWindow` combines the gradients.
        """
        self.own_loss = loss
        fault = self._find_own_fault(loss)
        backend, g, at_once = self.model.backend, self.model.flat_grads, self.accumulate == 1
        mean = backend.to_numpy(g if at_once else g[:0])
        own = self.own
        known = [own.rows, own.weight, float(loss), fault is not None, own.all_rows, own.checksum]
        notes = self.communicator.mean(mean, known)
        if fault is not None:
            self.fault = fault
            return None
        if notes[:, 3].any():
            raise Ended
        if (notes[:, 4:] != notes[0, 4:]).any():
            raise _batches_differ(notes[:, 4:])
        count, self._weight = notes[:, 0].sum(), float(notes[:, 1].sum())
        if not at_once:
            g *= own.rows / count
        elif mean is not g:
            g[...] = backend.asarray(mean)
        losses = [n / count * value for n, _, value, *_ in notes if n]
        self.loss = backend.asarray(sum(losses), dtype=self.model.dtype)[()]
        return super().update(self.loss)

    def _find_own_fault(self, loss: Any) -> str | None:
        """Describe what is not finite in this process's part of the batch, or return None."""
        if not self.own.rows:
            return None
        if not math.isfinite(loss):
            return f"the loss is {float(loss)}"
        g = self.model.flat_grads
        if math.isfinite(self.model.backend.xp.dot(g, g)):
            return None
        bad = first_nonfinite_gradient(self.model)
        return None if bad is None else f"the gradient of {bad} is not finite"


class OwnRows(RowLoader):
    """Loads this process's rows of a batch, which may be none.

    Parameters
    ----------
    loop : SharedLoop
    objective, metrics
        As for `RowLoader`.
    """

    def __init__(self, loop: "SharedLoop", *given: Any) -> None:
        super().__init__(*given)
        self._loop = loop

    def check_training(self, batches: Batches, validation: Batches | None) -> None:
        """Refuse data that do not fit, or that differ between processes."""
        self._loop.agree()
        self._loop.compare()
        agreement.agree_on_data(self._loop.communicator, batches, validation)
        super().check_training(batches, validation)

    def load(self, batch: Batch, source: Source) -> WeighedRows | None:
        """Return the rows of this process with a weight above 0, or None if there are none."""
        return super().load(batch, source) if len(batch.x) else None

    def load_arrays(self, x: Any, y: Any, sample_weight: Any = None) -> WeighedRows:
        """Return this process's part of a batch that all processes have completely."""
        rows = super().load_arrays(x, y, sample_weight)
        if not self._loop.agreed:
            self._loop.agree()
        n, communicator = len(rows.x), self._loop.communicator
        own = share(n, communicator.rank, communicator.size)
        weight, scale = (None if a is None else a[own] for a in (rows.weight, rows.scale))
        numbers = np.arange(n)[rows.rows][own] if isinstance(rows.rows, slice) else rows.rows[own]
        count = own.stop - own.start
        total = float(count) if weight is None else float(weight.sum())
        self._loop.transaction.own = Own(count, total, own.start, n, rows.total)
        return WeighedRows(rows.x[own], rows.y[own], numbers, weight, scale, total)


class OwnTotals(Totals):
    """The sums over the rows of this process, with the batch of each part."""

    def __init__(self, metrics: Mapping[str, Metric]) -> None:
        super().__init__(metrics)
        self.batch = -1
        self._batches: list[int] = []

    def add(self, batch: Mapping[str, Any], weight: Any) -> None:
        """Add the totals of this process's rows of batch number `batch`."""
        super().add(batch, weight)
        self._batches.append(self.batch)

    def of_all(self, communicator: Communicator, backend: Backend) -> Totals:
        """Return the totals over the rows of all processes, with rows in the order of the batches.

        All processes call it, and get the same result.
        """
        sums = {
            name: [on_host(part, backend) for part in t] if type(t) is list else on_host(t, backend)
            for name, t in self._sums.items()
        }
        parts = communicator.gather((self._batches, float(self.weight), sums))
        total = Totals(self.metrics)
        total.weight = sum(weight for _, weight, _ in parts)
        for name in next((list(sums) for _, _, sums in parts if sums), []):
            for each in _in_order(name, parts):
                total.add({name: each}, 0.0)
        return total

    def load_state_dict(self, values: Mapping[str, Any], backend: Backend) -> None:
        """Restore the sums of a saved epoch, as those of a batch before the next one."""
        super().load_state_dict(values, backend)
        self._batches = [-1] if self._sums else []


def _in_order(name: str, parts: list[Any]) -> list[Any]:
    """Return the totals of a metric in the order of ranks, or its rows in the order of batches."""
    pieces: list[tuple[int, int, Any]] = []
    for rank, (batches, _, sums) in enumerate(parts):
        total = sums.get(name, [])
        if type(total) is list:
            pieces += [(batch, rank, a) for batch, a in zip(batches, total, strict=bool(total))]
        else:
            pieces.append((0, rank, total))
    return [piece for _, _, piece in sorted(pieces, key=lambda item: item[:2])]


class SharedInterrupt(Interrupt):
    """Signals and time limits, which end all processes after the same update."""

    def __init__(self, communicator: Communicator, given: Interrupt) -> None:
        super().__init__()
        self.busy = True
        self._communicator, self._deadline = communicator, given
        self._started = communicator.clock()

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Let a signal wait for the next update. A second Ctrl-C does not wait."""
        if number == self._communicator.signal == signal.SIGINT:
            raise interruption(number)
        self._communicator.signal = number

    def done(self) -> None:
        """Pass on a signal that any process has received, and check the time."""
        communicator = self._communicator
        number, communicator.received = communicator.received, 0
        if number:
            self.busy, communicator.signal = False, 0
            error: Any = interruption(number)
            error.in_all = True
            raise error
        if isinstance(self._deadline, Deadline):
            self._deadline.stop_after(communicator.clock() - self._started)
        # Until all processes agree, they may be at different positions.
        self.busy = True


class Together(OneThread):
    """A context for what all processes do. If one fails, its error ends all, printed once."""

    def __init__(self, communicator: Communicator) -> None:
        super().__init__()
        self.communicator, self._depth = communicator, 0
        self._quiet = contextlib.ExitStack()

    def __enter__(self) -> None:
        super().__enter__()
        if self._depth == 0:
            try:
                self.communicator.renew()
            except BaseException as error:
                super().__exit__()
                self.communicator.end(error)
                raise
            if self.communicator.rank:
                self._quiet.enter_context(quiet())
        self._depth += 1

    def __exit__(self, *raised: object) -> None:
        self._depth -= 1
        super().__exit__(*raised)
        if self._depth == 0:
            self._quiet.close()
            error = raised[1]
            if isinstance(error, BaseException) and not getattr(error, "in_all", False):
                self.communicator.end(error)


def opening_together(comm: Any) -> contextlib.AbstractContextManager[None]:
    r"""Let all processes open the same files together: each reads a part in the first pass.

    In this context, all of them open the same sources in the same order, and find the same as one
    process: types, levels, and dropped rows. An error in one process ends all of them.

    Parameters
    ----------
    comm : mpi4py.MPI.Intracomm or None
        The processes, ``MPI.COMM_WORLD`` with ``mpiexec``. None means one process.

    Returns
    -------
    context manager

    Raises
    ------
    TypeError
        If `comm` is something else.
    ImportError
        If mpi4py is not installed.

    Examples
    --------
    >>> import pathlib, tempfile, minigd as gd
    >>> with tempfile.TemporaryDirectory() as folder, gd.opening_together(None):
    ...     path = pathlib.Path(folder, "rows.csv")
    ...     _ = path.write_text("a,y\n1,2\n3,4\n")
    ...     gd.CsvSource(path, target="y").rows
    2
    """
    communicator = connect(comm)
    return _opening(communicator) if communicator.size > 1 else contextlib.nullcontext()


@contextlib.contextmanager
def _opening(communicator: Communicator) -> Iterator[None]:
    with Together(communicator), together.opening_together(communicator):
        yield


def shared(communicator: Communicator, loop: Loop) -> tuple["SharedLoop", Together]:
    """Return a loop like this one for several processes, and the context for their common work."""
    one = loop.transaction
    given = one.model, one.updater, one.accumulate, one.penalty, one.clipping
    transaction = SharedTransaction(communicator, *given)
    rest = loop.objective, loop.metrics, transaction, loop.reuse_buffers
    return SharedLoop(communicator, *rest), Together(communicator)


class SharedLoop(Loop):
    """Trains on this process's rows of each batch, together with all other processes."""

    transaction: SharedTransaction
    totals: OwnTotals
    agreed = False

    def __init__(self, communicator: Communicator, *given: Any) -> None:
        self.communicator = communicator
        super().__init__(*given)
        layers = self.objective.model.all_layers
        self._coupled = [layer for layer in layers if layer.couples]
        self._drawing = [layer for layer in layers if layer.draws]

    def set_compiled(self, compile: bool) -> None:
        """Let NumPy run the steps, or the layers if they need the other processes."""
        super().set_compiled(False)
        # A step by CUDA has its update.
        if self._coupled or self._drawing or self.steps.by_cuda:
            self.steps = Steps(self.objective, self.transaction.change, replay=False)
        self.loader = OwnRows(self, self.objective, self.metrics)

    def start_epoch(self) -> None:
        """Forget the batches of an epoch, complete or not."""
        super().start_epoch()
        self.totals = OwnTotals(self.metrics)

    def state_dict(self) -> dict[str, Any]:
        """Return the position, with the sums of all processes."""
        own = super().state_dict()
        # Between two epochs there is nothing to combine, and one process may save alone.
        return {**own, "totals": self._all_totals().state_dict()} if self.batch else own

    def load_state_dict(self, values: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned. The sums so far go to rank 0."""
        super().load_state_dict(values)
        if self.communicator.rank:
            self.totals = OwnTotals(self.metrics)

    def _all_totals(self) -> Totals:
        return self.totals.of_all(self.communicator, self.objective.model.backend)

    def run(self, session: Session, last: int) -> None:
        """Train on this process's parts until the last epoch is complete."""
        communicator = self.communicator
        place = communicator.rank, communicator.size
        called = [
            (type(c).__name__, None if e is None else sorted(e)) for c, e in session.callbacks
        ]
        deadline = type(session.interrupt).__name__
        given = {"the number of epochs": last, "callbacks": called, "time_limit": deadline}
        agreement.agree(communicator, given)
        communicator.start_clock()
        held_out = session.validation
        own = session._replace(
            batches=session.batches.part(*place),
            validation=None if held_out is None else held_out.part(*place),
            callbacks=[*session.callbacks, (self._agree_to_stop, frozenset({"start", "epoch"}))],
            interrupt=SharedInterrupt(communicator, session.interrupt),
        )
        super().run(own, last)

    def compare(self) -> None:
        """Refuse to continue if processes differ in their parameters or positions."""
        place = self.epoch, self.batch, self.transaction.updates
        agreement.compare(self.communicator, self.objective.model, place)

    def agree(self) -> None:
        """Refuse models and settings that differ between processes."""
        model, one = self.objective.model, self.transaction
        given = {
            "inputs": model.n_in,
            "dtype": model.dtype,
            "backend": model.backend.name,
            "the number of layers": len(model.layers),
            **{f"layer {k}": layer for k, layer in enumerate(model.layers, 1)},
            "the loss": self.objective.loss,
            "the updater": one.updater,
            "metrics": list(self.metrics),
            "accumulate": one.accumulate,
            "penalties": (one.penalty.l1, one.penalty.l2, one.penalty.decay_bias),
            "clipping": (one.clipping.value, one.clipping.norm),
            "limit on rows": None if self.by_row is None else self.by_row.limit,
        }
        agreement.agree(self.communicator, given)
        agreement.refuse_coupling(model)
        self.agreed = True

    def _train(self, session: Session, batch: Batch, rows: WeighedRows | None) -> Event:
        """Train on this process's rows of a batch."""
        self.totals.batch = self.batch
        placed = self._place(session.batches, batch, rows)
        assert isinstance(batch, BatchPart)
        self.transaction.own = self.transaction.own._replace(checksum=batch.checksum)
        return super()._train(session, batch, placed)

    def _place(
        self, batches: Batches, batch: Batch, rows: WeighedRows | None
    ) -> WeighedRows | None:
        """Find the position of rows in the batch, and weight them. None if all weights are 0."""
        count, weight = (0, 0.0) if rows is None else (len(rows.x), rows.total)
        if batches.weighted:
            counts = self.communicator.gather_rows(np.array([count, weight]))
            before, (whole, total) = counts[: self.communicator.rank, 0].sum(), counts.sum(axis=0)
            self.transaction.own = Own(count, weight, int(before), int(whole), float(total))
            if not total:
                return None
        else:
            whole = _count(batch.whole)
            first = share(whole, self.communicator.rank, self.communicator.size).start
            self.transaction.own = Own(count, weight, first, whole, float(whole))
        return self._weigh(rows, self.transaction.own)

    def _weigh(self, rows: WeighedRows | None, own: Own) -> WeighedRows:
        """Return rows, each with n w_i/Σw of the whole batch, or no rows."""
        if rows is None:
            model = self.objective.model
            x, y = (model.backend.zeros((0, n), model.dtype) for n in (model.n_in, model.n_out))
            return WeighedRows(x, y, slice(0, 0), None, None, 0.0)
        if rows.scale is None:
            return rows
        ratio = own.weight / own.rows * (own.all_rows / own.all_weight)
        return rows._replace(scale=rows.scale * self.objective.model.dtype.type(ratio))

    def make_step(self, rows: WeighedRows, profiler: Profiler | None = None) -> Step:
        """Make the step of one batch, together with all other processes."""
        with self._told_where_rows_are():
            step = super().make_step(rows, profiler)
        return step._replace(value=self.transaction.loss)

    @contextlib.contextmanager
    def _told_where_rows_are(self) -> Iterator[None]:
        """Set in the layers which rows other processes have."""
        for layer in self._coupled:
            layer.communicator = self.communicator
        for layer in self._drawing:
            layer.first_row = self.transaction.own.first
        try:
            yield
        finally:
            for layer in self._coupled:
                del layer.communicator
            for layer in self._drawing:
                del layer.first_row

    def _step(self, rows: WeighedRows, profiler: Profiler | None) -> Step:
        """Make the step of rows, or take part in the step of the others."""
        return super()._step(rows, profiler) if len(rows.x) else self._take_part(rows)

    def _take_part(self, rows: WeighedRows) -> Step:
        """Do what the others need in a step for which this process has no rows."""
        model = self.objective.model
        model.passes += 1
        coupled = [each for each in with_inner(self.objective.layers) if each.couples]
        for layer in coupled:
            layer.forward(model.backend.zeros((0, layer.n_in), model.dtype), train=True)
        for layer in reversed(coupled):
            layer.backward(model.backend.zeros((0, layer.n_out), model.dtype))
        model.flat_grads[...] = 0
        updated = self.transaction.update(model.dtype.type(0))
        norms = None if self.by_row is None else model.backend.zeros((0,), model.dtype)
        return Step(self.transaction.own_loss, rows.y, norms, updated)

    def _count(self, step: Step, rows: WeighedRows) -> None:
        """Add the totals of this process's rows to those of the epoch."""
        if len(rows.x):
            own, wide = self.transaction.own, self.objective.model.backend.wide
            # With n w/Σw of the whole batch, the loss here is a share of the batch's loss.
            weight = own.rows * (own.all_weight / own.all_rows)
            measured = measure(self.objective, self.metrics, step.z, rows)
            loss = wide(self.transaction.own_loss) * weight
            self.totals.add({"loss": loss, **measured}, rows.total)

    def _run_unread(self, session: Session) -> bool:
        """Check each step, because the other processes would not repeat steps of one process."""
        self.transaction.guard.defers = False
        return self._run_steps(session)

    def _report(self, session: Session, event: Event, rows: int) -> None:
        """Call the callbacks, show the progress, and end if one process must end."""
        super()._report(session, event, self.transaction.own.all_rows)
        if not session.by_epoch:
            self.stopping = self.communicator.any(self.stopping)
        if event.name == "update" and self.transaction.updates % UPDATES == 0:
            self.compare()

    def evaluate(self, validation: Batches) -> dict[str, float]:
        """Return loss and metrics over the rows of all processes."""
        totals = OwnTotals(self.metrics)
        for totals.batch, batch in enumerate(validation.in_order()):
            add_rows(totals, self.loader, batch, validation.source)
        return totals.of_all(self.communicator, self.objective.model.backend).means()

    def end_epoch(self, session: Session) -> None:
        """Combine the measurements of all processes, and add them to the history."""
        self.compare()
        self.totals = self._all_totals()  # type: ignore[assignment]
        super().end_epoch(session)

    def _agree_to_stop(self, event: Event) -> None:
        """End if one process must end, or has received a signal since the last batch."""
        self.stopping = self.communicator.any(self.stopping)


def _count(rows: Any) -> int:
    return rows.stop - rows.start if isinstance(rows, slice) else len(rows)


def _batches_differ(found: Array) -> DataError:
    other = next(rank for rank, own in enumerate(found) if (own != found[0]).any())
    rows, usual = int(found[other, 0]), int(found[0, 0])
    what = f"a batch of {rows:,} rows, and rank 0 one of {usual:,}"
    return DataError(
        f"rank {other} of {len(found)} has {what if rows != usual else 'other rows than rank 0'}: "
        "give all processes the same rows in the same order, of which each takes its part"
    )
