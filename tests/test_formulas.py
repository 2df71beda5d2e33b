"""The elementwise math, compared with fifty-digit decimals and with SciPy.

Every formula keeps its dtype, works with complex numbers, and gives the same bits slice by slice.
"""

from decimal import Decimal, localcontext

import numpy as np
import pytest
from budgets import examples
from hypothesis import given
from hypothesis import strategies as st
from oracles import host_cuda, strict_cupy
from oracles.printed import PrintedBackend
from scipy import special

import minigd as gd
from minigd import formulas
from minigd.backends.base import NumpyBackend
from minigd.backends.cupy import CupyBackend
from minigd.errors import BackendError
from minigd.execution.targets import compiler
from minigd.execution.targets.numba import NumbaStep
from minigd.execution.targets.numpy import NumpyStep
from minigd.execution.tracer import Update
from minigd.nn.objective import Objective
from minigd.optim.gradient_transforms import Clipping, Penalty

EPS = np.finfo(float).eps
ORDINARY = [-40.0, -17.3, -3.0, -0.5, -1e-9, 0.0, 1e-9, 0.3, 1.0, 4.2, 17.3, 40.0]
HUGE = [-1e4, -745.0, -104.0, 0.0, 104.0, 745.0, 1e4]
UPDATE = {
    "sgd": {"learning_rate": 0.1},
    "momentum": {"learning_rate": 0.1, "momentum": 0.9},
    "nesterov": {"learning_rate": 0.1, "momentum": 0.9},
    "adam": {"rate": 0.01, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8},
    "adamw": {"rate": 0.01, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "decay": 0.02},
    "amsgrad": {"rate": 0.01, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8},
    "nadam": {"rate": 0.01, "ahead": 0.02, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8},
    "radam": {"rate": 0.01, "adaptive": 1.0, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8},
    "rmsprop": {"learning_rate": 0.1, "rho": 0.9, "epsilon": 1e-8},
    "adagrad": {"learning_rate": 0.1, "epsilon": 1e-8},
}
CONSTANTS = {
    **UPDATE,
    "elu": {"alpha": 0.7},
    "elu_backward": {"alpha": 0.7},
    "leaky_relu": {"slope": 0.2},
    "leaky_relu_backward": {"slope": 0.2},
    "huber": {"delta": 1.5},
    "huber_backward": {"delta": 1.5},
    "focal": {"gamma": 1.5, "positive": 0.3, "negative": 0.7},
    "focal_backward": {"gamma": 1.5, "positive": 0.3, "negative": 0.7},
    "penalized": {"l1": 0.3, "l2": 0.7},
}
INPUTS = {
    "tanh": 1,
    "tanh_backward": 2,
    "sigmoid": 1,
    "sigmoid_backward": 2,
    "relu": 1,
    "relu_backward": 2,
    "leaky_relu": 1,
    "leaky_relu_backward": 2,
    "elu": 1,
    "elu_backward": 2,
    "softplus": 1,
    "softplus_backward": 2,
    "silu": 1,
    "silu_backward": 2,
    "normal_cdf": 1,
    "gelu": 1,
    "gelu_backward": 2,
    "gelu_tanh": 1,
    "gelu_tanh_backward": 2,
    "softmax": 1,
    "softmax_backward": 2,
    "log_softmax": 1,
    "binary_cross_entropy": 2,
    "binary_cross_entropy_backward": 2,
    "huber": 1,
    "huber_backward": 1,
    "absolute": 1,
    "absolute_backward": 1,
    "quantile": 2,
    "quantile_backward": 2,
    "poisson": 2,
    "poisson_backward": 2,
    "hinge": 2,
    "hinge_backward": 2,
    "focal": 2,
    "focal_backward": 2,
    "penalized": 2,
    "sgd": 2,
    "momentum": 3,
    "nesterov": 3,
    "adam": 4,
    "adamw": 5,
    "amsgrad": 5,
    "nadam": 4,
    "radam": 4,
    "rmsprop": 3,
    "adagrad": 3,
}
ROOTS = {
    **dict.fromkeys(("adam", "adamw", "nadam", "radam", "rmsprop", "adagrad"), 1),
    "amsgrad": 2,
}
"""How many of the last inputs are means of squares."""


def call(name, *inputs):
    """Return the results of a formula as a tuple."""
    result = getattr(formulas, name)(*inputs, **CONSTANTS.get(name, {}))
    return result if isinstance(result, tuple) else (result,)


def draw(name, shape, dtype, seed=0):
    """Return inputs for a formula; a v whose root is taken is not negative."""
    rng = np.random.default_rng(seed)
    inputs = [rng.normal(scale=3, size=shape).astype(dtype) for _ in range(INPUTS[name])]
    last = ROOTS.get(name, 0)
    return [*inputs[: len(inputs) - last], *map(abs, inputs[len(inputs) - last :])]


def exactly(function, *numbers):
    """Return a function of decimals of fifty digits, as a float."""
    with localcontext() as context:
        context.prec = 50
        return float(function(*map(Decimal, numbers)))


def test_every_formula_is_tested_here():
    # pytest puts names that begin with @ into the modules of a package that brings a plugin.
    public = {name for name in vars(formulas) if not name.startswith(("_", "@"))}
    # Words are not numbers of a model. `tests/nn/layers/test_dropout.py` has them.
    assert public - {"np", "Array", "mixed"} == set(INPUTS)


# Values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("x", ORDINARY)
def test_tanh_and_sigmoid_to_the_last_digits(backend, x):
    z = backend.asarray([x], dtype="float64")
    tanh = exactly(lambda x: ((2 * x).exp() - 1) / ((2 * x).exp() + 1), x)
    sigmoid = exactly(lambda x: 1 / (1 + (-x).exp()), x)
    assert backend.to_numpy(formulas.tanh(z))[0] == pytest.approx(tanh, rel=4 * EPS)
    assert backend.to_numpy(formulas.sigmoid(z))[0] == pytest.approx(sigmoid, rel=8 * EPS, abs=0)


@pytest.mark.parametrize("y", [0.0, 1.0])
@pytest.mark.parametrize("z", [*ORDINARY, -700.0, 700.0])
@pytest.mark.pairs
def test_cross_entropy_of_a_label_has_a_small_relative_error(backend, z, y):
    expected = exactly(lambda z, y: (1 + z.exp()).ln() - z * y, z, y)
    if abs(z) == 700:  # fifty digits do not hold 1 + exp(−700)
        expected = np.exp(-700.0) if (z > 0) == (y > 0) else 700.0
    arrays = backend.asarray([z], dtype="float64"), backend.asarray([y], dtype="float64")
    value = backend.to_numpy(formulas.binary_cross_entropy(*arrays))[0]
    assert value == pytest.approx(expected, rel=8 * EPS, abs=0)


@pytest.mark.parametrize("y", [0.1, 0.5, 0.75])
def test_cross_entropy_of_a_soft_label(y):
    z = np.array(ORDINARY)
    expected = [exactly(lambda z, y: (1 + z.exp()).ln() - z * y, each, y) for each in ORDINARY]
    value = formulas.binary_cross_entropy(z, np.full_like(z, y))
    np.testing.assert_allclose(value, expected, rtol=4 * EPS, atol=4 * EPS * abs(z).max())


def test_softmax_and_its_logarithm_are_scipys(backend):
    x = np.random.default_rng(1).normal(scale=5, size=(40, 7))
    z = backend.asarray(x)
    softmax, log = backend.to_numpy(formulas.softmax(z)), backend.to_numpy(formulas.log_softmax(z))
    np.testing.assert_allclose(softmax, special.softmax(x, axis=1), rtol=1e-14)
    np.testing.assert_allclose(log, special.log_softmax(x, axis=1), rtol=1e-14, atol=1e-14)
    np.testing.assert_allclose(softmax.sum(axis=1), 1, rtol=8 * EPS)


def test_sigmoid_and_cross_entropy_are_scipys(backend):
    x = np.linspace(-30, 30, 401)
    sigmoid = backend.to_numpy(formulas.sigmoid(backend.asarray(x)))
    np.testing.assert_allclose(sigmoid, special.expit(x), rtol=8 * EPS, atol=0)
    zeros = backend.asarray(np.zeros_like(x))
    value = backend.to_numpy(formulas.binary_cross_entropy(backend.asarray(x), zeros))
    np.testing.assert_allclose(value, -special.log_expit(-x), rtol=8 * EPS)


def test_softmax_does_not_change_when_a_row_is_shifted():
    x = np.random.default_rng(2).integers(-8, 8, size=(20, 5)).astype(float)
    shift = 2.0 ** np.arange(20)[:, None]  # whole numbers, so that the shift itself is exact
    np.testing.assert_array_equal(formulas.softmax(x + shift), formulas.softmax(x))
    np.testing.assert_array_equal(formulas.log_softmax(x + shift), formulas.log_softmax(x))


def test_softmax_backward_is_the_product_with_the_jacobian(backend):
    rng = np.random.default_rng(3)
    y, dy = special.softmax(rng.normal(size=(6, 4)), axis=1), rng.normal(size=(6, 4))
    dx = backend.to_numpy(formulas.softmax_backward(backend.asarray(y), backend.asarray(dy)))
    expected = [(np.diag(y[i]) - np.outer(y[i], y[i])) @ dy[i] for i in range(6)]
    np.testing.assert_allclose(dx, expected, atol=8 * EPS)


BENT = {
    "elu": lambda x: np.where(x > 0, x, 0.7 * np.expm1(np.minimum(x, 0))),
    "softplus": lambda x: np.logaddexp(0, x),
    "silu": lambda x: x * special.expit(x),
    "normal_cdf": special.ndtr,
    "gelu": lambda x: x * special.ndtr(x),
    "gelu_tanh": lambda x: x * special.expit(np.sqrt(8 / np.pi) * (x + 0.044715 * x**3)),
}


@pytest.mark.parametrize("name", BENT)
def test_smooth_rectifiers_are_scipys_and_keep_their_digits(backend, name):
    x = np.concatenate([ORDINARY, np.linspace(-8, 8, 401), [-1e-18, 1e-18, -20.5]])
    value = backend.to_numpy(call(name, backend.asarray(x))[0])
    # An exponent is rounded, here and by SciPy: of these numbers it is about this large.
    power = {"normal_cdf": 2, "gelu": 2, "gelu_tanh": 3}.get(name, 1)
    off, allowed = abs(value - BENT[name](x)), EPS * (4 + 2 * abs(x) ** power)
    assert (off <= allowed * abs(BENT[name](x)) + 1e-300).all(), off


@pytest.mark.parametrize("name", [name for name in BENT if name != "normal_cdf"])
def test_the_derivative_of_a_smooth_rectifier_is_its_complex_step(backend, name):
    x = np.concatenate([np.linspace(-9, 9, 301), ORDINARY])
    (y,) = call(name, x + 1e-20j)
    kept = y.real if name == "elu" else x
    dy = np.random.default_rng(4).normal(size=x.shape)
    dx = call(f"{name}_backward", backend.asarray(kept), backend.asarray(dy))[0]
    np.testing.assert_allclose(backend.to_numpy(dx), dy * (y.imag / 1e-20), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", BENT)
def test_a_smooth_rectifier_of_a_nan_is_one_and_of_any_number_is_silent(backend, name):
    x = np.array([np.nan, -3e38, -1e13, 1e13, 3e38], dtype="float32")
    with np.errstate(**careful):
        (y,) = call(name, backend.asarray(x))
        given = backend.asarray(x), backend.asarray(x / x)
        slopes = [] if name == "normal_cdf" else call(f"{name}_backward", *given)
    y = backend.to_numpy(y)
    assert np.isnan(y[0])
    low = -0.7 if name == "elu" else 0
    high = [1, 1] if name == "normal_cdf" else x[3:]
    np.testing.assert_allclose(y[1:], [low, low, *high], rtol=1e-6)
    assert all(np.isfinite(backend.to_numpy(a)[3:]).all() for a in slopes)


def test_relu_is_flat_at_zero_and_a_nan_stays_one(backend):
    x = backend.asarray([-2.0, -0.0, 0.0, 3.0, np.nan])
    y = formulas.relu(x)
    np.testing.assert_array_equal(backend.to_numpy(y), [0, 0, 0, 3, np.nan])
    dx = backend.to_numpy(formulas.relu_backward(y, backend.asarray([5.0] * 5)))
    np.testing.assert_array_equal(dx[:4], [0, 0, 0, 5])


def test_leaky_relu_has_its_slope_at_zero_and_a_nan_stays_one(backend):
    x = backend.asarray([-2.0, -0.0, 0.0, 3.0, np.nan])
    y = formulas.leaky_relu(x, slope=0.25)
    np.testing.assert_array_equal(backend.to_numpy(y), [-0.5, 0, 0, 3, np.nan])
    dx = formulas.leaky_relu_backward(y, backend.asarray([4.0] * 5), slope=0.25)
    np.testing.assert_array_equal(backend.to_numpy(dx)[:4], [1, 1, 1, 4])


@pytest.mark.parametrize("delta", [0.1, 1.0, 7.5])
def test_huber_is_scipys_and_its_derivative_the_complex_steps(backend, delta):
    e = np.array([*ORDINARY, delta, -delta, np.nextafter(delta, 99), -1e6, 1e6])
    given = backend.asarray(e)
    value = backend.to_numpy(formulas.huber(given, delta=delta))
    np.testing.assert_allclose(value, special.huber(delta, e), rtol=4 * EPS)
    slope = backend.to_numpy(formulas.huber_backward(given, delta=delta))
    step = formulas.huber(e + 1e-20j, delta=delta).imag / 1e-20
    np.testing.assert_allclose(slope, step, rtol=4 * EPS)


def test_huber_of_a_nan_is_one(backend):
    e = backend.asarray([np.nan])
    for formula in (formulas.huber, formulas.huber_backward):
        assert np.isnan(backend.to_numpy(formula(e, delta=1.0))[0])


@pytest.mark.parametrize("p", [-2.5, -0.0, 0.0, 1e-300, 0.4])
def test_a_penalty_is_added_with_the_sign_of_the_parameter(backend, p):
    arrays = backend.asarray([p]), backend.asarray([5.0])
    value = backend.to_numpy(formulas.penalized(*arrays, l1=0.3, l2=0.7))[0]
    sign = -1 if p < 0 else 1 if p > 0 else 0
    assert value == pytest.approx(5.0 + 0.3 * sign + 0.7 * p, rel=2 * EPS)


def test_updates_are_the_textbooks_number_by_number(backend):
    p, g, v = 0.3, -2.0, 0.7
    new = 0.9 * v + g
    mean, adagrad = 0.9 * v + 0.1 * g**2, v + g**2
    expected = {
        "sgd": (p - 0.1 * g,),
        "momentum": (p - 0.1 * new, new),
        "nesterov": (p - 0.1 * (g + 0.9 * new), new),
        "rmsprop": (p - 0.1 * g / (mean**0.5 + 1e-8), mean),
        "adagrad": (p - 0.1 * g / (adagrad**0.5 + 1e-8), adagrad),
    }
    for name, values in expected.items():
        inputs = [backend.asarray([each]) for each in (p, g, v)[: INPUTS[name]]]
        results = [float(backend.to_numpy(a)[0]) for a in call(name, *inputs)]
        assert results == pytest.approx(values, rel=4 * EPS)


@pytest.mark.parametrize("decayed", [0.0, 1.0])
def test_adamw_is_adam_and_takes_a_share_of_what_decays(backend, decayed):
    p, g, m, v = 0.3, -2.0, 0.7, 0.2
    given = [backend.asarray([each]) for each in (p, g, decayed, m, v)]
    results = [float(backend.to_numpy(a)[0]) for a in call("adamw", *given)]
    new_m, new_v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
    step = 0.01 * new_m / (new_v**0.5 + 1e-8)
    assert results == pytest.approx([p - step - 0.02 * decayed * p, new_m, new_v], rel=16 * EPS)


# Stability ------------------------------------------------------------------------------------


def test_nothing_overflows_at_ten_thousand_in_float32(backend):
    x = backend.asarray(HUGE, dtype="float32")
    host = np.array(HUGE)
    np.testing.assert_array_equal(backend.to_numpy(formulas.tanh(x)), np.sign(host))
    np.testing.assert_array_equal(backend.to_numpy(formulas.sigmoid(x)), (np.sign(host) + 1) / 2)
    for label in (0, 1):
        y = backend.asarray([label] * len(HUGE), dtype="float32")
        value = backend.to_numpy(formulas.binary_cross_entropy(x, y))
        expected = np.maximum(host, 0) - host * label
        np.testing.assert_allclose(value[host != 0], expected[host != 0], rtol=1e-6, atol=1e-44)
        assert value[host == 0] == pytest.approx(np.log(2), rel=1e-6)


def test_softmax_of_huge_logits_in_float32(backend):
    x = backend.asarray([[1e4, -1e4, 0], [-1e4, -1e4, -1e4], [1e4, 1e4, -1e4]], dtype="float32")
    y = backend.to_numpy(formulas.softmax(x))
    np.testing.assert_allclose(y, [[1, 0, 0], [1 / 3] * 3, [0.5, 0.5, 0]], rtol=1e-6)
    log = backend.to_numpy(formulas.log_softmax(x))
    half, third = -np.log(2), -np.log(3)
    expected = [[0, -2e4, -1e4], [third] * 3, [half, half, half - 2e4]]
    np.testing.assert_allclose(log, expected, rtol=1e-6)


# dtypes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_dtype_stays_what_it_is(backend, dtype):
    for name in INPUTS:
        inputs = [backend.asarray(a) for a in draw(name, (5, 3), dtype)]
        assert {str(result.dtype) for result in call(name, *inputs)} == {dtype}, name


@pytest.mark.parametrize("name", INPUTS)
def test_complex_numbers_stay_complex_and_their_real_part_is_the_result(name):
    inputs = draw(name, (50, 3), "float64")
    results = call(name, *inputs)
    for value, expected in zip(call(name, *[a + 0j for a in inputs]), results, strict=True):
        assert value.dtype == np.complex128
        np.testing.assert_allclose(value.real, expected, rtol=1e-13, atol=1e-15)
        np.testing.assert_array_equal(value.imag, 0)


@pytest.mark.parametrize(
    "name",
    [
        *("tanh", "sigmoid", "relu", "leaky_relu", "elu", "softplus", "silu", "normal_cdf"),
        *("gelu", "gelu_tanh", "softmax", "log_softmax"),
    ],
)
def test_complex_numbers_do_not_overflow_either(name):
    x = np.array([HUGE])
    (value,) = call(name, x + 1e-20j)  # whose square, 1e-40, is what may be off
    np.testing.assert_allclose(value.real, call(name, x)[0], rtol=1e-13, atol=1e-39)
    assert np.isfinite(value).all()


def test_inputs_are_not_modified(backend):
    for name in INPUTS:
        host = draw(name, (5, 3), "float32")
        inputs = [backend.asarray(a.copy()) for a in host]
        call(name, *inputs)
        for array, expected in zip(inputs, host, strict=True):
            np.testing.assert_array_equal(backend.to_numpy(array), expected, name)


# The executors --------------------------------------------------------------------------------


@examples(50)
@given(
    name=st.sampled_from(list(INPUTS)),
    rows=st.integers(1, 200),
    width=st.integers(1, 9),
    dtype=st.sampled_from(["float32", "float64", "complex128"]),
    slice_size=st.integers(1, 300),
    in_place=st.booleans(),
    seed=st.integers(0, 99),
)
def test_slices_give_the_bits_of_the_plain_formula(
    name, rows, width, dtype, slice_size, in_place, seed
):
    inputs = draw(name, (rows, width), dtype, seed)
    expected = call(name, *inputs)
    if in_place and len(expected) == 1:  # any of the inputs may be where the result goes
        out = (inputs[seed % len(inputs)],)
    elif in_place:  # and p, and the state at the end, are where an update's results go
        out = (inputs[0], *inputs[1 - len(expected) :])
    else:
        out = tuple(np.full_like(a, 7) for a in expected)
    backend = NumpyBackend()
    backend.slice_size = slice_size
    target = out if len(out) > 1 else out[0]
    backend.apply(getattr(formulas, name), *inputs, out=target, **CONSTANTS.get(name, {}))
    for array, wanted in zip(out, expected, strict=True):
        assert array.tobytes() == wanted.astype(array.dtype).tobytes()


def executor(which):
    """Return what runs formulas on the CPU, in the loops of compiled steps, or as kernels."""
    if which == "loops":
        return PrintedBackend()
    if which == "stand-in":
        if host_cuda.compiler() is None:
            pytest.skip(host_cuda.MISSING)
        return CupyBackend(strict_cupy)
    if which == "cupy":
        try:
            return CupyBackend()
        except BackendError as error:
            pytest.skip(str(error))
    return NumpyBackend()


WIDER = {"float32": "float64", "float64": "longdouble"}
if np.finfo("longdouble").eps == EPS:
    del WIDER["float64"]


@pytest.mark.few
@pytest.mark.parametrize(
    "which", ["slices", "loops", "stand-in", pytest.param("cupy", marks=pytest.mark.gpu)]
)
@pytest.mark.parametrize("name", INPUTS)
def test_every_executor_gives_the_numbers_of_the_plain_formula(name, which):
    backend = executor(which)

    @examples(8)
    @given(
        rows=st.integers(1, 300),
        width=st.integers(1, 40),
        dtype=st.sampled_from(list(WIDER)),
        seed=st.integers(0, 99),
    )
    def check(rows, width, dtype, seed):
        inputs = draw(name, (rows, width), dtype, seed)
        exact = call(name, *[a.astype(WIDER[dtype]) for a in inputs])
        device = [backend.asarray(a) for a in inputs]
        out = tuple(backend.asarray(np.full_like(inputs[0], 7)) for _ in exact)
        target = out if len(out) > 1 else out[0]
        backend.apply(getattr(formulas, name), *device, out=target, **CONSTANTS.get(name, {}))
        eps = np.finfo(dtype).eps
        for found, wanted, plain in zip(out, exact, call(name, *inputs), strict=True):
            found, error = backend.to_numpy(found), np.abs(plain - wanted).max()
            assert found.dtype == dtype
            # It rounds as often as the plain formula does, to some other side.
            np.testing.assert_allclose(found, wanted, rtol=4 * eps, atol=4 * (error + eps))

    check()


# Digits of the sigmoid ------------------------------------------------------------------------

LOWEST = {"float32": -87.3, "float64": -708.3}
"""Where the sigmoid is about the smallest normal number."""
each_dtype = pytest.mark.parametrize("dtype", list(LOWEST))
RECORDED = ("recorded", "numba")
PATHS = ["plain", "recorded", "numba", "stand-in", pytest.param("cupy", marks=pytest.mark.gpu)]
each_path = pytest.mark.parametrize("path", PATHS)
careful = {"over": "raise", "invalid": "raise", "divide": "raise"}


def logits(dtype, size=20_000):
    """Return logits whose sigmoid is a normal number, and those of the other sign."""
    rng = np.random.default_rng(0)
    low = LOWEST[dtype]
    wide, near = rng.uniform(low, -low, size), rng.normal(scale=4, size=size)
    ends = [low, -low, -20, 20, -17, 17, -16.7, 88, -1, 1, 1e-30, -1e-30, 0.0, -0.0]
    return np.concatenate([wide, near, ends]).astype(dtype)


def within(ulp, found, exact):
    """Hold numbers to some units of the last place of those of a wider type."""
    assert found.shape == exact.shape
    off = np.abs(found - exact) / np.spacing(np.abs(exact).astype(found.dtype))
    assert off.max() <= ulp, (found[off.argmax()], exact[off.argmax()])


def recorded(path, layers, loss, x, y, dtype):
    """Return the traced step of a Dense layer without a bias, whose outputs are x, and its model.

    NumPy's calls are made, or what was compiled.
    """
    model = gd.Sequential([gd.Dense(x.size, bias=False), *layers], inputs=1, dtype=dtype)
    model.flat_params[...] = x
    objective, row, y = Objective(model, loss), np.ones((1, 1), dtype), y.reshape(1, -1)
    if path == "recorded":
        return NumpyStep(objective, row, y)(row, y), model
    if not compiler.available():
        pytest.skip("needs Numba and SciPy")
    change = Update(Penalty(), Clipping(), gd.SGD())
    return NumbaStep(objective, change, y, 1)(row, y), model


def sigmoid_by(path, x):
    """Return the sigmoid of numbers as an executor computes it."""
    if path in RECORDED:
        step, _ = recorded(path, [gd.Sigmoid()], "mse", x, np.zeros_like(x), x.dtype)
        return step.z[0].copy()
    backend = executor(path)
    given = backend.asarray(x.reshape(-1, 1))
    out = backend.empty(given.shape, x.dtype)
    backend.apply(formulas.sigmoid, given, out=out)
    return backend.to_numpy(out)[:, 0]


@pytest.mark.few(4)
@each_path
@each_dtype
def test_a_sigmoid_has_all_its_digits(path, dtype):
    x = logits(dtype)
    with np.errstate(**careful):
        y = sigmoid_by(path, x)
    assert y.dtype == dtype
    within(8, y, special.expit(x.astype("longdouble")))


@each_path
@each_dtype
def test_a_sigmoid_of_any_number_is_between_0_and_1_and_says_nothing(path, dtype):
    x = np.array([-1e30, -1e4, -800, -745.2, -720, -104, -100, -88, 17, 88, 1e4, 1e30], dtype)
    with np.errstate(**careful):
        y = sigmoid_by(path, x)
    assert (np.diff(y) >= 0).all()
    assert (y[0], y[-1]) == (0, 1)
    tiny = np.finfo(dtype).smallest_subnormal
    expected = special.expit(x.astype("longdouble"))
    if path == "numba":
        # A compiled step writes 0 for what is too small to be normal, where the processor can.
        expected[(y == 0) & (expected < np.finfo(dtype).smallest_normal)] = 0
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=4 * tiny)


@examples(50)
@given(x=st.floats(-600, 600), step=st.sampled_from([1e-20, -1e-20, 1e-30]))
def test_the_complex_step_of_a_sigmoid_is_its_derivative(x, step):
    slope = formulas.sigmoid(np.array([x + 1j * step])).imag[0] / step
    exact = float(special.expit(x) * special.expit(-x))
    assert slope == pytest.approx(exact, rel=1e-13, abs=0)


def gradient_by(path, loss, z, y):
    """Return the gradient of a loss from logits as an executor computes it, of one row."""
    if path in RECORDED:
        _, model = recorded(path, [], loss, z, y, z.dtype)
        return model.flat_grads.copy()
    backend = executor("slices" if path == "plain" else path)
    loss.backend = backend
    loss.mean(*[backend.asarray(a.reshape(-1, 1)) for a in (z, y)])
    return backend.to_numpy(loss.backward())[:, 0]


@pytest.mark.each
@each_path
@each_dtype
@pytest.mark.parametrize("label", [0, 1])
def test_the_gradient_of_a_logit_has_all_its_digits_on_both_sides(path, dtype, label):
    z = logits(dtype, size=2_000)
    y = np.full_like(z, label)
    loss = gd.BinaryCrossEntropy(from_logits=True)
    with np.errstate(**careful):
        dz = gradient_by(path, loss, z, y)
    assert dz.dtype == dtype
    wide = z.astype("longdouble")
    exact = -special.expit(-wide) if label else special.expit(wide)
    if path in RECORDED:  # there the logits are the outputs of one row, whose losses have a mean
        normal = abs(z) < -LOWEST[dtype] - 9
        dz, exact = dz[normal], exact[normal] / z.size
    within(8, dz, exact)


@pytest.mark.each
@each_path
@each_dtype
@pytest.mark.parametrize("alpha", [0.0, 0.1, 1e-3])
def test_the_gradient_of_soft_and_smoothed_labels(path, dtype, alpha):
    z = logits(dtype, size=500)
    y = np.random.default_rng(1).choice([0, 1e-6, 0.25, 0.5, 0.75, 1], size=z.size).astype(dtype)
    loss = gd.BinaryCrossEntropy(from_logits=True, label_smoothing=alpha)
    dz = gradient_by(path, loss, z, y)
    target = loss.targets(y, z).astype("longdouble")
    yes, no = (special.expit(s * z.astype("longdouble")) for s in (1, -1))
    size = z.size if path in RECORDED else 1
    error = np.abs(dz * size - ((1 - target) * yes - target * no))
    # Where the two terms are equal the gradient is 0: its error is some units of either.
    terms = (1 - target) * yes + target * no
    assert (error <= 8 * np.finfo(dtype).eps * terms + np.finfo(dtype).tiny * size).all()


@examples(25)
@given(size=st.integers(1, 60_000), name=st.sampled_from(list(UPDATE)))
def test_flat_vectors_longer_than_a_slice(size, name):
    inputs = draw(name, (size,), "float32")
    expected = call(name, *inputs)
    out = tuple(np.empty_like(a) for a in expected)
    NumpyBackend().apply(
        getattr(formulas, name), *inputs, out=out if len(out) > 1 else out[0], **UPDATE[name]
    )
    for array, wanted in zip(out, expected, strict=True):
        np.testing.assert_array_equal(array, wanted)
