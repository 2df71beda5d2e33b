"""What the columns of a table become: numbers stay numbers, categories become one-hot columns.

A schema is the same for all blocks of a table, and for other tables with the same columns.
`inference.py` finds the schema of a table in a first pass.
"""

import string
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from numbers import Real
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from minigd.data.labels import label_key, read_truth
from minigd.data.tables.grammar import BLANKS, MOST_EXACT
from minigd.data.tables.remedy import Remedy, TableError
from minigd.errors import DataError
from minigd.types import Array

MISSING_LEVEL = "missing"
"""The level of the rows in which a category is missing, where ``missing="category"``."""


class BadValue(ValueError):
    """A value at a row of a frame that a schema does not take; the source adds file and line."""

    def __init__(self, row: int, column: str, problem: str, *remedies: Remedy) -> None:
        super().__init__(f"column {column!r}: {problem}")
        self.row, self.column = row, column
        self.problem, self.remedies = problem, remedies

    @classmethod
    def missing(cls, row: int, column: str, target: bool) -> "BadValue":
        """Return the error for a missing value; no number can stand for a target."""
        problem = "the value of the target is missing" if target else MISSING
        return cls(row, column, problem, *([DROP] if target else [DROP, FILL]))

    @classmethod
    def unknown(cls, row: int, column: str, value: Any, known: list[str]) -> "BadValue":
        """Return the error for a text that is not among those known."""
        return cls(row, column, *_not_known(value, known))

    @classmethod
    def beyond(cls, row: int, column: str, value: Any, dtype: Any) -> "BadValue":
        """Return the error for a number that is infinite, or is in the dtype."""
        what = "is not finite" if np.isinf(float(value)) else f"does not fit {dtype}"
        return cls(row, column, f"{value} {what}")


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
        classes = None if self.classes is None else list(self.classes)
        if self._replace(classes=classes) != Selection():
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
        What becomes of a category that is none of the levels: an error that names its place, or its
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

    @property
    def kinds(self) -> ColumnKinds:
        """How a source reads the columns."""
        named: dict[str, Collection[str]] = dict(self.levels)
        if self.classes and not self.integer:
            named[self.targets[0]] = self.classes
        whole = self.targets if self.integer and self.exact is not None else ()
        return ColumnKinds(self.texts, set(whole), named)

    def first_bad_value(self, frame: Any, row: int) -> BadValue:
        """Return the value for which a row of a frame is dropped."""
        strict = self.replace()
        strict.drops = False
        try:
            strict.encode(frame.iloc[[row]])
        except BadValue as bad:
            bad.row = row
            return bad
        raise AssertionError("the row is complete")

    @property
    def needed(self) -> list[str]:
        """The columns without whose values a row is dropped."""
        own = {c for c in self.levels if MISSING_LEVEL in self._own_levels(c)}
        return needed_columns(self.columns, self.missing, own)

    def _gaps(self, frame: Any) -> Array:
        """Return which rows are to be dropped."""
        gaps = np.zeros(len(frame), dtype=bool)
        if self.needed:
            gaps |= frame[self.needed].isna().to_numpy().any(axis=1)
        if self.unknown == "drop":
            for column, levels in self.levels.items():
                gaps |= (codes_of(frame[column], levels) < 0) & frame[column].notna().to_numpy()
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
            bad.row = bad.row if kept is None else int(np.flatnonzero(kept)[bad.row])
            raise
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
            self._fill_missing(frame, x)
        return x

    def _fill_missing(self, frame: Any, x: Array) -> None:
        """Fill missing numbers in x, or refuse the first value that is not finite."""
        for column in self.features:
            if column in self.levels:
                continue
            at = self._places[column]
            bad = np.flatnonzero(~np.isfinite(x[:, at]))
            values = frame[column].to_numpy()
            for row in bad:
                if not np.isnan(values[row]):
                    raise BadValue.beyond(int(row), column, values[row], self.dtype)
                if isinstance(self.missing, str):
                    raise BadValue.missing(int(row), column, target=False)
                x[row, at] = self.missing

    def _encode_target(self, frame: Any) -> Array:
        first = self.targets[0]
        if self.classes is not None and not self.integer:
            return self._codes(frame, first, self.classes, "error").astype(np.int64)
        if self.integer:
            whole = self._whole(frame[first])
            return whole if self.classes is None else self._classes_of(whole, self.classes)
        y = np.column_stack([frame[target].to_numpy(np.float64) for target in self.targets])
        with np.errstate(over="ignore"):
            bad = np.argwhere(~np.isfinite(y.astype(self.dtype)))
        if len(bad):
            row, column = int(bad[0][0]), int(bad[0][1])
            self._refuse_target(y[row, column], row, self.targets[column])
        if len(self.targets) == 1:
            y = y[:, 0]
        return np.ascontiguousarray(y, dtype=self.dtype)

    def _refuse_target(self, value: Any, row: int, column: str) -> None:
        """Refuse a value of a target that is missing or infinite."""
        if value is None or np.isnan(value):
            raise BadValue.missing(row, column, target=True)
        raise BadValue.beyond(row, column, value, self.dtype)

    def _whole(self, column: Any) -> Array:
        """Return a column of whole numbers with all their digits."""
        values, name = column.to_numpy(), self.targets[0]
        dtype = np.dtype(self.exact or "int64")
        if values.dtype.kind in "fO":
            bad = ~np.isfinite(values.astype(np.float64))
            if bad.any():
                self._refuse_target(values[int(np.argmax(bad))], int(np.argmax(bad)), name)
        limits = np.iinfo(dtype)
        fits = (values % 1 == 0) & (values >= limits.min) & (values <= limits.max)
        if values.dtype.kind == "f":
            fits &= abs(values) < MOST_EXACT
        if not fits.all():
            row = int(np.argmin(fits))
            problem = f"{values[row]} does not fit {dtype}"
            if values[row] % 1:
                problem = f"{values[row]} is not one of the whole numbers"
            elif values.dtype.kind == "f":  # whose last digits are lost already
                problem = "the number is beyond 2**53, and the whole numbers of the schema are not"
            raise BadValue(row, name, problem)
        return values.astype(dtype)

    def _classes_of(self, whole: Array, classes: list[str]) -> Array:
        import pandas as pd

        codes: Array = pd.Index([int(c) for c in classes]).get_indexer(whole)
        unknown = np.flatnonzero(codes < 0)
        if len(unknown):
            row = int(unknown[0])
            raise BadValue.unknown(row, self.targets[0], int(whole[row]), classes)
        return codes.astype(np.int64)

    def _codes(self, frame: Any, column: str, levels: list[str], missing: str | float) -> Array:
        texts = frame[column]
        if MISSING_LEVEL in self._own_levels(column):
            texts = texts.fillna(MISSING_LEVEL)
        codes = codes_of(texts, levels)
        for row in np.flatnonzero(codes < 0):
            value = texts.iloc[int(row)]
            if texts.notna().iloc[int(row)]:
                raise BadValue.unknown(int(row), column, value, levels)
            if isinstance(missing, str):
                raise BadValue.missing(int(row), column, target=column in self.targets)
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
            **({} if self.exact is None else {"exact": self.exact}),
        }

    def replace(self, **changes: Any) -> "Schema":
        """Return a schema that differs in some of the constructor's arguments.

        >>> schema = Schema(["a"], ["y"], {}, None, integer=True)
        >>> schema.replace(targets=[]).columns
        ['a']
        """
        return Schema(**{**self.state_dict(), **changes})


def _not_known(value: Any, known: list[str]) -> tuple[Any, ...]:
    """Return the problem with a text that is not among those known, and its remedies."""
    some = ", ".join(map(repr, known[:5])) + (" …" if len(known) > 5 else "")
    message = (
        f"{value!r} is not among the {len(known)} value{'s' * (len(known) != 1)} known, {some}"
    )
    text = str(value)
    end = next((e for e in _ends(text) if text.rstrip(e) in known), None)
    if end is None:
        return (message,)
    return message, Remedy(f"if {end!r} at its end doesn't belong to it, pass {{}}", {"strip": end})


def _ends(text: str) -> list[str]:
    """Return what might be taken off the end of a text: its last mark, or all of them."""
    marks = text[len(text.rstrip(string.punctuation)) :]
    return [marks[-1], "".join(sorted(set(marks)))] if marks else []


def needed_columns(columns: Sequence[str], missing: str | float, own: Collection[str]) -> list[str]:
    """Return the columns without whose values a row is dropped.

    `own` are those in which a missing value has a level of its own, if it may have one.
    """
    if missing == "category":
        return [column for column in columns if column not in own]
    return list(columns) if missing == "drop" else []


MISSING = "the value is missing"
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
