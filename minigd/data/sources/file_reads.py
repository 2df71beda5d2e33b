"""Reading bytes from places in a file, without mapping it.

A mapped file that is cut short kills the process that reads it, and its pages count as memory of
the process. Here a file that changes is an error, and only requested rows take memory.
"""

import contextlib
import math
import os
import threading
from collections.abc import Iterator
from io import BufferedReader
from typing import Any, BinaryIO

import numpy as np

from minigd.errors import DataError
from minigd.storage.atomic_files import naming
from minigd.storage.regular_files import open_regular
from minigd.types import Array

GAP = 1 << 13
"""Bytes that can be read in the time of one more call: rows this close are read together."""
PIECE = 1 << 20
"""Bytes read at once if rows are close together."""
HELD = 256 << 20
"""Bytes of the longest array that is kept in memory once it is read, which is fastest."""
_GATHERED, _GATHERED_HELD = 64 << 20, 1 << 16  # bytes of rows fetched at once
_NUMBERS = 40  # bytes of memory for each row while its place in the file is computed

_holding = threading.Lock()


class CutShort(Exception):
    """A file ends before the requested bytes."""


def read_pieces(file: Any, begins: list[int], ends: list[int]) -> list[bytes]:
    """Return pieces of a file, each from its place; other readers of the file do not interfere."""
    places = zip(begins, ends, strict=True)
    if _PREAD is not None and hasattr(file, "fileno"):
        descriptor = file.fileno()
        pieces = [_PREAD(descriptor, end - begin, begin) for begin, end in places]
    else:
        pieces = [_read_there(file, begin, end) for begin, end in places]
    for i, piece in enumerate(pieces):
        missing = ends[i] - begins[i] - len(piece)
        if missing and not piece:
            raise CutShort
        if missing:
            pieces[i] += read_pieces(file, [ends[i] - missing], [ends[i]])[0]
    return pieces


# Windows has none.
_PREAD, _PREADV = getattr(os, "pread", None), getattr(os, "preadv", None)


def _read_there(file: BinaryIO, begin: int, end: int) -> bytes:
    file.seek(begin)
    return file.read(end - begin)


def _bytes(array: Array) -> memoryview:
    """Return the bytes of a contiguous array."""
    own: memoryview = array.reshape(-1).view(np.uint8).data
    return own


def _read_into(file: BufferedReader, offset: int, left: memoryview) -> None:
    """Fill bytes of memory with those from a place of a file."""
    while len(left):
        if _PREADV is not None:
            read = _PREADV(file.fileno(), (left,), offset)
        else:
            file.seek(offset)
            read = file.readinto(left)
        if not read:
            raise CutShort
        left, offset = left[read:], offset + read


def _read_apart(
    file: BufferedReader, target: memoryview, begins: list[int], offsets: list[int], width: int
) -> None:
    """Read pieces of one width from their places in a file to their places in memory."""
    descriptor = file.fileno()
    for begin, offset in zip(begins, offsets, strict=True):
        piece = target[begin : begin + width]
        # Mostly one call of the system, which takes less than a call of Python around it.
        if _PREADV is None or _PREADV(descriptor, (piece,), offset) != width:
            _read_into(file, offset, piece)


class ArrayFile:
    """An array in a file; its rows are read when they are used.

    Attributes
    ----------
    shape, dtype, ndim, nbytes
        As those of the array.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        offset: int,
        shape: tuple[int, ...],
        dtype: Any,
        fortran: bool = False,
        opened: os.stat_result | None = None,
    ) -> None:
        self.path, self.offset, self.shape = path, offset, tuple(map(int, shape))
        self.dtype = np.dtype(dtype)
        self.ndim = len(self.shape)
        # An array of one dimension, or one column, has only one order.
        self.fortran = fortran and self.ndim > 1
        self.nbytes: int = math.prod(self.shape) * self.dtype.itemsize
        rows = self.shape[0] if self.ndim else 1
        self._row_bytes: int = max(1, self.nbytes // max(1, rows))
        self._opened = os.stat(path) if opened is None else opened
        self._array: Array | None = None

    def __len__(self) -> int:
        return self.shape[0]

    def __reduce__(self) -> Any:
        arguments = self.path, self.offset, self.shape, self.dtype, self.fortran, self._opened
        return type(self), arguments

    @property
    def is_held(self) -> bool:
        """Whether the array is kept in memory; an array in Fortran order never is."""
        return self.nbytes <= HELD and not self.fortran and not self._in_runs

    _in_runs = False

    def in_runs(self) -> "ArrayFile":
        """Return the same array for rows that are read in order, in runs, and not kept."""
        other = object.__new__(type(self))
        vars(other).update(vars(self))
        other._in_runs = True
        return other

    @property
    def gather(self) -> int:
        """How many rows to take at once."""
        if self.is_held:
            return self._rows_in(_GATHERED_HELD)
        return min(self._rows_in(_GATHERED), _GATHERED // _NUMBERS)

    @property
    def piece(self) -> int:
        """How many consecutive rows to read at once."""
        return self._rows_in(PIECE)

    def _rows_in(self, most: int) -> int:
        # In Fortran order, each gather reads the whole file, without keeping it.
        most = min(most, max(self.nbytes // 32, 1 << 14)) if self.fortran else most
        return max(1, most // self._row_bytes)

    def whole(self) -> Array:
        """Return the array in memory, which can't be written."""
        with _holding:
            if self._array is None:
                with self._reading() as file:
                    array = np.empty(self.shape, self.dtype)
                    _read_into(file, self.offset, _bytes(array))
                array.flags.writeable = False
                self._array = array
            else:
                self._check(os.stat(self.path))
        return self._array

    def rows(self, rows: slice | Array) -> Array:
        """Return some rows, read from the file."""
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            if step == 1:
                with self._reading() as file:
                    return self._range(file, start, max(start, stop))
            rows = np.arange(start, stop, step)
        index = np.asarray(rows, dtype=np.int64)
        index = np.where(index < 0, index + len(self), index)
        if len(index) and not 0 <= index.min() <= index.max() < len(self):
            raise IndexError(f"row {rows} was requested, but there are {len(self)} rows")
        out = np.empty((len(index), *self.shape[1:]), self.dtype)
        self.gather_into(out, index)
        return out

    def gather_into(self, out: Array, index: Array) -> None:
        """Read the rows with these numbers into `out`, one piece of the file after another."""
        if self._in_runs:
            self._read_runs(out, index)
            return
        pieces = index // self.piece
        # Integers with few bits are sorted fastest.
        narrow = pieces.astype(np.min_scalar_type(len(self) // self.piece))
        order = np.argsort(narrow, kind="stable")
        wanted = index[order]
        begin, ends = 0, (np.flatnonzero(np.diff(pieces[order])) + 1).tolist()
        with self._reading() as file:
            for end in [*ends, len(order)] if len(order) else []:
                self._gather_near(file, out, order[begin:end], wanted[begin:end])
                begin = end

    def _read_runs(self, out: Array, index: Array) -> None:
        """Read rows whose numbers are in order; rows that are close together are read at once."""
        width = self.dtype.itemsize if self.fortran else self._row_bytes
        apart = (np.diff(index) - 1) * width > GAP
        apart |= np.diff(index // self.piece) != 0
        begin, ends = 0, (np.flatnonzero(apart) + 1).tolist()
        with self._reading() as file:
            for end in [*ends, len(index)] if len(index) else []:
                rows = index[begin:end]
                first, last = int(rows[0]), int(rows[-1]) + 1
                out[begin:end] = np.take(self._range(file, first, last), rows - first, axis=0)
                begin = end

    def _gather_near(self, file: BufferedReader, out: Array, places: Array, rows: Array) -> None:
        """Read rows within one piece of the file, all together or one by one."""
        first, last = int(rows.min()), int(rows.max()) + 1
        width = self.dtype.itemsize if self.fortran else self._row_bytes
        if self.fortran or (last - first) * width <= len(rows) * (width + GAP):
            out[places] = np.take(self._range(file, first, last), rows - first, axis=0)
            return
        offsets = (rows * width + self.offset).tolist()
        _read_apart(file, _bytes(out), (places * width).tolist(), offsets, width)

    def _range(self, file: BufferedReader, start: int, stop: int) -> Array:
        n, size = stop - start, self.dtype.itemsize
        if not self.fortran:
            array = np.empty((n, *self.shape[1:]), self.dtype)
            _read_into(file, self.offset + start * self._row_bytes, _bytes(array))
            return array
        columns = np.empty((math.prod(self.shape[1:]), n), self.dtype)
        for i, column in enumerate(columns):
            _read_into(file, self.offset + (i * len(self) + start) * size, _bytes(column))
        return columns.reshape(*self.shape[:0:-1], n).T

    @contextlib.contextmanager
    def _reading(self) -> Iterator[BufferedReader]:
        """Open the file, and refuse one that has changed before or while it is read."""
        with naming(self.path), open_regular(self.path) as file:
            self._check(os.fstat(file.fileno()))
            try:
                yield file
            except CutShort:
                raise changed(self.path) from None
            self._check(os.fstat(file.fileno()))

    def _check(self, now: os.stat_result) -> None:
        if _stamp(now) != _stamp(self._opened):
            raise changed(self.path)

    @property
    def flags(self) -> Any:
        """As those of the array."""
        order: Any = "F" if self.fortran else "C"
        return np.empty((2,) * self.ndim, self.dtype, order=order).flags


def changed(path: Any, source: str = "source") -> DataError:
    """Return the error for a file that is not the one that was opened."""
    return DataError(
        f"{os.fspath(path)} has changed since it was opened: open it again with a new {source}"
    )


def _stamp(now: os.stat_result) -> tuple[int, ...]:
    """Return what an edit of a file changes; a link or new permissions are not an edit."""
    return now.st_size, now.st_mtime_ns, now.st_ino
