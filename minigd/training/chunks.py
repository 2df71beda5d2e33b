"""An epoch of rows in memory, cut into chunks of batches. One compiled call trains on a chunk.

Progress and Ctrl-C are handled between two chunks, of some 50 ms each. Rows that are not in memory
are fetched for many batches at once.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from minigd.data.batches import Batches
from minigd.data.row_weights import weigh_batches
from minigd.data.sources.array import ArraySource
from minigd.data.sources.base import RandomAccess
from minigd.training.rows import WeighedRows
from minigd.types import Array

SECONDS = 0.05
"""The longest time of a chunk in seconds, unless one block of batches takes longer."""

ROWS, PRODUCTS = 16_384, 200_000_000
"""The largest number of rows and of multiplications in a block. Loss and metrics are summed per
block."""


class Chunks:
    """The batches of an epoch, in the order of their rows, without rows of weight 0.

    Blocks always begin at the same batches, so sums have the same bits. A chunk has as many blocks
    as fit in `SECONDS`.

    Parameters
    ----------
    batches : Batches
        Of arrays in memory, or of a `checked` source without weights.
    epoch : int
    products : int
        Multiplications for each row.
    dtype : dtype
        The model's.

    Attributes
    ----------
    starts : Array of int
        The start of each batch in the order of the epoch, and the end of the last one.
    totals : Array
        Σ w of each batch, which is the number of its rows without weights.
    weight, scale : Array or None
        w_i of each row, and n w_i/Σw in its batch.
    """

    def __init__(self, batches: Batches, epoch: int, products: int, dtype: Any) -> None:
        batches = batches.at(epoch)
        source = batches.source
        assert isinstance(source, RandomAccess)
        self._order = batches.order(epoch)
        size = batches.batch_size or source.rows
        self.starts: Array = np.minimum(np.arange(len(batches) + 1) * size, source.rows)
        rows = min(ROWS, PRODUCTS // max(1, products))
        self._block = max(1, rows // int(self.starts[1]))
        self._blocks = 1
        self.x: Any = None
        self.y: Any = None
        self._source: RandomAccess | None = None
        self._fetched = 0, 0
        """Between which places of the order the rows x and y lie, where they are not all."""
        self._most = len(batches)
        if isinstance(source, ArraySource):
            self.x, self.y = source.x, source.y
        else:
            self._source = source
            rows = int(self.starts[min(self._block, len(batches))])
            self._most = max(1, source.gather // rows) * self._block
        self._sizes = np.diff(self.starts)
        self.totals: Array = self._sizes.astype("float64")
        self.weight: Array | None = None
        self.scale: Array | None = None
        if batches.weighted:
            every = self._numbers(slice(0, source.rows))
            weighed = weigh_batches(batches.weight(every), self.starts)
            kept, self.starts, self.weight, scale, self.totals = weighed
            self._order, self.scale = every[kept], scale.astype(dtype)
            self._sizes = np.diff(self.starts)

    @property
    def sample(self) -> tuple[Array, Array, Array | None]:
        """Rows, targets and scales of a batch of the largest size."""
        n = int(self._sizes.max())
        self._fetch(0)
        some = slice(0, n) if self.weight is None else self._numbers(slice(0, n))
        return self.x[some], self.y[some], None if self.scale is None else self.scale[:n]

    def rows(self, batches: slice) -> tuple[Array, Array, Array, Array, Array | None]:
        """Return x and y of many rows, and the order, the starts and the scales of some batches.

        They are batches of one chunk.
        """
        self._fetch(batches.start)
        starts = self.starts[batches.start : batches.stop + 1]
        own = slice(starts[0], starts[-1])
        scale = None if self.scale is None else self.scale[own]
        return self.x, self.y, self._places(own), starts - starts[0], scale

    def _places(self, own: slice) -> Array:
        """Return the positions in x and y of the rows between two places of the order."""
        if self._source is None:
            return self._numbers(own)
        return np.arange(own.start, own.stop) - self._fetched[0]

    def _numbers(self, own: slice) -> Array:
        """Return the numbers of the rows between two places of the epoch's order."""
        return np.arange(own.start, own.stop) if self._order is None else self._order[own]

    def _fetch(self, batch: int) -> None:
        """Fetch the rows of a batch, and of those around it, if they are not in memory."""
        first = batch // self._most * self._most
        own = self.starts[first], self.starts[min(first + self._most, len(self))]
        if self._source is None or own == self._fetched:
            return
        # Not the old ones and the new ones at once.
        self.x = self.y = None
        rows = slice(*own) if self._order is None else self._order[slice(*own)]
        self.x, self.y = self._source.take(rows)
        self._fetched = own

    def __len__(self) -> int:
        return len(self.starts) - 1

    def weighed(self, batches: slice) -> WeighedRows:
        """Return the targets of some batches and their weights, without the rows."""
        own = slice(self.starts[batches.start], self.starts[batches.stop])
        order = self._numbers(own)
        weight = None if self.weight is None else self.weight[own]
        total = float(self.totals[batches].sum())
        return WeighedRows(self.x[:0], self.y[self._places(own)], order, weight, None, total)

    def end(self, batch: int) -> int:
        """Return the batch after the last one of a chunk that begins with this batch.

        It is the same batch if all its rows have weight 0.
        """
        whole = batch // self._block * self._block
        fetched = (batch // self._most + 1) * self._most
        end = min(len(self), fetched, whole + self._blocks * self._block)
        empty = np.flatnonzero(self._sizes[batch:end] == 0)
        return batch + int(empty[0]) if len(empty) else end

    def blocks(self, first: int, end: int) -> Iterator[slice]:
        """Yield the batches of each block of a chunk."""
        while first < end:
            stop = min(end, (first // self._block + 1) * self._block)
            yield slice(first, stop)
            first = stop

    def took(self, seconds: float) -> None:
        """Adapt the length of the next chunks to the time of the last one."""
        if seconds < SECONDS / 4:
            self._blocks *= 2
        elif seconds > SECONDS and self._blocks > 1:
            self._blocks //= 2
