"""What a command prints on standard output. A result that can't be written is an error.

Any failure of standard output becomes an OSError here. A command that could not write its result
thus ends with a code other than 0.
"""

import contextlib
import errno
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from minigd.errors import escape_controls
from minigd.progress import printable

_NAME = "standard output"


class Output:
    """Standard output as a file to write to."""

    def __init__(self) -> None:
        self._terminal = False
        with contextlib.suppress(AttributeError, ValueError):  # missing, or closed
            self._terminal = sys.stdout.isatty()

    def write(self, text: str) -> None:
        """Write a text unchanged, except for control characters of a terminal."""
        with _failing_as_os_error():
            sys.stdout.write(escape_controls(text) if self._terminal else text)

    def flush(self) -> None:
        """Flush the buffer, which raises any failure here."""
        with _failing_as_os_error():
            sys.stdout.flush()


@contextlib.contextmanager
def _failing_as_os_error() -> Iterator[None]:
    try:
        yield
    except UnicodeEncodeError as error:
        sign = error.object[error.start]
        problem = f"{sys.stdout.encoding} lacks {sign!a}; --out FILE is written in UTF-8"
        raise OSError(errno.EILSEQ, problem, _NAME) from error
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), _NAME) from error
    except (ValueError, AttributeError) as error:  # closed, or missing
        raise OSError(errno.EBADF, "it is closed", _NAME) from error


def show(text: str) -> None:
    """Print lines for people; characters that standard output can't encode are spelled out."""
    output = Output()
    output.write(printable(text) + "\n")
    output.flush()


def in_json(value: Any) -> str:
    """Return a result as one line of JSON; NaN and infinity become null.

    >>> in_json({"loss": float("nan"), "rows": (1, 2)})
    '{"loss": null, "rows": [1, 2]}'
    """
    return json.dumps(_plain(value), allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value


def discard_unwritten() -> None:
    """Drop what a standard stream did not accept; Python would report it at exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            with contextlib.suppress(Exception):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
