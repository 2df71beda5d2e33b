"""A training step on a GPU in fewer launches: what stands side by side in a model is one kernel.

Bias and activation are one, and so are softmax, cross-entropy and its gradient; the mean over the
batch is taken by the matrix product itself.
"""

import copy
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minigd.execution.shipped import is_shipped
from minigd.formulas import (
    binary_cross_entropy,
    binary_cross_entropy_backward,
    huber,
    huber_backward,
    log_softmax,
    softmax,
)
from minigd.nn.layers import LAYERS, BatchNorm, Dense, Layer, LeakyReLU, ReLU, Sigmoid, Tanh
from minigd.nn.layers.activations import Activation
from minigd.nn.losses import (
    LOSSES,
    BinaryCrossEntropy,
    CategoricalCrossEntropy,
    Huber,
    Loss,
    MeanSquaredError,
)
from minigd.types import Array

# Formulas that stand for several -----------------------------------------------------------------


@functools.cache
def biased(formula: Callable[..., Array]) -> Callable[..., Array]:
    """Return the formula of y = formula(x + b), with a number of b for each column.

    >>> from minigd.formulas import relu
    >>> biased(relu)(np.array([[-1.0, 2.0]]), np.array([2.0, -1.0]))
    array([[1., 1.]])
    """

    def with_bias(x: Array, b: Array, **constants: float) -> Array:
        return formula(x + b, **constants)

    own = inspect.signature(formula)
    x, *constants = own.parameters.values()
    b = x.replace(name="b")
    with_bias.__signature__ = own.replace(parameters=[x, b, *constants])  # type: ignore[attr-defined]
    with_bias.__name__ = f"biased_{formula.__name__}"
    return with_bias


def mean_squared_error(z: Array, y: Array, *, width: int) -> tuple[Array, Array]:
    """Return ℓ_i = (1/K) Σ_k (z_ik − y_ik)², of shape (n, 1), and its gradient; `width` is K.

    >>> mean_squared_error(np.array([[1.0, 2.0]]), np.array([[0.0, 4.0]]), width=2)
    (array([[2.5]]), array([[ 1., -2.]]))
    """
    e = z - y
    return (e * e).sum(axis=1, keepdims=True) / width, (2 / width) * e


def mean_huber(z: Array, y: Array, *, delta: float, width: int) -> tuple[Array, Array]:
    """Return the mean of `huber` over the K outputs, of shape (n, 1), and its gradient."""
    e = z - y
    loss = huber(e, delta=delta).sum(axis=1, keepdims=True) / width
    return loss, huber_backward(e, delta=delta) / width


def mean_binary_cross_entropy(z: Array, y: Array, *, width: int) -> tuple[Array, Array]:
    """Return the mean of `binary_cross_entropy` over the K outputs, (n, 1), and its gradient."""
    loss = binary_cross_entropy(z, y).sum(axis=1, keepdims=True) / width
    return loss, binary_cross_entropy_backward(z, y) / width


def cross_entropy(z: Array, y: Array) -> tuple[Array, Array]:
    """Return ℓ_i = −Σ_k y_ik log p_ik and its gradient p_ik Σ_k y_ik − y_ik, for p = softmax(z).

    ℓ has shape (n, 1).

    >>> loss, dz = cross_entropy(np.log([[1.0, 3.0]]), np.array([[0.0, 1.0]]))
    >>> loss.round(4), dz.round(4)
    (array([[0.2877]]), array([[ 0.25, -0.25]]))
    """
    loss = -(y * log_softmax(z)).sum(axis=1, keepdims=True)
    return loss, softmax(z) * y.sum(axis=1, keepdims=True) - y


def class_cross_entropy(z: Array, y: Array, k: Array) -> tuple[Array, Array]:
    """Return ℓ_i = −log p_i,y_i and its gradient p_ik − [k = y_i], for p = softmax(z).

    y are classes and k = 0 … K − 1, of shapes (n, 1) and (K,); a class that is none of k has an
    infinite loss.

    >>> loss, dz = class_cross_entropy(np.log([[1.0, 3.0]]), np.array([[1]]), np.arange(2))
    >>> loss.round(4), dz.round(4)
    (array([[0.2877]]), array([[ 0.25, -0.25]]))
    """
    own, p = k == y, softmax(z)
    log_p = np.where(own, log_softmax(z), -np.inf)
    return -log_p.real.max(axis=1, keepdims=True), np.where(own, p - 1, p)


def centered(x: Array, mean: Array) -> tuple[Array, Array]:
    """Return x − μ and its square, with a μ for each column."""
    x = x - mean
    return x, x * x


def moved(
    mean: Array, variance: Array, center: Array, spread: Array, *, share: float, correction: float
) -> tuple[Array, Array]:
    """Return the running mean and variance of columns, moved towards those of a batch."""
    return mean + share * (center - mean), variance + share * (spread * correction - variance)


def normalized(
    x: Array, spread: Array, gamma: Array, beta: Array, *, epsilon: float
) -> tuple[Array, Array]:
    """Return x̂ = x / √(σ² + ε) and y = γ x̂ + β, for x that is centered."""
    x_hat = x * (1 / np.sqrt(spread + epsilon))
    return x_hat, x_hat * gamma + beta


def normalized_backward(
    dy: Array,
    x_hat: Array,
    spread: Array,
    gamma: Array,
    dgamma: Array,
    dbeta: Array,
    *,
    epsilon: float,
) -> Array:
    """Return dx = (dy − x̂ dγ − dβ) γ / √(σ² + ε), where dγ and dβ are means over the batch."""
    return (dy - x_hat * dgamma - dbeta) * (gamma * (1 / np.sqrt(spread + epsilon)))


# Layers and losses -------------------------------------------------------------------------------

BENDS = (Tanh, Sigmoid, ReLU, LeakyReLU)
"""Activations that know nothing of the rest of their row."""

PAIRS: dict[type[Loss], Callable[..., tuple[Array, Array]]] = {
    MeanSquaredError: mean_squared_error,
    Huber: mean_huber,
    BinaryCrossEntropy: mean_binary_cross_entropy,
    CategoricalCrossEntropy: cross_entropy,
}
"""Formulas of a loss and its gradient."""


class FusedDense(Layer):
    """A Dense layer, and the activation behind it where there is one.

    ::

        y = f(x·W + b)
        dz = dy · f′(y)      dW = xᵀ·dz / n      db = mean of dz over the batch      dx = dz·Wᵀ

    It works on the parameters and the memory of the Dense layer. y is written over x·W, and dz over
    dy where nobody else has that.

    Parameters
    ----------
    dense : Dense
    activation : Activation, optional
    """

    owns_dy: bool = True
    """Whether nobody else has dy, so that dz may be written over it."""

    def __init__(self, dense: Dense, activation: Activation | None = None) -> None:
        self.dense, self.activation = dense, activation
        _like(self, dense)

    def forward(self, x: Array, train: bool = False) -> Array:
        """Return y; in training keep x and y."""
        y = self.dense.empty("y", (len(x), self.n_out))
        self.backend.xp.dot(x, self.params["W"], out=y)
        f, bias = self.activation, [self.params["b"]] if self.dense.bias else []
        if f is not None:
            formula = biased(f.formula) if bias else f.formula
            self.backend.apply(formula, y, *bias, out=y, **f.constants)
        elif bias:
            y += bias[0]
        if train:
            self.keep(x, y)
        return y

    def backward(self, dy: Array) -> Array | None:
        """Fill dW and db with means over the batch and return dx."""
        x, y = self.kept()
        f, dz = self.activation, dy
        if f is not None:
            dz = dy if self.owns_dy else self.dense.empty("dz", dy.shape)
            self.backend.apply(f.formula_backward, y, dy, out=dz, **f.constants)
        self.backend.mean_product(x, dz, out=self.grads["W"])
        if self.dense.bias:
            dz.mean(axis=0, out=self.grads["b"])
        if not self.wants_dx:
            return None
        dx = self.dense.empty("dx", x.shape)
        self.backend.xp.dot(dz, self.params["W"].T, out=dx)
        return dx


class FusedBatchNorm(Layer):
    """A BatchNorm layer, on its parameters, statistics and memory.

    Parameters
    ----------
    layer : BatchNorm
    """

    def __init__(self, layer: BatchNorm) -> None:
        self.layer = layer
        _like(self, layer)

    def forward(self, x: Array, train: bool = False) -> Array:
        """Return y; in training keep x̂ and σ², and move the running statistics."""
        layer, n, apply = self.layer, len(x), self.backend.apply
        # A step that an error ended has left its arrays.
        self.forget()
        layer.forget()
        if not train or n == 1 or self.is_frozen:
            return layer.forward(x, train)
        x_hat, y = layer.empty("x_hat", x.shape), layer.empty("y", x.shape)
        mean = x.mean(axis=0)
        apply(centered, x, mean, out=(x_hat, y))
        spread = y.mean(axis=0)
        running = layer.buffers["mean"], layer.buffers["variance"]
        rates = {"share": 1 - layer.momentum, "correction": n / (n - 1)}
        apply(moved, *running, mean, spread, out=running, **rates)
        affine = self.params["gamma"], self.params["beta"]
        apply(normalized, x_hat, spread, *affine, out=(x_hat, y), epsilon=layer.epsilon)
        self.keep(x_hat, spread)
        return y

    def backward(self, dy: Array) -> Array | None:
        """Fill dγ and dβ with means over the batch and return dx."""
        if self.held is None:
            # Of one row, which has no spread.
            self.layer.wants_dx = self.wants_dx
            return self.layer.backward(dy)
        x_hat, spread = self.kept()
        dgamma, dbeta = self.grads["gamma"], self.grads["beta"]
        # Not over y, which may be the model's output, that metrics are still to see.
        (dy * x_hat).mean(axis=0, out=dgamma)
        dy.mean(axis=0, out=dbeta)
        if not self.wants_dx:
            return None
        dx = self.layer.empty("dx", dy.shape)
        columns = spread, self.params["gamma"], dgamma, dbeta
        formula, epsilon = normalized_backward, self.layer.epsilon
        self.backend.apply(formula, dy, x_hat, *columns, out=dx, epsilon=epsilon)
        return dx


class FusedLoss(Loss):
    """A loss that finds its gradient together with its value.

    Parameters
    ----------
    loss : Loss
        One of those in `PAIRS`, from logits where there is a choice.
    """

    def __init__(self, loss: Loss) -> None:
        self.loss = loss
        self._classes: Array | None = None
        self._dz: Array | None = None

    def mean(self, z: Array, y: Array, scale: Array | None = None) -> Array:
        """Return the mean loss, and keep dz."""
        loss, backend = self.loss, self.backend_of(z)
        loss.backend = backend
        formula, targets, constants = PAIRS[type(loss)], [loss.targets(y, z)], {"width": z.shape[1]}
        if isinstance(loss, Huber):
            constants["delta"] = loss.delta
        elif isinstance(loss, CategoricalCrossEntropy):
            constants = {}
            if targets[0].ndim == 1:
                if self._classes is None:
                    self._classes = backend.xp.arange(z.shape[1])
                formula = class_cross_entropy
                targets = [targets[0].reshape(-1, 1), self._classes]
        losses, dz = backend.empty((len(z), 1), z.dtype), backend.empty(z.shape, z.dtype)
        backend.apply(formula, z, *targets, out=(losses, dz), **constants)
        if scale is not None:
            scale = scale.reshape(-1, 1)
            losses *= scale
            dz *= scale
        self._dz = dz
        return losses.mean()

    def backward(self) -> Array:
        """Return dz."""
        dz, self._dz = self._dz, None
        return dz


def _like(fused: Layer, layer: Layer) -> None:
    """Give a fused layer the name, the widths and the arrays of the one that it stands for."""
    fused.name, fused.n_in, fused.n_out = layer.name, layer.n_in, layer.n_out
    fused.params, fused.grads, fused.buffers = layer.params, layer.grads, layer.buffers
    fused.backend, fused.is_frozen = layer.backend, layer.is_frozen


def fused_layers(layers: Sequence[Layer], own_loss: bool = True) -> list[Layer]:
    """Return layers that do the same in fewer launches; those from outside stay as they are.

    `own_loss` says whether the loss behind them is one of minigd's, whose gradient nobody else has.

    >>> import minigd as gd
    >>> layers = [gd.Dense(4), gd.Tanh(), gd.Dense(2)]
    >>> [layer.name for layer in fused_layers(gd.Sequential(layers, inputs=3).layers)]
    ['dense1', 'dense2']
    """
    left: list[Layer] = []
    for layer in layers:
        last = left[-1] if left else None
        if not is_shipped(layer):
            left.append(layer)
        elif type(layer) is Dense:
            left.append(FusedDense(layer))
        elif type(layer) in BENDS and type(last) is FusedDense and last.activation is None:
            assert isinstance(layer, Activation)
            left[-1] = FusedDense(last.dense, layer)
        else:
            left.append(FusedBatchNorm(layer) if type(layer) is BatchNorm else layer)
    fresh = own_loss
    for layer in reversed(left):
        if type(layer) is FusedDense:
            layer.owns_dy = fresh
        # What a layer or a loss from outside returns may be an array that it goes on using.
        fresh = type(layer) in (FusedDense, FusedBatchNorm, *LAYERS.values())
    return left


def fused_loss(loss: Loss) -> Loss:
    """Return a loss that does the same in fewer launches, or the one given."""
    fits = type(loss) in PAIRS and is_shipped(loss) and not loss.takes_probabilities
    return FusedLoss(loss) if fits else loss


def fuse(objective: Any) -> Any:
    """Return a `minigd.Objective` with fused layers and loss, beside the one given."""
    fused = copy.copy(objective)
    fused.layers = fused_layers(objective.layers, type(objective.loss) in LOSSES.values())
    fused.loss = fused_loss(objective.loss)
    return fused
