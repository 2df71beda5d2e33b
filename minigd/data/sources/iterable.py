"""Rows from anything that can be iterated again and again: frames, dicts, tuples, Arrow batches.

A generator can be read once only; a function that makes one can be read in every epoch.
"""

import datetime
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from numbers import Integral
from typing import Any

import numpy as np

from minigd.backends.base import get_backend, numbers
from minigd.backends.frames import MOST_EXACT, NUMBERS, column_kind
from minigd.data.sources.base import Pair
from minigd.data.sources.csv_parser import import_pandas
from minigd.data.sources.tabular import Tabular
from minigd.data.tables.column_problems import EXPAND
from minigd.data.tables.inference import apply_schema, infer_schema
from minigd.data.tables.missing import Missing
from minigd.data.tables.places import describe
from minigd.data.tables.remedy import Remedy, TableError
from minigd.data.tables.schema import (
    BadValue,
    ColumnKinds,
    Encoded,
    Schema,
    TextInNumbers,
)
from minigd.data.tables.selection import Selection, with_column
from minigd.errors import DataError, check_dtype, shown, validated
from minigd.progress import with_progress
from minigd.types import Array


class IterableSource(Tabular):
    """Rows from pieces that an iterable gives, one after the other.

    Parameters
    ----------
    pieces : iterable, or function that returns one
        Each piece is a tuple (x, y) or (x,) of arrays, or a table: a pandas frame, a dict of
        columns, a pyarrow batch or table. Read again in every epoch, it must give the same rows.
    target, features, exclude, missing, categories, min_count, hashed, dates, logs, leave_out, \
classes, schema, dtype
        For tables, as `CsvSource`; a first pass finds what each column is.

    Raises
    ------
    DataError
        If a one-shot iterator, such as a generator, is read for a second time; if a piece is of
        another type, or has a value that a table must not have.

    Examples
    --------
    >>> def pieces():
    ...     yield {"size": [1.0, 2.0], "price": [10.0, 20.0]}
    ...     yield {"size": [3.0], "price": [30.0]}
    >>> source = IterableSource(pieces, target="price")
    >>> source.rows
    3
    >>> [x.tolist() for x, y in source.chunks()]
    [[[1.0], [2.0]], [[3.0]]]
    """

    is_text = False
    _whole: int | None = None  # rows before any is dropped, where a file says so

    @validated
    def __init__(
        self,
        pieces: Iterable[Any] | Callable[[], Iterable[Any]],
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
        name: str = "the iterable",
    ) -> None:
        dtype = check_dtype(dtype)
        if not callable(pieces) and not isinstance(pieces, Iterable):
            raise TypeError(f"pieces must be an iterable or a function, not {shown(pieces)}")
        self._make = pieces if callable(pieces) else lambda: pieces
        self._name, self._follows = name, schema is not None
        self._used = False
        self._fingerprint: dict[str, Any] | None = None
        first = self._make()
        self._one_shot = iter(first) is first and not callable(pieces)
        if callable(pieces) and iter(first) is first and self._make() is first:
            raise DataError(
                f"the function for {name} returns the same iterator each time, which can be read "
                "only once: it must make a new one, IterableSource(lambda: make_it())"
            )
        if self._one_shot:
            if target is not None or schema is not None:
                raise DataError(
                    f"{name} can be read only once, and a table needs a first pass over its "
                    "columns: pass a function that makes it, IterableSource(lambda: ...)"
                )
            return
        piece = next(iter(first), None)
        if piece is None:
            raise DataError(f"{name} gives no rows")
        if not isinstance(piece, tuple):
            selection = Selection.make(
                target, features, exclude, categories, classes, missing, min_count, hashed, dates,
                logs, leave_out, schema,
            )  # fmt: skip
            self._open_table(_frame(piece, name), selection, schema, dtype)

    def _open_table(
        self, frame: Any, selection: Selection, schema: Schema | None, dtype: Any
    ) -> None:
        """Go through the pieces once, of which this frame is the first."""
        name, columns = self._name, list(frame.columns)
        self._all = columns
        chosen, targets = selection.resolve(columns, name)
        used = [c for c in columns if c in chosen or c in targets]
        kinds = {c: column_kind(frame[c]) for c in used}
        unusable = {c: _holds(odd) for c, (_, odd) in kinds.items() if odd is not None}
        self._columns = [c for c in used if schema is not None or c not in unusable]
        texts = [c for c, (kind, _) in kinds.items() if kind in _TEXTS]
        if schema is None:
            found = infer_schema(self, selection, columns, name, dtype, texts, unusable)
        else:
            found = apply_schema(schema, self, name)
        self._columns = [c for c in self._columns if c not in found.left_out]
        found.give_to(self, f"{name} has no rows")

    def frames(self, kinds: ColumnKinds) -> Iterator[Any]:
        """Return the pieces as frames, and show how far the pass over them is."""
        what = f"the first pass over {self._name}"
        return with_progress(self._frames(kinds), what, self._whole, rows=len)

    def _frames(self, kinds: ColumnKinds) -> Iterator[Any]:
        """Return the pieces as frames of the columns in use."""
        self._seen = 0
        for piece in self._make():
            frame = _frame(piece, self._name)
            lacking = [column for column in self._columns if column not in frame.columns]
            if lacking:
                raise DataError(
                    f"{self._name}: a piece has no column {lacking[0]!r}; its columns are "
                    f"{', '.join(frame.columns)}"
                )
            columns = {
                column: self._convert(frame[column], column, kinds) for column in self._columns
            }
            yield import_pandas().DataFrame(columns, columns=self._columns, copy=False)
            self._seen += len(frame)

    def _convert(self, values: Any, column: str, kinds: ColumnKinds) -> Any:
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
        # Categories may be numbers, and are text all the same.
        row = int(next((i for i, v in known.items() if not isinstance(v, NUMBERS)), known.index[0]))
        message = f"{self.where(row)}, column {column!r}: {values.iloc[row]!r} is not a number"
        raise TextInNumbers(message, column=column)

    def read_also(self, name: str) -> None:
        """Add a column to those of the frames."""
        self._columns = with_column(self._columns, name, self._all, self._name)

    def where(self, row: int) -> str:
        """Return where a row of the frame at hand is."""
        return f"{self._name}, row {self._seen + row}"

    def usual_words(self, column: str) -> Array | None:
        """Return None: a text is a value here, and never means a missing one."""
        return None

    def chunks(self, start: int = 0) -> Iterator[Pair]:
        """Return the rows from number `start` on, a piece at a time."""
        if self._one_shot and self._used:
            raise DataError(
                f"{self._name} is an iterator, which can be read only once, and this is the second "
                "time: pass a function that makes a new one, IterableSource(lambda: ...)"
            )
        self._used = True
        row = 0
        for x, y in self._pairs():
            skipped = min(max(start - row, 0), len(x))
            row += len(x)
            if skipped < len(x):
                yield x[skipped:], None if y is None else y[skipped:]
        if row == 0:
            raise DataError(f"{self._name} gives no rows")
        if self.rows is not None and row != self.rows:
            raise DataError(f"{self._name} gave {self.rows} rows at first and now gives {row}")

    def encoded(self) -> Iterator[Encoded]:
        """Return x, y, and which rows were not dropped (None for all), a piece at a time."""
        if self.schema is None:
            yield from ((x, y, None) for x, y in self._pairs())
            return
        for frame in self._frames(self.schema.kinds):
            try:
                yield self.schema.encode(frame)
            except BadValue as bad:
                raise describe(self, bad) from None

    def _pairs(self) -> Iterator[Pair]:
        if self.schema is not None:
            yield from ((x, y) for x, y, _ in self.encoded())
            return
        shapes = None
        for piece in self._make():
            if not isinstance(piece, tuple) or len(piece) not in (1, 2):
                raise DataError(f"{self._name} gives {type(piece).__name__}, not (x, y)")
            arrays = [
                numbers(get_backend("numpy").here(array, what), what)
                for what, array in zip("xy", piece, strict=False)
            ]
            if len(arrays) == 2 and len(arrays[0]) != len(arrays[1]):
                raise DataError(
                    f"{self._name} gives {len(arrays[0])} rows of x with {len(arrays[1])} of y"
                )
            found = [array.shape[1:] for array in arrays]
            shapes = shapes or found
            if arrays[0].ndim != 2 or found != shapes:
                raise DataError(
                    f"{self._name} gives arrays of shapes {[a.shape for a in arrays]}: x must be "
                    f"a table, and rows must have the shapes {shapes} of the first piece"
                )
            yield arrays[0], arrays[1] if len(arrays) == 2 else None

    def fingerprint(self) -> dict[str, Any]:
        """Return the number of rows and a checksum of x and of y, computed once."""
        if self._one_shot:
            return {"one_shot": True}
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


def _frame(piece: Any, name: str) -> Any:
    """Return a piece as a frame whose columns have the names that the table gives them."""
    pandas = import_pandas()
    if hasattr(piece, "to_pandas"):
        arrow = hasattr(piece, "schema") and hasattr(piece.schema, "metadata")
        # Whole numbers with gaps among them would lose digits as floats.
        piece = piece.to_pandas(integer_object_nulls=True) if arrow else piece.to_pandas()
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
    """Return words about a column with a value that no schema takes."""
    shown = repr(value) if len(repr(value)) <= 60 else f"{value!r:.57}..."
    what = "list" if isinstance(value, np.ndarray) else type(value).__name__
    return f"holds values of type {what}, such as {shown}"


def _as_numbers(column: Any) -> Any:
    """Return a column as numbers of NumPy, NaN where one is missing.

    Truth values become 0 and 1, and durations seconds. Whole numbers with gaps that float64 can't
    hold become Python's, and None.
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
    """Return a number as a float, NaN for None, and infinite where it is beyond all of them."""
    try:
        return np.nan if value is None else float(value)
    except OverflowError:
        return np.inf if value > 0 else -np.inf


def _as_text(column: Any) -> Any:
    """Return a column as text, in which 1.0 is written as 1, and missing values as None."""
    absent = column.isna()
    texts = [
        None if missing else str(int(v)) if isinstance(v, float) and v.is_integer() else str(v)
        for v, missing in zip(column.tolist(), absent, strict=True)
    ]
    return import_pandas().Series(texts, dtype=object)
