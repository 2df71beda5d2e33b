"""Groups of operations that run over the same rows and columns, for every language.

`loops.py` writes a group as loops of Python, and `kernels.py` as a kernel of CUDA C. Values that
only the operations of a group use are never written to memory.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from minigd.execution.targets.lowering import Constant, Form, Int, Place, Step
from minigd.execution.targets.words import Language, cast, index, literal, times, type_name
from minigd.execution.tracer import NotTraceable

RUNNING = {"add": (0, np.add), "maximum": (-np.inf, np.maximum)}
"""The start value of a reduction, and the operation that adds one more number."""


class Use(NamedTuple):
    """A place as a group runs over it: one stride for each axis of the group."""

    memory: int
    dtype: Any
    offset: Int
    strides: tuple[Int, ...]
    axes: tuple[Int, ...]

    def span(self) -> tuple[int, int] | None:
        """Return the position of its first number and the one after its last, if known."""
        first: Int = self.offset
        last = first
        for n, stride in zip(self.axes, self.strides, strict=True):
            if stride == 0:
                continue
            if isinstance(last, str) or isinstance(n, str) or isinstance(stride, str):
                return None
            assert isinstance(first, int)
            first += min(0, (n - 1) * stride)
            last += max(0, (n - 1) * stride)
        return None if isinstance(first, str) or isinstance(last, str) else (first, last + 1)


@dataclass(eq=False)
class Value:
    """A number of a group, and its computation.

    `level` is the number of passes of the group before it. `alone` means that it is one number for
    the whole pass.
    """

    name: str
    dtype: Any
    text: str
    operands: tuple["Value", ...]
    level: int
    alone: bool
    reduction: str | None = None


class Store(NamedTuple):
    """A number that a group stores, its place, and whether it is `alone`, as for a `Value`."""

    root: int
    cell: str
    value: Value
    alone: bool


class Walk(NamedTuple):
    """One pass of a group over its numbers.

    Attributes
    ----------
    alone : list of Value
        The values computed before.
    sums : list of Value
        The sums. The last pass has no sums, and stores the rest.
    inner : list of Value
        The values computed for each number.
    """

    alone: list[Value]
    sums: list[Value]
    inner: list[Value]


class Group:
    """Operations that share a pass over rows and columns, or a matrix product.

    Attributes
    ----------
    mode : {"each", "rows", "columns", "whole", "product"}
        The unit that is summed: a number, a row, a column, or all.
    axes : tuple of int or str
        The lengths of its axes.
    """

    def __init__(self, step: Step, roots: list[int], language: Language) -> None:
        self._roots, self._language = roots, language
        self.steps, self.mode = [step], _kind(step)
        self.axes = () if step.name == "dot" else _axes(step)
        self._uses = self._uses_of(step)

    @property
    def matrices(self) -> list[Place]:
        """The factors of a product, and its result."""
        return [*self.steps[0].inputs, self.steps[0].out]

    @property
    def memory(self) -> list[int]:
        """The memory of these."""
        return [place.memory for place in self.matrices]

    @property
    def divisor(self) -> Constant | None:
        """The divisor of a product, which BLAS applies."""
        divided = self.mode == "product" and len(self.steps) > 1
        return self.steps[1].inputs[1] if divided else None

    def divides(self, step: Step) -> bool:
        """Add an operation that divides this product by a number, and return whether it was one."""
        if (self.mode, step.name, self.divisor) != ("product", "divide", None):
            return False
        fits = step.inputs[0] == step.out == self.steps[0].out
        fits = fits and isinstance(step.inputs[1], Constant)
        self.steps += [step] * fits
        return fits

    def takes(self, step: Step) -> bool:
        """Add an operation if it can be part of this group, and return whether it was added."""
        mode = None if self.mode == "product" else self._mode_with(step)
        if mode is None:
            return False
        before, self.mode = self.mode, mode
        uses = self._uses_of(step)
        if any(self._clash(one, other) for one in self._uses for other in uses):
            self.mode = before
            return False
        self.steps.append(step)
        self._uses += uses
        return True

    def meets(self, step: Step) -> bool:
        """Return whether an operation must come after this group."""
        own = Group(step, self._roots, self._language)._uses
        return any(self._clash(one, other, same=True) for one in self._uses for other in own)

    def _mode_with(self, step: Step) -> str | None:
        kind, mode = _kind(step), self.mode
        if kind == "product":
            return None
        axes = _axes(step)
        if kind != "each":
            fits = axes == self.axes and (mode == kind or (mode == "each" and kind != "whole"))
            return kind if fits else None
        own = {
            "rows": (self.axes, self.axes[:1]),
            "columns": (self.axes, self.axes[1:]),
            "whole": ((),),
            "each": (self.axes,),
        }
        return mode if axes in own[mode] else None

    # What it uses --------------------------------------------------------------------------

    def _uses_of(self, step: Step) -> list[tuple[Use, bool]]:
        """Return what a step uses, as this group runs over it, and whether it stores there."""
        if self.mode == "product":
            whole = [Use(p.memory, p.dtype, p.offset, p.strides, p.shape) for p in self.matrices]
            uses = [(use, k == 2) for k, use in enumerate(whole)]
        else:
            uses = [(self._use(p, step), False) for p in step.inputs if isinstance(p, Place)]
            uses.append((self._use(step.out, step, out=True), True))
        return [(use._replace(memory=self._roots[use.memory]), stored) for use, stored in uses]

    def _use(self, place: Place, step: Step, out: bool = False) -> Use:
        """Return a place with a stride for each axis of the group."""
        kind, axes = _kind(step), _axes(step)
        if out and kind != "each":
            own = tuple([s for n, s in zip(place.shape, place.strides, strict=True) if n != 1])
            axes = {"rows": axes[:1], "columns": axes[1:], "whole": ()}[kind]
        else:
            own = _strides(place, step)
        if axes != self.axes:
            own = {"rows": (*own, 0), "columns": (0, *own)}.get(self.mode, (0,) * len(self.axes))
        return Use(place.memory, place.dtype, place.offset, own, self.axes)

    def _clash(self, one: tuple[Use, bool], other: tuple[Use, bool], same: bool = False) -> bool:
        """Return whether one of two uses stores what the other needs; `same` numbers may clash too.

        A sum of columns over the rows is not known before the last row.
        """
        (a, stored), (b, also) = one, other
        if a.memory != b.memory or not (stored or also):
            return False
        running = self.mode != "columns" and a.strides[:1] == (0,) and any(a.strides)
        return (same or running or a != b) and not _apart(a, b)

    # Its numbers ---------------------------------------------------------------------------

    def compute(self, prefix: str) -> set[int]:
        """Determine the numbers of the group, and name them. Return the memory that it reads."""
        if self.mode == "product":
            return set(self.memory[:-1])
        self._prefix = prefix
        self._values: dict[str, Value] = {}
        self._known: dict[Use, Value] = {}
        self._stored: dict[Use, Value] = {}
        read: set[int] = set()
        for step in self.steps:
            parts: list[Any] = []
            for part in step.inputs:
                if isinstance(part, Place):
                    use = self._use(part, step)
                    if use not in self._known:
                        read.add(part.memory)
                    parts.append(self._known.get(use) or self._loaded(use))
                else:
                    parts.append(part)
            out = self._use(step.out, step, out=True)
            self._known[out] = self._stored[out] = self._result(step, parts)
        return read

    def stores(self, kept: set[int]) -> list[Store]:
        """Return what is stored for others, which read what is `kept`."""
        return [
            Store(self._roots[use.memory], _cell(use), value, self._is_alone(use))
            for use, value in self._stored.items()
            if self._roots[use.memory] in kept
        ]

    def walks(self, stored: list[Value]) -> Iterator[Walk]:
        """Yield each pass of the group that is needed to compute what is stored."""
        needed = _needed(stored)
        for level in range(max([v.level for v in needed], default=-1) + 1):
            alone = [v for v in needed if v.alone and not v.reduction and v.level == level]
            sums = [v for v in needed if v.reduction and v.level == level + 1]
            ends = [v.operands[0] for v in sums] or [v for v in stored if not v.alone]
            yield Walk(alone, sums, _needed(ends, alone=False))

    def _is_alone(self, use: Use) -> bool:
        """Return whether a place is one number for a whole pass."""
        across = {"rows": use.strides[1:], "columns": use.strides[:1], "whole": use.strides}
        each = use.strides[-1:] if self._language.in_order else ()
        return not any(across.get(self.mode, each))

    def _loaded(self, use: Use) -> Value:
        text = self._language.read(_cell(use), use.dtype)
        self._known[use] = self._value(text, use.dtype, (), self._is_alone(use))
        return self._known[use]

    def _value(
        self,
        text: str,
        dtype: Any,
        operands: tuple[Value, ...],
        alone: bool,
        how: str | None = None,
    ) -> Value:
        """Return a number of the group, the same one for the same text."""
        text = self._language.spell(text)
        key = f"{how} {type_name(dtype)} {text}"
        if key not in self._values:
            level = max([v.level for v in operands], default=0) + (how is not None)
            name = f"{self._prefix}{len(self._values)}"
            self._values[key] = Value(name, dtype, text, operands, level, alone, how)
        return self._values[key]

    def _result(self, step: Step, parts: list[Any]) -> Value:
        """Return what a step computes from numbers and constants."""
        operands = tuple([part for part in parts if isinstance(part, Value)])
        dtype, language = step.out.dtype, self._language
        words = [part.name if isinstance(part, Value) else part for part in parts]
        if step.name.endswith(".reduce"):
            return self._sum(step.name.removesuffix(".reduce"), words, operands, dtype)
        text, kind = language.expression(step, words)
        alone = all(v.alone for v in operands)
        return self._value(cast(text, kind, dtype), dtype, operands, alone)

    def _sum(self, name: str, words: list[str], operands: tuple[Value, ...], dtype: Any) -> Value:
        """Return a sum or another reduction."""
        if name not in self._language.reductions:
            raise NotTraceable(f"{name}.reduce")
        if name == "pick":
            nan = literal(Constant(dtype, np.nan), dtype)
            text = self._language.operations[name].format(*words, nan)
            operands = (self._value(text, dtype, operands, False),)
        wide = self._language.sum_type(name, dtype)
        text = cast(operands[0].name, operands[0].dtype, wide)
        total = self._value(text, wide, operands, True, name)
        return (
            total
            if wide == dtype
            else self._value(cast(total.name, wide, dtype), dtype, (total,), True)
        )


def grouped(
    sections: list[list[Step]], form: Form, language: Language
) -> tuple[list[list[Group]], set[int]]:
    """Return the operations of each section in groups, in an order to run, and what they read.

    A group is as early as its inputs allow. What is read is memory, by its root.
    """
    found = [_grouped(section, form, language) for section in sections]
    groups = [group for section in found for group in section]
    read = {form.roots[m] for k, group in enumerate(groups) for m in group.compute(f"t{k}_")}
    return found, read


def _grouped(steps: list[Step], form: Form, language: Language) -> list[Group]:
    groups: list[Group] = []
    for given in steps:
        if groups and groups[-1].divides(given):
            continue
        for step in _prepared(given, form, language):
            for group in reversed(groups):
                if group.takes(step):
                    break
                if group.meets(step):
                    groups.append(Group(step, form.roots, language))
                    break
            else:
                groups.append(Group(step, form.roots, language))
    return groups


def _prepared(step: Step, form: Form, language: Language) -> list[Step]:
    """Return a step as groups take it."""
    if step.name == "dot":
        _check_product(step)
    if step.name == "pick":
        step = _picked(step, form)
    elif step.name.endswith(".reduce"):
        source, axis = step.inputs[0], step.axis
        if axis is not None and source.shape[axis] == 1:
            out = step.out._replace(shape=source.shape, strides=_over(step.out, source, axis))
            step = Step("copyto", None, (source,), out)
        elif language.in_order and _kind(step) == "columns":
            return _row_by_row(step)
    return [_flat(step) if language.in_order else step]


def _check_product(step: Step) -> None:
    a, b, out = (*step.inputs, step.out)
    if not (isinstance(a, Place) and isinstance(b, Place) and len(a.shape) == len(b.shape) == 2):
        raise NotTraceable("a product that is not of two matrices")
    if not (a.dtype == b.dtype == out.dtype and out.dtype.kind == "f"):
        raise NotTraceable("a product of numbers of two types")


def _picked(step: Step, form: Form) -> Step:
    """Return out[i] = source[i, columns[i]] as a reduction of a row, or NaN if out of range.

    Labels may have changed since the check. NaN leaves the batch to the plain step.
    """
    source, rows, columns = step.inputs
    known = form.memory[rows.memory]
    in_order = (rows.offset, rows.strides) == (0, (1,))
    in_order = in_order and np.array_equal(known, range(len(known)))
    if source.dtype.kind != "f" or source.shape[1] == 1 or not in_order:
        raise NotTraceable("rows that are picked")
    columns = columns._replace(shape=(columns.shape[0], 1), strides=(columns.strides[0], 0))
    return Step("pick.reduce", None, (source, columns), step.out, 1)


def _row_by_row(step: Step) -> list[Step]:
    """Return a sum of each column as its start value and an operation that adds a row."""
    name, source, out = step.name.removesuffix(".reduce"), step.inputs[0], step.out
    if name not in RUNNING:
        raise NotTraceable(step.name)
    start, ufunc = RUNNING[name]
    total = out._replace(shape=source.shape, strides=(0, out.strides[-1]))
    begun = Step("copyto", None, (Constant(out.dtype, start),), out)
    return [begun, Step(name, ufunc, (total, source), total)]


def _flat(step: Step) -> Step:
    """Return an operation with one axis instead of two, if they can be merged."""
    axes, kind = _axes(step), _kind(step)
    if len(axes) != 2 or kind not in ("each", "whole"):
        return step
    walked = [*step.inputs, step.out] if kind == "each" else step.inputs
    strides = {p: _strides(p, step) for p in walked if isinstance(p, Place)}
    if any(own not in ((axes[1], 1), (0, 0)) for own in strides.values()):
        return step
    flat = {
        p: p._replace(shape=(times(axes),) * any(own), strides=(1,) * any(own))
        for p, own in strides.items()
    }
    *inputs, out = [flat.get(p, p) for p in (*step.inputs, step.out)]
    return step._replace(inputs=tuple(inputs), out=out)


def _kind(step: Step) -> str:
    """Return which mode an operation needs."""
    if step.name == "dot":
        return "product"
    if not step.name.endswith(".reduce"):
        return "each"
    if step.axis is None or len(_axes(step)) < 2:
        return "whole"
    return ("columns", "rows")[step.axis]


def _shape(step: Step) -> tuple[Int, ...]:
    """Return the shape over which an operation runs."""
    shape: tuple[Int, ...] = (step.inputs[0] if step.name.endswith(".reduce") else step.out).shape
    return shape


def _axes(step: Step) -> tuple[Int, ...]:
    return tuple([n for n in _shape(step) if n != 1])


def _strides(place: Place, step: Step) -> tuple[Int, ...]:
    """Return the strides of a place along the axes of an operation."""
    shape, strides = _shape(step), []
    lead = len(shape) - len(place.shape)
    for k, n in enumerate(shape):
        if n != 1:
            own = k - lead
            strides.append(0 if own < 0 or place.shape[own] == 1 else place.strides[own])
    return tuple(strides)


def _over(out: Place, source: Place, axis: int) -> tuple[Int, ...]:
    """Return the strides of a sum along an axis of length 1 as if it still had the axis."""
    strides = list(out.strides)
    if len(strides) < len(source.shape):
        strides.insert(axis, 0)
    return tuple(strides)


def _apart(one: Use, other: Use) -> bool:
    """Return whether two places of one memory certainly share no number."""
    first, second = one.span(), other.span()
    if first is None or second is None or one.dtype != other.dtype:
        return False
    return first[1] <= second[0] or second[1] <= first[0]


def _cell(use: Use) -> str:
    return f"m{use.memory}[{index(use.offset, use.strides)}]"


def _needed(wanted: Iterable[Value], alone: bool = True) -> list[Value]:
    """Return numbers and all their inputs, in order, with or without those that are alone."""
    found: dict[str, Value] = {}

    def need(value: Value) -> None:
        if value.name not in found and (alone or not value.alone):
            for operand in value.operands:
                need(operand)
            found[value.name] = value

    for value in wanted:
        need(value)
    return list(found.values())
