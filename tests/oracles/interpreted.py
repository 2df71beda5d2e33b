"""Runs the source that is printed for Numba as Python: what is traced and printed, uncompiled.

Numbers are NumPy's scalars, so that dtypes and roundings are those of the compiled function; the
sums of products are NumPy's, and tanh and the like too.
"""

import math
import sys
import types
from collections.abc import Callable
from typing import Any

import numpy as np


def interpreted(source: str) -> Callable[..., int]:
    """Return the function `run` of a source, which takes what the compiled one does."""
    numba: Any = types.ModuleType("numba")
    for name in ("float32", "float64", "int32", "int64", "uint32", "uint64"):
        setattr(numba, name, getattr(np, name))
    numba.boolean = np.bool_
    numba.njit = _njit
    vector_math: Any = types.ModuleType("minigd.execution.targets.vector_math")
    for name in ("exp", "log", "log1p", "maximum", "minimum", "sign", "tanh"):
        setattr(vector_math, name, getattr(np, name))
    stand_ins = {module.__name__: module for module in (numba, vector_math)}
    before = {name: sys.modules.get(name) for name in stand_ins}
    namespace: dict[str, Any] = {"max": max, "abs": abs, "range": range, "len": len, "math": math}
    sys.modules.update(stand_ins)
    try:
        exec(compile(source, "<step>", "exec"), namespace)
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module

    def run(*arguments: Any) -> int:
        with np.errstate(all="ignore"):
            steps: int = namespace["run"](*arguments)
        return steps

    return run


def _njit(*functions: Any, **options: Any) -> Any:
    return functions[0] if functions else lambda function: function
