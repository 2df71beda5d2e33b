"""Common mistakes in a `backward`, and the gradient that each of them would give.

A guess is a sentence and an array. `diagnose` checks whether the array equals the given gradient.
"""

import math
from collections.abc import Iterator, Mapping
from typing import TypeAlias

import numpy as np

from minigd.checks.diagnosis.case import Case
from minigd.types import Array

Guess: TypeAlias = tuple[str, Array]
"""A sentence, with ``{n}`` for the rows of the batch, and the gradient of this mistake."""

MISSING = "the mean over the batch is missing (a factor of n = {n})"
TWICE = "the mean over the batch is taken twice (a factor of 1/n = 1/{n})"
SIGN = "the sign is wrong"
ZERO = "the gradient is missing: it stays zero"
STALE = "a stale cache"
TARGET = "the target is left out"


# The simplest -----------------------------------------------------------------------------------


def plain(case: Case) -> Iterator[Guess]:
    """Yield mistakes that need only the true gradient: missing, added, or wrong by a factor."""
    t = case.true
    yield ZERO, 0 * t
    if case.before is not None:
        yield "the gradient is never written", case.before
        yield "the gradient is added to the previous values, += instead of =", t + case.before
    yield SIGN, -t
    for sentence, factor in _factors(case):
        yield sentence, factor * t
    if case.by_row and case.dy is not None:
        yield "the Jacobian is ignored: dx is dy unchanged", case.take_block(case.dy)


def _factors(case: Case) -> Iterator[tuple[str, float]]:
    n = case.n
    if case.by_row:
        yield "each row is multiplied by n = {n}, although it belongs to one example", n
        yield "the mean over the batch is taken twice: each row is divided by n = {n}", 1 / n
    else:
        yield MISSING, n
        yield TWICE, 1 / n
    yield "a constant factor of 2", 2.0
    yield "a constant factor of 1/2", 0.5
    for what, width in _widths(case).items():
        yield f"the mean over the {width} {what} is missing (a factor of {width})", width
        yield f"a constant factor of {width}", width
        yield f"a mean over the {width} {what} is also taken (a factor of 1/{width})", 1 / width
        yield f"a constant factor of 1/{width}", 1 / width
        if not case.by_row:
            yield f"it is divided by the {width} {what} instead of n = {{n}} rows", n / width
    if case.weight is not None:
        total = float(case.weight.sum())
        yield "the weighted sum is not divided by the sum of the weights", total
        yield "the weighted sum is divided by n = {n} instead of the sum of the weights", total / n


def _widths(case: Case) -> dict[str, int]:
    """Return the width of a layer's output and input, or of a loss's input."""
    outputs = case.x if case.dy is None else case.dy
    inputs = None if case.dy is None else case.x
    found = {"inputs": inputs, "outputs": outputs}
    widths = {rows.shape[1]: what for what, rows in found.items() if rows is not None}
    return {what: width for width, what in widths.items() if width > 1}


# Made of other things ---------------------------------------------------------------------------


def otherwise(case: Case) -> Iterator[Guess]:
    """Yield mistakes with other rows, weights, penalties, matrices or derivatives."""
    yield from case.others.items()
    n = case.n
    if not case.by_row:
        yield "it is divided by √n instead of n = {n}", case.true * math.sqrt(n)
        yield "it is divided by n + 1 instead of n = {n}", case.true * n / (n + 1)
        yield "it is divided by n − 1 instead of n = {n}", case.true * n / max(n - 1, 1)
    yield from _rows(case)
    yield from _weights(case)
    yield from _penalties(case)
    yield from _transposes(case)
    if case.dy is not None and case.x is not None:
        yield from _derivatives(case, case.x, case.dy)
    if case.dy is None and case.x is not None and case.y is not None:
        yield from _targets(case, case.x, case.y)


def _rows(case: Case) -> Iterator[Guess]:
    n = case.n
    if case.by_row:
        rows = case.places[0][:, None]
        yield "only the first row of the batch counts", np.where(rows == 0, case.true, 0)
        yield "only the last row of the batch counts", np.where(rows == n - 1, case.true, 0)
        if case.is_complete and n > 1:
            yield "the rows of the batch are in reverse order", case.true[::-1]
            yield "the rows of the batch are shifted by one", np.roll(case.true, 1, axis=0)
            yield "the rows of the batch are shifted by one", np.roll(case.true, -1, axis=0)
    if case.each is None:
        return
    each = case.each if case.scale is None else _by_row(case.each, case.scale)
    penalty = case.true - each.mean(axis=0)
    for which, kept in (("first", slice(0, 1)), ("last", slice(-1, None))):
        yield f"only the {which} row of the batch counts", each[kept].sum(axis=0) + penalty
        yield f"only the {which} row of the batch counts", each[kept].sum(axis=0) / n + penalty
    for which, kept in (("first", slice(1, None)), ("last", slice(-1))):
        for rows_left in {n, max(n - 1, 1)}:
            guess = each[kept].sum(axis=0) / rows_left + penalty
            yield f"the {which} row of the batch is left out", guess


def _weights(case: Case) -> Iterator[Guess]:
    scale, weight = case.scale, case.weight
    if scale is None or weight is None:
        return
    instead = {
        "the weights of the rows are ignored": np.ones(case.n),
        "the weights of the rows are applied once too often": scale * scale,
    }
    for sentence, factors in instead.items():
        if case.each is not None:
            penalty = case.true - _by_row(case.each, scale).mean(axis=0)
            yield sentence, _by_row(case.each, factors).mean(axis=0) + penalty
        elif case.by_row and (scale > 0).all():
            yield sentence, case.true * (factors / scale)[case.places[0], None]


def _by_row(each: Array, factors: Array) -> Array:
    product: Array = each * factors.reshape(-1, *[1] * (each.ndim - 1))
    return product


def _penalties(case: Case) -> Iterator[Guess]:
    if case.value is None or not (case.l1 or case.l2):
        return
    parts = {"L1": case.l1 * np.sign(case.value), "L2": case.l2 * case.value}
    parts = {name: part for name, part in parts.items() if part.any()}
    if len(parts) == 2:
        parts["whole"] = parts["L1"] + parts["L2"]
    t, n = case.true, case.n
    for name, part in parts.items():
        penalty = f"the {name} penalty"
        if case.penalized:
            yield f"{penalty} is forgotten", t - part
            yield f"{penalty} is counted twice", t + part
            yield f"the sign of {penalty} is wrong", t - 2 * part
            yield f"{penalty} is divided by n = {{n}}", t - part + part / n
            yield f"{penalty} is multiplied by n = {{n}}", t - part + part * n
            yield f"half of {penalty} is missing", t - part / 2
        elif case.dy is not None:
            yield (
                f"{penalty} is counted twice: both the layer and the trainer add it",
                t + part,
            )
            yield f"{penalty} is missing: the layer subtracts it again", t - part
        else:
            yield f"{penalty} is applied to a parameter that has no penalty", t + part


def _transposes(case: Case) -> Iterator[Guess]:
    t = case.true
    if t.ndim != 2:
        return
    if not case.by_row:
        if t.shape[0] == t.shape[1]:
            yield "the gradient is transposed", t.T
        elif case.is_complete:
            yield "the gradient is transposed, and reshaped to fit", t.T.reshape(t.shape)
    if not case.by_row or case.dy is None:
        return
    for name, W in case.matrices.items():
        for delta in (case.dy, case.dy if case.delta is None else case.delta):
            if W.shape[0] == W.shape[1] == delta.shape[1]:
                yield f"{name} is not transposed: it is dy·{name}", case.take_block(delta @ W)
            elif W.shape[1] == delta.shape[1]:
                guess = case.take_block(delta @ W.reshape(W.shape[::-1]))
                yield f"{name} is reshaped to fit instead of transposed", guess


def _derivatives(case: Case, x: Array, dy: Array) -> Iterator[Guess]:
    n, y, jacobian = case.n, case.y, case.jacobian
    ignored = "the Jacobian is ignored in part:"
    if case.by_row:
        for name, W in case.matrices.items():
            if dy.shape[1] == W.shape[1]:
                guess = case.take_block((dy @ W.T)[:, : x.shape[1]])
                yield f"{ignored} dx is only dy·{name}ᵀ", guess
        if y is not None and y.shape == x.shape == dy.shape and not case.elementwise:
            yield f"{ignored} dx is only y·dy", case.take_block(y * dy)
    else:
        for rows in (x, np.hstack([x, np.ones((n, 1))])):
            yield f"{ignored} it is only xᵀ·dy / n", case.take_block(rows.T @ dy / n)
        yield f"{ignored} it is only the mean of dy", case.take_block(dy.mean(axis=0))
    if jacobian is not None:
        yield "dy is left out: the chain rule stops here", jacobian.sum(axis=2)
        if x.shape == dy.shape:
            own = case.diagonal_of(jacobian)
            yield "the Jacobian is ignored except for its diagonal", own * case.take_block(dy)
            yield "the derivative is multiplied in twice", own * own * case.take_block(dy)
            if case.is_complete and not case.matrices:
                yield "the Jacobian is transposed", np.einsum("ikj,ik->ij", jacobian, dy)
            if y is not None:
                yield from _at_the_wrong_place(case, x, y, own)
    vectors = {name: p for name, p in case.params.items() if case.by_row and p.ndim == 1}
    yield from _elementwise(case, {"x": x, "y": y, "the parameter": case.value, **vectors})


def _at_the_wrong_place(case: Case, x: Array, y: Array, own: Array) -> Iterator[Guess]:
    assert case.dy is not None
    wrong = "the derivative is written in terms of y, the output, but receives x, the input"
    for of_y, of_x in ((y * (1 - y), x * (1 - x)), (1 - y * y, 1 - x * x)):
        if np.allclose(case.take_block(of_y), own, rtol=1e-6, atol=1e-12):
            yield wrong, case.take_block(of_x * case.dy)


def _elementwise(case: Case, factors: Mapping[str, Array | None]) -> Iterator[Guess]:
    for name, factor in factors.items():
        if factor is None:
            continue
        if case.by_row:
            factor = np.broadcast_to(factor, (case.n, factor.shape[-1]))
        factor = factor if name == "the parameter" else case.take_block(factor)
        if factor.shape == case.true.shape:
            yield f"it is multiplied by {name} one time too many", case.true * factor
            if factor.all():
                yield f"a factor of {name} is missing", case.true / factor


def _targets(case: Case, z: Array, y: Array) -> Iterator[Guess]:
    if y.shape != z.shape:
        return
    one = np.ones(case.n) if case.scale is None else case.scale
    yield TARGET, case.true + case.take_block(y * one[:, None])
    for next_one in (np.roll(y, 1, axis=1), np.roll(y, -1, axis=1)):
        shifted = case.true + case.take_block((y - next_one) * one[:, None])
        yield "the target is that of the neighboring class", shifted
    if ((z > 0) & (z < 1)).all():
        logits = "the Jacobian is ignored: z − y is the gradient with respect to the logits"
        for width in (1, z.shape[1]):
            yield logits, case.take_block((z - y) * one[:, None] / width)


# Two slips, and others that are rarer ----------------------------------------------------------


def another_derivative(case: Case) -> Iterator[Guess]:
    """Yield dx of an elementwise layer with derivatives that are easily confused."""
    if case.elementwise and case.dy is not None:
        for name, a in (("x", case.x), ("y", case.y)):
            if a is not None:
                derivatives = {
                    f"{name}": a,
                    f"2{name}": 2 * a,
                    f"1 − {name}": 1 - a,
                    f"1 − {name}²": 1 - a * a,
                    f"1 + {name}²": 1 + a * a,
                    f"{name}(1 − {name})": a * (1 - a),
                }
                for formula, slope in derivatives.items():
                    yield f"the derivative is taken for {formula}", case.take_block(slope * case.dy)


def two_at_once(case: Case) -> Iterator[Guess]:
    """Yield two mistakes together: any other mistake or a wrong sign, and a factor."""
    sums: list[tuple[str, float]] = [] if case.by_row else [(MISSING, case.n), (TWICE, 1 / case.n)]
    for sentence, factor in sums:
        yield f"{SIGN}, and {sentence}", -factor * case.true
    for first, guess in otherwise(case):
        for sentence, factor in ((SIGN, -1.0), *sums, ("a constant factor of 2", 2.0)):
            yield f"{first}, and {sentence}", factor * guess
