"""An ONNX file of a table's model takes raw columns, and gives what `TableModel.predict` gives."""

import datetime
import json
import os

import numpy as np
import onnx
import onnx.reference
import onnxruntime
import pandas as pd
import pytest
from budgets import examples
from hypothesis import given
from hypothesis import strategies as st

import minigd as gd

N = 60
ZIPS = ["1", "2", "3.0", "010"]


def table(seed=0, classes=None):
    """Return numbers, some large, categories and truth values, with gaps in all of them."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "area": rng.normal(100, 40, N).round(1),
            "y": rng.exponential(1e5, N) * rng.choice([-1, 1], N),
            "heating": rng.choice(["gas", "oil", "größe", "a, b"], N),
            "zip": rng.choice(ZIPS, N),
            "garden": rng.choice(["True", "False"], N),
            "city": rng.choice(["Rome", "Paris", *(f"v{i}" for i in range(9))], N),
        }
    )
    for column in frame:
        frame.loc[rng.choice(N, 5, replace=False), column] = None
    target = rng.normal(size=N) if classes is None else rng.choice(classes, N)
    return frame.assign(target=target)


def fresh(frame, seed=1):
    """Return rows as programs bring them: with gaps and levels that no training has seen."""
    rng = np.random.default_rng(seed)
    rows = frame.drop(columns="target").sample(frac=1, random_state=seed).reset_index(drop=True)
    rows.loc[0, ["heating", "zip", "garden", "city"]] = ["coal", "4", "maybe", "Oslo"]
    rows.loc[1, ["zip", "garden"]] = ["1.0", "true"]
    rows.loc[2, ["zip", "garden"]] = ["3", "0"]
    rows.loc[3] = None
    rows.loc[4, ["area", "y"]] = [1e-7, -1e-7]
    rows.loc[5, ["area", "y"]] = [0.0, 3e30]
    rows.loc[rng.choice(N, 8), "area"] = None
    return rows


def made(frame, head, dtype="float32", **options):
    """Return a table's model with weights that are drawn, and numbers that are scaled."""
    zips = {"zip": ZIPS} if "zip" in frame else {}
    source = gd.IterableSource([frame], target="target", dtype=dtype, categories=zips, **options)
    model = gd.Sequential(
        [gd.Standardize(), gd.Dense(8), gd.ReLU(), *head], len(source.schema.names), seed=3,
        dtype=dtype,
    )  # fmt: skip
    model.adapt(gd.Batches(source, batch_size=7))
    return gd.TableModel(model, source.schema)


def inputs(trained, rows):
    """Return the columns that a file asks for, as it asks for them."""
    schema, feed = trained.schema, {}
    for name in schema.features:
        column = rows[name]
        texts = column.astype(object).where(column.notna(), "")
        feed[name] = (texts if name in schema.texts else column.astype(schema.dtype)).to_numpy()
        feed[name] = feed[name].reshape(-1, 1)
    return feed


def runs(path, feed):
    """Return the outputs of ONNX Runtime, and of the reference that comes with onnx."""
    proto = onnx.load(path)
    onnx.checker.check_model(proto, full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(os.fspath(path), options, ["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]
    yield dict(zip(names, session.run(None, feed), strict=True))
    with np.errstate(all="ignore"):
        reference = onnx.reference.ReferenceEvaluator(proto).run(None, feed)
    yield dict(zip(names, reference, strict=True))


def check(trained, rows, path):
    """Compare the outputs of a file with what the model predicts of the same rows."""
    gd.export_onnx(trained, path)
    tolerance = 1e-5 if trained.model.dtype == "float32" else 1e-6
    expected = trained.predict(rows)
    for found in runs(path, inputs(trained, rows)):
        assert found["prediction"].shape == (len(rows), 1)
        if trained.classes is None:
            assert found["prediction"].dtype == trained.model.dtype
            largest = np.nanmax(abs(expected))
            np.testing.assert_allclose(
                found["prediction"][:, 0], expected, rtol=0, atol=tolerance * largest
            )
        else:
            p = trained.predict_proba(rows)
            np.testing.assert_allclose(found["probabilities"], p, rtol=0, atol=10 * tolerance)
            sure = abs(np.sort(p, axis=1)[:, -1] - np.sort(p, axis=1)[:, -2]) > 1e-4
            texts = ["" if each is None else str(each) for each in expected]
            same = found["prediction"][:, 0] == np.array(texts, dtype=object)
            assert same[sure | np.isnan(p[:, 0])].all()


SCHEMAS = {
    "as the shell": {"missing": "flag"},
    "means": {"missing": "mean"},
    "medians": {"missing": "median"},
    "numbers": {"missing": {"area": 50.0, "y": -3.0, "*": "category"}},
    "rare levels together": {"missing": "flag", "min_count": 8},
    "logarithms": {"missing": "flag", "logs": ["y", "area"]},
    "the logarithm of a number": {"missing": {"y": -3.0, "*": "flag"}, "logs": ["y"]},
    "dropped": {"missing": "drop"},
    "a mix": {"missing": {"area": "drop", "heating": "category", "zip": "drop", "*": "mean"}},
}


@pytest.mark.few(3)
@pytest.mark.parametrize("options", SCHEMAS.values(), ids=SCHEMAS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_raw_columns_give_what_predict_gives(tmp_path, options, dtype):
    frame = table()
    trained = made(frame, [gd.Dense(1)], dtype, **options)
    check(trained, fresh(frame), tmp_path / "m.onnx")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_small_numbers_keep_their_digits_under_a_logarithm(tmp_path, dtype):
    # log(1 + v) would round v to whole multiples of 1e-7.
    a = np.array([1e-7, -3.3e-7, 8.1e-7, 2.2e-6, 0.0])
    frame = pd.DataFrame({"a": a, "target": np.arange(5.0) + 0.5})
    trained = made(frame, [gd.Dense(1)], dtype, logs=["a"])
    check(trained, frame.drop(columns="target"), tmp_path / "m.onnx")


def test_a_model_of_counts_gives_rates(tmp_path):
    trained = made(table(), [gd.Dense(1)], "float64", missing="flag")
    logs = trained.predict(fresh(table()))
    trained.model.loss = gd.Poisson()
    np.testing.assert_array_equal(trained.predict(fresh(table())), np.exp(logs))
    check(trained, fresh(table()), tmp_path / "m.onnx")


HEADS = {
    "two classes": (["no", "yes"], [1], gd.Sigmoid),
    "whole numbers": ([1, 7], [1], gd.Sigmoid),
    "three classes": (["a", "=b", "größe"], [3], gd.Softmax),
}


@pytest.mark.parametrize("missing", ["flag", "drop"])
@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_classes_come_by_name_with_their_probabilities(tmp_path, head, missing):
    classes, widths, last = head
    frame = table(classes=classes)
    if isinstance(classes[0], int):
        frame["target"] = frame["target"].astype(str)
    trained = made(frame, [*map(gd.Dense, widths), last()], missing=missing)
    check(trained, fresh(frame), tmp_path / "m.onnx")


def test_both_probabilities_of_two_classes_have_their_digits(tmp_path):
    source = gd.IterableSource([{"a": [0.0, 1.0], "k": ["no", "yes"]}], target="k")
    model = gd.Sequential([gd.Dense(1), gd.Sigmoid()], inputs=1)
    model.params["dense1.W"][...] = 1
    gd.export_onnx(gd.TableModel(model, source.schema), tmp_path / "m.onnx")
    for found in runs(tmp_path / "m.onnx", {"a": np.array([[40.0], [-40.0]], "float32")}):
        p = found["probabilities"]
        np.testing.assert_allclose(p[:, [0, 1]].min(axis=1), np.exp(-40.0), rtol=1e-5)
        assert found["prediction"].tolist() == [["yes"], ["no"]]


@pytest.mark.parametrize("loss", ["binary_crossentropy", "categorical_crossentropy"])
def test_a_model_that_ends_in_logits_gives_probabilities(tmp_path, loss):
    table = {"a": [0.0, 1.0, 2.0], "k": ["x", "y", "x" if loss[0] == "b" else "z"]}
    source = gd.IterableSource([table], target="k")
    kinds = {"b": gd.BinaryCrossEntropy, "c": gd.CategoricalCrossEntropy}
    model = gd.Sequential([gd.Dense(1 if loss[0] == "b" else 3)], inputs=1, seed=2)
    model.fit(source, loss=kinds[loss[0]](from_logits=True), shuffle=False)
    check(gd.TableModel(model, source.schema), pd.DataFrame(table), tmp_path / "m.onnx")


# Random tables, of one to five columns.
COLUMNS = ["area", "y", "heating", "zip", "garden", "city"]


@examples(4)
@given(
    columns=st.lists(st.sampled_from(COLUMNS), min_size=1, max_size=5, unique=True),
    policies=st.lists(
        st.sampled_from(["mean", "median", "flag", "category", "drop", 0.5]),
        min_size=6, max_size=6,
    ),
    logs=st.sets(st.sampled_from(["area", "y"])),
    count=st.sampled_from([None, 2, 8]),
    seed=st.integers(0, 99),
    dtype=st.sampled_from(["float32", "float64"]),
)  # fmt: skip
def test_any_table(tmp_path_factory, columns, policies, logs, count, seed, dtype):
    frame = table(seed)[[*columns, "target"]]
    missing = {c: p for c, p in zip(COLUMNS, policies, strict=True) if c in columns}
    options = {"missing": missing, "logs": sorted(logs & {*columns}), "min_count": count}
    try:
        trained = made(frame, [gd.Dense(1)], dtype, **options)
    except gd.DataError:  # no row is left, or no column has two values
        return
    rows = fresh(table(seed))[columns]
    check(trained, rows, tmp_path_factory.mktemp("onnx") / "m.onnx")


# Dates -----------------------------------------------------------------------------------------

NOTATIONS = [
    *("%Y-%m-%d", "%Y/%m/%d %H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S.%f", "%Y%m%d"),
    *("%Y%m%dT%H%M%S", "%Y-%m", "%d.%m.%Y", "%d. %m. %Y", "%m/%d/%y", "%d-%b-%Y", "%B %d, %Y"),
    *("%H:%M:%S", "%H:%M"),
]


def dated(format, missing, n=40):
    """Return a table's model with dates in a notation, and rows with new ones and gaps."""
    rng = np.random.default_rng(0)
    times = [
        datetime.datetime(1969, 1, 1) + datetime.timedelta(seconds=int(s))
        for s in rng.integers(0, 40 * 365 * 86_400, 2 * n)
    ]
    times[0], times[n] = datetime.datetime(2000, 2, 29, 23, 59), datetime.datetime(2004, 2, 29)
    times[n + 1], times[n + 2] = datetime.datetime(2000, 12, 31), datetime.datetime(2000, 3, 1)
    texts = [time.strftime(format) for time in times]
    frame = pd.DataFrame({"sold": texts[:n], "target": rng.normal(size=n)})
    rows = pd.DataFrame({"sold": texts[n:]})
    if missing != "error":
        frame.loc[5, "sold"] = rows.loc[7, "sold"] = None
    trained = made(frame, [gd.Dense(1)], "float64", missing=missing, dates={"sold": format})
    return trained, rows


@pytest.mark.few
@pytest.mark.parametrize("format", NOTATIONS)
def test_dates_become_what_they_are_in_the_table(tmp_path, format):
    trained, rows = dated(format, "flag")
    check(trained, rows, tmp_path / "m.onnx")


@pytest.mark.parametrize("missing", ["error", "drop", "median"])
def test_a_missing_date_is_what_the_schema_says(tmp_path, missing):
    trained, rows = dated("%Y-%m-%d", missing)
    check(trained, rows, tmp_path / "m.onnx")


@pytest.mark.parametrize("text", ["2014-13-01", "2014-00-01", "2014-01-32", "2014-01-00"])
def test_a_text_that_is_no_date_is_no_number(tmp_path, text):
    trained, _ = dated("%Y-%m-%d", "flag")
    gd.export_onnx(trained, tmp_path / "m.onnx")
    feed = {"sold": np.array([["2014-01-31"], [text]], dtype=object)}
    for found in runs(tmp_path / "m.onnx", feed):
        assert np.isnan(found["prediction"]).tolist() == [[False], [True]]


# What the file says ----------------------------------------------------------------------------


def test_what_the_file_says_of_itself(tmp_path):
    frame = table(classes=["u", "v"]).rename(columns={"area": "prediction", "garden": "encode.y.1"})
    trained = made(frame, [gd.Dense(1), gd.Sigmoid()], missing="flag")
    gd.export_onnx(trained, tmp_path / "m.onnx")
    proto = onnx.load(tmp_path / "m.onnx")
    kinds = {each.name: each.type.tensor_type.elem_type for each in proto.graph.input}
    assert list(kinds) == trained.schema.features
    assert {kinds[name] for name in ("prediction", "y")} == {onnx.TensorProto.FLOAT}
    assert kinds["heating"] == kinds["encode.y.1"] == onnx.TensorProto.STRING
    # An input of that name is there already.
    assert [each.name for each in proto.graph.output] == ["prediction_", "probabilities"]
    assert {each.key: json.loads(each.value) for each in proto.metadata_props} == {
        "names": trained.schema.names,
        "classes": ["u", "v"],
    }
    assert {each.domain: each.version for each in proto.opset_import} == {"": 9, "ai.onnx.ml": 2}
    feed = inputs(trained, frame)
    for found in runs(tmp_path / "m.onnx", feed):
        np.testing.assert_allclose(
            found["probabilities"], trained.predict_proba(frame), rtol=0, atol=1e-5
        )


# What is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hashed": {"city": 4}}, "column 'city' is hashed, but ONNX .*min_count instead"),
        ({"dates": {"sold": "%d.%m.%Y %I:%M %p"}}, "column 'sold' .*'%d.%m.%Y %I:%M %p'.*ONNX"),
    ],
)
def test_columns_without_operators_are_refused_by_name(tmp_path, options, message):
    days = [f"{1 + i % 28}.{1 + i % 12}.2014 11:30 AM" for i in range(N)]
    frame = table().assign(sold=days)[["area", "city", "sold", "target"]]
    if "dates" not in options:
        frame = frame.drop(columns="sold")
    trained = made(frame, [gd.Dense(1)], missing="flag", **options)
    with pytest.raises(gd.DataError, match=message):
        gd.export_onnx(trained, tmp_path / "m.onnx")
    assert os.listdir(tmp_path) == []


def test_a_table_brings_its_own_names(tmp_path):
    trained = made(table(), [gd.Dense(1)], missing="flag")
    with pytest.raises(TypeError, match="brings its own names and classes: leave them out"):
        gd.export_onnx(trained, tmp_path / "m.onnx", names=["a"])
