"""Dates written as text, as ONNX operators: from a text to year, weekday, hour and days.

A text is cut at each mark of the format that is not a digit, and the pieces are whole numbers.
"""

import calendar
import datetime
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from minigd.data.tables.dates import PARTS, Dates
from minigd.errors import DataError
from minigd.interop.onnx_graph import Graph

_WIDTHS = {"%Y": 4, "%m": 2, "%d": 2, "%H": 2, "%M": 2, "%S": 2}
_NAMES = ("%b", "%B")
_LOWEST = {"%Y": 1900, "%m": 1, "%d": 1, "%H": 0, "%M": 0, "%S": 0}
"""The default for parts of a date that its format lacks, as in `datetime.strptime`."""
_LIMITS = {"%m": (1, 12), "%d": (1, 31), "%H": (0, 23), "%M": (0, 59), "%S": (0, 59)}


class _Piece(NamedTuple):
    """A piece of a format: its directives, and the mark after it, "" for the last."""

    directives: list[str]
    mark: str


def read_notation(feature: str, format: str) -> list[_Piece]:
    """Return the pieces of a format, and refuse a format that ONNX has no operators for.

    >>> read_notation("sold", "%Y%m%dT%H:%M")
    [_Piece(directives=['%Y', '%m', '%d'], mark='T'), _Piece(directives=['%H'], mark=':'), \
_Piece(directives=['%M'], mark='')]
    """
    found = re.findall(r"((?:%[A-Za-z])+)([^%]*)", format)
    pieces = [_Piece(re.findall("%.", directives), mark) for directives, mark in found]
    whole = "".join("".join(piece.directives) + piece.mark for piece in pieces) == format
    ends = [not piece.mark for piece in pieces]
    known = all(
        set(d) <= _WIDTHS.keys() or (len(d) == 1 and d[0] in (*_NAMES, "%y", "%f"))
        for d, _ in pieces
    )
    if not (whole and known and ends == [False] * (len(pieces) - 1) + [True]):
        raise DataError(
            f"column {feature!r} holds dates in the format {format!r}, which ONNX has no "
            "operators to read: write them as 2014-05-31 or 2014-05-31 18:00:00 before training, "
            "or leave the column out"
        )
    return pieces


def parts_of_date(
    graph: Graph, feature: str, date: Dates, text: str, empty: str
) -> tuple[dict[str, str], str]:
    """Add the parts of a date by name, in float64, and whether a text is not a date.

    `empty` is the name of a boolean per row; the parts of such a row have no meaning.
    """
    pieces = read_notation(feature, date.format)
    some = graph.constant("some date", datetime.datetime(2000, 1, 1).strftime(date.format), object)
    values = _values(graph, pieces, graph.add("Where", empty, some, text))
    zero = graph.add("Sub", *[next(iter(values.values()))] * 2)
    for directive, lowest in _LOWEST.items():
        if directive not in values:
            values[directive] = _plus(graph, zero, lowest)
    y, m, d, hour, minute, second = (values[directive] for directive in _LOWEST)
    days = _days(graph, y, m, d)
    _, weekday = _divided(graph, _plus(graph, days, 3 + 7_000_000), 7)  # positive for all dates
    minutes = graph.add("Add", _times(graph, hour, 60), minute)
    seconds = graph.add("Add", _times(graph, minutes, 60), second)
    time = graph.add("Add", _times(graph, days, 86_400), seconds)
    first = graph.constant("first", date.first, np.float64)
    found = (
        graph.cast(y, np.float64),
        graph.cast(m, np.float64),
        graph.cast(weekday, np.float64),
        graph.add("Add", graph.cast(hour, np.float64), _share(graph, minute, 60)),
        graph.add("Sub", _share(graph, time, 86_400), first),
    )
    return dict(zip(PARTS, found, strict=True)), _beyond(graph, values)


def _values(graph: Graph, pieces: Sequence[_Piece], text: str) -> dict[str, str]:
    """Add the whole numbers of a text, by their directives."""
    values: dict[str, str] = {}
    for directives, mark in pieces:
        word = text
        if mark:
            both = graph.add("StringSplit", text, more=1, delimiter=mark, maxsplit=1)
            word, text = (
                graph.add("Gather", both, graph.constant("piece", k, np.int64), axis=2)
                for k in (0, 1)
            )
        if directives[0] in _NAMES:
            values["%m"] = _month(graph, word)
        elif directives[0] == "%y":
            values["%Y"] = _century(graph, graph.cast(word, np.int64))
        elif directives[0] != "%f":  # of a second, which no part of a date has
            number = graph.cast(word, np.int64)
            for directive in reversed(directives[1:]):
                number, values[directive] = _divided(graph, number, 10 ** _WIDTHS[directive])
            values[directives[0]] = number
    return values


def _month(graph: Graph, name: str) -> str:
    """Add the number of a month by its English name, 0 for none."""
    names = [
        written(month)
        for months in (calendar.month_abbr, calendar.month_name)
        for month in months
        if month
        for written in (str, str.lower, str.upper)
    ]
    numbers = [k for _ in range(2) for k in range(1, 13) for _ in range(3)]
    known = dict(zip(names, numbers, strict=True))
    return graph.add(
        "LabelEncoder", name, domain="ai.onnx.ml", keys_strings=list(known),
        values_int64s=list(known.values()), default_int64=0,
    )  # fmt: skip


def _century(graph: Graph, year: str) -> str:
    """Add a year of two digits to its century: 69 is 1969, and 68 is 2068."""
    late = graph.cast(graph.add("Less", year, graph.constant("pivot", 69, np.int64)), np.int64)
    return graph.add("Add", _plus(graph, year, 1900), _times(graph, late, 100))


def _days(graph: Graph, y: str, m: str, d: str) -> str:
    """Add the days since 1970; years begin in March here, which makes a leap day the last day."""
    early = graph.cast(graph.add("Less", m, graph.constant("march", 3, np.int64)), np.int64)
    y = graph.add("Sub", y, early)
    m = graph.add("Add", _plus(graph, m, -3), _times(graph, early, 12))
    days = graph.add("Add", _times(graph, y, 365), _divided(graph, y, 4)[0])
    days = graph.add("Sub", days, _divided(graph, y, 100)[0])
    days = graph.add("Add", days, _divided(graph, y, 400)[0])
    before = _divided(graph, _plus(graph, _times(graph, m, 153), 2), 5)[0]
    days = graph.add("Add", graph.add("Add", days, before), d)
    return _plus(graph, days, -719_469)


def _beyond(graph: Graph, values: dict[str, str]) -> str:
    """Add whether a month, a day or a time is invalid."""
    found = []
    for directive, (low, high) in _LIMITS.items():
        limits = [graph.constant("limit", limit, np.int64) for limit in (low, high)]
        found.append(graph.add("Less", values[directive], limits[0]))
        found.append(graph.add("Greater", values[directive], limits[1]))
    beyond = found[0]
    for one in found[1:]:
        beyond = graph.add("Or", beyond, one)
    return beyond


def _plus(graph: Graph, x: str, number: int) -> str:
    return graph.add("Add", x, graph.constant("term", number, np.int64))


def _times(graph: Graph, x: str, number: int) -> str:
    return graph.add("Mul", x, graph.constant("factor", number, np.int64))


def _divided(graph: Graph, x: str, number: int) -> tuple[str, str]:
    """Add the integer quotient and the remainder of a number that is not negative."""
    whole = graph.add("Div", x, graph.constant("divisor", number, np.int64))
    return whole, graph.add("Sub", x, _times(graph, whole, number))


def _share(graph: Graph, x: str, number: int) -> str:
    divisor = graph.constant("divisor", number, np.float64)
    return graph.add("Div", graph.cast(x, np.float64), divisor)
