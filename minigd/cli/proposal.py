"""The command that `minigd train` proposes if the given one can't run.

It is found as a person would find it: follow the first piece of advice in each message, on the
first rows of the table. A proposed command has thus been tried.
"""

import contextlib
import io
import os
import shlex
import tempfile
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import numpy as np

from minigd.cli.held_out import Split, open_to_split
from minigd.cli.messages import in_shell
from minigd.cli.table_files import table_files
from minigd.cli.tables import Columns, Reading
from minigd.data.sources.csv_files import open_file
from minigd.data.sources.file_kinds import kind_of
from minigd.data.tables.remedy import Remedy
from minigd.errors import Advised, DataError

_SAMPLE = 1 << 21
"""Bytes of the table on which a proposal is tried."""

_TRIES = 12


def propose(
    arguments: Sequence[str], parse: Callable[[list[str]], Any], failure: Advised
) -> list[str] | None:
    """Return the words of a command that opens the first rows of its table; None if none is found.

    Parameters
    ----------
    arguments : sequence of str
        The words of the command that failed, without ``minigd``.
    parse : callable
        Turns such words into options by name.
    failure : Advised
        Its error, which may be far below the first rows.
    """
    words, error = list(arguments), failure
    kept = _split(parse(words))
    with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with (
            contextlib.suppress(OSError, DataError, SystemExit),
            _head(parse(words)["data"]) as head,
        ):
            for _ in range(_TRIES):
                more = _first_advice(error, kept)
                if more is None or _has(words, more):
                    return None
                words = _with(words, more)
                try:
                    _open(parse(words), head)
                except Advised as again:
                    error = again
                except (DataError, ValueError, TypeError):
                    return None
                else:
                    return words
    return None


def _open(options: dict[str, Any], data: Any) -> None:
    """Open a table as `minigd train` does, and read the columns that decide the split."""
    reading = Reading(**{k: options[k] for k in Reading._fields if k in options})
    given: dict[str, Any] = {k: options[k] for k in Columns._fields if k in options}
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
    chosen = options["target"], options.get("exclude", ()), options.get("task")
    open_to_split(data, reading, *chosen, Columns(**given), _split(options))


def _split(options: dict[str, Any]) -> Split:
    return Split(**{k: options[k] for k in Split._fields if k in options})


def _first_advice(error: Advised, kept: Collection[str | None]) -> dict[str, Any] | None:
    """Return the options of the first remedy that can be typed as it is.

    Columns that decide which rows are held out are never left out.
    """
    for remedy in error.remedies:
        if isinstance(remedy, Remedy) and remedy.options and remedy.shell != "":
            options = dict(remedy.options)
            if "exclude" in options:
                options["exclude"] = [one for one in options["exclude"] if one not in kept]
            empty = [] in options.values() or [...] in options.values()
            if in_shell(options) is not None and not empty:
                return options
    return None


def _with(words: list[str], options: dict[str, Any]) -> list[str]:
    """Return words with options added; a list is extended, any other value is replaced."""
    words = list(words)
    for name, value in options.items():
        typed = in_shell({name: value})
        assert typed is not None
        flag, *values = shlex.split(typed)
        at = words.index(flag) + 1 if flag in words and values else None
        if at is not None and not isinstance(value, list | dict):
            words[at] = values[0]
        elif at is not None and ("=" in words[at]) == ("=" in values[0]):
            words[at] += f",{values[0]}"
        else:
            words += [flag, *values]
    return words


def _has(words: list[str], options: dict[str, Any]) -> bool:
    """Tell whether options were added before; their advice then did not help."""
    added = _with([], options)
    there = any(words[k : k + len(added)] == added for k in range(len(words)))
    return there or _with(words, options) == words


@contextlib.contextmanager
def _head(data: Any) -> Iterator[Any]:
    """Yield the path of a file with the first rows of a table of text, or another table."""
    table = table_files(data)
    if table.kind != "csv":
        yield table
        return
    path = str(table)
    kind = kind_of(table.files[0])
    wide = kind.startswith(("utf-16", "utf-32"))
    with open_file(table.files[0], returns=not wide) as file:
        data = file.read(_SAMPLE)
    if len(data) == _SAMPLE:
        data = _whole_rows(data.decode(kind, "ignore").encode() if wide else data)
        data = data.decode().encode(kind) if wide else data
    with tempfile.TemporaryDirectory() as folder:
        name = os.path.join(folder, os.path.basename(path).removesuffix(".gz"))
        with open(name, "wb") as out:
            out.write(data)
        yield name


def _whole_rows(data: bytes) -> bytes:
    """Return data up to the last newline that is outside quotes, if there is one."""
    bytes_ = np.frombuffer(data, dtype=np.uint8)
    inside = np.bitwise_xor.accumulate((bytes_ == ord('"')).view(np.uint8))
    newlines = bytes_ == ord("\n")
    ends = np.flatnonzero(newlines & (inside == 0))
    ends = ends if len(ends) else np.flatnonzero(newlines)
    return data[: int(ends[-1]) + 1] if len(ends) else data
