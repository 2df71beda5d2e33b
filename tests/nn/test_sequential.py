"""The model: layers in a row over one flat vector, run forward and backward, copied and moved.

Its results are compared with plain NumPy and scikit-learn, and its errors with their texts.
"""

import copy

import numpy as np
import pytest
from budgets import examples
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, log_loss, mean_absolute_error, mean_squared_error

import minigd as gd


def rows(n=23, width=4):
    return np.random.default_rng(0).normal(size=(n, width))


def network(*last, inputs=4, dtype="float64", backend="numpy", seed=2):
    layers = [gd.Dense(6), gd.Tanh(), gd.Dense(5), gd.ReLU(), *last]
    return gd.Sequential(layers, inputs, dtype=dtype, backend=backend, seed=seed)


def by_hand(model, x):
    """Compute the logits of `network` with a Dense at its end, in plain NumPy."""
    p = {name: model.backend.to_numpy(value) for name, value in model.params.items()}
    h = np.tanh(x @ p["dense1.W"] + p["dense1.b"])
    h = np.maximum(h @ p["dense2.W"] + p["dense2.b"], 0)
    return h @ p["dense3.W"] + p["dense3.b"]


class Seen(gd.Layer):
    """Passes everything on and counts its calls of backward."""

    calls = 0

    def forward(self, x, train=False):
        return x

    def backward(self, dy):
        self.calls += 1
        return dy


# Forward and predict -----------------------------------------------------------------------------


def test_forward_is_the_formula(backend):
    model = network(gd.Dense(3), backend=backend)
    x = rows()
    y = backend.to_numpy(model.forward(backend.asarray(x)))
    np.testing.assert_allclose(y, by_hand(model, x), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("batch_size", [1, 5, 22, 23, 24, 1024])
def test_predict_is_forward_whatever_the_batch_size(backend, batch_size):
    model = network(gd.Dense(3), gd.Softmax(), backend=backend)
    x = backend.asarray(rows())
    whole = backend.to_numpy(model.forward(x))
    cut = backend.to_numpy(model.predict(x, batch_size=batch_size))
    # A matrix product may sum in another order for another number of rows.
    np.testing.assert_allclose(cut, whole, rtol=1e-12, atol=1e-15)


def test_predict_gives_its_answer_where_the_rows_are(backend):
    model = network(gd.Dense(3), backend=backend, dtype="float32")
    host = model.predict(rows())
    assert isinstance(host, np.ndarray)
    assert host.dtype == np.float32
    device = model.predict(backend.asarray(rows()))
    assert backend.holds(device)
    np.testing.assert_array_equal(backend.to_numpy(device), host)


def test_predict_takes_lists_and_whole_numbers():
    model = network(gd.Dense(3))
    x = [[1, 2, 3, 4], [5, 6, 7, 8]]
    np.testing.assert_array_equal(model.predict(x), model.predict(np.array(x, dtype=float)))


@pytest.mark.parametrize("batch_size", [0, -1, 2.5, None])
def test_predict_refuses_a_batch_size_that_is_none(batch_size):
    with pytest.raises(ValueError, match="batch_size must be an integer, at least 1"):
        network(gd.Dense(3)).predict(rows(), batch_size=batch_size)


@pytest.mark.few
@pytest.mark.parametrize("last", [gd.Dense, gd.Tanh, gd.Sigmoid, gd.ReLU, gd.Softmax])
def test_what_forward_returns_is_never_overwritten(backend, last):
    model = network(gd.Dense(3), *([] if last is gd.Dense else [last()]), backend=backend)
    x = backend.asarray(rows())
    first = model.forward(x)
    kept = backend.to_numpy(first).copy()
    model.forward(x * 2)
    model.forward(x * 3, train=True)
    model.backward(first)
    model.predict(x * 4)
    gd.Trainer(model, "mse", "sgd").fit(x, x[:, :3], epochs=2, batch_size=5)
    np.testing.assert_array_equal(backend.to_numpy(first), kept)


def test_forward_modifies_neither_x_nor_parameters(backend):
    model = network(gd.Dense(3), backend=backend)
    x = backend.asarray(rows())
    params = backend.to_numpy(model.flat_params).copy()
    model.forward(x, train=True)
    model.predict(x)
    np.testing.assert_array_equal(backend.to_numpy(x), rows())
    np.testing.assert_array_equal(backend.to_numpy(model.flat_params), params)


# Backward ----------------------------------------------------------------------------------------


def test_backward_gives_means_over_the_batch_and_the_inputs_own_gradients(backend):
    model = gd.Sequential([gd.Dense(2)], inputs=4, dtype="float64", backend=backend)
    x, dy = rows(), rows(width=2)
    model.forward(backend.asarray(x), train=True)
    dx = model.backward(backend.asarray(dy), input_gradient=True)
    per_example = np.einsum("ij,ik->ijk", x, dy)
    W = backend.to_numpy(model.params["dense1.W"])
    for name, expected in (("dense1.W", per_example.mean(axis=0)), ("dense1.b", dy.mean(axis=0))):
        own = backend.to_numpy(model.grads[name])
        np.testing.assert_allclose(own, expected, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(backend.to_numpy(dx), dy @ W.T, rtol=1e-12)


def test_backward_needs_a_forward_of_its_own(backend):
    model = network(gd.Dense(3), backend=backend)
    dy = backend.asarray(rows(width=3))
    with pytest.raises(RuntimeError, match=r"backward was called without a forward\(x, train=Tr"):
        model.backward(dy)
    model.forward(backend.asarray(rows()))
    with pytest.raises(RuntimeError, match="backward was called without a forward"):
        model.backward(dy)
    model.forward(backend.asarray(rows()), train=True)
    model.backward(dy)
    with pytest.raises(RuntimeError, match="for the second time"):
        model.backward(dy)


def test_a_reading_pass_between_forward_and_backward_changes_nothing():
    x, dy = rows(), rows(width=3)
    gradients = []
    for between in (lambda model: None, lambda model: model.predict(2 * x)):
        model = network(gd.Dense(3))
        model.forward(x, train=True)
        between(model)
        model.backward(dy)
        gradients.append(model.flat_grads.copy())
    np.testing.assert_array_equal(*gradients)


@pytest.mark.parametrize("shape", [(23,), (23, 1), (22, 3), (1, 3), (3, 23)])
def test_backward_refuses_a_dy_of_another_shape(backend, shape):
    model = network(gd.Dense(3), backend=backend)
    model.forward(backend.asarray(rows()), train=True)
    with pytest.raises(gd.ShapeError, match=r"dy has shape .* but the output had shape \(23, 3\)"):
        model.backward(backend.asarray(np.ones(shape)))
    # The refusal used nothing up.
    model.backward(backend.asarray(np.ones((23, 3))))


def test_layers_left_of_the_first_parameters_are_run_backward_only_on_request():
    model = gd.Sequential([Seen(), gd.Dense(3), Seen()], inputs=4, dtype="float64")
    left, _, right = model.layers
    model.forward(rows(), train=True)
    assert model.backward(rows(width=3)) is None
    assert (left.calls, right.calls) == (0, 1)
    model.forward(rows(), train=True)
    assert model.backward(rows(width=3), input_gradient=True).shape == (23, 4)
    assert (left.calls, right.calls) == (1, 2)


def test_a_model_without_parameters_has_an_input_gradient():
    model = gd.Sequential([gd.Tanh()], inputs=4, dtype="float64")
    y = model.forward(rows(), train=True)
    dx = model.backward(np.ones_like(y), input_gradient=True)
    np.testing.assert_allclose(dx, 1 - np.tanh(rows()) ** 2, rtol=1e-12)


# The flat vectors --------------------------------------------------------------------------------


def assert_views(model):
    """Check that named arrays and flat vectors are the same memory, both ways."""
    to_numpy = model.backend.to_numpy
    for flat, named in ((model.flat_params, model.params), (model.flat_grads, model.grads)):
        before = to_numpy(flat).copy()
        flat[...] = 0
        total = 0
        for i, (name, array) in enumerate(named.items(), start=1):
            layer, short = name.split(".")
            owner = next(own for own in model.layers if own.name == layer)
            held = (owner.params if named is model.params else owner.grads)[short]
            array += i
            assert float(to_numpy(held).min()) == float(to_numpy(held).max()) == i
            total += i * array.size
        assert to_numpy(flat).sum() == total
        flat[...] = model.backend.asarray(before)


def test_parameters_and_gradients_are_views_of_the_flat_vectors(backend, tmp_path):
    model = network(gd.Dense(3), backend=backend)
    assert_views(model)
    assert_views(model.copy())
    assert_views(copy.deepcopy(model))
    model.save(tmp_path / "m.npz")
    assert_views(gd.load(tmp_path / "m.npz", backend=backend))
    assert_views(model.to("numpy"))
    assert_views(model.to(backend))


def test_weights_lie_before_biases():
    model = network(gd.Dense(3))
    weights = [model.params[f"dense{i}.W"].ravel() for i in (1, 2, 3)]
    biases = [model.params[f"dense{i}.b"] for i in (1, 2, 3)]
    assert model.n_weights == 4 * 6 + 6 * 5 + 5 * 3
    np.testing.assert_array_equal(model.flat_params, np.concatenate(weights + biases))
    assert list(model.params) == [f"dense{i}.{name}" for i in (1, 2, 3) for name in "Wb"]


@examples(15)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(1, 9))
def test_the_flat_vector_holds_every_parameter_once(widths, inputs):
    model = gd.Sequential([gd.Dense(width) for width in widths], inputs)
    shapes = list(zip([inputs, *widths], widths, strict=False))
    assert model.n_weights == sum(a * b for a, b in shapes)
    assert model.flat_params.size == model.n_weights + sum(widths)
    assert (model.n_in, model.n_out) == (inputs, widths[-1])


def test_the_seed_decides_the_first_weights():
    first, same, other = (network(gd.Dense(3), seed=seed).flat_params for seed in (2, 2, 3))
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other)


# Evaluate ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 7, 100, 1024])
def test_evaluate_classifies_as_scikit_learn_does(backend, batch_size):
    x = rows(100)
    y = np.random.default_rng(1).integers(0, 3, 100)
    model = network(gd.Dense(3), gd.Softmax(), backend=backend)
    model.fit(x, y, loss="categorical_crossentropy", metrics=["accuracy"])
    p = model.predict(x)
    values = model.evaluate(x, y, batch_size=batch_size)
    # 100 rows in sevens leave 2: a plain mean over batches would be off by far more than this.
    assert values["loss"] == pytest.approx(log_loss(y, p), rel=1e-12)
    assert values["accuracy"] == pytest.approx(accuracy_score(y, p.argmax(axis=1)), rel=1e-12)
    one_hot = model.evaluate(x, np.eye(3)[y], batch_size=batch_size)
    assert one_hot == pytest.approx(values, rel=1e-12)


@pytest.mark.parametrize("batch_size", [1, 7, 1024])
def test_evaluate_regresses_as_scikit_learn_does(backend, batch_size):
    x, y = rows(100), rows(100, 2)
    model = network(gd.Dense(2), backend=backend)
    model.fit(x, y, loss="mse", metrics=["mae", "mse"])
    z = model.predict(x)
    values = model.evaluate(x, y, batch_size=batch_size)
    assert values["loss"] == pytest.approx(mean_squared_error(y, z), rel=1e-12)
    assert values["mse"] == pytest.approx(mean_squared_error(y, z), rel=1e-12)
    assert values["mae"] == pytest.approx(mean_absolute_error(y, z), rel=1e-12)


def test_evaluate_of_yes_or_no_in_every_shape_of_y(backend):
    x = rows(100)
    y = (x[:, 0] > 0).astype(int)
    model = network(gd.Dense(1), gd.Sigmoid(), backend=backend)
    model.fit(x, y, loss="binary_crossentropy", metrics=["accuracy"])
    p = model.predict(x)[:, 0]
    for targets in (y, y[:, None], y.astype(bool), y.astype("float32"), y.tolist()):
        values = model.evaluate(x, targets, batch_size=7)
        assert values["loss"] == pytest.approx(log_loss(y, p), rel=1e-12)
        assert values["accuracy"] == pytest.approx(accuracy_score(y, p > 0.5), rel=1e-12)


def test_evaluate_takes_batches_and_sources():
    x, y = rows(100), rows(100, 1)
    model = network(gd.Dense(1))
    model.fit(x, y, loss="mse")
    expected = model.evaluate(x, y)
    for data in (gd.ArraySource(x, y), gd.Batches(x, y, batch_size=30, tail="drop")):
        assert model.evaluate(data) == pytest.approx(expected, rel=1e-12)


def test_evaluate_before_fit_says_what_to_do():
    with pytest.raises(RuntimeError, match="this model was not fitted: call fit first"):
        network(gd.Dense(1)).evaluate(rows(), rows(width=1))


# Summary, copies, devices ------------------------------------------------------------------------


def test_summary_counts_parameters_and_bytes():
    lines = repr(network(gd.Dense(3), gd.Softmax(), dtype="float32").summary()).splitlines()
    assert lines[0].split() == ["layer", "output", "parameters"]
    assert [line.split()[0] for line in lines[1:8]] == [
        *["dense1", "tanh1", "dense2", "relu1", "dense3", "softmax1", "total"]
    ]
    assert [int(line.split()[-1]) for line in lines[1:7]] == [30, 0, 35, 0, 18, 0]
    assert lines[7].split(maxsplit=2) == ["total", "83", "332 bytes of float32"]


@pytest.mark.parametrize("make", [gd.Sequential.copy, copy.copy, copy.deepcopy])
def test_a_copy_is_equal_and_independent(backend, make):
    model = network(gd.Dense(3), backend=backend, dtype="float32")
    x = backend.asarray(rows())
    model.fit(x, x[:, :3], loss="mse", metrics=["mae"])
    twin = make(model)
    before = backend.to_numpy(twin.flat_params).copy()
    np.testing.assert_array_equal(before, backend.to_numpy(model.flat_params))
    assert twin.dtype == model.dtype
    assert twin.evaluate(x, x[:, :3]) == model.evaluate(x, x[:, :3])
    assert not set(map(id, twin.layers)) & set(map(id, model.layers))
    model.fit(x, x[:, :3], loss="mse", updater=gd.SGD(0.5))
    np.testing.assert_array_equal(backend.to_numpy(twin.flat_params), before)


def test_a_copy_may_have_another_dtype():
    model = network(gd.Dense(3), dtype="float32")
    twin = model.copy(dtype="float64")
    assert twin.flat_params.dtype == np.float64
    np.testing.assert_array_equal(twin.flat_params, model.flat_params)


def test_a_copy_shares_no_loss_in_use():
    x = rows()
    model = network(gd.Dense(3))
    model.fit(x, x[:, :3], loss="mse", metrics=["mae"])
    twin = model.copy()
    assert twin.loss is not model.loss
    assert repr(twin.loss) == repr(model.loss)


def test_to_and_back_keeps_every_bit(backend):
    model = network(gd.Dense(3), dtype="float32")
    before = model.flat_params.copy()
    assert model.to(backend) is model
    assert backend.holds(model.flat_params)
    assert backend.holds(model.forward(backend.asarray(rows())))
    np.testing.assert_array_equal(backend.to_numpy(model.flat_params), before)
    model.to("numpy")
    np.testing.assert_array_equal(model.flat_params, before)


def test_a_copy_on_another_backend_leaves_the_first_where_it_is(backend):
    model = network(gd.Dense(3))
    twin = model.copy(backend=backend)
    assert backend.holds(twin.flat_params)
    assert isinstance(model.flat_params, np.ndarray)
    np.testing.assert_allclose(twin.predict(rows()), model.predict(rows()), rtol=1e-12, atol=1e-14)


# Refusals ----------------------------------------------------------------------------------------


def test_a_layer_belongs_to_one_place_in_one_model():
    layer = gd.Tanh()
    with pytest.raises(ValueError, match=r"is already in a model.*make a new layer, or use model"):
        gd.Sequential([layer, gd.Dense(2), layer], inputs=2)
    layer = gd.Dense(2)
    model = gd.Sequential([layer], inputs=2)
    for layers in ([layer], [gd.Dense(2), layer], model.layers):
        with pytest.raises(ValueError, match="a layer can be in only one place"):
            gd.Sequential(layers, inputs=2)


def test_what_is_no_layer_is_refused():
    with pytest.raises(ValueError, match="at least one layer"):
        gd.Sequential([], inputs=2)
    with pytest.raises(TypeError, match=r"layer 1 is .*Tanh.*: write it with parentheses"):
        gd.Sequential([gd.Dense(2), gd.Tanh], inputs=2)
    with pytest.raises(TypeError, match=r"layer 0 is 'dense', which is not a minigd.Layer"):
        gd.Sequential(["dense"], inputs=2)


@pytest.mark.parametrize(("name", "value"), [("inputs", 0), ("inputs", 2.0), ("seed", -1)])
def test_numbers_that_make_no_sense_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must be an integer, at least"):
        gd.Sequential([gd.Dense(2)], **{"inputs": 2, name: value})


@pytest.mark.parametrize("dtype", ["float16", "int64", "float99", "double precision"])
def test_an_unknown_dtype_is_refused_with_the_known_ones(dtype):
    with pytest.raises(ValueError, match=f"dtype must be 'float32' or 'float64', not '{dtype}'"):
        gd.Sequential([gd.Dense(2)], inputs=2, dtype=dtype)


def test_an_unknown_backend_is_refused_with_the_known_ones():
    known = "unknown backend 'torch'; the known ones are 'cupy', 'numpy'"
    with pytest.raises(ValueError, match=known):
        gd.Sequential([gd.Dense(2)], inputs=2, backend="torch")
    model = network(gd.Dense(2))
    with pytest.raises(ValueError, match=known):
        model.to("torch")
    assert isinstance(model.flat_params, np.ndarray)


# A module in place of its name would otherwise mean the CPU, whichever module it was.
@pytest.mark.parametrize("backend", [np, None, 3])
def test_a_backend_that_is_none_is_refused(backend):
    with pytest.raises((TypeError, ValueError), match="backend"):
        gd.Sequential([gd.Dense(2)], inputs=2, backend=backend)


@pytest.mark.parametrize("call", ["forward", "predict"])
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((5, 3)), r"has shape \(5, 3\) and the model takes rows of 4 numbers"),
        (np.zeros(4), r"has shape \(4,\).*\[None\] a single row"),
        (np.zeros((5, 4, 1)), r"has shape \(5, 4, 1\) and the model takes rows of 4"),
        (np.zeros((0, 4)), "has no rows"),
        ([[1, 2, 3, 4], [5]], "can't be converted to an array"),
        (np.array([["a"] * 4]), "must hold numbers, but its dtype is <U1"),
        (np.array([[1, None, 3, 4]]), "must hold numbers, but its dtype is object"),
    ],
)
def test_rows_that_do_not_fit_are_refused(call, x, message):
    with pytest.raises(gd.DataError, match=message):
        getattr(network(gd.Dense(3)), call)(x)


def test_a_wrong_width_is_told_with_the_shape_that_was_given():
    with pytest.raises(gd.ShapeError, match=r"X has shape \(30, 3\)"):
        network(gd.Dense(3)).predict(np.zeros((30, 3)), batch_size=7)


@pytest.mark.parametrize("call", ["forward", "predict"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nan_and_infinity_are_placed(call, bad, dtype):
    x = rows().astype(dtype)
    x[17, 2] = bad
    model = network(gd.Dense(3), dtype=dtype)
    with pytest.raises(gd.DataError, match=f"holds {bad} at row 17, column 2 .counted from 0"):
        getattr(model, call)(x)


def test_predict_places_a_nan_in_a_later_batch():
    x = rows()
    x[17, 2] = np.nan
    with pytest.raises(gd.DataError, match="X holds nan at row 17, column 2"):
        network(gd.Dense(3)).predict(x, batch_size=5)


@pytest.mark.parametrize("call", ["forward", "predict"])
def test_a_number_too_large_for_float32_is_placed_and_explained(call):
    x = rows()
    x[17, 2] = 1e300
    with pytest.raises(gd.DataError, match=r"row 17, column 2.*float32|float32.*row 17, column 2"):
        getattr(network(gd.Dense(3), dtype="float32"), call)(x)
    getattr(network(gd.Dense(3), dtype="float64"), call)(x)


def test_rows_on_the_wrong_device_are_refused_with_the_call_that_moves_them(stand_in):
    on_host, on_device = network(gd.Dense(3)), network(gd.Dense(3), backend=stand_in)
    with pytest.raises(gd.BackendError, match=r"x.get\(\).*model.to\('cupy'\)"):
        on_host.forward(stand_in.asarray(rows()))
    with pytest.raises(gd.BackendError, match=r"model.backend.asarray\(x\).*model.to\('numpy'\)"):
        on_device.forward(rows())


class Broken(gd.Layer):
    """Returns what it is set to return."""

    def __init__(self, y=None, dx=None):
        self.y, self.dx = y, dx

    def forward(self, x, train=False):
        return x if self.y is None else self.y

    def backward(self, dy):
        return self.dx


@pytest.mark.parametrize("y", [np.zeros(23), np.zeros((23, 5)), np.zeros((23, 4), "float32")])
def test_a_layer_whose_output_has_another_shape_or_dtype_is_named(y):
    model = gd.Sequential([gd.Dense(4), Broken(y)], inputs=4, dtype="float64")
    with pytest.raises(gd.ShapeError, match=r"broken1: forward returned .*must return shape \(23"):
        model.forward(rows())


@pytest.mark.parametrize("dx", [None, np.zeros((23, 5)), np.zeros((23, 4), "float32")])
def test_a_layer_whose_gradient_has_another_shape_or_dtype_is_named(dx):
    model = gd.Sequential([gd.Dense(4), Broken(dx=dx)], inputs=4, dtype="float64")
    model.forward(rows(), train=True)
    with pytest.raises(gd.ShapeError, match=r"broken1: backward returned .*must return shape \(23"):
        model.backward(rows())
