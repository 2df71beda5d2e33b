"""Packed files, unpacked as they are read: gzip, bzip2, xz, zstd, or one table in a zip archive.

The first bytes of a file show how it is packed; its name does not matter. Unpacking takes little
memory, even if a small file has a huge content.
"""

import contextlib
import errno
import gzip
import lzma
import struct
import zipfile
import zlib
from bz2 import BZ2Decompressor
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NamedTuple

from minigd.backends.on_demand import optional
from minigd.errors import DataError

_READ = 1 << 16  # bytes read, or unpacked, at once
_MEMORY = 1 << 27  # most bytes that unpacking may need, as in zstd's own program


_DAMAGES = (
    EOFError,
    OSError,
    lzma.LZMAError,
    zlib.error,
    # What zipfile raises for a member.
    zipfile.BadZipFile,
    NotImplementedError,
    RuntimeError,
    ValueError,
    struct.error,
)
"""What programs that unpack raise for a file that is damaged."""


class Damaged(DataError):
    """A packed file can't be unpacked to its end."""


class Packing(NamedTuple):
    """How a file is packed.

    Attributes
    ----------
    title : str
        Its usual name.
    begins : tuple of bytes
    pieces : callable
        Yields the content of a file in pieces of about 64 KiB.
    shell : str
        A program that writes the content of a file to its standard output.
    """

    title: str
    begins: tuple[bytes, ...]
    pieces: Callable[[Any], Iterator[bytes]]
    shell: str


def _gzip(file: Any) -> Iterator[bytes]:
    with gzip.GzipFile(fileobj=file) as unpacked:
        while piece := unpacked.read1(_READ):
            yield piece


def _streams(file: Any, make: Callable[[], Any]) -> Iterator[bytes]:
    """Unpack streams that follow one another, as `cat` puts packed files together."""
    packed: bytes = file.read(_READ)
    while packed:
        stream = make()
        while not stream.eof:
            if stream.needs_input and not packed:
                packed = file.read(_READ)
                if not packed:
                    raise EOFError("it ends too early")
            yield stream.decompress(packed, _READ)
            packed = b""
        # Zeros may follow, to fill a whole number of blocks.
        packed = stream.unused_data.lstrip(b"\0")
        while not packed and (more := file.read(_READ)):
            packed = more.lstrip(b"\0")


def _bz2(file: Any) -> Iterator[bytes]:
    return _streams(file, BZ2Decompressor)


def _xz(file: Any) -> Iterator[bytes]:
    return _streams(file, lambda: lzma.LZMADecompressor(memlimit=_MEMORY))


def _zstd(file: Any) -> Iterator[bytes]:
    arrow = optional("pyarrow", "a file packed by zstd")
    unpacked = arrow.CompressedInputStream(arrow.PythonFile(_StaysOpen(file), "r"), "zstd")
    while piece := unpacked.read(_READ):
        yield piece


class _StaysOpen:
    """A file for Arrow to read, which is not closed with its reader."""

    closed = False

    def __init__(self, file: Any) -> None:
        self.read = file.read

    def close(self) -> None:
        """Do nothing."""


def _zip(file: Any) -> Iterator[bytes]:
    with zipfile.ZipFile(file) as archive:
        member = only_member(archive)
        if member is None:
            raise zipfile.BadZipFile("it contains no table, or several")
        with archive.open(member) as unpacked:
            while piece := unpacked.read(_READ):
                yield piece


PACKINGS = {
    "gzip": Packing("gzip", (b"\x1f\x8b",), _gzip, "gzip -dc"),
    "bz2": Packing(
        "bzip2",
        tuple(b"BZh%d%b" % (k, s) for k in range(1, 10) for s in (b"1AY&SY", b"\x17rE8P\x90")),
        _bz2,
        "bzip2 -dc",
    ),
    "xz": Packing("xz", (b"\xfd7zXZ\0", b"]\0\0"), _xz, "xz -dc"),
    "zstd": Packing("zstd", (b"\x28\xb5\x2f\xfd",), _zstd, "zstd -dc"),
    "zip": Packing("zip", (b"PK\x03\x04", b"PK\x05\x06"), _zip, "unzip -p"),
}
"""How files may be packed, by the values of the option `compression`."""

LONGEST = max(len(begin) for packing in PACKINGS.values() for begin in packing.begins)
"""Bytes at the start of a file that show how it is packed."""


def packing_of(head: bytes) -> str | None:
    r"""Return how a file that begins with `head` is packed; None if it is not packed.

    >>> packing_of(b"\x1f\x8b\x08"), packing_of(b"a,b\n1,2\n")
    ('gzip', None)
    """
    found = (name for name, packing in PACKINGS.items() if head.startswith(packing.begins))
    return next(found, None)


def only_member(archive: zipfile.ZipFile) -> zipfile.ZipInfo | None:
    """Return the one file in a zip archive; None if there are several, or it is not readable.

    Files that macOS adds to an archive do not count. A member is readable if it is not encrypted,
    and if unpacking it takes little memory.
    """
    members = [
        one
        for one in archive.infolist()
        if not one.is_dir() and not one.filename.startswith("__MACOSX/")
    ]
    known = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
    if len(members) != 1 or members[0].compress_type not in known or members[0].flag_bits & 1:
        return None
    return members[0]


class Unpacked:
    """A reader of the content of a packed file. To go back, it starts again."""

    def __init__(self, file: BinaryIO, name: str, packing: str) -> None:
        self._file, self._name, self._packing = file, name, packing
        self._restart()

    def _restart(self) -> None:
        self._at, self._rest = 0, b""
        self._file.seek(0)
        self._pieces = PACKINGS[self._packing].pieces(self._file)

    def close(self) -> None:
        """Release the file, which stays open."""
        self._pieces.close()  # type: ignore[attr-defined]

    def seek(self, offset: int) -> None:
        """Go to a place in the unpacked content."""
        if offset < self._at:
            self.close()
            self._restart()
        while self._at < offset and self.read(min(offset - self._at, _READ)):
            pass

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes."""
        found, length = [self._rest], len(self._rest)
        with self._naming():
            while length < size or size < 0:
                piece = next(self._pieces, None)
                if piece is None:
                    break
                found.append(piece)
                length += len(piece)
        data = b"".join(found)
        if size >= 0:
            data, self._rest = data[:size], data[size:]
        else:
            self._rest = b""
        self._at += len(data)
        return data

    @contextlib.contextmanager
    def _naming(self) -> Iterator[None]:
        try:
            yield
        except _DAMAGES as error:
            # An error of the operating system has a number; EINVAL means an impossible place.
            if getattr(error, "errno", None) not in (None, errno.EINVAL):
                raise
            problem = str(error)
            if "emory" in problem:
                program = PACKINGS[self._packing].shell.partition(" ")[0]
                raise DataError(
                    f"{self._name} needs more than {_MEMORY >> 20} MiB of memory to be unpacked: "
                    f"unpack it first, with {program}"
                ) from error
            raise Damaged(f"{self._name}: the file is damaged: {problem}") from error
