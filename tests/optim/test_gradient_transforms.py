"""Changes of a gradient before the update: penalties and clipping."""

import numpy as np
import pytest
from budgets import examples
from hypothesis import given
from hypothesis import strategies as st

import minigd as gd
from minigd.optim.gradient_transforms import Clipping, Penalty

properties = examples(25)


def rows(n=23, width=4, seed=0):
    return np.random.default_rng(seed).normal(size=(n, width))


# Penalties ---------------------------------------------------------------------------------------


def penalised(backend="numpy", dtype="float64"):
    layers = [gd.Dense(3), gd.BatchNorm(), gd.Tanh(), gd.Dense(2, bias=False)]
    model = gd.Sequential(layers, 4, dtype=dtype, backend=backend, seed=3)
    rng = np.random.default_rng(5)
    for array in (model.flat_params, model.flat_grads):
        array[...] = model.backend.asarray(rng.normal(size=array.shape))
    model.flat_params[2] = 0.0
    return model


@pytest.mark.parametrize("decay_bias", [False, True])
@pytest.mark.parametrize(("l1", "l2"), [(0.3, 0.0), (0.0, 0.7), (0.3, 0.7), (0.0, 0.0)])
def test_a_penalty_and_its_gradient_number_by_number(backend, l1, l2, decay_bias):
    model = penalised(backend)
    penalty = Penalty(l1, l2, decay_bias)
    params = {name: backend.to_numpy(p).ravel() for name, p in model.params.items()}
    before = {name: backend.to_numpy(g).copy() for name, g in model.grads.items()}
    price = 0.0
    for name in params:
        if decay_bias or name.endswith(".W"):
            price += sum(l1 * abs(w) + 0.5 * l2 * w**2 for w in params[name].tolist())
    assert float(penalty.value(model)) == pytest.approx(price, rel=1e-13)

    penalty.add_gradient(model)
    for name, p in params.items():
        added = [l1 * ((w > 0) - (w < 0)) + l2 * w for w in p.tolist()]
        if not (decay_bias or name.endswith(".W")):
            added = [0.0] * len(p)
        expected = before[name] + np.reshape(added, before[name].shape)
        np.testing.assert_allclose(backend.to_numpy(model.grads[name]), expected, rtol=1e-14)


def test_the_gradient_is_the_derivative_of_the_price():
    model = penalised().copy(dtype="complex128")
    model.flat_params[2] = 0.5  # the absolute value has no derivative at 0
    penalty = Penalty(0.3, 0.7, decay_bias=True)
    slopes = []
    for i in range(model.flat_params.size):
        model.flat_params[i] += 1e-30j
        slopes.append(penalty.value(model).imag / 1e-30)
        model.flat_params[i] = model.flat_params[i].real
    model.flat_grads[...] = 0.0
    penalty.add_gradient(model)
    np.testing.assert_allclose(model.flat_grads.real, slopes, rtol=1e-14)


@pytest.mark.parametrize("accumulate", [1, 2, 3])
def test_a_penalty_is_added_once_an_update_whatever_the_batch(backend, accumulate):
    # 12 rows as one batch, or in parts: the same update, penalty and all.
    x, y = rows(12), rows(12, 1, seed=1)
    results = []
    for parts in (1, accumulate):
        model = gd.Sequential([gd.Dense(1)], 4, dtype="float64", backend=backend, seed=3)
        trainer = gd.Trainer(model, "mse", gd.SGD(0.1), accumulate=parts, l1=0.2, l2=0.5)
        history = trainer.fit(gd.Batches(x, y, batch_size=12 // parts), epochs=2)
        results.append((backend.to_numpy(model.flat_params), history["loss"]))
    (params, losses), (others, other_losses) = results
    np.testing.assert_allclose(others, params, rtol=1e-13)
    np.testing.assert_allclose(other_losses, losses, rtol=1e-13)

    W, b = (
        gd.Sequential([gd.Dense(1)], 4, dtype="float64", seed=3).params[f"dense1.{n}"] for n in "Wb"
    )
    expected = []
    for _ in range(2):
        error = x @ W + b - y
        # The loss is that of the rows alone.
        expected.append(float((error**2).mean()))
        W = W - 0.1 * (x.T @ error * 2 / 12 + 0.2 * np.sign(W) + 0.5 * W)
        b = b - 0.1 * error.mean(axis=0) * 2
    np.testing.assert_allclose(losses, expected, rtol=1e-13)
    np.testing.assert_allclose(params, [*W.ravel(), *b], rtol=1e-12)


def test_a_model_without_weights_has_nothing_to_penalise():
    model = gd.Sequential([gd.BatchNorm()], 4, dtype="float64")
    assert float(Penalty(0.1, 0.2).value(model)) == 0
    Penalty(0.1, 0.2).add_gradient(model)
    assert not model.flat_grads.any()
    assert float(Penalty(0.1, 0.2, decay_bias=True).value(model)) == pytest.approx(0.2 * 4)


@pytest.mark.parametrize("value", [-0.1, np.nan, np.inf, "0.1", None, True])
def test_a_penalty_that_makes_no_sense_is_refused(value):
    for name in ("l1", "l2"):
        message = f"{name} must be a number, at least 0 and finite, not "
        with pytest.raises(ValueError, match=message):
            Penalty(**{name: value})
        with pytest.raises(ValueError, match=message):
            gd.Trainer(gd.Sequential([gd.Dense(1)], 4), "mse", "sgd", **{name: value})


# Limits ------------------------------------------------------------------------------------------


def clipped(g, backend="numpy", dtype="float64", **limits):
    """Return what becomes of a gradient, on the host."""
    backend = gd.get_backend(backend)
    array = backend.asarray(np.array(g), dtype=dtype)
    with np.errstate(all="ignore"):
        Clipping(**limits).clip(array)
    assert array.dtype == dtype
    return backend.to_numpy(array)


def test_by_norm_the_whole_keeps_its_direction(backend):
    g = np.random.default_rng(0).normal(size=1000)
    length = np.sqrt(sum(v * v for v in g.tolist()))
    np.testing.assert_allclose(clipped(g, backend, norm=2.0), 2.0 * g / length, rtol=1e-13)
    np.testing.assert_array_equal(clipped(g, backend, norm=1.001 * length), g)


def test_by_value_each_entry_stays_within_the_limit(backend):
    g = [-3.0, -0.5, -0.2, 0.0, 0.5, 0.7, 1e9]
    expected = [-0.5, -0.5, -0.2, 0.0, 0.5, 0.5, 0.5]
    np.testing.assert_array_equal(clipped(g, backend, value=0.5), expected)


def test_by_value_comes_first_and_the_norm_is_that_of_what_it_left(backend):
    g = clipped([30.0, -4.0, 0.0], backend, value=4.0, norm=1.0)
    np.testing.assert_allclose(g, [np.sqrt(0.5), -np.sqrt(0.5), 0.0], rtol=1e-14)


# In float32 the square of 1e30 is infinite and that of 1e-30 is 0.
@pytest.mark.parametrize("size", [1e-38, 1e-30, 1.0, 1e30, 1e38])
def test_no_square_leaves_the_range_of_the_dtype(backend, size):
    g = np.array([3.0, -2.0, 0.0, 1.0], dtype="float32") * np.float32(size)
    expected = np.array([3, -2, 0, 1]) / np.sqrt(14)
    for norm in (0.5, 1.0):
        limit = norm * size
        found = clipped(g, backend, "float32", norm=limit).astype("float64")
        np.testing.assert_allclose(found / limit, expected, rtol=1e-6, atol=1e-6)


def test_entries_of_1e30_are_brought_to_a_length_of_1(backend):
    g = clipped(np.full(10_000, 1e30), backend, "float32", norm=1.0)
    np.testing.assert_allclose(g, 0.01, rtol=1e-5)
    g = clipped([1e30, -1e30, 1.0], backend, "float32", value=1e3)
    np.testing.assert_array_equal(g, np.array([1e3, -1e3, 1.0], "float32"))


def test_a_length_beyond_the_dtype_is_a_length_all_the_same(backend):
    # Each entry is a float32, and √(Σ g²) is none.
    g = clipped(np.full(16, 3e38), backend, "float32", norm=1.0)
    np.testing.assert_allclose(g, 0.25, rtol=1e-5)


@pytest.mark.parametrize("limits", [{"norm": 1.0}, {"value": 0.1}, {"norm": 1.0, "value": 0.1}])
def test_what_is_not_finite_stays_for_the_guard_to_find(backend, limits):
    for bad in (np.nan, np.inf, -np.inf):
        g = clipped([0.05, bad, -0.02], backend, "float32", **limits)
        np.testing.assert_array_equal(g, np.array([0.05, bad, -0.02], "float32"))


@pytest.mark.parametrize("limits", [{"norm": 1.0}, {"value": 0.1}, {}])
def test_zeros_and_nothing_stay_what_they_are(backend, limits):
    np.testing.assert_array_equal(clipped(np.zeros(5), backend, "float32", **limits), np.zeros(5))
    assert clipped(np.zeros(0), backend, **limits).shape == (0,)


@properties
@given(
    st.lists(st.floats(-1e150, 1e150), min_size=1, max_size=20),
    st.floats(1e-6, 1e6),
    st.floats(1e-6, 1e6),
)
def test_a_limited_gradient_is_within_both_limits(g, value, norm):
    found = clipped(g, value=value, norm=norm)
    slack = 1 + 1e-13
    assert abs(found).max() <= value * slack
    assert np.linalg.norm(found) <= norm * slack
    assert (np.sign(found) * np.sign(g) >= 0).all()


@pytest.mark.parametrize("limit", ["clip_norm", "clip_value"])
def test_limits_that_make_no_sense_are_refused(limit):
    model = gd.Sequential([gd.Dense(1)], 4)
    with pytest.raises(ValueError, match=f"{limit} must be above 0, or None for no limit"):
        gd.Trainer(model, "mse", "sgd", **{limit: 0})
    for value in (-1.0, np.nan, np.inf, "1", True):
        with pytest.raises(ValueError, match=f"{limit} must be a number"):
            gd.Trainer(model, "mse", "sgd", **{limit: value})


def test_a_trainer_limits_the_gradient_with_its_penalty(backend):
    x, y = rows(12), rows(12, 1, seed=1)
    model = gd.Sequential([gd.Dense(1)], 4, dtype="float64", backend=backend, seed=3)
    W, b = (backend.to_numpy(model.params[f"dense1.{name}"]).copy() for name in "Wb")
    options = {"l2": 50.0, "clip_value": 4.0, "clip_norm": 5.0, "accumulate": 2}
    trainer = gd.Trainer(model, "mse", gd.SGD(0.1), **options)
    trainer.fit(gd.Batches(x, y, batch_size=6))
    error = x @ W + b - y
    g = np.concatenate([(2 / 12 * x.T @ error + 50 * W).ravel(), 2 * error.mean(axis=0)])
    g = np.array([max(-4.0, min(4.0, v)) for v in g])
    assert np.linalg.norm(g) > 5
    g *= 5 / np.linalg.norm(g)
    expected = np.array([*W.ravel(), *b]) - 0.1 * g
    np.testing.assert_allclose(backend.to_numpy(model.flat_params), expected, rtol=1e-12)
