"""Tables whose columns have types: frames, dicts, Arrow tables, Parquet files.

A column of numbers stays one, whatever it would look like in a text file. A missing value is a
null. All of these tables are read as pandas frames, a piece at a time.
"""

import datetime
import zlib
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from numbers import Integral
from typing import Any

import numpy as np

from minigd.backends.frames import MOST_EXACT, NUMBERS, column_kind, table_of
from minigd.backends.workspace import Workspace
from minigd.data.sources.base import Pair, RandomAccess, Rows
from minigd.data.sources.csv_parser import import_pandas
from minigd.data.sources.tabular import Tabular
from minigd.data.tables.applied import apply_schema
from minigd.data.tables.column_problems import EXPAND
from minigd.data.tables.inference import infer_schema
from minigd.data.tables.places import describe
from minigd.data.tables.remedy import Remedy, TableError
from minigd.data.tables.schema import BadValue, ColumnKinds, Encoded, Schema, TextInNumbers
from minigd.data.tables.selection import Selection, with_column
from minigd.errors import DataError
from minigd.progress import with_progress
from minigd.types import Array

_GATHERED = 32 << 20  # bytes of x fetched at once, at most
_MOST_GATHERED = 16_384  # rows of a table in memory fetched at once, at most


class TypedTable(Tabular):
    """Rows of a table that comes in frames, one after the other."""

    is_text = False
    _name: str
    _columns: list[str]
    """The columns that are read."""
    _all: Sequence[str]
    _whole: int | None = None  # rows before any is dropped, if known
    _follows: bool
    """Whether the schema is that of another table."""
    _fingerprint: dict[str, Any] | None = None

    def _tables(self) -> Iterator[Any]:
        """Return the frames of all rows, which have the columns in use and maybe others."""
        raise NotImplementedError

    def _first_table(self) -> Any:
        """Return the first frame, with all columns in use."""
        for frame in self._tables():
            return frame
        raise self._no_rows()

    def _no_rows(self) -> DataError:
        return DataError(f"{self._name} gives no rows")

    def _open_table(
        self, columns: Sequence[str], selection: Selection, schema: Schema | None, dtype: Any
    ) -> None:
        """Read the table, which has these columns, once."""
        name, self._all = self._name, columns
        chosen, targets = selection.resolve(columns, name)
        self._columns = used = [c for c in columns if c in chosen or c in targets]
        first = self._first_table()
        kinds = {c: column_kind(first[c]) for c in used if c in first}
        unusable = {c: _holds(odd) for c, (_, odd) in kinds.items() if odd is not None}
        self._follows = schema is not None
        self._columns = [c for c in used if schema is not None or c not in unusable]
        texts = [c for c, (kind, _) in kinds.items() if kind in _TEXTS]
        if schema is None:
            found = infer_schema(self, selection, columns, name, dtype, texts, unusable)
        else:
            found = apply_schema(schema, self, name)
        self._columns = [c for c in self._columns if c not in found.left_out]
        found.give_to(self, f"{name} has no rows")

    def frames(self, kinds: ColumnKinds) -> Iterator[Any]:
        """Return the table's frames, and show the progress of the pass."""
        what = f"the first pass over {self._name}"
        return with_progress(self._frames(kinds), what, self._whole, rows=len)

    def _frames(self, kinds: ColumnKinds) -> Iterator[Any]:
        """Return the table's frames of the columns in use, as numbers and texts."""
        self._seen = 0
        for frame in self._tables():
            yield self._read(frame, kinds, range(self._seen, self._seen + len(frame)))
            self._seen += len(frame)

    def _read(self, frame: Any, kinds: ColumnKinds, rows: Sequence[int] | Array) -> Any:
        """Return the columns in use of a frame, whose rows have these numbers."""
        lacking = [column for column in self._columns if column not in frame.columns]
        if lacking:
            raise DataError(
                f"{self._name}: a piece has no column {lacking[0]!r}; its columns are "
                f"{', '.join(frame.columns)}"
            )
        columns = {c: self._convert(frame[c], c, kinds, rows) for c in self._columns}
        return import_pandas().DataFrame(columns, columns=self._columns, copy=False)

    def _convert(
        self, values: Any, column: str, kinds: ColumnKinds, rows: Sequence[int] | Array
    ) -> Any:
        """Return a column as numbers or as texts."""
        kind, odd = column_kind(values)
        if odd is not None:
            remedies = [EXPAND]
            if not self._follows:
                remedies.append(Remedy("leave the column out with {}", {"exclude": [column]}))
            raise TableError(f"{self._name}: column {column!r} {_holds(odd)}", *remedies)
        if column in kinds.texts:
            return _as_text(values)
        known = values.dropna()
        if kind not in _TEXTS or known.empty:
            return _as_numbers(values)
        # Categories become text, even if they are numbers.
        row = int(next((i for i, v in known.items() if not isinstance(v, NUMBERS)), known.index[0]))
        where = f"{self._name}, row {rows[row]}"
        message = f"{where}, column {column!r}: {values.iloc[row]!r} is not a number"
        raise TextInNumbers(message, column=column)

    def read_also(self, name: str) -> None:
        """Add a column to those that are read."""
        self._columns = with_column(self._columns, name, self._all, self._name)

    def where(self, row: int) -> str:
        """Return the place of a row of the current frame."""
        return f"{self._name}, row {self._seen + row}"

    def usual_words(self, column: str) -> Array | None:
        """Return None: a text is a value here, and never means a missing one."""
        return None

    def encoded(self) -> Iterator[Encoded]:
        """Return x, y, and which rows were not dropped (None for all), a piece at a time."""
        for frame in self._frames(self.schema.kinds):
            try:
                yield self.schema.encode(frame)
            except BadValue as bad:
                raise describe(self, bad) from None

    def _pairs(self) -> Iterator[Pair]:
        """Return x and y of all rows, a piece at a time."""
        return ((x, y) for x, y, _ in self.encoded())

    def chunks(self, start: int = 0) -> Iterator[Pair]:
        """Return the rows from number `start` on, a piece at a time."""
        row = 0
        for x, y in self._pairs():
            skipped = min(max(start - row, 0), len(x))
            row += len(x)
            if skipped < len(x):
                yield x[skipped:], None if y is None else y[skipped:]
        if row == 0:
            raise self._no_rows()
        if self.rows is not None and row != self.rows:
            raise DataError(f"{self._name} gave {self.rows} rows at first and now gives {row}")

    def fingerprint(self) -> dict[str, Any]:
        """Return the number of rows and a checksum of x and of y, computed once."""
        if self._fingerprint is None:
            sums, rows = [0, 0], 0
            for pair in with_progress(self.chunks(), f"a fingerprint of {self._name}", self.rows):
                rows += len(pair[0])
                for i, array in enumerate(pair):
                    if array is not None:
                        sums[i] = zlib.adler32(np.ascontiguousarray(array).data.cast("B"), sums[i])
            self.rows = rows
            self._fingerprint = {"rows": rows, "checksums": sums}
        return self._fingerprint

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._name}: {self.rows or 'uncounted'} rows)"


class NumberedTable(TypedTable, RandomAccess):
    """A table whose rows can be fetched by number."""

    _kept: Array | None = None
    """The numbers, among all rows, of those that are not dropped."""

    def _fetch(self, rows: Array) -> Any:
        """Return the frame of rows with these numbers, which are in order."""
        raise NotImplementedError

    @property
    def _reads_all(self) -> bool:
        """Whether fetching a few rows takes as long as fetching many."""
        return False

    def _open_table(
        self, columns: Sequence[str], selection: Selection, schema: Schema | None, dtype: Any
    ) -> None:
        super()._open_table(columns, selection, schema, dtype)
        self.gather = self._most_gathered()

    def _most_gathered(self) -> int:
        """Return how many rows it is worth taking at once."""
        most: int = _GATHERED // (self._schema.dtype.itemsize * len(self._schema.names))
        return max(1, most if self._reads_all else min(most, _MOST_GATHERED))

    def chunks(self, start: int = 0) -> Iterator[Pair]:
        """Return the rows from number `start` on, a piece at a time."""
        return TypedTable.chunks(self, start)

    def fingerprint(self) -> dict[str, Any]:
        """Return the number of rows and a checksum of x and of y, computed once."""
        return TypedTable.fingerprint(self)

    def _numbers(self, rows: Rows) -> Array:
        """Return the numbers, among all rows, of some kept rows."""
        if isinstance(rows, slice):
            index = np.arange(*rows.indices(self.rows))
        else:
            # As in any array, -1 is the last row, and a number beyond it is an error.
            index = np.asarray(rows, dtype=np.int64)
            index = np.where(index < 0, index + self.rows, index)
            if len(index) and not 0 <= index.min() <= index.max() < self.rows:
                raise IndexError(f"row {rows} was requested, but there are {self.rows} rows")
        if self.dropped and self._kept is None:
            masks = [np.ones(len(x), bool) if k is None else k for x, _, k in self.encoded()]
            self._kept = np.flatnonzero(np.concatenate(masks))
        return index if self._kept is None else self._kept[index]

    def take(self, rows: Rows, workspace: Workspace | None = None) -> Pair:
        """Return x and y of some rows."""
        numbers, schema = self._numbers(rows), self.schema
        if len(numbers) == 0:
            x, y = self.take(slice(0, 1))
            return x[:0], None if y is None else y[:0]
        order = np.argsort(numbers, kind="stable")
        wanted = numbers[order]
        frame = self._read(self._fetch(wanted), schema.kinds, wanted)
        try:
            x, y, _ = schema.encode(frame)
        except BadValue as bad:
            bad.row = int(wanted[bad.row])
            self._seen = 0
            raise describe(self, bad) from None
        if (wanted[1:] > wanted[:-1]).all() and (order[1:] > order[:-1]).all():
            return x, y
        back = np.argsort(order)
        return x[back], None if y is None else y[back]

    def places(self, rows: Array) -> list[str]:
        """Return the number of each row, counting dropped rows too."""
        return [f"row {row}" for row in self._numbers(np.asarray(rows)).tolist()]


# Frames -------------------------------------------------------------------------------------------


def rows_in(column: Any, rows: Array, arrow: Any) -> Any:
    """Return some rows, in order, of a column of Arrow; `take` would first copy all its chunks."""
    ends = np.cumsum([len(chunk) for chunk in column.chunks])
    places = [0, *np.searchsorted(rows, ends).tolist()]
    parts = [
        chunk.take(arrow.array(rows[begin:end] - (stop - len(chunk))))
        for chunk, stop, begin, end in zip(
            column.chunks, ends.tolist(), places, places[1:], strict=False
        )
        if begin < end
    ]
    return arrow.chunked_array(parts, column.type)


def frame_of(piece: Any, name: str) -> Any:
    """Return a piece as a frame whose columns have the names that the table gives them."""
    pandas = import_pandas()
    table = table_of(piece)
    piece = piece if table is None else table
    if hasattr(piece, "column_names"):
        # Whole numbers with gaps among them would lose digits as floats.
        piece = piece.to_pandas(integer_object_nulls=True)
    if isinstance(piece, Mapping):
        try:
            piece = pandas.DataFrame(dict(piece))
        except ValueError as error:
            raise DataError(
                f"{name} gives a dict that is not a table ({error}): its columns must be lists or "
                "arrays of one dimension and one length"
            ) from error
    if not isinstance(piece, pandas.DataFrame):
        raise DataError(
            f"{name} gives {type(piece).__name__}; a piece is a tuple (x, y), a frame, a dict of "
            "columns or a pyarrow batch"
        )
    frame = piece.reset_index(drop=True)
    frame.columns = [str(column) for column in frame.columns]
    return frame


_TEXTS = ("text", "time")
"""Kinds of columns that are read as text."""


def _holds(value: Any) -> str:
    """Return words about a column with a value that no schema accepts."""
    shown = repr(value) if len(repr(value)) <= 60 else f"{value!r:.57}..."
    what = "list" if isinstance(value, np.ndarray) else type(value).__name__
    return f"holds values of type {what}, such as {shown}"


def _as_numbers(column: Any) -> Any:
    """Return a column as NumPy numbers, NaN where one is missing.

    Booleans become 0 and 1, and durations become seconds. Whole numbers with gaps that float64
    can't hold become Python integers and None.
    """
    kind = column.dtype.kind
    if kind in "bf" and isinstance(column.dtype, np.dtype):
        return column.astype(np.result_type(column.dtype, np.uint8 if kind == "b" else np.float32))
    if kind in "iu" and not column.isna().any():
        return import_pandas().Series(column.to_numpy(np.int64 if kind == "i" else np.uint64))
    if kind == "m":
        return column.dt.total_seconds()
    values = [
        None if missing else value for value, missing in zip(column, column.isna(), strict=True)
    ]
    values = [v.total_seconds() if isinstance(v, datetime.timedelta) else v for v in values]
    floats = np.array([_as_float(v) for v in values], dtype=np.float64)
    if not np.isinf(floats).any() and (abs(floats) >= MOST_EXACT).any():
        known = [v for v in values if v is not None]
        if all(isinstance(v, Integral | Decimal) for v in known):
            exact = [None if v is None else int(v) if v == int(v) else v for v in values]
            floats = np.array(exact, dtype=object)
    return import_pandas().Series(floats)


def _as_float(value: Any) -> float:
    """Return a number as a float, NaN for None, and infinity if it is too large."""
    try:
        return np.nan if value is None else float(value)
    except OverflowError:
        return np.inf if value > 0 else -np.inf


def _as_text(column: Any) -> Any:
    """Return a column as text, with 1 for 1.0, and None for missing values."""
    absent = column.isna()
    texts = [
        None if missing else str(int(v)) if isinstance(v, float) and v.is_integer() else str(v)
        for v, missing in zip(column.tolist(), absent, strict=True)
    ]
    return import_pandas().Series(texts, dtype=object)
