"""Nadam: Adam with Nesterov's momentum."""

import math
from collections.abc import Callable
from typing import Any

from minigd import formulas
from minigd.optim.schedules import Schedule
from minigd.optim.updaters.adam import Adam, corrections
from minigd.optim.updaters.base import Updater


class Nadam(Adam):
    """Nadam: Adam that applies the momentum of the next step.

    At update t, with the mean gradient g, and m and v as in `Adam`::

        μₜ = β₁ (1 − ½ · 0.96^(t / 250))          v̂ = v / (1 − β₂ᵗ)
        m̂ = μₜ₊₁ m / (1 − μ₁ ⋯ μₜ₊₁) + (1 − μₜ) g / (1 − μ₁ ⋯ μₜ)
        p ← p − η m̂ / (√v̂ + ε)

    So the current gradient counts once more, with the momentum of the next update. μₜ rises from
    half of β₁ to β₁. As in PyTorch and Keras, m itself is a running mean with β₁. In the paper it
    has μₜ, and v̂ has another factor β₂.

    Parameters
    ----------
    learning_rate : float or Schedule, default 0.002
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
    >>> model.flat_grads[...] = [2.0, -0.001]
    >>> gd.Nadam(learning_rate=0.1).update(model); model.flat_params.round(6)
    array([0.894355, 0.105644])

    Source: Dozat (2016), "Incorporating Nesterov momentum into Adam", ICLR workshop, Algorithm 2.
    """

    varying = ("rate", "ahead", "epsilon")

    def __init__(
        self,
        learning_rate: float | Schedule = 0.002,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
    ) -> None:
        super().__init__(learning_rate, beta1, beta2, epsilon)
        self._products = [1.0]

    # Step by step: the arrays for several steps are only for Adam.
    varying_constants = Updater.varying_constants

    def formula(self, learning_rate: float) -> tuple[Callable[..., Any], dict[str, float]]:
        """Return the formula and its constants, the corrections of this step folded in."""
        t = self.step
        (correction,) = corrections(self.beta2, [t])
        root = math.sqrt(correction)
        return formulas.nadam, {
            "beta1": self.beta1,
            "beta2": self.beta2,
            "rate": learning_rate * root * (1 - self.mu(t)) / (1 - self.product(t)),
            "ahead": learning_rate * root * self.mu(t + 1) / (1 - self.product(t + 1)),
            "epsilon": self.epsilon * root,
        }

    def mu(self, t: int) -> float:
        """Return μₜ, the momentum of update t."""
        return self.beta1 * (1 - 0.5 * math.pow(0.96, t / 250))

    def product(self, t: int) -> float:
        """Return μ₁ ⋯ μₜ, or any smaller number if it is below 1e-17."""
        products = self._products
        while len(products) <= t and products[-1] > 1e-17:
            products.append(products[-1] * self.mu(len(products)))
        return products[min(t, len(products) - 1)]
