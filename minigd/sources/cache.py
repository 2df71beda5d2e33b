"""A source written once as memory maps, in a folder, which later epochs and runs read."""

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from minigd.backend import Array
from minigd.errors import DataError
from minigd.sources.base import Source
from minigd.sources.npy import NpySource

_DESCRIPTION = "minigd-cache.json"


def cache(source: Source, path: str | os.PathLike[str]) -> NpySource:
    """Return the rows of `source` as memory maps in the folder `path`; see `Source.cache`."""
    folder = Path(path)
    key = json.loads(json.dumps(source.fingerprint()))
    if folder.exists():
        described = folder / _DESCRIPTION
        if not described.exists():
            raise DataError(
                f"{folder} is there already and is no cache of minigd's: name another folder"
            )
        if json.loads(described.read_text()) == key:
            return _open(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    # All is written beside the folder, which then takes its name in one step.
    beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        _write(source, beside)
        (beside / _DESCRIPTION).write_text(json.dumps(key))
        beside.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(beside, folder)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    return _open(folder)


def _open(folder: Path) -> NpySource:
    y = folder / "y.npy"
    return NpySource(folder / "x.npy", y if y.exists() else None)


def _write(source: Source, folder: Path) -> None:
    rows = source.count()
    maps: list[Any] = []
    at = 0
    for arrays in source.chunks():
        present: list[Array] = [array for array in arrays if array is not None]
        if not maps:
            for name, array in zip(("x.npy", "y.npy"), present, strict=False):
                shape = (rows, *array.shape[1:])
                maps.append(np.lib.format.open_memmap(folder / name, "w+", array.dtype, shape))
        for mapped, array in zip(maps, present, strict=True):
            if not np.can_cast(array.dtype, mapped.dtype, "same_kind"):
                raise DataError(
                    f"row {at} of {source!r} is {array.dtype}, and the first one {mapped.dtype}: "
                    "give all pieces one dtype"
                )
            mapped[at : at + len(array)] = array
        at += len(arrays[0])
    for mapped in maps:
        mapped.flush()
