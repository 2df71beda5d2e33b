"""Numerical derivatives of all outputs with respect to some entries of an array.

Of a large array only a block is compared: some rows and columns, including the first and last.
"""

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from minigd.checks.numerical import central_differences, complex_kept, complex_step
from minigd.types import Array

Block: TypeAlias = tuple[Array, ...] | None
"""The positions along each axis that are compared, or None for all."""

Function: TypeAlias = tuple[Callable[[], Array], Array]
"""A function that computes the outputs, and its input array."""

_MOST_ENTRIES = 300


def slopes(
    make: Callable[[str], Function], shape: tuple[int, ...], block: Block
) -> tuple[Array, float]:
    """Return the derivatives of the outputs, and their accuracy relative to the largest.

    They are by complex step if it agrees with the central difference.

    `make` returns the function for a dtype, ``"float64"`` or ``"complex128"``, and `shape` and
    `block` are those of its input array. The derivatives have shape (entries, ...), with the shape
    of the outputs last.

    Examples
    --------
    >>> def square(dtype):
    ...     x = np.array([3.0, 5.0], dtype)
    ...     return lambda: x * x, x
    >>> slopes(square, (2,), None)
    (array([[ 6.,  0.],
           [ 0., 10.]]), 1e-08)
    """
    entries = entries_of(shape, block)
    central, kinked = central_differences(*make("float64"), entries)
    try:
        with complex_kept():
            outputs, target = make("complex128")
            exact = np.array([complex_step(outputs, target, entry) for entry in entries])
    except Exception:  # a custom layer may do anything with complex numbers
        return np.where(kinked, np.nan, central), 1e-5
    # Exactly at a kink there is no derivative, and the layer may choose either side.
    central[kinked] = exact[kinked]
    near = 1e-6 * abs(central).max(initial=0.0)
    if np.allclose(exact, central, rtol=1e-5, atol=near, equal_nan=True):
        return exact, 1e-8
    return central, 1e-5


def noise_of(terms: Array, tolerance: float) -> float:
    """Return the possible rounding error of a sum of such terms, even if it is 0."""
    return 1e-3 * tolerance * float(abs(terms).max(initial=0.0))


def block_of(shape: tuple[int, ...]) -> Block:
    """Return the positions that are compared in an array of this shape.

    >>> block_of((3, 4)), [len(axis) for axis in block_of((784, 10))]
    (None, [17, 10])
    """
    if math.prod(shape) <= _MOST_ENTRIES:
        return None
    most = int(_MOST_ENTRIES ** (1 / len(shape)))
    return tuple(np.unique(np.linspace(0, size - 1, most).astype(int)) for size in shape)


def entries_of(shape: tuple[int, ...], block: Block) -> list[tuple[int, ...]]:
    """Return each entry of a block, in order."""
    axes = np.meshgrid(*(block or map(np.arange, shape)), indexing="ij")
    return [tuple(entry) for entry in np.stack([a.ravel() for a in axes], axis=1).tolist()]


def take_block(array: Array, block: Block) -> Array:
    """Return the block of an array."""
    return array if block is None else array[np.ix_(*block)]
