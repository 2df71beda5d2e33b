"""The cost of a checkpoint every second, compared with training without, and its parts.

Pass the folder with MNIST's IDX files, gzipped or not, from https://github.com/cvdfoundation/mnist:
`python benchmarks/checkpoint_cost.py FOLDER`.
"""

import argparse
import contextlib
import os
import statistics
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from environment import describe
from measure import alternate, megabytes, ratios, spread, table, target

import minigd as gd
from minigd.storage import npz

SIZE = 128


def batches_of(folder: Path) -> gd.Batches:
    source = gd.IdxSource(folder / "train-images-idx3-ubyte", folder / "train-labels-idx1-ubyte")
    x, y = source.take(slice(0, source.rows))
    return gd.Batches(x, y.astype(np.int64), batch_size=SIZE, shuffle=True, seed=0)


def trainer() -> gd.Trainer:
    hidden = [gd.Dense(512, "he_normal"), gd.ReLU(), gd.Dense(512, "he_normal"), gd.ReLU()]
    model = gd.Sequential([*hidden, gd.Dense(10), gd.Softmax()], inputs=784, seed=0)
    return gd.Trainer(model, "categorical_crossentropy", gd.Adam())


class Counted(gd.Checkpoint):
    """A checkpoint that records the time of each save."""

    def __init__(self, path: Path, every_seconds: float) -> None:
        super().__init__(path, every_seconds=every_seconds)
        self.seconds: list[float] = []

    def save(self, event: gd.Event) -> None:
        started = time.perf_counter()
        super().save(event)
        self.seconds.append(time.perf_counter() - started)


@contextlib.contextmanager
def clocked(owner: Any, name: str) -> Iterator[list[float]]:
    """Record the seconds of each call of a function within a ``with``."""
    function: Callable[..., Any] = getattr(owner, name)
    seconds: list[float] = []

    def timed(*arguments: Any, **named: Any) -> Any:
        started = time.perf_counter()
        try:
            return function(*arguments, **named)
        finally:
            seconds.append(time.perf_counter() - started)

    setattr(owner, name, timed)
    try:
        yield seconds
    finally:
        setattr(owner, name, function)


def take_apart(run: gd.Trainer, path: Path, saves: int) -> dict[str, list[float]]:
    """Return the seconds of each part of some saves, and of a plain write of as many bytes."""
    parts: dict[str, list[float]] = {}
    for i in range(saves + 1):
        with (
            clocked(gd.Trainer, "state_dict") as copy,
            clocked(npz, "write") as write,
            clocked(npz, "_digest") as digest,
            clocked(zipfile, "crc32") as checksum,
            clocked(os, "fsync") as sync,
        ):
            started = time.perf_counter()
            run.save(path)
            whole = time.perf_counter() - started
        bare = as_bytes(path.with_suffix(".bytes"), path.stat().st_size)
        copying, hashing, checking = sum(copy), sum(digest), sum(checksum)
        writing = sum(write) - hashing - checking - sum(sync)
        taken = {
            "copying the state": copying,
            "SHA-256 of it": hashing,
            "the archive's CRC-32": checking,
            "writing, without waiting": writing,
            "fsync, of the file and of its folder": sum(sync),
            "the rest, such as the description": whole - copying - sum(write),
            "a save": whole,
            "as many bytes at once into a file, and fsync": bare,
        }
        for name, seconds in taken.items():
            if i:  # the first warms up
                parts.setdefault(name, []).append(seconds)
    return parts


def as_bytes(path: Path, size: int) -> float:
    """Return the seconds to write this many bytes to the disk, without other work."""
    content = np.random.default_rng(0).bytes(size)
    started = time.perf_counter()
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    seconds = time.perf_counter() - started
    path.unlink()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--epochs", type=int, default=8, help="of each side in each round")
    parser.add_argument("--every-seconds", type=float, default=1.0)
    parser.add_argument("--saves", type=int, default=25, help="that are taken apart")
    parser.add_argument("--where", type=Path, help="folder of the checkpoint; a temporary one")
    options = parser.parse_args()
    batches = batches_of(options.folder)
    plain, saved = trainer(), trainer()
    with tempfile.TemporaryDirectory(dir=options.where) as folder:
        path = Path(folder) / "run.npz"
        checkpoint = Counted(path, options.every_seconds)
        seconds = alternate(
            {
                "without": lambda: plain.fit(batches, epochs=options.epochs),
                "with": lambda: saved.fit(batches, epochs=options.epochs, callbacks=[checkpoint]),
            },
            options.rounds,
        )
        if plain.model.flat_params.tobytes() != saved.model.flat_params.tobytes():
            raise SystemExit("the two runs came to different parameters")
        size = path.stat().st_size
        parts = take_apart(saved, path, options.saves)

    updates = options.epochs * len(batches)
    overhead = [100 * (ratio - 1) for ratio in ratios(seconds["with"], seconds["without"])]
    print(describe())
    print(
        f"784-512-512-10, ReLU, Adam, {SIZE} rows per batch, {saved.model.flat_params.size:,} "
        f"parameters; {options.rounds} rounds of {options.epochs} epochs ({updates:,} updates) "
        f"each, `Checkpoint(every_seconds={options.every_seconds:g})`; median (smallest to "
        "largest)\n"
    )
    saves = len(checkpoint.seconds) / (options.rounds + 1)
    table(
        ["training", "seconds", "ms per update", "saves", "ms per save"],
        [
            (
                "without checkpoints",
                spread(seconds["without"], ".1f"),
                f"{1000 * statistics.median(seconds['without']) / updates:.2f}",
                "-",
                "-",
            ),
            (
                "with checkpoints",
                spread(seconds["with"], ".1f"),
                f"{1000 * statistics.median(seconds['with']) / updates:.2f}",
                f"{saves:.1f}",
                spread([1000 * s for s in checkpoint.seconds], ".0f"),
            ),
        ],
    )
    print("Both sides end with the same parameters, bit for bit. The last save of each round,")
    print("after the last update, is also counted.\n")
    print(target("% of training time", overhead, 5, above=False))
    print(f"- the file: {megabytes(size)} MB, replaced each time\n")
    print(f"## The parts of a save ({options.saves} saves one after the other)\n")
    whole = statistics.median(parts["a save"])
    table(
        ["part", "ms", "share"],
        [
            (name, spread([1000 * s for s in taken], ".1f"), share(taken, whole))
            for name, taken in parts.items()
        ],
    )


def share(taken: list[float], whole: float) -> str:
    return f"{statistics.median(taken) / whole:.0%}"


if __name__ == "__main__":
    main()
