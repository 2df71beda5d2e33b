"""A loss alone, and the whole of model, loss, weights of rows and penalty.

What no layer and no loss is to blame for lies in how they are put together.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from minigd.checks.diagnosis.batches import between, other_sizes, weights_of
from minigd.checks.diagnosis.case import Case
from minigd.checks.diagnosis.naming import diagnose
from minigd.checks.diagnosis.slips import STALE, TARGET
from minigd.checks.diagnosis.slopes import (
    Block,
    Function,
    block_of,
    cut,
    entries_of,
    noise_of,
    slopes,
)
from minigd.data.row_weights import row_scale
from minigd.nn.layers import Layer
from minigd.nn.losses import Loss
from minigd.nn.sequential import Sequential
from minigd.optim.gradient_transforms import Penalty
from minigd.types import Array


def _new(loss: Loss) -> Loss:
    return type(loss)(**loss.config())


# A loss alone -----------------------------------------------------------------------------------


def dz_of(loss: Loss, z: Array, y: Array, weight: Array | None, used: Loss | None = None) -> Array:
    """Return dz as a new loss of the same kind gives it, or one that was used before."""
    own = used or _new(loss)
    own.mean(z.copy(), y, row_scale(weight))
    return own.backward().copy()


def explain_loss(loss: Loss, z: Array, y: Array, weight: Array | None) -> tuple[bool, str | None]:
    """Return whether the gradient of a loss is right, and what it looks like if that is known."""
    rng = np.random.default_rng(0)
    cases = [_loss_case(loss, z, y, weight)]
    if cases[0].right:
        return _explain_memory(loss, z, y, weight, cases[0])
    for n in other_sizes(len(z), z.shape[1]):
        rows, which = between(z, n, rng)
        cases.append(_loss_case(loss, rows, y[which], weights_of(weight, which, rng)))
    return False, diagnose(cases)


def _explain_memory(
    loss: Loss, z: Array, y: Array, weight: Array | None, case: Case
) -> tuple[bool, str | None]:
    """Explain what is wrong only after another batch."""
    rows, which = between(z, len(z), np.random.default_rng(0))
    targets = np.roll(y, 1, axis=0)[which]
    used = _new(loss)
    dz_of(loss, rows, targets, weight, used)
    given = dz_of(loss, z, y, weight, used)
    if np.allclose(given, dz_of(loss, z, y, weight), rtol=1e-9, atol=0, equal_nan=True):
        return True, None
    others = {
        f"{STALE}: the targets are those of the batch before": (z, targets),
        f"{STALE}: the outputs are those of the batch before": (rows, y),
        f"{STALE}: it is the gradient of the batch before": (rows, targets),
    }
    stale = {what: _true_dz(loss, *batch, weight)[0] for what, batch in others.items()}
    return False, diagnose([replace(case, given=case.cut(given), others=stale)])


def _true_dz(loss: Loss, z: Array, y: Array, weight: Array | None) -> tuple[Array, float]:
    block = block_of(z.shape)

    def make(dtype: str) -> Function:
        own, rows = _new(loss), z.astype(dtype)
        return lambda: np.asarray(own.mean(rows, y, row_scale(weight))), rows

    found, tolerance = slopes(make, entries_of(z.shape, block))
    return len(z) * found.reshape(cut(z, block).shape), tolerance


def _loss_case(loss: Loss, z: Array, y: Array, weight: Array | None) -> Case:
    true, tolerance = _true_dz(loss, z, y, weight)
    block, rows = block_of(z.shape), _new(loss).targets(y, z)
    if rows.ndim == 1:
        rows = (rows[:, None] == np.arange(z.shape[1])).astype("float64")
    return Case(
        given=cut(dz_of(loss, z, y, weight), block),
        true=true,
        n=len(z),
        by_row=True,
        x=z,
        y=rows,
        scale=row_scale(weight),
        weight=weight,
        others={TARGET: _true_dz(loss, z, 0 * y, weight)[0]} if y.shape == z.shape else {},
        block=block,
        tolerance=tolerance,
        noise=noise_of(np.append(rows, 1.0), tolerance),
    )


# The whole --------------------------------------------------------------------------------------


def explain_whole(
    model: Sequential,
    layers: Sequence[Layer],
    loss: Loss,
    x: Array,
    y: Array,
    weight: Array | None,
    penalty: Penalty,
    first: str,
) -> tuple[str, str] | None:
    """Return which parameter's gradient can be explained, and how."""
    rng = np.random.default_rng(0)
    batches = [(x, y, weight)]
    for n in other_sizes(len(x)):
        which = rng.integers(len(x), size=n)
        batches.append((x[which], y[which], weights_of(weight, which, rng)))
    for name in sorted(model.params, key=lambda name: name != first):
        cases = _whole_cases(model, len(layers), loss, penalty, name, batches)
        found = diagnose(list(cases))
        if found:
            return name, found
    return None


def _whole_cases(
    model: Sequential,
    depth: int,
    loss: Loss,
    penalty: Penalty,
    name: str,
    batches: Sequence[tuple[Array, Array, Array | None]],
) -> Iterator[Case]:
    value = model.params[name]
    block = block_of(value.shape)
    pays = penalty.decay_bias or value.ndim > 1
    price = cut(penalty.l1 * np.sign(value) + penalty.l2 * value, block) if pays else 0
    for x, y, weight in batches:
        each, tolerance = _of_each_row(model, depth, loss, x, y, name, block)
        scale = row_scale(weight)
        counted = each if scale is None else each * scale.reshape(-1, *[1] * value.ndim)
        yield Case(
            given=cut(_given(model, depth, loss, penalty, x, y, scale)[name], block),
            true=counted.mean(axis=0) + price,
            n=len(x),
            each=each,
            value=cut(value, block),
            scale=scale,
            weight=weight,
            l1=penalty.l1,
            l2=penalty.l2,
            pays=pays,
            block=block,
            tolerance=tolerance,
            noise=noise_of(np.append(counted, 1.0), tolerance),
        )


def _given(
    model: Sequential,
    depth: int,
    loss: Loss,
    penalty: Penalty,
    x: Array,
    y: Array,
    scale: Array | None,
) -> dict[str, Array]:
    twin, own = model.copy(), _new(loss)
    twin.passes = 0
    own.mean(twin.run_forward(twin.layers[:depth], x, train=True), y, scale)
    twin.run_backward(twin.layers[:depth], own.backward())
    penalty.add_gradient(twin)
    return twin.grads


def _of_each_row(
    model: Sequential, depth: int, loss: Loss, x: Array, y: Array, name: str, block: Block
) -> tuple[Array, float]:
    """Return ∂ℓ_i/∂p of shape (n, ...), and as what share of the largest it is exact."""

    def make(dtype: str) -> Function:
        twin, own, rows = model.copy(dtype=dtype), _new(loss), x.astype(dtype)

        def losses() -> Array:
            twin.passes = 0
            z = twin.run_forward(twin.layers[:depth], rows, train=True)
            return own.per_example(z, own.targets(y, z))

        return losses, twin.params[name]

    found, tolerance = slopes(make, entries_of(model.params[name].shape, block))
    return found.T.reshape(len(x), *cut(model.params[name], block).shape), tolerance
