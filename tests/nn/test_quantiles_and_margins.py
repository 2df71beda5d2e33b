"""Losses of quantiles, counts, margins and rare labels: SciPy's and scikit-learn's numbers.

Each has its minimum where theory says, and refuses targets without a meaning.
"""

import numpy as np
import pytest
from scipy import special, stats
from sklearn import metrics

import minigd as gd


def rng(seed=0):
    return np.random.default_rng(seed)


def value_of(loss, z, y, weight=None):
    return float(loss.forward(np.asarray(z, "float64"), np.asarray(y), weight))


WEIGHT = rng(9).uniform(0.1, 3.0, 40)
weights = pytest.mark.parametrize("weight", [None, WEIGHT], ids=["", "weighted"])


# Quantiles --------------------------------------------------------------------------------------


@weights
@pytest.mark.parametrize("k", [1, 3])
def test_absolute_errors_are_scikit_learns(k, weight):
    z, y = rng().normal(size=(40, k)), rng(1).normal(size=(40, k))
    expected = metrics.mean_absolute_error(y, z, sample_weight=weight)
    assert value_of(gd.MeanAbsoluteError(), z, y, weight) == pytest.approx(expected, rel=1e-13)


@weights
@pytest.mark.parametrize("q", [0.01, 0.3, 0.5, 0.9])
def test_one_quantile_is_scikit_learns_pinball(q, weight):
    z, y = rng().normal(size=(40, 3)), rng(1).normal(size=(40, 3))
    expected = metrics.mean_pinball_loss(y, z, alpha=q, sample_weight=weight)
    assert value_of(gd.Quantile(q), z, y, weight) == pytest.approx(expected, rel=1e-13)


@weights
@pytest.mark.parametrize("shape", [(40,), (40, 1)])
@pytest.mark.parametrize("kind", [list, tuple, np.array])
def test_several_quantiles_are_the_mean_of_each_alone(kind, shape, weight):
    shares = [0.1, 0.5, 0.9]
    z, y = rng().normal(size=(40, 3)), rng(1).normal(size=shape)
    alone = [
        metrics.mean_pinball_loss(y.reshape(-1), z[:, k], alpha=shares[k], sample_weight=weight)
        for k in range(3)
    ]
    loss = gd.Quantile(kind(shares))
    assert value_of(loss, z, y, weight) == pytest.approx(np.mean(alone), rel=1e-13)
    assert loss.config() == {"quantiles": tuple(shares)}


def test_a_quantile_is_where_its_share_of_the_targets_is_below():
    y = rng().gamma(2.0, size=999)
    model = gd.Sequential([gd.Dense(3)], inputs=1, dtype="float64")
    loss, shares = gd.Quantile([0.1, 0.5, 0.9]), np.array([0.1, 0.5, 0.9])
    model.fit(np.zeros((999, 1)), y, loss=loss, updater=gd.SGD(0.3), batch_size=None, epochs=400)
    below = (y[:, None] < model.predict(np.zeros((1, 1)))).mean(axis=0)
    np.testing.assert_allclose(below, shares, atol=0.01)


@pytest.mark.parametrize("reuse", [True, False])
def test_quantiles_that_are_changed_between_two_steps_count_at_once(reuse):
    loss, X, y = gd.Quantile([0.1, 0.9]), np.ones((8, 1)), np.full(8, 9.0)
    model = gd.Sequential([gd.Dense(2)], inputs=1, dtype="float64")
    trainer = gd.Trainer(model, loss, gd.SGD(0.0), reuse_buffers=reuse)
    below = 9.0 - model.predict(X[:1])[0]
    for shares in ((0.1, 0.9), (0.1, 0.9), (0.5, 0.25)):
        trainer.objective.loss.quantiles = shares
        assert float(trainer.step(X, y)) == pytest.approx(np.mean(shares * below), rel=1e-12)


@pytest.mark.parametrize("q", [0, 1, -0.1, 1.5, np.nan, "0.5", True, [0.1, 1.0], [0.5, "a"], None])
def test_a_share_that_is_none_is_refused(q):
    with pytest.raises(ValueError, match="a quantile must be"):
        gd.Quantile(q)


def test_no_quantiles_are_refused_with_an_example():
    with pytest.raises(ValueError, match=r"quantiles is empty: give .*\[0.1, 0.5, 0.9\]"):
        gd.Quantile([])


@pytest.mark.parametrize(
    ("z", "y", "words"),
    [
        (
            (4, 2),
            (4,),
            r"needs one output per quantile, 3, and the model has 2: end it in Dense\(3",
        ),
        ((4, 3), (4, 3), r"y has shape \(4, 3\): for several quantiles it is one number per row"),
        ((4, 3), (3,), "x has 4 rows and y has 3 rows"),
    ],
)
def test_shapes_that_do_not_fit_quantiles_are_refused(z, y, words):
    with pytest.raises(gd.ShapeError, match=words):
        gd.Quantile([0.1, 0.5, 0.9]).forward(np.zeros(z), np.zeros(y))


def test_quantiles_of_a_rescaled_target_are_in_its_units():
    X, y = np.zeros((200, 1)), rng().normal(500.0, 80.0, 200)
    for targets in (y, y.reshape(-1, 1)):
        model = gd.Sequential([gd.Dense(2), gd.Rescale()], inputs=1, dtype="float64")
        model.adapt(gd.Batches(X, targets))
        model.fit(X, targets, loss=gd.Quantile([0.1, 0.9]), updater=gd.SGD(0.2), epochs=200,
                  batch_size=None)  # fmt: skip
        found = model.predict(X[:1])[0]
        np.testing.assert_allclose(found, np.quantile(y, [0.1, 0.9]), rtol=0.02)
        # To rounding it is what is learned from targets of mean 0 and deviation 1.
        plain = gd.Sequential([gd.Dense(2)], inputs=1, dtype="float64")
        plain.fit(X, (y - y.mean()) / y.std(), loss=gd.Quantile([0.1, 0.9]),
                  updater=gd.SGD(0.2), epochs=200, batch_size=None)  # fmt: skip
        np.testing.assert_allclose(found, y.mean() + y.std() * plain.predict(X[:1])[0], rtol=1e-10)


# Counts -----------------------------------------------------------------------------------------


@weights
def test_poisson_is_the_log_likelihood_but_for_what_no_prediction_changes(weight):
    z, y = rng().normal(size=(40, 2)), rng(1).poisson(2.0, size=(40, 2))
    each = -(stats.poisson.logpmf(y, np.exp(z)) + special.gammaln(y + 1)).mean(axis=1)
    expected = np.average(each, weights=weight)
    assert value_of(gd.Poisson(), z, y, weight) == pytest.approx(expected, rel=1e-12)
    deviance = metrics.mean_poisson_deviance(y[:, 0], np.exp(z[:, 0]), sample_weight=weight)
    ours = value_of(gd.Poisson(), z[:, :1], y[:, 0], weight)
    least = value_of(gd.Poisson(), np.log(np.maximum(y[:, :1], 1e-300)), y[:, 0], weight)
    assert 2 * (ours - least) == pytest.approx(deviance, rel=1e-11)


def test_metrics_of_counts_see_rates_and_the_model_predicts_their_logarithm():
    X = rng().normal(size=(300, 1))
    y = rng(1).poisson(np.exp(0.5 * X[:, 0] + 0.3))
    model = gd.Sequential([gd.Dense(1)], inputs=1, dtype="float64")
    trainer = gd.Trainer(model, "poisson", gd.Adam(0.05), metrics=["mae"])
    trainer.fit(X, y, epochs=100, batch_size=100)
    assert model.params["dense1.W"][0, 0] == pytest.approx(0.5, abs=0.1)
    rates = np.exp(model.predict(X))
    expected = metrics.mean_absolute_error(y, rates)
    assert trainer.evaluate(X, y)["mae"] == pytest.approx(expected, rel=1e-12)


def test_counts_below_0_are_refused():
    with pytest.raises(gd.DataError, match="Poisson takes counts, at least 0, and y holds -2"):
        gd.Poisson().forward(np.zeros((2, 1)), np.array([1, -2]))


# Margins ----------------------------------------------------------------------------------------


@weights
@pytest.mark.parametrize("k", [1, 2, 5])
def test_hinge_is_scikit_learns(k, weight):
    z, y = 2 * rng().normal(size=(40, k)), rng(1).integers(0, max(k, 2), 40)
    y[: max(k, 2)] = range(max(k, 2))
    of = {"sample_weight": weight, "labels": range(max(k, 2))}
    if k == 2:  # scikit-learn takes one score of two classes, which is the difference
        expected = metrics.hinge_loss(y, z[:, 1] - z[:, 0], **of)
    else:
        expected = metrics.hinge_loss(y, z[:, 0] if k == 1 else z, **of)
    ways = [y, y.reshape(-1, 1), y.astype("uint8")] + ([np.eye(k)[y]] if k > 1 else [y == 1])
    for targets in ways:
        assert value_of(gd.Hinge(), z, targets, weight) == pytest.approx(expected, rel=1e-13)


def test_rivals_of_one_score_share_the_gradient():
    loss = gd.Hinge()
    loss.forward(np.array([[0.5, 0.25, 0.25, -1.0]]), np.array([0]))
    np.testing.assert_array_equal(loss.backward(), [[-1.0, 0.5, 0.5, 0.0]])


def test_metrics_of_margins_see_the_class_and_ranks_the_scores():
    X = rng().normal(size=(200, 2))
    y = (X[:, 0] + 0.5 * rng(1).normal(size=200) > 0.3).astype(int)
    for outputs in (1, 2):
        model = gd.Sequential([gd.Dense(outputs)], inputs=2, dtype="float64")
        trainer = gd.Trainer(model, "hinge", gd.Adam(0.05), metrics=["accuracy", "f1", "roc_auc"])
        trainer.fit(X, y, epochs=20)
        z, found = model.predict(X), trainer.evaluate(X, y)
        chosen = z[:, 0] > 0 if outputs == 1 else z.argmax(axis=1)
        assert found["accuracy"] == metrics.accuracy_score(y, chosen) > 0.8
        assert found["f1"] == pytest.approx(metrics.f1_score(y, chosen), rel=1e-12)
        expected = metrics.roc_auc_score(y, z[:, -1])
        assert found["roc_auc"] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("z", "y", "words"),
    [
        ((2, 1), [0.5, 1.0], "Hinge takes labels 0 and 1, and y holds 0.5 to 1: encode"),
        ((2, 3), [[0.5, 0.5, 0], [1, 0, 0]], "Hinge takes labels 0 and 1"),
        ((2, 3), [[1, 1, 0], [1, 0, 0]], "row must be one-hot"),
        ((2, 3), [0, 3], "for classes 0 to 2, and y holds 3"),
        ((2, 3), [[0, 1], [1, 0]], r"Hinge takes classes of shape \(2,\) or one-hot rows"),
        ((2, 3), [0.0, 1.0], "classes must be integers"),
    ],
)
def test_targets_that_have_no_margin_are_refused(z, y, words):
    with pytest.raises(gd.DataError, match=words):
        gd.Hinge().forward(np.zeros(z), np.array(y))


# Rare labels ------------------------------------------------------------------------------------


@pytest.mark.parametrize("from_logits", [False, True])
def test_without_focus_or_balance_it_is_the_cross_entropy(from_logits):
    z, y = rng().normal(size=(9, 3)), rng(1).uniform(size=(9, 3))
    given = z if from_logits else special.expit(z)
    focal, plain = gd.Focal(0.0, None, from_logits), gd.BinaryCrossEntropy(from_logits)
    assert value_of(focal, given, y) == pytest.approx(value_of(plain, given, y), rel=1e-13)
    np.testing.assert_allclose(focal.backward(), plain.backward(), rtol=1e-12)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
def test_both_forms_are_one_by_the_chain_rule(gamma):
    z, y = rng().normal(scale=3, size=(9, 3)), rng(1).uniform(size=(9, 3))
    y[0] = [0, 1, 0]
    p, logits, other = special.expit(z), gd.Focal(gamma, from_logits=True), gd.Focal(gamma)
    assert value_of(logits, z, y) == pytest.approx(value_of(other, p, y), rel=1e-12)
    np.testing.assert_allclose(logits.backward(), other.backward() * p * (1 - p), rtol=1e-10)


def test_focal_stays_exact_far_out_in_float32():
    loss = gd.Focal(from_logits=True)
    z, y = np.array([[1e4], [1e4], [-1e4], [-1e4]], "float32"), np.array([1, 0, 1, 0])
    with np.errstate(all="raise", under="ignore"):
        assert float(loss.forward(z, y)) == pytest.approx(1e4 * (0.75 + 0.25) / 4)
        np.testing.assert_allclose(loss.backward()[:, 0], [0, 0.75, -0.25, 0])


def test_a_sure_and_wrong_probability_is_refused_and_a_right_one_costs_nothing():
    loss = gd.Focal(0.5)
    with np.errstate(all="raise"):
        assert value_of(loss, [[0.0], [1.0]], [0, 1]) == 0.0
        np.testing.assert_array_equal(abs(loss.backward()), 0.0)
    with pytest.raises(gd.DataError, match=r"infinite.*use Focal\(from_logits=True\)"):
        value_of(loss, [[0.0]], [1])


def test_a_last_sigmoid_is_left_out_under_focal_and_the_constants_stay():
    model = gd.Sequential([gd.Dense(1), gd.Sigmoid()], inputs=2)
    objective = gd.Objective(model, gd.Focal(1.5, None, label_smoothing=0.1))
    assert objective.paired
    assert repr(objective.loss) == (
        "Focal(gamma=1.5, alpha=None, from_logits=True, label_smoothing=0.1)"
    )


@pytest.mark.parametrize("given", [{"gamma": -1}, {"gamma": None}, {"alpha": 1.0}, {"alpha": "a"}])
def test_constants_out_of_range_are_refused(given):
    (name,) = given
    with pytest.raises(ValueError, match=f"{name} must be a number, at least 0"):
        gd.Focal(**given)


# With a model -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("last", "loss", "words"),
    [
        (gd.Sigmoid, gd.Hinge(), r"Hinge\(\) takes logits.*Sigmoid.*probabilities: remove Sigmoid"),
        (gd.Softmax, gd.Poisson(), r"Poisson\(\) takes logits.*probabilities: remove Softmax"),
        (gd.Rescale, gd.Hinge(), "is for classes, and the model ends in Rescale"),
        (gd.Rescale, gd.Poisson(), "is for counts, and the model ends in Rescale"),
        (gd.ReLU, gd.Focal(from_logits=True), "never negative"),
        (gd.Tanh, gd.Focal(), r"takes probabilities.*use Focal\(from_logits=True\)"),
    ],
)
def test_a_last_layer_that_does_not_fit_is_refused_with_a_remedy(last, loss, words):
    with pytest.raises(ValueError, match=words):
        gd.Objective(gd.Sequential([gd.Dense(2), last()], inputs=2), loss)


LOSSES = {
    "mae": (gd.MeanAbsoluteError(), 2, lambda y: y),
    "quantiles": (gd.Quantile([0.2, 0.7]), 2, lambda y: y[:, 0]),
    "poisson": (gd.Poisson(), 2, lambda y: y * y),
    "hinge": (gd.Hinge(), 2, lambda y: y.argmax(axis=1)),
    "focal": (gd.Focal(1.5, None, True, 0.1), 2, lambda y: y > 0),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_run_that_goes_on_from_a_file_has_the_bits_of_one_that_did_not_stop(name, tmp_path):
    loss, outputs, made = LOSSES[name]
    X, y = rng().normal(size=(20, 3)), made(rng(1).normal(size=(20, 2)))
    batches = gd.Batches(X, y, batch_size=8, shuffle=True, seed=1)

    def trainer():
        model = gd.Sequential([gd.Dense(4), gd.Tanh(), gd.Dense(outputs)], inputs=3)
        return gd.Trainer(model, loss, gd.Adam(0.01))

    whole, first = trainer(), trainer()
    whole.fit(batches, epochs=4)
    first.fit(batches, epochs=2)
    first.save(tmp_path / "run.npz")
    again = gd.Trainer.resume(tmp_path / "run.npz", batches)
    again.fit(batches, epochs=2)
    assert repr(again.model.loss) == repr(loss)
    np.testing.assert_array_equal(again.model.flat_params, whole.model.flat_params)
    assert again.history["loss"] == whole.history["loss"]
