"""Errors and warnings about a table that carry their remedies as data: words and options."""

from minigd.errors import Advised, DataError, Remedy, in_python

__all__ = ["Advised", "Remedy", "TableError", "TableWarning", "in_python"]


class TableError(Advised, DataError):
    """A table can't be used for training as it is."""


class TableWarning(Advised, UserWarning):
    """A table can be used for training, but may not be what was meant."""
