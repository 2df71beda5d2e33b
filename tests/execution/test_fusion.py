"""Layers and losses that are fused for a GPU: the numbers of the plain ones, in fewer launches.

The plain layers are the truth, on networks and data drawn by hypothesis; no GPU is needed.
"""

import inspect

import numpy as np
import pytest
from backends.test_cuda_kernels import Texts, as_cupy_writes_it, nvrtc_compile
from budgets import examples
from hypothesis import given
from hypothesis import strategies as st
from oracles import host_cuda, strict_cupy

import minigd as gd
from minigd.backends import cuda_kernels as kernels
from minigd.backends.base import NumpyBackend
from minigd.backends.cupy import CupyBackend
from minigd.execution import fusion as fused
from minigd.execution import plain
from minigd.execution.runner import Steps
from minigd.execution.tracer import Update
from minigd.formulas import leaky_relu, mixed, tanh
from minigd.nn.objective import Objective
from minigd.optim.gradient_transforms import Clipping, Penalty

needs_compiler = pytest.mark.skipif(host_cuda.compiler() is None, reason=host_cuda.MISSING)
LOSSES = {
    "mse": gd.MeanSquaredError,
    "huber": lambda: gd.Huber(delta=0.7),
    "binary": lambda: gd.BinaryCrossEntropy(label_smoothing=0.1),
    "classes": lambda: gd.CategoricalCrossEntropy(from_logits=True),
    "smoothed": lambda: gd.CategoricalCrossEntropy(label_smoothing=0.2),
    "one-hot": gd.CategoricalCrossEntropy,
}
ENDS = {"binary": [gd.Sigmoid], "smoothed": [gd.Softmax], "one-hot": [gd.Softmax]}
HIDDEN = [
    gd.Tanh,
    gd.Sigmoid,
    gd.ReLU,
    lambda: gd.LeakyReLU(slope=0.2),
    gd.Softmax,
    lambda: gd.ELU(0.7),
    gd.GELU,
    gd.SiLU,
    gd.Softplus,
    gd.LayerNorm,
    gd.BatchNorm,
    lambda: gd.Dropout(0.3),
    lambda: gd.Residual([gd.BatchNorm(), gd.Tanh(), gd.Dropout(0.3)]),
    lambda: gd.Dense(5),
    lambda: gd.Dense(3, bias=False),
    lambda: gd.Dense(1),
]


def targets(name, n, outputs, rng):
    if name in ("classes", "smoothed"):
        return rng.integers(0, outputs, n)
    if name == "one-hot":
        return np.eye(outputs)[rng.integers(0, outputs, n)]
    y = rng.normal(size=(n, outputs))
    return (y > 0).astype("float64") if name == "binary" else y


def change():
    return Update(Penalty(), Clipping(), gd.SGD())


def stepped(model, loss, x, y, scale, fuse):
    """Return all that a training pass writes, on the host."""
    steps = Steps(Objective(model, loss), change(), replay=fuse)
    host = model.backend.to_numpy
    scale = None if scale is None else model.backend.asarray(scale)
    value, z, *_ = plain.step(
        steps.layers(), model.backend.asarray(x), model.backend.asarray(y), scale
    )
    running = [layer.buffers[name] for layer in model.layers for name in layer.running]
    return [np.array(host(a)) for a in (value, z, model.flat_grads, *running)]


@pytest.mark.each
@needs_compiler
@given(
    data=st.data(),
    n=st.integers(1, 9),
    inputs=st.integers(1, 4),
    outputs=st.integers(2, 4),
    weighted=st.booleans(),
    seed=st.integers(0, 1000),
)
@examples(50)
@pytest.mark.parametrize("name", LOSSES)
def test_a_fused_step_gives_the_numbers_of_the_layers(
    name, data, n, inputs, outputs, weighted, seed
):
    made = data.draw(st.lists(st.sampled_from(HIDDEN), max_size=5), label="layers")
    layers = [make() for make in made] + [gd.Dense(outputs)]
    if name not in ENDS and data.draw(st.booleans(), label="ends in a tanh"):
        layers.append(gd.Tanh())
    layers += [end() for end in ENDS.get(name, [])]
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, inputs)), targets(name, n, outputs, rng)
    scale = rng.uniform(0.5, 2, size=n) if weighted else None
    model = gd.Sequential(
        layers, inputs, backend=CupyBackend(strict_cupy), dtype="float64", seed=seed
    )
    # Biases and shifts start at 0, where a slip in them would not show.
    model.flat_params += strict_cupy.asarray(rng.normal(size=model.flat_params.shape) / 4)
    found = stepped(model.copy(), LOSSES[name](), x, y, scale, fuse=True)
    expected = stepped(model, LOSSES[name](), x, y, scale, fuse=False)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-13)


@pytest.mark.few
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", LOSSES)
def test_a_step_on_any_device_gives_the_numbers_of_numpy(backend, name, dtype):
    layers = [gd.Dense(64, bias=False), gd.BatchNorm(), gd.ReLU(), gd.Dropout(0.2)]
    layers += [gd.Dense(40), gd.Tanh(), gd.Dense(7), *(end() for end in ENDS.get(name, []))]
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(300, 30)).astype(dtype), targets(name, 300, 7, rng)
    model = gd.Sequential(layers, 30, dtype=dtype, seed=1)
    model.flat_params += (rng.normal(size=model.flat_params.shape) / 8).astype(dtype)
    found = stepped(model.copy(backend=backend), LOSSES[name](), x, y, None, fuse=True)
    expected = stepped(model, LOSSES[name](), x, y, None, fuse=False)
    for one, other in zip(found, expected, strict=True):
        eps, largest = np.finfo(dtype).eps, abs(other).max()
        np.testing.assert_allclose(one, other, rtol=0, atol=64 * eps * largest)


class Doubled(gd.Layer):
    """A layer of somebody else, which keeps what it is given."""

    def forward(self, x, train=False):
        self.keep(x)
        return x + x

    def backward(self, dy):
        self.kept()
        return dy + dy


def test_what_is_fused():
    def names(layers):
        model = gd.Sequential(layers, inputs=3)
        return [
            f"{type(layer).__name__} {getattr(layer, 'activation', None)!r}"
            for layer in fused.fused_layers(model.layers)
        ]

    assert names([gd.Dense(2), gd.Tanh(), gd.ReLU(), gd.Dense(2), gd.Softmax()]) == [
        *("FusedDense Tanh()", "ReLU None", "FusedDense None", "Softmax None")
    ]
    assert names([gd.BatchNorm(), Doubled(), gd.Tanh()]) == [
        *("FusedBatchNorm None", "Doubled None", "Tanh None")
    ]

    class OwnDense(gd.Dense):
        pass

    class OwnTanh(gd.Tanh):
        pass

    assert names([OwnDense(2), gd.Tanh(), gd.Dense(2), OwnTanh()]) == [
        *("OwnDense None", "Tanh None", "FusedDense None", "OwnTanh None")
    ]


def test_a_loss_of_somebody_else_and_probabilities_are_left_alone():
    class Own(gd.MeanSquaredError):
        pass

    for loss in (Own(), gd.BinaryCrossEntropy(), gd.CategoricalCrossEntropy()):
        assert fused.fused_loss(loss) is loss


@needs_compiler
def test_a_layer_of_somebody_else_trains_between_fused_ones(stand_in):
    layers = [gd.Dense(4), Doubled(), gd.Tanh(), gd.Dense(2)]
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(6, 3)), rng.normal(size=(6, 2))
    model = gd.Sequential(layers, inputs=3, backend="cupy", dtype="float64")
    expected = stepped(model.copy(), gd.MeanSquaredError(), x, y, None, fuse=False)
    found = stepped(model, gd.MeanSquaredError(), x, y, None, fuse=True)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


@needs_compiler
@pytest.mark.parametrize("end", [[], [gd.Softmax], [Doubled]])
def test_metrics_see_the_outputs_of_a_last_batch_norm(stand_in, end):
    rng = np.random.default_rng(0)
    X, classes = rng.normal(size=(50, 3)), rng.integers(0, 4, 50)
    y = classes if end == [gd.Softmax] else np.eye(4)[classes]
    loss, metric = ("categorical_crossentropy", "accuracy") if y is classes else ("mse", "mae")
    histories = []
    for backend in ("numpy", "cupy"):
        layers = [gd.Dense(4), gd.BatchNorm(), *(make() for make in end)]
        model = gd.Sequential(layers, 3, backend=backend, dtype="float64", seed=1)
        trainer = gd.Trainer(model, loss, gd.SGD(0.1), metrics=[metric])
        histories.append(trainer.fit(X, y, epochs=2, batch_size=10)[metric])
    np.testing.assert_allclose(*histories, rtol=1e-9)


class Linear(gd.Loss):
    """ℓ_i = Σ_k z_ik y_ik, whose gradient is the very array of the targets."""

    def per_example(self, z, y):
        return (z * y).sum(axis=1)

    def gradient(self, z, y):
        return y


class Looking(gd.Layer):
    """Passes everything on, and keeps dy to look at it later."""

    def forward(self, x, train=False):
        return x

    def backward(self, dy):
        self.last = dy
        return dy


@needs_compiler
def test_nothing_that_belongs_to_somebody_else_is_written_over(stand_in):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(10, 3)), np.sign(rng.normal(size=(10, 4)))
    results = []
    for backend in (gd.get_backend("numpy"), stand_in):
        model = gd.Sequential([gd.Dense(4), gd.Tanh()], 3, backend=backend, dtype="float64", seed=1)
        there = backend.asarray(y)
        # In their order batches are views of the targets.
        rows = gd.Batches(backend.asarray(x), there, batch_size=5)
        gd.Trainer(model, Linear(), gd.SGD(0.1)).fit(rows, epochs=3)
        np.testing.assert_array_equal(backend.to_numpy(there), y)

        layers = [gd.Dense(4), gd.Tanh(), Looking(), gd.Dense(1)]
        model = gd.Sequential(layers, 3, backend=backend, dtype="float64", seed=1)
        trainer = gd.Trainer(model, "mse", gd.SGD(0.1))
        trainer.step(backend.asarray(x), backend.asarray(y[:, :1]))
        results.append(backend.to_numpy(model.layers[2].last))
    np.testing.assert_allclose(*results, rtol=1e-9)


@needs_compiler
def test_methods_that_were_put_in_are_used(stand_in, monkeypatch):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(30, 3)), rng.normal(size=(30, 1))

    def losses(change):
        found = []
        for backend in ("numpy", "cupy"):
            model = gd.Sequential([gd.Dense(4), gd.Tanh(), gd.Dense(1)], 3, backend=backend, seed=1)
            trainer = gd.Trainer(model, "mse", gd.SGD(0.1))
            trainer.fit(X, y, batch_size=10)
            change(model, trainer)
            found.append(trainer.fit(X, y, batch_size=10, epochs=2)["loss"])
        np.testing.assert_allclose(*found, rtol=1e-5)
        return found[0]

    def of_a_layer(model, trainer):
        forward = model.layers[0].forward
        model.layers[0].forward = lambda x, train=False: 2 * forward(x, train)

    def of_a_loss(model, trainer):
        gradient = trainer.objective.loss.gradient
        trainer.objective.loss.gradient = lambda z, y: 2 * gradient(z, y)

    plain = losses(lambda model, trainer: None)
    assert losses(of_a_layer) != plain
    assert losses(of_a_loss) != plain
    backward = gd.Tanh.backward
    monkeypatch.setattr(gd.Tanh, "backward", lambda self, dy: 2 * backward(self, dy))
    assert losses(lambda model, trainer: None) != plain


@needs_compiler
def test_a_step_that_an_error_ended_leaves_nothing_to_the_next(stand_in):
    class Failing(gd.Layer):
        def forward(self, x, train=False):
            if len(x) == self.fails:
                raise RuntimeError("failed")
            return x

        def backward(self, dy):
            return dy

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(5, 3)), rng.normal(size=(5, 1))
    for fails, works in ((5, 1), (1, 5)):
        found = []
        for backend in (gd.get_backend("numpy"), stand_in):
            layers = [gd.Dense(4), gd.BatchNorm(), Failing(), gd.Dense(1)]
            layers[2].fails = fails
            model = gd.Sequential(layers, 3, backend=backend, dtype="float64", seed=1)
            trainer = gd.Trainer(model, "mse", gd.SGD(0.1))
            x_there, y_there = backend.asarray(x), backend.asarray(y)
            with pytest.raises(RuntimeError, match="failed"):
                trainer.step(x_there[:fails], y_there[:fails])
            trainer.step(x_there[:works], y_there[:works])
            assert model.layers[1].held is None
            found.append(backend.to_numpy(model.flat_params))
        np.testing.assert_allclose(*found, rtol=1e-9)


@needs_compiler
def test_no_array_of_a_step_is_kept_behind_it(stand_in):
    layers = [gd.Dense(4), gd.BatchNorm(), gd.Tanh(), gd.Dense(2)]
    model = gd.Sequential(layers, 3, backend="cupy", dtype="float64")
    steps = Steps(Objective(model, gd.MeanSquaredError()), change())
    x, y = stand_in.asarray(np.ones((4, 3))), stand_in.asarray(np.ones((4, 2)))
    plain.step(steps.layers(), x, y)
    for part in (*steps._fused.layers, steps._fused.loss):
        kept = [
            name for name, value in vars(part).items() if isinstance(value, strict_cupy.ndarray)
        ]
        assert kept == []
        assert getattr(part, "held", None) is None


def launches(layers, loss, y, **options):
    """Return what one update in the middle of an epoch puts on the device's queue."""
    rng = np.random.default_rng(0)
    x = strict_cupy.asarray(rng.normal(size=(len(y), 6)), dtype="float32")
    model = gd.Sequential(layers, inputs=6, backend="cupy", seed=0)
    trainer = gd.Trainer(model, loss, "adam", **options)
    starts = []

    class Noted(gd.Batches):
        def epoch(self, *place):
            for batch in super().epoch(*place):
                starts.append(len(names))
                yield batch

    batches = Noted(x, strict_cupy.asarray(y), batch_size=len(y) // 4, shuffle=True)
    with strict_cupy.recording_launches() as names:
        trainer.fit(batches)
        starts.clear()
        trainer.fit(batches)
    return names[starts[1] : starts[2]]


@needs_compiler
def test_the_launches_of_a_step(stand_in):
    layers = [gd.Dense(5), gd.ReLU(), gd.Dense(4), gd.ReLU(), gd.Dense(3), gd.Softmax()]
    y = np.arange(40) % 3
    forward = [*("dot", "minigd_biased_relu") * 2, "dot", "cupy_add"]
    loss = ["minigd_class_cross_entropy", "mean"]
    backward = [*("gemm", "mean", "dot", "minigd_relu_backward") * 2, "gemm", "mean"]
    update = ["cupy_isfinite", "cupy_bitwise_and", "minigd_adam"]
    total = ["astype", "cupy_multiply", "cupy_add"]
    found = launches(layers, "categorical_crossentropy", y)
    assert found == [*forward, *loss, *backward, *update, *total]
    assert len(found) == 24  # as docs/gpu.md says


@needs_compiler
def test_without_buffers_that_stay_nothing_is_fused(stand_in):
    layers = [gd.Dense(5), gd.Tanh(), gd.Dense(2)]
    y = np.zeros((40, 2), "float32")
    found = launches(layers, "mse", y, reuse_buffers=False)
    assert "minigd_tanh" in found
    assert "gemm" not in found


@needs_compiler
def test_tf32_products_are_not_taken_from_where_there_is_no_tf32():
    rng = np.random.default_rng(0)
    x, dy = (strict_cupy.asarray(rng.normal(size=(6, k))) for k in (3, 2))
    expected = x.get().T @ dy.get() / 6
    for tf32, product in ((False, ["gemm"]), (True, ["dot", "cupy_divide"])):
        backend, out = CupyBackend(strict_cupy, tf32=tf32), strict_cupy.empty((3, 2))
        with strict_cupy.recording_launches() as names:
            backend.mean_product(x, dy, out)
        assert names == product
        np.testing.assert_allclose(out.get(), expected, rtol=1e-14)


@needs_compiler
@pytest.mark.parametrize("label", [-1, 3, 10**9])
def test_a_class_that_is_none_ends_the_step(stand_in, label):
    x, y = np.ones((4, 2), "float32"), np.array([0, 1, 2, 0])
    model = gd.Sequential([gd.Dense(3), gd.Softmax()], 2, backend="cupy")
    trainer = gd.Trainer(model, "categorical_crossentropy", "sgd")
    trainer.fit(x, y, batch_size=4)
    before = stand_in.to_numpy(model.flat_params)
    with pytest.raises(gd.DivergenceError):
        trainer.step(stand_in.asarray(x), stand_in.asarray(np.array([0, 1, label, 0])))
    np.testing.assert_array_equal(stand_in.to_numpy(model.flat_params), before)


@needs_compiler
def test_a_loss_whose_constant_changes_is_computed_anew(stand_in):
    loss = gd.Huber(delta=1.0)
    model = gd.Sequential([gd.Dense(1)], 2, backend="cupy", dtype="float64")
    steps = Steps(Objective(model, loss), change())
    x, y = stand_in.asarray(np.ones((4, 2))), stand_in.asarray(np.full((4, 1), 9.0))
    z = float(stand_in.to_numpy(model.predict(x))[0, 0])
    for delta in (1.0, 2.5):
        loss.delta = delta
        value, *_ = plain.step(steps.layers(), x, y)
        assert float(value) == pytest.approx(delta * (9 - z - delta / 2), rel=1e-12)


# The formulas ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOSSES)
def test_a_pair_is_what_the_loss_says(name):
    rng = np.random.default_rng(0)
    loss = LOSSES[name]()
    if loss.takes_probabilities:
        loss = type(loss)(from_logits=True, label_smoothing=loss.label_smoothing)
    z = rng.normal(scale=5, size=(40, 3))
    y = targets(name, 40, 3, rng)
    pair = fused.fused_loss(loss)
    pair.backend = loss.backend = NumpyBackend()
    found = pair.mean(z, y), pair.backward()
    y = loss.targets(y, z)
    expected = loss.per_example(z, y).mean(), loss.gradient(z, y)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-14, atol=1e-15)


ROW, COLUMN = kernels.Form("T", "row"), kernels.Form("T", "column")
CLASS_ROW, CLASS_COLUMN = (kernels.Form("long long", place) for place in ("row", "column"))
WORD = kernels.Form("unsigned long long", "each")
FORMS = {
    fused.biased(tanh): (kernels.LIKE, COLUMN),
    fused.biased(leaky_relu): (kernels.LIKE, COLUMN),
    fused.mean_squared_error: (kernels.LIKE,) * 2,
    fused.mean_huber: (kernels.LIKE,) * 2,
    fused.mean_binary_cross_entropy: (kernels.LIKE,) * 2,
    fused.cross_entropy: (kernels.LIKE,) * 2,
    fused.class_cross_entropy: (kernels.LIKE, CLASS_ROW, CLASS_COLUMN),
    fused.centered: (kernels.LIKE, COLUMN),
    fused.moved: (kernels.LIKE,) * 4,
    fused.normalized: (kernels.LIKE, COLUMN, COLUMN, COLUMN),
    fused.normalized_backward: (kernels.LIKE, kernels.LIKE, COLUMN, COLUMN, COLUMN, COLUMN),
    mixed: (WORD,),
}
CONSTANTS = {
    "slope": 0.2,
    "delta": 0.7,
    "width": 4,
    "share": 0.1,
    "correction": 9 / 8,
    "epsilon": 1e-5,
    "key": np.uint64(2**64 - 5),
}
each_formula = pytest.mark.parametrize("formula", FORMS, ids=lambda formula: formula.__name__)


def drawn(forms, rng, dtype):
    shapes = {"each": (9, 4), "row": (9, 1), "column": (4,)}
    for kind, place in forms:
        if kind == "T":
            a = rng.normal(scale=3, size=shapes[place]).astype(dtype)
            yield a if place == "each" else abs(a)  # a variance is not negative
        elif place == "column":
            yield np.arange(4)
        else:
            yield rng.integers(0, 4, shapes[place]).astype("int64" if kind == "long long" else "u8")


@needs_compiler
@each_formula
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_kernel_gives_the_numbers_of_its_formula(formula, dtype):
    inputs = list(drawn(FORMS[formula], np.random.default_rng(1), dtype))
    names = inspect.signature(kernels.program_of(formula, FORMS[formula]).values).parameters
    constants = {name: CONSTANTS[name] for name in names}
    with np.errstate(over="ignore"):
        results = formula(*inputs, **constants)
    expected = results if isinstance(results, tuple) else (results,)
    backend = CupyBackend(strict_cupy)
    out = tuple(strict_cupy.full(a.shape, 7, dtype=a.dtype) for a in expected)
    with strict_cupy.recording_launches() as names:
        backend.apply(
            formula,
            *[backend.asarray(a) for a in inputs],
            out=out if len(out) > 1 else out[0],
            **constants,
        )
    assert names == [f"minigd_{formula.__name__}"]
    for one, other in zip(out, expected, strict=True):
        if other.dtype == "uint64":
            np.testing.assert_array_equal(one.get(), other)
        else:
            eps = np.finfo(dtype).eps
            np.testing.assert_allclose(one.get(), other, rtol=16 * eps, atol=64 * eps)


ROWS = [f for f in FORMS if kernels.program_of(f, FORMS[f]).by_row]


@pytest.mark.each
@needs_compiler
@pytest.mark.parametrize("warp", [4, 32])
@pytest.mark.parametrize("columns", [1, 3, 40])
@pytest.mark.parametrize("formula", ROWS, ids=lambda formula: formula.__name__)
def test_the_threads_of_a_warp_put_their_parts_together(formula, columns, warp):
    rng, rows = np.random.default_rng(0), 5
    shapes = {"each": (rows, columns), "row": (rows, 1), "column": (columns,)}
    inputs = []
    for kind, place in FORMS[formula]:
        a = rng.normal(size=shapes[place])
        if kind == "long long":
            a = np.arange(columns) if place == "column" else rng.integers(0, columns, shapes[place])
        inputs.append(a)
    program = kernels.program_of(formula, FORMS[formula])
    names = inspect.signature(program.values).parameters
    constants = {name: CONSTANTS[name] for name in names}
    expected = formula(*inputs, **constants)
    out = [np.full_like(a, 7) for a in expected]
    values = [np.float64(value) for value in program.values(**constants)]
    arguments = [*inputs, *out, np.int64(rows), np.int64(columns), *values]
    hosts = [np.asarray(a) for a in arguments]
    code = kernels.rows_source(program, np.dtype("float64"))
    pointers = [a.ctypes.data for a in hosts]
    host_cuda.launch(code, program.name, 2, 2 * warp, pointers, warp=warp, together=True)
    for one, other in zip(out, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-13, atol=1e-13)


@needs_compiler
@pytest.mark.parametrize("z", [[1e4, -1e4, 0], [-np.inf, 0, 1], [np.nan, 0, 1], [np.inf, 0, 1]])
@pytest.mark.parametrize("label", [0, 1, 2, 3])
def test_the_loss_of_huge_logits(z, label):
    z, y = np.array([z]), np.array([[label]])
    with np.errstate(all="ignore"):
        expected = fused.class_cross_entropy(z, y, np.arange(3))
    out = strict_cupy.empty((1, 1)), strict_cupy.empty((1, 3))
    inputs = [strict_cupy.asarray(a) for a in (z, y, np.arange(3))]
    CupyBackend(strict_cupy).apply(fused.class_cross_entropy, *inputs, out=out)
    for one, other in zip(out, expected, strict=True):
        np.testing.assert_allclose(one.get(), other, rtol=1e-14)


@each_formula
@pytest.mark.cupy
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nvrtc_compiles_every_kernel(formula, dtype):
    made = kernels.program_of(formula, FORMS[formula])
    if made.by_row:
        (source, _), options = kernels.by_rows.__wrapped__(Texts, made, np.dtype(dtype))
        assert nvrtc_compile(source, *options["options"])
        return
    found, options = kernels.elementwise.__wrapped__(Texts, made)
    text = as_cupy_writes_it(*found, host_cuda.NAMES[dtype])
    assert nvrtc_compile(text, *options["options"])
