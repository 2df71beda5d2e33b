"""Mini-batch gradient descent from scratch, on NumPy and on CuPy.

Rows in, batches cut, layers forward, one loss, layers backward, one update: every step legible.
"""

import importlib.util
import typing

from minigd.backends.base import Array, Backend, get_backend
from minigd.checks.backends import compare_backends
from minigd.checks.gradients import check_gradients, check_layer
from minigd.data.batches import Batch, Batches, batch_slices
from minigd.data.sources import (
    ArraySource,
    CsvSource,
    IdxSource,
    IterableSource,
    NpySource,
    ParquetSource,
)
from minigd.errors import (
    BackendError,
    CheckpointError,
    DataError,
    DivergenceError,
    GradientError,
    ShapeError,
)
from minigd.insight.coefficients import coefficients
from minigd.insight.explain import explain
from minigd.insight.heavy_rows import HeavyRows
from minigd.insight.lr_finder import RateCurve, find_learning_rate
from minigd.insight.plots import (
    plot_confusion,
    plot_decision_boundary,
    plot_predictions,
    plot_schedule,
)
from minigd.insight.race import race
from minigd.interop.onnx import export_onnx
from minigd.nn import initializers, metrics
from minigd.nn.layers import (
    BatchNorm,
    Dense,
    Dropout,
    Layer,
    LeakyReLU,
    ReLU,
    Rescale,
    Sigmoid,
    Softmax,
    Standardize,
    Tanh,
)
from minigd.nn.losses import (
    BinaryCrossEntropy,
    CategoricalCrossEntropy,
    Huber,
    Loss,
    MeanSquaredError,
)
from minigd.nn.objective import Objective
from minigd.nn.sequential import Sequential
from minigd.optim.schedules import (
    Constant,
    CosineDecay,
    ExponentialDecay,
    InverseTimeDecay,
    PolynomialDecay,
    Schedule,
    StepDecay,
    WarmUp,
)
from minigd.optim.updaters import SGD, Adagrad, Adam, AdamW, RMSprop, Updater
from minigd.training.callbacks import Checkpoint, CsvLog, EarlyStopping, PrintEvery, ReduceOnPlateau
from minigd.training.history import History
from minigd.training.model_files import load
from minigd.training.trainer import Event, Trainer
from minigd.version import __version__

__all__ = [
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Array",
    "ArraySource",
    "Backend",
    "BackendError",
    "Batch",
    "BatchNorm",
    "Batches",
    "BinaryCrossEntropy",
    "CategoricalCrossEntropy",
    "Checkpoint",
    "CheckpointError",
    "Constant",
    "CosineDecay",
    "CsvLog",
    "CsvSource",
    "DataError",
    "Dense",
    "DivergenceError",
    "Dropout",
    "EarlyStopping",
    "Event",
    "ExponentialDecay",
    "GradientError",
    "HeavyRows",
    "History",
    "Huber",
    "IdxSource",
    "InverseTimeDecay",
    "IterableSource",
    "Layer",
    "LeakyReLU",
    "Loss",
    "MeanSquaredError",
    "NpySource",
    "Objective",
    "ParquetSource",
    "PolynomialDecay",
    "PrintEvery",
    "RMSprop",
    "RateCurve",
    "ReLU",
    "ReduceOnPlateau",
    "Rescale",
    "Schedule",
    "Sequential",
    "ShapeError",
    "Sigmoid",
    "Softmax",
    "Standardize",
    "StepDecay",
    "Tanh",
    "Trainer",
    "Updater",
    "WarmUp",
    "__version__",
    "batch_slices",
    "check_gradients",
    "check_layer",
    "coefficients",
    "compare_backends",
    "explain",
    "export_onnx",
    "find_learning_rate",
    "get_backend",
    "initializers",
    "load",
    "metrics",
    "plot_confusion",
    "plot_decision_boundary",
    "plot_predictions",
    "plot_schedule",
    "race",
]

if typing.TYPE_CHECKING:
    from minigd.interop.sklearn.estimators import MiniBatchClassifier, MiniBatchRegressor

# They are made of scikit-learn's classes, and loaded when they are first asked for.
_ESTIMATORS = ["MiniBatchClassifier", "MiniBatchRegressor"]
if importlib.util.find_spec("sklearn") is not None:
    __all__ += ["MiniBatchClassifier", "MiniBatchRegressor"]

if not typing.TYPE_CHECKING:

    def __getattr__(name):
        if name not in _ESTIMATORS:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from minigd.interop.sklearn import estimators

        globals()[name] = getattr(estimators, name)
        return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
