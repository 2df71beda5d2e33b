"""Documentation of the arguments and attributes that both estimators share, and their checks.

scikit-learn reads signatures, so the arguments themselves are listed in both constructors.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
from sklearn.utils import check_random_state

from minigd.backends.base import get_backend
from minigd.errors import (
    check_dtype,
    check_flag,
    check_integer,
    check_list,
    check_number,
    check_share,
    find_by_name,
    shown,
)
from minigd.nn.layers import (
    ELU,
    GELU,
    Layer,
    LeakyReLU,
    ReLU,
    Rescale,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Standardize,
    Tanh,
)
from minigd.nn.losses import get_loss
from minigd.optim.gradient_transforms import Clipping
from minigd.optim.schedules import schedule_of
from minigd.optim.updaters import get_updater
from minigd.training.events import name_callbacks

ACTIVATIONS: dict[str, type[Layer]] = {
    "relu": ReLU,
    "leaky_relu": LeakyReLU,
    "elu": ELU,
    "gelu": GELU,
    "silu": SiLU,
    "softplus": Softplus,
    "tanh": Tanh,
    "sigmoid": Sigmoid,
}

Estimator = TypeVar("Estimator", bound=type)

SHARED = {
    "network": """
        hidden : int or sequence of int, default ()
            Units of each hidden layer.
        activation : str or Layer, default "relu"
            Applied after each hidden layer: ``"relu"``, ``"leaky_relu"``, ``"elu"``, ``"gelu"``,
            ``"silu"``, ``"softplus"``, ``"tanh"``, ``"sigmoid"``, or a layer, which is copied for
            each hidden layer.
        batch_norm : bool, default False
            Put a `BatchNorm` before each activation.
        dropout : float, default 0.0
            The share of each hidden layer's outputs that an update drops, in [0, 1).
        layers : list of Layer, or function from int to such a list, optional
            The hidden layers themselves, instead of `hidden`, `activation`, `batch_norm` and
            `dropout`; each fit works with copies. A function gets the width of a row. The output
            layers are added: a Dense, and the activation that fits y. A first `Standardize` is
            adapted.
        """,
    "training": """
        updater : str or Updater, default "adam"
            A name, or an updater with its settings: ``gd.SGD(0.1, momentum=0.9)``.
        learning_rate : float, Schedule or function, optional
            The learning rate of an updater given by its name. By default 0.01 without hidden
            layers, and the updater's own default with them.
        l1 : float, default 0.0
            A penalty ``λ₁ Σ |W|`` on the weights, in the gradient.
        l2 : float, default 0.0
            A penalty ``½ λ₂ Σ W²`` on the weights, in the gradient.
        clip_norm : float, optional
            A limit on the norm of the gradient, including penalties.
        batch_size : int or None, default 100
            Rows per update; None for all of them.
        epochs : int, default 200
            Passes over the rows in `fit`.
        early_stopping : bool, default False
            Stop when the loss on held-out rows, or on ``fit(validation_data=...)``, stops
            improving, and keep the best parameters.
        validation_fraction : float, default 0.1
            The share of held-out rows: drawn at random from arrays, by class for a classifier; by
            content from a source.
        patience : int, default 10
            Epochs to wait for a better loss.
        tol : float, default 1e-4
            The smallest improvement of the loss that counts.
        callbacks : list of callable, optional
            Each is called with every event of the training; see `minigd.Trainer.fit`.
        """,
    "work": """
        warm_start : bool, default False
            Whether `fit` continues the previous fit: two fits of 10 epochs equal one of 20. Layers
            stay; an updater or a learning rate that has changed starts from its initial state.
        backend : {"numpy", "cupy"} or Backend, default "numpy"
            Where to compute. Arrays in `fit` are on the host, and so are predictions.
        dtype : {"float32", "float64"}, optional
            The dtype of the computation; by default float32 if X is float32, and float64 otherwise.
        random_state : int, RandomState or None, default None
            The seed of the initial weights of hidden layers, the order of rows, and the held-out
            rows.
        verbose : bool, default False
            Show progress on stderr.
        """,
    "history": """
        history_ : History
            Loss, seconds and updates of each epoch; with validation rows also
            ``history_["val_loss"]``.
        """,
    "counts": """
        n_iter_ : int
            The number of epochs.
        n_features_in_ : int
        feature_names_in_ : array of str
            Only if X had names.
        """,
}


def with_shared_docs(estimator: Estimator) -> Estimator:
    """Insert the shared texts into a docstring, each at its name, ``{training}``."""
    if estimator.__doc__:  # python -OO removes it
        text = inspect.cleandoc(estimator.__doc__)
        for name, shared in SHARED.items():
            text = text.replace(f"{{{name}}}\n", f"{inspect.cleandoc(shared)}\n")
        estimator.__doc__ = text
    return estimator


def set_arguments(estimator: Any, arguments: dict[str, Any]) -> None:
    """Store the arguments of a constructor unchanged, as scikit-learn requires."""
    for name, value in arguments.items():
        if name != "self":
            setattr(estimator, name, value)


class InvalidParameter(ValueError, TypeError):
    """A parameter of an estimator is invalid; like scikit-learn's error, it is of both kinds."""


def check_parameters(estimator: Any, usual_loss: str) -> None:
    """Refuse invalid parameters, used or not, before anything is fitted."""
    for name, value in estimator.get_params(deep=False).items():
        try:
            if name != "loss" or not _is_text(value, usual_loss):
                CHECKS[name](value)
        except (TypeError, ValueError) as error:
            raise InvalidParameter(str(error)) from None
    if estimator.layers is not None:
        _check_nothing_beside_layers(estimator)


def _check_nothing_beside_layers(estimator: Any) -> None:
    """Refuse settings of hidden layers if the layers themselves were given."""
    beside = {"hidden": (), "activation": "relu", "batch_norm": False, "dropout": 0.0}
    for name, default in beside.items():
        value = getattr(estimator, name)
        if not (_is_text(value, default) if isinstance(default, str) else _is_empty(value)):
            raise InvalidParameter(
                f"layers gives the hidden layers themselves, but {name}={shown(value)} is for "
                "those that `hidden` makes: leave out one of the two"
            )


def _is_empty(value: Any) -> bool:
    return not value if np.ndim(value) == 0 else len(value) == 0


def no_inner_parameter(name: str, owner: str, value: Any) -> InvalidParameter:
    """Return the error for a nested parameter of something that has no parameters."""
    if owner == "updater" and isinstance(value, str):
        kind = type(get_updater(value)).__name__
        return InvalidParameter(
            f"{name} is a setting of an updater object, but updater is the name {value!r}: give "
            f"updater=gd.{kind}(), or set learning_rate, which goes with a name"
        )
    return InvalidParameter(
        f"{name} can't be set, because {owner} is {shown(value)}: set {owner} as a whole"
    )


def units_of(hidden: Any) -> list[int]:
    """Return the units of each hidden layer."""
    one = hasattr(hidden, "__index__")
    each = [hidden] if one else check_list("hidden", hidden, "number of units")
    return [check_integer("hidden", units) for units in each]


def makes_layers(layers: Any) -> bool:
    """Tell whether `layers` is a function from the width of a row to a list of layers."""
    return callable(layers) and not isinstance(layers, type | Layer)


def check_hidden(layers: Any) -> list[Layer]:
    """Return the layers of a list, and refuse what can't be a hidden layer."""
    chosen = check_list("layers", layers, "layer")
    for i, layer in enumerate(chosen):
        if not isinstance(layer, Layer):
            hint = ": write it with parentheses" if isinstance(layer, type) else ""
            raise TypeError(
                f"layers: layer {i} is {shown(layer)}, which is not a minigd.Layer{hint}"
            )
        if isinstance(layer, Softmax | Rescale):
            raise ValueError(
                f"layers: layer {i} is {layer!r}, but layers are the hidden ones: leave out this "
                "layer and the Dense before it; the outputs follow from y"
            )
        if isinstance(layer, Standardize) and i:
            raise ValueError(
                f"layers: layer {i} is {layer!r}, which adapts to the data itself: put it first"
            )
    return chosen


def _check_class_weight(value: Any) -> None:
    several = isinstance(value, list | tuple)
    if not (value is None or several or isinstance(value, Mapping) or _is_text(value, "balanced")):
        raise ValueError(
            f"class_weight must be a dict, a list of a dict for each label, 'balanced' or None, "
            f"not {shown(value)}"
        )


def _is_text(value: Any, text: str) -> bool:
    return isinstance(value, str) and value == text


def _check_random_state(value: Any) -> None:
    try:
        check_random_state(value)
    except (TypeError, ValueError):
        raise ValueError(
            f"random_state must be an integer from 0 to 2**32 - 1, a RandomState or None, not "
            f"{shown(value)}"
        ) from None


def _check_verbose(value: Any) -> None:
    if not isinstance(value, bool | np.bool_):
        check_integer("verbose", value, 0, ", or True or False")


def _unless(kind: Any, check: Callable[[Any], object]) -> Callable[[Any], object]:
    return lambda value: None if isinstance(value, kind) else check(value)


_NONE = type(None)

CHECKS: dict[str, Callable[[Any], object]] = {
    "hidden": units_of,
    "activation": _unless(Layer, lambda value: find_by_name("activation", value, ACTIVATIONS)),
    "batch_norm": lambda value: check_flag("batch_norm", value),
    "dropout": lambda value: check_number("dropout", value, 0.0, 1.0),
    "layers": lambda value: None if makes_layers(value) else check_hidden(value),
    "loss": get_loss,
    "updater": get_updater,
    "learning_rate": _unless(
        _NONE, lambda v: schedule_of(v) if callable(v) else check_number("learning_rate", v)
    ),
    "l1": lambda value: check_number("l1", value),
    "l2": lambda value: check_number("l2", value),
    "clip_norm": lambda value: Clipping(norm=value),
    "batch_size": _unless(_NONE, lambda value: check_integer("batch_size", value)),
    "epochs": lambda value: check_integer("epochs", value),
    "early_stopping": lambda value: check_flag("early_stopping", value),
    "validation_fraction": lambda value: check_share("validation_fraction", value),
    "patience": lambda value: check_integer("patience", value),
    "tol": lambda value: check_number("tol", value),
    "callbacks": name_callbacks,
    "class_weight": _check_class_weight,
    "warm_start": lambda value: check_flag("warm_start", value),
    "backend": get_backend,
    "dtype": _unless(_NONE, check_dtype),
    "random_state": _check_random_state,
    "verbose": _check_verbose,
}
"""For each parameter by name, the check of its value."""
