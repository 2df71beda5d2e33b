"""Bugs of losses, row weights and the penalty that the checker must name.

Those of a loss are in a subclass. Those of weights and of the penalty are planted in the engine.
"""

import numpy as np
from gradients.naming import Named, network
from gradients.planting import put

import minigd as gd
from minigd import formulas
from minigd.optim.gradient_transforms import Penalty


class Halved(gd.MeanSquaredError):
    """The 2 of the square forgotten."""

    def gradient(self, z, y):
        return super().gradient(z, y) / 2


class OverK(gd.Huber):
    """Σ_k in the gradient where the value has the mean over k."""

    def gradient(self, z, y):
        return np.clip(z - y, -self.delta, self.delta)


class OverN(gd.CategoricalCrossEntropy):
    """Each row divided by n, before the layers take the mean."""

    def gradient(self, z, y):
        return super().gradient(z, y) / len(z)


class FirstTargets(gd.MeanSquaredError):
    """The targets of the first batch, for ever."""

    def gradient(self, z, y):
        self.first = getattr(self, "first", y)
        return super().gradient(z, self.first if self.first.shape == y.shape else y)


class Unweighed(gd.MeanSquaredError):
    """The weights of rows in the value alone."""

    def backward(self):
        z, y, _ = self._kept
        self._kept = (z, y, None)
        return super().backward()


class AbsoluteHalf(gd.MeanAbsoluteError):
    """Half of the sign, as of a median taken for a quantile."""

    def gradient(self, z, y):
        return super().gradient(z, y) / 2


class AbsoluteSummed(gd.MeanAbsoluteError):
    """Σ_k in the gradient where the value has the mean over k."""

    def gradient(self, z, y):
        return np.sign(z - y)


class Turned(gd.Quantile):
    """target − prediction in the gradient, and prediction − target in the value."""

    def gradient(self, z, y):
        return -super().gradient(z, y)


class QuantilesSummed(gd.Quantile):
    """The sum over the quantiles in the gradient."""

    def gradient(self, z, y):
        return super().gradient(z, y) * z.shape[1]


class CountsOverN(gd.Poisson):
    """Each row divided by n, before the layers take the mean."""

    def gradient(self, z, y):
        return super().gradient(z, y) / len(z)


class FirstCounts(gd.Poisson):
    """The counts of the first batch, for ever."""

    def gradient(self, z, y):
        self.first = getattr(self, "first", y)
        return super().gradient(z, self.first if self.first.shape == y.shape else y)


class AwayFromClass(gd.Hinge):
    """The true class pushed down, and its rival up."""

    def gradient(self, z, y):
        return -super().gradient(z, y)


class MarginUnweighed(gd.Hinge):
    """The weights of rows in the value alone."""

    def backward(self):
        z, y, _ = self._kept
        self._kept = (z, y, None)
        return super().backward()


class FocalUnbalanced(gd.Focal):
    """α = ½ in the gradient, and none in the value."""

    def gradient(self, z, y):
        return super().gradient(z, y) / 2


class FocalOverN(gd.Focal):
    """Each row divided by n, before the layers take the mean."""

    def gradient(self, z, y):
        return super().gradient(z, y) / len(z)


def focal(kind):
    return lambda: kind(2.0, None, from_logits=True)


def last():
    return [gd.Dense(4), gd.Tanh(), gd.Dense(2)]


def logits():
    return gd.BinaryCrossEntropy(from_logits=True)


def l2_twice(p, g, *, l1, l2):
    return g + l1 * np.sign(p) + 2 * l2 * p


PLANTED = [
    Named("half of the square", "constant factor", network(last, Halved, n=2)),
    Named("huber summed over outputs", "sum over K",
          network(lambda: [gd.Dense(3)], OverK, outputs=3)),
    Named("cross-entropy over n", "1/n twice",
          network(last, lambda: OverN(from_logits=True), classes=True)),
    Named("targets of the first batch", "stale cache", network(last, FirstTargets)),
    Named("weights in the value alone", "weight ignored", network(last, Unweighed, weighted=True)),
    Named("half of the sign", "constant factor", network(last, AbsoluteHalf)),
    Named("absolute errors summed", "sum over K",
          network(lambda: [gd.Dense(3)], AbsoluteSummed, outputs=3)),
    Named("quantile turned around", "sign", network(last, lambda: Turned(0.3))),
    Named("quantiles summed", "sum over K", network(last, lambda: QuantilesSummed(0.3))),
    Named("counts over n", "1/n twice", network(last, CountsOverN, counts=True)),
    Named("counts of the first batch", "stale cache", network(last, FirstCounts, counts=True)),
    Named("the true class pushed down", "sign",
          network(lambda: [gd.Dense(3)], AwayFromClass, outputs=3, classes=True)),
    Named("weights in the margin's value alone", "weight ignored",
          network(last, MarginUnweighed, classes=True, weighted=True)),
    Named("balance in the gradient alone", "constant factor",
          network(last, focal(FocalUnbalanced))),
    Named("focal over n", "1/n twice", network(last, focal(FocalOverN))),
    Named("penalty not added", "L2 forgotten", network(last, logits, l2=0.3),
          put(Penalty, "add_gradient", lambda self, model: None)),
    Named("penalty without its half", "L2 doubled", network(last, l1=0.2, l2=0.3),
          put(formulas, "penalized", l2_twice)),
]  # fmt: skip
