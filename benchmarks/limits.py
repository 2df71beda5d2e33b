"""The limits for the time of minigd relative to contenders, and their reasons.

The limits were set before the code was written. A table shows them next to the measurements.
"""

from collections.abc import Mapping
from typing import NamedTuple

SHAPES = ("tiny-1", "tiny-100", "mnist-100", "mnist-512", "wide")


class Line(NamedTuple):
    """A row of a table of ratios.

    Attributes
    ----------
    title : str
    names : tuple of str
        Contenders. On each network, the fastest of them counts.
    limits : tuple of float or None
        One for each of `SHAPES`.
    """

    title: str
    names: tuple[str, ...]
    limits: tuple[float | None, ...]

    def limit(self, shape: str) -> float | None:
        """Return the limit on one network."""
        return self.limits[SHAPES.index(shape)]


_NONE = (None,) * len(SHAPES)
_KERAS = ("keras-jax", "keras-jax-16")

LINES: Mapping[str, tuple[Line, ...]] = {
    "fast": (
        Line("JAX, `lax.scan` epoch", ("jax-scan",), (0.5, 0.8, 0.9, 0.95, 0.98)),
        Line("JAX, one jitted step", ("jax-step",), (0.05, 0.3, 0.7, 0.85, 0.85)),
        Line("PyTorch, slicing", ("torch",), (0.02, 0.08, 0.45, 0.5, 0.5)),
        Line("Keras on JAX, the faster line", _KERAS, (0.05, 0.15, 0.6, 0.75, 0.85)),
        Line("scikit-learn", ("sklearn",), (0.02, 0.1, 0.35, 0.3, 0.6)),
        Line("the floor", ("floor",), (0.5, None, 1.3, 1.15, 1.08)),
    ),
    "minigd": (
        Line("PyTorch, slicing", ("torch",), (1.0,) * len(SHAPES)),
        Line("scikit-learn", ("sklearn",), (1.0,) * len(SHAPES)),
        Line("Keras on JAX, the faster line", _KERAS, _NONE),
        Line("JAX, one jitted step", ("jax-step",), _NONE),
        Line("JAX, `lax.scan` epoch", ("jax-scan",), _NONE),
        Line("the floor", ("floor",), _NONE),
    ),
}
"""Rows by the numerator of the ratio."""

FILE_LIMITS = {"pandas": 1 / 5, "floor": 1.3}

ORIGIN = (
    "The limits were set before this version was written, on two processors. Those for `lax.scan` "
    "come from prototypes: a whole epoch as one Numba function, written by hand, took 0.21 of its "
    "time on `tiny-1` and 0.53 on `tiny-100`. On the three larger networks matrix products are "
    "most of a step, and the limits require less time than `lax.scan`. The limit for another "
    "contender is that for `lax.scan`, times the time of `lax.scan` over that contender's in the "
    "table of 2026-11-21, rounded up. Without the extra, minigd must not be slower than contenders "
    "without a compiler: PyTorch and scikit-learn. Lines without a limit are only for information."
)

FILE_ORIGIN = (
    "pandas parses large blocks more than five times as fast as chunks of 100 rows. So the limits "
    "for training from a file are a fifth of the time of a loop over such chunks, and 1.3 times "
    "the time of parsing alone."
)
