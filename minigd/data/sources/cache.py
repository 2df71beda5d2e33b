"""A source written once as memory maps, in a folder, which later epochs and runs read."""

import json
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from minigd.data.sources.array import ArraySource
from minigd.data.sources.base import Source
from minigd.data.sources.npy import NpySource
from minigd.errors import DataError, check_path
from minigd.progress import with_progress
from minigd.storage.atomic_files import replacing_folder, sweep
from minigd.types import Array

_DESCRIPTION = "minigd-cache.json"


def cache(source: Source, path: str | os.PathLike[str]) -> NpySource:
    """Return the rows of `source` as memory maps in the folder `path`; see `Source.cache`."""
    folder = Path(check_path("path", path))
    rows = _cached(source, folder)
    rows.names, rows.classes, rows.weight = source.names, source.classes, source.weight
    rows.target_problems = source.target_problems
    return rows


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
            _write(source, new)
            (new / _DESCRIPTION).write_text(json.dumps(key))
    except OSError:
        # Another process may have written the same rows meanwhile.
        if not _holds(folder, key):
            raise
    return _open(folder)


def is_cache(folder: str | os.PathLike[str]) -> bool:
    """Tell whether a folder is one that `cache` wrote."""
    return Path(folder, _DESCRIPTION).exists()


def _holds(folder: Path, key: dict[str, Any]) -> bool:
    """Tell whether the folder holds all of a cache with this key."""
    try:
        found = json.loads((folder / _DESCRIPTION).read_text())
    except (OSError, ValueError):
        return False
    return bool(found == key) and (folder / "x.npy").exists()


def _checksum(source: Source) -> int | None:
    """Return a checksum of all rows in memory, whose fingerprint is of a sample only."""
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


def _write(source: Source, folder: Path) -> None:
    rows = source.count()
    maps: list[Any] = []
    at = 0
    for arrays in with_progress(source.chunks(), f"caching {source!r}", rows):
        present: list[Array] = [array for array in arrays if array is not None]
        if not maps:
            for name, array in zip(("x.npy", "y.npy"), present, strict=False):
                shape = (rows, *array.shape[1:])
                maps.append(np.lib.format.open_memmap(folder / name, "w+", array.dtype, shape))
        for mapped, array in zip(maps, present, strict=True):
            if not np.can_cast(array.dtype, mapped.dtype, "safe"):
                raise DataError(
                    f"row {at} of {source!r} is {array.dtype}, and the first one {mapped.dtype}: "
                    "give all pieces one dtype"
                )
            mapped[at : at + len(array)] = array
        at += len(arrays[0])
    for mapped in maps:
        mapped.flush()
