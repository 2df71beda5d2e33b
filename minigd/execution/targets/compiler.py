"""Compiles the source of a step with Numba, and keeps the result for later runs."""

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

from minigd.backends.on_demand import call
from minigd.storage.atomic_files import replacing
from minigd.types import Array

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
    """Return the function `run` of a source on its memory; what a call has to compile is timed."""
    places = call("minigd.execution.targets.flat_memory", "addresses", memory)
    return functools.partial(_call, _load(source), places)


@functools.cache
def _load(source: str) -> Any:
    """Return the function `run` of a source.

    The source is written into a folder of the user's own, under a name made from its content,
    because Numba keeps what it compiles beside the file that it stands in.
    """
    name = f"step_{hashlib.sha256(source.encode()).hexdigest()[:32]}"
    folder = cache_folder()
    if folder is None:
        # It is compiled in each process.
        path, source = f"<{name}>", source.replace("cache=True", "cache=False")
    else:
        path = str(folder / f"{name}.py")
        if not os.path.exists(path):
            with replacing(path) as file:
                file.write(source.encode())
    # What Numba compiles belongs to a module that can be imported by name.
    module: Any = types.ModuleType(name)
    module.__file__ = path
    sys.modules[name] = module
    exec(compile(source, path, "exec"), vars(module))
    return module.run


def _call(function: Any, *arguments: Any) -> int:
    """Call a compiled function, and take the time if it has to be compiled."""
    kinds, started = len(function.overloads), time.perf_counter()
    steps: int = function(*arguments)
    if len(function.overloads) > kinds and sum(function.stats.cache_misses.values()):
        _seconds.append(time.perf_counter() - started)
    return steps


def cache_folder() -> Path | None:
    """Return the folder for compiled steps, which nobody else can write to; None without one."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = Path(os.environ.get("NUMBA_CACHE_DIR") or home) / "minigd"
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = folder.stat()
        own = not hasattr(os, "getuid") or found.st_uid == os.getuid()
        if own and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and os.access(folder, os.W_OK):
            return folder
    return None


def format_compile_time() -> str | None:
    """Return what was compiled since the last call and how long that took; None if nothing was."""
    if not _seconds:
        return None
    what = "a step" if len(_seconds) == 1 else f"{len(_seconds)} steps"
    text = f"Numba compiled {what} in {sum(_seconds):.1f} s, and keeps the result"
    _seconds.clear()
    return text
