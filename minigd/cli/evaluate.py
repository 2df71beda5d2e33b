"""`minigd evaluate`: loss and metrics of a model on a table, as it streams by."""

import os
from typing import Any

from minigd.cli.table_files import table_files
from minigd.cli.tables import report_columns
from minigd.cli.trained import load_table


def evaluate(
    model: str | os.PathLike[str],
    data: Any,
    target: str | None = None,
    **reading: Any,
) -> tuple[int, dict[str, float]]:
    """Return how many rows a table has, and loss and metrics over them.

    A row with a missing value, or with a category that the model does not know, is left out, which
    is printed on stderr.

    Parameters
    ----------
    model : path
        What `minigd train` wrote.
    data : path, or a list of them
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
    trained = load_table(model)
    table = trained.open(table_files(data), True if target is None else target, **reading)
    report_columns(table)
    return table.count(), trained.model.evaluate(table)
