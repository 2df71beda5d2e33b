"""A program as direct calls of NumPy: no loop, no lookup, the same bits as the layers.

No math is repeated: the calls work on fixed buffers, and only x changes each time.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from minigd.execution import plain
from minigd.execution.passes import overlap, shorten
from minigd.execution.per_example import RowClipping
from minigd.execution.plain import Step
from minigd.execution.profiler import Profiler
from minigd.execution.program import Operation, Program, address
from minigd.execution.targets.listing import listing
from minigd.execution.tracer import NotTraceable, trace
from minigd.nn.objective import Objective
from minigd.types import Array


class NumpyStep:
    """Forward, loss and backward for batches of one size, as NumPy's calls.

    Parameters
    ----------
    objective : Objective
    x, y : Array
        A batch of that size.
    by_row : RowClipping, optional
        Set if the norm of each row's own gradient is needed.

    Attributes
    ----------
    program : Program
        Printing the step lists its operations.
    """

    def __init__(
        self, objective: Objective, x: Array, y: Array, by_row: RowClipping | None = None
    ) -> None:
        self._model = objective.model
        self.program = trace(objective, x, y.copy(), None, by_row)
        program = self.program
        program.operations = shorten(program.operations, program.results)
        self._drawing = [layer for layer in self._model.all_layers if layer.draws]
        self._replay = _straight_calls(program.operations, x)

    def __call__(
        self,
        x: Array,
        y: Array,
        update: Callable[[Any], Any] = plain.no_update,
        profiler: Profiler | None = None,
    ) -> Step:
        """Run the step for another batch of the same size, measured by a profiler if given."""
        program = self._begin(y)
        if profiler is None:
            self._replay(x)
        else:
            profiler.run(self._operations_on(x))
        value = program.value[()]
        return Step(value, program.z, program.norms, update(value))

    def _begin(self, y: Array) -> Program:
        """Fill in the numbers that change with each step."""
        program, model = self.program, self._model
        program.y[...] = y
        model.passes += 1
        for layer in self._drawing:
            program.scalars[f"{layer.name}.key"][...] = layer.key(model.passes)
        return program

    def _operations_on(self, x: Array) -> list[Operation]:
        """Return the operations with another x instead of the traced one."""
        traced = self.program.x

        def replaced(a: Any) -> Any:
            if not (isinstance(a, np.ndarray) and overlap(a, traced)):
                return a
            return x if (a.shape, a.strides) == (traced.shape, traced.strides) else x.T

        return [
            operation._replace(arguments=tuple(map(replaced, operation.arguments)))
            for operation in self.program.operations
        ]

    def __str__(self) -> str:
        return listing(self.program, self._model)


def _straight_calls(operations: list[Operation], x: Array) -> Callable[[Array], None]:
    """Return a function of x that runs the operations one after the other, without a loop."""
    constants: dict[int, tuple[str, Any]] = {}

    def word(a: Any) -> str:
        if isinstance(a, np.ndarray) and overlap(a, x):
            for name, view in (("x", x), ("x.T", x.T)):
                if (a.shape, a.strides, address(a)) == (view.shape, view.strides, address(view)):
                    return name
            raise NotTraceable("a part of x was used alone")
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
