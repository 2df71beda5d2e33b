"""Means and squared deviations of columns in batches, compared with NumPy and exact fractions.

A constant column has the deviation 0, not a small one by which R² would be divided.
"""

from fractions import Fraction

import numpy as np
import pytest
from budgets import examples
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import r2_score

import minigd as gd
from minigd.nn.metrics import R2
from minigd.nn.moments import Moments, Part, merged, of_columns

OFFSETS = [0.1, 0.3, 1 / 3, 1e9, 1e9 + 0.1, -1e15 / 7, 12345.678, 1e-30, 3e100, 2.0**53 + 2]
offsets = st.one_of(
    st.sampled_from(OFFSETS),
    st.floats(-1e100, 1e100, allow_subnormal=False).filter(lambda c: c == 0 or abs(c) > 1e-100),
)
cuts = st.lists(st.integers(1, 60), min_size=1, max_size=8)


def parts(n, sizes):
    """Return slices of these sizes."""
    ends = np.cumsum(sizes).tolist()
    assert ends[-1] == n
    return [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]


@examples(50)
@given(offsets, cuts, st.booleans(), st.sampled_from(["float32", "float64"]), st.integers(0, 99))
def test_a_constant_column_has_that_mean_and_no_spread(constant, sizes, weighted, dtype, seed):
    n = sum(sizes)
    rng = np.random.default_rng(seed)
    if dtype == "float32":
        constant = float(np.float32(np.clip(constant, -1e30, 1e30)))
    x = np.column_stack([np.full(n, constant), rng.normal(size=n)]).astype(dtype)
    weight = rng.uniform(0.01, 50, size=n) if weighted else None
    moments = Moments()
    for rows in parts(n, sizes):
        moments.add(x[rows], None if weight is None else weight[rows])
    assert moments.mean[0] == constant
    assert moments.variance[0] == 0


@examples(25)
@given(cuts, st.sampled_from([0.0, 1.0, 1e6]), st.booleans(), st.integers(0, 99))
def test_moments_are_those_of_fractions(sizes, shift, weighted, seed):
    n = sum(sizes)
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n) + shift
    weight = rng.uniform(0.1, 3, size=n) if weighted else np.ones(n)
    moments = Moments()
    for rows in parts(n, sizes):
        moments.add(x[rows][:, None], weight[rows] if weighted else None)
    w, exact = [Fraction(v) for v in weight.tolist()], [Fraction(v) for v in x.tolist()]
    mean = sum(a * b for a, b in zip(w, exact, strict=True)) / sum(w)
    variance = sum(a * (b - mean) ** 2 for a, b in zip(w, exact, strict=True)) / sum(w)
    assert moments.n == pytest.approx(float(sum(w)), rel=1e-14)
    assert moments.mean[0] == pytest.approx(float(mean), rel=1e-14, abs=1e-15)
    assert moments.variance[0] == pytest.approx(float(variance), rel=1e-9, abs=1e-25)


def test_a_part_without_weight_adds_nothing():
    one = of_columns(np.array([[1.0], [4.0]]))
    nothing = Part(0.0, np.zeros(1), np.zeros(1))
    for both in (merged(one, nothing), merged(nothing, one)):
        np.testing.assert_array_equal(np.hstack(both), [2.0, 2.5, 4.5])
    np.testing.assert_array_equal(np.hstack(merged(nothing, nothing)), [0, 0, 0])


# What they are for ----------------------------------------------------------------------------


def r2_of(p, y, sizes, weight=None):
    """Return R² over batches of these sizes."""
    total = None
    for rows in parts(len(y), sizes):
        own = R2().total(p[rows], y[rows], None if weight is None else weight[rows])
        total = own if total is None else R2().merge(total, own)
    return R2().value(total, 1.0)


@examples(50)
@given(offsets, cuts, st.booleans(), st.sampled_from(["float32", "float64"]), st.integers(0, 99))
def test_r2_of_a_constant_target_is_0_and_1_where_predictions_are_exact(
    constant, sizes, weighted, dtype, seed
):
    sizes = [1 + sizes[0], *sizes[1:]]
    n = sum(sizes)
    rng = np.random.default_rng(seed)
    y = np.full(n, np.clip(constant, -1e30, 1e30)).astype(dtype)
    weight = rng.uniform(0.01, 50, size=n) if weighted else None
    if weight is not None:
        y[0], weight[0] = 7.0, 0.0  # what a row of weight 0 holds does not count
    p = y[:, None] + (1 + abs(y[:, None])) * rng.normal(size=(n, 1))
    assert r2_of(p, y, sizes, weight) == 0.0
    assert r2_of(y[:, None], y, sizes, weight) == 1.0
    # As scikit-learn has it, where its own mean is exact.
    assert r2_score(np.full(4, 3.0), np.arange(4.0)) == 0.0
    assert r2_score(np.full(4, 3.0), np.full(4, 3.0)) == 1.0


@examples(25)
@given(cuts, st.sampled_from([0.0, 100.0, 1e5]), st.booleans(), st.integers(0, 99))
def test_r2_is_scikit_learns_where_the_target_varies(sizes, shift, weighted, seed):
    n = sum(sizes) + 2
    rng = np.random.default_rng(seed)
    y = rng.normal(size=(n, 2)) + shift
    p = y + rng.normal(size=(n, 2))
    weight = rng.uniform(0.1, 3, size=n) if weighted else None
    found = r2_of(p, y, [*sizes, 2], weight)
    assert found == pytest.approx(r2_score(y, p, sample_weight=weight), rel=1e-9, abs=1e-9)


@pytest.mark.each
@pytest.mark.parametrize("constant", [0.1, 1e9, 1e9 + 0.1, -1 / 3, 12345.678])
@pytest.mark.parametrize("batch_size", [1, 7, 100, None])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_r2_of_a_constant_target_is_0_in_a_history_and_an_evaluation(constant, batch_size, dtype):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(230, 2)), np.full(230, constant)
    weight = rng.uniform(0.1, 5, size=230)
    model = gd.Sequential([gd.Dense(1)], inputs=2, dtype=dtype)
    trainer = gd.Trainer(model, "huber", gd.SGD(1e-3), metrics=["r2"])
    history = trainer.fit(
        x, y, batch_size=batch_size, sample_weight=weight, validation_data=(x, y), epochs=2
    )
    assert history["r2"] == history["val_r2"] == [0.0, 0.0]
    assert trainer.evaluate(x, y, batch_size or 230)["r2"] == 0.0


@pytest.mark.parametrize("constant", OFFSETS)
@pytest.mark.parametrize("batch_size", [1, 7, None])
def test_a_constant_column_is_adapted_to_as_a_constant(constant, batch_size):
    x = np.column_stack([np.full(230, constant), np.arange(230.0)])
    batches = gd.Batches(x, np.full(230, constant), batch_size=batch_size)
    layers = [gd.Standardize(), gd.Dense(1), gd.Rescale()]
    model = gd.Sequential(layers, inputs=2, dtype="float64")
    model.adapt(batches)
    first, _, last = model.layers
    assert (first.buffers["mean"][0], first.buffers["std"][0]) == (constant, 1.0)
    assert (last.buffers["mean"][0], last.buffers["std"][0]) == (constant, 1.0)
    assert (first.forward(x)[:, 0] == 0).all()


@pytest.mark.parametrize("constant", [0.1, 1e9, 1e9 + 0.1, -1 / 3])
def test_a_regressor_of_a_constant_target_predicts_it(constant):
    rng = np.random.default_rng(0)
    x, y, weight = rng.normal(size=(90, 2)), np.full(90, constant), rng.uniform(0.1, 5, 90)
    found = gd.MiniBatchRegressor(epochs=2).fit(x, y, sample_weight=weight)
    rescale = found.model_.layers[-1]
    assert (rescale.buffers["mean"][0], rescale.buffers["std"][0]) == (constant, 1.0)
    np.testing.assert_array_equal(found.predict(x), y)


@pytest.mark.parametrize("constant", [1e155, -1e200, 1.7e307])
def test_a_constant_whose_square_overflows_has_no_spread(constant):
    moments = Moments()
    for rows in (3, 1):
        moments.add(np.full((rows, 1), constant))
    assert moments.mean.tolist() == [pytest.approx(constant, rel=1e-15)]
    assert moments.variance.tolist() == [0.0]
