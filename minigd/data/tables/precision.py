"""Whether a dtype can still distinguish the values of a column.

Numbers near 1e9 are 64 apart in float32. A column of such numbers with a smaller span becomes a
constant. A model learns that constant without any error, and is useless.
"""

from decimal import Context, Decimal, localcontext
from fractions import Fraction
from typing import Any

import numpy as np

from minigd.backends.base import backend_of
from minigd.data.tables.remedy import Remedy, TableError, TableWarning
from minigd.progress import warn
from minigd.types import Array

WIDER_MODEL = Remedy("give the model dtype='float64'", shell="")

_SAMPLE = 1000
"""Number of rows, spread over an array, to check first; all others only if these are in doubt."""

_BLOCK, _FOLDED = 16_384, 64
_FEWEST = 20


def extreme(pick: np.ufunc, x: Array) -> Array:
    """Reduce the rows of x with `pick`, such as `np.fmax`, in few long loops.

    >>> extreme(np.fmin, np.array([[1.0, 4.0], [3.0, 2.0]]))
    array([1., 2.])
    """
    whole = len(x) // _FOLDED * _FOLDED
    if whole > _FOLDED and x.flags.c_contiguous and x.size:
        folded = pick.reduce(x[:whole].reshape(-1, _FOLDED * x.shape[1]))
        x = np.concatenate((folded.reshape(_FOLDED, -1), x[whole:]))
    return np.asarray(pick.reduce(x))


class Rounding:
    """What a conversion does to columns whose rows come in pieces.

    A column is lost if the conversion moves any number by more than a quarter of the column's
    span::

        max_i |x_ij − round(x_ij)|  >  ¼ (max_i x_ij − min_i x_ij)

    Only a few different numbers are left then, or one. A constant column has nothing to lose, and
    neither does a column of fractions that is constant up to rounding in float64. Whole numbers
    have an integer dtype. All results are then exact, even beyond 2⁵³, where float64 would round.

    Parameters
    ----------
    dtype : dtype
        The dtype that the columns are converted to.

    Attributes
    ----------
    low, high : Array, shape (width,)
        The smallest and the largest number of each column so far; Python integers or fractions, as
        long as all numbers were exact.

    Examples
    --------
    >>> rounding = Rounding("float32")
    >>> rounding.add(np.array([[1e9, 0.0], [1e9 + 1, 1.0]]))
    >>> rounding.lost
    array([ True, False])
    >>> print(rounding.problem("price", 0, WIDER_MODEL)[0])
    price goes from 1000000000.0 to 1000000001.0, and numbers there are 64 apart in float32, ...
    """

    def __init__(self, dtype: Any) -> None:
        self.dtype = np.dtype(dtype)
        self.low: Array = np.inf
        self.high: Array = -np.inf
        self._moved: Array = 0.0
        self._noise = 0.0

    def add(self, x: Array) -> None:
        """Record rows on the host, of shape (n, width); NaN is ignored."""
        if not len(x):
            return
        if x.dtype.kind in "iuO":
            low, high, moved = self._exact(x)
            self._widen(low, high, np.fmax.reduce(moved))
        else:
            self.add_floats(x, extreme(np.fmin, x), extreme(np.fmax, x))

    def add_floats(self, x: Array, low: Array, high: Array) -> None:
        """Do the same for fractions, given the smallest and the largest of each column."""
        self._noise = 1e4 * float(np.finfo("float64").eps)
        self._widen(low, high, 0.0)
        # A column that moves by less than a quarter of its span is not lost: the span only grows.
        with np.errstate(over="ignore", invalid="ignore"):
            span = np.asarray(self.high - self.low, dtype=np.float64)
            apart = np.spacing(np.fmax(abs(low), abs(high)).astype(self.dtype)).astype(np.float64)
            doubt = np.flatnonzero(~(apart / 2 <= span / 4))
            if len(doubt):
                some = x if len(doubt) == x.shape[1] else x[:, doubt]
                moved = np.zeros(x.shape[1])
                moved[doubt] = np.fmax.reduce(abs(some - some.astype(self.dtype)))
                self._widen(low, high, moved)

    def _widen(self, low: Array, high: Array, moved: Array) -> None:
        """Record the extremes of some rows, and how far the conversion moves them."""
        self.low, self.high = np.fmin(self.low, low), np.fmax(self.high, high)
        self._moved = np.fmax(self._moved, moved)

    def _exact(self, x: Array) -> tuple[Array, Array, Array]:
        """Return low, high and the moves of whole numbers or fractions, as Python numbers."""
        if x.dtype.kind == "O":
            x = np.vectorize(Fraction, otypes=[object])(x)
            moved = np.vectorize(self._moved_beyond, otypes=[np.float64])(x)
        else:
            moved = _moved(x, self.dtype)
        return np.fmin.reduce(x).astype(object), np.fmax.reduce(x).astype(object), moved

    def _moved_beyond(self, value: Fraction) -> float:
        """Return how far the conversion moves a number that has more digits than float64."""
        with np.errstate(over="ignore"):
            converted = float(self.dtype.type(float(value)))
        return float(abs(Fraction(converted) - value)) if np.isfinite(converted) else np.inf

    @property
    def lost(self) -> Array:
        """Whether each column is lost, of shape (width,)."""
        with np.errstate(over="ignore", invalid="ignore"):
            span = np.asarray(self.high - self.low)
            noise = self._noise * np.fmax(abs(self.low), abs(self.high))
        # A number too large for the dtype is a different problem, with its own error.
        lost = (self._moved > span / 4) & (span > noise) & np.isfinite(self._moved)
        return lost.astype(bool)

    def problem(self, what: str, column: int, wider: Remedy) -> tuple[Any, ...]:
        """Return what is lost of a column, and what to do: `wider` where more digits help."""
        low, high = self.low[column], self.high[column]
        largest = float(max(abs(low), abs(high)))
        if largest < 2**53:
            low, high = float(low), float(high)
        apart = float(np.spacing(self.dtype.type(largest)))
        small = largest < np.finfo(self.dtype).tiny
        advice = "multiply it by a large number" if small else "subtract a number near them"
        remedies = [Remedy(f"{advice} first")]
        # A conversion moves a number by half a spacing; a quarter of the span is too much.
        if self.dtype != np.float64 and np.spacing(largest) <= (high - low) / 2:
            remedies.append(wider)
        problem = (
            f"{what} goes from {_written(low)} to {_written(high)}, and numbers there are "
            f"{apart:.3g} apart in {self.dtype}, which can't tell its values from each other"
        )
        return problem, *remedies


def _written(value: Any) -> str:
    """Return a number with all of its digits."""
    if not isinstance(value, Fraction) or value.denominator == 1:
        return repr(float(value)) if isinstance(value, float) else str(value)
    with localcontext(Context(prec=60)):
        return str(Decimal(value.numerator) / Decimal(value.denominator))


def _moved(x: Array, dtype: np.dtype[Any]) -> Array:
    """Return how far a conversion moves each whole number, exactly; inf where it is too large."""
    with np.errstate(over="ignore"):
        converted = x.astype(dtype).astype(np.float64)
    last = np.iinfo(x.dtype).max
    finite = np.isfinite(converted)
    # A number that is rounded up beyond the largest whole number can't be converted back.
    beyond = converted >= float(last // 2 + 1) * 2
    back = np.where(finite & ~beyond, converted, 0).astype(x.dtype)
    back[beyond] = last
    moved = np.where(x > back, x - back, back - x).astype(np.float64) + beyond
    return np.where(finite, moved, np.inf)


def _holds(dtype: Any, given: Any) -> bool:
    """Tell whether a dtype holds all numbers of another one, digit by digit."""
    if given.kind in "iu" and given.itemsize == 8:
        return False  # NumPy considers float64 safe
    return bool(np.can_cast(given, dtype, "safe"))


def check_rounding(x: Array, y: Array, dtype: Any, rows: Array | None = None) -> None:
    """Refuse targets whose differences a conversion would lose, and warn of such columns of x.

    It checks a thousand rows, and then all rows of the columns that are lost in these. It ignores
    fewer than 20 rows: a small piece of good data may have equal values.

    Parameters
    ----------
    x : Array, shape (n, width)
        In memory, on any device; a sparse matrix, with mostly zeros, is not checked.
    y : Array, shape (n,) or (n, K)
    dtype : dtype
        Of the model.
    rows : array of int, optional
        The rows that count.

    Raises
    ------
    DataError
        If a column of y is lost: a model would learn a constant.

    Examples
    --------
    >>> y = 1e9 + np.linspace(0, 1, 50)
    >>> check_rounding(np.ones((50, 1)), y, "float64")
    >>> check_rounding(np.ones((50, 1)), y, "float32")
    Traceback (most recent call last):
    minigd.data.tables.remedy.TableError: y goes from 1000000000.0 to 1000000001.0, and ...
    """
    problem = problem_of(y, "y", dtype, rows)
    if problem is not None:
        raise TableError(*problem)
    problem = None if hasattr(x, "tocsr") else problem_of(x, "x", dtype, rows)
    if problem is not None:
        warn(TableWarning(*problem), stacklevel=3)


def problem_of(array: Array, what: str, dtype: Any, rows: Any = None) -> tuple[Any, ...] | None:
    """Return what the first column loses, and how many others do, and the remedies."""
    n = len(array) if rows is None else len(rows)
    if _holds(dtype, array.dtype) or n < _FEWEST:
        return None
    columns, rounding = array.reshape(len(array), -1), Rounding(dtype)
    sample = np.unique(np.linspace(0, n - 1, _SAMPLE).astype(np.int64))
    rounding.add(_on_host(columns, sample if rows is None else rows[sample]))
    # A column that is constant in the rows checked may vary in other rows.
    doubt = rounding.lost | ((rounding.low == rounding.high) & (rounding._moved > 0))
    return _problem_of(columns, np.flatnonzero(doubt), what, dtype, rows) if doubt.any() else None


def _on_host(columns: Array, rows: Array) -> Array:
    backend = backend_of(columns)
    return backend.to_numpy(backend.take(columns, backend.asarray(rows)))


def _problem_of(
    columns: Array, some: Array, what: str, dtype: Any, rows: Array | None
) -> tuple[Any, ...] | None:
    """Return what the first of some columns loses, by all of their rows."""
    rounding = Rounding(dtype)
    backend, n = backend_of(columns), len(columns) if rows is None else len(rows)
    few = backend.asarray(some)
    for start in range(0, n, _BLOCK):
        block = slice(start, start + _BLOCK)
        part = (
            columns[block] if rows is None else backend.take(columns, backend.asarray(rows[block]))
        )
        rounding.add(backend.to_numpy(part[:, few]))
        if not (rounding.lost | (rounding.low == rounding.high)).any():
            return None
    lost = np.flatnonzero(rounding.lost)
    if not len(lost):
        return None
    if columns.shape[1] == 1:
        return rounding.problem(what, 0, WIDER_MODEL)
    others = f", like {len(lost) - 1} more," if len(lost) > 1 else ""
    name = f"column {some[lost[0]]} of {what} (counted from 0){others}"
    return rounding.problem(name, int(lost[0]), WIDER_MODEL)
