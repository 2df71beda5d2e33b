"""Plots of how well a model predicts: numbers against true ones, and classes against classes."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from minigd.backends.base import backend_of, get_backend, refuse_mask
from minigd.backends.on_demand import optional
from minigd.errors import ShapeError, shown, validated
from minigd.insight.plots.axes import COLOR_MAP, COLORS, axes_or_new, padded, to_host
from minigd.insight.plots.classes import (
    class_names,
    named_classes,
    numbered_classes,
    probabilities,
    winners,
)
from minigd.nn.metrics import R2
from minigd.nn.sequential import Sequential
from minigd.types import Array


def plot_predictions(y_true: Any, y_pred: Any, *, ax: Any = None) -> Any:
    """Draw predicted numbers against true ones, with the diagonal of exact predictions and R².

    Parameters
    ----------
    y_true, y_pred : array-like, shape (n,) or (n, 1)
        One output at a time, on the host or on a GPU.
    ax : matplotlib.axes.Axes, optional
        Where to draw; the axes of a new figure unless given.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        If Matplotlib is missing.
    ShapeError, DataError
        If they differ in length, have several columns, or hold anything but finite numbers.

    Examples
    --------
    >>> import minigd as gd
    >>> ax = gd.plot_predictions([1.0, 2.0, 3.0], [1.0, 2.0, 4.0])
    >>> ax.get_title()
    'R² = 0.500, 3 rows'
    """
    true, predicted = _column(y_true, "y_true"), _column(y_pred, "y_pred")
    if len(true) != len(predicted) or not len(true):
        raise ShapeError(
            f"y_true has {len(true)} rows and y_pred {len(predicted)}: pass one prediction "
            "per row, and at least one row"
        )
    r2 = R2().value(R2().total(predicted[:, None], true, None), len(true))
    ax = axes_or_new(ax)
    n = len(true)
    # Points are transparent, so crowded places are dark.
    ax.scatter(
        true, predicted, s=24 if n <= 500 else 8, alpha=min(0.8, max(0.1, 20 / n**0.5)),
        color=COLORS[0], linewidths=0, label="a row",
    )  # fmt: skip
    both = np.concatenate([true, predicted])
    low, high = padded(both)
    ax.plot([low, high], [low, high], "--", color="black", label="predicted = true")
    rows = f"{n:,} row{'s' if n > 1 else ''}"
    ax.set(
        xlim=(low, high), ylim=(low, high), aspect="equal", xlabel="true", ylabel="predicted",
        title=f"R² = {r2:.3f}, {rows}",
    )  # fmt: skip
    ax.locator_params(nbins=6)
    ax.grid(alpha=0.3)
    legend = ax.legend(loc="upper left", fontsize="small")
    for handle in legend.legend_handles:
        handle.set_alpha(1)
    return ax


def _column(values: Any, what: str) -> Array:
    """Return finite numbers of shape (n,)."""
    values = to_host(values, what)
    if values.ndim != 1 and values.shape[1:] != (1,):
        raise ShapeError(
            f"{what} has shape {values.shape}, but one output is plotted at a time: {what}[:, 0]"
        )
    get_backend("numpy").check_finite(values, what)
    return values.reshape(-1).astype("float64")


@validated
def plot_confusion(
    model_or_predictions: Any,
    X: Any = None,
    y: Any = None,
    *,
    classes: Sequence[Any] | None = None,
    ax: Any = None,
) -> Any:
    """Draw how often each class was predicted as each class, with scikit-learn's display.

    Parameters
    ----------
    model_or_predictions : Sequential, any object with `predict`, or array-like
        Predictions are probabilities of shape (n, K), of which the largest wins; of shape (n, 1),
        cut at ½; or classes of shape (n,).
    X : array-like, shape (n, n_in), optional
        The rows for a model. Without a model, leave it out: ``plot_confusion(predictions, y=y)``.
    y : array-like, shape (n,), (n, 1) or (n, K)
        The true classes, as in training.
    classes : sequence, optional
        Names of the classes, such as ``source.classes``.
    ax : matplotlib.axes.Axes, optional
        Where to draw; the axes of a new figure unless given.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        If Matplotlib or scikit-learn is missing.
    ShapeError, DataError
        If predictions, y and classes do not fit together.

    Examples
    --------
    >>> import numpy as np, minigd as gd
    >>> p = np.array([[0.9], [0.2], [0.6]])
    >>> ax = gd.plot_confusion(p, y=[1, 0, 0], classes=["no", "yes"])
    >>> [text.get_text() for text in ax.texts], ax.get_xlabel()
    (['1', '1', '0', '1'], 'Predicted label')
    """
    scores = optional("sklearn.metrics", "plot_confusion")
    if y is None:
        raise TypeError(
            "the true classes are missing: plot_confusion(model, X, y), or "
            "plot_confusion(predictions, y=y)"
        )
    if isinstance(model_or_predictions, type):
        raise TypeError(f"model_or_predictions must not be {shown(model_or_predictions)}")
    for given, what in ((model_or_predictions, "model_or_predictions"), (y, "y")):
        refuse_mask(given, what)
    ours = isinstance(model_or_predictions, Sequential)
    if ours:
        predictions = probabilities(model_or_predictions, X)
    elif hasattr(model_or_predictions, "predict"):
        predictions = np.asarray(model_or_predictions.predict(X))
    else:
        predictions = np.asarray(backend_of(model_or_predictions).to_numpy(model_or_predictions))
    if predictions.ndim == 1 and not _has_fractions(predictions):
        true, chosen, labels = named_classes(y, predictions, classes)
    else:
        p = predictions[:, None] if predictions.ndim == 1 else predictions
        true, chosen = numbered_classes(y, p.shape), winners(p, probabilities=not ours)
        labels = np.arange(max(2, p.shape[1]))
    with warnings.catch_warnings():
        # For a single class scikit-learn warns that labels should be given, although they are.
        warnings.simplefilter("ignore", UserWarning)
        matrix = scores.confusion_matrix(true, chosen, labels=labels)
    names = class_names(labels if classes is None else classes, len(labels))
    side = min(12.0, max(4.8, 1.5 + 0.45 * len(labels)))
    ax = axes_or_new(ax, (1.25 * side, side))
    # A digit is about 0.6 em wide, and the cells take about three quarters of the axes.
    cell = 0.75 * ax.get_window_extent().width * 72 / ax.figure.dpi / len(labels)
    size = min(10.0, cell / (0.6 * len(f"{matrix.max()} ")))
    scores.ConfusionMatrixDisplay(matrix, display_labels=names).plot(
        ax=ax, cmap=COLOR_MAP, values_format="d", text_kw={"fontsize": size},
        include_values=size >= 4,  # smaller digits can't be read
        im_kw={"vmin": 0},
    )  # fmt: skip
    for label in [*ax.get_xticklabels(), *ax.get_yticklabels()]:
        label.set_fontsize(min(10.0, max(4.0, 0.9 * cell)))
    if max(map(len, names)) * len(labels) > 40:
        for label in ax.get_xticklabels():
            label.set(rotation=45, ha="right", rotation_mode="anchor")
    return ax


def _has_fractions(values: Array) -> bool:
    return values.dtype.kind == "f" and bool((values % 1 != 0).any())
