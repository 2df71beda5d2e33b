"""The activations: their numbers compared with SciPy, and that each keeps only its output.

They have no parameters, so only a number or an array can be wrong.
"""

import numpy as np
import pytest
from scipy import special

import minigd as gd
from minigd.checks import reference
from minigd.nn.layers.activations import Activation

FUNCTIONS = {
    gd.Tanh: np.tanh,
    gd.Sigmoid: special.expit,
    gd.ReLU: lambda x: np.maximum(x, 0),
    gd.LeakyReLU: lambda x: np.maximum(x, 0) + 0.01 * np.minimum(x, 0),
    gd.ELU: lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    gd.Softplus: lambda x: np.logaddexp(0, x),
    gd.SiLU: lambda x: x * special.expit(x),
    gd.GELU: lambda x: x * special.ndtr(x),
    gd.Softmax: lambda x: special.softmax(x, axis=1),
}
DERIVATIVES = {
    gd.Tanh: lambda x, dy: dy / np.cosh(x) ** 2,
    gd.Sigmoid: lambda x, dy: dy * special.expit(x) * special.expit(-x),
    gd.ReLU: lambda x, dy: np.where(x > 0, dy, 0),
    gd.LeakyReLU: lambda x, dy: np.where(x > 0, dy, 0.01 * dy),
    gd.ELU: lambda x, dy: dy * np.exp(np.minimum(x, 0)),
    gd.Softplus: lambda x, dy: dy * special.expit(x),
    gd.SiLU: lambda x, dy: dy * special.expit(x) * (1 + x * special.expit(-x)),
    gd.GELU: lambda x, dy: dy * (special.ndtr(x) + x * np.exp(-x * x / 2) / np.sqrt(2 * np.pi)),
    gd.Softmax: lambda x, dy: np.array(
        [reference.softmax_jacobian(special.softmax(row)) @ d for row, d in zip(x, dy, strict=True)]
    ),
}
each = pytest.mark.parametrize("layer", FUNCTIONS, ids=lambda layer: layer.__name__)


def model_of(layer, backend, width=3, dtype="float64"):
    return gd.Sequential([layer()], inputs=width, backend=backend, dtype=dtype)


def batch(n=6, width=3, dtype="float64"):
    rng = np.random.default_rng(n)
    return rng.normal(scale=3, size=(n, width)).astype(dtype), rng.normal(size=(n, width))


def test_every_activation_is_tested_here():
    assert set(Activation.__subclasses__()) == set(FUNCTIONS)


@pytest.mark.each
@each
@pytest.mark.parametrize("n", [1, 6, 9000])  # the last is cut into slices on the CPU
def test_numbers_are_scipys(backend, layer, n):
    model = model_of(layer, backend)
    x, dy = batch(n)
    y = model.forward(backend.asarray(x), train=True)
    dx = model.backward(backend.asarray(dy), input_gradient=True)
    np.testing.assert_allclose(backend.to_numpy(y), FUNCTIONS[layer](x), rtol=1e-13, atol=1e-15)
    expected = DERIVATIVES[layer](x, dy)
    # 1 − y² loses digits where y is near 1: the error is absolute, a few units of 1e-16.
    np.testing.assert_allclose(backend.to_numpy(dx), expected, rtol=1e-12, atol=2e-15)


@each
def test_it_keeps_its_output_or_its_input_and_nothing_else(backend, layer):
    model = model_of(layer, backend)
    x = backend.asarray(batch()[0])
    y = model.forward(x, train=True)
    (kept,) = model.layers[0].kept()
    assert kept is (x if layer in (gd.Softplus, gd.SiLU, gd.GELU) else y)


@each
def test_it_keeps_nothing_outside_training(backend, layer):
    model = model_of(layer, backend)
    model.forward(backend.asarray(batch()[0]))
    with pytest.raises(RuntimeError, match=f"{layer.__name__.lower()}1: backward was called with"):
        model.layers[0].backward(backend.asarray(batch()[1]))


@each
def test_a_second_backward_is_refused(backend, layer):
    model = model_of(layer, backend)
    x, dy = map(backend.asarray, batch())
    model.forward(x, train=True)
    model.layers[0].backward(dy)
    with pytest.raises(RuntimeError, match=f"{layer.__name__.lower()}1: .* for the second time"):
        model.layers[0].backward(dy)


@each
def test_input_and_gradient_are_not_modified_and_results_are_fresh(backend, layer):
    model = model_of(layer, backend)
    host = batch()
    x, dy = (backend.asarray(a.copy()) for a in host)
    y = model.forward(x, train=True)
    dx = model.backward(dy, input_gradient=True)
    results = backend.to_numpy(y).copy(), backend.to_numpy(dx).copy()
    model.forward(2 * x, train=True)
    model.backward(2 * dy, input_gradient=True)
    for array, expected in zip((x, dy, y, dx), (*host, *results), strict=True):
        np.testing.assert_array_equal(backend.to_numpy(array), expected)


@each
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_models_dtype_is_kept(backend, layer, dtype):
    model = model_of(layer, backend, dtype=dtype)
    x, dy = map(backend.asarray, batch())
    assert model.forward(x, train=True).dtype == dtype
    assert model.backward(dy, input_gradient=True).dtype == dtype


@each
def test_huge_inputs_in_float32_give_finite_results_without_a_warning(backend, layer):
    model = model_of(layer, backend, dtype="float32")
    x = np.array([[1e4, -1e4, 0.0], [-1e4, -1e4, -1e4], [1e4, 1e4, 1e4]], dtype="float32")
    y = model.forward(backend.asarray(x), train=True)
    dx = model.backward(backend.asarray(np.ones_like(x)), input_gradient=True)
    np.testing.assert_allclose(backend.to_numpy(y), FUNCTIONS[layer](x), rtol=1e-6)
    assert np.isfinite(backend.to_numpy(dx)).all()


@each
def test_it_has_no_parameters_and_keeps_the_width(layer):
    model = model_of(layer, "numpy")
    assert model.flat_params.size == 0
    assert model.layers[0].n_out == 3
    defaults = {gd.LeakyReLU: "slope=0.01", gd.ELU: "alpha=1.0", gd.GELU: "approximate=False"}
    arguments = defaults.get(layer, "")
    assert repr(layer()) == f"{layer.__name__}({arguments})"


@pytest.mark.parametrize("alpha", [0.0, 0.3, 2.0])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_alpha_is_that_of_both_passes(backend, alpha, dtype):
    model = gd.Sequential([gd.ELU(alpha)], inputs=3, backend=backend, dtype=dtype)
    x, dy = (a.astype(dtype) for a in batch(9))
    y = model.forward(backend.asarray(x), train=True)
    dx = model.backward(backend.asarray(dy), input_gradient=True)
    below, rounding = np.minimum(x, 0), 8 * np.finfo(dtype).eps
    expected = np.where(x > 0, x, alpha * np.expm1(below))
    np.testing.assert_allclose(backend.to_numpy(y), expected, rtol=rounding)
    expected = np.where(x > 0, dy, alpha * np.exp(below) * dy)
    np.testing.assert_allclose(backend.to_numpy(dx), expected, atol=10 * rounding)
    assert y.dtype == dx.dtype == dtype


@pytest.mark.parametrize("alpha", [-0.1, np.nan, np.inf, "1", None, True])
def test_an_alpha_out_of_range_is_refused(alpha):
    with pytest.raises(ValueError, match="alpha must be a number, at least 0 and finite, not "):
        gd.ELU(alpha)


@pytest.mark.parametrize(
    ("given", "form"), [(False, False), ("none", False), (True, True), ("tanh", True)]
)
def test_gelu_takes_the_words_of_keras_and_of_pytorch(given, form, tmp_path):
    layer = gd.GELU(approximate=given)
    assert repr(layer) == f"GELU(approximate={form})"
    model = gd.Sequential([layer], inputs=2, dtype="float64")
    model.save(tmp_path / "m.npz")
    x = np.array([[-1.0, 2.0]])
    p = special.expit(np.sqrt(8 / np.pi) * (x + 0.044715 * x**3)) if form else special.ndtr(x)
    for again in (model, model.copy(), gd.load(tmp_path / "m.npz")):
        np.testing.assert_allclose(again.forward(x), x * p, rtol=1e-14)


@pytest.mark.parametrize("given", ["erf", "True", 1, 0, None, 0.5, []])
def test_gelu_refuses_other_words(given):
    with pytest.raises(ValueError, match='approximate must be False or "none", True or "tanh", no'):
        gd.GELU(given)


@pytest.mark.parametrize("slope", [0.0, 0.2, 0.999])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_slope_is_that_of_both_passes(backend, slope, dtype):
    model = gd.Sequential([gd.LeakyReLU(slope)], inputs=3, backend=backend, dtype=dtype)
    x, dy = (a.astype(dtype) for a in batch(9))
    y = model.forward(backend.asarray(x), train=True)
    dx = model.backward(backend.asarray(dy), input_gradient=True)
    factor = np.where(x > 0, 1, np.asarray(slope, dtype=dtype))
    np.testing.assert_array_equal(backend.to_numpy(y), factor * x)
    np.testing.assert_array_equal(backend.to_numpy(dx), factor * dy)
    assert y.dtype == dx.dtype == dtype


def test_at_the_kink_the_slope_of_leaky_relu_is_that_below(backend):
    model = gd.Sequential([gd.LeakyReLU(0.25)], inputs=2, backend=backend, dtype="float64")
    y = model.forward(backend.asarray([[0.0, -0.0]]), train=True)
    np.testing.assert_array_equal(backend.to_numpy(y), [[0.0, 0.0]])
    dx = model.backward(backend.asarray([[4.0, -8.0]]), input_gradient=True)
    np.testing.assert_array_equal(backend.to_numpy(dx), [[1.0, -2.0]])


@pytest.mark.parametrize("slope", [1.0, -0.1, np.nan, np.inf, "0.1", None, True])
def test_a_slope_out_of_range_is_refused(slope):
    with pytest.raises(ValueError, match="slope must be a number, at least 0 and below 1, not "):
        gd.LeakyReLU(slope)


def test_a_slope_is_copied_and_saved(tmp_path):
    model = gd.Sequential([gd.LeakyReLU(0.25)], inputs=2)
    model.save(tmp_path / "m.npz")
    for again in (model.copy(), gd.load(tmp_path / "m.npz")):
        np.testing.assert_array_equal(again.forward([[-4.0, 4.0]]), [[-1.0, 4.0]])


def test_softmax_of_one_column_is_one(backend):
    model = model_of(gd.Softmax, backend, width=1)
    y = model.forward(backend.asarray([[-5.0], [7.0]]), train=True)
    np.testing.assert_array_equal(backend.to_numpy(y), [[1.0], [1.0]])
    dx = model.backward(backend.asarray([[1.0], [2.0]]), input_gradient=True)
    np.testing.assert_array_equal(backend.to_numpy(dx), [[0.0], [0.0]])


def test_softmax_in_the_middle_of_a_model_is_a_layer_like_any_other(backend):
    # No layer silently does something else: the true Jacobian, for any loss.
    model = gd.Sequential(
        [gd.Dense(3), gd.Softmax(), gd.Dense(2)], inputs=2, backend=backend, dtype="float64"
    )
    rng = np.random.default_rng(0)
    x, dy = rng.normal(size=(5, 2)), rng.normal(size=(5, 2))
    W1, W2 = (backend.to_numpy(model.params[f"dense{i}.W"]) for i in (1, 2))
    model.forward(backend.asarray(x), train=True)
    dx = model.backward(backend.asarray(dy), input_gradient=True)
    p = special.softmax(x @ W1, axis=1)
    expected = [W1 @ reference.softmax_jacobian(p[i]) @ W2 @ dy[i] for i in range(5)]
    np.testing.assert_allclose(backend.to_numpy(dx), expected, atol=1e-14)
