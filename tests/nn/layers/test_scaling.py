"""Standardize and Rescale, which see the data once.

Their numbers are NumPy's; outside are the units of the data.
"""

import numpy as np
import pytest
from budgets import examples
from hypothesis import given
from hypothesis import strategies as st

import minigd as gd
from minigd.nn.moments import Moments

UNITS = np.array([1.0, 1e4, 1e-3])


def table(n=230, seed=0):
    """Return rows whose columns differ in size, and prices that depend on them linearly."""
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(n, 3)) + 5) * UNITS
    return x, 540_000 + 90_000 * (x / UNITS).sum(axis=1) + rng.normal(size=n) * 20_000


def linear(backend="numpy", dtype="float64"):
    layers = [gd.Standardize(), gd.Dense(1), gd.Rescale()]
    return gd.Sequential(layers, inputs=3, backend=backend, dtype=dtype)


@examples(25)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.integers(0, 99))
def test_moments_of_batches_are_those_of_the_whole(sizes, seed):
    x = np.random.default_rng(seed).normal(size=(sum(sizes), 3)) * UNITS + 1e3
    moments = Moments()
    for part in np.split(x, np.cumsum(sizes)[:-1]):
        moments.add(part)
    assert moments.n == len(x)
    np.testing.assert_allclose(moments.mean, x.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(moments.variance, x.var(axis=0), rtol=1e-9, atol=1e-9)


def test_moments_keep_digits_far_from_zero():
    # The textbook formula, the mean square less the squared mean, has none left here.
    x = 1e9 + np.random.default_rng(0).normal(size=(1000, 1))
    moments = Moments()
    for part in np.split(x, 10):
        moments.add(part)
    np.testing.assert_allclose(moments.variance, x.var(axis=0), rtol=1e-6)


def test_rows_of_weight_0_are_not_adapted_to(backend):
    x, y = table(23)
    weight = np.random.default_rng(0).uniform(0.5, 2.0, 23)
    weight[:8] = 0.0  # a whole batch
    weight[[11, 22]] = 0.0
    there = weight > 0
    found = linear(backend)
    found.adapt(gd.Batches(x[there], y[there], batch_size=4))
    x[~there], y[~there] = 1e9, -1e9
    model = linear(backend)
    model.adapt(gd.Batches(x, y, batch_size=8, sample_weight=weight))
    for name, value in model.arrays().items():
        np.testing.assert_allclose(value, found.arrays()[name], rtol=1e-12)


def test_a_standardised_column_has_mean_0_and_deviation_1(backend):
    x, _ = table()
    x[:, 1] = 7.0
    model = gd.Sequential([gd.Standardize()], inputs=3, backend=backend, dtype="float64")
    model.adapt(gd.Batches(x, batch_size=50))
    y = backend.to_numpy(model.forward(backend.asarray(x)))
    np.testing.assert_allclose(y.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(y.std(axis=0), [1, 0, 1], atol=1e-9)


@pytest.mark.parametrize("make", [gd.Standardize, gd.Rescale])
def test_gradients(make):
    x = np.random.default_rng(0).normal(size=(7, 3))
    assert max(gd.check_layer(make(), x).values()) < 1e-10


def test_gradients_of_a_network_between_the_two():
    x, y = table(20)
    layers = [gd.Standardize(), gd.Dense(4), gd.Tanh(), gd.Dense(1), gd.Rescale()]
    model = gd.Sequential(layers, inputs=3)
    model.adapt(gd.Batches(x, y))
    errors = gd.check_gradients(model, "mse", x, y)
    assert max(errors.values()) < 1e-10


def test_training_sees_standard_numbers_and_everyone_else_the_units_of_the_data(backend):
    x, y = table()
    model = linear(backend)
    batches = gd.Batches(x, y, batch_size=50, shuffle=True)
    model.adapt(batches)
    trainer = gd.Trainer(model, "mse", gd.SGD(0.1), metrics=["mae"])
    before = trainer.evaluate(x, y)
    history = trainer.fit(batches, epochs=60, validation_data=(x, y))
    assert 0.05 < before["loss"] < 20  # of a target of deviation 1
    assert before["mae"] > 20_000
    predicted = model.predict(x)[:, 0]
    np.testing.assert_allclose(history["val_mae"][-1], abs(predicted - y).mean(), rtol=1e-9)
    standard = (y - y.mean()) / y.std(), (predicted - y.mean()) / y.std()
    loss = ((standard[0] - standard[1]) ** 2).mean()
    np.testing.assert_allclose(history["val_loss"][-1], loss, rtol=1e-9)


def test_coefficients_are_those_of_least_squares_in_the_units_of_the_data(backend):
    x, y = table()
    model = linear(backend)
    batches = gd.Batches(x, y, batch_size=None)
    model.adapt(batches)
    gd.Trainer(model, "mse", gd.SGD(0.4)).fit(batches, epochs=300)
    slope, intercept = gd.coefficients(model)
    expected = np.linalg.lstsq(np.column_stack([x, np.ones(len(x))]), y, rcond=None)[0]
    np.testing.assert_allclose(slope[:, 0], expected[:3], rtol=1e-8)
    np.testing.assert_allclose(intercept, expected[3:], rtol=1e-8)
    np.testing.assert_allclose(x @ slope + intercept, model.predict(x), rtol=1e-9)


def test_coefficients_of_a_plain_layer_are_its_weights_and_a_network_has_none():
    model = gd.Sequential([gd.Dense(2), gd.Softmax()], inputs=3)
    slope, intercept = gd.coefficients(model)
    np.testing.assert_array_equal(slope, model.params["dense1.W"])
    np.testing.assert_array_equal(intercept, model.params["dense1.b"])
    with pytest.raises(ValueError, match="only a linear model has coefficients"):
        gd.coefficients(gd.Sequential([gd.Dense(2), gd.Tanh(), gd.Dense(1)], inputs=3))


@pytest.mark.parametrize("method", ["forward", "predict"])
def test_a_layer_that_was_not_adapted_says_so(method):
    model = linear()
    with pytest.raises(RuntimeError, match=r"standardize1 has no mean.*model\.adapt\(batches\)"):
        getattr(model, method)(table()[0])
    with pytest.raises(RuntimeError, match="rescale1 has no mean"):
        gd.Trainer(gd.Sequential([gd.Dense(1), gd.Rescale()], 3), "mse", "sgd").fit(*table())


def test_what_was_learned_in_the_pass_is_copied_saved_and_moved(tmp_path, backend):
    x, y = table()
    model = linear()
    model.adapt(gd.Batches(x, y))
    model.save(tmp_path / "m.npz")
    expected = model.predict(x)
    np.testing.assert_array_equal(model.copy().predict(x), expected)
    np.testing.assert_array_equal(gd.load(tmp_path / "m.npz").predict(x), expected)
    np.testing.assert_allclose(model.to(backend).predict(x), expected, rtol=1e-12)


def test_a_layer_may_be_adapted_before_it_is_in_a_model():
    x, _ = table()
    alone = gd.Standardize()
    alone.adapt(gd.Batches(x))
    early = gd.Sequential([alone], inputs=3, dtype="float64")
    late = gd.Sequential([gd.Standardize()], inputs=3, dtype="float64")
    late.adapt(gd.Batches(x))
    np.testing.assert_array_equal(early.forward(x), late.forward(x))
    with pytest.raises(ValueError, match="adapted to 3 columns but has 2 here"):
        gd.Sequential([_adapted(x)], inputs=2)


def _adapted(x):
    layer = gd.Standardize()
    layer.adapt(gd.Batches(x))
    return layer


def test_adapting_uses_up_no_epoch_and_needs_a_layer_for_it():
    x, y = table()
    batches, twin = (gd.Batches(x, y, batch_size=50, shuffle=True) for _ in range(2))
    linear().adapt(batches)
    for one, other in zip(batches, twin, strict=True):
        np.testing.assert_array_equal(one.rows, other.rows)
    with pytest.raises(ValueError, match="no Standardize or Rescale"):
        gd.Sequential([gd.Dense(1)], inputs=3).adapt(batches)
    middle = gd.Sequential([gd.Dense(3), gd.Standardize()], inputs=3)
    with pytest.raises(ValueError, match=r"standardize1 adapts to .* must be the first layer"):
        middle.adapt(batches)


def test_rescale_is_for_numbers():
    model = gd.Sequential([gd.Dense(1), gd.Rescale()], inputs=3)
    with pytest.raises(ValueError, match="is for classes, and the model ends in Rescale"):
        gd.Trainer(model, "binary_crossentropy", "sgd")
    with pytest.raises(gd.DataError, match="these batches have no targets"):
        model.adapt(gd.Batches(table()[0]))


def test_numbers_that_have_no_finite_variance_are_refused():
    layer = gd.Standardize()
    stream = gd.IterableSource([(np.array([[1.0, np.nan], [2.0, 3.0]]),)])
    with pytest.raises(gd.DataError, match=r"column 1 .counted from 0. holds NaN"):
        layer.adapt(gd.Batches(stream))


def test_a_pass_that_ends_early_changes_nothing():
    x, y = table()

    def broken():
        yield x[:10], y[:10]
        raise KeyboardInterrupt

    model = linear()
    with pytest.raises(KeyboardInterrupt):
        model.adapt(gd.Batches(gd.IterableSource(broken), batch_size=5))
    model.adapt(gd.Batches(x, y))
    np.testing.assert_allclose(model.layers[0].buffers["mean"], x.mean(axis=0), rtol=1e-12)


def test_data_of_another_width_are_refused():
    model = gd.Sequential([gd.Standardize(), gd.Dense(1)], inputs=3)
    with pytest.raises(gd.ShapeError, match="standardize1 takes 3 columns, but the data have 1"):
        model.adapt(gd.Batches(np.arange(3.0).reshape(3, 1)))
    with pytest.raises(TypeError, match=r"adapt takes a Batches, Batches\(X, y\), and not ndarray"):
        model.adapt(np.ones((3, 3)))


def test_a_column_that_is_constant_but_for_rounding_is_constant():
    x = np.full((1000, 1), 0.1)
    model = gd.Sequential([gd.Standardize()], inputs=1, dtype="float64")
    model.adapt(gd.Batches(x, batch_size=7))
    np.testing.assert_allclose(model.forward(x), 0, atol=1e-12)
    np.testing.assert_allclose(model.forward(x + 1), 1, atol=1e-12)


def test_coefficients_wait_for_adapt():
    with pytest.raises(RuntimeError, match="standardize1 has no mean"):
        gd.coefficients(linear())
