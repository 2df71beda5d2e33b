"""The result of a pass over a table for its source: a schema, and counts."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from minigd.data.tables.remedy import TableError
from minigd.data.tables.schema import Schema
from minigd.errors import DataError


class FirstPass(NamedTuple):
    """A schema, and the counts of the first pass."""

    schema: Schema
    rows: int
    dropped: int
    first_dropped: str = ""
    """The place of the first dropped row, and the reason."""
    target_problems: Mapping[str, str] = {}
    """For each dtype, what a target of whole numbers loses if it is used as a quantity."""
    missing_words: Mapping[str, Mapping[str, int]] = {}
    """For columns of text, the usual words that were read as missing values, and their counts."""
    gaps: Mapping[str, int] = {}
    """How many values of each feature are missing, in the rows that are kept."""
    unknown: Mapping[str, int] = {}
    """How many texts of each feature are not among its levels, and are read as another one."""
    left_out: Mapping[str, str] = {}
    """Useless columns that were left out, and why."""
    dropped_by: Mapping[str, int] = {}
    """How many rows are dropped, by the first column whose value is missing."""
    suspicions: Sequence[TableError] = ()
    """Possible problems of columns that are used as they are."""

    def give_to(self, source: Any, none_left: str) -> None:
        """Store the result in a source; `none_left` is the error if it has no rows."""
        source.schema, source.rows, source.dropped = self.schema, self.rows, self.dropped
        source.names, source.classes = self.schema.names, self.schema.classes
        source.first_dropped, source.dropped_by = self.first_dropped, self.dropped_by
        source.target_problems, source.missing_words = self.target_problems, self.missing_words
        source.gaps, source.unknown, source.left_out = self.gaps, self.unknown, self.left_out
        source.suspicions = self.suspicions
        if self.rows:
            return
        what = "missing or unknown" if self.schema.unknown == "drop" else "missing"
        those = f"{self.dropped} with {what} values are"
        those = f"1 with a {what} value is" if self.dropped == 1 else those
        why = f" once {those} dropped; {self.first_dropped}" if self.dropped else ""
        raise DataError(none_left + why)
