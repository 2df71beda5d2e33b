"""Layers that scale columns to mean 0 and standard deviation 1, and back to their units.

Both compute their numbers in one pass over the data. Neither is trained.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from minigd.backends.frames import check_source
from minigd.data.row_weights import counting_rows, take_rows
from minigd.errors import DataError, ShapeError
from minigd.nn.layers.base import Layer
from minigd.nn.moments import Moments
from minigd.progress import with_progress
from minigd.types import Array


class Adapted(Layer):
    """A layer with the mean and the standard deviation of data columns."""

    end: int = 0
    """Its required place in a model: 0, the first, or -1, the last."""

    nonnegative = ("std", "rows")

    _known: tuple[Array, Array] | None = None
    _ready: bool = False

    def build(self, n_in: int) -> int:
        """Declare the buffers ``mean``, ``std`` and ``rows``, which is 0 until `adapt`."""
        self._ready = False
        known = self._known
        if known is not None and known[0].shape != (n_in,):
            raise ValueError(
                f"{type(self).__name__} was adapted to {len(known[0])} columns but has {n_in} "
                "here: adapt it to the same data as the model"
            )
        self.add_buffer("mean", (n_in,), lambda rng, shape: known[0] if known else np.zeros(shape))
        self.add_buffer("std", (n_in,), lambda rng, shape: known[1] if known else np.ones(shape))
        self.add_buffer("rows", (1,), "ones" if known else "zeros")
        return n_in

    def adapt(self, batches: Any) -> None:
        """Read all rows once, in order, and compute mean and standard deviation.

        Call it before the layer is in a model, or after.

        Parameters
        ----------
        batches : Batches

        Raises
        ------
        DataError
            If the data hold a value that is not finite.
        """
        adapt([self], batches)

    def set_moments(self, moments: Moments) -> None:
        """Set the mean and the standard deviation that a pass has computed."""
        mean, variance = _host(moments.mean), _host(moments.variance)
        if self.name and mean.shape != (self.n_in,):
            raise ShapeError(
                f"{self.name} takes {self.n_in} columns, but the data have {len(mean)}"
            )
        if not (np.isfinite(mean).all() and np.isfinite(variance).all()):
            column = int(np.argmin(np.isfinite(mean) & np.isfinite(variance)))
            raise DataError(
                f"{type(self).__name__} can't adapt: column {column} (counted from 0) holds NaN, "
                "infinity, or numbers whose squares are too large"
            )
        # A constant column is not divided: the rounding error of its mean is not a deviation.
        std = np.sqrt(variance)
        constant = std <= 10 * np.finfo(np.float64).eps * np.abs(mean)
        self._known = mean, np.where(constant, 1.0, std)
        if self.name:
            for name, value in zip(("mean", "std"), self._known, strict=True):
                self.buffers[name][...] = self.backend.asarray(value, dtype=self._dtype)
            # A deviation below the smallest number of the dtype counts as 0.
            std = self.buffers["std"]
            std[...] = self.backend.xp.where(std == 0, 1, std)
            self.buffers["rows"][...] = 1

    def columns(self, batch: Any) -> Array:
        """Return the columns to adapt to, of shape (n, width)."""
        raise NotImplementedError

    def check_ready(self) -> None:
        """Refuse to work before `adapt`."""
        if not self._ready:
            # Read once and stored: on a GPU, reading makes the host wait.
            self._ready = bool(self.buffers["rows"][0] > 0)
        if not self._ready:
            raise RuntimeError(
                f"{self.name} has no mean and standard deviation yet: call "
                "model.adapt(batches) once before training"
            )


def adapt(layers: Sequence[Adapted], batches: Any, names: list[Any] | None = None) -> None:
    """Read all rows once, in order, and adapt each layer to them.

    If an error or Ctrl-C ends the pass early, no layer is changed. If the model knows the names of
    its columns, the rows must have the same.

    Raises
    ------
    DataError, ShapeError
        If the data contain a value that is not finite, or have another width than a layer.
    """
    if isinstance(batches, type) or not hasattr(batches, "in_order"):
        raise TypeError(f"adapt takes a Batches, Batches(X, y), and not {type(batches).__name__}")
    check_source(batches.source, names)
    found = [Moments() for _ in layers]
    for batch in with_progress(batches.in_order(), "adapting", batches.source.rows):
        rows = counting_rows(batch.weight)
        for layer, moments in zip(layers, found, strict=True):
            columns = take_rows(layer.columns(batch), rows)
            if len(columns):
                moments.add(columns)
    for layer, moments in zip(layers, found, strict=True):
        layer.set_moments(moments)


class Standardize(Adapted):
    """A first layer that scales each column of x to mean 0 and standard deviation 1.

    ::

        y_ij  = (x_ij − μ_j) / σ_j         μ, σ over the rows that `adapt` saw
        dx_ij = dy_ij / σ_j

    A constant column becomes 0. x, y, dx and dy have shape (n, width) and the model's dtype; μ and
    σ are computed in float64, in one pass.

    Raises
    ------
    RuntimeError
        In `forward`, if `adapt` was not called.

    Examples
    --------
    >>> import numpy as np, minigd as gd
    >>> model = gd.Sequential([gd.Standardize(), gd.Dense(1)], inputs=2)
    >>> X = np.array([[1.0, 10.0], [3.0, 10.0]])
    >>> model.adapt(gd.Batches(X))
    >>> model.layers[0].forward(X.astype("float32"))
    array([[-1.,  0.],
           [ 1.,  0.]], dtype=float32)

    Source: LeCun, Bottou, Orr and Müller (1998), "Efficient BackProp", section 4.3.
    """

    def columns(self, batch: Any) -> Array:
        """Return x."""
        return batch.x

    def forward(self, x: Array, train: bool = False) -> Array:
        """Return y = (x − μ) / σ; nothing is kept."""
        self.check_ready()
        y = self.empty("y", x.shape)
        xp = self.backend.xp
        xp.subtract(x, self.buffers["mean"], out=y)
        y /= self.buffers["std"]
        return y

    def backward(self, dy: Array) -> Array | None:
        """Return dx = dy / σ."""
        return dy / self.buffers["std"]


class Rescale(Adapted):
    """A last layer that converts predictions to the units of y, y_ik = x_ik σ_k + μ_k.

    μ and σ are those of the targets. In training, `minigd.Objective` leaves the layer out and
    compares its input with the standardized target (y − μ) / σ. So a learning rate means the same
    for all units. The loss refers to the standardized target, and predictions and metrics are in
    the units of y. x, y, dx and dy have shape (n, outputs) and the model's dtype; dx_ik = dy_ik
    σ_k. If the dtype can't distinguish targets, such as 1e9 and 1e9 + 1 in float32, it can't
    predict them either. Use a float64 model, or subtract a number near them first.

    Raises
    ------
    RuntimeError
        In `forward`, if `adapt` was not called.

    Examples
    --------
    >>> import numpy as np, minigd as gd
    >>> model = gd.Sequential([gd.Dense(1), gd.Rescale()], inputs=1)
    >>> model.adapt(gd.Batches(np.zeros((2, 1)), np.array([100.0, 300.0])))
    >>> model.predict(np.zeros((1, 1)))
    array([[200.]], dtype=float32)
    """

    end = -1

    def columns(self, batch: Any) -> Array:
        """Return y as columns. One target may be for all outputs, as with several quantiles."""
        if batch.y is None:
            raise DataError("Rescale adapts to targets, but these batches have no targets")
        y: Array = batch.y.reshape(len(batch.y), -1)
        return y.repeat(self.n_in, axis=1) if self.name and y.shape[1] == 1 else y

    def standardize(self, y: Array) -> Array:
        """Return (y − μ) / σ, the target of training, for y of shape (n,) or (n, K)."""
        self.check_ready()
        column = y.reshape(len(y), -1).astype(self._dtype)
        return (column - self.buffers["mean"]) / self.buffers["std"]

    def forward(self, x: Array, train: bool = False) -> Array:
        """Return y = x σ + μ; nothing is kept."""
        self.check_ready()
        return x * self.buffers["std"] + self.buffers["mean"]

    def backward(self, dy: Array) -> Array | None:
        """Return dx = dy σ."""
        return dy * self.buffers["std"]


def _host(x: Any) -> Array:
    return x.get() if hasattr(x, "get") else np.asarray(x)
