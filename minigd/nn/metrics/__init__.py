"""The metrics: measures of quality other than the loss, over all rows of an epoch.

It may import what `nn` may.
Start with ``base.py``, then ``regression.py``; ``names.py`` finds a metric by its name.
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
from minigd.nn.metrics.function import FunctionMetric, KeptRows, ScorerMetric
from minigd.nn.metrics.labels import (
    ExactMatch,
    LabelAccuracy,
    LabelAveragePrecision,
    LabelCounted,
    LabelF1,
    LabelPrecision,
    LabelRanked,
    LabelRecall,
    LabelRocAuc,
)
from minigd.nn.metrics.names import METRICS, MetricLike, get_metric, get_metrics
from minigd.nn.metrics.probabilities import LogLoss, TopKAccuracy
from minigd.nn.metrics.ranks import AveragePrecision, Ranked, RocAuc
from minigd.nn.metrics.regression import (
    R2,
    Difference,
    MeanAbsoluteError,
    MeanAbsolutePercentageError,
    MeanSquaredError,
    MedianAbsoluteError,
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
    "ExactMatch",
    "FunctionMetric",
    "KeptRows",
    "LabelAccuracy",
    "LabelAveragePrecision",
    "LabelCounted",
    "LabelF1",
    "LabelPrecision",
    "LabelRanked",
    "LabelRecall",
    "LabelRocAuc",
    "LogLoss",
    "MeanAbsoluteError",
    "MeanAbsolutePercentageError",
    "MeanSquaredError",
    "MedianAbsoluteError",
    "Metric",
    "MetricLike",
    "Precision",
    "Ranked",
    "Recall",
    "RocAuc",
    "RootMeanSquaredError",
    "ScorerMetric",
    "TopKAccuracy",
    "check_classes",
    "check_positive",
    "get_metric",
    "get_metrics",
]
