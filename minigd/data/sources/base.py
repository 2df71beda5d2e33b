"""What a source is: rows of x and y, stored anywhere.

Some sources fetch rows by number, others only stream them in order; all can be read again.
"""

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np

from minigd.backends.base import backend_of
from minigd.backends.on_demand import call
from minigd.backends.workspace import Workspace
from minigd.errors import DataError, check_integer
from minigd.progress import with_progress
from minigd.types import Array

Rows: TypeAlias = slice | Array
"""Which rows: a slice of consecutive ones, or an array of row numbers on the host."""

Pair: TypeAlias = tuple[Array, Array | None]
"""x and y of some rows; y is None if there are no targets."""


class Source(ABC):
    """Rows of x, and of y if there are targets.

    A stream defines `chunks`; a source with random access sets `random_access` and defines `take`.

    Attributes
    ----------
    rows : int or None
        The number of rows; None for a stream that has not been counted.
    random_access : bool
        Whether `take` works, so that an epoch can be any permutation of the rows.
    in_memory : bool
        Whether a slice of rows is a view, so each batch can be taken on its own.
    gather : int
        How many shuffled rows to take at once: more than a small batch, because a call costs as
        much as many rows.
    one_shot : bool
        Whether the rows can be read only once, because they come from an iterator.
    checked : bool
        Whether all values are known to be finite numbers, so no batch needs another check.
    names, classes : list of str or None
        The names of the columns of x, and of the classes that y numbers, if known.
    weight : Array or None
        How much each row counts, in float64 on the host; None if rows have no weights.
    schema : Schema or None
        What the columns became, if the rows come from a table.
    target_problems : mapping of str to str
        For each dtype by name, what a target of whole numbers would lose in it, if anything.
    """

    rows: int | None = None
    random_access: bool = False
    in_memory: bool = False
    gather: int = 1
    one_shot: bool = False
    checked: bool = False
    names: list[str] | None = None
    classes: list[str] | None = None
    weight: Array | None = None
    schema: Any = None
    target_problems: Mapping[str, str] = {}

    @abstractmethod
    def chunks(self, start: int = 0) -> Iterator[Pair]:
        """Return the rows from number `start` on, in order, in pieces of any size."""

    @abstractmethod
    def fingerprint(self) -> dict[str, Any]:
        """Return a fingerprint of the data, for JSON: size and sampled content."""

    def take(self, rows: Rows, workspace: Workspace | None = None) -> Pair:
        """Return x and y of some rows: views for a slice of an array, otherwise fresh memory."""
        raise TypeError(f"{type(self).__name__} has no random access")

    def order(self, rows: Array) -> Array:
        """Return row numbers on the device where `take` expects them: the host."""
        return rows

    def for_part(self, in_order: bool) -> "Source":
        """Return the same rows for a process that needs a part of them, in order or shuffled.

        Such a process does not read and keep the rows that only others need.
        """
        return self

    def settle(self, comm: Any) -> None:  # noqa: B027  (many find nothing)
        """Compute with all processes of a communicator what each would compute alone.

        Means, an index of rows and a fingerprint are otherwise computed on first use.
        """

    @property
    def to_read_parts(self) -> str:
        """The remedy if a part of the rows can't be read without the others, "" if it can."""
        return "" if self.random_access else "cache it once, source.cache(folder)"

    def places(self, rows: Array) -> list[str]:
        """Return the places of some rows in words: the number of each, or its line in a file.

        >>> import numpy as np, minigd as gd
        >>> gd.ArraySource([[1.0], [2.0]]).places(np.array([1]))
        ['row 1']
        """
        return [f"row {row}" for row in np.asarray(rows).tolist()]

    def origin(self, what: str, rows: Rows) -> tuple[str, Rows]:
        """Return the name of x or y for an error, and the numbers of its rows in their source."""
        return what, rows

    def count(self) -> int:
        """Return the number of rows, after reading all of them once if necessary."""
        if self.rows is None:
            self.rows = sum(len(x) for x, _ in with_progress(self.chunks(), "counting"))
        return self.rows

    def cache(self, path: str | os.PathLike[str]) -> "Source":
        """Return the same rows as `.npy` files in the folder `path`, written there once.

        Later calls, in this run or another, find them there. They are written again if the data of
        this source have changed, or if a file is missing or damaged.

        Raises
        ------
        OSError
            If a file can't be written, for example on a full disk. The error names the file and the
            space that it needs. Unfinished files are removed.

        Examples
        --------
        >>> import tempfile, minigd as gd
        >>> stream = gd.IterableSource([([[1.0], [2.0]], [0, 1]), ([[3.0]], [1])])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     cached = stream.cache(folder + "/rows")
        ...     x, y = cached.take(slice(1, 3))
        ...     x.tolist(), y.tolist()
        ([[2.0], [3.0]], [1, 1])
        """
        source: Source = call("minigd.data.sources.cache", "cache", self, path)
        return source

    def unfilled(self) -> "Source":
        """Return the same rows with NaN where a mean or a median replaces a missing number.

        Returns this source itself if no missing number is replaced.
        """
        return self

    def column(self, name: str) -> Array:
        r"""Return the values of a column in all rows, of shape (rows,).

        For a table these are texts as written there, even for a column that is not used.

        Raises
        ------
        DataError
            If there is no such column.

        Examples
        --------
        >>> import io, minigd as gd
        >>> file = io.BytesIO(b"a,who,y\n1,Ann,2\n3,Bob,4\n")
        >>> gd.CsvSource(file, target="y", exclude=["who"]).column("who").tolist()
        ['Ann', 'Bob']
        """
        names = self.names or []
        if name not in names:
            known = f"the columns are {', '.join(names)}" if names else "its columns have no names"
            raise DataError(f"{self!r} has no column {name!r}; {known}")
        host = [backend_of(x).to_numpy(x) for x, _ in self.chunks()]
        return np.concatenate([x[:, names.index(name)] for x in host])

    def split(
        self,
        fraction: float,
        seed: int = 0,
        *,
        stratify: bool = False,
        group: Any = None,
        time: Any = None,
    ) -> "tuple[Source, Source]":
        """Return two sources, the second with about `fraction` of the rows.

        The side of a row depends only on its numbers and the seed, not on its position. A file in
        another order, or with added rows, is therefore split in the same way, and equal rows are
        always on the same side. A new category changes the numbers of all rows, and thus the split,
        unless the levels were given.

        Parameters
        ----------
        fraction : float
            Between 0 and 1.
        seed : int, default 0
        stratify : bool, default False
            Whether the second part gets that share of each class of y, as nearly as whole rows
            allow. It gets the rows of a class with the smallest hashes, so added rows may move some
            others.
        group : str or array-like of shape (rows,), optional
            Rows with the same value stay on the same side, such as those of a patient. Give the
            name of a column, which need not be used, or the values.
        time : str or array-like of shape (rows,), optional
            The rows with the latest times become the second part; rows with the same time stay
            together. Times are numbers, dates in the usual formats, or NumPy datetimes.

        Raises
        ------
        DataError
            If a part has no rows, or a time is missing or invalid.

        Examples
        --------
        >>> import numpy as np, minigd as gd
        >>> train, validation = gd.ArraySource(np.arange(2000.0).reshape(1000, 2)).split(0.2)
        >>> train.rows, validation.rows
        (802, 198)
        >>> source = gd.ArraySource(np.arange(8.0).reshape(8, 1))
        >>> train, validation = source.split(0.25, time=[3, 1, 4, 1, 5, 9, 2, 6])
        >>> [x.ravel().tolist() for x, _ in validation.chunks()]
        [[5.0, 7.0]]
        """
        by = {"stratify": stratify, "group": group, "time": time}
        parts: tuple[Source, Source] = call(
            "minigd.data.sources.split", "split", self, fraction, seed, **by
        )
        return parts


class RandomAccess(Source):
    """A source whose rows can be fetched by number."""

    rows: int
    random_access: bool = True
    _chunk: int = 8192

    @abstractmethod
    def take(self, rows: Rows, workspace: Workspace | None = None) -> Pair:
        """Return x and y of some rows: views for a slice of an array, otherwise fresh memory."""

    def fingerprint(self) -> dict[str, Any]:
        """Return the shapes, the dtypes, and a hash of up to 1,000 rows spread over the data."""
        index = np.unique(np.linspace(0, self.rows - 1, 1000).astype(np.int64))
        digest = hashlib.sha256()
        shapes = []
        for array in self.take(index):
            if array is not None:
                sample = backend_of(array).to_numpy(array)
                digest.update(np.ascontiguousarray(sample).tobytes())
                shapes.append([[self.rows, *array.shape[1:]], str(array.dtype)])
        return {"shapes": shapes, "sha256": digest.hexdigest()}

    def chunks(self, start: int = 0) -> Iterator[Pair]:
        """Return the rows from number `start` on, in order, in pieces."""
        for first in range(check_integer("start", start, 0), self.rows, self._chunk):
            yield self.take(slice(first, min(first + self._chunk, self.rows)))
