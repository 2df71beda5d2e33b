"""Two processes with one thread each, and one with two threads: `python -m benchmarks.processes`.

Then the time of messages between two processes alone, by size. The page of a whole run is written
to `benchmarks/results/processes.md`.
"""

# First, because it starts Python anew before NumPy is loaded, if BLAS was pinned.
from benchmarks.environment import command, describe, load_of_others  # isort: skip

import argparse
import contextlib
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import ranks
from benchmarks.contenders.minigd_trainer import Training
from benchmarks.measure import compared, ratios, spread
from benchmarks.workloads import WORKLOADS, Workload, make_data, write_csv
from minigd.distributed.communicator import Communicator
from minigd.distributed.mpi import connect

RESULTS = Path(__file__).parent / "results" / "processes.md"
WORK = 10e9
"""The approximate multiplications per epoch, so that epochs of large networks are short."""
CSV_BYTES = 4_000_000
SIZES = [4**i for i in range(3, 13)]
"""Bytes of the gradients that are combined."""


class Contender(NamedTuple):
    """A number of processes, with a number of BLAS threads each."""

    title: str
    size: int
    threads: int
    fast: bool = False


CONTENDERS = {
    "threads": Contender("1 process, 2 threads", 1, 2),
    "one": Contender("1 process, 1 thread", 1, 1),
    "two": Contender("2 processes, 1 thread each", 2, 1),
    "fast": Contender("1 process, compiled (`fast`), 2 threads", 1, 2, True),
}


# In the processes --------------------------------------------------------------------------------


def serve() -> None:
    """Execute what rank 0 reads, in all processes, and let rank 0 answer."""
    from mpi4py import MPI

    comm, run = MPI.COMM_WORLD, None
    while (request := _next(comm)) is not None:
        if "workload" in request:
            run = None  # its memory is free before more is taken
            given = request["workload"]
            workload = Workload(**{**given, "widths": tuple(given["widths"])})
            run = Training(workload, make_data(workload), fast=request["fast"], comm=comm)
            answer = 0.0
        elif "bytes" in request:
            answer = _message(comm, **request)
        else:
            assert run is not None
            comm.Barrier()
            started = time.perf_counter()
            run.train(request["epochs"])
            answer = time.perf_counter() - started
        if comm.Get_rank() == 0:
            print(json.dumps(answer), flush=True)


def _next(comm: Any) -> dict[str, Any] | None:
    """Return what rank 0 reads next. All others wait without using the processor."""
    if comm.Get_rank() == 0:
        request = json.loads(sys.stdin.readline() or "null")
        for rank in range(1, comm.Get_size()):
            comm.send(request, rank)
        return request
    while not comm.Iprobe(0):
        time.sleep(0.002)
    return comm.recv(source=0)


def _message(comm: Any, bytes: int, how: str, repeats: int) -> float:
    """Return the seconds for combining gradients of this many bytes."""
    from mpi4py import MPI

    vector = np.ones(bytes // 4, dtype="float32")
    call = ways(comm, MPI, connect(comm), vector)[how]
    call()
    comm.Barrier()
    started = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - started) / repeats


def ways(comm: Any, mpi: Any, joined: Any, vector: np.ndarray) -> dict[str, Callable[[], object]]:
    """Return minigd's mean, MPI's sum in its own order, and parts of a mean."""
    joined.renew()
    notes = [1, 1.0, 0.5, 0]

    def there_and_back() -> None:
        if comm.Get_rank() == 0:
            comm.Send(vector, 1)
            comm.Recv(vector, 1)
        else:
            comm.Recv(vector, 0)
            comm.Send(vector, 0)

    return {
        "mean": lambda: joined.mean(vector, notes),
        "allreduce": lambda: comm.Allreduce(mpi.IN_PLACE, vector),
        "there and back": there_and_back,
        "no messages": lambda: Silent(comm.Get_size()).mean(vector, notes),
    }


class Silent(Communicator):
    """Does the work of a mean without messages: each process gets its own data instead."""

    def __init__(self, size: int) -> None:
        self.size = size

    def gather_rows(self, row: np.ndarray) -> np.ndarray:
        return np.repeat(row[None], self.size, axis=0)

    def swap(self, blocks: np.ndarray) -> np.ndarray:
        rows = np.empty_like(blocks)
        rows[...] = blocks[0]
        return rows


# Outside of them ---------------------------------------------------------------------------------


class Processes:
    """Processes that wait for commands to train. Leaving the ``with`` ends them."""

    def __init__(self, contender: Contender) -> None:
        self.contender = contender
        self._process = subprocess.Popen(
            ranks.mpi.command(contender.size, "-m", "benchmarks.processes", "--serve"),
            env=ranks.mpi.environment(OMP_NUM_THREADS=str(contender.threads)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, *raised: object) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        self._process.wait(60)

    def ask(self, **request: Any) -> float:
        """Let the processes do something, and return the seconds."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps(request) + "\n")
        stdin.flush()
        line = stdout.readline()
        if not line:
            raise RuntimeError(f"{self.contender.title}: the processes have ended")
        return float(json.loads(line))


def shortened(workload: Workload) -> Workload:
    """Return the workload with epochs of some tenths of a second."""
    batches = int(WORK // (3 * workload.batch_size * workload.parameters))
    return workload._replace(rows=min(workload.rows, max(4, batches) * workload.batch_size))


def measure(
    workload: Workload, at_work: Mapping[str, Processes], rounds: int, seconds: float
) -> dict[str, list[float]]:
    """Return the seconds per step of each contender in each round. They alternate."""
    epochs = {}
    for name, processes in at_work.items():
        processes.ask(workload=workload._asdict(), fast=processes.contender.fast)
        processes.ask(epochs=1)
        epochs[name] = max(1, math.ceil(seconds / processes.ask(epochs=1)))
    steps: dict[str, list[float]] = {name: [] for name in at_work}
    for i in range(rounds):
        for name in list(at_work)[:: -1 if i % 2 else 1]:
            taken = at_work[name].ask(epochs=epochs[name])
            steps[name].append(taken / epochs[name] / workload.steps)
    return steps


def messages(pair: Processes, rounds: int) -> Iterator[tuple[str, ...]]:
    """Yield a row for each size of a message."""
    for size in SIZES:
        repeats = max(2, min(100, 20_000_000 // size))
        taken: dict[str, list[float]] = {"mean": [], "allreduce": []}
        for i in range(rounds):
            for how in list(taken)[:: -1 if i % 2 else 1]:
                taken[how].append(pair.ask(bytes=size, how=how, repeats=repeats))
        cells = [spread([1e6 * t for t in values], ",.0f") for values in taken.values()]
        rate = size / statistics.median(taken["mean"]) / 1e6
        yield f"{size:,}", *cells, f"{rate:,.0f}"


def lines_of(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> Iterator[str]:
    """Yield a table in Markdown."""
    yield f"| {' | '.join(head)} |"
    yield f"|{' --- |' * len(head)}"
    yield from (f"| {' | '.join(row)} |" for row in rows)
    yield ""


def steps_of(found: Mapping[str, Mapping[str, list[float]]]) -> Iterator[tuple[str, ...]]:
    """Yield a row for each workload."""
    for name, steps in found.items():
        micro = [spread([1e6 * t for t in steps[one]], ",.0f") for one in CONTENDERS]
        yield name, *micro, compared(ratios(steps["two"], steps["threads"]), None)


def main() -> None:
    """Measure, and print the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.processes", description=__doc__)
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help=", ".join(WORKLOADS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.3, help="of a turn, at least")
    parser.add_argument("--serve", action="store_true", help="one of the processes")
    options = parser.parse_args()
    if options.serve:
        serve()
        return
    unknown = [name for name in options.workloads if name not in WORKLOADS]
    if unknown:
        parser.error(f"no such workload: {', '.join(unknown)}; there are {', '.join(WORKLOADS)}")
    load_before = load_of_others()
    found, taken = {}, []
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        path = Path(folder, "rows.csv")
        rows = write_csv(path, CSV_BYTES)
        at_work = {k: stack.enter_context(Processes(one)) for k, one in CONTENDERS.items()}
        for name in options.workloads or WORKLOADS:
            workload = WORKLOADS[name]
            if name == "linear-csv":
                workload = workload._replace(rows=rows, path=str(path))
            found[name] = measure(shortened(workload), at_work, options.rounds, options.seconds)
            print(f"{time.strftime('%H:%M:%S')} {name}", file=sys.stderr, flush=True)
        taken = list(messages(at_work["two"], options.rounds))
    titles = tuple(f"{one.title}, µs per step" for one in CONTENDERS.values())
    page = [
        "# Two processes and two threads",
        "",
        f"`{command('benchmarks.processes', sys.argv[1:])}`, {time.strftime('%Y-%m-%d')}.",
        "",
        f"- {describe()}; {ranks.versions()}",
        f"- {os.cpu_count()} processors, {load_before}",
        f"- {options.rounds} rounds: median (smallest to largest); a ratio is taken round by round",
        "",
        "The networks are those of `python -m benchmarks`, with fewer rows per epoch if a step is "
        f"long, and a CSV file of {CSV_BYTES / 1e6:.0f} MB. A batch has the same size for two "
        "processes as for one: each gets half of its rows.",
        "",
        *lines_of(("workload", *titles, "2 processes over 2 threads"), steps_of(found)),
        "## Messages alone",
        "",
        "The mean over two processes of a gradient of this size, including all other data of the "
        "message: `Communicator.mean`, and MPI's `Allreduce`, which waits in a busy loop and lets "
        "the library choose the order of the sum.",
        "",
        *lines_of(("bytes", "`mean`, µs", "`Allreduce`, µs", "`mean`, MB/s"), iter(taken)),
    ]
    text = "\n".join(page).rstrip() + "\n"
    print(text)
    if not options.workloads:
        RESULTS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
