"""Bugs of the dense layer: the mean missing or taken twice, transposes, signs, stale arrays.

Each is planted in `Dense.forward` or `Dense.backward`.
"""

from functools import partial

from gradients import layer_checks, mean_checks, network_checks
from gradients import training_checks as t
from gradients.planting import Bug, gradient_of, put

import minigd as gd


def dense(dW=None, db=None, dx=None):
    """Return how to plant a `Dense.backward` with other formulas; each is one of (x, dy, W)."""
    dW = dW or (lambda x, dy, W: x.T @ dy / len(x))
    db = db or (lambda x, dy, W: dy.mean(axis=0))
    dx = dx or (lambda x, dy, W: dy @ W.T)

    def backward(self, dy):
        (x,) = self.kept()
        W = self.params["W"]
        self.grads["W"][...] = dW(x, dy, W)
        self.grads["b"][...] = db(x, dy, W)
        return dx(x, dy, W) if self.wants_dx else None

    return put(gd.Dense, "backward", backward)


def after_dense(change):
    """Return how to plant a `Dense.backward` after which ``change(self, dy, before)`` runs."""
    right = gd.Dense.backward

    def backward(self, dy):
        before = {name: grad.copy() for name, grad in self.grads.items()}
        dx = right(self, dy)
        change(self, dy, before)
        return dx

    return put(gd.Dense, "backward", backward)


def add_to_what_was_there(layer, dy, before):
    for name, grad in layer.grads.items():
        grad += before[name]


def divide_by_the_largest_batch(layer, dy, before):
    layer.largest = max(getattr(layer, "largest", 0), len(dy))
    for grad in layer.grads.values():
        grad *= len(dy) / layer.largest


def skip_all_with_dx(layer, dy, before):
    if not layer.wants_dx:
        for name, grad in layer.grads.items():
            grad[...] = before[name]


def keep_the_x_before(self, x, train=False):
    y = x @ self.params["W"] + self.params["b"]
    if train:
        before = getattr(self, "before", x)
        self.before = x.copy()
        self.keep(before if before.shape == x.shape else x)
    return y


def keep_in_any_pass(self, x, train=False):
    self.keep(x)
    return x @ self.params["W"] + self.params["b"]


def forward_without_b(self, x, train=False):
    if train:
        self.keep(x)
    return x @ self.params["W"]


def scale_x_in_place(self, x, train=False):
    x -= x.mean(axis=1, keepdims=True)
    if train:
        self.keep(x)
    return x @ self.params["W"] + self.params["b"]


square = gradient_of("square dense")
explicit = layer_checks.dense_is_the_explicit_mean
network = partial(network_checks.network_gradient, "dense", "mse, three outputs")
compose = mean_checks.batches_compose_to_the_full_batch
examples = mean_checks.network_is_the_mean_of_examples
make_dense = layer_checks.LAYERS["dense"]

DENSE = [
    Bug(
        "1/n missing in dW",
        dense(dW=lambda x, dy, W: x.T @ dy),
        (*square, explicit, network, compose, examples),
    ),
    Bug(
        "1/n twice in dW",
        dense(dW=lambda x, dy, W: x.T @ dy / len(x) ** 2),
        (*square, explicit, network, compose, examples),
    ),
    Bug(
        "mean over columns and not rows",
        dense(dW=lambda x, dy, W: x.T @ dy / x.shape[1]),
        (*square, explicit, network, examples),
    ),
    Bug("sign of dW", dense(dW=lambda x, dy, W: -x.T @ dy / len(x)), (*square, explicit, network)),
    Bug("sign of db", dense(db=lambda x, dy, W: -dy.mean(axis=0)), (*square, explicit, network)),
    Bug("sign of dx", dense(dx=lambda x, dy, W: -dy @ W.T), (*square, explicit, network)),
    Bug("W not transposed, W square", dense(dx=lambda x, dy, W: dy @ W), (*square, explicit)),
    Bug(
        "dW transposed, W square",
        dense(dW=lambda x, dy, W: dy.T @ x / len(x)),
        (*square, explicit),
    ),
    Bug(
        "db of the first row",
        dense(db=lambda x, dy, W: dy[0]),
        (*square, explicit, network, compose, examples),
    ),
    Bug(
        "db summed",
        dense(db=lambda x, dy, W: dy.sum(axis=0)),
        (*square, explicit, network, compose, examples),
    ),
    Bug("db forgotten", dense(db=lambda x, dy, W: 0.0), (*square, explicit, network, examples)),
    Bug("dx divided by n", dense(dx=lambda x, dy, W: dy @ W.T / len(x)), (*square, network)),
    Bug(
        "dW scaled by W",
        dense(dW=lambda x, dy, W: W * (x.T @ dy) / len(x)),
        (*square, explicit, network),
    ),
    Bug(
        "dW in single precision",
        dense(dW=lambda x, dy, W: (x.T @ dy / len(x)).astype("float32")),
        (square[0], explicit, network, compose, examples),
    ),
    Bug(
        "gradients added to",
        after_dense(add_to_what_was_there),
        (*square, network, partial(layer_checks.layer_writes_its_gradients, make_dense), compose),
    ),
    Bug(
        "tail divided by the full batch's size",
        after_dense(divide_by_the_largest_batch),
        (
            *square,
            partial(layer_checks.layer_treats_batches_alike, make_dense),
            compose,
            t.trainer_gradients_compose,
        ),
    ),
    Bug("dW left out together with dx", after_dense(skip_all_with_dx), (explicit, compose)),
    Bug(
        "x of the forward before",
        put(gd.Dense, "forward", keep_the_x_before),
        (
            partial(layer_checks.layer_uses_the_last_training_batch, make_dense),
            compose,
            t.trainer_gradients_compose,
        ),
    ),
    Bug(
        "x of a forward that was no training pass",
        put(gd.Dense, "forward", keep_in_any_pass),
        (partial(layer_checks.layer_uses_the_last_training_batch, make_dense),),
    ),
    Bug("forward without b", put(gd.Dense, "forward", forward_without_b), (*square, explicit)),
    Bug(
        "x modified in place",
        put(gd.Dense, "forward", scale_x_in_place),
        (*square, partial(layer_checks.layer_leaves_inputs_alone, make_dense)),
    ),
]
