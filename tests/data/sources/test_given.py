"""Frames with text, and iterables, as rows for a model or an estimator.

Training on them gives the same bits as on a source of the same rows.
"""

import narwhals
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import minigd as gd

N = 120
RNG = np.random.default_rng(0)
X = pd.DataFrame({"size": RNG.normal(size=N), "color": RNG.choice(["red", "blue", "green"], N)})
Y = X["size"] * 2 + (X["color"] == "red") * 3.0
TABLE = X.assign(y=Y)
KINDS = {
    "pandas": lambda rows: rows,
    "categories": lambda rows: rows.astype({"color": "category"}),
    "Arrow": lambda rows: pa.Table.from_pandas(rows, preserve_index=False),
    "narwhals": lambda rows: narwhals.from_native(rows),
    "lazy": lambda rows: narwhals.from_native(
        pa.Table.from_pandas(rows, preserve_index=False)
    ).lazy(),
    "dict": lambda rows: rows.to_dict("list"),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def linear(inputs=4):
    return gd.Sequential([gd.Dense(1)], inputs=inputs, dtype="float64")


def trained(x, y=None, **options):
    model = linear()
    model.fit(x, y, loss="mse", updater=gd.Adam(0.05), epochs=3, **options)
    return model


@pytest.fixture(scope="module")
def by_source():
    return trained(gd.FrameSource(TABLE, "y", dtype="float64"))


def test_a_model_without_a_schema_finds_none_in_what_it_predicts():
    # The levels of these rows need not be those of the training.
    model = linear()
    model.fit(pd.get_dummies(X, dtype=float).to_numpy(), Y, loss="mse")
    few = X[X["color"] != "red"]
    dummies = pd.get_dummies(X, dtype=float)
    for call in (
        lambda: model.predict(X),
        lambda: model.evaluate(X, Y),
        lambda: model.fit(dummies, Y, loss="mse", validation_data=(few, Y[few.index])),
    ):
        with pytest.raises(gd.DataError, match="must hold numbers, and its column 'color' is"):
            call()


@every_kind
def test_a_model_takes_frames_wherever_it_takes_rows(kind, by_source):
    make = KINDS[kind]
    model = trained(make(X), Y.to_numpy(), validation_data=(make(X[:30]), Y[:30].to_numpy()))
    np.testing.assert_array_equal(model.flat_params, by_source.flat_params)
    right = model.predict(gd.FrameSource(X, schema=model.schema))
    for rows in (X, X[["color", "size"]], TABLE.assign(other="?")):
        np.testing.assert_array_equal(model.predict(make(rows)), right)
    assert model.evaluate(make(X), Y.to_numpy()) == by_source.evaluate(TABLE)
    records = TABLE[:7].to_dict("records")
    np.testing.assert_array_equal(model.predict(records), right[:7])
    assert by_source.evaluate(records) == by_source.evaluate(TABLE[:7])
    part = model.predict(make(X[:7]))
    np.testing.assert_array_equal(part, right[:7])


def test_a_model_keeps_its_schema(by_source, tmp_path):
    by_source.save(tmp_path / "m.npz")
    trainer = gd.Trainer(by_source, "mse", "sgd")
    trainer.save(tmp_path / "run.npz")
    right = by_source.predict(X)
    for model in (
        gd.load(tmp_path / "m.npz"),
        gd.load(tmp_path / "run.npz"),
        by_source.copy(),
        gd.Trainer.resume(tmp_path / "run.npz").model,
    ):
        assert model.schema.state_dict() == by_source.schema.state_dict()
        np.testing.assert_array_equal(model.predict(X), right)
    assert linear().schema is None
    assert "schema" not in linear().describe()


@pytest.mark.parametrize("make", ["split", "cache", "csv"])
def test_a_schema_comes_along_with_parts_and_other_sources(make, tmp_path):
    TABLE.to_csv(tmp_path / "rows.csv", index=False)
    source = gd.FrameSource(TABLE, "y")
    sources = {
        "split": lambda: source.split(0.5)[0],
        "cache": lambda: source.cache(tmp_path / "cache"),
        "csv": lambda: gd.CsvSource(tmp_path / "rows.csv", "y"),
    }
    assert trained(sources[make]()).predict(X).shape == (N, 1)


def test_a_level_that_is_new_is_none_of_those_known(by_source):
    known = by_source.params["dense1.W"][0] * 1.5 + by_source.params["dense1.b"]
    new = pd.DataFrame({"size": [1.5], "color": ["pink"]})
    np.testing.assert_allclose(by_source.predict(new)[0], known)


def test_each_row_has_a_prediction_or_an_error():
    rows = TABLE.copy()
    rows.loc[[3, 5], "size"] = np.nan
    model = trained(gd.FrameSource(rows, "y", missing="mean", dtype="float64"))
    mean = rows["size"].mean()
    filled = model.predict(rows.fillna({"size": mean}))
    np.testing.assert_allclose(model.predict(rows), filled, rtol=1e-12)
    model = trained(gd.FrameSource(rows, "y", missing="drop"))
    with pytest.raises(gd.DataError, match="each row needs a prediction, and the frame, row 3, co"):
        model.predict(rows)


@pytest.mark.parametrize("kind", ["pandas", "Arrow", "narwhals"])
@pytest.mark.parametrize("labels", ["numbers", "names", "quantities"])
def test_estimators_encode_frames(kind, labels):
    names = np.where(Y > 1, "high", "low")
    y = {"numbers": (Y > 1).astype(int), "names": pd.Series(names), "quantities": Y}[labels]
    kinds = {"quantities": gd.MiniBatchRegressor}
    make = kinds.get(labels, gd.MiniBatchClassifier)
    one, other = (make(epochs=5, random_state=0) for _ in range(2))
    one.fit(KINDS[kind](X), y)
    dummies = pd.get_dummies(X, dtype=float)
    other.fit(dummies, y)
    np.testing.assert_array_equal(one.predict(KINDS[kind](X)), other.predict(dummies))
    assert one.score(KINDS[kind](X), y) == other.score(dummies, y)
    assert one.feature_names_in_.tolist() == ["size", "color=blue", "color=green", "color=red"]


def test_an_estimator_makes_no_numbers_of_names():
    with pytest.raises(ValueError, match="y must hold numbers"):
        gd.MiniBatchRegressor().fit(X, np.where(Y > 1, "high", "low"))


def test_a_width_that_does_not_fit_is_named():
    with pytest.raises(gd.ShapeError, match=r"the model takes rows of 2 numbers"):
        linear(2).fit(X, Y, loss="mse")


PAIRS = list(zip(RNG.normal(size=(N, 2)), RNG.normal(size=N), strict=True))


@pytest.mark.parametrize(
    "pieces",
    [
        PAIRS,
        lambda: iter(PAIRS),
        [(np.stack([x for x, _ in PAIRS]), np.array([y for _, y in PAIRS]))],
    ],
    ids=["pairs", "function", "arrays"],
)
def test_fit_takes_iterables(pieces):
    one, other = linear(2), linear(2)
    one.fit(pieces, loss="mse", epochs=3, shuffle=False)
    other.fit(gd.IterableSource(pieces), loss="mse", epochs=3, shuffle=False)
    np.testing.assert_array_equal(one.flat_params, other.flat_params)
    # A shuffle goes through a buffer.
    batches = gd.Batches(pieces, batch_size=50, shuffle=True)
    assert batches.buffer == 10_000
    y = np.concatenate([y for _, y in batches])
    assert sorted(y) == sorted(target for _, target in PAIRS)
    assert one.evaluate(pieces) == one.evaluate(gd.IterableSource(pieces))


@pytest.mark.parametrize("x", [object(), 3, "rows.csv", linear(), {1, 2}, [object()]])
def test_what_gives_no_rows_is_refused_in_words(x):
    model = linear(2)
    for call in (lambda: model.fit(x, loss="mse"), lambda: model.predict(x), lambda: gd.Batches(x)):
        with pytest.raises(
            (gd.DataError, TypeError), match=r"must hold numbers|a piece is|has shape"
        ):
            call()
