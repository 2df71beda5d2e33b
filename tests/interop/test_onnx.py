"""ONNX files: ONNX Runtime computes from them what `predict` computes, whatever the layers.

Where large numbers cancel, two programs differ by what rounding does; a bound of that is carried
through the layers beside their values.
"""

import json
import os
import sys

import numpy as np
import onnx
import onnx.reference
import onnxruntime
import pytest
from budgets import examples
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

import minigd as gd
from minigd.interop import onnx as export

# Relative to the largest output.
ALLOWED = {"float32": 1e-5, "float64": 1e-12}
# Below the normal numbers of float32 rounding is no longer relative, for each product of a sum.
UNDERFLOW = 16 * 2.0**-126


def session(path, optimized=True):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(os.fspath(path), options, ["CPUExecutionProvider"])


def run(path, x, optimized=True):
    """Return what ONNX Runtime computes from a file that onnx's own checker lets pass."""
    onnx.checker.check_model(onnx.load(path), full_check=True)
    (y,) = session(path, optimized).run(["y"], {"x": x})
    return y


# Truth ----------------------------------------------------------------------------------------


def truth(model, x, u):
    """Return outputs in double precision, from the formulas, and what rounding by u can change.

    An error e of a layer's input becomes at most its slope times e, and each of its own sums and
    products adds u times what it rounds (Higham 2002, "Accuracy and stability of numerical
    algorithms", section 3.1: n + 2 roundings for n products, their sum and the bias).
    """
    x = x.astype("float64")
    return through(model.layers, x, np.zeros_like(x), u)


def through(layers, x, e, u):
    """Return what layers make of x, and the error of it for an error of x."""
    for layer in layers:
        p = {name: value.astype("float64") for name, value in layer.params.items()}
        b = {name: value.astype("float64") for name, value in layer.buffers.items()}
        if isinstance(layer, gd.Dense):
            bias = p.get("b", 0)
            most = abs(x) @ abs(p["W"]) + abs(bias)
            x, e = x @ p["W"] + bias, e @ abs(p["W"]) + (layer.n_in + 2) * u * most
        elif isinstance(layer, gd.Tanh):
            x = np.tanh(x)
            e = e + 4 * u
        elif isinstance(layer, gd.Sigmoid):
            x = 1 / (1 + np.exp(np.minimum(-x, 700)))
            e = e / 4 + 4 * u
        elif isinstance(layer, gd.ReLU):
            x = np.maximum(x, 0)
        elif isinstance(layer, gd.LeakyReLU):
            x = np.where(x > 0, x, layer.slope * x)
            e = e + 2 * u * abs(x)
        elif isinstance(layer, gd.ELU):
            x = np.where(x > 0, x, layer.alpha * np.expm1(np.minimum(x, 0)))
            e = e * max(1, layer.alpha) + 8 * u * (abs(x) + layer.alpha)
        elif isinstance(layer, gd.GELU | gd.SiLU | gd.Softplus):
            slope = 1.2  # at most, of each of them
            e = slope * e + 16 * u * (abs(x) + 1)
            cubic = np.sqrt(8 / np.pi) * (x + 0.044715 * np.clip(x, -40, 40) ** 3)
            if isinstance(layer, gd.Softplus):
                x = np.logaddexp(0, x)
            elif isinstance(layer, gd.SiLU):
                x = x * special.expit(x)
            else:
                x = x * (special.expit(cubic) if layer.approximate else special.ndtr(x))
        elif isinstance(layer, gd.LayerNorm):
            mean = x.mean(axis=1, keepdims=True)
            center = x - mean
            root = np.sqrt((center**2).mean(axis=1, keepdims=True) + layer.epsilon)
            # What rounds or moves a row's numbers moves their mean as much, and their spread.
            moved = e + (layer.n_in + 8) * u * abs(x).max(axis=1, keepdims=True)
            moved = 2 * moved.max(axis=1, keepdims=True) + 0 * e
            x = center / root
            most = np.sqrt(layer.n_in)
            e = abs(p["gamma"]) * (np.minimum(2 * moved / root, 2) * most + 8 * u * most)
            e = e + 2 * u * abs(p["beta"])
            x = x * p["gamma"] + p["beta"]
        elif isinstance(layer, gd.Softmax):
            shifted = np.exp(x - x.max(axis=1, keepdims=True))
            x = shifted / shifted.sum(axis=1, keepdims=True)
            change = np.expm1(np.minimum(2 * e.max(axis=1, keepdims=True), 1))
            e = np.minimum(1, x * change + 8 * u + 0 * e)
        elif isinstance(layer, gd.BatchNorm):
            scale = abs(p["gamma"]) / np.sqrt(b["variance"] + layer.epsilon)
            e = (e + 8 * u * abs(x - b["mean"])) * scale + 2 * u * abs(p["beta"])
            x = (x - b["mean"]) / np.sqrt(b["variance"] + layer.epsilon) * p["gamma"] + p["beta"]
        elif isinstance(layer, gd.Standardize):
            e = (e + 4 * u * abs(x - b["mean"])) / b["std"]
            x = (x - b["mean"]) / b["std"]
        elif isinstance(layer, gd.Residual):
            inner, own = through(layer.layers, x, e, u)
            x = x + inner
            e = e + own + u * abs(x)
        elif isinstance(layer, gd.Rescale):
            e = e * b["std"] + 4 * u * (abs(x) * b["std"] + abs(b["mean"]))
            x = x * b["std"] + b["mean"]
        else:
            assert isinstance(layer, gd.Dropout)
        e = e + UNDERFLOW
    return x, e


# Any model ------------------------------------------------------------------------------------

widths = st.integers(1, 9)
layers = st.one_of(
    st.builds(gd.Dense, widths, bias=st.booleans()),
    st.builds(gd.Tanh),
    st.builds(gd.Sigmoid),
    st.builds(gd.ReLU),
    st.builds(gd.LeakyReLU, st.floats(0, 0.99)),
    st.builds(gd.ELU, st.floats(0, 3)),
    st.builds(gd.GELU, st.booleans()),
    st.sampled_from([gd.SiLU, gd.Softplus]).map(lambda kind: kind()),
    st.builds(gd.LayerNorm, st.sampled_from([1e-7, 1e-5, 1e-3, 1.0])),
    st.builds(gd.Softmax),
    st.builds(lambda: gd.Residual([gd.LayerNorm(), gd.Residual([gd.GELU()])])),
    st.builds(gd.BatchNorm, st.floats(0, 0.99), st.sampled_from([1e-7, 1e-5, 1e-3, 1.0])),
    st.builds(gd.Dropout, st.floats(0, 0.99)),
)


@st.composite
def models(draw):
    """Draw a model of any layers, as far trained as a few passes make it, and rows for it."""
    chosen = draw(st.lists(layers, max_size=6))
    if draw(st.booleans()):
        chosen.insert(0, gd.Standardize())
    if draw(st.booleans()) or not chosen:
        chosen.append(gd.Rescale())
    dtype = draw(st.sampled_from(["float32", "float64"]))
    model = gd.Sequential(chosen, draw(widths), dtype=dtype, seed=draw(st.integers(0, 99)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    for name, value in model.params.items():
        if not name.endswith("W"):
            value[...] = rng.normal(size=value.shape)
    n = draw(st.sampled_from([1, 2, 64]))
    X = rng.normal(draw(st.sampled_from([0, 1, 1e4])), 1, size=(n, model.n_in))
    X *= draw(st.sampled_from([1e-4, 1.0, 1e6]))
    Y = rng.normal(3, draw(st.sampled_from([1e-3, 1.0, 1e6])), size=(n, model.n_out))
    if draw(st.booleans()):
        X[:, draw(st.integers(0, model.n_in - 1))] = X[0, 0]
    if any(isinstance(layer, gd.Standardize | gd.Rescale) for layer in chosen):
        model.adapt(gd.Batches(X, Y))
    for _ in range(draw(st.integers(0, 3))):
        model.forward(X, train=True)  # moves the running statistics of BatchNorm
    return model, X.astype(dtype)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("onnx") / "m.onnx"


@examples(50)
@given(drawn=models())
def test_onnx_runtime_agrees_with_every_model(path, drawn):
    model, x = drawn
    gd.export_onnx(model, path)
    y = model.predict(x)
    # By default ONNX Runtime keeps some constants of a float64 graph in float32.
    for optimized in (True, False):
        narrow = model.dtype == "float32" or optimized
        exact, rounding = truth(model, x, 2.0**-24 if narrow else 2.0**-53)
        relative = ALLOWED["float32" if narrow else "float64"]
        theirs = run(path, x, optimized)
        assert theirs.dtype == y.dtype
        assert theirs.shape == y.shape
        assert (abs(theirs - exact) <= relative * abs(y).max() + rounding).all()
        assert (abs(theirs - y) <= np.maximum(relative * abs(y).max(), 2 * rounding)).all()
        alone = run(path, x[:1], optimized)
        assert (abs(alone - y[:1]) <= np.maximum(relative * abs(y).max(), 2 * rounding[:1])).all()


# Each layer -----------------------------------------------------------------------------------

EACH = {
    "dense": lambda: [gd.Dense(5)],
    "dense without a bias": lambda: [gd.Dense(5, bias=False)],
    "tanh": lambda: [gd.Tanh()],
    "sigmoid": lambda: [gd.Sigmoid()],
    "relu": lambda: [gd.ReLU()],
    "leaky relu": lambda: [gd.LeakyReLU(0.3)],
    "elu": lambda: [gd.ELU(1.5)],
    "gelu": lambda: [gd.GELU()],
    "gelu by tanh": lambda: [gd.GELU(approximate=True)],
    "silu": lambda: [gd.SiLU()],
    "softplus": lambda: [gd.Softplus()],
    "layer norm": lambda: [gd.LayerNorm(epsilon=0.1)],
    "softmax": lambda: [gd.Softmax()],
    "batch norm": lambda: [gd.BatchNorm(epsilon=0.1)],
    "dropout": lambda: [gd.Dropout(0.5)],
    "residual": lambda: [
        gd.Residual(
            [gd.Dense(3), gd.BatchNorm(), gd.Residual([gd.Dropout(0.5), gd.GELU()]), gd.Dense(4)]
        )
    ],
    "standardize": lambda: [gd.Standardize()],
    "rescale": lambda: [gd.Dense(1), gd.Rescale()],
    "all": lambda: [
        gd.Standardize(),
        *[gd.Dense(8, bias=False), gd.BatchNorm(), gd.ReLU(), gd.Dropout(0.2)],
        *[gd.Dense(8), gd.Tanh(), gd.Dense(8), gd.LeakyReLU(), gd.Dense(8), gd.Sigmoid()],
        *[gd.Dense(8), gd.Softmax(), gd.Dense(2), gd.Rescale()],
    ],
}


def trained(layers, dtype="float32", backend="numpy"):
    """Return a model that has seen rows, with every parameter and statistic away from its first."""
    rng = np.random.default_rng(0)
    X, Y = rng.normal(5, 3, size=(200, 4)), rng.normal(1e5, 2e4, size=(200, 1))
    X[:, 2] = 7
    model = gd.Sequential(layers, 4, dtype=dtype, seed=3, backend=backend)
    if isinstance(layers[0], gd.Standardize) or isinstance(layers[-1], gd.Rescale):
        model.adapt(gd.Batches(X, Y + np.arange(model.n_out)))
    model.forward(model.backend.asarray(X[:50]), train=True)
    model.flat_params += model.backend.asarray(rng.normal(size=model.flat_params.size), dtype=dtype)
    return model, X.astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("make", EACH.values(), ids=EACH)
def test_each_layer_in_two_runtimes(tmp_path, make, dtype):
    model, x = trained(make(), dtype)
    gd.export_onnx(model, tmp_path / "m.onnx")
    y = model.predict(x)
    largest = abs(y).max()
    assert abs(run(tmp_path / "m.onnx", x, optimized=False) - y).max() <= ALLOWED[dtype] * largest
    (theirs,) = onnx.reference.ReferenceEvaluator(str(tmp_path / "m.onnx")).run(None, {"x": x})
    assert abs(theirs - y).max() <= ALLOWED[dtype] * largest


def test_every_layer_of_the_package_can_be_exported():
    from minigd.nn.layers import LAYERS

    assert {type(layer) for make in EACH.values() for layer in make()} == set(LAYERS.values())


def test_outputs_are_in_the_units_of_y(tmp_path):
    model = gd.Sequential([gd.Standardize(), gd.Dense(1), gd.Rescale()], inputs=1)
    X = np.array([[0.0], [2.0]])
    model.adapt(gd.Batches(X, np.array([5.0, 9.0])))
    model.params["dense1.W"][...] = 1
    gd.export_onnx(model, tmp_path / "m.onnx")
    assert run(tmp_path / "m.onnx", X.astype("float32")).tolist() == [[5.0], [9.0]]


def test_a_running_mean_that_is_large_beside_the_spread_is_not_lost_in_rounding(tmp_path):
    # ONNX's own BatchNormalization is 2 % off here.
    model = gd.Sequential([gd.BatchNorm(epsilon=1e-8)], inputs=1)
    model.layers[0].buffers["mean"][...] = 1e4
    model.layers[0].buffers["variance"][...] = 1e-4
    x = np.array([[1e4 + 0.01], [1e4 - 0.02]], dtype="float32")
    gd.export_onnx(model, tmp_path / "m.onnx")
    np.testing.assert_allclose(run(tmp_path / "m.onnx", x), model.predict(x), rtol=1e-6)


def test_a_factor_behind_a_product_keeps_its_digits_under_optimization(tmp_path):
    # ONNX Runtime fuses a MatMul with a factor, which it then keeps in float32.
    model = gd.Sequential([gd.Dense(1, bias=False), gd.Rescale()], inputs=1, dtype="float64")
    model.adapt(gd.Batches(np.zeros((2, 1)), np.array([-0.1, 0.1])))
    x = np.array([[3.0]])
    gd.export_onnx(model, tmp_path / "m.onnx")
    np.testing.assert_allclose(run(tmp_path / "m.onnx", x), model.predict(x), rtol=1e-15)


def test_a_model_from_any_backend(tmp_path, backend):
    model, x = trained(EACH["all"](), backend=backend)
    gd.export_onnx(model, tmp_path / "m.onnx")
    y = model.copy(backend="numpy").predict(x)
    assert abs(run(tmp_path / "m.onnx", x) - y).max() <= 1e-5 * abs(y).max()


def test_the_file_is_that_of_now_and_the_model_stays_as_it_was(tmp_path):
    model, x = trained(EACH["all"]())
    before = {name: value.copy() for name, value in model.arrays().items()}
    gd.export_onnx(model, tmp_path / "m.onnx")
    y = run(tmp_path / "m.onnx", x)
    for name, value in model.arrays().items():
        np.testing.assert_array_equal(value, before[name])
    model.flat_params[...] = 0
    np.testing.assert_array_equal(run(tmp_path / "m.onnx", x), y)


# What else is in the file ---------------------------------------------------------------------


def test_what_the_file_says_of_itself(tmp_path):
    model, _ = trained(EACH["all"]())
    gd.export_onnx(
        model, tmp_path / "m.onnx", names=["größe", "b", "c", "d"], classes=["no", "yes"]
    )
    proto = onnx.load(tmp_path / "m.onnx")
    assert (proto.producer_name, proto.producer_version) == ("minigd", gd.__version__)
    assert [(each.domain, each.version) for each in proto.opset_import] == [("", export.OPSET)]
    assert proto.ir_version == onnx.helper.find_min_ir_version_for(proto.opset_import) == 4
    assert {each.key: json.loads(each.value) for each in proto.metadata_props} == {
        "names": ["größe", "b", "c", "d"],
        "classes": ["no", "yes"],
    }
    (x,), (y,) = proto.graph.input, proto.graph.output
    for value, name, width in ((x, "x", 4), (y, "y", 2)):
        rows, columns = value.type.tensor_type.shape.dim
        assert (value.name, rows.dim_param, columns.dim_value) == (name, "n", width)
    assert {"dense1.W", "batchnorm1.mean"} <= {each.name for each in proto.graph.initializer}
    assert [node.name for node in proto.graph.node][:3] == [
        "standardize1.0",
        "standardize1.1",
        "dense1.2",
    ]


def test_the_opset_is_the_oldest_that_keeps_constants_out_of_the_inputs():
    # Before format 4, of opset 9, every constant had to be an input, which a caller can replace.
    oldest = [(row[1], row[2]) for row in onnx.helper.VERSION_TABLE if row[1] >= 4]
    assert min(oldest) == (4, export.OPSET)


def test_numbers_of_classes_and_no_metadata(tmp_path):
    model, _ = trained([gd.Dense(1), gd.Sigmoid()])
    gd.export_onnx(model, tmp_path / "m.onnx", classes=np.array([0, 1]))
    assert onnx.load(tmp_path / "m.onnx").metadata_props[0].value == "[0, 1]"
    gd.export_onnx(model, str(tmp_path / "m.onnx"))
    assert len(onnx.load(tmp_path / "m.onnx").metadata_props) == 0


def test_nothing_is_printed_or_logged(tmp_path, capfd):
    model, x = trained(EACH["all"]())
    gd.export_onnx(model, tmp_path / "m.onnx")
    run(tmp_path / "m.onnx", x)
    assert capfd.readouterr() == ("", "")


# What is refused ------------------------------------------------------------------------------


class Double(gd.Layer):
    """A layer from outside the package."""

    def forward(self, x, train=False):
        return 2 * x


class Unlike(gd.Tanh):
    """A layer that computes something else than what it comes from."""

    def forward(self, x, train=False):
        return -super().forward(x, train)


@pytest.mark.parametrize("layer", [Double, Unlike])
def test_a_layer_from_outside_is_refused_with_what_to_do(tmp_path, layer):
    model = gd.Sequential([gd.Dense(2), layer()], inputs=2)
    message = (
        rf"{layer.__name__.lower()}1 is a {layer.__name__}, a layer from outside the package.*"
        "build the model from Dense, Tanh, .*Rescale, or export a model of the layers before it"
    )
    with pytest.raises(TypeError, match=message):
        gd.export_onnx(model, tmp_path / "m.onnx")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("model", "options", "error", "message"),
    [
        ([gd.Standardize(), gd.Dense(1)], {}, RuntimeError, "standardize1 has no mean.*adapt"),
        ([gd.Dense(1), gd.Rescale()], {}, RuntimeError, "rescale1 has no mean"),
        ([gd.Dense(1)], {"names": ["a"]}, gd.ShapeError, "there are 1 names, .* 2 columns of x"),
        ([gd.Dense(3)], {"classes": ["a"]}, gd.ShapeError, "are 1 classes, .* has 3 classes"),
        ([gd.Dense(1)], {"classes": list("abc")}, gd.ShapeError, "are 3 classes, .* 2 classes"),
        ([gd.Dense(1)], {"names": "ab"}, TypeError, r"names must be a list, \['ab'\]"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, model, options, error, message):
    with pytest.raises(error, match=message):
        gd.export_onnx(gd.Sequential(model, inputs=2), tmp_path / "m.onnx", **options)
    assert os.listdir(tmp_path) == []


def test_only_a_model_of_real_numbers_is_exported(tmp_path):
    with pytest.raises(TypeError, match=r"writes a minigd.Sequential, not Dense"):
        gd.export_onnx(gd.Dense(1), tmp_path / "m.onnx")
    model = gd.Sequential([gd.Dense(1)], inputs=2, dtype="complex128")
    with pytest.raises(TypeError, match=r"complex128.*model.copy\(dtype='float64'\)"):
        gd.export_onnx(model, tmp_path / "m.onnx")


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    model, x = trained([gd.Dense(1)])
    gd.export_onnx(model, tmp_path / "m.onnx")
    before = (tmp_path / "m.onnx").read_bytes()
    model.flat_params[...] = 0

    def fail(*args):
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="no space left"):
            gd.export_onnx(model, tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx").read_bytes() == before
    assert os.listdir(tmp_path) == ["m.onnx"]
    gd.export_onnx(model, tmp_path / "m.onnx")
    assert not run(tmp_path / "m.onnx", x).any()
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        gd.export_onnx(model, tmp_path / "missing" / "m.onnx")


def test_a_missing_package_names_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(
        ImportError, match=r"onnx is not installed, and export_onnx needs it: `pip install onnx`"
    ):
        gd.export_onnx(gd.Sequential([gd.Dense(1)], inputs=1), tmp_path / "m.onnx")
