"""scikit-learn's `MLPClassifier`: its own Adam, its own shuffle, so many epochs a `fit`.

Nothing stops it early and nothing is penalised. A later `fit` goes on from its weights, with the
moments of Adam at zero, which costs no time.
"""

import warnings
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from benchmarks.workloads import Data, Workload


class _GivenWeights(MLPClassifier):
    # scikit-learn has no public way to give the first weights, which all contenders share.
    given: list[tuple[np.ndarray, np.ndarray]]

    def _init_coef(self, fan_in: int, fan_out: int, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
        W, b = self.given.pop(0)
        return W.copy(), b.copy()


class Training:
    """A classifier and its rows."""

    def __init__(self, workload: Workload, data: Data) -> None:
        self.x, self.y = data.x, data.y
        self.classifier = _GivenWeights(
            workload.widths[1:-1],
            activation=workload.activation,
            alpha=0.0,
            batch_size=workload.batch_size,
            learning_rate_init=workload.learning_rate,
            tol=0.0,
            n_iter_no_change=10**9,
            warm_start=True,
            # A generator, and no seed, which would repeat the orders of the first `fit`.
            random_state=np.random.RandomState(0),
        )
        self.classifier.given = list(data.weights)
        self.updates = 0
        # It warns that so many epochs are not enough.
        warnings.simplefilter("ignore", ConvergenceWarning)

    def train(self, epochs: int) -> list[float]:
        self.classifier.set_params(max_iter=epochs).fit(self.x, self.y)
        self.updates += self.classifier._optimizer.t
        return self.classifier.loss_curve_[-epochs:]

    def weights(self) -> list[tuple[np.ndarray, np.ndarray]]:
        return list(zip(self.classifier.coefs_, self.classifier.intercepts_, strict=True))


def prepare(workload: Workload, data: Data) -> Training:
    return Training(workload, data)
