"""Attacks on data: mutated tables, compared with `csv`, and files cut while they are read.

`attack.py` counts how they end; the tests run a short form.
"""

import csv
import io
import os
import random
import struct
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

import minigd as gd
from minigd.data.sources import file_reads
from minigd.data.tables.grammar import read_number
from minigd.data.tables.remedy import TableWarning

TEXTS = ["red", "blue", 'a "b"', "x, y", "two\nlines", "ä", "", " blue"]
PIECES = [
    *('"', '""', ",", "\n", "\n\n", "\r", "\r\n", "\r\r\n", " ", "\t", "\0", "\ufeff", "\n\ufeff"),
    *('\n"', '",', '"\n', "\r\n\r\n", "1", "x", "\n ", "é", "\n\n\r1"),
]
"""Texts that are inserted somewhere into a table."""


def draw_table(rng: random.Random) -> bytes:
    """Return a table of texts and numbers with a few mutations, or none."""
    columns = rng.choice([1, 2, 2, 3])
    rows = [["t", "n", "m"][:columns]]
    for _ in range(rng.randint(1, 12)):
        numbers = [f"{rng.uniform(-9, 9):.2f}" for _ in range(2)]
        rows.append([rng.choice(TEXTS), *numbers][:columns])
    if columns == 1 and rng.random() < 0.5:
        rows[1:] = [[f"{rng.randint(0, 99)}"] for _ in rows[1:]]
    out = io.StringIO()
    newline = rng.choice(["\n", "\n", "\r\n"])
    quoting = rng.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
    csv.writer(out, lineterminator=newline, quoting=quoting).writerows(rows)
    text = out.getvalue()
    for _ in range(rng.choice([0, 1, 1, 1, 2, 3])):
        at = rng.randint(0, len(text))
        how = rng.random()
        if how < 0.7:
            text = text[:at] + rng.choice(PIECES) + text[at:]
        elif how < 0.85:
            text = text[:at] + text[at + 1 :]
        elif how < 0.93:
            text += "\ufeff" + text
        else:
            text = text[:at]
    return text.encode()


def rows_of_csv(data: bytes) -> list[list[str]] | None:
    """Return the rows that Python's `csv` finds below the header, or None for an error."""
    text = io.StringIO(data.decode("utf-8-sig"), newline="")
    try:
        rows = [row for row in csv.reader(text, skipinitialspace=True) if row]
    except csv.Error:
        return None
    return rows[1:]


def read_in_blocks(data: bytes, size: int) -> Any:
    """Return names and rows of a table as minigd reads it, or its `DataError`.

    The rows are read in order, and must be the same when each is fetched by position.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TableWarning)
            source = gd.CsvSource(io.BytesIO(data), block_size=size)
        x = np.concatenate([x for x, _ in source.chunks()])
        backwards = np.arange(source.rows)[::-1]
        np.testing.assert_array_equal(source.take(backwards)[0], x[backwards])
    except gd.DataError as error:
        return error
    return source.schema.features, source.schema.levels, x.tolist()


def agrees(found: Any, rows: list[list[str]] | None) -> bool:
    """Return whether minigd and `csv` agree: texts as texts, numbers as numbers."""
    features, levels, x = found
    if rows is None or len(x) != len(rows):
        return False
    for own, row in zip(x, rows, strict=True):
        at = 0
        if len(row) != len(features):
            return False
        for feature, cell in zip(features, row, strict=True):
            width = len(levels.get(feature, [0]))
            if feature in levels:
                hot = dict(zip(own[at : at + width], levels[feature], strict=True))
                good = hot.get(1.0) == cell
            else:
                number = read_number(cell)
                good = number is not None and own[at] == float(np.float32(number))
            if not good:
                return False
            at += width
    return True


def attack_table(rng: random.Random) -> bool:
    """Read one mutated table with several block sizes, and return whether its rows are right.

    If rows or errors depend on the block size, return False. If all raise an error, raise it.
    """
    data = draw_table(rng)
    found = [read_in_blocks(data, size) for size in (1, rng.randint(2, 40), 1 << 20)]
    errors = [one for one in found if isinstance(one, gd.DataError)]
    if len(errors) == len(found):
        raise errors[0]
    same = found[0] == found[1] == found[2]
    return not errors and same and agrees(found[0], rows_of_csv(data))


def tables(folder: Path, times: int) -> Any:
    """Mutate tables, and compare their rows with those of Python's `csv`."""
    from benchmarks.attack import Tally

    tally, rng = Tally(), random.Random(0)
    for number in range(times):
        tally.attempt(f"table {number}", lambda: attack_table(rng), gd.DataError)
    return tally


# Files that are cut ------------------------------------------------------------------------------


def attack_cut(folder: Path, rng: random.Random) -> bool:
    """Cut a file while its rows are read, which must raise an error. Return False otherwise."""
    x = np.random.default_rng(0).normal(size=(3000, 4))
    path, kind = folder / "rows", rng.choice(["csv", "npy", "columns", "large npy", "idx"])
    held = file_reads.HELD
    if kind == "csv":
        lines = "".join(",".join(f"{value:.4f}" for value in row) + "\n" for row in x)
        path.write_text("a,b,c,d\n" + lines)
        source: Any = gd.CsvSource(path)
    elif kind == "idx":
        path.write_bytes(struct.pack(">HBBII", 0, 8, 2, 3000, 4) + bytes(12_000))
        source = gd.IdxSource(path)
    else:
        with path.open("wb") as file:
            np.save(file, np.asfortranarray(x) if kind == "columns" else x)
        source = gd.NpySource(path)
        file_reads.HELD = 0 if kind == "large npy" else held
    most = path.stat().st_size
    cutting = threading.Timer(rng.random() / 50, os.truncate, (path, rng.randrange(most)))
    batches = gd.Batches(
        source, batch_size=50, shuffle=rng.random() < 0.7, prefetch=rng.choice([0, 2])
    )
    cutting.start()
    try:
        end = time.monotonic() + 10
        while time.monotonic() < end:
            for _ in batches:
                pass
        return False
    finally:
        cutting.join()
        file_reads.HELD = held


def cuts(folder: Path, times: int) -> Any:
    """Cut files short while their rows are read."""
    from benchmarks.attack import Tally

    tally, rng, path = Tally(), random.Random(0), folder / "rows"
    for number in range(times):
        tally.attempt(f"cut {number}", lambda: attack_cut(folder, rng), gd.DataError, str(path))
        path.unlink()
    return tally
