"""Rows in memory, in all usual forms, as a frame for a schema."""

import datetime
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from minigd.backends.base import get_backend, refuse_mask
from minigd.backends.frames import column_kind, is_table
from minigd.data.sources.csv_parser import import_pandas
from minigd.data.sources.typed import frame_of
from minigd.data.tables.dates import EPOCH
from minigd.data.tables.schema import Schema
from minigd.errors import ShapeError, shown


def rows_frame(data: Any, schema: Schema, target: Any = None) -> Any:
    """Return rows as a frame whose columns have the names that the schema knows.

    Parameters
    ----------
    data : frame, Arrow table, dict, list of dicts, array or list of lists
        The columns of an array are the features of the schema, in its order.
    schema : Schema
    target : array-like, shape (n,), optional
        Values for the schema's target.

    Examples
    --------
    >>> schema = Schema(["area", "heating"], ["price"], {"heating": ["gas"]}, None, False)
    >>> rows_frame([[50, "gas"], [70, "oil"]], schema, [1.5, 2.5]).to_dict("list")
    {'area': [50, 70], 'heating': ['gas', 'oil'], 'price': [1.5, 2.5]}
    >>> rows_frame({"area": 50, "heating": "gas"}, schema).to_dict("list")
    {'area': [50], 'heating': ['gas']}
    """
    frame = frame_of(_table(data, schema), "the data")
    if target is not None:
        values = get_backend("numpy").here(target, "target").reshape(-1)
        if len(values) != len(frame):
            raise ShapeError(f"target has {len(values)} values, but there are {len(frame)} rows")
        frame = frame.assign(**{schema.targets[0]: values})
    for feature, date in schema.dates.items():
        if feature in frame and column_kind(frame[feature])[0] in ("time", "text"):
            frame = frame.assign(**{feature: _written(frame[feature], date.format)})
    return frame


def _table(data: Any, schema: Schema) -> Any:
    """Return rows as a table for `IterableSource`."""
    pandas = import_pandas()
    if isinstance(data, Iterator):
        data = list(data)
    if isinstance(data, pandas.Series):
        data = data.to_dict()
    if isinstance(data, Mapping):
        return pandas.DataFrame([data], dtype=object) if _is_row(data) else data
    if is_table(data):
        return data
    if isinstance(data, list | tuple):
        if data and all(isinstance(row, Mapping) for row in data):
            return pandas.DataFrame([dict(row) for row in data], dtype=object)
        # Keep the types of mixed numbers and texts.
        data = np.array(data, dtype=object)
    elif not hasattr(data, "__array__") and not hasattr(data, "__cuda_array_interface__"):
        raise TypeError(
            "data must be the path of a file, a frame, an Arrow table, a dict or a list of dicts, "
            f"or a 2-D array, not {shown(data)}"
        )
    refuse_mask(data, "data")
    whole = isinstance(data, np.ndarray)
    array = np.asarray(data) if whole else get_backend("numpy").here(data, "data")
    if array.dtype.names:
        return pandas.DataFrame(array)
    width = len(schema.features)
    if array.ndim != 2 or array.shape[1] != width:
        names = ", ".join(schema.features)
        raise ShapeError(
            f"data has the shape {array.shape}, but the model takes rows of {width} "
            f"value{'s' * (width != 1)}, in this order: {names}. For one row, give [row]"
        )
    return pandas.DataFrame(array, columns=schema.features)


def _is_row(data: Mapping[Any, Any]) -> bool:
    """Tell whether a dict is one row, not a table of columns."""
    return not any(
        hasattr(value, "__len__") and not isinstance(value, str) for value in data.values()
    )


def _written(dates: Any, format: str) -> Any:
    """Return a column with dates and times as text in a format, or as seconds since 1970."""

    def written(value: Any) -> Any:
        if not isinstance(value, datetime.date | datetime.time):
            return value
        if format == EPOCH:
            return import_pandas().Timestamp(value).timestamp()
        return value.isoformat() if format == "ISO8601" else value.strftime(format)

    return dates.map(written, na_action="ignore")
