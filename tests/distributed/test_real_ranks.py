"""Two real processes under mpiexec: one start, and what `ranks.py` says it came to."""

import json
from pathlib import Path

import numpy as np
import pytest
from oracles import mpi

pytestmark = mpi.needed
SCRIPT = str(Path(__file__).with_name("ranks.py"))


@pytest.fixture(scope="module")
def said():
    run = mpi.run(2, SCRIPT)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def test_two_processes_train_as_one(said):
    params, history = said["alone"]
    for rank in said["ranks"]:
        found, columns = rank["trained"]
        np.testing.assert_allclose(found, params, rtol=0, atol=1e-11)
        for name, values in history.items():
            np.testing.assert_allclose(columns[name], values, rtol=0, atol=1e-11)
    # The same bits in both, and each time.
    assert said["ranks"][0]["trained"] == said["ranks"][1]["trained"]
    assert said["ranks"][0]["again"] == said["ranks"][0]["trained"]


def test_sums_are_taken_in_the_order_of_ranks(said):
    i = np.arange(5)
    expected = (i + 0.1).astype("float32") + (-i + 0.1).astype("float32")
    assert [rank["sums"] for rank in said["ranks"]] == [[expected.tolist()] * 2] * 2


def test_an_error_ends_both_and_is_said_once(said):
    one, other = (rank["errors"] for rank in said["ranks"])
    assert one[0] == "Ended: 1"
    assert other[0] == "DataError: line 3 of a file (rank 1 of 2)"
    assert one[1].startswith("ShapeError: x has shape (41, 3)")
    assert "rank" not in one[1]
    assert other[1] == "Ended: 1"
    assert one[2].startswith("RuntimeError: rank 1 of 2 differs from rank 0 in the parameters")
    assert other[2] == "Ended: 1"


def test_the_shell_trains_in_both_and_one_prints_and_writes(said):
    one, other = (rank["shell"][0] for rank in said["ranks"])
    assert one[0] == other[0] == 0
    assert "saved: " in one[1]
    assert "rows to train on" in one[2]
    assert other[1:3] == ["", ""]
    assert "m.npz" in one[3]
    assert "m.npz" not in other[3]
    # Each has read a part of the file to find out what is in it.
    assert one[4] == other[4] > 0


def test_a_file_that_one_process_lacks_ends_both(said):
    one, other = (rank["shell"][1] for rank in said["ranks"])
    assert one == [1, "", ""]
    assert other == [1, "", "minigd: no file matches '*.csv' (rank 1 of 2)\n"]


def test_standard_input_which_one_process_gets_is_refused(said):
    one, other = (rank["shell"][2] for rank in said["ranks"])
    assert (one[0], other) == (1, [1, "", ""])
    assert one[2].startswith("minigd: of several processes only the first one gets standard input")


def test_other_commands_are_run_once_unless_each_process_has_its_own(said):
    one, other = (rank["shell"][3:] for rank in said["ranks"])
    assert [code for code, *_ in one + other] == [0] * 4
    assert ["loss" in printed for _, printed, _ in one + other] == [True, True, False, True]
    assert other[0][1:] == ["", ""]


def test_one_process_writes(said):
    assert [rank["checkpoint"] for rank in said["ranks"]] == [[True, 3], [False, 3]]
