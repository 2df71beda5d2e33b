"""The short form of the attacks on runs and on what they write, in `benchmarks/attack_stops.py`."""

import os
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and limits are otherwise there")

if os.name == "posix":
    pytest.importorskip("pandas")
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from benchmarks import attack_stops


@pytest.mark.parametrize("times", [1, pytest.param(12, marks=pytest.mark.slow)])
def test_runs_that_signals_stop_come_to_the_bits_of_one_in_peace(tmp_path, times):
    tally = attack_stops.kills(tmp_path, times, ["array, shuffled"])
    assert (tally.right, tally.errors, tally.others) == (times, 0, [])


@pytest.mark.parametrize("name", ["a model", "a run", "a table", "cached rows"])
@pytest.mark.parametrize("times", [20, pytest.param(400, marks=pytest.mark.slow)])
def test_faults_leave_the_old_file_or_the_new_one_and_name_it(tmp_path, name, times):
    tally = attack_stops.faults(tmp_path, times, [name])
    assert tally.others == []
    assert min(tally.right, tally.errors) > 0
