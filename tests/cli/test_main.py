"""The command line: help, version, exit codes. Other files test what the commands do."""

import argparse
import contextlib
import inspect
import io
import re
import shlex
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import pytest
from budgets import examples
from hypothesis import given
from hypothesis import strategies as st

import minigd
from minigd.cli import demo
from minigd.cli.main import main, parser
from minigd.cli.race import race
from minigd.cli.train import train

COMMANDS = ["train", "predict", "evaluate", "info", "plot", "export", "race", "check", "demo"]
TRAIN = ["train", "rows.csv", "--target", "y"]


def parsed(*arguments):
    return parser().parse_args([*TRAIN, *arguments])


def choices():
    """Return the parsers of the commands, by name."""
    (commands,) = (a for a in parser()._actions if isinstance(a, argparse._SubParsersAction))
    return commands.choices


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_help_fits_a_screen_and_ends_with_an_example(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as stop:
        main([*command, "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert stop.value.code == 0
    assert len(lines) <= 32
    assert max(len(line) for line in lines) <= 80
    assert lines[-1].startswith(f"example: minigd {' '.join(command)}")


@pytest.mark.parametrize("command", COMMANDS)
def test_the_example_of_a_command_is_one(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    example = capsys.readouterr().out.splitlines()[-1].removeprefix("example: minigd ")
    assert parser().parse_args(example.split()).command == command


@pytest.mark.parametrize("command", ["train", "predict", "evaluate", "plot", "export", "race"])
def test_every_option_is_in_the_help(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    text = capsys.readouterr().out
    options = {o for a in choices()[command]._actions for o in a.option_strings}
    assert options - {"-h", "--help"} == {o for o in options if f"{o} " in text}


# Options become values -----------------------------------------------------------------------


def test_options_become_values(tmp_path):
    options = parsed(
        "--exclude", "id, date", "--hidden", "8,4", "--na", "?,-", "--separator", "tab"
    )
    assert options.exclude == ["id", "date"]
    assert options.hidden == (8, 4)
    assert options.na == ["?", "-"]
    assert options.separator == "\t"
    assert parsed("--hidden", "0").hidden == ()


def test_names_may_be_given_in_several_options():
    options = parsed("--exclude", "id,date", "--na", "?", "--exclude", "zip", "--na", "-")
    assert options.exclude == ["id", "date", "zip"]
    assert options.na == ["?", "-"]
    assert parsed("--exclude", "a").exclude == ["a"]


def test_names_of_columns_may_lie_in_a_file(tmp_path):
    path = tmp_path / "columns.txt"
    for text in ("a\nb c\n\nd\n", "a,b c,d\n", "a, b c,\nd\n"):
        path.write_text(text)
        assert parsed("--columns", str(path)).columns == ("a", "b c", "d")
    assert parsed("--columns", "a,b c,d").columns == ("a", "b c", "d")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(SystemExit) as stop:
        parsed("--columns", str(path))
    assert stop.value.code == 2


def test_an_option_that_is_not_given_is_left_to_the_function():
    given = vars(parsed("--skip-lines", "1", "--strip", "."))
    assert given.keys() == {"command", "run", "data", "target", "skip_lines", "strip", "out"}


@pytest.mark.parametrize("function", [train, race])
def test_the_help_names_the_defaults_of_the_function(function):
    usual, found = inspect.signature(function).parameters, 0
    for option in choices()[function.__name__]._actions:
        told = re.search(r"\(default: ([\w.,]+)\)$", option.help)
        if told and option.dest != "out":
            found += 1
            assert (option.type or str)(told[1]) == usual[option.dest].default
    assert found >= 4


def test_the_version_is_printed(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"minigd {minigd.__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["dance"],
        ["demo", "--no-such-option"],
        ["train", "rows.csv"],
        ["predict", "model.npz"],
        ["info"],
        *([*TRAIN, option, value] for option, value in [
            ("--epochs", "0"), ("--epochs", "many"), ("--batch-size", "-1"), ("--hidden", "8,x"),
            ("--learning-rate", "0"), ("--learning-rate", "nan"), ("--task", "guess"),
            ("--backend", "abacus"), ("--seed", "-1"), ("--skip-lines", "1.5"),
            ("--seed", str(1 << 64)), ("--separator", ";;"), ("--separator", ""),
        ]),
    ],
)  # fmt: skip
def test_a_misuse_exits_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "usage: minigd" in capsys.readouterr().err


def test_an_interrupt_exits_with_130(monkeypatch, capsys):
    def interrupted(picture):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "main", interrupted)
    assert main(["demo"]) == 130
    assert capsys.readouterr().err == "minigd: interrupted\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["info", "none.npz"], "there is no file 'none.npz'"),
        (["train", "none.csv", "--target", "y"], "none.csv: No such file or directory"),
        (["predict", "none.npz", "none.csv"], "there is no file 'none.npz'"),
        (
            ["train", ".", "--target", "y"],
            "the folder '.' has no file that ends in .csv, .tsv, .tab, .data, .dat, .parquet or "
            ".pq: name its files, or a pattern such as './*.txt'",
        ),
    ],
)
def test_a_failure_is_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    assert capsys.readouterr().err == f"minigd: {message}\n"


def test_an_error_of_several_lines_is_told_in_one(monkeypatch, capsys):
    def failing(picture):
        raise ImportError("numba needs\n  NumPy 2.0")

    monkeypatch.setattr(demo, "main", failing)
    assert main(["demo"]) == 1
    assert capsys.readouterr().err == "minigd: numba needs NumPy 2.0\n"


def test_a_mistake_in_the_package_is_not_hidden(monkeypatch):
    def failing(picture):
        raise AttributeError("a bug")

    monkeypatch.setattr(demo, "main", failing)
    with pytest.raises(AttributeError):
        main(["demo"])


def test_a_warning_is_a_line_without_a_place_in_the_source(monkeypatch, capsys):
    def warning(picture):
        warnings.warn("the disk is full", RuntimeWarning, stacklevel=1)

    shown = warnings.showwarning
    monkeypatch.setattr(demo, "main", warning)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main(["demo"]) == 0
    assert capsys.readouterr().err == "minigd: the disk is full\n"
    assert warnings.showwarning is shown


def test_the_parser_loads_nothing_that_takes_time():
    code = "import sys; from minigd.cli.main import parser; parser(); print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"pandas", "pyarrow", "matplotlib", "sklearn"} & set(run.stdout.split()) == set()


def test_python_m_minigd_is_the_same_command():
    run = subprocess.run(
        [sys.executable, "-m", "minigd", "--version"], capture_output=True, text=True, timeout=60
    )
    assert run.stdout == f"minigd {minigd.__version__}\n"


def test_the_commands_of_the_guide_are_commands():
    guide = Path(__file__).parents[2] / "docs" / "command_line.md"
    lines = re.findall(r"^\$ minigd (.*)$", guide.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(lines) > 5
    assert {parser().parse_args(shlex.split(line)).command for line in lines} == {
        "train", "predict", "evaluate", "info", "export", "plot",
    }  # fmt: skip


# Odd files ---------------------------------------------------------------------------------------

CELLS = st.sampled_from(
    ["1", "2.5", "-3", "red", "blue", "", '"a,b"', '"x\ny"', "1e400", "nan", "2014-01-01", '"', "'",
     "\t", "é", "1,5", "?", "1_000", "True", "\r", "\0", 'a"b', "\ufeff"]
)  # fmt: skip
ROWS = st.lists(st.lists(CELLS, min_size=1, max_size=4), max_size=12)
TABLES = st.builds(
    lambda rows, mark, end: end.join(mark.join(row) for row in rows).encode(),
    st.builds(lambda rows, name: [[name, "y"], *rows], ROWS, st.sampled_from(["a", "", "y", '"a'])),
    st.sampled_from([",", ";", "\t"]),
    st.sampled_from(["\n", "\r\n", "\r"]),
)


@examples(25)
@given(data=st.one_of(TABLES, st.binary(max_size=60), st.binary().map(b"PK\x03\x04".__add__)))
def test_whatever_a_file_holds_it_is_trained_on_or_refused_in_a_line(data):
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()) as err:
        path = Path(folder, "rows.csv")
        path.write_bytes(data)
        out = str(Path(folder, "m.npz"))
        words = ["train", str(path), "--target", "y", "--hidden", "0", "--epochs", "1"]
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".* no name, as when pandas writes the index")
            code = main([*words, "--out", out])
            second = main(["info", str(path)])
        assert code in (0, 1)
        assert second == 1
    last = [line for line in err.getvalue().splitlines() if line.startswith("minigd: ")]
    assert len(last) == code + 1
