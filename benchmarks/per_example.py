"""The cost of the gradient norms of each row: alternating epochs with and without them.

784-256-256-10, batches of 128, with and without the extra `fast`; batches of one are the
alternative.
"""

# First, because it starts Python anew before NumPy is loaded, if BLAS was pinned.
from benchmarks.environment import describe  # isort: skip

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import minigd as gd
from benchmarks.measure import alternate, ratios, spread, table

WIDTHS, SIZE, ROWS = (784, 256, 10), 128, 20_000


def training(
    X: np.ndarray, y: np.ndarray, batch_size: int, fast: bool, **options: Any
) -> Callable[[], object]:
    """Return a function that trains for an epoch."""
    n_in, units, n_out = WIDTHS
    layers = [gd.Dense(units), gd.ReLU(), gd.Dense(units), gd.ReLU(), gd.Dense(n_out), gd.Softmax()]
    model = gd.Sequential(layers, inputs=n_in)
    trainer = gd.Trainer(model, "categorical_crossentropy", "adam", fast=fast)
    batches = gd.Batches(X, y, batch_size=batch_size, shuffle=True)
    return lambda: trainer.fit(batches, **options)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    X, y = rng.random((ROWS, WIDTHS[0]), dtype=np.float32), rng.integers(0, WIDTHS[2], ROWS)
    print("# The cost of gradient norms per row\n")
    print(f"`python -m benchmarks.per_example`, {time.strftime('%Y-%m-%d')}\n\n{describe()}\n")
    rows = []
    for fast in (False, True):
        seconds = alternate(
            {
                "without": training(X, y, SIZE, fast),
                "with": training(X, y, SIZE, fast, per_example=True),
                "one": training(X[:2000], y[:2000], 1, fast),
            },
            options.rounds,
        )
        each = {k: [1e6 * t / (ROWS / SIZE) for t in seconds[k]] for k in ("without", "with")}
        one = [1e6 * t / 2000 * SIZE for t in seconds["one"]]
        rows.append(
            (
                "minigd with `fast`" if fast else "minigd",
                spread(each["without"], ",.0f"),
                spread(each["with"], ",.0f"),
                spread(ratios(seconds["with"], seconds["without"])),
                spread(one, ",.0f"),
            )
        )
    head = ("", "µs per step", "with norms", "ratio", f"{SIZE} batches of one")
    table(head, rows)


if __name__ == "__main__":
    main()
