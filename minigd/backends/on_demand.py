"""What is imported only when it is called: the few conveniences that reach up the list of imports.

`tests/test_architecture.py` names them all.
"""

import importlib
from typing import Any


def call(module: str, name: str, *arguments: Any, **options: Any) -> Any:
    """Import a function or a class of the package by name, and return what it returns.

    >>> call("minigd.formulas", "relu", -1.0)
    array(0.)
    """
    return getattr(importlib.import_module(module), name)(*arguments, **options)
