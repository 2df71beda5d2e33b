"""Where arrays are: finding a backend, refusing to mix two, and new or reused memory.

The tests try the call that each error recommends.
"""

import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from budgets import examples
from hypothesis import given
from hypothesis import strategies as st

import minigd as gd
from minigd import formulas
from minigd.backends.base import Backend, NumpyBackend, backend_of, get_backend, numbers
from minigd.backends.cupy import CupyBackend
from minigd.backends.workspace import Workspace


def model_on(backend):
    return gd.Sequential([gd.Dense(2), gd.Tanh(), gd.Dense(1)], inputs=2, backend=backend)


def cupy_with(devices):
    """Return what the installed CuPy looks like on a machine with so many GPUs, or an error."""

    class CUDARuntimeError(RuntimeError):
        pass

    def count():
        if isinstance(devices, str):
            raise CUDARuntimeError(devices)
        return devices

    runtime = SimpleNamespace(getDeviceCount=count, CUDARuntimeError=CUDARuntimeError)
    return SimpleNamespace(__version__="14.2.0", cuda=SimpleNamespace(runtime=runtime))


# Finding one ----------------------------------------------------------------------------------


def test_names():
    assert type(get_backend()) is type(get_backend("numpy")) is NumpyBackend
    assert get_backend("numpy").name == "numpy"
    assert get_backend("numpy").xp is np


def test_a_backend_is_its_own(backend):
    assert get_backend(backend) is backend
    assert model_on(backend).backend is backend


def test_the_backend_of_an_array(backend):
    assert backend_of(backend.zeros((2,), "float32")).name == backend.name


def test_a_name_finds_cupy(stand_in):
    assert get_backend("cupy").xp is stand_in.xp
    assert repr(get_backend("cupy")) == "CupyBackend()"


def test_a_module_with_cupys_names_can_be_given(stand_in):
    assert CupyBackend(stand_in.xp).holds(stand_in.zeros((2,), "float32"))


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown backend 'gpu'; the known ones are 'cupy', 'num"):
        get_backend("gpu")


@pytest.mark.parametrize("which", [None, 3, np, CupyBackend], ids=["None", "3", "module", "class"])
def test_what_is_neither_a_name_nor_a_backend_nor_an_array_is_refused(which):
    # A CuPy module or class that quietly gave NumPy would train on the CPU.
    with pytest.raises((TypeError, ValueError), match="backend"):
        gd.Sequential([gd.Dense(1)], inputs=2, backend=which)


def test_cupy_that_is_not_installed_is_said_with_the_extra_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(
        gd.BackendError,
        match=r"CuPy is not installed, and a GPU needs it: `pip install cupy-cuda12x`",
    ) as caught:
        get_backend("cupy")
    assert "no GPU" not in str(caught.value)
    assert "backend='numpy'" in str(caught.value)


@pytest.mark.parametrize("devices", [0, "cudaErrorInsufficientDriver: driver is insufficient"])
def test_a_missing_gpu_is_another_message(monkeypatch, devices):
    monkeypatch.setitem(sys.modules, "cupy", cupy_with(devices))
    with pytest.raises(gd.BackendError, match=r"CuPy 14\.2\.0 is installed, but no GPU") as caught:
        get_backend("cupy")
    assert "not installed" not in str(caught.value)
    assert "backend='numpy'" in str(caught.value)
    assert devices == 0 or devices in str(caught.value)
    assert ("driver is missing, or too old" in str(caught.value)) == (devices != 0)


def test_a_missing_library_of_cuda_is_another_message(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", cupy_with(1))
    with pytest.raises(gd.BackendError, match=r"can't find cuBLAS .*cupy-cuda12x\[ctk\]"):
        get_backend("cupy")


def test_a_model_stays_where_it_was_if_there_is_no_gpu(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", cupy_with(0))
    model = model_on("numpy")
    before = model.flat_params.copy()
    with pytest.raises(gd.BackendError, match="no GPU"):
        model.to("cupy")
    assert model.backend.name == "numpy"
    np.testing.assert_array_equal(model.flat_params, before)
    assert model.forward([[1.0, 2.0]]).shape == (1, 1)


# Mixing two -----------------------------------------------------------------------------------


def test_host_rows_for_a_model_on_the_device(stand_in):
    model = model_on(stand_in)
    x = np.ones((3, 2), dtype="float32")
    call = r"numpy\.ndarray on the host.*`model\.backend\.asarray\({}\)`.*`model\.to\('numpy'\)`"
    with pytest.raises(gd.BackendError, match="x is a " + call.format("x")):
        model.forward(x)
    model.forward(model.backend.asarray(x), train=True)  # what the message said to do
    with pytest.raises(gd.BackendError, match="dy is a " + call.format("dy")):
        model.backward(np.ones((3, 1), dtype="float32"))
    z = stand_in.zeros((3, 1), "float32")
    with pytest.raises(gd.BackendError, match="y is a " + call.format("y")):
        gd.MeanSquaredError().forward(z, np.ones((3, 1)))
    trainer = gd.Trainer(model, "mse", "sgd")
    with pytest.raises(gd.BackendError, match="x is a " + call.format("x")):
        trainer.step(x, stand_in.zeros((3, 1), "float32"))
    with pytest.raises(gd.BackendError, match="y is a " + call.format("y")):
        trainer.step(stand_in.asarray(x), np.ones((3, 1)))


def test_device_rows_for_a_model_on_the_host(stand_in):
    model = model_on("numpy")
    x = stand_in.asarray(np.ones((3, 2)), dtype="float32")
    call = r".*on the GPU.*`{}\.get\(\)`.*`model\.to\('cupy'\)`"
    with pytest.raises(gd.BackendError, match="x is a " + call.format("x")):
        model.forward(x)
    model.forward(x.get(), train=True)  # what the message said to do
    dy = stand_in.zeros((3, 1), "float32")
    with pytest.raises(gd.BackendError, match="dy is a " + call.format("dy")):
        model.backward(dy)
    with pytest.raises(gd.BackendError, match="y is a " + call.format("y")):
        gd.MeanSquaredError().forward(np.ones((3, 1)), dy)
    trainer = gd.Trainer(model, "mse", "sgd")
    with pytest.raises(gd.BackendError, match="x is a " + call.format("x")):
        trainer.step(x, np.ones((3, 1)))
    with pytest.raises(gd.BackendError, match="y is a " + call.format("y")):
        trainer.step(np.ones((3, 2)), dy)


def test_a_list_for_a_model_on_the_device_is_refused_and_not_copied_silently(stand_in):
    with pytest.raises(gd.BackendError, match=r"asarray\(x\)"):
        model_on(stand_in).forward([[1.0, 2.0]])


def test_a_loss_follows_its_arrays_from_one_backend_to_the_other(stand_in):
    loss = gd.CategoricalCrossEntropy(from_logits=True)
    for backend in (get_backend("numpy"), stand_in, get_backend("numpy")):
        z, y = backend.zeros((2, 4), "float32"), backend.asarray([0, 3])
        assert float(loss.forward(z, y)) == pytest.approx(np.log(4), rel=1e-6)
        assert backend.holds(loss.backward())


# Arrays ---------------------------------------------------------------------------------------


def test_values_go_there_and_back(backend):
    host = np.arange(6.0).reshape(2, 3)
    array = backend.asarray(host, dtype="float32")
    assert backend.holds(array)
    assert not backend.holds([1.0])
    assert array.dtype == "float32"
    np.testing.assert_array_equal(backend.to_numpy(array), host)
    assert isinstance(backend.to_numpy(array), np.ndarray)
    assert backend.here(array, "x") is array


def test_a_device_array_can_be_brought_to_the_host(stand_in):
    array = get_backend("numpy").asarray(stand_in.asarray([1.0, 2.0]))
    assert isinstance(array, np.ndarray)
    np.testing.assert_array_equal(array, [1.0, 2.0])


def test_an_array_on_another_gpu_is_refused(stand_in, monkeypatch):
    x = stand_in.asarray(np.ones((2, 2)))
    monkeypatch.setattr(type(stand_in.xp.cuda.runtime), "getDevice", lambda self: 1)
    with pytest.raises(gd.BackendError, match=r"x is on GPU 0, and the model is on GPU 1: copy it"):
        stand_in.here(x, "x")


def test_tf32_is_asked_for_by_name(stand_in):
    linalg = stand_in.xp._core._routines_linalg
    linalg.chosen.clear()
    assert not get_backend("cupy").tf32
    assert linalg.chosen == {}
    assert get_backend("cupy", tf32=True).tf32
    assert linalg.chosen == {np.dtype("float32"): linalg.COMPUTE_TYPE_TF32}


def test_rows_are_taken_by_number(backend):
    x = backend.asarray(np.arange(20.0).reshape(10, 2))
    index = backend.asarray(np.array([7, 0, 7]))
    expected = [[14, 15], [0, 1], [14, 15]]
    np.testing.assert_array_equal(backend.to_numpy(backend.take(x, index)), expected)
    out = backend.zeros((3, 2), "float64")
    backend.take(x, index, out=out)
    np.testing.assert_array_equal(backend.to_numpy(out), expected)


def test_many_small_losses_are_summed_in_double_precision(backend):
    value = backend.asarray(np.float32(0.1))
    total = 0.0
    for _ in range(1000):
        total += backend.wide(value)
    assert float(total) == pytest.approx(1000 * float(np.float32(0.1)), rel=1e-13)


def test_the_plain_backend_runs_a_formula_at_once(backend):
    out = backend.zeros((3,), "float64")
    x = backend.asarray([1.0, 2.0, 3.0])
    Backend.apply(backend, lambda x, *, by: x * by, x, out=out, by=2.0)
    np.testing.assert_array_equal(backend.to_numpy(out), [2.0, 4.0, 6.0])


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
def test_a_formula_gives_an_array_of_its_own(backend, dtype):
    x = backend.asarray([[-1.0, 2.0]], dtype=dtype)
    for formula, expected in (
        (formulas.relu, [[0, 2]]),
        (formulas.softmax, [[0.047426, 0.952574]]),
    ):
        result = backend.compute(formula, x)
        assert result is not x
        assert result.dtype == dtype
        np.testing.assert_allclose(backend.to_numpy(result), expected, rtol=1e-5)
    np.testing.assert_array_equal(backend.to_numpy(x), [[-1.0, 2.0]])


def test_results_and_arrays_to_write_into_must_be_as_many():
    x, out = np.ones(3), (np.ones(3), np.ones(3))
    with pytest.raises(ValueError, match="argument"):
        get_backend("numpy").apply(np.negative, x, out=out)


# Numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint64", "float16", "float32", "float64"])
def test_every_real_dtype_holds_numbers(dtype):
    x = np.ones(3, dtype=dtype)
    assert numbers(x, "x") is x


@pytest.mark.parametrize(
    ("x", "given"),
    [
        (np.array([["1.5", "red"]]), r"<U3 \(the first value is str_? .*'1\.5'"),
        (np.array([["red", 1.0]], dtype=object), r"object \(the first value is str 'red'\)"),
        (np.array([[None, 1.0]]), r"object \(the first value is NoneType None\)"),
        (np.array([["2020-01-01", "NaT"]], dtype="datetime64[D]"), r"datetime64\[D\]"),
        (np.array([], dtype="U3").reshape(0, 2), r"<U3 \(the first value is nothing\)"),
    ],
)
def test_text_objects_and_dates_are_refused(x, given):
    with pytest.raises(gd.DataError, match=f"x must hold numbers, but its dtype is {given}"):
        numbers(x, "x")


@pytest.mark.parametrize("x", [[["red", "blue"]], [[None, 1.0]], np.array([["1", "2"]])])
def test_a_model_refuses_text(x):
    with pytest.raises(gd.DataError, match="x must hold numbers"):
        model_on("numpy").forward(x)


def test_a_gradient_of_text_is_refused_and_not_parsed():
    model = model_on("numpy")
    model.forward(np.ones((1, 2)), train=True)
    with pytest.raises(gd.DataError, match="dy must hold numbers"):
        model.backward(np.array([["1.0"]]))


def test_rows_of_unequal_length_are_refused():
    with pytest.raises(gd.DataError, match="x can't be converted to an array"):
        model_on("numpy").forward([[1.0, 2.0], [3.0]])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_what_is_not_finite_is_named_with_its_place(backend, bad, dtype):
    x = np.zeros((9, 4), dtype=dtype)
    x[5, 2] = x[7, 0] = bad
    with pytest.raises(gd.DataError) as caught:
        backend.check_finite(backend.asarray(x), "X", rows=slice(1000, 1009))
    assert str(caught.value) == (
        f"X holds {bad} at row 1005, column 2 (counted from 0): remove such rows, or fill them in"
    )


def test_a_vector_has_rows_only(backend):
    with pytest.raises(gd.DataError, match=r"y holds nan at row 2 \(counted from 0\): remove"):
        backend.check_finite(backend.asarray([0.0, 1.0, np.nan]), "y")


def test_numbers_whose_squares_overflow_are_finite(backend):
    for dtype in ("float16", "float32", "float64"):
        largest = np.finfo(dtype).max
        backend.check_finite(backend.asarray(np.full((3, 3), largest, dtype=dtype)), "x")


@examples(25)
@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 5)),
    places=st.lists(st.integers(0, 199), max_size=4),
    bad=st.sampled_from([np.nan, np.inf, -np.inf]),
    transposed=st.booleans(),
)
def test_a_bad_number_is_found_wherever_it_is(shape, places, bad, transposed):
    x = np.ones(shape)
    places = [place for place in places if place < x.size]
    x.reshape(-1)[places] = bad
    x = x.T if transposed else x
    backend = get_backend("numpy")
    if not places:
        backend.check_finite(x, "x")
        return
    row, column = np.argwhere(~np.isfinite(x))[0]
    with pytest.raises(gd.DataError, match=rf"at row {row}, column {column} \("):
        backend.check_finite(x, "x")


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool"])
def test_whole_numbers_need_no_check(backend, dtype):
    backend.check_finite(backend.asarray(np.ones((2, 2), dtype=dtype)), "x")


# Memory to write into -------------------------------------------------------------------------


def shared(backend, a, b):
    """Tell whether writing to `a` shows in `b`."""
    a[...] = 1.0
    b[...] = 2.0
    return bool((backend.to_numpy(a) == 2.0).any())


def test_a_workspace_gives_fresh_memory_unless_told_to_reuse(backend):
    workspace = Workspace(backend)
    a = workspace.empty("y", (3, 2), "float32")
    assert not shared(backend, a, workspace.empty("y", (3, 2), "float32"))


def test_a_workspace_gives_the_same_memory_again_where_told_to(backend):
    workspace = Workspace(backend)
    workspace.thread = threading.get_ident()
    a = workspace.empty("y", (3, 2), "float32")
    assert a.shape == (3, 2)
    assert a.dtype == "float32"
    assert shared(backend, a, workspace.empty("y", (3, 2), "float32"))


def test_a_short_last_batch_gets_the_first_rows_of_the_same_memory(backend):
    workspace = Workspace(backend)
    workspace.thread = threading.get_ident()
    a = workspace.empty("y", (5, 2), "float32")
    tail = workspace.empty("y", (3, 2), "float32")
    assert tail.shape == (3, 2)
    a[...] = 1.0
    tail[...] = 2.0
    np.testing.assert_array_equal(backend.to_numpy(a)[:, 0], [2, 2, 2, 1, 1])
    # The next whole batch has the whole again: a tail does not shrink it.
    assert shared(backend, a, workspace.empty("y", (5, 2), "float32"))


def test_a_larger_batch_makes_the_memory_larger_once(backend):
    workspace = Workspace(backend)
    workspace.thread = threading.get_ident()
    small = workspace.empty("y", (3, 2), "float32")
    large = workspace.empty("y", (8, 2), "float32")
    assert not shared(backend, small, large)
    assert shared(backend, large, workspace.empty("y", (8, 2), "float32"))


def test_names_widths_and_dtypes_never_share_memory(backend):
    workspace = Workspace(backend)
    workspace.thread = threading.get_ident()
    a = workspace.empty("y", (3, 2), "float32")
    for other in (("z", (3, 2), "float32"), ("y", (3, 1), "float32"), ("y", (3, 2), "float64")):
        assert not shared(backend, a, workspace.empty(*other))


def test_another_thread_gets_memory_of_its_own(backend):
    workspace = Workspace(backend)
    workspace.thread = threading.get_ident()
    ours = workspace.empty("y", (3, 2), "float32")
    theirs = []
    thread = threading.Thread(target=lambda: theirs.append(workspace.empty("y", (3, 2), "float32")))
    thread.start()
    thread.join()
    assert not shared(backend, ours, theirs[0])


def test_what_a_model_returned_is_its_callers_also_after_training(backend):
    model = model_on(backend)
    x = backend.asarray(np.ones((4, 2)), dtype="float32")
    y = backend.asarray(np.ones((4, 1)), dtype="float32")
    trainer = gd.Trainer(model, "mse", gd.SGD(0.1))
    kept = []
    for _ in range(3):
        trainer.step(x, y)
        output = model.forward(x, train=True)
        dx = model.backward(output - y, input_gradient=True)
        for array in (output, dx):
            kept.append((array, backend.to_numpy(array).copy()))
    trainer.fit(gd.Batches(np.ones((9, 2)), np.zeros(9), batch_size=4), epochs=2)
    for array, expected in kept:
        np.testing.assert_array_equal(backend.to_numpy(array), expected)
