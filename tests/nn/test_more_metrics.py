"""Log loss, top k, relative and median errors, and the metrics of several labels: scikit-learn's.

Each is computed over all weighted rows of an epoch, for any batches.
"""

import numpy as np
import pytest
from scipy import special
from sklearn import metrics as sk

import minigd as gd
from minigd.nn import metrics
from minigd.nn.metrics import get_metric
from minigd.training.epoch_totals import Totals

N = 23
WEIGHT = np.random.default_rng(9).uniform(0.1, 3.0, N)
weighed = pytest.mark.parametrize("weight", [None, WEIGHT], ids=["", "weighted"])
cut = pytest.mark.parametrize("sizes", [(23,), (10, 10, 3), (1,) * 23], ids=["one", "tail", "rows"])


def rng(seed=0):
    return np.random.default_rng(seed)


def epoch(which, backend, prediction, y, weight=None, sizes=(N,), dtype="float64"):
    """Return a metric of all rows, from its totals of batches."""
    metric = get_metric(which)
    totals, start = Totals({"metric": metric}), 0
    for size in sizes:
        part = slice(start, start + size)
        start += size
        w = None if weight is None else backend.asarray(weight[part])
        z = backend.asarray(prediction[part], dtype=dtype)
        metric.check(backend.asarray(y[part]), z.shape)
        total = metric.total(z, backend.asarray(y[part]), w)
        totals.add({"metric": total}, float(size if weight is None else weight[part].sum()))
    return totals.means(backend)["metric"]


def classes(k):
    """Return probabilities of k classes, some tied, and the classes."""
    y = np.arange(N) % k
    z = (rng(k).normal(size=(N, k)) + np.eye(k)[y]).round(1)
    return special.softmax(z, axis=1), y


# Probabilities ----------------------------------------------------------------------------------


@weighed
@cut
@pytest.mark.parametrize("k", [1, 2, 4])
@pytest.mark.pairs
def test_log_loss_is_scikit_learns(backend, k, sizes, weight):
    p, y = classes(max(k, 2))
    p[0] = np.eye(max(k, 2))[1]  # sure and wrong
    expected = sk.log_loss(y, p, sample_weight=weight, labels=range(max(k, 2)))
    given = [y, y.reshape(-1, 1), y.astype("uint8")] + ([np.eye(k)[y]] if k > 1 else [y == 1])
    for targets in given:
        found = epoch("log_loss", backend, p[:, -1:] if k == 1 else p, targets, weight, sizes)
        assert found == pytest.approx(expected, rel=1e-12)


def test_log_loss_of_what_is_no_probability_is_no_number(backend):
    assert np.isnan(epoch("log_loss", backend, np.full((N, 1), 1.5), np.ones(N)))
    assert np.isnan(epoch("log_loss", backend, np.full((N, 2), -0.5), np.ones(N, int)))
    with pytest.raises(gd.DataError, match="log_loss is for classes"):
        epoch("log_loss", backend, np.full((N, 1), 0.5), np.full(N, 2.0))


@weighed
@cut
@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.pairs
def test_top_k_is_scikit_learns(backend, k, sizes, weight):
    p, y = classes(4)
    expected = sk.top_k_accuracy_score(y, p, k=k, sample_weight=weight)
    assert 0 < expected < 1
    for targets in (y, y.reshape(-1, 1), np.eye(4)[y]):
        for which in (metrics.TopKAccuracy(k), f"top_{k}_accuracy"):
            found = epoch(which, backend, p, targets, weight, sizes)
            assert found == pytest.approx(expected, rel=1e-12)


def test_of_equal_outputs_the_later_class_comes_first(backend):
    p, y = np.full((N, 3), 1 / 3), np.arange(N) % 3
    for k in (1, 2):
        expected = sk.top_k_accuracy_score(y, p, k=k)
        assert epoch(metrics.TopKAccuracy(k), backend, p, y) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("k", "width"), [(2, 1), (3, 3), (5, 4), (2, 2)])
def test_a_k_that_is_always_right_is_refused(k, width):
    with pytest.raises(gd.ShapeError, match=rf"TopKAccuracy\({k}\) is always 1 for"):
        metrics.TopKAccuracy(k).check(np.zeros(4, int), (4, width))


# Errors -----------------------------------------------------------------------------------------


@weighed
@cut
@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.pairs
def test_relative_and_median_errors_are_scikit_learns(backend, k, sizes, weight):
    y = rng().normal(size=(N, k)) + 3
    p = y + rng(1).normal(size=(N, k))
    for targets in [y] if k > 1 else [y, y[:, 0]]:
        expected = sk.mean_absolute_percentage_error(y, p, sample_weight=weight)
        assert epoch("mape", backend, p, targets, weight, sizes) == pytest.approx(
            expected, rel=1e-12
        )
        found = epoch("median_absolute_error", backend, p, targets, weight, sizes)
        expected = sk.median_absolute_error(y, p)
        if weight is not None:
            # A row with a weight is as many rows.
            times = np.maximum(1, (10 * weight).astype(int))
            found = epoch("median_absolute_error", backend, p, targets, times * 0.7, sizes)
            expected = sk.median_absolute_error(*(np.repeat(a, times, axis=0) for a in (y, p)))
        assert found == pytest.approx(expected, rel=1e-12)


def test_a_target_of_0_counts_as_the_smallest_there_is(backend):
    p, y = np.ones((N, 1)), np.zeros(N)
    expected = sk.mean_absolute_percentage_error(y, p[:, 0])
    assert epoch("mape", backend, p, y) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("even", [2, 8])
def test_the_median_of_an_even_number_is_the_middle_of_two(backend, even):
    p, y = np.arange(1.0, even + 1).reshape(-1, 1), np.zeros(even)
    for weight in (None, np.full(even, 0.1)):
        found = epoch("median_absolute_error", backend, p, y, weight, (even - 1, 1))
        assert found == (even + 1) / 2


# Labels -----------------------------------------------------------------------------------------


def labels(k=3):
    """Return probabilities of labels and the labels, of which the last is never 1 nor chosen."""
    y = (rng(5).uniform(size=(N, k)) < 0.4).astype(int)
    p = (0.4 * y + rng(6).uniform(0, 0.6, (N, k))).round(2)
    y[:3], p[:3] = 0, 0.1  # rows without a label
    return p, y


@weighed
@cut
@pytest.mark.parametrize("dtype", [int, bool, "float32"])
@pytest.mark.pairs
def test_the_accuracy_of_labels_is_scikit_learns(backend, sizes, weight, dtype):
    p, y = labels()
    exact = sk.accuracy_score(y, p > 0.5, sample_weight=weight)
    each = np.mean(
        [sk.accuracy_score(y[:, j], p[:, j] > 0.5, sample_weight=weight) for j in range(3)]
    )
    for name, expected in (("exact_match", exact), ("label_accuracy", each)):
        found = epoch(name, backend, p, y.astype(dtype), weight, sizes)
        assert found == pytest.approx(expected, rel=1e-12)


@weighed
@cut
@pytest.mark.parametrize("average", ["macro", "micro", "samples"])
@pytest.mark.parametrize("name", ["precision", "recall", "f1"])
@pytest.mark.pairs
def test_counts_of_labels_are_scikit_learns(backend, name, average, sizes, weight):
    p, y = labels(4)
    y[:, 3], p[:, 3] = 0, 0.2  # a label that is nowhere
    kind = {"precision": "LabelPrecision", "recall": "LabelRecall", "f1": "LabelF1"}[name]
    metric = getattr(metrics, kind)(average)
    expected = getattr(sk, f"{name}_score")(
        y, p > 0.5, average=average, sample_weight=weight, zero_division=0
    )
    found = epoch(metric, backend, p, y, weight, sizes)
    assert found == pytest.approx(expected, rel=1e-12)
    if average == "macro":
        assert found == epoch(f"label_{name}", backend, p, y, weight, sizes)


@weighed
@cut
def test_areas_of_labels_are_scikit_learns(backend, sizes, weight):
    p, y = labels()
    for name, function in (
        ("label_roc_auc", sk.roc_auc_score),
        ("label_average_precision", sk.average_precision_score),
    ):
        expected = function(y, p, average="macro", sample_weight=weight)
        found = epoch(name, backend, p, y, weight, sizes)
        assert found == pytest.approx(expected, rel=1e-12)
        assert np.isnan(epoch(name, backend, p, np.minimum(y, [1, 0, 1]), weight, sizes))


LABELS = ["exact_match", "label_accuracy", "label_precision", "label_recall", "label_f1"]
LABELS += ["label_roc_auc", "label_average_precision"]


@pytest.mark.parametrize("name", LABELS)
def test_what_is_no_row_of_labels_is_refused(name):
    metric = get_metric(name)
    words = f"{name} is for several yes-or-no labels per row.*use 'accuracy'"
    for y, shape in ((np.zeros(4, int), (4, 3)), (np.zeros(4), (4, 1))):
        with pytest.raises(gd.ShapeError, match=words):
            metric.check(y, shape)
    with pytest.raises(gd.DataError, match="labels 0 and 1, and y holds 0 to 2"):
        metric.check(np.array([[0, 2], [1, 0]]), (2, 2))


def test_the_error_of_a_metric_of_classes_names_those_of_labels():
    with pytest.raises(gd.DataError, match="'label_accuracy', 'exact_match', 'label_f1'"):
        get_metric("accuracy").check(np.ones((4, 3)), (4, 3))


def test_labels_are_measured_while_a_model_trains_and_after_it_was_saved(tmp_path):
    X = rng().normal(size=(60, 3))
    y = (X > 0.2).astype(int)
    model = gd.Sequential([gd.Dense(3), gd.Sigmoid()], inputs=3)
    chosen = {**{name: name for name in LABELS}, "samples": metrics.LabelF1("samples")}
    updater = gd.Adam(0.1)
    history = model.fit(
        X, y, loss="binary_crossentropy", updater=updater, epochs=30, metrics=chosen
    )
    assert history["label_roc_auc"][-1] > 0.95
    for name in chosen:
        assert history[name][0] < history[name][-1] <= 1, name
    model.save(tmp_path / "m.npz")
    assert gd.load(tmp_path / "m.npz").evaluate(X, y) == model.evaluate(X, y)


def test_an_average_that_is_none_is_refused():
    with pytest.raises(ValueError, match="average must be"):
        metrics.LabelF1("weighted")
