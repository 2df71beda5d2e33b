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
