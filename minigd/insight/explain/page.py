"""An explanation as HTML: formulas typeset, arrays as tables, one example highlighted.

It is one element with its own style, escaped, and loads nothing. Colors are those of the page
around it, mixed with transparent ones, so it is readable on a dark and on a light page.
"""

import re
from collections.abc import Sequence
from html import escape
from itertools import groupby

from minigd.insight.explain.line import Line, grid, number

STYLE = """
.minigd-trace { color: inherit; font: 14px/1.5 system-ui, sans-serif; overflow-x: auto; }
.minigd-trace p { font-size: 12px; margin: 0 0 .8em; }
.minigd-trace .section { margin: 0 0 1em; }
.minigd-trace .title { font-weight: 600; margin: 0 0 .2em; }
.minigd-trace .parts, .minigd-trace .lines { align-items: flex-start; display: flex;
  flex-wrap: wrap; gap: .6em 1.6em; }
.minigd-trace .part { border-left: 3px solid rgba(127, 127, 127, .45); padding: 0 0 0 .8em; }
.minigd-trace .whose, .minigd-trace .shapes, .minigd-trace .remark { font-size: 12px;
  opacity: .75; }
.minigd-trace .remark { max-width: 26em; }
.minigd-trace .formula { font: 16px/1.5 Cambria, "STIX Two Text", "Times New Roman", serif;
  white-space: nowrap; }
.minigd-trace sub, .minigd-trace sup { line-height: 0; }
.minigd-trace table { border-collapse: collapse; margin: .2em 0 0; width: auto; }
.minigd-trace th, .minigd-trace td { background: none; border: 1px solid rgba(127, 127, 127, .35);
  color: inherit; font: 12px/1.4 ui-monospace, monospace; padding: 1px 7px; text-align: right; }
.minigd-trace th { border: 0; font-weight: 400; opacity: .75; }
.minigd-trace tr.path td { background: rgba(255, 160, 0, .3); font-weight: 700; }
.minigd-trace tr.path th { font-weight: 700; opacity: 1; }
""".strip()

_TOKEN = re.compile(
    "(?P<name>(?![Σᵀ²½ᵢₖ])[^\\W\\d](?:(?![ᵀ²½ᵢ])[\\w.\u0302])*)"
    "|\\^(?P<power>\\w+)|(?P<sign>[ᵀ²ᵢₖ])|(?P<other>.)",
    re.DOTALL,
)
_SIGNS = {
    "ᵀ": "<sup>T</sup>",
    "²": "<sup>2</sup>",
    "ᵢ": "<sub><i>i</i></sub>",
    "ₖ": "<sub><i>k</i></sub>",
}
_DIGITS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")


def html(
    title: Sequence[str],
    given: Sequence[Line],
    lines: Sequence[Line],
    rows: Sequence[int],
    highlighted: int | None,
    digits: int,
) -> str:
    """Return the explanation as one element."""
    numbers = [line for line in given if line.value.ndim == 0]
    arrays = [line for line in given if line.value.ndim]
    sections = []
    for section, some in groupby([*arrays, *numbers, *lines], lambda line: line.section):
        parts = []
        for part, own in groupby(some, lambda line: line.part):
            whose = f'<div class="whose">{escape(part)}</div>' if part else ""
            inside = "".join(_line(line, rows, highlighted, digits) for line in own)
            parts.append(f'<div class="part">{whose}<div class="lines">{inside}</div></div>')
        sections.append(
            f'<div class="section"><div class="title">{escape(section)}</div>'
            f'<div class="parts">{"".join(parts)}</div></div>'
        )
    first, *rest = map(escape, title)
    heading = "<br>".join([f"<b>{first}</b>", *rest])
    return (
        f'<div class="minigd-trace"><style>{STYLE}</style><p>{heading}</p>{"".join(sections)}</div>'
    )


def typeset(formula: str) -> str:
    """Return a formula as HTML.

    >>> typeset("dW1 = xᵀ·dz1 / n")
    'd<i>W</i><sub>1</sub> = <i>x</i><sup>T</sup>·d<i>z</i><sub>1</sub> / <i>n</i>'
    """
    return "".join(_set(match) for match in _TOKEN.finditer(formula))


def _set(match: re.Match[str]) -> str:
    if match["name"]:
        return _set_name(match["name"])
    if match["power"]:
        return f"<sup><i>{escape(match['power'])}</i></sup>"
    return _SIGNS.get(match[0], escape(match[0]))


def _set_name(name: str) -> str:
    base = name.rstrip("0123456789₀₁₂₃₄₅₆₇₈₉")
    number = name[len(base) :].translate(_DIGITS)
    # The d of a gradient is upright, and so are words.
    d, base = ("d", base[1:]) if base[0] == "d" and len(base) > 1 else ("", base)
    symbol = f"<i>{escape(base)}</i>" if len(base.replace("\u0302", "")) < 3 else escape(base)
    return d + symbol + (f"<sub>{number}</sub>" if number else "")


def _line(line: Line, rows: Sequence[int], highlighted: int | None, digits: int) -> str:
    formula = typeset(line.formula)
    if line.value.ndim == 0:
        sign = "=" if not line.operands or line.formula.startswith(f"{line.name} =") else "→"
        formula += f" {sign} <b>{escape(number(line.value[()], digits))}</b>"
    shapes = line.shapes + ", all 0" * line.is_zero
    shapes = f'<div class="shapes">{escape(shapes)}</div>' if shapes else ""
    remark = f'<div class="remark">{escape(line.remark)}</div>' if line.remark else ""
    table = "" if line.value.ndim == 0 or line.is_zero else _table(line, rows, highlighted, digits)
    return f'<div><div class="formula">{formula}</div>{shapes}{remark}{table}</div>'


def _table(line: Line, rows: Sequence[int], highlighted: int | None, digits: int) -> str:
    body = []
    for i, cells in grid(line, digits, highlighted):
        label = ""
        if line.by_row:
            label = f"<th>{'' if i is None else rows[i]}</th>"
        path = ' class="path"' if line.by_row and i is not None and i == highlighted else ""
        body.append(f"<tr{path}>{label}{''.join(f'<td>{escape(c)}</td>' for c in cells)}</tr>")
    return f"<table>{''.join(body)}</table>"
