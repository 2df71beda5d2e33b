"""The feed loop by hand, and two claims about it measured on scikit-learn's digits.

That batches generalise better, and that the learning rate must go with the batch size:
`python benchmarks/tutorials/feed_loop.py` trains a grid of both, for equal epochs and for equal
updates, and prints what came out.
"""

import argparse
import statistics
import sys
from collections.abc import Mapping
from itertools import product
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parents[1]))
from environment import describe
from measure import table
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import minigd as gd

SIZES = (1, 10, 100, None)
RATES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
Run = tuple[float, float]  # training loss of the last epoch, test accuracy; NaN where it diverged
Grid = dict[tuple[int | None, float], list[Run]]  # by seed
Data = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def train(data: Data, size: int | None, rate: float, seed: int, epochs: int, updates: int) -> Run:
    """Return the mean loss of the last epoch, and the accuracy on the test rows."""
    X, X_test, y, y_test = data
    layers = [gd.Dense(64, "he_normal"), gd.ReLU(), gd.Dense(10)]  # ends in logits
    model = gd.Sequential(layers, inputs=64, seed=seed)
    loss = gd.CategoricalCrossEntropy(from_logits=True)
    updater = gd.SGD(rate)
    batches = gd.Batches(X, y, batch_size=size, shuffle=True, seed=seed)  # the tail is kept
    done, mean = 0, np.nan
    for _ in range(epochs):
        total = rows = 0
        for x, labels in batches:
            z = model.forward(x, train=True)
            value = float(loss.forward(z, labels))  # mean over the batch
            if not np.isfinite(value):
                return np.nan, np.nan
            total += value * len(x)  # a short batch counts for its rows
            rows += len(x)
            model.backward(loss.backward())
            updater.update(model)
            done += 1
            if done == updates:
                break
        mean = total / rows
        if done == updates:
            break
    return mean, float((model.predict(X_test).argmax(axis=1) == y_test).mean())


def grid(seeds: int, epochs: int, updates: int = -1) -> Grid:
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32)
    results: Grid = {key: [] for key in product(SIZES, RATES)}
    for seed in range(seeds):
        data = train_test_split(X, y, test_size=0.2, stratify=y, random_state=seed)
        for size, rate in results:
            with np.errstate(all="ignore"):
                results[size, rate].append(train(data, size, rate, seed, epochs, updates))
    return results


def name(size: int | None) -> str:
    return "all" if size is None else str(size)


def said(size: int | None) -> str:
    return "the full batch" if size is None else f"batch size {size}"


def accuracy(runs: list[Run]) -> float:
    """Return the median; a run that diverged counts as the worst."""
    return statistics.median(-1.0 if np.isnan(value) else value for _, value in runs)


def cell(runs: list[Run]) -> str:
    lost = sum(np.isnan(value) for _, value in runs)
    if accuracy(runs) < 0:
        return "diverged"
    return f"{accuracy(runs):.1%}" + (f" ({lost} diverged)" if lost else "")


def show(results: Grid) -> dict[int | None, float]:
    """Print the grid, and return the best rate of each size."""
    best = {s: max(RATES, key=lambda rate, s=s: accuracy(results[s, rate])) for s in SIZES}
    rows = []
    for size in SIZES:
        runs = results[size, best[size]]
        values = [value for _, value in runs]
        rows.append((
            name(size), *(cell(results[size, rate]) for rate in RATES), f"{best[size]:g}",
            f"{np.nanmin(values):.1%} to {np.nanmax(values):.1%}",
            f"{statistics.median(loss for loss, _ in runs):.4f}",
        ))  # fmt: skip
    table(["batch size", *(f"rate {rate:g}" for rate in RATES), "best rate", "seeds at it",
           "training loss at it"], rows)  # fmt: skip
    return best


def conclude(what: str, results: Grid, best: Mapping[int | None, float]) -> None:
    """Print in sentences what the numbers of a grid say of the two claims."""
    at_best = {size: results[size, best[size]] for size in SIZES}
    top = max(SIZES[:-1], key=lambda size: accuracy(at_best[size]))
    gaps = [a - b for (_, a), (_, b) in zip(at_best[top], at_best[None], strict=True)]
    wins = sum(gap > 0 for gap in gaps)
    losses = [statistics.median(loss for loss, _ in at_best[size]) for size in (top, None)]
    ahead = statistics.median(gaps)
    verdict = "no" if ahead <= 0 else "yes" if wins == len(gaps) else "not with every seed"
    reason = (
        "but it also fits the training rows better: the full batch has only been trained less"
        if losses[0] < losses[1] / 2
        else "and the training losses are similar, so it is a matter of generalization"
        if losses[0] < losses[1] * 2
        else "though the full batch fits the training rows better"
    )
    print(
        f"After equal {what}:\n\n"
        f"- Smaller batches generalize better: {verdict}. Each at its own best rate, batch size "
        f"{name(top)} reaches {accuracy(at_best[top]):.1%} and the full batch "
        f"{accuracy(at_best[None]):.1%}; it is better with {wins} of {len(gaps)} seeds, by "
        f"{100 * ahead:.1f} points in the median. Training loss: "
        f"{losses[0]:.4f} and {losses[1]:.4f}" + (f", {reason}." if ahead > 0 else ".")
    )
    order = [best[size] for size in SIZES]
    grows = order == sorted(order) and order[0] < order[-1]
    print(
        f"- The rate must go with the batch size: {'yes' if grows else 'not throughout'}. Best are "
        f"{', '.join(f'{best[size]:g} for {name(size)}' for size in SIZES)}: from 1 row to 100 the "
        f"rate grows by a factor of {best[100] / best[1]:.3g}, and not by 100."
    )
    carried = {size: results[size, best[1]] for size in SIZES}
    lost = {size: accuracy(at_best[size]) - accuracy(carried[size]) for size in SIZES}
    worst = max(SIZES, key=lambda size: lost[size])
    print(
        f"- One rate for all: that of batch size 1 costs {said(worst)} "
        f"{100 * lost[worst]:.1f} points; that of the full batch leaves batch size 1 at "
        f"{cell(results[1, best[None]])}.\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--updates", type=int, default=1500)
    options = parser.parse_args()
    print(describe())
    print(
        "64-64-10 network, ReLU, plain SGD; 1,437 rows to train on and 360 to test; test accuracy, "
        f"median of {options.seeds} seeds\n"
    )
    print(f"## {options.epochs} epochs each\n")
    epochs = grid(options.seeds, options.epochs)
    best_by_epochs = show(epochs)
    print(f"## {options.updates:,} updates each\n")
    updates = grid(options.seeds, options.updates, options.updates)
    best_by_updates = show(updates)
    print("## What came out\n")
    conclude("epochs", epochs, best_by_epochs)
    conclude("updates", updates, best_by_updates)


if __name__ == "__main__":
    main()
