"""From a file of `minigd export`, ONNX Runtime computes the lines of `minigd predict`."""

import os

import numpy as np
import onnxruntime
import pandas as pd
import pytest

import minigd as gd
from minigd.cli.main import main


def test_onnx_runtime_takes_the_columns_of_the_table(folder, tmp_path, capsys, monkeypatch):
    path = str(tmp_path / "m.onnx")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["export", str(folder / "houses.npz"), "--onnx=~/m.onnx"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "inputs   area float32, grade float32, heating text",
        "outputs  prediction float32",
        f"saved: {path}",
    ]
    new = pd.read_csv(folder / "new.csv")
    feed = {
        "area": new[["area"]].to_numpy("float32"),
        "grade": new[["grade"]].to_numpy("float32"),
        "heating": new[["heating"]].to_numpy(object),
    }
    (found,) = onnxruntime.InferenceSession(path).run(["prediction"], feed)
    expected = gd.load_table(folder / "houses.npz").predict(new)
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-5)


def test_a_network_without_a_table_is_exported_too(tmp_path, capsys):
    gd.Sequential([gd.Dense(1)], inputs=2).save(tmp_path / "m.npz")
    assert main(["export", str(tmp_path / "m.npz"), "--onnx", str(tmp_path / "m.onnx")]) == 0
    assert "inputs   x float32, 2 wide" in capsys.readouterr().out
    assert onnxruntime.InferenceSession(tmp_path / "m.onnx").get_inputs()[0].shape == ["n", 2]


def test_columns_that_onnx_cannot_encode_are_named(folder, tmp_path, capsys):
    table, model = str(folder / "houses.csv"), str(tmp_path / "m.npz")
    words = ["train", table, "--target", "price", "--exclude", "id,date", "--epochs", "1"]
    assert main([*words, "--hashed", "heating=4", "--out", model]) == 0
    capsys.readouterr()
    assert main(["export", model, "--onnx", str(tmp_path / "m.onnx")]) == 1
    err = capsys.readouterr().err
    assert err.startswith(
        "minigd: column 'heating' is hashed, but ONNX has no operator for the hash"
    )
    assert not (tmp_path / "m.onnx").exists()


@pytest.mark.parametrize("out", ["m.npz", "no/m.onnx"])
def test_where_it_goes_is_checked(folder, tmp_path, capsys, out):
    model = tmp_path / "m.npz"
    model.write_bytes((folder / "houses.npz").read_bytes())
    assert main(["export", str(model), "--onnx", os.fspath(tmp_path / out)]) == 1
    assert capsys.readouterr().err.startswith("minigd: ")
    assert model.read_bytes() == (folder / "houses.npz").read_bytes()
