"""A schema from a file, which may come from an untrusted source."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from minigd.data.tables.dates import PARTS
from minigd.data.tables.missing import check_missing
from minigd.data.tables.schema import Schema
from minigd.errors import check_flag, check_integer, check_number, shown


def schema_in_file(values: Mapping[str, Any], width: int) -> Schema:
    """Return the schema whose `state_dict` is in a file, for a model with this many inputs.

    An error names the invalid entry. No memory is allocated from a wrong size in the file.

    >>> values = {"features": ["a"], "targets": ["y"], "levels": {}, "classes": None}
    >>> schema_in_file({**values, "integer": False}, 1).names
    ['a']
    >>> schema_in_file({**values, "integer": False, "hashed": {"a": 10**9}}, 1)
    Traceback (most recent call last):
    ValueError: its columns do not match the model
    """
    names = ("features", "targets", "others", "logs", "flags")
    classes = values["classes"]
    lists = [values.get(name, []) for name in names] + [[] if classes is None else classes]
    dates = {feature: tuple(date) for feature, date in values.get("dates", {}).items()}
    lists += [*values["levels"].values(), *(parts for _, _, parts in dates.values())]
    for texts in lists:
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise TypeError(f"{shown(texts)} is not a list of texts")
    for format, first, parts in dates.values():
        if not isinstance(format, str) or not set(parts) <= set(PARTS):
            raise ValueError(f"{shown((format, parts))} is not a date format and its parts")
        check_number("the first date", first, -math.inf)
    if check_flag("integer", values["integer"]):
        for label in classes or []:
            int(label)
    check_missing(values.get("missing", "error"))
    if values.get("unknown", "error") not in ("error", "drop", "other"):
        raise ValueError(f"{shown(values['unknown'])} is not a rule for unknown categories")
    if values.get("exact") not in (None, "int64", "uint64"):
        raise ValueError(f"{shown(values['exact'])} is not the dtype of a whole target")
    for mean in values.get("fills", {}).values():
        check_number("the value for a missing number", mean, -math.inf)
    hashed = [check_integer("hashed", columns) for columns in values.get("hashed", {}).values()]
    fits = sum(hashed) <= width
    schema = Schema(**values) if fits else None
    if schema is None or len(schema.names) != width:
        raise ValueError("its columns do not match the model")
    if schema.fills:
        schema.fill(np.zeros((0, width)))  # fails if one is missing
    return schema
