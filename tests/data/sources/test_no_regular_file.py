"""Pipes, devices, sockets and folders are refused at once wherever a file is read.

A number is no path: 1 would be standard output, and be closed.
"""

import os
import signal
import socket

import numpy as np
import pytest

import minigd as gd
from minigd.cli.main import main
from minigd.storage import npz

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")


@pytest.fixture(autouse=True)
def hurry():
    """End a test that waits for a pipe."""

    def fail(number, frame):
        raise TimeoutError("it waits for ever")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(params=["pipe", "/dev/zero", "/dev/null", "socket", "folder", "link to a pipe"])
def odd(request, tmp_path):
    """Return the path of something that is not a regular file."""
    if request.param.startswith("/"):
        return request.param
    path = tmp_path / "odd"
    if request.param == "folder":
        path.mkdir()
    elif request.param == "socket":
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(str(path))
    else:
        os.mkfifo(tmp_path / "pipe")
        path.symlink_to(tmp_path / "pipe")
        path = tmp_path / "pipe" if request.param == "pipe" else path
    return str(path)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    folder = tmp_path_factory.mktemp("table")
    rows = [f"{i},{i % 2 + i / 100}\n" for i in range(60)]
    (folder / "t.csv").write_text("a,y\n" + "".join(rows))
    command = ["train", str(folder / "t.csv"), "--target", "y", "--epochs", "1", "--hidden", "2"]
    assert main([*command, "--out", str(folder / "m.npz")]) == 0
    return folder


MODELS = {"load": gd.load, "resume": gd.Trainer.resume, "npz": npz.read}
TABLES = {
    "csv": gd.CsvSource,
    "several": lambda path: gd.CsvSource([path]),
    "npy": gd.NpySource,
    "parquet": gd.ParquetSource,
    "idx": gd.IdxSource,
}


@pytest.mark.parametrize("read", MODELS.values(), ids=MODELS)
def test_a_model_is_read_from_a_file(odd, read):
    with pytest.raises(gd.CheckpointError, match=f"'{odd}' is not a file that minigd saved, but a"):
        read(odd)


@pytest.mark.parametrize("read", TABLES.values(), ids=TABLES)
def test_a_table_is_read_from_a_file(odd, read):
    with pytest.raises((gd.DataError, IsADirectoryError), match=odd):
        read(odd)


def test_targets_beside_an_array_are_read_from_a_file(odd, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((3, 1)))
    with pytest.raises((gd.DataError, IsADirectoryError), match=odd):
        gd.NpySource(tmp_path / "x.npy", odd)


def test_an_index_is_read_from_a_file(odd, table):
    source = gd.CsvSource(table / "t.csv", target="y", index_path=odd)
    with pytest.raises(gd.CheckpointError, match=odd):
        source.take(np.array([3, 1]))


@pytest.mark.parametrize(
    "command",
    ["info ODD", "predict ODD DATA", "evaluate ODD DATA", "predict MODEL ODD", "evaluate MODEL ODD",
     "train ODD --target y", "race ODD --target y"],
)  # fmt: skip
def test_commands_refuse_it_in_one_line(odd, table, capsys, command):
    known = {"ODD": odd, "MODEL": str(table / "m.npz"), "DATA": str(table / "t.csv")}
    assert main([known.get(word, word) for word in command.split()]) == 1
    err = capsys.readouterr().err
    assert odd in err
    assert len(err.splitlines()) == 1


def test_a_checkpoint_to_resume_is_a_file(table, tmp_path, capsys):
    os.mkfifo(tmp_path / "m.npz.checkpoint")
    command = ["train", str(table / "t.csv"), "--target", "y", "--resume"]
    assert main([*command, "--out", str(tmp_path / "m.npz")]) == 1
    assert (
        "m.npz.checkpoint' is not a file that minigd saved, but a pipe" in capsys.readouterr().err
    )


def test_a_file_that_becomes_a_pipe_while_it_is_opened_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "m.npz"
    gd.Sequential([gd.Dense(1)], 2).save(path)
    stat = os.stat

    def swapped(name, *args, **kwargs):
        found = stat(name, *args, **kwargs)
        if str(name) == str(path):
            os.unlink(path)
            os.mkfifo(path)
            monkeypatch.undo()
        return found

    monkeypatch.setattr("minigd.storage.regular_files.os.stat", swapped)
    with pytest.raises(gd.CheckpointError, match=r"m\.npz"):
        gd.load(path)


# Paths are paths ----------------------------------------------------------------------------------

NO_PATHS = [0, 1, True, False, None, 1.5, ["a"], np.int64(1), object()]


def model():
    return gd.Sequential([gd.Dense(1)], 2)


CALLS = {
    "load": gd.load,
    "resume": gd.Trainer.resume,
    "save": lambda path: model().save(path),
    "save a run": lambda path: gd.Trainer(model(), "mse", "adam").save(path),
    "checkpoint": gd.Checkpoint,
    "log": gd.CsvLog,
    "csv": lambda path: gd.CsvSource(path if isinstance(path, list) else [path]),
    "npy": gd.NpySource,
    "idx": gd.IdxSource,
    "parquet": lambda path: gd.ParquetSource([path]),
    "cache": lambda path: gd.ArraySource(np.zeros((2, 1))).cache(path),
    "onnx": lambda path: gd.export_onnx(model(), path),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_what_is_no_path_is_refused_and_nothing_is_closed(call):
    for value in NO_PATHS:
        with pytest.raises(TypeError, match=r"path|file object"):
            call(value if call is not CALLS["csv"] else [value])
    os.fstat(0)
    os.fstat(1)


def test_a_path_may_be_bytes_and_may_hold_no_nul(tmp_path):
    model().save(os.fsencode(tmp_path / "m.npz"))
    assert gd.load(os.fsencode(tmp_path / "m.npz")).n_in == 2
    for call in (gd.load, model().save, gd.NpySource, gd.CsvSource):
        with pytest.raises(ValueError, match="holds a NUL"):
            call(f"{tmp_path}/a\0b")
