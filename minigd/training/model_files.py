"""From a file back to a model.

A file names its classes, and only the package's own and those named by the caller are made.
"""

import os
from collections.abc import Iterable, Mapping

from minigd.backends.base import Backend, get_backend
from minigd.errors import check_integer, check_list, check_path, shown
from minigd.nn.layers import LAYERS
from minigd.nn.losses import LOSSES
from minigd.nn.metrics import METRICS
from minigd.nn.sequential import Sequential, with_arrays
from minigd.optim.schedules import SCHEDULES
from minigd.optim.updaters import UPDATERS
from minigd.progress import warn
from minigd.storage import npz
from minigd.storage.damage import damaged, of_file
from minigd.storage.describe import Arrays, Description, check_classes, rebuild


def load(
    path: str | os.PathLike[str],
    custom: Iterable[type] | None = (),
    backend: str | Backend = "numpy",
) -> Sequential:
    """Read a model that `Sequential.save` or a trainer wrote.

    Parameters
    ----------
    path : str or path-like
    custom : iterable of class
        Layers, losses and metrics from outside the package that the model uses. Nothing else is
        ever constructed, and no code comes from the file.
    backend : {"numpy", "cupy"} or Backend, default "numpy"
        Wherever the model was trained.

    Returns
    -------
    Sequential

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    CheckpointError
        If the file is damaged, too new, or needs a class that was not named.

    Warns
    -----
    RuntimeWarning
        If parameters or buffers are not finite; it names them.

    Examples
    --------
    >>> import tempfile, minigd as gd
    >>> model = gd.Sequential([gd.Dense(1)], inputs=2, seed=3)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model.save(f"{folder}/m.npz")
    ...     again = gd.load(f"{folder}/m.npz")
    >>> bool((again.flat_params == model.flat_params).all())
    True
    """
    custom, backend = check_custom(custom), get_backend(backend)
    description, arrays = npz.read(path)
    with of_file(check_path("path", path)):
        return restore(description, arrays, custom, backend)


def check_custom(custom: Iterable[type] | None) -> list[type]:
    """Return the classes named by a caller, and refuse anything else."""
    classes = [None] if isinstance(custom, type) else check_list("custom", custom, "class")
    if not all(isinstance(c, type) for c in classes):
        raise TypeError(f"custom is a list of classes, [MyLayer], and not {shown(custom)}")
    return classes


def known_classes(registry: Mapping[str, type], custom: Iterable[type]) -> dict[str, type]:
    """Return, by their own names, the classes that a file may name: the package's and a caller's.

    >>> from minigd.nn.losses import LOSSES
    >>> sorted(known_classes(LOSSES, []))[:2]
    ['BinaryCrossEntropy', 'CategoricalCrossEntropy']
    """
    return {c.__name__: c for c in [*registry.values(), *custom]}


def check_named(description: Description, parts: Iterable[str], custom: Iterable[type]) -> None:
    """Refuse a description with classes that nobody has named, all of them at once."""
    own = (LAYERS, LOSSES, METRICS, UPDATERS, SCHEDULES)
    known = [name for registry in own for name in known_classes(registry, custom)]
    check_classes([description.get(part) for part in parts], known)


def restore(
    description: Description,
    arrays: Arrays,
    custom: Iterable[type] | None = (),
    backend: str | Backend = "numpy",
) -> Sequential:
    """Make the model that `Sequential.describe` and `Sequential.arrays` gave."""
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
        model.names = description.get("names")  # which files of before do not have
        if not isinstance(model.names, list | None):
            raise TypeError(f"names must be a list, not {model.names!r}")
        if description.get("schema") is not None:
            from minigd.data.tables.saved import schema_in_file

            model.schema = schema_in_file(description["schema"], model.n_in)
        model.metrics = {
            name: rebuild(metric, metrics) for name, metric in description["metrics"].items()
        }
    _warn_of_nan(model)
    return model


def _warn_of_nan(model: Sequential) -> None:
    backend = model.backend
    lost = []
    if not backend.all_finite(model.flat_params):
        lost = [name for name, values in model.params.items() if not backend.all_finite(values)]
    for layer in model.layers:
        # A layer from outside may begin a running minimum at infinity.
        lost += [f"{layer.name}.{name}" for name, b in layer.buffers.items() if (b != b).any()]
    if lost:
        warn(
            f"the file has numbers that are not finite in {', '.join(lost)}: the model can't "
            "predict with them. Load a file that was saved before they came",
            RuntimeWarning,
            stacklevel=4,
        )
