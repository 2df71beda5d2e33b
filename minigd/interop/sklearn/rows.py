"""From X, y and weights as callers pass them to batches, through scikit-learn's checks."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.model_selection import train_test_split

from minigd.backends.base import get_backend, numbers, refuse_mask
from minigd.backends.frames import check_rows_alike, check_source, plain
from minigd.data.batches import Batches, as_batches
from minigd.data.sources.base import Source
from minigd.data.sources.given import BUFFER
from minigd.errors import shown
from minigd.interop.sklearn.targets import (
    first_rows,
    from_frame,
    known,
    labels_of,
    with_source,
)
from minigd.types import Array

try:
    from sklearn.utils.validation import validate_data
except ImportError:  # it was a method before scikit-learn 1.6

    def validate_data(estimator: Any, *args: Any, **options: Any) -> Any:
        """Check input as scikit-learn does, and remember or compare its width and names."""
        return estimator._validate_data(*args, **options)


ROWS = 1024
"""Rows per batch for passes that only read."""

_DTYPES = (np.float64, np.float32)


class Taking(NamedTuple):
    """How rows become batches."""

    warm: bool
    """Whether columns and classes are known already, and these rows must have the same."""
    fraction: float | None = None
    """The share of rows to hold out."""
    validation_data: Any = None
    classes: Array | None = None
    names: Any = None
    """The schema of the columns, if known."""
    seed: int = 0


class TakesRows:
    """The part of an estimator that turns rows into batches."""

    batch_size: int | None
    n_features_in_: int
    feature_names_in_: Array

    def _array_targets(self, y: Array, reset: bool, classes: Array | None) -> Array:
        """Return targets as the loss expects them; with `reset` they decide the outputs."""
        raise NotImplementedError

    def _source_targets(self, source: Source, reset: bool, classes: Array | None) -> Source:
        """Return the source with such targets."""
        raise NotImplementedError

    def _class_weight(self) -> Any:
        """Return weights by class number."""
        return None

    def _take(
        self, X: Any, y: Any, sample_weight: Any, schema: Any, how: Taking
    ) -> tuple[Batches, Batches | None]:
        """Return the batches for training, and those for early stopping."""
        X, y = from_frame(X, y, schema, isinstance(self, ClassifierMixin))
        take = self._take_source if isinstance(X, Source | Batches) else self._take_arrays
        return take(X, y, sample_weight, how)

    def _validation(self, how: Taking, training: Source, names: Any) -> Batches:
        """Return the rows of `validation_data`, with the columns and classes of the training."""
        rows = how.validation_data
        if not isinstance(rows, tuple | list):
            rows = (rows, None) if isinstance(rows, Source | Batches) else ()
        if len(rows) not in (2, 3):
            raise ValueError(
                "validation_data must be (X, y), (X, y, weight), Batches or a source, not "
                f"{shown(how.validation_data)}"
            )
        X, y, weight = (*rows, None)[:3]
        again = Taking(warm=True, names=names, seed=how.seed)
        return self._take(X, y, weight, training.schema or False, again)[0]

    def _take_arrays(
        self, X: Any, y: Any, sample_weight: Any, how: Taking
    ) -> tuple[Batches, Batches | None]:
        check_rows_alike(X, y, sample_weight)
        numeric, reset = isinstance(self, RegressorMixin), not how.warm
        refuse_single(y, "y")
        X, y = valid(self, X, labels_of(y), reset=reset, multi_output=True, y_numeric=numeric)
        weight = np.ones(1) if sample_weight is None else np.asarray(sample_weight)
        if weight.dtype.kind in "biuf" and not weight.any():
            raise ValueError("all weights in sample_weight are zero: nothing is left to train on")
        y = self._array_targets(y.toarray() if hasattr(y, "toarray") else y, reset, how.classes)
        if how.fraction is None:
            return self._batches(X, how.seed, y, sample_weight), None
        weight = np.ones(len(y)) if sample_weight is None else sample_weight
        classes_of_rows = y if isinstance(self, ClassifierMixin) and y.ndim == 1 else None
        parts = train_test_split(
            X, y, weight, test_size=how.fraction, random_state=how.seed, stratify=classes_of_rows
        )
        kept, held_out = (self._batches(p[0], how.seed, *p[1:]) for p in (parts[::2], parts[1::2]))
        return kept, held_out

    def _take_source(
        self, X: Any, y: Any, sample_weight: Any, how: Taking
    ) -> tuple[Batches, Batches | None]:
        given = X if isinstance(X, Batches) else None
        X = X if given is None else given.source
        if how.warm:
            self._check_columns(X, how.names)
        else:
            self._note_columns(X)
        source = self._source_targets(X, not how.warm, how.classes)
        if given is not None:
            weights = self._class_weight()
            as_batches(given, y, None, sample_weight=sample_weight, class_weight=weights)
        held_out = None
        if how.fraction is not None:
            weighted = sample_weight is not None or getattr(X, "weight", None) is not None
            if weighted or (given is not None and given.weighted):
                raise ValueError(
                    "early_stopping splits a source by the content of its rows, but weights given "
                    "separately can't be split with it: fit arrays, give validation_data, or leave "
                    "the weights or early_stopping out"
                )
            source, other = source.split(how.fraction, how.seed)
            held_out = Batches(other, batch_size=ROWS, class_weight=self._class_weight())
        if given is None:
            return self._batches(source, how.seed, y, sample_weight), held_out
        return (given if source is X else with_source(given, source)), held_out

    def _batches(self, X: Any, seed: int, y: Any = None, sample_weight: Any = None) -> Batches:
        in_place = not isinstance(X, Source) or X.random_access
        return Batches(
            X,
            y,
            batch_size=self.batch_size,
            shuffle=True,
            seed=seed,
            buffer=None if in_place else BUFFER,
            sample_weight=sample_weight,
            class_weight=self._class_weight(),
        )

    def _note_columns(self, source: Source) -> None:
        """Store the width and the column names of a source."""
        self.n_features_in_, names = first_rows(source)[0].shape[1], known(source, "names")
        self.__dict__.pop("feature_names_in_", None)
        if names is not None:
            self.feature_names_in_ = np.array(names, dtype=object)

    def _check_columns(self, source: Source, names: Any) -> None:
        """Compare the width and the column names of a source with those of `fit`."""
        width = first_rows(source)[0].shape[1]
        if width != self.n_features_in_:
            raise ValueError(
                f"X has {width} features, but {type(self).__name__} is expecting "
                f"{self.n_features_in_} features as input"
            )
        check_source(source, names)


def valid(estimator: Any, X: Any, *y: Any, **options: Any) -> Any:
    """Return X and y after scikit-learn's checks; an error names columns without numbers."""
    refuse_single(X, "X")
    _refuse_other(X, "X")
    if options.get("y_numeric"):
        _refuse_other(y[0], "y")
    try:
        return validate_data(estimator, X, *y, accept_sparse="csr", dtype=_DTYPES, **options)
    except (TypeError, ValueError):
        plain(X, "X")
        _refuse_text(X, "X")
        if options.get("y_numeric"):
            plain(y[0], "y")
            _refuse_text(y[0], "y")
        raise


def refuse_single(x: Any, what: str) -> None:
    """Refuse what is not an array, table or list, or has a mask; scikit-learn handles None."""
    refuse_mask(x, what)
    sized = hasattr(x, "__len__") or hasattr(x, "__array__")
    single = isinstance(x, str | bytes | Mapping | type) or getattr(x, "ndim", 1) == 0
    if x is not None and (single or not sized):
        raise ValueError(f"{what} must be an array or a list of rows, not {shown(x)}")


def _refuse_text(x: Any, what: str) -> None:
    """Refuse text instead of numbers."""
    if not hasattr(x, "tocsr") and (array := np.asarray(x)).dtype.kind in "US":
        numbers(array, what)


def _refuse_other(x: Any, what: str) -> None:
    """Refuse an array that scikit-learn would convert to wrong numbers.

    These are durations in any unit, times and bytes.
    """
    if isinstance(x, np.ndarray) and x.dtype.kind in "mMSV":
        numbers(get_backend("numpy").here(x, what), what)
