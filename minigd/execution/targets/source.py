"""The source of a program's step: operations on the same rows and columns share a loop."""

import math
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from minigd.execution.targets.lowering import Constant, General, Int, Place, Step
from minigd.execution.tracer import NotTraceable

HEAD = '''"""A training step, printed by minigd."""

import numpy as np
from numba import boolean as b1, float32 as f4, float64 as f8, int32 as i4, int64 as i8, njit
from numba import uint32 as u4, uint64 as u8

from minigd.execution.targets.vector_math import exp, log, log1p, maximum, minimum, sign, tanh


@njit(fastmath={"reassoc"}, error_model="numpy")
def sum_of_squares(g):
    total = g.dtype.type(0)
    for i in range(g.size):
        total += g[i] * g[i]
    return f8(total)


@njit(cache=True, nogil=True, error_model="numpy")'''

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

TYPES = {"f4": "f4", "f8": "f8", "i8": "i8", "i4": "i4", "u8": "u8", "u4": "u4", "b1": "b1"}
"""The names that the source has for dtypes."""


class Use(NamedTuple):
    """A place as a loop walks over it: one stride for each of the loop's axes."""

    memory: int
    dtype: Any
    offset: Int
    strides: tuple[Int, ...]
    axes: tuple[Int, ...] | None
    shape: tuple[Int, ...] = ()

    def end(self) -> int | None:
        """Return the number after its last, where that is known."""
        end: Int = self.offset
        lengths = self.shape if self.axes is None else self.axes
        for n, stride in zip(lengths, self.strides, strict=True):
            if isinstance(end, str) or isinstance(n, str) or isinstance(stride, str):
                return None
            end += (n - 1) * stride
        return None if isinstance(end, str) else end + 1


class Loop:
    """Statements that share a loop over rows, or over rows and columns."""

    def __init__(self, axes: tuple[Int, ...]) -> None:
        self.axes = axes
        self.before: list[str] = []
        self.of_row: list[str] = []
        self.body: list[tuple[str, int]] = []  # a statement, and the memory it stores to or -1
        self.after_row: list[str] = []
        self.after: list[str] = []
        self.locals: dict[Use, str] = {}  # what a local variable holds
        self.uses: list[tuple[Use, bool]] = []  # and whether it is written


class Printer:
    """Prints steps as statements, each with the memory that it stores to, or -1.

    Parameters
    ----------
    roots : list of int
        The memory that each memory is the same as, with numbers of another type.
    kept : set of int
        The memory that is read when the function has returned.
    """

    def __init__(self, roots: list[int], kept: set[int]) -> None:
        self._roots = roots
        self._loaded = {roots[memory] for memory in kept}
        self._lines: list[tuple[str, int]] = []
        self._loop: Loop | None = None
        self._count = 0

    def print(self, steps: Iterable[Step]) -> list[tuple[str, int]]:
        """Return the statements of steps in their order."""
        self._lines = []
        for step in steps:
            if step.name == "dot":
                self.close()
                self._dot(step)
            elif step.name.endswith(".reduce"):
                self._reduce(step)
            else:
                self._elementwise(step)
        self.close()
        return self._lines

    def stored(self, lines: list[tuple[str, int]]) -> list[str]:
        """Return statements without the stores that nothing printed so far would read."""
        return [line for line, m in lines if m < 0 or self._roots[m] in self._loaded]

    # Loops ---------------------------------------------------------------------------------

    def _open(
        self,
        shape: tuple[Int, ...],
        uses: list[tuple[Place, bool]],
        result: Place | None = None,
        flat: bool = True,
    ) -> Loop:
        """Return the loop that walks over these places: the one at hand if they allow it.

        Rows and columns are one axis, if `flat`, where nothing depends on which of them it is.
        """
        axes = tuple([n for n in shape if n != 1])
        walked = [(_use(place, shape, axes), stored) for place, stored in uses]
        if flat and len(axes) == 2 and all(_is_flat(use, axes) for use, _ in walked):
            axes = (_product(axes),)
            walked = [(u._replace(strides=u.strides[1:], axes=axes), s) for u, s in walked]
        after = [] if result is None else [(_whole(result), True)]
        both = [(u._replace(memory=self._roots[u.memory]), s) for u, s in walked + after]
        loop = self._loop
        if loop is None or loop.axes != axes or any(_clash(loop, u, s) for u, s in both):
            self.close()
            loop = self._loop = Loop(axes)
        loop.uses += both[: len(walked)]
        self._walked = [use for use, _ in walked]
        return loop

    def close(self) -> None:
        """Print the loop at hand."""
        loop, self._loop = self._loop, None
        if loop is None:
            return
        add = self._lines.append
        for line in loop.before:
            add((line, -1))
        indent = ""
        for k, n in enumerate(loop.axes):
            add((f"{indent}for {'ij'[k]} in range({n}):", -1))
            indent += "    "
            if k == 0 and len(loop.axes) == 2:
                for line in loop.of_row:
                    add((indent + line, -1))
        for line, memory in loop.body:
            add((indent + line, memory))
        for line in loop.after_row:
            add(("    " + line, -1))
        for line in loop.after:
            add((line, -1))

    def _new(self) -> str:
        self._count += 1
        return f"t{self._count}"

    def _load(self, loop: Loop, use: Use) -> str:
        """Return the local variable that holds a number of memory."""
        if use not in loop.locals:
            self._loaded.add(self._roots[use.memory])
            name = loop.locals[use] = self._new()
            line = f"{name} = m{use.memory}[{_index(use)}]"
            if not any(use.strides):
                loop.before.append(line)
            elif use.strides[-1] == 0:
                loop.of_row.append(line)
            else:
                loop.body.append((line, -1))
        return loop.locals[use]

    def _elementwise(self, step: Step) -> None:
        places = [p for p in step.inputs if isinstance(p, Place)]
        if step.name == "pick":
            self._pick(step)
            return
        loop = self._open(step.out.shape, [*[(p, False) for p in places], (step.out, True)])
        *inputs, out = self._walked
        walked = iter(inputs)
        words = []
        for part in step.inputs:
            use = next(walked) if isinstance(part, Place) else part
            words.append(self._load(loop, use) if isinstance(use, Use) else use)
        self._store(loop, out, *self._expression(step, words))

    def _expression(self, step: Step, words: list[Any]) -> tuple[str, Any]:
        """Return an operation on single numbers, and the dtype of its result."""
        if step.name not in EXPRESSIONS:
            raise NotTraceable(step.name)
        kinds = [part.dtype for part in step.inputs]
        if step.ufunc is not None:
            *takes, gives = step.ufunc.resolve_dtypes((*kinds, None))
        elif step.name == "where":
            takes, gives = [np.dtype(bool), step.out.dtype, step.out.dtype], step.out.dtype
        else:
            takes, gives = [step.out.dtype], step.out.dtype
        cast = [
            _literal(word, kind) if isinstance(word, Constant) else _cast(word, part.dtype, kind)
            for word, part, kind in zip(words, step.inputs, takes, strict=True)
        ]
        return EXPRESSIONS[step.name].format(*cast), gives

    def _store(self, loop: Loop, out: Use, text: str, kind: Any) -> None:
        name = self._new()
        loop.body.append((f"{name} = {_cast(text, kind, out.dtype)}", -1))
        loop.locals[out] = name
        loop.body.append((f"m{out.memory}[{_index(out)}] = {name}", out.memory))

    def _pick(self, step: Step) -> None:
        """Print out[i] = source[rows[i], columns[i]]."""
        source, *index = step.inputs
        self.close()
        loop = self._open(step.out.shape, [*[(p, False) for p in index], (step.out, True)])
        *rows, out = self._walked
        names = [self._load(loop, use) for use in rows]
        self._loaded.add(self._roots[source.memory])
        parts = [f"{n} * {s}" for n, s in zip(names, source.strides, strict=False)]
        place = " + ".join([str(source.offset), *parts])
        self._store(loop, out, f"m{source.memory}[{place}]", source.dtype)
        self.close()

    def _reduce(self, step: Step) -> None:
        source, out = step.inputs[0], step.out
        name, axis = step.name.removesuffix(".reduce"), step.axis
        if name not in REDUCTIONS:
            raise NotTraceable(step.name)
        kept = [k for k, n in enumerate(source.shape) if n != 1]
        if axis is not None and axis not in kept:
            same = out._replace(shape=source.shape, strides=_over(out, source, axis))
            self._elementwise(Step("copyto", None, (source,), same))
            return
        whole = axis is None or kept == [axis]
        loop = self._open(source.shape, [(source, False)], out, flat=whole)
        value = self._load(loop, self._walked[0])
        kind, (first, more) = _type(out.dtype), REDUCTIONS[name]
        # Many numbers are summed in double precision, but the rows as NumPy does it.
        wide = "f8" if name == "add" and out.dtype.kind == "f" else kind
        total = self._new()
        start = f"{total} = {wide}({first})"
        step_on = (f"{total} = {more.format(total, _cast(value, source.dtype, wide))}", -1)
        if whole:
            loop.before.append(start)
            loop.body.append(step_on)
            loop.after.append(f"m{out.memory}[{out.offset}] = {kind}({total})")
        elif axis == 1:
            loop.of_row.append(start)
            loop.body.append(step_on)
            cell = f"m{out.memory}[{_sum(out.offset, ('i', out.strides[0]))}]"
            loop.after_row.append(f"{cell} = {kind}({total})")
        else:
            cell = f"m{out.memory}[{_sum(out.offset, ('j', out.strides[-1]))}]"
            columns = f"for j in range({source.shape[1]}):"
            loop.before += [columns, f"    {cell} = {kind}({first})"]
            loop.body.append((f"{cell} = {more.format(cell, value)}", -1))
        self._loaded.add(self._roots[out.memory])
        loop.uses.append((_whole(out)._replace(memory=self._roots[out.memory]), True))

    def _dot(self, step: Step) -> None:
        a, b, out = (*step.inputs, step.out)
        if not (
            isinstance(a, Place) and isinstance(b, Place) and len(a.shape) == len(b.shape) == 2
        ):
            raise NotTraceable("a product that is not of two matrices")
        self._loaded.update((self._roots[a.memory], self._roots[b.memory]))
        self._lines.append((f"np.dot({_matrix(a)}, {_matrix(b)}, {_matrix(out)})", -1))


def _use(place: Place, shape: tuple[Int, ...], axes: tuple[Int, ...]) -> Use:
    """Return a place for a loop over the axes of this shape that are longer than 1."""
    lead, strides = len(shape) - len(place.shape), []
    for k, n in enumerate(shape):
        if n != 1:
            own = k - lead
            strides.append(0 if own < 0 or place.shape[own] == 1 else place.strides[own])
    return Use(place.memory, place.dtype, place.offset, tuple(strides), axes)


def _clash(loop: Loop, use: Use, stored: bool) -> bool:
    """Tell whether a loop can't use a place too: others of its numbers are written, or read."""
    return any(
        other.memory == use.memory
        and (stored or written)
        and (other != use or other.axes is None)
        and not _apart(other, use)
        for other, written in loop.uses
    )


def _apart(one: Use, other: Use) -> bool:
    """Tell whether two places of one memory surely share no number."""
    first, second = one.end(), other.end()
    if first is None or second is None or one.dtype != other.dtype:
        return False
    assert isinstance(one.offset, int)
    assert isinstance(other.offset, int)
    return first <= other.offset or second <= one.offset


def _over(out: Place, source: Place, axis: int) -> tuple[Int, ...]:
    """Return the strides of a sum along an axis of length 1 as if the axis were still there."""
    strides = list(out.strides)
    if len(strides) < len(source.shape):
        strides.insert(axis, 0)
    return tuple(strides)


def _whole(place: Place) -> Use:
    """Return a place that no loop may use before the loop that writes it is closed."""
    return Use(place.memory, place.dtype, place.offset, place.strides, None, place.shape)


def _is_flat(use: Use, axes: tuple[Int, ...]) -> bool:
    return not any(use.strides) or use.strides == (axes[1], 1)


def _product(axes: tuple[Int, ...]) -> Int:
    known = math.prod([n for n in axes if isinstance(n, int)])
    names = [n for n in axes if isinstance(n, str)]
    return " * ".join([*names, str(known)]) if names else known


def _sum(offset: Int, *terms: tuple[str, Int]) -> str:
    """Return the index offset + Σ name · stride, without what is 0."""
    parts = [] if offset == 0 else [str(offset)]
    parts += [name if s == 1 else f"{name} * {s}" for name, s in terms if s != 0]
    return " + ".join(parts) or "0"


def _index(use: Use) -> str:
    return _sum(use.offset, *zip("ij", use.strides, strict=False))


def _matrix(place: Place) -> str:
    """Return the text of a matrix, turned where its columns lie one after the other."""
    (rows, columns), (down, right) = place.shape, place.strides
    size = _product(place.shape)
    end = size if place.offset == 0 else f"{place.offset} + {size}"
    memory = f"m{place.memory}[{place.offset}:{end}]"
    if (right == 1 or columns == 1) and (down == columns or rows == 1):
        return f"{memory}.reshape(({rows}, {columns}))"
    if (down == 1 or rows == 1) and (right == rows or columns == 1):
        return f"{memory}.reshape(({columns}, {rows})).T"
    raise NotTraceable("a matrix with gaps")


def _type(dtype: Any) -> str:
    name = np.dtype(dtype).str[1:]
    if name not in TYPES:
        raise NotTraceable(f"numbers of type {dtype}")
    return TYPES[name]


def _cast(text: str, have: Any, want: Any) -> str:
    return text if np.dtype(have) == np.dtype(want) else f"{_type(want)}({text})"


def _literal(constant: Constant, want: Any) -> str:
    if isinstance(constant.value, str):
        return f"{_type(want)}({constant.value})"
    value = np.dtype(want).type(constant.value).item()
    if isinstance(value, float) and not math.isfinite(value):
        text = "np.nan" if math.isnan(value) else ("np.inf" if value > 0 else "-np.inf")
        return f"{_type(want)}({text})"
    return f"{_type(want)}({value!r})"


def function(
    named: dict[str, Place],
    gradient: list[str],
    update: list[str],
    general: General,
    flat_grads: int,
    restored: list[int],
) -> tuple[str, list[int]]:
    """Return the source of a function that makes the steps of several batches, and its memory.

    Parameters
    ----------
    named : dict of str to Place
        The batch, the results and the scalars.
    gradient, update : list of str
        What is done before and after the cut.
    general : General
    flat_grads : int
        The memory of the gradients.
    restored : list of int
        Memory that is as before where the gradient of a step is not safe.
    """
    x, y, z, value = (named[name] for name in ("x", "y", "z", "value"))
    width = z.shape[1]
    rows = [f"for j in range({x.shape[1]}):", f"    {_cell(x)} = X[row, j]"]
    rows += (
        [f"for j in range({y.shape[1]}):", f"    {_cell(y)} = Y[row, j]"]
        if len(y.shape) == 2
        else [f"{_cell(y)} = Y[row]"]
    )
    if "scale" in named:
        rows.append(f"{_cell(named['scale'])} = scale[first + i]")
    scalars = [p for name, p in named.items() if name not in _ARRAYS]
    keys = [p for p in scalars if p.dtype.kind == "u"]
    numbers = [p for p in scalars if p.dtype.kind != "u"]
    step = [
        *[f"{name} = whole[size, {i}]" for i, name in enumerate(general.ints)],
        *[f"{name} = broken[size, {i}]" for i, name in enumerate(general.floats)],
        *[f"{_cell(p)} = keys[k, {i}]" for i, p in enumerate(keys)],
        *[f"{_cell(p)} = scalars[k, {i}]" for i, p in enumerate(numbers)],
        *[f"before{m}[:] = m{m}" for m in restored],
        *gradient,
        f"losses[k] = {_cell(value)}",
        f"length = np.sqrt(sum_of_squares(m{flat_grads}))",
        "largest[0] = max(largest[0], length) if length >= 0 else np.inf",
        "if not (np.isfinite(losses[k]) and largest[0] * max(rates[k], 1.0) < safe):",
        *[f"    m{m}[:] = before{m}" for m in restored],
        "    return k",
        "if len(outputs) > 0:",
        "    for i in range(n):",
        f"        for j in range({width}):",
        f"            outputs[first + i, j] = {_cell(z)}",
        "if update:",
        *[f"    {line}" for line in update or ["pass"]],
    ]
    used = sorted({int(k) for line in (*rows, *step) for k in re.findall(r"\bm(\d+)\b", line)})
    memory = ", ".join([f"m{k}" for k in used])
    source = "\n".join(
        [
            HEAD,
            "def run(X, Y, order, starts, scale, which, whole, broken, keys, scalars, rates,",
            f"        largest, safe, update, losses, outputs, {memory}):",
            *[f"    before{m} = m{m}.copy()" for m in restored],
            "    for k in range(len(starts) - 1):",
            "        first, n, size = starts[k], starts[k + 1] - starts[k], which[k]",
            "        for i in range(n):",
            "            row = order[first + i]",
            *[f"            {line}" for line in rows],
            *[f"        {line}" for line in step],
            "    return len(starts) - 1",
            "",
        ]
    )
    return source, used


_ARRAYS = ("x", "y", "scale", "value", "z", "norms")


def _cell(place: Place) -> str:
    """Return the text of the number at row i and column j."""
    return f"m{place.memory}[{_sum(place.offset, *zip('ij', place.strides, strict=False))}]"
