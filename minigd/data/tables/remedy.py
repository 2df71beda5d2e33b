"""Errors and warnings about a table that carry their remedies as data: words and options.

Python writes the options as arguments, ``exclude=['id']``, and the shell as it types them.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

from minigd.errors import DataError

Writer: TypeAlias = Callable[[Mapping[str, Any]], str | None]
"""Writes options for its readers; None, if they have no such options."""


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
        With ``{}`` where the options stand, if there are any.
    options : mapping
        Arguments by name; ``[...]`` is a list that only the reader knows.
    shell : str, optional
        The words in the shell, where they are others; ``""`` if it has no such way.

    Examples
    --------
    >>> Remedy("leave it out with {}", {"exclude": ["id"]}).write(in_python)
    "leave it out with exclude=['id']"
    """

    words: str
    options: Mapping[str, Any] = {}
    shell: str | None = None

    def write(self, writer: Writer) -> str:
        """Return the words with the options in them; nothing if the writer has no such options."""
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
        """What may be done, the best first."""
        return self.args[1:]

    def write(self, writer: Writer) -> str:
        """Return the whole message, with the remedies that the writer's readers can follow."""
        remedies = ", or ".join(filter(None, (one.write(writer) for one in self.remedies)))
        return f"{self.args[0]}{'; ' if remedies else ''}{remedies}"

    def __str__(self) -> str:
        return self.write(in_python)


class TableError(Advised, DataError):
    """A table can't be trained on as it is."""


class TableWarning(Advised, UserWarning):
    """A table can be trained on, and may not be what was meant."""
