"""A loop over `pandas.read_csv(chunksize=...)`, each chunk one update of a linear model in NumPy.

Loss, gradient and Adam are written out by hand, over one vector of all weights. The options of
`read_csv` are the fastest ones for such short chunks.
"""

import numpy as np
import pandas as pd

from benchmarks.workloads import Data, Workload


class Loop:
    """A linear model, the moments of its Adam, and its file."""

    def __init__(self, workload: Workload, data: Data) -> None:
        self.path, self.batch_size = workload.path, workload.batch_size
        self.learning_rate = workload.learning_rate
        ((W, b),) = data.weights
        self.p = np.concatenate([W[:, 0], b])
        self.m, self.v = np.zeros_like(self.p), np.zeros_like(self.p)
        self.updates = 0

    def train(self, epochs: int) -> list[float]:
        return [self._epoch() for _ in range(epochs)]

    def _epoch(self) -> float:
        total, rows = 0.0, 0
        for frame in pd.read_csv(
            self.path, chunksize=self.batch_size, dtype=np.float32, low_memory=False
        ):
            values = frame.to_numpy()
            x, y = values[:, :-1], values[:, -1]
            error = x @ self.p[:-1] + self.p[-1] - y
            n = len(y)
            total += float(error @ error)
            rows += n
            error *= np.float32(2 / n)
            self._update(np.append(error @ x, error.sum()))
        return total / rows

    def _update(self, g: np.ndarray) -> None:
        self.updates += 1
        self.m += np.float32(0.1) * (g - self.m)
        self.v += np.float32(0.001) * (g * g - self.v)
        m = self.m / np.float32(1 - 0.9**self.updates)
        v = self.v / np.float32(1 - 0.999**self.updates)
        self.p -= np.float32(self.learning_rate) * m / (np.sqrt(v) + np.float32(1e-8))

    def weights(self) -> list[tuple[np.ndarray, np.ndarray]]:
        return [(self.p[:-1].reshape(-1, 1), self.p[-1:])]


def prepare(workload: Workload, data: Data) -> Loop:
    return Loop(workload, data)
