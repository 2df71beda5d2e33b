"""Bugs of the updaters: common wrong versions of momentum and Adam.

Each is planted in a formula or in its constants.
"""

from functools import partial

import numpy as np
from gradients import training_checks as t
from gradients.planting import Bug, put

import minigd as gd
from minigd import formulas


def damped_twice(p, g, v, *, learning_rate, momentum):
    v = momentum * (momentum * v) + g
    return p - learning_rate * v, v


def momentum_twice(p, g, v, *, learning_rate, momentum):
    v = momentum * v + g
    return p - learning_rate * (momentum * v + v), v


def dampened(p, g, v, *, learning_rate, momentum):
    v = momentum * v + (1 - momentum) * g
    return p - learning_rate * v, v


def velocity_not_kept(p, g, v, *, learning_rate, momentum):
    return p - learning_rate * (momentum * v + g), v


def ascend(p, g, *, learning_rate):
    return p + learning_rate * g


def adam_with(m=None, v=None, step=None):
    """Return how to plant an Adam formula with other lines for m, v or the step."""
    m_of = m or (lambda m, g, beta1, beta2: beta1 * m + (1 - beta1) * g)
    v_of = v or (lambda v, g, beta1, beta2: beta2 * v + (1 - beta2) * g * g)
    step_of = step or (lambda m, v, epsilon: m / (np.sqrt(v) + epsilon))

    def adam(p, g, m, v, *, rate, beta1, beta2, epsilon):
        m, v = m_of(m, g, beta1, beta2), v_of(v, g, beta1, beta2)
        return p - rate * step_of(m, v, epsilon), m, v

    return put(formulas, "adam", adam)


def adam_constants(change):
    """Return how to plant ``change(updater, learning_rate)`` after `Adam.formula`."""
    right = gd.Adam.formula

    def formula(self, learning_rate):
        adam, constants = right(self, learning_rate)
        return adam, {**constants, **change(self, learning_rate)}

    return put(gd.Adam, "formula", formula)


def one_step_late(self, learning_rate):
    t = self.step + 1
    first, second = 1 - self.beta1**t, 1 - self.beta2**t
    return {"rate": learning_rate * second**0.5 / first, "epsilon": self.epsilon * second**0.5}


def decay_in_the_gradient(p, g, decayed, m, v, *, decay, rate, beta1, beta2, epsilon):
    g = g + decay / rate * decayed * p
    return formulas.adam(p, g, m, v, rate=rate, beta1=beta1, beta2=beta2, epsilon=epsilon)


def decay_by_the_corrected_rate(p, g, decayed, m, v, *, decay, rate, **constants):
    new, m, v = formulas.adam(p, g, m, v, rate=rate, **constants)
    return new - rate * 0.3 * decayed * p, m, v


def decay_of_the_new(p, g, decayed, m, v, *, decay, **constants):
    new, m, v = formulas.adam(p, g, m, v, **constants)
    return new - decay * decayed * new, m, v


def decayed(some):
    """Return how to plant other parameters that decay; `some` is a slice of a model."""

    def fixed(self, model):
        share = np.zeros_like(model.flat_params)
        share[some(model)] = 1
        return [share]

    return put(gd.AdamW, "fixed", fixed)


def rmsprop_of_the_step_before(p, g, v, *, learning_rate, rho, epsilon):
    return p - learning_rate * g / (np.sqrt(v) + epsilon), rho * v + (1 - rho) * (g * g)


def rmsprop_summed(p, g, v, *, learning_rate, rho, epsilon):
    v = rho * v + g * g
    return p - learning_rate * g / (np.sqrt(v) + epsilon), v


def adagrad_without_root(p, g, v, *, learning_rate, epsilon):
    v = v + g * g
    return p - learning_rate * g / (v + epsilon), v


def adagrad_that_forgets(p, g, v, *, learning_rate, epsilon):
    return p - learning_rate * g / (np.sqrt(g * g) + epsilon), g * g


def moments(p, g, m, v, *, beta1, beta2, rate, **others):
    """Return the first two lines of Adam and its kin."""
    return beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g


def amsgrad_with(largest, divide=lambda v, v_max: v_max):
    """Return how to plant AMSGrad with another maximum, or with another divisor."""

    def amsgrad(p, g, m, v, v_max, *, rate, epsilon, **betas):
        m, new = moments(p, g, m, v, rate=rate, **betas)
        v_max = largest(v_max, new, v)
        return p - rate * m / (np.sqrt(divide(new, v_max)) + epsilon), m, new, v_max

    return put(formulas, "amsgrad", amsgrad)


def nadam_with(step):
    """Return how to plant Nadam with another numerator of its step."""

    def nadam(p, g, m, v, *, epsilon, **constants):
        new, v = moments(p, g, m, v, **constants)
        return p - step(g, m, new, constants) / (np.sqrt(v) + epsilon), new, v

    return put(formulas, "nadam", nadam)


def radam_with(step):
    """Return how to plant RAdam with another step."""

    def radam(p, g, m, v, **constants):
        m, v = moments(p, g, m, v, **constants)
        return p - constants["rate"] * step(m, v, constants["adaptive"], constants["epsilon"]), m, v

    return put(formulas, "radam", radam)


def method(kind, name, other):
    """Return how to plant ``other(right, self, ...)`` in place of a method."""
    right = vars(kind)[name]
    return put(kind, name, lambda self, *given: other(right, self, *given))


def rectified_late(right, self, learning_rate):
    self.step -= 1 if self.step > 1 else 0
    try:
        return right(self, learning_rate)
    finally:
        self.step += 1 if self.step > 1 else 0


def follows(name, scale=1.0):
    return partial(t.updater_follows_its_recurrence, name, scale)


adam = (follows("adam"), t.adam_follows_the_reference)
small = (follows("adam", 1e-8), partial(t.adam_follows_the_reference, 1e-8))
adamw = (follows("adamw"), follows("adamw, biases too"))
amsgrad = (follows("amsgrad"),)
nadam = (follows("nadam"), follows("nadam, other constants"))
radam = (follows("radam"), follows("radam, other constants"))
by_hand = t.trainer_is_the_loop_by_hand
UPDATERS = [
    Bug("momentum damped twice", put(formulas, "momentum", damped_twice),
        (follows("momentum"), by_hand)),
    Bug("momentum applied twice", put(formulas, "momentum", momentum_twice),
        (follows("momentum"), by_hand)),
    Bug("momentum as an average", put(formulas, "momentum", dampened),
        (follows("momentum"), by_hand)),
    Bug("velocity not kept", put(formulas, "momentum", velocity_not_kept),
        (follows("momentum"), by_hand)),
    Bug("nesterov without lookahead", put(formulas, "nesterov", formulas.momentum),
        (follows("nesterov"),)),
    Bug("nesterov with the gradient left out of v", put(formulas, "nesterov", velocity_not_kept),
        (follows("nesterov"),)),
    Bug("sgd uphill", put(formulas, "sgd", ascend), (follows("sgd"),
        partial(by_hand, momentum=0.0))),
    Bug("adam without bias correction",
        adam_constants(lambda u, rate: {"rate": rate, "epsilon": u.epsilon}), adam),
    Bug("adam with epsilon before the correction",
        adam_constants(lambda u, rate: {"epsilon": u.epsilon}), (*adam, *small)),
    Bug("adam with epsilon under the root",
        adam_with(step=lambda m, v, e: m / np.sqrt(v + e * e)), (*adam, *small)),
    Bug("adam's corrections one step late", adam_constants(one_step_late), adam),
    Bug("adam's v from g", adam_with(v=lambda v, g, b1, b2: b2 * v + (1 - b2) * abs(g)), adam),
    Bug("adam's v from m", adam_with(v=lambda v, g, b1, b2: b1 * v + (1 - b1) * g * g), adam),
    Bug("adam's betas exchanged",
        adam_with(lambda m, g, b1, b2: b2 * m + (1 - b2) * g,
                  lambda v, g, b1, b2: b1 * v + (1 - b1) * g * g), adam),
    Bug("adam's m without 1 − β₁", adam_with(m=lambda m, g, b1, b2: b1 * m + g), adam),
    Bug("adamw with the decay in the gradient", put(formulas, "adamw", decay_in_the_gradient),
        adamw),
    Bug("adamw with the decay by Adam's corrected rate",
        put(formulas, "adamw", decay_by_the_corrected_rate), adamw),
    Bug("adamw with the decay behind the step", put(formulas, "adamw", decay_of_the_new), adamw),
    Bug("adamw on biases that nobody asked for",
        decayed(lambda model: slice(None)),
        adamw[:1]),
    Bug("adamw on weights alone whatever was asked for",
        decayed(lambda model: slice(0, model.n_weights)), adamw[1:]),
    Bug("amsgrad that forgets its maximum", amsgrad_with(lambda most, new, old: new), amsgrad),
    Bug("amsgrad of the mean before this step",
        amsgrad_with(lambda most, new, old: np.maximum(most, old)), amsgrad),
    Bug("amsgrad that divides by the mean",
        amsgrad_with(lambda most, new, old: np.maximum(most, new), lambda v, most: v), amsgrad),
    Bug("amsgrad with the minimum",
        amsgrad_with(lambda most, new, old: np.where(most > 0, np.minimum(most, new), new)),
        amsgrad),
    Bug("amsgrad not asked for after all", put(formulas, "amsgrad", lambda p, g, m, v, most, **c:
        (*formulas.adam(p, g, m, v, **c), most)), amsgrad),
    Bug("nadam without looking ahead", nadam_with(lambda g, m, new, c:
        (c["rate"] + c["ahead"]) * new), nadam),
    Bug("nadam with the momentum before this step", nadam_with(lambda g, m, new, c:
        c["rate"] * g + c["ahead"] * m), nadam),
    Bug("nadam with the gradient and the momentum exchanged", nadam_with(lambda g, m, new, c:
        c["ahead"] * g + c["rate"] * new), nadam),
    Bug("nadam's momentum at once", put(gd.Nadam, "mu", lambda self, t: self.beta1), nadam),
    Bug("nadam's momentum one update late",
        method(gd.Nadam, "mu", lambda right, self, t: right(self, t - 1)), nadam),
    Bug("nadam's correction of this momentum alone",
        put(gd.Nadam, "product", lambda self, t: self.mu(t)), nadam),
    Bug("nadam's correction as Adam's",
        put(gd.Nadam, "product", lambda self, t: self.beta1**t), nadam),
    Bug("radam that always adapts", radam_with(lambda m, v, a, e: m / (np.sqrt(v) + 1e-8)),
        radam),
    Bug("radam that never adapts", radam_with(lambda m, v, a, e: m), radam),
    Bug("radam with epsilon under the root",
        radam_with(lambda m, v, a, e: m / np.sqrt(a * v + e * e)),
        (follows("radam", 1e-8), *radam)),
    Bug("radam's root forgotten", radam_with(lambda m, v, a, e: m / (a * v + e)), radam),
    Bug("radam's rectification one update late",
        method(gd.RAdam, "formula", rectified_late), radam),
    Bug("radam's length without its correction", method(gd.RAdam, "lengths",
        lambda right, self: (right(self)[0], min(float(self.step), right(self)[0]))), radam),
    Bug("radam's longest length too long", method(gd.RAdam, "lengths",
        lambda right, self: (right(self)[0] + 1, right(self)[1])), radam),
    Bug("rmsprop by the size before this step", put(formulas, "rmsprop",
        rmsprop_of_the_step_before), (follows("rmsprop"),)),
    Bug("rmsprop without 1 − ρ", put(formulas, "rmsprop", rmsprop_summed), (follows("rmsprop"),)),
    Bug("adagrad's root forgotten", put(formulas, "adagrad", adagrad_without_root),
        (follows("adagrad"),)),
    Bug("adagrad that forgets", put(formulas, "adagrad", adagrad_that_forgets),
        (follows("adagrad"),)),
    Bug("adam's root forgotten", adam_with(step=lambda m, v, e: m / (v + e)), adam),
]  # fmt: skip
