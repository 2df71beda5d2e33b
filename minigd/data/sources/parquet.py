"""Rows of Parquet files, in their order or in any other, as pyarrow reads them."""

import contextlib
import copy
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from minigd.backends.on_demand import optional
from minigd.data.sources.csv_layout import unnamed_among, warn_of_unnamed
from minigd.data.sources.file_kinds import opened
from minigd.data.sources.file_reads import HELD, changed
from minigd.data.sources.parquet_files import find_parquet_files
from minigd.data.sources.together import deciding, opening_together, together
from minigd.data.sources.typed import NumberedTable, frame_of, rows_in
from minigd.data.tables.missing import Missing
from minigd.data.tables.schema import Schema
from minigd.data.tables.selection import Selection
from minigd.errors import DataError, check_dtype, check_integer, validated
from minigd.types import Array


class ParquetSource(NumberedTable):
    """Rows of Parquet files.

    Only the columns in use are read. The index of a frame that pandas wrote is an ordinary column;
    an index without a name, ``__index_level_0__``, causes a warning.

    Parameters
    ----------
    path : path, or a list of them
        Several files must have the same columns and are read one after another. A pattern,
        ``data/*.parquet``, means several files. A folder means its files that end in .parquet or
        .pq, in order of their names.
    target, features, exclude, missing, categories, min_count, hashed, dates, logs, leave_out, \
classes, schema, dtype
        As in `CsvSource`.
    block_rows : int, default 65,536
        Rows read at a time; it only affects speed and memory.

    Raises
    ------
    DataError
        As for `CsvSource`, with the row instead of the line.
    ImportError
        If pyarrow is missing. The message says what to install.

    Notes
    -----
    Shuffled rows are fetched for many batches at a time, 32 MiB of x, from all row groups that
    contain them. If the columns take up to 256 MiB, they are kept in memory instead, once read.
    """

    @validated
    def __init__(
        self,
        path: Any,
        target: str | Sequence[str] | None = None,
        *,
        features: Sequence[str] | None = None,
        exclude: Collection[str] | None = (),
        missing: Missing = "error",
        categories: Mapping[str, Sequence[Any] | None] | None = None,
        min_count: int | None = None,
        hashed: Mapping[str, int] | None = None,
        dates: Mapping[str, str] | None = None,
        logs: Collection[str] = (),
        leave_out: bool = False,
        classes: Sequence[Any] | None = None,
        schema: Schema | None = None,
        dtype: Any = "float32",
        block_rows: int = 65_536,
    ) -> None:
        self._block_rows = min(check_integer("block_rows", block_rows), 2**31 - 1)
        dtype = check_dtype(dtype)
        optional("pyarrow.parquet", "a Parquet file")
        selection = Selection.make(
            target, features, exclude, categories, classes, missing, min_count, hashed, dates,
            logs, leave_out, schema,
        )  # fmt: skip
        paths = find_parquet_files(path)
        self._name = ", ".join(str(one) for one in paths)
        self._parts = [_Part.of(one) for one in paths]
        self._whole = sum(part.rows for part in self._parts)
        with deciding(paths) as shared:
            if shared.here:
                self._open_table(self._parts[0].names, selection, schema, dtype)
                shared.value = vars(self)
                if schema is None:
                    requested = () if features is None else features
                    unnamed = unnamed_among(self.schema.features, requested)
                    warn_of_unnamed(unnamed, self._name, stacklevel=3)
        vars(self).update(shared.value)

    def _tables(self) -> Iterator[Any]:
        nbytes = 0
        for part in self._parts:
            for batch in part.batches(self._columns, self._block_rows):
                nbytes += batch.nbytes
                yield frame_of(batch, self._name)
        self._nbytes = nbytes

    _nbytes = 0
    """Bytes of the columns in use, once they are read."""
    _held: Any = None

    _may_be_held = True

    @property
    def _reads_all(self) -> bool:
        return self._nbytes > HELD or not self._may_be_held

    def for_part(self, in_order: bool) -> "ParquetSource":
        """Return the same rows; rows in order are read from their row groups, and not kept."""
        if not in_order or self._reads_all:
            return self
        other = copy.copy(self)
        other._may_be_held, other._held = False, None
        other.gather = other._most_gathered()
        return other

    def settle(self, comm: Any) -> None:
        """Take the means and the fingerprint that the first process finds."""
        super().settle(comm)
        with opening_together(comm):
            self._fingerprint = together((), self.fingerprint)
        self.rows = self._fingerprint["rows"]

    def _fetch(self, rows: Array) -> Any:
        arrow = optional("pyarrow", "a Parquet file")
        if not self._reads_all:
            if self._held is None:
                every = (part.batches(self._columns, self._block_rows) for part in self._parts)
                self._held = arrow.Table.from_batches([batch for some in every for batch in some])
            columns = {c: rows_in(self._held[c], rows, arrow) for c in self._columns}
            return frame_of(arrow.table(columns), self._name)
        found, first = [], 0
        for part in self._parts:
            low, high = np.searchsorted(rows, (first, first + part.rows))
            found += part.take(rows[low:high] - first, self._columns, self._block_rows, arrow)
            first += part.rows
        return frame_of(arrow.Table.from_batches(found), self._name)


class _Part(NamedTuple):
    """One file."""

    path: Any
    names: list[str]
    groups: list[int]
    """The rows of each row group."""
    nbytes: int
    """Bytes of the largest row group."""
    stamp: tuple[int, ...]

    @classmethod
    def of(cls, path: Any) -> "_Part":
        """Read the metadata of a file."""
        with _opened(path) as (file, stamp):
            groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
            largest = max((group.total_byte_size for group in groups), default=0)
            rows = [group.num_rows for group in groups]
            return cls(path, file.schema_arrow.names, rows, largest, stamp)

    @property
    def rows(self) -> int:
        return sum(self.groups)

    def batches(self, columns: Sequence[str], size: int) -> Iterator[Any]:
        """Return all rows in pieces of some columns."""
        with self._reading() as file:
            yield from _batches(file, columns, size, None)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Any]:
        with _opened(self.path, self.nbytes > _LARGE) as (file, stamp):
            if stamp != self.stamp:
                raise changed(self.path, "ParquetSource")
            yield file

    def take(self, rows: Array, columns: Sequence[str], size: int, arrow: Any) -> list[Any]:
        """Return the rows with these numbers, which are in order, in pieces."""
        ends = np.cumsum(self.groups)
        groups = np.unique(np.searchsorted(ends, rows, side="right")).tolist()
        found = []
        with self._reading() if groups else contextlib.nullcontext() as file:
            for group in groups:
                first = int(ends[group]) - self.groups[group]
                for batch in _batches(file, columns, size, [group]):
                    low, high = np.searchsorted(rows, (first, first + len(batch)))
                    if low < high:
                        found.append(batch.take(arrow.array(rows[low:high] - first)))
                    first += len(batch)
        return found


def _batches(
    file: Any, columns: Sequence[str], size: int, groups: Sequence[int] | None
) -> Iterator[Any]:
    """Return the rows of some row groups of a file, or all, in pieces of some columns."""
    options = {"batch_size": size, "columns": [*columns], "row_groups": groups}
    for batch in file.iter_batches(**options):
        # A name with a dot in it may have selected other columns too. Without the metadata of
        # pandas, its index is an ordinary column.
        there = [c for c in columns if c in batch.schema.names]
        yield batch.select(there).replace_schema_metadata(None)


_LARGE = 64 << 20
"""From this many bytes, a row group is read page by page instead of one column at a time."""


@contextlib.contextmanager
def _opened(path: Any, by_page: bool = False) -> Iterator[tuple[Any, tuple[int, ...]]]:
    """Open a Parquet file; return it, and a stamp that changes with every edit."""
    parquet = optional("pyarrow.parquet", "a Parquet file")
    arrow_errors = optional("pyarrow.lib", "a Parquet file").ArrowException
    try:
        with (
            opened(path) as rows,
            parquet.ParquetFile(
                rows, pre_buffer=not by_page, buffer_size=(1 << 16) * by_page
            ) as file,
        ):
            now = os.fstat(rows.fileno()) if isinstance(path, str | os.PathLike) else None
            yield file, () if now is None else (now.st_size, now.st_mtime_ns, now.st_ino)
    except (arrow_errors, OSError) as error:
        # An error of the operating system has a number, such as that of a missing file.
        if getattr(error, "errno", None) is not None:
            raise
        raise DataError(f"{path} is not a Parquet file, or is damaged: {error}") from error
