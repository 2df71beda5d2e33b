"""Targets of a source for the estimators: labels as the numbers of their classes.

Names of classes and columns come from the source, or from the source that it is part of.
"""

import contextlib
import copy
from collections.abc import Iterator
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils.multiclass import check_classification_targets

from minigd.backends.base import backend_of
from minigd.backends.frames import check_rows_alike, is_pandas, is_table, listed, plain
from minigd.backends.workspace import Workspace
from minigd.data.batches import Batches
from minigd.data.row_weights import warn_of_unknown
from minigd.data.sources.array import ArraySource
from minigd.data.sources.base import Pair, Rows, Source
from minigd.data.sources.given import as_source
from minigd.errors import DataError
from minigd.types import Array


class NumberedSource(Source):
    """A source whose labels become the numbers of their classes."""

    def __init__(self, source: Source, classes: Array) -> None:
        self.source = source
        self._classes, self.schema = classes, source.schema
        self.rows, self.random_access = source.rows, source.random_access
        self.in_memory, self.gather = source.in_memory, source.gather
        self.one_shot = source.one_shot

    def number(self, y: Any) -> Array:
        """Return the number of each label, on the device of y."""
        backend = backend_of(y)
        labels = named(backend.to_numpy(y).reshape(-1), self.source)
        return backend.asarray(numbers_of(labels, self._classes))

    def by_number(self, table: dict[int, float]) -> dict[int, float]:
        """Return weights of labels as weights of numbers."""
        names = known(self.source, "classes")
        there = self._classes if names is None else range(len(names))
        labels = [label for label in table if label in there]
        warn_of_unknown([label for label in table if label not in there])
        return {int(self.number(np.array([k]))[0]): table[k] for k in labels}

    def chunks(self, start: int = 0) -> Iterator[Pair]:
        """Return the rows from number `start` on."""
        for x, y in self.source.chunks(start):
            yield x, self.number(y)

    def settle(self, comm: Any) -> None:
        """Do the same for the source."""
        self.source.settle(comm)

    @property
    def to_read_parts(self) -> str:
        """The remedy if a part of the rows can't be read without the others."""
        return self.source.to_read_parts

    def for_part(self, in_order: bool) -> "NumberedSource":
        """Return the same rows for a process that needs a part of them."""
        return NumberedSource(self.source.for_part(in_order), self._classes)

    def take(self, rows: Rows, workspace: Workspace | None = None) -> Pair:
        """Return some rows."""
        x, y = self.source.take(rows, workspace)
        return x, self.number(y)

    def fingerprint(self) -> dict[str, Any]:
        """Return the fingerprint of the source."""
        return self.source.fingerprint()

    def __repr__(self) -> str:
        return repr(self.source)


def with_source(batches: Batches, source: Source) -> Batches:
    """Return batches cut in the same way from another source, the same rows or some of them."""
    again = copy.copy(batches)
    again.source = source
    if isinstance(source, NumberedSource):
        again._class_weight, again._unseen = source.by_number(batches._class_weight), set()
    return again


def labels_of(y: Any) -> Any:
    """Return y as it is, but numbers of a list or of pandas as an array with all their digits."""
    if is_pandas(y):
        with contextlib.suppress(DataError):  # it may be names of classes
            return plain(y, "y")
        missing = np.asarray(y.isna()).reshape(len(y), -1).any(axis=1)
        if missing.any():
            raise DataError(
                f"y holds a missing value at row {missing.argmax()} (counted from 0): remove such "
                "rows, or fill them in"
            )
    if getattr(getattr(y, "dtype", None), "kind", None) == "O":
        # scikit-learn would convert whole numbers to float64.
        array = np.asarray(y)
        if array.size and all(isinstance(item, Integral) for item in array.flat):
            y = array.tolist()
    return listed(y, "y") if isinstance(y, list | tuple) else y


def from_frame(X: Any, y: Any, schema: Any, labels: bool) -> tuple[Any, Any]:
    """Return a frame with text as a source that brings y, and anything else unchanged.

    `labels` tells whether y may hold names of classes, and `schema` what the columns become.
    """
    if not is_table(X):
        return X, y
    check_rows_alike(X, y)
    names, targets = None, labels_of(y)
    if labels and y is not None and np.asarray(targets).dtype.kind in "OUS":
        names, targets = np.unique(np.asarray(targets), return_inverse=True)
    source, rest = as_source(X, targets, schema)
    if not isinstance(source, Source):
        return X, y
    if names is not None:
        source.classes = names.tolist()
    return source, rest


def first_rows(source: Source) -> Pair:
    """Return the first row or rows, which show the width and the types."""
    return source.take(slice(0, 1)) if source.in_memory else next(source.chunks())


def first_targets(source: Source) -> Array:
    """Return the targets of the first row or rows."""
    _, y = first_rows(source)
    if y is None:
        raise _no_targets(source)
    return y


def _no_targets(source: Source) -> DataError:
    return DataError(f"{source!r} has no targets: name them where the source is made")


def known(source: Any, what: str) -> Any:
    """Return the names of columns or of classes, also of a source that is part of another one."""
    while source is not None:
        if getattr(source, what, None) is not None:
            return getattr(source, what)
        source = getattr(source, "source", None)
    return None


def targets_in(source: Source) -> Iterator[Array]:
    """Yield all targets, on the host; rows in memory are not touched."""
    pieces = [source.y] if isinstance(source, ArraySource) else (y for _, y in source.chunks())
    for y in pieces:
        if y is None:
            raise _no_targets(source)
        yield backend_of(y).to_numpy(y)


def named(y: Array, source: Source) -> Array:
    """Return the labels of the class numbers in a source, if its classes have names."""
    names = known(source, "classes")
    return y if names is None else np.asarray(names)[y]


def classes_in(source: Source) -> Array:
    """Return the labels that occur, reading all rows once."""
    found: Array = np.array([])
    for i, y in enumerate(targets_in(source)):
        check_classification_targets(y)
        found = np.unique(y) if i == 0 else np.union1d(found, y)
    return found


def numbers_of(y: Array, classes: Array) -> Array:
    """Return the number of each label among the classes, which are in order."""
    y, classes = (a.astype(a.dtype.newbyteorder("="), copy=False) for a in (y, classes))
    alike = (y.dtype.kind in "biuf") == (classes.dtype.kind in "biuf")
    same = y
    if alike and classes.dtype.kind in "iu":
        # NumPy compares whole numbers with fractions, and in a sorted array int64 with uint64, as
        # float64, in which those beyond 2⁵³ are equal.
        with np.errstate(invalid="ignore"):
            same = y.astype(classes.dtype)
    # NumPy 2.0.0 looks up large unsigned numbers in a table by signed ones, and fails.
    unknown = y[(same != y) | ~np.isin(same, classes, kind="sort")] if alike else y[:1]
    if len(unknown):
        raise ValueError(
            f"y holds {unknown[:1].tolist()[0]!r}, but the classes are {classes.tolist()}"
        )
    return np.searchsorted(classes, same)
