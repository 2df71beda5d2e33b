"""Dates and times in a table: how they are written, and the columns of numbers that they become."""

import itertools
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from minigd.types import Array

EPOCH = "epoch"
"""The format of whole seconds since 1970; such a column counts as dates only on request."""

PARTS = ("year", "month", "day of week", "hour", "days")
"""Monday is day 0, hours have fractions, and days count from the first date of the table."""

_YEAR_FIRST = ("%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%Y%m%d", "%Y-%m", "%Y/%m")
_NAMED = ("%d-%b-%Y", "%d %b %Y", "%d/%b/%Y", "%d-%B-%Y", "%d %B %Y", "%d-%b-%y", "%d %b %y")
_AMERICAN = ("%b %d, %Y", "%B %d, %Y", "%b %d %Y", "%m/%d/%Y", "%m-%d-%Y", "%m/%d/%y", "%m-%d-%y")
_DAY_FIRST = ("%d/%m/%Y", "%d-%m-%Y", "%d.%m.%Y", "%d. %m. %Y", "%d/%m/%y", "%d-%m-%y", "%d.%m.%y")
_DAYS = _YEAR_FIRST + _NAMED + _DAY_FIRST + _AMERICAN
_CLOCKS = ("%H:%M:%S", "%H:%M", "%H:%M:%S.%f", "%I:%M %p", "%I:%M:%S %p", "%H.%M.%S")
_TIMES = (
    "",
    *(f"{mark}{clock}" for mark in (" ", "T") for clock in _CLOCKS),
    *(f"{mark}%H:%M:%S{rest}" for mark in (" ", "T") for rest in ("%z", ".%f%z")),
    "T%H%M%S",
)
FORMATS = (*(day + time for day, time in itertools.product(_DAYS, _TIMES)), *_CLOCKS)
"""The formats that are tried, in the notation of `datetime.strptime`."""

_FEW = 20  # texts that are tried first


def _shape(text: str) -> str:
    """Return a text with 9 for a run of digits, a for a run of letters, and z for a time zone.

    >>> _shape("10-Mar-2004 18:00"), _shape("20140502T000000"), _shape("2014-05-02T06:30:00+02:00")
    ('9-a-9 9:9', '9a9', '9-9-9a9:9:9z')
    """
    zoned = re.sub(r"(?<=\d)(Z|[+-]\d\d:?\d\d)$", "\0", text) if ":" in text else text
    letters = re.sub(r"[^\W\d_]+", "a", zoned)
    return re.sub(r"\d+", "9", letters).replace("\0", "z")


def _shape_of_format(format: str) -> str:
    """Return the shape of texts in a format."""
    letters = re.sub("%[bBp]", "a", format.replace("%z", "\0"))
    return re.sub("(%[A-Za-z])+", "9", letters).replace("T", "a").replace("\0", "z")


_SHAPES: dict[str, list[str]] = {}
for _format in FORMATS:
    _SHAPES.setdefault(_shape_of_format(_format), []).append(_format)


class Dates(NamedTuple):
    """A column of dates.

    Attributes
    ----------
    format : str
        Their format for `datetime.strptime`, or ``"epoch"``.
    first : float
        The first of them, in days since 1970.
    parts : tuple of str
        The columns that it becomes: the `PARTS` that differ between rows.

    Examples
    --------
    >>> import pandas
    >>> dates = Dates("%Y-%m-%d %H:%M", 16192.0, PARTS)
    >>> dates.encode(pandas.Series(["2014-05-02 06:00", None])).tolist()
    [[2014.0, 5.0, 4.0, 6.0, 0.25], [nan, nan, nan, nan, nan]]
    """

    format: str
    first: float
    parts: Sequence[str]

    def encode(self, column: Any) -> Array:
        """Return the parts of each date, NaN where it is missing, of shape (n, parts)."""
        return parts_of(read_dates(column, self.format), self.first)[:, self._chosen]

    @property
    def _chosen(self) -> list[int]:
        return [PARTS.index(part) for part in self.parts]


def read_dates(column: Any, format: str) -> Any:
    """Return a column as pandas times; a value in another format becomes a missing one."""
    import pandas as pd

    if format == EPOCH:
        return pd.to_datetime(column, unit="s", errors="coerce")
    zones = "%z" in format or format == "ISO8601"
    times = pd.to_datetime(column, format=format, errors="coerce", utc=zones)
    return times.dt.tz_localize(None) if times.dt.tz is not None else times


def parts_of(times: Any, first: float) -> Array:
    """Return all parts of some times, of shape (n, 5)."""
    days = days_of(times)
    hours = times.dt.hour + times.dt.minute / 60
    columns = (times.dt.year, times.dt.month, times.dt.day_of_week, hours)
    return np.column_stack([*(c.to_numpy(np.float64) for c in columns), days - first])


def days_of(times: Any) -> Array:
    """Return the days since 1970, with fractions, NaN for a missing time."""
    whole = times.to_numpy("datetime64[s]")
    seconds = whole.astype(np.int64).astype(np.float64)
    return np.where(np.isnat(whole), np.nan, seconds) / 86_400


class DateFormats:
    """The formats in which all texts of a column so far are dates."""

    def __init__(self, given: str | None = None) -> None:
        self.formats: list[str] | None = None if given is None else [given]
        self.low: Array = np.full(len(PARTS), np.inf)
        self.high: Array = np.full(len(PARTS), -np.inf)
        self.used: set[str] = set()
        """The formats in which the parts of dates were read."""

    def add(self, column: Any) -> None:
        """Rule out the formats that do not read a column."""
        if self.formats == []:
            return
        known = column.dropna()
        if self.formats is None and len(known):
            shape = _shape(known.iloc[0])
            self.formats = list(_SHAPES.get(shape, ()))
            # For example, only some texts have fractions of a second.
            self.formats += ["ISO8601"] * shape.startswith("9-9-9")
        for some in (known.iloc[:_FEW], known):
            kept = [f for f in self.formats or () if not read_dates(some, f).isna().any()]
            self.formats = kept if len(known) else self.formats
        if self.formats and len(known):
            self.used.add(self.formats[0])
            parts = parts_of(read_dates(known, self.formats[0]), 0.0)
            self.low = np.minimum(self.low, parts.min(axis=0))
            self.high = np.maximum(self.high, parts.max(axis=0))

    @property
    def in_doubt(self) -> list[str]:
        """Two formats that read all texts as different dates, if there are two."""
        by_day = [f for f in self.formats or () if f.startswith("%d")]
        by_month = [f for f in self.formats or () if f.startswith("%m")]
        return [by_day[0], by_month[0]] if by_day and by_month else []

    def dates(self) -> Dates | None:
        """Return what the column becomes; None if it does not hold dates."""
        if not self.formats or np.isinf(self.low[0]):
            return None
        different = self.low < self.high
        parts = [part for part, differs in zip(PARTS, different, strict=True) if differs]
        # On a single day, the days since the first date repeat the hour.
        if parts == ["hour", "days"]:
            parts = ["hour"]
        return Dates(self.formats[0], float(self.low[-1]), tuple(parts) or ("year",))
