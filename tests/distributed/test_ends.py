"""How processes end where one of them fails, is killed, or hangs."""

import re
import time
from pathlib import Path

import pytest
from oracles import mpi

import minigd as gd

pytestmark = [mpi.needed, pytest.mark.slow]
SCRIPT = str(Path(__file__).with_name("ends.py"))


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ("error", r"DataError: line 3, column 'age': no number \(rank 2 of 3\)"),
        ("disk", r"OSError: \[Errno 28\] No space left on device \(rank 2 of 3\): 'x.npz'"),
        ("divergence", r"DivergenceError: the loss is inf at epoch 1, .* \(rank \d of 3\)"),
        ("between", r"RuntimeError: something between two fits \(rank 2 of 3\)"),
    ],
)
def test_an_error_of_one_ends_all_and_is_said_once(tmp_path, how, text):
    run = mpi.run(3, SCRIPT, how, str(tmp_path / "run.npz"))
    assert run.returncode == 1
    assert len(re.findall(text, run.stderr)) == 1
    assert run.stderr.count("Traceback") == 1


@pytest.mark.parametrize("how", ["SIGSTOP", "before"])
def test_one_that_does_not_answer_is_named(tmp_path, how):
    started = time.monotonic()
    run = mpi.run(3, SCRIPT, how, str(tmp_path / "run.npz"), MINIGD_TIME_LIMIT="3")
    assert run.returncode not in (0, None)
    assert len(re.findall(r"rank 2 of 3 did not answer for 3 s: the process", run.stderr)) == 1
    assert time.monotonic() - started < 60


@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM"])
@pytest.mark.parametrize("after", [1, 2, 4])
def test_a_run_that_was_killed_goes_on_with_any_number(tmp_path, how, after):
    path = str(tmp_path / "run.npz")
    started = time.monotonic()
    run = mpi.run(3, SCRIPT, how, path)
    assert run.returncode != 0
    assert time.monotonic() - started < 60
    assert gd.Trainer.resume(path).updates == {"SIGKILL": 5, "SIGTERM": 7}[how]
    whole, rest = (
        mpi.run(n, SCRIPT, "none", str(p)) for n, p in ((2, tmp_path / "other.npz"), (after, path))
    )
    sums = [re.findall(r"updates 30 sum (\S+)", run.stdout) for run in (whole, rest)]
    assert float(sums[0][0]) == pytest.approx(float(sums[1][0]), rel=1e-12)
