"""What DATA may be in the shell: packed files, several, a pattern, a folder, standard input.

The same rows give the same model, to the bit, and the same predictions, from any of these.
"""

import bz2
import gzip
import io
import lzma
import os
import re
import subprocess
import sys
import zipfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import minigd as gd
from minigd.cli.main import main
from minigd.storage import npz

N = 300
RNG = np.random.default_rng(0)
FRAME = pd.DataFrame(
    {
        "a": RNG.normal(size=N).round(3),
        "color": RNG.choice(["red", "blue"], N),
        "y": np.arange(N) % 7 + 0.5,
    }
)
PLAIN = FRAME.to_csv(index=False).encode()
QUICK = ["--target", "y", "--hidden", "4", "--epochs", "2"]


def in_zip(data):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("rows.csv", data)
    return file.getvalue()


PACK = {
    "plain": bytes,
    "gzip": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zstd": lambda data: pa.Codec("zstd").compress(data, asbytes=True),
    "zip": in_zip,
}


def halves(folder, ending=".csv"):
    folder.mkdir()
    for k, rows in enumerate((FRAME[:100], FRAME[100:])):
        if ending == ".csv":
            rows.to_csv(folder / f"{k}.csv", index=False)
        else:
            rows.to_parquet(folder / f"{k}{ending}")


def written(data):
    def write(folder):
        (folder / "rows.csv").write_bytes(data)
        return [str(folder / "rows.csv")]

    return write


def parts(words, ending=".csv"):
    def write(folder):
        halves(folder / "rows", ending)
        return [str(folder / word) if word[0] not in "~-" else word for word in words]

    return write


GIVEN = {
    **{kind: written(pack(PLAIN)) for kind, pack in PACK.items()},
    "two": parts(["rows/0.csv", "rows/1.csv"]),
    "pattern": parts(["rows/*.csv"]),
    "folder": parts(["rows"]),
    "home": parts(["~/rows/[01].csv"]),
    "parquet": parts(["rows"], ".parquet"),
    "parquet by pattern": parts(["rows/*"], ".pq"),
}
"""Ways to give the same rows: what to write into a folder, and the words of the command."""

PIPED = {
    **{kind: pack(PLAIN) for kind, pack in PACK.items()},
    "parquet": FRAME.to_parquet(),
}


@pytest.fixture
def pipe(monkeypatch):
    """Return a function that puts bytes on standard input."""

    def give(data):
        file = io.TextIOWrapper(io.BufferedReader(io.BytesIO(data)))
        monkeypatch.setattr(sys, "stdin", file)

    return give


def bits(path):
    description, arrays = npz.read(path)
    return {name: array.tobytes() for name, array in arrays.items()}, description["table"]


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """Return a folder with the model and the predictions for the plain file."""
    folder = tmp_path_factory.mktemp("expected")
    (folder / "rows.csv").write_bytes(PLAIN)
    data, model, out = (str(folder / name) for name in ("rows.csv", "m.npz", "out.csv"))
    assert main(["train", data, *QUICK, "--out", model]) == 0
    assert main(["predict", model, data, "--out", out]) == 0
    return folder


@pytest.mark.few(4)
@pytest.mark.parametrize("way", GIVEN)
def test_the_same_rows_give_the_same_model_and_predictions(
    expected, tmp_path, monkeypatch, capsys, way
):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    words, model = GIVEN[way](tmp_path), str(tmp_path / "m.npz")
    capsys.readouterr()
    assert main(["train", *words, *QUICK, "--out", model]) == 0
    err = capsys.readouterr().err
    assert bits(model) == bits(expected / "m.npz")
    assert ("2 files, from " in err) == (way not in PACK)
    assert main(["predict", model, *words]) == 0
    assert capsys.readouterr().out == (expected / "out.csv").read_text()
    assert main(["evaluate", model, *words]) == 0
    assert capsys.readouterr().out.startswith("300 rows: loss ")
    assert set(os.listdir(tmp_path)) <= {"m.npz", "rows.csv", "rows"}


@pytest.mark.few(3)
@pytest.mark.parametrize("way", PIPED)
def test_standard_input_is_a_table(expected, tmp_path, pipe, capsys, way):
    model = str(tmp_path / "m.npz")
    capsys.readouterr()
    pipe(PIPED[way])
    assert main(["train", "-", *QUICK, "--out", model]) == 0
    err = capsys.readouterr().err
    assert f"standard input is kept in a temporary file in {tmp_path} while it is needed\n" in err
    assert bits(model) == bits(expected / "m.npz")
    assert os.listdir(tmp_path) == ["m.npz"]
    pipe(PIPED[way])
    assert main(["predict", model, "-"]) == 0
    out, err = capsys.readouterr()
    assert out == (expected / "out.csv").read_text()
    assert ("is kept in" in err) == (way in ("zip", "parquet"))
    pipe(PIPED[way])
    assert main(["evaluate", model, "-"]) == 0
    assert capsys.readouterr().out.startswith("300 rows: loss ")


def test_a_race_takes_them_too(tmp_path, pipe, capsys):
    halves(tmp_path / "rows")
    quick = ["--target", "y", "--seconds", "0.05", "--seeds", "1", "--batch-sizes", "50"]
    pipe(PACK["xz"](PLAIN))
    for data in (str(tmp_path / "rows"), "-"):
        assert main(["race", data, *quick, "--hidden", "0"]) == 0
        assert "rows to train on" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("words", [[], ["my-rows.csv"], ["rows/0.csv", "rows/1.csv"], ["-"]])
def test_a_plot_takes_them_too(expected, tmp_path, monkeypatch, pipe, capsys, words):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    halves(tmp_path / "rows")
    (tmp_path / "my-rows.csv").write_bytes(PLAIN)
    pipe(PLAIN)
    assert main(["plot", str(expected / "m.npz"), *words, "--out", "p.svg"]) == 0
    assert ("standard input" in capsys.readouterr().err) == (words == ["-"])
    assert (tmp_path / "p.svg").exists()


# Predictions as rows arrive -----------------------------------------------------------------------


def test_predictions_come_as_rows_come(expected):
    command = [sys.executable, "-m", "minigd", "predict", str(expected / "m.npz"), "-"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        header, *rows = PLAIN.splitlines(keepends=True)
        lines = (expected / "out.csv").read_bytes().splitlines(keepends=True)
        process.stdin.write(header + rows[0])
        process.stdin.flush()
        assert [process.stdout.readline() for _ in range(2)] == lines[:2]
        process.stdin.write(rows[1])
        process.stdin.flush()
        assert process.stdout.readline() == lines[2]
        process.stdin.write(b"".join(rows[2:]))
        process.stdin.close()
        assert process.stdout.read() == b"".join(lines[3:])
        assert process.wait() == 0


def test_a_bad_row_of_a_stream_has_its_line_and_the_rows_before_it_their_predictions(
    expected, tmp_path, pipe, capsys
):
    lines = PLAIN.splitlines(keepends=True)
    pipe(b"".join([*lines[:200], b"1,red\n"]))
    assert main(["predict", str(expected / "m.npz"), "-", "--out", str(tmp_path / "p.csv")]) == 1
    assert "standard input, line 201: the row has 2 fields" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


def test_what_is_said_of_a_table_is_said_of_a_stream(expected, tmp_path, pipe, capsys):
    text = PLAIN.replace(b"red", b"green", 3).replace(b"blue", b"", 2)
    model, out = str(expected / "m.npz"), []
    (tmp_path / "t.csv").write_bytes(text)
    for data in (str(tmp_path / "t.csv"), "-"):
        pipe(text)
        capsys.readouterr()
        assert main(["predict", model, data]) == 0
        out.append(capsys.readouterr())
    assert out[0] == out[1]
    assert "3 values of 'color' are not among its" in out[0].err


def test_a_stream_without_a_header_of_a_model_that_had_none(tmp_path, pipe, capsys):
    rows = PLAIN.partition(b"\n")[2]
    (tmp_path / "t.csv").write_bytes(rows)
    model = str(tmp_path / "m.npz")
    quick = ["--target", "3", *QUICK[2:], "--out", model]
    assert main(["train", str(tmp_path / "t.csv"), "--no-header", *quick]) == 0
    capsys.readouterr()
    assert main(["predict", model, str(tmp_path / "t.csv")]) == 0
    expected = capsys.readouterr().out
    pipe(rows)
    assert main(["predict", model, "-"]) == 0
    assert capsys.readouterr().out == expected
    assert expected.count("\n") == N + 1


@pytest.mark.few
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "standard input is empty"),
        (b"a,color,y\n", "standard input has no rows under its header"),
        (b"a,y\n1,2\n", "standard input, line 1: there is no column 'color'"),
        (gzip.compress(PLAIN)[:-9], "standard input, from line .*: the file is damaged"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "standard input is a picture"),
    ],
)
@pytest.mark.parametrize("command", ["predict", "evaluate", "train"])
def test_what_is_wrong_with_standard_input(
    expected, tmp_path, pipe, capsys, command, data, message
):
    if command == "train" and b"a,y" in data:
        return
    pipe(data)
    model = [str(expected / "m.npz")] if command != "train" else []
    out = ["--target", "y", "--out", str(tmp_path / "m.npz")] if command == "train" else []
    capsys.readouterr()
    assert main([command, *model, "-", *out]) == 1
    err = capsys.readouterr().err
    assert re.search(message, err), err
    assert os.listdir(tmp_path) == []


# Proposals, kills, misuse -------------------------------------------------------------------------


def test_a_command_is_proposed_for_standard_input_and_taken(tmp_path, pipe, capsys):
    text = PLAIN.replace(b",", b";")
    out = ["--out", str(tmp_path / "m.npz")]
    for more in ([], ["--guess"]):
        pipe(text)
        assert main(["train", "-", *QUICK, *more, *out]) == (0 if more else 1)
        err = capsys.readouterr().err
        assert f" train - {' '.join([*QUICK, *out])} --separator ';'\n" in err
        assert err.count("is kept in") == 1
    assert (tmp_path / "m.npz").exists()


def test_a_folder_of_another_separator_gets_a_proposal(tmp_path, capsys):
    halves(tmp_path / "rows")
    for path in (tmp_path / "rows").iterdir():
        path.write_bytes(path.read_bytes().replace(b",", b";"))
    data = str(tmp_path / "rows")
    assert main(["train", data, *QUICK, "--guess", "--out", str(tmp_path / "m.npz")]) == 0
    assert "--separator ';'" in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_kill_leaves_no_copy_of_standard_input(tmp_path):
    command = [sys.executable, "-m", "minigd", "train", "-", *QUICK, "--epochs", "100000"]
    command += ["--out", str(tmp_path / "m.npz")]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stderr=pipe, stdout=pipe) as process:
        process.stdin.write(PLAIN)
        process.stdin.close()
        while b"rows to train on" not in process.stderr.readline():
            assert process.poll() is None
        process.kill()
    sizes = [path.stat().st_size for path in tmp_path.iterdir() if "checkpoint" not in path.name]
    assert sum(sizes) == 0  # a lock


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-", "rows/0.csv"], "standard input, -, is a whole table: leave out the other"),
        (["rows/0.csv", "rows/1.parquet"], "0.csv and .*1.parquet are of different kinds"),
        (["mixed"], "of different kinds, but a table has one: name the files of one kind, such"),
        (["rows/x.npy", "rows/y.npy"], "a table of .npy files is one file"),
        (["rows/*.tsv"], "no file matches 'rows/*.tsv'"),
        (["empty"], "the folder 'empty' has no file that ends in .csv, .tsv"),
        (["rows/0.csv", "--compression", "gzip"], "0.csv is not packed.*leave out --compression"),
    ],
)
def test_misuse(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    halves(tmp_path / "rows")
    halves(tmp_path / "mixed")
    FRAME.to_parquet(tmp_path / "mixed" / "2.parquet")
    FRAME.to_parquet(tmp_path / "rows" / "1.parquet")
    (tmp_path / "empty").mkdir()
    assert main(["train", *words, *QUICK]) == 1
    err = capsys.readouterr().err
    assert all(part in err for part in message.split(".*")), err


@pytest.mark.parametrize("word", ["gz", "", "7z"])
def test_an_unknown_compression_is_a_misuse(capsys, word):
    with pytest.raises(SystemExit) as caught:
        main(["train", "rows.csv", "--target", "y", "--compression", word])
    assert caught.value.code == 2
    assert "is not infer, gzip, bz2, xz, zstd, zip or none" in capsys.readouterr().err


def test_the_table_is_not_replaced_by_the_result(expected, tmp_path, capsys):
    halves(tmp_path / "rows")
    out = str(tmp_path / "rows" / "1.csv")
    assert main(["predict", str(expected / "m.npz"), str(tmp_path / "rows"), "--out", out]) == 1
    assert "is the table itself, and would be lost" in capsys.readouterr().err


def test_a_tilde_is_the_users_folder_everywhere(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "rows.csv").write_bytes(PLAIN)
    np.save(tmp_path / "rows.npy", np.eye(3))
    assert main(["train", "~/rows.csv", *QUICK, "--out=~/m.npz"]) == 0
    assert main(["predict", "~/m.npz", "~/rows.csv", "--out", "~/p.csv"]) == 0
    assert main(["info", "~/m.npz"]) == 0
    model = gd.load("~/m.npz")
    model.save("~/again.npz")
    assert gd.NpySource("~/rows.npy").rows == 3
    source = gd.CsvSource("~/rows.csv", target="y", index_path="~/rows.index")
    assert source.cache("~/cache").rows == source.take(slice(0, N))[0].shape[0]
    names = {"rows.csv", "rows.npy", "m.npz", "p.csv", "again.npz", "rows.index", "cache"}
    assert set(os.listdir(tmp_path)) == names
    assert not os.path.exists("~")
