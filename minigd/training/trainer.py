"""The trainer: the settings of a run, and the methods that train, evaluate and save it.

It holds everything that decides the next update. A resumed run continues as if it had never
stopped. One epoch is in `loop.py`, one update in `transaction.py`, and the four lines of a step in
`minigd.execution.plain`.
"""

import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from minigd.backends.base import Backend, backend_of
from minigd.backends.on_demand import missing
from minigd.data.batches import Batches, as_batches
from minigd.data.row_weights import (
    ClassWeight,
)
from minigd.data.sources.base import Rows
from minigd.distributed.communicator import ALONE, Communicator
from minigd.distributed.mpi import connect
from minigd.errors import (
    BackendError,
    DataError,
    check_integer,
    check_path,
    given_once,
    renamed,
    validated,
)
from minigd.execution.per_example import RowClipping
from minigd.execution.targets.compiler import absent, available
from minigd.execution.threads import Threads
from minigd.nn.losses import LossLike
from minigd.nn.metrics import MetricLike, get_metrics
from minigd.nn.objective import Objective
from minigd.nn.sequential import Sequential
from minigd.optim.gradient_transforms import Clipping, Penalty
from minigd.optim.schedules import Schedule
from minigd.optim.updaters import Updater, get_updater
from minigd.progress import warn
from minigd.storage.damage import damaged, of_file
from minigd.training import checkpoints
from minigd.training.evaluation import evaluate, validation_batches
from minigd.training.events import (
    Callback,
    callback_states,
    load_callback_states,
    name_callbacks,
)
from minigd.training.history import History, check_columns
from minigd.training.interrupts import OneThread
from minigd.training.loop import Loop
from minigd.training.session import open_session
from minigd.training.transaction import Transaction
from minigd.types import Array

WORTH_COMPILING = 600_000_000
"""Numbers that the updates of an epoch go through, above which compiling is worth its time: each
takes some 5 ns less, and compiling takes some 3 s once. It depends on the epoch, so the bits are
the same however epochs are split among calls of `fit`."""

TARGET = "program"
"""What a checkpoint says of compiled steps, by which the order of their sums is known. Files from
before a step was compiled as a whole say True."""


class Trainer:
    """Trains a model: one update per batch, or per few batches.

    Parameters
    ----------
    model : Sequential
    loss : str or Loss
        Paired with a final Sigmoid or Softmax; see `minigd.Objective`.
    updater : str or Updater
        Its state is reset.
    metrics : iterable of str or Metric, or dict of them by name
        Measured over the rows of each epoch; a dict's keys are their names in the history.
    accumulate : int, default 1
        How many batches make one update, with the gradient of all their rows as one batch; fewer
        at the end of an epoch. Memory is held for one of them.
    l1, l2 : float, default 0.0
        A penalty ``λ₁ Σ |W| + ½ λ₂ Σ W²`` on the weights, in the gradient; see
        `minigd.optim.gradient_transforms.Penalty`.
    decay_bias : bool, default False
        Penalize biases, scales and shifts too.
    clip_value, clip_norm : float, optional
        Limits on each entry of the gradient, and on the length of the whole; penalties included.
    clip_rows : float, optional
        A limit on the norm of each row's own gradient, before their mean is taken.
    reuse_buffers : bool, default True
        Write the outputs and gradients of every step into the same memory, and run a traced step
        as calls of NumPy (`minigd.execution.targets.numpy`), or on a GPU as kernels
        (`minigd.execution.targets.cuda`). The numbers are the same either way, on the CPU to the
        bit, on a GPU to rounding.
    fast : bool, optional
        Whether Numba compiles the steps, and whole epochs of rows in memory, which is the extra
        `fast`; on the CPU alone. By default it does if it is installed and compiling, some three
        seconds, costs less than one epoch gains.
    optimizer : str or Updater, optional
        Another name for `updater`.
    comm : mpi4py.MPI.Intracomm, optional
        The processes that train together, each on a part of the rows of every batch:
        ``MPI.COMM_WORLD`` under ``mpiexec``. All of them make the same calls, and get the same
        model.

    Attributes
    ----------
    communicator : Communicator
        The processes of the run; ``communicator.rank`` is the number of this one, from 0.
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
    >>> trainer.updates, trainer.epoch, round(history["loss"][-1], 6)
    (100, 20, 0.0)
    """

    until_epoch: int | None = None
    _resumed: dict[str, Any] | None = None  # the batches of a resumed run
    _callbacks: dict[str, Any]
    _states: dict[str, Any]  # of callbacks that have not been given again

    @validated
    def __init__(
        self,
        model: Sequential,
        loss: LossLike,
        updater: str | Updater | None = None,
        metrics: Iterable[MetricLike] | Mapping[str, MetricLike] | None = (),
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
        optimizer: str | Updater | None = None,
        comm: Any = None,
    ) -> None:
        if model.dtype.kind == "c":
            raise ValueError("a complex model is only for checks and can't be trained")
        updater = given_once("updater", updater, "optimizer", optimizer)
        if updater is None:
            raise TypeError("a Trainer needs an updater, such as 'adam' or gd.SGD(0.1)")
        self.model = model
        self.objective, self.metrics = Objective(model, loss), get_metrics(metrics)
        self.accumulate = check_integer("accumulate", accumulate)
        limits = Penalty(l1, l2, decay_bias), Clipping(clip_value, clip_norm)
        self.row_clipping = RowClipping(clip_rows)
        self.reuse_buffers, self.fast = bool(reuse_buffers), fast
        self.updater, self.history = get_updater(updater), History()
        self.updater.reset()
        self._callbacks, self._states = {}, {}
        self._transaction = Transaction(model, self.updater, self.accumulate, *limits)
        self._loop = Loop(self.objective, self.metrics, self._transaction, self.reuse_buffers)
        self._threads, self._one_thread = Threads(), OneThread()
        self.communicator = ALONE if comm is None else connect(comm)
        if self.communicator.size > 1:
            self._loop, self._one_thread = _shared(self.communicator, self._loop)
            self._transaction = self._loop.transaction
        self._limit_rows(False)
        self._set_compiled(compiled=bool(fast))

    @property
    def updates(self) -> int:
        """Updates made."""
        return self._transaction.updates

    @property
    def epoch(self) -> int:
        """Epochs completed."""
        return self._loop.epoch

    @property
    def penalty(self) -> Penalty:
        """What is added to the gradient of the weights."""
        return self._transaction.penalty

    @penalty.setter
    def penalty(self, penalty: Penalty) -> None:
        self._transaction.penalty = penalty
        self._loop.set_compiled(self.compiled)

    @property
    def clipping(self) -> Clipping:
        """The limits on the gradient."""
        return self._transaction.clipping

    @clipping.setter
    def clipping(self, clipping: Clipping) -> None:
        self._transaction.clipping = clipping
        self._loop.set_compiled(self.compiled)

    @property
    def batch(self) -> int:
        """Batches made in the current epoch."""
        return self._loop.batch

    @property
    def batches(self) -> Batches:
        """The batches of the last `fit`."""
        if self._loop.batches is None:
            raise DataError("there is no data to train on: pass arrays or a Batches to fit")
        return self._loop.batches

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

    def _set_compiled(self, compiled: bool) -> None:
        """Let NumPy or Numba run the steps from now on."""
        self._loop.set_compiled(compiled)
        self.compiled = self._loop.steps.by_numba
        if self.compiled and (package := absent()) is not None:
            raise BackendError(missing(package, "fast=True"))

    # One update ------------------------------------------------------------------------------

    @validated
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
            If the loss or a gradient is not finite; the parameters are those before the update.
        """
        with self._one_thread:
            self._follow_model()
            loop = self._loop
            loop.steps.refresh()
            rows = loop.loader.load_arrays(x, y, sample_weight)
            self._name_objective()
            before = loop.by_row
            self._limit_rows(per_example)
            try:
                with np.errstate(all="ignore"):
                    step = loop.make_step(rows)
            finally:
                loop.by_row = before
            if not per_example or step.norms is None:
                return step.value
            norms = _norms_of_all(step.norms, rows.rows, len(y), self.model, self.communicator)
            return step.value, norms

    def _limit_rows(self, per_example: bool) -> None:
        """Let the next steps find the norms of rows, or only if a limit needs them."""
        wanted = per_example or self.row_clipping.limit is not None
        self._loop.by_row = self.row_clipping if wanted else None

    def _name_objective(self) -> None:
        """Give the model its loss and metrics, which `evaluate` and a saved file go by."""
        self.model.loss, self.model.metrics = self.objective.given, dict(self.metrics)

    def _follow_model(self) -> None:
        """Go where the model has gone since the last update, if it was moved."""
        guard = self._transaction.guard
        if self.updater.owner is not guard:
            raise _updater_was_taken(self.updater)
        if guard.workspace is not self.model.workspace:
            self._transaction.follow_model()
            self._set_compiled(self.compiled)

    # Epochs ----------------------------------------------------------------------------------

    @validated
    def fit(
        self,
        data: Any = None,
        y: Any = None,
        *,
        epochs: int = 1,
        until_epoch: int | None = None,
        batch_size: int | Schedule | None = 100,
        shuffle: bool = True,
        sample_weight: Any = None,
        class_weight: ClassWeight | None = None,
        validation_data: Any = None,
        time_limit: float | None = None,
        callbacks: Iterable[Callback] | None = (),
        per_example: bool = False,
        progress: bool = False,
        profile: bool = False,
        plain: bool = False,
        receipt: bool | None = None,
    ) -> History:
        """Train for some epochs more.

        BLAS has one thread meanwhile if matrix products are small, and then what it had before:
        `minigd.execution.threads`.

        Parameters
        ----------
        data : Batches, source or array-like of shape (rows, n_in), optional
            None to continue with the batches of the last `fit`, or of `resume`.
        y : array-like, optional
            Targets, where `data` is an array.
        epochs : int, default 1
            How many more, whatever was done before.
        until_epoch : int, optional
            Instead of `epochs`: train until ``trainer.epoch`` is this, and do nothing if it is
            already. For a script that is started again after it was killed.
        batch_size, shuffle, sample_weight, class_weight
            For arrays and sources, as in `minigd.Batches`; a Batches brings its own. The order is
            decided by the model's seed.
        validation_data : (X, y), (X, y, weight), Batches or source, optional
            Evaluated after each epoch.
        time_limit : float, optional
            Seconds after which to stop, at the end of the step; a line on stderr says so, and a
            `Checkpoint` among the callbacks saves the run. Another `fit` continues from there.
        callbacks : iterable of callable
            Each is called with an `Event` after every update, every epoch, and so on, in their
            order, but one with ``last = True`` after the others. The state of those that have one
            is saved with the run, and found again by name.
        per_example : bool, default False
            Tell callbacks the norm of each row's own gradient, as ``event.norms``.
        progress : bool, default False
            A bar in a terminal and in a notebook, a few lines elsewhere, on stderr.
        profile : bool, default False
            End with a line on stderr that says where the time went, and how many threads BLAS had:
            `minigd.execution.profiler`.
        plain : bool, default False
            Run each step through the layers' own methods: a ``print`` or a breakpoint in
            ``Dense.backward`` is reached in every step: `minigd.execution.plain`.
        receipt : bool, optional
            The old name of `profile`.

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
            the parameters are restored to the last finite ones.
        KeyboardInterrupt
            At Ctrl-C, between two updates, after the event ``"done"``; another `fit` continues.
        SystemExit
            At SIGTERM or SIGHUP, likewise; a `Checkpoint` among the callbacks has saved the run.
        RuntimeError
            If another thread is using this trainer.
        """
        profile = renamed("receipt", receipt, "profile", profile)
        options: Any = {"sample_weight": sample_weight, "class_weight": class_weight}
        options |= {"shuffle": shuffle, "seed": self.model.seed, "schema": self.model.schema}
        batches = as_batches(self.batches if data is None else data, y, batch_size, **options)
        held_out = None if validation_data is None else validation_batches(validation_data, batches)
        with self._one_thread:
            self._loop.loader.check_training(batches, held_out)
            self._continue_with(batches)
            last = self._last_epoch(epochs, until_epoch)
            told = self._callbacks = name_callbacks(callbacks)
            self._limit_rows(per_example)
            self._choose_executor(batches)
            shown = last - self.epoch if progress and not self.communicator.rank else 0
            with self._threads.limited(self.model, batches):
                session = open_session(self, batches, held_out, told, shown, profile, time_limit)
                self._loop.steps.plain = plain
                try:
                    if self._states:
                        self._load_callbacks()
                    self._loop.run(session, last)
                finally:
                    self._loop.steps.plain = False
                    self._limit_rows(False)
                    session.close()
                if progress:
                    session.report_compile_time()
                session.send_last("end", "done")
            if profile:
                session.report_profile(self._threads.count, self._loop.steps.why_not_compiled())
        return self.history

    def _continue_with(self, batches: Batches) -> None:
        """Take these batches; an epoch that was left in the middle needs the same ones."""
        self._follow_model()
        loop = self._loop
        if batches is not loop.batches and (loop.batch or self._resumed is not None):
            self._compare(batches)
        loop.batches, self._resumed = batches, None
        self._name_objective()
        self.model.names = batches.source.names or self.model.names
        self.model.schema = batches.source.schema or self.model.schema

    def _compare(self, batches: Batches) -> None:
        """Refuse others than those of a resumed run; with others, begin the epoch once more."""
        loop, given = self._loop, batches.state_dict()
        if self._resumed is not None:
            checkpoints.compare(self._resumed, given)
        elif loop.batches is None or given != loop.batches.state_dict():
            loop.start_epoch()
            self._transaction.window.clear()

    def _last_epoch(self, epochs: int, until_epoch: int | None) -> int:
        """Return the number of epochs after which `fit` ends."""
        last = self.epoch + check_integer("epochs", epochs, 0)
        if until_epoch is not None:
            last = max(self.epoch, check_integer("until_epoch", until_epoch, 0))
        self.until_epoch, self._loop.stopping = until_epoch, False
        return last

    def _load_callbacks(self) -> None:
        """Give callbacks of a resumed run the states they were saved with."""
        states, self._states = self._states, {}
        load_callback_states(self._callbacks, states)

    def _choose_executor(self, batches: Batches) -> None:
        """Take Numba if epochs are long enough; a resumed run has chosen already."""
        chosen = self.fast is not None or self.compiled or self.updates
        if not chosen and available() and batches.source.rows is not None:
            # A step costs what some ten thousand numbers do.
            work = len(batches) * (len(self.model.flat_params) + 10_000)
            if work >= WORTH_COMPILING:
                self._set_compiled(compiled=True)

    def _forget_data(self) -> None:
        """Let go of the batches and the callbacks of the last `fit`."""
        self._loop.batches, self._callbacks = None, {}

    def stop(self) -> None:
        """End `fit` after this update; a later `fit` continues from here. For callbacks."""
        self._loop.stopping = True

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
        options: Any = {"sample_weight": sample_weight, "schema": self.model.schema or False}
        rows = as_batches(data, y, batch_size, **options)
        self._loop.loader.check_all(rows)
        return evaluate(self._loop.loader, rows)

    # A run in a file -------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all that decides the next update to one ``.npz`` file, whole or not at all.

        `resume` continues from it, also in the middle of an epoch, or of the batches of one update;
        `minigd.load` reads the model from it.

        Raises
        ------
        ValueError
            If the path ends as a file of another format does, ``.pt``.
        TypeError
            If an argument of a layer, a loss or an updater can't be written.
        OSError
            If the file can't be written; one that was there stays as it was.
        """
        with self._one_thread:
            checkpoints.write(path, self)

    def state_dict(self) -> dict[str, Any]:
        """Return all that decides the next update, as arrays on the host and plain values.

        Parameters and buffers, the updater's moments and counts, how far the run and the epoch
        have come, the epoch's sums so far, the gradient accumulated so far, the states of
        callbacks, the history, and a fingerprint of the data.
        """
        loop, backend = self._loop, self.model.backend
        loop.check_unread()
        updater = self.updater.state_dict()
        return {
            "model": self.model.arrays(),
            "passes": self.model.passes,
            "compiled": TARGET if self.compiled else False,
            "threads": self._threads.count,
            "updater": {
                n: backend_of(v).to_numpy(v) if n in self.updater.state else v
                for n, v in updater.items()
            },
            "updates": self.updates,
            "largest": self._transaction.guard.largest,
            **loop.state_dict(),
            "window": self._transaction.window.state_dict(backend),
            "callbacks": {**self._states, **callback_states(self._callbacks)},
            "history": self.history.state_dict(),
            "batches": None if loop.batches is None else loop.batches.state_dict(),
        }

    def load_state_dict(self, values: Mapping[str, Any]) -> None:
        """Take the state that `state_dict` gave, and continue from there with the same batches.

        Raises
        ------
        CheckpointError
            If the state is not that of this model and updater, or is damaged.
        """
        model, loop, transaction = self.model, self._loop, self._transaction
        with damaged("the state of the run is"):
            model.load_arrays(values["model"])
            model.passes = check_integer("passes", values["passes"], 0)
            self.updater.load_state_dict(values["updater"], model)
            transaction.updates = check_integer("updates", values["updates"], 0)
            transaction.renew_guard(values.get("largest"))
            loop.load_state_dict(values)
            transaction.window.load_state_dict(values["window"], model.flat_grads, model.backend)
            self._states = dict(values["callbacks"])
            self.history = History(check_columns(values["history"]))
            self._resumed = None if values["batches"] is None else dict(values["batches"])
            compiled = values["compiled"]
            self._threads.resume(values["threads"])
        loop.batches = None
        _warn_of_other_sums(compiled)
        self._set_compiled(bool(compiled) and available())
        self._name_objective()

    @classmethod
    @validated
    def resume(
        cls,
        path: str | os.PathLike[str],
        batches: Batches | None = None,
        *,
        custom: Iterable[Any] | None = (),
        backend: str | Backend = "numpy",
        comm: Any = None,
    ) -> "Trainer":
        """Return the trainer that `save` wrote, ready for the next batch.

        On the same machine, with the same versions and extras, and the same batches, it gives the
        same bits as a run that was never interrupted. BLAS has as many threads as before, or a
        warning says that there are not as many.

        Parameters
        ----------
        path : str or path-like
        batches : Batches, optional
            Over the same data, cut in the same way; ``fit()`` continues with them.
        custom : iterable of class
            Layers, losses, metrics, updaters and schedules from outside the package.
        backend : {"numpy", "cupy"} or Backend, default "numpy"
        comm : mpi4py.MPI.Intracomm, optional
            The processes that go on together, as many as there are now: `Trainer`.

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
        >>> float(abs(trainer.model.flat_params - again.model.flat_params).max())
        0.0
        """
        model, updater, options, values = checkpoints.read(path, batches, custom, backend)
        assert model.loss is not None
        with of_file(check_path("path", path)):
            trainer = cls(model, model.loss, updater, model.metrics, **options, comm=comm)
            trainer.load_state_dict(values)
        trainer._loop.batches = batches
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


def _shared(communicator: Communicator, loop: Loop) -> tuple[Loop, OneThread]:
    """Return what trains together with other processes in the place of this loop."""
    from minigd.training.processes import shared

    return shared(communicator, loop)


def _norms_of_all(
    norms: Array, rows: Rows, n: int, model: Sequential, communicator: Communicator
) -> Array:
    """Return the norms of these rows, and those of other processes, among those of all n, or 0."""
    if isinstance(rows, slice):
        return norms.copy()
    spread = model.backend.zeros((n,), model.dtype)
    spread[model.backend.asarray(rows)] = norms
    if communicator.size > 1:
        host = model.backend.to_numpy(spread)
        communicator.sum(host)
        spread = model.backend.asarray(host)
    return spread


def _warn_of_other_sums(compiled: Any) -> None:
    """Say where a resumed run goes on in other steps than those it was saved with."""
    if compiled and not available():
        warn(
            "the run used Numba, which is not installed here: it continues without Numba, "
            "and its last digits may differ (`pip install numba scipy`)",
            stacklevel=3,
        )
    elif compiled and compiled != TARGET:
        warn(
            "the run was compiled by another version of minigd, which sums "
            "in another order: the last digits may differ",
            stacklevel=3,
        )


def _updater_was_taken(updater: Updater) -> ValueError:
    return ValueError(
        f"{updater!r} has since been given to another trainer, which reset it: give each "
        "trainer its own updater"
    )
