"""Groups of operations as Python loops, which Numba compiles."""

from collections.abc import Iterable

from minigd.execution.targets.groups import Group
from minigd.execution.targets.lowering import Constant, Int, Place
from minigd.execution.targets.words import PYTHON, literal, type_name
from minigd.execution.tracer import NotTraceable


def lines_of(group: Group, kept: set[int]) -> list[str]:
    """Return the statements of a group, without results that are not read.

    `kept` is the memory that is read afterwards.
    """
    if group.mode == "product":
        return [_product(group)]
    stores = group.stores(kept)
    outer = 0 if group.mode == "whole" else max(len(group.axes) - 1, 0)
    lines: list[str] = []
    for walk in group.walks([store.value for store in stores]):
        lines += [f"{v.name} = {v.text}" for v in walk.alone]
        inner = [f"{v.name} = {v.text}" for v in walk.inner]
        for v in walk.sums:
            start, step = PYTHON.reductions[str(v.reduction)]
            lines.append(f"{v.name} = {type_name(v.dtype)}({start})")
            inner.append(f"{v.name} = {step.format(v.name, v.text)}")
        if not walk.sums:
            inner += [f"{s.cell} = {s.value.name}" for s in stores if not s.alone]
        lines += _loop(group.axes, range(outer, len(group.axes)), inner)
    lines += [f"{s.cell} = {s.value.name}" for s in stores if s.alone]
    return _loop(group.axes, range(outer), lines)


def _loop(axes: tuple[Int, ...], numbers: Iterable[int], lines: list[str]) -> list[str]:
    """Return loops over some of the axes."""
    for k in reversed(list(numbers) if lines else []):
        lines = [f"for {'ij'[k]} in range({axes[k]}):", *[f"    {line}" for line in lines]]
    return lines


def _product(group: Group) -> str:
    """Return the call that multiplies two matrices."""
    a, b, out = group.matrices
    where, _, turned = _matrix(out).rpartition(", ")
    if turned == "True" and 1 not in out.shape:
        raise NotTraceable("a product into a turned matrix")
    one = literal(Constant(out.dtype, 1), out.dtype)
    factor = one if group.divisor is None else f"{one} / {literal(group.divisor, out.dtype)}"
    sizes = f"{a.shape[0]}, {a.shape[1]}, {b.shape[1]}"
    gemm = f"gemm_{type_name(out.dtype)}"
    return f"product({gemm}, {_matrix(a)}, {_matrix(b)}, {where}, {sizes}, {factor})"


def _matrix(place: Place) -> str:
    """Return memory, offset, and a flag for transposed, of a matrix without gaps."""
    (rows, columns), (down, right) = place.shape, place.strides
    if (right == 1 or columns == 1) and (down == columns or rows == 1):
        return f"m{place.memory}, {place.offset}, False"
    if (down == 1 or rows == 1) and (right == rows or columns == 1):
        return f"m{place.memory}, {place.offset}, True"
    raise NotTraceable("a matrix with gaps")
