"""Plots of a run: the results of each epoch, and the learning rate of a schedule."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from minigd.errors import check_integer, shown, validated
from minigd.insight.plots.axes import COLORS, LINES, MARKERS, axes_or_new, whole_numbers
from minigd.optim.schedules import Constant, Schedule
from minigd.training.history import History

# The most points of a curve: more are not visible on a screen.
_POINTS = 2_000


def plot_history(history: History, *names: str, ax: Any = None) -> Any:
    """Draw the results of each epoch; see `History.plot`."""
    measured = list(
        dict.fromkeys(
            name.removeprefix("val_") for name in history if name not in ("seconds", "updates")
        )
    )
    if not history.epochs or not measured:
        raise ValueError("the history has no epochs to plot: train first, model.fit(...)")
    for name in names:
        if not isinstance(name, str) or name not in measured:
            raise ValueError(
                f"the history can't plot {shown(name)}: it holds {', '.join(measured)}, each with "
                "a val_ column if there were validation data"
            )
    chosen = list(names) or measured
    metrics = [name for name in chosen if name != "loss"]
    ax = axes_or_new(ax)
    # A loss and a metric have different units: each kind has its own scale.
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
    drawn += _draw_best_epoch(ax, history)
    ax.set(xlabel="epoch", ylabel="loss" if len(metrics) < len(chosen) else _joined(metrics))
    ax.set_xlim(0.5, max(history.epochs, ax.dataLim.x1) + 0.5)
    whole_numbers(ax.xaxis)
    ax.grid(alpha=0.3)
    if other is ax:
        ax.legend(handles=drawn, fontsize="small")
        return ax
    other.set_ylabel(_joined(metrics))
    # Margins differ from the loss's: the ends of the two scales must not coincide.
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


def _draw_best_epoch(ax: Any, history: History) -> list[Any]:
    """Draw a line at the epoch with the lowest validation loss, or training loss, if any is."""
    for column in ("val_loss", "loss"):
        values = np.array(history.get(column, []))
        if np.isfinite(values).any():
            epoch = int(np.argmin(np.where(np.isfinite(values), values, np.inf))) + 1
            label = f"lowest {column}: epoch {epoch}"
            return [ax.axvline(epoch, linestyle=":", color="black", zorder=1, label=label)]
    return []


def _joined(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) < 4 else "metrics"


@validated
def plot_schedule(
    schedule: Schedule | Any,
    *,
    updates: int | None = None,
    epochs: int | None = None,
    ax: Any = None,
) -> Any:
    """Draw the learning rate of a schedule.

    Parameters
    ----------
    schedule : Schedule
    updates, epochs : int
        How many to draw; give the one that the schedule counts in. One that counts in both, such as
        a warm-up of 100 updates before a decay over 20 epochs, needs both: this many updates in
        this many epochs.
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
        raise TypeError(f"plot_schedule takes a Schedule, not {shown(schedule)}")
    given = {"updates": updates, "epochs": epochs}
    needed = _units(schedule) or {unit for unit, length in given.items() if length is not None}
    missing = [unit for unit in given if unit in needed and given[unit] is None]
    if missing or not needed:
        raise ValueError(
            f"{schedule!r} counts in {' and '.join(sorted(needed)) or 'updates or epochs'}: say "
            f"how many to draw, {missing[0] if missing else 'epochs'}=..."
        )
    for unit, length in given.items():
        if length is not None:
            check_integer(unit, length)
    unit = "updates" if "updates" in needed else "epochs"
    length = given[unit] or 0
    # The rate after t updates or epochs holds for the next one; the last has an end too.
    times = np.unique(np.linspace(0, length - 1, min(length, _POINTS)).round().astype(int))
    rates = [
        schedule(t, t * (epochs or 0) // length) if unit == "updates" else schedule(0, t)
        for t in times.tolist()
    ]
    ax = axes_or_new(ax)
    # Schedules in the same axes are to be compared.
    drawn = len(ax.get_lines())
    ax.plot(
        [*times, length], [*rates, rates[-1]], LINES[drawn % len(LINES)],
        color=COLORS[drawn % len(COLORS)], drawstyle="steps-post", label=repr(schedule),
    )  # fmt: skip
    ax.set(xlabel=f"{unit} done", ylabel="learning rate")
    ax.set_ylim(bottom=0)
    whole_numbers(ax.xaxis)
    ax.grid(alpha=0.3)
    return ax


def _units(schedule: Schedule) -> set[str]:
    """Return what a schedule, and the one after its warm-up, count in."""
    inner = getattr(schedule, "schedule", None)
    units = _units(inner) if isinstance(inner, Schedule) else set()
    if isinstance(schedule, Constant):
        return units
    return units | {"epochs" if schedule.updates is None else "updates"}
