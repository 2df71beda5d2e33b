"""The loss of support vector machines: a margin of 1 is enough."""

import numpy as np

from minigd import formulas
from minigd.errors import DataError
from minigd.nn.losses.base import Loss
from minigd.nn.losses.cross_entropy import ClassLoss
from minigd.types import Array


class Hinge(ClassLoss):
    """The hinge loss for classes: 0 for a margin of 1 or more, and linear below.

    One output is a score whose sign is the class. With the sign s_i, −1 for the label 0 and 1 for
    the label 1::

        ℓ_i = max(0, 1 − s_i z_i)                     ∂ℓ_i/∂z_i = −s_i where s_i z_i < 1, else 0

    Several outputs are a score per class, and the true class c_i must lead its best rival
    r_i, the largest of the others, by 1 (Crammer and Singer)::

        ℓ_i = max(0, 1 + z_i,r_i − z_i,c_i)           ∂ℓ_i/∂z_i,r_i = 1, ∂ℓ_i/∂z_i,c_i = −1 where
                                                      ℓ_i > 0, and 0 elsewhere

    Rivals with equal scores share the 1. y are classes of shape (n,) or (n, 1), or one-hot rows of
    shape (n, K). The model ends in Dense. Scores are not probabilities: metrics get 1 for the
    predicted class and 0 for the others, and metrics that rank get the scores.

    Examples
    --------
    >>> import numpy as np
    >>> loss = Hinge()
    >>> float(loss.forward(np.array([[0.5], [-2.0]]), np.array([1, 0])))
    0.25
    >>> loss.backward()
    array([[-1.],
           [ 0.]])
    >>> float(loss.forward(np.array([[1.0, 0.5, 0.0]]), np.array([0])))
    0.5
    >>> loss.backward()
    array([[-1.,  1.,  0.]])

    Source: Crammer and Singer (2001), "On the algorithmic implementation of multiclass kernel-based
    vector machines", Journal of Machine Learning Research 2, section 3.
    """

    from_logits = True

    def targets(self, y: Array, z: Array) -> Array:
        """Return 1 for the true class and −1 for the others, in the shape and dtype of z."""
        one = super().targets(y, z) if y.size == z.size else self._one_hot(y.reshape(-1), z)
        return 2 * one - 1

    def per_example(self, z: Array, y: Array) -> Array:
        """Return ℓ_i."""
        if z.shape[1] == 1:
            return self.backend_of(z).compute(formulas.hinge, z, y)[:, 0]
        return np.maximum(1 + self._rival(z, y) - self._true(z, y), 0)[:, 0]

    def gradient(self, z: Array, y: Array) -> Array:
        """Return ∂ℓ_i/∂z_ik."""
        if z.shape[1] == 1:
            return self.backend_of(z).compute(formulas.hinge_backward, z, y)
        rival = self._rival(z, y)
        rivals = ((z == rival) & (y < 0)).astype(z.dtype)
        inside = (1 + rival - self._true(z, y) > 0).astype(z.dtype)
        return inside * (rivals / rivals.sum(axis=1, keepdims=True) - (y + 1) / 2)

    def check_shape(self, y: Array, shape: tuple[int, ...]) -> None:
        """Refuse targets that are neither labels nor one-hot rows for outputs of this shape."""
        (Loss if shape[1] == 1 else ClassLoss).check_shape(self, y, shape)

    def check_values(self, y: Array, shape: tuple[int, ...]) -> None:
        """Refuse labels and rows with other numbers than 0 and 1, and classes out of range."""
        if y.size != shape[0] * shape[1]:
            super().check_values(y, shape)
            return
        Loss.check_values(self, y, shape)
        if bool(((y != 0) & (y != 1)).any()):
            raise DataError(
                f"Hinge takes labels 0 and 1, and y holds {float(y.min()):g} to "
                f"{float(y.max()):g}: encode the two classes as 0 and 1"
            )
        if shape[1] > 1:
            super().check_values(y, shape)

    def probabilities(self, z: Array) -> Array:
        """Return 1 for the predicted class, and 0 for the others."""
        if z.shape[1] == 1:
            return (z > 0).astype(z.dtype)
        return self._one_hot(z.argmax(axis=1), z)

    def scores(self, z: Array) -> Array:
        """Return z."""
        return z

    def _rival(self, z: Array, y: Array) -> Array:
        """Return the largest score of a class that is not the true one, of shape (n, 1)."""
        return np.where(y > 0, -np.inf, z).max(axis=1, keepdims=True)

    def _true(self, z: Array, y: Array) -> Array:
        """Return the score of the true class, of shape (n, 1)."""
        return np.where(y > 0, z, -np.inf).max(axis=1, keepdims=True)
