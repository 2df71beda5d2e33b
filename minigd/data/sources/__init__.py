"""Where rows come from, one kind of place a file."""

from minigd.data.sources.array import ArraySource
from minigd.data.sources.base import Pair, Rows, Source
from minigd.data.sources.csv import CsvSource
from minigd.data.sources.idx import IdxSource
from minigd.data.sources.iterable import IterableSource, ParquetSource
from minigd.data.sources.npy import NpySource

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
