"""Rows of a CSV from a pipe, which is read once, with a known schema."""

import io
import os
from collections.abc import Iterator
from typing import Any

from minigd.data.sources.csv import CsvSource
from minigd.data.sources.csv_blocks import WrongFields
from minigd.data.sources.packed import LONGEST, packing_of
from minigd.data.tables.applied import Applied
from minigd.data.tables.schema import ColumnKinds, Encoded, MissingColumn, Schema
from minigd.data.tables.selection import Selection
from minigd.errors import DataError

_PIECE = 1 << 16


class Once:
    """A stream that can go back to its beginning until `let_go` is called.

    A read returns the available bytes, and waits only for the first one.
    """

    streams = True

    def __init__(self, source: Any, name: str) -> None:
        self.name, self._source = name, source
        self._held, self._start, self._at = b"", 0, 0
        self._keeps, self._ended = True, False

    @property
    def can_stream(self) -> bool:
        """Whether it can be read without its end, unlike a zip archive or a Parquet file."""
        head = self.read(LONGEST)
        self.seek(0)
        return packing_of(head) != "zip" and not head.startswith(b"PAR1")

    def let_go(self) -> None:
        """Keep only what was read ahead from now on."""
        self._keeps = False

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a place that is still in memory."""
        if whence != os.SEEK_SET or not self._start <= offset <= self._start + len(self._held):
            raise io.UnsupportedOperation(f"{self.name} can't be read again")
        self._at = offset
        return offset

    def read(self, size: int = -1) -> bytes:
        """Return up to this many of the next bytes."""
        begin = self._at - self._start
        if size and begin == len(self._held):
            self._read_more()
        data = self._held[begin:] if size < 0 else self._held[begin : begin + size]
        self._at += len(data)
        if not self._keeps:
            self._held, self._start = self._held[begin + len(data) :], self._at
        return data

    def _read_more(self) -> None:
        """Read a piece; the first one is long enough to recognize the kind of file."""
        first = not self._held and not self._start
        while not self._ended:
            piece = self._source.read1(_PIECE)
            self._ended = not piece
            self._held += piece
            if not first or b"\n" in self._held or len(self._held) >= LONGEST:
                break


class CsvStream(CsvSource):
    """Rows of a `Once`, for the schema of another table; only `encoded` returns them.

    Their number, and the missing values in them, are known after they have been read.
    """

    def _open(self, selection: Selection, schema: Schema | None, dtype: Any) -> None:
        try:
            found = self._first_pass(selection, schema, dtype)
        except (MissingColumn, WrongFields) as error:
            error.args += tuple(self._header.advice(error, selection))
            raise
        if next(self._blocks(0), None) is None:
            raise DataError(self._header.without_rows)
        found._replace(rows=1).give_to(self, "")
        self.rows = None  # type: ignore[assignment]

    def frames(self, kinds: ColumnKinds) -> Iterator[Any]:
        """Return no frames: there is no first pass over the rows."""
        return iter(())

    def encoded(self) -> Iterator[Encoded]:
        """Return x, y, and which rows were not dropped (None for all), as they arrive."""
        applied = Applied(self.schema, self)
        for part, block in self._all_blocks():
            self._parts[part].opened.let_go()
            frame, self._at = self._parse(block, part, self.schema.kinds)
            yield applied.add(frame)
        applied.result(self._parts[0].name).give_to(self, self._header.without_rows)
