"""Means and squared deviations of columns: of one batch, and of two parts combined.

The mean square minus the squared mean would need one pass, but loses all digits far from 0.
"""

from typing import Any, NamedTuple

from minigd.types import Array


class Part(NamedTuple):
    """The weight of some rows, and for each column its mean and its squared deviations from it.

    Attributes
    ----------
    weight : scalar
        Σ_i w_i, which is the number of rows if they have no weights.
    mean, squares : Array, shape (width,), of float64
        μ = Σ_i w_i x_i / Σ_i w_i and M = Σ_i w_i (x_i − μ)², which is exactly 0 for a constant
        column.
    """

    weight: Any
    mean: Any
    squares: Any


def of_columns(x: Array, weight: Array | None = None) -> Part:
    """Return the moments of the rows of a batch.

    The mean is computed twice, the second time of the deviations from the first mean. So the mean
    of a constant column is exact. The rounding of a single mean would count as a deviation.

    Parameters
    ----------
    x : Array, shape (n, width)
    weight : Array, shape (n,), optional
        At least 0, and not all 0.

    Returns
    -------
    Part

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[1.0, 0.1], [2.0, 0.1], [6.0, 0.1]])
    >>> weight, mean, squares = of_columns(x)
    >>> weight, mean.tolist(), squares.tolist()
    (3, [3.0, 0.1], [14.0, 0.0])

    Source: Neely (1966), "Comparison of several algorithms for computation of means, standard
    deviations and correlation coefficients", Communications of the ACM 9(7).
    """
    x = x.astype("float64")
    w = 1.0 if weight is None else weight[:, None]
    n = len(x) if weight is None else weight.sum()
    mean = (w * x).sum(axis=0) / n
    mean = mean + (w * (x - mean)).sum(axis=0) / n
    return Part(n, mean, (w * (x - mean) ** 2).sum(axis=0))


def merged(one: Part, other: Part) -> Part:
    """Return the moments of two parts combined. One of them may have no weight.

    ::

        δ = μ_b − μ_a        n = n_a + n_b
        μ = μ_a + δ n_b / n  M = M_a + M_b + δ² n_a n_b / n

    Examples
    --------
    >>> import numpy as np
    >>> one, other = of_columns(np.array([[1.0], [2.0]])), of_columns(np.array([[6.0]]))
    >>> weight, mean, squares = merged(one, other)
    >>> weight, mean.tolist(), squares.tolist()
    (3, [3.0], [14.0])

    Source: Chan, Golub and LeVeque (1983), "Algorithms for computing the sample variance", The
    American Statistician 37(3), equations 2.1.
    """
    n = one.weight + other.weight
    # With two parts without weight, this avoids a division by 0.
    share = other.weight / (n + (n == 0))
    delta = other.mean - one.mean
    # δ is multiplied twice, because δ² of a large number may overflow, and 0 · ∞ is NaN.
    squares = one.squares + other.squares + delta * (delta * (one.weight * share))
    return Part(n, one.mean + delta * share, squares)


class Moments:
    """Mean and variance of columns whose rows come in batches.

    Examples
    --------
    >>> import numpy as np
    >>> moments = Moments()
    >>> moments.add(np.array([[1.0], [2.0]]))
    >>> moments.add(np.array([[6.0]]))
    >>> moments.mean.tolist(), round(float(moments.variance[0]), 4)
    ([3.0], 4.6667)
    """

    def __init__(self) -> None:
        self.n: Any = 0
        self.mean: Any = 0.0
        self._squares: Any = 0.0

    def add(self, x: Array, weight: Array | None = None) -> None:
        """Add the rows of a batch, of shape (n, width), with their weights if they have some."""
        so_far = Part(self.n, self.mean, self._squares)
        self.n, self.mean, self._squares = merged(so_far, of_columns(x, weight))

    @property
    def variance(self) -> Array:
        """The mean squared deviation M / Σ_i w_i, of shape (width,)."""
        return self._squares / self.n
