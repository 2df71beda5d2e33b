"""How numbers, types and operations are written in the source of a step."""

import math
from typing import Any

import numpy as np

from minigd.execution.targets.lowering import Constant, Int, Place
from minigd.execution.tracer import NotTraceable

EXPRESSIONS = {
    "add": "({} + {})",
    "subtract": "({} - {})",
    "multiply": "({} * {})",
    "divide": "({} / {})",
    "negative": "(-{})",
    "square": "({0} * {0})",
    "absolute": "abs({})",
    "sign": "sign({})",
    "sqrt": "np.sqrt({})",
    "tanh": "tanh({})",
    "exp": "exp({})",
    "log": "log({})",
    "log1p": "log1p({})",
    "maximum": "maximum({}, {})",
    "minimum": "minimum({}, {})",
    "isfinite": "np.isfinite({})",
    "equal": "({} == {})",
    "not_equal": "({} != {})",
    "greater": "({} > {})",
    "greater_equal": "({} >= {})",
    "less": "({} < {})",
    "less_equal": "({} <= {})",
    "logical_and": "({} and {})",
    "logical_or": "({} or {})",
    "logical_not": "(not {})",
    "bitwise_and": "({} & {})",
    "bitwise_or": "({} | {})",
    "bitwise_xor": "({} ^ {})",
    "invert": "(not {})",
    "right_shift": "({} >> {})",
    "where": "({1} if {0} else {2})",
    "copyto": "{}",
}
"""How each operation on single numbers is written."""

REDUCTIONS = {"add": ("0", "{} + {}"), "maximum": ("-np.inf", "maximum({}, {})")}
"""What a reduction begins with, and how it goes on."""

TYPES = {"f4", "f8", "i8", "i4", "u8", "u4", "b1"}
"""The dtypes that the source has names for, which are NumPy's own."""


def type_name(dtype: Any) -> str:
    """Return the name of a dtype."""
    name: str = np.dtype(dtype).str[1:]
    if name not in TYPES:
        raise NotTraceable(f"numbers of type {dtype}")
    return name


def cast(text: str, have: Any, want: Any) -> str:
    """Return an expression as one of another dtype."""
    return text if np.dtype(have) == np.dtype(want) else f"{type_name(want)}({text})"


def literal(constant: Constant, want: Any) -> str:
    """Return a number of a dtype."""
    if isinstance(constant.value, str):
        return f"{type_name(want)}({constant.value})"
    value = np.dtype(want).type(constant.value).item()
    if isinstance(value, float) and not math.isfinite(value):
        text = "np.nan" if math.isnan(value) else ("np.inf" if value > 0 else "-np.inf")
        return f"{type_name(want)}({text})"
    return f"{type_name(want)}({value!r})"


def times(lengths: tuple[Int, ...]) -> Int:
    """Return the product of lengths, of which some may have names."""
    known = math.prod([n for n in lengths if isinstance(n, int)])
    names = [n for n in lengths if isinstance(n, str)]
    return " * ".join([*names, str(known)]) if names else known


def index(offset: Int, strides: tuple[Int, ...], counters: tuple[str, ...] = ("i", "j")) -> str:
    """Return the text of offset + Σ counter · stride, without what is 0."""
    parts = [] if offset == 0 else [str(offset)]
    for name, stride in zip(counters, strides, strict=False):
        if stride != 0:
            parts.append(name if stride == 1 else f"{name} * {stride}")
    return " + ".join(parts) or "0"


def cell(place: Place) -> str:
    """Return the text of the number at row i and column j."""
    return f"m{place.memory}[{index(place.offset, place.strides)}]"


def matrix(place: Place) -> str:
    """Return memory, offset, and whether it is turned, of a matrix whose numbers have no gaps."""
    (rows, columns), (down, right) = place.shape, place.strides
    if (right == 1 or columns == 1) and (down == columns or rows == 1):
        return f"m{place.memory}, {place.offset}, False"
    if (down == 1 or rows == 1) and (right == rows or columns == 1):
        return f"m{place.memory}, {place.offset}, True"
    raise NotTraceable("a matrix with gaps")
