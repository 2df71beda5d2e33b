"""How the cost grows with batch size, width, depth and rows: `python -m benchmarks.scaling`.

minigd, with and without `fast`, alternates with the matrix products of the same shapes alone. Plots
are written to `docs/images/`, and the table to `benchmarks/results/scaling.md`.
"""

# First, because it starts Python anew before NumPy is loaded, if BLAS was pinned.
from benchmarks.environment import describe  # isort: skip

import argparse
import contextlib
import itertools
import math
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.contenders import NETWORKS, versions
from benchmarks.contenders.process import ContenderProcess
from benchmarks.workloads import Workload

ROOT = Path(__file__).parent.parent
NAMES = ("minigd", "fast", "floor")
MOST_ROWS = 60_000


class Axis(NamedTuple):
    """What grows, and the networks along it."""

    name: str
    label: str
    network: str
    workloads: dict[int, Workload]


class Point(NamedTuple):
    """Seconds per row of each contender, in each round."""

    value: int
    workload: Workload
    seconds: dict[str, list[float]]


def rows_for(widths: Sequence[int], batch_size: int, seconds: float) -> int:
    """Return a number of rows whose epoch takes about this long: whole batches, at most 60,000."""
    parameters = sum(a * b for a, b in itertools.pairwise(widths))
    # A step takes some calls for any size, three products, and a pass over the parameters.
    step = 50e-6 + 6 * parameters * batch_size / 1e11 + parameters * 1e-9
    return max(1, min(MOST_ROWS // batch_size, math.ceil(seconds / step))) * batch_size


def axes(seconds: float) -> list[Axis]:
    """Return what is measured, in sizes that fit turns of this many seconds."""

    def network(widths: tuple[int, ...], batch_size: int) -> Workload:
        rows = rows_for(widths, batch_size, seconds)
        return Workload("scaling", widths, rows=rows, batch_size=batch_size)

    sizes = (1, 4, 16, 64, 256, 1024, 4096, 16_384, 60_000)
    widths = [2**i for i in range(3, 13)]
    depths = [2**i for i in range(7)]
    rows = [round(10 ** (i / 2)) for i in range(6, 15)]
    narrow = Workload("scaling", (20, 100, 10))
    return [
        Axis(
            "batch_size",
            "rows per batch",
            "784-100-10",
            {n: network((784, 100, 10), n) for n in sizes},
        ),
        Axis(
            "width",
            "units of each of two hidden layers",
            "784-n-n-10, batches of 128",
            {n: network((784, n, n, 10), 128) for n in widths},
        ),
        Axis(
            "depth",
            "hidden layers",
            "784-128-...-128-10, batches of 100",
            {n: network((784, *[128] * n, 10), 100) for n in depths},
        ),
        Axis(
            "rows",
            "rows",
            "20-100-10, batches of 100",
            {n: narrow._replace(rows=n) for n in rows},
        ),
    ]


def measure(
    axis: Axis, processes: Mapping[str, ContenderProcess], rounds: int, seconds: float
) -> Iterator[Point]:
    """Yield each point of an axis as it is measured."""
    for value, workload in axis.workloads.items():
        taken: dict[str, list[float]] = {name: [] for name in processes}
        epochs = {}
        for name, process in processes.items():
            process.prepare(workload)
            once = process.train(1).seconds  # compiles, and takes the memory it needs
            once = process.train(1).seconds if once < 2 * seconds else once
            epochs[name] = max(1, math.ceil(seconds / once))
            process.settle()
        for i in range(rounds):
            for name in list(processes)[:: -1 if i % 2 else 1]:
                turn = processes[name].train(epochs[name])
                processes[name].settle()
                taken[name].append(turn.seconds / epochs[name] / workload.rows)
        said = ", ".join(f"{k} {statistics.median(v) * 1e6:.3g} µs" for k, v in taken.items())
        print(f"{axis.label} {value:,}: a row {said}", file=sys.stderr, flush=True)
        yield Point(value, workload, taken)


def table(axis: Axis, points: Sequence[Point]) -> Iterator[str]:
    """Yield microseconds per row, and multiples of the floor."""
    names = list(points[0].seconds)
    ours = [name for name in names if name != "floor"]
    titles = {name: NETWORKS[name].title for name in names}
    head = [axis.label, *(f"{titles[name]}, µs per row" for name in names)]
    head += [f"{titles[name]} over the floor" for name in ours]
    head += ["rows of an epoch"]
    yield f"## {axis.label.capitalize()}"
    yield ""
    yield f"{axis.network}; ![{axis.label}](../../docs/images/scaling_{axis.name}.png)"
    yield ""
    yield f"| {' | '.join(head)} |"
    yield f"|{' --- |' * len(head)}"
    for point in points:
        medians = {name: statistics.median(point.seconds[name]) for name in names}
        cells = [f"{point.value:,}", *(f"{medians[name] * 1e6:,.3f}" for name in names)]
        cells += [f"{medians[name] / medians['floor']:.2f}" for name in ours]
        cells += [f"{point.workload.rows:,}"]
        yield f"| {' | '.join(cells)} |"
    yield ""


def draw(axis: Axis, points: Sequence[Point], path: Path) -> None:
    """Draw seconds per row, the median as a line and the spread as a band."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    values = [point.value for point in points]
    styles = {"minigd": ("C0", "-"), "fast": ("C1", "-"), "floor": ("0.4", "--")}
    for name in points[0].seconds:
        taken = [point.seconds[name] for point in points]
        color, line = styles[name]
        axes.fill_between(
            values, [min(s) for s in taken], [max(s) for s in taken], color=color, alpha=0.2, lw=0
        )
        label = "matrix products and a copy of the rows" if name == "floor" else None
        axes.loglog(
            values,
            [statistics.median(s) for s in taken],
            line,
            color=color,
            marker="o",
            markersize=4,
            label=label or NETWORKS[name].title.replace("`", ""),
        )
    axes.set(xlabel=axis.label, ylabel="seconds per row", title=axis.network)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120, metadata={"Software": None})
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("axes", nargs="*", metavar="AXIS", help="batch_size, width, depth, rows")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of a turn, about")
    parser.add_argument("--most", type=int, help="leave out what is larger along an axis")
    parser.add_argument("--images", type=Path, default=ROOT / "docs" / "images")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "scaling.md")
    options = parser.parse_args()
    all_axes = axes(options.seconds)
    chosen = [axis for axis in all_axes if not options.axes or axis.name in options.axes]
    unknown = set(options.axes) - {axis.name for axis in all_axes}
    if unknown:
        parser.error(f"no such axis: {', '.join(sorted(unknown))}")
    lines = [
        "# How cost grows",
        "",
        f"`{' '.join(['python -m benchmarks.scaling', *sys.argv[1:]])}`, "
        f"{time.strftime('%Y-%m-%d')}.",
        "",
        describe(),
        versions(),
        f"float32, Adam, rows shuffled again for each epoch; {options.rounds} rounds, medians; the "
        "floor is the matrix products of each step and one copy of the rows of each batch",
        "",
    ]
    with contextlib.ExitStack() as stack:
        processes = {
            name: stack.enter_context(ContenderProcess(NETWORKS[name]))
            for name in NAMES
            if not NETWORKS[name].missing
        }
        for axis in chosen:
            if options.most is not None:
                few = {n: w for n, w in axis.workloads.items() if n <= options.most}
                axis = axis._replace(workloads=few)
            points = list(measure(axis, processes, options.rounds, options.seconds))
            lines += table(axis, points)
            draw(axis, points, options.images / f"scaling_{axis.name}.png")
    page = "\n".join(lines).rstrip() + "\n"
    print(page)
    options.out.write_text(page)


if __name__ == "__main__":
    main()
