"""Opens files in several processes as one: each process reads a part of a file.

The first process decides as it would alone. The others do what it requests and receive its results.
If parts can't be combined into the result of one process, to the bit, the first reads alone.
"""

import contextlib
import os
import pickle
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

from minigd.data.sources.csv_files import measure, measure_part
from minigd.errors import DataError

_PROCESSES: ContextVar[Any] = ContextVar("the processes that open files as one", default=None)
_DECIDES: ContextVar[Any] = ContextVar("the same, in the first one while others wait", default=None)


@contextlib.contextmanager
def opening_together(comm: Any) -> Iterator[None]:
    """Let all processes of a communicator open the same files as one.

    Each must open the same sources, in the same order. Each of them reads what is not a path.

    Parameters
    ----------
    comm : Communicator
        With `rank`, `size`, `gather(value)`, which returns the values of all processes, and
        `wait()`, which returns once all processes have called it.
    """
    token = _PROCESSES.set(comm if comm.size > 1 else None)
    try:
        yield
    finally:
        _PROCESSES.reset(token)


class Decision:
    """A decision of the first process; `here` tells whether this is that process."""

    here = True
    value: Any = None


@contextlib.contextmanager
def deciding(files: Any, serve: Mapping[str, Any] | None = None) -> Iterator[Decision]:
    """Let the first process decide about some files; others `serve` it and receive its value."""
    comm, decision = _PROCESSES.get(), Decision()
    if comm is None or not all(isinstance(file, str | os.PathLike) for file in files):
        yield decision
        return
    if comm.rank:
        decision.here = False
        decision.value = _serve(comm, {"measure": _measure, **(serve or {})})
        yield decision
        return
    token = _DECIDES.set(comm)
    try:
        yield decision
    except Exception as error:
        _tell(comm, "failed", _sendable(error))
        raise
    finally:
        _DECIDES.reset(token)
    _tell(comm, "done", decision.value)


def together(files: Any, decide: Callable[[], Any]) -> Any:
    """Return what `decide` returns in the first process."""
    with deciding(files) as decision:
        if decision.here:
            decision.value = decide()
    return decision.value


def others_wait() -> bool:
    """Tell whether other processes wait for requests."""
    return _DECIDES.get() is not None


def ask(what: str, value: Any) -> Any:
    """Send a request to the other processes, and return the communicator."""
    comm = _DECIDES.get()
    _tell(comm, what, value)
    return comm


def _tell(comm: Any, what: str, value: Any) -> None:
    comm.wait()
    comm.gather((what, value))


def _serve(comm: Any, work: Mapping[str, Any]) -> Any:
    while True:
        comm.wait()  # what the first process reads alone may take longer than any step
        what, value = comm.gather(None)[0]
        if what == "failed":
            raise value
        if what == "done":
            return value
        work[what](comm, value)


def _sendable(error: Exception) -> Exception:
    """Return an error if it can be sent, or else one with its message."""
    try:
        again = pickle.loads(pickle.dumps(error))
    except Exception:
        return DataError(str(error))
    return error if str(again) == str(error) else DataError(str(error))


def gathered(comm: Any, make: Callable[[], Any]) -> list[Any] | None:
    """Return what `make` returns in each process; None if it fails in any of them."""
    try:
        own = True, make()
    except Exception:
        own = False, None
    found = comm.gather(own)
    return [value for _, value in found] if all(fine for fine, _ in found) else None


def measure_together(given: Any) -> tuple[int, int]:
    """Do what `measure` does; each process reads a part of the file."""
    found = _measure(ask("measure", given), given) if others_wait() else None
    return measure(given) if found is None else found


def _measure(comm: Any, given: Any) -> tuple[int, int] | None:
    def part() -> tuple[int, int]:
        size = os.stat(given).st_size
        return measure_part(
            given, *(size * rank // comm.size for rank in (comm.rank, comm.rank + 1))
        )

    parts = gathered(comm, part)
    if parts is None:
        return None
    low = high = size = 0
    for length, checksum in parts:
        # Adler-32 that starts at 0: the sum of the bytes, and the sum of these sums.
        high = (high + low * length + (checksum >> 16)) % _PRIME
        low, size = (low + (checksum & 0xFFFF)) % _PRIME, size + length
    return size, high << 16 | low


_PRIME = 65_521
