"""Loss and metrics are those of the rows of the table, whoever wrote it."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

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
    assert "1 value of 'heating' is not among its 3 levels, and counts as other" in err
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


# What is measured --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def labeled(tmp_path_factory):
    """Return a folder with a table of two classes, of which "bad" is rarer, and models of it."""
    folder = tmp_path_factory.mktemp("labeled")
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=60), "price": rng.normal(size=60).round(2)})
    frame["label"] = np.where(frame["a"] + rng.normal(size=60) > 0.5, "bad", "good")
    frame.to_csv(folder / "t.csv", index=False)
    for name, target, measured in (
        ("label", "label", ["accuracy"]),
        ("good", "label", [gd.metrics.F1(positive=1)]),
        ("price", "price", ["mae"]),
    ):
        source = gd.FrameSource(frame[["a", target]], target=target)
        last, loss = [gd.Dense(1)], "mse"
        if target == "label":
            last, loss = [*last, gd.Sigmoid()], "binary_crossentropy"
        model = gd.Sequential(last, inputs=1, seed=1)
        model.fit(source, loss=loss, updater=gd.SGD(0.5), metrics=measured, epochs=4)
        gd.TableModel(model, source.schema).save(folder / f"{name}.npz")
    return folder


def evaluated(labeled, capsys, model, *words, code=0):
    capsys.readouterr()
    files = [str(labeled / f"{model}.npz"), str(labeled / "t.csv")]
    assert main(["evaluate", *files, *words]) == code
    return capsys.readouterr()


def test_metrics_are_those_that_are_named(labeled, capsys):
    frame = pd.read_csv(labeled / "t.csv")
    trained = gd.load_table(labeled / "label.npz")
    found, true = trained.predict(frame), frame["label"]
    p = trained.predict_proba(frame)[:, trained.classes.index("bad")]
    words = ["--metrics", "precision,f1", "--metrics", "roc_auc", "--json"]
    out, err = evaluated(labeled, capsys, "label", *words)
    assert err == "precision and f1 are of the class 'bad'\n"
    scores = json.loads(out)["scores"]
    assert list(scores) == ["loss", "precision", "f1", "roc_auc"]
    assert scores["precision"] == pytest.approx(
        metrics.precision_score(true, found, pos_label="bad"), rel=1e-5
    )
    assert scores["f1"] == pytest.approx(metrics.f1_score(true, found, pos_label="bad"), rel=1e-5)
    assert scores["roc_auc"] == pytest.approx(metrics.roc_auc_score(true == "bad", p), rel=1e-5)
    # They are for the class that the training measured, if it measured one.
    out, err = evaluated(labeled, capsys, "good", "--metrics", "recall", "--json")
    assert err == "recall is of the class 'good'\n"
    assert json.loads(out)["scores"]["recall"] == pytest.approx(
        metrics.recall_score(true, found, pos_label="good"), rel=1e-5
    )
    out, err = evaluated(labeled, capsys, "good")
    assert out.startswith("60 rows: loss ")
    assert (out.split()[-2], err) == ("f1", "f1 is of the class 'good'\n")


def test_metrics_of_a_number_are_in_its_units(labeled, capsys):
    frame = pd.read_csv(labeled / "t.csv")
    error = frame["price"] - gd.load_table(labeled / "price.npz").predict(frame)
    out, err = evaluated(labeled, capsys, "price", "--metrics", "rmse,r2", "--json")
    scores = json.loads(out)["scores"]
    assert (list(scores), err) == (["loss", "rmse", "r2"], "")
    assert scores["rmse"] == pytest.approx(np.sqrt((error**2).mean()), rel=1e-5)
    names = "median_absolute_error,explained_variance"
    out, err = evaluated(labeled, capsys, "price", "--metrics", names, "--json")
    scores = json.loads(out)["scores"]
    assert scores["median_absolute_error"] == pytest.approx(np.median(abs(error)), rel=1e-5)
    expected = 1 - error.var() / frame["price"].var()
    assert scores["explained_variance"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("model", "given", "message"),
    [
        ("label", "mae", "--metrics: mae does not measure a classification; give accuracy,"),
        ("price", "f1", "--metrics: f1 does not measure a regression; give r2, mae,"),
    ],
)
def test_a_metric_of_another_task_is_refused_before_the_table_is_read(
    labeled, capsys, model, given, message, monkeypatch
):
    monkeypatch.setattr(gd.TableModel, "open", lambda *a, **k: 1 / 0)
    for more in ([], ["--json"]):
        out, err = evaluated(labeled, capsys, model, "--metrics", given, *more, code=1)
        assert out == ""
        assert err.startswith(f"minigd: {message}")


# A wrong target ----------------------------------------------------------------------------------


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


def test_lines_above_the_header_are_named_before_the_target(folder, tmp_path, capsys):
    path = tmp_path / "titled.csv"
    path.write_text("Houses of 2024\n" + (folder / "new.csv").read_text())
    command = ["evaluate", str(folder / "houses.npz"), str(path)]
    assert main(command) == 1
    assert capsys.readouterr().err.endswith("; if line 1 is not a row, pass --skip-lines 1\n")
    assert main([*command, "--skip-lines", "1"]) == 0
