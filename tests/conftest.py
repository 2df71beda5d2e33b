"""What several tests share: the backends that a test of the engine runs on.

A test that takes `backend` runs on NumPy, on the strict stand-in for CuPy, and on CuPy where a GPU
is there; it is reported as skipped on CuPy where none is.
"""

import signal
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from oracles import host_cuda, strict_cupy

from minigd.backends.base import Backend, get_backend
from minigd.backends.cupy import CupyBackend
from minigd.errors import BackendError
from minigd.types import Array


@pytest.fixture(autouse=True, scope="session")
def ctrl_c_is_heard() -> None:
    """Let SIGINT through where the tests were started in the background of a shell."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def in_python(kernel: Any, good: Array, *rest: Any) -> Any:
    """Do what a kernel of `minigd.execution.device_guard` does."""
    if kernel.name == "minigd_and_finite":
        return good & strict_cupy.isfinite(rest[0])
    if kernel.name == "minigd_weighed":
        return strict_cupy.where(good, rest[0].astype("float64") * rest[1], 0)
    if kernel.name == "minigd_restored":
        rest[1][...] = strict_cupy.where(good, rest[1], rest[0])
    if kernel.name == "minigd_closed":
        for k, number in enumerate(rest[:5]):
            rest[5][k] += ~good * number
    return None


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> CupyBackend:
    """Return the strict stand-in, which also takes the place of an installed CuPy."""
    monkeypatch.setitem(sys.modules, "cupy", strict_cupy)
    if host_cuda.compiler() is None:
        # Nothing there can run the text of a kernel: formulas run as they are written, and what the
        # guard does in C is done in Python.
        monkeypatch.setattr(CupyBackend, "apply", Backend.apply)
        monkeypatch.setattr(strict_cupy.ElementwiseKernel, "__call__", in_python)
    return CupyBackend()


@pytest.fixture
def gpu() -> CupyBackend:
    """Return CuPy on a real GPU, or skip and say why."""
    try:
        return CupyBackend()
    except BackendError as error:
        pytest.skip(str(error))


@pytest.fixture(params=["numpy", "stand-in", pytest.param("cupy", marks=pytest.mark.gpu)])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Yield each backend in turn."""
    if request.param == "numpy":
        yield get_backend("numpy")
    else:
        yield request.getfixturevalue("stand_in" if request.param == "stand-in" else "gpu")
