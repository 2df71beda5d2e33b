"""The file that `minigd train` writes: a model, what its columns are, and how it was trained.

It is a model's file with more in it, so that `minigd.load` reads the model from it.
"""

import os
from typing import Any, NamedTuple

from minigd.cli.table_files import table_files
from minigd.cli.tables import Reading, Table, Task, check_reading, name_of, open_table
from minigd.data.sources.file_kinds import HOLDS, kind_of
from minigd.data.tables.remedy import Remedy
from minigd.data.tables.schema import MissingColumn, Schema, TextInNumbers
from minigd.errors import CheckpointError, DataError, check_flag
from minigd.nn.sequential import Sequential
from minigd.storage import npz
from minigd.storage.damage import damaged, of_file
from minigd.storage.describe import Description
from minigd.training.history import History, check_columns
from minigd.training.model_files import restore

# Of how a table is written; lines at the top and ends of texts are one file's own.
_HABITS = ("columns", "header", "separator", "na", "keep_default_na", "decimal", "thousands")


class Trained(NamedTuple):
    """A model that knows its table.

    Attributes
    ----------
    model : Sequential
    task : {"classification", "regression"}
    schema : Schema
        Columns, levels and classes of the table it was trained on.
    reading : Reading
        How that table was written.
    history : History
    """

    model: Sequential
    task: Task
    schema: Schema
    reading: Reading
    history: History

    @property
    def best(self) -> int:
        """The epoch whose parameters the model has, from 0: the one of the lowest ``val_loss``."""
        losses = self.history["val_loss"]
        return losses.index(min(losses))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all of it to one ``.npz`` file, whole or not at all."""
        table = {
            "task": self.task,
            "schema": self.schema.state_dict(),
            "reading": {name: getattr(self.reading, name) for name in _HABITS},
        }
        description = {
            **self.model.describe(),
            "table": table,
            "history": self.history.state_dict(),
        }
        npz.write(path, description, self.model.arrays())

    def open(
        self,
        data: Any,
        target: str | bool = False,
        **reading: Any,
    ) -> Table:
        """Return the rows of a table for this model, its columns found by name.

        `target` says whether to read the target too, or its name there where that is another one;
        `reading` what is otherwise than in the table of the training, by the names of `Reading`.
        """
        schema = self.schema.replace(unknown="other")
        beside = None
        if target is False:
            schema = schema.replace(targets=[], classes=None, integer=False)
        elif isinstance(target, str):
            beside = target if target.endswith(".npy") else None
            name = name_of(target) if beside else target
            if name in schema.features:
                raise DataError(
                    f"the column {name!r} is a feature of the model, not its target: "
                    f"--target names the column that holds {schema.targets[0]!r}"
                )
            schema = schema.replace(targets=[name])
        data = table_files(data)
        data.report()
        check_reading(data, reading)
        own = self.reading._replace(**reading)
        try:
            try:
                # A header is looked for first, also where the training's table had none.
                given = {"columns", "header"} & reading.keys()
                first = own if given else own._replace(columns=None, header=True)
                return open_table(data, first, beside, schema=schema)
            except MissingColumn:
                if given or (own.columns is None and own.header):
                    raise
                return open_table(data, own, beside, schema=schema)
        except (MissingColumn, TextInNumbers) as error:
            if error.column in schema.targets:
                price = self.schema.targets[0]
                advice = f"--target names the column that holds {price!r}, which the model predicts"
                error.args = (error.args[0], Remedy(advice))
            raise


def read(path: str | os.PathLike[str]) -> tuple[Description, dict[str, Any]]:
    """Read the description and the arrays of a model or a checkpoint."""
    name = os.fspath(path)
    kind = kind_of(path) if os.path.exists(path) else "saved"
    if kind not in ("saved", "damaged"):
        what = "" if kind == "text" else f" but {HOLDS[kind]}"
        raise CheckpointError(
            f"{name!r} is not a file that minigd saved{what}: MODEL is what `minigd train` wrote"
        )
    description, arrays = npz.read(path)
    if "layers" not in description:
        raise CheckpointError(f"{name!r} was saved by minigd, but holds no model")
    return description, arrays


def load(path: str | os.PathLike[str]) -> Trained:
    """Read what `Trained.save` wrote."""
    description, arrays = read(path)
    name = os.fspath(path)
    if "table" not in description and "run" in description:
        raise CheckpointError(
            f"{name!r} is the checkpoint of a run, not a model yet: `minigd train` with "
            "--resume makes a model of it, if that command began the run"
        )
    if "table" not in description:
        raise CheckpointError(
            f"{name!r} does not say what its columns are, because it was not written by "
            "`minigd train`: use it from Python, with minigd.load"
        )
    with of_file(name):
        model = restore(description, arrays)
        history = History(check_columns(description["history"]))
    return Trained(model, *read_table(description["table"], model, name), history)


def read_table(table: Any, model: Sequential, name: str) -> tuple[Task, Schema, Reading]:
    """Return what a file says of the columns that its model was trained on."""
    with damaged(f"the columns in {name!r} are"):
        task, schema, habits = table["task"], Schema(**table["schema"]), table["reading"]
        columns = None if habits["columns"] is None else tuple(habits["columns"])
        reading = Reading(**{**habits, "columns": columns, "na": tuple(habits["na"])})
        check_flag("keep_default_na", reading.keep_default_na)
        texts = [
            *schema.columns, *(schema.classes or []), *(columns or ()), *reading.na,
            *(level for levels in schema.levels.values() for level in levels),
            reading.separator, task,
        ]  # fmt: skip
        odd = [text for text in texts if not isinstance(text, str)]
        if odd:
            raise TypeError(f"{odd[0]!r:.100} is not a text")
        classes = len(schema.classes or [""])
        fit = len(schema.names) == model.n_in and len(schema.targets) == 1
        if not fit or model.n_out not in (classes, classes - 1 if classes == 2 else classes):
            raise ValueError("they are not those of the model")
        return task, schema, reading
