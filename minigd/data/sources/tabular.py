"""Sources whose rows a schema makes from a table, and the values for missing numbers in them.

A mean or a median is that of the training rows: all rows of a source, or the first part if it is
split.
"""

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from minigd.backends.workspace import Workspace
from minigd.data.sources.base import Pair, Rows, Source
from minigd.data.sources.together import opening_together, together
from minigd.data.tables.remedy import TableError
from minigd.data.tables.schema import Schema
from minigd.progress import with_progress
from minigd.types import Array


class Tabular(Source):
    """A source with a schema.

    Attributes
    ----------
    schema : Schema or None
        What each column becomes. The means and medians in it are found when they are first needed.
    dropped : int
    first_dropped : str
    dropped_by : mapping of str to int
        How many rows are left out because of a missing value, by the first column with one.
    missing_words : mapping of str to mapping of str to int
    gaps : mapping of str to int
        How many values of each feature are missing, in the rows that are kept.
    unknown : mapping of str to int
        How many texts of each feature are not among its levels, if they are read as ``other``.
    left_out : mapping of str to str
        Useless columns that were left out, and why.
    suspicions : sequence of TableError
        Possible problems of columns that are used as they are.
    """

    dropped: int = 0
    first_dropped: str = ""
    dropped_by: Mapping[str, int] = {}
    missing_words: Mapping[str, Mapping[str, int]]
    gaps: Mapping[str, int] = {}
    unknown: Mapping[str, int] = {}
    left_out: Mapping[str, str] = {}
    suspicions: Sequence[TableError] = ()
    _schema: Any = None
    _fills = True

    @property
    def schema(self) -> Any:
        """What each column becomes."""
        if self._schema is not None and self._fills and not self._schema.settled:
            pieces = pieces_of(self.unfilled(), f"the means of {self!r}")
            self._schema = self._schema.settle(pieces)
        return self._schema

    @schema.setter
    def schema(self, schema: Schema | None) -> None:
        # The rows have not been checked with it yet.
        self._schema, self.checked = schema, False

    def read_into(self, seen: Any) -> None:
        """Pass all frames to a first pass."""
        for frame in self.frames(seen.kinds):  # type: ignore[attr-defined]
            seen.add(frame)

    def settle(self, comm: Any) -> None:
        """Take the means and medians that the first process finds."""
        with opening_together(comm):
            self._schema = together((), lambda: self.schema)

    def column(self, name: str) -> Array:
        """Return the values of a column of the table in the kept rows, None if missing."""
        schema = self._schema
        if schema is None:
            return super().column(name)
        kinds = schema.kinds
        other: Any = copy.copy(self)
        other.read_also(name)
        found = []
        for frame in other.frames(kinds._replace(texts={*kinds.texts, name})):
            kept = schema.kept(frame)
            found.append((frame if kept is None else frame[kept])[name].to_numpy(object))
        return np.concatenate(found)

    def unfilled(self) -> "Tabular":
        """Return the same rows with NaN where a mean or a median replaces a missing number."""
        if self._schema is None or not self._schema.fills_gaps:
            return self
        other = copy.copy(self)
        other._fills, other.schema = False, self._schema.unsettled()
        return other


class Filled(Tabular):
    """Rows with NaN, which the schema fills in.

    Parameters
    ----------
    source : Source
        As `Source.unfilled` returns it, or a part of it.
    schema : Schema
        If it lacks the means, they are computed from these rows.
    """

    def __init__(self, source: Source, schema: Schema) -> None:
        self._source, self.schema = source, schema
        self.rows, self.random_access = source.rows, source.random_access
        self.gather, self.weight = source.gather, source.weight
        self.names, self.classes = source.names, source.classes
        self.target_problems = source.target_problems

    def unfilled(self) -> Any:
        """Return the rows as they are without the schema."""
        return self._source

    def chunks(self, start: int = 0) -> Iterator[Pair]:
        """Return the rows from number `start` on, in order, in pieces of any size."""
        return ((self._filled(x), y) for x, y in self._source.chunks(start))

    def take(self, rows: Rows, workspace: Workspace | None = None) -> Pair:
        """Return x and y of some rows."""
        x, y = self._source.take(rows, workspace)
        return self._filled(x), y

    def _filled(self, x: Array) -> Array:
        # Rows in memory are views, which must not change.
        return self.schema.fill(x if x.flags.owndata and x.flags.writeable else x.copy())

    def settle(self, comm: Any) -> None:
        """Do the same for the rows, and compute the means for missing numbers."""
        self._source.settle(comm)
        super().settle(comm)

    @property
    def to_read_parts(self) -> str:
        """The remedy for the rows, if a part of them can't be read without the others."""
        return self._source.to_read_parts

    def for_part(self, in_order: bool) -> "Filled":
        """Return the same rows for a process that needs a part of them."""
        other = copy.copy(self)
        other._source = self._source.for_part(in_order)
        other.gather = other._source.gather
        return other

    def column(self, name: str) -> Array:
        """Return the values of a column of the table."""
        return self._source.column(name)

    def places(self, rows: Array) -> list[str]:
        """Return the places of some rows."""
        return self._source.places(rows)

    def fingerprint(self) -> dict[str, Any]:
        """Return the fingerprint of the rows, and the values for missing numbers."""
        return {**self._source.fingerprint(), "fills": dict(self.schema.fills)}

    def __repr__(self) -> str:
        return repr(self._source)


def pieces_of(source: Source, what: str) -> Iterable[Array]:
    """Return x of all rows, and show the progress."""
    return (x for x, _ in with_progress(source.chunks(), what, source.rows))


def unsettled_schema(source: Any) -> Schema:
    """Return the schema of a source without means and medians, without computing them."""
    schema: Schema = source._schema
    return schema.unsettled()
