"""What a figure depends on: versions, BLAS, threads, processor. Every table lists it."""

import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

# Some machines pin the BLAS kernel. On a user's machine, BLAS chooses it by the processor. It is
# read when NumPy loads, so a benchmark imports this module before NumPy or starts itself anew.
if "OPENBLAS_CORETYPE" in os.environ:
    del os.environ["OPENBLAS_CORETYPE"]
    os.execv(sys.executable, sys.orig_argv)

import numpy as np

import minigd


def describe() -> str:
    """Return a line for the head of a table."""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return (
        f"minigd {minigd.__version__}, Python {platform.python_version()}, NumPy {np.__version__} "
        f"({blas['name']} {blas['version']}, {_threads()} threads), {_processor()}"
    )


def load() -> str:
    """Return the load of the machine in the last minute, if the system reports it."""
    return f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"


def load_of_others() -> str:
    """Return a line on the load before a run, with a remark if it is high."""
    text = f"load before: {load()}"
    busy = hasattr(os, "getloadavg") and os.getloadavg()[0] > 1
    return f"{text}; other work disturbed this run, so its times are too long" if busy else text


def command(module: str, words: Sequence[str], folder: object = None) -> str:
    """Return the command line of a benchmark, without the path of a data folder."""
    return " ".join(["python -m", module, *("FOLDER" if w == str(folder) else w for w in words)])


def _threads() -> str:
    """Return the number of threads that OpenBLAS uses: a variable, or the processors."""
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        if os.environ.get(name):
            return os.environ[name]
    return str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
