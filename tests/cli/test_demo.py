"""The demonstration keeps what it promises: its figures, its table, its picture.

It runs once, with its defaults, and several tests check it.
"""

import itertools
import re

import numpy as np
import pytest
from matplotlib import image

import minigd as gd
from minigd.cli import demo
from minigd.cli.main import main


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """Return what the demo prints on each stream, and its picture."""
    picture = tmp_path_factory.mktemp("demo") / "picture.png"
    with pytest.MonkeyPatch.context() as patch:
        import io
        import sys

        out, err = io.StringIO(), io.StringIO()
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        assert main(["demo", "--out", str(picture)]) == 0
    return out.getvalue(), err.getvalue(), picture


def row(text, label):
    """Return the numbers of the table's row that starts with `label`."""
    line = next(line for line in text.splitlines() if line.startswith(label))
    return [float(number.replace(",", "")) for number in line[38:].replace("%", "").split()]


def test_ten_epochs_of_batch_100_are_120_updates_and_learn_little(shown):
    updates, rows, seconds, _, accuracy = row(shown[0], "batch 1, 10 epochs")
    few_updates, few_rows, few_seconds, _, few_accuracy = row(shown[0], "batch 100, 10 epochs")
    assert (updates, rows) == (11_200, 11_200)
    assert (few_updates, few_rows) == (120, 11_200)
    assert few_seconds < seconds
    assert few_accuracy < 70 < 90 < accuracy


def test_for_equal_updates_and_for_equal_seconds_batch_100_is_given_as_much_as_batch_1(shown):
    updates, _, seconds, loss, _ = row(shown[0], "batch 1, 10 epochs")
    same_updates, rows, _, same_loss, _ = row(shown[0], "batch 100, as many updates")
    assert same_updates == updates
    # 933 epochs of 12 batches and 4 batches of 100.
    assert rows == 933 * 1120 + 400
    assert same_loss < loss
    _, _, same_seconds, _, _ = row(shown[0], "batch 100, as many seconds")
    assert seconds <= same_seconds <= seconds + 0.2


def test_the_digits_are_read_with_97_percent_and_the_tail_is_among_the_batches(shown):
    assert "[100, 100, 100, 100, 100, 100, 100, 100, 100, 100, 100, 100, 100, 100, 37]" in shown[0]
    accuracy = re.search(r"has not seen: ([\d.]+)%", shown[0])
    assert float(accuracy[1]) >= 97


def test_without_a_terminal_progress_is_a_few_plain_lines_on_stderr(shown):
    # On a slow machine the first part shows a sign of life.
    lines = [line for line in shown[1].splitlines() if not line.startswith("training with")]
    assert 2 <= len(lines) <= 12
    assert all(line.startswith("epoch ") for line in lines)
    assert "\r" not in shown[1]


def test_the_picture_is_where_it_says_and_is_not_blank(shown):
    assert f"picture: {shown[2]}" in shown[0]
    pixels = image.imread(shown[2])
    assert pixels.shape[0] > 400
    assert pixels.shape[1] > 1000
    assert pixels.std() > 0.1


def test_a_missing_package_is_named(monkeypatch, capsys):
    import sys

    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(
        ImportError,
        match=r"scikit-learn is not installed, and the demo needs it: `pip install scikit-learn`",
    ):
        demo.main()
    assert main(["demo"]) == 1
    assert "pip install scikit-learn" in capsys.readouterr().err


def test_a_folder_that_is_not_there_is_said_before_the_work(capsys):
    assert main(["demo", "--out", "/no/such/folder/picture.png"]) == 1
    captured = capsys.readouterr()
    assert "'/no/such/folder'" in captured.err
    assert captured.out == ""


def test_the_first_part_shows_each_row_as_it_is_done(monkeypatch, capsys):
    seen = []

    def train(X, y, label, **how):
        seen.append(capsys.readouterr().out)
        history = gd.History({"loss": [0.5], "seconds": [1.0]})
        return demo.Run(label, None, history, updates=1, rows=1, loss=0.5, accuracy=0.5)

    monkeypatch.setattr(demo, "train", train)
    demo.quantiles(None, None)
    header, *rows = seen
    assert "rows seen" in header
    assert [row[:9] for row in rows] == ["batch 1, ", "batch 100", "batch 100"]


def test_the_first_part_shows_a_sign_of_life(monkeypatch, capsys):
    looks = itertools.count(0, 5)
    monkeypatch.setattr("minigd.progress.clock", lambda: float(next(looks)))
    X = np.random.default_rng(0).normal(size=(2000, 2))
    demo.train(X, (X[:, 0] > 0) * 1, "batch 100", epochs=2)
    first = capsys.readouterr().err.splitlines()[0]
    assert re.match(r"training with batch 100: 100 rows  4%  6.7 rows/s  about 5 min left", first)
