"""Where every array lives: NumPy on the CPU, CuPy on the GPU.

A model is given one backend at construction and hands it down; nothing else asks which it is.
"""

import importlib
import math
import sys
import threading
from collections.abc import Callable, Iterator
from numbers import Number
from typing import Any

import numpy as np

from minigd.backends import cuda_kernels as kernels
from minigd.backends.frames import listed, plain
from minigd.errors import BackendError, DataError, unknown_name
from minigd.types import Array


class Views(dict[str, Array]):
    """Named views into one vector; assigning to a name writes into its view.

    >>> views = Views({"b": np.zeros(2)})
    >>> views["b"] = [1.0, 2.0]
    >>> views["b"]
    array([1., 2.])
    """

    def __missing__(self, name: str) -> Any:
        none = f"none: build declares them, self.add_param({name!r}, shape, initializer)"
        raise KeyError(f"{name!r}; the names are {', '.join(self) or none}")

    def __setitem__(self, name: str, value: Any) -> None:
        self[name][...] = value


class Backend:
    """One device's arrays, in plain array code; a subclass overrides what its device does better.

    Attributes
    ----------
    name : str
        ``"numpy"`` or ``"cupy"``.
    xp : module
        The array namespace; layers write ``xp.matmul(x, W, out=y)``.
    reads_are_free : bool
        Whether looking at a value costs nothing. On a GPU it makes the host wait, so that a
        training step there must not.
    """

    name = "numpy"
    xp: Any = np
    reads_are_free = True
    out_of_memory: tuple[type[Exception], ...] = ()
    """What is raised where an array does not fit, and is said in other words."""

    def holds(self, x: object) -> bool:
        """Tell whether `x` is an array of this backend."""
        return isinstance(x, self.xp.ndarray)

    def here(self, x: Any, what: str) -> Array:
        """Return `x` as an array if it lives on this backend, and refuse it if it does not.

        Parameters
        ----------
        x : array-like
        what : str
            What to call it in the error.

        Raises
        ------
        BackendError
            If `x` lives on another device; the message names the call that moves it.
        """
        if type(x) is self.xp.ndarray:
            return x
        if isinstance(x, np.ma.MaskedArray):
            raise DataError(
                f"{what} is a masked array, and what its mask hides would be seen: use "
                f"{what}.filled(...), or only the rows without a mask"
            )
        if _is_on_device(x):
            raise BackendError(
                f"{what} is a {_type_name(x)} on the GPU, but the model is on the CPU: bring it "
                f"over with `{what}.get()`, or move the model with `model.to('cupy')`"
            )
        try:
            return numbers(listed(plain(x, what), what), what)
        except DataError:
            raise
        except (TypeError, ValueError) as error:
            raise DataError(f"{what} can't be made into an array: {error}") from error

    def asarray(self, x: Any, dtype: Any = None) -> Array:
        """Move `x` to this backend, from wherever it is.

        >>> get_backend("numpy").asarray([[1, 2]], dtype="float32")
        array([[1., 2.]], dtype=float32)
        """
        return np.asarray(x.get() if _is_on_device(x) else x, dtype=dtype)

    def keeps(self, nbytes: int) -> bool:
        """Tell whether rows of so many bytes are to stay on the device for a whole fit."""
        return False

    def to_numpy(self, x: Array) -> Array:
        """Return `x` on the host."""
        return x

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """Return an array whose content is whatever was in memory."""
        return self.xp.empty(shape, dtype=dtype)

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """Return an array of zeros."""
        return self.xp.zeros(shape, dtype=dtype)

    def take(self, x: Array, index: Array, out: Array | None = None) -> Array:
        """Return the rows of `x` that `index` names, written into `out` if one is given."""
        if not (x.flags.c_contiguous and x.flags.aligned):
            # `np.take` would first copy the whole of x, for each batch.
            if out is None:
                return x[index]
            out[...] = x[index]
            return out
        if out is None:
            return np.take(x, index, axis=0)
        # With `out`, NumPy checks indices by way of a copy, unless it is told to clip them; only
        # the trainer gathers in place, and its indices come from a permutation.
        return np.take(x, index, axis=0, out=out, mode="clip")

    def apply(
        self,
        formula: Callable[..., Any],
        *inputs: Array,
        out: Array | tuple[Array, ...],
        where: Array | None = None,
        **constants: float,
    ) -> Array | None:
        """Write ``formula(*inputs, **constants)`` into `out`.

        Parameters
        ----------
        formula : callable
            One of `minigd.formulas`: row i of each result depends on row i of the inputs alone.
        *inputs : Array
            Arrays of one length; one with an axis less is a row that all rows share.
        out : Array or tuple of Array
            One for each result; it may be one of the inputs.
        where : Array of bool, 0-d, optional
            Keep what `out` held if this is false, or if a result is not finite. It is how a GPU
            skips an update without asking the host. Afterwards it says whether they were written.
        **constants : float
            Python numbers, which leave the dtype of the arrays as it is.

        Returns
        -------
        Array of bool, 0-d, or None
            `where`.

        Examples
        --------
        >>> import numpy as np
        >>> from minigd import formulas
        >>> y = np.zeros(2)
        >>> get_backend("numpy").apply(formulas.relu, np.array([-1.0, 2.0]), out=y)
        >>> y
        array([0., 2.])
        """
        results = formula(*inputs, **constants)
        if where is None:
            _write(results, out)
            return None
        for result in _tuple(results):
            where &= self.xp.isfinite(result).all()
        for a, new in zip(_tuple(out), _tuple(results), strict=True):
            a[...] = self.xp.where(where, new, a)
        return where

    def compute(self, formula: Callable[..., Array], *inputs: Array, **constants: float) -> Array:
        """Return ``formula(*inputs, **constants)``, one array like the first of them."""
        return formula(*inputs, **constants)

    def mean_product(self, x: Array, dy: Array, out: Array) -> None:
        """Write xᵀ·dy / n into `out`, a mean over n rows.

        >>> import numpy as np
        >>> out = np.zeros((1, 1))
        >>> get_backend("numpy").mean_product(np.array([[1.0], [3.0]]), np.ones((2, 1)), out)
        >>> out
        array([[2.]])
        """
        self.xp.dot(x.T, dy, out=out)
        out /= len(x)

    def all_finite(self, x: Array) -> bool:
        """Tell whether x holds neither NaN nor infinity; on a GPU this makes the host wait."""
        return x.dtype.kind != "f" or bool(self.xp.isfinite(x).all())

    def check_finite(self, x: Array, what: str, rows: Any = None) -> None:
        """Refuse NaN and infinity, naming the first place; on a GPU this reads one flag back.

        Parameters
        ----------
        x : Array
        what : str
            What to call it in the error.
        rows : slice or array of int, optional
            The numbers of x's rows in the whole data set.

        Raises
        ------
        DataError

        Examples
        --------
        >>> import numpy as np
        >>> get_backend("numpy").check_finite(np.array([[1.0, 2.0], [np.nan, 4.0]]), "x")
        Traceback (most recent call last):
        minigd.errors.DataError: x holds nan at row 1, column 0 (counted from 0): ...
        """
        if not self.all_finite(x):
            values = self.to_numpy(x)
            index = np.unravel_index(int(np.argmin(np.isfinite(values))), values.shape)
            raise DataError(
                f"{what} holds {values[index]} at {place(index, rows)}: remove such rows, or fill "
                "them in"
            )

    def convert(self, x: Array, dtype: Any, what: str, rows: Any = None) -> Array:
        """Return x in another dtype, row by row in memory; refuse numbers too large for it.

        On a GPU, where a look at the result would make the host wait, they become infinite, and
        the training step that meets them is masked.

        Raises
        ------
        DataError
        """
        with np.errstate(over="ignore"):
            converted = numbers(x, what).astype(dtype, order="C")
        wider = x.dtype.kind == "f" and x.dtype.itemsize > dtype.itemsize
        if self.reads_are_free and wider and not self.all_finite(converted):
            lost = np.isfinite(x) & ~np.isfinite(converted)
            if lost.any():
                index = np.unravel_index(int(np.argmax(lost)), x.shape)
                raise DataError(
                    f"{what} holds {x[index]} at {place(index, rows)}, which is too large for "
                    f"{dtype}: scale the column, or use dtype='float64'"
                )
        return converted

    def wide(self, value: Array) -> Any:
        """Return a scalar in double precision, to sum many of them, without a read."""
        return value.astype("float64")

    def synchronize(self) -> None:
        """Wait until all that was given to the device is done."""

    def free_bytes(self) -> int:
        """Return how much memory is free for arrays; as much as is wanted, where nobody counts."""
        return sys.maxsize

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class NumpyBackend(Backend):
    """Arrays on the CPU; formulas run over slices that stay in the processor's cache."""

    slice_size = 16_384
    """Numbers a slice: an Adam step's five arrays and its temporaries fit in 512 KiB of cache."""

    def apply(
        self,
        formula: Callable[..., Any],
        *inputs: Array,
        out: Array | tuple[Array, ...],
        where: Array | None = None,
        **constants: float,
    ) -> Array | None:
        """Write ``formula(*inputs, **constants)`` into `out`, slice by slice."""
        if where is not None:
            return super().apply(formula, *inputs, out=out, where=where, **constants)
        first = inputs[0]
        n = len(first)
        step = n if first.size <= self.slice_size else max(1, self.slice_size * n // first.size)
        if step >= n:
            _write(formula(*inputs, **constants), out)
            return None
        outs = _tuple(out)
        for start in range(0, n, step):
            rows = slice(start, start + step)
            parts = [a[rows] if a.ndim == first.ndim else a for a in inputs]
            result = formula(*parts, **constants)
            _write(result, tuple([a[rows] for a in outs]))
        return None

    def all_finite(self, x: Array) -> bool:
        """Tell whether x holds neither NaN nor infinity."""
        x = x.T if x.flags.f_contiguous else x
        blas = x.dtype.char in "fd" and x.dtype.isnative and x.flags.aligned
        if blas and x.flags.c_contiguous:
            # One pass of BLAS settles the usual case; a sum of squares that overflows does not.
            flat = x.reshape(-1)
            with np.errstate(all="ignore"):
                if np.isfinite(np.dot(flat, flat)):
                    return True
        if x.dtype.kind != "f" or x.ndim == 0:
            return super().all_finite(x)
        # Piece by piece, for the answer is an array too, and x may be a file larger than memory.
        step = max(1, 16 * self.slice_size * len(x) // max(1, x.size))
        pieces = (x[start : start + step] for start in range(0, len(x), step))
        return all(super(NumpyBackend, self).all_finite(piece) for piece in pieces)

    def wide(self, value: Array) -> float:
        """Return a scalar as a Python float."""
        return float(value)


class CupyBackend(Backend):
    """Arrays on one NVIDIA GPU, through CuPy; each formula is one kernel.

    Parameters
    ----------
    xp : module, optional
        A module with CuPy's names; the installed CuPy by default.
    device_budget : int or str, optional
        How much of a data set may stay on the GPU while a model trains on it: bytes, or a text such
        as ``"2GB"`` or ``"500MiB"``. A larger one streams, batch by batch. Half of the free memory
        by default.
    tf32 : bool, default False
        Whether products of float32 matrices may round their factors to the 11 significant bits of
        TF32, which is several times faster, with a relative error of about 1e-3 a product in place
        of 1e-7. CuPy has one setting for the whole process, which this one changes.

    Raises
    ------
    BackendError
        If CuPy is not installed, no GPU is there, or its driver is missing or too old: each its own
        message.
    ValueError
        If the budget is no size.
    """

    name = "cupy"
    reads_are_free = False

    def __init__(
        self, xp: Any = None, device_budget: int | str | None = None, tf32: bool = False
    ) -> None:
        self.device_budget = None if device_budget is None else size_in_bytes(device_budget)
        self.xp = _import_cupy() if xp is None else xp
        self._cublas = _import_cublas(self.xp)
        self.out_of_memory = (self.xp.cuda.memory.OutOfMemoryError,)
        self.tf32 = tf32
        if tf32:
            linalg = self.xp._core._routines_linalg
            linalg.set_compute_type(np.dtype("float32"), linalg.COMPUTE_TYPE_TF32)

    def here(self, x: Any, what: str) -> Array:
        """Return `x` if it is on the GPU, and refuse it if it is not."""
        if self.holds(x) and x.device.id != self.xp.cuda.runtime.getDevice():
            raise BackendError(
                f"{what} is on GPU {x.device.id}, and the model is on GPU "
                f"{self.xp.cuda.runtime.getDevice()}: copy it with `model.backend.asarray({what})`"
            )
        if not self.holds(x):
            raise BackendError(
                f"{what} is a {_type_name(x)} on the host, but the model is on the GPU: move it "
                f"with `model.backend.asarray({what})`, or the model with `model.to('numpy')`"
            )
        array: Array = x
        return array

    def asarray(self, x: Any, dtype: Any = None) -> Array:
        """Move `x` to the GPU."""
        return self.xp.asarray(x, dtype=dtype)

    def keeps(self, nbytes: int) -> bool:
        """Tell whether rows of so many bytes fit in what may stay on the GPU."""
        if self.device_budget is not None:
            return nbytes <= self.device_budget
        return nbytes <= self.free_bytes() // 2

    def synchronize(self) -> None:
        """Wait for the GPU, for a clock that is to count its work."""
        self.xp.cuda.get_current_stream().synchronize()

    def free_bytes(self) -> int:
        """Return what the GPU has left, and what CuPy keeps of it for itself."""
        free, _ = self.xp.cuda.Device().mem_info
        return int(free) + int(self.xp.get_default_memory_pool().free_bytes())

    def to_numpy(self, x: Array) -> Array:
        """Copy `x` to the host."""
        return self.xp.asnumpy(x)

    def take(self, x: Array, index: Array, out: Array | None = None) -> Array:
        """Return the rows of `x` that `index` names, gathered on the GPU."""
        return self.xp.take(x, index, axis=0, out=out)

    def apply(
        self,
        formula: Callable[..., Any],
        *inputs: Array,
        out: Array | tuple[Array, ...],
        where: Array | None = None,
        **constants: float,
    ) -> Array | None:
        """Write ``formula(*inputs, **constants)`` into `out` in one kernel, where there is one."""
        outs = _tuple(out)
        program = kernels.program_for(formula, inputs, outs, where)
        if program is None:
            return super().apply(formula, *inputs, out=out, where=where, **constants)
        return kernels.launch(self.xp, program, inputs, outs, where, constants)

    def compute(self, formula: Callable[..., Array], *inputs: Array, **constants: float) -> Array:
        """Return ``formula(*inputs, **constants)``, one array like the first of them."""
        out = self.xp.empty_like(inputs[0])
        self.apply(formula, *inputs, out=out, **constants)
        return out

    def mean_product(self, x: Array, dy: Array, out: Array) -> None:
        """Write xᵀ·dy / n into `out`; cuBLAS divides where it multiplies."""
        if self.tf32:
            # cupy.cublas knows nothing of it.
            super().mean_product(x, dy, out)
        else:
            self._cublas.gemm("T", "N", x, dy, out, alpha=1 / len(x))


def get_backend(
    which: Any = "numpy", *, device_budget: int | str | None = None, tf32: bool = False
) -> Backend:
    """Return the backend of a name, or the backend given.

    Parameters
    ----------
    which : {"numpy", "cupy"} or Backend
    device_budget : int or str, optional
    tf32 : bool, default False
        For ``"cupy"`` alone: how much of a data set may stay on the GPU, and whether products may
        be less exact than float32; see `minigd.backends.base.CupyBackend`.

    Raises
    ------
    ValueError
        If the name is not known, or a choice for the GPU is made for another backend.
    BackendError
        If the name is ``"cupy"`` and CuPy, or a GPU, is missing.

    Examples
    --------
    >>> get_backend("numpy").name
    'numpy'
    """
    if isinstance(which, str) and which == "cupy":
        return CupyBackend(device_budget=device_budget, tf32=tf32)
    if device_budget is not None or tf32:
        raise ValueError(f"device_budget and tf32 are choices for 'cupy', not for {which!r}")
    if isinstance(which, Backend):
        return which
    if isinstance(which, str) and which == "numpy":
        return _NUMPY
    raise unknown_name("backend", which, ["numpy", "cupy"])


def backend_of(x: Any) -> Backend:
    """Return the backend that an array lives on; anything on the host is NumPy's.

    >>> backend_of([1, 2]).name
    'numpy'
    """
    return CupyBackend() if _is_on_device(x) else _NUMPY


_NUMPY = NumpyBackend()


def size_in_bytes(size: int | str) -> int:
    """Return a size in bytes: a number, or a text with B, kB, MB, GB, KiB, MiB or GiB.

    >>> size_in_bytes("2GB"), size_in_bytes("1.5 MiB"), size_in_bytes(100)
    (2000000000, 1572864, 100)
    """
    text = str(size).strip().lower()
    number = text.rstrip("kmgib ")
    unit = _UNITS.get(text[len(number) :].strip())
    try:
        value = math.floor(float(number) * (unit or math.nan))
    except ValueError:
        value = -1
    if value < 0:
        raise ValueError(f"{size!r} is no size in bytes, such as 2_000_000_000, '2GB' or '500MiB'")
    return value


_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9}
_UNITS |= {"kib": 2**10, "mib": 2**20, "gib": 2**30}


class Workspace:
    """Arrays to write into: fresh ones, or the same ones again while they are `lent`.

    A public call returns memory of its own, so it works on fresh arrays. The trainer alone reuses
    them: one array a name, as long as the largest batch so far, of which a batch of n rows gets the
    first n. The numbers are the same either way.

    Attributes
    ----------
    lent : int or None
        The thread that reuses the arrays now; a call from another one gets fresh ones.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.lent: int | None = None
        self._arrays: dict[tuple[object, ...], Array] = {}

    def empty(
        self, name: str, shape: tuple[int, ...], dtype: Any, backend: Backend | None = None
    ) -> Array:
        """Return an array to write into; `shape[0]` is the number of rows."""
        backend = self.backend if backend is None else backend
        if self.lent is None or self.lent != threading.get_ident():
            return backend.empty(shape, dtype)
        key = (name, shape[1:], dtype, backend.name)
        array = self._arrays.get(key)
        if array is None or len(array) < shape[0]:
            array = self._arrays[key] = backend.empty(shape, dtype)
        return array if len(array) == shape[0] else array[: shape[0]]

    def named(self) -> Iterator[tuple[str, Array]]:
        """Yield the name and the array of each that is used again and again."""
        for key, array in self._arrays.items():
            yield str(key[0]), array

    @property
    def nbytes(self) -> int:
        """The bytes of the arrays that are used again and again."""
        return sum(int(array.nbytes) for array in self._arrays.values())


def numbers(x: Array, what: str) -> Array:
    """Return `x` if it holds real numbers, and refuse it if it holds anything else.

    Raises
    ------
    DataError
        If the dtype is not boolean, integer or real.
    """
    if x.dtype.kind not in "biuf":
        given = f"{type(x.flat[0]).__name__} {x.flat[0]!r}" if x.size else "nothing"
        advice = f"encode text and categories as numbers first, then `{what}.astype('float32')`"
        if what == "y":
            advice = "for classes, `classes, y = numpy.unique(y, return_inverse=True)` numbers them"
        if x.dtype.kind == "m":
            advice = f"`numpy.divide({what}, numpy.timedelta64(1, 's'))` makes seconds of durations"
        elif x.dtype.kind == "M":
            since = f"numpy.subtract({what}, numpy.min({what}))"
            advice = f"`{since} / numpy.timedelta64(1, 's')` makes seconds of times"
        elif x.dtype.kind == "c":
            advice = f"leave out what is imaginary, `numpy.real({what})`"
        elif x.size and all(isinstance(item, Number) for item in x.flat):
            advice = f"`numpy.asarray({what}, dtype='float64')` makes numbers of such objects"
        raise DataError(
            f"{what} must hold numbers, but its dtype is {x.dtype} (the first value is {given}): "
            f"{advice}"
        )
    return x


def place(index: tuple[Any, ...], rows: Any = None) -> str:
    """Return where a number of an array is, in words.

    >>> place((3, 1)), place((3,), slice(100, 200))
    ('row 3, column 1 (counted from 0)', 'row 103 (counted from 0)')
    """
    row = int(index[0])
    if rows is not None:
        row = rows.start + row if isinstance(rows, slice) else int(rows[row])
    column = f", column {int(index[1])}" if len(index) > 1 else ""
    return f"row {row}{column} (counted from 0)"


def _tuple(arrays: Any) -> tuple[Array, ...]:
    return arrays if isinstance(arrays, tuple) else (arrays,)


def _write(results: Any, out: Array | tuple[Array, ...]) -> None:
    for a, new in zip(_tuple(out), _tuple(results), strict=True):
        a[...] = new


def _is_on_device(x: object) -> bool:
    return hasattr(x, "__cuda_array_interface__")


def _type_name(x: object) -> str:
    return f"{type(x).__module__.partition('.')[0]}.{type(x).__name__}"


def _import_cupy() -> Any:
    try:
        import cupy
    except ImportError as error:
        raise BackendError(
            "CuPy is not installed, or can't be imported: `pip install 'minigd[gpu-cuda12]'` for a "
            "driver of CUDA 12, 'minigd[gpu-cuda13]' for CUDA 13; or use backend='numpy' "
            f"({error})"
        ) from error
    try:
        devices = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        if "InsufficientDriver" in str(error):
            raise BackendError(
                f"CuPy {cupy.__version__} is installed, but no GPU can be used: the NVIDIA driver "
                f"is missing, or too old for CuPy's CUDA ({error}). Install a newer driver, or the "
                "CuPy of an older CUDA, 'minigd[gpu-cuda12]'; or use backend='numpy'"
            ) from error
        raise BackendError(
            f"CuPy {cupy.__version__} is installed, but no GPU is there ({error}): use "
            "backend='numpy'"
        ) from error
    if devices == 0:
        raise BackendError(
            f"CuPy {cupy.__version__} is installed, but no GPU is there: use backend='numpy'"
        )
    return cupy


def _import_cublas(xp: Any) -> Any:
    """Return the products of CuPy, which `import cupy` leaves out."""
    try:
        return xp.cublas if hasattr(xp, "cublas") else importlib.import_module("cupy.cublas")
    except ImportError as error:
        raise BackendError(
            f"CuPy {xp.__version__} is installed, but finds no cuBLAS ({error}): install CUDA's "
            "libraries, for CUDA 12 with `pip install 'cupy-cuda12x[ctk]'`; or use backend='numpy'"
        ) from error
