"""The encoding of a table's columns by a schema, as ONNX operators: from raw values to x."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from minigd.data.labels import label_key
from minigd.data.tables.missing import MISSING_LEVEL, has_level, policy_of
from minigd.data.tables.schema import OTHER_LEVEL, Schema, codes_of, signed_log
from minigd.errors import DataError
from minigd.interop.onnx_dates import parts_of_date, read_notation
from minigd.interop.onnx_graph import Graph
from minigd.nn.layers import Sigmoid, Softmax
from minigd.nn.losses import BinaryCrossEntropy, Poisson

_TABLES = "ai.onnx.ml"


def encode(graph: Graph, schema: Schema, dtype: Any) -> tuple[str, str | None]:
    """Add an input for each column, and the operators that compute x from them in a dtype.

    Return the name of x, and of a boolean per row that is true if a missing value has no
    replacement, or a value is not a date; None if there is no such column.
    """
    check_columns(schema)
    graph.dtype = schema.dtype
    gap_alone = np.full((1, len(schema.names)), np.nan, schema.dtype)
    filled = dict(zip(schema.names, schema.fill(gap_alone)[0].tolist(), strict=True))
    parts: list[str] = []
    gaps: list[str] = []
    for feature in schema.features:
        graph.part = f"encode.{feature}"
        text = feature in schema.texts
        x = graph.input(feature, str if text else schema.dtype, 1)
        needed = feature in schema.needed or policy_of(schema.missing, feature) == "error"
        gap = ""
        if needed or feature not in schema.levels:
            gap = _is_empty(graph, x) if text else graph.add("IsNaN", x)
        if feature in schema.levels:
            parts.append(_category(graph, schema, feature, x))
        elif feature in schema.dates:
            date = schema.dates[feature]
            found, bad = parts_of_date(graph, feature, date, x, gap)
            chosen = {f"{feature} {part}": graph.cast(found[part], schema.dtype)
                      for part in date.parts}  # fmt: skip
            parts += _numbers(graph, schema, feature, chosen, gap, filled)
            gaps.append(bad)
        else:
            log = feature in schema.logs
            number = {f"log({feature})": _signed_log(graph, x)} if log else {feature: x}
            parts += _numbers(graph, schema, feature, number, gap, filled)
        if needed:
            gaps.append(gap)
    graph.part = "encode"
    x = parts[0] if len(parts) == 1 else graph.add("Concat", *parts, axis=1)
    in_row = gaps[0] if gaps else None
    for gap in gaps[1:]:
        in_row = graph.add("Or", str(in_row), gap)
    return (x if schema.dtype == dtype else graph.cast(x, dtype)), in_row


def check_columns(schema: Schema) -> None:
    """Refuse columns that ONNX has no operators for."""
    for feature in schema.hashed:
        raise DataError(
            f"column {feature!r} is hashed, but ONNX has no operator for the hash: train with "
            "min_count instead of hashed, `minigd train --min-count 10`, or leave the column out"
        )
    for feature, date in schema.dates.items():
        read_notation(feature, date.format)


def _numbers(
    graph: Graph,
    schema: Schema,
    feature: str,
    columns: Mapping[str, str],
    gap: str,
    filled: Mapping[str, float],
) -> list[str]:
    """Add what a feature of numbers becomes: its columns of x by name, and whether it is missing.

    `filled` has the mean or median that replaces a missing number in each column of x, or NaN if
    none does.
    """
    policy, parts = policy_of(schema.missing, feature), []
    for name, x in columns.items():
        fill = filled[name]
        if not isinstance(policy, str):
            fill = float(signed_log(policy) if feature in schema.logs else policy)
        if not np.isnan(fill):
            x = graph.add("Where", gap, graph.constant("fill", fill), x)
        parts.append(x)
    return [*parts, *([graph.cast(gap, schema.dtype)] if feature in schema.flags else [])]


def _signed_log(graph: Graph, x: str) -> str:
    """Add sign(x)·log(1 + |x|).

    If u is 1 + v, rounded, then log(u)·v / (u − 1) has all digits of log(1 + v) (Goldberg 1991,
    "What every computer scientist should know about floating-point arithmetic", theorem 4).
    """
    one = graph.constant("one", 1)
    v = graph.add("Abs", x)
    u = graph.add("Add", v, one)
    rounded = graph.add("Sub", u, one)
    log = graph.add("Mul", graph.add("Log", u), graph.add("Div", v, rounded))
    large = graph.add("Greater", rounded, graph.constant("zero", 0))
    return graph.add("Mul", graph.add("Sign", x), graph.add("Where", large, log, v))


def _category(graph: Graph, schema: Schema, feature: str, x: str) -> str:
    """Add the one-hot columns of a category."""
    codes, other = codes_of_texts(schema, feature)
    number = graph.add(
        "LabelEncoder", x, domain=_TABLES, keys_strings=list(codes),
        values_int64s=list(codes.values()), default_int64=other,
    )  # fmt: skip
    levels = np.arange(len(schema.levels[feature]))[None]
    return graph.cast(graph.add("Equal", number, graph.constant("levels", levels, np.int64)),
                      schema.dtype)  # fmt: skip


def _is_empty(graph: Graph, x: str) -> str:
    """Add whether a text is empty."""
    number = graph.add(
        "LabelEncoder", x, domain=_TABLES, keys_strings=[""], values_int64s=[1], default_int64=0
    )
    return graph.cast(number, bool)


def codes_of_texts(schema: Schema, feature: str) -> tuple[dict[str, int], int]:
    """Return the number of the level of each text, and the number for all other texts.

    The number is -1 for no level. A whole number may be written with and without ``.0``, and a
    boolean as in Python, in lower case or in upper case.

    >>> schema = Schema(["a"], [], {"a": ["1", "missing", "other"]}, None, False, missing="mean",
    ...                 unknown="other")
    >>> codes_of_texts(schema, "a")
    ({'1': 0, 'missing': 1, 'other': 2, '1.0': 0, '': 1}, 2)
    """
    import pandas as pd

    levels = schema.levels[feature]
    texts = dict.fromkeys(levels)
    for level in levels:
        key = label_key(level)
        texts |= dict.fromkeys([f"{key}", f"{key}.0"] if isinstance(key, int) else [])
        if level in ("True", "False"):
            truth = str(int(level == "True"))
            texts |= dict.fromkeys([level.lower(), level.upper(), truth, f"{truth}.0"])
    found = codes_of(pd.Series([*texts], dtype=object), levels).tolist()
    codes = {text: code for text, code in zip(texts, found, strict=True) if code >= 0}
    other = levels.index(OTHER_LEVEL) if OTHER_LEVEL in levels else -1
    has = has_level(schema.missing, feature)
    codes[""] = codes.get(MISSING_LEVEL, other) if has else -1
    return codes, other


# Outputs of the network -------------------------------------------------------------------------


def add_outputs(graph: Graph, table: Any, y: str, gap: str | None) -> None:
    """Add the outputs of a `TableModel` whose network gives y: a number, or classes by name."""
    model, schema, graph.part = table.model, table.schema, "outputs"

    def known(value: str, instead: str) -> str:
        return value if gap is None else graph.add("Where", gap, instead, value)

    nan = graph.constant("nan", np.nan) if gap is not None else ""
    if schema.classes is None:
        y = graph.add("Exp", y) if isinstance(model.loss, Poisson) else y
        graph.output("prediction", known(y, nan), model.dtype, 1)
        return
    p = _probabilities(graph, model, y)
    if model.n_out == 1:
        # As for accuracy: the threshold is ½ for the second class.
        second = graph.add("Gather", p, graph.constant("second", [1], np.int64), axis=1)
        half = graph.constant("half", 0.5)
        number = graph.cast(graph.add("Greater", second, half), np.int64)
    else:
        number = graph.add("ArgMax", p, axis=1, keepdims=1)
    names = graph.constant("classes", np.array(schema.classes, object), object)
    label = graph.add("Gather", names, number, axis=0)
    empty = graph.constant("empty", np.array("", object), object) if gap is not None else ""
    graph.output("prediction", known(label, empty), str, 1)
    graph.output("probabilities", known(p, nan), model.dtype, len(schema.classes))


def _probabilities(graph: Graph, model: Any, y: str) -> str:
    """Add the probability of each class to what a network predicts, of shape (n, K)."""
    last = model.layers[-1]
    if model.n_out == 1:
        # If p rounds to 1, the other probability is not 1 − p = 0. ONNX Runtime's Sigmoid of
        # float32 is 0 below -18.
        z = graph.input_of(y) if isinstance(last, Sigmoid) else y
        one = graph.constant("one", 1)
        signed = graph.add("Concat", z, graph.add("Neg", z), axis=1)
        return graph.add("Reciprocal", graph.add("Add", one, graph.add("Exp", signed)))
    if isinstance(last, Sigmoid | Softmax):
        return y
    if isinstance(model.loss, BinaryCrossEntropy):
        return graph.add("Sigmoid", y)
    return graph.add("Softmax", y, axis=1)
