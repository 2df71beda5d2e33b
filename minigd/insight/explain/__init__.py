"""One training step explained: every formula with its shapes and its numbers.

It may import what `insight` may.
Start here: a copy of the model makes the step with its own layers, and each of them is recorded.
"""

import copy
from typing import Any

import numpy as np

from minigd.data.row_weights import check_weights, drop_zero_weights
from minigd.errors import check_integer, given_once, validated
from minigd.insight.explain.line import Line
from minigd.insight.explain.step import write_step
from minigd.insight.explain.trace import Trace
from minigd.nn.losses import LossLike, get_loss
from minigd.nn.objective import Objective
from minigd.nn.sequential import Sequential
from minigd.optim.updaters import Updater, get_updater

__all__ = ["Line", "Trace", "explain"]


@validated
def explain(
    model: Sequential,
    x: Any,
    y: Any,
    loss: LossLike,
    updater: str | Updater | None = None,
    sample_weight: Any = None,
    *,
    example: int | None = None,
    optimizer: str | Updater | None = None,
) -> Trace:
    """Return one training step with every formula, shape and number; nothing given is changed.

    It is the step that ``Trainer(model, loss, updater).step(x, y)`` would make now, without
    penalties and limits on the gradient, and a copy of the model makes it. A last Sigmoid or
    Softmax that is paired with its cross-entropy is left out, as in training; see
    `minigd.Objective`. A layer, loss or updater from outside the package is shown with its numbers.

    Parameters
    ----------
    model : Sequential
    x : array-like, shape (n, n_in)
        The batch, on the model's backend.
    y : array-like, shape (n,) or (n, K)
    loss : str or Loss
    updater : str or Updater
        With the state it has: its next update is shown.
    sample_weight : array-like, shape (n,), optional
        How much each row counts. A row of weight 0 is left out.
    example : int, optional
        A row of x whose path through the step is highlighted.
    optimizer : str or Updater, optional
        Another name for `updater`.

    Returns
    -------
    Trace
        Shows itself as text or HTML; ``trace.lines`` holds names, formulas, shapes and values at
        full precision, ``trace.text(digits=8)`` shows more of them.

    Raises
    ------
    ShapeError, DataError, BackendError
        If the batch does not fit the model or the loss.
    ValueError
        If the updater holds the state of another model, or there is no such example.

    Examples
    --------
    >>> import numpy as np, minigd as gd
    >>> model = gd.Sequential([gd.Dense(3), gd.Tanh(), gd.Dense(1)], inputs=2, dtype="float64")
    >>> x, y = np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([1.0, 0.0])
    >>> gd.explain(model, x, y, "mse", gd.SGD(0.1))
    One training step with n = 2, in float64 on numpy
    ...
    forward: dense1
    z1 = x·W1 + b1   (2, 2)·(2, 3) + (3,) → (2, 3)
             1  -0.967  -0.5775
        0.8539  0.1252   0.6593
    ...
    L = Σᵢ ℓᵢ / n   Σᵢ (2,) / 2 → 0.2284
    ...
    backward: dense2
    dW2 = a1ᵀ·dz2 / n   (3, 2)·(2, 1) / 2 → (3, 1)
          0.5792
        -0.04076
          0.2936
    ...
    W2 ← W2 − η·dW2   (3, 1) − 0.1·(3, 1) → (3, 1)
        0.6471
         -1.22
        0.5235
    b2 ← b2 − η·db2   (1,) − 0.1·(1,) → (1,)
        -0.08195
    """
    updater = given_once("updater", updater, "optimizer", optimizer)
    if updater is None:
        raise TypeError("explain needs an updater, such as 'adam' or gd.SGD(0.1)")
    given = get_updater(updater)
    example = None if example is None else check_integer("example", example, 0)
    owner = given._model
    if owner is not None and owner() is not model:
        raise ValueError(
            f"this {type(given).__name__} holds the state of another model: explain the model it "
            "belongs to, or make a new one"
        )
    backend = model.backend
    twin = model.copy(backend=backend)
    objective = Objective(twin, copy.copy(get_loss(loss)))
    x, y = backend.here(x, "x"), backend.here(y, "y")
    objective.check(x, y, values=False)
    size, weight = len(x), None
    rows = np.arange(size)
    if sample_weight is not None:
        weight = check_weights(sample_weight, size)
        weight, x, y, rows = drop_zero_weights(weight, x, y, rows)
    backend.check_finite(x, "x", rows)
    x = twin.convert(x, "x", rows)
    objective.check(x, y)

    title = [
        f"One training step with n = {len(rows)}, in {model.dtype} on {backend.name}",
        f"model: {model!r}",
        f"loss: {objective.given!r}",
        f"updater: {given!r}",
    ]
    if len(rows) < size:
        title.append(f"{size - len(rows)} of {size} rows have weight 0 and are ignored")
    with np.errstate(all="ignore"):
        step = write_step(objective, copy.copy(given), x, y, weight)
    return Trace(title, step.given, step.lines, rows.tolist(), example)
