"""The rows of a text file as numbers, in unnamed temporary files, for all later passes."""

import copy
import math
import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from minigd.data.sources.base import Pair
from minigd.data.sources.csv_files import Part
from minigd.data.sources.file_reads import ArrayFile, CutShort, changed
from minigd.data.sources.npy import StoredRows
from minigd.data.tables.missing import policy_of
from minigd.data.tables.schema import ColumnKinds, Schema
from minigd.progress import log
from minigd.types import Array

MOST_OF_TEXT = 2
"""At most this many bytes of numbers per byte of text: one-hot columns may need many more."""
SAID_FROM = 64 << 20
"""From this many bytes of numbers, a line reports that they are kept."""
_LEAST = 1 << 16  # bytes of numbers that are always allowed
_PIECE = 1 << 16  # rows converted at once


class KeptRows:
    """Keeps the rows of a text during a pass over it; `rows` has them once the pass is complete.

    The files take at most half of the free space in the system's temporary folder, and half of the
    files that the process may have open. If that is not enough, nothing is kept. The files have no
    name, so the system removes them when the process ends in any way.

    Parameters
    ----------
    name : str
        Name of the text, for messages.
    size : int
        Its length in bytes.
    possible : bool
        Whether rows may be kept; it becomes False when there is no space.
    """

    def __init__(self, name: str, size: int, possible: bool) -> None:
        self.name, self.size, self.possible = name, size, possible
        self.rows: StoredRows | None = None
        self.expected: tuple[list[str], list[str], Any] | None = None
        """Features, targets and dtype of x, for a first pass without a schema."""
        self.seen: SeenRows | None = None
        """The rows that this process has needed so far, if it needs only a part of them."""
        self.free = threading.Lock()
        """A lock: only one pass writes at a time."""
        self._first: Draft | None = None
        self._state: dict[str, Any] = {}
        self._known: list[Schema] = []
        """The state of the schema of the rows, and schemas with that state."""

    def rows_of(self, schema: Schema) -> StoredRows | None:
        """Return the rows, with gaps for means and medians, if they are those of this schema."""
        if self.rows is not None and not any(schema is known for known in self._known):
            if schema.unsettled().state_dict() != self._state:
                return None
            self._known = [schema, *self._known[:3]]
        return self.rows

    @classmethod
    def of(cls, parts: Sequence[Part], possible: bool) -> "KeptRows":
        """Return an object that keeps rows of some files, if a change of them can be noticed."""
        paths = all(isinstance(part.opened, str | os.PathLike) for part in parts)
        return cls(parts[0].name, sum(part.size for part in parts), paths and possible)

    def wanted(self) -> bool:
        """Tell whether a pass should write its rows here."""
        return self.possible and self.rows is None and self.seen is None

    def begin(self) -> "Draft | None":
        """Return where a pass should write its rows, unless another pass writes or wrote them."""
        return Draft(self) if self.wanted() and self.free.acquire(blocking=False) else None

    def first_pass(self, frames: Iterator[tuple[Any, int]], kinds: ColumnKinds) -> Iterator[Any]:
        """Return the frames of a first pass, each with its bytes of text, and keep them."""
        self._first = None
        texts = kinds.texts or kinds.whole
        draft = None if texts or self.expected is None else self.begin()
        features: Any = None
        targets: Any = None
        for frame, size in frames:
            if draft is not None and self.expected is not None:
                if features is None:
                    places = {column: place for place, column in enumerate(frame.columns)}
                    features, targets = (_indices(places, cs) for cs in self.expected[:2])
                draft.add(*_numbers_of(frame, features, targets, self.expected[2]), size)
            yield frame
        self._first = draft

    def for_part(self, in_order: bool, rows: int) -> "KeptRows":
        """Return the same for a process that needs and keeps only a part of the rows."""
        if self.seen is None and (draft := self.begin()) is not None:
            self.seen = SeenRows(draft, rows, self.name, self.size)
        other = copy.copy(self)
        other.possible = False
        other.rows = None if self.rows is None else self.rows.for_part(in_order)
        return other

    def gather(self, otherwise: int) -> int:
        """Return how many rows to take at once, if they are kept."""
        return otherwise if self.rows is None else self.rows.gather

    def free_rows(self) -> None:
        """Delete the rows, and keep none from now on."""
        self.possible, self.rows, self.seen = False, None, None

    def settle(self, schema: Schema, rows: int) -> None:
        """Keep what the first pass wrote, if it matches the schema that was found."""
        draft, expected = self._first, self.expected
        self._first = self.expected = None
        if draft is None or expected is None:
            return
        if _is_of_numbers(schema, *expected[:2]):
            self.keep(draft, schema, rows, "int64" if schema.integer else schema.dtype)
        else:
            draft.close()

    def keep(self, draft: "Draft", schema: Schema, rows: int, y_dtype: Any = None) -> None:
        """Keep the rows of a pass that is complete; y may have another dtype than was written."""
        arrays = draft.arrays(rows, y_dtype)
        draft.close()
        if arrays is None:
            return
        self._state, self._known = schema.unsettled().state_dict(), [schema]
        self.rows = StoredRows(arrays[0], arrays[1], self.name)
        size = sum(array.nbytes for array in arrays if array is not None)
        if size >= SAID_FROM:
            folder = tempfile.gettempdir()
            log(f"{self.name}: the rows are kept as numbers in {folder}, {size / 1e6:,.0f} MB, "
                "while they are in use: text is slower to read")  # fmt: skip


class Draft:
    """Files that a pass writes; it stops writing if there is no space."""

    def __init__(self, kept: KeptRows) -> None:
        self._kept = kept
        self._written = self._expected = 0
        self._files: list[_Numbers] = []
        # A pass that ends early must let others write, too.
        self.close = weakref.finalize(self, kept.free.release)
        self.close.atexit = False

    def add(self, x: Array, y: Array | None, text: int) -> None:
        """Write some rows, which were `text` bytes of text."""
        arrays = [x] if y is None else [x, y]
        if not self._kept.possible:
            return
        try:
            if self._has_room(sum(array.nbytes for array in arrays), text):
                self._files = self._files or [_Numbers(array) for array in arrays]
                for file, array in zip(self._files, arrays, strict=True):
                    file.add(array)
                return
        except OSError:
            pass
        self._kept.possible, self._files = False, []

    def _has_room(self, size: int, text: int) -> bool:
        if self._written == 0:
            self._expected = math.ceil(size * self._kept.size / max(1, text))
        needed = max(size, self._expected - self._written)
        self._written += size
        most = MOST_OF_TEXT * self._kept.size + _LEAST
        fits = max(self._written, self._expected) <= most
        return fits and shutil.disk_usage(tempfile.gettempdir()).free >= 2 * needed

    def arrays(self, rows: int, y_dtype: Any) -> "tuple[ArrayFile, ArrayFile | None] | None":
        """Return x and y of this many rows; None if they could not be written."""
        if not self._files or any(file.rows != rows for file in self._files):
            return None
        try:
            x, *y = self._files
            if y and y_dtype is not None:
                y = [y[0].converted(y_dtype)]
            return x.array(), y[0].array() if y else None
        except OSError:
            return None


class SeenRows:
    """Keeps the requested rows of a text, in the order of their first request."""

    def __init__(self, draft: Draft, rows: int, name: str, size: int) -> None:
        self._draft, self._name, self._size = draft, name, size
        self._places, self._count = np.full(rows, -1), 0
        self._lock = threading.Lock()

    def take(self, index: Array, parse: Callable[[Array], Pair], source: Any) -> Pair:
        """Return rows of a source; only new rows are parsed."""
        if source.schema.fills:
            # Kept rows have gaps, because a split fills them with means of one part only.
            x, y = source.unfilled().take(index)
            return source.schema.fill(x), y
        with self._lock:
            new = index[self._places[index] < 0]
            if len(new):
                new = np.unique(new)
                pair = parse(new)
                self._draft.add(*pair, self._size * len(new) // len(self._places))
                self._places[new] = np.arange(self._count, self._count + len(new))
                self._count += len(new)
                if np.array_equal(new, index):
                    return pair
            arrays = self._draft.arrays(self._count, None)
            if arrays is None:
                return parse(index)
            return StoredRows(*arrays, self._name).take(self._places[index])


class _Numbers:
    """An unnamed file to which arrays are appended."""

    def __init__(self, first: Array) -> None:
        self.shape, self.dtype, self.rows = first.shape[1:], first.dtype, 0
        self._file: Any = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  (the next line does)
        weakref.finalize(self, self._file.close)
        if self._file.fileno() >= _most_open() / 2:
            raise OSError("the other half of the files that may be open is left for others")

    def add(self, array: Array) -> None:
        if array.dtype != self.dtype or array.shape[1:] != self.shape:
            raise OSError("all rows of a table have one dtype and shape")
        left: memoryview = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        while len(left):
            left = left[self._file.write(left) :]
        self.rows += len(array)

    def converted(self, dtype: Any) -> "_Numbers":
        array = self.array()
        new = _Numbers(np.empty((0, *self.shape), dtype))
        with np.errstate(over="ignore"):
            for first in range(0, self.rows, _PIECE):
                new.add(array.rows(slice(first, first + _PIECE)).astype(dtype))
        return new

    def array(self) -> "_Unnamed":
        return _Unnamed(self, self._file)


def _most_open() -> float:
    """Return how many files this process may have open; Windows reports no such limit."""
    try:
        import resource
    except ImportError:
        return math.inf
    most: int = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return math.inf if most == resource.RLIM_INFINITY else most


class _Unnamed(ArrayFile):
    """An array in a file without a name."""

    is_held = False

    def __init__(self, numbers: _Numbers, file: Any) -> None:
        opened = os.fstat(file.fileno())
        super().__init__(
            "the temporary file", 0, (numbers.rows, *numbers.shape), numbers.dtype, opened=opened
        )
        self._numbers, self._file, self._lock = numbers, file, threading.Lock()

    @contextmanager
    def _reading(self) -> Iterator[Any]:
        # If the system can't read at a given place, all threads share the file's place.
        with self._lock:
            try:
                yield self._file
            except CutShort:
                raise changed(self.path) from None


def _indices(places: dict[str, int], columns: list[str]) -> Any:
    """Return the places of columns, as a slice if they are consecutive: a slice needs no copy."""
    found = [places[column] for column in columns]
    first = found[0] if found else 0
    alike = found == list(range(first, first + len(found)))
    return slice(first, first + len(found)) if alike else found


def _numbers_of(frame: Any, features: Any, targets: Any, dtype: Any) -> Pair:
    """Return x and y of a frame of numbers, by their places in it; y in float64."""
    table = frame.to_numpy(np.float64)
    with np.errstate(over="ignore"):
        x = np.ascontiguousarray(table[:, features], dtype=dtype)
    y = table[:, targets]
    return x, None if not y.shape[1] else y[:, 0] if y.shape[1] == 1 else y


def _is_of_numbers(schema: Schema, features: list[str], targets: list[str]) -> bool:
    """Tell whether x is these features unchanged, including gaps, and y the targets."""
    as_is = schema.names == schema.features == features and schema.targets == targets
    gaps = all(isinstance(policy_of(schema.missing, f), str) for f in features)
    return as_is and gaps and not schema.texts and schema.classes is None and schema.exact is None
