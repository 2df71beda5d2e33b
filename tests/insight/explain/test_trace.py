"""What an explanation says and shows, what it leaves as it was, and what it refuses."""

import copy
import re

import numpy as np
import pytest
from oracles.plain_steps import recompute

import minigd as gd


def tiny(**settings):
    """Return a network whose numbers can be read."""
    model = gd.Sequential(
        [gd.Dense(2), gd.ReLU(), gd.Dense(1)], 2, **{"dtype": "float64", **settings}
    )
    model.params["dense1.W"][...] = model.backend.asarray([[1.0, 2.0], [3.0, -4.0]])
    model.params["dense2.W"][...] = model.backend.asarray([[0.5], [0.25]])
    return model


X = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [-1.0, 1.0]])
Y = np.array([1.0, 0.0, 1.0, 1.0])


def line(trace, name):
    """Return the last line of a name."""
    return [each for each in trace.lines if each.name == name][-1]


# What it says ---------------------------------------------------------------------------------


def test_the_lines_of_a_tiny_step_in_order():
    trace = gd.explain(tiny(), X, Y, "mse", gd.SGD(0.5))
    assert [(each.section, each.part, each.formula, each.shapes) for each in trace.lines] == [
        ("forward", "dense1", "z1 = x·W1 + b1", "(4, 2)·(2, 2) + (2,)"),
        ("forward", "relu1", "a1 = max(z1, 0)", "max((4, 2), 0)"),
        ("forward", "dense2", "z2 = a1·W2 + b2", "(4, 2)·(2, 1) + (1,)"),
        ("loss", "MeanSquaredError", "e = z2 − y", "(4, 1) − (4, 1)"),
        ("loss", "MeanSquaredError", "ℓᵢ = Σₖ e² / K", "Σₖ (4, 1)² / 1"),
        ("loss", "MeanSquaredError", "L = Σᵢ ℓᵢ / n", "Σᵢ (4,) / 4"),
        ("backward", "MeanSquaredError", "dz2 = 2·e / K", "2·(4, 1) / 1"),
        ("backward", "dense2", "dW2 = a1ᵀ·dz2 / n", "(2, 4)·(4, 1) / 4"),
        ("backward", "dense2", "db2 = Σᵢ dz2 / n", "Σᵢ (4, 1) / 4"),
        ("backward", "dense2", "da1 = dz2·W2ᵀ", "(4, 1)·(1, 2)"),
        ("backward", "relu1", "dz1 = da1 ⊙ [a1 > 0]", "(4, 2) ⊙ [(4, 2) > 0]"),
        ("backward", "dense1", "dW1 = xᵀ·dz1 / n", "(2, 4)·(4, 2) / 4"),
        ("backward", "dense1", "db1 = Σᵢ dz1 / n", "Σᵢ (4, 2) / 4"),
        ("update", "SGD", "W1 ← W1 − η·dW1", "(2, 2) − 0.5·(2, 2)"),
        ("update", "SGD", "b1 ← b1 − η·db1", "(2,) − 0.5·(2,)"),
        ("update", "SGD", "W2 ← W2 − η·dW2", "(2, 1) − 0.5·(2, 1)"),
        ("update", "SGD", "b2 ← b2 − η·db2", "(1,) − 0.5·(1,)"),
    ]
    assert [each.name for each in trace.given] == ["x", "W1", "b1", "W2", "b2", "y", "K", "n", "η"]
    assert line(trace, "z1").operands == ("x", "W1", "b1")
    assert line(trace, "z2").value.tolist() == [[1.0], [1.5], [2.0], [1.0]]
    assert line(trace, "dW2").value.tolist() == [[4.25], [0.0]]
    assert line(trace, "W2").value.tolist() == [[-1.625], [0.25]]


@pytest.mark.parametrize(
    ("layer", "loss", "said"),
    [
        (gd.Sigmoid(), "binary_crossentropy", "sigmoid1 is skipped in training"),
        (gd.Softmax(), "categorical_crossentropy", "softmax1 is skipped in training"),
        (gd.Rescale(), "mse", "rescale1 is skipped in training"),
    ],
)
def test_a_last_layer_that_is_left_out_is_named(layer, loss, said):
    k = 2 if isinstance(layer, gd.Softmax) else 1
    model = gd.Sequential([gd.Dense(k), layer], inputs=2, dtype="float64")
    if isinstance(layer, gd.Rescale):
        model.adapt(gd.Batches(X, Y))
    trace = gd.explain(model, X, Y.astype(int), loss, "sgd")
    first = next(each for each in trace.lines if each.section == "loss")
    assert said in first.remark
    assert "z1" in first.remark
    assert {each.part for each in trace.lines if each.section == "forward"} == {"dense1"}
    assert recompute(trace)


def test_the_mask_of_dropout_is_the_one_that_training_draws():
    model = gd.Sequential([gd.Dense(8), gd.Dropout(0.5), gd.Dense(1)], 2, dtype="float64")
    model.forward(X, train=True)
    trace = gd.explain(model, X, Y, "mse", "sgd")
    seen = model.copy()
    z = seen.layers[0].forward(X)
    seen.layers[1].passes = 2
    dropped = seen.layers[1].forward(z, train=True)
    assert ((dropped != 0) == line(trace, "mask1").value).all()
    assert line(trace, "u1").value.tolist() == dropped.tolist()
    assert "training pass 2" in line(trace, "mask1").remark


def test_a_schedule_says_where_it_is():
    updater = gd.SGD(gd.StepDecay(1.0, factor=0.5, epochs=2))
    updater.epoch = 4
    trace = gd.explain(tiny(), X, Y, "mse", updater)
    (rate,) = (each.value for each in trace.given if each.name == "η")
    assert rate == 0.25
    assert "StepDecay(" in line(trace, "W1").remark
    assert "after 0 updates and 4 epochs" in line(trace, "W1").remark


def test_the_scale_of_a_rate_counts():
    updater = gd.SGD(gd.Constant(1.0))
    updater.scale = 0.125
    trace = gd.explain(tiny(), X, Y, "mse", updater)
    (rate,) = (each.value for each in trace.given if each.name == "η")
    assert rate == 0.125
    assert recompute(trace)


def test_a_loss_that_is_not_finite_is_shown_and_said():
    model = tiny()
    model.params["dense2.W"][...] = 1e200
    trace = gd.explain(model, X, Y, "mse", "sgd")
    assert np.isinf(line(trace, "L").value)
    assert "a Trainer makes no update" in line(trace, "L").remark


def test_one_row_of_batch_norm_says_what_takes_the_place_of_its_variance():
    model = gd.Sequential([gd.Dense(2), gd.BatchNorm(), gd.Dense(1)], 2, dtype="float64")
    trace = gd.explain(model, X[:1], Y[:1], "mse", "sgd")
    assert "running statistics" in line(trace, "x̂1").remark
    assert "mean1" not in [each.name for each in trace.lines]
    assert recompute(trace)


def test_rows_of_weight_0_are_left_out_and_examples_keep_their_numbers():
    x = X.copy()
    x[1] = np.nan
    trace = gd.explain(tiny(), x, Y, "mse", "sgd", sample_weight=[1, 0, 2, 0], example=2)
    assert trace.rows == (0, 2)
    assert "2 of 4 rows have weight 0" in trace.text()
    (own,) = (each for each in trace.given if each.name == "x")
    assert own.value.tolist() == [[1, 0], [1, 1]]
    assert "→ 1  1" in own.text(row=trace.highlighted)
    with pytest.raises(ValueError, match="there is no example 1"):
        trace.example(1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values_have_the_dtype_of_the_model(dtype):
    trace = gd.explain(tiny(dtype=dtype), X, Y, "mse", "adam")
    arrays = [each for each in trace.lines if each.name not in ("α", "ε̂")]
    assert {each.value.dtype for each in arrays} == {np.dtype(dtype)}


def test_a_model_without_parameters():
    model = gd.Sequential([gd.Tanh()], inputs=1, dtype="float64")
    trace = gd.explain(model, X[:, :1], Y, "mse", "sgd")
    assert recompute(trace) == len(trace.lines) == 4
    assert {each.section for each in trace.lines} == {"forward", "loss"}


# From outside the package ---------------------------------------------------------------------


class Swish(gd.Layer):
    """A student's layer."""

    def build(self, n_in):
        self.add_param("beta", (n_in,), "ones")
        return n_in

    def forward(self, x, train=False):
        s = 0.5 * np.tanh(0.5 * self.params["beta"] * x) + 0.5
        if train:
            self.keep(x, s)
        return x * s

    def backward(self, dy):
        x, s = self.kept()
        slope = s * (1 - s)
        self.grads["beta"][...] = (dy * x * x * slope).mean(axis=0)
        return dy * (s + x * self.params["beta"] * slope)


class Cubed(gd.Loss):
    """A student's loss."""

    def per_example(self, z, y):
        return (abs(z - y) ** 3).sum(axis=1)

    def gradient(self, z, y):
        return 3 * (z - y) * abs(z - y)


class Total(Cubed):
    """A loss that is no mean of losses."""

    def mean(self, z, y, scale=None):
        return super().mean(z, y, scale) * len(z)


class Sign(gd.Updater):
    """A student's updater."""

    def __init__(self, learning_rate=0.1):
        super().__init__(learning_rate)

    def formula(self, learning_rate):
        return step_by_sign, {"learning_rate": learning_rate}


def step_by_sign(p, g, *, learning_rate):
    return p - learning_rate * np.sign(g)


@pytest.mark.parametrize("loss", [Cubed, Total])
@pytest.mark.parametrize("weight", [None, [1.0, 2.0, 0.0, 1.0]])
def test_what_is_not_of_the_package_is_shown_with_its_numbers(loss, weight):
    layers = [gd.Dense(3), Swish(), gd.Dense(2), Swish(), gd.Dense(1)]
    model = gd.Sequential(layers, 2, dtype="float64")
    trace = gd.explain(model, X, Y, loss(), Sign(), weight)
    unknown = [each for each in trace.lines if "formula not known" in each.remark]
    kind = loss.__name__
    losses = [f"ℓᵢ = {kind}(z3, y)"] if loss is Cubed else [f"L = {kind}(z3, y)"]
    gradient = f"{kind}.gradient(z3, y)"
    assert [each.formula for each in unknown] == [
        "o1 = Swish(z1)",
        "o2 = Swish(z2)",
        *losses,
        f"dz3 = {gradient}" if weight is None else f"dz3 = sᵢ ⊙ ({gradient})",
        "dswish2.beta = Swish.backward(do2)",
        "dz2 = Swish.backward(do2)",
        "dswish1.beta = Swish.backward(do1)",
        "dz1 = Swish.backward(do1)",
        *(
            f"{p} ← Sign({p}, d{p})"
            for p in ("W1", "b1", "swish1.beta", "W2", "b2", "swish2.beta", "W3", "b3")
        ),
    ]
    assert recompute(trace) == len(trace.lines) - len(unknown)
    assert "formula not known" in trace.text()
    assert "formula not known" in trace._repr_html_()
    (own,) = (each for each in trace.lines if each.name == "o1")
    z1, o1 = line(trace, "z1").value, own.value
    np.testing.assert_allclose(o1, z1 / (1 + np.exp(-z1)), rtol=1e-14)


def test_a_subclass_of_a_known_layer_is_not_taken_for_it():
    class Doubled(gd.Dense):
        def forward(self, x, train=False):
            return 2 * super().forward(x, train)

    model = gd.Sequential([Doubled(1)], inputs=2, dtype="float64")
    trace = gd.explain(model, X, Y, "mse", "sgd")
    assert trace.lines[0].formula == "o1 = Doubled(x)"
    assert "formula not known" in trace.lines[0].remark


# What it leaves as it was ---------------------------------------------------------------------


def everything(backend="numpy"):
    return gd.Sequential(
        [gd.Dense(4), gd.BatchNorm(), gd.Tanh(), gd.Dropout(0.5), gd.Dense(1), gd.Sigmoid()],
        inputs=2,
        dtype="float64",
        backend=backend,
    )


def bits(model, updater):
    """Return all that a step changes, as bytes."""
    host = model.backend.to_numpy
    return {
        **{name: a.tobytes() for name, a in model.arrays().items()},
        "grads": host(model.flat_grads).tobytes(),
        "passes": model.passes,
        **{name: host(v).tobytes() for name, v in updater.state.items()},
        "updater": (updater.step, updater.epoch, updater.scale, updater.learning_rate),
    }


def test_model_updater_and_loss_are_left_untouched(backend):
    model, updater = everything(backend), gd.Adam(gd.CosineDecay(0.1, updates=50))
    loss = gd.BinaryCrossEntropy()
    trainer = gd.Trainer(model, loss, updater)
    x, y = backend.asarray(X), backend.asarray(Y)
    for _ in range(3):
        trainer.step(x, y)
    before, layers = bits(model, updater), list(model.layers)
    model_loss, owner = model.loss, updater.owner
    traces = [gd.explain(model, x, y, loss, updater).text(17) for _ in range(2)]
    assert traces[0] == traces[1]
    assert bits(model, updater) == before
    assert model.layers == layers
    assert (model.loss, updater.owner) == (model_loss, owner)
    assert loss.config() == gd.BinaryCrossEntropy().config()
    trainer.step(x, y)
    assert updater.step == 4


def test_the_batch_is_left_untouched():
    x, y, weight = X.copy(), Y.copy(), np.array([1.0, 2.0, 3.0, 4.0])
    gd.explain(everything(), x, y, "binary_crossentropy", "adam", weight)
    assert (x == X).all()
    assert (y == Y).all()
    assert weight.tolist() == [1, 2, 3, 4]


def test_between_forward_and_backward_nothing_is_lost():
    def gradients(between):
        model = tiny()
        loss = gd.MeanSquaredError()
        loss.forward(model.forward(X, train=True), Y)
        between(model, loss)
        model.backward(loss.backward())
        return model.flat_grads.tolist()

    def explained(model, loss):
        gd.explain(model, X[:2] * 2, Y[:2], loss, "sgd")

    assert gradients(explained) == gradients(lambda model, loss: None)


def test_an_updater_that_made_no_step_is_still_free():
    updater = gd.Adam()
    gd.explain(tiny(), X, Y, "mse", updater)
    assert (updater.state, updater.step) == ({}, 0)
    other = everything()
    other.flat_grads[...] = 1.0
    updater.update(other)


def test_the_numbers_are_not_those_of_arrays_that_live_on():
    model = tiny()
    trace = gd.explain(model, X, Y, "mse", "sgd")
    before = copy.deepcopy(trace.given[1].value)
    model.flat_params[...] = 7.0
    assert (trace.given[1].value == before).all()


# How it shows itself --------------------------------------------------------------------------


def test_text_shows_four_digits_or_more():
    model = tiny()
    model.params["dense1.W"][0, 0] = 1 / 3
    trace = gd.explain(model, X, Y, "mse", "sgd")
    assert str(trace) == repr(trace) == trace.text() == trace.text(digits=4)
    assert "0.3333" in trace.text()
    assert "0.33333" not in trace.text()
    assert "0.33333333" in trace.text(digits=8)
    assert "0.333333333" not in trace.text(digits=8)


def test_a_line_shows_itself():
    trace = gd.explain(tiny(), X[:2], Y[:2], "mse", "sgd")
    assert str(trace.lines[0]) == (
        "z1 = x·W1 + b1   (2, 2)·(2, 2) + (2,) → (2, 2)\n    1   2\n    3  -4"
    )
    assert trace.lines[0].text(row=1).endswith("\n    1   2\n  → 3  -4")
    assert repr(trace.lines[0]) == "<forward: z1 = x·W1 + b1>"
    assert str(line(trace, "L")) == "L = Σᵢ ℓᵢ / n   Σᵢ (2,) / 2 → 1.125"


def test_large_arrays_are_abbreviated_and_the_example_is_not():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(200, 50)), rng.normal(size=200)
    model = gd.Sequential([gd.Dense(30), gd.Tanh(), gd.Dense(1)], inputs=50)
    trace = gd.explain(model, x, y, "mse", "adam")
    assert max(map(len, trace.text().splitlines()[5:])) < 120
    assert len(trace.text().splitlines()) < 300
    own = trace.lines[0].text(row=100)
    assert len(own.splitlines()) == 1 + 3 + 1 + 1 + 1 + 3
    marked = own.splitlines()[5]
    assert marked.startswith("  → ")
    assert marked.split()[1] == f"{trace.lines[0].value[100, 0]:.4g}"
    assert own.splitlines()[1].split()[3] == "…"


def test_one_example_is_marked_wherever_it_goes():
    trace = gd.explain(tiny(), X, Y, "mse", "sgd")
    assert "  → " not in re.sub(r" → \(| → \d", "", trace.text())
    marked = trace.example(2)
    assert marked.chosen == 2
    assert marked.text() == gd.explain(tiny(), X, Y, "mse", "sgd", example=2).text()
    rows = [text for text in marked.text().splitlines() if text.startswith("  → ")]
    # x and y; z1, a1, z2, e, ℓᵢ; dz2, da1, dz1.
    assert rows[:3] == ["  →  1  1", "  → 1", "  → 4  -2"]
    assert len(rows) == 10
    assert trace.chosen is None


def test_zeros_that_are_given_take_no_room():
    text = gd.explain(tiny(), X, Y, "mse", "adam").text()
    assert "mW1   (2, 2), all 0\nvW1   (2, 2), all 0\n" in text


# What it refuses ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("example", "message"),
    [
        (-1, "example must be an integer, at least 0, not -1"),
        (4, "there is no example 4: the explained rows are 0 to 3"),
        (1.5, "example must be an integer, at least 0, not 1.5"),
    ],
)
def test_an_example_that_is_not_there(example, message):
    with pytest.raises(ValueError, match=message):
        gd.explain(tiny(), X, Y, "mse", "sgd", example=example)


def test_an_updater_of_another_model():
    model, updater = tiny(), gd.Adam()
    gd.Trainer(model, "mse", updater).step(X, Y)
    with pytest.raises(ValueError, match="Adam holds the state of another model"):
        gd.explain(tiny(), X, Y, "mse", updater)


@pytest.mark.parametrize(
    ("x", "y", "arguments", "message"),
    [
        (X[:, :1], Y, {}, "takes rows of 2 numbers"),
        (X, Y[:2], {}, "4 rows and y has 2 rows"),
        (X[:0], Y[:0], {}, "no rows"),
        (X * np.nan, Y, {}, "x holds nan at row 0"),
        (X, Y, {"sample_weight": [1, 2]}, "must hold a weight for each row"),
        (X, Y, {"sample_weight": [0, 0, 0, 0]}, "all of sample_weight is 0"),
        (X, None, {}, "y must hold numbers"),
    ],
)
def test_a_batch_that_does_not_fit(x, y, arguments, message):
    with pytest.raises(gd.DataError, match=message):
        gd.explain(tiny(), x, y, "mse", "sgd", **arguments)


def test_a_bad_row_is_named_by_its_number_in_the_batch():
    x = X.copy()
    x[3] = np.inf
    with pytest.raises(gd.DataError, match="row 3"):
        gd.explain(tiny(), x, Y, "mse", "sgd", sample_weight=[1, 0, 1, 1])


def test_a_loss_that_does_not_fit_the_model():
    with pytest.raises(ValueError, match="takes probabilities, but the model ends in Dense"):
        gd.explain(tiny(), X, Y, "binary_crossentropy", "sgd")


def test_the_names_of_losses_and_updaters():
    with pytest.raises(ValueError, match="unknown updater 'sdg'"):
        gd.explain(tiny(), X, Y, "mse", "sdg")


def test_arrays_of_another_device(stand_in):
    with pytest.raises(gd.BackendError, match=r"x is a numpy\.ndarray on the host"):
        gd.explain(tiny(backend=stand_in), X, Y, "mse", "sgd")


def test_a_standardize_that_knows_nothing_yet():
    model = gd.Sequential([gd.Standardize(), gd.Dense(1)], inputs=2)
    with pytest.raises(RuntimeError, match=r"model\.adapt"):
        gd.explain(model, X, Y, "mse", "sgd")
