"""Plots with Matplotlib: of a run, of predictions, and of a model's decisions.

It may import what `insight` may; each function draws into the axes that it is given, or into a new
figure's, and returns them.
Start with `axes.py`, then `curves.py`.
"""

from minigd.insight.plots.boundaries import plot_decision_boundary
from minigd.insight.plots.curves import plot_history, plot_schedule
from minigd.insight.plots.predictions import plot_confusion, plot_predictions

__all__ = [
    "plot_confusion",
    "plot_decision_boundary",
    "plot_history",
    "plot_predictions",
    "plot_schedule",
]
