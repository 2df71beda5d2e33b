"""Mini-batch gradient descent from scratch, on NumPy and on CuPy.

Rows in, batches cut, layers forward, one loss, layers backward, one update: every step legible.
"""

from minigd import initializers, metrics
from minigd.backend import Array, Backend, get_backend
from minigd.batches import Batch, Batches, batch_slices
from minigd.errors import (
    BackendError,
    CheckpointError,
    DataError,
    DivergenceError,
    GradientError,
    ShapeError,
)
from minigd.files import load
from minigd.gradcheck import check_gradients, check_layer
from minigd.history import History
from minigd.layers import Dense, Layer, ReLU, Rescale, Sigmoid, Softmax, Standardize, Tanh
from minigd.linear import coefficients
from minigd.losses import BinaryCrossEntropy, CategoricalCrossEntropy, Loss, MeanSquaredError
from minigd.model import Sequential
from minigd.objective import Objective
from minigd.sources import (
    ArraySource,
    CsvSource,
    IdxSource,
    IterableSource,
    NpySource,
    ParquetSource,
)
from minigd.trainer import Event, Trainer
from minigd.updaters import SGD, Adam, Updater
from minigd.version import __version__

__all__ = [
    "SGD",
    "Adam",
    "Array",
    "ArraySource",
    "Backend",
    "BackendError",
    "Batch",
    "Batches",
    "BinaryCrossEntropy",
    "CategoricalCrossEntropy",
    "CheckpointError",
    "CsvSource",
    "DataError",
    "Dense",
    "DivergenceError",
    "Event",
    "GradientError",
    "History",
    "IdxSource",
    "IterableSource",
    "Layer",
    "Loss",
    "MeanSquaredError",
    "NpySource",
    "Objective",
    "ParquetSource",
    "ReLU",
    "Rescale",
    "Sequential",
    "ShapeError",
    "Sigmoid",
    "Softmax",
    "Standardize",
    "Tanh",
    "Trainer",
    "Updater",
    "__version__",
    "batch_slices",
    "check_gradients",
    "check_layer",
    "coefficients",
    "get_backend",
    "initializers",
    "load",
    "metrics",
]
