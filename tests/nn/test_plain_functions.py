"""Plain functions instead of a loss, a metric or a schedule, and scikit-learn's scorers.

They give the same results as the classes, and are saved by name.
"""

import functools
import warnings

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

import minigd as gd
from minigd.nn.losses import function as function_loss

X = np.random.default_rng(0).normal(size=(40, 3))
Y = X[:, :2] + 0.1 * np.random.default_rng(1).normal(size=(40, 2))
KINDS = np.random.default_rng(2).integers(0, 3, 40)
WEIGHT = np.random.default_rng(3).uniform(0.2, 2.0, 40)


def absolute(prediction, target):
    return abs(prediction - target).mean(axis=1)


def pinball(z, y):
    return np.where(z > y, 0.7 * (z - y), 0.3 * (y - z)).mean(axis=1)


def clipped(z, y):
    e = np.clip(z - y, -1, 1)
    return (e * (z - y) - 0.5 * e * e).mean(axis=1)


def positive(z, y):
    return np.maximum(1 - y * z, 0).mean(axis=1)


def of_classes(z, y):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return -np.log(e[np.arange(len(z)), y] / e.sum(axis=1))


SAME = {
    "abs": (absolute, gd.MeanAbsoluteError(), Y),
    "where and a comparison": (pinball, gd.Quantile(0.3), Y),
    "clip": (clipped, gd.Huber(1.0), Y),
    "classes": (of_classes, gd.CategoricalCrossEntropy(from_logits=True), KINDS),
}


def network(outputs=2, **settings):
    layers = [gd.Dense(4), gd.Tanh(), gd.Dense(outputs)]
    return gd.Sequential(layers, inputs=3, **{"dtype": "float64", **settings})


def outputs_for(y):
    return 3 if y is KINDS else 2


# As a loss --------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:the gradient of")
@pytest.mark.parametrize("case", SAME)
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["", "weighted"])
def test_a_function_trains_as_the_class_does(case, weight):
    function, loss, y = SAME[case]
    runs = []
    for given in (function, loss):
        model = network(outputs_for(y))
        history = model.fit(X, y, loss=given, updater=gd.SGD(0.1), epochs=3, batch_size=16,
                            sample_weight=weight)  # fmt: skip
        runs.append((model.flat_params, history["loss"]))
    np.testing.assert_allclose(runs[0][0], runs[1][0], rtol=1e-10)
    np.testing.assert_allclose(runs[0][1], runs[1][1], rtol=1e-12)


@pytest.mark.filterwarnings("ignore:the gradient of")
@pytest.mark.parametrize("function", [absolute, pinball, clipped, positive])
def test_the_complex_step_is_exact(function):
    errors = gd.check_gradients(network(), function, X, Y, method="central")
    assert max(errors.values()) < 1e-4
    assert max(gd.check_gradients(network(), function, X, Y).values()) < 1e-10


def test_that_the_gradient_is_by_complex_step_is_said_once(monkeypatch):
    monkeypatch.setattr(function_loss, "_SAID", set())
    with pytest.warns(UserWarning, match=r"gradient of absolute .*FunctionLoss\(absolute, deriv"):
        network().fit(X, Y, loss=absolute)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network().fit(X, Y, loss=absolute, epochs=2)
        given = gd.FunctionLoss(pinball, lambda z, y: np.where(z > y, 0.7, -0.3) / z.shape[1])
        network().fit(X, Y, loss=given)
    assert repr(given) == "FunctionLoss(pinball)"


def reads_the_real_part(z, y):
    return (z.real - y) ** 2 @ np.ones(z.shape[1])


def drops_a_part(z, y):
    return ((z - y) * (np.real(z) - y)).sum(axis=1)


def takes_real_numbers_only(z, y):
    return np.logaddexp(0, -y * z).mean(axis=1)


@pytest.mark.filterwarnings("ignore:the gradient of")
@pytest.mark.parametrize("function", [reads_the_real_part, drops_a_part, takes_real_numbers_only])
def test_a_function_that_drops_the_imaginary_part_is_noticed(function):
    with pytest.raises(gd.GradientError, match=r"cannot be differentiated.*FunctionLoss\("):
        network().fit(X, Y, loss=function)


COUPLED = {
    "a mean": lambda z, y: ((z - y) ** 2).mean(axis=1) / (1 + y.std()),
    "divided by n": lambda z, y: ((z - y) ** 2).mean(axis=1) / len(z),
    "a Softmax down the columns": lambda z, y: -(np.log(np.exp(z) / np.exp(z).sum(0)) * y).sum(1),
    "the row before": lambda z, y: np.cumsum(((z - y) ** 2).sum(axis=1)),
    "the last row alone": lambda z, y: ((z - y + z[-1:]) ** 2).sum(axis=1),
    "places in the batch": lambda z, y: np.linspace(0.5, 1, 20) * ((z - y) ** 2).sum(axis=1),
    "small numbers": lambda z, y: 1e-12 * ((z - z.mean(axis=0) - y) ** 2).sum(axis=1),
}


@pytest.mark.filterwarnings("ignore:the gradient of")
@pytest.mark.parametrize("given", [None, lambda z, y: z - y], ids=["", "derivative"])
@pytest.mark.parametrize("kind", COUPLED)
def test_a_function_that_couples_the_rows_is_noticed(kind, given):
    function = COUPLED[kind]
    with pytest.raises(gd.GradientError, match="gives a row a different loss when"):
        network().fit(X, Y, loss=gd.FunctionLoss(function, given), batch_size=20)
    # Of one row there is nothing to couple.
    if kind != "places in the batch":
        network().fit(X[:1], Y[:1], loss=gd.FunctionLoss(function, given))


@pytest.mark.filterwarnings("ignore:the gradient of")
def test_that_rows_are_apart_is_looked_at_once_and_infinite_losses_are_no_sign():
    sizes = []

    def counted(z, y):
        sizes.append(len(z))
        return np.where(y > 0, np.inf, z - y).mean(axis=1)

    loss = gd.FunctionLoss(counted, lambda z, y: 0 * z)
    for rows in (1, 5, 5):
        loss.forward(X[:rows, :2], Y[:rows])
        loss.backward()
    assert sizes == [1, 5, 5, 2, 3, 5]


def test_a_derivative_that_is_wrong_is_caught():
    loss = gd.FunctionLoss(absolute, lambda z, y: np.sign(z - y))
    with pytest.raises(gd.GradientError, match="2"):
        gd.check_gradients(network(), loss, X, Y)


@pytest.mark.filterwarnings("ignore:the gradient of")
def test_a_function_is_saved_by_its_name_and_named_when_loading(tmp_path):
    path = tmp_path / "run.npz"
    batches = gd.Batches(X, Y, batch_size=16, shuffle=True)
    trainer = gd.Trainer(network(), absolute, gd.SGD(slower), metrics=[worst])
    trainer.fit(batches, epochs=2)
    trainer.save(path)
    with pytest.raises(gd.CheckpointError, match=r"'absolute', 'worst'.*custom=\[absolute, worst"):
        gd.load(path)
    with pytest.raises(gd.CheckpointError, match=r"custom=\[slower\]"):
        gd.Trainer.resume(path, batches, custom=[absolute, worst])
    again = gd.Trainer.resume(path, batches, custom=[absolute, worst, slower])
    for run in (trainer, again):
        run.fit(batches, epochs=2)
    np.testing.assert_array_equal(again.model.flat_params, trainer.model.flat_params)
    assert again.history["worst"] == trainer.history["worst"]


@pytest.mark.parametrize("which", [gd.MeanAbsoluteError, dict])
def test_a_class_is_not_taken_for_a_function(which):
    with pytest.raises(ValueError, match=f"which is a class: write {which.__name__}"):
        network().fit(X, Y, loss=which)
    with pytest.raises(ValueError, match=f"which is a class: write {which.__name__}"):
        network().fit(X, Y, loss="mse", metrics=[which])


# As a metric ------------------------------------------------------------------------------------


def worst(prediction, target):
    return abs(prediction - target).max()


def by_row(prediction, target):
    return abs(prediction - target).mean(axis=1)


def with_weights(prediction, target, sample_weight):
    return np.average(abs(prediction - target).mean(axis=1), weights=sample_weight)


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["", "weighted"])
@pytest.mark.parametrize("size", [7, 40])
def test_a_metric_is_of_all_rows_whatever_the_batches(weight, size):
    chosen = ["mae", by_row, with_weights, *([worst] if weight is None else [])]
    trainer = gd.Trainer(network(), "mse", "sgd", metrics=chosen)
    found = trainer.evaluate(gd.Batches(X, Y, batch_size=size, sample_weight=weight))
    assert found["by_row"] == pytest.approx(found["mae"], rel=1e-13)
    assert found["with_weights"] == pytest.approx(found["mae"], rel=1e-13)
    if weight is None:
        assert found["worst"] == abs(trainer.model.predict(X) - Y).max()


def test_one_number_without_weights_is_refused_where_rows_have_weights():
    trainer = gd.Trainer(network(), "mse", "sgd", metrics=[worst])
    with pytest.raises(gd.DataError, match="worst returned one number without them: add a s"):
        trainer.evaluate(X, Y, sample_weight=WEIGHT)


def test_a_shape_that_is_no_metric_is_refused():
    trainer = gd.Trainer(network(), "mse", "sgd", metrics={"odd": lambda z, y: z - y})
    with pytest.raises(gd.ShapeError, match=r"returned shape \(40, 2\) for 40 rows"):
        trainer.evaluate(X, Y)


def test_functions_of_scikit_learn_get_the_targets_first():
    flags = (X[:, 0] > 0).astype(int)
    layers = [gd.Dense(1), gd.Sigmoid()]
    model = gd.Sequential(layers, inputs=3, dtype="float64")
    chosen = [sklearn_metrics.brier_score_loss, sklearn_metrics.log_loss]
    trainer = gd.Trainer(model, "binary_crossentropy", "sgd", metrics=chosen)
    found = trainer.evaluate(X, flags, sample_weight=WEIGHT)
    p = model.predict(X)[:, 0]
    for name in ("brier_score_loss", "log_loss"):
        expected = getattr(sklearn_metrics, name)(flags, p, sample_weight=WEIGHT)
        assert found[name] == pytest.approx(expected, rel=1e-12)


# Scikit-learn's scorers -------------------------------------------------------------------------

OF_NUMBERS = ["neg_mean_squared_error", "explained_variance", "neg_median_absolute_error", "r2"]
OF_KINDS = ["balanced_accuracy", "f1_macro", "f1_micro", "precision_weighted", "neg_log_loss"]
OF_KINDS += ["matthews_corrcoef", "roc_auc_ovr", "top_k_accuracy"]
OF_FLAGS = ["jaccard", "neg_brier_score", "recall_macro", "balanced_accuracy", "neg_log_loss"]
OF_LABELS = ["f1_samples", "f1_macro", "jaccard_micro", "precision_samples"]
TASKS = {
    "numbers": (OF_NUMBERS, [gd.Dense(2)], "mse", Y),
    "one number": (OF_NUMBERS, [gd.Dense(1)], "mse", Y[:, 0]),
    "classes": (OF_KINDS, [gd.Dense(3), gd.Softmax()], "categorical_crossentropy", KINDS),
    "one-hot": (
        OF_KINDS,
        [gd.Dense(3), gd.Softmax()],
        "categorical_crossentropy",
        np.eye(3)[KINDS],
    ),
    "flags": (OF_FLAGS, [gd.Dense(1), gd.Sigmoid()], "binary_crossentropy", KINDS > 1),
    "labels": (OF_LABELS, [gd.Dense(2), gd.Sigmoid()], "binary_crossentropy", Y > 0),
}


def by_hand(name, y, p):
    """Return a score by the function of the scorer."""
    of = {"sample_weight": WEIGHT}
    if p.shape[1] == 1:
        p, y = p[:, 0], np.ravel(y)
    y = y.argmax(axis=1) if y.shape == (40, 3) else y
    stem, _, average = name.rpartition("_")
    if average in ("macro", "micro", "samples", "weighted"):
        of["average"] = average
    chosen = p > 0.5 if p.ndim == 1 or p.shape[1] == 2 else p.argmax(axis=1)
    functions = {
        "neg_mean_squared_error": lambda: -sklearn_metrics.mean_squared_error(y, p, **of),
        "explained_variance": lambda: sklearn_metrics.explained_variance_score(y, p, **of),
        "neg_median_absolute_error": lambda: -sklearn_metrics.median_absolute_error(y, p, **of),
        "r2": lambda: sklearn_metrics.r2_score(y, p, **of),
        "neg_log_loss": lambda: -sklearn_metrics.log_loss(y, p, **of),
        "neg_brier_score": lambda: -sklearn_metrics.brier_score_loss(y, p, **of),
        "balanced_accuracy": lambda: sklearn_metrics.balanced_accuracy_score(y, chosen, **of),
        "matthews_corrcoef": lambda: sklearn_metrics.matthews_corrcoef(y, chosen, **of),
        "roc_auc_ovr": lambda: sklearn_metrics.roc_auc_score(y, p, multi_class="ovr", **of),
        "top_k_accuracy": lambda: sklearn_metrics.top_k_accuracy_score(y, p, **of),
    }
    if name in functions:
        return functions[name]()
    return getattr(sklearn_metrics, f"{stem or name}_score")(y, chosen, **of)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
@pytest.mark.parametrize("task", TASKS)
def test_a_scorer_by_name_is_scikit_learns(task):
    names, layers, loss, y = TASKS[task]
    model = gd.Sequential(layers, inputs=3, dtype="float64")
    found = gd.Trainer(model, loss, "sgd", metrics=names).evaluate(X, y, sample_weight=WEIGHT)
    for name in names:
        expected = by_hand(name, y, model.predict(X))
        assert found[name] == pytest.approx(expected, rel=1e-12), name


def test_a_scorer_is_saved_by_its_name(tmp_path):
    model = network()
    model.fit(X, Y, loss="mse", metrics=["explained_variance"])
    model.save(tmp_path / "m.npz")
    assert gd.load(tmp_path / "m.npz").evaluate(X, Y) == model.evaluate(X, Y)


# As a schedule ----------------------------------------------------------------------------------


def slower(updates, epochs):
    return 0.1 / (1 + updates / 4) * 0.5**epochs


@pytest.mark.parametrize("fast", [True, False])
def test_a_schedule_is_asked_before_each_update(fast):
    model = network()
    seen = []

    def noted(updates, epochs):
        seen.append((updates, epochs))
        return slower(updates, epochs)

    trainer = gd.Trainer(model, "mse", gd.SGD(noted), fast=fast)
    by_hand = gd.Trainer(network(), "mse", gd.SGD(0.1), fast=False)
    trainer.fit(X, Y, batch_size=16, epochs=2, shuffle=False)
    for k in range(6):
        by_hand.updater.learning_rate = slower(k, k // 3)
        part = slice(16 * (k % 3), 16 * (k % 3) + 16)
        by_hand.step(X[part], Y[part])
    np.testing.assert_allclose(model.flat_params, by_hand.model.flat_params, rtol=1e-10)
    assert {(k, k // 3) for k in range(6)} <= set(seen)


def test_a_schedule_that_returns_no_rate_is_refused():
    with pytest.raises(ValueError, match="the rate that a schedule returns must be a number"):
        network().fit(X, Y, loss="mse", updater=gd.SGD(lambda updates, epochs: -1.0))
    with pytest.raises(ValueError, match="learning_rate is the class CosineDecay"):
        gd.SGD(gd.CosineDecay)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gd.SGD(lambda epoch: 0.1), r"^<lambda> takes \(epoch\), .* \(updates, epochs\)$"),
        (lambda: gd.SGD(lambda: 0.1), r"^<lambda> takes \(\), .* \(updates, epochs\)$"),
        (lambda: gd.FunctionLoss(lambda z: z), r"takes \(z\), .* \(prediction, target\)$"),
        (lambda: gd.FunctionLoss(absolute, lambda z: z), r"takes \(z\), .*\(prediction, target\)$"),
    ],
    ids=range(4),
)
def test_a_function_of_other_arguments_is_refused_where_it_is_given(make, message):
    with pytest.raises(TypeError, match=message):
        make()


def test_functions_that_do_not_say_what_they_take_are_taken():
    for function in (max, np.maximum, functools.partial(pow, 0.1)):
        gd.FunctionSchedule(function)


def test_a_scorer_is_given_by_its_name_and_a_mistyped_one_is_named():
    for scorer in (sklearn_metrics.get_scorer("r2"), sklearn_metrics.make_scorer(worst)):
        with pytest.raises(TypeError, match=r"pass the scorer's name, metrics=\['r2'\], or"):
            gd.Trainer(network(), "mse", "sgd", metrics=[scorer])
    for name, meant in (
        ("max_error", "neg_max_error"),
        ("f1-macro", "f1_macro"),
        ("mape_", "mape"),
    ):
        with pytest.raises(ValueError, match=f"did you mean '{meant}'"):
            gd.Trainer(network(), "mse", "sgd", metrics=[name])
