"""Metrics: measures of quality other than the loss, over all rows of an epoch.

Each batch adds to a total, and the value is computed from the total at the end. It is never the
mean of the values of batches, and a short tail counts by its number of rows.
"""

import re
from typing import Any

from minigd.errors import check_per_example
from minigd.storage.describe import arguments
from minigd.types import Array


class Metric:
    """A mean over rows. A subclass defines `per_example`.

    A metric that is not a mean defines `total` and `value`, and `merge` if totals do not simply
    add.
    """

    more_is_better: bool = False
    """Whether a larger value is better, for `minigd.EarlyStopping`."""

    needs_rows: bool = False
    """Whether a total consists of rows, which are concatenated over an epoch."""

    ranks: bool = False
    """Whether only the order of the rows counts. If the loss takes logits, such a metric gets
    log-odds instead of probabilities. They have the same order and do not round to 1."""

    def per_example(self, prediction: Array, y: Array) -> Array:
        """Return one number per row, of shape (n,).

        Parameters
        ----------
        prediction : Array, shape (n, K)
            The model's outputs, or probabilities if the loss takes logits (see `ranks`).
        y : Array, shape (n,) or (n, K)
        """
        raise NotImplementedError(f"{type(self).__name__} must define per_example(prediction, y)")

    def total(self, prediction: Array, y: Array, weight: Array | None) -> Array:
        """Return the total of a batch, in float64: Σ_i w_i m_i, where w is 1 without weights.

        Parameters
        ----------
        prediction : Array, shape (n, K)
        y : Array, shape (n,) or (n, K)
        weight : Array, shape (n,), or None
        """
        each = self.per_example(prediction, y)
        check_per_example(self, each, len(prediction))
        return (each.astype("float64") if weight is None else each * weight).sum()

    def merge(self, one: Array, other: Array) -> Array:
        """Return the total of two parts from their totals."""
        return one + other

    def value(self, total: Any, weight: float) -> float:
        """Return the metric from the total of an epoch, on the host, and its weight Σ_i w_i."""
        return float(total) / weight

    def check(self, y: Array, shape: tuple[int, ...]) -> None:
        """Refuse targets that this metric can't compare with outputs of this shape."""

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return arguments(self)


def name_of(metric: "str | Metric") -> str:
    """Return the key of a metric in a history: its name, or that of its class in words."""
    return metric if isinstance(metric, str) else _own_name(metric)


def _own_name(metric: Metric) -> str:
    """Return the own name of a metric or a function, or the name of its class in words."""
    words = re.findall("[A-Z][a-z0-9]*", type(metric).__name__)
    own = getattr(metric, "history_key", None) or getattr(metric, "__name__", None)
    return own or "_".join(words).lower() or type(metric).__name__
