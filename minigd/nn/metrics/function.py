"""Metrics from plain functions of all rows of an epoch, and from scikit-learn's scorers."""

import inspect
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from minigd.backends.base import backend_of
from minigd.errors import (
    DataError,
    ShapeError,
    check_function,
    shown,
    unknown_name,
    validated,
)
from minigd.nn.metrics.base import Metric
from minigd.nn.metrics.probabilities import TopKAccuracy
from minigd.types import Array

_HEAD = 2
"""Columns before a row: the number of outputs, and whether the targets are integers."""


class KeptRows(Metric):
    """A metric of the predictions and targets of all rows, which are kept until the epoch ends."""

    needs_rows = True

    def total(self, prediction: Array, y: Array, weight: Array | None) -> Array:
        """Return the outputs, the targets and the weight of each row, side by side."""
        n, outputs = prediction.shape
        targets = y.reshape(n, -1)
        rows = backend_of(prediction).empty((n, _HEAD + outputs + targets.shape[1] + 1), "float64")
        rows[:, 0], rows[:, 1] = outputs, y.dtype.kind in "biu"
        rows[:, _HEAD : _HEAD + outputs], rows[:, _HEAD + outputs : -1] = prediction, targets
        rows[:, -1] = 1 if weight is None else weight
        return rows

    def value(self, total: Any, weight: float) -> float:
        """Return the metric of all rows with a weight above 0."""
        total = total[total[:, -1] > 0]
        end = _HEAD + int(total[0, 0])
        prediction, y, weights = total[:, _HEAD:end], total[:, end:-1], total[:, -1]
        if total[0, 1]:
            y = y.round().astype("int64")
        return self.of_rows(prediction, y if y.shape == prediction.shape else y[:, 0], weights)

    def of_rows(self, prediction: Array, y: Array, weight: Array) -> float:
        """Return the metric, on the host.

        Parameters
        ----------
        prediction : Array, shape (n, K)
        y : Array, shape (n, K), or (n,) for classes
        weight : Array, shape (n,)
        """
        raise NotImplementedError(f"{type(self).__name__} must define of_rows")


class FunctionMetric(KeptRows):
    """The metric of a function, on all rows of an epoch at once.

    A plain function given as a metric means ``FunctionMetric(function)``, under the function's
    name. It may return one number, or one number per row. Then the metric is their weighted mean.

    Parameters
    ----------
    function : callable
        From predictions of shape (n, K) and targets of the same shape, or classes of shape (n,). If
        its first argument is ``y_true``, as in scikit-learn, it gets the targets first, and single
        columns as shape (n,). If it has an argument ``sample_weight``, it gets the weights.
    more_is_better : bool, default False
        For `minigd.EarlyStopping`.

    Examples
    --------
    >>> import numpy as np
    >>> def worst(prediction, target):
    ...     return abs(prediction - target).max()
    >>> metric = FunctionMetric(worst)
    >>> rows = metric.total(np.array([[1.0], [3.0]]), np.array([[1.5], [3.0]]), None)
    >>> metric.value(rows, 2.0)
    0.5
    """

    @validated
    def __init__(self, function: Callable[..., Any], more_is_better: bool = False) -> None:
        check_function("function", function)
        self.function, self.more_is_better = function, more_is_better

    @property
    def history_key(self) -> str:
        """The function's name."""
        return str(getattr(self.function, "__name__", self.function))

    def of_rows(self, prediction: Array, y: Array, weight: Array) -> float:
        """Return what the function gives, or the weighted mean of it."""
        parameters = inspect.signature(self.function).parameters
        weighted = "sample_weight" in parameters
        more = {"sample_weight": weight} if weighted else {}
        if next(iter(parameters), "") == "y_true":
            column = prediction.shape[1] == 1
            one, other = (a.reshape(-1) if column else a for a in (y, prediction))
        else:
            one, other = prediction, y
        found = np.asarray(self.function(one, other, **more))
        if found.shape == (len(weight),) and len(weight) > 1:
            return float(np.average(found, weights=weight))
        if found.size != 1:
            raise ShapeError(
                f"the metric {self.history_key} returned shape {found.shape} for {len(weight)} "
                "rows: return one number, or one per row"
            )
        if not weighted and len(np.unique(weight)) > 1:
            raise DataError(
                f"the rows have weights, and the metric {self.history_key} returned one number "
                "without them: add a sample_weight argument, or return one number per row"
            )
        return float(found.reshape(-1)[0])


class ScorerMetric(KeptRows):
    """A scikit-learn scorer by name, such as ``"balanced_accuracy"``. Larger is better.

    With targets 0 and 1, one output is the probability of class 1. With classes or one-hot rows,
    several outputs are the probabilities of the classes. With other rows of 0 and 1, they are
    labels with the threshold ½. Anything else is a regression.

    Parameters
    ----------
    name : str

    Examples
    --------
    >>> import numpy as np
    >>> metric = ScorerMetric("balanced_accuracy")
    >>> rows = metric.total(np.array([[0.9], [0.2], [0.6]]), np.array([[1], [0], [0]]), None)
    >>> metric.value(rows, 3.0)
    0.75
    """

    more_is_better = True

    @validated
    def __init__(self, name: str) -> None:
        scorers = _scorers()
        if scorers and name not in scorers:
            raise unknown_name("scorer name", name, scorers)
        self.name = name

    @property
    def history_key(self) -> str:
        """The scorer's name."""
        return self.name

    def of_rows(self, prediction: Array, y: Array, weight: Array) -> float:
        """Return the score of a model that returns these predictions."""
        from sklearn.metrics import get_scorer

        model, y = _answers(prediction, y)
        more = {} if len(np.unique(weight)) == 1 else {"sample_weight": weight}
        return float(get_scorer(self.name)(model, np.zeros((len(y), 1)), y, **more))


def _answers(prediction: Array, y: Array) -> tuple[Any, Array]:
    """Return a fitted scikit-learn model that returns these predictions, and the targets."""
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

    flags = bool(((y == 0) | (y == 1)).all())
    one, classes = prediction.shape[1] == 1, np.arange(max(2, prediction.shape[1]))
    listed: Any = classes
    rows_of_flags = y.shape == prediction.shape and flags
    if (one and not flags) or (not one and y.ndim == 2 and not flags):
        mixin, p = RegressorMixin, prediction
        chosen = prediction[:, 0] if one else prediction
        y = y.reshape(-1) if one else y
    elif not one and rows_of_flags and not bool((y.sum(axis=1) == 1).all()):
        mixin, p, chosen = ClassifierMixin, prediction, (prediction > 0.5).astype(int)
        listed = [np.arange(2)] * prediction.shape[1]
    else:
        mixin = ClassifierMixin
        p = np.hstack([1 - prediction, prediction]) if one else prediction
        chosen = (prediction[:, 0] > 0.5).astype(int) if one else prediction.argmax(axis=1)
        y = y.reshape(-1) if one else y.argmax(axis=1) if y.ndim == 2 else y

    if p.shape[1] > 1 and not isinstance(listed, list):
        # In float32 the sum of a row's probabilities may differ from 1 by more than scikit-learn
        # allows.
        sums = p.sum(axis=1, keepdims=True)
        p = p / sums if float(abs(sums - 1).max()) < 1e-5 else p

    class Answers(mixin, BaseEstimator):  # type: ignore[misc, valid-type]
        classes_ = listed

        def __sklearn_is_fitted__(self) -> bool:
            return True

        def predict(self, X: Any) -> Any:
            return chosen

        if mixin is ClassifierMixin:

            def predict_proba(self, X: Any) -> Any:
                return p

    return Answers(), y


def other_metric(what: str, given: Any, known: Mapping[str, type[Metric]]) -> Callable[[], Metric]:
    """Return the maker of a metric for a plain function, a number k, or a scikit-learn scorer."""
    if isinstance(given, str):
        k = re.fullmatch("top_([0-9]+)_accuracy", given)
        if k is not None:
            return partial(TopKAccuracy, int(k[1]))
        if given in _scorers():
            return partial(ScorerMetric, given)
        raise unknown_name(what, given, known, _scorers())
    if hasattr(given, "_score_func"):  # as sklearn.metrics.make_scorer returns
        raise TypeError(
            f"{shown(given)} calls the model itself: pass the scorer's name, "
            "metrics=['r2'], or its metric function of (y_true, y_pred)"
        )
    if callable(given) and not isinstance(given, type):
        return partial(FunctionMetric, given)
    raise unknown_name(what, given, known)


def _scorers() -> list[str]:
    """Return the names of scikit-learn's scorers, or none if it is not installed."""
    try:
        from sklearn.metrics import get_scorer_names
    except ImportError:
        return []
    return list(get_scorer_names())
