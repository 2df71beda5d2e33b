"""The loop: forward, loss, backward, update, for each batch of each epoch.

The trainer holds everything that decides the next update, so that a saved run goes on as if it had
never stopped.
"""

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from minigd import state
from minigd.backend import Array, Backend, Workspace, backend_of
from minigd.batches import Batch, Batches, as_batches
from minigd.errors import CheckpointError, DataError, DivergenceError, ShapeError, check_integer
from minigd.files import restore
from minigd.guard import make_guard
from minigd.history import History
from minigd.interrupt import Interrupt
from minigd.losses import Loss
from minigd.metrics import Metric, get_metrics
from minigd.model import Sequential
from minigd.objective import Objective
from minigd.progress import Progress
from minigd.sources import ArraySource, Rows
from minigd.updaters import UPDATERS, Updater, get_updater


class Event(NamedTuple):
    """What a callback is told.

    Attributes
    ----------
    name : {"update", "epoch", "end"}
        What has just been done.
    trainer : Trainer
    loss : scalar
        The batch's mean loss before its update (a scalar of the backend), or the epoch's.
    x, y : Array or None
        The batch of an update, in memory that the next batch overwrites.
    """

    name: str
    trainer: "Trainer"
    loss: Any
    x: Array | None = None
    y: Array | None = None


Callback = Callable[[Event], object]


class Trainer:
    """Trains a model: one update a batch.

    Parameters
    ----------
    model : Sequential
    loss : str or Loss
        Paired with a final Sigmoid or Softmax; see `minigd.Objective`.
    updater : str or Updater
        Its state starts afresh.
    metrics : iterable of str or Metric
        Measured over the rows of each epoch.
    reuse_buffers : bool, default True
        Write the outputs and gradients of every step into the same memory. The numbers are the
        same either way.

    Attributes
    ----------
    updates : int
        Updates made.
    epoch : int
        Epochs completed.
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
        metrics: Iterable[str | Metric] | Mapping[str, Metric] = (),
        reuse_buffers: bool = True,
    ) -> None:
        self.model = model
        self.objective = Objective(model, loss)
        self.updater = get_updater(updater)
        self.updater.reset()
        self.metrics = get_metrics(metrics)
        self.reuse_buffers = reuse_buffers
        self.updates = 0
        self.epoch = 0
        self.history = History()
        self._batches: Batches | None = None
        self._resumed: state.Description | None = None  # the batches of a run that goes on
        self._start_epoch()
        self._gathered = Workspace(model.backend) if reuse_buffers else None
        self._guard = make_guard(model, self.updater)
        self._stopping = False
        self.updater.owner = self._guard
        if model.dtype.kind == "c":
            raise ValueError("a model of complex numbers is for checks, and can't be trained")

    # One update ------------------------------------------------------------------------------

    def step(self, x: Any, y: Any) -> Any:
        """Make one update from one batch.

        Parameters
        ----------
        x : array-like, shape (n, n_in)
        y : array-like, shape (n,) or (n, K)
            Both on the model's backend.

        Returns
        -------
        scalar
            The mean loss of the batch before the update, on the model's backend.

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
        backend = self.model.backend
        x, y = backend.here(x, "x"), backend.here(y, "y")
        if backend.reads_are_free:
            backend.check_finite(x, "x")
        x = self.model.convert(x)
        self.objective.check(x, y, values=backend.reads_are_free)
        self._mark()
        with np.errstate(all="ignore"):
            value, _ = self._update(x, y, slice(0, len(x)))
        return value

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
        if self._guard.backend is not self.model.backend:
            self._guard = self.updater.owner = make_guard(self.model, self.updater)

    def _update(self, x: Array, y: Array, rows: Rows) -> tuple[Any, Array]:
        workspace = self.model.workspace
        workspace.lent = threading.get_ident() if self.reuse_buffers else None
        try:
            value, z = self.objective.forward(x, y)
            reason = self._guard.check_loss(value)
            if reason is None:
                self.objective.backward()
                reason = self._guard.update(value)
        finally:
            workspace.lent = None
        if reason is not None:
            # A row may have changed since the data were checked.
            self.model.backend.check_finite(x, "x", rows)
            self.model.backend.check_finite(y, "y", rows)
            self._refuse(reason)
        self.updates += 1
        return value, z

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
        validation_data: Any = None,
        callbacks: Iterable[Callback] = (),
        progress: bool = False,
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
        batch_size, shuffle
            For arrays and sources; a Batches brings its own. The order is decided by the model's
            seed.
        validation_data : (X, y), Batches or source, optional
            Evaluated after each epoch.
        callbacks : iterable of callable
            Each is called with an `Event` after every update, every epoch, and at the end.
        progress : bool, default False
            A bar in a terminal, a few lines elsewhere, on stderr.

        Returns
        -------
        History
            Of all epochs of this trainer.

        Raises
        ------
        ShapeError, DataError
            If the data do not fit the model, the loss or each other; nothing was trained.
        DivergenceError
            If the loss or a gradient is no longer finite; it names the epoch and the update, and
            the parameters are the last good ones.
        """
        batches = self._choose(data, y, batch_size, shuffle)
        validation = None if validation_data is None else _validation(validation_data)
        self._check(batches)
        if validation is not None:
            self._check(validation)
        self._go_on_with(batches)
        self._mark()
        if until_epoch is None:
            last = self.epoch + check_integer("epochs", epochs, 0)
        else:
            last = max(self.epoch, check_integer("until_epoch", until_epoch, 0))
        callbacks = _check_callbacks(callbacks)
        shown = (
            self._progress(batches, last - self.epoch) if progress and last > self.epoch else None
        )
        self._stopping = False
        self._follow()
        self._settle()
        try:
            with Interrupt() as interrupt:
                while self.epoch < last and not self._stopping:
                    self._run_epoch(batches, validation, callbacks, shown, interrupt)
        finally:
            if shown is not None:
                shown.close()
        for callback in callbacks:
            callback(Event("end", self, self.history["loss"][-1] if self.history else None))
        return self.history

    def _progress(self, batches: Batches, epochs: int) -> Progress:
        known = batches.source.rows is not None
        return Progress(
            epochs,
            updates=epochs * len(batches) - self._batch if known else None,
            left_out=batches.dropped if known else 0,
        )

    def stop(self) -> None:
        """End `fit` after this update; a later `fit` goes on from here. For callbacks."""
        self._stopping = True

    def _choose(self, data: Any, y: Any, batch_size: int | None, shuffle: bool) -> Batches:
        if data is None:
            if self._batches is None:
                raise DataError("there is nothing to train on: give fit arrays, or a Batches")
            return self._batches
        return as_batches(data, y, batch_size, shuffle, self.model.seed)

    def _go_on_with(self, batches: Batches) -> None:
        """Take these batches; an epoch that was left in the middle needs the same ones."""
        if self._batch and batches is not self._batches:
            if self._resumed is not None:
                _compare(self._resumed, batches.state_dict())
            elif self._batches is None or batches.state_dict() != self._batches.state_dict():
                self._start_epoch()
        self._batches, self._resumed = batches, None

    def _check(self, batches: Batches) -> None:
        """Check arrays in memory once and whole; rows from elsewhere are checked as they come."""
        if isinstance(batches.source, ArraySource):
            self._check_rows(batches.source.x, batches.source.y)

    def _check_rows(self, x: Array, y: Array | None) -> None:
        self.objective.check(x, y)
        for metric in self.metrics.values():
            metric.check(y, (x.shape[0], self.model.n_out))

    def _start_epoch(self) -> None:
        self._batch, self._rows, self._seconds = 0, 0, 0.0
        self._sums: dict[str, Any] = dict.fromkeys(["loss", *self.metrics], 0.0)

    def _run_epoch(
        self,
        batches: Batches,
        validation: Batches | None,
        callbacks: list[Callback],
        shown: Progress | None,
        interrupt: Interrupt,
    ) -> None:
        known = batches.source.rows is not None
        if self._gathered is not None:
            self._gathered.lent = threading.get_ident()
        epoch = batches.epoch(self.epoch, self._batch, self._gathered)
        # Closed at once when an error or an interrupt ends the loop, so that no thread reads on.
        with contextlib.closing(epoch):
            started = time.perf_counter()
            for batch in epoch:
                x, y = self._bring(batch, batches.source.checked)
                interrupt.busy = True
                with np.errstate(all="ignore"):
                    value, z = self._update(x, y, batch.rows)
                    for name, total in self._measure(value, z, y).items():
                        self._sums[name] += self._guard.counted(total)
                self._rows += len(x)
                self._batch += 1
                interrupt.done()
                now = time.perf_counter()
                self._seconds += now - started
                for callback in callbacks:
                    callback(Event("update", self, value, x, y))
                if shown is not None and shown.update(value):
                    self._settle()
                if self._stopping and not (known and self._batch == len(batches)):
                    return
                started = now if not callbacks else time.perf_counter()
        self._end_epoch(validation, callbacks, shown)

    def _end_epoch(
        self, validation: Batches | None, callbacks: list[Callback], shown: Progress | None
    ) -> None:
        self._settle()
        if self._rows == 0:
            size = None if self._batches is None else self._batches.batch_size
            raise DataError(
                f"the rows do not fill one batch of {size}, and tail='drop' leaves none: use "
                "tail='keep' or a smaller batch_size"
            )
        means = {name: float(total) / self._rows for name, total in self._sums.items()}
        measured = {} if validation is None else self.evaluate(validation)
        values = {
            **means,
            **{f"val_{name}": value for name, value in measured.items()},
            "seconds": self._seconds,
            "updates": float(self.updates),
        }
        self.epoch += 1
        self._start_epoch()
        self.history.append(values)
        if shown is not None:
            shown.epoch(values)
        for callback in callbacks:
            callback(Event("epoch", self, values["loss"]))

    def _bring(self, batch: Batch, checked: bool) -> tuple[Array, Array]:
        """Bring a batch of the source to the model's backend and dtype."""
        backend = self.model.backend
        if not checked:
            backend_of(batch.x).check_finite(batch.x, "x", batch.rows)
            self._check_rows(batch.x, batch.y)
        x = batch.x
        if not backend.reads_are_free and not backend.holds(x):
            x = backend_of(x).convert(x, self.model.dtype, "x", batch.rows)
        x = self.model.convert(backend.feed(x), "x", batch.rows)
        return x, backend.here(backend.feed(batch.y), "y")

    def _measure(self, value: Any, z: Array, y: Array) -> dict[str, Any]:
        """Return a batch's loss and metrics, each times its rows."""
        wide = self.model.backend.wide
        measured = {"loss": wide(value) * len(z)}
        if self.metrics:
            prediction = self.objective.predictions(z)
            # A column beside a row would be compared each with each.
            column = y.reshape(-1, 1) if prediction.shape[1] == 1 else y
            for name, metric in self.metrics.items():
                each = metric.per_example(prediction, column)
                if getattr(each, "shape", None) != (len(z),):
                    raise ShapeError(
                        f"{type(metric).__name__}.per_example must return a number for each row, "
                        f"shape ({len(z)},), and returned {getattr(each, 'shape', each)}"
                    )
                measured[name] = wide(each.sum())
        return measured

    def _settle(self) -> None:
        """On a GPU, learn whether an update was masked; on the CPU that is known at once."""
        trouble = self._guard.settle()
        if trouble is not None:
            reason, masked = trouble
            self.updates -= masked
            self._batch = max(0, self._batch - masked)
            # All but the last batch of an epoch are whole, and the last ones are those masked.
            size = self._batches.batch_size if self._batches is not None else None
            self._rows = self._batch * (size or 0)
            self._refuse(reason)

    def evaluate(self, data: Any, y: Any = None, batch_size: int = 1024) -> dict[str, float]:
        """Return the loss and the metrics over all rows, in order, without an update.

        Parameters
        ----------
        data : array-like, Batches or source
        y : array-like, optional
        batch_size : int, default 1024
            For arrays and sources.

        Returns
        -------
        dict of str to float
            Means over the rows.

        Raises
        ------
        ShapeError, DataError
            If the data do not fit the model, the loss or each other.
        """
        batches = as_batches(data, y, batch_size)
        self._check(batches)
        sums: dict[str, Any] = {}
        rows = 0
        with np.errstate(all="ignore"):
            for batch in batches.in_order():
                x, targets = self._bring(batch, batches.source.checked)
                value, z = self.objective.evaluate(x, targets)
                for name, total in self._measure(value, z, targets).items():
                    sums[name] = sums.get(name, 0.0) + total
                rows += len(x)
        return {name: float(total) / rows for name, total in sums.items()}

    # A run in a file -------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all that decides the next update to one ``.npz`` file, whole or not at all.

        `resume` goes on from it, also in the middle of an epoch; `minigd.load` reads the model
        from it.
        """
        values = self.state_dict()
        arrays, updater, batches = (values.pop(name) for name in ("model", "updater", "batches"))
        vectors = {name: updater.pop(name) for name in self.updater.state}
        description = {
            **self.model.describe(),
            "kind": "run",
            "loss": state.describe(self.objective.given),
            "metrics": {name: state.describe(metric) for name, metric in self.metrics.items()},
            "updater": state.describe(self.updater),
            "updater_state": updater,
            "trainer": values,
            "batches": batches,
            "reuse_buffers": self.reuse_buffers,
        }
        named = {f"updater/{name}": vector for name, vector in vectors.items()}
        state.write(path, description, {**arrays, **named})

    def state_dict(self) -> dict[str, Any]:
        """Return all that decides the next update, as arrays on the host and plain values.

        Parameters and buffers, the updater's moments and step, how far the run and the epoch have
        come, the epoch's sums so far, the history, and a print of the data.
        """
        self._settle()
        to_numpy = self.model.backend.to_numpy
        updater = self.updater.state_dict()
        return {
            "model": self.model.arrays(),
            "updater": {
                n: to_numpy(v) if n in self.updater.state else v for n, v in updater.items()
            },
            "updates": self.updates,
            "epoch": self.epoch,
            "batch": self._batch,
            "rows": self._rows,
            "seconds": self._seconds,
            "sums": {name: float(total) for name, total in self._sums.items()},
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
        try:
            self.model.load_arrays(values["model"])
            self.updater.load_state_dict(values["updater"], self.model)
            self.updates, self.epoch = int(values["updates"]), int(values["epoch"])
            self._batch, self._rows = int(values["batch"]), int(values["rows"])
            self._seconds, self._sums = float(values["seconds"]), dict(values["sums"])
            self.history = History(values["history"])
            self._resumed = values["batches"]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, CheckpointError):
                raise
            raise CheckpointError(f"the state of the run is damaged: {error}") from error
        self._batches = None
        self._guard = self.updater.owner = make_guard(self.model, self.updater)
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

        Parameters
        ----------
        path : str or path-like
        batches : Batches, optional
            Over the same data, cut in the same way; ``fit()`` goes on with them.
        custom : iterable of class
            Layers, losses, metrics and updaters from outside the package.
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
        description, arrays = state.read(path)
        if description.get("kind") != "run":
            raise CheckpointError(
                f"{os.fspath(path)!r} holds a model and no run: read it with minigd.load"
            )
        if batches is not None and not isinstance(batches, Batches):
            raise TypeError(f"resume takes a Batches, not {type(batches).__name__}")
        if batches is not None and description.get("batches") is not None:
            _compare(description["batches"], batches.state_dict())
        custom = list(custom)
        model = restore(description, arrays, custom, backend)
        known: dict[str, type] = {c.__name__: c for c in [*UPDATERS.values(), *custom]}
        parts = {"updater", "updater_state", "trainer", "batches", "reuse_buffers"}
        if model.loss is None or not parts <= description.keys():
            raise CheckpointError(f"{os.fspath(path)!r} does not hold all of a run: it is damaged")
        updater = state.rebuild(description["updater"], known)
        trainer = cls(
            model, model.loss, updater, model.metrics, reuse_buffers=description["reuse_buffers"]
        )
        vectors = {
            name.removeprefix("updater/"): array
            for name, array in arrays.items()
            if name.startswith("updater/")
        }
        values = {
            "model": model.arrays(),
            "updater": {**description["updater_state"], **vectors},
            "batches": description["batches"],
        }
        trainer.load_state_dict({**values, **description["trainer"]})
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


def _check_callbacks(callbacks: Iterable[Callback]) -> list[Callback]:
    if callable(callbacks):
        raise TypeError("callbacks is a list, [callback], and not one callback")
    chosen = list(callbacks)
    for callback in chosen:
        if not callable(callback):
            raise TypeError(f"a callback is called with each event, and {callback!r} can't be")
    return chosen


def _validation(data: Any) -> Batches:
    if isinstance(data, tuple | list):
        if len(data) != 2:
            raise ValueError(f"validation_data is (X, y), not {len(data)} things")
        return as_batches(data[0], data[1], 1024)
    return as_batches(data, None, 1024)


def _compare(saved: state.Description, given: state.Description) -> None:
    # Through JSON, as the saved one went, so that tuples and lists compare alike.
    for name, value in json.loads(json.dumps(given)).items():
        # A stream that nobody had counted when it was saved may have been counted since.
        counted = name == "rows" and None in (value, saved.get(name))
        if saved.get(name) != value and not counted:
            change = f"{name} was {saved.get(name)} and is {value}"
            raise CheckpointError(
                "the batches are not those of the run that goes on: "
                + ("the data are others" if name == "data" else change)
            )
