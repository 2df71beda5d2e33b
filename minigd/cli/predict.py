"""`minigd predict`: a line of predictions for each row of a table, as it streams by."""

import contextlib
import csv
import os
from collections.abc import Iterator
from typing import Any, TextIO, cast

import numpy as np

from minigd.cli.output import Output
from minigd.cli.paths import check_output
from minigd.cli.tables import report_dropped
from minigd.cli.trained import Trained, load
from minigd.formulas import sigmoid
from minigd.progress import with_progress
from minigd.storage.atomic_files import NamingFile, locked, naming, replacing_text
from minigd.types import Array


def predict(
    model: str | os.PathLike[str],
    data: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    **reading: Any,
) -> int:
    """Write a CSV with a line for each row of a table, and return how many rows were predicted.

    The column ``prediction`` holds a number, or a class by its name; for classes there follows a
    column for the probability of each, ``probability_red``. A row of which a number is missing, or
    a category is not known to the model, has an empty line, and they are counted on stderr.

    Parameters
    ----------
    model : path
        What `minigd train` wrote.
    data : path
        A CSV, Parquet or ``.npy`` file with the columns of the training by name, in any order;
        other columns are ignored.
    out : path, optional
        Written whole or not at all; by default standard output.
    **reading
        How the table is written, by the names of `minigd.cli.tables.Reading`, where it is
        otherwise than that of the training.

    Raises
    ------
    DataError, CheckpointError, OSError
        If the model or the table does not do.
    """
    if out is not None and not _is_stream(out):
        check_output(out, ("saved",), table=data, model=model)
    trained = load(model)
    table = trained.open(data, **reading)
    classes = trained.schema.classes or []
    done = 0
    with _writer(out) as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(["prediction", *(f"probability_{c}" for c in classes)])
        for x, _, kept in with_progress(table.encoded(), "predicting", table.rows):
            cells = _cells(trained, x) if len(x) else iter(())
            done += len(x)
            for known in [True] * len(x) if kept is None else kept.tolist():
                lines.writerow(next(cells) if known else [""] * (1 + len(classes)))
    report_dropped(table)
    return done


def _cells(trained: Trained, x: Array) -> Iterator[list[str]]:
    """Return the cells of each row."""
    model, classes = trained.model, trained.schema.classes
    if classes is None:
        return iter(model.predict(x).astype(str).tolist())
    if model.n_out == 1:
        # Of a p that rounds to 1, the other probability is not 1 − p = 0.
        z = model.run_rows(model.layers[:-1], x)
        p = np.hstack([sigmoid(-z), sigmoid(z)])
        # As accuracy counts: the probability of the second class is cut at ½.
        chosen = (p[:, 1] > 0.5).astype(int)
    else:
        p = model.predict(x)
        chosen = p.argmax(axis=1)
    return (
        [classes[k], *row] for k, row in zip(chosen.tolist(), p.astype(str).tolist(), strict=True)
    )


def _is_stream(out: str | os.PathLike[str]) -> bool:
    """Tell whether a file is a pipe or a device, which is written to and never replaced."""
    return os.path.exists(out) and not os.path.isfile(out) and not os.path.isdir(out)


@contextlib.contextmanager
def _writer(out: str | os.PathLike[str] | None) -> Iterator[TextIO | Output]:
    """Open standard output, or a file that takes its name when all of it is written."""
    if out is None:
        output = Output()
        yield output
        output.flush()
    elif _is_stream(out):
        with open(out, "w", newline="", encoding="utf-8") as stream:
            yield cast("TextIO", NamingFile(stream, out))
            with naming(out):
                stream.flush()
    else:
        with locked(out), replacing_text(out) as file:
            yield file
