"""A planted bug: its name, how to plant it in the engine, and which checks must notice it.

The checks are the same functions that the rest of the suite runs on the real engine.
"""

import inspect
import textwrap
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import pytest
from gradients import layer_checks, network_checks

Check = Callable[[], None]


class Bug(NamedTuple):
    """A bug: `plant` puts it into the engine, and each of `checks` must raise then."""

    name: str
    plant: Callable[[pytest.MonkeyPatch], None]
    checks: tuple[Check, ...]


def put(target, name, value):
    """Return how to plant `value` as an attribute."""
    return lambda monkeypatch: monkeypatch.setattr(target, name, value)


def rewritten(owner, name, right, wrong):
    """Return how to plant a method in whose text `right` has become `wrong`."""

    def plant(monkeypatch):
        method = getattr(owner, name)
        text = textwrap.dedent(inspect.getsource(method))
        assert text.count(right) == 1, f"{owner.__name__}.{name} is no longer written as {right!r}"
        scope = dict(method.__globals__)
        exec(text.replace(right, wrong), scope)
        monkeypatch.setattr(owner, name, scope[name])

    return plant


def gradient_of(name):
    """Return the checks of one layer's gradient: both methods of the tool."""
    make = layer_checks.LAYERS[name]
    return (
        partial(layer_checks.layer_gradient, make),
        partial(layer_checks.layer_gradient, make, "central"),
    )


def through(output, loss, **options):
    """Return the check of a network that ends in a layer and a loss."""
    return partial(network_checks.network_gradient, output, loss, **options)


def through_hidden(name):
    """Return the check of a network that has a layer in its middle, by both methods."""
    return tuple(
        through("dense", "mse, three outputs", method=method, hidden=[name])
        for method in ("complex", "central")
    )
