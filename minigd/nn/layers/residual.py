"""A residual connection: layers that learn what to add to their input."""

from collections.abc import Sequence

from minigd.nn.layers.base import Layer, check_layers
from minigd.types import Array


class Residual(Layer):
    """Add the input and the output of the layers inside.

    With f the layers inside, one after the other::

        y = x + f(x)

        dx = dy + f's dx for this dy

    The gradients of f's parameters are those of f alone for dy. Even for a deep f, dy reaches the
    layers before it undiminished. A layer inside is named after its place, ``residual1.dense1``,
    and is trained, saved and checked like any other. Dropout and BatchNorm work inside as outside.
    A Residual may contain another.

    x, y, dx and dy have shape (n, width) and the model's dtype.

    Parameters
    ----------
    layers : list of Layer
        f: at least one layer, none of them in a model yet. Its output must be as wide as its input.

    Attributes
    ----------
    params, grads, buffers : dict
        Those of the layers inside, ``params["dense1.W"]``.

    Raises
    ------
    ValueError
        If there is no layer, or one is already in a model. When the model is created: if the last
        layer's output is not as wide as x.
    TypeError
        If they are not layers.

    Examples
    --------
    >>> import numpy as np, minigd as gd
    >>> block = gd.Residual([gd.Dense(2), gd.Tanh()])
    >>> model = gd.Sequential([block], inputs=2, dtype="float64")
    >>> list(model.params)
    ['residual1.dense1.W', 'residual1.dense1.b']
    >>> model.params["residual1.dense1.W"][...] = [[1.0, 0.0], [0.0, 0.0]]
    >>> model.forward(np.array([[1.0, 2.0]]), train=True).round(4)
    array([[1.7616, 2.    ]])
    >>> model.backward(np.array([[1.0, 0.0]]), input_gradient=True).round(4)
    array([[1.42, 0.  ]])

    Source: He, Zhang, Ren and Sun (2016), "Deep residual learning for image recognition",
    equation 1.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        self.layers = check_layers(layers, "Residual")

    def build(self, n_in: int) -> int:
        """Register the layers of f, whose output is as wide as their input."""
        n_out = self.hold(self.layers, n_in)
        if n_out != n_in:
            raise ValueError(
                f"{self.name} adds its input, {n_in} wide, to the output of its last layer, "
                f"{self.layers[-1].name}, which is {n_out} wide: end its layers with "
                f"Dense({n_in}), or put a Dense({n_out}) before {self.name}"
            )
        return n_in

    def row_squares(self, dy: Array) -> Array:
        """Return the sum of the `row_squares` of f's layers."""
        return self.inner_row_squares(self.layers, dy)

    def forward(self, x: Array, train: bool = False) -> Array:
        """Return x + f(x)."""
        y = self.empty("y", x.shape)
        self.backend.xp.add(x, self.run_inner(self.layers, x, train), out=y)
        return y

    def backward(self, dy: Array) -> Array | None:
        """Fill the gradients of f's layers and return dy + f's dx."""
        inner = self.run_inner_back(self.layers, dy)
        if inner is None:
            return None
        dx = self.empty("dx", dy.shape)
        self.backend.xp.add(dy, inner, out=dx)
        return dx
