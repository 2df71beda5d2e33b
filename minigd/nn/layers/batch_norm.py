"""Batch normalization: each column gets mean 0 and variance 1 over each batch."""

import functools

import numpy as np

from minigd.errors import check_epsilon, check_number
from minigd.nn.layers.base import Layer
from minigd.nn.moments import Part, merged, of_columns
from minigd.types import Array


class BatchNorm(Layer):
    """Normalize each column to mean 0 and variance 1 over the batch, then scale and shift it.

    Training, over the n rows of a batch::

        μ_j  = (1/n) Σ_i x_ij             σ²_j = (1/n) Σ_i (x_ij − μ_j)²
        x̂_ij = (x_ij − μ_j) / √(σ²_j + ε)
        y_ij = γ_j x̂_ij + β_j

        dγ_j  = (1/n) Σ_i dy_ij x̂_ij      dβ_j = (1/n) Σ_i dy_ij
        dx_ij = γ_j / √(σ²_j + ε) · (dy_ij − dβ_j − x̂_ij dγ_j)

    Row i of dx is n ∂L/∂x_i. The rows are coupled through μ and σ², and the last two terms are the
    effect of row i on the other rows. Each training pass updates the running statistics, with the
    unbiased variance::

        mean_j     ← m mean_j     + (1 − m) μ_j
        variance_j ← m variance_j + (1 − m) σ²_j n / (n − 1)

    A prediction uses them instead of μ and σ², and changes nothing.

    **A batch of one row**, for example a tail, has no variance, and its output would always be β.
    Therefore it is normalized by the running statistics, as in a prediction. They are constants for
    its gradient and do not change. With a batch size of 1 they never learn the data, and the layer
    is only a scale and a shift.

    **With several processes** (`comm` of `minigd.Trainer`), μ, σ² and the sums in dx are those of
    the whole batch.

    **With** ``trainable = False`` the layer works as in a prediction, as in Keras: a training pass
    is normalized by the running statistics, and they, γ and β do not change.

    x, y, dx and dy have shape (n, width) and the model's dtype. Row weights apply to the loss, and
    not to these statistics. The rounding error of a mean is relative to its size: if the mean of a
    column is a thousand deviations, y is shifted by about 1e-3 in float32, and 1e-12 in float64.

    Parameters
    ----------
    momentum : float, default 0.9
        m, in [0, 1): the weight of the old running statistics at each pass.
    epsilon : float, default 1e-5
        ε, above 0, also in the model's dtype.

    Attributes
    ----------
    params : dict
        ``gamma``, which starts at 1, and ``beta``, at 0, of shape (width,).
    buffers : dict
        ``mean``, which starts at 0, and ``variance``, at 1, of shape (width,).

    Raises
    ------
    ValueError
        If a value is out of range, or epsilon is 0 in the model's dtype.

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

    couples = True
    running = ("mean", "variance")
    nonnegative = ("variance",)

    def __init__(self, momentum: float = 0.9, epsilon: float = 1e-5) -> None:
        self.momentum = check_number("momentum", momentum, 0.0, 1.0)
        self.epsilon = check_number("epsilon", epsilon)
        if self.epsilon == 0:
            raise ValueError("epsilon must be above 0: a constant column has no variance")

    def build(self, n_in: int) -> int:
        """Declare γ and β, and the running statistics."""
        check_epsilon(self.epsilon, self._dtype)
        self.add_param("gamma", (n_in,), "ones")
        self.add_param("beta", (n_in,), "zeros")
        self.add_buffer("mean", (n_in,), "zeros")
        self.add_buffer("variance", (n_in,), "ones")
        return n_in

    def row_squares(self, dy: Array) -> Array:
        """Refuse: a row's loss depends on the other rows, through their mean and variance."""
        raise ValueError(
            f"{self.name} couples the rows of a batch, and no row has a separate gradient: "
            "remove BatchNorm, or train without per_example and clip_rows"
        )

    def forward(self, x: Array, train: bool = False) -> Array:
        """Return y; in training keep x̂, 1 / √(σ² + ε) and μ, and update the running statistics.

        If they are used instead of μ and σ², there is no μ to keep.
        """
        n = len(x)
        xp = self.backend.xp
        mean, variance = self.buffers["mean"], self.buffers["variance"]
        all_rows = self._moments(x) if train and self._is_shared() else None
        if all_rows is None:
            own = [x.mean(axis=0)] if train and n > 1 and not self.is_frozen else []
        else:
            n = all_rows.weight
            own = [all_rows.mean] if n > 1 else []
        x_hat = self.empty("x_hat", x.shape)
        xp.subtract(x, own[0] if own else mean, out=x_hat)
        if own:
            spread = (x_hat * x_hat).mean(axis=0) if all_rows is None else all_rows.squares / n
            mean += (1 - self.momentum) * (own[0] - mean)
            variance += (1 - self.momentum) * (spread * (n / (n - 1)) - variance)
        else:
            spread = variance
        scale = 1 / xp.sqrt(spread + self.epsilon)
        x_hat *= scale
        y = self.empty("y", x.shape)
        xp.multiply(x_hat, self.params["gamma"], out=y)
        y += self.params["beta"]
        if train:
            self.keep(x_hat, scale, *own)
        return y

    def backward(self, dy: Array) -> Array | None:
        """Fill dγ and dβ with means over the batch and return dx."""
        x_hat, scale, *own = self.kept()
        xp = self.backend.xp
        gamma, dgamma, dbeta = self.params["gamma"], self.grads["gamma"], self.grads["beta"]

        if not self._is_shared():
            (dy * x_hat).mean(axis=0, out=dgamma)
            dy.mean(axis=0, out=dbeta)
        else:
            dgamma, dbeta = self._shared_means(dy, x_hat)

        if not self.wants_dx:
            return None
        dx = self.empty("dx", dy.shape)
        if not own:
            xp.multiply(dy, gamma * scale, out=dx)
            return dx
        xp.multiply(x_hat, dgamma, out=dx)
        xp.subtract(dy, dx, out=dx)
        dx -= dbeta
        dx *= gamma * scale
        return dx

    # If several processes share the rows of a batch ------------------------------------------

    def _is_shared(self) -> bool:
        return self.communicator.size > 1 and not self.is_frozen

    def _moments(self, x: Array) -> Part:
        """Return n, μ and n σ² of the rows of all processes. This process may have none."""
        n, width = x.shape
        own = of_columns(x)[1:] if n else (self.backend.zeros((width,), "float64"),) * 2
        sums = [np.array([float(n)]), *map(self.backend.to_numpy, own)]
        parts = self.communicator.gather_rows(np.concatenate(sums))
        total = functools.reduce(
            merged, [Part(row[0], row[1 : 1 + width], row[1 + width :]) for row in parts]
        )
        mean, squares = (self.backend.asarray(a, dtype=x.dtype) for a in total[1:])
        return Part(int(total.weight), mean, squares)

    def _shared_means(self, dy: Array, x_hat: Array) -> tuple[Array, Array]:
        """Fill dγ and dβ with means over the rows here, and return the means over all rows."""
        xp, width = self.backend.xp, dy.shape[1]
        own = xp.stack([(dy * x_hat).sum(axis=0), dy.sum(axis=0)])
        for name, total in zip(("gamma", "beta"), own, strict=True):
            self.grads[name] = total / max(1, len(dy))
        sums = self.backend.to_numpy(own).astype("float64").reshape(-1)
        sums = np.append(sums, float(len(dy)))
        self.communicator.sum(sums)
        means = self.backend.asarray(sums[:-1] / sums[-1], dtype=dy.dtype)
        return means[:width], means[width:]
