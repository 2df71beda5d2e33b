"""The shared part of the scikit-learn estimators: from arguments to batches, model, trainer.

`estimators.py` has the two estimators, which define targets, outputs and losses.
"""

import copy
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from minigd.backends.base import Backend
from minigd.backends.frames import (
    check_names,
    check_rows_alike,
    is_table,
    names_of,
)
from minigd.data.batches import Batches
from minigd.data.row_weights import check_weights
from minigd.data.sources.array import ArraySource
from minigd.data.sources.base import Source
from minigd.data.sources.given import as_source
from minigd.errors import check_list, with_known_names
from minigd.insight.coefficients import coefficients
from minigd.interop.sklearn.arguments import CHECKS, check_parameters, no_inner_parameter
from minigd.interop.sklearn.label_weights import WeightedLabels
from minigd.interop.sklearn.losses import check_loss
from minigd.interop.sklearn.network import adapt_ends, hidden_layers, is_linear
from minigd.interop.sklearn.rows import ROWS, TakesRows, Taking, refuse_single, valid
from minigd.interop.sklearn.targets import (
    first_rows,
    known,
    labels_of,
    named,
    targets_in,
)
from minigd.nn.layers import Dense, Layer
from minigd.nn.losses import Loss, get_loss
from minigd.nn.objective import default_loss
from minigd.nn.pieces import run_piece
from minigd.nn.sequential import Sequential
from minigd.optim.schedules import Schedule
from minigd.optim.updaters import Updater, get_updater
from minigd.training.callbacks import EarlyStopping
from minigd.training.history import History
from minigd.training.trainer import Trainer
from minigd.types import Array

LEARNING_RATE = 0.01
"""Learning rate for a linear model, which takes larger steps, if the updater is given by name."""

Self = TypeVar("Self", bound="MiniBatchEstimator")


class MiniBatchEstimator(TakesRows):
    """The shared part of the two estimators; a subclass defines targets, outputs and losses."""

    _usual_loss: str
    """scikit-learn's name for the loss that fits the outputs."""

    hidden: int | Sequence[int]
    activation: str | Layer
    batch_norm: bool
    dropout: float
    layers: Any
    loss: str | Loss
    updater: str | Updater
    learning_rate: float | Schedule | None
    l1: float
    l2: float
    clip_norm: float | None
    epochs: int
    early_stopping: bool
    validation_fraction: float
    patience: int
    tol: float
    callbacks: Any
    warm_start: bool
    backend: str | Backend
    dtype: Any
    random_state: Any
    verbose: bool | int

    model_: Sequential
    history_: History
    n_iter_: int

    _run: Any  # the Trainer; after a pickle, its state

    # Defined by a subclass -------------------------------------------------------------------

    def _ending(self) -> tuple[int, Layer]:
        """Return the number of outputs and the last layer."""
        raise NotImplementedError

    def _note_rows(self, batches: Batches) -> None:
        """Take what the loss needs from the training rows."""

    def set_params(self: Self, **params: Any) -> Self:
        """Set parameters, those of an updater by ``updater__learning_rate``.

        Parameters
        ----------
        **params
            By name.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If there is no such parameter, or it belongs to an updater that is given by name.
        """
        for name in params:
            owner, _, inner = name.partition("__")
            whole = params.get(owner, getattr(self, owner, None))
            if inner and owner in CHECKS and not hasattr(whole, "set_params"):
                raise no_inner_parameter(name, owner, whole)
        super().set_params(**params)  # type: ignore[misc]
        return self

    # Training -------------------------------------------------------------------------------

    @with_known_names
    def fit(
        self: Self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        validation_data: Any = None,
    ) -> Self:
        """Train from the start, or continue the last fit with ``warm_start=True``.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (rows, n_features), Source or Batches
            A source and a Batches bring their own targets, and a Batches also its batch size, order
            and weights. A stream whose rows can't be fetched by number is shuffled with a buffer.
        y : array-like of shape (rows,) or (rows, n_outputs), optional
            The targets, if X is an array.
        sample_weight : array-like of shape (rows,), optional
            How much each row counts; a row of weight 0 is left out. A row of weight 2 counts as two
            rows, if a batch holds all rows.
        validation_data : (X, y), (X, y, weight), Source or Batches, optional
            Rows of the same kinds, evaluated after each epoch: ``history_["val_loss"]``. With
            ``early_stopping=True`` they decide when to stop, and no other rows are held out.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a parameter is invalid, or the data do not fit it or each other.
        DivergenceError
            If the loss or a gradient is no longer finite.
        """
        check_parameters(self, self._usual_loss)
        warm = bool(self.warm_start) and hasattr(self, "model_")
        fraction = self.validation_fraction if self.early_stopping else None
        fraction = fraction if validation_data is None else None
        how = Taking(warm, fraction, validation_data)
        return self._train(X, y, sample_weight, how, self.epochs)

    def _train(self: Self, X: Any, y: Any, sample_weight: Any, how: Taking, epochs: int) -> Self:
        warm = how.warm
        if warm:
            seed = self.model_.seed
        else:
            seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        how = how._replace(seed=seed, names=self.model_.names if warm else None)
        schema = self.model_.schema if warm else None
        batches, held_out = self._take(X, y, sample_weight, schema, how)
        names = known(batches.source, "names") or names_of(X)
        if warm:
            check_names(names, self.model_.names)
        if how.validation_data is not None:
            held_out = self._validation(how, batches.source, names)
        self._note_rows(batches)
        trainer = self._continue_training() if warm else self._begin(batches, seed)
        trainer.model.names = names or trainer.model.names
        callbacks = check_list("callbacks", self.callbacks, "callback")
        if self.early_stopping:
            callbacks.append(EarlyStopping(patience=self.patience, min_delta=self.tol))
        trainer.fit(
            batches,
            epochs=epochs,
            validation_data=held_out,
            callbacks=callbacks,
            progress=bool(self.verbose),
        )
        # Continuing needs the moments and the counts, but not the rows.
        trainer._forget_data()
        if isinstance(loss := trainer.objective.given, WeightedLabels):
            trainer.model.loss = loss.unweighted()
        self._run, self.model_, self.history_ = trainer, trainer.model, trainer.history
        self.n_iter_ = trainer.epoch
        return self

    def _partial_fit(
        self: Self, X: Any, y: Any, sample_weight: Any, classes: Array | None = None
    ) -> Self:
        if self.early_stopping:
            raise ValueError(
                "partial_fit makes one pass over the rows it is given, so there is nothing to stop "
                "early: set early_stopping=False"
            )
        how = Taking(hasattr(self, "model_"), classes=classes)
        return self._train(X, y, sample_weight, how, 1)

    def _begin(self, batches: Batches, seed: int) -> Trainer:
        """Return a trainer with a new model."""
        dtype = self.dtype
        if dtype is None:
            dtype = "float32" if first_rows(batches.source)[0].dtype == np.float32 else "float64"
        model = Sequential(
            self._layers(), self.n_features_in_, backend=self.backend, dtype=dtype, seed=seed
        )
        adapt_ends(model, batches)
        return Trainer(model, self._make_loss(), self._make_updater(), **self._limits())

    def _limits(self) -> dict[str, Any]:
        """Return the options of the trainer for gradients."""
        return {"l1": self.l1, "l2": self.l2, "clip_norm": self.clip_norm}

    def _continue_training(self) -> Trainer:
        """Return the trainer of the previous fit, with the current updater, loss and penalties."""
        model = self.model_
        now = [repr(layer) for layer in self._layers()], self.dtype or model.dtype
        if now != ([repr(layer) for layer in model.layers], model.dtype):
            raise ValueError(
                "warm_start can't change the layers or dtype, but the model is "
                f"{model!r}: fit with warm_start=False"
            )
        model.to(self.backend)
        loss, updater = self._make_loss(), self._make_updater()
        about = repr((loss, updater))
        live = isinstance(self._run, Trainer)
        before = _about(self._run) if live else self._run["about"]
        limits = self._limits()
        if live and about == before and limits.items() <= self._run.options.items():
            trainer: Trainer = self._run
            return trainer
        values = self._run.state_dict() if live else dict(self._run)
        if about != before:
            values["updater"] = updater.state_dict()
        trainer = Trainer(model, loss, updater, **limits)
        trainer.load_state_dict({**values, "model": model.arrays()})
        return trainer

    def _layers(self) -> list[Layer]:
        hidden = hidden_layers(self, self.n_features_in_)
        units, last = self._ending()
        # The loss of a linear model is convex. Random weights would stay in the directions that the
        # data do not determine.
        return [*hidden, Dense(units, "zeros" if is_linear(hidden) else "glorot_uniform"), last]

    def _make_loss(self) -> Loss:
        usual = isinstance(self.loss, str) and self.loss == self._usual_loss
        units, last = self._ending()
        loss = copy.deepcopy(get_loss(default_loss(last) if usual else self.loss))
        check_loss(self, loss, units, last)
        return loss

    def _make_updater(self) -> Updater:
        updater = get_updater(self.updater)
        if not isinstance(self.updater, Updater):
            rate = self.learning_rate
            if rate is None:
                linear = is_linear(hidden_layers(self, self.n_features_in_))
                rate = LEARNING_RATE if linear else updater.learning_rate
            return type(updater)(rate)
        if self.learning_rate is not None:
            raise ValueError(
                f"learning_rate={self.learning_rate!r} is for an updater given by its name, but "
                f"{updater!r} has its own: leave one of the two out"
            )
        updater = copy.deepcopy(updater)
        updater.reset()
        return updater

    # Predicting -----------------------------------------------------------------------------

    def _outputs(self, X: Any, layers: int | None = None) -> Array:
        """Return the outputs of the first `layers` for all rows, batch by batch, on the host."""
        check_is_fitted(self, "model_")
        schema = self.model_.schema
        # Columns of plain numbers must be those of fit, in the same order.
        if is_table(X) and schema is not None and schema.names != schema.features:
            X = as_source(X, None, schema)[0]
        if isinstance(X, Source | Batches):
            source = X.source if isinstance(X, Batches) else X
            self._check_columns(source, self.model_.names)
        else:
            source = ArraySource(valid(self, X, reset=False))
            check_names(names_of(X), self.model_.names)
        model, out = self.model_, []
        for batch in Batches(source, batch_size=ROWS).in_order():
            origin = source.origin("X", batch.rows)
            z = run_piece(model, model.layers[:layers], batch.x, *origin)
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
        refuse_single(y, "y")
        if sample_weight is not None:
            check_weights(sample_weight, None)
        y = labels_of(y)
        value: float = super().score(X, y, sample_weight)  # type: ignore[misc]
        return value

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        tags.input_tags.sparse = True
        return tags

    def _more_tags(self) -> dict[str, Any]:  # the same, before scikit-learn 1.6
        return {"X_types": ["2darray", "sparse"]}

    def __getstate__(self) -> dict[str, Any]:
        given: Any = super().__getstate__()
        state = dict(given)
        # A Trainer is tied to its model's memory, but its state is not. The model is stored
        # separately.
        if isinstance(state.get("_run"), Trainer):
            values = {"about": _about(state["_run"]), **state["_run"].state_dict()}
            state["_run"] = {name: value for name, value in values.items() if name != "model"}
        return state

    # Attributes from the model -------------------------------------------------------------

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
        try:
            slope, intercept = coefficients(self.model_)
        except ValueError:
            raise AttributeError(
                "coef_ and intercept_ are for a model without hidden layers"
            ) from None
        return slope.T, intercept


def _about(trainer: Trainer) -> str:
    """Return what must be equal for a trainer to continue."""
    return repr((trainer.objective.given, trainer.updater))
