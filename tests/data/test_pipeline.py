"""A stream is cut, shuffled in a buffer and read ahead, and yields every row exactly once.

No result depends on how the stream is cut into pieces, and no thread outlives its loop.
"""

import os
import signal
import threading

import numpy as np
import pytest
from budgets import examples
from hypothesis import given
from hypothesis import strategies as st

import minigd as gd
from minigd.data.pipeline import cut, prefetched, shuffled

properties = examples(25)
lengths = st.lists(st.integers(0, 12), max_size=12)
sizes = st.integers(1, 30)


def stream(lengths, without_y=False):
    """Return pieces of these lengths; x and y contain the numbers of the rows in the stream."""
    ends = np.cumsum(lengths, dtype=int)
    for n, end in zip(lengths, ends, strict=True):
        rows = np.arange(end - n, end)
        yield np.column_stack([rows, rows]), None if without_y else -rows


def rows_of(pieces):
    return [int(row) for x, _ in pieces for row in x[:, 0]]


def readers():
    return [t for t in threading.enumerate() if t.name == "minigd-prefetch"]


# Cutting -----------------------------------------------------------------------------------------


@properties
@given(lengths, sizes)
def test_cutting_keeps_all_rows_in_order_and_all_but_the_last_piece_full(lengths, size):
    pieces = list(cut(stream(lengths), size))
    n = sum(lengths)
    assert rows_of(pieces) == list(range(n))
    assert [len(x) for x, _ in pieces] == [size] * (n // size) + [n % size] * (n % size > 0)
    for x, y in pieces:
        np.testing.assert_array_equal(x[:, 0], -y)


@properties
@given(lengths, sizes)
def test_what_is_not_there_stays_away(lengths, size):
    for pieces in (
        list(cut(stream(lengths, without_y=True), size)),
        list(shuffled(stream(lengths, without_y=True), size, np.random.default_rng(0))),
    ):
        assert all(y is None for _, y in pieces)
        assert sorted(rows_of(pieces)) == list(range(sum(lengths)))


def test_a_whole_piece_within_one_of_the_stream_is_a_view():
    x = np.arange(10)
    *whole, _ = cut([(x,)], 4)
    assert len(whole) == 2
    assert all(np.shares_memory(piece, x) for (piece,) in whole)


@pytest.mark.parametrize("size", [1, 3, 4, 7, 20])
def test_a_stream_may_fill_one_array_again_and_again(size):
    def filled():
        x = np.empty(4, dtype=int)
        for start in range(0, 20, 4):
            x[...] = range(start, start + 4)
            yield x, None

    numbers = [x.tolist() for x, _ in cut(filled(), size)]
    assert [len(some) for some in numbers] == [s.stop - s.start for s in gd.batch_slices(20, size)]
    assert np.concatenate(numbers).tolist() == list(range(20))


def test_cutting_takes_no_more_of_the_stream_than_it_needs():
    pulled = []

    def counting():
        for i in range(10):
            pulled.append(i)
            yield (np.array([i]),)

    pieces = cut(counting(), 3)
    next(pieces)
    assert pulled == [0, 1, 2]


# The shuffle buffer ------------------------------------------------------------------------------


@properties
@given(lengths, sizes, st.integers(0, 5))
def test_every_row_comes_out_of_the_buffer_once_with_its_own_target(lengths, size, seed):
    pieces = list(shuffled(stream(lengths), size, np.random.default_rng(seed)))
    assert sorted(rows_of(pieces)) == list(range(sum(lengths)))
    for x, y in pieces:
        np.testing.assert_array_equal(x[:, 0], -y)


@properties
@given(lengths, sizes, st.integers(0, 5))
def test_the_order_does_not_depend_on_the_pieces(lengths, size, seed):
    whole = shuffled(stream([sum(lengths)]), size, np.random.default_rng(seed))
    parts = shuffled(stream(lengths), size, np.random.default_rng(seed))
    assert rows_of(whole) == rows_of(parts)


@properties
@given(st.integers(1, 200), sizes, st.integers(0, 5))
def test_no_row_comes_too_early_by_the_length_of_the_buffer(n, size, seed):
    order = rows_of(shuffled(stream([n]), size, np.random.default_rng(seed)))
    assert max(row - place for place, row in enumerate(order)) < size


@properties
@given(st.integers(1, 200), sizes)
def test_the_buffer_holds_no_more_rows_than_it_says(n, size):
    read = 0

    def one_by_one():
        nonlocal read
        for piece in stream([1] * n):
            read += 1
            yield piece

    out = 0
    for x, _ in shuffled(one_by_one(), size, np.random.default_rng(0)):
        assert read - out <= size
        out += len(x)


def test_a_buffer_of_one_row_shuffles_nothing():
    order = rows_of(shuffled(stream([20]), 1, np.random.default_rng(0)))
    assert order == list(range(20))


def test_a_buffer_as_long_as_the_stream_makes_every_order():
    # 3 rows have 6 orders; in 600 draws, each is expected 100 times and occurs at least 60 times.
    rng = np.random.default_rng(0)
    orders = [tuple(rows_of(shuffled(stream([3]), 6, rng))) for _ in range(600)]
    counts = [orders.count(order) for order in set(orders)]
    assert len(counts) == 6
    assert min(counts) > 60


def test_a_long_stream_is_mixed_over_the_whole_buffer():
    order = np.array(rows_of(shuffled(stream([10_000]), 1000, np.random.default_rng(0))))
    moved = np.abs(order - np.arange(10_000))
    assert moved.mean() > 250


# Reading ahead -----------------------------------------------------------------------------------


@properties
@given(st.integers(0, 30), st.integers(1, 8))
def test_reading_ahead_keeps_the_order(n, ahead):
    assert list(prefetched(iter(range(n)), ahead)) == list(range(n))
    assert readers() == []


@pytest.mark.parametrize("ahead", [1, 2, 4])
def test_no_more_than_so_many_items_are_made_beforehand(ahead):
    made = 0
    enough = threading.Event()

    def items():
        nonlocal made
        for i in range(20):
            made += 1
            if made == ahead + 1:
                enough.set()
            yield i

    reader = prefetched(items(), ahead)
    assert next(reader) == 0
    # One is in use and `ahead` are waiting: the thread gets that far, and no further.
    assert enough.wait(10)
    for used in range(1, 20):
        assert made <= used + ahead
        assert next(reader) == used
    assert list(reader) == []


def test_items_are_made_in_a_thread_of_their_own():
    def whereabouts():
        yield threading.current_thread().name

    assert list(prefetched(whereabouts(), 1)) == ["minigd-prefetch"]


@pytest.mark.parametrize("ahead", [1, 3, 50])
@pytest.mark.parametrize("at", [0, 1, 7])
def test_an_error_comes_out_behind_the_items_before_it(ahead, at):
    def items():
        yield from range(at)
        raise ValueError("broken item")

    reader = prefetched(items(), ahead)
    assert [next(reader) for _ in range(at)] == list(range(at))
    with pytest.raises(ValueError, match="broken item"):
        next(reader)
    assert readers() == []
    assert list(reader) == []


def test_leaving_early_ends_the_thread_and_closes_what_it_read():
    closed = []

    def endless():
        try:
            i = 0
            while True:
                yield i
                i += 1
        finally:
            closed.append(True)

    reader = prefetched(endless(), 3)
    assert next(reader) == 0
    reader.close()
    assert readers() == []
    assert closed == [True]


def test_a_loop_that_breaks_leaves_no_thread():
    for item in prefetched(iter(range(100)), 4):
        if item == 5:
            break
    del item
    assert readers() == []


def test_a_reader_that_was_never_started_has_no_thread():
    reader = prefetched(iter(range(5)), 2)
    assert readers() == []
    reader.close()


def test_two_readers_do_not_disturb_each_other():
    both = zip(prefetched(iter(range(50)), 2), prefetched(iter(range(50)), 3), strict=True)
    assert list(both) == [(i, i) for i in range(50)]
    assert readers() == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no process is forked there")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_is_told_that_the_thread_stayed_behind():
    x = np.arange(40.0).reshape(20, 2)
    batches = gd.Batches(x, x[:, 0], batch_size=2, prefetch=2)
    loop = iter(batches)
    next(loop)
    parent, child = os.getpid(), os.fork()
    if child == 0:
        signal.alarm(30)  # without an error, it would wait forever
        code = 1
        try:
            next(loop)
        except RuntimeError as error:
            told = f"by a thread of process {parent}, which the forked process {os.getpid()} does"
            own = sum(len(batch.x) for batch in batches)
            code = 0 if told in str(error) and own == 20 else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    # The loop of the parent continues.
    assert sum(len(batch.x) for batch in loop) == 18
