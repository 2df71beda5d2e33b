"""Files that are opened to read: those with content of their own, and no pipe, device or folder.

A pipe may never end, and some devices never do.
"""

import errno
import os
import stat
from io import BufferedReader

from minigd.errors import CheckpointError, DataError, check_path


def open_regular(
    path: str | os.PathLike[str], error: type[DataError | CheckpointError] = DataError
) -> BufferedReader:
    """Open a file to read its bytes, and raise `error` at once if it is not a regular one.

    Raises
    ------
    CheckpointError, DataError
        For a pipe, a device or, where a model is due, a folder.
    OSError
        If it can't be opened; for a folder where a table is due.
    """
    name = check_path("path", path)

    def opener(name: str, flags: int) -> int:
        # A pipe without a writer must not be waited for, also where it took the place of a file.
        _refuse(name, os.stat(name), error)
        descriptor = os.open(name, flags | getattr(os, "O_NONBLOCK", 0))
        try:
            _refuse(name, os.fstat(descriptor), error)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    return open(name, "rb", opener=opener)


def _refuse(name: str, found: os.stat_result, error: type[Exception]) -> None:
    if stat.S_ISREG(found.st_mode):
        return
    folder = stat.S_ISDIR(found.st_mode)
    if error is CheckpointError:
        what = "a folder" if folder else "a pipe or a device"
        raise error(f"{name!r} is not a file that minigd saved, but {what}")
    if folder:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name)
    raise error(
        f"{name!r} is a pipe or a device, and a table is read more than once: write it to a file"
    )
