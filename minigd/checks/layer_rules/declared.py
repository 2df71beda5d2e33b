"""Arrays that a layer uses although `build` did not declare them, so no file contains them."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from minigd.checks.diagnosis.batches import between
from minigd.checks.layer_rules.parts import arrays, is_same, numbers, predicted
from minigd.checks.passes import alone, run
from minigd.errors import GradientError
from minigd.nn.layers import Layer
from minigd.nn.sequential import Sequential
from minigd.types import Array


class Used(NamedTuple):
    """An array that a layer uses and `build` did not declare, and whether a pass changes it."""

    array: Array
    moves: bool


def undeclared(layer: Layer, x: Array, dy: Array) -> dict[str, Used]:
    """Return the arrays that a layer uses and `build` did not declare, by path.

    Arrays that the same pass has set, such as an x kept for `backward`, are left out, and so are
    arrays whose numbers do not matter, because they are overwritten.
    """
    model, names = alone(layer), set[str]()
    run(model, x, dy)
    for train in (True, False):
        with _reads(model.layers[0]) as read:
            run(model, x, dy) if train else predicted(model, x)
        names |= read
    found = {}
    for path, array in arrays(model.layers[0], names).items():
        if _matters(layer, path, names, x, dy):
            rng = np.random.default_rng(0)
            other = alone(layer)
            run(other, x, dy)
            before = np.array(arrays(other.layers[0], names).get(path, array))
            run(other, between(x, len(x), rng)[0], rng.standard_normal(dy.shape))
            after = arrays(other.layers[0], names).get(path, before)
            found[path] = Used(array, not is_same(before, after))
    return found


def check_copies(layer: Layer, used: dict[str, Used], x: Array, dy: Array) -> None:
    """Refuse a layer that depends on numbers which a copy, or a saved model, does not have."""
    check_moves(layer, used)
    one, other = run(alone(layer), x, dy), run(alone(layer), x, dy)
    if all(is_same(one[name], other[name]) for name in one):
        return
    why = "its state must follow from the constructor's arguments, parameters and buffers"
    if used:
        why = f"it uses {_paths(used)}, which build does not declare: {remedy(layer, used)}"
    raise GradientError(
        f"{layer.name}: a copy of the layer, or a saved and loaded model, gives different "
        f"numbers: {why}"
    )


def check_moves(layer: Layer, used: dict[str, Used]) -> None:
    """Refuse a layer that depends on arrays which its passes change and which are not saved."""
    moved = [path for path, (_, moves) in used.items() if moves]
    if moved:
        name = _buffer_name(moved[0])
        raise GradientError(
            f"{layer.name}: a pass changes {_paths(moved)}, which it uses and build does not "
            "declare: a model does not save it, or move it to a GPU. If it follows the "
            f'data, declare it in build, self.add_buffer("{name}", shape), write into '
            f'self.buffers["{name}"] in training, and running = ("{name}",) in the class; if it is '
            f'to be trained, self.add_param("{name}", shape), and write its gradient into '
            f'self.grads["{name}"]'
        )


def check_numbers(layer: Layer, x: Array, dy: Array) -> None:
    """Refuse a layer that depends on a number which its passes change and which is not saved."""
    rng = np.random.default_rng(0)
    model, first = alone(layer), run(alone(layer), x, dy)
    (own,) = model.layers
    values, before = model.arrays(), numbers(own)
    run(model, between(x, len(x), rng)[0], rng.standard_normal(dy.shape))
    now = numbers(own)
    y, of_a_copy = predicted(model, x.copy()), predicted(alone(own), x.copy())
    model.load_arrays(values)
    again = run(model, x, dy)
    moved = [path for path in now if now[path] != before.get(path)]
    if moved and not (is_same(y, of_a_copy) and all(is_same(first[k], again[k]) for k in first)):
        name = _buffer_name(moved[0])
        raise GradientError(
            f"{layer.name}: a pass changes {moved[0]}, a number that later passes use and a "
            "model does not save. For a running number declare a buffer in build, "
            f'self.add_buffer("{name}", (1,)), and write running = ("{name}",) in the class; the '
            "number of the pass itself is self.passes, which a class with draws = True may use "
            "in training"
        )


def note_undeclared(layer: Layer, used: dict[str, Used]) -> list[str]:
    """Return notes on arrays that do not change, like constants."""
    if not used:
        return []
    return [
        f"it uses {_paths(used)}, which build does not declare: a model does not train or "
        "save it, or move it to a GPU. That is right for a constant on the CPU; otherwise "
        f"{remedy(layer, used)}"
    ]


@contextmanager
def _reads(layer: Layer) -> Iterator[set[str]]:
    """Collect the attributes that are read before they are set."""
    kind: Any = type(layer)
    read: set[str] = set()
    written: set[str] = set()

    def get(self: Layer, name: str) -> Any:
        if name not in written:
            read.add(name)
        return kind.__getattribute__(self, name)

    def put(self: Layer, name: str, value: Any) -> None:
        written.add(name)
        kind.__setattr__(self, name, value)

    spy = {"__getattribute__": get, "__setattr__": put, "__module__": kind.__module__}
    layer.__class__ = type(kind.__name__, (kind,), spy)
    try:
        yield read
    finally:
        layer.__class__ = kind


def _matters(layer: Layer, path: str, names: set[str], x: Array, dy: Array) -> bool:
    """Return whether a pass depends on the numbers in an array."""
    expected = _passes(alone(layer), x, dy)
    model = alone(layer)
    _passes(model, x, dy)
    array = arrays(model.layers[0], names).get(path)
    if array is None:
        return False
    if not array.flags.writeable:
        return True
    before = array.copy()
    try:
        # Whole numbers may be positions in an array. In another order they still are.
        if array.dtype.kind in "fc":
            array[...] = 1.5 * array + 1
        else:
            array.reshape(-1)[...] = np.roll(before, 1)
            if np.array_equal(array, before):
                return True
        return not all(map(is_same, expected, _passes(model, x, dy)))
    except Exception:  # a custom layer may do anything with other numbers
        return True
    finally:
        # It may be the array that was passed to the constructor.
        array[...] = before


def _passes(model: Sequential, x: Array, dy: Array) -> list[Array]:
    """Return the results of a prediction and two training passes."""
    return [predicted(model, x), *run(model, x, dy).values(), *run(model, x, dy).values()]


def _paths(paths: Iterable[str]) -> str:
    """Return ``self.a, an array``, or ``self.a and self.b, arrays``."""
    *first, last = paths
    return f"{', '.join(first)} and {last}, arrays" if first else f"{last}, an array"


def _buffer_name(path: str) -> str:
    """Return a name for a buffer.

    >>> _buffer_name("self.tables['sin'][0]")
    'tables_sin_0'
    """
    words = "".join(c if c.isalnum() or c == "_" else " " for c in path.removeprefix("self."))
    return "_".join(words.split())


def remedy(layer: Layer, used: dict[str, Used]) -> str:
    """Return what to do about the first of some arrays."""
    path, (array, _) = next(iter(used.items()))
    name, given, first = _buffer_name(path), path, ""
    if path.removeprefix("self.") in layer.config():
        given = f"np.array({path})"
        first = "pass it to the constructor as a list, which can be saved, and "
    declare = (
        f"{first}declare it in build, "
        f'self.add_buffer("{name}", {given}.shape, lambda rng, shape: {given}), '
    )
    if array.dtype.kind in "biu":
        cast = "bool" if array.dtype.kind == "b" else "int"
        return f'{declare}and use self.buffers["{name}"].astype({cast}) instead'
    return (
        f"{declare}or with add_param if it is to be trained, and use "
        f'self.buffers["{name}"], or self.params["{name}"], instead'
    )
