"""Splitting a source by the content of its rows, so that no order of them changes the parts."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from minigd.backends.base import backend_of
from minigd.backends.workspace import Workspace
from minigd.data.sources.base import Pair, RandomAccess, Rows, Source
from minigd.data.sources.tabular import Filled, pieces_of, unsettled_schema
from minigd.errors import DataError, check_integer, check_share
from minigd.progress import with_progress
from minigd.types import Array


def split(source: Source, fraction: float, seed: int = 0) -> tuple[Source, Source]:
    """Return two sources, the second with about `fraction` of the rows; see `Source.split`."""
    fraction = check_share("fraction", fraction)
    seed = check_integer("seed", seed, 0)
    rows = source.unfilled()
    kind = RandomPart if source.random_access else StreamPart
    parts: tuple[Source, Source] = (
        kind(rows, fraction, seed, False),
        kind(rows, fraction, seed, True),
    )
    for part in parts:
        if part.rows == 0:
            raise DataError(
                f"a fraction of {fraction} of {source.count()} rows leaves one part without rows: "
                "give more rows"
            )
    if rows is source:
        return parts
    # What stands for a missing number is learned, as all else, from the first part alone.
    schema = unsettled_schema(source).settle(pieces_of(parts[0], f"the means of {parts[0]!r}"))
    return Filled(parts[0], schema), Filled(parts[1], schema)


def chosen(x: Array, y: Array | None, fraction: float, seed: int) -> Array:
    """Return for each row whether it belongs to the part of `fraction`, by a hash of its numbers.

    The hash is the finaliser of SplitMix64 over the row's float64 words, one after the other.

    Source: Steele, Lea and Flood (2014), "Fast splittable pseudorandom number generators", OOPSLA,
    figure 17 (variant 13 of Stafford).
    """
    host = backend_of(x).to_numpy
    columns = [host(x)] if y is None else [host(x), host(y).reshape(len(x), -1)]
    # Adding 0 makes −0 and 0, which are equal, alike.
    words = np.hstack([np.asarray(c, dtype=np.float64) for c in columns]) + 0.0
    h = np.full(len(words), seed % 2**64, dtype=np.uint64)
    for word in np.ascontiguousarray(words.T).view(np.uint64):
        h = h + word + np.uint64(0x9E3779B97F4A7C15)
        h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        h = h ^ (h >> np.uint64(31))
    return h < np.uint64(int(fraction * 2**64))


class _Part(Source):
    """The rows of a source on one side of a split."""

    def __init__(self, source: Source, fraction: float, seed: int, second: bool) -> None:
        self.source, self.fraction, self.seed, self.second = source, fraction, seed, second
        self.names, self.classes, self.schema = source.names, source.classes, source.schema
        self.target_problems = source.target_problems

    def _read(self) -> Iterator[Pair]:
        """Return all rows, once, to see which are on this side."""
        return with_progress(self.source.chunks(), f"splitting {self.source!r}", self.source.rows)

    def mask(self, x: Array, y: Array | None) -> Array:
        """Return which of these rows are on this side."""
        inside = chosen(x, y, self.fraction, self.seed)
        return inside if self.second else ~inside

    def fingerprint(self) -> dict[str, Any]:
        """Return that of the whole, and which part this is."""
        part = {"fraction": self.fraction, "seed": self.seed, "second": self.second}
        return {**part, "of": self.source.fingerprint()}

    def __repr__(self) -> str:
        share = self.fraction if self.second else 1 - self.fraction
        return f"part({share:g} of {self.source!r})"


class StreamPart(_Part):
    """One side of a split stream."""

    def __init__(self, source: Source, fraction: float, seed: int, second: bool) -> None:
        super().__init__(source, fraction, seed, second)
        self.rows = sum(int(self.mask(x, y).sum()) for x, y in self._read())

    def chunks(self, start: int = 0) -> Iterator[Pair]:
        """Return the rows of this side from number `start` on."""
        row = 0
        for x, y in self.source.chunks():
            index = np.flatnonzero(self.mask(x, y))
            skipped = min(max(start - row, 0), len(index))
            row += len(index)
            index = index[skipped:]
            if len(index):
                yield x[index], None if y is None else y[index]

    def places(self, rows: Array) -> list[str]:
        """Return where these rows are in the whole, which is read for it."""
        masks = [self.mask(x, y) for x, y in self.source.chunks()]
        return self.source.places(np.flatnonzero(np.concatenate(masks))[rows])


class RandomPart(_Part, RandomAccess):
    """One side of a split source with random access: 4 bytes per row number its rows."""

    def __init__(self, source: Source, fraction: float, seed: int, second: bool) -> None:
        super().__init__(source, fraction, seed, second)
        whole = np.concatenate([self.mask(x, y) for x, y in self._read()])
        small = np.uint32 if len(whole) < 2**32 else np.int64
        self._numbers = np.flatnonzero(whole).astype(small)
        self.rows = len(self._numbers)
        self.weight = None if source.weight is None else source.weight[self._numbers]
        self.gather, self.in_memory = source.gather, source.in_memory

    def chunks(self, start: int = 0) -> Iterator[Pair]:
        """Return the rows of this side from number `start` on, as the source gives them."""
        if start >= self.rows:
            return
        first = int(self._numbers[start])
        at = first
        for x, y in self.source.chunks(first):
            low, high = np.searchsorted(self._numbers, [at, at + len(x)])
            index = self._numbers[low:high].astype(np.int64) - at
            at += len(x)
            if len(index):
                yield x[index], None if y is None else y[index]

    def places(self, rows: Array) -> list[str]:
        """Return where these rows are in the whole."""
        return self.source.places(self._numbers[rows].astype(np.int64))

    def origin(self, what: str, rows: Rows) -> tuple[str, Rows]:
        """Return what to call x or y in an error, and the numbers of its rows in the whole."""
        return self.source.origin(what, self._numbers[rows])

    def take(self, rows: Rows, workspace: Workspace | None = None) -> Pair:
        """Return x and y of some rows of this side."""
        return self.source.take(self._numbers[rows].astype(np.int64), workspace)
