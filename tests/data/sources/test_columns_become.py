"""What columns become: missing values, dates, many levels, heavy tails, ids."""

import datetime
import io
import json
import sys
import zlib

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigd as gd
from minigd.data.tables.dates import FORMATS, PARTS, DateFormats
from minigd.data.tables.missing import fills_of
from minigd.data.tables.schema import Schema

SOURCES = ["csv", "frames", "parquet"]


def whole(source):
    x, y = zip(*source.chunks(), strict=True)
    return np.concatenate(x), np.concatenate(y)


def source(frame, kind, tmp_path, **options):
    """Open a table as a CSV, a Parquet file or frames."""
    if kind == "csv":
        return gd.CsvSource(io.BytesIO(frame.to_csv(index=False).encode()), **options)
    if kind == "parquet":
        path = tmp_path / "rows.parquet"
        frame.to_parquet(path, index=False)
        return gd.ParquetSource(path, block_rows=7, **options)
    return gd.IterableSource([frame[:9], frame[9:]], **options)


def table(n=40, seed=0):
    """Return a table with gaps in numbers, categories and dates."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "area": rng.normal(size=n).round(3) * 100,
            "rooms": rng.integers(1, 6, n).astype(float),
            "city": rng.choice(["Rome", "Oslo", "Bern"], n),
            "when": pd.date_range("2020-01-30", periods=n).astype(str),
            "y": rng.permutation(n) + 0.5,
        }
    )
    for column in ("area", "city", "when"):
        frame.loc[rng.random(n) < 0.2, column] = None
    return frame


# Missing values -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("policy", ["mean", "median", "flag"])
def test_missing_numbers_are_filled_with_what_pandas_finds(kind, policy, tmp_path):
    frame = table()
    rows = source(frame, kind, tmp_path, target="y", missing=policy)
    x = pd.DataFrame(whole(rows)[0], columns=rows.names)
    value = frame["area"].median() if policy == "median" else frame["area"].mean()
    np.testing.assert_allclose(x["area"], frame["area"].fillna(value), rtol=1e-6)
    np.testing.assert_array_equal(x["rooms"], frame["rooms"])
    np.testing.assert_array_equal(x["city=missing"], frame["city"].isna())
    assert ("area=missing" in rows.names) == (policy == "flag")
    assert "rooms=missing" not in rows.names  # no room number is missing
    if policy == "flag":
        np.testing.assert_array_equal(x["area=missing"], frame["area"].isna())
        np.testing.assert_array_equal(x["when=missing"], frame["when"].isna())
    assert rows.gaps == {c: int(frame[c].isna().sum()) for c in ("area", "city", "when")}
    assert (rows.rows, rows.dropped) == (len(frame), 0)


@pytest.mark.parametrize("kind", SOURCES)
def test_each_column_has_its_own_policy(kind, tmp_path):
    frame = table()
    missing = {"area": -1.0, "city": "category", "when": "drop"}
    rows = source(frame, kind, tmp_path, target="y", missing=missing)
    kept = frame[frame["when"].notna()]
    x = pd.DataFrame(whole(rows)[0], columns=rows.names)
    np.testing.assert_allclose(x["area"], kept["area"].fillna(-1), rtol=1e-6)
    assert rows.dropped == len(frame) - len(kept)
    with pytest.raises(gd.DataError, match="column 'city': the value is missing"):
        source(frame, kind, tmp_path, target="y", missing={"area": "mean", "when": "drop"})
    others = {"area": "median", "*": "mean"}
    assert source(frame, kind, tmp_path, target="y", missing=others).rows == len(frame)


@pytest.mark.parametrize("kind", SOURCES)
def test_what_stands_for_a_missing_number_is_learned_from_the_rows_trained_on(kind, tmp_path):
    frame = table(400)
    rows = source(frame, kind, tmp_path, target="y", missing="mean")
    for both in (rows.split(0.4, seed=3), rows.cache(tmp_path / "c").split(0.4, seed=3)):
        part, held_out = both
        y = whole(part)[1]
        numbers = frame.set_index(frame["y"].astype(np.float32))["area"].loc[y]
        mean = part.schema.fills["area"]
        assert mean == pytest.approx(numbers.mean(), rel=1e-5)
        assert held_out.schema.fills == part.schema.fills
        assert mean != pytest.approx(frame["area"].mean(), rel=1e-3)
        filled = whole(held_out)[0]
        assert np.isfinite(filled).all()
        assert (filled[:, 0] == np.float32(mean)).any()


def test_equal_rows_are_on_one_side_whatever_stands_for_their_gaps():
    frame = table(300)
    sides = []
    for policy in ("mean", "median"):
        rows = source(frame, "csv", None, target="y", missing=policy)
        sides.append(whole(rows.split(0.5)[0])[1].tolist())
    assert sides[0] == sides[1]


def test_a_filled_split_is_resumed_from_its_checkpoint(tmp_path):
    rows = source(table(100), "csv", None, target="y", missing="flag")
    batches = gd.Batches(rows.split(0.3)[0], batch_size=16, shuffle=True)

    def trainer():
        model = gd.Sequential([gd.Dense(3), gd.Tanh(), gd.Dense(1)], inputs=len(rows.names))
        return gd.Trainer(model, "mse", gd.SGD(1e-8))

    whole_run = trainer()
    whole_run.fit(batches, epochs=2)
    half = trainer()
    half.fit(batches, epochs=1)
    half.save(tmp_path / "run.npz")
    resumed = gd.Trainer.resume(tmp_path / "run.npz", batches)
    resumed.fit(batches, epochs=1)
    np.testing.assert_array_equal(resumed.model.flat_params, whole_run.model.flat_params)


def test_a_schema_goes_through_json_and_predicts_gaps_that_training_did_not_have():
    train = table().assign(rooms=lambda t: t["rooms"])
    rows = source(train, "csv", None, target="y", missing="flag")
    state = json.loads(json.dumps(rows.schema.state_dict()))
    schema = Schema(**state)
    assert schema.state_dict() == rows.schema.state_dict()
    other = table(seed=1).assign(rooms=None)
    filled = whole(source(other, "csv", None, schema=schema))[0]
    assert (filled[:, rows.names.index("rooms")] == np.float32(train["rooms"].mean())).all()


@given(st.lists(st.lists(st.sampled_from([1.5, -2.0, 7.0, None]), max_size=9), max_size=9))
def test_means_and_medians_of_pieces_are_those_of_the_whole(pieces):
    from minigd.data.tables.missing import fills_of

    arrays = [np.array(p, float).reshape(-1, 1).repeat(2, axis=1) for p in pieces]
    known = [v for piece in pieces for v in piece if v is not None]
    mean, median = fills_of(["mean", "median"], arrays)
    assert mean == pytest.approx(np.mean(known) if known else 0)
    assert median == pytest.approx(np.median(known) if known else 0)


@pytest.mark.parametrize("missing", ["average", {"area": "none"}, {"area": {}}, None, True, np.inf])
def test_an_unknown_policy_is_refused(missing):
    with pytest.raises(ValueError, match="missing"):
        source(table(), "csv", None, target="y", missing=missing)


def test_a_policy_of_a_column_that_is_not_there_is_refused():
    with pytest.raises(gd.DataError, match="there is no column 'areas'"):
        source(table(), "csv", None, target="y", missing={"areas": "mean"})


# Dates --------------------------------------------------------------------------------------


def test_every_notation_is_read_as_python_reads_it():
    days = [datetime.datetime(2014, 5, 2, 6, 30), datetime.datetime(2015, 12, 31, 18, 0)]
    for notation in [f for f in FORMATS if "%z" not in f]:
        texts = [day.strftime(notation) for day in days]
        formats = DateFormats()
        formats.add(pd.Series(texts, dtype=object))
        found = formats.dates()
        expected = [datetime.datetime.strptime(text, notation) for text in texts]
        x = found._replace(parts=PARTS).encode(pd.Series(texts, dtype=object))
        first = min(expected)
        for row, day in zip(x, expected, strict=True):
            hour = day.hour + day.minute / 60
            elapsed = (day - first).total_seconds() / 86400
            parts = [day.year, day.month, day.weekday(), hour, elapsed]
            assert row.tolist() == pytest.approx(parts), notation


@pytest.mark.parametrize("kind", SOURCES)
def test_dates_become_their_parts(kind, tmp_path):
    frame = table()
    frame["when"] = pd.date_range("2014-05-02 06:30", periods=len(frame), freq="37h").astype(str)
    rows = source(frame[["when", "y"]], kind, tmp_path, target="y")
    when = pd.to_datetime(frame["when"])
    x = pd.DataFrame(whole(rows)[0], columns=rows.names)
    assert "when year" not in rows.names  # it is always 2014
    np.testing.assert_array_equal(x["when month"], when.dt.month)
    np.testing.assert_array_equal(x["when day of week"], when.dt.day_of_week)
    np.testing.assert_array_equal(x["when hour"], when.dt.hour + when.dt.minute / 60)
    days = (when - when.min()) / pd.Timedelta(days=1)
    np.testing.assert_allclose(x["when days"], days, rtol=1e-6)


def test_days_and_months_that_can_be_exchanged_are_asked_for():
    text = "when,y\n1/5/2019,1\n3/8/2019,2\n"
    with pytest.raises(gd.DataError, match=r"may be %d/%m/%Y or %m/%d/%Y.*dates=") as error:
        gd.CsvSource(io.BytesIO(text.encode()), target="y")
    options = error.value.remedies[0].options
    assert options == {"dates": {"when": "%d/%m/%Y"}}
    for notation, months in (("%d/%m/%Y", [5, 8]), ("%m/%d/%Y", [1, 3])):
        rows = gd.CsvSource(io.BytesIO(text.encode()), target="y", dates={"when": notation})
        assert whole(rows)[0][:, rows.names.index("when month")].tolist() == months


def test_seconds_since_1970_are_dates_when_asked():
    frame = pd.DataFrame({"t": [1398988800, 1398988800 + 86400 * 40], "y": [1.0, 2.0]})
    for kind in ("csv", "frames"):
        rows = source(frame, kind, None, target="y", dates={"t": "epoch"})
        assert whole(rows)[0].tolist() == [[5, 4, 0], [6, 2, 40]]
    assert source(frame, "csv", None, target="y").names == ["t"]


def test_a_text_that_is_no_date_is_refused_with_its_line():
    schema = source(table(), "csv", None, target="y", missing="mean").schema
    bad = table().assign(when="yesterday")
    with pytest.raises(gd.DataError, match="line 2, column 'when': 'yesterday' is not a date in"):
        source(bad, "csv", None, schema=schema)


# Many levels --------------------------------------------------------------------------------


def cities(n=2000, seed=0):
    rng = np.random.default_rng(seed)
    numbers = np.minimum(rng.geometric(0.02, n), 300)
    return pd.DataFrame({"city": [f"city {k}" for k in numbers], "y": rng.normal(size=n).round(2)})


@pytest.mark.parametrize("kind", SOURCES)
def test_rare_levels_are_one_level_together(kind, tmp_path):
    frame = cities()
    rows = source(frame, kind, tmp_path, target="y", min_count=12)
    counts = frame["city"].value_counts()
    frequent = sorted(counts.index[counts >= 12])
    assert rows.schema.levels == {"city": sorted([*frequent, "other"])}
    x = pd.DataFrame(whole(rows)[0], columns=rows.names)
    np.testing.assert_array_equal(x["city=other"], ~frame["city"].isin(frequent))
    assert (x.sum(axis=1) == 1).all()
    assert rows.unknown == {"city": int(x["city=other"].sum())}
    assert rows.unknown == source(frame, kind, tmp_path, schema=rows.schema).unknown
    new = pd.DataFrame({"city": ["Atlantis", frequent[0]], "y": [1.0, 2.0]})
    x = pd.DataFrame(whole(source(new, kind, tmp_path, schema=rows.schema))[0], columns=rows.names)
    assert x["city=other"].tolist() == [1, 0]


def test_at_most_a_hundred_levels_have_a_column():
    frame = pd.DataFrame({"c": [f"{k:03} x" for k in range(300) for _ in range(5)], "y": 1.5})
    frame.loc[:50, "y"] = 2.5
    rows = source(frame, "csv", None, target="y", min_count=2)
    assert len(rows.names) == 100
    assert "c=other" in rows.names


@pytest.mark.parametrize("kind", SOURCES)
def test_hashed_categories_are_one_in_the_column_of_their_checksum(kind, tmp_path):
    frame = cities(50)
    frame.loc[3, "city"] = None
    rows = source(frame, kind, tmp_path, target="y", hashed={"city": 16}, missing="flag")
    x = whole(rows)[0]
    assert x.shape == (50, 16)
    texts = frame["city"].fillna("missing")
    assert x.argmax(axis=1).tolist() == [zlib.crc32(t.encode()) % 16 for t in texts]


@pytest.mark.parametrize("kind", SOURCES)
def test_a_code_is_a_category_where_it_is_declared_one(kind, tmp_path):
    frame = pd.DataFrame({"zip": [98178, 98125, 98178, 7], "y": [1.0, 2, 3, 4.5]})
    rows = source(frame, kind, tmp_path, target="y", categories={"zip": None})
    assert rows.names == ["zip=7", "zip=98125", "zip=98178"]
    assert whole(rows)[0].argmax(axis=1).tolist() == [2, 1, 2, 0]


def test_a_new_level_is_other_or_nothing_where_a_schema_says_so():
    rows = source(table(), "csv", None, target="y", missing="flag")
    schema = rows.schema.replace(unknown="other")
    x = whole(source(table().assign(city="Atlantis"), "csv", None, schema=schema))[0]
    columns = [k for k, name in enumerate(rows.names) if name.startswith("city=")]
    assert not x[:, columns].any()


# Heavy tails and ids ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SOURCES)
def test_heavy_tails_are_drawn_in(kind, tmp_path):
    frame = pd.DataFrame({"a": [-5.0, 0.0, None, 1e6], "b": [1.0, 2, 3, 4], "y": [1.0, 2, 3, 4.5]})
    rows = source(frame, kind, tmp_path, target="y", logs=["a"], missing="mean")
    assert rows.names == ["log(a)", "b"]
    known = np.sign(frame["a"]) * np.log1p(frame["a"].abs())
    np.testing.assert_allclose(whole(rows)[0][:, 0], known.fillna(known.mean()), rtol=1e-6)


def test_what_nothing_can_be_learned_from_is_left_out_where_asked():
    n = 60
    frame = table(n)[["rooms", "y"]].assign(
        row=range(100, 100 + n),
        key=[f"K{i}" for i in range(n)],
        blank=None,
        half=np.arange(n) + 0.5,
        pair=[f"P{i // 2}" for i in range(n)],
    )
    rows = source(frame, "csv", None, target="y", leave_out=True)
    assert list(rows.left_out) == ["row", "key", "blank"]
    assert rows.left_out["row"] == "counts the rows"
    assert rows.schema.features == ["rooms", "half", "pair"]
    kept = source(frame, "csv", None, target="y", exclude=["blank"], categories={"key": None})
    assert {"row", "key=K0"} <= {*kept.names}


# Ends of lines ------------------------------------------------------------------------------


@pytest.mark.parametrize("block_size", [1, 30, 1 << 20])
def test_lines_that_end_in_a_lone_carriage_return_are_read(block_size, tmp_path):
    frame = table().drop(columns="when").dropna()
    path = tmp_path / "old.csv"
    path.write_bytes(frame.to_csv(index=False).encode().replace(b"\n", b"\r"))
    rows = gd.CsvSource(path, target="y", block_size=block_size)
    expected = gd.CsvSource(io.BytesIO(frame.to_csv(index=False).encode()), target="y")
    for found, right in zip(whole(rows), whole(expected), strict=True):
        np.testing.assert_array_equal(found, right)
    order = np.random.default_rng(0).permutation(len(frame))
    for found, right in zip(rows.take(order), expected.take(order), strict=True):
        np.testing.assert_array_equal(found, right)
    assert rows.places(np.array([3])) == ["line 5"]
    path.write_bytes(path.read_bytes().replace(b"Rome", b"Rome,1", 1))
    with pytest.raises(gd.DataError, match=r"line \d+: the row has 5 fields"):
        gd.CsvSource(path, target="y")


@pytest.mark.parametrize("width", [1, 3])
def test_means_have_the_same_bits_however_rows_are_cut(width):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, width)) * 10 ** rng.uniform(-9, 9, (500, 1))
    x[rng.random(x.shape) < 0.1] = np.nan
    whole = fills_of(["mean"] * width, [x])
    for size in (1, 7, 100, 499):
        pieces = [x[first : first + size] for first in range(0, 500, size)]
        assert fills_of(["mean"] * width, pieces) == whole
    assert np.allclose(whole, np.nanmean(x, axis=0))


# Wide tables --------------------------------------------------------------------------------


def wide(columns, n=8, seed=0):
    """Return a table of numbers, one text column in 20, with gaps, and as a CSV."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.normal(size=(n, columns)).round(3)).add_prefix("c")
    frame = frame.mask(rng.random(frame.shape) < 0.05)
    texts = {f"c{k}": rng.choice(["red", "green"], n) for k in range(0, columns, 20)}
    y = pd.DataFrame({"y": rng.normal(size=n).round(3)})
    frame = pd.concat([frame.drop(columns=list(texts)), y, pd.DataFrame(texts)], axis=1)
    return frame, frame.to_csv(index=False).encode()


def test_a_wide_table_becomes_the_same_columns_as_its_parts():
    frame, text = wide(1_020)
    rows = gd.CsvSource(io.BytesIO(text), target="y", missing="flag")
    x, y = rows.take(slice(0, rows.rows))
    assert np.array_equal(y, frame["y"].to_numpy(np.float32))
    found = dict(zip(rows.names, x.T, strict=True))
    seen = set()
    for first in range(0, 1_021, 340):
        part = [c for c in frame.columns[first : first + 340] if c != "y"]
        narrow = frame[[*part, "y"]].to_csv(index=False).encode()
        other = gd.CsvSource(io.BytesIO(narrow), target="y", missing="flag", block_size=1000)
        for name, column in zip(other.names, other.take(slice(0, other.rows))[0].T, strict=True):
            assert np.array_equal(found[name], column), name
            seen.add(name)
    assert seen == set(found)


@pytest.mark.parametrize("missing", ["flag", 0.0])
def test_settling_a_wide_table_calls_few_functions_per_column(missing):
    calls = []
    for columns in (250, 500):
        text = wide(columns)[1]
        count = 0

        def note(frame, event, argument):
            nonlocal count
            count += event in ("call", "c_call")

        sys.setprofile(note)
        try:
            rows = gd.CsvSource(io.BytesIO(text), target="y", missing=missing)
            rows.take(slice(0, 8))
        finally:
            sys.setprofile(None)
        calls.append(count)
    assert calls[1] - calls[0] < 250 * 1_000


# Targets ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{"hashed": {"y": 3}}, {"dates": {"y": "auto"}}, {"logs": ["y"]}]
)
@pytest.mark.parametrize("text", ["a,y\n1,2\n3,4\n", "a,y\n1,no\n3,yes\n", "a,y\n1,2020-01-01\n"])
def test_what_features_become_no_target_becomes(options, text):
    [what] = options
    message = rf"'y' is a target, and {what} is for features; leave out {what}="
    with pytest.raises(gd.DataError, match=message) as caught:
        gd.CsvSource(io.BytesIO(text.encode()), "y", **options)
    assert caught.value.remedies[0].options == options
    with pytest.raises(gd.DataError, match=message):
        gd.FrameSource({"a": [1, 2], "y": [1, 0]}, ["y"], **options)
