"""The losses: one number for each example, and its gradient with respect to that example's output.

It may import what `nn` may.
Start with `base.py`, then `regression.py`; `names.py` finds a loss by its name.
"""

from minigd.nn.losses.base import Loss
from minigd.nn.losses.cross_entropy import BinaryCrossEntropy, CategoricalCrossEntropy
from minigd.nn.losses.focal import Focal
from minigd.nn.losses.hinge import Hinge
from minigd.nn.losses.names import LOSSES, get_loss
from minigd.nn.losses.regression import (
    Huber,
    MeanAbsoluteError,
    MeanSquaredError,
    Poisson,
    Quantile,
)

__all__ = [
    "LOSSES",
    "BinaryCrossEntropy",
    "CategoricalCrossEntropy",
    "Focal",
    "Hinge",
    "Huber",
    "Loss",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Poisson",
    "Quantile",
    "get_loss",
]
