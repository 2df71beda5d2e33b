"""`minigd info`: what is in a model file, in a few lines."""

import os
import textwrap

from minigd.cli.messages import counted, number
from minigd.cli.tables import Reading
from minigd.cli.trained import read, read_table
from minigd.data.tables.schema import Schema
from minigd.storage.damage import of_file
from minigd.training.history import History, check_columns
from minigd.training.model_files import restore


def info(path: str | os.PathLike[str]) -> str:
    """Return layers, columns, classes and history of a model file, in a few lines.

    Parameters
    ----------
    path : path
        A model or a checkpoint, written from the shell or from Python.

    Raises
    ------
    OSError, CheckpointError
        If the file does not exist, can't be read, or is not a model.

    Examples
    --------
    >>> import tempfile, minigd as gd
    >>> model = gd.Sequential([gd.Dense(3), gd.Tanh(), gd.Dense(1)], inputs=2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model.save(f"{folder}/m.npz")
    ...     print(info(f"{folder}/m.npz"))
    layers      2 > dense1 3 > tanh1 3 > dense2 1
    parameters  13 of float32
    """
    description, arrays = read(path)
    name, table = os.fspath(path), description.get("table")
    with of_file(name):
        model = restore(description, arrays)
        columns = description.get("history") or description.get("run", {}).get("history")
        widths = [str(model.n_in), *(f"{layer.name} {layer.n_out}" for layer in model.layers)]
        lines = {
            **({} if table is None else _table(*read_table(table, model, name))),
            "layers": " > ".join(widths),
            "parameters": f"{model.flat_params.size:,} of {model.dtype}",
            **_history(columns),
        }
    return "\n".join(
        textwrap.fill(
            text, 79, initial_indent=f"{name:10}  ", subsequent_indent=" " * 12,
            break_long_words=False, break_on_hyphens=False,
        )
        for name, text in lines.items()
    )  # fmt: skip


def _table(task: str, schema: Schema, reading: Reading) -> dict[str, str]:
    numbers = [column for column in schema.features if column not in schema.levels]
    levels = schema.levels.items()
    lines = {
        "task": f"{task} of {schema.targets[0]}",
        "numbers": ", ".join(numbers),
        "categories": ", ".join(f"{c} ({len(values)})" for c, values in levels),
        "classes": ", ".join(schema.classes or []),
    }
    return {name: text for name, text in lines.items() if text}


def _history(columns: dict[str, list[float]] | None) -> dict[str, str]:
    if not columns or not columns.get("loss"):
        return {}
    history = History(check_columns(columns))
    watched = history["val_loss"] if "val_loss" in history else history["loss"]
    best = watched.index(min(watched))
    shown = [name for name in history if name not in ("seconds", "updates")]
    epochs = counted(history.epochs, "epoch")
    updates = counted(int(history["updates"][-1]), "update")
    figures = "  ".join(f"{name} {number(history[name][best])}" for name in shown)
    return {
        "trained": f"{epochs}, {updates}, {sum(history['seconds']):.1f} seconds",
        "best": f"epoch {best + 1}: {figures}",
    }
