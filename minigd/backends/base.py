"""The backend object, which determines where arrays are, and the NumPy backend for the CPU.

A model gets one backend at construction and passes it to its layers. No other code depends on which
backend it is.
"""

import sys
from collections.abc import Callable
from numbers import Number
from typing import Any

import numpy as np

from minigd.backends.frames import listed, plain
from minigd.backends.on_demand import call
from minigd.errors import BackendError, DataError, Remedy, TooLarge, unknown_name, validated
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
    """Arrays of one device, in plain array code. A subclass overrides what its device does better.

    Attributes
    ----------
    name : str
        ``"numpy"`` or ``"cupy"``.
    xp : module
        The array namespace; layers write ``xp.matmul(x, W, out=y)``.
    reads_are_free : bool
        Whether reading a value costs nothing. On a GPU it makes the host wait, so a training step
        there never reads a value.
    """

    name = "numpy"
    xp: Any = np
    reads_are_free = True
    out_of_memory: tuple[type[Exception], ...] = ()
    """The exceptions for an array that does not fit, which a clearer error replaces."""

    def holds(self, x: object) -> bool:
        """Return whether `x` is an array of this backend."""
        return isinstance(x, self.xp.ndarray)

    def here(self, x: Any, what: str) -> Array:
        """Return `x` as an array if it is on this backend, and refuse it otherwise.

        Parameters
        ----------
        x : array-like
        what : str
            What to call it in the error.

        Raises
        ------
        BackendError
            If `x` is on another device. The message names the call that moves it.
        """
        if type(x) is self.xp.ndarray:
            return x
        return _array_of(x, what)

    def asarray(self, x: Any, dtype: Any = None) -> Array:
        """Move `x` to this backend from any device.

        >>> get_backend("numpy").asarray([[1, 2]], dtype="float32")
        array([[1., 2.]], dtype=float32)
        """
        return np.asarray(x.get() if _is_on_device(x) else x, dtype=dtype)

    def keeps(self, nbytes: int) -> bool:
        """Return whether rows of this many bytes should stay on the device for a whole fit."""
        return False

    def to_numpy(self, x: Array) -> Array:
        """Return `x` on the host."""
        return x

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """Return an uninitialized array."""
        return self.xp.empty(shape, dtype=dtype)

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """Return an array of zeros."""
        return self.xp.zeros(shape, dtype=dtype)

    def take(self, x: Array, index: Array, out: Array | None = None) -> Array:
        """Return the rows of `x` with the numbers in `index`, written into `out` if it is given."""
        if not (x.flags.c_contiguous and x.flags.aligned):
            return _take_apart(x, index, out)
        if out is None:
            return np.take(x, index, axis=0)
        # With `out`, NumPy makes a copy to check indices, unless it clips them. Only the trainer
        # gathers in place, and its indices come from a permutation.
        return np.take(x, index, axis=0, out=out, mode="clip")

    def apply(
        self,
        formula: Callable[..., Any],
        *inputs: Array,
        out: Array | tuple[Array, ...],
        **constants: float,
    ) -> None:
        """Write ``formula(*inputs, **constants)`` into `out`.

        Parameters
        ----------
        formula : callable
            One of `minigd.formulas`: row i of each result depends only on row i of the inputs.
        *inputs : Array
            Arrays of the same length; an array with one axis less is a row that all rows share.
        out : Array or tuple of Array
            One per result. It may be one of the inputs.
        **constants : float
            Python numbers, which do not change the dtype of the arrays.

        Examples
        --------
        >>> import numpy as np
        >>> from minigd import formulas
        >>> y = np.zeros(2)
        >>> get_backend("numpy").apply(formulas.relu, np.array([-1.0, 2.0]), out=y)
        >>> y
        array([0., 2.])
        """
        _write(formula(*inputs, **constants), out)

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
        """Return whether x has no NaN and no infinity. On a GPU this makes the host wait."""
        return x.dtype.kind != "f" or bool(self.xp.isfinite(x).all())

    def check_finite(self, x: Array, what: str, rows: Any = None) -> None:
        """Refuse NaN and infinity, and name the first place. On a GPU this reads one flag.

        Parameters
        ----------
        x : Array
        what : str
            What to call it in the error.
        rows : slice or array of int, optional
            The row numbers of x in the whole data set.

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
            raise _not_finite(self.to_numpy(x), what, rows)

    def convert(self, x: Array, dtype: Any, what: str, rows: Any = None) -> Array:
        """Return x in another dtype, in row order, and refuse numbers too large for it.

        On a GPU, reading the result would make the host wait. There such numbers become infinite,
        and the training step that uses them diverges.

        Raises
        ------
        DataError
        """
        with np.errstate(over="ignore"):
            converted = numbers(x, what).astype(dtype, order="C")
        wider = x.dtype.kind == "f" and x.dtype.itemsize > dtype.itemsize
        if self.reads_are_free and wider and not self.all_finite(converted):
            _check_lost(x, converted, what, rows)
        return converted

    def wide(self, value: Array) -> Any:
        """Return a scalar in double precision, for a sum of many, without reading it."""
        return value.astype("float64")

    def synchronize(self) -> None:
        """Wait until the device has finished all work."""

    def free_bytes(self) -> int:
        """Return the free memory for arrays, or infinity if it is not counted."""
        return sys.maxsize

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class NumpyBackend(Backend):
    """Arrays on the CPU; formulas work on slices that stay in the processor's cache."""

    slice_size = 16_384
    """Numbers per slice: an Adam step's five arrays and its temporaries fit in 512 KiB of cache."""

    def apply(
        self,
        formula: Callable[..., Any],
        *inputs: Array,
        out: Array | tuple[Array, ...],
        **constants: float,
    ) -> None:
        """Write ``formula(*inputs, **constants)`` into `out`, slice by slice."""
        first = inputs[0]
        if first.size > self.slice_size and len(first) > 1:
            step = max(1, self.slice_size * len(first) // first.size)
            _write_in_slices(formula, inputs, out, step, constants)
        else:
            _write(formula(*inputs, **constants), out)

    def all_finite(self, x: Array) -> bool:
        """Return whether x has no NaN and no infinity."""
        x = x.T if x.flags.f_contiguous else x
        blas = x.dtype.char in "fd" and x.dtype.isnative and x.flags.aligned
        if blas and x.flags.c_contiguous:
            # One BLAS pass decides the usual case. A sum of squares that overflows decides nothing.
            flat = x.reshape(-1)
            with np.errstate(all="ignore"):
                if np.isfinite(np.dot(flat, flat)):
                    return True
        return self._all_finite_in_pieces(x)

    def _all_finite_in_pieces(self, x: Array) -> bool:
        """Check every number, if the product decided nothing."""
        if x.dtype.kind != "f" or x.ndim == 0:
            return super().all_finite(x)
        # Piece by piece, because the answer is an array too, and x may be a file larger than
        # memory.
        step = max(1, 16 * self.slice_size * len(x) // max(1, x.size))
        pieces = (x[start : start + step] for start in range(0, len(x), step))
        return all(super(NumpyBackend, self).all_finite(piece) for piece in pieces)

    def wide(self, value: Array) -> float:
        """Return a scalar as a Python float."""
        return float(value)


@validated
def get_backend(
    which: Any = "numpy", *, device_budget: int | str | None = None, tf32: bool = False
) -> Backend:
    """Return the backend with this name, or the given backend.

    Parameters
    ----------
    which : {"numpy", "cupy"} or Backend
    device_budget : int or str, optional
    tf32 : bool, default False
        Only for ``"cupy"``: how much of a data set may stay on the GPU, and whether products may be
        less accurate than float32. See `minigd.backends.cupy.CupyBackend`.

    Raises
    ------
    ValueError
        If the name is unknown, or an option of the GPU is given for another backend.
    BackendError
        If the name is ``"cupy"`` and CuPy, or a GPU, is missing.

    Examples
    --------
    >>> get_backend("numpy").name
    'numpy'
    """
    if isinstance(which, str) and which == "cupy":
        return _on_gpu(device_budget=device_budget, tf32=tf32)
    if device_budget is not None or tf32:
        raise ValueError(f"device_budget and tf32 are options of 'cupy', not of {which!r}")
    if isinstance(which, Backend):
        return which
    if isinstance(which, str) and which == "numpy":
        return _NUMPY
    raise unknown_name("backend", which, ["numpy", "cupy"])


def backend_of(x: Any) -> Backend:
    """Return the backend of an array: NumPy's for anything on the host.

    >>> backend_of([1, 2]).name
    'numpy'
    """
    return _on_gpu() if _is_on_device(x) else _NUMPY


def check_where_free(backend: Backend, x: Array, what: str, rows: Any = None) -> None:
    """Refuse NaN and infinity as `check_finite` does, unless that would make the host wait."""
    if backend.reads_are_free:
        backend.check_finite(x, what, rows)


def _on_gpu(**choices: Any) -> Backend:
    backend: Backend = call("minigd.backends.cupy", "CupyBackend", **choices)
    return backend


_NUMPY = NumpyBackend()


def numbers(x: Array, what: str) -> Array:
    """Return `x` if it contains real numbers, and refuse it otherwise."""
    if x.dtype.kind not in "biuf":
        raise _not_numbers(x, what)
    return x


def _not_numbers(x: Array, what: str) -> DataError:
    given = f"{type(x.flat[0]).__name__} {x.flat[0]!r}" if x.size else "nothing"
    advice = f"encode text and categories as numbers first, then `{what}.astype('float32')`"
    if what == "y":
        advice = "for classes, `classes, y = numpy.unique(y, return_inverse=True)` numbers them"
    if x.dtype.kind == "m":
        advice = f"`numpy.divide({what}, numpy.timedelta64(1, 's'))` converts durations to seconds"
    elif x.dtype.kind == "M":
        since = f"numpy.subtract({what}, numpy.min({what}))"
        advice = f"`{since} / numpy.timedelta64(1, 's')` converts times to seconds"
    elif x.dtype.kind == "c":
        advice = f"keep the real part, `numpy.real({what})`"
    elif x.size and all(isinstance(item, Number) for item in x.flat):
        advice = f"`numpy.asarray({what}, dtype='float64')` converts these objects to numbers"
    return DataError(
        f"{what} must hold numbers, but its dtype is {x.dtype} (the first value is {given}): "
        f"{advice}"
    )


def refuse_mask(x: Any, what: str) -> None:
    """Refuse a masked array: NumPy would use the masked values too."""
    if isinstance(x, np.ma.MaskedArray):
        raise DataError(
            f"{what} is a masked array, and its masked values would be used: use "
            f"{what}.filled(...), or only the rows without a mask"
        )


def _array_of(x: Any, what: str) -> Array:
    """Convert to a NumPy array; refuse a mask, and an array on the GPU."""
    refuse_mask(x, what)
    if _is_on_device(x):
        raise BackendError(
            f"{what} is a {type_name(x)} on the GPU, but the model is on the CPU: copy it "
            f"with `{what}.get()`, or move the model with `model.to('cupy')`"
        )
    try:
        return numbers(listed(plain(x, what), what), what)
    except DataError:
        raise
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{what} can't be converted to an array: {error}") from error


def _take_apart(x: Array, index: Array, out: Array | None) -> Array:
    """Take rows that are not contiguous in memory: `np.take` would first copy all of x."""
    if out is None:
        return x[index]
    out[...] = x[index]
    return out


def _not_finite(x: Array, what: str, rows: Any) -> DataError:
    index = np.unravel_index(int(np.argmin(np.isfinite(x))), x.shape)
    return DataError(
        f"{what} holds {x[index]} at {place(index, rows)}: remove such rows, or fill them in"
    )


def _check_lost(x: Array, converted: Array, what: str, rows: Any) -> None:
    """Refuse a number that became infinite when converted to another dtype."""
    lost = np.isfinite(x) & ~np.isfinite(converted)
    if lost.any():
        index = np.unravel_index(int(np.argmax(lost)), x.shape)
        raise TooLarge(
            f"{what} holds {x[index]} at {place(index, rows)}, which is too large for "
            f"{converted.dtype}",
            Remedy("scale the column"),
            Remedy("give the model dtype='float64'", shell=""),
        )


def place(index: tuple[Any, ...], rows: Any = None) -> str:
    """Describe the place of a number in an array.

    >>> place((3, 1)), place((3,), slice(100, 200))
    ('row 3, column 1 (counted from 0)', 'row 103 (counted from 0)')
    """
    row = int(index[0]) if index else 0
    if rows is not None:
        row = rows.start + row if isinstance(rows, slice) else int(rows[row])
    column = f", column {int(index[1])}" if len(index) > 1 else ""
    return f"row {row}{column} (counted from 0)"


def as_tuple(arrays: Any) -> tuple[Array, ...]:
    """Return one array, or several, as a tuple."""
    return arrays if isinstance(arrays, tuple) else (arrays,)


def _write(results: Any, out: Array | tuple[Array, ...]) -> None:
    for a, new in zip(as_tuple(out), as_tuple(results), strict=True):
        a[...] = new


def _write_in_slices(
    formula: Callable[..., Any],
    inputs: tuple[Array, ...],
    out: Array | tuple[Array, ...],
    step: int,
    constants: dict[str, float],
) -> None:
    """Write a formula's results for this many rows at a time, which stay in the cache."""
    first, outs = inputs[0], as_tuple(out)
    for start in range(0, len(first), step):
        rows = slice(start, start + step)
        parts = [a[rows] if a.ndim == first.ndim else a for a in inputs]
        result = formula(*parts, **constants)
        _write(result, tuple([a[rows] for a in outs]))


def _is_on_device(x: object) -> bool:
    return hasattr(x, "__cuda_array_interface__")


def type_name(x: object) -> str:
    """Return the name of a type with its package.

    >>> type_name(np.zeros(1))
    'numpy.ndarray'
    """
    return f"{type(x).__module__.partition('.')[0]}.{type(x).__name__}"
