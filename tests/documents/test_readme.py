"""The README: its commands, the paths in them, and the figures that it quotes.

Its Python examples are run as doctests.
"""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"


def test_there_are_two_commands_of_one_line_each_that_set_up_their_own_environment():
    commands = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(commands) == 2
    for command in commands:
        assert command.count("\n") == 1
        assert command.startswith("python3 -m venv ")


def test_ci_runs_the_command_of_the_readme_for_the_tests():
    commands = re.findall(r"```sh\n(.*?)\n```", (ROOT / "README.md").read_text())
    script = (ROOT / ".ci" / "run").read_text().splitlines()
    assert commands[1].endswith("-m pytest")
    assert commands[1] in script


def test_each_command_of_the_shell_names_the_environment_of_the_first_one():
    readme = (ROOT / "README.md").read_text()
    typed = re.findall(r"^\$ (\S+)", readme, re.M)
    assert len(typed) >= 5
    assert [name for name in typed if not name.startswith(".venv/bin/")] == []


def test_an_extra_is_named_before_the_first_example_that_needs_it():
    readme = (ROOT / "README.md").read_text()
    for extra, example in (("demo", "sklearn.datasets"), ("data", "gd.CsvSource(")):
        assert readme.index(f"[{extra}]") < readme.index(example)


FIGURES = [
    ("against_sklearn", r"R², median: ([\d.]+) against ([\d.]+)", "R² {:.3f} against {:.3f}"),
    (
        "against_sklearn",
        "MNIST.*?accuracy, median: ([\\d.]+)% against ([\\d.]+)%",
        "{:.1f} % against {:.1f} %",
    ),
    (
        "against_sklearn",
        "Adult.*?accuracy, median: ([\\d.]+)% against ([\\d.]+)%",
        "{:.1f} % against {:.1f} %",
    ),
    ("against_sklearn", "Adult.*?early_stopping=True` . ([\\d.]+)%", "reaches {:.1f} % on Adult"),
    (
        "table_scores",
        "(\\d+) of 40 train at the first command",
        "{:.0f} train with the first command",
    ),
    ("table_scores", r"boosting: \+([\d.]+) in the median", "test rows is {} above"),
    ("kill_anywhere", r"of (\d+) runs, killed ([\d,]+) times", "{:.0f} runs, killed {:,.0f} times"),
    ("csv_speed", r"a later epoch \| ([\d.]+)", "{:.1f} million rows per second"),
    ("mnist", r"784-10 \| ([\d.]+)%", "{:.1f} % with a linear model"),
]


@pytest.mark.parametrize(("table", "row", "quote"), FIGURES, ids=lambda text: None)
def test_the_figures_of_the_readme_are_those_of_the_tables(table, row, quote):
    found = re.search(row, (RESULTS / f"{table}.md").read_text(), re.S)
    figures = [float(text.replace(",", "")) for text in found.groups()]
    assert quote.format(*figures) in re.sub(r"\s+", " ", (ROOT / "README.md").read_text())


def test_the_attacks_of_the_readme_are_all_of_the_table():
    counts = re.findall(r"^\| [^|]+ \| ([\d,]+) \|", (RESULTS / "attack.md").read_text(), re.M)
    total = sum(int(count.replace(",", "")) for count in counts)
    assert f"{total:,} attacks" in (ROOT / "README.md").read_text()
