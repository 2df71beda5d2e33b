"""Sums and messages of several processes, over threads that stand for them."""

import subprocess
import sys

import numpy as np
import pytest
from oracles.simulated import run_ranks

import minigd as gd
from minigd.distributed import communicator, mpi
from minigd.distributed.communicator import ALONE, Ended, Lost, name_rank


def vectors(size, length, dtype):
    """Return numbers whose sum depends on the order in which it is taken."""
    rng = np.random.default_rng([size, length])
    v = rng.normal(size=(size, length)) * 10.0 ** rng.integers(-3, 4, size=(size, length))
    return v.astype(dtype)


@pytest.fixture(params=[0, 65_536], ids=["by slices", "by gathering"])
def small(request, monkeypatch):
    monkeypatch.setattr(communicator, "SMALL", request.param)


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("length", [0, 1, 5, 64])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_sum_is_taken_in_the_order_of_ranks_and_is_the_same_in_all(small, size, length, dtype):
    v = vectors(size, length, dtype)
    expected = v[0].copy()
    for other in v[1:]:
        expected += other

    def work(comm):
        own = v[comm.rank].copy()
        comm.sum(own)
        return own

    for found in run_ranks(size, work):
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("weights", [[1, 1], [1, 3, 2], [0, 5, 0, 1]])
def test_a_mean_is_weighted_and_brings_the_notes_of_all(small, weights):
    size = len(weights)
    v = vectors(size, 11, "float64")
    v[np.array(weights) == 0] = np.nan
    expected = np.average(np.nan_to_num(v), axis=0, weights=weights)

    def work(comm):
        own = v[comm.rank].copy()
        comm.signal = 15 * (comm.rank == 1)
        notes = comm.mean(own, [weights[comm.rank], 10 * comm.rank])
        return own, notes, comm.received, comm.clock()

    results = run_ranks(size, work)
    for found, notes, received, clock in results:
        np.testing.assert_allclose(found, expected, rtol=1e-13)
        np.testing.assert_array_equal(found, results[0][0])
        assert notes.tolist() == [[w, 10 * k] for k, w in enumerate(weights)]
        assert received == 15
        assert clock == results[0][3]


def test_a_mean_of_huge_numbers_stays_in_range():
    def work(comm):
        own = np.full(3, 3e38, "float32")
        comm.mean(own, [1000])
        return own

    assert all((found == np.float32(3e38)).all() for found in run_ranks(2, work))


def test_slices_send_each_number_to_one_other_and_back(monkeypatch):
    monkeypatch.setattr(communicator, "SMALL", 0)

    def work(comm):
        sent = []
        swap, rows = comm.swap, comm.gather_rows
        comm.swap = lambda blocks: sent.append(blocks.nbytes) or swap(blocks)
        comm.gather_rows = lambda row: sent.append(row.nbytes) or rows(row)
        comm.sum(np.ones(4000))
        return sent

    for sent in run_ranks(4, work):
        assert sent == [4000 * 8, 1000 * 8]


@pytest.mark.parametrize("length", [5, 20_000])
def test_a_sum_in_one_process_is_what_it_has(length):
    v = np.random.default_rng(0).normal(size=length)
    own = v.copy()
    ALONE.sum(own)
    np.testing.assert_array_equal(own, v)


def test_one_true_is_enough():
    assert run_ranks(3, lambda comm: comm.any(comm.rank == 2)) == [True] * 3
    assert run_ranks(2, lambda comm: comm.any(False)) == [False] * 2


# One error ends all --------------------------------------------------------------------------


def failing(errors):
    """Return what each rank raises where some fail, and the others hear of it."""

    def work(comm):
        try:
            comm.end(errors.get(comm.rank) or Ended())
        except Ended:
            return None
        return errors[comm.rank]

    return run_ranks(3, work)


def test_the_first_rank_with_an_error_of_its_own_says_it_and_names_itself():
    found = failing({1: ValueError("row 7"), 2: OSError(28, "No space left", "a.npz")})
    assert [str(error) for error in found] == ["None", "row 7 (rank 1 of 3)", "None"]


def test_an_error_that_all_have_is_said_once_without_a_rank():
    found = failing({rank: ValueError("batch_size") for rank in range(3)})
    assert [str(error) for error in found] == ["batch_size", "None", "None"]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (gd.DataError("line 3"), "line 3 (rank 1 of 2)"),
        (OSError(28, "No space left", "a"), "[Errno 28] No space left (rank 1 of 2): 'a'"),
        (ZeroDivisionError("division by zero"), "division by zero (rank 1 of 2)"),
    ],
)
def test_a_rank_is_named_in_the_text_and_the_kind_stays(error, text):
    kind = type(error)
    name_rank(error, 1, 2)
    assert type(error) is kind
    assert str(error) == text


def test_an_error_without_a_text_can_be_named_too():
    error = KeyboardInterrupt()
    name_rank(error, 0, 2)
    assert error.args == ()


@pytest.mark.parametrize(
    ("rank", "said", "report"),
    [
        (0, {1: ""}, "rank 2 of 3 did not answer for 7 s"),
        (1, {0: ""}, None),
        (1, {0: None}, "rank 2 of 3 did not answer for 7 s"),  # which had waited for a shorter time
        (0, {}, "ranks 1 and 2 of 3 did not answer"),
        (0, {1: None, 2: ""}, "no process made progress for 7 s"),
        (0, {1: "ValueError: row 7"}, None),
    ],
)
def test_one_of_those_whose_time_is_up_says_who_is_lost(monkeypatch, rank, said, report):
    comm = mpi.Mpi.__new__(mpi.Mpi)
    comm.rank, comm.size, comm._limit = rank, 3, 7.0
    monkeypatch.setattr(comm, "exchange", lambda words: said)
    with pytest.raises(Ended if report is None else Lost, match=report):
        comm._report_lost()


# Which communicator --------------------------------------------------------------------------


def test_none_is_one_process():
    assert mpi.connect(None) is ALONE
    assert gd.Trainer(gd.Sequential([gd.Dense(1)], inputs=1), "mse", "sgd").communicator is ALONE
    assert (ALONE.size, ALONE.rank, ALONE.gather(3)) == (1, 0, [3])
    assert ALONE.gather_rows(np.ones(2)).shape == (1, 2)


@pytest.mark.parametrize("comm", [2, "MPI.COMM_WORLD", object()])
def test_what_is_no_communicator_is_refused(comm):
    pytest.importorskip("mpi4py")
    with pytest.raises(TypeError, match=r"must be a communicator of mpi4py, such as MPI.COMM_WORL"):
        gd.Trainer(gd.Sequential([gd.Dense(1)], inputs=1), "mse", "sgd", comm=comm)


def test_without_mpi4py_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(ImportError, match="comm= needs it: `pip install mpi4py`"):
        gd.Trainer(gd.Sequential([gd.Dense(1)], inputs=1), "mse", "sgd", comm=object())


def test_a_run_in_one_process_does_not_import_mpi4py():
    code = (
        "import sys, numpy as np, minigd as gd; m = gd.Sequential([gd.Dense(1)], inputs=1);"
        "m.fit(np.ones((9, 1)), np.ones(9), loss='mse'); print('mpi4py' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


@pytest.mark.parametrize("text", ["soon", "-1", "nan"])
def test_a_time_limit_that_is_no_number_of_seconds_is_refused(monkeypatch, text):
    monkeypatch.setenv(mpi.LIMIT, text)
    with pytest.raises(ValueError, match="MINIGD_TIME_LIMIT"):
        mpi.time_limit()


def test_the_time_limit_comes_from_the_environment(monkeypatch):
    monkeypatch.delenv(mpi.LIMIT, raising=False)
    assert mpi.time_limit() == 300
    monkeypatch.setenv(mpi.LIMIT, "7.5")
    assert mpi.time_limit() == 7.5
