"""Who takes part in `python -m benchmarks`: minigd, its peers, and the floor under them all.

A contender is a module with `prepare(workload, data, **options)`. It returns an object that trains.
"""

import importlib.util
from collections.abc import Mapping
from importlib.metadata import version
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import numpy as np

from benchmarks.workloads import Data, Workload


class Run(Protocol):
    """What `prepare` returns: a network with the first weights of the data, and its rows."""

    @property
    def updates(self) -> int:
        """Updates made so far, as the contender itself counts them."""
        ...

    def train(self, epochs: int) -> list[float]:
        """Train for some epochs more; return the mean loss over the rows of each."""
        ...

    def weights(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return (W, b) of each layer, W of shape (n_in, n_out)."""
        ...


class Module(Protocol):
    """The module of a contender."""

    def prepare(self, workload: Workload, data: Data, **options: Any) -> Run:
        """Make what trains, with everything of a user's script that comes before `fit`."""
        ...


_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Contender(NamedTuple):
    """A name, and how to start what it stands for.

    Attributes
    ----------
    module : str
        In this package.
    options : dict
        For its `prepare`.
    needs : tuple of str
        Packages to import, without which it is left out.
    environment : dict of str to str
        Variables that its process starts with.
    cache : str
        A variable that names the folder where it keeps what it compiled, if it keeps any.
    """

    title: str
    module: str
    options: Mapping[str, Any] = _NOTHING
    needs: tuple[str, ...] = ()
    environment: Mapping[str, str] = _NOTHING
    cache: str = ""

    @property
    def missing(self) -> list[str]:
        """Packages that are not there."""
        return [name for name in self.needs if importlib.util.find_spec(name) is None]


# TensorFlow tells what it was built with on stderr, at every start.
_JAX = {"KERAS_BACKEND": "jax", "TF_CPP_MIN_LOG_LEVEL": "2"}
_TENSORFLOW = {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "2"}

_MINIGD = Contender("minigd", "minigd_trainer", {"fast": False})
_FAST = Contender(
    "minigd with `fast`",
    "minigd_trainer",
    {"fast": True},
    needs=("numba",),
    cache="NUMBA_CACHE_DIR",
)

# Of rows in memory.
NETWORKS = {
    "minigd": _MINIGD,
    "fast": _FAST,
    "sklearn": Contender("scikit-learn", "sklearn_mlp", needs=("sklearn",)),
    "torch": Contender("PyTorch, slicing", "pytorch", {"by": "slicing"}, ("torch",)),
    "torch-loader": Contender("PyTorch, DataLoader", "pytorch", {"by": "loader"}, ("torch",)),
    "keras-jax": Contender("Keras on JAX", "keras_fit", {}, ("keras", "jax"), _JAX),
    "keras-jax-16": Contender(
        "Keras on JAX, 16 steps per execution",
        "keras_fit",
        {"steps_per_execution": 16},
        ("keras", "jax"),
        _JAX,
    ),
    "keras-tf": Contender(
        "Keras on TensorFlow", "keras_fit", {}, ("keras", "tensorflow"), _TENSORFLOW
    ),
    "keras-tf-16": Contender(
        "Keras on TensorFlow, 16 steps per execution, XLA",
        "keras_fit",
        {"steps_per_execution": 16, "jit_compile": True},
        ("keras", "tensorflow"),
        _TENSORFLOW,
    ),
    "jax-step": Contender("JAX, one jitted step", "jax_epoch", {"scan": False}, ("jax",)),
    "jax-scan": Contender("JAX, `lax.scan` epoch", "jax_epoch", {"scan": True}, ("jax",)),
    "floor": Contender("the floor", "matrix_products"),
}

# Of rows in a CSV file.
FILES = {
    "minigd": _MINIGD._replace(needs=("pandas",)),
    "fast": _FAST._replace(needs=("pandas", "numba")),
    "pandas": Contender("pandas, `chunksize=100`", "pandas_loop", needs=("pandas",)),
    "torch": Contender("PyTorch, rows by pandas", "pytorch", {"by": "file"}, ("torch", "pandas")),
    "keras-tf": Contender(
        "Keras, rows by tf.data",
        "keras_fit",
        {"steps_per_execution": 16, "jit_compile": True},
        ("keras", "tensorflow"),
        _TENSORFLOW,
    ),
    "floor": Contender("parsing alone", "pandas_parsing", needs=("pandas",)),
}


def versions() -> str:
    """Return the versions of the packages that contenders run on."""
    packages = {
        "numba": "numba",
        "sklearn": "scikit-learn",
        "torch": "torch",
        "keras": "keras",
        "jax": "jax",
        "tensorflow": "tensorflow",
        "pandas": "pandas",
    }
    there = [p for name, p in packages.items() if importlib.util.find_spec(name) is not None]
    return ", ".join(f"{package} {version(package)}" for package in there)
