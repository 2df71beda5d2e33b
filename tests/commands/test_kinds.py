"""What a file is follows from how it begins, and a slip of the shell is told as what it is."""

import gzip
import zipfile

import numpy as np
import pandas as pd
import pytest

import minigd as gd
from minigd.cli import main
from minigd.commands.kinds import check_table, kind_of, line_behind

FRAME = pd.DataFrame({"a": [1.5, 2.5], "y": [1, 2]})
WHAT = {
    "saved.npz": ("saved", "such as the MODEL of predict, evaluate and info; DATA is a table"),
    "run.checkpoint": ("saved", "such as the MODEL of predict"),
    "arrays.npz": ("arrays", "an archive of arrays; write the table as one array, with numpy.save"),
    "book.xlsx": ("workbook", "an Excel workbook: save it as CSV"),
    "rows.zip": ("zip", "a zip archive: unpack it"),
    "empty.zip": ("text", ""),
    "half.npz": ("damaged", "a zip archive that is damaged"),
    "array.csv": ("array", "an array of NumPy's: its name must end in .npy"),
    "parquet.csv": ("parquet", "a Parquet file: its name must end in .parquet"),
    "text.npy": ("text", "is no array of NumPy's, whatever its name ends in"),
    "text.parquet": ("text", "is no Parquet file, whatever its name ends in"),
    "empty.npy": ("text", "is no array of NumPy's"),
    "rows.csv": ("text", ""),
    "rows.csv.gz": ("text", ""),
    "rows.npy": ("array", ""),
    "rows.pq": ("parquet", ""),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Return a folder with a file of each kind, made by those who make them."""
    folder = tmp_path_factory.mktemp("files")
    model = gd.Sequential([gd.Dense(1)], inputs=1)
    model.save(folder / "saved.npz")
    gd.Trainer(model, "mse", "sgd").save(folder / "run.checkpoint")
    np.savez(folder / "arrays.npz", x=np.ones(3))
    with zipfile.ZipFile(folder / "book.xlsx", "w") as book:
        for name in ("[Content_Types].xml", "xl/workbook.xml"):  # as the standard names them
            book.writestr(name, "<xml/>")
    FRAME.to_csv(folder / "rows.csv", index=False)
    FRAME.to_csv(folder / "rows.csv.gz", index=False)
    with zipfile.ZipFile(folder / "rows.zip", "w") as archive:
        archive.write(folder / "rows.csv", "rows.csv")
    zipfile.ZipFile(folder / "empty.zip", "w").close()
    whole = (folder / "saved.npz").read_bytes()
    (folder / "half.npz").write_bytes(whole[: len(whole) // 2])
    np.save(folder / "rows.npy", FRAME.to_numpy())
    (folder / "array.csv").write_bytes((folder / "rows.npy").read_bytes())
    FRAME.to_parquet(folder / "rows.pq")
    (folder / "parquet.csv").write_bytes((folder / "rows.pq").read_bytes())
    for name in ("text.npy", "text.parquet"):
        (folder / name).write_bytes((folder / "rows.csv").read_bytes())
    (folder / "empty.npy").write_bytes(b"")
    return folder


@pytest.mark.parametrize("name", WHAT)
def test_a_file_is_what_it_begins_as(files, name):
    kind, problem = WHAT[name]
    assert kind_of(files / name) == kind
    if not problem:
        check_table(str(files / name))
        return
    with pytest.raises(gd.DataError) as caught:
        check_table(str(files / name))
    assert str(caught.value).startswith(str(files / name))
    assert problem in str(caught.value)


@pytest.mark.parametrize("name", [name for name, (_, problem) in WHAT.items() if problem])
@pytest.mark.parametrize("command", ["train", "race", "predict", "evaluate"])
def test_every_command_says_so(files, folder, tmp_path, monkeypatch, capsys, name, command):
    data = str(files / name)
    model = str(folder / "houses.npz")
    arguments = [data, "--target", "y"] if command in ("train", "race") else [model, data]
    monkeypatch.chdir(tmp_path)
    assert main([command, *arguments]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"minigd: {data} is")
    assert WHAT[name][1] in err
    assert "UTF-8" not in err


def test_targets_in_a_file_of_their_own_are_looked_at_too(files, capsys):
    arguments = ["train", str(files / "rows.npy"), "--target", str(files / "text.npy")]
    assert main(arguments) == 1
    assert f"{files / 'text.npy'} is no array of NumPy's" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["info", "predict", "evaluate"])
@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("rows.csv", " is not a file that minigd saved: MODEL is what `minigd train` wrote"),
        ("arrays.npz", " is not a file that minigd saved but an archive of other arrays: MODEL is"),
        ("book.xlsx", " but an Excel workbook: MODEL is"),
        ("rows.zip", " but a zip archive: MODEL is"),
        ("rows.npy", " but an array of NumPy's: MODEL is"),
        ("rows.pq", " but a Parquet file: MODEL is"),
        ("half.npz", " is not a file that minigd saved, or it is damaged"),
    ],
)
def test_what_is_no_model_is_said_too(files, capsys, command, name, problem):
    data = [] if command == "info" else [str(files / "rows.csv")]
    assert main([command, str(files / name), *data]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"minigd: '{files / name}' is not a file that minigd saved")
    assert problem in err


def test_a_checkpoint_is_no_model_to_predict_with(files, capsys):
    assert main(["predict", str(files / "run.checkpoint"), str(files / "rows.csv")]) == 1
    assert "is the checkpoint of a run and no model yet" in capsys.readouterr().err


def test_a_file_of_minigds_that_is_neither(files, tmp_path, capsys):
    source = gd.CsvSource(files / "rows.csv", target="y", index_path=tmp_path / "index")
    source.take([0])
    assert main(["info", str(tmp_path / "index")]) == 1
    assert "index' was saved by minigd, and holds no model" in capsys.readouterr().err


# The first line ----------------------------------------------------------------------------------


def test_a_line_behind_so_many(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes(b"a;b\r\n1;2\n\xff\n")
    with gzip.open(tmp_path / "rows.gz", "wb") as file:
        file.write(path.read_bytes())
    for name in (str(path), str(tmp_path / "rows.gz")):
        lines = [line_behind(name, n) for n in (0, 1, 2, 3, 10**30)]
        assert lines == ["a;b\r\n", "1;2\n", "\ufffd\n", "", ""]
    packed = (tmp_path / "rows.gz").read_bytes()
    (tmp_path / "rows.gz").write_bytes(packed[:-9])
    assert line_behind(str(tmp_path / "rows.gz"), 3) == ""
