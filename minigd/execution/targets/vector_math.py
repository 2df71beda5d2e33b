"""tanh, exp, log and log1p of single numbers, which LLVM vectorizes in the loop that calls them.

Numba's own call the C library once per number. These are branch-free arithmetic, for float32 and
float64, in the dtype of their argument::

    from minigd.execution.targets.vector_math import tanh

    @numba.njit(error_model="numpy")
    def loop(x, y):
        for i in range(x.size):
            y[i] = tanh(x[i])

========  ==========================  ==============================================================
function  largest error, both dtypes  special values
========  ==========================  ==============================================================
`exp`     1.1 ulp                     inf above the log of the largest number; subnormal results,
                                      and 0 below half of the smallest
`log`     1 ulp                       log(0) = -inf, NaN below 0; subnormal numbers as others
`log1p`   1.5 ulp                     log1p(-1) = -inf, NaN below -1, log1p(-0.0) = -0.0
`tanh`    2.6 ulp                     tanh(-x) = -tanh(x) to the bit, -0.0 too; never above 1
========  ==========================  ==============================================================

A NaN stays a NaN. One number gives the same bits at any place in any loop, vectorized or not: these
functions are compiled without fastmath flags, for any flags of their caller. So LLVM reorders
nothing and fuses only `multiply_add`, in every lane or in none. A processor without a fused
multiply-add rounds twice there, with other last bits and the same bounds. The largest errors found
among all numbers of float32 are 0.98, 0.84, 1.39 and 2.50 ulp, in the table's order.

The methods are the classic ones (Cody and Waite, 1980, "Software manual for the elementary
functions"; Tang, 1989 and 1990, ACM Transactions on Mathematical Software 15(2) and 16(4)): powers
of two reduce the argument, and a minimax polynomial does the rest. `tests/oracles/minimax.py`
computes the polynomials by Remez's exchange.

This module imports Numba: import it where Numba is known to be installed.
"""

import collections
from collections.abc import Callable
from typing import Any, TypeVar

import llvmlite.ir as untyped_ir
import numba as untyped_numba
import numba.extending as untyped_extending
import numpy as np

namedtuple: Any = collections.namedtuple
ir: Any = untyped_ir
numba: Any = untyped_numba
extending: Any = untyped_extending

Function = TypeVar("Function", bound=Callable[..., Any])

# All are set, because a missing option would come from the first caller, for all later ones.
OPTIONS: dict[str, Any] = {
    "error_model": "numpy",
    "fastmath": False,
    "forceinline": True,
    "no_cfunc_wrapper": True,
    "nogil": True,
}

# The constant first. With r² Q(r), exp(r) - 1 is accurate to 2⁻³² and 2⁻⁶²: Q for |r| up to ½ ln 2.
EXP_POLYNOMIALS = {
    "float32": (0.5, 0.16666666, 0.041666362, 0.00833339, 0.0013940627, 0.00019845828),
    "float64": (
        0.5,
        0.16666666666666677,
        0.04166666666666651,
        0.008333333333321691,
        0.0013888888888962374,
        0.00019841269885964772,
        2.480158717256062e-05,
        2.755724437532155e-06,
        2.7557402611510417e-07,
        2.5108978481916927e-08,
        2.0875341370296014e-09,
    ),
}
# With 2 s + s z L(z), 2 artanh(s) is accurate to 2⁻³⁰ and 2⁻⁵⁹: L for z = s² up to (√2 - 1)⁴.
LOG_POLYNOMIALS = {
    "float32": (0.66666776, 0.39977536, 0.29871872),
    "float64": (
        0.6666666666666734,
        0.39999999999414354,
        0.28571428742467264,
        0.2222219856432506,
        0.1818356482038324,
        0.15314037083808216,
        0.14796092333432095,
    ),
}
LN_2, LN_2_REST = 0.6931471805599453, 2.3190468138462996e-17


def constants_of(name: str) -> Any:
    """Return the constants of a dtype for these functions as a named tuple, each in the dtype.

    Bit patterns are whole numbers.
    """
    number, info = np.dtype(name).type, np.finfo(name)
    m, bias = info.nmant, info.maxexp - 1
    high = np.floor(LN_2 * 2.0 ** (m - info.nexp + 1)) / 2.0 ** (m - info.nexp + 1)

    def bits(value: float) -> int:
        return int(np.array(value, name).view(f"i{info.bits // 8}"))

    values = {
        "zero": number(0),
        "one": number(1),
        "two": number(2),
        "half": number(0.5),
        "inf": number(np.inf),
        "nan": number(np.nan),
        "log2_e": number(1 / LN_2),
        # ln 2 to so few bits that its product with an exponent is exact, and the rest.
        "ln2_high": number(high),
        "ln2_low": number((LN_2 - high) + LN_2_REST),
        # exp is 0 from here down, and inf from here up; tanh is 1 from here up.
        "least": number((info.minexp - m - 2) * LN_2),
        "most": number((info.maxexp + 1) * LN_2),
        "saturated": number((m + 4) / 2 * LN_2),
        # 1.5 · 2ᵐ, for m fraction bits: a number added to it is rounded to a whole number.
        "rounder": number(1.5 * 2.0**m),
        "rounder_bits": bits(1.5 * 2.0**m),
        "whole_bits": bits(2.0**m),
        "whole_and_bias": number(2.0**m + bias),
        "fraction_bits": m,
        # The bias of the exponent bits.
        "bias": bias,
        "root_half_bits": bits(np.sqrt(0.5)),
        "smallest_normal": number(info.smallest_normal),
        # The power of two that makes a subnormal number normal.
        "lift": number(2.0 ** (m + 1)),
        "lift_exponent": number(m + 1),
        "exp": tuple(map(number, EXP_POLYNOMIALS[name])),
        "log": tuple(map(number, LOG_POLYNOMIALS[name])),
    }
    return namedtuple("Constants", values)(**values)


CONSTANTS = {name: constants_of(name) for name in ("float32", "float64")}
WHOLE = {"float32": numba.types.int32, "float64": numba.types.int64}
"""The integer type for the bits of a number."""


def strict(function: Function) -> Function:
    """Compile a function so that it becomes part of the loop that calls it, with its own flags."""
    compiled: Function = numba.njit(function, **OPTIONS)
    return compiled


# What Numba has no words for ---------------------------------------------------------------------


def _constants(x: Any) -> Any:
    """Return the constants of the dtype of x."""


def _type_constants(x: Any) -> Any:
    if str(x) not in CONSTANTS:
        raise numba.TypingError(f"vector_math is for numbers of float32 and float64: got {x}")
    constants = CONSTANTS[str(x)]
    return lambda x: constants


extending.overload(_constants, jit_options=OPTIONS, strict=False)(_type_constants)


def _fused(builder: Any, a: Any, b: Any, c: Any) -> Any:
    kind = ir.FunctionType(a.type, [a.type] * 3)
    return builder.call(builder.module.declare_intrinsic("llvm.fmuladd", [a.type], kind), [a, b, c])


def _type_multiply_add(_: Any, a: Any, b: Any, c: Any) -> Any:
    """Return a b + c, rounded once if the processor can do that as fast."""
    return a(a, b, c), lambda context, builder, signature, args: _fused(builder, *args)


def _type_polynomial(_: Any, t: Any, coefficients: Any) -> Any:
    """Return the sum of coefficients[k] tᵏ by Horner's rule."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        parts = [builder.extract_value(args[1], k) for k in range(len(coefficients))]
        total = parts.pop()
        while parts:
            total = _fused(builder, total, args[0], parts.pop())
        return total

    return t(t, coefficients), generate


def _type_bits(_: Any, x: Any) -> Any:
    """Return the bits of x as a whole number of the same size."""
    if str(x) not in WHOLE:
        return None  # refused by `_constants`
    whole = WHOLE[str(x)]
    return whole(x), lambda context, builder, signature, args: builder.bitcast(
        args[0], context.get_value_type(whole)
    )


def _type_number(_: Any, bits: Any, like: Any) -> Any:
    """Return the number of the dtype of `like` with these bits. Higher bits are dropped."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        whole = ir.IntType(like.bitwidth)
        bits = args[0] if args[0].type == whole else builder.trunc(args[0], whole)
        return builder.bitcast(bits, context.get_value_type(like))

    return like(bits, like), generate


def _type_biased_exponent(_: Any, x: Any) -> Any:
    """Return the exponent bits of x / √½, in the size of x so that vectors need no larger one."""
    if str(x) not in WHOLE:
        return None
    c, whole = CONSTANTS[str(x)], WHOLE[str(x)]

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bits = builder.bitcast(args[0], context.get_value_type(whole))
        offset = ir.Constant(bits.type, (c.bias << c.fraction_bits) - c.root_half_bits)
        return builder.lshr(builder.add(bits, offset), ir.Constant(bits.type, c.fraction_bits))

    return whole(x), generate


multiply_add = extending.intrinsic(_type_multiply_add)
_polynomial = extending.intrinsic(_type_polynomial)
_bits = extending.intrinsic(_type_bits)
_biased_exponent = extending.intrinsic(_type_biased_exponent)
_number = extending.intrinsic(_type_number)


# Parts of the functions ---------------------------------------------------------------------------


@strict
def _rounded(x: Any, factor: Any) -> tuple[Any, Any]:
    """Return x · factor, rounded to a whole number, and that as one; |it| is below 2ᵐ⁻²."""
    c = _constants(x)
    moved = multiply_add(x, factor, c.rounder)
    return moved - c.rounder, _bits(moved) - c.rounder_bits


@strict
def _power_of_2(k: Any, like: Any) -> Any:
    """Return 2ᵏ, a normal number, or 0 for the exponent below the smallest."""
    c = _constants(like)
    return _number((k + c.bias) << c.fraction_bits, like)


@strict
def _exp_parts(x: Any) -> tuple[Any, Any, Any]:
    """Return k, as a number and as an index, and exp(r) - 1, where x = k ln 2 + r."""
    c = _constants(x)
    exponent, k = _rounded(x, c.log2_e)
    r = multiply_add(exponent, -c.ln2_low, multiply_add(exponent, -c.ln2_high, x))
    return exponent, k, multiply_add(r * r, _polynomial(r, c.exp), r)


@strict
def _log_parts(x: Any) -> tuple[Any, Any, Any]:
    """Return k, as a number and as an index, and m from √½ to √2, where x = 2ᵏ m is normal."""
    c = _constants(x)
    biased = _biased_exponent(x)
    exponent = _number(biased | c.whole_bits, x) - c.whole_and_bias
    k = biased - c.bias
    return exponent, k, _number(_bits(x) - (k << c.fraction_bits), x)


@strict
def _log_sum(exponent: Any, f: Any) -> Any:
    """Return k ln 2 + log(1 + f), where log(1 + f) = f - (h - s (h + s² L)) and h = ½ f²."""
    c = _constants(f)
    s = f / (c.two + f)
    z = s * s
    h = c.half * f * f
    small = multiply_add(s, multiply_add(z, _polynomial(z, c.log), h), exponent * c.ln2_low)
    return multiply_add(exponent, c.ln2_high, f - (h - small))


@strict
def _log_at_the_ends(x: Any, y: Any) -> Any:
    """Return y = log(x) if x is above 0 and finite, and otherwise the special value of log(x)."""
    c = _constants(x)
    y = y if x < c.inf else x
    y = y if x != c.zero else -c.inf
    return y if not x < c.zero else c.nan


# The functions -----------------------------------------------------------------------------------


@strict
def exp(x: Any) -> Any:
    """Return eˣ, within 1.1 ulp: 2ᵏ eʳ, where x = k ln 2 + r and k is a whole number."""
    c = _constants(x)
    x = c.most if x > c.most else x
    x = c.least if x < c.least else x
    exponent, k, e = _exp_parts(x)
    # In two steps, because 2ᵏ can be too large or too small for a normal number.
    _, half = _rounded(exponent, c.half)
    return (c.one + e) * _power_of_2(half, x) * _power_of_2(k - half, x)


@strict
def tanh(x: Any) -> Any:
    """Return tanh(x), within 2.6 ulp: -e / (e + 2) for e = exp(-2 |x|) - 1, with the sign of x."""
    c = _constants(x)
    a = abs(x)
    a = c.saturated if a > c.saturated else a
    _, k, e = _exp_parts(-c.two * a)
    power = _power_of_2(k, x)
    e = multiply_add(power, e, power - c.one)
    return np.copysign(e / (e + c.two), x)


@strict
def log(x: Any) -> Any:
    """Return the natural logarithm of x, within 1 ulp: k ln 2 + log(m), x = 2ᵏ m, m about 1."""
    c = _constants(x)
    subnormal = x < c.smallest_normal
    normal = x * c.lift if subnormal else x
    exponent, _, m = _log_parts(normal)
    exponent = exponent - c.lift_exponent if subnormal else exponent
    return _log_at_the_ends(x, _log_sum(exponent, m - c.one))


@strict
def log1p(x: Any) -> Any:
    """Return log(1 + x), within 1.5 ulp: as `log`, with what 1 + x lost when it was rounded."""
    c = _constants(x)
    u = c.one + x
    # The lost part is a number, which Knuth's two-sum finds.
    v = u - c.one
    lost = (c.one - (u - v)) + (x - v)
    exponent, k, m = _log_parts(u)
    f = multiply_add(lost, c.half * _power_of_2(1 - k, x), m - c.one)
    y = _log_at_the_ends(u, _log_sum(exponent, f))
    return x if x == c.zero else y
