"""Parts of batches: the rows of each batch that one of several processes works on.

A batch is cut by position only. The rows of an epoch and their order are therefore the same for any
number of processes.
"""

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from minigd.backends.workspace import Workspace
from minigd.data.batches import Batch, Batches, Epoch
from minigd.data.sources.base import Rows, Source
from minigd.progress import warn
from minigd.types import Array


def share(n: int, rank: int, size: int) -> slice:
    """Return which of n rows belong to one of `size` processes.

    >>> [share(5, rank, 3) for rank in range(3)]
    [slice(0, 1, None), slice(1, 3, None), slice(3, 5, None)]
    """
    return slice(rank * n // size, (rank + 1) * n // size)


class BatchPart(Batch):
    """Some consecutive rows of a batch."""

    _whole: Rows
    checksum: int = 0
    """Of the whole batch, if it was read whole: other processes may have read other rows."""

    @classmethod
    def of(cls, x: Array, y: Array | None, rows: Rows, own: slice) -> "BatchPart":
        """Return the part `own` of a batch whose rows have these numbers."""
        where = rows[own] if not isinstance(rows, slice) else _within(rows, own)
        part = cls(x, y, where)
        part._whole = rows
        return part

    @property
    def whole(self) -> Rows:
        """The numbers of the rows of the whole batch."""
        return self._whole

    def weighed(self, weight: Array) -> Batch:
        """Return the same rows with weights."""
        part = BatchPart(self.x, self.y, self.rows, weight)
        part._whole, part.checksum = self._whole, self.checksum
        return part


def _within(rows: slice, own: slice) -> slice:
    return slice(rows.start + own.start, rows.start + own.stop)


class PartOfBatches(Batches):
    """What `Batches.part` returns.

    If rows can be fetched by number, only those of this part are read. Otherwise all rows are read
    in order, and cut.
    """

    def __init__(self, batches: Batches, rank: int, size: int) -> None:
        vars(self).update(vars(batches))
        self._rank, self._parts = rank, size
        # A class without rows here may have rows in other parts.
        self._unseen = set()
        remedy = self.source.to_read_parts
        if remedy and rank == 0:
            warn(
                f"{self.source!r} can't be read in parts: each of the {size} processes reads all "
                f"of it and keeps its own rows, so reading is no faster than in one; {remedy}",
                stacklevel=4,
            )

    def _own(self, n: int) -> slice:
        return share(n, self._rank, self._parts)

    def _in_order(self, start: int, workspace: Workspace | None) -> Epoch:
        if not self.source.random_access:
            return self._cut(super()._in_order(start, workspace))
        return self._fetched(None, start, workspace)

    def _permuted(self, epoch: int, start: int, workspace: Workspace | None) -> Epoch:
        return self._fetched(self.order(epoch), start, workspace)

    def _buffered(self, epoch: int, start: int) -> Epoch:
        return self._cut(super()._buffered(epoch, start))

    def _without_tail(self, batches: Epoch) -> Epoch:
        size = self._size()
        return (batch for batch in batches if count(batch.whole) == size)

    def _cut(self, batches: Epoch) -> Epoch:
        for batch in batches:
            own = self._own(len(batch.x))
            y = None if batch.y is None else batch.y[own]
            part = BatchPart.of(batch.x[own], y, batch.rows, own)
            part.checksum = _checksum(batch.x, batch.y)
            yield part

    def _fetched(self, order: Array | None, start: int, workspace: Workspace | None) -> Epoch:
        """Yield this part of each batch from number `start` on, read for many batches at once."""
        source = self.source.for_part(in_order=order is None)
        size, n = self._size(), source.count()
        # A view of rows in memory costs nothing.
        alone = order is None and source.in_memory
        many = size if alone else max(1, source.gather * self._parts // size) * size
        for first in range(start * size, n, many):
            places = [slice(k, min(k + size, n)) for k in range(first, min(first + many, n), size)]
            owns = [self._own(place.stop - place.start) for place in places]
            wanted = [_within(place, own) for place, own in zip(places, owns, strict=True)]
            x, y = source.take(_joined(source, wanted, order), workspace)
            at = 0
            for place, own in zip(places, owns, strict=True):
                some = slice(at, at + own.stop - own.start)
                at = some.stop
                rows = place if order is None else order[place]
                yield BatchPart.of(x[some], None if y is None else y[some], rows, own)

    def __repr__(self) -> str:
        return f"part {self._rank} of {self._parts} of {super().__repr__()}"


def _checksum(*arrays: Any) -> int:
    """Return a checksum of some numbers, those of a sparse matrix that are not 0."""
    found = 0
    for array in arrays:
        numbers = array if isinstance(array, np.ndarray | None) else array.data
        if numbers is not None and numbers.dtype.kind != "O":
            found = zlib.adler32(numbers.tobytes(), found)
    return found


def count(rows: Rows) -> int:
    """Return how many rows these are."""
    return rows.stop - rows.start if isinstance(rows, slice) else len(rows)


def _joined(source: Source, places: Sequence[slice], order: Array | None) -> Rows:
    """Return the row numbers at some places of an order, as `source` expects them."""
    if order is not None:
        return source.order(np.concatenate([order[place] for place in places]))
    if len(places) == 1:
        return places[0]
    return np.concatenate([np.arange(place.start, place.stop) for place in places])
