"""How commands write errors, warnings, counts and figures.

A `Remedy` carries its options as data. The shell writes them in its own way, and leaves out options
that no command has.
"""

import shlex
from collections.abc import Mapping
from typing import Any

from minigd.errors import Advised

_OPTIONS = {
    "backend",
    "categories",
    "columns",
    "comment",
    "compression",
    "dates",
    "decimal",
    "encoding",
    "exclude",
    "hashed",
    "header",
    "keep_default_na",
    "logs",
    "min_count",
    "missing",
    "na",
    "separator",
    "skip_lines",
    "strip",
    "target",
    "thousands",
}
"""The options of the commands, by their names in Python."""


def option(name: str) -> str:
    """Return an option as the shell writes it, from its name in Python.

    >>> option("skip_lines"), option("keep_default_na")
    ('--skip-lines', '--no-default-na')
    """
    names = {"keep_default_na": "no-default-na", "header": "no-header", "logs": "log"}
    return f"--{names.get(name, name.replace('_', '-'))}"


def in_shell(options: Mapping[str, Any]) -> str | None:
    """Return options as the shell writes them; None if the shell lacks one of them.

    >>> in_shell({"separator": ";", "skip_lines": 2, "exclude": ["a b", "c"]})
    "--separator ';' --skip-lines 2 --exclude 'a b,c'"
    """
    if not options.keys() <= _OPTIONS:
        return None
    return " ".join(_typed(name, value) for name, value in options.items())


def _typed(name: str, value: Any) -> str:
    if value is False:
        return option(name)
    if value == [...]:
        return f"{option(name)} A,B,..."
    if isinstance(value, Mapping):
        value = [key if one is None else f"{key}={one}" for key, one in value.items()]
    if isinstance(value, list):
        value = ",".join(_as_in_a_csv(one) for one in value)
    text = "tab" if value == "\t" else shlex.quote(str(value))
    # A value that begins with a dash would look like another option.
    return f"{option(name)}{'=' if text.lstrip(chr(39)).startswith('-') else ' '}{text}"


def _as_in_a_csv(name: str) -> str:
    # argparse of older Pythons drops a bare --.
    if "," not in name and not name.startswith('"') and name != "--":
        return name
    doubled = name.replace('"', '""')
    return f'"{doubled}"'


def counted(n: int, what: str) -> str:
    """Return a number of things: 1 row, 1,500 rows.

    >>> counted(1, "row"), counted(1500, "row"), counted(0, "epoch")
    ('1 row', '1,500 rows', '0 epochs')
    """
    return f"{n:,} {what}{'s' * (n != 1)}"


def number(value: float) -> str:
    """Return a figure for people: 0.8712, 66,501, 2.684e+29.

    >>> number(0.87119), number(66501.2), number(2.6842e29)
    ('0.8712', '66,501', '2.684e+29')
    """
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e15 else f"{value:.4g}"


def message_of(error: BaseException) -> str:
    """Return the message that the shell shows for an error."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    message = error.write(in_shell) if isinstance(error, Advised) else f"{error}"
    if isinstance(error, MemoryError):
        what = f" ({error})" if str(error) else ""
        message = f"there is not enough memory{what}: use narrower layers or smaller batches"
    return message
