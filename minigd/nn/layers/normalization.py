"""Layers that bring columns to mean 0 and standard deviation 1, and back to their units.

BatchNorm takes its numbers from each batch; Standardize and Rescale from one pass over the data.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from minigd.data.row_weights import counting_rows, take_rows
from minigd.errors import DataError, ShapeError, check_number
from minigd.nn.layers.base import Layer
from minigd.nn.moments import Moments
from minigd.progress import watched
from minigd.types import Array


class BatchNorm(Layer):
    """Each column is brought to mean 0 and variance 1 over the batch, then scaled and shifted.

    Training, over the n rows of a batch::

        μ_j  = (1/n) Σ_i x_ij             σ²_j = (1/n) Σ_i (x_ij − μ_j)²
        x̂_ij = (x_ij − μ_j) / √(σ²_j + ε)
        y_ij = γ_j x̂_ij + β_j

        dγ_j  = (1/n) Σ_i dy_ij x̂_ij      dβ_j = (1/n) Σ_i dy_ij
        dx_ij = γ_j / √(σ²_j + ε) · (dy_ij − dβ_j − x̂_ij dγ_j)

    Row i of dx is n ∂L/∂x_i: the rows are coupled through μ and σ², and the last two terms are what
    the other rows feel of row i. Each training pass moves the running statistics, the variance by
    its unbiased form::

        mean_j     ← m mean_j     + (1 − m) μ_j
        variance_j ← m variance_j + (1 − m) σ²_j n / (n − 1)

    A prediction uses them in the place of μ and σ², and changes nothing.

    **A batch of one row**, as the tail of an epoch can be, has no variance: it would become β
    whatever it holds. In training it is therefore normalised by the running statistics, as in a
    prediction, which are constants to its gradient and stay as they are. With a batch size of 1
    they never learn the data, and the layer is a scale and a shift.

    x, y, dx and dy have shape (n, width) and the model's dtype. Row weights weigh the loss, and not
    these statistics. A mean is rounded to a share of its size: in a column that lies a thousand
    deviations from 0, y is shifted by about 1e-3 in float32, and 1e-12 in float64.

    Parameters
    ----------
    momentum : float, default 0.9
        m, in [0, 1): how much of the running statistics stays at each pass.
    epsilon : float, default 1e-5
        ε, above 0.

    Attributes
    ----------
    params : dict
        ``gamma``, which starts at 1, and ``beta``, at 0, of shape (width,).
    buffers : dict
        ``mean``, which starts at 0, and ``variance``, at 1, of shape (width,).

    Raises
    ------
    ValueError
        If a value is out of range.

    Examples
    --------
    >>> import numpy as np, minigd as gd
    >>> model = gd.Sequential([gd.BatchNorm(momentum=0.5)], inputs=1, dtype="float64")
    >>> model.forward(np.array([[1.0], [3.0]]), train=True).round(4)
    array([[-1.],
           [ 1.]])
    >>> model.backward(np.array([[1.0], [0.0]]), input_gradient=True).round(4) + 0
    array([[0.],
           [0.]])
    >>> model.layers[0].buffers["mean"], model.layers[0].buffers["variance"]
    (array([1.]), array([1.5]))

    Source: Ioffe and Szegedy (2015), "Batch normalization", Algorithms 1 and 2.
    """

    running = ("mean", "variance")

    def __init__(self, momentum: float = 0.9, epsilon: float = 1e-5) -> None:
        self.momentum = check_number("momentum", momentum, 0.0, 1.0)
        self.epsilon = check_number("epsilon", epsilon)
        if self.epsilon == 0:
            raise ValueError("epsilon must be above 0: a constant column has no variance")

    def build(self, n_in: int) -> int:
        """Declare γ and β, and the running statistics."""
        self.add_param("gamma", (n_in,), "ones")
        self.add_param("beta", (n_in,), "zeros")
        self.add_buffer("mean", (n_in,), "zeros")
        self.add_buffer("variance", (n_in,), "ones")
        return n_in

    def row_squares(self, dy: Array) -> Array:
        """Refuse: a row's loss depends on the other rows, through their mean and variance."""
        raise ValueError(
            f"{self.name} couples the rows of a batch, so that no row has a gradient of its own: "
            "leave BatchNorm out, or train without per_example and clip_rows"
        )

    def forward(self, x: Array, train: bool = False) -> Array:
        """Return y; in training keep x̂ and 1 / √(σ² + ε), and move the running statistics."""
        n = len(x)
        xp = self.backend.xp
        mean, variance = self.buffers["mean"], self.buffers["variance"]
        batch = train and n > 1
        x_hat = self.empty("x_hat", x.shape)
        xp.subtract(x, x.mean(axis=0) if batch else mean, out=x_hat)
        if batch:
            spread = (x_hat * x_hat).mean(axis=0)
            mean += (1 - self.momentum) * (x.mean(axis=0) - mean)
            variance += (1 - self.momentum) * (spread * (n / (n - 1)) - variance)
        else:
            spread = variance
        scale = 1 / xp.sqrt(spread + self.epsilon)
        x_hat *= scale
        y = self.empty("y", x.shape)
        xp.multiply(x_hat, self.params["gamma"], out=y)
        y += self.params["beta"]
        if train:
            self.keep(x_hat, scale)
        return y

    def backward(self, dy: Array) -> Array | None:
        """Fill dγ and dβ with means over the batch and return dx."""
        x_hat, scale = self.kept()
        xp = self.backend.xp
        gamma, dgamma, dbeta = self.params["gamma"], self.grads["gamma"], self.grads["beta"]

        (dy * x_hat).mean(axis=0, out=dgamma)
        dy.mean(axis=0, out=dbeta)

        if not self.wants_dx:
            return None
        dx = self.empty("dx", dy.shape)
        if len(dy) == 1:
            xp.multiply(dy, gamma * scale, out=dx)
            return dx
        xp.multiply(x_hat, dgamma, out=dx)
        xp.subtract(dy, dx, out=dx)
        dx -= dbeta
        dx *= gamma * scale
        return dx


class Adapted(Layer):
    """A layer with the mean and the standard deviation of columns of the data."""

    end: int = 0
    """Which of a model's layers it must be: 0, the first, or -1, the last."""

    _known: tuple[Array, Array] | None = None
    _ready: bool = False

    def build(self, n_in: int) -> int:
        """Declare the buffers ``mean``, ``std`` and ``rows``, which stays 0 until `adapt`."""
        self._ready = False
        known = self._known
        if known is not None and known[0].shape != (n_in,):
            raise ValueError(
                f"{type(self).__name__} was adapted to {len(known[0])} columns and is to take "
                f"{n_in}: adapt it to the same data as the model"
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

    def settle(self, moments: Moments) -> None:
        """Take the mean and the standard deviation that a pass has found."""
        mean, variance = _host(moments.mean), _host(moments.variance)
        if self.name and mean.shape != (self.n_in,):
            raise ShapeError(
                f"{self.name} takes {self.n_in} columns, and the data have {len(mean)} to adapt to"
            )
        if not (np.isfinite(mean).all() and np.isfinite(variance).all()):
            column = int(np.argmin(np.isfinite(mean) & np.isfinite(variance)))
            raise DataError(
                f"{type(self).__name__} can't adapt: column {column} (counted from 0) holds NaN, "
                "infinity, or numbers whose squares are too large"
            )
        # A constant column has nothing to be divided by; what its mean was rounded by is no spread.
        std = np.sqrt(variance)
        constant = std <= 10 * np.finfo(np.float64).eps * np.abs(mean)
        self._known = mean, np.where(constant, 1.0, std)
        if self.name:
            for name, value in zip(("mean", "std"), self._known, strict=True):
                self.buffers[name][...] = self.backend.asarray(value, dtype=self._dtype)
            # A spread below the smallest number of the dtype is none there.
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
                f"{self.name} knows no mean and standard deviation yet: call "
                "model.adapt(batches) once before training"
            )


def adapt(layers: Sequence[Adapted], batches: Any) -> None:
    """Read all rows once, in order, and let each layer take what it needs of them.

    A pass that ends early, by an error or by Ctrl-C, changes no layer.

    Raises
    ------
    DataError, ShapeError
        If the data hold a value that is not finite, or are of another width than a layer.
    """
    if not hasattr(batches, "in_order"):
        raise TypeError(f"adapt takes a Batches, Batches(X, y), and not {type(batches).__name__}")
    found = [Moments() for _ in layers]
    for batch in watched(batches.in_order(), "adapting", batches.source.rows):
        rows = counting_rows(batch.weight)
        for layer, moments in zip(layers, found, strict=True):
            columns = take_rows(layer.columns(batch), rows)
            if len(columns):
                moments.add(columns)
    for layer, moments in zip(layers, found, strict=True):
        layer.settle(moments)


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
    compares its input with the standardised target (y − μ) / σ, so that a learning rate means the
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
        """Return y as columns."""
        if batch.y is None:
            raise DataError("Rescale adapts to targets, and these batches have none")
        return batch.y.reshape(len(batch.y), -1)

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
