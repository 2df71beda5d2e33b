"""Chooses how a step is run: compiled, as direct calls of NumPy, or plain, which is always right.

On a GPU it is compiled if the program allows it.
"""

import contextlib
import functools
import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np

from minigd.backends.base import NumpyBackend
from minigd.backends.on_demand import call
from minigd.execution import plain
from minigd.execution.finite_guard import Remembered
from minigd.execution.per_example import RowClipping
from minigd.execution.shipped import Parts, promises
from minigd.execution.targets.compiler import gemm_address
from minigd.execution.targets.numpy import NumpyStep
from minigd.execution.tracer import NotTraceable, Update
from minigd.nn.layers.base import with_inner
from minigd.nn.objective import Objective
from minigd.types import Array

MOST = 8
"""The number of batch sizes for which a trainer keeps NumPy's calls."""

TOLERANCE = {"float32": 1e-3, "float64": 1e-8}
"""The allowed difference of a compiled and a plain gradient, relative to the largest entry."""


class Steps:
    """Chooses how the training steps of an objective are run.

    Parameters
    ----------
    objective : Objective
    update : Update
        What a step does with the mean gradient.
    replay : bool, default True
        Whether to run anything but the plain step.
    compile : bool, default False
        Whether to compile steps with Numba. On a GPU they are always compiled with CUDA.

    Attributes
    ----------
    plain : bool
        Set while each step must run through the layers' own methods.
    reason : str or None
        Why the last step to compile was not compiled.
    by_cuda, by_numba : bool
        Whether steps are compiled, and with what.
    """

    def __init__(
        self, objective: Objective, update: Update, replay: bool = True, compile: bool = False
    ) -> None:
        self.objective, self.update = objective, update
        self.plain = False
        self.reason: str | None = None
        self._numpy: dict[Any, NumpyStep | None] = {}
        self._compiled: dict[Any, Any] = {}
        self._seen: set[Any] = set()
        self._replay, self.by_cuda = replay, not objective.model.backend.reads_are_free
        self.by_numba = compile and not self.by_cuda
        self._parts = (
            Parts([*with_inner(objective.layers), objective.loss, *update[:3]]) if replay else None
        )
        self._judge()

    def find_numpy(
        self, x: Array, y: Array, scale: Array | None = None, by_row: RowClipping | None = None
    ) -> NumpyStep | None:
        """Return NumPy's calls for the step of such a batch, or None for the plain step."""
        # With `out`, NumPy before 2.1 sums reversed rows in another order.
        if scale is not None or x.strides[0] <= 0:
            return None
        key = (x.shape, y.shape, y.dtype, by_row and (by_row.limit,))
        if key in self._numpy:
            return self._numpy[key]
        # A size that occurs once is not worth a trace, nor are many alternating sizes.
        if key not in self._seen or len(self._numpy) == MOST:
            if len(self._seen) < 10 * MOST:
                self._seen.add(key)
            return None
        self._numpy[key] = self._trace(x, y, by_row)
        return self._numpy[key]

    def find_compiled(
        self, x: Array, y: Array, scale: Array | None = None, by_row: RowClipping | None = None
    ) -> Any:
        """Return the compiled step for such a batch, or None if there is none."""
        if not self.compiles:
            return None
        key = (y.dtype, y.shape[1:], scale is not None, by_row and (by_row.limit,))
        step = self._compiled.get(key)
        if key not in self._compiled or (step is not None and not step.is_current(len(x))):
            step = self._compiled[key] = self._compile_step(x, y, scale, by_row)
        return step if step is not None and step.takes(len(x)) else None

    def why_not_compiled(self) -> str | None:
        """Return why steps were not compiled although they should be, or None."""
        parts = [*with_inner(self.objective.layers), self.objective.loss, *self.update[:3]]
        plain = [type(part).__name__ for part in parts if not promises(part)]
        if not (self.by_cuda or self.by_numba):
            return None
        if plain:
            return f"{plain[0]} does not declare traceable = True"
        return self.reason.removeprefix("NotTraceable: ") if self.reason else None

    @property
    def traces(self) -> bool:
        """Whether steps are traced as calls of NumPy."""
        return self._traceable and not self.plain and not self.by_cuda

    @property
    def compiles(self) -> bool:
        """Whether steps are compiled."""
        return (self.by_cuda or self.by_numba) and self._promised and not self.plain

    @property
    def compiles_epochs(self) -> bool:
        """Whether the steps of whole epochs are compiled as one function."""
        return self.compiles and self.by_numba

    def load_blas(self) -> None:
        """Load the BLAS of compiled steps before the number of its threads is set."""
        if self.compiles_epochs:
            # If this fails, compiling fails too, and says why.
            with contextlib.suppress(Exception):
                gemm_address("sgemm")

    def refresh(self) -> None:
        """Drop traces if a constant or a method of their layers changed."""
        if self._parts is not None and self._parts.changed():
            self._numpy.clear()
            self._compiled.clear()
            self._judge()

    def _judge(self) -> None:
        """Check what may be traced."""
        self._traceable = self._replay and _is_traceable(self.objective)
        self._promised = self._traceable and all(map(promises, self.update[:3]))

    def _trace(self, x: Array, y: Array, by_row: RowClipping | None) -> NumpyStep | None:
        """Trace a step, and keep it if it gives the layers' bits."""
        try:
            make = functools.partial(NumpyStep, self.objective, x, y, by_row)
            return cast("NumpyStep", self._checked(make, by_row, x, y))
        except Exception:
            # If a trace fails, the layers themselves run the step, or raise the error.
            return None

    def _compile_step(
        self, x: Array, y: Array, scale: Array | None, by_row: RowClipping | None
    ) -> Any:
        """Compile a step, and keep it if it gives the layers' numbers up to rounding."""
        dtype = self.objective.model.dtype
        given = self.objective, self.update, y, len(x), scale is not None, by_row
        make = _make_cuda if self.by_cuda else _make_numba
        rows = [x.astype(dtype, copy=False), y, *([] if scale is None else [scale])]
        if self.by_cuda:
            # Only a few, because the layers' own arrays need memory in addition to the step's.
            rows = [a[: max(2, len(a) // 64)] for a in rows]
        # The program for one row may differ from that for several.
        rows = [a.repeat(2, axis=0) for a in rows] if len(x) == 1 else rows
        try:
            return self._checked(
                lambda: make(*given),
                *(by_row, *rows),
                share=TOLERANCE[str(dtype)],
            )
        except Exception as error:
            self.reason = f"{type(error).__name__}: {error}"
            return None

    def _checked(
        self, make: Callable[[], Any], by_row: RowClipping | None, *rows: Array, share: float = 0.0
    ) -> Any:
        """Return the step from `make` if it gives the layers' numbers for other rows.

        They must be bit-identical, or equal up to a share of the largest entry.
        """
        model, host = self.objective.model, self.objective.model.backend.to_numpy
        layers: Callable[..., plain.Step] = functools.partial(
            plain.step, self.objective, by_row=by_row
        )
        with Remembered(model) as state, np.errstate(all="ignore"):

            def results(step: plain.Step) -> list[Any]:
                arrays = [model.flat_grads, *state.changing, step.value, step.norms]
                found = [np.array(host(a)) for a in arrays if a is not None]
                state.restore()
                return found

            # First without tracing, so that a layer finds what it looks up only once.
            results(layers(*rows))
            step = make()
            state.restore()
            other = [a[::-1].copy(order="K") for a in rows]
            found = results(step(*other))
            expected = results(layers(*other))
        if not all(_agree(a, b, share) for a, b in zip(found, expected, strict=True)):
            raise NotTraceable("it does not give the numbers of the plain step")
        return step


def _make_numba(*given: Any) -> Any:
    return call("minigd.execution.targets.numba", "NumbaStep", *given)


def _make_cuda(*given: Any) -> Any:
    return call("minigd.execution.targets.cuda", "CudaStep", *given)


def _agree(found: Array, expected: Array, share: float) -> bool:
    """Return whether numbers are bit-identical, or equal up to a share of the largest one."""
    if not share:
        return np.array_equal(found, expected, equal_nan=True)
    size = float(np.abs(expected).max(initial=0.0))
    return math.isfinite(size) and np.allclose(found, expected, 0, share * size)


def _is_traceable(objective: Objective) -> bool:
    """Return whether a trace contains everything that layers and loss do in a step."""
    parts = [*with_inner(objective.layers), objective.loss]
    backend = objective.model.backend
    known = type(backend) is NumpyBackend or backend.name == "cupy"
    return known and all(map(promises, parts))
