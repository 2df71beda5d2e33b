"""The files that a caller names: a pattern or a folder means several files of one table."""

import glob
import os
from collections.abc import Sequence
from typing import Any

from minigd.errors import DataError, check_path
from minigd.storage.regular_files import files_given

TEXTS = (".csv", ".tsv", ".tab", ".data", ".dat")
PARQUET = (".parquet", ".pq")
_PACKED = (".gz", ".bz2", ".xz", ".lzma", ".zst", ".zstd", ".zip")
_MOST_NAMED = 5  # columns in an error


def find_files(given: Any, endings: Sequence[str], what: str) -> list[Any]:
    """Return the files that are meant, in order: paths and file objects.

    A pattern, such as ``data/*.csv``, means the files that match it; a folder, those in it whose
    names have one of the `endings`, packed or not, and do not begin with ``.`` or ``_``. Both are
    in the order of their names. ``~`` is the user's folder. `what` is the expected kind of file.
    """
    return [file for one in files_given(given, what) for file in _files_of(one, endings)]


def _files_of(given: Any, endings: Sequence[str]) -> list[Any]:
    if not isinstance(given, str | os.PathLike):
        return [given]
    path = check_path("path", given)
    if os.path.isdir(path):
        return _in_folder(path, endings)
    if os.path.lexists(path) or not glob.has_magic(path):
        return [path]
    files = sorted(one for one in glob.glob(path, recursive=True) if not os.path.isdir(one))
    if not files:
        raise FileNotFoundError(f"no file matches {path!r}")
    return _each_once(path, files)


def _in_folder(folder: str, endings: Sequence[str]) -> list[Any]:
    names = sorted(os.listdir(folder))
    tables = [name for name in names if name[0] not in "._" and ending_of(name) in endings]
    files = [os.path.join(folder, name) for name in tables]
    files = [file for file in files if not os.path.isdir(file)]
    if files:
        return _each_once(folder, files)
    deeper = glob.iglob(os.path.join(glob.escape(folder), "*", "**", "*"), recursive=True)
    ending = next((end for file in deeper if (end := ending_of(file)) in endings), None)
    pattern = os.path.join(folder, "*.txt" if ending is None else os.path.join("**", f"*{ending}"))
    known = f"{', '.join(endings[:-1])} or {endings[-1]}"
    raise DataError(
        f"the folder {folder!r} has no file that ends in {known}: name its files, or a pattern "
        f"such as {pattern!r}"
    )


def ending_of(name: str) -> str:
    """Return the ending of a table's name in lower case, ignoring an ending such as ``.gz``.

    >>> ending_of("data/Houses.CSV.gz")
    '.csv'
    """
    stem, ending = os.path.splitext(os.fspath(name).lower())
    return os.path.splitext(stem)[1] if ending in _PACKED else ending


def _each_once(given: str, files: list[str]) -> list[str]:
    """Refuse a file that exists both plain and packed: its rows would count twice."""
    plain: dict[str, str] = {}
    for file in files:
        stem, ending = os.path.splitext(file)
        name = stem if ending.lower() in _PACKED else file
        other = plain.setdefault(name, file)
        if other != file:
            raise DataError(
                f"{given!r} contains {other} and {file}, which may be the same rows: remove one of "
                "them, or name the files"
            )
    return files


def differing(columns: Sequence[str], first: Sequence[str]) -> str:
    """Return how the columns of a file differ from those of the first file, in words.

    >>> differing(["a", "c"], ["a", "b"]), differing(["b", "a"], ["a", "b"])
    ("it lacks 'b', and it also has 'c'", "column 1 is 'b' here and 'a' there")
    """
    lacking = [column for column in first if column not in columns]
    new = [column for column in columns if column not in first]
    parts = [f"it lacks {_named(lacking)}"] if lacking else []
    if new:
        parts.append(f"it also has {_named(new)}")
    if parts:
        return ", and ".join(parts)
    pairs = enumerate(zip(columns, first, strict=False), 1)
    place, (one, other) = next((i, pair) for i, pair in pairs if pair[0] != pair[1])
    return f"column {place} is {one!r} here and {other!r} there"


def _named(columns: Sequence[str]) -> str:
    more = len(columns) - _MOST_NAMED
    shown = ", ".join(map(repr, columns[:_MOST_NAMED]))
    return f"{shown} and {more} more" if more > 0 else shown
