"""Changes of the mean gradient between `backward` and the update.

A penalty on the parameters is added, and the gradient is clipped.
"""

from typing import Any

import numpy as np

from minigd import formulas
from minigd.errors import check_number
from minigd.optim.updaters import Parameters
from minigd.types import Array


class Penalty:
    """A penalty on the size of weights, λ₁ Σ_j |W_j| + ½ λ₂ Σ_j W_j², added to the loss.

    Its gradient λ₁ sign(W_j) + λ₂ W_j is added once to the mean gradient of each update, for any
    batch size. sign(0) is 0. The loss in a history does not include the penalty, so it can be
    compared with a validation loss.

    Parameters
    ----------
    l1, l2 : float, default 0.0
        λ₁ and λ₂, at least 0.
    decay_bias : bool, default False
        Penalize not only weights, but also biases, scales and shifts.

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
    """A limit on the gradient: on each entry, then on the norm of the whole.

    ::

        by value:  g_j ← max(−c, min(g_j, c))
        by norm:   g ← g min(1, c / ‖g‖),        ‖g‖² = Σ_j g_j² over all parameters

    Parameters
    ----------
    value, norm : float, optional
        c, above 0. By default there is no limit.

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
        """Limit g in place. Numbers that are not finite stay unchanged, for the guard to find."""
        if self.value is not None:
            limited = np.minimum(np.maximum(g, -self.value), self.value)
            g[...] = np.where(np.isfinite(g), limited, g)
        if self.norm is not None and len(g):
            self._shorten(g, self.norm)

    def _shorten(self, g: Array, norm: float) -> None:
        """Limit the norm of g."""
        # Divided by the largest entry first, so that no square overflows.
        largest = abs(g).max()
        unit = g / np.where(largest > 0, largest, 1)
        root = np.sqrt((unit * unit).sum())
        # The norm itself may overflow. An infinite norm is also too long.
        too_long = np.isfinite(root) & (largest * root > norm)
        shorter = unit * (norm / np.where(root > 0, root, 1))
        g[...] = np.where(too_long, shorter.astype(g.dtype), g)


def _limit(name: str, value: float | None) -> float | None:
    limit = None if value is None else check_number(name, value)
    if limit == 0:
        raise ValueError(f"{name} must be above 0, or None for no limit: 0 would block all changes")
    return limit
