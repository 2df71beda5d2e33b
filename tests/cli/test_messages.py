"""Advice is given in the words of its reader: options for the shell, arguments for Python."""

import argparse
import re
import shlex
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from budgets import examples
from hypothesis import example, given
from hypothesis import strategies as st

from minigd.cli.main import main, parser
from minigd.cli.messages import in_shell, message_of, option
from minigd.cli.tables import Reading
from minigd.data.tables.remedy import Remedy, TableError, TableWarning

properties = examples(50)


names = st.text(st.sampled_from("ab ,;$\\\"'-=#"), min_size=1).map(str.strip).filter(bool)


@properties
@given(
    excluded=st.lists(names, min_size=1, max_size=3),
    columns=st.lists(names, min_size=2, max_size=4),
    separator=st.sampled_from(["\t", ";", "|", "-", "'", "$"]),
    strip=names.filter(lambda end: end != "--"),  # argparse of older Pythons drops it
)
@example(excluded=["--"], columns=["--", "a"], separator="\t", strip=".")
def test_options_of_a_remedy_are_read_as_they_were_meant(excluded, columns, separator, strip):
    meant = {"exclude": excluded, "columns": columns, "separator": separator, "strip": strip}
    more = {"na": excluded, "skip_lines": 3, "keep_default_na": False}
    words = shlex.split(in_shell({**meant, **more}))
    options = parser().parse_args(["train", "rows.csv", "--target", "y", *words])
    assert options.exclude == options.na == excluded
    assert options.columns == tuple(columns)
    assert (options.separator, options.strip, options.skip_lines) == (separator, strip, 3)
    assert options.keep_default_na is False


def test_each_option_has_one_name_in_messages_and_in_the_commands():
    (commands,) = (a for a in parser()._actions if isinstance(a, argparse._SubParsersAction))
    for command in ("train", "predict", "evaluate"):
        known = {a.dest: a.option_strings for a in commands.choices[command]._actions}
        assert all([option(name)] == known[name] for name in Reading._fields)


def test_an_error_is_written_for_the_shell():
    remedies = (
        Remedy("say {}", {"separator": "\t"}),
        Remedy("name them with {}", {"columns": [...]}),
        Remedy("name it among {}", {"features": [...]}),
        Remedy("use ParquetSource", shell="let its name end in .parquet"),
    )
    assert message_of(TableError("no", *remedies)) == (
        "no; say --separator tab, or name them with --columns A,B,..., or let its name end in "
        ".parquet"
    )


def test_a_warning_is_written_for_the_shell(monkeypatch, capsys):
    from minigd.cli import demo

    def warning(picture):
        advice = Remedy("leave it out with {}", {"exclude": ["a, b"]})
        warnings.warn(TableWarning("odd", advice), stacklevel=1)

    monkeypatch.setattr(demo, "main", warning)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main(["demo"]) == 0
    assert capsys.readouterr().err == """minigd: odd; leave it out with --exclude '"a, b"'\n"""


def test_names_are_quoted_as_in_a_csv(capsys):
    def named(option, text):
        words = ["train", "rows.csv", "--target", "y", option, text]
        return getattr(parser().parse_args(words), option.removeprefix("--"))

    assert named("--na", "?, -99") == ["?", "-99"]
    assert named("--na", '"2,25", ?') == ["2,25", "?"]
    assert named("--exclude", '"a,b","c ""d"""') == ["a,b", 'c "d"']
    assert named("--columns", 'a,"b, c"') == ("a", "b, c")
    assert named("--na", "") == [""]
    with pytest.raises(SystemExit):
        named("--na", '"2,25')
    assert "'\"2,25' is not a list of names: unexpected end of data" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["nonames.txt", "/no/such/names", "NAMES.CSV"])
def test_a_file_of_names_that_is_not_there_is_said(name, capsys):
    assert main(["train", "rows.csv", "--target", "y", "--columns", name]) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"minigd: there is no file '{name}' for --columns: give the names")


def test_what_is_no_file_is_names(tmp_path):
    def named(text):
        return parser().parse_args(["predict", "m.npz", "rows.csv", "--columns", text]).columns

    assert named("area") == ("area",)
    assert named("a.b") == ("a.b",)
    assert named("a.b,c/d") == ("a.b", "c/d")
    (tmp_path / "names.txt").write_text("a\nb,c\n")
    assert named(str(tmp_path / "names.txt")) == ("a", "b", "c")


def test_one_is_one(tmp_path, capsys):
    (tmp_path / "rows.csv").write_text(
        "a,y\n" + "".join(f"{i},{i % 2}\n" for i in range(60)) + ",1\n"
    )
    (tmp_path / "one.csv").write_text("a,y\n3,1\n")
    words = [str(tmp_path / "rows.csv"), "--target", "y", "--epochs", "1", "--batch-size", "60"]
    model = str(tmp_path / "m.npz")
    assert main(["train", *words, "--out", model]) == 0
    out, err = capsys.readouterr()
    assert re.search(r"^best of 1 epoch: 1  \(1 update, ", out, re.MULTILINE)
    assert "missing values: a 1; a missing number is the mean, and a column that marks" in err
    assert " held out, 2 columns\n" in err
    assert main(["evaluate", model, str(tmp_path / "one.csv")]) == 0
    assert main(["info", model]) == 0
    out = capsys.readouterr().out
    assert out.startswith("1 row: loss ")
    assert "trained     1 epoch, 1 update, " in out


@pytest.mark.parametrize("command", ["train", "race"])
def test_the_way_around_a_missing_gpu_is_an_option_of_the_shell(
    tmp_path, monkeypatch, capsys, command
):
    monkeypatch.setitem(sys.modules, "cupy", None)
    (tmp_path / "rows.csv").write_text("a,y\n" + "".join(f"{i},{i % 2}\n" for i in range(60)))
    words = [str(tmp_path / "rows.csv"), "--target", "y", "--backend", "cupy"]
    monkeypatch.chdir(tmp_path)
    assert main([command, *words]) == 1
    err = capsys.readouterr().err
    assert "CuPy is not installed" in err
    assert "or use --backend numpy" in err
    assert "=" not in err


def test_an_error_of_the_system_names_the_file():
    assert message_of(FileNotFoundError(2, "No such file", "a.csv")) == ("a.csv: No such file")


def test_too_little_memory_says_what_needs_less(monkeypatch, capsys):
    from minigd.cli import demo

    def failing(picture):
        raise MemoryError

    monkeypatch.setattr(demo, "main", failing)
    assert main(["demo"]) == 1
    assert capsys.readouterr().err == (
        "minigd: there is not enough memory: use narrower layers or smaller batches\n"
    )
    with pytest.raises(MemoryError) as caught:
        np.empty((1 << 40, 1 << 12))
    assert "Unable to allocate" in message_of(caught.value)


@pytest.mark.parametrize("target", ["it", "a"])
@pytest.mark.parametrize(
    ("values", "advice"),
    [
        ([f"{i},5" for i in range(300)], "such as '0,5' (line 2); "),
        ([f"2014-{i % 12 + 1:02}-{i % 28 + 1:02}" for i in range(300)], "dates such as '2014-0"),
        ([*range(299), "foo"], "pass --na foo"),
    ],
    ids=["notation", "dates", "a text"],
)
def test_no_advice_is_of_options_that_are_not_there(tmp_path, capsys, values, advice, target):
    path = tmp_path / "rows.csv"
    frame = pd.DataFrame({"a": np.arange(300) * 0.5, "it": values})
    if target == "a" and "dates" in advice:
        frame.loc[7, "it"] = "tomorrow"
        advice = "dates, and other texts such as 'tomorrow'"
    frame.to_csv(path, index=False)
    assert main(["train", str(path), "--target", target, "--out", str(tmp_path / "m.npz")]) == 1
    err = capsys.readouterr().err
    assert advice in err
    assert "=" not in err
    left = "choose another target" if target == "it" else "leave the column out with --exclude it"
    assert left in err or "--na" in advice


def test_days_that_can_be_months_are_asked_for_as_the_shell_types_it(tmp_path, capsys):
    path = tmp_path / "rows.csv"
    days = [f"{i % 9 + 1}/2/2014" for i in range(60)]
    frame = pd.DataFrame({"a": np.arange(60) * 0.5, "the day": days})
    frame.to_csv(path, index=False)
    words = ["train", str(path), "--target", "a", "--epochs", "1", "--out", str(tmp_path / "m.npz")]
    assert main(words) == 1
    message, proposal = capsys.readouterr().err.splitlines()
    assert "; say which with --dates 'the day=%d/%m/%Y', or leave the column out with" in message
    assert proposal.endswith(" --dates 'the day=%d/%m/%Y'")
    assert main([*words, "--dates", "the day=%d/%m/%Y"]) == 0
