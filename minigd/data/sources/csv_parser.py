"""Rows of a CSV parsed by pandas, which converts only numbers of the grammar."""

import io
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from minigd.backends.on_demand import optional
from minigd.data.sources.csv_blocks import Block, has_padding, squeeze
from minigd.data.sources.csv_text import Dialect
from minigd.data.sources.plain_numbers import is_worth, parse_plain
from minigd.data.tables.grammar import MissingTexts, read_number
from minigd.data.tables.schema import ColumnKinds
from minigd.types import Array

BOM = b"\xef\xbb\xbf"
"""The byte order mark at the beginning of a UTF-8 file, which is not part of a cell."""

_MANY = 200  # columns


class NotNumbers(ValueError):
    """Texts in columns of numbers; `row` is the place of the first one in a frame."""

    def __init__(self, row: int, column: str, texts: list[str], columns: list[str]) -> None:
        super().__init__(f"column {column!r}: {texts[0]!r} is not a number")
        self.row, self.column, self.texts, self.columns = row, column, texts, columns


class Parser:
    """Makes frames of whole rows.

    `strip` is removed from the end of texts, and `size` is the number of bytes to parse.
    """

    def __init__(
        self,
        columns: Sequence[str],
        used: Sequence[str],
        dialect: Dialect,
        missing: MissingTexts,
        strip: str,
        size: int = 0,
    ) -> None:
        self._pandas = import_pandas()
        self._columns, self.used = columns, used
        self._places = {column: i for i, column in enumerate(columns)}
        self._dialect = dialect
        self._separator, self._spaces = dialect.separator, dialect.spaces
        self._missing, self._strip = missing, strip
        # A number may also mean that a value is missing.
        gaps = any(read_number(word) is not None for word in missing.words)
        plain = not missing.notation.has_marks and not gaps
        self._plain: Array | None = None
        if plain and is_worth(size):
            self._plain = np.full(len(columns), -1)
            self._plain[[self._places[column] for column in used]] = np.arange(len(used))

    def read_plain(self, data: bytes, rows: int, kinds: ColumnKinds) -> Any:
        """Return rows of plain numbers as a frame; None if any cell is not a plain number."""
        if self._plain is None or kinds.texts or kinds.whole:
            return None
        table = parse_plain(data, self._separator, self._plain, rows)
        return None if table is None else self._frame(table, self.used)

    def read(self, data: bytes, kinds: ColumnKinds) -> tuple[Any, dict[str, Array]]:
        """Return rows as a frame, and its columns of text as written.

        A missing number is NaN and a missing text is None.
        """
        as_text = {*kinds.texts, *kinds.whole}
        numbers = [c for c in self.used if c not in as_text]
        try:
            if self._missing.notation.has_marks:
                raise ValueError("numbers are in a notation that pandas does not check")
            frame = texts = self._read_numbers(data, numbers)
            if len(frame.columns) < len(self.used):
                texts = self.read_texts(data, as_text)
            odd = self._maybe_others(data, frame, numbers)
            read = self.read_texts(data, odd) if odd else {}
        except ValueError:
            frame = texts = read = self.read_texts(data, self.used)
            odd = numbers
        changed = self._to_numbers({c: read[c] for c in odd}, self._missing.to_numbers)
        whole = {c: texts[c] for c in kinds.whole}
        changed |= self._to_numbers(whole, self._missing.to_whole)
        written = {c: self._unquoted(texts[c].to_numpy(object)) for c in kinds.texts}
        for column, values in written.items():
            changed[column] = self._missing.to_texts(values, kinds.named.get(column, ()))
            # Letters and digits are units of numbers only: at the end of a text they may belong to
            # it.
            ends = "".join(mark for mark in self._strip if not mark.isalnum() and mark != "'")
            if ends:
                stripped = self._pandas.Series(changed[column], dtype=object)
                changed[column] = stripped.str.rstrip(ends).to_numpy(object)
        # Columns of the same type share an array: a frame of thousands of series would take
        # seconds.
        rest = [column for column in self.used if column not in changed]
        of_dtype: dict[Any, list[str]] = {}
        for column, values in changed.items():
            of_dtype.setdefault(values.dtype, []).append(column)
        all_numbers = frame if len(rest) == len(frame.columns) else frame[rest]
        parts = [self._frame(all_numbers.to_numpy(np.float64), rest)] if rest else []
        for dtype, columns in of_dtype.items():
            table = np.array([changed[column] for column in columns], dtype=dtype).T
            parts.append(self._frame(table, columns))
        frame = self._pandas.concat(parts, axis=1) if len(parts) > 1 else parts[0]
        return frame, written

    def _unquoted(self, texts: Array) -> Array:
        notation = self._missing.notation
        if not notation.has_quotes:
            return texts
        bare = {text: notation.unquoted(text) for text in set(texts)}
        return np.array([bare[text] for text in texts], dtype=object)

    def _frame(self, table: Array, columns: Sequence[str]) -> Any:
        index = self._pandas.Index(columns, dtype=object)
        return self._pandas.DataFrame(table, columns=index, copy=False, dtype=table.dtype)

    def _to_numbers(self, columns: Mapping[str, Any], convert: Any) -> dict[str, Array]:
        """Return columns of text as numbers according to the grammar."""
        converted = {column: convert(texts) for column, texts in columns.items()}
        wrong = {column: odd for column, (_, odd) in converted.items() if odd.any()}
        if wrong:
            column = min(wrong, key=lambda c: int(np.argmax(wrong[c])))
            row = int(np.argmax(wrong[column]))
            texts = [columns[column].iloc[row]]
            for other, odd in wrong.items():
                texts += columns[other][odd].tolist()
            raise NotNumbers(row, column, list(dict.fromkeys(texts)), list(wrong))
        return {column: values for column, (values, _) in converted.items()}

    def _maybe_others(self, data: bytes, frame: Any, numbers: Collection[str]) -> list[str]:
        """Return columns whose cells pandas and the grammar may read differently."""
        if b'"' in data and (data.count(b"\n") != len(frame) or b"\r" in data):
            if has_padding(data, self._separator, self._spaces):
                return list(numbers)
        maybe = self._maybe_true(data, frame, numbers)
        beyond = self._missing.beyond_float
        if beyond:
            maybe += [c for c in numbers if c not in maybe and frame[c].isin(beyond).any()]
        return maybe

    def _maybe_true(self, data: bytes, frame: Any, numbers: Collection[str]) -> list[str]:
        """Return columns that pandas may have read as booleans and converted to 0 and 1."""
        if not any(mark in data for mark in (b"u", b"U", b"l", b"L")):
            return []
        lower = data.lower()
        if b"true" not in lower and b"false" not in lower:
            return []
        first = dict(zip(frame.columns, frame.iloc[0], strict=True)) if len(frame) else {}
        maybe = [c for c in numbers if c in first and (first[c] in (0, 1) or first[c] != first[c])]
        return [c for c in maybe if ((frame[c] == 0) | (frame[c] == 1) | frame[c].isna()).all()]

    def _read_numbers(self, data: bytes, numbers: Collection[str]) -> Any:
        """Return the columns in use: `numbers` as float64, the others as written.

        Many columns are read as numbers alone: an option for each takes longer than reading twice.
        A `ValueError` means that pandas can't read a cell of these columns as a number.
        """
        # With one dtype, and columns by number, pandas needs a fifth less time than with a dtype
        # and a name for each. A block is small, and need not be read in pieces.
        kinds: Any = np.float64
        missing: Any = self._missing.parsed_as_nan
        if len(self.used) > _MANY and numbers:
            return self._read_csv(data, numbers, dtype=kinds, na_values=missing)
        if len(numbers) < len(self.used):
            kinds = dict.fromkeys((self._places[c] for c in self.used), object)
            kinds |= dict.fromkeys((self._places[c] for c in numbers), np.float64)
            missing = {self._places[c]: missing for c in numbers}
        return self._read_csv(data, self.used, dtype=kinds, na_values=missing)

    def read_texts(self, data: bytes, columns: Collection[str]) -> Any:
        """Return some columns as written."""
        return self._read_csv(data, columns, dtype=object, na_filter=False)

    def _read_csv(self, data: bytes, columns: Collection[str], **options: Any) -> Any:
        places = sorted(self._places[column] for column in columns)
        data = squeeze(data, self._separator)
        if data.startswith(BOM):
            # Pandas drops these bytes at the start, but they belong to a cell; a blank line helps.
            data = b"\n" + data
        frame = self._pandas.read_csv(
            io.BytesIO(data),
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
        if self._dialect.has_stand_in and b'"' in data:
            for place in frame.columns[[d.kind == "O" for d in frame.dtypes]]:
                frame[place] = frame[place].map(self._dialect.restored)
        names = [self._columns[place] for place in places]
        frame.columns = self._pandas.Index(names, dtype=object)
        return frame


def misread(block: Block, parser: Parser) -> int:
    """Return a row of the block that pandas reads as no row or as several."""
    good, bad = 0, block.rows
    while bad - good > 1:
        middle = (good + bad) // 2
        frame = parser.read_texts(block.data[: int(block.ends[middle - 1]) + 1], parser.used)
        good, bad = (middle, bad) if len(frame) == middle else (good, middle)
    return good


def import_pandas() -> Any:
    """Return pandas; the error says how to install it."""
    return optional("pandas", "a table")


def _exact(pandas: Any) -> dict[str, str]:
    # From 3.1 on pandas reads numbers exactly by default, and warns about the option.
    version = tuple(int(part) for part in pandas.__version__.split(".")[:2])
    return {} if version >= (3, 1) else {"float_precision": "round_trip"}
