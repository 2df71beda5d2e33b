"""Dropout: a training pass leaves out units at random, and a prediction leaves out none.

Seed, layer and number of the pass determine what is left out, the same on every device.
"""

import functools
from typing import Any

import numpy as np

from minigd import formulas
from minigd.errors import check_number
from minigd.nn.layers.base import Layer
from minigd.nn.seed_words import first_words
from minigd.types import Array

# The first word of a seed sequence is for what is drawn: 1 for weights, 2 for orders, 3 here.
_DROPOUT = 3


_PASSES = 1024
"""The number of passes for which keys are computed at once."""


@functools.lru_cache(maxsize=64)
def _keys(place: tuple[int, int], span: int) -> Array:
    """Return the keys of one span of passes, for the layer at a place."""
    passes = span * _PASSES + np.arange(_PASSES, dtype="uint64")
    keys = first_words([_DROPOUT, *place], passes)
    keys.flags.writeable = False
    return keys


class Dropout(Layer):
    """Leave out each number of a row with probability p, and divide the others by 1 − p.

    ::

        training:    y_ij = x_ij m_ij / (1 − p)     dx_ij = dy_ij m_ij / (1 − p)
        prediction:  y_ij = x_ij

    m_ij is 0 with probability p and 1 otherwise. So the mean of y_ij is x_ij, and a prediction
    needs no factor. m is computed from a counter: the model's seed, the place of the layer, and the
    number of the training pass, ``model.passes``, which is saved with the model. x, y, dx and dy
    have shape (n, width) and the model's dtype.

    Parameters
    ----------
    rate : float, default 0.5
        p, in [0, 1).

    Raises
    ------
    ValueError
        If the rate is out of range.

    Examples
    --------
    >>> import numpy as np, minigd as gd
    >>> model = gd.Sequential([gd.Dropout(0.5)], inputs=4, seed=0)
    >>> model.forward(np.ones((2, 4)), train=True)
    array([[0., 2., 0., 2.],
           [2., 0., 2., 0.]], dtype=float32)
    >>> model.forward(np.ones((1, 4)))
    array([[1., 1., 1., 1.]], dtype=float32)

    Source: Srivastava et al. (2014), "Dropout: a simple way to prevent neural networks from
    overfitting", JMLR 15, section 4; inverted, as in their section 10.
    """

    draws = True

    def __init__(self, rate: float = 0.5) -> None:
        self.rate = check_number("rate", rate, 0.0, 1.0)

    def forward(self, x: Array, train: bool = False) -> Array:
        """Return y; in training keep m / (1 − p)."""
        if not train:
            return x
        mask = self.empty("mask", x.shape)
        mask[...] = self._draw(x.shape)
        mask *= 1 / (1 - self.rate)
        y = self.empty("y", x.shape)
        self.backend.xp.multiply(x, mask, out=y)
        self.keep(mask)
        return y

    def backward(self, dy: Array) -> Array | None:
        """Return dx = dy m / (1 − p)."""
        (mask,) = self.kept()
        dx = self.empty("dx", dy.shape)
        self.backend.xp.multiply(dy, mask, out=dx)
        return dx

    def key(self, passes: int) -> np.uint64:
        """Return the word that determines the draws of a training pass.

        It is the first word of NumPy's ``SeedSequence([3, seed, number of the layer, passes])``.
        """
        span, place = divmod(passes, _PASSES)
        key: np.uint64 = _keys(self.place, span)[place]
        return key

    def _draw(self, shape: tuple[int, ...]) -> Array:
        """Return m as truth values, each from half a word."""
        n, width = shape
        first = self.first_row * width
        last = first + n * width
        places = self.backend.xp.arange(1 + first // 2, 1 - (-last // 2), dtype="uint64")
        key: Any = self.key(self.passes)
        words = self.backend.compute(formulas.mixed, places, key=key)
        halves = words.view("uint32")[first % 2 :][: n * width].reshape(shape)
        return halves >= np.uint32(self.rate * 2**32)
