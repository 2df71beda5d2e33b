"""Runs that are killed with SIGKILL at random moments and started again by the same script.

Each must be bit-identical to an uninterrupted run of its kind, and have trained on the same rows in
the same order: `python benchmarks/kill_anywhere.py`. Not on Windows.
"""

import argparse
import csv
import gzip
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from environment import describe
from measure import table

import minigd as gd
from minigd.storage import npz

# The last batch has one row, which BatchNorm treats specially, and so has the last window of 3.
ROWS, COLUMNS, BATCH_SIZE, ACCUMULATE, EPOCHS = 241, 6, 20, 3, 6

# Processes are forked from one that has imported everything, so killing them costs little.
FORK = multiprocessing.get_context("fork")


# The rows, in every way in which they can lie ----------------------------------------------------


class Data(NamedTuple):
    """The rows in memory, and the folder with files of the same rows."""

    x: np.ndarray
    y: np.ndarray
    weight: np.ndarray
    files: Path


def write_data(folder: Path) -> Data:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (ROWS, COLUMNS)).astype("float32") / 255
    y = (np.sin(3 * x[:, 0]) + x @ rng.normal(size=COLUMNS)).astype("float32")
    weight = rng.integers(0, 3, ROWS).astype("float64")
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", y)
    names = [f"x{i}" for i in range(COLUMNS)]
    frame = pd.DataFrame({**dict(zip(names, x.T, strict=True)), "y": y})
    frame.to_csv(folder / "rows.csv", index=False)
    (folder / "rows.csv.gz").write_bytes(gzip.compress((folder / "rows.csv").read_bytes()))
    frame.to_parquet(folder / "rows.parquet", row_group_size=50)
    images = (x * 255).round().astype("uint8")
    head = struct.pack(">BBBBII", 0, 0, 8, 2, ROWS, COLUMNS)
    (folder / "images").write_bytes(head + images.tobytes())
    head = struct.pack(">BBBBI", 0, 0, 13, 1, ROWS)
    (folder / "labels").write_bytes(head + y.astype(">f4").tobytes())
    return Data(x, y, weight, folder)


def pieces(data: Data) -> gd.IterableSource:
    """Return a stream whose pieces have other lengths than the batches."""
    places = gd.batch_slices(ROWS, 33)
    several = [(data.x[place], data.y[place]) for place in places]
    return gd.IterableSource(lambda: iter(several))


def csv_rows(data: Data, **options: Any) -> gd.CsvSource:
    return gd.CsvSource(data.files / "rows.csv", target="y", block_size=2000, **options)


def packed_rows(data: Data) -> gd.CsvSource:
    return gd.CsvSource(data.files / "rows.csv.gz", target="y", block_size=2000)


def mapped_rows(data: Data) -> gd.NpySource:
    return gd.NpySource(data.files / "x.npy", data.files / "y.npy")


def cut(source: Any, *y: Any, **options: Any) -> gd.Batches:
    return gd.Batches(source, *y, batch_size=BATCH_SIZE, seed=5, **options)


KINDS: dict[str, Callable[[Data, Path], gd.Batches]] = {
    "array, shuffled": lambda d, own: cut(d.x, d.y, shuffle=True),
    "array, shuffled, row weights, read ahead": lambda d, own: cut(
        d.x, d.y, shuffle=True, sample_weight=d.weight, prefetch=2
    ),
    "memory map, in order, read ahead": lambda d, own: cut(mapped_rows(d), prefetch=3),
    "memory map, shuffled": lambda d, own: cut(mapped_rows(d), shuffle=True),
    "IDX files, shuffled": lambda d, own: cut(
        gd.IdxSource(d.files / "images", d.files / "labels"), shuffle=True
    ),
    "CSV, in order": lambda d, own: cut(csv_rows(d)),
    "CSV, in order, row weights": lambda d, own: cut(csv_rows(d), sample_weight=d.weight),
    "CSV, shuffled exactly, read ahead": lambda d, own: cut(csv_rows(d), shuffle=True, prefetch=2),
    "CSV, shuffled exactly, index in a file": lambda d, own: cut(
        csv_rows(d, index_path=own / "index.npz"), shuffle=True
    ),
    "iterable, shuffle buffer": lambda d, own: cut(pieces(d), shuffle=True, buffer=70),
    "gzipped CSV, shuffle buffer, row weights, read ahead": lambda d, own: cut(
        packed_rows(d), shuffle=True, buffer=50, sample_weight=d.weight, prefetch=2
    ),
    "Parquet, shuffle buffer": lambda d, own: cut(
        gd.ParquetSource(d.files / "rows.parquet", target="y"), shuffle=True, buffer=100
    ),
    "iterable, cached, shuffled, read ahead": lambda d, own: cut(
        pieces(d).cache(own / "cache"), shuffle=True, prefetch=1
    ),
    "array, shuffled, compiled steps": lambda d, own: cut(d.x, d.y, shuffle=True),
    "array, shuffled, row weights, compiled steps": lambda d, own: cut(
        d.x, d.y, shuffle=True, sample_weight=d.weight
    ),
    "array, shuffled, compiled epochs": lambda d, own: cut(d.x, d.y, shuffle=True),
    "array, shuffled, row weights, compiled epochs, accumulated": lambda d, own: cut(
        d.x, d.y, shuffle=True, sample_weight=d.weight
    ),
    "array, shuffled, compiled epochs without Dropout and BatchNorm": lambda d, own: cut(
        d.x, d.y, shuffle=True
    ),
}
"""The words of a name for compiling, weights, accumulation and layers apply to its runs."""


def by_epoch(kind: str) -> bool:
    """Return whether nothing is called within an epoch, so that whole epochs are compiled."""
    return "compiled epochs" in kind


def epochs_of(kind: str) -> int:
    """Return the number of epochs: compiled ones take less time, and are saved at their ends."""
    return 10 * EPOCHS if by_epoch(kind) else EPOCHS


# The script that is started again and again ------------------------------------------------------


def counting(kind: str, data: Data) -> np.ndarray:
    """Return which rows have a weight that is not 0."""
    return data.weight > 0 if "row weights" in kind else np.ones(ROWS, dtype=bool)


class Witness:
    """Records which rows were trained on, and at the end what determines the next update.

    Of compiled epochs, it gets only the end.
    """

    def __init__(self, kind: str, data: Data) -> None:
        self.events = {"end"} if by_epoch(kind) else {"batch", "update", "end"}
        self.counting = counting(kind, data)
        self.rows = np.zeros(0, dtype=np.int64)
        self.sums: dict[str, str] = {}

    def __call__(self, event: gd.Event) -> None:
        if event.name in ("batch", "update") and event.rows is not None:
            rows = np.arange(ROWS)[event.rows]
            self.rows = np.concatenate([self.rows, rows[self.counting[rows]]])
        elif event.name == "end":
            model, updater = event.trainer.model, event.trainer.updater
            self.sums = {
                "parameters": sha256(model.params),
                "buffers": sha256({layer.name: layer.buffers for layer in model.layers}),
                "updater": sha256(updater.state_dict()),
            }

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, values: dict[str, Any]) -> None:
        self.rows = values["rows"]


def sha256(values: Mapping[str, Any]) -> str:
    """Return the SHA-256 of nested arrays and numbers, with their names."""
    digest = hashlib.sha256()
    for name, value in values.items():
        if isinstance(value, np.ndarray):
            digest.update(f"{name} {value.dtype}".encode() + value.tobytes())
        else:
            text = sha256(value) if isinstance(value, Mapping) else repr(value)
            digest.update(f"{name} {text}".encode())
    return digest.hexdigest()


def new_trainer(kind: str) -> gd.Trainer:
    layers = [
        gd.Dense(24), gd.BatchNorm(), gd.Tanh(), gd.Dropout(0.2),
        gd.Dense(12), gd.LeakyReLU(), gd.Dense(1),
    ]  # fmt: skip
    if "without Dropout and BatchNorm" in kind:
        layers = [one for one in layers if not isinstance(one, gd.Dropout | gd.BatchNorm)]
    model = gd.Sequential(layers, inputs=COLUMNS, seed=3)
    accumulate = ACCUMULATE if "accumulated" in kind or not by_epoch(kind) else 1
    rate = gd.WarmUp(gd.CosineDecay(0.02, epochs=epochs_of(kind) + 2), updates=4)
    return gd.Trainer(
        model, "mse", gd.Adam(rate), ["mae"], accumulate=accumulate, l2=1e-3, clip_norm=1.0,
        fast="compiled" in kind,
    )  # fmt: skip


def train(kind: str, data: Data, own: Path, every: dict[str, Any]) -> None:
    """Continue from the last process to the last epoch, and record the result."""
    batches = KINDS[kind](data, own)
    path = own / "run.npz"
    trainer = gd.Trainer.resume(path, batches) if path.exists() else new_trainer(kind)
    assert trainer.compiled == ("compiled" in kind)
    witness = Witness(kind, data)
    trainer.fit(
        batches,
        until_epoch=epochs_of(kind),
        validation_data=(data.x[:50], data.y[:50]),
        callbacks=[
            witness,
            gd.EarlyStopping(patience=1000),
            gd.ReduceOnPlateau(factor=0.9, patience=1, min_delta=0.1),
            gd.CsvLog(own / "log.csv"),
            gd.Checkpoint(path, **every),
        ],
    )
    assert trainer._loop.steps.reason is None  # why a step was not compiled
    with open(own / "log.csv", newline="") as file:
        lines = [[v for k, v in line.items() if k != "seconds"] for line in csv.DictReader(file)]
    result = {
        **witness.sums,
        "best parameters": sha256(trainer.model.params),  # which early stopping has restored
        "history": {k: v for k, v in trainer.history.items() if k != "seconds"},
        "log": lines,
        "rows": witness.rows.tolist(),
        "lowered": trainer.updater.scale,
    }
    (own / "result.json").write_text(json.dumps(result))


# Killing it --------------------------------------------------------------------------------------


class Outcome(NamedTuple):
    """The result of a run: `writing` of its kills left an incomplete checkpoint."""

    kind: str
    kills: int
    writing: int
    different: list[str]


def once(
    kind: str, data: Data, own: Path, every: dict[str, Any], limit: float | None = None
) -> int | None:
    """Start the script, kill it after `limit` seconds, and return its exit code."""
    process = FORK.Process(target=train, args=(kind, data, own, every))
    process.start()
    process.join(limit)
    process.kill()
    process.join()
    if process.exitcode not in (0, -signal.SIGKILL):
        raise RuntimeError(f"{kind}: the script failed by itself, with {process.exitcode}")
    return process.exitcode


def half_written(own: Path) -> set[Path]:
    """Return the incomplete checkpoints that kills have left."""
    return set(own.glob(".run.npz.*.tmp"))


def uninterrupted(kind: str, data: Data) -> tuple[str, float, dict[str, Any]]:
    """Return the time and the result of an uninterrupted run."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        once(kind, data, Path(folder), {"every_epochs" if by_epoch(kind) else "every_updates": 2})
        seconds = time.perf_counter() - started
        result = json.loads(Path(folder, "result.json").read_text())
    if not by_epoch(kind):
        epochs = np.reshape(result["rows"], (EPOCHS, -1))
        # The reference itself must have seen each row once per epoch.
        assert (np.sort(epochs) == np.flatnonzero(counting(kind, data))).all()
    assert result["lowered"] < 1
    return kind, seconds, result


def killed(number: int, kind: str, data: Data, seconds: float, expected: dict[str, Any]) -> Outcome:
    """Kill a run at moments uniform over the time of a whole one, until it finishes."""
    rng = np.random.default_rng([7, number])
    kills = writing = 0
    own = Path(tempfile.mkdtemp())
    try:
        while True:
            # Also by time, and so between the batches of an update.
            n = int(rng.integers(1, 5))
            every = {"every_epochs" if by_epoch(kind) else "every_updates": n}
            if rng.random() < 0.5 and not by_epoch(kind):
                every["every_seconds"] = float(rng.uniform(0, 0.005))
            before = half_written(own)
            # Longer after many kills: on a machine that became busier it would not end.
            limit = rng.uniform(0, seconds) * max(1, kills / 10)
            if once(kind, data, own, every, limit):
                kills += 1
                writing += not half_written(own) <= before
            elif kills:
                break
            else:  # it finished before it was killed: again, from the beginning
                shutil.rmtree(own)
                own.mkdir()
        result = json.loads((own / "result.json").read_text())
        different = [name for name in expected if result[name] != expected[name]]
        if half_written(own):
            different.append("temporary files")
        npz.read(own / "run.npz")
    finally:
        shutil.rmtree(own)
    return Outcome(kind, kills, writing, different)


def rows_of_table(outcomes: list[Outcome]) -> Iterator[tuple]:
    for kind in [*KINDS, "together"]:
        some = [o for o in outcomes if kind in (o.kind, "together")]
        if some:
            yield (
                kind, len(some), sum(o.kills for o in some), sum(o.writing for o in some),
                sum(not o.different for o in some),
            )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--kinds", default="", help="only those with this in their name")
    options = parser.parse_args()
    started = time.perf_counter()
    chosen = [kind for kind in KINDS if options.kinds in kind]
    jobs = [(number, chosen[number % len(chosen)]) for number in range(options.runs)]
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(os.cpu_count(), mp_context=FORK) as pool,
    ):
        data = write_data(Path(folder))
        kinds = list(dict.fromkeys(kind for _, kind in jobs))
        for kind in kinds:
            if "compiled" in kind:  # once here, for all processes that are forked later
                with tempfile.TemporaryDirectory() as own:
                    train(kind, data, Path(own), {"every_epochs": 1})
        known = {k: rest for k, *rest in pool.map(uninterrupted, kinds, [data] * len(kinds))}
        waiting = [pool.submit(killed, number, kind, data, *known[kind]) for number, kind in jobs]
        outcomes = [one.result() for one in waiting]
    print(f"{describe()}, pandas {pd.__version__}")
    print(
        f"{ROWS} rows in batches of {BATCH_SIZE}, {ACCUMULATE} batches per update, {EPOCHS} "
        "epochs; a checkpoint every 1 to 4 updates, in half of the processes also every 0 to 5 ms; "
        "compiled epochs: one batch per update unless accumulated, 60 epochs, a checkpoint every 1 "
        "to 4 of them; "
        f"{time.perf_counter() - started:.0f} s\n"
    )
    head = ["rows from", "runs", "kills", "of them while a checkpoint was written", "equal runs"]
    table(head, rows_of_table(outcomes))
    for outcome in outcomes:
        if outcome.different:
            print(f"- {outcome.kind}: other {', '.join(outcome.different)}")
    equal = sum(not outcome.different for outcome in outcomes)
    print(
        f"- {equal} of {len(outcomes)} runs, killed {sum(o.kills for o in outcomes)} times, equal "
        "in the SHA-256 of parameters, buffers and updater state, the numbers of all rows in "
        "their order (except in compiled epochs, which do not report them), the history, and the "
        "log in CSV: " + ("all" if equal == len(outcomes) else "NOT ALL")
    )
    print(
        "- Not tested: a power failure. SIGKILL ends a process, but the system keeps running and "
        "still writes its data to the disk."
    )
    sys.exit(equal < len(outcomes))


if __name__ == "__main__":
    main()
