"""Checks that a loss fits the outputs of an estimator, with messages about the estimator."""

from typing import Any

import numpy as np

from minigd.errors import ShapeError
from minigd.nn.layers import Layer, Rescale, Softmax
from minigd.nn.losses import Hinge, Loss, Poisson, Quantile


def check_loss(estimator: Any, loss: Loss, units: int, last: Layer) -> None:
    """Refuse a loss that does not work with these outputs for any data."""
    numbers = isinstance(last, Rescale)
    scores = loss.from_logits or (numbers and loss.takes_probabilities)
    one = units == 1 or isinstance(last, Softmax)
    if scores or not _takes(loss, (1,) if one else (1, units), units, numbers):
        name = type(estimator).__name__
        by_hand = f"inputs={estimator.n_features_in_}).fit(X, y, loss=...)"
        if numbers:
            remedy = _of_numbers(loss, units, by_hand)
        else:
            remedy = _of_classes(loss, units, by_hand, one)
        error = ValueError if scores else ShapeError
        raise error(f"{loss!r} does not go with {name}, {remedy}")


def _takes(loss: Loss, shape: tuple[int, ...], units: int, numbers: bool) -> bool:
    """Tell whether the loss accepts targets of this shape for a row."""
    try:
        loss.check_shape(np.zeros(shape, "float64" if numbers else "int64"), (1, units))
    except ShapeError:
        return False
    return True


def _of_numbers(loss: Loss, units: int, by_hand: str) -> str:
    if isinstance(loss, Quantile) and isinstance(loss.quantiles, tuple):
        q = loss.quantiles
        return (
            "which has one output for each column of y: fit one for each quantile, "
            f"loss=gd.Quantile({q[0]}), or gd.Sequential([gd.Dense({len(q)})], {by_hand}"
        )
    if isinstance(loss, Poisson):
        return (
            "which standardizes y, but counts must stay as they are: use "
            f"gd.Sequential([gd.Dense({units})], {by_hand}, where np.exp(predict(X)) are the rates"
        )
    return (
        "which predicts numbers, but the loss is for classes: use loss='squared_error', 'mae', "
        "'huber' or 'quantile', or MiniBatchClassifier"
    )


def _of_classes(loss: Loss, units: int, by_hand: str, one: bool) -> str:
    if loss.from_logits and "from_logits" in loss.config():
        return "whose outputs are probabilities: leave from_logits=True out"
    by_hand = f"gd.Sequential([gd.Dense({units})], {by_hand} with the classes numbered from 0"
    if loss.from_logits:
        other = f", or {by_hand}" if isinstance(loss, Hinge) and one else ""
        return f"whose outputs are probabilities: use loss='log_loss'{other}"
    if units == 1 or not one:
        return "which has one output for each yes or no: use loss='log_loss'"
    return (
        "which has one output for each class: use loss='log_loss', or sklearn.multiclass."
        "OneVsRestClassifier(MiniBatchClassifier(loss=...)), which fits one for each"
    )
