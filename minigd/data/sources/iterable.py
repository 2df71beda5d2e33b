"""Rows from anything that can be iterated repeatedly: frames, dicts, tuples, Arrow batches.

A generator can be read only once; a function that returns one can be read in every epoch.
"""

import contextlib
import inspect
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from minigd.backends.base import get_backend, numbers
from minigd.backends.frames import is_table
from minigd.data.sources.base import Pair
from minigd.data.sources.csv_parser import import_pandas
from minigd.data.sources.typed import TypedTable, frame_of
from minigd.data.tables.missing import Missing
from minigd.data.tables.schema import Encoded, Schema
from minigd.data.tables.selection import Selection
from minigd.errors import DataError, check_dtype, shown, validated
from minigd.types import Array

_ROWS = 1024
"""Single rows that are collected in one piece."""


class IterableSource(TypedTable):
    """Rows from the pieces of an iterable, one after another.

    Parameters
    ----------
    pieces : iterable, or function that returns one
        Each piece is a tuple or list (x, y) or (x,) of arrays, or a table: a frame, a dict of
        columns, an Arrow table. A single row is a piece too: a dict of values, or a tuple of a row
        and its target. So are the items of a PyTorch ``Dataset``, and the batches of a
        ``DataLoader``. The iterable is read in every epoch, and must give the same rows each time.
    target, features, exclude, missing, categories, min_count, hashed, dates, logs, leave_out, \
classes, schema, dtype
        For tables, as in `CsvSource`; a first pass finds the type of each column.

    Raises
    ------
    DataError
        If a one-shot iterator, such as a generator, is read for a second time; or if a piece has
        another type, or an invalid value.

    Notes
    -----
    A function is called once for each pass over the rows, including the first pass over a table. At
    the end of the pass, the returned object is closed if it has a ``close`` method.

    Examples
    --------
    >>> def pieces():
    ...     yield {"size": [1.0, 2.0], "price": [10.0, 20.0]}
    ...     yield {"size": 3.0, "price": 30.0}
    >>> source = IterableSource(pieces, target="price")
    >>> source.rows
    3
    >>> [x.tolist() for x, y in source.chunks()]
    [[[1.0], [2.0]], [[3.0]]]
    """

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
        self._name, self._is_table = name, False
        self._passes = _Passes(pieces, name)
        self.one_shot = self._passes.one_shot
        if self.one_shot:
            if target is not None or schema is not None:
                raise DataError(
                    f"{name} can be read only once, but a table needs a first pass over its "
                    "columns: pass a function that makes it, IterableSource(lambda: ...)"
                )
            return
        piece = self._passes.peek()
        self._is_table = not _is_pair(piece[0])
        if self._is_table:
            selection = Selection.make(
                target, features, exclude, categories, classes, missing, min_count, hashed, dates,
                logs, leave_out, schema,
            )  # fmt: skip
            self._first = next(self._tables_of(piece))
            self._known = list(self._first.columns)
            self._open_table(self._known, selection, schema, dtype)
            self._first = None

    # Tables ----------------------------------------------------------------------------------

    _known: list[str] | None = None
    """The columns of the first piece."""

    def _first_table(self) -> Any:
        return self._first

    def _tables(self) -> Iterator[Any]:
        with self._passes.begin() as pieces:
            yield from self._tables_of(pieces)

    def _tables_of(self, pieces: Iterable[Any]) -> Iterator[Any]:
        """Return pieces as frames; single rows are put together."""
        for some in _together(pieces, _is_record):
            if not _is_record(some[0]) and not isinstance(some[0], list):
                yield frame_of(some[0], self._name)
                continue
            records = some if _is_record(some[0]) else some[0]
            if not all(isinstance(record, Mapping) for record in records):
                yield frame_of(records, self._name)  # this refuses it
            yield self._frame_of_records(records)

    def _frame_of_records(self, records: Sequence[Mapping[Any, Any]]) -> Any:
        values = [{str(k): _single(v) for k, v in record.items()} for record in records]
        # As objects, whole numbers keep their digits next to a missing one.
        frame = import_pandas().DataFrame(values, dtype=object)
        known = list(frame.columns) if self._known is None else self._known
        new = [column for column in frame.columns if column not in known]
        if new:
            raise DataError(
                f"{self._name}: a row has a column {new[0]!r} that the first rows lack: "
                "let the first row have all columns, None where it has no value"
            )
        return frame.reindex(columns=known)

    # Pairs -----------------------------------------------------------------------------------

    def _pairs(self) -> Iterator[Pair]:
        if self._is_table:
            yield from super()._pairs()
            return
        shapes = None
        with self._passes.begin() as pieces:
            for some in _together(pieces, _is_row):
                arrays = self._arrays(some)
                if len(arrays) == 2 and arrays[0].shape[:1] != arrays[1].shape[:1]:
                    rows = [a.shape[0] if a.ndim else "no" for a in arrays]
                    raise DataError(f"{self._name} gives {rows[0]} rows of x with {rows[1]} of y")
                found = [array.shape[1:] for array in arrays]
                shapes = shapes or found
                if arrays[0].ndim != 2 or found != shapes:
                    raise DataError(
                        f"{self._name} gives arrays of shapes {[a.shape for a in arrays]}: x must "
                        f"be a table, and rows must have the shapes {shapes} of the first piece"
                    )
                yield arrays[0], arrays[1] if len(arrays) == 2 else None

    def _arrays(self, some: list[Any]) -> list[Array]:
        """Return x, and y if there is one, of a piece, or of single rows."""
        piece = some[0]
        if isinstance(piece, tuple) and isinstance(next(iter(piece), None), Mapping):
            raise DataError(
                f"{self._name} gives a tuple of a dict: put the target into the dict, and name the "
                "target, IterableSource(..., target='y')"
            )
        if not _is_pair(piece) or len(piece) not in (1, 2):
            raise DataError(f"{self._name} gives {type(piece).__name__}, not (x, y)")
        here = get_backend("numpy").here
        if not _is_row(piece):
            pairs = zip("xy", piece, strict=False)
            return [numbers(here(array, what), what) for what, array in pairs]
        rows = [numbers(here(row[0], "x"), "x") for row in some]
        widths = sorted({len(row) for row in rows})
        if len(widths) > 1:
            raise DataError(f"{self._name} gives rows of {widths[0]} and of {widths[-1]} numbers")
        targets = [_single(row[1]) for row in some if len(row) == 2]
        if len(targets) not in (0, len(rows)):
            raise DataError(f"{self._name} gives rows with a target and rows without one")
        return [np.stack(rows), *([numbers(here(targets, "y"), "y")] if targets else [])]

    def chunks(self, start: int = 0) -> Iterator[Pair]:
        """Return the rows from number `start` on, a piece at a time."""
        self._passes.check()
        return super().chunks(start)

    def encoded(self) -> Iterator[Encoded]:
        """Return x, y, and which rows were not dropped (None for all), a piece at a time."""
        if self._is_table:
            return super().encoded()
        return ((x, y, None) for x, y in self._pairs())

    def settle(self, comm: Any) -> None:
        """Do what `Source.settle` does, if the rows can be read again."""
        if not self._passes.one_shot:
            super().settle(comm)

    def fingerprint(self) -> dict[str, Any]:
        """Return the number of rows and a checksum of x and of y, computed once."""
        return {"one_shot": True} if self.one_shot else super().fingerprint()


# Pieces -------------------------------------------------------------------------------------------


def gives_pieces(x: Any) -> bool:
    """Tell whether x is an iterable of pieces, not one array of rows.

    >>> gives_pieces(iter([])), gives_pieces([{"a": 1.0}]), gives_pieces([[1.0]])
    (True, True, False)
    >>> gives_pieces([(np.ones((2, 1)), np.ones(2))]), gives_pieces(np.ones((2, 1)))
    (True, False)
    """
    if isinstance(x, str | bytes) or hasattr(x, "__array__") or hasattr(x, "tocsr"):
        return False
    if isinstance(x, list | tuple):
        first: Any = x[0] if x else None
        pair = _is_pair(first) and _dimensions(first[0]) in (1, 2)
        return isinstance(first, Mapping) or is_table(first) or pair
    return isinstance(x, Iterable) or inspect.isfunction(x) or _is_numbered(x)


def _is_numbered(x: Any) -> bool:
    return not isinstance(x, type) and hasattr(x, "__getitem__") and hasattr(x, "__len__")


def _dimensions(x: Any) -> int | None:
    """Return the number of dimensions of an array or a list; None if it has none."""
    shape = getattr(x, "shape", None)
    if shape is not None:
        return len(shape)
    try:
        return int(np.ndim(x))
    except (TypeError, ValueError):
        return None


def _is_pair(piece: Any) -> bool:
    """Tell whether a piece means (x, y) or (x,), even as a list of arrays or as a row."""
    if isinstance(piece, list):
        return len(piece) > 0 and (hasattr(piece[0], "shape") or _is_labeled(piece))
    return isinstance(piece, tuple)


def _is_labeled(piece: Any) -> bool:
    """Tell whether a piece is a row and its target."""
    return len(piece) == 2 and _dimensions(piece[0]) == 1 and _dimensions(piece[1]) == 0


def _is_row(piece: Any) -> bool:
    """Tell whether a piece is a row, with or without its target."""
    alone = _is_pair(piece) and len(piece) == 1 and _dimensions(piece[0]) == 1
    return alone or (_is_pair(piece) and _is_labeled(piece))


def _is_record(piece: Any) -> bool:
    """Tell whether a piece is a row as a dict of values."""
    values = piece.values() if isinstance(piece, Mapping) else ()
    return len(values) > 0 and all(isinstance(v, str) or _dimensions(v) == 0 for v in values)


def _single(value: Any) -> Any:
    """Return a single value; an array without dimensions becomes a Python number."""
    return value.item() if hasattr(value, "item") and _dimensions(value) == 0 else value


def _together(pieces: Iterable[Any], is_single: Callable[[Any], bool]) -> Iterator[list[Any]]:
    """Return each piece alone, and up to `_ROWS` consecutive single rows together."""
    rows: list[Any] = []
    for piece in pieces:
        if is_single(piece):
            rows.append(piece)
            if len(rows) < _ROWS:
                continue
        if rows:
            yield rows
            rows = []
        if not is_single(piece):
            yield [piece]
    if rows:
        yield rows


# Passes -------------------------------------------------------------------------------------------


class _Pass(NamedTuple):
    """A pass that has begun: the next pieces, and what to close at its end."""

    pieces: Iterator[Any]
    opened: Sequence[Any]


class _Passes:
    """The passes over an iterable; pieces that were peeked at belong to the next pass.

    Attributes
    ----------
    one_shot : bool
        Whether it is an iterator, which can be read only once.
    """

    def __init__(self, given: Any, name: str) -> None:
        if is_table(given) or isinstance(given, Mapping):
            raise TypeError(
                f"pieces must be an iterable of tables, but {type(given).__name__} is one table: "
                "use FrameSource(table, target=...)"
            )
        if isinstance(given, str | bytes) or not (
            isinstance(given, Iterable) or callable(given) or _is_numbered(given)
        ):
            raise TypeError(f"pieces must be an iterable or a function, not {shown(given)}")
        self._given, self._name = given, name
        self.one_shot = isinstance(given, Iterator)
        self._used = False
        self._begun: list[_Pass] = []
        if callable(given) and not isinstance(given, Iterable):
            _check_function(given, name)

    def peek(self) -> list[Any]:
        """Return the first piece, or the first single rows, of the next pass."""
        begun = self._begun.pop() if self._begun else self._make()
        some: list[Any] = []
        for piece in begun.pieces:
            some.append(piece)
            if not _is_record(piece) or len(some) == _ROWS:
                break
        if not some:
            _close(begun)
            raise DataError(f"{self._name} gives no rows")
        self._begun.append(_Pass(chain(some, begun.pieces), begun.opened))
        return some

    def check(self) -> None:
        """Refuse a second pass over what can be read only once."""
        if self.one_shot and self._used:
            raise DataError(
                f"{self._name} is an iterator, which can be read only once, and this is the second "
                "time: pass a function that makes a new one, IterableSource(lambda: ...)"
            )

    @contextlib.contextmanager
    def begin(self) -> Iterator[Iterator[Any]]:
        """Begin a pass, and close what was opened for it at its end."""
        self.check()
        self._used = True
        begun = self._begun.pop() if self._begun else self._make()
        try:
            yield begun.pieces
        finally:
            _close(begun)

    def _make(self) -> _Pass:
        given = self._given
        if isinstance(given, Iterable):
            pieces = iter(given)
            return _Pass(pieces, [] if pieces is given else [pieces])
        if not callable(given):
            return _Pass((given[i] for i in range(len(given))), [])
        made = given()
        # An object without other references can't be returned again.
        held = isinstance(made, Iterator) and sys.getrefcount(made) > 2
        if held and (again := given()) is made:
            raise DataError(
                f"the function for {self._name} returns the same iterator each time, which can be "
                "read only once: it must make a new one, IterableSource(lambda: make_it())"
            )
        if held:
            self._begun.append(self._pass_over(again))
        return self._pass_over(made)

    def _pass_over(self, made: Any) -> _Pass:
        if not isinstance(made, Iterable):
            raise TypeError(
                f"the function for {self._name} returned {shown(made)}: it must return an iterable "
                "of pieces"
            )
        pieces = iter(made)
        return _Pass(pieces, [pieces] if pieces is made else [pieces, made])


def _close(begun: _Pass) -> None:
    for opened in begun.opened:
        close = getattr(opened, "close", None)
        if callable(close):
            close()


def _check_function(given: Any, name: str) -> None:
    try:
        inspect.signature(given).bind()
    except ValueError:
        return  # a C function without a signature
    except TypeError as error:
        raise TypeError(
            f"the function for {name} is called without arguments, but needs some ({error}): "
            "IterableSource(lambda: make_it(...))"
        ) from None
