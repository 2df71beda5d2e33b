"""Metrics: numbers of a whole epoch, compared with scikit-learn, for all shapes of targets.

They do not depend on how the epoch is cut, and are never the mean of the batches' values.
"""

import math
import sys

import numpy as np
import pytest
from budgets import examples
from hypothesis import given
from hypothesis import strategies as st
from scipy import special
from sklearn import metrics as sklearn_metrics

import minigd as gd
from minigd.nn import metrics
from minigd.nn.metrics import METRICS, Accuracy, Metric, get_metric, get_metrics
from minigd.training.epoch_totals import Totals

properties = examples(25)
OF_CLASSES = ["accuracy", "precision", "recall", "f1", "roc_auc", "average_precision"]


def measure(name, backend, prediction, y):
    """Return the metric of each row, on the host."""
    values = get_metric(name).per_example(backend.asarray(prediction), backend.asarray(y))
    values = backend.to_numpy(values)
    assert values.shape == (len(prediction),)
    return values


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_accuracy_of_several_classes_is_scikit_learns(backend, dtype):
    rng = np.random.default_rng(0)
    prediction, y = rng.normal(size=(50, 4)).astype(dtype), rng.integers(0, 4, size=50)
    right = prediction.argmax(axis=1) == y
    for targets in (y, y.reshape(-1, 1), np.eye(4)[y], np.eye(4, dtype=int)[y]):
        values = measure("accuracy", backend, prediction, targets)
        np.testing.assert_array_equal(values, right)
        expected = sklearn_metrics.accuracy_score(y, prediction.argmax(axis=1))
        assert values.mean() == pytest.approx(expected)


@pytest.mark.parametrize("dtype", ["int64", "bool", "float32"])
def test_accuracy_of_one_probability_is_cut_at_a_half(backend, dtype):
    prediction = np.array([[0.9], [0.2], [0.51], [0.5], [0.49]])
    y = np.array([1, 1, 0, 0, 0]).astype(dtype)
    for targets in (y, y.reshape(-1, 1)):
        np.testing.assert_array_equal(
            measure("accuracy", backend, prediction, targets), [1, 0, 0, 1, 1]
        )


def test_of_equal_probabilities_the_first_class_wins(backend):
    values = measure("accuracy", backend, np.full((2, 3), 1 / 3), np.array([0, 1]))
    np.testing.assert_array_equal(values, [1, 0])


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("names", [("mae", "mean_absolute_error"), ("mse", "mean_squared_error")])
def test_errors_are_scikit_learns(backend, k, names):
    rng = np.random.default_rng(0)
    prediction, y = rng.normal(size=(20, k)), rng.normal(size=(20, k))
    expected = getattr(sklearn_metrics, names[1])(y, prediction)
    for name in names:
        assert measure(name, backend, prediction, y).mean() == pytest.approx(expected, rel=1e-14)
        row = measure(name, backend, prediction[3:4], y[3:4])
        assert row == measure(name, backend, prediction, y)[3]


@pytest.mark.parametrize("name", ["mae", "mse"])
def test_a_vector_of_targets_is_a_column_and_is_never_broadcast(backend, name):
    prediction, y = np.array([[1.0], [3.0], [6.0]]), np.array([2.0, 3.0, 4.0])
    expected = {"mae": [1, 0, 2], "mse": [1, 0, 4]}[name]
    np.testing.assert_array_equal(measure(name, backend, prediction, y), expected)


@pytest.mark.parametrize("name", METRICS)
def test_neither_predictions_nor_targets_are_modified(backend, name):
    host = np.array([[0.2, 0.8], [0.6, 0.4]]), np.eye(2), np.array([1.0, 3.0])
    arrays = [backend.asarray(a.copy()) for a in host]
    get_metric(name).total(*arrays)
    for array, expected in zip(arrays, host, strict=True):
        np.testing.assert_array_equal(backend.to_numpy(array), expected)


# Over an epoch --------------------------------------------------------------------------------

CUTS = {"one batch": [23], "an odd tail": [8, 8, 7], "single rows": [1] * 23}


def epoch(name, backend, prediction, y, weight=None, sizes=(8, 8, 7)):
    """Return a metric over batches of these sizes."""
    totals = Totals({name: get_metric(name)})
    start = 0
    for size in sizes:
        rows = slice(start, start + size)
        start += size
        w = None if weight is None else backend.asarray(weight[rows])
        total = get_metric(name).total(
            backend.asarray(prediction[rows]), backend.asarray(y[rows]), w
        )
        totals.add({name: total}, float(size if weight is None else weight[rows].sum()))
    return totals.means(backend)[name]


def weights(n=23):
    return np.random.default_rng(9).uniform(0.1, 3.0, size=n)


def one_output(rng):
    """Return probabilities of class 1, some of them tied, and the targets in all their shapes."""
    y = rng.integers(0, 2, 23)
    p = (0.3 * y + rng.uniform(0, 0.7, 23)).round(1).reshape(-1, 1)
    return p, y, [y, y.reshape(-1, 1), y.astype(bool), y.astype("float32")]


def outputs(rng, k):
    y = rng.integers(0, k, 23)
    p = special.softmax(rng.normal(size=(23, k)) + np.eye(k)[y] / 2, axis=1)
    onehot = np.eye(k)[y]
    return p, y, [y, y.reshape(-1, 1), y.astype("uint8"), onehot, onehot.astype(int)]


CLASSES = {
    "one output": one_output,
    "two outputs": lambda rng: outputs(rng, 2),
    "three outputs": lambda rng: outputs(rng, 3),
}
of_classes = pytest.mark.parametrize("kind", CLASSES)
cut = pytest.mark.parametrize("sizes", CUTS.values(), ids=list(CUTS))
weighed = pytest.mark.parametrize("weight", [None, weights()], ids=["no weights", "weights"])


def chosen(p):
    return (p[:, 0] > 0.5).astype(int) if p.shape[1] == 1 else p.argmax(axis=1)


def scikit_learns(name, p, y, weight):
    """Return a metric of classes by scikit-learn."""
    if name == "accuracy":
        return sklearn_metrics.accuracy_score(y, chosen(p), sample_weight=weight)
    if name == "average_precision":
        of = [1] if p.shape[1] < 3 else range(p.shape[1])
        each = [
            sklearn_metrics.average_precision_score(
                y == k, p[:, k if p.shape[1] > 2 else -1], sample_weight=weight
            )
            for k in of
        ]
        return np.mean(each)
    if name == "roc_auc":
        if p.shape[1] > 2:
            return sklearn_metrics.roc_auc_score(
                y, p, sample_weight=weight, multi_class="ovr", average="macro"
            )
        return sklearn_metrics.roc_auc_score(y, p[:, -1], sample_weight=weight)
    function = getattr(sklearn_metrics, f"{name}_score")
    average = "macro" if p.shape[1] > 2 else "binary"
    return function(y, chosen(p), sample_weight=weight, average=average, zero_division=0)


@of_classes
@cut
@weighed
@pytest.mark.parametrize("name", OF_CLASSES)
@pytest.mark.pairs
def test_metrics_of_classes_are_scikit_learns_however_the_epoch_is_cut(
    backend, name, kind, sizes, weight
):
    p, y, shapes = CLASSES[kind](np.random.default_rng(1))
    expected = scikit_learns(name, p, y, weight)
    assert 0 < expected < 1
    for targets in shapes:
        value = epoch(name, backend, p, targets, weight, sizes)
        assert type(value) is float
        assert value == pytest.approx(expected, rel=1e-13)


def of_numbers(name, p, y, weight):
    """Return a metric of numbers by scikit-learn, whose RMSE is that of each output alone."""
    functions = {
        "mae": sklearn_metrics.mean_absolute_error,
        "mse": sklearn_metrics.mean_squared_error,
        "rmse": sklearn_metrics.mean_squared_error,
        "r2": sklearn_metrics.r2_score,
    }
    value = functions[name](y, p, sample_weight=weight)
    return math.sqrt(value) if name == "rmse" else value


@cut
@weighed
@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("name", ["mae", "mse", "rmse", "r2"])
@pytest.mark.pairs
def test_metrics_of_numbers_are_scikit_learns_however_the_epoch_is_cut(
    backend, name, k, sizes, weight
):
    rng = np.random.default_rng(k)
    y = rng.normal(size=(23, k)) * [[1.0, 10.0, 100.0][:k]] + 5
    p = y + rng.normal(size=(23, k))
    expected = of_numbers(name, p, y, weight)
    for targets in [y] if k > 1 else [y, y[:, 0]]:
        value = epoch(name, backend, p, targets, weight, sizes)
        assert type(value) is float
        assert value == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_totals_are_in_double_precision_whatever_the_outputs_are(backend, dtype):
    p, y, _ = outputs(np.random.default_rng(0), 3)
    targets = np.eye(3, dtype=dtype)[y]
    for name in METRICS:
        for weight in (None, backend.asarray(weights())):
            total = get_metric(name).total(
                backend.asarray(p, dtype=dtype), backend.asarray(targets), weight
            )
            assert str(total.dtype) == "float64", name
            assert backend.holds(total) or np.isscalar(total)


# Batches that are easy and a tail that is hard, or the other way round.
UNEVEN = {
    "precision": ([1, 1, 1, 0, 0, 1], [0.9, 0.9, 0.9, 0.9, 0.9, 0.1]),
    "recall": ([1, 1, 1, 0, 1, 0], [0.9, 0.9, 0.9, 0.1, 0.1, 0.1]),
    "f1": ([1, 1, 1, 0, 1, 0], [0.9, 0.9, 0.9, 0.9, 0.1, 0.1]),
    "roc_auc": ([1, 0, 1, 0, 1, 0], [0.9, 0.8, 0.7, 0.6, 0.2, 0.1]),
    "average_precision": ([1, 0, 1, 0, 1, 0], [0.9, 0.8, 0.7, 0.6, 0.2, 0.1]),
    "rmse": ([0.0] * 6, [0.0, 0.0, 0.0, 0.0, 0.0, 6.0]),
    "r2": ([0.0, 1.0, 0.0, 1.0, 50.0, 51.0], [0.5, 0.5, 0.5, 0.5, 50.5, 50.5]),
}


@pytest.mark.parametrize("name", UNEVEN)
def test_a_metric_is_not_the_mean_of_the_batches_values(backend, name):
    y, p = map(np.array, UNEVEN[name])
    p = p.reshape(-1, 1)
    parts = [
        epoch(name, backend, p[rows], y[rows], sizes=[len(y[rows])])
        for rows in (slice(0, 4), slice(4, 6))
    ]
    expected = {
        "rmse": math.sqrt(6.0),
        "r2": sklearn_metrics.r2_score(y, p),
    }.get(name) or scikit_learns(name, p, y, None)
    value = epoch(name, backend, p, y, sizes=[4, 2])
    assert value == pytest.approx(expected, rel=1e-13)
    for mean in (np.mean(parts), np.average(parts, weights=[4, 2])):
        assert abs(mean - value) > 0.05


def test_metrics_that_are_means_count_the_tail_by_its_rows(backend):
    y, p = np.array([0, 0, 0, 0, 1]), np.full((5, 1), 0.1)
    for name, expected in (("accuracy", 0.8), ("mae", (4 * 0.1 + 0.9) / 5)):
        assert epoch(name, backend, p, y, sizes=[4, 1]) == pytest.approx(expected)


@pytest.mark.parametrize("weight", [None, np.array([1.0, 2.0, 0.5, 3.0])])
@pytest.mark.parametrize(
    ("y", "p"),
    [
        ([1, 1, 0, 0], [0.1, 0.2, 0.3, 0.4]),  # none is predicted
        ([0, 0, 0, 0], [0.9, 0.2, 0.3, 0.8]),  # none is there
        ([0, 0, 0, 0], [0.1, 0.2, 0.3, 0.4]),  # neither
    ],
)
def test_what_would_divide_by_0_is_0(backend, y, p, weight):
    p, y = np.reshape(p, (4, 1)), np.array(y)
    for name in ("precision", "recall", "f1"):
        value = epoch(name, backend, p, y, weight, [3, 1])
        assert value == scikit_learns(name, p, y, weight) == 0.0


@pytest.mark.parametrize("weight", [None, np.array([1.0, 2.0, 0.5, 3.0])])
def test_of_several_classes_those_that_occur_are_averaged(backend, weight):
    # Class 3 is nowhere, class 2 is predicted and not there, class 1 is there and not predicted.
    p, y = np.eye(4)[[0, 2, 0, 2]], np.array([0, 0, 1, 0])
    for name in ("precision", "recall", "f1"):
        value = epoch(name, backend, p, y, weight, [1, 3])
        assert value == pytest.approx(scikit_learns(name, p, y, weight), rel=1e-14)
        assert value > 0


@pytest.mark.parametrize("k", [1, 2, 3])
def test_an_area_without_a_class_is_no_number(backend, k):
    p = np.random.default_rng(0).uniform(size=(6, k))
    for name in ("roc_auc", "average_precision"):
        assert math.isnan(epoch(name, backend, p, np.zeros(6, dtype=int), sizes=[4, 2]))
        y = np.array([0, 1, 0, 1, 0, 1]) if k == 3 else np.ones(6, dtype=int)
        assert math.isnan(epoch(name, backend, p, y, sizes=[4, 2]))
    # A row of weight 0 brings no class with it.
    weight = np.array([0.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    y = np.array([k - 1, *[0] * 5] if k < 3 else [2, 0, 1, 0, 1, 0])
    assert math.isnan(epoch("roc_auc", backend, p, y, weight, [4, 2]))


def test_an_area_needs_no_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.metrics", None)
    for name in ("roc_auc", "average_precision"):
        p = np.full((23, 1), 0.5)
        expected = {"roc_auc": 0.5, "average_precision": 11 / 23}[name]
        value = epoch(name, gd.get_backend("numpy"), p, np.arange(23) % 2)
        assert value == pytest.approx(expected, rel=1e-14)


@properties
@given(
    levels=st.integers(1, 30),
    n=st.integers(2, 60),
    weighted=st.booleans(),
    positive=st.integers(0, 1),
    seed=st.integers(0, 99),
)
def test_ranks_with_ties_and_weights_of_either_class_are_scikit_learns(
    levels, n, weighted, positive, seed
):
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(n) % rng.integers(2, n + 1) == 0).astype(int)
    if len(set(y)) < 2:
        y[0] = 1 - y[0]
    p = rng.integers(0, levels, (n, 1)) / levels
    weight = rng.uniform(0.1, 3.0, n) if weighted else None
    mine, score = (y == positive).astype(int), p[:, 0] if positive else -p[:, 0]
    for metric, function in (
        (metrics.RocAuc(positive), sklearn_metrics.roc_auc_score),
        (metrics.AveragePrecision(positive), sklearn_metrics.average_precision_score),
    ):
        expected = function(mine, score, sample_weight=weight)
        for outputs in (p, np.hstack([1 - p, p])):
            found = metric.value(metric.total(outputs, y, weight), float(n))
            assert found == pytest.approx(expected, rel=1e-12)
    cut = (p[:, 0] > 0.5).astype(int)
    for metric, function in (
        (metrics.F1(positive), sklearn_metrics.f1_score),
        (metrics.Precision(positive), sklearn_metrics.precision_score),
        (metrics.Recall(positive), sklearn_metrics.recall_score),
    ):
        options = {"pos_label": positive, "zero_division": 0, "sample_weight": weight}
        found = metric.value(metric.total(p, y, weight), float(n))
        assert found == pytest.approx(function(y, cut, **options), rel=1e-12)


def test_the_class_in_question_is_one_of_two_and_is_saved(tmp_path):
    for wrong in (2, -1, 0.5, True):
        with pytest.raises(ValueError, match="positive"):
            metrics.F1(wrong)
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 2)), (np.arange(60) % 6 == 0).astype(int)
    model = gd.Sequential([gd.Dense(1), gd.Sigmoid()], inputs=2)
    chosen = {"of 0": metrics.AveragePrecision(0), "of 1": "average_precision"}
    model.fit(X, y, loss="binary_crossentropy", metrics=chosen, epochs=2)
    model.save(tmp_path / "m.npz")
    found = gd.load(tmp_path / "m.npz").evaluate(X, y)
    p = model.predict(X)[:, 0]
    assert found["of 1"] == pytest.approx(sklearn_metrics.average_precision_score(y, p))
    assert found["of 0"] == pytest.approx(sklearn_metrics.average_precision_score(1 - y, -p))


@weighed
@pytest.mark.parametrize("shift", [1e8, -1e8, 1e5])
def test_r2_keeps_its_digits_far_from_zero(backend, shift, weight):
    # Σ y² less n times the mean's square, as some have it, has none left here.
    rng = np.random.default_rng(0)
    y = rng.normal(size=23)
    p = (y + 0.5 * rng.normal(size=23)).reshape(-1, 1)
    expected = sklearn_metrics.r2_score(y, p, sample_weight=weight)
    for sizes in CUTS.values():
        value = epoch("r2", backend, p + shift, y + shift, weight, sizes)
        assert value == pytest.approx(expected, rel=0, abs=1e-6)


@weighed
@pytest.mark.parametrize("size", [1e30, -1e30, 1e-30])
@pytest.mark.parametrize("name", ["mae", "mse", "rmse", "r2"])
@pytest.mark.pairs
def test_squares_that_a_dtype_can_not_hold_are_counted(backend, name, size, weight):
    # The square of 1e30 is beyond float32, and that of 1e-30 is 0 in it.
    rng = np.random.default_rng(0)
    y = (size * rng.normal(size=(23, 2))).astype("float32")
    p = (y * rng.uniform(0.5, 1.5, size=y.shape)).astype("float32")
    expected = of_numbers(name, p.astype("float64"), y.astype("float64"), weight)
    for sizes in CUTS.values():
        value = epoch(name, backend, p, y, weight, sizes)
        assert value == pytest.approx(expected, rel=1e-12, abs=0)


def test_r2_of_batches_whose_means_differ_is_that_of_all_rows(backend):
    y = np.sort(np.random.default_rng(0).normal(size=200)) + 1e8
    p = np.full((200, 1), y.mean())
    assert epoch("r2", backend, p, y, sizes=[7] * 28 + [4]) == pytest.approx(0.0, abs=1e-6)


def test_r2_of_a_constant_is_1_where_predictions_are_exact_and_0_otherwise(backend):
    y = np.full(6, 3.0)
    for p, expected in ((y, 1.0), (y + np.eye(6)[5], 0.0)):
        p = p.reshape(-1, 1)
        assert sklearn_metrics.r2_score(y, p) == expected
        assert epoch("r2", backend, p, y, sizes=[4, 2]) == expected


def test_a_batch_without_weight_adds_nothing_to_r2(backend):
    metric = metrics.R2()
    p, y = (backend.asarray(a) for a in np.random.default_rng(0).normal(size=(2, 6, 1)))
    total = metric.total(p, y, None)
    for merged in (metric.merge(total, total * 0), metric.merge(total * 0, total)):
        np.testing.assert_array_equal(backend.to_numpy(merged), backend.to_numpy(total))
    nothing = metric.merge(total * 0, total * 0)
    np.testing.assert_array_equal(backend.to_numpy(nothing), 0)


@weighed
def test_a_trainer_gives_the_metrics_of_all_rows(backend, weight):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(23, 2)), rng.integers(0, 3, 23)
    names = OF_CLASSES
    layers = [gd.Dense(3), gd.Softmax()]
    model = gd.Sequential(layers, inputs=2, backend=backend, dtype="float64")
    trainer = gd.Trainer(model, "categorical_crossentropy", gd.SGD(0.0), metrics=names)
    history = trainer.fit(x, y, batch_size=8, sample_weight=weight, validation_data=(x, y, weight))
    p = model.predict(x)
    evaluated = trainer.evaluate(x, y, batch_size=5, sample_weight=weight)
    for name in names:
        expected = scikit_learns(name, p, y, weight)
        assert history[name] == [pytest.approx(expected, rel=1e-12)]
        assert history[f"val_{name}"] == [pytest.approx(expected, rel=1e-12)]
        assert evaluated[name] == pytest.approx(expected, rel=1e-12)


def test_a_trainer_leaves_rows_of_weight_0_out_of_its_metrics(backend):
    rng = np.random.default_rng(0)
    x, y, weight = rng.normal(size=(23, 2)), rng.normal(size=23), weights()
    weight[[0, 5, 22]] = 0.0
    there = weight > 0
    x[~there] = np.nan
    names = ["mae", "mse", "rmse", "r2"]
    model = gd.Sequential([gd.Dense(1)], inputs=2, backend=backend, dtype="float64")
    trainer = gd.Trainer(model, "mse", gd.SGD(0.0), metrics=names)
    history = trainer.fit(x, y, batch_size=8, sample_weight=weight)
    p, y, weight = model.predict(x[there]), y[there], weight[there]
    expected = {
        "mae": sklearn_metrics.mean_absolute_error(y, p, sample_weight=weight),
        "mse": sklearn_metrics.mean_squared_error(y, p, sample_weight=weight),
        "rmse": sklearn_metrics.root_mean_squared_error(y, p, sample_weight=weight),
        "r2": sklearn_metrics.r2_score(y, p, sample_weight=weight),
    }
    for name in names:
        assert history[name] == [pytest.approx(expected[name], rel=1e-12)]


# Targets that are refused ---------------------------------------------------------------------


@pytest.mark.parametrize("name", OF_CLASSES)
def test_metrics_of_classes_refuse_numbers_and_rows_of_flags(backend, name):
    metric = get_metric(name)
    with pytest.raises(gd.DataError, match=r"y holds 0 to 3: for one output they are 0 and 1"):
        metric.check(backend.asarray([0.0, 3.0]), (2, 1))
    with pytest.raises(gd.DataError, match="rows of y do not sum to 1"):
        metric.check(backend.asarray([[1.0, 1.0], [0.0, 1.0]]), (2, 2))
    metric.check(backend.asarray([[1.0, 0.0], [0.0, 1.0]]), (2, 2))
    metric.check(backend.asarray([5, 0]), (2, 6))


@pytest.mark.parametrize("name", ["mae", "mse", "rmse", "r2"])
def test_metrics_of_numbers_refuse_targets_of_another_shape(backend, name):
    metric = get_metric(name)
    words = r"compares element by element, but y has shape \(3,\) while the outputs .*\(3, 2\)"
    with pytest.raises(gd.ShapeError, match=words):
        metric.check(backend.asarray([0.0, 1.0, 2.0]), (3, 2))
    metric.check(backend.asarray([0.0, 1.0, 2.0]), (3, 1))


def test_more_is_better_of_shares_and_less_of_errors():
    assert {name for name, kind in METRICS.items() if kind().more_is_better} == {
        *OF_CLASSES,
        *("r2", "top_k_accuracy"),
        *(name for name in METRICS if name.startswith(("label", "exact"))),
    }


# Ranks ----------------------------------------------------------------------------------------

SURE = {"no": [-30, -25, -20, -18], "yes": [18, 20, 25, 30], "both": [-40, -39, 39, 40]}
ENDS = {
    "sigmoid": lambda: ([gd.Dense(1), gd.Sigmoid()], "binary_crossentropy"),
    "logits": lambda: ([gd.Dense(1)], gd.BinaryCrossEntropy(from_logits=True)),
    "smoothed": lambda: ([gd.Dense(1), gd.Sigmoid()], gd.BinaryCrossEntropy(label_smoothing=0.1)),
    "softmax": lambda: ([gd.Dense(2), gd.Softmax()], "categorical_crossentropy"),
    "class logits": lambda: ([gd.Dense(2)], gd.CategoricalCrossEntropy(from_logits=True)),
}


class Seen(Metric):
    """Keeps the outputs that it is given."""

    needs_rows = True

    def total(self, prediction, y, weight):
        return prediction

    def value(self, total, weight):
        self.predictions = total
        return 0.0


def fixed(end, logits, backend):
    """Return a model whose logits are given, for rows that are one number, and its loss."""
    layers, loss = ENDS[end]()
    model = gd.Sequential(layers, inputs=1, backend=backend)
    k = layers[0].units
    model.params["dense1.W"][...] = backend.asarray([[1.0] if k == 1 else [0.0, 1.0]])
    return model, loss, np.array(logits, "float32").reshape(-1, 1)


@pytest.mark.parametrize("logits", SURE.values(), ids=SURE)
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.pairs
def test_rows_of_which_a_model_is_sure_have_their_ranks(backend, end, logits):
    model, loss, X = fixed(end, logits, backend)
    seen, y = Seen(), np.array([0, 0, 1, 1])
    chosen = {"roc_auc": get_metric("roc_auc"), "accuracy": Accuracy(), "seen": seen}
    history = model.fit(
        X, y, loss=loss, updater=gd.SGD(0.0), metrics=chosen, validation_data=(X, y), batch_size=3
    )
    assert history["roc_auc"] == history["val_roc_auc"] == [1.0]
    found = model.evaluate(X, y)
    assert found["roc_auc"] == 1.0
    assert model.evaluate(X, 1 - y)["roc_auc"] == 0.0
    # What does not rank sees probabilities, as ever.
    assert (
        found["accuracy"]
        == {"no": 0.5, "yes": 0.5, "both": 1.0}[
            next(name for name, each in SURE.items() if each is logits)
        ]
    )
    np.testing.assert_allclose(seen.predictions[:, -1], special.expit(logits), rtol=1e-6)


@pytest.mark.parametrize("k", [2, 3, 6])
@pytest.mark.parametrize("scale", [1, 30, 1e4])
def test_scores_of_classes_are_their_log_odds(backend, k, scale):
    z = (np.random.default_rng(0).normal(size=(50, k)) * scale).round().astype("float32")
    z[:5] = 0
    loss = gd.CategoricalCrossEntropy(from_logits=True)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        scores = backend.to_numpy(loss.scores(backend.asarray(z)))
    others = [np.delete(z, j, axis=1).astype("longdouble") for j in range(k)]
    exact = np.stack([z[:, j] - special.logsumexp(others[j], axis=1) for j in range(k)], axis=1)
    assert scores.dtype == "float64"
    np.testing.assert_allclose(scores, exact.astype(float), rtol=1e-14, atol=1e-14)


def test_several_classes_are_ranked_where_probabilities_round(backend):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, size=200)
    z = (30 * np.eye(3)[y] + rng.normal(size=(200, 3)) * 20).astype("float32")
    model = gd.Sequential([gd.Softmax()], inputs=3, backend=backend)
    trainer = gd.Trainer(model, "categorical_crossentropy", "sgd", metrics=["roc_auc"])
    odds = [z[:, j] - special.logsumexp(np.delete(z, j, 1).astype(float), axis=1) for j in range(3)]
    exact = np.mean([sklearn_metrics.roc_auc_score(y == j, odds[j]) for j in range(3)])
    rounded = sklearn_metrics.roc_auc_score(y, special.softmax(z, axis=1), multi_class="ovr")
    assert trainer.evaluate(z, y)["roc_auc"] == pytest.approx(exact, rel=1e-14)
    assert abs(rounded - exact) > 1e-4


def test_infinite_logits_have_a_rank_too():
    total = metrics.RocAuc().total(
        np.array([[-np.inf], [np.inf], [3.0]]), np.array([0, 1, 0]), None
    )
    assert metrics.RocAuc().value(total, 3.0) == 1.0


# Custom metrics, and names --------------------------------------------------------------------


def test_an_epoch_of_unequal_batches_is_weighted_by_rows(backend):
    X = np.arange(7.0).reshape(-1, 1)
    y = np.array([0.0] * 6 + [70.0])
    model = gd.Sequential([gd.Dense(1, "zeros")], inputs=1, backend=backend)
    history = model.fit(
        X, y, loss="mse", updater=gd.SGD(0.0), batch_size=3, metrics=["mae"], shuffle=False
    )
    assert history["mae"] == [pytest.approx(10.0)]  # the mean of means, 0, 0 and 70, is 23.3
    assert history["loss"] == [pytest.approx(700.0)]


class TopTwo(Metric):
    """The one method that a custom metric needs."""

    def per_example(self, prediction, y):
        return (prediction.argsort(axis=1)[:, -2:] == y.reshape(-1, 1)).any(axis=1) * 1.0


def test_a_metric_of_ones_own_needs_one_method():
    with pytest.raises(NotImplementedError, match=r"Metric must define per_example\(prediction, y"):
        Metric().per_example(np.ones((1, 1)), np.ones(1))
    with pytest.raises(NotImplementedError, match="Counted must define of_counts"):
        metrics.Counted().value(np.ones((3, 2)), 2.0)
    X, y = np.eye(3), np.arange(3)
    model = gd.Sequential([gd.Dense(3)], inputs=3)
    loss = gd.CategoricalCrossEntropy(from_logits=True)
    history = model.fit(X, y, loss=loss, metrics=["accuracy", TopTwo()])
    assert set(history) >= {"accuracy", "top_two"}
    assert history["top_two"][0] >= history["accuracy"][0]


def test_names_and_objects_give_the_keys_of_the_history():
    chosen = get_metrics(["mean_absolute_error", "accuracy", TopTwo()])
    assert list(chosen) == ["mean_absolute_error", "accuracy", "top_two"]
    assert get_metrics(chosen) == chosen
    metric = Accuracy()
    assert get_metric(metric) is metric
    assert get_metrics([metric]) == {"accuracy": metric}
    assert get_metrics([]) == {}


def test_an_unknown_name_is_refused_with_the_known_ones():
    for which in ("acc", None, Accuracy):
        known = r"unknown metric .*'accuracy', .*'f1', .*'mae', .*'mse'"
        with pytest.raises(ValueError, match=known):
            get_metric(which)


def test_one_name_in_place_of_a_list_is_refused_and_not_read_by_letters():
    for one, shown in (("mae", "'mae'"), (Accuracy(), r"Accuracy\(\)")):
        with pytest.raises(TypeError, match=rf"metrics must be a list, \[{shown}\], not"):
            get_metrics(one)


def test_classes_give_the_keys_that_are_their_names():
    for name in ("accuracy", "precision", "recall", "f1", "roc_auc", "average_precision", "r2"):
        assert list(get_metrics([METRICS[name]()])) == [name]
    for name in ("mean_absolute_error", "mean_squared_error", "root_mean_squared_error"):
        assert list(get_metrics([METRICS[name]()])) == [name]
        short = "".join(word[0] for word in name.split("_"))
        assert METRICS[short] is METRICS[name]


class Seconds(TopTwo):
    """Would take the place of a column that a history has."""


class ValLoss(TopTwo):
    """Would take the place of the loss of a validation."""


@pytest.mark.parametrize("metric", [Seconds(), ValLoss()])
def test_a_metric_that_a_history_would_confuse_is_refused(metric):
    words = r"the history already has a column '.*'.*metrics={'another': ...}"
    with pytest.raises(ValueError, match=words):
        get_metrics([metric])
    assert list(get_metrics({"another": metric})) == ["another"]


@pytest.mark.parametrize("name", ["loss", "seconds", "updates", "val_r2"])
def test_a_name_that_a_history_has_is_refused_in_a_dict_too(name):
    with pytest.raises(ValueError, match=f"the history already has a column '{name}'"):
        get_metrics({name: "r2"})


@pytest.mark.parametrize("key", [1, None, Accuracy(), ("r2",)])
def test_a_key_that_is_no_name_is_refused(key):
    with pytest.raises(TypeError, match="the keys of metrics must be names"):
        get_metrics({key: "r2"})


def test_a_dict_names_metrics_given_by_name_or_as_objects():
    metric = TopTwo()
    found = get_metrics({"error": "mae", "r2": "r2", "mine": metric, "again": metric})
    assert [type(m).__name__ for m in found.values()] == [
        "MeanAbsoluteError",
        "R2",
        "TopTwo",
        "TopTwo",
    ]
    assert list(found) == ["error", "r2", "mine", "again"]
    with pytest.raises(ValueError, match=r"unknown metric 'r3'.*'accuracy'"):
        get_metrics({"r2": "r3"})


NAMED = {"r2": "r2", "how good / of it": metrics.R2(), "Fehler.größe": "mae", "rmse": "rmse"}


def test_a_dict_names_the_columns_of_a_history_wherever_metrics_are_taken(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(95, 3))
    y = X @ [1.0, -2.0, 0.5] + 0.1 * rng.normal(size=95)

    def model():
        return gd.Sequential([gd.Dense(1)], inputs=3)

    settings = {"batch_size": 10, "epochs": 3, "validation_data": (X, y)}
    fitted = model()
    history = fitted.fit(X, y, loss="mse", metrics=NAMED, **settings)
    plain = model().fit(X, y, loss="mse", metrics=["r2", "mae", "rmse"], **settings)
    for name, usual in zip(NAMED, ["r2", "r2", "mae", "rmse"], strict=True):
        assert history[name] == plain[usual]
        assert history[f"val_{name}"] == plain[f"val_{usual}"]
    assert set(fitted.evaluate(X, y)) == {"loss", *NAMED}
    fitted.save(tmp_path / "model.npz")
    assert gd.load(tmp_path / "model.npz").evaluate(X, y) == fitted.evaluate(X, y)

    # A run that was saved in the middle of an epoch continues with them.
    batches = gd.Batches(X, y, batch_size=10, shuffle=True)
    whole = gd.Trainer(model(), "mse", "adam", metrics=NAMED)
    expected = whole.fit(batches, epochs=3)
    broken = gd.Trainer(model(), "mse", "adam", metrics=NAMED)

    def stop(event):
        if event.name == "update" and event.trainer.updates == 14:
            event.trainer.stop()

    broken.fit(batches, epochs=3, callbacks=[stop])
    broken.save(tmp_path / "run.npz")
    again = gd.Trainer.resume(tmp_path / "run.npz", batches)
    assert list(again.metrics) == list(NAMED)
    found = again.fit(until_epoch=3)
    for name in NAMED:
        assert found[name] == expected[name]
    stopping = gd.EarlyStopping(monitor="val_how good / of it", patience=1)
    model().fit(X, y, loss="mse", metrics=NAMED, callbacks=[stopping], **settings)


class OneNumber(Metric):
    """Returns a mean where a number for each row is asked for."""

    def per_example(self, prediction, y):
        return np.float64(0.5)


class Column(Metric):
    """Returns a column, which would be broadcast against the weights."""

    def per_example(self, prediction, y):
        return abs(prediction - y.reshape(-1, 1))


@pytest.mark.parametrize(("metric", "shape"), [(OneNumber(), r"\(\)"), (Column(), r"\(4, 1\)")])
@pytest.mark.parametrize("weight", [None, np.ones(4)])
def test_a_metric_that_gives_no_number_for_each_row_is_named(metric, shape, weight):
    words = (
        rf"per_example must return a number for each row, shape \(4,\), and returned shape {shape}"
    )
    with pytest.raises(gd.ShapeError, match=words):
        metric.total(np.ones((4, 1)), np.ones(4), weight)


def test_two_metrics_of_one_name_are_refused():
    with pytest.raises(ValueError, match=r"two metrics have the name 'mae'.*other names"):
        get_metrics(["mae", "mae"])


def test_rows_that_a_metric_keeps_are_its_own():
    class Median(Metric):
        needs_rows = True

        def total(self, prediction, y, weight):
            return prediction

        def value(self, total, weight):
            return float(np.median(total))

    X = np.random.default_rng(0).normal(size=(95, 3))
    found = [
        gd.Sequential([gd.Dense(1)], inputs=3).fit(
            X, X[:, 0], loss="mse", metrics=[Median()], epochs=3, batch_size=10, reuse_buffers=reuse
        )["median"]
        for reuse in (True, False)
    ]
    assert found[0] == found[1]


@pytest.mark.parametrize("name", ["f1", "precision", "roc_auc"])
def test_a_refusal_of_numbers_names_the_metric(name):
    X = np.random.default_rng(0).normal(size=(20, 3))
    with pytest.raises(gd.DataError, match=f"^{name} is for classes"):
        gd.Sequential([gd.Dense(1)], inputs=3).fit(X, 9 * X[:, 0], loss="mse", metrics=[name])
