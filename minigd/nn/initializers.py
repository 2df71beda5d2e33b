"""The first values of weights, drawn on the host from one seeded generator.

Each function takes (rng, shape) and returns float64, so all backends and dtypes start alike.
"""

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from minigd.errors import find_by_name
from minigd.types import Array

Initializer: TypeAlias = Callable[[np.random.Generator, tuple[int, ...]], Array]


def zeros(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Return zeros."""
    return np.zeros(shape)


def ones(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Return ones."""
    return np.ones(shape)


def glorot_uniform(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Draw from U(−a, a) with a = √(6 / (n_in + n_out)), for tanh, sigmoid and softmax.

    Source: Glorot and Bengio (2010), equation 16.

    >>> W = glorot_uniform(np.random.default_rng(0), (300, 300))
    >>> round(float(abs(W).max()), 3), round(float(W.std()), 3)      # a = 0.1
    (0.1, 0.058)
    """
    a = math.sqrt(6 / (shape[0] + shape[-1]))
    return rng.uniform(-a, a, shape)


def glorot_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Draw from N(0, 2 / (n_in + n_out)); Glorot and Bengio (2010), equation 12."""
    return rng.standard_normal(shape) * math.sqrt(2 / (shape[0] + shape[-1]))


def he_uniform(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Draw from U(−a, a) with a = √(6 / n_in), of variance 2 / n_in, for ReLU."""
    a = math.sqrt(6 / shape[0])
    return rng.uniform(-a, a, shape)


def he_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Draw from N(0, 2 / n_in), for ReLU; He et al. (2015), equation 10.

    >>> W = he_normal(np.random.default_rng(0), (200, 400))
    >>> round(float(W.std()), 3)
    0.1
    """
    return rng.standard_normal(shape) * math.sqrt(2 / shape[0])


INITIALIZERS: dict[str, Initializer] = {
    function.__name__: function
    for function in (zeros, ones, glorot_uniform, glorot_normal, he_uniform, he_normal)
}


def get_initializer(which: str | Initializer) -> Initializer:
    """Return the initializer with this name, or the function that was given.

    Raises
    ------
    ValueError
        If the name is not known; the message lists the ones that are.
    """
    if callable(which) and not isinstance(which, type):
        return which
    return find_by_name("initializer", which, INITIALIZERS)
