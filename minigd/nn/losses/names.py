"""The losses by the names that the field has for them."""

from minigd.errors import find_by_name
from minigd.nn.losses.base import Loss
from minigd.nn.losses.cross_entropy import BinaryCrossEntropy, CategoricalCrossEntropy
from minigd.nn.losses.focal import Focal
from minigd.nn.losses.hinge import Hinge
from minigd.nn.losses.regression import (
    Huber,
    MeanAbsoluteError,
    MeanSquaredError,
    Poisson,
    Quantile,
)

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


def get_loss(which: str | Loss) -> Loss:
    """Return the loss of a name, or the loss given.

    Raises
    ------
    ValueError
        If the name is not known; the message lists the ones that are.

    Examples
    --------
    >>> get_loss("mse")
    MeanSquaredError()
    """
    return which if isinstance(which, Loss) else find_by_name("loss", which, LOSSES)()
