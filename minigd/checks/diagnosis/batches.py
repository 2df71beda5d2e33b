"""More batches like a given one: sizes that distinguish factors, and rows between its rows.

Rows between the rows of a batch are equally valid inputs.
"""

import numpy as np

from minigd.types import Array


def other_sizes(n: int, *widths: int) -> list[int]:
    """Return three more sizes of batches, none of which is n or a width.

    >>> other_sizes(7, 3, 4)
    [5, 11, 6]
    """
    return [size for size in (3, 7, 5, 11, 6, 13, 9) if size not in (n, *widths)][:3]


def between(rows: Array, n: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return n rows between those of a batch, and which row each is nearest to."""
    one, other = rng.integers(len(rows), size=(2, n))
    share = rng.uniform(0.6, 0.9, (n, 1))
    mixed = share * rows[one] + (1 - share) * rows[other]
    return mixed * rng.uniform(0.85, 1.0, mixed.shape), one


def weights_of(weight: Array | None, which: Array, rng: np.random.Generator) -> Array | None:
    """Return weights for these rows, above 0 and all different."""
    if weight is None:
        return None
    more: Array = weight[which] + weight.max() * rng.uniform(0.1, 1.0, len(which))
    return more
