"""The start of each row of CSV files, for reading rows in any order."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from minigd.data.sources.base import Pair, Rows
from minigd.data.sources.csv_blocks import Block, blank_comments
from minigd.data.sources.csv_files import Part, is_packed, open_file
from minigd.data.sources.csv_pieces import Piece, blocks_of, own_pieces, with_progress_over
from minigd.data.sources.csv_text import Dialect
from minigd.data.sources.file_reads import (
    GAP,
    PIECE,
    CutShort,
    changed,
    read_pieces,
)
from minigd.data.sources.together import gathered
from minigd.errors import CheckpointError, DataError, check_path
from minigd.storage import npz
from minigd.storage.atomic_files import naming
from minigd.storage.damage import of_file
from minigd.types import Array


class RowIndex:
    """The offsets of all rows, computed on first use, or read from a file."""

    def __init__(self, source: Any, path: str | os.PathLike[str] | None) -> None:
        self._source = source
        self._path = None if path is None else check_path("index_path", path)
        self._parts = source._parts
        self._starts: list[Array] | None = None

    @property
    def starts(self) -> list[Array]:
        """For each file, the start of each row, and the end of the last one."""
        if self._starts is None:
            for part in self._parts:
                _refuse_packed(part)
                _refuse_translated(part, self._source._dialect)
            kept = self._load()
            self._starts = self.build() if kept is None else kept
            if kept is None:
                self._save()
        return self._starts

    def settle(self, comm: Any) -> None:
        """Build the index with other processes, each from a part of the files."""
        needed = self._source.random_access and self._source._kept.rows is None
        there = self._starts is not None or self._load() is not None
        if not any(comm.gather(needed)) or any(comm.gather(there)):
            return
        pieces = own_pieces(self._source, comm)
        found = None if pieces is None else gathered(comm, lambda: self._starts_in(pieces))
        if found is None:
            return
        self._starts = []
        for part in range(len(self._parts)):
            some = [starts for own in found for k, starts, _ in own if k == part]
            end = [end for own in found for k, _, end in own if k == part][-1:]
            self._starts.append(np.concatenate([*some, np.array(end, dtype=np.int64)]))
        if comm.rank == 0:
            self._save()

    def _starts_in(self, pieces: list[Piece]) -> list[tuple[int, Array, int]]:
        """Return for each block the file, the starts of its rows, and the end of the last one."""
        source, found = self._source, []
        for piece in pieces:
            part = source._parts[piece.part]
            given = source._dialect, source._block_size, piece
            for block in blocks_of(part, *given):
                starts = self._starts_of(block, piece.part)
                end = block.offset + int(block.ends[-1]) + 1
                found.append((piece.part, starts + block.offset, end))
        return found

    def _starts_of(self, block: Block, part: int) -> Array:
        """Return where in a block the kept rows start."""
        if not self._source.schema.drops:
            return block.starts
        # A dropped row after a kept one is read with it, and dropped again.
        _, _, kept = self._source._encode(block, part)
        return block.starts if kept is None else block.starts[kept]

    def _save(self) -> None:
        if self._starts is not None and self._path is not None:
            named = {f"starts{i}": starts for i, starts in enumerate(self._starts)}
            npz.write(self._path, {"kind": "index", **self._key()}, named)

    def take(self, index: Array, at_once: int, fetch: Callable[..., Pair]) -> Pair:
        """Return the rows with these numbers, in this order; `fetch` reads some at once."""
        starts = self.starts
        order = np.argsort(index, kind="stable")
        firsts = np.cumsum([0, *(len(s) - 1 for s in starts)])
        limits = np.searchsorted(index, firsts, sorter=order).tolist()
        found: list[Any] = []
        for part, own in enumerate(starts):
            for begin in range(limits[part], limits[part + 1], at_once):
                places = order[begin : min(begin + at_once, limits[part + 1])]
                pair = fetch(part, own, index[places] - firsts[part])
                for i, some in enumerate(pair):
                    if len(found) <= i:
                        shape = (len(index), *some.shape[1:]) if some is not None else ()
                        found.append(None if some is None else np.empty(shape, some.dtype))
                    if some is not None:
                        found[i][places] = some
        return found[0], found[1]

    def build(self) -> list[Array]:
        """Read all files, and return where their rows start."""
        # One vector of the final length for all files, to avoid a concatenation.
        whole = np.empty(self._source.rows + len(self._parts), dtype=np.int64)
        result, at = [], 0
        for part in range(len(self._parts)):
            first, end = at, 0
            for block in with_progress_over(self._source, part, "an index of"):
                starts = self._starts_of(block, part)
                end = block.offset + int(block.ends[-1]) + 1
                np.add(starts, block.offset, out=whole[at : at + len(starts)])
                at += len(starts)
            whole[at] = end
            at += 1
            result.append(whole[first:at])
        return result

    def read(self, part: int, starts: Array, wanted: Array) -> bytes:
        """Return the rows of one file with these numbers, which are in order."""
        # Neighbors in the file are one piece.
        breaks = np.flatnonzero(np.diff(wanted) != 1) + 1
        begins = starts[wanted[np.concatenate(([0], breaks))]]
        ends = starts[wanted[np.concatenate((breaks, [len(wanted)])) - 1] + 1]
        # The last row of the file may lack its newline.
        np.minimum(ends, self._parts[part].size, out=ends)
        pieces = self._read_pieces(part, begins, ends)
        # That last row may be requested more than once.
        for i in range(len(pieces) - 1, -1, -1):
            if pieces[i].endswith(b"\n"):
                break
            pieces[i] += b"\n"
        dialect = self._source._dialect
        marks = dialect.comment, dialect.separator, dialect.spaces
        return blank_comments(b"".join(pieces), *marks)

    def _read_pieces(self, part: int, begins: Array, ends: Array) -> list[bytes]:
        """Return pieces of one file, in order; pieces that are close together are read at once."""
        firsts, lasts = begins.tolist(), ends.tolist()
        apart = (begins[1:] - ends[:-1] > GAP) | (np.diff(begins // PIECE) != 0)
        groups = [0, *(np.flatnonzero(apart) + 1).tolist(), len(firsts)]
        if len(groups) > len(firsts):
            return self._read_file(part, firsts, lasts)
        lows, highs = [firsts[i] for i in groups[:-1]], [lasts[i - 1] for i in groups[1:]]
        pieces = []
        for i, data in enumerate(self._read_file(part, lows, highs)):
            for k in range(groups[i], groups[i + 1]):
                pieces.append(data[firsts[k] - lows[i] : lasts[k] - lows[i]])
        return pieces

    def _read_file(self, part: int, begins: list[int], ends: list[int]) -> list[bytes]:
        name, opened = self._parts[part][:2]
        with naming(name), open_file(opened, raw=True) as file:
            try:
                pieces = read_pieces(file, begins, ends)
                returns = self._parts[part].returns
                return [piece.replace(b"\r", b"\n") for piece in pieces] if returns else pieces
            except CutShort:
                raise changed(name, "CsvSource") from None

    def _key(self) -> dict[str, Any]:
        """Return what the index depends on: the files, and which rows of them are dropped."""
        source = self._source
        schema = source.schema
        dropping = None
        if schema.drops:
            # Which rows are dropped depends on the columns in use, and on what counts as missing.
            known = [schema.missing, schema.levels if schema.unknown == "drop" else None]
            dropping = [sorted(schema.columns), sorted(source._missing.own), source._strip, *known]
            # A default missing word that is named as a level is a value; few indexes need this.
            words = {
                column: sorted(word for word in named if word in source._missing)
                for column, named in schema.kinds.named.items()
            }
            if any(words.values()):
                dropping.append({column: kept for column, kept in words.items() if kept})
        return {**source._as_written(), "dropped": dropping}

    def _load(self) -> list[Array] | None:
        if self._path is None or not Path(self._path).exists():
            return None
        description, arrays = npz.read(self._path)
        own = {"keep_default_na": True, **self._key()}
        if {key: description.get(key, key == "keep_default_na") for key in own} != own:
            raise CheckpointError(
                f"{os.fspath(self._path)!r} is an index of data other than "
                f"{self._parts[0].name}: delete it, and it will be rebuilt"
            )
        with of_file(self._path):
            starts = [arrays[f"starts{i}"] for i in range(len(self._parts))]
            ends = [part.size for part in self._parts]
            if sum(map(len, starts)) != self._source.rows + len(starts) or not all(
                a.dtype == np.int64 and (np.diff(a) > 0).all() and a[0] >= 0 and a[-1] <= end + 1
                for a, end in zip(starts, ends, strict=True)
            ):
                raise ValueError("these are not the places of the rows of the table")
        return starts


def row_numbers(rows: Rows, n: int) -> Array:
    """Return which of n rows are requested; -1 is the last one, as in any array."""
    if isinstance(rows, slice):
        return np.arange(*rows.indices(n))
    index = np.asarray(rows, dtype=np.int64)
    if len(index) and index.min() < 0:
        index = np.where(index < 0, index + n, index)
    if len(index) and not 0 <= index.min() <= index.max() < n:
        raise IndexError(f"row {rows} was requested, but there are {n} rows")
    return index


def _refuse_packed(part: Part) -> None:
    if is_packed(part):
        raise DataError(
            f"{part.name} is packed, so rows in the middle of it can't be reached: unpack it, or "
            "use source.cache(folder), or a shuffle buffer"
        )


def _refuse_translated(part: Part, dialect: Dialect) -> None:
    if not dialect.is_plain:
        what = f"in {dialect.encoding}" if dialect.encoding != "utf-8" else "separated by "
        what += "" if dialect.encoding != "utf-8" else repr(dialect.letter)
        raise DataError(
            f"{part.name} is {what}, so rows in the middle of it can't be reached: write it as "
            "UTF-8, or use source.cache(folder), or a shuffle buffer"
        )
