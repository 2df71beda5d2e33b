"""What may happen to a mean gradient between `backward` and the update.

Parts of a large batch are put together, a penalty on the parameters is added, the size is limited.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from minigd import formulas
from minigd.backends.base import Backend
from minigd.errors import CheckpointError, check_number
from minigd.optim.updaters import Parameters
from minigd.types import Array


class Penalty:
    """A price on the size of weights, λ₁ Σ_j |W_j| + ½ λ₂ Σ_j W_j², added to what is minimized.

    Its gradient λ₁ sign(W_j) + λ₂ W_j is added to the mean gradient of each update, once, whatever
    the size of the batch; sign(0) is 0. The loss in a history is that of the examples alone, so
    that it can be compared with a validation loss.

    Parameters
    ----------
    l1, l2 : float, default 0.0
        λ₁ and λ₂, at least 0.
    decay_bias : bool, default False
        Penalize biases, scales and shifts too, and not weights alone.

    Raises
    ------
    ValueError
        If a value is below 0.

    Examples
    --------
    >>> import minigd as gd
    >>> model = gd.Sequential([gd.Dense(1)], inputs=2, dtype="float64")
    >>> model.flat_params[...] = [3.0, -1.0, 5.0]
    >>> float(Penalty(l1=0.5, l2=0.25).value(model))
    3.25
    >>> Penalty(l1=0.5, l2=0.25).add_gradient(model); model.flat_grads
    array([ 1.25, -0.75,  0.  ])

    Source: Tibshirani (1996), "Regression shrinkage and selection via the lasso"; Hoerl and Kennard
    (1970), "Ridge regression"; both together Zou and Hastie (2005), equation 3.
    """

    def __init__(self, l1: float = 0.0, l2: float = 0.0, decay_bias: bool = False) -> None:
        self.l1, self.l2 = check_number("l1", l1), check_number("l2", l2)
        self.decay_bias = bool(decay_bias)

    def _penalized(self, model: Parameters) -> slice:
        return slice(0, None if self.decay_bias else model.n_weights)

    def value(self, model: Parameters) -> Any:
        """Return λ₁ Σ |W| + ½ λ₂ Σ W²."""
        W = model.flat_params[self._penalized(model)]
        return self.l1 * np.where(W.real < 0, -W, W).sum() + 0.5 * self.l2 * (W * W).sum()

    def add_gradient(self, model: Parameters) -> None:
        """Add the penalty's gradient to the model's."""
        if self.l1 or self.l2:
            some = self._penalized(model)
            p, g = model.flat_params[some], model.flat_grads[some]
            if len(p):
                model.backend.apply(formulas.penalized, p, g, out=g, l1=self.l1, l2=self.l2)


class Clipping:
    """A limit on the gradient: on each entry, then on the length of the whole.

    ::

        by value:  g_j ← max(−c, min(g_j, c))
        by norm:   g ← g min(1, c / ‖g‖),        ‖g‖² = Σ_j g_j² over all parameters

    Parameters
    ----------
    value, norm : float, optional
        c, above 0; no limit without it.

    Raises
    ------
    ValueError
        If a limit is not above 0.

    Examples
    --------
    >>> import numpy as np
    >>> g = np.array([3.0, -4.0])
    >>> Clipping(norm=1.0).clip(g); g
    array([ 0.6, -0.8])

    Source: Pascanu, Mikolov and Bengio (2013), "On the difficulty of training recurrent neural
    networks", Algorithm 1.
    """

    def __init__(self, value: float | None = None, norm: float | None = None) -> None:
        self.value = _limit("clip_value", value)
        self.norm = _limit("clip_norm", norm)

    def clip(self, g: Array) -> None:
        """Limit g in place; what is not finite stays as it is, for the guard to find."""
        if self.value is not None:
            limited = np.minimum(np.maximum(g, -self.value), self.value)
            g[...] = np.where(np.isfinite(g), limited, g)
        if self.norm is not None and len(g):
            self._shorten(g, self.norm)

    def _shorten(self, g: Array, norm: float) -> None:
        """Limit the length of g."""
        # Divided by the largest entry first, so that no square leaves the range of the dtype.
        largest = abs(g).max()
        unit = g / np.where(largest > 0, largest, 1)
        root = np.sqrt((unit * unit).sum())
        # The length itself may be out of range, and infinite is too long as well.
        too_long = np.isfinite(root) & (largest * root > norm)
        shorter = unit * (norm / np.where(root > 0, root, 1))
        g[...] = np.where(too_long, shorter.astype(g.dtype), g)


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
    held : int
        How many batches of the window have come so far.
    weight, loss : float or scalar of the backend
        Their weight, and their loss times it.
    """

    def __init__(self, parts: int) -> None:
        self.parts = parts
        self.clear()

    def clear(self) -> None:
        """Begin a new window."""
        self.held = 0
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
            "held": self.held,
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
        self.held, self.weight, self.loss = values["held"], values["weight"], values["loss"]
        if not backend.reads_are_free:
            # A device holds it as an array, by which a float32 is divided otherwise.
            self.weight, self.loss = (
                backend.asarray(a, dtype="float64") for a in (self.weight, self.loss)
            )
        self.empty = part is None
        self._sum = None if part is None else backend.asarray(part, dtype=like.dtype)


def _limit(name: str, value: float | None) -> float | None:
    limit = None if value is None else check_number(name, value)
    if limit == 0:
        raise ValueError(f"{name} must be above 0, or None for no limit: at 0 nothing would move")
    return limit
