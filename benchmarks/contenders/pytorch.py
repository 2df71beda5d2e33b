"""PyTorch, run eagerly, with its fused Adam.

The loss is added up where it lies and read once an epoch. The loader fetches whole batches by their
indices, as PyTorch's documentation advises where rows are cheap to read: a sampler of batches, and
no batching behind it. The usual `batch_size=100` fetches and stacks row by row and takes longer.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    TensorDataset,
)

from benchmarks.workloads import Data, Workload

ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU}
LOSSES = {"binary": nn.BCEWithLogitsLoss, "classes": nn.CrossEntropyLoss, "mse": nn.MSELoss}


class Slices:
    """Batches of tensors in memory, by slices of a shuffled index.

    `index_select` takes less time than `x[rows]`, which does the same.
    """

    def __init__(self, x: Tensor, y: Tensor, batch_size: int) -> None:
        self.x, self.y, self.batch_size = x, y, batch_size

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(self.x), device=self.x.device)
        for rows in order.split(self.batch_size):
            yield self.x.index_select(0, rows), self.y.index_select(0, rows)


class Table(IterableDataset):
    """Batches of a CSV file, which pandas reads a thousand batches at a time."""

    def __init__(self, path: str, batch_size: int) -> None:
        self.path, self.batch_size = path, batch_size

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        import pandas as pd

        for frame in pd.read_csv(self.path, chunksize=1000 * self.batch_size, dtype=np.float32):
            for batch in torch.from_numpy(frame.to_numpy()).split(self.batch_size):
                yield batch[:, :-1], batch[:, -1:]


class Training:
    """A model, its optimiser and its batches, on the CPU or with all rows on a GPU."""

    def __init__(self, workload: Workload, data: Data, by: str, device: str = "cpu") -> None:
        torch.manual_seed(0)
        layers: list[nn.Module] = []
        for W, b in data.weights:
            layers += [nn.Linear(*W.shape), ACTIVATIONS[workload.activation]()]
            with torch.no_grad():
                layers[-2].weight.copy_(torch.from_numpy(W.T))
                layers[-2].bias.copy_(torch.from_numpy(b))
        self.model = nn.Sequential(*layers[:-1]).to(device)
        self.loss = LOSSES[workload.loss]()
        self.optimizer = torch.optim.Adam(
            self.model.parameters(), lr=workload.learning_rate, fused=True
        )
        self.batches = _batches(workload, data, by, device)
        self.forward = self.model
        self.device = device
        self.updates = 0

    def compile(self) -> "Training":
        """Let PyTorch compile the model, its launches as CUDA graphs."""
        self.forward = torch.compile(self.model, mode="reduce-overhead")
        return self

    def train(self, epochs: int) -> list[float]:
        return [self._epoch() for _ in range(epochs)]

    def _epoch(self) -> float:
        total, rows = torch.zeros((), device=self.device), 0
        for x, y in self.batches:
            loss = self.loss(self.forward(x), y)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            total.add_(loss.detach(), alpha=len(x))
            rows += len(x)
        first = next(iter(self.optimizer.state.values()))
        self.updates = int(first["step"])
        return total.item() / rows

    def weights(self) -> list[tuple[np.ndarray, np.ndarray]]:
        return [
            (layer.weight.detach().cpu().numpy().T, layer.bias.detach().cpu().numpy())
            for layer in self.model
            if isinstance(layer, nn.Linear)
        ]


def _batches(workload: Workload, data: Data, by: str, device: str) -> Slices | DataLoader:
    size = workload.batch_size
    if by == "file":
        return DataLoader(Table(workload.path, size), batch_size=None)
    x, y = torch.from_numpy(data.x), torch.from_numpy(data.y)
    if workload.loss == "binary":
        y = y.to(torch.float32).reshape(-1, 1)
    if by == "slicing":
        return Slices(x.to(device), y.to(device), size)
    dataset = TensorDataset(x, y)
    sampler = BatchSampler(RandomSampler(dataset), size, drop_last=False)
    return DataLoader(dataset, sampler=sampler, batch_size=None)


def prepare(workload: Workload, data: Data, by: str) -> Training:
    return Training(workload, data, by)
