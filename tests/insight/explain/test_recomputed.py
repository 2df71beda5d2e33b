"""The explanation against plain Python floats: every line of every kind, and planted mistakes.

The step itself is held to the trainer's, so that what is explained is what is trained.
"""

import dataclasses

import numpy as np
import pytest
from budgets import examples
from hypothesis import given
from hypothesis import strategies as st
from oracles.plain_steps import recompute

import minigd as gd
from minigd.insight.explain import Trace, table
from minigd.insight.explain.line import names, shapes
from minigd.nn.layers import LAYERS
from minigd.nn.losses import LOSSES
from minigd.optim.updaters import UPDATERS

ACTIVATIONS = [gd.Tanh, gd.Sigmoid, gd.ReLU, lambda: gd.LeakyReLU(0.2), gd.Softmax, gd.SiLU]
ACTIVATIONS += [lambda: gd.ELU(0.7), gd.GELU, lambda: gd.GELU(True), gd.Softplus]
PROPERTIES = examples(12)


class Shares(gd.Softmax):
    """A Softmax of one's own, which no loss is paired with."""


# name: (loss, last layers for K outputs, targets of n rows)
GOALS = {
    "mse": (lambda: gd.MeanSquaredError(), lambda k: [gd.Dense(k)], "numbers"),
    "mse of probabilities": (lambda: gd.MeanSquaredError(), lambda k: [gd.Sigmoid()], "yes or no"),
    "huber": (lambda: gd.Huber(0.7), lambda k: [gd.Dense(k)], "numbers"),
    "absolute": (lambda: gd.MeanAbsoluteError(), lambda k: [gd.Dense(k)], "numbers"),
    "quantile": (lambda: gd.Quantile(0.3), lambda k: [gd.Dense(k)], "numbers"),
    "quantiles": (
        lambda: gd.Quantile([0.1, 0.6, 0.9]),
        lambda k: [gd.Dense(3), gd.Rescale()],
        "one number",
    ),
    "poisson": (lambda: gd.Poisson(), lambda k: [gd.Dense(k)], "yes or no"),
    "hinge": (lambda: gd.Hinge(), lambda k: [gd.Dense(1)], "one label"),
    "hinge of classes": (lambda: gd.Hinge(), lambda k: [gd.Dense(k + 1)], "classes"),
    "hinge of rows": (lambda: gd.Hinge(), lambda k: [gd.Dense(k + 1)], "one-hot"),
    "focal": (
        lambda: gd.Focal(1.5, from_logits=True),
        lambda k: [gd.Dense(k)],
        "yes or no",
    ),
    "focal paired": (
        lambda: gd.Focal(2.0, None, label_smoothing=0.1),
        lambda k: [gd.Dense(k), gd.Sigmoid()],
        "yes or no",
    ),
    "focal of probabilities": (
        lambda: gd.Focal(0.5, label_smoothing=0.2),
        lambda k: [gd.Dense(k + 1), Shares()],
        "one-hot",
    ),
    "rescaled": (lambda: gd.Huber(1.5), lambda k: [gd.Dense(k), gd.Rescale()], "numbers"),
    "bce": (lambda: gd.BinaryCrossEntropy(from_logits=True), lambda k: [gd.Dense(k)], "yes or no"),
    "bce paired": (
        lambda: gd.BinaryCrossEntropy(label_smoothing=0.1),
        lambda k: [gd.Dense(k), gd.Sigmoid()],
        "yes or no",
    ),
    "bce of probabilities": (
        lambda: gd.BinaryCrossEntropy(label_smoothing=0.2),
        lambda k: [gd.Dense(k + 1), gd.Softmax()],
        "one-hot",
    ),
    "cce": (
        lambda: gd.CategoricalCrossEntropy(from_logits=True),
        lambda k: [gd.Dense(k + 1)],
        "classes",
    ),
    "cce paired": (
        lambda: gd.CategoricalCrossEntropy(label_smoothing=0.1),
        lambda k: [gd.Dense(k + 1), gd.Softmax()],
        "classes",
    ),
    "cce of soft targets": (
        lambda: gd.CategoricalCrossEntropy(from_logits=True),
        lambda k: [gd.Dense(k + 1)],
        "soft",
    ),
    "cce of soft targets, smoothed": (
        lambda: gd.CategoricalCrossEntropy(label_smoothing=0.3),
        lambda k: [gd.Dense(k + 1), gd.Softmax()],
        "soft",
    ),
    "cce of probabilities": (
        lambda: gd.CategoricalCrossEntropy(),
        lambda k: [gd.Dense(k + 1), Shares()],
        "classes",
    ),
}

STEPS = {
    "sgd": lambda: gd.SGD(0.1),
    "momentum": lambda: gd.SGD(0.1, momentum=0.9),
    "nesterov": lambda: gd.SGD(gd.WarmUp(gd.Constant(0.1), updates=5), 0.8, nesterov=True),
    "adam": lambda: gd.Adam(0.01),
    "adam without momentum": lambda: gd.Adam(gd.CosineDecay(0.1, updates=9), beta1=0.0),
    "adamw": lambda: gd.AdamW(0.01, weight_decay=0.1),
    "adamw of all": lambda: gd.AdamW(0.01, decay_bias=True),
    "amsgrad": lambda: gd.Adam(0.01, 0.8, 0.9, amsgrad=True),
    "nadam": lambda: gd.Nadam(0.01),
    "radam": lambda: gd.RAdam(0.01, beta2=0.9),
    "radam by its rule at first": lambda: gd.RAdam(0.01),
    "rmsprop": lambda: gd.RMSprop(0.01),
    "adagrad": lambda: gd.Adagrad(0.05),
}


def targets(kind, n, k, rng):
    """Return n targets of a kind for K outputs."""
    if kind == "numbers":
        y = rng.normal(size=(n, k))
        return y[:, 0] if k == 1 else y
    if kind == "one number":
        return rng.normal(size=n)
    if kind == "one label":
        return rng.integers(0, 2, size=n)
    if kind == "classes":
        return rng.integers(0, k + 1, size=n)
    if kind == "soft":
        y = rng.random(size=(n, k + 1))
        return y / y.sum(axis=1, keepdims=True) * (1 + 1e-4)
    if kind == "one-hot":
        return np.eye(k + 1)[rng.integers(0, k + 1, size=n)]
    return rng.integers(0, 2, size=(n, k))


def network(goal, hidden, k, n_in=2, seed=0, **settings):
    """Return a model for a goal, its parameters all moved off their first values."""
    _, end, _ = GOALS[goal]
    last = end(k) if isinstance(end(k)[0], gd.Dense) else [gd.Dense(k), *end(k)]
    model = gd.Sequential([*hidden, *last], n_in, **{"dtype": "float64", "seed": seed, **settings})
    rng = np.random.default_rng(seed + 1)
    moved = model.backend.to_numpy(model.flat_params) + rng.normal(size=model.flat_params.size) / 4
    model.flat_params = model.backend.asarray(moved, dtype=model.dtype)
    return model


def batch(goal, n, k, n_in=2, seed=0):
    rng = np.random.default_rng(seed + 2)
    return rng.normal(size=(n, n_in)), targets(GOALS[goal][2], n, k, rng)


def adapted(model, x, y):
    if any(isinstance(layer, gd.Standardize | gd.Rescale) for layer in model.layers):
        rng = np.random.default_rng(5)
        numbers = rng.normal(size=(20, *y.shape[1:]))
        model.adapt(gd.Batches(rng.normal(size=(20, x.shape[1])) * 3 + 1, numbers * 2 - 1))
    return model


def everything(goal="mse", k=1, **settings):
    """Return a network with each kind of layer."""
    hidden = [
        gd.Standardize(),
        gd.Dense(3, bias=False),
        gd.BatchNorm(),
        gd.Tanh(),
        gd.Dense(4),
        gd.ReLU(),
        gd.Dropout(0.4),
        gd.Dense(3),
        gd.LeakyReLU(0.1),
        gd.BatchNorm(momentum=0.5, epsilon=0.01),
        gd.Sigmoid(),
        gd.Dense(3),
        gd.LayerNorm(),
        gd.GELU(),
        gd.Residual([gd.Dense(2), gd.LayerNorm(), gd.Residual([gd.Tanh()]), gd.Dense(3)]),
        gd.Dense(3),
        gd.SiLU(),
        gd.Softplus(),
        gd.ELU(0.7),
        gd.GELU(approximate=True),
        gd.Dense(2),
        gd.Softmax(),
    ]
    return network(goal, hidden, k, **settings)


# Every line, recomputed -----------------------------------------------------------------------


@pytest.mark.each
@pytest.mark.parametrize("updater", STEPS)
@pytest.mark.parametrize("goal", GOALS)
def test_every_line_can_be_recomputed_by_hand(goal, updater):
    x, y = batch(goal, 5, 2)
    model, updater = adapted(everything(goal, 2), x, y), STEPS[updater]()
    trace = gd.explain(model, x, y, GOALS[goal][0](), updater)
    # What Dropout draws; and the two lines of a layer of one's own.
    untold = 1 + 2 * (goal in ("cce of probabilities", "focal of probabilities"))
    assert recompute(trace) == len(trace.lines) - untold


@pytest.mark.few
@pytest.mark.parametrize("rows", [1, 2, 7])
@pytest.mark.parametrize("goal", ["mse", "bce paired", "cce paired", "rescaled"])
def test_any_number_of_rows_with_and_without_weights(goal, rows):
    x, y = batch(goal, rows, 1)
    model = adapted(everything(goal), x, y)
    weight = np.random.default_rng(0).random(rows) + 0.1
    loss = GOALS[goal][0]()
    assert recompute(gd.explain(model, x, y, loss, "adam"))
    trace = gd.explain(model, x, y, loss, "adam", sample_weight=weight)
    assert recompute(trace)
    assert "wᵢ" in {line.name for line in trace.given}


@PROPERTIES
@given(st.data())
def test_any_network_loss_and_updater(data):
    draw = data.draw
    goal, step = draw(st.sampled_from(sorted(GOALS))), draw(st.sampled_from(sorted(STEPS)))
    rows, k, n_in, seed = (draw(st.integers(1, high)) for high in (4, 3, 3, 100))
    hidden = [gd.Standardize()] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(0, 3))):
        hidden.append(gd.Dense(draw(st.integers(1, 3)), bias=draw(st.booleans())))
        extras = [gd.BatchNorm, gd.LayerNorm, lambda: gd.Dropout(0.3), *ACTIVATIONS]
        extras.append(lambda: gd.Residual([gd.LayerNorm(), gd.Residual([gd.SiLU()])]))
        hidden += [make() for make in draw(st.lists(st.sampled_from(extras), max_size=2))]
    x, y = batch(goal, rows, k, n_in, seed)
    model = adapted(network(goal, hidden, k, n_in, seed), x, y)
    loss, updater = GOALS[goal][0](), STEPS[step]()
    weight = np.arange(1.0, rows + 1) if draw(st.booleans()) else None
    for _ in range(draw(st.integers(0, 2))):
        by_hand(model, x, y, loss, updater, weight)
    trace = gd.explain(model, x, y, loss, updater, weight)
    recompute(trace)
    by_hand(model, x, y, loss, updater, weight)
    assert_step_is(trace, model)


def by_hand(model, x, y, loss, updater, weight=None):
    """Make one step with the parts of the engine."""
    objective = gd.Objective(model, loss)
    scale = None if weight is None else weight * (len(x) / weight.sum())
    objective.forward(x, y, scale)
    objective.backward()
    updater.update(model)


def assert_step_is(trace, model):
    """Compare gradients and new parameters with those of a model after the real step."""
    lines = [line for line in trace.lines if line.section == "update"]
    new = {line.name: line.value for line in lines}
    grads = {line.name: line.value for line in trace.lines if line.section == "backward"}
    named = {}
    for layer in model.all_layers:
        letter = table.LETTERS.get(type(layer), "o")
        named[letter] = named.get(letter, 0) + 1
        for name in layer.params if type(layer) is not gd.Residual else ():
            own = f"{name}{named[letter]}"
            assert new[own].tolist() == layer.params[name].tolist(), own
            assert grads[f"d{own}"].tolist() == layer.grads[name].tolist(), own


@pytest.mark.parametrize("step", [step for step in STEPS if step != "radam by its rule at first"])
@pytest.mark.parametrize(
    "own",
    [{}, {"rates": {"dense1": 0.1, "dense2.b": 0.0}}, {"decays": {"dense1": 0.2}},
     {"rates": {"dense1": 3.0}, "decays": {"dense1": 0.2, "dense2.b": 0.1}}],
    ids=["alike", "rates", "decays", "both"],
)  # fmt: skip
def test_an_updater_by_layer_is_recomputed_from_its_lines(step, own):
    x, y = batch("mse", 5, 2)
    model = network("mse", [gd.Dense(3), gd.Tanh()], 2, x.shape[1])
    loss, updater = gd.MeanSquaredError(), gd.PerLayer(STEPS[step](), **own)
    by_hand(model, x, y, loss, updater)
    trace = gd.explain(model, x, y, loss, updater)
    recompute(trace)
    assert table.UNKNOWN not in str(trace)
    by_hand(model, x, y, loss, updater)
    assert_step_is(trace, model)
    lines = {line.name: line.formula for line in trace.lines if line.section == "update"}
    assert ("rW1" in lines["W1"]) == ("dense1" in own.get("rates", {}))
    assert ("λW1" in lines["W1"]) == ("dense1" in own.get("decays", {}))
    assert "λb1" not in lines["b1"]


def test_an_updater_of_ones_own_by_layer_has_no_formula():
    class Own(gd.SGD):
        pass

    x, y = batch("mse", 5, 2)
    model = network("mse", [], 2, x.shape[1])
    trace = gd.explain(model, x, y, "mse", gd.PerLayer(Own(0.1), {"dense1": 0.5}))
    assert "PerLayer(W1, dW1)" in str(trace)
    assert table.UNKNOWN in str(trace)


def test_it_is_the_step_that_the_trainer_makes():
    x, y = batch("cce paired", 6, 2)
    model = adapted(everything("cce paired", 2), x, y)
    weight = np.array([1.0, 2.0, 0.0, 0.5, 3.0, 1.0])
    updater = gd.Adam(0.01)
    trainer = gd.Trainer(model, "categorical_crossentropy", updater)
    for _ in range(3):
        trainer.step(x, y, sample_weight=weight)
    trace = gd.explain(model, x, y, "categorical_crossentropy", updater, weight)
    (loss,) = (line.value for line in trace.lines if line.name == "L")
    assert trainer.step(x, y, sample_weight=weight) == loss
    assert_step_is(trace, model)


def test_no_kind_is_forgotten():
    assert set(table.LAYERS) == set(LAYERS.values())
    assert set(table.LOSSES) == set(LOSSES.values())
    assert set(table.UPDATERS) == set(UPDATERS.values())


def test_all_backends_tell_the_same(backend):
    x, y = batch("cce paired", 5, 2)
    model = adapted(everything("cce paired", 2), x, y)
    weight = np.array([1.0, 2.0, 0.0, 0.5, 3.0])
    cpu = gd.explain(model, x, y, "categorical_crossentropy", "adamw", weight)
    moved = model.copy(backend=backend)
    here = backend.asarray
    other = gd.explain(moved, here(x), here(y), "categorical_crossentropy", "adamw", weight)
    recompute(other)
    assert len(other.lines) == len(cpu.lines)
    for a, b in zip([*cpu.given, *cpu.lines], [*other.given, *other.lines], strict=True):
        assert (a.section, a.part, a.name, a.formula) == (b.section, b.part, b.name, b.formula)
        assert (a.operands, a.by_row) == (b.operands, b.by_row)
        assert type(b.value) is np.ndarray
        np.testing.assert_allclose(a.value, b.value, rtol=1e-10, atol=1e-13)


# Planted mistakes -----------------------------------------------------------------------------


def explained(rows=3):
    """Explain the second step of a network in which each W but the last is square."""
    x, y = batch("mse", rows, 1, 3)
    model = network("mse", [gd.Dense(3), gd.Tanh(), gd.Dense(3), gd.Tanh()], 1, 3)
    loss, updater = gd.MeanSquaredError(), gd.SGD(0.1, momentum=0.9)
    by_hand(model, x, y, loss, updater)
    return gd.explain(model, x, y, loss, updater)


def without_mean(self, dy, plain=gd.Dense.backward):
    dx = plain(self, dy)
    self.grads["W"] *= len(dy)
    return dx


def mean_of_the_last_row(self, dy, plain=gd.Dense.backward):
    dx = plain(self, dy)
    self.grads["b"] = dy[-1]
    return dx


def mean_twice(self, dy, plain=gd.Dense.backward):
    return plain(self, dy / len(dy))


def not_transposed(self, dy, plain=gd.Dense.backward):
    dx = plain(self, dy)
    W = self.params["W"]
    return dx if dx is None or W.shape[0] != W.shape[1] else dy @ W


def transposed_gradient(self, dy, plain=gd.Dense.backward):
    dx = plain(self, dy)
    if self.n_in == self.n_out:
        self.grads["W"] = self.grads["W"].T.copy()
    return dx


def bias_forgotten(self, x, train=False, plain=gd.Dense.forward):
    return plain(self, x, train) - self.params["b"]


def slope_of_the_input(self, dy):
    (y,) = self.kept()
    return dy * (1 - y)


def a_little(self, dy, plain=gd.Tanh.backward):
    return plain(self, dy) * (1 + 1e-10)


def sum_over_the_batch(self, z, y, scale=None, plain=gd.MeanSquaredError.mean):
    return plain(self, z, y, scale) * len(z)


def half_the_squares(self, z, y):
    return ((z - y) ** 2).mean(axis=1) / 2


def no_factor_two(self, z, y):
    return (z - y) / z.shape[1]


def another_momentum(self, rate, plain=gd.SGD.formula):
    formula, constants = plain(self, rate)
    return formula, {**constants, "momentum": 0.5}


CODE = [
    (gd.Dense, "backward", without_mean),
    (gd.Dense, "backward", mean_twice),
    (gd.Dense, "backward", mean_of_the_last_row),
    (gd.Dense, "backward", not_transposed),
    (gd.Dense, "backward", transposed_gradient),
    (gd.Dense, "forward", bias_forgotten),
    (gd.Tanh, "backward", slope_of_the_input),
    (gd.Tanh, "backward", a_little),
    (gd.MeanSquaredError, "per_example", half_the_squares),
    (gd.MeanSquaredError, "gradient", no_factor_two),
    (gd.MeanSquaredError, "mean", sum_over_the_batch),
    (gd.SGD, "formula", another_momentum),
]


def test_what_is_right_passes():
    assert recompute(explained()) == len(explained().lines) == 31


@pytest.mark.parametrize(
    ("kind", "method", "wrong"), CODE, ids=[wrong.__name__ for _, _, wrong in CODE]
)
def test_a_mistake_in_the_code_is_caught(kind, method, wrong, monkeypatch):
    monkeypatch.setattr(kind, method, wrong)
    with pytest.raises(AssertionError):
        recompute(explained())


# (what a formula holds, what it holds by mistake)
TEXT = [
    ("x·W1 + b1", "x·W1"),
    ("x·W1 + b1", "W1·x + b1"),
    ("tanh(z1)", "tanh(z1) + a1"),
    ("tanh(z1)", "tanh(z2)"),
    ("xᵀ·dz1 / n", "xᵀ·dz1"),
    ("xᵀ·dz1 / n", "x·dz1 / n"),
    ("xᵀ·dz1 / n", "xᵀ·dz1 / n / n"),
    ("xᵀ·dz1 / n", "dz1ᵀ·x / n"),
    ("Σᵢ dz1 / n", "Σₖ dz1 / n"),
    ("dz2·W2ᵀ", "dz2·W2"),
    ("da1 ⊙ (1 − a1²)", "da1 ⊙ (1 − a1)"),
    ("da1 ⊙ (1 − a1²)", "da1 ⊙ 1 − a1²"),
    ("2·e / K", "2·e / n"),
    ("Σₖ e² / K", "Σᵢ e² / K"),
    ("μ·vW1 + dW1", "μ·vW1 − dW1"),
    ("W1 − η·vW1", "W1 − η·dW1"),
]


def changed(trace, number, **changes):
    """Return a trace with one line changed."""
    lines = list(trace.lines)
    lines[number] = dataclasses.replace(lines[number], **changes)
    return Trace(trace.title, trace.given, lines, trace.rows)


@pytest.mark.parametrize(("right", "wrong"), TEXT)
def test_a_mistake_in_a_formula_is_caught(right, wrong):
    trace = explained()
    (number,) = (i for i, line in enumerate(trace.lines) if line.formula.endswith(f" {right}"))
    line = trace.lines[number]
    formula = line.formula.replace(right, wrong)
    # With the operands and the shapes that the table would have found for it.
    for operands in (line.operands, names(formula.partition(" ")[2])):
        values = {line.name: line.value for line in [*trace.given, *trace.lines]}
        shown = shapes(formula.partition(" ")[2][2:], values)
        with pytest.raises(AssertionError):
            recompute(changed(trace, number, formula=formula, operands=operands, shapes=shown))


def test_a_mistake_in_any_number_is_caught():
    trace = explained()
    for number, line in enumerate(trace.lines):
        with pytest.raises(AssertionError):
            recompute(changed(trace, number, value=line.value * (1 + 1e-11)))


def test_a_mistake_in_operands_or_shapes_is_caught():
    trace = explained()
    with pytest.raises(AssertionError):
        recompute(changed(trace, 0, operands=("x", "W1")))
    with pytest.raises(AssertionError):
        recompute(changed(trace, 0, shapes="(3, 3)·(3, 3) + (1,)"))
