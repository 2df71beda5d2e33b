"""Metrics of the probabilities of classes, and of the k most probable classes."""

import numpy as np

from minigd.backends.base import backend_of
from minigd.errors import ShapeError, check_integer
from minigd.nn.metrics.base import Metric, name_of
from minigd.nn.metrics.classes import check_classes
from minigd.types import Array


class LogLoss(Metric):
    """The mean of −log p, where p is the predicted probability of a row's true class.

    p is limited to the range from ε to 1 − ε, with the rounding ε of the predictions' dtype, as in
    scikit-learn. If a prediction is not a probability, the value of the epoch is NaN.

    Examples
    --------
    >>> import numpy as np
    >>> LogLoss().per_example(np.array([[0.5], [0.75]]), np.array([1, 0])).round(4)
    array([0.6931, 1.3863])
    """

    def check(self, y: Array, shape: tuple[int, ...]) -> None:
        """Refuse rows that have no one class that could be right."""
        check_classes("log_loss", y, shape)

    def per_example(self, prediction: Array, y: Array) -> Array:
        """Return −Σ_k y_k log p_k for each row."""
        p, xp = prediction.astype("float64"), backend_of(prediction).xp
        if p.shape[1] == 1:
            p, y = xp.concatenate([1 - p, p], axis=1), y.reshape(-1, 1)
            y = xp.concatenate([1 - y.astype("float64"), y.astype("float64")], axis=1)
        elif y.shape != p.shape:
            y = y.reshape(-1, 1) == xp.arange(p.shape[1])
        limit = float(np.finfo(prediction.dtype).eps)
        limited = np.minimum(np.maximum(p, limit), 1 - limit)
        log_p = np.where((p >= 0) & (p <= 1), np.log(limited), np.nan)
        return -(y * log_p).sum(axis=1)


class TopKAccuracy(Metric):
    """The share of rows whose true class is among the k with the largest outputs.

    Among equal outputs, the later class ranks higher, as in scikit-learn.

    Parameters
    ----------
    k : int, default 2
        As a name: ``"top_5_accuracy"``.

    Examples
    --------
    >>> import numpy as np
    >>> p = np.array([[0.2, 0.5, 0.3], [0.1, 0.2, 0.7]])
    >>> TopKAccuracy(2).per_example(p, np.array([2, 0]))
    array([1., 0.])
    """

    more_is_better = True
    ranks = True

    def __init__(self, k: int = 2) -> None:
        self.k = check_integer("k", k)

    def check(self, y: Array, shape: tuple[int, ...]) -> None:
        """Refuse rows without one class, and outputs that are not more than k."""
        check_classes(name_of(self), y, shape)
        if self.k >= max(2, shape[1]):
            raise ShapeError(
                f"TopKAccuracy({self.k}) is always 1 for {max(2, shape[1])} classes: give a k "
                f"below {max(2, shape[1])}, such as TopKAccuracy(1), or 'accuracy'"
            )

    def per_example(self, prediction: Array, y: Array) -> Array:
        """Return 1 for each row whose true class is among the first k, and 0 for the others."""
        xp = backend_of(prediction).xp
        if prediction.shape[1] == 1:
            prediction = xp.concatenate([-prediction, prediction], axis=1)
            y = y.reshape(-1) > 0.5
        labels = y.argmax(axis=1) if y.shape == prediction.shape else y.reshape(-1)
        kinds, own = xp.arange(prediction.shape[1]), labels.astype("int64")[:, None]
        score = np.where(kinds == own, prediction, -np.inf).max(axis=1, keepdims=True)
        before = (prediction > score) | ((prediction == score) & (kinds > own))
        return (before.sum(axis=1) < self.k).astype("float64")
