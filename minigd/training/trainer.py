"""The trainer: the settings of a run, and the methods that train, evaluate and save it.

A trainer has everything that determines the next update. So a resumed run continues as if it had
never stopped. One epoch is in `loop.py`, one update in `transaction.py`, and the four lines of a
step in `minigd.execution.plain`.
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
"""The number of values that the updates of an epoch process, above which compiling pays: each value
takes some 5 ns less, and compiling takes some 3 s once. It depends on one epoch, so the bits are
the same if epochs are split among calls of `fit`."""

TARGET = "program"
"""The entry for compiled steps in a checkpoint, which identifies the order of their sums. In older
files, before steps were compiled as a whole, it is True."""


class Trainer:
    """Trains a model: one update per batch, or per window of batches.

    Parameters
    ----------
    model : Sequential
    loss : str or Loss
        Paired with a final Sigmoid or Softmax. See `minigd.Objective`.
    updater : str or Updater
        Its state is reset.
    metrics : iterable of str or Metric, or dict of them by name
        Measured over the rows of each epoch. The keys of a dict are the names in the history.
    accumulate : int, default 1
        The number of batches per update, which uses the mean gradient of all their rows. At the end
        of an epoch there may be fewer. Memory is needed for one batch.
    l1, l2 : float, default 0.0
        A penalty ``λ₁ Σ |W| + ½ λ₂ Σ W²`` on the weights, in the gradient. See
        `minigd.optim.gradient_transforms.Penalty`.
    decay_bias : bool, default False
        Also penalize biases, scales and shifts.
    clip_value, clip_norm : float, optional
        Limits on each entry of the gradient, and on the norm of the whole, including penalties.
    clip_rows : float, optional
        A limit on the norm of each row's own gradient, before the mean is taken.
    reuse_buffers : bool, default True
        Write the outputs and gradients of every step into the same memory, and run a traced step as
        calls of NumPy (`minigd.execution.targets.numpy`), or on a GPU as kernels
        (`minigd.execution.targets.cuda`). The results are the same, on the CPU bit for bit, on a
        GPU up to rounding.
    fast : bool, optional
        Whether Numba (the extra `fast`) compiles the steps, and whole epochs of rows in memory.
        Only on the CPU. By default it does if it is installed and compiling, some three seconds,
        costs less than one epoch gains.
    optimizer : str or Updater, optional
        Another name for `updater`.
    comm : mpi4py.MPI.Intracomm, optional
        The processes that train together, each on a part of the rows of every batch:
        ``MPI.COMM_WORLD`` with ``mpiexec``. All of them make the same calls, and get the same
        model.

    Attributes
    ----------
    communicator : Communicator
        The processes of the run. ``communicator.rank`` is the number of this one, from 0.
    until_epoch : int or None
        The target of ``fit(until_epoch=...)`` while it runs. None for ``fit(epochs=...)``.
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
    _states: dict[str, Any]  # of callbacks that were not passed again

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
        """The penalty that is added to the gradient."""
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
        """The settings of the constructor except model, loss, updater and metrics."""
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
            How much each row counts. Rows of weight 0 are left out.
        per_example : bool, default False
            Also return the norm of each row's own gradient:
            `minigd.execution.per_example.backward`.

        Returns
        -------
        scalar, or (scalar, Array of shape (n,))
            The mean loss of the batch before the update, on the model's backend, and with
            `per_example` the norms, 0 for a row of weight 0.

        Raises
        ------
        ShapeError, DataError, BackendError
            If the batch does not fit.
        DivergenceError
            If the loss or a gradient is not finite. The parameters are those before the update.
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
        """Let the next steps compute the norms of rows, or only if a limit needs them."""
        wanted = per_example or self.row_clipping.limit is not None
        self._loop.by_row = self.row_clipping if wanted else None

    def _name_objective(self) -> None:
        """Set the loss and metrics of the model, for `evaluate` and saved files."""
        self.model.loss, self.model.metrics = self.objective.given, dict(self.metrics)

    def _follow_model(self) -> None:
        """Follow the model if it was moved to another backend since the last update."""
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
        """Train for more epochs.

        During `fit`, BLAS has one thread if matrix products are small. See
        `minigd.execution.threads`.

        Parameters
        ----------
        data : Batches, source or array-like of shape (rows, n_in), optional
            None to continue with the batches of the last `fit`, or of `resume`.
        y : array-like, optional
            Targets, if `data` is an array.
        epochs : int, default 1
            The number of additional epochs.
        until_epoch : int, optional
            Instead of `epochs`: train until ``trainer.epoch`` has this value. If it already has, do
            nothing. For a script that is started again after a kill.
        batch_size, shuffle, sample_weight, class_weight
            For arrays and sources, as in `minigd.Batches`. A Batches has its own. The model's seed
            determines the order.
        validation_data : (X, y), (X, y, weight), Batches or source, optional
            Evaluated after each epoch.
        time_limit : float, optional
            Seconds after which to stop, at the end of the step. A line on stderr reports it, and a
            `Checkpoint` among the callbacks saves the run. Another `fit` continues from there.
        callbacks : iterable of callable
            Each is called with an `Event` after every update, every epoch, and so on, in their
            order. One with ``last = True`` is called after the others. The states of callbacks are
            saved with the run, and restored by name.
        per_example : bool, default False
            Give callbacks the norm of each row's own gradient, as ``event.norms``.
        progress : bool, default False
            A bar in a terminal and in a notebook, a few lines elsewhere, on stderr.
        profile : bool, default False
            At the end, print a line on stderr that says where the time went, and the number of BLAS
            threads. See `minigd.execution.profiler`.
        plain : bool, default False
            Run each step through the layers' own methods, so that a ``print`` or a breakpoint in
            ``Dense.backward`` works. See `minigd.execution.plain`.
        receipt : bool, optional
            The old name of `profile`.

        Returns
        -------
        History
            Of all epochs of this trainer.

        Raises
        ------
        ShapeError, DataError
            If the data do not fit the model, the loss or each other, or the targets of arrays are
            equal in the model's dtype. Nothing was trained.
        DivergenceError
            If the loss or a gradient is not finite. It names the epoch and the update, and the last
            finite parameters are restored.
        KeyboardInterrupt
            At Ctrl-C, between two updates, after the event ``"done"``. Another `fit` continues.
        SystemExit
            At SIGTERM or SIGHUP, in the same way. A `Checkpoint` among the callbacks has saved the
            run.
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
        """Use these batches. An epoch that was interrupted needs the same ones."""
        self._follow_model()
        loop = self._loop
        if batches is not loop.batches and (loop.batch or self._resumed is not None):
            self._compare(batches)
        loop.batches, self._resumed = batches, None
        self._name_objective()
        self.model.names = batches.source.names or self.model.names
        self.model.schema = batches.source.schema or self.model.schema

    def _compare(self, batches: Batches) -> None:
        """Refuse batches other than those of a resumed run; otherwise start the epoch again."""
        loop, given = self._loop, batches.state_dict()
        if self._resumed is not None:
            checkpoints.compare(self._resumed, given)
        elif loop.batches is None or given != loop.batches.state_dict():
            loop.start_epoch()
            self._transaction.window.clear()

    def _last_epoch(self, epochs: int, until_epoch: int | None) -> int:
        """Return the epoch after which `fit` ends."""
        last = self.epoch + check_integer("epochs", epochs, 0)
        if until_epoch is not None:
            last = max(self.epoch, check_integer("until_epoch", until_epoch, 0))
        self.until_epoch, self._loop.stopping = until_epoch, False
        return last

    def _load_callbacks(self) -> None:
        """Restore the saved states of callbacks in a resumed run."""
        states, self._states = self._states, {}
        load_callback_states(self._callbacks, states)

    def _choose_executor(self, batches: Batches) -> None:
        """Use Numba if epochs are long enough. A resumed run has already chosen."""
        chosen = self.fast is not None or self.compiled or self.updates
        if not chosen and available() and batches.source.rows is not None:
            # A step takes as long as some ten thousand values.
            work = len(batches) * (len(self.model.flat_params) + 10_000)
            if work >= WORTH_COMPILING:
                self._set_compiled(compiled=True)

    def _forget_data(self) -> None:
        """Release the batches and the callbacks of the last `fit`."""
        self._loop.batches, self._callbacks = None, {}

    def stop(self) -> None:
        """End `fit` after this update. A later `fit` continues from here. For callbacks."""
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
            Weighted means over all rows.

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
        """Write everything that determines the next update to one ``.npz`` file.

        The file is written completely or not at all. `resume` continues from it, also in the middle
        of an epoch or a window of accumulation. `minigd.load` reads the model from it.

        Raises
        ------
        ValueError
            If the path ends like a file of another format, such as ``.pt``.
        TypeError
            If an argument of a layer, a loss or an updater can't be written.
        OSError
            If the file can't be written. An existing file stays unchanged.
        """
        with self._one_thread:
            checkpoints.write(path, self)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that determines the next update, as host arrays and plain values.

        Parameters and buffers, the updater's moments and counts, the position in the run and the
        epoch, the epoch's sums so far, the gradient accumulated so far, the states of callbacks,
        the history, and a fingerprint of the data.
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
        """Restore a state from `state_dict`, and continue from there with the same batches.

        Raises
        ------
        CheckpointError
            If the state does not belong to this model and updater, or is damaged.
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
        """Return the saved trainer, ready for the next batch.

        On the same machine, with the same versions, extras and batches, the result is bit-identical
        to a run that was never interrupted. BLAS gets the same number of threads as before, or a
        warning is given if it has fewer.

        Parameters
        ----------
        path : str or path-like
        batches : Batches, optional
            Over the same data, cut in the same way. ``fit()`` continues with them.
        custom : iterable of class
            Custom layers, losses, metrics, updaters and schedules.
        backend : {"numpy", "cupy"} or Backend, default "numpy"
        comm : mpi4py.MPI.Intracomm, optional
            The processes that continue together. Their number may differ from before. See
            `Trainer`.

        Raises
        ------
        CheckpointError
            If the file is damaged or contains no run, or the batches are not those of the run.

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
    """Return the loop for several processes instead of this one."""
    from minigd.training.processes import shared

    return shared(communicator, loop)


def _norms_of_all(
    norms: Array, rows: Rows, n: int, model: Sequential, communicator: Communicator
) -> Array:
    """Return the norms of all n rows, from all processes. Rows of weight 0 have 0."""
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
    """Warn if a resumed run continues with other steps than before."""
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
