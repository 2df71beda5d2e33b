"""The sums of an epoch: means by weight, and a state from which they continue to the same bits.

`test_metrics` compares the metrics with scikit-learn.
"""

import json

import numpy as np
import pytest
from oracles import strict_cupy

import minigd as gd
from minigd.nn import metrics
from minigd.nn.metrics import METRICS, Difference, get_metrics
from minigd.training.epoch_totals import Totals

NUMBER_BY_NUMBER = Difference, metrics.LabelAccuracy, metrics.LabelCounted, metrics.LabelRanked
NAMES = ["accuracy", "f1", "roc_auc"], ["mae", "rmse", "r2"]
both = pytest.mark.parametrize("names", NAMES, ids=["classes", "numbers"])


def parts(names, backend, weighted, sizes=(5, 5, 4, 5, 2)):
    """Return the loss and metrics of batches, and their weights."""
    rng = np.random.default_rng(3)
    chosen = get_metrics(names)
    found = []
    for size in sizes:
        p, y = rng.uniform(size=(size, 1)), rng.integers(0, 2, size)
        weight = rng.uniform(0.5, 2.0, size) if weighted else np.ones(size)
        given = backend.asarray(weight) if weighted else None
        arrays = backend.asarray(p), backend.asarray(y)
        totals = {name: metric.total(*arrays, given) for name, metric in chosen.items()}
        loss = backend.asarray(np.float64(rng.uniform())) * weight.sum()
        found.append(({"loss": loss, **totals}, backend.asarray(np.float64(weight.sum()))))
    return found


def test_the_mean_loss_is_weighted():
    totals = Totals({})
    for loss, weight in ((2.0, 500.0), (1.0, 500.0), (7.0, 300.0)):
        totals.add({"loss": loss * weight}, weight)
    assert totals.means() == {"loss": pytest.approx((1000 + 500 + 2100) / 1300, rel=1e-15)}
    assert totals.weight == 1300.0


def test_nothing_is_known_of_no_rows():
    totals = Totals(get_metrics(["r2"]))
    assert totals.means() == {}
    assert totals.state_dict() == {"weight": 0.0, "sums": {}}
    # Nor of batches that a GPU's guard has masked, whose totals are all 0.
    totals.add({"loss": 0.0, "r2": np.zeros((4, 1))}, 0.0)
    assert totals.means() == {}


@both
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("after", [0, 1, 3, 5])
def test_sums_that_were_saved_go_on_to_the_same_bits(backend, names, weighted, after):
    whole, before = Totals(get_metrics(names)), Totals(get_metrics(names))
    batches = parts(names, backend, weighted)
    for batch in batches:
        whole.add(*batch)
    for batch in batches[:after]:
        before.add(*batch)
    state = before.state_dict(backend)
    again = Totals(get_metrics(names))
    again.load_state_dict(state, backend)
    for batch in batches[after:]:
        again.add(*batch)
    assert again.means(backend) == whole.means(backend)
    one, other = again.state_dict(backend), whole.state_dict(backend)
    assert one["weight"] == other["weight"]
    for name in ["loss", *names]:
        np.testing.assert_array_equal(one["sums"][name], other["sums"][name])


@both
def test_a_state_is_numbers_and_arrays_on_the_host(backend, names):
    totals = Totals(get_metrics(names))
    for batch in parts(names, backend, weighted=True):
        totals.add(*batch)
    state = totals.state_dict(backend)
    assert type(state["weight"]) is float
    assert list(state["sums"]) == ["loss", *names]
    for value in state["sums"].values():
        assert type(value) in (float, np.ndarray)
        json.dumps(np.asarray(value).tolist())


@both
def test_a_state_is_not_changed_by_what_comes_later(backend, names):
    totals = Totals(get_metrics(names))
    batches = parts(names, backend, weighted=True)
    totals.add(*batches[0])
    state = totals.state_dict(backend)
    before = {name: np.array(value) for name, value in state["sums"].items()}
    for batch in batches[1:]:
        totals.add(*batch)
    for name, value in before.items():
        np.testing.assert_array_equal(state["sums"][name], value)


def test_rows_are_put_together_in_their_order(backend):
    totals = Totals(get_metrics(["roc_auc"]))
    batches = parts(["roc_auc"], backend, weighted=True)
    for batch in batches:
        totals.add(*batch)
    rows = totals.state_dict(backend)["sums"]["roc_auc"]
    expected = np.concatenate([backend.to_numpy(batch["roc_auc"]) for batch, _ in batches])
    np.testing.assert_array_equal(rows, expected)
    assert rows.dtype == np.float64


def test_sums_of_other_metrics_are_refused():
    totals = Totals(get_metrics(["mae"]))
    totals.add({"loss": 1.0, "mae": 2.0}, 3.0)
    state = totals.state_dict()
    for names in ([], ["mse"], ["mae", "mse"]):
        with pytest.raises(gd.CheckpointError, match=r"the sums in the file are \['loss', 'mae'\]"):
            Totals(get_metrics(names)).load_state_dict(state, gd.get_backend())
    # Of an epoch that has not begun there are none yet.
    fresh = Totals(get_metrics(["mse"]))
    fresh.load_state_dict(Totals({}).state_dict(), gd.get_backend())
    assert fresh.means() == {}


def test_adding_asks_nothing_of_a_gpu(stand_in):
    names = [name for name in METRICS if name != "accuracy"]
    batches = parts(names, stand_in, weighted=True)
    totals = Totals(get_metrics(names))
    with strict_cupy.counting_host_reads() as reads:
        for batch in batches:
            totals.add(*batch)
    assert reads.count == 0


def test_measuring_asks_nothing_of_a_gpu(stand_in):
    p = stand_in.asarray(np.random.default_rng(0).uniform(size=(6, 3)))
    classes, rows = stand_in.asarray(np.arange(6) % 3), stand_in.asarray(np.eye(3)[[0, 1, 2] * 2])
    weight = stand_in.asarray(np.arange(1.0, 7.0))
    with strict_cupy.counting_host_reads() as reads:
        for kind in set(METRICS.values()):
            for y in [rows] if issubclass(kind, NUMBER_BY_NUMBER) else [classes, rows]:
                kind().total(p, y, None)
                kind().total(p, y, weight)
    assert reads.count == 0
