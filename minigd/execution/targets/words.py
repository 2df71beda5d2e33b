"""How numbers, types and operations are written: a table for each language, Python and CUDA C."""

import math
import re
from typing import Any, NamedTuple

import numpy as np

from minigd.execution.targets.lowering import Constant, Int, Place, Step
from minigd.execution.tracer import NotTraceable

OPERATIONS = {
    "add": "({} + {})",
    "subtract": "({} - {})",
    "multiply": "({} * {})",
    "divide": "({} / {})",
    "negative": "(-{})",
    "square": "({0} * {0})",
    "absolute": "abs({})",
    "sign": "np.sign({})",
    "sqrt": "np.sqrt({})",
    "tanh": "tanh({})",
    "exp": "exp({})",
    "log": "log({})",
    "log1p": "log1p({})",
    "maximum": "np.maximum({}, {})",
    "minimum": "np.minimum({}, {})",
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
    "pick": "({0} if j == {1} else {2})",
}
"""How each operation on single numbers is written in Python."""

# A comparison with a NaN is false, and NumPy lets a NaN through.
OPERATIONS_OF_C = OPERATIONS | {
    "absolute": "fabs({})",
    "sign": "({0} > 0 ? 1 : {0} < 0 ? -1 : {0} == 0 ? 0 : {0})",
    "sqrt": "sqrt({})",
    "maximum": "({0} > {1} || {0} != {0} ? {0} : {1})",
    "minimum": "({0} < {1} || {0} != {0} ? {0} : {1})",
    "isfinite": "({0} - {0} == 0)",
    "logical_and": "({} && {})",
    "logical_or": "({} || {})",
    "logical_not": "(!{})",
    "invert": "(!{})",
    "where": "({0} ? {1} : {2})",
    "pick": "(j == {1} ? {0} : {2})",
}

TYPES = {"f4", "f8", "i8", "i4", "u8", "u4", "b1"}
"""The dtypes with names in the source, which are NumPy's names."""


class Language(NamedTuple):
    """How a language writes the operations of a group.

    Attributes
    ----------
    operations : dict of str to str
        Each operation on single numbers.
    reductions : dict of str to tuple of str
        The start value of a reduction, and how it continues.
    spelled : dict of str to str
        Words of Python that differ in this language.
    bit : str
        How a truth value is read, which is a byte in memory.
    in_order : bool
        Whether numbers are processed one after the other, row by row.
    """

    operations: dict[str, str]
    reductions: dict[str, tuple[str, str]]
    spelled: dict[str, str]
    bit: str
    in_order: bool

    def spell(self, text: str) -> str:
        """Return an expression with its constants in this language."""
        for word, spelled in self.spelled.items():
            text = re.sub(word, spelled, text)
        return text

    def read(self, cell: str, dtype: Any) -> str:
        """Return the text of a number in memory."""
        return self.bit.format(cell) if dtype == np.bool_ else cell

    def sum_type(self, reduction: str, dtype: Any) -> Any:
        """Return the dtype for reducing many numbers to one.

        If they are added one after the other, the sum has double precision.
        """
        wide = self.in_order and reduction == "add" and dtype.kind == "f"
        return np.dtype(float) if wide else dtype

    def expression(self, step: Step, words: list[Any]) -> tuple[str, Any]:
        """Return an operation on single numbers, and the dtype of its result."""
        if step.name not in self.operations:
            hint = " (x ** 2): write x * x" if step.name == "power" else ""
            raise NotTraceable(step.name + hint)
        kinds = [part.dtype for part in step.inputs]
        if step.ufunc is not None:
            *takes, gives = step.ufunc.resolve_dtypes((*kinds, None))
        elif step.name == "where":
            takes, gives = [np.dtype(bool), step.out.dtype, step.out.dtype], step.out.dtype
        else:
            takes, gives = [step.out.dtype], step.out.dtype
        words = [
            literal(word, kind) if isinstance(word, Constant) else cast(word, part.dtype, kind)
            for word, part, kind in zip(words, step.inputs, takes, strict=True)
        ]
        return self.operations[step.name].format(*words), gives


PYTHON = Language(
    operations=OPERATIONS,
    reductions={
        "add": ("0", "{} + {}"),
        "maximum": ("-np.inf", OPERATIONS["maximum"]),
        "pick": ("np.nan", "({0} if {0} == {0} else {1})"),
    },
    spelled={},
    bit="({} != 0)",
    in_order=True,
)
C = Language(
    operations=OPERATIONS_OF_C,
    reductions={
        "add": ("0", "{} + {}"),
        "maximum": ("-np.inf", OPERATIONS_OF_C["maximum"]),
        "pick": ("np.nan", "({0} == {0} ? {0} : {1})"),
    },
    spelled={
        **{"np.inf": "(1.0 / 0.0)", "np.nan": "(0.0 / 0.0)", "True": "true", "False": "false"},
        r"\bu8\((\d+)\)": r"u8(\1ull)",
    },
    bit="{}",
    in_order=False,
)


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
    """Return the product of lengths, some of which may be names."""
    known = math.prod([n for n in lengths if isinstance(n, int)])
    names = [n for n in lengths if isinstance(n, str)]
    return " * ".join([*names, str(known)]) if names else known


def index(offset: Int, strides: tuple[Int, ...]) -> str:
    """Return the text of offset + Σ strides · (i, j), without what is 0."""
    parts = [] if offset == 0 else [str(offset)]
    for name, stride in zip("ij", strides, strict=False):
        if stride != 0:
            parts.append(name if stride == 1 else f"{name} * {stride}")
    return " + ".join(parts) or "0"


def cell(place: Place) -> str:
    """Return the text of the number at row i and column j."""
    return f"m{place.memory}[{index(place.offset, place.strides)}]"
