"""Which rows of the data carry most of the gradient, by their line if they come from a file.

A corrupt row, or a wrong label, pulls at the parameters harder than the rows around it.
"""

from typing import Any, NamedTuple

import numpy as np

from minigd.errors import DataError, check_integer
from minigd.progress import printable
from minigd.training.events import Event
from minigd.types import Array


class HeavyRow(NamedTuple):
    """A row, where it is, the norm of its own gradient, and its share of the sum of all norms."""

    row: int
    place: str
    norm: float
    share: float


class HeavyRows:
    """A callback that finds the rows with the largest gradients, over the last whole epoch.

    Give it to ``fit(per_example=True, callbacks=[...])``. Printing it names the rows. It
    keeps 16 bytes per row; on a GPU it makes the host wait at each batch.

    Parameters
    ----------
    count : int, default 5
        How many rows to name.

    Attributes
    ----------
    rows : list of HeavyRow
        The heaviest first.
    half : int
        The fewest rows that carry half of the gradient: half of the sum of all norms.
    total : int
        The number of rows of the epoch.

    Examples
    --------
    >>> import numpy as np, minigd as gd
    >>> x = np.linspace(-1, 1, 100).reshape(-1, 1)
    >>> y = 3 * x
    >>> y[42] = 1000
    >>> heavy = gd.HeavyRows(2)
    >>> model = gd.Sequential([gd.Dense(1)], inputs=1)
    >>> history = model.fit(x, y, loss="mse", updater="sgd", per_example=True, callbacks=[heavy])
    >>> print(heavy)
    1 of 100 rows carries half of the gradient: row 42 (91 %); then row 99 (0.21 %)

    Source: Goodfellow (2015), "Efficient per-example gradient computations".
    """

    def __init__(self, count: int = 5) -> None:
        self.count = check_integer("count", count)
        self._rows: list[Array] = []
        self._norms: list[Array] = []
        self._whole = True
        self.rows: list[HeavyRow] = []
        self.half = self.total = 0

    def __call__(self, event: Event) -> None:
        """Record the norms of a batch, or sum up an epoch."""
        if event.name == "start":
            # An epoch that was begun before is incomplete here, and is left out.
            self._rows, self._norms, self._whole = [], [], event.trainer.batch == 0
        elif event.rows is not None and event.x is not None:
            if event.norms is None:
                raise DataError(
                    "HeavyRows needs the norm of each row's gradient: fit(..., per_example=True)"
                )
            rows: Any = event.rows
            self._rows.append(np.r_[rows] if isinstance(rows, slice) else np.asarray(rows))
            norms = event.trainer.model.backend.to_numpy(event.norms)
            self._norms.append(norms.astype("float64"))
        elif event.name == "epoch":
            if self._rows and self._whole:
                self._sum_up(event)
            self._rows, self._norms, self._whole = [], [], True

    def _sum_up(self, event: Event) -> None:
        rows, norms = np.concatenate(self._rows), np.concatenate(self._norms)
        # A norm too large for the dtype counts as the largest of all.
        norms = np.nan_to_num(norms, posinf=1e300)
        order = np.argsort(-norms, kind="stable")
        carried = np.cumsum(norms[order])
        whole = float(carried[-1]) or 1.0
        self.total = len(rows)
        self.half = int(np.searchsorted(carried, 0.5 * whole)) + 1 if carried[-1] > 0 else 0
        first = order[: self.count]
        source = event.trainer.batches.source
        self.rows = [
            HeavyRow(int(rows[i]), place, float(norms[i]), float(norms[i]) / whole)
            for i, place in zip(first, source.places(rows[first]), strict=True)
        ]

    def __str__(self) -> str:
        if not self.rows:
            return "no epoch has been completed yet"
        if self.half == 0:
            return f"none of the {self.total:,} rows has a nonzero gradient"
        named = [f"{row.place} ({100 * row.share:.2g} %)" for row in self.rows]
        carry = "carries" if self.half == 1 else "carry"
        text = f"{self.half:,} of {self.total:,} rows {carry} half of the gradient"
        if self.half > len(named):
            return printable(f"{text}; the heaviest: {', '.join(named)}")
        then = ", ".join(named[self.half :])
        text += f": {', '.join(named[: self.half])}" + (f"; then {then}" if then else "")
        return printable(text)
