"""Pieces of CSV files, each of whole rows: several processes make one pass over the files.

In the middle of a file, the start of a row is a guess, because a line may be within quotes. A
process that reads up to a wrong place ends within quotes. That is an error: one process then reads
alone.
"""

import contextlib
import copy
import functools
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from minigd.data.pipeline import prefetched
from minigd.data.sources.csv_blocks import Block, NotUtf8, read_blocks, scan
from minigd.data.sources.csv_files import Part, is_packed
from minigd.data.sources.csv_text import Dialect, open_text
from minigd.data.sources.encodings import recode
from minigd.data.sources.together import Decision, ask, deciding, gathered, others_wait
from minigd.data.tables.merging import merge
from minigd.data.tables.schema import TextInNumbers
from minigd.progress import with_progress

_SAMPLE = 1 << 16
"""Bytes searched for the start of a row."""


class Piece(NamedTuple):
    """Some whole rows of a file: the file, the start, the end, and the first line."""

    part: int
    start: int
    stop: int
    line: int


def blocks_of(
    part: Part, dialect: Dialect, size: int, piece: Piece | None = None
) -> Iterator[Block]:
    """Return the blocks of a file, or of a piece of it, that hold rows."""
    body, line = (part.body, part.line) if piece is None else (piece.start, piece.line)
    marks = dialect.separator, dialect.spaces
    with open_text(part.opened, dialect, part.name) as file:
        file.seek(body)
        within: Any = file if piece is None else _Within(file, piece.stop - piece.start)
        blocks = read_blocks(within, part.name, size, *marks, body, line, dialect.comment)
        with recoded():
            yield from (block for block in blocks if not block.is_blank)


def with_progress_over(
    source: Any, part: int, what: str, piece: Piece | None = None
) -> Iterator[Block]:
    """Return the blocks of a file, or of a piece of it, and show the progress."""
    file, dialect = source._parts[part], source._dialect
    # The size of the content is unknown for a packed file, and for another encoding.
    plain = dialect.is_plain and not is_packed(file)
    start, stop = (0, file.size) if piece is None else (piece.start, piece.stop)
    return with_progress(
        blocks_of(file, dialect, source._block_size, piece),
        f"{what} {file.name}",
        rows=lambda block: block.rows,
        share=lambda block: (
            (block.offset + len(block.data) - start) / (stop - start) if plain else None
        ),
    )


class _Within:
    """A reader of a given number of the next bytes of a file."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._left = file, size

    def read(self, size: int) -> bytes:
        data = self._file.read(min(size, self._left))
        self._left -= len(data)
        return data


@contextlib.contextmanager
def recoded() -> Iterator[None]:
    """Add a remedy to the error for bytes that are not UTF-8."""
    try:
        yield
    except NotUtf8 as error:
        error.args += (recode(error.data),)
        raise


# One pass by several processes -------------------------------------------------------------------


def first_pass(source: Any) -> AbstractContextManager[Decision]:
    """Set up a CSV source in the first process; the others read their parts for it."""
    files = [part.opened for part in source._parts]
    return deciding(files, {"pass": functools.partial(share_of_pass, source)})


def read_into(source: Any, seen: Any) -> None:
    """Pass all frames of a CSV source to a first pass; other processes read their parts."""
    merged = _read_together(source, seen) if others_wait() else None
    if merged is not None:
        vars(seen).update(vars(merged), table=source)
        seen.words.place = source
        return
    for frame in source.frames(seen.kinds):
        seen.add(frame)


def _read_together(source: Any, seen: Any) -> Any:
    """Return the combined result of all processes; None if results can't be combined."""
    if not source._dialect.is_plain or any(map(is_packed, source._parts)):
        return None
    given = _sendable(seen), source._used
    found = share_of_pass(source, ask("pass", given), given)
    for what in found or ():
        if isinstance(what, set):
            raise TextInNumbers("", column=min(what), columns=what)
        if what is None:
            return None
    return None if found is None else merge(found)


def _sendable(seen: Any) -> Any:
    """Return a pass without its source."""
    other, other.words = copy.copy(seen), copy.copy(seen.words)
    other.table = other.words.place = None
    return other


def share_of_pass(source: Any, comm: Any, given: Any) -> list[Any] | None:
    """Make this process's part of a pass; return the parts of all processes, if there are any."""
    seen, source._used = copy.deepcopy(given)
    source._parser = source._make_parser()
    pieces = own_pieces(source, comm)
    return None if pieces is None else comm.gather(_seen_in(source, pieces, seen))


def _seen_in(source: Any, pieces: list[Piece], seen: Any) -> Any:
    """Return the result for some pieces: a pass, the columns with texts, or None for an error."""

    def parsed() -> Iterator[Any]:
        for piece in pieces:
            for block in with_progress_over(source, piece.part, "the first pass over", piece):
                yield source._parse(block, piece.part, seen.kinds)

    seen.table = seen.words.place = source
    try:
        for frame, source._at in prefetched(parsed(), 1):
            seen.add(frame)
    except TextInNumbers as error:
        return None if seen.missing is not None else error.columns
    except Exception:
        return None
    return _sendable(seen)


def own_pieces(source: Any, comm: Any) -> list[Piece] | None:
    """Return this process's pieces of the files, in order; None if the files can't be cut."""
    begins = gathered(comm, lambda: _begin(source, comm.rank, comm.size))
    if begins is None:
        return None
    last = len(source._parts), 0
    start, stop = [*begins, last][comm.rank : comm.rank + 2]
    places = []
    for k in range(start[0], min(stop[0] + 1, len(source._parts))):
        part = source._parts[k]
        low = start[1] if k == start[0] else part.body
        high = stop[1] if k == stop[0] else part.size
        if low < high:
            places.append((k, low, high))
    counts = gathered(comm, lambda: [(place[0], _lines(source, *place)) for place in places])
    if counts is None:
        return None
    before: dict[int, int] = {}
    for some in counts[: comm.rank]:
        for k, lines in some:
            before[k] = before.get(k, 0) + lines
    return [
        Piece(*place, source._parts[place[0]].line + before.get(place[0], 0)) for place in places
    ]


def _begin(source: Any, rank: int, size: int) -> tuple[int, int]:
    """Return the file, and the place in it, where the rows of a process begin."""
    lengths = [part.size - part.body for part in source._parts]
    ends = np.cumsum(lengths)
    place = int(ends[-1]) * rank // size
    k = int(np.searchsorted(ends, place, side="right"))
    offset = place - int(ends[k]) + lengths[k] + source._parts[k].body
    if offset == source._parts[k].body:
        return k, offset
    found = _row_after(source, k, offset)
    if found < source._parts[k].size:
        return k, found
    return k + 1, source._parts[k + 1].body if k + 1 < len(source._parts) else 0


def _row_after(source: Any, k: int, offset: int) -> int:
    """Return where a row seems to begin after a place in a file, or where the file ends."""
    part: Part = source._parts[k]
    dialect = source._dialect
    marks, fields = (dialect.separator, dialect.spaces), len(source._columns) - 1
    with open_text(part.opened, dialect, part.name) as file:
        file.seek(offset)
        data = file.read(_SAMPLE)
    at = data.find(b"\n") + 1
    while 0 < at < len(data):
        ends, separators = scan(data[at:], *marks)
        few = [int(end) for end in ends[:3]]
        counts = np.diff([0, *np.searchsorted(separators, few).tolist()])
        if len(few) and (counts == fields).all():
            return offset + at
        at = data.find(b"\n", at) + 1
    return part.size


def _lines(source: Any, k: int, start: int, stop: int) -> int:
    """Return the number of lines that end in a piece of a file."""
    part, lines = source._parts[k], 0
    with open_text(part.opened, source._dialect, part.name) as file:
        file.seek(start)
        within = _Within(file, stop - start)
        while data := within.read(1 << 20):
            lines += data.count(b"\n")
    return lines
