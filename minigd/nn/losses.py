"""Losses: one number an example, and the gradient of each with respect to that example's output.

The value of a batch is the mean over its rows; the gradient's rows are not divided by n, because
each layer takes the mean of its own parameters' gradients.
"""

import inspect
from typing import Any

import numpy as np

from minigd import formulas
from minigd.backends.base import Backend, backend_of, numbers
from minigd.data.row_weights import check_weights, counting_rows, drop_zero_weights, row_scale
from minigd.errors import DataError, ShapeError, check_number, check_per_example, find_by_name
from minigd.storage import npz as state
from minigd.types import Array


class Loss:
    """A loss; a subclass defines `per_example` and `gradient`, two plain functions of (z, y).

    ``value = forward(z, y)`` is L = (1/n) Σ_i ℓ(z_i, y_i), and row i of ``backward()`` is
    ∂ℓ(z_i, y_i)/∂z_i.
    """

    from_logits: bool = False
    backend: Backend | None = None

    @property
    def takes_probabilities(self) -> bool:
        """Whether z are probabilities, of which an exact 0 or 1 can be an infinite loss."""
        return False

    _kept: tuple[Array, Array, Array | None] | None = None
    _left_out: tuple[Array, int] | None = None

    def per_example(self, z: Array, y: Array) -> Array:
        """Return ℓ_i, of shape (n,), for outputs z of shape (n, K) and targets from `targets`."""
        raise NotImplementedError(f"{type(self).__name__} must define per_example(z, y)")

    def gradient(self, z: Array, y: Array) -> Array:
        """Return ∂ℓ_i/∂z_ik, of shape (n, K); row i is example i's own, not divided by n."""
        raise NotImplementedError(f"{type(self).__name__} must define gradient(z, y)")

    def forward(self, z: Array, y: Array, weight: Array | None = None) -> Any:
        """Return the mean loss of the batch, and keep what `backward` needs.

        With weights w the mean is Σ_i w_i ℓ_i / Σ_i w_i, and row i of dz is scaled by n w_i / Σ w,
        so that the mean over the rows that layers take is the weighted one.

        Parameters
        ----------
        z : Array, shape (n, K)
            What the model gave: predictions, or logits for a loss with ``from_logits=True``.
        y : array-like, shape (n, K), or (n,) where K is 1 or y holds classes
            On the same backend as z.
        weight : array-like, shape (n,), optional
            At least 0, and not all 0; a row of weight 0 adds nothing.

        Returns
        -------
        scalar
            Of z's dtype, on z's backend.

        Raises
        ------
        ShapeError
            If z and y do not fit.
        DataError
            If y holds values that are no targets of this loss, or the loss is infinite because a
            probability is exactly 0 or 1.
        """
        backend = self.backend_of(z)
        z, y = backend.here(z, "z"), backend.here(y, "y")
        if z.ndim != 2:
            raise ShapeError(
                f"{type(self).__name__} takes outputs of shape (n, K), a row an example, and was "
                f"given {z.shape}: reshape it, for one output with z.reshape(-1, 1)"
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
            # Whatever a row of weight 0 holds, nobody computes with it.
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
                f"{type(self).__name__} is infinite: a predicted probability is exactly 0 or 1 "
                "against its label, after rounding. Let the model end in Dense and use "
                f"{type(self).__name__}(from_logits=True), which is exact; Trainer and fit do so "
                "by themselves for a model that ends in Sigmoid or Softmax"
            )
        return value

    def mean(self, z: Array, y: Array, scale: Array | None = None) -> Any:
        """Do what `forward` does with z and y that were checked before; scale_i is n w_i / Σ w."""
        y = self.targets(y, z)
        with np.errstate(divide="ignore", invalid="ignore"):
            each = self.per_example(z, y)
            check_per_example(self, each, len(z))
            self._kept, self._left_out = (z, y, scale), None
            return each.mean() if scale is None else (each * scale).mean()

    def backward(self) -> Array:
        """Return dz, of z's shape; row i is the gradient of example i's own loss.

        Raises
        ------
        RuntimeError
            If there was no `forward`, or it was used already.
        """
        if self._kept is None:
            raise RuntimeError(
                f"{type(self).__name__}: backward was called without a forward before it, or for "
                "the second time"
            )
        (z, y, scale), self._kept = self._kept, None
        dz = self.gradient(z, y)
        if scale is None:
            return dz
        dz = dz * scale[:, None]
        if self._left_out is None:
            return dz
        rows, n = self._left_out
        all_rows = self.backend_of(dz).zeros((n, *dz.shape[1:]), dz.dtype)
        all_rows[rows] = dz * (n / len(rows))
        return all_rows

    def forget(self) -> None:
        """Drop what was kept."""
        self._kept = None

    def targets(self, y: Array, z: Array) -> Array:
        """Return y in the shape and dtype of z; y was checked before."""
        return y.reshape(z.shape).astype(z.real.dtype, copy=False)

    def check(self, y: Array, shape: tuple[int, ...]) -> None:
        """Refuse targets that do not fit outputs of this shape, or hold no targets of this loss.

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
        """Refuse values that are no targets of this loss; a GPU's are read for it."""
        backend_of(y).check_finite(y, "y")

    def check_shape(self, y: Array, shape: tuple[int, ...]) -> None:
        """Refuse targets that do not fit outputs of this shape, or are no numbers."""
        check_rows(y, shape)
        if y.shape != shape and not (shape[1] == 1 and y.shape == shape[:1]):
            raise ShapeError(
                f"y has shape {y.shape} and the outputs have shape {shape}: "
                f"{type(self).__name__} compares them number by number"
                + (", and `(n,)` fits one output only" if y.ndim == 1 else "")
            )
        numbers(y, "y")

    def check_predictions(self, z: Array) -> None:
        """Refuse predictions outside this loss's domain."""

    def probabilities(self, z: Array) -> Array:
        """Return predictions for metrics: z itself, or the probabilities that logits stand for."""
        return z

    def scores(self, z: Array) -> Array:
        """Return numbers in the order of `probabilities` in each column, for metrics that rank."""
        return self.probabilities(z)

    def backend_of(self, z: Array) -> Backend:
        """Return the backend that z lives on."""
        if self.backend is None or not self.backend.holds(z):
            self.backend = backend_of(z)
        return self.backend

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return state.arguments(self)

    def __repr__(self) -> str:
        usual = inspect.signature(type(self)).parameters
        values = {n: v for n, v in self.config().items() if n not in usual or v != usual[n].default}
        return f"{type(self).__name__}({', '.join(f'{n}={v!r}' for n, v in values.items())})"


class MeanSquaredError(Loss):
    """The mean squared error over the K outputs, and over the batch.

    ::

        ℓ_i = (1/K) Σ_k (z_ik − y_ik)²             ∂ℓ_i/∂z_ik = (2/K) (z_ik − y_ik)

    z and y have shape (n, K); y of shape (n,) is a column where K is 1.

    Examples
    --------
    >>> import numpy as np
    >>> loss = MeanSquaredError()
    >>> float(loss.forward(np.array([[1.0], [3.0]]), np.array([0.0, 1.0])))
    2.5
    >>> loss.backward()
    array([[2.],
           [4.]])

    Source: Rumelhart, Hinton and Williams (1986), equation 3, there as a sum of halves.
    """

    def per_example(self, z: Array, y: Array) -> Array:
        """Return ℓ_i."""
        error = z - y
        return (error * error).mean(axis=1)

    def gradient(self, z: Array, y: Array) -> Array:
        """Return ∂ℓ_i/∂z_ik."""
        return (2 / z.shape[1]) * (z - y)


class Huber(Loss):
    """Squared error for small errors and absolute error for large ones, which outliers can't rule.

    With e_ik = z_ik − y_ik::

        ℓ_i = (1/K) Σ_k { ½ e_ik²             where |e_ik| ≤ δ
                        { δ (|e_ik| − ½ δ)    beyond

        ∂ℓ_i/∂z_ik = (1/K) max(−δ, min(e_ik, δ))

    z and y have shape (n, K); y of shape (n,) is a column where K is 1. Under a last Rescale, δ is
    in standard deviations of the target.

    Parameters
    ----------
    delta : float, default 1.0
        δ, above 0.

    Raises
    ------
    ValueError
        If δ is not above 0.

    Examples
    --------
    >>> import numpy as np
    >>> loss = Huber(delta=1.0)
    >>> float(loss.forward(np.array([[0.5], [3.0]]), np.array([0.0, 0.0])))
    1.3125
    >>> loss.backward()
    array([[0.5],
           [1. ]])

    Source: Huber (1964), "Robust estimation of a location parameter", Annals of Mathematical
    Statistics 35(1), section 2.
    """

    def __init__(self, delta: float = 1.0) -> None:
        self.delta = check_number("delta", delta)
        if self.delta == 0:
            raise ValueError("delta must be above 0: at 0 every loss is 0")

    def per_example(self, z: Array, y: Array) -> Array:
        """Return ℓ_i."""
        return self.backend_of(z).compute(formulas.huber, z - y, delta=self.delta).mean(axis=1)

    def gradient(self, z: Array, y: Array) -> Array:
        """Return ∂ℓ_i/∂z_ik."""
        compute = self.backend_of(z).compute
        return compute(formulas.huber_backward, z - y, delta=self.delta) / z.shape[1]


class BinaryCrossEntropy(Loss):
    """The cross-entropy of K yes-or-no outputs, averaged over the outputs and over the batch.

    With p = sigmoid(z) for logits z, or p = z for probabilities::

        ℓ_i = −(1/K) Σ_k [y_ik log p_ik + (1 − y_ik) log(1 − p_ik)]

        from logits:         ∂ℓ_i/∂z_ik = (p_ik − y_ik) / K
                                        = [(1 − y_ik) sigmoid(z_ik) − y_ik sigmoid(−z_ik)] / K
        from probabilities:  ∂ℓ_i/∂p_ik = (p_ik − y_ik) / (K p_ik (1 − p_ik))

    Parameters
    ----------
    from_logits : bool, default False
        True for a model that ends in Dense: finite and exact for any logit. False for
        probabilities, of which an exact 0 or 1 against the label is an infinite loss.
    label_smoothing : float, default 0.0
        α, in [0, 1): the targets become (1 − α) y + ½ α, so that no logit is drawn to infinity.

    Examples
    --------
    >>> import numpy as np
    >>> loss = BinaryCrossEntropy(from_logits=True)
    >>> z, y = np.array([[0.0], [1e4]]), np.array([1, 1])
    >>> round(float(loss.forward(z, y)), 4)
    0.3466
    >>> loss.backward()
    array([[-0.5],
           [ 0. ]])

    Source: Bishop (2006), "Pattern Recognition and Machine Learning", equations 4.90 and 4.91.
    """

    def __init__(self, from_logits: bool = False, label_smoothing: float = 0.0) -> None:
        self.from_logits = from_logits
        self.label_smoothing = check_number("label_smoothing", label_smoothing, 0.0, 1.0)

    @property
    def takes_probabilities(self) -> bool:
        """Whether z are probabilities and not logits."""
        return not self.from_logits

    def targets(self, y: Array, z: Array) -> Array:
        """Return y in the shape and dtype of z, smoothed."""
        y = super().targets(y, z)
        alpha = self.label_smoothing
        return (1 - alpha) * y + 0.5 * alpha if alpha else y

    def per_example(self, z: Array, y: Array) -> Array:
        """Return ℓ_i."""
        if self.from_logits:
            return self.backend_of(z).compute(formulas.binary_cross_entropy, z, y).mean(axis=1)
        # A term whose weight is 0 counts as 0, also where its logarithm is infinite.
        yes = np.where(y > 0, y * np.log(np.where(y > 0, z, 1)), 0)
        no = np.where(y < 1, (1 - y) * np.log1p(np.where(y < 1, -z, 0)), 0)
        return -(yes + no).mean(axis=1)

    def gradient(self, z: Array, y: Array) -> Array:
        """Return ∂ℓ_i/∂z_ik."""
        if self.from_logits:
            compute = self.backend_of(z).compute
            return compute(formulas.binary_cross_entropy_backward, z, y) / z.shape[1]
        yes = np.where(y > 0, y / np.where(y > 0, z, 1), 0)
        no = np.where(y < 1, (1 - y) / np.where(y < 1, 1 - z, 1), 0)
        return (no - yes) / z.shape[1]

    def check_values(self, y: Array, shape: tuple[int, ...]) -> None:
        """Refuse targets outside [0, 1]."""
        super().check_values(y, shape)
        if float(y.min()) < 0 or float(y.max()) > 1:
            raise DataError(
                f"BinaryCrossEntropy takes labels 0 and 1, or probabilities between, and y holds "
                f"{float(y.min()):g} to {float(y.max()):g}: encode the two classes as 0 and 1"
            )

    def check_predictions(self, z: Array) -> None:
        """Refuse probabilities outside [0, 1]."""
        _check_probabilities(self, z)

    def probabilities(self, z: Array) -> Array:
        """Return sigmoid(z) for logits, z for probabilities."""
        return self.backend_of(z).compute(formulas.sigmoid, z) if self.from_logits else z

    def scores(self, z: Array) -> Array:
        """Return z, which for logits are the log-odds log p − log(1 − p)."""
        return z


class CategoricalCrossEntropy(Loss):
    """The cross-entropy of one class out of K, averaged over the batch.

    With p = softmax(z) for logits z, or p = z for probabilities, and y one-hot rows (or classes
    c_i, which stand for one-hot rows)::

        ℓ_i = −Σ_k y_ik log p_ik = −log p_i,c_i

        from logits:         ∂ℓ_i/∂z_ik = p_ik − y_ik
        from probabilities:  ∂ℓ_i/∂p_ik = −y_ik / p_ik

    Parameters
    ----------
    from_logits : bool, default False
        True for a model that ends in Dense: finite and exact for any logits. False for
        probabilities, of which an exact 0 for the true class is an infinite loss.
    label_smoothing : float, default 0.0
        α, in [0, 1): the targets become (1 − α) y + α / K, so that no logit is drawn to infinity
        (Szegedy et al. 2016, "Rethinking the inception architecture", section 7).

    Examples
    --------
    >>> import numpy as np
    >>> loss = CategoricalCrossEntropy(from_logits=True)
    >>> z = np.array([[0.0, 0.0], [0.0, np.log(3.0)]])
    >>> round(float(loss.forward(z, np.array([0, 1]))), 4)
    0.4904
    >>> loss.backward()
    array([[-0.5 ,  0.5 ],
           [ 0.25, -0.25]])

    Source: Bishop (2006), "Pattern Recognition and Machine Learning", equations 4.108 and 4.109.
    """

    def __init__(self, from_logits: bool = False, label_smoothing: float = 0.0) -> None:
        self.from_logits = from_logits
        self.label_smoothing = check_number("label_smoothing", label_smoothing, 0.0, 1.0)

    @property
    def takes_probabilities(self) -> bool:
        """Whether z are probabilities and not logits."""
        return not self.from_logits

    def per_example(self, z: Array, y: Array) -> Array:
        """Return ℓ_i."""
        if self.from_logits:
            log_p = self.backend_of(z).compute(formulas.log_softmax, z)
            return -self._pick(log_p, y) if y.ndim == 1 else -(y * log_p).sum(axis=1)
        if y.ndim == 1:
            return -np.log(self._pick(z, y))
        return -np.where(y > 0, y * np.log(np.where(y > 0, z, 1)), 0).sum(axis=1)

    def gradient(self, z: Array, y: Array) -> Array:
        """Return ∂ℓ_i/∂z_ik."""
        if self.from_logits:
            if y.ndim == 1:
                return self.probabilities(z) - self._one_hot(y, z)
            # Σ_k y_ik is 1 up to the rounding that `check` lets pass.
            return self.probabilities(z) * y.sum(axis=1, keepdims=True) - y
        y = self._one_hot(y, z) if y.ndim == 1 else y
        return -np.where(y > 0, y / np.where(y > 0, z, 1), 0)

    def targets(self, y: Array, z: Array) -> Array:
        """Return classes as int64 of shape (n,), or rows in z's dtype, one-hot or smoothed."""
        if y.shape == z.shape:
            y = y.astype(z.real.dtype, copy=False)
        else:
            y = y.reshape(-1).astype("int64", copy=False)
        if not self.label_smoothing:
            return y
        rows = self._one_hot(y, z) if y.ndim == 1 else y
        return (1 - self.label_smoothing) * rows + self.label_smoothing / z.shape[1]

    def check_shape(self, y: Array, shape: tuple[int, ...]) -> None:
        """Refuse what is neither classes nor one-hot rows for outputs of this shape."""
        check_rows(y, shape)
        classes = shape[1]
        if classes < 2:
            raise ShapeError(
                "CategoricalCrossEntropy needs an output for each class, at least 2, and the model "
                "has 1: end it in Dense(number of classes), or use BinaryCrossEntropy"
            )
        numbers(y, "y")
        if y.shape == shape:
            return
        if y.shape not in (shape[:1], (shape[0], 1)):
            raise ShapeError(
                f"y has shape {y.shape}: CategoricalCrossEntropy takes classes of shape "
                f"({shape[0]},) or one-hot rows of shape {shape}"
            )
        if y.dtype.kind not in "iub":
            raise DataError(
                f"classes must be integers, and y is {y.dtype}: use y.astype(int), or one-hot rows"
            )

    def check_values(self, y: Array, shape: tuple[int, ...]) -> None:
        """Refuse classes that are not among 0 … K − 1, and rows that do not sum to 1."""
        super().check_values(y, shape)
        lowest, highest = y.min(), y.max()
        if y.shape == shape:
            if float(lowest) < 0 or float(abs(y.sum(axis=1) - 1).max()) > 1e-3:
                raise DataError(
                    "y has a column for each class, so that its rows must be one-hot, or "
                    "probabilities that sum to 1, and they are not"
                )
        elif int(lowest) < 0 or int(highest) >= shape[1]:
            raise DataError(
                f"the model has {shape[1]} outputs, for classes 0 to {shape[1] - 1}, and y holds "
                f"{int(lowest if lowest < 0 else highest)}: number the classes from 0, or give the "
                "model more outputs"
            )

    def check_predictions(self, z: Array) -> None:
        """Refuse probabilities outside [0, 1]."""
        _check_probabilities(self, z)

    def probabilities(self, z: Array) -> Array:
        """Return softmax(z) for logits, z for probabilities."""
        return self.backend_of(z).compute(formulas.softmax, z) if self.from_logits else z

    def scores(self, z: Array) -> Array:
        """Return the log-odds log p_ik − log(1 − p_ik) for logits, in float64; else z.

        They are z_ik − log Σ_j≠k exp(z_ij). For the class of the largest logit that sum may be a
        tiny part of the row's, so it is taken apart, shifted by the second largest logit.
        """
        if not self.from_logits:
            return z
        z = z.astype("float64")
        top = z.argmax(axis=1)[:, None] == self.backend_of(z).xp.arange(z.shape[1])
        rest = np.where(top, -np.inf, z)
        first, second = z.max(axis=1, keepdims=True), rest.max(axis=1, keepdims=True)
        e = np.exp(rest - second)
        total = e.sum(axis=1, keepdims=True)
        return z - np.where(
            top,
            second + np.log(total),
            first + np.log1p(np.exp(second - first) * (total - e)),
        )

    def _pick(self, z: Array, classes: Array) -> Array:
        backend = self.backend_of(z)
        xp = backend.xp
        picked = z[xp.arange(len(z)), classes]
        if backend.reads_are_free:
            return picked
        # A GPU's step does not look at labels, and an index out of range wraps around there.
        return xp.where((classes >= 0) & (classes < z.shape[1]), picked, xp.nan)

    def _one_hot(self, y: Array, z: Array) -> Array:
        classes = self.backend_of(z).xp.arange(z.shape[1])
        return (y[:, None] == classes).astype(z.real.dtype)


LOSSES: dict[str, type[Loss]] = {
    "mse": MeanSquaredError,
    "mean_squared_error": MeanSquaredError,
    "huber": Huber,
    "binary_crossentropy": BinaryCrossEntropy,
    "categorical_crossentropy": CategoricalCrossEntropy,
}


def get_loss(which: str | Loss) -> Loss:
    """Return the loss of a name, or the loss given.

    Raises
    ------
    ValueError
        If the name is not known; the message lists the ones that are.

    Examples
    --------
    >>> get_loss("mse")
    MeanSquaredError()
    """
    return which if isinstance(which, Loss) else find_by_name("loss", which, LOSSES)()


def check_rows(y: Array, shape: tuple[int, ...]) -> None:
    """Refuse targets that are not as many as the outputs, and a batch without rows."""
    if shape[0] == 0:
        raise DataError("x has no rows: a mean over no examples is not defined")
    if y.ndim == 0 or len(y) != shape[0]:
        given = "is a single number" if y.ndim == 0 else f"has {len(y)} rows"
        raise ShapeError(f"x has {shape[0]} rows and y {given}: each example needs one target")


def _check_probabilities(loss: Loss, z: Array) -> None:
    if not loss.takes_probabilities:
        return
    lowest, highest = float(z.real.min()), float(z.real.max())
    if lowest < 0 or highest > 1:
        raise DataError(
            f"{type(loss).__name__}() takes probabilities, and the predictions go from "
            f"{lowest:g} to {highest:g}: a model that ends in Dense gives logits, for which there "
            f"is {type(loss).__name__}(from_logits=True)"
        )
