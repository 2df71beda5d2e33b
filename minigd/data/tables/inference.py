"""The first pass over a table: what each column is, how many rows count, and what is wrong.

Only rows that are kept decide what a column is. Columns that can't be used are all named at once.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from minigd.data.tables.grammar import read_number
from minigd.data.tables.precision import Rounding
from minigd.data.tables.remedy import Remedy, TableError, TableWarning
from minigd.data.tables.schema import (
    DROP,
    MISSING,
    MISSING_LEVEL,
    MOST_EXACT,
    BadValue,
    ColumnKinds,
    Schema,
    Selection,
    TextInNumbers,
)
from minigd.errors import DataError
from minigd.progress import warn
from minigd.types import Array

MOST_LEVELS = 100
"""A column with more different texts than this is free text, unless its levels are given."""

FEW_TEXTS = 3
"""As many different texts among numbers may mean a missing value; more are codes."""

_BLANK = "has no value in any row"
_MOST_NAMED = 8  # columns in one message; the remedy has all of them

_DATE = re.compile(
    r"\d{4}[-/.]\d\d?([-/.]\d\d?)?([T ].*)?|(1[5-9]|2[01])\d\d(0[1-9]|1[0-2])[0-3]\d([T ].*)?"
    r"|\d{1,2}[-./]\d{1,2}[-./]\d{2,4}.*"
    r"|\d{1,2}:\d\d(:\d\d)?|[A-Z][a-z]{2,8}\.? \d{1,2},? \d{4}|\d{1,2} [A-Z][a-z]{2,8}\.? \d{4}"
)
# What numbers wear in other notations: 1,234  $5  12%  1 000  −1
_DRESS = str.maketrans("−", "-", ",.$€£%_'’ \u00a0\u2009\u202f\u066b\u066c\uff0c\uff0e")


class Place(Protocol):
    """Where a frame is."""

    def where(self, row: int) -> str:
        """Say where a row of the frame at hand is."""

    def usual_words(self, column: str) -> Array | None:
        """Return, for each row of the frame at hand, the word that made a text missing.

        It is None where there is no such word, "" in other rows.
        """


class Table(Place, Protocol):
    """What the first pass needs of a source; the place is that of the frame at hand."""

    is_text: bool
    """Whether cells are text that the grammar reads; the source then has the option `na`."""

    def frames(self, kinds: ColumnKinds) -> Iterator[Any]:
        """Return the table's frames; texts among numbers are `TextInNumbers`."""


class FirstPass(NamedTuple):
    """A schema, and what the first pass counted on the way."""

    schema: Schema
    rows: int
    dropped: int
    first_dropped: str = ""
    """Where the first row that was dropped is, and why it was."""
    target_problems: Mapping[str, str] = {}
    """What dtypes lose of a target of whole numbers that is trained on as a quantity."""
    missing_words: Mapping[str, Mapping[str, int]] = {}
    """For columns of text, the usual words that were taken for missing values, and how often."""

    def none_left(self) -> str:
        """Say what became of the rows where none is left."""
        if not self.dropped:
            return ""
        what = "missing" if self.schema.unknown == "error" else "missing or unknown"
        if self.dropped == 1:
            return f" once 1 with a {what} value is dropped; {self.first_dropped}"
        return f" once {self.dropped} with {what} values are dropped; {self.first_dropped}"


AS_VALUES = Remedy("if it is a value, keep it with {}", {"keep_default_na": False})


def describe(place: Place, bad: BadValue) -> DataError:
    """Return the error for a bad value of a frame, with its place."""
    problem, remedies = bad.problem, bad.remedies
    words = place.usual_words(bad.column) if DROP in remedies else None
    if words is not None and words[bad.row]:
        problem = f"{words[bad.row]!r} means a missing value"
        remedies = (AS_VALUES, DROP)
    return TableError(f"{place.where(bad.row)}, column {bad.column!r}: {problem}", *remedies)


def apply_schema(schema: Schema, table: Table) -> FirstPass:
    """Go through a table once that is read with the schema of another one.

    Raises
    ------
    DataError
        If the schema does not take a value.
    """
    rows = dropped = 0
    first = ""
    for frame in table.frames(schema.kinds):
        try:
            x, _, kept = schema.encode(frame)
        except BadValue as bad:
            raise describe(table, bad) from None
        rows += len(x)
        dropped += len(frame) - len(x)
        if kept is not None and not first:
            row = int(np.argmin(kept))
            first = f"{table.where(row)}, {schema.why_not(frame.iloc[[row]])}"
    return FirstPass(schema, rows, dropped, first)


def infer_schema(
    table: Table,
    selection: Selection,
    columns: Sequence[str],
    name: str,
    dtype: Any,
    texts: Iterable[str],
    unusable: Mapping[str, str] | None = None,
) -> FirstPass:
    """Go through a table once and find what each column becomes.

    Parameters
    ----------
    table : Table
    selection : Selection
    columns : sequence of str
        Of the whole table.
    name : str
        Of the table, for errors.
    dtype : dtype
        Of x.
    texts : iterable of str
        Columns that hold text in the first frame.
    unusable : mapping of str to str, optional
        What columns hold that no schema takes, such as lists.

    Raises
    ------
    DataError
        If a column holds dates or free text, nothing at all, or numbers with a few texts among
        them; if a value is missing and must not be, or is infinite; if a column that was named is
        not there; if the dtype can't tell the values of a target from each other.
    """
    features, targets = selection.resolve(columns, name)
    refused = {c: what for c, what in (unusable or {}).items() if c in (*features, *targets)}
    text = {c for c in {*texts, *selection.categories} if c in (*features, *targets)}
    if selection.classes is not None:
        text |= set(targets)
    text -= refused.keys()
    whole: set[str] = set()
    while True:
        seen = _Seen(table, selection, features, targets, text, whole, refused, name, dtype)
        try:
            for frame in table.frames(seen.kinds):
                seen.add(frame)
            if not seen.blank <= refused.keys():
                # Without it other rows count, and others of its columns may be found at fault.
                refused.update(dict.fromkeys(seen.blank, _BLANK))
                continue
            return seen.result()
        except TextInNumbers as error:
            new = error.columns - text
            if not new:
                raise
            text |= new
        except _BeyondFloat:
            whole |= set(targets)


class _BeyondFloat(Exception):
    """A target of whole numbers holds one that float64 can't."""


class _Problem(NamedTuple):
    """What is wrong with a column as a whole."""

    column: str
    what: str
    other: Remedy | None = None
    """What can be done besides leaving the column out."""
    odd: Sequence[str] = ()
    """The few texts among numbers that may mean a missing value, which would mend it."""
    where: str = ""
    """Where the first of them is."""


class _Seen:
    """What a pass over a table has seen of it so far."""

    def __init__(
        self,
        table: Table,
        selection: Selection,
        features: list[str],
        targets: list[str],
        text: Collection[str],
        whole: Collection[str],
        refused: Mapping[str, str],
        name: str,
        dtype: Any,
    ) -> None:
        text = set(text) - refused.keys()
        self.table, self.selection = table, selection
        self.features, self.targets = features, targets
        self.text, self.refused, self.name = text, refused, name
        self.used = [c for c in (*features, *targets) if c not in refused]
        self.numbers = [c for c in self.used if c not in text]
        self.rounding = Rounding(dtype)
        self.given = {c: [str(v) for v in levels] for c, levels in selection.categories.items()}
        if selection.classes is not None and targets:
            self.given[targets[0]] = [str(v) for v in selection.classes]
        self.kinds = ColumnKinds(text, whole, self.given)
        self.levels: dict[str, set[str]] = {c: set() for c in sorted(text - set(self.given))}
        self.texts = {column: _Texts() for column in self.levels}
        self.empty = set(self.used)
        # Numbers that may be days; a column that was asked for by name is taken as it is.
        self.days: dict[str, int | None] = {}
        if selection.features is None:
            self.days = {c: None for c in features if c in self.numbers}
        self.integer = len(targets) == 1 and targets[0] in self.numbers
        self.low, self.high = 0, 0
        self.whole = [Rounding("float32"), Rounding("float64")]
        self.rows = self.dropped = 0
        self.first_dropped = ""
        self.missing: tuple[str, DataError] | None = None
        """A column whose first value is missing, and the error, if it has a value further on."""
        self.words: dict[str, Counter[str]] = {}

    # One frame -------------------------------------------------------------------------------

    def add(self, frame: Any) -> None:
        """Take note of a frame."""
        missing = self.selection.missing
        there = frame[self.used].notna().to_numpy()
        self.empty -= {c for c, any_ in zip(self.used, there.any(axis=0), strict=True) if any_}
        if self.missing is not None:
            column, error = self.missing
            if column not in self.empty:
                raise error
            return
        counts = {c: frame[c].value_counts(sort=False) for c in self.levels}
        for column, count in counts.items():
            self.texts[column].note(frame[column], count, self.table)
        gaps = np.zeros(len(frame), dtype=bool)
        if missing in ("drop", "category"):
            needed = [self.used.index(c) for c in self._needed(missing)]
            gaps = ~there[:, needed].all(axis=1)
            self._note_dropped(gaps, there, needed)
            self._note_words(frame)
        kept = np.flatnonzero(~gaps)
        if len(kept) < len(frame):
            frame = frame[~gaps]
            counts = {c: frame[c].value_counts(sort=False) for c in self.levels}
        self.rows += len(frame)
        self._rule_out_days(frame)
        whole = self.used if missing == "error" else self.targets
        try:
            _refuse_values(frame, [c for c in whole if c in self.used], self.numbers, self.targets)
        except BadValue as bad:
            bad.row = int(kept[bad.row])
            error = describe(self.table, bad)
            if bad.column not in self.empty:
                raise error from None
            self.missing = bad.column, error
            return
        for column, count in counts.items():
            self._add_levels(column, count, int(count.sum()) < len(frame))
        if self.integer:
            self._add_whole(frame[self.targets[0]])
        if self.numbers:
            self.rounding.add(frame[self.numbers].to_numpy(np.float64))

    def _needed(self, missing: str) -> list[str]:
        """Return the columns without whose values a row is dropped."""
        if missing == "drop":
            return self.used
        own = {c for c, levels in self.given.items() if MISSING_LEVEL in levels}
        return [c for c in self.used if c in self.targets or c not in self.levels.keys() | own]

    def _note_dropped(self, gaps: Array, there: Array, needed: list[int]) -> None:
        self.dropped += int(gaps.sum())
        if gaps.any() and not self.first_dropped:
            row = int(np.argmax(gaps))
            column = self.used[next(i for i in needed if not there[row, i])]
            where = self.table.where(row)
            words = self.table.usual_words(column)
            why = MISSING
            if words is not None and words[row]:
                why = f"{words[row]!r} means a missing value"
            self.first_dropped = f"{where}, column {column!r}: {why}"

    def _note_words(self, frame: Any) -> None:
        """Count the words for which rows of a column of text leave, or get a level of their own."""
        for column in self.text:
            words = self.table.usual_words(column)
            if words is not None:
                counts = Counter(word for word in words[frame[column].isna().to_numpy()] if word)
                self.words.setdefault(column, Counter()).update(counts)

    def _rule_out_days(self, frame: Any) -> None:
        """Rule out columns of numbers that do not all read as days, 20140502."""
        for column in sorted(self.days):
            values = frame[column].to_numpy(np.float64)
            if not ((values > 19000100) & (values < 21001232)).all():
                del self.days[column]
                continue
            month, day = values // 100 % 100, values % 100
            if not ((month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)).all():
                del self.days[column]
            elif len(values) and self.days[column] is None:
                self.days[column] = int(values[0])

    def _add_levels(self, column: str, counts: Any, some_missing: bool) -> None:
        levels = self.levels[column]
        if self.selection.missing == "category" and some_missing:
            levels.add(MISSING_LEVEL)
        self.texts[column].count(counts)
        if len(levels) <= MOST_LEVELS:
            levels |= set(counts.index)

    def _add_whole(self, column: Any) -> None:
        """Take note of a target that has been whole numbers so far."""
        values = column.to_numpy()
        if not len(values):
            return
        if values.dtype.kind == "f":
            if not (values == np.rint(values)).all():
                self.integer = False
            elif (np.abs(values) >= MOST_EXACT).any():
                if self.kinds.whole or not self.table.is_text:
                    self.integer = False  # these are all the digits that there are
                else:
                    raise _BeyondFloat
        elif values.dtype.kind == "O":
            self.integer = all(isinstance(value, int) for value in values)
        if self.integer:
            self.low = min(self.low, int(values.min()))
            self.high = max(self.high, int(values.max()))
            for rounding in self.whole:
                rounding.add(_exactly(values).reshape(-1, 1))

    # The whole table -------------------------------------------------------------------------

    @property
    def blank(self) -> set[str]:
        """The columns in use that have no value in any row."""
        return self.empty if self.rows + self.dropped else set()

    def result(self) -> FirstPass:
        """Return what the pass found, or refuse the columns that can't be used."""
        self._refuse_columns()
        targets = self.targets
        if len(targets) > 1 and set(self.text) & set(targets):
            raise DataError(
                f"{self.name}: several targets must be numbers, and one of them is text"
            )
        found = {c: self.given.get(c) or sorted(self.levels[c]) for c in sorted(self.text)}
        classes = found.pop(targets[0]) if targets and targets[0] in self.text else None
        exact, whole = None, self.integer
        if self.integer and max(-self.low, self.high) >= MOST_EXACT:
            exact = _smallest(self.low, self.high)
            self.integer = exact is not None
        schema = Schema(
            self.features,
            targets,
            found,
            classes,
            self.integer,
            self.selection.missing,
            self.rounding.dtype,
            exact=exact,
        )
        problems = self._check_rounding(whole)
        self._warn_of_words()
        return FirstPass(
            schema, self.rows, self.dropped, self.first_dropped, problems, dict(self.words)
        )

    def _check_rounding(self, whole: bool) -> dict[str, str]:
        """Refuse a target, and warn of columns, whose differences the dtype would lose.

        A target of whole numbers stays as it is, if 64 bits hold it, and is lost only where it is
        trained on as a quantity; what each dtype loses of it is returned.
        """
        for j in np.flatnonzero(self.rounding.lost).tolist():
            column = self.numbers[j]
            problem = self.rounding.sentence(f"{self.name}: column {column!r}", j)
            if column not in self.targets:
                warn(problem, stacklevel=5)
            elif not self.integer:
                raise DataError(problem)
        if not whole or not self.rows:
            return {}
        what = f"{self.name}: column {self.targets[0]!r}"
        lost = {str(r.dtype): r.sentence(what, 0) for r in self.whole if r.lost[0]}
        dtype = str(self.rounding.dtype)
        if not self.integer and dtype in lost:
            raise DataError(lost[dtype])
        return lost

    def _warn_of_words(self) -> None:
        """Warn where rows leave because a text of a column is a usual word for a missing value."""
        needed = self._needed(str(self.selection.missing))
        for column, words in sorted(self.words.items()):
            if words and column in needed:
                word, count = words.most_common(1)[0]
                rows = f"{count:,} row{'s' * (count != 1)}"
                warning = TableWarning(
                    f"{self.name}: {rows} left out, because {word!r} in column {column!r} means a "
                    "missing value",
                    AS_VALUES,
                    Remedy("if it is missing, say so with {}", {"na": sorted(words)}),
                )
                warn(warning, stacklevel=5)

    def _refuse_columns(self) -> None:
        """Refuse all columns that can't be used, in one message."""
        problems = [self._problem(column) for column in [*self.features, *self.targets]]
        wrong = [problem for problem in problems if problem is not None]
        if len(wrong) == 1:
            raise self._error(wrong[0])
        if not wrong:
            return
        what = [f"{p.column!r} {p.what}" for p in wrong[:_MOST_NAMED]]
        more = f"; and {len(wrong) - len(what)} more" if len(wrong) > len(what) else ""
        out = [p.column for p in wrong if not p.odd and p.column not in self.targets]
        odd = list(dict.fromkeys(text for p in wrong for text in p.odd))
        remedies = []
        if out and odd:
            words = "leave columns out, and take odd texts for missing values, with {}"
            remedies.append(Remedy(words, {"exclude": out, "na": odd}))
        elif out:
            remedies.append(Remedy("leave columns out with {}", {"exclude": out}))
        elif odd:
            remedies.append(Remedy("take odd texts for missing values with {}", {"na": odd}))
        if any(p.column in self.targets and not p.odd for p in wrong):
            remedies.append(Remedy("choose another target"))
        others = {p.other.words: p.other for p in wrong if p.other is not None}
        remedies += [other for other in others.values() if other.shell is None]
        message = f"{self.name}: {len(wrong)} columns can't be used: {'; '.join(what)}{more}"
        raise TableError(message, *remedies)

    def _error(self, problem: _Problem) -> TableError:
        """Return the error for one column."""
        column = problem.column
        target = column in self.targets
        out = Remedy("leave the column out with {}", {"exclude": [column]})
        remedies = [Remedy("choose another target") if target else out]
        message = f"{self.name}: column {column!r} {problem.what}"
        if problem.odd:
            first = problem.odd[0]
            missing = Remedy("if it means a missing value, pass {}", {"na": list(problem.odd)})
            if len(problem.odd) > 1:
                missing = missing._replace(words="if such texts mean missing values, pass {}")
            codes = len(problem.odd) > 1 and all(map(_has_digit, problem.odd))
            remedies = [missing] if target else [out, missing] if codes else [missing, out]
            message = (
                f"{problem.where}, column {column!r}: {first!r} is not a number, and most of the "
                "column is"
            )
        if problem.other is not None:
            remedies.append(problem.other)
        return TableError(message, *remedies)

    def _problem(self, column: str) -> _Problem | None:
        """Return what is wrong with a column as a whole."""
        if column in self.refused:
            what = self.refused[column]
            expand = Remedy("turn it into columns of numbers first")
            return _Problem(column, what, None if what == _BLANK else expand)
        day = self.days.get(column)
        if day is not None:
            named = Remedy("name it among features=[...]", shell="")
            return _Problem(column, f"holds dates as numbers, such as {day}", named)
        return self._problem_of_text(column) if column in self.levels else None

    def _problem_of_text(self, column: str) -> _Problem | None:
        """Return what is wrong with a column of text: texts among numbers, free text, dates."""
        texts, levels = self.texts[column], self.levels[column] - {MISSING_LEVEL}
        argument = "classes" if column in self.targets else "categories"
        give_levels = Remedy(f"name its levels with {argument}=...", shell="")
        sample = min(levels, default="")
        odd = {text for text in levels if read_number(text) is None}
        numbers = len(levels) - len(odd)
        odd.update(texts.first)
        dressed = [text for text in odd if is_dressed(text)]
        if 2 * len(dressed) > len(odd):
            place = f"{min(dressed)!r}"
            if texts.first[0] in dressed:
                place = f"{texts.first[0]!r} ({texts.where.removeprefix(f'{self.name}, ')})"
            what = f"holds numbers in a notation that is not read, such as {place}"
            return _Problem(column, what, Remedy("write numbers plainly"))
        few = texts.odd > 0 and 2 * texts.kept_odd < texts.kept
        if few or (texts.odd and 2 * numbers > len(levels)):
            many = f"{texts.odd:,} text{'s' * (texts.odd != 1)}"
            where = texts.where.removeprefix(f"{self.name}, ")
            what = f"holds numbers and {many}, such as {texts.first[0]!r} ({where})"
            codes = len(texts.first) > FEW_TEXTS or not self.table.is_text
            odd_texts = () if codes else tuple(texts.first)
            return _Problem(column, what, give_levels, odd_texts, texts.where)
        dates = sum(_DATE.fullmatch(text) is not None for text in levels)
        if 2 * dates > len(levels):
            turn = Remedy("turn dates into numbers first")
            return _Problem(column, f"holds dates such as {sample!r}", turn)
        fractions = not texts.odd and any("." in text for text in levels)
        if fractions or (not texts.odd and len(levels) > MOST_LEVELS):
            what = f"holds numbers written as text, such as {sample!r}"
            return _Problem(column, what, Remedy("turn texts into numbers first"))
        if len(levels) > MOST_LEVELS:
            what = f"is free text, with more than {MOST_LEVELS} different values such as {sample!r}"
            return _Problem(column, what, give_levels)
        return None


class _Texts:
    """What was seen of the texts in a column that may hold numbers."""

    def __init__(self) -> None:
        self.odd = 0
        """Values in all rows that are not numbers."""
        self.kept = self.kept_odd = 0
        """Values in rows that are kept, and those that are not numbers."""
        self.first: list[str] = []
        """The first few different texts that are not numbers."""
        self.where = ""
        """Where the first of them is."""

    def note(self, values: Any, counts: Any, table: Table) -> None:
        """Take note of all rows of a frame."""
        odd = [text for text in counts.index if read_number(text) is None]
        self.odd += int(counts[odd].sum()) if odd else 0
        if odd and not self.where:
            row = int(np.argmax(values.isin(odd).to_numpy()))
            self.where = table.where(row)
            self.first = [values.iloc[row]]
        self.first += [t for t in odd if t not in self.first][: FEW_TEXTS + 1 - len(self.first)]

    def count(self, counts: Any) -> None:
        """Count the values of the rows that are kept."""
        odd = [text for text in counts.index if read_number(text) is None]
        self.kept += int(counts.sum())
        self.kept_odd += int(counts[odd].sum()) if odd else 0


def _has_digit(text: str) -> bool:
    """Tell whether a text has a digit, as codes have, and words for a missing value do not."""
    return any(letter.isdigit() for letter in text)


def _smallest(low: int, high: int) -> str | None:
    """Return the dtype of whole numbers that holds two of them, or None."""
    for dtype in ("int64", "uint64"):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return dtype
    return None


def _exactly(values: Array) -> Array:
    """Return whole numbers in a dtype of whole numbers, or Python's own where none holds them."""
    if values.dtype.kind == "O":
        return values.astype(_smallest(values.min(), values.max()) or object)
    return values.astype(np.int64) if values.dtype.kind in "fb" else values


def is_dressed(value: str) -> bool:
    """Tell whether a text is a number in a notation that is not read.

    >>> [is_dressed(value) for value in ("2,25", "$5", "\uff11\uff12", "2.25", "?", "2014.05.02")]
    [True, True, True, False, False, False]
    """
    if _DATE.fullmatch(value) is not None or read_number(value) is not None:
        return False
    if not value.isascii():
        # Digits of other scripts, each as the one of 0 to 9 that it means.
        value = "".join(str(unicodedata.decimal(letter, letter)) for letter in value)
    return read_number(value.translate(_DRESS)) is not None


def _refuse_values(
    frame: Any, whole: list[str], numbers: list[str], targets: Collection[str]
) -> None:
    """Refuse the first value that is missing in a column that must be whole, or infinite."""
    first: BadValue | None = None
    finite = np.isfinite(frame[numbers].to_numpy(np.float64)).all(axis=0)
    # One column at a time is slow in pandas, and most are in order.
    suspects = set(whole).difference(numbers)
    suspects.update(c for c, good in zip(numbers, finite, strict=True) if not good)
    for column in dict.fromkeys((*whole, *numbers)):
        if column not in suspects:
            continue
        values = frame[column]
        bad = values.isna().to_numpy() if column in whole else np.zeros(len(frame), dtype=bool)
        if column in numbers:
            bad = bad | np.isinf(values.to_numpy(np.float64))
        row = int(np.argmax(bad)) if bad.any() else len(frame)
        if row < (len(frame) if first is None else first.row):
            first = BadValue(row, column, f"{values.iloc[row]} is not finite")
            if values.isna().iloc[row]:
                first = BadValue.missing(row, column, target=column in targets)
    if first is not None:
        raise first
