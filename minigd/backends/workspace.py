"""Work arrays: new for a public call, reused for the steps of a trainer."""

import threading
from collections.abc import Iterator
from typing import Any

from minigd.backends.base import Backend
from minigd.types import Array


class Workspace:
    """Arrays to write into: new ones, or reused ones while `thread` is set.

    A public call returns new memory, so it works on new arrays. Only the trainer reuses them: one
    array per name, as long as the largest batch so far. A batch of n rows gets the first n rows.
    The numbers are the same either way.

    Attributes
    ----------
    thread : int or None
        The thread that reuses the arrays now. Calls from other threads get new ones.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.thread: int | None = None
        self._arrays: dict[tuple[object, ...], Array] = {}

    def empty(
        self, name: str, shape: tuple[int, ...], dtype: Any, backend: Backend | None = None
    ) -> Array:
        """Return an array to write into; `shape[0]` is the number of rows."""
        backend = self.backend if backend is None else backend
        if self.thread is None or self.thread != threading.get_ident():
            return backend.empty(shape, dtype)
        key = (name, shape[1:], dtype, backend.name)
        array = self._arrays.get(key)
        if array is None or len(array) < shape[0]:
            array = self._arrays[key] = backend.empty(shape, dtype)
        return array if len(array) == shape[0] else array[: shape[0]]

    def named(self) -> Iterator[tuple[str, Array]]:
        """Yield the name and the array of each reused array."""
        for key, array in self._arrays.items():
            yield str(key[0]), array

    @property
    def nbytes(self) -> int:
        """The bytes of the reused arrays."""
        return sum(int(array.nbytes) for array in self._arrays.values())
