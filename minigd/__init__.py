"""Mini-batch gradient descent from scratch, on NumPy and on CuPy.

Rows in, batches cut, layers forward, one loss, layers backward, one update: every step legible.
"""

import importlib.util
import typing

from minigd import initializers, metrics
from minigd.backend import Array, Backend, get_backend
from minigd.batches import Batch, Batches, batch_slices
from minigd.callbacks import Checkpoint, CsvLog, EarlyStopping, PrintEvery, ReduceOnPlateau
from minigd.compare import compare_backends
from minigd.errors import (
    BackendError,
    CheckpointError,
    DataError,
    DivergenceError,
    GradientError,
    ShapeError,
)
from minigd.explain import explain
from minigd.export import export_onnx
from minigd.files import load
from minigd.gradcheck import check_gradients, check_layer
from minigd.heavy_rows import HeavyRows
from minigd.history import History
from minigd.layers import (
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
from minigd.linear import coefficients
from minigd.losses import (
    BinaryCrossEntropy,
    CategoricalCrossEntropy,
    Huber,
    Loss,
    MeanSquaredError,
)
from minigd.model import Sequential
from minigd.objective import Objective
from minigd.plotting import (
    plot_confusion,
    plot_decision_boundary,
    plot_predictions,
    plot_schedule,
)
from minigd.race import race
from minigd.rates import RateCurve, find_learning_rate
from minigd.schedules import (
    Constant,
    CosineDecay,
    ExponentialDecay,
    InverseTimeDecay,
    PolynomialDecay,
    Schedule,
    StepDecay,
    WarmUp,
)
from minigd.sources import (
    ArraySource,
    CsvSource,
    IdxSource,
    IterableSource,
    NpySource,
    ParquetSource,
)
from minigd.trainer import Event, Trainer
from minigd.updaters import SGD, Adagrad, Adam, AdamW, RMSprop, Updater
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
    from minigd.estimators import MiniBatchClassifier, MiniBatchRegressor

# They are made of scikit-learn's classes, and loaded when they are first asked for.
_ESTIMATORS = ["MiniBatchClassifier", "MiniBatchRegressor"]
if importlib.util.find_spec("sklearn") is not None:
    __all__ += ["MiniBatchClassifier", "MiniBatchRegressor"]

if not typing.TYPE_CHECKING:

    def __getattr__(name):
        if name not in _ESTIMATORS:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from minigd import estimators

        globals()[name] = getattr(estimators, name)
        return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
