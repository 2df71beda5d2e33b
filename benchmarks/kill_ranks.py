"""One of several processes is killed, or hangs: `python -m benchmarks.kill_ranks`.

The others must end within ten seconds, with a nonzero code and a message. The same script, started
again with another number of processes, must give the parameters of one uninterrupted process, up to
rounding, and have trained on the same rows in the same order. Not on Windows.
"""

# First, because it starts Python anew before NumPy is loaded, if BLAS was pinned.
from benchmarks.environment import command, describe, load  # isort: skip

import argparse
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import minigd as gd
from benchmarks import ranks
from benchmarks.measure import spread, table

ROWS, COLUMNS, BATCH_SIZE, ACCUMULATE, EPOCHS = 247, 6, 20, 3, 8
SECONDS = 10.0
"""After which all processes must have ended."""
LIMIT = 10.0
"""The time limit of `minigd` if a process hangs."""
EXACT = 1e-10
"""The allowed difference of parameters from those of one process, in float64."""
MOST = 180.0
"""Seconds after which a run counts as one that never ends."""


# What is killed ----------------------------------------------------------------------------------


def write_data(folder: Path) -> None:
    """Write the same rows as arrays and as a CSV file."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, COLUMNS))
    y = np.sin(x[:, 0]) + x @ rng.normal(size=COLUMNS)
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", y)
    names = ",".join([*(f"x{i}" for i in range(COLUMNS)), "y"])
    np.savetxt(folder / "rows.csv", np.c_[x, y], "%.17g", ",", header=names, comments="")


def cut(source: Any, *y: Any, **options: Any) -> gd.Batches:
    return gd.Batches(source, *y, batch_size=BATCH_SIZE, seed=5, **options)


def weighted(folder: Path) -> gd.Batches:
    """Return rows in memory, of which a third has weight 0."""
    x, y = np.load(folder / "x.npy"), np.load(folder / "y.npy")
    return cut(x, y, shuffle=True, sample_weight=np.arange(ROWS) % 3)


KINDS: dict[str, Callable[[Path], gd.Batches]] = {
    "array, shuffled, row weights": weighted,
    "memory map, in order": lambda d: cut(gd.NpySource(d / "x.npy", d / "y.npy")),
    "CSV, shuffled exactly": lambda d: cut(
        gd.CsvSource(d / "rows.csv", target="y", block_size=2000), shuffle=True
    ),
}


class Witness:
    """Records which rows all processes have trained on, and that a process is training."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows = np.zeros(0, dtype=np.int64)

    def __call__(self, event: gd.Event) -> None:
        communicator = event.trainer.communicator
        if event.name == "start":
            (self.folder / f"rank{communicator.rank}").write_text(str(os.getpid()))
        if event.name in ("batch", "update"):
            own = None if event.rows is None else np.arange(ROWS)[event.rows]
            parts = [part for part in communicator.gather(own) if part is not None]
            self.rows = np.concatenate([self.rows, *parts])

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, values: dict[str, Any]) -> None:
        self.rows = values["rows"]


def train(kind: str, data: Path, own: Path) -> None:
    """Continue from the last processes to the last epoch, and record the result."""
    from mpi4py import MPI

    comm, batches, path = MPI.COMM_WORLD, KINDS[kind](data), own / "run.npz"
    if path.exists():
        trainer = gd.Trainer.resume(path, batches, comm=comm)
    else:
        inner: list[gd.Layer] = [gd.Dense(12), gd.BatchNorm(), gd.Tanh(), gd.Dropout(0.2)]
        model = gd.Sequential(
            [*inner, gd.Dense(6), gd.Tanh(), gd.Dense(1)], COLUMNS, dtype="float64", seed=3
        )
        rate = gd.WarmUp(gd.CosineDecay(0.02, epochs=EPOCHS + 2), updates=4)
        trainer = gd.Trainer(
            model, "mse", gd.SGD(rate, momentum=0.9), ["mae"], accumulate=ACCUMULATE, l2=1e-3,
            clip_norm=1.0, comm=comm,
        )  # fmt: skip
    witness, saved = Witness(own), gd.Checkpoint(path, every_updates=3)
    started = time.perf_counter()
    x, y = np.load(data / "x.npy"), np.load(data / "y.npy")
    trainer.fit(
        batches,
        until_epoch=EPOCHS,
        validation_data=(x[:50], y[:50]),
        callbacks=[witness, saved],
    )
    if comm.Get_rank() == 0:
        result = {
            "parameters": trainer.model.flat_params.tolist(),
            "rows": witness.rows.tolist(),
            "history": {k: v for k, v in trainer.history.items() if k != "seconds"},
            "seconds": time.perf_counter() - started,
        }
        (own / "result.json").write_text(json.dumps(result))


# Killing it --------------------------------------------------------------------------------------


class Trial(NamedTuple):
    """The result of one run."""

    kind: str
    before: int  # processes, of which one was killed
    after: int
    rank: int  # which
    ended: float  # seconds until all had ended
    code: int | None
    sentence: str
    updates: int  # of the remaining checkpoint
    apart: float  # the largest difference of a parameter
    same: bool  # rows in their order, and the numbers of the history to rounding


def start(size: int, kind: str, data: Path, own: Path) -> "subprocess.Popen[str]":
    """Start the script in this many processes."""
    for left in own.glob("rank*"):
        left.unlink()
    words = ["--train", kind, str(data), str(own)]
    return ranks.start(size, "kill_ranks", *words, MINIGD_TIME_LIMIT=str(LIMIT))


def finish(process: "subprocess.Popen[str]", seconds: float = MOST) -> tuple[int | None, str]:
    """Return the code and the output. The code of a run that does not end is None."""
    try:
        printed, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.terminate()
        printed, _ = process.communicate()
        return None, printed
    return process.returncode, printed


def result_of(size: int, kind: str, data: Path, own: Path) -> dict[str, Any]:
    """Let a run finish, and return its result."""
    code, printed = finish(start(size, kind, data, own))
    if code != 0:
        raise RuntimeError(f"{kind}: {size} processes ended with code {code}: {printed}")
    result: dict[str, Any] = json.loads((own / "result.json").read_text())
    return result


def running(size: int, own: Path) -> list[int]:
    """Wait until all processes are training, and return their process ids."""
    end = time.monotonic() + MOST
    while time.monotonic() < end:
        found = [own / f"rank{rank}" for rank in range(size)]
        if all(path.exists() and path.read_text() for path in found):
            return [int(path.read_text()) for path in found]
        time.sleep(0.01)
    raise TimeoutError(f"{size} processes did not start within {MOST:g} s")


def lives(pid: int) -> bool:
    """Return whether a process is running."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def struck(
    size: int, kind: str, data: Path, own: Path, rank: int, number: int, seconds: float
) -> tuple[float, int | None, str] | None:
    """Send a signal to a rank after this many seconds. Return when and how all of them end.

    None if the run finished before.
    """
    process = start(size, kind, data, own)
    pids = running(size, own)
    time.sleep(seconds)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pids[rank], number)
    started = time.monotonic()
    code, printed = finish(process)
    while any(map(lives, pids)) and time.monotonic() < started + MOST:
        time.sleep(0.01)
    ended = time.monotonic() - started
    for pid in filter(lives, pids):  # so that none is left in any case
        os.kill(pid, signal.SIGKILL)
    if (own / "result.json").exists():
        return None
    return ended, code, sentence(printed)


def sentence(printed: str) -> str:
    """Return the reason why the run ended, as printed by minigd or mpiexec."""
    own = re.search(r"(?m)^\S*(?:Lost|Error): (rank.*? for [\d.]+ s)", printed)
    if own is not None:
        return own[1]
    launcher = re.search(r"(?m)(?:EXIT STRING: |exited on )(.*?)(?: \(ignoring.*)?$", printed)
    return "" if launcher is None else launcher[1].strip()


def trial(number: int, data: Path, alone: dict[str, Any], seconds: float, hang: bool) -> Trial:
    """Kill or stop a rank at a random moment, and start again with another number."""
    rng = np.random.default_rng([7, number, hang])
    kind = list(KINDS)[number % len(KINDS)]
    before = 2 + number % 3
    after = int(rng.choice([size for size in (1, 2, 3, 4) if size != before]))
    rank = int(rng.integers(before))
    while True:
        with tempfile.TemporaryDirectory() as folder:
            own = Path(folder)
            moment = rng.uniform(0, seconds)
            sent = signal.SIGSTOP if hang else signal.SIGKILL
            found = struck(before, kind, data, own, rank, sent, moment)
            if found is None:
                continue  # it finished before
            saved = own / "run.npz"
            updates = gd.Trainer.resume(saved).updates if saved.exists() else 0
            result, expected = result_of(after, kind, data, own), alone[kind]
            apart = np.subtract(result["parameters"], expected["parameters"])
            same = result["rows"] == expected["rows"] and all(
                np.allclose(result["history"][name], values, rtol=1e-9, atol=0)
                for name, values in expected["history"].items()
            )
            return Trial(
                kind, before, after, rank, *found, updates, float(np.abs(apart).max()), same
            )  # fmt: skip


def faults(one: Trial, hang: bool) -> list[str]:
    """Return what is wrong."""
    end = SECONDS + (LIMIT if hang else 0)
    checks = {
        f"ended after {one.ended:.1f} s": one.ended <= end,
        f"ended with code {one.code}": one.code not in (0, None),
        f"said {one.sentence!r}": f"rank {one.rank} of {one.before}" in one.sentence
        if hang
        else bool(one.sentence),
        f"parameters {one.apart:.1e} apart": one.apart <= EXACT,
        "other rows or another history": one.same,
    }
    return [text for text, kept in checks.items() if not kept]


def rows_of_table(trials: list[Trial]) -> Iterator[tuple[object, ...]]:
    for kind in [*KINDS, "together"]:
        some = [one for one in trials if kind in (one.kind, "together")]
        if some:
            yield (
                kind, len(some), spread([one.ended for one in some]),
                spread([one.updates for one in some], ".0f"),
                f"{max(one.apart for one in some):.1e}", sum(one.same for one in some),
            )  # fmt: skip


def report(title: str, trials: list[Trial], hang: bool) -> bool:
    """Print the trials of one kind of failure, and return whether all are right."""
    print(f"## {title}\n")
    table(
        [
            "rows from", "runs", "s until all have ended", "updates of the checkpoint",
            "largest difference of a parameter", "runs with the same rows and history",
        ],
        rows_of_table(trials),
    )  # fmt: skip
    codes = sorted({str(one.code) for one in trials})
    words = sorted({re.sub(r"rank \d of \d", "rank k of N", one.sentence) for one in trials})
    print(f"- exit codes: {', '.join(codes)}; said: {'; '.join(words)}")
    pairs = sorted({(one.before, one.after) for one in trials})
    print(f"- processes, then after it: {', '.join(f'{a} → {b}' for a, b in pairs)}")
    wrong = [(one, found) for one in trials if (found := faults(one, hang))]
    for one, found in wrong:
        print(f"- WRONG: {one.kind}, rank {one.rank} of {one.before}: {', '.join(found)}")
    print(f"- {len(trials) - len(wrong)} of {len(trials)} right\n")
    return not wrong


def main() -> None:
    """Kill, let hang, and print the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kill_ranks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="ranks to kill")
    parser.add_argument("--hangs", type=int, default=3, help="ranks to stop")
    parser.add_argument("--train", nargs=3, metavar=("KIND", "DATA", "OWN"), help="one process")
    options = parser.parse_args()
    if options.train:
        kind, data, own = options.train
        train(kind, Path(data), Path(own))
        return
    started, load_before = time.perf_counter(), load()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        write_data(data)
        alone, seconds = {}, 0.0
        for kind in KINDS:
            for size in (1, 3):
                own = data / f"{size} {kind}"
                own.mkdir()
                found = result_of(size, kind, data, own)
                alone.setdefault(kind, found)
                seconds = max(seconds, found["seconds"])
        outcomes = {}
        for hang, count in ((False, options.rounds), (True, options.hangs)):
            outcomes[hang] = []
            for number in range(count):
                outcomes[hang].append(trial(number, data, alone, seconds, hang))
                print(outcomes[hang][-1], file=sys.stderr, flush=True)
    started_by = command("benchmarks.kill_ranks", sys.argv[1:])
    print(f"# A process of several is killed\n\n`{started_by}`, {time.strftime('%Y-%m-%d')}.\n")
    print(f"- {describe()}\n- {ranks.versions()}; load before: {load_before}")
    print(
        f"- {ROWS} rows in batches of {BATCH_SIZE}, {ACCUMULATE} batches per update, {EPOCHS} "
        "epochs, float64, SGD with momentum, BatchNorm, Dropout, clipping; a checkpoint every 3 "
        f"updates; {time.perf_counter() - started:.0f} s in all\n"
    )
    kept = report("Killed (SIGKILL)", outcomes[False], False)
    if outcomes[True]:
        title = f"Hanging (SIGSTOP), with a time limit of {LIMIT:g} s"
        kept = report(title, outcomes[True], True) and kept
    print(
        "A rank is killed at a moment drawn uniformly from the time of a whole run, once all of "
        "them train. Parameters, rows, loss and metrics are compared with those of one "
        f"uninterrupted process: parameters within {EXACT:g}, the history to nine digits."
    )
    sys.exit(not kept)


if __name__ == "__main__":
    main()
