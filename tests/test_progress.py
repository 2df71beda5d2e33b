"""Progress: a moving bar in a terminal, a few plain lines elsewhere, nothing unless asked for.

All of it goes to stderr, and none of it changes the training.
"""

import io
import re

import numpy as np
import pytest

import minigd as gd


class Terminal(io.StringIO):
    """A stderr that says that it is a terminal."""

    def isatty(self):
        return True


def trainer():
    return gd.Trainer(gd.Sequential([gd.Dense(1)], inputs=2), "mse", "adam", metrics=["mae"])


def batches():
    x = np.random.default_rng(0).normal(size=(23, 2))
    return gd.Batches(x, x[:, 0], batch_size=5, shuffle=True)


def test_silent_by_default(capsys):
    trainer().fit(batches(), epochs=3)
    assert capsys.readouterr() == ("", "")


def test_a_bar_moves_in_a_terminal(monkeypatch, capsys):
    terminal = Terminal()
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr("sys.stderr", terminal)
    history = trainer().fit(batches(), epochs=3, validation_data=batches(), progress=True)
    shown = terminal.getvalue()
    # Three epochs of five updates, each drawing over the one before.
    assert shown.count("\r") >= 3
    done = [int(number) for number in re.findall(r"(\d+)/15", shown)]
    assert done == sorted(done)
    assert {0, 5, 10, 15} <= set(done)
    for epoch in (1, 2, 3):
        assert f"epoch {epoch}/3" in shown
    assert f"loss {history['loss'][-1]:.4g}" in shown
    assert f"val_mae {history['val_mae'][-1]:.4g}" in shown
    assert shown.endswith("\n")
    assert capsys.readouterr().out == ""


def test_a_bar_that_goes_on_counts_what_is_left(monkeypatch):
    terminal = Terminal()
    run = trainer()
    run.fit(batches(), callbacks=[lambda event: event.trainer.updates == 2 and run.stop()])
    monkeypatch.setattr("sys.stderr", terminal)
    run.fit(until_epoch=2, progress=True)
    assert "8/8" in terminal.getvalue()


def test_the_bar_is_closed_when_a_run_is_interrupted(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)

    def interrupt(event):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer().fit(batches(), progress=True, callbacks=[interrupt])
    assert terminal.getvalue().endswith("\n")


@pytest.mark.parametrize("epochs", [1, 2, 9, 10, 11, 19, 25, 101, 1000])
def test_a_few_plain_lines_elsewhere(capsys, epochs):
    history = trainer().fit(batches(), epochs=epochs, progress=True)
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert min(epochs, 5) <= len(lines) <= 12
    assert lines[0].startswith(f"epoch 1/{epochs}  loss {history['loss'][0]:.4g}  mae ")
    assert lines[-1].startswith(f"epoch {epochs}/{epochs}  loss {history['loss'][-1]:.4g}  mae ")
    assert "\r" not in err


@pytest.mark.parametrize("terminal", [False, True])
def test_showing_progress_changes_no_bit(monkeypatch, terminal):
    shown, silent = trainer(), trainer()
    monkeypatch.setattr("sys.stderr", Terminal() if terminal else io.StringIO())
    shown.fit(batches(), epochs=3, progress=True)
    silent.fit(batches(), epochs=3)
    np.testing.assert_array_equal(shown.model.flat_params, silent.model.flat_params)


def test_nothing_to_do_shows_nothing(monkeypatch, capsys):
    run = trainer()
    run.fit(batches(), epochs=2)
    run.fit(until_epoch=2, progress=True)
    assert capsys.readouterr().err == ""


def test_a_program_without_stderr_trains(monkeypatch):
    # A windowed program on Windows has none.
    monkeypatch.setattr("sys.stderr", None)
    assert trainer().fit(batches(), epochs=2, progress=True).epochs == 2


def test_a_run_that_goes_on_counts_from_where_it_was(capsys):
    x = np.arange(20.0).reshape(-1, 1) / 20
    trainer = gd.Trainer(gd.Sequential([gd.Dense(1)], inputs=1), "mse", "sgd")
    trainer.fit(x, x, until_epoch=3)
    trainer.fit(x, x, until_epoch=5, progress=True)
    trainer.fit(x, x, epochs=1, progress=True)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("epoch")]
    assert [line.split()[1] for line in lines] == ["4/5", "5/5", "1/1"]
