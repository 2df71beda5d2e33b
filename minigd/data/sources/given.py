"""Rows from callers that are neither an array nor a source: frames and iterables.

A frame of numbers is used as an array. A frame with text becomes a source, and so does a frame for
a model whose columns came from a table.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from minigd.backends.base import get_backend
from minigd.backends.frames import are_numbers, check_rows_alike, check_source, is_table, table_of
from minigd.data.pipeline import cut
from minigd.data.sources.base import Source
from minigd.data.sources.frame import FrameSource
from minigd.data.sources.iterable import IterableSource, gives_pieces
from minigd.data.tables.schema import Schema
from minigd.errors import DataError, shown
from minigd.types import Array

BUFFER = 10_000
"""Default rows of the shuffle buffer for a stream."""


def given(
    x: Any, y: Any, schema: Schema | Literal[False] | None, buffer: int | None
) -> tuple[Any, Any, int | None]:
    """Return x and y by `as_source`; an iterable of pieces has a shuffle buffer."""
    if hasattr(x, "in_order"):
        raise TypeError("x is a Batches already: use it as it is")
    source, rest = as_source(x, y, schema)
    if buffer is None and isinstance(source, IterableSource):
        buffer = BUFFER
    return source, rest, buffer


def as_source(
    x: Any, y: Any = None, schema: Schema | Literal[False] | None = None
) -> tuple[Any, Any]:
    """Return x as a source that brings y, if it is a frame with text or an iterable of pieces.

    Parameters
    ----------
    x, y : array-like
        Anything else is returned unchanged, together with y.
    schema : Schema or False, optional
        What the columns of a frame become; False to skip the search for types.

    Returns
    -------
    (x, y)

    Examples
    --------
    >>> x, y = as_source({"size": [1.0, 2.0], "color": ["red", "blue"]}, [0, 1])
    >>> x.names, y is None
    (['size', 'color=blue', 'color=red'], True)
    >>> as_source([[1.0], [2.0]], [0, 1])
    ([[1.0], [2.0]], [0, 1])
    """
    if schema and not isinstance(schema, Schema):
        raise TypeError(f"schema must come from a source or a model, not {shown(schema)}")
    if isinstance(x, Source):
        return x, y
    if not is_table(x) and not (isinstance(x, Mapping) and x):
        if y is not None or isinstance(x, Mapping) or not gives_pieces(x):
            return x, y
        known = _open(schema) if schema and not isinstance(x, Iterator) else None
        return IterableSource(x, schema=known), None
    table = x if isinstance(x, Mapping) else table_of(x)
    if table is None:
        return x, y
    names = set(map(str, getattr(table, "column_names", table)))
    own = schema if schema and names >= set(schema.features) else None
    if own is None and (schema is False or are_numbers(table)):
        return (x if hasattr(x, "__array__") else table), y
    check_rows_alike(x, y)
    options: dict[str, Any] = {"dtype": "float64"}
    if own is not None:
        brings = y is None and names >= set(own.targets)
        without: dict[str, Any] = (
            {} if brings else {"targets": [], "classes": None, "integer": False}
        )
        options = {"schema": _open(own).replace(**without)}
    source = FrameSource(table, **options)
    if y is not None:
        source.set_targets(get_backend("numpy").here(y, "y"))
    return source, None


def _open(schema: Schema) -> Schema:
    """Return a schema that reads a new text as ``other``."""
    return schema if schema.unknown == "drop" else schema.replace(unknown="other")


def rows_to_predict(x: Any, model: Any, size: int) -> Iterator[tuple[Array, str, Any]] | None:
    """Return the rows of a source, a Batches or such a frame, with their name and numbers.

    There are `size` rows in each piece, however the source reads them, because the number of rows
    in a product of matrices decides the order of its sums. For an array the result is None.
    """
    schema: Any = False
    if model.schema is not None:
        schema = model.schema.replace(targets=[], classes=None, integer=False)
    source, _ = as_source(getattr(x, "source", x), None, schema)
    if not isinstance(source, Source):
        return None
    check_source(source, model.names)
    if getattr(source, "dropped", 0):
        raise DataError(
            f"each row needs a prediction, and {source.first_dropped}: fill it in, "  # type: ignore[attr-defined]
            "or leave such rows out"
        )
    pieces = enumerate(cut(source.chunks(), size))
    return ((x, *source.origin("X", slice(i * size, i * size + len(x)))) for i, (x, _) in pieces)
