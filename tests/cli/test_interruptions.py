"""Signals, kills, full disks, a second run of `minigd train`: nothing is lost, claimed or left."""

import errno
import os
import shlex
import signal
import subprocess
import sys

import pandas as pd
import pytest
from cli.test_train import QUICK, bits, press_at, run

from minigd.cli import train as module
from minigd.cli.main import main
from minigd.storage import npz
from minigd.storage.atomic_files import locked

posix = pytest.mark.skipif(os.name != "posix", reason="signals are sent otherwise there")
# A failed write is a warning, which the shell prints.
pytestmark = pytest.mark.filterwarnings("always:.*could not be written:RuntimeWarning")
ENDING = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


@pytest.fixture(autouse=True)
def usual_signals():
    """Let signals end a process, even if the tests run under nohup, which ignores one."""
    before = {
        number: signal.getsignal(number) for number in map(signal.Signals.__getitem__, ENDING)
    }
    for number in before:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


# Signals --------------------------------------------------------------------------------------


@pytest.mark.few(2)
@pytest.mark.parametrize("name", ENDING)
@pytest.mark.parametrize("times", [1, 2])
def test_a_signal_leaves_a_checkpoint_and_the_code_of_the_shell(
    folder, tmp_path, capsys, monkeypatch, name, times
):
    number, out = getattr(signal, name), str(tmp_path / "m.npz")
    straight = tmp_path / "straight.npz"
    assert run(folder, "--epochs", "8", "--out", str(straight)) == 0
    with monkeypatch.context() as patch:
        raised = signal.raise_signal
        press_at(patch, "update", 10)
        patch.setattr(signal, "raise_signal", lambda _: [raised(number) for _ in range(times)])
        assert run(folder, "--epochs", "8", "--out", out) == 128 + number
    err = capsys.readouterr().err.splitlines()
    assert err[-2] == f"minigd: interrupted after 11 updates, all saved in {out}.checkpoint"
    assert signal.getsignal(number) is signal.SIG_DFL
    assert main(shlex.split(err[-1].removeprefix("resume with: "))[1:]) == 0
    assert bits(out) == bits(straight)


SLOW = """
import sys, time
from minigd.cli import predict
from minigd.cli.main import main
cells = predict._cells
def slow(*arguments):
    print("there", flush=True)
    time.sleep(60)
predict._cells = slow
sys.exit(main(sys.argv[1:]))
"""


@posix
@pytest.mark.parametrize("name", ENDING)
def test_a_command_that_is_ended_cleans_up(folder, tmp_path, name):
    number = getattr(signal, name)
    arguments = ["predict", str(folder / "houses.npz"), str(folder / "new.csv")]
    command = [sys.executable, "-c", SLOW, *arguments, "--out", str(tmp_path / "p.csv")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "there\n"
        assert os.listdir(tmp_path) != []
        process.send_signal(number)
        assert process.stderr.read() == "minigd: interrupted\n"
    assert process.returncode == 128 + number
    assert os.listdir(tmp_path) == []


# The content of a checkpoint is read, and never assumed -------------------------------------------


def fail_from(monkeypatch, first):
    """Let each save from this number on find a full disk."""
    write, calls = npz.write, []

    def full(path, *arguments):
        calls.append(path)
        if len(calls) >= first:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(path))
        write(path, *arguments)

    monkeypatch.setattr(npz, "write", full)
    return calls


@pytest.mark.parametrize("old", [False, True])
def test_ctrl_c_without_a_checkpoint_says_so(folder, tmp_path, capsys, monkeypatch, old):
    out = str(tmp_path / "m.npz")
    if old:  # of an earlier run
        with monkeypatch.context() as patch:
            press_at(patch, "update", 20)
            assert run(folder, "--epochs", "8", "--seed", "1", "--out", out) == 130
    capsys.readouterr()
    press_at(monkeypatch, "update", 10)
    fail_from(monkeypatch, 1)
    assert run(folder, "--epochs", "8", "--out", out) == 130
    err = capsys.readouterr().err
    assert f"'{out}.checkpoint' could not be written (No space left on device): " in err
    assert err.splitlines()[-1] == (
        f"minigd: interrupted after 11 updates, which are lost: {out}.checkpoint could not be "
        "written"
    )
    assert "resume with" not in err


def test_ctrl_c_with_an_older_checkpoint_says_what_it_holds(folder, tmp_path, capsys, monkeypatch):
    out = str(tmp_path / "m.npz")
    monkeypatch.setattr(module, "CHECKPOINT_SECONDS", 0.0)
    with monkeypatch.context() as patch:
        press_at(patch, "update", 10)
        fail_from(patch, 8)  # seven are written: after six updates and one epoch of four
        assert run(folder, "--epochs", "8", "--out", out) == 130
    err = capsys.readouterr().err.splitlines()
    assert err[-2] == (
        f"minigd: interrupted after 11 updates, of which the first 6 are saved in {out}.checkpoint"
    )
    assert main(shlex.split(err[-1].removeprefix("resume with: "))[1:]) == 0


def test_a_damaged_checkpoint_is_not_claimed(folder, tmp_path, capsys, monkeypatch):
    write = npz.write

    def damage(path, *arguments):
        write(path, *arguments)
        with open(path, "r+b") as file:
            file.seek(200)
            file.write(b"damaged")

    press_at(monkeypatch, "update", 10)
    monkeypatch.setattr(npz, "write", damage)
    assert run(folder, "--epochs", "8", "--out", str(tmp_path / "m.npz")) == 130
    assert "which are lost" in capsys.readouterr().err


# A model that can't be written where it should be ------------------------------------------------


def test_a_model_for_which_there_is_no_room_is_written_elsewhere(
    folder, tmp_path, capsys, monkeypatch
):
    elsewhere, out = tmp_path / "temporary", tmp_path / "m.npz"
    elsewhere.mkdir()
    assert run(folder, "--epochs", "3", "--out", str(tmp_path / "straight.npz")) == 0
    monkeypatch.setattr("tempfile.tempdir", str(elsewhere))
    write = npz.write

    def full(path, *arguments):
        if not os.fspath(path).startswith(str(elsewhere)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(path))
        write(path, *arguments)

    monkeypatch.setattr(npz, "write", full)
    assert run(folder, "--epochs", "3", "--out", str(out)) == 1
    (name,) = os.listdir(elsewhere)
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"minigd: '{out}' could not be written (No space left on device); the model is in "
        f"'{elsewhere / name}': move it to where there is room"
    )
    assert bits(elsewhere / name) == bits(tmp_path / "straight.npz")


@pytest.mark.parametrize("room", [0, 1])
def test_a_model_for_which_there_is_room_nowhere_is_lost_only_if_its_run_is(
    folder, tmp_path, capsys, monkeypatch, room
):
    out = tmp_path / "m.npz"
    with monkeypatch.context() as patch:
        fail_from(patch, 1 + room)
        assert run(folder, "--epochs", "3", "--out", str(out)) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert f"'{out}' could not be written (No space left on device); '" in said
    resumable = f"; make room, and use --resume: {out}.checkpoint holds the run"
    assert said.endswith(resumable) == bool(room)
    if room:
        assert run(folder, "--epochs", "3", "--out", str(out), "--resume") == 0
        assert run(folder, "--epochs", "3", "--out", str(tmp_path / "straight.npz")) == 0
        assert bits(out) == bits(tmp_path / "straight.npz")


def test_predictions_do_not_wait_for_a_reader_of_a_pipe(folder, tmp_path, capsys):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    command = ["predict", str(folder / "houses.npz"), str(folder / "new.csv"), "--out", str(pipe)]
    assert main(command) == 1
    assert (
        capsys.readouterr().err == f"minigd: {pipe}: no program reads this pipe: start one "
        "first, or name a file\n"
    )
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert main(command) == 0
        assert os.read(reader, 1 << 16).startswith(b"prediction")
    finally:
        os.close(reader)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
@pytest.mark.parametrize("times", [1, 200])
def test_a_full_device_is_named_by_whatever_write_finds_it_full(folder, tmp_path, capsys, times):
    rows = pd.concat([pd.read_csv(folder / "new.csv")] * times)
    rows.to_csv(tmp_path / "rows.csv", index=False)
    command = ["predict", str(folder / "houses.npz"), str(tmp_path / "rows.csv")]
    assert main([*command, "--out", "/dev/full"]) == 1
    assert capsys.readouterr().err == "minigd: /dev/full: No space left on device\n"


# Two runs, and leftovers of killed runs ----------------------------------------------------------


@pytest.mark.parametrize("command", ["train", "predict"])
def test_a_second_run_of_the_same_output_is_refused(folder, tmp_path, capsys, command):
    out = str(tmp_path / "out.npz")
    with locked(out):
        if command == "train":
            code = run(folder, "--epochs", "1", "--out", out)
        else:
            new = str(folder / "new.csv")
            code = main(["predict", str(folder / "houses.npz"), new, "--out", out])
    assert code == 1
    assert capsys.readouterr().err.splitlines() == [
        f"minigd: '{out}' can't be written: another run will write it; wait until that run "
        "has ended, or name another file"
    ]
    assert os.listdir(tmp_path) == []


KILLED = """
import os, signal, sys
from minigd.cli.main import main
from minigd.data.sources import cache
from minigd.training.trainer import Trainer

def kill(*arguments, **options):
    os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[1] == "caching":
    cache._write = lambda source, folder, *more: ((folder / "x.npy").write_bytes(b"half"), kill())
else:
    Trainer.fit = kill
main(sys.argv[2:])
"""


@posix
def test_what_kills_leave_is_listed_and_swept_by_the_next_run(folder, tmp_path, capsys):
    data, out = tmp_path / "houses.csv.gz", tmp_path / "m.npz"
    pd.read_csv(folder / "houses.csv").to_csv(data, index=False)
    rest = ["--target", "price", "--exclude", "id,date", *QUICK, "--epochs", "2"]
    command = ["train", str(data), *rest, "--out", str(out)]
    assert main(["info", "--leftovers", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"no run left anything in {str(tmp_path)!r}\n"

    for moment in ("caching", "training"):
        script = [sys.executable, "-c", KILLED, moment, *command]
        assert subprocess.run(script, check=False).returncode == -signal.SIGKILL
        capsys.readouterr()
        for place in (tmp_path, out):
            assert main(["info", "--leftovers", str(place)]) == 0
            *lines, advice = capsys.readouterr().out.splitlines()
            assert advice.startswith("Remove checkpoints that you won't resume")
            kinds = sorted(line.split("  ")[-1] for line in lines)
            killed = "half written by a process that was killed"
            kept = "the rows of an interrupted run, for --resume"
            # The lock, which the system has removed, and rows.
            assert kinds == [killed, killed if moment == "caching" else kept]
        with locked(out):
            assert main(["info", "--leftovers", str(out)]) == 0
            assert f"{out}.rows  " not in capsys.readouterr().out

    # The next run has its rows in memory or elsewhere, but removes these too.
    assert run(folder, "--epochs", "2", "--out", str(out)) == 0
    assert sorted(os.listdir(tmp_path)) == ["houses.csv.gz", "m.npz"]


def test_a_folder_of_rows_that_is_not_ours_stays(folder, tmp_path):
    (tmp_path / "m.npz.rows").mkdir()
    (tmp_path / "m.npz.rows" / "mine").write_text("mine")
    assert run(folder, "--epochs", "1", "--out", str(tmp_path / "m.npz")) == 0
    assert (tmp_path / "m.npz.rows" / "mine").read_text() == "mine"


def test_info_without_a_model_is_a_misuse(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["info"])
    assert caught.value.code == 2
    assert "the following arguments are required: MODEL" in capsys.readouterr().err


def test_rows_are_kept_for_a_run_that_can_go_on_and_for_no_other(folder, tmp_path, monkeypatch):
    data, out = tmp_path / "houses.csv.gz", tmp_path / "m.npz"
    pd.read_csv(folder / "houses.csv").to_csv(data, index=False)
    rest = ["--target", "price", "--exclude", "id,date", *QUICK, "--epochs", "4"]
    with monkeypatch.context() as patch:
        press_at(patch, "update", 7)
        fail_from(patch, 1)
        assert main(["train", str(data), *rest, "--out", str(out)]) == 130
    assert os.listdir(tmp_path) == ["houses.csv.gz"]
