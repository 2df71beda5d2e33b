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


def test_runs_that_signals_stop_come_to_the_bits_of_one_in_peace(tmp_path):
    tally = attack_stops.kills(tmp_path, 2, ["array, shuffled"])
    assert (tally.right, tally.errors, tally.others) == (2, 0, [])


@pytest.mark.parametrize("name", ["a model", "a run", "a table"])
def test_faults_leave_the_old_file_or_the_new_one_and_name_it(tmp_path, name):
    tally = attack_stops.faults(tmp_path, 40, [name])
    assert tally.others == []
    assert min(tally.right, tally.errors) > 0
