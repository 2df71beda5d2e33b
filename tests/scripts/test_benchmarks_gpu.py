"""The GPU benchmark runs from end to end, here on the stand-in, with small networks.

Its figures mean nothing there, but each part must write its table.
"""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from oracles import host_cuda

ROOT = Path(__file__).parents[2]
HEAD = """
import os, signal, sys, time
from oracles import strict_cupy
sys.modules["cupy"] = strict_cupy
runtime = strict_cupy.cuda.runtime
runtime.getDeviceProperties = lambda device: {"name": b"no GPU at all"}
runtime.runtimeGetVersion = runtime.driverGetVersion = lambda: 0
from benchmarks import gpu
page = sys.argv[1]
sys.argv = ["gpu", "--quick", "--out", page]
"""
ALL = """
gpu.WORKLOADS = tuple([
    w._replace(widths=(64, 16, 16, 10), batch_size=w.batch_size // 32)
    for w in gpu.WORKLOADS
])
gpu.STREAMED = gpu.STREAMED._replace(widths=(64, 16, 10), batch_size=1000)
gpu.Watched.first, gpu.Watched.last = 1, 6
few = gpu.WORKLOADS[0]._replace(rows=8)
# The rows of what is timed are there before the clock starts.
assert gpu.trainer_of(few, gpu.make_data(few)).batches.source.backend.name == "cupy"
parts = {part.title: part._replace(seconds=600) for part in gpu.PARTS}
parts["Tests"] = parts["Tests"]._replace(lines=lambda options: iter(["not run"]))
gpu.PARTS = tuple(parts.values())
gpu.main()
"""
FAULTY = """
def fails(options):
    yield "a line"
    raise ValueError("no such thing")

def hangs(options):
    if child := os.fork():
        yield f"child {child}"
    time.sleep(600)

def dies(options):
    yield "another line"
    os.kill(os.getpid(), signal.SIGSEGV)

def works(options):
    yield "the last line"

kinds = [fails, hangs, dies, works]
gpu.PARTS = tuple(gpu.Part(f.__name__, 2 if f is hangs else 60, f) for f in kinds)
gpu.main()
"""

pytestmark = pytest.mark.slow


def run(code, page):
    """Run the script on the stand-in, and return its page, part by part."""
    paths = [str(ROOT), str(ROOT / "tests")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    environment.pop("OPENBLAS_CORETYPE", None)
    command = [sys.executable, "-c", HEAD + code, str(page)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    parts = page.read_text(encoding="utf-8").split("\n## ")[1:]
    return {title: text for title, _, text in (part.partition("\n") for part in parts)}


@pytest.mark.skipif(host_cuda.compiler() is None, reason=host_cuda.MISSING)
def test_every_part_of_the_page_is_there(tmp_path):
    parts = run(ALL, tmp_path / "gpu.md")
    names = "mnist-512, batch 128", "mnist-512, batch 4096", "wide, batch 8192"
    assert list(parts) == [
        "Device",
        "Parity with NumPy",
        "Host reads",
        "Divergence",
        "Memory",
        *(f"Steps of {name}, in float32 without TF32" for name in names),
        "Launches",
        "Rows that stream",
        "Tests",
    ]
    assert [text for text in parts.values() if "failed:" in text] == []
    assert "no GPU at all" in parts["Device"]
    parity = parts["Parity with NumPy"]
    assert parity.count("the backends agree over 20 steps") == 3
    assert parity.count(": met") == 4, parity
    # There all work is done at once, and the host never gets past it.
    assert "The host waited in 20 of 20 steps" in parts["Host reads"]
    said = parts["Divergence"]
    assert said.count("as on the CPU: met; parameters too: met") == 3, said
    assert "the loss is inf at epoch 1, update 7" in said
    assert "and the output of dense1 is the first that is not finite" in said
    assert "the update is too large for float32" in said
    assert parts["Memory"].count("within 5 %: ") == 3
    for name in names:
        steps = parts[f"Steps of {name}, in float32 without TF32"]
        assert steps.count("\n| minigd | ") == steps.count("\n| the bare matrix products | ") == 1
        assert f"| {name} | " in parts["Launches"]
    assert parts["Rows that stream"].count("GB/s; 0.9 of one of the two: ") == 2


def test_a_part_that_fails_hangs_or_dies_leaves_the_others_alone(tmp_path):
    parts = run(FAULTY, tmp_path / "gpu.md")
    assert "a line\nfailed: ValueError: no such thing\n" in parts["fails"]
    assert "failed: not done after its 2 s" in parts["hangs"]
    assert "another line\nfailed: its process ended with -11\n" in parts["dies"]
    assert "the last line" in parts["works"]
    child = int(parts["hangs"].split("child ")[1].split()[0])
    # It is gone, or was killed and waits for somebody to ask how it ended.
    with contextlib.suppress(OSError):
        assert ") Z " in Path(f"/proc/{child}/stat").read_text()


def test_all_limits_together_are_under_eight_minutes(tmp_path):
    code = "print(sum(part.seconds for part in gpu.PARTS), file=open(page, 'w'))"
    run(code, page := tmp_path / "sum")
    assert int(page.read_text()) < 8 * 60
