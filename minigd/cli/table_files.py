"""The files that DATA names: one, several, a pattern, a folder, or `-` for standard input."""

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from minigd.data.sources.csv_stream import Once
from minigd.data.sources.file_kinds import kind_of
from minigd.data.sources.given_files import PARQUET, TEXTS, ending_of, find_files
from minigd.errors import DataError
from minigd.progress import log


class TableFiles:
    """The files of one table.

    Attributes
    ----------
    files : list
        Paths, or standard input.
    """

    def __init__(self, files: list[Any]) -> None:
        self.files = files
        kinds = {self._kind(file): file for file in reversed(files) if isinstance(file, str)}
        if len(kinds) > 1:
            one, other = list(kinds.values())[-2:]
            raise DataError(
                f"{other} and {one} are of different kinds, but a table has one: name the files of "
                f"one kind, such as {os.path.join(os.path.dirname(one), '*' + ending_of(one))!r}"
            )
        if "npy" in kinds and len(files) > 1:
            raise DataError(
                f"{files[0]} and {files[1]}: a table of .npy files is one file; join them with "
                "numpy.concatenate"
            )

    @property
    def kind(self) -> str:
        """How the table is stored: csv, parquet or npy."""
        return self._kind(self.files[0])

    @staticmethod
    def _kind(file: Any) -> str:
        if isinstance(file, Once):
            return "csv"
        if not isinstance(file, str):
            return "parquet" if kind_of(file) == "parquet" else "csv"
        if file.endswith(PARQUET):
            return "parquet"
        return "npy" if file.endswith(".npy") else "csv"

    @property
    def paths(self) -> list[str]:
        """The files that have a name on the disk."""
        return [file for file in self.files if isinstance(file, str)]

    def report(self) -> None:
        """Print the number of files, if there are several."""
        if len(self.files) > 1:
            log(f"{len(self.files):,} files, from {self.files[0]} to {self.files[-1]}")

    def __str__(self) -> str:
        first = self.files[0]
        return first if isinstance(first, str) else str(first.name)


def table_files(data: Any) -> TableFiles:
    """Return the files that are meant."""
    if isinstance(data, TableFiles):
        return data
    return TableFiles(find_files(data, (*TEXTS, *PARQUET), "a table"))


# Standard input -----------------------------------------------------------------------------------


class StandardInput:
    """Standard input as a file that can be read repeatedly, from a copy on the disk.

    The copy is made at the first read. It has no name, so the system removes it when the process
    ends in any way.
    """

    name = "standard input"
    closed = False

    def __init__(self, source: Any, folder: str) -> None:
        self._source, self._folder = source, folder
        self._copy: Any = None

    def _kept(self) -> Any:
        if self._copy is None:
            log(f"{self.name} is kept in a temporary file in {self._folder} while it is needed")
            try:
                self._copy = tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115
                shutil.copyfileobj(self._source, self._copy, 1 << 20)
            except OSError as error:
                what = f"{error.strerror}; {self.name} is kept there: free some space"
                raise OSError(error.errno, what, self._folder) from error
        return self._copy

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes."""
        data: bytes = self._kept().read(size)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a place in the file."""
        return int(self._kept().seek(offset, whence))

    def tell(self) -> int:
        """Return the current place in the file."""
        return int(self._kept().tell())

    def seekable(self) -> bool:
        """Return True."""
        return True

    def close(self) -> None:
        """Do nothing: some readers close a file that is read again later."""

    def remove(self) -> None:
        """Remove the copy."""
        if self._copy is not None:
            self._copy.close()


@contextlib.contextmanager
def given_table(
    data: list[str], out: str | None, streams: bool
) -> Iterator[TableFiles | list[str]]:
    """Yield what a command reads: files, or standard input for `-`.

    A copy of standard input is kept in the folder of the file `out`, or in that for temporary
    files. A command that `streams` reads it once, without a copy unless the kind of file needs one.
    """
    if "-" not in data:
        yield data
        return
    if len(data) > 1:
        raise DataError("standard input, -, is a whole table: leave out the other files")
    source: Any = getattr(sys.stdin, "buffer", None)
    if source is None:
        raise OSError("standard input is closed: pipe a table into it, or name a file")
    if streams:
        source = Once(source, StandardInput.name)
        if source.can_stream:
            yield TableFiles([source])
            return
        source.let_go()
    folder = tempfile.gettempdir() if out is None else os.path.dirname(out) or "."
    kept = StandardInput(source, folder)
    try:
        yield TableFiles([kept])
    finally:
        kept.remove()
