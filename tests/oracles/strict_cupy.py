"""A stand-in for the `cupy` module that computes with NumPy and refuses what CuPy refuses.

It mirrors CuPy 14's signatures, dtypes and errors; where CuPy silently differs from NumPy (for
example, an index that wraps around), it raises `AssertionError`, so no test relies on it.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import re
import sys
import threading
import time
import types
import warnings
from builtins import all as _all
from builtins import any as _any

import numpy as np
from oracles import host_cuda

__version__ = "14.2.0"
IMPLICIT = (
    "Implicit conversion to a NumPy array is not allowed. "
    "Please use `.get()` to construct a NumPy array explicitly."
)
_state = threading.local()
_words = str.split


def _fusing() -> bool:
    """Tell whether a function decorated with `fuse` is running."""
    return getattr(_state, "fusing", False)


def _unfusable(function):
    """Mark what the proxies that CuPy passes to a fused function do not offer."""

    @functools.wraps(function)
    def checked(*args, **kwargs):
        if _fusing():
            raise NotImplementedError(f"{function.__name__} cannot be used in cupy.fuse")
        return function(*args, **kwargs)

    return checked


# ---------------------------------------------------------------- device-to-host reads
class _HostReads:
    """Counts what makes the host wait for the device, or moves array data to the host."""

    def __init__(self) -> None:
        self.count = 0

    def reset(self) -> None:
        self.count = 0

    def add(self, number: int = 1) -> None:
        if _fusing():
            raise TypeError("Cannot convert to Python scalar in cupy.fuse")
        self.count += number


host_reads = _HostReads()


@contextlib.contextmanager
def counting_host_reads():
    """Yield an object whose `.count` is the number of host reads since the block began."""
    start = host_reads.count

    class Reads:
        count = property(lambda self: host_reads.count - start)

    yield Reads()


# ---------------------------------------------------------------- launches
@contextlib.contextmanager
def recording_launches():
    """Yield a list of what is put on the device's queue, by name, while the block runs."""
    outer, _state.launches = getattr(_state, "launches", None), []
    try:
        yield _state.launches
    finally:
        _state.launches = outer


def _launched(name: str) -> None:
    if getattr(_state, "launches", None) is not None:
        _state.launches.append(name)


# ---------------------------------------------------------------- wrapping and unwrapping
def _wrap(host, owners=()):
    """Wrap a NumPy result; `owners` are the arrays whose memory it may share."""
    if isinstance(host, tuple | list):
        parts = [_wrap(item, owners) for item in host]
        return parts if isinstance(host, list) else tuple(parts)
    host = np.asarray(host)  # a NumPy scalar becomes a 0-d array: CuPy never returns scalars
    if host.dtype.char not in "?bhilqBHILQefdFD":
        raise ValueError(f"Unsupported dtype {host.dtype}")
    base = None
    for owner in owners:
        if host is owner._host:
            return owner
        if np.may_share_memory(host, owner._host):
            base = owner if owner.base is None else owner.base
    result = object.__new__(ndarray)
    result._host, result.base = host, base
    if base is None:
        _memory_pool._allocated(host.nbytes)
    return result


def _require(value, what="argument"):
    # CuPy calls a method of the argument or declares it `_ndarray_base`; a NumPy array passed
    # to such a function either raises TypeError or silently computes on the host.
    if not isinstance(value, ndarray):
        raise TypeError(f"{what} must be cupy.ndarray, not {type(value)}")
    return value._host


def _scalar_or_host(value):
    """Unwrap a ufunc operand: CuPy takes arrays, Python numbers and NumPy scalars only."""
    if isinstance(value, ndarray):
        return value._host
    if type(value) in (bool, int, float, complex) or isinstance(value, np.number | np.bool_):
        return value
    raise TypeError(f"Unsupported type {type(value)}")


def _store(out, result, casting):
    """Write `result` into a caller's `out` as CuPy does: exact shape, checked cast."""
    target = _require(out, "Output arguments type")
    if target.shape != np.shape(result):
        raise ValueError("Out shape is mismatched")
    if not np.can_cast(np.asarray(result).dtype, target.dtype, casting):
        raise TypeError(
            f"Cannot cast output operand from {np.asarray(result).dtype!r} to "
            f"{target.dtype!r} according to the rule '{casting}'"
        )
    with np.errstate(all="ignore"):
        np.copyto(target, result, casting="unsafe")
    return out


# ---------------------------------------------------------------- ufuncs
class ufunc:
    """A CuPy ufunc: keywords `out`, `dtype`, `casting` only (no `where`, `order`, `subok`)."""

    KEYWORDS = ("out", "dtype", "casting")

    def __init__(self, name: str) -> None:
        self._np = getattr(np, name)
        self.name = self.__name__ = f"cupy_{name}"
        self.nin, self.nout, self.nargs = self._np.nin, 1, self._np.nin + 1

    def __call__(self, *args, **kwargs):
        if set(kwargs) - set(("out",) if _fusing() else self.KEYWORDS):
            raise TypeError(f"Wrong arguments {kwargs}")  # fusion takes `out` alone
        if not self.nin <= len(args) <= self.nargs:
            raise TypeError(f"Wrong number of arguments for {self.name!r}")
        out = kwargs.pop("out", None)
        if len(args) > self.nin:
            if out is not None:
                raise ValueError("Cannot specify 'out' as both a positional and keyword argument")
            out = args[-1]
        if isinstance(out, tuple):
            if len(out) != 1:
                raise ValueError("The 'out' tuple must have exactly one entry per ufunc output")
            out = out[0]
        if out is not None and not isinstance(out, ndarray):
            _scalar_or_host(out)  # a NumPy array: "Unsupported type"
            raise TypeError("Output arguments type must be cupy.ndarray")
        operands = [_scalar_or_host(arg) for arg in args[: self.nin]]
        _launched(self.name)
        if "logical" in self.name and _any(np.iscomplexobj(x) for x in operands):
            raise TypeError(f"Wrong type of arguments for {self.name}")  # NumPy has these loops
        casting = kwargs.pop("casting", "same_kind")
        dtype = kwargs.pop("dtype", None)
        if dtype is not None:
            kwargs = {"dtype": dtype, "casting": casting}
        if out is not None:  # CuPy broadcasts the inputs against `out`, too
            shapes = [np.shape(x) for x in operands]
            operands = [
                np.broadcast_to(x, np.broadcast_shapes(out._host.shape, *shapes))
                if isinstance(x, np.ndarray)
                else x
                for x in operands
            ]
        with np.errstate(all="ignore"):  # a GPU raises no floating-point warnings
            result = self._np(*operands, **kwargs)
        if out is None:
            return _wrap(result)
        if np.ndim(result) == 0 and out._host.ndim:  # scalars only: CuPy fills `out`
            result = np.broadcast_to(result, out._host.shape)
        return _store(out, result, casting)

    def outer(self, A, B, **kwargs):
        a, b = array(A), array(B)
        return self(a.reshape(a.shape + (1,) * b.ndim), b, **kwargs)

    def reduce(self, array, axis=0, dtype=None, out=None, keepdims=False):
        if self.name not in ("cupy_add", "cupy_multiply"):
            raise NotImplementedError(f"`{self.name}.reduce` is not supported yet")
        method = array.sum if self.name == "cupy_add" else array.prod
        return method(axis, dtype, out, keepdims)

    def accumulate(self, array, axis=0, dtype=None, out=None):
        if self.name != "cupy_add":
            raise NotImplementedError(f"`{self.name}.accumulate` is not supported yet")
        return array.cumsum(axis, dtype, out)

    def reduceat(self, array, indices, axis=0, dtype=None, out=None):
        raise NotImplementedError(f"`{self.name}.reduceat` is not supported yet")

    def at(self, a, indices, b=None):
        allowed = {"cupy_add": "ilqefdILQ", "cupy_subtract": "iI"}.get(self.name, "")
        if self.name in ("cupy_maximum", "cupy_minimum"):
            allowed = "ilqfdILQ"
        if not allowed:
            raise NotImplementedError(f"`{self.name}.at` is not supported yet")
        if _require(a).dtype.char not in allowed:  # CUDA has no atomics for the other types
            raise TypeError(f"{self.name}.at does not support {a.dtype}")
        key, _ = _index(a._host, indices)
        value = b if isinstance(b, ndarray) else asarray(b, dtype=a.dtype)
        self._np.at(a._host, key, value._host.astype(a.dtype))


class _Matmul(ufunc):
    """`cupy.matmul` is a generalised ufunc: more keywords, any `out` of a castable dtype."""

    KEYWORDS = ("axes", "axis", "keepdims", "casting", "dtype", "signature", "order", "out")

    @_unfusable
    def __call__(self, *args, **kwargs):
        if set(kwargs) - set(self.KEYWORDS):
            raise TypeError(f"matmul() got an unexpected keyword argument {sorted(kwargs)}")
        if set(kwargs) - {"out"}:
            raise AssertionError("the stand-in models matmul with `out=` only")
        if len(args) not in (2, 3):
            raise TypeError(f"matmul() takes two or three arguments, {len(args)} given")
        out = kwargs["out"] if "out" in kwargs else args[2] if len(args) == 3 else None
        a, b = (_require(x) for x in args[:2])
        if not a.ndim or not b.ndim:
            raise ValueError("Scalar operands are not allowed, use '*' instead")
        _launched("matmul")
        with np.errstate(all="ignore"):
            result = np.matmul(a, b)
        return _wrap(result) if out is None else _store(out, result, "same_kind")


UFUNCS = _words("""add subtract multiply divide power floor_divide remainder maximum minimum
fmax fmin exp exp2 expm1 log log2 log10 log1p logaddexp sqrt square cbrt absolute sign tanh
sinh cosh sin cos tan arcsin arccos arctan arctan2 arcsinh arccosh arctanh hypot reciprocal negative
positive equal not_equal less less_equal greater greater_equal logical_and logical_or
logical_not logical_xor isfinite isnan isinf signbit copysign conjugate rint
bitwise_and bitwise_or bitwise_xor invert left_shift right_shift""")
ALIASES = {"true_divide": "divide", "abs": "absolute", "conj": "conjugate", "mod": "remainder"}
_ufuncs = {name: ufunc(name) for name in UFUNCS} | {"matmul": _Matmul("matmul")}
_ufuncs |= {alias: _ufuncs[name] for alias, name in ALIASES.items()}


# ---------------------------------------------------------------- indexing
def _index(host, key):
    """Translate an index; returns (NumPy key that always yields an array, is it advanced)."""
    parts, advanced = [], False
    for part in key if isinstance(key, tuple) else (key,):
        if isinstance(part, list | tuple | np.ndarray | bool | np.bool_):
            # CuPy copies host index arrays (also NumPy arrays) to the device automatically
            part = array(part)
            if part.size == 0 and part.dtype.kind == "f":
                part = part.astype(np.int32)
        if isinstance(part, ndarray):
            advanced = True
            if part.dtype.kind == "b":
                host_reads.add()  # the size of the result is read back
            elif part.dtype.kind not in "iu":
                raise IndexError("arrays used as indices must be of integer or boolean type.")
            part = part._host
        parts.append(part)
    if not _any(part is Ellipsis for part in parts):
        parts.append(Ellipsis)  # so that full indexing gives a 0-d view and no scalar
    return tuple(parts), advanced


@contextlib.contextmanager
def _no_wrapped_index(advanced: bool):
    try:
        yield
    except IndexError as error:
        if advanced and "out of bounds" in str(error):
            # NumPy raises; CuPy silently wraps the index around
            raise AssertionError(f"CuPy would wrap this index around: {error}") from None
        raise


class _Flags:
    """CuPy's flags know contiguity and ownership only (no WRITEABLE)."""

    def __init__(self, a: ndarray) -> None:
        self.c_contiguous = a._host.flags.c_contiguous
        self.f_contiguous = a._host.flags.f_contiguous
        self.owndata = a.base is None
        self.fnc, self.forc = a._host.flags.fnc, a._host.flags.forc

    def __getitem__(self, name: str) -> bool:
        if name not in ("C_CONTIGUOUS", "F_CONTIGUOUS", "OWNDATA"):
            raise KeyError(f"{name} is not defined for cupy.ndarray.flags")
        return getattr(self, name.lower())


# ---------------------------------------------------------------- the array
class ndarray:
    """A device array: NumPy inside, but never reachable from NumPy."""

    __slots__ = ("__weakref__", "_host", "base")
    __array_priority__ = 100
    __hash__ = None

    def __init__(self, shape, dtype=float, memptr=None, strides=None, order="C"):
        if memptr is not None or strides is not None:
            raise NotImplementedError("the stand-in does not model memptr and strides")
        host = np.empty(shape, dtype, order or "C")
        if host.dtype.char not in "?bhilqBHILQefdFD":
            raise ValueError(f"Unsupported dtype {host.dtype}")
        kind = host.dtype.kind  # poison, so that a read of uninitialised memory shows up
        host.fill(np.nan if kind in "fc" else kind == "b" or np.iinfo(host.dtype).max - 12)
        self._host, self.base = host, None
        _memory_pool._allocated(host.nbytes)

    def __del__(self) -> None:
        # The pool goes first where Python itself ends.
        if getattr(self, "base", self) is None and _memory_pool is not None:
            _memory_pool._freed(self._host.nbytes)

    # attributes
    dtype = property(lambda self: self._host.dtype)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    itemsize = property(lambda self: self._host.itemsize)
    nbytes = property(lambda self: self._host.nbytes)
    strides = property(lambda self: self._host.strides)
    flags = property(_Flags)
    T = property(lambda self: self.transpose() if self.ndim > 1 else self)
    mT = property(lambda self: self.swapaxes(-1, -2))
    device = property(lambda self: cuda.Device(0))

    @property
    def shape(self):
        if _fusing():
            raise NotImplementedError("`shape` is not supported, currently.")
        return self._host.shape

    @shape.setter
    def shape(self, value):
        reshaped = self._host.reshape(value)
        if reshaped.size and not np.may_share_memory(reshaped, self._host):
            raise AttributeError("incompatible shape")
        self._host = reshaped

    @property
    def data(self):
        return types.SimpleNamespace(
            ptr=self._host.ctypes.data, device_id=0, device=self.device, mem=None
        )

    @property
    def __cuda_array_interface__(self):
        host = self._host
        return {
            "shape": host.shape, "typestr": host.dtype.str, "descr": host.dtype.descr,
            "stream": 1, "version": 3, "data": (host.ctypes.data if host.size else 0, False),
            "strides": None if host.flags.c_contiguous else host.strides,
        }  # fmt: skip

    real = property(
        lambda self: _wrap(self._host.real, (self,)),
        lambda self, value: self.real.__setitem__(Ellipsis, value),
    )
    imag = property(
        lambda self: _wrap(self._host.imag, (self,)),
        lambda self, value: self.imag.__setitem__(Ellipsis, value),
    )

    # the NumPy protocols
    def __array__(self, dtype=None, copy=None):
        raise TypeError(IMPLICIT)

    def __array_ufunc__(self, np_ufunc, method, *inputs, **kwargs):
        if _fusing():
            # the proxies that CuPy passes while it fuses do not know NumPy's protocols
            raise TypeError(f"numpy.{np_ufunc.__name__} cannot be fused; use cupy's")
        checked = inputs
        if "out" in kwargs:
            if len(kwargs["out"]) != 1:
                raise ValueError("The 'out' parameter must have exactly one array value")
            checked += kwargs["out"]
            kwargs["out"] = kwargs["out"][0]
        function = _ufuncs.get(np_ufunc.__name__)
        if method != "__call__":
            function = getattr(function, method, None)
        if function is None:
            return NotImplemented
        known = (ndarray, np.ndarray, np.number, np.bool_)
        if not _all(type(x) in (int, float, bool, complex) or isinstance(x, known)
                    for x in checked):  # fmt: skip
            return NotImplemented
        if "equal" in np_ufunc.__name__ or np_ufunc.__name__ in ("less", "greater"):
            inputs = tuple(_item_if_0d(x) for x in inputs)
        return function(*inputs, **kwargs)  # a NumPy array among them: "Unsupported type"

    def __array_function__(self, func, types, args, kwargs):
        if _fusing():
            raise TypeError(f"numpy.{func.__name__} cannot be fused; use cupy's")
        module = sys.modules[__name__]
        try:
            module = functools.reduce(getattr, func.__module__.split(".")[1:], module)
            function = getattr(module, func.__name__)
        except AttributeError:
            return NotImplemented
        if function is func or not _all(issubclass(t, ndarray | np.ndarray) for t in types):
            return NotImplemented
        return function(*args, **kwargs)

    # host reads
    def get(self, stream=None, order="C", out=None, blocking=True):
        host_reads.add()  # counted without `blocking`, too: the data still leave the device
        if out is None:
            return np.array(self._host, order=order)
        if not isinstance(out, np.ndarray):
            raise TypeError("Only numpy.ndarray can be obtained fromcupy.ndarray")
        if out.dtype != self.dtype:
            raise TypeError(f"{out.dtype} array cannot be obtained from {self.dtype} array")
        if out.shape != self._host.shape:
            raise ValueError(
                f"Shape mismatch. Expected shape: {self.shape}, actual shape: {out.shape}"
            )
        if not out.flags.forc:
            raise RuntimeError("`out` cannot be specified when copying to non-contiguous ndarray")
        np.copyto(out, self._host)
        return out

    def item(self):
        if self.size != 1:
            raise ValueError("can only convert an array of size 1 to a Python scalar")
        return self.get().item()

    def __bool__(self):
        if self.size == 0:
            message = "The truth value of an empty array is ambiguous."
            warnings.warn(message, DeprecationWarning, stacklevel=2)
            return False
        if self.size > 1:
            raise ValueError(
                "The truth value of an array with more than one element is ambiguous. "
                "Use a.any() or a.all()"
            )
        return bool(self.get())

    def __iter__(self):
        if self.ndim == 0:
            raise TypeError("iteration over a 0-d array")
        host_reads.add()  # CuPy yields device views, but a host loop over elements is as slow
        return (self[i] for i in range(len(self)))

    def __len__(self):
        if self.ndim == 0:
            raise TypeError("len() of unsized object")
        return self._host.shape[0]

    tolist = lambda self: self.get().tolist()  # noqa: E731
    tobytes = lambda self, order="C": self.get().tobytes(order)  # noqa: E731
    __int__ = lambda self: int(self.get())  # noqa: E731
    __float__ = lambda self: float(self.get())  # noqa: E731
    __complex__ = lambda self: complex(self.get())  # noqa: E731
    __repr__ = lambda self: repr(self.get())  # noqa: E731
    __str__ = lambda self: str(self.get())  # noqa: E731
    __format__ = lambda self, spec: format(self.get(), spec)  # noqa: E731

    # indexing and filling
    def __getitem__(self, key):
        key, advanced = _index(self._host, key)
        if advanced:
            _launched("getitem")
        with _no_wrapped_index(advanced):
            result = self._host[key]
        return _wrap(result.copy()) if advanced else _wrap(result[...], (self,))

    def __setitem__(self, key, value):
        key, advanced = _index(self._host, key)
        if not isinstance(value, ndarray):
            if not advanced:  # CuPy passes anything but a device array to `fill`
                _wrap(self._host[key], (self,)).fill(value)
                return
            value = array(value, dtype=self.dtype)  # here it does copy from the host
        _launched("setitem")
        numbers = [k for k in key if isinstance(k, np.ndarray) and k.dtype.kind in "iu"]
        if len(numbers) == 1 and np.unique(numbers[0]).size < numbers[0].size and value.size > 1:
            raise AssertionError("repeated index: CuPy leaves open which value is stored")
        with _no_wrapped_index(advanced), np.errstate(all="ignore"):
            self._host[key] = value._host

    @_unfusable
    def fill(self, value):
        if isinstance(value, ndarray):
            if value._host.shape != ():
                raise ValueError("non-scalar cupy.ndarray cannot be used for fill")
            host_reads.add()  # CuPy asks `value == 0`
            value = value._host.astype(self.dtype)
        else:
            value = np.asarray(value, dtype=self.dtype)
            if value.shape != ():
                raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
        self._host[...] = value

    def set(self, arr, stream=None):
        if not isinstance(arr, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if self.dtype != arr.dtype:
            raise TypeError(f"{arr.dtype} array cannot be set to {self.dtype} array")
        if self._host.shape != arr.shape:
            raise ValueError(f"Shape mismatch. Old shape: {self.shape}, new shape: {arr.shape}")
        if not self._host.flags.forc:
            raise RuntimeError("Cannot set to non-contiguous array")
        np.copyto(self._host, arr)

    # copies and views
    def astype(self, dtype, order="K", casting=None, subok=None, copy=True):
        if casting is not None:
            raise TypeError("casting is not supported yet")
        if subok is not None:
            raise TypeError("subok is not supported yet")
        if copy or self._host.dtype != dtype:
            _launched("astype")
        with np.errstate(all="ignore"):
            host = self._host.astype(dtype, order=order or "K", copy=copy)
        return _wrap(host, (self,))

    def copy(self, order="C"):
        _launched("memcpy")
        return _wrap(self._host.copy(order))

    def flatten(self, order="C"):
        return _wrap(self._host.flatten(order))

    @_unfusable
    def view(self, dtype=None, type=None):
        if type is not None:
            raise NotImplementedError("the stand-in does not model view(type=...)")
        return _wrap(self._host.view() if dtype is None else self._host.view(dtype), (self,))

    @_unfusable
    def reshape(self, *shape, order="C", copy=None):
        if len(shape) == 1:
            shape = shape[0]
        keywords = {} if copy is None else {"copy": copy}  # NumPy has it since 2.1
        return _wrap(np.reshape(self._host, shape, order=order, **keywords), (self,))

    @_unfusable
    def transpose(self, *axes):
        return _wrap(self._host.transpose(*axes), (self,))

    @_unfusable
    def sort(self, axis=-1, kind=None):
        self._host.sort(axis=axis, kind=kind)

    def conj(self):
        return self if self.dtype.kind != "c" else _ufuncs["conjugate"](self)

    conjugate = conj
    __copy__ = lambda self: self.copy()  # noqa: E731
    __deepcopy__ = lambda self, memo: self.copy()  # noqa: E731
    __neg__ = lambda self: _ufuncs["negative"](self)  # noqa: E731
    __pos__ = lambda self: _ufuncs["positive"](self)  # noqa: E731
    __abs__ = lambda self: _ufuncs["absolute"](self)  # noqa: E731
    __invert__ = lambda self: _ufuncs["invert"](self)  # noqa: E731


def _item_if_0d(value):
    return value.item() if isinstance(value, np.ndarray) and value.ndim == 0 else value


def _add_operators() -> None:
    names = _words("""add:add sub:subtract mul:multiply truediv:divide floordiv:floor_divide
        mod:remainder pow:power matmul:matmul lshift:left_shift rshift:right_shift
        and:bitwise_and or:bitwise_or xor:bitwise_xor""")
    comparisons = _words("""lt:less le:less_equal eq:equal ne:not_equal gt:greater
        ge:greater_equal""")

    def forward(name, comparison=False):
        def operator(self, other):
            if isinstance(other, ndarray):
                return _ufuncs[name](self, other)
            foreign = other is None or type(other).__eq__ is object.__eq__
            if foreign and name in ("equal", "not_equal"):  # never equal to an element
                return full(self.shape, name == "not_equal", dtype=bool)
            protocol = getattr(other, "__array_ufunc__", ndarray)
            if protocol is None or (
                protocol is ndarray and getattr(other, "__array_priority__", 0) > 100
            ):
                return NotImplemented
            if _fusing():
                return _ufuncs[name](self, other)
            # CuPy hands over to NumPy's dispatch, which comes back to `__array_ufunc__`
            return getattr(np, name)(self, _item_if_0d(other) if comparison else other)

        return operator

    for short, name in (pair.split(":") for pair in names):
        setattr(ndarray, f"__{short}__", forward(name))
        setattr(ndarray, f"__r{short}__", lambda x, y, name=name: _ufuncs[name](y, x))
        if short != "matmul":  # CuPy has no __imatmul__: `a @= b` rebinds `a`
            setattr(ndarray, f"__i{short}__", lambda x, y, name=name: _ufuncs[name](x, y, x))
    for short, name in (pair.split(":") for pair in comparisons):
        setattr(ndarray, f"__{short}__", forward(name, comparison=True))
    for name in ("__abs__", "__rpow__"):  # the only operators that fusion lacks
        setattr(ndarray, name, _unfusable(getattr(ndarray, name)))


# ---------------------------------------------------------------- creation
@_unfusable
def array(obj, dtype=None, copy=True, order="K", subok=False, ndmin=0, *, blocking=False):
    if subok:
        raise NotImplementedError
    if isinstance(obj, ndarray):
        if not copy and dtype in (None, obj.dtype) and order in ("K", None) and ndmin <= obj.ndim:
            return obj
        if copy is False:
            raise ValueError("Unable to avoid copy while creating an array as requested.")
        host = obj._host
    else:
        host = _stacked(obj)
    with np.errstate(all="ignore"):
        return _wrap(np.array(host, dtype=dtype, order=order or "K", ndmin=ndmin))


def _stacked(obj):
    """Sequences of device arrays only are joined on the device; a mixture is refused."""
    if isinstance(obj, list | tuple) and obj:
        items = [x._host if isinstance(x, ndarray) else _stacked(x) for x in obj]
        if _all(isinstance(x, ndarray | list | tuple) for x in obj):
            return items
        if _any(isinstance(x, ndarray) for x in obj):
            raise TypeError(IMPLICIT)
    return obj


def asarray(a, dtype=None, order=None, *, copy=None, blocking=False):
    return array(a, dtype, copy, order)


@_unfusable
def ascontiguousarray(a, dtype=None):
    _require(a)
    same = a._host.flags.c_contiguous and dtype in (None, a.dtype)
    return a if same else _wrap(np.ascontiguousarray(a._host, dtype))


def asnumpy(a, stream=None, order="C", out=None, *, blocking=True):
    if isinstance(a, ndarray):
        return a.get(stream=stream, order=order, out=out, blocking=blocking)
    host = np.asarray(a, order=order)
    if out is None:
        return host
    out[...] = host
    return out


@_unfusable
def empty(shape, dtype=float, order="C"):
    return ndarray(shape, dtype, order=order)


@_unfusable
def empty_like(prototype, dtype=None, order="K", subok=None, shape=None):
    if subok is not None:
        raise TypeError("subok is not supported yet")
    # CuPy takes an empty shape for "not given"
    host = np.empty_like(_require(prototype), dtype, order=order, shape=shape or None)
    host[...] = ndarray((), host.dtype)._host
    return _wrap(host)


def full(shape, fill_value, dtype=None, order="C"):
    if dtype is None:
        dtype = (fill_value if isinstance(fill_value, ndarray) else np.array(fill_value)).dtype
    result = ndarray(shape, dtype, order=order)
    copyto(result, fill_value, casting="unsafe")
    return result


def full_like(a, fill_value, dtype=None, order="K", subok=None, shape=None):
    result = empty_like(a, dtype, order, subok, shape)
    copyto(result, fill_value, casting="unsafe")
    return result


def zeros(shape, dtype=float, order="C"):
    return full(shape, 0, dtype or float, order)


def ones(shape, dtype=float, order="C"):
    return full(shape, 1, dtype or float, order)


def zeros_like(a, dtype=None, order="K", subok=None, shape=None):
    return full_like(a, 0, dtype, order, subok, shape)


def ones_like(a, dtype=None, order="K", subok=None, shape=None):
    return full_like(a, 1, dtype, order, subok, shape)


@_unfusable
def arange(start, stop=None, step=1, dtype=None):
    if dtype is None:  # any float, a float32 too, makes float64
        kinds = [np.dtype(type(value)).kind for value in (start, stop, step)]
        dtype = float if "f" in kinds else int
    start, stop = (0, start) if stop is None else (start, stop)
    _launched("arange")
    return _wrap(np.arange(start, stop, step, dtype))


def copyto(dst, src, casting="same_kind", where=None):
    target = _require(dst)
    if isinstance(src, np.ndarray):
        if src.size != 1:  # a host array of one element passes for a scalar
            raise ValueError("non-scalar numpy.ndarray cannot be used for copyto")
        src = src.squeeze()[()]
    mask = True if where is None else _scalar_or_host(where)
    _launched("copyto")
    with np.errstate(all="ignore"):
        np.copyto(target, _scalar_or_host(src), casting=casting, where=mask)


# ---------------------------------------------------------------- functions with ways of their own
def where(condition, x=None, y=None):
    if (x is None) != (y is None):
        raise ValueError("Must provide both 'x' and 'y' or neither.")
    if x is None:
        return nonzero(condition)
    _launched("where")
    # a Python bool has no `astype`, hence no host condition
    chosen = np.where(_require(condition), _scalar_or_host(x), _scalar_or_host(y))
    return _wrap(chosen)


@_unfusable
def take(a, indices, axis=None, out=None):
    _launched("take")
    # no `mode`: CuPy always wraps. Host indices are copied to the device, cast to int.
    if not isinstance(indices, ndarray):
        indices = array(indices, dtype=int)
    with _no_wrapped_index(True):
        result = np.take(_require(a), indices._host, axis)
    if out is None:
        return _wrap(result)
    if _require(out).dtype != a.dtype:
        raise TypeError("Output dtype mismatch")
    if out._host.shape != result.shape:
        raise ValueError("Output shape mismatch")
    return _store(out, result, "no")


@_unfusable
def put_along_axis(arr, indices, values, axis):
    value = values if isinstance(values, ndarray) else array(values, dtype=arr.dtype)
    with _no_wrapped_index(True):
        np.put_along_axis(_require(arr), _require(indices), value._host, axis)


def clip(a, a_min, a_max, out=None):
    host = _require(a)
    low, high = (None if x is None else _scalar_or_host(x) for x in (a_min, a_max))
    with np.errstate(all="ignore"):
        result = np.clip(host, low, high)
    return _wrap(result) if out is None else _store(out, result, "same_kind")


@_unfusable
def dot(a, b, out=None):
    left, right = _require(a), _require(b)
    _launched("dot")
    if out is not None:  # stricter than matmul: exact dtype, C order
        if np.result_type(left.dtype, right.dtype) != _require(out).dtype:
            raise ValueError("Not supported dtype combination.")
        if not out._host.flags.c_contiguous:
            raise ValueError("Output array must be C-contiguous")
    with np.errstate(all="ignore"):
        result = np.dot(left, right)
    return _wrap(result) if out is None else _store(out, result, "no")


def nonzero(a):
    host = _require(a)
    if host.ndim == 0:
        raise ValueError("Calling nonzero on 0d arrays is not allowed.")
    host_reads.add()
    return _wrap(host.nonzero())


@_unfusable
def bincount(x, weights=None, minlength=None):
    host, weights = _require(x), None if weights is None else _require(weights)
    if host.dtype.kind == "f":
        raise TypeError("x must be int array")
    host_reads.add(2)  # is one negative, and the largest
    return _wrap(np.bincount(host, weights, minlength or 0))


def may_share_memory(a, b, max_work=None):
    return np.may_share_memory(_require(a), _require(b))


def shares_memory(a, b, max_work=None):
    if a is not b:
        host_reads.add()
    return np.shares_memory(_require(a), _require(b))


def result_type(*arrays_and_dtypes):
    return np.result_type(*(x.dtype if isinstance(x, ndarray) else x for x in arrays_and_dtypes))


def can_cast(from_, to, casting="safe"):
    return np.can_cast(from_.dtype if isinstance(from_, ndarray) else from_, to, casting)


def iscomplexobj(x):
    return x.dtype.kind == "c" if isinstance(x, ndarray) else np.iscomplexobj(x)


def real(val):
    return asarray(val).real


def imag(val):
    return asarray(val).imag


def get_array_module(*args):
    return sys.modules[__name__] if _any(isinstance(x, ndarray) for x in args) else np


def fuse(*args, **kwargs):
    """Run the function, with the limits of the proxies that CuPy would pass."""

    def decorate(function, kernel_name=None):
        @functools.wraps(function)
        def fused(*values):  # no keyword arguments: CuPy's Fusion takes none
            if not _any(isinstance(x, ndarray) for x in values):
                return function(*values)
            for value in values:
                if value is not None and not isinstance(value, ndarray):
                    _scalar_or_host(value)
            outer, _state.fusing = _fusing(), True
            try:
                return function(*values)
            finally:
                _state.fusing = outer

        return fused

    if len(args) == 1 and not kwargs and callable(args[0]):
        return decorate(args[0])
    return lambda function: decorate(function, *args, **kwargs)


# ---------------------------------------------------------------- kernels
class _Parameter:
    """One parameter of an elementwise kernel: ``[raw] type name``; one letter is any type."""

    def __init__(self, text: str, constant: bool) -> None:
        words = text.split()
        if len(words) < 2:
            raise Exception(f"Syntax error: {text}")
        self.letter = self.dtype = None
        *keywords, kind, self.name = words
        if len(kind) == 1:
            self.letter = kind
        else:
            self.dtype = np.dtype(kind)
        if set(keywords) - {"raw"}:
            raise Exception(f'Unknown keyword "{keywords[0]}"')
        self.raw, self.constant = bool(keywords), constant

    def resolve(self, letters, dtype) -> None:
        """Record the type for this parameter's letter, or refuse the argument's type."""
        expected = letters.setdefault(self.letter, dtype) if self.dtype is None else self.dtype
        if expected != dtype:
            raise TypeError(f"Type is mismatched. {self.name} {dtype} {expected}")


def _parameters(text: str, constant: bool) -> tuple[_Parameter, ...]:
    return tuple(_Parameter(p, constant) for p in text.strip().split(",")) if text else ()


class ElementwiseKernel:
    """An elementwise kernel; its text is run by the system's C++ compiler."""

    def __init__(
        self, in_params, out_params, operation, name="kernel", reduce_dims=True, preamble="",
        no_return=False, return_tuple=False, **kwargs,
    ):  # fmt: skip
        if not name.isidentifier() or not name.isascii():
            raise ValueError(f'Invalid kernel name: "{name}"')
        if preamble or set(kwargs) - {"options"}:
            raise AssertionError("the stand-in models no preamble, loop_prep and after_loop")
        self.options = kwargs.get("options", ())
        self.in_params = _parameters(in_params, constant=True)
        self.out_params = _parameters(out_params, constant=False)
        self.params = self.in_params + self.out_params
        self.nin, self.nout = len(self.in_params), len(self.out_params)
        self.nargs = self.nin + self.nout
        if "i" in [p.name for p in self.params]:
            raise ValueError("Can not use 'i' as a parameter name")
        self.operation, self.name = operation, name
        self.no_return, self.return_tuple = no_return, return_tuple

    def __call__(self, *args, **kwargs):
        size = kwargs.pop("size", -1)
        if kwargs.pop("stream", None) is not None or kwargs.pop("block_size", 128) <= 0:
            raise AssertionError("the stand-in has one stream, and blocks of threads")
        if kwargs:
            raise TypeError(f"Wrong arguments {kwargs}")
        if len(args) not in (self.nin, self.nargs):
            raise TypeError(
                f"Wrong number of arguments for {self.name!r}. It must be either {self.nin} or "
                f"{self.nargs} (with outputs), but given {len(args)}."
            )
        for arg in args:
            _scalar_or_host(arg)
        given = list(zip(self.params, args, strict=False))
        arrays = [a._host for p, a in given if isinstance(a, ndarray) and not p.raw]
        if arrays and size != -1:
            raise ValueError("Specified 'size' can be used only if all of the ndarray are 'raw'.")
        if not arrays and size == -1:
            raise ValueError("Loop size is undecided.")
        shape = np.broadcast_shapes(*[a.shape for a in arrays]) if arrays else (size,)
        letters = {}
        for p, a in (*given[self.nin :], *given[: self.nin]):  # outputs decide first
            if isinstance(a, ndarray):
                p.resolve(letters, a.dtype)
        dtypes = [letters[p.letter] if p.dtype is None else p.dtype for p in self.params]
        if len(args) == self.nin:
            if _any(p.raw for p in self.out_params) and size == -1:
                raise ValueError("Output array size is Undecided")
            made = [empty(shape, dtype) for dtype in dtypes[self.nin :]]
            given += zip(self.out_params, made, strict=True)
        outs = [a for _, a in given[self.nin :]]
        for p, a in given[self.nin :]:
            if not isinstance(a, ndarray):
                raise TypeError("Output arguments type must be cupy.ndarray")
            if not p.raw and a.shape != shape:
                raise ValueError("Out shape is mismatched")
        if 0 not in shape:
            self._run(given, dtypes, letters, shape)
        if self.no_return:
            return None
        return outs[0] if self.nout == 1 and not self.return_tuple else tuple(outs)

    def _run(self, given, dtypes, letters, shape):
        if not isinstance(self.options, tuple):  # CuPy looks at them when it compiles
            raise TypeError("Argument 'options' has incorrect type (expected tuple)")
        arguments = []
        for (p, a), dtype in zip(given, dtypes, strict=True):
            kind = p.letter or host_cuda.NAMES[str(dtype)]
            if not isinstance(a, ndarray):
                host, sort = np.empty((), dtype), "number"
                host[()] = a
            elif p.raw:
                if not a._host.flags.c_contiguous:
                    raise AssertionError("the stand-in takes raw arrays in C order only")
                host, sort = a._host, "raw"
            else:
                host, sort = np.broadcast_to(a._host, shape), "array"
            arguments.append((p.name, kind, p.constant, sort, host))
        _launched(self.name)
        host_cuda.loop(letters, arguments, self.operation, shape)


class RawKernel:
    """A kernel as CUDA C; its text is run by the system's C++ compiler, thread by thread.

    CuPy passes any bytes that it gets. Here they must fit the declaration in the text.
    """

    def __init__(self, code, name, options=(), backend="nvrtc", **kwargs):
        if not _all(isinstance(text, str) for text in (code, name, backend)):
            raise TypeError("Argument has incorrect type (expected str)")
        if not isinstance(options, tuple):
            raise TypeError("Argument 'options' has incorrect type (expected tuple)")
        if kwargs or backend != "nvrtc":
            raise AssertionError("the stand-in models options of the usual compiler only")
        self.code, self.name = code, name

    def __call__(self, grid, block, args, *, shared_mem=0):
        for what in (grid, block):
            if not isinstance(what, tuple):
                raise TypeError(f"Argument has incorrect type (expected tuple, got {type(what)})")
        threads = int(np.prod(block))
        if len(grid) != 1 or len(block) != 1 or shared_mem or not 0 < threads <= 1024:
            raise AssertionError("the stand-in models blocks in a row, of 1 to 1024 threads")
        real = {t: c for c, t in re.findall(r"^typedef ([\w ]+) (\w+);", self.code, re.MULTILINE)}
        declared = host_cuda.parameters(self.code, self.name)
        if len(declared) != len(args):
            raise AssertionError(f"{self.name} takes {len(declared)} arguments, not {len(args)}")
        hosts = [self._host(a, *p, real) for a, p in zip(args, declared, strict=True)]
        _launched(self.name)
        pointers = [host.ctypes.data for host in hosts]
        # Threads that wait for each other are one thread here, which does the work of all.
        threads = 1 if "__syncthreads" in self.code else threads
        host_cuda.launch(self.code, self.name, int(grid[0]), threads, pointers)

    def _host(self, a, kind, name, real):
        kind = kind.removeprefix("const ")
        if isinstance(a, ndarray):
            host, kind = a._host, kind.removesuffix("*") if kind.endswith("*") else f"no {kind}"
        else:
            host = np.array(_scalar_or_host(a))  # Python's numbers have 64 bits here
        if host_cuda.NAMES.get(str(host.dtype)) != real.get(kind, kind):
            raise AssertionError(f"{self.name} would read {name} as {kind}, not {host.dtype}")
        return host


def _no_kernels(*args, **kwargs):
    raise NotImplementedError("the stand-in cannot compile CUDA kernels")


class RawModule:
    """Several kernels as one text of CUDA C."""

    def __init__(self, *, code=None, path=None, options=(), backend="nvrtc", **kwargs):
        if path is not None or kwargs:
            raise AssertionError("the stand-in models the text of kernels only")
        self._make = functools.partial(RawKernel, code, options=options, backend=backend)

    def get_function(self, name):
        return self._make(name)


ReductionKernel = _no_kernels

# ---------------------------------------------------------------- functions from a table
_REDUCED = "a, axis=None, out=None, keepdims=False"
_SUMMED = "a, axis=None, dtype=None, out=None, keepdims=False"
_SPREAD = "a, axis=None, dtype=None, out=None, ddof=0, keepdims=False"
FUNCTIONS = {  # CuPy's signature -> names; each calls the NumPy function of that name
    _REDUCED: "max min amax amin any all ptp nanmax nanmin",
    _SUMMED: "sum mean prod argmax argmin nansum",
    _SPREAD: "var std",
    "a, axis=None, dtype=None, out=None": "cumsum cumprod",
    "a, axis=-1, kind=None": "sort argsort",
    "a, axis=None": "count_nonzero squeeze",
    "a, axis": "expand_dims",
    "a": "flatnonzero ndim shape",
    "a, indices, axis": "take_along_axis",
    "a, b": "vdot inner",
    "a, b, out=None": "outer",
    "a, b, axes=2": "tensordot",
    "*operands, **kwargs": "einsum",
    "a, order='C'": "ravel",
    "a, newshape, order='C', *, copy=None": "reshape",
    "a, axes=None": "transpose",
    "a, axis1, axis2": "swapaxes",
    "a, source, destination": "moveaxis",
    "a, repeats, axis=None": "repeat",
    "A, reps": "tile",
    "a, shift, axis=None": "roll",
    "a, decimals=0, out=None": "round around",
    "array, shape": "broadcast_to",
    "*args": "broadcast_arrays",
    "*arys": "atleast_1d atleast_2d",
    "a, n=1, axis=-1, prepend=None, append=None": "diff",
    "a, v, side='left', sorter=None": "searchsorted",
    "ary, indices_or_sections, axis=0": "split array_split",
    "tup, axis=0, out=None, *, dtype=None, casting='same_kind'": "concatenate stack",
    "tup, *, dtype=None, casting='same_kind'": "hstack vstack",
    "ar, return_index=False, return_inverse=False, return_counts=False, axis=None, *, "
    "equal_nan=True": "unique",
    "a, b, rtol=1e-05, atol=1e-08, equal_nan=False": "allclose isclose",
    "a1, a2, equal_nan=False": "array_equal",
    "start, stop, num=50, endpoint=True, retstep=False, dtype=None, axis=0": "linspace",
    "N, M=None, k=0, dtype=float, order='C'": "eye",
}
METHODS = {  # the same for methods, which call the function of that name
    "axis=None, out=None, keepdims=False": "max min any all ptp",
    "axis=None, dtype=None, out=None, keepdims=False": "sum mean",
    "axis=None, dtype=None, out=None, keepdims=None": "prod",
    "axis=None, out=None, dtype=None, keepdims=False": "argmax argmin",
    "axis=None, dtype=None, out=None, ddof=0, keepdims=False": "var std",
    "axis=None, dtype=None, out=None": "cumsum cumprod",
    "axis=-1, kind=None": "argsort",
    "axis=None": "squeeze",
    "order='C'": "ravel",
    "axis1, axis2": "swapaxes",
    "repeats, axis=None": "repeat",
    "decimals=0, out=None": "round",
    "indices, axis=None, out=None": "take",
    "b, out=None": "dot",
    "min=None, max=None, out=None": "clip",
    "v, side='left', sorter=None": "searchsorted",
    "": "nonzero",
}
_VIEWS = _words("""squeeze expand_dims ndim shape ravel reshape transpose swapaxes moveaxis
broadcast_to broadcast_arrays atleast_1d atleast_2d split array_split""")
_READS = ("flatnonzero", "unique")  # the size of the result is read back
_FUSABLE = {"sum", "prod", "max", "min", "amax", "amin", "any", "all"}
_CAST_FREELY = f"{FUNCTIONS[_REDUCED]} {FUNCTIONS[_SUMMED]} var std cumsum cumprod".split()
_ARRAYS = {"a", "b", "x", "A", "ar", "ary", "array", "a1", "a2", "v"}


def _signature(text: str) -> inspect.Signature:
    return inspect.signature(eval(f"lambda {text}: 0"))


def _from_table(name: str, text: str, np_function):
    signature = _signature(text)

    def unwrap(parameter, value, owners):
        if isinstance(value, ndarray):
            owners.append(value)
            return value._host
        if isinstance(value, list | tuple) and parameter not in _ARRAYS:
            if parameter == "tup" and not _all(isinstance(x, ndarray) for x in value):
                _ = [_scalar_or_host(x) for x in value]  # a NumPy array: "Unsupported type"
                raise TypeError("Only cupy arrays can be concatenated")
            return type(value)(unwrap(parameter, x, owners) for x in value)
        if parameter in _ARRAYS or isinstance(value, np.ndarray):
            _require(value, f"{name}() argument {parameter!r}")
        return value

    def function(*args, **kwargs):
        bound = signature.bind(*args, **kwargs)
        if _fusing() and (name not in _FUSABLE or bound.arguments.get("keepdims")):
            raise NotImplementedError(f"cupy.{name} cannot be used like this in cupy.fuse")
        if name == "einsum" and set(kwargs) - {"dtype", "optimize"}:
            raise TypeError(f"Did not understand the following kwargs: {list(kwargs)}")
        out, owners = bound.arguments.pop("out", None), []
        dtype = bound.arguments.pop("dtype", None) if name in ("argmax", "argmin") else None
        for key, value in bound.arguments.items():
            if key == "kwargs":
                continue
            bound.arguments[key] = unwrap(key, value, owners)
        if name in _READS:
            host_reads.add()
        if name not in _VIEWS:
            _launched(name)
        quiet = warnings.catch_warnings() if name in ("mean", "var", "std") else None
        with np.errstate(all="ignore"), quiet or contextlib.nullcontext():
            if quiet is not None:  # the mean of nothing is NaN, without a warning
                warnings.simplefilter("ignore", RuntimeWarning)
            with _no_wrapped_index(name == "take_along_axis"):
                result = np_function(*bound.args, **bound.kwargs)
        if name in ("ndim", "shape"):
            return result
        if dtype is not None:
            result = np.asarray(result).astype(dtype)
        if out is not None:  # reductions write to any dtype, the others cast by kind
            return _store(out, result, "unsafe" if name in _CAST_FREELY else "same_kind")
        if _any(result is owner._host for owner in owners):
            result = result.view()  # `squeeze` with nothing to squeeze, say
        return _wrap(result, owners)

    function.__name__ = function.__qualname__ = name
    function.__signature__ = signature
    return function


def _method_from_table(name: str, text: str):
    signature = _signature(f"self{', ' * bool(text)}{text}")
    renamed = {"min": "a_min", "max": "a_max"} if name == "clip" else {}

    def method(self, *args, **kwargs):
        values = dict(signature.bind(self, *args, **kwargs).arguments)
        del values["self"]
        if name == "clip":
            values = {"min": None, "max": None} | values
        if values.get("keepdims", 0) is None:
            del values["keepdims"]
        return globals()[name](self, **{renamed.get(k, k): v for k, v in values.items()})

    method.__name__ = name
    method.__signature__ = signature
    return method


# ---------------------------------------------------------------- CUDA, as far as the host sees it
class _Pool:
    """Bytes held by live arrays; what was freed stays in the pool until `free_all_blocks`."""

    def __init__(self) -> None:
        self._used = self._total = 0

    def _allocated(self, nbytes: int) -> None:
        self._used += nbytes
        self._total = self._used if self._used > self._total else self._total

    def _freed(self, nbytes: int) -> None:
        self._used -= nbytes

    def used_bytes(self) -> int:
        return self._used

    def total_bytes(self) -> int:
        return self._total

    def free_bytes(self) -> int:
        return self._total - self._used

    def n_free_blocks(self) -> int:
        return int(self._total > self._used)

    def free_all_blocks(self, stream=None) -> None:
        self._total = self._used


class CUDARuntimeError(RuntimeError):
    """What CUDA's runtime API raises."""

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(f"cudaError {status}")


class _Runtime:
    """`device_count` is for tests to set; at 0 CUDA reports an error, as a driver does."""

    CUDARuntimeError = CUDARuntimeError
    device_count = 1

    def getDeviceCount(self) -> int:
        if not self.device_count:
            raise CUDARuntimeError(100)  # cudaErrorNoDevice
        return self.device_count

    def getDevice(self) -> int:
        return 0


class OutOfMemoryError(MemoryError):
    """What the memory pool raises."""

    def __init__(self, size: int, total: int, limit: int = 0) -> None:
        super().__init__(f"Out of memory allocating {size:,} bytes")


class Device:
    """A device, usable when its number is below `cuda.runtime.device_count`."""

    compute_capability, mem_info = "80", (8 << 30, 16 << 30)

    def __init__(self, device=None) -> None:
        self.id = 0 if device is None else int(device)

    def use(self) -> None:  # a device that does not exist shows up here, not before
        if not 0 <= self.id < cuda.runtime.getDeviceCount():
            raise CUDARuntimeError(101)  # cudaErrorInvalidDevice

    synchronize = use
    __eq__ = lambda self, other: isinstance(other, Device) and other.id == self.id  # noqa: E731
    __hash__ = lambda self: hash(self.id)  # noqa: E731
    __int__ = lambda self: self.id  # noqa: E731

    def __enter__(self):
        self.use()
        return self

    def __exit__(self, *error) -> None:
        pass


class Stream:
    """A stream on which all work is done at once."""

    null: Stream
    done = True

    def __init__(self, null=False, non_blocking=False, ptds=False, priority=None) -> None:
        self.ptr = 0

    def synchronize(self) -> None:
        pass

    def record(self, event=None):
        event = event or Event()
        event.record(self)
        return event

    def wait_event(self, event) -> None:
        pass

    use = __enter__ = lambda self: self
    __exit__ = lambda self, *error: None  # noqa: E731


class Event:
    """A point in time."""

    def __init__(self, block=False, disable_timing=False, interprocess=False) -> None:
        self._time = None
        self._timed = not disable_timing

    def record(self, stream=None) -> None:
        self._time = time.perf_counter()

    def synchronize(self) -> None:
        pass

    done = property(lambda self: True)


def _get_elapsed_time(start_event, end_event) -> float:
    for event in (start_event, end_event):
        if event._time is None or not event._timed:
            raise CUDARuntimeError(400)  # cudaErrorInvalidResourceHandle
    return 1e3 * (end_event._time - start_event._time)


class _Namespace(types.SimpleNamespace):
    def __getattr__(self, name: str):
        raise AttributeError(_MISSING.format(f"{self._name}.{name}"))


_MISSING = (
    "module 'cupy' has no attribute {!r} here: "
    "the stand-in does not model it; if CuPy has it, add it to strict_cupy.py"
)
_memory_pool, _pinned_pool = _Pool(), _Pool()
Stream.null = Stream(null=True)


def is_available() -> bool:
    return cuda.runtime.device_count > 0


def get_default_memory_pool():
    return _memory_pool


def get_default_pinned_memory_pool():
    return _pinned_pool


cuda = _Namespace(
    _name="cuda", Device=Device, Stream=Stream, Event=Event, runtime=_Runtime(),
    get_elapsed_time=_get_elapsed_time, is_available=is_available,
    get_current_stream=lambda device_id=-1: Stream.null,
    alloc_pinned_memory=bytearray,
    memory=_Namespace(_name="cuda.memory", OutOfMemoryError=OutOfMemoryError),
)  # fmt: skip


class _Linalg:
    """Which numbers products of a dtype are computed in, for the whole process."""

    COMPUTE_TYPE_DEFAULT, COMPUTE_TYPE_TF32 = 1, 7

    def __init__(self) -> None:
        self.chosen = {}

    def set_compute_type(self, dtype, compute_type) -> None:
        self.chosen[np.dtype(dtype)] = compute_type


def _gemm(transa, transb, a, b, out=None, alpha=1.0, beta=0.0):
    """Compute ``alpha op(a)·op(b) + beta out`` as BLAS does: the sum is multiplied as a whole."""
    left, right = _require(a), _require(b)
    assert left.ndim == right.ndim == 2
    assert left.dtype == right.dtype
    if left.dtype.char not in "fdFD":
        raise TypeError("invalid dtype")
    turned = {"N": lambda x: x, "T": lambda x: x.T, "H": lambda x: x.T.conj()}
    if transa not in turned or transb not in turned:
        raise TypeError("invalid transpose operator")
    left, right = turned[transa](left), turned[transb](right)
    assert left.shape[1] == right.shape[0]
    if beta != 0 or isinstance(alpha, ndarray):
        raise AssertionError("the stand-in models a number alpha, and beta=0")
    if out is None:
        out = empty((left.shape[0], right.shape[1]), left.dtype, order="F")
    assert out.shape == (left.shape[0], right.shape[1])
    assert out.dtype == left.dtype
    _launched("gemm")
    with np.errstate(all="ignore"):
        return _store(out, np.dot(left, right) * left.dtype.type(alpha), "no")


_core = _Namespace(_name="_core", _routines_linalg=_Linalg())
cublas = _Namespace(_name="cublas", gemm=_gemm)
linalg = _Namespace(
    _name="linalg",
    norm=_from_table("norm", "x, ord=None, axis=None, keepdims=False", np.linalg.norm),
)
# what CuPy itself takes from NumPy
FROM_NUMPY = _words("""float16 float32 float64 complex64 complex128 int8 int16 int32 int64 uint8
uint16 uint32 uint64 bool_ intp integer inexact floating complexfloating number dtype finfo iinfo
promote_types issubdtype nan inf pi e newaxis isscalar""")


def __getattr__(name: str):
    if name == "random":
        raise AttributeError("cupy.random is not provided: the project draws on the host")
    raise AttributeError(_MISSING.format(name))


_add_operators()
for _text, _names in METHODS.items():
    for _name in _names.split():
        setattr(ndarray, _name, _method_from_table(_name, _text))
globals().update({name: getattr(np, name) for name in FROM_NUMPY})
# last, since these names hide Python's own (`sum`, `any`, `max`, `abs`, ...)
globals().update(_ufuncs)
globals().update(
    (name, _from_table(name, text, getattr(np, name)))
    for text, names in FUNCTIONS.items()
    for name in names.split()
)
