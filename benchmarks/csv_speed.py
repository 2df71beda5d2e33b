"""Training a linear model from a large CSV file, compared with parsing and Vowpal Wabbit.

All files are created in a temporary folder (set `TMPDIR` to choose one): `python -m
benchmarks.csv_speed`. A CSV file of 6,410,000 rows of 20 columns has 1 GB. ``--rows 641000`` is a
quick run. Contenders that are not installed are left out and named.
"""

# First, because it starts Python anew before NumPy is loaded, if BLAS was pinned.
from benchmarks.environment import command, describe, load  # isort: skip

import importlib.metadata
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pandas as pd

import minigd as gd
from benchmarks.measure import alternate, options_of, ratios, spread, table, target
from benchmarks.workloads import csv_lines, write_lines

COLUMNS, BATCH = 20, 100
FIRST, LATER = "opening the file and the first epoch", "a later epoch"
OURS = {"minigd": None, **({"minigd with `fast=True`": True} if find_spec("numba") else {})}
"""By default the steps of a short fit are not compiled, and those of a fit on 1 GB are."""
TEXT, CACHED = "Vowpal Wabbit, a pass over its text", "Vowpal Wabbit, a pass over its cache file"
PARSERS = {
    "polars": ("polars, `read_csv`", 0.3, 0.4),
    "pyarrow": ("pyarrow, `open_csv`", 0.7, 1.0),
    "pandas": ("pandas, `chunksize=10_000`", 0.7, 1.0),
}
"""The contender of each package, and the least share of its rate in the first epoch and later."""
MOST_OF_WABBIT = 1.2, 0.8
"""Of the time of Vowpal Wabbit's pass over text, and over its cache, in the same order."""
PACKAGES = [*PARSERS, "numba", "vowpalwabbit"]

Contenders = dict[str, Callable[[], object]]


class Training:
    """A linear model on exactly shuffled batches of a CSV file."""

    def __init__(self, path: Path, fast: bool | None) -> None:
        self.path, self.fast = path, fast
        self.first()

    def first(self) -> None:
        source = gd.CsvSource(self.path, target="y")
        self.batches = gd.Batches(source, batch_size=BATCH, shuffle=True)
        model = gd.Sequential([gd.Dense(1)], inputs=COLUMNS - 1)
        self.trainer = gd.Trainer(model, "mse", "adam", fast=self.fast)
        self.later()

    def later(self) -> None:
        self.trainer.fit(self.batches, epochs=1)


def trainings(path: Path) -> Contenders:
    """Return opening and training, and training once more."""
    found: Contenders = {}
    for name, fast in OURS.items():
        training = Training(path, fast)
        found |= {f"{name}, {FIRST}": training.first, f"{name}, {LATER}": training.later}
    return found


def parsers(path: Path) -> Contenders:
    """Return functions that read all rows of the file and do nothing with them."""
    found: Contenders = {}
    if find_spec("polars"):
        import polars

        found[PARSERS["polars"][0]] = lambda: polars.read_csv(path)
    if find_spec("pyarrow"):
        from pyarrow import csv

        found[PARSERS["pyarrow"][0]] = lambda: sum(len(batch) for batch in csv.open_csv(path))
        found["pyarrow, `read_csv`"] = lambda: csv.read_csv(path)
    chunks = PARSERS["pandas"][0]
    found[chunks] = lambda: sum(len(frame) for frame in pd.read_csv(path, chunksize=10_000))
    return found


def wabbit(path: Path) -> Contenders:
    """Return a pass of Vowpal Wabbit over its own text, and one over the cache file made of it."""
    if not find_spec("vowpalwabbit"):
        return {}
    from vowpalwabbit import Workspace

    def run(*options: str) -> None:
        # A file given by name is read when the object is created.
        Workspace(" ".join([f"--data {path}", "--quiet --holdout_off", *options])).finish()

    cache = f"--cache_file {path}.cache"
    run("--kill_cache", cache)
    return {TEXT: run, CACHED: lambda: run(cache)}


def in_its_text(line: str) -> str:
    """Return a row in Vowpal Wabbit's format: the target, then names and values."""
    *values, y = line.split(",")
    return f"{y} | " + " ".join(f"x{i}:{value}" for i, value in enumerate(values))


def race(contenders: Contenders, rows: int, path: Path, options: object) -> dict[str, list[float]]:
    """Let contenders alternate, print the table, and return their seconds."""
    seconds = alternate(contenders, options.rounds, options.cpu)
    size = path.stat().st_size
    print(f"{rows:,} rows of {COLUMNS} columns, {size / 1e6:,.0f} MB of CSV\n")
    table(
        ["contender", "million rows/s", "MB/s", "seconds"],
        [
            (
                name,
                spread([rows / s / 1e6 for s in taken]),
                spread([size / s / 1e6 for s in taken], ",.0f"),
                spread(taken),
            )
            for name, taken in seconds.items()
        ],
    )
    return seconds


def verdicts(seconds: dict[str, list[float]]) -> Iterator[str]:
    """Yield a line for each target whose contender took part."""
    for k, (name, part) in enumerate(itertools.product(OURS, (FIRST, LATER))):
        own, first = f"{name}, {part}", k % 2 == 0
        for parser, *least in PARSERS.values():
            if parser in seconds:
                rates = ratios(seconds[parser], seconds[own])
                yield target(f"rate of {own}, over {parser}", rates, least[k % 2], above=True)
        other = TEXT if first else CACHED
        if other in seconds:
            times = ratios(seconds[own], seconds[other])
            yield target(f"time of {own}, over {other}", times, MOST_OF_WABBIT[k % 2], above=False)


def main() -> None:
    options = options_of(__doc__, rounds=5, rows=6_410_000, wabbit_rows=590_000)
    started = load()
    there = [name for name in PACKAGES if find_spec(name)]
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in there)
    print("# A linear model from a CSV file, compared with parsing alone and Vowpal Wabbit\n")
    line = command("benchmarks.csv_speed", sys.argv[1:])
    print(f"`{line}`, {time.strftime('%Y-%m-%d')}\n\n{describe()}\n{versions}")
    print(f"{len(os.sched_getaffinity(0))} processors; load at the start {started}")
    for name in PACKAGES:
        if name not in there:
            print(f"left out, because it is not installed: {name}")
    how = f"batches of {BATCH}, exactly shuffled; files in the page cache; {options.rounds} rounds"
    print(f"{how}, {options.clock}: median (smallest to largest)\n")
    lines = csv_lines(COLUMNS)
    header = ",".join([*(f"x{i}" for i in range(COLUMNS - 1)), "y"]) + "\n"
    with tempfile.TemporaryDirectory() as folder:
        path, text = Path(folder, "numbers.csv"), Path(folder, "numbers.txt")
        write_lines(path, lines, options.rows, header)
        contenders = {**trainings(path), **parsers(path)}
        print("\n".join(verdicts(race(contenders, options.rows, path, options))) + "\n")
        write_lines(path, lines, options.wabbit_rows, header)
        write_lines(text, [in_its_text(line) for line in lines], options.wabbit_rows)
        contenders = {**trainings(path), **wabbit(text)}
        print("\n".join(verdicts(race(contenders, options.wabbit_rows, path, options))))
    print(f"\nload at the end {load()}")


if __name__ == "__main__":
    main()
