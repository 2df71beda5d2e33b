"""Rows in the bytes of a delimited text file: where each one ends, and how many fields it has.

Quotes are heeded as Python's `csv` and pandas heed them: one opens at the start of a field, and a
newline or a separator after it belongs to the field until it closes.

A separator is one byte, or `BLANKS`: a run of blanks and tabs, of which those at the start and at
the end of a row separate nothing.
"""

import csv
import gzip
import re
import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import numpy as np

from minigd.data.tables.remedy import TableError
from minigd.errors import DataError
from minigd.types import Array

_NEWLINE, _QUOTE = b"\n", b'"'
BLANKS = b" \t"


class WrongFields(TableError):
    """A row has more fields, or fewer, than the table has columns."""


class NotUtf8(TableError):
    """Some bytes are not UTF-8; `data` is the rows that they are in."""

    def __init__(self, message: str, data: bytes) -> None:
        super().__init__(message)
        self.data = data


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
            bytes_ = np.frombuffer(whole, dtype=np.uint8)
            if separator == BLANKS:
                letters = np.flatnonzero(~np.isin(bytes_, np.frombuffer(b" \t\r\n", np.uint8)))
                filled = np.searchsorted(letters, ends) > np.searchsorted(letters, starts)
            elif b"\r" in whole:
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

    With `spaces`, a quote opens a field after spaces too. A run of blanks is where it begins.

    >>> ends, separators = scan(b'1,"x,y"\n2,z\n')
    >>> ends.tolist(), separators.tolist()
    ([7, 11], [1, 9])
    >>> scan(b'  1 "x y"  \n 2   z', BLANKS)[1].tolist()
    [3, 14]
    """
    ends, marks = _outside_quotes(data, separator, spaces)
    return ends, _between_fields(data, marks) if separator == BLANKS else marks


def squeeze(data: bytes, separator: bytes) -> bytes:
    r"""Return rows with one blank in the place of each run of `BLANKS` that separates fields.

    Other separators are one byte already. `data` begins with a row.

    >>> squeeze(b' 1  "x  y"\t2 \n', BLANKS)
    b'1 "x  y" 2\n'
    """
    if separator != BLANKS:
        return data
    _, marks = _outside_quotes(data, separator, False)
    between = _between_fields(data, marks)
    bytes_ = np.frombuffer(data, dtype=np.uint8).copy()
    kept = np.ones(len(bytes_), dtype=bool)
    kept[marks] = False
    kept[between], bytes_[between] = True, ord(" ")
    return bytes_[kept].tobytes()


def split(row: bytes, separator: bytes) -> list[str]:
    """Return the fields of one row, without spaces around them; a `csv.Error` if it is not one.

    Such bytes hold a lone carriage return, or a field of many thousand letters.
    """
    mark = separator[:1].decode()
    text = squeeze(row, separator).decode("utf-8")
    reader = csv.reader([text], delimiter=mark, skipinitialspace=mark != " ")
    return [field.strip() for field in next(reader, [])]


def _between_fields(data: bytes, blanks: Array) -> Array:
    """Return where those runs of blanks begin that have fields on both sides."""
    if len(blanks) == 0:
        return blanks
    begins = np.flatnonzero(np.diff(blanks, prepend=-2) != 1)
    first, last = blanks[begins], blanks[np.append(begins[1:], len(blanks)) - 1]
    # A newline before and after the whole makes its first and last row like others.
    bytes_ = np.frombuffer(_NEWLINE + data + 2 * _NEWLINE, dtype=np.uint8)
    before, after = bytes_[first], bytes_[last + 2]
    returns = (after == ord("\r")) & (bytes_[last + 3] == ord(_NEWLINE))
    between: Array = first[(before != ord(_NEWLINE)) & (after != ord(_NEWLINE)) & ~returns]
    return between


def _outside_quotes(data: bytes, separator: bytes, spaces: bool) -> tuple[Array, Array]:
    """Return where newlines and the bytes of separators are, outside quotes."""
    bytes_ = np.frombuffer(data, dtype=np.uint8)
    ends = np.flatnonzero(bytes_ == ord(_NEWLINE))
    separators = np.flatnonzero(_are_in(separator, bytes_))
    if _QUOTE not in data:
        return ends, separators
    quotes = np.flatnonzero(bytes_ == ord(_QUOTE))
    # Between an even and an odd quote we are inside a field, if every even one opens a field. A
    # doubled quote closes and opens again, which leaves the count right.
    opening = quotes[::2]
    before = bytes_[opening - 1]
    reopens = np.zeros(len(opening), dtype=bool)
    reopens[1:] = quotes[1::2][: len(opening) - 1] == opening[1:] - 1
    good = _are_in(separator, before) | (before == ord(_NEWLINE)) | (opening == 0) | reopens
    if not good.all():
        return _scan_slowly(data, separator, spaces)
    inside = np.bitwise_xor.accumulate((bytes_ == ord(_QUOTE)).view(np.uint8))
    return ends[inside[ends] == 0], separators[inside[separators] == 0]


def _are_in(separator: bytes, bytes_: Array) -> Array:
    found: Array = bytes_ == separator[0]
    for other in separator[1:]:
        found |= bytes_ == other
    return found


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
    """Refuse a block in which a row has too few or too many fields."""
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
    fields = int(counts[row]) + 1
    raise WrongFields(
        f"{name}, line {block.line_of(row)}: the row has {fields} field{'s' * (fields != 1)}, and "
        f"the table has {expected} column{'s' * (expected != 1)}"
    )


def _check_text(data: bytes, name: str, line: int) -> None:
    try:
        if not data.isascii():
            data.decode("utf-8")
    except UnicodeDecodeError as error:
        at = line + data.count(_NEWLINE, 0, error.start)
        start = data.rfind(_NEWLINE, 0, error.start) + 1
        raise NotUtf8(
            f"{name}, line {at}, byte {error.start - start + 1} of it: 0x{data[error.start]:02x} "
            "is not UTF-8",
            data,
        ) from error
    if b"\0" in data:
        at = line + data.count(_NEWLINE, 0, data.index(b"\0"))
        raise DataError(
            f"{name}, line {at}: a NUL byte; the file is damaged, or is not a text file"
        )
