"""The file that `minigd train` writes: a model, the meaning of its columns, and its history.

It is a model file with more content, and `minigd.load` can read the model from it.
"""

import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from minigd.backends.base import Backend
from minigd.cli.table_files import TableFiles, table_files
from minigd.cli.tables import (
    USUAL,
    Reading,
    Table,
    Task,
    check_reading,
    name_of,
    open_table,
)
from minigd.data.pipeline import cut
from minigd.data.sources.csv import check_notation
from minigd.data.sources.csv_stream import CsvStream
from minigd.data.sources.file_kinds import HOLDS, kind_of
from minigd.data.sources.in_memory import rows_frame
from minigd.data.sources.iterable import IterableSource
from minigd.data.tables.remedy import Remedy, TableError
from minigd.data.tables.saved import schema_in_file
from minigd.data.tables.schema import MissingColumn, Schema, TextInNumbers
from minigd.errors import CheckpointError, ShapeError, check_flag, check_path, shown, validated
from minigd.formulas import sigmoid, softmax
from minigd.nn.layers import Sigmoid, Softmax
from minigd.nn.losses import BinaryCrossEntropy
from minigd.nn.sequential import Sequential
from minigd.storage import npz
from minigd.storage.damage import damaged, of_file
from minigd.storage.describe import Description
from minigd.training.evaluation import ROWS
from minigd.training.history import History, check_columns
from minigd.training.model_files import restore
from minigd.types import Array

# Saved fields of how a table is written; lines at the top may differ between files. Later fields
# are saved only if they are not the default, so older versions can read all other files.
_HABITS = ("columns", "separator", "na", "keep_default_na")
_LATER = ("header", "decimal", "thousands", "encoding", "comment", "strip")


class TableModel:
    """A model that knows its table: it takes raw rows, and predicts in units of the target.

    ``minigd train`` writes it to a file, and `load_table` reads it. In Python, make it from a
    trained model and the schema of its source, ``TableModel(model, source.schema)``.

    Parameters
    ----------
    model : Sequential
        It has as many inputs as the schema has columns of x. For classes it ends in Sigmoid or
        Softmax, or has a loss that takes logits.
    schema : Schema
        What each column of the table becomes; it has one target.
    history : History, optional
        The history of its training.
    reading : Reading, optional
        How the files of such tables are written, as in `minigd.cli.tables.Reading`.

    Attributes
    ----------
    model, schema, history, reading
        As given.
    task : {"classification", "regression"}
    classes : list of str or of int, or None
        The classes in the order of the probabilities; None for regression.

    Raises
    ------
    ShapeError
        If the model and the schema do not fit together.

    Examples
    --------
    >>> import minigd as gd
    >>> homes = {"area": [50.0, 90.0, 70.0], "heating": ["gas", "oil", "gas"], "price": [1, 3, 2]}
    >>> source = gd.IterableSource([homes], target="price")
    >>> model = gd.Sequential([gd.Dense(1)], inputs=3)
    >>> model.params["dense1.W"][...] = [[0.5], [10], [0]]
    >>> trained = gd.TableModel(model, source.schema)
    >>> trained.schema.names
    ['area', 'heating=gas', 'heating=oil']
    >>> trained.predict({"heating": ["gas", "coal"], "area": [100, 60]})
    array([60., 30.], dtype=float32)
    """

    @validated
    def __init__(
        self,
        model: Sequential,
        schema: Schema,
        *,
        history: History | None = None,
        reading: Reading | None = None,
    ) -> None:
        self.model, self.schema = model, schema
        self.reading = USUAL if reading is None else reading
        self.history = History() if history is None else history
        problem = _misfit(model, schema)
        if problem:
            raise ShapeError(f"the model and the schema do not fit together: {problem}")

    @property
    def task(self) -> Task:
        """Whether it predicts classes or a number."""
        return task_of(self.schema)

    @property
    def classes(self) -> list[Any] | None:
        """The classes in the order of the probabilities, as in the target."""
        classes = self.schema.classes
        return classes and [int(c) if self.schema.integer else c for c in classes]

    @property
    def best(self) -> int:
        """The epoch whose parameters the model has, from 0: that of the lowest ``val_loss``."""
        losses = self.history["val_loss"]
        return losses.index(min(losses))

    # Predictions -----------------------------------------------------------------------------

    def predict(self, data: Any, **reading: Any) -> Array:
        """Return the prediction for each row: a number in the units of the target, or a class.

        Columns are found by name, and others are ignored. A missing number is treated as in the
        training, and a category that the model does not know is read as ``other``.

        Parameters
        ----------
        data : path, frame, rows or array
            A file as for ``minigd predict``, a pattern, a folder or a list of files; a pandas or
            Polars frame, an Arrow table, or a dict of columns; one row as a dict, or a list of such
            dicts; a 2-D array or a list of lists, whose columns are the schema's ``features`` in
            their order.
        **reading
            How a file is written, if it differs from the training file: ``separator=";"``.

        Returns
        -------
        array, shape (n,)
            One value per row of `data`. A row that the schema drops gets NaN, or None for classes.

        Raises
        ------
        DataError
            If a column is missing, or a value does not fit its column; the error names it.

        Examples
        --------
        >>> import minigd as gd
        >>> source = gd.IterableSource([{"a": [0.0, 1.0], "k": ["no", "yes"]}], target="k")
        >>> model = gd.Sequential([gd.Dense(1), gd.Sigmoid()], inputs=1)
        >>> model.params["dense1.W"][...] = 2.0
        >>> trained = gd.TableModel(model, source.schema)
        >>> trained.predict([{"a": -1}, {"a": 1}]).tolist()
        ['no', 'yes']
        """
        values = self._outputs(data, reading)
        if self.classes is None:
            return values
        known = ~np.isnan(values[:, 0])
        text = not (self.schema.integer and known.all())
        labels: Array = np.full(len(values), None, object) if text else np.empty(len(values), int)
        labels[known] = np.array(self.classes, labels.dtype)[chosen(self, values[known])]
        return labels

    def predict_proba(self, data: Any, **reading: Any) -> Array:
        """Return the probability of each class, in the order of `classes`.

        Parameters
        ----------
        data, **reading
            As for `predict`.

        Returns
        -------
        array, shape (n, K)
            Two columns for two classes.

        Raises
        ------
        TypeError
            If the model predicts numbers.
        DataError
            As for `predict`.

        Examples
        --------
        >>> import minigd as gd
        >>> source = gd.IterableSource([{"a": [0.0, 1.0], "k": ["no", "yes"]}], target="k")
        >>> model = gd.Sequential([gd.Dense(1), gd.Sigmoid()], inputs=1)
        >>> model.params["dense1.W"][...] = 2.0
        >>> gd.TableModel(model, source.schema).predict_proba({"a": 1}).round(3)
        array([[0.119, 0.881]], dtype=float32)
        """
        if self.classes is None:
            raise TypeError(
                f"the model predicts {self.schema.targets[0]!r}, a number: there are no classes "
                "to give probabilities of; use predict"
            )
        return self._outputs(data, reading)

    def evaluate(self, data: Any, target: Any = None, **reading: Any) -> dict[str, float]:
        """Return loss and metrics over rows with a known target.

        Parameters
        ----------
        data, **reading
            As for `predict`.
        target : str or array-like of shape (n,), optional
            The target column, if its name differs from that in the training; or the values, for
            rows in memory.

        Returns
        -------
        dict of str to float

        Raises
        ------
        RuntimeError
            If the model was never trained, and thus has no loss.
        DataError
            As for `predict`.

        Examples
        --------
        >>> import minigd as gd
        >>> source = gd.IterableSource([{"a": [0.0, 1.0], "b": [1.0, 3.0]}], target="b")
        >>> model = gd.Sequential([gd.Dense(1)], inputs=1)
        >>> options = {"metrics": ["mae"], "updater": gd.Adam(0.1), "epochs": 99, "shuffle": False}
        >>> history = model.fit(source, loss="mse", **options)
        >>> trained = gd.TableModel(model, source.schema)
        >>> round(trained.evaluate({"a": [0.0, 2.0], "b": [1.0, 5.0]})["mae"], 1)
        0.0
        >>> round(trained.evaluate([[0.0], [2.0]], [2.0, 6.0])["mae"], 1)
        1.0
        """
        return self.model.evaluate(self.open(data, True if target is None else target, **reading))

    def _outputs(self, data: Any, reading: Mapping[str, Any]) -> Array:
        """Return the numbers, or the probabilities, for all rows; NaN for those left out."""
        pieces = []
        for values, kept in predictions(self, self.open(data, **reading)):
            whole = np.full((len(kept), *values.shape[1:]), np.nan, values.dtype)
            whole[kept] = values
            pieces.append(whole)
        return np.concatenate(pieces)

    # Rows ------------------------------------------------------------------------------------

    def open(self, data: Any, target: Any = False, **reading: Any) -> Table:
        """Return rows as a source of x, and of y on request, encoded as inputs of the model.

        Its ``gaps``, ``unknown`` and ``dropped`` count missing values, unknown categories and
        dropped rows.

        Parameters
        ----------
        data, **reading
            As for `predict`.
        target : bool, str or array-like, default False
            Whether to read the target too; or its name in `data`; or its values.

        Returns
        -------
        Source

        Raises
        ------
        DataError
            As for `predict`.

        Examples
        --------
        >>> import minigd as gd
        >>> source = gd.IterableSource([{"a": ["x", "y"], "b": [1.0, 3.0]}], target="b")
        >>> trained = gd.TableModel(gd.Sequential([gd.Dense(1)], inputs=2), source.schema)
        >>> table = trained.open({"a": ["x", "z"]})
        >>> [x.tolist() for x, y in table.chunks()], table.unknown
        ([[[1.0, 0.0], [0.0, 0.0]]], {'a': 1})
        """
        schema = self._schema_for(target)
        try:
            if _are_files(data):
                return self._open_file(table_files(data), schema, target, reading)
            if reading:
                raise TypeError(
                    f"{next(iter(reading))} says how a file is written, but the rows are in memory "
                    "already: leave it out"
                )
            values = None if isinstance(target, bool | str) else target
            frame = rows_frame(data, schema, values)
            return IterableSource([frame], schema=schema, name="the table")
        except (MissingColumn, TextInNumbers) as error:
            if error.column in schema.targets:
                price = self.schema.targets[0]
                words = f"names the column that holds {price!r}, which the model predicts"
                advice = Remedy(f"target=NAME {words}", shell=f"--target {words}")
                # If lines above the header were read as the header, it has no column of that name.
                above = [r for r in error.remedies if {"skip_lines", "comment"} & {*r.options}]
                error.args = (error.args[0], *(above or [advice]))
            raise

    def _schema_for(self, target: Any) -> Schema:
        """Return the schema for other rows, with or without their target."""
        schema = self.schema.replace(unknown="other")
        if target is False:
            return schema.replace(targets=[], classes=None, integer=False)
        if not isinstance(target, str):
            return schema
        name = name_of(target) if target.endswith(".npy") else target
        if name in schema.features:
            words = f"names the column that holds {schema.targets[0]!r}"
            raise TableError(
                f"the column {name!r} is a feature of the model, not its target",
                Remedy(f"target=NAME {words}", shell=f"--target {words}"),
            )
        return schema.replace(targets=[name])

    def _open_file(
        self,
        data: TableFiles,
        schema: Schema,
        target: Any,
        reading: Mapping[str, Any],
    ) -> Table:
        """Return the rows of a file written like the training file, except for `reading`."""
        if not isinstance(target, str | bool):
            raise TypeError(f"target must be the name of a column of {data}, not {shown(target)}")
        beside = target if isinstance(target, str) and target.endswith(".npy") else None
        check_reading(data, reading)
        data.report()
        own = self.reading._replace(**reading)
        try:
            # Look for a header first, even if the training table had none.
            given = {"columns", "header"} & reading.keys()
            first = own if given else own._replace(columns=None, header=True)
            return open_table(data, first, beside, schema=schema)
        except MissingColumn:
            if given or (own.columns is None and own.header):
                raise
            return open_table(data, own, beside, schema=schema)

    # Files -----------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to one ``.npz`` file, completely or not at all; `load_table` reads it.

        Parameters
        ----------
        path : str or path-like

        Raises
        ------
        ValueError
            If the path has the ending of another format, such as ``.pkl``.
        OSError
            If the file can't be written; an existing file stays unchanged.
        """
        table = {
            "task": self.task,
            "schema": self.schema.state_dict(),
            "reading": {
                name: value
                for name, value in self.reading._asdict().items()
                if name in _HABITS or (name in _LATER and value != getattr(USUAL, name))
            },
        }
        description = {
            **self.model.describe(),
            "table": table,
            "history": self.history.state_dict(),
        }
        npz.write(npz.model_path(path), description, self.model.arrays())

    def __repr__(self) -> str:
        columns = ", ".join(self.schema.features)
        return f"TableModel({self.task} of {self.schema.targets[0]!r} from {columns})"


def load_table(path: str | os.PathLike[str], backend: str | Backend = "numpy") -> TableModel:
    """Read a model together with the meaning of its columns, from a file of ``minigd train``.

    Parameters
    ----------
    path : str or path-like
    backend : {"numpy", "cupy"} or Backend, default "numpy"
        It may differ from the backend of the training.

    Returns
    -------
    TableModel

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    CheckpointError
        If the file is damaged, or holds no table; `load` reads a model without one.

    Examples
    --------
    >>> import tempfile, minigd as gd
    >>> source = gd.IterableSource([{"a": ["x", "y"], "b": [1.0, 3.0]}], target="b")
    >>> trained = gd.TableModel(gd.Sequential([gd.Dense(1)], inputs=2, seed=1), source.schema)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     trained.save(f"{folder}/m.npz")
    ...     again = gd.load_table(f"{folder}/m.npz")
    >>> again
    TableModel(regression of 'b' from a)
    >>> float(abs(again.predict({"a": ["x", "y"]}) - trained.predict({"a": ["x", "y"]})).max())
    0.0
    """
    name = check_path("path", path)
    description, arrays = read(name)
    if "table" not in description and "run" in description:
        raise CheckpointError(
            f"{name!r} is the checkpoint of a run, not a model yet: `minigd train` with "
            "--resume makes a model of it, if that command began the run"
        )
    if "table" not in description:
        raise CheckpointError(
            f"{name!r} does not say what its columns are, because it was not written by "
            "`minigd train` or TableModel.save: use it from Python, with minigd.load"
        )
    with of_file(name):
        model = restore(description, arrays, backend=backend)
        history = History(check_columns(description["history"]))
    schema, reading = read_table(description["table"], model, name)
    return TableModel(model, schema, history=history, reading=reading)


def read(path: str | os.PathLike[str]) -> tuple[Description, npz.Members]:
    """Read the description and the arrays of a model or a checkpoint."""
    name = check_path("path", path)
    kind = kind_of(name) if os.path.isfile(name) else "saved"
    if kind not in ("saved", "damaged"):
        what = "" if kind == "text" else f" but {HOLDS[kind]}"
        raise CheckpointError(
            f"{name!r} is not a file that minigd saved{what}: MODEL is what `minigd train` wrote"
        )
    description, arrays = npz.read(name)
    if "layers" not in description:
        raise CheckpointError(f"{name!r} was saved by minigd, but holds no model")
    return description, arrays


def read_table(table: Any, model: Sequential, name: str) -> tuple[Schema, Reading]:
    """Return the description in a file of the columns that its model was trained on."""
    with damaged(f"the columns in {name!r} are"):
        schema, habits = schema_in_file(table["schema"], model.n_in), table["reading"]
        columns = None if habits["columns"] is None else tuple(habits["columns"])
        reading = Reading(**{**habits, "columns": columns, "na": tuple(habits["na"])})
        usual = Reading._field_defaults.items()
        for habit in (name for name, value in usual if isinstance(value, bool)):
            check_flag(habit, getattr(reading, habit))
        texts = [
            *(getattr(reading, name) for name, value in usual if isinstance(value, str)),
            *(columns or ()), *reading.na,
        ]  # fmt: skip
        odd = [text for text in texts if not isinstance(text, str)]
        if odd:
            raise TypeError(f"{odd[0]!r:.100} is not a text")
        check_notation(reading.decimal, reading.thousands)
        problem = _misfit(model, schema)
        if problem:
            raise ValueError(problem)
        return schema, reading


def task_of(schema: Schema) -> Task:
    """Return the task of a model with this schema."""
    return "regression" if schema.classes is None else "classification"


def _misfit(model: Sequential, schema: Schema) -> str | None:
    """Return why a model can't predict the target of a schema from its columns, or nothing."""
    classes = len(schema.classes or [])
    last = model.layers[-1]
    if len(schema.names) != model.n_in:
        return f"there are {len(schema.names)} columns of x, but the model has {model.n_in} inputs"
    if len(schema.targets) != 1:
        return f"a table's model has one target, not {len(schema.targets)}"
    if schema.classes is not None and classes < 2:
        return "there must be two or more classes"
    if model.n_out not in ({1, 2} if classes == 2 else {classes or 1}):
        what = f"there are {classes} classes" if classes else "the target is a number"
        return f"{what}, but the model has {model.n_out} outputs"
    logits = model.loss is not None and model.loss.from_logits
    if classes and not isinstance(last, Sigmoid | Softmax) and not logits:
        return "the target has classes, but the model ends in neither Sigmoid nor Softmax"
    return None


def _are_files(data: Any) -> bool:
    """Tell whether data is a path, a list of paths, or the table of a command."""
    several = list(data) if isinstance(data, list | tuple) and len(data) else [data]
    return all(isinstance(one, str | os.PathLike | TableFiles) for one in several)


# Outputs ---------------------------------------------------------------------------------------


def predictions(trained: TableModel, table: Table) -> Iterator[tuple[Array, Array]]:
    """Yield the outputs for the rows of a table, and the rows they belong to, one piece at a time.

    The pieces are the same as for an array of these rows, so the numbers have the same bits. A
    stream is an exception: its rows are processed as they arrive.
    """
    streams, masks = isinstance(table, CsvStream), [np.ones(0, dtype=bool)]

    def rows() -> Iterator[tuple[Array]]:
        for x, _, kept in table.encoded():
            masks.append(np.ones(len(x), dtype=bool) if kept is None else kept)
            yield (x,)

    for (x,) in rows() if streams else cut(rows(), ROWS):
        kept = np.concatenate(masks)
        end = len(kept) if streams else np.flatnonzero(kept)[len(x) - 1] + 1
        masks[:] = [kept[end:]]
        yield outputs(trained, x), kept[:end]
    if len(left_out := np.concatenate(masks)):
        yield outputs(trained, np.empty((0, trained.model.n_in))), left_out


def outputs(trained: TableModel, x: Array) -> Array:
    """Return numbers of shape (n,), or probabilities of shape (n, K), for encoded rows."""
    model, classes = trained.model, trained.schema.classes
    if classes is None or not len(x):
        shape = (len(x),) if classes is None else (len(x), len(classes))
        if not len(x):
            return np.empty(shape, model.dtype)
        z = model.predict(x)
        return (z if model.loss is None else model.loss.probabilities(z))[:, 0]
    last = model.layers[-1]
    if model.n_out == 1:
        # If p rounds to 1, the other probability is not 1 − p = 0.
        ends_in_logits = not isinstance(last, Sigmoid)
        z = model.predict(x) if ends_in_logits else model.run_rows(model.layers[:-1], x)
        return np.hstack([sigmoid(-z), sigmoid(z)])
    p = model.predict(x)
    if isinstance(last, Sigmoid | Softmax):
        return p
    return sigmoid(p) if isinstance(model.loss, BinaryCrossEntropy) else softmax(p)


def chosen(trained: TableModel, p: Array) -> Array:
    """Return the number of the predicted class, as accuracy defines it.

    For two classes, the threshold is ½ for the second one.
    """
    return (p[:, 1] > 0.5).astype(int) if trained.model.n_out == 1 else p.argmax(axis=1)
