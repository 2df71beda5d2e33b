"""Checks of a layer alone: gradient, values by the textbook, and the manners of a layer.

A layer is given as a function that makes it; dy is random, from a seed.
"""

import numpy as np
from gradients.common import CENTRAL, EXACT, MEAN, assert_close, assert_same_gradients, rng_of

import minigd as gd
from minigd import reference

LAYERS = {
    "dense": lambda: gd.Dense(4),
    "square dense": lambda: gd.Dense(5),
    "tanh": gd.Tanh,
    "sigmoid": gd.Sigmoid,
    "relu": gd.ReLU,
    "softmax": gd.Softmax,
}
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
    """Return dx and all parameters' gradients of one pass."""
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


def _softmax(x):
    y = reference.softmax(x)
    return y, reference.softmax_jacobian(y)


TEXTBOOK = {"tanh": _tanh, "sigmoid": _sigmoid, "relu": _relu, "softmax": _softmax}


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


def layer_treats_batches_alike(make):
    """Compare a batch after batches of other sizes with a new model that sees it alone."""
    used = layer_in_model(make)
    x, dy = batch(used, 10)
    for rows in (slice(0, 10), slice(3, 4), slice(6, 10), slice(0, 2), slice(0, 10)):
        alone = gradients(layer_in_model(make), x[rows], dy[rows])
        assert_same_gradients(gradients(used, x[rows], dy[rows]), alone, MEAN)
        assert_close(alone["x"], gradients(used, x, dy)["x"][rows], MEAN, "rows of dx")


def layer_uses_the_last_training_batch(make):
    """Look for traces in `backward` of any pass but the last ``forward(x, train=True)``."""
    model = layer_in_model(make)
    x, dy = batch(model)
    expected = gradients(layer_in_model(make), x, dy)
    gradients(model, x[::-1] + 1.0, dy)
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
    model = layer_in_model(make)
    x, _ = batch(model)
    twin = model.copy(dtype="complex128")
    y = twin.forward(x.astype("complex128"))
    assert y.dtype == "complex128"
    assert not y.imag.any()
    np.testing.assert_allclose(y.real, model.forward(x), rtol=1e-14, atol=1e-15)
