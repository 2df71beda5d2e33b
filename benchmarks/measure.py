"""What benchmarks share: alternating contenders, memory measured from outside, tables.

A figure is a median with its smallest and largest value. A ratio is computed per round, so a slow
spell of the machine affects both sides of it.
"""

import argparse
import multiprocessing
import statistics
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

Seconds = dict[str, list[float]]


def options_of(doc: str, rounds: int, **sizes: int) -> argparse.Namespace:
    """Return sizes, rounds and clock from the command line, for alternating contenders.

    With ``--cpu`` they are timed in processor time; `clock` says which time it is.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    for name, size in {**sizes, "rounds": rounds}.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=size)
    parser.add_argument("--cpu", action="store_true", help="take processor time")
    options = parser.parse_args()
    options.clock = "processor time" if options.cpu else "time on the clock"
    return options


def alternate(
    contenders: Mapping[str, Callable[[], object]], rounds: int, cpu: bool = False
) -> Seconds:
    """Return the seconds of each contender in each round, after a warm-up round.

    Every other round is in reverse order. With `cpu` they are seconds of processor time of all
    threads, which other work on the machine disturbs less.
    """
    clock = time.process_time if cpu else time.perf_counter
    seconds: Seconds = {name: [] for name in contenders}
    for i in range(rounds + 1):
        for name in list(contenders)[:: 1 if i % 2 else -1]:
            started = clock()
            contenders[name]()
            if i > 0:
                seconds[name].append(clock() - started)
    return seconds


def ratios(over: Sequence[float], under: Sequence[float]) -> list[float]:
    """Return the ratio of each round."""
    return [a / b for a, b in zip(over, under, strict=True)]


def spread(values: Iterable[float], digits: str = ".2f") -> str:
    """Return the median, and the smallest and largest value."""
    values = list(values)
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:{digits}} ({low:{digits}} to {high:{digits}})"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a Markdown table, each row as soon as it is available."""
    print(f"| {' | '.join(head)} |\n|{' --- |' * len(head)}", flush=True)
    for row in rows:
        print(f"| {' | '.join(map(str, row))} |", flush=True)
    print()


def tried(titles: Mapping[str, str], ran: Iterable[str], others: Mapping[str, str]) -> list[str]:
    """Return a line for each contender: that it ran, or why not."""
    fates = {**dict.fromkeys(ran, "ran"), **others}
    return [f"- {title}: {fates[name]}" for name, title in titles.items() if name in fates]


def compared(values: Sequence[float], limit: float | None) -> str:
    """Return which was faster by the median of ratios, then the ratio, then its limit."""
    middle = statistics.median(values)
    word = "faster" if middle < 1 else "slower" if middle > 1 else "equal"
    text = f"{word}, {spread(values)}"
    return text if limit is None else f"{text}; limit {limit:g}"


def target(name: str, values: Sequence[float], bound: float, above: bool) -> str:
    """Return a line that says whether the median meets a target."""
    middle = statistics.median(values)
    kept = middle >= bound if above else middle <= bound
    sign = "at least" if above else "at most"
    return f"- {name}: {spread(values)}; target {sign} {bound:g}: {'kept' if kept else 'missed'}"


def anonymous_memory(process: int | str = "self") -> int:
    """Return the anonymous resident memory of a process in bytes, without mapped files."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(process)


def with_memory(
    function: Callable[..., Any], *arguments: Any, every: float = 0.002
) -> tuple[Any, int, int]:
    """Call a function in a new process. Return its result, and its memory before and at the peak.

    The process is measured from outside, every few milliseconds, which does not slow it. The memory
    before is that of the imports of the script and of the function's module.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_call, args=(there, function, arguments))
    process.start()
    there.close()
    assert process.pid is not None
    before = here.recv()
    peak = before
    finished = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not finished.wait(every):
            try:
                peak = max(peak, anonymous_memory(process.pid))
            except (OSError, ProcessLookupError):
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        result = here.recv()
    finally:
        finished.set()
        watcher.join()
        process.join()
    return result, before, peak


def _call(pipe: Any, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    pipe.send(anonymous_memory())
    pipe.send(function(*arguments))


def megabytes(size: float) -> str:
    """Return a number of bytes in MB of 10⁶."""
    return f"{size / 1e6:,.1f}"
