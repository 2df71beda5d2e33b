"""Where rows come from, one kind of place a file."""

from minigd.sources.array import ArraySource
from minigd.sources.base import Rows, Source

__all__ = ["ArraySource", "Rows", "Source"]
