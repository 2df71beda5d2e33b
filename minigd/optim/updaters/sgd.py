"""Stochastic gradient descent, plain and with momentum."""

from collections.abc import Callable
from typing import Any

from minigd import formulas
from minigd.errors import check_number, validated
from minigd.optim.schedules import Schedule
from minigd.optim.updaters.base import Updater


class SGD(Updater):
    """Stochastic gradient descent, plain, with momentum, or with Nesterov's momentum.

    With the mean gradient g, the learning rate η and the momentum μ::

        plain       p ← p − η g
        momentum    v ← μ v + g,    p ← p − η v
        nesterov    v ← μ v + g,    p ← p − η (g + μ v)

    v starts at 0. For a constant η this equals the form with the velocity −η v of other texts.

    Parameters
    ----------
    learning_rate : float or Schedule, default 0.01
        η, at least 0.
    momentum : float, default 0.0
        μ, in [0, 1).
    nesterov : bool, default False
        Needs a momentum above 0.

    Raises
    ------
    ValueError
        If a value is out of range.

    Examples
    --------
    >>> import numpy as np, minigd as gd
    >>> model = gd.Sequential([gd.Dense(1)], inputs=1, dtype="float64")
    >>> model.flat_params[...] = [1.0, 0.0]
    >>> model.flat_grads[...] = [2.0, 1.0]
    >>> updater = gd.SGD(learning_rate=0.1, momentum=0.9)
    >>> updater.update(model); model.flat_params
    array([ 0.8, -0.1])
    >>> updater.update(model); model.flat_params
    array([ 0.42, -0.29])

    Source: Polyak (1964); Sutskever et al. (2013), "On the importance of initialization and
    momentum in deep learning", section 2, with the learning rate outside v.
    """

    @validated
    def __init__(
        self,
        learning_rate: float | Schedule = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        super().__init__(learning_rate)
        self.momentum = check_number("momentum", momentum, 0.0, 1.0)
        if nesterov and momentum == 0:
            raise ValueError("nesterov=True needs a momentum above 0, for example momentum=0.9")
        self.nesterov = bool(nesterov)

    @property
    def state_names(self) -> tuple[str, ...]:
        """The velocity, if there is momentum."""
        return ("v",) if self.momentum > 0 else ()

    def formula(self, learning_rate: float) -> tuple[Callable[..., Any], dict[str, float]]:
        """Return the formula in use and its constants."""
        if self.momentum == 0:
            return formulas.sgd, {"learning_rate": learning_rate}
        formula = formulas.nesterov if self.nesterov else formulas.momentum
        return formula, {"learning_rate": learning_rate, "momentum": self.momentum}
