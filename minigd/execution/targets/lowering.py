"""A program as loops: the places of arrays, the numbers that depend on the batch, and the source.

Every array is a place in flat memory, with an offset and a stride for each axis. So views,
transposed arrays and shared rows need no special cases.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from minigd.execution.program import Operation, Program, address
from minigd.execution.tracer import NotTraceable
from minigd.types import Array

Int = int | str
"""A known number, or the name of a number that depends on the batch size."""


class Place(NamedTuple):
    """An array as a place in flat memory. Strides count numbers, not bytes."""

    memory: int
    dtype: np.dtype[Any]
    offset: Int
    shape: tuple[Int, ...]
    strides: tuple[Int, ...]


class Constant(NamedTuple):
    """A number in an operation."""

    dtype: np.dtype[Any] | type
    value: Any


class Step(NamedTuple):
    """An operation whose arguments are places and constants."""

    name: str
    ufunc: Any
    inputs: tuple[Any, ...]
    out: Place
    axis: int | None = None


class Form:
    """The operations of a program, separate from its arrays.

    Attributes
    ----------
    memory : list of Array, 1-d
        The memory that contains its arrays.
    roots : list of int
        For memory that is the same with numbers of another type, the number of the first one.
    sections : list of list of Step
        The operations of a batch, of a window, and of an update.
    named : dict of str to Place
        The batch, the results and the scalars.
    settings : list of float
        The constants of the update. In its steps they are names, s0, s1 and so on, so runs with
        other values have the same source.
    """

    def __init__(self, program: Program) -> None:
        self.memory: list[Array] = []
        self._numbers: dict[tuple[int, Any], int] = {}
        self.roots: list[int] = []
        self._owners: list[Array] = []
        parts = {"x": program.x, "y": program.y, "scale": program.scale, **program.scalars}
        parts |= {"value": program.value, "z": program.z, "norms": program.norms}
        self.named = {name: self._place(a) for name, a in parts.items() if a is not None}
        written = [o.out for section in program.sections for o in section]
        self._written = {address(_root(a)) for a in written}
        self.sections = [[self._step(o) for o in section] for section in program.sections]
        self.settings: list[float] = []
        self.sections[-1] = [self._with_settings(step) for step in self.sections[-1]]

    def number(self, array: Array) -> int:
        """Return the number of an array's memory, or -1 if the program does not have it."""
        root = _root(array)
        return self._numbers.get((address(root), root.dtype), -1)

    def _place(self, a: Array) -> Place:
        root = _root(a)
        start = address(root)
        key = (start, a.dtype)
        if key not in self._numbers:
            if not (root.flags.c_contiguous or root.flags.f_contiguous):
                raise NotTraceable("memory with gaps")
            flat = (root if root.flags.c_contiguous else root.T).reshape(-1)
            self._numbers[key] = len(self.memory)
            same = [k for k, owner in enumerate(self._owners) if owner is root]
            self.roots.append(same[0] if same else len(self.memory))
            self._owners.append(root)
            self.memory.append(flat if flat.dtype == a.dtype else flat.view(a.dtype))
        offset = (address(a) - start) // a.itemsize
        strides = tuple([s // a.itemsize for s in a.strides])
        return Place(self._numbers[key], a.dtype, offset, a.shape, strides)

    def _argument(self, a: Any) -> Any:
        if not isinstance(a, np.ndarray):
            kind = a.dtype if isinstance(a, np.generic) else type(a)
            return Constant(kind, a.item() if isinstance(a, np.generic) else a)
        start = address(_root(a))
        number = self._numbers.get((start, a.dtype))
        given = start in self._written or number in [place.memory for place in self.named.values()]
        if a.ndim == 0 and not given and (number is None or self.memory[number].size == 1):
            return Constant(a.dtype, a.item())
        return self._place(a)

    def _step(self, operation: Operation) -> Step:
        name, arguments, out = operation.name, operation.arguments, operation.out
        ufunc = operation.function if isinstance(operation.function, np.ufunc) else None
        place, axis = self._place(out), None
        inputs: Sequence[Any] = operation.inputs
        if name.endswith(".reduce"):
            source, axis = arguments[0], arguments[1]
            inputs = (source,)
            axis = None if axis is None else axis % source.ndim
        elif name == "copyto":
            inputs = (arguments[1],)
        elif name == "pick":
            index = arguments[1]
            parts = index if isinstance(index, tuple) else (index,)
            if any(not isinstance(p, np.ndarray) or p.ndim != 1 for p in parts):
                raise NotTraceable("rows that are picked")
            inputs = (arguments[0], *parts)
        elif name == "matmul":
            name = "dot"
        elif name not in ("dot", "where") and ufunc is None:
            raise NotTraceable(name)
        return Step(name, ufunc, tuple([self._argument(a) for a in inputs]), place, axis)

    def _with_settings(self, step: Step) -> Step:
        """Return a step with names for its constants, except 0, 1 and non-finite numbers."""
        inputs = list(step.inputs)
        for i, part in enumerate(inputs):
            value = part.value if isinstance(part, Constant) else 0
            if isinstance(value, float) and math.isfinite(value) and abs(value) not in (0, 1):
                inputs[i] = part._replace(value=f"s{len(self.settings)}")
                self.settings.append(value)
        return step._replace(inputs=tuple(inputs))

    def numbers(self) -> tuple[Any, list[Any]]:
        """Return what does not depend on the batch size, and a list of what may."""
        values: list[Any] = []
        return self.with_numbers(values.append), values

    def with_numbers(self, other: Callable[[Any], Any]) -> tuple[Any, Any]:
        """Return `named` and `sections` with `other` applied to each number in them.

        The stride of an axis of length 1 is None, because it has no effect.
        """

        def walk(part: Any) -> Any:
            if isinstance(part, Constant):
                return part._replace(value=other(part.value))
            if isinstance(part, Place):
                axes = zip(part.shape, part.strides, strict=True)
                return part._replace(
                    offset=other(part.offset),
                    shape=tuple(map(other, part.shape)),
                    strides=tuple([other(None if n == 1 else stride) for n, stride in axes]),
                )
            if isinstance(part, Step):
                return part._replace(inputs=tuple(map(walk, part.inputs)), out=walk(part.out))
            return list(map(walk, part))

        return dict(zip(self.named, walk(self.named.values()), strict=True)), walk(self.sections)


class General:
    """The programs for several batch sizes as one, in which some numbers have names.

    Attributes
    ----------
    names : list of str
        The names of numbers that depend on the size. Those of whole numbers begin with d, others
        with c.
    """

    def __init__(self, form: Form, *others: Form) -> None:
        self._kept, values = form.numbers()
        columns = [values]
        for other in others:
            kept, more = other.numbers()
            if kept != self._kept:
                raise NotTraceable("a step that depends on the size of its batch")
            columns.append(more)
        self._names: dict[Any, str] = {}
        self._values = [self._name(row) for row in zip(*columns, strict=True)]
        self.names = list(self._names.values())

    def _name(self, row: tuple[Any, ...]) -> Any:
        known = [v for v in row if v is not None]
        if len(set(known)) < 2:
            return known[0] if known else 0
        letter = "d" if all(isinstance(v, int) for v in known) else "c"
        return self._names.setdefault(row, f"{letter}{len(self._names)}")

    def sizes(self, form: Form) -> list[float] | None:
        """Return the named numbers for another size, or None if the program differs."""
        kept, values = form.numbers()
        if kept != self._kept:
            return None
        found: dict[str, Any] = {}
        for name, value in zip(self._values, values, strict=True):
            if value is None or name == value:
                continue
            if not isinstance(name, str) or found.setdefault(name, value) != value:
                return None
        return [float(found[n]) for n in self.names] if len(found) == len(self.names) else None

    def steps(self, form: Form) -> tuple[dict[str, Place], list[list[Step]]]:
        """Return a program's named places and its steps, section by section, with the names."""
        values = iter(self._values)
        named, sections = form.with_numbers(lambda _: next(values))
        return named, sections


def target_dtype(dtype: Any) -> Any:
    """Return the dtype of targets in a program, which can represent the same numbers.

    >>> target_dtype(np.dtype("uint8")), target_dtype(np.dtype(">f4")), target_dtype(np.dtype(bool))
    (dtype('int64'), dtype('float32'), dtype('bool'))
    """
    if dtype.kind in "iu" and dtype != np.uint64:
        return np.dtype(np.int64)
    return np.result_type(dtype, np.float32) if dtype.str[1:] == "f2" else dtype.newbyteorder("=")


def _root(a: Array) -> Array:
    while isinstance(a.base, np.ndarray):
        a = a.base
    return a
