"""One default configuration and scikit-learn's MLP with its defaults, on three real data sets.

`python benchmarks/against_sklearn.py --data FOLDER`, where FOLDER contains `kc_house/` with
`kc_house_data.csv` (https://www.kaggle.com/datasets/harlfoxem/housesalesprediction), `mnist/` with
the IDX files (https://github.com/cvdfoundation/mnist) and `adult/` with `adult.data` and
`adult.test` (https://archive.ics.uci.edu/dataset/2/adult). Only the loss and the last layer differ
between the data sets. The settings were chosen on parts of the training rows.
"""

import argparse
import io
import statistics
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import sklearn
from environment import describe
from measure import table
from sklearn.compose import TransformedTargetRegressor, make_column_transformer
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import (
    accuracy_score,
    log_loss,
    r2_score,
    roc_auc_score,
    root_mean_squared_error,
)
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import minigd as gd

HIDDEN = (100, 100)
BATCH = 200  # scikit-learn's own
EPOCHS = 40
RATE = 0.003

NUMBERS = ["age", "fnlwgt", "education_num", "capital_gain", "capital_loss", "hours_per_week"]
COLUMNS = [
    "age", "workclass", "fnlwgt", "education", "education_num", "marital_status", "occupation",
    "relationship", "race", "sex", "capital_gain", "capital_loss", "hours_per_week",
    "native_country", "income",
]  # fmt: skip

Metric = tuple[Callable[..., float], str]


class Rows(NamedTuple):
    """Rows for either library: numbers for minigd, and what scikit-learn's users have."""

    x: Any
    table: Any
    y: Any

    def some(self, index: Any) -> "Rows":
        """Return some of the rows."""
        frame = hasattr(self.table, "iloc")
        return Rows(
            self.x[index], self.table.iloc[index] if frame else self.table[index], self.y[index]
        )


class Task(NamedTuple):
    """A data set: its two parts for a seed, the end of the network, and its scores."""

    parts: Callable[[int], tuple[Rows, Rows]]
    outputs: Callable[[], list[gd.Layer]]
    loss: str
    prepare: Callable[[], list[Any]]  # scikit-learn's steps before its network
    standardize: bool
    judge: Callable[[Any, Any], list[float]]
    metrics: dict[str, str]  # the name of each, and the digits it is written with
    less_is_better: tuple[str, ...] = ()


class Result(NamedTuple):
    """The result of one fit."""

    values: list[float]
    epochs: int
    seconds: float


# The data ------------------------------------------------------------------------------------


def housing(folder: Path) -> Callable[[int], tuple[Rows, Rows]]:
    """Return a function that holds out a fifth of the houses, drawn by the seed."""
    path = folder / "kc_house" / "kc_house_data.csv"
    source = gd.CsvSource(path, target="price", exclude=["id", "date"])
    x, y = source.take(slice(0, source.rows))
    rows = Rows(x, x, y)

    def parts(seed: int) -> tuple[Rows, Rows]:
        order = np.random.default_rng(seed).permutation(len(x))
        held_out = len(x) // 5
        return rows.some(order[held_out:]), rows.some(order[:held_out])

    return parts


def mnist(folder: Path) -> Callable[[int], tuple[Rows, Rows]]:
    """Return a function that returns the publisher's parts, with pixels from 0 to 1."""
    both = []
    for part in ("train", "t10k"):
        names = [folder / "mnist" / f"{part}-{kind}" for kind in ("images-idx3", "labels-idx1")]
        source = gd.IdxSource(*(_either(name.with_name(name.name + "-ubyte")) for name in names))
        x, y = source.take(slice(0, source.rows))
        both.append(Rows(x, x, y.astype(np.int64)))
    return lambda seed: (both[0], both[1])


def _either(path: Path) -> Path:
    return path if path.exists() else path.with_name(path.name + ".gz")


def adult(folder: Path) -> Callable[[int], tuple[Rows, Rows]]:
    """Return a function that returns the publisher's parts. `?` is a category like the others."""
    first = (folder / "adult" / "adult.data").read_bytes()
    # The test file begins with a line that is not a row, and has a period after each class.
    second = (folder / "adult" / "adult.test").read_bytes().split(b"\n", 1)[1].replace(b"K.", b"K")
    files = [io.BytesIO(first), io.BytesIO(second)]
    source = gd.CsvSource(files, target="income", columns=COLUMNS)
    x, y = source.take(slice(0, source.rows))
    frames = [
        pd.read_csv(io.BytesIO(text), names=COLUMNS, skipinitialspace=True)
        for text in (first, second)
    ]
    frame = pd.concat(frames, ignore_index=True)
    if not np.array_equal(y, frame.pop("income") == ">50K"):
        raise SystemExit("minigd and pandas read different rows")
    rows = Rows(x, frame.astype(dict.fromkeys(NUMBERS, np.float32)), y)
    cut = len(frames[0])
    return lambda seed: (rows.some(slice(0, cut)), rows.some(slice(cut, None)))


def columns_of_adult() -> list[Any]:
    """Return the encoder: numbers to mean 0 and deviation 1, categories to columns."""
    texts = [name for name in COLUMNS[:-1] if name not in NUMBERS]
    one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False, dtype=np.float32)
    return [make_column_transformer((StandardScaler(), NUMBERS), (one_hot, texts))]


# How a test part is judged -------------------------------------------------------------------


def of_numbers(y: Any, predicted: Any) -> list[float]:
    return [r2_score(y, predicted), root_mean_squared_error(y, predicted)]


def of_classes(y: Any, p: Any) -> list[float]:
    return [accuracy_score(y, p.argmax(axis=1))]


def of_two_classes(y: Any, p: Any) -> list[float]:
    p = p[:, -1].astype(np.float64)
    return [accuracy_score(y, p > 0.5), roc_auc_score(y, p), log_loss(y, p)]


# The contenders ------------------------------------------------------------------------------


def hidden(task: Task) -> list[gd.Layer]:
    """Return the layers before the outputs."""
    layers: list[gd.Layer] = [gd.Standardize()] if task.standardize else []
    for width in HIDDEN:
        layers += [gd.Dense(width, "he_normal"), gd.ReLU(), gd.Dropout(0.1)]
    return layers


def estimator(task: Task, train: Rows, test: Rows, seed: int) -> Result:
    """Fit the same configuration, written as an estimator."""
    kind = gd.MiniBatchRegressor if task.loss == "mse" else gd.MiniBatchClassifier
    model = kind(
        layers=hidden(task),
        updater=gd.Adam(gd.CosineDecay(RATE, epochs=EPOCHS)),
        epochs=EPOCHS,
        batch_size=BATCH,
        l2=0.001,
        early_stopping=True,
        patience=20,
        tol=0.0,
        random_state=seed,
    )
    started = time.perf_counter()
    model.fit(train.x, train.y)
    seconds = time.perf_counter() - started
    predict = model.predict if task.loss == "mse" else model.predict_proba
    return Result(task.judge(test.y, predict(test.x)), model.n_iter_, seconds)


def minigd(task: Task, train: Rows, test: Rows, seed: int) -> Result:
    """Fit the default configuration; a tenth of the training rows decides when to stop."""
    started = time.perf_counter()
    rows, validation = gd.ArraySource(train.x, train.y).split(0.1, seed)
    batches = gd.Batches(rows, batch_size=BATCH, shuffle=True, seed=seed)
    layers = [*hidden(task), *task.outputs()]
    model = gd.Sequential(layers, inputs=train.x.shape[1], seed=seed)
    if isinstance(model.layers[0], gd.Standardize):
        model.adapt(batches)
    history = model.fit(
        batches,
        loss=task.loss,
        updater=gd.Adam(gd.CosineDecay(RATE, epochs=EPOCHS)),
        epochs=EPOCHS,
        l2=0.001,
        validation_data=validation,
        callbacks=[gd.EarlyStopping(patience=20)],
    )
    seconds = time.perf_counter() - started
    return Result(task.judge(test.y, model.predict(test.x)), history.epochs, seconds)


def scikit_learn(
    task: Task,
    train: Rows,
    test: Rows,
    seed: int,
    early_stopping: bool = False,
    scale_target: bool = False,
) -> Result:
    """Fit scikit-learn's network of the same widths, with its other defaults."""
    kind = MLPRegressor if task.loss == "mse" else MLPClassifier
    network = kind(hidden_layer_sizes=HIDDEN, early_stopping=early_stopping, random_state=seed)
    pipeline = make_pipeline(*task.prepare(), network)
    model: Any = pipeline
    if scale_target:
        model = TransformedTargetRegressor(pipeline, transformer=StandardScaler())
    started = time.perf_counter()
    with warnings.catch_warnings():
        # The table shows that all epochs are used up.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(train.table, train.y)
    seconds = time.perf_counter() - started
    fitted = model.regressor_[-1] if scale_target else model[-1]
    predict = model.predict if task.loss == "mse" else model.predict_proba
    return Result(task.judge(test.y, predict(test.table)), fitted.n_iter_, seconds)


def tasks(folder: Path) -> dict[str, Task]:
    images = mnist(folder)
    digits = Task(
        parts=images,
        outputs=lambda: [gd.Dense(10), gd.Softmax()],
        loss="categorical_crossentropy",
        prepare=lambda: [StandardScaler()],
        standardize=True,
        judge=of_classes,
        metrics={"accuracy": ".2%"},
    )
    return {
        "King County housing": Task(
            parts=housing(folder),
            outputs=lambda: [gd.Dense(1), gd.Rescale()],
            loss="mse",
            prepare=lambda: [StandardScaler()],
            standardize=True,
            judge=of_numbers,
            metrics={"R²": ".4f", "RMSE, $": ",.0f"},
            less_is_better=("RMSE, $",),
        ),
        "MNIST, each pixel standardized": digits,
        "MNIST, pixels from 0 to 1": digits._replace(prepare=list, standardize=False),
        "Adult": Task(
            parts=adult(folder),
            outputs=lambda: [gd.Dense(1), gd.Sigmoid()],
            loss="binary_crossentropy",
            prepare=columns_of_adult,
            standardize=True,
            judge=of_two_classes,
            metrics={"accuracy": ".2%", "ROC AUC": ".4f", "log loss": ".4f"},
            less_is_better=("log loss",),
        ),
    }


# The table -----------------------------------------------------------------------------------


def all_of(values: Sequence[float], digits: str) -> str:
    """Return the median, and the value of each seed."""
    each = ", ".join(f"{value:{digits}}" for value in values)
    return f"{statistics.median(values):{digits}} ({each})"


def compare(name: str, task: Task, seeds: int) -> None:
    """Print the table of a data set, and one line per metric that says who is better."""
    ways: dict[str, Callable[..., Result]] = {
        "minigd": minigd,
        "minigd, an estimator": estimator,
        "scikit-learn": scikit_learn,
        "scikit-learn, `early_stopping=True`": partial(scikit_learn, early_stopping=True),
    }
    if task.loss == "mse":
        ways["scikit-learn, target standardized"] = partial(scikit_learn, scale_target=True)
    results: dict[str, list[Result]] = {way: [] for way in ways}
    for seed in range(seeds):
        train, test = task.parts(seed)
        for way in list(ways)[:: -1 if seed % 2 else 1]:
            results[way].append(ways[way](task, train, test, seed))
    print(f"## {name}\n\n{len(train.y):,} rows to train on, {len(test.y):,} to test\n")
    table(
        ["", *task.metrics, "epochs", "seconds"],
        [
            (
                way,
                *(
                    all_of([result.values[i] for result in these], digits)
                    for i, digits in enumerate(task.metrics.values())
                ),
                ", ".join(str(result.epochs) for result in these),
                all_of([result.seconds for result in these], ".1f"),
            )
            for way, these in results.items()
        ],
    )
    conclude(task, results)


def conclude(task: Task, results: Mapping[str, Sequence[Result]]) -> None:
    """Print whether minigd reaches scikit-learn's defaults in the median of each metric."""
    for i, (metric, digits) in enumerate(task.metrics.items()):
        ours, theirs = (
            statistics.median(result.values[i] for result in results[way])
            for way in ("minigd", "scikit-learn")
        )
        reached = ours <= theirs if metric in task.less_is_better else ours >= theirs
        print(
            f"- {metric}, median: {ours:{digits}} against {theirs:{digits}}; target to reach it: "
            f"{'kept' if reached else 'missed'}"
        )
    times = [
        theirs.seconds / ours.seconds
        for ours, theirs in zip(results["minigd"], results["scikit-learn"], strict=True)
    ]
    print(f"- scikit-learn's seconds over minigd's: {all_of(times, '.1f')}\n", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the three data sets")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="", help="data sets whose name begins so")
    options = parser.parse_args()
    print(f"{describe()}, scikit-learn {sklearn.__version__}, pandas {pd.__version__}{_numba()}")
    print(
        f"{options.seeds} seeds, which decide the split, the weights and the orders; on the test "
        "rows: median (each seed)\n"
    )
    for name, task in tasks(options.data).items():
        if name.startswith(options.only):
            compare(name, task, options.seeds)


def _numba() -> str:
    try:
        import numba
    except ImportError:
        return ""
    return f", Numba {numba.__version__}"


if __name__ == "__main__":
    main()
