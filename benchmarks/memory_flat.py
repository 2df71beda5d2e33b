"""Peak memory of training from CSV files of growing size: in file order it must not grow.

Each size runs in its own process: `python benchmarks/memory_flat.py 100 1000 4000`, in MB. The
files are written to a temporary folder (set `TMPDIR` to choose one), one at a time, and deleted.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from environment import describe
from measure import megabytes, table, with_memory

import minigd as gd

COLUMNS = 20
PIECE = 20_000  # rows of text, repeated until the file is full


def write(path: Path, megabytes: int) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(PIECE, COLUMNS - 1)) * 10
    y = x @ rng.normal(size=COLUMNS - 1) + rng.normal(size=PIECE)
    lines = [",".join(f"{value:.4f}" for value in row) for row in np.column_stack([x, y])]
    piece = "\n".join(lines) + "\n"
    with path.open("w") as file:
        file.write(",".join([*(f"x{i}" for i in range(COLUMNS - 1)), "y"]) + "\n")
        while file.tell() < megabytes * 10**6:
            file.write(piece)


def train(path: Path, shuffle: bool) -> int:
    """Adapt to a file, train a linear model on it for an epoch, and return the rows of the file."""
    source = gd.CsvSource(path, target="y")
    batches = gd.Batches(source, batch_size=100, shuffle=shuffle)
    layers = [gd.Standardize(), gd.Dense(1), gd.Rescale()]
    model = gd.Sequential(layers, inputs=COLUMNS - 1, seed=0)
    model.adapt(batches)
    model.fit(batches, loss="mse", updater=gd.Adam())
    return source.rows


def runs(sizes: list[int], shuffle: bool, peaks: list[tuple[int, int]]) -> Iterator[tuple]:
    """Yield a row of the table for each size, and keep rows and peak."""
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "numbers.csv")
            write(path, size)
            rows, before, peak = with_memory(train, path, shuffle)
        peaks.append((rows, peak))
        first_rows, first = peaks[0]
        order = "shuffled exactly" if shuffle else "in file order"
        yield (
            order, f"{size:,}", f"{rows:,}", megabytes(before),
            megabytes(peak), f"{peak / first:.3f}",
            f"{(peak - first) / (rows - first_rows):.1f}" if rows > first_rows else "",
        )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sizes", type=int, nargs="*", default=[100, 1000, 4000], metavar="MB")
    parser.add_argument("--shuffled", type=int, default=2, help="how many sizes to shuffle too")
    options = parser.parse_args()
    print(describe())
    print(
        f"a linear model on {COLUMNS - 1} columns: first pass, `adapt` and an epoch of Adam in "
        "batches of 100; anonymous resident memory in MB of 10⁶ bytes\n"
    )
    head = ["order", "file, MB", "rows", "before, MB", "peak, MB", "over the first",
            "bytes per additional row"]  # fmt: skip
    ordered: list[tuple[int, int]] = []
    table(head, runs(options.sizes, False, ordered))
    peaks = [peak for _, peak in ordered]
    worst = max(peaks) / min(peaks)
    print(
        f"- largest over smallest peak in file order: {worst:.3f}; target at most 1.1: "
        f"{'kept' if worst <= 1.1 else 'missed'}\n"
    )
    table(head, runs(options.sizes[: options.shuffled], True, []))


if __name__ == "__main__":
    main()
