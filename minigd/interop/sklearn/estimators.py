"""Scikit-learn estimators on top of the engine: a classifier and a regressor with mini-batches.

Each makes a `Sequential` and a `Trainer`, and accepts arrays, sparse matrices and sources.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from minigd.backends.on_demand import missing

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, MultiOutputMixin, RegressorMixin
    from sklearn.utils.multiclass import check_classification_targets, type_of_target, unique_labels
    from sklearn.utils.validation import column_or_1d
except ImportError as error:
    raise ImportError(missing("sklearn", "an estimator", error)) from error

from minigd import formulas
from minigd.backends.base import Backend
from minigd.data.batches import Batches
from minigd.data.row_weights import ByNumber, check_class_weight
from minigd.data.sources.array import ArraySource
from minigd.data.sources.base import Source
from minigd.errors import shown, with_known_names
from minigd.interop.sklearn.arguments import check_parameters, set_arguments, with_shared_docs
from minigd.interop.sklearn.base import MiniBatchEstimator
from minigd.interop.sklearn.label_weights import label_weights, weigh_labels
from minigd.interop.sklearn.targets import (
    NumberedSource,
    classes_in,
    first_targets,
    known,
    labels_of,
    numbers_of,
)
from minigd.nn.layers import Layer, Rescale, Sigmoid, Softmax
from minigd.nn.losses import Loss
from minigd.optim.schedules import Schedule
from minigd.optim.updaters import Updater
from minigd.types import Array


@with_shared_docs
class MiniBatchClassifier(MiniBatchEstimator, ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier trained by mini-batch gradient descent: logistic regression, or a network.

    For two classes the network ends in one Sigmoid, for more in a Softmax. If y has several columns
    of 0 and 1, each column is a separate label with a Sigmoid. Without hidden layers it is logistic
    regression, and multinomial logistic regression for more than two classes.

    Parameters
    ----------
    {network}
    loss : str or Loss, default "log_loss"
        ``"log_loss"`` is `BinaryCrossEntropy` or, for more than two classes,
        `CategoricalCrossEntropy`. Pass an object of that class to set ``label_smoothing``.
    {training}
    class_weight : dict from class to float, list of dict, or "balanced", optional
        Multiplies the row's own weight. A class that is not named has weight 1; a named class
        not in `classes_` causes a warning. ``"balanced"`` makes all classes count the same. For
        several labels per row, give a dict with weights of 0 and 1 for each label, which weighs its
        terms of the loss.
    {work}

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
        The labels; for several labels per row the number of each column.
    model_ : Sequential
        The network, which returns probabilities; save it with ``model_.save(path)``.
    {history}
    loss_curve_ : list of float
        The mean loss of each epoch.
    {counts}
    coef_, intercept_ : arrays of shape (1 or n_classes, n_features) and (1 or n_classes,)
        Only without hidden layers.

    Examples
    --------
    >>> import minigd as gd
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> classifier = gd.MiniBatchClassifier(hidden=(16,), random_state=0).fit(X, y)
    >>> classifier.predict(X[:2]), round(classifier.score(X, y), 2)
    (array([0, 0]), 0.98)
    """

    class_weight: Any
    classes_: Array

    _usual_loss = "log_loss"

    @with_known_names
    def __init__(
        self,
        hidden: int | Sequence[int] = (),
        activation: str | Layer = "relu",
        *,
        batch_norm: bool = False,
        dropout: float = 0.0,
        layers: Any = None,
        loss: str | Loss = "log_loss",
        updater: str | Updater = "adam",
        learning_rate: float | Schedule | None = None,
        l1: float = 0.0,
        l2: float = 0.0,
        clip_norm: float | None = None,
        batch_size: int | None = 100,
        epochs: int = 200,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        patience: int = 10,
        tol: float = 1e-4,
        callbacks: Any = None,
        class_weight: Any = None,
        warm_start: bool = False,
        backend: str | Backend = "numpy",
        dtype: Any = None,
        random_state: Any = None,
        verbose: bool | int = False,
    ) -> None:
        set_arguments(self, locals())

    @with_known_names
    def partial_fit(
        self, X: Any, y: Any = None, classes: Any = None, sample_weight: Any = None
    ) -> "MiniBatchClassifier":
        """Train one epoch on some rows; the next call continues with its rows.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.
        classes : array-like of shape (n_classes,)
            All classes that will occur. It is required in the first call, unless a source names its
            classes. Use ``range(n_labels)`` for several labels per row.

        Returns
        -------
        self
        """
        check_parameters(self, self._usual_loss)
        if isinstance(self.class_weight, str):
            raise ValueError(
                f"class_weight={self.class_weight!r} needs all rows at once, but partial_fit sees "
                "some: give a weight for each class, or sample_weight"
            )
        if classes is not None:
            classes = unique_labels(labels_of(classes))
            if hasattr(self, "model_") and not np.array_equal(classes, self.classes_):
                raise ValueError(
                    f"classes are {classes.tolist()}, but were {self.classes_.tolist()} in the "
                    "previous call: they can't change"
                )
        elif not hasattr(self, "model_"):
            source = X.source if isinstance(X, Batches) else X
            if not isinstance(source, Source) or known(source, "classes") is None:
                raise ValueError("classes must be given in the first call of partial_fit")
        return self._partial_fit(X, y, sample_weight, classes)

    def predict(self, X: Any) -> Array:
        """Return the class of each row.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (rows, n_features), Source or Batches
            A Batches is read in the order of its source.

        Returns
        -------
        array of shape (rows,), or of 0 and 1 of shape (rows, n_labels)
        """
        z = self.decision_function(X)
        if self._several:
            return (z > 0).astype(int)
        return self.classes_[(z > 0).astype(int) if z.ndim == 1 else z.argmax(axis=1)]

    def predict_proba(self, X: Any) -> Array:
        """Return the probability of each class, or of each label.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (rows, n_features), Source or Batches

        Returns
        -------
        array of shape (rows, n_classes)
            In the order of `classes_`.
        """
        z = self.decision_function(X)
        if z.ndim == 1:
            return np.column_stack([formulas.sigmoid(-z), formulas.sigmoid(z)])
        return formulas.sigmoid(z) if self._several else formulas.softmax(z)

    def decision_function(self, X: Any) -> Array:
        """Return the logits, the inputs of the last Sigmoid or Softmax.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (rows, n_features), Source or Batches

        Returns
        -------
        array of shape (rows,) for two classes, or (rows, n_classes)
        """
        z = self._outputs(X, -1)
        return z[:, 0] if len(self.classes_) == 2 and not self._several else z

    def _array_targets(self, y: Array, reset: bool, classes: Array | None) -> Array:
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        if y.ndim == 2 and type_of_target(y) != "multilabel-indicator":
            raise ValueError(
                f"y has shape {y.shape}: several columns must each hold 0 and 1; for several "
                "classes per column use sklearn.multioutput.MultiOutputClassifier"
            )
        width = y.shape[1] if y.ndim == 2 else None
        if reset:
            self._set_classes(unique_labels(y) if classes is None else classes, width)
        self._check_width(width)
        return numbers_of(y, self.classes_) if width is None else y

    def _source_targets(self, source: Source, reset: bool, classes: Array | None) -> Source:
        y = first_targets(source)
        width = y.shape[1] if y.ndim == 2 and y.shape[1] > 1 else None
        names = known(source, "classes")
        if reset:
            if classes is None and width is not None:
                classes = np.arange(width)
            elif classes is None:
                classes = classes_in(source) if names is None else np.unique(names)
            self._set_classes(classes, width)
        self._check_width(width)
        own = np.arange(len(self.classes_)) if names is None else names
        if width is not None or (y.dtype.kind in "iub" and np.array_equal(own, self.classes_)):
            return source
        numbered = NumberedSource(source, self.classes_)
        if isinstance(source, ArraySource):
            return ArraySource(source.x, numbered.number(source.y), source.weight)
        return numbered

    def _set_classes(self, classes: Array, width: int | None) -> None:
        if len(classes) == 0:
            raise ValueError("classes must name 2 classes or more, not []")
        if width is None and len(classes) < 2:
            raise ValueError(
                f"y holds 1 class, {classes.tolist()[0]!r}, but a classifier needs 2 or more"
            )
        if width is not None and not np.array_equal(classes, np.arange(width)):
            raise ValueError(
                f"y has {width} labels per row: classes must be range({width}), not "
                f"{classes.tolist()}"
            )
        self.classes_, self._several = classes, width is not None

    def _check_width(self, width: int | None) -> None:
        own = len(self.classes_) if self._several else None
        if width != own:
            raise ValueError(
                f"y has {'one class' if width is None else f'{width} labels'} per row, but had "
                f"{'one class' if own is None else f'{own} labels'} in the previous fit"
            )

    def _ending(self) -> tuple[int, Layer]:
        if self._several:
            return len(self.classes_), Sigmoid()
        return (1, Sigmoid()) if len(self.classes_) == 2 else (len(self.classes_), Softmax())

    def _class_weight(self) -> Any:
        if self.class_weight is None or self._several:
            return None
        if not isinstance(self.class_weight, str | Mapping):
            raise ValueError(
                f"y has one class per row: class_weight must be a dict, "
                f"{{{self.classes_.tolist()[0]!r}: 5.0}}, or 'balanced', not "
                f"{shown(self.class_weight)}"
            )
        table = check_class_weight(self.class_weight, self.classes_.tolist(), by_number=False)
        return table if isinstance(table, str) else ByNumber(table)

    def _note_rows(self, batches: Batches) -> None:
        given = self.class_weight if self._several else None
        self._label_weights = label_weights(given, len(self.classes_), batches)

    def _make_loss(self) -> Loss:
        return weigh_labels(super()._make_loss(), self._label_weights)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def _more_tags(self) -> dict[str, Any]:  # the same, before scikit-learn 1.6
        return {"multilabel": True}


@with_shared_docs
class MiniBatchRegressor(MiniBatchEstimator, MultiOutputMixin, RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """A regressor trained by mini-batch gradient descent: linear regression, or a network.

    The targets are standardized internally (`Rescale`), which makes a learning rate independent of
    their units. Predictions and coefficients are in the units of y. Without hidden layers it is
    linear regression.

    Parameters
    ----------
    {network}
    loss : str or Loss, default "squared_error"
        ``"squared_error"`` is `MeanSquaredError`. For ``"huber"``, or an object such as
        ``gd.Huber(delta=2.0)``, delta is in standard deviations of y.
    {training}
    {work}

    Attributes
    ----------
    model_ : Sequential
        The network, which returns predictions; save it with ``model_.save(path)``.
    {history}
    loss_curve_ : list of float
        The mean loss of each epoch, for the standardized targets.
    {counts}
    coef_, intercept_ : array of shape (n_features,) or (n_outputs, n_features), and float or array
        Only without hidden layers.

    Examples
    --------
    >>> import minigd as gd
    >>> from sklearn.datasets import load_diabetes
    >>> X, y = load_diabetes(return_X_y=True, scaled=False)
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> regressor = make_pipeline(StandardScaler(), gd.MiniBatchRegressor(random_state=0))
    >>> round(regressor.fit(X, y).score(X, y), 2)
    0.52
    """

    _usual_loss = "squared_error"

    @with_known_names
    def __init__(
        self,
        hidden: int | Sequence[int] = (),
        activation: str | Layer = "relu",
        *,
        batch_norm: bool = False,
        dropout: float = 0.0,
        layers: Any = None,
        loss: str | Loss = "squared_error",
        updater: str | Updater = "adam",
        learning_rate: float | Schedule | None = None,
        l1: float = 0.0,
        l2: float = 0.0,
        clip_norm: float | None = None,
        batch_size: int | None = 100,
        epochs: int = 200,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        patience: int = 10,
        tol: float = 1e-4,
        callbacks: Any = None,
        warm_start: bool = False,
        backend: str | Backend = "numpy",
        dtype: Any = None,
        random_state: Any = None,
        verbose: bool | int = False,
    ) -> None:
        set_arguments(self, locals())

    @with_known_names
    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> "MiniBatchRegressor":
        """Make one pass over some rows; the next call continues with its rows.

        The rows of the first call decide how targets are standardized from then on.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.

        Returns
        -------
        self
        """
        check_parameters(self, self._usual_loss)
        return self._partial_fit(X, y, sample_weight)

    def predict(self, X: Any) -> Array:
        """Return the prediction for each row, in the units of y.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (rows, n_features), Source or Batches
            A Batches is read in the order of its source.

        Returns
        -------
        array of shape (rows,) or (rows, n_outputs)
            The same as y in `fit`.
        """
        z = self._outputs(X)
        return z if self._shape else z[:, 0]

    def _array_targets(self, y: Array, reset: bool, classes: Array | None) -> Array:
        self._take_shape(y.shape[1:], reset)
        return y

    def _source_targets(self, source: Source, reset: bool, classes: Array | None) -> Source:
        self._take_shape(first_targets(source).shape[1:], reset)
        return source

    def _take_shape(self, shape: tuple[int, ...], reset: bool) -> None:
        if reset:
            self._shape = shape
        elif shape != self._shape:
            raise ValueError(f"y has rows of shape {shape}, but {self._shape} in the previous fit")

    def _ending(self) -> tuple[int, Layer]:
        return (self._shape[0] if self._shape else 1), Rescale()

    def _linear(self) -> tuple[Array, Any]:
        slope, intercept = super()._linear()
        return (slope, intercept) if self._shape else (slope[0], float(intercept[0]))
