"""Errors and warnings about a table that carry their remedies as data: words and options."""

from minigd.errors import Advised, DataError, Remedy, in_python

__all__ = ["Advised", "Remedy", "TableError", "TableWarning", "in_python"]


class TableError(Advised, DataError):
    """A table can't be trained on as it is."""


class TableWarning(Advised, UserWarning):
    """A table can be trained on, and may not be what was meant."""
