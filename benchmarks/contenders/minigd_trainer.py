"""minigd: a `Trainer` over `Batches`, of arrays in memory or of a CSV file.

With `fast` its formulas are compiled by Numba, without it they are NumPy's.
"""

from typing import Any

import numpy as np

import minigd as gd
from benchmarks.workloads import Data, Workload

ACTIVATIONS = {"tanh": gd.Tanh, "relu": gd.ReLU}
LAST = {"binary": gd.Sigmoid, "classes": gd.Softmax}
LOSSES = {"binary": "binary_crossentropy", "classes": "categorical_crossentropy", "mse": "mse"}


class Training:
    """A model, its trainer and its batches."""

    def __init__(
        self,
        workload: Workload,
        data: Data,
        fast: bool | None,
        backend: Any = "numpy",
        comm: Any = None,
    ) -> None:
        *hidden, n_out = workload.widths[1:]
        layers: list[gd.Layer] = []
        for units in hidden:
            layers += [gd.Dense(units), ACTIVATIONS[workload.activation]()]
        layers.append(gd.Dense(n_out))
        if workload.loss in LAST:
            layers.append(LAST[workload.loss]())
        self.model = gd.Sequential(layers, inputs=workload.widths[0], backend=backend)
        asarray = self.model.backend.asarray
        for (W, b), (given_W, given_b) in zip(self._views(), data.weights, strict=True):
            W[...], b[...] = asarray(given_W), asarray(given_b)
        if workload.path is not None:
            source = gd.CsvSource(workload.path, target="y")
            self.batches = gd.Batches(source, batch_size=workload.batch_size)
        else:
            y = data.y.astype(np.float32) if workload.loss == "binary" else data.y
            self.batches = gd.Batches(data.x, y, batch_size=workload.batch_size, shuffle=True)
        updater = gd.Adam(workload.learning_rate)
        loss = LOSSES[workload.loss]
        self.trainer = gd.Trainer(self.model, loss, updater, fast=fast, comm=comm)

    @property
    def updates(self) -> int:
        return self.trainer.updates

    def train(self, epochs: int) -> list[float]:
        return list(self.trainer.fit(self.batches, epochs=epochs)["loss"][-epochs:])

    def weights(self) -> list[tuple[np.ndarray, np.ndarray]]:
        host = self.model.backend.to_numpy
        return [(host(W), host(b)) for W, b in self._views()]

    def _views(self) -> list[tuple[Any, Any]]:
        dense = [layer for layer in self.model.layers if isinstance(layer, gd.Dense)]
        return [(layer.params["W"], layer.params["b"]) for layer in dense]


def prepare(workload: Workload, data: Data, fast: bool) -> Training:
    return Training(workload, data, fast)
