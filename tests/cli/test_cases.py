"""Small tables of kinds that users have, in the shell and in Python.

The right results were worked out by hand. Each kind has a few cases: other words, marks, dtypes.
"""

import io
import shlex
import warnings

import numpy as np
import pandas as pd
import pytest

import minigd as gd
from minigd.cli.main import main
from minigd.cli.trained import load_table

N = 48
RNG = np.random.default_rng(3)
A = RNG.normal(size=N).round(3)
B = RNG.integers(0, 5, N) + 0.25
Y = (2 * A + B).round(3)
FRAME = pd.DataFrame({"a": A, "b": B, "y": Y})


def put(path, content):
    """Write a table: a text, bytes, or a frame that goes into a Parquet file."""
    if isinstance(content, pd.DataFrame):
        content.to_parquet(path)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content, encoding="utf-8")
    return path


def with_cell(row, column, text):
    table = FRAME.astype(object)
    table.loc[row, column] = text
    return table.to_csv(index=False)


def with_lines(*lines, at=0, text=None):
    rows = (FRAME.to_csv(index=False) if text is None else text).splitlines(keepends=True)
    return "".join([*rows[:at], *(f"{line}\n" for line in lines), *rows[at:]])


def aligned(separator, header=False):
    return "".join(
        separator.join(f"{cell:>9}" for cell in row) + "\n"
        for row in ([FRAME.columns] if header else []) + FRAME.to_numpy().tolist()
    )


def named_rows(separator):
    header, *lines = FRAME.to_csv(index=False, sep=separator).splitlines()
    return "\n".join([header, *(f'"{i}"{separator}{line}' for i, line in enumerate(lines))]) + "\n"


CODES = [f"A/5 {21000 + i}" if i % 4 == 3 else f"{300001 + i}" for i in range(N)]

# The content of the file and its ending; the target; words for the shell; the result: the columns
# of the model, or the message.
KINDS = {
    # Booleans among numbers.
    "truth values": (FRAME.assign(c=A > 0), "y", "", ["a", "b", "c"]),
    "truth values of pandas": (
        FRAME.assign(c=pd.array(A > 0, "boolean")), "y", "", ["a", "b", "c"],
    ),
    # NaN in any letter case.
    **{
        f"missing: {text}": (with_cell(9, "a", text), "y", "", ["a", "b"])
        for text in ("NAN", "Nan", "-nan")
    },
    # A text as the target of a row that would be dropped.
    **{
        f"target {t!r}": (with_cell(9, "y", t).replace(f"{A[9]},", ",", 1), "y", "", f"--na {t}")
        for t in ("unknown", "n.a.")
    },
    "target, as said": (with_cell(9, "y", "unknown"), "y", "--na unknown", ["a", "b"]),
    # A column without any value, and one without a name.
    "blank column": (FRAME.assign(c="").to_csv(index=False), "y", "", ["a", "b"]),
    "column of NA": (FRAME.assign(c="NA").to_csv(index=False), "y", "", ["a", "b"]),
    "index": (FRAME.set_index(np.arange(N) + 5).to_csv(), "y", "", ["a", "b"]),
    "gaps": (
        FRAME.assign(a=FRAME["a"][A > 0], b=FRAME["b"][A <= 0]).to_csv(index=False),
        *("y", "", ["a", "b"]),
    ),
    # A column of lists is named, with advice.
    "lists": (FRAME.assign(c=[[1.0, 2.0]] * N), "y", "", "--exclude c"),
    "dicts": (FRAME.assign(c=[{"k": 1.0}] * N), "y", "", "--exclude c"),
    "lists, as said": (FRAME.assign(c=[[1.0, 2.0]] * N), "y", "--exclude c", ["a", "b"]),
    # A frame's index is a column if it has a name.
    "index as target": (FRAME.set_index("y"), "y", "", ["a", "b"]),
    # Codes; some of them are numbers.
    "codes": (FRAME.assign(c=CODES).to_csv(index=False), "y", "", "leave the column out"),
    "codes, as said": (FRAME.assign(c=CODES).to_csv(index=False), "y", "--exclude c", ["a", "b"]),
    # Marks of numbers and of columns.
    **{
        f"decimal comma, {s!r}": (
            FRAME.to_csv(index=False, sep=s, decimal=","), "y",
            f"--separator {'tab' if s == chr(9) else shlex.quote(s)} --decimal ,", ["a", "b"],
        )
        for s in ";\t|"
    },
    "runs of blanks": (aligned(" "), "3", "--separator blanks --no-header", ["1", "2"]),
    "runs of tabs": (aligned(" \t"), "3", "--separator blanks --no-header", ["1", "2"]),
    "runs of blanks, header": (aligned("  ", True), "y", "--separator blanks", ["a", "b"]),
    **{
        f"names of rows, {s!r}": (named_rows(s), "y", f"{words} --exclude 'Unnamed: 0'", ["a", "b"])
        for s, words in ((",", ""), (";", "--separator ';'"), ("\t", "--separator tab"))
    },
    "names of rows, unsaid": (named_rows(","), "y", "", "--exclude 'Unnamed: 0'"),
    # Lines that are not rows.
    "comments above": (with_lines("# logger 7", "# site B"), "y", "", "--skip-lines 2"),
    "comments": (with_lines("% b", at=7, text=with_lines("% a")), "y", "--comment %", ["a", "b"]),
    "a comment": (with_lines("# moved, twice, today, x", at=7), "y", "", "--comment '#'"),
    "sep=": ("sep=;\n" + FRAME.to_csv(index=False, sep=";"), "y", "", ["a", "b"]),
    # Encodings.
    **{
        one: (FRAME.rename(columns={"a": "größe"}).to_csv(index=False).encode(one), "y",
              f"--encoding {one}", ["größe", "b"])
        for one in ("latin-1", "cp1252", "utf-16", "utf-8-sig", "utf-16-be")
    },
}  # fmt: skip


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", KINDS)
def test_a_kind_is_trained_on_or_refused_with_what_to_do(name, tmp_path, capsys):
    content, target, words, right = KINDS[name]
    ending = "parquet" if isinstance(content, pd.DataFrame) else "csv"
    path, out = put(tmp_path / f"rows.{ending}", content), tmp_path / "m.npz"
    command = ["train", str(path), "--target", target, "--epochs", "1", "--hidden", "0"]
    code = main([*command, "--out", str(out), *shlex.split(words)])
    err = capsys.readouterr().err
    if isinstance(right, str):
        assert code == 1, err
        assert right in err
        return
    assert code == 0, err
    trained = load_table(out)
    assert trained.schema.features == right
    assert trained.task == "regression"
    assert main(["predict", str(out), str(path), "--out", str(tmp_path / "p.csv")]) == 0
    predictions = pd.read_csv(tmp_path / "p.csv")["prediction"]
    assert len(predictions) == N
    assert predictions.notna().all()


def test_classes_of_64_bits_keep_their_digits(tmp_path):
    ids = [998877665544332211, 1234567890123456789, 1234567890123456790]
    path = tmp_path / "rows.csv"
    pd.DataFrame({"a": A, "owner": np.resize(ids, N)}).to_csv(path, index=False)
    out = str(tmp_path / "m.npz")
    assert (
        main(
            [
                "train",
                str(path),
                "--target",
                "owner",
                "--epochs",
                "1",
                "--hidden",
                "0",
                "--out",
                out,
            ]
        )
        == 0
    )
    assert load_table(out).schema.classes == [str(one) for one in ids]
    _, y = gd.CsvSource(path, "owner").take(slice(0, 3))
    assert y.tolist() == ids


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("word", ["NA", "None", "null", "NaN"])
def test_a_usual_word_may_be_a_value(tmp_path, capsys, word):
    cells = [word, "ZA", "US", word, "", "ZA"]
    path = tmp_path / "rows.csv"
    pd.DataFrame({"country": cells * 8, "y": A}).to_csv(path, index=False)
    levels = [word, "ZA", "US"]
    source = gd.CsvSource(path, "y", categories={"country": levels}, missing="drop")
    assert (source.rows, source.dropped) == (40, 8)
    assert source.take(slice(0, 3))[0].tolist() == np.eye(3).tolist()
    words = [
        "train",
        str(path),
        "--target",
        "y",
        "--epochs",
        "1",
        "--hidden",
        "0",
        "--out",
        str(tmp_path / "m.npz"),
    ]
    assert main([*words, "--no-default-na"]) == 0
    assert word in load_table(tmp_path / "m.npz").schema.levels["country"]
    # As a class, it is dropped with a warning that names the option, or it stays.
    target = ["train", str(path), "--target", "country", *words[4:]]
    capsys.readouterr()
    assert main(target) == 0
    err = capsys.readouterr().err
    assert repr(word) in err
    assert "--no-default-na" in err
    assert main([*target, "--no-default-na"]) == 0
    assert load_table(tmp_path / "m.npz").schema.classes == sorted(levels)


def test_in_python_too():
    with pytest.raises(gd.DataError, match="'c' has no value in any row; leave the column out"):
        gd.CsvSource(io.BytesIO(KINDS["blank column"][0].encode()), "y")
    with pytest.warns(UserWarning, match=r"exclude=\['Unnamed: 0'\]"):
        gd.CsvSource(io.BytesIO(KINDS["index"][0].encode()), "y")
    for name in ("target 'unknown'", "target 'n.a.'"):
        with pytest.raises(gd.DataError, match=r"line 11, column 'y': '.*' is not a number"):
            gd.CsvSource(io.BytesIO(KINDS[name][0].encode()), "y", missing="drop")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        source = gd.CsvSource(io.BytesIO(KINDS["missing: NAN"][0].encode()), "y", missing="drop")
    assert (source.names, source.rows, source.dropped) == (["a", "b"], N - 1, 1)


@pytest.mark.filterwarnings("default")
def test_an_index_that_is_left_out_is_not_said_to_be_learned_from(tmp_path, capsys):
    out = str(tmp_path / "m.npz")
    for start, said in (
        (5, "and is left out; confirm"),
        (None, "will be used for training; leave it out"),
    ):
        index = RNG.permutation(N) * 3.5 if start is None else np.arange(N) + start
        path = put(tmp_path / "rows.csv", FRAME.set_index(index).to_csv())
        assert (
            main(
                [
                    "train",
                    str(path),
                    "--target",
                    "y",
                    "--epochs",
                    "1",
                    "--hidden",
                    "0",
                    "--out",
                    out,
                ]
            )
            == 0
        )
        err = capsys.readouterr().err
        assert f"{said} with --exclude 'Unnamed: 0'" in err
        assert ("column 'Unnamed: 0' is left out" in err) == (start is not None)
