"""From a file back to a model.

A file names its classes. Only those of the package and those named by the caller are created.
"""

import copy
import functools
import os
from collections.abc import Iterable, Mapping
from typing import Any

from minigd.backends.base import Backend, get_backend
from minigd.errors import check_integer, check_list, check_path, shown
from minigd.nn.layers import LAYERS
from minigd.nn.losses import LOSSES, FunctionLoss
from minigd.nn.metrics import METRICS, FunctionMetric, ScorerMetric
from minigd.nn.sequential import Sequential, with_arrays
from minigd.optim.schedules import SCHEDULES, FunctionSchedule
from minigd.optim.updaters import UPDATERS, PerLayer
from minigd.progress import warn
from minigd.storage import npz
from minigd.storage.damage import damaged, of_file
from minigd.storage.describe import Description, check_classes, name_of_function, rebuild

RULES = {**UPDATERS, "per layer": PerLayer, **SCHEDULES}
"""The updaters and schedules that a checkpoint may name."""


def load(
    path: str | os.PathLike[str],
    custom: Iterable[Any] | None = (),
    backend: str | Backend = "numpy",
) -> Sequential:
    """Read a model that `Sequential.save` or a trainer wrote.

    Parameters
    ----------
    path : str or path-like
    custom : iterable of class
        Custom layers, losses and metrics of the model, and plain functions that are its loss or
        metrics. No other custom class is created, and no code comes from the file.
    backend : {"numpy", "cupy"} or Backend, default "numpy"
        The backend of the new model.

    Returns
    -------
    Sequential

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    CheckpointError
        If the file is damaged, too new, or needs a class that was not passed.

    Warns
    -----
    RuntimeWarning
        If parameters or buffers are not finite. It names them.

    Examples
    --------
    >>> import tempfile, minigd as gd
    >>> model = gd.Sequential([gd.Dense(1)], inputs=2, seed=3)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model.save(f"{folder}/m.npz")
    ...     again = gd.load(f"{folder}/m.npz")
    >>> float(abs(again.flat_params - model.flat_params).max())
    0.0
    """
    custom, backend = check_custom(custom), get_backend(backend)
    description, arrays = npz.read(path)
    with of_file(check_path("path", path)):
        return restore(description, arrays, custom, backend)


def check_custom(custom: Iterable[Any] | None) -> list[Any]:
    """Return the classes named by a caller, and refuse anything else."""
    classes = [None] if isinstance(custom, type) else check_list("custom", custom, "class")
    if not all(callable(c) or isinstance(c, FunctionLoss | FunctionMetric) for c in classes):
        raise TypeError(
            f"custom must be a list of classes or functions, such as [MyLayer], not {shown(custom)}"
        )
    return classes


def known_classes(registry: Mapping[str, type], custom: Iterable[Any]) -> dict[str, Any]:
    """Return the classes that a file may name, by name: the package's and the caller's.

    >>> from minigd.nn.losses import LOSSES
    >>> sorted(known_classes(LOSSES, []))[:2]
    ['BinaryCrossEntropy', 'CategoricalCrossEntropy']
    """
    named = [*registry.values(), *([ScorerMetric] if registry is METRICS else []), *custom]
    kinds: dict[int, Any] = {id(METRICS): FunctionMetric, id(LOSSES): FunctionLoss}
    stands_for = kinds.get(id(registry), FunctionSchedule)
    found: dict[str, Any] = {}
    for one in named:
        if isinstance(one, FunctionLoss | FunctionMetric):
            found[name_of_function(one.function)] = functools.partial(copy.copy, one)
        else:
            own = one if isinstance(one, type) else functools.partial(stands_for, one)
            found[name_of_function(one)] = own
    return found


def check_named(description: Description, parts: Iterable[str], custom: Iterable[Any]) -> None:
    """Refuse a description with unknown classes, and name all of them."""
    own = (LAYERS, LOSSES, METRICS, RULES)
    known = [name for registry in own for name in known_classes(registry, custom)]
    check_classes([description.get(part) for part in parts], known)


def restore(
    description: Description,
    arrays: npz.Members,
    custom: Iterable[Any] | None = (),
    backend: str | Backend = "numpy",
) -> Sequential:
    """Create the model described by `Sequential.describe` and `Sequential.arrays`."""
    custom, backend = check_custom(custom), get_backend(backend)
    layers, metrics = known_classes(LAYERS, custom), known_classes(METRICS, custom)
    with damaged("the file's description of the model is"):
        check_named(description, ("layers", "loss", "metrics"), custom)
        model = with_arrays(
            {name: a for name, a in arrays.items() if not name.startswith("run/")},
            [rebuild(layer, layers) for layer in description["layers"]],
            description["inputs"],
            backend=backend,
            dtype=description["dtype"],
            seed=description["seed"],
        )
        if description["loss"] is not None:
            model.loss = rebuild(description["loss"], known_classes(LOSSES, custom))
        model.passes = check_integer("passes", description["passes"], 0)
        model.names = description.get("names")  # which older files do not have
        if not isinstance(model.names, list | None):
            raise TypeError(f"names must be a list, not {model.names!r}")
        if description.get("schema") is not None:
            from minigd.data.tables.saved import schema_in_file

            model.schema = schema_in_file(description["schema"], model.n_in)
        model.metrics = {
            name: rebuild(metric, metrics) for name, metric in description["metrics"].items()
        }
    _warn_of_nan(model, arrays)
    return model


def _warn_of_nan(model: Sequential, arrays: npz.Members) -> None:
    # A number that is finite in the file may be too large for another dtype.
    fine = {name for name in arrays.finite if arrays[name].dtype == model.dtype}
    params = {k: v for k, v in model.params.items() if f"params/{k}" not in fine}
    lost = [name for name, values in params.items() if not model.backend.all_finite(values)]
    for layer in model.layers:
        # A custom layer may start a running minimum at infinity.
        lost += [
            f"{layer.name}.{name}"
            for name, b in layer.buffers.items()
            if f"buffers/{layer.name}.{name}" not in fine and (b != b).any()
        ]
    if lost:
        warn(
            f"the file has numbers that are not finite in {', '.join(lost)}: the model can't "
            "predict with them. Load a file that was saved earlier",
            RuntimeWarning,
            stacklevel=4,
        )
