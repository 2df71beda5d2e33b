"""Groups of operations as CUDA C kernels.

A kernel runs over rows and columns. Without sums, each thread has one number. Otherwise a team of
threads has a row, a column, or all, and runs over it once for each sum that another one needs.
"""

import math
import re
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from minigd.execution.targets.groups import Group, Store, Value
from minigd.execution.targets.lowering import Int
from minigd.execution.targets.source import filled
from minigd.execution.targets.words import C, times, type_name
from minigd.types import Array

TEAMS = {"each": 256, "rows": 4, "columns": 8, "whole": 1}
THREADS = {"each": 256, "rows": 128, "columns": 1024, "whole": 1024}
"""Teams and threads of a block. Neighboring columns are adjacent, and so are their threads."""

HEAD = """typedef float f4;
typedef double f8;
typedef int i4;
typedef long long i8;
typedef unsigned int u4;
typedef unsigned long long u8;
typedef bool b1;
"""
# A block of one thread, as on a CPU, is one team.
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
"""The unit of a team, what it runs over, the team and member number of a thread, and the place of a
team's partial results."""


class Kernel(NamedTuple):
    """A kernel, its text, and its arguments.

    Attributes
    ----------
    mode, axes
        Those of its `Group`.
    memory : list of int
        The memory whose addresses it takes, or whose numbers if they are passed `by_value`.
    numbers : list of str
        The names of its number arguments. The last argument is the flag `finite` if it may clear
        it.
    """

    name: str
    text: str
    mode: str
    axes: tuple[Int, ...]
    memory: list[int]
    numbers: list[str]
    flags: bool

    def grid(self, known: Callable[[Any], int] = int) -> tuple[int, int]:
        """Return the number of blocks, and threads per block. `known` are numbers by name."""
        axes = [known(n) for n in self.axes]
        units = {"rows": axes[:1], "columns": axes[-1:], "each": axes}.get(self.mode, [])
        return -(-math.prod(units) // TEAMS[self.mode]), THREADS[self.mode]


def kernel_of(
    group: Group, memory: list[Array], kept: set[int], checked: set[int], by_value: set[int]
) -> Kernel | Group | None:
    """Return a group as a kernel, or None if its results are not read. A product is unchanged."""
    if group.mode == "product":
        return group
    lines = _lines(group, kept, checked)
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


def _lines(group: Group, kept: set[int], checked: set[int]) -> list[str]:
    """Return the lines in which teams of threads process their numbers and store results.

    `kept` is the memory that is read afterwards. Numbers for memory in `checked` clear the flag
    `finite` if they are not finite.
    """
    stores = group.stores(kept)
    alone, each = (_stored(stores, checked, which) for which in (True, False))
    own, walked, team, slot, part = WALKS[group.mode]
    total = times(group.axes)
    ends: dict[str, tuple[Int, ...]] = {
        "rows": group.axes[::-1],
        "columns": group.axes,
        "each": (0, total),
    }
    length, units = ends.get(group.mode, (total, 1))
    head = [f"for (i8 {walked} = slot; {walked} < {length}; {walked} += slots) {{"]
    head += [f"  {line}" for line in _place(group)] if group.mode == "whole" else []
    body: list[str] = []
    for walk in group.walks([store.value for store in stores]):
        body += [_defined(v) for v in walk.alone]
        inner, joins = [_defined(v) for v in walk.inner], []
        for v in walk.sums:
            start, step = C.reductions[str(v.reduction)]
            kind = type_name(v.dtype)
            start = C.spell(f"{kind}({start})")
            body.append(f"{kind} {v.name} = {start};")
            inner.append(f"{v.name} = {step.format(v.name, v.text)};")
            words: dict[str, Any] = {"KIND": kind, "SUM": v.name, "START": start, "PART": part}
            joins += _filled(JOIN, words | {"STEP": step.format(v.name, "other")}, {})
        if each and not walk.sums:
            inner += ["if (!idle) {", *_indented(each), "}"]
        body += [*head, *_indented(inner), "}", *joins] if inner else []
    body += ["if (slot == 0 && !idle) {", *_indented(alone), "}"] if alone else []
    words = {"UNITS": units, "OWN": own, "TEAMS": TEAMS[group.mode], "MEMBER": team, "SLOT": slot}
    place = _place(group) if group.mode == "each" else []
    return _filled(BY_TEAM, words, {"PLACE": place, "BODY": body}) if stores else []


def _place(group: Group) -> list[str]:
    """Return the line that finds row and column of a number."""
    if len(group.axes) == 2:
        return [f"const i8 i = u / {group.axes[1]}, j = u % {group.axes[1]};"]
    return ["const i8 i = u;"]


def _defined(value: Value) -> str:
    return f"const {type_name(value.dtype)} {value.name} = {value.text};"


def _stored(stores: list[Store], checked: set[int], alone: bool) -> list[str]:
    """Return the lines that store numbers, either one or many per team."""
    lines = []
    for root, cell, value, which in stores:
        if which == alone:
            lines.append(f"{cell} = {value.name};")
            if root in checked:
                lines.append(f"if ({value.name} - {value.name} != 0) finite[0] = false;")
    return lines


def _filled(template: str, words: Mapping[str, Any], lines: dict[str, list[str]]) -> list[str]:
    """Return the lines of a template, with placeholders replaced by lines."""
    for word, text in words.items():
        template = re.sub(rf"\b{word}\b", str(text), template)
    return list(filled(template.strip("\n"), lines))


def _indented(lines: Iterable[str]) -> list[str]:
    return [f"  {line}" for line in lines]
