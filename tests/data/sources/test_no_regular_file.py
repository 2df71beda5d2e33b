"""Pipes, devices, sockets and folders are refused at once wherever a file is read.

A number is not a path: 1 would be standard output, and would be closed.
"""

import io
import os
import re
import signal
import socket

import numpy as np
import pytest
from oracles import signatures

import minigd as gd
from minigd.checks.user_file import check_file
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


@pytest.mark.few(2)
def test_an_index_is_read_from_a_file(odd, table):
    source = gd.CsvSource(table / "t.csv", target="y", index_path=odd)
    with pytest.raises(gd.CheckpointError, match=odd):
        source.take(np.array([3, 1]))


@pytest.mark.few
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
    if command.split()[1] == "ODD" and "--target" not in command:
        assert "a table is read" not in err
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

NO_PATHS = [0, 1, True, False, None, 1.5, ["a"], {}, np.int64(1), object(), bytearray(b"a")]


def model():
    return gd.Sequential([gd.Dense(1)], 2)


def table_model(folder):
    source = gd.CsvSource(folder / "t.csv", target="b")
    return gd.TableModel(gd.Sequential([gd.Dense(1)], 1), source.schema)


def rows(source):
    return [batch.x.tolist() for batch in gd.Batches(source, batch_size=2)]


def fit_with(callback):
    trainer = gd.Trainer(model(), "mse", "sgd")
    trainer.fit(np.zeros((2, 2)), np.zeros(2), callbacks=[callback])


@pytest.fixture
def files(tmp_path):
    """Return a folder with a file of each kind that is read."""
    x = np.arange(8.0).reshape(4, 2)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", x[:, 0])
    (tmp_path / "t.csv").write_text("a,b\n1,2\n3,4\n")
    (tmp_path / "images").write_bytes(bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 2]) + bytes(4))
    (tmp_path / "labels").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 2]) + bytes(2))
    pa = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet").write_table(
        pa.table({"a": [1.0, 2.0]}), tmp_path / "t.parquet"
    )
    gd.Trainer(model(), "mse", "adam").save(tmp_path / "m.npz")
    table_model(tmp_path).save(tmp_path / "table.npz")
    (tmp_path / "layers.py").write_text("import minigd as gd\nclass Own(gd.Tanh): pass\n")
    return tmp_path


def indexed(path, folder):
    return gd.CsvSource(folder / "t.csv", index_path=path).take(np.array([1, 0]))


PATHS = {
    "CsvSource.path": ("t.csv", lambda path, folder: rows(gd.CsvSource([path]))),
    "CsvSource.index_path": ("t.index", indexed),
    "ParquetSource.path": ("t.parquet", lambda path, folder: rows(gd.ParquetSource([path]))),
    "NpySource.x": ("x.npy", lambda path, folder: rows(gd.NpySource(path))),
    "NpySource.y": ("y.npy", lambda path, folder: rows(gd.NpySource(folder / "x.npy", path))),
    "IdxSource.images": ("images", lambda path, folder: rows(gd.IdxSource(path))),
    "IdxSource.labels": (
        "labels",
        lambda path, folder: rows(gd.IdxSource(folder / "images", path)),
    ),
    "load.path": ("m.npz", lambda path, folder: gd.load(path)),
    "load_table.path": ("table.npz", lambda path, folder: gd.load_table(path)),
    "TableModel.save.path": ("out", lambda path, folder: table_model(folder).save(path)),
    "Trainer.resume.path": ("m.npz", lambda path, folder: gd.Trainer.resume(path)),
    "Sequential.save.path": ("out", lambda path, folder: model().save(path)),
    "Trainer.save.path": ("out", lambda path, folder: gd.Trainer(model(), "mse", "sgd").save(path)),
    "Checkpoint.path": ("out", lambda path, folder: fit_with(gd.Checkpoint(path))),
    "CsvLog.path": ("out", lambda path, folder: fit_with(gd.CsvLog(path))),
    "Source.cache.path": ("out", lambda path, folder: gd.CsvSource(folder / "t.csv").cache(path)),
    "export_onnx.path": ("out", lambda path, folder: gd.export_onnx(model(), path)),
    "check_file.path": ("layers.py", lambda path, folder: check_file(path)),
}
"""What public callables take as a path: the name of a valid file, and a call with it."""

OPTIONAL = {"CsvSource.index_path", "NpySource.y", "IdxSource.labels"}


def test_all_paths_are_looked_at():
    found = set()
    for line in signatures.FILE.read_text().splitlines():
        name, _, written = line.removeprefix("gd.").partition("(")
        for parameter in re.findall(r"\b(path|index_path|images|labels)\b(?!=')", written):
            found.add(f"{re.sub('[A-Za-z]+Source.cache', 'Source.cache', name)}.{parameter}")
    assert found - set(PATHS) == set()
    assert len(found) >= 12


@pytest.mark.few
@pytest.mark.parametrize("name", PATHS)
def test_what_is_no_path_is_refused_by_name_and_nothing_is_closed(files, name):
    if name == "export_onnx.path":
        pytest.importorskip("onnx")
    own = name.rpartition(".")[2]
    for value in NO_PATHS:
        if value is None and name in OPTIONAL:
            continue
        with pytest.raises(TypeError, match=rf"({own}|a CSV) must be a path"):
            PATHS[name][1](value, files)
    os.fstat(0)
    os.fstat(1)


@pytest.mark.few
@pytest.mark.parametrize("name", PATHS)
def test_a_path_may_be_bytes(files, name):
    if name == "export_onnx.path":
        pytest.importorskip("onnx")
    file, call = PATHS[name]
    given = call(files / file, files)
    there = sorted(files.iterdir())
    if file == "out" and (files / file).is_file():
        (files / file).unlink()
    again = call(os.fsencode(files / file), files)
    assert sorted(files.iterdir()) == there
    if isinstance(given, list):
        assert str(again) == str(given)


def test_a_file_object_is_one_of_bytes():
    for read in (gd.CsvSource, gd.ParquetSource):
        with pytest.raises(TypeError, match="open the file in binary mode, 'rb'"):
            read(io.StringIO("a,b\n1,2\n"))


def test_a_path_holds_no_nul(tmp_path):
    for call in (gd.load, model().save, gd.NpySource, gd.CsvSource, gd.ParquetSource):
        with pytest.raises(ValueError, match="holds a NUL"):
            call(f"{tmp_path}/a\0b")
