"""An epoch of rows in memory, cut into chunks of batches that compiled steps make in one go.

Progress and Ctrl-C come between two chunks, of some fifty milliseconds each.
"""

from collections.abc import Iterator

import numpy as np

from minigd.data.batches import Batches
from minigd.data.sources.array import ArraySource
from minigd.types import Array

SECONDS = 0.05
"""How long a chunk takes at most, unless one block of batches takes longer."""

ROWS, PRODUCTS = 16_384, 200_000_000
"""Rows of a block at most, and multiplications: loss and metrics are summed block by block."""


class Chunks:
    """The batches of an epoch, in the order of their rows.

    Blocks begin at the same batches whatever the clock says, so that sums have the same bits; a
    chunk is as many of them as fit in `SECONDS`.

    Parameters
    ----------
    batches : Batches
        Of arrays in memory, without weights.
    epoch : int
    products : int
        Multiplications for each row.

    Attributes
    ----------
    starts : Array of int
        Where in `order` each batch begins, and where the last one ends.
    order : Array of int
        The numbers of the rows.
    """

    def __init__(self, batches: Batches, epoch: int, products: int) -> None:
        assert isinstance(batches.source, ArraySource)
        assert batches.source.y is not None
        self.x: Array = batches.source.x
        self.y: Array = batches.source.y
        order = batches.order(epoch)
        self.order: Array = np.arange(batches.source.rows) if order is None else order
        size = batches.batch_size or batches.source.rows
        self.starts: Array = np.minimum(np.arange(len(batches) + 1) * size, batches.source.rows)
        rows = min(ROWS, PRODUCTS // max(1, products))
        self._block = max(1, rows // int(self.starts[1]))
        self._blocks = 1

    def __len__(self) -> int:
        return len(self.starts) - 1

    def end(self, batch: int) -> int:
        """Return the batch before which a chunk that begins with this one ends."""
        whole = batch // self._block * self._block
        return min(len(self), whole + self._blocks * self._block)

    def blocks(self, first: int, end: int) -> Iterator[slice]:
        """Yield the batches of each block of a chunk."""
        while first < end:
            stop = min(end, (first // self._block + 1) * self._block)
            yield slice(first, stop)
            first = stop

    def took(self, seconds: float) -> None:
        """Make the next chunks longer or shorter, by how long the last one took."""
        if seconds < SECONDS / 4:
            self._blocks *= 2
        elif seconds > SECONDS and self._blocks > 1:
            self._blocks //= 2
