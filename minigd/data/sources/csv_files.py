"""The files of a CSV source: how they are opened, and whether they are still the same."""

import contextlib
import math
import os
import threading
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

from minigd.data.sources.file_kinds import HEAD, begin_of, ends_in_returns
from minigd.data.sources.file_reads import changed
from minigd.data.sources.packed import LONGEST, PACKINGS, Unpacked, packing_of
from minigd.data.tables.remedy import Remedy, TableError
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
    """Refuse a file that has changed; a file that was only touched counts as the same."""
    if not isinstance(part.opened, str | os.PathLike):
        return part
    stamp = stamp_of(part.opened)
    if stamp == part.stamp:
        return part
    if measure(part.opened) != (part.size, part.checksum):
        raise changed(part.name, "CsvSource")
    return part._replace(stamp=stamp)


def measure(given: Any) -> tuple[int, int]:
    """Return the size of a file in bytes, and a checksum; 0 for a stream, which is read once."""
    return (0, 0) if getattr(given, "streams", False) else measure_part(given)


def measure_part(given: Any, start: int = 0, stop: float = math.inf) -> tuple[int, int]:
    """Return the length and a checksum of the bytes from one place in a file to another."""
    checksum = size = 0
    with open_file(given, raw=True) as file:
        file.seek(start)
        while chunk := file.read(int(min(1 << 20, stop - start - size))):
            checksum, size = zlib.adler32(chunk, checksum), size + len(chunk)
    return size, checksum


@contextlib.contextmanager
def open_file(given: Any, raw: bool = False, returns: bool = True) -> Iterator[BinaryIO]:
    """Open a path, or rewind a file; unless `raw`, unpack it, and end lines in newlines.

    With ``returns=False`` lines end as they are written.
    """
    if isinstance(given, str | os.PathLike):
        opened: Any = open_regular(given)
    else:
        given.seek(0)
        opened = contextlib.nullcontext(_OwnPlace(given))
    with opened as file, contextlib.ExitStack() as stack:
        packing = None if raw else packing_of(file.read(LONGEST))
        file.seek(0)
        if packing is not None:
            unpacked = Unpacked(file, name_of(given), packing)
            file = stack.enter_context(contextlib.closing(unpacked))
        if returns and not raw:
            returns = ends_in_returns(file.read(HEAD))
            file.seek(0)
            file = _Newlines(file) if returns else file
        yield file


def name_of(given: Any) -> str:
    """Return the name of a file in messages."""
    is_path = isinstance(given, str | os.PathLike)
    return os.fspath(given) if is_path else str(getattr(given, "name", "the file object"))


def check_compression(files: list[Any], compression: Any) -> list[Any]:
    """Return files, and refuse files that are packed differently than the caller says."""
    if compression not in ("infer", None, *PACKINGS):
        known = ", ".join(map(repr, PACKINGS))
        raise ValueError(f"compression must be 'infer', None or one of {known}: {compression!r}")
    for given in files if compression != "infer" else ():
        packing = packing_of(begin_of(given, LONGEST))
        if packing != compression:
            what = f"packed by {PACKINGS[packing].title}" if packing else "not packed"
            raise TableError(
                f"{name_of(given)} is {what}, which contradicts compression={compression!r}",
                Remedy("leave out compression", shell="leave out --compression"),
            )
    return files


def is_packed(part: Part) -> bool:
    """Tell whether a file is packed, so that its middle can't be reached without its beginning."""
    return packing_of(begin_of(part.opened, LONGEST)) is not None


def length_of_lines(file: BinaryIO, lines: int) -> int:
    """Return the number of bytes of the next lines of a file."""
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
    """A reader that replaces lone carriage returns at line ends by newlines."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def seek(self, offset: int) -> None:
        self._file.seek(offset)

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size).replace(b"\r", b"\n")


class _OwnPlace:
    """A reader of the caller's file object with its own position, so several can share it."""

    _lock = threading.Lock()

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._at = file, 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_END:
            with self._lock:
                self._at = self._file.seek(offset, whence)
        else:
            self._at = offset + (self._at if whence == os.SEEK_CUR else 0)
        return self._at

    def tell(self) -> int:
        return self._at

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        with self._lock:
            self._file.seek(self._at)
            data = self._file.read(size)
        self._at += len(data)
        return data


def stamp_of(path: str | os.PathLike[str]) -> tuple[int, ...]:
    """Return the times and the size of a file, which reveal an edit."""
    # The time of the last metadata change reveals an edit even if the other time was restored.
    now = os.stat(path)
    return now.st_size, now.st_mtime_ns, now.st_ctime_ns, now.st_ino
