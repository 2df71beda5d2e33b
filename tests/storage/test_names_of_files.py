"""Names of files to save to: one that is of another format is refused before any work is done."""

import os

import numpy as np
import pytest

import minigd as gd
from minigd.cli.main import main

X = np.linspace(-1, 1, 40).reshape(-1, 2)


def network():
    return gd.Sequential([gd.Dense(1)], inputs=2)


def trainer():
    return gd.Trainer(network(), "mse", "sgd")


def table_model():
    source = gd.IterableSource([{"a": [1.0, 2.0], "b": [1.0, 3.0]}], target="b")
    return gd.TableModel(gd.Sequential([gd.Dense(1)], inputs=1), source.schema)


WRITERS = {
    "Sequential.save": lambda path: network().save(path),
    "Trainer.save": lambda path: trainer().save(path),
    "TableModel.save": lambda path: table_model().save(path),
    "Checkpoint": gd.Checkpoint,
}
writers = pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
OTHERS = ["m.h5", "m.keras", "m.pt", "m.PKL", "m.onnx", "m.npy", "runs.d/m.json", "m.v2", "m.npz2"]


@writers
@pytest.mark.parametrize("name", OTHERS)
def test_the_name_of_another_format_is_refused(write, name, tmp_path):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    with pytest.raises(ValueError, match=r"can't save to .*: a model is written as \.npz") as info:
        write(path)
    assert not path.exists()
    remedy = str(info.value).partition("name it '")[2].partition("'")[0]
    assert ("export_onnx" in str(info.value)) == name.endswith("onnx")
    write(remedy)  # what the message proposes is taken


@writers
@pytest.mark.parametrize(
    "name", ["m.npz", "M.NPZ", "m", ".m", "m.npz.old", "lr0.01", "run.2024-05-01", "m.checkpoint"]
)
def test_other_names_are_taken_as_they_are(write, name, tmp_path):
    write(str(tmp_path / name))
    assert os.listdir(tmp_path) in ([name], [])  # a Checkpoint has not begun to write


def test_the_shell_refuses_it_before_it_trains(tmp_path, capsys):
    table = tmp_path / "t.csv"
    table.write_text("a,y\n" + "1,2\n3,4\n" * 20)
    code = main(["train", str(table), "--target", "y", "--out", str(tmp_path / "m.h5")])
    assert code == 1
    assert "m.h5': a model is written" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["t.csv"]
