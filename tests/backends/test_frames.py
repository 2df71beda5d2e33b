"""Frames and series of pandas: numbers of any dtype, columns by name, rows by position and index.

The encoded columns of a frame are compared with plain Python on the same values. A remedy in a
message is run on the rows that caused it.
"""

import contextlib
import datetime
import decimal
import pickle
import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from budgets import examples
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import KFold, cross_val_score

import minigd as gd

N = 40
NUMBERS = np.random.default_rng(0).normal(size=N)
YES = NUMBERS > 0
ARROW = pd.ArrowDtype

# Columns that hold numbers, by the dtype of pandas or NumPy; the values are those of a list.
HOLD_NUMBERS = {
    **dict.fromkeys(("bool", "boolean", "bool[pyarrow]"), YES),
    **{dtype: range(N) for dtype in ("uint8", "int16", "int64", "Int8", "Int64", "UInt64")},
    **{dtype: range(N) for dtype in ("int64[pyarrow]", "uint8[pyarrow]")},
    **{dtype: [i / 4 for i in range(N)] for dtype in ("float16", "float32", "float64")},
    **{dtype: [i / 4 for i in range(N)] for dtype in ("Float32", "Float64", "double[pyarrow]")},
    "float16 of Arrow": pd.array(np.arange(N, dtype="float16") / 4, dtype=ARROW(pa.float16())),
    "Sparse[float64]": [i / 4 for i in range(N)],
    "Sparse[bool]": YES,
}
HOLD_NONE = {
    "text": ["a", "b"] * (N // 2),
    "text of pandas": pd.array(["a", "b"] * (N // 2), dtype="string"),
    "text of Arrow": pd.array(["a", "b"] * (N // 2), dtype="string[pyarrow]"),
    "dictionary": pd.array(["a", "b"] * (N // 2), ARROW(pa.dictionary(pa.int32(), pa.string()))),
    "categories": pd.Categorical(["a", "b"] * (N // 2)),
    "categories that are numbers": pd.Categorical([1, 2] * (N // 2)),
    "objects that are numbers": pd.Series([1, 2.5] * (N // 2), dtype=object),
    "objects that are truth values": pd.Series([True, False] * (N // 2), dtype=object),
    "decimals": pd.Series([decimal.Decimal("1.5"), decimal.Decimal(2)] * (N // 2)),
    "decimals of Arrow": pd.array([decimal.Decimal("1.5")] * N, ARROW(pa.decimal128(5, 2))),
    "times": pd.date_range("2020-01-01", periods=N),
    "times in a zone": pd.date_range("2020-01-01", periods=N, tz="UTC"),
    "times of Arrow": pd.array(pd.date_range("2020-01-01", periods=N), "timestamp[us][pyarrow]"),
    "days of Arrow": pd.array([datetime.date(2020, 1, 1)] * N, dtype=ARROW(pa.date32())),
    "durations": pd.to_timedelta(range(N), unit="s"),
    "durations of Arrow": pd.array(pd.to_timedelta(range(N), unit="s"), "duration[us][pyarrow]"),
    "lists": pd.Series([[1, 2]] * N),
    "lists of Arrow": pd.array([[1, 2]] * N, dtype=ARROW(pa.list_(pa.int64()))),
    "structs": pd.Series([{"a": 1}] * N),
    "structs of Arrow": pd.array([{"a": 1}] * N, ARROW(pa.struct([("a", pa.int64())]))),
    "bytes": pd.Series([b"ab"] * N),
    "bytes of Arrow": pd.array([b"ab"] * N, dtype=ARROW(pa.binary())),
    "periods": pd.period_range("2020-01-01", periods=N, freq="D"),
    "intervals": pd.interval_range(0, N),
    "complex": NUMBERS + 1j,
    "nothing": pd.array([None] * N, dtype=ARROW(pa.null())),
}


# What a source encodes, and so `fit` and the estimators do.
ENCODED = [
    kind
    for kind in HOLD_NONE
    if kind.startswith(("text", "dictionary", "categories", "times", "days"))
]


def column(dtype):
    values = HOLD_NUMBERS[dtype]
    return values if hasattr(values, "dtype") and "of" in dtype else pd.array(values, dtype=dtype)


def beside(values, name="b"):
    return pd.DataFrame({"a": NUMBERS, name: values})


def linear(inputs=2, **settings):
    return gd.Sequential([gd.Dense(1)], inputs=inputs, **settings)


# Types of columns --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", HOLD_NUMBERS)
def test_columns_of_numbers_become_these_numbers(dtype):
    truth = [float(value) for value in HOLD_NUMBERS[dtype]]
    frame = beside(column(dtype))
    source = gd.ArraySource(frame, frame["b"])
    assert source.x.dtype.kind in "biuf"
    assert source.x[:, 1].astype(float).tolist() == truth
    assert source.x[:, 0].astype(float).tolist() == NUMBERS.tolist()
    assert source.y.astype(float).tolist() == truth
    assert gd.ArraySource(frame[["b"]]).x[:, 0].astype(float).tolist() == truth
    # Neither a frame nor a series: an array of pandas' own.
    assert gd.ArraySource(frame[["a"]], frame["b"].array).y.astype(float).tolist() == truth


@pytest.mark.few
@pytest.mark.parametrize("dtype", HOLD_NUMBERS)
def test_a_model_takes_such_columns_wherever_it_takes_rows(dtype):
    frame = beside(column(dtype))
    rows = np.column_stack([NUMBERS, np.array([float(v) for v in HOLD_NUMBERS[dtype]])])
    models = []
    for x, y in ((frame, frame["b"]), (rows, rows[:, 1])):
        model = linear(dtype="float64")
        model.fit(x, y, loss="mse", metrics=["mae"], validation_data=(x, y), epochs=2)
        gd.Trainer(model, "mse", "sgd").step(x, y)
        measured = model.evaluate(x, y)
        models.append((model.predict(x), model.forward(x), model.flat_params, *measured.values()))
    for one, other in zip(*models, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.few
@pytest.mark.filterwarnings("ignore:pandas.DataFrame with sparse columns found:UserWarning")
@pytest.mark.parametrize("dtype", HOLD_NUMBERS)
def test_estimators_take_such_columns(dtype):
    frame = beside(column(dtype))
    rows = np.column_stack([NUMBERS, np.array([float(v) for v in HOLD_NUMBERS[dtype]])])
    one, other = (
        gd.MiniBatchRegressor(epochs=2, random_state=0, dtype="float64").fit(x, y)
        for x, y in ((frame, frame["b"]), (rows, rows[:, 1]))
    )
    np.testing.assert_array_equal(one.predict(frame), other.predict(rows))


def test_dummies_beside_numbers_are_0_and_1():
    frame = pd.DataFrame({"size": NUMBERS, "kind": ["gas", "oil", "none", "oil"] * (N // 4)})
    dummies = pd.get_dummies(frame)
    assert dummies.dtypes.tolist() == ["float64", *["bool"] * 3]
    x = gd.ArraySource(dummies).x
    assert x.dtype == "float64"
    for j, kind in enumerate(["gas", "none", "oil"]):
        assert x[:, 1 + j].tolist() == [float(value == kind) for value in frame["kind"]]


@pytest.mark.parametrize(
    "dtype", ["Int64", "Float64", "boolean", "int64[pyarrow]", "bool[pyarrow]"]
)
@pytest.mark.parametrize("what", ["x", "y", "sample_weight"])
def test_a_missing_value_is_placed_unless_its_row_does_not_count(dtype, what):
    missing = pd.Series(pd.array([1, None] * (N // 2), dtype=dtype))
    given_ = {"x": beside(YES), "y": pd.Series(NUMBERS), "sample_weight": None}
    given_[what] = beside(missing) if what == "x" else missing
    with pytest.raises(gd.DataError, match=rf"{what} holds nan at row 1"):
        gd.Batches(given_["x"], given_["y"], sample_weight=given_["sample_weight"])
    if what != "sample_weight":
        given_["sample_weight"] = [1, 0] * (N // 2)
        gd.Batches(given_["x"], given_["y"], sample_weight=given_["sample_weight"])


def remedies(error):
    return re.findall("`(.*?)`", str(error.value))


@pytest.mark.few
@pytest.mark.parametrize("kind", HOLD_NONE)
def test_a_column_without_numbers_is_refused_by_name_with_remedies_that_work(kind):
    x = beside(HOLD_NONE[kind])

    def fit(x):
        return linear().fit(x, NUMBERS, loss="mse")

    for call in (gd.ArraySource, linear().predict, *([] if kind in ENCODED else [fit])):
        with pytest.raises(gd.DataError, match=r"[xX] must hold numbers, and its column 'b' is "):
            call(x)
    if kind in ENCODED and kind != "days of Arrow":  # of which the year alone is left
        with pytest.raises(gd.ShapeError, match="the model takes rows of 2 numbers"):
            fit(x)
    with pytest.raises(gd.DataError) as error:
        gd.ArraySource(x)
    found = remedies(error)
    assert found
    for remedy in found:
        fixed = eval(remedy, {"pandas": pd, "x": x})
        fixed = x.assign(b=fixed) if isinstance(fixed, pd.Series) else fixed
        assert gd.ArraySource(fixed).rows == N


@pytest.mark.few
@pytest.mark.parametrize("kind", HOLD_NONE)
def test_a_target_without_numbers_is_refused_by_name_with_a_remedy_that_works(kind):
    frame = beside(HOLD_NONE[kind])
    for y in (frame["b"], frame["b"].rename(None), frame[["b"]]):
        with pytest.raises(gd.DataError, match="y must hold numbers, ") as error:
            gd.ArraySource(frame[["a"]], y)
        for remedy in remedies(error):
            names = {"numpy": np, "y": y}
            if remedy.startswith("classes, y = "):
                exec(remedy, names)
            else:
                names["y"] = eval(remedy, names)
            assert len(gd.ArraySource(frame[["a"]], names["y"]).y) == N


@pytest.mark.few
@pytest.mark.parametrize("kind", HOLD_NONE)
@pytest.mark.parametrize("Estimator", [gd.MiniBatchClassifier, gd.MiniBatchRegressor])
def test_estimators_name_a_column_that_scikit_learn_can_not_convert(Estimator, kind):
    x = beside(HOLD_NONE[kind])
    try:
        Estimator(epochs=1).fit(x, YES)
    except ValueError as error:
        assert re.search("X must hold numbers, and its column 'b' is ", str(error))  # noqa: PT017
    else:
        assert "number" in kind or "truth" in kind or "decimals" in kind or kind in ENCODED


DAY = datetime.date(2020, 1, 1)
# Columns of objects and categories: whether dummies are made of them, and what pieces say of them,
# if they are refused.
MIXED = {
    "numbers and text": ([1, "a", 2.5, None], True, "holds numbers and 1 text"),
    "days": ([DAY, None, DAY, None], True, None),
    "days and numbers": ([DAY, 1, 2, 3], True, "holds numbers and 1 text"),
    "text and lists": (["a", [1], "b", "c"], False, "holds values of type list"),
    "lists and text": ([[1], "a", "b", "c"], False, "holds values of type list"),
    "numbers and bytes": ([1, b"a", 2, 3], False, "holds values of type bytes"),
    "complex numbers": ([1j, 1, 2, 3], False, "holds values of type complex"),
    "too many digits": ([10**400, 1, 2, 3], False, "inf is not finite"),
    "nothing": ([None] * 4, False, "has no value in any row"),
    "intervals": (pd.cut([1, 2, 3, 4], 2), True, "holds values of type Interval"),
}


@pytest.mark.parametrize("kind", MIXED)
def test_all_values_decide_what_a_column_holds_in_a_frame_and_in_pieces(kind):
    values, dummies, problem = MIXED[kind]
    values = pd.Series(values, dtype=None if hasattr(values, "categories") else object)
    x = pd.DataFrame({"a": np.arange(4.0), "b": values})
    with pytest.raises(gd.DataError, match="x must hold numbers, and its column 'b' is ") as error:
        gd.ArraySource(x)
    assert any("get_dummies" in remedy for remedy in remedies(error)) == dummies
    for remedy in remedies(error):
        assert gd.ArraySource(eval(remedy, {"pandas": pd, "x": x})).rows == 4
    for source, given_ in ((gd.IterableSource, [x]), (gd.FrameSource, x)):
        with pytest.raises(gd.DataError, match=problem) if problem else contextlib.nullcontext():
            source(given_, missing="category")


def test_all_columns_without_numbers_are_left_out_at_once():
    x = pd.DataFrame({"a": NUMBERS, "b": ["u"] * N, "c": [b"v"] * N, "d": ["w"] * N, "e": YES})
    with pytest.raises(gd.DataError) as error:
        gd.ArraySource(x)
    encode, leave_out = remedies(error)
    assert encode == "pandas.get_dummies(x, columns=['b', 'd'])"
    assert leave_out == "x.drop(columns=['b', 'c', 'd'])"


@pytest.mark.parametrize("y", [pd.Series(["a", pd.NA] * 20, dtype="string"), ["a", None] * 20])
def test_a_missing_class_is_no_raw_error(y):
    with pytest.raises(ValueError, match=r"missing value at row 1|contains N"):
        gd.MiniBatchClassifier(epochs=1).fit(NUMBERS.reshape(-1, 1), pd.Series(y))


DURATIONS = np.arange(N).astype("m8[m]")
NO_NUMBERS = {
    "durations": (DURATIONS, np.arange(N) * 60.0),
    "nanoseconds": (DURATIONS.astype("m8[ns]"), np.arange(N) * 60.0),
    "times": (DURATIONS + np.datetime64("2020-01-01"), np.arange(N) * 60.0),
    "complex": (NUMBERS + 0j, NUMBERS),
    "objects that are numbers": (NUMBERS.astype(object), NUMBERS),
    "objects that are truth values": (np.array([True, False] * (N // 2), dtype=object), None),
    "decimals": (np.array([decimal.Decimal(i) for i in range(N)]), np.arange(N)),
}


@pytest.mark.parametrize("kind", NO_NUMBERS)
@pytest.mark.parametrize("what", ["x", "y", "a list"])
def test_the_remedy_for_an_array_without_numbers_makes_them(kind, what):
    array, right = NO_NUMBERS[kind]
    if what == "a list" and kind.startswith("objects"):
        return  # of which NumPy makes numbers
    given = {"x": array.reshape(-1, 1), "y": array, "a list": list(array)}[what]
    rows = {"x": given} if what == "x" else {"x": NUMBERS.reshape(-1, 1), "y": given}
    with pytest.raises(gd.DataError, match="must hold numbers, but its dtype is") as e:
        gd.ArraySource(**rows)
    name = "x" if what == "x" else "y"
    remedy = re.search("`(.*)`", str(e.value))[1]
    numbers = eval(remedy, {name: given, "numpy": np})
    source = gd.ArraySource(**{**rows, name: numbers})
    found = source.x if what == "x" else source.y
    assert found.reshape(-1).tolist() == np.asarray(array if right is None else right).tolist()


@pytest.mark.parametrize(
    "array",
    [
        DURATIONS,
        DURATIONS.astype("m8[ns]"),
        DURATIONS + np.datetime64("2020-01-01"),
        np.array([b"1", b"2"] * (N // 2)),
        np.zeros(N, dtype=[("a", "f8")]),
        np.ma.masked_array(NUMBERS, mask=NUMBERS > 0),
    ],
    ids=lambda array: str(array.dtype),
)
def test_estimators_make_no_numbers_of_arrays_that_hold_none(array):
    y, x = NUMBERS, NUMBERS.reshape(-1, 1)
    regressor = gd.MiniBatchRegressor(epochs=1).fit(x, y)
    for call in (
        lambda: gd.MiniBatchRegressor().fit(array.reshape(-1, 1), y),
        lambda: gd.MiniBatchClassifier().fit(array.reshape(-1, 1), y > 0),
        lambda: regressor.predict(array.reshape(-1, 1)),
        lambda: gd.MiniBatchRegressor().fit(x, array),
        lambda: regressor.partial_fit(x, array),
    ):
        with pytest.raises(gd.DataError, match=r"[Xy] (must hold numbers|is a masked array)"):
            call()


def test_columns_of_an_arrow_table_that_have_nothing_in_common_are_no_raw_error():
    table = pa.table({"a": NUMBERS, "b": DURATIONS.astype("m8[s]")})
    with pytest.raises(gd.DataError, match="x can't be converted to an array"):
        gd.ArraySource(table)


@pytest.mark.parametrize("backend_dtype", ["float32", "float64"])
def test_float16_is_trained_on_without_a_warning(backend_dtype, tmp_path):
    x = np.column_stack([NUMBERS, NUMBERS**2]).astype("float16") * 200
    y = (NUMBERS * 100).astype("float16")
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    for rows in (
        x,
        np.asfortranarray(x),
        pd.DataFrame(x),
        gd.NpySource(tmp_path / "x.npy", tmp_path / "y.npy"),
    ):
        source = isinstance(rows, gd.NpySource)
        model = linear(dtype=backend_dtype)
        model.fit(rows, None if source else y, loss="mse", updater=gd.SGD(1e-6))
        model.evaluate(rows, None if source else y)
    gd.MiniBatchRegressor(epochs=2).fit(x, y).predict(x)
    gd.MiniBatchClassifier(epochs=2).fit(x, y > 0).predict(x)


# Names of columns --------------------------------------------------------------------------------


def table(names="abc"):
    rng = np.random.default_rng(1)
    return pd.DataFrame(rng.normal(size=(N, len(names))), columns=list(names)), rng.normal(size=N)


def fitted(x, y, **settings):
    model = linear(x.shape[1])
    model.fit(x, y, loss="mse", **settings)
    return model


def uses(model):
    """Return all ways in which a model that was trained takes rows."""
    trainer = gd.Trainer(model, "mse", "sgd")
    other = model.copy()
    return {
        "predict": lambda x, y: model.predict(x),
        "forward": lambda x, y: model.forward(x),
        "evaluate": lambda x, y: model.evaluate(x, y),
        "evaluate of Batches": lambda x, y: model.evaluate(gd.Batches(x, y)),
        "evaluate of a source": lambda x, y: model.evaluate(gd.ArraySource(x, y)),
        "evaluate of a part": lambda x, y: model.evaluate(gd.ArraySource(x, y).split(0.5)[0]),
        "Trainer.evaluate": lambda x, y: trainer.evaluate(x, y),
        "Trainer.step": lambda x, y: trainer.step(x, y),
        "fit": lambda x, y: other.fit(x, y, loss="mse"),
        "find_learning_rate": lambda x, y: gd.find_learning_rate(model, x, y, loss="mse"),
        "Trainer.fit": lambda x, y: gd.Trainer(other, "mse", "sgd").fit(gd.Batches(x, y)),
    }


USES = list(uses(linear()))
every_use = pytest.mark.parametrize("use", USES)


@every_use
def test_columns_in_another_order_are_refused(use):
    x, y = table()
    model = fitted(x, y)
    assert model.names == ["a", "b", "c"]
    call = uses(model)[use]
    with pytest.raises(gd.DataError, match=r"column 0 of [xX] \(counted.* is 'c' and was 'a'") as e:
        call(x[["c", "b", "a"]], y)
    # The remedy works, and gives the numbers of the right order.
    assert "[model.names]" in str(e.value)
    call(x[["c", "b", "a"]][model.names], y)
    np.testing.assert_array_equal(model.predict(x[["c", "b", "a"]][model.names]), model.predict(x))
    call(x, y)


@pytest.mark.few
@pytest.mark.parametrize("kind", ["Table", "RecordBatch"])
@every_use
def test_columns_of_an_arrow_table_in_another_order_are_refused(use, kind):
    frame, y = table()

    def arrow(names):
        return getattr(pa, kind).from_pandas(frame[list(names)], preserve_index=False)

    model = fitted(arrow("abc"), y)
    assert model.names == ["a", "b", "c"]
    call = uses(model)[use]
    with pytest.raises(gd.DataError, match=r"column 0 of [xX] .* is 'c' and was 'a'") as e:
        call(arrow("cba"), y)
    assert re.search(r"give [xX]\.select\(model.names\), or numpy.asarray\([xX]\)", str(e.value))
    call(arrow("cba").select(model.names), y)
    call(arrow("abc"), y)
    call(frame, y)


@pytest.mark.parametrize(
    "labels",
    [
        pd.MultiIndex.from_tuples([("a", 1), ("a", 2), ("b", 1)]),
        pd.Index([("a", 1), ("a", 2), ("b", 1)], tupleize_cols=False),
        pd.date_range("2020-01-01", periods=3),
        pd.period_range("2020-01", periods=3, freq="M"),
        [10, 20, 30],
        [0.5, 1.5, 2.5],
        [10, "20", 30.5],
    ],
    ids=str,
)
def test_the_remedy_for_an_order_works_whatever_the_labels_are(labels):
    x, y = table()
    x.columns = labels
    model = fitted(x, y)
    for X in (x.iloc[:, ::-1], x.iloc[:, ::-1].set_axis([str(c) for c in x.columns[::-1]], axis=1)):
        with pytest.raises(gd.DataError, match=r"column 0 of X .*: give .*model.names") as e:
            model.predict(X)
        remedy = str(e.value).split(": give ")[1].split(", or X.to_numpy()")[0]
        turned = eval(remedy, {"X": X, "model": model})
        np.testing.assert_array_equal(model.predict(turned), model.predict(x))


@every_use
def test_missing_and_further_columns_are_refused_by_name(use):
    x, y = table("abc")
    model = fitted(x, y)
    call = uses(model)[use]
    with pytest.raises(gd.DataError, match="has no column 'b', which fit had: give all columns"):
        call(x[["a", "c"]], y)
    with pytest.raises(gd.DataError, match=r"has the column 'd', .* give [xX]\[model.names\]$"):
        call(x.assign(d=0.0), y)
    with pytest.raises(gd.DataError, match=r"column 1 of . .* is 'd' and was 'b' in fit"):
        call(x.rename(columns={"b": "d"}), y)
    with pytest.raises(gd.DataError, match="the columns 'b', 'c' of fit are missing"):
        call(x.rename(columns={"b": "d", "c": "e"}), y)
    call(x.rename(columns={"b": "d"}).to_numpy(), y)


@pytest.mark.few
@every_use
def test_what_has_no_names_goes_by_position(use):
    x, y = table("abc")
    numbered = pd.DataFrame(x.to_numpy())
    for first, then in ((x, x.to_numpy()), (x.to_numpy(), x), (x, numbered), (numbered, x)):
        uses(fitted(first, y))[use](then, y)


@pytest.mark.few
@every_use
@pytest.mark.parametrize("names", [[0, 1, 2], [2000, 2010, 2020], [(0, "a"), (0, "b"), (1, "a")]])
def test_names_that_are_no_text_are_names(use, names):
    x, y = table("abc")
    x.columns = names
    turned = x.iloc[:, [2, 0, 1]]
    call = uses(fitted(x, y))[use]
    call(x, y)
    with pytest.raises(gd.DataError, match=r"column 0 of .* and was "):
        call(turned, y)


def test_rows_to_validate_with_are_in_the_order_of_those_to_train_on():
    x, y = table()
    model = linear(3)
    with pytest.raises(gd.DataError, match=r"column 0 of x .* is 'c' and was 'a'"):
        model.fit(x, y, loss="mse", validation_data=(x[["c", "b", "a"]], y))
    # Nothing was trained, and no name is remembered.
    model.fit(x[["c", "b", "a"]], y, loss="mse", validation_data=(x[["c", "b", "a"]], y))
    assert model.names == ["c", "b", "a"]


@examples(25)
@given(st.permutations("abcd"))
def test_an_order_is_the_one_of_fit_or_refused(order):
    x, y = table("abcd")
    model = fitted(x, y)
    if list(order) == list("abcd"):
        model.predict(x[list(order)])
    else:
        with pytest.raises(gd.DataError, match="counted from 0"):
            model.predict(x[list(order)])


def test_names_are_saved_copied_and_resumed(tmp_path):
    x, y = table()
    trainer = gd.Trainer(linear(3), "mse", "sgd")
    batches = gd.Batches(x, y)
    trainer.fit(batches)
    trainer.model.save(tmp_path / "model.npz")
    trainer.save(tmp_path / "run.npz")
    again = [
        gd.load(tmp_path / "model.npz"),
        gd.load(tmp_path / "run.npz"),
        gd.Trainer.resume(tmp_path / "run.npz", batches).model,
        trainer.model.copy(),
        pickle.loads(pickle.dumps(trainer.model)),
    ]
    for model in again:
        assert model.names == ["a", "b", "c"]
        with pytest.raises(gd.DataError, match="is 'c' and was 'a'"):
            model.predict(x[["c", "b", "a"]])


def test_adapting_remembers_the_order_too():
    x, y = table()
    model = gd.Sequential([gd.Standardize(), gd.Dense(1)], inputs=3)
    model.adapt(gd.Batches(x, y))
    with pytest.raises(gd.DataError, match="is 'c' and was 'a'"):
        model.fit(x[["c", "b", "a"]], y, loss="mse")


def test_columns_of_a_file_are_those_of_the_training(tmp_path):
    x, y = table()
    for name, order in (("train", "abcy"), ("test", "cbay")):
        x.assign(y=y)[list(order)].to_csv(tmp_path / f"{name}.csv", index=False)
    train, test = (gd.CsvSource(tmp_path / f"{n}.csv", target="y") for n in ("train", "test"))
    model = linear(3)
    model.fit(train, loss="mse")
    with pytest.raises(gd.DataError, match=r"column 0 of CsvSource.* is 'c' and was 'a' in fit"):
        model.evaluate(test)
    model.evaluate(gd.CsvSource(tmp_path / "test.csv", schema=train.schema))
    # A frame's columns are found by name, as those of a file that is read by the schema.
    np.testing.assert_array_equal(model.predict(x[["c", "b", "a"]]), model.predict(x))


@pytest.mark.parametrize("names", ["abc", [0, 1, 2]])
@pytest.mark.parametrize("Estimator", [gd.MiniBatchClassifier, gd.MiniBatchRegressor])
def test_estimators_refuse_another_order(Estimator, names, tmp_path):
    x, y = table("abc")
    x.columns, y = list(names), y > 0
    turned = x.iloc[:, [2, 0, 1]]
    estimator = Estimator(epochs=1).fit(x, y)
    for call in (
        estimator.predict,
        lambda x: estimator.score(x, y),
        lambda x: estimator.partial_fit(x, y),
        lambda x: estimator.predict(gd.Batches(x)),
        estimator.model_.predict,
    ):
        call(x)
        with pytest.raises(ValueError, match=r"same order|column 0 of"):
            call(turned)
    estimator.model_.save(tmp_path / "model.npz")
    with pytest.raises(gd.DataError, match="column 0 of X"):
        gd.load(tmp_path / "model.npz").predict(turned)


# Rows --------------------------------------------------------------------------------------------


def takes(x, y, weight=None):
    """Return all ways in which rows and targets come together."""
    model, estimator = linear(3), gd.MiniBatchRegressor(epochs=1).fit(*table())
    model.loss = gd.MeanSquaredError()
    return [
        lambda: gd.ArraySource(x, y, weight),
        lambda: gd.Batches(x, y, sample_weight=weight),
        lambda: model.evaluate(x, y, sample_weight=weight),
        lambda: gd.Trainer(linear(3), "mse", "sgd").step(x, y, weight),
        lambda: linear(3).fit(x, y, loss="mse", sample_weight=weight),
        lambda: linear(3).fit(
            x.to_numpy(), np.asarray(y), loss="mse", validation_data=(x, y, weight)
        ),
        lambda: gd.MiniBatchRegressor(epochs=1).fit(x, y, sample_weight=weight),
        lambda: estimator.score(x, y, weight),
    ]


def test_rows_with_the_labels_of_x_in_another_order_are_refused():
    x, y = table()
    x.index = range(100, 100 + N)
    y = pd.Series(y, index=x.index)
    for call in takes(x, y, y.abs()):
        call()
    wrong = {
        "another order": y.sort_values(),
        "a frame": y.to_frame().sort_values(0),
    }
    for other in wrong.values():
        for call in takes(x, other):
            with pytest.raises(gd.DataError, match="y has the index of x in another order: row 0"):
                call()
    for call in takes(x, y, y.abs().sort_values()):
        with pytest.raises(gd.DataError, match="sample_weight has the index of x in another"):
            call()
    with pytest.raises(gd.DataError, match="sample_weight has the index of x in another"):
        gd.Batches(
            x, (y > 0).astype(int), class_weight="balanced", sample_weight=y.abs().sort_values()
        )


def test_the_remedies_for_rows_work():
    x, y = table()
    y = pd.Series(y).sort_values()
    with pytest.raises(gd.DataError, match=r"give y.loc\[x.index\], or y.to_numpy\(\)"):
        gd.ArraySource(x, y)
    assert gd.ArraySource(x, y.loc[x.index]).y.tolist() == table()[1].tolist()
    assert gd.ArraySource(x, y.to_numpy()).y.tolist() == sorted(table()[1])


def test_an_index_of_other_labels_says_nothing():
    # As after a scaler, which gives arrays, after reset_index, and in a fold of such rows.
    x, y = table()
    y = pd.Series(y, index=np.random.default_rng(0).permutation(1000)[:N])
    days = pd.date_range("2020-01-01", periods=N + 1)
    for one, other in (
        (x, y),
        (x.set_axis(y.index), y.reset_index(drop=True)),
        (x, y.to_numpy()),
        (x.set_axis(range(100, 100 + N)), y),
        (x.set_axis(y.index), y.set_axis(range(100, 100 + N))),
        (x.set_axis(days[:-1]), y.set_axis(days[1:])),
        (x.set_axis(days[:-1]), y),
        (x.set_axis(range(7, 7 + N)), y.set_axis(range(8, 8 + N))),
    ):
        for call in takes(one, other):
            call()


def test_rows_numbered_anew_go_through_a_cross_validation():
    x, y = table()
    y = pd.Series(y, index=np.random.default_rng(0).permutation(1000)[:N])
    for one, other in ((x, y), (x.set_axis(y.index), y.reset_index(drop=True))):
        scores = cross_val_score(
            gd.MiniBatchRegressor(epochs=2), one, other, cv=KFold(3), error_score="raise"
        )
        assert np.isfinite(scores).all()


# Whole numbers -----------------------------------------------------------------------------------

LARGE = {
    "int64": [2**53 + 1, 2**53 + 2],
    "the ends of int64": [-(2**63), 2**63 - 1],
    "negative": [-(2**53) - 1, -(2**53) - 2],
    "uint64": [2**63 + 5, 2**63 + 6],
    "the ends of uint64": [0, 2**64 - 1],
    "three": [2**60, 2**60 + 1, 2**60 + 2],
}


def forms(values):
    """Return whole numbers in all forms in which they come."""
    dtype = "int64" if max(values) < 2**63 else "uint64"
    array = np.array(values, dtype=dtype)
    nullable = {"int64": "Int64", "uint64": "UInt64"}[dtype]
    return {
        "array": array,
        "list": list(values),
        "series": pd.Series(array),
        "nullable": pd.Series(array).astype(nullable),
        "array of pandas": pd.array(array, dtype=nullable),
        "Arrow": pd.Series(array).astype(f"{dtype}[pyarrow]"),
        "other byte order": array.astype(array.dtype.newbyteorder(">")),
        "every other one": np.repeat(array, 2)[::2],
    }


@pytest.mark.each
@pytest.mark.parametrize("form", forms([1]))
@pytest.mark.parametrize("kind", LARGE)
def test_large_labels_are_exact_from_y_to_predict(kind, form):
    labels = sorted(LARGE[kind])
    which = np.arange(N) % len(labels)
    x = np.column_stack([NUMBERS * 0.01 + which, which**2.0])
    y = forms([labels[i] for i in which])[form]
    batches = gd.ArraySource(x, y)
    classifier = gd.MiniBatchClassifier([16], epochs=200, learning_rate=0.02, random_state=0)
    for fit in (
        lambda: classifier.fit(x, y),
        lambda: classifier.fit(batches),
        lambda: gd.MiniBatchClassifier().partial_fit(x, y, classes=forms(labels)[form]),
        lambda: gd.MiniBatchClassifier(epochs=1, early_stopping=True).fit(x, y),
        lambda: gd.MiniBatchClassifier(epochs=1, class_weight=dict.fromkeys(labels, 2.0)).fit(x, y),
    ):
        assert fit().classes_.tolist() == labels
    assert classifier.predict(x).tolist() == [labels[i] for i in which]
    assert classifier.score(x, y) == 1.0
    assert classifier.score(batches) == 1.0


def test_labels_of_two_dtypes_are_told_apart_exactly():
    classes = np.array([2**53, 2**53 + 1, 2**53 + 2], dtype="uint64")
    x = NUMBERS.reshape(-1, 1)
    y = np.resize(np.array([2**53 + 1], dtype="int64"), N)
    classifier = gd.MiniBatchClassifier(updater=gd.SGD(10.0)).partial_fit(x, y, classes=classes)
    assert set(classifier.predict(x).tolist()) == {2**53 + 1}
    for unknown in (np.int64(-1), np.int64(2**53 - 1), np.uint64(2**63)):
        with pytest.raises(ValueError, match=r"y holds .* but the classes are"):
            classifier.partial_fit(x, np.resize(unknown, N))


def test_a_list_that_numpy_would_round_is_not():
    assert gd.ArraySource(np.zeros((2, 1)), [2**63 + 1, 1]).y.tolist() == [2**63 + 1, 1]
    with pytest.raises(gd.DataError, match="whole numbers from -1 to 9223372036854775809, and no"):
        gd.ArraySource(np.zeros((2, 1)), [2**63 + 1, -1])


@pytest.mark.parametrize("form", [list, lambda y: np.array(y, dtype=object), pd.Series])
@pytest.mark.parametrize("base", [2**53, -(2**62), 2**64, -(2**80)])
def test_whole_numbers_that_are_objects_keep_their_digits_in_estimators(form, base):
    y = form([base, base + 1] * (N // 2))
    x = np.column_stack([NUMBERS, np.arange(N) % 2])
    with pytest.raises(gd.DataError, match=r"tell its values from each other|no dtype holds"):
        gd.MiniBatchRegressor(epochs=1).fit(x, y)
    classifier = gd.MiniBatchClassifier(epochs=1)
    if -(2**63) <= base < 2**63:
        assert classifier.fit(x, y).classes_.tolist() == [base, base + 1]
    else:
        with pytest.raises(gd.DataError, match="no dtype holds"):
            classifier.fit(x, y)


@pytest.mark.few
@pytest.mark.parametrize("form", forms([1]))
@pytest.mark.parametrize("base", [2**58, -(2**60), 2**63 - N, 2**63, 2**64 - N])
def test_a_target_of_whole_numbers_that_become_one_is_refused(form, base):
    whole = [base + i for i in range(N)]
    y, x = forms(whole)[form], np.column_stack([NUMBERS, YES])
    for dtype in ("float32", "float64"):
        model = linear(dtype=dtype)
        words = rf"^y goes from {min(whole)} to {max(whole)}, .* apart in {dtype}.*near them first$"
        with pytest.raises(gd.DataError, match=words):
            model.fit(x, y, loss="mse")
        with pytest.raises(gd.DataError, match=r"^y goes from"):
            gd.MiniBatchRegressor(epochs=1, dtype=dtype).fit(x, y)
    # What the message says, on whole numbers.
    if form not in ("list", "array of pandas", "Arrow"):
        linear().fit(x, y - min(whole), loss="mse")
