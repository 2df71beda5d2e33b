"""What all tests share: the backends for tests of the engine, and the selection of tests.

A test that takes `backend` runs on NumPy, on the strict stand-in for CuPy, and on CuPy where a GPU
answers. Without a GPU, tests marked `gpu` are not collected, and without CuPy, those marked `cupy`.

A test marked `pairs` runs on enough combinations that any two values of two parameters occur
together, one marked `each` on enough that each value occurs, and one marked `few` on six of its
cases (`few(k)` on k), spread over all. A property runs on the same few examples each time. With `-m
slow`, the first three run on all cases, and properties on many new examples.
"""

import gc
import itertools
import os
import random
import shutil
import signal
import sys
from collections import defaultdict
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest
from hypothesis import settings
from oracles import host_cuda, strict_cupy
from threadpoolctl import threadpool_limits

from minigd.backends.base import Backend, get_backend
from minigd.backends.cupy import CupyBackend
from minigd.errors import BackendError

SAMPLED = {"pairs": 2, "each": 1}
"""How many values of a test's parameters must meet in one of its combinations, by its mark."""


def pytest_configure(config: pytest.Config) -> None:
    """Choose how many examples a property is run on, and one order of sets for all workers."""
    os.environ.setdefault("PYTHONHASHSEED", str(random.randrange(2**32)))
    settings.register_profile("ci", derandomize=True, deadline=None, max_examples=12)
    settings.register_profile("slow", deadline=None, max_examples=1000, print_blob=True)
    settings.load_profile("slow" if thorough(config) else "ci")
    if host_cuda.FOLDER not in os.environ:
        libraries = host_cuda.share_libraries()
        config.add_cleanup(lambda: shutil.rmtree(libraries, ignore_errors=True))


@pytest.hookimpl(hookwrapper=True)
def pytest_collection() -> Iterator[None]:
    """Keep the garbage collector from looking through the tests again and again."""
    gc.disable()
    yield
    gc.enable()


def thorough(config: pytest.Config) -> bool:
    """Return whether the tests were started with `-m slow`."""
    return "slow" in config.option.markexpr and "not slow" not in config.option.markexpr


def a_gpu_answers() -> bool:
    """Return whether CuPy finds a GPU."""
    try:
        CupyBackend()
    except BackendError:
        return False
    return True


def cupy_is_installed() -> bool:
    """Return whether CuPy itself can be imported."""
    return find_spec("cupy") is not None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what can't run here, and combinations that show nothing new."""
    kept = items
    for name, there in (("gpu", a_gpu_answers), ("cupy", cupy_is_installed)):
        if any(item.get_closest_marker(name) for item in kept) and not there():
            kept = [item for item in kept if not item.get_closest_marker(name)]
    if thorough(config):
        for item in kept:
            if getattr(getattr(item, "obj", None), "is_hypothesis_test", False) or sampled(item):
                item.add_marker("slow")
    else:
        cases = defaultdict(list)
        for item in kept:
            if mark := sampled(item):
                cases[item.nodeid.split("[")[0], mark.name].append(item)
        left_out = {id(item) for group in cases.values() for item in not_needed(group)}
        kept = [item for item in kept if id(item) not in left_out]
    still = {id(item) for item in kept}
    config.hook.pytest_deselected(items=[item for item in items if id(item) not in still])
    items[:] = kept


def sampled(item: pytest.Item) -> pytest.Mark | None:
    """Return the mark by which a usual run leaves out some cases of a test, if it has one."""
    marks = map(item.get_closest_marker, (*SAMPLED, "few"))
    return next((mark for mark in marks if mark), None)


def not_needed(items: list[Any]) -> list[Any]:
    """Return the cases of one test that its mark leaves out."""
    mark = sampled(items[0])
    if mark.name == "few":
        few = mark.args[0] if mark.args else 6
        last = len(items) - 1
        run = {last - round(k * last / max(1, few - 1)) for k in range(few)}
        return [item for k, item in enumerate(items) if k not in run]
    values = [[(name, id(value)) for name, value in i.callspec.params.items()] for i in items]
    meetings = [set(itertools.combinations(each, SAMPLED[mark.name])) for each in values]
    missing, left = set().union(*meetings), list(range(len(items)))
    while missing:
        best = max(left, key=lambda i: len(meetings[i] & missing))
        missing -= meetings[best]
        left.remove(best)
    return [items[i] for i in left]


@pytest.fixture
def only_new_garbage() -> Iterator[None]:
    """Let `gc.collect` look through what is made from here on; all the rest takes half a second."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep compiled steps in a folder of this run of the tests, which its workers share."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("NUMBA_CACHE_DIR", raising=False)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        yield


@pytest.fixture(autouse=True, scope="session")
def one_blas_thread() -> Iterator[None]:
    """Give BLAS one thread in each worker: a second one would wait for the other worker."""
    with threadpool_limits(1, user_api="blas"):
        yield


@pytest.fixture(autouse=True, scope="session")
def ctrl_c_is_heard() -> None:
    """Let SIGINT through where the tests were started in the background of a shell."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> CupyBackend:
    """Return the strict stand-in, which also takes the place of an installed CuPy."""
    monkeypatch.setitem(sys.modules, "cupy", strict_cupy)
    if host_cuda.compiler() is None:
        # Nothing there can run the text of a kernel: formulas run as they are written.
        monkeypatch.setattr(CupyBackend, "apply", Backend.apply)
    return CupyBackend()


@pytest.fixture
def gpu() -> CupyBackend:
    """Return CuPy on a real GPU; what takes it is marked `gpu`."""
    return CupyBackend()


@pytest.fixture(params=["stand_in", pytest.param("gpu", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> CupyBackend:
    """Return the backend of a GPU: the stand-in, and CuPy where a GPU is."""
    backend: CupyBackend = request.getfixturevalue(request.param)
    return backend


@pytest.fixture(params=["numpy", "stand-in", pytest.param("cupy", marks=pytest.mark.gpu)])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Yield each backend in turn."""
    if request.param == "numpy":
        yield get_backend("numpy")
    else:
        yield request.getfixturevalue("stand_in" if request.param == "stand-in" else "gpu")
