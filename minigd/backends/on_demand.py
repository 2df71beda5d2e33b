"""Imports made only where they are used: of higher modules, and of optional packages.

`tests/test_architecture.py` names the first, `PACKAGES` the second.
"""

import importlib
from typing import Any

# The usual name of a package, and what pip installs for it.
PACKAGES = {
    "cupy": ("CuPy", "cupy-cuda12x"),
    "matplotlib": ("Matplotlib", "matplotlib"),
    "mpi4py": ("mpi4py", "mpi4py"),
    "narwhals": ("narwhals", "narwhals"),
    "llvmlite": ("llvmlite", "numba scipy"),
    "numba": ("Numba", "numba scipy"),
    "onnx": ("onnx", "onnx"),
    "pandas": ("pandas", "pandas pyarrow"),
    "pyarrow": ("pyarrow", "pandas pyarrow"),
    "scipy": ("SciPy", "scipy"),
    "sklearn": ("scikit-learn", "scikit-learn"),
}


def call(module: str, name: str, *arguments: Any, **options: Any) -> Any:
    """Import a function or a class of minigd by name, call it, and return the result.

    >>> call("minigd.formulas", "relu", -1.0)
    array(0.)
    """
    return getattr(importlib.import_module(module), name)(*arguments, **options)


def optional(module: str, use: str) -> Any:
    """Import a module of an optional package.

    The error says what to install, and for which `use`: ``"a picture"``.

    Examples
    --------
    >>> optional("pandas", "a table").__name__
    'pandas'
    """
    try:
        importlib.import_module(module.partition(".")[0])
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(missing(module, use, error)) from error


def missing(module: str, use: str, error: ImportError | None = None) -> str:
    """Return the message for an optional package that can't be imported, for that reason.

    >>> missing("numba", "fast=True")
    'Numba is not installed, and fast=True needs it: `pip install numba scipy`'
    """
    package = module.partition(".")[0]
    name, install = PACKAGES[package]
    absent = isinstance(error, ModuleNotFoundError) and f"{error.name}.".startswith(f"{package}.")
    if error is None or absent:
        return f"{name} is not installed, and {use} needs it: `pip install {install}`"
    return (
        f"{name} can't be imported ({error}), and {use} needs it: `pip install --upgrade {install}`"
    )
