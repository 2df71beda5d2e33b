"""Rows of IDX files, the format of MNIST: big-endian sizes, then the numbers."""

import gzip
import math
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from minigd.backends.workspace import Workspace
from minigd.data.sources.base import Pair, Rows
from minigd.data.sources.file_reads import ArrayFile
from minigd.data.sources.npy import StoredRows
from minigd.data.sources.packed import packing_of
from minigd.errors import DataError, check_number, check_path
from minigd.storage.regular_files import open_regular
from minigd.types import Array

_KINDS = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MOST_DIMENSIONS = 32  # as in a .npy file; NumPy has a limit too


class IdxSource(StoredRows):
    """Rows of images, and of labels, from IDX files, gzipped or not.

    Each image is a row of x. A plain file stays on the disk; a gzipped one is unpacked into memory,
    as bytes.

    Parameters
    ----------
    images : path
        If only a file with this name and ``.gz`` exists, that file is read.
    labels : path, optional
    scale : float, default 255.0
        The divisor of x, batch by batch, which turns 255 into 1; None keeps the numbers.

    Raises
    ------
    DataError
        If a file is not an IDX file, or is cut short.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "images")
    ...     _ = path.write_bytes(bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2,
    ...                                 0, 255, 51, 102]))
    ...     IdxSource(path).take(slice(0, 2))[0].round(3)
    array([[0. , 1. ],
           [0.2, 0.4]], dtype=float32)

    Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database", section "File formats".
    """

    def __init__(
        self,
        images: str | os.PathLike[str],
        labels: str | os.PathLike[str] | None = None,
        scale: float | None = 255.0,
    ) -> None:
        self.scale = None if scale is None else check_number("scale", scale)
        if scale == 0:
            raise ValueError("scale must be above 0, or None to leave the numbers as they are")
        name = check_path("images", images)
        x = read_idx(name, table=True)
        y = None if labels is None else read_idx(check_path("labels", labels))
        if x.nbytes == 0:
            raise DataError(f"{name} has the shape {x.shape}: it has no rows")
        super().__init__(x, y, name)

    @property
    def to_read_parts(self) -> str:
        """The remedy for packed files, which can't be read in parts."""
        return "" if isinstance(self._x, ArrayFile) else "unpack it"

    def take(self, rows: Rows, workspace: Workspace | None = None) -> Pair:
        """Return x, divided by the scale, and y of some rows."""
        x, y = super().take(rows, workspace)
        if self.scale is not None:
            x = np.divide(x, np.float32(self.scale), dtype=np.float32)
        return x, y

    def fingerprint(self) -> dict[str, Any]:
        """Return the shapes, the dtypes, a hash of sampled rows, and the scale."""
        return {**super().fingerprint(), "scale": self.scale}


def read_idx(path: str | os.PathLike[str], table: bool = False) -> Array | ArrayFile:
    """Return the array of an IDX file; as a `table`, each item is a row."""
    file = Path(check_path("path", path))
    if not file.exists() and file.with_name(file.name + ".gz").exists():
        file = file.with_name(file.name + ".gz")
    content = np.empty(0, dtype=np.uint8)
    with open_regular(file) as opened:
        about, begin = os.fstat(opened.fileno()), opened.read(1024)
        packed = packing_of(begin) == "gzip"
        try:
            if packed:
                unpacked = gzip.decompress(begin + opened.read())
                content, begin = np.frombuffer(unpacked, dtype=np.uint8), unpacked[:1024]
            zero, kind, dimensions = struct.unpack(">HBB", begin[:4])
            start = 4 + 4 * dimensions
            shape = struct.unpack(f">{dimensions}I", begin[4:start])
        except (struct.error, OSError, EOFError, ValueError, zlib.error) as error:
            raise DataError(f"{file} is not an IDX file, or is damaged: {error}") from error
    if zero != 0 or kind not in _KINDS or not 0 < dimensions <= _MOST_DIMENSIONS:
        raise DataError(f"{file} is not an IDX file: it begins with {begin[:4]!r}")
    dtype = np.dtype(_KINDS[kind])
    expected = math.prod(shape) * dtype.itemsize
    length = (len(content) if packed else about.st_size) - start
    if length != expected:
        raise DataError(
            f"{file} is cut short, or too long: its header says {shape}, {expected} bytes, and "
            f"{length} follow"
        )
    if table and expected:
        shape = (shape[0], math.prod(shape[1:]))
    if not packed:
        return ArrayFile(file, start, shape, dtype, opened=about)
    # Another byte order would slow down every gather. Single bytes, the usual case, have none.
    array: Array = content[start:].view(dtype).reshape(shape)
    return array
