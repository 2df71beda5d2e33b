"""Every public signature as a line of text: `gd.X`, its methods, properties and parameters.

`tests/test_signatures.py` compares them with `signatures.txt` in this folder. If a change is meant
to change one, write the file again: `python tests/oracles/signatures.py`.
"""

import inspect
import re
from pathlib import Path

import minigd as gd

FILE = Path(__file__).with_name("signatures.txt")
# Of modules that are public, what the documentation names.
MODULES = ("initializers", "metrics")


def signatures():
    """Return the lines, sorted by name."""
    lines = []
    for name in sorted(gd.__all__):
        value = getattr(gd, name)
        if inspect.ismodule(value):
            lines += [
                line
                for key, member in sorted(vars(value).items())
                if not key.startswith("_") and in_module(member, value.__name__)
                for line in described(f"gd.{name}.{key}", member)
            ]
        else:
            lines += described(f"gd.{name}", value)
    return lines


def in_module(member, name):
    """Tell whether a class or function is of a module, or of one of its files."""
    return f"{getattr(member, '__module__', None)}.".startswith(f"{name}.")


def described(name, value):
    """Yield the line of a function, or those of a class and of what it does not inherit in public.

    What a class inherits from a public class is listed there.
    """
    if not is_own(value):
        yield f"{name}: {'type hint' if name == 'gd.Array' else type(value).__name__}"
    elif inspect.isclass(value):
        bases = [c.__name__ for c in value.__mro__[1:] if is_public(c)]
        bases += [c.__name__ for c in value.__bases__ if not is_own(c) and c is not object]
        yield f"class {name}({', '.join(bases)})"
        if any(is_own(c) and {"__init__", "__new__"} & vars(c).keys() for c in value.__mro__):
            yield f"{name}{signature(value)}"
        for key in sorted(dir(value)):
            owner = next((c for c in value.__mro__ if key in vars(c)), object)
            elsewhere = owner is not value and is_public(owner)
            if is_own(owner) and not elsewhere and (not key.startswith("_") or key in SPECIAL):
                yield from attribute(f"{name}.{key}", vars(owner)[key])
    else:
        yield f"{name}{signature(value)}"


SPECIAL = {"__call__", "__iter__", "__len__", "__getitem__", "__enter__", "__exit__"}


def is_own(thing):
    """Tell whether a class or function is of the package."""
    return getattr(thing, "__module__", "").partition(".")[0] == "minigd"


def is_public(found):
    places = (gd, *(getattr(gd, name) for name in MODULES))
    return is_own(found) and any(getattr(m, found.__name__, None) is found for m in places)


def attribute(name, member):
    """Yield the line of a method, a property or a field."""
    if isinstance(member, property):
        yield f"{name}: property{'' if member.fset is None else ', can be set'}"
    elif isinstance(member, staticmethod | classmethod):
        yield f"{name}{signature(member.__func__)}: {type(member).__name__}"
    elif inspect.isfunction(member):
        yield f"{name}{signature(member)}"
    elif not type(member).__module__.startswith("sklearn"):
        yield f"{name}: attribute"


def signature(function):
    """Return the parameters with their defaults, and without annotations.

    mypy checks types, and the module of a type may change.
    """
    found = inspect.signature(function)
    bare = [p.replace(annotation=p.empty) for p in found.parameters.values()]
    text = str(found.replace(parameters=bare, return_annotation=inspect.Signature.empty))
    return re.sub(r" at 0x[0-9a-f]+", "", text)


if __name__ == "__main__":
    FILE.write_text("\n".join(signatures()) + "\n", encoding="utf-8")
