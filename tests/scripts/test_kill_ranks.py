"""The short form of `benchmarks/kill_ranks.py`: a rank of several is killed, another one hangs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from oracles import mpi

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks import kill_ranks  # noqa: E402


@pytest.mark.slow
@mpi.needed
def test_a_run_goes_on_with_another_number_of_processes():
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.kill_ranks", "--rounds", "2", "--hangs", "1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert re.findall(r"(\d) of (\d) right", run.stdout) == [("2", "2"), ("1", "1")]


KEPT = kill_ranks.Trial(
    kind="memory map, in order", before=3, after=2, rank=1, ended=0.1, code=9,
    sentence="Killed (signal 9)", updates=6, apart=1e-16, same=True,
)  # fmt: skip


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({}, []),
        ({"ended": 10.5}, ["ended after 10.5 s"]),
        ({"code": 0}, ["ended with code 0"]),
        ({"code": None}, ["ended with code None"]),
        ({"sentence": ""}, ["said ''"]),
        ({"apart": 1e-9}, ["parameters 1.0e-09 apart"]),
        ({"apart": float("nan")}, ["parameters nan apart"]),
        ({"same": False}, ["other rows or another history"]),
    ],
    ids=str,
)
def test_what_is_not_as_it_must_be_is_seen(change, fault):
    assert kill_ranks.faults(KEPT._replace(**change), hang=False) == fault


@pytest.mark.parametrize(
    ("sentence", "kept"),
    [
        ("rank 1 of 3 did not answer for 10 s", True),
        ("rank 2 of 3 did not answer for 10 s", False),
        ("Killed (signal 9)", False),
    ],
)
def test_a_rank_that_hangs_must_be_named(sentence, kept):
    hung = KEPT._replace(ended=15.0, sentence=sentence)
    assert (kill_ranks.faults(hung, hang=True) == []) is kept


@pytest.mark.parametrize(
    ("printed", "said"),
    [
        ("x\nYOUR APPLICATION TERMINATED WITH THE EXIT STRING: Killed (signal 9)\n", "Killed"),
        ("Traceback\nminigd.distributed.communicator.Lost: rank 2 of 4 did not answer for 3 s: a",
         "rank 2 of 4 did not answer for 3 s"),
        ("", ""),
    ],
)  # fmt: skip
def test_the_sentence_is_found_in_what_is_printed(printed, said):
    assert kill_ranks.sentence(printed).startswith(said)
    assert bool(kill_ranks.sentence(printed)) == bool(said)
