"""`minigd predict`: a line of predictions for each row of a table, which is read as a stream."""

import contextlib
import csv
import errno
import os
import re
from collections.abc import Iterator
from typing import Any, TextIO, cast

from minigd.cli.output import Output
from minigd.cli.paths import check_output
from minigd.cli.table_files import table_files
from minigd.cli.tables import report_columns
from minigd.cli.trained import TableModel, chosen, load_table, predictions
from minigd.progress import with_progress
from minigd.storage.atomic_files import NamingFile, locked, naming, replacing_text
from minigd.types import Array

# How a formula begins, even after a blank line, or in full-width letters.
_FORMULA = re.compile(r"[=+\-@\t\r\n＝＋－＠]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def predict(
    model: str | os.PathLike[str],
    data: Any,
    out: str | os.PathLike[str] | None = None,
    raw: bool = False,
    **reading: Any,
) -> int:
    """Write a CSV with a line for each row of a table, and return the number of predicted rows.

    The column ``prediction`` holds a number, or the name of a class. For classes, more columns hold
    the probability of each, ``probability_red``. A row with a missing number, or with a category
    that the model does not know, gets an empty line; the number of such rows is printed on stderr.

    A spreadsheet runs a text such as ``=HYPERLINK(...)``. Names of classes come from the training
    table, so a name like that gets an apostrophe before it.

    Parameters
    ----------
    model : path
        A file that `minigd train` wrote.
    data : path, or a list of them
        A CSV, Parquet or ``.npy`` file with the columns of the training by name, in any order;
        other columns are ignored.
    out : path, optional
        Written completely or not at all; by default standard output.
    raw : bool, default False
        Write the names of classes unchanged.
    **reading
        How the table is written, with the names of `minigd.cli.tables.Reading`, if it differs from
        the training table.

    Raises
    ------
    DataError, CheckpointError, OSError
        If the model or the table can't be used.
    """
    data = table_files(data)
    if out is not None and not _is_stream(out):
        check_output(out, ("saved",), table=data.paths, model=model)
    trained = load_table(model)
    table = trained.open(data, **reading)
    classes = trained.schema.classes or []
    cell = str if raw else protect
    shown = [cell(c) for c in classes]
    done = 0
    with _writer(out) as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(["prediction", *(f"probability_{c}" for c in classes)])
        pieces = predictions(trained, table)
        for values, kept in with_progress(pieces, "predicting", table.rows):
            cells = _cells(trained, shown, values)
            done += len(values)
            for known in kept.tolist():
                lines.writerow(next(cells) if known else [""] * (1 + len(classes)))
            file.flush()
    report_columns(table)
    return done


def protect(text: str) -> str:
    """Return a text as a cell that no spreadsheet runs as a formula; numbers stay unchanged.

    >>> protect("=1+1"), protect("-1"), protect("- none -")
    ("'=1+1", '-1', "'- none -")
    """
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def _cells(trained: TableModel, classes: list[str], values: Array) -> Iterator[list[str]]:
    """Return the cells of each row."""
    texts = values.astype(str).tolist()
    if not classes:
        return ([text] for text in texts)
    numbers = chosen(trained, values).tolist()
    return ([classes[k], *row] for k, row in zip(numbers, texts, strict=True))


def _is_stream(out: str | os.PathLike[str]) -> bool:
    """Tell whether a file is a pipe or a device, which is written to but never replaced."""
    return os.path.exists(out) and not os.path.isfile(out) and not os.path.isdir(out)


def _open_stream(out: str | os.PathLike[str]) -> int:
    """Open a pipe or a device to write to, and refuse a pipe that no program reads."""
    try:
        descriptor = os.open(out, os.O_WRONLY | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        what = "no program reads this pipe: start one first, or name a file"
        raise OSError(error.errno, what) from None
    if os.name == "posix":
        os.set_blocking(descriptor, True)
    return descriptor


@contextlib.contextmanager
def _writer(out: str | os.PathLike[str] | None) -> Iterator[TextIO | Output]:
    """Open standard output, or a file that gets its name once all of it is written."""
    if out is None:
        output = Output()
        yield output
        output.flush()
    elif _is_stream(out):
        with naming(out):
            stream = open(_open_stream(out), "w", newline="", encoding="utf-8")  # noqa: SIM115
        try:
            yield cast("TextIO", NamingFile(stream, out))
            with naming(out):
                stream.close()
        finally:
            with contextlib.suppress(OSError):
                stream.close()
    else:
        with locked(out), replacing_text(out) as file:
            yield file
