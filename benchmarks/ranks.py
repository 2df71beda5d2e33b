"""How benchmarks start several MPI processes, in the same way as the tests."""

import subprocess
import sys
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from oracles import mpi


def start(size: int, module: str, *words: str, **variables: str) -> "subprocess.Popen[str]":
    """Start a module of `benchmarks` in this many processes, with one output stream for all."""
    return subprocess.Popen(
        mpi.command(size, "-m", f"benchmarks.{module}", *words),
        env=mpi.environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(size: int, module: str, *words: str, seconds: float, **variables: str) -> str:
    """Return the output of this many processes, which must end in time with code 0."""
    process = start(size, module, *words, **variables)
    try:
        printed, _ = process.communicate(timeout=seconds)
    finally:
        process.kill()
        process.wait()
    if process.returncode:
        code = process.returncode
        raise RuntimeError(f"{size} processes of {module} ended with code {code}: {printed}")
    return printed


def versions() -> str:
    """Return a line for the head of a table."""
    own = f"mpi4py {metadata.version('mpi4py')}"
    return f"{own}, mpich {metadata.version('mpich')}" if mpi.library() else own
