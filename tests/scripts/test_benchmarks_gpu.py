"""The GPU benchmark runs from end to end, here on the stand-in, with small networks.

Its figures mean nothing there, but each part must write its table.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from oracles import host_cuda

ROOT = Path(__file__).parents[2]
CODE = """
import sys
from oracles import strict_cupy
sys.modules["cupy"] = strict_cupy
runtime = strict_cupy.cuda.runtime
runtime.getDeviceProperties = lambda device: {"name": b"no GPU at all"}
runtime.runtimeGetVersion = runtime.driverGetVersion = lambda: 0
from benchmarks import gpu
gpu.suite = lambda: "not run"
gpu.WORKLOADS = tuple([
    w._replace(widths=(64, 16, 16, 10), batch_size=w.batch_size // 32)
    for w in gpu.WORKLOADS
])
gpu.STREAMED = gpu.STREAMED._replace(widths=(64, 16, 10), batch_size=1000)
gpu.Watched.first, gpu.Watched.last = 1, 6
sys.argv = ["gpu", "--quick", "--out", sys.argv[1]]
gpu.main()
"""


@pytest.mark.slow
@pytest.mark.skipif(host_cuda.compiler() is None, reason=host_cuda.MISSING)
def test_every_part_of_the_page_is_there(tmp_path):
    page = tmp_path / "gpu.md"
    paths = [str(ROOT), str(ROOT / "tests")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    environment.pop("OPENBLAS_CORETYPE", None)
    command = [sys.executable, "-c", CODE, str(page)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    text = page.read_text(encoding="utf-8")
    assert "failed:" not in text
    assert "no GPU at all" in text
    parts = text.split("\n## ")[1:]
    assert [part.partition("\n")[0] for part in parts] == [
        "Parity with NumPy",
        "Steps, in float32 without TF32",
        "Launches",
        "Rows that stream",
        "Tests",
    ]
    parity, steps, launches, rows, _ = parts
    assert parity.count("the backends agree over 20 steps") == 3
    for name in ("mnist-512, batch 128", "mnist-512, batch 4096", "wide, batch 8192"):
        assert f"### {name}" in steps
        assert f"| {name} | " in launches
    assert steps.count("\n| minigd | ") == steps.count("\n| the bare matrix products | ") == 3
    assert "GB/s come over, of" in rows
