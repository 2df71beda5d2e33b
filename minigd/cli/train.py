"""`minigd train`: from a table to a model file, in batches, with a part of the rows held out.

Rows stay on the disk. A file without random access is first written as `.npy` files next to the
model, and so is a large CSV. These files are removed after training.
"""

import contextlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from minigd.backends.base import Backend, get_backend
from minigd.cli.held_out import (
    BY_CONTENT,
    ClassWeights,
    Split,
    choose_measures,
    open_to_split,
    split_for_validation,
)
from minigd.cli.messages import counted
from minigd.cli.paths import NOT_SAVED, check_output
from minigd.cli.processes import first_goes_ahead, together
from minigd.cli.report import Comparison, Report
from minigd.cli.resume import check_checkpoint, resume_run
from minigd.cli.stopping import Interrupted, Stop
from minigd.cli.table_files import table_files
from minigd.cli.tables import (
    AS_FOUND,
    USUAL,
    Columns,
    Reading,
    Table,
    Task,
)
from minigd.cli.trained import TableModel
from minigd.data.batches import Batches
from minigd.data.sources.base import Source
from minigd.data.sources.cache import is_cache, read_whole
from minigd.data.sources.csv import CsvSource
from minigd.data.sources.together import opening_together
from minigd.data.tables.schema import Schema
from minigd.distributed.communicator import Communicator
from minigd.distributed.mpi import connect
from minigd.errors import check_integer
from minigd.nn.layers import Dense, Dropout, Layer, ReLU, Rescale, Sigmoid, Softmax, Standardize
from minigd.nn.metrics import Metric, get_metrics
from minigd.nn.objective import default_loss
from minigd.nn.sequential import Sequential
from minigd.optim.schedules import CosineDecay
from minigd.optim.updaters import Adam
from minigd.progress import log
from minigd.storage import npz
from minigd.storage.atomic_files import locked, remove, sweep
from minigd.training.callbacks import Checkpoint, EarlyStopping
from minigd.training.checkpoints import count_updates
from minigd.training.interrupts import Terminated
from minigd.training.trainer import Trainer

HIDDEN = (100, 100)
DROPOUT = 0.1
EPOCHS, UPDATES, MOST_EPOCHS = 60, 6000, 1000
"""The default of `epochs`: 60, or more for a small table, until there are this many updates."""
PATIENCE = 0.25
"""Training stops after this share of the epochs without a lower validation loss."""
L2 = 0.001
KEPT_FROM, TARGET_BYTES = 64 << 20, 8
"""Rows that take fewer bytes as numbers than this are kept in memory; a larger CSV is kept in a
folder. The second number is the bytes of one target."""
CHECKPOINT_SECONDS = 30


def train(
    data: Any,
    target: str,
    out: str | os.PathLike[str] = "model.npz",
    *,
    exclude: Collection[str] = (),
    task: Task | None = None,
    reading: Reading = USUAL,
    columns: Columns = AS_FOUND,
    split: Split = BY_CONTENT,
    metrics: Sequence[str] | None = None,
    class_weight: ClassWeights | None = None,
    hidden: Sequence[int] = HIDDEN,
    batch_size: int = 100,
    epochs: int | None = None,
    learning_rate: float = 0.002,
    backend: str | Backend = "numpy",
    seed: int = 0,
    resume: bool = False,
    progress: bool = True,
    report: Callable[[Report], None] | None = None,
    comm: Any = None,
) -> TableModel:
    """Train a network on a table, and write it to a file.

    A fifth of the rows, and of each class, is held out by a hash of their content. Training stops
    when the loss on them has not improved for a quarter of the epochs, and the best parameters
    are kept. Ctrl-C, SIGTERM or SIGHUP ends it after the current update, and leaves a checkpoint. A
    model that can't be written where it should be is written to the system's temporary folder.

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
        What columns become, if that does not follow from their content.
    split : Split, optional
        Hold out whole groups of rows, or the last ones in time.
    metrics : sequence of str, optional
        By default R², MAE and RMSE for a number, and accuracy for classes. If a class is rare, also
        its ROC AUC, average precision and F1.
    class_weight : dict of str to float, or "balanced", optional
        How much each class counts in the training, and in the choice of the best epoch.
    hidden : sequence of int, default (100, 100)
        Widths of the hidden layers; none for a linear model.
    batch_size : int, default 100
    epochs : int, optional
        The most passes over the rows; the learning rate falls to 0 over them. By default 60, or for
        a small table as many as make 6,000 updates, but at most 1,000.
    learning_rate : float, default 0.002
        The initial one, of Adam.
    backend : {"numpy", "cupy"} or Backend, default "numpy"
    seed : int, default 0
        Decides the part held out, the first weights and the order of the rows.
    resume : bool, default False
        Continue from the checkpoint of an interrupted run with the same arguments.
    progress : bool, default True
        Show the progress on stderr.
    report : callable, optional
        Called with a `Report` after the model is written. Making it takes a short while.
    comm : mpi4py.MPI.Intracomm or Communicator, optional
        The processes that train together, as for `minigd.Trainer`. The first one writes the model
        and the report.

    Returns
    -------
    TableModel

    Raises
    ------
    DataError, CheckpointError, DivergenceError, BackendError, OSError
        If the table, the checkpoint, the backend or the file can't be used.
    BlockingIOError
        If another run is going to write the same file.
    Interrupted
        At Ctrl-C, SIGTERM or SIGHUP.
    """
    communicator = connect(comm)
    with contextlib.ExitStack() as stack:
        stack.enter_context(together(communicator))
        out = npz.model_path(out)
        check_output(out, NOT_SAVED, table=table_files(data).paths)
        checkpoint, rows = f"{out}.checkpoint", f"{out}.rows"
        with first_goes_ahead(communicator) as first:
            if first:
                stack.enter_context(_claimed(out, checkpoint, rows, resume))
        # An unknown name is refused before the work.
        backend, _ = get_backend(backend), get_metrics(metrics or ())
        with opening_together(communicator):
            given = data, reading, target, exclude, task, columns, split
            table, task, schema, by = open_to_split(*given)
        with first_goes_ahead(communicator):
            source = stack.enter_context(_at_random(table, rows, checkpoint, resume, first))
        part, held_out = split_for_validation(source, seed, **by)
        schema = getattr(part, "schema", schema)
        _log_sizes(part, held_out, schema)
        measures = choose_measures(part, schema.classes, metrics, class_weight)
        batches = measures.batches(part, batch_size, shuffle=True, seed=seed, prefetch=2)
        epochs = _most_epochs(batches) if epochs is None else epochs
        model = build_network(schema, task, hidden, backend, seed)
        updater = Adam(CosineDecay(learning_rate, epochs=epochs))
        parts = batches, model, updater, measures.metrics, communicator
        trainer = resume_run(checkpoint, *parts) if resume else _new_run(schema, *parts)
        saving = Checkpoint(checkpoint, every_seconds=CHECKPOINT_SECONDS)
        _fit(trainer, batches, measures.batches(held_out), epochs, saving, resume, progress)
        trained = TableModel(trainer.model, schema, history=trainer.history, reading=reading)
        if first:
            with Stop():
                _save(trained, out, saving, resume)
            if report is not None:
                linear = build_network(schema, task, (), backend, seed)
                compared = Comparison(trained, linear, part, held_out, measures)
                report(compared.report(table, out))
        communicator.wait()
        return trained


def _most_epochs(batches: Batches) -> int:
    return min(max(EPOCHS, -(-UPDATES // len(batches))), MOST_EPOCHS)


def _new_run(
    schema: Schema,
    batches: Batches,
    model: Sequential,
    updater: Adam,
    metrics: Mapping[str, Metric],
    communicator: Communicator,
) -> Trainer:
    """Return the new run."""
    adapt_numbers(model, batches, schema)
    loss = default_loss(model.layers[-1])
    return Trainer(model, loss, updater, metrics=metrics, l2=L2, comm=communicator)


def _log_sizes(part: Source, held_out: Source, schema: Schema) -> None:
    n, width = counted(part.count(), "row"), counted(len(schema.names), "column")
    log(f"{n} to train on, {held_out.count():,} held out, {width}")


def _fit(
    trainer: Trainer,
    batches: Batches,
    held_out: Batches,
    epochs: int,
    saving: Checkpoint,
    resumed: bool,
    progress: bool,
) -> None:
    """Train until the loss on the rows held out stops falling, or until a signal ends it."""
    stopping = EarlyStopping(patience=max(1, int(PATIENCE * epochs)))
    with Stop() as stop:
        trainer.fit(
            batches,
            until_epoch=epochs,
            validation_data=held_out,
            callbacks=[stop, stopping, saving],
            progress=progress,
        )
    # A signal may have reached only one process.
    number = max(trainer.communicator.gather(stop.number or 0))
    if number and not stopping.stopped and trainer.epoch < epochs:
        held = _count_held(saving, resumed)
        error = Interrupted(os.fspath(saving.path), trainer.updates, held, number)
        error.in_all = True
        raise error


@contextlib.contextmanager
def _claimed(out: str, checkpoint: str, rows: str, resume: bool) -> Iterator[None]:
    """Keep other runs from writing there; remove half-written files of killed runs.

    The checkpoint of an interrupted run is resumed or reported.
    """
    with locked(out):
        for path in (out, checkpoint, rows):
            sweep(path)
        if resume:
            check_checkpoint(checkpoint)
        elif os.path.exists(checkpoint):
            log(f"{checkpoint} of an interrupted run will be replaced; --resume continues it")
        yield


def _count_held(saving: Checkpoint, resumed: bool) -> int | None:
    """Return the number of updates in the checkpoint of this run; None if it has none."""
    ours = resumed or saving.saved_updates is not None
    return count_updates(saving.path) if ours else None


def _save(trained: TableModel, out: str, saving: Checkpoint, resumed: bool) -> None:
    """Write the model and remove its checkpoint, or if that fails, write it elsewhere."""
    try:
        trained.save(out)
    except OSError as error:
        name = f"minigd-{uuid.uuid4().hex[:8]}-{os.path.basename(out)}"
        elsewhere = os.path.join(tempfile.gettempdir(), name)
        try:
            trained.save(elsewhere)
            kept = f"the model is in {elsewhere!r}: move it to where there is room"
        except OSError as other:
            kept = f"{elsewhere!r} could not be written either ({other.strerror or other})"
            if _count_held(saving, resumed) is not None:
                kept += f"; make room, and use --resume: {out}.checkpoint holds the run"
        raise OSError(
            f"{out!r} could not be written ({error.strerror or error}); {kept}"
        ) from error
    with contextlib.suppress(FileNotFoundError):
        os.unlink(saving.path)


@contextlib.contextmanager
def _at_random(
    table: Table, folder: str, checkpoint: str, resume: bool, first: bool
) -> Iterator[Source]:
    """Yield rows that can be shuffled, if necessary from a folder that is removed afterwards.

    A run that is interrupted and can be resumed keeps the folder for --resume. A folder that minigd
    did not write is left alone. If there are several processes, the first one writes and removes
    it.
    """
    source = _kept(table, folder, resume or not first)
    if source is table or not first:
        if first and is_cache(folder):  # of an interrupted run on another table
            remove(Path(folder))
        yield source
        return
    keep = False
    try:
        yield source
    except (KeyboardInterrupt, Terminated):
        keep = os.path.exists(checkpoint)
        raise
    finally:
        if not keep and is_cache(folder):
            remove(Path(folder))


def _kept(table: Table, folder: str, resume: bool) -> Source:
    """Return the rows in memory, from a folder, or in place if the disk has no room.

    A resumed run reads them from the same place as before, which its checkpoint depends on.
    """
    if not table.random_access:
        log(f"the rows are kept in {folder} while they are needed, to shuffle them")
        return table.cache(folder)
    size = table.rows * (len(table.names or ()) * table.schema.dtype.itemsize + TARGET_BYTES)
    if size < KEPT_FROM:
        return read_whole(table)
    if not isinstance(table, CsvSource) or (os.path.exists(folder) and not is_cache(folder)):
        return table
    free = shutil.disk_usage(os.path.dirname(os.path.realpath(folder))).free
    if not is_cache(folder) if resume else free < 2 * size:
        return table
    mb = f"{size / 1e6:,.0f} MB"
    log(f"the rows are kept in {folder} ({mb}) while they are needed: text is slower to read")
    try:
        cached = table.cache(folder)
    except OSError as error:
        log(f"{error.strerror or error}: the rows are read from the text instead")
        return table
    table._kept.free_rows()
    return cached


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
