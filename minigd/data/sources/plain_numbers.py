"""A compiled parser of rows in which each number is a few digits, with a point or without.

It accepts some of the numbers of the grammar, and gives bit-identical results. Rows with any other
cell are left to the general parser.
"""

import contextlib
import functools
import importlib.util
import sys
from typing import Any

import numpy as np

from minigd.backends.on_demand import optional
from minigd.types import Array

WORTH_IMPORTING, WORTH_USING = 256 << 20, 16 << 20
"""Bytes of text from which it saves time: if Numba must be imported first, and if it need not."""
_NEVER = b'+-.0123456789\r\n"'
"""Separators that may be a part of a cell."""


def is_worth(size: int) -> bool:
    """Tell whether the parser saves more time than loading it takes, for this many bytes."""
    if importlib.util.find_spec("numba") is None:
        return False
    return size >= (WORTH_USING if "numba" in sys.modules else WORTH_IMPORTING)


def parse_plain(data: bytes, separator: bytes, places: Array, rows: int) -> Array | None:
    r"""Return columns of whole rows as float64; None if a cell is not a plain number.

    Parameters
    ----------
    data : bytes
        Each row ends in a newline.
    separator : bytes
    places : array of int, shape (columns,)
        Where each column of the table goes, -1 for one that is not in use.
    rows : int

    Examples
    --------
    >>> parse_plain(b"1,x,-2.5\n", b",", np.array([1, -1, 0]), 1)
    array([[-2.5,  1. ]])
    >>> parse_plain(b"1,x,1e3\n", b",", np.array([1, -1, 0]), 1) is None
    True
    """
    compiled = _compiled()
    if compiled is None or len(separator) != 1 or separator in _NEVER or not data.endswith(b"\n"):
        return None
    table = np.empty((rows, int(places.max()) + 1))
    bytes_ = np.frombuffer(data, dtype=np.uint8)
    fine = compiled(bytes_, separator[0], places.astype(np.int64), table, _POWERS)
    return table if fine else None


@functools.cache
def _compiled() -> Any:
    """Return `_parse` compiled, and cached on disk for other processes if possible."""
    numba = optional("numba", "a compiled parser")
    if numba.config.DISABLE_JIT:
        return None
    row = (
        np.frombuffer(b"1\n", dtype=np.uint8),
        44,
        np.zeros(1, np.int64),
        np.empty((1, 1)),
        _POWERS,
    )
    # The cache may be damaged, or no folder can be written to.
    for kept in ({"cache": True}, {}):
        with contextlib.suppress(Exception):
            function = numba.njit(nogil=True, **kept)(_parse)
            function(*row)
            return function
    return None


_POWERS = 10.0 ** np.arange(23)
"""All of them are exact. The quotient of a whole number up to 2⁵³ and one of them is rounded once,
so it is the float64 nearest to the decimal."""


def _parse(data: Any, separator: int, places: Any, table: Any, powers: Any) -> bool:
    """Fill in the table; tell whether all cells were plain numbers."""
    # A signed index might be negative, which would be checked for each byte.
    at, end, one = np.uint64(0), np.uint64(len(data)), np.uint64(1)
    row, last = 0, len(places) - 1
    while at < end:
        if row == len(table):
            return False
        for column in range(last + 1):
            place = places[column]
            if place < 0:
                while data[at] != separator and data[at] != 10 and data[at] != 13:
                    if data[at] == 34:
                        return False
                    at += one
            else:
                negative = data[at] == 45
                if negative or data[at] == 43:
                    at += one
                whole, first = np.uint64(0), at
                digit = np.uint8(data[at] - np.uint8(48))
                while digit <= 9:
                    whole = whole * np.uint64(10) + np.uint64(digit)
                    at += one
                    digit = np.uint8(data[at] - np.uint8(48))
                digits, fraction = at - first, np.uint64(0)
                if data[at] == 46:
                    at += one
                    first = at
                    digit = np.uint8(data[at] - np.uint8(48))
                    while digit <= 9:
                        whole = whole * np.uint64(10) + np.uint64(digit)
                        at += one
                        digit = np.uint8(data[at] - np.uint8(48))
                    fraction = at - first
                    digits += fraction
                # A whole number of up to 19 digits fits 64 bits.
                if digits == 0 or digits > 19 or whole > np.uint64(9007199254740992):
                    return False
                value = np.float64(whole) / powers[fraction]
                table[row, place] = -value if negative else value
            if column == last and data[at] == 13:
                at += one
            if data[at] != (10 if column == last else separator):
                return False
            at += one
        row += 1
    return row == len(table)
