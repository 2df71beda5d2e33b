"""Numerical derivatives: the complex step, exact to rounding, and the central difference.

Both move one entry of an array at a time and compute the outputs again.
"""

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from minigd.types import Array

COMPLEX_STEP = 1e-20
CENTRAL_STEPS = (1e-5, 1e-6, 1e-7)
KINK = 1e-3
"""At a kink, left and right slope differ by more than this share of both, elsewhere by far less."""


def complex_step(outputs: Callable[[], Any], target: Array, place: Any) -> Array:
    """Return f'(p) = Im f(p + ih) / h for one entry p of an array. It subtracts nothing.

    >>> x = np.array([3.0, 5.0], "complex128")
    >>> complex_step(lambda: x * x, x, 0)
    array([6., 0.])
    """
    before = target[place]
    target[place] = before + 1j * COMPLEX_STEP
    derivative: Array = np.imag(outputs()) / COMPLEX_STEP
    target[place] = before
    return derivative


def above_and_below(
    outputs: Callable[[], Any], target: Array, place: Any, step: float
) -> tuple[Array, Array]:
    """Return the outputs with one entry of an array increased, and decreased, by a step."""
    before = target[place]
    target[place] = before + step
    above = np.array(outputs())
    target[place] = before - step
    below = np.array(outputs())
    target[place] = before
    return above, below


def central_difference(value: Callable[[], Any], target: Array, place: Any, own: float) -> float:
    """Return the central difference that is nearest to `own`, of three step sizes.

    A large step may cross a kink, and a small one has rounding errors. A wrong gradient is near
    none of them. Exactly at a kink, anything between left and right slope is right.

    >>> x = np.array([3.0, 5.0])
    >>> round(central_difference(lambda: (x * x).sum(), x, 0, own=6.0), 6)
    6.0
    """
    middle = float(value())
    best = math.nan
    for step in CENTRAL_STEPS:
        above, below = map(float, above_and_below(value, target, place, step))
        central = (above - below) / (2 * step)
        left, right = (middle - below) / step, (above - middle) / step
        if not abs(central - own) >= abs(best - own):
            best = central
    kinked = abs(right - left) > KINK * (abs(left) + abs(right))
    slack = 1e-6 * (abs(left) + abs(right))
    if kinked and min(left, right) - slack <= own <= max(left, right) + slack:
        return own
    return best


def central_differences(
    outputs: Callable[[], Array], target: Array, places: Sequence[Any]
) -> tuple[Array, Array]:
    """Return those of all outputs, of shape (entries, ...), and where an output has a kink.

    >>> x = np.array([0.0, 5.0])
    >>> central_differences(lambda: abs(x), x, [0, 1])[1].tolist()
    [[True, False], [False, False]]
    """
    step, middle, found = CENTRAL_STEPS[1], np.array(outputs()), []
    for place in places:
        above, below = above_and_below(outputs, target, place, step)
        found.append(((middle - below) / step, (above - middle) / step))
    sides = np.array(found)
    left, right = sides[:, 0], sides[:, 1]
    jump, size = abs(right - left), abs(left) + abs(right)
    # The slopes of a smooth function differ by little more than the step.
    kinked = (jump > KINK * size) & (jump > KINK * size.max(initial=0.0))
    return (left + right) / 2, kinked


@contextmanager
def complex_kept() -> Iterator[None]:
    """Raise if a computation loses the imaginary part, and with it the derivative."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", np.exceptions.ComplexWarning)
        yield
