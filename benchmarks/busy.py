"""What a busy machine costs: a step in quiet, and beside a process that uses all processors.

Each contender takes two turns per round, one in quiet and one beside a process with a thread on
each processor. A fair scheduler leaves a contender half of the machine then; threads that wait for
each other get much less. `minigd, all threads` is minigd with OMP_NUM_THREADS set, so that `fit`
leaves BLAS the threads that it has.
"""

# First, because it starts Python anew before NumPy is loaded, if BLAS was pinned.
from benchmarks.environment import describe  # isort: skip

import argparse
import contextlib
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from benchmarks.contenders import NETWORKS, Contender, versions
from benchmarks.contenders.process import ContenderError, ContenderProcess
from benchmarks.measure import ratios, spread, table, target
from benchmarks.workloads import WORKLOADS, Workload

PROCESSORS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
CONTENDERS = {
    "minigd": NETWORKS["minigd"],
    "fast": NETWORKS["fast"],
    "all-threads": NETWORKS["minigd"]._replace(
        title="minigd, all threads", environment={"OMP_NUM_THREADS": str(PROCESSORS)}
    ),
    **{name: NETWORKS[name] for name in ("sklearn", "torch", "jax-scan")},
}
SHAPES = [name for name in WORKLOADS if name != "linear-csv"]
MOST = 3.0
"""Busy time over quiet time of minigd, at most."""

# The loop is OpenSSL's, which needs no lock of Python's. It ends with whoever started it.
BURN = """
import hashlib, sys, threading
def burn():
    while True:
        hashlib.pbkdf2_hmac("sha256", b"", b"", 50_000)
for _ in range(int(sys.argv[1])):
    threading.Thread(target=burn, daemon=True).start()
print("at work", flush=True)
sys.stdin.read()
"""


class Result(NamedTuple):
    """Seconds a step of each round, and processor time over time on the clock while quiet."""

    quiet: list[float]
    busy: list[float]
    cores: float


@contextlib.contextmanager
def busy_machine() -> Iterator[None]:
    """Keep all processors busy in the `with`, by one process."""
    with subprocess.Popen(
        [sys.executable, "-c", BURN, str(PROCESSORS)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield
        finally:
            process.kill()


def measure(
    workload: Workload, contenders: Mapping[str, Contender], rounds: int, seconds: float
) -> tuple[dict[str, Result], dict[str, str]]:
    """Return the results, and why other contenders have none; turns take about so many seconds."""
    left_out: dict[str, str] = {}
    results: dict[str, Result] = {}
    with contextlib.ExitStack() as stack:
        at_work, epochs = {}, {}
        for name, contender in contenders.items():
            if contender.missing:
                left_out[name] = f"{', '.join(contender.missing)} not installed"
                continue
            try:
                process = stack.enter_context(ContenderProcess(contender))
                process.prepare(workload)
                process.train(1)
                epochs[name] = max(1, math.ceil(seconds / process.train(1).seconds))
            except ContenderError as error:
                left_out[name] = f"it failed: {error}"
                continue
            at_work[name], results[name] = process, Result([], [], 0.0)
        for i in range(rounds):
            for name in list(at_work)[:: -1 if i % 2 else 1]:
                process, result, steps = at_work[name], results[name], epochs[name] * workload.steps
                process.settle()
                turn = process.train(epochs[name])
                result.quiet.append(turn.seconds / steps)
                process.settle()
                cores = result.cores + turn.cpu / turn.seconds / rounds
                results[name] = result._replace(cores=cores)
                with busy_machine():
                    result.busy.append(process.train(epochs[name]).seconds / steps)
    return results, left_out


def rows(results: Mapping[str, Result]) -> Iterator[Sequence[str]]:
    """Yield the rows of a table."""
    for name, result in results.items():
        yield (
            CONTENDERS[name].title,
            f"{result.cores:.1f}",
            spread([1e6 * t for t in result.quiet], ",.0f"),
            spread([1e6 * t for t in result.busy], ",.0f"),
            spread(ratios(result.busy, result.quiet)),
        )


def load() -> str:
    """Return the load of the machine in the last minute, where the system tells it."""
    return f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.busy", description=__doc__)
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help=", ".join(SHAPES))
    parser.add_argument("--contenders", nargs="+", metavar="NAME", choices=list(CONTENDERS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.5, help="of a turn, at least")
    parser.add_argument("--quick", action="store_true", help="few rows, one round: does it run?")
    options = parser.parse_args()
    unknown = [name for name in options.workloads if name not in SHAPES]
    if unknown:
        parser.error(f"no such workload: {', '.join(unknown)}; there are {', '.join(SHAPES)}")
    chosen = {name: CONTENDERS[name] for name in options.contenders or CONTENDERS}
    rounds, seconds = (1, 0.01) if options.quick else (options.rounds, options.seconds)
    print("# A busy machine\n")
    print(f"`python -m benchmarks.busy{''.join(f' {word}' for word in sys.argv[1:])}`, ", end="")
    print(f"{time.strftime('%Y-%m-%d')}\n\n{describe()}\n\n{versions()}\n")
    print(f"{PROCESSORS} processors, load before: {load()}; {rounds} rounds\n")
    for name in options.workloads or SHAPES:
        batches = 1 if options.quick else 100
        few = min(WORKLOADS[name].rows, batches * WORKLOADS[name].batch_size + 7)
        workload = WORKLOADS[name]._replace(rows=few)
        results, left_out = measure(workload, chosen, rounds, seconds)
        print(f"## {name}\n\n{workload.describe()}\n")
        if options.quick:
            print(*(f"- {CONTENDERS[name].title}: ran" for name in results), sep="\n")
        else:
            table(("", "processors", "µs a step, quiet", "busy", "busy over quiet"), rows(results))
            for one in ("minigd", "fast"):
                if one in results:
                    found = ratios(results[one].busy, results[one].quiet)
                    print(target(f"{CONTENDERS[one].title}, busy over quiet", found, MOST, False))
        for one, reason in left_out.items():
            print(f"- {CONTENDERS[one].title}: {reason}")
        print(flush=True)


if __name__ == "__main__":
    main()
