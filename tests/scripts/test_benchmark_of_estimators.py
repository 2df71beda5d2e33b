"""The benchmark of the estimators: its data sets are there, and its ranks are right."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import rankdata

SCRIPTS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import estimators

    return estimators


def test_there_are_twenty_data_sets_without_a_network(script):
    sets = {name: make() for name, make in script.brought().items()}
    assert len(sets) >= 20
    for name, data in sets.items():
        assert data.x.shape == (len(data.y), data.x.shape[1]), name
        assert (len(np.unique(data.y)) <= 10) == (data.classify or "value" in name), name


def test_ranks_are_those_of_scipy(script):
    for values in ([0.5, 0.9, 0.5, 0.1], [1.0, 1.0, 1.0], [0.1]):
        found = script.ranks({str(i): value for i, value in enumerate(values)})
        assert list(found.values()) == rankdata([-value for value in values]).tolist()


def test_a_file_has_its_last_column_as_target(script, tmp_path):
    (tmp_path / "t.csv").write_text("size,kind,price\n1,a,2.5\n,b,3.5\n3,a,4\n")
    data = script.of_file(tmp_path / "t.csv")
    assert data.y.ravel().tolist() == [2.5, 3.5, 4.0]
    assert not data.classify
    (tmp_path / "t.csv").write_text("size,kind\n1,a\n2,b\n")
    assert script.of_file(tmp_path / "t.csv").classify


@pytest.mark.slow
def test_it_prints_a_row_for_each_data_set_and_the_ranks():
    words = [sys.executable, "estimators.py", "--seeds", "1", "--only", "iris", "moons"]
    done = subprocess.run(words, cwd=SCRIPTS, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    heads = [line.split(" | ")[0] for line in done.stdout.splitlines() if line.startswith("| ")]
    assert heads == ["| data", "| ---", "| iris", "| moons", "| ", "| ---", "| median rank",
                     "| mean rank"]  # fmt: skip
