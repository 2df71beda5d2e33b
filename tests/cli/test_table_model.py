"""A model that knows its table takes rows from Python, and predicts like `minigd predict`."""

import csv
import datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy.special import expit, softmax

import minigd as gd
from minigd.cli.main import main
from minigd.cli.predict import predict


@pytest.fixture(scope="module")
def houses(folder):
    return gd.load_table(folder / "houses.npz")


@pytest.fixture(scope="module")
def people(folder):
    return gd.load_table(folder / "people.npz")


def written(model, data, out, **reading):
    """Return the lines of `minigd predict` below the header."""
    predict(model, data, out, **reading)
    with open(out, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))[1:]


# With gaps, an unknown category, columns in another order, and additional columns.
ROWS = pd.DataFrame(
    {
        "note": ["a", "b", "c", "d", "e"],
        "heating": ["gas", "sun", None, "oil", "none"],
        "grade": [7, 8, 3, 11, 5],
        "area": [100.5, 200.0, np.nan, 51.0, 399.0],
    }
)


def as_rows(frame):
    """Return a dict per row, with None for missing values."""
    return frame.astype(object).where(frame.notna(), None).to_dict("records")


FEATURES = ["area", "grade", "heating"]
FORMS = {
    "pandas": lambda f: f,
    "pandas with an index": lambda f: f.set_index(np.array([9, 9, 1, 2, 3])),
    "pandas categories": lambda f: f.astype({"heating": "category"}),
    "pandas of Arrow": lambda f: f.convert_dtypes(dtype_backend="pyarrow"),
    "a table of Arrow": lambda f: pa.Table.from_pandas(f),
    "a batch of Arrow": lambda f: pa.RecordBatch.from_pandas(f),
    "a dict of columns": lambda f: {name: f[name].to_numpy() for name in f},
    "a dict of lists": lambda f: {name: f[name].tolist() for name in f},
    "dicts": as_rows,
    "dicts without what is missing": lambda f: [
        {name: value for name, value in row.items() if value is not None} for row in as_rows(f)
    ],
    "a generator of dicts": lambda f: iter(as_rows(f)),
    "lists in the schema's order": lambda f: [list(r.values()) for r in as_rows(f[FEATURES])],
    "an array in the schema's order": lambda f: f[FEATURES].to_numpy(),
    "a structured array": lambda f: f.to_records(index=False),
}


@pytest.mark.few
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_rows_of_any_form_are_predicted_as_by_the_command(houses, folder, tmp_path, form):
    ROWS.to_csv(tmp_path / "rows.csv", index=False)
    lines = written(folder / "houses.npz", tmp_path / "rows.csv", tmp_path / "p")
    found = houses.predict(form(ROWS))
    assert found.shape == (5,)
    assert found.dtype == "float32"
    assert found.astype(str).tolist() == [line[0] for line in lines]


def test_polars_is_taken(houses):
    polars = pytest.importorskip("polars")
    frame = polars.from_pandas(ROWS)
    for given in (frame, frame.lazy()):
        np.testing.assert_array_equal(houses.predict(given), houses.predict(ROWS))


def test_a_file_is_taken_as_by_the_command(houses, people, folder, tmp_path):
    lines = written(folder / "houses.npz", folder / "new.csv", tmp_path / "p")
    assert houses.predict(folder / "new.csv").astype(str).tolist() == [line[0] for line in lines]
    options = {"skip_lines": 1, "strip": "."}
    lines = written(folder / "people.npz", folder / "people.test", tmp_path / "p", **options)
    assert people.predict(str(folder / "people.test"), **options).tolist() == [
        line[0] for line in lines
    ]
    p = people.predict_proba(folder / "people.test", **options)
    assert p.astype(str).tolist() == [line[1:] for line in lines]


def test_files_may_be_several(houses, folder, tmp_path, monkeypatch):
    new = pd.read_csv(folder / "new.csv")
    for name, part in (("a", new[:30]), ("b", new[30:])):
        part.to_csv(tmp_path / f"{name}.csv", index=False)
    expected = pytest.approx(houses.predict(new), rel=1e-5)
    monkeypatch.setenv("HOME", str(tmp_path))
    for several in ([tmp_path / "a.csv", str(tmp_path / "b.csv")], f"{tmp_path}/?.csv", "~"):
        assert houses.predict(several) == expected


def test_one_row_may_be_a_dict_or_a_series(houses):
    # A product of one row may be rounded differently from one of several rows.
    expected = pytest.approx(houses.predict(ROWS)[:1], rel=1e-5)
    row = {"area": 100.5, "grade": 7, "heating": "gas"}
    for one in (row, [row], ROWS.iloc[0]):
        assert houses.predict(one) == expected


def test_columns_that_are_numbers_alone_may_be_an_array_of_any_dtype(tmp_path):
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(size=(60, 3)).round(2), columns=["a", "y", "b"])
    table.to_csv(tmp_path / "t.csv", index=False)
    words = ["train", str(tmp_path / "t.csv"), "--target", "y", "--epochs", "1", "--hidden", "4"]
    assert main([*words, "--out", str(tmp_path / "m.npz")]) == 0
    trained = gd.load_table(tmp_path / "m.npz")
    expected = trained.predict(tmp_path / "t.csv")
    for dtype in ("float32", "float64", object):
        X = table[["a", "b"]].to_numpy(dtype)
        np.testing.assert_array_equal(trained.predict(X), expected)
        np.testing.assert_array_equal(trained.predict(X.tolist()), expected)
    np.testing.assert_array_equal(trained.predict(np.asfortranarray(X[::-1]))[::-1], expected)
    with pytest.raises(gd.ShapeError, match=r"\(60, 3\).*rows of 2 values, in this order: a, b"):
        trained.predict(table.to_numpy())
    with pytest.raises(gd.ShapeError, match=r"\(2,\).*For one row, give \[row\]"):
        trained.predict([1.0, 2.0])


# Classes ---------------------------------------------------------------------------------------


def test_classes_come_by_name_with_their_probabilities(people):
    rows = [{"age": 20, "work": "Private", "hours": 15}, {"age": 75, "work": None, "hours": 65}]
    assert people.classes == ["<=50K", ">50K"]
    assert people.predict(rows).tolist() == ["<=50K", ">50K"]
    p = people.predict_proba(rows)
    assert p.shape == (2, 2)
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-6)
    assert (p.argmax(axis=1) == [0, 1]).all()


def test_whole_numbers_stay_whole_numbers(tmp_path):
    k = np.random.default_rng(0).integers(0, 3, 200)
    table = pd.DataFrame({"a": k + np.arange(200) / 1000, "k": np.array([10, 20, 5])[k]})
    table.to_csv(tmp_path / "t.csv", index=False)
    words = ["train", str(tmp_path / "t.csv"), "--target", "k", "--epochs", "40"]
    assert main([*words, "--out", str(tmp_path / "m.npz")]) == 0
    trained = gd.load_table(tmp_path / "m.npz")
    assert trained.classes == [5, 10, 20]
    assert (trained.predict(table) == table["k"]).mean() > 0.95
    assert trained.predict(table).dtype.kind == "i"
    assert trained.evaluate(table)["accuracy"] > 0.95


def test_a_number_has_no_probabilities(houses):
    assert houses.classes is None
    with pytest.raises(TypeError, match=r"predicts 'price', a number.*use predict"):
        houses.predict_proba(ROWS)


K2 = {"a": [0.0, 1.0, 2.0, 3.0], "k": ["x", "y", "x", "y"]}
K3 = {"a": [0.0, 1.0, 2.0, 3.0], "k": ["x", "y", "z", "y"]}
HEADS = {
    "sigmoid": (K2, lambda: [gd.Dense(1), gd.Sigmoid()], "binary_crossentropy", False),
    "one logit": (K2, lambda: [gd.Dense(1)], gd.BinaryCrossEntropy(from_logits=True), False),
    "softmax of two": (K2, lambda: [gd.Dense(2), gd.Softmax()], "categorical_crossentropy", True),
    "softmax": (K3, lambda: [gd.Dense(3), gd.Softmax()], "categorical_crossentropy", True),
    "logits": (K3, lambda: [gd.Dense(3)], gd.CategoricalCrossEntropy(from_logits=True), True),
}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_a_model_trained_from_python_knows_its_table(tmp_path, head):
    table, layers, loss, several = head
    source = gd.IterableSource([table], target="k")
    model = gd.Sequential(layers(), inputs=1, seed=1)
    model.fit(source, loss=loss, shuffle=False)
    z = np.array(table["a"])[:, None] @ model.params["dense1.W"] + model.params["dense1.b"]
    p = softmax(z, axis=1) if several else np.hstack([expit(-z), expit(z)])
    gd.TableModel(model, source.schema).save(tmp_path / "m.npz")
    trained = gd.load_table(tmp_path / "m.npz")
    np.testing.assert_allclose(trained.predict_proba(table), p, rtol=1e-5)
    assert trained.predict(table).tolist() == [trained.classes[k] for k in p.argmax(axis=1)]
    assert gd.load(tmp_path / "m.npz").n_in == 1


@pytest.mark.parametrize(
    ("layers", "inputs", "message"),
    [
        ([gd.Dense(1), gd.Sigmoid()], 2, "1 columns of x, but the model has 2 inputs"),
        ([gd.Dense(3), gd.Softmax()], 1, "there are 2 classes, but the model has 3 outputs"),
        ([gd.Dense(1)], 1, "classes, but the model ends in neither Sigmoid nor Softmax"),
    ],
)
def test_a_model_and_a_schema_that_do_not_fit_are_refused(layers, inputs, message):
    source = gd.IterableSource([K2], target="k")
    with pytest.raises(gd.ShapeError, match=message):
        gd.TableModel(gd.Sequential(layers, inputs), source.schema)


# Evaluation ------------------------------------------------------------------------------------


def test_scores_are_those_of_the_command(houses, folder, capsys):
    assert main(["evaluate", str(folder / "houses.npz"), str(folder / "new.csv")]) == 0
    new = pd.read_csv(folder / "new.csv")
    scores = houses.evaluate(new)
    shown = capsys.readouterr().out
    assert f"r2 {scores['r2']:.4g}" in shown
    assert houses.evaluate(folder / "new.csv") == pytest.approx(scores, rel=1e-6)
    other = new.rename(columns={"price": "paid"})
    assert houses.evaluate(other, "paid") == scores
    assert houses.evaluate(new[FEATURES].to_numpy(), new["price"]) == scores
    error = new["price"] - houses.predict(new)
    assert scores["mae"] == pytest.approx(abs(error).mean(), rel=1e-5)


def test_a_target_that_is_not_there_is_named(houses):
    rows = ROWS.assign(prize=1.0)
    with pytest.raises(gd.DataError, match=r"no column 'price'.*target=NAME names the column"):
        houses.evaluate(rows)
    with pytest.raises(gd.ShapeError, match="target has 2 values, but there are 5 rows"):
        houses.evaluate(ROWS, [1.0, 2.0])
    with pytest.raises(gd.DataError, match="'area' is a feature of the model, not its target"):
        houses.evaluate(ROWS, "area")


# What is refused, and what is counted ----------------------------------------------------------


@pytest.mark.parametrize("form", [FORMS[k] for k in ("pandas", "dicts", "a dict of lists")])
def test_a_missing_column_is_named_with_one_that_is_like_it(houses, form):
    rows = ROWS.rename(columns={"heating": "Heeting"})
    with pytest.raises(gd.DataError, match=r"no column 'heating'; .* did you mean 'Heeting'\?"):
        houses.predict(form(rows))


def test_a_text_among_numbers_is_refused_with_its_row(houses):
    with pytest.raises(gd.DataError, match=r"row 1, column 'area': 'large' is not a number"):
        houses.predict([{"area": a, "grade": 1, "heating": "gas"} for a in (1, "large")])


def test_a_table_without_rows_is_refused(houses):
    with pytest.raises(gd.DataError, match="the table has no rows"):
        houses.predict(ROWS[:0])


@pytest.mark.parametrize("data", [None, 7, print, gd.Dense(1)])
def test_what_is_no_table_is_refused(houses, data):
    with pytest.raises(TypeError, match="data must be the path of a file, a frame"):
        houses.predict(data)


def test_words_about_files_are_refused_for_rows_in_memory(houses):
    with pytest.raises(TypeError, match=r"separator says how a file is written.*leave it out"):
        houses.predict(ROWS, separator=";")


def test_what_is_missing_or_unknown_can_be_counted(houses):
    table = houses.open(ROWS)
    assert (table.gaps, table.unknown, table.rows) == ({"area": 1, "heating": 1}, {"heating": 1}, 5)


def test_rows_that_the_schema_drops_have_no_value(tmp_path):
    for target, values in (("y", [1.0, 2.5, 3.5]), ("k", ["u", "v", "u"]), ("n", [1, 2, 1])):
        source = gd.IterableSource(
            [{"a": [0.0, 1.0, 2.0], target: values}], target=target, missing="drop"
        )
        schema, head = source.schema, [gd.Dense(1)]
        if target != "y":
            schema = schema.replace(classes=schema.classes or ["1", "2"])
            head.append(gd.Sigmoid())
        trained = gd.TableModel(gd.Sequential(head, 1), schema)
        rows = {"a": [1.0, None, 2.0]}
        found = trained.predict(rows)
        whole = trained.predict({"a": [1.0, 2.0]})
        assert found[[0, 2]].tolist() == whole.tolist()
        assert np.isnan(found[1]) if target == "y" else found[1] is None
        if target != "y":
            assert np.isnan(trained.predict_proba(rows)).tolist() == [[False] * 2, [True] * 2,
                                                                      [False] * 2]  # fmt: skip


@pytest.mark.parametrize("form", ["%d.%m.%Y %H:%M", "%Y-%m-%dT%H:%M:%S", "%Y%m%dT%H%M%S"])
def test_times_of_a_frame_are_dates_however_the_table_wrote_them(form):
    times = [datetime.datetime(2014, m, m + 20 % 28, h) for m, h in ((1, 3), (5, 9), (7, 23))]
    texts = [time.strftime(form) for time in times]
    rows = {"sold": texts, "y": [1.0, 2.0, 3.0]}
    source = gd.IterableSource([rows], target="y", dates={"sold": form})
    model = gd.Sequential([gd.Dense(1)], inputs=len(source.schema.names), seed=1)
    trained = gd.TableModel(model, source.schema)
    expected = trained.predict({"sold": texts}).tolist()
    assert trained.predict(pd.DataFrame({"sold": pd.to_datetime(times)})).tolist() == expected
    assert trained.predict([{"sold": time} for time in times]).tolist() == expected


# The same bits -----------------------------------------------------------------------------------


def rows_in_forms(frame, folder):
    """Yield the same rows as files and as Python objects."""
    frame.to_csv(folder / "whole.csv", index=False)
    frame.to_csv(folder / "packed.csv.gz", index=False, sep=";", decimal=",")
    frame.to_parquet(folder / "whole.parquet", row_group_size=300)
    (folder / "parts").mkdir()
    for k, part in enumerate(np.array_split(np.arange(len(frame)), 3)):
        frame.iloc[part].to_parquet(folder / "parts" / f"{k}.parquet")
    yield folder / "whole.csv", {}
    yield folder / "packed.csv.gz", {"separator": ";", "decimal": ","}
    yield folder / "whole.parquet", {}
    yield folder / "parts", {}
    yield pa.Table.from_pandas(frame), {}
    yield frame.to_dict("records"), {}


@pytest.mark.few(1)
@pytest.mark.parametrize("hidden", [0, 100])
def test_rows_have_the_same_probabilities_in_every_form(tmp_path, hidden):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(1100, 23)), columns=[f"c{i}" for i in range(23)])
    frame["color"] = rng.choice(["red", "blue"], 1100)
    source = gd.FrameSource(frame.assign(y=rng.choice(["no", "yes"], 1100)), target="y")
    layers = [gd.Dense(hidden), gd.Tanh()] if hidden else []
    model = gd.Sequential([*layers, gd.Dense(1), gd.Sigmoid()], inputs=25, seed=1)
    trained = gd.TableModel(model, source.schema)
    trained.save(tmp_path / "m.npz")
    expected = trained.predict_proba(frame)
    np.testing.assert_array_equal(expected[:, 1:], model.predict(source))
    for rows, reading in rows_in_forms(frame, tmp_path):
        np.testing.assert_array_equal(trained.predict_proba(rows, **reading), expected)
        if not isinstance(rows, list | pa.Table):
            lines = written(tmp_path / "m.npz", rows, tmp_path / "p.csv", **reading)
            assert [line[1:] for line in lines] == expected.astype(str).tolist()


def test_rows_left_out_do_not_change_the_bits_of_others(tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(2300, 24)), columns=[f"c{i}" for i in range(24)])
    frame.to_csv(tmp_path / "whole.csv", index=False)
    whole = frame.assign(y=frame["c0"])
    source = gd.FrameSource(whole, target="y", missing="drop")
    model = gd.Sequential([gd.Dense(100), gd.Tanh(), gd.Dense(1)], inputs=24, seed=1)
    trained = gd.TableModel(model, source.schema)
    trained.save(tmp_path / "m.npz")
    gaps = np.r_[0, 5, 1024:1060, 1500, 2299]
    expected = np.full(2300, np.nan, dtype="float32")
    expected[np.delete(np.arange(2300), gaps)] = trained.predict(frame.drop(gaps))
    frame.loc[gaps, "c3"] = np.nan
    frame.to_csv(tmp_path / "gaps.csv", index=False)
    for rows in (frame, tmp_path / "gaps.csv"):
        np.testing.assert_array_equal(trained.predict(rows), expected)
    lines = written(tmp_path / "m.npz", tmp_path / "gaps.csv", tmp_path / "p.csv")
    texts = ["" if np.isnan(v) else str(v) for v in expected]
    assert [line[0] if line else "" for line in lines] == texts
