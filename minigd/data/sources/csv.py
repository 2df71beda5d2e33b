"""Rows of CSV files, larger than memory, in the order of the file or in any other.

The file is read in blocks and parsed by pandas. With an index of row offsets, which is built for
the first shuffled epoch, every epoch is a true permutation of the rows.
"""

import copy
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from minigd.backends.workspace import Workspace
from minigd.data.pipeline import prefetched
from minigd.data.sources.base import Pair, RandomAccess, Rows
from minigd.data.sources.csv_blocks import Block, WrongFields, check_fields
from minigd.data.sources.csv_files import check_compression, check_unchanged, is_packed
from minigd.data.sources.csv_header import Header
from minigd.data.sources.csv_index import RowIndex, row_numbers
from minigd.data.sources.csv_layout import (
    unnamed_among,
    warn_of_unnamed,
)
from minigd.data.sources.csv_parser import NotNumbers, Parser, import_pandas, misread
from minigd.data.sources.csv_pieces import blocks_of, first_pass, read_into, with_progress_over
from minigd.data.sources.csv_text import Dialect
from minigd.data.sources.file_reads import GAP
from minigd.data.sources.given_files import TEXTS, find_files
from minigd.data.sources.kept_rows import KeptRows
from minigd.data.sources.tabular import Tabular
from minigd.data.sources.together import together
from minigd.data.tables.applied import apply_schema
from minigd.data.tables.column_problems import Problem, codes_of_digits, no_number
from minigd.data.tables.first_pass import FirstPass
from minigd.data.tables.grammar import BLANKS as CELL_BLANKS
from minigd.data.tables.grammar import MissingTexts, Notation
from minigd.data.tables.inference import infer_schema
from minigd.data.tables.missing import Missing
from minigd.data.tables.places import describe
from minigd.data.tables.schema import (
    BadValue,
    ColumnKinds,
    Encoded,
    MissingColumn,
    Schema,
    TextInNumbers,
)
from minigd.data.tables.selection import Selection, with_column
from minigd.errors import DataError, check_dtype, check_integer, validated
from minigd.progress import with_progress
from minigd.types import Array

_PARSED = 4 << 20  # bytes of text parsed at once where rows are fetched, at most
_GATHERED = 32 << 20  # bytes of rows fetched at once, at most, with their places
_MOST_AT_ONCE = 1 << 30  # bytes of a block, at most
_WIDE, _OF_A_COLUMN, _WIDE_BLOCK = 1_000, 2_000, 16 << 20
"""With more columns than this, a block has this many bytes per column, up to a limit: each column
costs as much as hundreds of its cells."""
_FIRST_ROWS, _FIRST_CELLS = 200, 200_000
"""Rows used to tell texts from numbers; a text further on restarts the pass."""


class _Place:
    """The place of the frame of a block, and its columns of text as written."""

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
        words = {text: text.strip(CELL_BLANKS) for text in usual}
        return np.array([words.get(text, "") for text in texts], dtype=object)


class CsvSource(Tabular, RandomAccess):
    r"""Rows of one or more CSV files.

    A first pass finds the type of each column, counts the rows and refuses malformed ones. Types
    thus never change from block to block: a label first seen at the end has its class from the
    start, and a column of integers with one fraction is a column of floats.

    Parameters
    ----------
    path : path, file object, or a list of them
        Plain or packed: gzip, bzip2, xz, zstd, or the only file in a zip archive. Several files
        must have the same header and are read one after another. A pattern, ``data/*.csv``, means
        several files. A folder means its files that end in .csv, .tsv, .tab, .data or .dat, in
        order of their names.
    target : str or list of str, optional
        Column of y. Text becomes classes 0, 1, … in sorted order; whole numbers become int64, other
        numbers `dtype`. Several columns of numbers make y a table.
    features : list of str, optional
        Columns of x, in this order; all others by default.
    exclude : list of str, optional
        Columns to leave out. A column without a name in the header is named by its position,
        ``Unnamed: 0``. It causes a warning unless it is left out or named in `features`.
    columns : list of str, optional
        Names of the columns of a file that has no header.
    header : bool, default True
        Without a header and without `columns`, the columns are named by position: 1, 2, and so on.
    skip_lines : int, default 0
        Lines at the top of each file that are neither header nor rows.
    separator : str, default ","
        One character. Spaces after it are skipped, unless it is a space itself. ``"blanks"`` is a
        run of blanks and tabs; those at the start and the end of a line are ignored. A file whose
        first line is ``sep=;``, as in Excel, names its own separator, which replaces the comma.
    encoding : str, default "utf-8"
        Any that Python knows, such as ``"cp1252"`` or ``"utf-16"``.
    comment : str, default ""
        How comment lines begin, such as ``"#"``. Later in a line it is an ordinary character.
    strip : str, optional
        Characters taken off the end of every text, such as the full stop of ``>50K.``, and units
        after numbers, of one word or several: with ``"% sq ft"``, ``5%`` and ``20 sq ft`` are
        numbers. Letters and digits are taken off only as part of a unit, and stay at the end of a
        text. With ``"'"``, single quotes around names and values are removed.
    missing : str, float or dict, default "error"
        What becomes of a missing value:

        - ``"error"``: an error that names file, line and column;
        - ``"drop"``: its row is dropped, and `dropped` counts it;
        - ``"category"``: a missing category has its own level, ``color=missing``, and the row of a
          missing number is dropped;
        - ``"mean"``, ``"median"``: that of the column in the rows used for training; a missing
          category has its own level;
        - ``"flag"``: the mean, and if any number is missing, another column, ``area=missing``,
          which is 1 there and 0 elsewhere;
        - a number: it replaces a missing number, and a missing category has 0 in all of its
          columns.

        A dict has one of these per column, and with the key ``"*"`` one for all other columns.
        A missing target is an error unless its row is dropped.
    na : list of str, optional
        Texts that mean a missing value, besides the empty text and the defaults of pandas, such as
        NA and null. A text named in `categories` or `classes` is never missing.
    keep_default_na : bool, default True
        Whether the default texts of pandas mean a missing value. With False, for example if NA is a
        country, only the empty cell and `na` do.
    decimal : str, default "."
        The mark before fractions.
    thousands : str, default ""
        The mark between groups of three digits. If this or a decimal comma is given, a currency
        sign next to a number is skipped, U+2212 is a minus sign, and ``(1.50)`` and ``1.50-`` are
        negative.
    categories : dict of str to list or None, optional
        Levels of categorical columns; None for those in the file, even in a column of numbers.
    min_count : int, optional
        Levels with fewer rows than this, and those beyond the 99 most frequent ones, share one
        level, ``city=other``. New texts get that level too. Without it, a column of more than
        100 texts is refused.
    hashed : dict of str to int, optional
        Categories without levels, and their number of columns: a text is 1 in the column given by
        its hash (CRC-32).
    dates : dict of str to str, optional
        How dates are written, if the file is ambiguous: ``"%d/%m/%Y"`` as in ``datetime.strptime``,
        or ``"epoch"`` for seconds since 1970. A column of dates becomes year, month, day of week (0
        is Monday), hour, and days since the first one. Those that are always the same are left out.
    logs : list of str, optional
        Columns with heavy tails; x holds sign(v)·log(1 + abs(v)) for each value v.
    leave_out : bool, default False
        Leave out columns that are useless for learning: columns without any value, ids, and row
        numbers. `left_out` says why. By default, columns without any value are refused.
    classes : list, optional
        Classes of the target, in the order of their numbers.
    schema : Schema, optional
        The `schema` of another table, instead of all other options for columns. This table then
        becomes the same columns, found by name, with the same levels and classes.
    dtype : dtype, default "float32"
        The dtype of x, and of a target unless it holds whole numbers.
    block_size : int, default 2 MiB
        Bytes parsed at a time; more for a table of over 1,000 columns. It only affects speed and
        the maximum length of a row: 16 MiB, or a block if that is longer. Fields may span many
        lines within that limit.
    index_path : path, optional
        Where to store the index of row offsets for other runs. An index of another file is refused.
    compression : {"infer", "gzip", "bz2", "xz", "zstd", "zip"} or None, default "infer"
        How files are packed; ``"infer"`` looks at their content. With any other value, a file
        that is packed differently is refused.

    Attributes
    ----------
    rows : int
    dropped : int
        Rows left out because of a missing value, or a category that is not in `schema`.
    first_dropped : str
        The place of the first of them, and the reason.
    names : list of str
        Names of the columns of x: ``bedrooms``, or ``color=red`` for a category.
    classes : list of str or None
    schema : Schema
        What each column becomes.
    gaps : dict of str to int
        The number of missing values of each feature.
    left_out : dict of str to str

    Raises
    ------
    DataError
        Naming file, line and column: a row with too few or too many fields, a value that is
        missing or is not a number, bytes of another encoding, a missing column, two columns of one
        name, dates or free text, an empty file, a file that has changed. Naming the column: a
        target whose values `dtype` can't distinguish. Such a feature only causes a warning.

    Notes
    -----
    A file on the disk is parsed once or twice. Its rows are then kept as numbers for later passes,
    in the system's temporary folder, if they take at most half of the free space there and twice
    the bytes of the text. These files have no name, and the system removes them when the process
    ends in any way. From 64 MiB on, a line on stderr reports them. TMPDIR chooses another folder.
    With `index_path`, nothing is kept.

    In file order, memory use does not depend on the size of the file. With a shuffle it is 8 bytes
    per row for the permutation, 8 more for an index if the rows are not kept, and up to 64 MiB of
    rows fetched at once. A packed file, or one that is not in UTF-8, can't be shuffled in this way:
    use `cache`.

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
    _used: list[str]

    @validated
    def __init__(
        self,
        path: Any,
        target: str | Sequence[str] | None = None,
        *,
        features: Sequence[str] | None = None,
        exclude: Collection[str] | None = (),
        columns: Sequence[str] | None = None,
        header: bool = True,
        skip_lines: int = 0,
        separator: str | Any = ",",  # checked by `Dialect.make`
        encoding: str | Any = "utf-8",
        comment: str | Any = "",
        strip: str = "",
        missing: Missing = "error",
        na: Sequence[Any] | None = (),
        keep_default_na: bool = True,
        decimal: str = ".",
        thousands: str = "",
        categories: Mapping[str, Sequence[Any] | None] | None = None,
        min_count: int | None = None,
        hashed: Mapping[str, int] | None = None,
        dates: Mapping[str, str] | None = None,
        logs: Collection[str] = (),
        leave_out: bool = False,
        classes: Sequence[Any] | None = None,
        schema: Schema | None = None,
        dtype: Any = "float32",
        block_size: int = 1 << 21,
        index_path: str | os.PathLike[str] | None = None,
        compression: str | None = "infer",
    ) -> None:
        _check_arguments(columns, na)
        dtype = check_dtype(dtype)
        import_pandas()
        selection = Selection.make(
            target, features, exclude, categories, classes, missing, min_count, hashed, dates,
            logs, leave_out, schema,
        )  # fmt: skip
        dialect = Dialect.make(separator, encoding, comment)
        self._strip = strip
        marks = check_notation(decimal, thousands)._replace(strip=strip)
        self._missing = MissingTexts(() if na is None else na, keep_default_na, marks)
        self._block_size = min(check_integer("block_size", block_size), _MOST_AT_ONCE)
        given = check_compression(find_files(path, TEXTS, "a CSV"), compression)
        skipped = check_integer("skip_lines", skip_lines, 0)
        names = None if columns is None else list(columns)
        first = Header(names, header, dialect, skipped, marks)
        self._header, self._parts = together(given, lambda: first.inspect_all(given))
        self._name, self._dialect = self._parts[0].name, self._header.dialect
        self._columns = self._header.columns
        self._block_size = max(self._block_size, _least_block(len(self._columns)))
        self._rows_by_number = RowIndex(self, index_path)
        # The middle of a packed file, or of a file in another encoding, can't be reached without
        # reading everything before it.
        self.random_access = self._dialect.is_plain and not any(map(is_packed, self._parts))
        self._kept = KeptRows.of(self._parts, self.random_access and index_path is None)
        self._open(selection, schema, dtype)

    # The first pass --------------------------------------------------------------------------

    def _open(self, selection: Selection, schema: Schema | None, dtype: Any) -> None:
        """Make the first pass, and choose how to fetch rows."""
        try:
            with first_pass(self) as shared:
                if shared.here:
                    shared.value = self._first_pass(selection, schema, dtype), self._used
        except (MissingColumn, WrongFields) as error:
            error.args += tuple(self._header.advice(error, selection))
            raise
        found, self._used = shared.value
        self._parser = self._make_parser()
        found.give_to(self, self._header.without_rows)
        self._header.warn_of_encoding(stacklevel=4)
        # Rows worth parsing at once: many for one call of the parser, few where they are long.
        size = sum(part.size for part in self._parts)
        self._at_once = max(1, min(16_384, _PARSED * self.rows // max(1, size)))
        # If more short rows are fetched, more of them are close together in the file.
        most = _GATHERED // (found.schema.dtype.itemsize * (len(self.names) + 1) + 8)
        self.gather = max(self._at_once, most if size < GAP * self.rows else 0)
        self._kept.settle(found.schema, self.rows)
        self.gather = self._kept.gather(self.gather)
        # The schema has accepted each of these numbers.
        self.checked = self._kept.rows is not None and not found.schema.fills_gaps

    def _first_pass(self, selection: Selection, schema: Schema | None, dtype: Any) -> FirstPass:
        """Find the type of each column, or use a schema."""
        name, header = self._parts[0].name, self._header
        rename = header.ways_to_rename(self._parts[0])
        features, targets = selection.resolve(self._columns, header.where, rename)
        needed = {*features, *targets}
        self._used = [c for c in self._columns if c in needed]
        self._parser = self._make_parser()
        first = next(self._blocks(0), None)
        if first is not None:
            check_fields(first, name, len(self._columns))
        if not header.given and first is not None:
            header.refuse_header(first, self._parser, self._missing)
        unnamed = unnamed_among(features, selection.features or ())
        if schema is not None:
            return apply_schema(schema, self, name)
        header.refuse_short(unnamed)
        texts, codes = _look_at(first, self._parser, self._missing) if first else ([], [])
        self._kept.expected = features, targets, dtype
        try:
            marks = self._missing.notation
            found = infer_schema(self, selection, self._columns, name, dtype, texts, notation=marks)
        except DataError:
            header.refuse_one_column(selection)
            header.refuse_comments()
            if header.given:
                header.refuse_repeated(self._all_blocks(), self._parts)
            raise
        if found.left_out:
            self._used = [c for c in self._used if c not in found.left_out]
        if header.given and header.may_come_again(found.schema):
            header.refuse_repeated(self._all_blocks(), self._parts)
        if found.schema.levels and not selection.categories:
            header.refuse_one_column(selection)
        warn_of_unnamed(unnamed, header.where, 5, found.left_out)
        return _with_codes(found, codes, name)

    def _make_parser(self) -> Parser:
        """Return a parser of the columns in use."""
        size = sum(part.size for part in self._parts)
        return Parser(self._columns, self._used, self._dialect, self._missing, self._strip, size)

    def read_into(self, seen: Any) -> None:
        """Pass all frames to a first pass; several processes may read them."""
        read_into(self, seen)

    def frames(self, kinds: ColumnKinds) -> Iterator[Any]:
        """Return the frames of all files, one per block."""

        def parsed() -> Iterator[tuple[Any, _Place, int]]:
            for part in range(len(self._parts)):
                for block in with_progress_over(self, part, "the first pass over"):
                    yield *self._parse(block, part, kinds), len(block.data)

        def read() -> Iterator[tuple[Any, int]]:
            # Frames are processed while the next one is parsed, except for a short file.
            blocks = sum(part.size for part in self._parts) // self._block_size
            for frame, self._at, size in prefetched(parsed(), 1) if blocks > 3 else parsed():
                yield frame, size

        return self._kept.first_pass(read(), kinds)

    def read_also(self, name: str) -> None:
        """Add a column to those of the frames."""
        self._used = with_column(self._used, name, self._columns, self._header.where)
        self._parser = self._make_parser()

    def where(self, row: int) -> str:
        """Return the place of a row of the current frame."""
        return self._at.where(row)

    def usual_words(self, column: str) -> Array | None:
        """Return the words in a column of text that are missing values by default, "" elsewhere."""
        return self._at.usual_words(column)

    # Bytes to numbers ------------------------------------------------------------------------

    def _all_blocks(self) -> Iterator[tuple[int, Block]]:
        """Return the blocks of all files, each with the number of its file."""
        return ((part, block) for part in range(len(self._parts)) for block in self._blocks(part))

    def _blocks(self, part: int) -> Iterator[Block]:
        return blocks_of(self._parts[part], self._dialect, self._block_size)

    def _parse(self, block: Block, part: int, kinds: ColumnKinds) -> "tuple[Any, _Place]":
        """Return the frame of a block, and its place; texts among numbers raise `TextInNumbers`."""
        place = _Place(self._parts[part].name, block, self._missing)
        plain = self._parser.read_plain(block.data, block.lines, kinds)
        if plain is not None:
            block.rows = block.lines
            return plain, place
        check_fields(block, place.name, len(self._columns))
        try:
            frame, place.texts = self._parser.read(block.data, kinds)
        except NotNumbers as odd:
            problem, remedies = no_number(odd.texts, self._missing.notation)
            where = f"{place.where(odd.row)}, column {odd.column!r}: {odd.texts[0]!r} {problem}"
            error = TextInNumbers(where, *remedies, column=odd.column, columns=odd.columns)
            raise error from None
        except ValueError as error:
            raise DataError(f"{place.name}, from line {block.line} on: {error}") from error
        if len(frame) != block.rows:
            where = place.where(misread(block, self._parser))
            what = "this line does not parse as one row: remove lines of spaces"
            raise DataError(f"{where}: {what}")
        return frame, place

    def _encode(self, block: Block, part: int) -> Encoded:
        schema: Schema = self.schema
        frame, place = self._parse(block, part, schema.kinds)
        try:
            return schema.encode(frame)
        except BadValue as bad:
            raise describe(place, bad) from None

    def places(self, rows: Array) -> list[str]:
        r"""Return the line of each row, and the file if there are several.

        The files are read once, up to the last of the rows.

        >>> import io, numpy as np
        >>> file = io.BytesIO(b"x,y\n1,2\n\n3,4\n")
        >>> CsvSource(file, target="y").places(np.array([1, 0]))
        ['line 4', 'line 2']
        """
        self._check_unchanged()
        found: dict[int, str] = {}
        wanted = np.unique(np.asarray(rows))
        dropping = self.schema.drops
        first = 0
        for part, block in self._all_blocks():
            name = f"{self._parts[part].name}, " if len(self._parts) > 1 else ""
            kept = self._encode(block, part)[2] if dropping else None
            places = np.arange(block.rows) if kept is None else np.flatnonzero(kept)
            low, high = np.searchsorted(wanted, (first, first + len(places)))
            for row in wanted[low:high].tolist():
                found[row] = f"{name}line {block.line_of(int(places[row - first]))}"
            first += len(places)
            if high == len(wanted):
                return [found[row] for row in np.asarray(rows).tolist()]
        raise IndexError(f"row {int(wanted[-1])} was requested, but there are {self.rows} rows")

    # Rows in order ---------------------------------------------------------------------------

    def chunks(self, start: int = 0) -> Iterator[Pair]:
        """Return the rows from number `start` on, in the order of the file, a block at a time."""
        schema = self.schema
        kept = self._kept.rows_of(schema)
        if schema.fills:
            # Kept rows have gaps, because a split fills them with means of one part only.
            yield from ((schema.fill(x), y) for x, y in self.unfilled().chunks(start))
            return
        self._check_unchanged()
        if kept is not None:
            for pair in kept.chunks(start):
                self._check_unchanged()
                yield pair
            self._check_unchanged()
            return
        dropping, draft = schema.drops, None if start else self._kept.begin()
        row = 0
        for part, block in self._all_blocks():
            self._check_unchanged()
            if not dropping and row + block.rows <= start:
                row += block.rows
                continue
            x, y, _ = self._encode(block, part)
            if draft is not None:
                draft.add(x, y, len(block.data))
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
        if draft is not None:
            self._kept.keep(draft, schema, row)

    def order(self, rows: Array) -> Array:
        """Return row numbers unchanged, after moving the rows where they are fetched fastest."""
        if self._kept.wanted():
            pieces = self.unfilled().chunks()
            for _ in with_progress(pieces, f"keeping the rows of {self!r}", self.rows):
                if not self._kept.wanted():
                    break
        self.gather = self._kept.gather(self.gather)
        return rows

    def for_part(self, in_order: bool) -> "CsvSource":
        """Return the same rows for a process that needs a part; only kept rows are all parsed."""
        other = copy.copy(self)
        other._kept = self._kept.for_part(in_order, self.rows)
        return other

    def settle(self, comm: Any) -> None:
        """Take the means of the first process, and build an index of rows with all others."""
        super().settle(comm)
        self._rows_by_number.settle(comm)

    @property
    def to_read_parts(self) -> str:
        """The remedy for a file of which a part can't be read without the rest, "" if it can."""
        otherwise = "unpack it" if self._dialect.is_plain else "write it as UTF-8"
        return "" if self.random_access else f"{otherwise}, or {super().to_read_parts}"

    def encoded(self) -> Iterator[Encoded]:
        """Return x, y, and which rows were not dropped (None for all), a block at a time."""
        self._check_unchanged()
        for part, block in self._all_blocks():
            yield self._encode(block, part)

    def _check_unchanged(self) -> None:
        for i, part in enumerate(self._parts):
            self._parts[i] = check_unchanged(part)

    # Rows in any order -----------------------------------------------------------------------

    def take(self, rows: Rows, workspace: Workspace | None = None) -> Pair:
        """Return x and y of some rows, read from their places in the file.

        The rows are fetched in the order of the file, parsed together, and returned in the
        requested order.
        """
        index = row_numbers(rows, self.rows)
        if len(index) == 0:
            x, y = self.take(slice(0, 1))
            return x[:0], None if y is None else y[:0]
        self._check_unchanged()
        kept = self._kept.rows_of(self.schema)
        if kept is not None:
            x, y = kept.take(rows if isinstance(rows, slice) else index, workspace)
            return self.schema.fill(x) if self.schema.fills else x, y
        seen = self._kept.seen
        parse = partial(self._rows_by_number.take, at_once=self._at_once, fetch=self._fetch)
        return parse(index) if seen is None else seen.take(index, parse, self)

    def _fetch(self, part: int, starts: Array, wanted: Array) -> Pair:
        """Return the rows of one file with these numbers, which are in order."""
        data, kinds = self._rows_by_number.read(part, starts, wanted), self.schema.kinds
        try:
            frame = self._parser.read_plain(data, len(wanted), kinds)
            if frame is None:
                frame, _ = self._parser.read(data, kinds)
            x, y, _ = self.schema.encode(frame)
            if len(x) != len(wanted):
                raise ValueError(f"{len(wanted)} rows are read as {len(x)}")
        except ValueError as error:
            # Reading in order finds the line, if the value was there from the start.
            for block in self._blocks(part):
                self._encode(block, part)
            name = self._parts[part].name
            raise DataError(f"{name} has changed since it was opened: {error}") from error
        return x, y

    def _as_written(self) -> dict[str, Any]:
        """Return a fingerprint of these files, and of how they are read."""
        return {
            "files": [[p.size, p.checksum, p.body] for p in self._parts],
            "separator": self._dialect.separator.decode(),
            **({"encoding": self._dialect.encoding} if not self._dialect.is_plain else {}),
            **({"comment": self._dialect.comment.decode()} if self._dialect.comment else {}),
            **({} if self._missing.usual else {"keep_default_na": False}),
            **self._missing.notation.state(),
        }

    def fingerprint(self) -> dict[str, Any]:
        """Return the sizes and checksums of the files, and what their columns become."""
        return {
            **self._as_written(),
            "na": sorted(self._missing.own),
            "strip": self._strip,
            "schema": self.schema.state_dict(),
        }

    def __repr__(self) -> str:
        files = ", ".join(part.name for part in self._parts)
        return f"CsvSource({files}: {self.rows} rows, {len(self.names)} columns)"


def check_notation(decimal: Any, thousands: Any) -> Notation:
    """Return how numbers are written, from the caller's marks."""
    marks = {"decimal": decimal, "thousands": thousands}
    for name, mark in marks.items():
        one = isinstance(mark, str) and len(mark) == 1 and not mark.isalnum() and mark not in '+-"'
        if not one and (name, mark) != ("thousands", ""):
            raise ValueError(f"{name} must be one mark such as ',', not {mark!r}")
    if decimal == thousands:
        raise ValueError(f"decimal and thousands are both {decimal!r}: one mark can't be both")
    return Notation(decimal, thousands)


def _least_block(columns: int) -> int:
    """Return how many bytes to parse at once for a table of this many columns."""
    return min(_WIDE_BLOCK, _OF_A_COLUMN * columns) if columns > _WIDE else 0


def _look_at(
    block: Block, parser: Parser, missing: MissingTexts
) -> tuple[list[str], list[Problem]]:
    """Return the columns that hold text in the first rows, and possible problems of the others."""
    frame = parser.read_texts(_first_rows(block, len(parser.used)), parser.used)
    texts, codes = [], []
    for column in parser.used:
        cells = frame[column].tolist()
        if missing.to_numbers(cells)[1].any():
            texts.append(column)
        elif (problem := codes_of_digits(column, cells)) is not None:
            codes.append(problem)
    return texts, codes


def _with_codes(found: FirstPass, codes: list[Problem], name: str) -> FirstPass:
    """Return the result of a pass, and the columns of codes that are read as numbers."""
    numbers = {*found.schema.features} - {*found.schema.levels, *found.schema.hashed}
    codes = [code for code in codes if code.column in numbers - {*found.schema.dates}]
    return found._replace(suspicions=[*found.suspicions, *(c.suspicion(name) for c in codes)])


def _first_rows(block: Block, columns: int) -> bytes:
    """Return the first rows of a block, fewer where there are many columns."""
    rows = max(_FIRST_ROWS // 10, min(_FIRST_ROWS, _FIRST_CELLS // columns))
    return block.data[: int(block.ends[:rows][-1]) + 1]


def _check_arguments(columns: Any, na: Any) -> None:
    for what, names in (("columns", columns), ("na", na)):
        if isinstance(names, str):
            raise TypeError(f"{what} must be a list, [{names!r}], not one text")
