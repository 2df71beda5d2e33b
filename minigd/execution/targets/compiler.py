"""Compiles the source of a step with Numba, and keeps the result for later runs.

It is kept in a folder of the user's own, from which what was used longest ago is removed.
"""

import contextlib
import functools
import hashlib
import importlib.util
import os
import stat
import sys
import time
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from minigd.backends.on_demand import call, optional
from minigd.progress import warn
from minigd.storage.atomic_files import replacing
from minigd.types import Array

MOST_KEPT = 100
"""How many sources the folder keeps, with what is compiled of each: some 0.3 to 1.5 MB."""

_seconds: list[float] = []
"""What each function took to compile, until it is reported."""


@functools.cache
def absent() -> str | None:
    """Return what is not installed of Numba and SciPy, whose BLAS it uses; nothing is imported."""
    missing = (n for n in ("numba", "scipy") if importlib.util.find_spec(n) is None)
    return next(missing, None)


def available() -> bool:
    """Tell whether steps can be compiled."""
    return absent() is None


def compiled(source: str, memory: Sequence[Array]) -> Callable[..., int]:
    """Return the function `run` of a source on its memory; what a call has to compile is timed.

    Raises
    ------
    RuntimeError
        If Numba is told not to compile.
    """
    numba = optional("numba", "a compiled step")
    if numba.config.DISABLE_JIT:
        _say("NUMBA_DISABLE_JIT is set: steps run by NumPy and are not compiled")
        raise RuntimeError("NUMBA_DISABLE_JIT is set, and so Numba compiles nothing")
    places = call("minigd.execution.targets.flat_memory", "addresses", memory)
    return functools.partial(_call, source, places)


def _call(source: str, *arguments: Any) -> int:
    """Call the function of a source, and take the time if it has to be compiled."""
    function = _load(source)
    if function.overloads:
        steps: int = function(*arguments)
        return steps
    started = time.perf_counter()
    try:
        steps = function(*arguments)
    except Exception as error:
        # What was kept may be damaged, or not be written: nothing of it has run.
        _forget(source)
        function = _KEPT[source] = _run_of(source, None)
        steps = function(*arguments)
        _say(f"{_UNKEPT} ({type(error).__name__}: {error})")
    if not sum(function.stats.cache_hits.values()):
        _seconds.append(time.perf_counter() - started)
    return steps


_UNKEPT = "Numba's cache can't be used, and steps are compiled in this process only"


@functools.cache
def _say(message: str) -> None:
    """Warn, once in a process; a filter that makes an error of it must not end a step."""
    with contextlib.suppress(RuntimeWarning):
        warn(message, RuntimeWarning, stacklevel=2)


_KEPT: dict[str, Any] = {}
"""The functions of this process, by their source."""


def _load(source: str) -> Any:
    """Return the function `run` of a source, kept for later processes where that is possible."""
    if source not in _KEPT:
        folder = cache_folder()
        try:
            _KEPT[source] = _run_of(source, folder)
        except (OSError, RuntimeError) as error:
            # A full disk, or a folder that Numba can't write to.
            _say(f"{_UNKEPT} ({error})")
            _KEPT[source] = _run_of(source, None)
        if folder is None:
            _say(f"{_UNKEPT}: set NUMBA_CACHE_DIR to a folder that only you can write to")
    return _KEPT[source]


def _run_of(source: str, folder: Path | None) -> Any:
    """Return the function `run` of a source, which Numba keeps in a folder, if there is one.

    The source is written into the folder, under a name made from its content and that of what it
    calls, because Numba keeps what it compiles beside the file that it stands in.
    """
    name = f"step_{_digest(source)}"
    if folder is None:
        # It is compiled in each process.
        path, source = f"<{name}>", source.replace("cache=True", "cache=False")
    else:
        path = str(folder / f"{name}.py")
        try:
            # When it was used last. Numba goes by when it was written, which stays.
            os.utime(path, ns=(time.time_ns(), os.stat(path).st_mtime_ns))
        except FileNotFoundError:
            with replacing(path) as file:
                file.write(source.encode())
            _prune(folder)
    # What Numba compiles belongs to a module that can be imported by name.
    module: Any = types.ModuleType(name)
    module.__file__ = path
    sys.modules[name] = module
    exec(compile(source, path, "exec"), vars(module))
    return module.run


def _prune(folder: Path) -> None:
    """Remove those of the sources that were used longest ago, with what was compiled of them.

    A process that is about to load one of them compiles it again.
    """
    used: list[tuple[int, str]] = []
    for path in folder.glob("step_*.py"):
        with contextlib.suppress(FileNotFoundError):  # another process removes them too
            used.append((path.stat().st_atime_ns, path.stem))
    for _, name in sorted(used)[:-MOST_KEPT]:
        _remove(folder, name)


def _forget(source: str) -> None:
    """Remove what was kept of a source, so that a later process writes it again."""
    folder = cache_folder()
    if folder is not None:
        _remove(folder, f"step_{_digest(source)}")


def _remove(folder: Path, name: str) -> None:
    """Remove a source, and what Numba keeps of it: in the folder, or beside it in its own."""
    for path in folder.parent.glob(f"{folder.name}*/**/{name}.*"):
        with contextlib.suppress(OSError):
            path.unlink()


def _digest(source: str) -> str:
    """Return a hash of a source, and of the modules that become part of what is compiled."""
    called = [Path(__file__).with_name(f"{name}.py") for name in ("flat_memory", "vector_math")]
    texts = [source.encode(), *[path.read_bytes() for path in called]]
    return hashlib.sha256(b"".join(texts)).hexdigest()[:32]


def cache_folder() -> Path | None:
    """Return the folder for compiled steps, which nobody else can write to; None without one.

    It is ``minigd`` in the folder that NUMBA_CACHE_DIR names, or else in the user's cache.
    """
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = Path(os.environ.get("NUMBA_CACHE_DIR") or home) / "minigd"
    if folder.parts[0] == "~":  # the user has no home
        return None
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if _is_own(folder.stat()) and os.access(folder, os.W_OK):
            return folder
    return None


def _is_own(found: os.stat_result) -> bool:
    """Tell whether a folder is the user's, and only the user can write to it.

    Windows says nothing of that here, and keeps the folders of users apart.
    """
    if not hasattr(os, "getuid"):
        return True
    return found.st_uid == os.getuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def format_compile_time() -> str | None:
    """Return what was compiled since the last call and how long that took; None if nothing was."""
    if not _seconds:
        return None
    what = "a step" if len(_seconds) == 1 else f"{len(_seconds)} steps"
    text = f"Numba compiled {what} in {sum(_seconds):.1f} s"
    if cache_folder() is not None:
        text += ", and keeps the result"
    _seconds.clear()
    return text
