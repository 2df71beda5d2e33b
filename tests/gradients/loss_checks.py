"""Checks of a loss alone: its gradient by two methods, its value by definition, far-out logits.

LOSSES holds each loss with each kind of target that it takes.
"""

import math

import numpy as np
from gradients.common import CENTRAL, EXACT, assert_close, rng_of

import minigd as gd
from minigd.checks import reference


def _logits(rng, n, k):
    return 2 * rng.standard_normal((n, k))


def _probabilities(rng, n, k):
    return rng.uniform(0.1, 0.9, (n, k))


def _simplex(rng, n, k):
    return rng.dirichlet(np.full(k, 3.0), n)


def _real(rng, n, k):
    return rng.standard_normal((n, k))


def _flags(rng, n, k):
    return rng.integers(0, 2, (n, k))


def _flat_flags(rng, n, k):
    return rng.integers(0, 2, n)


def _classes(rng, n, k):
    return rng.integers(0, k, n)


def _one_hot(rng, n, k):
    return np.eye(k)[rng.integers(0, k, n)]


def _bce():
    return gd.BinaryCrossEntropy()


def _bce_logits():
    return gd.BinaryCrossEntropy(from_logits=True)


def _bce_smoothed(from_logits=False):
    return gd.BinaryCrossEntropy(from_logits, label_smoothing=0.2)


def _cce_smoothed(from_logits=False):
    return gd.CategoricalCrossEntropy(from_logits, label_smoothing=0.2)


def _cce():
    return gd.CategoricalCrossEntropy()


def _cce_logits():
    return gd.CategoricalCrossEntropy(from_logits=True)


def _quantiles():
    return gd.Quantile([0.1, 0.5, 0.8])


def _focal(gamma, alpha, from_logits=False):
    return gd.Focal(gamma, alpha, from_logits, label_smoothing=0.2)


LOSSES = {  # name: the loss, K, how to draw z, how to draw y
    "mse, flat y": (gd.MeanSquaredError, 1, _real, lambda rng, n, k: rng.standard_normal(n)),
    "mse, one output": (gd.MeanSquaredError, 1, _real, _real),
    "mse, three outputs": (gd.MeanSquaredError, 3, _real, _real),
    "huber, flat y": (gd.Huber, 1, _logits, lambda rng, n, k: rng.standard_normal(n)),
    "huber, three outputs": (gd.Huber, 3, _logits, _real),
    "huber, narrow": (lambda: gd.Huber(0.3), 2, _real, _real),
    "mae, flat y": (gd.MeanAbsoluteError, 1, _real, lambda rng, n, k: rng.standard_normal(n)),
    "mae, three outputs": (gd.MeanAbsoluteError, 3, _logits, _real),
    "quantile, flat y": (gd.Quantile, 1, _real, lambda rng, n, k: rng.standard_normal(n)),
    "quantile, three outputs": (lambda: gd.Quantile(0.2), 3, _logits, _real),
    "quantiles": (_quantiles, 3, _logits, lambda rng, n, k: rng.standard_normal(n)),
    "quantiles, column": (_quantiles, 3, _real, lambda rng, n, k: rng.standard_normal((n, 1))),
    "poisson, flat y": (gd.Poisson, 1, _real, lambda rng, n, k: rng.poisson(2, n)),
    "poisson, three outputs": (gd.Poisson, 3, _real, lambda rng, n, k: rng.gamma(2, size=(n, k))),
    "hinge, flat labels": (gd.Hinge, 1, _logits, _flat_flags),
    "hinge, column of labels": (gd.Hinge, 1, _real, _flags),
    "hinge, classes": (gd.Hinge, 4, _logits, _classes),
    "hinge, one-hot rows": (gd.Hinge, 3, _real, _one_hot),
    "focal, flat labels": (gd.Focal, 1, _probabilities, _flat_flags),
    "focal, smoothed": (lambda: _focal(0.5, None), 3, _probabilities, _flags),
    "focal logits, flat labels": (lambda: gd.Focal(from_logits=True), 1, _logits, _flat_flags),
    "focal logits, soft labels": (lambda: _focal(1.5, 0.4, True), 3, _logits, _probabilities),
    "bce, flat labels": (_bce, 1, _probabilities, _flat_flags),
    "bce, three outputs": (_bce, 3, _probabilities, _flags),
    "bce, soft labels": (_bce, 3, _probabilities, _probabilities),
    "bce logits, flat labels": (_bce_logits, 1, _logits, _flat_flags),
    "bce logits, three outputs": (_bce_logits, 3, _logits, _flags),
    "bce logits, soft labels": (_bce_logits, 3, _logits, _probabilities),
    "cce, classes": (_cce, 4, _simplex, _classes),
    "cce, column of classes": (_cce, 4, _simplex, lambda rng, n, k: rng.integers(0, k, (n, 1))),
    "cce, one-hot rows": (_cce, 4, _simplex, _one_hot),
    "cce, soft rows": (_cce, 4, _simplex, _simplex),
    "cce logits, classes": (_cce_logits, 4, _logits, _classes),
    "cce logits, one-hot rows": (_cce_logits, 4, _logits, _one_hot),
    "cce logits, soft rows": (_cce_logits, 4, _logits, _simplex),
    "bce, smoothed": (_bce_smoothed, 3, _probabilities, _flags),
    "bce logits, smoothed": (lambda: _bce_smoothed(True), 1, _logits, _flat_flags),
    "bce logits, smoothed soft labels": (lambda: _bce_smoothed(True), 3, _logits, _probabilities),
    "cce, smoothed": (_cce_smoothed, 4, _simplex, _classes),
    "cce, smoothed one-hot rows": (_cce_smoothed, 4, _simplex, _one_hot),
    "cce logits, smoothed": (lambda: _cce_smoothed(True), 4, _logits, _classes),
    "cce logits, smoothed soft rows": (lambda: _cce_smoothed(True), 4, _logits, _simplex),
}


def draw(name, n=6, seed=0):
    """Return a loss, outputs z and targets y of a case of LOSSES."""
    make, k, draw_z, draw_y = LOSSES[name]
    rng = rng_of(seed, 4, n)
    return make(), draw_z(rng, n, k), draw_y(rng, n, k)


def weights(n, seed=0):
    """Return weights of rows; one of them is 0 where there are several rows."""
    weight = rng_of(seed, 12, n).uniform(0.2, 3.0, n)
    if n > 1:
        weight[n // 2] = 0.0
    return weight


def loss_gradient(name, method="complex", n=6, weighted=False):
    """Compare row i of `backward` with n ∂L/∂z_i, by one method on `forward`."""
    loss, z, y = draw(name, n)
    weight = weights(n) if weighted else None
    z_before, y_before = z.copy(), y.copy()
    loss.forward(z, y, weight)
    dz = loss.backward()
    numeric = np.empty_like(z)
    for place in np.ndindex(z.shape):
        step = np.zeros(z.shape)
        step[place] = 1.0
        if method == "complex":
            numeric[place] = n * loss.forward(z + 1e-20j * step, y, weight).imag / 1e-20
        else:
            up = loss.forward(z + 1e-5 * step, y, weight)
            down = loss.forward(z - 1e-5 * step, y, weight)
            numeric[place] = n * (up - down) / 2e-5
    assert_close(dz, numeric, EXACT if method == "complex" else CENTRAL, "dz")
    assert np.array_equal(z, z_before), "z was modified"
    assert np.array_equal(y, y_before), "y was modified"


def _one_example(loss, z, y):
    """Return ℓ for one row, from the definitions, a number at a time."""
    k = len(z)
    if isinstance(loss, gd.MeanSquaredError):
        return sum((z[j] - y[j]) ** 2 for j in range(k)) / k
    if isinstance(loss, gd.Huber):
        e, d = [abs(z[j] - y[j]) for j in range(k)], loss.delta
        return sum(a * a / 2 if a <= d else d * a - d * d / 2 for a in e) / k
    if isinstance(loss, gd.MeanAbsoluteError):
        return sum(abs(z[j] - y[j]) for j in range(k)) / k
    if isinstance(loss, gd.Quantile):
        q = np.broadcast_to(loss.quantiles, k)
        return sum(max(q[j] * (y[j] - z[j]), (q[j] - 1) * (y[j] - z[j])) for j in range(k)) / k
    if isinstance(loss, gd.Poisson):
        # −log of the probability, and back what no prediction changes.
        p = [-y[j] * z[j] + math.exp(z[j]) + math.lgamma(y[j] + 1) for j in range(k)]
        return sum(p[j] - math.lgamma(y[j] + 1) for j in range(k)) / k
    if isinstance(loss, gd.Hinge):
        if k == 1:
            return max(0, 1 - z[0]) if y[0] else max(0, 1 + z[0])
        own = z[list(y).index(1)]
        return max(z[j] + (not y[j]) - own for j in range(k))
    alpha = loss.label_smoothing
    if isinstance(loss, gd.Focal):
        y = [(1 - alpha) * y[j] + alpha * (1 / 2) for j in range(k)]
        p = [reference.sigmoid(v) for v in z] if loss.from_logits else z
        one, zero = (1, 1) if loss.alpha is None else (loss.alpha, 1 - loss.alpha)
        return (
            -sum(
                one * y[j] * (1 - p[j]) ** loss.gamma * math.log(p[j])
                + zero * (1 - y[j]) * p[j] ** loss.gamma * math.log(1 - p[j])
                for j in range(k)
            )
            / k
        )
    if isinstance(loss, gd.BinaryCrossEntropy):
        # A share α of the label is thrown away, and a fair coin put in its place.
        y = [(1 - alpha) * y[j] + alpha * (1 / 2) for j in range(k)]
        p = [reference.sigmoid(v) for v in z] if loss.from_logits else z
        return -sum(y[j] * math.log(p[j]) + (1 - y[j]) * math.log(1 - p[j]) for j in range(k)) / k
    y = [(1 - alpha) * y[j] + alpha * (1 / k) for j in range(k)]
    p = reference.softmax(z) if loss.from_logits else z
    return -sum(y[j] * math.log(p[j]) for j in range(k))


def loss_value(name, n=6, weighted=False):
    """Compare `forward` with the mean over rows of what the definition gives for each."""
    loss, z, y = draw(name, n)
    weight = weights(n) if weighted else np.ones(n)
    rows = y
    if isinstance(loss, gd.Quantile) and y.size == n:
        rows = np.repeat(y.reshape(-1, 1), z.shape[1], axis=1)
    elif y.size == n and z.shape[1] > 1:
        rows = np.eye(z.shape[1])[y.reshape(-1)]
    rows = rows.reshape(z.shape)
    total = sum(weight[i] * _one_example(loss, z[i], rows[i]) for i in range(n))
    value = loss.forward(z, y, weight) if weighted else loss.forward(z, y)
    assert_close(value, total / sum(weight), 1e-13, "L")


def loss_is_real_in_complex_numbers(name):
    loss, z, y = draw(name)
    value = loss.forward(z.astype("complex128"), y)
    np.testing.assert_allclose(complex(value), loss.forward(z, y), rtol=1e-14)


def logits_stay_exact_far_out():
    """Compare losses and gradients at |z| = 1e4 with 0 or 1e4, and p − y."""
    loss = gd.BinaryCrossEntropy(from_logits=True)
    z, y = np.array([[1e4], [1e4], [-1e4], [-1e4]]), np.array([1, 0, 1, 0])
    with np.errstate(over="ignore", invalid="ignore"):
        assert_close(loss.forward(z, y), 5e3, 1e-15, "L")
        assert_close(loss.backward(), [[0.0], [1.0], [-1.0], [0.0]], 1e-15, "dz")
        loss = gd.CategoricalCrossEntropy(from_logits=True)
        z, y = np.array([[1e4, -1e4], [1e4, -1e4]]), np.array([0, 1])
        assert_close(loss.forward(z, y), 1e4, 1e-15, "L")
        assert_close(loss.backward(), [[0.0, 0.0], [1.0, -1.0]], 1e-15, "dz")
