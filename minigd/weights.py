"""Weights of rows: how much each example counts in the loss, the gradient and the metrics.

A batch's mean is divided by the sum of its weights, so that only their ratios matter there; a row
of weight 0 is left out, whatever numbers it holds.
"""

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import numpy as np

from minigd.backend import Array, backend_of
from minigd.errors import DataError, ShapeError, check_integer, check_number

ClassWeight: TypeAlias = Mapping[int, float] | Literal["balanced"]
"""A weight for each class, by its number; or weights that let all classes count the same."""


def check_weights(weight: Any, rows: int | None) -> Array:
    """Return weights as float64 on the host, and refuse what is none.

    Parameters
    ----------
    weight : array-like, shape (rows,)
        At least 0 and finite, and not all 0.
    rows : int or None
        How many there must be; None where nobody has counted them.

    Raises
    ------
    ShapeError, DataError

    Examples
    --------
    >>> check_weights([1, 0, 2], 3)
    array([1., 0., 2.])
    """
    backend = backend_of(weight)
    weight = backend.to_numpy(backend.here(weight, "sample_weight")).astype("float64")
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
    # Beyond these, sums and products of weights would leave the range of float64.
    if weight.max() > 1e200 or weight[weight > 0].max() < 1e-200:
        raise DataError(
            f"sample_weight goes up to {weight.max():g}: divide it by that, for only the ratios of "
            "weights matter"
        )
    return weight


def labels(y: Array) -> Array:
    """Return the class of each row as int64 on the host, from classes, one-hot rows or a column.

    >>> labels(np.array([[0.0, 1.0], [1.0, 0.0]])).tolist(), labels(np.array([1, 0])).tolist()
    ([1, 0], [1, 0])

    Raises
    ------
    DataError
        If y holds no classes.
    """
    y = backend_of(y).to_numpy(y)
    if y.ndim == 2 and y.shape[1] > 1:
        if ((y != 0) & (y != 1)).any() or (y.sum(axis=1) != 1).any():
            raise DataError("class_weight is for classes, and the rows of y are not one-hot")
        return y.argmax(axis=1)
    column = y.reshape(-1)
    with np.errstate(invalid="ignore"):
        classes = column.astype("int64")
    if (classes != column).any():
        wrong = column[np.argmax(classes != column)]
        raise DataError(f"class_weight is for classes, which are integers, and y holds {wrong}")
    return classes


def check_class_weight(given: Any) -> ClassWeight:
    """Return class weights if they are some, and refuse what is none.

    Raises
    ------
    TypeError, ValueError
    """
    if isinstance(given, str) and given == "balanced":
        return "balanced"
    if not isinstance(given, Mapping):
        raise TypeError(
            f"class_weight is a dict from class to weight, {{0: 1.0, 1: 5.0}}, or 'balanced', and "
            f"not {given!r}"
        )
    return {
        # Labels may be truth values, which are the classes 0 and 1.
        check_integer(
            "a class of class_weight", int(kind) if isinstance(kind, bool | np.bool_) else kind, 0
        ): check_number(f"the weight of class {kind}", value)
        for kind, value in given.items()
    }


def balance(totals: Mapping[int, float]) -> dict[int, float]:
    """Return the weights that let all classes count the same, w_k = Σ_j W_j / (K W_k).

    W_k is the total weight of class k's rows, their number where rows have no weights of their own.

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
