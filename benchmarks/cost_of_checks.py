"""The cost of checks of files and runs: each is left out in turn, and compared with it.

`python benchmarks/cost_of_checks.py` loads a model, reads an epoch of each kind of file, and trains
on arrays.
"""

# First, because it starts Python anew before NumPy is loaded, if BLAS was pinned.
from environment import describe  # isort: skip

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
from measure import alternate, options_of, ratios, spread, table, target

import minigd as gd
from minigd.backends.base import Backend
from minigd.data.sources import csv, file_reads
from minigd.storage import npz
from minigd.training import interrupts, model_files

COLUMNS, LIMIT = 20, 1.05

Work = Callable[[], object]


def nothing(*_: Any, **__: Any) -> None:
    """Check nothing."""


def without(owner: Any, names: str, instead: Any, work: Work) -> Work:
    """Return the same work with replaced functions of the package."""

    def run() -> None:
        with mock.patch.multiple(owner, **dict.fromkeys(names.split(), instead)):
            work()

    return run


def read(source: Any, shuffle: bool = False) -> Work:
    """Return an epoch of batches that are not used."""

    def run() -> None:
        for _ in gd.Batches(source, batch_size=100, shuffle=shuffle):
            pass

    return run


def train(x: np.ndarray, y: np.ndarray) -> Work:
    """Return a fit of one epoch."""

    def run() -> None:
        model = gd.Sequential([gd.Dense(32), gd.Tanh(), gd.Dense(1)], inputs=COLUMNS, seed=0)
        model.fit(x, y, loss="mse", updater=gd.Adam(), epochs=1, fast=False)

    return run


def pairs(folder: Path, rows: int) -> Iterator[tuple[str, str, Work, Work]]:
    """Yield the work, the check that is left out, and the work with and without it."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, COLUMNS)).astype("float32")
    y = x @ rng.normal(size=COLUMNS).astype("float32")

    model = gd.Sequential([gd.Dense(1000), gd.Tanh(), gd.Dense(1000)], inputs=4000, seed=0)
    model.save(folder / "model.npz")

    def load() -> None:
        gd.load(folder / "model.npz")

    def open_any(path: Path, *_: Any) -> Any:
        return Path(path).open("rb")

    def only_hash(digest: Any, numbers: np.ndarray) -> bool:
        digest.update(numbers.view(np.uint8).data)
        return False

    bare = without(npz, "_add", only_hash, without(model_files, "_warn_of_nan", nothing, load))
    yield "load a model of 5 million numbers", "parameters are finite", load, bare
    for what, owner, name, instead in [
        ("classes are known", model_files, "check_named", nothing),
        ("the file is a regular one", npz, "open_regular", open_any),
    ]:
        yield "load a model of 5 million numbers", what, load, without(owner, name, instead, load)

    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", y)
    for held, there in ((file_reads.HELD, "held"), (0, "read piece by piece")):
        with mock.patch.object(file_reads, "HELD", held):
            source = gd.NpySource(folder / "x.npy", folder / "y.npy")
        for shuffle, order in ((False, "in order"), (True, "shuffled")):
            work = without(file_reads, "HELD", held, read(source, shuffle))
            bare = without(file_reads.ArrayFile, "_check", nothing, work)
            yield f"an epoch of `.npy`, {there}, {order}", "the file has not changed", work, bare

    frame = pd.DataFrame(x, columns=[f"x{i}" for i in range(COLUMNS)]).assign(y=y)
    frame.to_csv(folder / "rows.csv", index=False)
    for shuffle, order in ((False, "in order"), (True, "shuffled")):
        source = gd.CsvSource(folder / "rows.csv", target="y")
        work = read(source, shuffle)
        bare = without(csv.CsvSource, "_check_unchanged", nothing, work)
        yield f"an epoch of CSV, {order}", "the file has not changed", work, bare

    work = train(x, y)
    for what, owner, name, instead in [
        ("one thread at a time", interrupts.OneThread, "__enter__ __exit__", nothing),
        ("signals between updates", interrupts.Handler, "__enter__ __exit__", nothing),
        ("the numbers of a batch are finite", Backend, "check_finite", nothing),
    ]:
        yield "train an epoch on arrays", what, work, without(owner, name, instead, work)


def main() -> None:
    options = options_of(__doc__, rounds=15, rows=1_000_000)
    print(describe())
    print(
        f"{options.rows:,} rows of {COLUMNS} numbers; {options.rounds} rounds in turns, "
        f"{options.clock}\n"
    )
    shares: dict[str, list[float]] = {}

    def rows() -> Iterator[tuple[str, str, str, str]]:
        for work, check, with_it, bare in pairs(Path(folder), options.rows):
            seconds = alternate({"with": with_it, "without": bare}, options.rounds, options.cpu)
            shares[f"{work}: {check}"] = ratios(seconds["with"], seconds["without"])
            times = spread([1000 * s for s in seconds["with"]], ".1f")
            yield work, check, times, spread(shares[f"{work}: {check}"], ".3f")

    with tempfile.TemporaryDirectory() as folder:
        table(["work", "check", "milliseconds with it", "over the same without it"], rows())
    for name, values in shares.items():
        print(target(name, values, LIMIT, above=False))


if __name__ == "__main__":
    main()
