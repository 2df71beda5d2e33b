"""The demonstration: the cost of batch sizes 1 and 100, and a classifier of real digits.

It needs scikit-learn for the data and Matplotlib for the picture, but no download.
"""

import contextlib
import os
from typing import Any, NamedTuple

import numpy as np

from minigd.backends.on_demand import optional
from minigd.cli.output import show
from minigd.cli.paths import check_picture, save_picture
from minigd.data.batches import Batches
from minigd.insight.plots import plot_decision_boundary
from minigd.insight.plots.axes import COLORS, LINES
from minigd.nn.layers import Dense, ReLU, Sigmoid, Softmax, Tanh
from minigd.nn.sequential import Sequential
from minigd.optim.updaters import Adam
from minigd.progress import RowProgress
from minigd.training.events import Event
from minigd.training.history import History
from minigd.training.trainer import Trainer
from minigd.types import Array


class Run(NamedTuple):
    """One row of the table: a model trained in one way, and its results."""

    label: str
    model: Sequential
    history: History
    updates: int
    rows: int
    loss: float
    accuracy: float

    @property
    def seconds(self) -> float:
        """Seconds of training, without evaluation."""
        return sum(self.history["seconds"])


def main(picture: str | os.PathLike[str] = "minigd-demo.png") -> None:
    """Run the demonstration, print its tables, and save its picture."""
    datasets = optional("sklearn.datasets", "the demo")
    model_selection = optional("sklearn.model_selection", "the demo")
    figures = optional("matplotlib.figure", "the demo")

    check_picture(picture)
    X, y = datasets.make_gaussian_quantiles(
        n_samples=2000, n_features=2, n_classes=2, random_state=3, cov=0.1
    )
    runs = quantiles(X, y)
    digits_X, digits_y = datasets.load_digits(return_X_y=True)
    digits(
        *model_selection.train_test_split(
            digits_X / 16, digits_y, test_size=360, stratify=digits_y, random_state=0
        )
    )
    figure = figures.Figure(figsize=(11, 4.6), layout="constrained")
    draw(figure, runs, X, y)
    save_picture(figure, picture, dpi=120)
    show(f"\npicture: {os.path.abspath(picture)}")


def quantiles(X: Array, y: Array) -> list[Run]:
    """Train a 2-10-10-1 network with batch size 1 and 100, for equal epochs, seconds, updates."""
    show("1. Two Gaussian quantiles, 2-10-10-1 network: batch size 1 against batch size 100")
    show("   1120 rows to train on, 280 to validate, 600 to test; Adam, binary cross-entropy\n")
    show(f"{'':38} {'updates':>8} {'rows seen':>10} {'seconds':>8} {'loss':>7} {'test acc.':>9}")
    runs: list[Run] = []

    def add(label: str, **how: Any) -> Run:
        run = train(X, y, label, **how)
        show(
            f"{run.label:38} {run.updates:8,} {run.rows:10,} {run.seconds:8.2f} {run.loss:7.4f} "
            f"{run.accuracy:8.1%}"
        )
        runs.append(run)
        return run

    one = add("batch 1, 10 epochs", batch_size=1, epochs=10)
    hundred = add("batch 100, 10 epochs", epochs=10)
    add("batch 100, as many seconds as batch 1", seconds=one.seconds)
    add("batch 100, as many updates as batch 1", updates=one.updates)
    show(
        f"\n   10 epochs with batch 100 are quick because they make {hundred.updates} updates, not "
        f"{one.updates:,}\n   as with batch 1. The loss is that of the validation rows at the end."
    )
    return runs


def train(
    X: Array,
    y: Array,
    label: str,
    batch_size: int = 100,
    epochs: int | None = None,
    seconds: float | None = None,
    updates: int | None = None,
) -> Run:
    """Train the network of the tutorial for some epochs, seconds or updates."""
    layers = [Dense(10), Tanh(), Dense(10), Tanh(), Dense(1), Sigmoid()]
    model = Sequential(layers, inputs=2, seed=0)
    trainer = Trainer(model, "binary_crossentropy", Adam(), metrics=["accuracy"])
    batches = Batches(X[:1120], y[:1120], batch_size=batch_size, shuffle=True, seed=0)

    bar = RowProgress(f"training with {label}", epochs and epochs * 1120)

    def tick(event: Event) -> None:
        if event.x is not None:
            bar.advance(len(event.x))
        if seconds is not None and event.name == "epoch":
            if sum(event.trainer.history["seconds"]) >= seconds:
                event.trainer.stop()
        if updates is not None and event.trainer.updates >= updates:
            event.trainer.stop()

    with contextlib.closing(bar):
        trainer.fit(batches, epochs=epochs or 1_000_000, callbacks=[tick])
    return Run(
        label=label,
        model=model,
        history=trainer.history,
        updates=trainer.updates,
        rows=trainer.epoch * 1120 + sum(batches.sizes[: trainer.updates % len(batches)]),
        loss=trainer.evaluate(X[1120:1400], y[1120:1400])["loss"],
        accuracy=trainer.evaluate(X[1400:], y[1400:])["accuracy"],
    )


def digits(X: Array, X_test: Array, y: Array, y_test: Array) -> float:
    """Train a classifier of handwritten digits and return its accuracy on the test rows."""
    batches = Batches(X, y, batch_size=100, shuffle=True, seed=0)
    show("\n2. Handwritten digits, 64-128-10 network, ReLU and softmax")
    show(f"   {len(X)} rows in batches of {batches.sizes}\n")
    layers = [Dense(128, "he_normal"), ReLU(), Dense(10), Softmax()]
    model = Sequential(layers, inputs=64, seed=0)
    trainer = Trainer(model, "categorical_crossentropy", Adam(0.003), metrics=["accuracy"])
    trainer.fit(batches, epochs=40, progress=True)
    accuracy = trainer.evaluate(X_test, y_test)["accuracy"]
    show(f"   accuracy on {len(X_test)} rows it has not seen: {accuracy:.1%}")
    return accuracy


def draw(figure: Any, runs: list[Run], X: Array, y: Array) -> None:
    """Draw the decision boundary of the last run next to the loss of all runs."""
    left, right = figure.subplots(1, 2)
    plot_decision_boundary(runs[-1].model, X[1400:], y[1400:], ax=left)
    left.set_aspect("equal")
    left.set_title(f"P(y = 1), test rows\n{runs[-1].label}")

    for i, run in enumerate(runs):
        seconds, loss = np.cumsum(run.history["seconds"]), run.history["loss"]
        right.plot(seconds, loss, LINES[i], color=COLORS[i], label=run.label)
        right.plot(seconds[-1], loss[-1], "o", color=COLORS[i])
    right.set(
        title="Loss of each epoch", xlabel="seconds of training", ylabel="binary cross-entropy",
        xscale="log", yscale="log",
    )  # fmt: skip
    right.legend(fontsize="small")
    right.yaxis.set_major_formatter("{x:g}")
    right.yaxis.set_minor_formatter("{x:g}")
    right.grid(alpha=0.3)
