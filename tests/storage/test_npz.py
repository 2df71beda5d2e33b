"""Files that are written whole or not at all, and read without running anything in them.

Every kind of damage is refused as `CheckpointError`; an old file survives every failed write.
"""

import builtins
import json
import os
import pickle
import signal
import subprocess
import sys
import zipfile

import numpy as np
import pytest

import minigd as gd
from minigd.storage import atomic_files, npz

OLD = {"epoch": 1}, {"W": np.arange(6.0).reshape(2, 3)}
NEW = {"epoch": 2}, {"W": np.ones((40, 30), dtype="float32"), "b": np.array(3)}


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "run.npz"
    npz.write(path, *OLD)
    return path


def assert_old_file_is_intact(path):
    description, arrays = npz.read(path)
    assert description["epoch"] == 1
    np.testing.assert_array_equal(arrays["W"], OLD[1]["W"])
    assert os.listdir(path.parent) == [path.name]  # and no temporary file beside it


# Writing and reading --------------------------------------------------------------------------


def test_what_was_written_is_read_back_with_its_dtypes(tmp_path):
    arrays = {
        "params/dense1.W": np.linspace(0, 1, 6, dtype="float32").reshape(2, 3),
        "file": np.arange(3),
        "empty": np.zeros((0, 4)),
        "flag": np.array(True),
        "ε/δ": np.array([np.nan, np.inf, -0.0]),
    }
    npz.write(tmp_path / "a.npz", {"text": "ε", "list": [1, None, 0.1]}, arrays)
    description, read = npz.read(tmp_path / "a.npz")
    assert description["text"] == "ε"
    assert description["list"] == [1, None, 0.1]
    assert read.keys() == arrays.keys()
    for name, expected in arrays.items():
        assert read[name].dtype == expected.dtype
        assert read[name].tobytes() == expected.tobytes()
        assert read[name].shape == expected.shape


@pytest.mark.parametrize("name", ["plain", "with.dots.bin", "ü.npz", ".hidden"])
def test_the_file_has_exactly_the_name_given(tmp_path, name):
    npz.write(str(tmp_path / name), *OLD)
    assert os.listdir(tmp_path) == [name]
    assert_old_file_is_intact(tmp_path / name)


def test_a_file_can_be_written_where_the_program_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    npz.write("run.npz", *OLD)
    assert_old_file_is_intact(tmp_path / "run.npz")


def test_a_new_file_takes_the_place_of_the_old(saved):
    npz.write(saved, *NEW)
    description, arrays = npz.read(saved)
    assert description["epoch"] == 2
    assert set(arrays) == {"W", "b"}
    assert os.listdir(saved.parent) == [saved.name]


def test_a_link_is_followed_and_stays_a_link(saved, tmp_path):
    folder = tmp_path / "links"
    folder.mkdir()
    link = folder / "latest.npz"
    link.symlink_to(saved)
    npz.write(link, *NEW)
    assert link.is_symlink()
    assert npz.read(saved)[0]["epoch"] == npz.read(link)[0]["epoch"] == 2
    assert os.listdir(folder) == ["latest.npz"]


def test_the_bytes_reach_the_disk_before_they_get_the_name(saved, monkeypatch):
    order = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (order.append("fsync"), fsync(fd))[1])
    monkeypatch.setattr(os, "replace", lambda *a: (order.append("replace"), replace(*a))[1])
    npz.write(saved, *NEW)
    assert order[:2] == ["fsync", "replace"]


# Failures while writing -----------------------------------------------------------------------


@pytest.mark.parametrize("error", [OSError("no space left"), KeyboardInterrupt(), MemoryError()])
@pytest.mark.parametrize("call", ["write_array", "fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file(saved, monkeypatch, call, error):
    def fail(*args, **kwargs):
        if call == "write_array":
            args[0].write(b"half of a file")
        raise error

    monkeypatch.setattr(np.lib.format if call == "write_array" else os, call, fail)
    with pytest.raises(type(error)):
        npz.write(saved, *NEW)
    monkeypatch.undo()
    assert_old_file_is_intact(saved)


def test_an_array_that_fails_half_way_leaves_the_old_file(saved):
    with pytest.raises(ValueError, match="allow_pickle"):
        npz.write(saved, {}, {**NEW[1], "bad": np.array([print, None])})
    assert_old_file_is_intact(saved)


def test_a_description_that_is_no_json_leaves_the_old_file(saved):
    with pytest.raises(TypeError, match="JSON"):
        npz.write(saved, {"callback": print}, {})
    assert_old_file_is_intact(saved)


def test_a_folder_that_may_not_be_written_to_leaves_the_old_file(saved, monkeypatch):
    # The permission itself would not stop a superuser, under whom tests in containers run.
    def read_only(path, mode="r", *args, **kwargs):
        if "x" in mode:
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, mode, *args, **kwargs)

    opened = builtins.open
    monkeypatch.setattr(builtins, "open", read_only)
    with pytest.raises(PermissionError):
        npz.write(saved, *NEW)
    monkeypatch.undo()
    assert_old_file_is_intact(saved)


def test_a_folder_that_does_not_exist_is_not_made(tmp_path):
    with pytest.raises(FileNotFoundError):
        npz.write(tmp_path / "missing" / "run.npz", *NEW)
    assert os.listdir(tmp_path) == []


KILLED = """
import os, signal, sys
import numpy as np
from minigd.storage import atomic_files, npz

module, name = {"write_array": (np.lib.format, "write_array"), "fsync": (os, "fsync"),
                "replace": (os, "replace"), "behind": (atomic_files, "_sync")}[sys.argv[2]]

def kill(*args, **kwargs):
    if name == "write_array":
        args[0].write(b"half of a file")
    os.kill(os.getpid(), signal.SIGKILL)

setattr(module, name, kill)
npz.write(sys.argv[1], {"epoch": 2}, {"W": np.ones((40, 30))})
"""


@pytest.mark.few(2)
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL here")
@pytest.mark.parametrize("moment", ["write_array", "fsync", "replace", "behind"])
def test_a_process_killed_while_it_writes_leaves_the_old_file_or_the_new_one(saved, moment):
    done = subprocess.run([sys.executable, "-c", KILLED, str(saved), moment], check=False)
    assert done.returncode == -signal.SIGKILL
    if moment == "behind":
        assert npz.read(saved)[0]["epoch"] == 2
    else:
        assert npz.read(saved)[0]["epoch"] == 1
        assert len(os.listdir(saved.parent)) == 2
        atomic_files.sweep(saved)
        assert_old_file_is_intact(saved)


# Files that are refused -----------------------------------------------------------------------


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file '.*run\.npz'"):
        npz.read(tmp_path / "run.npz")


@pytest.mark.parametrize("percent", range(0, 100, 10))
def test_a_truncated_file_is_refused(saved, percent):
    whole = saved.read_bytes()
    saved.write_bytes(whole[: len(whole) * percent // 100])
    with pytest.raises(gd.CheckpointError, match=r"run\.npz' is not a file that minigd saved, or"):
        npz.read(saved)


@pytest.mark.parametrize("start", [b"", b"PK\x03\x04", b"\x93NUMPY\x01\x00", b"\x80\x04"])
def test_random_bytes_are_refused(tmp_path, start):
    rng = np.random.default_rng(0)
    for size in (1, 10, 1000, 100_000):
        (tmp_path / "noise.npz").write_bytes(start + rng.bytes(size))
        with pytest.raises(gd.CheckpointError, match="is not a file that minigd saved"):
            npz.read(tmp_path / "noise.npz")


def test_a_flipped_bit_anywhere_is_refused_or_changes_nothing(saved):
    whole = saved.read_bytes()
    for place in range(len(whole)):
        data = bytearray(whole)
        data[place] ^= (1, 8, 64, 255, 2, 128)[place % 6]
        saved.write_bytes(data)
        try:
            description, arrays = npz.read(saved)
        except gd.CheckpointError:
            continue
        assert description["epoch"] == 1  # a bit of the archive that nothing reads: a date, say
        np.testing.assert_array_equal(arrays["W"], OLD[1]["W"])


def test_a_file_of_numpys_is_refused(tmp_path):
    np.savez(tmp_path / "foreign.npz", W=np.ones(3))
    np.save(tmp_path / "foreign.npy", np.ones(3))
    (tmp_path / "empty.npz").touch()
    for name in ("foreign.npz", "foreign.npy", "empty.npz"):
        with pytest.raises(gd.CheckpointError, match=f"{name}' is not a file that minigd saved"):
            npz.read(tmp_path / name)


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(gd.CheckpointError, match="is not a file that minigd saved"):
        npz.read(tmp_path)


def write_description(path, text, **arrays):
    """Write a file whose description is any text."""
    members = {"description.json": np.frombuffer(text.encode(), dtype=np.uint8), **arrays}
    with open(path, "wb") as file:
        np.savez(file, **members)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not JSON",
        "[1, 2]",
        "3",
        "null",
        "{}",
        '{"format": "other", "version": 1}',
        '{"format": "minigd"}',
        '{"format": "minigd", "version": "1"}',
        '{"format": "minigd", "version": null}',
    ],
)
def test_a_description_of_another_kind_is_refused(tmp_path, text):
    write_description(tmp_path / "a.npz", text)
    with pytest.raises(gd.CheckpointError, match="is not a file that minigd saved"):
        npz.read(tmp_path / "a.npz")


def test_a_file_of_a_newer_version_is_refused_with_that_reason(tmp_path):
    text = json.dumps({"format": "minigd", "version": npz.VERSION + 1})
    write_description(tmp_path / "a.npz", text)
    with pytest.raises(gd.CheckpointError, match=r"format version 2, .* reads up to 1: install"):
        npz.read(tmp_path / "a.npz")


class Trap:
    """Runs code when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_inside_is_refused_and_not_run(saved, tmp_path):
    sprung = tmp_path / "sprung"
    bait = np.array([Trap(sprung)], dtype=object)
    np.savez(tmp_path / "bait.npz", allow_pickle=True, **{"W": bait})
    with zipfile.ZipFile(tmp_path / "bait.npz") as archive:
        member = archive.read("W.npy")
    with zipfile.ZipFile(saved, "a") as archive:  # a file of minigd's in all else
        archive.writestr("bait.npy", member)
    for path in (saved, tmp_path / "bait.npz"):
        with pytest.raises(gd.CheckpointError, match="is not a file that minigd saved"):
            npz.read(path)
    (tmp_path / "plain.npz").write_bytes(pickle.dumps(Trap(sprung)))
    with pytest.raises(gd.CheckpointError, match="is not a file that minigd saved"):
        npz.read(tmp_path / "plain.npz")
    assert not sprung.exists()


@pytest.mark.parametrize("change", [lambda W: W + 1, np.transpose, lambda W: W.astype("float32")])
def test_an_archive_written_again_with_other_numbers_is_refused(saved, change):
    with np.load(saved) as archive:
        members = dict(archive)
    np.savez(saved, **members)
    assert_old_file_is_intact(saved)
    np.savez(saved, **{**members, "W": change(members["W"])})
    with pytest.raises(gd.CheckpointError, match="was changed after minigd wrote it"):
        npz.read(saved)
