"""Formulas compiled by Numba, the extra `fast`: one pass over memory for each, from the same lines.

Results can differ from NumPy's in the last bits, so a run remembers which of the two it used.
"""

import functools
import hashlib
import importlib.util
import operator
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from minigd import formulas
from minigd.backend import Array, NumpyBackend
from minigd.errors import BackendError

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


OUTPUTS = {
    formulas.momentum: 2,
    formulas.nesterov: 2,
    formulas.adam: 3,
    formulas.adamw: 3,
    formulas.rmsprop: 2,
    formulas.adagrad: 2,
}
"""How many arrays a formula returns, where it is more than one."""

SETTINGS: dict[str, Any] = {"error_model": "numpy", "nogil": True}


@functools.cache
def available() -> bool:
    """Tell whether Numba is installed, without importing it."""
    return importlib.util.find_spec("numba") is not None


class FastBackend(NumpyBackend):
    """NumPy, with elementwise formulas as compiled loops.

    Raises
    ------
    BackendError
        If Numba is not installed.
    """

    def __init__(self) -> None:
        if not available():
            raise BackendError(
                "fast=True needs Numba, which is not installed: `pip install 'minigd[fast]'`"
            )
        self._last: dict[Any, tuple[tuple[Array, ...], tuple[Array, ...] | None]] = {}

    def apply(
        self,
        formula: Callable[..., Any],
        *inputs: Array,
        out: Array | tuple[Array, ...],
        where: Array | None = None,
        **constants: float,
    ) -> Array | None:
        """Write ``formula(*inputs, **constants)`` into `out` in one loop, where there is one."""
        arrays = (*inputs, *out) if isinstance(out, tuple) else (*inputs, out)
        # An updater comes with the same arrays each time.
        known = self._last.get(formula)
        if known is None or not all(map(operator.is_, arrays, known[0])):
            known = self._last[formula] = arrays, self.flat(formula, arrays)
        flat = known[1]
        if flat is None or where is not None:
            return super().apply(formula, *inputs, out=out, where=where, **constants)
        compiled(formula)(*flat, *[constants[name] for name in constant_names(formula)])
        return None

    def flat(
        self, formula: Callable[..., Any], arrays: tuple[Array, ...]
    ) -> tuple[Array, ...] | None:
        """Return arrays as the loop of a formula takes them, or None where there is none."""
        if formula not in COMPILED or not all(
            a.dtype.kind == "f" and a.flags.c_contiguous and a.shape == arrays[0].shape
            for a in arrays
        ):
            return None
        return tuple([a.reshape(-1) for a in arrays])


@functools.cache
def compiled(formula: Callable[..., Any]) -> Callable[..., None]:
    """Return the loop that runs a formula over arrays; compiled at its first call, and cached."""
    import numba

    number = _of_numbers(formula, numba)
    inputs = [f"x{i}" for i in range(formula.__code__.co_argcount)]
    outs = [f"y{i}" for i in range(OUTPUTS.get(formula, 1))]
    constants = constant_names(formula)
    # The name carries what the formula says, so that a cached loop of another wording is not used.
    name = f"{formula.__name__}_{_digest(formula)}"
    source = (
        f"def {name}({', '.join([*inputs, *outs, *constants])}):\n"
        f"    for i in range({inputs[0]}.size):\n"
        f"        {', '.join([f'{y}[i]' for y in outs])} = number("
        f"{', '.join([*[f'{x}[i]' for x in inputs], *constants])})\n"
    )
    namespace: dict[str, Any] = {"__name__": __name__, "number": number}
    exec(compile(source, __file__, "exec"), namespace)
    loop: Callable[..., None] = numba.njit(namespace[name], cache=True, **SETTINGS)
    return loop


@functools.cache
def constant_names(formula: Callable[..., Any]) -> tuple[str, ...]:
    """Return the names of a formula's constants, in their order."""
    code = formula.__code__
    return code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]


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
