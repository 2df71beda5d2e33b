"""Plots of a run, of what a model decides, and of how well it predicts, through Matplotlib.

Each function draws into the axes it is given, or into a new figure's, and returns them; lines and
points differ in stroke and marker as well as in colour, so that grey tells them apart too.
"""

import textwrap
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from minigd import formulas
from minigd.backends.base import backend_of, get_backend
from minigd.errors import DataError, ShapeError, check_integer
from minigd.nn.layers import Sigmoid, Softmax
from minigd.nn.losses import BinaryCrossEntropy, CategoricalCrossEntropy
from minigd.nn.losses.base import check_rows
from minigd.nn.metrics import R2
from minigd.nn.sequential import Sequential
from minigd.optim.schedules import Constant, Schedule
from minigd.training.history import History
from minigd.types import Array

# Blue, vermilion, green, purple, orange, sky blue, black: Okabe and Ito (2008), "Color universal
# design", without yellow, which is lost on white.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
MARKERS = ("o", "^", "s", "D", "v", "P", "X", "<", ">", "*")
COLOR_MAP = "cividis"
_LINES = ("-", "--", "-.", ":")

# A curve has no more points than this, and a decision boundary this many along each side: a screen
# shows no more.
_POINTS = 2_000
_GRID = 200


# Lines ----------------------------------------------------------------------------------------


def plot_history(history: History, *names: str, ax: Any = None) -> Any:
    """Draw what each epoch came to; this is `History.plot`, which says how."""
    measured = list(
        dict.fromkeys(
            name.removeprefix("val_") for name in history if name not in ("seconds", "updates")
        )
    )
    if not history.epochs or not measured:
        raise ValueError("the history holds no epoch to plot: train first, model.fit(...)")
    for name in names:
        if name not in measured:
            raise ValueError(
                f"the history can't plot {name!r}: it holds {', '.join(measured)}, each with its "
                "val_ column where there were validation data"
            )
    chosen = list(names) or measured
    metrics = [name for name in chosen if name != "loss"]
    ax = _axes(ax)
    # A loss and a metric have different units: each kind has a scale of its own.
    other = ax.twinx() if len(metrics) < len(chosen) and metrics else ax
    drawn: list[Any] = []
    for i, name in enumerate(chosen):
        scale = ax if name == "loss" else other
        color, marker = COLORS[i % len(COLORS)], MARKERS[i % len(MARKERS)]
        for column, line, fill in ((name, "-", "full"), (f"val_{name}", "--", "none")):
            if column in history:
                values = np.array(history[column])
                epochs = np.flatnonzero(np.isfinite(values))
                drawn += scale.plot(
                    epochs + 1, values[epochs], line, color=color, marker=marker, fillstyle=fill,
                    markevery=max(1, len(epochs) // 10),
                    label=column if len(epochs) else f"{column}: not finite",
                )  # fmt: skip
    drawn += _mark_best(ax, history)
    ax.set(xlabel="epoch", ylabel="loss" if len(metrics) < len(chosen) else _list(metrics))
    ax.set_xlim(0.5, max(history.epochs, ax.dataLim.x1) + 0.5)
    _whole_numbers(ax.xaxis)
    ax.grid(alpha=0.3)
    if other is ax:
        ax.legend(handles=drawn, fontsize="small")
        return ax
    other.set_ylabel(_list(metrics))
    # Other margins than the loss has, so that the ends of two scales don't fall together.
    other.margins(y=0.12)
    _legend_above_lines(ax, other, drawn)
    return ax


def _legend_above_lines(ax: Any, other: Any, drawn: Sequence[Any]) -> None:
    """Draw the legend of two scales on top of both, and make room for it above the lines."""
    for columns in (3, 2, 1):
        legend = other.legend(handles=drawn, loc="upper center", ncols=columns, fontsize="small")
        box = legend.get_window_extent()
        if box.width < ax.bbox.width:
            break
    room = min(0.5, 1.15 * box.height / ax.bbox.height)
    for scale in (ax, other):
        low, high = scale.get_ylim()
        scale.set_ylim(low, low + (high - low) / (1 - room))


def _mark_best(ax: Any, history: History) -> list[Any]:
    """Draw a line at the epoch with the lowest validation loss, or training loss, if any is."""
    for column in ("val_loss", "loss"):
        values = np.array(history.get(column, []))
        if np.isfinite(values).any():
            epoch = int(np.argmin(np.where(np.isfinite(values), values, np.inf))) + 1
            label = f"lowest {column}: epoch {epoch}"
            return [ax.axvline(epoch, linestyle=":", color="black", zorder=1, label=label)]
    return []


def plot_schedule(
    schedule: Schedule, *, updates: int | None = None, epochs: int | None = None, ax: Any = None
) -> Any:
    """Draw the learning rate of a schedule.

    Parameters
    ----------
    schedule : Schedule
    updates, epochs : int
        How many to draw: the one that the schedule counts in. One that counts in both, such as a
        warm-up of 100 updates before a decay over 20 epochs, needs both: so many updates in so
        many epochs.
    ax : matplotlib.axes.Axes, optional
        Where to draw; the axes of a new figure unless given.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        If Matplotlib is missing.
    ValueError
        If the schedule counts in what was not given.

    Examples
    --------
    >>> import minigd as gd
    >>> ax = gd.plot_schedule(gd.StepDecay(0.1, factor=0.5, epochs=2), epochs=5)
    >>> ax.get_lines()[0].get_ydata().tolist()
    [0.1, 0.1, 0.05, 0.05, 0.025, 0.025]
    """
    if not isinstance(schedule, Schedule):
        raise TypeError(f"plot_schedule draws a Schedule, and not {schedule!r}")
    given = {"updates": updates, "epochs": epochs}
    needed = _units(schedule) or {unit for unit, length in given.items() if length is not None}
    missing = [unit for unit in given if unit in needed and given[unit] is None]
    if missing or not needed:
        raise ValueError(
            f"{schedule!r} counts in {' and '.join(sorted(needed)) or 'updates or epochs'}: say "
            f"how many to draw, {missing[0] if missing else 'epochs'}=..."
        )
    for unit in needed:
        check_integer(unit, given[unit])
    unit = "updates" if "updates" in needed else "epochs"
    length = given[unit] or 0
    # The rate after t updates or epochs holds for the next one; the last has an end too.
    times = np.unique(np.linspace(0, length - 1, min(length, _POINTS)).round().astype(int))
    rates = [
        schedule(t, t * (epochs or 0) // length) if unit == "updates" else schedule(0, t)
        for t in times.tolist()
    ]
    ax = _axes(ax)
    # Schedules that are drawn into the same axes are to be compared.
    drawn = len(ax.get_lines())
    ax.plot(
        [*times, length], [*rates, rates[-1]], _LINES[drawn % len(_LINES)],
        color=COLORS[drawn % len(COLORS)], drawstyle="steps-post", label=repr(schedule),
    )  # fmt: skip
    ax.set(xlabel=f"{unit} done", ylabel="learning rate")
    ax.set_ylim(bottom=0)
    _whole_numbers(ax.xaxis)
    ax.grid(alpha=0.3)
    return ax


def _units(schedule: Schedule) -> set[str]:
    """Return what a schedule, and the one behind its warm-up, count in."""
    inner = getattr(schedule, "schedule", None)
    units = _units(inner) if isinstance(inner, Schedule) else set()
    if isinstance(schedule, Constant):
        return units
    return units | {"epochs" if schedule.updates is None else "updates"}


def plot_rates(rates: Array, losses: Array, suggestion: float | None, ax: Any = None) -> Any:
    """Draw the loss against a growing learning rate; this is `RateCurve.plot`."""
    ax = _axes(ax)
    ax.plot(rates, losses, color=COLORS[0], marker=MARKERS[0], markevery=max(1, len(rates) // 10))
    if suggestion is not None:
        label = f"suggestion: {suggestion:.2g}"
        ax.axvline(suggestion, linestyle=":", color="black", zorder=1, label=label)
        ax.legend(fontsize="small")
    ax.set(xscale="log", xlabel="learning rate", ylabel="loss, smoothed")
    ax.grid(alpha=0.3)
    return ax


# Predictions ----------------------------------------------------------------------------------


def plot_predictions(y_true: Any, y_pred: Any, *, ax: Any = None) -> Any:
    """Draw predicted numbers against true ones, with the diagonal of the exact and R².

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
        If the two are not as many, have several columns, or hold anything but finite numbers.

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
            f"y_true has {len(true)} rows and y_pred {len(predicted)}: give the prediction of each "
            "row, and at least one"
        )
    r2 = R2().value(R2().total(predicted[:, None], true, None), len(true))
    ax = _axes(ax)
    n = len(true)
    # Of many points the crowded places show, which are dark where points lie over each other.
    ax.scatter(
        true, predicted, s=24 if n <= 500 else 8, alpha=min(0.8, max(0.1, 20 / n**0.5)),
        color=COLORS[0], linewidths=0, label="a row",
    )  # fmt: skip
    both = np.concatenate([true, predicted])
    low, high = _padded(both)
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


def plot_confusion(
    model_or_predictions: Any,
    X: Any = None,
    y: Any = None,
    *,
    classes: Sequence[Any] | None = None,
    ax: Any = None,
) -> Any:
    """Draw how often each class was predicted to be each, through scikit-learn's display.

    Parameters
    ----------
    model_or_predictions : Sequential, any object with `predict`, or array-like
        Predictions are probabilities of shape (n, K), of which the largest wins; of shape (n, 1),
        cut at ½; or classes of shape (n,).
    X : array-like, shape (n, n_in), optional
        The rows for a model. Predictions need none, ``plot_confusion(predictions, y=y)``.
    y : array-like, shape (n,), (n, 1) or (n, K)
        The true classes, as in training.
    classes : sequence, optional
        What the classes are called, such as ``source.classes``.
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
    try:
        from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix
    except ImportError as error:
        raise ImportError(
            f"plot_confusion needs scikit-learn ({error}): pip install 'minigd[sklearn]'"
        ) from error
    if y is None:
        raise TypeError(
            "the true classes are missing: plot_confusion(model, X, y), or "
            "plot_confusion(predictions, y=y)"
        )
    ours = isinstance(model_or_predictions, Sequential)
    if ours:
        predictions = _probabilities(model_or_predictions, X)
    elif hasattr(model_or_predictions, "predict"):
        predictions = np.asarray(model_or_predictions.predict(X))
    else:
        predictions = np.asarray(backend_of(model_or_predictions).to_numpy(model_or_predictions))
    if predictions.ndim == 1 and not _has_fractions(predictions):
        true, chosen, labels = _named_classes(y, predictions, classes)
    else:
        p = predictions[:, None] if predictions.ndim == 1 else predictions
        true, chosen = _numbered_classes(y, p.shape), _winners(p, probabilities=not ours)
        labels = np.arange(max(2, p.shape[1]))
    with warnings.catch_warnings():
        # Of a single class scikit-learn says that labels should be given, which they are.
        warnings.simplefilter("ignore", UserWarning)
        matrix = confusion_matrix(true, chosen, labels=labels)
    shown = _names(labels if classes is None else classes, len(labels))
    side = min(12.0, max(4.8, 1.5 + 0.45 * len(labels)))
    ax = _axes(ax, (1.25 * side, side))
    # A digit is about 0.6 em wide, and the cells take about three quarters of the axes.
    cell = 0.75 * ax.get_window_extent().width * 72 / ax.figure.dpi / len(labels)
    size = min(10.0, cell / (0.6 * len(f"{matrix.max()} ")))
    ConfusionMatrixDisplay(matrix, display_labels=shown).plot(
        ax=ax, cmap=COLOR_MAP, values_format="d", text_kw={"fontsize": size},
        include_values=size >= 4,  # what is smaller can't be read
        im_kw={"vmin": 0},
    )  # fmt: skip
    for label in [*ax.get_xticklabels(), *ax.get_yticklabels()]:
        label.set_fontsize(min(10.0, max(4.0, 0.9 * cell)))
    if max(map(len, shown)) * len(labels) > 40:
        for label in ax.get_xticklabels():
            label.set(rotation=45, ha="right", rotation_mode="anchor")
    return ax


def _has_fractions(values: Array) -> bool:
    return values.dtype.kind == "f" and bool((values % 1 != 0).any())


def _winners(p: Array, probabilities: bool) -> Array:
    """Return the class that predictions of shape (n, K) name; one output is cut at ½."""
    host = get_backend("numpy")
    p = host.here(p, "the predictions")
    host.check_finite(p, "the predictions")
    if p.shape[1] > 1:
        return p.argmax(axis=1)
    # A model may be trained on 0 and 1 as numbers, and go beyond; given numbers may be anything.
    if probabilities and (p.min() < 0 or p.max() > 1):
        raise DataError(
            "predictions of one output are probabilities, cut at ½, and these go from "
            f"{p.min():g} to {p.max():g}: give classes in the shape (n,), and of logits the sigmoid"
        )
    return (p[:, 0] > 0.5).astype(int)


def _numbered_classes(y: Any, shape: tuple[int, ...]) -> Array:
    """Return the class of each row for outputs of this shape, of which one is cut at ½."""
    if len(shape) != 2:
        raise ShapeError(f"predictions have the shape (n, K) or (n,), and not {shape}")
    loss = BinaryCrossEntropy() if shape[1] == 1 else CategoricalCrossEntropy()
    y = _host(y, "y")
    loss.check(y, shape)
    if shape[1] > 1 and y.shape == shape:
        return y.argmax(axis=1)
    return y.reshape(-1).astype(int) if shape[1] > 1 else (y.reshape(-1) > 0.5).astype(int)


def _named_classes(
    y: Any, predictions: Array, classes: Sequence[Any] | None
) -> tuple[Array, Array, Array]:
    """Return true and predicted classes, numbers or text, and all that there are."""
    true = np.asarray(backend_of(y).to_numpy(y)).reshape(-1)
    check_rows(true, predictions.shape)
    if (true.dtype.kind in "biuf") != (predictions.dtype.kind in "biuf"):
        raise DataError(
            f"y holds {true.dtype} and the predictions {predictions.dtype}: give both as numbers, "
            "or both by name"
        )
    labels = np.unique(np.concatenate([true, predictions]))
    # With names for all of them, a class that does not occur is drawn too.
    if classes is not None and labels.dtype.kind in "biuf" and (labels >= 0).all():
        labels = np.arange(max(len(classes), int(labels.max()) + 1))
        return true.astype(int), predictions.astype(int), labels
    return true, predictions, labels


def plot_decision_boundary(
    model: Sequential, X: Any, y: Any, *, classes: Sequence[Any] | None = None, ax: Any = None
) -> Any:
    """Draw what a classifier of two features says of each point of the plane, and the rows.

    For two classes it is the probability of class 1, filled in steps of a tenth, with the boundary
    at ½; for more, the class with the largest probability. Logits are drawn as the probabilities
    they stand for.

    Parameters
    ----------
    model : Sequential
        Of two inputs, and one output or an output for each class.
    X : array-like, shape (n, 2)
        Rows to draw, which also say how far the plane goes; the columns of a frame name the axes.
    y : array-like, shape (n,), (n, 1) or (n, K)
        Their classes, as in training.
    classes : sequence, optional
        What the classes are called, such as ``source.classes``.
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
            f"plot_decision_boundary draws a minigd.Sequential, and not {type(model).__name__}: "
            "for scikit-learn's estimators there is its DecisionBoundaryDisplay"
        )
    titles = [str(name) for name in getattr(X, "columns", ("$x_1$", "$x_2$"))]
    X = _host(X, "X")
    if model.n_in != 2 or X.ndim != 2 or X.shape[1] != 2:
        raise ShapeError(
            f"a decision boundary is drawn over two features, and the model takes {model.n_in} and "
            f"X has shape {X.shape}: train a model on two columns, X[:, [0, 1]]"
        )
    get_backend("numpy").check_finite(X, "X")
    true = _numbered_classes(y, (len(X), model.n_out))
    count = max(2, model.n_out)
    named = _names([f"class {k}" for k in range(count)] if classes is None else classes, count)
    ax = _axes(ax)
    across, up = (np.linspace(*_padded(column), _GRID) for column in X.T)
    grid = np.stack(np.meshgrid(across, up), axis=-1).reshape(-1, 2)
    p = _probabilities(model, grid).reshape(_GRID, _GRID, -1)
    if count == 2:
        _fill_two(ax, across, up, p[..., -1], named[1])
        looks = [("white", "grey"), ("black", "grey")]
    else:
        _fill_several(ax, across, up, p, named)
        looks = list(zip(_shades(count), _edges(count), strict=True))
    for k, (color, edge) in enumerate(looks):
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


def _fill_several(ax: Any, across: Array, up: Array, p: Array, named: Sequence[str]) -> None:
    """Fill with the color of the class that wins, and say in the color bar which is which."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import BoundaryNorm, ListedColormap

    shades = _shades(len(named))
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
    for k, (color, edge) in enumerate(zip(shades, _edges(len(named)), strict=True)):
        bar.ax.plot(
            0.5, k, marker=MARKERS[k % len(MARKERS)], markersize=5, color=color,
            markeredgecolor=edge, markeredgewidth=0.5,
        )  # fmt: skip


def _shades(classes: int) -> list[Any]:
    """Return a color for each class, from dark to light."""
    from matplotlib import colormaps

    return [colormaps[COLOR_MAP](k / (classes - 1)) for k in range(classes)]


def _edges(classes: int) -> list[str]:
    """Return the color of a point's edge for each class: light around what is dark."""
    return ["white" if 2 * k < classes else "black" for k in range(classes)]


def _probabilities(model: Sequential, X: Any) -> Array:
    """Return what a model says of the classes, on the host: of shape (n, K)."""
    z = model.predict(X)
    z = backend_of(z).to_numpy(z)
    if isinstance(model.layers[-1], Sigmoid | Softmax):
        return z
    # A model trained by hand has no loss, and ends in logits.
    if model.loss is not None and not model.loss.from_logits:
        return z
    return formulas.sigmoid(z) if z.shape[1] == 1 else formulas.softmax(z)


# What they share ------------------------------------------------------------------------------


def _axes(ax: Any, figsize: tuple[float, float] | None = None) -> Any:
    """Return the axes to draw into: those given, or those of a new figure that pyplot shows."""
    try:
        from matplotlib import pyplot
        from matplotlib.axes import Axes
    except ImportError as error:
        raise ImportError(f"plots need Matplotlib ({error}): pip install 'minigd[plot]'") from error
    if ax is None:
        return pyplot.subplots(figsize=figsize, layout="constrained")[1]
    if not isinstance(ax, Axes):
        raise TypeError(
            f"ax must be one matplotlib Axes, not {type(ax).__name__}: of several from "
            "plt.subplots(1, 2), give one, axes[0]"
        )
    return ax


def _host(values: Any, what: str) -> Array:
    """Return an array of numbers on the host, from wherever it is."""
    return get_backend("numpy").here(backend_of(values).to_numpy(values), what)


def _column(values: Any, what: str) -> Array:
    """Return finite numbers of shape (n,)."""
    values = _host(values, what)
    if values.ndim != 1 and values.shape[1:] != (1,):
        raise ShapeError(
            f"{what} has shape {values.shape}, and one output is drawn at a time: {what}[:, 0]"
        )
    get_backend("numpy").check_finite(values, what)
    return values.reshape(-1).astype("float64")


def _padded(values: Array) -> tuple[float, float]:
    """Return limits a little wider than the values."""
    low, high = float(values.min()), float(values.max())
    margin = 0.05 * (high - low) or 0.5 * abs(low) or 0.5
    return low - margin, high + margin


def _names(names: Sequence[Any], count: int) -> list[str]:
    """Return names of classes as text."""
    if isinstance(names, str):
        raise TypeError(f"classes is a list, [{names!r}], and not one text")
    if len(names) != count:
        raise ShapeError(f"classes has {len(names)} names, and there are {count} classes")
    # Where there is room for it, a long name is broken.
    return [textwrap.fill(str(name), 20 if count <= 6 else 1000) for name in names]


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) < 4 else "metrics"


def _whole_numbers(axis: Any) -> None:
    """Put ticks on whole numbers alone."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axis.set_major_formatter("{x:,.0f}")
