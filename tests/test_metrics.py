"""Metrics: a number for each row, against scikit-learn, whatever the shape of the targets.

They are means over rows, so that a short last batch counts by its rows.
"""

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

import minigd as gd
from minigd.metrics import METRICS, Accuracy, Metric, get_metric, get_metrics


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


def test_neither_predictions_nor_targets_are_modified(backend):
    for name in METRICS:
        host = np.array([[0.2, 0.8], [0.6, 0.4]]), np.eye(2)
        arrays = [backend.asarray(a.copy()) for a in host]
        get_metric(name).per_example(*arrays)
        for array, expected in zip(arrays, host, strict=True):
            np.testing.assert_array_equal(backend.to_numpy(array), expected)


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
    """Takes the one method that a metric of one's own needs."""

    def per_example(self, prediction, y):
        return (prediction.argsort(axis=1)[:, -2:] == y.reshape(-1, 1)).any(axis=1) * 1.0


def test_a_metric_of_ones_own_needs_one_method():
    with pytest.raises(NotImplementedError, match=r"Metric must define per_example\(prediction, y"):
        Metric().per_example(np.ones((1, 1)), np.ones(1))
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
        with pytest.raises(ValueError, match=r"unknown metric .*'accuracy', 'mae', .*'mse'"):
            get_metric(which)


def test_one_name_in_place_of_a_list_is_refused_and_not_read_by_letters():
    with pytest.raises(TypeError, match=r"metrics is a list of names, \['mae'\], and not one name"):
        get_metrics("mae")
