"""The command line: help, version, exit codes. What the commands do is tested where they live."""

import subprocess
import sys

import pytest

import minigd
from minigd import demo
from minigd.cli import main


def test_help_fits_a_screen_and_shows_an_example(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0
    assert len(text.splitlines()) <= 24
    assert "example: minigd demo" in text


def test_the_version_is_printed(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"minigd {minigd.__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["dance"], ["demo", "--no-such-option"]])
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


def test_python_m_minigd_is_the_same_command():
    run = subprocess.run(
        [sys.executable, "-m", "minigd", "--version"], capture_output=True, text=True, timeout=60
    )
    assert run.stdout == f"minigd {minigd.__version__}\n"
