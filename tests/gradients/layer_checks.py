"""Checks of a layer alone: gradient, textbook values, and the rules of a layer.

A layer is given as a function that creates it. dy is random, from a seed.
"""

import math
from functools import partial

import numpy as np
from gradients.common import CENTRAL, EXACT, MEAN, assert_close, assert_same_gradients, rng_of

import minigd as gd
from minigd.checks import reference

LAYERS = {
    "dense": lambda: gd.Dense(4),
    "square dense": lambda: gd.Dense(5),
    "dense without b": lambda: gd.Dense(4, bias=False),
    "tanh": gd.Tanh,
    "sigmoid": gd.Sigmoid,
    "relu": gd.ReLU,
    "leaky relu": gd.LeakyReLU,
    "steep leaky relu": lambda: gd.LeakyReLU(0.3),
    "elu": gd.ELU,
    "steep elu": lambda: gd.ELU(2.5),
    "gelu": gd.GELU,
    "gelu by tanh": lambda: gd.GELU(approximate=True),
    "silu": gd.SiLU,
    "softplus": gd.Softplus,
    "softmax": gd.Softmax,
    "batch norm": gd.BatchNorm,
    "layer norm": gd.LayerNorm,
    "dropout": lambda: gd.Dropout(0.4),
    "residual": lambda: gd.Residual([gd.LayerNorm(), gd.Tanh()]),
    "residual in a residual": lambda: gd.Residual(
        [gd.GELU(), gd.Residual([gd.LayerNorm(), gd.SiLU()]), gd.Softplus()]
    ),
    "residual by batch": lambda: gd.Residual(
        [gd.BatchNorm(), gd.Residual([gd.Tanh(), gd.Dropout(0.4)]), gd.Dropout(0.3)]
    ),
}
# Row i of what these give is not decided by row i alone: by all rows, or by its place among them.
BY_BATCH = ("batch norm", "dropout", "residual by batch")
WIDTH = 5


def layer_in_model(make, width=WIDTH, seed=0):
    """Return a model of one layer whose parameters are all off their first values."""
    model = gd.Sequential([make()], inputs=width, dtype="float64", seed=seed)
    model.flat_params += 0.5 * rng_of(seed, 1).standard_normal(model.flat_params.shape)
    return model


def batch(model, n=7, seed=0):
    """Return x and a random dy for a model."""
    rng = rng_of(seed, 2, n)
    return rng.standard_normal((n, model.n_in)), rng.standard_normal((n, model.n_out))


def gradients(model, x, dy):
    """Return dx and all parameters' gradients of one pass, always the first that a model makes."""
    model.passes = 0
    model.forward(x, train=True)
    dx = model.backward(dy, input_gradient=True)
    return {"x": dx, **{name: grad.copy() for name, grad in model.grads.items()}}


def layer_gradient(make, method="complex", n=7, width=WIDTH, seeds=(0, 1, 2)):
    """`check_layer` with a random dy a seed, by one method."""
    allowed = EXACT if method == "complex" else CENTRAL
    for seed in seeds:
        x = rng_of(seed, 3).standard_normal((n, width))
        errors = gd.check_layer(make(), x, method=method, seed=seed)
        assert max(errors.values()) <= allowed, errors


def _tanh(x):
    return np.tanh(x), np.diag(1 / np.cosh(x) ** 2)


def _sigmoid(x):
    e = np.exp(-x)
    return 1 / (1 + e), np.diag(e / (1 + e) ** 2)


def _relu(x):
    return np.where(x > 0, x, 0), np.diag((x > 0).astype(float))


def _leaky_relu(x, slope):
    return np.maximum(x, 0) - slope * np.maximum(-x, 0), np.diag(np.where(x > 0, 1, slope))


def _elu(x, alpha):
    y = np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))
    return y, np.diag(np.where(x > 0, 1, alpha * np.exp(np.minimum(x, 0))))


def _gelu(x):
    p = np.array([(1 + math.erf(v / math.sqrt(2))) / 2 for v in x])
    return x * p, np.diag(p + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi))


def _gelu_by_tanh(x):
    c = math.sqrt(2 / math.pi)
    t = np.tanh(c * (x + 0.044715 * x**3))
    slope = (1 + t) / 2 + x / 2 * (1 - t * t) * c * (1 + 3 * 0.044715 * x * x)
    return x * (1 + t) / 2, np.diag(slope)


def _silu(x):
    e = np.exp(-x)
    return x / (1 + e), np.diag((1 + e + x * e) / (1 + e) ** 2)


def _softplus(x):
    return np.log(1 + np.exp(x)), np.diag(np.exp(x) / (1 + np.exp(x)))


def _softmax(x):
    y = reference.softmax(x)
    return y, reference.softmax_jacobian(y)


TEXTBOOK = {
    "tanh": _tanh,
    "sigmoid": _sigmoid,
    "relu": _relu,
    "leaky relu": partial(_leaky_relu, slope=0.01),
    "steep leaky relu": partial(_leaky_relu, slope=0.3),
    "elu": partial(_elu, alpha=1.0),
    "steep elu": partial(_elu, alpha=2.5),
    "gelu": _gelu,
    "gelu by tanh": _gelu_by_tanh,
    "silu": _silu,
    "softplus": _softplus,
    "softmax": _softmax,
}


def activation_is_the_textbooks(name):
    """Compare y, and dx with J·dy, a row at a time, with derivatives in terms of x and not of y."""
    model = layer_in_model(LAYERS[name])
    x, dy = batch(model)
    y = model.forward(x, train=True)
    dx = model.backward(dy, input_gradient=True)
    for i in range(len(x)):
        value, jacobian = TEXTBOOK[name](x[i])
        assert_close(y[i], value, 1e-13, "y")
        assert_close(dx[i], jacobian @ dy[i], 1e-13, "dx")


def activation_is_finite_far_out(name):
    """Compare the outputs for inputs of ±1e4 with the limits."""
    model = layer_in_model(LAYERS[name], width=3)
    x = np.array([[1e4, 0.0, -1e4], [1e4, 1e4, 1e4], [-1e4, -1e4, -1e4]])
    with np.errstate(over="ignore", invalid="ignore"):
        y = model.forward(x)
    limits = {
        "tanh": np.sign(x),
        "sigmoid": (np.sign(x) + 1) / 2,
        "relu": np.where(x > 0, x, 0),
        "leaky relu": np.where(x > 0, x, 0.01 * x),
        "steep leaky relu": np.where(x > 0, x, 0.3 * x),
        "elu": np.where(x < 0, -1, x),
        "steep elu": np.where(x < 0, -2.5, x),
        **dict.fromkeys(("gelu", "gelu by tanh", "silu"), np.maximum(x, 0)),
        "softplus": np.where(x == 0, np.log(2), np.maximum(x, 0)),
        "softmax": np.array([[1, 0, 0], [1 / 3] * 3, [1 / 3] * 3]),
    }
    assert_close(y, limits[name], 1e-15, "y")


def dense_is_the_explicit_mean(width=4, units=4, n=6):
    """Compare `Dense` with the mean of outer products, a row at a time; W square by default."""
    model = layer_in_model(lambda: gd.Dense(units), width)
    x, dy = batch(model, n)
    W, b = model.params["dense1.W"], model.params["dense1.b"]
    assert_close(model.forward(x), reference.dense(x, W, b), 1e-13, "y")
    dW, db, dx = reference.dense_backward(x, W, dy)
    expected = {"x": dx, "dense1.W": dW, "dense1.b": db}
    assert_same_gradients(gradients(model, x, dy), expected, MEAN)
    # The first layer of a model may leave dx out; its own gradients stay the same.
    model.forward(x, train=True)
    model.flat_grads[...] = np.nan
    assert model.backward(dy) is None
    assert_close(model.grads["dense1.W"], dW, MEAN, "dW without dx")
    assert_close(model.grads["dense1.b"], db, MEAN, "db without dx")


def layer_treats_batches_alike(make, by_batch=False):
    """Compare a batch after batches of other sizes with a new model that sees it alone.

    Unless a batch decides as a whole, its rows are also compared with those of a larger one; one
    that does may have batches of one row, to which the batches before are all it has.
    """
    used = layer_in_model(make)
    x, dy = batch(used, 10)
    few = slice(3, 6) if by_batch else slice(3, 4)
    for rows in (slice(0, 10), few, slice(6, 10), slice(0, 2), slice(0, 10)):
        alone = gradients(layer_in_model(make), x[rows], dy[rows])
        assert_same_gradients(gradients(used, x[rows], dy[rows]), alone, MEAN)
        if not by_batch:
            assert_close(alone["x"], gradients(used, x, dy)["x"][rows], MEAN, "rows of dx")


def layer_uses_the_last_training_batch(make):
    """Look for traces in `backward` of any pass but the last ``forward(x, train=True)``."""
    model = layer_in_model(make)
    x, dy = batch(model)
    expected = gradients(layer_in_model(make), x, dy)
    gradients(model, x[::-1] + 1.0, dy)
    model.passes = 0
    model.forward(x, train=True)
    model.forward(x * 0.5, train=False)
    dx = model.backward(dy, input_gradient=True)
    assert_same_gradients({"x": dx, **model.grads}, expected, MEAN)


def layer_leaves_inputs_alone(make):
    """Look for a change of x or dy in a pass."""
    model = layer_in_model(make)
    x, dy = batch(model)
    x_before, dy_before = x.copy(), dy.copy()
    gradients(model, x, dy)
    assert np.array_equal(x, x_before), "x was modified"
    assert np.array_equal(dy, dy_before), "dy was modified"


def layer_takes_any_memory_order(make):
    """Compare column order, strides and reversed views of x and dy with plain arrays."""
    model = layer_in_model(make)
    x, dy = batch(model)
    expected = gradients(model, x, dy)

    def strided(a):
        wide = np.full((2 * len(a), 3 * a.shape[1]), np.nan)
        wide[::2, ::3] = a
        return wide[::2, ::3]

    def backwards(a):
        return a[::-1, ::-1].copy()[::-1, ::-1]

    for view in (np.asfortranarray, strided, backwards):
        assert_same_gradients(gradients(model, view(x), view(dy)), expected, MEAN)


def layer_writes_its_gradients(make):
    """Look for what `flat_grads` held before `backward`."""
    model = layer_in_model(make)
    x, dy = batch(model)
    expected = gradients(model, x, dy)
    model.flat_grads[...] = 3.0
    assert_same_gradients(gradients(model, x, dy), expected, MEAN)


def layer_is_real_in_complex_numbers(make):
    """Compare the real part of a complex forward with the float forward, to the last bits."""
    for train in (True, False):
        model = layer_in_model(make)
        x, _ = batch(model)
        twin = model.copy(dtype="complex128")
        y = twin.forward(x.astype("complex128"), train=train)
        assert y.dtype == "complex128"
        assert not y.imag.any()
        np.testing.assert_allclose(y.real, model.forward(x, train=train), rtol=1e-14, atol=1e-15)


# Batch norm -----------------------------------------------------------------------------------


def batch_norm_is_the_loops(n=6, epsilon=1e-5):
    """Compare a training pass of `BatchNorm` with the loops over rows and pairs of rows."""
    model = layer_in_model(lambda: gd.BatchNorm(epsilon=epsilon))
    x, dy = batch(model, n)
    gamma, beta = model.params["batchnorm1.gamma"], model.params["batchnorm1.beta"]
    y = model.forward(x, train=True)
    assert_close(y, reference.batch_norm(x, gamma, beta, epsilon), 1e-13, "y")
    dgamma, dbeta, dx = reference.batch_norm_backward(x, gamma, dy, epsilon)
    expected = {"x": dx, "batchnorm1.gamma": dgamma, "batchnorm1.beta": dbeta}
    assert_same_gradients(gradients(model, x, dy), expected, MEAN)


def batch_norm_runs_its_statistics(momentum=0.8):
    """Compare running statistics with their recurrence, and a prediction with what they give."""
    model = layer_in_model(lambda: gd.BatchNorm(momentum))
    gamma, beta = model.params["batchnorm1.gamma"], model.params["batchnorm1.beta"]
    buffers = model.layers[0].buffers
    mean, variance = np.zeros(WIDTH), np.ones(WIDTH)
    for n in (7, 2, 1, 4):
        x, _ = batch(model, n)
        x = 3 * x + 2
        y = model.forward(x, train=True)
        if n > 1:
            mean = momentum * mean + (1 - momentum) * x.mean(axis=0)
            variance = momentum * variance + (1 - momentum) * x.var(axis=0, ddof=1)
        else:
            expected = gamma * (x - mean) / np.sqrt(variance + 1e-5) + beta
            assert_close(y, expected, 1e-13, "y of one row")
        assert_close(buffers["mean"], mean, 1e-13, "mean")
        assert_close(buffers["variance"], variance, 1e-13, "variance")
    x, _ = batch(model, 5)
    expected = gamma * (x - mean) / np.sqrt(variance + 1e-5) + beta
    assert_close(model.forward(x), expected, 1e-13, "prediction")
    assert_close(buffers["mean"], mean, 1e-13, "mean after a prediction")
    assert_close(buffers["variance"], variance, 1e-13, "variance after a prediction")


# Layer norm -----------------------------------------------------------------------------------


def layer_norm_is_the_loops(n=6, epsilon=1e-5):
    """Compare `LayerNorm` with the loops over rows and pairs of their numbers."""
    model = layer_in_model(lambda: gd.LayerNorm(epsilon))
    x, dy = batch(model, n)
    gamma, beta = model.params["layernorm1.gamma"], model.params["layernorm1.beta"]
    y = reference.layer_norm(x, gamma, beta, epsilon)
    assert_close(model.forward(x), y, 1e-13, "prediction")
    assert_close(model.forward(x, train=True), y, 1e-13, "y")
    dgamma, dbeta, dx = reference.layer_norm_backward(x, gamma, dy, epsilon)
    expected = {"x": dx, "layernorm1.gamma": dgamma, "layernorm1.beta": dbeta}
    assert_same_gradients(gradients(model, x, dy), expected, MEAN)


# Dropout --------------------------------------------------------------------------------------


def dropout_is_its_input_in_the_mean(rate=0.4, passes=400):
    """Look at many passes: what they leave out, how often, and what a prediction does.

    The bounds are five standard deviations wide, and the seed is fixed.
    """
    model = layer_in_model(lambda: gd.Dropout(rate))
    x, dy = batch(model, 8)
    model.passes = 0
    total, masks = np.zeros_like(x), []
    for _ in range(passes):
        y = model.forward(x, train=True)
        mask = y != 0
        assert_close(y, np.where(mask, x / (1 - rate), 0), 1e-14, "y")
        dx = model.backward(dy, input_gradient=True)
        assert_close(dx, np.where(mask, dy / (1 - rate), 0), 1e-14, "dx")
        total += y
        masks.append(mask.ravel())
    masks = np.array(masks)
    deviation = np.sqrt(rate / (1 - rate) / passes)
    assert (abs(total / passes - x) < 5 * deviation * abs(x)).all(), "the mean is not the input"
    # Of two independent masks this share is the same; so it is of passes, of rows, of columns.
    same = rate**2 + (1 - rate) ** 2
    rows = masks.reshape(passes, *x.shape)
    pairs = {
        "passes": masks[1:] == masks[:-1],
        "rows": rows[:, 1:] == rows[:, :-1],
        "columns": rows[..., 1:] == rows[..., :-1],
    }
    for what, equal in pairs.items():
        bound = 5 * np.sqrt(same * (1 - same) / equal.size)
        # Pairs share a mask with their neighbours, which widens the bound by less than √2.
        assert abs(equal.mean() - same) < 1.5 * bound, f"masks of neighbouring {what} are not fair"
    assert np.array_equal(model.forward(x), x), "a prediction leaves something out"
