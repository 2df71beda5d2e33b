"""Loss and metrics over rows, without updates."""

from typing import Any

import numpy as np

from minigd.backends.frames import is_table
from minigd.data.batches import Batch, Batches, as_batches
from minigd.data.sources.base import Source
from minigd.errors import shown
from minigd.nn.metrics import Metric
from minigd.nn.objective import Objective
from minigd.training.epoch_totals import Totals
from minigd.training.rows import RowLoader, WeighedRows
from minigd.types import Array

ROWS = 1024
"""The number of rows that are evaluated at a time."""


def measure(
    objective: Objective, metrics: dict[str, Metric], z: Array, batch: WeighedRows
) -> dict[str, Any]:
    """Return the weighted total of each metric over the rows of a batch."""
    if not metrics:
        return {}
    prediction = objective.predictions(z)
    # A column and a row would be broadcast against each other.
    y = batch.y.reshape(-1, 1) if prediction.shape[1] == 1 else batch.y
    return {
        name: metric.total(objective.scores(z) if metric.ranks else prediction, y, batch.weight)
        for name, metric in metrics.items()
    }


def evaluate(loader: RowLoader, batches: Batches) -> dict[str, float]:
    """Return the mean loss and the metrics over all rows, by their weights."""
    totals = Totals(loader.metrics)
    for batch in batches.in_order():
        add_rows(totals, loader, batch, batches.source)
    return totals.means(loader.objective.model.backend)


def add_rows(totals: Totals, loader: RowLoader, batch: Batch, source: Source) -> None:
    """Add loss and metrics of the rows of a batch, without rows of weight 0."""
    objective = loader.objective
    rows = loader.load(batch, source)
    if rows is None:
        return
    with np.errstate(all="ignore"):
        value, z = objective.evaluate(rows.x, rows.y, rows.scale)
        measured = measure(objective, loader.metrics, z, rows)
        loss = objective.model.backend.wide(value) * rows.total
        totals.add({"loss": loss, **measured}, rows.total)


def validation_batches(data: Any, training: Batches) -> Batches:
    """Return the batches of (X, y), (X, y, weight), Batches, a source or a frame with targets.

    A frame is encoded with the schema of the training rows.
    """
    schema = training.source.schema or False
    if isinstance(data, tuple | list):
        if len(data) not in (2, 3):
            raise ValueError(
                f"validation_data must be (X, y) or (X, y, weight), not {len(data)} items"
            )
        weight = data[2] if len(data) == 3 else None
        return as_batches(data[0], data[1], ROWS, sample_weight=weight, schema=schema)
    if not isinstance(data, Batches | Source) and not (schema and is_table(data)):
        raise TypeError(
            "validation_data must be (X, y), (X, y, weight), Batches or a source, not "
            f"{shown(data)}"
        )
    return as_batches(data, None, ROWS, schema=schema)
