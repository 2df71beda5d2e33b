"""The number of BLAS threads during a `fit`: one for small products, all of them for large ones.

The threads of BLAS wait for each other at the end of each product. On a busy machine, if one of
them does not run for some milliseconds, the others wait. So more threads pay only if a product
takes longer than such a pause. Microseconds per step on 2 processors, quiet, and with two other
processes:

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
on BLAS keeps all its threads. One core takes some 20 ms for this many. A busy machine takes a
quarter longer with two threads than with one; at half the size, up to 2.3 times as long."""

VARIABLES = tuple(f"{name}_NUM_THREADS" for name in ("OPENBLAS", "GOTO", "OMP", "MKL", "BLIS"))
"""If one of these is set, the user has chosen the number, and `fit` does not change it."""

_lock = threading.Lock()
_wanted: dict[object, int] = {}
"""The number that each running fit wants. It belongs to the process, so the smallest applies."""
_changed: dict[str, tuple[int, int]] = {}
"""Threads before the first of these fits, and threads that were set since then, by library."""

# Since version 3.8, only the Python thread that has set a number can set another.
_release = getattr(threadpoolctl.OpenBLASController, "clear_controlling_thread", lambda: None)


class Threads:
    """The BLAS threads of the fits of one trainer.

    Attributes
    ----------
    count : int or None
        The number in the last `fit`. None before the first one, on a GPU, and if threadpoolctl does
        not know the BLAS.
    resumed : bool
        Whether the next `fit` must use `count` again.
    """

    def __init__(self) -> None:
        self.count: int | None = None
        self.resumed = False

    def resume(self, count: int | None) -> None:
        """Use the number of a checkpoint, or None if it has none."""
        self.count = None if count is None else check_integer("threads", count)
        self.resumed = count is not None

    @contextlib.contextmanager
    def limited(self, model: Sequential, batches: Batches) -> Iterator[None]:
        """Give BLAS the threads of a fit within a ``with``.

        Fits may overlap in any order and from several threads. The last one to end restores the
        number before the first, unless something else has set another number since then.
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
        """Return the largest number of threads for a fit, or None for no limit."""
        if any(map(os.environ.get, VARIABLES)) or not model.backend.reads_are_free:
            return None
        if self.resumed and self.count is not None:
            return self.count
        rows = [n for n in (batches.batch_size, batches.source.rows) if n is not None]
        weight = max((p.size for p in model.params.values() if p.ndim > 1), default=0)
        return 1 if rows and min(rows) * weight < LARGE else None

    def _warn_changed(self, count: int | None) -> None:
        """Warn that a run does not continue with the same number of threads."""
        if self.count is not None and count is not None:
            warn(
                f"the run used {describe(self.count)} and continues with {count}: its last digits "
                "may differ. To avoid this, call fit in a `with threadpoolctl.threadpool_limits("
                f"{self.count}):`",
                stacklevel=5,
            )


def _want(fit: object, count: int | None) -> None:
    """Record what a fit wants, and set the smallest number wanted, at most the original one."""
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
    """Return the BLAS libraries in the process. They are searched again after new imports.

    One that is loaded while a fit runs keeps its threads until the next fit begins.
    """
    found = threadpoolctl.ThreadpoolController().select(user_api="blas")
    return [blas for blas in found.lib_controllers if blas.num_threads]


def count_threads() -> int | None:
    """Return the current number of BLAS threads, or None if threadpoolctl does not know it."""
    return max((blas.num_threads for blas in _libraries(len(sys.modules))), default=None)


def describe(count: int | None) -> str:
    """Return the number with its noun.

    >>> describe(1), describe(2)
    ('1 BLAS thread', '2 BLAS threads')
    """
    return f"{count} BLAS thread{'' if count == 1 else 's'}"
