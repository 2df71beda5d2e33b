"""Operations as loops: those on the same rows and columns share one.

Each loop walks over one axis or two; what it loads and stores are places in flat memory.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from minigd.execution.targets.lowering import Constant, Int, Place, Step
from minigd.execution.targets.words import (
    EXPRESSIONS,
    REDUCTIONS,
    cast,
    index,
    literal,
    matrix,
    times,
    type_name,
)
from minigd.execution.tracer import NotTraceable


class Use(NamedTuple):
    """A place as a loop walks over it: one stride for each of the loop's axes."""

    memory: int
    dtype: Any
    offset: Int
    strides: tuple[Int, ...]
    axes: tuple[Int, ...] | None
    shape: tuple[Int, ...] = ()

    def span(self) -> tuple[int, int] | None:
        """Return its first number, and the one after its last, where they are known."""
        first: Int = self.offset
        last = first
        lengths = self.shape if self.axes is None else self.axes
        for n, stride in zip(lengths, self.strides, strict=True):
            if stride == 0:
                continue
            if isinstance(last, str) or isinstance(n, str) or isinstance(stride, str):
                return None
            assert isinstance(first, int)
            first += min(0, (n - 1) * stride)
            last += max(0, (n - 1) * stride)
        return None if isinstance(first, str) or isinstance(last, str) else (first, last + 1)


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
        self._lines, left = [], list(steps)
        while left:
            step = left.pop(0)
            if step.name == "dot":
                self.close()
                # BLAS divides on the way, which saves a walk over the gradient of the weights.
                divided = left and left[0].name == "divide" and by_number(left[0], step.out)
                self._dot(step, left.pop(0).inputs[1] if divided else None)
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
        """Return the loop that walks over these places: the current one if they allow it.

        Rows and columns are one axis, if `flat`, where nothing depends on which of them it is.
        """
        axes = tuple([n for n in shape if n != 1])
        walked = [(use_of(place, shape, axes), stored) for place, stored in uses]
        if flat and len(axes) == 2 and all(_is_flat(use, axes) for use, _ in walked):
            axes = (times(axes),)
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
        """Print the current loop."""
        loop, self._loop = self._loop, None
        if loop is None:
            return
        lines = loop.body
        for k, n in reversed(list(enumerate(loop.axes))):
            if k == 0 and len(loop.axes) == 2:
                lines = [*_unstored(loop.of_row), *lines, *_unstored(loop.after_row)]
            head = f"for {'ij'[k]} in range({n}):"
            lines = [(head, -1), *[(f"    {line}", memory) for line, memory in lines]]
        self._lines += [*_unstored(loop.before), *lines, *_unstored(loop.after)]

    def _new(self) -> str:
        self._count += 1
        return f"t{self._count}"

    def _load(self, loop: Loop, use: Use) -> str:
        """Return the local variable that holds a number of memory."""
        if use not in loop.locals:
            self._loaded.add(self._roots[use.memory])
            name = loop.locals[use] = self._new()
            line = f"{name} = {_read(use.memory, index(use.offset, use.strides), use.dtype)}"
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
        self._store(loop, out, *expression(step, words, EXPRESSIONS))

    def _store(self, loop: Loop, out: Use, text: str, kind: Any) -> None:
        name = self._new()
        loop.body.append((f"{name} = {cast(text, kind, out.dtype)}", -1))
        loop.locals[out] = name
        loop.body.append((f"m{out.memory}[{index(out.offset, out.strides)}] = {name}", out.memory))

    def _pick(self, step: Step) -> None:
        """Print out[i] = source[rows[i], columns[i]], or NaN where that lies outside of it.

        Labels may have changed since they were checked: NaN leaves the batch to the plain step.
        """
        source, *index = step.inputs
        if source.dtype.kind != "f":
            raise NotTraceable("whole numbers that are picked")
        self.close()
        loop = self._open(step.out.shape, [*[(p, False) for p in index], (step.out, True)])
        *rows, out = self._walked
        names = [self._load(loop, use) for use in rows]
        self._loaded.add(self._roots[source.memory])
        parts = [f"{n} * {s}" for n, s in zip(names, source.strides, strict=False)]
        place = " + ".join([str(source.offset), *parts])
        inside = " and ".join(f"0 <= {n} < {k}" for n, k in zip(names, source.shape, strict=False))
        nan = literal(Constant(source.dtype, np.nan), source.dtype)
        text = f"({_read(source.memory, place, source.dtype)} if {inside} else {nan})"
        self._store(loop, out, text, source.dtype)
        self.close()

    def _reduce(self, step: Step) -> None:
        source, out = step.inputs[0], step.out
        name, axis = step.name.removesuffix(".reduce"), step.axis
        if name not in REDUCTIONS:
            raise NotTraceable(step.name)
        kept = [k for k, n in enumerate(source.shape) if n != 1]
        if axis is not None and axis not in kept:
            same = out._replace(shape=source.shape, strides=over(out, source, axis))
            self._elementwise(Step("copyto", None, (source,), same))
            return
        whole = axis is None or kept == [axis]
        loop = self._open(source.shape, [(source, False)], out, flat=whole)
        value = self._load(loop, self._walked[0])
        kind, (first, more) = type_name(out.dtype), REDUCTIONS[name]
        # Many numbers are summed in double precision, but the rows as NumPy does it.
        wide = "f8" if name == "add" and out.dtype.kind == "f" else kind
        total = self._new()
        start = f"{total} = {wide}({first})"
        step_on = (f"{total} = {more.format(total, cast(value, source.dtype, wide))}", -1)
        if whole:
            loop.before.append(start)
            loop.body.append(step_on)
            loop.after.append(f"m{out.memory}[{out.offset}] = {kind}({total})")
        elif axis == 1:
            loop.of_row.append(start)
            loop.body.append(step_on)
            cell = f"m{out.memory}[{index(out.offset, out.strides[:1])}]"
            loop.after_row.append(f"{cell} = {kind}({total})")
        else:
            cell = f"m{out.memory}[{index(out.offset, out.strides[-1:], ('j',))}]"
            columns = f"for j in range({source.shape[1]}):"
            loop.before += [columns, f"    {cell} = {kind}({first})"]
            loop.body.append((f"{cell} = {more.format(cell, value)}", -1))
        self._loaded.add(self._roots[out.memory])
        loop.uses.append((_whole(out)._replace(memory=self._roots[out.memory]), True))

    def _dot(self, step: Step, divisor: Constant | None) -> None:
        a, b, out = (*step.inputs, step.out)
        if not (
            isinstance(a, Place) and isinstance(b, Place) and len(a.shape) == len(b.shape) == 2
        ):
            raise NotTraceable("a product that is not of two matrices")
        self._loaded.update((self._roots[a.memory], self._roots[b.memory]))
        if not (a.dtype == b.dtype == out.dtype and out.dtype.kind == "f"):
            raise NotTraceable("a product of numbers of two types")
        where, _, turned = matrix(out).rpartition(", ")
        if turned == "True" and 1 not in out.shape:
            raise NotTraceable("a product into a turned matrix")
        sizes = f"{a.shape[0]}, {a.shape[1]}, {b.shape[1]}"
        gemm = f"gemm_{type_name(out.dtype)}"
        one = literal(Constant(out.dtype, 1), out.dtype)
        factor = one if divisor is None else f"{one} / {literal(divisor, out.dtype)}"
        text = f"product({gemm}, {matrix(a)}, {matrix(b)}, {where}, {sizes}, {factor})"
        self._lines.append((text, -1))


def _unstored(lines: list[str]) -> list[tuple[str, int]]:
    """Return statements that store to no memory."""
    return [(line, -1) for line in lines]


def expression(step: Step, words: list[Any], templates: Mapping[str, str]) -> tuple[str, Any]:
    """Return an operation on single numbers, and the dtype of its result."""
    if step.name not in templates:
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
    return templates[step.name].format(*words), gives


def use_of(place: Place, shape: tuple[Int, ...], axes: tuple[Int, ...]) -> Use:
    """Return a place for a loop over the axes of this shape that are longer than 1."""
    lead, strides = len(shape) - len(place.shape), []
    for k, n in enumerate(shape):
        if n != 1:
            own = k - lead
            strides.append(0 if own < 0 or place.shape[own] == 1 else place.strides[own])
    return Use(place.memory, place.dtype, place.offset, tuple(strides), axes)


def by_number(step: Step, place: Place) -> bool:
    """Tell whether a step applies a number to a place, and stores the result there."""
    return step.inputs[0] == step.out == place and isinstance(step.inputs[1], Constant)


def _clash(loop: Loop, use: Use, stored: bool) -> bool:
    """Tell whether a loop can't use a place too: others of its numbers are written, or read."""
    return any(
        other.memory == use.memory
        and (stored or written)
        and (other != use or other.axes is None)
        and not apart(other, use)
        for other, written in loop.uses
    )


def apart(one: Use, other: Use) -> bool:
    """Tell whether two places of one memory surely share no number."""
    first, second = one.span(), other.span()
    if first is None or second is None or one.dtype != other.dtype:
        return False
    return first[1] <= second[0] or second[1] <= first[0]


def over(out: Place, source: Place, axis: int) -> tuple[Int, ...]:
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


def _read(memory: int, place: str, dtype: Any) -> str:
    """Return the text of a number of memory; truth values lie there as bytes."""
    text = f"m{memory}[{place}]"
    return f"({text} != 0)" if dtype == np.bool_ else text
