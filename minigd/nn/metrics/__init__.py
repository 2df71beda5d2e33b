"""The metrics: what people want to know besides the loss, over all rows of an epoch.

It may import what `nn` may.
Start with `base.py`, then `regression.py`; `names.py` finds a metric by its name.
"""

from minigd.nn.metrics.base import Metric
from minigd.nn.metrics.classes import (
    F1,
    Accuracy,
    Counted,
    Precision,
    Recall,
    check_classes,
    check_positive,
)
from minigd.nn.metrics.names import METRICS, get_metric, get_metrics
from minigd.nn.metrics.ranks import AveragePrecision, Ranked, RocAuc
from minigd.nn.metrics.regression import (
    R2,
    Difference,
    MeanAbsoluteError,
    MeanSquaredError,
    RootMeanSquaredError,
)

__all__ = [
    "F1",
    "METRICS",
    "R2",
    "Accuracy",
    "AveragePrecision",
    "Counted",
    "Difference",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Metric",
    "Precision",
    "Ranked",
    "Recall",
    "RocAuc",
    "RootMeanSquaredError",
    "check_classes",
    "check_positive",
    "get_metric",
    "get_metrics",
]
