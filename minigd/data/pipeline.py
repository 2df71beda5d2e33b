"""The steps from a stream of rows to batches: cutting, a shuffle buffer, reading ahead.

Each step is a generator over tuples of arrays whose rows belong together.
"""

import os
import queue
import threading
from collections.abc import Generator, Iterable, Iterator
from typing import Any, TypeAlias, TypeVar

import numpy as np

Piece: TypeAlias = tuple[Any, ...]
"""Arrays of equal length, whose rows i belong together; None for a missing array."""

T = TypeVar("T")


def cut(pieces: Iterable[Piece], size: int) -> Iterator[Piece]:
    """Return the same rows in pieces of `size`, the last one shorter.

    A piece within one piece of the stream is a view of it. Rows that wait for the next piece are
    copied, because a generator may reuse its array.

    >>> import numpy as np
    >>> stream = [(np.arange(3),), (np.arange(3, 4),), (np.arange(4, 7),)]
    >>> [piece[0].tolist() for piece in cut(stream, 2)]
    [[0, 1], [2, 3], [4, 5], [6]]
    """
    waiting: list[Piece] = []
    held = 0
    for piece in pieces:
        n = _length(piece)
        start = 0
        while held + n - start >= size:
            stop = start + size - held
            waiting.append(_rows(piece, slice(start, stop)))
            yield _joined(waiting)
            waiting, held, start = [], 0, stop
        if start < n:
            rest = _rows(piece, slice(start, n))
            waiting.append(tuple([None if array is None else array.copy() for array in rest]))
            held += n - start
    if held:
        yield _joined(waiting)


def shuffled(pieces: Iterable[Piece], size: int, rng: np.random.Generator) -> Iterator[Piece]:
    """Return the same rows in another order, with no more than `size` of them in memory.

    The buffer is filled first. Then half of its rows, chosen at random, are replaced by new rows,
    again and again. A row can therefore move forward by less than the length of the buffer. In a
    file sorted by class, a batch holds only the classes of one stretch of the file, and no buffer
    shorter than the file makes a batch a sample of the whole.

    The order depends on the rows and on `rng`, but not on how the stream is cut into pieces.

    >>> import numpy as np
    >>> out = shuffled([(np.arange(10),)], 4, np.random.default_rng(0))
    >>> order = np.concatenate([piece[0] for piece in out])
    >>> order.tolist() != list(range(10)), sorted(order.tolist()) == list(range(10))
    (True, True)
    """
    step = max(1, size // 2)
    kept = size - step
    held: Piece | None = None
    for new in cut(pieces, step):
        both = new if held is None else _joined([held, new])
        n = _length(both)
        if n <= kept:
            held = both
            continue
        out = n - kept
        chosen = rng.permutation(n)
        yield _rows(both, chosen[:out])
        held = _rows(both, chosen[out:])
    if held is not None and kept:
        yield _rows(held, rng.permutation(_length(held)))


def prefetched(items: Iterator[T], ahead: int) -> Generator[T, None, None]:
    """Return the same items in the same order; a thread prepares up to `ahead` of them.

    An error in the thread is raised at its place in the order. The thread ends with the last item,
    or when the iterator is closed or deleted. A forked process has no such thread, and gets an
    error.

    >>> list(prefetched(iter([1, 2, 3]), ahead=2))
    [1, 2, 3]
    """
    ready: queue.SimpleQueue[tuple[Any, BaseException | None, bool]] = queue.SimpleQueue()
    # A token for each item that may wait. A queue written in C is faster than a semaphore.
    places: queue.SimpleQueue[None] = queue.SimpleQueue()
    for _ in range(ahead):
        places.put(None)
    stopping = threading.Event()

    def work() -> None:
        try:
            while True:
                places.get()
                if stopping.is_set():
                    return
                item = next(items, _END)
                if item is _END:
                    ready.put((None, None, True))
                    return
                ready.put((item, None, False))
        except BaseException as error:
            ready.put((None, error, True))
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                close()

    thread = threading.Thread(target=work, name="minigd-prefetch", daemon=True)
    thread.start()
    process = os.getpid()
    try:
        while True:
            if os.getpid() != process:
                raise _other_process(process)
            item, error, last = ready.get()
            if error is not None:
                raise error
            if last:
                return
            places.put(None)
            yield item
    finally:
        stopping.set()
        places.put(None)
        thread.join()


_END: Any = object()


def _other_process(process: int) -> RuntimeError:
    return RuntimeError(
        f"these batches are read ahead by a thread of process {process}, which the forked process "
        f"{os.getpid()} does not have: begin the loop over the batches in this process, or make "
        "them with prefetch=0"
    )


def _length(piece: Piece) -> int:
    n: int = next(len(array) for array in piece if array is not None)
    return n


def _rows(piece: Piece, rows: Any) -> Piece:
    return tuple([None if array is None else array[rows] for array in piece])


def _joined(pieces: list[Piece]) -> Piece:
    if len(pieces) == 1:
        return pieces[0]
    return tuple(
        [
            None if arrays[0] is None else np.concatenate(arrays)
            for arrays in zip(*pieces, strict=True)
        ]
    )
