"""Rows of `.npy` files, as memory maps: the file may be larger than memory."""

import os
from typing import Literal

import numpy as np

from minigd.backends.base import get_backend, numbers
from minigd.backends.workspace import Workspace
from minigd.data.sources.base import Pair, RandomAccess, Rows
from minigd.data.sources.file_kinds import check_kind
from minigd.errors import DataError, ShapeError, check_path
from minigd.storage.npy import read_header
from minigd.storage.regular_files import open_regular
from minigd.types import Array


class MappedRows(RandomAccess):
    """Rows of arrays on the host that are not read until they are used.

    Attributes
    ----------
    x : array, shape (rows, width)
    y : array or None
    """

    def __init__(self, x: Array, y: Array | None, name: str) -> None:
        self.x, self.y, self.name = x, y, name
        if x.ndim != 2 or 0 in x.shape:
            raise ShapeError(f"{name} has shape {x.shape}, and a table of rows is needed")
        if y is not None and (y.ndim == 0 or len(y) != len(x)):
            given = len(y) if y.ndim else "no"
            raise ShapeError(f"{name} has {len(x)} rows of x and {given} of y")
        for array, what in ((x, "x"), (y, "y")):
            if array is not None:
                numbers(array, f"{what} of {name}")
        self.rows = len(x)

    def take(self, rows: Rows, workspace: Workspace | None = None) -> Pair:
        """Return x and y of some rows: views for a slice, else fresh, or in the workspace."""
        return (
            _rows(self.x, rows, "x", workspace),
            None if self.y is None else _rows(self.y, rows, "y", workspace),
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name}: {self.rows} rows, {self.x.shape[1]} columns)"


class NpySource(MappedRows):
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
        If a file is not an array of numbers, or the two differ in length.

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
        super().__init__(_map(x), None if y is None else _map(y), os.fspath(x))


def _map(path: str | os.PathLike[str]) -> Array:
    name = check_path("path", path)
    check_kind(name, "array")
    with open_regular(name) as file:
        try:
            header = read_header(file, os.fstat(file.fileno()).st_size)
        except ValueError as error:
            raise DataError(f"{name} is not a .npy file of numbers: {error}") from error
        if header.nbytes == 0:
            return np.zeros(header.shape, header.dtype)  # nothing of it can be mapped
        order: Literal["C", "F"] = "F" if header.fortran else "C"
        array = np.memmap(file, header.dtype, "r", header.offset, header.shape, order)
    # The file is read only, and a plain array on top of it takes half the time of `numpy.memmap`.
    return array.view(np.ndarray)


def _rows(array: Array, rows: Rows, name: str, workspace: Workspace | None) -> Array:
    if isinstance(rows, slice):
        return array[rows]
    host = get_backend("numpy")
    if workspace is None:
        return host.take(array, rows)
    shape = (len(rows), *array.shape[1:])
    return host.take(array, rows, workspace.empty(f"batch.{name}", shape, array.dtype, host))
