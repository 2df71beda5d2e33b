"""Messages between processes that train as one; a single process is the trivial case.

Sums are taken in the order of the ranks, so the same number of processes gives the same bits,
and all processes get them.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minigd.types import Array

SMALL = 65_536
"""Up to this many bytes in all, each process receives everything and adds it up itself."""


class Ended(SystemExit):
    """Another process has failed and prints the reason; this one ends quietly, with code 1."""

    def __init__(self) -> None:
        super().__init__(1)


class Lost(RuntimeError):
    """A process does not answer; the first one of the others reports it."""


class Communicator:
    """The processes of a run; a subclass carries bytes between them.

    Attributes
    ----------
    rank, size : int
        The number of this process, from 0, and the number of processes.
    signal : int
        The signal that this process has received and not yet acted on, or 0.
    received : int
        The signal that any process had received at the last `mean` or `any`, or 0.
    """

    rank: int = 0
    size: int = 1
    signal: int = 0
    received: int = 0
    said: BaseException | None = None
    """The last error of this process that `end` let it raise."""

    _now: float = 0.0

    # What a subclass defines -----------------------------------------------------------------

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all processes, in the order of ranks, in each of them."""
        raise NotImplementedError(f"{type(self).__name__} must define gather(value)")

    def gather_rows(self, row: Array) -> Array:
        """Return the rows of all processes, of one length and dtype, as shape (size, length)."""
        raise NotImplementedError(f"{type(self).__name__} must define gather_rows(row)")

    def swap(self, blocks: Array) -> Array:
        """Return row `rank` of the blocks of each process, as shape (size, length)."""
        raise NotImplementedError(f"{type(self).__name__} must define swap(blocks)")

    def exchange(self, words: str | None) -> dict[int, str | None]:
        """Tell all others that the run fails, and why if it is known; return their answers.

        The answer of a process without an error is None or empty. A process that does not answer
        within some seconds is missing in the result.
        """
        raise NotImplementedError(f"{type(self).__name__} must define exchange(words)")

    def renew(self) -> None:
        """Begin a new run, whatever happened in the previous one."""

    # What this class adds --------------------------------------------------------------------

    def sum(self, vector: Array) -> None:
        """Replace each entry by its sum over the processes.

        Parameters
        ----------
        vector : Array, shape (length,)
            On the host, and of the same length in every process.
        """
        self._add(vector, np.zeros(0), lambda notes: np.ones(self.size))

    def mean(self, vector: Array, notes: Sequence[float]) -> Array:
        """Replace each entry by its weighted mean over the processes.

        ::

            v ← Σ_k n_k v_k / Σ_k n_k,      in the order of the ranks k

        The values of a process of weight 0 are ignored.

        Parameters
        ----------
        vector : Array, shape (length,)
            On the host, and of the same length in every process.
        notes : sequence of float
            The weight n_k, and other numbers to send in the same message.

        Returns
        -------
        Array, shape (size, notes)
            The notes of all processes.
        """
        own = np.array([*notes, self.signal, time.perf_counter()])
        found = self._add(vector, own, lambda notes: notes[:, 0] / notes[:, 0].sum())
        self.received, self._now = int(found[:, -2].max()), float(found[0, -1])
        return found[:, :-2]

    def clock(self) -> float:
        """Return the seconds of the clock that decides for all: rank 0's, at the last `mean`."""
        return self._now

    def start_clock(self) -> None:
        """Set the clock to the time of rank 0 now."""
        self._now = float(self.gather_rows(np.array([time.perf_counter()]))[0, 0])

    def wait(self) -> None:
        """Wait until all processes are here, however long that takes."""
        self.gather_rows(np.zeros(1))

    def any(self, value: bool) -> bool:
        """Tell whether the value is true in any process; record the signal that one received."""
        found = self.gather_rows(np.array([value, self.signal])).max(axis=0)
        self.received = int(found[1])
        return bool(found[0])

    def _add(self, vector: Array, notes: Array, shares: Callable[[Array], Array]) -> Array:
        """Add up share · vector of all processes in their order; return the notes of all."""
        head, small = notes.view(vector.dtype), vector.nbytes * self.size <= SMALL
        if small:
            rows = self.gather_rows(np.concatenate([head, vector]))
        else:
            # Each process adds up a slice of the vector for all of them.
            rows = self.swap(_behind(head, vector, self.size))
        all_notes = rows[:, : len(head)].copy().view(notes.dtype)
        total = _in_order(rows[:, len(head) :], shares(all_notes))
        vector[...] = total if small else self.gather_rows(total).reshape(-1)[: len(vector)]
        return all_notes

    def end(self, error: BaseException) -> None:
        """Return in the process that must raise its error; end quietly in all others.

        That is the first rank with an error. The text of its error then
        names the rank, unless all ranks have the same error.
        """
        if isinstance(error, Lost) or error is self.said:
            self.said = error
            return
        self.said = None
        own = None if isinstance(error, Ended) else f"{type(error).__name__}: {error}"
        said = {**self.exchange(own), self.rank: own}
        speaking = [rank for rank in sorted(said) if said[rank]]
        if speaking[:1] != [self.rank]:
            raise Ended from None
        self.said = error
        if len(said) < self.size or set(said.values()) != {own}:
            name_rank(error, self.rank, self.size)

    def speaks_of(self, error: BaseException) -> bool:
        """Tell whether this process is the one that prints an error."""
        return not self.rank or error is self.said


class Alone(Communicator):
    """The communicator of one process, which sends no messages."""

    def gather(self, value: Any) -> list[Any]:
        """Return the value, in a list.

        >>> ALONE.gather("a")
        ['a']
        """
        return [value]

    def gather_rows(self, row: Array) -> Array:
        """Return the row, as the only one."""
        return row[None]

    def swap(self, blocks: Array) -> Array:
        """Return what this process gives."""
        return blocks

    def clock(self) -> float:
        """Return the seconds of this process's clock."""
        return time.perf_counter()


ALONE = Alone()


def _behind(head: Array, vector: Array, size: int) -> Array:
    """Return so many slices of a vector, padded to the same length, each behind the head."""
    length = -(-len(vector) // size)
    rows = np.empty((size, len(head) + length), vector.dtype)
    rows[:, : len(head)] = head
    for k, row in enumerate(rows[:, len(head) :]):
        part = vector[k * length :][:length]
        row[: len(part)], row[len(part) :] = part, 0
    return rows


def _in_order(parts: Array, shares: Array) -> Array:
    """Return Σ_k share_k part_k, one after another, in their place; share 0 is ignored."""
    terms = [
        np.multiply(part, parts.dtype.type(share), out=part)
        for part, share in zip(parts, shares, strict=True)
        if share
    ]
    total: Array = terms[0] if terms else np.zeros_like(parts[0])
    for term in terms[1:]:
        total += term
    return total


def name_rank(error: BaseException, rank: int, size: int) -> None:
    """Add the rank of the process to an error's text.

    >>> error = ValueError("row 3 is empty")
    >>> name_rank(error, 1, 4); str(error)
    'row 3 is empty (rank 1 of 4)'
    """
    where = f" (rank {rank} of {size})"
    if isinstance(error, OSError) and error.strerror:
        error.strerror += where
    elif error.args and isinstance(error.args[0], str):
        error.args = (error.args[0] + where, *error.args[1:])
    elif hasattr(error, "add_note"):
        error.add_note(f"raised in{where}")
