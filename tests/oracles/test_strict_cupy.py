"""Tests of the CuPy stand-in: what it refuses, what it computes, and that CuPy has all of it."""

import inspect
import operator
import re
import sys
import warnings
from importlib import import_module

import numpy as np
import pytest
from oracles import host_cuda
from oracles import strict_cupy as xp

F32 = np.float32
HOST = np.ones(3, F32)


def device(*shape, dtype=F32):
    return xp.ones(shape, dtype)


# ---------------------------------------------------------------- refusals
BINARY = [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow,
          operator.floordiv, operator.mod, operator.lt, operator.ge, operator.eq,
          operator.ne, operator.matmul]  # fmt: skip


@pytest.mark.parametrize("op", BINARY, ids=lambda op: op.__name__)
@pytest.mark.parametrize("other", [HOST, [1.0, 1.0, 1.0]], ids=["numpy", "list"])
def test_operators_refuse_host_operands(op, other):
    with pytest.raises(TypeError):
        op(device(3), other)
    with pytest.raises(TypeError):
        op(other, device(3))


@pytest.mark.parametrize("op", [operator.iadd, operator.isub, operator.imul, operator.itruediv])
@pytest.mark.parametrize("other", [HOST, HOST[0:1].reshape(()), [1.0], "1", None])
def test_in_place_operators_refuse_host_operands(op, other):
    with pytest.raises(TypeError, match="Unsupported type"):
        op(device(3), other)


def test_a_host_array_never_takes_a_device_array():
    host = HOST.copy()
    with pytest.raises(TypeError):
        host += device(3)
    with pytest.raises(TypeError):
        host[:] = device(3)
    for convert in (np.asarray, np.array, np.float32, lambda a: np.array([a[0], 1.0])):
        with pytest.raises(TypeError, match="Implicit conversion to a NumPy array"):
            convert(device(3))


REFUSED = {
    "ufunc with a host operand": lambda a: xp.add(a, HOST),
    "ufunc with a 0-d host operand": lambda a: xp.add(a, np.array(1.0)),
    "operator with a 0-d host operand": lambda a: a * np.array(1.0),
    "numpy's ufunc with a host operand": lambda a: np.add(HOST, a),
    "ufunc with a host out": lambda a: xp.add(a, a, out=HOST.copy()),
    "numpy's ufunc with a host out": lambda a: np.add(a, a, out=HOST.copy()),
    "ufunc of a list": lambda a: xp.exp([1.0]),
    "ufunc of None": lambda a: xp.add(a, None),
    "ufunc of a string": lambda a: xp.add(a, "1"),
    "ufunc keyword where": lambda a: xp.add(a, a, where=a > 0),
    "numpy's ufunc keyword where": lambda a: np.add(a, a, where=a > 0),
    "ufunc keyword order": lambda a: xp.exp(a, order="C"),
    "ufunc cast to integers": lambda a: xp.add(a, a, out=device(3, dtype=np.int32)),
    "in-place cast to integers": lambda a: operator.iadd(device(3, dtype=np.int32), 0.5),
    "logical ufunc of complex numbers": lambda a: xp.logical_not(a * 1j),
    "reduction of a host array": lambda a: xp.sum(HOST),
    "reduction keyword where": lambda a: xp.sum(a, where=a > 0),
    "numpy's reduction keyword where": lambda a: np.sum(a, where=a > 0),
    "reduction keyword initial": lambda a: xp.max(a, initial=0.0),
    "method keyword where": lambda a: a.mean(where=a > 0),
    "reduction into a host array": lambda a: a.sum(out=np.zeros((), F32)),
    "take keyword mode": lambda a: xp.take(a, 0, mode="clip"),
    "take into another dtype": lambda a: xp.take(a, xp.arange(2), out=device(2, dtype=float)),
    "concatenate with a host array": lambda a: xp.concatenate([a, HOST]),
    "concatenate with a number": lambda a: xp.concatenate([a, 1.0]),
    "stack of host arrays": lambda a: xp.stack([HOST, HOST]),
    "where with a host branch": lambda a: xp.where(a > 0, a, HOST),
    "where with a host condition": lambda a: xp.where(HOST > 0, a, a),
    "where with a Python condition": lambda a: xp.where(True, a, a),
    "clip with host bounds": lambda a: xp.clip(a, HOST, None),
    "clip with numpy 2's keywords": lambda a: xp.clip(a, min=0.0, max=1.0),
    "dot with a host array": lambda a: xp.dot(a, HOST),
    "matmul with a host array": lambda a: xp.matmul(HOST, a),
    "einsum keyword out": lambda a: xp.einsum("i,i", a, a, out=device()),
    "einsum with a host array": lambda a: xp.einsum("i,i", a, HOST),
    "linalg.norm of a host array": lambda a: xp.linalg.norm(HOST),
    "a mixed list": lambda a: xp.array([a[0], 1.0]),
    "astype keyword casting": lambda a: a.astype(np.float64, casting="safe"),
    "empty_like keyword subok": lambda a: xp.empty_like(a, subok=False),
    "zeros keyword device": lambda a: xp.zeros(3, device="gpu"),
    "zeros keyword like": lambda a: xp.zeros(3, like=a),
    "an index on the host": lambda a: range(3)[a[0].astype(int)],
    "a device array as a bound": lambda a: range(a[0].astype(int)),
    "a device array in a slice": lambda a: a[: a[0].astype(int)],
    "a device array as a size": lambda a: xp.zeros(a[0].astype(int)),
    "a function that numpy alone has": lambda a: np.trim_zeros(a),
    "hashing": hash,
    "set from a list": lambda a: a.set([1.0, 1.0, 1.0]),
    "get into another dtype": lambda a: a.get(out=np.zeros(3)),
    "copyto of other kind": lambda a: xp.copyto(device(3, dtype=np.int32), a),
    "bool difference": lambda a: (a > 0) - (a > 1),
}


@pytest.mark.parametrize("call", REFUSED.values(), ids=REFUSED)
def test_refused_with_a_type_error(call):
    with pytest.raises(TypeError):
        call(device(3))


MISSHAPEN = {
    "out too small": lambda a: xp.add(a, a, out=device(1)),
    "out too large for a reduction": lambda a: a.sum(out=device(1)),
    "two outs": lambda a: xp.add(a, a, out=(device(3), device(3))),
    "a host array by basic index": lambda a: operator.setitem(a, slice(None), HOST),
    "a list by basic index": lambda a: operator.setitem(a, slice(None), [1.0, 2.0, 3.0]),
    "fill with a host array": lambda a: a.fill(HOST),
    "copyto of a host array": lambda a: xp.copyto(a, HOST),
    "full of a host array": lambda a: xp.full(3, HOST),
    "truth of several elements": bool,
    "item of several elements": lambda a: a.item(),
    "dot into another dtype": lambda a: xp.dot(a, a, out=device(dtype=np.float64)),
    "dot into a strided out": lambda a: xp.dot(device(2, 2), device(2, 2), out=device(2, 2).T),
    "matmul with a scalar": lambda a: xp.matmul(a, a[0]),
    "a shape of another size": lambda a: a.reshape(4),
    "an object array": lambda a: xp.array(["a"]),
}


@pytest.mark.parametrize("call", MISSHAPEN.values(), ids=MISSHAPEN)
def test_refused_with_a_value_error(call):
    with pytest.raises(ValueError):  # noqa: PT011
        call(device(3))


def test_what_cupy_leaves_undefined_fails_loudly():
    a = xp.arange(3, dtype=F32)
    beyond = xp.array([0, 3])
    for call in (lambda: a[beyond], lambda: a.take(beyond), lambda: a.__setitem__(beyond, 1),
                 lambda: xp.take_along_axis(a, beyond, 0)):  # fmt: skip
        with pytest.raises(AssertionError, match="wrap"):
            call()
    with pytest.raises(AssertionError, match="repeated"):
        a[xp.array([0, 0])] = xp.array([1, 2], dtype=F32)
    with pytest.raises(IndexError):
        a[3]


@pytest.mark.parametrize("name", ["errstate", "seterr", "apply_along_axis", "no_such_name"])
def test_unknown_module_names(name):
    with pytest.raises(AttributeError, match=f"'{name}'.*add it to strict_cupy"):
        getattr(xp, name)
    with pytest.raises(AttributeError):
        getattr(xp.cuda, name)
    with pytest.raises(AttributeError):
        getattr(device(3), name)


def test_random_is_left_out():
    with pytest.raises(AttributeError, match="draws on the host"):
        xp.random  # noqa: B018


def test_ufunc_methods():
    a = xp.arange(4, dtype=F32)
    assert float(xp.add.reduce(a)) == 6
    assert xp.subtract.outer(a, a).shape == (4, 4)
    xp.add.at(a, xp.array([0, 0]), 1)
    assert a.tolist() == [2, 1, 2, 3]
    for call in (lambda: xp.maximum.reduce(a), lambda: np.maximum.reduce(a),
                 lambda: xp.divide.at(a, xp.array([0]), 2)):  # fmt: skip
        with pytest.raises(NotImplementedError):
            call()
    with pytest.raises(TypeError):
        xp.add.at(device(2, dtype=np.complex128), xp.array([0]), 1)


def test_other_kernels_cannot_be_compiled():
    with pytest.raises(NotImplementedError, match="CUDA"):
        xp.ReductionKernel("code", "name")


# ---------------------------------------------------------------- kernels
needs_compiler = pytest.mark.skipif(host_cuda.compiler() is None, reason=host_cuda.MISSING)
WRONG_KERNELS = {
    "a parameter without a type": lambda k: k("x", "T y", "y = x"),
    "an unknown type": lambda k: k("real x", "T y", "y = x"),
    "an unknown keyword": lambda k: k("shared T x", "T y", "y = x"),
    "a parameter named i": lambda k: k("T i", "T y", "y = i"),
    "a name that is none of C": lambda k: k("T x", "T y", "y = x", "my-kernel"),
}
WRONG_CALLS = {
    "too few arguments": lambda k, a: k(a),
    "too many arguments": lambda k, a: k(a, 1.0, a, a),
    "an unknown keyword": lambda k, a: k(a, 1.0, out=a),
    "a host array": lambda k, a: k(HOST, 1.0, a),
    "a host array to write to": lambda k, a: k(a, 1.0, HOST.copy()),
    "a list": lambda k, a: k([1.0], 1.0, a),
    "None": lambda k, a: k(a, None, a),
    "a number to write to": lambda k, a: k(a, 1.0, 2.0),
    "another dtype to write to": lambda k, a: k(a, 1.0, a.astype("float64")),
    "another dtype to read": lambda k, a: k(a.astype("float64"), 1.0, a),
    "shapes that do not fit": lambda k, a: k(device(2), 1.0, a),
    "a shape too small to write to": lambda k, a: k(device(2, 3), 1.0, a),
    "numbers alone": lambda k, a: k(1.0, 1.0),
    "a size beside arrays": lambda k, a: k(a, 1.0, a, size=3),
}


@pytest.mark.parametrize("make", WRONG_KERNELS.values(), ids=WRONG_KERNELS)
def test_a_wrong_elementwise_kernel_is_refused(make):
    with pytest.raises(Exception, match=r"Syntax|understood|keyword|parameter|name"):
        make(xp.ElementwiseKernel)


@pytest.mark.parametrize("make", WRONG_KERNELS.values(), ids=WRONG_KERNELS)
@pytest.mark.cupy
def test_cupy_refuses_it_with_the_same_error(cupy, make):
    errors = []
    for kernel in (xp.ElementwiseKernel, cupy.ElementwiseKernel):
        with pytest.raises(Exception) as caught:  # noqa: PT011
            make(kernel)
        errors.append(caught.type)
    assert errors[0] is errors[1]


@pytest.mark.cupy
def test_parameters_are_read_as_cupy_reads_them(cupy):
    texts = "T x, raw bool good , float32 c0", " T out0,raw int64 out1"
    ours, theirs = (k(*texts, "", "k") for k in (xp.ElementwiseKernel, cupy.ElementwiseKernel))
    assert (ours.nin, ours.nout, ours.nargs) == (theirs.nin, theirs.nout, theirs.nargs)
    for mine, other in zip(ours.params, theirs.params, strict=False):
        told = repr(other)
        for text in (f"name={mine.name!r}", f"raw={mine.raw}", f"is_const={mine.constant}"):
            assert text in told


@needs_compiler
@pytest.mark.parametrize("call", WRONG_CALLS.values(), ids=WRONG_CALLS)
def test_a_wrong_call_of_an_elementwise_kernel_is_refused(call):
    kernel = xp.ElementwiseKernel("T x, T c", "T y", "y = c * x")
    with pytest.raises((TypeError, ValueError)):
        call(kernel, device(3))


@needs_compiler
def test_an_elementwise_kernel_runs_its_text():
    kernel = xp.ElementwiseKernel("T x, T c, raw bool good", "T y", "if (good[0]) y = c * x;")
    a, good = xp.array(np.arange(6, dtype=F32).reshape(2, 3)), xp.ones((), bool)
    out = xp.zeros((3, 2), F32).T
    assert kernel(a, 0.1, good, out) is out
    np.testing.assert_array_equal(out.get(), F32(0.1) * a.get())
    kernel(a[:1], True, good, a)  # what is read is broadcast, and may be what is written
    np.testing.assert_array_equal(a.get(), [[0, 1, 2], [0, 1, 2]])
    kernel(a, 5.0, xp.zeros((), bool), a)
    with pytest.raises(TypeError, match="tuple"):
        xp.ElementwiseKernel("T x", "T y", "y = x", options=["-fmad=false"])(a)
    np.testing.assert_array_equal(a.get(), [[0, 1, 2], [0, 1, 2]])
    made = xp.ElementwiseKernel("T x", "T y, bool z", "y = -x; z = x > 0")(a)
    assert [part.dtype for part in made] == [F32, bool]
    assert xp.ElementwiseKernel("T x", "T y", "y = x")(device(0, 3)).shape == (0, 3)


@needs_compiler
def test_a_text_that_is_no_c_is_shown_with_the_error():
    with pytest.raises(AssertionError, match="y = x x"):
        xp.ElementwiseKernel("T x", "T y", "y = x x")(device(3))


RAW = """typedef float T;
extern "C" __global__ void scale(const T* x, T* y, const long long n, const T c) {
  for (long long i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)
    y[i] = c * x[i];
}"""


@needs_compiler
def test_a_raw_kernel_runs_its_text_block_by_block_and_takes_the_types_it_declares():
    kernel, a, out = xp.RawKernel(RAW, "scale"), device(100), xp.zeros(100, F32)
    kernel((3,), (8,), (a, out, 100, F32(2)))
    assert out.tolist() == [2.0] * 100
    wrong = {
        "a number of 64 bits": (a, out, 100, 2.0),
        "a length of 32 bits": (a, out, np.int32(100), F32(2)),
        "an array for a number": (a, out, 100, device(1)),
        "another dtype": (a.astype("float64"), out, 100, F32(2)),
        "too few": (a, out, 100),
    }
    for arguments in wrong.values():
        with pytest.raises(AssertionError, match="scale"):
            kernel((3,), (8,), arguments)
    for arguments in ((HOST, out, 100, F32(2)), ([1.0], out, 100, F32(2))):
        with pytest.raises(TypeError):
            kernel((3,), (8,), arguments)
    with pytest.raises(TypeError):
        kernel([3], (8,), (a, out, 100, F32(2)))
    with pytest.raises(TypeError):
        kernel(3, 8, (a, out, 100, F32(2)))
    with pytest.raises(TypeError):
        xp.RawKernel(RAW, "scale", options=["-fmad=false"])


def test_launches_are_told_by_name():
    a = device(3)
    with xp.recording_launches() as launches:
        (a + a)[:2].reshape(2, 1).copy()
        a.sum()
    assert launches == ["cupy_add", "memcpy", "sum"]


# ---------------------------------------------------------------- arithmetic
@pytest.mark.parametrize("scalar", [True, 2, 0.5, F32(0.5), np.int8(1), np.bool_(True)])
@pytest.mark.parametrize("op", [operator.add, operator.mul, operator.truediv, operator.pow])
def test_float32_survives_weak_scalars(op, scalar):
    assert op(device(3), scalar).dtype == F32
    assert op(scalar, device(3)).dtype == F32


def test_promotion():
    assert (device(3) + np.float64(1)).dtype == np.float64  # NumPy scalars are not weak
    assert (device(3) + 1j).dtype == np.complex64
    assert (device(3, dtype=np.int32) / 2).dtype == np.float64
    assert (device(3, dtype=np.int32) + 1).dtype == np.int32
    assert device(3).mean().dtype == F32
    assert device(3, dtype=np.int32).sum().dtype == np.int64
    assert xp.where(device(3) > 0, device(3), 0.0).dtype == F32
    assert xp.where(device(3) > 0, 1.0, 0.0).dtype == np.float64
    assert xp.arange(F32(3)).dtype == np.float64
    with pytest.raises(OverflowError):
        device(3, dtype=np.uint8) + 300


def test_values_agree_with_numpy():
    host = np.linspace(-2, 2, 12, dtype=F32).reshape(3, 4)
    a = xp.asarray(host)
    for name in ("exp", "tanh", "square", "abs", "sign", "sum", "mean", "std", "argmax", "cumsum"):
        np.testing.assert_array_equal(getattr(xp, name)(a).get(), getattr(np, name)(host))
        if name not in ("abs", "sign"):
            result = getattr(np, name)(a)
            assert isinstance(result, xp.ndarray)
    np.testing.assert_array_equal((a @ a.T).get(), host @ host.T)
    np.testing.assert_array_equal((1 - a / 2 > 0).get(), 1 - host / 2 > 0)
    np.testing.assert_array_equal(np.where(a > 0, a, F32(0)).get(), np.where(host > 0, host, 0))
    np.testing.assert_array_equal(a.clip(min=0).get(), host.clip(0))
    np.testing.assert_array_equal(a[xp.array([2, 0]), 1:].get(), host[[2, 0], 1:])
    np.testing.assert_array_equal(a[[2, 0]].get(), host[[2, 0]])
    np.testing.assert_array_equal(a[a > 0].get(), host[host > 0])
    np.testing.assert_array_equal(xp.stack([a, a], axis=1).get(), np.stack([host, host], axis=1))
    assert float(xp.linalg.norm(a)) == np.linalg.norm(host)


def test_a_gpu_gives_no_floating_point_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        zero = xp.zeros(2, F32)
        assert xp.isnan(zero / zero).all()
        assert xp.isinf(xp.exp(zero + 1000)).all()
        assert xp.isnan(xp.empty((0,), F32).mean())
        (zero / zero).astype(np.int32)


def test_results_are_never_scalars():
    a = device(2, 3)
    for result in (a.sum(), xp.max(a), a[0, 1], xp.dot(a[0], a[0]), xp.add(1, 2), a[0] @ a[0],
                   a.argmax(), a.any(), xp.vdot(a, a), xp.array_equal(a, a)):  # fmt: skip
        assert isinstance(result, xp.ndarray)
        assert result.shape == ()


def test_out():
    a, out = device(3), xp.empty(3, F32)
    assert xp.add(a, a, out=out) is out
    assert xp.add(a, a, out) is out
    assert np.add(a, 1, out=out) is out
    assert xp.multiply(a, np.float64(2), out=(out,)) is out  # float64 -> float32: same kind
    assert xp.matmul(device(3, 3), a, out=out) is out
    assert out.tolist() == [3, 3, 3]
    total = xp.empty((), np.int32)
    assert (a / 2).sum(out=total) is total  # reductions cast as they please
    assert int(total) == 1
    before, alias = a, a
    a += 1
    assert a is alias
    assert before.tolist() == [2, 2, 2]


def test_views_share_memory():
    a = xp.zeros((2, 3), F32)
    for view in (a[0], a[:, 1:], a[1, 2], a.T, a.reshape(6), a.ravel(), a.view(), a[None],
                 xp.squeeze(a), a.swapaxes(0, 1)):  # fmt: skip
        view[...] = 7
        assert (a == 7).any(), "the view shares no memory"
        assert not view.flags.owndata
        assert view.base is a
        a.fill(0)
    for copy in (a.copy(), a[[0]], a[xp.array(0)], a.flatten(), a.astype(F32), xp.array(a)):
        copy[...] = 7
        assert not (a == 7).any()
        assert copy.flags.owndata
    assert xp.asarray(a) is a
    assert a.real is a
    assert a.astype(F32, copy=False) is a


def test_assignment():
    a = xp.zeros(4, F32)
    a[0] = 1
    a[1:2] = np.float64(2)
    a[2] = np.array(3)  # a 0-d host array passes for a scalar here
    a[xp.array([3])] = HOST[:1] * 4  # an advanced index takes host values
    assert a.tolist() == [1, 2, 3, 4]
    a[a > 2] = 0
    a[:2] = xp.array([[5, 6]])
    assert a.tolist() == [5, 6, 0, 0]


def test_empty_is_poisoned():
    assert xp.isnan(xp.empty((2, 2))).all()
    assert xp.isnan(xp.empty_like(device(2))).all()
    assert (xp.empty(3, np.int64) > 1 << 60).all()
    assert (xp.empty(3, np.uint8) > 200).all()
    assert xp.empty_like(device(2), shape=()).shape == (2,)  # as CuPy has it


# ---------------------------------------------------------------- host reads
@pytest.mark.parametrize("read", [
    float, lambda a: int(a), lambda a: complex(a), bool, lambda a: a.item(), lambda a: a.get(),
    lambda a: a.tolist(), repr, str, lambda a: f"{a}", lambda a: xp.asnumpy(a),
    lambda a: 1 if a else 0, lambda a: a.fill(a), lambda a: iter(a[None]),
    lambda a: a[None].nonzero(), lambda a: a[None][a[None] > 0], lambda a: xp.where(a[None] > 0),
    lambda a: xp.unique(a), lambda a: a.get(blocking=False),
])  # fmt: skip
def test_reads_are_counted(read):
    a = xp.array(1.0)
    with xp.counting_host_reads() as reads:
        read(a)
        assert reads.count == 1
    xp.host_reads.reset()
    assert xp.host_reads.count == 0


def test_device_work_is_not_counted():
    with xp.counting_host_reads() as reads:
        a = xp.asarray(HOST)
        b = (xp.tanh(a) * 2 + 1).sum(axis=0, keepdims=True)
        a[xp.array([0, 2])] = b
        a[1:] = a[:-1].copy()
        xp.where(a > 0, a, 0.0)[xp.argmax(a)].reshape(1)
    assert reads.count == 0


# ---------------------------------------------------------------- fuse and cuda
def test_fuse():
    @xp.fuse()
    def f(x, y):
        return xp.where(x > 0, xp.tanh(x) * y, 0.0)

    assert f(device(2), 2.0).dtype == F32
    assert f.__name__ == "f"
    with pytest.raises(TypeError):
        f(device(2), y=2.0)
    with pytest.raises(TypeError):
        f(device(2), HOST)
    for body in (np.tanh, lambda x: np.where(x > 0, x, x), lambda x: xp.exp(x, dtype=F32), float,
                 lambda x: x if x > 0 else -x):  # fmt: skip
        with pytest.raises(TypeError):
            xp.fuse(body)(device(1))
    for body in (lambda x: x.shape, lambda x: x.reshape(1), lambda x: xp.take(x, 0), abs,
                 lambda x: 2**x):  # fmt: skip
        with pytest.raises(NotImplementedError):
            xp.fuse(body)(device(1))
    assert np.tanh(device(1)).shape == (1,)  # and back to normal afterwards
    assert xp.fuse(np.tanh)(0.0) == 0.0  # without a device array it is the plain function


def test_pool_counts_live_bytes():
    pool = xp.get_default_memory_pool()
    before = pool.used_bytes()
    a = xp.zeros(1000)
    view = a[1:]
    assert pool.used_bytes() - before == 8000
    del a
    assert pool.used_bytes() - before == 8000  # the view keeps its base
    del view
    assert pool.used_bytes() == before
    assert pool.total_bytes() >= before + 8000
    pool.free_all_blocks()
    assert pool.total_bytes() == before


def test_cuda(monkeypatch):
    cuda = xp.cuda
    with cuda.Device(0) as dev, cuda.Stream(non_blocking=True) as stream:
        start, end = cuda.Event(), stream.record()
        with pytest.raises(cuda.runtime.CUDARuntimeError):
            cuda.get_elapsed_time(start, end)
        start.record()
        end.record(stream)
        assert cuda.get_elapsed_time(start, end) >= 0
        dev.synchronize()
        cuda.Stream.null.synchronize()
    assert device(1).device == dev
    with pytest.raises(cuda.runtime.CUDARuntimeError), cuda.Device(1):
        pass
    monkeypatch.setattr(cuda.runtime, "device_count", 0)
    assert not xp.is_available()
    with pytest.raises(cuda.runtime.CUDARuntimeError):
        cuda.runtime.getDeviceCount()


def test_array_module():
    assert xp.get_array_module(HOST, device(1)) is xp
    assert xp.get_array_module(HOST, 1.0) is np


# ---------------------------------------------------------------- against the real CuPy
@pytest.fixture(scope="module")
def cupy():
    """CuPy itself; it imports without a driver, and that is all these tests need."""
    if hasattr(sys.modules.get("cupy"), "host_reads"):
        pytest.skip("sys.modules['cupy'] is the stand-in")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return import_module("cupy")


OWN = {  # public names that are the stand-in's, not CuPy's
    "IMPLICIT", "UFUNCS", "ALIASES", "FUNCTIONS", "METHODS", "FROM_NUMPY", "host_reads",
    "counting_host_reads", "recording_launches", "host_cuda", "annotations", "contextlib",
    "functools", "inspect", "np", "re", "sys", "threading", "time", "types", "warnings",
    "CUDARuntimeError", "OutOfMemoryError", "Device", "Stream", "Event",
}  # fmt: skip


def public(owner):
    return [name for name in vars(owner) if not name.startswith("_")]


def parameters(function):
    """Name, default and kind of each parameter; compiled methods tell them in a docstring."""
    try:
        signature = inspect.signature(function)
    except ValueError:
        line = function.__doc__.splitlines()[0]
        text = re.sub(r"\b(?:int|Py_ssize_t|_ndarray_base) (?=\w)", "", line)
        text = re.search(r"\((.*?)\)(?: ->|$)", text)[1]
        signature = inspect.signature(eval(f"lambda {text}: 0"))
    return [(p.name, p.default, p.kind) for p in signature.parameters.values()]


@pytest.mark.cupy
def test_every_name_is_cupys(cupy):
    # `import cupy` leaves cublas out.
    known = {*OWN, "cublas"}
    missing = [name for name in public(xp) if name not in known and not hasattr(cupy, name)]
    missing += [name for name in public(xp.ndarray) if not hasattr(cupy.ndarray, name)]
    missing += [name for name in dir(xp.ufunc) if name[0] != "_" and name != "KEYWORDS"
                and not hasattr(cupy.ufunc, name)]  # fmt: skip
    for name in ("cuda", "linalg"):
        missing += [n for n in public(getattr(xp, name)) if not hasattr(getattr(cupy, name), n)]
    for name in ("Stream", "Event", "Device"):
        ours, theirs = getattr(xp.cuda, name), getattr(cupy.cuda, name)
        missing += [n for n in public(ours) if not hasattr(theirs, n)]
    missing += [n for n in public(type(xp.get_default_memory_pool()))
                if not hasattr(cupy.cuda.MemoryPool, n)]  # fmt: skip
    assert not missing


@pytest.mark.cupy
def test_every_signature_is_cupys(cupy):
    different = {}

    def compare(name, ours, theirs):
        if parameters(ours) != parameters(theirs):
            different[name] = (parameters(ours), parameters(theirs))

    tables = [n for names in xp.FUNCTIONS.values() for n in names.split()]
    written = [n for n in public(xp) if n not in OWN and inspect.isfunction(getattr(xp, n))
               and getattr(xp, n).__module__ == xp.__name__]  # fmt: skip
    kernels = {"ElementwiseKernel", "RawKernel", "RawModule", "ReductionKernel", "fuse"}
    assert set(tables) <= set(written)
    for name in set(written) - kernels:
        compare(name, getattr(xp, name), getattr(cupy, name))
    for name in public(xp.ndarray):
        if inspect.isfunction(getattr(xp.ndarray, name)):
            compare(f"ndarray.{name}", getattr(xp.ndarray, name), getattr(cupy.ndarray, name))
    compare("linalg.norm", xp.linalg.norm, cupy.linalg.norm)
    for name in ("Stream", "Event"):
        compare(name, getattr(xp.cuda, name), getattr(cupy.cuda, name))
    assert not different


@pytest.mark.cupy
def test_products_have_cupys_signature(cupy):
    cublas = pytest.importorskip("cupy.cublas", exc_type=ImportError)
    assert parameters(xp.cublas.gemm) == parameters(cublas.gemm)


@pytest.mark.cupy
def test_every_ufunc_keyword_is_cupys(cupy):
    for name, ours in xp._ufuncs.items():
        theirs = getattr(cupy, name)
        if name == "matmul":
            keywords = inspect.signature(theirs.__call__).parameters
        else:
            assert theirs.nin == ours.nin
            keywords = re.findall(r"(\w+)=", theirs.__doc__.splitlines()[0])
        assert set(ours.KEYWORDS) == set(keywords) - {"args"}, name


@pytest.mark.parametrize("scalar", [True, 2, 2.5, 1j, F32(2), np.float64(2), np.int64(3)])
@pytest.mark.cupy
def test_ufunc_dtypes_are_cupys(cupy, scalar):
    """Ask CuPy's own dispatcher; a NumPy scalar there counts like an array of its dtype."""
    from cupy._core._scalar import CScalar

    for name in ("add", "multiply", "divide", "power", "maximum", "less", "floor_divide"):
        theirs = getattr(cupy, name)
        for char in "?bBhilefdFD":
            strong = np.dtype(char).type(0)
            arguments = [CScalar(strong), CScalar(scalar)]
            try:
                routine = theirs._ops.guess_routine(name, {}, arguments, None, theirs._ops)
            except TypeError:
                with pytest.raises(TypeError):
                    getattr(xp, name)(device(2, dtype=char), scalar)
            else:
                result = getattr(xp, name)(device(2, dtype=char), scalar)
                assert result.dtype == np.dtype(routine.out_types[0]), (name, char)
