"""Losses for classes: the cross-entropies, from logits, which is exact, or from probabilities."""

import numpy as np

from minigd import formulas
from minigd.backends.base import numbers
from minigd.errors import DataError, ShapeError, check_number, validated
from minigd.nn.losses.base import Loss, check_rows
from minigd.types import Array


class BinaryCrossEntropy(Loss):
    """The cross-entropy of K yes-or-no outputs, averaged over the outputs and the batch.

    With p = sigmoid(z) for logits z, or p = z for probabilities::

        ℓ_i = −(1/K) Σ_k [y_ik log p_ik + (1 − y_ik) log(1 − p_ik)]

        from logits:         ∂ℓ_i/∂z_ik = (p_ik − y_ik) / K
                                        = [(1 − y_ik) sigmoid(z_ik) − y_ik sigmoid(−z_ik)] / K
        from probabilities:  ∂ℓ_i/∂p_ik = (p_ik − y_ik) / (K p_ik (1 − p_ik))

    Parameters
    ----------
    from_logits : bool, default False
        True for a model that ends in Dense: finite and exact for any logit. False for
        probabilities: an exact 0 or 1 that contradicts the label gives an infinite loss.
    label_smoothing : float, default 0.0
        α, in [0, 1): the targets become (1 − α) y + ½ α, which keeps logits finite.

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

    @validated
    def __init__(self, from_logits: bool = False, label_smoothing: float = 0.0) -> None:
        self.from_logits = bool(from_logits)
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
        return _of_probabilities(z, y)

    def gradient(self, z: Array, y: Array) -> Array:
        """Return ∂ℓ_i/∂z_ik."""
        if self.from_logits:
            compute = self.backend_of(z).compute
            return compute(formulas.binary_cross_entropy_backward, z, y) / z.shape[1]
        return _gradient_of_probabilities(z, y)

    def check_values(self, y: Array, shape: tuple[int, ...]) -> None:
        """Refuse targets outside [0, 1]."""
        super().check_values(y, shape)
        if float(y.min()) < 0 or float(y.max()) > 1:
            raise _not_between_0_and_1(self, y)

    def check_predictions(self, z: Array) -> None:
        """Refuse probabilities outside [0, 1]."""
        _check_probabilities(self, z)

    def probabilities(self, z: Array) -> Array:
        """Return sigmoid(z) for logits, z for probabilities."""
        return self.backend_of(z).compute(formulas.sigmoid, z) if self.from_logits else z

    def scores(self, z: Array) -> Array:
        """Return z, which for logits are the log-odds log p − log(1 − p)."""
        return z


def _not_between_0_and_1(loss: Loss, y: Array) -> DataError:
    return DataError(
        f"{type(loss).__name__} takes labels 0 and 1, or probabilities between, and y holds "
        f"{float(y.min()):g} to {float(y.max()):g}: encode the two classes as 0 and 1"
    )


def _of_probabilities(z: Array, y: Array) -> Array:
    """Return ℓ_i of probabilities. A term with weight 0 counts as 0, even if infinite."""
    yes = np.where(y > 0, y * np.log(np.where(y > 0, z, 1)), 0)
    no = np.where(y < 1, (1 - y) * np.log1p(np.where(y < 1, -z, 0)), 0)
    return -(yes + no).mean(axis=1)


def _gradient_of_probabilities(z: Array, y: Array) -> Array:
    yes = np.where(y > 0, y / np.where(y > 0, z, 1), 0)
    no = np.where(y < 1, (1 - y) / np.where(y < 1, 1 - z, 1), 0)
    return (no - yes) / z.shape[1]


class ClassLoss(Loss):
    """A loss for one class out of K, given as classes or as rows with a column for each class."""

    def check_shape(self, y: Array, shape: tuple[int, ...]) -> None:
        """Refuse targets that are neither classes nor one-hot rows for outputs of this shape."""
        check_rows(y, shape)
        classes = shape[1]
        if classes < 2:
            raise ShapeError(
                f"{type(self).__name__} needs an output for each class, at least 2, and the model "
                "has 1: end it in Dense(number of classes), or use BinaryCrossEntropy"
            )
        numbers(y, "y")
        if y.shape == shape:
            return
        if y.shape not in (shape[:1], (shape[0], 1)):
            raise ShapeError(
                f"y has shape {y.shape}: {type(self).__name__} takes classes of shape "
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
                    "y has a column for each class: each row must be one-hot or probabilities "
                    "that sum to 1, but some are not"
                )
        elif int(lowest) < 0 or int(highest) >= shape[1]:
            raise DataError(
                f"the model has {shape[1]} outputs, for classes 0 to {shape[1] - 1}, and y holds "
                f"{int(lowest if lowest < 0 else highest)}: number the classes from 0, or give the "
                "model more outputs"
            )

    def _one_hot(self, y: Array, z: Array) -> Array:
        classes = self.backend_of(z).xp.arange(z.shape[1])
        return (y[:, None] == classes).astype(z.real.dtype)


class CategoricalCrossEntropy(ClassLoss):
    """The cross-entropy of one class out of K, averaged over the batch.

    With p = softmax(z) for logits z, or p = z for probabilities, and y one-hot rows (or classes
    c_i, which mean one-hot rows)::

        ℓ_i = −Σ_k y_ik log p_ik = −log p_i,c_i

        from logits:         ∂ℓ_i/∂z_ik = p_ik − y_ik
        from probabilities:  ∂ℓ_i/∂p_ik = −y_ik / p_ik

    Parameters
    ----------
    from_logits : bool, default False
        True for a model that ends in Dense: finite and exact for any logits. False for
        probabilities: an exact 0 for the true class gives an infinite loss.
    label_smoothing : float, default 0.0
        α, in [0, 1): the targets become (1 − α) y + α / K, which keeps logits finite (Szegedy et
        al. 2016, "Rethinking the inception architecture", section 7).

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

    @validated
    def __init__(self, from_logits: bool = False, label_smoothing: float = 0.0) -> None:
        self.from_logits = bool(from_logits)
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
            # Σ_k y_ik is 1 up to the rounding that `check` allows.
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

    def check_predictions(self, z: Array) -> None:
        """Refuse probabilities outside [0, 1]."""
        _check_probabilities(self, z)

    def probabilities(self, z: Array) -> Array:
        """Return softmax(z) for logits, z for probabilities."""
        return self.backend_of(z).compute(formulas.softmax, z) if self.from_logits else z

    def scores(self, z: Array) -> Array:
        """Return the log-odds log p_ik − log(1 − p_ik) for logits, in float64; otherwise z.

        They are z_ik − log Σ_j≠k exp(z_ij). For the class of the largest logit that sum may be a
        tiny part of the row's sum, so it is computed separately, shifted by the second largest
        logit.
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
        rows = xp.arange(len(z))
        if backend.reads_are_free:
            return z[rows, classes]
        # A step on a GPU does not check labels, and there an index out of range wraps around.
        known = (classes >= 0) & (classes < z.shape[1])
        return xp.where(known, z[rows, xp.where(known, classes, 0)], xp.nan)


def _check_probabilities(loss: Loss, z: Array) -> None:
    if not loss.takes_probabilities:
        return
    lowest, highest = float(z.real.min()), float(z.real.max())
    if lowest < 0 or highest > 1:
        raise DataError(
            f"{type(loss).__name__}() takes probabilities, and the predictions range from "
            f"{lowest:g} to {highest:g}: if the model ends in Dense, its outputs are logits; "
            f"use {type(loss).__name__}(from_logits=True)"
        )
