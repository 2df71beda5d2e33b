"""Compiled steps are kept for later processes, and a run goes on where they can't be."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest

import minigd as gd
from minigd.execution.targets import compiler

pytestmark = pytest.mark.skipif(not compiler.available(), reason="needs Numba and SciPy")

RUN = """
import sys
import numpy as np
import minigd as gd
x = np.linspace(-1, 1, 12).reshape(6, 2)
model = gd.Sequential([gd.Dense(2), gd.Dense(1)], inputs=2, seed=0)
trainer = gd.Trainer(model, "mse", gd.SGD(0.1), fast=True)
trainer.fit(x, x[:, :1], batch_size=3, progress="shown" in sys.argv)
print(model.flat_params.tobytes().hex(), trainer._loop.steps.reason)
"""


THREADS = """
import numpy as np, threadpoolctl
import minigd as gd
def count(event):
    if event.name == "epoch":
        print(*[lib["num_threads"] for lib in threadpoolctl.threadpool_info()])
count.events = {"epoch"}
x = np.linspace(-1, 1, 12).reshape(6, 2)
model = gd.Sequential([gd.Dense(2), gd.Dense(1)], inputs=2, seed=0)
gd.Trainer(model, "mse", gd.SGD(0.1), fast=True).fit(x, x[:, :1], batch_size=3, callbacks=[count])
"""

UNKEPT = "Numba's cache can't be used, and steps are compiled in this process only"


def run(cache, *arguments, **environment):
    """Train in another process; return its parameters, why nothing was compiled, and stderr."""
    settings = {**os.environ, "XDG_CACHE_HOME": str(cache), **environment}
    done = subprocess.run(
        [sys.executable, "-c", RUN, *arguments],
        env=settings,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    params, _, reason = done.stdout.strip().partition(" ")
    return params, reason, done.stderr


def kept(cache, ending):
    return sorted((cache / "minigd").rglob(f"step_*{ending}" if ending else "step_*"))


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """Return a folder with a compiled step, and the parameters that it led to."""
    cache = tmp_path_factory.mktemp("first")
    params, reason, err = run(cache, "shown")
    assert reason == "None"
    assert err.count("Numba compiled a step in") == 1
    return cache, params


def test_a_later_process_compiles_nothing(first):
    cache, params = first
    before = [(path, path.stat().st_mtime_ns) for path in kept(cache, "")]
    again, reason, err = run(cache, "shown")
    assert (again, reason) == (params, "None")
    assert "Numba compiled" not in err
    assert [(path, path.stat().st_mtime_ns) for path in kept(cache, "")] == before


def test_the_folder_is_the_users_own(first):
    folder = first[0] / "minigd"
    assert folder.stat().st_mode & 0o077 == 0
    (source,) = kept(first[0], ".py")
    assert source.read_text().startswith('"""A training step, printed by minigd."""')


@pytest.mark.slow
def test_what_is_damaged_in_a_folder_of_numbas_is_removed(first, tmp_path):
    params, _, _ = run(tmp_path, NUMBA_CACHE_DIR=str(tmp_path))
    assert params == first[1]
    (index,) = tmp_path.rglob("step_*.nbi")
    index.write_bytes(b"damaged")
    again, reason, _ = run(tmp_path, NUMBA_CACHE_DIR=str(tmp_path))
    assert (again, reason) == (params, "None")
    assert list(tmp_path.rglob("step_*")) == []


def keep(folder, *sources):
    """Write sources as if each had been compiled, and return the names that are left."""
    for source in sources:
        compiler._run_of(source, folder)
        name = f"step_{compiler._digest(source)}"
        (folder / "__pycache__").mkdir(exist_ok=True)
        for ending in (".run-1.py311.nbi", ".run-1.py311.1.nbc"):
            (folder / "__pycache__" / f"{name}{ending}").write_bytes(b"compiled")
        time.sleep(0.01)  # the clock of a file system may have larger ticks
    return {path.name.partition(".")[0] for path in folder.rglob("step_*")}


def names(*sources):
    return {f"step_{compiler._digest(source)}" for source in sources}


def test_what_was_used_longest_ago_makes_room(tmp_path, monkeypatch):
    monkeypatch.setattr(compiler, "MOST_KEPT", 3)
    a, b, c, d, e = (f"def run(): return {k}" for k in range(5))
    assert keep(tmp_path, a, b, c) == names(a, b, c)
    # a is used again, and so b is the oldest. Numba goes by when a was written.
    (path,) = tmp_path.glob(f"{names(a).pop()}.py")
    before = path.stat().st_mtime_ns
    assert keep(tmp_path, a, d) == names(a, c, d)
    assert path.stat().st_mtime_ns == before
    assert keep(tmp_path, e) == names(a, d, e)
    assert compiler._run_of(b, tmp_path)() == 1
    assert len(list(tmp_path.glob("*.py"))) == 3


@pytest.mark.slow
def test_several_processes_may_make_room_at_once(tmp_path):
    code = """
import sys
from pathlib import Path
from minigd.execution.targets import compiler
compiler.MOST_KEPT = 2
for k in range(40):
    assert compiler._run_of(f"def run(): return {k % 7}", Path(sys.argv[1]))() == k % 7
"""
    several = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    for process in several:
        _, err = process.communicate()
        assert process.returncode == 0, err.decode()
    assert len(list(tmp_path.glob("step_*.py"))) <= 4
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.parametrize("ending", [".nbi", ".nbc"])
def test_what_is_damaged_is_compiled_again(first, tmp_path, ending):
    cache, params = first
    subprocess.run(["cp", "-rp", str(cache / "minigd"), str(tmp_path)], check=True)
    for path in kept(tmp_path, ending):
        path.write_bytes(b"damaged")
    again, reason, err = run(tmp_path)
    assert (again, reason) == (params, "None")
    assert err.count(UNKEPT) == 1
    # The next process keeps it again.
    assert kept(tmp_path, "") == []


def test_where_nothing_can_be_written_each_process_compiles(first, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    again, reason, err = run(tmp_path / "file", "shown")
    assert (again, reason) == (first[1], "None")
    assert err.count(UNKEPT) == err.count("Numba compiled a step in") == 1
    assert "keeps the result" not in err


def test_a_user_without_a_home_gets_no_folder_by_the_name_of_a_tilde(monkeypatch, tmp_path):
    pwd = pytest.importorskip("pwd")

    def unknown(number):
        raise KeyError(f"uid not found: {number}")

    for name in ("HOME", "XDG_CACHE_HOME", "NUMBA_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.chdir(tmp_path)
    assert compiler.cache_folder() is None
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
def test_a_folder_that_others_can_write_to_is_not_used(first, tmp_path):
    (tmp_path / "minigd").mkdir()
    (tmp_path / "minigd").chmod(0o777)
    again, reason, _ = run(tmp_path)
    assert (again, reason) == (first[1], "None")
    assert kept(tmp_path, "") == []


def test_where_permissions_say_nothing_the_folder_is_used(monkeypatch, tmp_path):
    (tmp_path / "minigd").mkdir()
    (tmp_path / "minigd").chmod(0o777)  # what Windows says of every folder
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    assert compiler.cache_folder() is None
    monkeypatch.delattr(os, "getuid")
    assert compiler.cache_folder() == tmp_path / "minigd"


def test_where_numba_is_told_not_to_compile_steps_are_plain(tmp_path):
    params, reason, err = run(tmp_path, NUMBA_DISABLE_JIT="1")
    assert "NUMBA_DISABLE_JIT" in reason
    assert err.count("RuntimeWarning: NUMBA_DISABLE_JIT is set: steps run by NumPy") == 1
    x = np.linspace(-1, 1, 12).reshape(6, 2)
    model = gd.Sequential([gd.Dense(2), gd.Dense(1)], inputs=2, seed=0)
    gd.Trainer(model, "mse", gd.SGD(0.1), fast=False).fit(x, x[:, :1], batch_size=3)
    assert params == model.flat_params.tobytes().hex()


def test_what_a_step_calls_is_part_of_its_name(monkeypatch, tmp_path):
    before = compiler._digest("a source")
    for name in ("flat_memory", "vector_math"):
        (tmp_path / f"{name}.py").write_text("another")
    monkeypatch.setattr(compiler, "__file__", str(tmp_path / "compiler.py"))
    assert compiler._digest("a source") != before


def test_the_blas_of_compiled_steps_has_the_threads_of_the_fit_from_the_start(first):
    settings = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", THREADS],
        env=settings | {"XDG_CACHE_HOME": str(first[0])},
        capture_output=True,
        text=True,
        check=True,
    )
    # NumPy's and SciPy's, where they are two.
    assert set(done.stdout.split()) == {"1"}
