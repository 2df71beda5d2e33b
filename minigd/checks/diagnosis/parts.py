"""Mistakes in a part of a gradient: in some rows or columns, or where a number is negative.

The rest of the gradient is right.
"""

from collections.abc import Iterator

import numpy as np

from minigd.checks.diagnosis.case import Case
from minigd.checks.diagnosis.slips import Guess, plain
from minigd.types import Array


def in_a_part(case: Case) -> Iterator[Guess]:
    """Yield mistakes in some rows, some columns, or where a number is negative."""
    t, size = case.true, max(abs(case.given).max(), abs(case.true).max())
    off = abs(case.given - t) > case.tolerance * size
    for where, region in _regions(case, off):
        for sentence, guess in plain(case):
            if guess.shape == t.shape:
                yield f"{where}, {sentence}", np.where(region, guess, t)
        inside, own = t[region], case.given[region]
        factor = float(own @ inside) / max(float(inside @ inside), 1e-300)
        if np.count_nonzero(inside) > 1 and factor:
            yield f"{where}, a constant factor of {factor:.6g}", np.where(region, factor * t, t)


def _regions(case: Case, off: Array) -> Iterator[tuple[str, Array]]:
    """Yield the wrong part of the gradient, in words and as truth values."""
    if off.ndim == 2:
        for axis, what in ((0, "row"), (1, "column")):
            hit = off.any(axis=1 - axis)
            if not hit.all():
                region = np.broadcast_to(np.expand_dims(hit, 1 - axis), off.shape)
                words = _of_the_batch(case, hit) if case.by_row and axis == 0 else None
                if words or not (case.by_row and axis == 0):
                    yield words or _listed(what, case.places[axis][hit], case, axis), region
        if off.sum() == 1 and not case.by_row:
            i, j = (int(axis[0]) for axis in np.nonzero(off))
            yield f"at [{case.places[0][i]}, {case.places[1][j]}]", off
    elif off.ndim == 1 and not off.all():
        yield _listed("entry", case.places[0][off], case, 0), off
    for name, rows in (("x", case.x), ("y", case.y), ("dy", case.dy)):
        if case.by_row and rows is not None and case.take_block(rows).shape == off.shape:
            for words, region in ((f"where {name} < 0", rows < 0), (f"where {name} > 0", rows > 0)):
                yield words, case.take_block(region)


def _of_the_batch(case: Case, hit: Array) -> str | None:
    every, last = frozenset(case.places[0].tolist()), case.n - 1
    # If two sentences fit a short batch, one row is meant.
    words = {
        every - {0}: "in every row of the batch except the first",
        every - {last}: "in every row of the batch except the last",
        frozenset({last}): "in the last row of the batch",
        frozenset({0}): "in the first row of the batch",
    }
    return words.get(frozenset(case.places[0][hit].tolist()))


def _listed(what: str, places: Array, case: Case, axis: int) -> str:
    """Return ``in row 3, the last`` or ``in columns 0, 2``."""
    several = {"entry": "entries"}.get(what, f"{what}s") if len(places) > 1 else what
    shown = ", ".join(str(int(place)) for place in places[:4])
    more = ", …" if len(places) > 4 else ""
    last = len(places) == 1 and places[0] == case.places[axis][-1]
    return f"in {several} {shown}{more}{', the last' if last else ''}"
