"""Formulas compiled by Numba, the extra `fast`: one pass over memory for each, from the same lines.

Results can differ from NumPy's in the last bits, so a run remembers which of the two it used.
"""

import functools
import hashlib
import importlib.util
import operator
import time
import types
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from minigd import formulas
from minigd.backends.base import NumpyBackend
from minigd.backends.on_demand import missing
from minigd.errors import BackendError
from minigd.types import Array

# Those without tanh, exp and log, of which NumPy has vectorised forms and Numba has not. Of the
# forward ones only ReLU, which is exact, so that a prediction is the same with and without.
COMPILED = (
    formulas.tanh_backward,
    formulas.sigmoid_backward,
    formulas.relu,
    formulas.relu_backward,
    formulas.leaky_relu_backward,
    formulas.sgd,
    formulas.momentum,
    formulas.nesterov,
    formulas.adam,
    formulas.adamw,
    formulas.rmsprop,
    formulas.adagrad,
)


SETTINGS: dict[str, Any] = {"error_model": "numpy", "nogil": True}


def add_row(y: Array, b: Array) -> None:
    """Add b to each row of y, row by row as NumPy does, without its price for each short row."""
    for i in range(y.shape[0]):
        for j in range(y.shape[1]):
            y[i, j] += b[j]


def sum_rows(dy: Array, db: Array) -> None:
    """Write the sum of the rows of dy into db, in NumPy's order."""
    for j in range(dy.shape[1]):
        db[j] = dy[0, j]
    for i in range(1, dy.shape[0]):
        for j in range(dy.shape[1]):
            db[j] += dy[i, j]


@functools.cache
def available() -> bool:
    """Tell whether Numba is installed, without importing it."""
    return importlib.util.find_spec("numba") is not None


class Call(NamedTuple):
    """A compiled loop and the arrays, without axes but one, that it is called with."""

    loop: Callable[..., None]
    arrays: tuple[Array, ...]


class FastBackend(NumpyBackend):
    """NumPy, with elementwise formulas as compiled loops.

    Raises
    ------
    BackendError
        If Numba is not installed.
    """

    def __init__(self) -> None:
        if not available():
            raise BackendError(missing("numba", "fast=True"))
        self._last: dict[Any, tuple[tuple[Array, ...], Call | None]] = {}

    def apply(
        self,
        formula: Callable[..., Any],
        *inputs: Array,
        out: Array | tuple[Array, ...],
        where: Array | None = None,
        **constants: float,
    ) -> Array | None:
        """Write ``formula(*inputs, **constants)`` into `out` in one loop, where there is one."""
        outs = out if isinstance(out, tuple) else (out,)
        arrays = (*inputs, *outs)
        # An updater comes with the same arrays each time.
        known = self._last.get(formula)
        if known is None or not all(map(operator.is_, arrays, known[0])):
            known = self._last[formula] = arrays, self.call(formula, inputs, outs)
        call = known[1]
        if call is None or where is not None:
            return super().apply(formula, *inputs, out=out, where=where, **constants)
        call.loop(*call.arrays, *[constants[name] for name in constant_names(formula)])
        return None

    def call(
        self, formula: Callable[..., Any], inputs: tuple[Array, ...], outs: tuple[Array, ...]
    ) -> Call | None:
        """Return the loop of a formula and its arrays, or None where there is none."""
        if formula not in COMPILED or not all(
            a.dtype.kind == "f" and a.flags.c_contiguous and a.shape == inputs[0].shape
            for a in (*inputs, *outs)
        ):
            return None
        # One array under two names would have to be taken for two that overlap, number by number.
        places = tuple([_place(out, inputs) for out in outs])
        own = [out for out, place in zip(outs, places, strict=True) if place is None]
        arrays = tuple([a.reshape(-1) for a in (*inputs, *own)])
        loop = compiled(formula, places)
        make_ready(loop, arrays, len(constant_names(formula)))
        return Call(loop, arrays)


@functools.cache
def compiled(formula: Callable[..., Any], places: tuple[int | None, ...]) -> Callable[..., None]:
    """Return the loop that runs a formula over arrays; compiled at its first call, and cached.

    Result k is written over input ``places[k]``, or into an array of its own if that is None.
    """
    import numba

    number = _of_numbers(formula, numba)
    inputs = [f"x{i}" for i in range(formula.__code__.co_argcount)]
    outs = [f"y{k}" if place is None else f"x{place}" for k, place in enumerate(places)]
    own = [out for out in outs if out not in inputs]
    constants = constant_names(formula)
    # The name carries what the formula says, so that a cached loop of another wording is not used.
    name = "_".join([formula.__name__, *outs, _digest(formula)])
    source = (
        f"def {name}({', '.join([*inputs, *own, *constants])}):\n"
        f"    for i in range({inputs[0]}.size):\n"
        f"        {', '.join([f'{y}[i]' for y in outs])} = number("
        f"{', '.join([*[f'{x}[i]' for x in inputs], *constants])})\n"
    )
    namespace: dict[str, Any] = {"__name__": __name__, "number": number}
    exec(compile(source, __file__, "exec"), namespace)
    loop: Callable[..., None] = numba.njit(namespace[name], cache=True, **SETTINGS)
    return loop


_compiled: list[float] = []
"""Seconds that each loop took to compile which was not found in Numba's cache, until reported."""


def make_ready(loop: Any, arrays: tuple[Array, ...], constants: int = 0) -> None:
    """Compile a loop for arrays of these types, or load it, and take the time that it takes."""
    import numba as untyped

    numba: Any = untyped
    signature = (*[numba.typeof(a) for a in arrays], *[numba.float64] * constants)
    missed, started = sum(loop.stats.cache_misses.values()), time.perf_counter()
    loop.compile(signature)
    if sum(loop.stats.cache_misses.values()) > missed:
        _compiled.append(time.perf_counter() - started)


def format_compile_time() -> str | None:
    """Return what was compiled since the last call and how long that took; None if nothing was."""
    if not _compiled:
        return None
    text = f"Numba compiled {len(_compiled)} formulas in {sum(_compiled):.1f} s, and keeps them"
    _compiled.clear()
    return text


@functools.cache
def looped(function: Callable[..., None]) -> Callable[..., None]:
    """Return `add_row` or `sum_rows`, compiled at its first call, and cached."""
    import numba

    loop: Callable[..., None] = numba.njit(function, cache=True, **SETTINGS)
    return loop


@functools.cache
def constant_names(formula: Callable[..., Any]) -> tuple[str, ...]:
    """Return the names of a formula's constants, in their order."""
    code = formula.__code__
    return code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]


def _place(out: Array, inputs: tuple[Array, ...]) -> int | None:
    return next((i for i, a in enumerate(inputs) if a is out), None)


def _digest(formula: Callable[..., Any]) -> str:
    """Return a print of what a formula and those it calls say."""
    code = formula.__code__
    parts = [code.co_code.hex(), repr(code.co_consts), repr(code.co_names)]
    called = [getattr(formulas, name, None) for name in code.co_names]
    parts += [_digest(other) for other in called if isinstance(other, types.FunctionType)]
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]


def _of_numbers(formula: Callable[..., Any], numba: Any) -> Any:
    """Return a formula as Numba takes it: of single numbers, its constants by their place."""
    code = formula.__code__
    positional = code.co_argcount + code.co_kwonlyargcount
    code = code.replace(co_argcount=positional, co_kwonlyargcount=0)
    known: dict[str, Any] = {"__name__": formula.__module__, "np": _numpy_of_numbers(numba)}
    for name in code.co_names:
        other = getattr(formulas, name, None)
        if isinstance(other, types.FunctionType):
            known[name] = _of_numbers(other, numba)
    return numba.njit(types.FunctionType(code, known, formula.__name__), **SETTINGS)


def _numpy_of_numbers(numba: Any) -> Any:
    """Return what the formulas use of NumPy, for single numbers."""
    numbers: Any = types.ModuleType("numbers")
    numbers.sqrt = np.sqrt
    numbers.where = numba.njit(lambda condition, one, other: one if condition else other)
    return numbers
