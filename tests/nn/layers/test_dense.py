"""The dense layer: its numbers against loops over examples, and what it keeps, reads and writes.

The mean over the batch is checked in the plain form, example by example.
"""

import numpy as np
import pytest

import minigd as gd
from minigd.checks import reference


def dense(backend, n_in=4, units=3, dtype="float64", **arguments):
    return gd.Sequential([gd.Dense(units)], inputs=n_in, backend=backend, dtype=dtype, **arguments)


def batch(backend, n=7, n_in=4, units=3, dtype="float64"):
    rng = np.random.default_rng(n)
    x, dy = rng.normal(size=(n, n_in)), rng.normal(size=(n, units))
    return x.astype(dtype), dy.astype(dtype)


@pytest.mark.parametrize("n", [1, 2, 7])
def test_numbers_are_those_of_the_loops(backend, n):
    model = dense(backend)
    model.params["dense1.b"][...] = backend.asarray([0.5, -1.0, 2.0])
    x, dy = batch(backend, n)
    W, b = (backend.to_numpy(model.params[f"dense1.{name}"]).copy() for name in "Wb")
    y = model.forward(backend.asarray(x), train=True)
    dx = model.backward(backend.asarray(dy), input_gradient=True)
    np.testing.assert_allclose(backend.to_numpy(y), reference.dense(x, W, b), rtol=1e-13)
    dW, db, expected = reference.dense_backward(x, W, dy)
    np.testing.assert_allclose(backend.to_numpy(model.grads["dense1.W"]), dW, atol=1e-14)
    np.testing.assert_allclose(backend.to_numpy(model.grads["dense1.b"]), db, atol=1e-14)
    np.testing.assert_allclose(backend.to_numpy(dx), expected, atol=1e-14)


def test_a_batch_said_twice_has_the_same_mean_gradient(backend):
    model = dense(backend)
    x, dy = batch(backend)
    grads = []
    for times in (1, 2, 5):
        model.forward(backend.asarray(np.tile(x, (times, 1))), train=True)
        model.backward(backend.asarray(np.tile(dy, (times, 1))))
        grads.append(backend.to_numpy(model.flat_grads).copy())
    np.testing.assert_allclose(grads[1], grads[0], rtol=1e-13)
    np.testing.assert_allclose(grads[2], grads[0], rtol=1e-13)


def test_gradients_are_replaced_and_not_added_up(backend):
    model = dense(backend)
    x, dy = map(backend.asarray, batch(backend))
    for _ in range(2):
        model.forward(x, train=True)
        model.backward(dy)
    first = backend.to_numpy(model.flat_grads).copy()
    model.flat_grads[...] = np.nan
    model.forward(x, train=True)
    model.backward(dy)
    np.testing.assert_array_equal(backend.to_numpy(model.flat_grads), first)


def test_it_keeps_its_input_and_nothing_else(backend):
    model = dense(backend)
    x = backend.asarray(batch(backend)[0])
    model.forward(x, train=True)
    (kept,) = model.layers[0].kept()
    assert kept is x  # of the model's dtype already: not even a copy


def test_it_keeps_nothing_outside_training(backend):
    model = dense(backend)
    x, dy = map(backend.asarray, batch(backend))
    model.forward(x)
    with pytest.raises(RuntimeError, match="dense1: backward was called without a forward"):
        model.layers[0].kept()
    with pytest.raises(RuntimeError, match="without a forward"):
        model.backward(dy)


def test_a_second_backward_is_refused_by_model_and_layer(backend):
    model = dense(backend)
    x, dy = map(backend.asarray, batch(backend))
    model.forward(x, train=True)
    model.backward(dy)
    with pytest.raises(RuntimeError, match="or for the second time"):
        model.backward(dy)
    with pytest.raises(RuntimeError, match=r"dense1: .* or for the second time"):
        model.layers[0].backward(dy)


def test_a_pass_that_only_reads_does_not_disturb_training(backend):
    model = dense(backend)
    x, dy = map(backend.asarray, batch(backend))
    model.forward(x, train=True)
    model.backward(dy)
    expected = backend.to_numpy(model.flat_grads).copy()
    model.forward(x, train=True)
    model.forward(backend.asarray(batch(backend, 3)[0]))
    model.backward(dy)
    np.testing.assert_array_equal(backend.to_numpy(model.flat_grads), expected)


def test_input_and_gradient_are_not_modified(backend):
    model = dense(backend, dtype="float32")
    host = batch(backend, dtype="float32")
    x, dy = (backend.asarray(a.copy()) for a in host)
    model.forward(x, train=True)
    model.backward(dy, input_gradient=True)
    for array, expected in zip((x, dy), host, strict=True):
        np.testing.assert_array_equal(backend.to_numpy(array), expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_models_dtype_is_everywhere(backend, dtype):
    model = dense(backend, dtype=dtype)
    x, dy = map(backend.asarray, batch(backend, dtype="float64"))
    y = model.forward(x, train=True)
    dx = model.backward(dy, input_gradient=True)
    arrays = [y, dx, model.flat_params, *model.params.values(), *model.grads.values()]
    assert {str(array.dtype) for array in arrays} == {dtype}


def test_outputs_are_fresh_and_never_overwritten(backend):
    model = dense(backend)
    x, dy = map(backend.asarray, batch(backend))
    y = model.forward(x, train=True)
    dx = model.backward(dy, input_gradient=True)
    before = backend.to_numpy(y).copy(), backend.to_numpy(dx).copy()
    model.forward(-x, train=True)
    model.backward(-dy, input_gradient=True)
    np.testing.assert_array_equal(backend.to_numpy(y), before[0])
    np.testing.assert_array_equal(backend.to_numpy(dx), before[1])


def test_a_model_that_is_asked_for_no_input_gradient_skips_that_product(backend):
    model = dense(backend)
    x, dy = map(backend.asarray, batch(backend))
    model.forward(x, train=True)
    assert model.backward(dy) is None
    assert model.layers[0].wants_dx is False


def test_biases_start_at_zero_and_weights_with_the_initializer(backend):
    model = gd.Sequential([gd.Dense(3, "ones")], inputs=2, backend=backend)
    np.testing.assert_array_equal(backend.to_numpy(model.params["dense1.W"]), np.ones((2, 3)))
    np.testing.assert_array_equal(backend.to_numpy(model.params["dense1.b"]), np.zeros(3))


@pytest.mark.parametrize("units", [0, -1, 2.0, "3", None, True])
def test_units_are_a_positive_integer(units):
    with pytest.raises(ValueError, match="units must be an integer, at least 1, not "):
        gd.Dense(units)


def test_an_unknown_initializer_is_refused_before_a_model_is_made():
    with pytest.raises(ValueError, match="unknown initializer 'xavier'; the known ones are 'glo"):
        gd.Dense(3, "xavier")


def test_a_copy_with_a_function_for_its_weights_has_the_weights_themselves(tmp_path):
    model = gd.Sequential([gd.Dense(3, lambda rng, shape: rng.normal(size=shape))], inputs=2)
    model.save(tmp_path / "m.npz")
    for again in (model.copy(), gd.load(tmp_path / "m.npz")):
        np.testing.assert_array_equal(again.flat_params, model.flat_params)


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (np.ones((3, 5)), r"x has shape \(3, 5\) and the model takes rows of 4 numbers"),
        (np.ones(4), r"x has shape \(4,\).*x\[None\] a single row"),
        (np.ones((3, 4, 1)), r"x has shape \(3, 4, 1\)"),
    ],
)
def test_rows_of_another_width_are_refused(backend, x, words):
    with pytest.raises(gd.ShapeError, match=words):
        dense(backend).forward(backend.asarray(x))


@pytest.mark.parametrize("shape", [(7,), (7, 1), (1, 3), (3, 7), (6, 3)])
def test_a_gradient_of_another_shape_is_refused_and_not_broadcast(backend, shape):
    model = dense(backend)
    model.forward(backend.asarray(batch(backend)[0]), train=True)
    with pytest.raises(gd.ShapeError, match=r"dy has shape .* the output had shape \(7, 3\)"):
        model.backward(backend.zeros(shape, "float64"))


# Without a bias -------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 7])
def test_without_a_bias_numbers_are_those_of_one_that_is_zero(backend, n):
    model = gd.Sequential([gd.Dense(3, bias=False)], inputs=4, backend=backend, dtype="float64")
    assert list(model.params) == ["dense1.W"]
    assert model.flat_params.size == model.n_weights == 12
    x, dy = batch(backend, n)
    W = backend.to_numpy(model.params["dense1.W"]).copy()
    y = model.forward(backend.asarray(x), train=True)
    dx = model.backward(backend.asarray(dy), input_gradient=True)
    expected = reference.dense(x, W, np.zeros(3))
    np.testing.assert_allclose(backend.to_numpy(y), expected, rtol=1e-13, atol=1e-15)
    dW, _, expected = reference.dense_backward(x, W, dy)
    np.testing.assert_allclose(backend.to_numpy(model.grads["dense1.W"]), dW, atol=1e-14)
    np.testing.assert_allclose(backend.to_numpy(dx), expected, atol=1e-14)


def test_weights_are_the_same_draw_with_and_without_a_bias():
    both = [
        gd.Sequential([gd.Dense(3, bias=bias), gd.Dense(2)], inputs=4, seed=5)
        for bias in (True, False)
    ]
    for name in ("dense1.W", "dense2.W"):
        np.testing.assert_array_equal(both[0].params[name], both[1].params[name])


def test_a_layer_without_a_bias_trains_copies_saves_and_moves(tmp_path, backend):
    x = np.random.default_rng(0).normal(size=(60, 2)).astype("float32")
    y = x @ np.array([1.0, -2.0], dtype="float32")
    model = gd.Sequential([gd.Dense(1, bias=False)], inputs=2, backend=backend)
    model.fit(x, y, loss="mse", updater=gd.SGD(0.1), batch_size=20, epochs=60)
    W = backend.to_numpy(model.params["dense1.W"])
    np.testing.assert_allclose(W[:, 0], [1.0, -2.0], rtol=1e-5)
    model.save(tmp_path / "m.npz")
    for again in (model.copy(), gd.load(tmp_path / "m.npz"), model.copy().to("numpy")):
        assert again.layers[0].bias is False
        np.testing.assert_array_equal(again.backend.to_numpy(again.params["dense1.W"]), W)


def test_a_model_with_a_bias_refuses_the_arrays_of_one_without():
    with_b, without = (gd.Sequential([gd.Dense(1, bias=b)], inputs=2) for b in (True, False))
    with pytest.raises(gd.CheckpointError, match=r"dense1\.b has shape \(missing\) in the file"):
        with_b.load_arrays(without.arrays())
