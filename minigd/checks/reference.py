"""The naive twin of each fast piece: loops over examples, one line per formula, nothing reused.

Tests use these as the truth, and the first notebook starts from them. To train, use the engine.
"""

import math
from collections.abc import Sequence

import numpy as np

from minigd.types import Array


def batch_sizes(n: int, batch_size: int) -> list[int]:
    """Return the sizes of the batches of n rows, by counting rows one at a time.

    >>> batch_sizes(2300, 500)
    [500, 500, 500, 500, 300]
    """
    sizes = [0]
    for _ in range(n):
        if sizes[-1] == batch_size:
            sizes.append(0)
        sizes[-1] += 1
    return sizes


def dense(x: Array, W: Array, b: Array) -> Array:
    """Return y_ik = Σ_j x_ij W_jk + b_k, one number at a time.

    >>> dense(np.array([[1.0, 2.0]]), np.array([[3.0], [4.0]]), np.array([0.5]))
    array([[11.5]])
    """
    n, n_in = x.shape
    n_out = W.shape[1]
    y = np.zeros((n, n_out), dtype=np.result_type(x, W))
    for i in range(n):
        for k in range(n_out):
            y[i, k] = b[k]
            for j in range(n_in):
                y[i, k] += x[i, j] * W[j, k]
    return y


def dense_backward(x: Array, W: Array, dy: Array) -> tuple[Array, Array, Array]:
    """Return dW, db and dx: the mean over examples of x_i ⊗ dy_i and of dy_i, and dy_i·Wᵀ.

    >>> dW, db, dx = dense_backward(
    ...     np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0], [1.0]]), np.array([[1.0], [3.0]]))
    >>> dW.tolist(), db.tolist(), dx.tolist()
    ([[5.0], [7.0]], [2.0], [[1.0, 1.0], [3.0, 3.0]])
    """
    n = len(x)
    dW = sum(np.outer(x[i], dy[i]) for i in range(n)) / n
    db = sum(dy[i] for i in range(n)) / n
    dx = np.array([W @ dy[i] for i in range(n)])
    return np.asarray(dW), np.asarray(db), dx


def layer_norm(x: Array, gamma: Array, beta: Array, epsilon: float = 1e-5) -> Array:
    """Return y_ij = γ_j (x_ij − μ_i) / √(σ²_i + ε) + β_j, one row at a time.

    >>> layer_norm(np.array([[1.0, 3.0]]), np.ones(2), np.zeros(2)).round(4)
    array([[-1.,  1.]])
    """
    y = np.zeros(x.shape)
    for i, row in enumerate(x):
        mean = sum(row) / len(row)
        variance = sum((value - mean) ** 2 for value in row) / len(row)
        for j, value in enumerate(row):
            y[i, j] = gamma[j] * (value - mean) / math.sqrt(variance + epsilon) + beta[j]
    return y


def layer_norm_backward(
    x: Array, gamma: Array, dy: Array, epsilon: float = 1e-5
) -> tuple[Array, Array, Array]:
    """Return dγ, dβ and dx; dx_ij is the sum over k of dy_ik γ_k ∂x̂_ik/∂x_ij, not simplified.

    >>> dgamma, dbeta, dx = layer_norm_backward(
    ...     np.array([[1.0, 3.0]]), np.ones(2), np.array([[1.0, 0.0]]))
    >>> dgamma.round(4), dbeta
    (array([-1.,  0.]), array([1., 0.]))
    """
    width = x.shape[1]
    x_hat, dx = np.zeros(x.shape), np.zeros(x.shape)
    for i, row in enumerate(x):
        mean = sum(row) / width
        root = math.sqrt(sum((value - mean) ** 2 for value in row) / width + epsilon)
        x_hat[i] = (row - mean) / root
        for j in range(width):
            for k in range(width):
                mean_moves = 1 / width
                root_moves = (row[j] - mean) / (width * root)
                moves = ((j == k) - mean_moves) / root - (row[k] - mean) * root_moves / root**2
                dx[i, j] += dy[i, k] * gamma[k] * moves
    return (dy * x_hat).mean(axis=0), dy.mean(axis=0), dx


def batch_norm(x: Array, gamma: Array, beta: Array, epsilon: float = 1e-5) -> Array:
    """Return y_ij = γ_j (x_ij − μ_j) / √(σ²_j + ε) + β_j, a column, then a number at a time.

    μ_j and σ²_j are the mean of column j and its mean squared deviation.

    >>> batch_norm(np.array([[1.0], [3.0]]), np.array([2.0]), np.array([5.0])).round(4).tolist()
    [[3.0], [7.0]]
    """
    n, width = x.shape
    y = np.zeros_like(x)
    for j in range(width):
        mean = sum(x[i, j] for i in range(n)) / n
        variance = sum((x[i, j] - mean) ** 2 for i in range(n)) / n
        for i in range(n):
            y[i, j] = gamma[j] * (x[i, j] - mean) / (variance + epsilon) ** 0.5 + beta[j]
    return y


def batch_norm_backward(
    x: Array, gamma: Array, dy: Array, epsilon: float = 1e-5
) -> tuple[Array, Array, Array]:
    """Return dγ, dβ and dx. Each row of x changes each row of y, through μ and σ².

    One pair of rows at a time, with ∂μ/∂x_i = 1/n, ∂σ²/∂x_i = 2 (x_i − μ) / n and the chain rule;
    row i of dx is Σ_k dy_k ∂y_k/∂x_i, which is n ∂L/∂x_i for the mean L of the rows' losses.

    >>> dgamma, dbeta, dx = batch_norm_backward(
    ...     np.array([[0.0], [1.0], [5.0]]), np.array([2.0]), np.array([[1.0], [0.0], [0.0]]))
    >>> dgamma.round(4).tolist(), dbeta.round(4).tolist(), dx.round(4).tolist()
    ([-0.3086], [0.3333], [[0.3527], [-0.4409], [0.0882]])
    """
    n, width = x.shape
    dgamma, dbeta, dx = np.zeros(width), np.zeros(width), np.zeros((n, width))
    for j in range(width):
        mean = sum(x[i, j] for i in range(n)) / n
        variance = sum((x[i, j] - mean) ** 2 for i in range(n)) / n
        root = math.sqrt(variance + epsilon)
        for i in range(n):
            dgamma[j] += dy[i, j] * (x[i, j] - mean) / root / n
            dbeta[j] += dy[i, j] / n
            for k in range(n):
                own = 1.0 if i == k else 0.0
                through_mean = -1 / n
                through_variance = -0.5 * (x[k, j] - mean) / root**3 * (2 * (x[i, j] - mean) / n)
                slope = gamma[j] * ((own + through_mean) / root + through_variance)
                dx[i, j] += dy[k, j] * slope
    return dgamma, dbeta, dx


def sigmoid(x: float) -> float:
    """Return 1 / (1 + exp(−x)) for one number, the textbook formula. It overflows below −709."""
    return 1 / (1 + math.exp(-x))


def softmax(x: Array) -> Array:
    """Return exp(x_k) / Σ exp(x) for one row, the textbook formula. It overflows above 709.

    >>> softmax(np.array([0.0, math.log(3.0)])).round(12).tolist()
    [0.25, 0.75]
    """
    return np.exp(x) / np.exp(x).sum()


def softmax_jacobian(y: Array) -> Array:
    """Return J_kl = y_k (δ_kl − y_l) for one row of softmax's output.

    >>> softmax_jacobian(np.array([0.25, 0.75]))
    array([[ 0.1875, -0.1875],
           [-0.1875,  0.1875]])
    """
    return np.diag(y) - np.outer(y, y)


def cross_entropy(x: Array, label: int) -> tuple[float, Array]:
    """Return −log softmax(x)_label of one row of logits, and its gradient through the Jacobian.

    Softmax first, then the logarithm, then the chain rule: dx = J · dp with dp = −1/p at the label.

    >>> value, dx = cross_entropy(np.array([0.0, math.log(3.0)]), 1)
    >>> round(value, 12) == round(-math.log(0.75), 12), dx.round(12).tolist()
    (True, [0.25, -0.25])
    """
    p = softmax(x)
    dp = np.zeros_like(p)
    dp[label] = -1 / p[label]
    return -math.log(p[label]), softmax_jacobian(p) @ dp


def per_example_gradients(
    x: Array, labels: Array, weights: Sequence[tuple[Array, Array]]
) -> list[list[tuple[Array, Array]]]:
    """Return, for each example, the gradients (dW, db) of each layer of a tanh network.

    The network has Dense layers with tanh between them and softmax cross-entropy at the end. It
    runs one example at a time, without any batch or mean.
    """
    gradients = []
    for i in range(len(x)):
        activations = [x[i]]
        for W, b in weights[:-1]:
            activations.append(np.tanh(activations[-1] @ W + b))
        W, b = weights[-1]
        _, delta = cross_entropy(activations[-1] @ W + b, int(labels[i]))
        layers = []
        for (W, _), a in zip(reversed(weights), reversed(activations), strict=True):
            layers.append((np.outer(a, delta), delta))
            delta = (W @ delta) * (1 - a * a)
        gradients.append(layers[::-1])
    return gradients


class Adam:
    """Adam for a list of arrays, line by line as in Algorithm 1 of Kingma and Ba (2015).

    >>> adam = Adam(learning_rate=0.1)
    >>> adam.update([np.array([1.0])], [np.array([2.0])])[0].round(6).tolist()
    [0.9]
    """

    def __init__(
        self,
        learning_rate: float = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
    ) -> None:
        self.learning_rate, self.beta1, self.beta2 = learning_rate, beta1, beta2
        self.epsilon = epsilon
        self.t = 0
        self.m: list[Array] = []
        self.v: list[Array] = []

    def update(self, params: list[Array], grads: list[Array]) -> list[Array]:
        """Return the new parameters."""
        if self.t == 0:
            self.m = [np.zeros_like(p) for p in params]
            self.v = [np.zeros_like(p) for p in params]
        self.t += 1
        new = []
        for i, (p, g) in enumerate(zip(params, grads, strict=True)):
            self.m[i] = self.beta1 * self.m[i] + (1 - self.beta1) * g
            self.v[i] = self.beta2 * self.v[i] + (1 - self.beta2) * g**2
            m_hat = self.m[i] / (1 - self.beta1**self.t)
            v_hat = self.v[i] / (1 - self.beta2**self.t)
            new.append(p - self.learning_rate * m_hat / (np.sqrt(v_hat) + self.epsilon))
        return new
