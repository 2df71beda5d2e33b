"""A loss that is a plain function of predictions and targets."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from minigd.backends.base import numbers
from minigd.errors import GradientError, check_takes
from minigd.nn.losses.base import Loss, check_rows
from minigd.types import Array

_SAID: set[str] = set()
"""The functions for which a warning has said that their gradients are by complex step."""

_STEP = 1e-20


class FunctionLoss(Loss):
    """The loss of a function, ℓ_i = f(prediction, target)_i, and its gradient.

    A plain function given as a loss means ``FunctionLoss(function)``. Without a `derivative` the
    gradient is by complex step, Im f(z + i h e_k) / h for each output k. It is exact to rounding
    and takes K calls of the function. A warning says so once. ``abs``, comparisons, minimum and
    maximum use the real part. If the imaginary part is lost in another way, a comparison with
    differences on the first batch detects it.

    The number of a row must depend only on its own prediction and target, because this class takes
    the mean over the batch. A function that uses other rows, as with a mean over axis 0, is refused
    on the first batch of two rows or more.

    Parameters
    ----------
    function : callable
        From predictions of shape (n, K) and targets to one number per row, of shape (n,). Targets
        with as many numbers as the predictions get their shape and dtype. Others, such as classes
        of shape (n,), are passed unchanged.
    derivative : callable, optional
        From the same arguments to ∂ℓ_i/∂z_ik, of shape (n, K), not divided by n.

    Examples
    --------
    >>> import numpy as np
    >>> def log_cosh(prediction, target):
    ...     return np.log(np.cosh(prediction - target)).mean(axis=1)
    >>> loss = FunctionLoss(log_cosh, lambda z, y: np.tanh(z - y) / z.shape[1])
    >>> round(float(loss.forward(np.array([[1.0], [3.0]]), np.array([0.0, 3.0]))), 4)
    0.2169
    >>> loss.backward().round(4)
    array([[0.7616],
           [0.    ]])

    Source: Squire and Trapp (1998), "Using complex variables to estimate derivatives of real
    functions", SIAM Review 40(1).
    """

    def __init__(
        self,
        function: Callable[[Array, Array], Array],
        derivative: Callable[[Array, Array], Array] | None = None,
    ) -> None:
        check_takes("function", function, "prediction", "target")
        if derivative is not None:
            check_takes("derivative", derivative, "prediction", "target")
        self.function, self.derivative = function, derivative
        self._compared = self._by_row = False

    @property
    def name(self) -> str:
        """The function's name."""
        return str(getattr(self.function, "__name__", self.function))

    def per_example(self, z: Array, y: Array) -> Array:
        """Return ℓ_i."""
        if z.dtype.kind == "c" and isinstance(z, np.ndarray):
            return np.asarray(self.function(z.view(_ByRealPart), y))
        return self.function(z, y)

    def gradient(self, z: Array, y: Array) -> Array:
        """Return ∂ℓ_i/∂z_ik."""
        if not self._by_row and len(z) > 1:
            self._check_rows(z.astype("float64"), y)
            self._by_row = True
        if self.derivative is not None:
            return self.derivative(z, y)
        wide = z.astype("float64")
        dz = self._by_complex_step(wide, y)
        if not self._compared:
            self._say()
            self._compare(wide, y, dz)
            self._compared = True
        return dz.astype(z.dtype)

    def check_shape(self, y: Array, shape: tuple[int, ...]) -> None:
        """Refuse targets that are not one or more numbers per row."""
        check_rows(y, shape)
        numbers(y, "y")

    def targets(self, y: Array, z: Array) -> Array:
        """Return y in the shape and dtype of z if it has as many numbers, or else y itself."""
        return super().targets(y, z) if y.size == z.size else y

    def __repr__(self) -> str:
        return f"FunctionLoss({self.name})"

    def _by_complex_step(self, z: Array, y: Array) -> Array:
        dz = self.backend_of(z).empty(z.shape, z.dtype)
        for k in range(z.shape[1]):
            moved = z.astype("complex128")
            moved[:, k] += _STEP * 1j
            try:
                each = self.per_example(moved, y)
            except TypeError as error:  # it took the real ones before
                raise self._not_complex("does not accept complex numbers") from error
            if each.dtype.kind != "c":
                raise self._not_complex("returns real numbers for complex ones")
            dz[:, k] = each.imag / _STEP
        return dz

    def _check_rows(self, z: Array, y: Array) -> None:
        """Refuse a function that returns other numbers for half of the rows alone."""
        together, middle = self.function(z, y), len(z) // 2
        for half in (slice(None, middle), slice(middle, None)):
            with np.errstate(all="ignore"):
                try:
                    apart = abs(self.function(z[half], y[half]) - together[half])
                except Exception as error:  # it may fail in any way with fewer rows
                    raise self._coupled() from error
                near = 1e-5 * abs(together[half]) + 1e-9 * abs(together).max()
                if bool((apart > near).any()):
                    raise self._coupled()

    def _coupled(self) -> GradientError:
        return GradientError(
            f"{self.name} gives a row a different loss when the batch has fewer rows: compute the "
            "loss of each row from its own prediction and target only, without a sum or mean "
            "over axis 0, and not divided by the number of rows"
        )

    def _compare(self, z: Array, y: Array, dz: Array) -> None:
        """Compare with differences, where the left and the right one agree."""
        h, middle = 1e-6, self.function(z, y)
        for k in range(z.shape[1]):
            step = self.backend_of(z).zeros(z.shape, z.dtype)
            step[:, k] = h
            right = (self.function(z + step, y) - middle) / h
            left = (middle - self.function(z - step, y)) / h
            size = 1 + abs(left) + abs(right)
            smooth = abs(left - right) <= 1e-3 * size
            if bool((smooth & (abs(dz[:, k] - (left + right) / 2) > 1e-2 * size)).any()):
                raise self._not_complex("drops the imaginary part of its argument")

    def _not_complex(self, why: str) -> GradientError:
        return GradientError(
            f"{self.name} cannot be differentiated by complex step, because it {why}: "
            f"pass its derivative, gd.FunctionLoss({self.name}, derivative), or write it with "
            "functions that accept complex numbers, such as np.sqrt(e * e) for a norm"
        )

    def _say(self) -> None:
        key = f"{getattr(self.function, '__module__', '')}.{self.name}"
        if key not in _SAID:
            _SAID.add(key)
            warnings.warn(
                f"the gradient of {self.name} is computed by complex step, one call per output: "
                f"gd.FunctionLoss({self.name}, derivative) makes training faster",
                UserWarning,
                stacklevel=2,
            )


class _ByRealPart(np.ndarray):
    """Complex numbers whose abs, sign and comparisons use the real part."""

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **settings: Any) -> Any:
        plain = [_plain(a) for a in inputs]
        if settings.get("out") is not None:
            settings["out"] = tuple(map(_plain, settings["out"]))
        if ufunc in (np.absolute, np.fabs):
            return np.where(plain[0].real < 0, -plain[0], plain[0]).view(type(self))
        if ufunc in _OF_REAL:
            plain = [np.real(a) for a in plain]
        result = getattr(ufunc, method)(*plain, **settings)
        return result.view(type(self)) if np.iscomplexobj(result) and result.ndim else result

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        result = super().__array_function__(function, types, args, kwargs)
        keeps = isinstance(result, np.ndarray) and result.dtype.kind == "c"
        return result.view(type(self)) if keeps else result


_OF_REAL = {
    *(np.sign, np.greater, np.greater_equal, np.less, np.less_equal, np.equal, np.not_equal),
    *(np.isfinite, np.isnan, np.floor, np.ceil),
}


def _plain(a: Any) -> Any:
    return a.view(np.ndarray) if isinstance(a, _ByRealPart) else a
