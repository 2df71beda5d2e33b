"""Writes down formulas with their values, each after those that it uses.

An input of a formula that no line has computed is given, and is listed first.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from minigd.insight.explain.line import Line, names, shapes
from minigd.insight.explain.table import Formula
from minigd.types import Array


class Writer:
    """Collects the lines of one step.

    Attributes
    ----------
    given, lines : list of Line
    means : set of str
        Names of gradients of parameters, which are means and have no row for each example.
    """

    def __init__(self) -> None:
        self.given: list[Line] = []
        self.lines: list[Line] = []
        self.means: set[str] = set()
        self._inputs: dict[str, Array] = {}
        self._values: dict[str, Array] = {}

    def add_inputs(self, values: Mapping[str, Any]) -> None:
        """Take numbers that formulas may start from."""
        known = {name: np.asarray(value) for name, value in values.items() if value is not None}
        self._inputs |= known

    def write(self, section: str, part: str, formulas: Iterable[Formula]) -> None:
        """Add the formulas of one part of the step; one without a value was not computed."""
        for text, value, remark in formulas:
            if value is not None:
                self._write(section, part, text, np.asarray(value), remark)

    def _write(self, section: str, part: str, text: str, value: Array, remark: str) -> None:
        name, sign, right = text.partition(" ← ")
        if not sign:
            name, sign, right = text.partition(" = ")
        operands = names(right)
        for operand in operands:
            if operand not in self._values:
                self._list_input(operand)
        shape = shapes(right, self._values)
        matrix = value.ndim == 2 and section != "update" and name not in self.means
        by_row = matrix or name.endswith("ᵢ")
        self._values[name] = value
        self.lines.append(Line(section, part, name, text, shape, operands, value, by_row, remark))

    def _list_input(self, name: str) -> None:
        value = self._values[name] = self._inputs[name]
        shape = str(value.shape) if value.ndim else ""
        by_row = name in ("x", "y", "wᵢ")
        self.given.append(Line("given", "", name, name, shape, (), value, by_row))
