"""Kill one of several processes in the midst of a run, again and again, and go on with others.

`python -m benchmarks.kill_a_rank --trials 20` needs mpi4py, and mpiexec on the path. Each trial
starts some processes, kills one at a moment drawn at random, and takes the time until all have
ended; another number of processes then ends the run, which must come to the parameters of a run
that was never killed.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import minigd as gd

EPOCHS, SECONDS, TOLERANCE = 6, 10.0, 1e-9


def train(path: str) -> None:
    """Train as one of several processes, from the checkpoint if there is one."""
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    Path(f"{path}.{comm.Get_rank()}").write_text(str(os.getpid()))
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2000, 10))
    batches = gd.Batches(X, X[:, 0] * X[:, 1], 32, shuffle=True)
    if os.path.exists(path):
        trainer = gd.Trainer.resume(path, batches, comm=comm)
    else:
        layers = [gd.Dense(20), gd.BatchNorm(), gd.Tanh(), gd.Dropout(0.1), gd.Dense(1)]
        model = gd.Sequential(layers, inputs=10, dtype="float64")
        trainer = gd.Trainer(model, "mse", gd.SGD(0.01, momentum=0.9), accumulate=2, comm=comm)
    trainer.fit(batches, until_epoch=EPOCHS, callbacks=[gd.Checkpoint(path, every_updates=7)])


def start(ranks: int, path: Path) -> subprocess.Popen[str]:
    """Start so many processes on a checkpoint."""
    words = [sys.executable, "-m", "benchmarks.kill_a_rank", "--child", str(path)]
    return subprocess.Popen(
        ["mpiexec", "-n", str(ranks), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def finished(ranks: int, path: Path) -> np.ndarray:
    """Let so many processes end a run, and return its parameters."""
    process = start(ranks, path)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    return gd.Trainer.resume(path).model.flat_params


def trial(folder: Path, number: int, expected: np.ndarray, draw: random.Random) -> None:
    """Kill one process of a run, and let another number of them go on."""
    path, ranks, after = folder / f"{number}.npz", draw.randint(2, 4), draw.randint(1, 4)
    process = start(ranks, path)
    while not path.exists():
        time.sleep(0.01)
    time.sleep(draw.uniform(0, 1))
    pid = int(Path(f"{path}.{draw.randrange(ranks)}").read_text())
    os.kill(pid, signal.SIGKILL)
    killed = time.monotonic()
    said = "".join(process.communicate())  # MPICH's mpiexec speaks on standard output
    seconds, code = time.monotonic() - killed, process.returncode
    held = gd.Trainer.resume(path).updates
    away = float(abs(finished(after, path) - expected).max())
    print(
        f"{number}: 1 of {ranks} killed after {held:,} updates or more; all ended in {seconds:.1f} "
        f"s with code {code}; {after} went on to parameters {away:.1e} away",
        flush=True,
    )
    assert code != 0
    assert said.strip()
    assert seconds < SECONDS
    assert away < TOLERANCE


def main() -> None:
    """Run the trials."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--trials", type=int, default=20)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--child", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.child:
        train(given.child)
        return
    draw = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as folder:
        expected = finished(2, Path(folder, "whole.npz"))
        for number in range(given.trials):
            trial(Path(folder), number, expected, draw)


if __name__ == "__main__":
    main()
