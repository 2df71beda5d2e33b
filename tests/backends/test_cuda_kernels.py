"""Kernels written by the formulas: the same numbers, in one launch; what is no kernel still runs.

No GPU is needed: a C++ compiler runs their text on the host, and NVRTC, where CuPy brings it,
compiles it as it would for a GPU.
"""

import inspect
import itertools
import re
import sys
import warnings
from importlib import import_module

import numpy as np
import pytest
from budgets import examples
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from oracles import host_cuda, strict_cupy
from test_formulas import CONSTANTS, INPUTS, ROOTS, UPDATE, call, draw

import minigd as gd
from minigd import formulas
from minigd.backends import cuda_kernels as kernels
from minigd.backends.base import Backend
from minigd.backends.cupy import CupyBackend

BACKEND = CupyBackend(strict_cupy)
# The C library's functions and NumPy's differ in the last digits, and so does the order of a sum.
ROUNDED = {"tanh", "sigmoid", "binary_cross_entropy", "binary_cross_entropy_backward"}
ROUNDED |= {"softmax", "softmax_backward", "log_softmax", "elu", "softplus", "softplus_backward"}
ROUNDED |= {"silu", "silu_backward", "normal_cdf", "gelu", "gelu_backward"}
ROUNDED |= {"gelu_tanh", "gelu_tanh_backward", "poisson", "poisson_backward"}
ROUNDED |= {"focal", "focal_backward"}
ROWS = ["softmax", "softmax_backward", "log_softmax"]
SPECIAL = [np.nan, np.inf, -np.inf, 1e4, -1e4, 0.0, -0.0, 1.0]
each_formula = pytest.mark.parametrize("name", INPUTS)
each_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])
needs_compiler = pytest.mark.skipif(host_cuda.compiler() is None, reason=host_cuda.MISSING)


def program(name):
    found = kernels.program_of(getattr(formulas, name))
    assert found is not None
    return found


def plain(name, inputs):
    """Return the results of the formula as it is written."""
    with np.errstate(all="ignore"):
        return call(name, *inputs)


def run(name, inputs, outs):
    """Run a formula on the stand-in; return what it wrote, and its launches."""
    device = {id(a): BACKEND.asarray(a) for a in (*inputs, *outs)}
    out = tuple(device[id(a)] for a in outs)
    with strict_cupy.recording_launches() as launches:
        BACKEND.apply(
            getattr(formulas, name),
            *[device[id(a)] for a in inputs],
            out=out if len(out) > 1 else out[0],
            **CONSTANTS.get(name, {}),
        )
    return tuple(a.get() for a in out), launches


def fresh(expected):
    return tuple(np.full_like(a, 7) for a in expected)


def close(name, found, expected, inputs):
    """Hold what a kernel wrote to the formula: to the bit where both only add, divide and so on."""
    for one, other in zip(found, expected, strict=True):
        if name not in ROUNDED:
            numbers = ~np.isnan(other)
            np.testing.assert_array_equal(one, other)
            np.testing.assert_array_equal(np.signbit(one[numbers]), np.signbit(other[numbers]))
            continue
        eps = np.finfo(other.dtype).eps
        finite = [np.abs(a[np.isfinite(a)]).max(initial=1.0) for a in inputs]
        terms = other.shape[-1] if name in ROWS else 1
        tolerance = (8 + terms) * eps
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance * max(finite))


# The numbers ----------------------------------------------------------------------------------


@each_formula
def test_every_formula_has_a_kernel(name):
    assert program(name).by_row == (name in ROWS)


@pytest.mark.few
@needs_compiler
@each_formula
@each_dtype
@given(data=st.data())
@examples(8)
def test_a_kernel_gives_the_numbers_of_its_formula(name, dtype, data):
    sides = (2, 2) if name in ROWS else (1, 3)
    shape = data.draw(arrays.array_shapes(min_dims=sides[0], max_dims=sides[1], max_side=40))
    inputs = draw(name, shape, dtype, data.draw(st.integers(0, 1000)))
    places = st.integers(0, inputs[0].size - 1)
    for a, k, value in data.draw(
        st.lists(st.tuples(st.sampled_from(inputs), places, st.sampled_from(SPECIAL)), max_size=6)
    ):
        a.reshape(-1)[k] = value
    expected = plain(name, inputs)
    found, launches = run(name, inputs, fresh(expected))
    assert launches == [f"minigd_{name}"]
    close(name, found, expected, inputs)


@needs_compiler
@each_formula
@each_dtype
def test_every_special_number_beside_every_other(name, dtype):
    count = INPUTS[name]
    grids = np.meshgrid(*[SPECIAL] * min(count, 3), indexing="ij")
    inputs = [grids[k % len(grids)].reshape(-1, 8).astype(dtype) for k in range(count)]
    expected = plain(name, inputs)
    close(name, run(name, inputs, fresh(expected))[0], expected, inputs)


@needs_compiler
@each_dtype
@pytest.mark.parametrize("name", ROWS)
def test_rows_of_huge_numbers_and_of_none(name, dtype):
    x = np.array(
        [
            [1e4, -1e4, 0],
            [-np.inf, 0, 1],
            [-np.inf] * 3,
            [np.inf, 0, 1],
            [np.nan, 0, 1],
            [-1e4] * 3,
        ],
        dtype,
    )
    inputs = [x] * INPUTS[name]
    expected = plain(name, inputs)
    close(name, run(name, inputs, fresh(expected))[0], expected, inputs)


@pytest.mark.few
@needs_compiler
@pytest.mark.parametrize("warp", [2, 32])
@pytest.mark.parametrize("columns", [1, 3, 40])
@pytest.mark.parametrize("name", ROWS)
def test_the_threads_of_a_warp_put_their_parts_together(name, columns, warp):
    rows = 5  # for two blocks of two warps: some warps take a second row, one takes none
    inputs = draw(name, (rows, columns), "float32")
    (expected,) = plain(name, inputs)
    out = np.full_like(expected, 7)
    arguments = [*inputs, out, np.int64(rows), np.int64(columns)]
    hosts = [np.asarray(a) for a in arguments]
    code = kernels.rows_source(program(name), np.dtype("float32"))
    pointers = [a.ctypes.data for a in hosts]
    host_cuda.launch(code, f"minigd_{name}", 2, 2 * warp, pointers, warp=warp, together=True)
    close(name, [out], [expected], inputs)


@needs_compiler
@each_dtype
@pytest.mark.parametrize("name", INPUTS)
def test_results_may_be_written_over_the_inputs(name, dtype):
    inputs = draw(name, (30, 7), dtype)
    expected = plain(name, inputs)
    # As an updater does: the new parameters over the old ones, the new state over the old one.
    outs = (inputs[0], *inputs[len(inputs) - len(expected) + 1 :])
    close(name, run(name, inputs, outs)[0], expected, inputs)


@needs_compiler
def test_inputs_may_change_places():
    def formula(p, v):
        return v, p

    formula.__module__ = kernels.FORMULAS
    p, v = strict_cupy.zeros(3), strict_cupy.ones(3)
    BACKEND.apply(formula, p, v, out=(p, v))
    assert (p.tolist(), v.tolist()) == ([1.0] * 3, [0.0] * 3)


@needs_compiler
@each_formula
def test_arrays_in_any_order_of_memory(name):
    inputs = draw(name, (6, 4), "float64")
    expected = plain(name, inputs)
    views = [
        np.asfortranarray(a) if k % 2 else np.repeat(a, 2, 0)[::2] for k, a in enumerate(inputs)
    ]
    close(name, run(name, views, fresh(expected))[0], expected, inputs)


@needs_compiler
@each_formula
def test_no_rows_at_all(name):
    inputs = draw(name, (0, 3), "float32")
    found, _ = run(name, inputs, fresh(plain(name, inputs)))
    assert {a.shape for a in found} == {(0, 3)}


@needs_compiler
def test_what_is_made_of_constants_is_made_in_double_precision():
    values = program("adam").values(rate=0.1, beta1=0.9, beta2=0.999, epsilon=1e-8)
    assert values == [0.9, 1 - 0.9, 0.999, 1 - 0.999, 0.1, 1e-8]
    assert np.float32(1 - 0.999) != np.float32(1) - np.float32(0.999)


# A step of training -----------------------------------------------------------------------------


@needs_compiler
@pytest.mark.parametrize("name", UPDATE)
def test_an_update_is_one_launch(name):
    inputs = draw(name, (50,), "float32")
    expected = plain(name, inputs)
    with strict_cupy.counting_host_reads() as reads:
        found, launches = run(name, inputs, fresh(expected))
    assert launches == [f"minigd_{name}"]
    assert reads.count == len(expected)  # those of `run` itself
    close(name, found, expected, inputs)


@needs_compiler
def test_a_step_of_training_reads_nothing_and_runs_the_kernels(stand_in):
    X = stand_in.asarray(np.random.default_rng(0).normal(size=(40, 3)), dtype="float32")
    y = stand_in.asarray(np.arange(40) % 2)
    layers = [gd.Dense(4), gd.Tanh(), gd.Dense(2), gd.Softmax()]
    model = gd.Sequential(layers, inputs=3, backend="cupy", seed=0)
    trainer = gd.Trainer(model, "categorical_crossentropy", "adam")
    few, many = gd.Batches(X, y, batch_size=40), gd.Batches(X, y, batch_size=10)
    counts = []
    for batches in (few, many):
        trainer.fit(batches, epochs=1)
        before = strict_cupy.host_reads.count
        with strict_cupy.recording_launches() as launches:
            trainer.fit(batches, epochs=1)
        counts.append(strict_cupy.host_reads.count - before)
    assert counts[0] == counts[1]
    ours = [name for name in launches if name.startswith("minigd_")]
    step = ["biased_tanh", "class_cross_entropy", "tanh_backward", "adam"]
    assert ours == [f"minigd_{name}" for name in step] * 4


@needs_compiler
@pytest.mark.parametrize(
    ("loss", "forward", "backward"),
    [
        (gd.Huber(), "huber", "huber_backward"),
        (
            gd.BinaryCrossEntropy(from_logits=True),
            "binary_cross_entropy",
            "binary_cross_entropy_backward",
        ),
        (gd.CategoricalCrossEntropy(from_logits=True), "log_softmax", "softmax"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_the_maths_of_a_loss_is_a_kernel_too(stand_in, loss, forward, backward):
    rng = np.random.default_rng(0)
    z, y = rng.normal(size=(20, 3)), np.eye(3)[rng.integers(0, 3, size=20)]
    expected = loss.forward(z, y), loss.backward()
    device = stand_in.asarray(z), stand_in.asarray(y)
    with strict_cupy.recording_launches() as launches:
        found = loss.forward(*device), loss.backward()
    ours = [name for name in launches if name.startswith("minigd_")]
    assert ours == [f"minigd_{forward}", f"minigd_{backward}"]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.get(), other, rtol=1e-13, atol=1e-15)


# What is no kernel ----------------------------------------------------------------------------


def refuses(function, *inputs, **constants):
    """Tell whether a call launches no kernel of ours, and gives what the plain backend gives."""
    device = [BACKEND.asarray(a) for a in inputs]
    out, expected = strict_cupy.zeros_like(device[0]), strict_cupy.zeros_like(device[0])
    Backend.apply(BACKEND, function, *device, out=expected, **constants)
    with strict_cupy.recording_launches() as launches:
        BACKEND.apply(function, *device, out=out, **constants)
    np.testing.assert_array_equal(out.get(), expected.get())
    return not any(name.startswith("minigd_") for name in launches)


X = np.linspace(-2, 2, 12).reshape(3, 4)


@pytest.mark.parametrize("dtype", ["complex64", "complex128", "float16"])
def test_other_dtypes_run_as_they_are_written(dtype):
    assert refuses(formulas.tanh, X.astype(dtype))


def test_arrays_of_unlike_shapes_or_dtypes_run_as_they_are_written():
    assert refuses(formulas.tanh_backward, X, X[:1])
    assert refuses(formulas.tanh_backward, X[0], X[0, :1])
    assert refuses(formulas.tanh_backward, X, X.astype("float32"))
    assert refuses(formulas.softmax, np.asfortranarray(X))


def test_a_formula_of_somebody_else_runs_as_it_is_written():
    calls = []

    def formula(x):
        calls.append(x)
        return x + len(calls)

    device, out = BACKEND.asarray(X), strict_cupy.zeros_like(BACKEND.asarray(X))
    for k in (1, 2):
        BACKEND.apply(formula, device, out=out)
        np.testing.assert_array_equal(out.get(), X + k)


def test_too_few_inputs_and_unknown_constants_are_refused():
    device = BACKEND.asarray(X)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'dy'"):
        BACKEND.apply(formulas.tanh_backward, device, out=device)
    with pytest.raises(TypeError, match="slope"):
        BACKEND.apply(formulas.leaky_relu, device, out=device)
    with pytest.raises(TypeError, match="steepness"):
        BACKEND.apply(formulas.relu, device, out=device, steepness=1.0)


UNTRACEABLE = {
    "a look at a number": lambda x: x if x > 0 else -x,
    "a look at a constant": lambda x, *, a: x if a else -x,
    "what has no line of C": lambda x: np.arctan(x),
    "what has none for constants": lambda x, *, a: x * np.sqrt(a),
    "a ufunc with settings": lambda x: np.tanh(x, dtype="float64"),
    "a ufunc's method": lambda x: np.add.reduce(x),
    "another function of NumPy": lambda x: np.clip(x, 0, 1),
    "where with a number for a condition": lambda x: np.where(x, x, 0),
    "an index": lambda x: x[0],
    "a shape": lambda x: x / x.shape[0],
    "a loop": lambda x: sum(x),
    "an array of the formula's own": lambda x: x * np.ones(3),
    "a NumPy scalar, which may change the dtype": lambda x: x * np.float64(2),
    "a number that is none": lambda x: np.minimum(x, np.nan),
    "truth values for a result": lambda x: x > 0,
    "truth values that are added": lambda x: (x > 0) + (x < 0),
    "a number for a result": lambda x: 1.0,
    "a constant for a result": lambda x, *, a: a,
    "a sum over rows": lambda x: x - x.sum(axis=0, keepdims=True),
    "a sum that loses its axis": lambda x: x - x.sum(axis=1, keepdims=False),
    "a sum of truth values": lambda x: x - (x > 0).sum(axis=1, keepdims=True),
    "a sum of sums": lambda x: x - x.sum(axis=1, keepdims=True).sum(axis=1, keepdims=True),
    "a sum of words": lambda x, i: x - i.sum(axis=1, keepdims=True),
    "a class that is added": lambda x, i: x + i,
    "a class for a result": lambda x, i: i,
}
CLASSES = (kernels.LIKE, kernels.Form("long long", "row"))


@pytest.mark.parametrize("formula", UNTRACEABLE.values(), ids=UNTRACEABLE)
def test_what_cannot_be_followed_has_no_kernel(formula):
    forms = CLASSES if "i" in inspect.signature(formula).parameters else None
    with pytest.raises((kernels.NotTraced, TypeError, AttributeError)):
        kernels.Program(formula, forms)
    formula.__module__ = kernels.FORMULAS
    assert kernels.program_of(formula, forms) is None


# The text -------------------------------------------------------------------------------------


def test_nothing_is_computed_twice():
    lines = kernels.Program(lambda x: np.exp(x * x) + np.exp(x * x)).lines.values()
    assert [s.line for s in lines] == ["T t0 = x * x;", "T t1 = exp(t0);", "T t2 = t1 + t1;"]


def applied(formula, *inputs, outs=1, **constants):
    """Return what a function gives as a kernel."""
    formula.__module__ = kernels.FORMULAS
    out = tuple(strict_cupy.zeros_like(BACKEND.asarray(inputs[0])) for _ in range(outs))
    target = out if outs > 1 else out[0]
    with strict_cupy.recording_launches() as launches:
        BACKEND.apply(formula, *map(BACKEND.asarray, inputs), out=target, **constants)
    assert len(launches) == 1
    return [a.get() for a in out]


@pytest.mark.each
@needs_compiler
@each_dtype
@pytest.mark.parametrize("operation", [*kernels.NUMBERS, *kernels.COMPARISONS])
def test_each_operation_is_numpys(operation, dtype):
    pairs = np.array(list(itertools.product(SPECIAL, SPECIAL)), dtype).T.copy()
    inputs = pairs[: operation.nin]

    def formula(*inputs):
        result = operation(*inputs)
        return np.where(result, 1, -1) if operation in kernels.COMPARISONS else result

    formula.__name__ = "operation"
    formula.__signature__ = inspect.Signature(
        [inspect.Parameter(name, inspect.Parameter.POSITIONAL_ONLY) for name in "ab"][: len(inputs)]
    )
    with np.errstate(all="ignore"):
        (found,), expected = applied(formula, *inputs), formula(*inputs)
    np.testing.assert_allclose(found, expected, rtol=4 * np.finfo(dtype).eps, atol=0)


@needs_compiler
@each_dtype
def test_a_row_may_be_gone_through_as_often_as_a_formula_needs(dtype):
    def formula(x, *, temperature):
        e = np.exp((x - x.max(axis=1, keepdims=True)) / temperature)
        share = e.sum(axis=1, keepdims=True)
        deviation = e / share - 1 / (share * share)
        return deviation / np.sqrt((deviation * deviation).sum(axis=1, keepdims=True)), e

    x = draw("softmax", (9, 5), dtype)[0]
    found = applied(formula, x, outs=2, temperature=2.5)
    for one, other in zip(found, formula(x, temperature=2.5), strict=True):
        np.testing.assert_allclose(one, other, rtol=32 * np.finfo(dtype).eps)


def cupy():
    """Return CuPy itself, which imports without a driver; what calls it is marked `cupy`."""
    if hasattr(sys.modules.get("cupy"), "host_reads"):
        pytest.skip("sys.modules['cupy'] is the stand-in")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return import_module("cupy")


@each_formula
@pytest.mark.cupy
def test_cupy_takes_every_kernel(name):
    made, inputs = program(name), INPUTS[name]
    if made.by_row:
        assert kernels.by_rows(cupy(), made, np.dtype("float32")).name == f"minigd_{name}"
        return
    kernel = kernels.elementwise(cupy(), made)
    assert kernel.nin == inputs + len(made.constants)
    assert kernel.nout == len(made.results)


def nvrtc_compile(source, *options, method="cubin"):
    """Compile CUDA C for a GPU of the Hopper kind, as CuPy does, or skip where NVRTC is missing."""
    cupy()
    from cupy._core import core
    from cupy.cuda import compiler

    try:
        compiler.nvrtc.getVersion()
    except Exception as error:
        pytest.skip(f"CuPy finds no NVRTC: {error}")
    headers = [f"#include <{header}>\n" for header in core._cupy_header_list]
    made = compiler._NVRTCProgram("".join([*headers, source]), "kernel.cu", method=method)
    arch = f"-arch={'sm' if method == 'cubin' else 'compute'}_90"
    usual = ("--device-as-default-execution-space", "-ftz=true", arch)
    code, _ = made.compile((*core.assemble_cupy_compiler_options(options), *usual))
    return code


class Texts:
    """Takes the place of CuPy, and keeps what it is asked to compile."""

    ElementwiseKernel = RawKernel = staticmethod(lambda *args, **kwargs: (args, kwargs))


@each_dtype
@each_formula
@pytest.mark.cupy
def test_nvrtc_compiles_every_kernel(name, dtype):
    made, real = program(name), host_cuda.NAMES[dtype]
    if made.by_row:
        (source, _), settings = kernels.by_rows.__wrapped__(Texts, made, np.dtype(dtype))
        assert nvrtc_compile(source, *settings["options"])
        return
    found, settings = kernels.elementwise.__wrapped__(Texts, made)
    assert nvrtc_compile(as_cupy_writes_it(*found, real), *settings["options"])


@pytest.mark.parametrize("name", UPDATE)
@pytest.mark.cupy
def test_on_a_gpu_each_operation_is_rounded_as_numpy_rounds_it(name):
    found, settings = kernels.elementwise.__wrapped__(Texts, program(name))
    source = as_cupy_writes_it(*found, "float")
    # Operations that are joined already, or that the assembler is free to join.
    joined = re.compile(rb"\bfma\.|\b(mul|add|sub)\.(ftz\.)?f32")
    assert not joined.search(nvrtc_compile(source, *settings["options"], method="ptx"))
    assert joined.search(nvrtc_compile(source, method="ptx"))


def as_cupy_writes_it(in_params, out_params, operation, name, real):
    """Return the CUDA C around the body of an elementwise kernel, for vectors in C order."""
    given, loaded = [], []
    for constant, texts in (("const ", in_params), ("", out_params)):
        for text in texts.split(", "):
            *raw, kind, what = text.split()
            kind = host_cuda.NAMES.get(kind, kind)
            if raw:
                given.append(f"{constant}CArray<{kind}, 0, 1, 1> {what}")
            elif re.fullmatch(r"c\d+|batches|parts|passes|updates|weight", what):
                given.append(f"{constant}{kind} {what}")
            else:
                given.append(f"{constant}CArray<{kind}, 1, 1, 1> _raw_{what}")
                loaded.append(f"{constant}{kind} &{what} = _raw_{what}[_ind.get()];")
    return "\n".join(
        [
            f"typedef {real} T;",
            f'extern "C" __global__ void {name}({", ".join(given)}, CIndexer<1, 1> _ind) {{',
            "CUPY_FOR(i, _ind.size()) { _ind.set(i);",
            *loaded,
            operation,
            ";",
            "} }",
        ]
    )


def test_the_constants_of_a_formula_are_asked_by_its_names():
    for name in INPUTS:
        known = inspect.signature(program(name).values).parameters
        assert set(known) == set(CONSTANTS.get(name, {}))
        assert len(program(name).inputs) == INPUTS[name]
    assert set(ROOTS) <= set(INPUTS)
