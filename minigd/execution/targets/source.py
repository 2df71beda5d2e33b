"""The source of a program's step: one function that makes the steps of several batches."""

import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from minigd.execution.targets.lowering import Form, General, Place
from minigd.execution.targets.words import cell, type_name
from minigd.types import Array

HEAD = '''"""A training step, printed by minigd."""

import numpy as np
from numba import boolean as b1, float32 as f4, float64 as f8, int32 as i4, int64 as i8, njit
from numba import uint32 as u4, uint64 as u8, uint8 as u1

from minigd.execution.targets.flat_memory import flush_subnormals, pointer, product
from minigd.execution.targets.vector_math import exp, log, log1p, tanh
'''

STEPS = """

@njit(fastmath={"reassoc"}, error_model="numpy", no_cfunc_wrapper=True, no_cpython_wrapper=True,
      no_rewrites=True)
def sum_of_squares(g, size, total):
    for i in range(size):
        total += g[i] * g[i]
    return f8(total)


def run(places, steps, gather, wanted):
    gemm_f4, gemm_f8 = places[0], places[1]
    ARRAYS
    SETTINGS
    flushed = flush_subnormals(True)
    for k in range(steps):
        first, n, size = starts[k], starts[k + 1] - starts[k], which[k]
        NUMBERS
        for i in range(n if gather else 0):
            row = order[first + i]
            BATCH
        REMEMBER
        GRADIENT
        LOSS
        SQUARES
        length = np.sqrt(squares)
        longest = max(limits[0], length) if length >= 0 else np.inf
        if not (np.isfinite(losses[k]) and longest * max(rates[k], 1.0) < limits[1]):
            flush_subnormals(flushed)
            RESTORE
            return k
        limits[0] = longest
        if wanted:
            for i in range(n):
                OUTPUTS
        WINDOW
        if due[k]:
            UPDATE
    flush_subnormals(flushed)
    return steps
"""
"""Words in capitals are placeholders for lines. Steps end before an update that may not be
finite."""

_BATCH = ("x", "y", "scale", "value", "z", "norms")


def function(
    named: dict[str, Place],
    sections: list[list[str]],
    form: Form,
    general: General,
    arguments: Mapping[str, Array],
    flat_grads: int,
    restored: list[int],
) -> tuple[str, dict[str, Array]]:
    """Return the source of a function that makes the steps of several batches, and its arrays.

    Parameters
    ----------
    named : dict of str to Place
        The batch, the results and the scalars.
    sections : list of list of str
        The lines for a batch before the cut, for a batch after it, and for an update.
    form : Form
        The program, whose memory it works on.
    general : General
        The numbers that depend on the batch size.
    arguments : dict of str to Array
        The arguments of several batches.
    flat_grads : int
        The memory of the gradients.
    restored : list of int
        Memory that is restored if the gradient of a step is not safe.
    """
    gradient, window, update = sections
    g = form.memory[flat_grads]
    scalars = [place for name, place in named.items() if name not in _BATCH]
    keys = [cell(place) for place in scalars if place.dtype.kind == "u"]
    others = [cell(place) for place in scalars if place.dtype.kind != "u"]
    lines = {
        "SETTINGS": [f"s{i} = settings[{i}]" for i in range(len(form.settings))],
        "NUMBERS": [
            *_taken(general.names, "numbers", "size"),
            *_taken(keys, "keys", "k"),
            *_taken(others, "scalars", "k"),
        ],
        "BATCH": [
            *_rows(named["x"], "{} = X[{}]", "row"),
            *_rows(named["y"], "{} = Y[{}]", "row"),
            *([f"{cell(named['scale'])} = scale[first + i]"] if "scale" in named else []),
        ],
        "REMEMBER": _copies("before{0}[i] = m{0}[i]", restored, form.memory),
        "GRADIENT": gradient,
        "LOSS": [f"losses[k] = {cell(named['value'])}"],
        "SQUARES": [f"squares = sum_of_squares(m{flat_grads}, {g.size}, {type_name(g.dtype)}(0))"],
        "RESTORE": _copies("m{0}[i] = before{0}[i]", restored, form.memory),
        "OUTPUTS": _rows(named["z"], "outputs[{1}] = {0}", "(first + i)"),
        "WINDOW": window,
        "UPDATE": update or ["pass"],
    }
    used = {
        int(m) for part in lines.values() for line in part for m in re.findall(r"\bm(\d+)", line)
    }
    arrays = {f"m{m}": form.memory[m] for m in sorted(used)}
    arrays |= {f"before{m}": np.empty_like(form.memory[m]) for m in restored} | dict(arguments)
    lines["ARRAYS"] = [
        f"{name} = pointer(places[{i}], {'u1' if a.dtype == bool else type_name(a.dtype)})"
        for i, (name, a) in enumerate(arrays.items(), 2)
    ]
    return HEAD + "\n".join(filled(STEPS, lines)), arrays


def filled(template: str, lines: dict[str, list[str]]) -> Iterator[str]:
    """Yield the lines of a template, with placeholders replaced by lines."""
    for line in template.splitlines():
        word = line.lstrip()
        indent = line.removesuffix(word)
        yield from (indent + one for one in lines.get(word, [word]))


def _taken(names: Sequence[str], table: str, row: str) -> list[str]:
    """Return the lines that take numbers from a row of a table."""
    lines = []
    for k, name in enumerate(names):
        number = f"{table}[{row} * {len(names)} + {k}]"
        # The name of a whole number begins with this, unlike that of memory.
        lines.append(f"{name} = {f'i8({number})' if name[0] == 'd' else number}")
    return lines


def _rows(place: Place, copy: str, row: str) -> list[str]:
    """Return the lines that copy row i of a place from or to that row of an array."""
    if len(place.shape) == 1:
        return [copy.format(cell(place), row)]
    width = place.shape[1]
    return [f"for j in range({width}):", f"    {copy.format(cell(place), f'{row} * {width} + j')}"]


def _copies(copy: str, restored: list[int], memory: list[Array]) -> list[str]:
    """Return the lines of loops that copy memory."""
    loops = [(f"for i in range({memory[m].size}):", f"    {copy.format(m)}") for m in restored]
    return [line for loop in loops for line in loop]
