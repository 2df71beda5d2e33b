"""Rows from anything that can be iterated again and again: frames, dicts, tuples, Arrow batches.

A generator can be read once only; a function that makes one can be read in every epoch.
"""

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from minigd.backend import Array, numbers
from minigd.errors import DataError
from minigd.sources.base import Pair, Source
from minigd.sources.csv import _import_pandas
from minigd.sources.schema import BadValue, Schema, Selection, settle

_SAMPLED = 1000


class IterableSource(Source):
    """Rows from pieces that an iterable gives, one after the other.

    Parameters
    ----------
    pieces : iterable, or function that returns one
        Each piece is a tuple (x, y) or (x,) of arrays, or a table: a pandas frame, a dict of
        columns, a pyarrow batch or table. Read anew in every epoch, it must give the same rows.
    target, features, exclude, missing, categories, classes, dtype
        For tables, as `CsvSource`; a first pass settles what each column is.

    Raises
    ------
    DataError
        If a one-shot iterator, such as a generator, is read for a second time; if a piece is none
        of these, or has a value that a table must not have.

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

    def __init__(
        self,
        pieces: Iterable[Any] | Callable[[], Iterable[Any]],
        target: str | Sequence[str] | None = None,
        *,
        features: Sequence[str] | None = None,
        exclude: Collection[str] = (),
        missing: str | float = "error",
        categories: Mapping[str, Sequence[Any]] | None = None,
        classes: Sequence[Any] | None = None,
        dtype: Any = "float32",
        name: str = "the iterable",
    ) -> None:
        self._make = pieces if callable(pieces) else lambda: pieces
        self._name = name
        first = self._make()
        self._one_shot = iter(first) is first and not callable(pieces)
        self._used = False
        self._schema: Schema | None = None
        self.dropped = 0
        if self._one_shot:
            if target is not None:
                raise DataError(
                    f"{name} can be read only once, and a table needs a first pass to settle its "
                    "columns: pass a function that makes it, IterableSource(lambda: ...)"
                )
            return
        piece = next(iter(first), None)
        if piece is None:
            raise DataError(f"{name} gives no rows")
        if not isinstance(piece, tuple):
            frame = _frame(piece, name)
            columns = [str(c) for c in frame.columns]
            texts = [c for c in columns if not _is_number(frame[c])]
            selection = Selection(target, features, exclude, categories or {}, classes, missing)
            settled = settle(selection, columns, self._frames, name, dtype, texts)
            self._schema, self.rows, self.dropped = settled

    def _frames(self, text: Collection[str]) -> Iterator[Any]:
        for piece in self._make():
            frame = _frame(piece, self._name)
            for column in frame.columns:
                if not _is_number(frame[column]):
                    frame[column] = frame[column].astype(str).where(frame[column].notna(), None)
            yield frame

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
        if self.rows is not None and row != self.rows:
            raise DataError(f"{self._name} gave {self.rows} rows at first and now gives {row}")

    def _pairs(self) -> Iterator[Pair]:
        if self._schema is not None:
            row = 0
            for frame in self._frames(self._schema.texts):
                try:
                    x, y, _ = self._schema.encode(frame)
                except BadValue as problem:
                    raise DataError(f"{self._name}, row {row + problem.row}, {problem}") from None
                row += len(frame)
                yield x, y
            return
        for piece in self._make():
            if not isinstance(piece, tuple) or len(piece) not in (1, 2):
                raise DataError(f"{self._name} gives {type(piece).__name__}, not (x, y)")
            arrays = [numbers(np.asarray(array), "xy"[i]) for i, array in enumerate(piece)]
            if len(arrays) == 2 and len(arrays[0]) != len(arrays[1]):
                raise DataError(
                    f"{self._name} gives {len(arrays[0])} rows of x with {len(arrays[1])} of y"
                )
            yield arrays[0], arrays[1] if len(arrays) == 2 else None

    def fingerprint(self) -> dict[str, Any]:
        """Return the number of rows and a hash of the first ones."""
        if self._one_shot:
            return {"one_shot": True}
        digest = hashlib.sha256()
        left = _SAMPLED
        for x, y in self.chunks():
            for array in (x, y):
                if array is not None:
                    digest.update(np.ascontiguousarray(array[:left]).tobytes())
            left -= len(x)
            if left <= 0:
                break
        return {"rows": self.count(), "sha256": digest.hexdigest()}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._name}: {self.rows or 'uncounted'} rows)"


class ParquetSource(IterableSource):
    """Rows of Parquet files, a row group or a part of one at a time.

    Parameters
    ----------
    path : path, or a list of them
    target, features, exclude, missing, categories, classes, dtype
        As `CsvSource`.
    block_rows : int, default 65,536
        Rows read at a time; it changes nothing but speed and memory.

    Raises
    ------
    DataError
        As `CsvSource`, with the row in place of the line.
    ImportError
        If pyarrow is missing; it names the extra.
    """

    def __init__(
        self,
        path: Any,
        target: str | Sequence[str] | None = None,
        *,
        features: Sequence[str] | None = None,
        exclude: Collection[str] = (),
        missing: str | float = "error",
        categories: Mapping[str, Sequence[Any]] | None = None,
        classes: Sequence[Any] | None = None,
        dtype: Any = "float32",
        block_rows: int = 65_536,
    ) -> None:
        try:
            import pyarrow.lib
            from pyarrow import parquet
        except ImportError as error:
            raise ImportError(
                f"Parquet is read by pyarrow, which is not there ({error}): "
                "pip install 'minigd[data]'"
            ) from error
        paths = path if isinstance(path, list | tuple) else [path]

        def pieces() -> Iterator[Any]:
            for one in paths:
                try:
                    with parquet.ParquetFile(one) as file:
                        yield from file.iter_batches(batch_size=block_rows)
                except pyarrow.lib.ArrowInvalid as error:
                    raise DataError(f"{one} is no Parquet file: {error}") from error

        super().__init__(
            pieces,
            target,
            features=features,
            exclude=exclude,
            missing=missing,
            categories=categories,
            classes=classes,
            dtype=dtype,
            name=", ".join(str(one) for one in paths),
        )


def _frame(piece: Any, name: str) -> Any:
    pandas = _import_pandas()
    if hasattr(piece, "to_pandas"):
        piece = piece.to_pandas()
    if isinstance(piece, Mapping):
        piece = pandas.DataFrame(dict(piece))
    if not isinstance(piece, pandas.DataFrame):
        raise DataError(
            f"{name} gives {type(piece).__name__}; a piece is a tuple (x, y), a frame, a dict of "
            "columns or a pyarrow batch"
        )
    frame = piece.copy(deep=False)
    frame.columns = [str(column) for column in frame.columns]
    return frame


def _is_number(column: Any) -> bool:
    kind: Array = getattr(column.dtype, "kind", "O")
    return kind in ("b", "i", "u", "f")
