"""Texts that a terminal or a spreadsheet would obey are written in a harmless form."""

import csv
import io

import numpy as np
import pandas as pd
import pytest

import minigd as gd
from minigd.cli.main import main
from minigd.cli.predict import predict, protect
from minigd.errors import Advised, escape_controls
from minigd.progress import log, warn
from minigd.training.history import History

EVIL = "\x1b]0;evil\x07\x1b[2J\x9b31m\x7f\u202e\r"
FORMULAS = ["=cmd|' /C calc'!A1", "+1+1", "-2+3", "@SUM(1)", "\t=1", "\r=1", "＝1", "=1", "-", "+a"]
NUMBERS = ["-1", "+2", "-1.5e-3", "3", "-.5", "1.", "red", "", "a=b", " x", "1-2"]


def obeyed(text):
    """Return the characters of a text that a terminal obeys, except line ends."""
    return [c for c in text if (ord(c) < 32 and c not in "\n\t") or 127 <= ord(c) < 160] + [
        c for c in text if c in "\u202a\u202b\u202d\u202e\u2066\u2067\u2068\u2028"
    ]


@pytest.fixture(scope="module")
def evil(tmp_path_factory):
    """Write a table whose names of columns, levels and classes are all evil, and a model of it."""
    folder = tmp_path_factory.mktemp("evil")
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            f"a{EVIL}": rng.random(60).round(3),
            f"color{EVIL}": [f"{'rg'[i % 2]}{EVIL}" for i in range(60)],
            f"y{EVIL}": [f"{'np'[i % 3 > 1]}{EVIL}" for i in range(60)],
        }
    )
    frame.to_parquet(folder / "t.parquet")
    command = ["train", str(folder / "t.parquet"), "--target", f"y{EVIL}", "--epochs", "2"]
    assert main([*command, "--hidden", "3", "--out", str(folder / "m.npz")]) == 0
    return folder


def test_a_training_prints_nothing_that_a_terminal_obeys(evil, tmp_path, capsys):
    command = ["train", str(evil / "t.parquet"), "--target", f"y{EVIL}", "--epochs", "2"]
    assert main([*command, "--hidden", "3", "--out", str(tmp_path / "m.npz")]) == 0
    out, err = capsys.readouterr()
    assert obeyed(out + err) == []
    assert r"y\x1b]0;evil\x07\x1b[2J\x9b31m\x7f\u202e\r" in err


@pytest.mark.parametrize(
    "words",
    [
        [EVIL],
        ["train", "t.csv", "--target", "y", "--epochs", EVIL],
        ["train", "t.csv", "--target", "y", f"--{EVIL}"],
        ["predict", "m.npz", "t.csv", "--columns", f"{EVIL}.csv"],
    ],
)
def test_words_of_a_command_are_printed_spelled_out(tmp_path, monkeypatch, capsys, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / f"{EVIL}.csv").write_bytes(b"\xff")
    with pytest.raises(SystemExit, match="2"):
        main(words)
    err = capsys.readouterr().err
    assert obeyed(err) == []
    assert r"\x1b]0;evil\x07" in err


@pytest.mark.parametrize("command", ["info", "evaluate"])
def test_what_is_in_a_model_file_is_printed_spelled_out(evil, capsys, command):
    data = [] if command == "info" else [str(evil / "t.parquet")]
    assert main([command, str(evil / "m.npz"), *data]) == 0
    out, err = capsys.readouterr()
    assert obeyed(out + err) == []
    assert "\\x1b" in out or command == "evaluate"


def test_an_error_about_an_evil_column_is_spelled_out(evil, tmp_path, capsys):
    frame = pd.read_parquet(evil / "t.parquet").iloc[:, 1:]
    frame.to_parquet(tmp_path / "less.parquet")
    assert main(["predict", str(evil / "m.npz"), str(tmp_path / "less.parquet")]) == 1
    err = capsys.readouterr().err
    assert obeyed(err) == []
    assert "\\x1b" in err


def test_predictions_are_spelled_out_for_a_terminal_alone(evil, tmp_path, capsys, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    predict(evil / "m.npz", evil / "t.parquet", tmp_path / "p.csv")
    assert EVIL in (tmp_path / "p.csv").read_bytes().decode()
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    assert main(["predict", str(evil / "m.npz"), str(evil / "t.parquet")]) == 0
    assert obeyed(terminal.getvalue()) == []
    assert "\\x1b" in terminal.getvalue()


def test_every_door_spells_out(capsys):
    log(f"a{EVIL}")
    with pytest.warns(UserWarning, match=r"b\\x1b") as caught:
        warn(f"b{EVIL}")
    shown = [capsys.readouterr().err, str(caught[0].message)]
    shown += [str(gd.DataError(EVIL)), str(gd.CheckpointError(EVIL)), str(gd.ShapeError(EVIL))]
    shown += [str(Advised(EVIL)), repr(History({f"acc{EVIL}": [1.0]}))]
    for text in shown:
        assert obeyed(text) == []
        assert "\\x1b[2J" in text


def test_what_is_harmless_stays():
    for text in ("line\n\tindented", "Łódź 東京 🙂 ½σ²", "e\u0301", "می\u200cخواهم"):
        assert escape_controls(text) == text


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_is_made_a_text(text):
    assert protect(text) == f"'{text}"


@pytest.mark.parametrize("text", NUMBERS)
def test_numbers_and_other_texts_stay_what_they_are(text):
    assert protect(text) == text


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    """Train a model whose classes are formulas and numbers."""
    folder = tmp_path_factory.mktemp("classes")
    names = ["=1+1", "-1", "@a"]
    rows = [{"a": i % 3 + i / 1000, "y": names[i % 3]} for i in range(90)]
    pd.DataFrame(rows).to_csv(folder / "t.csv", index=False)
    command = ["train", str(folder / "t.csv"), "--target", "y", "--epochs", "60"]
    assert main([*command, "--out", str(folder / "m.npz")]) == 0
    return folder


@pytest.mark.parametrize(
    ("options", "expected"),
    [([], {"'=1+1", "-1", "'@a"}), (["--raw"], {"=1+1", "-1", "@a"})],
)
def test_predicted_classes_are_no_formulas_unless_asked_for(classes, tmp_path, options, expected):
    out = tmp_path / "p.csv"
    command = ["predict", str(classes / "m.npz"), str(classes / "t.csv"), "--out", str(out)]
    assert main([*command, *options]) == 0
    with open(out, newline="") as file:
        head, *lines = csv.reader(file)
    assert {line[0] for line in lines} == expected
    assert head == ["prediction", "probability_-1", "probability_=1+1", "probability_@a"]
