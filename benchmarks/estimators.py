"""The estimators and the shell with their defaults, and scikit-learn's models, on small data.

`python benchmarks/estimators.py` uses the data sets that scikit-learn contains or draws. `--data
FOLDER` adds each CSV file of a folder, with the target in the last column. A random quarter of the
rows is held out, and accuracy or R² is measured on it. Columns are standardized for all models.
"shell" is `minigd train` on the rows as a CSV file.
"""

import argparse
import csv
import statistics
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from environment import describe
from measure import spread, table
from sklearn import datasets
from sklearn.base import BaseEstimator
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from table_scores import TEST_SHARE, arrays, peers, run

import minigd as gd

HIDDEN = (100,)
"""The only setting: scikit-learn's default for an MLP."""

ROWS = 1_000  # of a random data set


class Data(NamedTuple):
    """Rows with a target, and whether it is a class."""

    x: Any
    y: Any
    classify: bool


def drawn(make: Callable[..., Any], classify: bool, **settings: Any) -> Data:
    """Return random rows of scikit-learn, always the same."""
    x, y = make(random_state=0, **settings)
    return Data(x, y, classify)


def loaded(name: str, classify: bool) -> Data:
    """Return one of the data sets that are part of scikit-learn."""
    return Data(*getattr(datasets, f"load_{name}")(return_X_y=True), classify)


def of_file(path: Path) -> Data:
    """Return the rows of a CSV file, whose last column is the target."""
    with open(path, encoding="utf-8", newline="") as file:
        *_, target = next(csv.reader(file))
    source = gd.CsvSource(path, target=target, missing="flag")
    return Data(*arrays(source), source.classes is not None)


def brought() -> dict[str, Callable[[], Data]]:
    """Return data sets that need no network, by name: six real ones and eighteen random ones."""
    classes = partial(drawn, datasets.make_classification, True, n_samples=ROWS)
    numbers = partial(drawn, datasets.make_regression, False, n_samples=ROWS)
    digits = loaded("digits", classify=True)
    return {
        **{n: partial(loaded, n, True) for n in ("iris", "wine", "breast_cancer", "digits")},
        "diabetes": partial(loaded, "diabetes", False),
        "digits, their value": lambda: digits._replace(y=digits.y.astype(float), classify=False),
        "two classes": partial(classes),
        "two classes, noisy": partial(classes, flip_y=0.3),
        "two classes, rare": partial(classes, weights=[0.95]),
        "two classes, 100 columns": partial(classes, n_features=100),
        "two classes, clusters": partial(classes, n_informative=8, n_clusters_per_class=8),
        "five classes": partial(classes, n_informative=8, n_classes=5),
        "moons": partial(drawn, datasets.make_moons, True, n_samples=ROWS, noise=0.25),
        "circles": partial(drawn, datasets.make_circles, True, n_samples=ROWS, noise=0.15),
        "blobs": partial(drawn, datasets.make_blobs, True, n_samples=ROWS, cluster_std=4.0),
        "quantiles": partial(drawn, datasets.make_gaussian_quantiles, True, n_samples=ROWS),
        "Hastie": partial(drawn, datasets.make_hastie_10_2, True, n_samples=ROWS),
        "linear": partial(numbers, n_features=20, noise=20.0),
        "linear, 100 columns": partial(numbers, n_features=100, noise=20.0),
        "sparse": partial(drawn, datasets.make_sparse_uncorrelated, False, n_samples=ROWS),
        "Friedman 1": partial(drawn, datasets.make_friedman1, False, n_samples=ROWS, noise=1.0),
        "Friedman 2": partial(drawn, datasets.make_friedman2, False, n_samples=ROWS, noise=50.0),
        "Friedman 3": partial(drawn, datasets.make_friedman3, False, n_samples=ROWS, noise=0.1),
        "S curve": partial(drawn, datasets.make_s_curve, False, n_samples=ROWS, noise=0.1),
    }


class Shell(BaseEstimator):
    """`minigd train` with its defaults, on rows in a CSV file."""

    def __init__(self, classify: bool, seed: int) -> None:
        self.classify, self.seed = classify, seed

    def fit(self, x: Any, y: Any) -> "Shell":
        """Train by the command."""
        task = "classification" if self.classify else "regression"
        with tempfile.TemporaryDirectory() as folder:
            rows, out = f"{folder}/rows.csv", f"{folder}/model.npz"
            with open(rows, "w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file)
                writer.writerow([*columns(x), "y"])
                writer.writerows([*row, target] for row, target in zip(x, y, strict=True))
            words = ["train", rows, "--target", "y", "--task", task, "--seed", str(self.seed)]
            told = run([*words, "--out", out])
            if told.code:
                raise SystemExit(told.said)
            self.model_ = gd.load_table(out)
        return self

    def score(self, x: Any, y: Any) -> float:
        """Return accuracy or R²."""
        found = self.model_.predict(columns(x)).astype(float)
        return accuracy_score(y.astype(float), found) if self.classify else r2_score(y, found)


def columns(x: Any) -> dict[str, Any]:
    """Return the columns of a table, by name."""
    return {f"x{i}": column for i, column in enumerate(x.T)}


def contenders(classify: bool, seed: int) -> dict[str, Any]:
    """Return the models of either kind of target."""
    kind = gd.MiniBatchClassifier if classify else gd.MiniBatchRegressor
    own = {"minigd": kind(HIDDEN, random_state=seed), "minigd, linear": kind(random_state=seed)}
    piped = {name: make_pipeline(StandardScaler(), model) for name, model in own.items()}
    return {**piped, "shell": Shell(classify, seed), **peers(classify, seed)}


def scores(data: Data, seed: int) -> dict[str, float]:
    """Return accuracy or R² of each model on the rows held out."""
    stratify = data.y if data.classify else None
    parts = train_test_split(
        data.x, data.y, test_size=TEST_SHARE, random_state=seed, stratify=stratify
    )
    x, test_x, y, test_y = parts
    models = contenders(data.classify, seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that an MLP has used up its epochs
        return {
            name: float(model.fit(x, y).score(test_x, test_y)) for name, model in models.items()
        }


def ranks(found: Mapping[str, float]) -> dict[str, float]:
    """Return the rank of each score, 1 for the highest. Equal ones share their mean rank.

    >>> ranks({"a": 0.5, "b": 0.9, "c": 0.5})
    {'a': 2.5, 'b': 1.0, 'c': 2.5}
    """
    values = np.array(list(found.values()))
    above = (values > values[:, None]).sum(axis=1)
    equal = (values == values[:, None]).sum(axis=1)
    return dict(zip(found, (above + (equal + 1) / 2).tolist(), strict=True))


def main() -> None:
    """Print a row for each data set, and the ranks over all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="a folder of CSV files")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", help="names of data sets")
    arguments = parser.parse_args()
    files = sorted(arguments.data.glob("*.csv")) if arguments.data else []
    every = brought() | {path.stem: partial(of_file, path) for path in files}
    chosen = {n: make for n, make in every.items() if not arguments.only or n in arguments.only}
    names = list(contenders(True, 0))
    medians: dict[str, dict[str, float]] = {}

    def rows() -> Iterator[list[str]]:
        for name, make in chosen.items():
            data = make()
            found = [scores(data, seed) for seed in range(arguments.seeds)]
            medians[name] = {n: statistics.median(one[n] for one in found) for n in names}
            cells = [spread((one[n] for one in found), ".3f") for n in names]
            yield [name, "accuracy" if data.classify else "R²", f"{len(data.y):,}", *cells]

    print(f"{describe()}\n\nMedian over {arguments.seeds} seeds (smallest to largest)\n")
    table(["data", "measure", "rows", *names], rows())
    each = [ranks(one) for one in medians.values()]
    table(
        ["", *names],
        [
            ["median rank", *(f"{statistics.median(one[n] for one in each):g}" for n in names)],
            ["mean rank", *(f"{statistics.mean(one[n] for one in each):.2f}" for n in names)],
        ],
    )


if __name__ == "__main__":
    main()
