"""What happens to missing values, column by column, and the numbers that replace them."""

import contextlib
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from minigd.errors import check_number, shown
from minigd.types import Array

MISSING_LEVEL = "missing"
"""The level of rows with a missing category, if there is one."""

FILLS = ("mean", "median", "flag")
"""A missing number becomes the mean or the median of its column; a flag also adds a 0-1 column."""

Missing: TypeAlias = str | float | Mapping[str, str | float]
"""A policy for all columns, or one per column; `"*"` is for all others."""


def check_missing(missing: Any) -> None:
    """Refuse what is not a policy."""
    if isinstance(missing, Mapping):
        for policy in missing.values():
            if isinstance(policy, Mapping):
                raise ValueError(f"missing must be one dict of columns: {missing!r}")
            check_missing(policy)
        return
    words = ("error", "drop", "category", *FILLS)
    if not (isinstance(missing, str) and missing in words) and not _is_finite(missing):
        raise ValueError(
            f"missing must be {', '.join(map(repr, words))}, a number, or a dict of them by "
            f"column, not {shown(missing)}"
        )


def _is_finite(value: Any) -> bool:
    """Tell whether this is a finite float."""
    with contextlib.suppress(ValueError):
        check_number("", value, -math.inf)
        return True
    return False


def policy_of(missing: Missing, column: str) -> str | float:
    """Return the policy for a missing value in a column.

    >>> policy_of({"age": "mean", "*": "drop"}, "age"), policy_of({"age": "mean"}, "sex")
    ('mean', 'error')
    """
    if isinstance(missing, Mapping):
        return missing.get(column, missing.get("*", "error"))
    return missing


def needed_columns(
    columns: Sequence[str], missing: Missing, levels: Mapping[str, Collection[str]]
) -> list[str]:
    """Return the columns whose missing values drop a row; `levels` are those of columns of text.

    A missing category may have its own level.
    """
    policies = {column: policy_of(missing, column) for column in columns}
    return [
        column
        for column, policy in policies.items()
        if policy == "drop"
        or (policy == "category" and MISSING_LEVEL not in levels.get(column, ()))
    ]


def required_columns(
    columns: Sequence[str], missing: Missing, targets: Collection[str], needed: Collection[str]
) -> list[str]:
    """Return the columns in which a missing value is an error; a target is never filled in."""
    return [
        column
        for column in columns
        if policy_of(missing, column) == "error" or (column in targets and column not in needed)
    ]


def has_level(missing: Missing, column: str) -> bool:
    """Tell whether a missing category has its own level."""
    return policy_of(missing, column) in ("category", *FILLS)


class Fills:
    """The means and medians of columns whose rows come in pieces.

    The median is exact for up to 131,072 rows. For more, only every 2nd, 4th, … row counts.

    Parameters
    ----------
    statistics : sequence of {"mean", "median"}
        One for each column.

    Examples
    --------
    >>> fills = Fills(["mean", "median"])
    >>> fills.add(np.array([[1.0, 1.0], [np.nan, 2.0], [5.0, 30.0]]))
    >>> fills.values()
    [3.0, 2.0]
    """

    def __init__(self, statistics: Sequence[str]) -> None:
        self._medians = [k for k, what in enumerate(statistics) if what == "median"]
        self._sums: Array = np.zeros(len(statistics))
        self._counts: Array = np.zeros(len(statistics), np.int64)
        self._sample: Array = np.empty((0, len(self._medians)))
        self._stride, self._seen = 1, 0

    def add(self, x: Array) -> None:
        """Record rows, of shape (n, columns); NaN is a missing value."""
        there = ~np.isnan(x)
        # One row after the other: the bits must not depend on how rows are cut into pieces.
        rows = np.vstack([self._sums, np.where(there, x, 0.0)])
        self._sums = np.add.accumulate(rows, axis=0)[-1]
        self._counts += there.sum(axis=0)
        if not self._medians:
            return
        first = -self._seen % self._stride
        some = x[first :: self._stride, self._medians].astype(np.float64)
        self._sample = np.concatenate([self._sample, some])
        self._seen += len(x)
        while len(self._sample) > 1 << 17:
            self._sample, self._stride = self._sample[::2], 2 * self._stride

    def values(self) -> list[float]:
        """Return the number that replaces a missing one in each column, 0 if it has no value."""
        values = np.divide(
            self._sums, self._counts, out=np.zeros_like(self._sums), where=self._counts > 0
        )
        for k, column in enumerate(self._medians):
            known = self._sample[~np.isnan(self._sample[:, k]), k]
            values[column] = np.median(known) if len(known) else values[column]
        return [float(value) for value in values]


def fills_of(statistics: Sequence[str], pieces: Iterable[Array]) -> list[float]:
    """Return what replaces a missing number in each column, from the rows of all pieces."""
    fills = Fills(statistics)
    for x in pieces:
        fills.add(x)
    return fills.values()
