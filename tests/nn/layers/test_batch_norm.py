"""Batch normalization: a training pass, running statistics, a batch of one row, and weights.

The truth is naive loops, decimal arithmetic far from zero, and the recurrence itself.
"""

import decimal

import numpy as np
import pytest
from oracles import strict_cupy

import minigd as gd
from minigd.checks import reference

# A training pass ---------------------------------------------------------------------------------


def batch_norm(backend="numpy", width=3, dtype="float64", **arguments):
    """Return a model of one BatchNorm whose γ and β are off their first values."""
    layers = [gd.BatchNorm(**arguments)]
    model = gd.Sequential(layers, inputs=width, backend=backend, dtype=dtype)
    rng = np.random.default_rng(width)
    for name, value in (("gamma", rng.normal(size=width)), ("beta", rng.normal(size=width))):
        model.params[f"batchnorm1.{name}"][...] = model.backend.asarray(value, dtype=dtype)
    return model


def affine(model):
    """Return γ and β on the host."""
    params = model.params["batchnorm1.gamma"], model.params["batchnorm1.beta"]
    return [model.backend.to_numpy(value).copy() for value in params]


def running(model, layer=0):
    """Return copies of the running mean and variance, on the host."""
    buffers = model.layers[layer].buffers
    return [model.backend.to_numpy(buffers[name]).copy() for name in ("mean", "variance")]


def rows(n, width=3, seed=0):
    """Return x and dy; the columns of x differ in mean and in size."""
    rng = np.random.default_rng([seed, n])
    x = rng.normal(size=(n, width)) * 10.0 ** np.arange(width) + [[5.0, -7.0, 0.0][:width]]
    return x, rng.normal(size=(n, width))


def assert_equal_pairs(one, other):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("n", [2, 3, 7, 40])
@pytest.mark.parametrize("epsilon", [1e-5, 0.5])
def test_a_batch_is_normalised_as_the_loops_have_it(backend, n, epsilon):
    model = batch_norm(backend, epsilon=epsilon)
    x, dy = rows(n)
    gamma, beta = affine(model)
    y = model.forward(backend.asarray(x), train=True)
    dx = model.backward(backend.asarray(dy), input_gradient=True)
    expected = reference.batch_norm(x, gamma, beta, epsilon)
    np.testing.assert_allclose(backend.to_numpy(y), expected, rtol=1e-12, atol=1e-13)
    dgamma, dbeta, expected = reference.batch_norm_backward(x, gamma, dy, epsilon)
    grads = (backend.to_numpy(model.grads[f"batchnorm1.{name}"]) for name in ("gamma", "beta"))
    for grad, mean in zip(grads, (dgamma, dbeta), strict=True):
        np.testing.assert_allclose(grad, mean, rtol=1e-12, atol=1e-14)
    # A column of two rows goes to ±1 wherever they are: dx is what ε leaves of it.
    allowed = 1e-12 * abs(dy).max() / np.sqrt(x.var(axis=0) + epsilon)
    assert (abs(backend.to_numpy(dx) - expected) <= allowed * abs(gamma)).all()


def test_scales_start_at_1_and_shifts_at_0(backend):
    model = gd.Sequential([gd.BatchNorm()], inputs=3, backend=backend)
    assert_equal_pairs(affine(model), (np.ones(3), np.zeros(3)))
    assert_equal_pairs(running(model), (np.zeros(3), np.ones(3)))


def test_a_first_layer_leaves_dx_out_and_its_own_gradients_as_they_are(backend):
    model = batch_norm(backend)
    x, dy = map(backend.asarray, rows(7))
    model.forward(x, train=True)
    model.backward(dy, input_gradient=True)
    expected = backend.to_numpy(model.flat_grads).copy()
    model.flat_grads[...] = np.nan
    model.forward(x, train=True)
    model.layers[0].wants_dx = False
    assert model.layers[0].backward(dy) is None
    np.testing.assert_array_equal(backend.to_numpy(model.flat_grads), expected)


def test_digits_are_kept_far_from_zero():
    # The mean square less the squared mean has none left here.
    model = batch_norm(width=1)
    model.flat_params[...] = [1.0, 0.0]
    x = np.random.default_rng(0).normal(size=(1000, 1))
    far = 1e8 + x
    y = model.forward(far, train=True)
    np.testing.assert_allclose(y, (x - x.mean()) / np.sqrt(x.var() + 1e-5), atol=1e-6)
    np.testing.assert_allclose(running(model)[1], 0.9 + 0.1 * x.var(ddof=1), rtol=1e-7)


def exactly(x, dy, gamma, beta, epsilon=1e-5):
    """Return y, dγ and dx of one column by the formulas, in numbers of sixty digits."""
    with decimal.localcontext(decimal.Context(prec=60)):
        x, dy = ([decimal.Decimal(float(v)) for v in column] for column in (x, dy))
        gamma, beta, epsilon = (decimal.Decimal(float(v)) for v in (gamma, beta, epsilon))
        n = len(x)
        mean = sum(x) / n
        scale = 1 / (sum((v - mean) ** 2 for v in x) / n + epsilon).sqrt()
        x_hat = [(v - mean) * scale for v in x]
        dbeta, dgamma = sum(dy) / n, sum(d * v for d, v in zip(dy, x_hat, strict=True)) / n
        y = [gamma * v + beta for v in x_hat]
        dx = [gamma * scale * (d - dbeta - v * dgamma) for d, v in zip(dy, x_hat, strict=True)]
        return np.array(y, float), float(dgamma), np.array(dx, float)


@pytest.mark.parametrize("n", [3, 20, 200])
@pytest.mark.parametrize("far", [0.0, 1e3, 1e5, 1e7])
def test_far_from_zero_no_digits_are_lost_but_those_that_x_has_not(far, n):
    rng = np.random.default_rng(n)
    model = batch_norm(width=1)
    x, dy = far + rng.normal(size=(n, 1)), rng.normal(size=(n, 1))
    gamma, beta = affine(model)
    y = model.forward(x, train=True)
    dx = model.backward(dy, input_gradient=True)
    true = exactly(x[:, 0], dy[:, 0], gamma[0], beta[0])
    found = y[:, 0], model.grads["batchnorm1.gamma"][0], dx[:, 0]
    # A mean of n numbers near `far` is rounded n times to a share of 2⁻⁵³ of it.
    for one, other in zip(found, true, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=20 * n**0.5 * (1 + far) * 2.0**-53)


def test_a_constant_column_becomes_its_shift_and_stays_finite(backend):
    model = batch_norm(backend, width=2)
    x, dy = rows(6, 2)
    x[:, 0] = 4.0
    y = backend.to_numpy(model.forward(backend.asarray(x), train=True))
    np.testing.assert_array_equal(y[:, 0], np.full(6, affine(model)[1][0]))
    dx = backend.to_numpy(model.backward(backend.asarray(dy), input_gradient=True))
    assert np.isfinite(dx).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_dtype_is_kept_in_outputs_gradients_and_statistics(backend, dtype):
    model = batch_norm(backend, dtype=dtype)
    for n in (1, 4):
        x, dy = (backend.asarray(a, dtype=dtype) for a in rows(n))
        y = model.forward(x, train=True)
        dx = model.backward(dy, input_gradient=True)
        buffers = model.layers[0].buffers.values()
        assert {str(a.dtype) for a in (y, dx, *buffers, model.flat_grads)} == {dtype}


# Running statistics ------------------------------------------------------------------------------


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9, 0.99])
def test_running_statistics_follow_their_recurrence(backend, momentum):
    model = batch_norm(backend, momentum=momentum)
    mean, variance = np.zeros(3), np.ones(3)
    for seed, n in enumerate((5, 2, 11, 3)):
        x, _ = rows(n, seed=seed)
        model.forward(backend.asarray(x), train=True)
        mean = momentum * mean + (1 - momentum) * x.mean(axis=0)
        variance = momentum * variance + (1 - momentum) * x.var(axis=0, ddof=1)
        for value, expected in zip(running(model), (mean, variance), strict=True):
            np.testing.assert_allclose(value, expected, rtol=1e-12, atol=1e-13)


def test_the_variance_of_small_batches_is_unbiased():
    # Over all pairs of six numbers the mean of n / (n − 1) σ² is the variance of the six.
    numbers = np.random.default_rng(0).normal(size=6) ** 3
    model = batch_norm(width=1, momentum=0.0)
    found = []
    for i in range(6):
        for k in range(i):
            model.forward(numbers[[i, k]].reshape(2, 1), train=True)
            found.append(running(model)[1][0])
    assert np.mean(found) == pytest.approx(numbers.var(ddof=1), rel=1e-12)


def test_a_prediction_uses_the_running_statistics_and_looks_at_no_other_row(backend):
    model = batch_norm(backend, momentum=0.5)
    model.forward(backend.asarray(rows(9)[0]), train=True)
    x, _ = rows(6, seed=1)
    (gamma, beta), (mean, variance) = affine(model), running(model)
    y = backend.to_numpy(model.forward(backend.asarray(x)))
    expected = gamma * (x - mean) / np.sqrt(variance + 1e-5) + beta
    np.testing.assert_allclose(y, expected, rtol=1e-13, atol=1e-14)
    for i in range(6):
        alone = model.forward(backend.asarray(x[i : i + 1]))
        np.testing.assert_array_equal(backend.to_numpy(alone), y[i : i + 1])


def test_evaluating_changes_nothing_and_does_not_disturb_a_training_pass(backend):
    layers = [gd.Dense(4), gd.BatchNorm(), gd.Tanh(), gd.Dense(1)]
    model = gd.Sequential(layers, inputs=3, backend=backend)
    (x, _), y = rows(30), np.arange(30.0) / 30
    trainer = gd.Trainer(model, "mse", gd.SGD(0.01))
    trainer.fit(gd.Batches(x, y, batch_size=10))
    before = [*running(model, 1), backend.to_numpy(model.flat_params).copy()]
    assert (before[0] != 0).all()
    values = [trainer.evaluate(x, y), model.evaluate(x, y)]
    assert values[0] == values[1]
    model.predict(x)
    model.forward(backend.asarray(x))
    after = [*running(model, 1), backend.to_numpy(model.flat_params)]
    assert_equal_pairs(before, after)

    # What a training pass kept is not touched by one that only reads.
    batch, dy = backend.asarray(x[:5]), backend.asarray(np.ones((5, 1)) / 3)
    grads = []
    for look in (lambda: None, lambda: model.forward(backend.asarray(x[5:]))):
        model.forward(batch, train=True)
        look()
        model.backward(dy)
        grads.append(backend.to_numpy(model.flat_grads).copy())
    np.testing.assert_array_equal(*grads)


def test_validation_in_fit_leaves_the_run_as_it_is_without():
    (x, _), y = rows(30), np.arange(30.0) / 30
    results = []
    for validation in (None, (10 * x, y)):
        layers = [gd.Dense(4), gd.BatchNorm(), gd.ReLU(), gd.Dropout(), gd.Dense(1)]
        model = gd.Sequential(layers, inputs=3)
        model.fit(x, y, loss="mse", batch_size=8, epochs=3, validation_data=validation)
        results.append([*running(model, 1), model.flat_params])
    assert_equal_pairs(*results)


# A batch of one row ------------------------------------------------------------------------------


def test_one_row_is_normalised_by_the_running_statistics_and_leaves_them(backend):
    model = batch_norm(backend)
    model.forward(backend.asarray(rows(9)[0]), train=True)
    before = running(model)
    x, dy = rows(1, seed=1)
    y = backend.to_numpy(model.forward(backend.asarray(x), train=True))
    dx = model.backward(backend.asarray(dy), input_gradient=True)
    assert_equal_pairs(running(model), before)
    np.testing.assert_array_equal(y, backend.to_numpy(model.forward(backend.asarray(x))))
    # They are constants to its gradient.
    (gamma, _), (mean, variance) = affine(model), before
    root = np.sqrt(variance + 1e-5)
    expected = {"gamma": dy[0] * (x[0] - mean) / root, "beta": dy[0]}
    for name, value in expected.items():
        grad = backend.to_numpy(model.grads[f"batchnorm1.{name}"])
        np.testing.assert_allclose(grad, value, rtol=1e-13)
    np.testing.assert_allclose(backend.to_numpy(dx), dy * gamma / root, rtol=1e-13)


def test_the_tail_of_an_epoch_of_one_row_is_trained_on_and_leaves_the_statistics():
    (x, _), y = rows(7), np.arange(7.0)
    layers = [gd.BatchNorm(momentum=0.5), gd.Dense(1)]
    model = gd.Sequential(layers, inputs=3, dtype="float64")
    trainer = gd.Trainer(model, "mse", gd.SGD(0.01))
    trainer.fit(gd.Batches(x, y, batch_size=3))
    assert trainer.updates == 3
    expected = [np.zeros(3), np.ones(3)]
    for batch in (x[:3], x[3:6]):
        found = batch.mean(axis=0), batch.var(axis=0, ddof=1)
        expected = [(a + b) / 2 for a, b in zip(expected, found, strict=True)]
    for value, other in zip(running(model), expected, strict=True):
        np.testing.assert_allclose(value, other, rtol=1e-12)


def test_with_batches_of_one_row_the_layer_is_a_scale_and_a_shift():
    (x, _), y = rows(5), np.arange(5.0)
    model = gd.Sequential([gd.BatchNorm(), gd.Dense(1)], inputs=3, dtype="float64")
    model.fit(x, y, loss="mse", updater=gd.SGD(1e-6), batch_size=1, epochs=2)
    assert_equal_pairs(running(model), (np.zeros(3), np.ones(3)))
    gamma, beta = affine(model)
    hidden = model.layers[0].forward(x)
    np.testing.assert_allclose(hidden, gamma * x / np.sqrt(1 + 1e-5) + beta, rtol=1e-13)


# Rows that do not count, updates that are not made -----------------------------------------------


@pytest.mark.parametrize("n", [2, 3, 7])  # of two rows one is left, which is a batch of one row
def test_a_row_of_weight_0_is_not_in_the_statistics(backend, n):
    x, y = rows(n)[0].astype("float32"), np.arange(n, dtype="float32").reshape(n, 1)
    weight = np.ones(n)
    weight[1] = 0.0
    others = np.delete(x, 1, axis=0), np.delete(y, 1, axis=0)
    x[1], y[1] = np.nan, np.inf
    results = []
    for batch in ((x, y, weight), others):
        layers = [gd.BatchNorm(), gd.Dense(1)]
        model = gd.Sequential(layers, inputs=3, backend=backend)
        trainer = gd.Trainer(model, "mse", gd.SGD(0.01))
        trainer.step(*map(backend.asarray, batch))
        results.append([*running(model), backend.to_numpy(model.flat_params)])
    assert_equal_pairs(*results)
    moved = (results[0][0] != 0).any()
    assert moved == (n > 2)


def test_weights_weigh_the_loss_and_not_the_statistics(backend):
    (x, _), y = rows(8), np.arange(8.0)
    results = []
    for weight in (None, np.arange(1.0, 9.0)):
        layers = [gd.BatchNorm(), gd.Dense(1)]
        model = gd.Sequential(layers, inputs=3, backend=backend, dtype="float64")
        trainer = gd.Trainer(model, "mse", gd.SGD(0.1))
        trainer.step(backend.asarray(x), backend.asarray(y), weight)
        results.append((running(model), backend.to_numpy(model.flat_params)))
    assert_equal_pairs(results[0][0], results[1][0])
    assert (results[0][1] != results[1][1]).any()


def test_an_update_that_is_refused_takes_its_statistics_back():
    x, y = (a.astype("float32") for a in (rows(8)[0], np.arange(8.0)))
    model = gd.Sequential([gd.BatchNorm(), gd.Dense(1)], inputs=3)
    trainer = gd.Trainer(model, "mse", gd.SGD(0.1))
    trainer.step(x, y)
    before = running(model)
    with pytest.raises(gd.DivergenceError):
        trainer.step(x, y + np.float32(1e30))
    assert_equal_pairs(running(model), before)


# Manners -----------------------------------------------------------------------------------------


def test_statistics_are_copied_saved_and_moved_and_not_trained(tmp_path, backend):
    model = batch_norm()
    assert list(model.params) == ["batchnorm1.gamma", "batchnorm1.beta"]
    assert model.n_weights == 0
    for seed in range(3):
        model.forward(rows(6, seed=seed)[0], train=True)
    model.save(tmp_path / "m.npz")
    x, _ = rows(5)
    expected = model.predict(x)
    for again in (model.copy(), gd.load(tmp_path / "m.npz")):
        assert_equal_pairs(running(again), running(model))
        np.testing.assert_array_equal(again.predict(x), expected)
    copy = model.copy()
    copy.forward(x, train=True)
    assert (running(copy)[0] != running(model)[0]).all()
    np.testing.assert_allclose(model.to(backend).predict(x), expected, rtol=1e-13)


def test_statistics_go_on_after_a_move(backend):
    model, there = batch_norm(), batch_norm().to(backend)
    for seed in range(3):
        x, _ = rows(6, seed=seed)
        model.forward(x, train=True)
        there.forward(backend.asarray(x), train=True)
    for one, other in zip(running(model), running(there), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-13)


def test_inputs_are_not_modified_and_results_are_fresh(backend):
    model = batch_norm(backend)
    for n in (1, 6):
        host = rows(n)
        x, dy = (backend.asarray(a.copy()) for a in host)
        y = model.forward(x, train=True)
        dx = model.backward(dy, input_gradient=True)
        results = backend.to_numpy(y).copy(), backend.to_numpy(dx).copy()
        model.forward(2 * x + 1, train=True)
        model.backward(2 * dy, input_gradient=True)
        for array, expected in zip((x, dy, y, dx), (*host, *results), strict=True):
            np.testing.assert_array_equal(backend.to_numpy(array), expected)


def test_nothing_is_kept_outside_training_and_nothing_twice(backend):
    model = batch_norm(backend)
    x, dy = map(backend.asarray, rows(4))
    model.forward(x)
    with pytest.raises(RuntimeError, match="batchnorm1: backward was called without a forward"):
        model.layers[0].backward(dy)
    model.forward(x, train=True)
    model.layers[0].backward(dy)
    with pytest.raises(RuntimeError, match=r"batchnorm1: .* for the second time"):
        model.layers[0].backward(dy)


@pytest.mark.parametrize("batch_size", [4, 8])  # 17 rows: in both a tail of one
def test_the_trainers_memory_does_not_change_the_numbers(backend, batch_size):
    (x, _), y = rows(17), np.arange(17.0)
    results = []
    for reuse in (True, False):
        layers = [gd.Dense(4), gd.BatchNorm(), gd.ReLU(), gd.BatchNorm(), gd.Dense(1)]
        model = gd.Sequential(layers, inputs=3, backend=backend)
        trainer = gd.Trainer(model, "mse", gd.SGD(0.01), reuse_buffers=reuse)
        trainer.fit(gd.Batches(x, y, batch_size=batch_size), epochs=2)
        results.append([*running(model, 1), *running(model, 3), model.predict(x)])
    assert_equal_pairs(*results)


def test_a_training_pass_asks_nothing_of_a_gpu(stand_in):
    model = batch_norm(stand_in)
    for n in (1, 40):
        x, dy = map(stand_in.asarray, rows(n))
        with strict_cupy.counting_host_reads() as reads:
            model.forward(x, train=True)
            model.backward(dy, input_gradient=True)
        assert reads.count == 0


@pytest.mark.parametrize("momentum", [1.0, -0.1, np.nan, "0.9", None, True])
def test_a_momentum_out_of_range_is_refused(momentum):
    with pytest.raises(ValueError, match="momentum must be a number, at least 0 and below 1, not"):
        gd.BatchNorm(momentum=momentum)


@pytest.mark.parametrize("epsilon", [0.0, -1e-5, np.inf, np.nan, "small", None])
def test_an_epsilon_that_is_not_above_0_is_refused(epsilon):
    with pytest.raises(ValueError, match="epsilon must be "):
        gd.BatchNorm(epsilon=epsilon)


@pytest.mark.parametrize("layer", [gd.BatchNorm, gd.LayerNorm])
def test_an_epsilon_that_vanishes_in_the_dtype_is_refused(layer):
    x = np.ones((4, 3))
    for epsilon, dtype in ((1e-60, "float32"), (1e-44, "float32"), (1e-310, "float64")):
        with pytest.raises(ValueError, match=rf"epsilon={epsilon:g} vanishes in {dtype}: use at l"):
            gd.Sequential([gd.Residual([layer(epsilon=epsilon)])], inputs=3, dtype=dtype)
    least = {"float32": 1.2e-38, "float64": 2.3e-308}
    for dtype, epsilon in least.items():
        model = gd.Sequential([layer(epsilon=epsilon)], inputs=3, dtype=dtype)
        assert (model.forward(x, train=True) == 0).all()
    model = gd.Sequential([layer(epsilon=1e-60)], inputs=3, dtype="float64")
    with pytest.raises(ValueError, match="vanishes in float32"):
        model.copy(dtype="float32")


def test_a_row_whose_variance_is_infinite_becomes_beta():
    model = gd.Sequential([gd.LayerNorm()], inputs=3, dtype="float32")
    model.params["layernorm1.beta"][...] = [1, 2, 3]
    with np.errstate(over="ignore"):
        y = model.forward(np.array([[1e20, 2e20, -1e20], [1, 1, 1]], "float32"))
    assert y.tolist() == [[1, 2, 3], [1, 2, 3]]
