"""Batches: which rows make up each update.

2300 rows in batches of 500 give five updates, the last from 300 rows. Shuffling permutes an index.
"""

import copy
import hashlib
from collections.abc import Generator, Iterator
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np

from minigd.backends.base import Backend, backend_of
from minigd.backends.frames import check_rows_alike
from minigd.backends.on_demand import call
from minigd.backends.workspace import Workspace
from minigd.data.pipeline import Piece, cut, prefetched, shuffled
from minigd.data.row_weights import (
    ByNumber,
    ClassWeight,
    balance,
    check_class_weight,
    check_weights,
    counting_rows,
    labels,
    of_classes,
    take_rows,
    warn_of_unknown,
)
from minigd.data.sources.array import ArraySource
from minigd.data.sources.base import Rows, Source
from minigd.errors import DataError, ShapeError, check_integer, check_number, shown, validated
from minigd.progress import with_progress
from minigd.storage.describe import describe
from minigd.types import Array

# The first word of a seed sequence names what is drawn: weights and orders get different numbers.
_ORDER = 2

# At most this many batches are prepared ahead: each costs memory.
_MOST_AHEAD = 10_000

Tail = Literal["keep", "drop"]


def batch_slices(n: int, batch_size: int | None) -> Iterator[slice]:
    """Cut n rows into slices of `batch_size`; the last one is shorter if n is not a multiple.

    Parameters
    ----------
    n : int
        Number of rows, at least 1.
    batch_size : int or None
        Rows per batch, at least 1; None for one batch of all rows.

    Returns
    -------
    iterator of slice

    Raises
    ------
    DataError
        If there are no rows.
    ValueError
        If the batch size is not a positive integer or None.

    Examples
    --------
    >>> [s.stop - s.start for s in batch_slices(2300, 500)]
    [500, 500, 500, 500, 300]
    >>> list(batch_slices(3, None))
    [slice(0, 3, None)]
    """
    n = check_integer("the number of rows", n, 0)
    if n == 0:
        raise DataError("there are 0 rows: at least one is needed to make a batch")
    size = _check_batch_size(batch_size) or n
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


def _no_targets() -> DataError:
    """Return the error for weights without targets."""
    return DataError("weights are for rows with targets, but there is no y: give y as well as x")


def _check_batch_size(size: Any) -> int | None:
    also = ", or None for all rows at once"
    return None if size is None else check_integer("batch_size", size, also=also)


class Growth(Protocol):
    """A `minigd.Schedule`, as batches use it: a size for each number of finished epochs."""

    epochs: Any

    def __call__(self, updates: int, epochs: int) -> float:
        """Return the size after this many updates and whole epochs."""
        ...

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        ...


def _size_in(growth: Growth, epoch: int) -> int:
    """Return the batch size of an epoch, to the nearest integer."""
    if getattr(growth, "epochs", None) is None or not hasattr(growth, "config"):
        raise ValueError(
            "batch_size must be an integer, None, or a schedule that counts in epochs, such as "
            f"gd.BatchGrowth(100, epochs=10), not {shown(growth)}"
        )
    return check_integer("batch_size", round(check_number("batch_size", growth(0, epoch))))


class Batch(tuple[Array, ...]):
    """The tuple (x, y), (x, y, weight) or (x,), with the numbers of its rows.

    It has weights if weights were given, and y if the rows have targets.

    Attributes
    ----------
    x : Array, shape (n, width)
    y : Array, shape (n,) or (n, K), or None
    weight : Array, shape (n,), or None
        float64, on the host.
    rows : slice or array of int
        Row numbers in the source.
    whole : slice or array of int
        The row numbers of the whole batch; the same as `rows` unless the batch is cut into parts.

    Examples
    --------
    >>> batch = next(iter(Batches([[1.0], [2.0], [3.0]], [0, 1, 1], batch_size=2)))
    >>> x, y = batch
    >>> y, batch.rows
    (array([0, 1]), slice(0, 2, None))
    """

    rows: Rows

    def __new__(cls, x: Array, y: Array | None, rows: Rows, weight: Array | None = None) -> "Batch":
        """Make the tuple."""
        parts = (x,) if y is None else (x, y)
        batch = super().__new__(cls, parts if weight is None else (*parts, weight))
        batch.rows = rows
        return batch

    @property
    def x(self) -> Array:
        """The inputs."""
        return self[0]

    @property
    def y(self) -> Array | None:
        """The targets, or None."""
        return self[1] if len(self) > 1 else None

    @property
    def weight(self) -> Array | None:
        """The weights of the rows, or None if all count the same."""
        return self[2] if len(self) > 2 else None

    @property
    def whole(self) -> Rows:
        """The numbers of the rows of the whole batch, of which these may be a part."""
        return self.rows

    def weighed(self, weight: Array) -> "Batch":
        """Return the same rows with weights."""
        return Batch(self.x, self.y, self.rows, weight)


Epoch: TypeAlias = Generator[Batch, None, None]
"""The batches of an epoch, one after the other; closing it stops the read-ahead thread."""


class Batches:
    """The rows of a source, cut into batches; each iteration is one epoch.

    Parameters
    ----------
    x : array-like of shape (rows, width), frame, iterable of pieces, or Source
        A frame with text becomes a `FrameSource`, and an iterable an `IterableSource`.
    y : array-like of shape (rows,) or (rows, K), optional
        Targets; leave it out for a source, which brings its own.
    batch_size : int, Schedule or None, default 100
        Rows per batch; None for the full batch, one update per epoch. A schedule that counts in
        epochs, such as `BatchGrowth` or `Piecewise`, gives each epoch its size.
    shuffle : bool, default False
        Draw a new order of the rows in each epoch. Only an index is permuted; the data do not move.
    seed : int, default 0
        The seed of the orders. Epoch e has the same order in every run and after every resume.
    tail : {"keep", "drop"}, default "keep"
        Whether to keep or drop the rows at the end of an epoch that do not fill a batch.
    buffer : int, optional
        Rows of the shuffle buffer, for a stream whose rows can't be fetched by number. This is not
        an exact shuffle; see `minigd.data.pipeline.shuffled`. The default is 10,000 rows if x is an
        iterable.
    prefetch : int, default 0
        Batches that a background thread prepares ahead. The results are the same.
    sample_weight : array-like of shape (rows,), optional
        How much each row of the source counts, at least 0. A row of weight 0 is left out of
        training and evaluation, whatever numbers it holds. A loop that you write yourself must
        leave out such rows, and batches that hold no other rows.
    class_weight : dict from class to float, or "balanced", optional
        How much the rows of each class count; 1 for a class that is not named. A named class
        that does not occur causes a warning. A class is named by its label, of any type: 1, 1.0 and
        "1" are the same. If a source has names for classes, use the name, or the number if no name
        is a number. ``"balanced"`` makes all classes count the same; for a stream this takes one
        pass over it. The weight of a class multiplies the row's own weight.
    schema : Schema, optional
        What the columns of a frame become, from a model trained on a table. Without it, a
        frame with text gets a new schema from `FrameSource`.

    Attributes
    ----------
    batch_size : int or None
        With a schedule, the size in the first epoch. `sizes`, `dropped` and the length describe
        that epoch too; ``at(epoch)`` returns the batches of another one.
    growth : Schedule or None
        The schedule of the batch size, if it changes.
    sizes : list of int
        Rows of each batch of an epoch.
    dropped : int
        Rows that an epoch leaves out; 0 for ``tail="keep"``.

    Raises
    ------
    ShapeError, DataError
        If x and y differ in length, are empty, or hold a number that is not finite.
    ValueError
        If the batch size, the seed or the tail is invalid, or a stream is shuffled without a
        buffer.

    Notes
    -----
    Batches of an array in order are views of it. Shuffled batches are new copies of their rows, so
    a batch that you keep is never overwritten. For any memory layout of an array, only those
    rows are copied. If the numbers of a row are far apart in memory, as in a pandas frame and in an
    array in Fortran order, gathering a batch takes about four times as long. A trainer that
    shuffles such rows copies them once at the start of `fit`, row by row.

    Examples
    --------
    >>> import numpy as np
    >>> X, y = np.arange(4600.0).reshape(2300, 2), np.arange(2300)
    >>> batches = Batches(X, y, batch_size=500, shuffle=True, seed=0)
    >>> batches.sizes, len(batches)
    ([500, 500, 500, 500, 300], 5)
    >>> len({int(label) for x, y in batches for label in y})      # no row is lost
    2300
    """

    @validated
    def __init__(
        self,
        x: Any,
        y: Any = None,
        batch_size: int | Growth | None = 100,
        shuffle: bool = False,
        seed: int = 0,
        tail: Tail = "keep",
        buffer: int | None = None,
        prefetch: int = 0,
        sample_weight: Any = None,
        class_weight: ClassWeight | None = None,
        schema: Any = None,
    ) -> None:
        if not isinstance(x, Source | np.ndarray):
            from minigd.data.sources.given import given

            x, y, buffer = given(x, y, schema, buffer)
        self.growth = batch_size if callable(batch_size) else None
        self.batch_size = _check_batch_size(_size_in(self.growth, 0) if self.growth else batch_size)
        self.shuffle, self.tail, self._next_epoch = bool(shuffle), tail, 0
        self.seed = check_integer("seed", seed, 0)
        self.buffer = None if buffer is None else check_integer("buffer", buffer)
        self.prefetch = min(check_integer("prefetch", prefetch, 0), _MOST_AHEAD)
        self._class_weight: dict[int, float] = {}
        self._unseen: set[int] = set()  # classes with a weight and no row so far
        if not isinstance(x, Source):
            if class_weight is not None:
                sample_weight = self._of_arrays(x, y, sample_weight, class_weight)
            x, y = ArraySource(x, y, sample_weight), None
            sample_weight = class_weight = None  # the source has them now
        if y is not None:
            raise TypeError("a source brings its own targets: leave y out")
        self.source: Source = x
        if self.shuffle and not x.random_access and self.buffer is None:
            raise _no_exact_shuffle(x)
        if x.rows is not None and not (x.rows and len(self)):
            raise no_batch(self)
        self._weights: Array | None = x.weight
        if self.weighted or sample_weight is not None or class_weight is not None:
            self._weigh(sample_weight, class_weight)

    def _weigh(self, sample_weight: Any, class_weight: ClassWeight | None) -> None:
        """Take a source's weights: for an array at once, for a stream's classes as they arrive."""
        if sample_weight is not None:
            if self.source.weight is not None:
                raise TypeError("the source brings its own weights: leave sample_weight out")
            self._weights = check_weights(sample_weight, self.source.count())
        if isinstance(self.source, ArraySource) and self.source.y is None and self.weighted:
            raise _no_targets()
        if class_weight is None:
            return
        source = self.source
        chosen = check_class_weight(class_weight, source.classes)
        table = balance(self._totals()) if chosen == "balanced" else dict(chosen)
        if source.classes is None and not isinstance(chosen, ByNumber | str):
            self._unseen = set(table)
        if not isinstance(source, ArraySource):
            self._class_weight = table
            return
        if source.y is None:
            raise _no_targets()
        classes = self._labels(source.y, self._weights)
        self._record_classes(source.y, classes)
        self._warn_of_unseen()
        weights = of_classes(classes, table)
        self._weights = weights if self._weights is None else weights * self._weights
        if not (self._weights > 0).any():
            raise DataError("class_weight leaves no row with a weight above 0")

    def _of_arrays(self, x: Any, y: Any, sample_weight: Any, given: ClassWeight) -> Array:
        """Return the weight of each row of an array, times that of its class."""
        if y is None:
            raise _no_targets()
        check_rows_alike(x, y, sample_weight)
        y = backend_of(y).here(y, "y")
        if not y.ndim or not len(y):
            raise ShapeError(f"y has shape {y.shape}: each row of x needs one target")
        own = None if sample_weight is None else check_weights(sample_weight, len(y))
        chosen = check_class_weight(given, [False, True] if y.dtype == bool else None)
        classes = self._labels(y, own)
        if not isinstance(chosen, ByNumber | str):
            self._unseen = set(chosen)
            self._record_classes(y, classes)
            self._warn_of_unseen()
        if chosen == "balanced":
            kinds, inverse = np.unique(classes, return_inverse=True)
            totals = np.bincount(inverse.reshape(-1), own)
            chosen = balance({int(k): float(w) for k, w in zip(kinds, totals, strict=True)})
        with np.errstate(over="ignore"):
            weights = of_classes(classes, chosen) * (1.0 if own is None else own)
        if not weights.any():
            raise DataError("class_weight leaves no row with a weight above 0")
        return check_weights(weights, len(y))

    def _record_classes(self, y: Array, classes: Array) -> None:
        """Record the classes that occur; one-hot rows have a column for each."""
        columns = range(y.shape[1]) if y.ndim == 2 and y.shape[1] > 1 else ()
        self._unseen.difference_update(np.unique(classes).tolist(), columns)

    def _warn_of_unseen(self) -> None:
        warn_of_unknown(sorted(self._unseen))
        self._unseen.clear()

    def _labels(self, y: Array, weights: Array | None) -> Array:
        """Return the class of each row; for a row of weight 0, any class."""
        rows = counting_rows(weights)
        if rows is None or len(rows) == len(y):
            return labels(y)
        classes = np.zeros(len(y), dtype="int64")
        classes[rows] = labels(take_rows(y, rows))
        return classes

    def _totals(self) -> dict[int, float]:
        """Return the total weight of each class, reading all rows once."""
        totals: dict[int, float] = {}
        row = 0
        for _, y in with_progress(self.source.chunks(), "weighing classes", self.source.rows):
            if y is None:
                raise _no_targets()
            weights = None if self._weights is None else self._weights[row : row + len(y)]
            row += len(y)
            kinds, inverse = np.unique(self._labels(y, weights), return_inverse=True)
            for kind, total in zip(kinds, np.bincount(inverse.reshape(-1), weights), strict=True):
                totals[int(kind)] = totals.get(int(kind), 0.0) + float(total)
        return totals

    @property
    def weighted(self) -> bool:
        """Whether rows have weights."""
        return self._weights is not None or bool(self._class_weight)

    def weight(self, rows: Rows, y: Array | None = None) -> Array:
        """Return the weights of some rows; they depend on y if a stream's classes have weights."""
        weights = None if self._weights is None else self._weights[rows]
        if self._class_weight and y is not None:
            classes = self._labels(y, weights)
            if self._unseen:
                self._record_classes(y, classes)
            own = of_classes(classes, self._class_weight)
            weights = own if weights is None else own * weights
        return weights

    def _weighted(self, batches: Epoch, whole: bool) -> Epoch:
        """Add weights to rows; `whole` if these are all rows, or all but a dropped tail."""
        for batch in batches:
            if batch.y is None:
                raise _no_targets()
            yield batch.weighed(self.weight(batch.rows, batch.y))
        if whole:
            self._warn_of_unseen()

    def on(self, backend: Backend) -> "Batches":
        """Return the same batches with rows stored where many epochs fetch them fastest.

        An array on the host is copied to a GPU as it is now, if it fits in the device budget. Other
        rows are copied to the GPU batch by batch. On the host, an array that is shuffled and whose
        rows are not contiguous, as in a frame, is copied once, row by row.
        """
        here = self.source
        if not isinstance(here, ArraySource):
            return self
        kept = not here.sparse and here.backend.reads_are_free and backend.keeps(here.nbytes)
        there = here.on(backend) if kept else here.by_rows() if self.shuffle else here
        if there is here:
            return self
        moved = copy.copy(self)
        moved.source, moved.prefetch = there, 0 if kept else self.prefetch
        return moved

    def at(self, epoch: int) -> "Batches":
        """Return the batches of one epoch: these, or with a schedule, a copy with its size.

        Parameters
        ----------
        epoch : int
            From 0.
        """
        return self if self.growth is None else self._grown(check_integer("epoch", epoch, 0))

    def _grown(self, epoch: int) -> "Batches":
        assert self.growth is not None
        grown = copy.copy(self)
        grown.batch_size, grown.growth = _size_in(self.growth, epoch), None
        if grown.source.rows is not None and not len(grown):
            raise no_batch(grown)
        return grown

    def part(self, rank: int, size: int) -> "Batches":
        """Return the same batches with a part of the rows of each, for one of several processes.

        In a batch of n rows, process `rank` of `size` gets rows ⌊rank·n/size⌋ to ⌊(rank +
        1)·n/size⌋ − 1, possibly none. All parts, one after the other, form the batch: the same rows
        in the same order, with the same weights.

        Parameters
        ----------
        rank : int
            From 0.
        size : int

        Examples
        --------
        >>> batches = Batches([[1.0], [2.0], [3.0]], batch_size=None)
        >>> for rank in range(2):
        ...     batch = next(iter(batches.part(rank, 2)))
        ...     batch.x.tolist(), batch.rows, batch.whole
        ([[1.0]], slice(0, 1, None), slice(0, 3, None))
        ([[2.0], [3.0]], slice(1, 3, None), slice(0, 3, None))
        """
        size, rank = check_integer("size", size), check_integer("rank", rank, 0)
        if rank >= size:
            raise ValueError(f"rank must be below size, which is {size}, not {rank}")
        part: Batches = self
        if size > 1:
            part = call("minigd.data.parts", "PartOfBatches", self, rank, size)
        return part

    def _size(self) -> int:
        return self.source.count() if self.batch_size is None else self.batch_size

    @property
    def sizes(self) -> list[int]:
        """Rows of each batch of an epoch."""
        slices = batch_slices(self.source.count(), self.batch_size)
        return [s.stop - s.start for s in slices][: len(self)]

    @property
    def dropped(self) -> int:
        """Rows that an epoch leaves out."""
        return self.source.count() % self._size() if self.tail == "drop" else 0

    def __len__(self) -> int:
        whole, left = divmod(self.source.count(), self._size())
        return whole + (left > 0 and self.tail == "keep")

    def __iter__(self) -> Iterator[Batch]:
        """Return the batches of the next epoch, complete even if the last loop ended early."""
        epoch = self._next_epoch
        self._next_epoch += 1
        return self.epoch(epoch)

    def order(self, epoch: int) -> Array | None:
        """Return the row numbers of an epoch in their order, or None for the order of the source.

        It depends only on the seed and the epoch.
        """
        if not self.shuffle or not self.source.random_access:
            return None
        return self._rng(epoch).permutation(self.source.count())

    def _rng(self, epoch: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, _ORDER, epoch])

    def epoch(self, epoch: int, start: int = 0, workspace: Workspace | None = None) -> Epoch:
        """Return the batches of one epoch, from batch number `start` on.

        Parameters
        ----------
        epoch : int
            From 0. The order depends only on it and on the seed.
        start : int, default 0
            The first batch to return; a resumed run starts in the middle of an epoch.
        workspace : Workspace, optional
            Memory for gathered rows, which the trainer reuses. New memory without one.
        """
        epoch, start = check_integer("epoch", epoch, 0), check_integer("start", start, 0)
        # A waiting batch must not be overwritten by the next one.
        batches = self.at(epoch)._epoch(epoch, start, None if self.prefetch else workspace)
        return self._ready(batches, whole=start == 0)

    def _ready(self, batches: Epoch, whole: bool = True) -> Epoch:
        if self.weighted:
            batches = self._weighted(batches, whole)
        return prefetched(batches, self.prefetch) if self.prefetch else batches

    def in_order(self) -> Epoch:
        """Return all rows in the order of the source, for a pass that only reads."""
        return self._ready(self._in_order(0, None))

    def _epoch(self, epoch: int, start: int, workspace: Workspace | None) -> Epoch:
        if not self.shuffle:
            batches = self._in_order(start, workspace)
        elif self.source.random_access:
            batches = self._permuted(epoch, start, workspace)
        else:
            batches = self._buffered(epoch, start)
        return batches if self.tail == "keep" else self._without_tail(batches)

    def _without_tail(self, batches: Epoch) -> Epoch:
        size = self._size()
        for batch in batches:
            if len(batch[0]) == size:
                yield batch
            elif self._unseen:
                self.weight(batch.rows, batch.y)  # the classes of dropped rows occur too

    def _in_order(self, start: int, workspace: Workspace | None) -> Epoch:
        source, size = self.source, self._size()
        row = start * size
        if source.random_access and source.in_memory:
            for place in batch_slices(source.count(), size):
                if place.start >= row:
                    yield Batch(*source.take(place, workspace), place)
            return
        for x, y in cut(source.chunks(row), size):
            yield Batch(x, y, slice(row, row + len(x)))
            row += len(x)

    def _permuted(self, epoch: int, start: int, workspace: Workspace | None) -> Epoch:
        source, size = self.source, self._size()
        order: Any = self.order(epoch)
        there = source.order(order)
        # Rows of a file, and of small batches, are fetched for many batches at once.
        many = max(1, source.gather // size) * size
        for first in range(start * size, source.count(), many):
            rows = order[first : first + many]
            x, y = source.take(there[first : first + many], workspace)
            for some in batch_slices(len(rows), size):
                yield Batch(x[some], None if y is None else y[some], rows[some])

    def _buffered(self, epoch: int, start: int) -> Epoch:
        def numbered() -> Iterator[Piece]:
            row = 0
            for x, y in self.source.chunks():
                yield x, y, np.arange(row, row + len(x))
                row += len(x)

        size = self._size()
        pieces = shuffled(numbered(), self.buffer or 1, self._rng(epoch))
        for i, (x, y, rows) in enumerate(cut(pieces, size)):
            if i >= start:
                yield Batch(x, y, rows)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run compares: how rows are cut, and the fingerprint of the data."""
        return {**self.settings(), "data": self.source.fingerprint()}

    def settings(self) -> dict[str, Any]:
        """Return how rows are cut and weighed: `state_dict` without the fingerprint of the data."""
        return {
            "batch_size": self.batch_size if self.growth is None else describe(self.growth),
            "shuffle": self.shuffle,
            "seed": self.seed,
            "tail": self.tail,
            "buffer": self.buffer,
            "rows": self.source.rows,
            "weights": self._weights_fingerprint(),
        }

    def _weights_fingerprint(self) -> list[Any] | None:
        if not self.weighted:
            return None
        digest = hashlib.sha256(b"" if self._weights is None else self._weights.tobytes())
        return [digest.hexdigest(), sorted(self._class_weight.items())]

    def __repr__(self) -> str:
        rows = self.source.rows
        left_out = f", {self.dropped} rows dropped" if rows and self.dropped else ""
        return (
            f"Batches({rows or 'uncounted'} rows, batch_size={self.growth or self.batch_size}, "
            f"shuffle={self.shuffle}, seed={self.seed}, tail={self.tail!r}{left_out})"
        )


def as_batches(data: Any, y: Any = None, batch_size: Any = 100, **options: Any) -> Batches:
    """Return a Batches unchanged, or make one from arrays or a source with these options."""
    if not isinstance(data, Batches):
        return Batches(data, y, batch_size, **options)
    _check_brought(y, options)
    return data


def _check_brought(y: Any, options: dict[str, Any]) -> None:
    """Refuse targets and weights given with a Batches, which brings its own."""
    if y is not None:
        raise TypeError("a Batches brings its own targets: leave y out")
    if options.get("sample_weight") is not None or options.get("class_weight") is not None:
        raise TypeError("a Batches brings its own weights: give them to Batches(...)")


def no_batch(batches: Batches) -> DataError:
    """Return the error for too few rows for a batch."""
    rows = batches.source.rows
    if rows == 0:
        return DataError("there are 0 rows: at least one is needed to make a batch")
    return DataError(
        f"{'the' if rows is None else rows} rows do not fill one batch of {batches.batch_size}, "
        "and tail='drop' leaves none: use tail='keep' or a smaller batch_size"
    )


def _no_exact_shuffle(source: Source) -> ValueError:
    return ValueError(
        f"the rows of {source!r} come one after the other and can't be shuffled exactly: give a "
        "buffer, Batches(..., buffer=10_000), or cache them once, source.cache(folder), or pass "
        "shuffle=False"
    )
