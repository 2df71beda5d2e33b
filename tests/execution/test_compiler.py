"""Compiled steps are stored for later processes, and a run continues if they can't be."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

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
print(*{"numba", "scipy.linalg"} & set(sys.modules), file=sys.stderr)
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

UNKEPT = "compiled steps can't be cached, so each process compiles its own"


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


def kept(cache):
    return {path.name: path.read_bytes() for path in (cache / "minigd").iterdir()}


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """Return a folder with a compiled step, and the parameters that it led to."""
    cache = tmp_path_factory.mktemp("first")
    params, reason, err = run(cache, "shown")
    assert reason == "None"
    assert err.count("Numba compiled a step in") == 1
    return cache, params


def test_a_later_process_compiles_nothing_and_loads_no_numba(first):
    cache, params = first
    before = kept(cache)
    again, reason, err = run(cache, "shown")
    assert (again, reason) == (params, "None")
    assert "Numba compiled" not in err
    assert "numba" not in err
    assert "scipy.linalg" not in err
    assert kept(cache) == before


def test_the_folder_is_the_users_own(first):
    folder = first[0] / "minigd"
    assert folder.stat().st_mode & 0o077 == 0
    (name,) = kept(first[0])
    assert re.fullmatch(r"step_[0-9a-f]{32}\.o", name)


DAMAGES = {
    "empty": lambda code: b"",
    "cut": lambda code: code[:-1000],
    "of zeros": lambda code: bytes(len(code)),
    "another byte": lambda code: code[:-9] + bytes([code[-9] ^ 1]) + code[-8:],
    "of another program": lambda code: b"from somewhere else",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_compiled_and_kept_again(damage, first, monkeypatch, tmp_path):
    (name,) = before = kept(first[0])
    path = tmp_path / name
    path.write_bytes(DAMAGES[damage](before[name]))
    assert compiler._read(path) is None
    compiled = []
    monkeypatch.setattr(compiler, "_compile", lambda source: compiled.append(1) or b"the code")
    monkeypatch.setattr(compiler, "_link", lambda code, llvm: code)
    monkeypatch.setattr(compiler, "_digest", lambda source, llvm: name[5:-2])
    monkeypatch.setattr(compiler, "cache_folder", lambda: tmp_path)
    for _ in range(2):
        assert compiler._load.__wrapped__("a source") == b"the code"
    assert compiled == [1]


@pytest.mark.slow
def test_a_damaged_step_ends_no_run(first, tmp_path):
    (name,) = before = kept(first[0])
    (tmp_path / "minigd").mkdir(mode=0o700)
    (tmp_path / "minigd" / name).write_bytes(before[name][:5000])
    again, reason, err = run(tmp_path, "shown")
    assert (again, reason) == (first[1], "None")
    assert err.count("Numba compiled a step in") == 1
    assert kept(tmp_path) == before


def keep(folder, *names):
    """Keep or use steps of these names in turn, and return the names that are left."""
    for name in names:
        path = folder / f"step_{name}.o"
        if compiler._read(path) is None:
            compiler._keep(path, name.encode())
        time.sleep(0.01)  # the clock of a file system may have larger ticks
    return "".join(sorted(path.stem.removeprefix("step_") for path in folder.iterdir()))


def test_what_was_used_longest_ago_makes_room(tmp_path, monkeypatch):
    monkeypatch.setattr(compiler, "MOST_KEPT", 3)
    assert keep(tmp_path, *"abc") == "abc"
    # a is used again, and so b is the oldest.
    assert keep(tmp_path, *"ad") == "acd"
    assert keep(tmp_path, *"e") == "ade"
    assert keep(tmp_path, *"b") == "bde"


@pytest.mark.slow
def test_several_processes_may_make_room_at_once(tmp_path):
    code = """
import sys
from pathlib import Path
from minigd.execution.targets import compiler
compiler.MOST_KEPT = 2
for k in range(40):
    path = Path(sys.argv[1]) / f"step_{k % 7}.o"
    assert compiler._read(path) in (None, b"code")
    compiler._keep(path, b"code")
"""
    several = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    for process in several:
        _, err = process.communicate()
        assert process.returncode == 0, err.decode()
        assert b"can't be kept" not in err
    assert len(list(tmp_path.glob("step_*.o"))) <= 4
    assert not list(tmp_path.glob("*.tmp"))


def test_where_nothing_can_be_written_each_process_compiles(first, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    again, reason, err = run(tmp_path / "file", "shown")
    assert (again, reason) == (first[1], "None")
    assert err.count(UNKEPT) == err.count("Numba compiled a step in") == 1
    assert "cached the result" not in err


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
    again, reason, err = run(tmp_path)
    assert (again, reason) == (first[1], "None")
    assert err.count(f"{UNKEPT}: set NUMBA_CACHE_DIR to a folder that only you can") == 1
    assert kept(tmp_path) == {}


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
    assert err.count("RuntimeWarning: NUMBA_DISABLE_JIT is set: NumPy runs the steps") == 1
    x = np.linspace(-1, 1, 12).reshape(6, 2)
    model = gd.Sequential([gd.Dense(2), gd.Dense(1)], inputs=2, seed=0)
    gd.Trainer(model, "mse", gd.SGD(0.1), fast=False).fit(x, x[:, :1], batch_size=3)
    assert params == model.flat_params.tobytes().hex()


class Llvm:
    """What is asked of LLVM about the machine."""

    get_process_triple = staticmethod(lambda: "a triple")
    get_host_cpu_name = staticmethod(lambda: "a processor")
    get_host_cpu_features = staticmethod(lambda: {"avx": True})


def test_all_that_decides_the_machine_code_is_part_of_its_name(monkeypatch, tmp_path):
    before = compiler._digest("a source", Llvm)
    assert compiler._digest("a source", Llvm) == before
    assert compiler._digest("another", Llvm) != before
    for name in ("flat_memory", "vector_math"):
        with monkeypatch.context() as patch:
            for other in ("flat_memory", "vector_math"):
                text = Path(compiler.__file__).with_name(f"{other}.py").read_text("utf-8")
                (tmp_path / f"{other}.py").write_text(f"{text}#" if other == name else text)
            patch.setattr(compiler, "__file__", str(tmp_path / "compiler.py"))
            assert compiler._digest("a source", Llvm) != before
    for name in [name for name in vars(Llvm) if name.startswith("get_")]:
        with monkeypatch.context() as patch:
            patch.setattr(Llvm, name, staticmethod(lambda: "another"))
            assert compiler._digest("a source", Llvm) != before
    with monkeypatch.context() as patch:
        patch.setattr(compiler.importlib.metadata, "version", lambda name: "another")
        assert compiler._digest("a source", Llvm) != before
    monkeypatch.setenv("NUMBA_OPT", "1")
    assert compiler._digest("a source", Llvm) != before


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
