"""Whether the parts of a step are minigd's own and unchanged.

Parts are layers, losses, updaters, penalties and limits.
"""

from collections.abc import Sequence
from itertools import starmap
from operator import attrgetter, is_
from typing import Any

import numpy as np

from minigd.nn.layers import LAYERS
from minigd.nn.losses import LOSSES
from minigd.optim.gradient_transforms import Clipping, Penalty
from minigd.optim.updaters import UPDATERS

_COUNTS = ("passes", "wants_dx", "step", "epoch", "scale", "_learning_rate", "_names")
"""Attributes of a layer, loss or updater that a step or a model sets."""

_METHODS = (
    *("forward", "backward", "key", "mean", "per_example", "gradient", "targets"),
    *("add_gradient", "clip", "formula"),
)
"""The methods of a layer, loss, penalty, clipping or updater that a step calls."""


def promises(part: Any) -> bool:
    """Return whether a part of a step is minigd's own and unchanged, or declared traceable."""
    kind = type(part)
    if kind in _SHIPPED:
        return is_shipped(part)
    return vars(kind).get("traceable") is True and not _own_methods(part)


def is_shipped(part: Any) -> bool:
    """Return whether a part of a step is minigd's own and unchanged."""
    # A subclass may do more than its class, such as counting its calls. So may a method that
    # replaces another.
    kind = type(part)
    return _SHIPPED.get(kind) == _of_class(kind) and not _own_methods(part)


class Parts:
    """Detects changed constants or methods of layers and a loss.

    Values are compared only if an attribute is another object than before. So a check before every
    epoch and `Trainer.step` costs little.
    """

    def __init__(self, parts: Sequence[Any]) -> None:
        self._parts = parts
        self._remember()

    def changed(self) -> bool:
        """Return whether one was changed since the last call."""
        if all(starmap(_is_untouched, self._known)):
            return False
        before = self._values
        self._remember()
        return before != self._values

    def _remember(self) -> None:
        self._values = [_values(part) for part in self._parts]
        self._known = []
        for part in self._parts:
            now = vars(part)
            names = [name for name in now if name not in _COUNTS]
            # With a single name, it would not return a tuple.
            methods = attrgetter("__init__", "__init__", *_names(type(part)))
            known = (part, len(now), names, [now[n] for n in names], methods, methods(type(part)))
            self._known.append(known)


def _is_untouched(
    part: Any, count: int, names: list[str], values: list[Any], methods: Any, known: Any
) -> bool:
    """Return whether all attributes and methods are the same objects as before."""
    now = vars(part)
    same = len(now) == count and all(map(is_, map(now.get, names), values))
    return same and all(map(is_, methods(type(part)), known))


def _values(part: Any) -> Any:
    """Return the methods of a layer or loss, from its class or its own, and its constants."""
    constants = {name: value for name, value in vars(part).items() if _is_constant(name, value)}
    return _of_class(type(part)), _own_methods(part), constants


def _of_class(kind: type) -> dict[str, Any]:
    """Return the methods and the constants of a class."""
    return {name: getattr(kind, name) for name in _names(kind)}


def _names(kind: type) -> list[str]:
    """Return the names of methods and constants of a class that may matter in a step."""
    # Of a base class such as Layer, only what a step calls, so that comparing stays cheap.
    kinds = kind.__mro__[:-2] or (kind,)
    found = {
        name
        for one in kinds
        for name, value in vars(one).items()
        if not name.startswith("__") and (callable(value) or _is_constant(name, value))
    }
    return sorted(found | {name for name in _METHODS if hasattr(kind, name)})


def _own_methods(part: Any) -> dict[str, Any]:
    """Return the methods of a layer or loss that replace those of its class."""
    kind = type(part)
    return {n: value for n, value in vars(part).items() if callable(value) and hasattr(kind, n)}


def _is_constant(name: str, value: Any) -> bool:
    return name not in _COUNTS and isinstance(value, int | float | str | tuple | np.generic)


_SHIPPED = {
    kind: _of_class(kind)
    for kind in (*LAYERS.values(), *LOSSES.values(), *UPDATERS.values(), Penalty, Clipping)
}
"""The original classes of minigd."""
