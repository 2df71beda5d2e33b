"""`minigd evaluate`: loss and metrics of a model on a table, as it streams by."""

import os
from typing import Any, NamedTuple

from minigd.cli.tables import report_dropped
from minigd.cli.trained import load


class Evaluated(NamedTuple):
    """How many rows were evaluated, and the loss and metrics over them."""

    rows: int
    values: dict[str, float]


def evaluate(
    model: str | os.PathLike[str],
    data: str | os.PathLike[str],
    target: str | None = None,
    **reading: Any,
) -> Evaluated:
    """Return loss and metrics over the rows of a table.

    A row with a missing value, or with a category that the model does not know, is left out, which
    is printed on stderr.

    Parameters
    ----------
    model : path
        What `minigd train` wrote.
    data : path
        A table with the columns of the training by name, the target included.
    target : str, optional
        The target's name here, where it is another one than in the training.
    **reading
        As `minigd.cli.predict.predict`.

    Raises
    ------
    DataError, CheckpointError, OSError
        If the model or the table does not do.
    """
    trained = load(model)
    table = trained.open(data, True if target is None else target, **reading)
    report_dropped(table)
    return Evaluated(table.count(), trained.model.evaluate(table))
