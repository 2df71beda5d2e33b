"""Attacks on data: tables mutated and held against `csv`, files cut while read, disks that fill.

`attack.py` counts how they end; the tests run a short form.
"""

import csv
import io
import random
from typing import Any

import numpy as np

import minigd as gd
from minigd.data.tables.grammar import read_number

TEXTS = ["red", "blue", 'a "b"', "x, y", "two\nlines", "ä", "", " blue"]
PIECES = [
    *('"', '""', ",", "\n", "\n\n", "\r", "\r\n", "\r\r\n", " ", "\t", "\0", "\ufeff", "\n\ufeff"),
    *('\n"', '",', '"\n', "\r\n\r\n", "1", "x", "\n ", "é", "\n\n\r1"),
]
"""What is put somewhere into a table."""


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
    """Return the rows that Python's `csv` finds under the header; None if it finds an error."""
    text = io.StringIO(data.decode("utf-8-sig"), newline="")
    try:
        rows = [row for row in csv.reader(text, skipinitialspace=True) if row]
    except csv.Error:
        return None
    return rows[1:]


def read_in_blocks(data: bytes, size: int) -> Any:
    """Return names and rows of a table as minigd reads it, or its `DataError` as text.

    The rows come in order, and must come alike when each is fetched from its place.
    """
    try:
        source = gd.CsvSource(io.BytesIO(data), block_size=size)
        x = np.concatenate([x for x, _ in source.chunks()])
        backwards = np.arange(source.rows)[::-1]
        np.testing.assert_array_equal(source.take(backwards)[0], x[backwards])
    except gd.DataError as error:
        return str(error)
    return source.schema.features, source.schema.levels, x.tolist()


def agrees(found: Any, rows: list[list[str]] | None) -> bool:
    """Tell whether what minigd read is what `csv` finds: texts as texts, numbers as numbers."""
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


def attack_table(rng: random.Random) -> bool | str:
    """Read one mutated table with several block sizes.

    True says that its rows are those of `csv`, and a text is the error; `AssertionError` is
    anything else, such as another answer with other blocks.
    """
    data = draw_table(rng)
    found = [read_in_blocks(data, size) for size in (1, rng.randint(2, 40), 1 << 20)]
    errors = [one for one in found if isinstance(one, str)]
    if errors:
        assert len(errors) == len(found), f"an error with some blocks only: {data!r}: {found}"
        return errors[0]
    assert found[0] == found[1] == found[2], f"other rows with other blocks: {data!r}: {found}"
    assert agrees(found[0], rows_of_csv(data)), f"other rows than csv: {data!r}: {found[0]}"
    return True
