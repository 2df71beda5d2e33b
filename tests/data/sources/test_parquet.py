"""Parquet files give the rows that pandas reads from them, whatever their row groups.

Categories, nulls and several files are handled as in a CSV.
"""

import tracemalloc

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from budgets import examples
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

import minigd as gd


def frame(n=30):
    words = ["red", "green", "blue"]
    return pd.DataFrame(
        {
            "a": np.arange(n) / 8,
            "flag": np.arange(n) % 2 == 0,
            "color": [words[i % 3] for i in range(n)],
            "y": np.arange(n),
        }
    )


def written(path, rows, row_group_size=None):
    table = rows if isinstance(rows, pa.Table) else pa.Table.from_pandas(rows, preserve_index=False)
    parquet.write_table(table, path, row_group_size=row_group_size)
    return path


def whole(source):
    xs, ys = zip(*source.chunks(), strict=True)
    return np.concatenate(xs), np.concatenate(ys)


@examples(12)
@given(groups=st.integers(1, 40), block_rows=st.integers(1, 40))
def test_rows_do_not_depend_on_groups_and_blocks(tmp_path_factory, groups, block_rows):
    rows = frame()
    path = written(tmp_path_factory.mktemp("parquet") / "rows.parquet", rows, groups)
    source = gd.ParquetSource(path, target="y", block_rows=block_rows)
    x, y = whole(source)
    expected = pd.get_dummies(rows.drop(columns="y")).to_numpy(dtype="float32")
    np.testing.assert_array_equal(x, expected)
    np.testing.assert_array_equal(y, rows["y"])
    other = gd.ParquetSource(path, target="y")
    assert source.fingerprint() == other.fingerprint()


@pytest.mark.parametrize("block_rows", [1, 4, 1000])
def test_nulls_make_no_column_another_one(tmp_path, block_rows):
    # Integers and booleans with nulls have other dtypes in pandas than those without.
    table = pa.table(
        {
            "i": pa.array([1, 2, None, 4, 5], pa.int64()),
            "b": pa.array([True, False, True, None, True], pa.bool_()),
            "s": pa.array(["x", "x", "y", "x", None], pa.string()).dictionary_encode(),
            "y": pa.array([1, 2, 3, 4, 5], pa.int8()),
        }
    )
    path = written(tmp_path / "rows.parquet", table)
    source = gd.ParquetSource(path, target="y", missing=-1.0, block_rows=block_rows)
    assert whole(source)[0].tolist() == [
        [1, 1, 1, 0],
        [2, 0, 1, 0],
        [-1, 1, 0, 1],
        [4, -1, 1, 0],
        [5, 1, 0, 0],
    ]
    dropped = gd.ParquetSource(path, target="y", missing="drop", block_rows=block_rows)
    assert (dropped.rows, dropped.dropped) == (2, 3)
    with pytest.raises(gd.DataError, match=r"rows.parquet, row 2, column 'i': the value is miss"):
        whole(gd.ParquetSource(path, target="y", block_rows=block_rows))


def test_several_files_follow_one_another(tmp_path):
    rows = frame()
    paths = [written(tmp_path / f"{i}.parquet", rows[10 * i : 10 * i + 10]) for i in range(3)]
    assert whole(gd.ParquetSource(paths, target="y"))[1].tolist() == list(range(30))


def test_files_of_other_columns_are_refused(tmp_path):
    paths = [
        written(tmp_path / "0.parquet", frame()),
        written(tmp_path / "1.parquet", frame().drop(columns="a")),
    ]
    with pytest.raises(gd.DataError, match=r"1.parquet: the columns differ .*0.parquet: it lacks"):
        gd.ParquetSource(paths, target="y")


def test_what_is_no_parquet_file_is_refused(tmp_path):
    path = tmp_path / "rows.parquet"
    whole_file = written(path, frame()).read_bytes()
    for content in (b"a,b\n1,2\n", b"", whole_file[:100]):
        path.write_bytes(content)
        with pytest.raises(
            gd.DataError, match=r"rows.parquet is not a Parquet file, or is damaged"
        ):
            gd.ParquetSource(path, target="y")
    with pytest.raises(FileNotFoundError):
        gd.ParquetSource(tmp_path / "none.parquet")


def test_a_damaged_column_is_refused(tmp_path):
    path = written(tmp_path / "rows.parquet", frame(500))
    content = bytearray(path.read_bytes())
    content[4:400] = b"\xff" * 396
    path.write_bytes(content)
    with pytest.raises(gd.DataError, match=r"rows.parquet"):
        gd.ParquetSource(path, target="y")


def test_a_table_without_rows_is_refused(tmp_path):
    with pytest.raises(gd.DataError, match=r"rows.parquet gives no rows"):
        gd.ParquetSource(written(tmp_path / "rows.parquet", frame(0)), target="y")


def test_a_missing_column_is_refused(tmp_path):
    path = written(tmp_path / "rows.parquet", frame())
    with pytest.raises(gd.DataError, match=r"rows.parquet: there is no column 'price'"):
        gd.ParquetSource(path, target="price")


# Any order ---------------------------------------------------------------------------------------


def held_or_not(monkeypatch, held):
    monkeypatch.setattr("minigd.data.sources.parquet.HELD", 1 << 30 if held else 0)


@pytest.mark.parametrize("held", [True, False])
@pytest.mark.parametrize("groups", [None, 7])
def test_rows_are_shuffled_exactly(tmp_path, held, groups, monkeypatch):
    held_or_not(monkeypatch, held)
    rows = frame()
    paths = [
        written(tmp_path / f"{i}.parquet", rows[10 * i : 10 * i + 10], groups) for i in range(3)
    ]
    source = gd.ParquetSource(paths, target="y", block_rows=4)
    x, y = whole(source)
    index = np.array([29, 0, 3, 3, -1, 17, 10, 9])
    for own, all_ in zip(source.take(index), (x, y), strict=True):
        np.testing.assert_array_equal(own, all_[index])
    batches = gd.Batches(source, batch_size=7, shuffle=True)
    arrays = gd.Batches(x, y, batch_size=7, shuffle=True)
    for _ in range(2):
        for (own_x, own_y), (right_x, right_y) in zip(batches, arrays, strict=True):
            np.testing.assert_array_equal(own_x, right_x)
            np.testing.assert_array_equal(own_y, right_y)


@pytest.mark.parametrize("held", [True, False])
def test_rows_that_are_dropped_are_not_counted(tmp_path, held, monkeypatch):
    held_or_not(monkeypatch, held)
    rows = frame()
    rows.loc[[0, 7, 8], "a"] = np.nan
    source = gd.ParquetSource(written(tmp_path / "r.parquet", rows, 4), "y", missing="drop")
    assert source.take([0, 6, 26])[1].tolist() == [1, 9, 29]
    assert source.places(np.array([26, 0])) == ["row 29", "row 1"]


def test_only_the_columns_asked_for_are_read(tmp_path, monkeypatch):
    asked = []
    read = parquet.ParquetFile.iter_batches

    def iter_batches(self, *args, **options):
        asked.append(options["columns"])
        return read(self, *args, **options)

    monkeypatch.setattr(parquet.ParquetFile, "iter_batches", iter_batches)
    rows = frame().assign(**{"a.b": 1.0, "lists": [[1]] * 30})
    source = gd.ParquetSource(
        written(tmp_path / "rows.parquet", rows), target="y", features=["flag", "a"]
    )
    whole(source)
    source.take([3])
    assert len(asked) > 2
    assert {tuple(columns) for columns in asked} == {("a", "flag", "y")}


def test_a_file_of_one_row_group_is_read_by_pages(tmp_path, monkeypatch):
    # How much of a group of 25.6 MB is read at once while rows are shuffled.
    for name, size in (("HELD", 0), ("_LARGE", 0)):
        monkeypatch.setattr(f"minigd.data.sources.parquet.{name}", size)
    monkeypatch.setattr("minigd.data.sources.typed._GATHERED", 1 << 18)
    values = np.random.default_rng(0).normal(size=400_000)
    table = pa.table({f"c{j}": values + j for j in range(8)})
    options = {"row_group_size": 400_000, "compression": None, "data_page_size": 1 << 14}
    parquet.write_table(table, tmp_path / "rows.parquet", use_dictionary=False, **options)
    del table
    source = gd.ParquetSource(tmp_path / "rows.parquet", target="c0", block_rows=8192)
    assert source.gather < 10_000
    tracemalloc.start()
    try:
        next(iter(gd.Batches(source, batch_size=100, shuffle=True)))
        assert tracemalloc.get_traced_memory()[1] < 25.6e6 / 3
    finally:
        tracemalloc.stop()


def test_a_file_that_has_changed_is_refused(tmp_path):
    path = written(tmp_path / "rows.parquet", frame())
    source = gd.ParquetSource(path, target="y")
    written(path, frame().assign(a=7.0), 5)
    for read in (lambda: whole(source), lambda: source.take([3])):
        with pytest.raises(gd.DataError, match=r"rows.parquet has changed since it was opened"):
            read()


def test_a_file_object_is_read_as_a_file(tmp_path):
    path = written(tmp_path / "rows.parquet", frame(), 7)
    with open(path, "rb") as file:
        source = gd.ParquetSource(file, target="y")
        np.testing.assert_array_equal(source.take([9, 3])[1], [9, 3])


def test_a_cache_gives_the_same_rows(tmp_path):
    source = gd.ParquetSource(written(tmp_path / "rows.parquet", frame()), target="y")
    batches = gd.Batches(source.cache(tmp_path / "cache"), batch_size=7, shuffle=True)
    assert sorted(int(v) for _, y in batches for v in y) == list(range(30))


# The index of a frame ----------------------------------------------------------------------------


def indexed(index):
    return pd.DataFrame({"a": [1.5, 2.5, 3.5], "b": [1, 0, 1]}, index=index)


@pytest.mark.parametrize("dtype", ["int64", "float32", "Int64", "str", "category"])
def test_a_named_index_is_a_column_like_others(tmp_path, dtype):
    index = pd.Index(pd.Series([7, 9, 7]).astype(dtype), name="y")
    indexed(index).to_parquet(tmp_path / "rows.parquet")
    for block_rows in (1, 100):
        source = gd.ParquetSource(tmp_path / "rows.parquet", target="y", block_rows=block_rows)
        assert source.names == ["a", "b"]
        x, y = whole(source)
        assert x.tolist() == [[1.5, 1], [2.5, 0], [3.5, 1]]
        labels = [source.classes[k] for k in y] if source.classes else y.tolist()
        assert list(map(float, labels)) == [7, 9, 7]


def test_each_level_of_an_index_is_a_column(tmp_path):
    index = pd.MultiIndex.from_arrays([[4, 5, 6], [1.25, 2.5, 5.0]], names=["site", "y"])
    indexed(index).to_parquet(tmp_path / "rows.parquet")
    source = gd.ParquetSource(tmp_path / "rows.parquet", target="y")
    assert source.names == ["a", "b", "site"]
    assert whole(source)[0].tolist() == [[1.5, 1, 4], [2.5, 0, 5], [3.5, 1, 6]]
    assert whole(source)[1].tolist() == [1.25, 2.5, 5.0]


@pytest.mark.parametrize(
    ("index", "unnamed"),
    [
        (pd.Index([10, 20, 30]), ["__index_level_0__"]),
        (pd.MultiIndex.from_arrays([[4, 5, 6], [1, 2, 3]], names=["site", None]),
         ["__index_level_1__"]),
        (pd.MultiIndex.from_arrays([[4, 5, 6], [1, 2, 3]]),
         ["__index_level_0__", "__index_level_1__"]),
    ],
)  # fmt: skip
def test_an_index_without_a_name_is_warned_of(tmp_path, index, unnamed):
    path = tmp_path / "rows.parquet"
    indexed(index).to_parquet(path)
    with pytest.warns(UserWarning, match="no name, as when pandas writes the index") as caught:
        source = gd.ParquetSource(path, target="b")
    [remedy] = caught[0].message.remedies
    assert remedy.options == {"exclude": unnamed}
    assert set(unnamed) < set(source.names)
    assert str(caught[0].filename) == __file__
    mended = gd.ParquetSource(path, target="b", **remedy.options)
    assert not set(unnamed) & set(mended.names)
    # A column that was requested by name, or by a schema, is used without a warning.
    gd.ParquetSource(path, target="b", features=["a", *unnamed])
    gd.ParquetSource(path, schema=source.schema)


def test_a_counted_index_is_no_column(tmp_path):
    indexed(None).to_parquet(tmp_path / "rows.parquet")
    assert gd.ParquetSource(tmp_path / "rows.parquet", target="b").names == ["a"]
