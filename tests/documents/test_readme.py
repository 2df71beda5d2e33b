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


@pytest.mark.parametrize(
    ("quote", "table", "row"),
    [
        (
            "R² 0.875 against 0.767",
            "against_sklearn",
            r"R², median: (0\.874\d|0\.875\d) against 0\.76[67]",
        ),
        ("98.2 % against 97.4 %", "against_sklearn", r"accuracy, median: 98\.18% against 97\.42%"),
        ("85.4 % against 81.7 %", "against_sklearn", r"accuracy, median: 85\.36% against 81\.71%"),
        ("reaches 85.7 % on Adult", "against_sklearn", r"early_stopping=True` \| 85\.68%"),
        ("20 train with the\nfirst command", "table_scores", "20 of 40 train at the first command"),
        ("0.001 above", "table_scores", r"\+0\.001 in the median"),
        ("200 runs, killed 412 times", "kill_anywhere", "200 of 200 runs, killed 412 times"),
        ("2.6 million rows per second", "csv_speed", r"a later epoch \| 2\.6\d"),
        ("about half the time of Vowpal", "csv_speed", r"a later epoch, over Vowpal.*file: 0\.5\d"),
        ("92.7 % with a linear model", "mnist", r"784-10 \| 92\.70%"),
        ("97.9 % with one hidden", "mnist", r"ReLU \| 97\.9\d%"),
    ],
)
def test_the_figures_of_the_readme_are_those_of_the_tables(quote, table, row):
    readme = re.sub(r"\s+", " ", (ROOT / "README.md").read_text())
    assert re.sub(r"\s+", " ", quote) in readme
    assert re.search(row, (RESULTS / f"{table}.md").read_text())


def test_the_attacks_of_the_readme_are_all_of_the_table():
    counts = re.findall(r"^\| [^|]+ \| ([\d,]+) \|", (RESULTS / "attack.md").read_text(), re.M)
    total = sum(int(count.replace(",", "")) for count in counts)
    assert f"{total:,} attacks" in (ROOT / "README.md").read_text()
