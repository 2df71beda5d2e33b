"""`minigd plot` draws the epochs of a training, and predictions against true values."""

import matplotlib.figure
import pytest

import minigd as gd
from minigd.cli.main import main


@pytest.fixture
def drawn(monkeypatch):
    """Return the figures that were saved."""
    figures = []
    save = matplotlib.figure.Figure.savefig

    def noting(self, *arguments, **options):
        figures.append(self)
        return save(self, *arguments, **options)

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", noting)
    return figures


def test_each_result_of_the_epochs_has_a_panel(folder, tmp_path, drawn, capsys):
    out = tmp_path / "p.png"
    assert main(["plot", str(folder / "houses.npz"), "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"picture: {out}\n"
    assert out.read_bytes().startswith(b"\x89PNG")
    history = gd.load_table(folder / "houses.npz").history
    names = [ax.get_ylabel() for ax in drawn[0].axes]
    assert names == [n for n in history if f"val_{n}" in history]
    for ax, name in zip(drawn[0].axes, names, strict=True):
        lines = {line.get_label(): list(line.get_ydata()) for line in ax.get_lines()}
        for column in (name, f"val_{name}"):
            assert lines[column] == history[column]


def test_numbers_are_drawn_against_the_true_ones(folder, tmp_path, drawn):
    words = ["plot", str(folder / "houses.npz"), str(folder / "new.csv")]
    assert main([*words, "--out", str(tmp_path / "p.svg")]) == 0
    scores = gd.load_table(folder / "houses.npz").evaluate(folder / "new.csv")
    assert drawn[0].axes[-1].get_title() == f"R² = {scores['r2']:.3f}, 100 rows"


def test_classes_are_drawn_by_name(folder, tmp_path, drawn):
    words = ["plot", str(folder / "people.npz"), str(folder / "people.test")]
    options = ["--skip-lines", "1", "--strip", ".", "--out", str(tmp_path / "p.png")]
    assert main([*words, *options]) == 0
    people = gd.load_table(folder / "people.npz")
    ax = next(ax for ax in drawn[0].axes if ax.get_xlabel() == "Predicted label")
    assert [text.get_text() for text in ax.get_xticklabels()] == people.classes
    counts = [int(text.get_text()) for text in ax.texts]
    scores = people.evaluate(folder / "people.test", skip_lines=1, strip=".")
    assert sum(counts) == 200
    assert counts[0] + counts[3] == pytest.approx(200 * scores["accuracy"])


def test_the_checkpoint_of_a_run_is_drawn_and_a_model_without_a_history_is_not(tmp_path, capsys):
    trainer = gd.Trainer(gd.Sequential([gd.Dense(1)], inputs=1), "mse", "sgd")
    trainer.model.save(tmp_path / "m.npz")
    out = str(tmp_path / "p.png")
    assert main(["plot", str(tmp_path / "m.npz"), "--out", out]) == 1
    assert "has no training history" in capsys.readouterr().err
    trainer.fit([[0.0], [1.0]], [0.0, 1.0], epochs=2)
    trainer.save(tmp_path / "run.npz")
    assert main(["plot", str(tmp_path / "run.npz"), "--out", out]) == 0


def test_a_picture_is_looked_at_before_anything_is_read(tmp_path, capsys):
    assert main(["plot", str(tmp_path / "none.npz"), "--out", str(tmp_path / "p.xyz")]) == 1
    assert "does not name a picture" in capsys.readouterr().err
