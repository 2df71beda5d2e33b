"""Bugs that the checker must name, planted by someone who had not read how it names them.

`PLANTED` contains `naming.Named` entries: a name, a kind of `naming.KINDS`, the check that fails,
and how to plant the bug in the engine if it is not in the checked layer or loss.
"""

import numpy as np
from gradients.naming import Named, layer, network
from gradients.planting import put, rewritten

import minigd as gd
from minigd.nn.losses import Loss
from minigd.optim.gradient_transforms import Penalty


class Product(gd.Dense):
    """y = xU · xV, number by number; the mean is taken for U and not for V."""

    def build(self, n_in):
        self.add_param("U", (n_in, self.units), "glorot_normal")
        self.add_param("V", (n_in, self.units), "glorot_normal")
        return self.units

    def forward(self, x, train=False):
        left, right = x @ self.params["U"], x @ self.params["V"]
        if train:
            self.keep(x, left, right)
        return left * right

    def backward(self, dy):
        x, left, right = self.kept()
        dleft, dright = dy * right, dy * left
        self.grads["U"][...] = x.T @ dleft / len(x)
        self.grads["V"][...] = x.T @ dright
        return dleft @ self.params["U"].T + dright @ self.params["V"].T


class LayerNorm(gd.Layer):
    """Rows of mean 0 and variance 1, times a gain a column; the gain's gradient is summed."""

    def build(self, n_in):
        self.add_param("gain", (n_in,), "ones")
        self.add_param("shift", (n_in,))
        return n_in

    def forward(self, x, train=False):
        centred = x - x.mean(axis=1, keepdims=True)
        spread = np.sqrt((centred * centred).mean(axis=1, keepdims=True) + 1e-3)
        x_hat = centred / spread
        if train:
            self.keep(x_hat, spread)
        return x_hat * self.params["gain"] + self.params["shift"]

    def backward(self, dy):
        x_hat, spread = self.kept()
        self.grads["gain"][...] = (dy * x_hat).sum(axis=0)
        self.grads["shift"][...] = dy.mean(axis=0)
        d = dy * self.params["gain"]
        along = (d * x_hat).mean(axis=1, keepdims=True)
        return (d - d.mean(axis=1, keepdims=True) - x_hat * along) / spread


class SquaresOverN(gd.MeanSquaredError):
    """The squared error, whose gradient is divided by the rows that the layers divide by."""

    def gradient(self, z, y):
        return super().gradient(z, y) / len(z)


class Bent(gd.Dense):
    """f(xW + b), with the f of a subclass."""

    def forward(self, x, train=False):
        y = self.f(x @ self.params["W"] + self.params["b"])
        if train:
            self.keep(x, y)
        return y


class SigmoidDense(Bent):
    """sigmoid(xW + b). dz is divided by n for dW and db, and then used for dx."""

    def f(self, z):
        return 0.5 + 0.5 * np.tanh(0.5 * z)

    def backward(self, dy):
        x, y = self.kept()
        dz = dy * y * (1 - y) / len(x)
        self.grads["W"][...] = x.T @ dz
        self.grads["b"][...] = dz.sum(axis=0)
        return dz @ self.params["W"].T


class Distances(gd.Dense):
    """The squared distance of each row from each centre; the centres' gradient lacks its minus."""

    def build(self, n_in):
        self.add_param("C", (self.units, n_in), "he_normal")
        return self.units

    def forward(self, x, train=False):
        apart = x[:, None, :] - self.params["C"]
        if train:
            self.keep(apart)
        return (apart * apart).sum(axis=2)

    def backward(self, dy):
        (apart,) = self.kept()
        slope = 2 * dy[:, :, None] * apart
        self.grads["C"][...] = slope.mean(axis=0)
        return slope.sum(axis=1)


class TanhDense(Bent):
    """tanh(xW + b) with as many outputs as inputs; dW has its rows where its columns belong."""

    def f(self, z):
        return np.tanh(z)

    def backward(self, dy):
        x, y = self.kept()
        dz = dy * (1 - y * y)
        self.grads["W"][...] = dz.T @ x / len(x)
        self.grads["b"][...] = dz.mean(axis=0)
        return dz @ self.params["W"].T


class ReshapedDense(gd.Dense):
    """A dense layer whose dW came out the other way round and was reshaped until it fitted."""

    def backward(self, dy):
        (x,) = self._kept
        dx = super().backward(dy)
        self.grads["W"][...] = (dy.T @ x / len(x)).reshape(self.params["W"].shape)
        return dx


class BiasRow(gd.Dense):
    """[x, 1]·W, with the bias as the last row of W; that row gets no gradient."""

    def build(self, n_in):
        self.add_param("W", (n_in + 1, self.units), "glorot_uniform")
        return self.units

    def forward(self, x, train=False):
        if train:
            self.keep(x)
        return x @ self.params["W"][:-1] + self.params["W"][-1]

    def backward(self, dy):
        (x,) = self.kept()
        self.grads["W"][:-1] = x.T @ dy / len(x)
        return dy @ self.params["W"][:-1].T


class LoopedDense(gd.Dense):
    """A dense layer that fills dW a column at a time and stops one too early."""

    def backward(self, dy):
        (x,) = self.kept()
        self.grads["W"][...] = 0
        for k in range(self.units - 1):
            self.grads["W"][:, k] = (x * dy[:, k : k + 1]).mean(axis=0)
        self.grads["b"][...] = dy.mean(axis=0)
        return dy @ self.params["W"].T


class SoftplusDense(gd.Dense):
    """log(1 + exp(xW + b)), whose backward is that of xW + b."""

    def forward(self, x, train=False):
        return np.log1p(np.exp(super().forward(x, train)))


class BatchScale(gd.Layer):
    """Columns divided by their root mean square over the batch, which is taken for a constant."""

    def forward(self, x, train=False):
        size = np.sqrt((x * x).mean(axis=0) + 0.01)
        if train:
            self.keep(size)
        return x / size

    def backward(self, dy):
        (size,) = self.kept()
        return dy / size


class Cubic(gd.Layer):
    """a·x + c·x³ with a and c a column; x is stored when a batch of its shape first comes."""

    _x = None

    def build(self, n_in):
        self.add_param("a", (n_in,), "ones")
        self.add_param("c", (n_in,), "ones")
        return n_in

    def forward(self, x, train=False):
        if train and (self._x is None or self._x.shape != x.shape):
            self._x = x.copy()
        return self.params["a"] * x + self.params["c"] * x**3

    def backward(self, dy):
        x = self._x
        self.grads["a"][...] = (dy * x).mean(axis=0)
        self.grads["c"][...] = (dy * x**3).mean(axis=0)
        return dy * (self.params["a"] + 3 * self.params["c"] * x**2)


class LateTargets(gd.MeanSquaredError):
    """The squared error, whose gradient looks at the targets before it stores the new ones."""

    _stored = None

    def gradient(self, z, y):
        before, self._stored = self._stored, y.copy()
        if before is None or before.shape != y.shape:
            before = y
        return super().gradient(z, before)


class FixedBatchDense(gd.Dense):
    """A dense layer that divides by the batch size of the settings."""

    batch_size = 8

    def backward(self, dy):
        (x,) = self.kept()
        self.grads["W"][...] = x.T @ dy / self.batch_size
        self.grads["b"][...] = dy.sum(axis=0) / self.batch_size
        return dy @ self.params["W"].T


class FirstBatchShift(gd.Layer):
    """x + t, with a t a column; n is counted in the first batch and kept for the others."""

    _n = None

    def build(self, n_in):
        self.add_param("t", (n_in,))
        return n_in

    def forward(self, x, train=False):
        if train and self._n is None:
            self._n = len(x)
        return x + self.params["t"]

    def backward(self, dy):
        self.grads["t"][...] = dy.sum(axis=0) / self._n
        return dy


class DecayedDense(gd.Dense):
    """A dense layer that adds the gradient of the L2 penalty, which the training adds already."""

    decay = 0.1

    def backward(self, dy):
        dx = super().backward(dy)
        self.grads["W"] += self.decay * self.params["W"]
        return dx


class LeCunTanh(gd.Layer):
    """1.7159·tanh(2x/3), LeCun's choice; the derivative of 2x/3 is taken as 1."""

    def forward(self, x, train=False):
        t = np.tanh(2 / 3 * x)
        if train:
            self.keep(t)
        return 1.7159 * t

    def backward(self, dy):
        (t,) = self.kept()
        return 1.7159 * dy * (1 - t * t)


class HalfSquares(gd.Loss):
    """Half the sum of the squared errors, with the gradient of the whole."""

    def per_example(self, z, y):
        return 0.5 * ((z - y) ** 2).sum(axis=1)

    def gradient(self, z, y):
        return 2 * (z - y)


class LogCosh(gd.Loss):
    """The mean over the outputs of log cosh(z − y), with the gradient of their sum."""

    def per_example(self, z, y):
        return np.log(np.cosh(z - y)).mean(axis=1)

    def gradient(self, z, y):
        return np.tanh(z - y)


class Gated(gd.Layer):
    """x·sigmoid(xW), for any width. dW is added to the old values."""

    def build(self, n_in):
        self.add_param("W", (n_in, n_in), "glorot_uniform")
        return n_in

    def forward(self, x, train=False):
        gate = 0.5 + 0.5 * np.tanh(0.5 * (x @ self.params["W"]))
        if train:
            self.keep(x, gate)
        return x * gate

    def backward(self, dy):
        x, gate = self.kept()
        da = dy * x * gate * (1 - gate)
        self.grads["W"] += x.T @ da / len(x)
        return dy * gate + da @ self.params["W"].T


class TotalledDense(gd.Dense):
    """A dense layer that keeps a total of db and never sets it back to 0."""

    _total = 0.0

    def backward(self, dy):
        dx = super().backward(dy)
        self._total = self._total + dy.mean(axis=0)
        self.grads["b"][...] = self._total
        return dx


class Wave(gd.Layer):
    """sin(w·x + p) with w and p a column; dp is that of the first row."""

    def build(self, n_in):
        self.add_param("w", (n_in,), "ones")
        self.add_param("p", (n_in,))
        return n_in

    def forward(self, x, train=False):
        angle = self.params["w"] * x + self.params["p"]
        if train:
            self.keep(x, angle)
        return np.sin(angle)

    def backward(self, dy):
        x, angle = self.kept()
        slope = dy * np.cos(angle)
        self.grads["w"][...] = (slope * x).mean(axis=0)
        self.grads["p"][...] = slope[0]
        return slope * self.params["w"]


def deep(middle, outputs=2):
    """Return the layers of a network with a layer in its middle."""
    return lambda: [gd.Dense(5), gd.Tanh(), middle(), gd.Dense(outputs)]


def dense(outputs=2):
    """Return the layers of a network without a bug."""
    return lambda: [gd.Dense(4), gd.Tanh(), gd.Dense(outputs)]


def logits():
    """Return the cross-entropy of logits with two or more classes."""
    return gd.CategoricalCrossEntropy(from_logits=True)


def diagonal(y, dy):
    """Return dx of a softmax of which only the diagonal of the Jacobian is left."""
    return dy * y * (1 - y)


L1_ALONE = rewritten(Penalty, "add_gradient", "l2=self.l2", "l2=0.0")
UNWEIGHTED = rewritten(Loss, "backward", "dz * scale[:, None]", "dz.copy()")
DIAGONAL = put(gd.Softmax, "formula_backward", staticmethod(diagonal))

LOOPED = network(
    lambda: [LoopedDense(6), gd.Sigmoid(), gd.Dense(3)], logits, n=7, outputs=3, classes=True
)
SOFTMAX = network(lambda: [gd.Dense(4), gd.Softmax(), gd.Dense(2)], "huber", n=2)
FIXED = network(deep(lambda: FixedBatchDense(3), 1), "huber", n=5, outputs=1)
TOTALLED = network(lambda: [gd.Dense(3), gd.Tanh(), TotalledDense(2)], n=5, inputs=4)

PLANTED = [
    Named("bilinear layer: dV summed", "missing 1/n", layer(lambda: Product(3), 5, 4)),
    Named("layer norm: gain summed", "missing 1/n", network(deep(LayerNorm), n=12)),
    Named("squared error: dz over n", "1/n twice", network(dense(3), SquaresOverN, 9, 4, 3)),
    Named("sigmoid dense: dx over n", "1/n twice", network(deep(lambda: SigmoidDense(4)), n=4)),
    Named("distances: centres drawn away", "sign", layer(lambda: Distances(2), 3, 5)),
    Named("tanh dense: square dW turned", "transposed", layer(lambda: TanhDense(4), 1, 4)),
    Named("dense: dW reshaped", "transposed", network(deep(lambda: ReshapedDense(3)), n=10)),
    Named("bias row: never written", "stays zero", layer(lambda: BiasRow(3), 8, 2)),
    Named("dense by a loop: last column left out", "stays zero", LOOPED),
    Named("softplus dense: no slope", "Jacobian ignored", layer(lambda: SoftplusDense(3), 6, 5)),
    Named("softmax: the diagonal alone", "Jacobian ignored", SOFTMAX, DIAGONAL),
    Named("batch scale: a constant", "Jacobian ignored", layer(BatchScale, 11, 3)),
    Named("cubic: x of the first batch", "stale cache", layer(Cubic, 6, 3)),
    Named("squares: targets a batch late", "stale cache", network(dense(), LateTargets, n=5)),
    Named("dense: batch size of the settings", "tail's n", FIXED),
    Named("shift: n of the first batch", "tail's n", layer(FirstBatchShift, 12, 2)),
    Named(
        "loss: backward without the weights",
        "weight ignored",
        network(dense(), "huber", n=8, weighted=True),
        UNWEIGHTED,
    ),
    Named("penalty: L1 alone", "L2 forgotten", network(dense(), n=3, l1=0.02, l2=0.3), L1_ALONE),
    Named("dense: own decay", "L2 doubled", network(deep(lambda: DecayedDense(4)), l2=0.1)),
    Named("LeCun's tanh: 2/3 left out", "constant factor", layer(LeCunTanh, 4, 6)),
    Named("half squares: twice", "constant factor", network(dense(4), HalfSquares, n=1, outputs=4)),
    Named("log cosh: summed", "sum over K", network(dense(3), LogCosh, outputs=3)),
    Named("gated layer: dW added", "accumulated", network(deep(Gated), n=9)),
    Named("dense: a total of db", "accumulated", TOTALLED),
    Named("wave: phase of the first row", "first row only", layer(Wave, 7, 3)),
]
