"""An explained training step: its lines in order, as text in a terminal and HTML in a notebook.

The numbers are kept as they were computed; only what is shown is rounded.
"""

from collections.abc import Sequence
from itertools import groupby

from minigd.insight.explain import page
from minigd.insight.explain.line import Line, number
from minigd.progress import printable


class Trace:
    """One training step, line by line; `minigd.explain` makes it.

    It shows itself: as text where it is printed, as HTML at the end of a notebook's cell.

    Parameters
    ----------
    title : sequence of str
        What was explained: the batch, the model, the loss, the updater.
    given : sequence of Line
        What the formulas start from: x, y, parameters, constants.
    lines : sequence of Line
        Forward, loss, backward and update, in the order of computation.
    rows : sequence of int
        The numbers of the batch's rows; one of weight 0 is not among them.
    chosen : int, optional
        The example whose path is highlighted, by its row.

    Attributes
    ----------
    given, lines : tuple of Line
        Each with section, part, name, formula, shapes, operands, and the value at full precision.
    chosen : int or None
    """

    def __init__(
        self,
        title: Sequence[str],
        given: Sequence[Line],
        lines: Sequence[Line],
        rows: Sequence[int],
        chosen: int | None = None,
    ) -> None:
        self.title, self.given, self.lines = tuple(title), tuple(given), tuple(lines)
        self.rows, self.chosen = tuple(rows), chosen
        if chosen is not None and chosen not in self.rows:
            raise ValueError(
                f"there is no example {chosen!r}: the explained rows are "
                + (f"{self.rows[0]} to {self.rows[-1]}" if len(rows) > 1 else f"{self.rows[0]}")
                + ", counted from 0; rows of weight 0 are not included"
            )

    def example(self, row: int) -> "Trace":
        """Return the same explanation with the path of one example highlighted.

        Parameters
        ----------
        row : int
            Its row in x, counted from 0.

        Raises
        ------
        ValueError
            If there is no such row, or it has weight 0.
        """
        return Trace(self.title, self.given, self.lines, self.rows, row)

    @property
    def highlighted(self) -> int | None:
        """The place of the chosen example among the rows of the arrays."""
        return None if self.chosen is None else self.rows.index(self.chosen)

    def text(self, digits: int = 4) -> str:
        """Return the explanation as text, with this many significant digits.

        Signs that standard output can't show are spelled out: Σᵢ as ``Sum_i``.
        """
        blocks = ["\n".join(self.title)]
        numbers = [line for line in self.given if line.value.ndim == 0]
        arrays = [line.text(digits, self.highlighted) for line in self.given if line.value.ndim]
        constants = ", ".join(f"{line.name} = {number(line.value[()], digits)}" for line in numbers)
        blocks.append("\n".join(["given", *arrays, constants]).rstrip())
        for (section, part), lines in groupby(self.lines, lambda line: (line.section, line.part)):
            texts = [line.text(digits, self.highlighted) for line in lines]
            blocks.append("\n".join([f"{section}: {part}", *texts]))
        return printable("\n\n".join(blocks))

    def html(self, digits: int = 4) -> str:
        """Return the explanation as HTML that loads nothing."""
        return page.html(self.title, self.given, self.lines, self.rows, self.highlighted, digits)

    def _repr_html_(self) -> str:
        return self.html()

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return self.text()
