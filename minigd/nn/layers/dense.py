"""The dense layer: every output is a weighted sum of every input, plus a bias.

Its `backward` takes the mean over the batch.
"""

from typing import Any

from minigd.errors import check_integer, no_forward, validated
from minigd.nn.initializers import INITIALIZERS, Initializer, get_initializer
from minigd.nn.layers.base import Layer
from minigd.types import Array


class Dense(Layer):
    """An affine map of each row, y = x·W + b.

    Forward, for row i of n and output k::

        y_ik = Σ_j x_ij W_jk + b_k                 y  = x·W + b

    Backward, where row i of dy is the gradient of example i's own loss::

        dW_jk = (1/n) Σ_i x_ij dy_ik               dW = xᵀ·dy / n
        db_k  = (1/n) Σ_i dy_ik                    db = mean of dy over the batch
        dx_ij = Σ_k dy_ik W_jk                     dx = dy·Wᵀ

    dW and db are means over the batch; dx is not, because row i of it still belongs to example i.

    Parameters
    ----------
    units : int
        Number of outputs, n_out.
    initializer : str or callable, default "glorot_uniform"
        How W is drawn. ``"he_normal"`` suits a ReLU after the layer. b starts at zero.
    bias : bool, default True
        Whether there is a b. A BatchNorm after the layer makes it superfluous.

    Attributes
    ----------
    params : dict
        ``W`` of shape (n_in, n_out) and, with a bias, ``b`` of shape (n_out,).

    Raises
    ------
    ValueError
        If `units` is not a positive integer, or the name of the initializer is unknown.

    Examples
    --------
    >>> import numpy as np, minigd as gd
    >>> model = gd.Sequential([gd.Dense(1)], inputs=2, dtype="float64")
    >>> model.params["dense1.W"][...] = [[1.0], [2.0]]
    >>> x = np.array([[1.0, 0.0], [3.0, 4.0]])
    >>> model.forward(x, train=True)
    array([[ 1.],
           [11.]])
    >>> model.backward(np.array([[1.0], [1.0]]))
    >>> model.grads["dense1.W"], model.grads["dense1.b"]
    (array([[2.],
           [2.]]), array([1.]))

    Source: Rumelhart, Hinton and Williams (1986), "Learning representations by back-propagating
    errors", equations 1, 6 and 7.
    """

    @validated
    def __init__(
        self,
        units: int,
        initializer: str | Initializer = "glorot_uniform",
        bias: bool = True,
    ) -> None:
        get_initializer(initializer)
        self.units = check_integer("units", units)
        self.initializer = initializer
        self.bias = bool(bias)

    def build(self, n_in: int) -> int:
        """Declare W and b."""
        self.add_param("W", (n_in, self.units), self.initializer)
        if self.bias:
            self.add_param("b", (self.units,), "zeros")
        return self.units

    def forward(self, x: Array, train: bool = False) -> Array:
        """Return y = x·W + b; in training keep x."""
        y = self.empty("y", (len(x), self.units))
        self.backend.xp.dot(x, self.params["W"], out=y)
        if self.bias:
            y += self.params["b"]
        if train:
            self.keep(x)
        return y

    def backward(self, dy: Array) -> Array | None:
        """Fill dW and db with means over the batch and return dx."""
        (x,) = self.kept()
        n = len(x)
        xp = self.backend.xp
        W, dW = self.params["W"], self.grads["W"]

        xp.dot(x.T, dy, out=dW)
        dW /= n
        if self.bias:
            dy.mean(axis=0, out=self.grads["b"])

        if not self.wants_dx:
            return None
        dx = self.empty("dx", x.shape)
        xp.dot(dy, W.T, out=dx)
        return dx

    def row_squares(self, dy: Array) -> Array:
        """Return |x_i|² |dy_i|² for W, and |dy_i|² for b, of each row."""
        if self.held is None:
            raise no_forward(self.name or type(self).__name__)
        (x,) = self.held
        # In float64, in which the product of any two float32 sums is finite.
        squares = (x * x).sum(axis=1).astype("float64") + self.bias
        return squares * (dy * dy).sum(axis=1)

    def config(self) -> dict[str, Any]:
        """Return the arguments. An initializer that is not one of minigd's becomes "zeros".

        A copy and a saved model have their own weights, so nothing is drawn again.
        """
        name = getattr(self.initializer, "__name__", self.initializer)
        known = name if name in INITIALIZERS else "zeros"
        return {"units": self.units, "initializer": known, "bias": self.bias}
