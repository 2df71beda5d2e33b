"""Errors about the content of files: a `CheckpointError`, whatever Python or NumPy raises."""

import contextlib
from collections.abc import Iterator

from minigd.errors import BackendError, CheckpointError


@contextlib.contextmanager
def damaged(what: str) -> Iterator[None]:
    """Turn any error about the content of a file into "`what` damaged".

    Examples
    --------
    >>> with damaged("'a.npz' is"):
    ...     ["Dense"][int("3")]
    Traceback (most recent call last):
    minigd.errors.CheckpointError: 'a.npz' is damaged: list index out of range
    """
    try:
        yield
    except (CheckpointError, BackendError, MemoryError, Warning):
        raise  # is specific already, or not about the file's content
    except Exception as error:
        reason = f"{error}" or type(error).__name__
        raise CheckpointError(f"{what} damaged: {reason:.500}") from error


@contextlib.contextmanager
def of_file(name: str) -> Iterator[None]:
    """Name the file in an error about its content."""
    try:
        with damaged(f"{name!r} is"):
            yield
    except CheckpointError as error:
        if repr(name) in f"{error.args[0]}":
            raise
        raise CheckpointError(f"{name!r}: {error}") from error
