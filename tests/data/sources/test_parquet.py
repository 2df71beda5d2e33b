"""Parquet files give the rows that pandas reads from them, whatever their row groups.

Categories, nulls and several files are settled as in a CSV.
"""

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
    # Integers and booleans with nulls are something else to pandas than those without.
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
    with pytest.raises(gd.DataError, match=r"1.parquet: the columns are .*0.parquet: it lacks 'a'"):
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


def test_a_stream_is_shuffled_with_a_buffer_or_from_a_cache(tmp_path):
    source = gd.ParquetSource(written(tmp_path / "rows.parquet", frame()), target="y")
    with pytest.raises(ValueError, match=r"give a buffer.*or cache them once"):
        gd.Batches(source, shuffle=True)
    for batches in (
        gd.Batches(source, batch_size=7, shuffle=True, buffer=8),
        gd.Batches(source.cache(tmp_path / "cache"), batch_size=7, shuffle=True),
    ):
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
    with pytest.warns(UserWarning, match="no name, as where pandas wrote the index") as caught:
        source = gd.ParquetSource(path, target="b")
    [remedy] = caught[0].message.remedies
    assert remedy.options == {"exclude": unnamed}
    assert set(unnamed) < set(source.names)
    assert str(caught[0].filename) == __file__
    mended = gd.ParquetSource(path, target="b", **remedy.options)
    assert not set(unnamed) & set(mended.names)
    # What was asked for by name, or by a schema, is meant.
    gd.ParquetSource(path, target="b", features=["a", *unnamed])
    gd.ParquetSource(path, schema=source.schema)


def test_a_counted_index_is_no_column(tmp_path):
    indexed(None).to_parquet(tmp_path / "rows.parquet")
    assert gd.ParquetSource(tmp_path / "rows.parquet", target="b").names == ["a"]
