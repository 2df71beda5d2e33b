"""Updaters: from the mean gradient of a batch to new parameters.

Each walks the model's flat vector once, whatever the depth, with its formula from
`minigd.formulas`; its state is named vectors of the same length.
"""

import math
import weakref
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from minigd import formulas
from minigd.backends.base import Backend
from minigd.errors import CheckpointError, check_number, find_by_name
from minigd.optim.schedules import Schedule
from minigd.storage.describe import arguments
from minigd.types import Array


class Parameters(Protocol):
    """What an updater needs of a model."""

    backend: Backend

    @property
    def flat_params(self) -> Array:
        """All parameters."""
        ...

    @property
    def flat_grads(self) -> Array:
        """Their gradients."""
        ...

    @property
    def n_weights(self) -> int:
        """How many of them are weights, which lie first."""
        ...


class Updater:
    """A rule from gradients to new parameters; a subclass names its formula and its state.

    Attributes
    ----------
    step : int
        How many updates were made.
    epoch : int
        How many epochs were completed, for a schedule that counts in epochs; a `Trainer` sets it.
    schedule : Schedule or None
        What decides the learning rate, where it changes by a rule.
    scale : float
        Multiplies the learning rate, whatever decides it; `ReduceOnPlateau` lowers it.
    executor : Backend or None
        What runs the formula, where it is not the model's backend.
    state : dict of str to Array
        Vectors as long as the parameters, made at the first update.
    """

    @property
    def state_names(self) -> tuple[str, ...]:
        """Names of the vectors that the formula takes and returns behind the parameters."""
        return ()

    def __init__(self, learning_rate: float | Schedule) -> None:
        self.schedule = learning_rate if isinstance(learning_rate, Schedule) else None
        self.reset()
        if self.schedule is None:
            self.learning_rate = learning_rate

    @property
    def learning_rate(self) -> Any:
        """The learning rate of the next update, a float; a number may be set between updates."""
        if self.schedule is None:
            return self.scale * self._learning_rate
        return self.scale * self.schedule(self.step, self.epoch)

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        if self.schedule is not None:
            raise ValueError(
                f"the learning rate follows {self.schedule!r}: change `scale`, which multiplies it"
            )
        self._learning_rate, self.scale = check_number("learning_rate", value), 1.0

    def reset(self) -> None:
        """Forget all state, as if no update had been made."""
        self.step = self.epoch = 0
        self.scale = 1.0
        self.state: dict[str, Array] = {}
        self._fixed: list[Array] = []
        self._model: weakref.ref[Parameters] | None = None
        self._backend: Backend | None = None
        self.owner: object = None
        self.executor: Backend | None = None

    def formula(self, learning_rate: float) -> tuple[Callable[..., Any], dict[str, float]]:
        """Return the formula of update number `step`, counted from 1, and its constants."""
        raise NotImplementedError(f"{type(self).__name__} must define formula(learning_rate)")

    def update(self, model: Parameters, where: Array | None = None) -> Array | None:
        """Make one update of ``model.flat_params`` from ``model.flat_grads``.

        Parameters
        ----------
        model : Sequential
        where : Array of bool, 0-d, optional
            If false, or if the update is not finite, change nothing: a GPU's way to skip an update
            without asking the host. Afterwards it says whether the update was made.

        Returns
        -------
        Array of bool, 0-d, or None
            `where`.

        Raises
        ------
        ValueError
            If this updater holds the state of another model.
        """
        attached = self._model is not None and self._model() is model
        if (
            not attached
            or self._backend is not model.backend
            or len(self.state) < len(self.state_names)
        ):
            self._attach(model)
        learning_rate = self.learning_rate
        self.step += 1
        formula, constants = self.formula(learning_rate)
        vectors = [self.state[name] for name in self.state_names]
        return (self.executor or model.backend).apply(
            formula,
            model.flat_params,
            model.flat_grads,
            *self._fixed,
            *vectors,
            out=(model.flat_params, *vectors) if vectors else model.flat_params,
            where=where,
            **{name: float(value) for name, value in constants.items()},
        )

    def _attach(self, model: Parameters) -> None:
        if self._model is not None and self._model() is not model:
            raise ValueError(
                f"this {type(self).__name__} holds the state of another model: make a new one, or "
                "call reset() to start afresh"
            )
        backend, p = model.backend, model.flat_params
        self.check_dtype(p.dtype)
        for name in self.state_names:
            vector = self.state.get(name)
            self.state[name] = (
                backend.zeros(p.shape, p.dtype) if vector is None else backend.asarray(vector)
            )
        self._fixed = self.fixed(model)
        self._model, self._backend = weakref.ref(model), backend

    def fixed(self, model: Parameters) -> list[Array]:
        """Return vectors that the formula takes between gradients and state, and never changes."""
        return []

    def check_dtype(self, dtype: Any) -> None:
        """Refuse constants that vanish in the model's dtype."""

    def __getstate__(self) -> dict[str, Any]:
        # A copy keeps the state and belongs to no model yet.
        return {
            **self.__dict__,
            "state": {name: vector.copy() for name, vector in self.state.items()},
            "_model": None,
            "_backend": None,
            "_fixed": [],
            "owner": None,
            "executor": None,
        }

    def state_dict(self) -> dict[str, Any]:
        """Return all that decides the next update: the learning rate, the counts, the vectors."""
        return {
            "learning_rate": None if self.schedule else self._learning_rate,
            "scale": self.scale,
            "step": self.step,
            "epoch": self.epoch,
            **{name: vector.copy() for name, vector in self.state.items()},
        }

    def load_state_dict(self, values: dict[str, Any], model: Parameters) -> None:
        """Take the state that `state_dict` gave, for `model`.

        Raises
        ------
        CheckpointError
            If the state is not that of this updater on a model of this size.
        """
        shape = model.flat_params.shape
        self.reset()
        vectors = {n: v for n, v in values.items() if n not in _COUNTS}
        if (vectors or values["step"]) and (
            set(vectors) != set(self.state_names)
            or any(vector.shape != shape for vector in vectors.values())
        ):
            raise CheckpointError(
                f"the state of {type(self).__name__} needs {list(self.state_names)} of shape "
                f"{shape}, and the file holds "
                + (", ".join(f"{name} {v.shape}" for name, v in vectors.items()) or "none of them")
            )
        if self.schedule is None:
            self.learning_rate = values["learning_rate"]
        self.scale, self.step, self.epoch = (values[n] for n in ("scale", "step", "epoch"))
        dtype = model.flat_params.dtype
        self.state = {n: model.backend.asarray(v, dtype=dtype).copy() for n, v in vectors.items()}

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        values = arguments(self)
        if "learning_rate" in values:
            values["learning_rate"] = self.schedule or self._learning_rate
        return values

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value in self.config().items())
        return f"{type(self).__name__}({values})"


class SGD(Updater):
    """Stochastic gradient descent, plain, with momentum, or with Nesterov's momentum.

    With the mean gradient g, the learning rate η and the momentum μ::

        plain       p ← p − η g
        momentum    v ← μ v + g,    p ← p − η v
        nesterov    v ← μ v + g,    p ← p − η (g + μ v)

    v starts at 0. For a constant η this is the velocity form −η v of other texts.

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
        self.nesterov = nesterov

    @property
    def state_names(self) -> tuple[str, ...]:
        """The velocity, where there is momentum."""
        return ("v",) if self.momentum > 0 else ()

    def formula(self, learning_rate: float) -> tuple[Callable[..., Any], dict[str, float]]:
        """Return the formula in use and its constants."""
        if self.momentum == 0:
            return formulas.sgd, {"learning_rate": learning_rate}
        formula = formulas.nesterov if self.nesterov else formulas.momentum
        return formula, {"learning_rate": learning_rate, "momentum": self.momentum}


class Adam(Updater):
    """Adam: a step for each parameter in units of its own gradient's size.

    At update t, with the mean gradient g::

        m ← β₁ m + (1 − β₁) g               m̂ = m / (1 − β₁ᵗ)
        v ← β₂ v + (1 − β₂) g²              v̂ = v / (1 − β₂ᵗ)
        p ← p − η m̂ / (√v̂ + ε)

    m and v start at 0. The corrections are folded into two numbers, α = η √(1 − β₂ᵗ) / (1 − β₁ᵗ)
    and ε √(1 − β₂ᵗ), with which p ← p − α m / (√v + ε √(1 − β₂ᵗ)) is the same, exactly: ε is added
    after the correction, as in the paper's Algorithm 1, and not before it.

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
    >>> model.flat_grads[...] = [2.0, -0.001]
    >>> gd.Adam(learning_rate=0.1).update(model); model.flat_params.round(6)
    array([0.9     , 0.099999])

    Source: Kingma and Ba (2015), "Adam: a method for stochastic optimization", Algorithm 1.
    """

    @property
    def state_names(self) -> tuple[str, ...]:
        """The running means of the gradient and of its square."""
        return ("m", "v")

    def __init__(
        self,
        learning_rate: float | Schedule = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
    ) -> None:
        super().__init__(learning_rate)
        self.beta1 = check_number("beta1", beta1, 0.0, 1.0)
        self.beta2 = check_number("beta2", beta2, 0.0, 1.0)
        self.epsilon = _epsilon(epsilon)

    def check_dtype(self, dtype: Any) -> None:
        """Refuse an epsilon that is 0 in the model's dtype, where 0 / 0 would follow."""
        _check_epsilon(self.epsilon, dtype, math.sqrt(1 - self.beta2))

    def formula(self, learning_rate: float) -> tuple[Callable[..., Any], dict[str, float]]:
        """Return the formula and its constants, the corrections of this step folded in."""
        # expm1 keeps the digits of 1 − βᵗ that a β near 1 would lose.
        correction1 = -math.expm1(self.step * math.log(self.beta1)) if self.beta1 else 1.0
        correction2 = -math.expm1(self.step * math.log(self.beta2)) if self.beta2 else 1.0
        return formulas.adam, {
            "rate": learning_rate * math.sqrt(correction2) / correction1,
            "beta1": self.beta1,
            "beta2": self.beta2,
            "epsilon": self.epsilon * math.sqrt(correction2),
        }


class AdamW(Adam):
    """Adam with weight decay beside the gradient and not in it.

    With m̂ and v̂ as in `Adam`::

        p ← p − η (m̂ / (√v̂ + ε) + λ p)

    so that each weight shrinks by the same share, where a penalty in the loss would be divided by
    √v̂ like the rest of the gradient. Biases, scales and shifts do not shrink unless asked.

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
        Let biases, scales and shifts decay too.

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

    def fixed(self, model: Parameters) -> list[Array]:
        """Return 1 for each parameter that decays and 0 for each that does not."""
        decayed = model.backend.zeros(model.flat_params.shape, model.flat_params.dtype)
        decayed[: None if self.decay_bias else model.n_weights] = 1
        return [decayed]

    def formula(self, learning_rate: float) -> tuple[Callable[..., Any], dict[str, float]]:
        """Return the formula and its constants, the corrections of this step folded in."""
        _, constants = super().formula(learning_rate)
        return formulas.adamw, {**constants, "decay": learning_rate * self.weight_decay}


class RMSprop(Updater):
    """A step for each parameter in units of its gradient's running size.

    With the mean gradient g::

        v ← ρ v + (1 − ρ) g²
        p ← p − η g / (√v + ε)

    v starts at 0.

    Parameters
    ----------
    learning_rate : float or Schedule, default 0.001
        η, at least 0.
    rho : float, default 0.9
        How much of v stays at each update, in [0, 1).
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
        self.epsilon = _epsilon(epsilon)

    def check_dtype(self, dtype: Any) -> None:
        """Refuse an epsilon that is 0 in the model's dtype, where 0 / 0 would follow."""
        _check_epsilon(self.epsilon, dtype)

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
    stochastic optimization", JMLR 12, figure 1, with the diagonal of G alone.
    """

    @property
    def state_names(self) -> tuple[str, ...]:
        """The sum of the squared gradients."""
        return ("v",)

    def __init__(self, learning_rate: float | Schedule = 0.01, epsilon: float = 1e-8) -> None:
        super().__init__(learning_rate)
        self.epsilon = _epsilon(epsilon)

    def check_dtype(self, dtype: Any) -> None:
        """Refuse an epsilon that is 0 in the model's dtype, where 0 / 0 would follow."""
        _check_epsilon(self.epsilon, dtype)

    def formula(self, learning_rate: float) -> tuple[Callable[..., Any], dict[str, float]]:
        """Return the formula and its constants."""
        return formulas.adagrad, {"learning_rate": learning_rate, "epsilon": self.epsilon}


UPDATERS: dict[str, type[Updater]] = {
    "sgd": SGD,
    "adam": Adam,
    "adamw": AdamW,
    "rmsprop": RMSprop,
    "adagrad": Adagrad,
}

# What a state holds beside its vectors.
_COUNTS = ("learning_rate", "scale", "step", "epoch")


def get_updater(which: str | Updater) -> Updater:
    """Return the updater of a name, with its paper's defaults, or the updater given.

    Raises
    ------
    ValueError
        If the name is not known; the message lists the ones that are.

    Examples
    --------
    >>> get_updater("adam")
    Adam(learning_rate=0.001, beta1=0.9, beta2=0.999, epsilon=1e-08)
    """
    if isinstance(which, Updater):
        return which
    return find_by_name("updater", which, UPDATERS)()  # type: ignore[call-arg]


def _epsilon(value: float) -> float:
    epsilon = check_number("epsilon", value)
    if epsilon == 0:
        raise ValueError("epsilon must be above 0: it keeps a parameter without gradient still")
    return epsilon


def _check_epsilon(epsilon: float, dtype: Any, factor: float = 1.0) -> None:
    smallest = float(np.finfo(dtype).tiny)
    if epsilon * factor < smallest:
        raise ValueError(
            f"epsilon={epsilon:g} vanishes in {dtype}: use at least {smallest / factor:.2g}"
        )
