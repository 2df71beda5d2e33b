"""Parts of batches: of the rows of each, those that one of several processes works on.

The parts of a batch are cut by place alone, so that the rows of an epoch are the same, in the same
order, for any number of processes.
"""

from minigd.data.batches import Batch, Batches, Epoch
from minigd.data.sources.base import Rows
from minigd.types import Array


def share(n: int, rank: int, size: int) -> slice:
    """Return which of n rows belong to one of `size` processes.

    >>> [share(5, rank, 3) for rank in range(3)]
    [slice(0, 1, None), slice(1, 3, None), slice(3, 5, None)]
    """
    return slice(rank * n // size, (rank + 1) * n // size)


class BatchPart(Batch):
    """Some rows of a batch, next to each other in it."""

    _whole: Rows

    @classmethod
    def of(cls, x: Array, y: Array | None, rows: Rows, own: slice) -> "BatchPart":
        """Return the part whose rows have these places in a batch of rows with these numbers."""
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
        part._whole = self._whole
        return part


def _within(rows: slice, own: slice) -> slice:
    return slice(rows.start + own.start, rows.start + own.stop)


class PartOfBatches(Batches):
    """What `Batches.part` returns."""

    def __init__(self, batches: Batches, rank: int, size: int) -> None:
        vars(self).update(vars(batches))
        self._rank, self._parts = rank, size
        # A class that no row here is of may have rows in the other parts.
        self._unseen = set()

    def _ready(self, batches: Epoch, whole: bool = True) -> Epoch:
        return super()._ready(self._cut(batches), whole)

    def _cut(self, batches: Epoch) -> Epoch:
        for batch in batches:
            own = share(len(batch.x), self._rank, self._parts)
            y = None if batch.y is None else batch.y[own]
            yield BatchPart.of(batch.x[own], y, batch.rows, own)

    def __repr__(self) -> str:
        return f"part {self._rank} of {self._parts} of {super().__repr__()}"
