"""`minigd train`: from a table to a model file, in batches, with a part of the rows held out.

Rows stay on the disk: a CSV is read in place, and what can't be read at any place is written once
as memory maps beside the model, for as long as the training takes.
"""

import contextlib
import os
import shutil
from collections.abc import Collection, Iterator, Sequence

from minigd.backends.base import Backend, get_backend
from minigd.cli.ctrl_c import CtrlC, Interrupted
from minigd.cli.held_out import split_for_validation
from minigd.cli.messages import counted
from minigd.cli.network import HIDDEN, METRICS, adapt, loss_of, network
from minigd.cli.paths import NOT_SAVED, check_output
from minigd.cli.resume import check_checkpoint, go_on
from minigd.cli.tables import USUAL, Reading, Table, Task, open_for_training
from minigd.cli.trained import Trained
from minigd.data.batches import Batches
from minigd.data.sources.base import Source
from minigd.optim.schedules import CosineDecay
from minigd.optim.updaters import Adam
from minigd.progress import say
from minigd.training.callbacks import Checkpoint, EarlyStopping
from minigd.training.trainer import Trainer

BATCH_SIZE = 100
LEARNING_RATE = 0.002
EPOCHS, UPDATES, MOST_EPOCHS = 60, 6000, 1000
"""Epochs where nothing is said: 60, and more where they are short, for this many updates."""
PATIENCE = 0.25
"""The share of the epochs for which a better loss is waited."""
L2 = 0.001
CHECKPOINT_SECONDS = 30


def train(
    data: str | os.PathLike[str],
    target: str,
    out: str | os.PathLike[str] = "model.npz",
    *,
    exclude: Collection[str] = (),
    task: Task | None = None,
    reading: Reading = USUAL,
    hidden: Sequence[int] = HIDDEN,
    batch_size: int = BATCH_SIZE,
    epochs: int | None = None,
    learning_rate: float = LEARNING_RATE,
    backend: str | Backend = "numpy",
    seed: int = 0,
    resume: bool = False,
    progress: bool = True,
) -> Trained:
    """Train a network on a table, and write it to a file.

    A fifth of the rows is held out, by a hash of their content. Training stops when the loss on
    them has not got better for a quarter of the epochs, and the best parameters are kept. Ctrl-C
    ends it after the update at hand, and leaves a checkpoint.

    Parameters
    ----------
    data : path
        A CSV, Parquet or ``.npy`` file; see `minigd.cli.tables.open_table`.
    target : str
        The column to predict.
    out : path, default "model.npz"
    exclude : collection of str
        Columns to leave out.
    task : {"classification", "regression"}, optional
        By default what the target looks like, which is said.
    reading : Reading, optional
        How the file is written.
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
    Trained

    Raises
    ------
    DataError, CheckpointError, DivergenceError, BackendError, OSError
        If the table, the checkpoint, the backend or the file does not do.
    Interrupted
        At Ctrl-C.
    """
    out = os.fspath(out)
    checkpoint, rows = f"{out}.checkpoint", f"{out}.rows"
    check_output(out, NOT_SAVED, table=data)
    if resume:
        check_checkpoint(checkpoint)
    elif os.path.exists(checkpoint):
        say(f"{checkpoint} of an interrupted run will be replaced; --resume goes on from it")
    backend = get_backend(backend)
    table, task, schema = open_for_training(data, reading, target, exclude, task)
    with _at_any_place(table, rows) as source:
        part, held_out = split_for_validation(source, seed)
        n, m = part.count(), held_out.count()
        columns = counted(len(schema.names), "column")
        say(f"{counted(n, 'row')} to train on, {m:,} held out, {columns}")
        batches = Batches(part, batch_size=batch_size, shuffle=True, seed=seed, prefetch=2)
        if epochs is None:
            epochs = min(max(EPOCHS, -(-UPDATES // len(batches))), MOST_EPOCHS)
        model = network(schema, task, hidden, backend, seed)
        updater = Adam(CosineDecay(learning_rate, epochs=epochs))
        if resume:
            trainer = go_on(checkpoint, batches, model, updater)
        else:
            adapt(model, batches, schema)
            trainer = Trainer(model, loss_of(model), updater, metrics=METRICS[task], l2=L2)
        stopping = EarlyStopping(patience=max(1, int(PATIENCE * epochs)))
        saving = Checkpoint(checkpoint, every_seconds=CHECKPOINT_SECONDS)
        with CtrlC() as ctrl_c:
            trainer.fit(
                batches,
                until_epoch=epochs,
                validation_data=held_out,
                callbacks=[ctrl_c, stopping, saving],
                progress=progress,
            )
        if ctrl_c.pressed and not stopping.stopped and trainer.epoch < epochs:
            raise Interrupted(checkpoint, trainer.updates)
        trained = Trained(trainer.model, task, schema, reading, trainer.history)
        trained.save(out)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(checkpoint)
    return trained


@contextlib.contextmanager
def _at_any_place(table: Table, folder: str) -> Iterator[Source]:
    """Return the rows so that they can be shuffled, in a folder if need be, which goes with them.

    A run that goes on after Ctrl-C finds it again.
    """
    if table.random_access:
        yield table
        return
    say(f"the rows are kept in {folder} while they are needed, so that they can be shuffled")
    source = table.cache(folder)
    keep = False
    try:
        yield source
    except KeyboardInterrupt:
        keep = True
        raise
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
