"""A run in a file: everything that determines the next update, and the classes in it.

The file is a model file with additional entries. `minigd.load` reads the model from it.
"""

import json
import os
from collections.abc import Iterable
from typing import Any

from minigd.backends.base import Backend, get_backend
from minigd.data.batches import Batches
from minigd.errors import CheckpointError, check_path
from minigd.execution.targets.compiler import available
from minigd.nn.sequential import Sequential
from minigd.optim.updaters import Updater
from minigd.storage import npz
from minigd.storage.damage import of_file
from minigd.storage.describe import Description, describe, join_arrays, rebuild, split_arrays
from minigd.training.events import Run
from minigd.training.model_files import RULES, check_custom, check_named, known_classes, restore


def write(path: str | os.PathLike[str], run: Run) -> None:
    """Write a run to one ``.npz`` file, completely or not at all."""
    path, values = npz.model_path(path), run.state_dict()
    arrays = values.pop("model")
    description = {
        **run.model.describe(),
        "kind": "run",
        "loss": describe(run.objective.given),
        "metrics": {name: describe(metric) for name, metric in run.metrics.items()},
        "updater": describe(run.updater),
        "options": run.options,
        "run": split_arrays(values, "run", arrays),
    }
    # All processes of a run have the same state, and one writes it.
    if not run.communicator.rank:
        npz.write(path, description, arrays)


def read(
    path: str | os.PathLike[str],
    batches: Batches | None,
    custom: Iterable[Any] | None,
    backend: str | Backend,
) -> tuple[Sequential, Updater, dict[str, Any], dict[str, Any]]:
    """Return the model, the updater, the settings and the state of a run that `write` wrote.

    Raises
    ------
    CheckpointError
        If the file is damaged or contains no run, or the batches are not those of the run.
    """
    if batches is not None and not isinstance(batches, Batches):
        raise TypeError(f"resume takes a Batches, not {type(batches).__name__}")
    custom, backend = check_custom(custom), get_backend(backend)
    description, arrays = npz.read(path)
    with of_file(check_path("path", path)):
        if description.get("kind") != "run":
            raise CheckpointError("it is a saved model, not a checkpoint: use minigd.load")
        check_named(description, ("layers", "loss", "metrics", "updater"), custom)
        model = restore(description, arrays, custom, backend)
        if model.loss is None or not {"updater", "options", "run"} <= description.keys():
            raise CheckpointError("it is damaged: parts of the checkpoint are missing")
        values = join_arrays(description["run"], arrays)
        if batches is not None and values.get("batches") is not None:
            compare(values["batches"], batches.state_dict())
        known = known_classes(RULES, custom)
        updater: Updater = rebuild(description["updater"], known)
        # Older files do not contain the number of threads.
        values = {"threads": None, **values, "model": model.arrays()}
        options = dict(description["options"])
        options["fast"] = None if options["fast"] and not available() else options["fast"]
    return model, updater, options, values


def count_updates(path: str | os.PathLike[str]) -> int | None:
    """Return the number of updates of the run in a file, or None if it can't be resumed."""
    try:
        description, _ = npz.read(path)
        return int(description["run"]["updates"])
    except (OSError, CheckpointError, KeyError, TypeError, ValueError):
        return None


def compare(saved: Description, given: Description) -> None:
    """Refuse batches that are not those of a saved run.

    Raises
    ------
    CheckpointError
        With the difference.
    """
    # Converted through JSON, like the saved one, so that tuples equal lists.
    for name, value in json.loads(json.dumps(given)).items():
        # A stream whose rows were unknown at the save may have been counted since then.
        counted = name == "rows" and None in (value, saved.get(name))
        if saved.get(name) != value and not counted:
            change = f"{name} was {saved.get(name)} and is {value}"
            if name in ("data", "weights"):
                change = f"the {name} differ"
            raise CheckpointError("these batches do not match the checkpoint: " + change)
