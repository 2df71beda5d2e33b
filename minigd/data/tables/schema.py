"""What the columns of a table become: numbers stay numbers, categories become one-hot columns.

A schema is the same for all blocks of a table, and for other tables with the same columns.
`inference.py` finds the schema of a table in a first pass.
"""

import contextlib
import math
import string
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from minigd.backends.frames import are_whole
from minigd.data.labels import label_key, read_truth
from minigd.data.tables.grammar import BLANKS
from minigd.data.tables.remedy import Remedy, TableError
from minigd.errors import DataError, check_dtype, check_list, check_number, shown
from minigd.types import Array

MISSING_LEVEL = "missing"
"""The level of the rows in which a category is missing, where ``missing="category"``."""


RENAME = Remedy("rename one")


class BadValue(ValueError):
    """A value at a row of a frame that a schema does not take; the source adds file and line."""

    is_missing = False

    def __init__(self, row: int, column: str, problem: str, *remedies: Remedy) -> None:
        super().__init__(f"column {column!r}: {problem}")
        self.row, self.column = row, column
        self.problem, self.remedies = problem, remedies

    @classmethod
    def missing(cls, row: int, column: str, target: bool) -> "BadValue":
        """Return the error for a missing value; no number can stand for a target."""
        problem = "the value of the target is missing" if target else "the value is missing"
        bad = cls(row, column, problem, *([DROP] if target else [DROP, FILL]))
        bad.is_missing = True
        return bad

    @classmethod
    def unknown(cls, row: int, column: str, value: Any, known: Sequence[Any]) -> "BadValue":
        """Return the error for a text that is not among those known."""
        some = ", ".join(map(repr, known[:5])) + (" …" if len(known) > 5 else "")
        values = f"value{'s' * (len(known) != 1)}"
        problem = f"{value!r} is not among the {len(known)} {values} known, {some}"
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
            # Its last digits are lost already.
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


def _is_finite(value: Any) -> bool:
    """Tell whether this is a number that a float holds."""
    with contextlib.suppress(ValueError):
        check_number("", value, -math.inf)
        return True
    return False


class MissingColumn(TableError):
    """A table lacks a column that was named."""

    def __init__(self, message: str, column: str) -> None:
        super().__init__(message)
        self.column = column


class TextInNumbers(TableError):
    """A text in a column of numbers; the message names file, line and column of the first one.

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


class Selection(NamedTuple):
    """The caller's choice of columns."""

    target: str | Sequence[str] | None = None
    features: Sequence[str] | None = None
    exclude: Collection[str] = ()
    categories: Mapping[str, Sequence[Any]] = {}
    classes: Sequence[Any] | None = None
    missing: str | float = "error"

    @classmethod
    def make(
        cls,
        target: str | Sequence[str] | None,
        features: Sequence[str] | None,
        exclude: Collection[str] | None,
        categories: Mapping[str, Sequence[Any]] | None,
        classes: Sequence[Any] | None,
        missing: str | float,
    ) -> "Selection":
        """Take the choice as a caller gives it, with None for what may be empty."""
        if features is not None and not isinstance(features, str):
            features = list(features)
        if not isinstance(exclude, str):
            exclude = () if exclude is None else tuple(exclude)
        classes = None if classes is None else check_list("classes", classes, "class")
        return cls(target, features, exclude, categories or {}, classes, missing)

    def of(self, schema: "Schema") -> "Selection":
        """Return the columns of a schema, if no other choice of columns was given."""
        classes = None if self.classes is None else list(self.classes)
        if self._replace(classes=classes) != Selection():
            raise TypeError(
                "a schema brings its own target, features, exclude, missing, categories and "
                "classes: leave them out"
            )
        return Selection(schema.targets, schema.features)

    def resolve(
        self, columns: Sequence[str], name: str, rename: Remedy = RENAME
    ) -> tuple[list[str], list[str]]:
        """Return the feature columns and the target columns, in order.

        `rename` is what to do where two columns share a name.
        """
        missing: Any = self.missing
        way = isinstance(missing, str) and missing in ("error", "drop", "category")
        if not way and not _is_finite(missing):
            raise ValueError(
                f"missing must be 'error', 'drop', 'category' or a number, not {shown(missing)}"
            )
        target: Any = self.target
        categories: Any = self.categories
        if not isinstance(target, str | Sequence | None):
            raise TypeError(f"target is the name of a column, not {shown(target)}")
        targets = [self.target] if isinstance(self.target, str) else list(self.target or ())
        if not isinstance(categories, Mapping):
            raise TypeError(f"categories is a dict of lists of levels, not {shown(categories)}")
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
            raise TableError(f"{name}: two columns are called {shared[0]!r}", rename)
        for names in (
            targets,
            wanted,
            *self.categories.values(),
            () if self.classes is None else self.classes,
        ):
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
        What becomes of a category that no level names: an error that names its place, or its
        row is dropped and counted.
    exact : {"int64", "uint64"}, optional
        The dtype of a whole target some of whose values float64 can't hold.

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
        exact: str | None = None,
    ) -> None:
        self.features, self.targets, self.levels = features, targets, levels
        self.classes, self.integer = classes, integer
        self.missing, self.unknown, self.exact = missing, unknown, exact
        self.drops = missing in ("drop", "category") or unknown == "drop"
        self.dtype = check_dtype(dtype)
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
        return set(self._named)

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

    @property
    def needed(self) -> list[str]:
        """The columns without whose values a row is dropped."""
        return needed_columns(self.columns, self.missing, self.levels)

    def first_bad_value(self, frame: Any, row: int) -> BadValue:
        """Return the value for which a row of a frame is dropped."""
        values = frame.iloc[[row]]
        bad = next(filter(None, (self._bad(values[column]) for column in self.columns)))
        bad.row = row
        return bad

    def _gaps(self, frame: Any) -> Array:
        """Return which rows are to be dropped."""
        gaps = np.zeros(len(frame), dtype=bool)
        if self.needed:
            gaps |= frame[self.needed].isna().to_numpy().any(axis=1)
        if self.unknown == "drop":
            for column, levels in self.levels.items():
                gaps |= (codes_of(frame[column], levels) < 0) & frame[column].notna().to_numpy()
        return gaps

    def _bad(self, column: Any) -> BadValue | None:
        """Return the first value of a column that the schema does not take."""
        target = column.name in self.targets
        required = self.columns if self.missing == "error" else (*self.needed, *self.targets)
        dtype = self._whole_dtype if target and self.integer else self.dtype
        levels = self._named.get(column.name)
        bad = bad_value(column, levels, dtype, column.name in required, target)
        if bad is None and target and self.integer and self.classes is not None:
            unknown = np.flatnonzero(self._classes_of(column, self.classes) < 0)
            for row in unknown[:1].tolist():
                return BadValue.unknown(row, column.name, int(column.iloc[row]), self.classes)
        return bad

    def _refuse(self, frame: Any, suspects: Sequence[str]) -> None:
        """Refuse the first bad value of a frame, if one of these columns has any."""
        if any(self._bad(frame[column]) for column in suspects):
            raise_first(self._bad(frame[column]) for column in self.columns)

    def encode(self, frame: Any) -> Encoded:
        """Return x, y, and which rows were kept (None for all) of a frame of the table.

        The first missing, infinite or unknown value is a `BadValue`.
        """
        gaps = self._gaps(frame) if self.drops else None
        kept = None if gaps is None or not gaps.any() else ~gaps
        rows = frame if kept is None else frame[kept]
        try:
            return self._encode_features(rows), self._encode_target(rows), kept
        except BadValue as bad:
            # Counted among all rows, those dropped included.
            bad.row = bad.row if kept is None else int(np.flatnonzero(kept)[bad.row])
            raise

    def _encode_features(self, frame: Any) -> Array:
        suspects = []
        if not self.texts:
            # All columns at once: picking them one by one in pandas took three times as long.
            places = frame.columns.get_indexer(self.features)
            with np.errstate(over="ignore"):
                x = np.ascontiguousarray(frame.to_numpy()[:, places], dtype=self.dtype)
        else:
            x = np.zeros((len(frame), len(self.names)), dtype=self.dtype)
            at = 0
            for column in self.features:
                levels = self.levels.get(column)
                if levels is None:
                    with np.errstate(over="ignore"):
                        x[:, at] = frame[column].to_numpy()
                    at += 1
                    continue
                texts = frame[column]
                if self.missing == "category" and MISSING_LEVEL in levels:
                    texts = texts.fillna(MISSING_LEVEL)
                codes = codes_of(texts, levels)
                rows = np.flatnonzero(codes >= 0)
                x[rows, at + codes[rows]] = 1
                at += len(levels)
                if len(rows) < len(codes):
                    suspects.append(column)
        if not np.isfinite(x).all():
            finite = np.isfinite(x).all(axis=0)
            suspects += [name for name, good in zip(self.names, finite, strict=True) if not good]
        if suspects:
            self._refuse(frame, suspects)
            if not isinstance(self.missing, str):
                x[np.isnan(x)] = self.missing
        return x

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
        }

    def replace(self, **changes: Any) -> "Schema":
        """Return a schema that differs in some of the constructor's arguments.

        >>> schema = Schema(["a"], ["y"], {}, None, integer=True)
        >>> schema.replace(targets=[]).columns
        ['a']
        """
        return Schema(**{**self.state_dict(), **changes})


def _ends(text: str) -> list[str]:
    """Return what might be taken off the end of a text: its last mark, or all of them."""
    marks = text[len(text.rstrip(string.punctuation)) :]
    return [marks[-1], "".join(sorted(set(marks)))] if marks else []


def needed_columns(
    columns: Sequence[str], missing: str | float, levels: Mapping[str, Collection[str]]
) -> list[str]:
    """Return the columns without whose values a row is dropped, by the levels of columns of text.

    A missing category may have a level of its own.
    """
    if missing == "category":
        return [column for column in columns if MISSING_LEVEL not in levels.get(column, ())]
    return list(columns) if missing == "drop" else []


def bad_value(
    column: Any, levels: Sequence[str] | None, dtype: Any, required: bool, target: bool
) -> BadValue | None:
    """Return the first value of a column that is missing and required, unknown, or infinite.

    The one rule for it. A column with levels holds text; one with a dtype holds numbers that must
    be finite in it, and whole if it is one of whole numbers; one with neither holds any text.
    """
    missing = column.isna().to_numpy()
    bad = missing & required
    if levels is not None:
        bad |= (codes_of(column, levels) < 0) & ~missing
    elif dtype is not None:
        bad[~missing] = ~_fit(column.to_numpy()[~missing], dtype)
    if not bad.any():
        return None
    row = int(np.argmax(bad))
    if missing[row]:
        return BadValue.missing(row, column.name, target)
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
    """Raise the one in the first row, if there is any; of those in one row the first."""
    first = min(filter(None, found), key=lambda bad: bad.row, default=None)
    if first is not None:
        raise first


DROP = Remedy("drop such rows with {}", {"missing": "drop"})
FILL = Remedy("fill them in with missing=<a number>", shell="")


def _key(text: str, truths: bool) -> Any:
    """Return what the ways to write a level have in common, where they are truth values or not."""
    truth = read_truth(text) if truths else None
    return label_key(text if truth is None else truth)


def codes_of(texts: Any, levels: Sequence[str]) -> Array:
    """Return the number of each text among the levels, -1 for others and for missing ones.

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
        # Where two levels are one number, 1 and 1.0, each stands for its own text alone.
        counts = Counter(keys)
        places = {key: i for i, key in enumerate(keys) if counts[key] == 1}
        others = texts.iloc[unknown]
        found = {t: places.get(_key(t.strip(BLANKS), truths), -1) for t in others.unique()}
        codes = codes.copy()
        codes[unknown] = [found[text] for text in others]
    return codes
