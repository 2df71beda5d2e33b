"""Rows from arrays in memory, which are not copied but gathered batch by batch."""

import copy
from typing import Any

import numpy as np

from minigd.backends.base import Backend, backend_of, numbers
from minigd.backends.frames import by_rows, check_rows_alike, names_of
from minigd.backends.workspace import Workspace
from minigd.data.row_weights import check_weights, counting_rows, take_rows
from minigd.data.sources.base import Pair, RandomAccess, Rows
from minigd.errors import DataError, ShapeError
from minigd.types import Array

_GATHERED = 65_536
"""Bytes of x that are gathered at once: they stay in the cache until their batch is used."""


class ArraySource(RandomAccess):
    """Rows of x and y in memory, on the host or on a GPU.

    Parameters
    ----------
    x : array-like, shape (rows, width)
        Real numbers without NaN and infinity: a NumPy or CuPy array, a pandas frame of numbers, a
        SciPy sparse matrix (each batch is made dense), a list of lists. An array is not copied.
    y : array-like, shape (rows,) or (rows, K), optional
        Of the same kinds, or a pandas series.
    weight : array-like, shape (rows,), optional
        How much each row counts. A row of weight 0 may hold any numbers.

    Attributes
    ----------
    rows : int
    x : Array
    y : Array or None
    weight : Array or None
        float64, on the host.
    backend : Backend
        Where x and y are.

    Raises
    ------
    ShapeError
        If x and y differ in length, or x is not a table.
    DataError
        If there are no rows, or x or y holds text, NaN or infinity.

    Examples
    --------
    >>> source = ArraySource([[1.0, 2.0], [3.0, 4.0]], [0, 1])
    >>> source.rows
    2
    >>> source.take(slice(1, 2))
    (array([[3., 4.]]), array([1]))
    """

    checked = True
    in_memory = True

    def __init__(self, x: Any, y: Any = None, weight: Any = None) -> None:
        check_rows_alike(x, y, weight)
        self.names = names_of(x)
        self.backend: Backend = backend_of(x)
        self.sparse = hasattr(x, "tocsr")
        self.x = x.tocsr() if self.sparse else self.backend.here(x, "x")
        self.y: Array | None = None if y is None else self.backend.here(y, "y")
        shape = self.x.shape
        if len(shape) != 2 or 0 in shape or (self.y is not None and self.y.shape[:1] != shape[:1]):
            raise _shape_error(shape, self.y)
        self.rows = shape[0]
        self.gather = max(1, _GATHERED // (shape[1] * self.x.dtype.itemsize))
        self.weight = None if weight is None else check_weights(weight, self.rows)
        if self.sparse:
            self._check_sparse()
        else:
            self._check(self.x, "x")
        if self.y is not None:
            self._check(self.y, "y")

    def _check(self, array: Array, what: str) -> None:
        """Refuse what is not a number, and a number that is not finite in a row that counts."""
        if not self.backend.all_finite(numbers(array, what)):
            rows = counting_rows(self.weight)
            self.backend.check_finite(take_rows(array, rows), what, rows)

    def _check_sparse(self) -> None:
        """Refuse the same in a sparse x, made dense one row at a time."""
        bad = np.flatnonzero(~np.isfinite(numbers(self.x.data, "x")))
        for row in np.unique(np.searchsorted(self.x.indptr, bad, side="right") - 1):
            if self.weight is None or self.weight[row] > 0:
                self.backend.check_finite(self.x[[row]].toarray(), "x", slice(row, row + 1))

    def take(self, rows: Rows, workspace: Workspace | None = None) -> Pair:
        """Return x and y of some rows: views for a slice, otherwise new, or in the workspace."""
        y = None if self.y is None else self._take(self.y, rows, "y", workspace)
        return self._take(self.x, rows, "x", workspace), y

    @property
    def nbytes(self) -> int:
        """The bytes of x and y."""
        return sum(int(a.nbytes) for a in (self.x, self.y) if a is not None)

    def on(self, backend: Backend) -> "ArraySource":
        """Return the same rows on another backend, as they are now."""
        moved = copy.copy(self)
        moved.backend = backend
        moved.x = backend.asarray(by_rows(self.x))
        moved.y = None if self.y is None else backend.asarray(by_rows(self.y))
        return moved

    def by_rows(self) -> "ArraySource":
        """Return the same rows, each contiguous in memory: these, or a copy as they are now."""
        if self.sparse or not self.backend.reads_are_free:
            return self
        moved = copy.copy(self)
        moved.x, moved.y = by_rows(self.x), None if self.y is None else by_rows(self.y)
        return self if moved.x is self.x and moved.y is self.y else moved

    def order(self, rows: Array) -> Array:
        """Return row numbers on the device of the rows, copied there once."""
        return self.backend.asarray(rows)

    def __repr__(self) -> str:
        return f"ArraySource({self.rows} rows, {self.x.shape[1]} columns)"

    def _take(self, array: Array, rows: Rows, name: str, workspace: Workspace | None) -> Array:
        if self.sparse and array is self.x:
            return array[rows].toarray()
        if isinstance(rows, slice):
            return array[rows]
        index = rows if self.backend.holds(rows) else self.backend.asarray(rows)
        if workspace is None:
            return self.backend.take(array, index)
        shape = (len(rows), *array.shape[1:])
        out = workspace.empty(f"batch.{name}", shape, array.dtype, self.backend)
        return self.backend.take(array, index, out)


def _shape_error(shape: tuple[int, ...], y: Array | None) -> DataError:
    """Return the error for an x that is not a table, or is empty, or a y of another length."""
    if len(shape) != 2:
        hint = ": x.reshape(-1, 1) makes a column of it" if len(shape) == 1 else ""
        return ShapeError(f"x has shape {shape}, but a table of rows is needed{hint}")
    if 0 in shape:
        return DataError(f"x has shape {shape}: there is nothing to train on")
    length = len(y) if y is not None and y.ndim else "no"
    return ShapeError(f"x has {shape[0]} rows and y has {length}: each row of x needs one of y")
