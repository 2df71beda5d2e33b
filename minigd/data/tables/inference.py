"""The first pass over a table: the type of each column, the number of rows, and problems.

Only kept rows decide the type of a column. One error names all columns that can't be used.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import compress
from typing import Any, Protocol

import numpy as np

from minigd.backends.frames import MOST_EXACT, are_whole, as_whole, whole_dtype
from minigd.data.tables.column_kinds import FEWEST_IDS, NumberColumns, TextColumns
from minigd.data.tables.column_problems import (
    EXPAND,
    Problem,
    may_be_missing,
    refuse_columns,
)
from minigd.data.tables.dates import EPOCH
from minigd.data.tables.first_pass import FirstPass
from minigd.data.tables.grammar import PLAIN, Notation
from minigd.data.tables.missing import (
    MISSING_LEVEL,
    needed_columns,
    policy_of,
    required_columns,
)
from minigd.data.tables.places import MissingWords, Place, describe, describe_dropped
from minigd.data.tables.precision import WIDER_MODEL, Rounding, extreme
from minigd.data.tables.remedy import Remedy, TableError, TableWarning
from minigd.data.tables.schema import (
    OTHER_LEVEL,
    BadValue,
    ColumnKinds,
    Schema,
    TextInNumbers,
    bad_value,
    raise_first,
)
from minigd.data.tables.selection import Selection
from minigd.errors import DataError
from minigd.progress import warn
from minigd.types import Array

WIDER_SOURCE = Remedy("give the source and the model dtype='float64'", shell="")

BLANK = "has no value in any row"


class Table(Place, Protocol):
    """What the first pass needs from a source; the place is that of the current frame."""

    is_text: bool
    """Whether cells are text that the grammar reads; the source then has the option `na`."""

    def frames(self, kinds: ColumnKinds) -> Iterator[Any]:
        """Return the table's frames; texts among numbers are `TextInNumbers`."""

    def read_into(self, seen: Any) -> None:
        """Pass all of them to `seen.add`."""


def zero_categories(schema: Schema) -> list[str]:
    """Return the categories for which a missing value is 0 in all columns of x."""
    numbers = (int, float)
    return [c for c in schema.levels if isinstance(policy_of(schema.missing, c), numbers)]


def infer_schema(
    table: Table,
    selection: Selection,
    columns: Sequence[str],
    name: str,
    dtype: Any,
    texts: Iterable[str],
    unusable: Mapping[str, str] = {},
    notation: Notation = PLAIN,
) -> FirstPass:
    """Read a table once and find what each column becomes.

    `texts` are the columns that hold text in the first frame. `unusable` describes the columns in
    use with values that no schema accepts, such as lists. `notation` is how texts write numbers.
    """
    features, targets = selection.resolve(columns, name)
    refused = {c: Problem(c, what, EXPAND) for c, what in unusable.items()}
    epochs = {c for c, date in selection.dates.items() if date == EPOCH}
    named = {*selection.categories, *selection.hashed, *selection.dates}
    text = ({*texts, *named} - epochs) & {*features, *targets}
    if selection.classes is not None:
        text |= set(targets)
    whole: set[str] = set()
    first = next(iter(columns), None)
    while True:
        seen = _Seen(
            table, selection, features, targets, text, whole, refused, name, dtype, notation, first
        )
        try:
            table.read_into(seen)
            if not seen.blank <= refused.keys():
                # Without it other rows count, and problems may be found in other columns.
                refused.update({c: Problem(c, BLANK) for c in seen.blank})
                continue
            return seen.result()
        except TextInNumbers as error:
            new = error.columns - text
            if not new:
                raise
            text |= new
        except _BeyondFloat:
            whole |= set(targets)
        except _Days as days:
            text |= set(days.columns)


def _picked(frame: Any, columns: list[str]) -> Any:
    """Return some columns of a frame; the frame itself if these are all columns in its order."""
    # In pandas, selecting columns can take as long as the work on them.
    return frame if frame.columns.tolist() == columns else frame[columns]


class _BeyondFloat(Exception):
    """A target of whole numbers has a value that float64 can't hold."""


class _Days(Exception):
    """Columns of numbers are dates such as 20140502; they must be read as text."""

    def __init__(self, columns: Collection[str]) -> None:
        self.columns = columns


class _Seen:
    """What a pass over a table has found so far."""

    def __init__(
        self,
        table: Table,
        selection: Selection,
        features: list[str],
        targets: list[str],
        text: Collection[str],
        whole: Collection[str],
        refused: Mapping[str, Problem],
        name: str,
        dtype: Any,
        notation: Notation,
        first: str | None,
    ) -> None:
        text = set(text) - refused.keys()
        self.table, self.selection = table, selection
        self.features, self.targets = features, targets
        self.text, self.refused, self.name, self.notation = text, refused, name, notation
        self.used = [c for c in (*features, *targets) if c not in refused]
        self.numbers = [c for c in self.used if c not in text]
        self.required = {*required_columns(self.used, selection.missing, targets, ())}
        """The columns in which a missing value is an error."""
        self.rounding = Rounding(dtype)
        self.long: dict[str, Rounding] = {}
        """The same of features of whole numbers beyond 2⁵³."""
        self.given = {
            c: [str(v) for v in levels]
            for c, levels in selection.categories.items()
            if levels is not None
        }
        if selection.classes is not None and targets:
            self.given[targets[0]] = [str(v) for v in selection.classes]
        self.kinds = ColumnKinds(text, set(whole) - text, self.given)
        self.texts = TextColumns(
            selection, features, targets, text, self.given, name, table.is_text, notation, first
        )
        # A column that was requested by name is used as it is.
        unasked = self.numbers if selection.features is None else []
        self.unasked = NumberColumns([c for c in unasked if c not in targets])
        self.needed = set(self._needed())
        self.gaps: Counter[str] = Counter()
        self.empty = set(self.used)
        self.integer = len(targets) == 1 and targets[0] in self.numbers
        self.beyond: DataError | None = None
        """The first value of a target that may be whole, and that the dtype does not hold."""
        self.digits = False
        """Whether the target has fractions, and digits that float64 would lose."""
        self.low, self.high = 0, 0
        self.whole = [Rounding("float32"), Rounding("float64")]
        self.rows = self.dropped = 0
        self.first_dropped = ""
        self.dropped_by: Counter[str] = Counter()
        self.missing: tuple[str, DataError] | None = None
        """A column whose first value is missing, and the error to raise if it has a value later."""
        self.words = MissingWords(table)

    # One frame -------------------------------------------------------------------------------

    def add(self, frame: Any) -> None:
        """Record a frame."""
        if not self._add_complete(frame):
            self._add_any(frame)

    def _add_complete(self, frame: Any) -> bool:
        """Record a frame, if it has only numbers that the dtype holds.

        The smallest and the largest number of each column decide that.
        """
        others = [self.text, self.kinds.whole, self.long, self.texts.dates, self.missing]
        floats = all(isinstance(d, np.dtype) and d.kind == "f" for d in set(frame.dtypes))
        if any(others) or not floats or not len(frame) or not self.numbers:
            return False
        numbers = _picked(frame, self.numbers).to_numpy(np.float64)
        low, high = extreme(np.minimum, numbers), extreme(np.maximum, numbers)  # NaN for a gap
        most = np.maximum(-low, high)
        with np.errstate(over="ignore"):
            held = np.isfinite(most.astype(self.rounding.dtype)) & (most < MOST_EXACT)
        if not held.all():
            return False
        self.empty = set()
        self.rows += len(frame)
        self.unasked.note(frame)
        self.unasked.add(frame)
        if self.integer or self.digits:
            self._add_whole(frame[self.targets[0]])
        self.rounding.add_floats(numbers, low, high)
        return True

    def _add_any(self, frame: Any) -> None:
        """Record any other frame."""
        there = _picked(frame, self.used).notna().to_numpy()
        self.unasked.note(frame)
        self.empty -= {c for c, any_ in zip(self.used, there.any(axis=0), strict=True) if any_}
        if self.missing is not None:
            column, error = self.missing
            if column not in self.empty:
                raise error
            return
        counts = self.texts.count(frame)
        self.texts.note(frame, counts, self.table)
        gaps = np.zeros(len(frame), dtype=bool)
        if self.selection.missing != "error":
            needed = [place for place, c in enumerate(self.used) if c in self.needed]
            gaps = ~there[:, needed].all(axis=1)
            self._note_dropped(gaps, there, needed)
            self.words.add(frame, self.text)
        kept = np.flatnonzero(~gaps)
        counted = len(kept) - there[kept].sum(axis=0, dtype=np.int64)
        missing = dict(zip(self.used, counted.tolist(), strict=True))
        self.gaps.update(missing)
        if len(kept) < len(frame):
            frame = frame[~gaps]
            counts = self.texts.count(frame)
        self.rows += len(frame)
        self.unasked.add(frame)
        numbers = _picked(frame, self.numbers).to_numpy(np.float64)
        try:
            self._refuse_values(frame, numbers, missing)
        except BadValue as bad:
            bad.row = int(kept[bad.row])
            error = describe(self.table, bad)
            if bad.column not in self.empty:
                raise error from None
            self.missing = bad.column, error
            return
        if self.integer and self.beyond is None:
            bad_target = self._bad(frame[self.targets[0]], self.rounding.dtype)
            if bad_target is not None:
                bad_target.row = int(kept[bad_target.row])
                self.beyond = describe(self.table, bad_target)
        self.texts.add(frame, counts)
        if self.integer or self.digits:
            self._add_whole(frame[self.targets[0]])
        if self.numbers:
            self._add_long(frame, numbers)
            self.rounding.add(numbers)

    def _add_long(self, frame: Any, values: Array) -> None:
        """Record features of whole numbers exactly, if float64 may not hold them."""
        most = np.fmax.reduce(abs(values), initial=0.0)
        for j in np.flatnonzero(most >= MOST_EXACT).tolist():
            column, before = self.numbers[j], self.rounding
            known = column in self.long or column in self.targets
            if not known and frame[column].dtype.kind != "f":
                self.long[column] = Rounding(before.dtype)
                seen = [] if np.ndim(before.low) == 0 else [before.low[j], before.high[j]]
                seen = [[int(value)] for value in seen if np.isfinite(value)]
                self.long[column].add(np.array(seen, dtype=object))
        for column, rounding in self.long.items():
            rounding.add(frame[column].dropna().to_numpy().reshape(-1, 1))

    def _refuse_values(self, frame: Any, numbers: Array, gaps: Mapping[str, int]) -> None:
        """Refuse the first value that no schema of these columns accepts."""
        with np.errstate(over="ignore"):
            values = numbers.astype(self.rounding.dtype)
        optional = np.array([c not in self.required for c in self.numbers], dtype=bool)
        fine = (np.isfinite(values) | (np.isnan(values) & optional)).all(axis=0)
        # Checking one column at a time is slow in pandas, and most columns have no bad value.
        good = set(compress(self.numbers, fine))
        good |= {c for c in self.text - self.given.keys() if not gaps[c] or c not in self.required}
        wide = np.dtype(np.float64)  # for a target that may be whole
        raise_first(
            self._bad(frame[c], wide if self.integer and c in self.targets else self.rounding.dtype)
            for c in self.used
            if c not in good
        )

    def _bad(self, column: Any, dtype: np.dtype[Any]) -> BadValue | None:
        name = column.name
        target = name in self.targets
        is_text = name in self.text
        levels = self.given.get(name) if is_text else None
        of_numbers = None if is_text else dtype
        bad = bad_value(column, levels, of_numbers, name in self.required, target)
        if bad is not None and not is_text and self.table.is_text:
            value = float(column.iloc[bad.row])
            bad.remedies += tuple(may_be_missing([str(value)]) if np.isinf(value) else ())
        return bad

    def _needed(self) -> list[str]:
        """Return the columns whose missing values drop a row."""
        unlimited = (*self.texts.levels, *self.selection.hashed)
        levels = {**self.given, **{c: [MISSING_LEVEL] for c in unlimited}}
        features = {c: known for c, known in levels.items() if c not in self.targets}
        return needed_columns(self.used, self.selection.missing, features)

    def _note_dropped(self, gaps: Array, there: Array, needed: list[int]) -> None:
        self.dropped += int(gaps.sum())
        if gaps.any():
            first = (~there[gaps][:, needed]).argmax(axis=1)
            self.dropped_by.update(self.used[needed[k]] for k in first.tolist())
        if gaps.any() and not self.first_dropped:
            row = int(np.argmax(gaps))
            column = self.used[next(i for i in needed if not there[row, i])]
            bad = BadValue.missing(row, column, target=False)
            self.first_dropped = describe_dropped(self.table, bad)

    def _add_whole(self, column: Any) -> None:
        """Record a target that has had only whole numbers so far."""
        values = as_whole(column.to_numpy())
        if not len(values):
            return
        is_whole = values.dtype.kind in "iu" or bool(are_whole(values).all())
        if values.dtype.kind == "f" and (values == np.rint(values)).all():
            # A source of numbers has no more digits than these.
            if self.table.is_text and not self.kinds.whole:
                raise _BeyondFloat
        elif values.dtype.kind == "O":
            self.digits = self.digits or (self.integer and not is_whole)
        self.integer &= is_whole
        if self.integer:
            self.low = min(self.low, int(values.min()))
            self.high = max(self.high, int(values.max()))
        if self.integer or self.digits:
            for rounding in self.whole:
                rounding.add(values.reshape(-1, 1))

    # The whole table -------------------------------------------------------------------------

    @property
    def blank(self) -> set[str]:
        """The columns in use that have no value in any row."""
        return self.empty if self.rows + self.dropped else set()

    def result(self) -> FirstPass:
        """Return the result of the pass, or refuse the columns that can't be used."""
        if self.unasked.days:
            raise _Days(self.unasked.days)
        left_out = self._useless()
        features = [c for c in self.features if c not in left_out]
        columns = [*features, *self.targets]
        problems = [self.refused.get(c) or self.texts.problem(c) for c in columns]
        found = [p for p in problems if p is not None]
        refuse_columns(found, self.targets, self.name, self.notation)
        if not features:
            raise DataError(f"{self.name}: no column is left to learn from")
        if len(self.targets) > 1 and set(self.text) & set(self.targets):
            raise DataError(
                f"{self.name}: several targets must be numbers, but one of them is text"
            )
        whole = self.integer or self.digits
        schema = self._schema(features)
        if self.beyond is not None and not self.integer:
            raise self.beyond
        lost = self._check_rounding(whole)
        self.words.warn(self.name, self.needed, zero_categories(schema))
        words, gaps = dict(self.words.counts), {c: self.gaps[c] for c in features if self.gaps[c]}
        return FirstPass(
            schema,
            self.rows,
            self.dropped,
            self.first_dropped,
            lost,
            words,
            gaps,
            {c: self.texts.rare_in(c) for c in schema.others},
            left_out,
            dropped_by=dict(self.dropped_by),
            suspicions=self.texts.suspicions(self.used),
        )

    def _schema(self, features: list[str]) -> Schema:
        """Return what these features, and the targets, become."""
        chosen, targets, texts = self.selection, self.targets, self.texts
        exact = None
        if self.integer and max(-self.low, self.high) >= MOST_EXACT:
            exact = whole_dtype(self.low, self.high)
            self.integer = exact is not None
        dates = {c: d for c in features if (d := texts.date_of(c)) is not None}
        hashed = {c: width for c, width in chosen.hashed.items() if c in features}
        named = sorted(set(self.text) & {*features, *targets})
        levels = {
            c: texts.levels_of(c, self.gaps[c] > 0)
            for c in named
            if c not in dates and c not in hashed
        }
        classes = levels.pop(targets[0]) if targets and targets[0] in self.text else None
        categories = {*levels, *hashed}
        numbers = [c for c in features if c not in categories]
        flagged = [c for c in numbers if policy_of(chosen.missing, c) == "flag"]
        return Schema(
            features,
            targets,
            levels,
            classes,
            self.integer,
            chosen.missing,
            self.rounding.dtype,
            exact=exact,
            others=[c for c in levels if texts.groups(c) and OTHER_LEVEL in levels[c]],
            hashed=hashed,
            dates=dates,
            logs=[c for c in numbers if c in chosen.logs and c not in dates],
            flags=[c for c in flagged if self.gaps[c]],
        )

    def _useless(self) -> dict[str, str]:
        """Return the useless features to leave out, and why."""
        chosen = self.selection
        if not chosen.leave_out or chosen.features is not None:
            return {}
        policies = chosen.missing if isinstance(chosen.missing, Mapping) else {}
        wanted = {*chosen.categories, *chosen.hashed, *chosen.dates, *chosen.logs, *policies}
        found = {c: BLANK for c, problem in self.refused.items() if problem.what == BLANK}
        if self.rows + self.dropped >= FEWEST_IDS:
            found |= dict.fromkeys(self.unasked.counting, "counts the rows")
        rare = {c: self.texts.all_rare(c) for c in self.texts.levels}
        found |= {c: why for c, why in rare.items() if why}
        ids = {c: self.texts.id_of(c) for c in self.texts.levels}
        found |= {c: f"is an id or free text, such as {t!r}" for c, t in ids.items() if t}
        useless = {c: found[c] for c in self.features if c in found and c not in wanted}
        # If nothing else is left, the usual advice about each column is more helpful.
        return useless if len(useless) < len(self.features) else {}

    def _check_rounding(self, whole: bool) -> dict[str, str]:
        """Refuse a target, and warn about columns, whose differences the dtype would lose.

        A target of whole numbers keeps all of its digits if they fit 64 bits. It loses digits only
        if it is trained on as a quantity; the result says what each dtype would lose.
        """
        for j in np.flatnonzero(self.rounding.lost).tolist():
            column = self.numbers[j]
            problem = self.rounding.problem(f"{self.name}: column {column!r}", j, WIDER_SOURCE)
            if column not in (*self.targets, *self.long):
                warn(TableWarning(*problem), stacklevel=5)
            elif column in self.targets and not self.integer:
                raise TableError(*problem)
        for column, rounding in self.long.items():
            if rounding.lost[0]:
                problem = rounding.problem(f"{self.name}: column {column!r}", 0, WIDER_SOURCE)
                warn(TableWarning(*problem), stacklevel=5)
        if not whole or not self.rows:
            return {}
        what = f"{self.name}: column {self.targets[0]!r}"
        lost = {str(r.dtype): r for r in self.whole if r.lost[0]}
        dtype = str(self.rounding.dtype)
        if not self.integer and dtype in lost:
            raise TableError(*lost[dtype].problem(what, 0, WIDER_SOURCE))
        return {d: str(TableError(*r.problem(what, 0, WIDER_MODEL))) for d, r in lost.items()}
