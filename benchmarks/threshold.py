"""The size from which compiling pays: whole processes, plain, compiled, and with `fast=None`.

Each process imports minigd, loads arrays, and trains for some epochs. The clock starts with the
process. Compiled ones have an empty cache (cold) or that of the process before (warm). A size is
the work of an epoch relative to `WORTH_COMPILING`. The times of 10 and 100 epochs are the measured
times of the first epochs, plus the median time of those after the first for all later ones. The
page is written to `benchmarks/results/threshold.md`.
"""

# First, because it starts Python anew before NumPy is loaded, if BLAS was pinned.
from benchmarks.environment import command, describe, load  # isort: skip

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.contenders.process import PINNED, ROOT
from benchmarks.workloads import WORKLOADS, Workload, make_data
from minigd.training.trainer import WORTH_COMPILING

RESULTS = Path(__file__).parent / "results" / "threshold.md"
EPOCHS = (1, 10, 100)
# Smaller batches than in the table of frameworks, so that many updates need less memory.
NETWORKS = {
    name: WORKLOADS[name]._replace(batch_size=size)
    for name, size in (("tiny-1", 1), ("tiny-100", 100), ("mnist-100", 20), ("mnist-512", 32),
                       ("wide", 128))
}  # fmt: skip
SIZES = (0.02, 0.5, 1.0)
WAYS = {"plain": False, "compiled, cold": True, "compiled, warm": True, "fast=None, cold": None}

CHILD = """
import json, sys, time
import numpy as np
from benchmarks.workloads import Data, Workload, make_weights
from benchmarks.contenders.minigd_trainer import Training
workload, fast, folder, epochs = json.loads(sys.argv[1])
workload = Workload(**{**workload, "widths": tuple(workload["widths"])})
x, y = np.load(folder + "/x.npy"), np.load(folder + "/y.npy")
run = Training(workload, Data(x, y, make_weights(workload, np.random.default_rng(0))), fast)
clocks = []
for _ in range(epochs):
    run.train(1)
    clocks.append((time.monotonic(), time.process_time()))
print(json.dumps([clocks, bool(run.trainer.compiled)]))
"""


class Times(NamedTuple):
    """Seconds from the start of a process to the end of each epoch, and whether it compiled."""

    ends: list[float]
    compiled: bool

    def after(self, epochs: int) -> float:
        """Return the seconds for this many epochs, with later ones as long as the last ones."""
        if epochs <= len(self.ends):
            return self.ends[epochs - 1]
        return self.ends[-1] + (epochs - len(self.ends)) * self.later

    @property
    def later(self) -> float:
        """Seconds of an epoch after the first."""
        return statistics.median(np.diff(self.ends).tolist())


def sized(workload: Workload, size: float) -> Workload:
    """Return the workload with as many rows as this multiple of the threshold needs."""
    steps = math.ceil(size * WORTH_COMPILING / (workload.parameters + 10_000))
    return workload._replace(rows=steps * workload.batch_size)


def train(
    workload: Workload, fast: bool | None, folder: str, cache: str, epochs: int, cpu: bool
) -> Times:
    """Train in a separate process."""
    environment = {k: v for k, v in os.environ.items() if k not in PINNED}
    environment.update(XDG_CACHE_HOME=cache, NUMBA_CACHE_DIR=cache)
    what = json.dumps([workload._asdict(), fast, folder, epochs])
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", CHILD, what],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    clocks, compiled = json.loads(done.stdout)
    return Times([used if cpu else now - started for now, used in clocks], compiled)


def measure(workload: Workload, rounds: int, epochs: int, cpu: bool) -> dict[str, list[Times]]:
    """Let the ways alternate. Each round begins with an empty cache."""
    found: dict[str, list[Times]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        data = make_data(workload)
        np.save(Path(folder, "x.npy"), data.x)
        np.save(Path(folder, "y.npy"), data.y)
        del data
        for _ in range(rounds):
            with tempfile.TemporaryDirectory() as cache, tempfile.TemporaryDirectory() as other:
                for way, fast in WAYS.items():
                    # Warm comes after cold. `fast=None` has its own cache.
                    place = other if fast is None else cache
                    found[way].append(train(workload, fast, folder, place, epochs, cpu))
    return found


def middle(times: Sequence[Times], epochs: int) -> float:
    """Return the median over the rounds."""
    return statistics.median(t.after(epochs) for t in times)


def pays_from(found: Mapping[str, Sequence[Times]], size: float) -> float:
    """Return the work of an epoch, in thresholds, from which one cold compiled epoch is shorter."""
    plain, cold = found["plain"], found["compiled, cold"]
    gain = statistics.median(t.later for t in plain) - statistics.median(t.later for t in cold)
    extra = middle(cold, 1) - statistics.median(t.later for t in cold)
    extra -= middle(plain, 1) - statistics.median(t.later for t in plain)
    return size * extra / gain if gain > 0 else math.inf


def rows(found: Mapping[tuple[str, float], Mapping[str, Sequence[Times]]]) -> Iterator[str]:
    """Yield the table."""
    head = ["network", "size", *(f"{way}: {' / '.join(map(str, EPOCHS))} epochs" for way in WAYS),
            "`fast=None` over plain", "warm less plain, first epoch", "pays from"]  # fmt: skip
    yield f"| {' | '.join(head)} |"
    yield f"|{' --- |' * len(head)}"
    for (name, size), ways in found.items():
        cells = [name, f"{size:g}"]
        cells += [" / ".join(f"{middle(t, k):,.1f}" for k in EPOCHS) for t in ways.values()]
        chosen, plain = ways["fast=None, cold"], ways["plain"]
        ratios = [middle(chosen, k) / middle(plain, k) for k in EPOCHS]
        word = "compiled" if chosen[0].compiled else "plain"
        cells.append(f"{word}: {' / '.join(f'{r:.2f}' for r in ratios)}")
        cells.append(f"{middle(ways['compiled, warm'], 1) - middle(plain, 1):+.2f}")
        cells.append(f"{pays_from(ways, size):.2f}")
        yield f"| {' | '.join(cells)} |"


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.threshold", description=__doc__)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=", ".join(NETWORKS))
    parser.add_argument("--sizes", nargs="+", type=float, default=SIZES)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=2, help="of each process, at least 2")
    parser.add_argument("--cpu", action="store_true", help="take processor time")
    options = parser.parse_args()
    unknown = [name for name in options.networks if name not in NETWORKS]
    if unknown:
        parser.error(f"no such network: {', '.join(unknown)}; there are {', '.join(NETWORKS)}")
    load_before, found = load(), {}
    for name in options.networks or NETWORKS:
        for size in options.sizes:
            print(f"{time.strftime('%H:%M:%S')} {name}, {size:g}", file=sys.stderr, flush=True)
            workload = sized(NETWORKS[name], size)
            found[name, size] = measure(workload, options.rounds, options.epochs, options.cpu)
    clock = "processor time" if options.cpu else "time on the clock"
    page = "\n".join(
        [
            "# From which size on compiling pays",
            "",
            f"`{command('benchmarks.threshold', sys.argv[1:])}`, {time.strftime('%Y-%m-%d')}.",
            "",
            f"- {describe()}",
            f"- load before: {load_before}; {options.rounds} rounds, medians; seconds of {clock} "
            "from the start of the process, imports included",
            f"- size 1 is an epoch whose updates go through {WORTH_COMPILING:,} numbers, from "
            "which on `fast=None` compiles",
            f"- {options.epochs} epochs are measured; more are computed from those after the first",
            "",
            *rows(found),
            "",
            "*Pays from* is the size from which on a run of one epoch is no longer compiled, with "
            "nothing cached, than plain. The threshold has to be at least the largest of them.",
            "",
        ]
    )
    print(page)
    if not (options.networks or options.cpu or tuple(options.sizes) != SIZES):
        RESULTS.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
