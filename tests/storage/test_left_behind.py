"""Locks that end with their process, what kills leave, and errors that name the user's file."""

import errno
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import minigd as gd
from minigd.storage import npz
from minigd.storage.atomic_files import (
    find_left,
    is_locked,
    locked,
    naming,
    replacing,
    replacing_folder,
    replacing_text,
    sweep,
)

posix = pytest.mark.skipif(os.name != "posix", reason="folders and signals are otherwise there")

# What a process is in the middle of; it prints a line there and waits for one, or is killed.
DOING = """
import sys
from minigd.storage.atomic_files import locked, replacing, replacing_folder
import minigd as gd

def wait():
    print("there", flush=True)
    sys.stdin.readline()

kind, path = sys.argv[1:]
if kind == "a lock":
    with locked(path):
        wait()
elif kind == "a file":
    with replacing(path) as file:
        file.write(b"half")
        file.flush()
        wait()
elif kind == "a folder":
    with replacing_folder(path) as folder:
        (folder / "x.npy").write_bytes(b"half")
        wait()
else:
    from minigd.data.sources import cache
    write = cache._write
    cache._write = lambda *arguments: [wait(), write(*arguments)][1]
    gd.ArraySource([[1.0], [2.0]]).cache(path)
"""
KINDS = ["a lock", "a file", "a folder", "a cache"]


@pytest.fixture
def start(tmp_path):
    """Return a function that starts a process and returns it where it waits."""
    started = []

    def start(kind):
        process = subprocess.Popen(
            [sys.executable, "-c", DOING, kind, str(tmp_path / "out")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout.readline() == "there\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


@pytest.mark.slow
@posix
@pytest.mark.parametrize("kind", KINDS)
def test_what_a_killed_process_left_is_swept_and_what_a_living_one_writes_is_not(
    tmp_path, start, kind
):
    path = tmp_path / "out"
    alive = start(kind)
    during = os.listdir(tmp_path)
    assert len(during) == 1
    sweep(path)
    assert find_left(tmp_path) == []
    assert os.listdir(tmp_path) == during
    alive.kill()
    alive.wait()
    assert find_left(tmp_path) == find_left(tmp_path, "out") == [tmp_path / during[0]]
    assert find_left(tmp_path, "other") == []
    sweep(tmp_path / "other")
    assert os.listdir(tmp_path) == during
    sweep(path)
    assert os.listdir(tmp_path) == []


@pytest.mark.few(2)
@posix
@pytest.mark.parametrize("kind", ["a file", "a folder", "a cache"])
def test_what_is_swept_beside_a_living_writer_does_not_disturb_it(tmp_path, start, kind):
    killed = start(kind)
    killed.kill()
    killed.wait()
    alive = start(kind)
    sweep(tmp_path / "out")
    alive.stdin.write("\n")
    alive.stdin.flush()
    assert alive.wait() == 0
    assert os.listdir(tmp_path) == ["out"]


@posix
def test_the_next_cache_and_the_next_fit_sweep(tmp_path, start):
    for kind in ("a cache", "a file"):
        process = start(kind)
        process.kill()
        process.wait()
    gd.ArraySource(np.ones((3, 2))).cache(tmp_path / "out")
    assert os.listdir(tmp_path) == ["out"]


def test_what_is_no_temporary_file_is_left_alone(tmp_path):
    digits = "0123456789abcdef" * 2
    names = [
        f".out.{digits}",
        f"out.{digits}.tmp",
        f".out.{digits[:-1]}.tmp",
        f".out.x{digits}.tmp",
    ]
    names += [f".other.{digits}.tmp"]
    for name in names:
        (tmp_path / name).write_bytes(b"")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / f".out.{digits}.tmp")
        names.append(f".out.{digits}.tmp")
    sweep(tmp_path / "out")
    assert sorted(os.listdir(tmp_path)) == sorted(names)


# Locks ----------------------------------------------------------------------------------------


def test_a_second_run_of_the_same_output_is_refused_until_the_first_has_ended(tmp_path, start):
    path, link = tmp_path / "out", tmp_path / "link"
    link.symlink_to(path)
    first = start("a lock")
    spellings = [path, str(path), tmp_path / "." / "out", link]
    for spelling in spellings:
        assert is_locked(spelling)
        with pytest.raises(BlockingIOError) as caught, locked(spelling):
            pass
        assert str(caught.value) == (
            f"{os.fspath(spelling)!r} can't be written: another run will write it; wait until "
            "that run has ended, or name another file"
        )
    with locked(tmp_path / "another"):
        assert is_locked(tmp_path / "another")
    first.kill()
    first.wait()
    assert not is_locked(path)
    with locked(path):
        assert is_locked(path)
    assert os.listdir(tmp_path) == ["link"]


def test_names_that_begin_alike_are_other_outputs(tmp_path):
    long = "n" * 150
    with locked(tmp_path / f"{long}1"), locked(tmp_path / f"{long}2"):
        assert not is_locked(tmp_path / f"{long}3")


def test_a_thread_of_the_same_process_is_another_run(tmp_path):
    refused = []

    def enter():
        try:
            with locked(tmp_path / "out"):
                pass
        except BlockingIOError:
            refused.append(True)

    with locked(tmp_path / "out"):
        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
    enter()
    assert refused == [True]
    assert os.listdir(tmp_path) == []


@posix
def test_where_there_are_no_locks_a_run_goes_on_and_nothing_is_swept(tmp_path, monkeypatch):
    import fcntl

    def fail(descriptor, how):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    left = tmp_path / f".out.{'0' * 32}.tmp"
    left.write_bytes(b"half")
    monkeypatch.setattr(fcntl, "flock", fail)
    with locked(tmp_path / "out"), replacing(tmp_path / "out") as file:
        file.write(b"whole")
    sweep(tmp_path / "out")
    assert sorted(os.listdir(tmp_path)) == [left.name, "out"]


# Errors ---------------------------------------------------------------------------------------

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def write_file(path):
    with replacing(path) as file:
        file.write(b"1234567," * 10_000)


def write_text(path):
    with replacing_text(path) as file:
        file.write("1234567," * 10_000)


def write_model(path):
    gd.Sequential([gd.Dense(100)], inputs=100).save(path)


def write_cache(path):
    gd.ArraySource(np.ones((100, 100))).cache(path)


WRITERS = [write_file, write_text, write_model]
named = pytest.mark.parametrize("write", WRITERS)


@posix
@named
@pytest.mark.parametrize("limit", [0, 20_000])
def test_a_full_disk_is_said_of_the_users_file(tmp_path, write, limit):
    """The system itself refuses to write more, as it does on a full disk."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(OSError, match=os.strerror(errno.EFBIG)) as caught:
            write(str(tmp_path / "out"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (caught.value.filename, caught.value.filename2) == (str(tmp_path / "out"), None)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("call", ["fsync", "replace", "open", "chmod", "mkdir"])
@pytest.mark.parametrize("write", [*WRITERS, write_cache])
def test_each_error_of_the_system_names_the_users_file(tmp_path, monkeypatch, write, call):
    path = tmp_path / "out"
    if write is write_cache:
        path.mkdir()
        (path / "minigd-cache.json").write_text("{}")
    else:
        path.write_bytes(b"old")
    real, failed = getattr(os, call), []

    def fail(*arguments, **options):
        if (call == "fsync" or ".tmp" in str(arguments[0])) and not failed:
            failed.append(arguments)
            raise OSError(errno.EIO, os.strerror(errno.EIO), *map(str, arguments[:1]))
        return real(*arguments, **options)

    monkeypatch.setattr(os, call, fail)
    used = {"mkdir": write is write_cache, "open": write is not write_cache}
    if used.get(call, True):
        with pytest.raises(OSError, match="Input/output") as caught:
            write(path)
        # A file of a cache is named with its folder, as it will be called.
        files = {str(path)} | ({str(path / "x.npy")} if write is write_cache else set())
        assert caught.value.filename in files
        assert caught.value.filename2 is None
    monkeypatch.undo()
    assert os.listdir(tmp_path) == ["out"]


def test_an_error_of_something_else_keeps_its_name(tmp_path):
    def read():
        with replacing(tmp_path / "out"):
            os.stat(tmp_path / "missing")

    with pytest.raises(FileNotFoundError) as caught:
        read()
    assert caught.value.filename == str(tmp_path / "missing")

    def raise_own():
        with naming("out"):
            raise OSError("no number")

    with pytest.raises(OSError, match=r"^no number$"):
        raise_own()


def test_a_checkpoint_that_is_interrupted_in_the_middle_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(np.lib.format, "write_array", interrupt)
    with pytest.raises(KeyboardInterrupt):
        npz.write(tmp_path / "out", {}, {"W": np.ones(3)})
    with pytest.raises(KeyboardInterrupt), replacing_folder(tmp_path / "folder"):
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []
