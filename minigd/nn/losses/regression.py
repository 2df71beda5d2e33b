"""Losses for numbers: squared and absolute errors, Huber, quantiles, counts."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from minigd import formulas
from minigd.backends.base import numbers
from minigd.errors import DataError, ShapeError, check_number
from minigd.nn.losses.base import Loss, check_rows
from minigd.types import Array


class MeanSquaredError(Loss):
    """The mean squared error over the K outputs, and over the batch.

    ::

        ℓ_i = (1/K) Σ_k (z_ik − y_ik)²             ∂ℓ_i/∂z_ik = (2/K) (z_ik − y_ik)

    z and y have shape (n, K); y of shape (n,) is a column where K is 1.

    Examples
    --------
    >>> import numpy as np
    >>> loss = MeanSquaredError()
    >>> float(loss.forward(np.array([[1.0], [3.0]]), np.array([0.0, 1.0])))
    2.5
    >>> loss.backward()
    array([[2.],
           [4.]])

    Source: Rumelhart, Hinton and Williams (1986), equation 3, there as a sum of halves.
    """

    def per_example(self, z: Array, y: Array) -> Array:
        """Return ℓ_i."""
        error = z - y
        return (error * error).mean(axis=1)

    def gradient(self, z: Array, y: Array) -> Array:
        """Return ∂ℓ_i/∂z_ik."""
        return (2 / z.shape[1]) * (z - y)


class Huber(Loss):
    """Squared error for small errors, absolute error for large ones: outliers can't dominate.

    With e_ik = z_ik − y_ik::

        ℓ_i = (1/K) Σ_k { ½ e_ik²             where |e_ik| ≤ δ
                        { δ (|e_ik| − ½ δ)    beyond

        ∂ℓ_i/∂z_ik = (1/K) max(−δ, min(e_ik, δ))

    z and y have shape (n, K); y of shape (n,) is a column where K is 1. With a last Rescale, δ is
    in standard deviations of the target.

    Parameters
    ----------
    delta : float, default 1.0
        δ, above 0.

    Raises
    ------
    ValueError
        If δ is not above 0.

    Examples
    --------
    >>> import numpy as np
    >>> loss = Huber(delta=1.0)
    >>> float(loss.forward(np.array([[0.5], [3.0]]), np.array([0.0, 0.0])))
    1.3125
    >>> loss.backward()
    array([[0.5],
           [1. ]])

    Source: Huber (1964), "Robust estimation of a location parameter", Annals of Mathematical
    Statistics 35(1), section 2.
    """

    def __init__(self, delta: float = 1.0) -> None:
        self.delta = check_number("delta", delta)
        if self.delta == 0:
            raise ValueError("delta must be above 0: at 0 every loss is 0")

    def per_example(self, z: Array, y: Array) -> Array:
        """Return ℓ_i."""
        return self.backend_of(z).compute(formulas.huber, z - y, delta=self.delta).mean(axis=1)

    def gradient(self, z: Array, y: Array) -> Array:
        """Return ∂ℓ_i/∂z_ik."""
        compute = self.backend_of(z).compute
        return compute(formulas.huber_backward, z - y, delta=self.delta) / z.shape[1]


class MeanAbsoluteError(Loss):
    """The mean absolute error over the K outputs and the batch. Its minimum is at the median.

    With e_ik = z_ik − y_ik::

        ℓ_i = (1/K) Σ_k |e_ik|             ∂ℓ_i/∂z_ik = sign(e_ik) / K

    The derivative at e = 0 is taken as 0. z and y have shape (n, K); y of shape (n,) is a column
    where K is 1.

    Examples
    --------
    >>> import numpy as np
    >>> loss = MeanAbsoluteError()
    >>> float(loss.forward(np.array([[1.0], [3.0]]), np.array([0.0, 5.0])))
    1.5
    >>> loss.backward()
    array([[ 1.],
           [-1.]])

    Source: Boscovich (1757), by Stigler (1986), "The History of Statistics", chapter 1.
    """

    def per_example(self, z: Array, y: Array) -> Array:
        """Return ℓ_i."""
        return self.backend_of(z).compute(formulas.absolute, z - y).mean(axis=1)

    def gradient(self, z: Array, y: Array) -> Array:
        """Return ∂ℓ_i/∂z_ik."""
        return self.backend_of(z).compute(formulas.absolute_backward, z - y) / z.shape[1]


class Quantile(Loss):
    """The quantile loss. Its minimum is where a share q of the targets is below the prediction.

    With e_ik = z_ik − y_i, and q_k the quantile of output k::

        ℓ_i = (1/K) Σ_k { (1 − q_k) e_ik    where e_ik > 0
                        { −q_k e_ik         elsewhere

        ∂ℓ_i/∂z_ik = (1/K) { 1 − q_k    where e_ik > 0
                           { −q_k       where e_ik < 0

    The derivative at e = 0 is taken as 0. Several quantiles need one output each: z has shape (n,
    K) for K quantiles, and y is one number per row, of shape (n,) or (n, 1), which is compared with
    all K outputs. A single quantile works for any number of outputs. Then y has the shape of z, and
    y of shape (n,) is a column. The outputs are independent, so two quantiles may cross.

    Parameters
    ----------
    quantiles : float or list of float, default 0.5
        One or several, each above 0 and below 1. For 0.5, the median, the loss is half the
        `MeanAbsoluteError`.

    Raises
    ------
    ValueError
        If there is no quantile, or one is not between 0 and 1.

    Examples
    --------
    >>> import numpy as np
    >>> loss = Quantile([0.1, 0.5, 0.9])
    >>> round(float(loss.forward(np.array([[1.0, 2.0, 5.0]]), np.array([3.0]))), 4)
    0.3
    >>> loss.backward().round(4)
    array([[-0.0333, -0.1667,  0.0333]])

    Source: Koenker and Bassett (1978), "Regression quantiles", Econometrica 46(1), equation 3.1.
    """

    def __init__(self, quantiles: float | Sequence[float] = 0.5) -> None:
        # An array may also contain one or several.
        given: Any = getattr(quantiles, "tolist", lambda: quantiles)()
        several = isinstance(given, list | tuple)
        shares = tuple(map(_share, given if several else [given]))
        if not shares:
            raise ValueError("quantiles is empty: give at least one, such as [0.1, 0.5, 0.9]")
        self.quantiles: float | tuple[float, ...] = shares if several else shares[0]

    @property
    def _shares(self) -> tuple[float, ...]:
        q = self.quantiles
        return q if isinstance(q, tuple) else (q,)

    def check_shape(self, y: Array, shape: tuple[int, ...]) -> None:
        """Refuse outputs that are not one per quantile, and more than one target for them."""
        several = len(self._shares)
        if several == 1:
            super().check_shape(y, shape)
            return
        if shape[1] != several:
            raise ShapeError(
                f"{self!r} needs one output per quantile, {several}, and the model has {shape[1]}: "
                f"end it in Dense({several})"
            )
        check_rows(y, shape)
        if y.shape not in (shape[:1], (shape[0], 1)):
            raise ShapeError(
                f"y has shape {y.shape}: for several quantiles it is one number per row, of shape "
                f"({shape[0]},)"
            )
        numbers(y, "y")

    def targets(self, y: Array, z: Array) -> Array:
        """Return y in the shape and dtype of z, the same number for each quantile."""
        y = y.reshape(len(z), -1).astype(z.real.dtype, copy=False)
        return y if y.shape == z.shape else y + self.backend_of(z).zeros(z.shape[1:], y.dtype)

    def per_example(self, z: Array, y: Array) -> Array:
        """Return ℓ_i."""
        compute = self.backend_of(z).compute
        return compute(formulas.quantile, z - y, self._columns(z)).mean(axis=1)

    def gradient(self, z: Array, y: Array) -> Array:
        """Return ∂ℓ_i/∂z_ik."""
        compute = self.backend_of(z).compute
        return compute(formulas.quantile_backward, z - y, self._columns(z)) / z.shape[1]

    def _columns(self, z: Array) -> Array:
        """Return the quantile of each output, of shape (K,)."""
        q = self.backend_of(z).asarray(self._shares, dtype=z.real.dtype)
        return q if len(q) == z.shape[1] else q + self.backend_of(z).zeros(z.shape[1:], q.dtype)


def _share(q: float) -> float:
    if check_number("a quantile", q, 0.0, 1.0) == 0:
        raise ValueError("a quantile must be above 0 and below 1, not 0")
    return float(q)


class Poisson(Loss):
    """Poisson's negative log-likelihood of counts, for a model whose output is the log of the rate.

    With the rate μ_ik = exp(z_ik)::

        ℓ_i = (1/K) Σ_k (μ_ik − y_ik z_ik)             ∂ℓ_i/∂z_ik = (μ_ik − y_ik) / K

    The term log(y!) is left out, because it does not depend on the prediction. y is at least 0 and
    need not be whole. z and y have shape (n, K); y of shape (n,) is a column where K is 1. The
    model ends in Dense. Metrics get μ, in the units of y, and ``np.exp(model.predict(X))`` is μ.

    Examples
    --------
    >>> import numpy as np
    >>> loss = Poisson()
    >>> round(float(loss.forward(np.array([[0.0], [1.0]]), np.array([2, 2]))), 4)
    0.8591
    >>> loss.backward().round(4)
    array([[-1.    ],
           [ 0.7183]])

    Source: McCullagh and Nelder (1989), "Generalized Linear Models", section 6.2.
    """

    from_logits = True

    def per_example(self, z: Array, y: Array) -> Array:
        """Return ℓ_i."""
        return self.backend_of(z).compute(formulas.poisson, z, y).mean(axis=1)

    def gradient(self, z: Array, y: Array) -> Array:
        """Return ∂ℓ_i/∂z_ik."""
        return self.backend_of(z).compute(formulas.poisson_backward, z, y) / z.shape[1]

    def check_values(self, y: Array, shape: tuple[int, ...]) -> None:
        """Refuse targets below 0."""
        super().check_values(y, shape)
        if float(y.min()) < 0:
            raise DataError(
                f"Poisson takes counts, at least 0, and y holds {float(y.min()):g}: for numbers of "
                "either sign use MeanSquaredError"
            )

    def probabilities(self, z: Array) -> Array:
        """Return the rates exp(z), in the units of y."""
        return np.exp(z)

    def scores(self, z: Array) -> Array:
        """Return z, which has the same order as the rates."""
        return z
