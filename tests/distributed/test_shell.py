"""`minigd train` under mpiexec: one model, one report, and the numbers of one process."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from oracles import mpi

import minigd as gd
from minigd.cli import processes
from minigd.distributed.communicator import ALONE

pytestmark = mpi.needed


def table(path, rows=400, bad=None):
    rng = np.random.default_rng(0)
    a, kind, c = rng.normal(size=rows), rng.choice(["x", "y"], rows), rng.normal(size=rows)
    price = 2 * a + 3 * (kind == "x") - a * c
    lines = [f"{i:.3f},{k},{j:.3f},{p:.4f}" for i, k, j, p in zip(a, kind, c, price, strict=True)]
    if bad is not None:
        lines[bad] = "1.0,x,2.0,seven"
    path.write_text("\n".join(["a,kind,c,price", *lines]) + "\n")
    return str(path)


def train(size, data, out, *more, **options):
    words = ["-m", "minigd", "train", data, "--target", "price", "--out", str(out), *more]
    return mpi.run(size, *words, **options)


@pytest.mark.slow
def test_two_processes_write_one_model_and_say_what_one_says(tmp_path):
    data = table(tmp_path / "homes.csv")
    run = train(2, data, tmp_path / "two.npz", "--epochs", "3", "--json")
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    one = train(1, data, tmp_path / "one.npz", "--epochs", "3", "--json")
    expected = json.loads(one.stdout)
    for name, scores in expected["scores"].items():
        assert found["scores"][name] == pytest.approx(scores, rel=1e-4)
    numbers = r"[0-9][0-9.,e-]*|one|two"
    assert re.sub(numbers, "0", run.stderr) == re.sub(numbers, "0", one.stderr)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["homes.csv", "one.npz", "two.npz"]
    for name, array in gd.load(tmp_path / "one.npz").arrays().items():
        other = gd.load(tmp_path / "two.npz").arrays()[name]
        np.testing.assert_allclose(other, array, rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "text"),
    [
        (["--target", "cost"], "cost"),
        (["--metrics", "acuracy"], "acuracy"),
        (["--epochs", "0"], "epochs"),
    ],
)
def test_an_error_is_said_once(tmp_path, more, text):
    run = train(3, table(tmp_path / "homes.csv"), tmp_path / "m.npz", *more)
    assert run.returncode in (1, 2)
    assert len([line for line in run.stderr.splitlines() if text in line and "error" in line]) == 1


@pytest.mark.slow
def test_a_row_that_is_no_number_is_said_once(tmp_path):
    run = train(
        3, table(tmp_path / "homes.csv", bad=333), tmp_path / "m.npz", "--task", "regression"
    )
    assert run.returncode == 1
    assert run.stderr.count("line 335, column 'price'") == 1


@pytest.mark.slow
def test_a_run_that_sigterm_ends_goes_on_with_another_number(tmp_path):
    data, out = table(tmp_path / "homes.csv", 3000), str(tmp_path / "m.npz")
    words = ["-m", "minigd", "train", data, "--target", "price", "--out", out, "--epochs", "40"]
    process = subprocess.Popen(
        mpi.command(2, *words), env=mpi.environment(), stderr=subprocess.PIPE, text=True
    )
    for line in process.stderr:
        if line.startswith("epoch 1/40"):
            break
    time.sleep(1)
    pids = subprocess.run(
        ["pgrep", "-P", str(process.pid), "-f", "."], capture_output=True, text=True, check=True
    ).stdout.split()
    ranks = subprocess.run(
        ["pgrep", "-P", pids[0]], capture_output=True, text=True, check=True
    ).stdout.split()
    os.kill(int(ranks[1]), signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143
    assert errors.count("interrupted after") == 1
    assert errors.count("resume with:") == 1
    run = train(3, data, out, "--epochs", "40", "--resume")
    assert run.returncode == 0, run.stderr
    assert gd.load(out) is not None


# Which processes belong together -------------------------------------------------------------


@pytest.fixture
def fresh(monkeypatch):
    processes.processes.cache_clear()
    for name in ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    yield monkeypatch
    processes.processes.cache_clear()


@pytest.mark.parametrize(
    "variables",
    [{}, {"PMI_SIZE": "1"}, {"OMPI_COMM_WORLD_SIZE": ""}, {"SLURM_NTASKS": "4"}],
    ids=str,
)
def test_a_process_that_was_started_alone_is_alone(fresh, variables, capsys):
    for name, value in variables.items():
        fresh.setenv(name, value)
    assert processes.processes() is ALONE
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", ["PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS"])
def test_without_mpi4py_each_process_trains_by_itself_and_says_so(fresh, name, capsys):
    fresh.setenv(name, "2")
    fresh.setitem(sys.modules, "mpi4py", None)
    assert processes.processes() is ALONE
    assert "mpi4py is not installed: each process works alone" in capsys.readouterr().err
