"""minigd on a GPU, all in one call of under 8 minutes: `python -m benchmarks.gpu`.

Parity with NumPy, what a step reads, a divergence, what memory it takes, steps beside PyTorch, JAX
and the bare matrix products, rows that stream in, and the tests with the CuPy backend. Each part is
a process of its own with a limit in seconds: one that fails or hangs leaves the others alone. The
page, `results/gpu.md`, is written line by line.
"""

# First, because it starts Python anew before NumPy is loaded, if BLAS was pinned.
from benchmarks.environment import describe  # isort: skip

import argparse
import contextlib
import gc
import importlib.util
import multiprocessing
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

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
COMPILED = 'PyTorch, `compile(mode="reduce-overhead")`'
TARGETS = {
    "PyTorch, eager, fused Adam": (0.6, 0.8, 1.0),
    "JAX, one jitted step": (1.0, 1.0, 1.0),
    "the bare matrix products": (None, 1.5, 1.15),
}


class Options(NamedTuple):
    """How many rounds are timed, and whether few rows do, to see that it runs."""

    rounds: int
    quick: bool


class Part(NamedTuple):
    """A part of the page: its title, its limit in seconds, and what yields its lines."""

    title: str
    seconds: int
    lines: Callable[[Options], Iterator[str]]


def verdict(kept: bool) -> str:
    """Return the word for a target that is met, or is not."""
    return "met" if kept else "**missed**"


# What stands beside minigd -----------------------------------------------------------------------


def trainer_of(workload: Workload, data: Data, backend: Any = "cupy") -> minigd_trainer.Training:
    """Return minigd's contender; its rows are brought over once, where they stay on the GPU."""
    training = minigd_trainer.Training(workload, data, None, backend)
    training.batches = training.batches.on(training.model.backend)
    return training


def contenders(workload: Workload, data: Data) -> dict[str, Callable[[], Callable[[], object]]]:
    """Return what makes the others: each an epoch that ends with a value read back."""
    return {
        "the bare matrix products": lambda: products(workload, data),
        "PyTorch, eager, fused Adam": lambda: _torch(workload, data, compiled=False),
        "JAX, one jitted step": lambda: _jax(workload, data),
    }


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


# Whether it is right -----------------------------------------------------------------------------


def device(options: Options) -> Iterator[str]:
    """Name the GPU, and what drives it."""
    gd.get_backend("cupy")
    import cupy

    runtime = cupy.cuda.runtime
    yield (
        f"{runtime.getDeviceProperties(0)['name'].decode()}, CuPy {cupy.__version__}, CUDA runtime "
        f"{runtime.runtimeGetVersion()}, driver {runtime.driverGetVersion()}"
    )


def network(width: int, backend: Any, dtype: str = "float32") -> gd.Sequential:
    """Return a network with layers of most kinds, and ten classes."""
    # With a bias, whose gradient BatchNorm makes 0, Adam would follow the rounding.
    first = gd.Dense(256, bias=False)
    layers = [first, gd.BatchNorm(), gd.Tanh(), gd.Dropout(0.2), gd.Dense(10)]
    return gd.Sequential([*layers, gd.Softmax()], inputs=width, backend=backend, dtype=dtype)


def parity(options: Options) -> Iterator[str]:
    """Begin alike, step both backends side by side, and train apart for 100 updates."""
    rng = np.random.default_rng(0)
    n, width, batch_size = (120, 64, 20) if options.quick else (3000, 784, 500)
    X, y = rng.random((n, width), dtype=np.float32), rng.integers(0, 10, n)
    batches = gd.Batches(X, y, batch_size=batch_size, shuffle=True)
    models = [network(width, backend) for backend in ("numpy", "cupy")]
    host = models[1].backend.to_numpy
    alike = np.array_equal(host(models[1].flat_params), models[0].flat_params)
    yield f"- the first weights have the same bits: {verdict(alike)}"
    pairs = zip(batches.epoch(1), batches.on(models[1].backend).epoch(1), strict=True)
    alike = all(np.array_equal(host(b.x), a.x) and np.array_equal(host(b.y), a.y) for a, b in pairs)
    yield f"- batches have the same rows in the same order, to the bit: {verdict(alike)}"
    for dtype, tf32 in (("float64", False), ("float32", False), ("float32", True)):
        backend = gd.get_backend("cupy", tf32=tf32)
        model = network(width, "numpy", dtype)
        loss = "categorical_crossentropy"
        found = gd.compare_backends(model, batches, 20, loss=loss, backend=backend)
        yield f"- {dtype}{', TF32' if tf32 else ''}: {found}"
        if dtype == "float64":
            continue
        import cupy

        linalg = cupy._core._routines_linalg
        linalg.set_compute_type(np.dtype("float32"), linalg.COMPUTE_TYPE_DEFAULT)
    for updater in ("sgd", "adam"):
        ends = []
        for backend in ("numpy", "cupy"):
            model = network(width, backend)
            updates = gd.Batches(X, y, batch_size=-(-n // 10), shuffle=True)
            model.fit(updates, loss=loss, updater=updater, epochs=10)
            ends.append(model.backend.to_numpy(model.flat_params))
        apart = float(abs(ends[1] - ends[0]).max() / abs(ends[0]).max())
        text = f"{apart:.1e} of the largest parameter; ≤ 1e-5: {verdict(apart <= 1e-5)}"
        yield f"- after 100 updates by {updater}: {text}"


class Behind(gd.Batches):
    """Batches that put a long product before each step, and see if the host gets past it first."""

    done = waited = 0

    def epoch(self, *place: Any) -> Generator[gd.Batch, None, None]:
        """Yield the batches; a step that reads a number ends after the product before it."""
        import cupy

        self.done = self.waited = 0
        event = cupy.cuda.Event()
        for batch in super().epoch(*place):
            if self.done:
                self.waited += event.done
                event.synchronize()
            cupy.dot(self.large, self.large, out=self.product)
            event.record()
            self.done += 1
            yield batch

    def prepare(self, size: int) -> None:
        """Make the long product."""
        import cupy

        self.large = cupy.ones((size, size), dtype="float32")
        self.product = cupy.empty_like(self.large)


def host_reads(options: Options) -> Iterator[str]:
    """Count the steps in which the host waited for the GPU, as it does for each number it reads."""
    steps = 20 if options.quick else 1000
    workload = WORKLOADS[0]._replace(rows=(steps + 1) * WORKLOADS[0].batch_size)
    data = make_data(workload)
    training = trainer_of(workload, data)
    batches = Behind(data.x, data.y, batch_size=workload.batch_size, shuffle=True)
    batches = batches.on(training.model.backend)
    batches.prepare(256 if options.quick else 4096)
    # The first epoch compiles kernels.
    training.trainer.fit(batches, epochs=2)
    waited = batches.waited
    yield f"The host waited in {waited:,} of {steps:,} steps; 0: {verdict(not waited)}."


# A row of x or of y, and the rate of its update.
BAD = {
    "a loss": (None, 1e30, 0.01),
    "a layer": (3e38, None, 0.01),
    "an update": (None, None, 1e38),
}


def divergence(options: Options) -> Iterator[str]:
    """Let runs diverge on both backends, and compare what is said, and what is left."""
    for kind, (x, y, rate) in BAD.items():
        said, left = [], []
        for backend in ("numpy", "cupy"):
            rng = np.random.default_rng(0)
            X, Y = rng.random((40, 8), dtype=np.float32), rng.random((40, 2), dtype=np.float32)
            X[25], Y[25] = X[25] if x is None else x, Y[25] if y is None else y
            layers = [gd.Dense(16), gd.ReLU(), gd.Dense(2)]
            model = gd.Sequential(layers, inputs=8, backend=backend)
            updater = gd.SGD(gd.Piecewise([0.01, rate], updates=[5]), momentum=0.9)
            try:
                model.fit(X, Y, loss="mse", updater=updater, batch_size=4, shuffle=False)
                said.append("no error")
            except gd.DivergenceError as error:
                said.append(str(error))
            left.append(model.backend.to_numpy(model.flat_params))
        close = np.allclose(left[1], left[0], rtol=0, atol=1e-5 * abs(left[0]).max())
        yield f"- {kind}: {said[1]}"
        yield f"  - as on the CPU: {verdict(said[0] == said[1])}; parameters too: {verdict(close)}"


def memory(options: Options) -> Iterator[str]:
    """Compare what a summary foretells with what CuPy's pool hands out."""
    import cupy

    pool = cupy.get_default_memory_pool()
    for workload in WORKLOADS:
        data = make_data(workload._replace(rows=3 * workload.batch_size))
        gc.collect()
        pool.free_all_blocks()
        model = minigd_trainer.Training(workload, data, None, "cupy").model
        last = str(model.summary(workload.batch_size)).splitlines()[-1]
        foretold = int(last.split()[-2].replace(",", "")) + data.x.nbytes + data.y.nbytes
        del model
        gc.collect()
        pool.free_all_blocks()
        before = pool.total_bytes()
        training = minigd_trainer.Training(workload, data, None, "cupy")
        training.train(2)
        found = pool.total_bytes() - before
        kept = verdict(abs(foretold - found) <= 0.05 * found)
        yield f"- {workload.name}: {found:,} bytes, {foretold:,} foretold; within 5 %: {kept}"
        del training


def suite(options: Options) -> Iterator[str]:
    """Run the tests that take the CuPy backend, and tell what came of them."""
    words = ["-m", "pytest", "-v", "-m", "gpu or cupy", "-p", "no:cacheprovider"]
    if importlib.util.find_spec("xdist"):
        words += ["-n", str(min(8, os.cpu_count() or 1))]
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    done = subprocess.Popen([sys.executable, *words], cwd=ROOT, **pipes)
    last, passed = "", 0
    for line in done.stdout or ():
        if " FAILED" in line or " ERROR" in line:
            yield f"- {line.strip()}"
        passed += " PASSED" in line
        if " PASSED" in line and passed % 250 == 0:
            yield f"- {passed} tests have passed"
        last = line.strip() or last
    yield f"- `python {' '.join(words)}`: {last.strip('= ')}"


# How fast it is ----------------------------------------------------------------------------------


def steps(number: int) -> Callable[[Options], Iterator[str]]:
    """Return what times the epochs of a workload side by side, and yields its table."""

    def lines(options: Options) -> Iterator[str]:
        workload = WORKLOADS[number]
        if options.quick:
            workload = workload._replace(rows=2 * workload.batch_size + 100)
        # For all libraries, whatever else they were told.
        os.environ["NVIDIA_TF32_OVERRIDE"] = "0"
        data = make_data(workload)
        training = trainer_of(workload, data)
        running: dict[str, Callable[[], object]] = {"minigd": lambda: training.train(1)}
        missing = []
        for name, make in contenders(workload, data).items():
            try:
                running[name] = make()
                running[name]()
            except Exception as error:
                running.pop(name, None)
                missing.append(_left_out(name, error))
        yield workload.describe()
        yield ""
        yield from missing
        yield ""
        yield "| contender | µs a step | minigd, time over its |"
        yield "| --- | --- | --- |"
        yield from _rows(alternate(running, options.rounds), workload, number)
        # Last, for it compiles long.
        try:
            both = {"minigd": running["minigd"], COMPILED: _torch(workload, data, compiled=True)}
            yield from list(_rows(alternate(both, options.rounds), workload, number))[1:]
        except Exception as error:
            yield ""
            yield _left_out(COMPILED, error)

    return lines


def _left_out(name: str, error: Exception) -> str:
    reason = str(error).strip() or type(error).__name__
    return f"- {name} is left out: {reason.splitlines()[0]}"


def _rows(seconds: dict[str, list[float]], workload: Workload, number: int) -> Iterator[str]:
    """Yield the rows of a table."""
    for name, times in seconds.items():
        each = spread([1e6 * t / workload.steps for t in times], ",.1f")
        over = ratios(seconds["minigd"], times)
        bound = TARGETS.get(name, (None,) * 3)[number]
        text = spread(over)
        if bound:
            text += f"; ≤ {bound:g}: {verdict(statistics.median(over) <= bound)}"
        yield f"| {name} | {each} | {text if name != 'minigd' else ''} |"


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


def launches(options: Options) -> Iterator[str]:
    """Time what the host takes to give out a step, and the GPU to do it, apart from each other."""
    yield "| workload | host, µs a step | GPU, µs a step |"
    yield "| --- | --- | --- |"
    for workload in WORKLOADS:
        data = make_data(workload._replace(rows=(Watched.last + 1) * workload.batch_size))
        training = minigd_trainer.Training(workload, data, None, "cupy")
        batches = Watched(data.x, data.y, batch_size=workload.batch_size, shuffle=True)
        batches = batches.on(training.model.backend)
        batches.prepare(1024 if options.quick else 16_384)
        found = []
        for _ in range(options.rounds + 1):
            training.trainer.fit(batches)
            found.append(batches.times())
        # The first round compiles kernels.
        host, device = (
            spread([1e6 * t for t in times], ",.0f") for times in zip(*found[1:], strict=True)
        )
        yield f"| {workload.name} | {host} | {device} |"
        del batches, training
        gc.collect()
    yield ""
    yield (
        "Where the host takes longer than the GPU, launches rule, and a step as a CUDA graph "
        "could come down to what the GPU takes."
    )


def streaming(options: Options) -> Iterator[str]:
    """Time rows that stay on the GPU beside rows that come over, and the link by itself."""
    import cupy

    workload = STREAMED._replace(rows=10_000) if options.quick else STREAMED
    data = make_data(workload)
    runs = {}
    for name, budget, ahead in (("stay", "100GB", 0), ("stream", 0, 0), ("ahead", 0, 2)):
        training = trainer_of(workload, data, gd.get_backend("cupy", device_budget=budget))
        training.batches.prefetch = ahead
        runs[name] = lambda training=training: training.train(1)
    seconds = alternate(runs, options.rounds)
    size = 1 << (24 if options.quick else 28)
    pinned = np.frombuffer(cupy.cuda.alloc_pinned_memory(size), np.uint8, size)
    there = cupy.empty(size, np.uint8)
    copies = alternate({"copy": lambda: _copy(there, pinned)}, options.rounds)["copy"]
    link = size / statistics.median(copies) / 1e9
    yield f"{workload.describe()}. Page-locked memory comes over at {link:.1f} GB/s."
    yield ""
    for name, how in (("stream", "stream"), ("ahead", "stream, with `prefetch=2`,")):
        rate = data.x.nbytes / statistics.median(seconds[name]) / 1e9
        share = ratios(seconds["stay"], seconds[name])
        kept = verdict(statistics.median(share) >= 0.9 or rate >= 0.9 * link)
        yield (
            f"- Rows that {how} train at {spread(share)} of the rate of rows that stay, and come "
            f"over at {rate:.1f} GB/s; 0.9 of one of the two: {kept}"
        )


def _copy(there: Any, pinned: Any) -> None:
    import cupy

    there.set(pinned)
    cupy.cuda.get_current_stream().synchronize()


# The page ----------------------------------------------------------------------------------------

PARTS = (
    Part("Device", 20, device),
    Part("Parity with NumPy", 50, parity),
    Part("Host reads", 30, host_reads),
    Part("Divergence", 15, divergence),
    Part("Memory", 20, memory),
    *(
        Part(f"Steps of {workload.name}, in float32 without TF32", 50, steps(k))
        for k, workload in enumerate(WORKLOADS)
    ),
    Part("Launches", 35, launches),
    Part("Rows that stream", 30, streaming),
    Part("Tests", 120, suite),
)


def run(part: Part, options: Options) -> Iterator[str]:
    """Yield the lines of a part as they come from its process, which ends with its limit."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(there, part, options))
    process.start()
    there.close()
    end = time.monotonic() + part.seconds
    try:
        while here.poll(max(0.0, end - time.monotonic())):
            line = here.recv()
            if line is None:
                return
            yield line
        yield f"failed: not done after its {part.seconds} s"
    except EOFError:
        process.join()
        yield f"failed: its process ended with {process.exitcode}"
    finally:
        process.kill()
        # With what it started.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid or 0, signal.SIGKILL)
        process.join()


def _send(there: Any, part: Part, options: Options) -> None:
    os.setsid()
    try:
        for line in part.lines(options):
            there.send(line)
    except Exception as error:
        # The other parts are worth having, and this one's reason is.
        there.send(f"failed: {type(error).__name__}: {error}")
    there.send(None)


def main() -> None:
    """Do all of it, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="few rows: does it run?")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    options = Options(1 if given.quick else given.rounds, given.quick)
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    started = time.monotonic()
    page = ["# minigd on a GPU", "", f"`python -m benchmarks.gpu`, {time.strftime('%Y-%m-%d')}."]
    page += ["", describe()]
    # This process makes no use of the GPU, which a fork of it could not go on with.
    for part in PARTS:
        print(f"{time.strftime('%H:%M:%S')} {part.title}", file=sys.stderr, flush=True)
        page += ["", f"## {part.title}", ""]
        for line in run(part, options):
            page.append(line)
            # Written as it comes, so that a call that runs out of time leaves what it has.
            given.out.write_text("\n".join([*page, ""]), encoding="utf-8")
        if part.title == "Device" and page[-1].startswith("failed: "):
            raise SystemExit(page[-1])
    page += ["", f"All of it took {time.monotonic() - started:.0f} s."]
    given.out.write_text("\n".join([*page, ""]), encoding="utf-8")
    print("\n".join(page))


if __name__ == "__main__":
    main()
