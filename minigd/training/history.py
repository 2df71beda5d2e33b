"""The history of a run: per epoch one float for the loss, each metric, seconds and updates."""

import html
import math
from collections.abc import Mapping
from typing import Any

from minigd.backends.on_demand import call
from minigd.errors import validated
from minigd.progress import printable

_SHOWN = 10
"""The number of epochs that a notebook shows at each end of a long history."""


class History(dict[str, list[float]]):
    """The results of each epoch, by name.

    Keys are ``loss`` and the metrics, the same with the prefix ``val_`` if there are validation
    data, and

    - ``seconds``: the time of the epoch's training, without evaluation and callbacks;
    - ``updates``: the number of updates at its end, counted from the start of the run.

    ``loss`` and the metrics are means over the rows of the epoch, each measured before the update
    with this row. ``val_loss`` is measured after the epoch.

    It is a dict of lists, and ``pandas.DataFrame(history)`` turns it into a table. A notebook shows
    a table.

    Examples
    --------
    >>> history = History()
    >>> history.append({"loss": 0.5, "updates": 12})
    >>> history.append({"loss": 0.25, "updates": 24})
    >>> history["loss"], history.epochs
    ([0.5, 0.25], 2)
    """

    @validated
    def __init__(self, columns: Mapping[str, list[float]] | None = None) -> None:
        super().__init__({name: list(values) for name, values in (columns or {}).items()})

    @property
    def epochs(self) -> int:
        """The number of epochs."""
        return max((len(values) for values in self.values()), default=0)

    def append(self, values: Mapping[str, float]) -> None:
        """Add an epoch. Values that were not measured are NaN."""
        done = self.epochs
        for name in {**self, **values}:
            self.setdefault(name, [math.nan] * done).append(float(values.get(name, math.nan)))

    def __missing__(self, name: str) -> list[float]:
        raise KeyError(f"{name!r}; the history holds {', '.join(self) or 'nothing'}")

    def plot(self, *names: str, ax: Any = None) -> Any:
        """Draw the loss and the metrics of each epoch, in training and in validation.

        Training is a solid line, validation a dashed one. The loss uses the left scale and metrics
        the right one. Draw metrics with different units one at a time, by name. The epoch with the
        lowest ``val_loss``, or else the lowest ``loss``, is marked.

        Parameters
        ----------
        *names : str
            What to draw: ``"loss"`` or metrics, each with its ``val_`` column. By default all.
        ax : matplotlib.axes.Axes, optional
            Where to draw. By default the axes of a new figure.

        Returns
        -------
        matplotlib.axes.Axes

        Raises
        ------
        ImportError
            If Matplotlib is missing.
        ValueError
            If there is no such column, or no epoch.

        Examples
        --------
        >>> history = History({"loss": [0.5, 0.25], "val_loss": [0.5, 0.75]})
        >>> ax = history.plot()
        >>> [line.get_label() for line in ax.get_lines()]
        ['loss', 'val_loss', 'lowest val_loss: epoch 1']
        """
        return call("minigd.insight.plots", "plot_history", self, *names, ax=ax)

    def state_dict(self) -> dict[str, Any]:
        """Return the columns."""
        return {name: list(values) for name, values in self.items()}

    def __repr__(self) -> str:
        last = ", ".join(f"{name}={values[-1]:.4g}" for name, values in self.items())
        return printable(f"History({self.epochs} epochs{'; last: ' + last if last else ''})")

    def _repr_html_(self) -> str:
        """Return a table for a notebook, with the first and last epochs of a long history."""
        epochs = range(self.epochs)
        shown = epochs if len(epochs) <= 2 * _SHOWN else [*epochs[:_SHOWN], None, *epochs[-_SHOWN:]]
        lines = [["epoch", *self]]
        for epoch in shown:
            cells = ("…" if epoch is None else f"{column[epoch]:.6g}" for column in self.values())
            lines.append(["…" if epoch is None else str(epoch + 1), *cells])
        rows = []
        for i, line in enumerate(lines):
            kind = "td" if i else "th"
            cells = (f"<{kind}>{html.escape(printable(cell))}</{kind}>" for cell in line)
            rows.append(f"<tr>{''.join(cells)}</tr>")
        return f"<table>{''.join(rows)}</table>"


def check_columns(columns: Any) -> dict[str, list[float]]:
    """Return the columns of a history in a file, and refuse what `History.state_dict` can't give.

    >>> check_columns({"loss": [0.5, 0.25]})
    {'loss': [0.5, 0.25]}
    """
    for name, values in columns.items():
        for value in values:
            if type(value) not in (int, float):
                raise TypeError(f"the history of {name!r} holds {value!r}")
    if len({len(values) for values in columns.values()}) > 1:
        raise ValueError("the columns of the history have different lengths")
    return dict(columns)
