"""Metrics of several yes-or-no labels per row, with the threshold ½."""

from typing import Any, Literal

import numpy as np

from minigd.backends.base import backend_of
from minigd.errors import DataError, ShapeError, validated
from minigd.nn.metrics.base import Metric, name_of
from minigd.nn.metrics.classes import F1, Counted, Precision, Recall
from minigd.nn.metrics.ranks import AveragePrecision, Ranked, RocAuc
from minigd.types import Array

Average = Literal["macro", "micro", "samples"]


class LabelAccuracy(Metric):
    """The share of right labels, over all rows and labels.

    Examples
    --------
    >>> import numpy as np
    >>> LabelAccuracy().per_example(np.array([[0.9, 0.2], [0.7, 0.6]]), np.array([[1, 1], [1, 1]]))
    array([0.5, 1. ])
    """

    more_is_better = True

    def check(self, y: Array, shape: tuple[int, ...]) -> None:
        """Refuse targets that are not a label for each output."""
        check_labels(self, y, shape)

    def per_example(self, prediction: Array, y: Array) -> Array:
        """Return the share of right labels of each row."""
        return _right(prediction, y).mean(axis=1)


class ExactMatch(LabelAccuracy):
    """The share of rows whose labels are all right: scikit-learn's accuracy of label rows.

    Examples
    --------
    >>> import numpy as np
    >>> ExactMatch().per_example(np.array([[0.9, 0.2], [0.7, 0.6]]), np.array([[1, 1], [1, 1]]))
    array([0., 1.])
    """

    def per_example(self, prediction: Array, y: Array) -> Array:
        """Return 1 for each row without a wrong label, and 0 for the others."""
        return _right(prediction, y).min(axis=1)


class LabelCounted(Counted):
    """A metric from the counts of right and wrong labels. It is 0 if the divisor is 0.

    Parameters
    ----------
    average : {"macro", "micro", "samples"}, default "macro"
        The mean over the labels; the metric of all labels counted together; or the mean over the
        rows of the metric of each row's labels.
    """

    @validated
    def __init__(self, average: Average = "macro") -> None:
        self.average = average

    def check(self, y: Array, shape: tuple[int, ...]) -> None:
        """Refuse targets that are not a label for each output."""
        check_labels(self, y, shape)

    def total(self, prediction: Array, y: Array, weight: Array | None) -> Array:
        """Return the weights of labels truly predicted, predicted, and true; or a sum over rows."""
        chosen, true = prediction > 0.5, y.reshape(prediction.shape) > 0.5
        counts = np.stack([chosen & true, chosen, true]).astype("float64")
        w = 1.0 if weight is None else weight[:, None]
        if self.average == "samples":
            return (self._of(*counts.sum(axis=2))[:, None] * w).sum()
        return (counts * w).sum(axis=1)

    def value(self, total: Any, weight: float) -> float:
        """Return the metric, averaged as requested."""
        if self.average == "samples":
            return float(total) / weight
        return float(self._of(*(total.sum(axis=1) if self.average == "micro" else total)).mean())

    def _of(self, right: Array, chosen: Array, true: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            found = self.of_counts(right, chosen, true)
            return np.where(found == found, found, 0.0)


class LabelPrecision(LabelCounted, Precision):
    """The share of right labels among those predicted as 1. For the averages, see `LabelCounted`.

    Examples
    --------
    >>> import numpy as np
    >>> metric = LabelPrecision("micro")
    >>> total = metric.total(np.array([[0.9, 0.8], [0.7, 0.1]]), np.array([[1, 0], [1, 1]]), None)
    >>> round(metric.value(total, 2.0), 4)
    0.6667
    """


class LabelRecall(LabelCounted, Recall):
    """The share of right labels among those that are 1. For the averages, see `LabelCounted`.

    Examples
    --------
    >>> import numpy as np
    >>> metric = LabelRecall()
    >>> total = metric.total(np.array([[0.9, 0.8], [0.7, 0.1]]), np.array([[1, 1], [1, 1]]), None)
    >>> metric.value(total, 2.0)
    0.75
    """


class LabelF1(LabelCounted, F1):
    """The harmonic mean of precision and recall. For the averages, see `LabelCounted`.

    Examples
    --------
    >>> import numpy as np
    >>> metric = LabelF1("samples")
    >>> total = metric.total(np.array([[0.9, 0.8], [0.7, 0.1]]), np.array([[1, 1], [1, 1]]), None)
    >>> round(metric.value(total, 2.0), 4)
    0.8333
    """


class LabelRanked(Ranked):
    """A metric of the order of the rows for each label, and the mean over the labels.

    If a label is always 0 or always 1 in an epoch, the metric is NaN. The predictions and labels
    are kept until the end of the epoch.
    """

    def __init__(self) -> None:
        super().__init__()

    def check(self, y: Array, shape: tuple[int, ...]) -> None:
        """Refuse targets that are not a label for each output."""
        check_labels(self, y, shape)

    def total(self, prediction: Array, y: Array, weight: Array | None) -> Array:
        """Return the outputs, the labels and the weight of each row, side by side."""
        n, labels = prediction.shape
        rows = backend_of(prediction).empty((n, 2 * labels + 1), "float64")
        rows[:, :labels], rows[:, labels:-1] = prediction, y.reshape(prediction.shape)
        rows[:, -1] = 1 if weight is None else weight
        return rows

    def value(self, total: Any, weight: float) -> float:
        """Return the mean over the labels."""
        labels = total.shape[1] // 2
        each = [
            super(LabelRanked, self).value(total[:, [k, labels + k, -1]], weight)
            for k in range(labels)
        ]
        return float(np.mean(each))


class LabelRocAuc(LabelRanked, RocAuc):
    """The mean over the labels of the area under the ROC curve; see `RocAuc`.

    Examples
    --------
    >>> import numpy as np
    >>> metric = LabelRocAuc()
    >>> rows = metric.total(np.array([[0.9, 0.8], [0.7, 0.1]]), np.array([[1, 0], [0, 1]]), None)
    >>> metric.value(rows, 2.0)
    0.5
    """


class LabelAveragePrecision(LabelRanked, AveragePrecision):
    """The mean over the labels of the average precision; see `AveragePrecision`.

    Examples
    --------
    >>> import numpy as np
    >>> metric = LabelAveragePrecision()
    >>> rows = metric.total(np.array([[0.9, 0.8], [0.7, 0.1]]), np.array([[1, 0], [0, 1]]), None)
    >>> metric.value(rows, 2.0)
    0.75
    """


def check_labels(metric: Metric, y: Array, shape: tuple[int, ...]) -> None:
    """Refuse targets that are not 0 or 1 for each output.

    Raises
    ------
    ShapeError, DataError
    """
    if shape[1] == 1 or y.size != shape[0] * shape[1]:
        raise ShapeError(
            f"{name_of(metric)} is for several yes-or-no labels per row, and y has shape {y.shape} "
            f"while the outputs have shape {shape}: for one class per row use 'accuracy', "
            "'precision', 'recall', 'f1' or 'roc_auc'"
        )
    if bool(((y != 0) & (y != 1)).any()):
        raise DataError(
            f"{name_of(metric)} is for labels 0 and 1, and y holds {float(y.min()):g} to "
            f"{float(y.max()):g}"
        )


def _right(prediction: Array, y: Array) -> Array:
    """Return 1 for each right label and 0 for each wrong one."""
    return ((prediction > 0.5) == (y.reshape(prediction.shape) > 0.5)).astype("float64")
