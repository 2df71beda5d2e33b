"""Named arrays and a JSON description in one `.npz` file.

The file is written completely or not at all. It is read without pickle, so loading runs no code.
"""

import hashlib
import json
import os
import struct
import zipfile
from io import BufferedReader
from typing import Any

import numpy as np

from minigd.errors import CheckpointError, check_path
from minigd.storage.atomic_files import replacing
from minigd.storage.damage import damaged
from minigd.storage.describe import Arrays, Description
from minigd.storage.npy import read_header
from minigd.storage.regular_files import open_regular

FORMAT = "minigd"
VERSION = 1
_DESCRIPTION = "description.json"
_DIGEST = "sha256"
_ZIP_HEADER = struct.Struct("<4s22xHH")
"""The header of each member: a signature, and the lengths of its name and extra field."""
_PIECE = 1 << 16
"""Numbers that stay in the cache of a processor while they are hashed and looked at."""


class Members(dict[str, np.ndarray[Any, np.dtype[Any]]]):
    """The arrays in a file by name.

    Attributes
    ----------
    finite : set of str
        The names of arrays known to hold no NaN and no infinity; of the others, that is not known.
    """

    finite: set[str]


def model_path(path: str | os.PathLike[str]) -> str:
    """Return the path to save a model or a run to, and refuse a name of another format.

    A name without an ending is allowed, and so is one with more endings after ``.npz``. An
    interrupted run of the shell ends in ``.checkpoint``.

    Examples
    --------
    >>> model_path("runs/m.npz"), model_path("runs/m"), model_path("m.npz.old")
    ('runs/m.npz', 'runs/m', 'm.npz.old')
    >>> model_path("m.h5")
    Traceback (most recent call last):
    ValueError: can't save to 'm.h5': a model is written as .npz; name it 'm.npz'
    """
    text = check_path("path", path)
    _, *endings = os.path.basename(text).lower().lstrip(".").split(".")
    if endings and endings[-1][:1].isalpha() and not {"npz", "checkpoint"} & set(endings):
        npz = f"{os.path.splitext(text)[0]}.npz"
        onnx = ", or use minigd.export_onnx(model, path)" if endings[-1] == "onnx" else ""
        raise ValueError(
            f"can't save to {text!r}: a model is written as .npz; name it {npz!r}{onnx}"
        )
    return text


def write(path: str | os.PathLike[str], description: Description, arrays: Arrays) -> None:
    """Write a description and named arrays to `path`, completely or not at all; see `replacing`.

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
        if array.dtype.hasobject or array.dtype.names is not None:
            what = "records" if array.dtype.names else "objects (allow_pickle=False)"
            raise ValueError(
                f"{name} can't be written: it holds {what}, but a file holds only numbers"
            )
    members[_DESCRIPTION] = np.frombuffer(text.encode(), dtype=np.uint8)
    members[_DIGEST], _ = _digest(members)
    with replacing(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name, array in members.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def read(path: str | os.PathLike[str]) -> tuple[Description, Members]:
    """Read what `write` wrote, using no more memory than the size of the file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    CheckpointError
        If the file was not written by `write`, is damaged, or is too new.
    """
    path = check_path("path", path)
    name = repr(path)
    if not os.path.exists(path):
        raise FileNotFoundError(f"there is no file {name}")
    with (
        open_regular(path, CheckpointError) as file,
        damaged(f"{name} is not a file that minigd saved, or it is"),
    ):
        members = _read_members(file)
        if _DESCRIPTION not in members:
            raise CheckpointError(
                f"{name} is not a file that minigd saved, but a different archive of arrays"
            )
        written = members.pop(_DIGEST, None)
        digest, members.finite = _digest(members)
        changed = written is None or digest.tobytes() != written.tobytes()
        description: Description = json.loads(members.pop(_DESCRIPTION).tobytes())
        version = description["version"]
        recognized = description["format"] == FORMAT and type(version) is int and version > 0
    if not recognized:
        raise CheckpointError(f"{name} is not a file that minigd saved")
    if version > VERSION:
        raise CheckpointError(
            f"{name} has format version {version}, but this minigd reads up to {VERSION}: install "
            "a newer minigd"
        )
    if changed:
        raise CheckpointError(
            f"{name} was changed after minigd wrote it: its content does not match "
            "the checksum in it"
        )
    return description, members


def _read_members(file: BufferedReader) -> Members:
    """Read all arrays, after checking that the file is long enough for them."""
    with zipfile.ZipFile(file) as archive:
        infos = archive.infolist()
    for one in infos:
        if one.compress_type != zipfile.ZIP_STORED or one.compress_size != one.file_size:
            raise ValueError(
                f"{one.filename!r} in it is compressed; minigd never compresses arrays"
            )
    size = os.fstat(file.fileno()).st_size
    if sum(one.file_size for one in infos) > size:
        raise ValueError(f"its arrays claim to be larger than the file, {size} bytes")
    members = Members()
    for one in infos:
        file.seek(one.header_offset)
        head = file.read(_ZIP_HEADER.size)
        signature, name, extra = _ZIP_HEADER.unpack(head)
        if signature != b"PK\3\4":
            raise ValueError(f"{one.filename!r} is not at the place that the archive gives")
        file.seek(name + extra, os.SEEK_CUR)
        members[one.filename.removesuffix(".npy")] = _read_array(file, one.file_size)
    return members


def _read_array(file: BufferedReader, size: int) -> np.ndarray[Any, np.dtype[Any]]:
    """Read an array of this many bytes, including its header, into new memory."""
    header = read_header(file, size)
    shape = header.shape[::-1] if header.fortran else header.shape
    array = np.empty(shape, header.dtype)
    if file.readinto(array.reshape(-1).view(np.uint8).data) != header.nbytes:
        raise ValueError("the file ends early")
    return array.T if header.fortran else array


def _digest(members: Arrays) -> tuple[np.ndarray[Any, np.dtype[Any]], set[str]]:
    """Return the SHA-256 of names, types, shapes and numbers, and names of arrays that are finite.

    Both in one pass, because a second one over arrays larger than the cache costs time.
    """
    digest, finite = hashlib.sha256(), set()
    with np.errstate(all="ignore"):
        for name in sorted(members):
            array = np.ascontiguousarray(members[name])
            digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
            if _add(digest, array.reshape(-1)):
                finite.add(name)
    return np.frombuffer(digest.digest(), dtype=np.uint8), finite


def _add(digest: Any, flat: np.ndarray[Any, np.dtype[Any]]) -> bool:
    """Add the numbers of an array to a digest; tell whether they are known to be finite."""
    if flat.dtype.char not in "fd" or not flat.dtype.isnative:
        digest.update(flat.view(np.uint8).data)
        return False
    finite = True
    for start in range(0, len(flat), _PIECE):
        piece = flat[start : start + _PIECE]
        digest.update(piece.view(np.uint8).data)
        # A sum of squares that overflows decides nothing.
        finite = finite and bool(np.isfinite(np.dot(piece, piece)))
    return finite
