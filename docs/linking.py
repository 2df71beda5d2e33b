"""How the site links to the reference: names on a page, and the table at the head of its pages.

It needs no Sphinx, so that a test can use it.
"""

import importlib
import inspect
import re

import minigd as gd

SUMMARY = "```{summary}\n```\n"
"""Where the table of a reference page goes."""

_NAME = re.compile(
    r"(?P<prefix>gd\.|minigd\.)?(?P<name>[A-Za-z]\w*)(?P<method>\.\w+)?(?:\(.*\))?", re.S
)
_OWNERS = {"model": "Sequential.", "trainer": "Trainer."}
_ENTRY = re.compile(r"^\.\. (auto(?:class|function|exception|module)|py:data):: (\S+)", re.M)


def target(text: str) -> str | None:
    """Return the full name of the public thing that a piece of code names, such as ``gd.Dense(3)``.

    >>> target("Dense(3)"), target("model.fit"), target("batch_size")
    ('minigd.Dense', 'minigd.Sequential.fit', None)
    """
    text = re.sub(r"^(model|trainer)\.", lambda m: _OWNERS[m[1]], text)
    found = _NAME.fullmatch(text)
    if found is None or found["name"] not in gd.__all__:
        return None
    thing, name = getattr(gd, found["name"]), f"minigd.{found['name']}"
    if inspect.ismodule(thing):
        # `metrics` alone is an argument.
        name = thing.__name__ if found["prefix"] else ""
        if not found["method"]:
            return name or None
    if found["method"]:
        known = name and hasattr(thing, found["method"][1:])
        return name + found["method"] if known else None
    return name


def with_summary(page: str) -> str:
    """Return a reference page with a table of its entries, each with its first line."""
    tables: dict[str, list[str]] = {"minigd": []}
    for kind, name in _ENTRY.findall(page):
        if kind == "automodule":
            module = importlib.import_module(name)
            own = [n for n, v in vars(module).items() if getattr(v, "__module__", None) == name]
            names = [one for one in getattr(module, "__all__", own) if not one.startswith("_")]
            tables[name] = [one for one in names if callable(getattr(module, one))]
        else:
            tables["minigd"].append(name.removeprefix("minigd."))
    lines = []
    for module_name, names in tables.items():
        rows = [f"   ~{name}" for name in names]
        head = [
            f".. currentmodule:: {module_name}",
            "",
            ".. autosummary::",
            "   :nosignatures:",
            "",
        ]
        lines += [*head, *rows, ""] if rows else []
    table = "\n".join(["```{eval-rst}", *lines, "```", ""])
    return page.replace(SUMMARY, table)
