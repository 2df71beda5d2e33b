"""Messages about a value of a frame: its place, and the word that made it missing."""

from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any, Protocol

from minigd.data.tables.remedy import Remedy, TableError, TableWarning
from minigd.data.tables.schema import DROP, BadValue
from minigd.progress import warn
from minigd.types import Array

AS_VALUES = Remedy("if it is a value, keep it with {}", {"keep_default_na": False})


class Place(Protocol):
    """The place of a frame."""

    def where(self, row: int) -> str:
        """Return the place of a row of the current frame."""

    def usual_words(self, column: str) -> Array | None:
        """Return, for each row of the current frame, the word that made a text missing.

        It is None if there is no such word, and "" in other rows.
        """


def describe(place: Place, bad: BadValue) -> TableError:
    """Return the error for a bad value of a frame, with its place."""
    problem, remedies = bad.problem, bad.remedies
    words = place.usual_words(bad.column) if bad.is_missing else None
    if words is not None and words[bad.row]:
        problem = f"{words[bad.row]!r} means a missing value"
        remedies = (AS_VALUES, DROP)
    return TableError(f"{place.where(bad.row)}, column {bad.column!r}: {problem}", *remedies)


class MissingWords:
    """The usual words that were read as missing values in columns of text, and their counts."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.counts: dict[str, Counter[str]] = {}

    def add(self, frame: Any, columns: Iterable[str]) -> None:
        """Count those of a frame."""
        for column in columns:
            missing = frame[column].isna().to_numpy()
            words = self.place.usual_words(column) if missing.any() else None
            if words is not None:
                counts = Counter(word for word in words[missing] if word)
                self.counts.setdefault(column, Counter()).update(counts)

    def warn(self, name: str, dropped: Collection[str], filled: Collection[str]) -> None:
        """Warn if rows are dropped, or are 0 at all levels, because of such a word in a column."""
        for column, words in sorted(self.counts.items()):
            if not words or column not in (*dropped, *filled):
                continue
            word, count = words.most_common(1)[0]
            rows = f"{count:,} row{'s' * (count != 1)}"
            what = f"{rows} left out" if column in dropped else f"{rows} with 0 at all levels"
            warning = TableWarning(
                f"{name}: {what}, because {word!r} in column {column!r} means a missing value",
                AS_VALUES,
                Remedy("if it marks a missing value, pass {}", {"na": sorted(words)}),
            )
            warn(warning, stacklevel=6)


def describe_dropped(place: Place, bad: BadValue) -> str:
    """Return the place of a dropped row, and the reason."""
    return str(describe(place, bad).args[0])
