"""A file, or a folder of files, that replaces one of the same name completely or not at all.

Everything that minigd writes under a name given by the user goes through this module. After a
failure, a full disk or a kill at any moment, the old file is still there, and an error names the
user's file. While it is written, a file has a temporary name in the same folder, which its process
locks. The system removes the lock when the process ends in any way. An unlocked temporary file was
therefore left by a killed process.
"""

import contextlib
import glob
import hashlib
import io
import os
import re
import shutil
import stat
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

from minigd.errors import check_path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_TEMPORARY = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{32}\.tmp", re.DOTALL)

_WRITING = {"write", "writelines", "flush", "seek", "truncate"}
"""Methods of a file that fail if the disk is full."""


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file for writing that becomes `path` once everything is written, and not before.

    The bytes go to a temporary file in the same folder, are flushed to the disk, and then take the
    name `path` in one step. A reader sees the old file or the new one, even if the process is
    killed at any moment. A failure (no space, no permission) leaves the old file as it was. The new
    file has the permissions of the old one from the start. A link is followed: the file it points
    to is replaced, and the link stays.

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
    with naming(path):
        temporary, file = _create_file(target)
    try:
        yield cast("BinaryIO", NamingFile(file, path))
        with naming(path):
            file.flush()
            os.fsync(file.fileno())
            if os.name != "posix":
                file.close()  # Windows can't rename an open file.
            os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            file.close()
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    file.close()
    _sync_names(target.parent)


@contextlib.contextmanager
def replacing_text(path: str | os.PathLike[str]) -> Iterator[TextIO]:
    """Open a file for UTF-8 text, with line ends as written; otherwise like `replacing`."""
    with replacing(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        yield text
        text.flush()
        text.detach()


@contextlib.contextmanager
def replacing_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Make a new folder for files, which becomes the folder `path` when all are written.

    The folder keeps its permissions, and so does each file that replaces one of the same name.
    """
    target = _target(path)
    with naming(path):
        temporary, descriptor = _create_folder(target)
    old = _temporary_path(target)
    try:
        try:
            yield temporary
        except OSError as error:
            if not str(error.filename).startswith(str(temporary)):
                raise
            with naming(path):
                raise
        with naming(path):
            _replace_folder(target, temporary, old)
    finally:
        for rest in (temporary, old):
            shutil.rmtree(rest, ignore_errors=True)
        if descriptor is not None:
            os.close(descriptor)
    _sync_names(target.parent)


def _replace_folder(target: Path, temporary: Path, old: Path) -> None:
    """Replace a folder by another one, after renaming the first to `old`."""
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


# Errors that name the file -----------------------------------------------------------------------


@contextlib.contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Make a system error name `path` instead of a temporary file.

    >>> with naming("model.npz"):
    ...     raise OSError(28, "No space left on device")
    Traceback (most recent call last):
    OSError: [Errno 28] No space left on device: 'model.npz'
    """
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


class NamingFile:
    """A file that is open for writing, whose errors name the path that the user gave."""

    def __init__(self, file: Any, path: str | os.PathLike[str]) -> None:
        self._file, self._path = file, path

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._file, name)
        return naming(self._path)(value) if name in _WRITING else value


def check_writable(path: str | os.PathLike[str]) -> Path:
    """Follow links from `path` to the file, and refuse a file that can't be replaced."""
    given, target = check_path("path", path), _target(path)
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


# Locks, and leftovers of killed processes ---------------------------------------------------------


@contextlib.contextmanager
def locked(path: str | os.PathLike[str]) -> Iterator[None]:
    """Refuse to continue if another run has locked the same path; otherwise lock it.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, locked(f"{folder}/m.npz"):
    ...     is_locked(f"{folder}/m.npz")
    True
    """
    lock = _lock_path(check_writable(path))
    with naming(path):
        descriptor = _hold(lock)
    if descriptor is None:
        raise BlockingIOError(
            f"{os.fspath(path)!r} can't be written: another run will write it; wait until that "
            "run has ended, or name another file"
        )
    try:
        yield
    finally:
        _release(lock, descriptor)


def is_locked(path: str | os.PathLike[str]) -> bool:
    """Tell whether a run has locked this path with `locked`."""
    lock = _lock_path(_target(path))
    if not lock.exists():
        return False
    with _claim(lock) as dead:
        return not dead


def sweep(path: str | os.PathLike[str]) -> None:
    """Remove the temporary files and folders of processes that were killed while they wrote `path`.

    Files that a living process is writing stay.
    """
    target = _target(path)
    for left in _find_temporary(target.parent, target.name):
        with _claim(left) as dead:
            if dead:
                remove(left)


def remove(path: Path) -> None:
    """Remove a file, or a folder with everything in it, as far as possible."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def find_left(folder: str | os.PathLike[str], name: str | None = None) -> list[Path]:
    """Return what killed processes left in a folder, for files with this name or for all."""
    left = []
    for temporary in _find_temporary(Path(folder), name):
        with _claim(temporary) as dead:
            if dead:
                left.append(temporary)
    return left


def _find_temporary(folder: Path, name: str | None) -> list[Path]:
    """Return the temporary files and folders in a folder, for files with this name or for all."""
    name = None if name is None else name[:100]
    pattern = "*" if name is None else glob.escape(name)
    return sorted(
        path
        for path in folder.glob(f".{pattern}.*.tmp")
        if (match := _TEMPORARY.fullmatch(path.name)) and name in (None, match["name"])
    )


def _target(path: str | os.PathLike[str]) -> Path:
    """Return the file that a path points to, with links followed."""
    return Path(os.path.realpath(check_path("path", path)))


def _temporary_path(target: Path) -> Path:
    """Return a name for a temporary file in the same folder, which `sweep` recognizes."""
    return target.with_name(f".{target.name[:100]}.{uuid.uuid4().hex}.tmp")


def _lock_path(target: Path) -> Path:
    """Return the lock file of a path that a run will write."""
    name = hashlib.sha256(os.fsencode(target.name)).hexdigest()[:32]
    return target.with_name(f".{target.name[:100]}.{name}.tmp")


def _create_file(target: Path) -> tuple[Path, BinaryIO]:
    """Return a new temporary file, locked and open, with the permissions of the old file."""
    mode = _mode(target)

    def create(name: str, flags: int) -> int:
        return os.open(name, flags, 0o666 if mode is None else mode & 0o700)

    while True:
        temporary = _temporary_path(target)
        file = open(temporary, "xb", opener=create)  # noqa: SIM115
        # A `sweep` of another process may have been faster than the lock.
        if _lock(file.fileno()) is not False and temporary.exists():
            break
        file.close()
    try:
        if mode is not None:
            os.chmod(temporary, mode)
    except BaseException:
        file.close()
        temporary.unlink()
        raise
    return temporary, file


def _create_folder(target: Path) -> tuple[Path, int | None]:
    """Return a new temporary folder, and the descriptor that locks it, if possible."""
    while True:
        temporary = _temporary_path(target)
        temporary.mkdir()
        if os.name != "posix":
            return temporary, None  # Windows can't open a folder.
        try:
            descriptor = os.open(temporary, os.O_RDONLY)
        except FileNotFoundError:
            continue
        except BaseException:
            temporary.rmdir()
            raise
        # A `sweep` of another process may have been faster than the lock.
        if _lock(descriptor) is not False and temporary.exists():
            return temporary, descriptor
        os.close(descriptor)


def _hold(lock: Path) -> int | None:
    """Return the descriptor of a file that is locked from now on; None if it is locked already."""
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        if _lock(descriptor) is False:
            os.close(descriptor)
            return None
        # Between the two lines above, the previous run may have removed the file, and the next one
        # may have made its own.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(lock)):
                return descriptor
        os.close(descriptor)


def _release(lock: Path, descriptor: int) -> None:
    """Remove a file that was locked; the lock lasts until its name is gone."""
    if os.name != "posix":
        os.close(descriptor)  # Windows can't remove an open file.
    with contextlib.suppress(OSError):
        lock.unlink()
    if os.name == "posix":
        os.close(descriptor)


@contextlib.contextmanager
def _claim(path: Path) -> Iterator[bool]:
    """Lock a temporary file or folder for a moment; tell whether its process has ended.

    If that can't be known, the process counts as alive.
    """
    if path.is_symlink() or not (path.is_file() or path.is_dir()):
        yield False
        return
    # Over NFS only a file that is open for writing can be locked.
    writable = path.is_file() and os.access(path, os.W_OK)
    try:
        descriptor = os.open(path, os.O_RDWR if writable else os.O_RDONLY)
    except OSError:
        yield False
        return
    try:
        yield _lock(descriptor) is True
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool | None:
    """Lock an open file; False if another process has locked it, None if there are no locks."""
    try:
        if sys.platform == "win32":
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return None
    return True


def _mode(path: Path) -> int | None:
    """Return the permissions of a file or folder, or None if there is none."""
    return stat.S_IMODE(path.stat().st_mode) if path.exists() else None


def _sync_names(folder: Path) -> None:
    """Flush the names in a folder to the disk, as far as its file system does that.

    The renamed file is complete already, so a failure here does not count as a failed write.
    """
    with contextlib.suppress(OSError):
        _sync(folder)


def _sync(path: Path) -> None:
    """Flush a file to the disk, or a folder with the names of what is in it."""
    if os.name != "posix":
        return  # Windows can't open a folder.
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
