"""Losses: their values against scikit-learn and plain loops, and the targets that they refuse.

Each row of a gradient is an example's own, never divided by the batch size. `tests/gradients`
checks them numerically.
"""

import math

import numpy as np
import pytest
from scipy import special
from sklearn import metrics

import minigd as gd
from minigd.checks import reference
from minigd.nn.losses import LOSSES, get_loss

BCE, CCE, MSE = gd.BinaryCrossEntropy, gd.CategoricalCrossEntropy, gd.MeanSquaredError
Huber, MAE, Quantile, Poisson, Hinge, Focal = (
    gd.Huber, gd.MeanAbsoluteError, gd.Quantile, gd.Poisson, gd.Hinge, gd.Focal,
)  # fmt: skip


def value_and_gradient(loss, backend, z, y, dtype="float64"):
    """Return both on the host."""
    value = loss.forward(backend.asarray(z, dtype=dtype), backend.asarray(y))
    return float(value), backend.to_numpy(loss.backward())


def logits(n=9, k=4, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(scale=3, size=(n, k)), rng.integers(0, k, size=n)


# Values and gradients -------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 3])
def test_mean_squared_error_is_scikit_learns(backend, k):
    z, _ = logits(k=k)
    y = np.random.default_rng(1).normal(size=z.shape)
    value, dz = value_and_gradient(MSE(), backend, z, y)
    assert value == pytest.approx(metrics.mean_squared_error(y, z), rel=1e-14)
    for i in range(9):
        for j in range(k):
            assert dz[i, j] == pytest.approx(2 / k * (z[i, j] - y[i, j]), rel=1e-14)


@pytest.mark.parametrize("k", [1, 3])
def test_binary_cross_entropy_is_scikit_learns(backend, k):
    z, _ = logits(k=k)
    y = np.random.default_rng(1).integers(0, 2, size=z.shape)
    p = special.expit(z)
    expected = np.mean([metrics.log_loss(y[:, j], p[:, j], labels=[0, 1]) for j in range(k)])
    value, dz = value_and_gradient(BCE(from_logits=True), backend, z, y)
    assert value == pytest.approx(expected, rel=1e-13)
    np.testing.assert_allclose(dz, (p - y) / k, atol=1e-15)
    value, dp = value_and_gradient(BCE(), backend, p, y)
    assert value == pytest.approx(expected, rel=1e-13)
    np.testing.assert_allclose(dp, (p - y) / (k * p * (1 - p)), rtol=1e-12)


def test_binary_cross_entropy_of_soft_labels_is_the_textbooks(backend):
    z, _ = logits(k=2)
    y = np.random.default_rng(1).uniform(size=z.shape)
    y[0] = [0.0, 1.0]
    p = special.expit(z)
    terms = [
        -(b * math.log(a) if b else 0) - ((1 - b) * math.log(1 - a) if b < 1 else 0)
        for a, b in zip(p.ravel(), y.ravel(), strict=True)
    ]
    for loss, given in ((BCE(from_logits=True), z), (BCE(), p)):
        value, _ = value_and_gradient(loss, backend, given, y)
        assert value == pytest.approx(sum(terms) / len(terms), rel=1e-13)


def test_categorical_cross_entropy_is_scikit_learns(backend):
    z, y = logits()
    p = special.softmax(z, axis=1)
    expected = metrics.log_loss(y, p, labels=range(4))
    onehot = np.eye(4)[y]
    for targets in (y, y.reshape(-1, 1), y.astype("uint8"), onehot, onehot.astype(int)):
        value, dz = value_and_gradient(CCE(from_logits=True), backend, z, targets)
        assert value == pytest.approx(expected, rel=1e-13)
        np.testing.assert_allclose(dz, p - onehot, atol=1e-15)
        value, dp = value_and_gradient(CCE(), backend, p, targets)
        assert value == pytest.approx(expected, rel=1e-13)
        np.testing.assert_allclose(dp, -onehot / p, rtol=1e-13)


def test_categorical_cross_entropy_is_softmax_then_logarithm_then_chain_rule(backend):
    z, y = logits()
    naive = [reference.cross_entropy(row, label) for row, label in zip(z, y, strict=True)]
    value, dz = value_and_gradient(CCE(from_logits=True), backend, z, y)
    assert value == pytest.approx(sum(v for v, _ in naive) / len(naive), rel=1e-13)
    np.testing.assert_allclose(dz, [d for _, d in naive], atol=1e-14)


def test_soft_rows_weigh_the_classes(backend):
    z, _ = logits()
    y = np.random.default_rng(1).dirichlet(np.ones(4), size=len(z))
    y[0] = [0.0, 0.5, 0.5, 0.0]
    p = special.softmax(z, axis=1)
    expected = -(y * np.log(p)).sum(axis=1).mean()
    for loss, given, gradient in ((CCE(True), z, p - y), (CCE(), p, -y / p)):
        value, dz = value_and_gradient(loss, backend, given, y)
        assert value == pytest.approx(expected, rel=1e-13)
        np.testing.assert_allclose(dz, gradient, rtol=1e-12, atol=1e-15)


def test_two_classes_are_binary_cross_entropy(backend):
    z, y = logits(k=1)[0], np.arange(9) % 2
    two = np.hstack([np.zeros_like(z), z])
    value, dz = value_and_gradient(CCE(from_logits=True), backend, two, y)
    expected, expected_dz = value_and_gradient(BCE(from_logits=True), backend, z, y)
    assert value == pytest.approx(expected, rel=1e-13)
    np.testing.assert_allclose(dz[:, 1:], expected_dz, atol=1e-15)


@pytest.mark.parametrize(
    "loss",
    [
        MSE(),
        Huber(),
        MAE(),
        Quantile(),
        Focal(from_logits=True),
        BCE(True),
        CCE(True),
        CCE(True, 0.1),
    ],
)
def test_rows_of_the_gradient_do_not_depend_on_the_batch(backend, loss):
    z, y = logits()
    targets = y if isinstance(loss, CCE) else np.eye(4)[y]
    _, whole = value_and_gradient(loss, backend, z, targets)
    parts = [
        value_and_gradient(loss, backend, z[i : i + 1], targets[i : i + 1])[1] for i in range(9)
    ]
    np.testing.assert_allclose(np.vstack(parts), whole, rtol=1e-14, atol=1e-16)


@pytest.mark.parametrize("label", [0, 1])
def test_binary_logits_of_ten_thousand_in_float32(backend, label):
    z = np.array([[1e4], [-1e4], [200.0], [-200.0]])
    value, dz = value_and_gradient(BCE(from_logits=True), backend, z, [label] * 4, "float32")
    assert value == pytest.approx((1e4 + 200) / 4, rel=1e-6)
    np.testing.assert_array_equal(dz[:, 0], np.array([1, 0, 1, 0]) - label)


def test_class_logits_of_ten_thousand_in_float32(backend):
    z = np.array([[1e4, -1e4, 0.0], [1e4, -1e4, 0.0], [-1e4, -1e4, -1e4]])
    for y in (np.array([0, 1, 2]), np.eye(3)):
        value, dz = value_and_gradient(CCE(from_logits=True), backend, z, y, "float32")
        assert value == pytest.approx((0 + 2e4 + math.log(3)) / 3, rel=1e-6)
        p = [[1, 0, 0], [1, 0, 0], [1 / 3] * 3]
        np.testing.assert_allclose(dz, p - np.eye(3), atol=1e-7)


@pytest.mark.parametrize(
    "loss",
    [
        *(MSE(), Huber(), MAE(), Quantile(), Poisson(), Hinge(), Focal(), Focal(from_logits=True)),
        *(BCE(True), BCE(), CCE(True), CCE(), BCE(True, 0.1), CCE(True, 0.1)),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.pairs
def test_value_and_gradient_have_the_outputs_dtype_and_device(backend, loss, dtype):
    z = backend.asarray(np.full((4, 3), 0.25), dtype=dtype)
    y = backend.asarray(np.eye(3, dtype="float64")[[0, 1, 2, 0]])
    value = loss.forward(z, y)
    dz = loss.backward()
    assert str(value.dtype) == str(dz.dtype) == dtype
    assert value.shape == ()
    assert dz.shape == z.shape
    assert backend.holds(dz)


@pytest.mark.parametrize(
    "loss",
    [
        *(MSE(), Huber(), MAE(), Quantile(), Poisson(), Hinge(), Focal(), Focal(from_logits=True)),
        *(BCE(True), BCE(), CCE(True), CCE(), BCE(True, 0.1), CCE(True, 0.1)),
    ],
)
def test_neither_outputs_nor_targets_are_modified(backend, loss):
    host = np.full((3, 3), 0.25), np.eye(3)
    z, y = map(backend.asarray, host)
    loss.forward(z, y)
    dz = loss.backward()
    dz[...] = 7.0  # what is returned is fresh, too
    np.testing.assert_array_equal(backend.to_numpy(z), host[0])
    np.testing.assert_array_equal(backend.to_numpy(y), host[1])


def test_outputs_of_whole_numbers_do_not_round_the_targets():
    loss = MSE()
    assert float(loss.forward(np.array([[1], [2]]), np.array([0.5, 0.5]))) == 1.25
    np.testing.assert_array_equal(loss.backward(), [[1.0], [3.0]])


# Huber ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("delta", [0.1, 1.0, 4.0])
def test_huber_is_scipys(backend, k, delta):
    z, _ = logits(n=30, k=k)
    y = np.random.default_rng(1).normal(size=z.shape)
    assert 0 < (abs(z - y) > delta).mean() < 1
    value, dz = value_and_gradient(Huber(delta), backend, z, y)
    assert value == pytest.approx(special.huber(delta, z - y).mean(), rel=1e-14)
    for i in range(30):
        for j in range(k):
            e = z[i, j] - y[i, j]
            slope = e if abs(e) <= delta else math.copysign(delta, e)
            assert dz[i, j] == pytest.approx(slope / k, rel=1e-14)


def test_huber_lies_between_the_squared_and_the_absolute_error(backend):
    z, _ = logits()
    y = np.random.default_rng(1).normal(size=z.shape)
    square, slopes = value_and_gradient(MSE(), backend, z, y)
    wide, wide_slopes = value_and_gradient(Huber(1e6), backend, z, y)
    assert wide == pytest.approx(square / 2, rel=1e-14)
    np.testing.assert_allclose(wide_slopes, slopes / 2, rtol=1e-14)
    narrow, signs = value_and_gradient(Huber(1e-9), backend, z, y)
    assert narrow / 1e-9 == pytest.approx(abs(z - y).mean(), rel=1e-8)
    np.testing.assert_allclose(signs / 1e-9, np.sign(z - y) / 4, rtol=1e-14)


def test_an_outlier_pulls_no_harder_than_delta(backend):
    z = np.array([[0.0], [1e15]])
    value, dz = value_and_gradient(Huber(2.0), backend, z, np.zeros(2), "float32")
    assert value == pytest.approx(1e15, rel=1e-6)
    np.testing.assert_array_equal(dz, [[0.0], [2.0]])


def test_an_outlier_whose_square_is_too_large_for_the_dtype_is_no_warning(backend):
    z = np.array([[1e30], [-1e38]])
    value, dz = value_and_gradient(Huber(), backend, z, np.zeros(2), "float32")
    assert value == pytest.approx(5e37, rel=1e-6)
    np.testing.assert_array_equal(dz, [[1.0], [-1.0]])


@pytest.mark.parametrize("delta", [0.0, -1.0, np.nan, np.inf, "1", None, True])
def test_a_delta_that_is_not_above_0_is_refused(delta):
    with pytest.raises(ValueError, match="delta must be "):
        Huber(delta)


# Label smoothing ------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("alpha", [0.1, 0.6])
def test_smoothed_flags_are_those_of_soft_targets(backend, k, alpha):
    z, _ = logits(k=k)
    rng = np.random.default_rng(1)
    for y in (rng.integers(0, 2, size=z.shape), rng.uniform(size=z.shape)):
        soft = y * (1 - alpha / 2) + (1 - y) * (alpha / 2)
        for from_logits, given in ((True, z), (False, special.expit(z))):
            value, dz = value_and_gradient(BCE(from_logits, alpha), backend, given, y)
            p = special.expit(z)
            naive = [
                -(t * math.log(q) + (1 - t) * math.log(1 - q))
                for q, t in zip(p.ravel(), soft.ravel(), strict=True)
            ]
            assert value == pytest.approx(sum(naive) / len(naive), rel=1e-12)
            expected = (p - soft) / k if from_logits else (p - soft) / (k * p * (1 - p))
            np.testing.assert_allclose(dz, expected, rtol=1e-11, atol=1e-15)


@pytest.mark.parametrize("alpha", [0.1, 0.6])
@pytest.mark.parametrize("from_logits", [True, False])
def test_smoothed_classes_are_those_of_soft_targets(backend, alpha, from_logits):
    z, y = logits()
    p = special.softmax(z, axis=1)
    given = z if from_logits else p
    soft = np.full((9, 4), alpha / 4)
    for i, label in enumerate(y):
        soft[i, label] = 1 - alpha + alpha / 4
    expected = value_and_gradient(CCE(from_logits), backend, given, soft)
    # As its authors write it: a share of the cross-entropy goes to that with all classes alike.
    mixed = (1 - alpha) * metrics.log_loss(y, p, labels=range(4)) - alpha * np.log(p).mean()
    assert expected[0] == pytest.approx(mixed, rel=1e-12)
    onehot = np.eye(4)[y]
    for targets in (y, y.reshape(-1, 1), y.astype("uint8"), onehot, onehot.astype(int)):
        value, dz = value_and_gradient(CCE(from_logits, alpha), backend, given, targets)
        assert value == pytest.approx(mixed, rel=1e-12)
        np.testing.assert_allclose(dz, expected[1], rtol=1e-12, atol=1e-15)
        gradient = p - soft if from_logits else -soft / p
        np.testing.assert_allclose(dz, gradient, rtol=1e-12, atol=1e-15)


def test_soft_rows_are_smoothed_too(backend):
    z, _ = logits()
    y = np.random.default_rng(1).dirichlet(np.ones(4), size=len(z))
    value, dz = value_and_gradient(CCE(True, 0.2), backend, z, y)
    p, soft = special.softmax(z, axis=1), 0.8 * y + 0.05
    assert value == pytest.approx(-(soft * np.log(p)).sum(axis=1).mean(), rel=1e-13)
    np.testing.assert_allclose(dz, p - soft, atol=1e-14)


def test_a_smoothed_loss_is_least_at_the_smoothed_targets(backend):
    # Without smoothing no finite logits would have a gradient of 0.
    y = np.array([2, 0])
    z = np.log(0.7 * np.eye(3)[y] + 0.1)
    _, dz = value_and_gradient(CCE(True, 0.3), backend, z, y)
    np.testing.assert_allclose(dz, 0, atol=1e-15)
    z = special.logit(np.array([[0.85], [0.15]]))
    _, dz = value_and_gradient(BCE(True, 0.3), backend, z, [1, 0])
    np.testing.assert_allclose(dz, 0, atol=1e-15)


def test_two_smoothed_classes_are_smoothed_binary_cross_entropy(backend):
    z, y = logits(k=1)[0], np.arange(9) % 2
    two = np.hstack([np.zeros_like(z), z])
    value, dz = value_and_gradient(CCE(True, 0.2), backend, two, y)
    expected, expected_dz = value_and_gradient(BCE(True, 0.2), backend, z, y)
    assert value == pytest.approx(expected, rel=1e-13)
    np.testing.assert_allclose(dz[:, 1:], expected_dz, atol=1e-15)


@pytest.mark.parametrize("loss", [BCE, CCE])
@pytest.mark.parametrize("alpha", [1.0, -0.1, np.nan, "0.1", None, True])
def test_a_smoothing_out_of_range_is_refused(loss, alpha):
    with pytest.raises(ValueError, match="label_smoothing must be a number, at least 0 and below"):
        loss(label_smoothing=alpha)


# Weights of rows ------------------------------------------------------------------------------


def _regression(k):
    rng = np.random.default_rng(k)
    return rng.normal(scale=3, size=(9, k)), rng.normal(size=(9, k))


def _binary(k, soft=False):
    rng = np.random.default_rng(k)
    z = rng.normal(scale=3, size=(9, k))
    return z, rng.uniform(size=(9, k)) if soft else rng.integers(0, 2, size=(9, k))


def _counts(k, targets):
    rng = np.random.default_rng(k)
    return rng.normal(size=(9, k)), rng.poisson(2.0, size=(9, targets)).astype("float64")


def _probabilities(z, y):
    return special.expit(z), y


def _simplex(z, y):
    return special.softmax(z, axis=1), y


WEIGHED = {  # name: the loss, (z, y), numbers that no row of it could have
    "mse": (MSE, _regression(1), (np.inf, np.nan)),
    "mse, three outputs": (MSE, _regression(3), (np.inf, np.inf)),
    "huber": (Huber, _regression(1), (np.inf, np.inf)),
    "huber, three outputs": (lambda: Huber(0.3), _regression(3), (np.nan, 1e300)),
    "mae": (MAE, _regression(3), (np.nan, np.inf)),
    "quantile": (lambda: Quantile(0.3), _regression(1), (np.inf, np.nan)),
    "quantiles": (lambda: Quantile([0.1, 0.5, 0.9]), _counts(3, 1), (np.nan, np.inf)),
    "poisson": (Poisson, _counts(2, 2), (np.inf, -1.0)),
    "hinge": (Hinge, _binary(1), (np.nan, 7)),
    "hinge of classes": (Hinge, logits(), (np.inf, 99)),
    "focal logits": (lambda: Focal(from_logits=True), _binary(3), (np.inf, -1)),
    "focal": (Focal, _probabilities(*_binary(1)), (3.0, 1)),
    "bce logits": (lambda: BCE(True), _binary(1), (np.nan, 7)),
    "bce logits, soft": (lambda: BCE(True), _binary(3, soft=True), (-np.inf, np.nan)),
    "bce logits, smoothed": (lambda: BCE(True, 0.1), _binary(3), (np.inf, -1)),
    "bce": (BCE, _probabilities(*_binary(1)), (3.0, 1)),
    "bce, smoothed": (lambda: BCE(label_smoothing=0.1), _probabilities(*_binary(3)), (0.0, 1)),
    "cce logits": (lambda: CCE(True), logits(), (np.inf, 99)),
    "cce logits, one-hot": (lambda: CCE(True), (logits()[0], np.eye(4)[logits()[1]]), (np.nan, 2)),
    "cce logits, smoothed": (lambda: CCE(True, 0.1), logits(), (np.nan, -1)),
    "cce": (CCE, _simplex(*logits()), (0.0, 2)),
    "cce, one-hot": (CCE, _simplex(logits()[0], np.eye(4)[logits()[1]]), (-5.0, np.nan)),
    "cce, smoothed": (lambda: CCE(False, 0.1), _simplex(*logits()), (0.0, 2)),
}
weighed = pytest.mark.parametrize("case", WEIGHED)


def weighted(loss, backend, z, y, weight, dtype="float64"):
    """Return the weighted loss and its gradient on the host."""
    value = loss.forward(backend.asarray(z, dtype=dtype), backend.asarray(y), weight)
    return float(value), backend.to_numpy(loss.backward())


def some_weights(n=9):
    return np.random.default_rng(5).uniform(0.1, 4.0, size=n)


@pytest.mark.each
@weighed
@pytest.mark.parametrize("on_device", [False, True])
def test_a_weighted_loss_is_the_weighted_mean_of_its_rows(backend, case, on_device):
    make, (z, y), _ = WEIGHED[case]
    weight = some_weights()
    rows = [value_and_gradient(make(), backend, z[i : i + 1], y[i : i + 1]) for i in range(9)]
    given = backend.asarray(weight) if on_device else weight.tolist()
    value, dz = weighted(make(), backend, z, y, given)
    total = sum(weight)
    naive = sum(w * each for w, (each, _) in zip(weight, rows, strict=True)) / total
    assert value == pytest.approx(naive, rel=1e-13)
    for i, (_, row) in enumerate(rows):
        # Scaled so that the mean over rows, which layers take, is the weighted mean.
        np.testing.assert_allclose(dz[i], row[0] * (9 * weight[i] / total), rtol=1e-13, atol=1e-16)


@weighed
def test_equal_weights_are_none_and_only_ratios_matter(backend, case):
    make, (z, y), _ = WEIGHED[case]
    expected = value_and_gradient(make(), backend, z, y)
    for weight in (np.full(9, 0.3), np.full(9, 7), np.ones(9, dtype=bool)):
        value, dz = weighted(make(), backend, z, y, weight)
        assert value == pytest.approx(expected[0], rel=1e-15)
        np.testing.assert_allclose(dz, expected[1], rtol=1e-15)
    one = weighted(make(), backend, z, y, some_weights())
    other = weighted(make(), backend, z, y, 1000 * some_weights())
    assert one[0] == pytest.approx(other[0], rel=1e-14)
    np.testing.assert_allclose(one[1], other[1], rtol=1e-14)


@weighed
def test_whole_weights_are_repeated_rows(backend, case):
    make, (z, y), _ = WEIGHED[case]
    times = np.array([1, 3, 0, 2, 1, 1, 0, 5, 2])
    again = np.repeat(np.arange(9), times)
    value, dz = weighted(make(), backend, z, y, times)
    expected, repeated = value_and_gradient(make(), backend, z[again], y[again])
    assert value == pytest.approx(expected, rel=1e-13)
    # What each row adds to the mean that layers take.
    added = np.zeros_like(z)
    np.add.at(added, again, repeated / len(again))
    np.testing.assert_allclose(dz / 9, added, rtol=1e-12, atol=1e-16)


@weighed
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.pairs
def test_a_row_of_weight_0_adds_nothing_whatever_it_holds(backend, case, dtype):
    make, (z, y), (bad_z, bad_y) = WEIGHED[case]
    z, y, weight = z.astype(dtype), np.array(y), some_weights()
    if isinstance(bad_y, float):
        y = y.astype("float64")
    weight[[2, 6]] = 0.0
    rest = np.flatnonzero(weight)
    expected = weighted(make(), backend, z[rest], y[rest], weight[rest], dtype)
    z[[2, 6]], y[[2, 6]] = bad_z, bad_y
    value, dz = weighted(make(), backend, z, y, weight, dtype)
    near = {"float32": 1e-6, "float64": 1e-14}[dtype]
    assert value == pytest.approx(expected[0], rel=near)
    np.testing.assert_array_equal(dz[[2, 6]], 0.0)
    np.testing.assert_allclose(dz[rest] * 7 / 9, expected[1], rtol=near, atol=0)


def test_weighted_losses_are_scikit_learns(backend):
    weight = some_weights()
    z, y = _regression(3)
    value, _ = weighted(MSE(), backend, z, y, weight)
    expected = metrics.mean_squared_error(y, z, sample_weight=weight)
    assert value == pytest.approx(expected, rel=1e-14)
    z, y = logits()
    value, _ = weighted(CCE(True), backend, z, y, weight)
    p = special.softmax(z, axis=1)
    expected = metrics.log_loss(y, p, sample_weight=weight, labels=range(4))
    assert value == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_weights_keep_the_outputs_dtype_and_are_not_modified(backend, dtype):
    weight = some_weights(4)
    z = backend.asarray(np.full((4, 3), 0.25), dtype=dtype)
    for loss in (
        MSE(),
        Huber(),
        MAE(),
        Quantile(),
        Hinge(),
        Focal(from_logits=True),
        BCE(True),
        CCE(True),
    ):
        value = loss.forward(z, backend.asarray(np.eye(3)[[0, 1, 2, 0]]), weight)
        dz = loss.backward()
        assert str(value.dtype) == str(dz.dtype) == dtype
        assert backend.holds(dz)
    np.testing.assert_array_equal(weight, some_weights(4))


def test_an_infinite_loss_that_counts_is_an_error_with_weights_too(backend):
    with pytest.raises(gd.DataError, match="infinite"):
        weighted(BCE(), backend, np.array([[0.5], [0.0]]), np.array([1, 1]), [1.0, 0.5])


@pytest.mark.parametrize(
    ("weight", "words"),
    [
        ([1.0, 2.0], r"sample_weight has shape \(2,\): it must hold a weight for each row.*3,"),
        ([[1.0], [1.0], [1.0]], r"sample_weight has shape \(3, 1\)"),
        ([1.0, -2.0, 1.0], "sample_weight holds -2 at row 1"),
        ([1.0, np.nan, 1.0], "sample_weight holds nan at row 1"),
        ([1.0, 1.0, np.inf], "sample_weight holds inf at row 2"),
        ([0.0, 0.0, 0.0], "all of sample_weight is 0"),
        (["a", "b", "c"], "sample_weight must hold numbers"),
    ],
)
def test_weights_that_are_none_are_refused(backend, weight, words):
    z = backend.asarray(np.zeros((3, 1)))
    with pytest.raises(gd.DataError, match=words):
        MSE().forward(z, backend.asarray(np.zeros(3)), weight)


def test_targets_are_checked_in_the_rows_that_count(backend):
    z = backend.asarray(np.zeros((3, 4)))
    with pytest.raises(gd.DataError, match="y holds 7: number the classes from 0"):
        CCE(True).forward(z, backend.asarray([0, 1, 7]), [1.0, 0.0, 2.0])
    with pytest.raises(gd.ShapeError, match="x has 3 rows and y has 2 rows"):
        CCE(True).forward(z, backend.asarray([0, 1]), [1.0, 0.0, 2.0])


# Shapes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", [MSE(), Huber(), Quantile(), Poisson(), Focal(), BCE(True), BCE()])
def test_a_vector_of_targets_is_a_column_and_is_never_broadcast(backend, loss):
    z, y = np.array([[0.1], [0.4], [0.8]]), np.array([0.0, 1.0, 1.0])
    vector = value_and_gradient(loss, backend, z, y)
    column = value_and_gradient(loss, backend, z, y.reshape(-1, 1))
    assert vector[0] == column[0]
    assert vector[1].shape == (3, 1)
    np.testing.assert_array_equal(vector[1], column[1])


@pytest.mark.parametrize("loss", [MSE(), Huber(), Quantile(), Poisson(), Focal(), BCE(True), BCE()])
@pytest.mark.parametrize(
    ("z", "y", "words"),
    [
        ((3, 2), (3,), r"y has shape \(3,\) and the outputs have shape \(3, 2\).*one output only"),
        ((3, 2), (3, 1), r"y has shape \(3, 1\) and the outputs have shape \(3, 2\)"),
        ((3, 1), (3, 3), r"y has shape \(3, 3\) and the outputs have shape \(3, 1\)"),
        ((3, 1), (3, 1, 1), r"y has shape \(3, 1, 1\)"),
        ((3, 3), (1, 3), "x has 3 rows and y has 1 rows"),
        ((3, 1), (2,), "x has 3 rows and y has 2 rows: each example needs one target"),
        ((3, 1), (), "x has 3 rows and y is a single number"),
        ((3,), (3,), r"outputs of shape \(n, K\).*not \(3,\).*z\.reshape\(-1, 1\)"),
        ((0, 1), (0,), "no rows"),
    ],
)
@pytest.mark.pairs
def test_shapes_that_do_not_fit_are_refused(backend, loss, z, y, words):
    z, y = backend.asarray(np.full(z, 0.5)), backend.asarray(np.ones(y))
    with pytest.raises(gd.DataError, match=words):
        loss.forward(z, y)


@pytest.mark.parametrize(
    ("z", "y", "words"),
    [
        ((3, 1), (3,), "needs an output for each class, at least 2.*BinaryCrossEntropy"),
        ((3, 4), (3, 2), r"y has shape \(3, 2\).*classes of shape \(3,\) or one-hot rows of .*4\)"),
        ((3, 4), (4, 3), "x has 3 rows and y has 4 rows"),
        ((3, 3), (3, 3, 1), r"y has shape \(3, 3, 1\)"),
        ((0, 2), (0,), "no rows"),
    ],
)
def test_shapes_that_do_not_fit_classes_are_refused(backend, z, y, words):
    z, y = backend.asarray(np.full(z, 0.5)), backend.asarray(np.ones(y, dtype=int))
    with pytest.raises(gd.DataError, match=words):
        CCE(from_logits=True).forward(z, y)


def test_targets_may_be_a_list_on_the_host():
    assert float(MSE().forward(np.array([[1.0], [3.0]]), [0, 1])) == 2.5
    assert float(CCE(True).forward(np.zeros((2, 2)), [0, 1])) == pytest.approx(math.log(2))


# Targets that are refused ---------------------------------------------------------------------


@pytest.mark.parametrize("y", [[0, 4, 1], [0, -1, 1], [[7], [0], [0]]])
def test_classes_outside_the_outputs_are_refused_and_named(backend, y):
    outside = next(c for c in np.ravel(y) if not 0 <= c < 4)
    words = f"4 outputs, for classes 0 to 3, and y holds {outside}: number the classes from 0"
    with pytest.raises(gd.DataError, match=words):
        CCE(True).forward(backend.zeros((3, 4), "float32"), backend.asarray(y))


def test_classes_that_are_no_integers_are_refused_and_not_cast(backend):
    with pytest.raises(gd.DataError, match=r"classes must be integers, and y is float64.*astype"):
        CCE(True).forward(backend.zeros((3, 4), "float32"), backend.asarray([0.0, 1.0, 2.0]))


def test_boolean_labels_are_classes_0_and_1(backend):
    z, y = logits(k=2)
    flags = y.astype(bool)
    for loss, outputs in ((CCE(True), z), (BCE(True), z[:, :1]), (MSE(), z[:, :1])):
        value, dz = value_and_gradient(loss, backend, outputs, flags)
        expected, expected_dz = value_and_gradient(loss, backend, outputs, y)
        assert value == expected
        np.testing.assert_array_equal(dz, expected_dz)


@pytest.mark.parametrize(
    "row", [[1.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.5, 0.4, 0.0], [2.0, -1.0, 0.0]]
)
def test_rows_that_are_no_probabilities_are_refused(backend, row):
    y = backend.asarray([[1.0, 0.0, 0.0], row])
    with pytest.raises(gd.DataError, match="row must be one-hot or probabilities that sum to 1"):
        CCE(True).forward(backend.zeros((2, 3), "float32"), y)


@pytest.mark.parametrize("dtype", ["uint8", "int64", "bool"])
def test_rows_of_whole_numbers_that_are_not_one_hot_are_refused(backend, dtype):
    y = backend.asarray(np.array([[1, 0, 0], [0, 0, 0]]), dtype=dtype)
    with pytest.raises(gd.DataError, match="one-hot"):
        CCE(True).forward(backend.zeros((2, 3), "float32"), y)


@pytest.mark.parametrize("loss", [BCE(True), BCE(), Focal(), Hinge()])
@pytest.mark.parametrize(("y", "given"), [([-1, 1], "-1 to 1"), ([1, 2], "1 to 2")])
def test_labels_that_are_not_0_and_1_are_refused_with_the_way_out(backend, loss, y, given):
    words = f"takes labels 0 and 1.* y holds {given}: encode the two classes as 0 and 1"
    with pytest.raises(gd.DataError, match=words):
        loss.forward(backend.asarray([[0.5], [0.5]]), backend.asarray(y))


@pytest.mark.parametrize(
    "loss", [MSE(), Huber(), Quantile(), Poisson(), Hinge(), Focal(), BCE(True), CCE(True)]
)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_targets_that_are_not_finite_are_named_with_their_row(backend, loss, bad):
    y = np.eye(3)
    y[2, 1] = bad
    with pytest.raises(gd.DataError, match=f"y holds {bad} at row 2, column 1"):
        loss.forward(backend.zeros((3, 3), "float64"), backend.asarray(y))


@pytest.mark.parametrize(
    "loss", [MSE(), Huber(), Quantile(), Poisson(), Hinge(), Focal(), BCE(True), CCE(True)]
)
@pytest.mark.parametrize("y", [["yes", "no"], np.array(["1", "0"]), [None, 1]])
def test_text_is_refused(loss, y):
    with pytest.raises(gd.DataError, match="y must hold numbers, but its dtype is"):
        loss.forward(np.zeros((2, 2 if isinstance(loss, CCE) else 1)), y)


# Probabilities --------------------------------------------------------------------------------


@pytest.mark.parametrize(("p", "y"), [(0.0, 1), (1.0, 0), (0.0, 0.5), (1.0, 0.5)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_sure_and_wrong_probability_is_an_error_that_names_from_logits(backend, p, y, dtype):
    z = backend.asarray([[0.5], [p]], dtype=dtype)
    with pytest.raises(gd.DataError, match=r"infinite.*exactly 0 or 1.*BinaryCrossEntropy\(from_l"):
        BCE().forward(z, backend.asarray([1, y]))


def test_a_true_class_of_probability_0_is_an_error_that_names_from_logits(backend):
    z = backend.asarray([[0.5, 0.5], [1.0, 0.0]])
    for y in ([0, 1], [[1, 0], [0, 1]]):
        with pytest.raises(gd.DataError, match=r"infinite.*CategoricalCrossEntropy\(from_logits=T"):
            CCE().forward(z, backend.asarray(y))


@pytest.mark.parametrize("p", [1e-30, 1e-10, 1e-5, 0.3])
def test_a_small_and_right_probability_costs_as_little(backend, p):
    value, _ = value_and_gradient(BCE(), backend, [[p]], [0], "float32")
    assert value == pytest.approx(-math.log1p(-p), rel=1e-6)


def test_a_sure_and_right_probability_costs_nothing(backend):
    value, dz = value_and_gradient(BCE(), backend, [[1.0], [0.0]], [1, 0])
    assert value == 0
    np.testing.assert_array_equal(dz, [[-1.0], [1.0]])
    for y in ([0, 1], np.eye(2)):
        value, dz = value_and_gradient(CCE(), backend, np.eye(2), y)
        assert value == 0
        np.testing.assert_array_equal(dz, -np.eye(2))


@pytest.mark.parametrize("loss", [BCE(), CCE()])
@pytest.mark.parametrize(("z", "given"), [(-0.5, "-0.5 to 0.5"), (3.0, "0.5 to 3")])
def test_predictions_that_are_no_probabilities_name_from_logits(backend, loss, z, given):
    outputs = backend.asarray([[0.5, z], [0.5, 0.5]])
    words = rf"takes probabilities, and the predictions range from {given}: .*\(from_logits=True\)"
    with pytest.raises(gd.DataError, match=words):
        loss.forward(outputs, backend.asarray(np.eye(2)))


def test_an_infinite_squared_error_is_not_blamed_on_probabilities():
    # By hand, with numbers whose squares are too large for float32; a trainer refuses the update.
    with np.errstate(over="ignore"):
        value = MSE().forward(np.full((2, 1), 1e30, dtype="float32"), np.zeros(2))
    assert np.isinf(value)


# Order of calls -------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", [MSE, Huber, MAE, Quantile, Focal, BCE, CCE])
def test_backward_needs_a_forward_of_its_own(backend, loss):
    loss = loss()
    with pytest.raises(RuntimeError, match=f"{type(loss).__name__}: backward was called without a"):
        loss.backward()
    loss.forward(backend.asarray([[0.5, 0.5]]), backend.asarray([[1.0, 0.0]]))
    loss.backward()
    with pytest.raises(RuntimeError, match="for the second time"):
        loss.backward()
    loss.forward(backend.asarray([[0.5, 0.5]]), backend.asarray([[1.0, 0.0]]))
    loss.forget()
    with pytest.raises(RuntimeError, match="without a forward"):
        loss.backward()


def test_a_forward_that_was_refused_leaves_nothing_for_backward(backend):
    loss = BCE()
    with pytest.raises(gd.DataError, match="infinite"):
        loss.forward(backend.asarray([[0.0]]), backend.asarray([1]))
    with pytest.raises(RuntimeError, match="without a forward"):
        loss.backward()


# Names ----------------------------------------------------------------------------------------


def test_the_fields_usual_names():
    expected = {
        "mse": MSE,
        "mean_squared_error": MSE,
        "mae": MAE,
        "mean_absolute_error": MAE,
        "huber": gd.Huber,
        "quantile": Quantile,
        "poisson": Poisson,
        "focal": Focal,
        "hinge": Hinge,
        "binary_crossentropy": BCE,
        "categorical_crossentropy": CCE,
    }
    assert expected == LOSSES
    for name, loss in expected.items():
        assert type(get_loss(name)) is loss
        assert get_loss(name).from_logits is (loss in (Poisson, Hinge))


def test_a_loss_is_its_own():
    loss = BCE(from_logits=True)
    assert get_loss(loss) is loss
    assert repr(loss) == "BinaryCrossEntropy(from_logits=True)"
    assert repr(CCE(True, 0.1)) == (
        "CategoricalCrossEntropy(from_logits=True, label_smoothing=0.1)"
    )
    assert repr(Huber()) == "Huber()"
    assert repr(Huber(0.5)) == "Huber(delta=0.5)"
    assert repr(Quantile((0.1, 0.9))) == "Quantile(quantiles=(0.1, 0.9))"
    assert repr(Focal(1, None)) == "Focal(gamma=1.0, alpha=None)"


@pytest.mark.parametrize("which", ["msr", None, MSE, 3])
def test_an_unknown_name_is_refused_with_the_known_ones(which):
    with pytest.raises(ValueError, match=r"unknown loss .*'binary_crossentropy', .*'mse'"):
        get_loss(which)


class MeanAbsolute(gd.Loss):
    """The two methods that a custom loss needs."""

    def per_example(self, z, y):
        return abs(z - y).mean(axis=1)

    def gradient(self, z, y):
        return ((z > y) * 2.0 - 1) / z.shape[1]


def test_a_loss_of_ones_own_needs_two_methods():
    value = MeanAbsolute().forward(np.array([[1.0], [3.0]]), np.array([0.0, 5.0]))
    assert value == 1.5
    for method in ("per_example", "gradient"):
        with pytest.raises(NotImplementedError, match=rf"Loss must define {method}\(z, y\)"):
            getattr(gd.Loss(), method)(np.ones((1, 1)), np.ones((1, 1)))


SHAPES = {
    "a column": (lambda each: each[:, :1], r"shape \(4, 1\)"),
    "a number for each output": (lambda each: each, r"shape \(4, 2\)"),
    "a mean": (lambda each: each.mean(), r"shape \(\)"),
    "a mean for each output": (lambda each: each.mean(axis=0), r"shape \(2,\)"),
    "a row": (lambda each: each.mean(axis=1)[None], r"shape \(1, 4\)"),
    "one row too few": (lambda each: each.mean(axis=1)[1:], r"shape \(3,\)"),
    "a Python number": (
        lambda each: float(abs(each).mean()),
        "a value of type float, not",
    ),
    "a list": (lambda each: abs(each).mean(axis=1).tolist(), "a value of type list, not"),
    "nothing": (lambda each: None, "a value of type NoneType, not"),
}


class Misshapen(MeanAbsolute):
    """Returns another shape than a number for each row."""

    def __init__(self, kind):
        self.kind = kind

    def per_example(self, z, y):
        # Without the absolute value, for the complex step of check_gradients.
        return SHAPES[self.kind][0]((z - y) ** 2)


X4, Y4, W4 = np.arange(12.0).reshape(4, 3), np.zeros((4, 2)), np.array([1.0, 2.0, 0.5, 3.0])


def two_outputs():
    return gd.Sequential([gd.Dense(2)], inputs=3)


def trained_before(loss):
    model = two_outputs()
    model.fit(X4, Y4, loss="mse")
    model.loss = loss
    return model


PATHS = {
    "forward": lambda loss: loss.forward(X4[:, :2], Y4),
    "forward with weights": lambda loss: loss.forward(X4[:, :2], Y4, W4),
    "fit": lambda loss: two_outputs().fit(X4, Y4, loss=loss),
    "fit without reuse": lambda loss: two_outputs().fit(X4, Y4, loss=loss, reuse_buffers=False),
    "many epochs": lambda loss: two_outputs().fit(X4, Y4, loss=loss, epochs=5, fast=False),
    "weights": lambda loss: two_outputs().fit(X4, Y4, loss=loss, sample_weight=W4),
    "norms of rows": lambda loss: two_outputs().fit(X4, Y4, loss=loss, per_example=True),
    "clipped rows": lambda loss: two_outputs().fit(X4, Y4, loss=loss, clip_rows=1.0),
    "parts": lambda loss: two_outputs().fit(X4, Y4, loss=loss, batch_size=None, accumulate=2),
    "step": lambda loss: gd.Trainer(two_outputs(), loss, "sgd").step(X4, Y4),
    "evaluate": lambda loss: gd.Trainer(two_outputs(), loss, "sgd").evaluate(X4, Y4),
    "evaluate a model": lambda loss: trained_before(loss).evaluate(X4, Y4),
    "objective": lambda loss: gd.Objective(two_outputs(), loss).forward(X4.astype("f4"), Y4),
    "find_learning_rate": lambda loss: gd.find_learning_rate(two_outputs(), X4, Y4, loss=loss),
    "check_gradients": lambda loss: gd.check_gradients(two_outputs(), loss, X4, Y4),
    "explain": lambda loss: gd.explain(two_outputs(), X4, Y4, loss=loss, updater="sgd"),
}


@pytest.mark.few
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", SHAPES)
def test_a_per_example_that_gives_no_number_for_each_row_is_refused(kind, path):
    given = SHAPES[kind][1]
    words = (
        r"Misshapen.per_example must return a number for each row, shape \(4,\), and returned "
        rf"{given}.*: end it with the mean over each row's outputs, \.mean\(axis=1\)"
    )
    loss = Misshapen(kind)
    with pytest.raises(gd.ShapeError, match=words):
        PATHS[path](loss)
    with pytest.raises(RuntimeError, match="without a forward"):
        loss.backward()


class Mended(MeanAbsolute):
    """Does as the message says."""

    def per_example(self, z, y):
        return ((z - y) ** 2).mean(axis=1)

    def gradient(self, z, y):
        return 2 * (z - y) / z.shape[1]


@pytest.mark.parametrize("path", PATHS)
def test_a_per_example_that_was_mended_is_taken(path):
    PATHS[path](Mended())


@pytest.mark.parametrize("rows", [1, 2])
def test_the_shape_is_looked_at_in_every_batch(rows):
    # As many outputs as rows, in which a mean over the rows has the right shape by chance, are one
    # batch; the next one is refused.
    class OverRows(Mended):
        def per_example(self, z, y):
            return abs(z - y).mean(axis=0)

    with pytest.raises(gd.ShapeError, match=r"shape \(1,\), and returned shape \(2,\)"):
        two_outputs().fit(X4[:3], Y4[:3], loss=OverRows(), batch_size=rows)


def test_probabilities_for_metrics(backend):
    z, _ = logits()
    array = backend.asarray(z)
    for loss, expected in (
        (MSE(), z),
        (Huber(), z),
        (BCE(), z),
        (CCE(), z),
        (BCE(True), special.expit(z)),
        (CCE(True), special.softmax(z, axis=1)),
    ):
        np.testing.assert_allclose(
            backend.to_numpy(loss.probabilities(array)), expected, rtol=1e-13, atol=1e-15
        )
