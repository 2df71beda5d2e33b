"""The check of a user's file: a verdict on each layer and loss in it, on random rows.

``minigd check mylayer.py`` and the pytest plugin use it.
"""

import importlib.util
import inspect
import os
import sys
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from minigd import formulas
from minigd.checks.gradients import check_gradients, check_layer
from minigd.checks.layer_rules import LayerWarning
from minigd.checks.layer_rules.inner import model_of, no_inner_layers
from minigd.checks.layer_rules.parts import Identity
from minigd.checks.passes import new_loss
from minigd.data.batches import Batches
from minigd.errors import GradientError, PerExampleError, ShapeError, check_path
from minigd.nn.layers import Layer
from minigd.nn.layers.scaling import Adapted
from minigd.nn.losses import Loss
from minigd.nn.sequential import Sequential
from minigd.progress import printable
from minigd.types import Array

SIZES = (7, 2, 1)
WIDTHS = (6, 5, 1)


class Verdict(NamedTuple):
    """The result for one layer or loss: its name, the error if there was one, and notes.

    >>> print(Verdict("Swish")); print(Verdict("Scale", GradientError("s is off", "a sign")))
    Swish: ok
    Scale: wrong. It looks like: a sign
    >>> print(Verdict("Table", notes=("forward uses self.table",)))
    Table: ok. Note: forward uses self.table
    """

    name: str
    error: BaseException | None = None
    checked: bool = True
    notes: tuple[str, ...] = ()

    @property
    def right(self) -> bool:
        """Whether it was checked and is right."""
        return self.error is None

    def __str__(self) -> str:
        notes = "".join(f". Note: {note}" for note in self.notes)
        if self.error is None:
            return printable(f"{self.name}: ok{notes}")
        found = getattr(self.error, "diagnosis", None)
        kind = "" if isinstance(self.error, GradientError) else f"{type(self.error).__name__}: "
        where = _where(self.error) if kind and self.checked else ""
        what = " ".join(f"{kind}{self.error}".split()) + where
        what = f"It looks like: {found}" if found else what
        return printable(
            f"{self.name}: {'wrong' if self.checked else 'not checked'}. {what}{notes}"
        )


def _where(error: BaseException) -> str:
    """Return the last line of a traceback outside minigd and NumPy, if there is one."""
    inside = tuple(str(Path(module).parent) for module in (__file__, np.__file__))
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if not f.filename.startswith((*inside, "<"))]
    # An error that the author raises on purpose says enough.
    if not own or (own[-1].line or "").startswith("raise "):
        return ""
    return f" ({Path(own[-1].filename).name}, line {own[-1].lineno})"


def check_file(path: str | os.PathLike[str]) -> list[Verdict]:
    """Check each layer and each loss that a Python file defines.

    These are the entries of the list ``examples`` in the file, if it has one,
    ``examples = [MyLayer(3)]``, and every other public class of the file that can be created
    without arguments.

    Parameters
    ----------
    path : str or path

    Returns
    -------
    list of Verdict

    Raises
    ------
    OSError
        If the file can't be read.
    ValueError
        If it can't be run, or contains nothing to check.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "mylayer.py")
    ...     _ = path.write_text('''
    ... import minigd as gd
    ... class Double(gd.Layer):
    ...     def forward(self, x, train=False):
    ...         return 2 * x
    ...     def backward(self, dy):
    ...         return dy / 2
    ... ''')
    ...     for verdict in check_file(path):
    ...         print(verdict)
    Double: wrong. It looks like: a constant factor of 0.25
    """
    return [check_layer_or_loss(name, thing) for name, thing in layers_and_losses_in(path)]


def layers_and_losses_in(path: str | os.PathLike[str]) -> list[tuple[str, Any]]:
    """Return what to check in a file by name: examples, and classes."""
    module = _load(Path(check_path("path", path)))
    examples = getattr(module, "examples", [])
    if not isinstance(examples, list | tuple) or not all(
        isinstance(example, Layer | Loss) for example in examples
    ):
        raise ValueError(
            f"examples in {path} must be a list of layers and losses, such as [MyLayer(3)], not "
            f"{examples!r}"
        )
    found = [(repr(example), example) for example in examples]
    shown = {type(example) for example in examples}
    found += [(kind.__name__, kind) for kind in _own_classes(module) if kind not in shown]
    if not found:
        raise ValueError(f"nothing to check in {path}: it defines no Layer and no Loss")
    return found


def _load(path: Path) -> ModuleType:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    # As with `python mylayer.py`, so that a file can import others in its folder.
    name, folder = f"_minigd_check_{path.stem}", str(path.resolve().parent)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is not a Python file: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise ValueError(f"{path} can't be run: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(folder)
    return module


def _own_classes(module: ModuleType) -> Iterator[type[Layer] | type[Loss]]:
    """Yield the public layers and losses of a module, except pure base classes."""
    own = [
        kind
        for name, kind in vars(module).items()
        if inspect.isclass(kind)
        and issubclass(kind, Layer | Loss)
        and kind.__module__ == module.__name__
        and not name.startswith("_")
    ]
    for kind in own:
        built_on = any(other is not kind and issubclass(other, kind) for other in own)
        if not (built_on and _is_unfinished(kind)):
            yield kind


def _is_unfinished(kind: type[Layer] | type[Loss]) -> bool:
    """Return whether a class lacks methods that its subclasses define."""
    verdict = check_layer_or_loss(kind.__name__, kind)
    lacks = (NotImplementedError, AttributeError)
    return isinstance(verdict.error, lacks) or not verdict.checked


def check_layer_or_loss(name: str, thing: Any) -> Verdict:
    """Check a layer or a loss, or its class, and return the verdict."""
    if isinstance(thing, type):
        try:
            thing = thing()
        except Exception as error:
            given = [p.default for p in inspect.signature(thing).parameters.values()]
            if inspect.Parameter.empty not in given:
                return Verdict(name, error, checked=False)
            reason = f"{error}; add a list of examples to the file, examples = [{name}(...)]"
            return Verdict(name, TypeError(reason), checked=False)
    failed: BaseException | None = None
    with warnings.catch_warnings(record=True) as caught, np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", LayerWarning)
        try:
            if isinstance(thing, Layer):
                with no_inner_layers(thing):
                    _check_a_layer(thing)
            else:
                _check_a_loss(thing)
        except (Exception, SystemExit) as error:  # a custom layer may raise anything
            failed = error
    notes = [str(warning.message).partition(": ")[2] for warning in caught]
    return Verdict(name, failed, notes=tuple(dict.fromkeys(notes)))


def _check_a_layer(layer: Layer) -> None:
    """Check a layer in each width that it accepts, with rows for which its output is finite."""
    refused: Exception | None = None
    taken = False
    for width in WIDTHS:
        for rows in _rows(max(SIZES), width):
            try:
                model = model_of(layer, width)
                if isinstance(model.layers[0], Adapted):
                    model.layers[0].adapt(Batches(rows, rows))
                y = model.forward(rows, train=True)
            except ShapeError as error:
                raise GradientError(str(error)) from error
            except ValueError as error:
                # A layer may accept only some widths. If it accepts none, this is the reason.
                refused = error
                break
            if np.isfinite(y).all():
                taken = True
                for n in SIZES:
                    check_layer(layer, rows[:n])
                break
    if not taken:
        raise refused or ValueError("forward returns no finite numbers for any kind of rows")


def _rows(n: int, width: int) -> list[Array]:
    """Return rows of any numbers, and of numbers between 0 and 1 for layers that need those."""
    rng = np.random.default_rng([n, width])
    return [rng.standard_normal((n, width)), rng.uniform(0.1, 0.9, (n, width))]


def _check_a_loss(loss: Loss) -> None:
    """Check a loss in each width that it accepts, with and without row weights."""
    taken = False
    # A categorical cross-entropy of one output proves nothing, unless it accepts no other width.
    for width in WIDTHS:
        if width == 1 and taken:
            break
        for n in SIZES:
            pair = _pair(loss, n, width)
            if pair is not None:
                taken = True
                model = Sequential([Identity()], width, dtype="float64")
                check_gradients(model, loss, *pair)
                check_gradients(model, loss, *pair, np.random.default_rng(n).uniform(0.2, 3.0, n))
    if not taken:
        raise ValueError(
            "per_example returns no finite numbers for any kind of outputs and targets"
        )


def _pair(loss: Loss, n: int, width: int) -> tuple[Array, Array] | None:
    """Return outputs and targets of the first kinds for which the loss is finite."""
    refused: Exception | None = None
    for z in _outputs(loss, n, width):
        for y in _targets(n, width):
            try:
                value = new_loss(loss).forward(z, y)
            except PerExampleError:
                raise
            except ValueError:
                continue
            except (TypeError, IndexError) as error:
                refused = refused or error
                continue
            if np.isfinite(value):
                return z, y
    if refused is not None:
        raise refused
    return None


def _outputs(loss: Loss, n: int, width: int) -> list[Array]:
    z, shares = _rows(n, width)
    if width > 1:
        shares = formulas.softmax(z)
    return [shares] if loss.takes_probabilities else [2 * z, shares]


def _targets(n: int, width: int) -> list[Array]:
    """Return targets of several kinds. Most losses accept the first one, rows that sum to 1."""
    rng = np.random.default_rng([n, width, 1])
    shares = rng.dirichlet(np.ones(width), n) if width > 1 else rng.uniform(0, 1, (n, 1))
    classes = rng.integers(0, max(width, 2), n)
    labels = (shares > 0.5).astype("float64")
    return [shares, labels, classes, np.eye(max(width, 2))[classes][:, :width]]
