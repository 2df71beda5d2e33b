"""Bugs of the activations: wrong derivatives, and writes into arrays of others.

Each is planted in a formula or a method of one layer.
"""

from functools import partial

import numpy as np
from gradients import layer_checks, network_checks
from gradients.planting import Bug, gradient_of, put, through, through_hidden

import minigd as gd
from minigd import formulas
from minigd.nn.layers.activations import Activation


def slope(layer, formula):
    """Return how to plant a `formula_backward` of (y, dy)."""
    return put(layer, "formula_backward", staticmethod(formula))


def bug_in(name, bug, plant, *more):
    """Return a bug of an activation, which its textbook and both methods must see."""
    textbook = partial(layer_checks.activation_is_the_textbooks, name)
    return Bug(f"{name}: {bug}", plant, (*gradient_of(name), textbook, *more))


def exp_without_shift(x):
    e = np.exp(x)
    return e / e.sum(axis=1, keepdims=True)


def softmax_down_the_columns(x):
    e = np.exp(x - x.real.max(axis=0))
    return e / e.sum(axis=0)


def leaky_abs(x, slope):
    return np.where(x.real > 0, x, -slope * x)


def dy_in_place(self, dy):
    (y,) = self.kept()
    dy *= y > 0
    return dy


def x_in_place(self, x, train=False):
    x[...] = self.formula(x)
    if train:
        self.keep(x)
    return x


def in_memory_order(self, dy):
    (y,) = self.kept()
    dx = self.formula_backward(y.ravel(order="K"), dy.ravel(order="K"))
    return dx.reshape(dy.shape)


mse3 = "mse, three outputs"
ACTIVATIONS = [
    bug_in("tanh", "1 − y", slope(gd.Tanh, lambda y, dy: dy * (1 - y)), through("tanh", mse3)),
    bug_in("tanh", "1 + y²", slope(gd.Tanh, lambda y, dy: dy * (1 + y * y)), through("tanh", mse3)),
    bug_in("tanh", "of y again", slope(gd.Tanh, lambda y, dy: dy * (1 - np.tanh(y) ** 2))),
    bug_in(
        "sigmoid", "1 − y", slope(gd.Sigmoid, lambda y, dy: dy * (1 - y)), through("sigmoid", mse3)
    ),
    bug_in("sigmoid", "dy forgotten", slope(gd.Sigmoid, lambda y, dy: y * (1 - y))),
    bug_in("relu", "dy's sign", slope(gd.ReLU, lambda y, dy: dy * (dy > 0)), through("relu", mse3)),
    bug_in("relu", "times y", slope(gd.ReLU, lambda y, dy: dy * y)),
    bug_in(
        "leaky relu",
        "flat below 0",
        slope(gd.LeakyReLU, lambda y, dy, slope: dy * (y > 0)),
        *through_hidden("leaky relu"),
    ),
    bug_in(
        "leaky relu",
        "slopes exchanged",
        slope(gd.LeakyReLU, lambda y, dy, slope: np.where(y > 0, slope * dy, dy)),
        through("leaky relu", mse3),
    ),
    bug_in(
        "leaky relu",
        "dy's sign",
        slope(gd.LeakyReLU, lambda y, dy, slope: np.where(dy > 0, dy, slope * dy)),
        through("leaky relu", mse3),
    ),
    bug_in(
        "steep leaky relu",
        "the slope of another layer",
        slope(gd.LeakyReLU, lambda y, dy, slope: np.where(y > 0, dy, 0.01 * dy)),
    ),
    Bug(
        "leaky relu: |x| below 0",
        put(gd.LeakyReLU, "formula", staticmethod(leaky_abs)),
        (
            *gradient_of("leaky relu"),
            partial(layer_checks.activation_is_the_textbooks, "leaky relu"),
            partial(layer_checks.activation_is_finite_far_out, "leaky relu"),
        ),
    ),
    bug_in(
        "softmax",
        "Jacobian ignored, dx = dy",
        slope(gd.Softmax, lambda y, dy: dy),
        through("softmax", mse3),
        partial(network_checks.pairing_is_the_chain_rule, "softmax", "cce, classes"),
    ),
    bug_in(
        "softmax",
        "diagonal only",
        slope(gd.Softmax, lambda y, dy: dy * y * (1 - y)),
        partial(network_checks.pairing_is_the_chain_rule, "softmax", "cce, classes"),
    ),
    bug_in("softmax", "sum not subtracted", slope(gd.Softmax, lambda y, dy: dy * y)),
    bug_in(
        "softmax",
        "sum over dy and not dy·y",
        slope(gd.Softmax, lambda y, dy: y * (dy - dy.sum(axis=1, keepdims=True))),
    ),
    Bug(
        "softmax: maximum not subtracted",
        put(gd.Softmax, "formula", staticmethod(exp_without_shift)),
        (partial(layer_checks.activation_is_finite_far_out, "softmax"),),
    ),
    Bug(
        "softmax: down the columns",
        put(gd.Softmax, "formula", staticmethod(softmax_down_the_columns)),
        (
            gradient_of("softmax")[0],
            partial(layer_checks.activation_is_the_textbooks, "softmax"),
            partial(layer_checks.layer_treats_batches_alike, gd.Softmax),
        ),
    ),
    bug_in(
        "steep elu",
        "1 in the place of α",
        slope(gd.ELU, lambda y, dy, alpha: np.where(y > 0, dy, dy * (y + 1))),
    ),
    bug_in("elu", "y itself", slope(gd.ELU, lambda y, dy, alpha: np.where(y > 0, dy, dy * y))),
    bug_in(
        "softplus",
        "p (1 − p)",
        slope(gd.Softplus, lambda x, dy: formulas.sigmoid_backward(formulas.sigmoid(x), dy)),
        *through_hidden("softplus"),
    ),
    bug_in(
        "silu",
        "p alone",
        slope(gd.SiLU, lambda x, dy: dy * formulas.sigmoid(x)),
        *through_hidden("silu"),
    ),
    bug_in("silu", "of y and not of x", put(gd.SiLU, "of_input", False)),
    bug_in(
        "gelu",
        "Φ alone",
        slope(gd.GELU, lambda x, dy: dy * formulas.normal_cdf(x)),
        *through_hidden("gelu"),
    ),
    bug_in("gelu", "of the other form", slope(gd.GELU, formulas.gelu_tanh_backward)),
    bug_in("gelu by tanh", "of the other form", slope(gd.GELU, formulas.gelu_backward)),
    Bug(
        "dy modified in place",
        put(gd.ReLU, "backward", dy_in_place),
        (*gradient_of("relu"), partial(layer_checks.layer_leaves_inputs_alone, gd.ReLU)),
    ),
    Bug(
        "y written over x",
        put(Activation, "forward", x_in_place),
        (*gradient_of("tanh"), partial(layer_checks.layer_leaves_inputs_alone, gd.Tanh)),
    ),
    Bug(
        "numbers taken in memory order",
        put(gd.Tanh, "backward", in_memory_order),
        (*gradient_of("tanh"), partial(layer_checks.layer_takes_any_memory_order, gd.Tanh)),
    ),
]
