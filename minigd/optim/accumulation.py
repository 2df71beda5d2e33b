"""The window of accumulation: the batches whose gradients are averaged into one update."""

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np

from minigd.backends.base import Backend
from minigd.errors import CheckpointError, check_integer, check_number
from minigd.types import Array


def moved_mean(mean: Any, part: Any, share: Any) -> Any:
    """Return mean + (part − mean) share. Only ratios of weights are in the dtype of the numbers.

    >>> moved_mean(1.0, 4.0, 1 / 3)
    2.0
    """
    return mean + (part - mean) * share


class Accumulation:
    """The gradient of one large batch from those of its parts, G = Σ_p W_p g_p / Σ_p W_p.

    W_p is the weight of part p (without weights, its number of rows), so a short part and a short
    window count by their weights.

    Parameters
    ----------
    parts : int
        The number of batches per update. At the end of an epoch there may be fewer.

    Attributes
    ----------
    batches : int
        The number of batches in the window so far.
    weight : float
        Their weight.
    loss : float or scalar of the backend
        Their mean loss.
    """

    def __init__(self, parts: int) -> None:
        self.parts = parts
        self.clear()

    def clear(self) -> None:
        """Start a new window."""
        self.batches = 0
        self.empty = True
        self.weight: Any = 0.0
        self.loss: Any = 0.0
        self._sum: Array | None = None

    def add(self, g: Array, loss: Any, weight: Any) -> None:
        """Add a part: its mean gradient, its mean loss, and its weight."""
        share = self._count(loss, weight)
        if self._sum is None:
            self._sum = g - 0
        else:
            self._sum = moved_mean(self._sum, g, share).astype(g.dtype)

    def _count(self, loss: Any, weight: Any) -> Any:
        """Add the loss and the weight of a part, and return its share W_p / Σ W so far."""
        self.empty = False
        self.weight = self.weight + weight
        share = weight / self.weight
        self.loss = moved_mean(self.loss, loss, share)
        return share

    def write(self, g: Array) -> Any:
        """Write the window's mean gradient into g (0 before any part), and return its mean loss."""
        g[...] = 0 if self._sum is None else self._sum
        return self.loss

    # Parts that a compiled function adds, by the same formula --------------------------------

    def shares(self, weights: Array) -> Array:
        """Return the share W_p / Σ W of each of the next parts in its window so far.

        >>> Accumulation(2).shares(np.array([1.0, 3.0, 2.0]))
        array([1.  , 0.75, 1.  ])
        """
        if self.parts == 1:
            return np.ones(len(weights))
        held = self.batches
        grid = np.zeros(-(-(held + len(weights)) // self.parts) * self.parts)
        grid[held - 1] = self.weight  # 0 for an empty window
        grid[held : held + len(weights)] = weights
        sums = np.cumsum(grid.reshape(-1, self.parts), axis=1).reshape(-1)
        own = slice(held, held + len(weights))
        return grid[own] / sums[own]

    def advance(self, losses: Array, weights: Array, mean: Array) -> Any:
        """Count parts that were added to `mean`, including all updates that were due.

        Return the mean loss of the last full window, or None if there is none.
        """
        if self.parts == 1:
            return losses[-1] if len(losses) else None
        full = None
        # Parts before the last two windows have no effect.
        first = len(losses) - (self.batches + len(losses)) % self.parts - self.parts
        if first > 0:
            self.clear()
        for k in range(max(first, 0), len(losses)):
            self._count(losses[k], float(weights[k]))
            self.batches += 1
            if self.batches == self.parts:
                full = self.loss
                self.clear()
        if self.batches:
            self._sum = mean.copy()
        return full

    def copy(self) -> "Accumulation":
        """Return a copy of the window, to return to later. Its arrays are never overwritten."""
        return copy.copy(self)

    def state_dict(self, backend: Backend) -> dict[str, Any]:
        """Return the window so far, on the host."""
        return {
            "held": self.batches,
            "weight": float(self.weight),
            "loss": float(self.loss),
            "sum": None if self.empty else backend.to_numpy(self._sum).copy(),
        }

    def load_state_dict(self, values: Mapping[str, Any], like: Array, backend: Backend) -> None:
        """Restore a window from `state_dict`, for gradients like this one."""
        part = values["sum"]
        if part is not None and part.shape != like.shape:
            raise CheckpointError(
                f"the gradient held in the file has shape {part.shape}, not {like.shape}"
            )
        self.batches = check_integer("held", values["held"], 0)
        self.weight, self.loss = check_number("weight", values["weight"]), float(values["loss"])
        self.empty = part is None
        self._sum = None if part is None else backend.asarray(part, dtype=like.dtype)
