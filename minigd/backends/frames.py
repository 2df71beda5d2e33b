"""From rows as users pass them to arrays: frames of any library, lists, all memory layouts.

A frame names its columns. minigd matches by position, as scikit-learn does, and raises an error if
the names would match other columns or other rows.
"""

import datetime
import re
import sys
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from numbers import Integral, Real
from typing import Any

import numpy as np

from minigd.backends.on_demand import optional
from minigd.errors import DataError
from minigd.types import Array


def plain(x: Any, what: str) -> Any:
    """Return the array of a pandas frame or series, and anything else unchanged.

    Booleans become 0 and 1, and a missing value becomes NaN. Whole numbers stay whole numbers if
    all columns have them and no value is missing.
    """
    if not is_pandas(x):
        return x
    if not hasattr(x, "iloc"):  # an array of a pandas dtype, or an index
        x = sys.modules["pandas"].Series(x)
    dtypes = list(x.dtypes) if x.ndim == 2 else [x.dtype]
    bad = [j for j, dtype in enumerate(dtypes) if _kind_of_dtype(dtype) != "number"]
    if bad:
        raise DataError(_refusal(x, [_column(x, j) for j in bad], what))
    own = [j for j, dtype in enumerate(dtypes) if not isinstance(dtype, np.dtype)]
    for j in own:
        dtypes[j] = _numpy_dtype(_column(x, j))
    # Booleans next to numbers, as get_dummies returns them, would become objects.
    dtype = np.result_type(*dtypes) if dtypes else np.dtype("float64")
    if own and dtype.kind == "f":
        return x.to_numpy(dtype=dtype, na_value=np.nan)
    return x.to_numpy(dtype=dtype)


def is_pandas(x: Any) -> bool:
    """Return whether x is a frame, a series or an array of pandas, without importing pandas."""
    return hasattr(x, "isna") and hasattr(x, "to_numpy")


def _column(x: Any, j: int) -> Any:
    return x.iloc[:, j] if x.ndim == 2 else x


def _numpy_dtype(column: Any) -> np.dtype[Any]:
    """Return a column of a pandas dtype as NumPy holds it; a missing number becomes NaN."""
    own = getattr(column.dtype, "numpy_dtype", None) or getattr(column.dtype, "subtype", None)
    return np.dtype("float64") if own is None or column.isna().any() else np.dtype(own)


def _refusal(x: Any, bad: list[Any], what: str) -> str:
    """Return a message about columns without numbers: the kind of the first one, and its remedy."""
    first, kind = bad[0], column_kind(bad[0])[0]
    alike = [column.name for column in bad if column_kind(column)[0] == kind]
    one = what if x.ndim == 1 else f"{what}[{first.name!r}]"
    # pandas 2 makes dummies of a column of categories, but not of an Arrow dictionary.
    packed = {c.name: "category" for c in bad if str(c.dtype).startswith("dictionary<")}
    source = f"{what}.astype({packed})" if packed else what
    dummies = f"pandas.get_dummies({source}, columns={alike})"
    if what == "y":
        dummies = f"classes, y = numpy.unique({one}, return_inverse=True)"
    ways = {
        "text": ("text and categories", dummies),
        "time": ("times", f"({one} - {one}.min()).dt.total_seconds()"),
        "span": ("durations", f"{one}.dt.total_seconds()"),
        "objects": ("objects", f"{one}.astype('float64')"),
    }
    advice = []
    if kind in ways and (kind != "objects" or _become_floats(first)):
        advice = ["encode {} as numbers first, `{}`".format(*ways[kind])]
    if x.ndim == 2 and len(bad) < x.shape[1]:
        names = [column.name for column in bad]
        advice.append(f"drop the columns without numbers, `{what}.drop(columns={names})`")
    advice = advice or ["each row needs numbers in it"]
    which = f", and its column {first.name!r} is" if x.ndim == 2 or first.name else ", but is"
    return f"{what} must hold numbers{which} {first.dtype}: {', or '.join(advice)}"


def _become_floats(column: Any) -> bool:
    try:
        return bool(column.astype("float64").notna().any())
    except (TypeError, ValueError, OverflowError):
        return False


NUMBERS = (Real, Decimal, np.bool_, datetime.timedelta)
"""The types of values in a column of objects that are numbers."""

_CELLS = (str, *NUMBERS, datetime.date, datetime.time)


def column_kind(column: Any) -> tuple[str, Any]:
    """Return the kind of a frame's column, and the first value that no table accepts, or None.

    ``"number"``, ``"span"`` and ``"time"`` are the dtypes of numbers, durations and times;
    ``"objects"`` are numbers, or no values at all, in another dtype; ``"text"`` is text and values
    written as text: categories, and dates and numbers among texts. Anything else is ``"other"``.

    >>> import pandas as pd
    >>> [column_kind(pd.Series(values)) for values in ([1, 2], [1, "a"], [[1], "a"])]
    [('number', None), ('text', None), ('other', [1])]
    """
    kind = _kind_of_dtype(column.dtype)
    if kind is not None:
        return kind, None
    categories = getattr(column.dtype, "categories", None)
    known = column.dropna() if categories is None else categories
    for value in known:
        if not isinstance(value, _CELLS):
            return "other" if categories is None else "text", value
    objects = categories is None and all(isinstance(value, NUMBERS) for value in known)
    return "objects" if objects else "text", None


def _kind_of_dtype(dtype: Any) -> str | None:
    """Return the kind of a dtype, or None if the values decide."""
    if str(dtype) in ("str", "string"):
        return "text"
    return {"M": "time", "m": "span", **dict.fromkeys("biuf", "number")}.get(
        getattr(dtype, "kind", "O")
    )


def listed(x: Any, what: str) -> Any:
    """Return a list as an array, and an array unchanged. Whole numbers keep their digits.

    NumPy converts whole numbers beyond 2⁶³ to floats if smaller ones are next to them.

    >>> listed([2**63 + 1, 1], "y")
    array([9223372036854775809,                   1], dtype=uint64)
    """
    array = np.asarray(x)
    if array.dtype not in (np.float64, object) or not isinstance(x, list | tuple):
        return array
    items = np.asarray(x, dtype=object).reshape(-1)
    if not items.size or not all(isinstance(item, Integral) for item in items):
        return array
    if array.dtype == np.float64 and abs(array).max() < 2**63:
        return array
    low, high = min(items), max(items)
    dtype = whole_dtype(low, high)
    if dtype is None:
        raise DataError(
            f"{what} holds whole numbers from {low} to {high}, and no dtype holds "
            "both exactly: subtract a number near them first"
        )
    return np.array(x, dtype)


MOST_EXACT = 2.0**53
"""From here on, float64 can't represent every whole number."""


def whole_dtype(low: int, high: int) -> str | None:
    """Return the dtype of whole numbers that can represent both of two, or None.

    >>> whole_dtype(-1, 2**63 - 1), whole_dtype(0, 2**63), whole_dtype(-1, 2**63)
    ('int64', 'uint64', None)
    """
    limits = {dtype: np.iinfo(dtype) for dtype in ("int64", "uint64")}
    return next((d for d, can in limits.items() if can.min <= low and high <= can.max), None)


def are_whole(values: Array) -> Array:
    """Return which numbers are whole and exact.

    >>> are_whole(np.array([1.0, 0.5, 2.0**53, np.inf])).tolist()
    [True, False, False, False]
    """
    if values.dtype.kind == "O":
        return np.array([isinstance(value, Integral) for value in values], dtype=bool)
    if values.dtype.kind != "f":
        return np.ones(values.shape, dtype=bool)
    return (values == np.rint(values)) & (abs(values) < MOST_EXACT)


def as_whole(values: Array) -> Array:
    """Return numbers in an integer dtype or as Python integers, or unchanged if not all are whole.

    >>> as_whole(np.array([1.0, 2.0])), as_whole(np.array([1.0, 0.5]))
    (array([1, 2]), array([1. , 0.5]))
    """
    if values.dtype.kind in "iu" or not len(values) or not are_whole(values).all():
        return values
    wide = values.dtype.kind == "O"
    return values.astype((whole_dtype(values.min(), values.max()) or object) if wide else np.int64)


# Tables -------------------------------------------------------------------------------------------


def is_table(x: Any) -> bool:
    """Return whether x has named columns, from any library.

    >>> import pandas as pd
    >>> is_table(pd.DataFrame({"a": [1]})), is_table(pd.Series([1])), is_table([[1]])
    (True, False, False)
    """
    return any(hasattr(type(x), name) for name in ("columns", "column_names", "collect_schema"))


def table_of(x: Any) -> Any:
    """Return a table of any library as a pandas frame or an Arrow table; None if it is not a table.

    A pandas frame and an Arrow table are returned unchanged. Lazy frames and database relations are
    computed.

    >>> import pyarrow as pa
    >>> table_of(pa.RecordBatch.from_pydict({"a": [1]})).column_names, table_of([[1]])
    (['a'], None)
    """
    if not is_table(x):
        return None
    libraries = {kind.__module__.partition(".")[0] for kind in type(x).__mro__}
    if "pandas" in libraries:
        return x
    if "pyarrow" in libraries:
        return x if hasattr(x, "itercolumns") and hasattr(x, "combine_chunks") else _one_batch(x)
    if not hasattr(x, "to_arrow"):
        narwhals = optional("narwhals", f"a table of {type(x).__module__.partition('.')[0]}")
        frame = narwhals.from_native(narwhals.to_native(x, pass_through=True), pass_through=True)
        if isinstance(frame, narwhals.LazyFrame):
            frame = frame.collect(backend="pyarrow")
        x = frame
    return x.to_arrow() if hasattr(x, "to_arrow") else None


def are_numbers(table: Any) -> bool:
    """Return whether a pandas or Arrow table, or a dict of columns, is treated as an array.

    A pandas table is, unless it contains text or times; `plain` then checks the rest. An Arrow
    table is, if all its columns are numbers of types that NumPy has.
    """
    if hasattr(table, "iloc"):
        kinds = [column_kind(table.iloc[:, j]) for j in range(table.shape[1])]
        return not any(kind in ("text", "time") and odd is None for kind, odd in kinds)
    if hasattr(table, "column_names"):
        types = optional("pyarrow.types", "an Arrow table")
        plain_types = (types.is_integer, types.is_floating)
        return all(any(is_one(t) for is_one in plain_types) for t in table.schema.types)
    return False


def _one_batch(batch: Any) -> Any:
    return optional("pyarrow", "an Arrow table").Table.from_batches([batch])


# Columns ------------------------------------------------------------------------------------------


class ArrowNames(list[Any]):
    """The column names of an Arrow table, which selects columns in its own way."""


def names_of(x: Any) -> list[Any] | None:
    """Return the column names of a frame, text or numbers, or None if there are none."""
    if hasattr(x, "column_names") and hasattr(x, "__array__"):
        return ArrowNames(x.column_names)
    if not hasattr(x, "columns") or not hasattr(x, "to_numpy"):
        return None
    return [name if isinstance(name, str | int | float) else str(name) for name in x.columns]


def check_names(
    given: Sequence[Any] | None, fitted: Sequence[Any] | None, what: str = "X", frame: bool = True
) -> None:
    """Refuse columns that differ from those of the training, compared one by one in order.

    An array has no names, nor does a frame that pandas numbered 0, 1, … in this order: both are
    matched by position. `frame` is whether they belong to a frame, whose columns can be selected.
    `what` is its name in the error.

    Examples
    --------
    >>> check_names(["a", "b"], ["a", "b"])
    >>> check_names(["b", "a"], ["a", "b"])
    Traceback (most recent call last):
    minigd.errors.DataError: column 0 of X (counted from 0) is 'b' and was 'a' in fit: give \
X[model.names], or X.to_numpy() if only the names differ
    """
    if given is None or fitted is None or same_names(list(map(str, given)), list(map(str, fitted))):
        return
    known, there = set(map(str, fitted)), set(map(str, given))
    again = len(known) < len(fitted) or len(there) < len(given)
    missing = [name for name in fitted if str(name) not in there]
    extra = [name for name in given if str(name) not in known]
    if len(given) == len(fitted):
        i = next(i for i, name in enumerate(given) if str(name) != str(fitted[i]))
        problem = (
            f"column {i} of {what} (counted from 0) is {given[i]!r} and was {fitted[i]!r} in fit"
        )
        problem += f"; the columns {_named(missing)} of fit are missing" if len(missing) > 1 else ""
    elif missing or extra:
        problem = f"{what} has "
        problem += f"no column {_named(missing)}, which fit had" if missing else ""
        problem += ", and " if missing and extra else ""
        problem += f"the column {_named(extra)}, which fit did not have" if extra else ""
    else:
        problem = (
            f"{what} has {len(given)} columns, some with the same name, and fit had {len(fitted)}"
        )
    remedies = [_in_order(given, fitted, what)] if frame and not missing and not again else []
    if frame and len(given) == len(fitted):
        plain = f"numpy.asarray({what})" if isinstance(given, ArrowNames) else f"{what}.to_numpy()"
        remedies.append(f"{plain} if only the names differ")
    remedy = ", or ".join(remedies) or (
        "all columns of fit" if frame else "the source features= and categories= as in fit"
    )
    raise DataError(f"{problem}: give {remedy}")


def _in_order(given: Sequence[Any], fitted: Sequence[Any], what: str) -> str:
    """Return an expression that selects the columns of a frame in the order of fit."""
    if isinstance(given, ArrowNames):
        return f"{what}.select(model.names)"
    # A label that is neither text nor a number is compared as text, like a number in a file.
    texts = [name for name in fitted if isinstance(name, str)]
    if set(fitted) <= set(given) and not any(re.match(r"\(|\d+-", text) for text in texts):
        return f"{what}[model.names]"
    return f"{what}.set_axis(map(str, {what}.columns), axis=1)[map(str, model.names)]"


def check_source(source: Any, fitted: Sequence[Any] | None) -> None:
    """Refuse a source whose column names differ from those of the training."""
    what = "x" if source.in_memory else repr(source)
    check_names(source.names, fitted, what, source.in_memory)


def same_names(one: Sequence[Any], other: Sequence[Any]) -> bool:
    """Return whether two rows of labels are equal, or one of them is pandas' own numbering.

    Numbers in another order are labels, not pandas' own numbering.

    >>> same_names(["0", "1"], ["a", "b"]), same_names(["1", "0"], ["0", "1"])
    (True, False)
    """
    if list(one) == list(other):
        return True
    return (_numbered(one) or _numbered(other)) and set(one) != set(other)


def _numbered(names: Sequence[Any]) -> bool:
    return all(str(name) == str(i) for i, name in enumerate(names))


def _named(names: list[Any]) -> str:
    shown = ", ".join(map(repr, names[:10]))
    return shown if len(names) <= 10 else f"{shown} and {len(names) - 10} more"


# Memory -------------------------------------------------------------------------------------------


def by_rows(x: Any) -> Any:
    """Return an array on the host whose rows are contiguous in memory: x itself, or a copy.

    A frame stores each column contiguously, so the values of a row are far apart.

    >>> x = np.zeros((3, 2))
    >>> by_rows(x) is x, by_rows(x[:, :1]).base is x, by_rows(np.asfortranarray(x)).strides
    (True, True, (16, 8))
    """
    apart = x.ndim > 1 and abs(x.strides[-1]) > x.itemsize
    return np.ascontiguousarray(x) if apart else x


# Rows ---------------------------------------------------------------------------------------------


def check_rows_alike(x: Any, y: Any = None, sample_weight: Any = None) -> None:
    """Refuse a series or frame that has the same labels as x in another order.

    Rows are paired by position. Different labels are allowed: a scaler or `reset_index` gives x new
    ones, and a target of the next day has the labels of the next day.

    Examples
    --------
    >>> import pandas as pd
    >>> y = pd.Series([0.0, 1.0])
    >>> check_rows_alike(pd.DataFrame({"a": [5.0, 6.0]}), y)
    >>> check_rows_alike(pd.DataFrame({"a": [5.0, 6.0]}), y[::-1])
    Traceback (most recent call last):
    minigd.errors.DataError: y has the index of x in another order: row 0 is 1 in y and 0 \
in x. Rows are paired by position: give y.loc[x.index], or y.to_numpy() if the positions are right
    """
    if hasattr(x, "iloc"):
        for beside, what in ((y, "y"), (sample_weight, "sample_weight")):
            if hasattr(beside, "iloc") and len(beside) == len(x):
                _check_index(x.index, beside.index, what)


def _check_index(own: Any, other: Any, what: str) -> None:
    if own.equals(other):
        return
    one, two = own.tolist(), other.tolist()
    i = next((i for i in range(len(one)) if one[i] != two[i]), None)
    if i is None or Counter(one) != Counter(two):
        return
    remedy = f"{what}.loc[x.index], or " if own.is_unique else ""
    raise DataError(
        f"{what} has the index of x in another order: row {i} is {two[i]!r} in {what} and "
        f"{one[i]!r} in x. Rows are paired by position: give {remedy}{what}.to_numpy() if the "
        "positions are right"
    )
