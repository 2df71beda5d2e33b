"""The source of a program's step: one function that makes the steps of several batches."""

from collections.abc import Iterable

from minigd.execution.targets.lowering import Form, General, Place
from minigd.execution.targets.words import cell, type_name
from minigd.types import Array

HEAD = '''"""A training step, printed by minigd."""

import numpy as np
from numba import boolean as b1, float32 as f4, float64 as f8, int32 as i4, int64 as i8, njit
from numba import uint32 as u4, uint64 as u8, uint8 as u1

from minigd.execution.targets.flat_memory import flush_subnormals, pointer, product
from minigd.execution.targets.vector_math import exp, log, log1p, maximum, minimum, sign, tanh


@njit(fastmath={"reassoc"}, error_model="numpy", no_cfunc_wrapper=True, no_cpython_wrapper=True,
      no_rewrites=True)
def sum_of_squares(g, size, total):
    for i in range(size):
        total += g[i] * g[i]
    return f8(total)


@njit(cache=True, nogil=True, error_model="numpy", no_cfunc_wrapper=True, no_rewrites=True)
def run(places, settings, X, Y, order, starts, scale, which, whole, broken, keys, scalars, rates,
        largest, safe, due, losses, outputs):'''

_ARRAYS = ("x", "y", "scale", "value", "z", "norms")


def function(
    named: dict[str, Place],
    sections: list[list[str]],
    form: Form,
    general: General,
    flat_grads: int,
    restored: list[int],
) -> tuple[str, list[int]]:
    """Return the source of a function that makes the steps of several batches, and its memory.

    Parameters
    ----------
    named : dict of str to Place
        The batch, the results and the scalars.
    sections : list of list of str
        What is done for a batch before the cut, for a batch after it, and for an update.
    form : Form
        The program, whose memory it works on.
    general : General
        The numbers that depend on the size of the batch.
    flat_grads : int
        The memory of the gradients.
    restored : list of int
        Memory that is as before where the gradient of a step is not safe.
    """
    memory = form.memory
    gradient, window, update = sections
    step = [
        *_rows(named),
        *_numbers(named, general),
        *[line for m in restored for line in _copy(f"before{m}", f"m{m}", memory[m])],
        *gradient,
        *_finite_test(named["value"], flat_grads, memory, restored),
        *_outputs(named["z"]),
        *window,
        "if due[k]:",
        *_indented(update or ["pass"]),
    ]
    used = [k for k in range(len(memory)) if any(_uses(line, k) for line in step)]
    loop = ["flushed = flush_subnormals(True)", "for k in range(len(starts) - 1):"]
    loop += [*_indented(step), "flush_subnormals(flushed)", "return len(starts) - 1", ""]
    settings = [f"s{i} = settings[{i}]" for i in range(len(form.settings))]
    body = [*_memory(used, memory, restored), *settings, *loop]
    return "\n".join([HEAD, *_indented(body)]), used


def _memory(used: list[int], memory: list[Array], restored: list[int]) -> list[str]:
    """Return the lines that name the memory, and BLAS's products of its two types."""
    types = {k: "u1" if memory[k].dtype == bool else type_name(memory[k].dtype) for k in used}
    lines = [f"m{k} = pointer(places[{i}], {types[k]})" for i, k in enumerate(used)]
    lines += [f"gemm_{kind} = places[{len(used) + i}]" for i, kind in enumerate(("f4", "f8"))]
    for m in restored:
        lines.append(f"before{m} = np.empty({memory[m].size}, np.{memory[m].dtype})")
    return lines


def _rows(named: dict[str, Place]) -> list[str]:
    """Return the lines that gather the rows of batch k."""
    x, y = named["x"], named["y"]
    rows = ["row = order[first + i]"]
    rows += [f"for j in range({x.shape[1]}):", f"    {cell(x)} = X[row, j]"]
    if len(y.shape) == 2:
        rows += [f"for j in range({y.shape[1]}):", f"    {cell(y)} = Y[row, j]"]
    else:
        rows.append(f"{cell(y)} = Y[row]")
    if "scale" in named:
        rows.append(f"{cell(named['scale'])} = scale[first + i]")
    head = "first, n, size = starts[k], starts[k + 1] - starts[k], which[k]"
    return [head, "for i in range(n):", *_indented(rows)]


def _numbers(named: dict[str, Place], general: General) -> list[str]:
    """Return the lines that fill in what depends on the size of batch k, and on its number."""
    scalars = [place for name, place in named.items() if name not in _ARRAYS]
    keys = [place for place in scalars if place.dtype.kind == "u"]
    others = [place for place in scalars if place.dtype.kind != "u"]
    return [
        *[f"{name} = whole[size, {i}]" for i, name in enumerate(general.ints)],
        *[f"{name} = broken[size, {i}]" for i, name in enumerate(general.floats)],
        *[f"{cell(place)} = keys[k, {i}]" for i, place in enumerate(keys)],
        *[f"{cell(place)} = scalars[k, {i}]" for i, place in enumerate(others)],
    ]


def _finite_test(
    value: Place, flat_grads: int, memory: list[Array], restored: list[int]
) -> list[str]:
    """Return the lines that stop before an update that may not be finite."""
    g = memory[flat_grads]
    return [
        f"losses[k] = {cell(value)}",
        f"squares = sum_of_squares(m{flat_grads}, {g.size}, {type_name(g.dtype)}(0))",
        "length = np.sqrt(squares)",
        "longest = max(largest[0], length) if length >= 0 else np.inf",
        "if not (np.isfinite(losses[k]) and longest * max(rates[k], 1.0) < safe):",
        "    flush_subnormals(flushed)",
        *_indented([s for m in restored for s in _copy(f"m{m}", f"before{m}", memory[m])]),
        "    return k",
        "largest[0] = longest",
    ]


def _outputs(z: Place) -> list[str]:
    """Return the lines that hand over the outputs of batch k, where they are wanted."""
    loop = ["for i in range(n):", f"    for j in range({z.shape[1]}):"]
    loop.append(f"        outputs[first + i, j] = {cell(z)}")
    return ["if len(outputs) > 0:", *_indented(loop)]


def _copy(target: str, source: str, like: Array) -> list[str]:
    """Return the lines of a loop that copies memory."""
    return [f"for i in range({like.size}):", f"    {target}[i] = {source}[i]"]


def _indented(lines: Iterable[str]) -> list[str]:
    return [f"    {line}" for line in lines]


def _uses(line: str, memory: int) -> bool:
    """Tell whether a line names a memory."""
    return f"m{memory}[" in line or f"m{memory}," in line
