"""The Parquet files that are one table, which must have the same columns."""

import contextlib
from collections.abc import Sequence
from typing import Any

from minigd.backends.on_demand import optional
from minigd.data.sources.file_kinds import check_kind
from minigd.data.sources.given_files import PARQUET, differing, find_files
from minigd.errors import DataError


def find_parquet_files(given: Any) -> list[Any]:
    """Return the files that are meant, as `find_files` does, and refuse those that differ."""
    files = find_files(given, PARQUET, "a Parquet file")
    for file in files:
        check_kind(file, "parquet")
    arrow_errors = optional("pyarrow.lib", "a Parquet file").ArrowException
    read_schema = optional("pyarrow.parquet", "a Parquet file").read_schema
    # A damaged file is refused with a message when it is read.
    with contextlib.suppress(arrow_errors, OSError):
        if len(files) > 1:
            _check_schemas([(str(file), read_schema(file)) for file in files])
    return files


def _check_schemas(schemas: Sequence[tuple[str, Any]]) -> None:
    """Refuse files with columns other than the first, or with text where it has numbers."""
    first, known = schemas[0]
    types = dict(zip(known.names, known.types, strict=True))
    for name, schema in schemas[1:]:
        names = schema.names
        differs = "" if set(names) == types.keys() else differing(names, known.names)
        for column, one in () if differs else zip(names, schema.types, strict=True):
            if len({_kind(one), _kind(types[column])} - {"null"}) > 1:
                differs = f"{column!r} is {one} here and {types[column]} there"
        if differs:
            raise DataError(
                f"{name}: the columns differ from those of {first}: {differs}; give all files the "
                "same columns, or leave this one out"
            )


def _kind(type: Any) -> str:
    """Return what an Arrow column holds: numbers, text, or another type by its name."""
    known = optional("pyarrow.types", "a Parquet file")
    if known.is_dictionary(type):
        return _kind(type.value_type)
    if known.is_integer(type) or known.is_floating(type) or known.is_boolean(type):
        return "numbers"
    return "text" if "string" in str(type) else str(type).partition("(")[0]
