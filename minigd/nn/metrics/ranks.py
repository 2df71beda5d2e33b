"""Metrics of the order of the rows by the scores of a class."""

import math
from typing import Any

import numpy as np

from minigd.backends.base import backend_of
from minigd.nn.metrics.base import Metric, name_of
from minigd.nn.metrics.classes import check_classes, check_positive
from minigd.types import Array


class Ranked(Metric):
    """A metric of the order of the rows by the scores of a class. A subclass defines `of_ranks`.

    For one output or two, it is the metric of class `positive`. For more, it is the mean over the
    classes, each against the rest. If a class does not occur in an epoch, it is NaN. The
    predictions are kept until the end of the epoch: 8 bytes for each output, target and weight of a
    row. With a cross-entropy from logits, which is used to train a last Sigmoid or Softmax, rows
    are ranked by log-odds: in float32 the probabilities of logits 18 and 25 are both 1.

    Parameters
    ----------
    positive : {1, 0}
        The class to measure, if there are two.
    """

    more_is_better = True
    needs_rows = True
    ranks = True

    def __init__(self, positive: int = 1) -> None:
        self.positive = check_positive(positive)

    def check(self, y: Array, shape: tuple[int, ...]) -> None:
        """Refuse rows that have no one class that could be right."""
        check_classes(name_of(self), y, shape)

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
    """The area under the ROC curve: how often a row of class 1 scores higher than one of class 0.

    Equal scores count ½. For several classes, see `Ranked`. Of two classes, both have the same
    area.

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

    It is the area under the precision-recall curve, in steps. For a random order it is the share of
    the class. So it says more than `RocAuc` if a class is rare. See `Ranked`.

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
