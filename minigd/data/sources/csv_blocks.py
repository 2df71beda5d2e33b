"""Rows in the bytes of a delimited text file: where each one ends, and how many fields it has.

Quotes work as in Python's `csv` and in pandas: a quote opens at the start of a field. Newlines and
separators after it belong to the field until the quote closes.

A separator is one byte, or `BLANKS`: a run of blanks and tabs. Blanks at the start and at the end
of a row are ignored.
"""

import re
from collections import deque
from collections.abc import Iterator
from functools import cached_property
from typing import BinaryIO

import numpy as np

from minigd.data.sources.packed import Damaged
from minigd.data.tables.remedy import Remedy, TableError
from minigd.errors import DataError
from minigd.types import Array

_NEWLINE, _QUOTE, _RETURN = b"\n", b'"', b"\r"
BLANKS = b" \t"
MOST_OF_A_ROW = 1 << 24
"""Bytes of the longest row, if blocks are not longer. It limits a quote that never closes."""
LONE_RETURN = "end lines in \\n or \\r\\n, not in a lone \\r"


class WrongFields(TableError):
    """The number of fields of a row differs from the number of columns of the table.

    `row` is its content, and `name` and `line` are its place.
    """

    row, name, line = b"", "", 0


class NotUtf8(TableError):
    """Some bytes are not UTF-8; `data` has the rows that contain them."""

    def __init__(self, message: str, data: bytes) -> None:
        super().__init__(message)
        self.data = data


class Block:
    """Whole rows from one place in a file; the places of rows are computed on demand.

    Attributes
    ----------
    data : bytes
        The rows, each ending in a newline.
    offset : int
        Where in the file they begin.
    line : int
        The line they begin on; the first one is 1.

    A parser that knows the number of `rows` sets it, which saves a search.
    """

    def __init__(
        self,
        data: bytes,
        offset: int,
        line: int,
        separator: bytes,
        spaces: bool,
        found: tuple[Array, Array] | None = None,
    ) -> None:
        self.data, self.offset, self.line = data, offset, line
        self._separator, self._spaces, self._found = separator, spaces, found

    @cached_property
    def lines(self) -> int:
        """The number of newlines."""
        # Two passes over all bytes take half as long as `bytes.count`.
        return int(np.count_nonzero(np.frombuffer(self.data, np.uint8) == ord(_NEWLINE)))

    @cached_property
    def rows(self) -> int:
        """The number of lines that are not blank; lines within the same quotes count as one."""
        return len(self.starts)

    @property
    def is_blank(self) -> bool:
        """Whether it has no rows."""
        return self.data.isspace() and not self.rows

    @property
    def starts(self) -> Array:
        """Where in `data` each row begins; int64."""
        return self._places[0]

    @property
    def ends(self) -> Array:
        """Where in `data` the newline of each row is."""
        return self._places[1]

    @cached_property
    def separators(self) -> Array:
        """Where in `data` the separators between fields are."""
        separators = self._scanned[1]
        whole = not len(separators) or separators[-1] < len(self.data)
        return separators if whole else separators[: np.searchsorted(separators, len(self.data))]

    @cached_property
    def lone_return(self) -> int:
        r"""The place of the first \r outside quotes that does not end a line; -1 for none."""
        return _lone_return(self.data, self._separator, self._spaces)

    @cached_property
    def _scanned(self) -> tuple[Array, Array]:
        return self._found or scan(self.data, self._separator, self._spaces)

    @cached_property
    def _places(self) -> tuple[Array, Array]:
        ends = self._scanned[0]
        starts = np.concatenate(([0], ends[:-1] + 1))
        filled = ends > starts
        if self._separator == BLANKS:
            bytes_ = np.frombuffer(self.data, dtype=np.uint8)
            letters = np.flatnonzero(~np.isin(bytes_, np.frombuffer(b" \t\r\n", np.uint8)))
            filled = np.searchsorted(letters, ends) > np.searchsorted(letters, starts)
        elif _RETURN in self.data:
            filled &= ~_only_returns(self.data, starts, ends)
        return starts[filled], ends[filled]

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
    comment: bytes = b"",
) -> Iterator[Block]:
    r"""Read a file from `offset` on, in blocks of whole rows of about `size` bytes.

    Lines that begin with `comment` become blank lines in a block. A row that is longer than
    `MOST_OF_A_ROW` and than `size` is a `DataError`, which names the line of a quote that never
    closes.

    Examples
    --------
    >>> import io
    >>> file = io.BytesIO(b'1,"a\nb"\n\n2,c\n')
    >>> block = next(read_blocks(file, "example.csv", size=100))
    >>> block.starts.tolist(), block.ends.tolist(), block.line_of(1)
    ([0, 9], [7, 12], 4)
    """
    rest = b""
    longest = max(MOST_OF_A_ROW, size)
    while True:
        # Double the bytes of an unfinished row, to avoid scanning a long one again and again.
        more = max(size, min(len(rest), longest + 1 - len(rest)))
        read = read_bytes(file, more, name, line)
        data = rest + read
        if not read and data and not data.endswith(_NEWLINE):
            data += _NEWLINE
        data = blank_comments(data, comment, separator, spaces)
        # Without quotes every newline ends a row.
        found = scan(data, separator, spaces) if _QUOTE in data else None
        used = (int(found[0][-1]) if len(found[0]) else -1) if found else data.rfind(_NEWLINE)
        used += 1
        whole, rest = data[:used], data[used:]
        del data
        if whole:
            _check_text(whole, name, line)
            block = Block(whole, offset, line, separator, spaces, found)
            yield block
            offset += used
            line += block.lines
        if rest and (not read or len(rest) > longest):
            raise _endless(rest, separator, spaces, name, line, longest)
        if not read:
            return


def blank_comments(
    data: bytes, comment: bytes, separator: bytes = b",", spaces: bool = False
) -> bytes:
    r"""Return data in which carriage returns replace all letters of comment lines.

    Such a line counts as blank when rows are searched, and all places stay the same. `data`
    begins with a row; a line within quotes is not a comment. A comment mark may be in quotes.

    >>> blank_comments(b'#1\n2,"\n#3"\n#4', b"#")
    b'\r\r\n2,"\n#3"\n#4'
    >>> blank_comments(b'1,2\n"Total",3\n', b"Total")
    b'1,2\n\r\r\r\r\r\r\r\r\r\n'
    """
    if comment not in data or not comment:
        return data
    lead = rb"[ \t]*" if separator == BLANKS else rb" *" if spaces else b""
    mark = re.escape(comment)
    if comment[:1].isalnum():
        mark = rb"(?:" + mark + rb"|\"" + mark + rb"[^\"\n]*\")"
    line = re.compile(rb"^" + lead + mark + rb"[^\n]*(?=\n)", re.MULTILINE)
    if _QUOTE not in data:
        return line.sub(lambda found: _RETURN * len(found.group()), data)
    pieces, at = [], 0  # at: where a row begins
    for found in line.finditer(data):
        start, end = found.span()
        ends, _ = scan(data[at:start], separator, spaces)
        row = at + int(ends[-1]) + 1 if len(ends) else at
        pieces.append(data[at:row])
        if row == start:
            pieces.append(_RETURN * (end - start))
            row = end
        at = row
    return b"".join([*pieces, data[at:]])


def read_bytes(file: BinaryIO, size: int, name: str, line: int) -> bytes:
    """Read up to `size` bytes; the error for a packed file that is damaged names the line."""
    try:
        return file.read(size)
    except Damaged as error:
        why = error.__cause__
        raise Damaged(f"{name}, from line {line} on: the file is damaged: {why}") from error


def _endless(
    row: bytes, separator: bytes, spaces: bool, name: str, line: int, longest: int
) -> TableError:
    """Return the error for a row that does not end, even at the end of the file."""
    within = f" within {longest:,} bytes" if len(row) > longest else ""
    larger = Remedy(
        "if it is meant to be that long, pass {}", {"block_size": 4 * longest}, shell=""
    )
    remedies = [larger] if within else []
    last = next(iter(deque(_walk(row, separator, spaces), maxlen=1)), None)
    if last is None or last[0] != _QUOTE:
        return TableError(f"{name}, line {line}: the row does not end{within}", *remedies)
    line += row.count(_NEWLINE, 0, last[1])
    close = Remedy("close it, or double it if it is part of a text")
    message = f"{name}, line {line}: a quote opens here and never closes{within}"
    return TableError(message, close, *remedies)


def _only_returns(data: bytes, starts: Array, ends: Array) -> Array:
    """Return which rows hold only carriage returns."""
    bytes_ = np.frombuffer(data, dtype=np.uint8)
    begin: Array = bytes_[starts] == ord(_RETURN)
    if data.find(b"\r\r\n") < 0:
        return begin & (ends == starts + 1)
    returns = np.flatnonzero(bytes_ == ord(_RETURN))
    length = np.searchsorted(returns, ends) - np.searchsorted(returns, starts)
    return begin & (length == ends - starts)


def _lone_return(data: bytes, separator: bytes, spaces: bool) -> int:
    r"""Return where a \r outside quotes is not followed by \n or another \r; -1 for nowhere.

    >>> _lone_return(b'1,"\r"\r\n2\r3\n', b",", False)
    8
    """
    if _RETURN not in data or data.count(_RETURN) == data.count(b"\r\n"):
        return -1
    # For pandas, a quote after it opens a field; the lone one is an error anyway.
    _, marks = _outside_quotes(data, separator + _RETURN, spaces)
    bytes_ = np.frombuffer(data, dtype=np.uint8)
    after = bytes_[marks + 1]
    lone = (bytes_[marks] == ord(_RETURN)) & (after != ord(_NEWLINE)) & (after != ord(_RETURN))
    return int(marks[np.argmax(lone)]) if lone.any() else -1


def has_padding(data: bytes, separator: bytes, spaces: bool) -> bool:
    r"""Tell whether a text in quotes begins or ends with a line end, apart from blanks.

    Pandas reads such a text as a number, but the grammar does not.

    >>> has_padding(b'"1\n",2\n', b",", False), has_padding(b'"a\nb",2\n', b",", False)
    (True, False)
    """
    ends, marks = _outside_quotes(data, separator + _RETURN, spaces)
    bytes_ = np.frombuffer(data, dtype=np.uint8)
    lines = np.flatnonzero(_are_in(b"\n\r", bytes_))
    inside = np.setdiff1d(lines, np.concatenate((ends, marks)), assume_unique=True)
    if len(inside) == 0:
        return False
    letters = np.flatnonzero(~_are_in(b" \t\v\f\n\r", bytes_))
    after = np.searchsorted(letters, inside)
    beside = bytes_[letters[np.concatenate((after - 1, after))]]
    return bool((beside == ord(_QUOTE)).any())


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
    r"""Return rows in which one blank replaces each run of `BLANKS` that separates fields.

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
    """Return the fields of one row, without spaces around them; a `ValueError` if it is not a row.

    It is not a row if it is not UTF-8, or has a carriage return that does not end a line.
    """
    mark = separator[:1]
    row = squeeze(row, separator).rstrip(b"\r\n")
    if not row:
        return []
    if _RETURN in row and _lone_return(row + _NEWLINE, mark, mark != b" ") >= 0:
        raise ValueError(LONE_RETURN)
    if _QUOTE not in row:
        return [field.decode().strip() for field in row.split(mark)]
    _, marks = _outside_quotes(row, mark, mark != b" ")
    begins, ends = [0, *(marks + 1).tolist()], [*marks.tolist(), len(row)]
    fields = (row[begin:end] for begin, end in zip(begins, ends, strict=True))
    return [_unquoted(f if mark == b" " else f.lstrip(b" ")).decode().strip() for f in fields]


_QUOTED = re.compile(b'"((?:[^"]+|"")*)"?(.*)', re.DOTALL)


def _unquoted(field: bytes) -> bytes:
    """Return the content of a field, including text after its closing quote, as in `csv`."""
    found = _QUOTED.fullmatch(field)
    return field if found is None else found[1].replace(b'""', _QUOTE) + found[2]


def _between_fields(data: bytes, blanks: Array) -> Array:
    """Return where those runs of blanks begin that have fields on both sides."""
    if len(blanks) == 0:
        return blanks
    begins = np.flatnonzero(np.diff(blanks, prepend=-2) != 1)
    first, last = blanks[begins], blanks[np.append(begins[1:], len(blanks)) - 1]
    # With a newline before and after the data, its first and last rows are like all others.
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
    # If every even quote opens a field, places between an even and an odd quote are inside a field.
    # A doubled quote closes and opens again, so the count stays right.
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
    """Do the same one mark at a time; quotes in the middle of a field are ordinary characters."""
    ends: list[int] = []
    separators: list[int] = []
    for letter, at in _walk(data, separator, spaces):
        if letter != _QUOTE:
            (ends if letter == _NEWLINE else separators).append(at)
    return np.array(ends, dtype=np.int64), np.array(separators, dtype=np.int64)


def _walk(data: bytes, separator: bytes, spaces: bool) -> Iterator[tuple[bytes, int]]:
    """Return newlines and separators outside quotes, and finally a quote that never closes."""
    mark = re.compile(b'["\n' + re.escape(separator) + b"]")
    field, at, fresh = 0, 0, True  # fresh: no quote so far in the field
    while (found := mark.search(data, at)) is not None:
        at, letter = found.start(), found.group()
        if letter != _QUOTE:
            yield letter, at
            field, fresh = at + 1, True
        elif fresh:
            fresh = False
            if (data[field:at].lstrip(b" ") if spaces else data[field:at]) == b"":
                close = data.find(_QUOTE, at + 1)
                while close >= 0 and data[close + 1 : close + 2] == _QUOTE:
                    close = data.find(_QUOTE, close + 2)
                if close < 0:
                    yield letter, at
                    return
                at = close
        at += 1


def check_fields(block: Block, name: str, expected: int) -> None:
    """Refuse a block in which a row has too few or too many fields, or does not end in a newline.

    Pandas reads a lone carriage return as the end of a row.
    """
    lone = block.lone_return
    row, fields = _wrong_fields(block, expected)
    if row >= 0 and (lone < 0 or lone >= int(block.starts[row])):
        inside = 0 <= lone < int(block.ends[row])
        error = WrongFields(
            f"{name}, line {block.line_of(row)}: the row has {fields} field{'s' * (fields != 1)}, "
            f"and the table has {expected} column{'s' * (expected != 1)}"
            f"{f': {LONE_RETURN}' if inside else ''}"
        )
        error.row = block.data[int(block.starts[row]) : int(block.ends[row])]
        error.name, error.line = name, block.line_of(row)
        raise error
    if lone >= 0:
        line = block.line + block.data.count(_NEWLINE, 0, lone)
        raise DataError(f"{name}, line {line}: this line does not parse as one row: {LONE_RETURN}")


def _wrong_fields(block: Block, expected: int) -> tuple[int, int]:
    """Return the first row that has too few or too many fields, and how many; -1 for none."""
    starts, ends, separators = block.starts, block.ends, block.separators
    n, each = len(ends), expected - 1
    if len(separators) == n * each:
        if each == 0:
            return -1, 0
        table = separators.reshape(n, each)
        if (table[:, 0] >= starts).all() and (table[:, -1] < ends).all():
            return -1, 0
    counts: Array = np.searchsorted(separators, ends) - np.searchsorted(separators, starts)
    wrong = np.flatnonzero(counts != each)
    return (int(wrong[0]), int(counts[wrong[0]]) + 1) if len(wrong) else (-1, 0)


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
