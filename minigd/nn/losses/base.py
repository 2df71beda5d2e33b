"""Losses: one number per example, and its gradient with respect to that example's output.

The value of a batch is the mean over its rows. The rows of the gradient are not divided by n,
because each layer takes the mean for its own parameters.
"""

import inspect
from typing import Any

import numpy as np

from minigd.backends.base import Backend, backend_of, numbers
from minigd.data.row_weights import check_weights, counting_rows, drop_zero_weights, row_scale
from minigd.errors import DataError, ShapeError, check_per_example, no_forward
from minigd.storage.describe import arguments
from minigd.types import Array


class Loss:
    """A loss. A subclass defines `per_example` and `gradient`, two plain functions of (z, y).

    ``value = forward(z, y)`` is L = (1/n) Σ_i ℓ(z_i, y_i), and row i of ``backward()`` is
    ∂ℓ(z_i, y_i)/∂z_i.
    """

    from_logits: bool = False
    backend: Backend | None = None

    @property
    def takes_probabilities(self) -> bool:
        """Whether z are probabilities, for which an exact 0 or 1 can give an infinite loss."""
        return False

    _kept: tuple[Array, Array, Array | None] | None = None
    _left_out: tuple[Array, int] | None = None

    def per_example(self, z: Array, y: Array) -> Array:
        """Return ℓ_i, of shape (n,), for outputs z of shape (n, K) and targets from `targets`."""
        raise NotImplementedError(f"{type(self).__name__} must define per_example(z, y)")

    def gradient(self, z: Array, y: Array) -> Array:
        """Return ∂ℓ_i/∂z_ik, of shape (n, K). Row i is example i's own, not divided by n."""
        raise NotImplementedError(f"{type(self).__name__} must define gradient(z, y)")

    def forward(self, z: Array, y: Array, weight: Array | None = None) -> Any:
        """Return the mean loss of the batch, and keep what `backward` needs.

        With weights w the mean is Σ_i w_i ℓ_i / Σ_i w_i, and row i of dz is scaled by n w_i / Σ w.
        Then the mean over rows in the layers is the weighted mean.

        Parameters
        ----------
        z : Array, shape (n, K)
            The model's outputs: predictions, or logits for a loss with ``from_logits=True``.
        y : array-like, shape (n, K), or (n,) where K is 1 or y holds classes
            On the same backend as z.
        weight : array-like, shape (n,), optional
            At least 0, and not all 0. A row of weight 0 adds nothing.

        Returns
        -------
        scalar
            Of z's dtype, on z's backend.

        Raises
        ------
        ShapeError
            If z and y do not fit.
        DataError
            If y contains values that are not valid targets, or the loss is infinite because a
            probability is exactly 0 or 1.
        """
        backend = self.backend_of(z)
        z, y = backend.here(z, "z"), backend.here(y, "y")
        if z.ndim != 2:
            raise ShapeError(
                f"{type(self).__name__} expects outputs of shape (n, K), one row per example, not "
                f"{z.shape}: reshape it, for one output with z.reshape(-1, 1)"
            )
        if z.dtype.kind not in "fc":
            z = backend.asarray(numbers(z, "z"), dtype="float64")
        scale = left_out = None
        if weight is None:
            self.check(y, z.shape)
        else:
            n, weight = len(z), check_weights(weight, len(z))
            check_rows(y, z.shape)
            rows = counting_rows(weight)
            # Rows of weight 0 are not used, so they may contain anything.
            weight, z, y = drop_zero_weights(weight, z, y)
            left_out = (backend.asarray(rows), n) if len(z) < n else None
            self.check(y, z.shape)
            scale = backend.asarray(row_scale(weight), dtype=z.real.dtype)
        self.check_predictions(z)
        value = self.mean(z, y, scale)
        self._left_out = left_out
        if self.takes_probabilities and np.isinf(float(value.real)):
            self.forget()
            raise DataError(
                f"{type(self).__name__} is infinite: after rounding, a predicted probability is "
                "exactly 0 or 1 and the label is the opposite. End the model in Dense and use "
                f"{type(self).__name__}(from_logits=True), which is exact; Trainer and fit do so "
                "automatically for a model that ends in Sigmoid or Softmax"
            )
        return value

    def mean(self, z: Array, y: Array, scale: Array | None = None) -> Any:
        """Do the same as `forward` for z and y that were checked. scale_i is n w_i / Σ w."""
        y = self.targets(y, z)
        with np.errstate(divide="ignore", invalid="ignore"):
            each = self.per_example(z, y)
            check_per_example(self, each, len(z))
            self._kept, self._left_out = (z, y, scale), None
            return each.mean() if scale is None else (each * scale).mean()

    def backward(self) -> Array:
        """Return dz, of z's shape. Row i is the gradient of example i's own loss.

        Raises
        ------
        RuntimeError
            If there was no `forward`, or it was already used.
        """
        if self._kept is None:
            raise no_forward(type(self).__name__, "forward")
        (z, y, scale), self._kept = self._kept, None
        dz = self.gradient(z, y)
        return dz if scale is None else self._put_back(dz * scale[:, None])

    def _put_back(self, dz: Array) -> Array:
        """Insert zeros for rows of weight 0 that a public `forward` left out."""
        if self._left_out is None:
            return dz
        rows, n = self._left_out
        all_rows = self.backend_of(dz).zeros((n, *dz.shape[1:]), dz.dtype)
        all_rows[rows] = dz * (n / len(rows))
        return all_rows

    def forget(self) -> None:
        """Drop the kept arrays."""
        self._kept = None

    def targets(self, y: Array, z: Array) -> Array:
        """Return y in the shape and dtype of z. y was checked before."""
        return y.reshape(z.shape).astype(z.real.dtype, copy=False)

    def check(self, y: Array, shape: tuple[int, ...]) -> None:
        """Refuse targets that do not fit outputs of this shape, or are not valid for this loss.

        Parameters
        ----------
        y : Array
        shape : (n, K)

        Raises
        ------
        ShapeError, DataError
        """
        self.check_shape(y, shape)
        self.check_values(y, shape)

    def check_values(self, y: Array, shape: tuple[int, ...]) -> None:
        """Refuse values that are not valid targets. On a GPU, this reads them."""
        backend_of(y).check_finite(y, "y")

    def check_shape(self, y: Array, shape: tuple[int, ...]) -> None:
        """Refuse targets that do not fit outputs of this shape, or are not numbers."""
        check_rows(y, shape)
        if y.shape != shape and not (shape[1] == 1 and y.shape == shape[:1]):
            raise self._shape_error(y, shape)
        numbers(y, "y")

    def _shape_error(self, y: Array, shape: tuple[int, ...]) -> ShapeError:
        return ShapeError(
            f"y has shape {y.shape} and the outputs have shape {shape}: "
            f"{type(self).__name__} compares them element by element"
            + (", and `(n,)` fits one output only" if y.ndim == 1 else "")
        )

    def check_predictions(self, z: Array) -> None:
        """Refuse predictions outside this loss's domain."""

    def probabilities(self, z: Array) -> Array:
        """Return predictions for metrics: z itself, or the probabilities of logits."""
        return z

    def scores(self, z: Array) -> Array:
        """Return numbers in the order of `probabilities` in each column, for metrics that rank.

        Parameters
        ----------
        z : Array, shape (n, K)
            The model's outputs.

        Returns
        -------
        Array, shape (n, K)
        """
        return self.probabilities(z)

    def backend_of(self, z: Array) -> Backend:
        """Return the backend of z."""
        if self.backend is None or not self.backend.holds(z):
            self.backend = backend_of(z)
        return self.backend

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return arguments(self)

    def __repr__(self) -> str:
        usual = inspect.signature(type(self)).parameters
        values = {n: v for n, v in self.config().items() if n not in usual or v != usual[n].default}
        return f"{type(self).__name__}({', '.join(f'{n}={v!r}' for n, v in values.items())})"


def check_rows(y: Array, shape: tuple[int, ...]) -> None:
    """Refuse targets whose number differs from that of the outputs, and a batch without rows."""
    if shape[0] == 0:
        raise DataError("x has no rows: a mean over no examples is not defined")
    if y.shape[:1] != shape[:1]:
        raise _rows_differ(y, shape[0])


def _rows_differ(y: Array, rows: int) -> ShapeError:
    given = f"has {len(y)} rows" if y.ndim else "is a single number"
    return ShapeError(f"x has {rows} rows and y {given}: each example needs one target")
