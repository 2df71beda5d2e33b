"""Rows of a frame in memory, from any library, with text, categories and dates."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from minigd.backends.base import numbers
from minigd.backends.frames import table_of
from minigd.backends.on_demand import optional
from minigd.backends.workspace import Workspace
from minigd.data.sources.base import Pair, Rows
from minigd.data.sources.csv_parser import import_pandas
from minigd.data.sources.typed import NumberedTable, frame_of, rows_in
from minigd.data.tables.missing import Missing
from minigd.data.tables.precision import problem_of
from minigd.data.tables.remedy import TableError
from minigd.data.tables.schema import Encoded, Schema
from minigd.data.tables.selection import Selection
from minigd.errors import ShapeError, check_dtype, shown, validated
from minigd.types import Array

_PIECE = 65_536
"""Rows that are encoded at once, if read in order."""


class FrameSource(NumberedTable):
    """Rows of a frame, with columns of text, categories and dates.

    The frame is not copied: rows are encoded when they are needed, and must not change meanwhile.
    The same rows in a Parquet file give the same numbers.

    Parameters
    ----------
    frame : table
        A pandas or Polars frame, an Arrow table, a dict of columns, or anything else that narwhals
        accepts, such as a lazy Polars frame or a DuckDB relation. Their rows are computed once.
    target, features, exclude, missing, categories, min_count, hashed, dates, logs, leave_out, \
classes, schema, dtype
        As in `CsvSource`. Columns are named by text: ``"0"`` for a column 0.

    Attributes
    ----------
    rows, dropped, first_dropped, names, classes, schema, gaps, left_out
        As in `CsvSource`.

    Raises
    ------
    TypeError
        If it is not a table.
    DataError
        As for `CsvSource`, with the row instead of the line: a missing value, a column of lists, ….
    ImportError
        If pandas is missing, or narwhals if it is needed. The message says what to install.

    Notes
    -----
    Types decide what a cell is: a text such as NA is a value, and only a null is missing. True and
    false become 1 and 0, and durations become seconds. The index of a pandas frame is not a column;
    ``frame.reset_index()`` makes it one.

    Examples
    --------
    >>> import pandas as pd
    >>> frame = pd.DataFrame({"size": [1, 2, 3], "color": ["red", "blue", "red"], "y": [1, 2, 4]})
    >>> source = FrameSource(frame, target="y")
    >>> source.names, source.rows
    (['size', 'color=blue', 'color=red'], 3)
    >>> x, y = source.take([2, 0])
    >>> x.tolist(), y.tolist()
    ([[3.0, 0.0, 1.0], [1.0, 0.0, 1.0]], [4, 1])
    """

    @validated
    def __init__(
        self,
        frame: Any,
        target: str | Sequence[str] | None = None,
        *,
        features: Sequence[str] | None = None,
        exclude: Collection[str] | None = (),
        missing: Missing = "error",
        categories: Mapping[str, Sequence[Any] | None] | None = None,
        min_count: int | None = None,
        hashed: Mapping[str, int] | None = None,
        dates: Mapping[str, str] | None = None,
        logs: Collection[str] = (),
        leave_out: bool = False,
        classes: Sequence[Any] | None = None,
        schema: Schema | None = None,
        dtype: Any = "float32",
    ) -> None:
        dtype = check_dtype(dtype)
        selection = Selection.make(
            target, features, exclude, categories, classes, missing, min_count, hashed, dates,
            logs, leave_out, schema,
        )  # fmt: skip
        self._name = "the frame"
        table = frame_of(frame, self._name) if isinstance(frame, Mapping) else table_of(frame)
        if table is None:
            raise TypeError(
                f"frame must be a table with named columns, not {shown(frame)}: ArraySource takes "
                "arrays, and IterableSource takes pieces of rows"
            )
        self._arrow = not hasattr(table, "iloc")
        names = list(map(str, table.column_names if self._arrow else table.columns))
        # One column at a time: pandas would copy all columns to select some.
        columns = (
            table.columns if self._arrow else [table.iloc[:, j].array for j in range(len(names))]
        )
        self._series = dict(zip(names, columns, strict=True))
        self._whole = len(table)
        self._open_table(names, selection, schema, dtype)

    def _part(self, rows: Rows) -> Any:
        """Return some rows as a frame of pandas."""
        if not self._arrow:
            pandas = import_pandas()
            cells = {column: self._series[column][rows] for column in self._columns}
            # With a dtype, pandas does not inspect objects.
            some = {c: pandas.Series(v, dtype=v.dtype, copy=False) for c, v in cells.items()}
            return pandas.DataFrame(some, columns=self._columns, copy=False)
        arrow = optional("pyarrow", "an Arrow table")
        if isinstance(rows, slice):
            start, stop, _ = rows.indices(self._whole or 0)
            some = {c: self._series[c].slice(start, stop - start) for c in self._columns}
        else:
            some = {c: rows_in(self._series[c], rows, arrow) for c in self._columns}
        return frame_of(arrow.table(some), self._name)

    def _tables(self) -> Iterator[Any]:
        for start in range(0, self._whole or 0, _PIECE):
            yield self._part(slice(start, start + _PIECE))

    def _fetch(self, rows: Array) -> Any:
        return self._part(rows)

    # Targets that are not a column ---------------------------------------------------------------

    _targets: Array | None = None

    def set_targets(self, y: Array) -> None:
        """Attach targets of shape (rows,) or (rows, K) that are not a column of the frame."""
        if y.shape[:1] != (self._whole,):
            length = len(y) if y.ndim else "no"
            raise ShapeError(
                f"x has {self._whole} rows and y has {length}: each row of x needs one of y"
            )
        self._targets = numbers(y, "y")
        lost = {d: problem_of(y, "y", d) for d in ("float32", "float64")}
        self.target_problems = {d: str(TableError(*p)) for d, p in lost.items() if p is not None}

    def encoded(self) -> Iterator[Encoded]:
        """Return x, y, and which rows were not dropped (None for all), a piece at a time."""
        first = 0
        for x, y, kept in super().encoded():
            last = first + (len(x) if kept is None else len(kept))
            if self._targets is not None:
                y = self._targets[first:last] if kept is None else self._targets[first:last][kept]
            yield x, y, kept
            first = last

    def take(self, rows: Rows, workspace: Workspace | None = None) -> Pair:
        """Return x and y of some rows."""
        x, y = super().take(rows, workspace)
        return x, y if self._targets is None else self._targets[self._numbers(rows)]
