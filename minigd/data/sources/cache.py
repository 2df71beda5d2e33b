"""A source written once as `.npy` files in a folder, which later epochs and runs read."""

import contextlib
import json
import math
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from minigd.data.sources.array import ArraySource
from minigd.data.sources.base import Source
from minigd.data.sources.csv_files import measure
from minigd.data.sources.npy import NpySource, StoredRows
from minigd.data.sources.tabular import Filled, unsettled_schema
from minigd.errors import DataError, check_path
from minigd.progress import with_progress
from minigd.storage.atomic_files import replacing_folder, sweep
from minigd.storage.regular_files import open_regular
from minigd.types import Array

_DESCRIPTION = "minigd-cache.json"


def cache(source: Source, path: str | os.PathLike[str]) -> Source:
    """Return the rows of `source` as `.npy` files in the folder `path`; see `Source.cache`."""
    folder, given = Path(check_path("path", path)), source.unfilled()
    return _of_table(_cached(given, folder), given, source)


def read_whole(source: Source) -> Source:
    """Return the rows of `source` in memory, as numbers."""
    given = source.unfilled()
    return _of_table(_Whole(given), given, source)


class _Whole(StoredRows):
    """The rows of a source in memory, with the fingerprint and the places of the source."""

    def __init__(self, source: Source) -> None:
        pieces = with_progress(source.chunks(), f"reading {source!r}", source.rows)
        x, y = zip(*pieces, strict=True)
        targets = None if y[0] is None else np.concatenate(y)
        super().__init__(np.concatenate(x), targets, repr(source))
        self.fingerprint, self.places = source.fingerprint, source.places  # type: ignore[method-assign]

    def __repr__(self) -> str:
        return str(self.name)


def _of_table(rows: StoredRows, given: Source, source: Source) -> Source:
    """Return rows with what a source knows about its table; `given` is the source without fills."""
    rows.names, rows.classes, rows.weight = source.names, source.classes, source.weight
    rows.target_problems, rows.schema = source.target_problems, given.schema
    return rows if given is source else Filled(rows, unsettled_schema(source))


def _cached(source: Source, folder: Path) -> NpySource:
    key = json.loads(json.dumps({**source.fingerprint(), "all": _checksum(source)}))
    if folder.exists():
        if not is_cache(folder):
            raise DataError(f"{folder} exists and is not a minigd cache: name another folder")
        if _holds(folder, key):
            return _open(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    sweep(folder)
    try:
        with replacing_folder(folder) as new:
            files = _write(source, new, folder)
            with contextlib.closing(_NewFile(new / _DESCRIPTION, folder)) as file:
                file.write(json.dumps({"source": key, "files": files}).encode())
                file.finish()
    except OSError:
        # Another process may have written the same rows meanwhile.
        if not _holds(folder, key):
            raise
    return _open(folder)


def is_cache(folder: str | os.PathLike[str]) -> bool:
    """Tell whether `cache` wrote a folder."""
    return Path(folder, _DESCRIPTION).is_file()


def _holds(folder: Path, key: dict[str, Any]) -> bool:
    """Tell whether the folder holds a complete, unchanged cache with this key."""
    try:
        with open_regular(folder / _DESCRIPTION) as file:
            found = json.loads(file.read())
        files = found["files"]
        known = {"x.npy"} <= {*files} <= {"x.npy", "y.npy"}
        whole = known and all(list(measure(folder / name)) == files[name] for name in files)
        return bool(whole and found["source"] == key)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def _checksum(source: Source) -> int | None:
    """Return a checksum of all rows in memory; their fingerprint covers only a sample."""
    if not isinstance(source, ArraySource):
        return None
    checksum = 0
    for arrays in source.chunks():
        for array in arrays:
            if array is not None:
                rows = np.ascontiguousarray(source.backend.to_numpy(array))
                checksum = zlib.crc32(rows.tobytes(), checksum)
    return checksum


def _open(folder: Path) -> NpySource:
    y = folder / "y.npy"
    return NpySource(folder / "x.npy", y if y.exists() else None)


def _write(source: Source, new: Path, folder: Path) -> dict[str, tuple[int, int]]:
    """Write x.npy and y.npy into a new folder, and return the size and a checksum of each.

    Errors name them as files in `folder`, which the new folder becomes.
    """
    rows = source.count()
    files: list[_NewFile] = []
    dtypes: list[np.dtype[Any]] = []
    at = 0
    with contextlib.ExitStack() as stack:
        for arrays in with_progress(source.chunks(), f"caching {source!r}", rows):
            present: list[Array] = [array for array in arrays if array is not None]
            if not files:
                dtypes = [array.dtype for array in present]
                for name, array in zip(("x.npy", "y.npy"), present, strict=False):
                    shape = (rows, *array.shape[1:])
                    needed = math.prod(shape) * array.dtype.itemsize
                    file = _NewFile(new / name, folder, needed)
                    files.append(stack.enter_context(contextlib.closing(file)))
                    _write_header(file, array.dtype, shape)
            for file, dtype, array in zip(files, dtypes, present, strict=True):
                if not np.can_cast(array.dtype, dtype, "safe"):
                    raise DataError(
                        f"row {at} of {source!r} is {array.dtype}, but the first one is {dtype}: "
                        "give all pieces one dtype"
                    )
                file.write(np.ascontiguousarray(array, dtype).reshape(-1).view(np.uint8).data)
            at += len(arrays[0])
            if at > rows:
                break
        if at != rows:
            now = f"{at:,}" if at < rows else "more"
            raise DataError(f"{source!r} gave {rows:,} rows at first and now gives {now}")
        for file in files:
            file.finish()
    return {file.name: (file.size, file.checksum) for file in files}


class _NewFile:
    """A file of a cache while it is written; an error names the space that it needs."""

    def __init__(self, path: Path, folder: Path, needed: int = 0) -> None:
        self.name, self.size, self.checksum = path.name, 0, 0
        self._final, self._needed = folder / path.name, needed
        with self._naming():
            self._file = open(path, "xb", buffering=0)  # noqa: SIM115  (`close` does)

    def write(self, data: Any) -> None:
        """Write bytes; a full disk raises an `OSError` instead of sending a signal."""
        left = memoryview(data)
        self.checksum, self.size = zlib.adler32(left, self.checksum), self.size + len(left)
        with self._naming():
            while len(left):
                left = left[self._file.write(left) :]

    def finish(self) -> None:
        """Flush it to the disk."""
        with self._naming():
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close it, as it is."""
        with contextlib.suppress(OSError):
            self._file.close()

    @contextlib.contextmanager
    def _naming(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno is None:
                raise
            size = f": {self._needed:,} bytes are needed there" if self._needed else ""
            remedy = "free some space, or write elsewhere"
            what = f"{error.strerror}{size}; {remedy}"
            raise OSError(error.errno, what, os.fspath(self._final)) from error


def _write_header(file: _NewFile, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    described = np.lib.format.dtype_to_descr(dtype)
    header = {"descr": described, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
