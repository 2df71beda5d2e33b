"""Mini-batch gradient descent from scratch, on NumPy and on CuPy.

Rows, batches, layers forward, a loss, layers backward, an update: you can read every step.
"""

import importlib
import importlib.util
import sys
import typing

from minigd.backends.base import Backend, get_backend
from minigd.data.batches import Batch, Batches, batch_slices
from minigd.data.sources.array import ArraySource
from minigd.errors import (
    BackendError,
    CheckpointError,
    DataError,
    DivergenceError,
    GradientError,
    ShapeError,
)
from minigd.nn import initializers, metrics
from minigd.nn.layers import (
    ELU,
    GELU,
    BatchNorm,
    Dense,
    Dropout,
    Layer,
    LayerNorm,
    LeakyReLU,
    ReLU,
    Rescale,
    Residual,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Standardize,
    Tanh,
)
from minigd.nn.losses import (
    BinaryCrossEntropy,
    CategoricalCrossEntropy,
    Focal,
    FunctionLoss,
    Hinge,
    Huber,
    Loss,
    MeanAbsoluteError,
    MeanSquaredError,
    Poisson,
    Quantile,
)
from minigd.nn.objective import Objective
from minigd.nn.sequential import Sequential
from minigd.optim.schedules import (
    BatchGrowth,
    Constant,
    CosineDecay,
    CosineRestarts,
    ExponentialDecay,
    FunctionSchedule,
    InverseTimeDecay,
    OneCycle,
    Piecewise,
    PolynomialDecay,
    Schedule,
    StepDecay,
    WarmUp,
)
from minigd.optim.updaters import (
    SGD,
    Adagrad,
    Adam,
    AdamW,
    Nadam,
    PerLayer,
    RAdam,
    RMSprop,
    Updater,
)
from minigd.training.callbacks import Checkpoint, CsvLog, EarlyStopping, PrintEvery, ReduceOnPlateau
from minigd.training.events import Event
from minigd.training.history import History
from minigd.training.model_files import load
from minigd.training.trainer import Trainer
from minigd.types import Array
from minigd.version import __version__

if typing.TYPE_CHECKING:
    from minigd.checks.backends import compare_backends
    from minigd.checks.gradients import check_gradients, check_layer
    from minigd.cli.trained import TableModel, load_table
    from minigd.data.sources.csv import CsvSource
    from minigd.data.sources.frame import FrameSource
    from minigd.data.sources.idx import IdxSource
    from minigd.data.sources.iterable import IterableSource
    from minigd.data.sources.npy import NpySource
    from minigd.data.sources.parquet import ParquetSource
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
    from minigd.interop.sklearn.estimators import MiniBatchClassifier, MiniBatchRegressor
    from minigd.training.averaging import AverageWeights
    from minigd.training.processes import opening_together

__all__ = [
    "ELU",
    "GELU",
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Array",
    "ArraySource",
    "AverageWeights",
    "Backend",
    "BackendError",
    "Batch",
    "BatchGrowth",
    "BatchNorm",
    "Batches",
    "BinaryCrossEntropy",
    "CategoricalCrossEntropy",
    "Checkpoint",
    "CheckpointError",
    "Constant",
    "CosineDecay",
    "CosineRestarts",
    "CsvLog",
    "CsvSource",
    "DataError",
    "Dense",
    "DivergenceError",
    "Dropout",
    "EarlyStopping",
    "Event",
    "ExponentialDecay",
    "Focal",
    "FrameSource",
    "FunctionLoss",
    "FunctionSchedule",
    "GradientError",
    "HeavyRows",
    "Hinge",
    "History",
    "Huber",
    "IdxSource",
    "InverseTimeDecay",
    "IterableSource",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Loss",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Nadam",
    "NpySource",
    "Objective",
    "OneCycle",
    "ParquetSource",
    "PerLayer",
    "Piecewise",
    "Poisson",
    "PolynomialDecay",
    "PrintEvery",
    "Quantile",
    "RAdam",
    "RMSprop",
    "RateCurve",
    "ReLU",
    "ReduceOnPlateau",
    "Rescale",
    "Residual",
    "Schedule",
    "Sequential",
    "ShapeError",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Standardize",
    "StepDecay",
    "TableModel",
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
    "load_table",
    "metrics",
    "opening_together",
    "plot_confusion",
    "plot_decision_boundary",
    "plot_predictions",
    "plot_schedule",
    "race",
]

# Loaded at their first use: a training loop needs none of them.
_ON_DEMAND = {
    "AverageWeights": "minigd.training.averaging",
    "CsvSource": "minigd.data.sources.csv",
    "FrameSource": "minigd.data.sources.frame",
    "HeavyRows": "minigd.insight.heavy_rows",
    "IdxSource": "minigd.data.sources.idx",
    "IterableSource": "minigd.data.sources.iterable",
    "NpySource": "minigd.data.sources.npy",
    "ParquetSource": "minigd.data.sources.parquet",
    "RateCurve": "minigd.insight.lr_finder",
    "TableModel": "minigd.cli.trained",
    "check_gradients": "minigd.checks.gradients",
    "check_layer": "minigd.checks.gradients",
    "coefficients": "minigd.insight.coefficients",
    "compare_backends": "minigd.checks.backends",
    "explain": "minigd.insight.explain",
    "export_onnx": "minigd.interop.onnx",
    "find_learning_rate": "minigd.insight.lr_finder",
    "load_table": "minigd.cli.trained",
    "opening_together": "minigd.training.processes",
    "plot_confusion": "minigd.insight.plots",
    "plot_decision_boundary": "minigd.insight.plots",
    "plot_predictions": "minigd.insight.plots",
    "plot_schedule": "minigd.insight.plots",
    "race": "minigd.insight.race",
}
# These are subclasses of scikit-learn's classes.
if importlib.util.find_spec("sklearn") is not None:
    __all__ += ["MiniBatchClassifier", "MiniBatchRegressor"]
_ESTIMATORS = "minigd.interop.sklearn.estimators"
_ON_DEMAND |= {"MiniBatchClassifier": _ESTIMATORS, "MiniBatchRegressor": _ESTIMATORS}

if not typing.TYPE_CHECKING:

    def __getattr__(name):
        if name not in _ON_DEMAND:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        try:
            globals()[name] = getattr(importlib.import_module(_ON_DEMAND[name]), name)
        except ImportError as error:
            # `from minigd import ...` has its own message for a missing name.
            if name in __all__ or sys._getframe(1).f_code.co_name == "_handle_fromlist":
                raise
            raise AttributeError(str(error)) from error
        return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
