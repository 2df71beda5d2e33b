"""Splits a source by the content of its rows; their order does not change the parts.

The part of a row depends on its hash, among all rows or within its class, or on a value: its group
or its time.
"""

import copy
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np

from minigd.backends.base import backend_of
from minigd.backends.workspace import Workspace
from minigd.data.row_weights import labels
from minigd.data.sources.base import Pair, RandomAccess, Rows, Source
from minigd.data.sources.split_values import groups_of, times_of
from minigd.data.sources.tabular import Filled, pieces_of, unsettled_schema
from minigd.errors import DataError, check_flag, check_integer, check_share
from minigd.progress import with_progress
from minigd.types import Array

# Constants of SplitMix64.
_STEP, _FIRST, _SECOND = (
    np.uint64(number) for number in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)


def split(
    source: Source,
    fraction: float,
    seed: int = 0,
    *,
    stratify: bool = False,
    group: Any = None,
    time: Any = None,
) -> tuple[Source, Source]:
    """Return two sources, the second with about `fraction` of the rows; see `Source.split`."""
    fraction = check_share("fraction", fraction)
    seed = check_integer("seed", seed, 0)
    given = [
        *(["stratify"] if check_flag("stratify", stratify) else []),
        *(name for name, value in (("group", group), ("time", time)) if value is not None),
    ]
    if len(given) > 1:
        raise ValueError(f"a split is by {given[0]} or by {given[1]}, not by both: give one")
    rows = source.unfilled()
    side: Side
    if group is not None:
        side = ByValue(_by_group(groups_of(rows, group), fraction, seed))
    elif time is not None:
        side = ByValue(_by_time(times_of(rows, time), fraction))
    elif stratify:
        side = ByClass(rows, fraction, seed)
    else:
        side = ByHash(fraction, seed)
    parts = _parts(rows, side, fraction, seed)
    for part in parts:
        if part.rows == 0:
            raise DataError(
                f"a fraction of {fraction} of {source.count()} rows leaves one part without rows: "
                "give more rows"
            )
    if rows is source:
        return parts
    # The means for missing numbers, like everything learned, come from the first part only.
    schema = unsettled_schema(source).settle(pieces_of(parts[0], f"the means of {parts[0]!r}"))
    return Filled(parts[0], schema), Filled(parts[1], schema)


def chosen(x: Array, y: Array | None, fraction: float, seed: int) -> Array:
    """Return for each row whether it is in the part of `fraction`, by a hash of its numbers."""
    return hashes(x, y, seed) < np.uint64(int(fraction * 2**64))


def hashes(x: Array, y: Array | None, seed: int) -> Array:
    """Return a hash of the numbers of each row, as uint64.

    It applies the finalizer of SplitMix64 to the row's float64 words, one after another.

    Source: Steele, Lea and Flood (2014), "Fast splittable pseudorandom number generators", OOPSLA,
    figure 17 (variant 13 of Stafford).
    """
    host = backend_of(x).to_numpy
    columns = [host(x)] if y is None else [host(x), host(y).reshape(len(x), -1)]
    # Adding 0 turns −0 into 0: they are equal, so their hashes must be.
    words = np.hstack([np.asarray(c, dtype=np.float64) for c in columns]) + 0.0
    h = np.full(len(words), seed % 2**64, dtype=np.uint64)
    for word in np.ascontiguousarray(words.T).view(np.uint64):
        h = h + word + _STEP
        h = (h ^ (h >> np.uint64(30))) * _FIRST
        h = (h ^ (h >> np.uint64(27))) * _SECOND
        h = h ^ (h >> np.uint64(31))
    return h


# Which side a row is on ----------------------------------------------------------------------


class Side(Protocol):
    """A rule for the rows of the second part.

    Attributes
    ----------
    whole : Array of bool or None
        Which rows are in the part, if that is known without reading the rows again.
    """

    whole: Array | None

    def inside(self, x: Array, y: Array | None, first: int) -> Array:
        """Return which of these rows are in the part; `first` is the number of the first row."""

    def describe(self) -> dict[str, Any]:
        """Return what distinguishes the rule from others of this share and seed, for JSON."""


class ByHash:
    """Rows by a hash of their numbers."""

    whole: Array | None = None

    def __init__(self, fraction: float, seed: int) -> None:
        self.fraction, self.seed = fraction, seed

    def inside(self, x: Array, y: Array | None, first: int) -> Array:
        """Return which of these rows are in the part."""
        return chosen(x, y, self.fraction, self.seed)

    def describe(self) -> dict[str, Any]:
        """Return nothing: the share and the seed define the rule."""
        return {}


class ByClass:
    """The rows of each class with the smallest hashes, as many as are nearest to its share."""

    def __init__(self, source: Source, fraction: float, seed: int) -> None:
        self.seed = seed
        pieces = [(hashes(x, y, seed), _classes(y)) for x, y in _read(source)]
        h, classes = (np.concatenate(some) for some in zip(*pieces, strict=True))
        self.classes, inverse = np.unique(classes, return_inverse=True)
        self.limits = np.zeros(len(self.classes), np.uint64)
        share = int(fraction * 2**64)  # for a class of equal rows, their hash decides
        for k in range(len(self.classes)):
            different, counts = np.unique(h[inverse == k], return_counts=True)
            if len(different) > 1:
                self.limits[k] = different[_nearest(counts, fraction)]
            elif counts[0] > 1:
                self.limits[k] = share
        self.whole: Array | None = h < self.limits[inverse.reshape(-1)]

    def inside(self, x: Array, y: Array | None, first: int) -> Array:
        """Return which of these rows are in the part."""
        place = np.searchsorted(self.classes, _classes(y)).clip(0, len(self.classes) - 1)
        return hashes(x, y, self.seed) < self.limits[place]

    def describe(self) -> dict[str, Any]:
        """Return that the split is by class."""
        return {"stratify": True}


def _classes(y: Array | None) -> Array:
    if y is None:
        raise DataError("stratify is by class, but there are no targets: leave it out")
    return labels(y, "stratify")


class ByValue:
    """Rows by their number."""

    def __init__(self, whole: Array) -> None:
        self.whole = whole

    def inside(self, x: Array, y: Array | None, first: int) -> Array:
        """Return which of these rows are in the part."""
        return self.whole[first : first + len(x)]

    def describe(self) -> dict[str, Any]:
        """Return a checksum of the rows."""
        return {"rows": zlib.crc32(np.packbits(self.whole).tobytes())}


def _by_group(groups: tuple[Array, Array], fraction: float, seed: int) -> Array:
    """Return which rows are in the groups with the smallest hashes, about a fraction of all."""
    numbers, words = groups
    h = hashes(words.reshape(-1, 1), None, seed)
    order = np.argsort(h, kind="stable")
    counts = np.bincount(numbers, minlength=len(words))[order]
    inside = np.zeros(len(words), dtype=bool)
    inside[order[: _nearest(counts, fraction)]] = True
    return inside[numbers]


def _by_time(times: Array, fraction: float) -> Array:
    """Return the rows with the latest times, about `fraction` of all; equal times stay together."""
    _, inverse, counts = np.unique(times, return_inverse=True, return_counts=True)
    return inverse.reshape(-1) >= max(1, _nearest(counts, 1 - fraction))


def _nearest(counts: Array, fraction: float) -> int:
    """Return how many groups of rows, from the first on, have about a fraction of all rows.

    If there are several groups, at least one is in and one is out.

    >>> _nearest(np.array([5, 1, 1, 3]), 0.6), _nearest(np.array([99, 1]), 0.2)
    (2, 1)
    """
    sums = np.cumsum(counts)
    return 1 + int(abs(sums[:-1] - fraction * sums[-1]).argmin()) if len(counts) > 1 else 0


def _read(source: Source) -> Iterator[Pair]:
    """Return all rows, once, to find on which side they are."""
    return with_progress(source.chunks(), f"splitting {source!r}", source.rows)


# The parts -----------------------------------------------------------------------------------


def _parts(source: Source, side: Side, fraction: float, seed: int) -> tuple[Source, Source]:
    """Return the rows on both sides."""
    about = {"fraction": fraction, "seed": seed, **side.describe()}
    if not source.random_access:
        counts = np.zeros(2, np.int64)
        for inside in _masks(source, side):
            counts += [len(inside) - inside.sum(), inside.sum()]
        first, second = counts.tolist()
        return StreamPart(source, side, about, False, first), StreamPart(
            source, side, about, True, second
        )
    whole = np.concatenate(list(_masks(source, side))) if side.whole is None else side.whole
    return RandomPart(source, about, False, ~whole), RandomPart(source, about, True, whole)


def _masks(source: Source, side: Side) -> Iterator[Array]:
    if side.whole is not None:
        yield side.whole
        return
    first = 0
    for x, y in _read(source):
        yield side.inside(x, y, first)
        first += len(x)


class _Part(Source):
    """The rows of a source on one side of a split."""

    def __init__(self, source: Source, about: Mapping[str, Any], second: bool) -> None:
        self.source, self.second, self._about = source, second, dict(about)
        self.names, self.classes, self.schema = source.names, source.classes, source.schema
        self.target_problems = source.target_problems

    def settle(self, comm: Any) -> None:
        """Do the same for the whole source."""
        self.source.settle(comm)

    @property
    def to_read_parts(self) -> str:
        """The remedy for the whole source, if a part can't be read without all of its rows."""
        return self.source.to_read_parts

    def fingerprint(self) -> dict[str, Any]:
        """Return the fingerprint of the whole source, and which part this is."""
        return {**self._about, "second": self.second, "of": self.source.fingerprint()}

    def __repr__(self) -> str:
        fraction: float = self._about["fraction"]
        return f"part({fraction if self.second else 1 - fraction:g} of {self.source!r})"


class StreamPart(_Part):
    """One side of a split stream."""

    def __init__(
        self, source: Source, side: Side, about: Mapping[str, Any], second: bool, rows: int
    ) -> None:
        super().__init__(source, about, second)
        self._side, self.rows = side, rows

    def _numbered(self) -> Iterator[tuple[Pair, Array]]:
        """Yield the pieces of the whole source, and which of their rows are on this side."""
        first = 0
        for x, y in self.source.chunks():
            inside = self._side.inside(x, y, first)
            first += len(x)
            yield (x, y), np.flatnonzero(inside if self.second else ~inside)

    def chunks(self, start: int = 0) -> Iterator[Pair]:
        """Return the rows of this side from number `start` on."""
        row = 0
        for (x, y), index in self._numbered():
            skipped = min(max(start - row, 0), len(index))
            row += len(index)
            index = index[skipped:]
            if len(index):
                yield x[index], None if y is None else y[index]

    def column(self, name: str) -> Array:
        """Return the values of a column of the table in the rows of this side."""
        return self.source.column(name)[self._places]

    def places(self, rows: Array) -> list[str]:
        """Return the places of these rows in the whole source, after reading it."""
        return self.source.places(self._places[rows])

    @property
    def _places(self) -> Array:
        """The numbers of these rows in the whole source."""
        found, first = [], 0
        for (x, _), index in self._numbered():
            found.append(index + first)
            first += len(x)
        return np.concatenate(found)


class RandomPart(_Part, RandomAccess):
    """One side of a split source with random access; its row numbers take 4 bytes per row."""

    def __init__(
        self, source: Source, about: Mapping[str, Any], second: bool, inside: Array
    ) -> None:
        super().__init__(source, about, second)
        small = np.uint32 if len(inside) < 2**32 else np.int64
        self._numbers = np.flatnonzero(inside).astype(small)
        self.rows = len(self._numbers)
        self.weight = None if source.weight is None else source.weight[self._numbers]
        self.gather, self.in_memory = source.gather, source.in_memory
        self.checked = source.checked

    def column(self, name: str) -> Array:
        """Return the values of a column of the table in the rows of this side."""
        return self.source.column(name)[self._numbers]

    def chunks(self, start: int = 0) -> Iterator[Pair]:
        """Return the rows of this side from number `start` on, in the pieces of the source."""
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

    def for_part(self, in_order: bool) -> "RandomPart":
        """Return the same rows of the whole for a process that needs a part of them."""
        other = copy.copy(self)
        other.source = self.source.for_part(in_order)
        other.gather = other.source.gather
        return other

    def places(self, rows: Array) -> list[str]:
        """Return the places of these rows in the whole source."""
        return self.source.places(self._numbers[rows].astype(np.int64))

    def origin(self, what: str, rows: Rows) -> tuple[str, Rows]:
        """Return what to call x or y in an error, and the numbers of its rows in the whole."""
        return self.source.origin(what, self._numbers[rows])

    def take(self, rows: Rows, workspace: Workspace | None = None) -> Pair:
        """Return x and y of some rows of this side."""
        return self.source.take(self._numbers[rows].astype(np.int64), workspace)
