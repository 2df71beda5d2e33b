"""What the checks of a layer's rules share: its attributes, its predictions, and rounding."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from numbers import Real
from typing import Any

import numpy as np

from minigd.errors import GradientError, ShapeError
from minigd.nn.layers import Layer
from minigd.nn.layers.base import with_inner
from minigd.nn.losses import Loss
from minigd.nn.sequential import Sequential
from minigd.types import Array

MOST_ROUNDING = 1e-6
"""The largest rounding error of a layer's output, relative to the spread of its numbers."""


class LayerWarning(UserWarning):
    """Something about a layer that may be intended, and that its author should know."""


class Projection(Loss):
    """ℓ_i = Σ_k z_ik y_ik, whose gradient is y: any row of dy can be requested."""

    def per_example(self, z: Array, y: Array) -> Array:
        """Return the sum over the outputs."""
        return (z * y).sum(axis=1)

    def gradient(self, z: Array, y: Array) -> Array:
        """Return y."""
        return y.copy()


class Identity(Layer):
    """Returns its input, so that the layer before it is checked alone."""

    def forward(self, x: Array, train: bool = False) -> Array:
        """Return x."""
        return x

    def backward(self, dy: Array) -> Array:
        """Return dy."""
        return dy


def rounding_effect(model: Sequential, x: Array, run: Callable[[Array], Any]) -> float:
    """Return the largest change of ``run(x)`` by the last digits of x and the parameters."""
    rng = np.random.default_rng(0)
    p = model.flat_params
    before, most, given = p.copy(), 0.0, np.array(run(x))

    def moved(a: Array) -> Array:
        near: Array = a * (1 + 2.0**-52 * rng.uniform(-1, 1, a.shape))
        return near

    for _ in range(3):
        p[...] = moved(before)
        most = max(most, float(np.abs(run(moved(x)) - given).max()))
    p[...] = before
    return most


def is_rounding(
    one: Array, other: Array, model: Sequential, x: Array, run: Callable[[Array], Any]
) -> bool:
    """Return whether rounding can explain the difference of two results of ``run(x)``."""
    if np.allclose(one, other, rtol=1e-9, atol=1e-12):
        return True
    # Columns far from 0 are summed in another order, which changes the last digits.
    rounding = min(100 * rounding_effect(model, x, run), MOST_ROUNDING * np.ptp(one))
    return bool(np.allclose(one, other, rtol=1e-9, atol=rounding))


def is_same(one: Array, other: Array) -> bool:
    """Return whether two arrays have the same bits, including NaN."""
    # Arrays of text, which a layer may also have, have no NaN.
    return np.array_equal(one, other, equal_nan=one.dtype.kind in "fc")


def attributes(layer: Layer) -> dict[str, Any]:
    """Return a layer's attributes that not every layer has, including class attributes."""
    kinds = [k for k in type(layer).__mro__ if issubclass(k, Layer) and k is not Layer]
    found = {name: value for k in reversed(kinds) for name, value in vars(k).items()}
    found |= vars(layer)
    return {name: a for name, a in found.items() if name not in Layer.__annotations__}


def inside(path: str, value: Any, kind: type | tuple[type, ...]) -> Iterator[tuple[str, Any]]:
    """Yield objects of a kind in an attribute, and in lists, tuples and dicts in it, by path.

    >>> list(inside("self.a", {"b": [1, "c"]}, str))
    [("self.a['b'][1]", 'c')]
    """
    if isinstance(value, kind):
        yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from inside(f"{path}[{key!r}]", item, kind)
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            yield from inside(f"{path}[{i}]", item, kind)


def arrays(layer: Layer, names: set[str] | None = None) -> dict[str, Array]:
    """Return the arrays in a layer's attributes, by path."""
    return {
        path: array
        for name, value in attributes(layer).items()
        if names is None or name in names
        for path, array in inside(f"self.{name}", value, np.ndarray)
    }


def numbers(layer: Layer) -> dict[str, Any]:
    """Return the numbers in a layer's attributes, by path."""
    return {
        path: number
        for name, value in attributes(layer).items()
        for path, number in inside(f"self.{name}", value, (Real, np.generic))
    }


def draws(layer: Layer) -> bool:
    """Return whether a layer, or one inside it, draws random numbers in training."""
    return any(each.draws for each in with_inner([layer]))


def predicted(model: Sequential, x: Array) -> Array:
    """Return the output with train=False."""
    with with_train_false():
        return np.array(model.run_forward(model.layers, x, train=False))


@contextmanager
def with_train_false() -> Iterator[None]:
    """Add the pass to the error for an output of another shape or dtype."""
    try:
        yield
    except ShapeError as error:
        raise GradientError(f"with train=False, {error}") from error


def modifies(layer: Layer, what: str, when: str = "") -> GradientError:
    """Return the error for a layer that changes its arguments."""
    return GradientError(
        f"{layer.name} modifies {what}{when}, which belongs to the caller: work on a copy"
    )
