"""What the contenders of `python -m benchmarks` train on: networks, rows, and how they are cut.

Everything is drawn from one seed, including initial weights, so all processes have the same.
"""

import itertools
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import minigd as gd


class Workload(NamedTuple):
    """A network and its data, as a description that any process can carry out.

    Attributes
    ----------
    widths : tuple of int
        Number of columns of x, units of each hidden layer, and outputs.
    activation : {"tanh", "relu"}
        After each hidden layer.
    loss : {"binary", "classes", "mse"}
        With a sigmoid, a softmax or nothing after the last layer.
    path : str or None
        A CSV file from which rows are read in order. By default they are in memory and are
        shuffled.
    images : str or None
        The folder of MNIST's IDX files, instead of random numbers.
    in_classes : bool
        Sort the rows by class, which reveals a contender that does not shuffle.
    """

    name: str
    widths: tuple[int, ...]
    activation: str = "relu"
    loss: str = "classes"
    rows: int = 60_000
    batch_size: int = 100
    learning_rate: float = 0.001
    path: str | None = None
    images: str | None = None
    in_classes: bool = False

    @property
    def steps(self) -> int:
        """Updates per epoch. The last batch may be shorter."""
        return math.ceil(self.rows / self.batch_size)

    @property
    def parameters(self) -> int:
        """Weights and biases."""
        return sum((a + 1) * b for a, b in itertools.pairwise(self.widths))

    def describe(self) -> str:
        """Return a line for the head of a table."""
        network = "-".join(map(str, self.widths))
        if self.path is not None:
            return f"a linear model, {network}, squared error, {self.rows:,} rows of a CSV file"
        last = {"binary": "sigmoid", "classes": "softmax", "mse": "linear"}[self.loss]
        hidden = {"tanh": "tanh", "relu": "ReLU"}[self.activation]
        return (
            f"{network}, {hidden}, {last}, {self.parameters:,} parameters, {self.rows:,} rows, "
            f"batches of {self.batch_size:,}, {self.steps:,} steps per epoch"
        )


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("tiny-1", (2, 10, 10, 1), "tanh", "binary", 1120, 1),
        Workload("tiny-100", (2, 10, 10, 1), "tanh", "binary", 1120, 100),
        Workload("mnist-100", (784, 100, 10)),
        Workload("mnist-512", (784, 512, 512, 10), batch_size=128),
        Workload("wide", (1024, 2048, 2048, 10), rows=20_480, batch_size=1024),
        Workload("linear-csv", (19, 1), loss="mse"),
    )
}


class Data(NamedTuple):
    """Rows in memory, or None for those of a file, and the initial weights (W, b) of each layer."""

    x: Any
    y: Any
    weights: list[tuple[np.ndarray, np.ndarray]]


def make_data(workload: Workload, seed: int = 0) -> Data:
    """Return float32 x in [0, 1], or standard normal for few columns, and classes as int64."""
    rng = np.random.default_rng(seed)
    weights = make_weights(workload, rng)
    if workload.path is not None:
        return Data(None, None, weights)
    if workload.images is not None:
        folder = Path(workload.images)
        files = [folder / f"train-{name}-ubyte" for name in ("images-idx3", "labels-idx1")]
        source = gd.IdxSource(*(f if f.exists() else f.with_name(f.name + ".gz") for f in files))
        x, y = source.take(slice(0, workload.rows))
        return Data(np.ascontiguousarray(x), y.astype(np.int64), weights)
    n_in, n_out = workload.widths[0], workload.widths[-1]
    if workload.loss == "binary":
        x = rng.standard_normal((workload.rows, n_in), dtype=np.float32)
        distance = (x**2).sum(axis=1)
        y = (distance > np.median(distance)).astype(np.int64)
    else:
        x = rng.random((workload.rows, n_in), dtype=np.float32)
        # Classes by a linear rule, so that there is something to learn.
        rule = rng.standard_normal((n_in, n_out), dtype=np.float32)
        y = ((x - np.float32(0.5)) @ rule).argmax(axis=1).astype(np.int64)
    if workload.in_classes:
        order = np.argsort(y, kind="stable")
        x, y = x[order], y[order]
    return Data(x, y, weights)


def make_weights(
    workload: Workload, rng: np.random.Generator
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return W from Glorot's uniform distribution, and b of zeros, for each layer."""
    weights = []
    for a, b in itertools.pairwise(workload.widths):
        bound = math.sqrt(6 / (a + b))
        W = rng.uniform(-bound, bound, (a, b)).astype(np.float32)
        weights.append((W, np.zeros(b, dtype=np.float32)))
    return weights


def csv_lines(columns: int = 20, seed: int = 0) -> list[str]:
    """Return 20,000 rows of text, whose last column depends on the others."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(20_000, columns - 1)) * 10
    y = x @ rng.normal(size=columns - 1) + rng.normal(size=len(x))
    return [",".join(f"{value:.4f}" for value in row) for row in np.column_stack([x, y])]


def write_csv(path: Path, size: int, columns: int = 20, seed: int = 0) -> int:
    """Write a CSV file of about `size` bytes, and return its rows."""
    lines = csv_lines(columns, seed)
    length = sum(map(len, lines)) // len(lines) + 1
    rows = max(1, size // length)
    names = [*(f"x{i}" for i in range(columns - 1)), "y"]
    write_lines(path, lines, rows, ",".join(names) + "\n")
    return rows


def write_lines(path: Path, lines: list[str], rows: int, header: str = "") -> None:
    """Write this many rows, repeating the same lines until the file is full."""
    whole, rest = divmod(rows, len(lines))
    piece = "\n".join(lines) + "\n"
    with path.open("w") as file:
        file.write(header)
        for _ in range(whole):
            file.write(piece)
        file.write("".join(line + "\n" for line in lines[:rest]))
