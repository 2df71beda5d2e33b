"""King County housing, streamed 100 rows per batch into a linear model, beside the closed form.

The tutorial's own loop, one pass in chunks of 100 rows over the numbers as they are, stands beside
it: `python benchmarks/tutorials/housing.py PATH`, where PATH is `kc_house_data.csv`, from
https://www.kaggle.com/datasets/harlfoxem/housesalesprediction.
"""

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.append(str(Path(__file__).parents[1]))
from environment import describe
from measure import megabytes, table, with_memory

import minigd as gd


class Result(NamedTuple):
    """What came of one way to fit the line."""

    updates: int | str
    seconds: float
    error: float
    r2: float
    slope: np.ndarray
    intercept: float
    names: list[str]


def open_source(path: Path, features: list[str] | None) -> gd.CsvSource:
    return gd.CsvSource(path, target="price", features=features, exclude=["id", "date"])


def parts(path: Path, features: list[str] | None) -> tuple[gd.CsvSource, ...]:
    """Return the rows to train on, those held out (one in five), and the whole."""
    source = open_source(path, features)
    return *source.split(0.2, seed=0), source


def judge(held_out, slope: np.ndarray, intercept: float) -> tuple[float, float]:
    """Return mean absolute error and R² on the rows held out."""
    x, y = held_out.take(slice(0, held_out.rows))
    error = y - (x.astype(np.float64) @ slope + intercept)
    return float(np.abs(error).mean()), float(1 - (error**2).sum() / ((y - y.mean()) ** 2).sum())


def streamed(
    path: Path, features: list[str] | None, batch_size: int | None, epochs: int, rate: float
) -> Result:
    """Train with Adam; the last third of the epochs at a tenth, then a hundredth of the rate."""
    started = time.perf_counter()
    train, held_out, source = parts(path, features)
    batches = gd.Batches(train, batch_size=batch_size, shuffle=True, seed=0)
    layers = [gd.Standardize(), gd.Dense(1), gd.Rescale()]
    model = gd.Sequential(layers, inputs=len(source.names), seed=0)
    model.adapt(batches)
    trainer = gd.Trainer(model, gd.MeanSquaredError(), gd.Adam(rate))
    trainer.fit(batches, epochs=epochs - epochs // 3)
    # Adam at a constant rate goes on wandering about the minimum: small steps settle it.
    for factor, some in ((0.1, epochs // 3 - epochs // 6), (0.01, epochs // 6)):
        trainer.updater.learning_rate = rate * factor
        trainer.fit(epochs=some)
    slope, intercept = gd.coefficients(model)
    seconds = time.perf_counter() - started
    measured = judge(held_out, slope[:, 0], intercept[0])
    return Result(trainer.updates, seconds, *measured, slope[:, 0], intercept[0], source.names)


def closed_form(path: Path, features: list[str] | None) -> Result:
    """Fit scikit-learn's line to the same rows, all in memory."""
    from sklearn.linear_model import LinearRegression

    started = time.perf_counter()
    train, held_out, source = parts(path, features)
    x, y = train.take(slice(0, train.rows))
    line = LinearRegression().fit(x.astype(np.float64), y)
    seconds = time.perf_counter() - started
    measured = judge(held_out, line.coef_, line.intercept_)
    return Result("-", seconds, *measured, line.coef_, line.intercept_, source.names)


def as_the_tutorial(path: Path, features: list[str] | None) -> Result:
    """Take one pass over all rows in chunks of 100, unscaled, with Adam's own rate.

    The chunks are pandas', the line starts at intercept 10 and slope 0.5, and the rows held out
    elsewhere are trained on here.
    """
    import pandas as pd

    started = time.perf_counter()
    names = features or [c for c in pd.read_csv(path, nrows=0) if c not in ("id", "date", "price")]
    model = gd.Sequential([gd.Dense(1)], inputs=len(names), seed=0)
    model.params["dense1.W"][...], model.params["dense1.b"][...] = 0.5, 10.0
    trainer = gd.Trainer(model, gd.MeanSquaredError(), gd.Adam())
    for chunk in pd.read_csv(path, chunksize=100):
        trainer.step(chunk[names].to_numpy(np.float32), chunk["price"].to_numpy(np.float32))
    slope, intercept = gd.coefficients(model)
    seconds = time.perf_counter() - started
    _, held_out, _ = parts(path, features)
    measured = judge(held_out, slope[:, 0], intercept[0])
    return Result(trainer.updates, seconds, *measured, slope[:, 0], intercept[0], names)


def compare(path: Path, features: list[str] | None, epochs: int) -> None:
    """Print the table for some features, and the line that each way found."""
    ways: dict[str, Callable[[], Result]] = {
        "scikit-learn, closed form, all rows in memory": partial(closed_form, path, features),
        f"minigd, 100 rows per batch, {epochs} epochs": partial(
            streamed, path, features, 100, epochs, 0.01
        ),
        f"minigd, all rows per batch, {epochs} epochs": partial(
            streamed, path, features, None, epochs, 0.01
        ),
        f"minigd, all rows per batch, {20 * epochs} epochs": partial(
            streamed, path, features, None, 20 * epochs, 0.01
        ),
        "the tutorial's loop: one pass, file order, unscaled": partial(
            as_the_tutorial, path, features
        ),
    }
    results: dict[str, Result] = {}
    rows = []
    for name, way in ways.items():
        result, before, peak = with_memory(way)
        results[name] = result
        best = next(iter(results.values()))
        rows.append((
            name, result.updates, f"{result.seconds:.1f}", f"{result.error:,.0f}",
            f"{result.error / best.error - 1:+.2%}", f"{result.r2:.4f}",
            f"{result.r2 / best.r2 - 1:+.2%}", megabytes(before), megabytes(peak),
        ))  # fmt: skip
    table(
        ["way", "updates", "seconds", "mean abs. error, $", "against closed form", "R²",
         "against closed form", "memory before, MB", "peak, MB"],
        rows,
    )  # fmt: skip
    lines = list(results.values())
    table(
        ["dollars per unit", *results],
        [
            ("intercept", *(f"{line.intercept:,.2f}" for line in lines)),
            *(
                (name, *(f"{line.slope[i]:,.2f}" for line in lines))
                for i, name in enumerate(lines[0].names)
            ),
        ],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path)
    parser.add_argument("--epochs", type=int, default=30)
    options = parser.parse_args()
    print(describe())
    print(
        "price on the columns named; mean absolute error and R² on the fifth of the rows held out; "
        "each way in its own process, anonymous resident memory\n"
    )
    print("## One column: living area\n")
    compare(options.path, ["sqft_living"], options.epochs)
    print("## All 18 columns of numbers\n")
    compare(options.path, None, options.epochs)
    print(
        "`sqft_living` is `sqft_above` + `sqft_basement` in every row, so their slopes can be "
        "shifted against each other without changing the predictions."
    )


if __name__ == "__main__":
    main()
