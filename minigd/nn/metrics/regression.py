"""Metrics for numbers: how far predictions are from targets."""

import math
from typing import Any

import numpy as np

from minigd.backends.base import backend_of
from minigd.errors import ShapeError
from minigd.nn import moments
from minigd.nn.metrics.base import Metric
from minigd.types import Array


class Difference(Metric):
    """A metric that compares outputs and targets number by number, in float64."""

    def check(self, y: Array, shape: tuple[int, ...]) -> None:
        """Refuse targets of another shape than the outputs."""
        if y.shape != shape and not (shape[1] == 1 and y.shape == shape[:1]):
            raise ShapeError(
                f"{type(self).__name__} compares element by element, but y has shape {y.shape} "
                f"while the outputs have shape {shape}: leave this metric out"
            )

    def errors(self, prediction: Array, y: Array) -> Array:
        """Return prediction − y, of shape (n, K), in float64 because squares may overflow.

        >>> import numpy as np
        >>> largest = np.finfo("float32").max
        >>> errors = MeanAbsoluteError().errors(np.array([[largest]]), np.array([-largest]))
        >>> float(errors[0, 0]) == 2 * float(largest)
        True
        """
        return prediction.astype("float64") - y.reshape(prediction.shape)


class MeanAbsoluteError(Difference):
    """The mean of ``|prediction − y|`` over the outputs and the rows.

    Examples
    --------
    >>> import numpy as np
    >>> MeanAbsoluteError().per_example(np.array([[1.0], [3.0]]), np.array([2.0, 3.5]))
    array([1. , 0.5])
    """

    def per_example(self, prediction: Array, y: Array) -> Array:
        """Return the absolute error of each row."""
        return abs(self.errors(prediction, y)).mean(axis=1)


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
        return (self.errors(prediction, y) ** 2).mean(axis=1)


class RootMeanSquaredError(MeanSquaredError):
    """The root of the mean squared error over all rows of an epoch, in the units of y.

    Examples
    --------
    >>> import numpy as np
    >>> total = RootMeanSquaredError().total(np.array([[3.0], [1.0]]), np.array([0.0, 5.0]), None)
    >>> round(RootMeanSquaredError().value(total, 2.0), 4)
    3.5355
    """

    def value(self, total: Any, weight: float) -> float:
        """Return the root of the mean."""
        return math.sqrt(super().value(total, weight))


class MeanAbsolutePercentageError(Difference):
    """The mean of ``|prediction − y| / |y|`` over the outputs and the rows. 0.1 means 10 %.

    ``|y|`` is at least 2.2e-16, as in scikit-learn. So a target of 0 makes the mean huge.

    Examples
    --------
    >>> import numpy as np
    >>> metric = MeanAbsolutePercentageError()
    >>> metric.per_example(np.array([[1.0], [3.0]]), np.array([2.0, 4.0]))
    array([0.5 , 0.25])
    """

    def per_example(self, prediction: Array, y: Array) -> Array:
        """Return the relative error of each row."""
        size = abs(y.reshape(prediction.shape).astype("float64"))
        errors = abs(self.errors(prediction, y))
        return (errors / np.maximum(size, float(np.finfo("float64").eps))).mean(axis=1)


class MedianAbsoluteError(Difference):
    """The median of ``|prediction − y|`` over the rows, averaged over the outputs.

    With weights, the rows with smaller errors and those with larger errors each have at most half
    of the total weight. If this holds for two errors, the median is their mean. The errors are kept
    until the end of the epoch: 8 bytes for each output and weight of a row.

    Examples
    --------
    >>> import numpy as np
    >>> metric = MedianAbsoluteError()
    >>> rows = metric.total(np.array([[1.0], [3.0], [9.0]]), np.array([2.0, 3.5, 4.0]), None)
    >>> metric.value(rows, 3.0)
    1.0
    """

    needs_rows = True

    def total(self, prediction: Array, y: Array, weight: Array | None) -> Array:
        """Return the absolute errors and the weight of each row, side by side."""
        n, outputs = prediction.shape
        rows = backend_of(prediction).empty((n, outputs + 1), "float64")
        rows[:, :outputs] = abs(self.errors(prediction, y))
        rows[:, -1] = 1 if weight is None else weight
        return rows

    def value(self, total: Any, weight: float) -> float:
        """Return the mean over the outputs of the median of their errors."""
        total = total[total[:, -1] > 0]
        return float(np.mean([_median(errors, total[:, -1]) for errors in total[:, :-1].T]))


def _median(values: Array, weights: Array) -> float:
    """Return the median of numbers with weights above 0. If one is NaN, the median is NaN."""
    order = np.argsort(values)
    values, sums = values[order], np.cumsum(weights[order])
    if np.isnan(values[-1]):
        return math.nan
    half = sums[-1] / 2
    low = np.searchsorted(sums, half * (1 - 1e-14))
    high = min(int(np.searchsorted(sums, half * (1 + 1e-14), side="right")), len(values) - 1)
    return float((values[low] + values[high]) / 2)


class R2(Difference):
    """The coefficient of determination, 1 − Σ_i w_i (y_i − ŷ_i)² / Σ_i w_i (y_i − ȳ)².

    ȳ is the weighted mean over all rows of the epoch. With several outputs, R² is their mean. For a
    constant y, R² is 1 if the predictions are exact, and 0 otherwise.

    Examples
    --------
    >>> import numpy as np
    >>> total = R2().total(np.array([[1.0], [2.0], [4.0]]), np.array([1.0, 2.0, 3.0]), None)
    >>> R2().value(total, 3.0)
    0.5

    Source: Wright (1921), "Correlation and causation"; the sums of batches are combined as in
    `minigd.nn.moments`.
    """

    more_is_better = True

    def total(self, prediction: Array, y: Array, weight: Array | None) -> Array:
        """Return for each output Σw, the mean of y, its squared deviations, the squared errors."""
        squares = self.errors(prediction, y) ** 2
        n, mean, deviations = moments.of_columns(y.reshape(prediction.shape), weight)
        w = 1.0 if weight is None else weight[:, None]
        return np.stack([n + 0 * mean, mean, deviations, (w * squares).sum(axis=0)])

    def merge(self, one: Array, other: Array) -> Array:
        """Return the total of two parts from their totals."""
        a, b = (moments.Part(part[0], part[1], part[2]) for part in (one, other))
        both = moments.merged(a, b)
        return np.stack([*both, one[3] + other[3]])

    def value(self, total: Any, weight: float) -> float:
        """Return the mean over the outputs."""
        squares, errors = total[2], total[3]
        exact = np.where(errors == 0, 1.0, 0.0)
        return float(
            np.where(squares > 0, 1 - errors / np.where(squares > 0, squares, 1), exact).mean()
        )
