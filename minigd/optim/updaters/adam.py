"""Adam, and Adam with decoupled weight decay."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from minigd import formulas
from minigd.errors import check_epsilon, check_number, validated
from minigd.optim.schedules import Schedule
from minigd.optim.updaters.base import Parameters, Updater, positive_epsilon
from minigd.types import Array


class Adam(Updater):
    """Adam: a step for each parameter, relative to the size of its own gradients.

    At update t, with the mean gradient g::

        m ← β₁ m + (1 − β₁) g               m̂ = m / (1 − β₁ᵗ)
        v ← β₂ v + (1 − β₂) g²              v̂ = v / (1 − β₂ᵗ)
        p ← p − η m̂ / (√v̂ + ε)

    m and v start at 0. The corrections are combined in two numbers, α = η √(1 − β₂ᵗ) / (1 − β₁ᵗ)
    and ε √(1 − β₂ᵗ), with which p ← p − α m / (√v + ε √(1 − β₂ᵗ)) is exactly the same. So ε is
    added after the correction, as in the paper's Algorithm 1, and not before it.

    With `amsgrad`, the largest v so far replaces v. So a step for the same gradient does not grow
    when v falls. The maximum is taken before the correction, as in PyTorch and Keras. The paper has
    no correction::

        v_max ← max(v_max, v)               v̂ = v_max / (1 − β₂ᵗ)

    Parameters
    ----------
    learning_rate : float or Schedule, default 0.001
        η, at least 0.
    beta1, beta2 : float, defaults 0.9 and 0.999
        How much of m and v stays at each update, in [0, 1).
    epsilon : float, default 1e-8
        ε, above 0.
    amsgrad : bool, default False
        Divide by the largest v so far.

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
    >>> gd.Adam(learning_rate=0.1).update(model); model.flat_params.round(6)
    array([0.9     , 0.099999])

    Source: Kingma and Ba (2015), "Adam: a method for stochastic optimization", Algorithm 1; Reddi,
    Kale and Kumar (2018), "On the convergence of Adam and beyond", Algorithm 2, for `amsgrad`.
    """

    varying: tuple[str, ...] = ("rate", "epsilon")

    @property
    def state_names(self) -> tuple[str, ...]:
        """The running means of the gradient and of its square, and the largest of the latter."""
        return ("m", "v", "v_max") if self.amsgrad else ("m", "v")

    @validated
    def __init__(
        self,
        learning_rate: float | Schedule = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        amsgrad: bool = False,
    ) -> None:
        super().__init__(learning_rate)
        self.beta1 = check_number("beta1", beta1, 0.0, 1.0)
        self.beta2 = check_number("beta2", beta2, 0.0, 1.0)
        self.epsilon = positive_epsilon(epsilon)
        self.amsgrad = bool(amsgrad)

    def check_dtype(self, dtype: Any) -> None:
        """Refuse an epsilon that is 0 in the model's dtype, because it could give 0 / 0."""
        check_epsilon(self.epsilon, dtype, math.sqrt(1 - self.beta2))

    def formula(self, learning_rate: float) -> tuple[Callable[..., Any], dict[str, float]]:
        """Return the formula and its constants, the corrections of this step folded in."""
        betas = {"beta1": self.beta1, "beta2": self.beta2}
        one, two = (corrections(beta, [self.step])[0] for beta in betas.values())
        formula = formulas.amsgrad if self.amsgrad else formulas.adam
        return formula, betas | self._folded(learning_rate, one, math.sqrt(two))

    def _folded(self, learning_rate: Any, correction1: Any, root2: Any) -> dict[str, Any]:
        """Return the constants including the corrections, for one step or several."""
        return {"rate": learning_rate * root2 / correction1, "epsilon": self.epsilon * root2}

    def varying_constants(self, steps: int) -> tuple[Array, Array]:
        """Return the learning rates of the next updates, and their varying constants."""
        if self.schedule is not None:
            return super().varying_constants(steps)
        rates = np.full(steps, self.learning_rate, "float64")
        numbers = range(self.step + 1, self.step + steps + 1)
        correction1, correction2 = (
            np.array(corrections(beta, numbers)) for beta in (self.beta1, self.beta2)
        )
        constants = self._folded(rates, correction1, np.sqrt(correction2))
        return rates, np.stack([constants[name] for name in self.varying], axis=1)


def corrections(beta: float, steps: Iterable[int]) -> list[float]:
    """Return 1 − βᵗ for each step t. expm1 keeps the digits that a β near 1 would lose.

    >>> [round(correction, 6) for correction in corrections(0.9, [1, 2])]
    [0.1, 0.19]
    """
    if beta == 0:
        return [1.0 for _ in steps]
    log, expm1 = math.log(beta), math.expm1
    return [-expm1(t * log) for t in steps]


class AdamW(Adam):
    """Adam with weight decay that is separate from the gradient.

    With m̂ and v̂ as in `Adam`::

        p ← p − η (m̂ / (√v̂ + ε) + λ p)

    So each weight shrinks by the same share. (A penalty in the loss would be divided by √v̂, like
    the rest of the gradient.) Biases, scales and shifts do not shrink by default.

    Parameters
    ----------
    learning_rate : float or Schedule, default 0.001
        η, at least 0. A schedule acts on both terms.
    beta1, beta2 : float, defaults 0.9 and 0.999
        How much of m and v stays at each update, in [0, 1).
    epsilon : float, default 1e-8
        ε, above 0.
    weight_decay : float, default 0.01
        λ, at least 0.
    decay_bias : bool, default False
        Also decay biases, scales and shifts.

    Raises
    ------
    ValueError
        If a value is out of range.

    Examples
    --------
    >>> import numpy as np, minigd as gd
    >>> model = gd.Sequential([gd.Dense(1)], inputs=1, dtype="float64")
    >>> model.flat_params[...] = [1.0, 1.0]
    >>> model.flat_grads[...] = [2.0, 2.0]
    >>> gd.AdamW(learning_rate=0.1, weight_decay=0.5).update(model); model.flat_params.round(6)
    array([0.85, 0.9 ])

    Source: Loshchilov and Hutter (2019), "Decoupled weight decay regularization", Algorithm 2, with
    λ times the learning rate.
    """

    @validated
    def __init__(
        self,
        learning_rate: float | Schedule = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 0.01,
        decay_bias: bool = False,
    ) -> None:
        super().__init__(learning_rate, beta1, beta2, epsilon)
        self.weight_decay = check_number("weight_decay", weight_decay)
        self.decay_bias = bool(decay_bias)

    varying = ("rate", "epsilon", "decay")

    def fixed(self, model: Parameters) -> list[Array]:
        """Return 1 for each parameter that decays and 0 for each that does not."""
        decayed = model.backend.zeros(model.flat_params.shape, model.flat_params.dtype)
        decayed[: None if self.decay_bias else model.n_weights] = 1
        return [decayed]

    def formula(self, learning_rate: float) -> tuple[Callable[..., Any], dict[str, float]]:
        """Return the formula and its constants, the corrections of this step folded in."""
        return formulas.adamw, super().formula(learning_rate)[1]

    def _folded(self, learning_rate: Any, correction1: Any, root2: Any) -> dict[str, Any]:
        decay = learning_rate * self.weight_decay
        return {**super()._folded(learning_rate, correction1, root2), "decay": decay}
