"""What shapes and regularizes the networks of the estimators: each is a Trainer's run by hand."""

import functools

import numpy as np
import pytest
from sklearn import base, datasets
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.multiclass import OneVsRestClassifier
from sklearn.preprocessing import StandardScaler

import minigd as gd

ESTIMATORS = (gd.MiniBatchClassifier, gd.MiniBatchRegressor)
both = pytest.mark.parametrize("Estimator", ESTIMATORS)


@functools.cache
def iris():
    X, y = datasets.load_iris(return_X_y=True)
    return StandardScaler().fit_transform(X), y


def quick(Estimator=gd.MiniBatchClassifier, **settings):
    return Estimator(**{"epochs": 4, "batch_size": 40, "random_state": 0, **settings})


def bits(estimator):
    return estimator.model_.flat_params.tobytes()


def by_hand(estimator, layers, **options):
    """Return the model that a Trainer makes of these layers, as the classifier should."""
    X, y = iris()
    layers = [*layers, gd.Dense(3), gd.Softmax()]
    model = gd.Sequential(layers, 4, dtype="float64", seed=estimator.model_.seed)
    if isinstance(layers[0], gd.Standardize):
        model.layers[0].adapt(gd.Batches(X, y))
    updater = options.pop("updater", "adam")
    trainer = gd.Trainer(model, "categorical_crossentropy", updater, **options)
    trainer.fit(X, y, batch_size=40, epochs=4)
    return model


def dense(units=8):
    return gd.Dense(units, "he_normal")


# Layers -----------------------------------------------------------------------------------------

# settings of the estimator: the layers that stand for them
NETWORKS = {
    "dropout": (
        {"hidden": (8, 6), "dropout": 0.3},
        lambda: [dense(), gd.ReLU(), gd.Dropout(0.3), dense(6), gd.ReLU(), gd.Dropout(0.3)],
    ),
    "batch norm": (
        {"hidden": 8, "batch_norm": True},
        lambda: [dense(), gd.BatchNorm(), gd.ReLU()],
    ),
    "both": (
        {"hidden": 8, "batch_norm": True, "dropout": 0.5, "activation": "leaky_relu"},
        lambda: [dense(), gd.BatchNorm(), gd.LeakyReLU(), gd.Dropout(0.5)],
    ),
    "a list": (
        {"layers": [gd.Dense(8), gd.Tanh(), gd.Dropout(0.2)]},
        lambda: [gd.Dense(8), gd.Tanh(), gd.Dropout(0.2)],
    ),
    "a tuple with Standardize": (
        {"layers": (gd.Standardize(), gd.Dense(8), gd.Tanh())},
        lambda: [gd.Standardize(), gd.Dense(8), gd.Tanh()],
    ),
    "a function": (
        {"layers": lambda width: [gd.Dense(2 * width), gd.Tanh()]},
        lambda: [gd.Dense(8), gd.Tanh()],
    ),
}


@pytest.mark.parametrize(("settings", "layers"), NETWORKS.values(), ids=NETWORKS)
def test_a_network_is_the_one_made_by_hand(settings, layers):
    classifier = quick(**settings)
    for _ in range(2):  # the layers given are free again for another fit
        classifier.fit(*iris())
        expected = by_hand(classifier, layers())
        found = classifier.model_.flat_params
        np.testing.assert_allclose(found, expected.flat_params, rtol=1e-9, atol=1e-12)
    again = base.clone(classifier).fit(*iris())
    assert bits(again) == bits(classifier)
    p = classifier.predict_proba(iris()[0])
    np.testing.assert_allclose(p, expected.predict(iris()[0]), rtol=1e-12)


def test_dropout_and_batch_norm_follow_hidden_layers_and_there_may_be_none():
    plain = quick().fit(*iris())
    assert bits(quick(dropout=0.5, batch_norm=True).fit(*iris())) == bits(plain)
    assert plain.coef_.shape == (3, 4)


@both
def test_standardize_among_the_layers_is_a_scaler_in_front(Estimator):
    X, y = iris()
    raw = 100 * X + 7
    ours = quick(Estimator, layers=[gd.Standardize()]).fit(raw, y)
    theirs = quick(Estimator).fit(StandardScaler().fit_transform(raw), y)
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-9)
    np.testing.assert_allclose(ours.coef_ * 100, theirs.coef_, rtol=1e-7)
    weight = np.arange(150) % 3
    weighed = quick(Estimator, layers=[gd.Standardize()], batch_size=None)
    repeated = base.clone(weighed).fit(np.repeat(raw, weight, axis=0), np.repeat(y, weight))
    weighed.fit(raw, y, weight)
    np.testing.assert_allclose(weighed.predict(raw), repeated.predict(raw), rtol=1e-6)


@both
def test_layers_are_searched_like_any_parameter(Estimator):
    small, wide = [gd.Dense(2), gd.Tanh()], [gd.Dense(16), gd.ReLU()]
    grid = GridSearchCV(quick(Estimator), {"layers": [None, small, wide]}, cv=2)
    grid.fit(*iris())
    assert len(grid.cv_results_["params"]) == 3


# Penalties, clipping ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "limits",
    [{"l1": 0.1}, {"l2": 0.2}, {"clip_norm": 0.05}, {"l1": 0.01, "l2": 0.1, "clip_norm": 0.1}],
    ids=str,
)
def test_penalties_and_clipping_are_those_of_a_trainer(limits):
    settings = {"hidden": 8, "updater": gd.SGD(0.5)}
    classifier = quick(**settings, **limits).fit(*iris())
    expected = by_hand(classifier, [dense(), gd.ReLU()], updater=gd.SGD(0.5), **limits)
    assert bits(classifier) == expected.flat_params.tobytes()
    assert bits(classifier) != bits(quick(**settings).fit(*iris()))


def test_l2_is_ridge_regression():
    X, y = datasets.make_regression(80, 5, noise=10.0, random_state=0)
    X, y = StandardScaler().fit_transform(X), StandardScaler().fit_transform(y[:, None])[:, 0]
    settings = {"updater": "sgd", "learning_rate": 0.2, "batch_size": None, "epochs": 400}
    ours = quick(gd.MiniBatchRegressor, l2=0.5, **settings).fit(X, y)
    # 2 Xᵀ(Xw − y) / n + λ₂ w = 0
    expected = np.linalg.solve(2 * X.T @ X / 80 + 0.5 * np.eye(5), 2 * X.T @ y / 80)
    np.testing.assert_allclose(ours.coef_, expected, rtol=1e-8)


@both
def test_a_warm_start_goes_on_with_the_penalties_of_now(Estimator):
    X, y = iris()
    settings = {"hidden": 4, "updater": gd.SGD(0.1, momentum=0.9), "warm_start": True}
    one = quick(Estimator, **settings).fit(X, y).set_params(l2=0.5, clip_norm=0.1).fit(X, y)
    trainer = gd.Trainer(
        quick(Estimator, **settings).fit(X, y).model_.copy(), "mse", "sgd"
    )  # of the first part alone
    assert bits(one) != trainer.model.flat_params.tobytes()
    kept = quick(Estimator, **settings).fit(X, y)
    kept.set_params(l2=0.5, clip_norm=0.1)
    kept._run.penalty = gd.Trainer(kept.model_.copy(), "mse", "sgd", l2=0.5).penalty
    kept._run.clipping = gd.Trainer(kept.model_.copy(), "mse", "sgd", clip_norm=0.1).clipping
    assert bits(kept.fit(X, y)) == bits(one)
    with pytest.raises(ValueError, match="warm_start can't change the layers or dtype"):
        one.set_params(dropout=0.5).fit(X, y)


# Callbacks --------------------------------------------------------------------------------------


class Recorder:
    """A callback that is an object."""

    def __init__(self):
        self.names = []

    def __call__(self, event):
        self.names.append(event.name)


@both
def test_callbacks_are_those_given_and_called_with_each_event(Estimator):
    recorder, seen = Recorder(), []
    estimator = quick(Estimator, callbacks=[recorder, lambda event: seen.append(event.name)])
    estimator.fit(*iris())
    assert recorder.names == seen
    assert recorder.names.count("epoch") == 4
    assert recorder.names.count("update") == 16
    estimator.partial_fit(*iris())
    assert recorder.names.count("epoch") == 5


def test_callbacks_go_together_with_early_stopping():
    seen = []
    classifier = quick(epochs=50, early_stopping=True, tol=1.0, callbacks=(seen.append,))
    classifier.fit(*iris())
    assert classifier.n_iter_ == 11 == sum(event.name == "epoch" for event in seen)
    own = quick(epochs=50, callbacks=[gd.EarlyStopping("loss", patience=3, min_delta=1.0)])
    assert own.fit(*iris()).n_iter_ == 4


# Validation data --------------------------------------------------------------------------------


def parts(labels=None):
    X, y = iris()
    y = y if labels is None else np.array(labels)[y]
    return train_test_split(X, y, test_size=0.3, random_state=0, stratify=y)


@pytest.mark.parametrize(
    "labels", [None, ["zeta", "alpha", "mu"], [5, -3, 7], [0, 0, 1], [2.0, 4.0, 3.0]], ids=str
)
@pytest.mark.parametrize("form", ["arrays", "weighted", "source", "batches", "list"])
@pytest.mark.pairs
def test_validation_data_are_evaluated_after_each_epoch(labels, form):
    a, b, c, d = parts(labels)
    number = np.searchsorted(np.unique(c), d)
    weight = None
    data = b, d
    if form == "weighted":
        weight = np.arange(len(d)) % 3.0
        data = b, d, weight
    elif form == "list":
        data = [b.tolist(), d.tolist()]
    elif form in ("source", "batches") and d.dtype.kind == "U":
        data = gd.IterableSource([{**dict(zip("abcd", b.T, strict=True)), "kind": d}], "kind")
    elif form in ("source", "batches"):
        data = gd.ArraySource(b, d)
    data = gd.Batches(data, batch_size=7) if form == "batches" else data
    classifier = quick(hidden=4).fit(a, c, validation_data=data)
    found = classifier.history_["val_loss"]
    assert len(found) == 4
    value = classifier.model_.evaluate(b, number, sample_weight=weight)["loss"]
    assert found[-1] == pytest.approx(value, rel=1e-7)  # a table of a stream is of float32
    # They are looked at alone: training is the same.
    assert bits(classifier) == bits(quick(hidden=4).fit(a, c))


def test_validation_data_of_a_regression():
    X, y = datasets.make_regression(120, 4, n_targets=2, bias=50.0, random_state=0)
    regressor = quick(gd.MiniBatchRegressor).fit(X[:80], y[:80], validation_data=(X[80:], y[80:]))
    value = regressor.model_.evaluate(X[80:], y[80:])["loss"]
    assert regressor.history_["val_loss"][-1] == pytest.approx(value, rel=1e-9)


@both
def test_early_stopping_goes_by_the_validation_data(Estimator):
    a, b, c, d = parts()
    stopped = quick(Estimator, epochs=80, hidden=8, early_stopping=True, patience=2, tol=0.0)
    stopped.fit(a, c, validation_data=(b, d))
    losses = stopped.history_["val_loss"]
    assert stopped.model_.evaluate(b, d)["loss"] == pytest.approx(min(losses), rel=1e-9)
    # No rows were put aside: each epoch has all of them.
    assert stopped.history_["updates"][0] == -(-len(a) // 40)
    weighted = gd.ArraySource(a, c, np.ones(len(a)))
    stopped.fit(weighted, validation_data=(b, d))


def test_validation_data_of_a_frame_become_the_columns_of_the_training():
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    frame = pandas.DataFrame({"area": rng.normal(size=90), "kind": rng.choice(list("abc"), 90)})
    y = np.where(frame["kind"] == "a", "yes", "no")
    later = frame[60:].iloc[:, ::-1]  # the columns in another order, and "c" may be missing
    later = later[later["kind"] != "c"]
    classifier = quick().fit(frame[:60], y[:60], validation_data=(later, y[later.index]))
    encoded = np.column_stack([later["area"], *(later["kind"] == kind for kind in "abc")]).astype(
        float
    )
    value = classifier.model_.evaluate(encoded, (y[later.index] == "yes").astype(int))["loss"]
    assert classifier.history_["val_loss"][-1] == pytest.approx(value, rel=1e-9)
    assert classifier.feature_names_in_.tolist() == ["area", "kind=a", "kind=b", "kind=c"]


def test_a_warm_start_may_have_validation_data_of_its_own():
    a, b, c, d = parts()
    classifier = quick(warm_start=True).fit(a, c).fit(a, c, validation_data=(b, d))
    history = classifier.history_["val_loss"]
    assert np.isnan(history[:4]).all()
    assert np.isfinite(history[4:]).all()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (3, r"validation_data must be \(X, y\), \(X, y, weight\), Batches or a source, not 3"),
        ((iris()[0],), "validation_data must be"),
        (iris()[0], "validation_data must be"),
        ((*iris(), None, None), "validation_data must be"),
        ((iris()[0][:, :3], iris()[1]), "X has 3 features.* expecting 4"),
        ((iris()[0], iris()[1] + 1), "y holds .*3.*, but the classes are"),
        ((iris()[0], iris()[1][:9]), "inconsistent numbers of samples|rows"),
        ((np.full((3, 4), np.nan), [0, 1, 2]), "NaN"),
    ],
    ids=range(8),
)
def test_validation_data_that_do_not_fit(data, message):
    with pytest.raises(ValueError, match=message):
        quick().fit(*iris(), validation_data=data)


def slower(updates, epochs):
    return 0.1 / (1 + updates)


@both
def test_a_plain_function_is_a_schedule_as_in_an_updater(Estimator):
    named = quick(Estimator, updater="sgd", learning_rate=slower).fit(*iris())
    made = quick(Estimator, updater=gd.SGD(slower)).fit(*iris())
    assert bits(base.clone(named).fit(*iris())) == bits(named) == bits(made)


# What makes no sense ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dropout": 1.0}, "dropout must be a number, at least 0 and below 1, not 1.0"),
        ({"dropout": "a"}, "dropout must be a number"),
        ({"batch_norm": "yes"}, "batch_norm must be True or False, not 'yes'"),
        ({"l1": -1}, "l1 must be a number, at least 0 and finite, not -1"),
        ({"l2": None}, "l2 must be a number"),
        ({"clip_norm": 0}, "clip_norm must be"),
        ({"callbacks": print}, "callbacks must be a list"),
        ({"callbacks": [3]}, "a callback must be callable with an event, but 3 is not"),
        ({"callbacks": [gd.EarlyStopping]}, "write it with parentheses"),
        ({"layers": gd.Dense(3)}, "layers must be a list"),
        ({"layers": [gd.ReLU]}, "layer 0 is .*ReLU.*parentheses"),
        ({"layers": ["relu"]}, "layer 0 is 'relu', which is not a minigd.Layer"),
        ({"layers": lambda width: gd.Dense(3)}, "layers must be a list"),
        ({"layers": lambda width: None}, r"layers\(4\) returned None"),
        ({"layers": gd.Sequential}, "layers must be a list"),
        ({"layers": [gd.Dense(3), gd.Softmax()]}, "layer 1 is Softmax.*outputs follow from y"),
        ({"layers": [gd.Rescale()]}, "layer 0 is Rescale"),
        ({"layers": [gd.Dense(3), gd.Standardize()]}, "layer 1 is Standardize.*put it first"),
        ({"layers": [gd.Dense(3)], "hidden": (8,)}, r"hidden=\(8,\) is for those that `hidden`"),
        ({"layers": [gd.Dense(3)], "hidden": 8}, "hidden=8 is for"),
        ({"layers": [gd.Dense(3)], "dropout": 0.1}, "dropout=0.1 is for"),
        ({"layers": [gd.Dense(3)], "batch_norm": True}, "batch_norm=True is for"),
        ({"layers": [gd.Dense(3)], "activation": "tanh"}, "activation='tanh' is for"),
        ({"layers": [gd.Dense(3)], "activation": gd.Tanh()}, r"activation=Tanh\(\) is for"),
    ],
    ids=range(24),
)
def test_bad_values_get_one_sentence(settings, message):
    estimator = quick(**settings)
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        estimator.fit(*iris())
    assert "\n" not in str(caught.value)


TWO, THREE, FLAGS = np.arange(60) % 2, np.arange(60) % 3, np.eye(3, dtype=int)[np.arange(60) % 3]
LOGITS = gd.Focal(from_logits=True)


@pytest.mark.parametrize(
    ("Estimator", "loss", "y", "remedy"),
    [
        (gd.MiniBatchRegressor, "poisson", TWO, r"gd.Sequential\(\[gd.Dense\(1\)\], inputs=4\)"),
        (gd.MiniBatchRegressor, gd.Quantile([0.1, 0.9]), TWO, r"Quantile\(0.1\).*Dense\(2\)"),
        (gd.MiniBatchRegressor, gd.Quantile([0.1, 0.5, 0.9]), FLAGS, r"loss=gd.Quantile\(0.1\)"),
        (gd.MiniBatchRegressor, "hinge", TWO, "loss='squared_error', 'mae'"),
        (gd.MiniBatchRegressor, gd.Focal(), TWO, "is for classes: .* or MiniBatchClassifier$"),
        (gd.MiniBatchClassifier, "hinge", TWO, r"'log_loss', or .*Dense\(1\)\], inputs=4"),
        (gd.MiniBatchClassifier, "hinge", THREE, r"'log_loss', or .*Dense\(3\)\], inputs=4"),
        (gd.MiniBatchClassifier, "hinge", FLAGS, "use loss='log_loss'$"),
        (gd.MiniBatchClassifier, "poisson", TWO, "use loss='log_loss'$"),
        (gd.MiniBatchClassifier, "categorical_crossentropy", TWO, "use loss='log_loss'$"),
        (gd.MiniBatchClassifier, LOGITS, TWO, "leave from_logits=True out$"),
        (gd.MiniBatchClassifier, LOGITS, THREE, "leave from_logits=True out$"),
        (gd.MiniBatchClassifier, "focal", THREE, r"OneVsRestClassifier\(Mini"),
        (gd.MiniBatchClassifier, "mae", THREE, r"OneVsRestClassifier\(Mini"),
    ],
    ids=range(14),
)
def test_a_loss_that_does_not_go_with_an_estimator(Estimator, loss, y, remedy):
    with pytest.raises(ValueError, match=f"does not go with {Estimator.__name__}, .*{remedy}"):
        quick(Estimator, loss=loss).fit(iris()[0][:60], y)


def test_what_is_proposed_for_such_losses_works():
    X, classes = iris()
    for loss, units, y in (("poisson", 1, classes), (gd.Quantile([0.1, 0.9]), 2, classes)):
        gd.Sequential([gd.Dense(units)], inputs=4).fit(X, y, loss=loss)
    for units, y in ((1, classes > 0), (3, classes)):
        gd.Sequential([gd.Dense(units)], inputs=4).fit(X, y, loss="hinge")
    for loss in ("focal", "mae"):
        each = OneVsRestClassifier(quick(loss=loss, epochs=60, hidden=8))
        assert each.fit(X, classes).score(X, classes) > 0.6
