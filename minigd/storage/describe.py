"""Objects described as JSON: the name of a class, and the arguments that recreate the object.

Nested values are described in the same way, after their arrays are taken out.
"""

import inspect
import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Protocol

import numpy as np

from minigd.errors import CheckpointError

Arrays = Mapping[str, np.ndarray[Any, np.dtype[Any]]]
Description = dict[str, Any]
"""What JSON can hold."""

_UNNAMED = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def arguments(thing: object) -> dict[str, Any]:
    """Return the constructor's arguments of `thing`, read from its attributes of the same names.

    This is scikit-learn's convention: ``__init__`` keeps each argument, unchanged, as an attribute.

    Examples
    --------
    >>> class Scale:
    ...     def __init__(self, factor=2.0):
    ...         self.factor = factor
    >>> arguments(Scale(3.0))
    {'factor': 3.0}
    """
    if type(thing).__init__ is object.__init__:
        return {}
    parameters = list(inspect.signature(type(thing).__init__).parameters.values())[1:]
    for parameter in parameters:
        if parameter.kind in _UNNAMED or not hasattr(thing, parameter.name):
            raise _not_kept(type(thing).__name__, parameter)
    return {parameter.name: getattr(thing, parameter.name) for parameter in parameters}


def _not_kept(kind: str, parameter: inspect.Parameter) -> TypeError:
    if parameter.kind in _UNNAMED:
        return TypeError(
            f"{kind}.__init__ takes {parameter}, which can't be read back from attributes: name "
            "its arguments one by one, or define config()"
        )
    name = parameter.name
    return TypeError(
        f"{kind}.__init__ takes {name!r} but does not keep it: write `self.{name} = {name}` in "
        f"it, so that {kind} can be copied and saved"
    )


def split_arrays(tree: Any, prefix: str, arrays: dict[str, np.ndarray[Any, np.dtype[Any]]]) -> Any:
    """Return nested dicts in which each array is replaced by its path and moved to `arrays`.

    A NumPy scalar is stored with the arrays, because that keeps its dtype.

    >>> arrays = {}
    >>> split_arrays({"step": 3, "m": np.zeros(2)}, "updater", arrays)
    {'step': 3, 'm': {'array': 'updater/m'}}
    >>> join_arrays({'step': 3, 'm': {'array': 'updater/m'}}, arrays)
    {'step': 3, 'm': array([0., 0.])}
    """
    if isinstance(tree, np.ndarray | np.generic):
        if prefix in arrays:
            raise ValueError(f"two arrays have the name {prefix!r}: leave / out of names")
        arrays[prefix] = np.asarray(tree)
        return {"array": prefix}
    if isinstance(tree, Mapping):
        for name in tree:
            if not isinstance(name, str):
                raise TypeError(f"{prefix} can't be saved: its name {name!r} is not text")
        parts = {
            name: split_arrays(value, f"{prefix}/{name}", arrays) for name, value in tree.items()
        }
        # The list shows that a dict with the single key "array" is not a moved array.
        return {"array": [parts["array"]]} if list(parts) == ["array"] else parts
    try:
        json.dumps(tree)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{prefix} can't be saved: it is {tree!r} ({error})") from None
    return tree


def join_arrays(tree: Any, arrays: Arrays) -> Any:
    """Return nested dicts with each array back in its place; the reverse of `split_arrays`."""
    if not isinstance(tree, dict):
        return tree
    if list(tree) == ["array"]:
        inner = tree["array"]
        return arrays[inner] if isinstance(inner, str) else {"array": join_arrays(inner[0], arrays)}
    return {name: join_arrays(value, arrays) for name, value in tree.items()}


class Described(Protocol):
    """An object with a description: a layer, loss, metric, updater or schedule."""

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        ...


def name_of_function(function: Any) -> str:
    """Return the name of a plain function in a file.

    >>> name_of_function(max)
    'max'
    """
    return str(getattr(function, "__name__", type(function).__name__))


def describe(thing: Described) -> Description:
    """Return a description of `thing` for JSON: its class by name, and its arguments.

    >>> from minigd.optim.updaters import SGD
    >>> describe(SGD(learning_rate=0.5))
    {'class': 'SGD', 'arguments': {'learning_rate': 0.5, 'momentum': 0.0, 'nesterov': False}}
    """
    given = thing.config()
    if callable(given.get("function")):
        # A wrapper of a plain function has the function's name.
        return {"class": name_of_function(given["function"]), "arguments": {}}
    values = {name: _described(value) for name, value in given.items()}
    for name, value in values.items():
        try:
            json.dumps(value)
        except TypeError:
            kind = type(thing).__name__
            raise TypeError(
                f"{kind} can't be saved: its argument {name!r} is {value!r}, but a file holds only "
                "numbers, strings, None and lists of them"
            ) from None
    frozen = {} if getattr(thing, "trainable", True) else {"trainable": False}
    return {"class": type(thing).__name__, "arguments": values, **frozen}


def _described(value: Any) -> Any:
    """Return an argument with each describable object replaced by its description, also nested."""
    if isinstance(value, list | tuple):
        return [_described(item) for item in value]
    if isinstance(value, dict):
        return {key: _described(item) for key, item in value.items()}
    return describe(value) if hasattr(value, "config") else value


def check_classes(descriptions: Any, known: Collection[str]) -> None:
    """Refuse descriptions with unknown classes, and name all of these.

    >>> check_classes({"layers": [{"class": "Mine", "arguments": {}}]}, ["Dense"])
    Traceback (most recent call last):
    minigd.errors.CheckpointError: the file needs a class 'Mine' that minigd does not have: import \
it and name it when loading, custom=[Mine]
    """
    unknown = [name for name in dict.fromkeys(_classes_in(descriptions)) if name not in known]
    if unknown:
        raise _unknown_classes(unknown)


def _classes_in(tree: Any) -> Iterator[str]:
    """Yield the names of the classes that are described in lists and dicts."""
    if isinstance(tree, Mapping) and isinstance(tree.get("class"), str):
        yield tree["class"]
        tree = tree.get("arguments")
    items = tree.values() if isinstance(tree, Mapping) else tree
    for item in items if isinstance(items, list) or isinstance(tree, Mapping) else ():
        yield from _classes_in(item)


def _unknown_classes(names: list[str]) -> CheckpointError:
    some = (
        f"a class {names[0]!r}" if len(names) == 1 else f"the classes {', '.join(map(repr, names))}"
    )
    them = "it" if len(names) == 1 else "them"
    return CheckpointError(
        f"the file needs {some} that minigd does not have: import {them} and name {them} when "
        f"loading, custom=[{', '.join(names)}]"
    )


def rebuild(description: Description, known: Mapping[str, type]) -> Any:
    """Make the object that `describe` described, using only the classes in `known`."""
    name = description["class"]
    if name not in known:
        raise _unknown_classes([name])

    def made_again(value: Any) -> Any:
        if isinstance(value, list):
            return [made_again(item) for item in value]
        if not isinstance(value, dict):
            return value
        if isinstance(value.get("class"), str):
            return rebuild(value, known)
        return {key: made_again(item) for key, item in value.items()}

    values = {name: made_again(value) for name, value in description["arguments"].items()}
    try:
        made = known[name](**values)
        if "trainable" in description:
            made.trainable = description["trainable"]
        return made
    except Exception as error:
        given = f"{description['arguments']}"
        raise CheckpointError(
            f"{name} does not take the arguments in the file, {given:.200}: {error}. If it is a "
            f"class of your own, name it when loading, custom=[{name}]"
        ) from error
