"""A plugin for pytest: each layer and loss in the files of `minigd_layers` is a test.

pytest finds it through `minigd_pytest`; ``-p minigd.checks.pytest_plugin`` loads it explicitly.
"""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from minigd.checks.layer_rules import LayerWarning
from minigd.checks.user_file import check_layer_or_loss, layers_and_losses_in
from minigd.errors import GradientError
from minigd_pytest import check_layer, pytest_addoption

__all__ = ["check_layer", "pytest_addoption"]


def pytest_configure(config: pytest.Config) -> None:
    """Refuse a missing file, and collect one outside `testpaths`."""
    files = _files(config)
    for path in files:
        if not path.is_file():
            raise pytest.UsageError(f"minigd_layers names {path}, but there is no such file")
    if config.args_source is pytest.Config.ArgsSource.TESTPATHS:
        visited = [(config.invocation_params.dir / arg).resolve() for arg in config.args]
        for path in files:
            if not any(path.is_relative_to(folder) for folder in visited):
                config.args.append(str(path))


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Return the collector of a file that `minigd_layers` names."""
    if file_path.resolve() in _files(parent.config):
        return LayerFile.from_parent(parent, path=file_path)
    return None


def _files(config: pytest.Config) -> list[Path]:
    return [path.resolve() for path in config.getini("minigd_layers")]


class LayerFile(pytest.File):
    """A file of layers and losses."""

    def collect(self) -> Iterator[pytest.Item]:
        """Yield a test for each of them."""
        try:
            found = layers_and_losses_in(self.path)
        except (OSError, ValueError) as error:
            raise self.CollectError(str(error)) from error
        for name, thing in found:
            yield LayerItem.from_parent(self, name=name, thing=thing)


class LayerItem(pytest.Item):
    """The check of one layer or loss."""

    def __init__(self, *, thing: Any, **options: Any) -> None:
        super().__init__(**options)
        self.thing = thing

    def runtest(self) -> None:
        """Check it, and warn about what may be intended."""
        verdict = check_layer_or_loss(self.name, self.thing)
        for note in verdict.notes:
            warnings.warn(f"{self.name}: {note}", LayerWarning, stacklevel=1)
        if verdict.error is not None:
            raise verdict.error

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Return the message, and the place in the file unless it is a wrong gradient."""
        if isinstance(excinfo.value, GradientError):
            return str(excinfo.value)
        own = excinfo.traceback.cut(path=self.path)
        if len(own) == len(excinfo.traceback):
            return excinfo.exconly()
        return excinfo.getrepr(style="short", tbfilter=lambda _: own)

    def reportinfo(self) -> tuple[Path, None, str]:
        """Return the file and the name, for the head of a failure."""
        return self.path, None, self.name
