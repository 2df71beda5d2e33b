"""Layers that bring columns of data to mean 0 and standard deviation 1, and back to their units.

Both take their numbers from one pass over the data, and neither is trained.
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
    """A layer with the mean and the standard deviation of columns of the data."""

    end: int = 0
    """Which of a model's layers it must be: 0, the first, or -1, the last."""

    nonnegative = ("std", "rows")

    _known: tuple[Array, Array] | None = None
    _ready: bool = False

    def build(self, n_in: int) -> int:
        """Declare the buffers ``mean``, ``std`` and ``rows``, which stays 0 until `adapt`."""
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
        """Read all rows once, in order, and take their mean and standard deviation.

        It may be called before the layer is in a model, or after.

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
        """Take the mean and the standard deviation that a pass has found."""
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
        # A constant column has nothing to be divided by; the rounding of its mean is not a spread.
        std = np.sqrt(variance)
        constant = std <= 10 * np.finfo(np.float64).eps * np.abs(mean)
        self._known = mean, np.where(constant, 1.0, std)
        if self.name:
            for name, value in zip(("mean", "std"), self._known, strict=True):
                self.buffers[name][...] = self.backend.asarray(value, dtype=self._dtype)
            # A spread below the smallest number of the dtype counts as none.
            std = self.buffers["std"]
            std[...] = self.backend.xp.where(std == 0, 1, std)
            self.buffers["rows"][...] = 1

    def columns(self, batch: Any) -> Array:
        """Return the columns to adapt to, of shape (n, width)."""
        raise NotImplementedError

    def check_ready(self) -> None:
        """Refuse to work before `adapt`."""
        if not self._ready:
            # Read once and remembered: on a GPU a read makes the host wait.
            self._ready = bool(self.buffers["rows"][0] > 0)
        if not self._ready:
            raise RuntimeError(
                f"{self.name} has no mean and standard deviation yet: call "
                "model.adapt(batches) once before training"
            )


def adapt(layers: Sequence[Adapted], batches: Any, names: list[Any] | None = None) -> None:
    """Read all rows once, in order, and let each layer take what it needs of them.

    A pass that ends early, by an error or by Ctrl-C, changes no layer. Where the model knows the
    names of its columns, those of the rows must be the same.

    Raises
    ------
    DataError, ShapeError
        If the data hold a value that is not finite, or are of another width than a layer.
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
    """A first layer that brings each column of x to mean 0 and standard deviation 1.

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
    """A last layer that gives a regression back its units, y_ik = x_ik σ_k + μ_k.

    μ and σ are those of the targets. In training, `minigd.Objective` leaves the layer out and
    compares its input with the standardized target (y − μ) / σ, so that a learning rate means the
    same whatever the units, and the loss is in those terms; predictions and metrics are in the
    units of y. x, y, dx and dy have shape (n, outputs) and the model's dtype; dx_ik = dy_ik σ_k.
    Targets that this dtype can't tell from each other, such as 1e9 and 1e9 + 1 in float32, it can't
    predict either: they need a model of float64, or a number near them subtracted first.

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
        """Return y as columns; one target serves all outputs, as under several quantiles."""
        if batch.y is None:
            raise DataError("Rescale adapts to targets, but these batches have no targets")
        y: Array = batch.y.reshape(len(batch.y), -1)
        return y.repeat(self.n_in, axis=1) if self.name and y.shape[1] == 1 else y

    def standardize(self, y: Array) -> Array:
        """Return (y − μ) / σ, the target that training sees, for y of shape (n,) or (n, K)."""
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
