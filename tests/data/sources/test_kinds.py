"""The first bytes of a file show its kind, and following the advice about it works.

Each kind is written by a program for it, and passed where another kind is expected.
"""

import contextlib
import gc
import gzip
import io
import lzma
import os
import pathlib
import pickle
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import warnings
import zipfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import minigd as gd
from minigd.cli.main import main
from minigd.data.sources.encodings import likely_encoding
from minigd.data.sources.file_kinds import kind_of
from minigd.data.sources.packed import PACKINGS

N = 24
FRAME = pd.DataFrame(
    {"a": np.arange(N) / 2, "y": np.arange(N) % 2 + 1, "city": ["Köln", "Bonn"] * (N // 2)}
)
TEXT = FRAME.to_csv(index=False)
PLAIN = TEXT.encode()


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    """Write default files, such as model.npz, where no other test does."""
    monkeypatch.chdir(tmp_path)


def in_zip(path, files, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)


def in_tar(path, mode):
    with tarfile.open(path, mode) as archive:
        one = tarfile.TarInfo("rows.csv")
        one.size = len(PLAIN)
        archive.addfile(one, io.BytesIO(PLAIN))


def in_database(path):
    with contextlib.closing(sqlite3.connect(path)) as database:
        FRAME.to_sql("houses", database, index=False)


def locked(path):
    """Make an archive whose member is marked as encrypted; Python can't write encrypted ones."""
    in_zip(path, {"rows.csv": PLAIN})
    data = bytearray(path.read_bytes())
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)


def written(data):
    return lambda path: path.write_bytes(data)


def renamed(what, path):
    """Save something that can only be saved as .npz, and rename the file."""
    what.save(path.with_suffix(".npz"))
    path.with_suffix(".npz").rename(path)


def saved(path):
    renamed(gd.Sequential([gd.Dense(1)], inputs=1), path)


def saved_run(path):
    renamed(gd.Trainer(gd.Sequential([gd.Dense(1)], inputs=1), "mse", "sgd"), path)


def array(path):
    with open(path, "wb") as file:
        np.save(file, FRAME[["a", "y"]].to_numpy())


def arrays(path):
    with open(path, "wb") as file:
        np.savez(file, table=FRAME[["a", "y"]].to_numpy())


# Kinds that can be read after following the advice: how they are made, and their names.
READ = {
    "zip of several": (
        lambda path: in_zip(path, {"doc/": b"", "doc/a.md": b"# rows", "doc/rows.CSV": PLAIN}),
        "zip",
        "a zip archive",
    ),
    "tar": (lambda path: in_tar(path, "w"), "tar", "a tar archive"),
    "tar.gz": (lambda path: in_tar(path, "w:gz"), "tar", "a tar archive"),
    "tar.bz2": (lambda path: in_tar(path, "w:bz2"), "tar", "a tar archive"),
    "tar.xz": (lambda path: in_tar(path, "w:xz"), "tar", "a tar archive"),
    "lzma in a zip": (
        lambda path: in_zip(path, {"rows.csv": PLAIN}, zipfile.ZIP_LZMA), "zip", "a zip archive",
    ),
    "feather": (FRAME.to_feather, "feather", "an Arrow or Feather file"),
    "orc": (FRAME.to_orc, "orc", "an ORC file"),
    "pickle": (FRAME.to_pickle, "pickle", "a Python pickle"),
    "old pickle": (written(pickle.dumps(FRAME, 2)), "pickle", "a Python pickle"),
    "sqlite": (in_database, "sqlite", "an SQLite database"),
    "json": (lambda path: FRAME.to_json(path, orient="records"), "json", "a JSON file"),
    "json of columns": (FRAME.to_json, "json", "a JSON file"),
    "json with breaks": (
        lambda path: FRAME.to_json(path, orient="records", indent=2), "json", "a JSON file",
    ),
    "json lines": (
        lambda path: FRAME.to_json(path, orient="records", lines=True),
        "json lines",
        "a file of JSON lines",
    ),
    "stata": (
        lambda path: FRAME.to_stata(path, write_index=False, version=118), "stata", "a Stata file",
    ),
    **{
        encoding: (written(TEXT.encode(encoding)), encoding, f"text in {encoding[:6].upper()}")
        for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be")
    },
    "cp1252": (written(TEXT.encode("cp1252")), "text", "0xf6 is not UTF-8; it looks like cp1252"),
    "cp1252.gz": (
        written(gzip.compress(TEXT.encode("cp1252"))), "text", "UTF-8; it looks like cp1252",
    ),
    "cp1252.xz": (
        written(lzma.compress(TEXT.encode("cp1252"))), "text", "UTF-8; it looks like cp1252",
    ),
    "cp1252.zip": (
        lambda path: in_zip(path, {"doc/": b"", "doc/rows.csv": TEXT.encode("cp1252")}),
        "text",
        "UTF-8; it looks like cp1252",
    ),
    "cp932": (
        written(TEXT.replace("Köln", "とうきょう").encode("cp932")),
        "text",
        "is not UTF-8; it looks like cp932",
    ),
}  # fmt: skip

# Kinds that are only named, with advice that a person can follow.
NAMED = {
    "saved": (saved, "saved", "a file that minigd saved, such as a model"),
    "checkpoint": (saved_run, "saved", "a file that minigd saved, such as a model"),
    "array": (array, "array", "a NumPy array"),
    "arrays": (arrays, "arrays", "an archive of arrays"),
    "parquet": (FRAME.to_parquet, "parquet", "a Parquet file"),
    "workbook": (
        lambda path: in_zip(path, {"[Content_Types].xml": "<xml/>", "xl/workbook.xml": "<xml/>"}),
        "workbook",
        "an Excel or OpenDocument workbook",
    ),
    "binary workbook": (
        lambda path: in_zip(path, {"xl/workbook.bin": b""}), "workbook", "an Excel or OpenDoc",
    ),
    "ods": (
        lambda path: in_zip(path, {"mimetype": "application/vnd.oasis", "content.xml": "<xml/>"}),
        "workbook",
        "an Excel or OpenDocument workbook",
    ),
    "xls": (
        written(bytes.fromhex("d0cf11e0a1b11ae1") + bytes(500)), "old workbook", "an old Excel",
    ),
    "hdf5": (written(b"\x89HDF\r\n\x1a\n" + bytes(40)), "hdf5", "an HDF5 file"),
    "empty zip": (lambda path: in_zip(path, {}), "zip", "a zip archive"),
    "half": (written(b"PK\x03\x04" + bytes(80)), "damaged", "a zip archive that is damaged"),
    "7z": (written(b"7z\xbc\xaf\x27\x1c\0\4" + bytes(40)), "7z", "a 7z archive"),
    "rar": (written(b"Rar!\x1a\x07\x01\0" + bytes(40)), "rar", "a RAR archive"),
    "parquet.gz": (
        lambda path: path.write_bytes(gzip.compress(FRAME.to_parquet())),
        "gzip",
        "packed by gzip, and inside is a Parquet file",
    ),
    "parquet.zst": (
        lambda path: path.write_bytes(
            pa.Codec("zstd").compress(FRAME.to_parquet(), asbytes=True)
        ),
        "zstd",
        "packed by zstd, and inside is a Parquet file",
    ),
    "parquet.zip": (
        lambda path: in_zip(path, {"rows.parquet": FRAME.to_parquet()}),
        "zip",
        "packed by zip, and inside is a Parquet file",
    ),
    "locked": (locked, "locked", "a zip archive with a password"),
    "pdf": (written(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n"), "pdf", "a PDF document"),
    "png": (written(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"), "picture", "a picture"),
    "jpeg": (written(b"\xff\xd8\xff\xe0\0\x10JFIF\0"), "picture", "a picture"),
    "bmp": (written(b"BM\x36\0\0\0\0\0\0\0\x36\0\0\0"), "picture", "a picture"),
    "svmlight": (written(b"1 1:0.5 3:2.1\n-1 2:1\n"), "svmlight", "a sparse table in the format"),
    "html": (written(b"\n<!DOCTYPE html>\n<html><body>404</body></html>\n"), "html", "a web page"),
    "bare html": (written(b"<html><table><tr><td>1</table>"), "html", "a web page"),
    "xml": (written(b"<?xml version='1.0'?>\n<rows/>\n"), "xml", "an XML file"),
    "spss": (written(b"$FL2@(#) SPSS DATA FILE" + bytes(40)), "spss", "an SPSS file"),
    "r": (written(gzip.compress(b"X\n\0\0\0\x03\0\x04")), "gzip", "inside is an R data file"),
    "utf-16 of lone returns": (
        written(TEXT.replace("\n", "\r").encode("utf-16-le")), "utf-16-le", "text in UTF-16",
    ),
    "idx": (written(bytes([0, 0, 8, 1, 0, 0, 0, 1, 7])), "idx", "an IDX file"),
    "pointer": (
        written(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n"),
        "pointer",
        "a Git LFS pointer",
    ),
}  # fmt: skip
ALL = {**READ, **NAMED}


def made(tmp_path, name, ending=".csv"):
    path = tmp_path / f"my rows{ending}"  # a name that must be quoted in a shell
    ALL[name][0](path)
    return path


def refused(call):
    with pytest.raises(gd.DataError) as caught:
        call()
    return caught.value


# What it is ---------------------------------------------------------------------------------------


@pytest.mark.few
@pytest.mark.parametrize("name", ALL)
def test_a_file_is_named_for_what_it_is(tmp_path, name):
    _, kind, what = ALL[name]
    path = made(tmp_path, name)
    assert kind_of(path) == kind
    with open(path, "rb") as file:
        file.read(3)
        assert kind_of(file) == kind
        good = io.BytesIO(b"a,y,city\n1,2,x\n")
        for given in (path, str(path), file, io.BytesIO(path.read_bytes()), [good, path]):
            error = refused(lambda given=given: gd.CsvSource(given))
            assert what in str(error)
            assert len(error.remedies) == 1
            assert "iconv" not in str(error)
    assert str(refused(lambda: gd.CsvSource(path))).startswith(str(path))


@pytest.mark.parametrize("name", [name for name in ALL if ALL[name][1] != "text"])
def test_other_sources_say_so_too(tmp_path, name):
    what = ALL[name][2]
    path = made(tmp_path, name)
    if name != "parquet":
        assert what in str(refused(lambda: gd.ParquetSource(path)))
        assert what in str(refused(lambda: gd.ParquetSource([path])))
    if name != "array":
        assert what in str(refused(lambda: gd.NpySource(path)))


def test_a_csv_is_read_by_the_source_that_reads_it(tmp_path):
    path = tmp_path / "rows"
    path.write_bytes(PLAIN)
    for source in (gd.ParquetSource, gd.NpySource):
        assert "if it is a CSV, read it with CsvSource" in str(refused(lambda s=source: s(path)))
    array(path)
    assert "read it with NpySource" in str(refused(lambda: gd.CsvSource(path)))
    assert gd.NpySource(path).rows == N
    FRAME.to_parquet(path)
    assert "read it with ParquetSource" in str(refused(lambda: gd.CsvSource(path)))
    assert gd.ParquetSource(path).rows == N


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    (folder / "rows.csv").write_bytes(PLAIN)
    words = ["--epochs", "1", "--hidden", "0", "--out", str(folder / "m.npz")]
    assert main(["train", str(folder / "rows.csv"), "--target", "y", *words]) == 0
    return str(folder / "m.npz")


@pytest.mark.few(20)
@pytest.mark.parametrize("command", ["train", "race", "predict", "evaluate"])
@pytest.mark.parametrize("name", ALL)
def test_every_command_says_so(model, tmp_path, monkeypatch, capsys, name, command):
    data = str(made(tmp_path, name))
    arguments = [data, "--target", "y"]
    if command in ("predict", "evaluate"):
        arguments = [model, data]
    monkeypatch.chdir(tmp_path)
    assert main([command, *arguments]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"minigd: {data}")
    assert ALL[name][2] in err
    assert "Source(" not in err
    assert "iconv" not in err or "iconv -f" in err


@pytest.mark.parametrize("ending", [".parquet", ".pq", ".npy"])
@pytest.mark.parametrize("name", ["zip of several", "utf-16", "array", "parquet", "saved"])
def test_a_name_that_promises_something_else(tmp_path, capsys, name, ending):
    path = made(tmp_path, name, ending)
    if (name, ending) in [("array", ".npy"), ("parquet", ".parquet"), ("parquet", ".pq")]:
        return
    assert main(["train", str(path), "--target", "y"]) == 1
    assert ALL[name][2] in capsys.readouterr().err


@pytest.mark.parametrize("ending", [".parquet", ".npy"])
def test_a_csv_under_another_name(tmp_path, capsys, ending):
    path = tmp_path / f"rows{ending}"
    path.write_bytes(PLAIN)
    assert main(["train", str(path), "--target", "y"]) == 1
    assert "if it is a CSV, give it a name that ends in .csv" in capsys.readouterr().err


def test_targets_in_a_file_of_their_own_are_looked_at_too(tmp_path, capsys):
    array(tmp_path / "rows.npy")
    (tmp_path / "y.npy").write_bytes(PLAIN)
    arguments = ["train", str(tmp_path / "rows.npy"), "--target", str(tmp_path / "y.npy")]
    assert main(arguments) == 1
    assert f"{tmp_path / 'y.npy'} is not a .npy file" in capsys.readouterr().err


@pytest.mark.few
@pytest.mark.parametrize(
    "begin",
    ["ORC", "BMI", "RIFF", "PAR1", "ARROW1", "GIF89a", "FEA1", "Rar", "BZh9", "MM", "II*", "PK",
     "{a}", "[x]", "{", "<a>", "X", "version", "%", "$"],
)  # fmt: skip
@pytest.mark.parametrize("rest", [b"", "é".encode(), "é".encode() * 3000])
def test_names_of_columns_are_no_marks_of_other_kinds(begin, rest):
    data = begin.encode() + rest + b",y\n1,2\n"
    assert kind_of(io.BytesIO(data)) == kind_of(io.BytesIO(gzip.compress(data))) == "text"
    assert gd.CsvSource(io.BytesIO(data), target="y").rows == 1


@pytest.mark.parametrize(
    "data", [b"a,b\n1,2\0\n", b"a,b\n1,2\n" + bytes(100), b"\0" * 50, b"", b"a"]
)
def test_a_damaged_text_is_no_other_kind(data):
    assert kind_of(io.BytesIO(data)) == "text"


# Only the beginning of a file is checked, and it may end between \r and \n.
@pytest.mark.parametrize("data", [b"a,y\r", b"a" * 4095 + b"\r\n1\r\n"])
def test_a_text_is_not_one_of_lone_returns_for_its_last_letter(data):
    assert kind_of(io.BytesIO(data)) == "text"


def test_a_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(gd.DataError, match="is a pipe or a device, but a table is read more than"):
        gd.CsvSource(tmp_path / "pipe")


# Following the advice -----------------------------------------------------------------------------


def follow(words, file):
    """Follow the advice for Python; return a table."""
    known = {"lzma": lzma, "zipfile": zipfile, "tarfile": tarfile, "io": io,
             "gzip": gzip, "pandas": pd, "numpy": np, "sqlite3": sqlite3,
             "pathlib": pathlib, "file": file}  # fmt: skip
    found = re.search(r"with CsvSource\((.*), \.\.\.\)$", words)
    if found:
        return gd.CsvSource(eval(found[1], known), target="y", exclude=["city"])
    call = words.partition(": ")[2]
    eval(call, known)
    out = re.search(r"(?:to_csv|save)\('([^']*)'", call)[1]
    return gd.CsvSource(out, target="y", exclude=["city"])


@pytest.fixture
def closing(only_new_garbage):
    """Let the garbage collector close the archives that a line of Python leaves open."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.mark.few
@pytest.mark.usefixtures("closing")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize("as_path", [True, False])
def test_what_is_said_in_python_works(tmp_path, name, as_path):
    path = made(tmp_path, name)
    with open(path, "rb") as file:
        if name == "sqlite" and not as_path:
            return  # a database is a path
        error = refused(lambda: gd.CsvSource(path if as_path else file))
        remedy = error.remedies[0]
        if remedy.options:
            given = path if as_path else file
            table = gd.CsvSource(given, target="y", exclude=["city"], **remedy.options)
        else:
            table = follow(remedy.words, file)
        (x, y), *_ = table.chunks()
    assert (x[:, 0].tolist(), y.tolist()) == (FRAME["a"].tolist(), FRAME["y"].tolist())


@pytest.mark.few
@pytest.mark.usefixtures("closing")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("name", READ)
def test_what_is_said_in_the_shell_works(tmp_path, capsys, name):
    path = made(tmp_path, name)
    assert main(["train", str(path), "--target", "y"]) == 1
    words = capsys.readouterr().err.strip()
    last = words.splitlines()[-1]
    if "--encoding" in last:
        command = [*shlex.split(last)[1:], "--epochs", "1", "--out", str(tmp_path / "m.npz")]
        assert main(command) == 0
        return
    command = re.search(r"(python -m .*), and name (.*)$", words)
    if "pandas." in words:
        out = follow(words[words.index("write it as a CSV") :], None)._parts[0].name
    else:
        found = command or re.search(r": ((?:\w+ -dc|unzip -p|iconv|tr) .* > (.*))$", words)
        program = found[1].split()[0]
        if program != "python" and shutil.which(program) is None:
            pytest.skip(f"there is no {program}")
        run = found[1].replace("python ", f"'{sys.executable}' ", 1)
        subprocess.run(run, shell=True, check=True)
        out = found[2].strip("'")
    x, y = gd.CsvSource(out, target="y", exclude=["city"]).take(slice(0, N))
    assert (x[:, 0].tolist(), y.tolist()) == (FRAME["a"].tolist(), FRAME["y"].tolist())
    words = ["--epochs", "1", "--hidden", "0", "--exclude", "city"]
    assert main(["train", out, "--target", "y", *words, "--out", str(tmp_path / "m.npz")]) == 0


def test_an_array_of_an_archive_is_written_by_itself(tmp_path):
    words = refused(lambda: gd.CsvSource(made(tmp_path, "arrays"))).remedies[0].words
    eval(words.partition(": ")[2], {"numpy": np})
    assert gd.NpySource(tmp_path / "my rows.csv.npy").rows == N


def test_a_workbook_is_read_by_pandas(tmp_path):
    pytest.importorskip("openpyxl")
    FRAME.to_excel(tmp_path / "rows.xlsx", index=False)
    error = refused(lambda: gd.CsvSource(tmp_path / "rows.xlsx"))
    assert follow(error.remedies[0].words, None).rows == N


# Encodings ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "encoding", "likely"),
    [
        ("Köln,1\nMünchen,2", "cp1252", "cp1252"),
        ("café,1\nJosé,2", "latin-1", "cp1252"),
        ("Straße,1", "cp1252", "cp1252"),
        ("とうきょう,1", "cp932", "cp932"),
        ("東京タワー,1", "cp932", "cp932"),
        # The same bytes are letters in several encodings.
        ("Łódź,1", "cp1250", None),
        ("Škoda,1", "cp1250", None),
        ("Москва,1", "cp1251", None),
        ("Москва,1", "koi8-r", None),
        ("Αθήνα,1", "cp1253", None),
        ("中国,1", "gb18030", None),
        ("서울,1", "cp949", None),
        ("東京都庁舎本館の案内板,1", "cp932", None),
        ("café,1", "cp437", None),
        ("café,1", "mac_roman", None),
        ("é,1", "cp1252", None),
    ],
)
def test_an_encoding_is_named_where_it_is_beyond_doubt(text, encoding, likely, monkeypatch):
    monkeypatch.setitem(sys.modules, "charset_normalizer", None)
    data = text.encode(encoding)
    assert likely_encoding(data) == likely
    error = refused(lambda: gd.CsvSource(io.BytesIO(b"a,b\n" + data)))
    assert "find out its encoding" in str(error) or f"it looks like {likely}" in str(error)
    if likely is not None:
        assert data.decode(likely) == text


# Where a model is expected ------------------------------------------------------------------------


@pytest.mark.each
@pytest.mark.parametrize("command", ["info", "predict", "evaluate"])
@pytest.mark.parametrize("name", [name for name in ALL if ALL[name][1] != "saved"])
def test_what_is_no_model_is_said_too(tmp_path, capsys, command, name):
    _, kind, what = ALL[name]
    path = made(tmp_path, name)
    data = [] if command == "info" else [str(path)]
    assert main([command, str(path), *data]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"minigd: '{path}' is not a file that minigd saved")
    assert kind in ("text", "damaged", *PACKINGS) or f" but {what}" in err or what in err


def test_a_checkpoint_is_no_model_to_predict_with(tmp_path, capsys):
    saved_run(tmp_path / "run.checkpoint")
    assert main(["predict", str(tmp_path / "run.checkpoint"), str(tmp_path / "rows.csv")]) == 1
    assert "is the checkpoint of a run, not a model yet" in capsys.readouterr().err


def test_a_file_of_minigds_that_is_neither(tmp_path, capsys):
    (tmp_path / "rows.csv").write_bytes(PLAIN)
    source = gd.CsvSource(tmp_path / "rows.csv", target="y", index_path=tmp_path / "index")
    source.take([0])
    assert main(["info", str(tmp_path / "index")]) == 1
    assert "index' was saved by minigd, but holds no model" in capsys.readouterr().err


def test_a_table_that_is_packed_twice_is_named(tmp_path):
    table = b"x,y\n" + b"".join(b"%d,%d.5\n" % (i, i) for i in range(50))
    (tmp_path / "twice.csv.gz").write_bytes(gzip.compress(gzip.compress(table)))
    with pytest.raises(gd.DataError, match=r"packed by gzip twice; unpack it: gzip -dc .*twice"):
        gd.CsvSource(tmp_path / "twice.csv.gz", target="y")
    (tmp_path / "once.csv").write_bytes(gzip.compress(table))
    assert gd.CsvSource(tmp_path / "once.csv", target="y").rows == 50


def test_a_file_object_without_a_name_is_told_no_command():
    for program, head in (("lz4", b"\x04\x22\x4d\x18"), ("7z", b"7z\xbc\xaf\x27\x1c")):
        with pytest.raises(gd.DataError) as caught:
            gd.CsvSource(io.BytesIO(head + bytes(100)))
        assert str(caught.value).endswith("; unpack it")
        assert program in str(caught.value)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (b"1 1:0.5 3:2.1\n", "svmlight"),
        (b"# by hand\n+1 qid:3 0:1 7:-2e-3 # a note\r\n-1 12:1\r\n", "svmlight"),
        (b"0.5 1:0.25 2:12\n" * 1000, "svmlight"),
        (b"5 10:30 11:45\n7 9:15 12:00\n", "text"),
        (b"1 3:2.1 1:0.5\n", "text"),
        (b"1 1:0.5\na b\n", "text"),
        (b"a,y\n1,2\n", "text"),
    ],
)
def test_sparse_tables_are_told_from_times_and_texts(text, kind):
    assert kind_of(io.BytesIO(text)) == kind
