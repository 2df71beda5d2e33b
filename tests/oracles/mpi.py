"""How tests start MPI processes, if MPI is available."""

import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def library() -> Path | None:
    """Return the folder of the library that the wheel of mpich brings, or None."""
    try:
        files = metadata.files("mpich") or []
    except metadata.PackageNotFoundError:
        return None
    found = [Path(f.locate()).resolve() for f in files if f.name.startswith("libmpi.so")]
    return found[0].parent if found else None


def mpiexec() -> str | None:
    """Return the program that starts processes: mpich's own, or the one on the path."""
    own = library()
    if own is not None and (own.parent / "bin" / "mpiexec").exists():
        return str(own.parent / "bin" / "mpiexec")
    return shutil.which("mpiexec")


def command(size: int, *arguments: str) -> list[str]:
    """Return the command line that starts so many processes of this Python."""
    program = mpiexec()
    assert program is not None
    return [program, "-n", str(size), sys.executable, *arguments]


def environment(**more: str) -> dict[str, str]:
    """Return the environment in which they find the library, and this package."""
    paths = [str(ROOT), str(ROOT / "tests")]
    own = {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    folder = library()
    if folder is not None:
        own["LD_LIBRARY_PATH"] = str(folder)
    # Inside a job, the variables of its own launcher would count.
    rest = {k: v for k, v in os.environ.items() if not k.startswith(("PMI_", "OMPI_", "SLURM_"))}
    return {**rest, **own, **more}


def run(size: int, *arguments: str, seconds: float = 120, **more: str) -> Any:
    """Run a script in so many processes."""
    return subprocess.run(
        command(size, *arguments),
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def _can_run() -> bool:
    try:
        import mpi4py  # noqa: F401
    except ImportError:
        return False
    return mpiexec() is not None


needed = pytest.mark.skipif(not _can_run(), reason="mpi4py and mpiexec are needed")
