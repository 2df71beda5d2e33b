"""A model's file describes its columns; if it does not, an error says so."""

import numpy as np
import pytest

import minigd as gd
from minigd.cli.trained import load_table
from minigd.storage import npz


def test_what_is_saved_comes_back(folder, tmp_path):
    trained = load_table(folder / "people.npz")
    trained.save(tmp_path / "again.npz")
    again = load_table(tmp_path / "again.npz")
    assert again.task == "classification"
    assert again.schema.state_dict() == trained.schema.state_dict()
    assert again.reading == trained.reading
    assert again.reading.columns == ("age", "work", "hours", "income")
    assert dict(again.history) == dict(trained.history)
    assert (again.model.flat_params == trained.model.flat_params).all()


def test_the_model_is_read_from_python_too(folder):
    model = gd.load(folder / "houses.npz")
    assert (model.flat_params == load_table(folder / "houses.npz").model.flat_params).all()


def test_a_file_that_was_not_written_by_the_command_says_so(tmp_path):
    gd.Sequential([gd.Dense(1)], inputs=2).save(tmp_path / "m.npz")
    with pytest.raises(gd.CheckpointError, match=r"m.npz' does not say what its columns are"):
        load_table(tmp_path / "m.npz")
    (tmp_path / "text.npz").write_text("text")
    with pytest.raises(gd.CheckpointError, match="is not a file that minigd saved"):
        load_table(tmp_path / "text.npz")


@pytest.mark.parametrize("damage", [{}, {"task": "regression", "schema": {"a": 1}, "reading": {}}])
def test_a_damaged_description_says_so(folder, tmp_path, damage):
    description, arrays = npz.read(folder / "houses.npz")
    npz.write(tmp_path / "m.npz", {**description, "table": damage}, arrays)
    with pytest.raises(gd.CheckpointError, match=r"the columns in .* are damaged"):
        load_table(tmp_path / "m.npz")


def test_the_best_epoch_is_that_of_the_lowest_loss(folder):
    trained = load_table(folder / "houses.npz")
    assert trained.best == np.argmin(trained.history["val_loss"])


def test_what_is_said_of_a_csv_is_refused_for_another_file(folder, tmp_path):
    import pandas as pd

    # Options that the model remembers for its own table do not apply to this one.
    trained = load_table(folder / "people.npz")
    assert trained.reading.columns is not None
    frame = pd.DataFrame({"age": [20.0], "work": ["Private"], "hours": [40.0]})
    frame.to_parquet(tmp_path / "people.parquet")
    assert trained.open(tmp_path / "people.parquet").rows == 1
    with pytest.raises(gd.DataError, match="--strip says how a CSV is written"):
        trained.open(tmp_path / "people.parquet", strip=".")
