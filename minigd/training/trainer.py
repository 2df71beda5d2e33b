"""The loop: forward, loss, backward, update, for each batch of each epoch.

The trainer holds everything that decides the next update, so that a saved run goes on as if it had
never stopped.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from minigd.backends.base import Backend, Workspace, backend_of
from minigd.backends.frames import check_names, check_rows_alike, check_source, names_of
from minigd.backends.host_to_device import Staging
from minigd.data.batches import Batch, Batches, as_batches
from minigd.data.row_weights import (
    ClassWeight,
    check_weights,
    counting_rows,
    drop_zero_weights,
    row_scale,
)
from minigd.data.sources.array import ArraySource
from minigd.data.sources.base import Rows
from minigd.data.tables.precision import check_rounding
from minigd.errors import BackendError, CheckpointError, DataError, DivergenceError, check_integer
from minigd.execution.device_guard import make_guard
from minigd.execution.finite_guard import Masked, first_nonfinite_gradient
from minigd.execution.memory import work_bytes
from minigd.execution.numba_loops import FastBackend, available, told
from minigd.execution.per_example import RowClipping
from minigd.execution.profiler import Receipt
from minigd.execution.recording import Steps
from minigd.nn.losses import Loss
from minigd.nn.metrics import Metric, get_metrics
from minigd.nn.objective import Objective
from minigd.nn.sequential import Sequential
from minigd.optim.gradient_transforms import Accumulation, Clipping, Penalty
from minigd.optim.updaters import Updater, get_updater
from minigd.progress import Progress, say, warn
from minigd.training import checkpoints as runs
from minigd.training.epoch_totals import Totals
from minigd.training.history import History
from minigd.training.interrupts import Interrupt
from minigd.types import Array

WORTH_COMPILING = 200_000_000
"""Numbers that the updates of an epoch go through, above which Numba is worth its start. It goes
by the epoch, so that the bits are the same however epochs are split among calls of `fit`."""


class Event(NamedTuple):
    """What a callback is told.

    Attributes
    ----------
    name : {"start", "batch", "update", "epoch", "end", "done"}
        What has just been done. ``"start"``: `fit` was called, and nothing done yet.
        ``"update"``: an update was made. ``"batch"``: a batch came that made no update, because it
        is part of a larger one or all its weights are 0. ``"epoch"``: an epoch is complete, and in
        the history. ``"end"``: the last update of this `fit` is made. ``"done"``: `fit` returns
        next, or Ctrl-C ends it; what changes the model for its use, as early stopping does, is done
        here.
    trainer : Trainer
    loss : scalar or None
        The mean loss of the rows of an update before it, or of a batch (a scalar of the backend),
        or of the epoch.
    x, y : Array or None
        The batch, in memory that the next batch overwrites.
    rows : slice, array of int or None
        The numbers of these rows in the source. None where an epoch ends within the batches
        of an update, which is then made from those there are.
    norms : Array or None
        The norm of each row's own gradient, where `fit` was asked for them.
    """

    name: str
    trainer: "Trainer"
    loss: Any = None
    x: Array | None = None
    y: Array | None = None
    rows: Rows | None = None
    norms: Array | None = None


Callback = Callable[[Event], object]


@runtime_checkable
class Stateful(Protocol):
    """A callback that decides something, whose state is saved with the run."""

    def state_dict(self) -> dict[str, Any]:
        """Return numbers, strings, arrays on the host, and dicts of them."""
        ...

    def load_state_dict(self, values: dict[str, Any]) -> None:
        """Take what `state_dict` gave."""
        ...


class _Rows(NamedTuple):
    """A batch on the model's backend: rows that count, and what they weigh."""

    x: Array
    y: Array
    rows: Rows
    weight: Array | None  # float64, of each row
    scale: Array | None  # n w_i / Σ w, in the model's dtype
    total: float  # Σ w, which is n without weights


class Trainer:
    """Trains a model: one update a batch, or a few batches.

    Parameters
    ----------
    model : Sequential
    loss : str or Loss
        Paired with a final Sigmoid or Softmax; see `minigd.Objective`.
    updater : str or Updater
        Its state starts afresh.
    metrics : iterable of str or Metric, or dict of them by name
        Measured over the rows of each epoch; a dict's keys are their names in the history.
    accumulate : int, default 1
        How many batches make one update, with the gradient of all their rows as one batch; fewer
        at the end of an epoch. Memory is held for one of them.
    l1, l2 : float, default 0.0
        A penalty ``λ₁ Σ |W| + ½ λ₂ Σ W²`` on the weights, in the gradient; see
        `minigd.optim.gradient_transforms.Penalty`.
    decay_bias : bool, default False
        Penalise biases, scales and shifts too.
    clip_value, clip_norm : float, optional
        Limits on each entry of the gradient, and on the length of the whole; penalties included.
    clip_rows : float, optional
        A limit on the norm of each row's own gradient, before their mean is taken.
    reuse_buffers : bool, default True
        Write the outputs and gradients of every step into the same memory, and replay a recorded
        step where it can be (`minigd.execution.recording`), or on a GPU fuse its layers
        (`minigd.execution.fusion`). The numbers are the same either way, on the CPU to the bit, on
        a GPU to rounding.
    fast : bool, optional
        Whether Numba runs the elementwise formulas, which is the extra `fast`; on the CPU alone.
        By default it does if it is installed and an epoch takes about a second or more.

    Attributes
    ----------
    updates : int
        Updates made.
    epoch : int
        Epochs completed.
    until_epoch : int or None
        The goal of a ``fit(until_epoch=...)`` while it runs; None for ``fit(epochs=...)``.
    history : History

    Examples
    --------
    >>> import numpy as np, minigd as gd
    >>> X = np.linspace(-1, 1, 230).reshape(-1, 1)
    >>> batches = gd.Batches(X, 3 * X + 1, batch_size=50, shuffle=True)
    >>> model = gd.Sequential([gd.Dense(1)], inputs=1)
    >>> trainer = gd.Trainer(model, "mse", gd.SGD(learning_rate=0.5))
    >>> history = trainer.fit(batches, epochs=20)
    >>> trainer.updates, trainer.epoch, history["loss"][-1] < 1e-6
    (100, 20, True)
    """

    def __init__(
        self,
        model: Sequential,
        loss: str | Loss,
        updater: str | Updater,
        metrics: Iterable[str | Metric] | Mapping[str, str | Metric] = (),
        *,
        accumulate: int = 1,
        l1: float = 0.0,
        l2: float = 0.0,
        decay_bias: bool = False,
        clip_value: float | None = None,
        clip_norm: float | None = None,
        clip_rows: float | None = None,
        reuse_buffers: bool = True,
        fast: bool | None = None,
    ) -> None:
        if model.dtype.kind == "c":
            raise ValueError("a model of complex numbers is for checks, and can't be trained")
        self.model = model
        self.objective = Objective(model, loss)
        self.metrics = get_metrics(metrics)
        self.accumulate = check_integer("accumulate", accumulate)
        self.penalty = Penalty(l1, l2, decay_bias)
        self.clipping = Clipping(clip_value, clip_norm)
        self.row_clipping = RowClipping(clip_rows)
        self._by_row = self.row_clipping if clip_rows is not None else None
        self._norms: Array | None = None  # of the rows of the last batch
        self.reuse_buffers = bool(reuse_buffers)
        self.fast = fast
        self.compiled = False
        self.updater = get_updater(updater)
        self.updater.reset()
        self.updates = 0
        self.epoch = 0
        self.until_epoch: int | None = None
        self.history = History()
        self._batches: Batches | None = None
        self._resumed: dict[str, Any] | None = None  # the batches of a run that goes on
        self._callbacks: dict[str, Any] = {}
        self._states: dict[str, Any] = {}  # of callbacks that have not been given again
        self._window = Accumulation(self.accumulate)
        self._start_epoch()
        self._gathered = Workspace(model.backend) if reuse_buffers else None
        self._guard = make_guard(model, self.updater)
        self._stopping = False
        self._receipt: Receipt | None = None
        self._looked: Receipt | None = None  # while a step is timed
        self.updater.owner = self._guard
        self._use(compiled=bool(fast))

    @property
    def batch(self) -> int:
        """Batches made of the epoch at hand."""
        return self._batch

    @property
    def batches(self) -> Batches:
        """The batches of the last `fit`."""
        if self._batches is None:
            raise DataError("this trainer was not given any batches yet: call fit")
        return self._batches

    @property
    def options(self) -> dict[str, Any]:
        """The settings of the constructor beside model, loss, updater and metrics."""
        return {
            "accumulate": self.accumulate,
            "l1": self.penalty.l1,
            "l2": self.penalty.l2,
            "decay_bias": self.penalty.decay_bias,
            "clip_value": self.clipping.value,
            "clip_norm": self.clipping.norm,
            "clip_rows": self.row_clipping.limit,
            "reuse_buffers": self.reuse_buffers,
            "fast": self.fast,
        }

    def _use(self, compiled: bool) -> None:
        """Let NumPy or Numba run the formulas from now on."""
        self.compiled = compiled and self.model.backend.reads_are_free
        executor = FastBackend() if self.compiled else None
        self.updater.executor = executor
        self._steps = Steps(self.objective, self.reuse_buffers, executor)
        backend = self.model.backend
        self._staging = None if backend.reads_are_free else Staging(backend.xp)

    # One update ------------------------------------------------------------------------------

    def step(self, x: Any, y: Any, sample_weight: Any = None, *, per_example: bool = False) -> Any:
        """Make one update from one batch, or add the batch to the next update.

        Parameters
        ----------
        x : array-like, shape (n, n_in)
        y : array-like, shape (n,) or (n, K)
            Both on the model's backend.
        sample_weight : array-like, shape (n,), optional
            How much each row counts; one of weight 0 is left out, whatever numbers it holds.
        per_example : bool, default False
            Return the norm of each row's own gradient too: `minigd.execution.per_example.backward`.

        Returns
        -------
        scalar, or (scalar, Array of shape (n,))
            The mean loss of the batch before the update, on the model's backend; and, if asked for,
            the norms, 0 for a row of weight 0.

        Raises
        ------
        ShapeError, DataError, BackendError
            If the batch does not fit.
        DivergenceError
            If the loss or a gradient is not finite; the parameters are those before the update. A
            GPU is not asked in each step: there such updates are masked, and `fit` and `save` say
            so.
        """
        self._follow()
        self._steps.refresh()
        backend = self.model.backend
        check_names(names_of(x), self.model.names, "x")
        check_rows_alike(x, y, sample_weight)
        x, y = backend.here(x, "x"), backend.here(y, "y")
        rows: Rows = slice(0, len(x)) if x.ndim else slice(0, 0)
        weight = None if sample_weight is None else check_weights(sample_weight, rows.stop)
        n = rows.stop
        if weight is not None:
            self.objective.check(x, y, values=False)
            weight, x, y, rows = drop_zero_weights(weight, x, y, rows)
        if backend.reads_are_free:
            backend.check_finite(x, "x", rows)
        x = self.model.convert(x, "x", rows)
        self.objective.check(x, y, values=backend.reads_are_free)
        self._mark()
        asked = self._by_row
        self._ask(per_example)
        try:
            with np.errstate(all="ignore"):
                value, _, _ = self._update(self._weigh(x, y, rows, weight))
            self._guard.end_batch(batches=0)
        finally:
            self._by_row = asked
        if not per_example or self._norms is None:
            return value
        if isinstance(rows, slice):
            return value, self._norms.copy()
        norms = backend.zeros((n,), self.model.dtype)
        norms[backend.asarray(rows)] = self._norms
        return value, norms

    def _ask(self, per_example: bool) -> None:
        """Let the next steps find the norms of rows, or only if a limit needs them."""
        wanted = per_example or self.row_clipping.limit is not None
        self._by_row = self.row_clipping if wanted else None

    def _mark(self) -> None:
        """Tell the model what it is trained for; `evaluate` and a saved file go by it."""
        self.model.loss, self.model.metrics = self.objective.given, dict(self.metrics)

    def _follow(self) -> None:
        """Go where the model has gone since the last update, if it was moved."""
        if self.updater.owner is not self._guard:
            raise ValueError(
                f"{self.updater!r} was given to another trainer since, which has reset it: give "
                "each trainer an updater of its own"
            )
        if self._guard.workspace is not self.model.workspace:
            masked = self._guard.settle()
            window = self._window.state_dict(self._guard.backend)
            self._guard = self.updater.owner = make_guard(self.model, self.updater)
            self._use(self.compiled)
            self._window.load_state_dict(window, self.model.flat_grads, self.model.backend)
            self._take_back(masked)

    def _weigh(self, x: Array, y: Array, rows: Rows, weight: Array | None) -> _Rows:
        if weight is None:
            return _Rows(x, y, rows, None, None, float(len(x)))
        backend, total = self.model.backend, float(weight.sum())
        scale = backend.asarray(row_scale(weight), dtype=self.model.dtype)
        return _Rows(x, y, rows, backend.asarray(weight), scale, total)

    def _update(self, batch: _Rows) -> tuple[Any, Array, Any]:
        """Go forward and backward, and make the update if one is due.

        Return the batch's mean loss, the outputs, and the loss of the update if one was made.
        """
        workspace = self.model.workspace
        workspace.lent = threading.get_ident() if self.reuse_buffers else None
        window = self._window.copy() if self.accumulate > 1 else self._window
        loss = reason = None
        done = False
        self._guard.remember()
        try:
            value, z, self._norms = self._steps(
                batch.x, batch.y, batch.scale, self._looked, self._by_row
            )
            reason = self._guard.check_loss(value)
            if reason is None:
                if self.accumulate == 1:
                    loss, reason = self._apply(value)
                else:
                    reason = self._hold(value, batch.total)
                    if reason is None and self._window.held == self.accumulate:
                        loss, reason = self._close_window(window)
            done = reason is None
        except self.model.backend.out_of_memory as error:
            raise BackendError(self._too_large(len(batch.x), error)) from error
        finally:
            workspace.lent = None
            if not done:
                self._guard.restore()
                self._window = window
        if reason is not None:
            # A row may have changed since the data were checked.
            self.model.backend.check_finite(batch.x, "x", batch.rows)
            self.model.backend.check_finite(batch.y, "y", batch.rows)
            if reason.startswith("the loss"):
                reason += self._where(batch.x)
            self._refuse(reason)
        return value, z, loss

    def _too_large(self, n: int, error: Exception) -> str:
        """Say what a batch needs that did not fit, and which one would."""
        try:
            need = work_bytes(self.model, n)
        except Exception:
            # A layer from outside that can't be tried on its own hides nothing of what happened.
            return f"a step on a batch of {n:,} rows does not fit in memory ({error})"
        held = self.model.workspace.nbytes
        free = self.model.backend.free_bytes()
        fits = max(1, min(n - 1, n * (free + held) // max(1, need)))
        return (
            f"a step on a batch of {n:,} rows does not fit in memory ({error}): its work arrays "
            f"take {need:,} bytes, and {free:,} are free beside the {held:,} they have. Batches of "
            f"{fits:,} fit: batch_size={fits}, with accumulate={-(-n // fits)} for the same update"
        )

    def _hold(self, value: Any, weight: float) -> str | None:
        """Add a batch to those of the next update."""
        reason = self._guard.check_part(value)
        if reason is None:
            counted = self._guard.counted
            g = self.model.flat_grads
            self._window.add(counted(g), counted(value), counted(weight))
            self._window.held += 1
        return reason

    def _close_window(self, before: Accumulation) -> tuple[Any, str | None]:
        """Make the update of the batches that came, if any of their rows counts.

        Where a GPU masks it, the window is as it was `before`.
        """
        if self._window.empty:
            self._window.clear()
            return None, None
        loss, reason = self._apply(self._window.write(self.model.flat_grads))
        if reason is None:
            self._window.clear(self._guard.left, before)
        return loss, reason

    def _apply(self, loss: Any) -> tuple[Any, str | None]:
        """Make an update from the mean gradient, which the penalty and the limits change first."""
        self.penalty.add_gradient(self.model)
        self.clipping.clip(self.model.flat_grads)
        reason = self._guard.update(loss)
        self.updates += reason is None
        return loss, reason

    def _refuse(self, reason: str) -> None:
        raise DivergenceError(
            f"{reason} at epoch {self.epoch + 1}, update {self.updates + 1}: the parameters are "
            "the last good ones, from before this update. Lower the learning rate (now "
            f"{self.updater.learning_rate:g}), or scale the columns of x, and y"
            + (", or use from_logits=True" if self.objective.loss.takes_probabilities else "")
        )

    # Epochs ----------------------------------------------------------------------------------

    def fit(
        self,
        data: Any = None,
        y: Any = None,
        *,
        epochs: int = 1,
        until_epoch: int | None = None,
        batch_size: int | None = 100,
        shuffle: bool = True,
        sample_weight: Any = None,
        class_weight: ClassWeight | None = None,
        validation_data: Any = None,
        callbacks: Iterable[Callback] = (),
        per_example: bool = False,
        progress: bool = False,
        receipt: bool = False,
    ) -> History:
        """Train for some epochs more.

        Parameters
        ----------
        data : Batches, source or array-like of shape (rows, n_in), optional
            None to go on with the batches of the last `fit`, or of `resume`.
        y : array-like, optional
            Targets, where `data` is an array.
        epochs : int, default 1
            How many more, whatever was done before.
        until_epoch : int, optional
            Instead of `epochs`: go on until ``trainer.epoch`` is this, and do nothing if it is
            already. For a script that is started again after it was killed.
        batch_size, shuffle, sample_weight, class_weight
            For arrays and sources, as in `minigd.Batches`; a Batches brings its own. The order is
            decided by the model's seed.
        validation_data : (X, y), (X, y, weight), Batches or source, optional
            Evaluated after each epoch.
        callbacks : iterable of callable
            Each is called with an `Event` after every update, every epoch, and so on, in their
            order, but one with ``last = True`` behind the others. The state of those that have one
            is saved with the run, and found again by name.
        per_example : bool, default False
            Tell callbacks the norm of each row's own gradient, as ``event.norms``.
        progress : bool, default False
            A bar in a terminal and in a notebook, a few lines elsewhere, on stderr.
        receipt : bool, default False
            End with a line on stderr that says where the time went: `minigd.execution.profiler`.

        Returns
        -------
        History
            Of all epochs of this trainer.

        Raises
        ------
        ShapeError, DataError
            If the data do not fit the model, the loss or each other, or the model's dtype can't
            tell the targets of arrays from each other; nothing was trained.
        DivergenceError
            If the loss or a gradient is no longer finite; it names the epoch and the update, and
            the parameters are the last good ones.
        KeyboardInterrupt
            At Ctrl-C, between two updates, after the event ``"done"``; another `fit` goes on.
        """
        batches = self._choose(data, y, batch_size, shuffle, sample_weight, class_weight)
        validation = None if validation_data is None else _validation(validation_data)
        self._check(batches)
        source = batches.source
        # A model that has learned from other rows may well see a piece of which all are alike.
        if self.model.loss is None and isinstance(source, ArraySource):
            weight = batches.weight(slice(0, source.rows)) if batches.weighted else None
            check_rounding(source.x, source.y, self.model.dtype, counting_rows(weight))
        elif self.model.loss is None and str(self.model.dtype) in source.target_problems:
            raise DataError(source.target_problems[str(self.model.dtype)])
        if validation is not None:
            self._check(validation, source.names)
        self._follow()
        self._settle()
        self._go_on_with(batches)
        self._mark()
        self.model.names = source.names or self.model.names
        if until_epoch is None:
            last = self.epoch + check_integer("epochs", epochs, 0)
        else:
            last = max(self.epoch, check_integer("until_epoch", until_epoch, 0))
        self.until_epoch = until_epoch
        self._stopping = False
        self._receipt = Receipt() if receipt else None
        self._ask(per_example)
        self._callbacks = _named(callbacks)
        self._choose_executor(batches)
        shown = (
            self._progress(batches, last - self.epoch) if progress and last > self.epoch else None
        )
        resident = batches.on(self.model.backend)
        if validation is not None:
            validation = validation.on(self.model.backend)
        try:
            self._load_callbacks()
            self._tell(Event("start", self))
            with Interrupt() as interrupt:
                try:
                    while self.epoch < last and not self._stopping:
                        self._run_epoch(batches, resident, validation, shown, interrupt)
                except KeyboardInterrupt:
                    # Whoever pressed Ctrl-C has had enough, and uses the model as it is left.
                    interrupt.busy = True
                    self._finish("done")
                    raise
        finally:
            self._ask(False)
            if shown is not None:
                shown.close()
        compiled = told() if progress else None
        if compiled is not None:
            say(compiled)
        self._finish("end", "done")
        if self._receipt is not None:
            say(self._receipt.line(self.model.dtype))
        return self.history

    def _choose_executor(self, batches: Batches) -> None:
        """Take Numba if epochs are long enough; a run that goes on has chosen already."""
        if self.fast is not None or self.compiled or self.updates or not available():
            return
        if batches.source.rows is not None:
            # A call costs what some ten thousand numbers do.
            work = len(batches) * (len(self.model.flat_params) + 10_000)
            if work >= WORTH_COMPILING:
                self._use(compiled=True)

    def _finish(self, *names: str) -> None:
        loss = self.history["loss"][-1] if self.history else None
        for name in names:
            self._tell(Event(name, self, loss))

    def _tell(self, event: Event) -> None:
        for callback in self._callbacks.values():
            callback(event)

    def _load_callbacks(self) -> None:
        """Give callbacks of a run that goes on the states they were saved with, by name."""
        states, self._states = self._states, {}
        for name, values in states.items():
            callback = self._callbacks.get(name)
            if isinstance(callback, Stateful):
                callback.load_state_dict(values)
            else:
                warn(
                    f"the run that goes on had a callback {name!r}, which has a state and is not "
                    "among the callbacks of this fit: it is left out",
                    stacklevel=3,
                )

    def _progress(self, batches: Batches, epochs: int) -> Progress:
        known = batches.source.rows is not None
        updates = -(-len(batches) // self.accumulate) if known else 0
        return Progress(
            epochs,
            updates=epochs * updates - self._batch // self.accumulate if known else None,
            left_out=batches.dropped if known else 0,
            before=0 if self.until_epoch is None else self.epoch,
        )

    def stop(self) -> None:
        """End `fit` after this update; a later `fit` goes on from here. For callbacks."""
        self._stopping = True

    def _choose(
        self,
        data: Any,
        y: Any,
        batch_size: int | None,
        shuffle: bool,
        sample_weight: Any,
        class_weight: ClassWeight | None,
    ) -> Batches:
        if data is None:
            if self._batches is None:
                raise DataError("there is nothing to train on: give fit arrays, or a Batches")
            data = self._batches
        seed = self.model.seed
        return as_batches(data, y, batch_size, shuffle, seed, sample_weight, class_weight)

    def _go_on_with(self, batches: Batches) -> None:
        """Take these batches; an epoch that was left in the middle needs the same ones."""
        if batches is not self._batches:
            if self._resumed is not None:
                runs.compare(self._resumed, batches.state_dict())
            elif self._batch and (
                self._batches is None or batches.state_dict() != self._batches.state_dict()
            ):
                self._start_epoch()
                self._window.clear()
        self._batches, self._resumed = batches, None

    def _check(self, batches: Batches, names: list[Any] | None = None) -> None:
        """Check arrays in memory once and whole; rows from elsewhere are checked as they come.

        Names of columns are to be those of the training, or of the rows that it begins with.
        """
        source = batches.source
        check_source(source, names or self.model.names)
        if isinstance(source, ArraySource):
            if source.y is None or not batches.weighted:
                self._check_rows(source.x, source.y)
            else:
                weight, y = drop_zero_weights(batches.weight(slice(0, source.rows)), source.y)
                # Of x only the shape is looked at: its numbers were checked by the source.
                self._check_rows(source.x[: len(weight)], y)

    def _check_rows(self, x: Array, y: Array | None) -> None:
        self.objective.check(x, y)
        for metric in self.metrics.values():
            metric.check(y, (x.shape[0], self.model.n_out))

    def _start_epoch(self) -> None:
        self._batch, self._seconds = 0, 0.0
        self._totals = Totals(self.metrics)

    def _run_epoch(
        self,
        batches: Batches,
        resident: Batches,
        validation: Batches | None,
        shown: Progress | None,
        interrupt: Interrupt,
    ) -> None:
        known = batches.source.rows is not None
        self.updater.epoch = self.epoch
        self._steps.refresh()
        if self._gathered is not None:
            self._gathered.lent = threading.get_ident()
        epoch = resident.epoch(self.epoch, self._batch, self._gathered)
        # Closed at once when an error or an interrupt ends the loop, so that no thread reads on.
        with contextlib.closing(epoch):
            started = time.perf_counter()
            for batch in epoch:
                rows = self._bring(batch, batches.source.checked)
                if self._receipt is not None:
                    arrived = time.perf_counter()
                    self._looked = self._receipt if self._receipt.due() else None
                interrupt.busy = True
                event = self._train(rows, batch.rows)
                self._batch += 1
                interrupt.done()
                now = time.perf_counter()
                self._seconds += now - started
                if self._receipt is not None:
                    self._receipt.add(arrived - started, now - arrived, self._looked is not None)
                    self._looked = None
                self._tell(event)
                if self._callbacks:
                    self._steps.refresh()
                made = event.loss if event.name == "update" else None
                if shown is not None and shown.update(made, len(batch.x)):
                    self._settle()
                if self._stopping and not (known and self._batch == len(batches)):
                    return
                started = now if not self._callbacks else time.perf_counter()
        if self._window.held:
            self._settle()
            self._end_window(shown, interrupt)
        self._end_epoch(validation, shown)

    def _train(self, batch: _Rows | None, rows: Rows) -> Event:
        """Train on one batch, count what it came to, and return what callbacks are told."""
        if batch is None:
            loss = None
            if self.accumulate > 1:
                before = self._window.copy()
                self._window.held += 1
                if self._window.held == self.accumulate:
                    loss = self._finish_window(before)
            self._guard.skip_batch()
            return Event("batch" if loss is None else "update", self, loss, rows=rows)
        with np.errstate(all="ignore"):
            value, z, loss = self._update(batch)
            try:
                measured = {k: self._guard.counted(v) for k, v in self._measure(z, batch).items()}
            except BaseException:
                # The update is made, and the batch is not counted anywhere.
                self._guard.end_batch(batches=0)
                raise
            self._guard.end_batch(batch.total)
            loss_sum = self._guard.weighed(value, batch.total)
            self._totals.add({"loss": loss_sum, **measured}, batch.total)
        name = "batch" if loss is None else "update"
        loss = value if loss is None else loss
        norms = None if self._norms is None else self._norms.copy()
        return Event(name, self, loss, batch.x, batch.y, batch.rows, norms)

    def _end_window(self, shown: Progress | None, interrupt: Interrupt) -> None:
        """Make the last update of an epoch whose batches do not fill it."""
        interrupt.busy = True
        held = self._window.held
        loss = self._finish_window(self._window.copy())
        interrupt.done()
        self._settle(held)
        if loss is not None:
            self._tell(Event("update", self, loss))
            if shown is not None:
                shown.update(loss)

    def _finish_window(self, before: Accumulation) -> Any:
        """Make the update of a window behind its last batch, and return its loss, or None."""
        with np.errstate(all="ignore"):
            loss, reason = self._close_window(before)
        if reason is not None:
            self._window = before
            self._refuse(reason)
        return loss

    def _end_epoch(self, validation: Batches | None, shown: Progress | None) -> None:
        self._settle()
        means = self._totals.means(self.model.backend)
        if not means:
            size = None if self._batches is None else self._batches.batch_size
            raise DataError(
                f"the rows do not fill one batch of {size}, and tail='drop' leaves none: use "
                "tail='keep' or a smaller batch_size"
            )
        measured = {} if validation is None else self.evaluate(validation)
        values = {
            **means,
            **{f"val_{name}": value for name, value in measured.items()},
            "seconds": self._seconds,
            "updates": float(self.updates),
        }
        self.epoch += 1
        self.updater.epoch = self.epoch
        self._start_epoch()
        self.history.append(values)
        if shown is not None:
            shown.epoch(values)
        self._tell(Event("epoch", self, values["loss"]))

    def _bring(self, batch: Batch, checked: bool) -> _Rows | None:
        """Bring the rows that count to the model's backend and dtype; None if none does."""
        backend = self.model.backend
        x, y, weight, rows = batch.x, batch.y, batch.weight, batch.rows
        if weight is not None:
            assert y is not None
            weight, x, y, rows = drop_zero_weights(weight, x, y, rows)
            if not len(weight):
                return None
        if not checked:
            backend_of(x).check_finite(x, "x", rows)
            self._check_rows(x, y)
        if self._staging is not None:
            # Fewer bytes to bring over, and a number too large for the dtype is found on the host.
            if not backend.holds(x) and x.dtype.itemsize > self.model.dtype.itemsize:
                x = backend_of(x).convert(x, self.model.dtype, "x", rows)
            x, y = self._staging("x", x), self._staging("y", y)
        x = self.model.convert(x, "x", rows)
        return self._weigh(x, backend.here(y, "y"), rows, weight)

    def _measure(self, z: Array, batch: _Rows) -> dict[str, Any]:
        """Return what a batch's metrics come to, by its weight."""
        measured = {}
        if self.metrics:
            prediction = self.objective.predictions(z)
            # A column beside a row would be compared each with each.
            y = batch.y.reshape(-1, 1) if prediction.shape[1] == 1 else batch.y
            for name, metric in self.metrics.items():
                seen = self.objective.scores(z) if metric.ranks else prediction
                measured[name] = metric.total(seen, y, batch.weight)
        return measured

    def _settle(self, held: int | None = None) -> None:
        """On a GPU, learn whether an update was masked; on the CPU that is known at once."""
        self._take_back(self._guard.settle(), held)

    def _take_back(self, masked: Masked | None, held: int | None = None) -> None:
        if masked is not None:
            self.updates -= masked.updates
            self._batch = max(0, self._batch - masked.batches)
            self._totals.weight -= masked.weight
            parts = self._window.held - masked.parts if held is None else held
            self._window.held = parts % self.accumulate
            self._window.empty = float(self._window.weight) == 0
            self._refuse(self._find_fault() or "the loss, a gradient or an update is not finite")

    def _find_fault(self) -> str | None:
        """Go through a masked batch again, and say what was not finite in it."""
        if self._batches is None:
            return None
        with contextlib.closing(self._batches.epoch(self.epoch, self._batch)) as epoch:
            batch = next(epoch, None)
        rows = None if batch is None else self._bring(batch, self._batches.source.checked)
        if rows is None:
            return None
        self._guard.remember()
        with np.errstate(all="ignore"):
            value, _ = self.objective.forward(rows.x, rows.y, rows.scale)
            self.objective.backward()
        self._guard.restore()
        if not np.isfinite(float(value)):
            return f"the loss is {float(value)}" + self._where(rows.x)
        bad = first_nonfinite_gradient(self.model)
        return None if bad is None else f"the gradient of {bad} is not finite"

    def _where(self, x: Array) -> str:
        """Say in which layer of a batch with a bad loss numbers stopped being finite."""
        with np.errstate(all="ignore"):
            name = self.objective.first_nonfinite(x)
        return "" if name is None else f", and the output of {name} is the first not finite"

    def evaluate(
        self, data: Any, y: Any = None, batch_size: int = 1024, sample_weight: Any = None
    ) -> dict[str, float]:
        """Return the loss and the metrics over all rows, in order, without an update.

        Parameters
        ----------
        data : array-like, Batches or source
        y : array-like, optional
        batch_size : int, default 1024
            For arrays and sources.
        sample_weight : array-like, shape (rows,), optional
            For arrays and sources.

        Returns
        -------
        dict of str to float
            Over all rows, each by its weight.

        Raises
        ------
        ShapeError, DataError
            If the data do not fit the model, the loss or each other.
        """
        batches = as_batches(data, y, batch_size, sample_weight=sample_weight)
        self._check(batches)
        totals = Totals(self.metrics)
        with np.errstate(all="ignore"):
            for batch in batches.in_order():
                rows = self._bring(batch, batches.source.checked)
                if rows is not None:
                    value, z = self.objective.evaluate(rows.x, rows.y, rows.scale)
                    loss_sum = self.model.backend.wide(value) * rows.total
                    totals.add({"loss": loss_sum, **self._measure(z, rows)}, rows.total)
        return totals.means(self.model.backend)

    # A run in a file -------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all that decides the next update to one ``.npz`` file, whole or not at all.

        `resume` goes on from it, also in the middle of an epoch, or of the batches of one update;
        `minigd.load` reads the model from it.

        Raises
        ------
        TypeError
            If an argument of a layer, a loss or an updater can't be written.
        OSError
            If the file can't be written; one that was there stays as it was.
        """
        runs.write(path, self)

    def state_dict(self) -> dict[str, Any]:
        """Return all that decides the next update, as arrays on the host and plain values.

        Parameters and buffers, the updater's moments and counts, how far the run and the epoch
        have come, the epoch's sums so far, a gradient that is not complete, the states of
        callbacks, the history, and a print of the data.
        """
        self._settle()
        backend = self.model.backend
        updater = self.updater.state_dict()
        callbacks = {
            name: callback.state_dict()
            for name, callback in self._callbacks.items()
            if isinstance(callback, Stateful)
        }
        return {
            "model": self.model.arrays(),
            "passes": self.model.passes,
            "compiled": self.compiled,
            "updater": {
                n: backend_of(v).to_numpy(v) if n in self.updater.state else v
                for n, v in updater.items()
            },
            "updates": self.updates,
            "epoch": self.epoch,
            "batch": self._batch,
            "seconds": self._seconds,
            "totals": self._totals.state_dict(backend),
            "window": self._window.state_dict(backend),
            "callbacks": {**self._states, **callbacks},
            "history": self.history.state_dict(),
            "batches": None if self._batches is None else self._batches.state_dict(),
        }

    def load_state_dict(self, values: Mapping[str, Any]) -> None:
        """Take the state that `state_dict` gave, and go on from there with the same batches.

        Raises
        ------
        CheckpointError
            If the state is not that of this model and updater, or is damaged.
        """
        model = self.model
        try:
            model.load_arrays(values["model"])
            model.passes = int(values["passes"])
            self.updater.load_state_dict(values["updater"], model)
            self.updates, self.epoch = int(values["updates"]), int(values["epoch"])
            self._start_epoch()
            self._batch, self._seconds = int(values["batch"]), float(values["seconds"])
            self._totals.load_state_dict(values["totals"], model.backend)
            self._window.load_state_dict(values["window"], model.flat_grads, model.backend)
            self._states = dict(values["callbacks"])
            self.history = History(values["history"])
            self._resumed = values["batches"]
            compiled = bool(values["compiled"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, CheckpointError):
                raise
            raise CheckpointError(f"the state of the run is damaged: {error}") from error
        self._batches = None
        self._guard = self.updater.owner = make_guard(model, self.updater)
        if compiled and not available():
            warn(
                "the run used the extra fast, which is not installed here: it goes on, and its "
                "last digits may differ (`pip install 'minigd[fast]'`)",
                stacklevel=2,
            )
        self._use(compiled and available())
        self._mark()

    @classmethod
    def resume(
        cls,
        path: str | os.PathLike[str],
        batches: Batches | None = None,
        *,
        custom: Iterable[type] = (),
        backend: str | Backend = "numpy",
    ) -> "Trainer":
        """Return the trainer that `save` wrote, ready to go on with the next batch.

        On the same machine, with the same versions, threads and extras, and the same batches, it
        comes to the same bits as a run that was never interrupted.

        Parameters
        ----------
        path : str or path-like
        batches : Batches, optional
            Over the same data, cut in the same way; ``fit()`` goes on with them.
        custom : iterable of class
            Layers, losses, metrics, updaters and schedules from outside the package.
        backend : {"numpy", "cupy"} or Backend, default "numpy"

        Raises
        ------
        CheckpointError
            If the file is damaged or holds no run, or the batches are not those of the run.

        Examples
        --------
        >>> import tempfile, numpy as np, minigd as gd
        >>> X = np.linspace(-1, 1, 230).reshape(-1, 1)
        >>> batches = gd.Batches(X, 3 * X + 1, batch_size=50, shuffle=True)
        >>> trainer = gd.Trainer(gd.Sequential([gd.Dense(1)], inputs=1), "mse", "adam")
        >>> history = trainer.fit(batches, epochs=2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     trainer.save(f"{folder}/run.npz")
        ...     again = gd.Trainer.resume(f"{folder}/run.npz", batches)
        >>> history = trainer.fit(epochs=1), again.fit(until_epoch=3)
        >>> bool((trainer.model.flat_params == again.model.flat_params).all())
        True
        """
        model, updater, options, values = runs.read(path, batches, custom, backend)
        assert model.loss is not None
        if options["fast"] and not available():
            options["fast"] = None
        trainer = cls(model, model.loss, updater, model.metrics, **options)
        trainer.load_state_dict(values)
        trainer._batches = batches
        return trainer

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError(
            "a Trainer can't be copied or pickled: save(path), and Trainer.resume(path, batches)"
        )

    def __repr__(self) -> str:
        return (
            f"Trainer({self.objective.loss!r}, {self.updater!r}, epoch={self.epoch}, "
            f"updates={self.updates})"
        )


def _named(callbacks: Iterable[Callback]) -> dict[str, Any]:
    """Return callbacks by name: the class or function's, and a number where it comes again."""
    if callable(callbacks):
        raise TypeError("callbacks is a list, [callback], and not one callback")
    named: dict[str, Any] = {}
    for callback in callbacks:
        if not callable(callback):
            raise TypeError(f"a callback is called with each event, and {callback!r} can't be")
        if isinstance(callback, type):
            raise TypeError(
                f"{callback.__name__} is a class, which each event would make anew: write it with "
                "parentheses"
            )
        kind = getattr(callback, "__name__", type(callback).__name__)
        number = sum(name.partition(" ")[0] == kind for name in named) + 1
        named[kind if number == 1 else f"{kind} {number}"] = callback
    # Behind all others comes what saves their states.
    return dict(sorted(named.items(), key=lambda item: getattr(item[1], "last", False)))


def _validation(data: Any) -> Batches:
    if isinstance(data, tuple | list):
        if len(data) not in (2, 3):
            raise ValueError(f"validation_data is (X, y) or (X, y, weight), not {len(data)} things")
        weight = data[2] if len(data) == 3 else None
        return as_batches(data[0], data[1], 1024, sample_weight=weight)
    return as_batches(data, None, 1024)
