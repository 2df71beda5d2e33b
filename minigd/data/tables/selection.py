"""The caller's options for the columns of a table: which are used, and what they become."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from minigd.data.tables.missing import Missing, check_missing
from minigd.data.tables.remedy import Remedy, TableError
from minigd.data.tables.schema import RENAME, MissingColumn, Schema
from minigd.errors import DataError, check_integer, check_list, did_you_mean, shown


class Selection(NamedTuple):
    """The caller's choice of columns."""

    target: str | Sequence[str] | None = None
    features: Sequence[str] | None = None
    exclude: Collection[str] = ()
    categories: Mapping[str, Sequence[Any] | None] = {}
    classes: Sequence[Any] | None = None
    missing: Missing = "error"
    min_count: int | None = None
    hashed: Mapping[str, int] = {}
    dates: Mapping[str, str | None] = {}
    logs: Collection[str] = ()
    leave_out: bool = False
    """Whether to leave out useless columns instead of refusing them."""

    @classmethod
    def make(
        cls,
        target: str | Sequence[str] | None,
        features: Sequence[str] | None,
        exclude: Collection[str] | None,
        categories: Mapping[str, Sequence[Any] | None] | None,
        classes: Sequence[Any] | None,
        missing: Missing,
        min_count: int | None,
        hashed: Mapping[str, int] | None,
        dates: Mapping[str, str] | None,
        logs: Collection[str],
        leave_out: bool,
        schema: Schema | None,
    ) -> "Selection":
        """Store the caller's options; None means an empty one."""
        if features is not None and not isinstance(features, str):
            features = list(features)
        if not isinstance(exclude, str):
            exclude = () if exclude is None else tuple(exclude)
        classes = None if classes is None else check_list("classes", classes, "class")
        chosen = cls(
            target, features, exclude, categories or {}, classes, missing, min_count, hashed or {},
            dates or {}, logs, leave_out,
        )  # fmt: skip
        return chosen if schema is None else chosen.of(schema)

    def of(self, schema: "Schema") -> "Selection":
        """Return the columns of a schema, if no other choice of columns was given."""
        classes = None if self.classes is None else list(self.classes)
        if self._replace(classes=classes) != Selection():
            raise TypeError(
                "a schema brings its own target, features, exclude, missing, categories, classes, "
                "min_count, hashed, dates and logs: leave them out"
            )
        return Selection(schema.targets, schema.features)

    def resolve(
        self, columns: Sequence[str], name: str, rename: Remedy = RENAME
    ) -> tuple[list[str], list[str]]:
        """Return the feature columns and the target columns, in order.

        `rename` is the remedy if two columns share a name.
        """
        check_missing(self.missing)
        target: Any = self.target
        categories: Any = self.categories
        if not isinstance(target, str | Sequence | None):
            raise TypeError(f"target must be the name of a column, not {shown(target)}")
        targets = [self.target] if isinstance(self.target, str) else list(self.target or ())
        if not isinstance(categories, Mapping):
            raise TypeError(
                f"categories must be a dict of lists of levels, not {shown(categories)}"
            )
        if self.min_count is not None:
            check_integer("min_count", self.min_count)
        for column, width in self.hashed.items():
            check_integer(f"the width of the hashed column {column!r}", width)
        for what, names in (
            ("features", self.features),
            ("exclude", self.exclude),
            ("logs", self.logs),
        ):
            if isinstance(names, str):
                raise TypeError(f"{what} must be a list of names, [{names!r}], not one name")
        wanted = list(columns) if self.features is None else list(self.features)
        there = set(columns)
        policies = self.missing if isinstance(self.missing, Mapping) else {}
        named = [*targets, *wanted, *self.exclude, *self.categories, *self.hashed, *self.dates]
        for column in [*named, *self.logs, *(c for c in policies if c != "*")]:
            if column not in there:
                raise missing_column(column, columns, name, column in targets)
        shared = sorted(c for c, count in Counter(columns).items() if count > 1)
        if shared:
            raise TableError(f"{name}: two columns are called {shared[0]!r}", rename)
        for names in (
            targets,
            wanted,
            *(levels for levels in self.categories.values() if levels is not None),
            () if self.classes is None else self.classes,
        ):
            texts = [str(one) for one in names]
            again = [one for one, count in Counter(texts).items() if count > 1]
            if again:
                raise DataError(f"{name}: {again[0]!r} is named twice among {texts}")
        for column, levels in self.categories.items():
            if levels is None:
                continue
            if isinstance(levels, str) or not len(levels):
                raise ValueError(
                    f"{name}: categories[{column!r}] must be a list of levels, not {levels!r}"
                )
        self._refuse_targets(targets, name)
        left_out = {*targets, *self.exclude}
        features = [c for c in wanted if c not in left_out]
        if not features:
            raise DataError(f"{name}: no column is left to learn from")
        return features, targets

    def _refuse_targets(self, targets: Collection[str], name: str) -> None:
        """Refuse a target among the columns that become something else."""
        for what in ("hashed", "dates", "logs"):
            given = getattr(self, what)
            for column in (c for c in targets if c in given):
                own = {column: given[column]} if isinstance(given, Mapping) else [column]
                problem = f"{name}: {column!r} is a target, and {what} is for features"
                raise TableError(problem, Remedy("leave out {}", {what: own}))


def missing_column(
    column: str, columns: Sequence[str], name: str, is_target: bool = False
) -> MissingColumn:
    """Return the error for a name that no column of a table has."""
    meant = did_you_mean(column, columns)
    return MissingColumn(
        f"{name}: there is no column {column!r}; the columns are {', '.join(columns)}{meant}",
        column,
        is_target,
    )


def with_column(used: Sequence[str], column: str, columns: Sequence[str], name: str) -> list[str]:
    """Return the columns in use and one more, in the order of the table."""
    if column not in columns:
        raise missing_column(column, columns, name)
    return [c for c in columns if c in {*used, column}]
