"""The first lines of CSV files: the names of the columns, and whether those given fit the rest."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Any

from minigd.data.sources.csv_blocks import (
    Block,
    NotUtf8,
    WrongFields,
    read_blocks,
    read_bytes,
    split,
)
from minigd.data.sources.csv_files import Part, length_of_lines, measure, open_file, stamp_of
from minigd.data.sources.csv_layout import (
    Layout,
    advice,
    as_columns,
    complete,
    example_names,
    fields_of,
    find_layout,
    is_name,
    no_header,
)
from minigd.data.sources.csv_parser import BOM, Parser
from minigd.data.sources.file_kinds import HEAD, begin_of, check_kind, ends_in_returns, recode
from minigd.data.sources.given_files import differing
from minigd.data.tables.grammar import MissingTexts, read_number
from minigd.data.tables.remedy import Remedy, TableError
from minigd.data.tables.schema import MissingColumn, Schema
from minigd.data.tables.selection import Selection
from minigd.errors import DataError

_SAMPLE = 1 << 16  # bytes of a file that show its layout


_LEAVE_NAMES = Remedy("leave out columns=[...]", shell="leave out --columns")
_LEAVE_PLACES = Remedy("leave out header=False", shell="leave out --no-header")


class Header:
    """The names of the columns, from the first file or from the caller.

    `columns` are the caller's names where files have no header, without which `header` says that
    columns are called by their places, 1, 2, ...; `separator_text` is the
    separator as the caller writes it; `separator` and `spaces` are as in `csv_blocks.scan`.
    """

    def __init__(
        self,
        columns: Sequence[str] | None,
        header: bool,
        separator_text: str,
        separator: bytes,
        spaces: bool,
        skip_lines: int,
    ) -> None:
        self.given = columns is None and header  # by the file
        self._by_place = columns is None and not header
        self.columns = list(columns or ())
        self.where = self.short = ""
        self._separator_text, self._separator, self._spaces = separator_text, separator, spaces
        self._skip_lines = skip_lines
        self._first_line = b""
        self._first: Any = None

    def refuse_one_column(self, selection: Selection) -> None:
        """Refuse a table of one column whose texts are rows of numbers, separated by a mark."""
        if len(self.columns) > 1:
            return
        layout = self._layout(selection, self.given)
        remedies = advice(
            layout, self._separator_text, self._skip_lines, (), None if self.given else 1
        )
        if layout is not None and layout.numbers and remedies:
            raise TableError(f"{self.where}: the table has one column", *remedies)

    def advice(self, error: MissingColumn | WrongFields, selection: Selection) -> list[Remedy]:
        """Return what to do about a column that is not there, or a row of another width."""
        named, known = _named(selection), None if self.given else len(self.columns)
        if self.given and isinstance(error, MissingColumn) and self._names_places(named):
            return [Remedy("if the file has no header, pass {}", {"header": False})]
        layout = self._layout(selection, self.given)
        lacking = error if isinstance(error, MissingColumn) else None
        remedies = advice(layout, self._separator_text, self._skip_lines, named, known, lacking)
        if remedies:
            return remedies
        if isinstance(error, MissingColumn):
            if not self.given or (layout is not None and layout.has_header and layout.numbers):
                return []
            return [
                Remedy("if the file has no header, pass {}", no_header(len(self.columns), error))
            ]
        layout = None if self.given else self._layout(Selection(), True)
        if layout is not None and layout.width != known:
            options = {"columns": example_names(layout.width)}
            return [Remedy(f"name all {layout.width} columns with {{}}", options)]
        return [Remedy("fix the line, or take it out of the file if it is not a row")]

    def _names_places(self, named: set[str]) -> bool:
        """Tell whether columns are named by their places, and the first line holds no names."""
        places = {str(place) for place in range(1, len(self.columns) + 1)}
        return named <= places and not all(map(is_name, self.columns))

    def _layout(self, selection: Selection, header: bool) -> Layout | None:
        """Return how the first file seems to be laid out, by its first rows."""
        with open_file(self._first.opened) as file:
            sample = read_bytes(file, _SAMPLE, self._first.name, 1)
        lines = sample.removeprefix(BOM).split(b"\n")
        if len(sample) == _SAMPLE:
            lines.pop()
        columns = None if header else len(self.columns)
        written = self._separator_text, self._separator, self._skip_lines
        return find_layout(lines, *written, _named(selection), columns)

    def inspect(self, given: Any) -> Part:
        """Read the header, and return the file as a `Part`."""
        is_path = isinstance(given, str | os.PathLike)
        name = os.fspath(given) if is_path else getattr(given, "name", "the file object")
        if not is_path and not (hasattr(given, "read") and hasattr(given, "seek")):
            raise TypeError(f"a CSV is a path or a binary file object, not {given!r}")
        if is_path or isinstance(given.read(0), bytes):
            check_kind(given)
        with open_file(given) as file:
            begin = len(BOM) if read_bytes(file, len(BOM), str(name), 1) == BOM else 0
            file.seek(begin)
            begin += length_of_lines(file, self._skip_lines)
            file.seek(begin)
            line = 1 + self._skip_lines
            blocks = read_blocks(
                file, str(name), _SAMPLE, self._separator, self._spaces, begin, line
            )
            filled = (block for block in blocks if len(block.starts))
            with recoded(given, str(name)):
                first = next(filled, None)
                # A header may be longer than a block.
                rows = next(filled, first) if first and len(first.starts) == 1 else first
            if first is None or rows is None:
                after = f" after the {line - 1} lines skipped" if line > 1 else ""
                raise DataError(f"{name} is empty{after}")
        start, end = int(first.starts[0]), int(first.ends[0]) + 1
        body, line = first.offset + start, first.line_of(0)
        row = first.data[start:end]
        where = f"{name}, line {line}" if self.given else str(name)
        self.where = self.where or where
        if self.given:
            body += end - start
            line += row.count(b"\n")
            try:
                found = split(row, self._separator)
            except ValueError as error:
                raise DataError(f"{where}: {error}") from error
            short, found = complete(found, rows, first is rows)
            found = as_columns(found)
            if self.columns and found != self.columns:
                raise DataError(
                    f"{where}: the columns are not those of {self._first.name}: "
                    f"{differing(found, self.columns)}; give all files one header, or leave this "
                    "one out"
                )
            self.columns, self.short, self._first_line = found, short, row.rstrip()
        elif self._by_place and not self.columns:
            fields = fields_of(row, self._separator)
            self.columns = [str(place) for place in range(1, len(fields) + 1)]
        size, checksum = measure(given)
        stamp = stamp_of(given) if is_path else ()
        returns = ends_in_returns(begin_of(given, HEAD))
        part = Part(str(name), given, size, stamp, checksum, body, line, returns)
        self._first = self._first or part
        return part

    def refuse_header(self, block: Block, parser: Parser, missing: MissingTexts) -> None:
        """Refuse a first row that is a header, though names of the columns were given.

        It holds most of those names, or names alone, one of them above a column of numbers.
        """
        row = block.data[int(block.starts[0]) : int(block.ends[0])]
        fields = fields_of(row, self._separator)
        known = sum(field == name for field, name in zip(fields, self.columns, strict=False))
        header = 2 * known > len(fields) and not self._by_place
        if not header and fields and all(map(is_name, fields)):
            frame = parser.read_texts(block.data, parser.used)[1:]
            numbers = frame.map(lambda text: read_number(text) is not None)
            there = frame.map(lambda text: text not in missing)
            header = ((2 * numbers.sum() > there.sum()) & (numbers.sum() > 1)).any()
        if header:
            line = block.line_of(0)
            raise TableError(
                f"{self._first.name}: line {line} is a header",
                _LEAVE_PLACES if self._by_place else _LEAVE_NAMES,
                Remedy("add {}", {"skip_lines": line}),
            )

    def may_come_again(self, schema: Schema) -> bool:
        """Tell whether each column in use is text, and its own name is among its texts."""
        known = {**schema.levels, **dict.fromkeys(schema.targets[:1], schema.classes)}
        return all(column in (known.get(column) or ()) for column in schema.columns)

    def refuse_repeated(self, block: Block, name: str) -> None:
        """Refuse a row that is the header again, as where files were put together."""
        for row, (start, end) in enumerate(zip(block.starts, block.ends, strict=True)):
            if block.data[start:end].removeprefix(BOM).rstrip() == self._first_line:
                raise TableError(
                    f"{name}, line {block.line_of(row)}: the header again",
                    Remedy("take the line out of the file"),
                )


def _named(selection: Selection) -> set[str]:
    """Return all columns that the caller named."""
    target = selection.target
    targets = [target] if isinstance(target, str) else target or ()
    named = {*targets, *(selection.features or ())}
    return named | {*selection.exclude, *selection.categories}


@contextlib.contextmanager
def recoded(given: Any, name: str) -> Iterator[None]:
    """Add how to read them to the error for bytes that are not UTF-8."""
    try:
        yield
    except NotUtf8 as error:
        error.args += (recode(given, name, error.data),)
        raise
