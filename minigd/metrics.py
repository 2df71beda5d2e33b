"""Metrics: what people want to know besides the loss, over all rows of an epoch.

A metric gives a number for each row; sums of them are carried over the batches, so that the short
last batch counts by its rows.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from minigd import state
from minigd.backend import Array
from minigd.errors import DataError, ShapeError, unknown_name


class Metric:
    """A mean over rows; a subclass defines `per_example`."""

    def per_example(self, prediction: Array, y: Array) -> Array:
        """Return a number for each row, of shape (n,).

        Parameters
        ----------
        prediction : Array, shape (n, K)
            The model's outputs; probabilities where the loss takes logits.
        y : Array, shape (n,) or (n, K)
        """
        raise NotImplementedError(f"{type(self).__name__} must define per_example(prediction, y)")

    def check(self, y: Array, shape: tuple[int, ...]) -> None:
        """Refuse targets that this metric can't compare with outputs of this shape."""

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return state.arguments(self)


class Accuracy(Metric):
    """The share of rows whose predicted class is the true one.

    One output is a probability of class 1 and is cut at ½; of several, the largest wins.

    Examples
    --------
    >>> import numpy as np
    >>> Accuracy().per_example(np.array([[0.2, 0.8], [0.6, 0.4]]), np.array([1, 1]))
    array([1., 0.])
    >>> Accuracy().per_example(np.array([[0.8], [0.4]]), np.array([1, 0]))
    array([1., 1.])
    """

    def check(self, y: Array, shape: tuple[int, ...]) -> None:
        """Refuse rows that have no one class that could be right."""
        if shape[1] == 1 and (float(y.min()) < 0 or float(y.max()) > 1):
            raise DataError(
                f"accuracy is for classes, and y holds {float(y.min()):g} to {float(y.max()):g}: "
                "for one output they are 0 and 1; for numbers use 'mae' or 'mse'"
            )
        if shape[1] > 1 and y.shape == shape and float(abs(y.sum(axis=1) - 1).max()) > 1e-3:
            raise DataError(
                "accuracy counts rows whose largest output is the true class, and rows of y do not "
                "sum to 1: for several yes-or-no outputs a row, leave this metric out"
            )

    def per_example(self, prediction: Array, y: Array) -> Array:
        """Return 1 for each right row and 0 for each wrong one."""
        if prediction.shape[1] == 1:
            right = (prediction > 0.5) == (y.reshape(-1, 1) > 0.5)
            return right[:, 0].astype("float64")
        labels = y.argmax(axis=1) if y.shape == prediction.shape else y.reshape(-1)
        return (prediction.argmax(axis=1) == labels).astype("float64")


class Difference(Metric):
    """A metric that compares outputs and targets number by number."""

    def check(self, y: Array, shape: tuple[int, ...]) -> None:
        """Refuse targets of another shape than the outputs."""
        if y.shape != shape and not (shape[1] == 1 and y.shape == shape[:1]):
            raise ShapeError(
                f"{type(self).__name__} compares number by number, and y has shape {y.shape} while "
                f"the outputs have shape {shape}: leave this metric out"
            )


class MeanAbsoluteError(Difference):
    """The mean of |prediction − y| over the outputs and the rows.

    Examples
    --------
    >>> import numpy as np
    >>> MeanAbsoluteError().per_example(np.array([[1.0], [3.0]]), np.array([2.0, 3.5]))
    array([1. , 0.5])
    """

    def per_example(self, prediction: Array, y: Array) -> Array:
        """Return the absolute error of each row."""
        return abs(prediction - y.reshape(prediction.shape)).mean(axis=1)


class MeanSquaredError(Difference):
    """The mean of (prediction − y)² over the outputs and the rows.

    Examples
    --------
    >>> import numpy as np
    >>> MeanSquaredError().per_example(np.array([[1.0], [3.0]]), np.array([2.0, 3.5]))
    array([1.  , 0.25])
    """

    def per_example(self, prediction: Array, y: Array) -> Array:
        """Return the squared error of each row."""
        return ((prediction - y.reshape(prediction.shape)) ** 2).mean(axis=1)


METRICS: dict[str, type[Metric]] = {
    "accuracy": Accuracy,
    "mae": MeanAbsoluteError,
    "mean_absolute_error": MeanAbsoluteError,
    "mse": MeanSquaredError,
    "mean_squared_error": MeanSquaredError,
}


def get_metric(which: str | Metric) -> Metric:
    """Return the metric of a name, or the metric given.

    Raises
    ------
    ValueError
        If the name is not known; the message lists the ones that are.
    """
    if isinstance(which, Metric):
        return which
    if isinstance(which, str) and which in METRICS:
        return METRICS[which]()
    raise unknown_name("metric", which, METRICS)


def get_metrics(which: Iterable[str | Metric] | Mapping[str, Metric]) -> dict[str, Metric]:
    """Return metrics under the keys that a history holds them by: the name given, or the class's.

    >>> list(get_metrics(["mae", Accuracy()]))
    ['mae', 'accuracy']
    """
    if isinstance(which, Mapping):
        return dict(which)
    if isinstance(which, str):
        raise TypeError(f"metrics is a list of names, [{which!r}], and not one name")
    named = {m if isinstance(m, str) else _name(m): get_metric(m) for m in which}
    for name in named:
        if name in ("loss", "seconds", "updates") or name.startswith("val_"):
            raise ValueError(f"a history has a column {name!r} of its own: rename the metric")
    return named


def _name(metric: Metric) -> str:
    words = re.findall("[A-Z][a-z0-9]*", type(metric).__name__)
    return "_".join(words).lower() or type(metric).__name__
