"""Named arrays and a JSON description in one `.npz` file.

The file is written whole or not at all, and read without pickle, so that loading runs no code.
"""

import hashlib
import json
import os
import zipfile
import zlib
from typing import Any

import numpy as np

from minigd.errors import CheckpointError
from minigd.storage.atomic_files import replacing
from minigd.storage.describe import Arrays, Description

FORMAT = "minigd"
VERSION = 1
_DESCRIPTION = "description.json"
_DIGEST = "sha256"


def write(path: str | os.PathLike[str], description: Description, arrays: Arrays) -> None:
    """Write a description and named arrays to `path`, whole or not at all; see `replacing`.

    The file has exactly this name, by convention ending in ``.npz``. The description is anything
    that JSON can hold, and the arrays are of numbers, on the host.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(f"{folder}/a.npz", {"epoch": 3}, {"W": np.eye(2)})
    ...     description, arrays = read(f"{folder}/a.npz")
    >>> description["epoch"], arrays["W"].tolist()
    (3, [[1.0, 0.0], [0.0, 1.0]])
    """
    text = json.dumps({"format": FORMAT, "version": VERSION, **description})
    members: dict[str, Any] = {name: np.asarray(array) for name, array in arrays.items()}
    for name, array in members.items():
        if array.dtype.hasobject:
            raise ValueError(f"{name} can't be written: it holds objects (allow_pickle=False)")
    members[_DESCRIPTION] = np.frombuffer(text.encode(), dtype=np.uint8)
    members[_DIGEST] = _digest(members)
    with replacing(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name, array in members.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def read(
    path: str | os.PathLike[str],
) -> tuple[Description, dict[str, np.ndarray[Any, np.dtype[Any]]]]:
    """Read what `write` wrote."""
    if not os.path.exists(path):
        raise FileNotFoundError(f"there is no file {os.fspath(path)!r}")
    try:
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            members = {name: file[name] for name in file.files}
        if _DESCRIPTION not in members:
            raise CheckpointError(
                f"{os.fspath(path)!r} is an archive of arrays, not a file that minigd saved"
            )
        digest = members.pop(_DIGEST, None)
        changed = digest is None or _digest(members).tobytes() != digest.tobytes()
        description: Description = json.loads(members.pop(_DESCRIPTION).tobytes())
        version = description["version"]
        recognized = description["format"] == FORMAT and isinstance(version, int)
    except (
        OSError,
        ValueError,
        KeyError,
        EOFError,
        RuntimeError,
        zlib.error,
        AttributeError,
        TypeError,
        zipfile.BadZipFile,
    ) as error:
        # NumPy's advice for a file without its mark is to unpickle it, which is never right here.
        reason = "" if "pickle" in str(error) else f": {error}"
        raise CheckpointError(
            f"{os.fspath(path)!r} is not a file that minigd saved, or it is damaged{reason}"
        ) from error
    if not recognized:
        raise CheckpointError(f"{os.fspath(path)!r} is not a file that minigd saved")
    if version > VERSION:
        raise CheckpointError(
            f"{os.fspath(path)!r} has format version {version} and this minigd "
            f"reads up to {VERSION}: install a newer minigd"
        )
    if changed:
        raise CheckpointError(
            f"{os.fspath(path)!r} was changed after minigd wrote it: its content does not have the "
            "checksum that was saved with it"
        )
    return description, members


def _digest(members: Arrays) -> np.ndarray[Any, np.dtype[Any]]:
    """Return the SHA-256 of names, types, shapes and numbers."""
    digest = hashlib.sha256()
    for name in sorted(members):
        array = np.ascontiguousarray(members[name])
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return np.frombuffer(digest.digest(), dtype=np.uint8)
