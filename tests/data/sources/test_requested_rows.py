"""Every source takes rows as NumPy does, by number, slice or mask, and refuses others clearly."""

import numpy as np
import pytest

import minigd as gd

N = 12
X = np.random.default_rng(3).normal(size=(N, 2)).astype("float32")
Y = np.arange(N, dtype="float32")
LINES = "".join(
    f"{float(a)!r},{float(b)!r},{y!r}\n" for (a, b), y in zip(X, Y.tolist(), strict=True)
)


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def npy(folder, order="C"):
    np.save(folder / "x.npy", np.asarray(X, order=order))
    np.save(folder / "y.npy", Y)
    return gd.NpySource(folder / "x.npy", folder / "y.npy")


def dropping(folder):
    path = write(folder / "t.csv", f"a,b,y\n,1,1\n{LINES}")
    return gd.CsvSource(path, target="y", missing="drop")


def parquet(folder):
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    frame = pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "y": Y})
    frame.to_parquet(folder / "t.parquet")
    return gd.ParquetSource(folder / "t.parquet", target="y")


def sparse(folder):
    return gd.ArraySource(pytest.importorskip("scipy.sparse").csr_array(X), Y)


def part(folder):
    """Return a part that has these rows, and others have been left out."""
    more = np.concatenate([X, -np.ones((3, 2), "float32")])
    times = [*range(N), -3, -2, -1]
    whole = gd.ArraySource(more, np.concatenate([Y, np.zeros(3, "float32")]))
    return whole.split(0.8, time=times)[1]


SOURCES = {
    "array": lambda folder: gd.ArraySource(X, Y),
    "columns": lambda folder: gd.ArraySource(np.asfortranarray(X), Y),
    "sparse": sparse,
    "npy": npy,
    "npy in columns": lambda folder: npy(folder, "F"),
    "csv": lambda folder: gd.CsvSource(write(folder / "t.csv", "a,b,y\n" + LINES), target="y"),
    "csv without some rows": dropping,
    "frame": lambda folder: gd.FrameSource({"a": X[:, 0], "b": X[:, 1], "y": Y}, target="y"),
    "parquet": parquet,
    "part": part,
    "cache": lambda folder: gd.IterableSource([(X[:5], Y[:5]), (X[5:], Y[5:])]).cache(folder / "c"),
}

MASK = np.arange(N) % 3 == 1
RIGHT = [
    slice(2, 5), slice(None, None, -2), slice(-3, None), slice(20, 30), np.array([3, 0, 3]), [3, 0],
    (1, 2), [-1, -N], np.array([-1]), np.array([2], "uint8"), np.array([4, 1], "int32"), [], (),
    np.zeros(0), MASK, MASK.tolist(), np.zeros(N, bool), np.array([2, 1], dtype=object),
    range(2, 4),
]  # fmt: skip
BEYOND = [
    [N],
    [-N - 1],
    np.array([0, N]),
    np.array([-N - 1]),
    [10**30],
    np.array([2**63], "uint64"),
]
WRONG = [
    None, "x", b"x", 1, -1, np.int64(1), True, 1.5, np.nan, 10**400, {}, {0: 1}, object(), [None],
    [1.0], np.array([1.0]), [np.nan], ["a"], np.array(["1"]), [1j], [[0, 1]], np.array([[0, 1]]),
    [[0], [0, 1]], MASK[:-1], [True, False], [0, True, None], slice("a", None), slice(0, 1.5),
    slice(None, None, 0), np.ma.masked_array([0, 1], [True, False]),
]  # fmt: skip


@pytest.mark.parametrize("name", SOURCES)
def test_rows_are_taken_as_from_an_array(name, tmp_path):
    source = SOURCES[name](tmp_path)
    everywhere = np.array(source.places(slice(None)))
    assert len(everywhere) == len(set(everywhere)) == N
    for rows in RIGHT:
        # NumPy has another meaning for a tuple, and no index without an integer dtype.
        index = rows if isinstance(rows, slice) else list(rows)
        wanted = np.arange(N)[index] if index != [] else np.zeros(0, int)
        x, y = source.take(rows)
        np.testing.assert_array_equal(x, X[wanted], err_msg=repr(rows))
        np.testing.assert_array_equal(y, Y[wanted], err_msg=repr(rows))
        assert source.places(rows) == everywhere[wanted].tolist()


@pytest.mark.parametrize("name", SOURCES)
def test_other_rows_are_refused_in_words(name, tmp_path):
    source = SOURCES[name](tmp_path)
    weight = gd.Batches(X, Y, sample_weight=np.ones(N)).weight
    for use in (source.take, source.places, weight):
        for rows in BEYOND:
            with pytest.raises(IndexError, match=r"row -?\d+ was requested, but there are 12 rows"):
                use(rows)
        for rows in WRONG:
            if use == weight and isinstance(rows, slice):
                continue
            with pytest.raises((TypeError, gd.DataError), match=r"^rows (must be|is a masked)"):
                use(rows)


@pytest.mark.parametrize("name", SOURCES)
def test_rows_from_a_start_and_columns_by_name(name, tmp_path):
    source = SOURCES[name](tmp_path)
    for start in (0, 5, N, N + 3, 10**30):
        left = [y for _, y in source.chunks(start)]
        assert np.concatenate([Y[:0], *left]).tolist() == Y[start:].tolist()
    for start in (-1, None, "x", 1.5, True, [1]):
        with pytest.raises(ValueError, match="start must be an integer, at least 0"):
            list(source.chunks(start))
    for column in (None, 0, np.array(["a", "b"]), [["a"]]):
        with pytest.raises(TypeError, match="name must be a text"):
            source.column(column)
    with pytest.raises(gd.DataError, match="no column 'z'"):
        source.column("z")


def test_places_of_a_stream_that_was_not_counted():
    stream = gd.IterableSource([(X[:5], Y[:5]), (X[5:], Y[5:])])
    assert stream.places([-1, 0]) == ["row 11", "row 0"]
    once = gd.IterableSource(iter([(X, Y)]))
    assert once.places(np.array([2])) == ["row 2"]
    assert len(next(once.chunks())[0]) == N


def test_an_epoch_is_numbered_from_zero():
    batches = gd.Batches(X, Y, shuffle=True)
    assert sorted(batches.order(2)) == list(range(N))
    for epoch in (-1, None, "x", 1.5, np.nan, [1], True):
        with pytest.raises(ValueError, match="epoch must be an integer, at least 0"):
            batches.order(epoch)
