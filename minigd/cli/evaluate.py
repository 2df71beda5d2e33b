"""`minigd evaluate`: loss and metrics of a model on a table, which is read as a stream."""

import os
from collections.abc import Sequence
from typing import Any

from minigd.cli.held_out import count_classes, describe_class, fitting_metrics, of_one_class
from minigd.cli.table_files import table_files
from minigd.cli.tables import Table, report_columns
from minigd.cli.trained import TableModel, load_table
from minigd.nn.metrics import Metric
from minigd.progress import log


def evaluate(
    model: str | os.PathLike[str],
    data: Any,
    target: str | None = None,
    metrics: Sequence[str] | None = None,
    **reading: Any,
) -> tuple[int, dict[str, float]]:
    """Return the number of rows of a table, and loss and metrics over them.

    A row with a missing value, or with a category that the model does not know, is left out. Such
    rows are reported on stderr.

    Parameters
    ----------
    model : path
        A file that `minigd train` wrote.
    data : path, or a list of them
        A table with the columns of the training by name, including the target.
    target : str, optional
        The target column in this table, if its name differs from that in the training.
    metrics : sequence of str, optional
        By default the metrics of the training. For two classes, precision, recall, F1 and average
        precision are computed for the class used in the training, or otherwise for the class with
        fewer rows here. This class is printed on stderr.
    **reading
        As in `minigd.cli.predict.predict`.

    Raises
    ------
    DataError, CheckpointError, OSError
        If the model or the table can't be used.
    """
    trained = load_table(model)
    chosen = None if metrics is None else fitting_metrics(metrics, trained.task)
    table = trained.open(table_files(data), True if target is None else target, **reading)
    report_columns(table)
    if chosen is not None:
        trained.model.metrics = _of_the_same_class(chosen, trained, table)
    _log_class(trained)
    return table.count(), trained.model.evaluate(table)


def _of_the_same_class(
    metrics: dict[str, Any], trained: TableModel, table: Table
) -> dict[str, Metric]:
    """Return metrics; for two classes, those of the class used in training, or of the rarer one."""
    classes, own = trained.schema.classes, trained.model.metrics
    if classes is not None and (names := of_one_class(metrics, classes)):
        known: list[Any] = [own[name] for name in of_one_class(own, classes)]
        positive = known[0].positive if known else count_classes(table, classes).rarest
        for name in names:
            metrics[name].positive = positive
    return metrics


def _log_class(trained: TableModel) -> None:
    classes, metrics = trained.schema.classes, trained.model.metrics
    if classes is not None and (names := of_one_class(metrics, classes)):
        one: Any = metrics[names[0]]
        log(describe_class(names, classes[one.positive]))
