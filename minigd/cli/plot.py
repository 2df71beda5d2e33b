"""`minigd plot`: the epochs of a model's training, and its predictions on a table, as a picture."""

import os
from typing import Any

import numpy as np

from minigd.cli.paths import check_picture, save_picture
from minigd.cli.table_files import table_files
from minigd.cli.tables import report_columns
from minigd.cli.trained import TableModel, chosen, load_table, outputs, read
from minigd.errors import CheckpointError
from minigd.insight.plots import plot_confusion, plot_predictions
from minigd.progress import with_progress
from minigd.storage.damage import of_file
from minigd.training.history import History, check_columns

_WIDTH, _HEIGHT, _ACROSS = 5.6, 4.2, 3  # of a panel, in inches, and panels in a row


def plot(
    model: str | os.PathLike[str],
    out: str | os.PathLike[str],
    data: Any = None,
    target: str | None = None,
    **reading: Any,
) -> None:
    """Draw the loss and each metric by epoch, and the predictions on a table if one is given.

    Numbers are drawn against the true ones, and classes as a confusion matrix.

    Parameters
    ----------
    model : path
        A file that `minigd train` wrote; without a table also the checkpoint of a run.
    out : path
        A picture, in the format of its ending; written completely or not at all.
    data : path, or a list of them, optional
        A table with the columns of the training by name, including the target.
    target : str, optional
        The target column in that table, if its name differs from that in the training.
    **reading
        As in `minigd.cli.predict.predict`.

    Raises
    ------
    ImportError
        If Matplotlib is missing, or scikit-learn, which classes need.
    DataError, CheckpointError, OSError
        If the model, the table or the picture can't be used.
    """
    check_picture(out)
    from matplotlib.figure import Figure

    history = read_history(model)
    names = dict.fromkeys(n.removeprefix("val_") for n in history if n not in _NOT_DRAWN)
    panels = len(names) + (data is not None)
    across = min(panels, _ACROSS)
    down = -(-panels // across)
    figure = Figure(figsize=(_WIDTH * across, _HEIGHT * down), layout="constrained")
    axes = [figure.add_subplot(down, across, k + 1) for k in range(panels)]
    for ax, name in zip(axes, names, strict=False):
        history.plot(name, ax=ax)
    if data is not None:
        trained = load_table(model)
        table = trained.open(table_files(data), True if target is None else target, **reading)
        report_columns(table)
        _draw_predictions(trained, table, axes[-1])
    save_picture(figure, out)


_NOT_DRAWN = ("seconds", "updates")


def read_history(model: str | os.PathLike[str]) -> History:
    """Return the history in a model's file or in a checkpoint."""
    description, _ = read(model)
    with of_file(os.fspath(model)):
        columns = description.get("history") or description.get("run", {}).get("history")
        history = History(check_columns(columns or {}))
    if not history.epochs:
        raise CheckpointError(
            f"{os.fspath(model)!r} has no training history: `minigd train` writes one, and so "
            "does Trainer.save"
        )
    return history


def _draw_predictions(trained: TableModel, table: Any, ax: Any) -> None:
    """Draw the predictions for the rows of a table against the true values."""
    pairs = [
        (outputs(trained, x), y)
        for x, y, _ in with_progress(table.encoded(), "predicting", table.rows)
    ]
    found, true = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    if trained.classes is None:
        plot_predictions(true, found, ax=ax)
    else:
        plot_confusion(chosen(trained, found), y=true, classes=trained.classes, ax=ax)
