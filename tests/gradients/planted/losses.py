"""Bugs of the losses: factors, signs, classes off by one, exponentials that overflow.

Each is planted in a loss, in a formula, or in the pairing with the last layer.
"""

from functools import partial

import numpy as np
from gradients import loss_checks, mean_checks, network_checks
from gradients.planting import Bug, put, through

import minigd as gd
from minigd import formulas

mse3 = "mse, three outputs"
examples = mean_checks.network_is_the_mean_of_examples


def changed(loss, change, method="gradient"):
    """Return how to plant ``change(self, right, z, y)`` in place of a loss's method."""
    right = getattr(loss, method)

    def wrong(self, z, y):
        return change(self, right(self, z, y), z, y)

    return put(loss, method, wrong)


def gradient_by(name, output=None):
    """Return the checks of one loss's gradient: both methods, and through a network."""
    one = (
        partial(loss_checks.loss_gradient, name),
        partial(loss_checks.loss_gradient, name, "central"),
    )
    return one if output is None else (*one, through(output, name))


def times_k(self, right, z, y):
    return right * z.shape[1]


def over_n(self, right, z, y):
    return right / len(z)


def minus(self, right, z, y):
    return -right


def next_class(self, right, z, y):
    return formulas.softmax(z) - np.roll(self._one_hot(y, z) if y.ndim == 1 else y, 1, axis=1)


def value_of_next_class(self, right, z, y):
    log_p = formulas.log_softmax(z)
    return -log_p[np.arange(len(z)), (y + 1) % z.shape[1]] if y.ndim == 1 else right


def second_term_added(self, right, z, y):
    return (-(y / z) - (1 - y) / (1 - z)) / z.shape[1]


def softplus_sign(z, y):
    minus_abs_z = np.where(z.real > 0, -z, z)
    return formulas.relu(z) - z * y - np.log1p(np.exp(minus_abs_z))


def softplus_of_abs(z, y):
    abs_z = np.where(z.real > 0, z, -z)
    return formulas.relu(z) - z * y + np.log1p(np.exp(abs_z))


def softplus_overflowing(z, y):
    return np.log1p(np.exp(z)) - z * y


def log_softmax_without_shift(x):
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


def hard_labels(self, right, z, y):
    return formulas.softmax(z) - (self._one_hot(y, z) if y.ndim == 1 else y > 0.5)


def huber_squared(e, *, delta):
    return 0.5 * e * e


def huber_with_a_jump(e, *, delta):
    abs_e = np.where(e.real < 0, -e, e)
    return np.where(abs_e.real <= delta, 0.5 * e * e, delta * abs_e)


def huber_not_clipped(e, *, delta):
    return e


def huber_clipped_above(e, *, delta):
    return np.minimum(e, delta)


def huber_clipped_at_one(e, *, delta):
    return np.clip(e, -1.0, 1.0)


def first_quantile(self, right, z, y):
    return formulas.quantile_backward(z - y, np.full(z.shape[1], self._shares[0])) / z.shape[1]


def all_rivals(self, right, z, y):
    inside = (1 + z - self._true(z, y) > 0) & (y < 0) if z.shape[1] > 1 else right
    return inside - inside.sum(axis=1, keepdims=True) * (y > 0)


def focus_is_constant(z, y, *, gamma, positive, negative):
    p = formulas.sigmoid(z)
    return negative * (1 - y) * p**gamma * p - positive * y * (1 - p) ** gamma * (1 - p)


def alpha_swapped(z, y, *, gamma, positive, negative):
    return right_focal(z, y, gamma=gamma, positive=negative, negative=positive)


right_focal = formulas.focal


def smoothed_by(share):
    """Return how to plant smoothed targets (1 − α) y + share(α, K)."""

    def plant(monkeypatch):
        for loss in (bce, cce):
            right = loss.targets

            def wrong(self, y, z, right=right):
                alpha, self.label_smoothing = self.label_smoothing, 0.0
                y = right(self, y, z)
                self.label_smoothing = alpha
                if not alpha:
                    return y
                rows = self._one_hot(y, z) if y.ndim == 1 else y
                return (1 - alpha) * rows + share(alpha, z.shape[1])

            monkeypatch.setattr(loss, "targets", wrong)

    return plant


def label_taken_back(self, right, z, y):
    if not self.label_smoothing:
        return right
    return formulas.softmax(z) - (y == y.max(axis=1, keepdims=True))


def smoothed_values(*kinds):
    """Return the checks of the values of smoothed losses whose names begin so."""
    return tuple(
        partial(loss_checks.loss_value, name, weighted=weighted)
        for name in loss_checks.LOSSES
        if "smoothed" in name and name.startswith(kinds)
        for weighted in (False, True)
    )


mse, bce, cce = gd.MeanSquaredError, gd.BinaryCrossEntropy, gd.CategoricalCrossEntropy
LOSSES = [
    Bug("mse: 2 missing", changed(mse, lambda s, g, z, y: g / 2), gradient_by(mse3, "tanh")),
    Bug("mse: 1/K missing", changed(mse, times_k), gradient_by(mse3, "dense")),
    Bug("mse: 1/n in the loss too", changed(mse, over_n), gradient_by(mse3, "dense")),
    Bug("mse: sign", changed(mse, minus), gradient_by("mse, flat y", "dense")),
    Bug(
        "mse: value without 1/K",
        changed(mse, times_k, "per_example"),
        (*gradient_by(mse3), partial(loss_checks.loss_value, mse3)),
    ),
    Bug(
        "bce: sign, from logits",
        changed(bce, minus),
        (
            *gradient_by("bce logits, flat labels", "dense"),
            partial(network_checks.network_gradient, "sigmoid", "bce, flat labels"),
            loss_checks.logits_stay_exact_far_out,
        ),
    ),
    Bug(
        "bce: 1/K missing",
        changed(bce, times_k),
        (
            *gradient_by("bce logits, three outputs", "dense"),
            *gradient_by("bce, three outputs", "sigmoid"),
        ),
    ),
    Bug(
        "bce: sign of the second term",
        changed(bce, second_term_added),
        gradient_by("bce, three outputs", "sigmoid"),
    ),
    Bug(
        "bce: softplus subtracted",
        put(formulas, "binary_cross_entropy", softplus_sign),
        (
            *gradient_by("bce logits, soft labels", "dense"),
            partial(loss_checks.loss_value, "bce logits, flat labels"),
        ),
    ),
    Bug(
        "bce: softplus of +|z|",
        put(formulas, "binary_cross_entropy", softplus_of_abs),
        (
            *gradient_by("bce logits, soft labels"),
            partial(loss_checks.loss_value, "bce logits, flat labels"),
            loss_checks.logits_stay_exact_far_out,
        ),
    ),
    Bug(
        "bce: softplus that overflows",
        put(formulas, "binary_cross_entropy", softplus_overflowing),
        (loss_checks.logits_stay_exact_far_out,),
    ),
    Bug(
        "cce: gradient of the next class",
        changed(cce, next_class),
        (
            *gradient_by("cce logits, classes", "dense"),
            *gradient_by("cce logits, soft rows"),
            loss_checks.logits_stay_exact_far_out,
            examples,
        ),
    ),
    Bug(
        "cce: value of the next class",
        changed(cce, value_of_next_class, "per_example"),
        (
            *gradient_by("cce logits, classes", "dense"),
            partial(loss_checks.loss_value, "cce logits, classes"),
        ),
    ),
    Bug(
        "cce: averaged over classes",
        changed(cce, lambda s, g, z, y: g / z.shape[1]),
        (*gradient_by("cce logits, classes", "dense"), *gradient_by("cce, classes", "softmax")),
    ),
    Bug(
        "cce: soft rows taken for hard ones",
        changed(cce, hard_labels),
        gradient_by("cce logits, soft rows", "dense"),
    ),
    Bug(
        "huber: not clipped",
        put(formulas, "huber_backward", huber_not_clipped),
        gradient_by("huber, three outputs", "dense"),
    ),
    Bug(
        "huber: clipped on one side",
        put(formulas, "huber_backward", huber_clipped_above),
        gradient_by("huber, three outputs", "dense"),
    ),
    Bug(
        "huber: clipped at 1 whatever δ is",
        put(formulas, "huber_backward", huber_clipped_at_one),
        gradient_by("huber, narrow", "dense"),
    ),
    Bug(
        "huber: 1/K missing",
        changed(gd.Huber, times_k),
        gradient_by("huber, three outputs", "dense"),
    ),
    Bug(
        "huber: value squared everywhere",
        put(formulas, "huber", huber_squared),
        (
            *gradient_by("huber, three outputs", "dense"),
            partial(loss_checks.loss_value, "huber, three outputs"),
        ),
    ),
    Bug(
        "huber: ½ δ² not taken off",
        put(formulas, "huber", huber_with_a_jump),
        (partial(loss_checks.loss_value, "huber, three outputs"),),
    ),
    Bug(
        "mae: 1/K missing",
        changed(gd.MeanAbsoluteError, times_k),
        gradient_by("mae, three outputs", "dense"),
    ),
    Bug(
        "quantile: q and 1 − q swapped in the gradient",
        put(formulas, "quantile_backward", lambda e, q: np.where(e > 0, q, q - 1)),
        (
            *gradient_by("quantile, three outputs", "dense"),
            *gradient_by("quantiles", "dense"),
        ),
    ),
    Bug(
        "quantile: q and 1 − q swapped in the value",
        put(formulas, "quantile", lambda e, q: np.where(e.real > 0, q * e, (q - 1) * e)),
        (
            *gradient_by("quantiles", "dense"),
            partial(loss_checks.loss_value, "quantiles"),
            partial(loss_checks.loss_value, "quantile, three outputs"),
        ),
    ),
    Bug(
        "quantile: the first quantile for all outputs",
        changed(gd.Quantile, first_quantile),
        gradient_by("quantiles", "dense"),
    ),
    Bug(
        "poisson: exp forgotten in the gradient",
        put(formulas, "poisson_backward", lambda z, y: z - y),
        gradient_by("poisson, three outputs", "dense"),
    ),
    Bug(
        "poisson: y z added",
        put(formulas, "poisson", lambda z, y: np.exp(z) + y * z),
        (
            *gradient_by("poisson, flat y", "dense"),
            partial(loss_checks.loss_value, "poisson, flat y"),
        ),
    ),
    Bug(
        "hinge: margin of 0",
        put(formulas, "hinge", lambda z, s: np.maximum(-s * z, 0)),
        (partial(loss_checks.loss_value, "hinge, flat labels"),),
    ),
    Bug(
        "hinge: slope beyond the margin",
        put(formulas, "hinge_backward", lambda z, s: -s),
        gradient_by("hinge, flat labels"),
    ),
    Bug(
        "hinge: all that violate, and not the best rival",
        changed(gd.Hinge, all_rivals),
        gradient_by("hinge, classes", "dense"),
    ),
    Bug(
        "hinge: the true class is a rival of itself",
        put(gd.Hinge, "_rival", lambda self, z, y: z.max(axis=1, keepdims=True)),
        (partial(loss_checks.loss_value, "hinge, classes"),),
    ),
    Bug(
        "focal: the focus left out of the slope",
        put(formulas, "focal_backward", focus_is_constant),
        gradient_by("focal logits, flat labels", "dense"),
    ),
    Bug(
        "focal: α of the wrong label",
        put(formulas, "focal", alpha_swapped),
        (
            *gradient_by("focal logits, flat labels", "dense"),
            partial(loss_checks.loss_value, "focal logits, flat labels"),
        ),
    ),
    Bug(
        "focal: slope of γ − 1 forgotten",
        changed(gd.Focal, lambda s, g, z, y: g if s.from_logits else g * z),
        gradient_by("focal, flat labels", "sigmoid"),
    ),
    Bug(
        "smoothing: α/K forgotten", smoothed_by(lambda alpha, k: 0.0), smoothed_values("bce", "cce")
    ),
    Bug(
        "smoothing: α and not α/K",
        smoothed_by(lambda alpha, k: alpha),
        smoothed_values("bce", "cce"),
    ),
    Bug(
        "smoothing: shared among the wrong classes alone",
        smoothed_by(lambda alpha, k: alpha / max(k - 1, 1)),
        smoothed_values("cce"),
    ),
    Bug(
        "smoothing: in the value and not in the gradient",
        changed(cce, label_taken_back),
        (
            *gradient_by("cce logits, smoothed", "dense"),
            through("softmax", "cce, smoothed"),
            partial(network_checks.pairing_is_the_chain_rule, "softmax", "cce, smoothed"),
        ),
    ),
    Bug(
        "cce: log-sum-exp without the maximum",
        put(formulas, "log_softmax", log_softmax_without_shift),
        (loss_checks.logits_stay_exact_far_out,),
    ),
]


def softmax_twice(monkeypatch):
    right = gd.Objective.__init__

    def wrong(self, model, loss):
        right(self, model, loss)
        self.layers = model.layers

    monkeypatch.setattr(gd.Objective, "__init__", wrong)


LOSSES.append(
    Bug(
        "last layer paired and run as well",
        softmax_twice,
        (
            partial(network_checks.pairing_is_the_chain_rule, "softmax", "cce, classes"),
            partial(network_checks.pairing_is_the_chain_rule, "sigmoid", "bce, flat labels"),
        ),
    )
)
