"""The floor: the matrix products of each step, through NumPy into memory that is there.

Beside them one copy of the rows of each batch, in a random order, and nothing else: no activation,
no loss, no update. What trains through NumPy takes longer.
"""

import math

import numpy as np

from benchmarks.workloads import Data, Workload


class Products:
    """The arrays of the largest batch; the products of forward and backward over all batches."""

    def __init__(self, workload: Workload, data: Data) -> None:
        self.x, self.y, self.size = data.x, data.y, workload.batch_size
        rng = np.random.default_rng(0)
        self.order = rng.permutation(workload.rows)
        self.weight = [W for W, _ in data.weights]
        self.grad = [np.empty_like(W) for W in self.weight]
        self.z = [np.zeros((self.size, width), np.float32) for width in workload.widths]
        self.dz = [rng.standard_normal(z.shape, dtype=np.float32) for z in self.z]
        self.labels = np.empty(self.size, data.y.dtype)
        self.updates = 0

    def train(self, epochs: int) -> list[float]:
        for _ in range(epochs):
            for start in range(0, len(self.order), self.size):
                self._step(self.order[start : start + self.size])
        return [math.nan] * epochs

    def _step(self, rows: np.ndarray) -> None:
        n = len(rows)
        z, dz = [a[:n] for a in self.z], [a[:n] for a in self.dz]
        # Without `mode`, NumPy copies once more, in case an index is wrong.
        np.take(self.x, rows, axis=0, out=z[0], mode="clip")
        np.take(self.y, rows, out=self.labels[:n], mode="clip")
        last = len(self.weight) - 1
        for i in range(last + 1):
            np.dot(z[i], self.weight[i], out=z[i + 1])
        for i in range(last, -1, -1):
            np.dot(z[i].T, dz[i + 1], out=self.grad[i])
            if i > 0:
                np.dot(dz[i + 1], self.weight[i].T, out=dz[i])

    def weights(self) -> list[tuple[np.ndarray, np.ndarray]]:
        return [(W, np.zeros(W.shape[1], W.dtype)) for W in self.weight]


def prepare(workload: Workload, data: Data) -> Products:
    return Products(workload, data)
