"""Passes over the operations of a program, which remove some without changing bits."""

import collections
from typing import Any

import numpy as np

from minigd.execution.program import Operation
from minigd.types import Array


def shorten(operations: list[Operation], wanted: list[Array]) -> list[Operation]:
    """Return fewer operations that give the same bits.

    A result is not computed twice, a division by 1 is left out, a sum of one number is that number,
    and a result that is only copied is written directly to its destination.
    """
    return _without_copies(_without_repeats(operations), wanted)


def _without_repeats(operations: list[Operation]) -> list[Operation]:
    """Leave out repeated computations, and those that a batch of one row makes unnecessary."""
    same: dict[int, Array] = {}  # an array with the same numbers as an earlier one
    seen: dict[Any, Operation] = {}
    written = collections.Counter(id(o.out) for o in operations)
    left = []
    for operation in operations:
        arguments = tuple([same.get(id(a), a) for a in operation.arguments])
        operation = _of_one_row(operation._replace(arguments=arguments))
        inputs, out = operation.inputs, operation.out
        # An array that is written once keeps its numbers, and can replace equal ones.
        fresh = out.base is None and written[id(out)] == 1
        constant = operation.name == "divide" and not written[id(inputs[1])]
        if constant and _is_one(inputs[1]):
            if out is inputs[0]:
                continue
            if fresh and written[id(inputs[0])] == 1 and inputs[0].base is None:
                same[id(out)] = inputs[0]
                continue
        key = (operation.name, operation.last, *[_identity(a) for a in inputs])
        before = seen.get(key)
        if before is not None and fresh and before.out.shape == out.shape:
            same[id(out)] = before.out
            continue
        # Results of numbers that are now overwritten must be computed again.
        seen = {k: o for k, o in seen.items() if not any(overlap(a, out) for a in o.arguments)}
        if fresh and operation.name != "copyto":
            seen[key] = operation
        left.append(operation)
    return left


def _of_one_row(operation: Operation) -> Operation:
    """Return a sum over one row, or one column, as a copy."""
    if operation.name != "add.reduce":
        return operation
    array, axis, _, out, _ = operation.arguments
    if array.size != out.size or array.shape[0 if axis is None else axis] != 1:
        return operation
    return Operation("copyto", np.copyto, (out, array.reshape(out.shape)), 0)


def _without_copies(operations: list[Operation], wanted: list[Array]) -> list[Operation]:
    left: list[Operation] = []
    for i, operation in enumerate(operations):
        if left and operation.name == "copyto" and len(operation.arguments) == 2:
            target, source = operation.arguments
            last = left[-1]
            later = [a for o in operations[i + 1 :] for a in o.arguments]
            if (
                last.out is source
                and source.base is None
                and (source.shape, source.dtype) == (target.shape, target.dtype)
                and not any(overlap(a, source) for a in [*later, *wanted])
                and not any(overlap(a, target) for a in last.arguments)
            ):
                swapped = list(last.arguments)
                swapped[last.last] = target
                left[-1] = last._replace(arguments=tuple(swapped))
                continue
        left.append(operation)
    return left


def overlap(a: Any, other: Array) -> bool:
    """Return whether an argument, or one of a tuple, shares memory with an array."""
    parts = a if isinstance(a, tuple) else (a,)
    return any(isinstance(part, np.ndarray) and np.may_share_memory(part, other) for part in parts)


def _identity(a: Any) -> Any:
    """Return a key that is equal for two arguments with the same numbers."""
    if isinstance(a, tuple):
        return tuple([_identity(part) for part in a])
    return id(a) if isinstance(a, np.ndarray | slice) else (type(a), a)


def _is_one(a: Any) -> bool:
    return (isinstance(a, int | float) or (a.ndim == 0 and a.base is None)) and bool(a == 1)
