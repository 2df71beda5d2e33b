"""The compiled step of a GPU, on the stand-in: whose arrays it writes, its launches, its faults.

That it comes to what the plain step does is in `test_targets.py`, and its kernels are in
`targets/test_kernels.py`.
"""

import re
import sys
import warnings
from importlib import import_module

import numpy as np
import pytest
from oracles import drawn_runs, host_cuda, strict_cupy
from oracles.ways import check_device

import minigd as gd
from minigd.backends.cupy import CupyBackend
from minigd.execution.targets import cuda, groups, kernels, words
from minigd.execution.targets.cuda import CudaStep
from minigd.execution.tracer import Update
from minigd.nn.objective import Objective
from minigd.optim.gradient_transforms import Clipping, Penalty

pytestmark = pytest.mark.skipif(host_cuda.compiler() is None, reason=host_cuda.MISSING)


class Doubled(gd.Layer):
    """A layer of somebody else, which keeps what it is given."""

    def forward(self, x, train=False):
        self.keep(x)
        return x + x

    def backward(self, dy):
        self.kept()
        return dy + dy


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


def test_the_launches_of_a_step(stand_in):
    layers = [gd.Dense(5), gd.ReLU(), gd.Dense(4), gd.ReLU(), gd.Dense(3), gd.Softmax()]
    found = launches(layers, "categorical_crossentropy", np.arange(40) % 3)
    modes = [re.sub(r"minigd_(\w+?)_\w*", r"\1", name) for name in found]
    forward = [*("dot", "each") * 2, "dot", "rows", "whole"]
    backward = ["gemm", "columns", "dot", "columns", "gemm", "dot", "columns", "gemm"]
    # dx of the first layer is not wanted; the product of the second one comes when dz is known.
    assert sorted(modes[:15]) == sorted([*forward, *backward])
    assert modes[15:] == ["each", "astype", "cupy_multiply", "cupy_add"]
    assert len(found) <= 24
    assert len(found) == 19  # as docs/gpu.md says


def test_without_buffers_that_stay_nothing_is_compiled(stand_in):
    layers = [gd.Dense(5), gd.Tanh(), gd.Dense(2)]
    found = launches(layers, "mse", np.zeros((40, 2), "float32"), reuse_buffers=False)
    assert not [name for name in found if name.startswith("minigd_")]
    assert "gemm" not in found


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


def test_a_loss_whose_constant_changes_is_compiled_anew(stand_in):
    x, y = np.ones((4, 2)), np.full((4, 1), 9.0)
    losses = []
    for backend in ("numpy", "cupy"):
        loss = gd.Huber(delta=1.0)
        model = gd.Sequential([gd.Dense(1)], 2, backend=backend, dtype="float64")
        trainer = gd.Trainer(model, loss, gd.SGD(0.01))
        trainer.fit(x, y, batch_size=4)
        loss.delta = 2.5
        losses.append(trainer.fit(x, y, batch_size=4, epochs=2)["loss"])
    np.testing.assert_allclose(*losses, rtol=1e-12)


# What a step says of itself -----------------------------------------------------------------------


def compiled(updater=None, rows=4, **options):
    """Return a compiled step of two layers, and its model."""
    model = gd.Sequential([gd.Dense(3), gd.Tanh(), gd.Dense(2)], 2, backend="cupy", dtype="float64")
    change = Update(Penalty(), Clipping(), updater or gd.SGD(0.1))
    like = strict_cupy.zeros((rows, 2))
    return CudaStep(Objective(model, "mse"), change, like, rows, **options), model


def test_the_flag_is_cleared_by_what_is_not_finite_and_is_not_read(stand_in):
    step, _ = compiled()
    x, y = strict_cupy.ones((4, 2)), strict_cupy.zeros((4, 2))
    step(x, y, update=True)
    assert bool(step.finite)
    y[1, 0] = np.inf
    with strict_cupy.counting_host_reads() as reads:
        step(x, y, update=True)
        step(x, strict_cupy.zeros((4, 2)))
    assert reads.count == 0
    assert not bool(step.finite)


def test_an_update_that_is_not_finite_clears_the_flag_too(stand_in):
    step, _ = compiled(gd.SGD(1e308))
    step(strict_cupy.ones((4, 2)), strict_cupy.full((4, 2), 1e3))
    assert bool(step.finite)
    step(strict_cupy.ones((4, 2)), strict_cupy.full((4, 2), 1e3), update=True)
    assert not bool(step.finite)


def test_gradient_and_update_are_apart(stand_in):
    step, model = compiled()
    before = model.flat_params.get()
    step(strict_cupy.ones((4, 2)), strict_cupy.ones((4, 2)))
    np.testing.assert_array_equal(model.flat_params.get(), before)
    assert model.flat_grads.get().any()
    step(strict_cupy.ones((4, 2)), strict_cupy.ones((4, 2)), update=True)
    np.testing.assert_allclose(
        model.flat_params.get(), before - 0.1 * model.flat_grads.get(), rtol=1e-15
    )


def test_what_is_needed_in_turn_shares_memory(stand_in):
    layers = [layer for _ in range(8) for layer in (gd.Dense(64), gd.ELU())]
    model = gd.Sequential(layers, 64, backend="cupy", dtype="float64")
    change = Update(Penalty(), Clipping(), gd.SGD())
    step = CudaStep(Objective(model, "mse"), change, strict_cupy.zeros((100, 64)), 100)
    array = 100 * 64 * 8
    # x of each layer and each activation, and a few that come and go.
    assert step.nbytes < (2 * 8 + 4) * array


# Errors planted in the target -----------------------------------------------------------------


def put(owner, name, make):
    """Return a plant that replaces a function by what `make` makes of it."""
    return lambda patch: patch.setattr(owner, name, make(getattr(owner, name)))


def text(old, new):
    """Return a plant that prints something else."""

    def plant(patch):
        kernel_of = kernels.kernel_of

        def printed(*arguments):
            kernel = kernel_of(*arguments)
            if not isinstance(kernel, kernels.Kernel):
                return kernel
            return kernel._replace(text=kernel.text.replace(old, new))

        patch.setattr(cuda, "kernel_of", printed)

    return plant


def forgets_lives(allocate):
    def made(self, parts, results, written):
        return allocate(self, parts[:1] * len(parts), [], written)

    return made


PLANTED = {
    "a product is not divided": put(
        CudaStep, "_divided", lambda f: lambda self, m: CudaStep._multiplied(self, m)
    ),
    "what clashes shares a kernel": put(groups.Group, "_clash", lambda f: lambda *a, **k: False),
    "a sum is that of another column": text("const i8 j = idle", "const i8 j = 0 * idle"),
    "a team forgets its sums": text(
        "for (int k = 0; k < slots; k++)", "for (int k = 1; k < 0; k++)"
    ),
    "a difference is a sum": lambda patch: patch.setitem(
        words.C.operations, "subtract", words.C.operations["add"]
    ),
    "the keys are those of the pass before": put(
        CudaStep,
        "_scalars_of",
        lambda f: (
            lambda self, model, share: {
                k: v ^ 1 if k.endswith(".key") else v for k, v in f(self, model, share).items()
            }
        ),
    ),
    "the learning rate is twice itself": put(
        CudaStep,
        "_scalars_of",
        lambda f: (
            lambda self, model, share: {
                k: v if k.endswith(".key") else 2 * v for k, v in f(self, model, share).items()
            }
        ),
    ),
    "all parts count the same": put(
        CudaStep,
        "_scalars_of",
        lambda f: lambda self, model, share: f(self, model, min(share, 0.5)),
    ),
    "a later operation is not waited for": put(
        groups.Group,
        "meets",
        lambda f: lambda self, step: self.mode == "product" and f(self, step),
    ),
}
RUN = drawn_runs.settled(
    {
        **{"first": "batch norm", "hidden": "dropout", "second": "tanh", "loss": "categorical"},
        **{"updater": "adam", "schedule": "constant", "weights": "all above 0", "accumulate": 2},
        **{"penalty": "l2", "clipping": "norm", "dtype": "float64", "kind of x": "same"},
        **{"bias": True, "sizes": (12, 4), "shuffle": True, "seed": 1},
    }
)


def test_the_run_without_an_error_is_right(stand_in):
    check_device(RUN, stand_in)


@pytest.mark.few(2)
@pytest.mark.parametrize("name", PLANTED)
def test_an_error_planted_in_the_target_is_caught(name, stand_in, monkeypatch):
    PLANTED[name](monkeypatch)
    with pytest.raises(AssertionError):
        check_device(RUN, stand_in)


# NVRTC ----------------------------------------------------------------------------------------


def nvrtc_compile(source, *options, method="cubin", arch=90):
    """Compile CUDA C as CuPy does, or skip where NVRTC is missing."""
    if hasattr(sys.modules.get("cupy"), "host_reads"):
        pytest.skip("sys.modules['cupy'] is the stand-in")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import_module("cupy")
    from cupy._core import core
    from cupy.cuda import compiler

    try:
        compiler.nvrtc.getVersion()
    except Exception as error:
        pytest.skip(f"CuPy finds no NVRTC: {error}")
    headers = [f"#include <{header}>\n" for header in core._cupy_header_list]
    made = compiler._NVRTCProgram("".join([*headers, source]), "kernel.cu", method=method)
    arch = f"-arch={'sm' if method == 'cubin' else 'compute'}_{arch}"
    usual = ("--device-as-default-execution-space", "-ftz=true", arch)
    code, _ = made.compile((*core.assemble_cupy_compiler_options(options), *usual))
    return code


def source_of(run, dtype="float32"):
    """Return the kernels of a run, printed with the stand-in."""
    model, (x, y, _) = drawn_runs.network(run | {"dtype": dtype}), drawn_runs.data(run)
    trainer = drawn_runs.trainer_of(run, model, fast=False)
    twin = model.copy(backend=CupyBackend(strict_cupy))
    change = Update(trainer.penalty, trainer.clipping, trainer.updater)
    objective = Objective(twin, trainer.objective.given)
    return CudaStep(objective, change, strict_cupy.asarray(y), len(x)).source


@pytest.mark.cupy
@pytest.mark.parametrize("arch", [70, 75, 80, 86, 89, 90])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nvrtc_compiles_a_step(dtype, arch):
    assert nvrtc_compile(source_of(RUN, dtype), *cuda.OPTIONS, arch=arch)


@pytest.mark.cupy
def test_on_a_gpu_each_operation_is_rounded_as_numpy_rounds_it():
    # Operations that are joined already, or that the assembler is free to join.
    joined = re.compile(rb"\bfma\.|\b(mul|add|sub)\.(ftz\.)?f32")
    run = RUN | {"loss": "mse", "hidden": "relu", "second": "relu", "clipping": "none"}
    source = source_of(run)
    assert not joined.search(nvrtc_compile(source, *cuda.OPTIONS, method="ptx"))
    assert joined.search(nvrtc_compile(source, method="ptx"))
