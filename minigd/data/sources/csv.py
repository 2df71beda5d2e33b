"""Rows of CSV files, larger than memory, in the order of the file or in any other.

The file is read in blocks and parsed by pandas; an index of row offsets, built when an epoch is to
be shuffled, makes every epoch a true permutation of the rows.
"""

import contextlib
import csv
import gzip
import io
import mmap
import os
import threading
import zlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from minigd.backends.base import Workspace
from minigd.data.sources.base import Pair, RandomAccess, Rows
from minigd.data.sources.csv_blocks import (
    BLANKS,
    Block,
    NotUtf8,
    WrongFields,
    check_fields,
    read_blocks,
    read_bytes,
    split,
    squeeze,
)
from minigd.data.sources.csv_layout import (
    Layout,
    advice,
    as_columns,
    complete,
    find_layout,
    is_name,
    some_names,
    unnamed_among,
    warn_of_unnamed,
    written,
)
from minigd.data.sources.file_kinds import GZIP, begin_of, check_kind, recode
from minigd.data.tables.grammar import MissingTexts, read_number
from minigd.data.tables.inference import FirstPass, apply_schema, describe, infer_schema, is_dressed
from minigd.data.tables.remedy import Remedy, TableError
from minigd.data.tables.schema import (
    BadValue,
    ColumnKinds,
    Encoded,
    MissingColumn,
    Schema,
    Selection,
    TextInNumbers,
)
from minigd.errors import CheckpointError, DataError, check_integer
from minigd.progress import watched
from minigd.storage import npz
from minigd.types import Array

_GATHERED = 4 << 20  # bytes of rows fetched at once, at most
_BOM = b"\xef\xbb\xbf"
_FIRST_ROWS = 200  # looked at to tell texts from numbers; a text further on starts the pass again
_SAMPLE = 1 << 16  # bytes of a file from which its layout is told


class _Part(NamedTuple):
    """One file, as the first pass found it."""

    name: str
    opened: Any  # a path, or the caller's file object
    size: int
    stamp: tuple[int, ...]  # times of the file, which change with every edit
    checksum: int
    body: int  # where the rows begin, behind the header
    line: int  # and on which line


class _NotNumbers(ValueError):
    """Texts in columns of numbers, of which the first one is at a row of a frame."""

    def __init__(self, row: int, column: str, text: str, columns: list[str]) -> None:
        super().__init__(f"column {column!r}: {text!r} is not a number")
        self.row, self.column, self.text, self.columns = row, column, text, columns


class _Place:
    """Where the frame of a block is, and how its columns of text are written."""

    def __init__(self, name: str, block: Block, missing: MissingTexts) -> None:
        self.name, self._block, self._missing = name, block, missing
        self.texts: dict[str, Array] = {}

    def where(self, row: int) -> str:
        return f"{self.name}, line {self._block.line_of(row)}"

    def usual_words(self, column: str) -> Array | None:
        texts = self.texts.get(column)
        usual = () if texts is None else [t for t in set(texts) if self._missing.is_usual(t)]
        if texts is None or not usual:
            return None
        return np.where(np.isin(texts, usual), texts, "")


class CsvSource(RandomAccess):
    r"""Rows of one or more CSV files.

    A first pass settles what each column is, counts the rows and refuses what is malformed, so that
    nothing changes from block to block: a label first seen at the end has its class from the
    start, and a column of integers with one fraction is a column of floats.

    Parameters
    ----------
    path : path, file object, or a list of them
        Plain or gzipped. Several files have the same header and follow one another.
    target : str or list of str, optional
        Column of y. Text becomes classes 0, 1, … in sorted order; whole numbers become int64, other
        numbers `dtype`. Several columns of numbers make y a table.
    features : list of str, optional
        Columns of x, in this order; all others by default.
    exclude : list of str, optional
        Columns to leave out. One without a name in the header is called by its place,
        ``Unnamed: 0``, and is warned of unless it is left out or among `features`.
    columns : list of str, optional
        Names of the columns of a file that has no header.
    skip_lines : int, default 0
        Lines at the top of each file that are neither header nor rows.
    separator : str, default ","
        One character. Spaces behind it are skipped, unless it is one. ``"blanks"`` is a run of
        blanks and tabs; those at the start and the end of a line separate nothing.
    strip : str, optional
        Characters taken off the end of every text, such as the full stop of ``>50K.``.
    missing : {"error", "drop", "category"} or float, default "error"
        What becomes of a missing value: an error that names file, line and column; its row is
        dropped, and `dropped` counts it; a missing category is a level of its own,
        ``color=missing``, and the row of a missing number is dropped; or this number stands for it
        (a category that is missing then has 0 in each of its columns). A missing target is an error
        unless dropped.
    na : list of str, optional
        Texts that mean a missing value, besides the empty one and those that pandas takes for one,
        such as NA and null. A level or class that is named here is never missing.
    keep_default_na : bool, default True
        Whether the texts that pandas takes for missing are missing. Where NA is a country, False
        leaves the empty cell and `na` alone.
    categories : dict of str to list, optional
        Levels of categorical columns, where the file's own are not to be taken.
    classes : list, optional
        Classes of the target in the order of their numbers, likewise.
    schema : Schema, optional
        The `schema` of another table, in the place of all that is said and settled of columns: this
        one becomes the same columns, found by name, with the same levels and classes.
    dtype : dtype, default "float32"
        Of x, and of a target that is not whole numbers.
    block_size : int, default 2 MiB
        Bytes parsed at a time. It changes nothing but speed.
    index_path : path, optional
        Where to keep the index of row offsets for other runs. An index of another file is refused.

    Attributes
    ----------
    rows : int
    dropped : int
        Rows left out because of a missing value, or a category that `schema` does not know.
    first_dropped : str
        Where the first of them is, and why.
    names : list of str
        Of the columns of x: ``bedrooms``, or ``color=red`` for a category.
    classes : list of str or None
    schema : Schema
        What each column becomes.

    Raises
    ------
    DataError
        Naming file, line and column: a row with too few or too many fields, a value that is
        missing or is no number, bytes that are not UTF-8, a missing column, two columns of one
        name, dates or free text, an empty file, a file that has changed; or naming the column: a
        target whose values `dtype` can't tell from each other. Of such a feature it warns.

    Notes
    -----
    In file order, memory does not depend on the size of the file. With a shuffle it is 8 bytes a
    row for the index and 8 for the permutation, besides the rows fetched at once, up to 4 MiB. A
    gzipped file can't be shuffled so: `cache` it.

    Examples
    --------
    >>> import io
    >>> file = io.BytesIO(b"size,color,price\n1,red,10\n2,blue,20.5\n3,red,30\n")
    >>> source = CsvSource(file, target="price")
    >>> source.names, source.rows
    (['size', 'color=blue', 'color=red'], 3)
    >>> x, y = source.take(slice(1, 3))
    >>> x.tolist(), y.tolist()
    ([[2.0, 1.0, 0.0], [3.0, 0.0, 1.0]], [20.5, 30.0])
    """

    names: list[str]
    is_text = True

    def __init__(
        self,
        path: Any,
        target: str | Sequence[str] | None = None,
        *,
        features: Sequence[str] | None = None,
        exclude: Collection[str] = (),
        columns: Sequence[str] | None = None,
        skip_lines: int = 0,
        separator: str = ",",
        strip: str = "",
        missing: str | float = "error",
        na: Sequence[str] = (),
        keep_default_na: bool = True,
        categories: Mapping[str, Sequence[Any]] | None = None,
        classes: Sequence[Any] | None = None,
        schema: Schema | None = None,
        dtype: Any = "float32",
        block_size: int = 1 << 21,
        index_path: str | os.PathLike[str] | None = None,
    ) -> None:
        one = isinstance(separator, str) and len(separator.encode()) == 1
        if separator != "blanks" and (not one or separator in '"\r\n'):
            raise ValueError(
                "separator must be one character, and no quote, or 'blanks' for runs of blanks and "
                f"tabs: {separator!r}"
            )
        for what, names in (("columns", columns), ("na", na)):
            if isinstance(names, str):
                raise TypeError(f"{what} is a list, [{names!r}], and not one text")
        self._pandas = _import_pandas()
        selection = Selection(target, features, exclude, categories or {}, classes, missing)
        if schema is not None:
            selection = selection.of(schema)
        self._separator = BLANKS if separator == "blanks" else separator.encode()
        # Spaces behind a separator are skipped, unless they are separators themselves.
        self._spaces = not self._separator.startswith(b" ")
        self._said = separator
        self._skip_lines = check_integer("skip_lines", skip_lines, 0)
        self._strip = strip
        self._missing = MissingTexts(na, keep_default_na)
        self._block_size = check_integer("block_size", block_size)
        self._index_path = index_path
        self._starts: list[Array] | None = None
        self._maps: dict[int, Any] = {}
        given = path if isinstance(path, list | tuple) else [path]
        if not given:
            raise DataError("no file was given")
        self._columns: list[str] = list(columns or ())
        self._short = ""
        self._parts = [self._inspect(file, header=columns is None) for file in given]
        try:
            found = self._first_pass(selection, columns is None, schema, dtype)
        except (MissingColumn, WrongFields) as error:
            error.args += tuple(self._advice(error, selection, columns is None))
            raise
        self.schema, self.rows, self.dropped = found.schema, found.rows, found.dropped
        self.first_dropped, self.missing_words = found.first_dropped, found.missing_words
        self.target_problems = found.target_problems
        self.names, self.classes = self.schema.names, self.schema.classes
        # Rows worth fetching at once: many for one call of the parser, few where they are long.
        size = sum(part.size for part in self._parts)
        self.gather = max(1, min(16_384, _GATHERED * (self.rows or 1) // max(1, size)))
        # The middle of a gzipped file can't be reached without reading all before it.
        self.random_access = not any(begin_of(part.opened, 2) == GZIP for part in self._parts)
        if self.rows == 0:
            raise DataError(
                f"{self._parts[0].name} has no rows"
                + (" under its header" if columns is None else "")
                + found.none_left()
            )

    # The first pass --------------------------------------------------------------------------

    def _first_pass(
        self, selection: Selection, header: bool, schema: Schema | None, dtype: Any
    ) -> FirstPass:
        """Find what each column is, or go by a schema."""
        name = self._parts[0].name
        try:
            features, targets = selection.resolve(self._columns, self._header)
        except MissingColumn:
            raise
        except DataError:
            again = next((c for c, n in Counter(self._columns).items() if n > 1), None)
            if again is None or not header:
                raise
            options = {
                "columns": written(as_columns(self._columns, twice=True)),
                "skip_lines": self._parts[0].line - 1,
            }
            raise TableError(
                f"{self._header}: two columns are called {again!r}",
                Remedy("name all columns with {}", options),
            ) from None
        needed = {*features, *targets}
        self._used = [c for c in self._columns if c in needed]
        self._place = {column: i for i, column in enumerate(self._columns)}
        if not header:
            self._refuse_header()
        unnamed = unnamed_among(features, selection.features or ())
        if self._short and unnamed and schema is None:
            raise TableError(
                f"{self._header}: {self._short}: that column is {unnamed[0]!r}",
                Remedy("leave it out with {}", {"exclude": unnamed}),
                Remedy("name it among {}", {"features": [...]}),
            )
        if schema is not None:
            return apply_schema(schema, self)
        texts = self._first_texts()
        try:
            found = infer_schema(self, selection, self._columns, name, dtype, texts)
        except DataError:
            self._refuse_one_column(selection, header)
            if header:
                self._refuse_repeated_header()
            raise
        if found.schema.levels and not selection.categories:
            self._refuse_one_column(selection, header)
        warn_of_unnamed(unnamed, self._header, stacklevel=4)
        return found

    def _refuse_one_column(self, selection: Selection, header: bool) -> None:
        """Refuse a table of one column whose texts are rows of numbers, separated by a mark."""
        if len(self._columns) > 1:
            return
        layout = self._layout(selection, header)
        remedies = advice(layout, self._said, self._skip_lines, (), None if header else 1)
        if layout is not None and layout.numbers and remedies:
            raise TableError(f"{self._header}: the table has one column", *remedies)

    def _advice(
        self, error: MissingColumn | WrongFields, selection: Selection, header: bool
    ) -> list[Remedy]:
        """Return what to do about a column that is not there, or a row of another width."""
        named, known = _named(selection), None if header else len(self._columns)
        layout = self._layout(selection, header)
        remedies = advice(layout, self._said, self._skip_lines, named, known)
        if remedies:
            return remedies
        if isinstance(error, MissingColumn):
            if not header or (layout is not None and layout.has_header and layout.numbers):
                return []
            options = {"columns": some_names(len(self._columns))}
            return [Remedy("if the file has no header, name its columns with {}", options)]
        layout = None if header else self._layout(Selection(), True)
        if layout is not None and layout.width != known:
            options = {"columns": some_names(layout.width)}
            return [Remedy(f"name all {layout.width} columns with {{}}", options)]
        return [Remedy("mend the line, or take it out of the file if it is no row")]

    def _layout(self, selection: Selection, header: bool) -> Layout | None:
        """Return how the first file seems to be laid out, by its first rows."""
        with _open(self._parts[0].opened) as file:
            sample = read_bytes(file, _SAMPLE, self._parts[0].name, 1)
        lines = sample.removeprefix(_BOM).split(b"\n")
        if len(sample) == _SAMPLE:
            lines.pop()
        columns = None if header else len(self._columns)
        said = self._said, self._separator, self._skip_lines
        return find_layout(lines, *said, _named(selection), columns)

    def _inspect(self, given: Any, header: bool) -> _Part:
        """Read the header and take the file's measure."""
        is_path = isinstance(given, str | os.PathLike)
        name = os.fspath(given) if is_path else getattr(given, "name", "the file object")
        if not is_path and not (hasattr(given, "read") and hasattr(given, "seek")):
            raise TypeError(f"a CSV is a path or a binary file object, not {given!r}")
        if is_path or isinstance(given.read(0), bytes):
            check_kind(given)
        checksum = size = 0
        with _open(given) as file:
            begin = len(_BOM) if read_bytes(file, len(_BOM), str(name), 1) == _BOM else 0
            file.seek(begin)
            begin += _length_of_lines(file, self._skip_lines)
            file.seek(begin)
            line = 1 + self._skip_lines
            blocks = read_blocks(
                file, str(name), _SAMPLE, self._separator, self._spaces, begin, line
            )
            filled = (block for block in blocks if len(block.starts))
            with _recoded(given, str(name)):
                first = next(filled, None)
                # A header may be longer than a block.
                rows = next(filled, first) if first and len(first.starts) == 1 else first
            if first is None or rows is None:
                behind = f" behind the {line - 1} lines skipped" if line > 1 else ""
                raise DataError(f"{name} is empty{behind}")
        start, end = int(first.starts[0]), int(first.ends[0]) + 1
        body, line = first.offset + start, first.line_of(0)
        row = first.data[start:end]
        where = f"{name}, line {line}" if header else str(name)
        self._header = getattr(self, "_header", where)
        if header:
            body += end - start
            line += row.count(b"\n")
            try:
                found = split(row, self._separator)
            except csv.Error as error:
                raise DataError(
                    f"{where}: {error}; lines must end in \\n or \\r\\n, none in a lone \\r"
                ) from error
            short, found = complete(found, rows, first is rows)
            found = as_columns(found)
            if self._columns and found != self._columns:
                raise DataError(
                    f"{where}: the columns are {found}, and in the first file {self._columns}"
                )
            self._columns, self._short, self._first_line = found, short, row.rstrip()
        with _open(given, raw=True) as file:
            while chunk := file.read(1 << 20):
                checksum, size = zlib.adler32(chunk, checksum), size + len(chunk)
        stamp = _stamp(given) if is_path else ()
        return _Part(str(name), given, size, stamp, checksum, body, line)

    def _refuse_header(self) -> None:
        """Refuse a first row that is a header, though names of the columns were given.

        It holds most of those names, or names alone, one of them above a column of numbers.
        """
        block = next(self._blocks(0), None)
        if block is None:
            return
        row = block.data[int(block.starts[0]) : int(block.ends[0])]
        try:
            fields = split(row, self._separator)
        except csv.Error:  # such as a field of many thousand letters
            return
        known = sum(field == name for field, name in zip(fields, self._columns, strict=False))
        header = 2 * known > len(fields)
        if not header and all(map(is_name, fields)):
            frame = self._read_texts(block.data, self._used)[1:]
            numbers = frame.map(lambda text: read_number(text) is not None)
            there = frame.map(lambda text: text not in self._missing)
            header = ((2 * numbers.sum() > there.sum()) & (numbers.sum() > 1)).any()
        if header:
            line = block.line_of(0)
            raise TableError(
                f"{self._parts[0].name}: line {line} is a header",
                Remedy("leave out columns=[...]", shell="leave out --columns"),
                Remedy("add {}", {"skip_lines": line}),
            )

    def _refuse_repeated_header(self) -> None:
        """Refuse a row that is the header once more, as where files were put together."""
        for part in range(len(self._parts)):
            for block in self._blocks(part):
                for row, (start, end) in enumerate(zip(block.starts, block.ends, strict=True)):
                    text = block.data[start:end].removeprefix(_BOM).rstrip()
                    if text == self._first_line:
                        raise TableError(
                            f"{self._parts[part].name}, line {block.line_of(row)}: the header once "
                            "more",
                            Remedy("take the line out of the file"),
                        )

    def _first_texts(self) -> list[str]:
        """Return the columns that hold text in the first rows."""
        block = next(self._blocks(0), None)
        if block is None:
            return []
        rows = block.data[: int(block.ends[:_FIRST_ROWS][-1]) + 1]
        frame = self._read_texts(rows, self._used)
        return [c for c in self._used if self._missing.to_numbers(frame[c])[1].any()]

    def frames(self, kinds: ColumnKinds) -> Iterator[Any]:
        """Return the frames of all files, a block each."""
        for part in range(len(self._parts)):
            for block in self._watched(part, "the first pass over"):
                frame, self._at = self._parse(block, part, kinds)
                yield frame

    def where(self, row: int) -> str:
        """Say where a row of the frame at hand is."""
        return self._at.where(row)

    def usual_words(self, column: str) -> Array | None:
        """Return the words in a column of text that are missing values by default, "" elsewhere."""
        return self._at.usual_words(column)

    # Bytes to numbers ------------------------------------------------------------------------

    def _blocks(self, part: int) -> Iterator[Block]:
        name, opened, _, _, _, body, line = self._parts[part]
        with _open(opened) as file:
            file.seek(body)
            blocks = read_blocks(
                file, name, self._block_size, self._separator, self._spaces, body, line
            )
            with _recoded(opened, name):
                for block in blocks:
                    if len(block.starts):
                        check_fields(block, name, len(self._columns))
                        yield block

    def _parse(self, block: Block, part: int, kinds: ColumnKinds) -> "tuple[Any, _Place]":
        """Return the frame of a block, and where it is; texts among numbers are `TextInNumbers`."""
        place = _Place(self._parts[part].name, block, self._missing)
        try:
            frame, place.texts = self._read(block.data, kinds)
        except _NotNumbers as odd:
            where = f"{place.where(odd.row)}, column {odd.column!r}: {odd.text!r}"
            remedy = Remedy("if it means a missing value, pass {}", {"na": [odd.text]})
            message = f"{where} is not a number"
            if is_dressed(odd.text):
                message = f"{where} is a number in a notation that is not read"
                remedy = Remedy("write it plainly")
            elif odd.text.lower() in ("true", "false"):
                remedy = Remedy("write truth values as 1 and 0")
            raise TextInNumbers(message, remedy, column=odd.column, columns=odd.columns) from None
        except ValueError as error:
            raise DataError(f"{place.name}, from line {block.line} on: {error}") from error
        if len(frame) != len(block.starts):
            raise DataError(
                f"{place.where(self._misread(block))}: the line is not read as one "
                "row; lines must end in \\n or \\r\\n, none in a lone \\r, and none be all spaces"
            )
        return frame, place

    def _misread(self, block: Block) -> int:
        """Return a row of the block that pandas takes for none or for several."""
        good, bad = 0, len(block.starts)
        while bad - good > 1:
            middle = (good + bad) // 2
            frame = self._read_texts(block.data[: int(block.ends[middle - 1]) + 1], self._used)
            good, bad = (middle, bad) if len(frame) == middle else (good, middle)
        return good

    def _read(self, data: bytes, kinds: ColumnKinds) -> tuple[Any, dict[str, Array]]:
        """Return rows as a frame, and its columns of text as they are written.

        A missing number is NaN and a missing text is None.
        """
        as_text = [c for c in self._used if c in kinds.texts or c in kinds.whole]
        numbers = [c for c in self._used if c not in as_text]
        try:
            frame = self._read_numbers(data, numbers)
            odd = self._maybe_true(data, frame, numbers)
            read = self._read_texts(data, odd) if odd else {}
        except ValueError:
            frame = read = self._read_texts(data, self._used)
            odd = numbers
        changed = self._to_numbers({c: read[c] for c in odd}, self._missing.to_numbers)
        whole = {c: frame[c] for c in kinds.whole}
        changed |= self._to_numbers(whole, self._missing.to_whole)
        written = {c: frame[c].to_numpy(object) for c in kinds.texts}
        for column, texts in written.items():
            changed[column] = self._missing.to_texts(texts, kinds.named.get(column, ()))
            if self._strip:
                stripped = self._pandas.Series(changed[column], dtype=object)
                changed[column] = stripped.str.rstrip(self._strip).to_numpy(object)
        if changed:
            new = {
                c: self._pandas.Series(values, copy=False, dtype=values.dtype)
                for c, values in changed.items()
            }
            columns = {c: new[c] if c in new else frame[c] for c in self._used}
            frame = self._pandas.DataFrame(columns, columns=frame.columns, copy=False)
        return frame, written

    def _to_numbers(self, columns: Mapping[str, Any], convert: Any) -> dict[str, Array]:
        """Return columns of text as the numbers that the grammar makes of them."""
        converted = {column: convert(texts) for column, texts in columns.items()}
        wrong = {column: odd for column, (_, odd) in converted.items() if odd.any()}
        if wrong:
            column = min(wrong, key=lambda c: int(np.argmax(wrong[c])))
            row = int(np.argmax(wrong[column]))
            raise _NotNumbers(row, column, columns[column].iloc[row], list(wrong))
        return {column: values for column, (values, _) in converted.items()}

    def _maybe_true(self, data: bytes, frame: Any, numbers: Collection[str]) -> list[str]:
        """Return columns that pandas may have read as truth values, which it makes 0 and 1."""
        if not any(mark in data for mark in (b"u", b"U", b"l", b"L")):
            return []
        lower = data.lower()
        if b"true" not in lower and b"false" not in lower:
            return []
        first = dict(zip(frame.columns, frame.iloc[0], strict=True)) if len(frame) else {}
        maybe = [c for c in numbers if c in first and (first[c] in (0, 1) or first[c] != first[c])]
        return [c for c in maybe if ((frame[c] == 0) | (frame[c] == 1) | frame[c].isna()).all()]

    def _read_numbers(self, data: bytes, numbers: Collection[str]) -> Any:
        """Return the columns in use: `numbers` as float64, the others as they are written.

        Raises
        ------
        ValueError
            If pandas doesn't take a cell of the numbers for one.
        """
        # One dtype, and columns by number, take pandas a fifth less time than a dtype and a name
        # each; a block is small already, and need not be read in pieces.
        kinds: Any = np.float64
        missing: Any = self._missing.parsed_as_nan
        if len(numbers) < len(self._used):
            kinds = {self._place[c]: np.float64 if c in numbers else object for c in self._used}
            missing = {self._place[c]: missing for c in numbers}
        return self._read_csv(data, self._used, dtype=kinds, na_values=missing)

    def _read_texts(self, data: bytes, columns: Collection[str]) -> Any:
        """Return some columns as they are written."""
        return self._read_csv(data, columns, dtype=object, na_filter=False)

    def _read_csv(self, data: bytes, columns: Collection[str], **options: Any) -> Any:
        places = sorted(self._place[column] for column in columns)
        if data.startswith(_BOM):
            # Here it is part of a cell, and pandas would drop it; a blank line is no row.
            data = b"\n" + data
        frame = self._pandas.read_csv(
            io.BytesIO(squeeze(data, self._separator)),
            header=None,
            names=range(len(self._columns)),
            usecols=places if len(places) < len(self._columns) else None,
            index_col=False,
            sep=self._separator[:1].decode(),
            # Looking for spaces costs a tenth of the time, and most files have none there.
            skipinitialspace=self._spaces and b" " in data,
            keep_default_na=False,
            engine="c",
            low_memory=False,
            **options,
            **_exact(self._pandas),
        )
        names = [self._columns[place] for place in places]
        frame.columns = self._pandas.Index(names, dtype=object)
        return frame

    def _encode(self, block: Block, part: int) -> Encoded:
        frame, place = self._parse(block, part, self.schema.kinds)
        try:
            return self.schema.encode(frame)
        except BadValue as bad:
            raise describe(place, bad) from None

    def places(self, rows: Array) -> list[str]:
        r"""Return the line of each row, and the file where there are several.

        The files are read once, up to the last of the rows.

        >>> import io, numpy as np
        >>> file = io.BytesIO(b"x,y\n1,2\n\n3,4\n")
        >>> CsvSource(file, target="y").places(np.array([1, 0]))
        ['line 4', 'line 2']
        """
        self._check_unchanged()
        found: dict[int, str] = {}
        wanted = np.unique(np.asarray(rows))
        dropping = self.schema.missing == "drop"
        first = 0
        for part in range(len(self._parts)):
            name = f"{self._parts[part].name}, " if len(self._parts) > 1 else ""
            for block in self._blocks(part):
                kept = self._encode(block, part)[2] if dropping else None
                places = np.arange(len(block.starts)) if kept is None else np.flatnonzero(kept)
                low, high = np.searchsorted(wanted, (first, first + len(places)))
                for row in wanted[low:high].tolist():
                    found[row] = f"{name}line {block.line_of(int(places[row - first]))}"
                first += len(places)
                if high == len(wanted):
                    return [found[row] for row in np.asarray(rows).tolist()]
        raise IndexError(f"there are {self.rows} rows, and row {int(wanted[-1])} was asked for")

    def _watched(self, part: int, what: str) -> Iterator[Block]:
        """Return the blocks of one file, and show how far a pass over them is."""
        name, opened, size, *_ = self._parts[part]
        plain = begin_of(opened, 2) != GZIP  # how much a gzipped file holds is not known
        return watched(
            self._blocks(part),
            f"{what} {name}",
            rows=lambda block: len(block.starts),
            share=lambda block: (block.offset + len(block.data)) / size if plain else None,
        )

    # Rows in order ---------------------------------------------------------------------------

    def chunks(self, start: int = 0) -> Iterator[Pair]:
        """Return the rows from number `start` on, in the order of the file, a block at a time."""
        self._check_unchanged()
        dropping = self.schema.drops
        row = 0
        for part in range(len(self._parts)):
            for block in self._blocks(part):
                self._check_unchanged()
                if not dropping and row + len(block.starts) <= start:
                    row += len(block.starts)
                    continue
                x, y, _ = self._encode(block, part)
                skipped = min(max(start - row, 0), len(x))
                row += len(x)
                if skipped < len(x):
                    yield x[skipped:], None if y is None else y[skipped:]
        self._check_unchanged()
        if row != self.rows:
            raise DataError(
                f"{self._parts[0].name} had {self.rows} row{'s' * (self.rows != 1)} at first "
                f"and now has {row}"
            )

    def encoded(self) -> Iterator[Encoded]:
        """Return x, y, and which rows were not dropped (None for all), a block at a time."""
        self._check_unchanged()
        for part in range(len(self._parts)):
            for block in self._blocks(part):
                yield self._encode(block, part)

    def _check_unchanged(self) -> None:
        for i, part in enumerate(self._parts):
            if not isinstance(part.opened, str | os.PathLike):
                continue
            stamp = _stamp(part.opened)
            if stamp == part.stamp:
                continue
            # A file that was only touched is the same file.
            found = size = 0
            with open(part.opened, "rb") as file:
                while chunk := file.read(1 << 20):
                    found, size = zlib.adler32(chunk, found), size + len(chunk)
            if (size, found) != (part.size, part.checksum):
                raise DataError(
                    f"{part.name} has changed since it was opened: open it again with a new "
                    "CsvSource"
                )
            self._parts[i] = part._replace(stamp=stamp)
            self._maps.pop(i, None)

    # Rows in any order -----------------------------------------------------------------------

    def take(self, rows: Rows, workspace: Workspace | None = None) -> Pair:
        """Return x and y of some rows, read from their places in the file.

        The rows are fetched in the order of the file, parsed together, and put in the order asked
        for.
        """
        if isinstance(rows, slice):
            index = np.arange(*rows.indices(self.rows))
        else:
            # As in any array, -1 is the last row, and a number beyond it is an error.
            index = np.asarray(rows, dtype=np.int64)
            index = np.where(index < 0, index + self.rows, index)
            if len(index) and not 0 <= index.min() <= index.max() < self.rows:
                raise IndexError(f"there are {self.rows} rows, and row {rows} was asked for")
        if len(index) == 0:
            x, y = self.take(slice(0, 1))
            return x[:0], None if y is None else y[:0]
        self._check_unchanged()
        starts = self._index()
        order = np.argsort(index, kind="stable")
        firsts = np.cumsum([0, *(len(s) - 1 for s in starts)])
        limits = np.searchsorted(index[order], firsts)
        xs, ys = [], []
        for part in range(len(starts)):
            wanted = index[order[limits[part] : limits[part + 1]]] - firsts[part]
            if len(wanted):
                x, y = self._fetch(part, starts[part], wanted)
                xs.append(x)
                ys.append(y)
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        x = (xs[0] if len(xs) == 1 else np.concatenate(xs))[back]
        if ys[0] is None:
            return x, None
        y = ys[0] if len(ys) == 1 else np.concatenate([y for y in ys if y is not None])
        return x, y[back]

    def _fetch(self, part: int, starts: Array, wanted: Array) -> Pair:
        """Return the rows of one file with these numbers, which are in order."""
        whole = self._map(part)
        # Neighbours in the file are one piece.
        breaks = np.flatnonzero(np.diff(wanted) != 1) + 1
        begins = starts[wanted[np.concatenate(([0], breaks))]].tolist()
        ends = starts[wanted[np.concatenate((breaks, [len(wanted)])) - 1] + 1].tolist()
        pieces = [whole[a:b] for a, b in zip(begins, ends, strict=True)]
        # The last row of the file may lack its newline, and be asked for more than once.
        for i in range(len(pieces) - 1, -1, -1):
            if pieces[i].endswith(b"\n"):
                break
            pieces[i] += b"\n"
        data = b"".join(pieces)
        try:
            frame, _ = self._read(data, self.schema.kinds)
            x, y, _ = self.schema.encode(frame)
            if len(x) != len(wanted):
                raise ValueError(f"{len(wanted)} rows are read as {len(x)}")
        except ValueError as error:
            # Reading in order finds the line, if the value was there from the first.
            for block in self._blocks(part):
                self._encode(block, part)
            name = self._parts[part].name
            raise DataError(f"{name} has changed since it was opened: {error}") from error
        return x, y

    def _map(self, part: int) -> Any:
        if part not in self._maps:
            _, opened, *_ = self._parts[part]
            with _open(opened, raw=True) as file:
                if isinstance(opened, str | os.PathLike):
                    whole: Any = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                else:
                    whole = file.read()
            if whole[:2] == GZIP:
                raise DataError(
                    f"{self._parts[part].name} is gzipped, and rows in the middle of it can't be "
                    "reached: unpack it, or use source.cache(folder), or a shuffle buffer"
                )
            self._maps[part] = whole
        return self._maps[part]

    def _index(self) -> list[Array]:
        """Return, for each file, where each row starts, and where the last one ends."""
        if self._starts is None:
            for part in range(len(self._parts)):
                self._map(part)
            kept = self._load_index()
            self._starts = self._build_index() if kept is None else kept
            if kept is None and self._index_path is not None:
                named = {f"starts{i}": starts for i, starts in enumerate(self._starts)}
                npz.write(self._index_path, {"kind": "index", **self._index_key()}, named)
        return self._starts

    def _build_index(self) -> list[Array]:
        # One vector for all files, as long as it will be: nothing is put together afterwards.
        whole = np.empty(self.rows + len(self._parts), dtype=np.int64)
        result, at = [], 0
        for part in range(len(self._parts)):
            first, end = at, 0
            for block in self._watched(part, "an index of"):
                starts = block.starts
                end = block.offset + int(block.ends[-1]) + 1
                if self.schema.drops:
                    # A row that is dropped lies behind one that is kept, is read with it, and is
                    # dropped again.
                    _, _, kept = self._encode(block, part)
                    starts = starts if kept is None else starts[kept]
                np.add(starts, block.offset, out=whole[at : at + len(starts)])
                at += len(starts)
            whole[at] = end
            at += 1
            result.append(whole[first:at])
        return result

    def _index_key(self) -> dict[str, Any]:
        schema = self.schema
        dropping = None
        if schema.drops:
            # Which rows are dropped depends on the columns in use, and on what counts as missing.
            known = [schema.missing, schema.levels if schema.unknown == "drop" else None]
            dropping = [sorted(schema.columns), sorted(self._missing.own), self._strip, *known]
        return {
            "files": [[p.size, p.checksum, p.body] for p in self._parts],
            "separator": self._separator.decode(),
            "dropped": dropping,
            **self._unusual(),
        }

    def _unusual(self) -> dict[str, Any]:
        """Return what tells this table from one with the usual missing words."""
        return {} if self._missing.usual else {"keep_default_na": False}

    def _load_index(self) -> list[Array] | None:
        if self._index_path is None or not Path(self._index_path).exists():
            return None
        description, arrays = npz.read(self._index_path)
        own = self._index_key()
        if {key: description.get(key) for key in own} != own:
            raise CheckpointError(
                f"{os.fspath(self._index_path)!r} is the index of other data than "
                f"{self._parts[0].name}: delete it, and it is made anew"
            )
        return [arrays[f"starts{i}"] for i in range(len(self._parts))]

    def fingerprint(self) -> dict[str, Any]:
        """Return the sizes and checksums of the files, and what their columns become."""
        return {
            "files": [[p.size, p.checksum, p.body] for p in self._parts],
            "separator": self._separator.decode(),
            "na": sorted(self._missing.own),
            **self._unusual(),
            "strip": self._strip,
            "schema": self.schema.state_dict(),
        }

    def __repr__(self) -> str:
        files = ", ".join(part.name for part in self._parts)
        return f"CsvSource({files}: {self.rows} rows, {len(self.names)} columns)"


def _open(given: Any, raw: bool = False) -> contextlib.AbstractContextManager[BinaryIO]:
    """Open a path, or rewind a file object, and unpack gzip unless `raw`."""
    if isinstance(given, str | os.PathLike):
        file = open(given, "rb")  # noqa: SIM115  (the caller closes it)
        if not raw and file.read(2) == GZIP:
            file.close()
            return gzip.open(given, "rb")  # type: ignore[return-value]
        file.seek(0)
        return file
    given.seek(0)
    start = given.read(2)
    if isinstance(start, str):
        raise TypeError("a file object of text was given: open the file in binary mode, 'rb'")
    own: Any = _OwnPlace(given)
    if not raw and start == GZIP:
        return gzip.GzipFile(fileobj=own)  # type: ignore[return-value]
    return contextlib.nullcontext(own)


def _named(selection: Selection) -> set[str]:
    """Return all columns that the caller named."""
    target = selection.target
    targets = [target] if isinstance(target, str) else target or ()
    named = {*targets, *(selection.features or ())}
    return named | {*selection.exclude, *selection.categories}


@contextlib.contextmanager
def _recoded(given: Any, name: str) -> Iterator[None]:
    """Add to the news of bytes that are not UTF-8 how to read them."""
    try:
        yield
    except NotUtf8 as error:
        error.args += (recode(given, name, error.data),)
        raise


def _length_of_lines(file: BinaryIO, lines: int) -> int:
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


def _stamp(path: str | os.PathLike[str]) -> tuple[int, ...]:
    # The time of the last change of the entry shows an edit after which the other was put back.
    now = os.stat(path)
    return now.st_size, now.st_mtime_ns, now.st_ctime_ns, now.st_ino


def _import_pandas() -> Any:
    try:
        import pandas
    except ImportError as error:
        raise ImportError(
            f"tables are read by pandas, which is not there ({error}): pip install 'minigd[data]'"
        ) from error
    return pandas


def _exact(pandas: Any) -> dict[str, str]:
    # From 3.1 on pandas reads numbers exactly by default, and warns of the option.
    version = tuple(int(part) for part in pandas.__version__.split(".")[:2])
    return {} if version >= (3, 1) else {"float_precision": "round_trip"}
