"""A line of an explanation: a formula, its shapes, and its numbers.

Formulas are written so that a program can read them too: `·` is the product of matrices or with a
number, `⊙` the product entry by entry, Σᵢ sums over the rows of a batch and Σₖ over the columns.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from minigd.progress import printable
from minigd.types import Array

# A letter, then letters, digits, dots and hats; the signs below are letters to Python, too.
_NAME = re.compile("((?![Σᵀ²½ᵢₖ])[^\\W\\d](?:(?![ᵀ²½])[\\w.\u0302])*)(\\(|ᵀ)?")

_MOST = 8
"""Rows and columns that are shown in full; of more than that, three at either end."""


@dataclass(frozen=True, eq=False, repr=False)
class Line:
    """One formula of a training step, with its numbers.

    Attributes
    ----------
    section : {"given", "forward", "loss", "backward", "update"}
    part : str
        Whose formula it is: a layer's name, or the class of the loss or of the updater.
    name : str
        What is computed, the left-hand side: ``"z1"``.
    formula : str
        ``"z1 = x·W1 + b1"``; with ``←`` instead of ``=`` if an old value is replaced.
    shapes : str
        The right-hand side with shapes, and numbers, for names: ``"(4, 2)·(2, 3) + (3,)"``.
    operands : tuple of str
        The names on the right-hand side; each is the name of an earlier line or of a given value.
    value : numpy.ndarray
        On the host, at full precision.
    by_row : bool
        Whether row i of the value belongs to example i.
    remark : str
        A note beside it.
    """

    section: str
    part: str
    name: str
    formula: str
    shapes: str
    operands: tuple[str, ...]
    value: Array
    by_row: bool
    remark: str = ""

    def text(self, digits: int = 4, row: int | None = None) -> str:
        """Return the line as text, with an arrow in front of one row of a batch."""
        head = f"{self.formula}   {self.shapes}" if self.shapes else self.formula
        if self.value.ndim == 0:
            sign = "→" if self.operands else "="
            head = f"{head} {sign} {number(self.value[()], digits)}"
        elif self.operands:
            head = f"{head} → {self.value.shape}"
        elif self.is_zero:
            head = f"{head}, all 0"
        remark = [f"  ({self.remark})"] if self.remark else []
        return printable("\n".join([head, *remark, *self._table(digits, row)]))

    @property
    def is_zero(self) -> bool:
        """Whether it is a given array of zeros, which need not be shown one by one."""
        return not (self.operands or self.by_row or self.value.any()) and self.value.ndim > 0

    def _table(self, digits: int, row: int | None) -> Iterator[str]:
        if self.value.ndim == 0 or self.is_zero:
            return
        rows = list(grid(self, digits, row))
        widths = [
            max(map(len, column)) for column in zip(*(cells for _, cells in rows), strict=True)
        ]
        for i, cells in rows:
            arrow = "→" if self.by_row and row is not None and i == row else " "
            aligned = "  ".join(f"{cell:>{w}}" for cell, w in zip(cells, widths, strict=True))
            yield f"  {arrow} {aligned}"

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return printable(f"<{self.section}: {self.formula}>")


def names(formula: str) -> tuple[str, ...]:
    """Return the names in an expression, each once; a name before a bracket is a function.

    >>> names("tanh(x·W1 + b1) ⊙ (1 − x²)")
    ('x', 'W1', 'b1')
    """
    found = [match[1] for match in _NAME.finditer(formula) if match[2] != "("]
    return tuple(dict.fromkeys(found))


def shapes(formula: str, values: Mapping[str, Array]) -> str:
    """Return an expression with the shapes of arrays, and the values of numbers, for names.

    >>> shapes("xᵀ·dz1 / n", {"x": np.zeros((4, 2)), "dz1": np.zeros((4, 3)), "n": np.array(4)})
    '(2, 4)·(4, 3) / 4'
    """

    def shape(match: re.Match[str]) -> str:
        if match[2] == "(":
            return match[0]
        value = values[match[1]]
        if value.ndim == 0:
            return number(value[()], 4)
        return str(value.shape[::-1] if match[2] else value.shape)

    return re.sub(r"\((\([\d, ]+\))\)", r"\1", _NAME.sub(shape, formula))


def number(value: float, digits: int) -> str:
    """Return a number with this many significant digits.

    >>> number(0.5, 4), number(-2 / 3, 4), number(12345678, 4)
    ('0.5', '-0.6667', '12345678')
    """
    if isinstance(value, int | np.integer | np.bool_):
        return str(int(value))
    return f"{value + 0:.{digits}g}"


def grid(line: Line, digits: int, row: int | None) -> Iterator[tuple[int | None, list[str]]]:
    """Yield the number of each row that is shown, and its cells; None where rows are left out."""
    value = line.value
    if value.ndim == 1:
        value = value[:, None] if line.by_row else value[None]
    table = value.reshape(len(value), -1)
    columns = _shown(table.shape[1])
    for i in _shown(len(table), row if line.by_row else None):
        if i is None:
            yield None, ["⋮" for _ in columns]
        else:
            yield i, ["…" if j is None else number(table[i, j], digits) for j in columns]


def _shown(size: int, keep: int | None = None) -> list[int | None]:
    if size <= _MOST:
        return list(range(size))
    places = sorted({0, 1, 2, size - 3, size - 2, size - 1, *([] if keep is None else [keep])})
    shown: list[int | None] = []
    for before, place in zip([-1, *places], places, strict=False):
        shown += [place] if place == before + 1 else [None, place]
    return shown
