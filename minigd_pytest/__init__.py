"""What pytest loads of minigd by itself: the name of an option and of a fixture, and no more.

It stands beside the package, so that neither minigd nor NumPy is imported until one is used.
"""

from collections.abc import Callable
from typing import Any

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the option that names files of layers."""
    parser.addini(
        "minigd_layers",
        "files of Python whose minigd layers and losses are checked, each as a test",
        type="paths",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Load what collects the files, if there are any."""
    if config.getini("minigd_layers"):
        config.pluginmanager.import_plugin("minigd.checks.pytest_plugin")


@pytest.fixture
def check_layer() -> Callable[..., dict[str, float]]:
    """Return `minigd.check_layer`, whose failure is shown without a traceback of minigd's own."""
    from minigd import GradientError
    from minigd import check_layer as check

    def checked(layer: Any, x: Any, **options: Any) -> dict[str, float]:
        __tracebackhide__ = True
        try:
            return check(layer, x, **options)
        except GradientError as error:
            raise error.with_traceback(None) from None

    return checked
