"""Predictions are in the units of the target, one line per row, by the names of columns."""

import csv
import io
import os

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

import minigd as gd
from minigd.cli.main import main
from minigd.cli.predict import predict
from minigd.cli.tables import Reading
from minigd.cli.train import train
from minigd.cli.trained import load_table


def predicted(model, data, out, **reading):
    """Return how many rows were predicted, and the lines."""
    done = predict(model, data, out, **reading)
    with open(out, newline="", encoding="utf-8") as file:
        return done, list(csv.reader(file))


def test_prices_come_in_dollars(folder, tmp_path):
    new = pd.read_csv(folder / "new.csv")
    done, (header, *lines) = predicted(folder / "houses.npz", folder / "new.csv", tmp_path / "p")
    assert (done, header) == (100, ["prediction"])
    prices = np.array(lines, dtype=float)[:, 0]
    error = new["price"] - prices
    assert 1 - (error**2).sum() / ((new["price"] - new["price"].mean()) ** 2).sum() > 0.9
    model = gd.load(folder / "houses.npz")
    heating = [(new["heating"] == kind).to_numpy() for kind in ("gas", "none", "oil")]
    x = np.column_stack([new["area"], new["grade"], *heating]).astype("float32")
    np.testing.assert_array_equal(prices.astype("float32"), model.predict(x)[:, 0])


def test_the_order_of_columns_and_what_else_is_there_change_nothing(folder, tmp_path):
    new = pd.read_csv(folder / "new.csv")
    _, expected = predicted(folder / "houses.npz", folder / "new.csv", tmp_path / "p")
    other = new[["heating", "grade", "id", "area"]].assign(note="a, b", more=[None] * 100)
    other.to_csv(tmp_path / "other.csv", index=False)
    assert predicted(folder / "houses.npz", tmp_path / "other.csv", tmp_path / "p")[1] == expected
    other.drop(columns="more").to_parquet(tmp_path / "other.parquet")
    by_parquet = predicted(folder / "houses.npz", tmp_path / "other.parquet", tmp_path / "p")
    assert by_parquet[1] == expected
    other.to_csv(tmp_path / "other.tsv", index=False, sep="\t")
    by_tab = predicted(
        folder / "houses.npz", tmp_path / "other.tsv", tmp_path / "p", separator="\t"
    )
    assert by_tab[1] == expected


def test_a_column_that_is_missing_is_named_and_nothing_is_written(folder, tmp_path, capsys):
    path, out = tmp_path / "new.csv", tmp_path / "p.csv"
    pd.read_csv(folder / "new.csv").drop(columns="grade").to_csv(path, index=False)
    out.write_text("old")
    assert main(["predict", str(folder / "houses.npz"), str(path), "--out", str(out)]) == 1
    assert capsys.readouterr().err == (
        f"minigd: {path}, line 1: there is no column 'grade'; the columns are id, date, price, "
        "area, heating\n"
    )
    assert out.read_text() == "old"


def test_an_error_far_down_leaves_the_old_predictions(folder, tmp_path, monkeypatch, capsys):
    out = tmp_path / "p.csv"
    out.write_text("old")
    monkeypatch.setattr(gd.Sequential, "predict", lambda self, x: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        predict(folder / "houses.npz", folder / "new.csv", out)
    assert out.read_text() == "old"
    assert os.listdir(tmp_path) == ["p.csv"]


def test_classes_have_their_names_and_probabilities(folder, tmp_path):
    data = tmp_path / "people.data"
    data.write_text("".join(f"{age}, Private, {hours}\n" for age, hours in [(20, 15), (75, 65)]))
    columns = ("age", "work", "hours")
    done, lines = predicted(folder / "people.npz", data, tmp_path / "p", columns=columns)
    assert done == 2
    assert lines[0] == ["prediction", "probability_<=50K", "probability_>50K"]
    assert [line[0] for line in lines[1:]] == ["<=50K", ">50K"]
    p = np.array([line[1:] for line in lines[1:]], dtype=float)
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-6)
    assert (p.argmax(axis=1) == [0, 1]).all()


@pytest.mark.parametrize("logit", [-90, -20, 0, 0.5, 20, 90])
def test_both_probabilities_of_two_classes_have_their_digits(tmp_path, logit):
    (tmp_path / "rows.csv").write_text("a,k\n" + "0,no\n1,yes\n" * 20)
    train(tmp_path / "rows.csv", "k", tmp_path / "m.npz", epochs=1, hidden=[], progress=False)
    trained = load_table(tmp_path / "m.npz")
    trained.model.params["dense1.W"][...] = 0
    trained.model.params["dense1.b"][...] = logit
    trained.save(tmp_path / "m.npz")
    _, (header, *lines) = predicted(tmp_path / "m.npz", tmp_path / "rows.csv", tmp_path / "p")
    assert header == ["prediction", "probability_no", "probability_yes"]
    expected = [expit(-logit), expit(logit)]
    for label, *p in lines:
        assert label == ("yes" if logit > 0 else "no")
        # Below 1e-38 a float32 has fewer digits.
        assert [float(each) for each in p] == pytest.approx(expected, rel=1e-6, abs=1e-44)


def test_several_classes(tmp_path):
    rng = np.random.default_rng(0)
    k = rng.integers(0, 3, 300)
    rows = pd.DataFrame({"a": k + 0.2 * rng.random(300), "k": np.array([10, 20, 5])[k]})
    rows.to_csv(tmp_path / "rows.csv", index=False)
    model = tmp_path / "m.npz"
    train(tmp_path / "rows.csv", "k", model, hidden=[16], epochs=60, progress=False)
    _, (header, *lines) = predicted(model, tmp_path / "rows.csv", tmp_path / "p")
    assert header == ["prediction", "probability_5", "probability_10", "probability_20"]
    assert np.mean([int(line[0]) for line in lines] == rows["k"]) > 0.95
    x = rows[["a"]].to_numpy("float32")
    np.testing.assert_array_equal(
        np.array([line[1:] for line in lines], "float32"), gd.load(model).predict(x)
    )


def test_labels_with_commas_and_quotes_are_quoted(tmp_path):
    rows = "a,k\n" + '1,"x, y"\n2,"say ""z"""\n' * 20
    (tmp_path / "rows.csv").write_text(rows)
    train(tmp_path / "rows.csv", "k", tmp_path / "m.npz", epochs=1, seed=1, progress=False)
    (tmp_path / "many.csv").write_text(rows)
    _, lines = predicted(tmp_path / "m.npz", tmp_path / "many.csv", tmp_path / "p")
    assert lines[0] == ["prediction", 'probability_say "z"', "probability_x, y"]
    assert {line[0] for line in lines[1:]} <= {'say "z"', "x, y"}


# A file without header ---------------------------------------------------------------------------


def test_a_file_without_header_is_read_with_the_columns_of_the_training(folder, tmp_path):
    _, by_names = predicted(folder / "people.npz", folder / "people.data", tmp_path / "p")
    frame = pd.read_csv(
        folder / "people.data", names=["age", "work", "hours", "income"], skipinitialspace=True
    )
    frame[["hours", "work", "age"]].to_csv(tmp_path / "with.csv", index=False)
    assert predicted(folder / "people.npz", tmp_path / "with.csv", tmp_path / "p")[1] == by_names


def test_what_means_missing_is_remembered(folder, tmp_path):
    assert load_table(folder / "people.npz").schema.levels == {
        "work": ["Private", "State-gov", "missing"]
    }
    data = tmp_path / "one.csv"
    for value in ("?", "", "NA"):
        data.write_text(f"age,work,hours\n40,{value},40\n41,Private,41\n")
        assert predicted(folder / "people.npz", data, tmp_path / "p")[0] == 2
    done, lines = predicted(folder / "people.npz", data, tmp_path / "p", na=("40",))
    assert done == 2
    assert "" not in lines[1]


# Rows that the model can't take ------------------------------------------------------------------


def test_every_row_has_a_prediction_and_what_is_new_in_it_is_said(folder, tmp_path, capsys):
    data = tmp_path / "new.csv"
    data.write_text("area,grade,heating\n100,7,gas\n,7,gas\n100,7,sun\n100,7,oil\n100,7,\n")
    out = str(tmp_path / "p.csv")
    assert main(["predict", str(folder / "houses.npz"), str(data), "--out", out]) == 0
    text = (tmp_path / "p.csv").read_text().splitlines()
    assert [bool(line) for line in csv.reader(text)] == [True, True, True, True, True, True]
    cells = [line[0] for line in csv.reader(text)][1:]
    assert np.isfinite(np.array(cells, float)).all()
    assert capsys.readouterr().err == (
        "missing values: area 1, heating 1; a missing number is the mean, and a column that marks "
        "them, a missing category has its own level\n"
        "1 value of 'heating' is not among its 3 levels, and counts as other\n"
    )


def test_rows_are_left_out_where_the_model_was_trained_so(folder, tmp_path, capsys):
    model, data, out = str(tmp_path / "m.npz"), tmp_path / "new.csv", tmp_path / "p.csv"
    table = str(folder / "houses.csv")
    words = ["train", table, "--target", "price", "--exclude", "id,date", "--epochs", "1"]
    assert main([*words, "--missing", "drop", "--out", model]) == 0
    capsys.readouterr()
    data.write_text("area,grade,heating\n100,7,gas\n,7,gas\n100,7,oil\n")
    assert main(["predict", model, str(data), "--out", str(out)]) == 0
    lines = out.read_text().splitlines()
    assert [line != '""' for line in lines] == [True, True, False, True]
    assert "1 of 3 rows is left out: " in capsys.readouterr().err
    data.write_text("area,grade,heating\n,7,gas\n")
    with pytest.raises(gd.DataError, match=r"no rows .* once 1 with a missing value is dropped"):
        predict(model, data, tmp_path / "q")
    assert not (tmp_path / "q").exists()


@pytest.mark.few(1)
@pytest.mark.parametrize("block", [1, 50, 1 << 20])
def test_rows_stream_by(folder, tmp_path, monkeypatch, block):
    # The table is read in blocks, and as many rows are predicted at once as in an array.
    monkeypatch.setattr("minigd.cli.trained.ROWS", 30)
    _, expected = predicted(folder / "houses.npz", folder / "new.csv", tmp_path / "p")
    sizes = []
    whole = gd.Sequential.predict

    def noting(self, x):
        sizes.append(len(x))
        return whole(self, x)

    source = gd.CsvSource
    monkeypatch.setattr(gd.Sequential, "predict", noting)
    monkeypatch.setattr(
        "minigd.cli.tables.CsvSource", lambda *a, **k: source(*a, **k, block_size=block)
    )
    _, lines = predicted(folder / "houses.npz", folder / "new.csv", tmp_path / "q")
    assert sizes == [30, 30, 30, 10]
    assert lines == expected


# Where it goes -----------------------------------------------------------------------------------


def test_without_out_it_goes_to_standard_output(folder, tmp_path, capsys):
    assert main(["predict", str(folder / "houses.npz"), str(folder / "new.csv")]) == 0
    out, err = capsys.readouterr()
    _, lines = predicted(folder / "houses.npz", folder / "new.csv", tmp_path / "p")
    assert list(csv.reader(io.StringIO(out))) == lines
    assert err == ""


def test_a_table_is_not_replaced_by_its_predictions(folder, tmp_path, capsys):
    data = tmp_path / "new.csv"
    data.write_bytes((folder / "new.csv").read_bytes())
    assert main(["predict", str(folder / "houses.npz"), str(data), "--out", str(data)]) == 1
    assert "is the table itself" in capsys.readouterr().err
    assert data.read_bytes() == (folder / "new.csv").read_bytes()


def test_a_model_is_not_replaced_by_its_predictions(folder, tmp_path, capsys):
    model = tmp_path / "m.npz"
    model.write_bytes((folder / "houses.npz").read_bytes())
    assert main(["predict", str(model), str(folder / "new.csv"), "--out", str(model)]) == 1
    assert "m.npz' is the model itself, and would be lost" in capsys.readouterr().err
    assert model.read_bytes() == (folder / "houses.npz").read_bytes()


@pytest.mark.skipif(not os.path.exists("/dev/null"), reason="there is no /dev/null")
def test_a_device_is_written_to_and_not_replaced(folder):
    assert predict(folder / "houses.npz", folder / "new.csv", "/dev/null") == 100
    assert not os.path.isfile("/dev/null")


def test_a_link_is_followed(folder, tmp_path):
    (tmp_path / "p").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "p")
    predict(folder / "houses.npz", folder / "new.csv", tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "p").read_text().startswith("prediction\n")


def test_arrays_are_predicted_by_number_or_by_name(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 3))
    X[:, 1] = X[:, 0] - 2 * X[:, 2]
    np.save(tmp_path / "rows.npy", X)
    train(tmp_path / "rows.npy", "1", tmp_path / "m.npz", epochs=40, progress=False)
    _, expected = predicted(tmp_path / "m.npz", tmp_path / "rows.npy", tmp_path / "p")
    assert np.corrcoef(np.array(expected[1:], float)[:, 0], X[:, 1])[0, 1] > 0.98
    np.save(tmp_path / "two.npy", X[:, [2, 0]])
    with pytest.raises(gd.DataError, match="there is no column '2'; the columns are 0, 1"):
        predict(tmp_path / "m.npz", tmp_path / "two.npy", tmp_path / "p")
    named = predicted(tmp_path / "m.npz", tmp_path / "two.npy", tmp_path / "p", columns=("2", "0"))
    assert named[1] == expected
    pd.DataFrame(X, columns=["0", "1", "2"]).to_csv(tmp_path / "rows.csv", index=False)
    from_text = predicted(tmp_path / "m.npz", tmp_path / "rows.csv", tmp_path / "p")
    assert from_text[1] == expected


def test_a_model_needs_nothing_but_its_file(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("a;k\n" + "1;x\n2;y\n3;x\n" * 30)
    train(path, "k", tmp_path / "m.npz", reading=Reading(separator=";"), epochs=1, progress=False)
    path.unlink()
    (tmp_path / "new.csv").write_text("a;b\n5;1\n")
    assert predicted(tmp_path / "m.npz", tmp_path / "new.csv", tmp_path / "p")[0] == 1
