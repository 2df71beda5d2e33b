"""Attacks on runs and their files: signals at random moments, and full disks.

`attack.py` counts how they end; the tests run a short form. Not on Windows.
"""

import contextlib
import csv
import errno
import os
import random
import resource
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

import minigd as gd
from minigd.storage.atomic_files import replacing_text

# A script in this folder, which imports others of the folder by name.
sys.path.append(str(Path(__file__).parent))
import kill_anywhere as runs

# Kills -------------------------------------------------------------------------------------------

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)
ENDS = {0, 1, *(128 + n for n in SIGNALS), *(-n for n in SIGNALS)}
"""Exit codes of a script that a signal ended: Python's code for an uncaught interrupt is 1."""


def train_silently(*arguments: Any) -> None:
    """Run the script of `kill_anywhere`, without the traceback of Ctrl-C."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    runs.train(*arguments)


def stopped(kind: str, data: runs.Data, own: Path, seconds: float, rng: random.Random) -> str:
    """Start the script and send a random signal at a random moment. Return what is wrong."""
    every = {"every_epochs" if runs.by_epoch(kind) else "every_updates": rng.randint(1, 4)}
    process = runs.FORK.Process(target=train_silently, args=(kind, data, own, every))
    process.start()
    process.join(rng.uniform(0, seconds))
    number = rng.choice(SIGNALS)
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, number)
    process.join(60)
    if process.exitcode is None:
        process.kill()
        process.join()
        return f"{number.name} does not end it"
    return "" if process.exitcode in ENDS else f"{number.name} ends it with {process.exitcode}"


def came_through(kind: str, data: runs.Data, seconds: float, expected: Any, seed: int) -> str:
    """Stop a run repeatedly until it finishes, and return what is wrong with it."""
    rng = random.Random(seed)
    own = Path(tempfile.mkdtemp(dir=data.files))
    wrong = [stopped(kind, data, own, seconds, rng) for _ in range(rng.randint(1, 5))]
    (own / "result.json").unlink(missing_ok=True)
    runs.once(kind, data, own, {"every_epochs": 1})
    result = runs.json.loads((own / "result.json").read_text())
    wrong += [f"another {name}" for name in expected if result[name] != expected[name]]
    wrong += [f"{path.name} is left" for path in own.glob(".*.tmp")]
    return "; ".join(filter(None, wrong))


def kills(folder: Path, times: int, kinds: list[str] | None = None) -> Any:
    """Stop runs of every kind by random signals. Each must end like an uninterrupted one."""
    from benchmarks.attack import Tally

    tally, data = Tally(), runs.write_data(folder)
    for kind in kinds or list(runs.KINDS):
        _, seconds, expected = runs.uninterrupted(kind, data)
        for number in range(times):

            def action(arguments: Any = (kind, data, seconds, expected, number)) -> bool:
                wrong = came_through(*arguments)
                if wrong:
                    raise AssertionError(wrong)
                return True

            tally.attempt(f"{kind}, {number}", action, ())
    return tally


# Faults ------------------------------------------------------------------------------------------


class Writer(NamedTuple):
    """Something that writes a path, and the content of what it wrote."""

    write: Callable[[Path, int], None]
    read: Callable[[Path], Any]


def write_model(path: Path, seed: int) -> None:
    gd.Sequential([gd.Dense(60)], inputs=40, seed=seed).save(path)


def write_run(path: Path, seed: int) -> None:
    trainer = gd.Trainer(gd.Sequential([gd.Dense(60)], inputs=40, seed=seed), "mse", "adam")
    trainer.save(path)


def write_table(path: Path, seed: int) -> None:
    with replacing_text(path) as file:
        csv.writer(file).writerows([seed, i] for i in range(3000))


def write_cache(path: Path, seed: int) -> None:
    gd.ArraySource(np.full((400, 5), seed, dtype="float64")).cache(path)


def content(path: Path) -> Any:
    """Return the bytes of a file, or of all files of a folder."""
    if path.is_dir():
        return {file.name: file.read_bytes() for file in sorted(path.iterdir())}
    return path.read_bytes()


def parameters(path: Path) -> bytes:
    return gd.load(path).flat_params.tobytes()


def cached(path: Path) -> bytes:
    return np.load(path / "x.npy").tobytes()


WRITERS = {
    "a model": Writer(write_model, parameters),
    "a run": Writer(write_run, parameters),
    "a table": Writer(write_table, content),
    "cached rows": Writer(write_cache, cached),
}


@contextlib.contextmanager
def full_disk(rng: random.Random) -> Iterator[None]:
    """Let the system refuse to write files beyond a random length."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (rng.choice((0, rng.randrange(40_000))), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextlib.contextmanager
def failing_call(rng: random.Random) -> Iterator[None]:
    """Let one call of the system fail, the first or a later one."""
    # Not `open`, because removing a folder also needs it.
    name, later = rng.choice(("fsync", "replace", "chmod", "mkdir")), rng.randrange(3)
    number = rng.choice((errno.ENOSPC, errno.EIO, errno.EROFS, errno.EACCES, errno.EDQUOT))
    real, calls = getattr(os, name), []

    def fail(*arguments: Any, **options: Any) -> Any:
        calls.append(arguments)
        if len(calls) == later + 1:
            raise OSError(number, os.strerror(number))
        return real(*arguments, **options)

    with mock.patch.object(os, name, fail):
        yield


def fault(writer: Writer, path: Path, seed: int, rng: random.Random) -> bool:
    """Replace an old file during a fault, and return whether the new one is right.

    Raises
    ------
    OSError
        If it could not be written, and the old one is unchanged.
    AssertionError
        If the file has any other content.
    """
    old = content(path)
    try:
        with rng.choice((full_disk, failing_call))(rng):
            writer.write(path, seed)
    except OSError:
        if content(path) != old:
            raise AssertionError("the old file is not as it was") from None
        raise
    finally:
        left = sorted(os.listdir(path.parent))
        if left != [path.name]:
            raise AssertionError(f"{left} are there")
    fresh = path.parent.with_name(f"fresh {path.parent.name}")
    writer.write(fresh, seed)
    return bool(writer.read(path) == writer.read(fresh))


def faults(folder: Path, times: int, names: list[str] | None = None) -> Any:
    """Let disks be full and calls of the system fail while files are replaced."""
    from benchmarks.attack import Tally

    tally, rng = Tally(), random.Random(0)
    for name in names or list(WRITERS):
        own, writer = folder / name, WRITERS[name]
        own.mkdir()
        path = own / "out"
        writer.write(path, 1)
        for number in range(times):

            def action(arguments: Any = (writer, path, number + 2, rng)) -> bool:
                return fault(*arguments)

            tally.attempt(f"{name}, {number}", action, OSError, str(path))
    return tally
