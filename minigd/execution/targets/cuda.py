"""A program as CUDA C kernels, with products by cuBLAS between them: the step on a GPU.

It is traced on the host, as for every other target. Nothing is read back: whether a loss or an
update was finite is a flag on the device.
"""

import copy
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from minigd.execution import plain
from minigd.execution.finite_guard import Limits, Remembered, reach
from minigd.execution.plain import Step
from minigd.execution.targets.any_size import AnySize, Made
from minigd.execution.targets.groups import Group, grouped
from minigd.execution.targets.kernels import HEAD, Kernel, kernel_of
from minigd.execution.targets.words import C
from minigd.execution.tracer import NotTraceable, Update
from minigd.nn.objective import Objective
from minigd.types import Array

# Without this the compiler fuses a product and a sum, and rounds once instead of twice.
OPTIONS = ("-fmad=false",)


class Launch(NamedTuple):
    """A call that is made in each step. Some of its arguments change each time.

    `holes` names them, with their place, and whether they are transposed.
    """

    function: Callable[..., Any]
    arguments: list[Any]
    holes: list[tuple[int, str, bool]]


class CudaStep(AnySize):
    """The step of an objective on a GPU, and its update, for batches of any size.

    Attributes
    ----------
    finite : Array of bool, 0-d
        Cleared by a step without limits whose loss or update is not finite, and never set.
    """

    def _on_host(self, objective: Objective, update: Update, y: Array) -> tuple[Objective, Update]:
        self._device, self._backend = objective.model, objective.model.backend
        update.updater.attach(objective.model)
        host = objective.model.copy(backend="numpy")
        # Copying the updater would copy its vectors on the device.
        updater = type(update.updater)(**update.updater.config())
        twin = copy.copy(objective)
        twin.model = host
        twin.replace(dict(zip(map(id, objective.model.all_layers), host.all_layers, strict=True)))
        like = np.zeros((2, *y.shape[1:]), y.dtype)
        with Remembered(host), np.errstate(all="ignore"):
            # First without tracing, so that a layer finds what it looks up only once.
            plain.step(twin, np.zeros((2, host.n_in), host.dtype), like)
        return twin, update._replace(updater=updater)

    def _compile(self) -> None:
        backend, state = self._backend, self._update.updater.state
        self.mean = backend.zeros(self._mean.shape, self._mean.dtype)
        self.finite = backend.xp.ones((), "bool")
        left = [(self._model.flat_params, self._device.flat_params), (self._mean, self.mean)]
        self._print([*left, *zip(state.values(), self._state, strict=True)])
        self._calls: dict[int, list[list[Launch]] | None] = {}
        self._settings = self._form.settings
        del self._form, self._program  # the host's arrays

    # Text and memory -------------------------------------------------------------------------

    def _print(self, left: list[tuple[Array, Array]]) -> None:
        """Write the kernels, and give all memory a place on the device.

        `left` are pairs of the host's arrays that a step changes for good, and the device's.
        """
        form, roots = self._form, self._form.roots
        self._named, sections = self._general.steps(form)
        groups, read = grouped(sections, form, C)
        results = [
            roots[self._named[name].memory] for name in ("z", "norms") if name in self._named
        ]
        self._given = {p.memory: n for n, p in self._named.items() if n not in ("z", "norms")}
        value = roots[self._named["value"].memory]
        checked = {value} | {roots[form.number(a)] for a, _ in left if form.number(a) >= 0}
        for one, other in zip(self._model.all_layers, self._device.all_layers, strict=True):
            for kind in ("params", "grads", "buffers"):
                views = vars(one)[kind], vars(other)[kind]
                left += [(a, views[1][name]) for name, a in views[0].items()]
        self._flat = {form.number(a): _root(b).reshape(-1) for a, b in left}
        self._flat.pop(-1, None)
        kept = read | checked | {*results, *self._flat}
        by_value = {m for m, n in self._given.items() if n not in ("x", "y", "scale", "value")}
        self._sections = [
            [
                part
                for part in (kernel_of(g, form.memory, kept, checked, by_value) for g in s)
                if part
            ]
            for s in groups
        ]
        parts = [part for section in self._sections for part in section]
        kernels = [part for part in parts if isinstance(part, Kernel)]
        self.source = "\n".join(dict.fromkeys([HEAD, *[kernel.text for kernel in kernels]]))
        self._module: Any = _module(self._backend.xp, self.source) if kernels else None
        self._allocate(parts, results, {roots[o.out.memory] for s in sections for o in s})

    def _allocate(self, parts: list[Kernel | Group], results: list[int], written: set[int]) -> None:
        """Allocate memory between kernels. Arrays that are not needed at the same time share it."""
        memory, roots = self._form.memory, self._form.roots
        lives: dict[int, tuple[int, int]] = {}
        for k, part in enumerate(parts):
            for root in {roots[m] for m in part.memory} - self._flat.keys() - self._given.keys():
                if root in written:
                    lives[root] = lives.get(root, (k, k))[0], len(parts) * (root in results) or k
                else:
                    self._flat[root] = self._backend.asarray(memory[root])
        blocks: list[list[int]] = []
        chosen = {}
        for root, (first, last) in sorted(lives.items(), key=lambda item: item[1]):
            size = memory[root].nbytes
            free = [block for block in blocks if block[1] < first]
            block = min(free, key=lambda b: (b[0] < size, abs(b[0] - size)), default=[0, 0])
            blocks += [block] * (block not in free)
            block[:] = max(block[0], size), last
            chosen[root] = block
        self.nbytes = sum(size for size, _ in blocks)
        made = {id(block): self._backend.empty((block[0],), "uint8") for block in blocks}
        for root, block in chosen.items():
            self._flat[root] = made[id(block)][: memory[root].nbytes].view(memory[root].dtype)
        for m, root in enumerate(roots):
            if m != root and root in self._flat:
                self._flat[m] = self._flat[root].view(memory[m].dtype)

    # Launches --------------------------------------------------------------------------------

    def takes(self, rows: int) -> bool:
        """Return whether a batch of this many rows runs the same operations."""
        if rows not in self._calls:
            found = self._numbers(rows)
            self._calls[rows] = None if found is None else self._bind(found)
        return self._calls[rows] is not None

    def _bind(self, found: list[float]) -> list[list[Launch]]:
        """Return the calls for a batch size, on which numbers depend."""
        numbers = dict(zip(self._general.names, found, strict=True))
        numbers |= {f"s{k}": value for k, value in enumerate(self._settings)}

        def known(a: Any) -> Any:
            return (int if a[0] == "d" else float)(numbers[a]) if isinstance(a, str) else a

        return [
            [
                self._launch(p, known) if isinstance(p, Kernel) else self._product(p, known)
                for p in s
            ]
            for s in self._sections
        ]

    def _launch(self, kernel: Kernel, known: Callable[[Any], Any]) -> Launch:
        blocks, threads = kernel.grid(known)
        made = self._module.get_function(kernel.name)
        function = functools.partial(made, (blocks,), (threads,))
        arguments: list[Any] = [self._flat.get(m) for m in kernel.memory]
        arguments += [*map(known, kernel.numbers), *[None] * kernel.flags]
        holes = [
            (k, self._given[m], False) for k, m in enumerate(kernel.memory) if m in self._given
        ]
        holes += [(len(arguments) - 1, "finite", False)] * kernel.flags
        return Launch(function, arguments, holes)

    def _product(self, group: Group, known: Callable[[Any], Any]) -> Launch:
        arguments: list[Any] = []
        holes = []
        for k, place in enumerate(group.matrices):
            # Only x is passed, and is in row order like all memory.
            turned = 1 not in (place.shape[1], place.strides[1])
            if place.memory in self._given:
                holes.append((k, self._given[place.memory], turned))
                arguments.append(None)
                continue
            shape, start = tuple(map(known, place.shape)), known(place.offset)
            flat = self._flat[place.memory][start : start + math.prod(shape)]
            arguments.append(flat.reshape(shape[::-1]).T if turned else flat.reshape(shape))
        if turned:
            raise NotTraceable("a product into a turned matrix")
        multiply = self._multiplied if group.divisor is None else self._divided
        return Launch(multiply, arguments, holes)

    def _multiplied(self, matrices: tuple[Array, ...]) -> None:
        a, b, out = matrices
        self._backend.xp.dot(a, b, out=out)

    def _divided(self, matrices: tuple[Array, ...]) -> None:
        a, b, out = matrices
        self._backend.mean_product(a.T, b, out)

    def __call__(
        self,
        x: Array,
        y: Array,
        scale: Array | None = None,
        limits: Limits | None = None,
        update: bool = False,
        share: float = 1.0,
    ) -> Step:
        """Make one step, of this share of `mean`, and an update if asked for; it is `Made`.

        With limits but without a flag, the step is checked before the cut, and ends there if it is
        not safe.
        """
        if not self.takes(len(x)):
            raise ValueError(f"a batch of {len(x)} rows uses operations that were not compiled")
        xp, dtype = self._backend.xp, self._device.dtype
        value = self._backend.empty((), dtype)
        given = {
            name: np.uint64(number) if name.endswith(".key") else dtype.type(number)
            for name, number in self._scalars_of(self._device, share).items()
        }
        given |= {"x": xp.ascontiguousarray(x, dtype), "value": value, "scale": scale}
        given["finite"] = self.finite if limits is None or limits.finite is None else limits.finite
        given["y"] = xp.ascontiguousarray(y, self._y.dtype)
        gradient, window, change = self._calls[len(x)] or ([], [], [])
        _run(gradient, given)
        largest = self._look(limits, value)
        if largest is not None:
            # The cut is here.
            _run(window, given)
            if update:
                _run(change, given)
        made = Made(int(largest is not None), value, largest or 0.0, None)
        return Step(value, self._result("z", len(x)), self._result("norms", len(x)), made)

    def _look(self, limits: Limits | None, value: Array) -> float | None:
        """Return the length of the largest gradient so far if the step is safe, else None."""
        if limits is None or limits.finite is not None:
            return math.inf
        g = self._device.flat_grads
        squares, rate = (
            float(self._backend.xp.dot(g, g)),
            reach(self._updater, float(self._updater.learning_rate)),
        )
        largest = max(limits.largest, math.sqrt(squares)) if squares >= 0 else math.inf
        safe = math.isfinite(float(value)) and largest * max(rate, 1.0) < limits.safe
        return largest if safe else None

    def _result(self, name: str, rows: int) -> Array | None:
        if name not in self._named:
            return None
        place = self._named[name]
        widths = [n for n in place.shape[1:] if isinstance(n, int)]
        return self._flat[place.memory][: rows * math.prod(widths)].reshape(rows, *widths)


def _run(calls: list[Launch], given: dict[str, Any]) -> None:
    """Add calls to the device's queue."""
    for function, arguments, holes in calls:
        for k, name, turned in holes:
            arguments[k] = given[name].T if turned else given[name]
        function(tuple(arguments))


@functools.lru_cache(maxsize=64)
def _module(xp: Any, source: str) -> Any:
    return xp.RawModule(code=source, options=OPTIONS)


def _root(a: Array) -> Array:
    while a.base is not None:
        a = a.base
    return a
