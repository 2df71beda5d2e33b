"""Runs the source that is printed for Numba as Python: what is traced and printed, uncompiled.

Numbers are NumPy scalars, so dtypes and roundings are those of the compiled function. Sums of
products, tanh and similar functions are NumPy's.
"""

import sys
import types
from collections.abc import Callable
from typing import Any

import numpy as np


def interpreted(source: str, arrays: dict[str, Any]) -> Callable[..., int]:
    """Return the function `run` of a source on its arrays."""
    numba: Any = types.ModuleType("numba")
    for name in ("float32", "float64", "int32", "int64", "uint8", "uint32", "uint64"):
        setattr(numba, name, getattr(np, name))
    numba.boolean = np.bool_
    numba.njit = _njit
    vector_math: Any = types.ModuleType("minigd.execution.targets.vector_math")
    for name in ("exp", "log", "log1p", "tanh"):
        setattr(vector_math, name, getattr(np, name))
    flat_memory: Any = types.ModuleType("minigd.execution.targets.flat_memory")
    flat_memory.pointer, flat_memory.product = (lambda array, dtype: array), _product
    flat_memory.flush_subnormals = bool
    stand_ins = {module.__name__: module for module in (numba, vector_math, flat_memory)}
    before = {name: sys.modules.get(name) for name in stand_ins}
    namespace: dict[str, Any] = {}
    sys.modules.update(stand_ins)
    try:
        exec(compile(source, "<step>", "exec"), namespace)
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module

    def run(*numbers: int, **others: Any) -> int:
        given = (arrays | others).values()
        flat = [array.reshape(-1) for array in given]
        assert all(np.shares_memory(a, b) for a, b in zip(flat, given, strict=True) if a.size)
        with np.errstate(all="ignore"):
            steps: int = namespace["run"]([None, None, *flat], *numbers)
        return steps

    return run


def _njit(*functions: Any, **options: Any) -> Any:
    return functions[0] if functions else lambda function: function


def _product(
    gemm: None,
    a: Any,
    a_start: int,
    a_turned: bool,
    b: Any,
    b_start: int,
    b_turned: bool,
    out: Any,
    start: int,
    n: int,
    k: int,
    m: int,
    factor: Any,
) -> None:
    """Do what a call of BLAS does."""
    left = a[a_start : a_start + n * k].reshape((k, n) if a_turned else (n, k))
    right = b[b_start : b_start + k * m].reshape((m, k) if b_turned else (k, m))
    left, right = left.T if a_turned else left, right.T if b_turned else right
    out[start : start + n * m].reshape((n, m))[...] = factor * np.dot(left, right)
