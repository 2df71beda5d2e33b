"""A layer alone: its gradients and the true ones, in batches of several sizes.

A new layer is created for each batch, and then run after another batch, to see whether it keeps old
values.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from minigd.checks.diagnosis.batches import between, other_sizes
from minigd.checks.diagnosis.case import Case
from minigd.checks.diagnosis.naming import diagnose
from minigd.checks.diagnosis.slips import STALE
from minigd.checks.diagnosis.slopes import (
    Block,
    Function,
    block_of,
    entries_of,
    noise_of,
    slopes,
    take_block,
)
from minigd.checks.passes import alone, forward, run
from minigd.nn.layers import Layer
from minigd.nn.sequential import Sequential
from minigd.optim.gradient_transforms import Penalty
from minigd.types import Array

Cases: TypeAlias = dict[str, Case]
"""What is known about each gradient, by the short name of a parameter, and about dx as ``x``."""

Rows: TypeAlias = tuple[Array, Array]
"""A batch, x and dy."""


Explained: TypeAlias = tuple[str, str | None]
"""The short name of an array, ``""`` for the layer itself, and its mistake if known."""


DRAWN = (
    "forward returns different numbers each time, and has no derivative: draw random numbers from "
    "np.random.default_rng([*self.place, self.passes]), and write draws = True in the class"
)


def _used_before(layer: Layer, earlier: Rows) -> Sequential:
    """Return a new layer that has seen a batch, but with unchanged buffers."""
    model = alone(layer)
    values = model.arrays()
    run(model, *earlier)
    model.load_arrays(values)
    return model


def explain_layer(
    layer: Layer, x: Array, dy: Array, penalty: Penalty, first: str
) -> Explained | None:
    """Return what is wrong with a layer alone, or None if nothing is."""
    found = _no_function(layer, x, dy)
    if found:
        return "", found
    rng = np.random.default_rng(0)
    batches = [(x, dy), (between(x, len(x), rng)[0], rng.standard_normal(dy.shape))]
    for n in other_sizes(len(x), layer.n_in, layer.n_out):
        batches.append((between(x, n, rng)[0], rng.standard_normal((n, layer.n_out))))
    cases = _cases(layer, batches[0], penalty)
    if all(case.right for case in cases.values()):
        return _explain_memory(layer, batches, penalty, first)
    fresh = [cases, *(_cases(layer, batch, penalty) for batch in batches[2:])]
    return _first_explained(fresh, first)


def _no_function(layer: Layer, x: Array, dy: Array) -> str | None:
    """Return why the output does not depend on x alone. Then nothing can be compared."""
    model = alone(layer)
    first, again = run(model, x, dy), run(model, x, dy)
    if not np.array_equal(first["y"], again["y"], equal_nan=True):
        return DRAWN
    model, own_x, own_dy = alone(layer), x.copy(), dy.copy()
    forward(model, own_x)
    if not np.array_equal(own_x, x):
        return "forward writes over x, which belongs to the caller"
    model.run_backward(model.layers, own_dy, input_gradient=True)
    if not np.array_equal(own_dy, dy):
        return "backward writes over dy, which belongs to the caller"
    if not np.array_equal(own_x, x):
        return "backward writes over x, which belongs to the caller: self.keep(x.copy())"
    return None


def _explain_memory(
    layer: Layer, batches: Sequence[Rows], penalty: Penalty, first: str
) -> Explained | None:
    """Explain what is wrong only after another batch: of the same size, and then of others."""
    for pairs in ([(0, 1), (1, 0)], [(2, 3), (3, 2), (0, 2), (2, 0), (3, 0)]):
        remembers = False
        for before, now in pairs:
            used = _used_before(layer, batches[before])
            expected = run(alone(layer), *batches[now])
            try:
                given = run(used, *batches[now])
            except (ValueError, IndexError):
                return "", f"{STALE}: it fails after a batch of a different size"
            remembers = remembers or any(
                not np.allclose(given[name], expected[name], rtol=1e-9, atol=0, equal_nan=True)
                for name in expected
            )
        if remembers:
            cases = [_cases(layer, batches[j], penalty, batches[i]) for i, j in pairs]
            return _first_explained(cases, first)
    return None


def _first_explained(cases: Sequence[Cases], first: str) -> Explained:
    """Return an array that can be explained, `first` or the one with the largest error, and how."""

    def share(name: str) -> float:
        case = cases[0][name]
        error = float(abs(case.given - case.true).max() / (abs(case.true).max() + 1e-300))
        return math.inf if name == first else error

    for name in sorted(cases[0], key=share, reverse=True):
        found = diagnose([case[name] for case in cases])
        if found:
            return name, found
    return "", None


def _cases(layer: Layer, batch: Rows, penalty: Penalty, earlier: Rows | None = None) -> Cases:
    """Return what is known about each gradient of a new layer in a batch, or after another one."""
    model = alone(layer) if earlier is None else _used_before(layer, earlier)
    model.flat_grads[...] = np.random.default_rng(1).standard_normal(model.flat_grads.shape)
    before = {name: grad.copy() for name, grad in model.layers[0].grads.items()}
    given = run(model, *batch)
    x, dy = batch
    known = Case(x, x, len(x), x=x, y=given["y"], dy=dy, params=layer.params)
    known = replace(known, l1=penalty.l1, l2=penalty.l2)
    cases = _true_cases(layer, known)
    if earlier is not None:
        cases = dict(_remembered(layer, cases, known, earlier))
    for name, case in cases.items():
        there = before[name] if name in before and case.is_complete else None
        cases[name] = replace(case, given=take_block(given[name], case.block), before=there)
    return cases


def _true_cases(layer: Layer, known: Case) -> Cases:
    """Return the true gradient of each parameter and of x, and its factors."""
    x, dy = known.x, known.dy
    assert x is not None
    assert dy is not None
    cases = {}
    for name, value in layer.params.items():
        block = block_of(value.shape)
        slope, tolerance = _slopes_of(layer, x, name, block)
        shape = take_block(value, block).shape
        each = np.einsum("enk,nk->ne", slope, dy).reshape(len(x), *shape)
        without_dy = slope.sum(axis=2).mean(axis=1).reshape(shape)
        cases[name] = replace(
            known,
            true=each.mean(axis=0),
            each=each,
            value=take_block(value, block),
            block=block,
            tolerance=tolerance,
            noise=noise_of(np.append(each, dy), tolerance),
            unused=not each.any() and _is_unused(layer, name),
            others={"dy is left out: the chain rule stops here": without_dy},
        )
    eaches = [case.each for case in cases.values() if case.each is not None]
    deltas = [each for each in eaches if each.shape == dy.shape]
    block = block_of(x.shape)
    slope, tolerance = _slopes_of(layer, x, "x", block)
    case = replace(
        known,
        true=np.einsum("enk,nk->e", slope, dy).reshape(take_block(x, block).shape),
        by_row=True,
        delta=deltas[0] if deltas else None,
        jacobian=_of_each_row(slope, x, block),
        block=block,
        tolerance=tolerance,
        noise=noise_of(np.append(slope * dy, dy), tolerance),
        unused=not slope.any() and _is_unused(layer, "x"),
    )
    others = {**dict(_taken_elsewhere(layer, case)), **_sums_of(layer, case)}
    cases["x"] = replace(case, others=others)
    return cases


def _is_unused(layer: Layer, name: str) -> bool:
    """Return whether a layer's output does not depend on a parameter, or on x.

    A derivative of 0 does not prove it: a batch of zeros, or of numbers near 0, also has it.
    """
    rng = np.random.default_rng(2)
    x = rng.standard_normal((99, layer.n_in))
    model = alone(layer)
    first = forward(model, x).copy()
    target = x if name == "x" else model.layers[0].params[name]
    target += abs(rng.standard_normal(target.shape))
    return np.array_equal(forward(model, x), first)


def _sums_of(layer: Layer, case: Case) -> dict[str, Array]:
    """Return dx of x + f(x), with f the layers inside, if one of the two terms is missing."""
    if not layer.inner_layers or layer.n_in != layer.n_out or case.dy is None:
        return {}
    dy = case.take_block(case.dy)
    return {
        "dy itself is left out: of y = x + f(x), dx is dy + f's dx": case.true - dy,
        "dy is added to f's dx, and forward does not add x to f(x)": case.true + dy,
    }


def _of_each_row(slope: Array, x: Array, block: Block) -> Array:
    """Return ∂y_ik / ∂x_ij from the derivatives of all rows with respect to all rows."""
    rows = np.array([row for row, _ in entries_of(x.shape, block)])
    return slope[np.arange(len(rows)), rows].reshape(*take_block(x, block).shape, -1)


def _taken_elsewhere(layer: Layer, case: Case) -> Iterator[tuple[str, Array]]:
    """Yield dx of an elementwise layer with its derivative at another array than x."""
    if not case.elementwise or case.dy is None:
        return
    for there, at in (("y, the output", case.y), ("dy", case.dy)):
        if at is not None:
            slope, _ = _slopes_of(layer, at, "x", case.block)
            own = case.diagonal_of(_of_each_row(slope, at, case.block))
            yield (
                f"the derivative is taken at {there} instead of x, the input",
                own * case.take_block(case.dy),
            )


def _slopes_of(layer: Layer, x: Array, name: str, block: Block) -> tuple[Array, float]:
    """Return ∂y/∂p of shape (entries, n, n_out), for a parameter or for x."""

    def make(dtype: str) -> Function:
        model, own = alone(layer, dtype), x.astype(dtype)

        return lambda: forward(model, own), own if name == "x" else model.layers[0].params[name]

    shape = x.shape if name == "x" else layer.params[name].shape
    return slopes(make, shape, block)


def _remembered(
    layer: Layer, cases: Cases, known: Case, earlier: Rows
) -> Iterator[tuple[str, Case]]:
    """Yield the cases with the gradients of a layer that kept values of an earlier batch."""
    x, dy = earlier
    then = _true_cases(layer, replace(known, x=x, dy=dy, y=None, n=len(x)))
    same = known.dy is not None and known.dy.shape == dy.shape
    mixed = _true_cases(layer, replace(known, x=x, y=None)) if same else {}
    delta = known.dy if cases["x"].delta is None else cases["x"].delta
    for name, case in cases.items():
        others = dict(case.others)
        if not case.by_row:
            sentence = "the gradient is added to that of the previous batch, += instead of ="
            others[sentence] = case.true + then[name].true
        if same and delta is not None:
            others[f"{STALE}: it is the gradient of the previous batch"] = mixed[name].true
            others[f"{STALE}: it is the gradient of the previous batch, and of its dy"] = then[
                name
            ].true
            if not case.by_row:
                guess = case.take_block(x.T @ delta / len(x))
                others[f"{STALE}: x is from the previous batch"] = guess
        yield name, replace(case, others=others, seen=(len(x),))
