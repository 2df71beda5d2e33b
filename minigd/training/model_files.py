"""From a file back to a model.

A file names its classes, and only the package's own and those named by the caller are made.
"""

import os
from collections.abc import Iterable, Mapping

from minigd.backends.base import Backend
from minigd.errors import CheckpointError, check_integer, check_list, shown
from minigd.nn.layers import LAYERS
from minigd.nn.losses import LOSSES
from minigd.nn.metrics import METRICS
from minigd.nn.sequential import Sequential
from minigd.storage import npz
from minigd.storage.describe import Arrays, Description, rebuild


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
    description, arrays = npz.read(path)
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


def restore(
    description: Description,
    arrays: Arrays,
    custom: Iterable[type] | None = (),
    backend: str | Backend = "numpy",
) -> Sequential:
    """Make the model that `Sequential.describe` and `Sequential.arrays` gave."""
    custom = check_custom(custom)
    layers, metrics = known_classes(LAYERS, custom), known_classes(METRICS, custom)
    try:
        model = Sequential(
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
        model.metrics = {
            name: rebuild(metric, metrics) for name, metric in description["metrics"].items()
        }
    except CheckpointError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"the file's description of the model is damaged: {error}") from error
    model.load_arrays({name: a for name, a in arrays.items() if not name.startswith("run/")})
    return model
