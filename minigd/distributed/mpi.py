"""Processes that MPI has started, over mpi4py.

Nothing waits without a limit: each request is tested again and again until it is done, and between
the tests a failure of another process is noticed.
"""

import atexit
import contextlib
import functools
import math
import os
import sys
import time
from typing import Any

import numpy as np

from minigd.backends.on_demand import optional
from minigd.distributed.communicator import ALONE, Communicator, Ended, Lost
from minigd.errors import check_number, shown
from minigd.types import Array

LIMIT = "MINIGD_TIME_LIMIT"
"""The environment variable with the seconds after which a process counts as lost."""

SECONDS = 300.0
"""Its default."""

PATIENCE = 5.0
"""Seconds within which each process must answer that it knows of a failure."""

FAILED = 31_417
"""The tag of messages about a process that fails; it has no other use."""

UP = ""
"""What a process says whose time is up, and that has no error of its own."""

GRACE = 0.05
"""Seconds that a request may still take after a process has failed."""

EAGER = 200
"""How often a request is tested without a pause."""

PAUSE = 1e-4
"""Seconds between two tests after that."""

_known: dict[int, "Mpi"] = {}


def connect(comm: Any) -> Communicator:
    """Return the communicator of a run with ``comm=comm``.

    Parameters
    ----------
    comm : mpi4py.MPI.Intracomm, Communicator or None
        None, or a communicator of one process, is one process alone.

    Raises
    ------
    TypeError
        If it is something else.
    ImportError
        If mpi4py is not installed.
    """
    if comm is None or isinstance(comm, Communicator):
        return comm or ALONE
    optional("mpi4py", "comm=")
    mpi: Any = sys.modules.get("mpi4py.MPI")
    if mpi is None or not isinstance(comm, mpi.Intracomm):
        raise TypeError(
            "comm must be a communicator of mpi4py, such as MPI.COMM_WORLD after `from mpi4py "
            f"import MPI`, or None for one process, not {shown(comm)}"
        )
    if comm.Get_size() == 1:
        return ALONE
    # MPI allows a limited number of duplicates: there is one for all runs.
    handle = comm.py2f()
    if handle not in _known:
        _known[handle] = made = Mpi(comm, mpi)
        sys.excepthook = functools.partial(_end_all, made, sys.excepthook)
    return _known[handle]


def _end_all(
    communicator: "Mpi", show: Any, kind: type[BaseException], error: BaseException, *trace: Any
) -> None:
    """End all processes with an error that nothing catches, such as one between two fits."""
    with contextlib.suppress(Ended):
        if not isinstance(error, Lost) and error is not communicator.said:
            communicator.renew()
            communicator.end(error)
        show(kind, error, *trace)


def time_limit() -> float:
    """Return the seconds after which a process that does not answer counts as lost."""
    text = os.environ.get(LIMIT)
    if text is None:
        return SECONDS
    try:
        return check_number(LIMIT, float(text))
    except ValueError:
        raise ValueError(f"{LIMIT} must be a number of seconds, not {text!r}") from None


class Mpi(Communicator):
    """The processes of a communicator of mpi4py, of which this works on a duplicate."""

    def __init__(self, comm: Any, mpi: Any) -> None:
        self._given, self._mpi = comm, mpi
        self.rank, self.size = comm.Get_rank(), comm.Get_size()
        self._comm: Any = None
        self._lost = False
        self._told: list[Any] = []

    def renew(self) -> None:
        """Begin a new run: after a failure, messages may be in transit that nobody waits for."""
        self._limit, self.signal, self.received = time_limit(), 0, 0
        if self._comm is None:
            comm, request = self._given.Idup()
            self._comm = self._given  # for reporting a failure meanwhile
            self._wait(request)
            self._comm = comm

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all processes, in the order of ranks, in each of them."""
        dumped = np.frombuffer(self._mpi.pickle.dumps(value), "uint8")
        lengths = self.gather_rows(np.array([len(dumped)]))[:, 0]
        row = np.zeros(int(lengths.max()), "uint8")
        row[: len(dumped)] = dumped
        rows = self.gather_rows(row)
        pairs = zip(rows, lengths, strict=True)
        return [self._mpi.pickle.loads(row[:length].tobytes()) for row, length in pairs]

    def gather_rows(self, row: Array) -> Array:
        """Return the rows of all processes."""
        own = np.ascontiguousarray(row)
        rows = np.empty((self.size, *own.shape), own.dtype)
        self._wait(self._comm.Iallgather(own.view("uint8"), rows.view("uint8")))
        return rows

    def wait(self) -> None:
        """Wait until all processes are here, however long that takes."""
        limit, self._limit = self._limit, math.inf
        try:
            super().wait()
        finally:
            self._limit = limit

    def swap(self, blocks: Array) -> Array:
        """Return row `rank` of the blocks of each process."""
        own = np.ascontiguousarray(blocks)
        rows = np.empty_like(own)
        self._wait(self._comm.Ialltoall(own.view("uint8"), rows.view("uint8")))
        return rows

    def _wait(self, request: Any) -> None:
        """Wait until a request is done, another process fails, or one does not answer."""
        asked, end, told = 0, math.inf, math.inf
        while not request.Test():
            asked += 1
            if asked < EAGER:
                time.sleep(0)
                continue
            if asked == EAGER:
                end = time.monotonic() + self._limit
            if self._comm.Iprobe(self._mpi.ANY_SOURCE, FAILED):
                # A process that went on may have failed later; this request is done in a moment.
                told = min(told, time.monotonic())
                if time.monotonic() > told + GRACE:
                    raise Ended
            if time.monotonic() > end:
                self._report_lost()
            time.sleep(PAUSE)

    def _report_lost(self) -> None:
        """Find out who does not answer; the first one whose time is up reports it, others end."""
        said = {**self.exchange(UP), self.rank: UP}
        missing = [rank for rank in range(self.size) if rank not in said]
        waited = [rank for rank in sorted(said) if said[rank] == UP]
        if self.rank != waited[0] or any(said.values()):
            raise Ended
        raise Lost(_not_answering(missing, self.size, self._limit))

    def exchange(self, words: str | None) -> dict[int, str | None]:
        """Tell all others that the run fails; return their answers within some seconds."""
        comm, self._comm = self._comm, None
        if comm is None:
            return {}
        others = [rank for rank in range(self.size) if rank != self.rank]
        self._told += [comm.isend(words, rank, FAILED) for rank in others]
        said: dict[int, str | None] = {}
        end = time.monotonic() + PATIENCE
        while len(said) < len(others) and time.monotonic() < end:
            status = self._mpi.Status()
            if comm.Iprobe(self._mpi.ANY_SOURCE, FAILED, status):
                said[status.source] = comm.recv(source=status.source, tag=FAILED)
            else:
                time.sleep(PAUSE)
        if len(said) < len(others) and not self._lost:
            # An orderly end would wait for those that are lost.
            self._lost = True
            atexit.register(self._abort, comm)
        return said

    def _abort(self, comm: Any) -> None:
        """End all processes, after one of them has printed the reason."""
        if self.said is None:
            time.sleep(PATIENCE)
        comm.Abort(1)


def _not_answering(missing: list[int], size: int, seconds: float) -> str:
    if not missing:
        return (
            f"no process made progress for {seconds:g} s, but all of them answer: call fit, save "
            "and whatever else needs all processes in each of them"
        )
    who = " and ".join(map(str, missing))
    return (
        f"rank{'s' * (len(missing) > 1)} {who} of {size} did not answer for {seconds:g} s: the "
        "process hangs or is gone, and all others end. Restart the run from its last checkpoint; "
        f"for steps that take longer, set the variable {LIMIT} to more seconds"
    )
