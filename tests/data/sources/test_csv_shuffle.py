"""Rows of a CSV are fetched from their places in the file, in any order, as from an array.

The index of row offsets can be kept for other runs, and is refused for another file.
"""

import csv
import gzip
import io

import numpy as np
import pytest
from budgets import examples
from hypothesis import given
from hypothesis import strategies as st

import minigd as gd

properties = examples(12)


def written(rows, newline="\n", last=True):
    out = io.StringIO()
    csv.writer(out, lineterminator=newline).writerows([("n", "word", "label"), *rows])
    text = out.getvalue()
    return (text if last else text.removesuffix(newline)).encode()


def table(n):
    words = ["plain", "two\nlines", "a,b", 'say "x"', ""]
    return [(i, words[i % 5], i % 3) for i in range(n)]


def source(rows, newline="\n", last=True, **options):
    options = {"target": "label", "missing": 0.0, "block_size": 50, **options}
    return gd.CsvSource(io.BytesIO(written(rows, newline, last)), **options)


def whole(rows):
    xs, ys = zip(*rows.chunks(), strict=True)
    return np.concatenate(xs), np.concatenate(ys)


# Taking ------------------------------------------------------------------------------------------


@properties
@given(
    st.integers(1, 30).flatmap(
        lambda n: st.tuples(st.just(n), st.lists(st.integers(-n, n - 1), max_size=60))
    ),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
)
def test_rows_by_number_are_those_of_the_whole(drawn, newline, last):
    n, index = drawn
    rows = source(table(n), newline, last)
    x, y = whole(rows)
    own_x, own_y = rows.take(np.array(index, dtype=int))
    np.testing.assert_array_equal(own_x, x[index])
    np.testing.assert_array_equal(own_y, y[index])


@properties
@given(st.slices(20))
def test_slices_are_those_of_the_whole(rows):
    made = source(table(20))
    x, y = whole(made)
    own_x, own_y = made.take(rows)
    np.testing.assert_array_equal(own_x, x[rows])
    np.testing.assert_array_equal(own_y, y[rows])


def test_a_last_row_without_newline_can_be_asked_for_twice():
    rows = gd.CsvSource(io.BytesIO(b"a,b\n1,2\n3,4"))
    assert rows.take(np.array([1, 1, 0, 1]))[0].tolist() == [[3, 4], [3, 4], [1, 2], [3, 4]]


def test_a_number_beyond_the_last_row_is_refused():
    rows = source(table(5))
    for index in (5, -6):
        with pytest.raises(IndexError):
            rows.take(np.array([0, index]))


@pytest.mark.parametrize("gaps", [{0}, {4}, {0, 1, 5, 9}, set(range(1, 10))])
def test_dropped_rows_are_never_fetched(gaps):
    lines = [f"{'' if i in gaps else i},{i}" for i in range(10)]
    rows = gd.CsvSource(
        io.BytesIO("\n\n".join(["a,b", *lines]).encode()), missing="drop", block_size=8
    )
    kept = [i for i in range(10) if i not in gaps]
    assert rows.rows == len(kept)
    order = np.random.default_rng(0).permutation(len(kept))
    assert rows.take(order)[0][:, 0].tolist() == [kept[i] for i in order]


def test_several_files_are_one_run_of_rows(tmp_path):
    paths = []
    for i, n in enumerate([3, 0, 7, 1]):
        paths.append(tmp_path / f"{i}.csv")
        paths[-1].write_text("a\n" + "".join(f"{10 * i + j}\n" for j in range(n)))
    rows = gd.CsvSource(paths)
    x = np.concatenate([x for x, _ in rows.chunks()])
    assert x[:, 0].tolist() == [0, 1, 2, 20, 21, 22, 23, 24, 25, 26, 30]
    order = np.random.default_rng(0).permutation(11)
    np.testing.assert_array_equal(rows.take(order)[0], x[order])


# Epochs ------------------------------------------------------------------------------------------


@properties
@given(st.integers(1, 60), st.integers(1, 25), st.integers(0, 3))
def test_a_shuffled_epoch_is_that_of_an_array_with_the_same_seed(n, batch_size, seed):
    rows = source(table(n))
    array = gd.ArraySource(*whole(rows))
    one, other = (
        gd.Batches(s, batch_size=batch_size, shuffle=True, seed=seed) for s in (rows, array)
    )
    for _ in range(2):
        seen = []
        for own, its in zip(one, other, strict=True):
            np.testing.assert_array_equal(own.rows, its.rows)
            assert own.x.dtype == its.x.dtype
            np.testing.assert_array_equal(own.x, its.x)
            np.testing.assert_array_equal(own.y, its.y)
            seen += own.x[:, 0].tolist()
        assert sorted(seen) == list(range(n))


def test_rows_are_gathered_for_many_batches_at_once(monkeypatch):
    rows = source(table(100))
    taken = []
    take = gd.CsvSource.take
    monkeypatch.setattr(
        gd.CsvSource, "take", lambda self, i, w=None: taken.append(len(i)) or take(self, i, w)
    )
    rows.gather = 40
    batches = list(gd.Batches(rows, batch_size=15, shuffle=True))
    assert [len(b.x) for b in batches] == [15] * 6 + [10]
    assert taken == [30, 30, 30, 10]


# Gzip --------------------------------------------------------------------------------------------


def test_a_gzipped_file_can_not_be_shuffled_in_place_and_says_what_can_be_done(tmp_path):
    path = tmp_path / "rows.csv.gz"
    path.write_bytes(gzip.compress(written(table(40))))
    rows = gd.CsvSource(path, target="label", missing=0.0)
    with pytest.raises(ValueError, match=r"one after the other.*give a buffer.*source.cache\("):
        gd.Batches(rows, shuffle=True)
    with pytest.raises(gd.DataError, match=r"is packed.*unpack it, or use source.cache\(folder\)"):
        rows.take(np.array([3]))
    for batches in (
        gd.Batches(rows, batch_size=7, shuffle=True, buffer=10),
        gd.Batches(rows.cache(tmp_path / "cache"), batch_size=7, shuffle=True),
    ):
        order = [int(n) for x, _ in batches for n in x[:, 0]]
        assert order != list(range(40))
        assert sorted(order) == list(range(40))


# The index in a file -----------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes(written(table(200)))
    return path


def kept(path, **options):
    """Return a source that keeps its index next to the file."""
    index = path.with_name("rows.index")
    return gd.CsvSource(path, index_path=index, **{"missing": 0.0, "target": "label", **options})


def test_the_index_is_kept_and_used_again(path, monkeypatch):
    index = path.with_name("rows.index")
    first = kept(path)
    assert not index.exists()
    x, _ = first.take(np.array([5, 3]))
    assert index.exists()
    again = kept(path, block_size=7)
    # With the index, only the rows themselves are read.
    monkeypatch.setattr(again._rows_by_number, "build", None)
    np.testing.assert_array_equal(again.take(np.array([5, 3]))[0], x)


def test_the_index_takes_8_bytes_a_row(path):
    rows = kept(path)
    rows.take(np.array([0]))
    (starts,) = rows._rows_by_number.starts
    assert starts.nbytes == 8 * (rows.rows + 1)
    assert path.with_name("rows.index").stat().st_size < 8 * rows.rows + 2000


def test_the_index_of_a_moved_file_is_still_its_own(path, tmp_path):
    x, _ = kept(path).take(slice(0, 9))
    moved = path.rename(tmp_path / "moved.csv")
    np.testing.assert_array_equal(kept(moved).take(slice(0, 9))[0], x)


def test_the_index_of_another_file_is_refused(path):
    kept(path).take(np.array([0]))
    content = path.read_bytes()
    path.write_bytes(content.replace(b"199", b"991"))
    with pytest.raises(gd.CheckpointError, match=r"index of data other than .*rows.csv: delete it"):
        kept(path).take(np.array([0]))


def test_the_index_of_other_dropped_rows_is_refused(path):
    # Which rows are dropped depends on the columns in use and on what is missing.
    drop = {"missing": "drop", "features": ["n", "word"]}
    kept(path, **drop).take(np.array([0]))
    for other in [{"missing": 0.0}, {**drop, "features": ["n"]}, {**drop, "na": ["plain"]}]:
        with pytest.raises(gd.CheckpointError, match="index of data other"):
            kept(path, **other).take(np.array([0]))


def test_columns_may_change_where_no_rows_are_dropped(path):
    kept(path).take(np.array([0]))
    assert kept(path, features=["n"]).take(np.array([7]))[0].tolist() == [[7]]


def test_a_damaged_index_is_refused(path):
    path.with_name("rows.index").write_bytes(b"something else")
    with pytest.raises(gd.CheckpointError, match="not a file that minigd saved"):
        kept(path).take(np.array([0]))


def test_an_index_of_rows_that_leave_knows_which_words_are_levels(tmp_path):
    path, index = tmp_path / "rows.csv", tmp_path / "rows.index"
    path.write_text("c,x,y\nZA,1,1\nNA,2,2\nDE,3,3\nZA,4,4\nNA,5,5\nDE,6,6\n")
    others = {"usual": {"na": ["NA"]}, "named": {"categories": {"c": ["NA", "ZA", "DE"]}}}
    others["none"] = {"keep_default_na": False}
    expected = {"usual": [1, 3, 4, 6], "named": [1, 2, 3, 4, 5, 6], "none": [1, 2, 3, 4, 5, 6]}

    def opened(name):
        options = {"target": "y", "missing": "drop", "index_path": index, **others[name]}
        return gd.CsvSource(path, **options)

    for first in others:
        for second in others:
            index.unlink(missing_ok=True)
            for name in (first, second):
                try:
                    _, y = opened(name).take(np.arange(len(expected[name])))
                except gd.CheckpointError:
                    assert first != second
                else:
                    assert y.tolist() == expected[name]


def test_places_know_which_rows_left():
    text = b"c,x,y\na,1,1\nb,,2\na,3,3\n,4,4\n"
    for missing, lines in (("category", [2, 4, 5]), ("drop", [2, 4])):
        source = gd.CsvSource(io.BytesIO(text), target="y", missing=missing)
        assert source.places(np.arange(len(lines))) == [f"line {line}" for line in lines]
    known = gd.CsvSource(io.BytesIO(b"c,x,y\nb,1,1\na,1,2\n"), target="y").schema
    more = io.BytesIO(b"c,x,y\na,1,1\nz,2,2\nb,3,3\n")
    source = gd.CsvSource(more, schema=known.replace(unknown="drop"))
    assert source.places(np.arange(2)) == ["line 2", "line 4"]
