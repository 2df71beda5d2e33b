"""The first lines of CSV files: the names of the columns, and checks of the given names."""

import codecs
import contextlib
import os
import shlex
from collections.abc import Iterable, Sequence
from typing import Any

from minigd.data.sources.csv_blocks import (
    Block,
    WrongFields,
    blank_comments,
    read_blocks,
    read_bytes,
    split,
)
from minigd.data.sources.csv_files import Part, length_of_lines, open_file, stamp_of
from minigd.data.sources.csv_layout import (
    Layout,
    advice,
    as_columns,
    comment_mark,
    complete,
    declared_separator,
    example_names,
    fields_of,
    find_layout,
    is_name,
    no_header,
    written,
)
from minigd.data.sources.csv_parser import BOM, Parser
from minigd.data.sources.csv_pieces import recoded
from minigd.data.sources.csv_text import Dialect, open_text
from minigd.data.sources.file_kinds import HEAD, begin_of, check_kind, ends_in_returns
from minigd.data.sources.given_files import differing
from minigd.data.sources.packed import packing_of
from minigd.data.sources.together import measure_together
from minigd.data.tables.grammar import MissingTexts, Notation, read_number
from minigd.data.tables.remedy import Remedy, TableError, TableWarning
from minigd.data.tables.schema import RENAME, MissingColumn, Schema
from minigd.data.tables.selection import Selection
from minigd.errors import DataError
from minigd.progress import warn

_SAMPLE = 1 << 16  # bytes of a file that show its layout
_MOSTLY = 0.8  # share of lines that begin with a number, if the others may be comments
_LONGEST_DECLARATION = 32  # bytes of the line in which a file names its separator

_LEAVE_NAMES = Remedy("leave out columns=[...]", shell="leave out --columns")
_LEAVE_PLACES = Remedy("leave out header=False", shell="leave out --no-header")


class Header:
    """The names of the columns, from the first file or from the caller.

    `columns` are the caller's names for files without a header. If there are none and `header` is
    False, columns are named by position, 1, 2, ... `dialect` is the caller's, but a separator that
    a file names in its first line replaces a comma.
    """

    def __init__(
        self,
        columns: Sequence[str] | None,
        header: bool,
        dialect: Dialect,
        skip_lines: int,
        notation: Notation,
    ) -> None:
        self.given = columns is None and header  # by the file
        self._by_place = columns is None and not header
        self.columns = list(columns or ())
        self.where = self.short = ""
        self.dialect = dialect
        self._skip_lines, self._notation = skip_lines, notation
        self._first_line = b""
        self._first: Any = None

    def ways_to_rename(self, part: Part) -> Remedy:
        """Return the remedy for two columns with the same name."""
        if not self.given:
            return RENAME
        names = written(as_columns(self.columns, twice=True))
        return Remedy("name all columns with {}", {"columns": names, "skip_lines": part.line - 1})

    def refuse_short(self, unnamed: list[str]) -> None:
        """Refuse a header with one name fewer than the rows have fields, if that column is used."""
        if self.short and unnamed:
            raise TableError(
                f"{self.where}: {self.short}: that column is {unnamed[0]!r}",
                Remedy("leave it out with {}", {"exclude": unnamed}),
                Remedy("name it among {}", {"features": [...]}),
            )

    @property
    def without_rows(self) -> str:
        """The message about a table without rows."""
        return f"{self._first.name} has no rows{' under its header' if self.given else ''}"

    def refuse_one_column(self, selection: Selection) -> None:
        """Refuse a table of one column whose texts are rows of numbers, separated by a mark."""
        if len(self.columns) > 1:
            return
        layout = self._layout(selection, self.given)
        known = None if self.given else 1
        remedies = advice(layout, self.dialect.letter, self._skip_lines, (), known)
        if layout is not None and layout.numbers and remedies:
            raise TableError(f"{self.where}: the table has one column", *remedies)

    def refuse_comments(self) -> None:
        """Refuse a line that looks like a comment, if nearly all others begin with a number."""
        if self.dialect.comment:
            return
        lines = self._sample()
        first = [next(iter(fields_of(line, self.dialect.separator)), "") for line in lines]
        marks = [i for i, line in enumerate(lines) if i >= self._skip_lines and comment_mark(line)]
        numbers = sum(read_number(field.replace(",", ".")) is not None for field in first)
        if marks and numbers > _MOSTLY * len(lines):
            mark = comment_mark(lines[marks[0]]).decode()
            raise TableError(
                f"{self._first.name}, line {marks[0] + 1}: the line begins with {mark!r}",
                Remedy("if such lines are comments, pass {}", {"comment": mark}),
            )

    def advice(self, error: MissingColumn | WrongFields, selection: Selection) -> list[Remedy]:
        """Return the remedies for a missing column, or a row of another width."""
        named, known = _named(selection), None if self.given else len(self.columns)
        mark = b"" if isinstance(error, MissingColumn) else comment_mark(error.row)
        if mark and not self.dialect.comment:
            skip = "if lines that begin like this are comments, pass {}"
            return [Remedy(skip, {"comment": mark.decode()})]
        if self.given and isinstance(error, MissingColumn):
            if all(self._has_quotes(column) for column in self.columns):
                strip = " ".join([*self._notation.strip.split(), "'"])
                words = "if single quotes are not part of names and values, pass {}"
                return [Remedy(words, {"strip": strip})]
            remedies = self._advice_on_places(named)
            if remedies:
                return remedies
        layout = self._layout(selection, self.given)
        if layout and self.given and named and all(str(name).isdecimal() for name in named):
            # A row far down may hold the same numbers.
            layout = layout if layout.skip_lines == self._skip_lines else None
        lacking = error if isinstance(error, MissingColumn) else None
        letter = self.dialect.letter
        remedies = advice(layout, letter, self._skip_lines, named, known, lacking)
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
        command = "" if b"\n" in error.row else f"sed {error.line}d"
        words = "fix the line, or remove it if it is not a row"
        return [self._edited(words, command, error.name)]

    def _has_quotes(self, name: str) -> bool:
        return len(name) > 1 and name[0] == name[-1] == "'"

    def _advice_on_places(self, named: set[str]) -> list[Remedy]:
        """Return the remedies if columns are named by position, and no line holds names."""
        if not named or not all(str(name).isdecimal() for name in named):
            return []
        layout = self._layout(Selection(), True)
        if layout is None or layout.has_header:
            width = 0 if all(map(is_name, self.columns)) else len(self.columns)
            layout = None
        else:
            width = layout.width
        if not named <= {str(place + 1) for place in range(width)}:
            return []
        remedies = advice(layout, self.dialect.letter, self._skip_lines, (), None)
        return remedies or [Remedy("if the file has no header, pass {}", {"header": False})]

    def _layout(self, selection: Selection, header: bool) -> Layout | None:
        """Return the likely layout of the first file, from its first rows."""
        columns = None if header else len(self.columns)
        marks = self.dialect.letter, self.dialect.separator, self._skip_lines
        return find_layout(self._sample(), *marks, _named(selection), columns)

    def _sample(self) -> list[bytes]:
        """Return the first lines of the first file."""
        with open_text(self._first.opened, self.dialect, self._first.name) as file:
            sample = read_bytes(file, _SAMPLE, self._first.name, 1)
        marks = self.dialect.separator, self.dialect.spaces
        rows = blank_comments(sample.removeprefix(BOM), self.dialect.comment, *marks)
        lines = rows.split(b"\n")
        if len(sample) == _SAMPLE:
            lines.pop()
        return lines

    def inspect_all(self, files: Sequence[Any]) -> "tuple[Header, list[Part]]":
        """Read the headers of all files; return their content, and the files."""
        return self, [self.inspect(file) for file in files]

    def inspect(self, given: Any) -> Part:
        """Read the header, and return the file as a `Part`."""
        is_path = isinstance(given, str | os.PathLike)
        name = os.fspath(given) if is_path else getattr(given, "name", "the file object")
        check_kind(given, encoding=self.dialect.encoding)
        skipped = self._lines_above(given, str(name))
        dialect = self.dialect
        with open_text(given, dialect, str(name)) as file:
            begin = len(BOM) if read_bytes(file, len(BOM), str(name), 1) == BOM else 0
            file.seek(begin)
            begin += length_of_lines(file, skipped)
            file.seek(begin)
            line = 1 + skipped
            marks = dialect.separator, dialect.spaces
            blocks = read_blocks(file, str(name), _SAMPLE, *marks, begin, line, dialect.comment)
            filled = (block for block in blocks if not block.is_blank)
            with recoded():
                first = next(filled, None)
                # A header may be longer than a block.
                rows = next(filled, first) if first and first.rows == 1 else first
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
                found = [*map(dialect.restored, split(row, dialect.separator))]
            except ValueError as error:
                raise DataError(f"{where}: {error}") from error
            short, found = complete(found, rows, first is rows)
            found = as_columns([*map(self._notation.unquoted, found)])
            if self.columns and found != self.columns:
                raise DataError(
                    f"{where}: the columns differ from those of {self._first.name}: "
                    f"{differing(found, self.columns)}; give all files one header, or leave this "
                    "one out"
                )
            self.columns, self.short, self._first_line = found, short, row.rstrip()
        elif self._by_place and not self.columns:
            fields = fields_of(row, self.dialect.separator)
            self.columns = [str(place) for place in range(1, len(fields) + 1)]
        size, checksum = measure_together(given)
        stamp = stamp_of(given) if is_path else ()
        returns = dialect.is_plain and ends_in_returns(begin_of(given, HEAD))
        part = Part(str(name), given, size, stamp, checksum, body, line, returns)
        self._first = self._first or part
        return part

    def _lines_above(self, given: Any, name: str) -> int:
        """Return how many lines are skipped; the first may name the separator, as in Excel.

        That separator replaces a comma. The line is never a row.
        """
        with open_text(given, self.dialect, name) as file:
            begin = read_bytes(file, _LONGEST_DECLARATION, name, 1).removeprefix(BOM)
        found = declared_separator(begin)
        if found is None:
            return self._skip_lines
        letter = self.dialect.restored(found)
        if self._first is None and self.dialect.letter == ",":
            self.dialect = self.dialect._replace(letter=letter)
            self._skip_lines = max(1, self._skip_lines)
        if self.dialect.letter != letter:
            raise TableError(
                f"{name}, line 1: the file says that {letter!r} separates columns, but separator "
                f"is {self.dialect.letter!r}",
                Remedy("pass {}", {"separator": letter}),
            )
        return max(1, self._skip_lines)

    def warn_of_encoding(self, stacklevel: int) -> None:
        """Warn if the first file is in UTF-8 but read in another encoding."""
        encoding, name = self.dialect.encoding, self._first.name
        if encoding.startswith(("utf", "ascii")):
            return
        with open_file(self._first.opened) as file:
            begin = read_bytes(file, _SAMPLE, name, 1)
        # The last character may be cut.
        decoder = codecs.getincrementaldecoder("utf-8")()
        with contextlib.suppress(UnicodeDecodeError):
            if not decoder.decode(begin).isascii():
                what = f"{name}: the file seems to be in UTF-8, but is read as {encoding}"
                warning = TableWarning(what, Remedy("pass {}", {"encoding": "utf-8"}))
                warn(warning, stacklevel=stacklevel)

    def refuse_header(self, block: Block, parser: Parser, missing: MissingTexts) -> None:
        """Refuse a first row that is a header, although names of the columns were given.

        It holds most of those names, or only names, one of them above a column of numbers.
        """
        row = block.data[int(block.starts[0]) : int(block.ends[0])]
        fields = fields_of(row, self.dialect.separator)
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

    def _edited(self, words: str, command: str, name: str) -> Remedy:
        """Return how to edit a file; in the shell as a command, if it can read the file."""
        readable = command and self.dialect.is_plain and os.path.isfile(name)
        if not readable or packing_of(begin := begin_of(name, HEAD)) or ends_in_returns(begin):
            return Remedy(words)
        out = f"{os.path.splitext(name)[0]}.edited.csv"
        command = f"{command} {shlex.quote(name)} > {shlex.quote(out)}"
        return Remedy(words, shell=f"{words}: {command}")

    def refuse_repeated(self, blocks: Iterable[tuple[int, Block]], parts: Sequence[Part]) -> None:
        """Refuse a row that repeats the header, as in concatenated files."""
        for part, block in blocks:
            self._refuse_repeated_in(block, parts[part])

    def _refuse_repeated_in(self, block: Block, part: Part) -> None:
        for row, (start, end) in enumerate(zip(block.starts, block.ends, strict=True)):
            if block.data[start:end].removeprefix(BOM).rstrip() == self._first_line:
                first = part.line - 1
                command = f"awk 'NR == {first} {{h = $0}} NR <= {first} || $0 != h'"
                remedy = self._edited("remove the line", command, part.name)
                where = f"{part.name}, line {block.line_of(row)}"
                raise TableError(f"{where}: the header is repeated", remedy)


def _named(selection: Selection) -> set[str]:
    """Return all columns that the caller named."""
    target = selection.target
    targets = [target] if isinstance(target, str) else target or ()
    named = {*targets, *(selection.features or ())}
    return named | {*selection.exclude, *selection.categories}
