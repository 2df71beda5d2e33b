"""Where a command writes to, looked at before any work is done.

An hour of training is not to end in the news that there is no such folder.
"""

import os
from collections.abc import Collection

from minigd.data.sources.file_kinds import HOLDS, kind_of

NOT_SAVED = tuple(kind for kind in HOLDS if kind != "saved")
"""The kinds of file that minigd does not save."""


def check_out(
    out: str | os.PathLike[str],
    spare: Collection[str] = (),
    **read: str | os.PathLike[str],
) -> None:
    """Refuse a file that can't be written to, that the command reads, or that is another's.

    Parameters
    ----------
    out : path
    spare : collection of str, optional
        The kinds of file, as `minigd.data.sources.file_kinds.kind_of` names them, that are not
        replaced, unless they are empty.
    **read : path
        Files that are read, and must not be replaced, by what they are: ``table``, ``model``.

    Raises
    ------
    OSError
        Saying why it can't be written to, and what to do.

    Examples
    --------
    >>> check_out("/no/such/folder/prices.csv")
    Traceback (most recent call last):
    OSError: '/no/such/folder/prices.csv' can't be written: there is no folder '/no/such/folder'; \
make it, or name a file elsewhere
    """
    out = os.fspath(out)
    if not out:
        raise OSError("'' is no name for a file: name the one to write to")
    for what, path in read.items():
        if os.path.exists(out) and os.path.exists(path) and os.path.samefile(out, path):
            raise OSError(f"{out!r} is the {what} itself, and would be lost: name another file")
    folder = os.path.dirname(os.path.realpath(out))
    problem = ""
    if os.path.isdir(out):
        problem = "it is a folder; name a file in it"
    elif not os.path.isdir(folder):
        problem = f"there is no folder {folder!r}; make it, or name a file elsewhere"
    elif os.path.exists(out) and not os.path.isfile(out):
        problem = "it is there already, and is no ordinary file; name another one"
    elif os.path.exists(out) and not os.access(out, os.W_OK):
        problem = "the file is read-only; name another one"
    elif not os.access(folder, os.W_OK):
        problem = f"the folder {folder!r} is read-only; name a file elsewhere"
    elif spare and os.path.exists(out) and os.path.getsize(out) and kind_of(out) in spare:
        what = HOLDS[kind_of(out)]
        problem = f"it is there already, and is {what}; name another file, or remove it first"
    if problem:
        raise OSError(f"{out!r} can't be written: {problem}")


def check_picture(picture: str | os.PathLike[str]) -> None:
    """Refuse a name that no picture can have, by its ending or its place; needs Matplotlib.

    Raises
    ------
    OSError
        As `check_out`, or because of the ending.
    ImportError
        If Matplotlib is missing; it names the extra.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            f"pictures need Matplotlib ({error}): pip install 'minigd[plot]'"
        ) from error
    # The pictures of TeX are drawn by TeX, which is seldom there.
    kinds = Figure().canvas.get_supported_filetypes().keys() - {"pgf"}
    kind = os.path.splitext(picture)[1].removeprefix(".").lower()
    if kind not in kinds:
        raise OSError(
            f"{os.fspath(picture)!r} is no name for a picture: it must end in .png, .svg, .pdf or "
            f"another of {', '.join(sorted(kinds))}"
        )
    check_out(picture)
