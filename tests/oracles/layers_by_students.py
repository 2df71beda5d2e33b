"""Right layers of many kinds, as a student would write them. None may raise an alarm."""

import math

import numpy as np

import minigd as gd


class Swish(gd.Layer):
    """x · sigmoid(x)."""

    def forward(self, x, train=False):
        s = 1 / (1 + np.exp(-x))
        if train:
            self.keep(x, s)
        return x * s

    def backward(self, dy):
        x, s = self.kept()
        return dy * (s + x * s * (1 - s))


class Gelu(gd.Layer):
    """x · Φ(x) by Python's erf, brought back to the dtype of x."""

    erf = staticmethod(np.vectorize(math.erf))

    def forward(self, x, train=False):
        phi = (0.5 * (1 + self.erf(x / math.sqrt(2)))).astype(x.dtype)
        if train:
            self.keep(x, phi)
        return x * phi

    def backward(self, dy):
        x, phi = self.kept()
        return dy * (phi + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi))


class GeluByTanh(gd.Layer):
    """The approximation of GELU by a tanh."""

    def forward(self, x, train=False):
        t = np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))
        if train:
            self.keep(x, t)
        return 0.5 * x * (1 + t)

    def backward(self, dy):
        x, t = self.kept()
        inner = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x * x)
        return dy * 0.5 * (1 + t + x * (1 - t * t) * inner)


class Softplus(gd.Layer):
    """log(1 + exp(x))."""

    def forward(self, x, train=False):
        if train:
            self.keep(x)
        return np.log1p(np.exp(x))

    def backward(self, dy):
        (x,) = self.kept()
        return dy / (1 + np.exp(-x))


class PRelu(gd.Layer):
    """A rectifier with a trained slope a column below 0."""

    def build(self, n_in):
        self.add_param("a", (n_in,), lambda rng, shape: np.full(shape, 0.25))
        return n_in

    def forward(self, x, train=False):
        if train:
            self.keep(x)
        return np.where(x > 0, x, self.params["a"] * x)

    def backward(self, dy):
        (x,) = self.kept()
        self.grads["a"] = np.where(x > 0, 0, x * dy).mean(axis=0)
        return np.where(x > 0, dy, self.params["a"] * dy)


class LayerNorm(gd.Layer):
    """Rows of mean 0 and variance 1, scaled and shifted."""

    def build(self, n_in):
        self.add_param("g", (n_in,), "ones")
        self.add_param("b", (n_in,))
        return n_in

    def forward(self, x, train=False):
        centred = x - x.mean(axis=1, keepdims=True)
        spread = np.sqrt((centred * centred).mean(axis=1, keepdims=True) + 1e-5)
        if train:
            self.keep(centred / spread, spread)
        return centred / spread * self.params["g"] + self.params["b"]

    def backward(self, dy):
        y, spread = self.kept()
        self.grads["g"] = (dy * y).mean(axis=0)
        self.grads["b"] = dy.mean(axis=0)
        d = dy * self.params["g"]
        along = (d * y).mean(axis=1, keepdims=True)
        return (d - d.mean(axis=1, keepdims=True) - y * along) / spread


class RmsNorm(gd.Layer):
    """Rows over their root mean square, scaled."""

    def build(self, n_in):
        self.add_param("g", (n_in,), "ones")
        return n_in

    def forward(self, x, train=False):
        r = np.sqrt((x * x).mean(axis=1, keepdims=True) + 1e-6)
        if train:
            self.keep(x, r)
        return x / r * self.params["g"]

    def backward(self, dy):
        x, r = self.kept()
        self.grads["g"] = (dy * x / r).mean(axis=0)
        d = dy * self.params["g"]
        return d / r - x * (d * x).mean(axis=1, keepdims=True) / r**3


class Lengths(gd.Layer):
    """Rows of length 1."""

    def forward(self, x, train=False):
        r = np.sqrt((x * x).sum(axis=1, keepdims=True) + 1e-12)
        if train:
            self.keep(x / r, r)
        return x / r

    def backward(self, dy):
        y, r = self.kept()
        return (dy - y * (dy * y).sum(axis=1, keepdims=True)) / r


class ScaleShift(gd.Layer):
    """x·s + t, which says what each row adds."""

    def build(self, n_in):
        self.add_param("s", (n_in,), "ones")
        self.add_param("t", (n_in,))
        return n_in

    def forward(self, x, train=False):
        if train:
            self.keep(x)
        return x * self.params["s"] + self.params["t"]

    def backward(self, dy):
        (x,) = self.kept()
        self.grads["s"] = (x * dy).mean(axis=0)
        self.grads["t"] = dy.mean(axis=0)
        return dy * self.params["s"]

    def row_squares(self, dy):
        (x,) = self.held
        return ((x * dy) ** 2).sum(axis=1) + (dy * dy).sum(axis=1)


class Shift(gd.Layer):
    """x + t, which keeps a number and no array, and says what each row adds."""

    def build(self, n_in):
        self.add_param("t", (n_in,))
        return n_in

    def forward(self, x, train=False):
        if train:
            self.keep(len(x))
        return x + self.params["t"]

    def backward(self, dy):
        (n,) = self.kept()
        self.grads["t"] = dy.sum(axis=0) / n
        return dy

    def row_squares(self, dy):
        return (dy * dy).sum(axis=1)


class RefusesRows(ScaleShift):
    """The same, which would rather not say."""

    def row_squares(self, dy):
        raise ValueError("rows are not looked at here")


class BentDense(gd.Dense):
    """tanh(xW + b), which does not say what Dense says of its rows."""

    row_squares = gd.Layer.row_squares

    def __init__(self, units=3):
        super().__init__(units)

    def forward(self, x, train=False):
        y = np.tanh(x @ self.params["W"] + self.params["b"])
        if train:
            self.keep(x, y)
        return y

    def backward(self, dy):
        x, y = self.kept()
        dz = dy * (1 - y * y)
        self.grads["W"] = x.T @ dz / len(x)
        self.grads["b"] = dz.mean(axis=0)
        return dz @ self.params["W"].T

    def config(self):
        return {"units": self.units}


class Maxout(gd.Layer):
    """The larger of each two columns."""

    def build(self, n_in):
        if n_in % 2:
            raise ValueError("Maxout takes an even number of columns")
        return n_in // 2

    def forward(self, x, train=False):
        pairs = x.reshape(len(x), -1, 2)
        if train:
            self.keep(pairs.argmax(axis=2))
        return pairs.max(axis=2)

    def backward(self, dy):
        (best,) = self.kept()
        dx = np.zeros((*dy.shape, 2), dy.dtype)
        np.put_along_axis(dx, best[:, :, None], dy[:, :, None], axis=2)
        return dx.reshape(len(dy), -1)


class Residual(gd.Layer):
    """x + tanh(xW + b)."""

    def build(self, n_in):
        self.add_param("W", (n_in, n_in), "glorot_uniform")
        self.add_param("b", (n_in,))
        return n_in

    def forward(self, x, train=False):
        t = np.tanh(x @ self.params["W"] + self.params["b"])
        if train:
            self.keep(x, t)
        return x + t

    def backward(self, dy):
        x, t = self.kept()
        dz = dy * (1 - t * t)
        self.grads["W"] = x.T @ dz / len(x)
        self.grads["b"] = dz.mean(axis=0)
        return dy + dz @ self.params["W"].T


class Polynomial(gd.Layer):
    """x, x², x³ side by side."""

    def __init__(self, degree=3):
        self.degree = degree

    def build(self, n_in):
        return n_in * self.degree

    def forward(self, x, train=False):
        if train:
            self.keep(x)
        return np.concatenate([x**k for k in range(1, self.degree + 1)], axis=1)

    def backward(self, dy):
        (x,) = self.kept()
        parts = np.split(dy, self.degree, axis=1)
        return sum(k * x ** (k - 1) * part for k, part in enumerate(parts, 1))


class FixedProjection(gd.Layer):
    """cos(xP + b) with P and b drawn once, in buffers."""

    def __init__(self, units=3):
        self.units = units

    def build(self, n_in):
        self.add_buffer("P", (n_in, self.units), "glorot_normal")
        self.add_buffer("b", (self.units,), lambda rng, shape: rng.uniform(0, 6, shape))
        return self.units

    def forward(self, x, train=False):
        z = x @ self.buffers["P"] + self.buffers["b"]
        if train:
            self.keep(z)
        return np.cos(z)

    def backward(self, dy):
        (z,) = self.kept()
        return -(dy * np.sin(z)) @ self.buffers["P"].T


class GatedUnit(gd.Layer):
    """xV · sigmoid(xW)."""

    def __init__(self, units=3):
        self.units = units

    def build(self, n_in):
        self.add_param("V", (n_in, self.units), "glorot_uniform")
        self.add_param("W", (n_in, self.units), "glorot_uniform")
        return self.units

    def forward(self, x, train=False):
        a, s = x @ self.params["V"], 1 / (1 + np.exp(-(x @ self.params["W"])))
        if train:
            self.keep(x, a, s)
        return a * s

    def backward(self, dy):
        x, a, s = self.kept()
        da, db = dy * s, dy * a * s * (1 - s)
        self.grads["V"] = x.T @ da / len(x)
        self.grads["W"] = x.T @ db / len(x)
        return da @ self.params["V"].T + db @ self.params["W"].T


class Centres(gd.Layer):
    """exp of minus the squared distance from each centre."""

    def __init__(self, units=4):
        self.units = units

    def build(self, n_in):
        self.add_param("C", (self.units, n_in), "he_normal")
        return self.units

    def forward(self, x, train=False):
        apart = x[:, None, :] - self.params["C"]
        y = np.exp(-(apart * apart).sum(axis=2))
        if train:
            self.keep(apart, y)
        return y

    def backward(self, dy):
        apart, y = self.kept()
        slope = 2 * (dy * y)[:, :, None] * apart
        self.grads["C"] = slope.mean(axis=0)
        return -slope.sum(axis=1)


class Noise(gd.Layer):
    """x times numbers near 1, drawn in training by the rule."""

    draws = True

    def forward(self, x, train=False):
        if not train:
            return x
        rng = np.random.default_rng([*self.place, self.passes])
        factor = (1 + 0.1 * rng.standard_normal(x.shape)).astype(x.real.dtype)
        self.keep(factor)
        return x * factor

    def backward(self, dy):
        (factor,) = self.kept()
        return dy * factor


class DropWeights(gd.Layer):
    """xW with some of W left out in training."""

    draws = True

    def build(self, n_in):
        self.add_param("W", (n_in, 3), "glorot_uniform")
        return 3

    def forward(self, x, train=False):
        W = self.params["W"]
        if not train:
            return x @ W
        rng = np.random.default_rng([*self.place, self.passes])
        mask = (rng.random(W.shape) < 0.7) / np.float32(0.7)
        self.keep(x, mask)
        return x @ (W * mask)

    def backward(self, dy):
        x, mask = self.kept()
        self.grads["W"] = x.T @ dy / len(x) * mask
        return dy @ (self.params["W"] * mask).T

    def row_squares(self, dy):
        x, mask = self.held
        return np.array([((np.outer(a, b) * mask) ** 2).sum() for a, b in zip(x, dy, strict=True)])


class RunningNorm(gd.Layer):
    """Batch norm with running statistics."""

    running = ("mean", "var")

    def build(self, n_in):
        self.add_param("g", (n_in,), "ones")
        self.add_param("b", (n_in,))
        self.add_buffer("mean", (n_in,))
        self.add_buffer("var", (n_in,), "ones")
        return n_in

    def forward(self, x, train=False):
        mean, var = self.buffers["mean"], self.buffers["var"]
        if train:
            m = x.mean(axis=0)
            v = ((x - m) ** 2).mean(axis=0)
            mean += 0.1 * (m - mean)
            var += 0.1 * (v - var)
            mean, var = m, v
        spread = np.sqrt(var + 1e-5)
        y = (x - mean) / spread
        if train:
            self.keep(y, spread)
        return y * self.params["g"] + self.params["b"]

    def backward(self, dy):
        y, spread = self.kept()
        self.grads["g"] = (dy * y).mean(axis=0)
        self.grads["b"] = dy.mean(axis=0)
        d = dy * self.params["g"]
        return (d - d.mean(axis=0) - y * (d * y).mean(axis=0)) / spread


class RunningCentre(gd.Layer):
    """x less the mean of the batch, and in a prediction less the mean so far."""

    running = ("mean",)

    def build(self, n_in):
        self.add_buffer("mean", (n_in,))
        return n_in

    def forward(self, x, train=False):
        if not train:
            return x - self.buffers["mean"]
        mean = x.mean(axis=0)
        self.buffers["mean"] = 0.9 * self.buffers["mean"] + 0.1 * mean
        return x - mean

    def backward(self, dy):
        return dy - dy.mean(axis=0)


class CountsBatches(gd.Layer):
    """2x, with a count of its training passes in a buffer that is not used."""

    running = ("n",)

    def build(self, n_in):
        self.add_buffer("n", (1,))
        return n_in

    def forward(self, x, train=False):
        if train:
            self.buffers["n"] += 1
        return 2 * x

    def backward(self, dy):
        return 2 * dy


class CountsCalls(gd.Layer):
    """2x, with numbers to look at in plain attributes."""

    def __init__(self):
        self.calls = 0

    def build(self, n_in):
        self.seen = np.zeros(n_in)
        return n_in

    def forward(self, x, train=False):
        self.calls += 1
        if train:
            self.seen = 0.9 * self.seen + 0.1 * x.mean(axis=0)
        return 2 * x

    def backward(self, dy):
        return 2 * dy


class ByAttribute(gd.Layer):
    """x², with x in an attribute in training."""

    def forward(self, x, train=False):
        if train:
            self.cache = {"x": x}
        return x * x

    def backward(self, dy):
        return 2 * self.cache["x"] * dy


class InWorkspace(gd.Layer):
    """x² in the memory that a layer is given to work in."""

    def forward(self, x, train=False):
        y = self.empty("y", x.shape)
        np.multiply(x, x, out=y)
        if train:
            self.keep(x)
        return y

    def backward(self, dy):
        (x,) = self.kept()
        dx = self.empty("dx", x.shape)
        np.multiply(2 * x, dy, out=dx)
        return dx


class Positions(gd.Layer):
    """X plus a wave over the columns, computed again each time."""

    def forward(self, x, train=False):
        return x + np.sin(np.arange(self.n_in)).astype(x.real.dtype)

    def backward(self, dy):
        return dy


class BufferedTable(gd.Layer):
    """x·t with a constant table in a buffer."""

    def build(self, n_in):
        self.add_buffer("t", (n_in,), lambda rng, shape: np.linspace(1, 2, n_in))
        return n_in

    def forward(self, x, train=False):
        return x * self.buffers["t"]

    def backward(self, dy):
        return dy * self.buffers["t"]


class RunningNumber(gd.Layer):
    """x, shifted in a prediction by the running mean of all numbers, which a buffer holds."""

    running = ("mean",)

    def build(self, n_in):
        self.add_buffer("mean", (1,))
        return n_in

    def forward(self, x, train=False):
        if not train:
            return x - self.buffers["mean"]
        self.buffers["mean"] = 0.9 * self.buffers["mean"] + 0.1 * x.mean()
        return x + 0

    def backward(self, dy):
        return dy


class WarmsUp(gd.Layer):
    """A factor that grows with the number of the pass."""

    draws = True

    def forward(self, x, train=False):
        if not train:
            return x
        self.factor = min(1.0, 0.1 * (1 + self.passes))
        return x * self.factor

    def backward(self, dy):
        return dy * self.factor


class Training(gd.Layer):
    """3x, with another name for `train`."""

    def forward(self, x, training=False):
        return 3 * x

    def backward(self, dy):
        return 3 * dy


ALL = [
    *[Swish, Gelu, GeluByTanh, Softplus, PRelu, LayerNorm, RmsNorm, Lengths, ScaleShift, Shift],
    *[RefusesRows, BentDense, Maxout, Residual, Polynomial, FixedProjection, GatedUnit, Centres],
    *[Noise, DropWeights, RunningNorm, RunningCentre, CountsBatches, CountsCalls, ByAttribute],
    *[InWorkspace, Positions, BufferedTable, RunningNumber, WarmsUp, Training],
]
