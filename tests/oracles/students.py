"""Layers as a student would write them, each with a common mistake.

``slip`` makes the gradient wrong and leaves the forward pass right.
"""

import math

import numpy as np

import minigd as gd


class Scale(gd.Layer):
    """y = x·s + t, a parameter a column; the slip is a sum where the mean belongs."""

    def __init__(self, slip=False):
        self.slip = slip

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
        mean = np.sum if self.slip else np.mean
        self.grads["s"][...] = mean(x * dy, axis=0)
        self.grads["t"][...] = mean(dy, axis=0)
        return dy * self.params["s"]


class Elementwise(gd.Layer):
    """y = f(x), a number at a time; a subclass gives f and its slope."""

    def __init__(self, slip=False):
        self.slip = slip

    def f(self, x):
        raise NotImplementedError

    def slope(self, x):
        raise NotImplementedError

    def forward(self, x, train=False):
        if train:
            self.keep(x)
        return self.f(x)

    def backward(self, dy):
        (x,) = self.kept()
        return (dy * self.slope(x) * (1.1 if self.slip else 1.0)).astype(dy.dtype)


class FloatTanh(Elementwise):
    """tanh by Python's math module, which takes no complex number."""

    def f(self, x):
        return np.vectorize(math.tanh, otypes=[x.dtype])(x)

    def slope(self, x):
        return 1 - self.f(x) ** 2


class Softsign(Elementwise):
    """x / (1 + |x|) by np.abs, which silently drops the imaginary part."""

    def f(self, x):
        return x / (1 + np.abs(x))

    def slope(self, x):
        return 1 / (1 + np.abs(x)) ** 2


class Magnitude(Elementwise):
    """|x| by np.abs, which makes a real array of a complex one."""

    def f(self, x):
        return np.abs(x)

    def slope(self, x):
        return np.sign(x)


class SignTimes(Elementwise):
    """|x| as x·sign(x), where sign has a derivative of its own in complex numbers."""

    def f(self, x):
        return x * np.sign(x)

    def slope(self, x):
        return np.sign(x)


class Leaky(Elementwise):
    """max(x, x/10), with a comparison of complex numbers."""

    def f(self, x):
        return np.where(x > 0, x, 0.1 * x)

    def slope(self, x):
        return np.where(x > 0, 1.0, 0.1)


class Rectifier(Elementwise):
    """max(x, 0) by np.maximum."""

    def f(self, x):
        return np.maximum(x, 0)

    def slope(self, x):
        return (x > 0).astype(float)


class HardTanh(Elementwise):
    """x cut to −1 … 1, with two kinks."""

    def f(self, x):
        return np.clip(x, -1, 1)

    def slope(self, x):
        return (np.abs(x) < 1).astype(float)


class RealOnly(Elementwise):
    """x² written into an array of floats."""

    def f(self, x):
        y = np.zeros(x.shape, x.real.dtype)
        y[...] = x * x
        return y

    def slope(self, x):
        return 2 * x


class Square(Elementwise):
    """x², whose slope at 0 is 0 while the slopes next to it differ in sign."""

    def f(self, x):
        return x * x

    def slope(self, x):
        return 2 * x


class Widen(gd.Layer):
    """[x, x²] side by side, a layer that changes the width; the slip forgets the second half."""

    def __init__(self, slip=False):
        self.slip = slip

    def build(self, n_in):
        return 2 * n_in

    def forward(self, x, train=False):
        if train:
            self.keep(x)
        return np.hstack([x, x * x])

    def backward(self, dy):
        (x,) = self.kept()
        first, second = np.hsplit(dy, 2)
        return first.copy() if self.slip else first + 2 * x * second


class Normalize(gd.Layer):
    """Columns of mean 0 and variance 1, which couples rows; the slip takes both for constants."""

    def __init__(self, slip=False):
        self.slip = slip

    def build(self, n_in):
        self.add_param("scale", (n_in,), "ones")
        return n_in

    def forward(self, x, train=False):
        centred = x - x.mean(axis=0)
        spread = np.sqrt((centred * centred).mean(axis=0) + 1e-3)
        if train:
            self.keep(centred / spread, spread)
        return self.params["scale"] * centred / spread

    def backward(self, dy):
        y, spread = self.kept()
        self.grads["scale"][...] = (dy * y).mean(axis=0)
        dy = dy * self.params["scale"]
        if self.slip:
            return dy / spread
        return (dy - dy.mean(axis=0) - y * (dy * y).mean(axis=0)) / spread


class Center(gd.Layer):
    """Rows less their mean; the slip returns dy as it came."""

    def __init__(self, slip=False):
        self.slip = slip

    def forward(self, x, train=False):
        return x - x.mean(axis=1, keepdims=True)

    def backward(self, dy):
        return dy if self.slip else dy - dy.mean(axis=1, keepdims=True)


class Identity(gd.Layer):
    """x itself, not a copy; the slip is a sign."""

    def __init__(self, slip=False):
        self.slip = slip

    def forward(self, x, train=False):
        return x

    def backward(self, dy):
        return -dy if self.slip else dy


ALL = [
    *[Scale, FloatTanh, Softsign, Magnitude, SignTimes, Leaky, Rectifier, HardTanh, RealOnly],
    *[Square, Widen, Normalize, Center, Identity],
]
KINKED = [Magnitude, SignTimes, Leaky, Rectifier, HardTanh]
