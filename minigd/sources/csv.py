"""Rows of CSV files, larger than memory, in the order of the file or in any other.

The file is read in blocks and parsed by pandas; an index of row offsets, built when an epoch is to
be shuffled, makes every epoch a true permutation of the rows.
"""

import contextlib
import csv
import gzip
import io
import mmap
import os
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from minigd import state
from minigd.backend import Array, Workspace
from minigd.errors import CheckpointError, DataError, check_integer
from minigd.sources.base import Pair, RandomAccess, Rows
from minigd.sources.schema import BadValue, Selection, TextInNumbers, settle
from minigd.sources.text import Block, check_fields, read_blocks

_GZIP = b"\x1f\x8b"
_BOM = b"\xef\xbb\xbf"


class _Part(NamedTuple):
    """One file, as the first pass found it."""

    name: str
    opened: Any  # a path, or the caller's file object
    size: int
    modified: int
    checksum: int
    body: int  # where the rows begin, behind the header
    line: int  # and on which line


class CsvSource(RandomAccess):
    r"""Rows of one or more CSV files.

    A first pass settles what each column is, counts the rows and refuses what is malformed, so that
    nothing changes from block to block: a label first seen at the end has its class from the
    start, and a column of integers with one fraction is a column of floats.

    Parameters
    ----------
    path : path, file object, or a list of them
        Plain or gzipped. Several files have the same header and follow one another.
    target : str or list of str, optional
        Column of y. Text becomes classes 0, 1, … in sorted order; whole numbers become int64, other
        numbers `dtype`. Several columns of numbers make y a table.
    features : list of str, optional
        Columns of x, in this order; all others by default.
    exclude : list of str, optional
        Columns to leave out.
    columns : list of str, optional
        Names of the columns of a file that has no header.
    separator : str, default ","
        One character. Spaces behind it are skipped.
    missing : {"error", "drop"} or float, default "error"
        What becomes of a missing value: an error that names file, line and column; its row is
        dropped, and `dropped` counts it; or this number stands for it (a category that is missing
        then has 0 in each of its columns). A missing target is an error unless dropped.
    na : list of str, optional
        Texts that mean a missing value, besides the empty one and pandas' own.
    categories : dict of str to list, optional
        Levels of categorical columns, where the file's own are not to be taken.
    classes : list, optional
        Classes of the target in the order of their numbers, likewise.
    dtype : dtype, default "float32"
        Of x, and of a target that is not whole numbers.
    block_size : int, default 1 MiB
        Bytes parsed at a time. It changes nothing but speed.
    index_path : path, optional
        Where to keep the index of row offsets for other runs. An index of another file is refused.

    Attributes
    ----------
    rows : int
    dropped : int
        Rows left out because of a missing value.
    names : list of str
        Of the columns of x: ``bedrooms``, or ``color=red`` for a category.
    classes : list of str or None

    Raises
    ------
    DataError
        Naming file, line and column: a row with too few or too many fields, a value that is
        missing or is no number, bytes that are not UTF-8, a missing column, two columns of one
        name, dates or free text, an empty file, a file that has changed.

    Notes
    -----
    In file order, memory does not depend on the size of the file. With a shuffle it is 8 bytes a
    row for the index and 8 for the permutation. A gzipped file can't be shuffled so: `cache` it.

    Examples
    --------
    >>> import io
    >>> file = io.BytesIO(b"size,color,price\n1,red,10\n2,blue,20.5\n3,red,30\n")
    >>> source = CsvSource(file, target="price")
    >>> source.names, source.rows
    (['size', 'color=blue', 'color=red'], 3)
    >>> x, y = source.take(slice(1, 3))
    >>> x.tolist(), y.tolist()
    ([[2.0, 1.0, 0.0], [3.0, 0.0, 1.0]], [20.5, 30.0])
    """

    gather = 16_384

    def __init__(
        self,
        path: Any,
        target: str | Sequence[str] | None = None,
        *,
        features: Sequence[str] | None = None,
        exclude: Collection[str] = (),
        columns: Sequence[str] | None = None,
        separator: str = ",",
        missing: str | float = "error",
        na: Sequence[str] = (),
        categories: Mapping[str, Sequence[Any]] | None = None,
        classes: Sequence[Any] | None = None,
        dtype: Any = "float32",
        block_size: int = 1 << 20,
        index_path: str | os.PathLike[str] | None = None,
    ) -> None:
        if isinstance(missing, str) and missing not in ("error", "drop"):
            raise ValueError(f"missing must be 'error', 'drop' or a number, not {missing!r}")
        if len(separator.encode()) != 1:
            raise ValueError(f"separator must be one character, not {separator!r}")
        self._pandas = _import_pandas()
        self._separator = separator.encode()
        self._na = list(na)
        self._block_size = check_integer("block_size", block_size)
        self._index_path = index_path
        self._starts: list[Array] | None = None
        self._maps: dict[int, Any] = {}
        given = path if isinstance(path, list | tuple) else [path]
        if not given:
            raise DataError("no file was given")
        self._columns: list[str] = list(columns or ())
        self._parts = [self._inspect(file, header=columns is None) for file in given]
        selection = Selection(target, features, exclude, categories or {}, classes, missing)
        features, targets = selection.resolve(self._columns, self._parts[0].name)
        self._used = [c for c in self._columns if c in features or c in targets]
        settled = settle(
            selection, self._columns, self._frames, self._parts[0].name, dtype, self._first_texts()
        )
        self._schema, self.rows, self.dropped = settled
        self.names, self.classes = self._schema.names, self._schema.classes
        if self.rows == 0:
            raise DataError(
                f"{self._parts[0].name} has no rows"
                + (" under its header" if columns is None else "")
                + (f" once {self.dropped} with missing values are dropped" if self.dropped else "")
            )

    # The first pass --------------------------------------------------------------------------

    def _inspect(self, given: Any, header: bool) -> _Part:
        """Read the header and take the file's measure."""
        is_path = isinstance(given, str | os.PathLike)
        name = os.fspath(given) if is_path else getattr(given, "name", "the file object")
        if not is_path and not (hasattr(given, "read") and hasattr(given, "seek")):
            raise TypeError(f"a CSV is a path or a binary file object, not {given!r}")
        checksum = size = 0
        with _open(given) as file:
            first = next(read_blocks(file, str(name), 1 << 16, self._separator, True), None)
            if first is None or len(first.ends) == 0:
                raise DataError(f"{name} is empty")
        start, end = int(first.starts[0]), int(first.ends[0])
        if start == 0 and first.data.startswith(_BOM):
            start = len(_BOM)
        body, line = (end + 1, first.line_of(0) + 1) if header else (start, first.line_of(0))
        row = first.data[start : end + 1].decode("utf-8")
        if header:
            line += row.count("\n") - 1
            found = next(csv.reader([row], delimiter=self._separator.decode(),
                                    skipinitialspace=True))  # fmt: skip
            found = [c.strip() for c in found]
            if self._columns and found != self._columns:
                raise DataError(f"{name} has the columns {found}, the first file {self._columns}")
            self._columns = found
        with _open(given, raw=True) as file:
            while chunk := file.read(1 << 20):
                checksum, size = zlib.adler32(chunk, checksum), size + len(chunk)
        modified = os.stat(given).st_mtime_ns if is_path else 0
        return _Part(str(name), given, size, modified, checksum, body, line)

    def _first_texts(self) -> list[str]:
        """Return the columns that hold text in the first block."""
        block = next(self._blocks(0), None)
        if block is None:
            return []
        frame = self._read(block.data, text=self._columns)
        numeric = self._pandas.to_numeric
        return [
            c
            for c in self._used
            if (numeric(frame[c], errors="coerce").isna() & frame[c].notna()).any()
        ]

    def _frames(self, text: Collection[str]) -> Iterator[Any]:
        for part in range(len(self._parts)):
            for block in self._blocks(part):
                yield self._parse(block, part, text)

    # Bytes to numbers ------------------------------------------------------------------------

    def _blocks(self, part: int) -> Iterator[Block]:
        name, opened, _, _, _, body, line = self._parts[part]
        with _open(opened) as file:
            file.seek(body)
            for block in read_blocks(
                file, name, self._block_size, self._separator, True, body, line
            ):
                if len(block.starts):
                    check_fields(block, name, len(self._columns))
                    yield block

    def _parse(self, block: Block, part: int, text: Collection[str]) -> Any:
        """Return the frame of a block; a text among numbers is `TextInNumbers`."""
        try:
            frame = self._read(block.data, text)
        except ValueError as error:
            raise self._find_text(block, part, text, error) from error
        if len(frame) != len(block.starts):
            raise DataError(
                f"{self._parts[part].name}, from line {block.line} on: {len(block.starts)} rows "
                f"are read as {len(frame)}; line ends must be \\n or \\r\\n, and none a lone \\r"
            )
        return frame

    def _read(self, data: bytes, text: Collection[str]) -> Any:
        return self._pandas.read_csv(
            io.BytesIO(data),
            header=None,
            names=self._columns,
            usecols=self._used,
            index_col=False,
            dtype={c: str if c in text else np.float64 for c in self._used},
            sep=self._separator.decode(),
            skipinitialspace=True,
            na_values=self._na,
            engine="c",
            **_exact(self._pandas),
        )

    def _find_text(
        self, block: Block, part: int, text: Collection[str], error: ValueError
    ) -> DataError:
        frame = self._read(block.data, self._columns)
        for column in self._used:
            if column not in text:
                numbers = self._pandas.to_numeric(frame[column], errors="coerce")
                wrong = np.flatnonzero(numbers.isna() & frame[column].notna())
                if len(wrong):
                    value = frame[column].iloc[int(wrong[0])]
                    where = self._where(block, part, int(wrong[0]))
                    return TextInNumbers(
                        f"{where}, column {column!r}: {value!r} is no number; if it means that the "
                        f"value is missing, say so with na=[{value!r}]",
                        column,
                    )
        return DataError(f"{self._parts[part].name}, from line {block.line} on: {error}")

    def _encode(self, block: Block, part: int) -> tuple[Array, Array | None, Array | None]:
        frame = self._parse(block, part, self._schema.texts)
        try:
            return self._schema.encode(frame)
        except BadValue as problem:
            raise DataError(f"{self._where(block, part, problem.row)}, {problem}") from None

    def _where(self, block: Block, part: int, row: int) -> str:
        return f"{self._parts[part].name}, line {block.line_of(row)}"

    # Rows in order ---------------------------------------------------------------------------

    def chunks(self, start: int = 0) -> Iterator[Pair]:
        """Return the rows from number `start` on, in the order of the file, a block at a time."""
        self._check_unchanged()
        dropping = self._schema.missing == "drop"
        row = 0
        for part in range(len(self._parts)):
            for block in self._blocks(part):
                if not dropping and row + len(block.starts) <= start:
                    row += len(block.starts)
                    continue
                x, y, _ = self._encode(block, part)
                skipped = min(max(start - row, 0), len(x))
                row += len(x)
                if skipped < len(x):
                    yield x[skipped:], None if y is None else y[skipped:]
        self._check_unchanged()
        if row != self.rows:
            raise DataError(
                f"{self._parts[0].name} had {self.rows} rows at first and now has {row}"
            )

    def _check_unchanged(self) -> None:
        for name, opened, size, modified, checksum, _, _ in self._parts:
            if not isinstance(opened, str | os.PathLike):
                continue
            now = os.stat(opened)
            if (now.st_size, now.st_mtime_ns) == (size, modified):
                continue
            # A file that was only touched is the same file.
            found = 0
            with open(opened, "rb") as file:
                while chunk := file.read(1 << 20):
                    found = zlib.adler32(chunk, found)
            if (now.st_size, found) != (size, checksum):
                raise DataError(
                    f"{name} has changed since it was opened: open it again with a new CsvSource"
                )

    # Rows in any order -----------------------------------------------------------------------

    def take(self, rows: Rows, workspace: Workspace | None = None) -> Pair:
        """Return x and y of some rows, read from their places in the file.

        The rows are fetched in the order of the file, parsed together, and put in the order asked
        for.
        """
        index = np.arange(self.rows)[rows] if isinstance(rows, slice) else np.asarray(rows)
        self._check_unchanged()
        starts = self._index()
        order = np.argsort(index, kind="stable")
        firsts = np.cumsum([0, *(len(s) - 1 for s in starts)])
        limits = np.searchsorted(index[order], firsts)
        xs, ys = [], []
        for part in range(len(starts)):
            wanted = index[order[limits[part] : limits[part + 1]]] - firsts[part]
            if len(wanted):
                x, y = self._fetch(part, starts[part], wanted)
                xs.append(x)
                ys.append(y)
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        x = (xs[0] if len(xs) == 1 else np.concatenate(xs))[back]
        if ys[0] is None:
            return x, None
        y = ys[0] if len(ys) == 1 else np.concatenate([y for y in ys if y is not None])
        return x, y[back]

    def _fetch(self, part: int, starts: Array, wanted: Array) -> Pair:
        """Return the rows of one file with these numbers, which are in order."""
        whole = self._map(part)
        # Neighbours in the file are one piece.
        breaks = np.flatnonzero(np.diff(wanted) != 1) + 1
        begins = starts[wanted[np.concatenate(([0], breaks))]].tolist()
        ends = starts[wanted[np.concatenate((breaks, [len(wanted)])) - 1] + 1].tolist()
        pieces = [whole[a:b] for a, b in zip(begins, ends, strict=True)]
        if not pieces[-1].endswith(b"\n"):
            pieces[-1] += b"\n"
        data = b"".join(pieces)
        try:
            x, y, _ = self._schema.encode(self._read(data, self._schema.texts))
            if len(x) != len(wanted):
                raise ValueError(f"{len(wanted)} rows are read as {len(x)}")
        except ValueError as error:
            name = self._parts[part].name
            raise DataError(f"{name} has changed since it was opened: {error}") from error
        return x, y

    def _map(self, part: int) -> Any:
        if part not in self._maps:
            _, opened, *_ = self._parts[part]
            with _open(opened, raw=True) as file:
                if isinstance(opened, str | os.PathLike):
                    whole: Any = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                else:
                    whole = file.read()
            if whole[:2] == _GZIP:
                raise DataError(
                    f"{self._parts[part].name} is gzipped, and rows in the middle of it can't be "
                    "reached: unpack it, or use source.cache(folder), or a shuffle buffer"
                )
            self._maps[part] = whole
        return self._maps[part]

    def _index(self) -> list[Array]:
        """Return, for each file, where each row starts, and where the last one ends."""
        if self._starts is None:
            for part in range(len(self._parts)):
                self._map(part)
            kept = self._load_index()
            self._starts = self._build_index() if kept is None else kept
            if kept is None and self._index_path is not None:
                named = {f"starts{i}": starts for i, starts in enumerate(self._starts)}
                state.write(self._index_path, {"kind": "index", **self._index_key()}, named)
        return self._starts

    def _build_index(self) -> list[Array]:
        result = []
        for part in range(len(self._parts)):
            pieces = []
            end = 0
            for block in self._blocks(part):
                starts = block.starts
                end = block.offset + int(block.ends[-1]) + 1
                if self._schema.missing == "drop":
                    # A row that is dropped lies behind one that is kept, is read with it, and is
                    # dropped again.
                    _, _, kept = self._encode(block, part)
                    starts = starts if kept is None else starts[kept]
                pieces.append(starts + block.offset)
            result.append(np.concatenate([*pieces, [end]]) if pieces else np.zeros(1, np.int64))
        return result

    def _index_key(self) -> dict[str, Any]:
        return {
            "files": [[p.size, p.checksum, p.body] for p in self._parts],
            "missing": self._schema.missing,
        }

    def _load_index(self) -> list[Array] | None:
        if self._index_path is None or not Path(self._index_path).exists():
            return None
        description, arrays = state.read(self._index_path)
        own = self._index_key()
        if {key: description.get(key) for key in own} != own:
            raise CheckpointError(
                f"{os.fspath(self._index_path)!r} is the index of other data than "
                f"{self._parts[0].name}: delete it, and it is made anew"
            )
        return [arrays[f"starts{i}"] for i in range(len(self._parts))]

    def fingerprint(self) -> dict[str, Any]:
        """Return the sizes and checksums of the files, and what their columns become."""
        return {
            "files": [[p.size, p.checksum] for p in self._parts],
            "schema": self._schema.state_dict(),
        }

    def __repr__(self) -> str:
        files = ", ".join(part.name for part in self._parts)
        return f"CsvSource({files}: {self.rows} rows, {len(self.names)} columns)"


def _open(given: Any, raw: bool = False) -> contextlib.AbstractContextManager[BinaryIO]:
    """Open a path, or rewind a file object, and unpack gzip unless `raw`."""
    if isinstance(given, str | os.PathLike):
        file = open(given, "rb")  # noqa: SIM115  (the caller closes it)
        if not raw and file.read(2) == _GZIP:
            file.close()
            return gzip.open(given, "rb")  # type: ignore[return-value]
        file.seek(0)
        return file
    given.seek(0)
    start = given.read(2)
    if isinstance(start, str):
        raise TypeError("a file object of text was given: open the file in binary mode, 'rb'")
    given.seek(0)
    if not raw and start == _GZIP:
        return gzip.GzipFile(fileobj=given)  # type: ignore[return-value]
    return contextlib.nullcontext(given)


def _import_pandas() -> Any:
    try:
        import pandas
    except ImportError as error:
        raise ImportError(
            f"tables are read by pandas, which is not there ({error}): pip install 'minigd[data]'"
        ) from error
    return pandas


def _exact(pandas: Any) -> dict[str, str]:
    # From 3.1 on pandas reads numbers exactly by default, and warns of the option.
    version = tuple(int(part) for part in pandas.__version__.split(".")[:2])
    return {} if version >= (3, 1) else {"float_precision": "round_trip"}
