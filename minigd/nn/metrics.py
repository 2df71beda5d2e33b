"""Metrics: what people want to know besides the loss, over all rows of an epoch.

Each batch adds to a total, from which the metric's value follows at the end: it is never the mean
of the batches' values, and the short last batch counts by its rows.
"""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from minigd.backends.base import backend_of
from minigd.errors import (
    DataError,
    ShapeError,
    check_integer,
    check_list,
    check_per_example,
    find_by_name,
)
from minigd.nn import moments
from minigd.storage.describe import arguments
from minigd.types import Array


class Metric:
    """A mean over rows; a subclass defines `per_example`.

    One that is not a mean defines `total` and `value`, and `merge` where totals do not simply add.
    """

    more_is_better: bool = False
    """Whether a larger value is a better one, for `minigd.EarlyStopping`."""

    needs_rows: bool = False
    """Whether a total is rows, of which all of an epoch are put one below the other."""

    ranks: bool = False
    """Whether only the order of the rows counts. Where the loss takes logits, such a metric gets
    log-odds in place of probabilities, which are in the same order and do not round to 1."""

    def per_example(self, prediction: Array, y: Array) -> Array:
        """Return a number for each row, of shape (n,).

        Parameters
        ----------
        prediction : Array, shape (n, K)
            The model's outputs; probabilities where the loss takes logits (see `ranks`).
        y : Array, shape (n,) or (n, K)
        """
        raise NotImplementedError(f"{type(self).__name__} must define per_example(prediction, y)")

    def total(self, prediction: Array, y: Array, weight: Array | None) -> Array:
        """Return the total of a batch, in float64: Σ_i w_i m_i, where w is 1 without weights.

        Parameters
        ----------
        prediction : Array, shape (n, K)
        y : Array, shape (n,) or (n, K)
        weight : Array, shape (n,), or None
        """
        each = self.per_example(prediction, y)
        check_per_example(self, each, len(prediction))
        return (each.astype("float64") if weight is None else each * weight).sum()

    def merge(self, one: Array, other: Array) -> Array:
        """Return the total of two parts from their totals."""
        return one + other

    def value(self, total: Any, weight: float) -> float:
        """Return the metric from the total of an epoch, on the host, and its weight Σ_i w_i."""
        return float(total) / weight

    def check(self, y: Array, shape: tuple[int, ...]) -> None:
        """Refuse targets that this metric can't compare with outputs of this shape."""

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return arguments(self)


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

    more_is_better = True

    def check(self, y: Array, shape: tuple[int, ...]) -> None:
        """Refuse rows that have no one class that could be right."""
        check_classes("accuracy", y, shape)

    def per_example(self, prediction: Array, y: Array) -> Array:
        """Return 1 for each right row and 0 for each wrong one."""
        if prediction.shape[1] == 1:
            right = (prediction > 0.5) == (y.reshape(-1, 1) > 0.5)
            return right[:, 0].astype("float64")
        labels = y.argmax(axis=1) if y.shape == prediction.shape else y.reshape(-1)
        return (prediction.argmax(axis=1) == labels).astype("float64")


class Counted(Metric):
    """A metric from the counts of right and wrong rows of each class.

    For one output, cut at ½, or two it is that of class `positive`; for more it is the mean over
    the classes that occur, in y or in the predictions. Where a count divided by is 0 it is 0.

    Parameters
    ----------
    positive : {1, 0}
        Of two classes, the one in question.
    """

    more_is_better = True

    def __init__(self, positive: int = 1) -> None:
        self.positive = check_positive(positive)

    def check(self, y: Array, shape: tuple[int, ...]) -> None:
        """Refuse rows that have no one class that could be right."""
        check_classes(_name(self), y, shape)

    def total(self, prediction: Array, y: Array, weight: Array | None) -> Array:
        """Return the weights of rows truly predicted, predicted, and true, for each class."""
        classes = max(2, prediction.shape[1])
        if prediction.shape[1] == 1:
            chosen, true = prediction[:, 0] > 0.5, y.reshape(-1) > 0.5
        else:
            chosen = prediction.argmax(axis=1)
            true = y.argmax(axis=1) if y.shape == prediction.shape else y.reshape(-1)
        kinds = backend_of(prediction).xp.arange(classes)
        chosen, true = chosen[:, None] == kinds, true[:, None] == kinds
        counts = np.stack([chosen & true, chosen, true])
        each = counts.astype("float64") if weight is None else counts * weight[:, None]
        return each.sum(axis=1)

    def value(self, total: Any, weight: float) -> float:
        """Return the metric of class `positive`, or the mean over the classes."""
        right, chosen, true = total
        with np.errstate(divide="ignore", invalid="ignore"):
            each = np.nan_to_num(self.of_counts(right, chosen, true), nan=0.0)
        return float(each[self.positive] if len(each) == 2 else each[chosen + true > 0].mean())

    def of_counts(self, right: Array, chosen: Array, true: Array) -> Array:
        """Return the metric of each class."""
        raise NotImplementedError(f"{type(self).__name__} must define of_counts")


class Precision(Counted):
    """The share of rows predicted to be of a class that are; see `Counted` for several classes.

    Examples
    --------
    >>> import numpy as np
    >>> total = Precision().total(np.array([[0.9], [0.8], [0.7]]), np.array([1, 1, 0]), None)
    >>> round(Precision().value(total, 3.0), 4)
    0.6667
    """

    def of_counts(self, right: Array, chosen: Array, true: Array) -> Array:
        """Return right / chosen."""
        return right / chosen


class Recall(Counted):
    """The share of rows of a class that are predicted to be; see `Counted` for several classes.

    Examples
    --------
    >>> import numpy as np
    >>> total = Recall().total(np.array([[0.9], [0.2], [0.7]]), np.array([1, 1, 0]), None)
    >>> Recall().value(total, 3.0)
    0.5
    """

    def of_counts(self, right: Array, chosen: Array, true: Array) -> Array:
        """Return right / true."""
        return right / true


class F1(Counted):
    """The harmonic mean of precision and recall; see `Counted` for several classes.

    Examples
    --------
    >>> import numpy as np
    >>> total = F1().total(np.array([[0.9], [0.8], [0.2]]), np.array([1, 0, 1]), None)
    >>> F1().value(total, 3.0)
    0.5
    """

    def of_counts(self, right: Array, chosen: Array, true: Array) -> Array:
        """Return 2 right / (chosen + true)."""
        return 2 * right / (chosen + true)


class Ranked(Metric):
    """A metric of the order in which a class's scores put the rows; a subclass defines `of_ranks`.

    For one output or two it is that of class `positive`; for more, the mean over the classes of
    each against the rest. An epoch in which a class does not occur has none, NaN. The predictions
    are kept until the end of the epoch: 8 bytes for each output, target and weight of a row. Under
    a cross-entropy from logits, which is what a last Sigmoid or Softmax is trained on, rows are
    ranked by log-odds: in float32 the probabilities of logits 18 and 25 are both 1.

    Parameters
    ----------
    positive : {1, 0}
        Of two classes, the one in question.
    """

    more_is_better = True
    needs_rows = True
    ranks = True

    def __init__(self, positive: int = 1) -> None:
        self.positive = check_positive(positive)

    def check(self, y: Array, shape: tuple[int, ...]) -> None:
        """Refuse rows that have no one class that could be right."""
        check_classes(_name(self), y, shape)

    def total(self, prediction: Array, y: Array, weight: Array | None) -> Array:
        """Return the outputs, the class and the weight of each row, side by side."""
        n, classes = prediction.shape
        rows = backend_of(prediction).empty((n, classes + 2), "float64")
        rows[:, :classes] = prediction
        several = classes > 1 and y.shape == prediction.shape
        rows[:, -2] = y.argmax(axis=1) if several else y.reshape(-1)
        rows[:, -1] = 1 if weight is None else weight
        return rows

    def value(self, total: Any, weight: float) -> float:
        """Return the metric of class `positive`, or the mean over the classes."""
        total = total[total[:, -1] > 0]
        scores, true, weights = total[:, :-2], total[:, -2].round(), total[:, -1]
        classes = scores.shape[1]
        if len(np.unique(true)) < max(2, classes) or np.isnan(scores).any():
            return math.nan
        if classes == 1:
            scores = np.hstack([-scores, scores])
        which = [self.positive] if classes <= 2 else range(classes)
        each = [self.of_ranks(*_ranked(scores[:, k], true == k, weights)) for k in which]
        return float(np.mean(each))

    def of_ranks(self, inside: Array, outside: Array) -> float:
        """Return the metric from the weights of the rows inside and outside of a class.

        Parameters
        ----------
        inside, outside : Array, shape (scores,)
            For each different score, from the highest down.
        """
        raise NotImplementedError(f"{type(self).__name__} must define of_ranks")


def _ranked(scores: Array, inside: Array, weights: Array) -> tuple[Array, Array]:
    """Return the weights inside and outside of a class for each score, from the highest down."""
    _, places = np.unique(-scores, return_inverse=True)
    places = places.reshape(-1)
    return np.bincount(places, weights * inside), np.bincount(places, weights * ~inside)


class RocAuc(Ranked):
    """The area under the ROC curve: how often a row of class 1 scores above one of class 0.

    Rows with one score count ½. See `Ranked` for several classes; of two, both have the same area.

    Examples
    --------
    >>> import numpy as np
    >>> total = RocAuc().total(np.array([[0.9], [0.4], [0.6]]), np.array([1, 1, 0]), None)
    >>> RocAuc().value(total, 3.0)
    0.5

    Source: Hanley and McNeil (1982), "The meaning and use of the area under a receiver operating
    characteristic (ROC) curve", Radiology 143.
    """

    def of_ranks(self, inside: Array, outside: Array) -> float:
        """Return Σ_s inside_s (outside below s + ½ outside_s) / (Σ inside · Σ outside)."""
        below = np.cumsum(outside[::-1])[::-1] - outside
        return float(inside @ (below + outside / 2) / (inside.sum() * outside.sum()))


class AveragePrecision(Ranked):
    """The mean of the precision at each row of a class, ranked by its score.

    It is the area under the curve of precision by recall, in steps, and that of a random order is
    the share of the class: it says more than `RocAuc` where a class is rare. See `Ranked`.

    Examples
    --------
    >>> import numpy as np
    >>> total = AveragePrecision().total(np.array([[0.9], [0.4], [0.6]]), np.array([1, 1, 0]), None)
    >>> round(AveragePrecision().value(total, 3.0), 4)
    0.8333
    """

    def of_ranks(self, inside: Array, outside: Array) -> float:
        """Return Σ_s (inside_s / Σ inside) · precision of all rows that score at least s."""
        right, chosen = np.cumsum(inside), np.cumsum(inside + outside)
        return float(inside @ (right / chosen) / right[-1])


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


METRICS: dict[str, type[Metric]] = {
    "accuracy": Accuracy,
    "precision": Precision,
    "recall": Recall,
    "f1": F1,
    "roc_auc": RocAuc,
    "average_precision": AveragePrecision,
    "mae": MeanAbsoluteError,
    "mean_absolute_error": MeanAbsoluteError,
    "mse": MeanSquaredError,
    "mean_squared_error": MeanSquaredError,
    "rmse": RootMeanSquaredError,
    "root_mean_squared_error": RootMeanSquaredError,
    "r2": R2,
}


_COLUMNS = ("loss", "seconds", "updates")
"""What a history holds beside metrics."""


def get_metric(which: str | Metric) -> Metric:
    """Return the metric of a name, or the metric given.

    Raises
    ------
    ValueError
        If the name is not known; the message lists the ones that are.
    """
    return which if isinstance(which, Metric) else find_by_name("metric", which, METRICS)()


def get_metrics(
    which: Iterable[str | Metric] | Mapping[str, str | Metric] | None,
) -> dict[str, Metric]:
    """Return metrics under the keys that a history holds them by.

    Of a list those are the names given, or the classes' own; a dict gives keys of the caller's.

    Raises
    ------
    TypeError
        If one metric stands where several are expected, or a key is not a text.
    ValueError
        If a name is not known, or a key comes twice or is one that a history has.

    Examples
    --------
    >>> list(get_metrics(["mae", Accuracy()]))
    ['mae', 'accuracy']
    >>> list(get_metrics({"error": "mae"}))
    ['error']
    """
    metrics = [] if isinstance(which, Mapping) else check_list("metrics", which, "metric")
    given = which.items() if isinstance(which, Mapping) else [(_name(m), m) for m in metrics]
    named: dict[str, Metric] = {}
    for name, metric in given:
        if not isinstance(name, str) or name in (*named, *_COLUMNS) or name.startswith("val_"):
            raise _no_key(name, named)
        named[name] = get_metric(metric)
    return named


def _no_key(name: object, named: Mapping[str, Metric]) -> Exception:
    """Return the error for a key that a metric can't have in a history."""
    if not isinstance(name, str):
        return TypeError(f"the keys of metrics are names, such as 'r2', and not {name!r}")
    if name in named:
        return ValueError(
            f"two metrics have the name {name!r}: choose other names, "
            "metrics={'one': ..., 'other': ...}"
        )
    return ValueError(
        f"a history already has a column {name!r}: give the metric another name, "
        "metrics={'another': ...}"
    )


def _name(metric: str | Metric) -> str:
    if isinstance(metric, str):
        return metric
    words = re.findall("[A-Z][a-z0-9]*", type(metric).__name__)
    return "_".join(words).lower() or type(metric).__name__


def check_positive(positive: Any) -> int:
    """Return which of two classes a metric is of."""
    if check_integer("positive", positive, 0) > 1:
        raise ValueError(f"positive is one of two classes, 0 or 1, not {positive}")
    return int(positive)


def check_classes(name: str, y: Array, shape: tuple[int, ...]) -> None:
    """Refuse targets that hold no class for each row.

    Raises
    ------
    DataError
    """
    if shape[1] == 1:
        bad = float(y.min()) < 0 or float(y.max()) > 1
    else:
        bad = y.shape == shape and float(abs(y.sum(axis=1) - 1).max()) > 1e-3
    if bad:
        raise _no_classes(name, y, shape)


def _no_classes(name: str, y: Array, shape: tuple[int, ...]) -> DataError:
    if shape[1] == 1:
        return DataError(
            f"{name} is for classes, and y holds {float(y.min()):g} to {float(y.max()):g}: for one "
            "output they are 0 and 1; for numbers use 'mae' or 'mse'"
        )
    return DataError(
        f"{name} is for rows of one class, and rows of y do not sum to 1: for several yes-or-no "
        "outputs per row, leave this metric out"
    )
