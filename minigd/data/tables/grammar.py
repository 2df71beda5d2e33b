"""What a number is, and what a missing value is, in the cells of a text file.

This is the only place that decides it: inference, checks and messages use it, and a parser converts
only cells that this grammar accepts. `docs/data.md` explains the rules to readers.
"""

import functools
import math
import re
from collections.abc import Collection, Iterable, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np

from minigd.backends.frames import MOST_EXACT
from minigd.types import Array

BLANKS = " \t\v\f\u00a0\u2007\u202f"
"""Allowed on either side of a number: ASCII blanks, and the three no-break spaces."""

USUAL_MISSING = frozenset(
    {
        *("#N/A", "#N/A N/A", "#NA", "<NA>", "N/A", "n/a", "NA", "NULL", "null", "None"),
        *("1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"),
    }
)
"""Texts that mean a missing value by default: those of pandas. The empty text and NaN, in any
letter case, are missing in any column of numbers."""

_NUMBER = re.compile(
    r"[+-]?(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:e[+-]?[0-9]+)?|inf|infinity|nan)",
    re.ASCII | re.IGNORECASE,
)
_NAN = re.compile(r"[+-]?nan", re.ASCII | re.IGNORECASE)
_LETTERS = frozenset(f"0123456789+-.einfatyEINFATY{BLANKS}")
_LONGEST_WHOLE = 40  # digits, beyond which no whole number fits 64 bits


class Notation(NamedTuple):
    """Marks of numbers other than those of the grammar.

    Attributes
    ----------
    decimal : str, default "."
        The mark before the fraction.
    thousands : str, default ""
        The mark between groups of three digits. If either mark is given, a currency sign next to a
        number is dropped. The Unicode minus sign, a minus after a number, and parentheses around it
        then mean a negative number.
    strip : str, default ""
        Units that may follow a number, one or several, separated by blanks. With "'" among them,
        single quotes around a cell are not part of it.

    Examples
    --------
    >>> [Notation(",", ".").plain(text) for text in ("1.234,5", "1,5 €", "12.34", "red")]
    ['1234.5', '1.5', "'12.34'", 'red']
    >>> [Notation(".", ",").plain(text) for text in ("($1,234.50)", "12.50-", "(-1)")]
    ['-1234.50', '-12.50', '(-1)']
    >>> [Notation(strip="% m2").plain(text) for text in ("5%", "212 m2", "3 kg", "m2")]
    ['5', '212', '3 kg', 'm2']
    >>> [Notation(strip="' sq ft").plain(text) for text in ("12 sq ft", "'7'", "''", "5 sqft")]
    ['12', '7', '', '5 sqft']
    """

    decimal: str = "."
    thousands: str = ""
    strip: str = ""

    @property
    def has_marks(self) -> bool:
        """Whether the marks differ from those of the grammar."""
        return self[:2] != PLAIN[:2]

    def state(self) -> dict[str, Any]:
        """Return the marks, if they differ from those of the grammar."""
        return {"notation": self[:2]} if self.has_marks else {}

    def plain(self, text: str) -> str:
        """Return a number as the grammar writes it, and any other text so that it stays a text."""
        text = self.unquoted(text)
        plain = self._without_marks(text)
        if not self.strip or read_number(plain) is not None:
            return plain
        found = _behind(self.strip).fullmatch(text.strip(BLANKS))
        number = self._without_marks(found[1]).strip(BLANKS) if found else ""
        return plain if read_number(number) is None else number

    @property
    def has_quotes(self) -> bool:
        """Whether single quotes around a cell are not part of it."""
        return "'" in self.strip.split()

    def unquoted(self, text: str) -> str:
        """Return a cell without the single quotes around it that are not part of it.

        >>> [Notation(strip="'").unquoted(cell) for cell in ("'o''clock'", "it's", "'")]
        ["o'clock", "it's", "'"]
        """
        bare = text.strip(BLANKS)
        if not self.has_quotes or len(bare) < 2 or not bare[0] == bare[-1] == "'":
            return text
        return bare[1:-1].replace("''", "'")

    def _without_marks(self, text: str) -> str:
        if not self.has_marks:
            return text
        bare = text.strip(BLANKS).replace("\u2212", "-")
        negative = _NEGATIVE.fullmatch(bare)
        if negative:
            bare = "-" + (negative[1] or negative[2]).strip(BLANKS)
        sign = bare[:1] if bare[:1] in "+-" else ""
        bare = bare[len(sign) :].strip(_CURRENCIES).strip(BLANKS)
        whole, mark, rest = bare.partition(self.decimal)
        if self.thousands and self.thousands in whole:
            first, *groups = whole.split(self.thousands)
            if not 1 <= len(first) <= 3 or any(len(g) != 3 or not g.isdigit() for g in groups):
                whole = "."  # not a number
            else:
                whole = first + "".join(groups)
        if "." not in whole and "." not in rest:
            return sign + whole + ("." if mark else "") + rest
        # A point that is not the decimal mark is refused: 502.963 may be half a million.
        return text if read_number(text) is None else f"'{text}'"

    def read(self, text: str) -> float | None:
        """Return the number that a text means in this notation, or None."""
        return read_number(self.plain(text))


PLAIN = Notation()
_CURRENCIES = "$€£¥₹"
_NEGATIVE = re.compile(rf"\(([^()+-]+)\)|([^()+-]*[0-9])[{BLANKS}]*-")
"""Negative numbers in accounting, (1.50) and 1.50-."""
_UNIT = rf"[^\W\d_]\S*(?:[{BLANKS}]+[^\W\d_]\S*){{0,3}}|[%‰°]\S*"
_WITH_UNIT = re.compile(rf"(?!0[0-9]).*[0-9][.,]?[{BLANKS}]*({_UNIT})|'.*(')")
_EXPONENT = re.compile(r"[deq]([+-][0-9]+|[0-9]{2,})", re.IGNORECASE)
"""A number in the notation of Fortran, 1.5D+01: its D is not a unit."""
_NOTATIONS = (
    *(Notation(".", ","), Notation(",", ""), Notation(",", ".")),
    *(Notation(mark, group) for group in " '\u2019\u00a0\u202f\u2009" for mark in ".,"),
)


@functools.cache
def _behind(strip: str) -> re.Pattern[str]:
    """Return a pattern for a number followed by units; the number is its first group."""
    # Longer units come first: cm before m. Between units there are blanks: 5 mm is not 5 m m.
    units = "|".join(map(re.escape, sorted(strip.split(), key=len, reverse=True)))
    return re.compile(rf"(.*?)[{BLANKS}]*(?:{units})(?:[{BLANKS}]+(?:{units}))*", re.DOTALL)


def find_notation(texts: Collection[str], given: Notation = PLAIN) -> Notation | None:
    """Return the notation in which all texts are numbers, if there is one, with the marks given.

    >>> find_notation(["1,234", "$5"]), find_notation(["5%"])
    (Notation(decimal='.', thousands=',', strip=''), None)
    """
    for marks in (PLAIN, *_NOTATIONS):
        notation = marks._replace(strip=given.strip)
        pairs = zip(notation, given, PLAIN, strict=True)
        fits = all(mark == other or other == usual for mark, other, usual in pairs)
        if fits and all(notation.read(text) is not None for text in texts):
            return notation
    return None


def find_unit(texts: Collection[str], given: Notation = PLAIN) -> Notation | None:
    """Return the notation in which all texts are numbers with one unit, if there is one.

    >>> find_unit(["1.5 m2", "212 m2"]), find_unit(["5 kg", "500 g"])
    (Notation(decimal='.', thousands='', strip='m2'), None)
    >>> find_unit(["12 sq ft", "7 sq ft"]), find_unit(["1.5D+01", "2.5D+01"])
    (Notation(decimal='.', thousands='', strip='sq ft'), None)
    """
    units: set[str] = set()
    for text in texts:
        found = _WITH_UNIT.fullmatch(text.strip(BLANKS))
        unit = "" if found is None else found[1] or found[2]
        units.add("" if _EXPONENT.fullmatch(unit) else unit)
        if len(units) > 1 or "" in units:
            return None
    words = dict.fromkeys([*given.strip.split(), *units])
    return find_notation(texts, given._replace(strip=" ".join(words)))


def read_number(text: str) -> float | None:
    r"""Return the number that a text means, or None.

    A number is a sign, digits 0 to 9 with at most one point, and an exponent; sign and exponent may
    be absent. ``inf``, ``infinity`` and ``nan`` count, in any letter case. Blanks around it do not
    matter.

    >>> [read_number(text) for text in ("-1.5e3", " 2\u00a0", ".5", "NAN")]
    [-1500.0, 2.0, 0.5, nan]
    >>> [read_number(text) for text in ("1_000", "1,5", "0x1A", "\uff11", "1 000", "")]
    [None, None, None, None, None, None]
    """
    text = text.strip(BLANKS)
    return float(text) if _NUMBER.fullmatch(text) else None


def read_whole(text: str) -> int | None:
    """Return the whole number that a text is, with all of its digits, or None.

    >>> [read_whole(text) for text in ("1234567890123456789", "3.0", "12e1", "0.5", "x")]
    [1234567890123456789, 3, 120, None, None]
    """
    value = read_number(text)
    if value is None or not math.isfinite(value) or abs(value) >= 10.0**_LONGEST_WHOLE:
        return None
    exact = Decimal(text.strip(BLANKS))
    # A float that rounds to 0 may stand for a fraction with many digits.
    if exact.adjusted() < 0:
        return 0 if exact == 0 else None
    return int(exact) if exact == exact.to_integral_value() else None


def _value(text: str) -> int | float | None:
    """Return the number that a text is, a whole one with all of its digits, or None."""
    whole = read_whole(text)
    return read_number(text) if whole is None else whole


def _fraction(text: str, value: float) -> float | Decimal:
    finite = math.isfinite(value) and abs(value) >= MOST_EXACT
    return Decimal(text.strip(BLANKS)) if finite else value


def _is_beyond_float(value: int | float | None) -> bool:
    return isinstance(value, int) and abs(value) >= MOST_EXACT


def _all_numbers(texts: list[str]) -> Array | None:
    """Return texts as numbers, NaN for an empty one; None if any text is neither.

    With these characters, `float` reads the same as the grammar, and reads a whole column at once.
    """
    if not _LETTERS.issuperset("".join(texts)):
        return None
    column = np.array(texts, dtype=object)
    there = column != ""
    values = np.full(len(column), math.nan)
    try:
        values[there] = column[there].astype(np.float64)
    except ValueError:
        return None
    return values


class MissingTexts:
    """Which texts mean that a value is missing.

    Parameters
    ----------
    own : sequence of str
        Named by the caller. A text that is a number also stands for its other spellings: -999 for
        -999.0.
    usual : bool, default True
        Whether `USUAL_MISSING` counts too.
    notation : Notation, optional
        How numbers are written.

    Attributes
    ----------
    words : frozenset of str
        All of these texts, including the empty one.

    Examples
    --------
    >>> missing = MissingTexts(["?", "-999"])
    >>> [text in missing for text in ("", "NA", "?", "-999.0", "NaN", "none")]
    [True, True, True, True, True, False]
    >>> [text in MissingTexts(["?"], usual=False) for text in ("", "NA", "?")]
    [True, False, True]
    """

    def __init__(
        self, own: Sequence[Any] = (), usual: bool = True, notation: Notation = PLAIN
    ) -> None:
        self.notation = notation
        self.own = frozenset(str(text).strip(BLANKS) for text in own)
        self.usual = usual
        self.words = self.own | {""} | (USUAL_MISSING if usual else frozenset())
        values = {_value(text) for text in self.own}
        self._numbers = {value for value in values if value is not None}

    def __contains__(self, text: str) -> bool:
        text = text.strip(BLANKS)
        if text in self.words or (self.usual and _NAN.fullmatch(text)):
            return True
        return bool(self._numbers) and _value(text) in self._numbers

    def is_usual(self, text: str) -> bool:
        """Tell whether a text is missing by default."""
        text = text.strip(BLANKS)
        return text != "" and text not in self.own and text in self

    @property
    def parsed_as_nan(self) -> list[str]:
        """The texts that a parser turns into NaN in a column of numbers.

        It compares numbers as float64, so those of `beyond_float` are left out.
        """
        words = {text for text in self.words if not _is_beyond_float(_value(text))}
        return sorted(words | {"nan", "NaN", "NAN", "-nan", "-NaN"})

    @property
    def beyond_float(self) -> list[float]:
        """The numbers that mean a missing value, but that float64 can't tell from others."""
        return sorted({float(v) for v in self._numbers if _is_beyond_float(v)})

    def to_numbers(self, texts: Iterable[str]) -> tuple[Array, Array]:
        """Return texts as float64, with NaN for missing ones, and which texts are neither.

        >>> values, wrong = MissingTexts().to_numbers(["1", "NA", "x"])
        >>> values.tolist(), wrong.tolist()
        ([1.0, nan, nan], [False, False, True])
        """
        return self._convert(self._plain(texts))

    def _plain(self, texts: Iterable[str]) -> list[str]:
        """Return numbers in the notation of the grammar, except texts for a missing value."""
        if self.notation == PLAIN:
            return list(texts)
        return [t if t.strip(BLANKS) in self.own else self.notation.plain(t) for t in texts]

    def _convert(self, texts: list[str]) -> tuple[Array, Array]:
        """Do what `to_numbers` does for texts in the notation of the grammar."""
        values = _all_numbers(texts)
        if values is not None:
            floats = [float(value) for value in self._numbers]
            for row in np.flatnonzero(np.isin(values, floats)) if floats else ():
                if texts[row] in self:
                    values[row] = math.nan
            return values, np.zeros(len(texts), dtype=bool)
        known: dict[str, float | None] = {
            text: math.nan if text in self else read_number(text) for text in set(texts)
        }
        wrong = np.array([known[text] is None for text in texts], dtype=bool)
        values = np.array([known[text] for text in texts], dtype=np.float64)  # None becomes NaN
        return values, wrong

    def to_whole(self, texts: Iterable[str]) -> tuple[Array, Array]:
        """Return whole numbers with all their digits, None where missing; and which are neither.

        A number that is not whole is a float, or a `Decimal` where a float would lose its fraction.

        >>> values, wrong = MissingTexts().to_whole(["998877665544332211", "", "0.5", "x"])
        >>> values.tolist(), wrong.tolist()
        ([998877665544332211, None, 0.5, None], [False, False, False, True])
        """
        texts = self._plain(texts)
        floats, wrong = self._convert(texts)
        values = np.full(len(texts), None, dtype=object)
        for i in np.flatnonzero(~np.isnan(floats)).tolist():
            whole = read_whole(texts[i])
            values[i] = _fraction(texts[i], float(floats[i])) if whole is None else whole
        return values, wrong

    def to_texts(self, texts: Array, named: Collection[str] = ()) -> Array:
        """Return texts with None for missing ones; a text that was named is never missing.

        >>> MissingTexts().to_texts(np.array(["NA", "ZA", ""], object), ["NA", "ZA"]).tolist()
        ['NA', 'ZA', None]
        """
        absent = {t for t in set(texts) if t.strip(BLANKS) not in named and t in self}
        if not absent:
            return texts
        return np.array([None if text in absent else text for text in texts], dtype=object)
