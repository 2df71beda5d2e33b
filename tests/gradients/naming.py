"""A bug that the gradient checker must name, and the check that it fails.

A kind is in the words of the person who plants a bug, with the words that the checker must use.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest

import minigd as gd

KINDS = {
    "missing 1/n": r"the mean over the batch is missing",
    "1/n twice": r"the mean over the batch is taken twice",
    "sign": r"the sign is wrong",
    "transposed": r"transposed",
    "stays zero": r"stays zero|never written",
    "Jacobian ignored": r"Jacobian is ignored",
    "stale cache": r"a stale cache",
    "tail's n": r"divided by \d+, (a fixed batch size|the size of an earlier batch)",
    "weight ignored": r"the weights of the rows are ignored",
    "L2 forgotten": r"the (L2|whole) penalty is forgotten",
    "L2 doubled": r"the (L2|whole) penalty is counted twice",
    "constant factor": r"a constant factor of",
    "sum over K": r"the mean over the \d+ outputs is missing",
    "accumulated": r"added to",
    "dy left out": r"dy itself is left out",
    "x left out": r"forward does not add x",
    "first row only": r"only the first row of the batch counts",
}


def as_it_is(monkeypatch):
    """Plant nothing: the bug is in the layer or the loss that is checked."""


class Named(NamedTuple):
    """A bug of a kind: after `plant`, `check` must raise a GradientError that names it."""

    name: str
    kind: str
    check: Callable[[], object]
    plant: Callable[[pytest.MonkeyPatch], None] = as_it_is


def layer(make, n=7, width=4):
    """Return the check of a layer alone; `make` is its class, or a function that makes it."""
    x = np.random.default_rng([n, width]).standard_normal((n, width))
    return lambda: gd.check_layer(make(), x)


def network(
    layers, loss="mse", n=6, inputs=3, outputs=2, classes=False, counts=False, weighted=False,
    l1=0.0, l2=0.0,
):  # fmt: skip
    """Return the check of a network; `layers` and `loss` are functions that make them, or names.

    Targets are real numbers, 0 or 1 for a binary cross-entropy, `classes`, or `counts`.
    """
    rng = np.random.default_rng([n, inputs, outputs])
    x, y = rng.standard_normal((n, inputs)), rng.standard_normal((n, outputs))
    weight = rng.uniform(0.2, 3.0, n) if weighted else None

    def check():
        model = gd.Sequential(layers(), inputs=inputs, seed=1)
        model.flat_params += 0.3 * rng.standard_normal(model.flat_params.shape)
        given = loss if isinstance(loss, str) else loss()
        binary = isinstance(given, gd.BinaryCrossEntropy) or given == "binary_crossentropy"
        targets = np.arange(n) % outputs if classes else (y > 0).astype(float) if binary else y
        targets = y * y if counts else targets
        gd.check_gradients(model, given, x, targets, weight, l1=l1, l2=l2)

    return check


def named_rightly(diagnosis, kind):
    """Return whether a diagnosis names the kind, alone or with one that can't be distinguished."""
    said = diagnosis or ""
    return bool(re.search(KINDS[kind], said)) and said.count(", or ") <= 1
