"""Which columns of a table become which numbers, settled once for all blocks of it.

Numbers stay numbers, categories become one-hot columns, and dates and free text are refused.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from minigd.backend import Array
from minigd.errors import DataError

MOST_LEVELS = 100
"""A column with more different texts than this is free text, unless its levels are given."""

_DATE = re.compile(r"\d{4}[-/]?\d\d[-/]?\d\d([T ].*)?|\d{1,2}[./]\d{1,2}[./]\d{2,4}.*")


class BadValue(ValueError):
    """A value at a row of a frame that a schema does not take; the source adds file and line."""

    def __init__(self, row: int, column: str, problem: str) -> None:
        super().__init__(f"column {column!r}: {problem}")
        self.row = row
        self.column = column
        self.problem = problem


class TextInNumbers(DataError):
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

    def resolve(self, columns: Sequence[str], name: str) -> tuple[list[str], list[str]]:
        """Return the feature columns and the target columns, in order.

        Raises
        ------
        DataError
            If two columns share a name, or one that was named is not there.
        """
        twice = sorted({c for c in columns if list(columns).count(c) > 1})
        if twice:
            raise DataError(
                f"{name}: two columns are called {twice[0]!r}; name all columns with columns=[...]"
            )
        if isinstance(self.missing, str):
            number = self.missing in ("error", "drop")
        else:
            number = bool(np.isfinite(self.missing))
        if not number:
            raise ValueError(f"missing must be 'error', 'drop' or a number, not {self.missing!r}")
        targets = [self.target] if isinstance(self.target, str) else list(self.target or ())
        for what, names in (("features", self.features), ("exclude", self.exclude)):
            if isinstance(names, str):
                raise TypeError(f"{what} is a list of names, [{names!r}], not one name")
        wanted = list(columns) if self.features is None else list(self.features)
        for column in [*targets, *wanted, *self.exclude, *self.categories]:
            if column not in columns:
                raise DataError(
                    f"{name}: there is no column {column!r}; the columns are {', '.join(columns)}"
                )
        for names in (targets, wanted, *self.categories.values(), self.classes or ()):
            named = [str(one) for one in names]
            again = [one for one in named if named.count(one) > 1]
            if again:
                raise DataError(f"{name}: {again[0]!r} is named twice among {named}")
        features = [c for c in wanted if c not in targets and c not in self.exclude]
        if not features:
            raise DataError(f"{name}: no column is left to learn from")
        return features, targets


class Schema:
    """The columns in use and what each becomes.

    Attributes
    ----------
    features, targets : list of str
        Columns of the table.
    levels : dict of str to list of str
        For each categorical feature its levels, one output column each.
    classes : list of str or None
        For a target of text its classes: class k stands for ``classes[k]``.
    integer : bool
        Whether a single target of numbers holds integers only; y is then int64.
    names : list of str
        Of the columns of x: the feature's, or ``feature=level``.
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
    ) -> None:
        self.features, self.targets, self.levels = features, targets, levels
        self.classes, self.integer = classes, integer
        self.missing = missing
        self.dtype = np.dtype(dtype)
        self.names = [
            name
            for feature in features
            for name in (
                [f"{feature}={level}" for level in levels[feature]]
                if feature in levels
                else [feature]
            )
        ]

    @property
    def columns(self) -> list[str]:
        """The columns of the table that are read."""
        return [*self.features, *self.targets]

    @property
    def texts(self) -> set[str]:
        """The columns of the table that hold text."""
        return {*self.levels, *(self.targets if self.classes is not None else ())}

    def encode(self, frame: Any) -> tuple[Array, Array | None, Array | None]:
        """Return x, y, and which rows were kept (None for all) of a frame of the table.

        Raises
        ------
        BadValue
            At the first missing, infinite or unknown value.
        """
        kept = None
        gaps = frame[self.columns].isna().to_numpy() if self.missing == "drop" else None
        if gaps is not None and gaps.any():
            kept = ~gaps.any(axis=1)
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
        if not self.levels:
            # One call copies all columns at once.
            with np.errstate(over="ignore"):
                x = np.ascontiguousarray(frame[self.features].to_numpy(), dtype=self.dtype)
        else:
            x = np.zeros((len(frame), len(self.names)), dtype=self.dtype)
            at = 0
            for column in self.features:
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
            at = self.names.index(column)
            bad = np.flatnonzero(~np.isfinite(x[:, at]))
            values = frame[column].to_numpy()
            for row in bad:
                if not np.isnan(values[row]):
                    raise BadValue(int(row), column, f"{values[row]} does not fit {self.dtype}")
                if isinstance(self.missing, str):
                    raise BadValue(int(row), column, _MISSING)
                x[row, at] = self.missing

    def _encode_target(self, frame: Any) -> Array:
        if self.classes is not None:
            return self._codes(frame, self.targets[0], self.classes, "error").astype(np.int64)
        y = frame[self.targets].to_numpy()
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
            return whole
        return np.ascontiguousarray(y, dtype=self.dtype)

    def _codes(self, frame: Any, column: str, levels: list[str], missing: str | float) -> Array:
        import pandas as pd

        texts = frame[column]
        codes: Array = pd.Index(levels).get_indexer(pd.Index(texts.astype(object)))
        for row in np.flatnonzero(codes < 0):
            value = texts.iloc[int(row)]
            if not pd.isna(value):
                raise BadValue(
                    int(row),
                    column,
                    f"{value!r} is none of the {len(levels)} values known, "
                    f"{', '.join(map(repr, levels[:5]))}{' …' if len(levels) > 5 else ''}",
                )
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
        }


_MISSING = (
    "the value is missing; drop such rows with missing='drop', or fill them in with "
    "missing=<a number>"
)


class Settled(NamedTuple):
    """A schema, and what the first pass counted on the way."""

    schema: Schema
    rows: int
    dropped: int


def settle(
    selection: Selection,
    columns: Sequence[str],
    frames: Callable[[Collection[str]], Iterator[Any]],
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
    name : str
        Of the table, for errors.
    dtype : dtype
        Of x.
    texts : iterable of str
        Columns that hold text in the first frame.

    Raises
    ------
    DataError
        If a column holds dates or free text, or a column that was named is not there.
    BadValue
        If a value is missing and must not be.
    """
    features, targets = selection.resolve(columns, name)
    used = [*features, *targets]
    text = {c for c in {*texts, *selection.categories} if c in used}
    if selection.classes is not None:
        text |= set(targets)
    turned: dict[str, TextInNumbers] = {}
    while True:
        try:
            return _one_pass(selection, features, targets, text, turned, frames, name, dtype)
        except TextInNumbers as found:
            if found.column in text:
                raise
            text.add(found.column)
            turned[found.column] = found


def _one_pass(
    selection: Selection,
    features: list[str],
    targets: list[str],
    text: set[str],
    turned: Mapping[str, TextInNumbers],
    frames: Callable[[Collection[str]], Iterator[Any]],
    name: str,
    dtype: Any,
) -> Settled:
    used = [*features, *targets]
    given = {c: [str(v) for v in levels] for c, levels in selection.categories.items()}
    if selection.classes is not None and targets:
        given[targets[0]] = [str(v) for v in selection.classes]
    found: dict[str, set[str]] = {c: set() for c in sorted(text)}
    integer = len(targets) == 1 and not text & set(targets)
    rows = dropped = 0
    for frame in frames(text):
        gaps = frame[used].isna()
        if selection.missing == "drop":
            frame = frame[~gaps.any(axis=1).to_numpy()]
        dropped += len(gaps) - len(frame)
        rows += len(frame)
        for column in sorted(text - set(given)):
            found[column] |= set(frame[column].dropna().unique())
            if column in turned and len(found[column]) > MOST_LEVELS:
                raise turned[column]
            _refuse_text(found[column], column, column in targets, name)
        if integer:
            values = frame[targets[0]].to_numpy()
            # Beyond 2⁵³ not every whole number is a float.
            integer = bool(((values == np.rint(values)) & (np.abs(values) <= 2.0**53)).all())
    levels = {c: given.get(c) or sorted(found[c]) for c in sorted(text)}
    classes = levels.pop(targets[0]) if targets and targets[0] in text else None
    if len(targets) > 1 and text & set(targets):
        raise DataError(f"{name}: several targets must be numbers, and one of them is text")
    schema = Schema(features, targets, levels, classes, integer, selection.missing, dtype)
    return Settled(schema, rows, dropped)


def _refuse_text(values: set[str], column: str, target: bool, name: str) -> None:
    advice = f"leave it out with exclude=[{column!r}]" if not target else "choose another target"
    sample = next(iter(sorted(values)), "")
    if len(values) > MOST_LEVELS:
        raise DataError(
            f"{name}: column {column!r} is free text, with more than {MOST_LEVELS} different "
            f"values such as {sample!r}: {advice}, or give its levels with "
            f"{'classes' if target else 'categories'}=..."
        )
    if values and all(_DATE.fullmatch(value) for value in values):
        raise DataError(
            f"{name}: column {column!r} holds dates such as {sample!r}: {advice}, or turn them "
            "into numbers first"
        )
