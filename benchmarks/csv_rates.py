"""Rows per second from a CSV file: batches of 100 rows in order and shuffled, and pandas.

All files are created in a temporary folder: `python benchmarks/csv_rates.py`.
"""

import statistics
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from environment import describe
from measure import alternate, options_of, ratios, spread, table, target

import minigd as gd

COLUMNS = 20


def write(path: Path, rows: int, seed: int = 0) -> None:
    """Write a table of numbers like measurements."""
    values = np.random.default_rng(seed).normal(size=(rows, COLUMNS)) * 100
    names = [*(f"x{i}" for i in range(COLUMNS - 1)), "y"]
    pd.DataFrame(values, columns=names).to_csv(path, index=False, float_format="%.4f")


def batches_of(source: gd.CsvSource, shuffle: bool = False) -> int:
    return sum(len(x) for x, y in gd.Batches(source, batch_size=100, shuffle=shuffle))


def chunks_of(path: Path, size: int) -> int:
    return sum(len(frame) for frame in pd.read_csv(path, chunksize=size))


def main() -> None:
    options = options_of(__doc__, rounds=9, rows=200_000)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "numbers.csv")
        write(path, options.rows)
        size = path.stat().st_size
        source = gd.CsvSource(path, target="y")
        contenders = {
            "minigd, batches of 100 in order": lambda: batches_of(source),
            "minigd, batches of 100 exactly shuffled": lambda: batches_of(source, shuffle=True),
            "minigd, the first pass over a file": lambda: gd.CsvSource(path, target="y"),
            "pandas, `chunksize=100`": lambda: chunks_of(path, 100),
            "pandas, `chunksize=10_000`": lambda: chunks_of(path, 10_000),
        }
        seconds = alternate(contenders, options.rounds, options.cpu)

    print(f"{describe()}, pandas {pd.__version__}")
    print(
        f"{options.rows:,} rows of {COLUMNS} columns of numbers, {size / 1e6:.0f} MB, in the page "
        f"cache; {options.rounds} rounds, {options.clock}: median (smallest to largest)\n"
    )
    table(
        ["reader", "million rows/s", "MB/s"],
        [
            (
                name,
                spread([options.rows / s / 1e6 for s in taken]),
                f"{size / statistics.median(taken) / 1e6:.0f}",
            )
            for name, taken in seconds.items()
        ],
    )
    ours, shuffled, _, small, large = seconds.values()
    print(target("rate of batches of 100 over `chunksize=100`", ratios(small, ours), 5, True))
    print(target("rate of batches of 100 over large blocks", ratios(large, ours), 0.65, True))
    print(target("rate shuffled over rate in order", ratios(ours, shuffled), 0.25, True))


if __name__ == "__main__":
    main()
