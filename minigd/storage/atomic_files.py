"""A file, or a folder of files, that replaces the one of its name whole or not at all.

Whatever minigd writes under a name of the user's goes through here, so that a failure, a full disk
or a kill at any moment leaves what was there.
"""

import contextlib
import glob
import io
import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, TextIO

from minigd.errors import check_path


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Give a file to write to, which becomes `path` when all is written, and not before.

    The bytes go to a temporary file in the same folder, are flushed to the disk, and then take the
    name `path` in one step. A reader, or a process killed at any moment, sees the old file or the
    new one. A failure (no space, no permission) leaves the old file as it was. The new file has the
    permissions of the old one, from its first byte on. A link is followed: the file it points to is
    replaced, and the link stays.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(f"{folder}/a.txt") as file:
    ...         size = file.write(b"whole")
    ...         early = os.path.exists(f"{folder}/a.txt")
    ...     early, os.listdir(folder)
    (False, ['a.txt'])
    """
    target = check_writable(path)
    mode = _mode(target)
    temporary = _temporary_path(target)

    def create(name: str, flags: int) -> int:
        return os.open(name, flags, 0o666 if mode is None else mode & 0o700)

    try:
        with open(temporary, "xb", opener=create) as file:
            if mode is not None:
                os.chmod(temporary, mode)
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    _sync(target.parent)


@contextlib.contextmanager
def replacing_text(path: str | os.PathLike[str]) -> Iterator[TextIO]:
    """Give a file for UTF-8 text, with line ends as written; otherwise as `replacing`."""
    with replacing(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        yield text
        text.flush()
        text.detach()


@contextlib.contextmanager
def replacing_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a new folder for files, which becomes the folder `path` when all are written.

    The folder keeps its permissions, and so does each file in it that has the name of an old one.
    """
    target = Path(os.path.realpath(check_path("path", path)))
    temporary, old = _temporary_path(target), _temporary_path(target)
    temporary.mkdir()
    try:
        yield temporary
        for new in [*temporary.iterdir(), temporary]:
            mode = _mode(target / new.relative_to(temporary))
            if mode is not None:
                os.chmod(new, mode)
            _sync(new)
        if target.exists():
            os.replace(target, old)
        try:
            os.replace(temporary, target)
        except BaseException:
            if old.exists() and not target.exists():
                os.replace(old, target)
            raise
    finally:
        for rest in (temporary, old):
            shutil.rmtree(rest, ignore_errors=True)
    _sync(target.parent)


def check_writable(path: str | os.PathLike[str]) -> Path:
    """Return the file that `path` leads to, and refuse one that can't be replaced."""
    given = check_path("path", path)
    target = Path(os.path.realpath(given))
    kind: type[OSError] = OSError
    if target.is_dir():
        kind, problem = IsADirectoryError, "it is a folder; name a file in it"
    elif not target.parent.is_dir():
        kind = FileNotFoundError
        problem = f"there is no folder {str(target.parent)!r}; make it, or name a file elsewhere"
    elif target.exists() and not target.is_file():
        problem = "it exists and is not a regular file; name another one"
    elif target.exists() and not os.access(target, os.W_OK):
        kind, problem = PermissionError, "the file is read-only; name another one"
    elif not os.access(target.parent, os.W_OK):
        kind = PermissionError
        problem = f"the folder {str(target.parent)!r} is read-only; name a file elsewhere"
    else:
        return target
    raise kind(f"{given!r} can't be written: {problem}")


def sweep(path: str | os.PathLike[str]) -> None:
    """Remove the temporary files that processes left which were killed while they wrote `path`.

    For the one process that writes this file: half a file of another one is removed too.
    """
    target = Path(os.path.realpath(path))
    for file in target.parent.glob(f".{glob.escape(target.name[:100])}.{'[0-9a-f]' * 32}.tmp"):
        with contextlib.suppress(OSError):
            file.unlink()


def _temporary_path(target: Path) -> Path:
    """Return a name for a temporary file in the same folder, which `sweep` knows again."""
    return target.with_name(f".{target.name[:100]}.{uuid.uuid4().hex}.tmp")


def _mode(path: Path) -> int | None:
    """Return the permissions of a file or folder, or None if there is none."""
    return stat.S_IMODE(path.stat().st_mode) if path.exists() else None


def _sync(path: Path) -> None:
    """Flush a file to the disk, or a folder with the names of what is in it."""
    if os.name != "posix":
        return  # Windows can't open a folder.
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
