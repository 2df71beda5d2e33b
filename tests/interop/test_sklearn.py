"""The estimators: all of scikit-learn's checks, its tools, and what mini-batches should come to."""

import copy
import gc
import inspect
import io
import os
import pickle
import re
import subprocess
import sys
import weakref

import joblib
import numpy as np
import pytest
import sklearn
from budgets import examples
from hypothesis import given
from hypothesis import strategies as st
from sklearn import base, datasets, exceptions, linear_model, neural_network
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks
from sklearn.utils.class_weight import compute_sample_weight

import minigd as gd

ESTIMATORS = (gd.MiniBatchClassifier, gd.MiniBatchRegressor)
both = pytest.mark.parametrize("Estimator", ESTIMATORS)


def iris(kind=None):
    X, y = datasets.load_iris(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    return X, y if kind is None else np.array(kind)[y]


def quick(Estimator=gd.MiniBatchClassifier, **settings):
    return Estimator(**{"epochs": 5, "batch_size": 40, "random_state": 0, **settings})


@both
def test_the_docstring_has_each_argument_once_in_the_order_of_the_signature(Estimator):
    text = Estimator.__doc__
    parameters = text[text.index("Parameters\n---") : text.index("Attributes\n---")]
    named = re.findall(r"^(\w+) : ", parameters, re.M)
    assert named == list(inspect.signature(Estimator).parameters)
    attributes = text[text.index("Attributes\n---") : text.index("Examples\n---")]
    assert {"model_", "history_", "n_iter_"} <= set(re.findall(r"^(\w+) : ", attributes, re.M))
    assert re.findall(r"^\{\w+\}$", text, re.M) == []


def bits(estimator):
    return estimator.model_.flat_params.tobytes()


# Scikit-learn's checks ------------------------------------------------------------------------


def checks_of(estimator):
    """Return (estimator, check) for each of scikit-learn's checks, none expected to fail."""
    if hasattr(estimator_checks, "estimator_checks_generator"):
        return list(estimator_checks.estimator_checks_generator(estimator))
    return list(estimator_checks.check_estimator(estimator, generate_only=True))  # before 1.6


def name_of(check):
    return check.func.__name__


CHECKS = {Estimator: checks_of(Estimator()) for Estimator in ESTIMATORS}


@pytest.mark.parametrize(
    ("estimator", "check"),
    [
        pytest.param(estimator, check, id=f"{type(estimator).__name__}-{name_of(check)}")
        for checks in CHECKS.values()
        for estimator, check in checks
    ],
)
def test_scikit_learns_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize(
    ("Estimator", "theirs", "least"),
    [
        (gd.MiniBatchClassifier, neural_network.MLPClassifier(), 57),
        (gd.MiniBatchRegressor, neural_network.MLPRegressor(), 50),
    ],
    ids=["classifier", "regressor"],
)
def test_no_check_is_switched_off(Estimator, theirs, least, capsys):
    ours = CHECKS[Estimator]
    with capsys.disabled():
        print(f" {len(ours)} checks of {Estimator.__name__} in scikit-learn {sklearn.__version__}")
    assert len(ours) >= least
    # A tag would leave out checks that a comparable estimator of theirs takes.
    assert {name_of(check) for _, check in checks_of(theirs)} <= {name_of(c) for _, c in ours}


@pytest.mark.slow
def test_the_check_that_needs_a_setting_of_scipy():
    # It is skipped above unless the variable is set before SciPy is loaded.
    name = "check_array_api_input"
    if not any(name_of(check) == name for checks in CHECKS.values() for _, check in checks):
        pytest.skip("this scikit-learn checks the array API for estimators that claim it")
    code = (
        "import minigd as gd\n"
        "from sklearn.utils.estimator_checks import estimator_checks_generator as checks\n"
        "for estimator in (gd.MiniBatchClassifier(), gd.MiniBatchRegressor()):\n"
        "    for estimator, check in checks(estimator):\n"
        f"        if check.func.__name__ == {name!r}:\n"
        "            print(type(estimator).__name__, check(estimator))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "SCIPY_ARRAY_API": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["MiniBatchClassifier", "None", "MiniBatchRegressor", "None"]


# What they compute ----------------------------------------------------------------------------


def by_hand(X, y, order, epochs, batch_size, rate, output):
    """Return w and b of a linear model by plain gradient descent, row by row."""
    w, b = np.zeros(X.shape[1]), 0.0
    for epoch in range(epochs):
        rows = order(epoch)
        for start in range(0, len(rows), batch_size):
            dw, db, n = np.zeros_like(w), 0.0, 0
            for i in rows[start : start + batch_size]:
                error = output(X[i] @ w + b) - y[i]
                dw, db, n = dw + error * X[i], db + error, n + 1
            w, b = w - rate * dw / n, b - rate * db / n
    return w, b


def test_without_hidden_layers_it_is_mini_batch_logistic_regression():
    X, y = datasets.make_classification(230, 5, random_state=0)
    classifier = quick(updater="sgd", learning_rate=0.3, batch_size=50).fit(X, y)
    order = gd.Batches(X, y, batch_size=50, shuffle=True, seed=classifier.model_.seed).order
    w, b = by_hand(X, y, order, 5, 50, 0.3, lambda z: 1 / (1 + np.exp(-z)))
    np.testing.assert_allclose(classifier.coef_, w[None], rtol=1e-10)
    np.testing.assert_allclose(classifier.intercept_, [b], rtol=1e-10)


def test_without_hidden_layers_it_is_mini_batch_linear_regression():
    X, y = datasets.make_regression(230, 5, noise=10.0, bias=30.0, random_state=0)
    regressor = quick(gd.MiniBatchRegressor, updater="sgd", learning_rate=0.05, batch_size=50)
    regressor.fit(X, y)
    order = gd.Batches(X, y, batch_size=50, shuffle=True, seed=regressor.model_.seed).order
    # The gradient of a squared error is twice the error, of the standardised target.
    w, b = by_hand(X, (y - y.mean()) / y.std(), order, 5, 50, 2 * 0.05, lambda z: z)
    np.testing.assert_allclose(regressor.coef_, w * y.std(), rtol=1e-10)
    np.testing.assert_allclose(regressor.intercept_, b * y.std() + y.mean(), rtol=1e-10)


def test_linear_regression_comes_to_least_squares():
    X, y = datasets.make_regression(300, 6, n_targets=2, noise=20.0, random_state=0)
    ours = quick(gd.MiniBatchRegressor, updater="sgd", learning_rate=0.2, batch_size=None)
    theirs = linear_model.LinearRegression().fit(X, y)
    ours.set_params(epochs=500).fit(X, y)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, rtol=1e-6)
    np.testing.assert_allclose(ours.intercept_, theirs.intercept_, rtol=1e-6)
    one = ours.fit(X, y[:, 0])
    assert one.coef_.shape == (6,)
    assert isinstance(one.intercept_, float)
    np.testing.assert_allclose(one.coef_, theirs.coef_[0], rtol=1e-6)
    np.testing.assert_allclose(one.intercept_, theirs.intercept_[0], rtol=1e-6)


@pytest.mark.parametrize("classes", [2, 3])
def test_logistic_regression_comes_to_scikit_learns(classes):
    X, y = datasets.make_classification(
        400, 5, n_informative=4, n_redundant=0, n_classes=classes, flip_y=0.3, random_state=0
    )
    ours = quick(
        learning_rate=gd.CosineDecay(0.05, epochs=400), epochs=400, batch_size=100, dtype="float64"
    ).fit(X, y)
    theirs = linear_model.LogisticRegression(
        C=1e8, tol=1e-8, max_iter=1000, solver="newton-cg"
    ).fit(X, y)
    # Mini-batches end near the minimum; a shift of all classes alike is free in a softmax.
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=2e-3)
    assert ours.coef_.shape == theirs.coef_.shape


def test_a_network_is_the_one_that_sequential_makes():
    X, y = iris()
    settings = {"updater": gd.SGD(0.1, momentum=0.9), "activation": gd.LeakyReLU(0.2)}
    classifier = quick(hidden=(7, 5), **settings).fit(X, y)
    seed = classifier.model_.seed
    layers = [gd.Dense(7, "he_normal"), gd.LeakyReLU(0.2), gd.Dense(5, "he_normal")]
    layers += [gd.LeakyReLU(0.2), gd.Dense(3), gd.Softmax()]
    model = gd.Sequential(layers, 4, dtype="float64", seed=seed)
    history = model.fit(
        X,
        y,
        loss="categorical_crossentropy",
        updater=gd.SGD(0.1, momentum=0.9),
        batch_size=40,
        epochs=5,
    )
    assert bits(classifier) == model.flat_params.tobytes()
    assert classifier.loss_curve_ == history["loss"] == classifier.history_["loss"]
    assert classifier.n_iter_ == 5
    np.testing.assert_allclose(classifier.predict_proba(X), model.predict(X), rtol=1e-12)
    assert not hasattr(classifier, "coef_")


@pytest.mark.parametrize(
    "name", ["relu", "leaky_relu", "elu", "gelu", "silu", "softplus", "tanh", "sigmoid"]
)
def test_activations_by_name(name):
    model = quick(hidden=3, activation=name).fit(*iris()).model_
    kinds = {"relu": gd.ReLU, "leaky_relu": gd.LeakyReLU, "tanh": gd.Tanh, "sigmoid": gd.Sigmoid}
    kinds |= {"elu": gd.ELU, "gelu": gd.GELU, "silu": gd.SiLU, "softplus": gd.Softplus}
    assert [type(layer) for layer in model.layers] == [
        gd.Dense, kinds[name], gd.Dense, gd.Softmax
    ]  # fmt: skip


@pytest.mark.parametrize("kind", [[0, 1, 1], [0, 1, 2]], ids=str)
def test_the_decision_function_has_digits_where_probabilities_have_none(kind):
    X, y = iris(kind)
    classifier = quick(updater="sgd", learning_rate=1000.0, epochs=3).fit(X, y)
    z, p = classifier.decision_function(X), classifier.predict_proba(X)
    expected = X @ classifier.coef_.T + classifier.intercept_
    np.testing.assert_allclose(z, expected if z.ndim == 2 else expected[:, 0], rtol=1e-12)
    assert (p.max(axis=1) == 1.0).sum() > len(X) / 2


@pytest.mark.parametrize(("given", "used"), [("float32", "float32"), ("float64", "float64")])
@both
def test_it_works_in_the_dtype_of_x_or_in_the_one_given(Estimator, given, used):
    X, y = iris()
    assert quick(Estimator).fit(X.astype(given), y).model_.dtype == used
    other = {"float32": "float64", "float64": "float32"}[used]
    assert quick(Estimator, dtype=other).fit(X.astype(given), y).model_.dtype == other


@both
def test_sparse_rows_give_what_dense_ones_give(Estimator):
    sparse = pytest.importorskip("scipy.sparse")
    X, y = iris()
    X = np.where(X > 0, X, 0)
    dense = quick(Estimator, hidden=4).fit(X, y)
    for form in (sparse.csr_matrix, sparse.csc_matrix, sparse.coo_matrix):
        fitted = quick(Estimator, hidden=4).fit(form(X), y)
        assert bits(fitted) == bits(dense)
        np.testing.assert_array_equal(fitted.predict(form(X)), dense.predict(X))
    early = quick(Estimator, early_stopping=True).fit(sparse.csr_matrix(X), y)
    assert bits(early) == bits(quick(Estimator, early_stopping=True).fit(X, y))


@both
def test_another_backend_gives_the_same(Estimator, backend):
    X, y = iris()
    here = quick(Estimator, hidden=4, batch_size=25).fit(X, y)
    there = quick(Estimator, hidden=4, batch_size=25, backend=backend).fit(X, y)
    for fitted in (there, quick(Estimator, hidden=4, batch_size=25, backend=backend)):
        fitted.fit(X, y)
        assert isinstance(fitted.predict(X), np.ndarray)
        np.testing.assert_allclose(fitted.loss_curve_, here.loss_curve_, rtol=1e-9)
    np.testing.assert_allclose(
        backend.to_numpy(there.model_.flat_params), here.model_.flat_params, rtol=1e-7
    )
    source = gd.ArraySource(backend.asarray(X), backend.asarray(y + 1))
    rows = quick(Estimator, hidden=4, backend=backend).fit(source)
    assert rows.score(source) == pytest.approx(rows.score(X, y + 1))


# Targets --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    [["a", "b", "c"], ["zeta", "alpha", "mu"], [-1, 1, 7], [2.0, 4.0, 3.0], [5, 5, 9]],
    ids=str,
)
def test_labels_of_any_kind_come_back(kind):
    X, y = iris(kind)
    classifier = quick(epochs=100).fit(X, y)
    np.testing.assert_array_equal(classifier.classes_, np.unique(y))
    predicted = classifier.predict(X)
    assert predicted.dtype == np.asarray(kind).dtype
    assert np.mean(predicted == y) > 0.9
    p = classifier.predict_proba(X)
    assert p.shape == (150, len(np.unique(y)))
    np.testing.assert_allclose(p.sum(axis=1), 1)
    np.testing.assert_array_equal(classifier.classes_[p.argmax(axis=1)], predicted)


def test_truth_values_and_objects_are_labels():
    X, y = iris()
    assert quick(epochs=50).fit(X, y == 0).predict(X).dtype == bool
    named = np.array(["no", "yes"], dtype=object)[(y == 0).astype(int)]
    assert quick(epochs=50).fit(X, named).score(X, named) == 1.0


def test_several_labels_a_row():
    X, y = datasets.make_multilabel_classification(300, 10, n_classes=4, random_state=0)
    X = StandardScaler().fit_transform(X)
    classifier = quick(epochs=60, batch_size=50).fit(X, y)
    p, predicted = classifier.predict_proba(X), classifier.predict(X)
    assert p.shape == predicted.shape == classifier.decision_function(X).shape == (300, 4)
    np.testing.assert_array_equal(predicted, p > 0.5)
    assert classifier.classes_.tolist() == [0, 1, 2, 3]
    # The labels share no weights, so that each is a logistic regression of its own; the mean over
    # them is what Adam takes no notice of.
    for k in range(4):
        alone = quick(epochs=60, batch_size=50).fit(X, y[:, k])
        np.testing.assert_allclose(alone.predict_proba(X)[:, 1], p[:, k], atol=1e-5)


def test_several_classes_a_row_are_for_another_estimator():
    X, y = iris()
    with pytest.raises(ValueError, match="MultiOutputClassifier"):
        quick().fit(X, np.column_stack([y, y[::-1]]))
    both_columns = MultiOutputClassifier(quick(epochs=50)).fit(X, np.column_stack([y, y]))
    assert both_columns.predict(X).shape == (150, 2)


def test_outputs_of_a_regression_have_the_shape_of_y():
    X, y = datasets.make_regression(100, 3, n_targets=2, random_state=0)
    for targets in (y, y[:, :1], y[:, 0]):
        regressor = quick(gd.MiniBatchRegressor, hidden=4).fit(X, targets)
        assert regressor.predict(X).shape == targets.shape
        regressor.partial_fit(X, targets)
    with pytest.raises(ValueError, match=r"rows of shape \(2,\), but \(\)"):
        regressor.partial_fit(X, y)


def test_a_target_has_no_units_that_matter():
    X, y = datasets.load_diabetes(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    small, large = (quick(gd.MiniBatchRegressor, hidden=6) for _ in range(2))
    small.fit(X, y)
    large.fit(X, 1e6 * y + 1e8)
    np.testing.assert_allclose(large.predict(X), 1e6 * small.predict(X) + 1e8, rtol=1e-8)
    np.testing.assert_allclose(large.loss_curve_, small.loss_curve_, rtol=1e-8)


# Losses, updaters, schedules ------------------------------------------------------------------


def test_losses_by_name_and_by_object():
    X, y = iris()
    smooth = gd.CategoricalCrossEntropy(label_smoothing=0.2)
    assert bits(quick().fit(X, y)) == bits(quick(loss="categorical_crossentropy").fit(X, y))
    assert bits(quick(loss=smooth).fit(X, y)) != bits(quick().fit(X, y))
    one = quick(loss=gd.BinaryCrossEntropy(label_smoothing=0.2)).fit(X, y == 0)
    assert one.predict_proba(X).max() < quick().fit(X, y == 0).predict_proba(X).max()
    squared = quick(gd.MiniBatchRegressor).fit(X, y)
    assert bits(squared) == bits(quick(gd.MiniBatchRegressor, loss="mse").fit(X, y))
    with pytest.raises(ValueError, match="unknown loss 'cosine'"):
        quick(loss="cosine").fit(X, y)
    with pytest.raises(gd.ShapeError, match="BinaryCrossEntropy"):
        quick(loss=gd.BinaryCrossEntropy()).fit(X, y)
    with pytest.raises(ValueError, match="is for classes"):
        quick(gd.MiniBatchRegressor, loss="binary_crossentropy").fit(X, y / 2)


def test_huber_is_less_moved_by_outliers():
    X, y = datasets.make_regression(200, 3, noise=1.0, random_state=0)
    wrong = y.copy()
    wrong[:10] += 5000
    errors = [
        abs(quick(gd.MiniBatchRegressor, epochs=200, loss=loss).fit(X, wrong).predict(X) - y)[10:]
        for loss in ("squared_error", gd.Huber(delta=0.05))
    ]
    assert np.median(errors[1]) < np.median(errors[0]) / 10


def test_a_schedule_is_the_learning_rate():
    X, y = iris()
    schedule = gd.StepDecay(0.1, epochs=2, factor=0.5)
    first = quick(learning_rate=schedule, updater="sgd", epochs=2).fit(X, y)
    assert bits(first) == bits(quick(learning_rate=0.1, updater="sgd", epochs=2).fit(X, y))
    both = quick(learning_rate=schedule, updater="sgd").fit(X, y)
    assert bits(both) == bits(quick(updater=gd.SGD(schedule)).fit(X, y))
    assert bits(both) != bits(quick(learning_rate=0.1, updater="sgd").fit(X, y))


def test_the_learning_rate_that_is_left_out():
    X, y = iris()
    rates = [
        quick(updater=name, hidden=hidden).fit(X, y)._run.updater.learning_rate
        for name in ("adam", "sgd")
        for hidden in ((), 3)
    ]
    assert rates == [0.01, 0.001, 0.01, 0.01]


def test_objects_that_were_given_stay_as_they_were():
    X, y = iris()
    updater, loss = gd.Adam(0.05), gd.CategoricalCrossEntropy(label_smoothing=0.1)
    settings = {"updater": updater, "loss": loss, "activation": gd.Tanh()}
    one, other = quick(hidden=3, **settings), quick(hidden=3, **settings)
    one.fit(X, y)
    other.fit(X, y)
    one.fit(X, y)
    assert bits(one) == bits(other)
    assert updater.step == 0
    assert updater.state == {}
    assert settings["activation"].name == ""
    huber, brier = gd.Huber(), gd.MeanSquaredError()
    quick(gd.MiniBatchRegressor, loss=huber).fit(X, y)
    quick(loss=brier).fit(X, y == 0)
    assert loss.backend is huber.backend is brier.backend is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"updater": gd.SGD(0.1), "learning_rate": 0.1}, "has its own"),
        ({"updater": "lbfgs"}, "unknown updater"),
        ({"hidden": 3, "activation": "logistic"}, "unknown activation 'logistic'"),
        ({"hidden": (3, 0)}, "hidden must be an integer, at least 1"),
        ({"epochs": 0}, "epochs must be an integer, at least 1"),
        ({"batch_size": 0}, "batch_size must be an integer"),
        ({"dtype": "float16"}, "dtype must be"),
        ({"backend": "torch"}, "unknown backend"),
        ({"early_stopping": True, "validation_fraction": 1.0}, "validation_fraction must be"),
        ({"early_stopping": True, "patience": 0}, "patience must be"),
    ],
    ids=str,
)
@both
def test_a_parameter_that_makes_no_sense_is_refused_by_fit(Estimator, settings, message):
    estimator = quick(Estimator, **settings)
    with pytest.raises(ValueError, match=message):
        estimator.fit(*iris())
    assert not hasattr(estimator, "model_")


# Weights --------------------------------------------------------------------------------------


@examples(12)
@given(
    weights=st.lists(st.integers(0, 4), min_size=40, max_size=40),
    hidden=st.sampled_from([(), (5,)]),
    Estimator=st.sampled_from(ESTIMATORS),
    balanced=st.booleans(),
)
def test_a_whole_weight_is_so_many_rows(weights, hidden, Estimator, balanced):
    X, y = datasets.make_classification(40, 6, random_state=0, n_classes=2)
    weights = np.array(weights) + (np.arange(40) < 10)
    settings = {"hidden": hidden, "batch_size": None, "epochs": 20}
    if balanced and Estimator is gd.MiniBatchClassifier:
        settings["class_weight"] = "balanced"
    target = y if Estimator is gd.MiniBatchClassifier else X[:, 0] * 50 + 100
    weighed = quick(Estimator, **settings).fit(X, target, weights)
    repeated = quick(Estimator, **settings).fit(X.repeat(weights, 0), target.repeat(weights))
    np.testing.assert_allclose(
        weighed.model_.flat_params, repeated.model_.flat_params, rtol=1e-6, atol=1e-8
    )
    np.testing.assert_allclose(weighed.loss_curve_, repeated.loss_curve_, rtol=1e-7)


def test_class_weights_go_by_the_label_and_multiply_those_of_rows():
    X, y = iris(["c", "a", "b"])
    table = {"a": 1.0, "b": 5.0, "c": 0.5}
    own = np.random.default_rng(0).uniform(0.5, 2, 150)
    weights = own * np.array([table[label] for label in y])
    one = quick(class_weight=table).fit(X, y, own)
    assert bits(one) == bits(quick().fit(X, y, weights))
    # One that is left out counts 1; one that is no class is warned about, as a fold may lack one.
    assert bits(quick(class_weight={"b": 5.0, "c": 0.5}).fit(X, y, own)) == bits(one)
    with pytest.warns(UserWarning, match="class_weight has a weight for 'd'.*'a', 'b', 'c'"):
        assert bits(quick(class_weight={"d": 5.0}).fit(X, y)) == bits(quick().fit(X, y))


def test_balanced_classes_are_scikit_learns_for_rows_that_count_alike():
    X, y = iris()
    X, y = X[:110], y[:110]
    weights = compute_sample_weight("balanced", y)
    ours = quick(class_weight="balanced").fit(X, y)
    np.testing.assert_allclose(
        ours.model_.flat_params, quick().fit(X, y, weights).model_.flat_params, rtol=1e-9
    )


# Early stopping -------------------------------------------------------------------------------


@both
def test_early_stopping_puts_rows_aside_and_keeps_the_best(Estimator):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 20))
    y = (X[:, 0] + rng.normal(size=120) > 0).astype(int)
    stopped = quick(
        Estimator,
        hidden=30,
        epochs=400,
        learning_rate=0.01,
        early_stopping=True,
        validation_fraction=0.25,
        patience=7,
        tol=0.0,
    ).fit(X, y)
    losses = stopped.history_["val_loss"]
    assert stopped.n_iter_ == len(losses) < 400
    assert len(losses) - 1 - int(np.argmin(losses)) == 7
    assert stopped.history_["updates"][0] == 3  # 90 rows in batches of 40
    # The rows put aside are those whose loss is the one watched.
    seed = stopped.model_.seed
    classes = y if Estimator is gd.MiniBatchClassifier else None
    _, X_held, _, y_held = train_test_split(
        X, y, test_size=0.25, random_state=seed, stratify=classes
    )
    found = stopped.model_.evaluate(X_held, y_held)["loss"]
    assert found == pytest.approx(min(losses), rel=1e-12)


@both
def test_weights_go_with_their_rows_when_rows_are_put_aside(Estimator):
    X, y = iris()
    weight = np.where(np.arange(150) % 3 == 0, 0.0, 1.0)
    X[weight == 0] = 1e6  # not one of them may count, on either side
    settings = {"early_stopping": True, "validation_fraction": 0.3, "epochs": 20}
    stopped = quick(Estimator, **settings).fit(X, y, weight)
    assert max(stopped.history_["val_loss"]) < 10
    assert max(stopped.loss_curve_) < 10


def test_a_smaller_gain_than_tol_is_none():
    X, y = iris()
    settings = {"early_stopping": True, "patience": 3, "epochs": 300}
    assert quick(tol=10.0, **settings).fit(X, y).n_iter_ == 4
    assert quick(tol=0.0, **settings).fit(X, y).n_iter_ > 50


# Going on -------------------------------------------------------------------------------------


@pytest.mark.parametrize("between", ["as it is", "pickled", "copied"])
@pytest.mark.parametrize("how", ["partial_fit", "warm_start"])
@both
def test_a_fit_in_parts_is_the_fit_in_one(Estimator, how, between):
    X, y = iris()
    settings = {"hidden": 5, "learning_rate": gd.InverseTimeDecay(0.1, updates=10)}
    whole = quick(Estimator, epochs=6, **settings).fit(X, y)
    part = quick(Estimator, epochs=2, warm_start=how == "warm_start", **settings)
    for i in range(6 if how == "partial_fit" else 3):
        if how == "warm_start":
            part.fit(X, y)
        elif i == 0 and Estimator is gd.MiniBatchClassifier:
            part.partial_fit(X, y, classes=[0, 1, 2])
        else:
            part.partial_fit(X, y)
        if between == "pickled":
            part = pickle.loads(pickle.dumps(part))
        elif between == "copied":
            part = copy.deepcopy(part)
    assert bits(part) == bits(whole)
    assert part.loss_curve_ == whole.loss_curve_
    assert part.n_iter_ == 6


def test_without_warm_start_a_fit_starts_afresh():
    X, y = iris()
    classifier = quick(hidden=3).fit(X, y)
    first = bits(classifier)
    classifier.partial_fit(X, y)
    assert bits(classifier.fit(X, y)) == first
    assert classifier.n_iter_ == 5
    assert quick(random_state=None).fit(X[:, :2], y == 0).fit(X, y).n_features_in_ == 4


def test_a_warm_start_takes_a_new_learning_rate_and_no_new_layers():
    X, y = iris()
    classifier = quick(hidden=3, warm_start=True, updater="sgd", learning_rate=0.1).fit(X, y)
    before = bits(classifier)
    classifier.set_params(learning_rate=0.0).fit(X, y)
    assert bits(classifier) == before
    assert classifier.n_iter_ == 10
    for change in ({"hidden": 4}, {"activation": "tanh"}, {"dtype": "float32"}):
        other = copy.deepcopy(classifier).set_params(**change)
        with pytest.raises(ValueError, match="warm_start=False"):
            other.fit(X, y)


def test_a_stream_of_pieces_is_learnt_piece_by_piece():
    X, y = datasets.load_digits(return_X_y=True)
    X = X / 16
    classifier = quick(hidden=32, updater=gd.Adam(0.01))
    order = np.random.default_rng(0).permutation(1500)
    for rows in np.array_split(np.concatenate([order] * 8), 80):
        classifier.partial_fit(X[rows], y[rows], classes=range(10))
    assert classifier.score(X[1500:], y[1500:]) > 0.88
    assert classifier.n_iter_ == 80


def test_partial_fit_says_what_it_needs():
    X, y = iris(["a", "b", "c"])
    with pytest.raises(ValueError, match="classes must be given in the first call"):
        quick().partial_fit(X, y)
    with pytest.raises(ValueError, match="'balanced' needs all rows at once"):
        quick(class_weight="balanced").partial_fit(X, y, classes=["a", "b", "c"])
    with pytest.raises(ValueError, match="early_stopping=False"):
        quick(early_stopping=True).partial_fit(X, y, classes=["a", "b", "c"])
    classifier = quick().partial_fit(X[:50], y[:50], classes=["a", "b", "c"])
    with pytest.raises(ValueError, match="they can't change"):
        classifier.partial_fit(X, y, classes=["a", "b"])
    with pytest.raises(ValueError, match=r"^y holds 'd', but the classes are"):
        classifier.partial_fit(X, np.where(y == "a", "d", y))
    with pytest.raises(ValueError, match="y holds"):
        classifier.partial_fit(X, np.arange(150) % 3)
    with pytest.raises(ValueError, match="y has 3 labels per row, but had one class"):
        classifier.partial_fit(X, np.eye(3, dtype=int)[np.arange(150) % 3])
    with pytest.raises(ValueError, match="a classifier needs 2 or more"):
        quick().fit(X[:50], y[:50])


@pytest.mark.slow
@pytest.mark.few(1)
@pytest.mark.parametrize("early_stopping", [False, True])
def test_the_rows_are_let_go(early_stopping):
    X, y = iris()
    own = weakref.ref(X)
    classifier = quick(early_stopping=early_stopping).fit(X, y)
    assert own() is not None
    del X
    gc.collect()
    assert own() is None
    assert len(pickle.dumps(classifier)) < 20_000


# Sources --------------------------------------------------------------------------------------

CSV = "a,b,c,d,kind\n" + "\n".join(
    ",".join([*(f"{v:.6f}" for v in row), ("zeta", "alpha", "mu")[k]])
    for row, k in zip(*iris(), strict=True)
)


def csv(text=CSV, **settings):
    return gd.CsvSource(io.BytesIO(text.encode()), **{"target": "kind", **settings})


def test_a_csv_is_what_its_arrays_are():
    source = csv()
    X = np.concatenate([x for x, _ in source.chunks()])
    y = np.concatenate([y for _, y in source.chunks()])
    labels = np.array(source.classes)[y]
    streamed, held = quick(epochs=20).fit(source), quick(epochs=20).fit(X, labels)
    assert bits(streamed) == bits(held)
    assert streamed.classes_.tolist() == held.classes_.tolist() == ["alpha", "mu", "zeta"]
    assert streamed.n_features_in_ == 4
    assert streamed.feature_names_in_.tolist() == ["a", "b", "c", "d"]
    assert streamed.model_.dtype == "float32"
    for method in ("predict", "predict_proba", "decision_function"):
        np.testing.assert_array_equal(getattr(streamed, method)(source), getattr(held, method)(X))
    assert streamed.score(source) == held.score(X, labels) > 0.8
    assert streamed.score(gd.Batches(source, batch_size=7, shuffle=True)) == held.score(X, labels)


def test_columns_of_a_source_are_matched_by_name():
    classifier = quick().fit(csv())
    other = CSV.replace("a,b,c,d", "a,b,size,d")
    with pytest.raises(ValueError, match=r"column 2 .* is 'size' and was 'c' in fit"):
        classifier.predict(csv(other))
    with pytest.raises(ValueError, match="X has 3 features, but MiniBatchClassifier is expecting"):
        classifier.predict(csv(exclude=["a"]))
    # A table to predict needs no target, and its other columns are left out by name.
    chosen = csv(target=None, features=["a", "b", "c", "d"])
    np.testing.assert_array_equal(classifier.predict(chosen), classifier.predict(csv()))
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(iris()[0], columns=list("abcd"))
    with pytest.warns(UserWarning, match="valid feature names"):
        classifier.predict(frame.to_numpy())
    with pytest.raises(ValueError, match="feature names"):
        classifier.predict(frame[list("bacd")])
    np.testing.assert_array_equal(quick().fit(frame, iris()[1]).feature_names_in_, list("abcd"))
    for rows in (iris(), (gd.ArraySource(*iris()),)):
        assert not hasattr(quick().fit(csv()).fit(*rows), "feature_names_in_")


@pytest.mark.few
@pytest.mark.parametrize("kind", [[0, 1, 2], [-1, 1, 7], [1.0, 2.0, 3.0], [4, 4, 9]], ids=str)
@pytest.mark.parametrize("place", ["npy", "array", "stream", "part"])
def test_labels_of_a_source_come_back(kind, place, tmp_path):
    X, y = iris(kind)
    if place == "npy":
        np.save(tmp_path / "x.npy", X)
        np.save(tmp_path / "y.npy", y)
        source = gd.NpySource(tmp_path / "x.npy", tmp_path / "y.npy")
    elif place == "array":
        source = gd.ArraySource(X, y)
    elif place == "stream":
        source = gd.IterableSource([(X[::2], y[::2]), (X[1::2], y[1::2])])
    else:
        source = gd.ArraySource(X, y).split(0.3)[0]
    classifier = quick(epochs=40, learning_rate=0.03).fit(source)
    assert classifier.classes_.tolist() == sorted(set(kind))
    assert set(classifier.predict(source)) == set(kind)
    assert classifier.score(source) > 0.9


def test_a_batches_brings_its_own_settings_and_weights():
    X, y = iris([3, 1, 2])
    weight = np.random.default_rng(0).uniform(0.5, 2, 150)
    stream = gd.IterableSource([(X[:70], y[:70]), (X[70:], y[70:])])
    settings = {"batch_size": 30, "sample_weight": weight, "class_weight": {3: 4.0, 8: 1.0}}
    found = []
    for rows in ((X, y), (stream,), (gd.ArraySource(X, y),)):
        with pytest.warns(
            UserWarning, match="class_weight has a weight for 8, but the data have no"
        ):
            found.append(quick(batch_size=7).fit(gd.Batches(*rows, **settings)))
    model = gd.Sequential([gd.Dense(3, "zeros"), gd.Softmax()], 4, dtype="float64")
    own = gd.Batches(X, y - 1, 30, sample_weight=weight, class_weight={2: 4.0})
    model.fit(own, loss="categorical_crossentropy", updater=gd.Adam(0.01), epochs=5)
    for classifier in found:
        np.testing.assert_allclose(
            classifier.model_.flat_params, model.flat_params, rtol=1e-9, atol=1e-12
        )
    with pytest.raises(TypeError, match="brings its own weights"):
        quick(class_weight="balanced").fit(gd.Batches(X, y))
    with pytest.raises(TypeError, match="brings its own targets"):
        quick().fit(gd.Batches(X, y), y)
    with pytest.raises(TypeError, match="brings its own targets"):
        quick().fit(gd.ArraySource(X, y), y)


@both
def test_weights_beside_a_source_are_those_beside_arrays(Estimator, tmp_path):
    X, y = iris([3, 1, 2])
    weight = np.random.default_rng(0).integers(0, 3, 150).astype(float)
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", y)
    settings = {"class_weight": {3: 2.0}} if Estimator is gd.MiniBatchClassifier else {}
    arrays = quick(Estimator, **settings).fit(X, y, weight)
    mapped = gd.NpySource(tmp_path / "x.npy", tmp_path / "y.npy")
    np.testing.assert_allclose(
        quick(Estimator, **settings).fit(mapped, sample_weight=weight).model_.flat_params,
        arrays.model_.flat_params,
        rtol=1e-9,
        atol=1e-12,
    )
    own = quick(Estimator, **settings).fit(gd.ArraySource(X, y, weight))
    assert bits(own) == bits(arrays)


@both
def test_early_stopping_with_a_source_goes_by_the_content_of_rows(Estimator):
    X, y = iris([1, 2, 3])
    source = gd.ArraySource(X, y)
    stopped = quick(Estimator, epochs=50, early_stopping=True, validation_fraction=0.3, tol=0.0)
    for data in (source, gd.Batches(source, batch_size=40, shuffle=True)):
        stopped.fit(data)
        losses = stopped.history_["val_loss"]
        # The labels are 0, 1, 2 where the rows are put aside by what they hold.
        numbered = gd.ArraySource(X, y - 1) if Estimator is gd.MiniBatchClassifier else source
        held = numbered.split(0.3, seed=stopped.model_.seed)[1]
        assert stopped.model_.evaluate(held)["loss"] == pytest.approx(min(losses), rel=1e-12)
    for weighed in (
        gd.ArraySource(X, y, np.ones(150)),
        gd.Batches(X, y, sample_weight=X[:, 0] > 0),
    ):
        with pytest.raises(ValueError, match="weights given separately"):
            stopped.fit(weighed)


def test_regression_from_a_stream():
    X, y = datasets.make_regression(300, 4, n_targets=2, bias=1000.0, random_state=0)

    def pieces():
        for rows in np.array_split(np.arange(300), 7):
            yield X[rows], y[rows]

    source = gd.IterableSource(pieces)
    regressor = quick(gd.MiniBatchRegressor, epochs=100, updater="sgd", learning_rate=0.1)
    regressor.fit(source)
    theirs = linear_model.LinearRegression().fit(X, y)
    np.testing.assert_allclose(regressor.coef_, theirs.coef_, rtol=1e-3)
    np.testing.assert_allclose(regressor.predict(source), y, rtol=1e-3)
    assert regressor.score(source) == r2_score(y, regressor.predict(X))
    assert regressor.partial_fit(source).n_iter_ == 101


def test_a_stream_of_tables_has_names_and_classes():
    X, y = iris(["zeta", "alpha", "mu"])

    def pieces():
        for rows in np.array_split(np.random.default_rng(0).permutation(150), 7):
            yield {**{name: X[rows, i] for i, name in enumerate("abcd")}, "kind": y[rows]}

    source = gd.IterableSource(pieces, target="kind")
    classifier = quick(epochs=40).fit(source)
    assert classifier.feature_names_in_.tolist() == ["a", "b", "c", "d"]
    assert classifier.classes_.tolist() == ["alpha", "mu", "zeta"]
    assert classifier.score(source) > 0.9


def test_several_labels_from_a_source():
    X, y = datasets.make_multilabel_classification(120, 6, n_classes=3, random_state=0)
    from_arrays = quick(hidden=4).fit(X, y)
    from_source = quick(hidden=4).fit(gd.ArraySource(X.astype(float), y))
    assert bits(from_arrays) == bits(from_source)
    assert from_source.predict(gd.ArraySource(X)).shape == (120, 3)


def test_partial_fit_takes_a_table_with_some_of_the_classes():
    lines = CSV.splitlines()
    classifier = quick(updater="sgd").partial_fit(csv())
    before = classifier.predict_proba(csv())[:, 2].mean()
    some = csv("\n".join([lines[0], *lines[1:51]]))  # zeta, and nothing else
    assert some.classes == ["zeta"]
    for _ in range(30):
        classifier.partial_fit(some)
    assert classifier.predict_proba(csv())[:, 2].mean() > before
    assert set(classifier.predict(some)) == {"zeta"}


@both
def test_a_source_without_targets_is_refused(Estimator):
    with pytest.raises(gd.DataError, match="no targets"):
        quick(Estimator).fit(gd.ArraySource(iris()[0]))


# At home --------------------------------------------------------------------------------------


@both
def test_a_pipeline_a_grid_and_cross_validation(Estimator):
    X, y = datasets.load_wine(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(X))
    X, y = X[order], y[order]
    name = Estimator.__name__.lower()
    pipeline = make_pipeline(StandardScaler(), quick(Estimator, epochs=30))
    assert cross_val_score(pipeline, X, y, cv=3).mean() > 0.7
    rates = [0.0, 0.01, gd.CosineDecay(0.03, epochs=30)]
    grid = GridSearchCV(
        pipeline,
        [
            {f"{name}__learning_rate": rates, f"{name}__hidden": [(), (8,)]},
            {f"{name}__updater": [gd.SGD(0.01, momentum=0.9), gd.AdamW(0.01, weight_decay=0.1)]},
        ],
        cv=2,
        error_score="raise",
    ).fit(X, y)
    assert len(grid.cv_results_["params"]) == 8
    assert grid.best_params_.get(f"{name}__learning_rate") != 0.0
    assert grid.best_score_ > 0.8
    assert grid.predict(X).shape == (178,)


def test_processes_and_threads():
    X, y = iris()
    alone = cross_val_score(quick(), X, y, cv=2)
    with joblib.parallel_config("threading", n_jobs=2):
        np.testing.assert_array_equal(cross_val_score(quick(), X, y, cv=2), alone)


def test_calibration():
    X, y = datasets.load_breast_cancer(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    calibrated = CalibratedClassifierCV(quick(epochs=20), cv=3).fit(X[:400], y[:400])
    assert calibrated.score(X[400:], y[400:]) > 0.93
    weight = np.ones(400)
    CalibratedClassifierCV(quick(), cv=2, method="isotonic").fit(X[:400], y[:400], weight)


@both
def test_clones_and_pickles(Estimator):
    X, y = iris()
    fitted = quick(Estimator, hidden=3, updater=gd.SGD(gd.StepDecay(0.1, epochs=2))).fit(X, y)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict(X), fitted.predict(X))
    assert again.loss_curve_ == fitted.loss_curve_
    fresh = base.clone(fitted)
    assert repr(fresh) == repr(fitted)
    with pytest.raises(exceptions.NotFittedError):
        fresh.predict(X)
    assert bits(fresh.fit(X, y)) == bits(fitted)


@both
def test_the_display_names_it_and_what_was_set(Estimator):
    estimator = Estimator(hidden=(16,), updater=gd.SGD(0.05))
    for html in (estimator._repr_html_(), estimator.fit(*iris())._repr_html_()):
        assert Estimator.__name__ in html
        assert "SGD(learning_rate=0.05" in html
    assert repr(Estimator(hidden=(16,))) == f"{Estimator.__name__}(hidden=(16,))"
    assert "Pipeline" in make_pipeline(StandardScaler(), estimator)._repr_html_()


@both
def test_an_estimator_gives_a_model_that_can_be_saved(Estimator, tmp_path):
    X, y = iris()
    fitted = quick(Estimator, hidden=3).fit(X, y)
    fitted.model_.save(tmp_path / "m.npz")
    outputs = gd.load(tmp_path / "m.npz").predict(X)
    if Estimator is gd.MiniBatchClassifier:
        np.testing.assert_allclose(outputs, fitted.predict_proba(X), rtol=1e-12)
    else:
        np.testing.assert_array_equal(outputs[:, 0], fitted.predict(X))


@pytest.mark.parametrize("Estimator", [gd.MiniBatchClassifier, gd.MiniBatchRegressor])
def test_a_score_goes_by_the_weights_of_the_rows(Estimator):
    X, y = iris()
    weight = y  # of one class none counts, and of another twice
    estimator = quick(Estimator, epochs=1).fit(X, y)
    repeated = np.repeat(np.arange(150), weight)
    expected = estimator.score(X[repeated], y[repeated])
    assert estimator.score(X, y, weight) == pytest.approx(expected, rel=1e-12)
    assert abs(expected - estimator.score(X, y)) > 1e-3


def test_progress_is_shown_when_asked_for(capsys):
    quick().fit(*iris())
    assert capsys.readouterr().err == ""
    quick(verbose=True).fit(*iris())
    assert "epoch 5/5" in capsys.readouterr().err


LINEAR, NETWORK = {}, {"hidden": (32,)}
# The usual solver of an old scikit-learn is warned of by a new SciPy.
LOGISTIC = linear_model.LogisticRegression(max_iter=1000, solver="newton-cg")
MLP = neural_network.MLPClassifier((32,), max_iter=1000, random_state=0)
# Theirs does not scale the target by itself.
MLP_REGRESSOR = TransformedTargetRegressor(
    neural_network.MLPRegressor(hidden_layer_sizes=(32,), max_iter=2000, random_state=0),
    transformer=StandardScaler(),
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("load", "ours", "theirs"),
    [
        pytest.param("breast_cancer", LINEAR, LOGISTIC, id="breast cancer, linear"),
        pytest.param("breast_cancer", NETWORK, MLP, id="breast cancer, network"),
        pytest.param("digits", LINEAR, LOGISTIC, id="digits, linear"),
        pytest.param("digits", NETWORK, MLP, id="digits, network"),
        pytest.param("diabetes", LINEAR, linear_model.Ridge(), id="diabetes, linear"),
        pytest.param("diabetes", NETWORK, MLP_REGRESSOR, id="diabetes, network"),
    ],
)
def test_the_defaults_are_as_good_as_scikit_learns_on_held_out_rows(load, ours, theirs):
    X, y = getattr(datasets, f"load_{load}")(return_X_y=True)
    Estimator = gd.MiniBatchRegressor if load == "diabetes" else gd.MiniBatchClassifier
    splits = [train_test_split(X, y, test_size=0.3, random_state=seed) for seed in range(3)]
    scores = []
    for estimator in (Estimator(random_state=0, **ours), theirs):
        pipeline = make_pipeline(StandardScaler(), estimator)
        scores.append(np.mean([pipeline.fit(a, c).score(b, d) for a, b, c, d in splits]))
    assert scores[0] > scores[1] - 0.01, scores


# The package ----------------------------------------------------------------------------------


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


@pytest.mark.slow
def test_the_estimators_are_loaded_when_they_are_asked_for():
    done = run(
        "import sys, minigd as gd\n"
        "assert 'MiniBatchClassifier' in dir(gd) and 'Dense' in dir(gd)\n"
        "assert 'sklearn' not in sys.modules\n"
        "from minigd import *\n"
        "assert MiniBatchRegressor is gd.MiniBatchRegressor\n"
    )
    assert done.returncode == 0, done.stderr
    with pytest.raises(AttributeError, match="module 'minigd' has no attribute 'MiniBatchCluster'"):
        _ = gd.MiniBatchCluster


def test_without_scikit_learn_all_else_works_and_the_error_names_the_extra():
    done = run(
        "import sys; sys.modules['sklearn'] = None\n"
        "from minigd import *\n"
        "import minigd as gd, inspect\n"
        "assert 'MiniBatchClassifier' not in dir(gd) and Dense is gd.Dense\n"
        "assert inspect.getmembers(gd)\n"
        "assert not hasattr(gd, 'MiniBatchClassifier')\n"
        "assert getattr(gd, 'MiniBatchRegressor', None) is None\n"
        "for ask in ('gd.MiniBatchClassifier', 'import minigd.interop.sklearn.estimators',\n"
        "            'from minigd import MiniBatchRegressor'):\n"
        "    try: exec(ask)\n"
        "    except (ImportError, AttributeError) as error: print(error)\n"
    )
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout.count(
            "scikit-learn is not installed, and an estimator needs it: `pip install scikit-learn`"
        )
        == 3
    )
