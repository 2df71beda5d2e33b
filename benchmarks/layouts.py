"""Rows of arrays in several layouts, compared with a C array: gathered, and trained on.

`python benchmarks/layouts.py` measures 50,000 x 50 numbers in shuffled batches of 100.
"""

# First, because it starts Python anew before NumPy is loaded, if BLAS was pinned.
from environment import describe  # isort: skip

import os
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from measure import (
    Seconds,
    alternate,
    megabytes,
    options_of,
    ratios,
    spread,
    table,
    target,
    with_memory,
)

import minigd as gd
from minigd.backends.base import get_backend
from minigd.backends.workspace import Workspace

Contender = Callable[[], object]


def layouts(x: np.ndarray) -> dict[str, object]:
    """Return arrays of the same shape in many layouts. The first is a C array."""
    n, width = x.shape
    rng = np.random.default_rng(1)
    return {
        "C array": x,
        "Fortran array": np.asfortranarray(x),
        "`X[:, 1:]`": rng.normal(size=(n, width + 1))[:, 1:],
        "`X[::-1]`": x[::-1],
        "`X[:, ::-1]`": x[:, ::-1],
        "`X[:, ::2]`": rng.normal(size=(n, 2 * width))[:, ::2],
        "broadcast from one row": np.broadcast_to(x[0], x.shape),
        "other byte order": x.astype(x.dtype.newbyteorder(">")),
        "frame of pandas": pd.DataFrame(x),
    }


def gather(x: object, y: np.ndarray, size: int) -> Contender:
    """Return an epoch of shuffled batches as in the Trainer, without using them."""
    batches = gd.Batches(x, y, batch_size=size, shuffle=True)
    workspace = Workspace(get_backend("numpy"))
    workspace.thread = threading.get_ident()

    def epoch() -> None:
        for _ in batches.epoch(0, 0, workspace):
            pass

    return epoch


def fit(x: object, y: np.ndarray, size: int, epochs: int, shuffle: bool = True) -> Contender:
    """Return a whole `fit` of a linear model, including checks and conversions."""

    def train() -> None:
        model = gd.Sequential([gd.Dense(1)], inputs=x.shape[1])
        model.fit(x, y, loss="mse", batch_size=size, epochs=epochs, shuffle=shuffle)

    return train


def estimate(x: object, y: np.ndarray, size: int, epochs: int) -> Contender:
    """Return a whole `fit` of the regressor, including scikit-learn's checks."""
    return lambda: gd.MiniBatchRegressor(epochs=epochs, batch_size=size, random_state=0).fit(x, y)


def sections(rows: dict[str, object], y: np.ndarray, size: int) -> dict[str, tuple]:
    """Return what is measured: a title, contenders, and the largest allowed ratio."""

    def each(make: Callable[..., Contender], *settings: object) -> dict[str, Contender]:
        return {name: make(x, y, size, *settings) for name, x in rows.items()}

    return {
        "a bare shuffled epoch of `Batches`": (each(gather), 6.0),
        "`Sequential.fit`, one epoch, shuffled": (each(fit, 1), 1.5),
        "`Sequential.fit`, one epoch, in order": (each(fit, 1, False), 1.5),
        "`Sequential.fit`, five epochs, shuffled": (each(fit, 5), 1.5),
        "`MiniBatchRegressor.fit`, one epoch": (each(estimate, 1), 1.5),
        "`MiniBatchRegressor.fit`, five epochs": (each(estimate, 5), 1.5),
    }


def train_on_file(folder: str, name: str, size: int) -> None:
    """Open a file, gather a shuffled epoch, and train for another, in a separate process."""
    source = gd.NpySource(Path(folder, f"{name}.npy"), Path(folder, "y.npy"))
    batches = gd.Batches(source, batch_size=size, shuffle=True)
    for _ in batches:
        pass
    gd.Sequential([gd.Dense(1)], inputs=source.x.shape[1]).fit(batches, loss="mse")


def file_memory(rows: int, width: int, size: int) -> None:
    """Print the anonymous memory for a `.npy` file in C order and in Fortran order."""
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder, "y.npy"), np.arange(rows) / rows)
        lines = []
        for name in ("C", "F"):
            mapped = np.lib.format.open_memmap(
                Path(folder, f"{name}.npy"), "w+", np.float64, (rows, width), name == "F"
            )
            for start in range(0, rows, 10_000):
                part = mapped[start : start + 10_000]
                part[...] = np.random.default_rng(start).normal(size=part.shape)
            mapped.flush()
            del mapped, part
            _, before, peak = with_memory(train_on_file, folder, name, size)
            lines.append((f"{name} order", *map(megabytes, (rows * width * 8, peak - before))))
    table(["`.npy` file", "its size, MB", "opened, shuffled, trained on: memory, MB"], lines)


def main() -> None:
    options = options_of(__doc__, rounds=11, rows=50_000, width=50, batch_size=100)
    x = np.random.default_rng(0).normal(size=(options.rows, options.width))
    y = x @ np.linspace(-1, 1, options.width)
    rows = layouts(x)
    print(describe())
    print(
        f"{options.rows:,} rows of {options.width} float64, {megabytes(x.nbytes)} MB, batches of "
        f"{options.batch_size}; {options.rounds} rounds, {options.clock}: median (smallest to "
        f"largest); load {os.getloadavg()[0]:.1f} at the start\n"
    )
    judged = []
    for title, (contenders, bound) in sections(rows, y, options.batch_size).items():
        seconds: Seconds = alternate(contenders, options.rounds, options.cpu)
        first = seconds["C array"]
        table(
            [title, "milliseconds", "times a C array"],
            [
                (name, spread([1000 * s for s in taken], ".1f"), spread(ratios(taken, first)))
                for name, taken in seconds.items()
            ],
        )
        worst = max(seconds, key=lambda name: sorted(ratios(seconds[name], first))[len(first) // 2])
        judged.append(target(f"{title}: {worst}", ratios(seconds[worst], first), bound, False))
    print("\n".join(judged), "\n")
    file_memory(20 * options.rows, options.width, 10 * options.batch_size)
    print(f"load {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main()
