"""The errors that minigd raises. Each says what was given, what was expected and what to do."""

import difflib
import math
from collections.abc import Iterable, Mapping
from numbers import Real
from operator import index
from typing import Any, TypeVar

Entry = TypeVar("Entry")


class DataError(ValueError):
    """The data can't be trained on as they are: a value, a type or a label is at fault."""


class ShapeError(DataError):
    """Two arrays, or an array and a layer, do not fit together."""


class PerExampleError(ShapeError):
    """A `per_example` returned something other than a number for each row."""


class GradientError(ArithmeticError):
    """A hand-written gradient differs from the numerical one.

    Attributes
    ----------
    diagnosis : str or None
        What the error looks like, where it looks like a slip that is known; the message ends in it.

    Examples
    --------
    >>> error = GradientError("dense1.W: backward gave -1 for 1", "the sign is wrong")
    >>> print(error)
    dense1.W: backward gave -1 for 1
    It looks like: the sign is wrong
    """

    def __init__(self, message: str, diagnosis: str | None = None) -> None:
        looks = "" if diagnosis is None else f"\nIt looks like: {diagnosis}"
        super().__init__(message + looks)
        self.diagnosis = diagnosis


class DivergenceError(FloatingPointError):
    """The loss or a gradient is no longer finite; the parameters are still the last good ones."""


class CheckpointError(ValueError):
    """A file can't be loaded: damaged, too new, of another architecture, or for other data."""


class BackendError(RuntimeError):
    """A backend is not to be had, or arrays of two devices were mixed."""


def unknown_name(what: str, given: object, known: Iterable[str]) -> ValueError:
    """Return the error for a name that is not in a table, with the names that are.

    >>> unknown_name("loss", "hubber", ["mse", "huber"])
    ValueError("unknown loss 'hubber'; the known ones are 'huber', 'mse'; did you mean 'huber'?")
    """
    known = sorted(known)
    names = ", ".join(repr(name) for name in known)
    if isinstance(given, type):
        return ValueError(
            f"unknown {what} {given.__name__}, which is a class: write {given.__name__}(); the "
            f"known names are {names}"
        )
    text = given.lower() if isinstance(given, str) else ""
    close = difflib.get_close_matches(text, known, n=1)
    meant = f"; did you mean {close[0]!r}?" if close else ""
    return ValueError(f"unknown {what} {given!r}; the known ones are {names}{meant}")


def find_by_name(what: str, given: object, known: Mapping[str, Entry]) -> Entry:
    """Return the entry of a table that has this name, and refuse what is no name in it.

    >>> find_by_name("constant", "pi", {"pi": math.pi, "e": math.e})
    3.141592653589793
    """
    if isinstance(given, str) and given in known:
        return known[given]
    raise unknown_name(what, given, known)


def check_integer(name: str, value: Any, lowest: int = 1, also: str = "") -> int:
    """Return `value` as an int if it is a whole number from `lowest` on, and refuse it if not.

    >>> check_integer("batch_size", 500)
    500
    """
    # A truth value has an index too, but nobody means one; NumPy's own is not a subclass of bool.
    try:
        whole = lowest - 1 if "bool" in type(value).__name__ else index(value)
    except TypeError:
        whole = lowest - 1
    if whole < lowest:
        raise ValueError(f"{name} must be an integer, at least {lowest}{also}, not {value!r}")
    return whole


def check_number(name: str, value: Any, lowest: float = 0.0, below: float = math.inf) -> float:
    """Return `value` as a float if it is a number in [lowest, below), and refuse it if not.

    A Python float leaves the dtype of arrays as it is.

    >>> check_number("learning_rate", 1)
    1.0
    """
    real = isinstance(value, Real) and not isinstance(value, bool)
    if not real or not lowest <= float(value) < below:
        limit = "finite" if below == math.inf else f"below {below:g}"
        limit = limit if lowest == -math.inf else f"at least {lowest:g} and {limit}"
        raise ValueError(f"{name} must be a number, {limit}, not {value!r}")
    return float(value)


def check_per_example(owner: object, each: Any, rows: int) -> None:
    """Refuse what a `per_example` returned if it is not a number for each row, shape (rows,)."""
    shape = getattr(each, "shape", None)
    if shape != (rows,):
        kind = type(each).__name__
        given = f"a value of type {kind}, not an array" if shape is None else f"shape {shape}"
        raise PerExampleError(
            f"{type(owner).__name__}.per_example must return a number for each row, shape "
            f"({rows},), and returned {given}: end it in a mean over each row's outputs, "
            ".mean(axis=1), for the mean over the rows is taken after it"
        )
