"""Traces a step: runs it once on arrays that record each operation."""

import copy
import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from minigd.backends.base import Backend, NumpyBackend, Views
from minigd.backends.workspace import Workspace
from minigd.execution import plain
from minigd.execution.per_example import RowClipping
from minigd.execution.program import Operation, Program
from minigd.nn.objective import Objective
from minigd.nn.sequential import Sequential
from minigd.optim.accumulation import moved_mean
from minigd.optim.gradient_transforms import Clipping, Penalty
from minigd.optim.updaters import Updater
from minigd.types import Array


class NotTraceable(Exception):
    """A step did something that a program can't do, such as an ``if`` on a value."""


class _Tape(threading.local):
    """The current recording. Each thread has its own."""

    operations: list[Operation] | None = None
    known: dict[Any, Array]


_tape = _Tape()


class Traced(np.ndarray):
    """An array that records operations on the tape of the current recording."""

    def __array_finalize__(self, obj: Any) -> None:
        # Memory that appears without a recorded operation would never change.
        if isinstance(obj, Traced) and self.base is None:
            raise NotTraceable("an array was copied")

    def __array_ufunc__(
        self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **settings: Any
    ) -> Any:
        settings = {k: v for k, v in settings.items() if not _is_default(k, v)}
        if out is not None and type(out[0]) is np.ndarray and any(a is out[0] for a in inputs):
            # NumPy adds to a large temporary array in place, as in a * 3 + traced. Then each run of
            # the tape would add to it again.
            out = None
        inputs = tuple([plain_array(a) for a in inputs])
        if method == "__call__" and not settings.keys() - {"casting"}:
            result = ufunc(*inputs, **settings) if out is None else plain_array(out[0])
            result = _new_array(result) if out is None else result
            if out is not None:
                if not np.can_cast(np.result_type(*inputs), result.dtype, "same_kind"):
                    raise NotTraceable(f"{ufunc.__name__} into {result.dtype}")
                ufunc(*inputs, out=result)
            note(ufunc.__name__, ufunc, *_with_constants(inputs, result), result, out=result)
        elif method == "reduce" and not settings.keys() - {"axis", "keepdims"}:
            axis, keepdims = settings.get("axis", 0), settings.get("keepdims", False)
            target = None if out is None else plain_array(out[0])
            result = ufunc.reduce(*inputs, axis, None, target, keepdims)
            result = _new_array(result) if out is None else target
            arguments = (*inputs, axis, None, result, keepdims)
            note(f"{ufunc.__name__}.reduce", ufunc.reduce, *arguments, out=result)
        else:
            raise NotTraceable(f"{ufunc.__name__}.{method} with {', '.join(settings)}")
        return result.view(Traced)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        plain = tuple([plain_array(a) for a in args])
        if function is np.dot and len(plain) == 2:
            out = kwargs.get("out")
            result = _new_array(np.dot(*plain)) if out is None else np.dot(*plain, plain_array(out))
            note("dot", np.dot, *plain, result, out=result)
        elif function is np.where and len(plain) == 3 and not kwargs:
            result = _new_array(np.where(*plain))
            note("where", _copy_where, *plain, result, out=result)
        else:
            raise NotTraceable(function.__name__)
        return result.view(Traced)

    def __getitem__(self, index: Any) -> Any:
        if _is_basic(index):
            return super().__getitem__(_as_view(index))
        if isinstance(index, tuple):
            index = tuple([plain_array(i) for i in index])
        else:
            index = plain_array(index)
        source = plain_array(self)
        result = _new_array(source[index].copy())
        note("pick", _copy_picked, source, index, result, out=result)
        return result.view(Traced)

    def __setitem__(self, index: Any, value: Any) -> None:
        if not _is_basic(index):
            raise NotTraceable("an assignment to picked entries")
        target = plain_array(self)[_as_view(index)]
        np.copyto(target, plain_array(value))
        note("copyto", np.copyto, target, plain_array(value), out=target)

    def astype(self, dtype: Any, *, copy: bool = True) -> Any:  # type: ignore[override]
        """Record a conversion."""
        if not copy and self.dtype == dtype:
            return self
        result = _new_array(plain_array(self).astype(dtype))
        note("copyto", np.copyto, result, plain_array(self), "unsafe", out=result)
        return result.view(Traced)

    def copy(self, order: Any = "C") -> Any:
        """Record a copy."""
        return self.astype(self.dtype)

    def __copy__(self) -> Any:
        return self.copy()

    def _refuse_read(self, *args: Any, **kwargs: Any) -> Any:
        raise NotTraceable("the step read a value")

    __bool__ = __int__ = __float__ = __index__ = item = tolist = argmax = argmin = _refuse_read


def note(name: str, function: Callable[..., Any], *arguments: Any, out: Any) -> None:
    """Record an operation that was just done. `out` is one of its arguments."""
    if _tape.operations is None:
        raise NotTraceable("an array of a recording was used after the recording ended")
    last = next(i for i in reversed(range(len(arguments))) if arguments[i] is out)
    _tape.operations.append(Operation(name, function, arguments, last))


class TracingBackend(NumpyBackend):
    """NumPy, recording a formula that runs in slices as one operation, or all its operations."""

    def __init__(self, elementwise: bool) -> None:
        self._elementwise = elementwise

    def apply(
        self,
        formula: Callable[..., Any],
        *inputs: Array,
        out: Array | tuple[Array, ...],
        **constants: float,
    ) -> None:
        """Write ``formula(*inputs, **constants)`` into `out`, and record it."""
        if self._elementwise:
            Backend.apply(self, formula, *inputs, out=out, **constants)
            return
        if inputs[0].size <= self.slice_size:
            super().apply(formula, *inputs, out=out, **constants)
            return
        plain_inputs, target = tuple([plain_array(a) for a in inputs]), plain_array(out)

        def run(*arrays: Array) -> None:
            NumpyBackend.apply(self, formula, *arrays[:-1], out=arrays[-1], **constants)

        run(*plain_inputs, target)
        note(formula.__name__, run, *plain_inputs, target, out=target)


def trace(
    objective: Objective,
    x: Array,
    y: Array,
    scale: Array | None = None,
    by_row: RowClipping | None = None,
    workspace: Workspace | None = None,
    elementwise: bool = False,
) -> Program:
    """Return the program of forward, loss and backward, which works on these arrays.

    With `elementwise`, each formula is recorded operation by operation, for any size of arrays.
    """
    shadow, shadows = copy.copy(objective), {}
    workspace = objective.model.workspace if workspace is None else workspace
    program = Program(x, y, scale)
    backend = TracingBackend(elementwise)
    for layer in objective.model.all_layers:
        one = shadows[id(layer)] = copy.copy(layer)
        one.params, one.grads, one.buffers = (
            Views({k: a.view(Traced) for k, a in views.items()})
            for views in (layer.params, layer.grads, layer.buffers)
        )
        one.use(backend, _TracedWorkspace(workspace))
        if layer.draws:
            key = program.scalars[f"{layer.name}.key"] = np.asarray(layer.key(layer.passes))
            vars(one)["key"] = _constant_key(key)
    for one in shadows.values():
        if one.inner_layers:
            one.exchange_inner(shadows)
    shadow.replace(shadows)
    with _recording(program.operations):
        weights = None if scale is None else scale.view(Traced)
        done = plain.step(shadow, x.view(Traced), y.view(Traced), weights, by_row=by_row)
        program.value, program.z, program.norms = [plain_array(a) for a in done[:3]]
    return program


def _constant_key(key: Array) -> Callable[[int], Any]:
    """Return a method `key` of a layer with a number that the caller fills in."""
    return lambda passes: key.view(Traced)


class Update(NamedTuple):
    """The steps from a mean gradient to new parameters, in order, and the batches per update."""

    penalty: Penalty
    clipping: Clipping
    updater: Updater
    parts: int = 1


def trace_update(program: Program, model: Sequential, update: Update, mean: Array) -> None:
    """Add the operations after the cut to a program: penalty, clipping, updater's formula.

    With accumulation, `mean` is the mean gradient of the batches so far. After an update it is 0
    again.
    """
    parameters, updater = _TracedParameters(model), update.updater
    updater.step += 1
    formula, constants = updater.formula(updater.learning_rate)
    updater.step -= 1
    inputs, out = updater.arrays(model)
    for name in updater.varying:
        program.scalars[name] = np.asarray(constants[name], model.dtype)
    if update.parts > 1:
        program.scalars["share"] = np.asarray(1.0, model.dtype)
        with _recording(program.window):
            traced = mean.view(Traced), program.scalars["share"].view(Traced)
            traced[0][...] = moved_mean(traced[0], parameters.flat_grads, traced[1])
    with _recording(program.update):
        if update.parts > 1:
            parameters.flat_grads[...] = mean.view(Traced)
            mean.view(Traced)[...] = 0
        update.penalty.add_gradient(parameters)
        update.clipping.clip(parameters.flat_grads)
        parameters.backend.apply(
            formula,
            *[a.view(Traced) for a in inputs],
            out=tuple([a.view(Traced) for a in out]),
            **constants | {name: program.scalars[name].view(Traced) for name in updater.varying},
        )


class _TracedParameters:
    """The flat vectors of a model, which record operations."""

    def __init__(self, model: Sequential) -> None:
        self.backend: Backend = TracingBackend(elementwise=True)
        self.flat_params = model.flat_params.view(Traced)
        self.flat_grads = model.flat_grads.view(Traced)
        self.n_weights = model.n_weights


@contextmanager
def _recording(operations: list[Operation]) -> Iterator[None]:
    """Let traced arrays record operations in this list."""
    _tape.operations, _tape.known = operations, {}
    try:
        yield
    finally:
        _tape.operations, _tape.known = None, {}


class _TracedWorkspace(Workspace):
    """The arrays of a model's workspace, which record operations."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def empty(
        self, name: str, shape: tuple[int, ...], dtype: Any, backend: Backend | None = None
    ) -> Array:
        """Return one of the arrays."""
        return self._workspace.empty(name, shape, dtype, backend).view(Traced)


def plain_array(a: Any) -> Any:
    """Return a recorded array as a plain one, always the same object for the same array."""
    if not isinstance(a, Traced):
        return a
    if _tape.operations is None:
        raise NotTraceable("an array of a recording was used after the recording ended")
    interface = a.__array_interface__
    key = interface["data"][0], interface["typestr"], a.shape, a.strides
    return _tape.known.setdefault(key, a.view(np.ndarray))


def _new_array(result: Any) -> Array:
    """Return a result in new memory, and recognize it later."""
    array: Array = np.asarray(result)
    interface = array.__array_interface__
    _tape.known[interface["data"][0], interface["typestr"], array.shape, array.strides] = array
    return array


def _is_default(name: str, value: Any) -> bool:
    """Return whether a setting of a ufunc has its default value."""
    if name in ("dtype", "out"):
        return value is None
    return name == "subok" or (name == "where" and value is True) or value is np._NoValue


def _with_constants(inputs: tuple[Any, ...], result: Array) -> list[Any]:
    """Return the inputs, with Python numbers as arrays without axes, which are faster in calls."""
    dtypes = {a.dtype for a in inputs if isinstance(a, np.ndarray)}
    dtype = dtypes.pop()
    if dtypes or dtype.kind != "f" or result.dtype not in (dtype, np.dtype(bool)):
        return list(inputs)
    return [_constant(float(a), dtype) if _is_number(a, dtype) else a for a in inputs]


def _is_number(a: Any, dtype: Any) -> bool:
    """Return whether an input is a number that the dtype represents or converts."""
    return isinstance(a, int | float) or (isinstance(a, np.integer) and int(dtype.type(a)) == a)


@functools.cache
def _constant(value: float, dtype: Any) -> Array:
    return np.asarray(value, dtype)


def _is_basic(index: Any) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    kinds = int | np.integer | slice
    return all(part is None or part is ... or isinstance(part, kinds) for part in parts)


def _as_view(index: Any) -> tuple[Any, ...]:
    """Return an index that gives a view without axes instead of the current value."""
    parts = index if isinstance(index, tuple) else (index,)
    return parts if any(part is ... for part in parts) else (*parts, ...)


def _copy_where(condition: Array, one: Any, other: Any, out: Array) -> None:
    np.copyto(out, other)
    np.copyto(out, one, "same_kind", condition)


def _copy_picked(source: Array, index: Any, out: Array) -> None:
    out[...] = source[index]
