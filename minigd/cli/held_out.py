"""Which rows of a table are held out, and what is measured on them.

Without other options they are a fifth of each class, or of all rows where a number is predicted.
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
from minigd.nn.metrics import Counted, Difference, Metric, Ranked, RocAuc, get_metrics
from minigd.progress import log, with_progress

VALIDATION_SHARE = 0.2
ROWS_COMPARED, ALIKE = 10_000, 20
"""A warning is printed if, of so many rows held out, fewer than one in 20 is different."""

METRICS = {"regression": ["r2", "mae", "rmse"], "classification": ["accuracy"]}
OF_RARE = ["roc_auc", "average_precision", "f1"]
"""What stands beside accuracy where a class is rare, which accuracy says nothing about."""
ClassWeights: TypeAlias = Mapping[str, float] | Literal["balanced"]

RARE = 0.05
"""A class with a smaller share of the rows is rare, if it has less than half of an equal share."""


class Split(NamedTuple):
    """What decides which rows are held out, where it is not their content alone.

    Attributes
    ----------
    group : str, optional
        A column; rows with the same value stay on one side, and nothing is learned from it.
    time : str, optional
        A column; the rows that come last are held out.
    """

    group: str | None = None
    time: str | None = None

    def arguments(self, table: Table, task: Task, dates: Mapping[str, str]) -> dict[str, Any]:
        """Return what `Source.split` goes by: the group or the time of each row, or the classes."""
        if self.group is not None and self.time is not None:
            raise DataError("rows are held out by --group or by --time, not by both: give one")
        if self.group is not None:
            log(f"column {self.group!r} is left out: its rows are held out together")
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
    """Return what `open_for_training` does, and the arguments of `Source.split`."""
    left_out = exclude if split.group is None else {*exclude, split.group}
    table, task, schema = open_for_training(data, reading, target, left_out, task, columns)
    return table, task, schema, split.arguments(table, task, columns.dates)


def split_for_validation(source: Source, seed: int = 0, **by: Any) -> tuple[Source, Source]:
    """Return the rows to train on and those held out, and warn if few of these differ.

    Equal rows stay on one side, so that the two parts of such a table are unlike each other.
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
            f"of {len(some):,} rows held out only {different:,} differ{why}, so the rows held out "
            "are unlike the rest, and their scores are unreliable; evaluate on a separate file"
        )
    return part, held_out


# The classes of a target ---------------------------------------------------------------------


class Classes(NamedTuple):
    """The classes of the rows that are trained on.

    Attributes
    ----------
    names : list of str
    counts : list of int
        How many rows are of each.
    """

    names: list[str]
    counts: list[int]

    @property
    def shares(self) -> list[float]:
        """The share of each class."""
        return [count / sum(self.counts) for count in self.counts]

    @property
    def rarest(self) -> int:
        """The class with the fewest rows, of several the last one."""
        return max(range(len(self.counts)), key=lambda k: (-self.counts[k], k))

    @property
    def most_frequent(self) -> int:
        """The class with the most rows, of several the first one."""
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
    """Return how many rows are of each class."""
    counts: Counter[int] = Counter()
    for _, y in with_progress(part.chunks(), "counting the rows of each class", part.rows):
        assert y is not None
        counts.update(classes_of(y).tolist())
    return Classes(list(names), [counts[k] for k in range(len(names))])


class Measures(NamedTuple):
    """What a training is measured by.

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
        """Return batches of rows, which count by their class."""
        return Batches(rows, batch_size=batch_size, class_weight=self.weights, **options)


def choose_measures(
    part: Source,
    names: Sequence[str] | None,
    metrics: Sequence[str] | None,
    class_weight: ClassWeights | None,
) -> Measures:
    """Return what the training on a part is measured by, and print the share of a rare class.

    `names` are those of the classes, None where the target is a number.
    """
    classes = None if names is None else count_classes(part, names)
    if classes is not None and classes.imbalanced:
        log(classes.describe())
    return Measures(choose_metrics(metrics, classes), weights_of(class_weight, classes), classes)


def weights_of(given: ClassWeights | None, classes: Classes | None) -> ByNumber | None:
    """Return the weight of each class by its number, from what `--class-weight` says."""
    if given is None:
        return None
    if classes is None:
        raise DataError(
            "class weights are for classes, and the target is a number: leave out --class-weight, "
            "or pass --task classification"
        )
    if given == "balanced":
        return ByNumber(balance(dict(enumerate(classes.counts))))
    for label in given:
        if find_label(label, classes.names) is None:
            raise DataError(
                f"--class-weight names {label!r}, and the classes are "
                f"{', '.join(map(repr, classes.names))}{did_you_mean(label, classes.names)}"
            )
    table = check_class_weight(given, classes.names, by_number=False)
    return ByNumber(table) if isinstance(table, Mapping) else None


def choose_metrics(given: Sequence[str] | None, classes: Classes | None) -> dict[str, Metric]:
    """Return the metrics by name; those of one class out of two are of the rarer one."""
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
    """Return metrics by name, and refuse one that is of another task."""
    chosen = get_metrics(names)
    numbers = [name for name, metric in chosen.items() if isinstance(metric, Difference)]
    others = [name for name in chosen if name not in numbers]
    odd = others if task == "regression" else numbers
    if odd:
        fitting = ["r2", "mae", "rmse", "mse"] if task == "regression" else _OF_CLASSES
        raise DataError(f"--metrics: {odd[0]} does not measure a {task}; give {', '.join(fitting)}")
    return chosen


_OF_CLASSES = ["accuracy", "precision", "recall", "f1", "roc_auc", "average_precision"]


def of_one_class(metrics: Mapping[str, Metric], classes: Sequence[str] | None) -> list[str]:
    """Return the names of the metrics that are of one class of two."""
    if classes is None or len(classes) != 2:
        return []
    return [
        name
        for name, metric in metrics.items()
        if isinstance(metric, Counted | Ranked) and not isinstance(metric, RocAuc)
    ]


def describe_class(metrics: Sequence[str], label: str) -> str:
    """Return which metrics are of a class, in words.

    >>> describe_class(["precision", "f1"], "yes")
    "precision and f1 are of the class 'yes'"
    """
    return f"{' and '.join(metrics)} {'are' if len(metrics) > 1 else 'is'} of the class {label!r}"
