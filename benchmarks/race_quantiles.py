"""Batch sizes by time, on the network of tutorial 2, which called batch size 100 faster.

Prints the tables, for the loss on training rows and on rows held out, and draws the curves.
"""

# First, because it starts Python anew before NumPy is loaded, if BLAS was pinned.
from benchmarks.environment import describe  # isort: skip

import argparse
import time
from pathlib import Path

from sklearn.datasets import make_gaussian_quantiles

import minigd as gd

ROOT = Path(__file__).parent.parent


def build(seed: int) -> gd.Sequential:
    """Return the tutorial's network."""
    layers = [gd.Dense(10), gd.Tanh(), gd.Dense(10), gd.Tanh(), gd.Dense(1), gd.Sigmoid()]
    return gd.Sequential(layers, inputs=2, seed=seed)


def main() -> None:
    """Print the page, and save its picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="of training, each run")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--images", type=Path, default=ROOT / "docs" / "images")
    options = parser.parse_args()
    X, y = make_gaussian_quantiles(
        n_samples=2000, n_features=2, n_classes=2, random_state=3, cov=0.1
    )
    rows, held_out = (X[:1120], y[:1120]), (X[1400:], y[1400:])
    found = gd.race(
        build,
        rows,
        [1, 10, 100, 500, None],
        seconds=options.seconds,
        tuning=5 * options.seconds,
        seeds=options.seeds,
        validation_data=held_out,
        progress=True,
    )
    print("# Batch sizes by time\n")
    print(f"`python -m benchmarks.race_quantiles`, {time.strftime('%Y-%m-%d')}\n\n{describe()}\n")
    print(
        "2-10-10-1, tanh, Adam, 1,120 rows of two Gaussian quantiles; the loss is taken over 600 "
        "rows held out\n"
    )
    for target in (None, 0.1):
        print(f"```text\n{found if target is None else found.at(target)}\n```\n")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4), layout="constrained")
    axes = figure.subplots(1, 3, sharey=True)
    for ax, against in zip(axes, ("seconds", "rows", "updates"), strict=True):
        found.plot(against, ax=ax)
        ax.get_legend().remove()
        if ax is not axes[0]:
            ax.set_ylabel("")
    lines = [line for line in axes[0].get_lines() if line.get_label().startswith("batch")]
    figure.legend(handles=lines, loc="outside lower center", ncols=len(lines))
    figure.savefig(options.images / "race.png", dpi=120)


if __name__ == "__main__":
    main()
