"""Where the time of a fit went: one line, from one step in a hundred taken operation by operation.

The matrix products are set beside the best that this machine does.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from minigd.types import Array

EVERY = 101
"""Of so many steps one is looked at; a prime, so that no rhythm of the data hides from it."""


class Receipt:
    """What a fit spent its seconds on.

    Attributes
    ----------
    seconds : dict of str to float
        ``"reading"`` and ``"training"`` whole; ``"matrix products"`` and ``"elementwise"`` of the
        steps that were looked at.
    """

    def __init__(self) -> None:
        self.seconds = {"reading": 0.0, "training": 0.0, "matrix products": 0.0, "elementwise": 0.0}
        self._steps = self._looked = 0
        self._looked_seconds = 0.0
        self._flops = 0.0

    def due(self) -> bool:
        """Count a step, and tell whether it is looked at."""
        self._steps += 1
        return self._steps % EVERY == EVERY // 2

    def run(self, operations: list[tuple[str, Callable[..., Any], tuple[Any, ...]]]) -> None:
        """Do the operations of a step, each by the clock."""
        clock, seconds = time.perf_counter, self.seconds
        before = clock()
        for name, function, arguments in operations:
            function(*arguments)
            now = clock()
            seconds["matrix products" if name == "dot" else "elementwise"] += now - before
            before = now
            if name == "dot":
                a, b = arguments[:2]
                self._flops += 2.0 * a.size * b.shape[-1]

    def add(self, reading: float, training: float, looked: bool) -> None:
        """Add the seconds that a batch took to come, and to train on."""
        self.seconds["reading"] += reading
        self.seconds["training"] += training
        if looked:
            self._looked += 1
            self._looked_seconds += training

    def line(self, dtype: Any) -> str:
        """Return the receipt."""
        seconds = self.seconds
        whole = seconds["reading"] + seconds["training"]
        if whole == 0:
            return "no time was spent on training"
        text = f"{whole:.2f} s over {self._steps:,} steps: "
        if not seconds["elementwise"]:
            shares = {"training": seconds["training"], "reading": seconds["reading"]}
            return text + ", ".join([f"{k} {v / whole:.0%}" for k, v in shares.items()])
        scale = seconds["training"] / self._looked_seconds
        products, elementwise = (scale * seconds[k] for k in ("matrix products", "elementwise"))
        rate = self._flops / seconds["matrix products"] / 1e9
        parts = [
            f"matrix products {products / whole:.0%} ({rate:.1f} GFLOP/s of {best(dtype):.1f} that "
            "this machine does)",
            f"elementwise {elementwise / whole:.0%}",
            f"updates and the loop {(seconds['training'] - products - elementwise) / whole:.0%}",
            f"reading {seconds['reading'] / whole:.0%}",
        ]
        return text + ", ".join(parts)


def best(dtype: Any) -> float:
    """Return the GFLOP/s of a large matrix product, the best of five."""
    n = 768
    a: Array = np.ones((n, n), dtype=dtype)
    out, times = np.empty_like(a), []
    for _ in range(5):
        started = time.perf_counter()
        np.dot(a, a, out=out)
        times.append(time.perf_counter() - started)
    return 2 * n**3 / min(times) / 1e9
