"""The squared gradient norm of each row, compared with batches of that row alone."""

import numpy as np

from minigd.checks.layer_rules.parts import Projection, draws
from minigd.checks.passes import alone, run
from minigd.errors import GradientError
from minigd.execution import per_example
from minigd.execution.per_example import RowClipping
from minigd.nn.layers import Layer
from minigd.nn.objective import Objective
from minigd.types import Array

_MOST_ROWS = 20


def check_row_squares(layer: Layer, x: Array, dy: Array, tolerance: float) -> None:
    """Compare `row_squares` with batches of one row, through the code of `clip_rows`."""
    x, dy = x[:_MOST_ROWS], dy[:_MOST_ROWS]
    if not layer.params or _refuses_rows(layer, dy):
        return
    rows = [_row_alone(layer, x, dy, i) for i in range(len(x))]
    expected = np.sqrt([sum(float((g * g).sum()) for g in row.values()) for row in rows])
    if not np.isfinite(expected).all():
        return  # squares that overflow in float64
    limit = float(np.median(expected)) or 1.0
    model = alone(layer)
    objective = Objective(model, Projection())
    objective.forward(x.copy(), dy.copy())
    kind = type(layer)
    owner = next(k for k in kind.__mro__ if "row_squares" in vars(k))
    advice = (
        "define row_squares(dy) by the formula of its gradient"
        if owner is kind
        else f"{kind.__name__} inherits it from {owner.__name__}: define its own"
    ) + ", or refuse, with row_squares = gd.Layer.row_squares in the class"
    try:
        norms = per_example.backward(objective, RowClipping(limit))
    except Exception as error:
        raise GradientError(
            f"{layer.name}: clip_rows and per_example fail, with {type(error).__name__}: {error}. "
            "row_squares comes before backward, and reads self.held without self.kept(); "
            f"{advice}"
        ) from error
    if norms.shape != (len(x),):
        raise GradientError(
            f"{layer.name}: row_squares returned shape {norms.shape}; it must return "
            f"shape {(len(x),)}, one number per row"
        )
    wrong = ~(np.abs(norms - expected) <= tolerance * expected.max())
    if wrong.any():
        i = int(np.argmax(wrong))
        raise GradientError(
            f"{layer.name}: row_squares gives {norms[i] ** 2:.6g} for row {i}, and the gradient of "
            f"a batch of that row alone has {expected[i] ** 2:.6g}: {advice}"
        )
    share = np.minimum(1, limit / np.maximum(expected, 1e-300))
    for name, gradient in model.layers[0].grads.items():
        clipped = np.mean([s * row[name] for s, row in zip(share, rows, strict=True)], axis=0)
        near = tolerance * float(np.abs(clipped).max(initial=0.0)) + 1e-12
        if not np.allclose(gradient, clipped, rtol=0, atol=near):
            raise GradientError(
                f"{layer.name}: with clip_rows the gradient of {name!r} is wrong, because backward "
                "runs twice there: it may use only dy and what self.keep holds"
            )


def _refuses_rows(layer: Layer, dy: Array) -> bool:
    """Return whether `row_squares` refuses gradients of rows, as it may."""
    for each in alone(layer).all_layers:
        if each.params and type(each).row_squares is Layer.row_squares:
            return True
        try:
            # A refusal does not use kept arrays, and here nothing was kept.
            each.row_squares(dy)
        except ValueError:
            if each.params:
                return True
        except Exception:  # it may fail without kept arrays
            continue
    return False


def _row_alone(layer: Layer, x: Array, dy: Array, i: int) -> dict[str, Array]:
    """Return the gradients of the parameters for one row of a batch."""
    if not draws(layer):
        found = run(alone(layer), x[i : i + 1], dy[i : i + 1])
        return {name: found[name] for name in layer.params}
    # Random numbers depend on the position in the batch, so the row stays there.
    others = np.zeros_like(dy)
    others[i] = dy[i]
    found = run(alone(layer), x, others)
    return {name: len(x) * found[name] for name in layer.params}
