"""The totals of an epoch: its weight, its loss and its metrics, batch by batch.

Means are combined by weight. Without row weights, it is the number of rows.
"""

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np

from minigd.backends.base import Backend
from minigd.errors import CheckpointError
from minigd.nn.metrics import Metric
from minigd.types import Array


class Totals:
    """The sums of one pass over rows.

    Parameters
    ----------
    metrics : dict of str to Metric

    Attributes
    ----------
    weight : float
        Σ_i w_i so far, which is the number of rows if they have no weights.

    Examples
    --------
    >>> from minigd.nn.metrics import get_metrics
    >>> totals = Totals(get_metrics(["mae"]))
    >>> totals.add({"loss": 2.0 * 3, "mae": 1.0 * 3}, 3.0)
    >>> totals.add({"loss": 1.0 * 1, "mae": 3.0 * 1}, 1.0)
    >>> totals.means()
    {'loss': 1.75, 'mae': 1.5}
    """

    def __init__(self, metrics: Mapping[str, Metric]) -> None:
        self.metrics = metrics
        self.weight: Any = 0.0
        self._sums: dict[str, Any] = {}

    def add(self, batch: Mapping[str, Any], weight: Any) -> None:
        """Add the totals of a batch, and its weight."""
        self.weight = self.weight + weight
        for name, total in batch.items():
            before = self._sums.get(name)
            metric = self.metrics.get(name)
            if metric is not None and metric.needs_rows:
                # Concatenated at the end: a copy per batch would take quadratic time.
                self._sums.setdefault(name, []).append(total.copy())
            elif before is None:
                self._sums[name] = total
            else:
                self._sums[name] = before + total if metric is None else metric.merge(before, total)

    def copy(self) -> "Totals":
        """Return a copy of the totals. No sum is ever overwritten."""
        same = copy.copy(self)
        same._sums = {n: [*t] if isinstance(t, list) else t for n, t in self._sums.items()}
        return same

    def means(self, backend: Backend | None = None) -> dict[str, float]:
        """Return the mean loss and the value of each metric, or nothing without rows.

        On a GPU this makes the host wait.
        """
        weight, sums = self.state_dict(backend).values()
        if weight == 0:
            return {}
        own = self.metrics
        return {n: own[n].value(t, weight) if n in own else t / weight for n, t in sums.items()}

    def state_dict(self, backend: Backend | None = None) -> dict[str, Any]:
        """Return the sums so far, on the host."""
        return {
            "weight": float(self.weight),
            "sums": {name: on_host(total, backend) for name, total in self._sums.items()},
        }

    def load_state_dict(self, values: Mapping[str, Any], backend: Backend) -> None:
        """Take the sums that `state_dict` gave.

        Raises
        ------
        CheckpointError
            If they do not belong to this loss and these metrics.
        """
        names = ["loss", *self.metrics]
        if values["sums"] and list(values["sums"]) != names:
            raise CheckpointError(f"the sums in the file are {list(values['sums'])}, not {names}")
        self.weight = float(values["weight"])
        self._sums = {name: self._taken(name, t, backend) for name, t in values["sums"].items()}

    def _taken(self, name: str, total: Any, backend: Backend) -> Any:
        if isinstance(total, float):
            return total
        array: Array = backend.asarray(total)
        return [array] if name in self.metrics and self.metrics[name].needs_rows else array


def on_host(total: Any, backend: Backend | None) -> Any:
    """Return the total of all batches as an array on the host, or as a float."""
    if isinstance(total, list):
        return np.concatenate([on_host(part, backend) for part in total])
    if backend is not None and backend.holds(total):
        total = backend.to_numpy(total)
    return total if np.ndim(total) else float(total)
