"""The part of a table that the commands hold out, to stop by and to report on.

Equal rows stay on one side, which says little where few rows differ.
"""

import itertools

import numpy as np

from minigd.data.sources.base import Source
from minigd.progress import say

HELD_OUT = 0.2
"""The share of the rows."""

_LOOKED_AT, _ALIKE = 10_000, 20


def split_for_validation(source: Source, seed: int = 0) -> tuple[Source, Source]:
    """Return the rows to train on and those held out, and say so where few of these differ."""
    part, held_out = source.split(HELD_OUT, seed)
    rows = itertools.chain.from_iterable(
        np.column_stack([x, np.asarray(y, dtype=np.float64).reshape(len(x), -1)])
        for x, y in held_out.chunks()
    )
    some = np.array(list(itertools.islice(rows, _LOOKED_AT)), dtype=np.float64)
    different = len(np.unique(some, axis=0))
    if different * _ALIKE < len(some):
        say(
            f"of {len(some):,} rows held out only {different:,} differ: equal rows stay on one "
            "side, so that what is held out is unlike the rest, and its figures say little; "
            "evaluate on a file of its own"
        )
    return part, held_out
