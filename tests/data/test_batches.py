"""Batches: which rows make up each update, and in which order.

Every row occurs exactly once per epoch, and an order depends only on the seed and the epoch.
"""

import tracemalloc
import warnings

import numpy as np
import pytest
from budgets import examples
from hypothesis import given
from hypothesis import strategies as st

import minigd as gd

properties = examples(25)
counts = st.integers(1, 400)
batch_sizes = st.none() | st.integers(1, 450)


def table(n, width=2):
    """Return rows that contain their own number: x[i] = (2i, 2i + 1) and y[i] = i."""
    return np.arange(float(n * width)).reshape(n, width), np.arange(n)


def labels(epoch):
    """Return the row numbers of each batch, as the targets of `table` give them."""
    return [[int(label) for label in batch.y] for batch in epoch]


def flat(epoch):
    """Return the row numbers of all batches in one list."""
    return [row for rows in labels(epoch) for row in rows]


# Slices ------------------------------------------------------------------------------------------


def test_2300_rows_in_batches_of_500_leave_300_for_the_last():
    sizes = [500, 500, 500, 500, 300]
    assert [s.stop - s.start for s in gd.batch_slices(2300, 500)] == sizes
    batches = gd.Batches(*table(2300), batch_size=500)
    assert batches.sizes == sizes
    assert [len(x) for x, _ in batches] == sizes
    assert len(batches) == 5


@properties
@given(counts, batch_sizes)
def test_slices_cut_the_rows_without_gap_or_overlap(n, size):
    rows = [i for s in gd.batch_slices(n, size) for i in range(s.start, s.stop)]
    assert rows == list(range(n))


@properties
@given(counts, st.integers(1, 450))
def test_only_the_last_slice_may_be_short(n, size):
    sizes = [s.stop - s.start for s in gd.batch_slices(n, size)]
    assert sizes[:-1] == [size] * (len(sizes) - 1)
    assert sizes[-1] == (n % size or size)


@pytest.mark.parametrize(
    ("n", "size", "expected"),
    [(3, 10, [3]), (10, 5, [5, 5]), (7, 7, [7]), (7, None, [7]), (4, 1, [1, 1, 1, 1])],
)
def test_sizes_at_the_edges(n, size, expected):
    assert [s.stop - s.start for s in gd.batch_slices(n, size)] == expected
    assert gd.Batches(*table(n), batch_size=size).sizes == expected


def test_numpy_integers_are_sizes_too():
    assert len(list(gd.batch_slices(np.int64(10), np.int32(5)))) == 2


# The call itself must raise an error: a generator would delay it until the first `next`.
@pytest.mark.parametrize("size", [0, -3, 2.5, 5.0, True, "5"])
def test_a_size_that_is_no_positive_integer_is_refused_at_the_call(size):
    message = r"batch_size must be an integer, at least 1, or None for all rows at once, not "
    with pytest.raises(ValueError, match=message):
        gd.batch_slices(10, size)
    with pytest.raises(ValueError, match=message):
        gd.Batches(*table(10), batch_size=size)


@pytest.mark.parametrize("n", [-1, 2.5, True, "5"])
def test_a_number_of_rows_that_is_none_is_refused_at_the_call(n):
    with pytest.raises(ValueError, match="the number of rows must be an integer"):
        gd.batch_slices(n, 5)


def test_no_rows_are_refused_at_the_call():
    with pytest.raises(gd.DataError, match="there are 0 rows"):
        gd.batch_slices(0, 5)
    with pytest.raises(gd.DataError, match=r"x has shape \(0, 2\): there is nothing to train on"):
        gd.Batches(np.empty((0, 2)), np.empty(0))


@pytest.mark.parametrize("seed", [-1, 1.5, "0", None])
def test_a_seed_that_is_none_is_refused(seed):
    with pytest.raises(ValueError, match="seed must be an integer, at least 0"):
        gd.Batches(*table(10), seed=seed)


# Orders ------------------------------------------------------------------------------------------


@properties
@given(counts, batch_sizes, st.booleans(), st.integers(0, 5))
def test_every_row_comes_exactly_once_an_epoch(n, size, shuffle, epoch):
    batches = gd.Batches(*table(n), batch_size=size, shuffle=shuffle, seed=1)
    rows = flat(batches.epoch(epoch))
    assert sorted(rows) == list(range(n))
    assert shuffle or rows == list(range(n))


@pytest.mark.parametrize("n", [230, 200])  # with a short last batch, and with none
def test_the_rows_that_share_a_batch_differ_between_epochs(n):
    batches = gd.Batches(*table(n), batch_size=50, shuffle=True)
    first, second = ({frozenset(rows) for rows in labels(batches)} for _ in range(2))
    assert first != second


@properties
@given(counts, batch_sizes, st.booleans(), st.integers(0, 5), st.data())
def test_an_epoch_from_a_batch_on_is_the_tail_of_the_epoch(n, size, shuffle, epoch, data):
    batches = gd.Batches(*table(n), batch_size=size, shuffle=shuffle)
    start = data.draw(st.integers(0, len(batches)))
    assert labels(batches.epoch(epoch, start=start)) == labels(batches.epoch(epoch))[start:]


@properties
@given(st.integers(0, 2**40), st.integers(0, 1000), st.lists(st.integers(0, 9), max_size=4))
def test_an_epoch_depends_on_seed_and_number_alone(seed, epoch, before):
    fresh = gd.Batches(*table(30), batch_size=7, shuffle=True, seed=seed)
    used = gd.Batches(*table(30), batch_size=7, shuffle=True, seed=seed)
    for other in before:
        next(iter(used))
        labels(used.epoch(other))
    assert labels(used.epoch(epoch)) == labels(fresh.epoch(epoch))


def test_iterating_goes_through_the_epochs_from_0():
    batches = gd.Batches(*table(30), batch_size=7, shuffle=True, seed=3)
    assert [labels(batches) for _ in range(3)] == [labels(batches.epoch(e)) for e in range(3)]


def test_leaving_a_loop_early_does_not_shorten_the_next_epoch():
    batches = gd.Batches(*table(230), batch_size=50, shuffle=True)
    for _ in batches:
        break
    assert sorted(flat(batches)) == list(range(230))
    assert [len(x) for x, _ in batches] == [50, 50, 50, 50, 30]


def test_two_loops_over_the_same_batches_do_not_disturb_each_other():
    batches = gd.Batches(*table(30), batch_size=7, shuffle=True)
    pairs = list(zip(batches.epoch(0), batches.epoch(1), strict=True))
    assert labels(first for first, _ in pairs) == labels(batches.epoch(0))
    assert labels(second for _, second in pairs) == labels(batches.epoch(1))


def test_seeds_give_different_orders():
    orders = {tuple(flat(gd.Batches(*table(30), shuffle=True, seed=seed))) for seed in range(20)}
    assert len(orders) == 20


def test_orders_leave_the_global_generator_alone():
    np.random.seed(0)  # noqa: NPY002 - the test is about the global generator
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    labels(gd.Batches(*table(30), shuffle=True))
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_the_order_is_the_same_on_every_backend(backend):
    x, y = table(230)
    here = gd.Batches(backend.asarray(x), backend.asarray(y), batch_size=50, shuffle=True, seed=4)
    host = gd.Batches(x, y, batch_size=50, shuffle=True, seed=4)
    for epoch in range(2):
        for one, other in zip(here.epoch(epoch), host.epoch(epoch), strict=True):
            assert backend.holds(one.x)
            assert backend.holds(one.y)
            np.testing.assert_array_equal(backend.to_numpy(one.x), other.x)
            np.testing.assert_array_equal(backend.to_numpy(one.y), other.y)


# Memory ------------------------------------------------------------------------------------------


def test_shuffling_permutes_an_index_and_copies_no_data():
    x, y = table(200_000, width=8)
    batches = gd.Batches(x, y, batch_size=1000, shuffle=True)
    assert batches.source.x is x
    assert batches.source.y is y
    index, batch = y.nbytes, (x.nbytes + y.nbytes) // 200
    tracemalloc.start()
    try:
        for _ in batches:
            pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # One index, the batch of the loop and the one being gathered; a copy of the data
    # would be eight times the index.
    assert peak < 1.1 * index + 4 * batch


def test_batches_in_order_are_views_of_the_data():
    x, y = table(230)
    for batch in gd.Batches(x, y, batch_size=50):
        assert np.shares_memory(batch.x, x)
        assert np.shares_memory(batch.y, y)


def test_the_data_are_never_modified():
    x, y = table(230)
    x_before, y_before = x.copy(), y.copy()
    labels(gd.Batches(x, y, batch_size=50, shuffle=True))
    np.testing.assert_array_equal(x, x_before)
    np.testing.assert_array_equal(y, y_before)


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_batch_handed_out_never_changes_later(shuffle):
    batches = gd.Batches(*table(230), batch_size=50, shuffle=shuffle)
    kept = list(batches)
    copies = [(x.copy(), y.copy()) for x, y in kept]
    list(batches)
    # A trainer gathers its batches in its own memory.
    gd.Trainer(gd.Sequential([gd.Dense(1)], inputs=2), "mse", gd.SGD(0.0)).fit(batches, epochs=2)
    for batch, (x, y) in zip(kept, copies, strict=True):
        np.testing.assert_array_equal(batch.x, x)
        np.testing.assert_array_equal(batch.y, y)


# The tail ----------------------------------------------------------------------------------------


def test_a_dropped_tail_is_counted():
    batches = gd.Batches(*table(2300), batch_size=500, tail="drop")
    assert batches.sizes == [500, 500, 500, 500]
    assert batches.dropped == 300
    assert "300 rows dropped" in repr(batches)


@pytest.mark.parametrize(("size", "tail"), [(500, "keep"), (460, "drop"), (None, "drop")])
def test_nothing_is_dropped_unasked_or_where_batches_are_full(size, tail):
    batches = gd.Batches(*table(2300), batch_size=size, tail=tail)
    assert batches.dropped == 0
    assert sum(batches.sizes) == 2300


def test_shuffling_drops_other_rows_each_epoch():
    batches = gd.Batches(*table(230), batch_size=50, tail="drop", shuffle=True)
    first, second = (set(flat(batches)) for _ in range(2))
    assert len(first) == len(second) == 200
    assert first != second


def test_dropping_the_only_batch_is_refused():
    with pytest.raises(gd.DataError, match=r"3 rows do not fill one batch of 5.*tail='keep'"):
        gd.Batches(*table(3), batch_size=5, tail="drop")


def test_an_unknown_tail_is_refused():
    with pytest.raises(ValueError, match="tail must be 'keep' or 'drop', not 'cut'"):
        gd.Batches(*table(3), tail="cut")


@pytest.mark.parametrize("tail", ["keep", "drop"])
def test_a_reading_pass_sees_all_rows_in_order_and_uses_up_no_epoch(tail):
    x, y = table(230)
    batches = gd.Batches(x, y, batch_size=50, shuffle=True, tail=tail)
    np.testing.assert_array_equal(np.concatenate([b.x for b in batches.in_order()]), x)
    assert labels(batches) == labels(batches.epoch(0))


# What a batch is ---------------------------------------------------------------------------------


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_batch_unpacks_and_knows_its_rows(shuffle):
    x, y = table(23)
    for batch in gd.Batches(x, y, batch_size=5, shuffle=shuffle):
        own_x, own_y = batch
        assert own_x is batch.x
        assert own_y is batch.y
        np.testing.assert_array_equal(own_x, x[batch.rows])
        np.testing.assert_array_equal(own_y, y[batch.rows])


@pytest.mark.parametrize("shuffle", [False, True])
def test_rows_without_targets_are_batches_of_x_alone(shuffle):
    x, _ = table(23)
    seen = []
    for batch in gd.Batches(x, batch_size=5, shuffle=shuffle):
        (own,) = batch
        assert batch.y is None
        seen.extend(own[:, 0].tolist())
    assert sorted(seen) == x[:, 0].tolist()


def test_lists_are_rows_too():
    (batch,) = gd.Batches([[1, 2], [3, 4]], [0, 1])
    np.testing.assert_array_equal(batch.x, [[1, 2], [3, 4]])


def test_a_source_brings_its_own_targets():
    x, y = table(23)
    assert labels(gd.Batches(gd.ArraySource(x, y), batch_size=5)) == labels(
        gd.Batches(x, y, batch_size=5)
    )
    with pytest.raises(TypeError, match="a source brings its own targets"):
        gd.Batches(gd.ArraySource(x, y), y)


def test_batches_of_batches_are_refused():
    with pytest.raises(TypeError, match="a Batches already"):
        gd.Batches(gd.Batches(*table(3)))


@pytest.mark.parametrize("stream", [False, True])
def test_a_class_of_the_dropped_tail_is_there(stream):
    x, y = np.ones((5, 1)), np.array([0, 0, 1, 1, 2])
    rows = (gd.IterableSource([(x, y)]),) if stream else (x, y)
    for shuffle in (False, True):
        options = {"shuffle": shuffle, "buffer": 5 if stream and shuffle else None}
        for named, warned in ((2, False), (3, True)):
            weights = {0: 1.0, 1: 1.0, named: 3.0}
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                batches = gd.Batches(
                    *rows, batch_size=2, tail="drop", class_weight=weights, **options
                )
                assert len(list(batches)) == 2
            assert [f"a weight for {named}" in str(one.message) for one in caught] == [
                True
            ] * warned
