"""Tables as other programs wrote them: CSV, Parquet or `.npy`, opened for training or for a model.

However a table is stored and whatever the order of its columns, a schema says what becomes of them.
"""

import os
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from minigd.cli.messages import counted, in_shell, option
from minigd.data.sources.csv import CsvSource
from minigd.data.sources.csv_layout import example_names
from minigd.data.sources.iterable import IterableSource
from minigd.data.sources.npy import NpySource
from minigd.data.sources.parquet import ParquetSource
from minigd.data.tables.places import AS_VALUES
from minigd.data.tables.precision import WIDER_MODEL, Rounding
from minigd.data.tables.remedy import Remedy, TableError
from minigd.data.tables.schema import MISSING_LEVEL, MissingColumn, Schema
from minigd.errors import DataError, ShapeError
from minigd.progress import log, with_progress
from minigd.types import Array

Task: TypeAlias = Literal["classification", "regression"]
Table: TypeAlias = CsvSource | IterableSource

MOST_CLASSES = 20
"""A target of whole numbers with more different values than this is a quantity, if nothing else is
printed."""

_PIECE = 8192  # rows of a `.npy` file read at a time


class Reading(NamedTuple):
    """How a file is written, where it does not say so itself.

    Attributes
    ----------
    columns : tuple of str, optional
        Names of the columns of a file without a header; those of a `.npy` file are 0, 1, …
        otherwise.
    separator : str, default ","
        One character, or "blanks" for runs of them.
    na : tuple of str
        Texts that mean a missing value.
    skip_lines : int, default 0
        Lines at the top that are neither header nor rows.
    strip : str
        Characters taken off the end of texts.
    keep_default_na : bool, default True
        Whether the usual texts, such as NA, mean a missing value too.
    """

    columns: tuple[str, ...] | None = None
    separator: str = ","
    na: tuple[str, ...] = ()
    skip_lines: int = 0
    strip: str = ""
    keep_default_na: bool = True


USUAL = Reading()


def open_table(
    data: str | os.PathLike[str],
    reading: Reading = USUAL,
    target: str | None = None,
    exclude: Collection[str] = (),
    schema: Schema | None = None,
) -> Table:
    r"""Return the rows of a file, by what its name ends in.

    They are ``.parquet``, ``.npy`` (the target may be the path of another one, which holds y), or
    else a CSV, gzipped or not. With the schema of the table that a model was trained on, columns
    are found by name, and a row is left out, and counted, where one of its numbers is missing or a
    category is not known.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "houses.csv")
    ...     _ = path.write_text("price; area; heating\n221900; 118; gas\n538000; 257; \n")
    ...     open_table(path, Reading(separator=";"), target="price").names
    ['area', 'heating=gas', 'heating=missing']
    """
    path = os.fspath(data)
    if schema is None:
        given = (name for name in Reading._fields if getattr(reading, name) != getattr(USUAL, name))
        check_reading(path, given)
    is_array = path.endswith(".npy")
    beside = target if is_array and target is not None and target.endswith(".npy") else None
    named = target if beside is None else name_of(beside)
    if named is not None and named in exclude:
        raise DataError(
            f"the target {named!r} is among the columns to leave out: take it out of --exclude, or "
            "name another target"
        )
    chosen: dict[str, Any] = {"schema": schema}
    if schema is None:
        chosen = {"target": named, "exclude": exclude, "missing": "category"}
    if path.endswith((".parquet", ".pq")):
        return ParquetSource(path, **chosen)
    if is_array:
        pieces = _Pieces(path, reading.columns, beside)
        try:
            return IterableSource(pieces, name=path, **chosen)
        except MissingColumn as error:
            if reading.columns is None:
                options = {"columns": example_names(len(pieces.names))}
                error.args += (Remedy("name its columns with {}", options),)
            raise
    return CsvSource(path, **reading._asdict(), **chosen)


def open_for_training(
    data: str | os.PathLike[str],
    reading: Reading,
    target: str,
    exclude: Collection[str],
    task: Task | None,
) -> tuple[Table, Task, Schema]:
    """Return the rows of a file, the task, and the schema with the classes, and print all three."""
    table = open_table(data, reading, target, exclude)
    report_dropped(table)
    task, schema, why = choose_task(table, task)
    if table.schema is not None and schema.classes != table.schema.classes:
        table = open_table(data, reading, target, schema=schema)
    log(f"{task} of {schema.targets[0]!r}, {why}")
    return table, task, schema


def check_reading(path: str, given: Iterable[str]) -> None:
    """Refuse options about how a CSV is written where the file is not a CSV."""
    for name in given:
        if path.endswith((".parquet", ".pq")) or (path.endswith(".npy") and name != "columns"):
            raise DataError(
                f"{option(name)} says how a CSV is written, and {path} is not one: leave it out"
            )


class _Pieces:
    """The rows of `.npy` files as frames, a piece at a time."""

    def __init__(self, path: str, columns: tuple[str, ...] | None, beside: str | None) -> None:
        source = NpySource(path, beside)
        width = source.width
        names = [str(i) for i in range(width)] if columns is None else list(columns)
        if len(names) != width:
            raise ShapeError(
                f"{path} has {counted(width, 'column')}, and "
                f"{counted(len(names), 'name')} {'was' if len(names) == 1 else 'were'} given"
            )
        self.source, self.names, self.beside = source, names, beside

    def __call__(self) -> Iterator[dict[str, Array]]:
        for x, y in self.source.chunks():
            columns = dict(zip(self.names, x.T, strict=True))
            yield columns if y is None else {**columns, name_of(self.beside): y}


def name_of(path: str | None) -> str:
    """Return what the column of a `.npy` file is called."""
    return Path(path or "").stem


def choose_task(table: Table, task: Task | None = None) -> tuple[Task, Schema, str]:
    """Decide between classification and regression, and number the classes.

    Text is classes, and so are whole numbers of few different values; other numbers are quantities.

    Return the task, the schema with the classes in it, and why, in words. A target that is the
    same in every row is refused, also where that is so in the dtype of the schema alone.
    """
    schema = table.schema
    assert schema is not None
    target = schema.targets[0]
    if schema.classes is not None:
        if task == "regression":
            some = ", ".join(map(repr, schema.classes[:3]))
            raise DataError(f"the target {target!r} holds text, such as {some}, not numbers")
        why = "which holds text"
    else:
        found = _few_values(table, None if task == "classification" else MOST_CLASSES)
        if task == "regression" or (task is None and found is None):
            why = "as given"
            if task is None:
                many = f"more than {MOST_CLASSES} different whole numbers"
                why = f"which holds {many if schema.integer else 'fractions'}"
            _check_quantity(table, schema)
            return "regression", schema.replace(integer=False), why
        if found is None:
            raise DataError(
                f"the target {target!r} holds fractions, and classes are text or whole numbers"
            )
        schema = schema.replace(classes=found)
        why = f"which holds {len(found)} different whole numbers"
        why += "; if it is a quantity, pass --task regression" if task is None else ""
    classes = schema.classes or []
    if len(classes) < 2:
        raise _nothing_to_learn(target, classes[0])
    return "classification", schema, why


def _check_quantity(table: Table, schema: Schema) -> None:
    """Refuse a target with one value, or with whole numbers that a fraction's dtype makes one."""
    rounding, target, value = Rounding(schema.dtype), schema.targets[0], ""
    for _, y in _targets(table):
        assert y is not None
        value = str(y[0])
        rounding.add(y.reshape(-1, 1))
        if rounding.low[0] < rounding.high[0] and not rounding.lost[0]:
            return
    if rounding.lost[0]:
        raise TableError(*rounding.problem(f"the target {target!r}", 0, WIDER_MODEL))
    raise _nothing_to_learn(target, value)


def _targets(table: Table) -> Iterator[Any]:
    return with_progress(table.chunks(), "reading the target", table.rows)


def _nothing_to_learn(target: str, value: str) -> DataError:
    return DataError(f"the target {target!r} is {value!r} in every row: nothing to learn")


def _few_values(table: Table, most: int | None) -> list[str] | None:
    """Return the values of a target of whole numbers, in order; None if there are too many."""
    if table.schema is None or not table.schema.integer:
        return None
    found: set[int] = set()
    for _, y in _targets(table):
        assert y is not None
        found.update(np.unique(y).tolist())
        if most is not None and len(found) > most:
            return None
    return [str(value) for value in sorted(found)]


def report_dropped(table: Table) -> None:
    """Print what became of missing values and of categories that a model does not know."""
    schema = table.schema
    assert schema is not None
    filled = [column for column, levels in schema.levels.items() if MISSING_LEVEL in levels]
    if filled and schema.unknown == "error":
        log(f"missing values are a category of their own in {', '.join(filled)}")
        words = {word for column in filled for word in table.missing_words.get(column, ())}
        if words:
            shown = ", ".join(map(repr, sorted(words)))
            log(f"{shown} counted as missing there; {AS_VALUES.write(in_shell)}")
    if table.dropped:
        rows = table.dropped + (table.rows or 0)
        first = table.first_dropped
        if table.dropped == 1:
            log(f"1 of {counted(rows, 'row')} is left out: {first}")
        else:
            log(f"{table.dropped:,} of {rows:,} rows are left out; the first is {first}")
