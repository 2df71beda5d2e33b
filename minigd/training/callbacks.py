"""Callbacks: code that runs at the events of training.

A callback is anything that can be called with an `Event`. A callback that decides something also
has `state_dict` and `load_state_dict`. Then a resumed run makes the same decisions.
"""

import contextlib
import csv
import math
import os
import time
import weakref
from typing import Any, Literal

import numpy as np

from minigd.errors import check_flag, check_integer, check_number, check_path, validated
from minigd.nn.parameters import check_arrays
from minigd.nn.sequential import Sequential
from minigd.progress import log, warn
from minigd.storage import npz
from minigd.storage.atomic_files import replacing_text, sweep
from minigd.training.events import Event, Run

Mode = Literal["auto", "min", "max"]


class _Monitoring:
    """The best value of a column of the history, and the number of epochs since then."""

    @validated
    def __init__(self, monitor: str, patience: int, min_delta: float, mode: Mode) -> None:
        self.monitor = monitor
        self.patience = check_integer("patience", patience)
        self.min_delta = check_number("min_delta", min_delta)
        self.mode = mode
        self._sign = 1.0
        self._trainer: weakref.ref[Run] | None = None
        self.clear()

    def clear(self) -> None:
        """Forget what was seen."""
        self.best, self.waited = math.inf, 0

    def follow(self, event: Event) -> None:
        """Start again if the trainer is not the last one."""
        trainer = event.trainer
        if self._trainer is not None and trainer is not self._trainer():
            self.clear()
        self._trainer = weakref.ref(trainer)
        metric = trainer.metrics.get(self.monitor.removeprefix("val_"))
        more = getattr(metric, "more_is_better", False)
        self._sign = -1.0 if self.mode == "max" or (self.mode == "auto" and more) else 1.0

    def improved(self, event: Event) -> bool:
        """Compare the finished epoch with the best. NaN is never an improvement."""
        history = event.trainer.history
        if self.monitor not in history:
            raise ValueError(
                f"{type(self).__name__} watches {self.monitor!r}, but the history has only "
                f"{', '.join(history)}: pass validation_data or the metric to fit, or choose "
                "another monitor"
            )
        value = self._sign * history[self.monitor][-1]
        if value < self.best - (self.min_delta if math.isfinite(self.best) else 0.0):
            self.best, self.waited = value, 0
            return True
        self.waited += 1
        return False

    def load_state_dict(self, values: dict[str, Any]) -> None:
        """Take what `state_dict` gave."""
        best, self._trainer = values["best"], None
        self.best = best if best == math.inf else check_number("best", best, -math.inf)
        self.waited = check_integer("waited", values["waited"], 0)


class EarlyStopping(_Monitoring):
    """Stops when a column of the history has not improved for some epochs.

    When `fit` ends, also by Ctrl-C, the parameters and buffers of the best epoch are restored. A
    later `fit` continues from the last ones, and a file of `Checkpoint` contains the last ones. A
    file of `Trainer.save` contains both, and continues from the last ones if `fit` gets this
    callback again. After a stop, ``fit(until_epoch=...)`` does not continue, and
    ``fit(epochs=...)`` continues with new patience.

    Parameters
    ----------
    monitor : str, default "val_loss"
        A column of the history.
    patience : int, default 10
        How many epochs without a better value are waited for.
    min_delta : float, default 0.0
        How much better a value must be.
    mode : {"auto", "min", "max"}, default "auto"
        Whether less or more is better. By default, it depends on the metric, and less is better for
        a loss.
    restore_best : bool, default True
        Whether to restore the best parameters.

    Examples
    --------
    >>> import numpy as np, minigd as gd
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.normal(size=(60, 20)), rng.normal(size=60)
    >>> model = gd.Sequential([gd.Dense(30), gd.Tanh(), gd.Dense(1)], inputs=20)
    >>> history = model.fit(X[:40], y[:40], loss="mse", validation_data=(X[40:], y[40:]),
    ...                     epochs=500, callbacks=[gd.EarlyStopping(patience=5)])
    >>> history.epochs                                      # of 500
    57
    >>> round(model.evaluate(X[40:], y[40:])["loss"], 3), round(min(history["val_loss"]), 3)
    (1.531, 1.531)

    Source: Prechelt (1998), "Early stopping, but when?", class UP, section 2.2.
    """

    events = frozenset({"start", "epoch", "done"})

    @validated
    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int = 10,
        min_delta: float = 0.0,
        mode: Mode = "auto",
        restore_best: bool = True,
    ) -> None:
        super().__init__(monitor, patience, min_delta, mode)
        self.restore_best = bool(restore_best)

    def clear(self) -> None:
        """Forget what was seen."""
        super().clear()
        self.stopped = False
        self._arrays: dict[str, Any] = {}
        self._last: dict[str, Any] = {}

    def __call__(self, event: Event) -> None:
        """Check each epoch, and restore the best parameters at the end."""
        trainer = event.trainer
        if event.name == "start":
            self.follow(event)
            self._restore_last(trainer.model)
            if self.stopped and trainer.until_epoch is not None:
                trainer.stop()
            elif self.stopped:
                self.stopped, self.waited = False, 0
        elif event.name == "epoch":
            if self.improved(event):
                self._arrays = trainer.model.arrays() if self.restore_best else {}
            elif self.waited >= self.patience:
                self.stopped = True
                trainer.stop()
        elif event.name == "done" and self._arrays:
            self._last = trainer.model.arrays()
            trainer.model.load_arrays(self._arrays)

    def _restore_last(self, model: Sequential) -> None:
        """Restore the last parameters if the model still has the best ones of the previous `fit`.

        So a run in two parts equals a run in one part.
        """
        for arrays in filter(None, (self._arrays, self._last)):
            check_arrays(model.all_layers, arrays)  # a checkpoint may be damaged
        now, last = model.arrays(), self._last
        if last and all(np.array_equal(now[name], self._arrays[name]) for name in now):
            model.load_arrays(last)
        self._last = {}

    def state_dict(self) -> dict[str, Any]:
        """Return the best value, the epochs waited, and the best parameters."""
        return {
            "best": self.best,
            "waited": self.waited,
            "stopped": self.stopped,
            "arrays": dict(self._arrays),
            "last": dict(self._last),
        }

    def load_state_dict(self, values: dict[str, Any]) -> None:
        """Take what `state_dict` gave."""
        super().load_state_dict(values)
        self.stopped = check_flag("stopped", values["stopped"])
        self._arrays, self._last = dict(values["arrays"]), dict(values["last"])


class ReduceOnPlateau(_Monitoring):
    """Lowers the learning rate when a column of the history has not improved for some epochs.

    It multiplies the updater's `scale`, so it also works with a schedule.

    Parameters
    ----------
    monitor : str, default "val_loss"
        A column of the history.
    factor : float, default 0.1
        The factor for the rate, in (0, 1).
    patience : int, default 5
        How many epochs without a better value are waited for, each time.
    min_delta : float, default 0.0
        How much better a value must be.
    mode : {"auto", "min", "max"}, default "auto"
        As in `EarlyStopping`.
    min_scale : float, default 0.0
        The smallest product of all factors.

    Examples
    --------
    >>> import numpy as np, minigd as gd
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.normal(size=(60, 20)), rng.normal(size=60)
    >>> model = gd.Sequential([gd.Dense(1)], inputs=20)
    >>> updater = gd.SGD(0.1)
    >>> history = model.fit(X, y, loss="mse", updater=updater, epochs=30,
    ...                     callbacks=[gd.ReduceOnPlateau("loss", factor=0.5, min_delta=0.01)])
    >>> updater.learning_rate
    0.05
    """

    events = frozenset({"start", "epoch"})

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 5,
        min_delta: float = 0.0,
        mode: Mode = "auto",
        min_scale: float = 0.0,
    ) -> None:
        super().__init__(monitor, patience, min_delta, mode)
        self.factor = check_number("factor", factor, 0.0, 1.0)
        if self.factor == 0:
            raise ValueError("factor must be above 0: with 0 the training would stop")
        self.min_scale = check_number("min_scale", min_scale)

    def __call__(self, event: Event) -> None:
        """Check each epoch."""
        if event.name == "start":
            self.follow(event)
        elif event.name == "epoch" and not self.improved(event) and self.waited >= self.patience:
            updater = event.trainer.updater
            updater.scale = min(updater.scale, max(updater.scale * self.factor, self.min_scale))
            self.waited = 0

    def state_dict(self) -> dict[str, Any]:
        """Return the best value and the epochs waited."""
        return {"best": self.best, "waited": self.waited}


class Checkpoint:
    """Saves the run at intervals, and when training ends, always to the same file.

    Training also ends at Ctrl-C, SIGTERM (``docker stop``, the time limit of a cluster) and SIGHUP
    (a closed terminal).

    The file is replaced in one step. So after a kill at any moment, the last complete file is
    there, and `minigd.Trainer.resume` continues from it. The next `fit` removes an incomplete file.
    Two runs at the same time need two paths. If the file can't be written, because the disk is full
    or the folder is read-only, the old file stays, the run continues, and a warning is given.

    Parameters
    ----------
    path : str or path-like
    every_updates, every_seconds, every_epochs : int or float, optional
        When to save. If several are given, the first one that is due counts. By default, after each
        epoch. This callback is always called last, so the file contains the decisions of the
        others.

    Attributes
    ----------
    saved_updates : int or None
        The number of updates at the last save.

    Examples
    --------
    >>> import os, tempfile, numpy as np, minigd as gd
    >>> X = np.linspace(-1, 1, 230).reshape(-1, 1)
    >>> batches = gd.Batches(X, 3 * X + 1, batch_size=50, shuffle=True)
    >>> def train(path, until_epoch):
    ...     if os.path.exists(path):
    ...         trainer = gd.Trainer.resume(path, batches)
    ...     else:
    ...         trainer = gd.Trainer(gd.Sequential([gd.Dense(1)], inputs=1), "mse", "adam")
    ...     trainer.fit(batches, until_epoch=until_epoch, callbacks=[gd.Checkpoint(path)])
    ...     return trainer
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     first = train(f"{folder}/run.npz", until_epoch=3)
    ...     second = train(f"{folder}/run.npz", until_epoch=5)
    >>> second.epoch, second.updates
    (5, 25)
    """

    last = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        every_updates: int | None = None,
        every_seconds: float | None = None,
        every_epochs: int | None = None,
    ) -> None:
        self.path = npz.model_path(path)
        if every_updates is None and every_seconds is None and every_epochs is None:
            every_epochs = 1
        self.every_updates = every_updates
        self.every_seconds = every_seconds
        self.every_epochs = every_epochs
        if every_updates is not None:
            check_integer("every_updates", every_updates)
        if every_seconds is not None:
            check_number("every_seconds", every_seconds)
        if every_epochs is not None:
            check_integer("every_epochs", every_epochs)
        self.saved_updates: int | None = None
        self._saved_at = time.perf_counter()

    only_saves = True
    """It reads the model only through `Trainer.save`, which checks that everything is finite."""

    @property
    def events(self) -> frozenset[str]:
        """The events that it wants: those of epochs, unless updates or seconds also count."""
        names = {"start", "epoch", "end", "interrupt"}
        if self.every_updates is not None or self.every_seconds is not None:
            names |= {"update", "batch"}
        return frozenset(names)

    def __call__(self, event: Event) -> None:
        """Save if it is due."""
        if event.name == "start":
            self._saved_at = event.trainer.communicator.clock()
            if not event.trainer.communicator.rank:
                sweep(self.path)
        elif event.name in ("end", "interrupt") or self._due(event):
            self.save(event)

    def _due(self, event: Event) -> bool:
        trainer = event.trainer
        if event.name == "epoch":
            due = bool(self.every_epochs) and trainer.epoch % (self.every_epochs or 1) == 0
        else:
            due = event.name == "update" and bool(self.every_updates)
            due = due and trainer.updates % (self.every_updates or 1) == 0
        seconds = trainer.communicator.clock() - self._saved_at
        late = self.every_seconds is not None and seconds >= self.every_seconds
        return due or (late and event.name in ("update", "batch", "epoch"))

    def save(self, event: Event) -> None:
        """Save now, and warn if the file can't be written."""
        try:
            event.trainer.save(self.path)
            self.saved_updates = event.trainer.updates
        except OSError as error:
            _warn(self.path, error, event)
        self._saved_at = event.trainer.communicator.clock()


class CsvLog:
    """Writes a line of the history to a CSV file after each epoch.

    A run that is resumed from a checkpoint drops the lines of epochs that it repeats.

    Parameters
    ----------
    path : str or path-like

    Examples
    --------
    >>> import tempfile, numpy as np, minigd as gd
    >>> X = np.linspace(-1, 1, 230).reshape(-1, 1)
    >>> model = gd.Sequential([gd.Dense(1)], inputs=1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = f"{folder}/log.csv"
    ...     history = model.fit(X, X, loss="mse", epochs=2, callbacks=[gd.CsvLog(path)])
    ...     with open(path) as file:
    ...         lines = file.read().splitlines()
    >>> lines[0], len(lines)
    ('epoch,loss,seconds,updates', 3)
    """

    events = frozenset({"start", "epoch"})

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = check_path("path", path)
        self._whole = True  # whether the file has a line for each epoch so far

    def __call__(self, event: Event) -> None:
        """Write the history: all of it at the start, then a line per epoch."""
        if event.name not in ("start", "epoch") or event.trainer.communicator.rank:
            return
        history = event.trainer.history
        try:
            if event.name == "start":
                sweep(self.path)
            if event.name == "epoch" and self._whole and self._columns() == ["epoch", *history]:
                self._append(self._line(event, history.epochs - 1))
            elif history.epochs:
                self._rewrite(event)
            elif os.path.exists(self.path):
                os.truncate(self.path, 0)
            self._whole = True
        except OSError as error:
            self._whole = False
            _warn(self.path, error, event)

    def _columns(self) -> list[str]:
        if not os.path.isfile(self.path):
            return []
        with (
            contextlib.suppress(ValueError, csv.Error),  # another program has written to it
            open(self.path, newline="", encoding="utf-8") as file,
        ):
            return next(csv.reader(file), [])
        return []

    def _line(self, event: Event, epoch: int) -> list[Any]:
        return [epoch + 1, *(column[epoch] for column in event.trainer.history.values())]

    def _append(self, line: list[Any]) -> None:
        size = os.path.getsize(self.path)
        try:
            with open(self.path, "a", newline="", encoding="utf-8") as file:
                csv.writer(file).writerow(line)
        except OSError:
            # On a full disk, half of the line may be missing.
            os.truncate(self.path, size)
            raise

    def _rewrite(self, event: Event) -> None:
        """Write all lines to a new file, and replace the old one."""
        with replacing_text(self.path) as file:
            writer = csv.writer(file)
            writer.writerow(["epoch", *event.trainer.history])
            writer.writerows(self._line(event, e) for e in range(event.trainer.history.epochs))


class PrintEvery:
    """Prints the loss of the batch and the learning rate after every few updates, on stderr.

    Reading the loss makes the host wait for a GPU each time.

    Parameters
    ----------
    updates : int
        The number of updates between two lines.

    Examples
    --------
    >>> import contextlib, sys, numpy as np, minigd as gd
    >>> model = gd.Sequential([gd.Dense(1, "ones")], inputs=1)
    >>> with contextlib.redirect_stderr(sys.stdout):
    ...     history = model.fit(np.ones((200, 1)), np.zeros(200), loss="mse", batch_size=50,
    ...                         updater=gd.SGD(0.25), callbacks=[gd.PrintEvery(2)])
    epoch 1  update 2  loss 0  learning rate 0.25
    epoch 1  update 4  loss 0  learning rate 0.25
    """

    def __init__(self, updates: int) -> None:
        self.updates = check_integer("updates", updates)

    def __call__(self, event: Event) -> None:
        """Print if it is due."""
        trainer = event.trainer
        if event.name == "update" and trainer.updates % self.updates == 0:
            log(
                f"epoch {trainer.epoch + 1}  update {trainer.updates}  loss "
                f"{float(event.loss):.4g}  learning rate {trainer.updater.learning_rate:.4g}"
            )


def _warn(path: str | os.PathLike[str], error: OSError, event: Event) -> None:
    kept = "the old file is unchanged" if os.path.exists(path) else "there is no such file"
    goes_on = "" if event.name == "interrupt" else ", and training continues"
    warn(
        f"{os.fspath(path)!r} could not be written ({error.strerror or error}): {kept}{goes_on}",
        RuntimeWarning,
        stacklevel=4,
    )
