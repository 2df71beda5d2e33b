"""The errors that minigd raises. Each says what was given, what was expected and what to do."""

import contextlib
import difflib
import functools
import inspect
import math
import os
import sys
import types
import typing
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import chain
from numbers import Real
from operator import index
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar

import numpy as np

Entry = TypeVar("Entry")
Function = TypeVar("Function", bound=Callable[..., Any])

# Those above U+2000 end a line, or change the order in which letters are shown.
_OBEYED = {*range(32), *range(127, 160), *range(0x2028, 0x202F), *range(0x2066, 0x206A)}
_ESCAPED = {code: repr(chr(code))[1:-1] for code in _OBEYED - set(map(ord, "\n\t"))}


def escape_controls(text: str) -> str:
    r"""Return a text in which control characters of a terminal are spelled out.

    Names in files may contain any of them. Line ends and tabs stay.

    >>> escape_controls("red\x1b[2J\r\n")
    'red\\x1b[2J\\r\n'
    """
    return text.translate(_ESCAPED)


class DataError(ValueError):
    """The data can't be used for training as they are: a value, a type or a label is wrong."""

    def __str__(self) -> str:
        return escape_controls(super().__str__())


class ShapeError(DataError):
    """Two arrays, or an array and a layer, do not fit together."""


class PerExampleError(ShapeError):
    """A `per_example` returned something other than a number for each row."""


class GradientError(ArithmeticError):
    """A hand-written gradient differs from the numerical one.

    Attributes
    ----------
    diagnosis : str or None
        The known mistake that the error looks like, if any; the message ends with it.

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
    """The loss or a gradient is not finite. The parameters are still the last good ones."""


class CheckpointError(ValueError):
    """A file can't be loaded: damaged, too new, of another architecture, or for other data."""

    def __str__(self) -> str:
        return escape_controls(super().__str__())


class BackendError(RuntimeError):
    """A backend is unavailable, or arrays from different devices were mixed."""


def unknown_name(
    what: str, given: object, known: Iterable[str], also: Iterable[str] = ()
) -> ValueError:
    """Return the error for a name that is not in a table, with the valid names.

    A name in `also` is proposed if it is close and no name in the table is.

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
    close = ""
    if isinstance(given, str):
        meant = _meant_elsewhere(what, given, known)
        close = meant or did_you_mean(given, known) or did_you_mean(given, also)
    return ValueError(f"unknown {what} {given!r}; the known ones are {names}{close}")


def _meant_elsewhere(what: str, given: str, known: Collection[str]) -> str:
    """Return "; did you mean ...?" for a name from another library, with the name used here."""
    begin, between, name = given.lower().rpartition("__")
    if what == "updater" and name in UPDATERS_ELSEWHERE:
        return f"; did you mean {UPDATERS_ELSEWHERE[name]}?"
    names = NAMES_ELSEWHERE.get(name), *(own for own, _ in ELSEWHERE.get(name, ()))
    meant = (f"{begin}{between}{own}" for own in names)
    return next((f"; did you mean {own!r}?" for own in meant if own in known), "")


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """Return "; did you mean ...?" with the closest other name, or "" if none is close.

    >>> did_you_mean("Acuracy", ["accuracy", "f1"]), did_you_mean("acc", ["accuracy", "r2"])
    ("; did you mean 'accuracy'?", "; did you mean 'accuracy'?")
    >>> did_you_mean("x", ["accuracy"])
    ''
    """
    meant = closest(given, known)
    return f"; did you mean {meant!r}?" if meant is not None else ""


def closest(given: str, known: Iterable[str]) -> str | None:
    """Return the name that is closest to a mistyped one, in any letter case, if one is close."""
    names = {name.lower(): name for name in known}
    text = str(given).lower()
    close = difflib.get_close_matches(text, names, n=1, cutoff=0.7)
    begun = [name for name in names if len(text) > 1 and name.startswith(text)]
    found = close or (begun if len(begun) == 1 else [])
    return names[found[0]] if found else None


def find_by_name(what: str, given: object, known: Mapping[str, Entry]) -> Entry:
    """Return the table's entry for this name, and refuse a name that is not in the table.

    >>> find_by_name("constant", "pi", {"pi": math.pi, "e": math.e})
    3.141592653589793
    """
    if isinstance(given, str) and given in known:
        return known[given]
    raise unknown_name(what, given, known)


# Arguments ----------------------------------------------------------------------------------------


def check_function(name: str, value: Any) -> None:
    """Refuse anything but a function, such as a class.

    >>> check_function("loss", float)
    Traceback (most recent call last):
    TypeError: loss must be a function, not the class float
    """
    if isinstance(value, type):
        raise TypeError(f"{name} must be a function, not the class {value.__name__}")
    if not callable(value):
        raise TypeError(f"{name} must be a function, not {shown(value)}")


def check_takes(name: str, function: Any, *given: str) -> None:
    """Refuse anything but a function that can take these arguments.

    >>> check_takes("loss", lambda z: z, "prediction", "target")
    Traceback (most recent call last):
    TypeError: <lambda> takes (z), but is called with (prediction, target)
    """
    check_function(name, function)
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some built-in ones have no signature
        return
    try:
        signature.bind(*given)
    except TypeError:
        own = getattr(function, "__name__", type(function).__name__)
        raise TypeError(
            f"{own} takes {signature}, but is called with ({', '.join(given)})"
        ) from None


def check_integer(name: str, value: Any, lowest: int = 1, also: str = "") -> int:
    """Return `value` as an int if it is a whole number >= `lowest`, and refuse it if not.

    >>> check_integer("batch_size", 500)
    500
    """
    # A truth value also has an index, but is a mistake here. NumPy's is not a subclass of bool.
    try:
        whole = lowest - 1 if "bool" in type(value).__name__ else index(value)
    except TypeError:
        whole = lowest - 1
    if whole < lowest:
        raise ValueError(f"{name} must be an integer, at least {lowest}{also}, not {shown(value)}")
    return whole


def check_number(name: str, value: Any, lowest: float = 0.0, below: float = math.inf) -> float:
    """Return `value` as a float if it is a number in [lowest, below), and refuse it if not.

    A Python float leaves the dtype of arrays as it is.

    >>> check_number("learning_rate", 1)
    1.0
    """
    real = isinstance(value, Real) and not isinstance(value, bool)
    huge = isinstance(value, int) and abs(value) > sys.float_info.max  # too large for a float
    if huge or not real or not lowest <= float(value) < below:
        raise _out_of_range(name, value, lowest, below)
    return float(value)


def _out_of_range(name: str, value: Any, lowest: float, below: float) -> ValueError:
    limit = "finite" if below == math.inf else f"below {below:g}"
    limit = limit if lowest == -math.inf else f"at least {lowest:g} and {limit}"
    return ValueError(f"{name} must be a number, {limit}, not {shown(value)}")


def check_share(name: str, value: Any) -> float:
    """Return `value` as a float if it is between 0 and 1, and refuse it if not.

    >>> check_share("fraction", 0.25)
    0.25
    """
    real = isinstance(value, Real) and not isinstance(value, bool)
    if not real or not 0 < value < 1:
        raise ValueError(f"{name} must be between 0 and 1, not {shown(value)}")
    return float(value)


def check_epsilon(epsilon: float, dtype: Any, factor: float = 1.0) -> None:
    """Refuse an epsilon that, times a factor, is 0 in a dtype: it could lead to 0 / 0.

    >>> check_epsilon(1e-60, "float32")
    Traceback (most recent call last):
    ValueError: epsilon=1e-60 vanishes in float32: use at least 1.2e-38
    """
    smallest = float(np.finfo(dtype).tiny)
    if epsilon * factor < smallest:
        raise _epsilon_vanishes(epsilon, dtype, smallest / factor)


def _epsilon_vanishes(epsilon: float, dtype: Any, least: float) -> ValueError:
    return ValueError(f"epsilon={epsilon:g} vanishes in {dtype}: use at least {least:.2g}")


def check_flag(name: str, value: Any) -> bool:
    """Return a bool of Python or NumPy as a Python bool, and refuse anything else.

    >>> check_flag("shuffle", "False")
    Traceback (most recent call last):
    TypeError: shuffle must be True or False, not 'False'
    """
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, not {shown(value)}")
    return bool(value)


def check_dtype(
    value: Any, known: tuple[str, ...] = ("float16", "float32", "float64")
) -> np.dtype[Any]:
    """Return a dtype if it is among those known, and refuse it if not.

    >>> check_dtype("float32")
    dtype('float32')
    """
    with contextlib.suppress(TypeError, ValueError):
        dtype = np.dtype("O" if value is None else value)  # for NumPy, None is float64
        if dtype in known:
            return dtype
    raise ValueError(f"dtype must be 'float32' or 'float64', not {shown(value)}")


def check_list(name: str, value: Any, one: str) -> list[Any]:
    """Return the items of a list, or [] for None. Refuse a text, and anything without items.

    >>> check_list("metrics", None, "metric"), check_list("metrics", ["mae"], "metric")
    ([], ['mae'])
    """
    if isinstance(value, str) or (value is not None and not _LIST.fits(value)):
        raise _not_a_list(name, value, one)
    return [] if value is None else list(value)


def _not_a_list(name: str, value: Any, one: str) -> TypeError:
    item = one if callable(value) else shown(value)
    return TypeError(f"{name} must be a list, [{item}], not one {one}")


def shown(value: Any) -> str:
    """Return a value as a message shows it: on one line, and cut if it is long.

    >>> shown(np.zeros((2, 2))), shown("x" * 99)[-9:]
    ('array([[0., 0.], [0., 0.]])', 'xxxxxx...')
    """
    if "__repr__" not in {name for kind in type(value).__mro__[:-1] for name in vars(kind)}:
        return f"{type(value).__name__}()"
    # NumPy itself shows only the corners of a large array.
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def validated(function: Function) -> Function:
    """Refuse arguments that do not match the function's annotations.

    It checks flags, texts, choices, lists, dicts, functions, and objects such as a `Sequential`.
    Numbers, arrays, paths, iterables, and what may be given by name are checked where they are
    used.

    Examples
    --------
    >>> @validated
    ... def draw(names: Sequence[str], bars: bool = False) -> str:
    ...     return ", ".join(names)
    >>> draw(["a", "b"])
    'a, b'
    >>> draw(["a"], bars="no")
    Traceback (most recent call last):
    TypeError: bars must be True or False, not 'no'
    >>> draw(3)
    Traceback (most recent call last):
    TypeError: names must be a list of texts, not 3
    """
    parameters = inspect.signature(function).parameters
    return _checked(function, {name: _kinds_of(p.annotation) for name, p in parameters.items()})


def with_known_names(function: Function) -> Function:
    """Refuse unknown arguments, and name the closest known one; see `validated`.

    Examples
    --------
    >>> @with_known_names
    ... def fit(X: Any, epochs: int = 1) -> None: ...
    >>> fit(3, max_iter=10)
    Traceback (most recent call last):
    minigd.errors.UnknownArgument: fit has no argument 'max_iter'; did you mean epochs=10?
    """
    return _checked(function, dict.fromkeys(inspect.signature(function).parameters, ()))


def _checked(function: Function, kinds: "Mapping[str, tuple[_Kind, ...]]") -> Function:
    names = tuple(kinds)
    every = list(inspect.signature(function).parameters.values())
    takes_all = every and every[-1].kind is inspect.Parameter.VAR_KEYWORD
    needed = {p.name for p in every if p.kind is p.KEYWORD_ONLY and p.default is p.empty}
    unknown = None if takes_all else _fits_any(())
    fits = {name: _fits_any(found) if found else None for name, found in kinds.items()}

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        for name, value in chain(zip(names, args, strict=False), kwargs.items()):
            if (fitting := fits.get(name, unknown)) is not None and not fitting(value):
                raise _unexpected(name, value, kinds.get(name), function, args)
        if needed - kwargs.keys():
            _refuse_other_names(needed - kwargs.keys(), kwargs, function, args)
        return function(*args, **kwargs)

    return typing.cast(Function, checked)


def _refuse_other_names(
    lacking: set[str], kwargs: Mapping[str, Any], function: Function, args: tuple[Any, ...]
) -> None:
    """Refuse another name for a missing argument: Python would name only the missing one."""
    for name, value in kwargs.items():
        meant = {own for own, _ in ELSEWHERE.get(name, ())} | {closest(name, lacking)}
        if meant & lacking:
            raise UnknownArgument(name, value, places_of(function, args))


def _fits_any(kinds: "tuple[_Kind, ...]") -> Callable[[Any], bool]:
    if len(kinds) == 1:
        return kinds[0].fits
    return lambda value: any(kind.fits(value) for kind in kinds)


class _Kind(NamedTuple):
    """What an argument may be: a test, and how it reads after "must be"."""

    fits: Callable[[Any], bool]
    words: str


_NOTHING = _Kind(lambda value: value is None, "None")
_FLAG = _Kind(lambda value: isinstance(value, bool | np.bool_), "True or False")
_TEXT = _Kind(lambda value: isinstance(value, str), "a text")
_DICT = _Kind(lambda value: isinstance(value, Mapping), "a dict")
_FUNCTION = _Kind(callable, "a function")
# A text passes as a list too: the code that reads it shows the list that was meant.
_LIST = _Kind(
    lambda value: (
        hasattr(value, "__iter__")
        and not isinstance(value, bytes | bytearray | Mapping | type)
        and getattr(value, "ndim", 1) != 0
    ),
    "a list",
)
_TEXTS = _Kind(lambda value: _LIST.fits(value) and _are_texts(value), "a list of texts")
_LISTS = (Sequence, Collection, list)


def _are_texts(value: Any) -> bool:
    # Checking must not use up an iterator.
    return not isinstance(value, Collection) or all(isinstance(item, str) for item in value)


def _kinds_of(hint: Any) -> tuple[_Kind, ...]:
    """Return what an annotation allows, or nothing if that is checked elsewhere."""
    parts = typing.get_args(hint) if _is_union(hint) else (hint,)
    kinds = tuple(filter(None, map(_kind_of, parts)))
    # What may be given by name is looked up where the names are known.
    names = [kind for kind in kinds if kind is _TEXT or kind.words.startswith("'")]
    named = names and any(kind not in (_NOTHING, *names) for kind in kinds)
    return () if named or len(kinds) < len(parts) else kinds


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def _is_own(kind: type) -> bool:
    protocol = getattr(kind, "_is_protocol", False)
    return kind.__module__.partition(".")[0] == "minigd" and not protocol


def _kind_of(hint: Any) -> _Kind | None:
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    simple: dict[Any, _Kind] = {type(None): _NOTHING, None: _NOTHING, bool: _FLAG, str: _TEXT}
    if inspect.isclass(hint) and not parts and _is_own(hint):
        return _kind_of_class(hint)
    if origin is Literal:
        choices = [repr(part) for part in parts]
        words = " or ".join(filter(None, [", ".join(choices[:-1]), choices[-1]]))
        return _Kind(lambda value: isinstance(value, str) and value in parts, words)
    if origin in _LISTS:
        return _TEXTS if parts == (str,) else _LIST
    if origin in (Mapping, Callable):
        return _DICT if origin is Mapping else _FUNCTION
    return simple.get(hint)


def _kind_of_class(kind: type) -> _Kind:
    return _Kind(lambda value: isinstance(value, kind), f"a minigd.{kind.__name__}")


def _unexpected(
    name: str,
    value: Any,
    kinds: tuple[_Kind, ...] | None,
    function: Callable[..., Any],
    args: tuple[Any, ...],
) -> Exception:
    if kinds is None:
        return UnknownArgument(name, value, places_of(function, args))
    words = " or ".join(kind.words for kind in kinds)
    if _DICT in kinds:
        return TypeError(f"{name} is a dict, and not {shown(value)}")
    write = isinstance(value, type) and _is_own(value)
    hint = f": write it with parentheses, {value.__name__}()" if write else ""
    error = ValueError if words.startswith("'") else TypeError
    return error(f"{name} must be {words}, not {shown(value)}{hint}")


# Arguments of other libraries ---------------------------------------------------------------------

Places: TypeAlias = Mapping[str, Collection[str]]
"""Calls that may take an argument, written with ``{}`` in its place, and the names they have."""

_RATE = ("updater", "updater=gd.Adam(learning_rate={})")

ELSEWHERE: dict[str, tuple[tuple[str, str], ...]] = {
    **dict.fromkeys(["optimizer", "solver"], (("updater", "updater={}"),)),
    **dict.fromkeys(
        ["lr", "learning_rate_init", "eta0", "eta"], (("learning_rate", "learning_rate={}"), _RATE)
    ),
    "learning_rate": (_RATE,),
    "momentum": (("updater", "updater=gd.SGD(learning_rate=0.01, momentum={})"),),
    "weight_decay": (("updater", "updater=gd.AdamW(weight_decay={})"),),
    **dict.fromkeys(["alpha", "l2_reg"], (("l2", "l2={}"),)),
    **dict.fromkeys(
        ["max_iter", "max_epochs", "n_epochs", "num_epochs", "nb_epoch", "n_iter"],
        (("epochs", "epochs={}"),),
    ),
    "verbose": (("progress", "progress=True"),),
    "progress": (("verbose", "verbose=True"),),
    **dict.fromkeys(
        ["validation_split", "val_split"],
        (
            ("validation_fraction", "early_stopping=True, validation_fraction={}"),
            (
                "",
                "fit(train, validation_data=val), after "
                "`train, val = gd.ArraySource(X, y).split({})`",
            ),
        ),
    ),
    **dict.fromkeys(
        ["validation", "val_data", "eval_set"],
        (("validation_data", "validation_data=(X_val, y_val)"),),
    ),
    **dict.fromkeys(["criterion", "loss_fn", "loss_function", "objective"], (("loss", "loss={}"),)),
    **dict.fromkeys(["scoring", "metric"], (("metrics", "metrics=[...]"),)),
    **dict.fromkeys(["hidden_layer_sizes", "hidden_units", "units"], (("hidden", "hidden={}"),)),
    "n_iter_no_change": (("patience", "patience={}"),),
    "until_epoch": (("", "gd.Trainer(model, loss, updater).fit(..., until_epoch={})"),),
    "device": (("backend", "backend='cupy'"),),
    "random_state": (("seed", "seed={}"),),
    "seed": (("random_state", "random_state={}"),),
}
"""For each argument name of other libraries: the arguments used here, and how each is written.

The first one that the call has is proposed. One without a name is always proposed."""


UPDATERS_ELSEWHERE = {
    "amsgrad": "gd.Adam(amsgrad=True)",
    "momentum": "gd.SGD(learning_rate=0.01, momentum=0.9)",
    "nesterov": "gd.SGD(learning_rate=0.01, momentum=0.9, nesterov=True)",
}
"""Updaters of other libraries that are an option of an updater here."""

NAMES_ELSEWHERE = {
    "swish": "silu",
    "logistic": "sigmoid",
    "eps": "epsilon",
    "squared_error": "mse",
    "l1": "mae",
    "absolute_error": "mae",
    "pinball": "quantile",
    "bce": "binary_crossentropy",
    "cross_entropy": "categorical_crossentropy",
    "crossentropy": "categorical_crossentropy",
}
"""For each name in other libraries: the name used here."""


class UnknownArgument(TypeError):
    """A call has an unknown argument; the message names the one that does the same here.

    Examples
    --------
    >>> places = {"Trainer.fit({})": ["epochs"], "Trainer(..., {})": ["updater"]}
    >>> print(UnknownArgument("lr", 0.1, places))
    Trainer.fit has no argument 'lr'; did you mean Trainer(..., updater=gd.Adam(learning_rate=0.1))?
    """

    def __init__(self, name: str, value: Any, places: Places) -> None:
        self.name, self.value, self.places = name, value, places
        call, names = next(iter(places.items()))
        meant = self._meant()
        hint = f": it has {', '.join(names)}" if meant is None else f"; did you mean {meant}?"
        super().__init__(f"{call.partition('(')[0]} has no argument {name!r}{hint}")

    def __reduce__(self) -> tuple[Any, ...]:
        return UnknownArgument, (self.name, self.value, self.places)

    def _meant(self) -> str | None:
        """Return how the argument is written here, if it is known or a name is close."""
        ways = [(self.name, f"{self.name}={{}}"), *ELSEWHERE.get(self.name, ())]
        near = (closest(self.name, names) for names in self.places.values())
        ways += [(name, f"{name}=...") for name in near if name is not None]
        for name, way in ways:
            for i, (place, names) in enumerate(self.places.items()):
                if name in names or not name:
                    written = way.replace("{}", shown(self.value))
                    return place.replace("{}", written) if i else written
        return None

    def inside(self, function: Callable[..., Any], args: tuple[Any, ...]) -> "UnknownArgument":
        """Return the error for a function that passes its arguments on to this call."""
        first, *others = places_of(function, args).items()
        both = [*first[1], *(n for n in next(iter(self.places.values())) if n not in first[1])]
        return UnknownArgument(self.name, self.value, {first[0]: both, **dict(others)})


def places_of(function: Callable[..., Any], args: tuple[Any, ...]) -> Places:
    """Return a call, and for a constructor or a `fit` the other one, with their arguments."""
    name = function.__name__
    if "." not in function.__qualname__.rpartition("<locals>.")[2] or not args:
        return {f"{name}({{}})": _names_in(function)}
    kind = type(args[0])
    made = {f"{kind.__name__}(..., {{}})": _names_in(kind.__init__)}
    if name != "__init__":
        return {f"{kind.__name__}.{name}({{}})": _names_in(function), **made}
    fitted = getattr(kind, "fit", None)
    return made if fitted is None else {**made, "fit(..., {})": _names_in(fitted)}


def _names_in(function: Callable[..., Any]) -> list[str]:
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.kind is not p.VAR_KEYWORD and p.name != "self"]


CHECKED = validated(lambda: None).__code__
"""The code of the frames that check arguments; they do not count as callers."""

# Errors -------------------------------------------------------------------------------------------


def check_path(name: str, value: Any) -> str:
    """Return `value` as text if it is a path, and refuse it if not: 1 would be standard output.

    ``~`` at its start is the user's folder.

    >>> check_path("path", b"runs/a.npz")
    'runs/a.npz'
    """
    if not isinstance(value, str | bytes | os.PathLike):
        raise TypeError(f"{name} must be a path, a str or a pathlib.Path, not {shown(value)}")
    text = os.fsdecode(value)
    if "\0" in text:
        raise ValueError(f"{name} must be a path, and {text!r} holds a NUL character")
    return os.path.expanduser(text)


def check_per_example(owner: object, each: Any, rows: int) -> None:
    """Refuse the result of a `per_example` unless it is one number per row, shape (rows,)."""
    if getattr(each, "shape", None) != (rows,):
        raise _per_example_error(owner, each, rows)


def _per_example_error(owner: object, each: Any, rows: int) -> PerExampleError:
    shape, kind = getattr(each, "shape", None), type(each).__name__
    given = f"a value of type {kind}, not an array" if shape is None else f"shape {shape}"
    return PerExampleError(
        f"{type(owner).__name__}.per_example must return a number for each row, shape "
        f"({rows},), and returned {given}: end it with the mean over each row's outputs, "
        ".mean(axis=1); the mean over the rows is taken later"
    )


def no_forward(who: str, forward: str = "forward(x, train=True)") -> RuntimeError:
    """Return the error for a `backward` without the arrays that `forward` stores for it."""
    return RuntimeError(
        f"{who}: backward was called without a {forward} before it, or for the second time: "
        "call forward before each backward"
    )


def given_once(name: str, value: Any, other: str, other_value: Any, default: Any = None) -> Any:
    """Return an argument that has two names, or the default if it was given under neither.

    Raises
    ------
    TypeError
        If it was given under both.
    """
    if value is not None and other_value is not None:
        raise TypeError(f"{name} and {other} are two names of one argument: give one of them")
    return next((one for one in (value, other_value) if one is not None), default)


def renamed(old: str, old_value: Any, new: str, value: Any) -> Any:
    """Return a flag that callers may still pass under its old name, with a warning."""
    return value if old_value is None else _renamed(old, old_value, new)


def _renamed(old: str, old_value: Any, new: str) -> bool:
    caller = sys._getframe(2).f_back
    level = 5 if caller is not None and caller.f_code is CHECKED else 4
    warnings.warn(f"{old}= is now called {new}=", DeprecationWarning, stacklevel=level)
    return check_flag(old, old_value)


# Remedies as data: Python writes the options as arguments, ``exclude=['id']``, and the shell as it
# types them.

Writer: TypeAlias = Callable[[Mapping[str, Any]], str | None]
"""Writes options for Python or for the shell; None if there are no such options."""


def in_python(options: Mapping[str, Any]) -> str:
    """Return options as arguments of a function.

    >>> in_python({"separator": ";", "columns": [...]})
    "separator=';', columns=[...]"
    """
    written = (f"{name}={value!r}" for name, value in options.items())
    return ", ".join(written).replace("[Ellipsis]", "[...]")


class Remedy(NamedTuple):
    """One thing to do about a problem.

    Attributes
    ----------
    words : str
        With ``{}`` instead of the options, if there are any.
    options : mapping
        Arguments by name; ``[...]`` is a list that only the reader knows.
    shell : str, optional
        The words in the shell, if they differ; ``""`` if the shell can't do it.

    Examples
    --------
    >>> Remedy("leave it out with {}", {"exclude": ["id"]}).write(in_python)
    "leave it out with exclude=['id']"
    """

    words: str
    options: Mapping[str, Any] = {}
    shell: str | None = None

    def write(self, writer: Writer) -> str:
        """Return the words with the options, or "" if the writer has no such options."""
        words = self.words if writer is in_python or self.shell is None else self.shell
        if not self.options:
            return words
        options = writer(self.options)
        return "" if options is None else words.replace("{}", options)


class Advised(Exception):
    """A problem with its remedies: ``Advised(problem, Remedy(...), Remedy(...))``.

    As text it reads "problem; remedy, or remedy".

    Examples
    --------
    >>> dates = "column 'when' holds dates"
    >>> str(Advised(dates, Remedy("leave it out with {}", {"exclude": ["when"]})))
    "column 'when' holds dates; leave it out with exclude=['when']"
    """

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """The remedies, best first."""
        return self.args[1:]

    def write(self, writer: Writer) -> str:
        """Return the whole message, with the remedies that this writer can express."""
        remedies = ", or ".join(filter(None, (one.write(writer) for one in self.remedies)))
        return escape_controls(f"{self.args[0]}{'; ' if remedies else ''}{remedies}")

    def __str__(self) -> str:
        return self.write(in_python)

    def __reduce__(self) -> Any:
        # A subclass stores additional arguments of its constructor as attributes.
        return _without_init, (type(self), *self.args), vars(self)


def _without_init(kind: type[Advised], *args: Any) -> Advised:
    """Return an error with these `args`, when it is unpickled."""
    return kind.__new__(kind, *args)


class TooLarge(Advised, DataError):
    """A number is too large for the model's dtype."""


class MissingBackend(Advised, BackendError):
    """A backend is not available, and what to do about it."""
