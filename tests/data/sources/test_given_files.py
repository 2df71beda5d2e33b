"""Several files are one table: a list, a pattern, a folder, with `~` for the user's folder.

The rows are those of a single file with all of them, in file order and in any other order.
"""

import gzip
import io
import itertools
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigd as gd

RNG = np.random.default_rng(0)
N = 120
FRAME = pd.DataFrame(
    {"a": RNG.normal(size=N), "color": RNG.choice(["red", "blue"], N), "y": np.arange(N) % 3}
)
TEXT = FRAME.to_csv(index=False)
HEADER, *LINES = TEXT.splitlines(keepends=True)
CUTS = ((0, 30), (30, 31), (31, N))


def whole(source):
    xs, ys = zip(*source.chunks(), strict=True)
    return np.concatenate(xs).tobytes(), np.concatenate(ys).tobytes(), source.names


def parts(folder, ending=".csv"):
    """Write three files of rows, named in their order; return their paths."""
    folder.mkdir()
    paths = [folder / f"part-{k}{ending}" for k in range(3)]
    for path, (a, b) in zip(paths, CUTS, strict=True):
        if ending.startswith((".parquet", ".pq")):
            FRAME[a:b].to_parquet(path)
        else:
            path.write_text(HEADER + "".join(LINES[a:b]))
    return paths


@pytest.fixture(params=["csv", "parquet"])
def kind(request):
    """Return a way to open tables, the ending of their names, and the rows of all of them."""
    source = {"csv": gd.CsvSource, "parquet": gd.ParquetSource}[request.param]
    file = io.BytesIO(TEXT.encode() if request.param == "csv" else FRAME.to_parquet())
    return source, f".{request.param}", whole(source(file, target="y"))


GIVEN = {
    "list": lambda folder, paths: paths,
    "texts": lambda folder, paths: [str(path) for path in paths],
    "bytes": lambda folder, paths: [bytes(path) for path in paths],
    "tuple": lambda folder, paths: tuple(paths),
    "pattern": lambda folder, paths: f"{folder}/*{paths[0].suffix}",
    "pattern as a path": lambda folder, paths: folder / "part-[0-9].*",
    "deep pattern": lambda folder, paths: f"{folder.parent}/**/part-*",
    "folder": lambda folder, paths: folder,
    "folder as text": lambda folder, paths: f"{folder}/",
    "list of patterns": lambda folder, paths: [paths[0], f"{folder}/part-[12]*"],
    "home": lambda folder, paths: "~/rows",
    "pattern at home": lambda folder, paths: Path("~/rows/*"),
}


@pytest.mark.few
@pytest.mark.parametrize("way", GIVEN)
def test_several_files_are_the_table_that_holds_all_their_rows(tmp_path, monkeypatch, kind, way):
    source, ending, expected = kind
    folder = tmp_path / "rows"
    paths = parts(folder, ending)
    more = (f".hidden{ending}", f"_SUCCESS{ending}", "notes.md") if "folder" in way else ()
    for name in more:
        (folder / name).write_text("nothing")
    (folder / "deeper").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert whole(source(GIVEN[way](folder, paths), target="y")) == expected


def test_rows_of_several_files_are_taken_in_any_order(tmp_path):
    parts(tmp_path / "rows")
    source = gd.CsvSource(tmp_path / "rows", target="y", index_path=tmp_path / "index")
    one = gd.CsvSource(io.BytesIO(TEXT.encode()), target="y")
    order = RNG.permutation(N)
    for rows in (order, slice(25, 40), np.array([30, 30, 0])):
        for some, other in zip(source.take(rows), one.take(rows), strict=True):
            np.testing.assert_array_equal(some, other)
    shuffled = [
        np.concatenate([y for _, y in gd.Batches(s, batch_size=7, shuffle=True, seed=1)])
        for s in (source, one)
    ]
    np.testing.assert_array_equal(*shuffled)


@settings(deadline=None, max_examples=8)
@given(st.lists(st.integers(0, N), max_size=4), st.data())
def test_wherever_a_table_is_cut(cuts, data):
    cuts = [0, *sorted(cuts), N]
    files = []
    for a, b in itertools.pairwise(cuts):
        text = HEADER + "".join(LINES[a:b])
        text = data.draw(st.sampled_from(["", "\ufeff"])) + text
        text = text.rstrip("\n") if data.draw(st.booleans()) else text + "\n"
        pack = data.draw(st.sampled_from([bytes, gzip.compress]))
        files.append(io.BytesIO(pack(text.encode())))
    source, one = gd.CsvSource(files, target="y"), gd.CsvSource(io.BytesIO(TEXT.encode()), "y")
    assert whole(source) == whole(one)


def test_a_folder_of_packed_files_and_a_mixed_one(tmp_path):
    expected = whole(gd.CsvSource(io.BytesIO(TEXT.encode()), target="y"))
    paths = parts(tmp_path / "rows", ".tsv")
    paths[0].with_suffix(".CSV.gz").write_bytes(gzip.compress(paths[0].read_bytes()))
    with zipfile.ZipFile(paths[1].with_suffix(".zip"), "w") as archive:
        archive.write(paths[1], "x.csv")
    paths[1].with_suffix(".zip").rename(paths[1].with_suffix(".dat.zip"))
    for path in paths[:2]:
        path.unlink()
    assert whole(gd.CsvSource(tmp_path / "rows", target="y")) == expected


def test_a_name_with_the_signs_of_a_pattern_is_a_file_if_it_is_there(tmp_path):
    path = tmp_path / "rows[1].csv"
    path.write_text(TEXT)
    assert gd.CsvSource(path, target="y").rows == N
    path.rename(tmp_path / "rows1.csv")
    assert gd.CsvSource(path, target="y").rows == N


# What is wrong ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "differs"),
    [
        ("a,color\n", "it lacks 'y'"),
        ("a,color,y,z\n", "it also has 'z'"),
        ("a,colour,y\n", "it lacks 'color', and it also has 'colour'"),
        ("color,a,y\n", "column 1 is 'color' here and 'a' there"),
        ("p,q,r,s,t,u,v\n", "it also has 'p', 'q', 'r', 's', 't' and 2 more"),
    ],
)
def test_headers_that_differ_are_refused_with_both_files(tmp_path, header, differs):
    paths = parts(tmp_path / "rows")
    paths[1].write_text(header + ",".join("1" * header.count(",") + "2") + "\n")
    with pytest.raises(gd.DataError) as caught:
        gd.CsvSource(tmp_path / "rows", target="y")
    message = str(caught.value)
    assert message.startswith(f"{paths[1]}, line 1: the columns differ from those of {paths[0]}: ")
    assert differs in message
    assert gd.CsvSource([paths[0], paths[2]], target="y").rows == N - 1


@pytest.mark.parametrize(
    ("frame", "differs"),
    [
        (FRAME[["a", "y"]], "it lacks 'color'"),
        (FRAME.rename(columns={"a": "b"}), "it lacks 'a', and it also has 'b'"),
        (FRAME.assign(a="x"), "'a' is (large_)?string here and double there"),
        (FRAME.assign(color=1), "'color' is int64 here and (large_)?string there"),
    ],
)
def test_parquet_files_that_differ_are_refused_with_both(tmp_path, frame, differs):
    paths = parts(tmp_path / "rows", ".parquet")
    frame.to_parquet(paths[1])
    message = f"^{paths[1]}: the columns differ from those of {paths[0]}: .*{differs}; give all"
    with pytest.raises(gd.DataError, match=message):
        gd.ParquetSource(tmp_path / "rows", target="y")


def test_parquet_files_may_have_their_columns_in_any_order_and_numbers_of_any_width(tmp_path):
    paths = parts(tmp_path / "rows", ".pq")
    expected = whole(gd.ParquetSource(tmp_path / "rows", target="y"))
    a, b = CUTS[1]
    FRAME[a:b][["y", "color", "a"]].astype({"y": "int8"}).to_parquet(paths[1])
    assert whole(gd.ParquetSource(tmp_path / "rows", target="y")) == expected
    table = pa.table(
        {"a": pa.nulls(1), "color": pa.array(["red"]).dictionary_encode(), "y": [True]}
    )
    pq.write_table(table, paths[1])
    rows = gd.ParquetSource(tmp_path / "rows", target="y", missing={"a": 0.0})
    assert rows.rows == N


@pytest.mark.parametrize("source", [gd.CsvSource, gd.ParquetSource])
def test_nothing_is_there(tmp_path, source):
    with pytest.raises(FileNotFoundError, match=rf"no file matches '{tmp_path}/\*.csv'"):
        source(f"{tmp_path}/*.csv")
    (tmp_path / "rows").mkdir()
    message = rf"the folder '{tmp_path}/rows' has no file that ends in \.\w+,? .*'.*/\*.txt'$"
    with pytest.raises(gd.DataError, match=message):
        source(tmp_path / "rows")
    with pytest.raises(gd.DataError, match="no file was given"):
        source([])


def test_tables_in_the_folders_of_a_folder_are_named_by_a_pattern(tmp_path):
    parts(tmp_path / "rows")
    with pytest.raises(gd.DataError, match=r"or a pattern such as '(.*/\*\*/\*.csv)'") as caught:
        gd.CsvSource(tmp_path, target="y")
    pattern = str(caught.value).split("'")[-2]
    assert gd.CsvSource(pattern, target="y").rows == N


def test_a_file_that_is_there_plain_and_packed_does_not_count_twice(tmp_path):
    paths = parts(tmp_path / "rows")
    packed = paths[2].with_name("part-2.csv.gz")
    packed.write_bytes(gzip.compress(paths[2].read_bytes()))
    for given_files in (tmp_path / "rows", f"{tmp_path}/rows/*"):
        with pytest.raises(gd.DataError, match=r"part-2.csv and .*part-2.csv.gz, which may be"):
            gd.CsvSource(given_files, target="y")
    packed.unlink()
    assert gd.CsvSource(tmp_path / "rows", target="y").rows == N


# compression --------------------------------------------------------------------------------------


def test_a_compression_that_is_given_must_be_that_of_the_file(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(TEXT)
    packed = tmp_path / "rows.csv.gz"
    packed.write_bytes(gzip.compress(TEXT.encode()))
    for file, right in ((path, None), (packed, "gzip")):
        for compression in ("infer", right):
            assert gd.CsvSource(file, target="y", compression=compression).rows == N
        for wrong in {None, "gzip", "bz2", "xz", "zstd", "zip"} - {right}:
            with pytest.raises(gd.DataError, match=f"^{file} is .*; leave out compression$"):
                gd.CsvSource([file], target="y", compression=wrong)
    for odd in ("gz", "", 3, "none"):
        with pytest.raises((ValueError, TypeError), match="compression"):
            gd.CsvSource(path, compression=odd)
