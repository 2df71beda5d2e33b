"""Arrays on a GPU, through CuPy. This module is loaded when a model is first moved to a GPU."""

import importlib
import math
from typing import Any

import numpy as np

from minigd.backends.base import Backend, type_name
from minigd.backends.on_demand import missing
from minigd.errors import BackendError, MissingBackend, Remedy
from minigd.types import Array


class CupyBackend(Backend):
    """Arrays on one NVIDIA GPU, through CuPy.

    Parameters
    ----------
    xp : module, optional
        A module with CuPy's names; the installed CuPy by default.
    device_budget : int or str, optional
        How much of a data set may stay on the GPU during training: bytes, or a text such as
        ``"2GB"`` or ``"500MiB"``. A larger data set is copied batch by batch. The default is half
        of the free memory.
    tf32 : bool, default False
        Whether products of float32 matrices may round their factors to the 11 significant bits of
        TF32. That is several times faster, with a relative error of about 1e-3 per product instead
        of 1e-7. CuPy has one setting for the whole process, which this option changes.

    Raises
    ------
    BackendError
        If CuPy is not installed, there is no GPU, or its driver is missing or too old. Each case
        has its own message.
    ValueError
        If the budget is not a size.
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
                f"{what} is a {type_name(x)} on the host, but the model is on the GPU: move it "
                f"with `model.backend.asarray({what})`, or the model with `model.to('numpy')`"
            )
        array: Array = x
        return array

    def asarray(self, x: Any, dtype: Any = None) -> Array:
        """Move `x` to the GPU."""
        return self.xp.asarray(x, dtype=dtype)

    def keeps(self, nbytes: int) -> bool:
        """Return whether rows of this many bytes may stay on the GPU."""
        if self.device_budget is not None:
            return nbytes <= self.device_budget
        return nbytes <= self.free_bytes() // 2

    def synchronize(self) -> None:
        """Wait for the GPU, before a clock is read."""
        self.xp.cuda.get_current_stream().synchronize()

    def free_bytes(self) -> int:
        """Return the free memory of the GPU, and that of CuPy's pool."""
        free, _ = self.xp.cuda.Device().mem_info
        return int(free) + int(self.xp.get_default_memory_pool().free_bytes())

    def to_numpy(self, x: Array) -> Array:
        """Copy `x` to the host."""
        return self.xp.asnumpy(x)

    def take(self, x: Array, index: Array, out: Array | None = None) -> Array:
        """Return the rows of `x` with the numbers in `index`, gathered on the GPU."""
        return self.xp.take(x, index, axis=0, out=out)

    def mean_product(self, x: Array, dy: Array, out: Array) -> None:
        """Write xᵀ·dy / n into `out`. cuBLAS divides and multiplies in one call."""
        if self.tf32:
            # cupy.cublas can't do this.
            super().mean_product(x, dy, out)
        else:
            self._cublas.gemm("T", "N", x, dy, out, alpha=1 / len(x))


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
        raise ValueError(
            f"invalid size {size!r}: expected bytes, 2_000_000_000, or text such as '2GB'"
        )
    return value


_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9}
_UNITS |= {"kib": 2**10, "mib": 2**20, "gib": 2**30}


_ON_THE_CPU = Remedy("use {}", {"backend": "numpy"})


def _import_cupy() -> Any:
    try:
        import cupy
    except ImportError as error:
        raise MissingBackend(
            f"{missing('cupy', 'a GPU', error)} for a driver of CUDA 12, cupy-cuda13x for CUDA 13",
            _ON_THE_CPU._replace(words="or use {}"),
        ) from error
    installed = f"CuPy {cupy.__version__} is installed, but no GPU"
    try:
        devices = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        if "InsufficientDriver" in str(error):
            raise MissingBackend(
                f"{installed} can be used: the NVIDIA driver is missing, or too old for CuPy's "
                f"CUDA ({error})",
                Remedy("install a newer driver"),
                Remedy("the CuPy of an older CUDA, `pip install cupy-cuda12x`"),
                _ON_THE_CPU,
            ) from error
        raise MissingBackend(f"{installed} was found ({error})", _ON_THE_CPU) from error
    if devices == 0:
        raise MissingBackend(f"{installed} was found", _ON_THE_CPU)
    return cupy


def _import_cublas(xp: Any) -> Any:
    """Return CuPy's cuBLAS module, which `import cupy` does not load."""
    try:
        return xp.cublas if hasattr(xp, "cublas") else importlib.import_module("cupy.cublas")
    except ImportError as error:
        raise MissingBackend(
            f"CuPy {xp.__version__} is installed, but can't find cuBLAS ({error})",
            Remedy("install CUDA's libraries, for CUDA 12 with `pip install 'cupy-cuda12x[ctk]'`"),
            _ON_THE_CPU,
        ) from error
