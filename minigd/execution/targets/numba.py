"""A program as one compiled function, for single steps and for an epoch of rows in memory.

It needs Numba and SciPy, the extra `fast`. Its numbers differ from NumPy's in the last digits, but
not from each other: a step gives the same bits alone, in an epoch, and in batches of any size.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from minigd.execution.finite_guard import Limits, reach, reaches
from minigd.execution.plain import Step
from minigd.execution.targets.any_size import AnySize, Made
from minigd.execution.targets.compiler import Compiled
from minigd.execution.targets.groups import grouped
from minigd.execution.targets.loops import lines_of
from minigd.execution.targets.lowering import Form
from minigd.execution.targets.source import function
from minigd.execution.targets.words import PYTHON
from minigd.types import Array

UNLIMITED = Limits(1.0, math.inf)

NUMBERS = 500_000
"""The amount of numbers of x that are converted at a time, if they have another dtype or layout."""

UNKNOWN, OTHER = -2, -1
"""Instead of the row of numbers for a size: not determined yet, or another program."""


class NumbaStep(AnySize):
    """The step of an objective on the CPU, and its update, for batches of any size."""

    def _compile(self) -> None:
        self._rows = np.full(self.rows + 1, UNKNOWN)
        self.source, self._arrays = self._print(self._form)
        self._run = Compiled(self.source, self._arrays)
        del self._form
        for section in self._program.sections:
            section.clear()  # arrays that only its operations use are not kept

    def _one(self, settings: list[float]) -> dict[str, Array]:
        """Return the arguments of a single step, in reused arrays."""
        columns = len(self._update.updater.varying) + self._accumulates
        dtype = self._model.dtype
        return {
            "settings": np.array(settings, float),
            "X": np.empty(0, dtype),
            "Y": self._y,
            "order": np.arange(self.rows),
            "starts": np.zeros(2, np.int64),
            "scale": np.empty(0, dtype),
            "which": np.zeros(1, np.int64),
            "numbers": np.empty((0, len(self._general.names))),
            "keys": np.empty((1, len(self._drawing)), np.uint64),
            "scalars": np.empty((1, columns)),
            "rates": np.empty(1),
            "limits": np.empty(2),
            "due": np.empty(1, bool),
            "losses": np.empty(1),
            "outputs": np.empty(0, dtype),
        }

    def _print(self, form: Form) -> tuple[str, dict[str, Array]]:
        """Return the source of the function, and the arrays that it works on."""
        model = self._model
        named, sections = self._general.steps(form)
        running = [layer.buffers[name] for layer in model.layers for name in layer.running]
        left = model.flat_params, model.flat_grads, self.mean, *self._state
        restored = sorted({form.number(a) for a in running} - {-1})
        results = [named[key].memory for key in ("value", "z", "norms") if key in named]
        groups, kept = grouped(sections, form, PYTHON)
        kept |= {form.roots[m] for m in [*map(form.number, left), *restored, *results] if m >= 0}
        return function(
            named,
            [[line for g in section for line in lines_of(g, kept)] for section in groups],
            form,
            self._general,
            self._one(form.settings),
            form.number(model.flat_grads),
            restored,
        )

    def takes(self, rows: int) -> bool:
        """Return whether a batch of this many rows runs the same operations."""
        if self._rows[rows] == UNKNOWN:
            self._add_size(rows)
        return bool(self._rows[rows] != OTHER)

    def _add_size(self, n: int) -> None:
        """Add the numbers that depend on the number of rows, if the program is the same."""
        found = self._numbers(n)
        numbers = self._arrays["numbers"]
        self._rows[n] = OTHER if found is None else len(numbers)
        if found is not None:
            self._arrays["numbers"] = np.vstack((numbers, np.array(found)))
            self._run = Compiled(self.source, self._arrays)

    def __call__(
        self,
        x: Array,
        y: Array,
        scale: Array | None = None,
        limits: Limits = UNLIMITED,
        update: bool = False,
        share: float = 1.0,
    ) -> Step:
        """Make one step, of this share of `mean`, and an update if asked for; it is `Made`."""
        n = len(x)
        if not self.takes(n):
            raise ValueError(f"a batch of {n} rows uses operations that were not compiled")
        one, dtype = self._arrays, self._model.dtype
        one["starts"][1], one["which"][0], one["due"][0] = n, self._rows[n], update
        one["limits"][:] = limits[:2]
        self._fill_scalars(share)
        program, norms = self._program, self._program.norms
        program.x[:n], program.y[:n] = x, y
        if program.scale is not None:
            program.scale[:n] = scale
        made, losses = self._run(1, False, False), one["losses"]
        result = Made(made, losses, float(one["limits"][0]), None)
        norms = None if norms is None else norms[:n]
        return Step(dtype.type(losses[0]), program.z[:n], norms, result)

    def run(
        self,
        x: Array,
        y: Array,
        order: Array,
        starts: Array,
        scale: Array | None,
        limits: Limits,
        due: Array,
        shares: Array,
        outputs: bool = False,
    ) -> Made:
        """Make the steps and updates of some batches until one is not safe or has another program.

        Parameters
        ----------
        x, y : Array
            Rows in memory.
        order : Array of int
            The numbers of the rows, batch after batch.
        starts : Array of int
            The start of each batch in `order`, and the end of the last one.
        scale : Array or None
            n w_i/Σw of each row, in their order.
        limits : Limits
        due : Array of bool
            Whether each batch is followed by an update.
        shares : Array
            The share of each batch in `mean`.
        outputs : bool, default False
            Whether to return the outputs of all rows.
        """
        starts, which = self._sizes_of(starts)
        steps, dtype = len(which), self._model.dtype
        z = np.empty((starts[-1] if outputs else 0, self._program.z.shape[1]), dtype)
        losses, bounds, made = np.empty(steps), self._arrays["limits"], 0
        bounds[:] = limits[:2]
        keys, scalars, rates = self._scalars(due[:steps], shares[:steps])
        direct = _as_compiled(x, dtype) is x and _as_compiled(y, self._y.dtype) is y
        for first, last in [(0, steps)] if direct else _pieces(starts, NUMBERS // x.shape[1]):
            rows, some = slice(starts[first], starts[last]), slice(first, last)
            X, Y, places = x, y, order[rows]
            if not direct:
                X, Y = _as_compiled(x[places], dtype), _as_compiled(y[places], self._y.dtype)
                places = np.arange(len(X))
            handed = {
                "X": X,
                "Y": Y,
                "order": _as_compiled(places, np.int64),
                "starts": starts[first : last + 1] - rows.start,
                "which": which[some],
                "keys": keys[some],
                "scalars": scalars[some],
                "rates": rates[some],
                "due": due[some],
                "losses": losses[some],
                "outputs": z[rows],
            }
            if scale is not None:
                handed["scale"] = _as_compiled(scale[rows], dtype)
            made += self._run(last - first, True, outputs, **handed)
            if made < last:
                break
        return Made(made, losses, float(bounds[0]), z if outputs else None)

    def _sizes_of(self, starts: Array) -> tuple[Array, Array]:
        """Return the batches before the first with another program, and the rows of numbers."""
        sizes = np.diff(starts)
        for n in set(sizes[self._rows[sizes] == UNKNOWN].tolist()):
            self._add_size(n)
        which = self._rows[sizes]
        others = np.flatnonzero(which == OTHER)
        end = others[0] if len(others) else len(which)
        return starts[: end + 1], which[:end]

    def _scalars(self, due: Array, shares: Array) -> tuple[Array, Array, Array]:
        """Return the numbers that change with each of the next steps, and the learning rates."""
        model, updater = self._model, self._update.updater
        passes = range(model.passes + 1, model.passes + 1 + len(due))
        keys = np.empty((len(due), len(self._drawing)), np.uint64)
        for i, layer in enumerate(self._drawing):
            keys[:, i] = list(map(layer.key, passes))
        if self._accumulates:
            update = np.cumsum(due) - due  # the number of the next one, for each step
            # Not one more than needed, because a custom schedule may end with the run.
            rates, constants = updater.varying_constants(int(update[-1]) + 1 if len(due) else 0)
            rates, constants = rates[update], np.column_stack([constants[update], shares])
        else:
            rates, constants = updater.varying_constants(len(due))
        return keys, constants, reaches(updater, rates)

    def _fill_scalars(self, share: float) -> None:
        """Fill in the same numbers for one step, without an array for each."""
        updater, one, keys = self._update.updater, self._arrays, len(self._drawing)
        rate, numbers = float(updater.learning_rate), self._scalars_of(self._model, share)
        for i, number in enumerate(numbers.values()):
            (one["keys"] if i < keys else one["scalars"])[0, i - keys * (i >= keys)] = number
        one["rates"][0] = reach(updater, rate)


def _as_compiled(a: Array, dtype: Any) -> Array:
    """Return rows for the compiled function: of one dtype and in row order."""
    if a.dtype == dtype and a.flags.carray and type(a) is np.ndarray:
        return a
    with np.errstate(all="ignore"):
        return np.array(a, dtype, order="C")


def _pieces(starts: Array, rows: int) -> Iterator[tuple[int, int]]:
    """Yield the first and the last of batches with about this many rows together."""
    first, steps = 0, len(starts) - 1
    while first < steps:
        last = int(np.searchsorted(starts, starts[first] + rows, "right")) - 1
        last = max(last, first + 1)
        yield first, last
        first = last
