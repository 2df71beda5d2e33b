"""Resuming a training that was interrupted, with the options it was started with.

An option that has changed is named as the shell writes it, `--batch-size 64`.
"""

import json
import os
from collections.abc import Mapping
from typing import Any

from minigd.data.batches import Batches
from minigd.errors import CheckpointError
from minigd.nn.metrics import Metric
from minigd.nn.sequential import Sequential
from minigd.optim.updaters import Adam
from minigd.storage import npz
from minigd.storage.damage import damaged
from minigd.storage.describe import Description, describe
from minigd.training import checkpoints as runs
from minigd.training.trainer import Trainer

_SAME = "give the same options as before, or start again without --resume"


def check_checkpoint(checkpoint: str) -> None:
    """Refuse to resume from a checkpoint that does not exist.

    >>> check_checkpoint("/no/such/model.npz.checkpoint")
    Traceback (most recent call last):
    FileNotFoundError: there is no '/no/such/model.npz.checkpoint' of an interrupted run to \
resume: start again without --resume
    """
    if not os.path.exists(checkpoint):
        raise FileNotFoundError(
            f"there is no {checkpoint!r} of an interrupted run to resume: start again without "
            "--resume"
        )


def resume_run(
    checkpoint: str,
    batches: Batches,
    model: Sequential,
    updater: Adam,
    metrics: Mapping[str, Metric],
    comm: Any = None,
) -> Trainer:
    """Return the run of a checkpoint, if it was started with the same options.

    The model, the updater and the metrics are those of a new run; only the layers and the backend
    of the model are used. The error names each option that differs, and its old value.
    """
    description, _ = npz.read(checkpoint)
    if "run" not in description:
        raise CheckpointError(
            f"{checkpoint!r} is not a checkpoint of a run: start again without --resume"
        )
    other_table = CheckpointError(
        f"{checkpoint!r} can't be resumed: the table, --target, --task, --exclude, "
        f"--class-weight, the rows held out or the way the table is read has changed; {_SAME}"
    )
    # Through JSON, like the saved ones.
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
        with damaged(f"{checkpoint!r} is"):
            then, now = _options(description), _options(own)
            same_table = _table(description) == _table(own)
    except CheckpointError as error:
        raise CheckpointError(
            f"{checkpoint!r} is damaged, or was not written by `minigd train`: start again without "
            "--resume"
        ) from error
    if not same_table:
        raise other_table
    others = [
        f"{option} {now[option]}, but the run was trained with {then[option]}"
        for option in now
        if now[option] != then[option]
    ]
    if others:
        raise CheckpointError(f"{checkpoint!r} can't be resumed with {'; '.join(others)}: {_SAME}")
    try:
        runs.compare(description["run"]["batches"], own["run"]["batches"])
        same = description["layers"] == own["layers"]
    except CheckpointError:
        same = False
    if not same:
        raise other_table
    trainer = Trainer.resume(checkpoint, batches, backend=model.backend, comm=comm)
    if list(trainer.metrics) != list(metrics):
        raise CheckpointError(
            f"{checkpoint!r} can't be resumed with --metrics {','.join(metrics)}, but the run was "
            f"trained with {','.join(trainer.metrics)}: {_SAME}"
        )
    return trainer


def _table(description: Description) -> Any:
    """Return the fingerprint of the whole table, without regard to its split."""
    data = description["run"]["batches"]["data"]
    return data["of"]


def _options(description: Description) -> dict[str, Any]:
    """Return the values of options, by their names."""
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
