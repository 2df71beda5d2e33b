"""Two Gaussian quantiles: batch size 1, 100 and all rows, by the epoch and by the loss reached.

The tutorial gave each batch size the same ten epochs at the same rate, and compared seconds:
`python benchmarks/tutorials/quantiles.py` does that first, and then trains each one to a loss.
"""

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.append(str(Path(__file__).parents[1]))
from environment import describe
from measure import spread, table
from sklearn.datasets import make_gaussian_quantiles

import minigd as gd

SIZES = {"1": 1, "100": 100, "all": None}
RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)


class Run(NamedTuple):
    """One training run."""

    epochs: int
    updates: int
    seconds: float
    loss: float
    accuracy: float
    reached: bool
    model: gd.Sequential


def train(
    size: int | None, rate: float, seed: int, epochs: int, goal: float = 0.0, most: float = np.inf
) -> Run:
    """Train for some epochs, or until the loss on the validation rows is the goal."""
    X, y = make_gaussian_quantiles(
        n_samples=2000, n_features=2, n_classes=2, cov=0.1, random_state=seed
    )
    layers = [gd.Dense(10), gd.Tanh(), gd.Dense(10), gd.Tanh(), gd.Dense(1), gd.Sigmoid()]
    model = gd.Sequential(layers, inputs=2, seed=seed)
    trainer = gd.Trainer(model, "binary_crossentropy", gd.Adam(rate), metrics=["accuracy"])
    batches = gd.Batches(X[:1120], y[:1120], batch_size=size, shuffle=True, seed=seed)
    validation = gd.Batches(X[1120:1400], y[1120:1400], batch_size=None)

    def enough(event: gd.Event) -> None:
        if event.name == "epoch":
            reached = goal and event.trainer.history["val_loss"][-1] <= goal
            if reached or sum(event.trainer.history["seconds"]) > most:
                event.trainer.stop()

    history = trainer.fit(
        batches, epochs=epochs, validation_data=validation, callbacks=[enough] if goal else []
    )
    loss = history["val_loss"][-1]
    accuracy = trainer.evaluate(X[1400:], y[1400:])["accuracy"]
    seconds = sum(history["seconds"])
    return Run(trainer.epoch, trainer.updates, seconds, loss, accuracy, loss <= goal, model)


def ten_epochs(seeds: range) -> None:
    rows = []
    for name, size in SIZES.items():
        runs = [train(size, 0.001, seed, epochs=10) for seed in seeds]
        rows.append((
            name, runs[0].updates, spread([1000 * r.seconds / 10 for r in runs], ".1f"),
            spread([1e6 * r.seconds / r.updates for r in runs], ".0f"),
            spread([r.loss for r in runs], ".3f"), spread([r.accuracy for r in runs], ".1%"),
        ))  # fmt: skip
    table(["batch size", "updates", "milliseconds per epoch", "microseconds per update",
           "validation loss", "test accuracy"], rows)  # fmt: skip


def to_a_loss(seeds: range, goal: float, most: float, rates: Sequence[float]) -> None:
    """Print the seconds to the goal, at the rate of those given that was quickest."""
    rows = []
    for name, size in SIZES.items():
        tried = {}
        for rate in rates:
            tried[rate] = [train(size, rate, seed, 1_000_000, goal, most) for seed in seeds]

        def slowness(rate: float, tried: dict[float, list[Run]] = tried) -> tuple[int, float]:
            missed = sum(not run.reached for run in tried[rate])
            return missed, statistics.median(run.seconds for run in tried[rate])

        rate = min(tried, key=slowness)
        runs = tried[rate]
        reached = sum(run.reached for run in runs)
        rows.append((
            name, rate, f"{reached} of {len(runs)}", spread([r.seconds for r in runs], ".3f"),
            spread([r.epochs for r in runs], ".0f"), spread([r.updates for r in runs], ".0f"),
            spread([r.accuracy for r in runs], ".1%"),
        ))  # fmt: skip
    table(["batch size", "rate", "reached by", "seconds", "epochs", "updates", "test accuracy"],
          rows)  # fmt: skip


def draw(path: Path, goal: float, most: float) -> None:
    """Save the decision boundaries after ten epochs (above) and at the goal (below)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.subplots(2, 3, sharex=True, sharey=True)
    X, y = make_gaussian_quantiles(
        n_samples=2000, n_features=2, n_classes=2, cov=0.1, random_state=0
    )
    line = np.linspace(-1.2, 1.2, 150)
    grid = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    for column, (name, size) in enumerate(SIZES.items()):
        runs = train(size, 0.001, 0, 10), train(size, 0.01, 0, 1_000_000, goal, most)
        for row, run in enumerate(runs):
            p = run.model.predict(grid).reshape(150, 150)
            plot = axes[row][column]
            plot.contourf(line, line, p, levels=np.linspace(0, 1, 11), cmap="cividis")
            plot.contour(line, line, p, levels=[0.5], colors="white")
            for label, marker, color in ((0, "o", "white"), (1, "^", "black")):
                plot.scatter(*X[1400:][y[1400:] == label].T, s=5, marker=marker, c=color)
            plot.set_aspect("equal")
            plot.set_title(f"batch {name}, {run.updates:,} updates\n{run.accuracy:.1%}")
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--goal", type=float, default=0.15, help="validation loss to reach")
    parser.add_argument("--most", type=float, default=10.0, help="seconds after which to give up")
    parser.add_argument("--picture", type=Path, help="where to save the decision boundaries")
    options = parser.parse_args()
    seeds = range(options.seeds)
    print(describe())
    print(
        "2-10-10-1 network of tanh, 1,120 rows to train on, 280 to validate, 600 to test; Adam; "
        f"{options.seeds} seeds, each with its own data: median (smallest to largest)\n"
    )
    print("## Ten epochs each at the rate 0.001, as in the tutorial\n")
    ten_epochs(seeds)
    print(f"## To a validation loss of {options.goal:g}, at the rate 0.001\n")
    to_a_loss(seeds, options.goal, options.most, [0.001])
    print(f"## To the same loss, each at the quickest rate of {', '.join(map(str, RATES))}\n")
    to_a_loss(seeds, options.goal, options.most, RATES)
    print(
        "The loss is evaluated after each epoch, and the seconds do not include this. So the "
        "earliest result for batch size 1 is after 1,120 updates."
    )
    if options.picture:
        draw(options.picture, options.goal, options.most)


if __name__ == "__main__":
    main()
