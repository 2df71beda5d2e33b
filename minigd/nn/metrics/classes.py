"""Metrics of the predicted class: accuracy, precision, recall and F1."""

from typing import Any

import numpy as np

from minigd.backends.base import backend_of
from minigd.errors import DataError, check_integer
from minigd.nn.metrics.base import Metric, name_of
from minigd.types import Array


class Accuracy(Metric):
    """The share of rows whose predicted class is the true one.

    A single output is the probability of class 1, with the threshold ½. Of several outputs, the
    largest is the prediction.

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

    For one output, with the threshold ½, or two, it is the metric of class `positive`. For more, it
    is the mean over the classes that occur in y or in the predictions. It is 0 if the divisor is 0.

    Parameters
    ----------
    positive : {1, 0}
        The class to measure, if there are two.
    """

    more_is_better = True

    def __init__(self, positive: int = 1) -> None:
        self.positive = check_positive(positive)

    def check(self, y: Array, shape: tuple[int, ...]) -> None:
        """Refuse rows that have no one class that could be right."""
        check_classes(name_of(self), y, shape)

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
    """The share of right rows among those predicted as a class. For several classes, see `Counted`.

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
    """The share of right rows among those of a class. For several classes, see `Counted`.

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
    """The harmonic mean of precision and recall. For several classes, see `Counted`.

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


def check_positive(positive: Any) -> int:
    """Return the class to measure, if there are two."""
    if check_integer("positive", positive, 0) > 1:
        raise ValueError(f"positive must be 0 or 1, not {positive}")
    return int(positive)


def check_classes(name: str, y: Array, shape: tuple[int, ...]) -> None:
    """Refuse targets without one class per row.

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
        "outputs per row, use 'label_accuracy', 'exact_match', 'label_f1' and 'label_roc_auc'"
    )
