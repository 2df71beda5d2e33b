"""Rows of `.npy` files, which may be larger than memory."""

import copy
import os
from typing import Any

from minigd.backends.base import get_backend, numbers
from minigd.backends.workspace import Workspace
from minigd.data.sources.base import Pair, RandomAccess, Rows
from minigd.data.sources.file_kinds import check_kind
from minigd.data.sources.file_reads import ArrayFile
from minigd.errors import DataError, ShapeError, check_path
from minigd.storage.npy import read_header
from minigd.storage.regular_files import open_regular
from minigd.types import Array


class StoredRows(RandomAccess):
    """Rows of arrays on the host that may be read only when they are used.

    Attributes
    ----------
    x : Array or ArrayFile, shape (rows, width)
    y : Array, ArrayFile or None
        An array if it is in memory, or is kept there.
    """

    def __init__(self, x: Array | ArrayFile, y: Array | ArrayFile | None, name: str) -> None:
        self._x, self._y, self.name = x, y, name
        if x.ndim != 2 or 0 in x.shape:
            raise ShapeError(f"{name} has shape {x.shape}, but a table of rows is needed")
        if y is not None and (y.ndim == 0 or len(y) != len(x)):
            given = len(y) if y.ndim else "no"
            raise ShapeError(f"{name} has {len(x)} rows of x and {given} of y")
        for array, what in ((x, "x"), (y, "y")):
            if array is not None and array.dtype.kind not in "biuf":
                numbers(_rows(array, slice(0, 1)), f"{what} of {name}")
        self.rows, self.width = len(x), x.shape[1]
        if isinstance(x, ArrayFile):
            self.gather = x.gather
            self._chunk = self._chunk if x.is_held else min(self._chunk, x.piece)

    def for_part(self, in_order: bool) -> "StoredRows":
        """Return the same rows; rows in order are read each time, and not kept."""
        if not in_order or not isinstance(self._x, ArrayFile):
            return self
        other = copy.copy(self)
        other._x = self._x.in_runs()
        other._y = self._y.in_runs() if isinstance(self._y, ArrayFile) else self._y
        other.gather = other._x.gather
        return other

    @property
    def x(self) -> Any:
        """The table."""
        return _held(self._x)

    @property
    def y(self) -> Any:
        """The targets."""
        return None if self._y is None else _held(self._y)

    def origin(self, what: str, rows: Rows) -> tuple[str, Rows]:
        """Return what to call x or y in an error, with its file, and the numbers of its rows."""
        array = self._y if what == "y" else self._x
        path = array.path if isinstance(array, ArrayFile) else self.name
        return f"{os.fspath(path)}: {what}", rows

    def take(self, rows: Rows, workspace: Workspace | None = None) -> Pair:
        """Return x and y of some rows: read-only views, new arrays, or ones in the workspace."""
        return (
            _rows(self._x, rows, "x", workspace),
            None if self._y is None else _rows(self._y, rows, "y", workspace),
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name}: {self.rows} rows, {self.width} columns)"


class NpySource(StoredRows):
    """Rows of x, and of y, each from a `.npy` file that stays on the disk.

    Parameters
    ----------
    x : path
        Of an array of shape (rows, width).
    y : path, optional
        Of an array of shape (rows,) or (rows, K).

    Raises
    ------
    DataError, ShapeError
        If a file is not an array of numbers, if the two differ in length, or if a file has changed
        when rows are read.

    Notes
    -----
    An array of up to 256 MiB is kept in memory once it is read. From a larger array, or one in
    Fortran order, rows are read when they are needed, up to 64 MiB at once.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(folder + "/x.npy", np.arange(6.0).reshape(3, 2))
    ...     source = NpySource(folder + "/x.npy")
    ...     x, y = source.take(np.array([2, 0]))
    ...     x.tolist()
    [[4.0, 5.0], [0.0, 1.0]]
    """

    def __init__(self, x: str | os.PathLike[str], y: str | os.PathLike[str] | None = None) -> None:
        name = check_path("x", x)
        super().__init__(_map(name), None if y is None else _map(check_path("y", y)), name)


def _map(name: str) -> ArrayFile:
    check_kind(name, "array")
    with open_regular(name) as file:
        opened = os.fstat(file.fileno())
        try:
            header = read_header(file, opened.st_size)
        except ValueError as error:
            raise DataError(f"{name} is not a .npy file of numbers: {error}") from error
    return ArrayFile(name, header.offset, header.shape, header.dtype, header.fortran, opened)


def _held(array: Array | ArrayFile) -> Array | ArrayFile:
    return array.whole() if isinstance(array, ArrayFile) and array.is_held else array


def _rows(
    array: Array | ArrayFile, rows: Rows, name: str = "", workspace: Workspace | None = None
) -> Array:
    array = _held(array)
    if isinstance(rows, slice):
        return array.rows(rows) if isinstance(array, ArrayFile) else array[rows]
    if workspace is None:
        return array.rows(rows) if isinstance(array, ArrayFile) else _HOST.take(array, rows)
    shape = (len(rows), *array.shape[1:])
    out = workspace.empty(f"batch.{name}", shape, array.dtype, _HOST)
    if isinstance(array, ArrayFile):
        array.gather_into(out, rows)
        return out
    return _HOST.take(array, rows, out)


_HOST = get_backend("numpy")
