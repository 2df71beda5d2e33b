"""What the arguments of both estimators mean, and what both hold after `fit`, written once.

scikit-learn reads each signature, so that the arguments themselves stand in both constructors.
"""

import inspect
from typing import Any, TypeVar

Estimator = TypeVar("Estimator", bound=type)

SHARED = {
    "network": """
        hidden : int or sequence of int, default ()
            Units of each hidden layer.
        activation : str or Layer, default "relu"
            After each hidden layer: ``"relu"``, ``"leaky_relu"``, ``"tanh"``, ``"sigmoid"``, or a
            layer, of which each place gets a copy.
        """,
    "training": """
        updater : str or Updater, default "adam"
            A name, or an updater with its settings: ``gd.SGD(0.1, momentum=0.9)``.
        learning_rate : float or Schedule, optional
            Of an updater given by its name. If left out, 0.01 without hidden layers, and the
            updater's own default with them.
        batch_size : int or None, default 100
            Rows per update; None for all of them.
        epochs : int, default 200
            Passes over the rows in `fit`.
        early_stopping : bool, default False
            Put rows aside, stop when their loss does not get better, and keep the best parameters.
        validation_fraction : float, default 0.1
            The share of rows put aside: drawn from arrays, for a classifier by class; by content
            from a source.
        patience : int, default 10
            Epochs without a better loss that are waited for.
        tol : float, default 1e-4
            How much better a loss must be to count.
        """,
    "work": """
        warm_start : bool, default False
            Whether `fit` continues the fit before: two fits of 10 epochs equal one of 20. Layers
            stay; an updater or a learning rate that was changed since starts afresh.
        backend : {"numpy", "cupy"} or Backend, default "numpy"
            Where the work is done. Arrays in `fit` are on the host, and predictions are too.
        dtype : {"float32", "float64"}, optional
            Of the work; by default float32 for X of float32, and float64 otherwise.
        random_state : int, RandomState or None, default None
            Decides the first weights of hidden layers, the order of rows and which are put aside.
        verbose : bool, default False
            Show progress on stderr.
        """,
    "history": """
        history_ : History
            Loss, seconds and updates of each epoch; with early stopping ``history_["val_loss"]``.
        """,
    "counts": """
        n_iter_ : int
            Epochs made.
        n_features_in_ : int
        feature_names_in_ : array of str
            Where X had names.
        """,
}


def with_shared_docs(estimator: Estimator) -> Estimator:
    """Put the shared texts into a docstring, each in the place of its name, ``{training}``."""
    if estimator.__doc__:  # python -OO leaves none
        text = inspect.cleandoc(estimator.__doc__)
        for name, shared in SHARED.items():
            text = text.replace(f"{{{name}}}\n", f"{inspect.cleandoc(shared)}\n")
        estimator.__doc__ = text
    return estimator


def set_arguments(estimator: Any, arguments: dict[str, Any]) -> None:
    """Keep the arguments of a constructor as they are given, as scikit-learn requires."""
    for name, value in arguments.items():
        if name != "self":
            setattr(estimator, name, value)
