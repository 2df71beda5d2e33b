"""What the columns of a table become: numbers stay numbers, categories become one-hot columns.

A schema is the same for all blocks of a table, and for other tables with the same columns.
`inference.py` finds the schema of a table in a first pass.
"""

import string
import zlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from minigd.backends.frames import are_whole
from minigd.data.labels import label_key, read_truth
from minigd.data.tables.dates import EPOCH, Dates, read_dates
from minigd.data.tables.grammar import BLANKS
from minigd.data.tables.missing import (
    FILLS,
    MISSING_LEVEL,
    Missing,
    fills_of,
    has_level,
    needed_columns,
    policy_of,
    required_columns,
)
from minigd.data.tables.remedy import Remedy, TableError
from minigd.errors import DataError, check_dtype
from minigd.types import Array

OTHER_LEVEL = "other"
"""The level of rows whose category is rare or unknown."""

RENAME = Remedy("rename one")


class BadValue(ValueError):
    """A value in a row of a frame that a schema does not accept; the source adds file and line."""

    is_missing = False

    def __init__(self, row: int, column: str, problem: str, *remedies: Remedy) -> None:
        super().__init__(f"column {column!r}: {problem}")
        self.row, self.column = row, column
        self.problem, self.remedies = problem, remedies

    @classmethod
    def missing(cls, row: int, column: str, target: bool) -> "BadValue":
        """Return the error for a missing value; a target can't be filled in."""
        problem = "the value of the target is missing" if target else "the value is missing"
        bad = cls(row, column, problem, *([DROP] if target else [DROP, FILL]))
        bad.is_missing = True
        return bad

    @classmethod
    def unknown(cls, row: int, column: str, value: Any, known: Sequence[Any]) -> "BadValue":
        """Return the error for a text that is not known."""
        some = "".join(f", {one!r}" for one in known[:5]) + " …" * (len(known) > 5)
        values = f"value{'s' * (len(known) != 1)}"
        problem = f"{value!r} is not among the {len(known)} known {values}{some}"
        text = str(value)
        end = next((e for e in _ends(text) if text.rstrip(e) in known), None)
        words = f"if {end!r} at its end doesn't belong to it, pass {{}}"
        return cls(row, column, problem, *([] if end is None else [Remedy(words, {"strip": end})]))

    @classmethod
    def beyond(cls, row: int, column: str, value: Any, dtype: np.dtype[Any]) -> "BadValue":
        """Return the error for a number that is infinite, or that the dtype does not hold."""
        value = float(value) if dtype.kind == "f" and isinstance(value, int) else value
        problem = f"{value} does not fit {dtype}"
        if np.isinf(float(value)):
            problem = f"{value} is not finite"
        elif dtype.kind != "f" and value % 1:
            problem = f"{value} is not one of the whole numbers"
        elif dtype.kind != "f" and isinstance(value, float | np.floating):
            # A float has lost its last digits.
            problem = "the number is beyond 2**53, and the whole numbers of the schema are not"
        return cls(row, column, problem)


class ColumnKinds(NamedTuple):
    """How a source reads the columns of a table; all that are not named hold numbers.

    Attributes
    ----------
    texts : collection of str
        Columns of text.
    whole : collection of str
        Columns of whole numbers with more digits than float64 holds.
    named : mapping of str to collection of str
        Levels and classes that the user or a schema names: such a text is never missing.
    """

    texts: Collection[str] = ()
    whole: Collection[str] = ()
    named: Mapping[str, Collection[str]] = {}


Encoded: TypeAlias = tuple[Array, Array | None, Array | None]
"""x, y, and which rows of a frame they are, None for all."""


class MissingColumn(TableError):
    """A table lacks a column that was named."""

    def __init__(self, message: str, column: str, is_target: bool = False) -> None:
        super().__init__(message)
        self.column, self.is_target = column, is_target


class TextInNumbers(TableError):
    """Text in a column of numbers; the message names file, line and column of the first text.

    Attributes
    ----------
    column : str
        Of the first text.
    columns : set of str
        All columns of numbers that hold texts there.
    """

    def __init__(
        self, message: str, *remedies: Remedy, column: str, columns: Collection[str] = ()
    ) -> None:
        super().__init__(message, *remedies)
        self.column = column
        self.columns = {column, *columns}


class Schema:
    """The columns in use and what each becomes.

    A table that is read with another table's schema becomes the same columns in the same order.

    Parameters
    ----------
    features, targets : list of str
        Columns of the table.
    levels : dict of str to list of str
        The levels of each categorical feature; each level becomes one column.
    classes : list of str or None
        Class k stands for ``classes[k]``, a text of the target, or a whole number if `integer`.
    integer : bool
        Whether a single target holds only integers; y is then int64.
    missing : str, float or dict, default "error"
        As in `CsvSource`.
    dtype : dtype, default "float32"
    unknown : {"error", "drop", "other"}, default "error"
        What happens to a category that is not among the levels: an error that names its place; or
        its row is dropped and counted; or it gets the level ``other``, and 0 in all columns if the
        feature has no such level.
    exact : {"int64", "uint64"}, optional
        The dtype of an integer target with values that float64 can't hold.
    others : list of str
        Features with rare levels, which share the level ``other``.
    hashed : dict of str to int
        Categorical features without levels; a text is 1 in the column given by its hash.
    dates : dict of str to Dates
        Features that are dates.
    logs : list of str
        Features that become sign(v)·log(1 + |v|) in x.
    flags : list of str
        Features of numbers with an extra column, which is 1 where the number is missing.
    fills : dict of str to float
        For columns of x by name, the value that replaces a missing number; see `fill`.

    Attributes
    ----------
    names : list of str
        Names of the columns of x: that of the feature, or ``feature=level``.
    drops : bool
        Whether rows may be dropped.
    indicators : Array of bool
        Which columns of x hold only 0 and 1.
    """

    def __init__(
        self,
        features: list[str],
        targets: list[str],
        levels: dict[str, list[str]],
        classes: list[str] | None,
        integer: bool,
        missing: Missing = "error",
        dtype: Any = "float32",
        unknown: Literal["error", "drop", "other"] = "error",
        exact: str | None = None,
        others: Sequence[str] = (),
        hashed: Mapping[str, int] = {},
        dates: Mapping[str, Any] = {},
        logs: Sequence[str] = (),
        flags: Sequence[str] = (),
        fills: Mapping[str, float] = {},
    ) -> None:
        self.features, self.targets, self.levels = features, targets, levels
        self.classes, self.integer = classes, integer
        self.missing, self.unknown, self.exact = missing, unknown, exact
        self.others, self.logs, self.flags = list(others), list(logs), list(flags)
        self.hashed = dict(hashed)
        self.dates = {feature: Dates(*date) for feature, date in dates.items()}
        self.fills = dict(fills)
        self.dtype = check_dtype(dtype)
        flagged = set(self.flags)
        columns = {feature: self._names_of(feature, feature in flagged) for feature in features}
        self.names = [name for names in columns.values() for name in names]
        again = [name for name, count in Counter(self.names).items() if count > 1]
        if again:
            raise DataError(f"two columns of x would be called {again[0]!r}: rename one")
        widths = [len(names) for names in columns.values()]
        self._starts = dict(zip(features, np.cumsum([0, *widths]).tolist(), strict=False))
        self._flags_at = [self._starts[f] + len(columns[f]) - 1 for f in self.flags]
        text = np.array([f in levels or f in self.hashed for f in features], dtype=bool)
        self.indicators: Array = np.repeat(text, widths)
        self.indicators[self._flags_at] = True
        self._filled: list[int] = []
        """The columns of x in which a mean or a median replaces a missing number."""
        self._constants: dict[int, float] = {}
        for feature in features:
            policy = policy_of(missing, feature)
            start = self._starts[feature]
            for place in range(start, start + len(columns[feature])):
                if not self.indicators[place] and policy in FILLS:
                    self._filled.append(place)
                elif not self.indicators[place] and not isinstance(policy, str):
                    log = feature in self.logs
                    self._constants[place] = float(signed_log(policy) if log else policy)
        self.needed = needed_columns(self.columns, missing, levels)
        """The columns whose missing values drop a row."""
        self._required = required_columns(self.columns, missing, targets, self.needed)
        self.drops = bool(self.needed) or unknown == "drop"

    def _names_of(self, feature: str, flagged: bool) -> list[str]:
        """Return the names of the columns of x that a feature becomes."""
        if feature in self.levels:
            return [f"{feature}={level}" for level in self.levels[feature]]
        if feature in self.hashed:
            return [f"{feature}#{k}" for k in range(self.hashed[feature])]
        names = [f"log({feature})" if feature in self.logs else feature]
        if feature in self.dates:
            names = [f"{feature} {part}" for part in self.dates[feature].parts]
        return [*names, *([f"{feature}={MISSING_LEVEL}"] if flagged else [])]

    @property
    def columns(self) -> list[str]:
        """The columns of the table that are read."""
        return [*self.features, *self.targets]

    @property
    def texts(self) -> set[str]:
        """The columns of the table that hold text."""
        dates = [feature for feature, date in self.dates.items() if date.format != EPOCH]
        return {*self._named, *self.hashed, *dates}

    @property
    def _named(self) -> dict[str, Sequence[str]]:
        """The levels of columns of text, and the classes of a target of text."""
        of_target = {} if self.integer or not self.classes else {self.targets[0]: self.classes}
        return {**self.levels, **of_target}

    @property
    def kinds(self) -> ColumnKinds:
        """How a source reads the columns."""
        whole = self.targets if self.integer and self.exact is not None else ()
        return ColumnKinds(self.texts, set(whole), self._named)

    # Missing numbers -------------------------------------------------------------------------

    @property
    def fills_gaps(self) -> bool:
        """Whether a mean or a median replaces missing numbers."""
        return bool(self._filled)

    @property
    def settled(self) -> bool:
        """Whether the replacements of missing numbers are known for each column."""
        return all(self.names[place] in self.fills for place in self._filled)

    def settle(self, pieces: Iterable[Array]) -> "Schema":
        """Return the schema with the means and medians of the rows of x, which hold NaN."""
        statistics = [
            "median" if policy_of(self.missing, self._feature_at(place)) == "median" else "mean"
            for place in self._filled
        ]
        values = fills_of(statistics, (x[:, self._filled] for x in pieces))
        names = [self.names[place] for place in self._filled]
        return self.replace(fills=dict(zip(names, values, strict=True)))

    def unsettled(self) -> "Schema":
        """Return the schema with which x holds NaN instead of a mean or a median."""
        return self.replace(fills={})

    def _feature_at(self, place: int) -> str:
        """Return the feature that a column of x comes from."""
        return self.features[bisect_right(self.features, place, key=self._starts.__getitem__) - 1]

    def fill(self, x: Array) -> Array:
        """Fill in missing numbers of x, in place, and return x."""
        _fill_gaps(x, self._filled, [self.fills[self.names[place]] for place in self._filled])
        return x

    def first_bad_value(self, frame: Any, row: int) -> BadValue:
        """Return the value because of which a row of a frame is dropped."""
        values = frame.iloc[[row]]
        bad = next(filter(None, (self._bad(values[column]) for column in self.columns)))
        bad.row = row
        return bad

    def kept(self, frame: Any) -> Array | None:
        """Return which rows of a frame of the table are not dropped, None for all."""
        if not self.drops:
            return None
        gaps = np.zeros(len(frame), dtype=bool)
        if self.needed:
            gaps |= frame[self.needed].isna().to_numpy().any(axis=1)
        if self.unknown == "drop":
            for column, levels in self.levels.items():
                if column not in self.others:
                    unknown = codes_of(frame[column], levels) < 0
                    gaps |= unknown & frame[column].notna().to_numpy()
        return ~gaps if gaps.any() else None

    def _bad(self, column: Any) -> BadValue | None:
        """Return the first value of a column that the schema does not accept."""
        name = column.name
        target = name in self.targets
        dtype: Any = self._whole_dtype if target and self.integer else self.dtype
        levels = self._named.get(name)
        if name in self.hashed or name in self.dates or self._takes_others(name):
            levels = dtype = None
        date = self.dates.get(name)
        required = name in self._required or name in self.needed
        bad = bad_value(column, levels, dtype, required, target, date)
        if bad is None and target and self.integer and self.classes is not None:
            unknown = np.flatnonzero(self._classes_of(column, self.classes) < 0)
            for row in unknown[:1].tolist():
                return BadValue.unknown(row, name, int(column.iloc[row]), self.classes)
        return bad

    def count_unknown(self, frame: Any) -> dict[str, int]:
        """Return how many texts of each category are not among its levels but accepted."""
        found = {}
        for feature in filter(self._takes_others, self.levels):
            unknown = codes_of(frame[feature], self.levels[feature]) < 0
            found[feature] = int((unknown & frame[feature].notna().to_numpy()).sum())
        return found

    def _takes_others(self, feature: str) -> bool:
        """Tell whether a feature accepts any text as a category."""
        return feature in self.levels and (feature in self.others or self.unknown == "other")

    def _refuse(self, frame: Any, suspects: Sequence[str]) -> None:
        """Refuse the first bad value of a frame, if one of these columns has any."""
        if any(self._bad(frame[column]) for column in suspects):
            raise_first(self._bad(frame[column]) for column in self.columns)

    def encode(self, frame: Any) -> Encoded:
        """Return x, y, and which rows were kept (None for all) of a frame of the table.

        The first missing, infinite or unknown value is a `BadValue`.
        """
        kept = self.kept(frame)
        rows = frame if kept is None else frame[kept]
        try:
            return self._encode_features(rows), self._encode_target(rows), kept
        except BadValue as bad:
            # Counted among all rows, including dropped ones.
            bad.row = bad.row if kept is None else int(np.flatnonzero(kept)[bad.row])
            raise

    def _encode_features(self, frame: Any) -> Array:
        suspects: list[str] = []
        if not self.texts and len(self.names) == len(self.features):
            # All columns at once: picking them one by one in pandas took three times as long.
            places = frame.columns.get_indexer(self.features)
            with np.errstate(over="ignore"):
                x = np.ascontiguousarray(frame.to_numpy()[:, places], dtype=self.dtype)
        else:
            x = np.zeros((len(frame), len(self.names)), dtype=self.dtype)
            others = {*self.texts, *self.dates}
            numbers = [f for f in self.features if f not in others]
            with np.errstate(over="ignore"):
                x[:, [self._starts[f] for f in numbers]] = frame[numbers].to_numpy(np.float64)
            for feature in {**self.levels, **self.hashed, **self.dates}:
                if not self._encode_texts(frame[feature], x):
                    suspects.append(feature)
            x[:, self._flags_at] = np.isnan(x[:, [self._starts[f] for f in self.flags]])
        for feature in self.logs:
            at = self._starts[feature]
            x[:, at] = signed_log(x[:, at])
        if not np.isfinite(x).all():
            bad = ~np.isfinite(x)
            gaps = [*self._filled, *self._constants]
            bad[:, gaps] &= ~np.isnan(x[:, gaps])
            suspects += [self._feature_at(int(k)) for k in np.flatnonzero(bad.any(axis=0))]
        if suspects:
            self._refuse(frame, suspects)
        if self._constants:
            _fill_gaps(x, list(self._constants), list(self._constants.values()))
        return self.fill(x) if self.fills else x

    def _encode_texts(self, texts: Any, x: Array) -> bool:
        """Fill in the columns of x of a category or a date; tell whether all texts are known."""
        feature = texts.name
        at = self._starts[feature]
        if feature in self.dates:
            date = self.dates[feature]
            x[:, at : at + len(date.parts)] = date.encode(texts)
            return not (np.isnan(x[:, at]) & texts.notna().to_numpy()).any()
        if has_level(self.missing, feature):
            texts = texts.fillna(MISSING_LEVEL)
        if feature in self.hashed:
            codes = hashes_of(texts, self.hashed[feature])
        else:
            codes = codes_of(texts, self.levels[feature])
            if self._takes_others(feature) and OTHER_LEVEL in self.levels[feature]:
                other = self.levels[feature].index(OTHER_LEVEL)
                codes = np.where((codes < 0) & texts.notna().to_numpy(), other, codes)
        rows = np.flatnonzero(codes >= 0)
        x[rows, at + codes[rows]] = 1
        return len(rows) == len(codes)

    def _encode_target(self, frame: Any) -> Array | None:
        if not self.targets:
            return None
        first = self.targets[0]
        if self.integer:
            if bad_value(frame[first], None, self._whole_dtype, required=True, target=True):
                self._refuse(frame, [first])
            if self.classes is None:
                return np.asarray(frame[first].to_numpy().astype(self._whole_dtype))
            y = self._classes_of(frame[first], self.classes)
            good = y >= 0
        elif self.classes is not None:
            y = codes_of(frame[first], self.classes).astype(np.int64)
            good = y >= 0
        else:
            y = np.column_stack([frame[target].to_numpy(np.float64) for target in self.targets])
            with np.errstate(over="ignore"):
                y = y.astype(self.dtype)
            good = np.isfinite(y)
            y = np.ascontiguousarray(y[:, 0]) if len(self.targets) == 1 else y
        if not good.all():
            self._refuse(frame, self.targets)
        return y

    @property
    def _whole_dtype(self) -> np.dtype[Any]:
        """The dtype of a target of whole numbers."""
        return np.dtype(self.exact or "int64")

    def _classes_of(self, column: Any, classes: list[str]) -> Array:
        """Return the numbers of the classes of a whole target, -1 for those not known."""
        import pandas as pd

        whole = column.to_numpy().astype(self._whole_dtype)
        codes: Array = pd.Index([int(c) for c in classes]).get_indexer(whole)
        return codes.astype(np.int64)

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
            **({} if self.exact is None else {"exact": self.exact}),
            **{name: value for name, value in self._additions().items() if value},
        }

    def _additions(self) -> dict[str, Any]:
        """Return the arguments that most schemas leave empty."""
        return {
            "others": self.others,
            "hashed": self.hashed,
            "dates": {f: [d.format, d.first, list(d.parts)] for f, d in self.dates.items()},
            "logs": self.logs,
            "flags": self.flags,
            "fills": self.fills,
        }

    def replace(self, **changes: Any) -> "Schema":
        """Return a schema that differs in some of the constructor's arguments.

        >>> schema = Schema(["a"], ["y"], {}, None, integer=True)
        >>> schema.replace(targets=[]).columns
        ['a']
        """
        return Schema(**{**self.state_dict(), **changes})


def _ends(text: str) -> list[str]:
    """Return what might be removed from the end of a text: its last mark, or all of them."""
    marks = text[len(text.rstrip(string.punctuation)) :]
    return [marks[-1], "".join(sorted(set(marks)))] if marks else []


def bad_value(
    column: Any,
    levels: Sequence[str] | None,
    dtype: Any,
    required: bool,
    target: bool,
    date: Dates | None = None,
) -> BadValue | None:
    """Return the first value of a column that is missing and required, unknown, or infinite.

    A column with levels must hold known texts. A column with a dtype must hold numbers that are
    finite in it, and whole if it is an integer dtype. A column of dates must hold dates. Any
    other column may hold any text. No other code decides this.
    """
    missing = column.isna().to_numpy()
    bad = missing & required
    if date is not None:
        bad |= read_dates(column, date.format).isna().to_numpy() & ~missing
    elif levels is not None:
        bad |= (codes_of(column, levels) < 0) & ~missing
    elif dtype is not None:
        bad[~missing] = ~_fit(column.to_numpy()[~missing], dtype)
    if not bad.any():
        return None
    row = int(np.argmax(bad))
    if missing[row]:
        return BadValue.missing(row, column.name, target)
    if date is not None:
        problem = f"{column.iloc[row]!r} is not a date in the notation {date.format!r}"
        return BadValue(row, column.name, problem)
    if levels is not None:
        return BadValue.unknown(row, column.name, column.iloc[row], levels)
    return BadValue.beyond(row, column.name, column.iloc[row], dtype)


def _fit(values: Array, dtype: np.dtype[Any]) -> Array:
    """Return which numbers a dtype holds: finite ones, or whole ones with all of their digits."""
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return np.isfinite(values.astype(np.float64).astype(dtype))
    limits = np.iinfo(dtype)
    return are_whole(values) & (values >= limits.min) & (values <= limits.max)


def raise_first(found: Iterable[BadValue | None]) -> None:
    """Raise the value in the first row, if there is any; the first of several in one row."""
    first = min(filter(None, found), key=lambda bad: bad.row, default=None)
    if first is not None:
        raise first


DROP = Remedy("drop such rows with {}", {"missing": "drop"})
FILL = Remedy("fill them in with {}", {"missing": "mean"})


def _fill_gaps(x: Array, places: list[int], values: list[float]) -> None:
    """Put a number into the gaps of each of some columns."""
    rows, columns = np.nonzero(np.isnan(x[:, places]))
    x[rows, np.array(places, np.int64)[columns]] = np.array(values, x.dtype)[columns]


def signed_log(v: Any) -> Any:
    """Return sign(v)·log(1 + |v|), which is close to v near 0 and shortens heavy tails."""
    return np.sign(v) * np.log1p(abs(v))


def hashes_of(texts: Any, width: int) -> Array:
    """Return the column that each text is hashed into, -1 for a missing one.

    >>> import pandas
    >>> hashes_of(pandas.Series(["98178", "98101", None, "98178"]), 8).tolist()
    [1, 2, -1, 1]
    """
    import pandas as pd

    codes, texts = pd.factorize(texts)
    columns = np.array([zlib.crc32(text.encode()) % width for text in texts] + [-1])
    return columns[codes]


def _key(text: str, truths: bool) -> Any:
    """Return a key that all spellings of a level share; `truths` if levels are booleans."""
    truth = read_truth(text) if truths else None
    return label_key(text if truth is None else truth)


def codes_of(texts: Any, levels: Sequence[str]) -> Array:
    """Return the number of each text among the levels, -1 for other and missing texts.

    A level that is a whole number also stands for the other ways to write it, 1 for 1.0, and so do
    the levels True and False where there are no others; see `minigd.data.labels`.

    >>> import pandas
    >>> codes_of(pandas.Series(["b", "1.0", "01", None]), ["1", "b"]).tolist()
    [1, 0, -1, -1]
    >>> codes_of(pandas.Series(["true", "0", "TRUE", "tRUE"]), ["False", "True"]).tolist()
    [1, 0, 1, -1]
    """
    import pandas as pd

    codes: Array = pd.Index(levels, dtype=object).get_indexer(pd.Index(texts.astype(object)))
    unknown = np.flatnonzero((codes < 0) & texts.notna().to_numpy())
    if len(unknown):
        truths = {"False", "True"} == {*levels} - {MISSING_LEVEL}
        keys = [_key(level, truths) for level in levels]
        # If two levels are the same number, as 1 and 1.0, each stands only for its own text.
        counts = Counter(keys)
        places = {key: i for i, key in enumerate(keys) if counts[key] == 1}
        others = texts.iloc[unknown]
        found = {t: places.get(_key(t.strip(BLANKS), truths), -1) for t in others.unique()}
        codes = codes.copy()
        codes[unknown] = [found[text] for text in others]
    return codes
