"""A run is resumed with its first options; a message names each option that differs."""

import shutil
import signal

import numpy as np
import pytest

import minigd as gd
from minigd.cli import train as module
from minigd.cli.main import main
from minigd.storage import npz

BEGUN = {
    "--batch-size": "32", "--hidden": "8,4", "--epochs": "5", "--learning-rate": "0.01",
    "--seed": "7", "--target": "price", "--exclude": "id,date",
}  # fmt: skip


def interrupted(words, epoch):
    """Run a command that receives Ctrl-C at the end of an epoch."""

    class Pressing(gd.Checkpoint):
        def __call__(self, event):
            super().__call__(event)
            if event.name == "epoch" and event.trainer.epoch == epoch:
                signal.raise_signal(signal.SIGINT)

    Pressing.__name__ = "Checkpoint"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "Checkpoint", Pressing)
        assert main(words) == 130


@pytest.fixture(scope="module")
def checkpoint(folder, tmp_path_factory):
    """Return the checkpoint of a run that was interrupted after its second epoch."""
    out = tmp_path_factory.mktemp("begun") / "m.npz"
    interrupted(command(folder, out), epoch=2)
    return f"{out}.checkpoint"


def command(folder, out, **changes):
    """Return the command that began the run, with some options changed or left out (None)."""
    options = {**BEGUN, **{f"--{name.replace('_', '-')}": v for name, v in changes.items()}}
    words = [word for name, v in options.items() if v is not None for word in (name, v)]
    return ["train", str(folder / "houses.csv"), *words, "--out", str(out)]


@pytest.fixture
def refused(folder, checkpoint, tmp_path, capsys):
    """Return a function that gives the message about a resumed run with other options."""
    shutil.copy(checkpoint, tmp_path / "m.npz.checkpoint")

    def message(**changes):
        capsys.readouterr()
        assert main([*command(folder, tmp_path / "m.npz", **changes), "--resume"]) == 1
        last = capsys.readouterr().err.splitlines()[-1]
        return last.replace(str(tmp_path / "m.npz.checkpoint"), "CHECKPOINT")

    return message


@pytest.mark.parametrize(
    ("option", "given", "then"),
    [
        ("batch_size", "64", "32"),
        ("hidden", "8", "8,4"),
        ("hidden", "0", "8,4"),
        ("epochs", "6", "5"),
        ("learning_rate", "0.02", "0.01"),
        ("seed", "0", "7"),
    ],
)
def test_an_option_is_named_with_what_it_was(refused, option, given, then):
    assert refused(**{option: given}) == (
        f"minigd: 'CHECKPOINT' can't be resumed with --{option.replace('_', '-')} {given}, but the "
        f"run was trained with {then}: give the same options as before, or start again without "
        "--resume"
    )


def test_an_option_left_out_is_what_it_is_by_default(refused):
    assert "--batch-size 100, but the run was trained with 32" in refused(batch_size=None)
    assert "--learning-rate 0.002, but the run was trained with 0.01" in refused(learning_rate=None)


def test_all_of_them_are_named(refused):
    message = refused(batch_size="10", seed="1")
    assert "--batch-size 10, but the run was trained with 32; --seed 1, but the run was" in message


@pytest.mark.parametrize(
    "changes",
    [
        {"exclude": "id,date,area"},
        {"na": "gas"},
        {"exclude": "id,date,area", "epochs": None},  # the default depends on the table
        {"na": "gas", "seed": "1", "batch_size": "9"},
    ],
)
def test_other_columns_are_another_table(refused, changes):
    message = refused(**changes)
    assert "can't be resumed: the table, --target, --task" in message


def test_no_reprs_of_python(refused):
    for changes in ({"hidden": "9"}, {"epochs": "9"}, {"target": "area"}, {"batch_size": "9"}):
        message = refused(**changes)
        assert not [word for word in ("Dense", "Adam", "batch_size", "=", "(") if word in message]


def test_another_task_of_the_same_numbers(tmp_path, capsys):
    # As rows in a folder, 0 and 1 are the same numbers for both tasks; the networks differ.
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 2))
    np.save(tmp_path / "rows.npy", np.column_stack([X, X[:, 0] > 0]))
    words = ["train", str(tmp_path / "rows.npy"), "--target", "2", "--epochs", "3", "--hidden", "0"]
    words += ["--out", str(tmp_path / "m.npz")]

    interrupted(words, epoch=1)
    capsys.readouterr()
    assert main([*words, "--task", "regression", "--resume"]) == 1
    assert "the rows held out or the way the table is read has changed" in capsys.readouterr().err
    assert main([*words, "--resume"]) == 0


def test_what_is_no_checkpoint_is_said(folder, tmp_path, capsys):
    out = tmp_path / "m.npz"
    words = [*command(folder, out), "--resume"]
    assert main(words) == 1
    assert f"there is no '{out}.checkpoint' of an interrupted run" in capsys.readouterr().err
    shutil.copy(folder / "houses.npz", f"{out}.checkpoint")
    assert main(words) == 1
    assert "is not a checkpoint of a run: start again without --resume" in capsys.readouterr().err
    (tmp_path / "m.npz.checkpoint").write_text("text")
    assert main(words) == 1
    assert "is not a file that minigd saved" in capsys.readouterr().err


def test_a_checkpoint_of_python_is_not_gone_on_with(folder, tmp_path, capsys):
    trainer = gd.Trainer(gd.Sequential([gd.Dense(1)], inputs=1), "mse", gd.SGD(0.1))
    trainer.save(tmp_path / "m.npz.checkpoint")
    assert main([*command(folder, tmp_path / "m.npz"), "--resume"]) == 1
    assert "is damaged, or was not written by `minigd train`" in capsys.readouterr().err


def test_a_run_with_the_same_options_goes_on(folder, checkpoint, tmp_path):
    shutil.copy(checkpoint, tmp_path / "m.npz.checkpoint")
    assert main([*command(folder, tmp_path / "m.npz"), "--resume"]) == 0
    history = npz.read(tmp_path / "m.npz")[0]["history"]
    assert len(history["loss"]) == 5
    assert npz.read(checkpoint)[0]["run"]["epoch"] == 2
