"""Activation layers: tanh, sigmoid, ReLU and its leaky form, softmax.

Each keeps its output y in training, because each derivative is shortest in terms of y.
"""

from collections.abc import Callable

from minigd import formulas
from minigd.errors import check_number
from minigd.nn.layers.base import Layer
from minigd.types import Array


class Activation(Layer):
    """A layer that applies a formula to each row; a subclass names the formula and its backward."""

    formula: Callable[..., Array]
    formula_backward: Callable[..., Array]

    @property
    def constants(self) -> dict[str, float]:
        """The constants of both formulas."""
        return {}

    def forward(self, x: Array, train: bool = False) -> Array:
        """Return y = formula(x); in training keep y."""
        y = self.empty("y", x.shape)
        self.backend.apply(self.formula, x, out=y, **self.constants)
        if train:
            self.keep(y)
        return y

    def backward(self, dy: Array) -> Array | None:
        """Return dx = formula_backward(y, dy)."""
        (y,) = self.kept()
        dx = self.empty("dx", dy.shape)
        self.backend.apply(self.formula_backward, y, dy, out=dx, **self.constants)
        return dx


class Tanh(Activation):
    """The hyperbolic tangent, y_ij = tanh(x_ij) and dx_ij = dy_ij (1 − y_ij²).

    x, y, dx and dy have shape (n, width) and the model's dtype.

    Examples
    --------
    >>> import numpy as np, minigd as gd
    >>> model = gd.Sequential([gd.Tanh()], inputs=2, dtype="float64")
    >>> model.forward(np.array([[0.0, 1.0]]), train=True).round(4)
    array([[0.    , 0.7616]])
    >>> model.backward(np.array([[1.0, 1.0]]), input_gradient=True).round(4)
    array([[1.  , 0.42]])

    Source: LeCun, Bottou, Orr and Müller (1998), "Efficient BackProp", section 4.4.
    """

    formula = staticmethod(formulas.tanh)
    formula_backward = staticmethod(formulas.tanh_backward)


class Sigmoid(Activation):
    """The logistic function, y_ij = 1 / (1 + exp(−x_ij)) and dx_ij = dy_ij y_ij (1 − y_ij).

    x, y, dx and dy have shape (n, width) and the model's dtype. As a last layer under binary
    cross-entropy, `minigd.Objective` trains on its input, the logits, instead.

    Examples
    --------
    >>> import numpy as np, minigd as gd
    >>> model = gd.Sequential([gd.Sigmoid()], inputs=2, dtype="float64")
    >>> model.forward(np.array([[0.0, 2.0]]), train=True).round(4)
    array([[0.5   , 0.8808]])
    >>> model.backward(np.array([[1.0, 1.0]]), input_gradient=True).round(4)
    array([[0.25 , 0.105]])

    Source: Rumelhart, Hinton and Williams (1986), equations 2 and 5.
    """

    formula = staticmethod(formulas.sigmoid)
    formula_backward = staticmethod(formulas.sigmoid_backward)


class ReLU(Activation):
    """The rectifier, y_ij = max(x_ij, 0) and dx_ij = dy_ij where y_ij > 0, 0 elsewhere.

    x, y, dx and dy have shape (n, width) and the model's dtype. At 0, where the derivative is not
    defined, it is taken as 0.

    Examples
    --------
    >>> import numpy as np, minigd as gd
    >>> model = gd.Sequential([gd.ReLU()], inputs=2, dtype="float64")
    >>> model.forward(np.array([[-1.0, 2.0]]), train=True)
    array([[0., 2.]])
    >>> model.backward(np.array([[3.0, 3.0]]), input_gradient=True)
    array([[0., 3.]])

    Source: Glorot, Bordes and Bengio (2011), "Deep sparse rectifier neural networks", section 3.
    """

    formula = staticmethod(formulas.relu)
    formula_backward = staticmethod(formulas.relu_backward)


class LeakyReLU(Activation):
    """A rectifier that lets a share of what is negative through.

    ::

        y_ij  = x_ij  where x_ij > 0, else a x_ij
        dx_ij = dy_ij where y_ij > 0, else a dy_ij

    x, y, dx and dy have shape (n, width) and the model's dtype. At 0, where the derivative is not
    defined, it is taken as a.

    Parameters
    ----------
    slope : float, default 0.01
        a, in [0, 1).

    Raises
    ------
    ValueError
        If the slope is out of range.

    Examples
    --------
    >>> import numpy as np, minigd as gd
    >>> model = gd.Sequential([gd.LeakyReLU(slope=0.25)], inputs=2, dtype="float64")
    >>> model.forward(np.array([[-1.0, 2.0]]), train=True)
    array([[-0.25,  2.  ]])
    >>> model.backward(np.array([[3.0, 3.0]]), input_gradient=True)
    array([[0.75, 3.  ]])

    Source: Maas, Hannun and Ng (2013), "Rectifier nonlinearities improve neural network acoustic
    models", equation 2.
    """

    formula = staticmethod(formulas.leaky_relu)
    formula_backward = staticmethod(formulas.leaky_relu_backward)

    def __init__(self, slope: float = 0.01) -> None:
        self.slope = check_number("slope", slope, 0.0, 1.0)

    @property
    def constants(self) -> dict[str, float]:
        """The slope."""
        return {"slope": self.slope}


class Softmax(Activation):
    """Positive numbers that sum to 1 in each row.

    ::

        y_ij  = exp(x_ij) / Σ_k exp(x_ik)
        dx_ij = y_ij (dy_ij − Σ_k dy_ik y_ik)

    x, y, dx and dy have shape (n, classes) and the model's dtype. `backward` is the product with
    the true Jacobian, whatever the loss; as a last layer under categorical cross-entropy,
    `minigd.Objective` trains on its input, the logits, instead.

    Examples
    --------
    >>> import numpy as np, minigd as gd
    >>> model = gd.Sequential([gd.Softmax()], inputs=2, dtype="float64")
    >>> model.forward(np.array([[0.0, np.log(3.0)]]), train=True).round(4)
    array([[0.25, 0.75]])
    >>> model.backward(np.array([[1.0, 0.0]]), input_gradient=True).round(4)
    array([[ 0.1875, -0.1875]])

    Source: Bridle (1990), "Probabilistic interpretation of feedforward classification network
    outputs".
    """

    formula = staticmethod(formulas.softmax)
    formula_backward = staticmethod(formulas.softmax_backward)
