"""Weights of rows and of classes: what is accepted or refused, and scikit-learn's "balanced".

Their effect on losses, gradients and metrics is tested with those.
"""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight

import minigd as gd
from minigd.data.row_weights import (
    balance,
    check_class_weight,
    check_weights,
    drop_zero_weights,
    labels,
    of_classes,
    row_scale,
    take_rows,
    weigh_batches,
)

# Weights of rows ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "weight",
    [
        [1, 0, 2],
        (1.0, 0.0, 2.0),
        np.array([1, 0, 2], dtype="int8"),
        np.array([1, 0, 2], dtype="float32"),
        pd.Series([1, 0, 2], index=[7, 8, 9]),
        np.array([9, 1, 9, 0, 9, 2])[1::2],
    ],
    ids=["list", "tuple", "int8", "float32", "series", "strided"],
)
@pytest.mark.parametrize("rows", [3, None])
def test_weights_become_float64_on_the_host(weight, rows):
    taken = check_weights(weight, rows)
    assert type(taken) is np.ndarray
    assert taken.dtype == np.float64
    np.testing.assert_array_equal(taken, [1.0, 0.0, 2.0])


def test_weights_come_from_any_device(backend):
    taken = check_weights(backend.asarray([1, 0, 2]), 3)
    assert type(taken) is np.ndarray
    np.testing.assert_array_equal(taken, [1.0, 0.0, 2.0])


def test_truth_values_choose_rows():
    np.testing.assert_array_equal(check_weights([True, False, True], 3), [1.0, 0.0, 1.0])


def test_what_is_taken_is_the_callers_no_longer():
    weight = np.array([1.0, 2.0])
    taken = check_weights(weight, 2)
    weight[0] = 5.0
    np.testing.assert_array_equal(taken, [1.0, 2.0])


@pytest.mark.parametrize(
    ("weight", "rows", "words"),
    [
        ([1.0, 2.0], 3, r"sample_weight has shape \(2,\): .* shape \(3,\)"),
        ([[1.0], [2.0]], 2, r"sample_weight has shape \(2, 1\): .* shape \(2,\)"),
        (1.0, 2, r"sample_weight has shape \(\)"),
        ([[1.0, 2.0]], None, r"sample_weight has shape \(1, 2\): .* shape \(rows,\)"),
    ],
)
def test_a_weight_for_each_row_is_asked_for(weight, rows, words):
    with pytest.raises(gd.ShapeError, match=words):
        check_weights(weight, rows)


@pytest.mark.parametrize(
    ("weight", "words"),
    [
        ([1.0, -0.5], r"sample_weight holds -0\.5 at row 1"),
        ([1.0, -0.5, 1.0, -7.0], r"sample_weight holds -0\.5 at row 1 \(counted from 0\)"),
        ([1.0, np.nan], "sample_weight holds nan at row 1"),
        ([1.0, 1.0, np.inf], "sample_weight holds inf at row 2"),
        ([0.0, 0.0], "all of sample_weight is 0: there is nothing to train on"),
        ([], "all of sample_weight is 0"),
        (["a", "b"], "sample_weight must hold numbers"),
        ([1.0, None], "sample_weight must hold numbers"),
        ([1j, 1.0], "sample_weight must hold numbers"),
    ],
)
def test_what_is_no_weight_is_refused(weight, words):
    with pytest.raises(gd.DataError, match=words):
        check_weights(weight, None)


weights = st.lists(st.sampled_from([0.0, 0.5, 1.0, 3.0]), min_size=1, max_size=12)


@given(weights, st.integers(0, 3))
def test_rows_of_weight_0_go_from_every_array_and_from_the_row_numbers(given_weights, seed):
    weight, rng = np.array(given_weights), np.random.default_rng(seed)
    x, y = rng.normal(size=(len(weight), 2)), rng.integers(0, 9, len(weight))
    kept = [i for i, w in enumerate(given_weights) if w != 0]
    for numbers in (slice(7, 7 + len(weight)), np.arange(7, 7 + len(weight))):
        found = drop_zero_weights(weight, np.asfortranarray(x), y, None, numbers)
        assert found[0].tolist() == [w for w in given_weights if w != 0]
        assert found[1].tolist() == [x[i].tolist() for i in kept]
        assert found[2].tolist() == [y[i] for i in kept]
        assert found[3] is None
        rows = found[4]
        rows = list(range(rows.start, rows.stop)) if isinstance(rows, slice) else rows.tolist()
        assert rows == [7 + i for i in kept]


def test_where_all_rows_count_nothing_is_copied():
    x = np.ones((3, 2))
    for weight in (None, np.array([1.0, 2.0, 3.0])):
        assert drop_zero_weights(weight, x)[1] is x
    assert take_rows(x, None) is x


def test_rows_are_taken_where_they_live(backend):
    x = backend.asarray(np.arange(6.0).reshape(3, 2))
    _, taken = drop_zero_weights(np.array([1.0, 0.0, 1.0]), x)
    assert backend.holds(taken)
    np.testing.assert_array_equal(backend.to_numpy(taken), [[0, 1], [4, 5]])


@given(
    sizes=st.lists(st.sampled_from([1, 7, 8, 9, 100, 129, 1000]), min_size=1, max_size=9),
    zeros=st.sampled_from([0.0, 0.1, 0.6, 1.0]),
    order=st.sampled_from([0, 1, 8, 90]),
    seed=st.integers(0, 99),
)
def test_batches_are_weighed_together_as_each_is_alone(sizes, zeros, order, seed):
    rng = np.random.default_rng(seed)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    # The remaining rows belong to no batch.
    weight = 10.0 ** rng.uniform(-order, order, size=starts[-1] + 2)
    weight[rng.random(len(weight)) < zeros] = 0
    found = weigh_batches(weight, starts)
    for k, (first, last) in enumerate(itertools.pairwise(starts.tolist())):
        own = slice(found.starts[k], found.starts[k + 1])
        alone, rows = drop_zero_weights(weight[first:last], np.arange(first, last))
        np.testing.assert_array_equal(found.kept[own], rows)
        np.testing.assert_array_equal(found.weight[own], alone)
        assert found.totals[k] == alone.sum()
        if len(alone):
            np.testing.assert_array_equal(found.scale[own], row_scale(alone))


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=20), st.integers(0, 3))
def test_the_mean_of_scaled_rows_is_the_weighted_mean(given_weights, seed):
    each = np.random.default_rng(seed).normal(size=len(given_weights))
    scaled = (row_scale(np.array(given_weights)) * each).mean()
    assert scaled == pytest.approx(np.average(each, weights=given_weights), rel=1e-9, abs=1e-12)
    assert row_scale(None) is None


# Classes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["int64", "uint8", "float32", "bool"])
def test_labels_are_the_class_of_each_row_in_any_form(backend, dtype):
    classes = np.array([1, 0, 0, 1])
    for y in (classes, classes.reshape(-1, 1), np.eye(2)[classes], np.eye(3)[classes]):
        found = labels(backend.asarray(y.astype(dtype)))
        assert type(found) is np.ndarray
        assert found.dtype == np.int64
        np.testing.assert_array_equal(found, classes)


@pytest.mark.parametrize(
    ("y", "words"),
    [
        ([0.0, 0.5], r"classes, which are integers, but y holds 0\.5"),
        ([1.0, np.nan], "integers, but y holds nan"),
        ([1.0, np.inf], "integers, but y holds inf"),
        ([[0.3, 0.7], [0.0, 1.0]], "the rows of y are not one-hot"),
        ([[1.0, 1.0], [0.0, 1.0]], "the rows of y are not one-hot"),
        ([[0.0, 0.0], [0.0, 1.0]], "the rows of y are not one-hot"),
    ],
)
def test_targets_that_are_no_classes_are_refused(backend, y, words):
    with pytest.raises(gd.DataError, match=words):
        labels(backend.asarray(y))


@pytest.mark.parametrize(
    ("y", "classes"),
    [([0, 0, 0, 1], 2), ([2, 0, 1, 1, 1, 2, 2, 2], 3), ([5, 5, 3], 2), ([4], 1)],
)
def test_balanced_weights_are_scikit_learns(y, classes):
    y = np.array(y)
    kinds, counts = np.unique(y, return_counts=True)
    table = balance(dict(zip(kinds.tolist(), counts.tolist(), strict=True)))
    assert len(table) == classes
    expected = compute_class_weight("balanced", classes=kinds, y=y)
    np.testing.assert_allclose([table[kind] for kind in kinds.tolist()], expected, rtol=1e-15)
    expected = compute_sample_weight("balanced", y)
    np.testing.assert_allclose(of_classes(y, table), expected, rtol=1e-15)


def test_balanced_weights_let_classes_count_the_same():
    totals = {0: 12.5, 1: 0.5, 7: 3.0, 8: 0.0}
    table = balance(totals)
    assert set(table) == {0, 1, 7}  # a class without weight gets none
    shares = [totals[kind] * weight for kind, weight in table.items()]
    np.testing.assert_allclose(shares, np.full(3, 16.0 / 3), rtol=1e-15)
    assert balance({}) == {}


def test_a_class_that_is_not_in_the_table_counts_1():
    weight = of_classes(np.array([3, 0, 3, 1]), {3: 0.25, 1: 0.0, 9: 4.0})
    np.testing.assert_array_equal(weight, [0.25, 1.0, 0.25, 0.0])
    np.testing.assert_array_equal(of_classes(np.array([2]), {}), [1.0])


def test_class_weights_become_plain_numbers():
    taken = check_class_weight({np.int64(0): np.float32(0.5), True: 2})
    assert taken == {0: 0.5, 1: 2.0}
    assert {type(kind) for kind in taken} == {int}
    assert {type(value) for value in taken.values()} == {float}
    assert check_class_weight("balanced") == "balanced"


@pytest.mark.parametrize("given", ["Balanced", [1.0, 2.0], 3.0, None, np.array([1.0, 2.0])])
def test_what_is_no_class_weight_is_refused(given):
    with pytest.raises(TypeError, match="class_weight must be a dict from class to weight"):
        check_class_weight(given)


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
def test_a_class_weight_is_at_least_0_and_finite(value):
    with pytest.raises(
        ValueError, match="the weight of class 1 must be a number, at least 0 and finite"
    ):
        check_class_weight({0: 1.0, 1: value})


@pytest.mark.parametrize("brought", [True, False])
def test_a_class_weight_multiplies_the_weight_of_a_row_of_a_source(brought):
    x, y = np.arange(8.0).reshape(4, 2), np.array([0, 2, 1, 2])
    own, table = np.array([0.5, 1.0, 4.0, 3.0]), {0: 2.0, 1: 0.25, 2: 5.0}
    source = gd.ArraySource(x, y, own if brought else None)
    batches = gd.Batches(
        source, sample_weight=None if brought else own, batch_size=3, class_weight=table
    )
    found = np.concatenate([batch.weight for batch in batches])
    np.testing.assert_array_equal(found, [0.5 * 2, 1 * 5, 4 * 0.25, 3 * 5])
