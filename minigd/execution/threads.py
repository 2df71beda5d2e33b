"""How many threads BLAS has during a `fit`: one for small products, all of them for large ones.

The threads of BLAS wait for each other at the end of each product. On a machine that does something
else, one of them does not run for some milliseconds, and the others wait. So more threads pay only
where a product takes longer than such a pause. Microseconds per step on 2 processors that were
quiet, and that two other processes kept busy:

    network, batch size     quiet: 2 threads   1 thread   busy: 2 threads   1 thread
    784-128-10, 100                    1,173      1,005             4,729      1,908
    784-512-512-10, 128                7,354      7,791            21,728     12,689

The three products of one layer on the same machine at a load of 6 to 10, medians, time with 2
threads over time with 1, by the multiplications n·k·m of each, in millions: 8: 9.1; 50: 5.6 to 8.0;
100 to 210: 2.4 to 6.0; 260 to 620: 0.9 to 2.3; 1,100 to 4,300: 1.1 to 1.25; 17,000: 0.93.
"""

import contextlib
import functools
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

import threadpoolctl

from minigd.data.batches import Batches
from minigd.errors import check_integer
from minigd.nn.sequential import Sequential
from minigd.progress import warn

LARGE = 1_000_000_000
"""Multiplications n·k·m of a product, for n rows per batch and a weight of shape (k, m), from which
on BLAS keeps all its threads. One core takes some 20 ms for so many. A busy machine takes a quarter
longer with two threads than with one; at half the size, up to 2.3 times as long."""

VARIABLES = tuple(f"{name}_NUM_THREADS" for name in ("OPENBLAS", "GOTO", "OMP", "MKL", "BLIS"))
"""Whoever sets one of these has chosen the number, and `fit` leaves it."""

_lock = threading.Lock()
_wanted: dict[object, int] = {}
"""What each fit under way wants: the number belongs to the process, so the least one holds."""
_changed: dict[str, tuple[int, int]] = {}
"""Threads before the first of these fits, and threads that were set since, by library."""

# Since version 3.8, the Python thread that has set a number is the only one that can set another.
_release = getattr(threadpoolctl.OpenBLASController, "clear_controlling_thread", lambda: None)


class Threads:
    """The BLAS threads of the fits of one trainer.

    Attributes
    ----------
    count : int or None
        How many the last `fit` had. None before the first one, on a GPU, and where threadpoolctl
        does not know the BLAS.
    resumed : bool
        Whether the next `fit` is to have `count` again.
    """

    def __init__(self) -> None:
        self.count: int | None = None
        self.resumed = False

    def resume(self, count: int | None) -> None:
        """Take the number of a checkpoint; None is that of one that does not hold any."""
        self.count = None if count is None else check_integer("threads", count)
        self.resumed = count is not None

    @contextlib.contextmanager
    def limited(self, model: Sequential, batches: Batches) -> Iterator[None]:
        """Let BLAS have the threads of a fit while this is entered.

        Fits may overlap in any order and from several threads. The last one that ends restores what
        was there before the first, unless something else has set another number since.
        """
        fit = object()
        try:
            _want(fit, self._choose(model, batches))
            count = count_threads() if model.backend.reads_are_free else None
            if self.resumed and count != self.count:
                self._warn_changed(count)
            self.count = count
            yield
        finally:
            _want(fit, None)

    def _choose(self, model: Sequential, batches: Batches) -> int | None:
        """Return the most threads that a fit is to have, or None for as many as there are."""
        if any(map(os.environ.get, VARIABLES)) or not model.backend.reads_are_free:
            return None
        if self.resumed and self.count is not None:
            return self.count
        rows = [n for n in (batches.batch_size, batches.source.rows) if n is not None]
        weight = max((p.size for p in model.params.values() if p.ndim > 1), default=0)
        return 1 if rows and min(rows) * weight < LARGE else None

    def _warn_changed(self, count: int | None) -> None:
        """Say that a run does not go on with the threads that it had."""
        if self.count is not None and count is not None:
            warn(
                f"the run used {describe(self.count)} and continues with {count}: its last digits "
                "may differ. To avoid this, call fit in a `with threadpoolctl.threadpool_limits("
                f"{self.count}):`",
                stacklevel=5,
            )


def _want(fit: object, count: int | None) -> None:
    """Note what a fit wants, and set the least that all want: at most what was there before."""
    with _lock:
        _wanted.pop(fit, None)
        if count is not None:
            _wanted[fit] = count
        for blas in _libraries(len(sys.modules)):
            now = blas.num_threads
            before, ours = _changed.setdefault(blas.filepath, (now, now))
            least = min([before, *_wanted.values()])
            if (_wanted and least < now) or now == ours < least:
                blas.set_num_threads(least)
                _release()
                _changed[blas.filepath] = before, least
        if not _wanted:
            _changed.clear()


@functools.lru_cache(maxsize=1)
def _libraries(modules: int) -> list[Any]:
    """Return the BLAS libraries in the process, which are searched again after any new import.

    One that is loaded while a fit runs keeps its threads until the next fit begins.
    """
    found = threadpoolctl.ThreadpoolController().select(user_api="blas")
    return [blas for blas in found.lib_controllers if blas.num_threads]


def count_threads() -> int | None:
    """Return how many threads BLAS may use now, or None if threadpoolctl does not know it."""
    return max((blas.num_threads for blas in _libraries(len(sys.modules))), default=None)


def describe(count: int | None) -> str:
    """Return the number with its noun.

    >>> describe(1), describe(2)
    ('1 BLAS thread', '2 BLAS threads')
    """
    return f"{count} BLAS thread{'' if count == 1 else 's'}"
