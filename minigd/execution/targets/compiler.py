"""Compiles the source of a step with Numba, and stores the machine code for later runs.

Stored code is loaded without Numba, whose import takes longer than all other imports. It is in a
folder of the user, from which the least recently used steps are removed.
"""

import contextlib
import ctypes
import functools
import hashlib
import importlib.metadata
import importlib.util
import os
import re
import stat
import time
from collections.abc import Mapping
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import numpy as np

from minigd.backends.on_demand import optional
from minigd.execution.program import address
from minigd.progress import warn
from minigd.storage.atomic_files import replacing
from minigd.types import Array

MOST_KEPT = 100
"""The number of steps that the folder keeps, of some 20 to 200 KB each."""

_seconds: list[float] = []
"""The compile time of each function, until it is reported."""


@functools.cache
def absent() -> str | None:
    """Return which of Numba and SciPy (for its BLAS) is missing, without importing them."""
    missing = (n for n in ("numba", "scipy") if importlib.util.find_spec(n) is None)
    return next(missing, None)


def available() -> bool:
    """Return whether steps can be compiled."""
    return absent() is None


class Compiled:
    """The function `run` of a source, and the arrays that it works on.

    The source uses arrays by address. `places` are the addresses of BLAS's products of float32 and
    float64, and then that of each array. A call may replace some of them.

    Parameters
    ----------
    source : str
    arrays : dict of str to Array
        C-contiguous, and of the dtypes in the source.

    Raises
    ------
    RuntimeError
        If compiling is disabled in Numba.
    """

    def __init__(self, source: str, arrays: Mapping[str, Array]) -> None:
        self._run = _load(source)
        self._arrays = dict(arrays)  # kept, so that their addresses stay valid
        places = gemm_address("sgemm"), gemm_address("dgemm"), *map(address, arrays.values())
        self._places, self._made = np.array(places, np.int64), np.zeros(2, np.int64)
        self._numbers = {name: number for number, name in enumerate(arrays, 2)}
        made = address(self._made)
        self._results = made, made + self._made.itemsize
        self._start = address(self._places)

    def __call__(self, steps: int, gather: bool, wanted: bool, **others: Array) -> int:
        """Return the number of steps made."""
        places, start = self._places, self._start
        if others:
            places = places.copy()
            start = address(places)
            for name, array in others.items():
                places[self._numbers[name]] = address(array)
        self._run(*self._results, start, steps, gather, wanted)
        return int(self._made[0])


# Machine code ------------------------------------------------------------------------------------


@functools.cache
def _load(source: str) -> Any:
    """Return the function `run` of a source, from the folder or newly compiled."""
    if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
        _say("NUMBA_DISABLE_JIT is set: NumPy runs the steps, and nothing is compiled")
        raise RuntimeError("NUMBA_DISABLE_JIT is set, so Numba compiles nothing")
    llvm, folder = optional("llvmlite.binding", "a compiled step"), cache_folder()
    path = None if folder is None else folder / f"step_{_digest(source, llvm)}.o"
    code = _read(path)
    if code is None:
        code = _compile(source)
        _keep(path, code)
    return _link(code, llvm)


def _compile(source: str) -> bytes:
    """Return the name of the function `run` of a source in its machine code, and that code."""
    started, numba = time.perf_counter(), optional("numba", "a compiled step")
    namespace: dict[str, Any] = {}
    exec(source, namespace)
    takes = numba.types.CPointer(numba.int64), *[numba.int64] * 3
    alone = {"no_cfunc_wrapper": True, "no_cpython_wrapper": True}
    jit = numba.njit(numba.int64(*takes), error_model="numpy", no_rewrites=True, **alone)
    run = jit(namespace["run"]).overloads[takes]
    _, _, (code, _) = run.library.serialize_using_object_code()
    _seconds.append(time.perf_counter() - started)
    return b"\n".join((run.fndesc.llvm_func_name.encode(), code))


def _link(code: bytes, llvm: Any) -> Any:
    """Return a function of machine code, with Numba's calling convention.

    It takes the addresses of its result and of an error before its own arguments.
    """
    name, _, machine_code = code.partition(b"\n")
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine()
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    engine.add_object_file(llvm.ObjectFileRef.from_data(machine_code))
    engine.finalize_object()
    kind = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_void_p] * 3, *[ctypes.c_int64] * 3)
    run: Any = kind(engine.get_function_address(name.decode()))
    run.engine = engine  # which owns the code
    return run


@functools.cache
def gemm_address(name: str) -> int:
    """Return the address of a function in SciPy's BLAS."""
    scipy = optional("scipy", "a compiled step")
    # Alone, because importing scipy.linalg takes as long as importing minigd.
    spec: Any = PathFinder.find_spec("cython_blas", [os.path.join(scipy.__path__[0], "linalg")])
    spec = importlib.util.spec_from_file_location("scipy.linalg.cython_blas", spec.origin)
    blas: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(blas)
    capsule = blas.__pyx_capi__[name]
    kind = re.search(r'"(void \(char \*, char \*, int \*, int \*, int \*, .*)"', repr(capsule))
    if kind is None:
        raise TypeError(f"{name} of SciPy's BLAS takes other arguments: {capsule}")
    takes = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)
    pointer_of = takes(("PyCapsule_GetPointer", ctypes.pythonapi))
    place: int = pointer_of(capsule, kind[1].encode())
    return place


# What is kept ------------------------------------------------------------------------------------

_UNKEPT = "compiled steps can't be cached, so each process compiles its own"


@functools.cache
def _say(message: str) -> None:
    """Warn once per process. A filter that turns it into an error must not end a step."""
    with contextlib.suppress(RuntimeWarning):
        warn(message, RuntimeWarning, stacklevel=2)


def _digest(source: str, llvm: Any) -> str:
    """Return a hash of everything that determines the machine code of a source."""
    called = [Path(__file__).with_name(f"{name}.py") for name in ("flat_memory", "vector_math")]
    settings = sorted(item for item in os.environ.items() if item[0].startswith("NUMBA_"))
    machine = llvm.get_process_triple(), llvm.get_host_cpu_name(), llvm.get_host_cpu_features()
    versions = importlib.metadata.version("numba"), importlib.metadata.version("llvmlite")
    texts = [source, *[path.read_text("utf-8") for path in called]]
    return hashlib.sha256(repr((texts, settings, machine, versions)).encode()).hexdigest()[:32]


def _read(path: Path | None) -> bytes | None:
    """Return the code in a file and mark it as used, or None if it is missing or damaged."""
    if path is None:
        return None
    try:
        os.utime(path)
        kept = path.read_bytes()
    except OSError:
        return None
    code = kept[_HASH:]
    return code if hashlib.sha256(code).digest() == kept[:_HASH] else None


_HASH = hashlib.sha256().digest_size


def _keep(path: Path | None, code: bytes) -> None:
    """Write a file for later processes, if possible."""
    if path is None:
        _say(f"{_UNKEPT}: set NUMBA_CACHE_DIR to a folder that only you can write to")
        return
    try:
        with replacing(path) as file:
            file.write(hashlib.sha256(code).digest() + code)
        _prune(path.parent)
    except OSError as error:  # a full disk
        _say(f"{_UNKEPT} ({error})")


def _prune(folder: Path) -> None:
    """Remove the least recently used files. A process that needs one compiles it again."""
    used: list[tuple[int, Path]] = []
    for path in folder.glob("step_*"):
        with contextlib.suppress(OSError):  # another process also removes them
            used.append((path.stat().st_mtime_ns, path))
    for _, path in sorted(used)[:-MOST_KEPT]:
        with contextlib.suppress(OSError):
            path.unlink()


def cache_folder() -> Path | None:
    """Return the folder for compiled steps, which only the user can write to, or None.

    It is ``minigd`` in the folder that NUMBA_CACHE_DIR names, or else in the user's cache.
    """
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = Path(os.environ.get("NUMBA_CACHE_DIR") or home) / "minigd"
    if folder.parts[0] == "~":  # the user has no home folder
        return None
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if _is_own(folder.stat()) and os.access(folder, os.W_OK):
            return folder
    return None


def _is_own(found: os.stat_result) -> bool:
    """Return whether a folder belongs to the user, and only the user can write to it.

    Windows does not report this here, but separates the folders of users.
    """
    if not hasattr(os, "getuid"):
        return True
    return found.st_uid == os.getuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def format_compile_time() -> str | None:
    """Return what was compiled since the last call and how long it took, or None."""
    if not _seconds:
        return None
    what = "a step" if len(_seconds) == 1 else f"{len(_seconds)} steps"
    text = f"Numba compiled {what} in {sum(_seconds):.1f} s"
    if cache_folder() is not None:
        text += ", and cached the result"
    _seconds.clear()
    return text
