"""What may be wrong with a column as a whole, such as texts among numbers, and its remedies."""

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from minigd.data.labels import read_truth
from minigd.data.tables.grammar import PLAIN, Notation, find_notation, find_unit, read_number
from minigd.data.tables.missing import MISSING_LEVEL
from minigd.data.tables.places import Place
from minigd.data.tables.remedy import Remedy, TableError

MOST_LEVELS = 100
"""A category has at most this many columns, unless its levels are given."""

MIN_COUNT, HASHED = 10, 32
"""Proposed for a category with more levels: the minimum rows of a level, or the hashed columns."""

FEW_LEVELS = 20
"""With at most this many different numbers and texts, a column may be a category."""

_MOST_LABELS = 2
"""Rows below the header that may hold units, or the questions of a survey."""

FEW_TEXTS = 3
"""At most this many different texts among numbers may mean a missing value; more are codes."""

_MARKS = re.compile(
    r"unknown|missing|nil|n/d|n\.a\.|x|other|not available|no data"
    r"|\\n|\.[a-z]|[(<\[{](null|none|nil|na|n/a|missing|blank|empty)[)>\]}]|null|none|na|n/a"
    r"|#[a-z0-9/]+[!?]",
    re.IGNORECASE,
)
"""Words for a missing value, including those of databases and Stata, and spreadsheet errors."""

_TOTALS = {
    *("total", "totals", "grand total", "sum", "sums", "summe", "gesamt", "gesamtsumme"),
    *("insgesamt", "totale", "somme", "suma", "totaal", "soma", "average", "mean"),
    *("mittelwert", "durchschnitt", "all", "overall", "media", "moyenne", "итого", "合計", "合计"),
}
"""Names of a row with sums or means of all others."""

_SUBTOTALS = re.compile(
    r"(sub-?|grand |sous-)?totals?|(gesamt|zwischen)summe|insgesamt|totale|totaal|итого"
    r"|合計|合计|小計|小计",
    re.IGNORECASE,
)
"""Names of such a row that may also occur between other rows."""

_MOST_NAMED = 8  # columns in one message; the remedy has all of them

_DATE = re.compile(
    r"(?!0000)\d{4}[-/.]\d\d?([-/.]\d\d?)?([T ].*)?"
    r"|(1[5-9]|2[01])\d\d(0[1-9]|1[0-2])[0-3]\d([T ].*)?"
    r"|\d{1,2}[-./]\d{1,2}[-./]\d{2,4}.*"
    r"|\d{1,2}:\d\d(:\d\d)?|[A-Z][a-z]{2,8}\.? \d{1,2},? \d{4}|\d{1,2} [A-Z][a-z]{2,8}\.? \d{4}"
)
# Signs of numbers in other notations: 1,234  $5  12%  1 000  −1
_DRESS = str.maketrans("−", "-", ",.$€£%_'’ \u00a0\u2009\u202f\u066b\u066c\uff0c\uff0e")

_MARKS_OF_NUMBERS = frozenset(Notation._fields)

_SHORTER = Remedy("group rare levels with {}", {"min_count": MIN_COUNT})

EXPAND = Remedy("turn it into columns of numbers first")
WRITE_TRUTHS = Remedy("write truth values as 1 and 0")


def may_be_missing(texts: Sequence[str]) -> list[Remedy]:
    """Return the remedy for texts among numbers, if they may mean a missing value."""
    if len(texts) > FEW_TEXTS:
        return []
    what = "it means a missing value" if len(texts) == 1 else "such texts mean missing values"
    return [Remedy(f"if {what}, pass {{}}", {"na": list(texts)})]


def read_dressed(
    texts: Sequence[str], otherwise: str, given: Notation, may_have_unit: bool = False
) -> list[Remedy]:
    """Return how to read numbers in another notation, or another remedy if that is impossible."""
    notation = find_notation(texts, given)
    if notation is None and may_have_unit:
        notation = find_unit(texts, given)
    if notation is None:
        return [Remedy(otherwise)]
    return [Remedy("read it with {}", _differing(notation, given)), Remedy(otherwise)]


def _differing(notation: Notation, given: Notation) -> dict[str, Any]:
    return {k: v for k, v in notation._asdict().items() if v != getattr(given, k)}


def no_number(texts: Sequence[str], notation: Notation = PLAIN) -> tuple[str, list[Remedy]]:
    """Return what is wrong with the first of some texts in a column of numbers, and remedies.

    >>> no_number(["yes"])[0], no_number(["1,5"])[0]
    ('is not a number', 'is a number in a format that is not parsed')
    """
    if is_dressed(texts[0], notation):
        dressed = [t for t in texts if is_dressed(t, notation)]
        remedies = read_dressed(dressed, "write it plainly", notation)
        return "is a number in a format that is not parsed", remedies
    is_truth = read_truth(texts[0]) is not None
    return "is not a number", [WRITE_TRUTHS] if is_truth else may_be_missing(texts)


class Problem(NamedTuple):
    """What is wrong with a column as a whole."""

    column: str
    what: str
    other: Remedy | None = None
    """What can be done besides leaving the column out."""
    odd: Sequence[str] = ()
    """The few texts among numbers; if they mean a missing value, `na` solves the problem."""
    where: str = ""
    """Where the first of them is."""
    few: bool = False
    """Whether it has few different values, like a category."""
    dressed: Sequence[str] = ()
    """Its numbers in a format that is not parsed."""

    def suspicion(self, name: str) -> TableError:
        """Return the warning about a column that is used as it is."""
        remedies = [] if self.other is None else [self.other]
        return TableError(f"{self.where or name}: column {self.column!r} {self.what}", *remedies)


def refuse_columns(
    wrong: Sequence[Problem], targets: Collection[str], name: str, notation: Notation
) -> None:
    """Refuse all columns that can't be used, in one message."""
    if len(wrong) == 1:
        raise _error(wrong[0], targets, name)
    if not wrong:
        return
    what = [f"{p.column!r} {p.what}" for p in wrong[:_MOST_NAMED]]
    more = f"; and {len(wrong) - len(what)} more" if len(wrong) > len(what) else ""
    read = _ways_to_read(wrong, notation)
    features = [p for p in wrong if p.column not in targets and not can_be_read(p)]
    categories = {p.column: None for p in features if p.few}
    out = [p.column for p in features if not p.odd and not p.few]
    marks = (
        p.odd or (p.other.options.get("na", ()) if p.other else ()) for p in wrong if not p.few
    )
    odd = list(dict.fromkeys(chain.from_iterable(marks)))
    ways: list[tuple[str, dict[str, Any]]] = [
        ("read columns as they are written", read),
        ("leave columns out", {"exclude": out}),
        ("treat columns as categories", {"categories": categories}),
        ("treat odd texts as missing values", {"na": odd}),
    ]
    chosen = [(words, options) for words, options in ways if any(options.values())]
    remedies = []
    if chosen:
        words = ", and ".join(words for words, _ in chosen)
        options = {name: value for _, options in chosen for name, value in options.items()}
        remedies.append(Remedy(words + (", with {}" if len(chosen) > 1 else " with {}"), options))
    if any(p.column in targets and not p.odd and not can_be_read(p) for p in wrong):
        remedies.append(Remedy("choose another target"))
    others = {p.other.words: p.other for p in wrong if p.other is not None}
    # Rows with a missing target are always dropped.
    dropped = any(p.column in targets and p.odd for p in wrong)
    rows = [p.other for p in wrong if p.other and "missing" in p.other.options and not dropped]
    if rows:
        remedies[:0] = [Remedy(rows[0].words, {**rows[0].options, "na": odd})]
    remedies[:0] = [other for other in others.values() if "comment" in other.options]
    remedies += [o for o in others.values() if o.shell is None and not o.options]
    message = f"{name}: {len(wrong)} columns can't be used: {'; '.join(what)}{more}"
    raise TableError(message, *remedies)


def can_be_read(problem: Problem) -> bool:
    """Tell whether an option reads a column as it is."""
    options = {} if problem.other is None else problem.other.options
    return bool({*_MARKS_OF_NUMBERS, "dates", "na", "comment"} & options.keys())


def _ways_to_read(wrong: Sequence[Problem], given: Notation) -> dict[str, Any]:
    """Return the options that read columns as they are, together."""
    ways = [p.other.options for p in wrong if p.other is not None]
    dates = {c: format for way in ways for c, format in way.get("dates", {}).items()}
    # A file has one notation: another column may show what is ambiguous in this one.
    dressed = [text for p in wrong for text in p.dressed]
    units = dict.fromkeys(unit for way in ways for unit in way.get("strip", "").split())
    with_units = given._replace(strip=" ".join(units) or given.strip)
    notation = find_notation(dressed, with_units) if dressed else None
    if notation is not None:
        ways.insert(0, _differing(notation, given))
    marks = next(
        (
            {k: way[k] for k in way if k in _MARKS_OF_NUMBERS}
            for way in ways
            if _MARKS_OF_NUMBERS & {*way}
        ),
        {},
    )
    return {**marks, **({"dates": dates} if dates else {})}


def _error(problem: Problem, targets: Collection[str], name: str) -> TableError:
    """Return the error for one column."""
    column = problem.column
    target = column in targets
    out = Remedy("leave the column out with {}", {"exclude": [column]})
    category = Remedy("treat it as a category with {}", {"categories": {column: None}})
    remedies = [Remedy("choose another target") if target else out]
    if problem.few:
        remedies.insert(0, category)
    message = f"{name}: column {column!r} {problem.what}"
    if problem.odd:
        first = problem.odd[0]
        missing = may_be_missing(problem.odd)
        codes = len(problem.odd) > 1 and all(map(_has_digit, problem.odd))
        remedies = missing if target else [out, *missing] if codes else [*missing, out]
        if not target:
            remedies.insert(0 if problem.few else len(remedies), category)
        message = (
            f"{problem.where}, column {column!r}: {first!r} is not a number, and most of the "
            "column is"
        )
    if problem.other is not None:
        remedies.insert(0 if can_be_read(problem) else len(remedies), problem.other)
    return TableError(message, *remedies)


class Texts:
    """The texts found in a column that may hold numbers."""

    def __init__(self, notation: Notation = PLAIN) -> None:
        self._notation = notation
        self.odd = 0
        """Values in all rows that are not numbers."""
        self.kept = self.kept_odd = 0
        """Values in rows that are kept, and those that are not numbers."""
        self.first: list[str] = []
        """The first few different texts that are not numbers."""
        self.where = ""
        """Where the first of them is."""
        self._seen, self.at_top = 0, False
        self.gaps = False
        """Whether any value is missing."""
        self.last = self.last_where = ""
        """The text in the last row, if it is a word for sums, and where it is."""

    def note(self, values: Any, counts: Counter[str], place: Place) -> None:
        """Record all rows of a frame."""
        self.gaps |= counts.total() < len(values)
        odd = _not_numbers(counts, self._notation)
        if len(values):
            last = values.iloc[-1]
            self.last = last if isinstance(last, str) and _is_total(last) else ""
            self.last_where = place.where(len(values) - 1) if self.last else ""
        self.odd += sum(counts[text] for text in odd)
        if odd and not self.where:
            row = int(np.argmax(values.isin(odd).to_numpy()))
            self.where = place.where(row)
            self.first, self.at_top = [values.iloc[row]], row == self._seen == 0
        self._seen += len(values)
        self.first += [t for t in odd if t not in self.first][: FEW_TEXTS + 1 - len(self.first)]

    @property
    def are_labels(self) -> bool:
        """Whether all texts that are not numbers are in the first rows, each different."""
        few = len(self.first) == self.odd <= _MOST_LABELS
        return few and self.at_top and not self.gaps

    def count(self, counts: Counter[str]) -> None:
        """Count the values of the rows that are kept."""
        self.kept += counts.total()
        self.kept_odd += sum(counts[text] for text in _not_numbers(counts, self._notation))


def _is_total(text: str) -> bool:
    return text.strip().lower().rstrip(":") in _TOTALS or _is_subtotal(text)


def _is_subtotal(text: str) -> bool:
    return _SUBTOTALS.fullmatch(text.strip().rstrip(":")) is not None


def _not_numbers(texts: Iterable[str], notation: Notation) -> list[str]:
    return [text for text in texts if notation.read(text) is None]


def _has_digit(text: str) -> bool:
    """Tell whether a text has a digit: codes have one, words for a missing value do not."""
    return any(letter.isdigit() for letter in text)


def problem_of_text(
    column: str,
    texts: Texts,
    known: Mapping[str, int],
    argument: str,
    name: str,
    is_text: bool,
    grouped: bool,
    notation: Notation,
    is_first: bool = False,
) -> Problem | None:
    """Return what is wrong with a column of text: texts among numbers, free text, odd dates.

    `known` has its levels so far and their counts. `argument` is the option that may name levels.
    `grouped` tells whether rare levels are grouped, and `is_first` whether it is the first column.
    """
    levels = set(known) - {MISSING_LEVEL}
    give_levels = Remedy(f"name its levels with {argument}=...", shell="")
    sample = min(levels, default="")
    odd = set(_not_numbers(levels, notation))
    numbers = len(levels) - len(odd)
    odd.update(texts.first)
    first = ""
    if texts.first:
        first = f"such as {texts.first[0]!r} ({texts.where.removeprefix(f'{name}, ')})"
    dressed = [text for text in odd if is_dressed(text, notation)]
    if texts.first and 2 * len(dressed) > len(odd):
        such = first if texts.first[0] in dressed else f"such as {min(dressed)!r}"
        return _dressed_numbers(column, dressed, such, is_text, numbers > 0, notation)
    if numbers and odd and all(read_truth(text) is not None for text in odd):
        return Problem(column, f"holds numbers, and truth values {first}", WRITE_TRUTHS)
    few = texts.odd > 0 and 2 * texts.kept_odd < texts.kept
    if few or (texts.odd and 2 * numbers > len(levels)):
        many = f"{texts.odd:,} text{'s' * (texts.odd != 1)}"
        mendable = is_text and may_be_missing(texts.first)
        what = f"holds numbers and {many}, {first}"
        marks = all(_MARKS.fullmatch(text) or not any(map(str.isalnum, text)) for text in odd)
        few = len(levels) <= FEW_LEVELS and argument != "classes" and not (odd and marks)
        odds = texts.first if mendable else ()
        total = sum_of_rows(column, texts, known, is_first) if is_text else None
        if total is not None and {*total.odd} == odd:
            return total._replace(odd=odds, where=total.where or texts.where)
        if is_text and not marks and argument != "classes" and texts.are_labels:
            options = {"na": texts.first, "missing": {column: "drop"}}
            other = Remedy("if the row holds units or labels, leave it out with {}", options)
            return Problem(column, what, other, odds, texts.where)
        return Problem(column, what, give_levels, odds, texts.where, few)
    others = sorted(text for text in levels if _DATE.fullmatch(text) is None)
    if 2 * len(others) < len(levels):
        return _problem_of_dates(column, texts, known, others, argument, is_text, is_first)
    fractions = not texts.odd and any("." in text for text in levels)
    if fractions or (not texts.odd and len(levels) > MOST_LEVELS):
        what = f"holds numbers written as text, such as {sample!r}"
        return Problem(column, what, Remedy("turn texts into numbers first"))
    if len(levels) > MOST_LEVELS and not grouped:
        what = f"has more than {MOST_LEVELS} different texts, such as {sample!r}"
        if argument == "classes":
            return Problem(column, what, give_levels)
        return Problem(column, what, _SHORTER)
    return None


def _problem_of_dates(
    column: str,
    texts: Texts,
    known: Mapping[str, int],
    others: list[str],
    argument: str,
    is_text: bool,
    is_first: bool,
) -> Problem:
    """Return the problem of a column of dates, and of `others`, which are not dates."""
    sample = min({*known} - {MISSING_LEVEL})
    remedy = Remedy("write all of them in one format")
    if argument == "classes":
        turn = Remedy("turn dates into numbers first")
        return Problem(column, f"holds dates such as {sample!r}", turn)
    if not others:
        return Problem(column, f"holds dates in several formats, such as {sample!r}", remedy)
    remedy = next(iter(may_be_missing(others) if is_text else ()), remedy)
    total = sum_of_rows(column, texts, known, is_first) if is_text else None
    if total is not None and {*total.odd} == {*others}:
        return total._replace(odd=())
    return Problem(column, f"holds dates, and other texts such as {others[0]!r}", remedy)


def _dressed_numbers(
    column: str,
    dressed: list[str],
    such: str,
    is_text: bool,
    beside_plain: bool,
    notation: Notation,
) -> Problem:
    """Return what is wrong with a column of numbers in a format that is not parsed."""
    what = f"holds numbers in a format that is not parsed, {such}"
    if not is_text:
        return Problem(column, what, Remedy("turn texts into numbers first"))
    # Among plain numbers, 5% may mean 0.05.
    ways = read_dressed(dressed, "write numbers plainly", notation, not beside_plain)
    return Problem(column, what, ways[0], dressed=dressed)


def sum_of_rows(
    column: str, texts: Texts, counts: Mapping[str, int], is_first: bool
) -> Problem | None:
    """Return what is wrong with a column of a table that may hold sums of its other rows."""
    sums = [text for text in counts if _is_subtotal(text)]
    if counts.get(texts.last) == 1 and texts.last not in sums:
        sums.append(texts.last)
    if not sums or len(counts) == len(sums):
        return None
    words = [text.strip() for text in sums]
    at_end = sums == [texts.last] and counts[texts.last] == 1
    lines, sum_up = ("line", "sums") if at_end else ("lines", "sum")
    them = "it" if at_end else "them"
    way = Remedy(f"if the {lines} {sum_up} up the others, remove {them} from the file")
    leave = f"if the {lines} {sum_up} up the others, leave {them} out with {{}}"
    if is_first and len(sums) == 1 and not _begins_others(words[0], counts.keys() - sums):
        way = Remedy(leave, {"comment": words[0]})
    elif not texts.gaps:
        way = Remedy(leave, {"na": words, "missing": {column: "drop"}})
    what = f"{'ends in' if at_end else 'holds'} {' and '.join(map(repr, words))}"
    return Problem(column, what, way, tuple(sums), texts.last_where if at_end else "")


def _begins_others(word: str, texts: Iterable[str]) -> bool:
    return any(text.startswith(word) for text in texts)


def codes_of_digits(column: str, texts: Sequence[str]) -> Problem | None:
    """Return what is wrong with a column of digits of which some begin with 0, as zip codes do."""
    code = next((text for text in texts if text[:1] == "0" and text[1:].isdecimal()), None)
    if code is None or not all(text.isdecimal() for text in texts if text.strip()):
        return None
    what = f"holds codes that begin with 0, such as {code!r}, and is read as numbers"
    category = Remedy("treat it as a category with {}", {"categories": {column: None}})
    return Problem(column, what, category)


def spelled_in_several_ways(column: str, levels: Iterable[str]) -> Problem | None:
    """Return what is wrong with classes that differ in case or blanks only."""
    ways: dict[str, list[str]] = {}
    for text in sorted(levels):
        ways.setdefault("".join(text.split()).casefold(), []).append(text)
    several = [" and ".join(map(repr, texts[:4])) for texts in ways.values() if len(texts) > 1]
    if not several:
        return None
    what = f"holds {'; '.join(several[:3])}, which differ in case or blanks only"
    return Problem(column, f"{what}, and each is a class", Remedy("write them in one way"))


def numbers_with_a_unit(column: str, texts: Collection[str], notation: Notation) -> Problem | None:
    """Return what is wrong with a column of texts that are numbers with one unit, as 217 m2."""
    numbers = [text for text in texts if _has_digit(text)]
    if len(numbers) <= FEW_LEVELS or len(texts) > len(numbers) + FEW_TEXTS:
        return None
    unit = find_unit(numbers, notation)
    if unit is None or unit == notation:
        return None
    how = "in single quotes" if numbers[0].strip().endswith("'") else "with a unit"
    what = f"holds numbers {how}, such as {numbers[0]!r}"
    read = Remedy("read them with {}", _differing(unit, notation))
    return Problem(column, what, read, dressed=numbers)


def is_dressed(value: str, notation: Notation = PLAIN) -> bool:
    """Tell whether a text is a number in a format that is not parsed.

    >>> [is_dressed(value) for value in ("2,25", "$5", "\uff11\uff12", "2.25", "?", "2014.05.02")]
    [True, True, True, False, False, False]
    >>> [is_dressed(value) for value in ("(1.50)", "1.50-", "(1)")]
    [True, True, False]
    """
    if _DATE.fullmatch(value) is not None or notation.read(value) is not None:
        return False
    if len(value) > 1 and value[0] == value[-1] == "'":
        return False  # a quoted number is meant as text
    if not value.isascii():
        # Digits of other scripts, each replaced by the digit 0 to 9 that it means.
        value = "".join(str(unicodedata.decimal(letter, letter)) for letter in value)
    if value[:1] + value[-1:] == "()" and not value[1:-1].isdigit():
        value = value[1:-1]
    return read_number(value.translate(_DRESS).removesuffix("-")) is not None
