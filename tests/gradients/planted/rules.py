"""Layers with the right gradient in float64 that break a rule of layers, and the message.

Each kind has several variants, because a student's next layer will be written differently.
"""

import math
from typing import NamedTuple

import numpy as np
from oracles import layers_by_students as right
from oracles.students import Elementwise, Identity

import minigd as gd


class Slip(NamedTuple):
    """A layer that breaks a rule, and a pattern of what has to be said of it."""

    kind: str
    layer: type[gd.Layer]
    says: str


class Square(gd.Layer):
    """x², whose parts a slip changes."""

    def forward(self, x, train=False):
        if train:
            self.keep(x)
        return x * x

    def backward(self, dy):
        (x,) = self.kept()
        return 2 * x * dy


# Training in float32 ------------------------------------------------------------------------------


class Float64Gelu(right.Gelu):
    """GELU by Python's erf, whose float64 is not converted back."""

    def forward(self, x, train=False):
        phi = 0.5 * (1 + self.erf(x / math.sqrt(2)))
        if train:
            self.keep(x, phi)
        return x * phi

    def backward(self, dy):
        return super().backward(dy).astype(dy.dtype)


class Float64Scalar(gd.Layer):
    """x times a scalar of NumPy's, which is float64."""

    def forward(self, x, train=False):
        return np.sqrt(2) * x

    def backward(self, dy):
        return (np.sqrt(2) * dy).astype(dy.dtype)


class Float64Ones(Square):
    """x² + 1 with ones of no dtype."""

    def forward(self, x, train=False):
        return super().forward(x, train) + np.ones(x.shape)


class Float64Dx(Elementwise):
    """A rectifier whose slope is cast to Python's float."""

    def f(self, x):
        return np.maximum(x, 0)

    def backward(self, dy):
        (x,) = self.kept()
        return dy * (x > 0).astype(float)


class Always32(Square):
    """A layer that casts to float32 in every model."""

    def forward(self, x, train=False):
        y = super().forward(x, train)
        return y if y.dtype.kind == "c" else y.astype("float32")


class Row(gd.Layer):
    """A sum over the columns, as a row and no column."""

    def build(self, n_in):
        return 1

    def forward(self, x, train=False):
        return x.sum(axis=1)

    def backward(self, dy):
        return np.repeat(dy, self.n_in, axis=1)


class Nothing(Square):
    """A layer that forgets to return dx."""

    def backward(self, dy):
        super().backward(dy)


class Vanishes(Elementwise):
    """log(x² + a constant that float32 does not have), at an exact 0."""

    def f(self, x):
        z = x - x
        return np.log(z * z + 1e-60) + x

    def slope(self, x):
        return np.ones(x.shape)


class Overflows(Elementwise):
    """log(exp(x)) far out, where float64 still has room."""

    def f(self, x):
        return np.log(np.exp(x + 300)) - 300

    def slope(self, x):
        return np.ones(x.shape)


class DxOverflows(Square):
    """A gradient whose factors leave the range of float32 one by one."""

    def backward(self, dy):
        return super().backward(dy) * 1e30 * 1e30 * 1e-60


class GradientOverflows(right.PRelu):
    """The gradient of a parameter that leaves it."""

    def backward(self, dy):
        dx = super().backward(dy)
        self.grads["a"] = self.grads["a"] * 1e30 * 1e30 * 1e-60
        return dx


class OneName(gd.Layer):
    """Two arrays of one name, which are one array in training."""

    def forward(self, x, train=False):
        a, b = self.empty("t", x.shape), self.empty("t", x.shape)
        np.multiply(x, 2, out=a)
        np.multiply(x, 3, out=b)
        if train:
            self.keep(a, b)
        return a * b

    def backward(self, dy):
        a, b = self.kept()
        return dy * (2 * b + 3 * a)


class NoSuchBuffer(right.RunningCentre):
    """A name in `running` that `build` does not know."""

    running = ("mean", "variance")


# train=False --------------------------------------------------------------------------------------


class ForgetsBias(gd.Layer):
    """x + b in training alone."""

    def build(self, n_in):
        self.add_param("b", (n_in,))
        return n_in

    def forward(self, x, train=False):
        return x + self.params["b"] if train else x

    def backward(self, dy):
        self.grads["b"] = dy.mean(axis=0)
        return dy


class ForgetsDenseBias(gd.Dense):
    """A dense layer that returns early in a prediction."""

    def __init__(self, units=3):
        super().__init__(units)

    def forward(self, x, train=False):
        return super().forward(x, train) if train else x @ self.params["W"]

    def config(self):
        return {"units": self.units}


class PredictsTwice(Square):
    """2x² in a prediction."""

    def forward(self, x, train=False):
        return super().forward(x, train) * (1 if train else 2)


class OtherEpsilon(right.Lengths):
    """An ε that is there in training alone."""

    def forward(self, x, train=False):
        y = super().forward(x, train)
        return y if train else x / np.sqrt((x * x).sum(axis=1, keepdims=True) + 1e-3)


class PredictsNothing(Square):
    """Returns in training alone."""

    def forward(self, x, train=False):
        return super().forward(x, train) if train else None


class PredictsRow(Square):
    """Another shape in a prediction."""

    def forward(self, x, train=False):
        y = super().forward(x, train)
        return y if train else y[:, 0]


class Predicts64(Square):
    """Another dtype in a prediction."""

    def forward(self, x, train=False):
        y = super().forward(x, train)
        return y if train else y * np.float64(1)


class MovesAlways(right.RunningCentre):
    """Running statistics that predictions move too."""

    def forward(self, x, train=False):
        mean = self.buffers["mean"]
        mean += 0.1 * (x.mean(axis=0) - mean)
        return x - (x.mean(axis=0) if train else mean)


class MovesParameter(ForgetsBias):
    """A bias that predictions clip."""

    def forward(self, x, train=False):
        if not train:
            self.params["b"] = 0.5 * self.params["b"]
        return x + self.params["b"]


class ClipsWeights(gd.Dense):
    """Weights that each pass clips where they lie."""

    def __init__(self, units=3):
        super().__init__(units)

    def forward(self, x, train=False):
        np.clip(self.params["W"].real, -0.3, 0.3, out=self.params["W"].real)
        return super().forward(x, train)

    def config(self):
        return {"units": self.units}


class NeverUsesBuffers(right.RunningCentre):
    """Running statistics that are moved, and the batch's own used all the same."""

    def forward(self, x, train=False):
        if train:
            return super().forward(x, train)
        return x - x.mean(axis=0)


class ForgetsBeta(right.RunningNorm):
    """A batch norm that predicts without its shift."""

    def forward(self, x, train=False):
        y = super().forward(x, train)
        return y if train else y - self.params["b"]


class DividesByNothing(right.RunningCentre):
    """A prediction divided by what is 0 where a training pass did not divide."""

    def forward(self, x, train=False):
        y = super().forward(x, train)
        return y if train else y / (self.buffers["mean"] * 0)


class KeepsAlways(Square):
    """x kept without a look at `train`."""

    def forward(self, x, train=False):
        self.keep(x)
        return x * x


class AttributeAlways(Square):
    """The same with an attribute."""

    def forward(self, x, train=False):
        self.x = x
        return x * x

    def backward(self, dy):
        return 2 * self.x * dy


class DictAlways(Square):
    """The same with a dict."""

    def __init__(self):
        self.cache = {}

    def forward(self, x, train=False):
        self.cache["x"] = x
        return x * x

    def backward(self, dy):
        return 2 * self.cache["x"] * dy


class HistoryAlways(Square):
    """A list that grows with each pass."""

    def __init__(self):
        self.history = []

    def forward(self, x, train=False):
        self.history.append(x.mean(axis=0))
        return super().forward(x, train)


class SizeAlways(right.Shift):
    """n of the last pass, a prediction's as well."""

    def forward(self, x, train=False):
        self.n = len(x)
        return x + self.params["t"]

    def backward(self, dy):
        self.grads["t"] = dy.sum(axis=0) / self.n
        return dy


class ForgetsKept(Square):
    """What is kept is dropped by a prediction."""

    def forward(self, x, train=False):
        self.forget()
        return super().forward(x, train)


class InPlace(Identity):
    """A prediction written over x."""

    def forward(self, x, train=False):
        if train:
            return 2 * x
        x *= 2
        return x

    def backward(self, dy):
        return 2 * dy


class DrawsAlways(right.Noise):
    """Noise in predictions too."""

    def forward(self, x, train=False):
        y = super().forward(x, train=True)
        if not train:
            self.forget()
        return y


# Rows ---------------------------------------------------------------------------------------------


class RowsOfOne(right.ScaleShift):
    """The squares of one parameter of two."""

    def row_squares(self, dy):
        (x,) = self.held
        return ((x * dy) ** 2).sum(axis=1)


class RowsOverN(right.ScaleShift):
    """Squares divided by n."""

    def row_squares(self, dy):
        return super().row_squares(dy) / len(dy)


class RowsRooted(right.ScaleShift):
    """The norm in place of its square."""

    def row_squares(self, dy):
        return np.sqrt(super().row_squares(dy))


class RowsOfAll(right.ScaleShift):
    """One number for the batch, in each row."""

    def row_squares(self, dy):
        return np.full(len(dy), super().row_squares(dy).mean())


class RowsAsColumn(right.ScaleShift):
    """A column in place of a row."""

    def row_squares(self, dy):
        return super().row_squares(dy)[:, None]


class RowsConsumed(right.ScaleShift):
    """What backward needs, used up before it."""

    def row_squares(self, dy):
        (x,) = self.kept()
        return ((x * dy) ** 2).sum(axis=1) + (dy * dy).sum(axis=1)


class RowsOfCoupled(right.RunningNorm):
    """Squares of rows that are coupled."""

    def row_squares(self, dy):
        y, _ = self.held
        return ((dy * y) ** 2).sum(axis=1) + (dy * dy).sum(axis=1)


class InheritsRows(right.BentDense):
    """A layer of its own that inherits what Dense says, and can't."""

    row_squares = gd.Dense.row_squares


class InheritsWrongRows(gd.Dense):
    """The same, where the inherited method runs and is wrong: W is a product."""

    def __init__(self, units=3):
        super().__init__(units)

    def build(self, n_in):
        super().build(n_in)
        self.add_param("g", (self.units,), "ones")
        return self.units

    def forward(self, x, train=False):
        return super().forward(x, train) * self.params["g"]

    def backward(self, dy):
        (x,) = self.held
        self.grads["g"] = (dy * (x @ self.params["W"] + self.params["b"])).mean(axis=0)
        return super().backward(dy * self.params["g"])

    def config(self):
        return {"units": self.units}


class BackwardOnce(right.ScaleShift):
    """A backward that changes its answer the second time."""

    def forward(self, x, train=False):
        self.fresh = True
        return super().forward(x, train)

    def backward(self, dy):
        dx = super().backward(dy)
        if not self.fresh:
            self.grads["s"] *= 2
        self.fresh = False
        return dx


# Arrays of their own ------------------------------------------------------------------------------


class Projection(gd.Layer):
    """x·P with P drawn in `build`, and nowhere declared."""

    def build(self, n_in):
        self.P = np.random.default_rng().standard_normal((n_in, 3)).astype("float32")
        return 3

    def forward(self, x, train=False):
        return x @ self.P

    def backward(self, dy):
        return dy @ self.P.T


class ProjectionInInit(Projection):
    """The same, drawn in the constructor for the widths that may come."""

    def __init__(self):
        self.of = {n: np.random.default_rng().standard_normal((n, 3)) for n in range(1, 9)}

    def build(self, n_in):
        return 3

    def forward(self, x, train=False):
        return x @ self.of[self.n_in].astype(x.dtype)

    def backward(self, dy):
        return dy @ self.of[self.n_in].T.astype(dy.dtype)


class ProjectionInForward(Projection):
    """The same, drawn when the first batch comes."""

    P = None

    def build(self, n_in):
        return 3

    def forward(self, x, train=False):
        if self.P is None:
            self.P = np.random.default_rng().standard_normal((self.n_in, 3)).astype("float32")
        return x @ self.P


class RunningAttribute(gd.Layer):
    """A running mean in an attribute that is set again."""

    def build(self, n_in):
        self.mean = np.zeros(n_in, "float32")
        return n_in

    def forward(self, x, train=False):
        if not train:
            return x - self.mean
        self.mean = 0.9 * self.mean + 0.1 * x.mean(axis=0)
        return x - x.mean(axis=0)

    def backward(self, dy):
        return dy - dy.mean(axis=0)


class RunningInPlace(RunningAttribute):
    """The same, updated in place."""

    def forward(self, x, train=False):
        if train:
            self.mean += 0.1 * (x.real.mean(axis=0) - self.mean)
            return x - x.mean(axis=0)
        return x - self.mean


class TrainsItself(gd.Layer):
    """x·a with a slope that the layer changes itself."""

    def build(self, n_in):
        self.a = np.full(n_in, 0.25, "float32")
        return n_in

    def forward(self, x, train=False):
        if train:
            self.keep(x)
        return x * self.a

    def backward(self, dy):
        (x,) = self.kept()
        dx = dy * self.a
        self.a = self.a - 0.1 * (x * dy).mean(axis=0)
        return dx


class CountsPasses(gd.Layer):
    """x over a number that each training pass raises."""

    def __init__(self):
        self.state = {"n": 0}

    def forward(self, x, train=False):
        if train:
            self.state["n"] += 1
        return x / (1 + 0.1 * self.state["n"])

    def backward(self, dy):
        return dy / (1 + 0.1 * self.state["n"])


class WarmsUp(gd.Layer):
    """A share of x that grows with each training pass, and x itself in a prediction."""

    draws = True

    def __init__(self):
        self.seen = 0

    def forward(self, x, train=False):
        self.seen += train
        return x * self.share() if train else x

    def backward(self, dy):
        return dy * self.share()

    def share(self):
        return self.seen / (1 + self.seen)


class TurnsSign(gd.Layer):
    """x and −x by turns."""

    sign = 1

    def forward(self, x, train=False):
        self.sign = -self.sign if train else self.sign
        return self.sign * x

    def backward(self, dy):
        return self.sign * dy


class NotWhenNew(gd.Layer):
    """2x in training and after it, and x before."""

    def __init__(self):
        self.used = False

    def forward(self, x, train=False):
        self.used = self.used or train
        return 2 * x if self.used else x

    def backward(self, dy):
        return 2 * dy


class ScaledByTheFirst(gd.Layer):
    """x over the largest number of the first batch."""

    largest = None

    def forward(self, x, train=False):
        if self.largest is None:
            self.largest = float(abs(x.real).max())
        return x / self.largest

    def backward(self, dy):
        return dy / self.largest


class RunningNumber(gd.Layer):
    """x, shifted in a prediction by the mean of all numbers seen, a number in an attribute."""

    mean = 0.0

    def forward(self, x, train=False):
        if not train:
            return x - self.mean
        self.mean = 0.9 * self.mean + 0.1 * float(x.real.mean())
        return x + 0

    def backward(self, dy):
        return dy


class NarrowConstructor(gd.Dense):
    """A subclass whose constructor takes less than `config` returns."""

    def __init__(self):
        super().__init__(3)


class Float64Table(gd.Layer):
    """x times a table of no dtype, which makes float64 of it."""

    def build(self, n_in):
        self.table = np.linspace(1, 2, n_in)
        return n_in

    def forward(self, x, train=False):
        return x * self.table

    def backward(self, dy):
        return dy * self.table


# Layers in layers ---------------------------------------------------------------------------------


class Inner(gd.Layer):
    """x + f(x) with f a layer from the constructor."""

    def __init__(self):
        self.inner = gd.Dense(3)

    def forward(self, x, train=False):
        return x + self.inner.forward(x, train)

    def backward(self, dy):
        return dy + self.inner.backward(dy)


class InnerInBuild(Inner):
    """The same with layers of a list, that `build` makes and builds."""

    def __init__(self):
        pass

    def build(self, n_in):
        self.parts = [gd.Tanh(), gd.Dense(n_in)]
        return self.parts[1].build(n_in)


class InnerBound(Inner):
    """The same with a layer that is bound by hand, and has no parameters all the same."""

    def __init__(self):
        pass

    def build(self, n_in):
        self.inner = gd.Dense(n_in)
        self.inner.bind("inner", self.backend, self._dtype, self._workspace, n_in)
        return n_in


class InnerOfClass(Inner):
    """The same with a layer of the class."""

    inner = gd.Tanh()

    def __init__(self):
        pass


OF_THE_MODULE = {"dense": gd.Dense(3), "norms": [gd.BatchNorm()], "bound": gd.Dense(3)}


class InnerOfModule(Inner):
    """The same with a layer of the module, whose `build` is called."""

    def __init__(self):
        pass

    def find(self):
        return OF_THE_MODULE["dense"]

    def build(self, n_in):
        return self.find().build(n_in)

    def forward(self, x, train=False):
        return x + self.find().forward(x, train)

    def backward(self, dy):
        return dy + self.find().backward(dy)


class InnerOfModuleInAList(InnerOfModule):
    """The same with a layer of a list in the module."""

    def find(self):
        return OF_THE_MODULE["norms"][0]


class InnerOfModuleBound(InnerOfModule):
    """The same with a layer of the module that is bound by hand."""

    def find(self):
        return OF_THE_MODULE["bound"]

    def build(self, n_in):
        self.find().bind("inner", self.backend, self._dtype, self._workspace, n_in)
        return n_in


class InnerBuiltInForward(InnerOfModule):
    """The same with a layer of the module that `forward` builds."""

    def build(self, n_in):
        return n_in

    def forward(self, x, train=False):
        self.find().build(x.shape[1])
        return super().forward(x, train)


class InnerBuiltAndDropped(InnerOfModule):
    """The same with a layer that `build` makes, builds and does not keep."""

    def build(self, n_in):
        return gd.Dense(n_in).build(n_in)


class InnerOfItsKind(gd.Dense):
    """A dense layer whose `build` goes to another one of its kind, a layer of the module."""

    def __init__(self):
        super().__init__(3)

    def config(self):
        return {}

    def build(self, n_in):
        return OF_ITS_KIND.build(n_in) if self is not OF_ITS_KIND else super().build(n_in)


OF_ITS_KIND = InnerOfItsKind()


class InnerLater(Inner):
    """The same with a layer made in `forward`."""

    def __init__(self):
        pass

    def forward(self, x, train=False):
        self.later = gd.Tanh()
        return x + self.later.forward(x, train)


class InnerPassing(Inner):
    """The same with a layer that is not registered."""

    def __init__(self):
        pass

    def forward(self, x, train=False):
        return x + gd.Tanh().forward(x, train)


class InnerModel(Inner):
    """The same with a whole model."""

    def __init__(self):
        pass

    def build(self, n_in):
        self.net = gd.Sequential([gd.Dense(n_in)], n_in)
        return n_in

    def forward(self, x, train=False):
        return x + self.net.forward(x, train)

    def backward(self, dy):
        return dy + self.net.backward(dy, input_gradient=True)


DTYPE = r"forward returned .*float64; .* and dtype float32: return y.astype\(x.dtype\)"
FINITE = r"in float32, as fit trains, {} is not finite"
KEEPS = r"keeps {} of a forward pass with train=False: .*`if train: self.keep\(x\)`"
ROWS = "row_squares gives .* for row .*, and the gradient of a batch of that row alone has"
BUFFER = r"""add_buffer\("{0}", self.{1}.shape, .*self.buffers\["{0}"\]"""

SLIPS = [
    Slip("float32", Float64Gelu, DTYPE),
    Slip("float32", Float64Scalar, DTYPE),
    Slip("float32", Float64Ones, DTYPE),
    Slip("float32", Float64Dx, r"backward returned .*: return dx.astype\(dy.dtype\)"),
    Slip("float32", Always32, r"float32; .* dtype float64: return y.astype\(x.dtype\)"),
    Slip("float32", Row, r"forward returned an array of shape \(7,\)"),
    Slip("float32", Nothing, "backward returned None"),
    Slip("float32", Vanishes, FINITE.format("the output")),
    Slip("float32", Overflows, FINITE.format("the output")),
    Slip("float32", DxOverflows, FINITE.format("dx")),
    Slip("float32", GradientOverflows, FINITE.format(r"the gradient of gradientoverflows1\.a")),
    Slip("float32", OneName, "gradients differ in training.*its own name"),
    Slip("float32", NoSuchBuffer, "running names 'variance', which is not a buffer"),
    Slip("train=False", ForgetsBias, "with train=False, forward leaves out b"),
    Slip("train=False", ForgetsDenseBias, "with train=False, forward leaves out b"),
    Slip("train=False", PredictsTwice, "gives different numbers with train=False and train=True"),
    Slip("train=False", OtherEpsilon, "gives different numbers with train=False and train=True"),
    Slip("train=False", PredictsNothing, "with train=False, .* forward returned None"),
    Slip("train=False", PredictsRow, r"with train=False, .* returned an array of shape \(7,\)"),
    Slip("train=False", Predicts64, f"with train=False, .* {DTYPE}"),
    Slip("train=False", MovesAlways, "changes the buffer 'mean' with train=False.* `if train:`"),
    Slip("train=False", MovesParameter, "changes the parameter 'b' with train=False"),
    Slip("train=False", ClipsWeights, "a pass changes the parameter 'W'"),
    Slip("train=False", NeverUsesBuffers, "depends on the other rows of the batch, not on 'mean'"),
    Slip("train=False", ForgetsBeta, "the parameter 'b' with train=True but not with train=False"),
    Slip("train=False", DividesByNothing, "with train=False, .* not finite"),
    Slip("train=False", KeepsAlways, KEEPS.format("arrays")),
    Slip("train=False", AttributeAlways, KEEPS.format(r"self\.x")),
    Slip("train=False", DictAlways, KEEPS.format(r"self\.cache\['x'\]")),
    Slip("train=False", HistoryAlways, KEEPS.format(r"self\.history\[1\]")),
    Slip("train=False", SizeAlways, "between forward and backward, changes the gradient"),
    Slip("train=False", ForgetsKept, "between forward and backward, changes the gradient"),
    Slip("train=False", InPlace, "modifies x with train=False"),
    Slip("train=False", DrawsAlways, "two predictions of the same rows differ"),
    Slip("rows", RowsOfOne, ROWS),
    Slip("rows", RowsOverN, ROWS),
    Slip("rows", RowsRooted, ROWS),
    Slip("rows", RowsOfAll, ROWS),
    Slip("rows", RowsAsColumn, r"row_squares returned shape \(7, 1\); it must .* \(7,\)"),
    Slip("rows", RowsConsumed, r"RuntimeError: .* reads self.held"),
    Slip("rows", RowsOfCoupled, f"{ROWS}.*row_squares = gd.Layer.row_squares"),
    Slip("rows", InheritsRows, "ValueError: .*row_squares = gd.Layer.row_squares"),
    Slip("rows", InheritsWrongRows, f"{ROWS}.* inherits it from Dense"),
    Slip("rows", BackwardOnce, "with clip_rows the gradient of 's' is wrong"),
    Slip(
        "declared", Projection, f"a copy of the layer.*self.P, an array.*{BUFFER.format('P', 'P')}"
    ),
    Slip("declared", ProjectionInInit, r"a copy of the layer.*it uses self\.of\[1\]"),
    Slip("declared", ProjectionInForward, "a copy of the layer.*self.P, an array"),
    Slip(
        "declared", RunningAttribute, r"a pass changes self.mean, an array.*running = \(\"mean\","
    ),
    Slip("declared", RunningInPlace, r"a pass changes self.mean, an array.*running = \(\"mean\","),
    Slip("declared", TrainsItself, r"a pass changes self.a, an array.*self.add_param\(\"a\""),
    *[
        Slip(
            "declared",
            layer,
            rf"a pass changes self\.{name}, a number that .*add_buffer\(\"\w+\", ",
        )
        for layer, name in (
            (CountsPasses, r"state\['n'\]"),
            (WarmsUp, "seen"),
            (TurnsSign, "sign"),
            (NotWhenNew, "used"),
            (ScaledByTheFirst, "largest"),
            (RunningNumber, "mean"),
        )
    ],
    Slip("declared", NarrowConstructor, r"can't be copied.* argument 'units'\. Define config"),
    Slip("declared", Float64Table, f"self.table is float64: .*{BUFFER.format('table', 'table')}"),
    *[
        Slip("layers", layer, rf"{layer.__name__} {how}.*self.hold\(self.layers, n_in\) in build")
        for layer, how in (
            (Inner, r"holds another layer, self\.inner = Dense\(...\), but a model builds"),
            (InnerInBuild, r"holds another layer, self\.parts\[0\] = Tanh\(...\)"),
            (InnerBound, r"holds another layer, self\.inner = Dense\(...\)"),
            (InnerOfClass, r"holds another layer, self\.inner = Tanh\(...\)"),
            (InnerOfModule, r"uses another layer, Dense\(...\)"),
            (InnerOfModuleInAList, r"uses another layer, BatchNorm\(...\)"),
            (InnerOfModuleBound, r"uses another layer, Dense\(...\)"),
            (InnerBuiltInForward, r"uses another layer, Dense\(...\)"),
            (InnerBuiltAndDropped, r"uses another layer, Dense\(...\)"),
            (InnerOfItsKind, r"uses another layer, InnerOfItsKind\(...\)"),
            (InnerLater, r"uses another layer, Tanh\(...\)"),
            (InnerPassing, r"uses another layer, Tanh\(...\)"),
            (InnerModel, r"holds a model, self\.net = Sequential\(...\).* Put its layers"),
        )
    ],
]

__all__ = ["SLIPS", "Slip"]
