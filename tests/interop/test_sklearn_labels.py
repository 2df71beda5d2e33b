"""Several labels per row: each is weighed by itself, as its own classifier would."""

import functools
import pickle

import numpy as np
import pytest
from sklearn import base, datasets
from sklearn.preprocessing import StandardScaler

import minigd as gd
from minigd.interop.sklearn.label_weights import WeightedLabels


@functools.cache
def rows():
    X, y = datasets.make_multilabel_classification(160, 6, n_classes=3, random_state=0)
    return StandardScaler().fit_transform(X), y


def quick(**settings):
    usual = {"epochs": 20, "batch_size": None, "random_state": 0, "updater": "sgd"}
    return gd.MiniBatchClassifier(**{**usual, "learning_rate": 0.3, **settings})


GIVEN = [{0: 1.0, 1: 5.0}, {1: 0.25}, {0: 3, 1: 2}]


def by_hand(weights, sample_weight=None):
    """Return coefficients of each label's logistic regression by plain full-batch descent."""
    X, y = rows()
    w, b = np.zeros((6, 3)), np.zeros(3)
    row = np.ones(len(X)) if sample_weight is None else sample_weight
    for _ in range(20):
        p = 1 / (1 + np.exp(-(X @ w + b)))
        dz = np.where(y == 1, [t[1] for t in weights], [t[0] for t in weights]) * (p - y) / 3
        dz *= (row / row.sum())[:, None]
        w, b = w - 0.3 * X.T @ dz, b - 0.3 * dz.sum(axis=0)
    return w.T, b


def balanced(sample_weight=None):
    _, y = rows()
    row = np.ones(len(y)) if sample_weight is None else sample_weight
    ones = row @ y
    return [[row.sum() / (2 * (row.sum() - one)), row.sum() / (2 * one)] for one in ones]


TABLE = [[1, 5], [1, 0.25], [3, 2]]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("given", "table"), [(GIVEN, TABLE), ("balanced", None)], ids=["a", "b"])
def test_each_label_is_weighed_as_its_dict_says(given, table, weighted):
    X, y = rows()
    weight = np.arange(len(X)) % 3.0 if weighted else None
    classifier = quick(class_weight=given).fit(X, y, weight)
    slope, intercept = by_hand(balanced(weight) if table is None else table, weight)
    np.testing.assert_allclose(classifier.coef_, slope, rtol=1e-9)
    np.testing.assert_allclose(classifier.intercept_, intercept, rtol=1e-9)


def test_balanced_labels_are_balanced_classifiers():
    X, y = rows()
    together = quick(class_weight="balanced", learning_rate=0.9).fit(X, y)
    for k in range(3):
        alone = quick(class_weight="balanced").fit(X, y[:, k])
        # The mean over three labels has a third of the gradient.
        np.testing.assert_allclose(together.coef_[k], alone.coef_[0], rtol=1e-9)


def test_a_label_of_one_kind_counts_as_it_is():
    X, y = rows()
    y = np.column_stack([y[:, 0], np.zeros(len(y), int)])
    assert np.isfinite(quick(class_weight="balanced").fit(X, y).coef_).all()


def test_a_source_and_a_batches_are_weighed_likewise():
    X, y = rows()
    expected = quick(class_weight=GIVEN).fit(X, y).coef_
    source = gd.ArraySource(X, y)
    for data in (source, gd.Batches(source, batch_size=None)):
        np.testing.assert_allclose(quick(class_weight=GIVEN).fit(data).coef_, expected, rtol=1e-9)


def test_the_model_is_saved_with_the_loss_without_weights(tmp_path):
    X, y = rows()
    fitted = quick(class_weight=GIVEN, hidden=4, warm_start=True).fit(X, y)
    fitted.model_.save(tmp_path / "m.npz")
    again = gd.load(tmp_path / "m.npz")
    np.testing.assert_allclose(again.predict(X), fitted.predict_proba(X), rtol=1e-12)
    assert repr(again.loss) == "BinaryCrossEntropy()"
    copy = pickle.loads(pickle.dumps(fitted)).fit(X, y)
    np.testing.assert_array_equal(copy.predict_proba(X), fitted.fit(X, y).predict_proba(X))
    whole = quick(class_weight=GIVEN, hidden=4, epochs=40).fit(X, y)
    np.testing.assert_array_equal(copy.predict_proba(X), whole.predict_proba(X))
    assert base.clone(fitted).class_weight == GIVEN


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("from_logits", [False, True])
def test_the_gradient_of_the_loss(from_logits, smoothing):
    rng = np.random.default_rng(0)
    loss = WeightedLabels([[1.0, 5.0], [0.5, 2.0]], from_logits, smoothing)
    y = rng.integers(0, 2, (5, 2))
    layers = [gd.Dense(2)] if from_logits else [gd.Dense(2), gd.Sigmoid()]
    model = gd.Sequential(layers, 3, dtype="float64", seed=1)
    gd.check_gradients(model, loss, rng.normal(size=(5, 3)), y)
    z = rng.uniform(0.1, 0.9, (5, 2))
    targets = loss.targets(y, z)
    for i in range(5):
        for k in range(2):
            step = z.astype(complex)
            step[i, k] += 1e-30j
            slope = loss.per_example(step, targets)[i].imag / 1e-30
            assert loss.gradient(z, targets)[i, k] == pytest.approx(slope, rel=1e-10)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({0: 1.0, 1: 5.0}, r"y has 3 labels per row, for which class_weight is a list of 3 dicts"),
        (GIVEN[:2], "y has 3 labels per row"),
        ([], "y has 3 labels per row"),
        ([*GIVEN[:2], "balanced"], "class_weight='balanced' for all of them, or a dict for each"),
        ([*GIVEN[:2], 3], "class_weight must be a dict"),
        ([*GIVEN[:2], {1: -1}], "the weight of class 1 must be a number, at least 0"),
        (5, "class_weight must be a dict, a list of a dict for each label, 'balanced' or None"),
        ("even", "class_weight must be a dict"),
    ],
    ids=range(8),
)
def test_weights_that_make_no_sense(given, message):
    with pytest.raises((ValueError, TypeError), match=message):
        quick(class_weight=given).fit(*rows())


def test_a_list_is_for_several_labels_and_a_binary_cross_entropy():
    X, y = rows()
    with pytest.raises(
        ValueError, match=r"y has one class per row: .* must be a dict, \{0: 5.0\}, or"
    ):
        quick(class_weight=GIVEN).fit(X, y[:, 0])
    with pytest.raises(ValueError, match="weighs the labels in a binary cross-entropy, but loss"):
        quick(class_weight=GIVEN, loss="mse").fit(X, y)
    with pytest.raises(ValueError, match="needs all rows at once"):
        quick(class_weight="balanced").partial_fit(X, y, range(3))
    quick(class_weight=GIVEN).partial_fit(X, y, range(3))
