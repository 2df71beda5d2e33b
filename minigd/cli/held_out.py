"""Which rows of a table are held out, and which metrics are computed on them.

By default they are a fifth of each class, or of all rows if the target is a number.
"""

import itertools
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from minigd.cli.tables import AS_FOUND, Columns, Reading, Table, Task, open_for_training
from minigd.data.batches import Batches
from minigd.data.labels import find_label
from minigd.data.row_weights import ByNumber, balance, check_class_weight
from minigd.data.row_weights import labels as classes_of
from minigd.data.sources.base import Source
from minigd.data.sources.split_values import times_of
from minigd.data.tables.schema import Schema
from minigd.errors import DataError, did_you_mean
from minigd.nn.metrics import Counted, Difference, Metric, Ranked, RocAuc, ScorerMetric, get_metrics
from minigd.progress import log, with_progress

VALIDATION_SHARE = 0.2
ROWS_COMPARED, ALIKE = 10_000, 20
"""A warning is printed if fewer than one in 20 of this many held-out rows are different."""

METRICS = {"regression": ["r2", "mae", "rmse"], "classification": ["accuracy"]}
OF_RARE = ["roc_auc", "average_precision", "f1"]
"""Metrics besides accuracy if a class is rare: accuracy says nothing about a rare class."""
ClassWeights: TypeAlias = Mapping[str, float] | Literal["balanced"]

RARE = 0.05
"""A class is rare if its share of the rows is below this and below half of an equal share."""


class Split(NamedTuple):
    """What decides which rows are held out, besides their content.

    Attributes
    ----------
    group : str, optional
        A column; rows with the same value stay on the same side. It is not used as a feature.
    time : str, optional
        A column; the rows with the latest times are held out.
    """

    group: str | None = None
    time: str | None = None

    def arguments(self, table: Table, task: Task, dates: Mapping[str, str]) -> dict[str, Any]:
        """Return the arguments of `Source.split`: group or time of each row, or the classes."""
        if self.group is not None and self.time is not None:
            raise DataError("rows are held out by --group or by --time, not by both: give one")
        if self.group is not None:
            log(f"column {self.group!r} is left out: rows with the same value stay together")
            return {"group": table.column(self.group)}
        if self.time is not None:
            return {"time": times_of(table, self.time, dates.get(self.time))}
        return {"stratify": task == "classification"}


BY_CONTENT = Split()


def open_to_split(
    data: Any,
    reading: Reading,
    target: str,
    exclude: Collection[str],
    task: Task | None,
    columns: Columns = AS_FOUND,
    split: Split = BY_CONTENT,
) -> tuple[Table, Task, Schema, dict[str, Any]]:
    """Return the result of `open_for_training`, and the arguments of `Source.split`."""
    left_out = exclude if split.group is None else {*exclude, split.group}
    table, task, schema = open_for_training(data, reading, target, left_out, task, columns)
    return table, task, schema, split.arguments(table, task, columns.dates)


def split_for_validation(source: Source, seed: int = 0, **by: Any) -> tuple[Source, Source]:
    """Return the rows to train on and those held out, and warn if few of these differ.

    Equal rows stay on the same side, so the two parts of a table with few different rows are not
    alike.
    """
    part, held_out = source.split(VALIDATION_SHARE, seed, **by)
    rows = itertools.chain.from_iterable(
        np.column_stack([x, np.asarray(y, dtype=np.float64).reshape(len(x), -1)])
        for x, y in held_out.chunks()
    )
    some = np.array(list(itertools.islice(rows, ROWS_COMPARED)), dtype=np.float64)
    different = len(np.unique(some, axis=0))
    if different * ALIKE < len(some):
        why = "" if {"group", "time"} & by.keys() else ": equal rows stay on one side"
        log(
            f"only {different:,} of {len(some):,} rows held out differ{why}, so the rows held out "
            "are unlike the rest, and their scores are unreliable; evaluate on a separate file"
        )
    return part, held_out


# The classes of a target ---------------------------------------------------------------------


class Classes(NamedTuple):
    """The classes of the training rows.

    Attributes
    ----------
    names : list of str
    counts : list of int
        The number of rows of each.
    """

    names: list[str]
    counts: list[int]

    @property
    def shares(self) -> list[float]:
        """The share of each class."""
        return [count / sum(self.counts) for count in self.counts]

    @property
    def rarest(self) -> int:
        """The class with the fewest rows; the last one of several."""
        return max(range(len(self.counts)), key=lambda k: (-self.counts[k], k))

    @property
    def most_frequent(self) -> int:
        """The class with the most rows; the first one of several."""
        return self.counts.index(max(self.counts))

    @property
    def imbalanced(self) -> bool:
        """Whether the rarest class is rare."""
        return self.shares[self.rarest] < min(RARE, 0.5 / len(self.names))

    def describe(self) -> str:
        """Return the shares of the rarest and of the most frequent class, in words."""
        share, most = self.shares, self.most_frequent
        return (
            f"{share[self.rarest]:.2%} of the rows are {self.names[self.rarest]!r}, "
            f"and {share[most]:.2%} are {self.names[most]!r}"
        )


def count_classes(part: Source, names: Sequence[str]) -> Classes:
    """Return the number of rows of each class."""
    counts: Counter[int] = Counter()
    for _, y in with_progress(part.chunks(), "counting the rows of each class", part.rows):
        assert y is not None
        counts.update(classes_of(y).tolist())
    return Classes(list(names), [counts[k] for k in range(len(names))])


class Measures(NamedTuple):
    """The metrics and class weights of a training.

    Attributes
    ----------
    metrics : dict of str to Metric
    weights : ByNumber or None
        How much each class counts, by its number.
    classes : Classes or None
    """

    metrics: dict[str, Metric]
    weights: ByNumber | None
    classes: Classes | None

    def batches(self, rows: Source, batch_size: int = 1024, **options: Any) -> Batches:
        """Return batches of rows, weighted by class."""
        return Batches(rows, batch_size=batch_size, class_weight=self.weights, **options)


def choose_measures(
    part: Source,
    names: Sequence[str] | None,
    metrics: Sequence[str] | None,
    class_weight: ClassWeights | None,
) -> Measures:
    """Return the measures for training on a part, and print the share of a rare class.

    `names` are those of the classes; None if the target is a number.
    """
    classes = None if names is None else count_classes(part, names)
    if classes is not None and classes.imbalanced:
        log(classes.describe())
    return Measures(choose_metrics(metrics, classes), weights_of(class_weight, classes), classes)


def weights_of(given: ClassWeights | None, classes: Classes | None) -> ByNumber | None:
    """Return the weight of each class by its number, from `--class-weight`."""
    if given is None:
        return None
    if classes is None:
        raise DataError(
            "class weights are for classes, but the target is a number: leave out --class-weight, "
            "or pass --task classification"
        )
    if given == "balanced":
        return ByNumber(balance(dict(enumerate(classes.counts))))
    for label in given:
        if find_label(label, classes.names) is None:
            raise DataError(
                f"--class-weight names {label!r}, but the classes are "
                f"{', '.join(map(repr, classes.names))}{did_you_mean(label, classes.names)}"
            )
    table = check_class_weight(given, classes.names, by_number=False)
    return ByNumber(table) if isinstance(table, Mapping) else None


def choose_metrics(given: Sequence[str] | None, classes: Classes | None) -> dict[str, Metric]:
    """Return the metrics by name; metrics of a single class are those of the rarer of two."""
    task: Task = "regression" if classes is None else "classification"
    names = list(METRICS[task] if given is None else given)
    if given is None and classes is not None and classes.imbalanced:
        names += OF_RARE
    chosen = fitting_metrics(names, task)
    if classes is not None and len(classes.names) == 2:
        for metric in chosen.values():
            if isinstance(metric, Counted | Ranked):
                metric.positive = classes.rarest
    return chosen


def fitting_metrics(names: Sequence[str], task: Task) -> dict[str, Metric]:
    """Return metrics by name, and refuse a metric of another task."""
    chosen = get_metrics(names)
    numbers = [name for name, metric in chosen.items() if isinstance(metric, Difference)]
    # A scikit-learn scorer knows what it measures.
    own = [name for name, metric in chosen.items() if isinstance(metric, ScorerMetric)]
    others = [name for name in chosen if name not in (*numbers, *own)]
    odd = others if task == "regression" else numbers
    if odd:
        fitting = ["r2", "mae", "rmse", "mse", *_OF_ERRORS] if task == "regression" else _OF_CLASSES
        raise DataError(f"--metrics: {odd[0]} does not measure a {task}; give {', '.join(fitting)}")
    return chosen


_OF_ERRORS = ["mape", "median_absolute_error"]
_OF_CLASSES = ["accuracy", "precision", "recall", "f1", "roc_auc", "average_precision"]
_OF_CLASSES += ["log_loss", "top_k_accuracy"]


def of_one_class(metrics: Mapping[str, Metric], classes: Sequence[str] | None) -> list[str]:
    """Return the names of the metrics of a single class out of two."""
    if classes is None or len(classes) != 2:
        return []
    return [
        name
        for name, metric in metrics.items()
        if isinstance(metric, Counted | Ranked) and not isinstance(metric, RocAuc)
    ]


def describe_class(metrics: Sequence[str], label: str) -> str:
    """Return a message that says which metrics are of a class.

    >>> describe_class(["precision", "f1"], "yes")
    "precision and f1 are of the class 'yes'"
    """
    return f"{' and '.join(metrics)} {'are' if len(metrics) > 1 else 'is'} of the class {label!r}"
