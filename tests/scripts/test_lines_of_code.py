"""Lines of code are counted by purpose: every file once, no docstring, comment or blank line."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.lines_of_code import count, lines_of_code, main  # noqa: E402

SOURCE = '''"""A module,

of three lines."""

import os  # code, with a comment

# a comment


def f(x):
    """Doc."""
    text = """a text
    that is a value"""
    return [

        x,
        text,
    ]


"""About something."""
'''


def test_docstrings_comments_and_blank_lines_are_left_out():
    # A blank line inside brackets is not code. A text that is a value is.
    assert sorted(lines_of_code(SOURCE)) == [5, 10, 12, 13, 14, 16, 17, 18]
    assert lines_of_code("") == set()


def test_every_file_of_the_package_has_a_purpose_and_counts_once():
    found = count(ROOT / "minigd")
    files = list((ROOT / "minigd").rglob("*.py"))
    assert sum(number for number, _ in found.values()) == len(files)
    each = [len(lines_of_code(path.read_text(encoding="utf-8"))) for path in files]
    assert sum(lines for _, lines in found.values()) == sum(each)


def test_a_file_without_a_purpose_is_not_passed_over(tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "module.py").write_text("x = 1\n")
    with pytest.raises(KeyError, match="new"):
        count(tmp_path)


def test_the_script_prints_a_table_that_adds_up(tmp_path, monkeypatch, capsys):
    script = str(ROOT / "benchmarks" / "lines_of_code.py")
    (tmp_path / "errors.py").write_text("x = 1\n")
    command = [sys.executable, script, str(tmp_path)]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    assert run.stdout.splitlines()[-1].split() == ["in", "all", "1", "1"]
    # Of the package, in this process, which has counted its lines.
    monkeypatch.setattr(sys, "argv", [script])
    main()
    rows = [line.rsplit(None, 2) for line in capsys.readouterr().out.splitlines()[1:]]
    numbers = [int(row[-1].replace(",", "")) for row in rows]
    assert rows[-1][0] == "in all"
    assert numbers[-1] == sum(numbers[:-1])
