"""Standard output and standard error that can't be written, in separate processes.

A command that can't print progress does its work; one that can't print results fails.
"""

import os
import subprocess
import sys

import numpy as np
import pytest

import minigd
from minigd.cli.main import main

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the redirections are those of a shell")

FULL = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
NO_STDERR = ["2>&-", pytest.param("2>/dev/full", marks=FULL), "2>&1 | head -1", "2>&1 | head -0"]
NO_STDOUT = [">&-", pytest.param(">/dev/full", marks=FULL), "| head -0"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("output")
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(200, 2)).round(3).tolist()
    lines = [f"{a},{b},{'Łódź' if a + b > 0 else 'Köln'}\n" for a, b in rows]
    (folder / "towns.csv").write_text("a,b,town\n" + "".join(lines), encoding="utf-8")
    (folder / "mylayer.py").write_text(
        "import minigd as gd\n"
        "class Double(gd.Layer):\n"
        "    def forward(self, x, train=False):\n"
        "        return 2 * x\n"
        "    def backward(self, dy):\n"
        "        return 2 * dy\n",
        encoding="utf-8",
    )
    command = ["train", str(folder / "towns.csv"), "--target", "town", "--epochs", "3"]
    assert main([*command, "--hidden", "4", "--out", str(folder / "model.npz")]) == 0
    return folder


def shell(folder, arguments, redirection, **environment):
    """Run a command with a redirection; return its exit code, and its output as far as readable."""
    program = f"{sys.executable} -m minigd {arguments}"
    ran = subprocess.run(
        ["bash", "-c", f"{program} {redirection}; exit ${{PIPESTATUS[0]}}"],
        cwd=folder,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=60,
        env={**os.environ, **environment},
    )
    assert "Traceback" not in ran.stderr + ran.stdout
    assert "Exception ignored" not in ran.stderr + ran.stdout
    return ran.returncode, ran.stdout, ran.stderr


TRAIN = "train towns.csv --target town --epochs 3 --hidden 4 --out"


@pytest.mark.parametrize("redirection", [NO_STDERR[0], ">&- 2>&-"])
def test_a_training_nobody_listens_to_ends_with_a_model(folder, tmp_path, redirection):
    code, _, _ = shell(folder, f"{TRAIN} {tmp_path}/m.npz", redirection)
    assert code == 0
    assert (tmp_path / "m.npz").read_bytes()
    assert main(["info", str(tmp_path / "m.npz")]) == 0


@pytest.mark.few(2)
@pytest.mark.parametrize("redirection", NO_STDOUT)
@pytest.mark.parametrize(
    "command",
    ["predict model.npz towns.csv", "evaluate model.npz towns.csv", "info model.npz",
     "check mylayer.py"],
)  # fmt: skip
def test_results_that_nobody_gets_are_a_failure(folder, command, redirection):
    code, out, err = shell(folder, command, redirection)
    assert code == 1
    assert out == ""
    lines = err.splitlines()
    if "|" in redirection:
        # The reader that closed the pipe needs no message.
        assert lines == []
    else:
        assert lines[-1].startswith("minigd: standard output: ")


@pytest.mark.few(2)
@pytest.mark.parametrize("redirection", NO_STDOUT)
@pytest.mark.parametrize("text", ["--version", "--help", "-h", "train --help", "demo -h"])
def test_the_version_and_the_help_are_results_too(folder, text, redirection):
    code, out, err = shell(folder, text, redirection)
    assert (code, out) == (1, "")
    assert err.startswith("" if "|" in redirection else "minigd: standard output: ")
    assert len(err.splitlines()) == ("|" not in redirection)


def test_the_version_needs_no_stderr(folder):
    assert shell(folder, "--version", "2>&-")[:2] == (0, f"minigd {minigd.__version__}\n")


@pytest.mark.slow
@pytest.mark.parametrize("redirection", NO_STDERR[1::2])
def test_results_need_no_stderr(folder, tmp_path, redirection):
    code, _, _ = shell(folder, f"predict model.npz towns.csv --out {tmp_path}/p.csv", redirection)
    assert code == 0
    assert len((tmp_path / "p.csv").read_text(encoding="utf-8").splitlines()) == 201


@pytest.mark.slow
def test_a_pipe_by_name_is_written_to(folder):
    code, direct, _ = shell(folder, "predict model.npz towns.csv", "", PYTHONUTF8="1")
    named = shell(folder, "predict model.npz towns.csv --out /dev/stdout", "| cat", PYTHONUTF8="1")
    assert named == (code, direct, "")
    assert code == 0


@pytest.mark.slow
@pytest.mark.parametrize("redirection", NO_STDERR[::2])
def test_a_failure_needs_no_stderr_to_be_one(folder, redirection):
    assert shell(folder, "evaluate model.npz nothing.csv", redirection)[0] == 1


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_what_is_for_people_is_shown_in_any_encoding(folder, tmp_path, encoding):
    io = {"PYTHONIOENCODING": f"{encoding}:strict"}
    assert shell(folder, f"{TRAIN} {tmp_path}/Ł.npz", "", **io)[0] == 0
    code, out, _ = shell(folder, "info model.npz", "", **io)
    assert code == 0
    assert "classes" in out


@pytest.mark.slow
def test_predictions_are_never_written_as_something_else(folder, tmp_path):
    code, _, err = shell(folder, "predict model.npz towns.csv", "", PYTHONIOENCODING="cp1252")
    assert code == 1
    assert err.splitlines()[-1] == (
        "minigd: standard output: cp1252 lacks '\\u0141'; --out FILE is written in UTF-8"
    )
    # The remedy works.
    command = f"predict model.npz towns.csv --out {tmp_path}/p.csv"
    assert shell(folder, command, "", PYTHONIOENCODING="cp1252")[0] == 0
    assert "Łódź" in (tmp_path / "p.csv").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("redirection", ["2>&-", pytest.param("2>/dev/full", marks=FULL)])
def test_a_program_of_ones_own_trains_without_stderr(folder, redirection):
    code = (
        "import numpy as np, minigd as gd; x = np.ones((20, 2)); "
        "m = gd.Sequential([gd.Dense(1)], inputs=2); "
        "h = m.fit(x, x[:, 0], loss='mse', epochs=2, progress=True, callbacks=[gd.PrintEvery(1)]); "
        "print(h.epochs)"
    )
    ran = subprocess.run(
        ["bash", "-c", f'{sys.executable} -c "{code}" {redirection}'],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ran.returncode, ran.stdout) == (0, "2\n")
