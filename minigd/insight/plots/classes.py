"""What plots of classes share: true and predicted classes, probabilities, and names."""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np

from minigd import formulas
from minigd.backends.base import backend_of, get_backend
from minigd.errors import DataError, ShapeError
from minigd.insight.plots.axes import to_host
from minigd.nn.layers import Sigmoid, Softmax
from minigd.nn.losses import BinaryCrossEntropy, CategoricalCrossEntropy
from minigd.nn.losses.base import check_rows
from minigd.nn.sequential import Sequential
from minigd.types import Array


def probabilities(model: Sequential, X: Any) -> Array:
    """Return a model's probabilities of the classes, on the host, of shape (n, K)."""
    z = model.predict(X)
    z = backend_of(z).to_numpy(z)
    if isinstance(model.layers[-1], Sigmoid | Softmax):
        return z
    # A model trained by hand has no loss, and ends in logits.
    if model.loss is not None and not model.loss.from_logits:
        return z
    return formulas.sigmoid(z) if z.shape[1] == 1 else formulas.softmax(z)


def winners(p: Array, probabilities: bool) -> Array:
    """Return the class for predictions of shape (n, K); the threshold of one output is ½."""
    host = get_backend("numpy")
    p = host.here(p, "the predictions")
    host.check_finite(p, "the predictions")
    if p.shape[1] > 1:
        return p.argmax(axis=1)
    # A model trained on 0 and 1 as numbers may go beyond; given numbers may be anything.
    if probabilities and (p.min() < 0 or p.max() > 1):
        raise DataError(
            "predictions of one output must be probabilities (the threshold is ½), but these range "
            f"from {p.min():g} to {p.max():g}: "
            "pass classes of shape (n,); for logits, pass their sigmoid"
        )
    return (p[:, 0] > 0.5).astype(int)


def numbered_classes(y: Any, shape: tuple[int, ...]) -> Array:
    """Return the class of each row of y for outputs of this shape."""
    if len(shape) != 2:
        raise ShapeError(f"predictions must have shape (n, K) or (n,), not {shape}")
    loss = BinaryCrossEntropy() if shape[1] == 1 else CategoricalCrossEntropy()
    y = to_host(y, "y")
    loss.check(y, shape)
    if shape[1] > 1 and y.shape == shape:
        return y.argmax(axis=1)
    return y.reshape(-1).astype(int) if shape[1] > 1 else (y.reshape(-1) > 0.5).astype(int)


def named_classes(
    y: Any, predictions: Array, classes: Sequence[Any] | None
) -> tuple[Array, Array, Array]:
    """Return true and predicted classes, numbers or text, and all classes."""
    true = np.asarray(backend_of(y).to_numpy(y)).reshape(-1)
    check_rows(true, predictions.shape)
    if (true.dtype.kind in "biuf") != (predictions.dtype.kind in "biuf"):
        raise DataError(
            f"y holds {true.dtype} and the predictions {predictions.dtype}: pass both as numbers, "
            "or both as names"
        )
    labels = np.unique(np.concatenate([true, predictions]))
    # With names for all of them, a class that does not occur is drawn too.
    if classes is not None and labels.dtype.kind in "biuf" and (labels >= 0).all():
        labels = np.arange(max(len(classes), int(labels.max()) + 1))
        return true.astype(int), predictions.astype(int), labels
    return true, predictions, labels


def class_names(names: Sequence[Any], count: int) -> list[str]:
    """Return names of classes as text."""
    if isinstance(names, str):
        raise TypeError(f"classes must be a list, [{names!r}], not a single string")
    if len(names) != count:
        raise ShapeError(f"classes has {len(names)} names, but there are {count} classes")
    # A long name is broken into lines if there is room.
    return [textwrap.fill(str(name), 20 if count <= 6 else 1000) for name in names]
