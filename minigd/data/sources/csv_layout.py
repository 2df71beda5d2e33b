"""The likely layout of a text file: remedies if it can't be read with the given options.

The layout depends on the file and on what is known about its columns, but not on how it was read.
Advice that was followed is thus never repeated.
"""

import re
from collections import Counter
from collections.abc import Collection, Sequence
from string import ascii_uppercase
from typing import Any, NamedTuple

import numpy as np

from minigd.data.sources.csv_blocks import BLANKS, Block, split
from minigd.data.tables.grammar import read_number
from minigd.data.tables.remedy import Remedy, TableWarning
from minigd.data.tables.schema import MissingColumn
from minigd.progress import warn

SEPARATORS = {**{mark: mark.encode() for mark in ",;\t|^~:"}, "blanks": BLANKS}
"""Separators to try, as callers write them and as `csv_blocks.py` does."""
_IN_CELLS = ":"  # more often a part of times than a separator

_ERROR = re.compile(rb"#(N/A|[A-Z0-9/]+[!?])", re.IGNORECASE)
_COMMENTS = (b"#", b"%", b"//", b"--", b"!")
_MOST_NAMES = 20  # that are written out in advice
_FEW_LINES, _MOST_ABOVE = 10, 0.75  # lines above a table, and their share of the sample
_DIVIDED = 0.2  # share of cells with another separator, from which it may be the right one
_ALIKE = 0.9  # share of rows that have as many fields as the table has columns


class Layout(NamedTuple):
    """A way to read a file as a table.

    Attributes
    ----------
    separator : str
    skip_lines : int
        Lines before the header, or before the first row.
    fields : list of str
        Fields of the first line after those.
    width : int
        Fields of most rows.
    numbers : float
        The share of numbers in the rows after the first line.
    """

    separator: str
    skip_lines: int
    fields: list[str]
    width: int
    numbers: float

    @property
    def has_header(self) -> bool:
        """Whether the first line holds names, judged by this line only."""
        return all(map(is_name, filter(None, self.fields)))


def find_layout(
    lines: Sequence[bytes],
    separator: str,
    mark: bytes,
    skip_lines: int = 0,
    named: Collection[str] = (),
    columns: int | None = None,
) -> Layout | None:
    r"""Return the layout with which nearly all rows have the same number of fields.

    Other separators than the caller's, and more lines above the table, are tried too. A line that
    holds all columns in `named` is the header; `columns` is how many there are without one.

    Examples
    --------
    >>> find_layout([b"by hand", b"a; y", b"1; 2"], ",", b",")
    Layout(separator=';', skip_lines=1, fields=['a', 'y'], width=2, numbers=1.0)
    """
    best: tuple[Any, Layout] | None = None
    lines_of_rows = _whole_rows(lines, skip_lines)
    for text, byte in {separator: mark, **SEPARATORS}.items():
        split_lines = ((i, fields_of(line, byte)) for i, line in lines_of_rows)
        rows = [(i, fields) for i, fields in split_lines if any(fields)]
        found = _best_start(rows, set(named) if columns is None else set(), columns)
        if found is not None:
            holds_names, start, width = found
            table = [fields for _, fields in rows[start + 1 :]]
            numbers, whole_cells = _share_of_numbers(table), not _are_divided(table, text)
            layout = Layout(text, rows[start][0], rows[start][1], width, numbers)
            likely = text != _IN_CELLS or text == separator
            as_given = text == separator
            # If some tabs are doubled, the separator is a run of blanks.
            alike = sum(len(fields) == width for fields in table)
            rank = (holds_names, likely, whole_cells, numbers, -start, as_given, width, alike)
            if best is None or rank > best[0]:
                best = rank, layout
    return None if best is None else best[1]


def _whole_rows(lines: Sequence[bytes], start: int) -> list[tuple[int, bytes]]:
    r"""Return rows from a line on, each with the number of its first line.

    >>> _whole_rows([b'1,"a', b'b"', b'2,5" or so'], 0)
    [(0, b'1,"a\nb"'), (2, b'2,5" or so')]
    """
    rows = []
    while start < len(lines):
        end = start + 1
        if lines[start].count(b'"') % 2:
            # A quote that is never closed is an ordinary letter.
            closing = (k for k in range(end, len(lines)) if lines[k].count(b'"') % 2)
            end = next(closing, start) + 1
        rows.append((start, b"\n".join(lines[start:end])))
        start = end
    return rows


def _best_start(
    rows: list[tuple[int, list[str]]], named: set[str], columns: int | None
) -> tuple[bool, int, int] | None:
    """Return whether names were found, the row where the table starts, and its width."""
    widths = [len(fields) for _, fields in rows]
    for start, (_, fields) in enumerate(rows[:-1] if named else ()):
        if named <= set(fields):
            width = _most_common(widths[start + 1 :])
            if width - len(fields) in (0, 1) and _alike(widths[start + 1 :], width):
                return True, start, width
    width = _most_common(widths) if columns is None else columns
    if width < 2 or len(rows) < 2:
        return None
    names = [all(map(is_name, fields)) for _, fields in rows]
    places = [i for i, found in enumerate(widths[:-1]) if found == width]
    most = max(_FEW_LINES, _MOST_ABOVE * len(rows))
    starts = [i for i in places if i <= most and _alike(widths[i + 1 :], width)]
    if not starts or (columns is None and names[places[0]] and not names[starts[0]]):
        return None  # in the second case: a header, and rows of many widths
    start = starts[0]
    if columns is not None:
        return False, start, width
    if start and widths[start - 1] == width - 1 and names[start - 1] and not names[start]:
        # A header may have one name fewer than the rows have fields.
        start -= 1
    # A title may have as many words as there are columns.
    below = _share_of_numbers([fields for _, fields in rows[start + 2 :]])
    title = 2 * _share_of_numbers([rows[start][1]]) < below
    return False, start + (title and names[start + 1]), width


def _share_of_numbers(rows: Sequence[Sequence[str]]) -> float:
    # An empty field proves nothing, and does not occur between two blanks.
    cells = [cell for fields in rows for cell in fields if cell]
    return sum(map(_is_number, cells)) / max(1, len(cells))


def _are_divided(rows: Sequence[Sequence[str]], separator: str) -> bool:
    """Tell whether another separator divides many cells that are not numbers.

    A comma in a number is a decimal comma.
    """
    others = {*"\t;,|^~"} - {separator}
    others = others - {"\t"} if separator == "blanks" else {*others, "  "}
    cells = [cell for fields in rows for cell in fields]
    divided = sum(any(m in cell for m in others) and not _is_number(cell) for cell in cells)
    return divided > _DIVIDED * len(cells)


def _most_common(widths: list[int]) -> int:
    return Counter(widths).most_common(1)[0][0] if widths else 0


def _alike(widths: list[int], width: int) -> bool:
    return widths.count(width) >= _ALIKE * len(widths)


def fields_of(line: bytes, mark: bytes) -> list[str]:
    """Return the fields of a line; none if it is not a row."""
    try:
        return split(line, mark)
    except ValueError:
        return []


def comment_mark(row: bytes) -> bytes:
    """Return the mark that a line begins with, if comments may begin with it.

    Error values of spreadsheets, such as #N/A, are not comments.

    >>> comment_mark(b"# by hand"), comment_mark(b"-1,2"), comment_mark(b"#DIV/0!,2")
    (b'#', b'', b'')
    """
    if _ERROR.match(row.lstrip()):
        return b""
    return next((mark for mark in _COMMENTS if row.lstrip().startswith(mark)), b"")


def declared_separator(begin: bytes) -> str | None:
    r"""Return the separator that the first line of a file names, as Excel writes and reads it.

    >>> declared_separator(b"sep=;\r\na;b\r\n"), declared_separator(b"sep=1;2\n")
    (';', None)
    """
    found = re.match(rb'("?)sep=([^\r\n"]{1,4})\1[ \t]*\r?\n', begin, re.IGNORECASE)
    try:
        letter = "" if found is None else found[2].decode()
    except UnicodeDecodeError:
        letter = ""
    return letter if len(letter) == 1 else None


def is_name(field: str) -> bool:
    """Tell whether a field may be a column's name: it has a letter, and is not a number."""
    return any(letter.isalpha() for letter in field) and not _is_number(field)


def _is_number(cell: str) -> bool:
    """Tell whether a cell is a number, even with a decimal comma."""
    return read_number(cell.replace(",", ".", 1)) is not None


def example_names(n: int) -> list[Any]:
    """Return names for this many columns, as an example: A, B and so on."""
    return written(ascii_uppercase[:n]) if n <= len(ascii_uppercase) else [...]


def no_header(n: int, lacking: MissingColumn | None) -> dict[str, Any]:
    """Return the options for a file of n columns without names; a target may be the last of them.

    >>> no_header(3, None)
    {'header': False}
    """
    target = lacking is not None and lacking.is_target
    return {"header": False, **({"target": str(n)} if target else {})}


def written(columns: Sequence[str]) -> list[Any]:
    """Return names as advice shows them: all of them, unless there are too many."""
    return list(columns) if len(columns) <= _MOST_NAMES else [...]


def as_columns(fields: Sequence[str], twice: bool = False) -> list[str]:
    """Return the names of columns; a column without one is named by position, as in pandas.

    With `twice`, a repeated name gets a suffix.

    >>> as_columns(["", "size", "size"]), as_columns(["size", "size"], twice=True)
    (['Unnamed: 0', 'size', 'size'], ['size', 'size.1'])
    """
    taken, used = set(fields), set[str]()
    columns: list[str] = []
    for i, field in enumerate(fields):
        name = field or f"Unnamed: {i}"
        if not field or (twice and field in used):
            k, base = 0, name
            while name in taken or name in used:
                k, name = k + 1, f"{base}.{k + 1}"
        used.add(name)
        columns.append(name)
    return columns


def complete(header: list[str], block: Block, below: bool) -> tuple[str, list[str]]:
    """Return a message about a header that lacks one name, and the header with an empty name.

    R writes no name above the row names. A separator at the end of each row makes an empty last
    field. `below` says whether the header is the first row of the block.
    """
    starts, ends = block.starts[below:], block.ends[below:]
    last = np.searchsorted(block.separators, ends)
    counts = last - np.searchsorted(block.separators, starts) + 1
    short = counts == len(header) + 1
    if len(short) == 0 or short.mean() < _ALIKE:
        return "", header
    names = f"the header has {len(header)} name{'s' * (len(header) != 1)}, but the rows have "
    tails = zip(block.separators[last[short] - 1] + 1, ends[short], strict=True)
    if all(block.data[start:end].strip() in (b"", b'""') for start, end in tails):
        return f"{names}{len(header) + 1} fields, of which the last is empty", [*header, ""]
    return f"{names}{len(header) + 1} fields, as when R writes row names", ["", *header]


_UNNAMED = re.compile(r"Unnamed: \d+(\.\d+)?|__index_level_\d+__")


def unnamed_among(features: Sequence[str], requested: Collection[str]) -> list[str]:
    """Return the columns without a name, except those that were requested by their default name.

    >>> unnamed_among(["Unnamed: 0", "size", "__index_level_1__"], [])
    ['Unnamed: 0', '__index_level_1__']
    """
    return [c for c in features if _UNNAMED.fullmatch(c) and c not in requested]


def warn_of_unnamed(
    unnamed: list[str], where: str, stacklevel: int, left_out: Collection[str] = ()
) -> None:
    """Warn about columns without a name, such as a frame's index; say whether they are used."""
    if not unnamed:
        return
    useless = all(column in left_out for column in unnamed)
    several = len(unnamed) > 1
    what = f"column{'s' * several} {', '.join(map(repr, unnamed))} {'have' if several else 'has'}"
    becomes = f"{'are' if several else 'is'} left out" if useless else "will be used for training"
    index = f"as when pandas writes the index of a frame, and {becomes}"
    leave = "confirm with {}" if useless else f"leave {'them' if several else 'it'} out with {{}}"
    warning = TableWarning(f"{where}: {what} no name, {index}", Remedy(leave, {"exclude": unnamed}))
    warn(warning, stacklevel=stacklevel)


def advice(
    layout: Layout | None,
    separator: str,
    skip_lines: int,
    named: Collection[str],
    columns: int | None,
    lacking: MissingColumn | None = None,
) -> list[Remedy]:
    """Return remedies for a file whose layout differs from the given options."""
    if layout is None or (layout.separator, layout.skip_lines) == (separator, skip_lines):
        return []
    options: dict[str, Any] = {}
    found = []
    if layout.separator != separator:
        options["separator"] = layout.separator
        marks = f"{_written(layout.separator)} and not {_written(separator)}"
        found.append(f"{marks} separates columns")
    if layout.skip_lines != skip_lines:
        n = options["skip_lines"] = layout.skip_lines
        found.append("line 1 is not a row" if n == 1 else f"lines 1 to {n} are not rows")
    holds_names = bool(named) and set(named) <= set(layout.fields)
    if columns is None and not holds_names and not layout.has_header:
        options |= no_header(layout.width, lacking)
        found.append("there is no header")
    return [Remedy(f"if {' and '.join(found)}, pass {{}}", options)]


def _written(separator: str) -> str:
    return "a run of blanks" if separator == "blanks" else repr(separator)
