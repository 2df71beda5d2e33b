"""Loss and metrics are those of the rows of the table, whoever wrote it."""

import numpy as np
import pandas as pd
import pytest

import minigd as gd
from minigd.cli.evaluate import evaluate
from minigd.cli.main import main
from minigd.cli.train import train


def test_figures_of_numbers_are_those_by_hand(folder):
    rows, values = evaluate(folder / "houses.npz", folder / "new.csv")
    new = pd.read_csv(folder / "new.csv")
    y = new["price"].to_numpy()
    heating = [(new["heating"] == kind).to_numpy() for kind in ("gas", "none", "oil")]
    x = np.column_stack([new["area"], new["grade"], *heating]).astype("float32")
    error = y - gd.load(folder / "houses.npz").predict(x)[:, 0].astype(float)
    assert rows == 100
    assert values["mae"] == pytest.approx(np.abs(error).mean(), rel=1e-5)
    assert values["rmse"] == pytest.approx(np.sqrt((error**2).mean()), rel=1e-5)
    assert values["r2"] == pytest.approx(1 - (error**2).sum() / ((y - y.mean()) ** 2).sum())


def test_a_test_file_of_its_publisher_as_it_is(folder, capsys):
    command = ["evaluate", str(folder / "people.npz"), str(folder / "people.test")]
    assert main([*command, "--skip-lines", "1", "--strip", "."]) == 0
    rows, accuracy = capsys.readouterr().out.strip().split(" rows: ")
    assert rows == "200"
    assert float(accuracy.rpartition(" ")[2]) > 0.9
    assert main(command) == 1
    assert capsys.readouterr().err.endswith(
        "line 1: the row has 1 field, and the table has 4 columns; if line 1 is not a row, pass "
        "--skip-lines 1\n"
    )
    assert main([*command, "--skip-lines", "1"]) == 1
    err = capsys.readouterr().err
    assert "line 2, column 'income': '" in err
    assert err.endswith("50K'; if '.' at its end doesn't belong to it, pass --strip .\n")
    assert main([*command, "--skip-lines", "1", "--strip", "."]) == 0


def test_rows_without_a_target_are_left_out_and_what_is_filled_is_counted(folder, tmp_path, capsys):
    new = pd.read_csv(folder / "new.csv")
    new.loc[3, "heating"], new.loc[5, "area"] = "sun", np.nan
    new.to_csv(tmp_path / "gaps.csv", index=False)
    rows, _ = evaluate(folder / "houses.npz", tmp_path / "gaps.csv")
    err = capsys.readouterr().err
    assert "missing values: area 1; a missing number is the mean" in err
    assert "1 value of 'heating' is none of its 3 levels, and counts as other" in err
    assert rows == 100
    new.loc[8, "price"] = np.nan
    new.to_csv(tmp_path / "gaps.csv", index=False)
    assert evaluate(folder / "houses.npz", tmp_path / "gaps.csv")[0] == 99
    assert "1 of 100 rows is left out: " in capsys.readouterr().err


def test_the_target_may_have_another_name(folder, tmp_path):
    new = pd.read_csv(folder / "new.csv").rename(columns={"price": "sold_for"})
    new.to_csv(tmp_path / "sold.csv", index=False)
    expected = evaluate(folder / "houses.npz", folder / "new.csv")
    assert evaluate(folder / "houses.npz", tmp_path / "sold.csv", "sold_for") == expected
    with pytest.raises(gd.DataError, match="there is no column 'price'; the columns are id, date"):
        evaluate(folder / "houses.npz", tmp_path / "sold.csv")


def test_targets_in_an_array_of_their_own(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 2))
    for name, k in (("y", X[:, 0] > 0), ("labels", X[:, 0] > 0)):
        np.save(tmp_path / f"{name}.npy", k.astype(int))
    np.save(tmp_path / "X.npy", X)
    train(
        tmp_path / "X.npy", str(tmp_path / "y.npy"), tmp_path / "m.npz", epochs=60, progress=False
    )
    rows, values = evaluate(tmp_path / "m.npz", tmp_path / "X.npy", str(tmp_path / "labels.npy"))
    assert rows == 200
    assert values["accuracy"] > 0.9


# A target that is none ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_target_that_holds_text_is_named_with_a_value(folder, tmp_path, capsys, kind):
    new = pd.read_csv(folder / "new.csv").assign(city="Rome")
    path = tmp_path / f"new.{kind}"
    new.to_csv(path, index=False) if kind == "csv" else new.to_parquet(path)
    assert main(["evaluate", str(folder / "houses.npz"), str(path), "--target", "city"]) == 1
    err = capsys.readouterr().err
    assert "column 'city': 'Rome' is not a number" in err
    assert "; --target names the column that holds 'price', which the model predicts\n" in err


@pytest.mark.parametrize("column", ["heating", "area"])
def test_a_column_that_the_model_learned_from_is_no_target(folder, capsys, column):
    model, data = str(folder / "houses.npz"), str(folder / "new.csv")
    assert main(["evaluate", model, data, "--target", column]) == 1
    assert capsys.readouterr() == (
        "",
        f"minigd: the column '{column}' is a feature of the model, not its target; "
        "--target names the column that holds 'price'\n",
    )


def test_a_target_that_is_missing_may_have_another_name(folder, tmp_path, capsys):
    path = tmp_path / "new.csv"
    pd.read_csv(folder / "new.csv").drop(columns="price").to_csv(path, index=False)
    assert main(["evaluate", str(folder / "houses.npz"), str(path)]) == 1
    err = capsys.readouterr().err
    assert "there is no column 'price'; the columns are id, date, area" in err
    assert "--target names the column that holds 'price', which the model predicts" in err


def test_another_column_that_is_at_fault_is_no_matter_of_the_target(folder, tmp_path, capsys):
    path = tmp_path / "new.csv"
    new = pd.read_csv(folder / "new.csv")
    new.drop(columns="grade").to_csv(path, index=False)
    assert main(["evaluate", str(folder / "houses.npz"), str(path)]) == 1
    new.assign(grade="good").to_csv(path, index=False)
    assert main(["evaluate", str(folder / "houses.npz"), str(path)]) == 1
    err = capsys.readouterr().err
    assert "no column 'grade'" in err
    assert "column 'grade': 'good' is not a number" in err
    assert "--target" not in err
