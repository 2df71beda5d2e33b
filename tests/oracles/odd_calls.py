"""Every public function and constructor called with odd values, one parameter at a time.

`EXAMPLES` has a valid call of each, and a use of its result. `ODD` has the odd values. A call ends
in a result, in a clear error of minigd that names the parameter, or in something else, which is a
defect. `tests/test_odd_calls.py` checks each, and `benchmarks/attack.py` counts them.
"""

import ast
import contextlib
import functools
import io
import re
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import minigd as gd

X = np.random.default_rng(0).normal(size=(12, 2))
Y = X[:, 0] - X[:, 1]
LABELS = (Y > 0).astype(int)

ODD: dict[str, Callable[[Any], Any]] = {
    "None": lambda example: None,
    "''": lambda example: "",
    "'x'": lambda example: "x",
    "'False'": lambda example: "False",
    "b'x'": lambda example: b"x",
    "-1": lambda example: -1,
    "0": lambda example: 0,
    "1.5": lambda example: 1.5,
    "nan": lambda example: float("nan"),
    "inf": lambda example: float("inf"),
    "True": lambda example: True,
    "10**30": lambda example: 10**30,
    "10**400": lambda example: 10**400,
    "1j": lambda example: 1j,
    "[]": lambda example: [],
    "[None]": lambda example: [None],
    "{}": lambda example: {},
    "object()": lambda example: object(),
    "its class": type,
    "masked": lambda example: np.ma.masked_array([[1.0, 2.0], [3.0, 4.0]], [[0, 1], [0, 0]]),
    "array of nan": lambda example: np.full((12, 2), np.nan),
    "text array": lambda example: np.array(["a", "b"]),
}
"""By name, what a parameter is given instead of its example."""


class Example(NamedTuple):
    """A valid call: the function, its arguments, and what uses the result."""

    function: Callable[[], Callable[..., Any]]
    arguments: Callable[[], dict[str, Any]]
    use: Callable[[Any], object] = lambda result: None


class Ending(NamedTuple):
    """How a call ended: ``"result"``, ``"clear error"`` or ``"anything else"``."""

    call: str
    kind: str
    error: BaseException | None = None

    def __str__(self) -> str:
        if self.error is None:
            return f"{self.call}: {self.kind}"
        place = traceback.extract_tb(self.error.__traceback__)[-1]
        where = f"{Path(place.filename).name}:{place.lineno}"
        words = f"{type(self.error).__name__}: {str(self.error)[:200]}"
        return f"{self.call}: {self.kind}: {words} [{where}]"


def network(*layers: Any, width: int = 2) -> gd.Sequential:
    return gd.Sequential([*(layers or (gd.Dense(1),))], inputs=width)


def fitted() -> gd.Sequential:
    model = network()
    model.fit(X, Y, loss="mse", metrics=["mae"])
    return model


def trainer() -> gd.Trainer:
    return gd.Trainer(network(), "mse", "sgd")


def fit_with(**options: Any) -> None:
    settings = {"loss": "mse", "updater": "sgd", "batch_size": 5, "validation_data": (X, Y)}
    network().fit(X, Y, **{**settings, **options})


def use_layer(layer: Any) -> None:
    network(gd.Dense(2), layer, gd.Dense(1)).fit(X, Y, loss="mse", batch_size=5)


def use_updater(updater: Any) -> None:
    fit_with(updater=updater)


def use_schedule(schedule: Any) -> None:
    fit_with(updater=gd.SGD(schedule))


def use_callback(callback: Any) -> None:
    fit_with(callbacks=[callback])


def use_loss(loss: Any) -> None:
    ends = {gd.BinaryCrossEntropy: (1, gd.Sigmoid()), gd.CategoricalCrossEntropy: (2, gd.Softmax())}
    units, last = ends.get(type(loss), (1, None))
    last = None if getattr(loss, "from_logits", False) else last
    layers = [gd.Dense(units)] if last is None else [gd.Dense(units), last]
    network(*layers).fit(X, LABELS, loss=loss, batch_size=5)


def use_source(source: Any) -> None:
    if source.rows is None or source.random_access:
        source.fingerprint()
    for batch in gd.Batches(source, batch_size=5):
        assert len(batch.x)


def use_batches(batches: Any) -> None:
    assert len(list(batches))
    trainer().fit(batches)


def use_model(model: Any) -> None:
    model.fit(X, Y, loss="mse", batch_size=5)
    model.predict(X)


def use_trainer(made: Any) -> None:
    made.fit(X, Y, batch_size=5)


@functools.cache
def folder() -> Path:
    """Make a folder with one file of each kind."""
    made = tempfile.TemporaryDirectory()
    _KEPT.append(made)
    path = Path(made.name)
    rows = "\n".join(f"{a},{b},{y}" for (a, b), y in zip(X, Y, strict=True))
    (path / "t.csv").write_text(f"a,b,y\n{rows}\n", encoding="utf-8")
    np.save(path / "x.npy", X)
    np.save(path / "y.npy", Y)
    pixels = bytes(range(24))
    (path / "images").write_bytes(bytes([0, 0, 8, 2, 0, 0, 0, 12, 0, 0, 0, 2]) + pixels)
    (path / "labels").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 12]) + bytes(12))
    fitted().save(path / "m.npz")
    gd.TableModel(fitted(), table_schema()).save(path / "table.npz")
    run = trainer()
    run.fit(X, Y, batch_size=5)
    run.save(path / "run.npz")
    pandas_frame({"a": X[:, 0], "b": X[:, 1], "y": Y}).to_parquet(path / "t.parquet")
    return path


def pandas_frame(columns: dict[str, Any]) -> Any:
    import pandas as pd

    return pd.DataFrame(columns)


def table_schema() -> Any:
    return gd.IterableSource([{"a": [1.0, 2.0], "b": [2.0, 1.0], "y": [1.5, 2.0]}], "y").schema


_KEPT: list[Any] = []


def batches() -> gd.Batches:
    return gd.Batches(X, Y, batch_size=5)


def stream() -> Any:
    return gd.IterableSource([(X[:5], Y[:5]), (X[5:], Y[5:])])


def always(function: Any) -> Callable[[], Any]:
    return lambda: function


def figure(_: Any) -> None:
    import matplotlib.pyplot as plt

    plt.close("all")


RATE = {"learning_rate": 0.1}
TIMES = {"updates": None, "epochs": 3}
FIT = {
    "time_limit": None,
    "batch_size": 5,
    "epochs": 1,
    "validation_data": (X, Y),
    "shuffle": True,
    "sample_weight": np.ones(12),
    "class_weight": None,
    "callbacks": [],
    "per_example": False,
    "progress": False,
    "profile": False,
    "plain": False,
}
ESTIMATOR = {
    "hidden": (),
    "activation": "relu",
    "batch_norm": False,
    "dropout": 0.0,
    "layers": None,
    "updater": "adam",
    "learning_rate": 0.1,
    "l1": 0.0,
    "l2": 0.0,
    "clip_norm": None,
    "callbacks": None,
    "batch_size": 5,
    "epochs": 1,
    "early_stopping": False,
    "validation_fraction": 0.1,
    "patience": 10,
    "tol": 1e-4,
    "warm_start": False,
    "backend": "numpy",
    "dtype": None,
    "random_state": 0,
    "verbose": 0,
}


def classifier() -> Any:
    return gd.MiniBatchClassifier(epochs=1)


def regressor() -> Any:
    return gd.MiniBatchRegressor(epochs=1)


def of_class(kind: Any, use: Callable[[Any], object], **arguments: Any) -> Example:
    return Example(always(kind), lambda: dict(arguments), use)


METHODS: dict[str, tuple[Callable[[], dict[str, Any]], Callable[[Any], object]]] = {
    "take": (lambda: {"rows": np.array([1, 0]), "workspace": None}, len),
    "places": (lambda: {"rows": np.array([1, 0])}, len),
    "chunks": (lambda: {"start": 1}, list),
    "column": (lambda: {"name": "a"}, len),
    "split": (
        lambda: {"fraction": 0.5, "seed": 0, "stratify": False, "group": None, "time": None},
        lambda parts: [use_source(part) for part in parts],
    ),
    "cache": (lambda: {"path": folder() / "rows"}, use_source),
}
"""The methods of all sources, with valid arguments and a use of the result."""

SOURCES = {
    "ArraySource": "take places chunks column split cache",
    "NpySource": "take places chunks split cache",
    "IdxSource": "take places chunks split cache",
    "CsvSource": "take places chunks column split cache",
    "FrameSource": "take places chunks column split cache",
    "ParquetSource": "take places chunks column split cache",
    "IterableSource": "places chunks split cache",
    "part": "take places chunks column",
    "part of a stream": "places chunks",
}
"""By kind of source, the methods that it has for rows like these."""


@functools.cache
def opened(kind: str) -> Any:
    """Open a source once."""
    path, named = folder(), {"a": X[:, 0], "b": X[:, 1], "y": Y}
    makers: dict[str, Callable[[], Any]] = {
        "ArraySource": lambda: gd.ArraySource(pandas_frame(named)[["a", "b"]], Y),
        "NpySource": lambda: gd.NpySource(path / "x.npy", path / "y.npy"),
        "IdxSource": lambda: gd.IdxSource(path / "images", path / "labels"),
        "CsvSource": lambda: gd.CsvSource(path / "t.csv", "y"),
        "FrameSource": lambda: gd.FrameSource(named, "y"),
        "ParquetSource": lambda: gd.ParquetSource(path / "t.parquet", "y"),
        "IterableSource": stream,
        "part": lambda: opened("CsvSource").split(0.5)[0],
        "part of a stream": lambda: stream().split(0.5)[0],
    }
    return makers[kind]()


def method_of(kind: str, method: str) -> Callable[..., Any]:
    return getattr(opened(kind), method)


EXAMPLES: dict[str, Example] = {
    # Layers
    "Dense": of_class(gd.Dense, use_layer, units=2, initializer="zeros", bias=True),
    "Dropout": of_class(gd.Dropout, use_layer, rate=0.5),
    "BatchNorm": of_class(gd.BatchNorm, use_layer, momentum=0.9, epsilon=1e-5),
    "LeakyReLU": of_class(gd.LeakyReLU, use_layer, slope=0.1),
    "ELU": of_class(gd.ELU, use_layer, alpha=0.5),
    "GELU": of_class(gd.GELU, use_layer, approximate=True),
    "SiLU": of_class(gd.SiLU, use_layer),
    "Softplus": of_class(gd.Softplus, use_layer),
    "LayerNorm": of_class(gd.LayerNorm, use_layer, epsilon=1e-5),
    "Residual": of_class(gd.Residual, use_layer, layers=[gd.Tanh()]),
    # Losses
    "BinaryCrossEntropy": of_class(
        gd.BinaryCrossEntropy, use_loss, from_logits=True, label_smoothing=0.1
    ),
    "CategoricalCrossEntropy": of_class(
        gd.CategoricalCrossEntropy, use_loss, from_logits=True, label_smoothing=0.1
    ),
    "Huber": of_class(gd.Huber, use_loss, delta=1.0),
    "Quantile": of_class(gd.Quantile, use_loss, quantiles=0.3),
    "Focal": of_class(
        gd.Focal, use_loss, gamma=1.0, alpha=0.5, from_logits=True, label_smoothing=0.1
    ),
    "Loss.forward": Example(
        lambda: gd.MeanSquaredError().forward,
        lambda: {"z": X[:, :1], "y": Y, "weight": np.ones(12)},
    ),
    # Updaters and schedules
    "SGD": of_class(gd.SGD, use_updater, **RATE, momentum=0.5, nesterov=True),
    "Adagrad": of_class(gd.Adagrad, use_updater, **RATE, epsilon=1e-8),
    "Adam": of_class(
        gd.Adam, use_updater, **RATE, beta1=0.9, beta2=0.99, epsilon=1e-8, amsgrad=True
    ),
    "Nadam": of_class(gd.Nadam, use_updater, **RATE, beta1=0.9, beta2=0.99, epsilon=1e-8),
    "RAdam": of_class(gd.RAdam, use_updater, **RATE, beta1=0.9, beta2=0.99, epsilon=1e-8),
    "AdamW": of_class(
        gd.AdamW,
        use_updater,
        **RATE,
        beta1=0.9,
        beta2=0.99,
        epsilon=1e-8,
        weight_decay=0.01,
        decay_bias=False,
    ),
    "PerLayer": of_class(
        gd.PerLayer, use_updater, updater="adam", rates={"dense1": 0.5}, decays={"dense1.W": 0.1}
    ),
    "RMSprop": of_class(gd.RMSprop, use_updater, **RATE, rho=0.9, epsilon=1e-8),
    "Updater.update": Example(lambda: gd.SGD(0.1).update, lambda: {"model": network()}),
    "Updater.load_state_dict": Example(
        lambda: lambda values: gd.Adam().load_state_dict(values, network()),
        lambda: {"values": gd.Adam().state_dict()},
    ),
    **{
        f"{type(schedule).__name__} after some time": Example(
            always(schedule), lambda: {"updates": 2, "epochs": 1}
        )
        for schedule in (
            gd.CosineDecay(0.1, updates=5),
            gd.Piecewise([0.1, 0.01], epochs=[5]),
            gd.WarmUp(gd.StepDecay(0.1, epochs=3), updates=2),
        )
    },
    "Sequential.flat_params": Example(
        lambda: lambda flat_params: setattr(network(), "flat_params", flat_params),
        lambda: {"flat_params": np.zeros(3)},
    ),
    "FunctionLoss": of_class(
        gd.FunctionLoss,
        use_loss,
        function=lambda z, y: ((z - y) ** 2).mean(axis=1),
        derivative=lambda z, y: 2 * (z - y) / z.shape[1],
    ),
    "FunctionSchedule": of_class(
        gd.FunctionSchedule, use_schedule, function=lambda updates, epochs: 0.1
    ),
    "Constant": of_class(gd.Constant, use_schedule, **RATE),
    "StepDecay": of_class(gd.StepDecay, use_schedule, **RATE, factor=0.1, **TIMES),
    "ExponentialDecay": of_class(gd.ExponentialDecay, use_schedule, **RATE, factor=0.1, **TIMES),
    "InverseTimeDecay": of_class(gd.InverseTimeDecay, use_schedule, **RATE, **TIMES),
    "CosineDecay": of_class(gd.CosineDecay, use_schedule, **RATE, end=0.0, **TIMES),
    "PolynomialDecay": of_class(
        gd.PolynomialDecay, use_schedule, **RATE, end=0.0, power=1.0, **TIMES
    ),
    "CosineRestarts": of_class(gd.CosineRestarts, use_schedule, **RATE, end=0.0, growth=2, **TIMES),
    "OneCycle": of_class(gd.OneCycle, use_schedule, **RATE, start=0.01, end=0.0, rise=0.3, **TIMES),
    "Piecewise": of_class(
        gd.Piecewise, use_schedule, learning_rates=[0.1, 0.01], updates=[5], epochs=None
    ),
    "BatchGrowth": of_class(
        gd.BatchGrowth,
        lambda growth: fit_with(batch_size=growth, epochs=3),
        batch_size=4,
        factor=2.0,
        largest=8,
        epochs=1,
    ),
    "WarmUp": of_class(gd.WarmUp, use_schedule, schedule=gd.Constant(0.1), **TIMES),
    # Callbacks
    "AverageWeights": of_class(gd.AverageWeights, use_callback, decay=0.9),
    "EarlyStopping": of_class(
        gd.EarlyStopping,
        use_callback,
        monitor="val_loss",
        patience=1,
        min_delta=0.0,
        mode="auto",
        restore_best=True,
    ),
    "ReduceOnPlateau": of_class(
        gd.ReduceOnPlateau,
        use_callback,
        monitor="val_loss",
        factor=0.1,
        patience=1,
        min_delta=0.0,
        mode="auto",
        min_scale=0.0,
    ),
    "PrintEvery": of_class(gd.PrintEvery, use_callback, updates=5),
    "HeavyRows": of_class(
        gd.HeavyRows, lambda made: fit_with(callbacks=[made], per_example=True), count=2
    ),
    "Checkpoint": Example(
        always(gd.Checkpoint),
        lambda: {
            "path": folder() / "checkpoint.npz",
            "every_updates": 1,
            "every_seconds": 1.0,
            "every_epochs": 1,
        },
        use_callback,
    ),
    "CsvLog": Example(always(gd.CsvLog), lambda: {"path": folder() / "log.csv"}, use_callback),
    "History": of_class(gd.History, repr, columns={"loss": [1.0]}),
    "History.plot": Example(
        lambda: lambda name, ax: gd.History({"loss": [1.0, 0.5]}).plot(name, ax=ax),
        lambda: {"name": "loss", "ax": None},
        figure,
    ),
    # Sources and batches
    "ArraySource": of_class(gd.ArraySource, use_source, x=X, y=Y, weight=np.ones(12)),
    "NpySource": Example(
        always(gd.NpySource),
        lambda: {"x": folder() / "x.npy", "y": folder() / "y.npy"},
        use_source,
    ),
    "IdxSource": Example(
        always(gd.IdxSource),
        lambda: {"images": folder() / "images", "labels": folder() / "labels", "scale": 255.0},
        use_source,
    ),
    "CsvSource": Example(
        always(gd.CsvSource),
        lambda: {
            "path": folder() / "t.csv",
            "target": "y",
            "features": ["a", "b"],
            "exclude": (),
            "columns": None,
            "header": True,
            "skip_lines": 0,
            "separator": ",",
            "strip": "",
            "missing": "error",
            "na": (),
            "keep_default_na": True,
            "decimal": ".",
            "thousands": "",
            "encoding": "utf-8",
            "comment": "",
            "compression": "infer",
            "categories": None,
            "min_count": None,
            "hashed": None,
            "dates": None,
            "logs": (),
            "leave_out": False,
            "classes": None,
            "schema": None,
            "dtype": "float32",
            "block_size": 1000,
            "index_path": folder() / "t.index",
        },
        use_source,
    ),
    "ParquetSource": Example(
        always(gd.ParquetSource),
        lambda: {
            "path": folder() / "t.parquet",
            "target": "y",
            "features": ["a", "b"],
            "exclude": (),
            "missing": "error",
            "categories": None,
            "min_count": None,
            "hashed": None,
            "dates": None,
            "logs": (),
            "leave_out": False,
            "classes": None,
            "schema": None,
            "dtype": "float32",
            "block_rows": 5,
        },
        use_source,
    ),
    "FrameSource": of_class(
        gd.FrameSource,
        use_source,
        frame={"a": [0.5, 1.5], "b": [1, 2], "y": [1, 0]},
        target="y",
        features=["a", "b"],
        exclude=(),
        missing="error",
        categories=None,
        min_count=None,
        hashed=None,
        dates=None,
        logs=(),
        leave_out=False,
        classes=None,
        schema=None,
        dtype="float32",
    ),
    "IterableSource": Example(
        always(gd.IterableSource),
        lambda: {
            "pieces": [(X[:5], Y[:5]), (X[5:], Y[5:])],
            "target": None,
            "features": None,
            "exclude": (),
            "missing": "error",
            "categories": None,
            "min_count": None,
            "hashed": None,
            "dates": None,
            "logs": (),
            "leave_out": False,
            "classes": None,
            "schema": None,
            "dtype": "float32",
            "name": "the table",
        },
        use_source,
    ),
    **{
        f"{kind}.{method}": Example(functools.partial(method_of, kind, method), arguments, use)
        for kind, methods in SOURCES.items()
        for method, (arguments, use) in METHODS.items()
        if method in methods.split()
    },
    "Batches": of_class(
        gd.Batches,
        use_batches,
        x=X,
        y=Y,
        batch_size=5,
        shuffle=True,
        seed=0,
        tail="keep",
        buffer=None,
        prefetch=0,
        sample_weight=np.ones(12),
        class_weight=None,
        schema=None,
    ),
    "Batches of a stream": Example(
        lambda: lambda **options: gd.Batches(stream(), **options),
        lambda: {
            "batch_size": 5,
            "shuffle": True,
            "seed": 0,
            "tail": "keep",
            "buffer": 5,
            "prefetch": 1,
            "sample_weight": np.ones(12),
            "class_weight": None,
        },
        list,
    ),
    "Batches.epoch": Example(
        lambda: batches().epoch, lambda: {"epoch": 0, "start": 0, "workspace": None}, list
    ),
    "Batches.at": Example(lambda: batches().at, lambda: {"epoch": 1}, list),
    "Batches.order": Example(
        lambda: gd.Batches(X, Y, shuffle=True).order, lambda: {"epoch": 1}, len
    ),
    "Batches.part": Example(lambda: batches().part, lambda: {"rank": 0, "size": 2}, list),
    "Batches.weight": Example(
        lambda: gd.Batches(X, Y, sample_weight=np.ones(12)).weight,
        lambda: {"rows": np.array([1, 0]), "y": None},
    ),
    "batch_slices": of_class(gd.batch_slices, list, n=12, batch_size=5),
    # The model
    "Sequential": Example(
        always(gd.Sequential),
        lambda: {
            "layers": [gd.Dense(1)],
            "inputs": 2,
            "backend": "numpy",
            "dtype": "float32",
            "seed": 0,
        },
        use_model,
    ),
    "Sequential.fit": Example(
        lambda: network().fit,
        lambda: {
            "X": X,
            "y": Y,
            "loss": "mse",
            "updater": "adam",
            "metrics": ["mae"],
            "optimizer": None,
            "receipt": None,
            **FIT,
        },
    ),
    "Sequential.fit by labels": Example(
        lambda: network(gd.Dense(1), gd.Sigmoid()).fit,
        lambda: {
            "X": X,
            "y": LABELS,
            "loss": "binary_crossentropy",
            "metrics": ["accuracy"],
            "class_weight": {0: 1.0, 1: 2.0},
            "callbacks": [print],
        },
    ),
    "Sequential.forward": Example(lambda: network().forward, lambda: {"x": X, "train": True}),
    "Sequential.backward": Example(
        lambda: _after_forward().backward,
        lambda: {"dy": X[:, :1], "input_gradient": True},
    ),
    "Sequential.predict": Example(lambda: fitted().predict, lambda: {"X": X, "batch_size": 5}),
    "Sequential.evaluate": Example(
        lambda: fitted().evaluate,
        lambda: {"X": X, "y": Y, "batch_size": 5, "sample_weight": np.ones(12)},
    ),
    "Sequential.adapt": Example(
        lambda: network(gd.Standardize(), gd.Dense(1)).adapt, lambda: {"batches": batches()}
    ),
    "Sequential.copy": Example(
        lambda: network().copy, lambda: {"dtype": "float64", "backend": "numpy"}, use_model
    ),
    "Sequential.to": Example(lambda: network().to, lambda: {"backend": "numpy"}),
    "Sequential.load_arrays": Example(
        lambda: network().load_arrays, lambda: {"arrays": network().arrays()}
    ),
    "Sequential.load_weights": Example(
        lambda: network().load_weights, lambda: {"model": network(), "layers": ["dense1"]}
    ),
    "Sequential.save": Example(lambda: fitted().save, lambda: {"path": folder() / "saved.npz"}),
    "Sequential.summary": Example(
        lambda: network().summary,
        lambda: {"batch_size": 5, "updater": "adam", "optimizer": None},
        str,
    ),
    "Objective": Example(
        always(gd.Objective),
        lambda: {"model": network(), "loss": "mse"},
        lambda made: made.forward(X.astype("float32"), Y),
    ),
    # Training
    "Trainer": Example(
        always(gd.Trainer),
        lambda: {
            "model": network(),
            "loss": "mse",
            "updater": "sgd",
            "metrics": ["mae"],
            "accumulate": 1,
            "l1": 0.0,
            "l2": 0.0,
            "decay_bias": False,
            "clip_value": None,
            "clip_norm": None,
            "clip_rows": None,
            "reuse_buffers": True,
            "fast": None,
            "optimizer": None,
            "comm": None,
        },
        use_trainer,
    ),
    "Trainer.fit": Example(
        lambda: trainer().fit,
        lambda: {"data": X, "y": Y, "until_epoch": None, "receipt": None, **FIT},
    ),
    "Trainer.step": Example(
        lambda: trainer().step,
        lambda: {"x": X, "y": Y, "sample_weight": np.ones(12), "per_example": False},
    ),
    "Trainer.evaluate": Example(
        lambda: trainer().evaluate,
        lambda: {"data": X, "y": Y, "batch_size": 5, "sample_weight": np.ones(12)},
    ),
    "Trainer.save": Example(lambda: trainer().save, lambda: {"path": folder() / "saved.npz"}),
    "Trainer.resume": Example(
        always(gd.Trainer.resume),
        lambda: {
            "path": folder() / "run.npz",
            "batches": gd.Batches(X, Y, batch_size=5, shuffle=True),
            "custom": (),
            "backend": "numpy",
            "comm": None,
        },
        lambda made: made.fit(epochs=1),
    ),
    "load": Example(
        always(gd.load),
        lambda: {"path": folder() / "m.npz", "custom": (), "backend": "numpy"},
        lambda model: model.predict(X),
    ),
    "TableModel": Example(
        always(gd.TableModel),
        lambda: {
            "model": network(),
            "schema": table_schema(),
            "history": None,
            "reading": None,
        },
        lambda made: made.predict(X),
    ),
    "load_table": Example(
        always(gd.load_table),
        lambda: {"path": folder() / "table.npz", "backend": "numpy"},
        lambda made: made.predict(X),
    ),
    # Checks and insight
    "check_gradients": Example(
        always(gd.check_gradients),
        lambda: {
            "model": network(),
            "loss": "mse",
            "x": X,
            "y": Y,
            "sample_weight": np.ones(12),
            "l1": 0.0,
            "l2": 0.0,
            "decay_bias": False,
            "method": "auto",
            "tolerance": None,
            "seed": 0,
        },
    ),
    "check_layer": Example(
        always(gd.check_layer),
        lambda: {"layer": gd.Tanh(), "x": X, "method": "auto", "tolerance": None, "seed": 0},
    ),
    "coefficients": Example(always(gd.coefficients), lambda: {"model": network()}),
    "compare_backends": Example(
        always(gd.compare_backends),
        lambda: {
            "model": network(),
            "batches": batches(),
            "steps": 2,
            "loss": "mse",
            "updater": "sgd",
            "backend": "numpy",
            "optimizer": None,
        },
    ),
    "explain": Example(
        always(gd.explain),
        lambda: {
            "model": network(),
            "x": X,
            "y": Y,
            "loss": "mse",
            "updater": "sgd",
            "sample_weight": np.ones(12),
            "example": 0,
            "optimizer": None,
        },
        str,
    ),
    "opening_together": Example(always(gd.opening_together), lambda: {"comm": None}),
    "export_onnx": Example(
        always(gd.export_onnx),
        lambda: {
            "model": network(gd.Dense(2)),
            "path": folder() / "m.onnx",
            "names": ["a", "b"],
            "classes": ["no", "yes"],
        },
    ),
    "find_learning_rate": Example(
        always(gd.find_learning_rate),
        lambda: {
            "model": network(),
            "data": X,
            "y": Y,
            "loss": "mse",
            "updater": "sgd",
            "batch_size": 5,
            "lowest": 1e-4,
            "highest": 1.0,
            "updates": 5,
            "optimizer": None,
        },
    ),
    "RateCurve.plot": Example(
        lambda: gd.RateCurve([0.1, 1.0], [1.0, 0.5], 0.1).plot, lambda: {"ax": None}, figure
    ),
    "get_backend": Example(
        always(gd.get_backend),
        lambda: {"which": "numpy", "device_budget": None, "tf32": False},
        lambda backend: backend.zeros((2,), "float32"),
    ),
    "race": Example(
        always(gd.race),
        lambda: {
            "build": lambda seed: network(),
            "data": (X, Y),
            "batch_sizes": [5],
            "loss": "mse",
            "updater": "sgd",
            "seconds": 0.002,
            "tuning": 0.001,
            "rates": [0.1],
            "seeds": 1,
            "points": 2,
            "target": 0.1,
            "validation_data": (X, Y),
            "progress": False,
            "optimizer": None,
        },
        str,
    ),
    "plot_confusion": Example(
        always(gd.plot_confusion),
        lambda: {
            "model_or_predictions": LABELS,
            "X": None,
            "y": LABELS,
            "classes": ["no", "yes"],
            "ax": None,
        },
        figure,
    ),
    "plot_confusion of a model": Example(
        lambda: gd.plot_confusion,
        lambda: {
            "model_or_predictions": network(gd.Dense(1), gd.Sigmoid()),
            "X": X,
            "y": LABELS,
        },
        figure,
    ),
    "plot_decision_boundary": Example(
        always(gd.plot_decision_boundary),
        lambda: {
            "model": network(gd.Dense(1), gd.Sigmoid()),
            "X": X,
            "y": LABELS,
            "classes": ["no", "yes"],
            "ax": None,
        },
        figure,
    ),
    "plot_predictions": Example(
        always(gd.plot_predictions), lambda: {"y_true": Y, "y_pred": Y, "ax": None}, figure
    ),
    "plot_schedule": Example(
        always(gd.plot_schedule),
        lambda: {"schedule": gd.CosineDecay(0.1, updates=5), "updates": 5, "epochs": 2, "ax": None},
        figure,
    ),
    "initializers.get_initializer": Example(
        always(gd.initializers.get_initializer),
        lambda: {"which": "zeros"},
        lambda made: made(np.random.default_rng(0), (2, 2)),
    ),
    "metrics.get_metric": Example(
        always(gd.metrics.get_metric),
        lambda: {"which": "mae"},
        lambda metric: fit_with(metrics=[metric]),
    ),
    "metrics.get_metrics": Example(
        always(gd.metrics.get_metrics),
        lambda: {"which": ["mae"]},
        lambda found: fit_with(metrics=found),
    ),
    **{
        f"metrics.{kind.__name__}": of_class(
            kind, lambda metric: metric.check(np.array([0, 1, 1]), (3, 1)), positive=1
        )
        for kind in (
            gd.metrics.AveragePrecision,
            gd.metrics.F1,
            gd.metrics.Precision,
            gd.metrics.Recall,
            gd.metrics.RocAuc,
        )
    },
    "metrics.TopKAccuracy": of_class(
        gd.metrics.TopKAccuracy, lambda metric: metric.check(np.array([0, 1, 1]), (3, 4)), k=2
    ),
    "metrics.FunctionMetric": of_class(
        gd.metrics.FunctionMetric,
        lambda metric: fit_with(metrics=[metric]),
        function=lambda z, y: abs(z - y).mean(axis=1),
        more_is_better=True,
    ),
    "metrics.ScorerMetric": of_class(
        gd.metrics.ScorerMetric,
        lambda metric: fit_with(metrics=[metric]),
        name="explained_variance",
    ),
    **{
        f"metrics.{kind.__name__}": of_class(
            kind, lambda metric: metric.check(np.ones((3, 2)), (3, 2)), average="micro"
        )
        for kind in (gd.metrics.LabelF1, gd.metrics.LabelPrecision, gd.metrics.LabelRecall)
    },
    # Estimators: arguments are checked in `fit`
    "MiniBatchClassifier": Example(
        always(gd.MiniBatchClassifier),
        lambda: {**ESTIMATOR, "loss": "log_loss", "class_weight": None},
        lambda made: made.fit(X, LABELS),
    ),
    "MiniBatchRegressor": Example(
        always(gd.MiniBatchRegressor),
        lambda: {**ESTIMATOR, "loss": "squared_error"},
        lambda made: made.fit(X, Y),
    ),
    "MiniBatchClassifier.fit": Example(
        lambda: classifier().fit,
        lambda: {"X": X, "y": LABELS, "sample_weight": np.ones(12), "validation_data": (X, LABELS)},
    ),
    "MiniBatchClassifier.partial_fit": Example(
        lambda: classifier().partial_fit,
        lambda: {"X": X, "y": LABELS, "classes": [0, 1], "sample_weight": np.ones(12)},
    ),
    "MiniBatchClassifier.predict": Example(
        lambda: classifier().fit(X, LABELS).predict, lambda: {"X": X}
    ),
    "MiniBatchClassifier.predict_proba": Example(
        lambda: classifier().fit(X, LABELS).predict_proba, lambda: {"X": X}
    ),
    "MiniBatchClassifier.decision_function": Example(
        lambda: classifier().fit(X, LABELS).decision_function, lambda: {"X": X}
    ),
    "MiniBatchClassifier.score": Example(
        lambda: classifier().fit(X, LABELS).score,
        lambda: {"X": X, "y": LABELS, "sample_weight": np.ones(12)},
    ),
    "MiniBatchRegressor.fit": Example(
        lambda: regressor().fit,
        lambda: {"X": X, "y": Y, "sample_weight": np.ones(12), "validation_data": (X, Y)},
    ),
    "MiniBatchRegressor.partial_fit": Example(
        lambda: regressor().partial_fit, lambda: {"X": X, "y": Y, "sample_weight": np.ones(12)}
    ),
    "MiniBatchRegressor.predict": Example(lambda: regressor().fit(X, Y).predict, lambda: {"X": X}),
    "MiniBatchRegressor.score": Example(
        lambda: regressor().fit(X, Y).score,
        lambda: {"X": X, "y": Y, "sample_weight": np.ones(12)},
    ),
}


def _after_forward() -> gd.Sequential:
    model = network()
    model.forward(X, train=True)
    return model


ENDLESS = ["epochs", "until_epoch", "steps", "updates", "seeds", "points", "n", "seconds", "tuning"]
PATHS = {"path", "images", "labels", "index_path", "NpySource"}
"""What is checked as a path, in a separate test."""
LEFT_OUT = {
    *((name, value) for name in ENDLESS for value in ("10**30", "10**400")),
    ("build", "its class"),
}
"""10**30 is not a mistake, but takes forever. A class may build a model."""


def calls(name: str, odd: dict[str, Callable[[Any], Any]] = ODD) -> Iterator[tuple[str, str]]:
    """Return the parameters of an example, each with each odd value."""
    for parameter in EXAMPLES[name].arguments():
        for value in odd:
            if (parameter, value) not in LEFT_OUT and not {name, parameter} & PATHS:
                yield parameter, value


def call(name: str, parameter: str | None = None, value: str = "") -> Ending:
    """Make one call, valid but for one odd value, and use what it returns."""
    return _call(name, {} if parameter is None else {parameter: value})


def _call(name: str, odd: dict[str, str]) -> Ending:
    """Make one call with an odd value for each of these parameters."""
    example = EXAMPLES[name]
    valid = example.arguments()
    arguments = {**valid, **{name: ODD[value](valid[name]) for name, value in odd.items()}}
    text = f"{name}({', '.join(f'{name}={value}' for name, value in odd.items())})"
    silent = contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO())
    with warnings.catch_warnings(), silent[0], silent[1]:
        warnings.simplefilter("ignore")
        try:
            example.use(example.function()(**arguments))
        except Exception as error:
            clear = any(is_clear(error, parameter) for parameter in odd)
            return Ending(text, "clear error" if clear else "anything else", error)
    right = all(may_be(valid[parameter], arguments[parameter]) for parameter in odd)
    return Ending(text, "result" if right else "anything else")


def may_be(example: Any, given: Any) -> bool:
    """Tell whether a value may stand for the example: only a flag for a flag."""
    return not isinstance(example, bool) or isinstance(given, bool)


OWN = (ValueError, TypeError, IndexError, gd.BackendError, gd.GradientError, gd.DivergenceError)


CALLED = {
    "data": "x|fit arrays",
    "classes": "known values?|named twice",
    "exclude": "no column is left",
    "features": "no column is left",
    "hidden": "units",
    "model": "Sequential",
    "model_or_predictions": "predictions|x|y",
    "n": "rows",
    "name": "history",
    "pieces": "table|x|y",
    "skip_lines": "lines skipped",
    "validation_data": "x|y",
    "which": "backend|initializer|metric|metrics",
    "X": "fit arrays",
    "z": "outputs",
}
"""What messages call an argument, where they have other words for it."""


def is_clear(error: Exception, parameter: str) -> bool:
    """Tell whether minigd raised the error itself, and it names the parameter.

    A training that diverges says so; a column that is not there is named itself.
    """
    words = "|".join({parameter, parameter.removesuffix("s"), CALLED.get(parameter, parameter)})
    named = re.search(rf"(?<![a-z])({words})(?![a-z])", str(error), re.IGNORECASE) is not None
    enough = isinstance(error, gd.DivergenceError) or "no column '" in str(error)
    if not isinstance(error, OWN):
        return False
    # What an estimator's X and y must be, scikit-learn's own checks say in its own words.
    by_others = parameter in ("X", "y", "sample_weight", "classes")
    by_others = by_others and is_raised_in("sklearn", error)
    return by_others or (is_raised_in("minigd", error) and (named or enough))


def is_raised_in(package: str, error: Exception) -> bool:
    """Tell whether the line that an error comes from is a `raise` of a package."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    file = Path(frame.filename)
    return package in file.parts and frame.lineno in _raising_lines(file)


@functools.cache
def _raising_lines(file: Path) -> frozenset[int]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    raises = [node for node in ast.walk(tree) if isinstance(node, ast.Raise)]
    return frozenset(line for node in raises for line in range(node.lineno, node.end_lineno + 1))


def endings(several: int, single: bool = True, seed: int = 0) -> Iterator[Ending]:
    """Make all calls with one odd value, and some with several; yield how each ends."""
    if single:
        yield from (call(name, *odd) for name in EXAMPLES for odd in calls(name))
    rng = np.random.default_rng(seed)
    names = [name for name in EXAMPLES if len(list(calls(name))) > 1]
    for _ in range(several):
        name = names[rng.integers(len(names))]
        allowed = list(calls(name))
        chosen = rng.choice(len(allowed), min(len(allowed), int(rng.integers(2, 5))), replace=False)
        yield _call(name, dict(allowed[i] for i in chosen))
