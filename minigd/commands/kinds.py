"""What a file really is, by how it begins, where its name and its place say something else.

A model given as a table is a slip that deserves better than news of bytes that are not UTF-8.
"""

import gzip
import os
import zipfile
import zlib

from minigd.errors import DataError

_BEGINS = {b"PK\x03\x04": "zip", b"\x93NUM": "array", b"PAR1": "parquet"}
_GZIP = b"\x1f\x8b"
_LONGEST_LINE = 1 << 20
_SAVED = "description.json.npy"  # what `minigd.state.write` puts into each of its files

HOLDS = {
    "saved": "a file that minigd saved, such as a model",
    "arrays": "an archive of other arrays",
    "workbook": "an Excel workbook",
    "zip": "a zip archive",
    "damaged": "a zip archive that is damaged",
    "array": "an array of NumPy's",
    "parquet": "a Parquet file",
    "text": "a text, or what another program wrote",
}
"""What a file of each kind is, in words."""

_NO_TABLE = {
    "saved": "is a file that minigd saved, such as the MODEL of predict, evaluate and info; DATA "
    "is a table: CSV, Parquet or .npy",
    "arrays": "is an archive of arrays; write the table as one array, with numpy.save, to a .npy "
    "file",
    "workbook": "is an Excel workbook: save it as CSV",
    "damaged": "is a zip archive that is damaged; a table is a CSV, Parquet or .npy file",
    "zip": "is a zip archive: unpack it, and name the table that was in it",
    "array": "is an array of NumPy's: its name must end in .npy",
    "parquet": "is a Parquet file: its name must end in .parquet",
}


def kind_of(path: str | os.PathLike[str]) -> str:
    """Return what a file is, in a word.

    It is "saved" (a file of minigd's), "arrays" (another .npz), "workbook", "zip", "damaged" (what
    was one of these), "array", "parquet", or "text", which is all that is nothing else.

    Raises
    ------
    OSError
        If it can't be read.

    Examples
    --------
    >>> import tempfile, minigd as gd
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     gd.Sequential([gd.Dense(1)], inputs=2).save(f"{folder}/rows.csv")
    ...     kind_of(f"{folder}/rows.csv")
    'saved'
    """
    with open(path, "rb") as file:
        kind = _BEGINS.get(file.read(4), "text")
    if kind != "zip":
        return kind
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return "damaged"
    if _SAVED in names:
        return "saved"
    if "xl/workbook.xml" in names:
        return "workbook"
    return "arrays" if names and all(name.endswith(".npy") for name in names) else "zip"


def check_table(path: str) -> None:
    """Refuse a file that is no table, or not the kind of table that its name ends in.

    Raises
    ------
    DataError
        Saying what it is, and what to do.
    OSError
        If it can't be read.
    """
    kind = kind_of(path)
    expected = {".npy": "array", ".parquet": "parquet", ".pq": "parquet"}.get(
        os.path.splitext(path)[1], "text"
    )
    if kind == expected == "text" and not os.path.isfile(path):
        raise DataError(
            f"{path} is a pipe or a device, and a table is read more than once: write it to a file"
        )
    if kind == expected:
        return
    if kind != "text":
        raise DataError(f"{path} {_NO_TABLE[kind]}")
    what = "array of NumPy's" if expected == "array" else "Parquet file"
    raise DataError(
        f"{path} is no {what}, whatever its name ends in: if it is a CSV, let that be .csv"
    )


def line_behind(path: str, lines: int) -> str:
    """Return the line of a text, gzipped or not, behind so many; nothing, if there is none."""
    try:
        with open(path, "rb") as file:
            begin = file.read(len(_GZIP))
        with gzip.open(path) if begin == _GZIP else open(path, "rb") as file:
            for line in iter(lambda: file.readline(_LONGEST_LINE), b""):
                if lines == 0:
                    return line.decode(errors="replace")
                lines -= 1
    except (OSError, EOFError, zlib.error):
        pass
    return ""
