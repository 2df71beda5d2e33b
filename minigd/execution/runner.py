"""Which step is run: a recording's replay where there is one, and the plain step otherwise.

On a GPU nothing is replayed, and layers that stand side by side are fused: `fusion.py`.
"""

import functools
import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from minigd.backends.base import NumpyBackend
from minigd.execution import plain
from minigd.execution.fusion import fuse
from minigd.execution.numba_loops import FastBackend
from minigd.execution.per_example import RowClipping
from minigd.execution.replay import Recording
from minigd.nn.layers import LAYERS
from minigd.nn.losses import LOSSES
from minigd.nn.objective import Objective
from minigd.types import Array

MOST = 8
"""Batches of how many different sizes a trainer keeps recordings of."""

_METHODS = ("forward", "backward", "mean", "per_example", "gradient", "targets")


class Steps:
    """Chooses how the training steps of an objective are run.

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
        self._parts = Parts([*objective.layers, objective.loss]) if replay else None
        self._replay = replay
        self._fuse()
        self._recordable = replay and _is_recordable(objective)

    def find_recording(
        self, x: Array, y: Array, scale: Array | None = None, by_row: RowClipping | None = None
    ) -> Recording | None:
        """Return the recording that does the step of such a batch, or None for the plain step."""
        can_replay = self._recordable and scale is None
        return self._find(x, y, by_row) if can_replay else None

    def _find(self, x: Array, y: Array, by_row: RowClipping | None) -> Recording | None:
        key = (x.shape, y.shape, y.dtype, by_row and (by_row.limit,))
        if key in self._recordings:
            return self._recordings[key]
        # A size that does not come again is not worth a recording, nor are many that take turns.
        if key not in self._seen or len(self._recordings) == MOST:
            if len(self._seen) < 10 * MOST:
                self._seen.add(key)
            return None
        self._recordings[key] = self._record(x, y, by_row)
        return self._recordings[key]

    @contextmanager
    def layers(self, by_row: RowClipping | None = None) -> Iterator[Objective]:
        """Give the objective of a plain step, whose layers run their formulas by `fast`."""
        objective = self._fused if by_row is None else self.objective
        fast, backend = self._fast, objective.model.backend
        lent_to = [] if fast is None else objective.layers
        # For the step alone: predictions and other trainers have the model's own.
        for layer in lent_to:
            layer.backend = fast or backend
        try:
            yield objective
        finally:
            for layer in lent_to:
                layer.backend = backend

    def run_plain(
        self,
        x: Array,
        y: Array,
        scale: Array | None = None,
        update: Callable[[Any], Any] = plain.no_update,
        by_row: RowClipping | None = None,
    ) -> plain.Step:
        """Run the plain step."""
        with self.layers(by_row) as objective:
            return plain.step(objective, x, y, scale, update, by_row)

    def refresh(self) -> None:
        """Forget the recordings if a constant or a method of a layer or the loss was changed."""
        if self._parts is not None and self._parts.changed():
            self._recordings.clear()
            self._fuse()

    def _fuse(self) -> None:
        """Put fused layers in the place of those that stand side by side."""
        objective = self.objective
        on_gpu = not objective.model.backend.reads_are_free
        self._fused = fuse(objective) if self._replay and on_gpu else objective

    def _record(self, x: Array, y: Array, by_row: RowClipping | None) -> Recording | None:
        """Record a step, and keep it if it gives the same bits as the layers for other rows."""
        model = self.objective.model
        running = [layer.buffers[name] for layer in model.layers for name in layer.running]
        before = [buffer.copy() for buffer in running]
        passes = model.passes

        def restore() -> None:
            model.passes = passes
            for buffer, old in zip(running, before, strict=True):
                buffer[...] = old

        try:
            # Once without a tape: what a layer looks up only once is then known.
            self.run_plain(x, y, by_row=by_row)
            restore()
            recording = Recording(self.objective, x, y, self._fast, by_row)
        except Exception:
            # Whatever a recording stumbles over, the layers themselves do the step, or say why not.
            restore()
            return None
        results = []
        for run in (recording, functools.partial(self.run_plain, by_row=by_row)):
            restore()
            value, _, norms, _ = run(x[::-1], y[::-1])
            found = [value, model.flat_grads.copy(), *(b.copy() for b in running)]
            results.append(found if norms is None else [*found, norms.copy()])
        restore()
        same = all(
            np.array_equal(one, other, equal_nan=True) for one, other in zip(*results, strict=True)
        )
        return recording if same else None


def _is_recordable(objective: Objective) -> bool:
    """Tell whether a tape shows everything that the layers and the loss do in a step."""
    # A class from outside may do what a tape does not show, such as counting its calls.
    return (
        type(objective.model.backend) is NumpyBackend
        and all(LAYERS.get(type(a).__name__) is type(a) and not a.draws for a in objective.layers)
        and type(objective.loss) in LOSSES.values()
    )


class Parts:
    """Tells whether a constant or a method of layers and a loss was changed.

    Everything is compared only where an attribute is another object than it was, so that asking
    after every callback costs little.
    """

    def __init__(self, parts: Sequence[Any]) -> None:
        self._parts = parts
        self._remember()

    def changed(self) -> bool:
        """Tell whether one was changed since the last call."""
        for part, attributes, methods_of, methods in self._known:
            now = vars(part)
            if len(now) != len(attributes) or not (
                all(map(operator.is_, now.values(), attributes.values()))
                and all(map(operator.is_, methods_of(type(part)), methods))
            ):
                before = self._values
                self._remember()
                return before != self._values
        return False

    def _remember(self) -> None:
        self._values = [_values(part) for part in self._parts]
        self._known = []
        for part in self._parts:
            kind = type(part)
            methods_of = operator.attrgetter(*[n for n in _METHODS if hasattr(kind, n)])
            self._known.append((part, dict(vars(part)), methods_of, methods_of(kind)))


def _values(part: Any) -> Any:
    """Return the methods of a layer or loss, of its class and its own, and its constants."""
    own = vars(part)
    return (
        [getattr(type(part), name, None) for name in _METHODS],
        [method for method in map(own.get, _METHODS) if callable(method)],
        {name: value for name, value in own.items() if _is_constant(name, value)},
    )


def _is_constant(name: str, value: Any) -> bool:
    return name not in ("passes", "wants_dx") and isinstance(value, int | float | str | bool)
