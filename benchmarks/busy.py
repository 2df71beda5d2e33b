"""The cost of a busy machine: a step alone, and next to a process that uses all processors.

Each contender takes two turns per round, one alone and one next to a process with a thread on each
processor. Then a fair scheduler leaves half of the machine to a contender, but threads that wait
for each other get much less. The page of a whole run is written to `benchmarks/results/busy.md`.
"""

# First, because it starts Python anew before NumPy is loaded, if BLAS was pinned.
from benchmarks.environment import command, describe, load  # isort: skip

import argparse
import contextlib
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from benchmarks.contenders import NETWORKS, Contender, versions
from benchmarks.contenders.process import ContenderError, ContenderProcess
from benchmarks.limits import SHAPES
from benchmarks.measure import ratios, spread, tried
from benchmarks.workloads import WORKLOADS, Workload

PROCESSORS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
ALL = NETWORKS["minigd"]._replace(
    title="minigd, all threads", environment={"OMP_NUM_THREADS": str(PROCESSORS)}
)
CONTENDERS = {
    "minigd": NETWORKS["minigd"],
    "fast": NETWORKS["fast"],
    "all-threads": ALL,
    **{name: NETWORKS[name] for name in ("sklearn", "torch", "jax-scan")},
}
RESULTS = Path(__file__).parent / "results" / "busy.md"
MOST = 3.0
"""Busy time over quiet time of minigd, at most."""
WORK = 60e9
"""The approximate multiplications per epoch, so that epochs of large networks are also short."""

# The loop is OpenSSL's, which does not need Python's lock. It ends with its parent.
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
    """Seconds per step of each round, and processor time over time on the clock while quiet."""

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
    """Return the results, and the reasons of those without. Turns take about this many seconds."""
    left_out: dict[str, str] = {}
    results: dict[str, Result] = {}
    with contextlib.ExitStack() as stack:
        at_work, epochs = {}, {}
        for name, contender in contenders.items():
            if contender.missing:
                left_out[name] = f"left out, {', '.join(contender.missing)} not installed"
                continue
            try:
                process = stack.enter_context(ContenderProcess(contender))
                process.prepare(workload)
                process.train(1)
                epochs[name] = max(1, math.ceil(seconds / process.train(1).seconds))
            except ContenderError as error:
                left_out[name] = f"failed, {error}"
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


def shortened(workload: Workload, quick: bool) -> Workload:
    """Return the workload with epochs of some tenths of a second."""
    batches = WORK // (3 * workload.batch_size * workload.parameters)
    batches = 1 if quick else int(max(4, min(100, batches)))
    return workload._replace(rows=min(workload.rows, batches * workload.batch_size + 7))


def summary(found: Mapping[str, Mapping[str, Result]]) -> Iterator[str]:
    """Yield a table of busy time over quiet time of all contenders on all networks."""
    yield f"| busy over quiet | {' | '.join(found)} |"
    yield f"|{' --- |' * (len(found) + 1)}"
    for name, contender in CONTENDERS.items():
        cells = [
            spread(ratios(results[name].busy, results[name].quiet)) if name in results else ""
            for results in found.values()
        ]
        if any(cells):
            yield f"| {contender.title} | {' | '.join(cells)} |"
    yield ""


def details(results: Mapping[str, Result]) -> Iterator[str]:
    """Yield all figures of one network."""
    yield "| contender | processors in use, quiet | µs per step, quiet | busy | busy over quiet |"
    yield f"|{' --- |' * 5}"
    for name, result in results.items():
        cells = (
            CONTENDERS[name].title,
            f"{result.cores:.1f}",
            spread([1e6 * t for t in result.quiet], ",.0f"),
            spread([1e6 * t for t in result.busy], ",.0f"),
            spread(ratios(result.busy, result.quiet)),
        )
        yield f"| {' | '.join(cells)} |"
    yield ""


def worst(found: Mapping[str, Mapping[str, Result]]) -> str:
    """Return the largest median ratio of minigd's own lines, with its limit."""
    own = [
        (statistics.median(ratios(result.busy, result.quiet)), CONTENDERS[name].title, shape)
        for shape, results in found.items()
        for name, result in results.items()
        if name in ("minigd", "fast")
    ]
    if not own:
        return ""
    ratio, title, shape = max(own)
    return f"The largest of minigd's medians is {ratio:.2f} ({title}, {shape}); limit {MOST:g}."


def main() -> None:
    """Measure, and print the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.busy", description=__doc__)
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help=", ".join(SHAPES))
    parser.add_argument("--contenders", nargs="+", metavar="NAME", choices=list(CONTENDERS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.3, help="of a turn, at least")
    parser.add_argument("--quick", action="store_true", help="few rows, one round: does it run?")
    options = parser.parse_args()
    unknown = [name for name in options.workloads if name not in SHAPES]
    if unknown:
        parser.error(f"no such workload: {', '.join(unknown)}; there are {', '.join(SHAPES)}")
    load_before = load()
    chosen = {name: CONTENDERS[name] for name in options.contenders or CONTENDERS}
    rounds, seconds = (1, 0.01) if options.quick else (options.rounds, options.seconds)
    found, sections = {}, []
    for name in options.workloads or SHAPES:
        workload = shortened(WORKLOADS[name], options.quick)
        found[name], others = measure(workload, chosen, rounds, seconds)
        sections += [f"## {name}", "", workload.describe(), ""]
        titles = {one: contender.title for one, contender in CONTENDERS.items()}
        if options.quick:
            sections += [*tried(titles, found[name], others), ""]
        else:
            sections += [*details(found[name]), *tried(titles, (), others), ""]
    if options.quick:
        print("\n".join(sections))
        return
    page = [
        "# A busy machine",
        "",
        f"`{command('benchmarks.busy', sys.argv[1:])}`, {time.strftime('%Y-%m-%d')}.",
        "",
        f"- {describe()}",
        f"- {versions()}",
        f"- {PROCESSORS} processors, load before: {load_before}",
        f"- {rounds} rounds: median (smallest to largest); a ratio is taken round by round",
        "",
        f"Busy means next to one other process with {PROCESSORS} threads that compute. "
        f"*{ALL.title}* is minigd with OMP_NUM_THREADS set, which makes `fit` keep the BLAS "
        "threads.",
        "",
        *summary(found),
        worst(found),
        "",
        *sections,
    ]
    text = "\n".join(page).rstrip() + "\n"
    print(text)
    if not (options.workloads or options.contenders):
        RESULTS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
