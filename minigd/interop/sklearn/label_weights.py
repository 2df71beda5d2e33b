"""Class weights if each row has several labels: a weight for 0 and for 1 of each label."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from minigd.backends.base import backend_of
from minigd.data.batches import Batches
from minigd.data.row_weights import balance, check_class_weight
from minigd.errors import shown
from minigd.nn.losses import BinaryCrossEntropy, Loss
from minigd.types import Array

Weights = list[list[float]]


class WeightedLabels(BinaryCrossEntropy):
    """The binary cross-entropy with weighted labels, w_k(y) = (1 − y) w_k0 + y w_k1.

    ::

        ℓ_i = −(1/K) Σ_k w_k(y_ik) [y_ik log p_ik + (1 − y_ik) log(1 − p_ik)]

    The weights do not depend on p. Each column of the gradient is thus that of `BinaryCrossEntropy`
    times its weights. It trains an estimator; the model is saved with `unweighted`.

    Parameters
    ----------
    weights : list of [float, float]
        w_k0 and w_k1 of each label.
    from_logits, label_smoothing
        As in `BinaryCrossEntropy`.

    Examples
    --------
    >>> loss = WeightedLabels([[1.0, 5.0], [1.0, 1.0]], from_logits=True)
    >>> z, y = np.zeros((2, 2)), np.array([[1, 0], [0, 1]])
    >>> loss.per_example(z, loss.targets(y, z)).round(4)
    array([2.0794, 0.6931])
    >>> loss.gradient(z, loss.targets(y, z))
    array([[-1.25,  0.25],
           [ 0.25, -0.25]])
    """

    def __init__(
        self, weights: Weights, from_logits: bool = False, label_smoothing: float = 0.0
    ) -> None:
        super().__init__(from_logits, label_smoothing)
        self.weights = weights

    def per_example(self, z: Array, y: Array) -> Array:
        """Return ℓ_i."""
        w, columns = self._of(y), [slice(k, k + 1) for k in range(z.shape[1])]
        terms = [super(WeightedLabels, self).per_example(z[:, k], y[:, k]) for k in columns]
        return sum(w[:, k] * term for k, term in enumerate(terms)) / z.shape[1]

    def gradient(self, z: Array, y: Array) -> Array:
        """Return ∂ℓ_i/∂z_ik."""
        return self._of(y) * super().gradient(z, y)

    def unweighted(self) -> BinaryCrossEntropy:
        """Return the loss without weights."""
        return BinaryCrossEntropy(self.from_logits, self.label_smoothing)

    def _of(self, y: Array) -> Array:
        """Return w_k(y_ik)."""
        w0, w1 = backend_of(y).asarray(np.array(self.weights).T, dtype=y.dtype)
        return w0 + y * (w1 - w0)


def weigh_labels(loss: Loss, weights: Weights | None) -> Loss:
    """Return the loss with weights of labels, if there are any."""
    if weights is None:
        return loss
    if type(loss) is not BinaryCrossEntropy:
        raise ValueError(
            f"class_weight weighs the labels in a binary cross-entropy, but loss is {loss!r}: use "
            "loss='log_loss', or leave class_weight out"
        )
    return WeightedLabels(weights, **loss.config())


def label_weights(given: Any, labels: int, batches: Batches) -> Weights | None:
    """Return the weights of 0 and 1 of each label, from dicts or from how often each occurs."""
    if given is None:
        return None
    if isinstance(given, str):
        tables: Sequence[Mapping[int, float]] = _balanced(labels, batches)
    else:
        if isinstance(given, Mapping) or len(given) != labels:
            raise ValueError(
                f"y has {labels} labels per row, for which class_weight is a list of {labels} "
                f"dicts, [{{0: 1.0, 1: 5.0}}, ...], or 'balanced', not {shown(given)}"
            )
        if "balanced" in given:
            raise ValueError(
                "class_weight holds 'balanced' for one label: give class_weight='balanced' for "
                "all of them, or a dict for each"
            )
        tables = [check_class_weight(one, [0, 1], by_number=False) for one in given]  # type: ignore[misc]
    return [[table.get(0, 1.0), table.get(1, 1.0)] for table in tables]


def _balanced(labels: int, batches: Batches) -> list[Mapping[int, float]]:
    """Return for each label the weights with which its 0 and 1 count the same, in one pass."""
    ones, total = np.zeros(labels), 0.0
    for batch in batches.in_order():
        y = backend_of(batch.y).to_numpy(batch.y)
        weight = np.ones(len(y)) if batch.weight is None else batch.weight
        ones, total = ones + weight @ y, total + float(weight.sum())
    return [balance({0: total - one, 1: one}) for one in ones.tolist()]
