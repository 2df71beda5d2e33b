"""What scikit-learn's estimators over the engine share: from arguments to batches, model, trainer.

`estimators.py` has the two that are used; they say what targets, outputs and losses they take.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from minigd.backends.base import Backend, backend_of, get_backend, numbers, refuse_mask
from minigd.backends.frames import (
    check_names,
    check_rows_alike,
    check_source,
    is_table,
    names_of,
    plain,
)
from minigd.data.batches import Batches, as_batches
from minigd.data.row_weights import check_weights
from minigd.data.sources.array import ArraySource
from minigd.data.sources.base import Source
from minigd.data.sources.given import BUFFER, as_source
from minigd.errors import find_by_name, shown
from minigd.insight.coefficients import coefficients
from minigd.interop.sklearn.arguments import ACTIVATIONS, check_parameters, units_of
from minigd.interop.sklearn.targets import (
    first_rows,
    from_frame,
    known,
    labels_of,
    named,
    standardize,
    targets_in,
    with_source,
)
from minigd.nn.layers import ELU, GELU, Dense, Layer, LeakyReLU, ReLU, Rescale, SiLU
from minigd.nn.layers.base import like
from minigd.nn.losses import Loss, get_loss
from minigd.nn.objective import default_loss
from minigd.nn.sequential import Sequential
from minigd.optim.schedules import Schedule
from minigd.optim.updaters import Updater, get_updater
from minigd.training.callbacks import EarlyStopping
from minigd.training.history import History
from minigd.training.trainer import Trainer
from minigd.types import Array

try:
    from sklearn.utils.validation import validate_data
except ImportError:  # it was a method before scikit-learn 1.6

    def validate_data(estimator: Any, *args: Any, **options: Any) -> Any:
        """Check input as scikit-learn does, and remember or compare its width and names."""
        return estimator._validate_data(*args, **options)


LEARNING_RATE = 0.01
"""Of an updater that is given by its name, for a linear model, which takes larger steps."""

_ROWS = 1024  # of a batch that is only read
_DTYPES = (np.float64, np.float32)

Self = TypeVar("Self", bound="MiniBatchEstimator")


class MiniBatchEstimator:
    """What the two estimators share; a subclass says what targets, outputs and losses it has."""

    _usual_loss: str
    """What scikit-learn calls the loss that goes with the outputs."""

    hidden: int | Sequence[int]
    activation: str | Layer
    loss: str | Loss
    updater: str | Updater
    learning_rate: float | Schedule | None
    batch_size: int | None
    epochs: int
    early_stopping: bool
    validation_fraction: float
    patience: int
    tol: float
    warm_start: bool
    backend: str | Backend
    dtype: Any
    random_state: Any
    verbose: bool | int

    model_: Sequential
    history_: History
    n_iter_: int
    n_features_in_: int
    feature_names_in_: Array

    _run: Any  # the Trainer; after a pickle, its state

    # What a subclass says -------------------------------------------------------------------

    def _array_targets(self, y: Array, reset: bool, classes: Array | None) -> Array:
        """Return targets as the loss takes them; on `reset` they decide what the outputs are."""
        raise NotImplementedError

    def _source_targets(self, source: Source, reset: bool, classes: Array | None) -> Source:
        """Return the source with such targets."""
        raise NotImplementedError

    def _ending(self) -> tuple[int, Layer]:
        """Return the number of outputs and the last layer."""
        raise NotImplementedError

    def _class_weight(self) -> Any:
        """Return weights by the number of the class."""
        return None

    # Training -------------------------------------------------------------------------------

    def fit(self: Self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Train from the start, or continue the last fit with ``warm_start=True``.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (rows, n_features), Source or Batches
            A source and a Batches bring their own targets; a Batches also its batch size, order and
            weights. A stream whose rows can't be fetched by number goes through a shuffle buffer.
        y : array-like of shape (rows,) or (rows, n_outputs), optional
            Targets of an array.
        sample_weight : array-like of shape (rows,), optional
            How much each row counts; one of weight 0 is left out. Rows of an integer weight count
            as so many rows where a batch holds all of them.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a parameter makes no sense, or the data do not fit it or each other.
        DivergenceError
            If the loss or a gradient is no longer finite.
        """
        check_parameters(self, self._usual_loss)
        warm = bool(self.warm_start) and hasattr(self, "model_")
        return self._train(X, y, sample_weight, warm, self.early_stopping, self.epochs)

    def _train(
        self: Self,
        X: Any,
        y: Any,
        sample_weight: Any,
        warm: bool,
        early_stopping: bool,
        epochs: int,
        classes: Array | None = None,
    ) -> Self:
        if warm:
            seed = self.model_.seed
        else:
            seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        fraction = self.validation_fraction if early_stopping else None
        schema = self.model_.schema if warm else None
        X, y = from_frame(X, y, schema, isinstance(self, ClassifierMixin))
        take = self._take_source if isinstance(X, Source | Batches) else self._take_arrays
        batches, held_out = take(X, y, sample_weight, not warm, fraction, seed, classes)
        names = names_of(X) or known(batches.source, "names")
        if warm:
            check_names(names, self.model_.names)
        trainer = self._continue_training() if warm else self._begin(batches, seed)
        trainer.model.names = names or trainer.model.names
        stop = EarlyStopping(patience=self.patience, min_delta=self.tol) if early_stopping else None
        trainer.fit(
            batches,
            epochs=epochs,
            validation_data=held_out,
            callbacks=[] if stop is None else [stop],
            progress=bool(self.verbose),
        )
        # To continue it needs the moments and the counts, and not the rows.
        trainer._forget_data()
        self._run, self.model_, self.history_ = trainer, trainer.model, trainer.history
        self.n_iter_ = trainer.epoch
        return self

    def _partial_fit(
        self: Self, X: Any, y: Any, sample_weight: Any, classes: Array | None = None
    ) -> Self:
        if self.early_stopping:
            raise ValueError(
                "partial_fit makes one pass over the rows it is given, and has nothing to stop "
                "early: set early_stopping=False"
            )
        return self._train(X, y, sample_weight, hasattr(self, "model_"), False, 1, classes)

    def _take_arrays(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        reset: bool,
        fraction: float | None,
        seed: int,
        classes: Array | None,
    ) -> tuple[Batches, Batches | None]:
        """Return the batches of arrays to train on, and those to stop by."""
        check_rows_alike(X, y, sample_weight)
        numeric = isinstance(self, RegressorMixin)
        _refuse_single(y, "y")
        X, y = _valid(self, X, labels_of(y), reset=reset, multi_output=True, y_numeric=numeric)
        weight = np.ones(1) if sample_weight is None else np.asarray(sample_weight)
        if weight.dtype.kind in "biuf" and not weight.any():
            raise ValueError("all weights in sample_weight are zero: nothing is left to train on")
        y = self._array_targets(y.toarray() if hasattr(y, "toarray") else y, reset, classes)
        if fraction is None:
            return self._batches(X, seed, y, sample_weight), None
        weight = np.ones(len(y)) if sample_weight is None else sample_weight
        classes_of_rows = y if isinstance(self, ClassifierMixin) and y.ndim == 1 else None
        parts = train_test_split(
            X, y, weight, test_size=fraction, random_state=seed, stratify=classes_of_rows
        )
        kept, held_out = (self._batches(p[0], seed, *p[1:]) for p in (parts[::2], parts[1::2]))
        return kept, held_out

    def _take_source(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        reset: bool,
        fraction: float | None,
        seed: int,
        classes: Array | None,
    ) -> tuple[Batches, Batches | None]:
        """Return the batches of a source to train on, and those to stop by."""
        given = None
        if isinstance(X, Batches):
            weights = getattr(self, "class_weight", None)
            given = as_batches(X, y, None, sample_weight=sample_weight, class_weight=weights)
            X = given.source
        self._check_columns(X, reset)
        source = self._source_targets(X, reset, classes)
        held_out = None
        if fraction is not None:
            weighted = sample_weight is not None or getattr(X, "weight", None) is not None
            if weighted or (given is not None and given.weighted):
                raise ValueError(
                    "early_stopping splits a source by the content of its rows, and weights given "
                    "separately can't be split with it: fit arrays, or leave the weights or "
                    "early_stopping out"
                )
            source, other = source.split(fraction, seed)
            held_out = Batches(other, batch_size=_ROWS, class_weight=self._class_weight())
        if given is None:
            return self._batches(source, seed, y, sample_weight), held_out
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

    def _begin(self, batches: Batches, seed: int) -> Trainer:
        """Return a trainer with a new model."""
        dtype = self.dtype
        if dtype is None:
            dtype = "float32" if first_rows(batches.source)[0].dtype == np.float32 else "float64"
        model = Sequential(
            self._layers(), self.n_features_in_, backend=self.backend, dtype=dtype, seed=seed
        )
        last = model.layers[-1]
        if isinstance(last, Rescale):
            standardize(last, batches)
        return Trainer(model, self._make_loss(), self._make_updater())

    def _continue_training(self) -> Trainer:
        """Return the trainer of the fit before, with the updater and the loss of now."""
        model = self.model_
        now = [repr(layer) for layer in self._layers()], self.dtype or model.dtype
        if now != ([repr(layer) for layer in model.layers], model.dtype):
            raise ValueError(
                "warm_start can't change hidden, activation or dtype, and the model is "
                f"{model!r}: fit with warm_start=False"
            )
        model.to(self.backend)
        loss, updater = self._make_loss(), self._make_updater()
        about = repr((loss, updater))
        live = isinstance(self._run, Trainer)
        before = _about(self._run) if live else self._run["about"]
        if live and about == before:
            trainer: Trainer = self._run
            return trainer
        values = self._run.state_dict() if live else dict(self._run)
        if about != before:
            values["updater"] = updater.state_dict()
        trainer = Trainer(model, loss, updater)
        trainer.load_state_dict({**values, "model": model.arrays()})
        return trainer

    def _layers(self) -> list[Layer]:
        hidden = units_of(self.hidden)
        layers: list[Layer] = []
        for units in hidden:
            activation = self._make_activation()
            rectifies = isinstance(activation, ReLU | LeakyReLU | ELU | GELU | SiLU)
            layers += [Dense(units, "he_normal" if rectifies else "glorot_uniform"), activation]
        units, last = self._ending()
        # The loss of a linear model has one valley, and draws of weights would stay in the
        # directions in which the data say nothing.
        return [*layers, Dense(units, "glorot_uniform" if hidden else "zeros"), last]

    def _make_activation(self) -> Layer:
        given = self.activation
        if isinstance(given, Layer):
            made: Layer = like(given)
            return made
        return find_by_name("activation", given, ACTIVATIONS)()

    def _make_loss(self) -> Loss:
        usual = isinstance(self.loss, str) and self.loss == self._usual_loss
        return copy.deepcopy(get_loss(default_loss(self._ending()[1]) if usual else self.loss))

    def _make_updater(self) -> Updater:
        updater = get_updater(self.updater)
        if not isinstance(self.updater, Updater):
            rate = self.learning_rate
            if rate is None:
                rate = updater.learning_rate if units_of(self.hidden) else LEARNING_RATE
            return type(updater)(rate)
        if self.learning_rate is not None:
            raise ValueError(
                f"learning_rate={self.learning_rate!r} is for an updater given by its name, and "
                f"{updater!r} has its own: leave one of the two out"
            )
        updater = copy.deepcopy(updater)
        updater.reset()
        return updater

    # Predicting -----------------------------------------------------------------------------

    def _outputs(self, X: Any, layers: int | None = None) -> Array:
        """Return what the first `layers` give for all rows, a batch at a time, on the host."""
        check_is_fitted(self, "model_")
        schema = self.model_.schema
        # Columns that are numbers as they come are those of fit in their order, as elsewhere.
        if is_table(X) and schema is not None and schema.names != schema.features:
            X = as_source(X, None, schema)[0]
        if isinstance(X, Source | Batches):
            source = X.source if isinstance(X, Batches) else X
            self._check_columns(source, reset=False)
        else:
            source = ArraySource(_valid(self, X, reset=False))
            check_names(names_of(X), self.model_.names)
        model, out = self.model_, []
        for batch in Batches(source, batch_size=_ROWS).in_order():
            here = backend_of(batch.x)
            name, rows = source.origin("X", batch.rows)
            if not source.checked:
                here.check_finite(batch.x, name, rows)
            x = model.backend.asarray(here.convert(batch.x, model.dtype, name, rows))
            z = model.run_forward(model.layers[:layers], model.convert(x, "X"), train=False)
            out.append(model.backend.to_numpy(z))
        return np.concatenate(out)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Return the accuracy of a classifier, or R² of a regressor.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (rows, n_features), Source or Batches
        y : array-like of shape (rows,) or (rows, n_outputs), optional
            Targets of an array; a source and a Batches bring their own.
        sample_weight : array-like of shape (rows,), optional

        Returns
        -------
        float
        """
        check_rows_alike(X, y, sample_weight)
        if isinstance(X, Source | Batches) and y is None:
            source = X.source if isinstance(X, Batches) else X
            y = named(np.concatenate(list(targets_in(source))), source)
        _refuse_single(y, "y")
        if sample_weight is not None:
            check_weights(sample_weight, None)
        y = labels_of(y)
        value: float = super().score(X, y, sample_weight)  # type: ignore[misc]
        return value

    def _check_columns(self, source: Source, reset: bool) -> None:
        """Remember the width and the names of a source's columns, or compare them."""
        width, names = first_rows(source)[0].shape[1], known(source, "names")
        if reset:
            self.n_features_in_ = width
            self.__dict__.pop("feature_names_in_", None)
            if names is not None:
                self.feature_names_in_ = np.array(names, dtype=object)
            return
        if width != self.n_features_in_:
            raise ValueError(
                f"X has {width} features, but {type(self).__name__} is expecting "
                f"{self.n_features_in_} features as input"
            )
        check_source(source, self.model_.names)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        tags.input_tags.sparse = True
        return tags

    def _more_tags(self) -> dict[str, Any]:  # the same, before scikit-learn 1.6
        return {"X_types": ["2darray", "sparse"]}

    def __getstate__(self) -> dict[str, Any]:
        given: Any = super().__getstate__()
        state = dict(given)
        # A Trainer is tied to its model's memory; its state is not, and the model is stored apart.
        if isinstance(state.get("_run"), Trainer):
            values = {"about": _about(state["_run"]), **state["_run"].state_dict()}
            state["_run"] = {name: value for name, value in values.items() if name != "model"}
        return state

    # What is read off the model -------------------------------------------------------------

    @property
    def loss_curve_(self) -> list[float]:
        """The mean loss of each epoch."""
        return list(self.history_["loss"])

    @property
    def coef_(self) -> Array:
        """The slope of each feature, without hidden layers."""
        return self._linear()[0]

    @property
    def intercept_(self) -> Any:
        """The value where all features are 0, without hidden layers."""
        return self._linear()[1]

    def _linear(self) -> tuple[Array, Any]:
        if len(self.model_.layers) > 2:
            raise AttributeError("coef_ and intercept_ are for a model without hidden layers")
        slope, intercept = coefficients(self.model_)
        return slope.T, intercept


def _valid(estimator: Any, X: Any, *y: Any, **options: Any) -> Any:
    """Return what scikit-learn's checks make of X, and of y; columns without numbers are named."""
    _refuse_single(X, "X")
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


def _refuse_single(x: Any, what: str) -> None:
    """Refuse what is not an array, table or list, or has a mask; None is left to scikit-learn."""
    refuse_mask(x, what)
    sized = hasattr(x, "__len__") or hasattr(x, "__array__")
    single = isinstance(x, str | bytes | Mapping | type) or getattr(x, "ndim", 1) == 0
    if x is not None and (single or not sized):
        raise ValueError(f"{what} must be an array or a list of rows, not {shown(x)}")


def _refuse_text(x: Any, what: str) -> None:
    """Refuse texts where numbers are due."""
    if not hasattr(x, "tocsr") and (array := np.asarray(x)).dtype.kind in "US":
        numbers(array, what)


def _refuse_other(x: Any, what: str) -> None:
    """Refuse an array of which scikit-learn makes numbers that it does not hold.

    Those are durations in any unit, times and bytes.
    """
    if isinstance(x, np.ndarray) and x.dtype.kind in "mMSV":
        numbers(get_backend("numpy").here(x, what), what)


def _about(trainer: Trainer) -> str:
    """Return what is compared to see whether a trainer can continue."""
    return repr((trainer.objective.given, trainer.updater))
