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
from hypothesis import given
from hypothesis import strategies as st

import minigd as gd
from minigd.storage import npz as state

OLD = {"epoch": 1}, {"W": np.arange(6.0).reshape(2, 3)}
NEW = {"epoch": 2}, {"W": np.ones((40, 30), dtype="float32"), "b": np.array(3)}


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "run.npz"
    state.write(path, *OLD)
    return path


def assert_old_file_is_intact(path):
    description, arrays = state.read(path)
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
    state.write(tmp_path / "a.npz", {"text": "ε", "list": [1, None, 0.1]}, arrays)
    description, read = state.read(tmp_path / "a.npz")
    assert description["text"] == "ε"
    assert description["list"] == [1, None, 0.1]
    assert read.keys() == arrays.keys()
    for name, expected in arrays.items():
        assert read[name].dtype == expected.dtype
        assert read[name].tobytes() == expected.tobytes()
        assert read[name].shape == expected.shape


@pytest.mark.parametrize("name", ["plain", "with.dots.bin", "ü.npz", ".hidden"])
def test_the_file_has_exactly_the_name_given(tmp_path, name):
    state.write(str(tmp_path / name), *OLD)
    assert os.listdir(tmp_path) == [name]
    assert_old_file_is_intact(tmp_path / name)


def test_a_file_can_be_written_where_the_program_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    state.write("run.npz", *OLD)
    assert_old_file_is_intact(tmp_path / "run.npz")


def test_a_new_file_takes_the_place_of_the_old(saved):
    state.write(saved, *NEW)
    description, arrays = state.read(saved)
    assert description["epoch"] == 2
    assert set(arrays) == {"W", "b"}
    assert os.listdir(saved.parent) == [saved.name]


def test_a_link_is_followed_and_stays_a_link(saved, tmp_path):
    folder = tmp_path / "links"
    folder.mkdir()
    link = folder / "latest.npz"
    link.symlink_to(saved)
    state.write(link, *NEW)
    assert link.is_symlink()
    assert state.read(saved)[0]["epoch"] == state.read(link)[0]["epoch"] == 2
    assert os.listdir(folder) == ["latest.npz"]


def test_the_bytes_reach_the_disk_before_they_get_the_name(saved, monkeypatch):
    order = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (order.append("fsync"), fsync(fd))[1])
    monkeypatch.setattr(os, "replace", lambda *a: (order.append("replace"), replace(*a))[1])
    state.write(saved, *NEW)
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
        state.write(saved, *NEW)
    monkeypatch.undo()
    assert_old_file_is_intact(saved)


def test_an_array_that_fails_half_way_leaves_the_old_file(saved):
    with pytest.raises(ValueError, match="allow_pickle"):
        state.write(saved, {}, {**NEW[1], "bad": np.array([print, None])})
    assert_old_file_is_intact(saved)


def test_a_description_that_is_no_json_leaves_the_old_file(saved):
    with pytest.raises(TypeError, match="JSON"):
        state.write(saved, {"callback": print}, {})
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
        state.write(saved, *NEW)
    monkeypatch.undo()
    assert_old_file_is_intact(saved)


def test_a_folder_that_does_not_exist_is_not_made(tmp_path):
    with pytest.raises(FileNotFoundError):
        state.write(tmp_path / "missing" / "run.npz", *NEW)
    assert os.listdir(tmp_path) == []


KILLED = """
import os, signal, sys
import numpy as np
from minigd.storage import npz as state

module, name = {"write_array": (np.lib.format, "write_array"), "fsync": (os, "fsync"),
                "replace": (os, "replace"), "behind": (state, "_sync_folder")}[sys.argv[2]]

def kill(*args, **kwargs):
    if name == "write_array":
        args[0].write(b"half of a file")
    os.kill(os.getpid(), signal.SIGKILL)

setattr(module, name, kill)
state.write(sys.argv[1], {"epoch": 2}, {"W": np.ones((40, 30))})
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL here")
@pytest.mark.parametrize("moment", ["write_array", "fsync", "replace", "behind"])
def test_a_process_killed_while_it_writes_leaves_the_old_file_or_the_new_one(saved, moment):
    done = subprocess.run([sys.executable, "-c", KILLED, str(saved), moment], check=False)
    assert done.returncode == -signal.SIGKILL
    if moment == "behind":
        assert state.read(saved)[0]["epoch"] == 2
    else:
        assert state.read(saved)[0]["epoch"] == 1
        assert len(os.listdir(saved.parent)) == 2
        state.sweep(saved)
        assert_old_file_is_intact(saved)


def test_sweeping_removes_what_writes_of_this_file_left_and_nothing_else(tmp_path):
    digits = "0123456789abcdef" * 2
    path = tmp_path / "run[1].npz"
    others = [".other.npz." + digits + ".tmp", ".run1.npz." + digits + ".tmp", ".run[1].npz.tmp"]
    for name in [path.name, *others, f".run[1].npz.{digits}.tmp"]:
        (tmp_path / name).write_bytes(b"something")
    state.sweep(path)
    assert sorted(os.listdir(tmp_path)) == sorted([path.name, *others])
    state.sweep(tmp_path / "missing" / "run.npz")


# Files that are refused -----------------------------------------------------------------------


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file '.*run\.npz'"):
        state.read(tmp_path / "run.npz")


@pytest.mark.parametrize("percent", range(0, 100, 10))
def test_a_truncated_file_is_refused(saved, percent):
    whole = saved.read_bytes()
    saved.write_bytes(whole[: len(whole) * percent // 100])
    with pytest.raises(gd.CheckpointError, match=r"run\.npz' is not a file that minigd saved, or"):
        state.read(saved)


@pytest.mark.parametrize("start", [b"", b"PK\x03\x04", b"\x93NUMPY\x01\x00", b"\x80\x04"])
def test_random_bytes_are_refused(tmp_path, start):
    rng = np.random.default_rng(0)
    for size in (1, 10, 1000, 100_000):
        (tmp_path / "noise.npz").write_bytes(start + rng.bytes(size))
        with pytest.raises(gd.CheckpointError, match="is not a file that minigd saved"):
            state.read(tmp_path / "noise.npz")


def test_a_flipped_bit_anywhere_is_refused_or_changes_nothing(saved):
    whole = saved.read_bytes()
    for place in range(len(whole)):
        data = bytearray(whole)
        data[place] ^= (1, 8, 64, 255, 2, 128)[place % 6]
        saved.write_bytes(data)
        try:
            description, arrays = state.read(saved)
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
            state.read(tmp_path / name)


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(gd.CheckpointError, match="is not a file that minigd saved"):
        state.read(tmp_path)


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
        state.read(tmp_path / "a.npz")


def test_a_file_of_a_newer_version_is_refused_with_that_reason(tmp_path):
    text = json.dumps({"format": "minigd", "version": state.VERSION + 1})
    write_description(tmp_path / "a.npz", text)
    with pytest.raises(gd.CheckpointError, match=r"has format version 2 .* reads up to 1: install"):
        state.read(tmp_path / "a.npz")


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
            state.read(path)
    (tmp_path / "plain.npz").write_bytes(pickle.dumps(Trap(sprung)))
    with pytest.raises(gd.CheckpointError, match="is not a file that minigd saved"):
        state.read(tmp_path / "plain.npz")
    assert not sprung.exists()


# Objects as JSON ------------------------------------------------------------------------------


class Configured:
    """Describes itself by the attributes that its constructor keeps."""

    def config(self):
        return state.arguments(self)


class Scale(Configured):
    """Keeps its arguments, as scikit-learn's estimators do."""

    def __init__(self, factor=2.0, shift=None):
        self.factor, self.shift = factor, shift


class Forgetful(Configured):
    """Keeps no argument."""

    def __init__(self, factor, shift=0):
        self.shift = shift


class Variadic:
    """Takes arguments that have no names."""

    def __init__(self, *widths):
        self.widths = widths


class Bare(Configured):
    """Takes no arguments."""


def test_an_object_is_described_by_its_arguments_and_made_again():
    description = json.loads(json.dumps(state.describe(Scale(3.0))))
    assert description == {"class": "Scale", "arguments": {"factor": 3.0, "shift": None}}
    again = state.rebuild(description, {"Scale": Scale})
    assert type(again) is Scale
    assert (again.factor, again.shift) == (3.0, None)


def test_a_class_without_arguments_needs_no_init():
    assert state.arguments(Bare()) == {}
    assert type(state.rebuild(state.describe(Bare()), {"Bare": Bare})) is Bare


def test_an_argument_that_was_not_kept_is_named_with_the_line_to_write():
    with pytest.raises(TypeError, match=r"Forgetful.__init__ takes 'factor' .*`self\.factor = fac"):
        state.arguments(Forgetful(1))


def test_arguments_without_names_are_refused_and_not_dropped():
    with pytest.raises(TypeError, match="Variadic"):
        state.arguments(Variadic(10, 20))


def test_an_argument_that_no_file_holds_is_named():
    with pytest.raises(TypeError, match="Scale can't be saved: its argument 'shift' is <built-in"):
        state.describe(Scale(shift=print))


def test_only_known_classes_are_made():
    with pytest.raises(gd.CheckpointError, match=r"a class 'Scale' .*custom=\[Scale\]"):
        state.rebuild(state.describe(Scale()), {"Bare": Bare})


@pytest.mark.parametrize("arguments", [{"units": 3}, {"units": -1, "initializer": "zeros"}])
def test_arguments_that_a_class_does_not_take_are_refused(arguments):
    known = {"Dense": gd.Dense if "initializer" in arguments else Scale}
    with pytest.raises(gd.CheckpointError, match="Dense does not take the arguments in the file"):
        state.rebuild({"class": "Dense", "arguments": arguments}, known)


# Nested dicts ---------------------------------------------------------------------------------

plain = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 5), st.floats(), st.text(), st.lists(st.integers())
)
scalars = st.builds(
    lambda kind, value: np.dtype(kind).type(value),
    st.sampled_from(["float32", "float64", "int64", "bool"]),
    st.integers(0, 1),
)
tensors = st.builds(
    lambda kind, shape: np.ones(shape, dtype=kind),
    st.sampled_from(["float32", "int64"]),
    st.lists(st.integers(0, 3), max_size=2),
)
names = st.one_of(st.just("array"), st.text(st.characters(exclude_characters="/"), max_size=3))
trees = st.recursive(
    plain | scalars | tensors, lambda inner: st.dictionaries(names, inner, max_size=3), max_leaves=8
)


def assert_same(given, found):
    if isinstance(given, dict):
        assert list(found) == list(given)
        for name, value in given.items():
            assert_same(value, found[name])
    elif isinstance(given, np.ndarray | np.generic):
        assert found.dtype == given.dtype
        assert found.shape == given.shape
        assert found.tobytes() == given.tobytes()
    else:
        assert type(found) is type(given)
        assert found == given or found != found


@given(trees)
def test_nested_dicts_come_back_as_they_were(tree):
    arrays = {}
    text = json.dumps(state.split(tree, "run", arrays))
    assert_same(tree, state.join(json.loads(text), arrays))


def test_a_number_of_numpys_keeps_its_dtype_and_so_the_bits_of_what_it_goes_into():
    arrays = {}
    value = np.float32(0.1)
    (found,) = state.join(state.split({"v": value}, "run", arrays), arrays).values()
    assert (found * 3.3).dtype == (value * 3.3).dtype == np.float32


def test_names_that_a_file_would_change_are_refused():
    with pytest.raises(TypeError, match="run/losses can't be saved: its name 3 is no text"):
        state.split({"losses": {3: 0.5}}, "run", {})
    with pytest.raises(ValueError, match="two arrays have the name 'run/a/b'"):
        state.split({"a": {"b": np.ones(1)}, "a/b": np.zeros(1)}, "run", {})
