"""What all plots share: colors, markers and strokes, the axes to draw into, and their limits.

Lines and points differ in stroke and marker as well as in color, so they differ in gray too.
"""

from typing import Any

from minigd.backends.base import backend_of, get_backend, numbers
from minigd.backends.on_demand import optional
from minigd.types import Array

# Blue, vermilion, green, purple, orange, sky blue, black: Okabe and Ito (2008), "Color universal
# design", without yellow, which can't be seen on white.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
MARKERS = ("o", "^", "s", "D", "v", "P", "X", "<", ">", "*")
LINES = ("-", "--", "-.", ":")
COLOR_MAP = "cividis"


def axes_or_new(ax: Any, figsize: tuple[float, float] | None = None) -> Any:
    """Return the axes to draw into: those given, or those of a new figure that pyplot shows."""
    pyplot = optional("matplotlib.pyplot", "a plot")
    if ax is None:
        return pyplot.subplots(figsize=figsize, layout="constrained")[1]
    if not isinstance(ax, pyplot.Axes):
        raise TypeError(
            f"ax must be one matplotlib Axes, not {type(ax).__name__}: plt.subplots(1, 2) returns "
            "several, pass one, axes[0]"
        )
    return ax


def whole_numbers(axis: Any) -> None:
    """Put ticks on whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axis.set_major_formatter("{x:,.0f}")


def padded(values: Array) -> tuple[float, float]:
    """Return limits a little wider than the values."""
    low, high = float(values.min()), float(values.max())
    margin = 0.05 * (high - low) or 0.5 * abs(low) or 0.5
    return low - margin, high + margin


def to_host(values: Any, what: str) -> Array:
    """Return an array of numbers on the host, from any device."""
    return numbers(get_backend("numpy").here(backend_of(values).to_numpy(values), what), what)
