"""`minigd race`: batch sizes against the clock, with the network of `minigd train`, on a table.

The rows are read into memory first: the clock then measures training, not the disk.
"""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from minigd.backends.base import Backend, get_backend
from minigd.cli.held_out import split_for_validation
from minigd.cli.messages import counted
from minigd.cli.tables import AS_FOUND, USUAL, Columns, Reading, Task, open_for_training
from minigd.cli.train import HIDDEN, adapt_numbers, build_network
from minigd.data.batches import Batches
from minigd.data.sources.array import ArraySource
from minigd.data.sources.base import Source
from minigd.insight.race import Race
from minigd.insight.race import race as between
from minigd.nn.sequential import Sequential
from minigd.progress import log, with_progress


def race(
    data: Any,
    target: str,
    batch_sizes: Sequence[int | None] = (1, 32, 500, None),
    *,
    exclude: Collection[str] = (),
    task: Task | None = None,
    reading: Reading = USUAL,
    columns: Columns = AS_FOUND,
    hidden: Sequence[int] = HIDDEN,
    seconds: float = 5.0,
    seeds: int = 5,
    backend: str | Backend = "numpy",
) -> Race:
    """Race batch sizes on a table; the loss is that of a held-out fifth of the rows.

    Parameters
    ----------
    data : path, or a list of them
    target : str
    batch_sizes : sequence of int or None, default (1, 32, 500, None)
    exclude, task, reading, columns, hidden, backend
        As in `minigd.cli.train.train`.
    seconds : float, default 5.0
        Training time of each run.
    seeds : int, default 5

    Returns
    -------
    Race
    """
    backend = get_backend(backend)
    table, task, schema = open_for_training(data, reading, target, exclude, task, columns)
    parts = split_for_validation(table, stratify=task == "classification")
    part, held_out = map(_in_memory, parts)
    log(f"{counted(part.rows, 'row')} to train on, {held_out.rows:,} held out")
    first = build_network(schema, task, hidden, backend)
    adapt_numbers(first, Batches(part, batch_size=1000), schema)
    fitted = {k: v for k, v in first.arrays().items() if k.startswith("buffers/")}

    def build(seed: int) -> Sequential:
        model = build_network(schema, task, hidden, backend, seed)
        model.load_arrays({**model.arrays(), **fitted})
        return model

    return between(
        build,
        part,
        batch_sizes,
        seconds=seconds,
        seeds=seeds,
        validation_data=held_out,
        progress=True,
    )


def _in_memory(source: Source) -> ArraySource:
    pieces = list(with_progress(source.chunks(), "reading the rows into memory", source.rows))
    x = np.concatenate([x for x, _ in pieces])
    return ArraySource(x, np.concatenate([y for _, y in pieces if y is not None]))
