"""Bugs in how much a row, a batch and a parameter count: penalties, row weights, windows.

Each is planted where the engine combines gradients.
"""

from functools import partial

import numpy as np
from gradients import loss_checks, network_checks
from gradients import training_checks as t
from gradients.planting import Bug, put, through

import minigd as gd
from minigd import formulas
from minigd.optim.accumulation import Accumulation
from minigd.optim.gradient_transforms import Penalty
from minigd.training.loop import Loop
from minigd.training.rows import RowLoader
from minigd.training.transaction import Transaction

mse3 = "mse, three outputs"

# Penalties ------------------------------------------------------------------------------------


def l1_downhill(p, g, *, l1, l2):
    return g - l1 * np.sign(p) + l2 * p


def l1_of_p(p, g, *, l1, l2):
    return g + l1 * p + l2 * p


def l2_without_the_half(p, g, *, l1, l2):
    return g + l1 * np.sign(p) + 2 * l2 * p


def divided_by_n(monkeypatch):
    forward, add = gd.Sequential.run_forward, Penalty.add_gradient

    def count(self, layers, x, train):
        self.rows = len(x)
        return forward(self, layers, x, train)

    def wrong(self, model):
        add(Penalty(self.l1 / model.rows, self.l2 / model.rows, self.decay_bias), model)

    monkeypatch.setattr(gd.Sequential, "run_forward", count)
    monkeypatch.setattr(Penalty, "add_gradient", wrong)


def on(some):
    """Return how to plant other parameters that a penalty acts on; `some` is a slice of a model."""
    return put(Penalty, "_penalized", lambda self, model: some(model))


def added_for_each_part(monkeypatch):
    right = Transaction._add_part

    def wrong(self, *part):
        self.penalty.add_gradient(self.model)
        return right(self, *part)

    monkeypatch.setattr(Transaction, "_add_part", wrong)


def forgotten_in_a_window(monkeypatch):
    right = Transaction._apply

    def wrong(self, loss):
        if self.accumulate > 1:
            self.penalty = Penalty()
        return right(self, loss)

    monkeypatch.setattr(Transaction, "_apply", wrong)


def penalised(*penalty):
    """Return the checks of a penalty's gradient, by both methods and by its formula."""
    return (
        through("dense", mse3, penalty=penalty),
        through("dense", mse3, method="central", penalty=penalty),
        partial(network_checks.penalty_is_the_formula, *penalty),
    )


formula = network_checks.penalty_is_the_formula
on_biases = partial(formula, decay_bias=True)
PENALTIES = [
    Bug("l1: sign", put(formulas, "penalized", l1_downhill), penalised(0.3, 0.0, False)),
    Bug("l1: p and not its sign", put(formulas, "penalized", l1_of_p), penalised(0.3, 0.7, True)),
    Bug("l2: 2 λ p", put(formulas, "penalized", l2_without_the_half), penalised(0.0, 0.7, False)),
    Bug("penalty divided by n", divided_by_n, (*penalised(0.3, 0.7, False), on_biases)),
    Bug(
        "penalty on biases that nobody asked for",
        on(lambda model: slice(None)),
        (formula, network_checks.penalty_value_is_the_formula),
    ),
    Bug(
        "penalty on weights alone whatever was asked for",
        on(lambda model: slice(0, model.n_weights)),
        (on_biases, partial(network_checks.penalty_value_is_the_formula, decay_bias=True)),
    ),
    Bug(
        "penalty added for each part of a window",
        added_for_each_part,
        (partial(formula, accumulate=3),),
    ),
    Bug(
        "penalty forgotten in a window",
        forgotten_in_a_window,
        (partial(formula, accumulate=3),),
    ),
]

# Weights of rows ------------------------------------------------------------------------------


def gradient_not_weighed(monkeypatch):
    right = gd.Loss.backward

    def wrong(self):
        self._kept = (*self._kept[:2], None)
        return right(self)

    monkeypatch.setattr(gd.Loss, "backward", wrong)


def value_not_weighed(monkeypatch):
    right = gd.Loss.mean

    def wrong(self, z, y, scale=None):
        value = right(self, z, y)
        self._kept = (*self._kept[:2], scale)
        return value

    monkeypatch.setattr(gd.Loss, "mean", wrong)


def divided_by_the_rows(monkeypatch):
    right = gd.Loss.forward

    def wrong(self, z, y, weight=None):
        return right(self, z, y) if weight is None else self.mean(z, y, np.asarray(weight))

    monkeypatch.setattr(gd.Loss, "forward", wrong)


def scaled_by(change):
    """Return how to plant other factors of rows in the trainer; `change` is one of weights."""
    right = RowLoader.weigh

    def wrong(self, x, y, rows, weight):
        found = right(self, x, y, rows, weight)
        return found if weight is None else found._replace(scale=change(weight))

    return put(RowLoader, "weigh", wrong)


def loss_by_rows(monkeypatch):
    right = RowLoader.weigh

    def wrong(self, x, y, rows, weight):
        return right(self, x, y, rows, weight)._replace(total=float(len(x)))

    monkeypatch.setattr(RowLoader, "weigh", wrong)


def weighed(name):
    """Return the checks of one loss's weighted gradient and value."""
    return (
        partial(loss_checks.loss_gradient, name, weighted=True),
        partial(loss_checks.loss_gradient, name, "central", weighted=True),
    )


through_weights = (
    through("dense", mse3, weighted=True),
    through("softmax", "cce, smoothed", weighted=True),
)
step = t.step_is_the_weighted_mean_of_examples
epoch = t.weighted_epoch_is_that_of_repeated_rows
WEIGHTS = [
    Bug(
        "weights forgotten in the gradient",
        gradient_not_weighed,
        (*weighed("huber, three outputs"), *weighed("cce, classes"), *through_weights, step, epoch),
    ),
    Bug(
        "weights forgotten in the value",
        value_not_weighed,
        (
            *weighed("bce logits, soft labels"),
            partial(loss_checks.loss_value, mse3, weighted=True),
            *through_weights,
            step,
            epoch,
        ),
    ),
    Bug(
        "weights divided by n and not by their sum",
        divided_by_the_rows,
        tuple(partial(loss_checks.loss_value, n, weighted=True) for n in loss_checks.LOSSES),
    ),
    Bug(
        "weights of a step not normalised",
        scaled_by(lambda weight: 1.0 * weight),
        (step, epoch),
    ),
    Bug(
        "weights normalised by the largest",
        scaled_by(lambda weight: weight / weight.max()),
        (step, epoch),
    ),
    Bug(
        "rows counted in a weighted epoch's loss",
        loss_by_rows,
        (epoch,),
    ),
]

# Windows of batches ---------------------------------------------------------------------------


def a_part_is_a_part(monkeypatch):
    right = Accumulation.add

    def wrong(self, g, loss, weight):
        return right(self, g, loss, 1.0)

    monkeypatch.setattr(Accumulation, "add", wrong)


def written_times(factor):
    """Return how to plant a window whose gradient comes out larger or smaller by a factor."""
    right = Accumulation.write

    def wrong(self, g):
        loss = right(self, g)
        g *= factor(self)
        return loss

    return put(Accumulation, "write", wrong)


def never_emptied(monkeypatch):
    right = Accumulation.clear

    def wrong(self, *rest):
        held = getattr(self, "_sum", None), getattr(self, "weight", 0.0)
        right(self, *rest)
        self._sum, self.weight = held

    monkeypatch.setattr(Accumulation, "clear", wrong)


window = (t.window_is_one_large_batch, partial(t.window_is_one_large_batch, weighted=True))
WINDOWS = [
    Bug(
        "a window is a mean of means",
        a_part_is_a_part,
        (partial(t.window_is_one_large_batch, 2330), window[1]),
    ),
    Bug(
        "a short window divided as a full one",
        written_times(lambda window: window.batches / window.parts),
        window,
    ),
    Bug(
        "a window summed and not averaged",
        written_times(lambda window: window.weight),
        window,
    ),
    Bug(
        "a short window left out",
        put(Loop, "_finish_window", lambda self, *rest: None),
        window,
    ),
    Bug("a window that keeps the one before", never_emptied, window),
]
