"""Files to read: regular files, not pipes, devices or folders.

A pipe may never end, and some devices never do.
"""

import errno
import os
import stat
from io import BufferedReader
from typing import Any

from minigd.errors import CheckpointError, DataError, check_path, shown


def open_regular(
    path: str | os.PathLike[str], error: type[DataError | CheckpointError] = DataError
) -> BufferedReader:
    """Open a file to read its bytes, and raise `error` at once if it is not a regular one.

    Raises
    ------
    CheckpointError, DataError
        For a pipe, a device or, if a model is expected, a folder.
    OSError
        If it can't be opened, or is a folder and a table is expected.
    """
    name = check_path("path", path)

    def opener(name: str, flags: int) -> int:
        # Never wait for a pipe without a writer, even if it has just replaced a file.
        _refuse(name, os.stat(name), error)
        descriptor = os.open(name, flags | getattr(os, "O_NONBLOCK", 0))
        try:
            _refuse(name, os.fstat(descriptor), error)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    return open(name, "rb", opener=opener)


def files_given(given: Any, what: str) -> list[Any]:
    """Return the files that are given, one or a list of them: paths and binary file objects.

    >>> files_given([b"a.csv", "b.csv"], "a CSV")
    ['a.csv', 'b.csv']
    """
    files = given if isinstance(given, list | tuple) else [given]
    if not files:
        raise DataError("no file was given")
    return [_file_given(file, what) for file in files]


def _file_given(file: Any, what: str) -> Any:
    if isinstance(file, str | bytes | os.PathLike):
        name = check_path("path", file)
        return name if isinstance(file, bytes) else file
    if not (hasattr(file, "read") and hasattr(file, "seek")):
        raise TypeError(f"{what} must be a path or a binary file object, not {shown(file)}")
    if isinstance(file.read(0), str):
        raise TypeError("a text file object was given: open the file in binary mode, 'rb'")
    return file


def _refuse(name: str, found: os.stat_result, error: type[Exception]) -> None:
    if stat.S_ISREG(found.st_mode):
        return
    folder = stat.S_ISDIR(found.st_mode)
    if error is CheckpointError:
        what = "a folder" if folder else "a pipe or a device: write its content to a file"
        raise error(f"{name!r} is not a file that minigd saved, but {what}")
    if folder:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name)
    raise error(
        f"{name!r} is a pipe or a device, but a table is read more than once: write it to a file"
    )
