"""A loss alone, and the whole of model, loss, row weights and penalty.

If no layer and no loss is wrong, the error is in their combination.
"""

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
    noise_of,
    slopes,
    take_block,
)
from minigd.checks.passes import Setup, new_loss
from minigd.data.row_weights import row_scale
from minigd.nn.losses import Loss
from minigd.types import Array

# A loss alone -----------------------------------------------------------------------------------


def dz_of(loss: Loss, z: Array, y: Array, weight: Array | None, used: Loss | None = None) -> Array:
    """Return the dz of a new loss of the same kind, or of one that was used before."""
    own = used or new_loss(loss)
    own.mean(z.copy(), y, row_scale(weight))
    return own.backward().copy()


def explain_loss(loss: Loss, z: Array, y: Array, weight: Array | None) -> tuple[bool, str | None]:
    """Return whether the gradient of a loss is right, and what it looks like if known."""
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
    used = new_loss(loss)
    dz_of(loss, rows, targets, weight, used)
    given = dz_of(loss, z, y, weight, used)
    if np.allclose(given, dz_of(loss, z, y, weight), rtol=1e-9, atol=0, equal_nan=True):
        return True, None
    others = {
        f"{STALE}: the targets are from the previous batch": (z, targets),
        f"{STALE}: the outputs are from the previous batch": (rows, y),
        f"{STALE}: it is the gradient of the previous batch": (rows, targets),
    }
    stale = {what: _true_dz(loss, *batch, weight)[0] for what, batch in others.items()}
    return False, diagnose([replace(case, given=case.take_block(given), others=stale)])


def _true_dz(loss: Loss, z: Array, y: Array, weight: Array | None) -> tuple[Array, float]:
    block = block_of(z.shape)

    def make(dtype: str) -> Function:
        own, rows = new_loss(loss), z.astype(dtype)
        return lambda: np.asarray(own.mean(rows, y, row_scale(weight))), rows

    found, tolerance = slopes(make, z.shape, block)
    return len(z) * found.reshape(take_block(z, block).shape), tolerance


def _loss_case(loss: Loss, z: Array, y: Array, weight: Array | None) -> Case:
    true, tolerance = _true_dz(loss, z, y, weight)
    block, rows = block_of(z.shape), new_loss(loss).targets(y, z)
    if rows.ndim == 1:
        rows = (rows[:, None] == np.arange(z.shape[1])).astype("float64")
    return Case(
        given=take_block(dz_of(loss, z, y, weight), block),
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


def explain_network(setup: Setup, first: str) -> tuple[str, str] | None:
    """Return which parameter's gradient can be explained, and how."""
    rng = np.random.default_rng(0)
    setups = [setup]
    for n in other_sizes(len(setup.x)):
        x, which = between(setup.x, n, rng)
        weight = weights_of(setup.weight, which, rng)
        setups.append(setup._replace(x=x, y=setup.y[which], weight=weight))
    for name in sorted(setup.model.params, key=lambda name: name != first):
        found = diagnose([_network_case(each, name) for each in setups])
        if found:
            return name, found
    return None


def _network_case(setup: Setup, name: str) -> Case:
    penalty, value = setup.penalty, setup.model.params[name]
    block = block_of(value.shape)
    penalized = penalty.decay_bias or value.ndim > 1
    price = take_block(penalty.l1 * np.sign(value) + penalty.l2 * value, block) if penalized else 0
    each, tolerance = _of_each_row(setup, name, block)
    scale = row_scale(setup.weight)
    counted = each if scale is None else each * scale.reshape(-1, *[1] * value.ndim)
    return Case(
        given=take_block(_gradients(setup)[name], block),
        true=counted.mean(axis=0) + price,
        n=len(setup.x),
        each=each,
        value=take_block(value, block),
        scale=scale,
        weight=setup.weight,
        l1=penalty.l1,
        l2=penalty.l2,
        penalized=penalized,
        block=block,
        tolerance=tolerance,
        noise=noise_of(np.append(counted, 1.0), tolerance),
    )


def _gradients(setup: Setup) -> dict[str, Array]:
    """Return the gradients of a new model and a new loss."""
    own = setup.copied()._replace(loss=new_loss(setup.loss))
    own.value(own.x)
    own.backward()
    return own.model.grads


def _of_each_row(setup: Setup, name: str, block: Block) -> tuple[Array, float]:
    """Return ∂ℓ_i/∂p of shape (n, ...), and its accuracy relative to the largest."""

    def make(dtype: str) -> Function:
        own = setup.copied(dtype)._replace(loss=new_loss(setup.loss))
        return own.per_example, own.model.params[name]

    value = setup.model.params[name]
    found, tolerance = slopes(make, value.shape, block)
    return found.T.reshape(len(setup.x), *take_block(value, block).shape), tolerance
