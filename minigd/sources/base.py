"""What a source is: rows that live somewhere, and can be fetched by number."""

from typing import Any, Protocol, TypeAlias

from minigd.backend import Array, Workspace

Rows: TypeAlias = slice | Array
"""Which rows: a slice of consecutive ones, or an array of row numbers on the host."""


class Source(Protocol):
    """Rows of x, and of y if there is one, by their numbers.

    Attributes
    ----------
    rows : int
        How many there are.
    """

    rows: int

    def take(self, rows: Rows, workspace: Workspace | None = None) -> tuple[Array, Array | None]:
        """Return x and y of some rows: views for a slice, else fresh, or in the workspace."""
        ...

    def fingerprint(self) -> dict[str, Any]:
        """Return what tells these data from others: size and sampled content."""
        ...
