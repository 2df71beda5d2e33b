"""Where rows come from, one kind of place a file."""

from minigd.sources.array import ArraySource
from minigd.sources.base import Pair, Rows, Source
from minigd.sources.csv import CsvSource
from minigd.sources.idx import IdxSource
from minigd.sources.iterable import IterableSource, ParquetSource
from minigd.sources.npy import NpySource

__all__ = [
    "ArraySource",
    "CsvSource",
    "IdxSource",
    "IterableSource",
    "NpySource",
    "Pair",
    "ParquetSource",
    "Rows",
    "Source",
]
