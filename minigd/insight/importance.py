"""How much each column of a table matters to a model: the loss without it.

The values of a column are shuffled. The column then says nothing about a row, but keeps its
distribution.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from minigd.errors import check_integer
from minigd.training.trainer import Trainer
from minigd.types import Array

WORK = 4e9
"""The most multiplications, about: rows times columns times parameters."""

FEWEST_ROWS, MOST_ROWS = 200, 2000
"""More rows are sampled evenly. If there are too many columns, the heaviest are used."""


def permutation_importance(
    trainer: Trainer,
    x: Array,
    y: Array,
    columns: Mapping[str, Sequence[int]],
    seed: int = 0,
    going_on: Callable[[], bool] = lambda: True,
) -> dict[str, float]:
    r"""Return by how much the loss rises if a column is shuffled, in descending order.

        importance_c = ℓ(x with the values of c in another order, y) − ℓ(x, y)

    The work is bounded: rows are sampled evenly, and if there are very many columns, only those
    with the largest weights in the first Dense layer are shuffled.

    Parameters
    ----------
    trainer : Trainer
        Its model is measured; nothing is trained.
    x : Array, shape (n, width)
    y : Array, shape (n,) or (n, K)
        Rows that the model was not trained on.
    columns : dict of str to sequence of int
        For each column of the table the columns of x that it became, which are shuffled together.
    seed : int, default 0
        The seed of the shuffles.
    going_on : callable, optional
        Called before each column; the work ends if it returns False.

    Returns
    -------
    dict of str to float

    Examples
    --------
    >>> import minigd as gd
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(500, 2))
    >>> model = gd.Sequential([gd.Dense(1, "zeros")], inputs=2)
    >>> model.params["dense1.W"][0] = 1.0
    >>> found = permutation_importance(
    ...     gd.Trainer(model, "mse", "sgd"), x, x[:, 0], {"a": [0], "b": [1]})
    >>> [(name, round(rise, 1)) for name, rise in found.items()]
    [('a', 2.1), ('b', 0.0)]
    """
    seed = check_integer("seed", seed, 0)
    size = max(1, trainer.model.flat_params.size)
    most = max(1, int(WORK / (FEWEST_ROWS * size)))
    if len(columns) > most:
        weights = _weights(trainer, x)
        heaviest = sorted(columns, key=lambda c: -float(weights[list(columns[c])].max(initial=0)))
        columns = {name: columns[name] for name in heaviest[:most]}
    n = int(np.clip(WORK / (size * max(1, len(columns))), FEWEST_ROWS, MOST_ROWS))
    rows = np.unique(np.linspace(0, len(x) - 1, min(n, len(x))).astype(np.int64))
    x, y = x[rows], y[rows]
    usual = trainer.evaluate(x, y)["loss"]
    rng = np.random.default_rng(seed)
    found: dict[str, float] = {}
    for name, places in columns.items():
        if not going_on():
            break
        shuffled = x.copy()
        shuffled[:, list(places)] = x[rng.permutation(len(x))][:, list(places)]
        found[name] = trainer.evaluate(shuffled, y)["loss"] - usual
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _weights(trainer: Trainer, x: Array) -> Array:
    """Return how much each column of x weighs in the first Dense layer."""
    model = trainer.model
    at = next((k for k, layer in enumerate(model.layers) if "W" in layer.params), None)
    if at is None:
        return np.zeros(x.shape[1])
    host = model.backend.to_numpy
    norms = np.linalg.norm(host(model.layers[at].params["W"]), axis=1)
    before = x[:MOST_ROWS]
    if at > 0:
        before = host(model.run_rows(model.layers[:at], before))
    spread = before.std(axis=0)
    return np.asarray(norms * spread if len(norms) == len(spread) else norms)
