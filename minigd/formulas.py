"""The maths of the engine, each formula once, the way a textbook writes it.

Plain functions of arrays: row i of a result depends on row i of the inputs alone, so that a backend
may run them slice by slice, or as one kernel. They take complex numbers too, which is how the
gradient checker differentiates them: comparisons look at the real part, and nothing takes `abs`.
"""

import numpy as np

from minigd.backend import Array


def tanh(x: Array) -> Array:
    """Return y = tanh(x).

    >>> tanh(np.array([0.0, 1.0])).round(6)
    array([0.      , 0.761594])
    """
    return np.tanh(x)


def tanh_backward(y: Array, dy: Array) -> Array:
    """Return dx = dy · (1 − y²), from the output y = tanh(x)."""
    return dy * (1 - y * y)


def sigmoid(x: Array) -> Array:
    """Return y = 1 / (1 + exp(−x)), written as ½ tanh(x/2) + ½, which can't overflow.

    >>> sigmoid(np.array([-1e4, 0.0, 1e4]))
    array([0. , 0.5, 1. ])
    """
    return 0.5 * np.tanh(0.5 * x) + 0.5


def sigmoid_backward(y: Array, dy: Array) -> Array:
    """Return dx = dy · y · (1 − y), from the output y = sigmoid(x)."""
    return dy * y * (1 - y)


def relu(x: Array) -> Array:
    """Return y = max(x, 0); a NaN stays a NaN.

    >>> relu(np.array([-1.0, 0.0, 2.0]))
    array([0., 0., 2.])
    """
    return np.where(x.real <= 0, 0, x)


def relu_backward(y: Array, dy: Array) -> Array:
    """Return dx = dy where y > 0 and 0 elsewhere; the derivative at 0 is taken as 0."""
    return dy * (y > 0)


def softmax(x: Array) -> Array:
    """Return y_ij = exp(x_ij) / Σ_k exp(x_ik), shifted by the row's maximum so that none overflows.

    >>> softmax(np.array([[0.0, 0.0], [1e4, 0.0]]))
    array([[0.5, 0.5],
           [1. , 0. ]])
    """
    e = np.exp(x - x.real.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def softmax_backward(y: Array, dy: Array) -> Array:
    """Return dx_ij = y_ij · (dy_ij − Σ_k dy_ik y_ik), the product with softmax's true Jacobian."""
    return y * (dy - (dy * y).sum(axis=1, keepdims=True))


def log_softmax(x: Array) -> Array:
    """Return log softmax(x)_ij = x_ij − log Σ_k exp(x_ik), shifted by the row's maximum.

    >>> log_softmax(np.array([[0.0, 0.0], [1e4, 0.0]])).round(4)
    array([[-6.931e-01, -6.931e-01],
           [ 0.000e+00, -1.000e+04]])
    """
    shifted = x - x.real.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def binary_cross_entropy(z: Array, y: Array) -> Array:
    """Return −y log p − (1 − y) log(1 − p) for p = sigmoid(z), from the logit z.

    Written as max(z, 0) − z y + log(1 + exp(−|z|)), which is exact for any z.

    >>> binary_cross_entropy(np.array([0.0, 1e4, 1e4]), np.array([1.0, 1.0, 0.0])).round(4)
    array([6.931e-01, 0.000e+00, 1.000e+04])
    """
    minus_abs_z = np.where(z.real > 0, -z, z)
    return relu(z) - z * y + np.log1p(np.exp(minus_abs_z))


def sgd(p: Array, g: Array, *, learning_rate: float) -> Array:
    """Return p − η g."""
    return p - learning_rate * g


def momentum(
    p: Array, g: Array, v: Array, *, learning_rate: float, momentum: float
) -> tuple[Array, Array]:
    """Return the new (p, v): v = μ v + g, then p − η v."""
    v = momentum * v + g
    return p - learning_rate * v, v


def nesterov(
    p: Array, g: Array, v: Array, *, learning_rate: float, momentum: float
) -> tuple[Array, Array]:
    """Return the new (p, v): v = μ v + g, then p − η (g + μ v)."""
    v = momentum * v + g
    return p - learning_rate * (g + momentum * v), v


def adam(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    *,
    rate: float,
    beta1: float,
    beta2: float,
    epsilon: float,
) -> tuple[Array, Array, Array]:
    """Return the new (p, m, v): m = β₁ m + (1 − β₁) g, v = β₂ v + (1 − β₂) g², p − α m / (√v + ε).

    `rate` α and `epsilon` ε carry the bias corrections of the step; `minigd.updaters.Adam` says
    how.
    """
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * (g * g)
    return p - rate * m / (np.sqrt(v) + epsilon), m, v
