"""A tape: what a step does to its arrays, noted operation by operation."""

import copy
import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from minigd.backends.base import Backend, NumpyBackend, Views
from minigd.backends.workspace import Workspace
from minigd.execution.numba_loops import FastBackend, constant_names
from minigd.nn.objective import Objective
from minigd.types import Array


class Operation(NamedTuple):
    """One call of the list: ``function(*arguments)``, which writes into ``arguments[last]``."""

    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    last: int


class NotRecorded(Exception):
    """A step did something that can't be replayed, such as looking at a number."""


class _Tape(threading.local):
    """What the recording in hand has noted; each thread has its own."""

    operations: list[Operation] | None = None
    known: dict[Any, Array]


_tape = _Tape()


class Recorded(np.ndarray):
    """An array that notes what is done to it, on the tape of the recording in hand."""

    def __array_finalize__(self, obj: Any) -> None:
        # Memory that appears without an operation on the tape would hold the same numbers for ever.
        if isinstance(obj, Recorded) and self.base is None:
            raise NotRecorded("an array was copied")

    def __array_ufunc__(
        self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **settings: Any
    ) -> Any:
        settings = {k: v for k, v in settings.items() if not _is_default(k, v)}
        inputs = tuple([plain_array(a) for a in inputs])
        if method == "__call__" and not settings.keys() - {"casting"}:
            result = ufunc(*inputs, **settings) if out is None else plain_array(out[0])
            result = _new_array(result) if out is None else result
            if out is not None:
                if not np.can_cast(np.result_type(*inputs), result.dtype, "same_kind"):
                    raise NotRecorded(f"{ufunc.__name__} into {result.dtype}")
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
            raise NotRecorded(f"{ufunc.__name__}.{method} with {', '.join(settings)}")
        return result.view(Recorded)

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
            raise NotRecorded(function.__name__)
        return result.view(Recorded)

    def __getitem__(self, index: Any) -> Any:
        if _is_basic(index):
            return super().__getitem__(index)
        if isinstance(index, tuple):
            index = tuple([plain_array(i) for i in index])
        else:
            index = plain_array(index)
        source = plain_array(self)
        result = _new_array(source[index].copy())
        note("pick", _copy_picked, source, index, result, out=result)
        return result.view(Recorded)

    def __setitem__(self, index: Any, value: Any) -> None:
        if not _is_basic(index):
            raise NotRecorded("an assignment to picked entries")
        target = plain_array(self)[index]
        np.copyto(target, plain_array(value))
        note("copyto", np.copyto, target, plain_array(value), out=target)

    def astype(self, dtype: Any, *, copy: bool = True) -> Any:  # type: ignore[override]
        """Note a conversion."""
        if not copy and self.dtype == dtype:
            return self
        result = _new_array(plain_array(self).astype(dtype))
        note("copyto", np.copyto, result, plain_array(self), "unsafe", out=result)
        return result.view(Recorded)

    def _refuse_read(self, *args: Any, **kwargs: Any) -> Any:
        raise NotRecorded("the step looked at a number")

    __bool__ = __int__ = __float__ = __index__ = item = tolist = argmax = argmin = _refuse_read


def note(name: str, function: Callable[..., Any], *arguments: Any, out: Any) -> None:
    """Put an operation that was just done on the tape; `out` is one of its arguments."""
    if _tape.operations is None:
        raise NotRecorded("an array of a recording was used behind its end")
    last = next(i for i in reversed(range(len(arguments))) if arguments[i] is out)
    _tape.operations.append(Operation(name, function, arguments, last))


class RecordingBackend(NumpyBackend):
    """NumPy, which notes a formula that runs in slices, or compiled, as one operation."""

    def __init__(self, fast: FastBackend | None) -> None:
        self.fast = fast

    def apply(
        self,
        formula: Callable[..., Any],
        *inputs: Array,
        out: Array | tuple[Array, ...],
        where: Array | None = None,
        **constants: float,
    ) -> Array | None:
        """Write ``formula(*inputs, **constants)`` into `out`, and note how."""
        plain, target = tuple([plain_array(a) for a in inputs]), plain_array(out)
        call = None if self.fast is None else self.fast.call(formula, plain, (target,))
        if call is not None:
            arguments = (*call.arrays, *[constants[name] for name in constant_names(formula)])
            call.loop(*arguments)
            note(formula.__name__, call.loop, *arguments, out=call.arrays[-1])
            return None
        if inputs[0].size <= self.slice_size:
            return super().apply(formula, *inputs, out=out, where=where, **constants)

        def run(*arrays: Array) -> None:
            NumpyBackend.apply(self, formula, *arrays[:-1], out=arrays[-1], **constants)

        run(*plain, target)
        note(formula.__name__, run, *plain, target, out=target)
        return None


@contextmanager
def recording(
    objective: Objective, fast: FastBackend | None
) -> Iterator[tuple[Objective, list[Operation]]]:
    """Give an objective whose layers and loss note what they do, beside the one in use."""
    shadow, workspace = copy.copy(objective), _RecordedWorkspace(objective.model.workspace)
    shadows = {}
    for layer in objective.model.layers:
        one = shadows[id(layer)] = copy.copy(layer)
        one.params, one.grads, one.buffers = (
            Views({k: a.view(Recorded) for k, a in views.items()})
            for views in (layer.params, layer.grads, layer.buffers)
        )
        one.use(RecordingBackend(fast), workspace)
    shadow.replace(shadows)
    _tape.operations, _tape.known = [], {}
    try:
        yield shadow, _tape.operations
    finally:
        _tape.operations, _tape.known = None, {}


class _RecordedWorkspace(Workspace):
    """The arrays of a model's workspace, which note what is done to them."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def empty(
        self, name: str, shape: tuple[int, ...], dtype: Any, backend: Backend | None = None
    ) -> Array:
        """Return one of the arrays."""
        return self._workspace.empty(name, shape, dtype, backend).view(Recorded)


def plain_array(a: Any) -> Any:
    """Return a recorded array as a plain one, and the same one whenever it is the same."""
    if not isinstance(a, Recorded):
        return a
    if _tape.operations is None:
        raise NotRecorded("an array of a recording was used behind its end")
    interface = a.__array_interface__
    key = interface["data"][0], interface["typestr"], a.shape, a.strides
    return _tape.known.setdefault(key, a.view(np.ndarray))


def _new_array(result: Any) -> Array:
    """Return a result in memory of its own, and know it again."""
    array: Array = np.asarray(result)
    interface = array.__array_interface__
    _tape.known[interface["data"][0], interface["typestr"], array.shape, array.strides] = array
    return array


def _is_default(name: str, value: Any) -> bool:
    """Tell whether a setting of a ufunc says nothing that is not the case anyway."""
    if name in ("dtype", "out"):
        return value is None
    return name == "subok" or (name == "where" and value is True) or value is np._NoValue


def _with_constants(inputs: tuple[Any, ...], result: Array) -> list[Any]:
    """Return the inputs, Python numbers as arrays without axes, which a call takes up faster."""
    dtypes = {a.dtype for a in inputs if isinstance(a, np.ndarray)}
    dtype = dtypes.pop()
    if dtypes or dtype.kind != "f" or result.dtype not in (dtype, np.dtype(bool)):
        return list(inputs)
    return [_constant(float(a), dtype) if _is_number(a, dtype) else a for a in inputs]


def _is_number(a: Any, dtype: Any) -> bool:
    """Tell whether an input is a number that the dtype holds as it is, or takes over as its own."""
    return isinstance(a, int | float) or (isinstance(a, np.integer) and int(dtype.type(a)) == a)


@functools.cache
def _constant(value: float, dtype: Any) -> Array:
    return np.asarray(value, dtype)


def _is_basic(index: Any) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return all(part is None or part is ... or isinstance(part, int | slice) for part in parts)


def _copy_where(condition: Array, one: Any, other: Any, out: Array) -> None:
    np.copyto(out, other)
    np.copyto(out, one, "same_kind", condition)


def _copy_picked(source: Array, index: Any, out: Array) -> None:
    out[...] = source[index]
