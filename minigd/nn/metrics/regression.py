"""Metrics of numbers: how far predictions are from targets."""

import math
from typing import Any

import numpy as np

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
                f"{type(self).__name__} compares number by number, and y has shape {y.shape} while "
                f"the outputs have shape {shape}: leave this metric out"
            )

    def errors(self, prediction: Array, y: Array) -> Array:
        """Return prediction − y, of shape (n, K), whose squares the dtype of a model may not hold.

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


class R2(Difference):
    """The coefficient of determination, 1 − Σ_i w_i (y_i − ŷ_i)² / Σ_i w_i (y_i − ȳ)².

    ȳ is the weighted mean over all rows of the epoch, and of several outputs the mean is taken. A
    constant y has R² = 1 where the predictions are exact, and 0 otherwise.

    Examples
    --------
    >>> import numpy as np
    >>> total = R2().total(np.array([[1.0], [2.0], [4.0]]), np.array([1.0, 2.0, 3.0]), None)
    >>> R2().value(total, 3.0)
    0.5

    Source: Wright (1921), "Correlation and causation"; the sums of batches are put together as
    `minigd.nn.moments` does.
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
