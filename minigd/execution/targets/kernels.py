"""A program's operations as kernels of CUDA C: which of them share one, and its text.

A kernel walks over rows and columns. Where it takes no sums, each thread has one number; else a
team of threads has a row, a column, or all, and goes through it once for each sum that another
needs. What the operations of a kernel hand to each other never sees memory.
"""

import math
import re
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from minigd.execution.targets.loops import Use, apart, by_number, expression, over, use_of
from minigd.execution.targets.lowering import Form, Int, Place, Step
from minigd.execution.targets.source import filled
from minigd.execution.targets.words import EXPRESSIONS, REDUCTIONS, cast, index, times, type_name
from minigd.execution.tracer import NotTraceable
from minigd.types import Array

# A comparison with a NaN is false, and NumPy lets a NaN through.
EXPRESSIONS_OF_C = EXPRESSIONS | {
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
    "pick": "(j == {1} ? {0} : np.nan)",
}
# What a reduction begins with, and how it goes on; of what was picked one number is none.
REDUCTIONS_OF_C = {
    "add": REDUCTIONS["add"],
    "maximum": (REDUCTIONS["maximum"][0], EXPRESSIONS_OF_C["maximum"]),
    "pick": ("np.nan", "({0} == {0} ? {0} : {1})"),
}
SPELLED = {"np.inf": "(1.0 / 0.0)", "np.nan": "(0.0 / 0.0)", "True": "true", "False": "false"}

TEAMS = {"each": 256, "rows": 4, "columns": 8, "whole": 1}
THREADS = {"each": 256, "rows": 128, "columns": 1024, "whole": 1024}
"""Teams and threads of a block. Neighboring columns lie together, and so do threads for them."""

HEAD = """typedef float f4;
typedef double f8;
typedef int i4;
typedef long long i8;
typedef unsigned int u4;
typedef unsigned long long u8;
typedef bool b1;
"""
# A block of one thread, as a processor runs it, is one team.
BY_TEAM = """
__shared__ f8 shared[1024];
const int teams = blockDim.x < TEAMS ? 1 : TEAMS, slots = blockDim.x / teams;
const int team = MEMBER, slot = SLOT;
for (i8 first = blockIdx.x * (i8)teams; first < UNITS; first += gridDim.x * (i8)teams) {
  const bool idle = first + team >= UNITS;
  const i8 OWN = idle ? UNITS - 1 : first + team;
  PLACE
  BODY
}
"""
JOIN = """
{
  KIND* all = (KIND*)shared;
  all[threadIdx.x] = SUM;
  __syncthreads();
  SUM = START;
  for (int k = 0; k < slots; k++) { const KIND other = all[PART]; SUM = STEP; }
  __syncthreads();
}
"""
WALKS = {
    "each": ("u", "", "threadIdx.x", "0", ""),
    "rows": ("i", "j", "threadIdx.x / slots", "threadIdx.x % slots", "team * slots + k"),
    "columns": ("j", "i", "threadIdx.x % teams", "threadIdx.x / teams", "k * teams + team"),
    "whole": ("one", "u", "0", "threadIdx.x", "k"),
}
"""What a team has, what it walks over, which team and which member of it a thread is, and where the
parts of a team lie."""


@dataclass(eq=False)
class Value:
    """A number of a kernel, and what computes it.

    `level` is how often the team has to have gone through its numbers before; `alone` says that it
    is one for all that the team has.
    """

    name: str
    dtype: Any
    text: str
    operands: tuple["Value", ...]
    level: int
    alone: bool
    reduction: str | None = None

    @property
    def line(self) -> str:
        """The line that computes it."""
        return f"const {type_name(self.dtype)} {self.name} = {self.text};"


class Group:
    """Operations that are one kernel, or a product of matrices.

    Attributes
    ----------
    mode : {"each", "rows", "columns", "whole", "product"}
        What a thread or a team of threads has.
    axes : tuple of int or str
        What it walks over.
    """

    def __init__(self, step: Step, roots: list[int]) -> None:
        self._roots, self.steps, self.mode = roots, [step], _kind(step)
        self.axes = () if step.name == "dot" else _axes(step)
        self.uses = self._uses_of(step)
        self.values: dict[str, Value] = {}
        self.known: dict[Use, Value] = {}
        self.stored: dict[Use, int] = {}

    @property
    def matrices(self) -> list[Place]:
        """The factors of a product, and its result."""
        return [*self.steps[0].inputs, self.steps[0].out]

    @property
    def memory(self) -> list[int]:
        """The memory of those."""
        return [place.memory for place in self.matrices]

    def takes(self, step: Step) -> bool:
        """Take an operation if it can be part of this kernel; tell whether it is."""
        if self.mode == "product":
            # cuBLAS divides on the way.
            fits = step.name == "divide" and by_number(step, self.steps[0].out)
            fits = fits and len(self.steps) == 1
            self.steps += [step] * fits
            return fits
        mode = self._mode_with(step)
        if mode is None:
            return False
        before, self.mode = self.mode, mode
        uses = self._uses_of(step)
        if any(_clash(one, other) for one in self.uses for other in uses):
            self.mode = before
            return False
        self.steps.append(step)
        self.uses += uses
        return True

    def meets(self, step: Step) -> bool:
        """Tell whether an operation has to come after this group."""
        own = Group(step, self._roots).uses
        return any(_clash(one, other, same=True) for one in self.uses for other in own)

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
        """Return what a step uses, as this group walks over it, and whether it stores there."""
        if self.mode == "product":
            whole = [
                Use(p.memory, p.dtype, p.offset, p.strides, None, p.shape) for p in self.matrices
            ]
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
            own = use_of(place, _shape(step), axes).strides
        if axes != self.axes:
            own = {"rows": (*own, 0), "columns": (0, *own)}.get(self.mode, (0,) * len(self.axes))
        return Use(place.memory, place.dtype, place.offset, own, self.axes)

    # Its numbers ---------------------------------------------------------------------------

    def compute(self) -> set[int]:
        """Work out the numbers of the kernel; return the memory that it reads."""
        if self.mode == "product":
            return set(self.memory[:-1])
        read: set[int] = set()
        for step in self.steps:
            parts: list[Any] = []
            for part in step.inputs:
                if isinstance(part, Place):
                    use = self._use(part, step)
                    if use not in self.known:
                        read.add(part.memory)
                    parts.append(self.known.get(use) or self._loaded(use))
                else:
                    parts.append(part)
            out = self._use(step.out, step, out=True)
            self.known[out] = self._result(step, parts)
            self.stored[out] = step.out.memory
        return read

    def _loaded(self, use: Use) -> Value:
        text = f"m{use.memory}[{index(use.offset, use.strides)}]"
        self.known[use] = self._value(text, use.dtype, (), self._is_alone(use))
        return self.known[use]

    def _is_alone(self, use: Use) -> bool:
        """Tell whether a place is one number for all that a team has."""
        across = {"each": (), "rows": use.strides[1:], "columns": use.strides[:1]}
        return not any(across.get(self.mode, use.strides))

    def _value(
        self,
        text: str,
        dtype: Any,
        operands: tuple[Value, ...],
        alone: bool,
        how: str | None = None,
    ) -> Value:
        """Return a number of the kernel; the same one for the same text."""
        text = _spelled(text)
        key = f"{how} {type_name(dtype)} {text}"
        if key not in self.values:
            level = max([v.level for v in operands], default=0) + (how is not None)
            name = f"t{len(self.values)}"
            self.values[key] = Value(name, dtype, text, operands, level, alone, how)
        return self.values[key]

    def _result(self, step: Step, parts: list[Any]) -> Value:
        """Return what a step computes of numbers and constants."""
        operands = tuple([part for part in parts if isinstance(part, Value)])
        name, dtype = step.name.removesuffix(".reduce"), step.out.dtype
        alone = all(v.alone for v in operands)
        if name == "pick":
            text = EXPRESSIONS_OF_C[name].format(*[v.name for v in operands])
            operands = (self._value(text, dtype, operands, False),)
        if step.name.endswith(".reduce"):
            if name not in REDUCTIONS_OF_C:
                raise NotTraceable(step.name)
            text = cast(operands[0].name, operands[0].dtype, dtype)
            return self._value(text, dtype, operands, True, name)
        words = [part.name if isinstance(part, Value) else part for part in parts]
        text, kind = expression(step, words, EXPRESSIONS_OF_C)
        return self._value(cast(text, kind, dtype), dtype, operands, alone)

    # Its text ------------------------------------------------------------------------------

    def print(self, kept: set[int], checked: set[int]) -> list[str]:
        """Return the lines of the kernel, without what nobody would read.

        `kept` is the memory that is read when it is done. Numbers for memory that is `checked`
        clear the flag `finite` if they are not finite.
        """
        alone: list[str] = []
        each: list[str] = []
        wanted: list[Value] = []
        for use, memory in self.stored.items():
            value = self.known[use]
            if self._roots[memory] in kept:
                wanted.append(value)
                then = alone if self._is_alone(use) else each
                then.append(f"m{memory}[{index(use.offset, use.strides)}] = {value.name};")
                if self._roots[memory] in checked:
                    then.append(f"if ({value.name} - {value.name} != 0) finite[0] = false;")
        return self._lines(wanted, alone, each) if wanted else []

    def _place(self) -> list[str]:
        """Return the line that finds row and column of a number."""
        if len(self.axes) == 2:
            return [f"const i8 i = u / {self.axes[1]}, j = u % {self.axes[1]};"]
        return ["const i8 i = u;"]

    def _lines(self, wanted: list[Value], alone: list[str], each: list[str]) -> list[str]:
        """Return the lines in which teams of threads go through what they have, and store it."""
        needed = _needed(wanted)
        own, walked, team, slot, part = WALKS[self.mode]
        total = times(self.axes)
        ends: dict[str, tuple[Int, ...]] = {
            "rows": self.axes[::-1],
            "columns": self.axes,
            "each": (0, total),
        }
        length, units = ends.get(self.mode, (total, 1))
        head = [f"for (i8 {walked} = slot; {walked} < {length}; {walked} += slots) {{"]
        head += [f"  {line}" for line in self._place()] if self.mode == "whole" else []
        body: list[str] = []
        for level in range(max(v.level for v in needed) + 1):
            body += [v.line for v in needed if v.alone and not v.reduction and v.level == level]
            sums = [v for v in needed if v.reduction and v.level == level + 1]
            steps, joins = [], []
            for v in sums:
                start, step = REDUCTIONS_OF_C[str(v.reduction)]
                kind = type_name(v.dtype)
                start = _spelled(f"{kind}({start})")
                body.append(f"{kind} {v.name} = {start};")
                steps.append(f"{v.name} = {step.format(v.name, v.text)};")
                words: dict[str, Any] = {"KIND": kind, "SUM": v.name, "START": start, "PART": part}
                joins += _filled(JOIN, words | {"STEP": step.format(v.name, "other")}, {})
            if sums:
                inner = [v.line for v in _needed([v.operands[0] for v in sums], alone=False)]
                body += [*head, *_indented([*inner, *steps]), "}", *joins]
        if each:
            inner = [v.line for v in _needed([v for v in wanted if not v.alone], alone=False)]
            body += [*head, *_indented([*inner, "if (!idle) {", *_indented(each), "}"]), "}"]
        if alone:
            body += ["if (slot == 0 && !idle) {", *_indented(alone), "}"]
        words = {
            "UNITS": units,
            "OWN": own,
            "TEAMS": TEAMS[self.mode],
            "MEMBER": team,
            "SLOT": slot,
        }
        place = self._place() if self.mode == "each" else []
        return _filled(BY_TEAM, words, {"PLACE": place, "BODY": body})


class Kernel(NamedTuple):
    """A kernel, its text, and what it is called with.

    Attributes
    ----------
    mode, axes
        Those of its `Group`.
    memory : list of int
        Whose addresses it takes, or the numbers in them where they are given `by_value`.
    numbers : list of str
        The names of numbers, which it takes then; and at last the flag `finite` if it may clear it.
    """

    name: str
    text: str
    mode: str
    axes: tuple[Int, ...]
    memory: list[int]
    numbers: list[str]
    flags: bool

    def grid(self, known: Callable[[Any], int] = int) -> tuple[int, int]:
        """Return how many blocks there are, and threads in each; `known` are numbers by name."""
        axes = [known(n) for n in self.axes]
        units = {"rows": axes[:1], "columns": axes[-1:], "each": axes}.get(self.mode, [])
        return -(-math.prod(units) // TEAMS[self.mode]), THREADS[self.mode]


def kernel_of(
    group: Group, memory: list[Array], kept: set[int], checked: set[int], by_value: set[int]
) -> Kernel | Group | None:
    """Return a group as a kernel, None if nobody would read what it stores; a product as it is."""
    if group.mode == "product":
        return group
    lines = group.print(kept, checked)
    if not lines:
        return None
    body = "\n".join(_indented(lines))
    for number in by_value:
        body = body.replace(f"m{number}[0]", f"m{number}")
    used = sorted({int(m) for m in re.findall(r"\bm(\d+)\b", body)})
    numbers = sorted(set(re.findall(r"\b[cds]\d+\b", body)))
    parameters = []
    for m in used:
        stored = re.search(rf"\bm{m}\[[^\]]*\] = ", body)
        star = "" if m in by_value else "*"
        parameters.append(f"{'' if stored else 'const '}{type_name(memory[m].dtype)}{star} m{m}")
    parameters += [f"const {'i8' if n[0] == 'd' else 'f8'} {n}" for n in numbers]
    flags = "finite[0]" in body
    parameters += ["b1* finite"] * flags
    first, last = (group.steps[k].name.partition(".")[0] for k in (0, -1))
    name = f"minigd_{group.mode}_{first}_{last}_{zlib.crc32(body.encode()):08x}"
    bounds = f"__launch_bounds__({THREADS[group.mode]})"
    head = f'extern "C" __global__ void {bounds} {name}({", ".join(parameters)}) {{'
    text = "\n".join([head, body, "}", ""])
    return Kernel(name, text, group.mode, group.axes, used, numbers, flags)


def grouped(steps: Iterable[Step], form: Form) -> list[Group]:
    """Return operations in groups, each as early as what it needs allows, in an order to run."""
    groups: list[Group] = []
    for given in steps:
        step = _prepared(given, form)
        for group in reversed(groups):
            if group.takes(step):
                break
            if group.meets(step):
                groups.append(Group(step, form.roots))
                break
        else:
            groups.append(Group(step, form.roots))
    return groups


def _prepared(step: Step, form: Form) -> Step:
    """Return a step as a kernel takes it."""
    if step.name == "pick":
        source, rows, columns = step.inputs
        known = form.memory[rows.memory]
        in_order = (rows.offset, rows.strides) == (0, (1,))
        if source.dtype.kind != "f" or not (in_order and np.array_equal(known, range(len(known)))):
            raise NotTraceable("rows that are picked")
        columns = columns._replace(shape=(columns.shape[0], 1), strides=(columns.strides[0], 0))
        return Step("pick.reduce", None, (source, columns), step.out, 1)
    if step.name.endswith(".reduce"):
        source, axis = step.inputs[0], step.axis
        if axis is not None and source.shape[axis] == 1:
            out = step.out._replace(shape=source.shape, strides=over(step.out, source, axis))
            return Step("copyto", None, (source,), out)
    return step


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
    """Return the shape of what an operation goes through."""
    shape: tuple[Int, ...] = (step.inputs[0] if step.name.endswith(".reduce") else step.out).shape
    return shape


def _axes(step: Step) -> tuple[Int, ...]:
    return tuple([n for n in _shape(step) if n != 1])


def _clash(one: tuple[Use, bool], other: tuple[Use, bool], same: bool = False) -> bool:
    """Tell whether one of two uses stores what the other needs; `same` numbers may clash too."""
    (a, stored), (b, also) = one, other
    if a.memory != b.memory or not (stored or also):
        return False
    return (same or a != b) and not apart(a, b)


def _needed(wanted: Iterable[Value], alone: bool = True) -> list[Value]:
    """Return numbers and all that they are computed from, in order, with or without those alone."""
    found: dict[str, Value] = {}

    def need(value: Value) -> None:
        if value.name not in found and (alone or not value.alone):
            for operand in value.operands:
                need(operand)
            found[value.name] = value

    for value in wanted:
        need(value)
    return list(found.values())


def _spelled(text: str) -> str:
    """Return an expression with its constants as C has them."""
    for word, spelled in SPELLED.items():
        text = text.replace(word, spelled)
    return re.sub(r"\bu8\((\d+)\)", r"u8(\1ull)", text)


def _filled(template: str, words: Mapping[str, Any], lines: dict[str, list[str]]) -> list[str]:
    """Return the lines of a template, with others in the place of words that stand for them."""
    for word, text in words.items():
        template = re.sub(rf"\b{word}\b", str(text), template)
    return list(filled(template.strip("\n"), lines))


def _indented(lines: Iterable[str]) -> list[str]:
    return [f"  {line}" for line in lines]
