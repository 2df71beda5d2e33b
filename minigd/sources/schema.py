"""Which columns of a table become which numbers, settled once for all blocks of it.

Numbers stay numbers, categories become one-hot columns, and dates and free text are refused.
"""

import math
import re
import string
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from numbers import Real
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from minigd.backend import Array
from minigd.errors import DataError
from minigd.sources.remedy import TableError
from minigd.sources.rounding import Rounding

MOST_LEVELS = 100
"""A column with more different texts than this is free text, unless its levels are given."""

MISSING_LEVEL = "missing"
"""The level of the rows in which a category is missing, where ``missing="category"``."""

_DATE = re.compile(
    r"\d{4}[-/.]?\d\d?([-/.]?\d\d?)?([T ].*)?|\d{1,2}[-./]\d{1,2}[-./]\d{2,4}.*"
    r"|\d{1,2}:\d\d(:\d\d)?|[A-Z][a-z]{2,8}\.? \d{1,2},? \d{4}|\d{1,2} [A-Z][a-z]{2,8}\.? \d{4}"
)
# What numbers wear in other notations: 1,234  $5  12%  1 000  −1
_DRESS = str.maketrans("−", "-", ",.$€£%_' \u00a0\u202f")


class BadValue(ValueError):
    """A value at a row of a frame that a schema does not take; the source adds file and line."""

    def __init__(self, row: int, column: str, problem: str) -> None:
        super().__init__(f"column {column!r}: {problem}")
        self.row = row
        self.column = column
        self.problem = problem


Encoded: TypeAlias = tuple[Array, Array | None, Array | None]
"""x, y, and which rows of a frame they are, None for all."""


class MissingColumn(TableError):
    """A table lacks a column that was named."""

    def __init__(self, message: str, column: str) -> None:
        super().__init__(message)
        self.column = column


class TextInNumbers(TableError):
    """A text in a column that held numbers so far; the message names file, line and column."""

    def __init__(self, message: str, column: str) -> None:
        super().__init__(message)
        self.column = column


class Selection(NamedTuple):
    """What the caller said of the columns."""

    target: str | Sequence[str] | None = None
    features: Sequence[str] | None = None
    exclude: Collection[str] = ()
    categories: Mapping[str, Sequence[Any]] = {}
    classes: Sequence[Any] | None = None
    missing: str | float = "error"

    def of(self, schema: "Schema") -> "Selection":
        """Return the columns of a schema, if nothing else was said of columns.

        Raises
        ------
        TypeError
            If something was.
        """
        if self != Selection():
            raise TypeError(
                "a schema brings its own target, features, exclude, missing, categories and "
                "classes: leave them out"
            )
        return Selection(schema.targets, schema.features)

    def resolve(
        self, columns: Sequence[str], name: str, twice: str = ""
    ) -> tuple[list[str], list[str]]:
        """Return the feature columns and the target columns, in order.

        `twice` is what to do where two columns share a name, if it is not to rename one.

        Raises
        ------
        MissingColumn
            If one that was named is not there.
        DataError
            If two columns share a name.
        """
        missing: Any = self.missing
        if isinstance(missing, bool) or not isinstance(missing, str | Real):
            number = False
        elif isinstance(missing, str):
            number = self.missing in ("error", "drop", "category")
        else:
            number = bool(np.isfinite(self.missing))
        if not number:
            raise ValueError(
                f"missing must be 'error', 'drop', 'category' or a number, not {self.missing!r}"
            )
        target: Any = self.target
        categories: Any = self.categories
        if not isinstance(target, str | Sequence | None):
            raise TypeError(f"target is the name of a column, not {target!r}")
        targets = [self.target] if isinstance(self.target, str) else list(self.target or ())
        if not isinstance(categories, Mapping):
            raise TypeError(f"categories is a dict of lists of levels, not {categories!r}")
        for what, names in (("features", self.features), ("exclude", self.exclude)):
            if isinstance(names, str):
                raise TypeError(f"{what} is a list of names, [{names!r}], not one name")
        wanted = list(columns) if self.features is None else list(self.features)
        there = set(columns)
        for column in [*targets, *wanted, *self.exclude, *self.categories]:
            if column not in there:
                raise MissingColumn(
                    f"{name}: there is no column {column!r}; the columns are {', '.join(columns)}",
                    column,
                )
        shared = sorted(c for c, count in Counter(columns).items() if count > 1)
        if shared:
            raise DataError(
                f"{name}: two columns are called {shared[0]!r}; {twice or 'rename one'}"
            )
        for names in (targets, wanted, *self.categories.values(), self.classes or ()):
            named = [str(one) for one in names]
            again = [one for one, count in Counter(named).items() if count > 1]
            if again:
                raise DataError(f"{name}: {again[0]!r} is named twice among {named}")
        for column, levels in self.categories.items():
            if isinstance(levels, str) or not len(levels):
                raise ValueError(f"{name}: categories[{column!r}] is a list of levels: {levels!r}")
        left_out = {*targets, *self.exclude}
        features = [c for c in wanted if c not in left_out]
        if not features:
            raise DataError(f"{name}: no column is left to learn from")
        return features, targets


class Schema:
    """The columns in use and what each becomes.

    A table read with the schema of another one becomes the same columns, whatever its own order.

    Parameters
    ----------
    features, targets : list of str
        Columns of the table.
    levels : dict of str to list of str
        For each categorical feature its levels, one output column each.
    classes : list of str or None
        Class k stands for ``classes[k]``, a text of the target, or a whole number if `integer`.
    integer : bool
        Whether a single target of numbers holds integers only; y is then int64.
    missing : {"error", "drop", "category"} or float, default "error"
        As `CsvSource`.
    dtype : dtype, default "float32"
    unknown : {"error", "drop"}, default "error"
        What becomes of a category that is none of the levels: an error that names its place, or its
        row is dropped and counted.

    Attributes
    ----------
    names : list of str
        Of the columns of x: the feature's, or ``feature=level``.
    drops : bool
        Whether rows may be dropped.
    """

    def __init__(
        self,
        features: list[str],
        targets: list[str],
        levels: dict[str, list[str]],
        classes: list[str] | None,
        integer: bool,
        missing: str | float = "error",
        dtype: Any = "float32",
        unknown: Literal["error", "drop"] = "error",
    ) -> None:
        self.features, self.targets, self.levels = features, targets, levels
        self.classes, self.integer = classes, integer
        self.missing, self.unknown = missing, unknown
        self.drops = missing in ("drop", "category") or unknown == "drop"
        self.dtype = np.dtype(dtype)
        if self.dtype.kind != "f":
            raise ValueError(f"dtype must be 'float32' or 'float64', not {str(dtype)!r}")
        self._places: dict[str, int] = {feature: i for i, feature in enumerate(features)}
        self.names = [
            name
            for feature in features
            for name in (
                [f"{feature}={level}" for level in levels[feature]]
                if feature in levels
                else [feature]
            )
        ]

        again = [name for name, count in Counter(self.names).items() if count > 1]
        if again:
            raise DataError(f"two columns of x would be called {again[0]!r}: rename one")

    @property
    def columns(self) -> list[str]:
        """The columns of the table that are read."""
        return [*self.features, *self.targets]

    @property
    def texts(self) -> set[str]:
        """The columns of the table that hold text."""
        return {*self.levels, *(self.targets if self.classes and not self.integer else ())}

    def why_not(self, frame: Any) -> str:
        """Say why the one row of a frame is dropped."""
        strict = self.replace()
        strict.drops = False
        try:
            strict.encode(frame)
        except BadValue as bad:
            return str(bad).partition(";")[0]
        return "the row is complete"

    def _gaps(self, frame: Any) -> Array:
        """Return which rows are to be dropped."""
        gaps = np.zeros(len(frame), dtype=bool)
        if self.missing in ("drop", "category"):
            # What has a level for it is not missing.
            whole = [c for c in self.columns if MISSING_LEVEL not in self._own_levels(c)]
            gaps |= frame[whole].isna().to_numpy().any(axis=1)
        if self.unknown == "drop":
            for column, levels in self.levels.items():
                texts = frame[column]
                gaps |= (texts.notna() & ~texts.isin(levels)).to_numpy()
        return gaps

    def _own_levels(self, column: str) -> list[str]:
        return self.levels.get(column, []) if self.missing == "category" else []

    def encode(self, frame: Any) -> Encoded:
        """Return x, y, and which rows were kept (None for all) of a frame of the table.

        Raises
        ------
        BadValue
            At the first missing, infinite or unknown value.
        """
        kept = None
        gaps = self._gaps(frame) if self.drops else None
        if gaps is not None and gaps.any():
            kept = ~gaps
            frame = frame[kept]
        try:
            x, y = self._encode_rows(frame)
        except BadValue as bad:
            # Counted among all rows, those dropped included.
            row = bad.row if kept is None else int(np.flatnonzero(kept)[bad.row])
            raise BadValue(row, bad.column, bad.problem) from None
        return x, y, kept

    def _encode_rows(self, frame: Any) -> tuple[Array, Array | None]:
        try:
            return (
                self._encode_features(frame),
                self._encode_target(frame) if self.targets else None,
            )
        except BadValue as bad:
            # Columns are encoded one by one, and another one may be at fault in an earlier row.
            if bad.row:
                self._encode_rows(frame.iloc[: bad.row])
            raise

    def _encode_features(self, frame: Any) -> Array:
        if not self.texts:
            # All columns at once: picking them one by one in pandas took three times as long.
            places = frame.columns.get_indexer(self.features)
            with np.errstate(over="ignore"):
                x = np.ascontiguousarray(frame.to_numpy()[:, places], dtype=self.dtype)
        else:
            x = np.zeros((len(frame), len(self.names)), dtype=self.dtype)
            at = 0
            for column in self.features:
                self._places[column] = at
                if column in self.levels:
                    codes = self._codes(frame, column, self.levels[column], self.missing)
                    rows = np.flatnonzero(codes >= 0)
                    x[rows, at + codes[rows]] = 1
                    at += len(self.levels[column])
                else:
                    with np.errstate(over="ignore"):
                        x[:, at] = frame[column].to_numpy()
                    at += 1
        if not np.isfinite(x).all():
            self._mend(frame, x)
        return x

    def _mend(self, frame: Any, x: Array) -> None:
        """Fill missing numbers in x, or refuse the first value that is not finite."""
        for column in self.features:
            if column in self.levels:
                continue
            at = self._places[column]
            bad = np.flatnonzero(~np.isfinite(x[:, at]))
            values = frame[column].to_numpy()
            for row in bad:
                if not np.isnan(values[row]):
                    raise BadValue(int(row), column, f"{values[row]} does not fit {self.dtype}")
                if isinstance(self.missing, str):
                    raise BadValue(int(row), column, _MISSING)
                x[row, at] = self.missing

    def _encode_target(self, frame: Any) -> Array:
        if self.classes is not None and not self.integer:
            return self._codes(frame, self.targets[0], self.classes, "error").astype(np.int64)
        y = np.column_stack([frame[target].to_numpy() for target in self.targets])
        with np.errstate(over="ignore"):
            bad = np.argwhere(~np.isfinite(y.astype(np.float64 if self.integer else self.dtype)))
        if len(bad):
            row, column = int(bad[0][0]), self.targets[int(bad[0][1])]
            value = y[row, int(bad[0][1])]
            problem = _MISSING if np.isnan(value) else f"{value} does not fit {self.dtype}"
            raise BadValue(row, column, problem)
        if len(self.targets) == 1:
            y = y[:, 0]
        if self.integer:
            whole = y.astype(np.int64)
            if not (whole == y).all():
                row = int(np.argmin(whole == y))
                raise BadValue(row, self.targets[0], f"{y[row]} is not one of the whole numbers")
            return whole if self.classes is None else self._classes_of(whole, self.classes)
        return np.ascontiguousarray(y, dtype=self.dtype)

    def _classes_of(self, whole: Array, classes: list[str]) -> Array:
        import pandas as pd

        codes: Array = pd.Index([int(c) for c in classes]).get_indexer(whole)
        unknown = np.flatnonzero(codes < 0)
        if len(unknown):
            row = int(unknown[0])
            raise BadValue(row, self.targets[0], _not_known(int(whole[row]), classes))
        return codes.astype(np.int64)

    def _codes(self, frame: Any, column: str, levels: list[str], missing: str | float) -> Array:
        import pandas as pd

        texts = frame[column]
        if MISSING_LEVEL in self._own_levels(column):
            texts = texts.fillna(MISSING_LEVEL)
        codes: Array = pd.Index(levels).get_indexer(pd.Index(texts.astype(object)))
        for row in np.flatnonzero(codes < 0):
            value = texts.iloc[int(row)]
            if not pd.isna(value):
                raise BadValue(int(row), column, _not_known(value, levels))
            if isinstance(missing, str):
                raise BadValue(int(row), column, _MISSING)
        return codes

    def state_dict(self) -> dict[str, Any]:
        """Return all of it, for JSON."""
        return {
            "features": self.features,
            "targets": self.targets,
            "levels": self.levels,
            "classes": self.classes,
            "integer": self.integer,
            "missing": self.missing,
            "dtype": str(self.dtype),
            "unknown": self.unknown,
        }

    def replace(self, **changes: Any) -> "Schema":
        """Return a schema that differs in some of the constructor's arguments.

        >>> schema = Schema(["a"], ["y"], {}, None, integer=True)
        >>> schema.replace(targets=[]).columns
        ['a']
        """
        return Schema(**{**self.state_dict(), **changes})


def _not_known(value: Any, known: list[str]) -> str:
    some = ", ".join(map(repr, known[:5])) + (" …" if len(known) > 5 else "")
    message = f"{value!r} is none of the {len(known)} value{'s' * (len(known) != 1)} known, {some}"
    text = str(value)
    end = next((e for e in _ends(text) if text.rstrip(e) in known), None)
    if end is not None:
        message += f", but is one without {end!r} at its end: for a CSV, say strip={end!r}"
    return message


def _ends(text: str) -> list[str]:
    """Return what might be taken off the end of a text: its last mark, or all of them."""
    marks = text[len(text.rstrip(string.punctuation)) :]
    return [marks[-1], "".join(sorted(set(marks)))] if marks else []


_MISSING = (
    "the value is missing; drop such rows with missing='drop', or fill them in with "
    "missing=<a number>"
)


class Settled(NamedTuple):
    """A schema, and what the first pass counted on the way."""

    schema: Schema
    rows: int
    dropped: int
    first_dropped: str = ""
    """Where the first row that was dropped is, and why it was."""

    def none_left(self) -> str:
        """Say what became of the rows where none is left."""
        if not self.dropped:
            return ""
        what = "missing" if self.schema.unknown == "error" else "missing or unknown"
        if self.dropped == 1:
            return f" once 1 with a {what} value is dropped; {self.first_dropped}"
        return f" once {self.dropped} with {what} values are dropped; {self.first_dropped}"


def conform(
    schema: Schema,
    frames: Callable[[Collection[str]], Iterator[Any]],
    locate: Callable[[int], str],
) -> Settled:
    """Go through a table once that is read with a schema it did not settle itself.

    Parameters
    ----------
    schema : Schema
    frames, locate : callable
        As `settle`.

    Raises
    ------
    DataError
        If a value is none that the schema takes.
    """
    rows = dropped = 0
    first = ""
    for frame in frames(schema.texts):
        try:
            x, _, kept = schema.encode(frame)
        except BadValue as bad:
            raise DataError(f"{locate(bad.row)}, {bad}") from None
        rows += len(x)
        dropped += len(frame) - len(x)
        if kept is not None and not first:
            row = int(np.argmin(kept))
            first = f"{locate(row)}, {schema.why_not(frame.iloc[[row]])}"
    return Settled(schema, rows, dropped, first)


def settle(
    selection: Selection,
    columns: Sequence[str],
    frames: Callable[[Collection[str]], Iterator[Any]],
    locate: Callable[[int], str],
    name: str,
    dtype: Any,
    texts: Iterable[str],
) -> Settled:
    """Go through a table once and settle what each column becomes.

    Parameters
    ----------
    selection : Selection
    columns : sequence of str
        Of the whole table.
    frames : callable
        Given the columns that hold text, it returns the table's frames. Where it raises
        `TextInNumbers`, that column counts as text and the pass starts again.
    locate : callable
        It says in words where a row of the frame at hand is.
    name : str
        Of the table, for errors.
    dtype : dtype
        Of x.
    texts : iterable of str
        Columns that hold text in the first frame.

    Raises
    ------
    DataError
        If a column holds dates or free text, or numbers with a few texts among them; if a value is
        missing and must not be, or is infinite; if a column that was named is not there; if the
        dtype can't tell the values of a target from each other.
    """
    features, targets = selection.resolve(columns, name)
    used = [*features, *targets]
    text = {c for c in {*texts, *selection.categories} if c in used}
    if selection.classes is not None:
        text |= set(targets)
    while True:
        try:
            seen = _Seen(selection, features, targets, text, locate, name, dtype)
            for frame in frames(text):
                seen.add(frame)
            return seen.settled()
        except TextInNumbers as found:
            if found.column in text:
                raise
            text.add(found.column)


class _Seen:
    """What a pass over a table has seen of it so far."""

    def __init__(
        self,
        selection: Selection,
        features: list[str],
        targets: list[str],
        text: set[str],
        locate: Callable[[int], str],
        name: str,
        dtype: Any,
    ) -> None:
        self.selection, self.features, self.targets = selection, features, targets
        self.text, self.locate, self.name = text, locate, name
        self.used = [*features, *targets]
        self.numbers = [c for c in self.used if c not in text]
        self.rounding = Rounding(dtype)
        self.given = {c: [str(v) for v in levels] for c, levels in selection.categories.items()}
        if selection.classes is not None and targets:
            self.given[targets[0]] = [str(v) for v in selection.classes]
        self.found: dict[str, set[str]] = {c: set() for c in sorted(text - set(self.given))}
        # How many values there were, and how many of them were no numbers.
        self.texts_of = {column: [0, 0] for column in self.found}
        self.first_text: dict[str, tuple[str, str]] = {}
        # Numbers that may be days; a column that was asked for by name is taken as it is.
        self.days: dict[str, int | None] = {}
        if selection.features is None:
            self.days = {c: None for c in features if c not in text}
        self.integer = len(targets) == 1 and not text & set(targets)
        self.rows = self.dropped = 0
        self.first_dropped = ""

    def add(self, frame: Any) -> None:
        """Take note of a frame."""
        missing = self.selection.missing
        if missing in ("drop", "category"):
            whole = frame[self._needed(missing)].isna().to_numpy()
            gaps = whole.any(axis=1)
            self.dropped += int(gaps.sum())
            if gaps.any() and not self.first_dropped:
                row = int(np.argmax(gaps))
                column = self._needed(missing)[int(np.argmax(whole[row]))]
                where = self.locate(row)
                self.first_dropped = f"{where}, column {column!r}: the value is missing"
            places = np.flatnonzero(~gaps)
            frame = frame[~gaps]
        else:
            places = np.arange(len(frame))
        self.rows += len(frame)
        self._look_for_dates(frame)
        whole = self.used if missing == "error" else self.targets
        try:
            _refuse_values(frame, whole, self.used, self.text)
        except BadValue as bad:
            raise DataError(f"{self.locate(int(places[bad.row]))}, {bad}") from None
        for column in self.found:
            self._add_texts(column, frame[column], places)
            if missing == "category" and frame[column].isna().any():
                self.found[column].add(MISSING_LEVEL)
        if self.integer:
            values = frame[self.targets[0]].to_numpy()
            # Beyond 2⁵³ not every whole number is a float.
            whole_numbers = (values == np.rint(values)) & (np.abs(values) < 2.0**53)
            self.integer = bool(whole_numbers.all())
        self.rounding.add(frame[self.numbers].to_numpy(np.float64))

    def _needed(self, missing: str) -> list[str]:
        """Return the columns without whose values a row is dropped."""
        if missing == "drop":
            return self.used
        own = {c for c, levels in self.given.items() if MISSING_LEVEL in levels}
        return [c for c in self.used if c in self.targets or c not in self.found.keys() | own]

    def _look_for_dates(self, frame: Any) -> None:
        """Rule out columns of numbers that do not all read as days, 20140502."""
        for column in sorted(self.days):
            values = frame[column].to_numpy()
            if not ((values > 19000100) & (values < 21001232)).all():
                del self.days[column]
                continue
            month, day = values // 100 % 100, values % 100
            if not ((month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)).all():
                del self.days[column]
            elif len(values) and self.days[column] is None:
                self.days[column] = int(values[0])

    def _add_texts(self, column: str, values: Any, places: Array) -> None:
        counts = values.value_counts()
        texts = [value for value in counts.index if not _is_number_text(value)]
        share = self.texts_of[column]
        share[0] += int(counts.sum())
        share[1] += int(counts[texts].sum())
        if texts and column not in self.first_text:
            row = int(np.argmax(values.isin(texts).to_numpy()))
            self.first_text[column] = self.locate(int(places[row])), values.iloc[row]
        # pandas before 3 gives up on a number beyond float64, so that it comes here as text.
        beyond = [value for value in counts.index if not share[1] and math.isinf(float(value))]
        if beyond:
            row = int(np.argmax(values.isin(beyond).to_numpy()))
            problem = f"{float(values.iloc[row])} is not finite"
            raise DataError(f"{self.locate(int(places[row]))}, column {column!r}: {problem}")
        found = self.found[column]
        if len(found) <= MOST_LEVELS:
            found |= set(counts.index)
        if len(found) > MOST_LEVELS and texts:
            self._refuse_text(column)

    def _refuse_text(self, column: str) -> None:
        """Refuse numbers with texts among them, free text, and dates."""
        found = self.found[column]
        among, texts = self.texts_of[column]
        target = column in self.targets
        named = "classes" if target else "categories"
        advice = "choose another target" if target else f"leave it out with exclude=[{column!r}]"
        few = bool(texts) and 2 * texts < among
        where, first = self.first_text.get(column, ("", ""))
        # Of many different numbers the first texts alone may be known.
        no_numbers = {value for value in found if not _is_number_text(value)} | ({first} - {""})
        dressed = [value for value in no_numbers if is_dressed(value)]
        numbers = sum(_is_number_text(value.translate(_DRESS)) for value in found)
        no_number = DataError(
            f"{where}, column {column!r}: {first!r} is no number, and most of "
            f"{'the column' if few else 'its different values'} are: if it means a missing value, "
            f"say so with na=[{first!r}]; if the numbers are names of categories, give them all "
            f"with {named}=..."
        )
        if few and 2 * len(dressed) <= len(no_numbers):
            raise no_number
        sample = min(found, default="")
        dates = sum(_DATE.fullmatch(value) is not None for value in found)
        if 2 * dates > len(found) and not few:
            raise DataError(
                f"{self.name}: column {column!r} holds dates such as {sample!r}: {advice}, or turn "
                "them into numbers first"
            )
        if 2 * len(dressed) > len(no_numbers):
            raise DataError(
                f"{self.name}: column {column!r} holds numbers in a notation that is not read, "
                f"such as {min(dressed)!r}: write them plainly, {advice}, or name its levels with "
                f"{named}=..."
            )
        if texts and 2 * numbers > len(found):
            raise no_number
        if len(found) > MOST_LEVELS:
            raise DataError(
                f"{self.name}: column {column!r} is free text, with more than {MOST_LEVELS} "
                f"different values such as {sample!r}: {advice}, or give its levels with "
                f"{named}=..."
            )

    def _look_at_rounding(self) -> None:
        """Refuse a target, and warn of columns, whose differences the dtype would lose."""
        for j in np.flatnonzero(self.rounding.lost).tolist():
            column = self.numbers[j]
            problem = self.rounding.sentence(f"{self.name}: column {column!r}", j)
            if column not in self.targets:
                warnings.warn(problem, stacklevel=5)
            elif not self.integer:  # whole numbers stay as they are
                raise DataError(problem)

    def settled(self) -> Settled:
        """Return what the whole table comes to."""
        targets, selection = self.targets, self.selection
        for column in self.found:
            self._refuse_text(column)
        for column in sorted(self.days if self.rows else ()):
            raise DataError(
                f"{self.name}: column {column!r} holds dates as numbers, such as "
                f"{self.days[column]}: leave it out with exclude=[{column!r}], or name it among "
                "features=[...]"
            )
        if len(targets) > 1 and self.text & set(targets):
            raise DataError(
                f"{self.name}: several targets must be numbers, and one of them is text"
            )
        levels = {c: self.given.get(c) or sorted(self.found[c]) for c in sorted(self.text)}
        classes = levels.pop(targets[0]) if targets and targets[0] in self.text else None
        schema = Schema(
            self.features,
            targets,
            levels,
            classes,
            self.integer,
            selection.missing,
            self.rounding.dtype,
        )
        self._look_at_rounding()
        return Settled(schema, self.rows, self.dropped, self.first_dropped)


def _is_number_text(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def is_dressed(value: str) -> bool:
    """Tell whether a text is a number in a notation that is not read.

    >>> [is_dressed(value) for value in ("2,25", "$5", "2.25", "?", "2014.05.02")]
    [True, True, False, False, False]
    """
    plain = value.translate(_DRESS)
    date = _DATE.fullmatch(value) is not None
    return _is_number_text(plain) and not _is_number_text(value) and not date


def _refuse_values(frame: Any, whole: list[str], used: list[str], text: set[str]) -> None:
    """Refuse the first value that is missing in a column that must be whole, or infinite."""
    first: BadValue | None = None
    if not text and np.isfinite(frame[used].to_numpy()).all():
        return
    for column in used:
        values = frame[column]
        bad = values.isna().to_numpy() if column in whole else np.zeros(len(frame), dtype=bool)
        if column not in text:
            bad = bad | np.isinf(values.to_numpy().astype(np.float64))
        row = int(np.argmax(bad)) if bad.any() else len(frame)
        if row < (len(frame) if first is None else first.row):
            problem = _MISSING if values.isna().iloc[row] else f"{values.iloc[row]} is not finite"
            first = BadValue(row, column, problem)
    if first is not None:
        raise first
