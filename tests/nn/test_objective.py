"""The pair of model and loss: which belong together, which are refused, and that pairing is exact.

Nothing is hidden: the pair shows what it uses, and the model keeps the given loss.
"""

import numpy as np
import pytest
from scipy import special

import minigd as gd

BCE, CCE, MSE = gd.BinaryCrossEntropy, gd.CategoricalCrossEntropy, gd.MeanSquaredError


def model_of(*layers, **arguments):
    return gd.Sequential(list(layers), inputs=3, **{"dtype": "float64", **arguments})


def batch(backend, k=1, n=8):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(n, 3)), rng.integers(0, max(k, 2), size=n)
    return backend.asarray(x), backend.asarray(y)


# Which are paired -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("last", "loss", "paired"),
    [
        (gd.Sigmoid, "binary_crossentropy", True),
        (gd.Sigmoid, BCE(), True),
        (gd.Softmax, "categorical_crossentropy", True),
        (gd.Softmax, CCE(), True),
        (gd.Softmax, BCE(), False),
        (gd.Sigmoid, "mse", False),
        (gd.Softmax, MSE(), False),
        (gd.Tanh, "mse", False),
    ],
)
def test_an_activation_is_paired_with_its_own_cross_entropy_alone(last, loss, paired):
    model = model_of(gd.Dense(2), last())
    objective = gd.Objective(model, loss)
    assert objective.paired is paired
    assert objective.loss.from_logits is paired
    assert objective.layers == (model.layers[:1] if paired else model.layers)
    assert len(model.layers) == 2  # the model itself stays whole


@pytest.mark.parametrize("loss", ["mse", BCE(True), CCE(True)])
def test_a_model_that_ends_in_dense_is_taken_as_it_is(loss):
    objective = gd.Objective(model_of(gd.Dense(2)), loss)
    assert objective.paired is False
    assert len(objective.layers) == 1


def test_a_sigmoid_in_the_middle_is_left_where_it_is():
    model = model_of(gd.Dense(2), gd.Sigmoid(), gd.Dense(1))
    objective = gd.Objective(model, BCE(True))
    assert objective.layers == model.layers


def test_the_loss_that_was_given_is_not_changed():
    loss = BCE()
    gd.Objective(model_of(gd.Dense(1), gd.Sigmoid()), loss)
    assert loss.from_logits is False


# Refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "last"), [(BCE(), "Sigmoid"), (CCE(), "Softmax"), ("categorical_crossentropy", "Soft")]
)
def test_logits_under_a_loss_of_probabilities_are_refused_with_both_ways_out(loss, last):
    words = rf"takes probabilities.*ends in Dense.*\(from_logits=True\), or end the model in {last}"
    with pytest.raises(ValueError, match=words):
        gd.Objective(model_of(gd.Dense(2)), loss)
    with pytest.raises(ValueError, match=words):
        gd.Trainer(model_of(gd.Dense(2)), loss, "sgd")


@pytest.mark.parametrize(
    ("last", "loss"), [(gd.Sigmoid, BCE(True)), (gd.Softmax, BCE(True)), (gd.Softmax, CCE(True))]
)
def test_probabilities_under_a_loss_of_logits_are_refused_with_both_ways_out(loss, last):
    name, end = type(loss).__name__, last.__name__
    words = rf"takes logits, but the model ends in {end}.*use {name}\(\), or remove {end}"
    with pytest.raises(ValueError, match=words):
        gd.Objective(model_of(gd.Dense(2), last()), loss)


def rows_of(kind, k, n=60):
    """Return rows, and targets of a kind for k outputs."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 3))
    scores = x @ rng.normal(size=(3, max(k, 2)))
    y = {
        "classes": scores.argmax(axis=1),
        "one-hot rows": np.eye(max(k, 2))[scores.argmax(axis=1)],
        "labels": (scores > 0).astype(int)[:, :k],
        "numbers": scores[:, :k],
    }[kind]
    return x, y


def learns(layers, loss, x, y):
    """Assert that a model with these last layers takes the loss, and lowers it."""
    model = gd.Sequential(layers, inputs=3)
    history = model.fit(x, y, loss=loss, updater=gd.Adam(0.05), batch_size=20, epochs=10)
    assert history["loss"][-1] < 0.9 * history["loss"][0]


EVERYWHERE = {
    "Objective": lambda model, loss, x, y: gd.Objective(model, loss),
    "Trainer": lambda model, loss, x, y: gd.Trainer(model, loss, "sgd"),
    "fit": lambda model, loss, x, y: model.fit(x, y, loss=loss),
    "check_gradients": lambda model, loss, x, y: gd.check_gradients(model, loss, x, y),
    "find_learning_rate": lambda model, loss, x, y: gd.find_learning_rate(model, x, y, loss=loss),
    "race": lambda model, loss, x, y: gd.race(lambda: model, (x, y), [9], loss=loss, seconds=0.01),
    "explain": lambda model, loss, x, y: gd.explain(model, x, y, loss=loss, updater="sgd"),
}
everywhere = pytest.mark.parametrize("where", EVERYWHERE)


@everywhere
@pytest.mark.parametrize("kind", ["classes", "one-hot rows", "labels"])
@pytest.mark.parametrize("k", [2, 3, 5])
@pytest.mark.parametrize("loss", ["categorical_crossentropy", CCE(), CCE(True), CCE(False, 0.1)])
@pytest.mark.pairs
def test_sigmoids_under_a_loss_of_one_class_are_refused_with_both_ways_out(loss, k, kind, where):
    x, y = rows_of(kind, k)
    words = (
        r"CategoricalCrossEntropy\(.*\) is for one class out of several, and the model ends in "
        r"Sigmoid.*: for one class per row, end it in Softmax\(\) and use CategoricalCrossEntropy"
        r"\(\), for independent yes-or-no labels use BinaryCrossEntropy\(\)"
    )
    with pytest.raises(ValueError, match=words):
        EVERYWHERE[where](model_of(gd.Dense(k), gd.Sigmoid()), loss, x, y)


@everywhere
def test_one_sigmoid_under_a_loss_of_one_class_is_refused_with_both_ways_out(where):
    x, y = rows_of("classes", 2)
    words = (
        r"for more than two classes, end it in Dense\(number of classes\), Softmax\(\) and use "
        r"CategoricalCrossEntropy\(\), for two classes use BinaryCrossEntropy\(\)"
    )
    with pytest.raises(ValueError, match=words):
        EVERYWHERE[where](model_of(gd.Dense(1), gd.Sigmoid()), CCE(), x, y)


def test_the_ways_out_of_sigmoids_under_a_loss_of_one_class_work():
    for k in (2, 3, 5):
        for kind in ("classes", "one-hot rows"):
            learns([gd.Dense(k), gd.Softmax()], CCE(), *rows_of(kind, k))
        learns([gd.Dense(k), gd.Sigmoid()], BCE(), *rows_of("labels", k))
    learns([gd.Dense(1), gd.Sigmoid()], BCE(), *rows_of("classes", 2))
    learns([gd.Dense(4), gd.Softmax()], CCE(), *rows_of("classes", 4))


@everywhere
@pytest.mark.parametrize("loss", ["mse", "huber", BCE(), BCE(True), CCE(), CCE(True)])
def test_a_softmax_over_one_unit_is_refused_whatever_the_loss(loss, where):
    x, y = rows_of("classes", 2)
    words = (
        r"Softmax over 1 unit, which is always 1: for two classes, end it in Dense\(1\), Sigmoid"
        r"\(\) and use BinaryCrossEntropy\(\); for more, in Dense\(number of classes\), Softmax"
        r"\(\) and use CategoricalCrossEntropy\(\); for numeric targets, in Dense\(1\)"
    )
    with pytest.raises(ValueError, match=words):
        EVERYWHERE[where](model_of(gd.Dense(1), gd.Softmax()), loss, x, y)


def test_the_ways_out_of_a_softmax_over_one_unit_work():
    learns([gd.Dense(1), gd.Sigmoid()], BCE(), *rows_of("classes", 2))
    learns([gd.Dense(3), gd.Softmax()], CCE(), *rows_of("classes", 3))
    for loss in ("mse", "huber"):
        learns([gd.Dense(1)], loss, *rows_of("numbers", 1))
    # In the middle it is a layer like any other.
    gd.Objective(model_of(gd.Dense(1), gd.Softmax(), gd.Dense(1)), "mse")


@pytest.mark.few
@pytest.mark.parametrize("where", ["fit", "check_gradients", "find_learning_rate", "explain"])
@pytest.mark.parametrize("kind", ["classes", "column", "labels"])
def test_a_softmax_under_a_binary_loss_takes_one_class_a_row_alone(kind, where):
    x, y = rows_of("classes" if kind == "column" else kind, 3)
    y = y[:, None] if kind == "column" else y
    words = (
        r"ends in Softmax, whose outputs sum to 1, under BinaryCrossEntropy\(\), and y has .*: for "
        r"one class per row use CategoricalCrossEntropy\(\), for independent yes-or-no labels end "
        r"the model in Sigmoid\(\)"
    )
    with pytest.raises(gd.DataError, match=words):
        EVERYWHERE[where](model_of(gd.Dense(3), gd.Softmax()), BCE(), x, y)
    learns([gd.Dense(3), gd.Softmax()], BCE(), *rows_of("one-hot rows", 3))
    if kind == "labels":
        learns([gd.Dense(3), gd.Sigmoid()], BCE(), x, y)
    else:
        learns([gd.Dense(3), gd.Softmax()], CCE(), x, y)


def test_a_rectified_logit_that_is_never_of_class_0_is_refused():
    words = "takes logits of either sign, and the model ends in ReLU.*Remove the last ReLU"
    with pytest.raises(ValueError, match=words):
        gd.Objective(model_of(gd.Dense(1), gd.ReLU()), BCE(True))
    learns([gd.Dense(1)], BCE(True), *rows_of("classes", 2))


@pytest.mark.parametrize(
    ("layers", "loss"),
    [
        ([gd.Dense(3), gd.Sigmoid()], "mse"),
        ([gd.Dense(3), gd.Softmax()], "huber"),
        ([gd.Dense(1), gd.Tanh()], BCE(True)),
        ([gd.Dense(1), gd.LeakyReLU()], BCE(True)),
        ([gd.Dense(3), gd.ReLU()], CCE(True)),
        ([gd.Dense(1), gd.Tanh()], "mse"),
    ],
)
def test_what_may_be_meant_is_left_alone(layers, loss):
    copies = [type(layer)(**layer.config()) for layer in layers]
    gd.Objective(model_of(*copies), loss)


def test_a_loss_that_computes_something_else_is_left_alone():
    class OneAgainstTheRest(gd.CategoricalCrossEntropy):
        def per_example(self, z, y):
            return gd.BinaryCrossEntropy.per_example(self, z, self._one_hot(y, z))

        def gradient(self, z, y):
            return gd.BinaryCrossEntropy.gradient(self, z, self._one_hot(y, z))

    learns([gd.Dense(3), gd.Sigmoid()], OneAgainstTheRest(), *rows_of("classes", 3))


def test_an_unknown_loss_is_refused():
    with pytest.raises(ValueError, match="unknown loss 'bce'; the known ones are"):
        gd.Objective(model_of(gd.Dense(1)), "bce")


def test_rows_and_targets_that_do_not_fit_are_refused(backend):
    objective = gd.Objective(model_of(gd.Dense(2), backend=backend), "mse")
    x, y = backend.zeros((4, 3), "float64"), backend.zeros((4, 2), "float64")
    objective.check(x, y)
    with pytest.raises(gd.DataError, match="need targets: give y as well as x"):
        objective.check(x, None)
    with pytest.raises(gd.ShapeError, match=r"x has shape \(4, 2\) .* rows of 3 numbers"):
        objective.check(y, y)
    with pytest.raises(gd.ShapeError, match=r"y has shape \(4,\) .* \(4, 2\)"):
        objective.check(x, y[:, 0])
    with pytest.raises(gd.ShapeError, match="x has 4 rows and y has 3 rows"):
        objective.check(x, y[:3])


# What is computed -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("last", "k", "loss"), [(gd.Sigmoid, 1, BCE), (gd.Sigmoid, 3, BCE), (gd.Softmax, 4, CCE)]
)
def test_the_pair_is_the_whole_model_under_the_loss_of_probabilities(backend, last, k, loss):
    model = model_of(gd.Dense(5), gd.Tanh(), gd.Dense(k), last(), backend=backend)
    x, y = batch(backend, k)
    if loss is BCE and k > 1:
        y = backend.asarray(np.random.default_rng(1).integers(0, 2, size=(8, k)))
    objective = gd.Objective(model, loss())
    value, z = objective.forward(x, y)
    dx = objective.backward(input_gradient=True)
    grads = backend.to_numpy(model.flat_grads).copy()

    unpaired = loss()
    p = model.forward(x, train=True)
    assert float(value) == pytest.approx(float(unpaired.forward(p, y)), rel=1e-13)
    expected_dx = model.backward(unpaired.backward(), input_gradient=True)
    np.testing.assert_allclose(grads, backend.to_numpy(model.flat_grads), rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(
        backend.to_numpy(dx), backend.to_numpy(expected_dx), rtol=1e-11, atol=1e-14
    )
    np.testing.assert_allclose(
        backend.to_numpy(objective.predictions(z)), backend.to_numpy(p), rtol=1e-13, atol=1e-15
    )


@pytest.mark.parametrize(("last", "k", "loss"), [(gd.Sigmoid, 1, BCE), (gd.Softmax, 2, CCE)])
def test_the_pair_trains_where_probabilities_are_exactly_0_and_1(backend, last, k, loss):
    model = model_of(gd.Dense(k), last(), backend=backend, dtype="float32")
    model.params["dense1.W"][...] = 1e4 if k == 1 else backend.asarray([[-1e4, 1e4]] * 3, "float32")
    x, y = backend.asarray(np.eye(3), dtype="float32"), backend.asarray([0, 1, 0])
    with pytest.raises(gd.DataError, match="from_logits=True"):
        loss().forward(model.forward(x), y)
    objective = gd.Objective(model, loss())
    value, _ = objective.forward(x, y)
    objective.backward()
    assert float(value) == pytest.approx(2 / 3 * 1e4 * k, rel=1e-6)
    # The mean of p − y over the three rows: 1, 0 and 1 for the class of label 1.
    bias = backend.to_numpy(model.grads["dense1.b"])
    np.testing.assert_allclose(bias, [2 / 3] if k == 1 else [-2 / 3, 2 / 3], rtol=1e-6)


def test_evaluating_gives_the_same_value_and_keeps_nothing(backend):
    model = model_of(gd.Dense(4), gd.Tanh(), gd.Dense(1), gd.Sigmoid(), backend=backend)
    x, y = batch(backend)
    objective = gd.Objective(model, "binary_crossentropy")
    value, _ = objective.forward(x, y)
    objective.backward()
    again, z = objective.evaluate(x, y)
    assert float(again) == float(value)
    assert z.shape == (8, 1)
    with pytest.raises(RuntimeError, match="without a forward"):
        objective.loss.backward()
    with pytest.raises(RuntimeError, match="without a forward"):
        model.layers[0].kept()


def test_a_model_of_an_activation_alone_has_logits_for_inputs(backend):
    model = gd.Sequential([gd.Softmax()], inputs=3, backend=backend, dtype="float64")
    z = np.random.default_rng(0).normal(size=(4, 3))
    objective = gd.Objective(model, "categorical_crossentropy")
    value, _ = objective.forward(backend.asarray(z), backend.asarray([0, 1, 2, 0]))
    dz = objective.backward(input_gradient=True)
    log = special.log_softmax(z, axis=1)
    assert float(value) == pytest.approx(-log[range(4), [0, 1, 2, 0]].mean(), rel=1e-13)
    np.testing.assert_allclose(
        backend.to_numpy(dz), np.exp(log) - np.eye(3)[[0, 1, 2, 0]], atol=1e-15
    )


# What is saved --------------------------------------------------------------------------------


def test_the_loss_of_the_whole_model_is_saved_with_it(tmp_path):
    for model, loss, saved in (
        (model_of(gd.Dense(1), gd.Sigmoid()), "binary_crossentropy", BCE()),
        (model_of(gd.Dense(2), gd.Softmax()), CCE(), CCE()),
        (model_of(gd.Dense(2)), CCE(True), CCE(True)),
        (model_of(gd.Dense(1)), "mse", MSE()),
    ):
        trainer = gd.Trainer(model, loss, "sgd")
        assert model.loss is None  # nothing was trained yet
        y = np.zeros(2, int) if "Categorical" in repr(saved) else np.zeros((2, model.n_out))
        trainer.step(np.ones((2, model.n_in)), y)
        assert repr(model.loss) == repr(saved)
        model.save(tmp_path / "m.npz")
        assert repr(gd.load(tmp_path / "m.npz").loss) == repr(saved)


@pytest.mark.parametrize(
    ("last", "weight"),
    [(gd.Softmax, 1e4), (gd.Tanh, -1.0), (gd.ReLU, 5.0)],
    ids=["exactly 0", "below 0", "above 1"],
)
def test_outputs_that_are_no_usable_probabilities_are_named_and_not_the_learning_rate(last, weight):
    # Unless a pair is refused at once, its first bad step must say what is wrong with it. A Tanh
    # below 0 even has a finite loss, −log(1 − z) < 0, that training would lower for ever.
    model = model_of(gd.Dense(2), last(), dtype="float32")
    model.params["dense1.W"][...] = [[weight, -weight]] * 3
    with pytest.raises((ValueError, gd.DivergenceError), match="from_logits"):
        gd.Trainer(model, BCE(), gd.SGD(0.1)).step(np.eye(3), np.array([[0, 1]] * 3))
