"""Words of commands: mistyped ones, completion by a shell, and results as JSON."""

import json
import shutil
import subprocess

import numpy as np
import pytest

import minigd as gd
from minigd.cli.main import main, parser
from minigd.cli.parsing import SHELLS, commands_of
from minigd.errors import closest

TRAIN = ["train", "rows.csv", "--target", "y"]


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["trian", "rows.csv"], "did you mean 'train'?"),
        (["Predict", "m.npz"], "did you mean 'predict'?"),
        (["eval", "m.npz"], "did you mean 'evaluate'?"),
        (["train", "rows.csv", "--taget", "y"], "no option --taget; did you mean '--target'?"),
        (["train", "rows.csv", "--taget=y"], "no option --taget; did you mean '--target'?"),
        (["train", "rows.csv", "-target", "y"], "no option -target; did you mean '--target'?"),
        ([*TRAIN, "--learning_rate", "1"], "did you mean '--learning-rate'?"),
        ([*TRAIN, "--EPOCHS", "1"], "did you mean '--epochs'?"),
        ([*TRAIN, "--metrics", "acuracy"], "did you mean 'accuracy'?"),
        (["evaluate", "m", "t", "--metrics", "acuracy"], "did you mean 'accuracy'?"),
        (["info", "--leftover-files"], "did you mean '--leftovers'?"),
    ],
)
def test_a_mistyped_word_is_answered_with_the_one_that_is_meant(words, meant, capsys):
    with pytest.raises(SystemExit) as stop:
        main(words)
    out, err = capsys.readouterr()
    assert (stop.value.code, out) == (2, "")
    assert meant in err.splitlines()[-1]


@pytest.mark.parametrize(
    "words", [["dance"], ["train", "rows.csv", "--nonsense"], ["predict", "m", "d", "--seed", "1"]]
)
def test_a_word_that_is_like_none_is_only_refused(words, capsys):
    with pytest.raises(SystemExit):
        main(words)
    assert "did you mean" not in capsys.readouterr().err


def test_what_argparse_takes_is_still_taken():
    for words in (["--targ", "y"], ["--target=--y"], ["--target", "y", "--seed", "3"]):
        assert commands_of(parser())["train"].parse_args(["rows.csv", *words]).target
    assert closest("x", ["exclude"]) is None


@pytest.mark.parametrize(
    "more", [["--target", "prize"], ["--target", "price", "--exclude", "aera"],
             ["--target", "price", "--group", "gruop"], ["--target", "price", "--time", "gruop"],
             ["--target", "price", "--missing", "AREA=mean"],
             ["--target", "price", "--categories", "areas"]],
)  # fmt: skip
def test_a_mistyped_column_is_answered_too(tmp_path, capsys, more):
    lines = "".join(f"{i},{i % 7},{i % 3}\n" for i in range(30))
    (tmp_path / "t.csv").write_text(f"price,area,group\n{lines}")
    assert main(["train", str(tmp_path / "t.csv"), *more]) == 1
    err = capsys.readouterr().err
    meant = {"prize": "price", "gruop": "group"}.get(more[-1], "area")
    assert f"did you mean {meant!r}?" in err


# Completion --------------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_knows_all_commands_and_options(shell, capsys):
    pytest.importorskip("shtab")
    with pytest.raises(SystemExit) as stop:
        main(["--print-completion", shell])
    out = capsys.readouterr().out
    assert stop.value.code == 0
    for name, command in commands_of(parser()).items():
        assert name in out
        for action in command._actions:
            for option in action.option_strings:
                assert option.lstrip("-") in out, (name, option)


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes_options_that_share_a_line_of_the_help(capsys, tmp_path):
    pytest.importorskip("shtab")
    with pytest.raises(SystemExit):
        main(["--print-completion", "bash"])
    (tmp_path / "c.sh").write_text(capsys.readouterr().out)
    (tmp_path / "homes.csv").write_text("")
    script = """
source c.sh
complete -p minigd | grep -o '_shtab[a-z_]*' | head -1 > name
f=$(cat name)
ask() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); $f; echo "${COMPREPLY[@]}"; }
ask minigd tr
ask minigd train homes.csv --class
ask minigd train hom
"""
    run = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert [line.split() for line in run.stdout.splitlines()] == [
        ["train"], ["--class-weight"], ["homes.csv"],
    ], run.stderr  # fmt: skip


# JSON --------------------------------------------------------------------------------------------


def object_of(capsys, *words):
    assert main([*words, "--json"]) == 0
    out, err = capsys.readouterr()
    assert out.count("\n") == 1
    return json.loads(out), err


def test_a_model_is_described_as_data(folder, capsys, tmp_path):
    found, _ = object_of(capsys, "info", str(folder / "people.npz"))
    assert (found["task"], found["target"]) == ("classification", "income")
    assert found["columns"] == ["age", "work", "hours"]
    assert found["classes"] == ["<=50K", ">50K"]
    assert found["levels"]["work"][-1] == "missing" or "missing" in found["levels"]["work"]
    assert found["layers"][-1] == {"name": "sigmoid1", "kind": "Sigmoid", "width": 1}
    assert len(found["history"]["val_loss"]) == len(found["history"]["seconds"])
    model = gd.Sequential([gd.Dense(3), gd.Tanh(), gd.Dense(1)], inputs=2)
    model.save(tmp_path / "plain.npz")
    plain, _ = object_of(capsys, "info", str(tmp_path / "plain.npz"))
    assert (plain["inputs"], plain["parameters"], plain["history"]) == (2, 13, {})
    assert "task" not in plain
    (tmp_path / "m.npz.checkpoint").write_bytes(bytes(2500))
    left, _ = object_of(capsys, "info", "--leftovers", str(tmp_path))
    (one,) = left["leftovers"]
    assert (one["bytes"], one["path"]) == (2500, str(tmp_path / "m.npz.checkpoint"))


def test_scores_and_races_are_printed_as_data(folder, capsys):
    found, _ = object_of(capsys, "evaluate", str(folder / "houses.npz"), str(folder / "new.csv"))
    assert found["rows"] == 100
    assert found["scores"]["r2"] > 0.9
    words = ["race", str(folder / "houses.csv"), "--target", "price", "--exclude", "id,date"]
    quick = ["--hidden", "0", "--batch-sizes", "50,all", "--seconds", "0.05", "--seeds", "1"]
    race, err = object_of(capsys, *words, *quick)
    assert sorted(str(s["batch_size"]) for s in race["standings"]) == ["50", "None"]
    assert np.isfinite(race["target"])
    assert "rows to train on" in err


def test_a_failure_prints_nothing_on_standard_output(capsys, tmp_path):
    for words in (["info", "none.npz"], ["evaluate", "none.npz", "none.csv"], TRAIN):
        assert main([*words, "--json"]) == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("minigd: ")
