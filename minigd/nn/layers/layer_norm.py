"""Layer normalization: each row gets mean 0 and variance 1 over its own numbers."""

from minigd.errors import check_epsilon, check_number, no_forward
from minigd.nn.layers.base import Layer
from minigd.types import Array


class LayerNorm(Layer):
    """Normalize each row to mean 0 and variance 1 over its numbers, then scale and shift it.

    With K numbers per row, in training and prediction::

        μ_i  = (1/K) Σ_j x_ij             σ²_i = (1/K) Σ_j (x_ij − μ_i)²
        x̂_ij = (x_ij − μ_i) / √(σ²_i + ε)
        y_ij = γ_j x̂_ij + β_j

        dγ_j  = (1/n) Σ_i dy_ij x̂_ij      dβ_j = (1/n) Σ_i dy_ij
        dx_ij = (g_ij − mean_k g_ik − x̂_ij mean_k (g_ik x̂_ik)) / √(σ²_i + ε),  g_ij = γ_j dy_ij

    Unlike in `BatchNorm`, rows do not depend on each other. The output of a row is the same in any
    batch, and there are no running statistics. If a row has one number, its output is always β.

    x, y, dx and dy have shape (n, width) and the model's dtype. The rounding error of a mean is
    relative to its size: if the mean of a row is a thousand deviations, y is shifted by about 1e-3
    in float32, and 1e-12 in float64. A deviation above 1.8e19 has an infinite square in float32,
    and the row becomes β.

    Parameters
    ----------
    epsilon : float, default 1e-5
        ε, above 0, also in the model's dtype.

    Attributes
    ----------
    params : dict
        ``gamma``, which starts at 1, and ``beta``, at 0, of shape (width,).

    Raises
    ------
    ValueError
        If epsilon is out of range, or is 0 in the model's dtype.

    Examples
    --------
    >>> import numpy as np, minigd as gd
    >>> model = gd.Sequential([gd.LayerNorm()], inputs=3, dtype="float64")
    >>> model.forward(np.array([[1.0, 2.0, 3.0], [0.0, 0.0, 6.0]]), train=True).round(4)
    array([[-1.2247,  0.    ,  1.2247],
           [-0.7071, -0.7071,  1.4142]])
    >>> dy = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    >>> model.backward(dy, input_gradient=True).round(4) + 0
    array([[ 0.2041, -0.4082,  0.2041],
           [-0.1768,  0.1768,  0.    ]])

    Source: Ba, Kiros and Hinton (2016), "Layer normalization", equations 3 and 4.
    """

    def __init__(self, epsilon: float = 1e-5) -> None:
        self.epsilon = check_number("epsilon", epsilon)
        if self.epsilon == 0:
            raise ValueError("epsilon must be above 0: a row of equal numbers has no variance")

    def build(self, n_in: int) -> int:
        """Declare γ and β."""
        check_epsilon(self.epsilon, self._dtype)
        self.add_param("gamma", (n_in,), "ones")
        self.add_param("beta", (n_in,), "zeros")
        return n_in

    def row_squares(self, dy: Array) -> Array:
        """Return Σ_j (dy_ij x̂_ij)² + dy_ij² of each row."""
        if self.held is None:
            raise no_forward(self.name or type(self).__name__)
        x_hat, _ = self.held
        # In float64, in which the square of any float32 number is finite.
        dy = dy.astype("float64")
        return (dy * dy * (1 + x_hat * x_hat)).sum(axis=1)

    def forward(self, x: Array, train: bool = False) -> Array:
        """Return y; in training keep x̂ and 1 / √(σ² + ε)."""
        xp = self.backend.xp
        x_hat = self.empty("x_hat", x.shape)
        xp.subtract(x, x.mean(axis=1, keepdims=True), out=x_hat)
        scale = 1 / xp.sqrt((x_hat * x_hat).mean(axis=1, keepdims=True) + self.epsilon)
        x_hat *= scale
        y = self.empty("y", x.shape)
        xp.multiply(x_hat, self.params["gamma"], out=y)
        y += self.params["beta"]
        if train:
            self.keep(x_hat, scale)
        return y

    def backward(self, dy: Array) -> Array | None:
        """Fill dγ and dβ with means over the batch and return dx."""
        x_hat, scale = self.kept()
        (dy * x_hat).mean(axis=0, out=self.grads["gamma"])
        dy.mean(axis=0, out=self.grads["beta"])

        if not self.wants_dx:
            return None
        g = dy * self.params["gamma"]
        dx = self.empty("dx", dy.shape)
        self.backend.xp.multiply(x_hat, (g * x_hat).mean(axis=1, keepdims=True), out=dx)
        self.backend.xp.subtract(g - g.mean(axis=1, keepdims=True), dx, out=dx)
        dx *= scale
        return dx
