"""Weights of rows: how much each example counts in the loss, the gradient and the metrics.

The mean of a batch is divided by the sum of its weights, so only their ratios matter. A row of
weight 0 is left out, whatever numbers it holds.
"""

from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from numbers import Real
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from minigd.backends.base import backend_of, numbers
from minigd.data.labels import find_label, label_key
from minigd.errors import DataError, ShapeError, check_number, shown
from minigd.progress import warn
from minigd.types import Array

ClassWeight: TypeAlias = Mapping[Any, float] | Literal["balanced"]
"""A weight for each class, by its label; or weights with which all classes count the same."""


class ByNumber(dict[int, float]):
    """Weights by class number, after labels were looked up."""


def check_weights(weight: Any, rows: int | None) -> Array:
    """Return weights as float64 on the host, and refuse anything else.

    Parameters
    ----------
    weight : array-like, shape (rows,)
        At least 0 and finite, and not all 0.
    rows : int or None
        The required number of weights; None if unknown.

    Raises
    ------
    ShapeError, DataError

    Examples
    --------
    >>> check_weights([1, 0, 2], 3)
    array([1., 0., 2.])
    """
    backend = backend_of(weight)
    weight = backend.to_numpy(backend.here(weight, "sample_weight"))
    if weight.dtype == object and all(isinstance(item, Real | Decimal) for item in weight.flat):
        weight = weight.astype("float64")
    weight = numbers(weight, "sample_weight").astype("float64")
    if weight.ndim != 1 or (rows is not None and len(weight) != rows):
        raise ShapeError(
            f"sample_weight has shape {weight.shape}: it must hold a weight for each row, shape "
            f"({'rows' if rows is None else rows},)"
        )
    backend_of(weight).check_finite(weight, "sample_weight")
    if (weight < 0).any():
        row = int(np.argmax(weight < 0))
        raise DataError(
            f"sample_weight holds {weight[row]:g} at row {row} (counted from 0): weights are at "
            "least 0, and a row of weight 0 is left out"
        )
    if not (weight > 0).any():
        raise DataError("all of sample_weight is 0: there is nothing to train on")
    # Beyond this, sums and products of weights would overflow float64.
    if weight.max() > 1e200 or weight[weight > 0].max() < 1e-200:
        raise DataError(
            f"sample_weight goes up to {weight.max():g}: divide it by that; only the ratios of "
            "weights matter"
        )
    return weight


def counting_rows(weight: Array | None) -> Array | None:
    """Return the numbers of the rows whose weight is not 0, or None if there are no weights.

    >>> counting_rows(np.array([0.5, 0.0, 2.0]))
    array([0, 2])
    """
    return None if weight is None else np.flatnonzero(weight)


def take_rows(array: Any, rows: Array | None) -> Any:
    """Return a copy of some rows of an array, on its backend, or some of a slice of row numbers.

    None means all rows. An array that is None stays None.

    >>> take_rows(np.array([5.0, 6.0, 7.0]), np.array([0, 2])), take_rows(slice(10, 13), [0, 2])
    (array([5., 7.]), array([10, 12]))
    """
    if rows is None or array is None:
        return array
    if isinstance(array, slice):
        return array.start + np.asarray(rows)
    backend = backend_of(array)
    return backend.take(array, backend.asarray(rows))


def drop_zero_weights(weight: Array | None, *arrays: Any) -> tuple[Any, ...]:
    """Return the weights that are not 0, and the same rows of each array.

    If all rows count, the arrays themselves are returned.

    Parameters
    ----------
    weight : Array, shape (n,), or None
        None if rows have no weights.
    *arrays : Array of n rows, slice of n row numbers, or None

    Returns
    -------
    tuple of (weight, *arrays)

    Examples
    --------
    >>> drop_zero_weights(np.array([1.0, 0.0, 3.0]), np.array([5.0, np.nan, 7.0]), slice(10, 13))
    (array([1., 3.]), array([5., 7.]), array([10, 12]))
    """
    if weight is None or weight.all():
        return weight, *arrays
    rows = counting_rows(weight)
    return tuple(take_rows(array, rows) for array in (weight, *arrays))


def row_scale(weight: Array | None) -> Array | None:
    """Return what each row's loss and gradient are scaled by, s_i = n w_i / Σ w; None for None.

    The mean over the rows of s_i ℓ_i is then the weighted mean Σ w_i ℓ_i / Σ w.

    >>> row_scale(np.array([1.0, 3.0]))
    array([0.5, 1.5])
    """
    return None if weight is None else weight * (len(weight) / weight.sum())


class Weighed(NamedTuple):
    """The rows that count in some batches, one batch after the other."""

    kept: Array  # numbers of these rows
    starts: Array  # where in `kept` each batch begins, and where the last one ends
    weight: Array
    scale: Array  # n w_i / Σ w, each in its batch
    totals: Array  # Σ w of each batch


def weigh_batches(weight: Array, starts: Array) -> Weighed:
    """Do what `drop_zero_weights` and `row_scale` do for many batches at once, to the same bits.

    Parameters
    ----------
    weight : Array, shape (rows,)
    starts : Array of int, shape (batches + 1,)
        Where in `weight` each batch begins, and where the last one ends.

    Examples
    --------
    >>> found = weigh_batches(np.array([1.0, 3.0, 0.0, 2.0, 0.0]), np.array([0, 2, 4, 5]))
    >>> found.kept, found.starts, found.totals
    (array([0, 1, 3]), array([0, 2, 3, 3]), array([4., 2., 0.]))
    >>> found.scale
    array([0.5, 1.5, 1. ])
    """
    kept = np.flatnonzero(weight[: starts[-1]])
    weight, starts = weight[kept], np.searchsorted(kept, starts)
    sizes = np.diff(starts)
    totals = np.zeros(len(sizes))
    # Rows of a matrix are summed like a single array, unless their lengths differ.
    for n in np.unique(sizes).tolist():
        same = np.flatnonzero(sizes == n)
        totals[same] = weight[starts[same].reshape(-1, 1) + np.arange(n)].sum(axis=1)
    with np.errstate(invalid="ignore"):
        scale = weight * np.repeat(sizes / totals, sizes)
    return Weighed(kept, starts, weight, scale, totals)


def labels(y: Array, what: str = "class_weight") -> Array:
    """Return the class of each row as int64 on the host, from classes, one-hot rows or a column.

    `what` is the name of the argument in the error.

    >>> labels(np.array([[0.0, 1.0], [1.0, 0.0]])).tolist(), labels(np.array([1, 0])).tolist()
    ([1, 0], [1, 0])

    Raises
    ------
    DataError
        If y does not hold classes.
    """
    y = numbers(backend_of(y).to_numpy(y), "y")
    if y.ndim == 2 and y.shape[1] > 1:
        if ((y != 0) & (y != 1)).any() or (y.sum(axis=1) != 1).any():
            raise DataError(f"{what} is for classes, but the rows of y are not one-hot")
        return y.argmax(axis=1)
    column = y.reshape(-1)
    with np.errstate(invalid="ignore"):
        classes = column.astype("int64")
    if (classes != column).any():
        wrong = column[np.argmax(classes != column)]
        raise DataError(f"{what} is for classes, which are integers, but y holds {wrong}")
    return classes


def check_class_weight(
    given: Any, labels: Sequence[Any] | None = None, by_number: bool = True
) -> ClassWeight:
    """Return class weights by class number, and refuse anything else.

    A class is named by its label, in any spelling: `minigd.data.labels.same_label`. A label that no
    class has causes a warning.

    Parameters
    ----------
    given : dict from label to float, or "balanced"
    labels : sequence, optional
        The labels of all classes: class k is ``labels[k]``. None if classes are whole numbers.
    by_number : bool, default True
        Whether a whole number means a class number if no label is a whole number.

    Raises
    ------
    TypeError, ValueError

    Examples
    --------
    >>> check_class_weight({"1": 1, "2": 20}, ["1", "2"])
    {0: 1.0, 1: 20.0}
    >>> check_class_weight({"1": 1, 2.0: 20})
    {1: 1.0, 2: 20.0}
    """
    if isinstance(given, str) and given == "balanced":
        return "balanced"
    if isinstance(given, ByNumber):
        return given
    if not isinstance(given, Mapping):
        raise TypeError(
            f"class_weight must be a dict from class to weight, {{0: 1.0, 1: 5.0}}, or 'balanced', "
            f"not {shown(given)}"
        )
    table: dict[int, float] = {}
    unknown = []
    for label, value in given.items():
        if not isinstance(label, str | Real | np.bool_):
            raise ValueError(f"a class of class_weight must be a number or a text, not {label!r}")
        number = _number_of(label, labels, by_number)
        if number is not None and number in table:
            raise ValueError(f"class_weight has two weights for the class {label!r}: give one")
        weight = check_number(f"the weight of class {label}", value)
        if number is None:
            unknown.append(label)
        else:
            table[number] = weight
    warn_of_unknown(unknown, labels)
    return table


def _number_of(label: Any, labels: Sequence[Any] | None, by_number: bool) -> int | None:
    """Return the class number of a label, or None."""
    key = label_key(label)
    if labels is None:
        return key if isinstance(key, int) else None
    number = find_label(label, labels)
    if number is None and by_number and isinstance(key, int) and not isinstance(label, str):
        names = not any(isinstance(label_key(known), int) for known in labels)
        number = key if names and 0 <= key < len(labels) else None
    return number


def warn_of_unknown(unknown: Collection[Any], labels: Sequence[Any] | None = None) -> None:
    """Warn about classes that have a weight but no rows."""
    if unknown:
        some = [] if labels is None else [*map(repr, labels[:10]), *["…"] * (len(labels) > 10)]
        known = f"; the classes are {', '.join(some)}" if some else ""
        warn(
            f"class_weight has a weight for {', '.join(map(repr, unknown))}, but the data have no "
            f"such class: the weight has no effect{known}",
            stacklevel=4,
        )


def balance(totals: Mapping[int, float]) -> dict[int, float]:
    """Return weights with which all classes count the same, w_k = Σ_j W_j / (K W_k).

    W_k is the total weight of the rows of class k, or their number if rows have no weights.

    >>> balance({0: 30, 1: 10})
    {0: 0.6666666666666666, 1: 2.0}

    Source: King and Zeng (2001), "Logistic regression in rare events data", section 4.2, as in
    scikit-learn's ``class_weight="balanced"``.
    """
    there = {kind: total for kind, total in totals.items() if total > 0}
    return {kind: sum(there.values()) / (len(there) * total) for kind, total in there.items()}


def of_classes(classes: Array, table: Mapping[int, float]) -> Array:
    """Return the weight of each row by its class; a class that is not in the table counts 1.

    >>> of_classes(np.array([0, 2, 0]), {0: 0.5})
    array([0.5, 1. , 0.5])
    """
    kinds, inverse = np.unique(classes, return_inverse=True)
    return np.array([table.get(int(kind), 1.0) for kind in kinds])[inverse.reshape(-1)]
