"""Activation layers: tanh, sigmoid, softmax, ReLU, and the smooth ones like it.

Each keeps one array in training: its output y, because most derivatives are shortest in terms of y,
or its input x, if y does not determine the derivative.
"""

from collections.abc import Callable

from minigd import formulas
from minigd.errors import check_number, shown
from minigd.nn.layers.base import Layer
from minigd.types import Array


class Activation(Layer):
    """A layer that applies a formula to each row. A subclass has the formula and its derivative."""

    formula: Callable[..., Array]
    formula_backward: Callable[..., Array]

    of_input: bool = False
    """Whether `formula_backward` takes the input x instead of the output y."""

    @property
    def constants(self) -> dict[str, float]:
        """The constants of both formulas."""
        return {}

    def forward(self, x: Array, train: bool = False) -> Array:
        """Return y = formula(x); in training keep y, or x."""
        y = self.empty("y", x.shape)
        self.backend.apply(self.formula, x, out=y, **self.constants)
        if train:
            self.keep(x if self.of_input else y)
        return y

    def backward(self, dy: Array) -> Array | None:
        """Return dx = formula_backward(y, dy), or of x."""
        (kept,) = self.kept()
        dx = self.empty("dx", dy.shape)
        self.backend.apply(self.formula_backward, kept, dy, out=dx, **self.constants)
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

    x, y, dx and dy have shape (n, width) and the model's dtype. If it is the last layer before
    binary cross-entropy, `minigd.Objective` trains on its input, the logits, instead.

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

    x, y, dx and dy have shape (n, width) and the model's dtype. At 0 the derivative is not defined,
    and 0 is used.

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
    """A rectifier that passes on a share of negative inputs.

    ::

        y_ij  = x_ij  where x_ij > 0, else a x_ij
        dx_ij = dy_ij where y_ij > 0, else a dy_ij

    x, y, dx and dy have shape (n, width) and the model's dtype. At 0 the derivative is not defined,
    and a is used.

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


class ELU(Activation):
    """The exponential linear unit, which falls smoothly to −α for negative inputs.

    ::

        y_ij  = x_ij  where x_ij > 0, else α (exp(x_ij) − 1)
        dx_ij = dy_ij where y_ij > 0, else dy_ij (y_ij + α)

    x, y, dx and dy have shape (n, width) and the model's dtype. At 0 the derivative α is used,
    which is the true one for α = 1.

    Parameters
    ----------
    alpha : float, default 1.0
        α, at least 0.

    Raises
    ------
    ValueError
        If alpha is out of range.

    Examples
    --------
    >>> import numpy as np, minigd as gd
    >>> model = gd.Sequential([gd.ELU()], inputs=2, dtype="float64")
    >>> model.forward(np.array([[-1.0, 2.0]]), train=True).round(4)
    array([[-0.6321,  2.    ]])
    >>> model.backward(np.array([[1.0, 1.0]]), input_gradient=True).round(4)
    array([[0.3679, 1.    ]])

    Source: Clevert, Unterthiner and Hochreiter (2016), "Fast and accurate deep network learning by
    exponential linear units (ELUs)", equation 15.
    """

    formula = staticmethod(formulas.elu)
    formula_backward = staticmethod(formulas.elu_backward)

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = check_number("alpha", alpha)

    @property
    def constants(self) -> dict[str, float]:
        """α."""
        return {"alpha": self.alpha}


class Softplus(Activation):
    """A smooth rectifier, y_ij = log(1 + exp(x_ij)) and dx_ij = dy_ij / (1 + exp(−x_ij)).

    x, y, dx and dy have shape (n, width) and the model's dtype. y is above 0, so it can be the last
    layer for rates, variances and times.

    Examples
    --------
    >>> import numpy as np, minigd as gd
    >>> model = gd.Sequential([gd.Softplus()], inputs=2, dtype="float64")
    >>> model.forward(np.array([[0.0, 2.0]]), train=True).round(4)
    array([[0.6931, 2.1269]])
    >>> model.backward(np.array([[1.0, 1.0]]), input_gradient=True).round(4)
    array([[0.5   , 0.8808]])

    Source: Dugas, Bengio, Bélisle, Nadeau and Garcia (2001), "Incorporating second-order functional
    knowledge for better option pricing", section 3.
    """

    formula = staticmethod(formulas.softplus)
    formula_backward = staticmethod(formulas.softplus_backward)
    of_input = True


class SiLU(Activation):
    """The sigmoid linear unit, also called swish, y_ij = x_ij p_ij for p_ij = 1 / (1 + exp(−x_ij)).

    ::

        dx_ij = dy_ij p_ij (1 + x_ij (1 − p_ij))

    x, y, dx and dy have shape (n, width) and the model's dtype.

    Examples
    --------
    >>> import numpy as np, minigd as gd
    >>> model = gd.Sequential([gd.SiLU()], inputs=2, dtype="float64")
    >>> model.forward(np.array([[-1.0, 2.0]]), train=True).round(4)
    array([[-0.2689,  1.7616]])
    >>> model.backward(np.array([[1.0, 1.0]]), input_gradient=True).round(4)
    array([[0.0723, 1.0908]])

    Source: Elfwing, Uchibe and Doya (2018), "Sigmoid-weighted linear units for neural network
    function approximation in reinforcement learning", section 2.
    """

    formula = staticmethod(formulas.silu)
    formula_backward = staticmethod(formulas.silu_backward)
    of_input = True


class GELU(Activation):
    """The Gaussian error linear unit: x times the probability that a standard normal is below x.

    ::

        y_ij  = x_ij Φ(x_ij)                        Φ(x) = ½ (1 + erf(x / √2))
        dx_ij = dy_ij (Φ(x_ij) + x_ij φ(x_ij))      φ(x) = exp(−x² / 2) / √(2π)

    With ``approximate=True``, the paper's approximation, which was faster than a slow erf::

        y_ij  = x_ij p_ij                           p = ½ (1 + tanh(√(2/π) (x + 0.044715 x³)))
        dx_ij = dy_ij (p_ij + 2 √(2/π) x_ij (1 + 0.134145 x_ij²) p_ij (1 − p_ij))

    The two differ by less than 5e-4. x, y, dx and dy have shape (n, width) and the model's dtype.

    Parameters
    ----------
    approximate : bool, or {"none", "tanh"}, default False
        Whether to use the second form. The texts are PyTorch's names for False and True.

    Raises
    ------
    ValueError
        If approximate is none of these.

    Examples
    --------
    >>> import numpy as np, minigd as gd
    >>> model = gd.Sequential([gd.GELU()], inputs=2, dtype="float64")
    >>> model.forward(np.array([[-1.0, 2.0]]), train=True).round(4)
    array([[-0.1587,  1.9545]])
    >>> model.backward(np.array([[1.0, 1.0]]), input_gradient=True).round(4)
    array([[-0.0833,  1.0852]])
    >>> model = gd.Sequential([gd.GELU(approximate=True)], inputs=2, dtype="float64")
    >>> model.forward(np.array([[-1.0, 2.0]])).round(4)
    array([[-0.1588,  1.9546]])

    Source: Hendrycks and Gimpel (2016), "Gaussian error linear units (GELUs)", section 2.
    """

    of_input = True

    def __init__(self, approximate: bool | str = False) -> None:
        if isinstance(approximate, str):
            approximate = {"none": False, "tanh": True}.get(approximate, approximate)
        if not isinstance(approximate, bool):
            raise ValueError(
                f'approximate must be False or "none", True or "tanh", not {shown(approximate)}'
            )
        self.approximate = approximate

    @property
    def formula(self) -> Callable[..., Array]:  # type: ignore[override]
        """`formulas.gelu`, or its approximation."""
        return formulas.gelu_tanh if self.approximate else formulas.gelu

    @property
    def formula_backward(self) -> Callable[..., Array]:  # type: ignore[override]
        """The derivative of `formula`."""
        return formulas.gelu_tanh_backward if self.approximate else formulas.gelu_backward


class Softmax(Activation):
    """Positive numbers that sum to 1 in each row.

    ::

        y_ij  = exp(x_ij) / Σ_k exp(x_ik)
        dx_ij = y_ij (dy_ij − Σ_k dy_ik y_ik)

    x, y, dx and dy have shape (n, classes) and the model's dtype. `backward` is the product with
    the true Jacobian, for any loss. If it is the last layer before categorical cross-entropy,
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
