"""The files of a CSV source: how they are opened, and whether they are still the same."""

import contextlib
import gzip
import os
import threading
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

from minigd.data.sources.file_kinds import GZIP, HEAD, ends_in_returns
from minigd.data.sources.file_reads import changed
from minigd.storage.regular_files import open_regular


class Part(NamedTuple):
    """One file, as the first pass found it."""

    name: str
    opened: Any  # a path, or the caller's file object
    size: int
    stamp: tuple[int, ...]  # times of the file, which change with every edit
    checksum: int
    body: int  # where the rows begin, after the header
    line: int  # and on which line
    returns: bool = False  # whether lines end in a lone carriage return


def check_unchanged(part: Part) -> Part:
    """Refuse a file that has changed; one that was only touched is the same, with a new stamp."""
    if not isinstance(part.opened, str | os.PathLike):
        return part
    stamp = stamp_of(part.opened)
    if stamp == part.stamp:
        return part
    if measure(part.opened) != (part.size, part.checksum):
        raise changed(part.name, "CsvSource")
    return part._replace(stamp=stamp)


def measure(given: Any) -> tuple[int, int]:
    """Return the size of a file in bytes, and a checksum."""
    checksum = size = 0
    with open_file(given, raw=True) as file:
        while chunk := file.read(1 << 20):
            checksum, size = zlib.adler32(chunk, checksum), size + len(chunk)
    return size, checksum


@contextlib.contextmanager
def open_file(given: Any, raw: bool = False, returns: bool = True) -> Iterator[BinaryIO]:
    """Open a path, or rewind a file; unless `raw`, unpack gzip, and end lines in newlines.

    With ``returns=False`` lines end as they are written.
    """
    if isinstance(given, str | os.PathLike):
        opened: Any = open_regular(given)
    else:
        given.seek(0)
        opened = contextlib.nullcontext(_OwnPlace(given))
    with opened as file:
        head = b"" if raw else file.read(HEAD)
        file.seek(0)
        if head.startswith(GZIP):
            with gzip.GzipFile(fileobj=file) as unpacked:
                yield unpacked  # type: ignore[misc]
        elif returns and ends_in_returns(head):
            yield _Newlines(file)  # type: ignore[misc]
        else:
            yield file


def length_of_lines(file: BinaryIO, lines: int) -> int:
    """Return how many bytes the next lines of a file take."""
    length = 0
    while lines and (chunk := file.read(1 << 16)):
        for _ in range(lines):
            end = chunk.find(b"\n") + 1
            if not end:
                length += len(chunk)
                break
            length, lines, chunk = length + end, lines - 1, chunk[end:]
    return length


class _Newlines:
    """A reader of a file whose lines end in lone carriage returns, with newlines for them."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def seek(self, offset: int) -> None:
        self._file.seek(offset)

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size).replace(b"\r", b"\n")


class _OwnPlace:
    """A reader of the caller's file object at a place of its own, so that several can read it."""

    _lock = threading.Lock()

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._at = file, 0

    def seek(self, offset: int) -> None:
        self._at = offset

    def read(self, size: int = -1) -> bytes:
        with self._lock:
            self._file.seek(self._at)
            data = self._file.read(size)
        self._at += len(data)
        return data


def stamp_of(path: str | os.PathLike[str]) -> tuple[int, ...]:
    """Return the times and the size of a file, by which an edit shows."""
    # The time of the last change of the entry shows an edit after which the other was put back.
    now = os.stat(path)
    return now.st_size, now.st_mtime_ns, now.st_ctime_ns, now.st_ino
