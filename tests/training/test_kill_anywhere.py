"""Runs that are killed at random moments come to the bits of those that are not.

The short form of `benchmarks/kill_anywhere.py`: five runs, each from another kind of source.
"""

import multiprocessing
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "kill_anywhere.py"


@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="the script forks processes"
)
def test_five_runs_killed_and_started_again_come_to_the_same_bits():
    pytest.importorskip("pyarrow")
    done = subprocess.run(
        [sys.executable, SCRIPT, "--runs", "5"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    runs, kills, equal = re.search(
        r"together \| (\d+) \| (\d+) \| \d+ \| (\d+) \|", done.stdout
    ).groups()
    assert int(runs) == int(equal) == 5
    assert int(kills) >= 5
