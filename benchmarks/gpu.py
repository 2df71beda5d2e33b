"""minigd on a GPU, all in one call of some minutes: `python -m benchmarks.gpu` from the repository.

Its tests with the CuPy backend, parity with NumPy, what memory it takes, steps beside PyTorch, JAX
and the bare matrix products, and rows that stream in. The page goes to `results/gpu.md`.
"""

# First, because it starts Python anew before NumPy is loaded, if BLAS was pinned.
from benchmarks.environment import describe  # isort: skip

import argparse
import gc
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np

import minigd as gd
from benchmarks.contenders import minigd_trainer
from benchmarks.measure import alternate, ratios, spread
from benchmarks.workloads import Data, Workload, make_data

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "gpu.md"

WORKLOADS = (
    Workload("mnist-512, batch 128", (784, 512, 512, 10), batch_size=128),
    Workload("mnist-512, batch 4096", (784, 512, 512, 10), batch_size=4096),
    Workload("wide, batch 8192", (1024, 2048, 2048, 10), rows=65_536, batch_size=8192),
)
STREAMED = Workload("streaming", (1024, 2048, 2048, 10), rows=65_536, batch_size=4096)
TARGETS = {
    "PyTorch, eager, fused Adam": (0.6, 0.8, 1.0),
    "JAX, one jitted step": (1.0, 1.0, 1.0),
    'PyTorch, `compile(mode="reduce-overhead")`': (1.0, 1.0, 1.0),
    "the bare matrix products": (None, 1.5, 1.15),
}


# What stands beside minigd -----------------------------------------------------------------------


def contenders(workload: Workload, data: Data) -> dict[str, Callable[[], object]]:
    """Return what trains, or does as much, for one epoch; each ends with a value read back."""
    ours = minigd_trainer.Training(workload, data, None, "cupy")
    found: dict[str, Callable[[], object]] = {"minigd": lambda: ours.train(1)}
    makers: dict[str, Callable[[], Callable[[], object]]] = {
        "PyTorch, eager, fused Adam": lambda: _torch(workload, data, compiled=False),
        "JAX, one jitted step": lambda: _jax(workload, data),
        'PyTorch, `compile(mode="reduce-overhead")`': lambda: _torch(workload, data, compiled=True),
        "the bare matrix products": lambda: products(workload, data),
    }
    for name, make in makers.items():
        try:
            found[name] = make()
            found[name]()
        except Exception as error:
            found.pop(name, None)
            reason = str(error).strip() or type(error).__name__
            print(f"{name} is left out: {reason.splitlines()[0]}", file=sys.stderr)
    return found


def _torch(workload: Workload, data: Data, compiled: bool) -> Callable[[], object]:
    from benchmarks.contenders import pytorch

    training = pytorch.Training(workload, data, "slicing", "cuda")
    if compiled:
        training.compile()
    return lambda: training.train(1)


def _jax(workload: Workload, data: Data) -> Callable[[], object]:
    import jax

    # Without it XLA takes TF32 for float32 products, which nobody else here does.
    jax.config.update("jax_default_matmul_precision", "highest")
    if jax.default_backend() != "gpu":
        raise RuntimeError(f"JAX works on {jax.default_backend()}")
    from benchmarks.contenders import jax_epoch

    training = jax_epoch.Training(workload, data, scan=False)
    return lambda: training.train(1)


def products(workload: Workload, data: Data) -> Callable[[], object]:
    """Return an epoch of the matrix products of forward and backward, and of nothing else."""
    import cupy

    rng = np.random.default_rng(0)
    weight = [cupy.asarray(W) for W, _ in data.weights]
    grad = [cupy.empty_like(W) for W in weight]
    z = [
        cupy.asarray(rng.standard_normal((workload.batch_size, w), dtype=np.float32))
        for w in workload.widths
    ]
    dz = [a.copy() for a in z]
    last = len(weight) - 1

    def step(n: int) -> None:
        for i in range(last + 1):
            cupy.dot(z[i][:n], weight[i], out=z[i + 1][:n])
        for i in range(last, -1, -1):
            cupy.dot(z[i][:n].T, dz[i + 1][:n], out=grad[i])
            if i > 0:
                cupy.dot(dz[i + 1][:n], weight[i].T, out=dz[i][:n])

    def epoch() -> None:
        for rows in gd.batch_slices(workload.rows, workload.batch_size):
            step(rows.stop - rows.start)
        cupy.cuda.get_current_stream().synchronize()

    return epoch


# The parts of the page ---------------------------------------------------------------------------


def suite() -> str:
    """Run the tests that take the CuPy backend, and return what came of them."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    last = lines[-1] if lines else done.stderr.strip()
    return "\n".join(["`python -m pytest -q -m gpu`: " + last, *(f"- {line}" for line in failed)])


def parity(quick: bool) -> str:
    """Step both backends side by side, in float32, float64 and with TF32."""
    lines = []
    rng = np.random.default_rng(0)
    n, width, batch_size = (120, 64, 20) if quick else (3000, 784, 500)
    X = rng.random((n, width), dtype=np.float32)
    batches = gd.Batches(X, rng.integers(0, 10, n), batch_size=batch_size, shuffle=True)
    for dtype, tf32 in (("float64", False), ("float32", False), ("float32", True)):
        layers = [gd.Dense(256), gd.BatchNorm(), gd.Tanh(), gd.Dropout(0.2), gd.Dense(10)]
        model = gd.Sequential([*layers, gd.Softmax()], inputs=width, dtype=dtype)
        backend = gd.get_backend("cupy", tf32=tf32)
        found = gd.compare_backends(
            model, batches, 20, loss="categorical_crossentropy", backend=backend
        )
        lines.append(f"- {dtype}{', TF32' if tf32 else ''}: {found}")
    import cupy

    linalg = cupy._core._routines_linalg
    linalg.set_compute_type(np.dtype("float32"), linalg.COMPUTE_TYPE_DEFAULT)
    return "\n".join(lines)


def speed(rounds: int, quick: bool) -> str:
    """Time epochs side by side, and return the tables."""
    lines: list[str] = []
    for i, workload in enumerate(WORKLOADS):
        if quick:
            workload = workload._replace(rows=2 * workload.batch_size + 100)
        data = make_data(workload)
        taking_part = contenders(workload, data)
        seconds = alternate(taking_part, rounds)
        lines += [f"### {workload.name}", "", workload.describe(), ""]
        lines += ["| contender | µs a step | minigd, time over its |", "| --- | --- | --- |"]
        for name, times in seconds.items():
            each = spread([1e6 * t / workload.steps for t in times], ",.1f")
            over = ratios(seconds["minigd"], times)
            bound = TARGETS.get(name, (None,) * 3)[i]
            kept = "met" if bound and statistics.median(over) <= bound else "**missed**"
            text = spread(over) + (f"; ≤ {bound:g}: {kept}" if bound else "")
            lines.append(f"| {name} | {each} | {text if name != 'minigd' else ''} |")
        lines.append("")
        del taking_part
        gc.collect()
    return "\n".join(lines)


class Watched(gd.Batches):
    """Batches that look at the clocks of host and GPU before one batch of an epoch and another."""

    first, last = 3, 23

    def epoch(self, *place: Any) -> Generator[gd.Batch, None, None]:
        """Yield the batches; a long product goes before the first that is watched.

        What is given out meanwhile waits behind it, so that neither clock waits for the other.
        """
        import cupy

        for k, batch in enumerate(super().epoch(*place)):
            if k == self.first:
                cupy.dot(self.large, self.large, out=self.product)
                self.begin.record()
                self.started = time.perf_counter()
            if k == self.last:
                self.seconds = time.perf_counter() - self.started
                self.end.record()
            yield batch

    def prepare(self, size: int) -> None:
        """Make the long product, and the events."""
        import cupy

        self.large = cupy.ones((size, size), dtype="float32")
        self.product = cupy.empty_like(self.large)
        self.begin, self.end = cupy.cuda.Event(), cupy.cuda.Event()

    def times(self) -> tuple[float, float]:
        """Return the seconds a step of the host and of the GPU."""
        import cupy

        self.end.synchronize()
        device = cupy.cuda.get_elapsed_time(self.begin, self.end) / 1e3
        steps = self.last - self.first
        return self.seconds / steps, device / steps


def launches(rounds: int, quick: bool) -> str:
    """Time what the host takes to give out a step, and the GPU to do it, apart from each other."""
    lines = ["| workload | host, µs a step | GPU, µs a step |", "| --- | --- | --- |"]
    for workload in WORKLOADS:
        data = make_data(workload._replace(rows=(Watched.last + 1) * workload.batch_size))
        training = minigd_trainer.Training(workload, data, None, "cupy")
        batches = Watched(data.x, data.y, batch_size=workload.batch_size, shuffle=True)
        batches = batches.on(training.model.backend)
        batches.prepare(1024 if quick else 16_384)
        found = []
        for _ in range(rounds + 1):
            training.trainer.fit(batches)
            found.append(batches.times())
        # The first round compiles kernels.
        host, device = (
            spread([1e6 * t for t in times], ",.0f") for times in zip(*found[1:], strict=True)
        )
        lines.append(f"| {workload.name} | {host} | {device} |")
        del batches, training
        gc.collect()
    return "\n".join(
        [
            *lines,
            "",
            "Where the host takes longer than the GPU, launches rule, and a step as a CUDA graph "
            "could come down to what the GPU takes.",
        ]
    )


def streaming(rounds: int, quick: bool) -> str:
    """Time rows that stay on the GPU beside rows that come over, and the link by itself."""
    import cupy

    workload = STREAMED._replace(rows=10_000) if quick else STREAMED
    data = make_data(workload)
    runs = {}
    for name, budget in (("stays", "100GB"), ("streams", 0)):
        backend = gd.get_backend("cupy", device_budget=budget)
        training = minigd_trainer.Training(workload, data, None, backend)
        runs[name] = lambda training=training: training.train(1)
    seconds = alternate(runs, rounds)
    size = 1 << (24 if quick else 28)
    pinned = np.frombuffer(cupy.cuda.alloc_pinned_memory(size), np.uint8, size)
    there = cupy.empty(size, np.uint8)
    copies = alternate({"copy": lambda: _copy(there, pinned)}, rounds)["copy"]
    link = size / statistics.median(copies) / 1e9
    rate = data.x.nbytes / statistics.median(seconds["streams"]) / 1e9
    share = spread(ratios(seconds["stays"], seconds["streams"]))
    return (
        f"{workload.describe()}. Rows that stream train at {share} of the rate of rows that stay: "
        f"{rate:.1f} GB/s come over, of {link:.1f} GB/s that the link does from page-locked memory."
    )


def _copy(there: Any, pinned: Any) -> None:
    import cupy

    there.set(pinned)
    cupy.cuda.get_current_stream().synchronize()


def main() -> None:
    """Do all of it, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="few rows: does it run?")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    gd.get_backend("cupy")
    import cupy

    properties = cupy.cuda.runtime.getDeviceProperties(0)
    lines = ["# minigd on a GPU", "", f"`python -m benchmarks.gpu`, {time.strftime('%Y-%m-%d')}."]
    lines += ["", describe(), ""]
    runtime = cupy.cuda.runtime
    lines += [
        f"{properties['name'].decode()}, CuPy {cupy.__version__}, CUDA runtime "
        f"{runtime.runtimeGetVersion()}, driver {runtime.driverGetVersion()}",
        "",
    ]
    rounds = 1 if options.quick else options.rounds
    parts: dict[str, Callable[[], str]] = {
        "Parity with NumPy": lambda: parity(options.quick),
        "Steps, in float32 without TF32": lambda: speed(rounds, options.quick),
        "Launches": lambda: launches(rounds, options.quick),
        "Rows that stream": lambda: streaming(rounds, options.quick),
        "Tests": suite,
    }
    for title, part in parts.items():
        print(f"{time.strftime('%H:%M:%S')} {title}", file=sys.stderr, flush=True)
        try:
            text = part()
        except Exception as error:
            # The other parts are worth having, and this one's reason is.
            text = f"failed: {type(error).__name__}: {error}"
        lines += [f"## {title}", "", text, ""]
        # Written as it comes, so that a call that runs out of time leaves what it has.
        options.out.write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
