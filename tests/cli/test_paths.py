"""A command that can't write its output says so before it reads or trains anything."""

import os
import re
import sys

import numpy as np
import pytest

from minigd.cli.main import main
from minigd.cli.paths import check_output, check_picture

needs_permissions = pytest.mark.skipif(
    os.name != "posix" or os.geteuid() == 0, reason="everything can be written to here"
)


@pytest.fixture
def asked(monkeypatch):
    """Return the paths for which the system was asked for permission to write, and refused it."""
    paths = []

    def access(path, mode):
        paths.append(path)
        return False

    monkeypatch.setattr(os, "access", access)
    return paths


def test_what_can_be_written_to_passes(tmp_path):
    (tmp_path / "old.csv").write_text("old")
    (tmp_path / "table.csv").write_text("rows")
    check_output(tmp_path / "new.csv", table=tmp_path / "table.csv", model=tmp_path / "none.npz")
    check_output(tmp_path / "old.csv", table=tmp_path / "table.csv")
    assert (tmp_path / "old.csv").read_text() == "old"
    assert not (tmp_path / "new.csv").exists()


def test_a_name_in_the_folder_one_is_in_passes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_output("new.csv")


def test_what_is_refused_and_what_to_do(tmp_path):
    for out, problem in {
        "": "'' is not a file name",
        str(tmp_path): "it is a folder; name a file in it",
        str(tmp_path / "a" / "b" / "p.csv"): f"there is no folder '{tmp_path / 'a' / 'b'}'; make",
    }.items():
        with pytest.raises(OSError, match=re.escape(problem)):
            check_output(out)


def test_permission_is_asked_of_the_file_and_of_the_folder(tmp_path, asked):
    (tmp_path / "old.csv").write_text("old")
    with pytest.raises(OSError, match=r"old\.csv' can't be written: the file is read-only"):
        check_output(tmp_path / "old.csv")
    with pytest.raises(OSError, match=r"can't be written: the folder '.*' is read-only"):
        check_output(tmp_path / "new.csv")
    assert asked == [tmp_path / "old.csv", tmp_path]


@needs_permissions
def test_permissions_of_the_system(tmp_path):
    (tmp_path / "old.csv").write_text("old")
    (tmp_path / "old.csv").chmod(0o444)
    with pytest.raises(OSError, match="the file is read-only"):
        check_output(tmp_path / "old.csv")
    tmp_path.chmod(0o555)
    with pytest.raises(OSError, match="is read-only; name a file elsewhere"):
        check_output(tmp_path / "new.csv")
    tmp_path.chmod(0o755)


@pytest.mark.parametrize("link", [False, True])
def test_what_is_read_is_not_replaced(tmp_path, link):
    table, out = tmp_path / "rows.csv", tmp_path / ("link.csv" if link else "rows.csv")
    table.write_text("rows")
    if link:
        out.symlink_to(table)
    with pytest.raises(OSError, match=r"is the table itself, and would be lost: name another"):
        check_output(out, model=tmp_path / "m.npz", table=table)


def test_what_another_command_wrote_is_not_replaced(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "precious").write_text("a,b\n1,2\n")
    np.save(tmp_path / "precious.npy", np.eye(2))
    os.rename(tmp_path / "precious.npy", tmp_path / "precious.npz")
    (tmp_path / "keep.npz").write_bytes((folder / "people.npz").read_bytes())
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    train = ["train", str(folder / "houses.csv"), "--target", "price"]
    predict = ["predict", str(folder / "houses.npz"), str(folder / "new.csv")]
    for words, out, what in (
        (train, "precious", "a text file, or a file of another program"),
        (train, "precious.npz", "a NumPy array"),
        (predict, "keep.npz", "a file that minigd saved, such as a model"),
    ):
        assert main([*words, "--out", out]) == 1
        assert capsys.readouterr().err == (
            f"minigd: '{out}' can't be written: it exists, and is {what}; name another "
            "file, or remove it first\n"
        )
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_what_the_same_command_wrote_is_replaced_and_so_is_nothing(folder, tmp_path):
    quick = ["--exclude", "id,date", "--hidden", "0", "--epochs", "1"]
    train = ["train", str(folder / "houses.csv"), "--target", "price", *quick]
    predict = ["predict", str(folder / "houses.npz"), str(folder / "new.csv")]
    for words, name in ((train, "m.npz"), (predict, "p.csv")):
        (tmp_path / name).touch()  # an empty file, as from mktemp
        for _ in range(2):
            assert main([*words, "--out", str(tmp_path / name)]) == 0
            assert (tmp_path / name).stat().st_size > 0


# Pictures ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["r.foo", "r", "r.PNG.gz", ".png", "r.pgf", "r."])
def test_a_picture_has_an_ending_that_can_be_drawn(tmp_path, name):
    pytest.importorskip("matplotlib")
    with pytest.raises(OSError, match=r"does not name a picture: it must end in \.png, \.svg"):
        check_picture(tmp_path / name)


@pytest.mark.parametrize("name", ["r.png", "r.PNG", "r.svg", "r.pdf", "two.dots.jpg"])
def test_a_picture_of_a_good_name_can_be_drawn(tmp_path, name):
    figure = pytest.importorskip("matplotlib.figure").Figure(figsize=(1, 1))
    check_picture(tmp_path / name)
    figure.savefig(tmp_path / name)


def test_a_picture_needs_a_folder_and_matplotlib(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    with pytest.raises(OSError, match="there is no folder"):
        check_picture(tmp_path / "none" / "r.png")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(
        ImportError,
        match=r"Matplotlib is not installed, and a picture needs it: `pip install matplotlib`",
    ):
        check_picture(tmp_path / "r.png")


# Before any work ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["train", "rows.csv", "--target", "y", "--out"], "p.npz"),
        (["predict", "m.npz", "rows.csv", "--out"], "p.csv"),
        (["race", "rows.csv", "--target", "y", "--out"], "p.png"),
        (["demo", "--out"], "p.png"),
    ],
    ids=["train", "predict", "race", "demo"],
)
def test_the_place_is_looked_at_first(tmp_path, monkeypatch, capsys, arguments, name):
    pytest.importorskip("matplotlib")
    pytest.importorskip("sklearn")
    monkeypatch.chdir(tmp_path)  # table and model are missing, but are not read
    assert main([*arguments, os.path.join("none", "deep", name)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"minigd: '{os.path.join('none', 'deep', name)}' can't be written: ")
    assert f"no folder '{tmp_path / 'none' / 'deep'}'" in err
    assert os.listdir(tmp_path) == []


def test_a_training_does_not_replace_its_own_table(tmp_path, capsys):
    path = tmp_path / "rows"
    path.write_text("a,y\n1,2\n")
    assert main(["train", str(path), "--target", "y", "--out", str(path)]) == 1
    assert "is the table itself, and would be lost" in capsys.readouterr().err
    assert path.read_text() == "a,y\n1,2\n"
