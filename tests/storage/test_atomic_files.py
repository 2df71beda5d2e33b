"""A file that replaces another is whole, keeps its permissions, and leaves nothing behind.

What holds for one writer holds for all: `WRITERS` are the public ways to a file or a folder.
"""

import ast
import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import minigd as gd
from minigd.cli.main import main
from minigd.cli.paths import save_picture
from minigd.storage.atomic_files import (
    check_writable,
    replacing,
    replacing_folder,
    replacing_text,
    sweep,
)

posix = pytest.mark.skipif(os.name != "posix", reason="these are permissions of POSIX")
PACKAGE = Path(gd.__file__).parent
X = np.arange(40.0).reshape(20, 2)


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


def model():
    return gd.Sequential([gd.Dense(1)], inputs=2)


def trained(*callbacks):
    made = gd.Trainer(model(), "mse", "sgd")
    made.fit(gd.Batches(X / 40, X[:, 0] / 40), epochs=2, callbacks=callbacks)
    return made


def predict(path):
    table, saved = path.parent / "rows.csv", path.parent / "model.npz"
    table.write_text("a,y\n" + "".join(f"{i},{2 * i}\n" for i in range(30)))
    quiet = ["--epochs", "1", "--hidden", "0", "--out", str(saved)]
    assert main(["train", str(table), "--target", "y", *quiet]) == 0
    assert main(["predict", str(saved), str(table), "--out", str(path)]) == 0
    table.unlink()
    saved.unlink()


def draw_over(path):
    from matplotlib.figure import Figure

    picture = path.with_name("picture.png")
    os.rename(path, picture)
    save_picture(Figure(), picture)
    os.rename(picture, path)


def log_again(path):
    """Log a run that goes on: its lines are written again."""
    trained(gd.CsvLog(path))
    made = trained()
    made.fit(epochs=1, callbacks=[gd.CsvLog(path)])


WRITERS = {
    "a model": lambda path: model().save(path),
    "a run": lambda path: trained().save(path),
    "a checkpoint": lambda path: trained(gd.Checkpoint(path, every_epochs=1)),
    "a log": log_again,
    "predictions": predict,
    "a picture": draw_over,
    "an export": lambda path: gd.export_onnx(model(), path),
}


@pytest.mark.few
@posix
@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("permissions", [0o600, 0o640, 0o666])
def test_the_file_keeps_its_permissions(tmp_path, writer, permissions):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(permissions)
    WRITERS[writer](path)
    assert path.read_bytes() != b"old"
    assert mode(path) == permissions
    assert os.listdir(tmp_path) == ["file"]


@posix
@pytest.mark.parametrize("writer", sorted(WRITERS.keys() - {"a picture"}))
def test_a_link_is_followed_and_stays_one(tmp_path, writer):
    (tmp_path / "far").mkdir()
    path, link = tmp_path / "far" / "file", tmp_path / "link"
    path.write_bytes(b"old")
    link.symlink_to(path)
    WRITERS[writer](link)
    assert link.is_symlink()
    assert path.read_bytes() != b"old"
    assert os.listdir(tmp_path / "far") == ["file"]


@posix
def test_a_new_file_has_the_permissions_of_any_new_file(tmp_path):
    before = os.umask(0o027)
    try:
        with replacing(tmp_path / "new"):
            pass
        with replacing_folder(tmp_path / "folder") as folder:
            (folder / "rows").write_bytes(b"new")
    finally:
        os.umask(before)
    assert (mode(tmp_path / "new"), mode(tmp_path / "folder")) == (0o640, 0o750)


@posix
def test_no_moment_of_a_write_shows_others_what_they_may_not_read(tmp_path):
    path = tmp_path / "secret"
    path.write_bytes(b"old")
    path.chmod(0o600)
    with replacing(path) as file:
        file.write(b"new")
        assert [mode(tmp_path / name) for name in os.listdir(tmp_path)] == [0o600, 0o600]
        assert mode(file.fileno()) == 0o600


@posix
def test_a_cache_keeps_the_permissions_of_its_folder_and_files(tmp_path):
    folder = tmp_path / "cache"
    gd.ArraySource(X, X[:, 0]).cache(folder)
    folder.chmod(0o700)
    (folder / "x.npy").chmod(0o600)
    cached = gd.ArraySource(2 * X, X[:, 0]).cache(folder)
    np.testing.assert_array_equal(cached.take(slice(0, 20))[0], 2 * X)
    assert (mode(folder), mode(folder / "x.npy")) == (0o700, 0o600)
    assert os.listdir(tmp_path) == ["cache"]


@posix
def test_a_cache_behind_a_link_is_replaced_and_the_link_stays(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "far")
    for factor in (1, 2):
        cached = gd.ArraySource(factor * X).cache(tmp_path / "link")
        np.testing.assert_array_equal(cached.take(slice(0, 20))[0], factor * X)
        assert (tmp_path / "link").is_symlink()
    assert sorted(os.listdir(tmp_path)) == ["far", "link"]


# Failures -------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [OSError("no space left"), KeyboardInterrupt(), MemoryError()])
@pytest.mark.parametrize("write", [replacing, replacing_text])
@pytest.mark.parametrize("old", [None, b"old"])
def test_an_error_in_the_middle_leaves_what_was_there(tmp_path, error, write, old):
    path = tmp_path / "file"
    if old is not None:
        path.write_bytes(old)

    def fail():
        with write(path) as file:
            file.write("half" if write is replacing_text else b"half")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert os.listdir(tmp_path) == ([] if old is None else ["file"])
    assert old is None or path.read_bytes() == old


@pytest.mark.parametrize("call", ["replace", "fsync"])
@pytest.mark.parametrize("at", [0, 1])
def test_a_folder_that_cannot_be_replaced_stays_as_it_was(tmp_path, monkeypatch, call, at):
    gd.ArraySource(X).cache(tmp_path / "cache")
    done, calls = getattr(os, call), []

    def fail(*arguments):
        calls.append(arguments)
        if len(calls) == at + 1:
            raise OSError("the disk is gone")
        return done(*arguments)

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="the disk is gone"):
        gd.ArraySource(2 * X).cache(tmp_path / "cache")
    monkeypatch.undo()
    assert os.listdir(tmp_path) == ["cache"]
    cached = gd.ArraySource(X).cache(tmp_path / "cache")
    np.testing.assert_array_equal(cached.take(slice(0, 20))[0], X)


FULL = """
import os, resource, signal, sys
from minigd.storage.atomic_files import replacing, replacing_text

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
write = replacing_text if sys.argv[2] == "text" else replacing
piece = "1234567," if sys.argv[2] == "text" else b"1234567,"
try:
    with write(sys.argv[1]) as file:
        for _ in range(10_000):
            file.write(piece)
except OSError as error:
    print(type(error).__name__, os.listdir(os.path.dirname(sys.argv[1])))
"""


@posix
@pytest.mark.parametrize("kind", ["bytes", "text"])
def test_a_file_for_which_there_is_no_room_leaves_the_old_one(tmp_path, kind):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    command = [sys.executable, "-W", "error", "-c", FULL, str(path), kind]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("OSError ['file']\n", "")
    assert path.read_bytes() == b"old"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_a_device_is_not_replaced_and_a_full_one_is_reported(tmp_path, capsys):
    for write in (replacing, replacing_text):
        message = "'/dev/full' can't be written: it exists and is not a regular file"
        with pytest.raises(OSError, match=message), write("/dev/full"):
            pass
    with pytest.raises(AssertionError):
        predict_to_full_device(tmp_path)
    assert "No space left on device" in capsys.readouterr().err


def predict_to_full_device(folder):
    """Predict as `WRITERS` do; the link leads to a device, which is written to."""
    (folder / "link").symlink_to("/dev/full")
    predict(folder / "link")


def test_a_read_only_file_or_folder_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    # The permission itself would not stop a superuser, under whom tests in containers run.
    path = tmp_path / "file"
    path.write_bytes(b"old")
    for locked, message in (
        (path, "the file is read-only; name another one"),
        (tmp_path, f"the folder '{tmp_path}' is read-only; name a file elsewhere"),
    ):
        monkeypatch.setattr(os, "access", lambda asked, how, locked=locked: asked != locked)
        with pytest.raises(PermissionError) as caught, replacing(path):
            pass
        assert str(caught.value) == f"'{path}' can't be written: {message}"
    monkeypatch.undo()
    assert os.listdir(tmp_path) == ["file"]
    assert path.read_bytes() == b"old"


@posix
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="a superuser may all")
def test_permissions_of_the_system(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(PermissionError, match="is read-only"), replacing(tmp_path / "file"):
            pass
    finally:
        tmp_path.chmod(0o700)


def test_what_can_not_be_a_file_is_refused_with_what_to_do(tmp_path):
    with pytest.raises(IsADirectoryError, match="it is a folder; name a file in it"):
        check_writable(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"there is no folder '.*missing'; make it, or"):
        check_writable(tmp_path / "missing" / "file")
    assert check_writable(tmp_path / "file") == Path(os.path.realpath(tmp_path / "file"))


def test_sweeping_removes_what_writes_of_this_file_left_and_nothing_else(tmp_path):
    digits = "0123456789abcdef" * 2
    path = tmp_path / "run[1].npz"
    others = [".other.npz." + digits + ".tmp", ".run1.npz." + digits + ".tmp", ".run[1].npz.tmp"]
    for name in [path.name, *others, f".run[1].npz.{digits}.tmp"]:
        (tmp_path / name).write_bytes(b"something")
    sweep(path)
    assert sorted(os.listdir(tmp_path)) == sorted([path.name, *others])
    sweep(tmp_path / "missing" / "run.npz")


# One place ------------------------------------------------------------------------------------

REPLACING = {
    "os.replace",
    "os.rename",
    "os.renames",
    "shutil.move",
    "shutil.copy",
    "shutil.copyfile",
}
# What is opened for writing elsewhere: a stream or device that a user named, the files of a folder
# that `replacing_folder` gave, and first rows in a temporary folder.
OPENED = {
    ("cli/paths.py", "savefig"),
    ("cli/predict.py", "open"),
    ("cli/processes.py", "open"),  # the null device
    ("cli/proposal.py", "open"),
    ("data/sources/cache.py", "open"),
    ("storage/atomic_files.py", "open"),
}
WRITING = {"write_text", "write_bytes", "save", "savez", "savez_compressed", "savefig", "tofile"}
WRITING |= {"open_memmap", "mkstemp", "mkdtemp", "NamedTemporaryFile", "rename", "to_csv"}
OWN = ("self.", "trainer.", "trained.", "event.")  # have a `save` of their own, which is in storage


def written(source):
    """Yield what replaces a file, and what opens one for writing, of a module's calls."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        modes = [
            a.value
            for a in [*node.args[1:2], *(k.value for k in node.keywords if k.arg == "mode")]
            if isinstance(a, ast.Constant) and isinstance(a.value, str)
        ]
        if name in REPLACING or (name == "open" and any(set("wx") & set(m) for m in modes)):
            yield name
        elif name.rpartition(".")[2] in WRITING and not name.startswith(OWN):
            yield name.rpartition(".")[2]


def test_only_storage_replaces_a_file():
    found = {
        (path.relative_to(PACKAGE).as_posix(), name)
        for path in PACKAGE.rglob("*.py")
        if path.parent != PACKAGE / "tests"
        for name in written(path.read_text(encoding="utf-8"))
    }
    assert {place for place, name in found if name in REPLACING} == {"storage/atomic_files.py"}
    assert {(place, name) for place, name in found if name not in REPLACING} == OPENED


@pytest.mark.parametrize(
    "line",
    [
        "os.replace(a, b)",
        "path.rename(b)",
        "open(p, 'w')",
        "p.write_text('a')",
        "open(p, mode='xb')",
    ],
)
def test_another_place_would_be_found(line):
    assert list(written(line)) != []
    assert list(written("open(p)\nopen(p, 'a')\ntext.replace('a', 'b')")) == []
