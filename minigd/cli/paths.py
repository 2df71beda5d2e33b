"""Paths that a command writes to, checked before any work is done.

An hour of training must not end with an error about a missing folder.
"""

import os
from collections.abc import Collection
from typing import Any

from minigd.backends.on_demand import optional
from minigd.data.sources.file_kinds import HOLDS, kind_of
from minigd.storage.atomic_files import check_writable, replacing

NOT_SAVED = tuple(kind for kind in HOLDS if kind != "saved")
"""The kinds of file that minigd does not save."""


def check_output(
    out: str | os.PathLike[str],
    spare: Collection[str] = (),
    **read: Any,
) -> None:
    """Refuse a file that can't be written, that the command reads, or that minigd did not write.

    `spare` names the kinds of file that are not replaced unless they are empty, as in
    `minigd.data.sources.file_kinds.kind_of`. `read` has the files that are read, by what they are:
    ``table``, which may be a list, and ``model``.

    Examples
    --------
    >>> check_output("/no/such/prices.csv")
    Traceback (most recent call last):
    FileNotFoundError: '/no/such/prices.csv' can't be written: there is no folder '/no/such'; \
make it, or name a file elsewhere
    """
    out = os.fspath(out)
    if not out:
        raise OSError("'' is not a file name: name the file to write to")
    several = {what: one if isinstance(one, list) else [one] for what, one in read.items()}
    for what, path in ((what, path) for what, paths in several.items() for path in paths):
        if os.path.exists(out) and os.path.exists(path) and os.path.samefile(out, path):
            raise OSError(f"{out!r} is the {what} itself, and would be lost: name another file")
    check_writable(out)
    if spare and os.path.exists(out) and os.path.getsize(out) and kind_of(out) in spare:
        raise OSError(
            f"{out!r} can't be written: it exists, and is {HOLDS[kind_of(out)]}; name "
            "another file, or remove it first"
        )


def check_picture(picture: str | os.PathLike[str]) -> None:
    """Refuse a picture whose ending or folder does not work; needs Matplotlib."""
    figure = optional("matplotlib.figure", "a picture").Figure()
    # Pictures for TeX need TeX itself, which is seldom installed.
    kinds = figure.canvas.get_supported_filetypes().keys() - {"pgf"}
    if _ending(picture) not in kinds:
        raise OSError(
            f"{os.fspath(picture)!r} does not name a picture: it must end in .png, .svg, .pdf or "
            f"another of {', '.join(sorted(kinds))}"
        )
    check_output(picture)


def save_picture(figure: Any, picture: str | os.PathLike[str], **options: Any) -> None:
    """Write a Matplotlib figure in the format of the name's ending, completely or not at all."""
    with replacing(picture) as file:
        figure.savefig(file, format=_ending(picture), **options)


def _ending(path: str | os.PathLike[str]) -> str:
    return os.path.splitext(path)[1].removeprefix(".").lower()
