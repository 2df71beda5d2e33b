"""RMSprop and Adagrad: a step for each parameter, relative to the size of its gradients."""

from collections.abc import Callable
from typing import Any

from minigd import formulas
from minigd.errors import check_epsilon, check_number
from minigd.optim.schedules import Schedule
from minigd.optim.updaters.base import Updater, positive_epsilon


class RMSprop(Updater):
    """A step for each parameter, relative to the running size of its gradients.

    With the mean gradient g::

        v ← ρ v + (1 − ρ) g²
        p ← p − η g / (√v + ε)

    v starts at 0.

    Parameters
    ----------
    learning_rate : float or Schedule, default 0.001
        η, at least 0.
    rho : float, default 0.9
        The decay rate of v, in [0, 1): the weight of its old value at each update.
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
    >>> model.flat_grads[...] = [2.0, 0.0]
    >>> gd.RMSprop(learning_rate=0.1, rho=0.75).update(model); model.flat_params.round(6)
    array([0.8, 0. ])

    Source: Tieleman and Hinton (2012), "Neural networks for machine learning", lecture 6e.
    """

    @property
    def state_names(self) -> tuple[str, ...]:
        """The running mean of the squared gradient."""
        return ("v",)

    def __init__(
        self, learning_rate: float | Schedule = 0.001, rho: float = 0.9, epsilon: float = 1e-8
    ) -> None:
        super().__init__(learning_rate)
        self.rho = check_number("rho", rho, 0.0, 1.0)
        self.epsilon = positive_epsilon(epsilon)

    def check_dtype(self, dtype: Any) -> None:
        """Refuse an epsilon that is 0 in the model's dtype, where 0 / 0 would follow."""
        check_epsilon(self.epsilon, dtype)

    def formula(self, learning_rate: float) -> tuple[Callable[..., Any], dict[str, float]]:
        """Return the formula and its constants."""
        return formulas.rmsprop, {
            "learning_rate": learning_rate,
            "rho": self.rho,
            "epsilon": self.epsilon,
        }


class Adagrad(Updater):
    """A step for each parameter that shrinks with all its gradients so far.

    With the mean gradient g::

        v ← v + g²
        p ← p − η g / (√v + ε)

    v starts at 0.

    Parameters
    ----------
    learning_rate : float or Schedule, default 0.01
        η, at least 0.
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
    >>> model.flat_grads[...] = [3.0, 0.0]
    >>> updater = gd.Adagrad(learning_rate=0.1)
    >>> updater.update(model); model.flat_params.round(6)
    array([0.9, 0. ])
    >>> model.flat_grads[...] = [4.0, 0.0]
    >>> updater.update(model); model.flat_params.round(6)
    array([0.82, 0.  ])

    Source: Duchi, Hazan and Singer (2011), "Adaptive subgradient methods for online learning and
    stochastic optimization", JMLR 12, figure 1, with only the diagonal of G.
    """

    @property
    def state_names(self) -> tuple[str, ...]:
        """The sum of the squared gradients."""
        return ("v",)

    def __init__(self, learning_rate: float | Schedule = 0.01, epsilon: float = 1e-8) -> None:
        super().__init__(learning_rate)
        self.epsilon = positive_epsilon(epsilon)

    def check_dtype(self, dtype: Any) -> None:
        """Refuse an epsilon that is 0 in the model's dtype, where 0 / 0 would follow."""
        check_epsilon(self.epsilon, dtype)

    def formula(self, learning_rate: float) -> tuple[Callable[..., Any], dict[str, float]]:
        """Return the formula and its constants."""
        return formulas.adagrad, {"learning_rate": learning_rate, "epsilon": self.epsilon}
