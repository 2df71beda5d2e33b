"""A cross-entropy in which rows that are already right count little."""

import numpy as np

from minigd import formulas
from minigd.errors import check_number, validated
from minigd.nn.losses.cross_entropy import BinaryCrossEntropy
from minigd.types import Array


class Focal(BinaryCrossEntropy):
    """The focal loss of K yes-or-no outputs, averaged over the outputs and the batch.

    It is `BinaryCrossEntropy` with each term multiplied by the probability of the wrong answer to
    the power γ. With p = sigmoid(z) for logits z, or p = z for probabilities, and q = 1 − p::

        ℓ_i = −(1/K) Σ_k [α y_ik q_ik^γ log p_ik + (1 − α) (1 − y_ik) p_ik^γ log q_ik]

        from logits:         ∂ℓ_i/∂z_ik = (1/K) [(1 − α) (1 − y_ik) p_ik^γ (p_ik − γ q_ik log q_ik)
                                                 − α y_ik q_ik^γ (q_ik − γ p_ik log p_ik)]
        from probabilities:  ∂ℓ_i/∂p_ik = that / (p_ik q_ik)

    For several classes, each has a yes-or-no output, as in the paper, and y are one-hot rows. A
    last Sigmoid is left out in training, as for `BinaryCrossEntropy`.

    Parameters
    ----------
    gamma : float, default 2.0
        γ, at least 0. With 0 and ``alpha=None`` it is the cross-entropy.
    alpha : float or None, default 0.25
        α, in [0, 1): the weight of the label 1. That of the label 0 is 1 − α. With None both are 1.
    from_logits : bool, default False
        As for `BinaryCrossEntropy`.
    label_smoothing : float, default 0.0
        As for `BinaryCrossEntropy`.

    Examples
    --------
    >>> import numpy as np
    >>> loss = Focal(from_logits=True)
    >>> round(float(loss.forward(np.array([[0.0], [np.log(3.0)]]), np.array([0, 1]))), 4)
    0.0672
    >>> loss.backward().round(4)
    array([[ 0.2237],
           [-0.0106]])

    Source: Lin, Goyal, Girshick, He and Dollár (2017), "Focal loss for dense object detection",
    equation 5, with the γ and α of section 4.1.
    """

    @validated
    def __init__(
        self,
        gamma: float = 2.0,
        alpha: float | None = 0.25,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(from_logits, label_smoothing)
        self.gamma = check_number("gamma", gamma)
        self.alpha = None if alpha is None else check_number("alpha", alpha, 0.0, 1.0)

    @property
    def constants(self) -> dict[str, float]:
        """The numbers of `formulas.focal`."""
        a = self.alpha
        positive, negative = (1.0, 1.0) if a is None else (a, 1 - a)
        return {"gamma": self.gamma, "positive": positive, "negative": negative}

    def per_example(self, z: Array, y: Array) -> Array:
        """Return ℓ_i."""
        if self.from_logits:
            return self.backend_of(z).compute(formulas.focal, z, y, **self.constants).mean(axis=1)
        yes, no = self._weights(y)
        # A term with weight 0 counts as 0, even if infinite.
        p, q = np.where(y > 0, z, 1), np.where(y < 1, z, 0)
        each = yes * (1 - p) ** self.gamma * np.log(p) + no * q**self.gamma * np.log1p(-q)
        return -each.mean(axis=1)

    def gradient(self, z: Array, y: Array) -> Array:
        """Return ∂ℓ_i/∂z_ik."""
        if self.from_logits:
            compute = self.backend_of(z).compute
            return compute(formulas.focal_backward, z, y, **self.constants) / z.shape[1]
        (yes, no), gamma = self._weights(y), self.gamma
        p, q = np.where(y > 0, z, 0.5), np.where(y < 1, z, 0.5)
        right = _slope(p, 1 - p, np.log(p), gamma)
        wrong = _slope(1 - q, q, np.log1p(-q), gamma)
        return (yes * right - no * wrong) / z.shape[1]

    def _weights(self, y: Array) -> tuple[Array, Array]:
        """Return the weights of log p and of log(1 − p)."""
        constants = self.constants
        return constants["positive"] * y, constants["negative"] * (1 - y)


def _slope(p: Array, q: Array, log_p: Array, gamma: float) -> Array:
    """Return the derivative of −q^γ log p with respect to p, where q = 1 − p."""
    # If q is 0, so is log p, and a negative power would be infinite.
    return gamma * np.where(q > 0, q, 1) ** (gamma - 1) * log_p - q**gamma / p
