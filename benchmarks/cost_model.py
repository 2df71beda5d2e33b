"""The cost of combining gradients on typical networks: `python -m benchmarks.cost_model`.

The messages of `minigd/distributed/communicator.py` are simulated round by round for up to 1,024
processes. Then the same rules are compared with two processes here, which share memory. Plot and
page are written to `docs/images/cost_model.png` and `benchmarks/results/cost_model.md`.
"""

# First, because it starts Python anew before NumPy is loaded, if BLAS was pinned.
from benchmarks.environment import command, describe, load_of_others  # isort: skip

import argparse
import itertools
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks import ranks
from benchmarks.measure import spread
from benchmarks.processes import CONTENDERS, Processes, lines_of, shortened
from benchmarks.workloads import WORKLOADS
from minigd.distributed.communicator import SMALL

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "cost_model.md"
PICTURE = ROOT / "docs" / "images" / "cost_model.png"

HEAD = 48
"""Bytes of the notes in each message: weights, the loss, whether all is finite, signal, clock."""
LATE = 0.05
"""The delay of the slowest of many processes, as a share of the computing time."""
MOST = 1024
"""Processes."""


class Network(NamedTuple):
    """The time of a message: latency + bytes / bandwidth."""

    name: str
    latency: float  # seconds
    bandwidth: float  # bytes per second, in each direction
    most: int = MOST  # processes that it joins


class Node(NamedTuple):
    """The hardware of one process.

    A step of b rows takes fixed + (6 b / flops + pass) · parameters; combining gradients takes
    `call` per message, and `work` per byte that is copied or added.
    """

    name: str
    fixed: float
    flops: float
    update: float
    call: float
    work: float


# Nominal rates; latencies of TCP for Ethernet, of MPI for InfiniBand, of NCCL for NVLink.
ETHERNET_10 = Network("10 Gbit/s Ethernet", 30e-6, 1.25e9)
ETHERNET_100 = Network("100 Gbit/s Ethernet", 15e-6, 12.5e9)
INFINIBAND = Network("InfiniBand, 400 Gbit/s", 2e-6, 50e9)
NVLINK = Network("NVLink, 450 GB/s", 5e-6, 450e9, 64)

CPU = Node("CPU, 1 Tflop/s", 100e-6, 1e12, 1e-9, 50e-6, 1e-9)
# Gradients are copied to the host and back, 25 GB/s each way, and are added there.
GPU = Node("GPU, 30 Tflop/s", 200e-6, 30e12, 0.02e-9, 50e-6, 1e-9 + 2 / 25e9)
# Not in minigd yet: messages between GPUs, and sums taken there.
DIRECT = Node("GPU, 30 Tflop/s, gradients stay there", 200e-6, 30e12, 0.02e-9, 50e-6, 6 / 2e12)

PLACES = (
    (CPU, ETHERNET_10),
    (CPU, ETHERNET_100),
    (CPU, INFINIBAND),
    (GPU, INFINIBAND),
    (DIRECT, INFINIBAND),
    (DIRECT, NVLINK),
)
WIDTHS = (32, 128, 512, 2048)


# The messages, round by round --------------------------------------------------------------------


def gathered(clock: np.ndarray, row: float, network: Network) -> np.ndarray:
    """Return when each process has the rows of all, as in MPICH's allgather."""
    n = len(clock)
    if n & (n - 1) == 0 and n * row < 524_288:  # recursive doubling
        for k in range(n.bit_length() - 1):
            clock = _later(clock, np.arange(n) ^ 2**k, 2**k * row, network)
    elif n * row < 81_920:  # Bruck
        for k in range((n - 1).bit_length()):
            rows = min(2**k, n - 2**k)
            clock = _later(clock, (np.arange(n) + 2**k) % n, rows * row, network)
    else:  # a ring
        for _ in range(n - 1):
            clock = _later(clock, (np.arange(n) - 1) % n, row, network)
    return clock


def swapped(clock: np.ndarray, block: float, network: Network) -> np.ndarray:
    """Return when each process has a block of each other one, as in MPICH's alltoall."""
    n = len(clock)
    if block <= 32_768:  # all at once, 32 messages under way
        waits = -(-(n - 1) // 32) * network.latency
        return np.full(n, clock.max() + waits + (n - 1) * block / network.bandwidth)
    for i in range(1, n):
        clock = _later(clock, (np.arange(n) - i) % n, block, network)
    return clock


def _later(clock: np.ndarray, sender: np.ndarray, size: float, network: Network) -> np.ndarray:
    return np.maximum(clock, clock[sender]) + network.latency + size / network.bandwidth


def reduced(clock: np.ndarray, size: float, node: Node, network: Network) -> np.ndarray:
    """Return when each process has the mean of gradients of a size: `Communicator.mean`."""
    n = len(clock)
    if n == 1:
        return clock
    if size * n <= SMALL:
        return gathered(clock + node.call, size + HEAD, network) + node.work * size * n
    # Half of the copies come before the slices are swapped, and half after it.
    clock = swapped(clock + node.call + node.work * size / 2, size / n + HEAD, network)
    return gathered(clock + node.call + node.work * size / 2, size / n, network)


def step(widths: Sequence[int], rows: float, processes: int, node: Node, network: Network) -> float:
    """Return the seconds of a step with this many rows in total, in float32."""
    parameters = sum((a + 1) * b for a, b in itertools.pairwise(widths))
    backward = node.fixed + 6 * parameters * rows / processes / node.flops
    clock = backward * (1 + LATE * np.random.default_rng(0).random(processes) * (processes > 1))
    return float(reduced(clock, 4 * parameters, node, network).max() + node.update * parameters)


def network_of(width: int) -> tuple[int, ...]:
    """Return the widths of a network with two hidden layers."""
    return 784, width, width, 10


def smallest_batch(
    width: int, processes: int, gain: float, node: Node, network: Network
) -> int | None:
    """Return the smallest number of rows with which the processes are faster by this factor."""
    for i in range(5, 27):
        given = network_of(width), 2**i
        if step(*given, 1, node, network) >= gain * step(*given, processes, node, network):
            return 2**i
    return None


def where_it_pays(processes: int) -> Iterator[tuple[str, ...]]:
    """Yield a row for each pair of node and network."""
    for node, network in PLACES:
        cells = []
        for width in WIDTHS:
            found = [smallest_batch(width, processes, g, node, network) for g in (1, processes / 2)]
            cells.append(" / ".join("never" if n is None else f"{n:,}" for n in found))
        yield network.name, node.name, *cells


def draw(path: Path) -> None:
    """Draw the speed-up of a step against the number of processes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    sizes = [2**i for i in range(MOST.bit_length())]
    panels = ((512, 1024), (2048, 16_384), (2048, 1_048_576))
    figure, grid = plt.subplots(1, 3, figsize=(12, 4.2), layout="constrained", sharey=True)
    for axes, (width, rows) in zip(grid, panels, strict=True):
        given = network_of(width), rows
        for i, (node, network) in enumerate(PLACES):
            alone = step(*given, 1, node, network)
            there = [n for n in sizes if n <= network.most]
            gains = [alone / step(*given, n, node, network) for n in there]
            label = f"{network.name}; {node.name}"
            axes.loglog(there, gains, "-o", color=f"C{i}", markersize=3, base=2, label=label)
        axes.loglog(sizes, sizes, ":", color="0.5", base=2, label="in proportion")
        axes.axhline(1, color="0.5", lw=0.8)
        axes.set(xlabel="processes", ylim=(1 / 64, MOST))
        axes.set_title(f"784-{width}-{width}-10, batches of {rows:,}", fontsize=10)
        axes.grid(alpha=0.3)
    grid[0].set_ylabel("times as fast as one process")
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=3,
                  fontsize=8)  # fmt: skip
    figure.savefig(path, dpi=120, metadata={"Software": None})
    plt.close(figure)


# Against what is measured here -------------------------------------------------------------------


def line(call: Callable[[int], float], small: int, large: int) -> tuple[float, float]:
    """Return seconds, and seconds per byte, from the times of two sizes."""
    first, last = call(small), call(large)
    slope = max(0.0, last - first) / (large - small)
    return max(0.0, first - slope * small), slope


def calibrate(pair: Processes, rounds: int) -> tuple[Node, Network]:
    """Measure messages through shared memory and the other work, the fastest of several rounds."""

    def fastest(how: str) -> Callable[[int], float]:
        def call(size: int) -> float:
            repeats = max(3, min(100, 4_000_000 // size))
            return min(pair.ask(bytes=size, how=how, repeats=repeats) for _ in range(rounds))

        return call

    latency, slope = line(fastest("there and back"), 64, 4_194_304)
    network = Network("shared memory", latency / 2, 2 / slope)
    _, work = line(fastest("no messages"), 64, 4_194_304)
    # A small mean is one message. Its time beyond the latency is a call.
    call = max(0.0, fastest("mean")(64) - network.latency)
    return Node("here", 0.0, 1.0, 0.0, call, work), network


def check_means(
    pair: Processes, node: Node, network: Network, rounds: int
) -> Iterator[tuple[str, ...]]:
    """Yield predicted and measured times of a mean over two processes."""
    for size in (1024, 16_384, 65_536, 262_144, 1_048_576, 4_194_304, 16_777_216):
        repeats = max(3, min(100, 4_000_000 // size))
        taken = [pair.ask(bytes=size, how="mean", repeats=repeats) for _ in range(rounds)]
        predicted = float(reduced(np.zeros(2), size, node, network).max())
        ratio = statistics.median(taken) / predicted
        micro = spread([1e6 * t for t in taken], ",.0f")
        yield f"{size:,}", f"{1e6 * predicted:,.0f}", micro, f"{ratio:.2f}"


def check_steps(
    one: Processes, pair: Processes, node: Node, network: Network, rounds: int
) -> Iterator[tuple[str, ...]]:
    """Yield predicted and measured steps of two processes: half of the rows, and a mean."""
    for name in ("tiny-100", "mnist-100", "mnist-512", "wide"):
        workload = shortened(WORKLOADS[name])
        half = workload._replace(batch_size=workload.batch_size // 2, rows=workload.rows // 2)
        taken: dict[str, list[float]] = {"one": [], "two": []}
        for processes, given in ((one, half), (pair, workload)):
            processes.ask(workload=given._asdict(), fast=False)
            processes.ask(epochs=1)
        for _ in range(rounds):
            taken["one"].append(one.ask(epochs=1) / half.steps)
            taken["two"].append(pair.ask(epochs=1) / workload.steps)
        mean = float(reduced(np.zeros(2), 4 * workload.parameters, node, network).max())
        predicted = statistics.median(taken["one"]) + mean
        cells = [spread([1e6 * t for t in values], ",.0f") for values in taken.values()]
        ratio = statistics.median(taken["two"]) / predicted
        yield (
            name, cells[0], f"{1e6 * mean:,.0f}", f"{1e6 * predicted:,.0f}", cells[1],
            f"{ratio:.2f}",
        )  # fmt: skip


def checked(rounds: int) -> list[str]:
    """Return the part of the page on two processes here."""
    with Processes(CONTENDERS["one"]) as one, Processes(CONTENDERS["two"]) as pair:
        node, network = calibrate(pair, rounds)
        means = list(check_means(pair, node, network, rounds))
        steps = list(check_steps(one, pair, node, network, rounds))
    return [
        "## Compared with two processes here",
        "",
        f"Measured: a message through shared memory takes {1e6 * network.latency:.1f} µs and "
        f"{network.bandwidth / 1e9:.1f} GB/s, each wait of minigd's {1e6 * node.call:.0f} µs, "
        f"copies and sums {1e9 * node.work:.2f} ns per byte of the gradient. With these "
        "four numbers:",
        "",
        *lines_of(
            ("bytes", "a mean, predicted, µs", "measured, µs", "measured over predicted"),
            iter(means),
        ),
        "A step of two processes is one with half of the rows, and a mean:",
        "",
        *lines_of(
            (
                "workload", "1 process, half of the rows, µs", "a mean, predicted, µs",
                "a step, predicted, µs", "measured, µs", "measured over predicted",
            ),
            iter(steps),
        ),
    ]  # fmt: skip


def main() -> None:
    """Simulate, draw, measure, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cost_model", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    load_before = load_of_others()
    draw(PICTURE)
    rates = [
        (n.name, f"{1e6 * n.latency:g}", f"{n.bandwidth / 1e9:g}")
        for n in (ETHERNET_10, ETHERNET_100, INFINIBAND, NVLINK)
    ]
    nodes = [
        (
            n.name, f"{1e6 * n.fixed:g}", f"{n.flops / 1e12:g}", f"{1e9 * n.update:g}",
            f"{1e6 * n.call:g}", f"{1e9 * n.work:.3g}",
        )
        for n in (CPU, GPU, DIRECT)
    ]  # fmt: skip
    head = tuple(f"784-{n}-{n}-10" for n in WIDTHS)
    page = [
        "# Where more processes pay",
        "",
        f"`{command('benchmarks.cost_model', sys.argv[1:])}`, {time.strftime('%Y-%m-%d')}.",
        "",
        f"- {describe()}; {ranks.versions()}; {load_before}",
        "",
        "The time of a step of N processes with a batch of b rows, P parameters in float32 and "
        "S = 4 P bytes is",
        "",
        "$$t = t_0 + \\frac{6\\,P\\,b}{N\\,F} + t_\\text{mean}(S, N) + u\\,P$$",
        "",
        "The mean takes two waits, with N − 1 blocks of S/N bytes each way in each, and copies "
        "and sums of S bytes. Up to 64 KB in total it takes one wait, in which each process gets "
        "everything. The rounds of messages are those of MPICH. In each step, a process is up to 5 "
        "% late.",
        "",
        *lines_of(("network", "latency, µs", "GB/s each way"), iter(rates)),
        *lines_of(
            ("process", "t₀, µs", "F, Tflop/s", "u, ns", "a wait, µs", "copies, ns per byte"),
            iter(nodes),
        ),
        "Rates are nominal, and so are waits of 50 µs. Copies are rounded up from 0.2 to 1.0 ns of "
        "processor time per byte here. Measured times are below.",
        "",
        "![Speed-up against the number of processes for three networks and batch sizes; most lines "
        "flatten or fall long before 1,024](../../docs/images/cost_model.png)",
        "",
    ]  # fmt: skip
    for processes in (8, 64):
        page += [
            f"## {processes} processes",
            "",
            "The smallest total batch size, in powers of 2, with which "
            f"{processes} are faster than one, and {processes // 2} times as fast as one. *Never* "
            "is beyond 2²⁶.",
            "",
            *lines_of(("network", "process", *head), where_it_pays(processes)),
        ]
    page += checked(options.rounds)
    text = "\n".join(page).rstrip() + "\n"
    print(text)
    RESULTS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
