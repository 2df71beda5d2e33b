"""The metrics by their common names."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from minigd.errors import check_list, find_by_name
from minigd.nn.metrics.base import Metric, name_of
from minigd.nn.metrics.classes import F1, Accuracy, Precision, Recall
from minigd.nn.metrics.function import other_metric
from minigd.nn.metrics.labels import (
    ExactMatch,
    LabelAccuracy,
    LabelAveragePrecision,
    LabelF1,
    LabelPrecision,
    LabelRecall,
    LabelRocAuc,
)
from minigd.nn.metrics.probabilities import LogLoss, TopKAccuracy
from minigd.nn.metrics.ranks import AveragePrecision, RocAuc
from minigd.nn.metrics.regression import (
    R2,
    MeanAbsoluteError,
    MeanAbsolutePercentageError,
    MeanSquaredError,
    MedianAbsoluteError,
    RootMeanSquaredError,
)

MetricLike: TypeAlias = str | Metric | Callable[..., Any]
"""How to give a metric: as a name, an object, or a function of predictions and targets."""

METRICS: dict[str, type[Metric]] = {
    "accuracy": Accuracy,
    "precision": Precision,
    "recall": Recall,
    "f1": F1,
    "roc_auc": RocAuc,
    "average_precision": AveragePrecision,
    "log_loss": LogLoss,
    "top_k_accuracy": TopKAccuracy,
    "exact_match": ExactMatch,
    "label_accuracy": LabelAccuracy,
    "label_precision": LabelPrecision,
    "label_recall": LabelRecall,
    "label_f1": LabelF1,
    "label_roc_auc": LabelRocAuc,
    "label_average_precision": LabelAveragePrecision,
    "mae": MeanAbsoluteError,
    "mean_absolute_error": MeanAbsoluteError,
    "mse": MeanSquaredError,
    "mean_squared_error": MeanSquaredError,
    "rmse": RootMeanSquaredError,
    "root_mean_squared_error": RootMeanSquaredError,
    "mape": MeanAbsolutePercentageError,
    "mean_absolute_percentage_error": MeanAbsolutePercentageError,
    "median_absolute_error": MedianAbsoluteError,
    "r2": R2,
}


_COLUMNS = ("loss", "seconds", "updates")
"""The columns of a history that are not metrics."""


def get_metric(which: MetricLike) -> Metric:
    """Return the metric with this name, or the metric itself.

    Raises
    ------
    ValueError
        If the name is not known; the message lists the ones that are.
    """
    find = find_by_name if str(which) in METRICS else other_metric
    return which if isinstance(which, Metric) else find("metric", which, METRICS)()


def get_metrics(
    which: Iterable[MetricLike] | Mapping[str, MetricLike] | None,
) -> dict[str, Metric]:
    """Return metrics by their keys in a history.

    For a list, the keys are the given names or those of the classes. A dict has its own keys.

    Raises
    ------
    TypeError
        If there is one metric instead of several, or a key is not a text.
    ValueError
        If a name is unknown, or a key occurs twice or is another column of a history.

    Examples
    --------
    >>> list(get_metrics(["mae", Accuracy()]))
    ['mae', 'accuracy']
    >>> list(get_metrics({"error": "mae"}))
    ['error']
    """
    metrics = [] if isinstance(which, Mapping) else check_list("metrics", which, "metric")
    given = which.items() if isinstance(which, Mapping) else [(name_of(m), m) for m in metrics]
    named: dict[str, Metric] = {}
    for name, metric in given:
        if not isinstance(name, str) or name in (*named, *_COLUMNS) or name.startswith("val_"):
            raise _no_key(name, named)
        named[name] = get_metric(metric)
    return named


def _no_key(name: object, named: Mapping[str, Metric]) -> Exception:
    """Return the error for a key that a metric can't have in a history."""
    if not isinstance(name, str):
        return TypeError(f"the keys of metrics must be names, such as 'r2', not {name!r}")
    if name in named:
        return ValueError(
            f"two metrics have the name {name!r}: choose other names, "
            "metrics={'one': ..., 'other': ...}"
        )
    return ValueError(
        f"the history already has a column {name!r}: give the metric another name, "
        "metrics={'another': ...}"
    )
