"""The first words of many seed sequences at once. NumPy computes them one by one.

`numpy.random.SeedSequence` takes 10 to 30 µs for each, which is more than a compiled step.
"""

from collections.abc import Sequence

import numpy as np

from minigd.types import Array

_POOL = 4
"""The number of words into which the entropy is mixed."""

_LOW = 2**32 - 1


def first_words(parts: Sequence[int], last: Array) -> Array:
    """Return ``SeedSequence([*parts, n]).generate_state(1, "uint64")[0]`` for each n of `last`.

    Parameters
    ----------
    parts : sequence of int
        At least 0.
    last : Array of uint64
        All below 2³², or all in one span of 2³² numbers.

    Returns
    -------
    Array of uint64

    Examples
    --------
    >>> first_words([3, 0, 1], np.array([7, 8], "uint64"))
    array([11296695362137824724,  9229056697276930658], dtype=uint64)
    >>> np.random.SeedSequence([3, 0, 1, 8]).generate_state(1, "uint64")
    array([9229056697276930658], dtype=uint64)

    Source: O'Neill (2015), "Developing a seed_seq alternative", as NumPy has it.
    """
    words = [np.array([word], "uint32") for part in parts for word in _words(part)]
    words.append((last & np.uint64(_LOW)).astype("uint32"))
    high = int(last[0]) >> 32
    words += [np.array([word], "uint32") for word in (_words(high) if high else [])]
    mixed = _Hash(0x43B0D7E5, 0x931E8875)
    pool = [mixed(word) for word in words[:_POOL]]
    pool += [mixed(np.zeros(1, "uint32")) for _ in range(_POOL - len(words))]
    for source in range(_POOL):
        for target in range(_POOL):
            if source != target:
                pool[target] = _mix(pool[target], mixed(pool[source]))
    for word in words[_POOL:]:
        pool = [_mix(one, mixed(word)) for one in pool]
    drawn = _Hash(0x8B51F9DD, 0x58F38DED)
    low, above = (drawn(one).astype("uint64") for one in pool[:2])
    return low | above << np.uint64(32)


class _Hash:
    """A hash of numbers that changes with each call."""

    def __init__(self, constant: int, factor: int) -> None:
        self._constant, self._factor = constant, factor

    def __call__(self, numbers: Array) -> Array:
        numbers = numbers ^ np.uint32(self._constant)
        self._constant = self._constant * self._factor & _LOW
        numbers = numbers * np.uint32(self._constant)
        return numbers ^ numbers >> np.uint32(16)


def _mix(one: Array, other: Array) -> Array:
    mixed = one * np.uint32(0xCA01F9DD) - other * np.uint32(0x4973F715)
    return mixed ^ mixed >> np.uint32(16)


def _words(number: int) -> list[int]:
    """Return a number as words of 32 bits, the lowest first."""
    words = [number & _LOW]
    while number := number >> 32:
        words.append(number & _LOW)
    return words
