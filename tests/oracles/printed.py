"""A backend that does what is printed for compiled steps: a formula alone, traced and printed."""

from collections.abc import Callable
from typing import Any

from oracles.interpreted import interpreted

from minigd.backends.base import NumpyBackend, as_tuple
from minigd.execution import tracer
from minigd.execution.program import Program
from minigd.execution.targets.groups import grouped
from minigd.execution.targets.loops import lines_of
from minigd.execution.targets.lowering import Form, General
from minigd.execution.targets.source import HEAD
from minigd.execution.targets.words import PYTHON
from minigd.types import Array


class PrintedBackend(NumpyBackend):
    """NumPy, on which formulas run as loops, as a compiled step has them."""

    def apply(
        self,
        formula: Callable[..., Any],
        *inputs: Array,
        out: Any,
        where: Array | None = None,
        **constants: float,
    ) -> Array | None:
        """Write ``formula(*inputs, **constants)`` into `out`."""
        assert where is None
        program = Program(inputs[0], inputs[0])
        with tracer._recording(program.operations):
            traced = [[a.view(tracer.Traced) for a in arrays] for arrays in (inputs, as_tuple(out))]
            backend = tracer.TracingBackend(elementwise=True)
            backend.apply(formula, *traced[0], out=tuple(traced[1]), **constants)
        # What was computed while it was traced is not to be seen.
        for array in as_tuple(out):
            array[...] = 7
        form = Form(program)
        (groups, *_), _ = grouped(General(form).steps(form)[1], form, PYTHON)
        every = set(range(len(form.memory)))
        lines = [line for group in groups for line in lines_of(group, every)]
        arrays = {f"m{k}": memory for k, memory in enumerate(form.memory)}
        names = [f"{name} = places[{k}]" for k, name in enumerate(arrays, 2)]
        body = "\n".join(f"    {line}" for line in [*names, *lines])
        interpreted(f"{HEAD}\n\ndef run(places):\n{body}\n", arrays)()
        return None
