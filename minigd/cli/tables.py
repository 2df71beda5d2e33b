"""Tables from other programs: CSV, Parquet or `.npy`, opened for training or for a model.

A schema says what the columns of a table become, in any file format and in any order.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from minigd.cli.messages import counted, in_shell, option
from minigd.cli.table_files import TableFiles, table_files
from minigd.data.sources.csv import CsvSource
from minigd.data.sources.csv_layout import example_names
from minigd.data.sources.csv_stream import CsvStream, Once
from minigd.data.sources.iterable import IterableSource
from minigd.data.sources.npy import NpySource
from minigd.data.sources.parquet import ParquetSource
from minigd.data.sources.typed import TypedTable
from minigd.data.tables.missing import Missing, policy_of
from minigd.data.tables.places import AS_VALUES
from minigd.data.tables.precision import WIDER_MODEL, Rounding
from minigd.data.tables.remedy import Remedy, TableError
from minigd.data.tables.schema import MissingColumn, Schema
from minigd.errors import DataError, ShapeError
from minigd.progress import log, with_progress
from minigd.types import Array

Task: TypeAlias = Literal["classification", "regression"]
Table: TypeAlias = CsvSource | TypedTable

MOST_CLASSES = 20
"""A target of whole numbers with more different values than this is a quantity by default."""

_PIECE = 8192  # rows of a `.npy` file read at a time


class Reading(NamedTuple):
    """How a file is written, if the file itself does not show that.

    Attributes
    ----------
    columns : tuple of str, optional
        Names of the columns of a file without a header; by default 0, 1, … for a `.npy` file.
    header : bool, default True
        Whether a CSV has a header; otherwise the columns are named 1, 2, ….
    separator : str, default ","
        One character, or "blanks" for runs of blanks and tabs.
    na : tuple of str
        Texts that mean a missing value.
    skip_lines : int, default 0
        Lines at the top that are neither header nor rows.
    strip : str
        Characters taken off the end of texts.
    keep_default_na : bool, default True
        Whether the usual texts, such as NA, mean a missing value too.
    decimal, thousands : str, default "." and ""
        Marks of numbers.
    encoding : str, default "utf-8"
    comment : str
        How comment lines begin.
    compression : str or None, default "infer"
    """

    columns: tuple[str, ...] | None = None
    header: bool = True
    separator: str = ","
    na: tuple[str, ...] = ()
    skip_lines: int = 0
    strip: str = ""
    keep_default_na: bool = True
    decimal: str = "."
    thousands: str = ""
    encoding: str = "utf-8"
    comment: str = ""
    compression: str | None = "infer"


USUAL = Reading()


class Columns(NamedTuple):
    """What columns become, if that does not follow from their content; see `CsvSource`.

    Attributes
    ----------
    missing : str, float or dict, default "flag"
        A row whose target is missing is always left out.
    categories : tuple of str
        Columns of numbers that are categories.
    min_count : int, optional
    hashed : dict of str to int
    dates : dict of str to str
    logs : tuple of str
    """

    missing: Missing = "flag"
    categories: tuple[str, ...] = ()
    min_count: int | None = None
    hashed: Mapping[str, int] = {}
    dates: Mapping[str, str] = {}
    logs: tuple[str, ...] = ()

    def options(self, target: str | None) -> dict[str, Any]:
        """Return the arguments of a source."""
        given = self.missing if isinstance(self.missing, Mapping) else {"*": self.missing}
        missing = {"*": "flag", **given, **({} if target is None else {target: "drop"})}
        categories = dict.fromkeys(self.categories)
        return {**self._asdict(), "missing": missing, "categories": categories, "leave_out": True}


AS_FOUND = Columns()


def open_table(
    data: Any,
    reading: Reading = USUAL,
    target: str | None = None,
    exclude: Collection[str] = (),
    schema: Schema | None = None,
    columns: Columns = AS_FOUND,
) -> Table:
    r"""Return the rows of a file, or of several, by the ending of their names.

    They are ``.parquet``, ``.npy`` (the target may be the path of another ``.npy`` file, which
    holds y), or otherwise a CSV, packed or not. A pattern, a folder, a list or a `TableFiles` means
    several files. With the schema of a model's training table, columns are found by name. A row
    with a missing number or an unknown category is then left out and counted.

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
    table = table_files(data)
    if schema is None:
        given = (name for name in Reading._fields if getattr(reading, name) != getattr(USUAL, name))
        check_reading(table, given)
    path, is_array = str(table), table.kind == "npy"
    beside = target if is_array and target is not None and target.endswith(".npy") else None
    named = target if beside is None else name_of(beside)
    if named is not None and named in exclude:
        raise DataError(
            f"the target {named!r} is among the columns to leave out: remove it from --exclude, or "
            "name another target"
        )
    chosen: dict[str, Any] = {"schema": schema}
    if schema is None:
        chosen = {"target": named, "exclude": exclude, **columns.options(named)}
    if table.kind == "parquet":
        return ParquetSource(table.files, **chosen)
    if is_array:
        pieces = _Pieces(path, reading.columns, beside)
        try:
            return IterableSource(pieces, name=path, **chosen)
        except MissingColumn as error:
            if reading.columns is None:
                options = {"columns": example_names(len(pieces.names))}
                error.args += (Remedy("name its columns with {}", options),)
            raise
    kind = CsvStream if isinstance(table.files[0], Once) else CsvSource
    return kind(table.files, **reading._asdict(), **chosen)


def open_for_training(
    data: Any,
    reading: Reading,
    target: str,
    exclude: Collection[str],
    task: Task | None,
    columns: Columns = AS_FOUND,
) -> tuple[Table, Task, Schema]:
    """Return the rows of a file, the task, and the schema with the classes, and print all three."""
    data = table_files(data)
    data.report()
    table = open_table(data, reading, target, exclude, columns=columns)
    report_columns(table)
    rows: Any = table.unfilled()
    task, schema, why = choose_task(rows, task)
    if schema.classes != rows.schema.classes:
        table = open_table(data, reading, target, schema=schema)
    log(f"{task} of {schema.targets[0]!r}, {why}")
    return table, task, schema


def check_reading(table: TableFiles, given: Iterable[str]) -> None:
    """Refuse options about how a CSV is written if the file is not a CSV."""
    for name in given:
        if table.kind == "parquet" or (table.kind == "npy" and name != "columns"):
            raise DataError(
                f"{option(name)} says how a CSV is written, but {table} is not a CSV: leave it out"
            )


class _Pieces:
    """The rows of `.npy` files as frames, a piece at a time."""

    def __init__(self, path: str, columns: tuple[str, ...] | None, beside: str | None) -> None:
        source = NpySource(path, beside)
        width = source.width
        names = [str(i) for i in range(width)] if columns is None else list(columns)
        if len(names) != width:
            raise ShapeError(
                f"{path} has {counted(width, 'column')}, but "
                f"{counted(len(names), 'name')} {'was' if len(names) == 1 else 'were'} given"
            )
        self.source, self.names, self.beside = source, names, beside

    def __call__(self) -> Iterator[dict[str, Array]]:
        for x, y in self.source.chunks():
            columns = dict(zip(self.names, x.T, strict=True))
            yield columns if y is None else {**columns, name_of(self.beside): y}


def name_of(path: str | None) -> str:
    """Return the name of the column in a `.npy` file."""
    return Path(path or "").stem


def choose_task(table: Table, task: Task | None = None) -> tuple[Task, Schema, str]:
    """Decide between classification and regression, and number the classes.

    Text means classes, and so do whole numbers with few different values; other numbers are
    quantities.

    Return the task, the schema with the classes in it, and why, in words. A target that is the same
    in every row is refused, even if only the conversion to the schema's dtype makes it so.
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
                f"the target {target!r} holds fractions, but classes are text or whole numbers"
            )
        schema = schema.replace(classes=found)
        why = f"which holds {len(found)} different whole numbers"
        why += "; if it is a quantity, pass --task regression" if task is None else ""
    classes = schema.classes or []
    if len(classes) < 2:
        raise _nothing_to_learn(target, classes[0])
    return "classification", schema, why


def _check_quantity(table: Table, schema: Schema) -> None:
    """Refuse a target with one value, or with whole numbers that become one in a float dtype."""
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


def report_columns(table: Table) -> None:
    """Print what happened to missing values, unknown categories, and columns left out."""
    schema = table.unfilled().schema
    for suspicion in table.suspicions:
        log(suspicion.write(in_shell))
    for column, why in table.left_out.items():
        log(f"column {column!r} is left out: it {why}")
    if table.gaps:
        shown = ", ".join(f"{column} {count:,}" for column, count in table.gaps.items())
        log(f"missing values: {shown}; {_filling(schema, table.gaps)}")
        words = {word for column in table.gaps for word in table.missing_words.get(column, ())}
        if words and schema.unknown == "error":
            listed = ", ".join(map(repr, sorted(words)))
            log(f"{listed} counted as missing there; {AS_VALUES.write(in_shell)}")
    for column, count in table.unknown.items():
        known = counted(len(schema.levels[column]), "level")
        verb, counts = ("is", "counts") if count == 1 else ("are", "count")
        values = counted(count, "value")
        log(f"{values} of {column!r} {verb} not among its {known}, and {counts} as other")
    if table.dropped:
        rows = table.dropped + (table.rows or 0)
        first = table.first_dropped
        if table.dropped == 1:
            log(f"1 of {counted(rows, 'row')} is left out: {first}")
        else:
            log(f"{table.dropped:,} of {rows:,} rows are left out; the first is {first}")


def _filling(schema: Schema, gaps: Collection[str]) -> str:
    """Return a text about what replaces missing values."""
    policies = {column: policy_of(schema.missing, column) for column in gaps}
    numbers = {policies[c] for c in gaps if c not in schema.levels and c not in schema.hashed}
    words = {
        "mean": "the mean",
        "median": "the median",
        "flag": "the mean, and a column that marks them",
    }
    parts = [f"a missing number is {words.get(str(p), str(p))}" for p in sorted(numbers, key=str)]
    if set(gaps) & {*schema.levels, *schema.hashed}:
        parts.append("a missing category has its own level")
    return ", ".join(parts)
