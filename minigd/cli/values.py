"""Conversion of the text after an option to a Python value."""

import argparse
import csv
import os
from typing import Any


def names(text: str) -> tuple[str, ...]:
    """Return the names in a list; a name with a comma is quoted."""
    try:
        found = next(csv.reader([text], skipinitialspace=True, strict=True), [])
    except csv.Error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of names: {error}") from error
    return tuple(name.strip() for name in found or [""])


def by_column(text: str) -> dict[str, str]:
    """Return texts by column, NAME=VALUE,NAME=VALUE."""
    found = {}
    for pair in names(text):
        name, equals, value = pair.rpartition("=")
        if not equals or not name:
            raise argparse.ArgumentTypeError(f"{pair!r} is not NAME=VALUE")
        found[name] = value
    return found


def class_weights(text: str) -> Any:
    """Return a weight by class, NAME=WEIGHT,NAME=WEIGHT, or the word balanced."""
    if text == "balanced":
        return text
    return {name: positive(weight) for name, weight in by_column(text).items()}


def metrics(text: str) -> tuple[str, ...]:
    """Return names of metrics."""
    from minigd.nn.metrics import get_metrics

    try:
        return tuple(get_metrics(names(text)))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def widths_by_column(text: str) -> dict[str, int]:
    """Return numbers of columns by column."""
    return {name: integer(width) for name, width in by_column(text).items()}


def policies(text: str) -> Any:
    """Return the policy for missing values: one for all columns, or one for each."""
    words = by_column(text) if "=" in text else {"*": text}
    return {name: policy(word) for name, word in words.items()}


def policy(text: str) -> str | float:
    """Return the name of a policy for missing values, or the number that replaces them."""
    if text in ("mean", "median", "flag", "category", "drop", "error"):
        return text
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not abs(value) < float("inf"):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not mean, median, flag, category, drop, error or a number"
        )
    return value


def columns(text: str) -> tuple[str, ...]:
    """Return the names of columns in a list, or in a file of them."""
    if not os.path.isfile(text):
        return names(text)
    try:
        with open(text, encoding="utf-8") as file:
            return names(",".join(line.strip().strip(",") for line in file if line.strip()))
    except (OSError, UnicodeDecodeError) as error:
        raise argparse.ArgumentTypeError(f"{text} holds no names: {error}") from error


def separator(text: str) -> str:
    """Return a separator; ``tab`` is the name of a tab."""
    if text in ("tab", "\\t"):
        return "\t"
    if len(text) != 1 and text != "blanks":
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a single character such as ';', or tab, or blanks"
        )
    return text


def encoding(text: str) -> str:
    """Return an encoding of text that Python knows."""
    try:
        "".encode(text)
    except LookupError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not an encoding such as utf-8, cp1252 or utf-16"
        ) from None
    return text


def compression(text: str) -> str | None:
    """Return how a file is packed; none means not packed."""
    known = "infer", "gzip", "bz2", "xz", "zstd", "zip"
    if text not in (*known, "none"):
        raise argparse.ArgumentTypeError(f"{text!r} is not {', '.join(known)} or none")
    return None if text == "none" else text


def widths(text: str) -> tuple[int, ...]:
    """Return the widths of hidden layers; 0 means no hidden layer."""
    return () if text in ("0", "") else tuple(integer(width) for width in text.split(","))


def sizes(text: str) -> tuple[int | None, ...]:
    """Return batch sizes; all means the whole table."""
    return tuple(None if size == "all" else integer(size) for size in text.split(","))


def integer(text: str, lowest: int = 1) -> int:
    """Return a whole number, at least `lowest`."""
    if not text.isdecimal() or int(text) < lowest:
        raise argparse.ArgumentTypeError(f"must be an integer >= {lowest}, not {text!r}")
    return int(text)


def count(text: str) -> int:
    """Return a whole number >= 0."""
    return integer(text, 0)


def seed(text: str) -> int:
    """Return a seed."""
    seed = integer(text, 0)
    if seed >= 1 << 64:
        raise argparse.ArgumentTypeError(f"must be below 2**64, not {text!r}")
    return seed


def positive(text: str) -> float:
    """Return a number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number > 0, not {text!r}")
    return value
