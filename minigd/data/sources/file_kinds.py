"""The real kind of a file, from its first bytes, if its name or its place suggests another one.

One table names each kind of file and what to do with it, for Python and for the shell.
"""

import codecs
import contextlib
import io
import json
import os
import re
import shlex
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from minigd.data.sources.packed import LONGEST, PACKINGS, Unpacked, only_member, packing_of
from minigd.data.tables.remedy import Remedy, TableError
from minigd.errors import DataError
from minigd.storage.regular_files import open_regular

HEAD = 4096
_LISTED = 1 << 20  # bytes of a tar archive that are searched for a table
_SAVED = "description.json.npy"  # what `minigd.storage.npz.write` puts into each of its files
_CONTROL = bytes(set(range(32)) - set(b"\t\n\f\r"))
_OF_TABLES = (".csv", ".tsv", ".txt", ".data", ".dat", ".tab", ".parquet", ".npy")


class _Kind(NamedTuple):
    """A kind of file, how it begins, and what to do with it in Python and in the shell.

    In the remedies, {path} and {bytes} are Python for the file and its content, {out} for a new
    file next to it, and {member} for the table in an archive. Names in capitals are for the shell.
    """

    what: str
    begins: tuple[bytes, ...] = ()
    python: str = ""
    shell: str | None = None  # None: the same


def _by_pandas(what: str, call: str, *begins: bytes) -> _Kind:
    return _Kind(what, begins, f"write it as a CSV: pandas.{call}.to_csv({{out}}, index=False)")


def _packed(what: str, program: str, *begins: bytes) -> _Kind:
    return _Kind(what, begins, f"unpack it: {program} {{PATH}} > {{OUT}}")


_KINDS = {
    "saved": _Kind(
        "a file that minigd saved, such as a model",
        python="read it with minigd.load",
        shell="MODEL comes before DATA, and DATA is a table: CSV, Parquet or .npy",
    ),
    "arrays": _Kind(
        "an archive of arrays",
        python="save its table alone: numpy.save({out}, numpy.load({path})[{member}])",
    ),
    "array": _Kind(
        "a NumPy array",
        (b"\x93NUMPY",),
        "read it with NpySource",
        "its name must end in .npy",
    ),
    "parquet": _Kind(
        "a Parquet file", (b"PAR1",), "read it with ParquetSource", "its name must end in .parquet"
    ),
    "workbook": _by_pandas("an Excel or OpenDocument workbook", "read_excel({path})"),
    "old workbook": _by_pandas(
        "an old Excel workbook, or another Office document",
        "read_excel({path})",
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
    ),
    "feather": _by_pandas("an Arrow or Feather file", "read_feather({path})", b"ARROW1", b"FEA1"),
    "orc": _by_pandas("an ORC file", "read_orc({path})", b"ORC"),
    "stata": _by_pandas("a Stata file", "read_stata({path})", b"<stata_dta>"),
    "spss": _by_pandas("an SPSS file", "read_spss({path})", b"$FL2@(#)"),
    "pickle": _by_pandas(
        "a Python pickle, which can run any code when it is read",
        "read_pickle({path})",
        *(b"\x80" + bytes([protocol]) for protocol in range(2, 6)),
    ),
    "sqlite": _by_pandas(
        "an SQLite database",
        "read_sql('SELECT * FROM ' + {member}, sqlite3.connect({path}))",
        b"SQLite format 3\0",
    ),
    "json": _by_pandas("a JSON file", "read_json({path})"),
    "json lines": _by_pandas("a file of JSON lines", "read_json({path}, lines=True)"),
    "svmlight": _Kind(
        "a sparse table in the format of LIBSVM (svmlight)",
        python="write it as an array, whose column 0 is the target: x, y = "
        "sklearn.datasets.load_svmlight_file({path}); "
        "numpy.save({out}, numpy.column_stack([y, x.toarray()]))",
    ),
    "html": _by_pandas("a web page", "read_html({path})[0]"),
    "xml": _by_pandas("an XML file", "read_xml({path})", b"<?xml"),
    "hdf5": _Kind(
        "an HDF5 file",
        (b"\x89HDF\r\n\x1a\n",),
        "write its table as a CSV, with pandas.read_hdf or h5py",
    ),
    "matlab": _Kind(
        "a MATLAB file",
        (b"MATLAB 5.0 MAT-file",),
        "read it with scipy.io.loadmat, and write the table in it with numpy.save",
    ),
    "r": _Kind(
        "an R data file",
        (b"RDX2\n", b"RDX3\n", b"X\n\0\0\0"),
        "write it as a CSV in R, with write.csv",
    ),
    "idx": _Kind(
        "an IDX file, such as those of MNIST",
        (b"\0\0\x08\x01", b"\0\0\x08\x03"),
        "read it with IdxSource",
        "read it in Python, with IdxSource",
    ),
    "pointer": _Kind(
        "a Git LFS pointer to a file that is stored elsewhere",
        (b"version https://git-lfs.github.com/spec/",),
        "fetch the file with git lfs pull",
    ),
    "zip": _Kind(
        "a zip archive",
        PACKINGS["zip"].begins,
        "open the table in it with CsvSource(zipfile.ZipFile({path}).open({member}), ...)",
        "unpack it with python -m zipfile -e {PATH} {FOLDER}, and name {UNPACKED}",
    ),
    "locked": _Kind("a zip archive with a password", (), "unpack it with the password"),
    "damaged": _Kind("a zip archive that is damaged", (), "download it again or recreate it"),
    "tar": _Kind(
        "a tar archive",
        (),
        "open the table in it with CsvSource(tarfile.open({tar}).extractfile({member}), ...)",
        "unpack it with python -m tarfile -e {PATH} {FOLDER}, and name {UNPACKED}",
    ),
    **{
        name: _packed(f"a file packed by {packing.title}", packing.shell, *packing.begins)
        for name, packing in PACKINGS.items()
        if name != "zip"
    },
    "lz4": _packed("a file packed by lz4", "lz4 -dc", b"\x04\x22\x4d\x18"),
    "compress": _packed("a file packed by compress", "gzip -dc", b"\x1f\x9d"),
    "7z": _Kind("a 7z archive", (b"7z\xbc\xaf\x27\x1c",), "unpack it: 7z x {PATH}"),
    "rar": _Kind("a RAR archive", (b"Rar!\x1a\x07",), "unpack it: unrar x {PATH}"),
    "pdf": _Kind("a PDF document", (b"%PDF-",), "write the table in it as a CSV"),
    "picture": _Kind(
        "a picture",
        (b"\x89PNG\r\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*", b"BM", b"RIFF"),
        "a table is a CSV, Parquet or .npy file",
    ),
    **{
        encoding: _Kind(f"text in {encoding[:6].upper()}, not in UTF-8")
        for encoding in ("utf-32", "utf-32-le", "utf-32-be", "utf-16", "utf-16-le", "utf-16-be")
    },
    "returns": _Kind(
        "a text whose lines end in a lone \\r",
        (),
        "if it is a CSV, read it with CsvSource",
        "if it is a CSV, give it a name that ends in .csv",
    ),
    "text": _Kind("a text file, or a file of another program"),
}

HOLDS = {kind: known.what for kind, known in _KINDS.items()}
"""A description of each kind of file."""

_BEGINS = {begin: kind for kind, known in _KINDS.items() for begin in known.begins}
_SVMLIGHT = re.compile(
    rb"[+-]?[0-9][^\s:;,]*(?: qid:\d+)?"
    rb"((?: +(?:0|[1-9]\d*):[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)+)\s*(?:#.*)?"
)
_MARKS = {  # of the order of bytes
    b"\xff\xfe\0\0": "utf-32",
    b"\0\0\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}


def kind_of(given: Any) -> str:
    """Return the kind of a file: a key of `HOLDS`.

    It is "saved" (a file of minigd), "arrays" (another .npz), "array", "parquet", and so on. It is
    "text", packed or not, if nothing else matches.

    A file object is left at its start.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> with tempfile.NamedTemporaryFile(suffix=".csv") as file:
    ...     np.save(file, np.array([1.0, 2.0]))
    ...     kind_of(file)
    'array'
    """
    head = begin_of(given, HEAD)
    packing = packing_of(head)
    if packing is None:
        return _kind_of_head(head)
    kind = _kind_of_archive(given) if packing == "zip" else packing
    inside = _kind_inside(given, packing) if kind == packing else ""
    # An archive with several members is reported as an archive.
    known = ("text", "returns") if packing == "zip" else ("text", "returns", "tar")
    return inside if inside in known else kind


def begin_of(given: Any, size: int) -> bytes:
    """Return the first bytes of a path or a file object, which is left at its start."""
    with opened(given) as file:
        begin: bytes = file.read(size)
        return begin


@contextlib.contextmanager
def opened(given: Any) -> Iterator[Any]:
    """Open a path, or yield a file object, which is left at its start."""
    if isinstance(given, str | os.PathLike):
        with open_regular(given) as file:
            yield file
    else:
        given.seek(0)
        yield given
        given.seek(0)


def check_kind(given: Any, expected: str = "text", encoding: str = "utf-8") -> None:
    """Refuse a file of another kind than the one expected: "text", "array" or "parquet".

    A text of two or four bytes per character is expected if `encoding` says so.
    """
    is_path = isinstance(given, str | os.PathLike)
    name = os.fspath(given) if is_path else str(getattr(given, "name", "the file object"))
    kind = kind_of(given)
    if kind == expected or (kind == "returns" and expected == "text"):
        return
    inside = _kind_inside(given, kind) if kind in PACKINGS else kind
    if inside.startswith(("utf-16", "utf-32")):
        if expected == "text" and inside[:6] == encoding[:6]:
            return
        remedy = Remedy("read it with {}", {"encoding": inside})
        if expected != "text":
            shell = f"give it a name that ends in .csv, and add --encoding {inside}"
            remedy = Remedy(f"read it with CsvSource, and encoding={inside!r}", shell=shell)
        raise TableError(f"{name} is {HOLDS[inside]}", remedy)
    if kind == "text":
        what = ".npy file of numbers" if expected == "array" else "Parquet file, or is damaged"
        csv = "if it is a CSV, "
        remedy = Remedy(
            f"{csv}read it with CsvSource", shell=f"{csv}give it a name that ends in .csv"
        )
        raise TableError(f"{name} is not a {what}", remedy)
    what, known = HOLDS[kind], _KINDS[kind]
    if kind in PACKINGS and inside:
        packed = f"packed by {PACKINGS[kind].title}"
        what = f"{packed} twice" if inside == kind else f"{packed}, and inside is {HOLDS[inside]}"
        known = known._replace(python=known.shell or known.python)
    raise TableError(f"{name} is {what}", _remedy(known, given, name, kind))


def ends_in_returns(head: bytes) -> bool:
    r"""Tell whether the lines of a text end in a lone carriage return, by its first bytes.

    >>> ends_in_returns(b"a,y\r1,2\r"), ends_in_returns(b"a,y\r\n1,2\r\n")
    (True, False)
    """
    return b"\n" not in head and b"\r" in head.rstrip(b"\r") and b'"' not in head


def _remedy(known: _Kind, given: Any, name: str, kind: str = "") -> Remedy:
    ending = dict.fromkeys(("array", "arrays", "svmlight"), ".npy").get(kind, ".csv")
    is_path = isinstance(given, str | os.PathLike)
    member = _member(given, kind)
    path = repr(name) if is_path else "file"
    fields = {
        "path": path,
        "tar": path if is_path else "fileobj=file",
        "out": repr(name + ending),
        "member": repr(member),
        "PATH": shlex.quote(name),
        "OUT": shlex.quote(name + ending),
        "FOLDER": shlex.quote(name + ".d"),
        "UNPACKED": shlex.quote(os.path.join(name + ".d", member)),
    }
    shell = known.python if known.shell is None else known.shell
    words = known.python
    if "{PATH}" in words and not is_path and not hasattr(given, "name"):
        words = words.partition(":")[0]  # no command knows a file without a name
    return Remedy(words.format_map(fields), shell=shell.format_map(fields))


def _member(given: Any, kind: str) -> str:
    """Return the name of the table in an archive: the first that looks like one."""
    names: list[str] = []
    # A file that is damaged later on shows no names here, and is refused anyway.
    with contextlib.suppress(Exception), opened(given) as file:
        if kind in ("zip", "arrays"):
            with zipfile.ZipFile(file) as archive:
                names = [one.filename for one in archive.infolist() if not one.is_dir()]
        elif kind == "tar":
            # Only a small part: the member may be packed, and of any size.
            with tarfile.open(fileobj=io.BytesIO(_begin_unpacked(given, _LISTED))) as tar:
                names.extend(one.name for one in tar if one.isfile())
    if kind == "sqlite" and isinstance(given, str | os.PathLike):
        names = _tables_of_a_database(given)
    tables = [one for one in names if os.path.splitext(one)[1].lower() in _OF_TABLES]
    member = next(iter([*tables, *names]), "the table")
    return member.removesuffix(".npy") if kind == "arrays" else member


def _tables_of_a_database(path: str | os.PathLike[str]) -> list[str]:
    import sqlite3

    address = f"{Path(path).absolute().as_uri()}?mode=ro"
    try:
        with contextlib.closing(sqlite3.connect(address, uri=True)) as database:
            query = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY rowid"
            return [name for (name,) in database.execute(query)]
    except sqlite3.Error:
        return []


def _kind_inside(given: Any, packing: str) -> str:
    """Return the kind of the content of a packed file; "" unless it is a single file."""
    if packing == "zip":
        with opened(given) as file, zipfile.ZipFile(file) as archive:
            if only_member(archive) is None:
                return ""
    return _kind_of_head(_begin_unpacked(given, HEAD))


def _begin_unpacked(given: Any, size: int) -> bytes:
    """Return the first bytes of a file, or of its unpacked content, as far as they can be read."""
    with opened(given) as file:
        packing = packing_of(file.read(LONGEST))
        file.seek(0)
        if packing is None:
            begin: bytes = file.read(size)
            return begin
        with contextlib.closing(Unpacked(file, "", packing)) as unpacked:
            try:
                return unpacked.read(size)
            except DataError:
                return b""


def _kind_of_archive(given: Any) -> str:
    """Return the kind of a zip archive."""
    with opened(given) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                names = archive.namelist()
                locked = any(one.flag_bits & 1 for one in archive.infolist())
        except Exception:  # a file can be damaged in many ways
            return "damaged"
    if _SAVED in names:
        return "saved"
    if any(name.startswith("xl/workbook.") for name in names) or "content.xml" in names:
        return "workbook"
    if locked:
        return "locked"
    return "arrays" if names and all(name.endswith(".npy") for name in names) else "zip"


def _kind_of_head(head: bytes) -> str:
    """Return the kind of a file that begins with these bytes; any zip archive is "zip"."""
    packing = packing_of(head)
    if packing is not None:
        return packing
    mark = next((kind for mark, kind in _MARKS.items() if head.startswith(mark)), None)
    if mark is not None:
        return mark
    begins = next((begin for begin in _BEGINS if head.startswith(begin)), None)
    # Some kinds begin with letters that may also begin a name: ORC, BM, RIFF.
    binary = len(head.translate(None, _CONTROL)) < len(head)
    if begins is not None and (binary or len(begins) > 6 or not begins[:1].isalnum()):
        return _BEGINS[begins]
    if head[257:262] == b"ustar":
        return "tar"
    if b"\0" in head:
        return _wide_text(head) or "text"
    return _kind_of_text(head.removeprefix(b"\xef\xbb\xbf"))


def _is_svmlight(head: bytes) -> bool:
    """Tell whether all lines are a label and pairs of a rising index and a value."""
    lines = head.split(b"\n")[: -1 if len(head) == HEAD else None]
    found = [_SVMLIGHT.fullmatch(line) for line in lines if line.strip() and line[:1] != b"#"]
    if not found or None in found:
        return False
    pairs = [re.findall(rb"(\d+):(\S+)", line[1]) for line in found if line]
    places = [[int(place) for place, _ in row] for row in pairs]
    rising = all(row == sorted(set(row)) for row in places)
    # If all values may be times of day, it is a table.
    return rising and any(not re.fullmatch(rb"[0-5]\d", value) for row in pairs for _, value in row)


def _wide_text(head: bytes) -> str | None:
    """Return the encoding of a text of two or four bytes per character, from its NUL bytes."""
    for encoding in ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be"):
        with contextlib.suppress(UnicodeDecodeError):
            text = codecs.getincrementaldecoder(encoding)().decode(head)
            # In UTF-16, many bytes are 0: all of them are first bytes, or all are second bytes.
            half = 10 * head.count(0) >= len(head) and (0 not in head[::2] or 0 not in head[1::2])
            if (half or "32" in encoding) and "\0" not in text and "\n" in text.replace("\r", "\n"):
                return encoding
    return None


def _kind_of_text(head: bytes) -> str:
    if re.match(rb"\s*<(!doctype html|html|head|body)\b", head, re.IGNORECASE):
        return "html"
    if _is_svmlight(head):
        return "svmlight"
    first, newline, rest = head.lstrip().partition(b"\n")
    first = first.strip()
    if first in (b"{", b"[") or (not newline and re.match(rb'\{\s*"|\[\s*[\[{]', first)):
        return "json"
    if not first.startswith((b"{", b"[")):
        return "returns" if ends_in_returns(head) else "text"
    try:
        value = json.loads(first)
    except (ValueError, RecursionError):
        return "text"
    if isinstance(value, dict):
        return "json lines" if rest.strip() else "json"
    return "json" if value and isinstance(value[0], dict | list) else "text"
