"""What a pass over a table finds in single columns: levels, dates, days, and row numbers."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import compress
from typing import Any

import numpy as np

from minigd.data.tables.column_problems import (
    MIN_COUNT,
    MOST_LEVELS,
    Problem,
    Texts,
    can_be_read,
    numbers_with_a_unit,
    problem_of_text,
    spelled_in_several_ways,
    sum_of_rows,
)
from minigd.data.tables.dates import EPOCH, DateFormats, Dates
from minigd.data.tables.grammar import Notation
from minigd.data.tables.missing import MISSING_LEVEL, has_level
from minigd.data.tables.places import Place
from minigd.data.tables.remedy import Remedy, TableError
from minigd.data.tables.schema import OTHER_LEVEL
from minigd.data.tables.selection import Selection
from minigd.types import Array

MOST_COUNTED = 100_000
"""Most different texts that are counted in a column; a column with more is an id."""

FEWEST_IDS = 20
"""With fewer rows than this, no column counts as an id."""

_ID = 0.9
"""A column of text is an id if at least this share of the rows have a unique text."""


class TextColumns:
    """The columns of text: how often each text occurs, and whether all are dates.

    `given` are the columns whose levels are known, and `first` is the first column of the table.
    """

    def __init__(
        self,
        selection: Selection,
        features: Sequence[str],
        targets: Sequence[str],
        text: Collection[str],
        given: Mapping[str, Sequence[str]],
        name: str,
        is_text: bool,
        notation: Notation,
        first: str | None,
    ) -> None:
        self.selection, self.features, self.targets = selection, features, targets
        self.given, self.name, self.is_text, self.notation = given, name, is_text, notation
        self.first = first if is_text else None
        counted = sorted({*text} - {*given, *selection.hashed})
        self.levels: dict[str, Counter[str]] = {c: Counter() for c in counted}
        self.texts = {column: Texts(notation) for column in self.levels}
        self.dates = {
            c: DateFormats(selection.dates.get(c))
            for c in features
            if c in self.levels or selection.dates.get(c) == EPOCH
        }

    def count(self, frame: Any) -> dict[str, Counter[str]]:
        """Return how often each text occurs in a frame."""
        # For a block of few rows, as in a wide table, this takes a hundredth of the time of
        # `value_counts`.
        counts = {column: Counter(frame[column].tolist()) for column in self.levels}
        for count in counts.values():
            for missing in [value for value in count if not isinstance(value, str)]:
                del count[missing]
        return counts

    def note(self, frame: Any, counts: Mapping[str, Counter[str]], place: Place) -> None:
        """Record all rows of a frame."""
        for column, count in counts.items():
            self.texts[column].note(frame[column], count, place)

    def add(self, frame: Any, counts: Mapping[str, Counter[str]]) -> None:
        """Record the rows that are kept."""
        for column, count in counts.items():
            levels = self.levels[column]
            self.texts[column].count(count)
            if len(levels) <= MOST_COUNTED:
                levels.update(count)
        for column, dates in self.dates.items():
            dates.add(frame[column])

    def date_of(self, column: str) -> Dates | None:
        """Return what a column of dates becomes; None for any other column."""
        formats = self.dates.get(column)
        return None if formats is None else formats.dates()

    def groups(self, column: str) -> bool:
        """Tell whether rare levels of a feature are grouped."""
        if column in self.targets or column not in self.levels:
            return False
        chosen = self.selection
        many = len(self.levels[column]) > MOST_LEVELS
        return chosen.min_count is not None or (chosen.leave_out and many)

    def levels_of(self, column: str, gaps: bool) -> list[str]:
        """Return the levels of a column in order; `gaps` tells whether any value is missing."""
        if column in self.given:
            return list(self.given[column])
        counts = self.levels[column]
        levels = set(counts)
        if self.groups(column):
            fewest = self.selection.min_count or MIN_COUNT
            frequent = [t for t, count in counts.most_common(MOST_LEVELS) if count >= fewest]
            if len(frequent) < len(levels):
                levels = {*frequent[: MOST_LEVELS - 1], OTHER_LEVEL}
        if gaps and column in self.features and has_level(self.selection.missing, column):
            levels.add(MISSING_LEVEL)
        return sorted(levels)

    def rare_in(self, column: str) -> int:
        """Return the number of values of a feature that are grouped as rare."""
        known = set(self.levels_of(column, gaps=False)) if self.groups(column) else set()
        if OTHER_LEVEL not in known:
            return 0
        return sum(count for text, count in self.levels[column].items() if text not in known)

    def all_rare(self, column: str) -> str | None:
        """Return the problem of a feature whose texts are all rare, which leaves no level."""
        counts = self.levels[column]
        if not counts or self.rare_in(column) < counts.total() or not self._is_category(column):
            return None
        fewest = self.selection.min_count or MIN_COUNT
        such = f"has {len(counts):,} different texts, such as {next(iter(counts))!r}"
        return f"{such}, none of them in {fewest:,} rows or more"

    def id_of(self, column: str) -> str | None:
        """Return a text of a feature whose texts are nearly all unique, or None."""
        counts, rows = self.levels[column], self.texts[column].kept
        many = column in self.features and len(counts) > max(FEWEST_IDS, _ID * rows)
        return next(iter(counts)) if many and self._is_category(column) else None

    def _is_category(self, column: str) -> bool:
        """Tell whether a column holds neither dates nor a mix of numbers and texts."""
        return self.date_of(column) is None and self._problem(column, grouped=True) is None

    def suspicions(self, columns: Iterable[str]) -> list[TableError]:
        """Return warnings about columns that can be used as they are."""
        found = (self._suspicion(column) for column in columns)
        return [problem.suspicion(self.name) for problem in found if problem is not None]

    def _suspicion(self, column: str) -> Problem | None:
        """Return a possible problem of a column that can be used as it is."""
        if column not in self.levels or self.date_of(column) is not None:
            return None
        levels, texts = self.levels[column], self.texts[column]
        if self.is_text:
            total = sum_of_rows(column, texts, levels, column == self.first)
            if total is not None:
                return total
        if column in self.targets:
            return spelled_in_several_ways(column, levels)
        return self._unit_of(column)

    def _unit_of(self, column: str) -> Problem | None:
        """Return what is wrong with a column of numbers with a unit, which is read as text."""
        if self.selection.categories.get(column, ()) is None or not self.is_text:
            return None
        return numbers_with_a_unit(column, self.levels[column], self.notation)

    def problem(self, column: str) -> Problem | None:
        """Return what is wrong with a column as a whole."""
        formats = self.dates.get(column)
        if formats is not None and formats.formats:
            if not formats.in_doubt:
                return None
            day, month = formats.in_doubt
            remedy = Remedy("say which with {}", {"dates": {column: day}})
            return Problem(column, f"holds dates that may be {day} or {month}", remedy)
        if column not in self.levels:
            return None
        found = self._problem(column, self.groups(column))
        unit = self._unit_of(column) if found is not None or column in self.targets else None
        return found if unit is None or (found is not None and can_be_read(found)) else unit

    def _problem(self, column: str, grouped: bool) -> Problem | None:
        """Return what is wrong with the texts of a column that are not dates."""
        argument = "classes" if column in self.targets else "categories"
        declared = self.selection.categories.get(column, ()) is None
        texts = Texts() if declared else self.texts[column]
        return problem_of_text(
            column,
            texts,
            self.levels[column],
            argument,
            self.name,
            self.is_text,
            grouped,
            self.notation,
            column == self.first,
        )


class NumberColumns:
    """Which columns of numbers are dates such as 20140502, and which ones number the rows."""

    def __init__(self, columns: Sequence[str]) -> None:
        # A column without any number so far may be either.
        self._may_be_days, self._may_count = list(columns), list(columns)
        self._first: dict[str, float] = {}
        self._last: Array = np.empty((0, len(columns)))
        self._any_kept = False

    def note(self, frame: Any) -> None:
        """Rule out columns that do not number all rows of a frame."""
        if not self._may_count or not len(frame):
            return
        values = frame[self._may_count].to_numpy(np.float64)
        self._first = self._first or dict(zip(self._may_count, values[0].tolist(), strict=True))
        values = np.vstack([self._last, values])
        good = (np.diff(values, axis=0) == 1).all(axis=0) & (values == np.trunc(values)).all(axis=0)
        self._may_count = list(compress(self._may_count, good))
        self._last = values[-1:, good]

    def add(self, frame: Any) -> None:
        """Rule out columns that are not a date in every kept row."""
        if not self._may_be_days or not len(frame):
            return
        self._any_kept = True
        # The first row rules out most columns; checking the other rows takes longer.
        for rows in (frame.iloc[:1], frame):
            values = rows[self._may_be_days].to_numpy(np.float64)
            self._may_be_days = list(compress(self._may_be_days, _are_days(values).all(axis=0)))

    @property
    def days(self) -> set[str]:
        """The columns whose numbers are all dates."""
        return set(self._may_be_days) if self._any_kept else set()

    @property
    def counting(self) -> set[str]:
        """The columns whose numbers are row numbers."""
        return set(self._may_count) if len(self._last) else set()


def _are_days(values: Array) -> Array:
    """Return which numbers are dates, such as 20140502."""
    values = np.where(np.isfinite(values), values, 0.0)
    month, day = values // 100 % 100, values % 100
    good = (values > 19000100) & (values < 21001232) & (month >= 1) & (month <= 12)
    return np.asarray(good & (day >= 1) & (day <= 31))
