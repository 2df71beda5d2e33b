"""Where the time of a fit went: one line. Few steps are measured operation by operation.

The speed of the matrix products is compared with the best of this machine.
"""

import time
from typing import Any

import numpy as np

from minigd.execution.program import Operation
from minigd.types import Array

EVERY = 101
"""One of this many steps is sampled. It is a prime, so that no period in the data biases it."""


class Profiler:
    """Measures where a fit spends its time.

    Attributes
    ----------
    sampling : bool
        Whether the current step is run operation by operation.
    seconds : dict of str to float
        ``"reading"`` and ``"training"`` in total; ``"matrix products"`` and ``"elementwise"`` of
        the sampled steps.
    ways : dict of str to int
        The number of steps per way: plain, by NumPy's calls, compiled one by one, or compiled as
        parts of an epoch.
    """

    def __init__(self) -> None:
        self.seconds = {"reading": 0.0, "training": 0.0, "matrix products": 0.0, "elementwise": 0.0}
        self.sampling = False
        self.ways: dict[str, int] = {}
        self._begun, self._sampled_seconds = 0, 0.0
        self._flops = 0.0

    def begin_step(self, started: float) -> None:
        """Count a step that waited for its batch since `started`, and choose whether to sample."""
        self._arrived = time.perf_counter()
        self.seconds["reading"] += self._arrived - started
        self._begun += 1
        self.sampling = self._begun % EVERY == EVERY // 2

    def count(self, way: str, steps: int = 1) -> None:
        """Count steps of one way."""
        self.ways[way] = self.ways.get(way, 0) + steps

    def end_step(self) -> None:
        """Add the seconds since the batch arrived."""
        training = time.perf_counter() - self._arrived
        self.seconds["training"] += training
        self._sampled_seconds += training if self.sampling else 0.0
        self.sampling = False

    def run(self, operations: list[Operation]) -> None:
        """Run the operations of a step, and measure the time of each."""
        clock, seconds = time.perf_counter, self.seconds
        before = clock()
        for name, function, arguments, _ in operations:
            if isinstance(function, np.ufunc):
                function(*arguments[:-1], out=arguments[-1])
            else:
                function(*arguments)
            now = clock()
            seconds["matrix products" if name == "dot" else "elementwise"] += now - before
            before = now
            if name == "dot":
                a, b = arguments[:2]
                self._flops += 2.0 * a.size * b.shape[-1]

    def line(self, dtype: Any) -> str:
        """Return the line to print."""
        seconds = self.seconds
        whole = seconds["reading"] + seconds["training"]
        if whole == 0:
            return "no time was spent on training"
        steps = sum(self.ways.values())
        ways = [way if n == steps else f"{n:,} {way}" for way, n in self.ways.items()]
        text = f"{whole:.2f} s over {steps:,} steps, {', '.join(ways)}: "
        if not seconds["elementwise"]:
            shares = {"training": seconds["training"], "reading": seconds["reading"]}
            return text + ", ".join([f"{k} {v / whole:.0%}" for k, v in shares.items()])
        scale = seconds["training"] / self._sampled_seconds
        products, elementwise = (scale * seconds[k] for k in ("matrix products", "elementwise"))
        rate = self._flops / seconds["matrix products"] / 1e9
        parts = [
            f"matrix products {products / whole:.0%} ({rate:.1f} GFLOP/s; this machine's "
            f"best: {best(dtype):.1f})",
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
