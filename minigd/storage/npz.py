"""Named arrays and a JSON description in one `.npz` file, and objects described as JSON.

The file is written whole or not at all, and read without pickle, so that loading runs no code.
"""

import hashlib
import inspect
import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from minigd.errors import CheckpointError
from minigd.storage.atomic_files import replacing

FORMAT = "minigd"
VERSION = 1
_DESCRIPTION = "description.json"
_DIGEST = "sha256"

Arrays = Mapping[str, np.ndarray[Any, np.dtype[Any]]]
Description = dict[str, Any]


def write(path: str | os.PathLike[str], description: Description, arrays: Arrays) -> None:
    """Write a description and named arrays to `path`, whole or not at all; see `replacing`.

    Parameters
    ----------
    path : str or path-like
        The file, by convention ending in ``.npz``; it is written under exactly this name.
    description : dict
        Anything that JSON can hold.
    arrays : mapping of str to numpy.ndarray
        On the host, of numbers.

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
    """Read what `write` wrote.

    Returns
    -------
    description : dict
    arrays : dict of str to numpy.ndarray

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    CheckpointError
        If the file is not one of minigd's, is damaged, or comes from a newer version.
    """
    if not os.path.exists(path):
        raise FileNotFoundError(f"there is no file {os.fspath(path)!r}")
    try:
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            members = {name: file[name] for name in file.files}
        if _DESCRIPTION not in members:
            raise CheckpointError(
                f"{os.fspath(path)!r} is an archive of arrays, and no file that minigd saved"
            )
        digest = members.pop(_DIGEST, None)
        changed = digest is None or _digest(members).tobytes() != digest.tobytes()
        description: Description = json.loads(members.pop(_DESCRIPTION).tobytes())
        version = description["version"]
        recognised = description["format"] == FORMAT and isinstance(version, int)
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
    if not recognised:
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


def arguments(thing: object) -> dict[str, Any]:
    """Return the constructor's arguments of `thing`, read from its attributes of the same names.

    This is scikit-learn's convention: ``__init__`` keeps each argument, unchanged, as an attribute.

    Raises
    ------
    TypeError
        If an argument was not kept.

    Examples
    --------
    >>> class Scale:
    ...     def __init__(self, factor=2.0):
    ...         self.factor = factor
    >>> arguments(Scale(3.0))
    {'factor': 3.0}
    """
    if type(thing).__init__ is object.__init__:
        return {}
    parameters = list(inspect.signature(type(thing).__init__).parameters.values())[1:]
    names = [parameter.name for parameter in parameters]
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise TypeError(
                f"{type(thing).__name__}.__init__ takes {parameter}, which can't be read back from "
                "attributes: name its arguments one by one, or define config()"
            )
    missing = [name for name in names if not hasattr(thing, name)]
    if missing:
        kind = type(thing).__name__
        raise TypeError(
            f"{kind}.__init__ takes {missing[0]!r} but does not keep it: write "
            f"`self.{missing[0]} = {missing[0]}` in it, so that {kind} can be copied and saved"
        )
    return {name: getattr(thing, name) for name in names}


def split(tree: Any, prefix: str, arrays: dict[str, np.ndarray[Any, np.dtype[Any]]]) -> Any:
    """Return nested dicts with each array moved to `arrays`, under its path, and its path left.

    A scalar of NumPy's goes with the arrays, so that it keeps its dtype.

    >>> arrays = {}
    >>> split({"step": 3, "m": np.zeros(2)}, "updater", arrays)
    {'step': 3, 'm': {'array': 'updater/m'}}
    >>> join({'step': 3, 'm': {'array': 'updater/m'}}, arrays)
    {'step': 3, 'm': array([0., 0.])}
    """
    if isinstance(tree, np.ndarray | np.generic):
        if prefix in arrays:
            raise ValueError(f"two arrays have the name {prefix!r}: a name with a / is two names")
        arrays[prefix] = np.asarray(tree)
        return {"array": prefix}
    if isinstance(tree, Mapping):
        for name in tree:
            if not isinstance(name, str):
                raise TypeError(f"{prefix} can't be saved: its name {name!r} is no text")
        parts = {name: split(value, f"{prefix}/{name}", arrays) for name, value in tree.items()}
        # A dict of one thing called "array" is told from a path by the list around that thing.
        return {"array": [parts["array"]]} if list(parts) == ["array"] else parts
    try:
        json.dumps(tree)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{prefix} can't be saved: it is {tree!r} ({error})") from None
    return tree


def join(tree: Any, arrays: Arrays) -> Any:
    """Return nested dicts with each array back in its place; the reverse of `split`."""
    if not isinstance(tree, dict):
        return tree
    if list(tree) == ["array"]:
        inner = tree["array"]
        return arrays[inner] if isinstance(inner, str) else {"array": join(inner[0], arrays)}
    return {name: join(value, arrays) for name, value in tree.items()}


class Described(Protocol):
    """What has a description: layers, losses, metrics, updaters, schedules."""

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        ...


def describe(thing: Described) -> Description:
    """Return a description of `thing` for JSON: its class by name, and its arguments.

    >>> from minigd.optim.updaters import SGD
    >>> describe(SGD(learning_rate=0.5))
    {'class': 'SGD', 'arguments': {'learning_rate': 0.5, 'momentum': 0.0, 'nesterov': False}}
    """
    values = {
        name: describe(value) if hasattr(value, "config") else value
        for name, value in thing.config().items()
    }
    for name, value in values.items():
        try:
            json.dumps(value)
        except TypeError:
            kind = type(thing).__name__
            raise TypeError(
                f"{kind} can't be saved: its argument {name!r} is {value!r}, and a file holds only "
                "numbers, strings, None and lists of them"
            ) from None
    return {"class": type(thing).__name__, "arguments": values}


def rebuild(description: Description, known: Mapping[str, type]) -> Any:
    """Make the object that `describe` described, from the classes in `known` and no others.

    Raises
    ------
    CheckpointError
        If the class is not in `known`, or does not take these arguments.
    """
    name = description["class"]
    if name not in known:
        raise CheckpointError(
            f"the file needs a class {name!r} that minigd does not have: import it and name it "
            f"when loading, custom=[{name}]"
        )
    values = {
        argument: rebuild(value, known) if isinstance(value, dict) and "class" in value else value
        for argument, value in description["arguments"].items()
    }
    try:
        return known[name](**values)
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"{name} does not take the arguments in the file, {description['arguments']}: {error}"
        ) from error
