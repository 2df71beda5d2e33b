"""Values other than the numbers of a row that decide its side: its group, or its time.

They are given by the name of a column of the table, or as an array.
"""

import hashlib
from typing import Any

import numpy as np

from minigd.data.labels import label_key
from minigd.data.sources.base import Source
from minigd.data.sources.csv_parser import import_pandas
from minigd.data.tables.dates import DateFormats, days_of, read_dates
from minigd.data.tables.grammar import read_number
from minigd.data.tables.remedy import Remedy, TableError
from minigd.errors import DataError, ShapeError
from minigd.types import Array

_LOOKED_AT = 1000  # different texts that are searched for one that is not a time


def groups_of(source: Source, group: Any) -> tuple[Array, Array]:
    """Return the number of each row's group, and a hash of each group's label.

    1, 1.0 and "1" are one group, as they are one class. Rows without a value form one group.
    """
    values = _values(source, "group", group)
    absent = _is_missing(values)
    if values.dtype.kind == "O":
        values = np.where(absent, "", values.astype(str))
    elif values.dtype.kind in "Mm":
        values = values.astype(str)
    different, numbers = np.unique(values, return_inverse=True)
    keys = [str(label_key(value)) for value in different.tolist()]
    labels, merged = np.unique(np.array(keys), return_inverse=True)
    # A float64 holds 48 bits exactly.
    words = [hashlib.sha256(label.encode()).digest()[:6] for label in labels.tolist()]
    hashes = [int.from_bytes(word, "big") for word in words]
    return merged.reshape(-1)[numbers.reshape(-1)], np.array(hashes, np.float64)


def times_of(source: Source, time: Any, format: str | None = None) -> Array:
    """Return the time of each row as a number, in days if it is a date.

    Parameters
    ----------
    source : Source
    time : str or array-like, shape (rows,)
        A column, or numbers, NumPy datetimes, or texts that are numbers or dates.
    format : str, optional
        The format of dates, if they are ambiguous.

    Raises
    ------
    DataError
        If a time is missing, or is neither a number nor a date.
    """
    values = _values(source, "time", time)
    name = f"column {time!r}" if isinstance(time, str) else "time"
    schema = getattr(source, "schema", None)
    absent = _is_missing(values)
    if absent.any():
        row = int(np.argmax(absent))
        used = isinstance(time, str) and schema is not None and time in schema.features
        drop = Remedy("drop such rows with {}", {"missing": {time: "drop"}})
        raise TableError(
            f"{_place(source, row)}, {name}: the time is missing, as in "
            f"{int(absent.sum()):,} of {len(values):,} rows, so the latest rows are unknown",
            drop if used else Remedy("remove such rows"),
        )
    if values.dtype.kind in "mM":
        return values.astype(f"{values.dtype.kind}8[us]").view("int64")
    if values.dtype.kind in "biuf":
        return values
    texts = values.astype(str).astype(object)
    numbers = [read_number(text) for text in texts]
    if None not in numbers:
        return np.array(numbers)
    if format is None and isinstance(time, str) and schema is not None and time in schema.dates:
        format = schema.dates[time].format
    return _days(name, time, texts, format)


def _place(source: Source, row: int) -> str:
    """Return the place of a row with its file; a place names the file if there are several."""
    place, file = source.places(np.array([row]))[0], getattr(source, "_name", "")
    return place if not file or ", " in place else f"{file}, {place}"


def _days(name: str, time: Any, texts: Array, format: str | None) -> Array:
    """Return texts as days since 1970."""
    column = import_pandas().Series(texts)
    formats = DateFormats(format)
    formats.add(column)
    if not formats.formats:
        each = column.unique()[:_LOOKED_AT]
        odd = next((text for text in each if not _is_date(text, format)), column.iloc[0])
        raise DataError(
            f"{name}: {odd!r} is neither a number nor a date in the format of the others: name "
            "a column of times"
        )
    if formats.in_doubt:
        day, month = formats.in_doubt
        remedy = Remedy("say which with {}", {"dates": {time: day}})
        raise TableError(
            f"{name} holds dates that may be {day} or {month}",
            remedy if isinstance(time, str) else Remedy("pass NumPy datetimes"),
        )
    return np.asarray(days_of(read_dates(column, formats.formats[0])))


def _is_date(text: str, format: str | None) -> bool:
    formats = DateFormats(format)
    formats.add(import_pandas().Series([text]))
    return bool(formats.formats)


def _values(source: Source, what: str, given: Any) -> Array:
    """Return a value for each row."""
    values = source.column(given) if isinstance(given, str) else np.asarray(given)
    if values.shape != (source.count(),):
        raise ShapeError(
            f"{what} has shape {values.shape}: give the name of a column, or a value for "
            f"each row, shape ({source.count()},)"
        )
    return values


def _is_missing(values: Array) -> Array:
    if values.dtype.kind == "f":
        return np.isnan(values)
    if values.dtype.kind in "mM":
        return np.isnat(values)
    if values.dtype.kind != "O":
        return np.zeros(len(values), dtype=bool)
    return np.array([value is None or value != value for value in values], dtype=bool)
