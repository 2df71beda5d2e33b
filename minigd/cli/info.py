"""`minigd info`: the content of a model file in a few lines, and leftovers of runs next to it."""

import os
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from minigd.cli.messages import counted, number
from minigd.cli.tables import Reading
from minigd.cli.trained import read, read_table, task_of
from minigd.data.sources.cache import is_cache
from minigd.data.tables.schema import Schema
from minigd.storage.atomic_files import find_left, is_locked
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
            "parameters": f"{_parameters(model):,} of {model.dtype}",
            **_history(columns),
        }
    return "\n".join(
        textwrap.fill(
            text, 79, initial_indent=f"{name:10}  ", subsequent_indent=" " * 12,
            break_long_words=False, break_on_hyphens=False,
        )
        for name, text in lines.items()
    )  # fmt: skip


def _table(schema: Schema, reading: Reading) -> dict[str, str]:
    numbers = [column for column in schema.features if column not in schema.levels]
    levels = schema.levels.items()
    lines = {
        "task": f"{task_of(schema)} of {schema.targets[0]}",
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


def details(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the content of a model file as data.

    Returns
    -------
    dict
        ``layers``, ``parameters``, ``dtype``; for a file of `minigd train` also ``task``,
        ``target``, ``columns``, ``levels`` and ``classes``; and the ``history``, by epoch.
    """
    info(path)  # refuses a file without a model
    description, arrays = read(path)
    model = restore(description, arrays)
    table = description.get("table")
    found: dict[str, Any] = {}
    if table is not None:
        schema, _ = read_table(table, model, os.fspath(path))
        found = {
            "task": "regression" if schema.classes is None else "classification",
            "target": schema.targets[0],
            "columns": schema.features,
            "levels": schema.levels,
            "classes": schema.classes,
        }
    layers = [
        {"name": layer.name, "kind": type(layer).__name__, "width": layer.n_out}
        for layer in model.layers
    ]
    history = description.get("history") or description.get("run", {}).get("history") or {}
    return {
        **found,
        "inputs": model.n_in,
        "layers": layers,
        "parameters": _parameters(model),
        "dtype": str(model.dtype),
        "history": history,
    }


def find_leftovers(path: str | os.PathLike[str] = ".") -> dict[str, Any]:
    """Return leftovers of runs as data; see `leftovers`."""
    leftovers(path)  # refuses a missing folder
    found = [
        {"path": os.fspath(left), "bytes": _bytes(left), "what": what}
        for left, what in _left(Path(path))
    ]
    return {"leftovers": found}


def leftovers(path: str | os.PathLike[str] = ".") -> str:
    """Return leftovers of killed or interrupted runs, one line per file or folder.

    Parameters
    ----------
    path : path, default "."
        A folder, or the file that the runs should have written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     size = Path(folder, "m.npz.checkpoint").write_bytes(bytes(2_500_000))
    ...     print(leftovers(folder).splitlines()[0].replace(folder, "FOLDER"))
        2.5 MB  FOLDER/m.npz.checkpoint  an interrupted run, for --resume
    """
    if not os.path.lexists(path) and not os.path.isdir(os.path.dirname(path) or "."):
        raise FileNotFoundError(f"there is no folder {os.path.dirname(path)!r}")
    lines = [f"{_size(left):>10}  {left}  {what}" for left, what in _left(Path(path))]
    if not lines:
        return f"no run left anything in {os.fspath(path)!r}"
    advice = (
        "Remove checkpoints that you won't resume; `minigd train --out NAME` removes the other "
        "leftovers of NAME."
    )
    return "\n".join([*lines, advice])


def _left(path: Path) -> Iterator[tuple[Path, str]]:
    """Yield each leftover in a folder, or next to a file, and what it is."""
    written: list[str | None]
    if path.is_dir():
        folder, names, written = path, sorted(os.listdir(path)), [None]
    else:
        folder, names = path.parent, [path.name, *(path.name + ending for ending in _BESIDE)]
        written = [*names]
    for name in written:
        for left in find_left(folder, name):
            yield left, "half written by a process that was killed"
    for name in names:
        out, ending = os.path.splitext(name)
        kept = is_cache(folder / name) if ending == ".rows" else (folder / name).is_file()
        if ending in _BESIDE and kept and not is_locked(folder / out):
            yield folder / name, _BESIDE[ending]


_BESIDE = {
    ".checkpoint": "an interrupted run, for --resume",
    ".rows": "the rows of an interrupted run, for --resume",
}
"""Files that a training keeps next to its model until it is done, by the ending of the name."""


def _size(path: Path) -> str:
    """Return the size of a file or a folder.

    >>> _size(Path("no/such/file"))
    '0.0 MB'
    """
    size = _bytes(path)
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def _bytes(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _parameters(model: Any) -> int:
    """Return the number of parameters of a model, including layers that are not trained."""
    return sum(int(p.size) for p in model.params.values())
