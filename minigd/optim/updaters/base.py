"""Updaters: from the mean gradient of a batch to new parameters.

Each applies its formula from `minigd.formulas` once to the model's flat vector, for any depth. Its
state consists of named vectors of the same length.
"""

import weakref
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import numpy as np

from minigd.backends.base import Backend
from minigd.errors import CheckpointError, check_integer, check_number, find_by_name, shown
from minigd.optim.schedules import Schedule, schedule_of
from minigd.storage.describe import arguments
from minigd.types import Array

# The entries of a state that are not vectors.
_COUNTS = ("learning_rate", "scale", "step", "epoch")


class Parameters(Protocol):
    """The attributes of a model that an updater needs."""

    backend: Backend

    @property
    def flat_params(self) -> Array:
        """All parameters that are trained."""
        ...

    @property
    def flat_grads(self) -> Array:
        """Their gradients."""
        ...

    @property
    def n_weights(self) -> int:
        """The number of weights, which come first."""
        ...


class Updater:
    """A rule from gradients to new parameters. A subclass defines its formula and its state.

    Attributes
    ----------
    step : int
        The number of finished updates.
    epoch : int
        The number of finished epochs, for a schedule that counts epochs. A `Trainer` sets it.
    schedule : Schedule or None
        The rule for the learning rate, if there is one.
    scale : float
        A factor for the learning rate, with or without a schedule. `ReduceOnPlateau` lowers it.
    state : dict of str to Array
        Vectors as long as the parameters, created at the first update.
    """

    @property
    def state_names(self) -> tuple[str, ...]:
        """Names of the vectors that the formula takes and returns after the parameters."""
        return ()

    def __init__(self, learning_rate: float | Schedule) -> None:
        self.schedule = schedule_of(learning_rate) if callable(learning_rate) else None
        self.reset()
        if self.schedule is None:
            self.learning_rate = learning_rate

    @property
    def learning_rate(self) -> Any:
        """The learning rate of the next update, a float. You may set a number between updates."""
        if self.schedule is None:
            return self.scale * self._learning_rate
        return self.scale * float(self.schedule(self.step, self.epoch))

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        if self.schedule is not None:
            raise _follows_schedule(self.schedule)
        self._learning_rate, self.scale = check_number("learning_rate", value), 1.0

    def reset(self) -> None:
        """Drop all state, as if no update had been made."""
        self.step = self.epoch = 0
        self.scale = 1.0
        self.state: dict[str, Array] = {}
        self._fixed: list[Array] = []
        self._model, self._vector, self._names = None, None, ()
        self.owner: object = None

    _model: weakref.ref[Parameters] | None
    _vector: Array | None
    _names: tuple[str, ...]

    varying: tuple[str, ...] = ("learning_rate",)
    """Names of the constants of the formula that vary from update to update."""

    def formula(self, learning_rate: float) -> tuple[Callable[..., Any], dict[str, float]]:
        """Return the formula of update number `step`, counted from 1, and its constants."""
        raise NotImplementedError(f"{type(self).__name__} must define formula(learning_rate)")

    def varying_constants(self, steps: int) -> tuple[Array, Array]:
        """Return the learning rates of the next updates, and their constants that vary.

        Returns
        -------
        Array of float64, shape (steps,)
        Array of float64, shape (steps, constants)
            In the order of `varying`.
        """
        made, rates, constants = self.step, [], []
        if self.schedule is None and self.varying == ("learning_rate",):
            same = np.full(steps, self.learning_rate, "float64")
            return same, same.reshape(-1, 1)
        try:
            for _ in range(steps):
                rates.append(float(self.learning_rate))
                self.step += 1
                _, found = self.formula(rates[-1])
                constants.append([found[name] for name in self.varying])
        finally:
            # A custom schedule may raise an error.
            self.step = made
        return np.array(rates), np.array(constants, "float64").reshape(steps, len(self.varying))

    def update(self, model: Parameters) -> None:
        """Make one update of ``model.flat_params`` from ``model.flat_grads``.

        Parameters
        ----------
        model : Sequential

        Raises
        ------
        ValueError
            If this updater has the state of another model.
        """
        self.attach(model)
        learning_rate = self.learning_rate
        self.step += 1
        formula, constants = self.formula(learning_rate)
        inputs, out = self.arrays(model)
        if self.step % 100 == 0 and model.backend.reads_are_free:
            drop_subnormals(self.state.values())
        model.backend.apply(
            formula,
            *inputs,
            out=out if len(out) > 1 else out[0],
            **{name: float(value) for name, value in constants.items()},
        )

    def arrays(self, model: Parameters) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """Return the inputs of the formula, and the arrays for its results."""
        vectors = [self.state[name] for name in self.state_names]
        inputs = (model.flat_params, model.flat_grads, *self._fixed, *vectors)
        return inputs, (model.flat_params, *vectors)

    def attach(self, model: Parameters) -> None:
        """Create the state for a model, unless it exists."""
        attached = self._vector is getattr(model, "flat_params", self)
        if not attached or len(self.state) < len(self.state_names):
            self._attach(model)

    def _attach(self, model: Parameters) -> None:
        if not hasattr(model, "backend") or (self._model and self._model() is not model):
            raise _not_its_model(self, model)
        backend, p, names = model.backend, model.flat_params, getattr(model, "trained_names", ())
        if self._names not in ((), names):
            raise _other_parameters(self)
        self.check_dtype(p.dtype)
        for name in self.state_names:
            vector = self.state[name] if name in self.state else backend.zeros(p.shape, p.dtype)
            self.state[name] = backend.asarray(vector)
        self._fixed = self.fixed(model)
        self._model, self._vector, self._names = weakref.ref(model), p, names

    def fixed(self, model: Parameters) -> list[Array]:
        """Return constant vectors that the formula takes between gradients and state."""
        return []

    def check_dtype(self, dtype: Any) -> None:
        """Refuse constants that are 0 in the model's dtype."""

    def __getstate__(self) -> dict[str, Any]:
        # A copy keeps the state, but does not belong to a model yet.
        return {
            **self.__dict__,
            "state": {name: vector.copy() for name, vector in self.state.items()},
            "_model": None,
            "_vector": None,
            "_fixed": [],
            "owner": None,
        }

    def state_dict(self) -> dict[str, Any]:
        """Return everything that determines the next update: learning rate, counts and vectors."""
        return {
            "learning_rate": None if self.schedule else self._learning_rate,
            "scale": self.scale,
            "step": self.step,
            "epoch": self.epoch,
            **{name: vector.copy() for name, vector in self.state.items()},
        }

    def load_state_dict(self, values: dict[str, Any], model: Parameters) -> None:
        """Restore a state from `state_dict`, for `model`.

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
        self.step, self.epoch = (check_integer(n, values[n], 0) for n in ("step", "epoch"))
        self.scale = check_number("scale", values["scale"])
        dtype = model.flat_params.dtype
        self.state = {n: model.backend.asarray(v, dtype=dtype).copy() for n, v in vectors.items()}
        self._names = getattr(model, "trained_names", ())

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        values = arguments(self)
        if "learning_rate" in values:
            values["learning_rate"] = self.schedule or self._learning_rate
        return values

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the constructor's arguments. scikit-learn calls this method.

        Parameters
        ----------
        deep : bool, default True
            Include those of an inner updater, as ``updater__learning_rate``.

        Examples
        --------
        >>> import minigd as gd
        >>> gd.SGD(0.1).get_params()
        {'learning_rate': 0.1, 'momentum': 0.0, 'nesterov': False}
        """
        values = self.config()
        for name, value in self.config().items() if deep else ():
            if isinstance(value, Updater):
                values |= {f"{name}__{own}": v for own, v in value.get_params().items()}
        return values

    def __sklearn_clone__(self) -> "Updater":
        # scikit-learn's own method needs a constructor that stores each argument as the same
        # object.
        return type(self)(**self.config())

    def set_params(self, **params: Any) -> "Updater":
        """Change some of the constructor's arguments, and drop all state.

        A grid search over an estimator uses it for ``updater__learning_rate``.

        Parameters
        ----------
        **params
            The arguments to change, by name. ``updater__learning_rate`` is one of an inner updater.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If there is no such argument, or a value is invalid. Then nothing is changed.

        Examples
        --------
        >>> import minigd as gd
        >>> gd.SGD(0.1).set_params(momentum=0.9)
        SGD(learning_rate=0.1, momentum=0.9, nesterov=False)
        """
        what = f"parameter of {type(self).__name__}"
        own = {name: value for name, value in params.items() if "__" not in name}
        for name in own:
            find_by_name(what, name, self.config())
        changed = type(self)(**{**self.config(), **own})
        for name, value in params.items():
            inner, inside, argument = name.partition("__")
            if inside:
                find_by_name(what, name, changed.get_params())
                values = changed.config()
                values[inner].set_params(**{argument: value})
                changed = type(self)(**values)
        vars(self).update(vars(changed))
        return self

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value in self.config().items())
        return f"{type(self).__name__}({values})"


def positive_epsilon(value: float) -> float:
    """Return a number above 0 as a float, and refuse other values."""
    epsilon = check_number("epsilon", value)
    if epsilon == 0:
        raise ValueError("epsilon must be above 0: it prevents 0 / 0 where a gradient is 0")
    return epsilon


def _follows_schedule(schedule: Schedule) -> ValueError:
    return ValueError(
        f"the learning rate follows {schedule!r}: change `scale`, which multiplies it"
    )


def drop_subnormals(vectors: Iterable[Array]) -> None:
    """Replace subnormal numbers by 0.

    A processor takes some hundred times as long for a subnormal number. The running mean of a
    parameter without a gradient becomes subnormal, and rounding keeps it there.

    >>> m = np.array([1e-40, 1.0], "float32")
    >>> drop_subnormals([m])
    >>> m
    array([0., 1.], dtype=float32)
    """
    for vector in vectors:
        vector[abs(vector) < np.finfo(vector.dtype).tiny] = 0


def _other_parameters(updater: Updater) -> ValueError:
    return ValueError(
        f"this {type(updater).__name__} started with other parameters: `trainable` of a layer has "
        "changed since. Make a new trainer and updater, or restart the updater with reset()"
    )


def _not_its_model(updater: Updater, model: Any) -> Exception:
    if not hasattr(model, "backend"):
        return TypeError(f"model must be a minigd.Sequential, not {shown(model)}")
    return ValueError(
        f"this {type(updater).__name__} holds the state of another model: make a new one, "
        "or restart it with reset()"
    )
