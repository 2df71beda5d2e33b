"""Combines passes over parts of a table into the result of one pass over all of it.

Counts, sets, and the smallest and largest numbers are combined without rounding. Anything else that
depends on the order of the rows is not combined: one pass then reads the table.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from minigd.data.tables.column_kinds import MOST_COUNTED, NumberColumns, TextColumns
from minigd.data.tables.column_problems import FEW_TEXTS, Texts
from minigd.data.tables.dates import DateFormats
from minigd.data.tables.precision import Rounding


def merge(passes: Sequence[Any]) -> Any:
    """Return the first of some passes of `infer_schema` with everything that the others found.

    None means that they can't be combined.
    """
    if any(seen.missing is not None or seen.beyond is not None for seen in passes):
        return None
    if any(seen.digits or seen.long for seen in passes):
        return None
    first, *others = passes
    for seen in others:
        if not _merge_texts(first.texts, seen.texts, seen.rows + seen.dropped > 0):
            return None
        _merge_numbers(first.unasked, seen.unasked)
        first.integer &= seen.integer
        first.low, first.high = min(first.low, seen.low), max(first.high, seen.high)
        for rounding, other in zip(
            (first.rounding, *first.whole), (seen.rounding, *seen.whole), strict=True
        ):
            _merge_rounding(rounding, other)
        first.empty &= seen.empty
        first.gaps.update(seen.gaps)
        first.rows, first.dropped = first.rows + seen.rows, first.dropped + seen.dropped
        first.first_dropped = first.first_dropped or seen.first_dropped
        first.dropped_by.update(seen.dropped_by)
        for column, words in seen.words.counts.items():
            first.words.counts.setdefault(column, type(words)()).update(words)
    return first


def _merge_rounding(first: Rounding, other: Rounding) -> None:
    first.low, first.high = np.fmin(first.low, other.low), np.fmax(first.high, other.high)
    first._moved = np.fmax(first._moved, other._moved)
    first._noise = max(first._noise, other._noise)


def _merge_numbers(first: NumberColumns, other: NumberColumns) -> None:
    first._may_be_days = [c for c in first._may_be_days if c in other._may_be_days]
    first._any_kept |= other._any_kept
    if not len(other._last):
        return
    last = dict(zip(first._may_count, first._last[-1], strict=True)) if len(first._last) else None
    count = [
        c
        for c in first._may_count
        if c in other._may_count and (last is None or other._first[c] - last[c] == 1)
    ]
    first._last = other._last[:, [other._may_count.index(c) for c in count]]
    first._may_count = count


def _merge_texts(first: TextColumns, other: TextColumns, any_rows: bool) -> bool:
    """Combine columns of text; tell whether that was possible."""
    for column, levels in first.levels.items():
        levels.update(other.levels[column])
        if len(levels) > MOST_COUNTED:
            return False
        _merge_column(first.texts[column], other.texts[column], any_rows)
    return all(_merge_dates(first.dates[column], other.dates[column]) for column in first.dates)


def _merge_column(first: Texts, other: Texts, any_rows: bool) -> None:
    first.odd, first.gaps = first.odd + other.odd, first.gaps or other.gaps
    first.kept, first.kept_odd = first.kept + other.kept, first.kept_odd + other.kept_odd
    first.where = first.where or other.where
    new = [text for text in other.first if text not in first.first]
    first.first += new[: FEW_TEXTS + 1 - len(first.first)]
    if any_rows:
        first.last, first.last_where = other.last, other.last_where


def _merge_dates(first: DateFormats, other: DateFormats) -> bool:
    """Combine columns of dates, if one notation reads all parts."""
    if first.formats == [] or other.formats is None:
        return True
    if first.formats is None:
        first.formats = other.formats
    elif len(first.used | other.used) != 1 or not other.formats:
        return False
    first.formats = [f for f in first.formats if f in other.formats]
    first.low, first.high = np.minimum(first.low, other.low), np.maximum(first.high, other.high)
    first.used |= other.used
    return True
