"""The README's commands: one line each, and the one for the tests is what CI runs.

Its Python examples are run as doctests.
"""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


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
