"""Copies rows from the host to a GPU, a few batches ahead of their use, in reused memory.

A batch is copied into page-locked memory. From there a separate stream copies it to the GPU, while
the GPU still computes on earlier batches.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from minigd.types import Array

DEPTH = 3
"""Buffers for each kind of array: one in use, one being copied, one being filled."""


class Slot(NamedTuple):
    """Page-locked memory on the host, its counterpart on the GPU, and events that free them."""

    host: Array
    device: Array
    copied: Any
    used: Any


class Staging:
    """Copies batches to the GPU. What it returns is overwritten `DEPTH` batches later.

    The host waits only for the copy that it started three batches ago. Events order the copy of a
    batch before the work on it, and the work on a batch before the copy that overwrites it. A
    shorter batch uses the first rows of a buffer.

    Parameters
    ----------
    xp : module
        CuPy.

    Attributes
    ----------
    stream : cupy.cuda.Stream
        Where the copies run.
    """

    def __init__(self, xp: Any) -> None:
        self.xp = xp
        self.stream = xp.cuda.Stream(non_blocking=True)
        self._rings: dict[Any, list[Slot]] = {}
        self._next: dict[Any, int] = {}

    def __call__(self, name: str, x: Array) -> Array:
        """Return the x, or the y, of a batch on the GPU, valid for `DEPTH` batches."""
        if isinstance(x, self.xp.ndarray):
            return x
        key = (name, x.shape[1:], x.dtype.str)
        ring = self._rings.get(key)
        now = self.xp.cuda.get_current_stream()
        if ring is None or len(ring[0].host) < len(x):
            # A copy from the old buffer may still be running.
            for slot in ring or ():
                slot.copied.synchronize()
            ring = self._rings[key] = [self._slot(x) for _ in range(DEPTH)]
            # CuPy's pool may return memory that the current stream still uses.
            started = now.record()
            self.stream.wait_event(started)
            self._next[key] = 0
        else:
            # By now, all work on the batch before this one is in the stream.
            ring[self._next[key] - 1].used.record(now)
        slot = ring[self._next[key]]
        self._next[key] = (self._next[key] + 1) % DEPTH
        n = len(x)
        slot.copied.synchronize()
        slot.host[:n] = x
        self.stream.wait_event(slot.used)
        slot.device[:n].set(slot.host[:n], stream=self.stream)
        slot.copied.record(self.stream)
        now.wait_event(slot.copied)
        return slot.device[:n]

    def _slot(self, x: Array) -> Slot:
        cuda = self.xp.cuda
        memory = cuda.alloc_pinned_memory(max(1, x.nbytes))
        host = np.frombuffer(memory, x.dtype, math.prod(x.shape)).reshape(x.shape)
        copied, used = (cuda.Event(block=True, disable_timing=True) for _ in range(2))
        return Slot(host, self.xp.empty(x.shape, x.dtype), copied, used)

    @property
    def nbytes(self) -> int:
        """The bytes of the buffers on the GPU."""
        return sum(int(slot.device.nbytes) for ring in self._rings.values() for slot in ring)
