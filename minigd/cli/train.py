"""`minigd train`: from a table to a model file, in batches, with a part of the rows held out.

Rows stay on the disk. A file without random access, and a CSV of which that saves much, is written
once as `.npy` files beside the model, which are removed after training.
"""

import contextlib
import itertools
import os
import shutil
import signal
import tempfile
import uuid
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from minigd.backends.base import Backend, get_backend
from minigd.cli.messages import counted, number
from minigd.cli.paths import NOT_SAVED, check_output
from minigd.cli.resume import check_checkpoint, resume_run
from minigd.cli.table_files import table_files
from minigd.cli.tables import (
    AS_FOUND,
    USUAL,
    Columns,
    Reading,
    Table,
    Task,
    open_for_training,
)
from minigd.cli.trained import TableModel
from minigd.data.batches import Batches
from minigd.data.sources.base import Source
from minigd.data.sources.cache import is_cache
from minigd.data.sources.csv import CsvSource
from minigd.data.tables.schema import Schema
from minigd.errors import check_integer
from minigd.nn.layers import Dense, Dropout, Layer, ReLU, Rescale, Sigmoid, Softmax, Standardize
from minigd.nn.objective import default_loss
from minigd.nn.sequential import Sequential
from minigd.optim.schedules import CosineDecay
from minigd.optim.updaters import Adam
from minigd.progress import log
from minigd.storage.atomic_files import locked, remove, sweep
from minigd.training.callbacks import Checkpoint, EarlyStopping
from minigd.training.checkpoints import count_updates
from minigd.training.events import Event
from minigd.training.interrupts import Handler, Terminated
from minigd.training.trainer import Trainer

HIDDEN = (100, 100)
DROPOUT = 0.1
METRICS = {"regression": ["r2", "mae", "rmse"], "classification": ["accuracy"]}
EPOCHS, UPDATES, MOST_EPOCHS = 60, 6000, 1000
"""The default of `epochs`: 60, or more for a small table, until there are this many updates."""
PATIENCE = 0.25
"""Training stops after this share of the epochs without a lower validation loss."""
L2 = 0.001
KEPT_FROM, TARGET_BYTES = 4 << 20, 8
"""Rows of a CSV are kept as numbers where they take so many bytes; and those of one target."""
CHECKPOINT_SECONDS = 30
VALIDATION_SHARE = 0.2
ROWS_COMPARED, ALIKE = 10_000, 20
"""A warning is printed if, of so many rows held out, fewer than one in 20 is different."""


def train(
    data: Any,
    target: str,
    out: str | os.PathLike[str] = "model.npz",
    *,
    exclude: Collection[str] = (),
    task: Task | None = None,
    reading: Reading = USUAL,
    columns: Columns = AS_FOUND,
    hidden: Sequence[int] = HIDDEN,
    batch_size: int = 100,
    epochs: int | None = None,
    learning_rate: float = 0.002,
    backend: str | Backend = "numpy",
    seed: int = 0,
    resume: bool = False,
    progress: bool = True,
) -> TableModel:
    """Train a network on a table, and write it to a file.

    A fifth of the rows is held out, by a hash of their content. Training stops when the loss on
    them has not got better for a quarter of the epochs, and the best parameters are kept. Ctrl-C,
    SIGTERM or SIGHUP ends it after the update at hand, and leaves a checkpoint. A model that can't
    be written where it should be is written to the system's temporary folder.

    Parameters
    ----------
    data : path, or a list of them
        A CSV, Parquet or ``.npy`` file, or several; see `minigd.cli.tables.open_table`.
    target : str
        The column to predict.
    out : path, default "model.npz"
    exclude : collection of str
        Columns to leave out.
    task : {"classification", "regression"}, optional
        By default it follows from the target, and is printed.
    reading : Reading, optional
        How the file is written.
    columns : Columns, optional
        What columns become, where it does not follow from what they hold.
    hidden : sequence of int, default (100, 100)
        Widths of the hidden layers; none for a linear model.
    batch_size : int, default 100
    epochs : int, optional
        The most passes over the rows; the learning rate falls to 0 over them. By default 60, and
        for a small table up to 1,000, so that there are 6,000 updates.
    learning_rate : float, default 0.002
        Adam's, at the start.
    backend : {"numpy", "cupy"} or Backend, default "numpy"
    seed : int, default 0
        Decides the part held out, the first weights and the order of the rows.
    resume : bool, default False
        Go on from the checkpoint of a run with the same arguments that was interrupted.
    progress : bool, default True
        Show on stderr how far it has come.

    Returns
    -------
    TableModel

    Raises
    ------
    DataError, CheckpointError, DivergenceError, BackendError, OSError
        If the table, the checkpoint, the backend or the file does not do.
    BlockingIOError
        If another run is going to write the same file.
    Interrupted
        At Ctrl-C, SIGTERM or SIGHUP.
    """
    out = os.fspath(out)
    check_output(out, NOT_SAVED, table=table_files(data).paths)
    checkpoint, rows = f"{out}.checkpoint", f"{out}.rows"
    with locked(out):
        _clear_up(out, checkpoint, rows, resume)
        backend = get_backend(backend)
        table, task, schema = open_for_training(data, reading, target, exclude, task, columns)
        with _with_random_access(table, rows, checkpoint, resume) as source:
            part, held_out = split_for_validation(source, seed)
            schema = getattr(part, "schema", schema)
            n, width = counted(part.count(), "row"), counted(len(schema.names), "column")
            log(f"{n} to train on, {held_out.count():,} held out, {width}")
            batches = Batches(part, batch_size=batch_size, shuffle=True, seed=seed, prefetch=2)
            if epochs is None:
                epochs = min(max(EPOCHS, -(-UPDATES // len(batches))), MOST_EPOCHS)
            model = build_network(schema, task, hidden, backend, seed)
            updater = Adam(CosineDecay(learning_rate, epochs=epochs))
            if resume:
                trainer = resume_run(checkpoint, batches, model, updater)
            else:
                adapt_numbers(model, batches, schema)
                loss = default_loss(model.layers[-1])
                trainer = Trainer(model, loss, updater, metrics=METRICS[task], l2=L2)
            stopping = EarlyStopping(patience=max(1, int(PATIENCE * epochs)))
            saving = Checkpoint(checkpoint, every_seconds=CHECKPOINT_SECONDS)
            with Stop() as stop:
                trainer.fit(
                    batches,
                    until_epoch=epochs,
                    validation_data=held_out,
                    callbacks=[stop, stopping, saving],
                    progress=progress,
                )
            if stop.number is not None and not stopping.stopped and trainer.epoch < epochs:
                held = _count_held(saving, resume)
                raise Interrupted(checkpoint, trainer.updates, held, stop.number)
        trained = TableModel(trainer.model, schema, history=trainer.history, reading=reading)
        with Stop():
            _save(trained, out, saving, resume)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(checkpoint)
        return trained


def _clear_up(out: str, checkpoint: str, rows: str, resume: bool) -> None:
    """Remove what killed runs left half written; refuse or report what an interrupted one left."""
    for path in (out, checkpoint, rows):
        sweep(path)
    if resume:
        check_checkpoint(checkpoint)
    elif os.path.exists(checkpoint):
        log(f"{checkpoint} of an interrupted run will be replaced; --resume continues it")


def _count_held(saving: Checkpoint, resumed: bool) -> int | None:
    """Return how many updates of this run its checkpoint holds; None if it is not there, or old."""
    ours = resumed or saving.saved_updates is not None
    return count_updates(saving.path) if ours else None


def _save(trained: TableModel, out: str, saving: Checkpoint, resumed: bool) -> None:
    """Write the model, or if that fails, write it elsewhere, and say where it is."""
    try:
        trained.save(out)
    except OSError as error:
        name = f"minigd-{uuid.uuid4().hex[:8]}-{os.path.basename(out)}"
        elsewhere = os.path.join(tempfile.gettempdir(), name)
        try:
            trained.save(elsewhere)
            kept = f"the model is in {elsewhere!r}: move it to where there is room"
        except OSError as other:
            kept = f"nor could {elsewhere!r} ({other.strerror or other})"
            if _count_held(saving, resumed) is not None:
                kept += f"; make room, and use --resume: {out}.checkpoint holds the run"
        raise OSError(
            f"{out!r} could not be written ({error.strerror or error}); {kept}"
        ) from error


@contextlib.contextmanager
def _with_random_access(
    table: Table, folder: str, checkpoint: str, resume: bool
) -> Iterator[Source]:
    """Yield the rows so that they can be shuffled, if need be from a folder that is removed after.

    A run that is interrupted and can be resumed leaves the folder, so that --resume finds it.
    """
    source = _kept(table, folder, resume)
    if source is table:
        if is_cache(folder):  # of an interrupted run on another table
            remove(Path(folder))
        yield table
        return
    keep = False
    try:
        yield source
    except (KeyboardInterrupt, Terminated):
        keep = os.path.exists(checkpoint)
        raise
    finally:
        if not keep:
            remove(Path(folder))


def _kept(table: Table, folder: str, resume: bool) -> Source:
    """Return the rows from a folder, or in place, where that is as good or the disk has no room.

    A run that is resumed reads them where it read them before: its checkpoint tells the two apart.
    """
    if not table.random_access:
        log(f"the rows are kept in {folder} while they are needed, so that they can be shuffled")
        return table.cache(folder)
    size = table.rows * (len(table.names or ()) * table.schema.dtype.itemsize + TARGET_BYTES)
    if not isinstance(table, CsvSource) or (os.path.exists(folder) and not is_cache(folder)):
        return table
    free = shutil.disk_usage(os.path.dirname(os.path.realpath(folder))).free
    if not is_cache(folder) if resume else (size < KEPT_FROM or free < 2 * size):
        return table
    mb = f"{size / 1e6:,.0f} MB"
    log(f"the rows are kept in {folder} ({mb}) while they are needed: text is slower to read")
    try:
        return table.cache(folder)
    except OSError as error:
        log(f"{error.strerror or error}: the rows are read from the text instead")
        return table


# The network ----------------------------------------------------------------------------------


def build_network(
    schema: Schema,
    task: Task,
    hidden: Sequence[int],
    backend: str | Backend = "numpy",
    seed: int = 0,
) -> Sequential:
    """Return a new network whose first and last layers fit the columns of a schema.

    Examples
    --------
    >>> schema = Schema(["area"], ["heating"], {}, ["gas", "oil"], integer=False)
    >>> [layer.name for layer in build_network(schema, "classification", hidden=[8]).layers]
    ['standardize1', 'dense1', 'relu1', 'dropout1', 'dense2', 'sigmoid1']
    """
    layers: list[Layer] = [Standardize()]
    for width in hidden:
        width = check_integer("the width of a hidden layer", width)
        layers += [Dense(width, "he_normal"), ReLU(), Dropout(DROPOUT)]
    classes = len(schema.classes or [])
    if task == "regression":
        layers += [Dense(1), Rescale()]
    elif classes == 2:
        layers += [Dense(1), Sigmoid()]
    else:
        layers += [Dense(classes), Softmax()]
    return Sequential(layers, inputs=len(schema.names), backend=backend, seed=seed)


def adapt_numbers(model: Sequential, batches: Batches, schema: Schema) -> None:
    """Fit the first layer, and a last Rescale, to the numbers; categories stay 0 and 1."""
    model.adapt(batches)
    buffers = model.layers[0].buffers
    buffers["mean"][schema.indicators] = 0
    buffers["std"][schema.indicators] = 1


# The rows held out ----------------------------------------------------------------------------


def split_for_validation(source: Source, seed: int = 0) -> tuple[Source, Source]:
    """Return the rows to train on and those held out, and warn if few of these differ.

    Equal rows stay on one side, so that the two parts of such a table are unlike each other.
    """
    part, held_out = source.split(VALIDATION_SHARE, seed)
    rows = itertools.chain.from_iterable(
        np.column_stack([x, np.asarray(y, dtype=np.float64).reshape(len(x), -1)])
        for x, y in held_out.chunks()
    )
    some = np.array(list(itertools.islice(rows, ROWS_COMPARED)), dtype=np.float64)
    different = len(np.unique(some, axis=0))
    if different * ALIKE < len(some):
        log(
            f"of {len(some):,} rows held out only {different:,} differ: equal rows stay on one "
            "side, so the rows held out are unlike the rest, and their scores are unreliable; "
            "evaluate on a separate file"
        )
    return part, held_out


# Ctrl-C ---------------------------------------------------------------------------------------


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or a signal ended the training.

    Parameters
    ----------
    checkpoint : str
    updates : int
        How many were made.
    held : int or None
        How many of them the checkpoint holds; None if this run has no checkpoint.
    number : int
        The signal.

    Attributes
    ----------
    code : int
        The exit code for it.
    resumable : bool
    """

    def __init__(self, checkpoint: str, updates: int, held: int | None, number: int) -> None:
        made = f"interrupted after {counted(updates, 'update')}"
        if held == updates:
            super().__init__(f"{made}, which {checkpoint} holds")
        elif held is not None:
            super().__init__(f"{made}, of which {checkpoint} holds the first {held:,}")
        else:
            super().__init__(f"{made}, which are lost: {checkpoint} could not be written")
        self.resumable, self.code = held is not None, 128 + number


class Stop(Handler):
    """While this is entered, the first Ctrl-C ends a fit after its update, the second one at once.

    So do other signals that end a process, which never end it at once. It is one of the callbacks
    of the fit.

    Attributes
    ----------
    number : int or None
        The signal that came.
    """

    def __init__(self) -> None:
        self.number: int | None = None

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Note it, so that the fit stops; a second Ctrl-C interrupts at once."""
        if number == self.number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = number

    def __call__(self, event: Event) -> None:
        """Stop if a signal came."""
        if self.number is not None:
            event.trainer.stop()


# The report -----------------------------------------------------------------------------------


def report(trained: TableModel, out: str | os.PathLike[str]) -> str:
    """Return the scores on the rows held out, the best epoch and the file, in a few lines."""
    history, best = trained.history, trained.best
    names = [name for name in history if name.startswith("val_")]
    figures = [f"{name.removeprefix('val_')} {number(history[name][best])}" for name in names]
    updates = counted(int(history["updates"][-1]), "update")
    seconds = sum(history["seconds"])
    return (
        f"held out: {'  '.join(figures)}\n"
        f"best of {counted(history.epochs, 'epoch')}: {best + 1}  ({updates}, "
        f"{seconds:.1f} seconds)\n"
        f"saved: {os.fspath(out)}"
    )
