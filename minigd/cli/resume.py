"""Going on with a training that was interrupted, with the options it was begun with.

What has changed since is said as the shell says it, `--batch-size 64`.
"""

import json
import os
from typing import Any

from minigd.data.batches import Batches
from minigd.errors import CheckpointError
from minigd.nn.sequential import Sequential
from minigd.optim.updaters import Adam
from minigd.storage import npz
from minigd.storage.describe import Description, describe
from minigd.training import checkpoints as runs
from minigd.training.trainer import Trainer

_SAME = "give the same as then, or start anew without --resume"


def check_checkpoint(checkpoint: str) -> None:
    """Refuse to go on from a checkpoint that is not there.

    >>> check_checkpoint("/no/such/model.npz.checkpoint")
    Traceback (most recent call last):
    FileNotFoundError: there is no '/no/such/model.npz.checkpoint' of an interrupted run to go on \
from: start anew without --resume
    """
    if not os.path.exists(checkpoint):
        raise FileNotFoundError(
            f"there is no {checkpoint!r} of an interrupted run to go on from: start anew without "
            "--resume"
        )


def resume_run(checkpoint: str, batches: Batches, model: Sequential, updater: Adam) -> Trainer:
    """Return the run of a checkpoint, if it was begun with the same options.

    The model and the updater are those of a run that begins; of the model, layers and backend are
    used. The error names each option that is otherwise, and what it was.
    """
    description, _ = npz.read(checkpoint)
    if "run" not in description:
        raise CheckpointError(
            f"{checkpoint!r} is no checkpoint of a run: start anew without --resume"
        )
    other_table = CheckpointError(
        f"{checkpoint!r} can't go on: the table is another one, or another --target, --task "
        f"or --exclude was given, or it is read otherwise; {_SAME}"
    )
    # Through JSON, as the saved ones went.
    own = json.loads(
        json.dumps(
            {
                "layers": model.describe()["layers"],
                "updater": describe(updater),
                "run": {"batches": batches.state_dict()},
            }
        )
    )
    try:
        then, now = _options(description), _options(own)
        same_table = _table(description) == _table(own)
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{checkpoint!r} is damaged, or was not written by `minigd train`: start anew without "
            "--resume"
        ) from error
    if not same_table:
        raise other_table
    others = [
        f"{option} {now[option]}, and the run was trained with {then[option]}"
        for option in now
        if now[option] != then[option]
    ]
    if others:
        raise CheckpointError(f"{checkpoint!r} can't go on with {'; '.join(others)}: {_SAME}")
    try:
        runs.compare(description["run"]["batches"], own["run"]["batches"])
        same = description["layers"] == own["layers"]
    except CheckpointError:
        same = False
    if not same:
        raise other_table
    return Trainer.resume(checkpoint, batches, backend=model.backend)


def _table(description: Description) -> Any:
    """Return the print of the table, whichever part of it is held out."""
    data = description["run"]["batches"]["data"]
    return data["of"]


def _options(description: Description) -> dict[str, Any]:
    """Return what options came to, by their names."""
    widths = [
        layer["arguments"]["units"] for layer in description["layers"] if layer["class"] == "Dense"
    ]
    rate = description["updater"]["arguments"]["learning_rate"]["arguments"]
    batches = description["run"]["batches"]
    return {
        "--batch-size": batches["batch_size"],
        "--hidden": ",".join(map(str, widths[:-1])) or 0,
        "--epochs": rate["epochs"],
        "--learning-rate": rate["learning_rate"],
        "--seed": batches["seed"],
    }
