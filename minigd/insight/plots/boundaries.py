"""The plot of the decisions of a classifier over the plane of its two features."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from minigd.backends.base import get_backend
from minigd.errors import ShapeError, validated
from minigd.insight.plots.axes import COLOR_MAP, MARKERS, axes_or_new, padded, to_host
from minigd.insight.plots.classes import class_names, numbered_classes, probabilities
from minigd.nn.sequential import Sequential
from minigd.types import Array

# Points along each side: more are not visible on a screen.
_GRID = 200


@validated
def plot_decision_boundary(
    model: Sequential | Any, X: Any, y: Any, *, classes: Sequence[Any] | None = None, ax: Any = None
) -> Any:
    """Draw the class that a classifier of two features predicts at each point, and the rows.

    For two classes it is the probability of class 1, filled in steps of a tenth, with the boundary
    at ½. For more classes it is the class with the largest probability. Logits are drawn as
    probabilities.

    Parameters
    ----------
    model : Sequential
        Of two inputs, and one output or an output for each class.
    X : array-like, shape (n, 2)
        Rows to draw, which also set the limits of the plane; the columns of a frame name the axes.
    y : array-like, shape (n,), (n, 1) or (n, K)
        Their classes, as in training.
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
        If Matplotlib is missing.
    TypeError
        If the model is not a Sequential.
    ShapeError, DataError
        If the model or X has not two columns, or y does not fit the model.

    Examples
    --------
    >>> import numpy as np, minigd as gd
    >>> model = gd.Sequential([gd.Dense(1), gd.Sigmoid()], inputs=2)
    >>> X, y = np.array([[0.0, 1.0], [2.0, -1.0]]), [0, 1]
    >>> ax = gd.plot_decision_boundary(model, X, y)
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['class 0', 'class 1']
    """
    if not isinstance(model, Sequential):
        raise TypeError(
            f"plot_decision_boundary takes a minigd.Sequential, not {type(model).__name__}: "
            "for scikit-learn's estimators, use its DecisionBoundaryDisplay"
        )
    titles = [str(name) for name in getattr(X, "columns", ("$x_1$", "$x_2$"))]
    X = to_host(X, "X")
    if model.n_in != 2 or X.ndim != 2 or X.shape[1] != 2:
        raise ShapeError(
            f"a decision boundary needs two features, but the model takes {model.n_in} and "
            f"X has shape {X.shape}: train a model on two columns, X[:, [0, 1]]"
        )
    get_backend("numpy").check_finite(X, "X")
    true = numbered_classes(y, (len(X), model.n_out))
    count = max(2, model.n_out)
    named = class_names([f"class {k}" for k in range(count)] if classes is None else classes, count)
    ax = axes_or_new(ax)
    across, up = (np.linspace(*padded(column), _GRID) for column in X.T)
    grid = np.stack(np.meshgrid(across, up), axis=-1).reshape(-1, 2)
    p = probabilities(model, grid).reshape(_GRID, _GRID, -1)
    if count == 2:
        _fill_two(ax, across, up, p[..., -1], named[1])
        styles: list[Any] = [("white", "grey"), ("black", "grey")]
    else:
        styles = list(zip(_shades(count), _edges(count), strict=True))
        _fill_several(ax, across, up, p, named, styles)
    for k, (color, edge) in enumerate(styles):
        rows = X[true == k]
        if len(rows):
            ax.scatter(
                *rows.T, s=max(6, min(24, 24_000 / len(X))), marker=MARKERS[k % len(MARKERS)],
                color=color, edgecolors=edge, linewidths=0.5, label=named[k],
            )  # fmt: skip
    if count == 2:
        ax.legend(loc="upper right", fontsize="small")
    ax.set(xlim=across[[0, -1]], ylim=up[[0, -1]], xlabel=titles[0], ylabel=titles[1])
    return ax


def _fill_two(ax: Any, across: Array, up: Array, p: Array, name: str) -> None:
    """Fill with the probability of class 1, and draw the line where it is ½."""
    outside = float(p.min()) < 0 or float(p.max()) > 1
    filled = ax.contourf(
        across, up, p, levels=np.linspace(0, 1, 11), cmap=COLOR_MAP,
        extend="both" if outside else "neither",
    )  # fmt: skip
    if p.min() < 0.5 < p.max():
        ax.contour(across, up, p, levels=[0.5], colors="white", linewidths=1.5)
    ax.figure.colorbar(filled, ax=ax, label=f"P({name})")


def _fill_several(
    ax: Any, across: Array, up: Array, p: Array, named: Sequence[str], styles: list[Any]
) -> None:
    """Fill with the color of the class that wins, and name the classes in the color bar."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import BoundaryNorm, ListedColormap

    shades = [shade for shade, _ in styles]
    winner = p.argmax(axis=2)
    for k, color in enumerate(shades):
        lead = p[..., k] - np.delete(p, k, axis=2).max(axis=2)
        # Of classes with equal probabilities the first wins, as in `argmax`.
        lead = np.where(winner == k, np.maximum(lead, 1e-12), lead)
        if lead.max() > 0:
            ax.contourf(across, up, lead, levels=[0, lead.max()], colors=[color], alpha=0.6)
        if lead.min() < 0 < lead.max():
            ax.contour(across, up, lead, levels=[0], colors="black", linewidths=1)
    norm = BoundaryNorm(np.arange(len(named) + 1) - 0.5, len(named))
    bar = ax.figure.colorbar(
        ScalarMappable(norm, ListedColormap(shades)), ax=ax, ticks=range(len(named)), alpha=0.6
    )
    bar.ax.set_yticklabels(named, fontsize="medium" if len(named) <= 10 else "x-small")
    bar.ax.minorticks_off()
    for k, (color, edge) in enumerate(styles):
        bar.ax.plot(
            0.5, k, marker=MARKERS[k % len(MARKERS)], markersize=5, color=color,
            markeredgecolor=edge, markeredgewidth=0.5,
        )  # fmt: skip


def _shades(classes: int) -> list[Any]:
    """Return a color for each class, from dark to light."""
    from matplotlib import colormaps

    return [colormaps[COLOR_MAP](k / (classes - 1)) for k in range(classes)]


def _edges(classes: int) -> list[str]:
    """Return the color of a point's edge for each class: light around a dark point."""
    return ["white" if 2 * k < classes else "black" for k in range(classes)]
