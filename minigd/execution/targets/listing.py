"""A program as text: one line per operation, with the names of its arrays."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from minigd.execution.program import Program, address
from minigd.nn.sequential import Sequential


def listing(program: Program, model: Sequential) -> str:
    """Return the operations of a program on a model, one line each."""
    names = {address(program.x): "x", address(program.y): "y", address(program.z): "z"}
    for key, array in model.params.items():
        names[address(array)] = key
    for key, array in model.grads.items():
        layer, _, name = key.rpartition(".")
        names[address(array)] = f"{layer}.d{name}"
    for key, array in model.workspace.named():
        names.setdefault(address(array), key)
    numbers = itertools.count(1)
    lines = []
    for operation in program.operations:
        words = [_name_of(a, names, numbers) for a in operation.arguments]
        lines.append(f"{operation.name}({', '.join(words)})")
    return "\n".join(lines)


def _name_of(a: Any, names: dict[int, str], numbers: Iterator[int]) -> str:
    """Return the name of an argument in a listing."""
    if isinstance(a, tuple):
        return f"({', '.join([_name_of(part, names, numbers) for part in a])})"
    if not isinstance(a, np.ndarray):
        return str(a)
    if address(a) not in names:
        names[address(a)] = f"t{next(numbers)}"
    name = names[address(a)]
    return f"{name}.T" if a.ndim == 2 and a.strides[0] < a.strides[1] else name
