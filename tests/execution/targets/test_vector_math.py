"""tanh, exp, log and log1p that vectorize: how far from the truth, and the same bits anywhere.

The truth is NumPy's float64 for float32, and the decimal module's 40 digits for float64.
"""

import decimal
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from budgets import examples
from hypothesis import given
from hypothesis import strategies as st
from oracles import minimax

numba = pytest.importorskip("numba")

from minigd.execution.targets import vector_math  # noqa: E402

BOUNDS = {"exp": 1.1, "log": 1.0, "log1p": 1.5, "tanh": 2.6}
"""Units in the last place, as the module states them."""
DTYPES = ("float32", "float64")
inf, nan = np.inf, np.nan

by_name = pytest.mark.parametrize("name", BOUNDS)
by_dtype = pytest.mark.parametrize("dtype", DTYPES)


def loop_of(function, **options):
    @numba.njit(error_model="numpy", **options)
    def loop(x, y):
        for i in range(x.size):
            y[i] = function(x[i])

    return loop


LOOPS = {name: loop_of(getattr(vector_math, name)) for name in BOUNDS}


def run(loop, x):
    y = np.full_like(x, 99)
    loop(x, y)
    return y


def bits(x):
    """Return the bits; a NaN of any kind is one."""
    return np.where(np.isnan(x), x.dtype.type(nan), x).view(f"i{x.itemsize}")


def all_binades(dtype, each, seed=0):
    """Return numbers of each sign and exponent, subnormal, infinite and NaN among them."""
    info = np.finfo(dtype)
    rng = np.random.default_rng(seed)
    signed = np.arange(2 ** (info.nexp + 1), dtype=f"u{info.bits // 8}")[:, None]
    fractions = rng.integers(0, 2**info.nmant, (signed.size, each), dtype=signed.dtype)
    fractions[:, 0], fractions[:, 1] = 0, 2**info.nmant - 1
    return (signed << signed.dtype.type(info.nmant) | fractions).view(dtype).ravel()


def where_it_matters(dtype, n, seed=0):
    """Return numbers of the sizes that networks have, and close to where the methods change."""
    rng = np.random.default_rng(seed)
    top = np.log(float(np.finfo(dtype).max))
    found = [
        rng.normal(0, 3, n),
        rng.uniform(-1, 1, n),
        rng.uniform(-25, 25, n),
        rng.uniform(-1.25 * top, 1.02 * top, n),
        1 + rng.normal(0, 1e-3, n),
        np.exp(rng.uniform(-50, 50, n)),
        -np.exp(rng.uniform(-50, 0, n)),
        (rng.integers(-50, 50, n) + 0.5) * np.log(2) * (1 + rng.normal(0, 1e-7, n)),
        2.0 ** rng.integers(-60, 60, n) * np.sqrt(2) * (1 + rng.normal(0, 1e-7, n)),
    ]
    return np.concatenate(found).astype(dtype)


EXACT = decimal.Context(prec=40, Emax=10**6, Emin=-(10**6))


def exact(name, x):
    """Return the function of one number in 40 digits; x is finite and in its domain."""
    with decimal.localcontext(EXACT):
        x = Decimal(float(x))
        if name == "exp":
            return min(max(x, Decimal(-2000)), Decimal(2000)).exp()
        if name == "log":
            return x.ln()
        if abs(x) < Decimal("1e-12"):  # more terms than 40 digits can hold of what follows
            return x - x * x / 2 + x**3 / 3 if name == "log1p" else x - x**3 / 3
        if name == "log1p":
            return (1 + x).ln()
        e = (2 * min(max(x, Decimal(-100)), Decimal(100))).exp()
        return (e - 1) / (e + 1)


def ulp(name, x, y):
    """Return the error of each y in units in the last place of the true value."""
    if x.dtype == np.float32:
        with np.errstate(all="ignore"):
            truth = getattr(np, name)(x.astype("float64"))
            return np.abs(y - truth) / np.spacing(np.abs(truth).astype("float32"))
    with decimal.localcontext(EXACT):
        truth = [exact(name, a) for a in x]
        spacing = np.spacing(np.abs(np.array([float(t) for t in truth])))
        pairs = zip(truth, y, spacing, strict=True)
        return np.array(
            [float(abs(Decimal(float(b)) - t) / Decimal(float(s))) for t, b, s in pairs]
        )


def finite_cases(name, x):
    """Return those of x at which the function is a finite number, as NumPy finds."""
    with np.errstate(all="ignore"):
        return x[np.isfinite(getattr(np, name)(x)) & np.isfinite(x)]


# How far from the truth --------------------------------------------------------------------------


@pytest.mark.few(3)
@by_dtype
@by_name
def test_the_error_is_below_the_bound_at_all_sizes_of_numbers(name, dtype):
    x = all_binades(dtype, 1000 if dtype == "float32" else 3)
    x = finite_cases(
        name, np.append(x, where_it_matters(dtype, 50_000 if x.itemsize == 4 else 500))
    )
    errors = ulp(name, x, run(LOOPS[name], x))
    worst = errors.argmax()
    assert errors[worst] <= BOUNDS[name], x[worst]
    assert errors.mean() < 0.6  # most are rounded right, or next to it


@given(x=st.floats(width=32), name=st.sampled_from(list(BOUNDS)))
@examples(200)
def test_any_number_of_float32(name, x):
    check(name, np.array([x], "float32"))


@given(x=st.floats(), name=st.sampled_from(list(BOUNDS)))
@examples(200)
def test_any_number_of_float64(name, x):
    check(name, np.array([x]))


def check(name, x):
    y = run(LOOPS[name], x)
    known = finite_cases(name, x)
    if known.size:
        assert ulp(name, known, y)[0] <= BOUNDS[name]
    else:
        with np.errstate(all="ignore"):
            np.testing.assert_array_equal(y, getattr(np, name)(x))


@by_dtype
@by_name
def test_zeros_infinities_nan_and_the_ends_of_the_domain(name, dtype):
    tiny, largest = np.finfo(dtype).smallest_subnormal, np.finfo(dtype).max
    x = np.array([0.0, -0.0, inf, -inf, nan, -1.0, -1.5, tiny, -tiny, largest, -largest], dtype)
    log_tiny = np.log(np.array([tiny], dtype))[0]  # subnormal, so not to be lost in a constant
    known = {
        "exp": [1, 1, inf, 0, nan, np.exp(-1), np.exp(-1.5), 1, 1, inf, 0],
        "log": [-inf, -inf, inf, nan, nan, nan, nan, log_tiny, nan, np.log(largest), nan],
        "log1p": [0.0, -0.0, inf, nan, nan, -inf, nan, tiny, -tiny, np.log(largest), nan],
        "tanh": [0.0, -0.0, 1, -1, nan, np.tanh(-1), np.tanh(-1.5), tiny, -tiny, 1, -1],
    }
    y = run(LOOPS[name], x)
    expected = np.array(known[name], dtype)
    np.testing.assert_allclose(y, expected, rtol=3 * np.finfo(dtype).eps, atol=0)
    defined = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(y[defined]), np.signbit(expected[defined]))


@by_dtype
def test_exp_underflows_gradually_and_overflows_where_numpy_does(dtype):
    info = np.finfo(dtype)
    top = np.log(info.max)  # or its neighbor, after rounding
    last_not_0 = np.log(np.array(info.smallest_subnormal)) * np.array(1.0001, dtype)
    around = [np.nextafter(top, -info.max), np.nextafter(top, info.max)]
    x = np.array([*around, last_not_0, last_not_0 * 1.01], dtype)
    y = run(LOOPS["exp"], x)
    assert np.isfinite(y[0])
    assert y[0] > info.max / 2
    assert y[1] == inf
    assert y[2] == info.smallest_subnormal
    assert y[3] == 0
    subnormal = np.log(info.smallest_normal) - np.arange(1, info.nmant - 2, dtype=dtype) * 0.6
    errors = ulp("exp", subnormal.astype(dtype), run(LOOPS["exp"], subnormal.astype(dtype)))
    assert errors.max() <= 1


@by_dtype
def test_tanh_is_odd_and_never_above_1(dtype):
    x = np.append(all_binades(dtype, 20), where_it_matters(dtype, 10_000))
    x = x[~np.isnan(x)]
    y = run(LOOPS["tanh"], x)
    assert np.abs(y).max() == 1
    np.testing.assert_array_equal(bits(run(LOOPS["tanh"], -x)), bits(-y))
    np.testing.assert_array_equal(np.signbit(y), np.signbit(x))


@by_dtype
@by_name
def test_larger_numbers_have_larger_results(name, dtype):
    x = np.sort(
        finite_cases(name, np.append(all_binades(dtype, 50), where_it_matters(dtype, 1000)))
    )
    y = run(LOOPS[name], x)
    # By more than the errors of both, or not less than by them.
    slack = 2 * BOUNDS[name] * np.spacing(np.abs(y[:-1]))
    assert (y[1:] >= y[:-1] - slack).all()
    with np.errstate(all="ignore"):
        far = np.diff(getattr(np, name)(x.astype(np.longdouble))) > 2 * slack
    assert (np.diff(y)[far] > 0).all()
    assert far.sum() > 1000


def test_the_coefficients_are_those_of_the_minimax_polynomials():
    for table, polynomial in (
        (vector_math.EXP_POLYNOMIALS, minimax.exp_polynomial),
        (vector_math.LOG_POLYNOMIALS, minimax.log_polynomial),
    ):
        for dtype, coefficients in table.items():
            number = np.dtype(dtype).type
            found = [number(float(c)) for c in polynomial(len(coefficients) - 1)]
            np.testing.assert_array_equal(np.array(coefficients, dtype), found)


# The same bits anywhere --------------------------------------------------------------------------


@pytest.mark.few(4)
@by_dtype
@by_name
def test_a_number_has_the_same_bits_at_any_place_and_length(name, dtype):
    x = where_it_matters(dtype, 8, seed=3)
    alone = np.concatenate([run(LOOPS[name], x[i : i + 1]) for i in range(x.size)])
    assert x.size > 67
    for n in range(1, 68):
        for start in (0, 1, 3, x.size - n):
            part = slice(start, start + n)
            np.testing.assert_array_equal(bits(run(LOOPS[name], x[part])), bits(alone[part]))
    np.testing.assert_array_equal(bits(run(LOOPS[name], x[::-1]))[::-1], bits(alone))
    np.testing.assert_array_equal(bits(run(LOOPS[name], np.repeat(x, 3)[::3])), bits(alone))
    one_by_one = [getattr(vector_math, name)(a) for a in x]
    np.testing.assert_array_equal(bits(np.array(one_by_one, dtype)), bits(alone))


@pytest.mark.few
@by_dtype
@by_name
@pytest.mark.parametrize(
    "flags",
    [True, {"reassoc", "contract"}, {"arcp", "nsz", "afn"}],
    ids=["all", "sums", "quotients"],
)
def test_a_number_has_the_same_bits_whatever_flags_the_caller_has(name, dtype, flags):
    x = finite_cases(name, np.append(all_binades(dtype, 2), where_it_matters(dtype, 500)))
    function = getattr(vector_math, name)
    with_flags = run(loop_of(function, fastmath=flags), x)
    np.testing.assert_array_equal(bits(with_flags), bits(run(LOOPS[name], x)))


@by_dtype
def test_a_number_has_the_same_bits_between_other_arithmetic(dtype):
    exp, log1p, tanh = vector_math.exp, vector_math.log1p, vector_math.tanh

    @numba.njit(error_model="numpy", fastmath=True)
    def mixed(x, y, e, t, p):
        for i in range(x.shape[0]):
            for j in range(x.shape[1]):
                a = x[i, j] * y[i, j] + x[i, j]
                e[i, j] = exp(a)
                t[i, j] = tanh(a) * y[i, j] + a
                p[i, j] = log1p(exp(-abs(a))) + t[i, j]
                y[i, j] = a

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 13, 11)).astype(dtype)
    e, t, p = np.empty((3, 13, 11), dtype)
    mixed(x, y, e, t, p)
    np.testing.assert_array_equal(bits(e), bits(run(LOOPS["exp"], y.ravel()).reshape(y.shape)))


@by_name
@by_dtype
def test_no_dtype_changes(name, dtype):
    kind = getattr(numba, dtype)
    function = getattr(vector_math, name)
    function.compile((kind,))
    assert function.overloads[(kind,)].signature.return_type == kind


CODE = """
import sys
import numba, numpy as np
from minigd.execution.targets.vector_math import exp, log, log1p, tanh

@numba.njit(error_model="numpy", fastmath={fastmath})
def loop(x, y):
    for i in range(x.size):
        y[0, i], y[1, i], y[2, i], y[3, i] = exp(x[i]), log(x[i]), log1p(x[i]), tanh(x[i])

for name in sys.argv[1:]:
    x = np.load(name)
    y = np.empty((4, x.size), x.dtype)
    loop(x, y)
    np.save(name, y)
"""


def results_of_another_process(folder, fastmath, **environment):
    """Return (x, result) by name and dtype, where one loop is the first to compile them all."""
    files = {dtype: folder / f"{dtype}.npy" for dtype in DTYPES}
    inputs = {dtype: where_it_matters(dtype, 200) for dtype in DTYPES}
    for dtype, file in files.items():
        np.save(file, inputs[dtype])
    subprocess.run(
        [sys.executable, "-c", CODE.format(fastmath=fastmath), *map(str, files.values())],
        check=True,
        env={**os.environ, **environment},
        cwd=Path(__file__).parents[3],
    )
    return {
        (name, dtype): (inputs[dtype], y)
        for dtype, file in files.items()
        for name, y in zip(("exp", "log", "log1p", "tanh"), np.load(file), strict=True)
    }


@pytest.mark.slow
def test_the_flags_of_the_first_caller_are_not_taken_over(tmp_path):
    for (name, _), (x, y) in results_of_another_process(tmp_path, fastmath=True).items():
        known = np.isin(x, finite_cases(name, x))
        np.testing.assert_array_equal(bits(y[known]), bits(run(LOOPS[name], x[known])))


@pytest.mark.slow
def test_without_a_fused_instruction_the_bounds_are_the_same(tmp_path):
    generic = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    found = results_of_another_process(tmp_path, fastmath=False, **generic)
    for (name, _), (x, y) in found.items():
        known = np.isin(x, finite_cases(name, x))
        assert ulp(name, x[known], y[known]).max() <= BOUNDS[name]


# What is refused ---------------------------------------------------------------------------------


@pytest.mark.few
@pytest.mark.parametrize("number", [3, 1j, np.float16(1), True], ids=repr)
@by_name
def test_other_dtypes_are_refused(name, number):
    with pytest.raises(numba.TypingError, match="is for numbers of float32 and float64"):
        getattr(vector_math, name)(number)
