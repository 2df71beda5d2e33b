"""The losses by their common names."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from minigd.errors import find_by_name, unknown_name
from minigd.nn.losses.base import Loss
from minigd.nn.losses.cross_entropy import BinaryCrossEntropy, CategoricalCrossEntropy
from minigd.nn.losses.focal import Focal
from minigd.nn.losses.function import FunctionLoss
from minigd.nn.losses.hinge import Hinge
from minigd.nn.losses.regression import (
    Huber,
    MeanAbsoluteError,
    MeanSquaredError,
    Poisson,
    Quantile,
)

LossLike: TypeAlias = str | Loss | Callable[[Any, Any], Any]
"""How to give a loss: as a name, an object, or a function that returns one number per row."""

LOSSES: dict[str, type[Loss]] = {
    "mse": MeanSquaredError,
    "mean_squared_error": MeanSquaredError,
    "mae": MeanAbsoluteError,
    "mean_absolute_error": MeanAbsoluteError,
    "huber": Huber,
    "quantile": Quantile,
    "poisson": Poisson,
    "binary_crossentropy": BinaryCrossEntropy,
    "categorical_crossentropy": CategoricalCrossEntropy,
    "focal": Focal,
    "hinge": Hinge,
}


def get_loss(which: LossLike) -> Loss:
    """Return the loss of a name or of a plain function, or the loss itself.

    Raises
    ------
    ValueError
        If the name is not known; the message lists the ones that are.

    Examples
    --------
    >>> get_loss("mse")
    MeanSquaredError()
    """
    find = of_function if callable(which) else find_by_name
    return which if isinstance(which, Loss) else find("loss", which, LOSSES)()


def of_function(what: str, given: Any, known: Mapping[str, type[Loss]]) -> Callable[[], Loss]:
    """Return the class that makes a loss from a plain function. A class is refused."""
    if isinstance(given, type):
        raise unknown_name(what, given, known)
    return functools.partial(FunctionLoss, given)
