"""A frozen layer: what training does not change, in every way to run a step.

The truth is a copy of the model in which the frozen part is a custom constant layer.
"""

import numpy as np
import pytest

import minigd as gd
from minigd.errors import CheckpointError
from minigd.execution.targets import compiler

WAYS = {
    "plain": {"reuse_buffers": False, "fast": False},
    "NumPy's calls": {"fast": False},
    "compiled": {"fast": True},
}
ways = pytest.mark.parametrize("way", WAYS)


def model_of(layers=None, frozen=(), dtype="float64"):
    layers = layers or [gd.Dense(5), gd.Tanh(), gd.Dense(4), gd.LayerNorm(), gd.Dense(2)]
    model = gd.Sequential(layers, 3, dtype=dtype, seed=1)
    for i in frozen:
        model.layers[i].trainable = False
    return model


def rows(n=40):
    rng = np.random.default_rng(n)
    return rng.normal(size=(n, 3)), rng.normal(size=(n, 2))


def changed(model, before):
    return {name for name, a in model.arrays().items() if not np.array_equal(a, before[name])}


class Constant(gd.Layer):
    """y = x·W + b for a W and b that are not parameters."""

    def __init__(self, W=None, b=None):
        self.W, self.b = W, b

    def build(self, n_in):
        return self.W.shape[1]

    def forward(self, x, train=False):
        return x @ self.W + self.b

    def backward(self, dy):
        return dy @ self.W.T


@pytest.mark.parametrize("settings", [{}, {"l1": 0.1, "l2": 0.2}, {"clip_norm": 0.3}])
@pytest.mark.parametrize("updater", [gd.SGD(0.1, momentum=0.9), gd.AdamW(0.05, decay_bias=True)])
@pytest.mark.each
@ways
def test_what_is_frozen_is_a_constant_to_everything_else(way, updater, settings):
    if way == "compiled" and not compiler.available():
        pytest.skip("needs Numba and SciPy")
    X, Y = rows()
    model = model_of(frozen=[2])
    before = model.arrays()
    W, b = before["params/dense2.W"], before["params/dense2.b"]
    layers = [gd.Dense(5), gd.Tanh(), Constant(W, b), gd.LayerNorm(), gd.Dense(2)]
    twin = gd.Sequential(layers, 3, dtype="float64", seed=1)
    for own, name in zip(twin.params, model.grads, strict=True):
        twin.params[own] = model.params[name]
    for one, options in ((model, WAYS[way]), (twin, {"fast": False})):
        copied = type(updater)(**updater.config())
        trainer = gd.Trainer(one, "mse", copied, **settings, **options)
        trainer.fit(X, Y, batch_size=8, epochs=3)
    assert changed(model, before) == {f"params/{name}" for name in model.trained_names}
    for own, name in zip(twin.params, model.grads, strict=True):
        np.testing.assert_allclose(model.params[name], twin.params[own], rtol=1e-9, atol=1e-11)


def test_no_layer_below_the_first_trainable_one_is_run_backward():
    called = []

    class Watched(gd.Dense):
        def backward(self, dy):
            called.append((self.name, self.wants_dx))
            return super().backward(dy)

    model = model_of([Watched(4), gd.Tanh(), Watched(4), gd.Tanh(), Watched(2)], frozen=[0, 2])
    X, Y = rows()
    model.fit(X, Y, loss="mse", batch_size=20, plain=True)
    assert called == [("watched3", False)] * 2
    model.forward(X, train=True)
    assert model.backward(Y, input_gradient=True).shape == X.shape
    assert [name for name, _ in called[2:]] == ["watched3", "watched2", "watched1"]


def test_a_layer_that_holds_only_frozen_ones_is_not_run_backward():
    called = []

    class Watched(gd.Dense):
        def backward(self, dy):
            called.append((self.name, self.wants_dx))
            return super().backward(dy)

    model = model_of([gd.Residual([Watched(3)]), Watched(4), Watched(2)], frozen=[1])
    model.layers[0].layers[0].trainable = False
    assert model.layers[0].trainable
    X, Y = rows()
    model.fit(X, Y, loss="mse", batch_size=20, plain=True)
    assert called == [("watched2", False)] * 2


def test_vectors_and_names_are_of_what_is_trained():
    model = model_of()
    before = model.arrays()
    whole = model.flat_params.size
    model.layers[0].trainable = model.layers[3].trainable = False
    assert list(model.params) == [name.removeprefix("params/") for name in before]
    assert list(model.grads) == ["dense2.W", "dense2.b", "dense3.W", "dense3.b"]
    assert model.trained_names == ("dense2.W", "dense3.W", "dense2.b", "dense3.b")
    assert (model.flat_params.size, model.n_weights) == (whole - 20 - 8, 28)
    assert changed(model, before) == set()
    model.flat_params += 1
    assert changed(model, before) == {f"params/{name}" for name in model.grads}
    model.params["dense1.W"][...] = 2.0
    assert (model.layers[0].params["W"] == 2).all()
    for layer in model.layers:
        layer.trainable = True
    assert model.flat_params.size == whole
    assert (model.params["dense1.W"] == 2).all()


def test_a_model_sets_it_for_all_its_layers():
    model = model_of([gd.Dense(4), gd.Residual([gd.Dense(4)]), gd.Dense(2)])
    whole = model.flat_params.size
    model.trainable = False
    assert not any(layer.trainable for layer in model.all_layers)
    assert (model.trainable, model.flat_params.size) == (False, 0)
    model.layers[-1].trainable = True
    assert (model.trainable, list(model.grads)) == (True, ["dense2.W", "dense2.b"])
    with pytest.raises(TypeError, match="trainable must be True or False, not 0"):
        model.trainable = 0
    model.trainable = True
    assert model.flat_params.size == whole


def test_it_is_saved_copied_and_resumed(tmp_path):
    X, Y = rows()
    whole, half = (gd.Trainer(model_of(frozen=[0, 3]), "mse", gd.Adam(0.01)) for _ in range(2))
    batches = gd.Batches(X, Y, batch_size=8, shuffle=True)
    whole.fit(batches, epochs=4)
    half.fit(batches, epochs=2)
    half.save(tmp_path / "run.npz")
    again = gd.Trainer.resume(tmp_path / "run.npz", batches)
    again.fit(epochs=2)
    flags = [False, True, True, False, True]
    again.model.save(tmp_path / "m.npz")
    for model in (again.model, again.model.copy(), gd.load(tmp_path / "m.npz")):
        assert [layer.trainable for layer in model.layers] == flags
        assert changed(model, whole.model.arrays()) == set()


def test_a_file_with_another_word_for_it_is_refused(tmp_path):
    from minigd.storage.describe import rebuild

    with pytest.raises(CheckpointError, match=r"Tanh does not take .*trainable must be True or"):
        rebuild({"class": "Tanh", "arguments": {}, "trainable": "no"}, {"Tanh": gd.Tanh})


@ways
def test_a_frozen_batch_norm_does_as_in_a_prediction(way):
    if way == "compiled" and not compiler.available():
        pytest.skip("needs Numba and SciPy")
    X, Y = rows()
    model = model_of([gd.Dense(4), gd.BatchNorm(), gd.Tanh(), gd.Dense(2)])
    model.fit(X, Y, loss="mse", batch_size=8)
    model.layers[1].trainable = False
    before = model.arrays()
    np.testing.assert_array_equal(model.forward(X, train=True), model.forward(X))
    gd.check_gradients(model, gd.MeanSquaredError(), X, Y)
    gd.Trainer(model, "mse", gd.SGD(0.01), **WAYS[way]).fit(X, Y, batch_size=8, epochs=2)
    assert changed(model, before) == {f"params/{name}" for name in model.grads}
    assert len(model.grads) == 4


def test_all_layers_frozen_change_nothing_and_none_frozen_is_as_ever():
    X, Y = rows()
    model = model_of(frozen=range(5))
    before = model.arrays()
    history = model.fit(X, Y, loss="mse", epochs=2)
    assert changed(model, before) == set()
    assert history["loss"][0] == pytest.approx(history["loss"][1])


@pytest.mark.parametrize("updater", [gd.SGD(0.1), gd.Adam(0.1)])
def test_a_trainer_from_before_a_change_says_so(updater):
    X, Y = rows()
    model = model_of()
    trainer = gd.Trainer(model, "mse", updater)
    trainer.fit(X, Y)
    model.layers[0].trainable = False
    with pytest.raises(
        ValueError, match=r"`trainable` of a layer has changed since\. Make a new trainer"
    ):
        trainer.fit(X, Y)
    before = model.arrays()
    gd.Trainer(model, "mse", updater).fit(X, Y)
    assert changed(model, before) == {f"params/{name}" for name in model.grads}


@pytest.mark.parametrize("updater", [gd.SGD(0.1), gd.Adam(0.1)])
def test_a_resumed_trainer_from_before_a_change_says_so(updater, tmp_path):
    trainer = gd.Trainer(model_of(), "mse", updater)
    batches = gd.Batches(*rows(), batch_size=8)
    trainer.fit(batches)
    trainer.save(tmp_path / "run.npz")
    again = gd.Trainer.resume(tmp_path / "run.npz", batches)
    again.model.layers[0].trainable = False
    with pytest.raises(ValueError, match="`trainable` of a layer has changed since"):
        again.fit()


@pytest.mark.parametrize("value", [0, 1, None, "False", np.zeros(1)])
def test_anything_but_a_truth_value_is_refused(value):
    layer = gd.Dense(2)
    with pytest.raises((TypeError, ValueError), match="trainable"):
        layer.trainable = value
    assert layer.trainable is True


def test_the_checkers_see_what_is_trained():
    X, Y = rows(7)
    model = model_of(frozen=[2])
    errors = gd.check_gradients(model, gd.MeanSquaredError(), X, Y)
    assert set(errors) == {*model.grads, "x"}


def test_rows_are_measured_by_what_is_trained():
    X, Y = rows(6)
    model = model_of(frozen=[2, 3])
    norms = []

    def note(event):
        norms.append(event.norms)

    note.events = {"update"}
    options = {"batch_size": 6, "shuffle": False, "updater": gd.SGD(0.0)}
    model.fit(X, Y, loss="mse", per_example=True, callbacks=[note], **options)
    for i in range(6):
        objective = gd.Objective(model, "mse")
        objective.forward(X[i : i + 1], Y[i : i + 1])
        objective.backward()
        assert norms[0][i] == pytest.approx(np.linalg.norm(model.flat_grads))


def test_the_summary_and_explain_say_what_is_trained():
    X, Y = rows(4)
    model = model_of(frozen=[0])
    assert ["of", "these", "not", "trained", "20"] in [
        t.split() for t in model.summary().splitlines()
    ]
    names = {line.name for line in gd.explain(model, X, Y, "mse", "sgd").lines}
    assert {"W2", "dW2"} <= names
    assert not {"W1", "dW1", "db1"} & names


# Weights of another model ---------------------------------------------------------------------


def heads(outputs, dtype="float64", seed=0):
    layers = [gd.Dense(5), gd.BatchNorm(), gd.Tanh(), gd.Dense(outputs)]
    return gd.Sequential(layers, 3, dtype=dtype, seed=seed)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_layers_by_name_take_the_arrays_of_another_model(backend, dtype):
    trained, model = heads(2), heads(4, dtype, seed=1).to(backend)
    trained.fit(*rows(), loss="mse")
    before, theirs = model.arrays(), trained.arrays()
    model.load_weights(trained, layers=["dense1", "batchnorm1"])
    taken = {name for name in theirs if "dense2" not in name}
    assert changed(model, before) <= taken
    for name in taken:
        np.testing.assert_array_equal(model.arrays()[name], theirs[name].astype(dtype))


def test_all_layers_are_taken_where_all_are_the_same(tmp_path):
    trained, model = heads(2), heads(2, seed=1)
    trained.fit(*rows(), loss="mse")
    trained.save(tmp_path / "m.npz")
    model.layers[0].trainable = False
    model.load_weights(gd.load(tmp_path / "m.npz"))
    assert changed(model, trained.arrays()) == set()
    assert not model.layers[0].trainable


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        (
            None,
            r"dense2: .*'W': \(5, 4\).* the other model has .*layers=\['dense1', 'batchnorm1'\] w",
        ),
        (
            ["dense2"],
            r"dense2: this model has \{'W': \(5, 4\), 'b': \(4,\)\}, but the other model has ",
        ),
        (
            ["dense9"],
            "dense9: this model has no such layer, but the other model has no such layer; "
            r"layers=\['dense1', 'batchnorm1'\] would fit",
        ),
    ],
)
def test_layers_that_do_not_fit_are_refused_and_nothing_changes(layers, words):
    model = heads(4, seed=1)
    before = model.arrays()
    with pytest.raises(gd.ShapeError, match=words):
        model.load_weights(heads(2), layers)
    assert changed(model, before) == set()


@pytest.mark.parametrize("given", ["m.npz", None, {}, gd.Dense(2)])
def test_what_is_no_model_is_refused(given):
    with pytest.raises(TypeError, match="load_weights takes a minigd"):
        heads(2).load_weights(given)


@pytest.mark.parametrize(
    "layer",
    [gd.BatchNorm, lambda: gd.Residual([gd.BatchNorm(), gd.Tanh()])],
    ids=["alone", "inside"],
)
@pytest.mark.parametrize("n", [1, 20])
@pytest.mark.parametrize("frozen", [False, True])
def test_what_is_frozen_after_a_forward_has_the_gradient_of_that_forward(layer, n, frozen):
    def dx(then):
        model = gd.Sequential([gd.Dense(4), layer(), gd.Dense(2)], 3, dtype="float64", seed=1)
        model.trainable = not frozen
        model.forward(rows()[0], train=True)
        model.forward(rows(n)[0], train=True)
        model.trainable = then
        return model.backward(rows(n)[1], input_gradient=True)

    np.testing.assert_array_equal(dx(then=frozen), dx(then=not frozen))
