"""One CUDA kernel for each formula, written by the formula itself, which stands in one place only.

A formula is called once with symbols in place of its arrays, and what it does to them becomes lines
of C: in one pass over memory, and one launch.
"""

import functools
import inspect
import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

# The modules whose functions are known to do the same at every call; no other is made a kernel.
FORMULAS, FUSED = "minigd.formulas", "minigd.execution.fusion"

WARP, THREADS = 32, 128
"""Threads that work on one row, and threads of a block."""

# Without this the compiler joins a product and a sum, and rounds once where NumPy rounds twice.
OPTIONS = ("-fmad=false",)

ARITHMETIC: dict[Any, str] = {
    np.add: "{} + {}",
    np.subtract: "{} - {}",
    np.multiply: "{} * {}",
    np.divide: "{} / {}",
    np.negative: "-{}",
}
# A comparison with a NaN is false, and NumPy lets a NaN through.
NUMBERS: dict[Any, str] = {
    **ARITHMETIC,
    np.tanh: "tanh({})",
    np.exp: "exp({})",
    np.log: "log({})",
    np.log1p: "log1p({})",
    np.sqrt: "sqrt({})",
    np.sign: "{0} > 0 ? (T)1 : {0} < 0 ? (T)-1 : {0} == 0 ? (T)0 : {0}",
    np.minimum: "{0} < {1} || {0} != {0} ? {0} : {1}",
    np.maximum: "{0} > {1} || {0} != {0} ? {0} : {1}",
}
# Whole numbers modulo 2⁶⁴.
WORDS: dict[Any, str] = {
    np.add: "{} + {}",
    np.multiply: "{} * {}",
    np.bitwise_xor: "{} ^ {}",
    np.right_shift: "{} >> {}",
}
COMPARISONS: dict[Any, str] = {
    np.equal: "{} == {}",
    np.less: "{} < {}",
    np.less_equal: "{} <= {}",
    np.greater: "{} > {}",
    np.greater_equal: "{} >= {}",
}
# What each starts from, and how a number is added to it.
REDUCTIONS = {"max": ("(T)(-1.0 / 0.0)", NUMBERS[np.maximum]), "sum": ("(T)0", NUMBERS[np.add])}

WORD = "unsigned long long"
KINDS = {"T": "T", "long long": "int64", WORD: "uint64"}
"""What the types of C are for CuPy; T is the dtype of a formula's first array."""
DTYPES = {np.dtype("int64"): "long long", np.dtype("uint64"): WORD}


class Form(NamedTuple):
    """What an input is, beside the array of shape (n, K) that a formula takes first.

    Attributes
    ----------
    kind : {"T", "long long", "unsigned long long"}
        Its type in C; T is a real dtype, that of the first.
    place : {"each", "row", "column"}
        It holds a number for each of the first's; one per row, in shape (n, 1); or one per column,
        in shape (K,).
    """

    kind: str
    place: str


LIKE = Form("T", "each")


Like: TypeAlias = tuple[tuple[int, ...], Any]
"""Shape and dtype of an array, all that is looked at."""


def form_of(a: Like, first: Like) -> Form | None:
    """Return what an input is beside the first one, or None where no kernel takes it.

    >>> form_of(((3,), np.dtype(float)), ((2, 3), np.dtype(float)))
    Form(kind='T', place='column')
    """
    (shape, dtype), (whole, real) = a, first
    kind = "T" if dtype == real and dtype.kind == "f" else DTYPES.get(dtype)
    if kind is None:
        return None
    if shape == whole:
        return Form(kind, "each")
    if len(whole) != 2:
        return None
    if shape == whole[1:]:
        return Form(kind, "column")
    return Form(kind, "row") if shape == (whole[0], 1) else None


class NotTraced(Exception):
    """A formula did something to its arrays that no kernel here can do."""


class Constant(NDArrayOperatorsMixin):
    """A number that the caller gives, or what the formula makes of such numbers.

    It is worked out on the host at each call, in double precision: of β₂ = 0.999 in single
    precision, 1 − β₂ would be wrong in the fifth digit.
    """

    def __init__(self, text: str) -> None:
        self.text = text

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **settings: Any) -> Any:
        if any(isinstance(a, Symbol) for a in inputs):
            return NotImplemented
        if method != "__call__" or settings or ufunc not in ARITHMETIC:
            raise NotTraced(ufunc.__name__)
        texts = [a.text if isinstance(a, Constant) else repr(_literal(a)) for a in inputs]
        return Constant(f"({ARITHMETIC[ufunc].format(*texts)})")

    def __bool__(self) -> bool:
        raise NotTraced("a constant was looked at")


class Symbol(NDArrayOperatorsMixin):
    """A number of a kernel, standing for an array, and the line of C that computes it.

    Attributes
    ----------
    name : str
        What it is called in C.
    kind : {"T", "bool", "long long", "unsigned long long"}
        Its type in C.
    text : str
        What computes it; empty for an input.
    place : {"each", "row", "column"}
        What an input is: see `Form`.
    level : int
        How often a row must be gone through before it is known.
    per_row : bool
        Whether it is one number a row.
    """

    def __init__(
        self,
        program: "Program",
        name: str,
        kind: str = "T",
        text: str = "",
        operands: tuple["Symbol", ...] = (),
        reduction: str | None = None,
        place: str = "each",
    ) -> None:
        self.program, self.name, self.kind, self.text = program, name, kind, text
        self.operands, self.reduction, self.place = operands, reduction, place
        passes = max([s.level for s in operands], default=0)
        self.level: int = passes if reduction is None else passes + 1
        narrow = all(s.per_row for s in operands)
        self.per_row: bool = reduction is not None or (narrow if operands else place == "row")

    @property
    def real(self) -> "Symbol":
        """Itself: complex arrays have no kernels."""
        return self

    @property
    def line(self) -> str:
        """The line of C that computes it."""
        return f"{self.kind} {self.name} = {self.text};"

    def max(self, *, axis: int, keepdims: bool) -> "Symbol":
        """Return the largest number of each row."""
        return self._reduced("max", axis, keepdims)

    def sum(self, *, axis: int, keepdims: bool) -> "Symbol":
        """Return the sum of each row."""
        return self._reduced("sum", axis, keepdims)

    def _reduced(self, reduction: str, axis: int, keepdims: bool) -> "Symbol":
        if axis != 1 or keepdims is not True or self.kind != "T" or self.per_row:
            raise NotTraced(f"{reduction} that is not over the columns of numbers")
        return self.program.line(f"{reduction}({self.name})", "T", (self,), reduction)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **settings: Any) -> Any:
        symbols = tuple([a for a in inputs if isinstance(a, Symbol)])
        kinds = {s.kind for s in symbols}
        kind, table = ("bool", COMPARISONS) if ufunc in COMPARISONS else ("T", NUMBERS)
        if kinds == {WORD}:
            kind, table = WORD, WORDS
        template = table.get(ufunc)
        if template is None or method != "__call__" or settings:
            raise NotTraced(ufunc.__name__)
        if kinds == {"bool"} or (kind == "T" and kinds & {"long long", WORD}):
            raise NotTraced(f"{ufunc.__name__} of {' and '.join(kinds)}")
        return self.program.line(template.format(*map(self.program.number, inputs)), kind, symbols)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        condition = args[0] if function is np.where and len(args) == 3 and not kwargs else None
        if not isinstance(condition, Symbol) or condition.kind != "bool":
            raise NotTraced(function.__name__)
        yes, no = map(self.program.number, args[1:])
        symbols = tuple([a for a in args if isinstance(a, Symbol)])
        return self.program.line(f"{condition.name} ? {yes} : {no}", "T", symbols)

    def __bool__(self) -> bool:
        raise NotTraced("a number was looked at")


class Program:
    """A formula as lines of C.

    Parameters
    ----------
    formula : callable
        A function of arrays, with its constants by keyword, as `minigd.formulas` has them.
    forms : tuple of Form, optional
        What its inputs are; all are like the first without it.

    Attributes
    ----------
    inputs : list of Symbol
    lines : dict of str to Symbol
        What is computed, in order, by its text: nothing is computed twice.
    constants : dict of str to str
        The names in C of what the formula makes of its constants, by its text in Python.
    results : tuple of Symbol
    by_row : bool
        Whether a number depends on its whole row.
    values : callable
        From the formula's constants to those of the kernel, on the host.

    Raises
    ------
    NotTraced
        If it does what no kernel here can do.

    Examples
    --------
    >>> from minigd import formulas
    >>> program = Program(formulas.tanh_backward)
    >>> for symbol in program.lines.values():
    ...     print(symbol.line)
    T t0 = y * y;
    T t1 = (T)1.0 - t0;
    T t2 = dy * t1;
    """

    def __init__(self, formula: Callable[..., Any], forms: tuple[Form, ...] | None = None) -> None:
        parameters = inspect.signature(formula).parameters.values()
        constants = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
        names = [p.name for p in parameters if p.name not in constants]
        self.name = f"minigd_{formula.__name__}"
        self.lines: dict[str, Symbol] = {}
        self.constants: dict[str, str] = {}
        self.inputs = [
            Symbol(self, name, form.kind, place=form.place)
            for name, form in zip(names, forms or [LIKE] * len(names), strict=True)
        ]
        self.kind = self.inputs[0].kind
        results = formula(*self.inputs, **{name: Constant(name) for name in constants})
        results = results if isinstance(results, tuple) else (results,)
        if not all(isinstance(s, Symbol) and s.kind == self.kind != "long long" for s in results):
            raise NotTraced("a result that is not an array of numbers")
        # An input is read where it lies, and another result may be stored there first.
        self.results = tuple([s if s.text else self.line(s.name, s.kind, (s,)) for s in results])
        self.by_row = any(s.level for s in self.results)
        if not self.by_row and any(s.per_row for s in self.results):
            raise NotTraced("a result that holds one number a row, without a look at the row")
        source = f"lambda {', '.join(constants)}: [{', '.join(self.constants)}]"
        self.values: Callable[..., list[float]] = eval(source, {})

    def line(
        self, text: str, kind: str, operands: tuple[Symbol, ...], reduction: str | None = None
    ) -> Symbol:
        """Return the symbol of what `text` computes."""
        if text not in self.lines:
            name = f"t{len(self.lines)}"
            self.lines[text] = Symbol(self, name, kind, text, operands, reduction)
        return self.lines[text]

    def number(self, a: Any) -> str:
        """Return an operand as a number of type T in C."""
        if isinstance(a, Symbol):
            return a.name
        if isinstance(a, Constant):
            return self.constants.setdefault(a.text, f"c{len(self.constants)}")
        if self.kind == WORD:
            return f"{int(_literal(a))}ull"
        if type(a) is float and math.isinf(a):
            return f"(T)({'-' if a < 0 else ''}1.0 / 0.0)"
        return f"(T){float(_literal(a))!r}"

    def fits(self, first: Like, outs: tuple[Like, ...]) -> bool:
        """Tell whether the kernel's results are such arrays."""
        shape, dtype = first
        shapes = [(shape[0], 1) if s.per_row else shape for s in self.results]
        if outs != tuple([(each, dtype) for each in shapes]):
            return False
        return not self.by_row or (len(shape) == 2 and 0 not in shape)


def program_for(
    formula: Callable[..., Any], inputs: tuple[Any, ...], outs: tuple[Any, ...]
) -> Program | None:
    """Return a formula of such arrays as lines of C, or None if there is no kernel for it."""
    if getattr(formula, "__module__", None) not in (FORMULAS, FUSED):
        return None
    likes = [tuple([(a.shape, a.dtype) for a in arrays]) for arrays in (inputs, outs)]
    program = _chosen(formula, *likes)
    if program is not None and program.by_row:
        return program if all(a.flags.c_contiguous for a in (*inputs, *outs)) else None
    return program


# A step asks the same again and again, and the answer takes longer than a launch.
@functools.lru_cache(maxsize=1024)
def _chosen(
    formula: Callable[..., Any],
    inputs: tuple[Like, ...],
    outs: tuple[Like, ...],
) -> Program | None:
    if inputs[0][1].char not in "fdLQ":
        return None
    forms = tuple([form_of(a, inputs[0]) for a in inputs])
    program = None if None in forms else program_of(formula, forms)
    return program if program is not None and program.fits(inputs[0], outs) else None


@functools.cache
def program_of(
    formula: Callable[..., Any], forms: tuple[Form, ...] | None = None
) -> Program | None:
    """Return a formula as lines of C, or None if it has no kernel."""
    try:
        return Program(formula, forms)
    except (NotTraced, TypeError, AttributeError, ValueError):
        return None


def launch(
    xp: Any,
    program: Program,
    inputs: tuple[Any, ...],
    outs: tuple[Any, ...],
    constants: dict[str, float],
) -> None:
    """Write the results into `outs` in one launch.

    What `outs` held may be what `inputs` hold: each thread has its results before it stores one.
    """
    values = program.values(**constants)
    if program.by_row:
        dtype, (rows, columns) = inputs[0].dtype, inputs[0].shape
        scalars = [rows, columns, *[dtype.type(value) for value in values]]
        blocks = -(-rows * WARP // THREADS)
        by_rows(xp, program, dtype)((blocks,), (THREADS,), (*inputs, *outs, *scalars))
    else:
        elementwise(xp, program)(*inputs, *values, *outs)


@functools.cache
def elementwise(xp: Any, program: Program) -> Any:
    """Return the kernel that goes through the numbers of a formula one by one."""
    names = [f"out{k}" for k in range(len(program.results))]
    inputs = [f"{KINDS[s.kind]} {s.name}" for s in program.inputs]
    kind = KINDS[program.kind]
    inputs += [f"{kind} {name}" for name in program.constants.values()]
    outs = [f"{kind} {name}" for name in names]
    store = " ".join(f"{out} = {s.name};" for out, s in zip(names, program.results, strict=True))
    lines = [*[s.line for s in program.lines.values()], store]
    return xp.ElementwiseKernel(
        ", ".join(inputs), ", ".join(outs), "\n".join(lines), program.name, options=OPTIONS
    )


@functools.cache
def by_rows(xp: Any, program: Program, dtype: Any) -> Any:
    """Return the kernel that gives each row of a formula to one warp."""
    return xp.RawKernel(rows_source(program, dtype), program.name, options=OPTIONS)


def rows_source(program: Program, dtype: Any) -> str:
    """Return the C of a formula that takes the maximum or the sum of a row.

    The threads of a warp go through their row once for each, and compute again what they need; the
    row comes from the cache. Then they put their parts together, and go through it to store.
    """
    arrays = [f"const {s.kind}* all_{s.name}" for s in program.inputs]
    arrays += [f"T* all_out{k}" for k in range(len(program.results))]
    scalars = [f"const T {name}" for name in program.constants.values()]
    parameters = ", ".join([*arrays, "const long long rows", "const long long columns", *scalars])
    known = list(program.lines.values())
    stores: list[str] = []
    alone: list[str] = []
    for k, symbol in enumerate(program.results):
        place, then = ("row", alone) if symbol.per_row else ("i", stores)
        then.append(f"all_out{k}[{place}] = {symbol.name};")
    body = [f"{s.kind} {s.name} = all_{s.name}[row];" for s in program.inputs if s.place == "row"]
    last = max(s.level for s in program.results)
    for level in range(last + 1):
        body += [s.line for s in known if s.per_row and not s.reduction and s.level == level]
        if level == last:
            if alone:
                body += ["if (threadIdx.x % warpSize == 0) {", *_indented(alone), "}"]
            if stores:
                body += _loop([s for s in program.results if not s.per_row], stores)
            break
        reductions = [s for s in known if s.reduction and s.level == level + 1]
        steps, joins = [], []
        for s in reductions:
            start, template = REDUCTIONS[str(s.reduction)]
            body.append(f"T {s.name} = {start};")
            steps.append(f"{s.name} = {template.format(s.name, s.operands[0].name)};")
            other = f"T other = __shfl_xor_sync(0xffffffff, {s.name}, step);"
            joins.append(f"{{ {other} {s.name} = {template.format(s.name, 'other')}; }}")
        body += _loop([s.operands[0] for s in reductions], steps)
        body += ["for (int step = warpSize / 2; step > 0; step /= 2) {", *_indented(joins), "}"]
    lines = [
        "const long long thread = blockIdx.x * (long long)blockDim.x + threadIdx.x;",
        "const long long warps = gridDim.x * (long long)blockDim.x / warpSize;",
        "for (long long row = thread / warpSize; row < rows; row += warps) {",
        *_indented(body),
        "}",
    ]
    head = f"typedef {'float' if dtype == 'float32' else 'double'} T;"
    kernel = f'extern "C" __global__ void {program.name}({parameters}) {{'
    return "\n".join([head, kernel, *_indented(lines), "}", ""])


def _loop(wanted: Iterable[Symbol], then: list[str]) -> list[str]:
    """Return the loop of a warp over the columns of its row that computes what is wanted."""
    needed: dict[str, Symbol] = {}

    def need(symbol: Symbol) -> None:
        if symbol.name in needed or symbol.per_row:
            return
        for operand in symbol.operands:
            need(operand)
        needed[symbol.name] = symbol

    for symbol in wanted:
        need(symbol)
    lines = [s.line if s.text else _loaded(s) for s in needed.values()]
    start, end = "row * columns + thread % warpSize", "(row + 1) * columns"
    head = f"for (long long i = {start}; i < {end}; i += warpSize) {{"
    return [head, *_indented([*lines, *then]), "}"]


def _loaded(symbol: Symbol) -> str:
    """Return the line of C that reads an input at column i of all columns."""
    place = "i" if symbol.place == "each" else "i - row * columns"
    return f"{symbol.kind} {symbol.name} = all_{symbol.name}[{place}];"


def _indented(lines: Iterable[str]) -> list[str]:
    return [f"  {line}" for line in lines]


def _literal(a: Any) -> int | float:
    if type(a) not in (int, float) or not math.isfinite(a):
        raise NotTraced(f"{a!r} among the numbers")
    number: int | float = a
    return number
