"""`Residual`, and layers that hold layers: names, values, files, freezing and what follows them.

The truth of its output and gradients is the sum written out by hand on a chain of the same layers.
"""

import pickle

import numpy as np
import pytest
from budgets import examples
from hypothesis import given
from hypothesis import strategies as st

import minigd as gd


def inner():
    """Return layers of every kind of state: weights, statistics, draws, and a Residual."""
    nested = gd.Residual([gd.Dense(5), gd.GELU(), gd.Dropout(0.2)])
    first = gd.Dense(5, bias=False)  # BatchNorm takes a bias off again, and leaves it no gradient
    return [first, gd.BatchNorm(), gd.Tanh(), gd.Dropout(0.3), nested, gd.Dense(4)]


def model_of(layers=None, seed=0, dtype="float64"):
    layers = layers or [gd.Dense(4), gd.Residual(inner()), gd.Dense(2)]
    return gd.Sequential(layers, inputs=3, dtype=dtype, seed=seed)


def rows(n=40):
    rng = np.random.default_rng(n)
    return rng.normal(size=(n, 3)), rng.normal(size=(n, 2))


def assert_same(one, other):
    """Compare parameters and buffers to the bit."""
    one, other = one.arrays(), other.arrays()
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


class Gated(gd.Layer):
    """y = x ⊙ s + f(x) with a scale of its own, and two chains."""

    def __init__(self, units, last):
        self.f = [gd.Dense(units), gd.Tanh(), last]
        self.g = [gd.Dense(units)]
        self.units, self.last = units, last

    def build(self, n_in):
        self.add_param("s", (n_in,), "ones")
        self.hold(self.g, self.hold(self.f, n_in))
        return self.units

    def forward(self, x, train=False):
        if train:
            self.keep(x)
        y = self.run_inner(self.g, self.run_inner(self.f, x, train), train)
        return y + x * self.params["s"]

    def backward(self, dy):
        (x,) = self.kept()
        self.grads["s"] = (dy * x).mean(axis=0)
        wants, self.wants_dx = self.wants_dx, True
        dx = self.run_inner_back(self.f, self.run_inner_back(self.g, dy))
        self.wants_dx = wants
        return dx + dy * self.params["s"]


# The formula ----------------------------------------------------------------------------------


@pytest.mark.parametrize("train", [True, False])
def test_it_is_the_sum_written_out_by_hand(train):
    block, chain = gd.Residual([gd.Dense(5), gd.SiLU(), gd.Dense(3)]), None
    model = gd.Sequential([block], inputs=3, dtype="float64", seed=3)
    chain = gd.Sequential([gd.Dense(5), gd.SiLU(), gd.Dense(3)], inputs=3, dtype="float64")
    for own, name in zip(chain.params, model.params, strict=True):
        assert name == f"residual1.{own}"
        chain.params[own] = model.params[name]
    rng = np.random.default_rng(0)
    x, dy = rng.normal(size=(2, 6, 3))
    before = x.copy()
    np.testing.assert_array_equal(model.forward(x, train=train), x + chain.forward(x, train=train))
    if train:
        dx = model.backward(dy, input_gradient=True)
        np.testing.assert_array_equal(dx, dy + chain.backward(dy, input_gradient=True))
        np.testing.assert_array_equal(model.flat_grads, chain.flat_grads)
    np.testing.assert_array_equal(x, before)


def test_names_and_views_reach_the_inner_layers():
    model = model_of()
    assert [layer.name for layer in model.layers] == ["dense1", "residual1", "dense2"]
    assert "residual1.residual1.dense1.W" in model.params
    assert "buffers/residual1.batchnorm1.mean" in model.arrays()
    block = model.layers[1]
    assert [layer.name for layer in block.inner_layers] == [
        *("residual1.dense1", "residual1.batchnorm1", "residual1.tanh1", "residual1.dropout1"),
        *("residual1.residual1", "residual1.residual1.dense1", "residual1.residual1.gelu1"),
        *("residual1.residual1.dropout1", "residual1.dense2"),
    ]
    block.params["residual1.dense1.b"] = 7.0
    assert (block.layers[4].layers[0].params["b"] == 7).all()
    assert np.shares_memory(block.params["dense1.W"], model.flat_params)
    assert list(block.buffers) == ["batchnorm1.mean", "batchnorm1.variance"]


def test_inner_layers_draw_apart():
    model = gd.Sequential([gd.Residual([gd.Dropout(0.5)]), gd.Dropout(0.5)], inputs=64)
    model.forward(np.ones((2, 64)), train=True)
    one, other = (layer.held[0] for layer in model.all_layers if layer.draws)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("n_in", [2, 3, 7])
def test_other_widths_are_refused_with_a_remedy_that_works(n_in):
    with pytest.raises(ValueError, match=rf"its input, {n_in} wide.*residual1\.dense1.*5 wide"):
        gd.Sequential([gd.Residual([gd.Dense(5)])], inputs=n_in)
    gd.Sequential([gd.Residual([gd.Dense(5), gd.Dense(n_in)])], inputs=n_in)
    gd.Sequential([gd.Dense(5), gd.Residual([gd.Dense(5)])], inputs=n_in)


def test_layers_that_are_none_or_elsewhere_are_refused_and_freed():
    used = gd.Dense(3)
    gd.Sequential([used], inputs=3)
    for layers, error in (
        ([used], ValueError), ([], ValueError), ([gd.Dense], TypeError), (gd.Dense(3), TypeError),
    ):  # fmt: skip
        with pytest.raises(error):
            gd.Residual(layers)
    twice = gd.Dense(3)
    with pytest.raises(ValueError, match="already in a model"):
        gd.Sequential([gd.Residual([twice]), gd.Residual([twice])], inputs=3)
    late = gd.Residual([twice])
    with pytest.raises(ValueError, match="3 wide"):
        gd.Sequential([late], inputs=2)
    assert gd.Sequential([late], inputs=3).all_layers[1].name == "residual1.dense1"


def test_hold_in_the_constructor_is_refused():
    class Early(gd.Layer):
        def __init__(self):
            self.hold([gd.Dense(2)], 2)

    with pytest.raises(TypeError, match=r"call it in build\(self, n_in\)"):
        Early()


# Copies, files, training ----------------------------------------------------------------------


def test_copies_and_files_hold_the_inner_layers(tmp_path):
    X, Y = rows()
    model = model_of()
    model.layers[1].layers[0].trainable = False
    model.fit(X, Y, loss="mse", epochs=2, batch_size=16)
    model.save(tmp_path / "m.npz")
    for other in (gd.load(tmp_path / "m.npz"), model.copy(), pickle.loads(pickle.dumps(model))):
        assert_same(other, model)
        assert [layer.trainable for layer in other.all_layers] == [
            layer.trainable for layer in model.all_layers
        ]
        assert other.trained_names == model.trained_names
        np.testing.assert_array_equal(other.predict(X), model.predict(X))


def test_a_container_of_ones_own_is_saved_by_its_arguments(tmp_path):
    model = gd.Sequential([Gated(3, gd.Dense(4)), gd.Dense(2)], inputs=3, dtype="float64")
    assert "gated1.s" in model.params
    assert "gated1.dense3.W" in model.params
    model.save(tmp_path / "m.npz")
    other = gd.load(tmp_path / "m.npz", custom=[Gated])
    assert_same(other, model)
    X, _ = rows()
    np.testing.assert_array_equal(other.predict(X), model.predict(X))
    assert max(gd.check_layer(Gated(3, gd.Dense(4)), X[:7]).values()) < 1e-9


class Branches(gd.Layer):
    """The sum of f(x) over chains f by name."""

    def __init__(self, chains):
        self.chains = chains

    def build(self, n_in):
        return {self.hold(chain, n_in) for chain in self.chains.values()}.pop()

    def forward(self, x, train=False):
        return sum(self.run_inner(chain, x, train) for chain in self.chains.values())

    def backward(self, dy):
        return sum(self.run_inner_back(chain, dy) for chain in self.chains.values())


def test_layers_in_a_dict_are_saved_as_those_in_a_list(tmp_path):
    branches = Branches({"a": [gd.Dense(3)], "class": [gd.Dense(4), Own(), gd.Dense(3)]})
    model = gd.Sequential([gd.Dense(3), branches, gd.Dense(2)], inputs=3, seed=1)
    model.layers[1].chains["a"][0].trainable = False
    model.save(tmp_path / "m.npz")
    again = gd.load(tmp_path / "m.npz", custom=[Branches, Own])
    for other in (again, model.copy()):
        assert_same(other, model)
        assert list(other.grads) == list(model.grads)
        assert isinstance(other.layers[1].chains["class"][1], Own)
    with pytest.raises(gd.CheckpointError, match=r"custom=\[Branches, Own\]"):
        gd.load(tmp_path / "m.npz")


class Own(gd.Tanh):
    """A custom Tanh inside a Residual."""


def test_the_best_weights_are_kept_and_come_back():
    X, Y = rows()
    model = model_of()
    stopping = gd.EarlyStopping(patience=50)
    trainer = gd.Trainer(model, "mse", gd.SGD(0.3))
    data = {"validation_data": (X[:20], Y[:20]), "batch_size": 10}
    for _ in range(2):  # the second one continues from the last weights
        history = trainer.fit(X[20:], Y[20:], epochs=4, callbacks=[stopping], **data)
        loss = trainer.evaluate(X[:20], Y[:20])["loss"]
        assert loss == pytest.approx(min(history["val_loss"]), rel=1e-9)


def test_a_class_of_ones_own_with_this_name_loads_as_before(tmp_path):
    class Residual(gd.Tanh):
        """One of the same name."""

    gd.Sequential([Residual()], inputs=3).save(tmp_path / "m.npz")
    with pytest.raises(gd.CheckpointError, match=r"class of your own, .*custom=\[Residual\]"):
        gd.load(tmp_path / "m.npz")
    assert type(gd.load(tmp_path / "m.npz", custom=[Residual]).layers[0]) is Residual


def test_a_missing_class_inside_is_named(tmp_path):
    model = gd.Sequential([gd.Residual([Own()])], inputs=3)
    model.save(tmp_path / "m.npz")
    with pytest.raises(gd.CheckpointError, match=r"custom=\[Own\]"):
        gd.load(tmp_path / "m.npz")
    assert isinstance(gd.load(tmp_path / "m.npz", custom=[Own]).all_layers[1], Own)


def test_resumed_training_is_the_same_to_the_bit(tmp_path):
    X, Y = rows()
    batches = gd.Batches(X, Y, batch_size=16, shuffle=True, seed=1)
    whole = gd.Trainer(model_of(), "mse", gd.Adam(0.01))
    whole.fit(batches, epochs=4)
    half = gd.Trainer(model_of(), "mse", gd.Adam(0.01))
    half.fit(batches, epochs=2)
    half.save(tmp_path / "run.npz")
    resumed = gd.Trainer.resume(tmp_path / "run.npz", batches)
    resumed.fit(batches, epochs=2)
    assert_same(resumed.model, whole.model)


@pytest.mark.few(1)
@pytest.mark.parametrize("fast", [False, True])
def test_every_target_makes_the_plain_steps(fast):
    if fast:
        pytest.importorskip("numba")
    X, Y = rows(48)
    plain, model = model_of(), model_of()
    for one, options in ((plain, {"reuse_buffers": False, "fast": False}), (model, {"fast": fast})):
        trainer = gd.Trainer(one, "mse", gd.Adam(0.01), **options)
        trainer.fit(X, Y, batch_size=16, epochs=3)
    runner = trainer._loop.steps
    assert runner._compiled if fast else runner._numpy, "the steps were plain"
    expected = plain.arrays()
    for name, value in model.arrays().items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-9, atol=1e-12, err_msg=name)


def test_statistics_inside_are_those_of_averaged_weights():
    X, Y = rows(40)
    layers = [gd.Dense(4), gd.Residual([gd.Tanh(), gd.BatchNorm(), gd.Dense(4)]), gd.Dense(2)]
    model = model_of(layers)
    average = gd.AverageWeights(0.9)
    trainer = gd.Trainer(model, "mse", gd.SGD(0.05))
    trainer.fit(X, Y, batch_size=20, epochs=3, callbacks=[average])
    with average.applied(trainer):
        first = np.tanh(X @ model.params["dense1.W"] + model.params["dense1.b"])
        buffers = model.layers[1].buffers
        np.testing.assert_allclose(buffers["batchnorm1.mean"], first.mean(axis=0), rtol=1e-12)
        variance = first.var(axis=0, ddof=1)
        np.testing.assert_allclose(buffers["batchnorm1.variance"], variance, rtol=1e-12)


# What is not trained --------------------------------------------------------------------------


def test_an_inner_layer_can_be_frozen_alone_and_with_all_others():
    X, Y = rows()
    model = model_of()
    block = model.layers[1]
    block.layers[0].trainable = False
    before = model.arrays()
    model.fit(X, Y, loss="mse", epochs=2, batch_size=16)
    changed = {name for name, a in model.arrays().items() if not np.array_equal(a, before[name])}
    assert "params/residual1.dense2.W" in changed
    assert not {
        name
        for name in changed
        if ".residual1.dense1" in name.replace("s/", "s/.") and name.count("residual1") == 1
    }
    assert "residual1.dense1.W" not in model.grads
    block.trainable = False
    assert model.trained_names == ("dense1.W", "dense2.W", "dense1.b", "dense2.b")
    with pytest.raises(ValueError, match="residual1 is not trainable, and holds"):
        block.layers[0].trainable = True
    before = model.arrays()
    model.fit(X, Y, loss="mse", epochs=1, batch_size=16)
    now = model.arrays()
    assert all(np.array_equal(now[n], before[n]) for n in now if "residual1" in n)
    block.trainable = True
    assert set(model.trained_names) == set(model.params)


def test_one_frozen_before_it_is_in_a_model_freezes_what_it_holds():
    block = gd.Residual([gd.Dense(4), gd.Residual([gd.Dense(4)])])
    block.trainable = False
    model = model_of([gd.Dense(4), block, gd.Dense(2)])
    assert model.trained_names == ("dense1.W", "dense2.W", "dense1.b", "dense2.b")


@pytest.mark.parametrize("layers", [["residual1"], ["residual1.dense1", "residual1.residual1"]])
def test_weights_go_over_with_what_is_inside(layers):
    trained, model = model_of(seed=1), model_of(seed=2)
    before = model.arrays()
    model.load_weights(trained, layers=layers)
    theirs = trained.arrays()
    for name, value in model.arrays().items():
        own = name.partition("/")[2]
        taken = any(own.startswith(f"{layer}.") for layer in layers)
        np.testing.assert_array_equal(value, theirs[name] if taken else before[name])


# Around it ------------------------------------------------------------------------------------


def test_the_summary_counts_each_parameter_once():
    model = model_of()
    lines = str(model.summary()).splitlines()
    parts = [line.split() for line in lines]
    start = next(i for i, words in enumerate(parts) if words[0] == "total")
    sizes = [int(words[-1]) for words in parts[1:start]]
    assert sum(sizes) == model.flat_params.size == int(parts[start][1].replace(",", ""))
    assert any(line.startswith("    dense1 ") for line in lines)


def test_standardize_inside_is_refused_where_it_would_adapt():
    model = gd.Sequential([gd.Residual([gd.Standardize()]), gd.Dense(1)], inputs=3)
    X, Y = rows()
    with pytest.raises(ValueError, match="must be the first"):
        model.adapt(gd.Batches(X, Y[:, 0]))


def test_an_estimator_takes_one_among_its_layers():
    pytest.importorskip("sklearn")
    X, Y = rows()
    layers = [gd.Dense(6), gd.Residual([gd.Dense(6), gd.Tanh()])]
    estimator = gd.MiniBatchRegressor(layers=layers, epochs=2).fit(X, Y[:, 0])
    assert "residual1.dense1.W" in estimator.model_.params
    assert not layers[1].inner_layers
    estimator.fit(X, Y[:, 0])


def test_a_plain_layer_inside_runs_as_it_is():
    calls = []

    class Watched(gd.Tanh):
        def forward(self, x, train=False):
            calls.append(train)
            return super().forward(x, train)

    model = model_of([gd.Dense(4), gd.Residual([Watched()]), gd.Dense(2)])
    X, Y = rows()
    model.fit(X, Y, loss="mse", batch_size=10, epochs=3)
    assert calls.count(True) == 12


@pytest.mark.parametrize("n", [1, 2, 7])
@pytest.mark.parametrize("of", range(4))
def test_a_check_of_the_layer_alone_passes(of, n):
    layers = [
        [gd.Dense(3), gd.Tanh()],
        [gd.Dense(8), gd.BatchNorm(), gd.SiLU(), gd.Dense(3)],
        [gd.Residual([gd.Dense(5), gd.Residual([gd.Dense(5)]), gd.Dense(3)]), gd.Dropout(0.3)],
        [*inner()[:-1], gd.Dense(3)],
    ][of]
    x = np.random.default_rng(n).normal(size=(n, 3))
    assert max(gd.check_layer(gd.Residual(layers), x).values()) < 1e-9


@pytest.mark.parametrize("wrong", [slice(None, None, -1), slice(1, None), slice(-1)])
def test_a_chain_run_back_in_another_order_or_in_part_is_caught(wrong, monkeypatch):
    def back(self, dy):
        inner = self.run_inner_back(self.layers[wrong], dy)
        return None if inner is None else dy + inner

    monkeypatch.setattr(gd.Residual, "backward", back)
    block = gd.Residual([gd.Dense(3), gd.Tanh(), gd.Dense(3), gd.GELU()])
    with pytest.raises(gd.GradientError, match=r"residual1\.dense|^x: backward"):
        gd.check_layer(block, np.random.default_rng(0).normal(size=(7, 3)))


@examples(10)
@given(st.data())
def test_any_nesting_has_right_gradients(data):
    def block(depth):
        kinds = [gd.Tanh, gd.LayerNorm, gd.BatchNorm, lambda: gd.Dropout(0.3), lambda: gd.Dense(3)]
        layers = [make() for make in data.draw(st.lists(st.sampled_from(kinds), min_size=1))][:3]
        return gd.Residual([*layers, block(depth - 1)] if depth else layers)

    model = gd.Sequential([block(data.draw(st.integers(0, 3))), gd.Dense(2)], 3, dtype="float64")
    X, Y = rows(6)
    assert max(gd.check_gradients(model, "mse", X, Y).values()) < 1e-9
