"""What the engine guarantees to a layer, and what it requires, also of a custom layer.

The layers here are written like a student's: few methods, new arrays, mistakes.
"""

import numpy as np
import pytest

import minigd as gd


class Double(gd.Layer):
    """The least that a layer needs; it has no `__init__`."""

    def forward(self, x, train=False):
        return 2 * x

    def backward(self, dy):
        return 2 * dy


class Scale(gd.Layer):
    """A factor for each column, and a buffer that counts the rows of training."""

    def __init__(self, start=1.0):
        self.start = start

    def build(self, n_in):
        self.add_param("s", (n_in,), lambda rng, shape: np.full(shape, self.start))
        self.add_buffer("seen", (1,))
        return n_in

    def forward(self, x, train=False):
        if train:
            self.keep(x)
            self.buffers["seen"] += len(x)
        return x * self.params["s"]

    def backward(self, dy):
        (x,) = self.kept()
        self.grads["s"][...] = (x * dy).mean(axis=0)
        return dy * self.params["s"]


class Forgetful(Double):
    """Does not keep its argument."""

    def __init__(self, factor):
        pass


class Built(Double):
    """Returns from `build` what it got."""

    def __init__(self, result):
        self.result = result

    def build(self, n_in):
        return self.result


def returning(forward=None, backward=None):
    """Return a layer whose two methods are these functions of an array."""

    class Returning(gd.Layer):
        def forward(self, x, train=False):
            return forward(x) if forward else x

        def backward(self, dy):
            return backward(dy) if backward else dy

    return Returning()


# Names and places -----------------------------------------------------------------------------


def test_layers_are_named_by_class_and_count():
    layers = [gd.Dense(3), gd.Tanh(), gd.Dense(3), gd.ReLU(), gd.Tanh(), Double(), gd.Dense(1)]
    model = gd.Sequential(layers, inputs=2)
    names = ["dense1", "tanh1", "dense2", "relu1", "tanh2", "double1", "dense3"]
    assert [layer.name for layer in model.layers] == names
    assert list(model.params) == [f"dense{i}.{k}" for i in (1, 2, 3) for k in "Wb"]
    assert [(layer.n_in, layer.n_out) for layer in model.layers[:2]] == [(2, 3), (3, 3)]


def test_all_weights_lie_first_and_all_vectors_behind_them(backend):
    layers = [gd.Dense(3), Scale(), gd.Dense(2)]
    model = gd.Sequential(layers, inputs=4, backend=backend, dtype="float64")
    assert model.n_weights == 4 * 3 + 3 * 2
    assert model.flat_params.shape == model.flat_grads.shape == (18 + 3 + 3 + 2,)
    # Writing the flat vectors shows in the views, in the places that the layout says.
    for flat, named in ((model.flat_params, model.params), (model.flat_grads, model.grads)):
        flat[...] = backend.asarray(np.arange(26.0))
        places = {
            "dense1.W": np.arange(0, 12).reshape(4, 3),
            "dense2.W": np.arange(12, 18).reshape(3, 2),
            "dense1.b": np.arange(18, 21),
            "scale1.s": np.arange(21, 24),
            "dense2.b": np.arange(24, 26),
        }
        assert set(named) == set(places)
        for name, expected in places.items():
            np.testing.assert_array_equal(backend.to_numpy(named[name]), expected)
        # And the other way round.
        named["dense2.b"][...] = -1.0
        np.testing.assert_array_equal(backend.to_numpy(flat)[24:], -1)
    assert model.layers[1].params["s"] is model.params["scale1.s"]
    assert model.layers[1].grads["s"] is model.grads["scale1.s"]


def test_a_parameter_is_declared_once():
    class Twice(Double):
        def build(self, n_in):
            self.add_param("W", (n_in, 2))
            self.add_param("W", (n_in, 3))
            return n_in

    with pytest.raises(ValueError, match="'W'"):
        gd.Sequential([Twice()], inputs=2)


@pytest.mark.parametrize("result", [None, "3", 2.0, 0, -1, (3,), np.ones(2)])
def test_a_build_that_returns_no_width_is_refused(result):
    with pytest.raises(TypeError, match=r"Built\.build\(2\) returned .* the width of the output"):
        gd.Sequential([Built(result)], inputs=2)


def test_a_layer_belongs_to_one_place_in_one_model():
    layer = Double()
    with pytest.raises(ValueError, match=r"Double\(\) is already in a model.*model\.copy\(\)"):
        gd.Sequential([layer, layer], inputs=2)
    gd.Sequential([layer], inputs=2)
    with pytest.raises(ValueError, match="is already in a model"):
        gd.Sequential([layer], inputs=2)


def test_what_is_no_layer_is_refused():
    with pytest.raises(TypeError, match=r"layer 1 is <class .*Tanh'>.*with parentheses"):
        gd.Sequential([gd.Dense(1), gd.Tanh], inputs=2)
    with pytest.raises(TypeError, match=r"layer 0 is 'tanh', which is not a minigd\.Layer\Z"):
        gd.Sequential(["tanh"], inputs=2)


# Custom layers --------------------------------------------------------------------------------


def test_a_layer_without_init_trains_copies_and_saves(tmp_path, backend):
    model = gd.Sequential([Double(), gd.Dense(1), Double()], inputs=2, backend=backend)
    X = np.random.default_rng(0).normal(size=(60, 2))
    y = X @ [1.0, -2.0] + 0.5
    updater = gd.SGD(0.05)
    history = model.fit(X, y, loss="mse", updater=updater, batch_size=20, epochs=60)
    assert history["loss"][-1] < 1e-6
    model.save(tmp_path / "m.npz")
    loaded = gd.load(tmp_path / "m.npz", custom=[Double])
    for again in (model.copy(), loaded):
        np.testing.assert_allclose(again.predict(X), model.predict(X), rtol=1e-5, atol=1e-6)
        assert [type(layer) for layer in again.layers] == [Double, gd.Dense, Double]


def test_a_file_with_a_layer_of_ones_own_says_how_to_load_it(tmp_path):
    gd.Sequential([Double()], inputs=2).save(tmp_path / "m.npz")
    with pytest.raises(gd.CheckpointError, match=r"class 'Double'.*custom=\[Double\]"):
        gd.load(tmp_path / "m.npz")


def test_an_argument_that_is_not_kept_is_named_when_copying_and_saving(tmp_path):
    model = gd.Sequential([Forgetful(3.0)], inputs=2)
    np.testing.assert_array_equal(model.forward([[1.0, 2.0]]), [[2.0, 4.0]])
    words = r"Forgetful\.__init__ takes 'factor' but does not keep it: write `self\.factor = fac"
    with pytest.raises(TypeError, match=words):
        model.copy()
    with pytest.raises(TypeError, match=words):
        model.save(tmp_path / "m.npz")
    assert not (tmp_path / "m.npz").exists()


def test_every_layer_can_be_shown(tmp_path):
    assert repr(Scale(2.0)) == "Scale(start=2.0)"
    assert repr(gd.Dense(3)) == "Dense(units=3, initializer='glorot_uniform', bias=True)"
    # One that can't be saved can still be shown in a notebook.
    assert "Forgetful" in repr(Forgetful(3.0))
    assert "Forgetful" in repr(gd.Sequential([Forgetful(3.0)], inputs=2))


def test_buffers_are_saved_copied_and_moved_but_not_trained(tmp_path, backend):
    model = gd.Sequential([Scale(), gd.Dense(1)], inputs=2, dtype="float64")
    model.fit(np.ones((30, 2)), np.ones(30), loss="mse", batch_size=10)
    assert model.flat_params.size == 2 + 3
    assert "scale1.seen" not in model.params
    model.save(tmp_path / "m.npz")
    moved = model.copy().to(backend)
    assert backend.holds(moved.layers[0].buffers["seen"])
    for again in (model, model.copy(), gd.load(tmp_path / "m.npz", custom=[Scale]), moved):
        seen = again.backend.to_numpy(again.layers[0].buffers["seen"])
        np.testing.assert_array_equal(seen, [30])


def test_a_copy_shares_nothing_with_its_model():
    model = gd.Sequential([Scale(), gd.Dense(1)], inputs=2)
    copy = model.copy()
    before = model.flat_params.copy()
    copy.flat_params[...] = 7.0
    copy.layers[0].buffers["seen"][...] = 7.0
    np.testing.assert_array_equal(model.flat_params, before)
    np.testing.assert_array_equal(model.layers[0].buffers["seen"], [0])


wrong_results = pytest.mark.parametrize(
    ("function", "given"),
    [
        (lambda x: x[:, :1], r"an array of shape \(3, 1\) and dtype float32"),
        (lambda x: x[:2], r"an array of shape \(2, 2\) and dtype float32"),
        (lambda x: x.astype("float64"), r"an array of shape \(3, 2\) and dtype float64"),
        (lambda x: None, "None"),
        (lambda x: x.tolist(), ".*"),
    ],
    ids=["width", "rows", "dtype", "no return", "list"],
)


@wrong_results
def test_a_forward_that_returns_what_it_must_not_is_named(function, given):
    model = gd.Sequential([Double(), returning(forward=function)], inputs=2)
    with pytest.raises(gd.ShapeError, match=f"returning1: forward returned {given}; it must ret"):
        model.forward(np.ones((3, 2), dtype="float32"))


@wrong_results
def test_a_backward_that_returns_what_it_must_not_is_named(function, given):
    model = gd.Sequential([gd.Dense(2), returning(backward=function)], inputs=2)
    x = np.ones((3, 2), dtype="float32")
    model.forward(x, train=True)
    with pytest.raises(gd.ShapeError, match=f"returning1: backward returned {given}; it must ret"):
        model.backward(x)


@pytest.mark.parametrize(
    ("method", "signature"), [("forward", "x, train=False"), ("backward", "dy")]
)
def test_a_layer_without_one_of_its_methods_is_told_which(method, signature):
    class Half(gd.Layer):
        pass

    argument = np.ones((1, 2))
    message = rf"Half must define {method}\({signature}\)"
    with pytest.raises(NotImplementedError, match=message):
        getattr(Half(), method)(argument)


# Keeping --------------------------------------------------------------------------------------


def test_what_was_kept_is_given_once():
    layer = Double()
    x = np.ones(2)
    layer.keep(x)
    (kept,) = layer.kept()
    assert kept is x
    with pytest.raises(RuntimeError, match="Double: backward was called without a forward"):
        layer.kept()


def test_forgetting_drops_what_was_kept():
    layer = Double()
    layer.keep(np.ones(2))
    layer.forget()
    with pytest.raises(RuntimeError, match="without a forward"):
        layer.kept()


def test_moving_a_model_drops_what_was_kept(backend):
    model = gd.Sequential([gd.Dense(1)], inputs=2)
    model.forward(np.ones((3, 2)), train=True)
    if backend.name == "numpy":
        # It already exists, and stays unchanged.
        assert model.to(backend).backward(np.ones((3, 1))) is None
        return
    model.to(backend)
    with pytest.raises(RuntimeError, match="without a forward"):
        model.backward(backend.zeros((3, 1), "float32"))
    with pytest.raises(RuntimeError, match="dense1: backward was called without a forward"):
        model.layers[0].kept()


def test_layers_left_of_the_first_parameters_are_not_run_backward():
    calls = []
    first = returning(backward=lambda dy: calls.append("first") or dy)
    model = gd.Sequential([first, gd.Dense(2)], inputs=2)
    x = np.ones((3, 2), dtype="float32")
    model.forward(x, train=True)
    assert model.backward(x) is None
    assert calls == []
    model.forward(x, train=True)
    assert model.backward(x, input_gradient=True).shape == (3, 2)
    assert calls == ["first"]


def test_nothing_is_kept_behind_a_backward_anywhere():
    model = gd.Sequential([gd.Tanh(), gd.Dense(3), gd.Sigmoid(), gd.Dense(2)], inputs=2)
    for input_gradient in (False, True):
        model.forward(np.ones((4, 2)), train=True)
        model.backward(np.ones((4, 2)), input_gradient=input_gradient)
        for layer in model.layers:
            with pytest.raises(RuntimeError, match=f"{layer.name}: backward was called without"):
                layer.kept()
