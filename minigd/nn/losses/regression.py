"""Losses of numbers: the squared error, and Huber's, which outliers can't dominate."""

from minigd import formulas
from minigd.errors import check_number
from minigd.nn.losses.base import Loss
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

    z and y have shape (n, K); y of shape (n,) is a column where K is 1. Under a last Rescale, δ is
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
