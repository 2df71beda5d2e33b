"""Each contender is a process of its own, which waits at a pipe until it is told to train.

So the thread pools and compiled code of one can't disturb another: they share nothing but the
machine, on which one of them works at a time.
"""

import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from benchmarks.contenders import Contender, Module
from benchmarks.workloads import Workload, make_data

ROOT = Path(__file__).parent.parent.parent

# What some machines pin for OpenBLAS, and a user's does not.
PINNED = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")


class ContenderError(Exception):
    """A contender could not do what it was told."""


class Turn(NamedTuple):
    """Some epochs: seconds on the clock, seconds of processor time, the mean loss of each."""

    seconds: float
    cpu: float
    losses: list[float]


class ContenderProcess:
    """A contender at work; leave the `with` to end it.

    Parameters
    ----------
    contender : Contender
    cache : str, optional
        The folder where it finds and keeps what it compiled.

    Attributes
    ----------
    threads : str
        Its pools of threads, as far as threadpoolctl knows them.
    """

    def __init__(self, contender: Contender, cache: str | None = None) -> None:
        self.contender, self.threads = contender, ""
        environment = {k: v for k, v in os.environ.items() if k not in PINNED}
        environment.update(contender.environment)
        if contender.cache and cache is not None:
            environment[contender.cache] = cache
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  (`close` closes it)
        self._process = subprocess.Popen(
            [sys.executable, "-m", __spec__.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            cwd=ROOT,
            env=environment,
        )
        self._idle_since: tuple[float, float] | None = None
        self._waited = self._idle = 0.0

    def __enter__(self) -> "ContenderProcess":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.terminate()
        self._process.wait()
        self._errors.close()

    def prepare(self, workload: Workload) -> float:
        """Make data, model and batches; return the seconds that the latter two took."""
        told = self._ask(
            module=self.contender.module,
            options=dict(self.contender.options),
            workload=workload._asdict(),
        )
        self.threads = told["threads"]
        return told["seconds"]

    def train(self, epochs: int) -> Turn:
        """Take a turn."""
        self._end_wait()
        told = self._ask(epochs=epochs)
        return Turn(told["seconds"], told["cpu"], told["losses"])

    def updates(self) -> int:
        """Return the updates made so far, by the contender's own count."""
        return self._ask(what="updates")["updates"]

    def weights(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return (W, b) of each layer."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "weights.npz")
            self._ask(what="weights", path=str(path))
            with np.load(path) as arrays:
                layers = range(len(arrays.files) // 2)
                return [(arrays[f"W{i}"], arrays[f"b{i}"]) for i in layers]

    def _ask(self, **request: Any) -> dict[str, Any]:
        stdin: Any = self._process.stdin
        stdout: Any = self._process.stdout
        try:
            stdin.write(json.dumps(request) + "\n")
            stdin.flush()
            line = stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self._errors.seek(0)
            said = self._errors.read().strip().splitlines() or ["it said nothing"]
            raise ContenderError(f"the process ended: {said[-1]}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise ContenderError(answer["error"])
        return answer

    # Waiting ---------------------------------------------------------------------------------

    def settle(self, most: float = 5.0) -> None:
        """Wait until the process uses no processor time, as threads that spin at first do."""
        until = time.monotonic() + most
        quiet, before = 0, self._cpu()
        while quiet < 4 and time.monotonic() < until:
            time.sleep(0.025)
            now = self._cpu()
            quiet, before = (quiet + 1 if now - before < 0.001 else 0), now
        self._idle_since = time.monotonic(), before

    def _end_wait(self) -> None:
        if self._idle_since is not None:
            since, cpu = self._idle_since
            self._waited += time.monotonic() - since
            self._idle += self._cpu() - cpu
            self._idle_since = None

    @property
    def idle_load(self) -> float:
        """Processor time used while it waited for its turns, over the time it waited."""
        return self._idle / self._waited if self._waited else 0.0

    def _cpu(self) -> float:
        """Return the processor time of all threads so far; 0 where the system does not say."""
        nanoseconds = 0
        for thread in Path(f"/proc/{self._process.pid}/task").glob("*/schedstat"):
            try:
                nanoseconds += int(thread.read_text().split()[0])
            except OSError:
                continue  # It has just ended.
        return nanoseconds / 1e9


# The other end of the pipe ----------------------------------------------------------------------


def main() -> None:
    # Whatever a library prints goes to stderr; the pipe is for answers alone.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    worker = _Worker()
    for line in sys.stdin:
        try:
            answer = worker.answer(json.loads(line))
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


class _Worker:
    """What is at work: nothing until the first `prepare`."""

    run: Any = None

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        if "module" in request:
            return self._prepare(**request)
        if "epochs" in request:
            return self._train(request["epochs"])
        if request["what"] == "updates":
            return {"updates": int(self.run.updates)}
        arrays = {}
        for i, (W, b) in enumerate(self.run.weights()):
            arrays[f"W{i}"], arrays[f"b{i}"] = np.asarray(W), np.asarray(b)
        np.savez(request["path"], **arrays)
        return {}

    def _prepare(
        self, module: str, options: dict[str, Any], workload: dict[str, Any]
    ) -> dict[str, Any]:
        self.run = None  # Its memory is free before more is taken.
        described = Workload(**{**workload, "widths": tuple(workload["widths"])})
        contender: Module = importlib.import_module(f"benchmarks.contenders.{module}")
        data = make_data(described)
        started = time.perf_counter()
        self.run = contender.prepare(described, data, **options)
        return {"seconds": time.perf_counter() - started, "threads": _threads()}

    def _train(self, epochs: int) -> dict[str, Any]:
        started, cpu = time.perf_counter(), time.process_time()
        losses = self.run.train(epochs)
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        return {"seconds": seconds, "cpu": cpu, "losses": [float(loss) for loss in losses]}


def _threads() -> str:
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return ""
    pools = {
        f"{pool['internal_api']} {pool.get('architecture', '')}".strip() + f" {pool['num_threads']}"
        for pool in threadpool_info()
    }
    return ", ".join(sorted(pools))


if __name__ == "__main__":
    main()
