"""From a batch to a step: rows without weight 0, on the model's device and in its dtype."""

from typing import Any, NamedTuple

from minigd.backends.base import backend_of, check_where_free
from minigd.backends.frames import check_names, check_rows_alike, check_source, names_of
from minigd.backends.host_to_device import Staging
from minigd.data.batches import Batch, Batches
from minigd.data.row_weights import check_weights, counting_rows, drop_zero_weights, row_scale
from minigd.data.sources.array import ArraySource
from minigd.data.sources.base import Rows, Source
from minigd.data.tables.precision import check_rounding
from minigd.errors import DataError
from minigd.nn.metrics import Metric
from minigd.nn.objective import Objective
from minigd.types import Array


class WeighedRows(NamedTuple):
    """A batch on the model's backend: rows without weight 0, and their weights."""

    x: Array
    y: Array
    rows: Rows
    weight: Array | None  # float64, of each row
    scale: Array | None  # n w_i / Σ w, in the model's dtype
    total: float  # Σ w, which is n without weights


class RowLoader:
    """Converts rows to the model's backend and dtype, and refuses rows that do not fit.

    Parameters
    ----------
    objective : Objective
    metrics : dict of str to Metric
    """

    def __init__(self, objective: Objective, metrics: dict[str, Metric]) -> None:
        self.objective, self.metrics, self.model = objective, metrics, objective.model
        backend = self.model.backend
        self._staging = None if backend.reads_are_free else Staging(backend.xp)

    def load(self, batch: Batch, source: Source) -> WeighedRows | None:
        """Return the rows of a batch with a weight above 0, or None if there are none."""
        backend = self.model.backend
        x, y, weight, rows = batch.x, batch.y, batch.weight, batch.rows
        if weight is not None:
            assert y is not None
            weight, x, y, rows = drop_zero_weights(weight, x, y, rows)
            if not len(weight):
                return None
        name, places = source.origin("x", rows)
        if not source.checked:
            backend_of(x).check_finite(x, name, places)
            if y is not None:
                backend_of(y).check_finite(y, *source.origin("y", rows))
            self.check(x, y)
        if self._staging is not None:
            x, y = self._stage(self._staging, x, name, places), self._staging("y", y)
        x = self.model.convert(x, name, places)
        y = backend.here(y, "y")
        return self.weigh(x, y, rows, weight)

    def _stage(self, staging: Staging, x: Array, name: str, rows: Rows) -> Array:
        """Copy x to the device."""
        # Fewer bytes to copy, and a number too large for the dtype is found on the host.
        if not self.model.backend.holds(x) and x.dtype.itemsize > self.model.dtype.itemsize:
            x = backend_of(x).convert(x, self.model.dtype, name, rows)
        return staging("x", x)

    def load_arrays(self, x: Any, y: Any, sample_weight: Any = None) -> WeighedRows:
        """Check a batch given as arrays, and return its rows whose weight is not 0."""
        model, objective, backend = self.model, self.objective, self.model.backend
        check_names(names_of(x), model.names, "x")
        check_rows_alike(x, y, sample_weight)
        x, y = backend.here(x, "x"), backend.here(y, "y")
        rows: Rows = slice(0, len(x)) if x.ndim else slice(0, 0)
        weight = None
        if sample_weight is not None:
            objective.check(x, y, values=False)
            weight = check_weights(sample_weight, rows.stop)
            weight, x, y, rows = drop_zero_weights(weight, x, y, rows)
        check_where_free(backend, x, "x", rows)
        x = model.convert(x, "x", rows)
        objective.check(x, y, values=None)
        return self.weigh(x, y, rows, weight)

    def weigh(self, x: Array, y: Array, rows: Rows, weight: Array | None) -> WeighedRows:
        """Return rows of the model's backend with n w_i/Σw for each."""
        if weight is None:
            return WeighedRows(x, y, rows, None, None, float(len(x)))
        backend, total = self.model.backend, float(weight.sum())
        scale = backend.asarray(row_scale(weight), dtype=self.model.dtype)
        return WeighedRows(x, y, rows, backend.asarray(weight), scale, total)

    def check(self, x: Array, y: Array | None) -> None:
        """Refuse rows and targets that do not fit the model, the loss or a metric."""
        self.objective.check(x, y)
        for metric in self.metrics.values():
            metric.check(y, (x.shape[0], self.model.n_out))

    def check_all(self, batches: Batches, names: list[Any] | None = None) -> None:
        """Check rows in memory once, all together; others are checked as they are read.

        The names of columns must be those of the training, or of its first rows.
        """
        source = batches.source
        if source.names is not None:
            check_source(source, names or self.model.names)
        if not isinstance(source, ArraySource):
            self._check_pieces(batches)
            return
        if source.y is None or not batches.weighted:
            self.check(source.x, source.y)
        else:
            weight, y = drop_zero_weights(batches.weight(slice(0, source.rows)), source.y)
            # Of x only the shape is checked: its numbers were checked by the source.
            self.check(source.x[: len(weight)], y)

    def _check_pieces(self, batches: Batches) -> None:
        """Check the rows of a source that has only finite numbers, before they are used."""
        first, pieces = 0, batches.source.chunks() if batches.source.checked else ()
        for x, y in pieces:
            rows = slice(first, first := first + len(x))
            if y is not None and batches.weighted:
                weight, y = drop_zero_weights(batches.weight(rows, y), y)
                x = x[: len(weight)]
            if len(x):
                self.check(x, y)

    def check_training(self, batches: Batches, validation: Batches | None) -> None:
        """Refuse data that do not fit, before anything is trained."""
        source, model = batches.source, self.model
        self.check_all(batches)
        # For a trained model, a piece in which all rows are equal may be right.
        if model.loss is None and isinstance(source, ArraySource):
            weight = batches.weight(slice(0, source.rows)) if batches.weighted else None
            check_rounding(source.x, source.y, model.dtype, counting_rows(weight))
        elif model.loss is None and str(model.dtype) in source.target_problems:
            raise DataError(source.target_problems[str(model.dtype)])
        if validation is not None:
            self.check_all(validation, source.names)
