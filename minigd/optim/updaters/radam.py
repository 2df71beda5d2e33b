"""RAdam: Adam with small steps until it knows the size of the gradients."""

import math
from collections.abc import Callable
from typing import Any

from minigd import formulas
from minigd.optim.schedules import Schedule
from minigd.optim.updaters.adam import Adam, corrections
from minigd.optim.updaters.base import Updater


class RAdam(Adam):
    """RAdam: Adam with smaller steps while the size of the gradients is uncertain.

    At update t, with the mean gradient g, and m and v as in `Adam`::

        m̂ = m / (1 − β₁ᵗ)          ρ∞ = 2 / (1 − β₂) − 1          ρ = ρ∞ − 2 t β₂ᵗ / (1 − β₂ᵗ)
        ρ > 5:      p ← p − η r m̂ √(1 − β₂ᵗ) / (√v + ε)
                    r² = (ρ − 4) (ρ − 2) ρ∞ / ((ρ∞ − 4) (ρ∞ − 2) ρ)
        ρ ≤ 5:      p ← p − η m̂

    At first, v is a mean of few squares, and 1 / √v varies much. r compensates for that and rises
    to 1, like a warm-up. The paper adapts from ρ > 4 on, and has no ε. Both are here as in the
    authors' code and in PyTorch.

    Parameters
    ----------
    learning_rate : float or Schedule, default 0.001
        η, at least 0.
    beta1, beta2 : float, defaults 0.9 and 0.999
        How much of m and v stays at each update, in [0, 1).
    epsilon : float, default 1e-8
        ε, above 0.

    Raises
    ------
    ValueError
        If a value is out of range.

    Examples
    --------
    >>> import numpy as np, minigd as gd
    >>> model = gd.Sequential([gd.Dense(1)], inputs=1, dtype="float64")
    >>> model.flat_params[...] = [1.0, 0.0]
    >>> model.flat_grads[...] = [2.0, -0.5]
    >>> updater = gd.RAdam(learning_rate=0.1)
    >>> updater.update(model); model.flat_params.round(6)
    array([0.8 , 0.05])
    >>> for _ in range(5):
    ...     updater.update(model)
    >>> model.flat_params.round(6)
    array([-0.002582,  0.252582])

    Source: Liu et al. (2020), "On the variance of the adaptive learning rate and beyond",
    Algorithm 2.
    """

    varying = ("rate", "adaptive", "epsilon")

    def __init__(
        self,
        learning_rate: float | Schedule = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
    ) -> None:
        super().__init__(learning_rate, beta1, beta2, epsilon)

    # Step by step: the arrays for several steps are only for Adam.
    varying_constants = Updater.varying_constants

    def formula(self, learning_rate: float) -> tuple[Callable[..., Any], dict[str, float]]:
        """Return the formula and its constants, the corrections of this step folded in."""
        (correction1,) = corrections(self.beta1, [self.step])
        (correction2,) = corrections(self.beta2, [self.step])
        longest, length = self.lengths()
        rate, adaptive, epsilon = learning_rate / correction1, 0.0, 1.0
        if length > 5:
            share = (length - 4) * (length - 2) * longest
            share /= (longest - 4) * (longest - 2) * length
            rate, adaptive, epsilon = rate * math.sqrt(share * correction2), 1.0, self.epsilon
        betas = {"beta1": self.beta1, "beta2": self.beta2}
        return formulas.radam, {**betas, "rate": rate, "adaptive": adaptive, "epsilon": epsilon}

    def lengths(self) -> tuple[float, float]:
        """Return ρ∞ and ρ: the number of squares averaged in v, in the limit and at this update."""
        (correction,) = corrections(self.beta2, [self.step])
        longest = 2 / (1 - self.beta2) - 1
        return longest, longest - 2 * self.step * (1 - correction) / correction
