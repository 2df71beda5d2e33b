"""A training step as the list of its operations: recorded once, then replayed line by line.

The list is what layers and loss did to real arrays, on buffers that stay; nothing is written twice,
and a replay gives the same bits.
"""

import collections
import copy
import functools
import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from minigd.backends.base import Backend, NumpyBackend, Views
from minigd.backends.workspace import Workspace
from minigd.execution import per_example
from minigd.execution.fusion import fuse
from minigd.execution.numba_loops import (
    FastBackend,
    add_row,
    constant_names,
    looped,
    make_ready,
    sum_rows,
)
from minigd.execution.per_example import RowClipping
from minigd.execution.profiler import Receipt
from minigd.nn.layers import LAYERS
from minigd.nn.losses import LOSSES
from minigd.nn.objective import Objective
from minigd.types import Array

MOST = 8
"""Batches of how many different sizes a trainer keeps recordings of."""


_METHODS = ("forward", "backward", "mean", "per_example", "gradient", "targets")


class Operation(NamedTuple):
    """One call of the list: ``function(*arguments)``, which writes into ``arguments[last]``."""

    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    last: int


class Step(NamedTuple):
    """What a step came to: its mean loss, its outputs, and the norms of its rows if asked for."""

    value: Any
    z: Array
    norms: Array | None


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
        settings = {k: v for k, v in settings.items() if not _usual(k, v)}
        inputs = tuple([_plain(a) for a in inputs])
        if method == "__call__" and not settings.keys() - {"casting"}:
            result = ufunc(*inputs, **settings) if out is None else _plain(out[0])
            result = _new(result) if out is None else result
            if out is not None:
                if not np.can_cast(np.result_type(*inputs), result.dtype, "same_kind"):
                    raise NotRecorded(f"{ufunc.__name__} into {result.dtype}")
                ufunc(*inputs, out=result)
            note(ufunc.__name__, ufunc, *_scalars(inputs, result), result, out=result)
        elif method == "reduce" and not settings.keys() - {"axis", "keepdims"}:
            axis, keepdims = settings.get("axis", 0), settings.get("keepdims", False)
            target = None if out is None else _plain(out[0])
            result = ufunc.reduce(*inputs, axis, None, target, keepdims)
            result = _new(result) if out is None else target
            arguments = (*inputs, axis, None, result, keepdims)
            note(f"{ufunc.__name__}.reduce", ufunc.reduce, *arguments, out=result)
        else:
            raise NotRecorded(f"{ufunc.__name__}.{method} with {', '.join(settings)}")
        return result.view(Recorded)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        plain = tuple([_plain(a) for a in args])
        if function is np.dot and len(plain) == 2:
            out = kwargs.get("out")
            result = _new(np.dot(*plain)) if out is None else np.dot(*plain, _plain(out))
            note("dot", np.dot, *plain, result, out=result)
        elif function is np.where and len(plain) == 3 and not kwargs:
            result = _new(np.where(*plain))
            note("where", _where, *plain, result, out=result)
        else:
            raise NotRecorded(function.__name__)
        return result.view(Recorded)

    def __getitem__(self, index: Any) -> Any:
        if _is_basic(index):
            return super().__getitem__(index)
        index = tuple([_plain(i) for i in index]) if isinstance(index, tuple) else _plain(index)
        source = _plain(self)
        result = _new(source[index].copy())
        note("pick", _pick, source, index, result, out=result)
        return result.view(Recorded)

    def __setitem__(self, index: Any, value: Any) -> None:
        if not _is_basic(index):
            raise NotRecorded("an assignment to picked entries")
        target = _plain(self)[index]
        np.copyto(target, _plain(value))
        note("copyto", np.copyto, target, _plain(value), out=target)

    def astype(self, dtype: Any, *, copy: bool = True) -> Any:  # type: ignore[override]
        """Note a conversion."""
        if not copy and self.dtype == dtype:
            return self
        result = _new(_plain(self).astype(dtype))
        note("copyto", np.copyto, result, _plain(self), "unsafe", out=result)
        return result.view(Recorded)

    def _look(self, *args: Any, **kwargs: Any) -> Any:
        raise NotRecorded("the step looked at a number")

    __bool__ = __int__ = __float__ = __index__ = item = tolist = argmax = argmin = _look


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
        plain, target = tuple([_plain(a) for a in inputs]), _plain(out)
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
        clipping: RowClipping | None = None,
    ) -> None:
        self._model = objective.model
        self._x, self._y = x, y.copy()
        with _recording(objective, fast) as (shadow, operations):
            value, z = shadow.forward(self._x.view(Recorded), self._y.view(Recorded))
            norms = _backward(shadow, clipping)
            self._value, self._z, self._norms = _plain(value), _plain(z), _plain(norms)
        wanted = [self._value, self._z, *([] if norms is None else [self._norms])]
        self.operations = shorten(operations, wanted)
        if fast is not None:
            self.operations = [_of_rows(operation) for operation in self.operations]
        self._replay = _straight(self.operations, self._x)

    def __call__(self, x: Array, y: Array) -> Step:
        """Do the step for another batch of the same size."""
        self._y[...] = y
        self._model.passes += 1
        self._replay(x)
        return Step(self._value[()], self._z, self._norms)

    def by_the_clock(self, x: Array, y: Array, receipt: Receipt) -> Step:
        """Do the same operation by operation, for a receipt."""
        self._y[...] = y
        self._model.passes += 1
        calls = []
        for name, function, arguments, _ in self.operations:
            for i, a in enumerate(arguments):
                if isinstance(a, np.ndarray) and _overlap(a, self._x):
                    turned = a.shape != x.shape or a.strides != self._x.strides
                    arguments = (*arguments[:i], x.T if turned else x, *arguments[i + 1 :])
            if isinstance(function, np.ufunc):
                function = functools.partial(function, out=arguments[-1])
                arguments = arguments[:-1]
            calls.append((name, function, arguments))
        receipt.run(calls)
        return Step(self._value[()], self._z, self._norms)

    def __str__(self) -> str:
        names = {_place(self._x): "x", _place(self._y): "y", _place(self._z): "z"}
        for key, array in self._model.params.items():
            names[_place(array)] = key
        for key, array in self._model.grads.items():
            layer, _, name = key.rpartition(".")
            names[_place(array)] = f"{layer}.d{name}"
        for key, array in self._model.workspace.named():
            names.setdefault(_place(array), key)
        numbers = itertools.count(1)
        lines = []
        for operation in self.operations:
            words = [_word(a, names, numbers) for a in operation.arguments]
            lines.append(f"{operation.name}({', '.join(words)})")
        return "\n".join(lines)


class Steps:
    """Training steps of an objective: replayed where they can be, and done by the layers otherwise.

    On a GPU nothing is replayed, and layers that stand side by side are fused: `fusion.py`.

    Parameters
    ----------
    objective : Objective
    replay : bool, default True
        Whether to replay, or fuse, at all.
    fast : FastBackend, optional
        What runs the formulas of the layers, where it is not the model's backend.
    """

    def __init__(
        self, objective: Objective, replay: bool = True, fast: FastBackend | None = None
    ) -> None:
        self.objective, self._fast = objective, fast
        self._recordings: dict[Any, Recording | None] = {}
        self._seen: set[Any] = set()
        self._constants = self._look()
        loss, layers = objective.loss, objective.layers
        self._replay = replay
        self._fuse()
        # A class from outside may do what a tape does not show, such as counting its calls.
        self._recordable = replay and (
            type(objective.model.backend) is NumpyBackend
            and all(LAYERS.get(type(a).__name__) is type(a) and not a.draws for a in layers)
            and type(loss) in LOSSES.values()
        )

    def __call__(
        self,
        x: Array,
        y: Array,
        scale: Array | None,
        receipt: Receipt | None = None,
        clipping: RowClipping | None = None,
    ) -> Step:
        """Go forward and backward; the outputs and norms are overwritten by the next step.

        With a receipt the operations are timed; with `clipping`, which need not limit anything,
        there are norms.
        """
        if self._recordable and scale is None:
            recording = self._recording(x, y, clipping)
            if recording is not None:
                if receipt is not None:
                    return recording.by_the_clock(x, y, receipt)
                return recording(x, y)
        return self._by_layers(x, y, scale, clipping)

    def _by_layers(
        self,
        x: Array,
        y: Array,
        scale: Array | None = None,
        clipping: RowClipping | None = None,
    ) -> Step:
        objective = self._fused if clipping is None else self.objective
        layers, model = objective.layers, objective.model
        if self._fast is not None:
            # Lent for the step alone: predictions and other trainers have the model's own.
            for layer in layers:
                layer.backend = self._fast
        try:
            value, z = objective.forward(x, y, scale)
            norms = _backward(objective, clipping, scale)
        finally:
            for layer in layers:
                layer.backend = model.backend
        return Step(value, z, norms)

    def refresh(self) -> None:
        """Forget the recordings if a constant or a method of a layer or the loss was changed."""
        constants = self._look()
        if constants != self._constants:
            self._constants = constants
            self._recordings.clear()
            self._fuse()

    def _fuse(self) -> None:
        """Put fused layers in the place of those that stand side by side."""
        objective = self.objective
        on_gpu = not objective.model.backend.reads_are_free
        self._fused = fuse(objective) if self._replay and on_gpu else objective

    def _look(self) -> list[Any]:
        parts = [*self.objective.layers, self.objective.loss]
        return [
            (
                [getattr(type(part), name, None) for name in _METHODS],
                [a for a in map(vars(part).get, _METHODS) if callable(a)],
                {k: v for k, v in vars(part).items() if _is_constant(k, v)},
            )
            for part in parts
        ]

    def _recording(self, x: Array, y: Array, clipping: RowClipping | None) -> Recording | None:
        key = (x.shape, y.shape, y.dtype, clipping and (clipping.limit,))
        if key in self._recordings:
            return self._recordings[key]
        # A size that does not come again is not worth a recording, nor are many that take turns.
        if key not in self._seen or len(self._recordings) == MOST:
            if len(self._seen) < 10 * MOST:
                self._seen.add(key)
            return None
        self._recordings[key] = self._record(x, y, clipping)
        return self._recordings[key]

    def _record(self, x: Array, y: Array, clipping: RowClipping | None) -> Recording | None:
        """Record a step, and keep it if it gives the same bits as the layers for other rows."""
        model, objective = self.objective.model, self.objective
        running = [layer.buffers[name] for layer in model.layers for name in layer.running]
        before = [buffer.copy() for buffer in running]
        passes = model.passes

        def restore() -> None:
            model.passes = passes
            for buffer, old in zip(running, before, strict=True):
                buffer[...] = old

        try:
            # Once without a tape: what a layer looks up only once is then known.
            self._by_layers(x, y, None, clipping)
            restore()
            recording = Recording(objective, x, y, self._fast, clipping)
        except Exception:
            # Whatever a recording stumbles over, the layers themselves do the step, or say why not.
            restore()
            return None
        results = []
        for step in (recording, functools.partial(self._by_layers, clipping=clipping)):
            restore()
            value, _, norms = step(x[::-1], y[::-1])
            found = [value, model.flat_grads.copy(), *(b.copy() for b in running)]
            results.append(found if norms is None else [*found, norms.copy()])
        restore()
        same = all(
            np.array_equal(one, other, equal_nan=True) for one, other in zip(*results, strict=True)
        )
        return recording if same else None


def _backward(
    objective: Objective, clipping: RowClipping | None, scale: Array | None = None
) -> Array | None:
    if clipping is not None:
        return per_example.backward(objective, clipping, scale)
    objective.backward()
    return None


@contextmanager
def _recording(
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


def shorten(operations: list[Operation], wanted: list[Array]) -> list[Operation]:
    """Return fewer operations that come to the same bits.

    A result that was computed before is not computed again, a division by 1 is left out, a sum of
    one number is that number, and what is only copied elsewhere is written there at once.
    """
    return _without_copies(_without_repeats(operations), wanted)


def _without_repeats(operations: list[Operation]) -> list[Operation]:
    same: dict[int, Array] = {}  # an array that would hold the same numbers as an earlier one
    seen: dict[Any, Operation] = {}
    written = collections.Counter(id(o.arguments[o.last]) for o in operations)
    left = []
    for operation in operations:
        arguments = tuple([same.get(id(a), a) for a in operation.arguments])
        operation = _of_one_row(operation._replace(arguments=arguments))
        arguments, out = operation.arguments, operation.arguments[operation.last]
        inputs = arguments[: operation.last] + arguments[operation.last + 1 :]
        # What is written once keeps its numbers, and can stand for others that are the same.
        fresh = out.base is None and written[id(out)] == 1
        if operation.name == "divide" and _is_one(inputs[1]):
            if out is inputs[0]:
                continue
            if fresh and written[id(inputs[0])] == 1 and inputs[0].base is None:
                same[id(out)] = inputs[0]
                continue
        key = (operation.name, operation.last, *[_identity(a) for a in inputs])
        before = seen.get(key)
        if before is not None and fresh and before.arguments[before.last].shape == out.shape:
            same[id(out)] = before.arguments[before.last]
            continue
        # What was computed from numbers that are overwritten now would be computed anew.
        seen = {k: o for k, o in seen.items() if not any(_overlap(a, out) for a in o.arguments)}
        if fresh and operation.name != "copyto":
            seen[key] = operation
        left.append(operation)
    return left


def _of_one_row(operation: Operation) -> Operation:
    """Return a sum over one row, or one column, as the copy that it is."""
    if operation.name != "add.reduce":
        return operation
    array, axis, _, out, _ = operation.arguments
    if array.size != out.size or array.shape[0 if axis is None else axis] != 1:
        return operation
    return Operation("copyto", np.copyto, (out, array.reshape(out.shape)), 0)


def _of_rows(operation: Operation) -> Operation:
    """Return what is done to all rows of a batch alike as a compiled loop, where there is one."""
    name, _, arguments, last = operation
    batch = arguments[0]
    loop: Callable[[Array, Array], None]
    if name == "add" and arguments[2] is batch:
        loop, row = add_row, arguments[1]
    elif name == "add.reduce" and arguments[1] == 0:
        loop, row = sum_rows, arguments[last]
    else:
        return operation
    # NumPy sums a single column in pairs, and the bits are to be the same.
    fits = (
        isinstance(row, np.ndarray)
        and batch.ndim == 2
        and batch.shape[1:] == row.shape != (1,)
        and batch.dtype == row.dtype
        and batch.flags.c_contiguous
        and row.flags.c_contiguous
    )
    if not fits:
        return operation
    compiled = looped(loop)
    make_ready(compiled, (batch, row))
    return Operation(loop.__name__, compiled, (batch, row), int(loop is sum_rows))


def _without_copies(operations: list[Operation], wanted: list[Array]) -> list[Operation]:
    left: list[Operation] = []
    for i, operation in enumerate(operations):
        if left and operation.name == "copyto" and len(operation.arguments) == 2:
            target, source = operation.arguments
            last = left[-1]
            later = [a for o in operations[i + 1 :] for a in o.arguments]
            if (
                last.arguments[last.last] is source
                and source.base is None
                and (source.shape, source.dtype) == (target.shape, target.dtype)
                and not any(_overlap(a, source) for a in [*later, *wanted])
                and not any(_overlap(a, target) for a in last.arguments)
            ):
                swapped = list(last.arguments)
                swapped[last.last] = target
                left[-1] = last._replace(arguments=tuple(swapped))
                continue
        left.append(operation)
    return left


def _straight(operations: list[Operation], x: Array) -> Callable[[Array], None]:
    """Return a function of x that does the operations one after the other, without a loop."""
    constants: dict[int, tuple[str, Any]] = {}

    def word(a: Any) -> str:
        if isinstance(a, np.ndarray) and _overlap(a, x):
            for name, view in (("x", x), ("x.T", x.T)):
                if (a.shape, a.strides, _place(a)) == (view.shape, view.strides, _place(view)):
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


def _plain(a: Any) -> Any:
    """Return a recorded array as a plain one, and the same one whenever it is the same."""
    if not isinstance(a, Recorded):
        return a
    if _tape.operations is None:
        raise NotRecorded("an array of a recording was used behind its end")
    interface = a.__array_interface__
    key = interface["data"][0], interface["typestr"], a.shape, a.strides
    return _tape.known.setdefault(key, a.view(np.ndarray))


def _new(result: Any) -> Array:
    """Return a result in memory of its own, and know it again."""
    array: Array = np.asarray(result)
    interface = array.__array_interface__
    _tape.known[interface["data"][0], interface["typestr"], array.shape, array.strides] = array
    return array


def _usual(name: str, value: Any) -> bool:
    """Tell whether a setting of a ufunc says nothing that is not the case anyway."""
    if name in ("dtype", "out"):
        return value is None
    return name == "subok" or (name == "where" and value is True) or value is np._NoValue


def _scalars(inputs: tuple[Any, ...], result: Array) -> list[Any]:
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


def _where(condition: Array, one: Any, other: Any, out: Array) -> None:
    np.copyto(out, other)
    np.copyto(out, one, "same_kind", condition)


def _pick(source: Array, index: Any, out: Array) -> None:
    out[...] = source[index]


def _place(array: Array) -> int:
    place: int = array.__array_interface__["data"][0]
    return place


def _word(a: Any, names: dict[int, str], numbers: Iterator[int]) -> str:
    """Return what an argument is called in a listing."""
    if isinstance(a, tuple):
        return f"({', '.join([_word(part, names, numbers) for part in a])})"
    if not isinstance(a, np.ndarray):
        return str(a)
    if _place(a) not in names:
        names[_place(a)] = f"t{next(numbers)}"
    name = names[_place(a)]
    return f"{name}.T" if a.ndim == 2 and a.strides[0] < a.strides[1] else name


def _identity(a: Any) -> Any:
    """Return what two arguments that hold the same numbers have in common."""
    if isinstance(a, tuple):
        return tuple([_identity(part) for part in a])
    return id(a) if isinstance(a, np.ndarray | slice) else (type(a), a)


def _is_one(a: Any) -> bool:
    return (isinstance(a, int | float) or (a.ndim == 0 and a.base is None)) and bool(a == 1)


def _overlap(a: Any, other: Array) -> bool:
    parts = a if isinstance(a, tuple) else (a,)
    return any(isinstance(part, np.ndarray) and np.may_share_memory(part, other) for part in parts)


def _is_constant(name: str, value: Any) -> bool:
    return name not in ("passes", "wants_dx") and isinstance(value, int | float | str | bool)
