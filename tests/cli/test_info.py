"""The content of a model file, in a few lines that fit a screen."""

import minigd as gd
from minigd.cli.info import info
from minigd.cli.main import main
from minigd.cli.trained import load_table


def test_a_model_of_the_shell(folder, capsys):
    assert main(["info", str(folder / "people.npz")]) == 0
    lines = capsys.readouterr().out.splitlines()
    history = load_table(folder / "people.npz").history
    assert lines[:6] == [
        "task        classification of income",
        "numbers     age, hours",
        "categories  work (3)",
        "classes     <=50K, >50K",
        "layers      5 > standardize1 5 > dense1 16 > relu1 16 > dropout1 16 > dense2 1",
        "            > sigmoid1 1",
    ]
    assert lines[6] == "parameters  113 of float32"
    assert lines[7].startswith(f"trained     {history.epochs} epochs, ")
    best = load_table(folder / "people.npz").best
    assert lines[8].startswith(f"best        epoch {best + 1}: loss ")
    assert f"val_accuracy {history['val_accuracy'][best]:.4g}" in " ".join(lines[8:])
    assert len(lines) <= 10


def test_a_checkpoint_and_a_model_of_python(tmp_path):
    model = gd.Sequential([gd.Dense(1)], inputs=1)
    model.save(tmp_path / "m.npz")
    bare = ["layers      1 > dense1 1", "parameters  2 of float32"]
    assert info(tmp_path / "m.npz").splitlines() == bare
    trainer = gd.Trainer(model, "mse", "adam")
    trainer.save(tmp_path / "new.npz")
    assert info(tmp_path / "new.npz").splitlines() == bare
    trainer.fit([[1.0], [2.0]], [1.0, 2.0], epochs=3)
    trainer.save(tmp_path / "run.npz")
    lines = info(tmp_path / "run.npz").splitlines()
    assert lines[2].startswith("trained     3 epochs, 3 updates, ")
    assert lines[3].startswith("best        epoch 3: loss ")


def test_names_of_many_columns_are_broken_and_never_cut(tmp_path):
    import numpy as np
    import pandas as pd

    from minigd.cli.train import train

    names = [f"a-rather-long-name-of-column-{i}" for i in range(9)]
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(50, 9)), columns=names)
    frame.to_csv(tmp_path / "rows.csv", index=False)
    train(tmp_path / "rows.csv", names[0], tmp_path / "m.npz", epochs=1, progress=False)
    text = info(tmp_path / "m.npz")
    assert max(len(line) for line in text.splitlines()) <= 79
    words = text.replace(",", " ").split()
    assert set(names) <= set(words)
