"""minigd compared with the frameworks and the floor: `python -m benchmarks` from the repository.

Contenders alternate in one run, each in its own process. The table of a run over all networks is
written to `benchmarks/results/frameworks.md`, and the README quotes it. That of `linear-csv` is
written to `benchmarks/results/linear_csv.md`. Progress is printed on stderr.
"""

# First, because it starts Python anew before NumPy is loaded, if BLAS was pinned.
from benchmarks.environment import command, describe, load  # isort: skip

import argparse
import contextlib
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.contenders import FILES, NETWORKS, Contender, versions
from benchmarks.contenders.process import ContenderError, ContenderProcess
from benchmarks.limits import FILE_LIMITS, FILE_ORIGIN, LINES, ORIGIN, SHAPES, Line
from benchmarks.measure import compared, ratios, tried
from benchmarks.quote import HEAD, renew_readme
from benchmarks.workloads import WORKLOADS, Workload, write_csv

RESULTS = Path(__file__).parent / "results"
CSV = "linear-csv"

# The contenders by default: those with a limit.
USUAL = tuple(
    name for name in NETWORKS if name in LINES or any(name in line.names for line in LINES["fast"])
)


class Result(NamedTuple):
    """The results of a contender on one workload.

    Attributes
    ----------
    first : float
        Seconds from arrays to the end of the first epoch: model, compilation, training.
    first_ever : float or None
        The same without code compiled by an earlier process, if that makes a difference.
    loss : float
        The mean loss of the first epoch.
    steps : list of float
        Seconds per step, of each round.
    cores : float
        Processor time over time on the clock.
    idle_load : float
        Processor time while waiting for its turns, over time on the clock.
    threads : str
        Its pools of threads.
    """

    first: float
    first_ever: float | None
    loss: float
    steps: list[float]
    cores: float
    idle_load: float
    threads: str


class Outcome(NamedTuple):
    """Results by the name of the contender, and the reasons of those without results."""

    results: dict[str, Result]
    left_out: dict[str, str]


# Measuring ---------------------------------------------------------------------------------------


def measure(
    workload: Workload, contenders: Mapping[str, Contender], rounds: int, seconds: float
) -> Outcome:
    """Let contenders alternate in turns of about this many seconds, in another order each round."""
    left_out: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        cache = stack.enter_context(tempfile.TemporaryDirectory())
        at_work: dict[str, ContenderProcess] = {}
        first, ever, losses, epochs = {}, {}, {}, {}
        for name, contender in contenders.items():
            if contender.missing:
                left_out[name] = f"left out, {', '.join(contender.missing)} not installed"
                continue
            say(f"{workload.name}: {contender.title}")
            try:
                if contender.cache:
                    with ContenderProcess(contender, cache) as process:
                        ever[name] = process.prepare(workload) + process.train(1).seconds
                process = stack.enter_context(ContenderProcess(contender, cache))
                prepared, turn = process.prepare(workload), process.train(1)
                first[name], losses[name] = prepared + turn.seconds, turn.losses[0]
                # The second epoch tells how many fill a turn, unless the first one already did.
                taken = turn.seconds
                if taken < 4 * seconds:
                    taken = process.train(1).seconds
                epochs[name] = max(1, math.ceil(seconds / taken))
                process.settle()
                at_work[name] = process
            except ContenderError as error:
                left_out[name] = f"failed, {error}"
        steps: dict[str, list[float]] = {name: [] for name in at_work}
        clock, cpu = dict.fromkeys(at_work, 0.0), dict.fromkeys(at_work, 0.0)
        for i in range(rounds):
            say(f"{workload.name}: round {i + 1} of {rounds}")
            for name in list(at_work)[:: -1 if i % 2 else 1]:
                turn = at_work[name].train(epochs[name])
                at_work[name].settle()
                steps[name].append(turn.seconds / epochs[name] / workload.steps)
                clock[name] += turn.seconds
                cpu[name] += turn.cpu
        results = {
            name: Result(
                first[name],
                ever.get(name),
                losses[name],
                steps[name],
                cpu[name] / clock[name],
                process.idle_load,
                process.threads,
            )
            for name, process in at_work.items()
        }
    return Outcome(results, left_out)


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


# Tables ------------------------------------------------------------------------------------------


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield a table of the rows that have more than a name."""
    rows = [row for row in rows if any(row[1:])]
    yield f"| {' | '.join(head)} |"
    yield f"|{' --- |' * len(head)}"
    yield from (f"| {' | '.join(row)} |" for row in rows)
    yield ""


def figure(value: float) -> str:
    """Return three digits of a number, or all digits before the point."""
    digits = 2 - math.floor(math.log10(value)) if value > 0 else 0
    return f"{value:,.{max(0, digits)}f}"


def step_table(outcomes: Mapping[str, Outcome], names: Mapping[str, Contender]) -> Iterator[str]:
    """Yield microseconds per step of all contenders on all networks, only medians."""

    def cell(outcome: Outcome, name: str) -> str:
        result = outcome.results.get(name)
        return "" if result is None else figure(statistics.median(result.steps) * 1e6)

    shapes = [shape for shape in SHAPES if shape in outcomes]
    rows = [
        (contender.title, *(cell(outcomes[shape], name) for shape in shapes))
        for name, contender in names.items()
    ]
    yield from table([HEAD, *shapes], rows)


def detail_table(
    workload: Workload, outcome: Outcome, names: Mapping[str, Contender]
) -> Iterator[str]:
    """Yield all figures of one workload."""
    per_row = workload.path is not None
    rows = []
    for name, result in outcome.results.items():
        if per_row:
            speed = [workload.rows / workload.steps / step / 1e3 for step in result.steps]
        else:
            speed = [step * 1e6 for step in result.steps]
        ever = "" if result.first_ever is None else f" ({result.first_ever:.2f})"
        rows.append(
            (
                names[name].title,
                f"{figure(statistics.median(speed))} "
                f"({figure(min(speed))} to {figure(max(speed))})",
                f"{result.first:.2f}{ever}",
                "" if math.isnan(result.loss) else figure(result.loss),
                f"{result.cores:.1f}",
                f"{result.idle_load:.1%}",
            )
        )
    yield f"## {workload.name}"
    yield ""
    yield workload.describe()
    yield ""
    unit = "thousand rows per second" if per_row else "µs per step"
    head = ["contender", unit, "to the end of the first epoch, s", "its loss", "processors in use",
            "processor use while it waits"]  # fmt: skip
    yield from table(head, rows)
    for name, reason in outcome.left_out.items():
        yield f"- {names[name].title}: {reason}"
    if outcome.left_out:
        yield ""


def ratio_table(
    whose: str, lines: Sequence[Line], outcomes: Mapping[str, Outcome]
) -> Iterator[str]:
    """Yield the time of one form of minigd over that of each contender, with the limits."""

    def cell(shape: str, line: Line) -> str:
        results = outcomes[shape].results
        there = [name for name in line.names if name in results]
        if not there or whose not in results:
            return ""
        best = min(there, key=lambda name: statistics.median(results[name].steps))
        values = ratios(results[whose].steps, results[best].steps)
        return compared(values, line.limit(shape))

    shapes = [shape for shape in SHAPES if shape in outcomes]
    rows = [(line.title, *(cell(shape, line) for shape in shapes)) for line in lines]
    if any(any(row[1:]) for row in rows):
        yield from table([f"{NETWORKS[whose].title} is, against", *shapes], rows)


def file_ratios(outcome: Outcome) -> Iterator[str]:
    """Yield the same for reading and training from a CSV file."""
    results = outcome.results
    for whose in ("minigd", "fast"):
        for name in FILES:
            if name in ("minigd", "fast") or not {name, whose} <= results.keys():
                continue
            values = ratios(results[whose].steps, results[name].steps)
            words = compared(values, FILE_LIMITS.get(name))
            yield f"- {FILES[whose].title} against {FILES[name].title}: {words}"
    yield ""


def report(
    workloads: Sequence[Workload],
    outcomes: Mapping[str, Outcome],
    started: str,
    load_before: str,
    rounds: int,
) -> str:
    """Return the page."""
    networks = {k: v for k, v in outcomes.items() if k in SHAPES}
    lines = [
        "# minigd and other frameworks" if networks else "# Training from a CSV file",
        "",
        f"`{started}`, {time.strftime('%Y-%m-%d')}.",
        "",
        f"- {describe()}",
        f"- {versions()}",
        f"- {os.cpu_count()} processors, load before: {load_before}; thread pools: "
        f"{pools(outcomes)}",
        f"- {rounds} rounds: median (smallest to largest); a ratio is taken round by round",
        "",
        "All train in float32 with Adam from the same initial weights, and report the mean loss "
        "of each epoch. Rows in memory are shuffled again for each epoch, and the last, shorter "
        "batch is included, also by `lax.scan`, after the scan. Each contender is a separate "
        "process with its default threads. It waits at a pipe for its turn, and the next turn "
        "begins when it is idle. The first epochs are warm-up. A separate column has their time, "
        "including the time to create and compile the model, and in brackets the same without code "
        "compiled by an earlier process. minigd alone is `fast=False`, as without the extra; "
        "minigd with `fast` is `fast=True`.",
        "",
    ]
    if networks:
        lines += step_table(networks, NETWORKS)
        lines += [
            "Ratios are the time of minigd over that of the contender: *faster, 0.50* is half its "
            "time.",
            "",
        ]
        for whose, rows in LINES.items():
            lines += ratio_table(whose, rows, networks)
        lines += [ORIGIN, ""]
    for workload in workloads:
        outcome = outcomes[workload.name]
        lines += detail_table(workload, outcome, NETWORKS if workload.path is None else FILES)
        if workload.path is not None:
            lines += [*file_ratios(outcome), FILE_ORIGIN, ""]
    return "\n".join(lines).rstrip() + "\n"


def trial(workloads: Sequence[Workload], outcomes: Mapping[str, Outcome]) -> str:
    """Return who ran, failed or was left out, because figures of few rows mean nothing."""
    lines = []
    for workload in workloads:
        names = NETWORKS if workload.path is None else FILES
        outcome = outcomes[workload.name]
        titles = {name: contender.title for name, contender in names.items()}
        lines += [f"## {workload.name}", "", *tried(titles, *outcome), ""]
    return "\n".join(lines)


def pools(outcomes: Mapping[str, Outcome]) -> str:
    """Return the thread pools of the contenders, grouped if equal."""
    found: dict[str, list[str]] = {}
    for outcome in outcomes.values():
        for name, result in outcome.results.items():
            owners = found.setdefault(result.threads, [])
            if name not in owners:
                owners.append(name)
    return "; ".join(f"{threads or 'unknown'} ({', '.join(o)})" for threads, o in found.items())


# The command -------------------------------------------------------------------------------------


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "workloads",
        nargs="*",
        metavar="WORKLOAD",
        help=f"{', '.join(WORKLOADS)}; all but the last unless named",
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.5, help="of a turn, at least")
    parser.add_argument(
        "--contenders",
        nargs="+",
        metavar="NAME",
        help=f"{', '.join(NETWORKS)}; unless named {', '.join(USUAL)}",
    )
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="MNIST's IDX files")
    parser.add_argument("--csv-gb", type=float, default=1.0, help="size of the CSV file")
    parser.add_argument("--quick", action="store_true", help="few rows, one round: does it run?")
    parser.add_argument("--out", type=Path, help="where to write the page")
    options = parser.parse_args()
    unknown = [name for name in options.workloads if name not in WORKLOADS]
    if unknown:
        parser.error(f"no such workload: {', '.join(unknown)}; there are {', '.join(WORKLOADS)}")
    unknown = [n for n in options.contenders or () if n not in {**NETWORKS, **FILES}]
    if unknown:
        parser.error(f"no such contender: {', '.join(unknown)}; there are {', '.join(NETWORKS)}")
    return options


def page_of(options: argparse.Namespace) -> Path | None:
    """Return the path of the page: a page of a part must not replace the whole page."""
    if options.out is not None or options.contenders or options.quick:
        return options.out
    if not options.workloads:
        return RESULTS / "frameworks.md"
    return RESULTS / "linear_csv.md" if options.workloads == [CSV] else None


def main() -> None:
    options = parse()
    load_before = load()
    rounds, seconds = (1, 0.01) if options.quick else (options.rounds, options.seconds)
    chosen, outcomes = [], {}
    with tempfile.TemporaryDirectory() as folder:
        for name in options.workloads or SHAPES:
            workload = WORKLOADS[name]
            named = options.contenders or USUAL
            contenders = {name: NETWORKS[name] for name in NETWORKS if name in named}
            if name == CSV:
                path = Path(folder, "numbers.csv")
                size = 10**6 if options.quick else round(options.csv_gb * 1e9)
                rows = write_csv(path, size)
                workload = workload._replace(path=str(path), rows=rows)
                contenders = {n: FILES[n] for n in FILES if n in (options.contenders or FILES)}
            else:
                if name.startswith("mnist") and options.data is not None:
                    workload = workload._replace(images=str(options.data.absolute()))
                if options.quick:
                    few = min(workload.rows, workload.batch_size + 7)
                    workload = workload._replace(rows=few)
            chosen.append(workload)
            outcomes[name] = measure(workload, contenders, rounds, seconds)
    if options.quick:
        print(trial(chosen, outcomes))
        return
    started = command("benchmarks", sys.argv[1:], options.data)
    page = report(chosen, outcomes, started, load_before, rounds)
    print(page)
    out = page_of(options)
    if out is not None:
        out.write_text(page, encoding="utf-8")
        say(f"written to {out}")
    if out == RESULTS / "frameworks.md":
        renew_readme()
        say("the README quotes it")


if __name__ == "__main__":
    main()
