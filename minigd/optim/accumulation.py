"""The window of batches that make one update: their gradients are put together as one."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

from minigd.backends.base import Backend
from minigd.errors import CheckpointError, check_integer, check_number
from minigd.types import Array


class Accumulation:
    """The gradient of one large batch from those of its parts, G = Σ_p W_p g_p / Σ_p W_p.

    W_p is the weight of part p, its rows where they have no weights, so that a short part and a
    short window count by what they hold.

    Parameters
    ----------
    parts : int
        How many batches make an update; fewer at the end of an epoch.

    Attributes
    ----------
    batches : int
        How many batches the window has so far.
    weight, loss : float or scalar of the backend
        Their weight, and their loss times it.
    """

    def __init__(self, parts: int) -> None:
        self.parts = parts
        self.clear()

    def clear(self) -> None:
        """Begin a new window."""
        self.batches = 0
        self.empty = True
        self.weight: Any = 0.0
        self.loss: Any = 0.0
        self._sum: Array | None = None

    def keep(self, left: Callable[[Any], Any], before: "Accumulation") -> None:
        """Take what is left of `before`, whose update a GPU may have masked."""
        self.weight, self.loss = left(before.weight), left(before.loss)
        self._sum = None if before._sum is None else left(before._sum)

    def add(self, g: Array, loss: Any, weight: Any) -> None:
        """Add a part: its mean gradient, its mean loss, and its weight.

        G ← G + (g − G) W_p / Σ W, so that only ratios of weights meet the dtype of the gradient.
        """
        self.empty = False
        self.weight = self.weight + weight
        # On a GPU a window can consist of masked parts alone, which weigh nothing.
        share = weight / (self.weight + (self.weight == 0))
        if self._sum is None:
            self._sum = g - 0
        else:
            self._sum = (self._sum + (g - self._sum) * share).astype(g.dtype)
        self.loss = self.loss + (loss - self.loss) * share

    def write(self, g: Array) -> Any:
        """Write the window's mean gradient into g and return its mean loss."""
        assert self._sum is not None
        g[...] = self._sum
        return self.loss

    def copy(self) -> "Accumulation":
        """Return the window as it is now, to go back to; nothing in it is ever written into."""
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
        """Take the window that `state_dict` gave, of gradients like this one."""
        part = values["sum"]
        if part is not None and part.shape != like.shape:
            raise CheckpointError(
                f"the gradient held in the file has shape {part.shape}, not {like.shape}"
            )
        self.batches = check_integer("held", values["held"], 0)
        self.weight, self.loss = check_number("weight", values["weight"]), float(values["loss"])
        if not backend.reads_are_free:
            # A device holds it as an array, by which a float32 is divided otherwise.
            self.weight, self.loss = (
                backend.asarray(a, dtype="float64") for a in (self.weight, self.loss)
            )
        self.empty = part is None
        self._sum = None if part is None else backend.asarray(part, dtype=like.dtype)
