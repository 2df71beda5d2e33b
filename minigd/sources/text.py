"""Rows in the bytes of a delimited text file: where each one ends, and how many fields it has.

Quotes are heeded as Python's `csv` and pandas heed them: one opens at the start of a field, and a
newline or a separator behind it belongs to the field until it closes.
"""

import gzip
import re
import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import numpy as np

from minigd.backend import Array
from minigd.errors import DataError
from minigd.sources.remedy import TableError

_NEWLINE, _QUOTE = b"\n", b'"'


class WrongFields(TableError):
    """A row has more fields, or fewer, than the table has columns."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


class Block(NamedTuple):
    """Whole rows from one place in a file.

    Attributes
    ----------
    data : bytes
        The rows, each ending in a newline.
    offset : int
        Where in the file they begin.
    line : int
        The line they begin on; the first one is 1.
    starts, ends : Array of int64
        Where in `data` each row begins, and its newline; blank rows are left out.
    separators : Array of int64
        Where the separators between fields are.
    """

    data: bytes
    offset: int
    line: int
    starts: Array
    ends: Array
    separators: Array

    def line_of(self, row: int) -> int:
        """Return the line that a row of this block begins on."""
        return self.line + self.data.count(_NEWLINE, 0, int(self.starts[row]))


def read_blocks(
    file: BinaryIO,
    name: str,
    size: int,
    separator: bytes = b",",
    spaces: bool = False,
    offset: int = 0,
    line: int = 1,
) -> Iterator[Block]:
    r"""Read a file from `offset` on, in blocks of whole rows of about `size` bytes.

    Raises
    ------
    DataError
        If a quote is never closed, or the bytes are not UTF-8 or hold a NUL, or a gzipped file is
        damaged; it names file and line.

    Examples
    --------
    >>> import io
    >>> file = io.BytesIO(b'1,"a\nb"\n\n2,c\n')
    >>> block = next(read_blocks(file, "example.csv", size=100))
    >>> block.starts.tolist(), block.ends.tolist(), block.line_of(1)
    ([0, 9], [7, 12], 4)
    """
    rest = b""
    while True:
        read = read_bytes(file, size, name, line)
        data = rest + read
        if not read and data and not data.endswith(_NEWLINE):
            data += _NEWLINE
        ends, separators = scan(data, separator, spaces)
        if not read and data and (len(ends) == 0 or ends[-1] != len(data) - 1):
            last = int(ends[-1]) + 1 if len(ends) else 0
            raise DataError(
                f"{name}, line {line + data.count(_NEWLINE, 0, last)}: a quote opens here or "
                "further on and never closes"
            )
        used = int(ends[-1]) + 1 if len(ends) else 0
        whole, rest = data[:used], data[used:]
        if whole:
            _check_text(whole, name, line)
            starts = np.concatenate(([0], ends[:-1] + 1))
            filled = ends > starts
            if b"\r" in whole:
                bytes_ = np.frombuffer(whole, dtype=np.uint8)
                filled &= ~((ends == starts + 1) & (bytes_[starts] == ord("\r")))
            if len(separators) and separators[-1] >= used:
                separators = separators[: np.searchsorted(separators, used)]
            yield Block(whole, offset, line, starts[filled], ends[filled], separators)
            offset += used
            # Without quotes every newline ends a row, and they are counted already.
            line += whole.count(_NEWLINE) if _QUOTE in whole else len(ends)
        if not read:
            return


def read_bytes(file: BinaryIO, size: int, name: str, line: int) -> bytes:
    """Read up to `size` bytes; a gzipped file that is damaged is a `DataError`."""
    try:
        return file.read(size)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{name}, from line {line} on: the file is damaged: {error}") from error


def scan(data: bytes, separator: bytes = b",", spaces: bool = False) -> tuple[Array, Array]:
    r"""Return where rows end, and where separators are, outside quotes; `data` begins with a row.

    With `spaces`, a quote opens a field behind spaces too.

    >>> ends, separators = scan(b'1,"x,y"\n2,z\n')
    >>> ends.tolist(), separators.tolist()
    ([7, 11], [1, 9])
    """
    bytes_ = np.frombuffer(data, dtype=np.uint8)
    ends = np.flatnonzero(bytes_ == ord(_NEWLINE))
    separators = np.flatnonzero(bytes_ == ord(separator))
    if _QUOTE not in data:
        return ends, separators
    quotes = np.flatnonzero(bytes_ == ord(_QUOTE))
    # Between an even and an odd quote we are inside a field, if every even one opens a field. A
    # doubled quote closes and opens again, which leaves the count right.
    opening = quotes[::2]
    before = bytes_[opening - 1]
    reopens = np.zeros(len(opening), dtype=bool)
    reopens[1:] = quotes[1::2][: len(opening) - 1] == opening[1:] - 1
    good = (before == ord(separator)) | (before == ord(_NEWLINE)) | (opening == 0) | reopens
    if not good.all():
        return _scan_slowly(data, separator, spaces)
    inside = np.bitwise_xor.accumulate((bytes_ == ord(_QUOTE)).view(np.uint8))
    return ends[inside[ends] == 0], separators[inside[separators] == 0]


def _scan_slowly(data: bytes, separator: bytes, spaces: bool) -> tuple[Array, Array]:
    """Do the same a mark at a time, for quotes in the middle of a field, which are but letters."""
    ends: list[int] = []
    separators: list[int] = []
    inside = False
    field = 0
    marks = re.finditer(b'["\n' + re.escape(separator) + b"]", data)
    for mark in marks:
        at = mark.start()
        letter = mark.group()
        if letter == _QUOTE:
            if inside:
                if data[at + 1 : at + 2] == _QUOTE:
                    next(marks)
                else:
                    inside = False
            elif (data[field:at].lstrip(b" ") if spaces else data[field:at]) == b"":
                inside = True
        elif not inside:
            (ends if letter == _NEWLINE else separators).append(at)
            field = at + 1
    return np.array(ends, dtype=np.int64), np.array(separators, dtype=np.int64)


def check_fields(block: Block, name: str, expected: int) -> None:
    """Refuse a block in which a row has too few or too many fields.

    Raises
    ------
    WrongFields
        It names file and line.
    """
    starts, ends, separators = block.starts, block.ends, block.separators
    n, each = len(ends), expected - 1
    if len(separators) == n * each:
        if each == 0:
            return
        table = separators.reshape(n, each)
        if (table[:, 0] >= starts).all() and (table[:, -1] < ends).all():
            return
    counts: Array = np.searchsorted(separators, ends) - np.searchsorted(separators, starts)
    wrong = np.flatnonzero(counts != each)
    if len(wrong) == 0:
        return
    row = int(wrong[0])
    line, fields = block.line_of(row), int(counts[row]) + 1
    raise WrongFields(
        f"{name}, line {line}: the row has {fields} field{'s' * (fields != 1)}, and the table has "
        f"{expected} column{'s' * (expected != 1)}",
        line,
    )


def _check_text(data: bytes, name: str, line: int) -> None:
    try:
        if not data.isascii():
            data.decode("utf-8")
    except UnicodeDecodeError as error:
        at = line + data.count(_NEWLINE, 0, error.start)
        start = data.rfind(_NEWLINE, 0, error.start) + 1
        raise DataError(
            f"{name}, line {at}, byte {error.start - start + 1} of it: 0x{data[error.start]:02x} "
            "is not UTF-8; convert the file, for example with iconv"
        ) from error
    if b"\0" in data:
        at = line + data.count(_NEWLINE, 0, data.index(b"\0"))
        raise DataError(f"{name}, line {at}: a NUL byte; the file is damaged, or is no text file")
