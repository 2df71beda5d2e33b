"""Runs that are killed at random moments end bit-identical to those that are not.

The short form of `benchmarks/kill_anywhere.py`: three runs, each from another kind of source, and
two compiled ones. With `-m slow` there is one of each kind.
"""

import multiprocessing
import re
import subprocess
import sys
from pathlib import Path

import pytest

from minigd.execution.targets import compiler

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "kill_anywhere.py"


pytestmark = pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="the script forks processes"
)


def kill(runs, *options):
    """Run the script, and return its runs, its kills, and the runs that came to the same."""
    done = subprocess.run(
        [sys.executable, SCRIPT, "--runs", str(runs), *options],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"together \| (\d+) \| (\d+) \| \d+ \| (\d+) \|", done.stdout)
    return tuple(map(int, found.groups()))


@pytest.mark.parametrize("several", [3, pytest.param(18, marks=pytest.mark.slow)])
def test_runs_killed_and_started_again_come_to_the_same_bits(several):
    pytest.importorskip("pyarrow")
    runs, kills, equal = kill(several)
    assert runs == equal == several
    assert kills >= several


@pytest.mark.slow
@pytest.mark.skipif(not compiler.available(), reason="needs Numba and SciPy")
def test_compiled_runs_come_to_the_same_bits():
    # Compiled steps, and compiled epochs of several batches to an update.
    pytest.importorskip("pyarrow")
    runs, kills, equal = kill(2, "--kinds", "row weights, compiled")
    assert runs == equal == 2
    assert kills >= 2
