"""A training step as the list of its operations: recorded once, then replayed line by line.

The list is what layers and loss did to real arrays, on buffers that stay; nothing is written twice,
and a replay gives the same bits.
"""

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from minigd.execution import plain
from minigd.execution.numba_loops import FastBackend
from minigd.execution.passes import by_compiled_rows, overlap, shorten
from minigd.execution.per_example import RowClipping
from minigd.execution.plain import Step
from minigd.execution.profiler import Profiler
from minigd.execution.tape import NotRecorded, Operation, Recorded, plain_array, recording
from minigd.nn.objective import Objective
from minigd.types import Array


class Recording:
    """The operations of one training step for batches of one size.

    Attributes
    ----------
    operations : list of Operation
        In their order; printing the recording lists them.
    """

    def __init__(
        self,
        objective: Objective,
        x: Array,
        y: Array,
        fast: FastBackend | None = None,
        by_row: RowClipping | None = None,
    ) -> None:
        self._model = objective.model
        self._x, self._y = x, y.copy()
        with recording(objective, fast) as (shadow, operations):
            done = plain.step(shadow, x.view(Recorded), self._y.view(Recorded), by_row=by_row)
            self._value, self._z, self._norms = [plain_array(a) for a in done[:3]]
        wanted = [a for a in (self._value, self._z, self._norms) if a is not None]
        self.operations = shorten(operations, wanted)
        if fast is not None:
            self.operations = [by_compiled_rows(operation) for operation in self.operations]
        self._replay = _straight_calls(self.operations, self._x)

    def __call__(self, x: Array, y: Array, update: Callable[[Any], Any] = plain.no_update) -> Step:
        """Do the step for another batch of the same size."""
        self._y[...] = y
        self._model.passes += 1
        self._replay(x)
        value = self._value[()]
        return Step(value, self._z, self._norms, update(value))

    def timed(self, x: Array, y: Array, update: Callable[[Any], Any], profiler: Profiler) -> Step:
        """Do the same operation by operation, each by the profiler's clock."""
        self._y[...] = y
        self._model.passes += 1
        calls = []
        for name, function, arguments, _ in self.operations:
            for i, a in enumerate(arguments):
                if isinstance(a, np.ndarray) and overlap(a, self._x):
                    turned = a.shape != x.shape or a.strides != self._x.strides
                    arguments = (*arguments[:i], x.T if turned else x, *arguments[i + 1 :])
            if isinstance(function, np.ufunc):
                function = functools.partial(function, out=arguments[-1])
                arguments = arguments[:-1]
            calls.append((name, function, arguments))
        profiler.run(calls)
        value = self._value[()]
        return Step(value, self._z, self._norms, update(value))

    def __str__(self) -> str:
        names = {_address(self._x): "x", _address(self._y): "y", _address(self._z): "z"}
        for key, array in self._model.params.items():
            names[_address(array)] = key
        for key, array in self._model.grads.items():
            layer, _, name = key.rpartition(".")
            names[_address(array)] = f"{layer}.d{name}"
        for key, array in self._model.workspace.named():
            names.setdefault(_address(array), key)
        numbers = itertools.count(1)
        lines = []
        for operation in self.operations:
            words = [_name_of(a, names, numbers) for a in operation.arguments]
            lines.append(f"{operation.name}({', '.join(words)})")
        return "\n".join(lines)


def _straight_calls(operations: list[Operation], x: Array) -> Callable[[Array], None]:
    """Return a function of x that does the operations one after the other, without a loop."""
    constants: dict[int, tuple[str, Any]] = {}

    def word(a: Any) -> str:
        if isinstance(a, np.ndarray) and overlap(a, x):
            for name, view in (("x", x), ("x.T", x.T)):
                if (a.shape, a.strides, _address(a)) == (view.shape, view.strides, _address(view)):
                    return name
            raise NotRecorded("a part of x was used alone")
        return constants.setdefault(id(a), (f"c{len(constants)}", a))[0]

    lines = []
    for operation in operations:
        words = [word(a) for a in operation.arguments]
        if isinstance(operation.function, np.ufunc):
            words[-1] = f"out={words[-1]}"
        lines.append(f"        {word(operation.function)}({', '.join(words)})")
    names = [name for name, _ in constants.values()]
    source = [f"def bind({', '.join(names)}):", "    def replay(x):", *lines]
    namespace: dict[str, Any] = {}
    exec("\n".join([*source, "    return replay"]), namespace)
    replay: Callable[[Array], None] = namespace["bind"](*[a for _, a in constants.values()])
    return replay


def _address(array: Array) -> int:
    place: int = array.__array_interface__["data"][0]
    return place


def _name_of(a: Any, names: dict[int, str], numbers: Iterator[int]) -> str:
    """Return what an argument is called in a listing."""
    if isinstance(a, tuple):
        return f"({', '.join([_name_of(part, names, numbers) for part in a])})"
    if not isinstance(a, np.ndarray):
        return str(a)
    if _address(a) not in names:
        names[_address(a)] = f"t{next(numbers)}"
    name = names[_address(a)]
    return f"{name}.T" if a.ndim == 2 and a.strides[0] < a.strides[1] else name
