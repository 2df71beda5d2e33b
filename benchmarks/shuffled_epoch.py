"""A shuffled epoch over 60,000 x 784 numbers, compared with a copy and with fancy indexing.

Nothing is trained: `python benchmarks/shuffled_epoch.py` measures only the cost of fetching rows.
"""

import contextlib
import threading

import numpy as np
from environment import describe
from measure import Seconds, alternate, options_of, ratios, spread, table, target

import minigd as gd
from minigd.backends.base import get_backend
from minigd.backends.workspace import Workspace


def main() -> None:
    options = options_of(__doc__, rounds=15, rows=60_000, batch_size=100)
    X = np.random.default_rng(0).random((options.rows, 784), dtype=np.float32)
    y = np.arange(options.rows) % 10
    batches = gd.Batches(X, y, batch_size=options.batch_size, shuffle=True)
    ahead = gd.Batches(X, y, batch_size=options.batch_size, shuffle=True, prefetch=2)
    workspace = Workspace(get_backend("numpy"))
    workspace.thread = threading.get_ident()
    there = np.empty_like(X)
    order = np.random.default_rng(0).permutation(options.rows)

    def as_the_trainer() -> None:
        with contextlib.closing(batches.epoch(0, 0, workspace)) as epoch:
            for _ in epoch:
                pass

    def by_hand() -> None:
        for _ in batches:
            pass

    def prefetched() -> None:
        for _ in ahead:
            pass

    def in_pieces() -> None:
        for rows in gd.batch_slices(options.rows, options.batch_size):
            there[rows] = X[rows]

    def bare_take() -> None:
        for rows in gd.batch_slices(options.rows, options.batch_size):
            n = rows.stop - rows.start
            np.take(X, order[rows], axis=0, out=there[:n], mode="clip")
            y.take(order[rows])

    def fancy_batches() -> None:
        for rows in gd.batch_slices(options.rows, options.batch_size):
            X[order[rows]], y[order[rows]]

    contenders = {
        "a plain copy into memory that is there": lambda: np.copyto(there, X),
        "the same copy, batch by batch": in_pieces,
        "a plain copy into fresh memory, `X.copy()`": lambda: X.copy(),
        "`Batches`, as the Trainer iterates, memory reused": as_the_trainer,
        "`Batches`, as a user iterates, fresh memory": by_hand,
        "`Batches(prefetch=2)`, as a user iterates": prefetched,
        "`np.take` alone, batch by batch, memory reused": bare_take,
        "fancy indexing, batch by batch": fancy_batches,
        "fancy indexing, all rows at once": lambda: X[order],
    }
    seconds: Seconds = alternate(contenders, options.rounds, options.cpu)

    copy, _, fresh, trainer, user, *_ = seconds.values()
    print(describe())
    print(
        f"{options.rows:,} rows of 784 float32, {X.nbytes / 1e6:.0f} MB, batches of "
        f"{options.batch_size}; {options.rounds} rounds, {options.clock}: median (smallest to "
        "largest)\n"
    )
    table(
        ["an epoch", "milliseconds", "times `X.copy()`", "times a copy into existing memory"],
        [
            (
                name,
                spread([1000 * s for s in taken], ".1f"),
                spread(ratios(taken, fresh)),
                spread(ratios(taken, copy)),
            )
            for name, taken in seconds.items()
        ],
    )
    for name, taken in (("as the Trainer iterates", trainer), ("as a user iterates", user)):
        print(target(f"{name}, over `X.copy()`", ratios(taken, fresh), 1.5, above=False))
        print(target(f"{name}, over a copy in place", ratios(taken, copy), 1.5, above=False))


if __name__ == "__main__":
    main()
