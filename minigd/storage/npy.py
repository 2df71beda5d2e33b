"""The header of an array in a file. A header that differs from what NumPy writes is refused.

NumPy's own reader runs a Python parser on the header, and trusts the sizes in it.
"""

import math
import re
from typing import Any, BinaryIO, NamedTuple

import numpy as np

_MAGIC = b"\x93NUMPY"
_LONGEST = 10_000  # bytes of a header, as in NumPy
_BLANKS = " \t\n"
_ = f"[{_BLANKS}]*"
_SIZE = r"(?:0|[1-9]\d{0,17})L?"
_SHAPE = rf"\({_}(?:{_SIZE}{_},{_})*(?:{_SIZE}{_})?\)"
_FIELD = re.compile(
    rf"""{_},{_}(['"])(?P<name>\w+)\1{_}:{_}(?P<value>'[^']*'|"[^"]*"|\w+|{_SHAPE}){_}""",
    re.ASCII,
)
_DTYPE = re.compile(r"[<>|=]?([?biufcSUV]\d{0,6}|[mM]8(\[\d{0,6}[a-zA-Z]{1,7}\])?)", re.ASCII)
_MOST_DIMENSIONS = 32
_MOST = 2**46  # numbers of an array


class Header(NamedTuple):
    """The header of an array, and the place where the numbers begin."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran: bool
    offset: int

    @property
    def nbytes(self) -> int:
        """The number of bytes of the array's numbers."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(file: BinaryIO, size: int) -> Header:
    """Read the header of an array that begins here and has `size` bytes in all.

    Raises
    ------
    ValueError
        If it is not a header, or the number of bytes after it differs from what it says.

    Examples
    --------
    >>> import io
    >>> file = io.BytesIO()
    >>> np.save(file, np.zeros((2, 3), "float32"))
    >>> _ = file.seek(0)
    >>> header = read_header(file, 152)
    >>> header.shape, header.nbytes, header.offset
    ((2, 3), 24, 128)
    """
    begin = file.read(8)
    version = begin[6:]
    if begin[:6] != _MAGIC or version not in (b"\1\0", b"\2\0", b"\3\0"):
        raise ValueError("it does not begin like a NumPy array")
    width = 2 if version == b"\1\0" else 4
    length = int.from_bytes(file.read(width), "little")
    if length > min(size, _LONGEST):
        raise ValueError(f"its header claims to be {length} bytes long")
    text = file.read(length).decode("utf-8" if version == b"\3\0" else "latin-1")
    dtype, shape, fortran = _parse(text)
    header = Header(dtype, shape, fortran, 8 + width + length)
    if header.nbytes != size - header.offset:
        raise ValueError(
            f"its header says {shape} of {dtype}, {header.nbytes} bytes, but "
            f"{size - header.offset} follow"
        )
    return header


def _parse(text: str) -> tuple[np.dtype[Any], tuple[int, ...], bool]:
    """Return dtype, shape and order of a header, ``{'descr': '<f4', ...}``."""
    found: dict[str, str] = {}
    text = text.rstrip(_BLANKS)
    rest = text
    if text[:1] == "{" and text[-1] == "}":
        rest = "," + text[1:-1].rstrip(_BLANKS).removesuffix(",")
    while field := _FIELD.match(rest):
        found[field["name"]] = field["value"]
        rest = rest[field.end() :]
    if rest or found.keys() != {"descr", "fortran_order", "shape"}:
        what = "it holds records" if "'descr': [" in text else f"its header is {text!r}"
        raise ValueError(f"{what:.200}")
    if found["fortran_order"] not in ("True", "False"):
        raise ValueError(f"its order is {found['fortran_order']}")
    return (
        _dtype_of(found["descr"].strip("'\"")),
        _shape_of(found["shape"]),
        found["fortran_order"] == "True",
    )


def _dtype_of(text: str) -> np.dtype[Any]:
    if text.lstrip("|<>=").startswith("O"):
        raise ValueError("it holds Python objects, which are never read")
    try:
        dtype = np.dtype(text) if _DTYPE.fullmatch(text) else None
    except (TypeError, ValueError):
        dtype = None
    if dtype is None or dtype.itemsize == 0:
        raise ValueError(f"its dtype is {text:.100}")
    return dtype


def _shape_of(text: str) -> tuple[int, ...]:
    sizes = text.strip("()").replace("L", "").rstrip(", ").split(",")
    shape = tuple(int(size) for size in sizes if text.strip("( ,)"))
    # NumPy refuses sizes whose product is larger, even if another size is 0.
    if len(shape) > _MOST_DIMENSIONS or math.prod(max(size, 1) for size in shape) > _MOST:
        raise ValueError(f"its shape is {text:.200}")
    return shape
