"""Bugs of layers that the checker must name: a custom dense layer with one wrong line.

Its bias is a vector, or the last row of the matrix. A tanh may follow the product.
"""

import numpy as np
from gradients.naming import Named, layer, network
from oracles import students

import minigd as gd


class Bent(gd.Layer):
    """y = tanh(x·W + b), in one layer."""

    def __init__(self, units=3):
        self.units = units

    def build(self, n_in):
        self.add_param("W", (n_in, self.units), "glorot_uniform")
        self.add_param("b", (self.units,))
        return self.units

    def forward(self, x, train=False):
        y = np.tanh(x @ self.params["W"] + self.params["b"])
        if train:
            self.keep(x, y)
        return y

    def slope(self, dy, y):
        return dy * (1 - y * y)

    def dW(self, x, dz):
        return x.T @ dz / len(x)

    def db(self, dz):
        return dz.mean(axis=0)

    def dx(self, dz):
        return dz @ self.params["W"].T

    def backward(self, dy):
        x, y = self.kept()
        dz = self.slope(dy, y)
        self.grads["W"][...] = self.dW(x, dz)
        self.grads["b"][...] = self.db(dz)
        return self.dx(dz)


class Summed(Bent):
    """Σ in dW where the mean belongs."""

    def dW(self, x, dz):
        return x.T @ dz


class BiasSummed(Bent):
    """Σ in db where the mean belongs."""

    def db(self, dz):
        return np.add.reduce(dz)


class MeanOfMeans(Bent):
    """A mean of the rows' products, divided by n again."""

    def dW(self, x, dz):
        return np.mean([np.outer(a, b) for a, b in zip(x, dz, strict=True)], axis=0) / len(x)


class Uphill(Bent):
    """db with the wrong sign."""

    def db(self, dz):
        return -dz.mean(axis=0)


class Swapped(Bent):
    """dzᵀ·x where xᵀ·dz belongs."""

    def dW(self, x, dz):
        return dz.T @ x / len(x)


class Unturned(Bent):
    """dz·W where dz·Wᵀ belongs."""

    def dx(self, dz):
        return dz @ self.params["W"]


class Reshaped(Bent):
    """dWᵀ, reshaped until it fits."""

    def dW(self, x, dz):
        return (dz.T @ x / len(x)).reshape(self.params["W"].shape)


class Straight(Bent):
    """The slope of tanh left out."""

    def slope(self, dy, y):
        return dy


class FirstOnly(Bent):
    """db of the first row."""

    def db(self, dz):
        return dz[0]


class Of32(Bent):
    """A mean over 32 rows, however many there are."""

    def dW(self, x, dz):
        return x.T @ dz / 32


class OfTheFirst(Bent):
    """A mean over as many rows as the first batch had."""

    def db(self, dz):
        if not hasattr(self, "n"):
            self.n = len(dz)
        return dz.sum(axis=0) / self.n


class Adding(Bent):
    """dW added to what was there."""

    def backward(self, dy):
        before = self.grads["W"].copy()
        dx = super().backward(dy)
        self.grads["W"] += before
        return dx


class Remembers(Bent):
    """The x of the batch before."""

    def forward(self, x, train=False):
        y = super().forward(x, train)
        if train:
            if getattr(self, "x", x).shape != x.shape:
                self.x = x
            self.x, x = x.copy(), getattr(self, "x", x)
            self.keep(x, y)
        return y


class Decays(Bent):
    """Adds the gradient of ½·0.1·W² itself."""

    def dW(self, x, dz):
        return super().dW(x, dz) + 0.1 * self.params["W"]


class WithOnes(gd.Layer):
    """y = [x 1]·W, whose last row is the bias; in dW that row stays zero."""

    def __init__(self, units=3):
        self.units = units

    def build(self, n_in):
        self.add_param("W", (n_in + 1, self.units), "glorot_uniform")
        return self.units

    def forward(self, x, train=False):
        if train:
            self.keep(x)
        return x @ self.params["W"][:-1] + self.params["W"][-1]

    def backward(self, dy):
        (x,) = self.kept()
        self.grads["W"][...] = 0
        self.grads["W"][:-1] = x.T @ dy / len(x)
        return dy @ self.params["W"][:-1].T


class WithOnesUnwritten(WithOnes):
    """The row of the bias not written."""

    def backward(self, dy):
        (x,) = self.kept()
        self.grads["W"][:-1] = x.T @ dy / len(x)
        return dy @ self.params["W"][:-1].T


class RowMean(gd.Layer):
    """Rows of mean 0 and variance 1; the statistics are taken for constants."""

    def forward(self, x, train=False):
        x = x - x.mean(axis=1, keepdims=True)
        spread = np.sqrt((x * x).mean(axis=1, keepdims=True) + 1e-5)
        if train:
            self.keep(spread)
        return x / spread

    def backward(self, dy):
        (spread,) = self.kept()
        return dy / spread


def hidden(make):
    """Return how to make a network with a layer in its middle."""
    return lambda: [gd.Dense(4), gd.Tanh(), make(), gd.Dense(2)]


PLANTED = [
    Named("dW summed", "missing 1/n", layer(Summed)),
    Named("db summed, one output, two rows", "missing 1/n", layer(lambda: BiasSummed(1), n=2)),
    Named("mean of the outer products, halved again", "1/n twice", network(hidden(MeanOfMeans))),
    Named("db uphill", "sign", network(hidden(Uphill))),
    Named("dW turned, W square", "transposed", layer(lambda: Swapped(4))),
    Named("W not turned for dx", "transposed", network(hidden(lambda: Unturned(4)))),
    Named("dW turned and reshaped", "transposed", layer(Reshaped, n=5)),
    Named("tanh forgotten on the way back", "Jacobian ignored", network(hidden(Straight))),
    Named("row statistics for constants", "Jacobian ignored", layer(RowMean, width=6)),
    Named("rows centred, dx as dy", "Jacobian ignored", layer(lambda: students.Center(True))),
    Named("db of the first row", "first row only", layer(FirstOnly)),
    Named("a batch of 32 for ever", "tail's n", layer(Of32)),
    Named("the size of the first batch", "tail's n", layer(OfTheFirst, n=8)),
    Named("dW added to", "accumulated", network(hidden(Adding))),
    Named("x of the batch before", "stale cache", layer(Remembers, n=6)),
    Named("a decay in the layer", "L2 doubled", network(hidden(Decays), l2=0.1)),
    Named("the bias row forgotten", "stays zero", layer(WithOnes)),
    Named("the bias row not written", "stays zero", network(hidden(WithOnesUnwritten))),
]
