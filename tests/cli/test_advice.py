"""The advice of each message is followed, on the file that caused it, until there is a model.

No message occurs twice. If no option can read the file, the last message says so.
"""

import gzip
import io
import re
import shlex
import shutil
import subprocess
import warnings

import numpy as np
import pandas as pd
import pytest

import minigd as gd
from minigd.cli.main import main
from minigd.data.tables.remedy import Advised

N = 40
rng = np.random.default_rng(0)
FRAME = pd.DataFrame({"a": rng.normal(size=N).round(3), "b": np.arange(N) % 7})
FRAME["y"] = (FRAME["a"] + FRAME["b"]).round(3)
CSV = FRAME.to_csv(index=False)
BARE = FRAME.to_csv(index=False, header=False)


def by(separator, text=CSV):
    return text.replace(",", separator)


def aligned(text):
    return "".join(
        " ".join(f"{cell:>9}" for cell in line.split(",")) + "\n" for line in text.splitlines()
    )


def rows(change, text=CSV, header=True):
    """Return the text with each line changed, the header too or not."""
    first, *lines = text.splitlines()
    return "\n".join([change(first) if header else first, *map(change, lines)]) + "\n"


def named_rows(line):
    return f'"row {line[:3]}",{line}'


LINES = CSV.splitlines(keepends=True)
MENDED = {
    "as it should be": CSV,
    "comments between rows": "".join([*LINES[:9], "# new, battery\n", *LINES[9:], "#\n"]),
    "semicolons": by(";"),
    "semicolons and decimal points in another order": by(";", FRAME[["y", "b", "a"]].to_csv()),
    "tabs": by("\t"),
    "bars": by("|"),
    "blanks": by(" "),
    "runs of blanks": aligned(CSV),
    "runs of blanks without a header": aligned(BARE),
    "no header": BARE,
    "no header, semicolons": by(";", BARE),
    "a comment": "# logger 7\n" + CSV,
    "comments with commas": "# logger 7\n# site B, room 2\n#\n" + CSV,
    "a title": "Prices of 2024\n\n" + CSV,
    "a title of cells": "Prices of 2024,,\nfirst draft,,\n" + CSV,
    "titles above semicolons": "Prices of 2024\nby hand, of course\n" + by(";"),
    "titles above runs of blanks": "Prices of 2024\n\n" + aligned(CSV),
    "titles above rows without a header": "Prices of 2024\nby hand\n" + BARE,
    "a title and a BOM": "\ufeffPrices of 2024\n" + CSV,
    "names of rows": rows(named_rows, header=False),
    "names of rows, tabs": by("\t", rows(named_rows, header=False)),
    "names of rows below a title": "Prices\n\n" + rows(named_rows, header=False),
    "an index": FRAME.to_csv(),
    "an index saved twice": pd.read_csv(io.StringIO(FRAME.to_csv())).to_csv(),
    "a separator at the end of each row": rows(lambda line: f"{line},", header=False),
    "a separator at the end of each line, semicolons": by(";", rows(lambda line: f"{line},7")),
    "two columns of one name": rows(lambda line: f"{line},{line[-1:]}"),
    "two columns of one name, semicolons": by(";", CSV.replace("b", "a", 1)),
    "a blank line after the header": CSV.replace("\n", "\n\n", 1),
    "returns and newlines": CSV.replace("\n", "\r\n"),
    "quotes": FRAME.to_csv(index=False, quoting=1),
    "quotes and semicolons": FRAME.to_csv(index=False, quoting=1, sep=";"),
    "a BOM": "\ufeff" + CSV,
    "a BOM and semicolons": "\ufeff" + by(";"),
}  # fmt: skip
# Files that must be edited, and the advice to do so.
EDITED = {
    "a short row": (CSV.replace("\n", "\n1,2\n", 2), "fix the line"),
    "a long row": (CSV + "1,2,3,4\n", "fix the line"),
    "a footer": (CSV + "Total 40\n", "fix the line, or remove it if"),
    "a footer below semicolons": (by(";") + "Total 40\n", "fix the line, or remove it"),
    "a header in the middle": (CSV + CSV, "line 42: the header is repeated; remove the line"),
    "a header twice": (CSV.replace("y\n", "y\na,b,y\n", 1), "line 2: the header is repeated;"),
    "ends of lines that differ": (CSV.replace("\n", "\r", 3), "not in a lone"),
}
OPTION = re.compile(r"--[a-z-]+(?:(?:=| )(?:'(?:[^']|'\"'\"')*'|(?!--)[^\s',;][^\s;]*))?")


def run(command, *words):
    """Run a command as the shell does, with warnings as lines."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        return main([command, *map(str, words)])


def train(path, words, capsys):
    """Return the exit code and the messages."""
    fast = ["--hidden", "0", "--epochs", "1", "--out", path.parent / "m.npz"]
    code = run("train", path, "--target", "y", *words, *fast)
    lines = capsys.readouterr().err.splitlines()
    return code, [line.removeprefix("minigd: ") for line in lines if line.startswith("minigd: ")]


def follow(path, capsys):
    """Follow advice until there is a model, or no more advice; return the last message."""
    words, seen = [], []
    for _ in range(6):
        _, said = train(path, words, capsys)
        assert not set(said) & set(seen), "the same message twice"
        seen += said
        found = OPTION.findall(said[-1].partition("; ")[2]) if said else []
        if not found:
            return words, said[-1] if said else ""
        words += shlex.split(" ".join(found))
    return pytest.fail(f"{seen} do not end")


@pytest.mark.few(14)
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", MENDED)
def test_what_is_said_in_the_shell_leads_to_a_model(tmp_path, capsys, name, packed):
    path = tmp_path / ("rows.csv.gz" if packed else "rows.csv")
    data = MENDED[name].encode()
    path.write_bytes(gzip.compress(data) if packed else data)
    words, last = follow(path, capsys)
    assert last == ""
    # The model reads its training file with the options of the training.
    reading = words[: words.index("--exclude")] if "--exclude" in words else words
    reading = reading[: reading.index("--target")] if "--target" in reading else reading
    assert run("predict", tmp_path / "m.npz", path, *reading) == 0
    out, err = capsys.readouterr()
    assert out.count("\n") == N + 1
    assert err == ""


@pytest.mark.parametrize("name", EDITED)
def test_a_file_that_no_option_mends_is_said_to_need_an_edit(tmp_path, capsys, name):
    text, words = EDITED[name]
    path = tmp_path / "rows.csv"
    path.write_text(text, newline="")
    assert words in follow(path, capsys)[1]


@pytest.mark.parametrize("name", ["a long row", "a header in the middle", "a header twice"])
@pytest.mark.skipif(not shutil.which("awk") or not shutil.which("sed"), reason="needs awk and sed")
def test_a_command_makes_the_edit(tmp_path, capsys, name):
    path = tmp_path / "my rows.csv"
    path.write_text(EDITED[name][0])
    command = follow(path, capsys)[1].strip().rpartition(": ")[2]
    subprocess.run(command, shell=True, check=True)
    assert (tmp_path / "my rows.edited.csv").read_text() in (CSV, CSV + BARE)


def refusal(path, target, options):
    """Return the rows, or the error."""
    try:
        return gd.CsvSource(path, target, **options)
    except gd.DataError as error:
        return error


def follow_in_python(path, target):
    options, seen = {}, []
    for _ in range(6):
        source = refusal(path, target, options)
        if isinstance(source, gd.CsvSource):
            return source
        assert str(source) not in seen, "the same message twice"
        seen.append(str(source))
        assert isinstance(source, Advised)
        for argument, value in source.remedies[0].options.items():
            assert f"{argument}={value!r}" in str(source)
            options[argument] = value
        target = options.pop("target", target)
    return pytest.fail(f"{seen} do not end")


@pytest.mark.few
@pytest.mark.filterwarnings("ignore:.* no name")
@pytest.mark.parametrize("name", MENDED)
def test_what_is_said_in_python_leads_to_the_rows(tmp_path, name):
    path = tmp_path / "rows.csv"
    path.write_bytes(MENDED[name].encode())
    source = follow_in_python(path, "y")
    x, y = source.take(slice(0, N))
    order = [source.names.index(one) for one in (("1", "2") if "1" in source.names else ("a",))]
    np.testing.assert_allclose(x[:, order], FRAME[["a", "b"][: len(order)]], rtol=1e-6)
    np.testing.assert_allclose(y, FRAME["y"] if "of one name, " not in name else y, rtol=1e-6)


@pytest.mark.parametrize(
    "name", ["a comment", "a title", "titles above runs of blanks", "no header"]
)
def test_without_a_target_too(tmp_path, name):
    path = tmp_path / "rows.csv"
    path.write_bytes(MENDED[name].encode())
    assert len(follow_in_python(path, None).names) == 3


def test_names_of_many_columns_are_not_written_out(tmp_path, capsys):
    wide = pd.DataFrame(np.eye(30))
    for header, words in (
        (False, "--no-header --target 30"),
        ([*"ab" * 15], "--columns A,B,... --skip"),
    ):
        wide.to_csv(tmp_path / "rows.csv", index=False, header=header)
        _, said = train(tmp_path / "rows.csv", ["--target", "a"], capsys)
        assert words in said[-1]


# One property of a file at a time -----------------------------------------------------------------


@pytest.mark.parametrize("columns", [("a", "b"), ("a", "b", "c", "y")])
def test_as_many_names_as_there_are_columns(tmp_path, capsys, columns):
    path = tmp_path / "rows.csv"
    path.write_text(BARE)
    _, said = train(path, ["--columns", ",".join(columns)], capsys)
    if "y" in columns:
        assert said[-1].endswith("name all 3 columns with --columns A,B,C")
    path.write_text(CSV)
    _, said = train(path, ["--columns", ",".join(["a", "b", "y"])], capsys)
    assert said[-1].endswith("line 1 is a header; leave out --columns, or add --skip-lines 1")
    assert train(path, ["--columns", "a,b,y", "--skip-lines", "1"], capsys)[0] == 0


def test_parquet_and_arrays_are_told_what_they_take(tmp_path, capsys):
    FRAME.to_parquet(tmp_path / "rows.parquet")
    _, said = train(tmp_path / "rows.parquet", ["--target", "price"], capsys)
    assert said[-1].endswith("there is no column 'price'; the columns are a, b, y")
    np.save(tmp_path / "rows.npy", FRAME.to_numpy())
    _, said = train(tmp_path / "rows.npy", [], capsys)
    assert said[-1].endswith("the columns are 0, 1, 2; name its columns with --columns A,B,C")
    words = ["--columns", "A,B,C", "--target", "C"]
    assert train(tmp_path / "rows.npy", words, capsys)[0] == 0


def test_a_separator_is_not_seen_in_what_cells_hold(tmp_path, capsys):
    # Two words in each cell, and a misspelled target.
    path = tmp_path / "rows.csv"
    words = pd.DataFrame({"who": ["Ann Lee", "Bob Ray"] * 20, "when": ["1 May", "2 May"] * 20})
    pd.concat([FRAME, words], axis=1).to_csv(path, index=False)
    _, said = train(path, ["--target", "pirce"], capsys)
    assert said[-1].endswith("the columns are a, b, y, who, when")


@pytest.mark.parametrize("separator", [";", "\t", "|", " "])
@pytest.mark.parametrize("n", [5, 400])
def test_a_table_of_one_column_is_looked_at_twice(tmp_path, separator, n):
    # Few rows would be categories, and many free text.
    path = tmp_path / "rows.csv"
    text = by(separator, "a,b\n" + "".join(f"{i},{i % 3}\n" for i in range(n)))
    path.write_text(text)
    with pytest.raises(gd.DataError, match="line 1: the table has one column; if"):
        gd.CsvSource(path)
    assert follow_in_python(path, None).names == ["a", "b"]
    path.write_text("who\n" + "Ann Lee\nBob Ray\n" * 3)
    assert gd.CsvSource(path).names == ["who=Ann Lee", "who=Bob Ray"]
