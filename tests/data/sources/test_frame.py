"""Frames give the rows of the CSV and the Parquet file that they are written to, bit for bit.

A frame is a pandas frame, an Arrow table, a frame that narwhals accepts, or a dict of columns.
"""

import io

import narwhals
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from budgets import examples
from hypothesis import given
from hypothesis import strategies as st

import minigd as gd

WORDS = ["red", "green", "blue", "NA", "Łódź"]


def frame(n=40, seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "a": rng.normal(size=n),
            "whole": rng.integers(-5, 5, n),
            "color": rng.choice(WORDS, n),
            "when": pd.date_range("2020-01-01", periods=n, freq="7h"),
            "y": rng.integers(0, 2**62, n),
        }
    )


def arrow(rows):
    return pa.Table.from_pandas(rows, preserve_index=False)


class Foreign:
    """A frame of another library, which narwhals can convert."""

    def __init__(self, rows):
        self._rows = rows

    @property
    def columns(self):
        return list(self._rows.columns)

    def __narwhals_dataframe__(self):
        return narwhals.from_native(arrow(self._rows))._compliant_frame.__narwhals_dataframe__()


KINDS = {
    "pandas": lambda rows: rows,
    "pandas in Fortran order": lambda rows: rows.copy().set_index(rows["a"].to_numpy()),
    "nullable": lambda rows: rows.convert_dtypes(),
    "dtypes of Arrow": lambda rows: rows.convert_dtypes(dtype_backend="pyarrow"),
    "categories": lambda rows: rows.astype({"color": pd.CategoricalDtype([*WORDS, "unused"])}),
    "objects": lambda rows: rows.astype({"color": object, "whole": object}),
    "dict of lists": lambda rows: rows.to_dict("list"),
    "dict of arrays": lambda rows: {c: rows[c].to_numpy() for c in rows},
    "table": arrow,
    "batch": lambda rows: pa.RecordBatch.from_pandas(rows, preserve_index=False),
    "table in chunks": lambda rows: pa.concat_tables(
        [arrow(rows).slice(s, 7) for s in range(0, len(rows), 7)]
    ),
    "dictionary": lambda rows: arrow(rows.astype({"color": "category"})),
    "narwhals": lambda rows: narwhals.from_native(arrow(rows)),
    "lazy": lambda rows: narwhals.from_native(arrow(rows)).lazy(),
}  # fmt: skip


def whole(source):
    xs, ys = zip(*source.chunks(), strict=True)
    return np.concatenate(xs), None if ys[0] is None else np.concatenate(ys)


def same(one, other):
    return all(
        a.dtype == b.dtype and a.tobytes() == b.tobytes() for a, b in zip(one, other, strict=True)
    )


def csv_of(rows, target, **options):
    file = io.BytesIO(rows.to_csv(index=False).encode())
    return gd.CsvSource(file, target=target, na=[], keep_default_na=False, **options)


@pytest.mark.few
@pytest.mark.parametrize("kind", KINDS)
def test_a_frame_of_any_kind_gives_the_rows_of_its_csv(kind):
    rows = frame()
    source, file = gd.FrameSource(KINDS[kind](rows), target="y"), csv_of(rows, "y")
    assert (source.names, source.rows) == (file.names, 40)
    assert same(whole(source), whole(file))
    index = np.random.default_rng(1).integers(-40, 40, 60)
    assert same(source.take(index), file.take(index))
    assert same(source.take(slice(5, 11)), file.take(slice(5, 11)))
    assert source.take([])[0].shape == (0, len(source.names))
    with pytest.raises(IndexError, match="there are 40 rows"):
        source.take([40])


@examples(3, deadline=None)
@given(data=st.data())
def test_columns_of_any_values_give_the_rows_of_csv_and_parquet(data, tmp_path_factory):
    n = data.draw(st.integers(1, 12))

    def column(values, gaps=True):
        values = st.none() | values if gaps else values
        return data.draw(st.lists(values, min_size=n, max_size=n))

    finite = st.floats(-1e30, 1e30).map(lambda v: v + 0.0)
    rows = pd.DataFrame(
        {
            "f": pd.Series([0.5, *column(finite)], dtype="float64"),
            "i": pd.array([1, *column(st.integers(-(2**53), 2**53))], dtype="Int64"),
            "s": pd.Series(["u", *column(st.sampled_from([*WORDS, "x y", 'q"q']))], dtype=object),
            "y": pd.array([0, *column(st.integers(-(2**62), 2**62), gaps=False)], dtype="Int64"),
        }
    )  # fmt: skip
    missing = data.draw(st.sampled_from(["drop", "mean", "flag", {"y": "drop", "*": 0.5}]))
    path = tmp_path_factory.mktemp("frames") / "rows.parquet"
    rows.to_parquet(path, row_group_size=data.draw(st.integers(1, 13)))
    options = {"target": "y", "missing": missing}
    sources = [
        csv_of(rows, **options),
        gd.ParquetSource(path, block_rows=data.draw(st.integers(1, 13)), **options),
        *(gd.FrameSource(KINDS[k](rows), **options) for k in ("pandas", "table in chunks", "lazy")),
    ]
    first = sources[0]
    order = np.random.default_rng(0).permutation(first.rows)
    for source in sources[1:]:
        assert (source.names, source.rows, source.dropped) == (
            *(first.names, first.rows, first.dropped),
        )
        assert same(whole(source), whole(first))
        assert same(source.take(order), first.take(order))


def test_a_frame_is_shuffled_exactly_and_not_changed():
    rows = frame()
    before = rows.copy()
    batches = gd.Batches(gd.FrameSource(rows, target="whole"), batch_size=7, shuffle=True, seed=3)
    one, two = (np.concatenate([y for _, y in batches]).tolist() for _ in range(2))
    assert one != two
    assert sorted(one) == sorted(two) == sorted(rows["whole"])
    pd.testing.assert_frame_equal(rows, before)


def test_the_columns_of_a_frame_are_not_copied():
    rows = frame()
    source = gd.FrameSource(rows, target="y")
    assert np.shares_memory(source._series["a"].to_numpy(), rows["a"].to_numpy())
    table = arrow(rows)
    source = gd.FrameSource(table, target="y", exclude=["color"])
    buffer = table["a"].chunk(0).buffers()[1].address
    assert source._series["a"].chunk(0).buffers()[1].address == buffer


def test_options_are_those_of_a_csv():
    rows = frame().assign(score=1.5)
    options = {
        "target": "color", "features": ["whole", "a", "when"], "classes": sorted(WORDS),
        "categories": {"whole": None}, "logs": ["a"], "dtype": "float64",
    }  # fmt: skip
    source, file = gd.FrameSource(rows, **options), csv_of(rows, **options)
    assert (source.names, source.classes) == (file.names, file.classes)
    assert same(whole(source), whole(file))
    again = gd.FrameSource(rows[::-1].drop(columns="score"), schema=source.schema)
    assert same(again.take(np.arange(40)[::-1]), whole(source))


def test_means_are_those_of_the_part_that_is_trained_on():
    rows = frame(400)
    rows.loc[::3, "a"] = np.nan
    source, file = (make(rows, missing="mean", target="y") for make in (gd.FrameSource, csv_of))
    for part, other in zip(source.split(0.3), file.split(0.3), strict=True):
        assert same(whole(part), whole(other))


@pytest.mark.parametrize("kind", ["pandas", "table in chunks"])
def test_rows_are_called_by_their_number_in_the_frame(kind):
    rows = frame()
    rows.loc[[2, 7], "a"] = np.nan
    with pytest.raises(gd.DataError, match=r"the frame, row 2, column 'a': the value is missing"):
        gd.FrameSource(KINDS[kind](rows), target="y")
    source = gd.FrameSource(KINDS[kind](rows), target="y", missing="drop")
    assert (source.rows, source.dropped) == (38, 2)
    assert source.places(np.array([0, 2, 6])) == ["row 0", "row 3", "row 8"]
    assert source.first_dropped == "the frame, row 2, column 'a': the value is missing"


def test_a_value_that_changed_is_named_where_it_is_fetched():
    rows = frame()
    source = gd.FrameSource({c: rows[c].to_numpy(copy=True) for c in rows}, target="y")
    source._series["a"][33] = np.inf
    with pytest.raises(gd.DataError, match=r"the frame, row 33, column 'a': inf is not finite"):
        source.take([33, 2])


@pytest.mark.parametrize("values", [[[1, 2]] * 3, [{"b": 1}] * 3, [b"ab"] * 3])
@pytest.mark.parametrize("kind", ["pandas", "table"])
def test_columns_that_no_table_has_are_refused_by_name(values, kind):
    rows = KINDS[kind](pd.DataFrame({"odd": values, "a": [1.0, 2.0, 3.0]}))
    with pytest.raises(
        gd.DataError, match=r"column 'odd' holds values of type .*exclude=\['odd'\]"
    ):
        gd.FrameSource(rows)
    assert gd.FrameSource(rows, exclude=["odd"]).names == ["a"]


@pytest.mark.parametrize(
    "given_",
    [3, None, "rows.csv", [[1.0]], np.zeros((2, 2)), pd.Series([1.0]), object(), pa.array([1.0])],
    ids=lambda given_: type(given_).__name__,
)
def test_what_is_no_frame_is_refused_in_words(given_):
    with pytest.raises(TypeError, match="frame must be a table with named columns, not "):
        gd.FrameSource(given_, target="y")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (frame(0), "the frame gives no rows"),
        (pd.DataFrame([[1, 2, 3]], columns=["a", "a", "y"]), "two columns are called 'a'"),
        (pd.DataFrame({"a": [1.0]}), "there is no column 'y'; the columns are a"),
    ],
)
def test_frames_that_are_no_data(rows, message):
    with pytest.raises(gd.DataError, match=message):
        gd.FrameSource(rows, target="y")


@pytest.mark.parametrize("make", ["frame", "pieces", "parquet"])
def test_whole_numbers_beyond_a_float_are_exact_or_warned_of(make, tmp_path):
    ids = [2**60 + i for i in range(30)]
    rows = pd.DataFrame({"id": ids, "y": np.arange(30)})
    rows.to_parquet(tmp_path / "rows.parquet", row_group_size=7)

    def source(target, **options):
        if make == "parquet":
            return gd.ParquetSource(tmp_path / "rows.parquet", target, block_rows=4, **options)
        if make == "frame":
            return gd.FrameSource(rows, target, **options)
        return gd.IterableSource([rows[:4], rows[4:]], target, **options)

    assert whole(source("id"))[1].tolist() == ids
    assert source("y", categories={"id": ids}).names == [f"id={i}" for i in ids]
    for dtype, apart in (("float32", "1.37e\\+11"), ("float64", "256")):
        message = (
            rf"column 'id' goes from {ids[0]} to {ids[-1]}, and numbers there are {apart} apart"
        )
        with pytest.warns(UserWarning, match=message):
            source("y", dtype=dtype)


def test_one_far_whole_number_is_no_reason_to_warn():
    rows = pd.DataFrame({"id": [*range(30), 2**60, 2**60 + 1], "y": np.arange(32)})
    gd.FrameSource(rows, "y")
    gd.IterableSource([rows[:16], rows[16:]], "y")


def test_a_frame_that_is_computed_is_read_by_narwhals_alone():
    assert same(whole(gd.FrameSource(Foreign(frame()), "y")), whole(gd.FrameSource(frame(), "y")))


@pytest.mark.parametrize("library", ["polars", "duckdb"])
def test_frames_of_other_libraries(library):
    other = pytest.importorskip(library)
    rows = frame()
    expected = whole(gd.FrameSource(rows, "y"))
    if library == "polars":
        given_ = other.from_arrow(arrow(rows))
        frames = [
            given_,
            given_.lazy(),
            given_.with_columns(given_["color"].cast(other.Categorical)),
        ]
    else:
        table = arrow(rows)  # noqa: F841  (the query names it)
        frames = [other.sql("SELECT * FROM table")]
    for one in frames:
        assert same(whole(gd.FrameSource(one, "y")), expected)
