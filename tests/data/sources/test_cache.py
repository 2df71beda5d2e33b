"""A cache holds the rows of any source in `.npy` files, is written once, completely or not at all.

It is reused for the same data, and written again for other data.
"""

import errno
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest

import minigd as gd
from minigd.data.sources import cache

TEXT = "a,color,y\n" + "".join(f"{i},{'red' if i % 3 else 'blue'},{i % 4}\n" for i in range(50))


def csv_source(text=TEXT, **options):
    return gd.CsvSource(io.BytesIO(text.encode()), target="y", **options)


def whole(source):
    xs, ys = zip(*source.chunks(), strict=True)
    return np.concatenate(xs), None if ys[0] is None else np.concatenate(ys)


def check_same(one, other):
    for a, b in zip(whole(one), whole(other), strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


class Counting(gd.IterableSource):
    """A source that counts how often it is read."""

    read = 0

    def chunks(self, start=0):
        self.read += 1
        return super().chunks(start)


SOURCES = {
    "csv": csv_source,
    "array": lambda: gd.ArraySource(np.arange(60.0).reshape(20, 3), np.arange(20)),
    "table of targets": lambda: gd.ArraySource(np.ones((20, 3)), np.ones((20, 2))),
    "x alone": lambda: gd.ArraySource(np.arange(60.0).reshape(20, 3)),
    "stream": lambda: gd.IterableSource([{"a": [1, 2], "y": [3, 4]}] * 5, target="y"),
    "part": lambda: csv_source().split(0.3)[0],
}


@pytest.mark.parametrize("kind", SOURCES)
def test_a_cache_holds_the_same_rows_and_can_be_indexed(tmp_path, kind):
    source = SOURCES[kind]()
    cached = source.cache(tmp_path / "deep" / "cache")
    assert isinstance(cached, gd.NpySource)
    assert cached.rows == source.count()
    check_same(source, cached)
    x, _ = whole(source)
    np.testing.assert_array_equal(cached.take(np.array([3, 0, 3]))[0], x[[3, 0, 3]])


def test_a_cache_is_written_once(tmp_path):
    pieces = [(np.ones((5, 2)), np.ones(5))] * 3
    first = Counting(pieces)
    first.cache(tmp_path / "cache")
    stamp = (tmp_path / "cache" / "x.npy").stat().st_mtime_ns
    again = Counting(pieces)
    check_same(again.cache(tmp_path / "cache"), first)
    assert (tmp_path / "cache" / "x.npy").stat().st_mtime_ns == stamp
    # Only its fingerprint was computed.
    assert again.read == 1


@pytest.mark.parametrize(
    "other",
    [
        lambda: csv_source(TEXT.replace("49,red", "48,red")),
        lambda: csv_source(TEXT + "1,red,2\n"),
        lambda: csv_source(dtype="float64"),
        lambda: csv_source(exclude=["a"]),
        lambda: csv_source(na=["red"], missing="drop"),
        lambda: gd.IterableSource([(np.ones((3, 1)),)]),
    ],
)
def test_a_cache_is_written_anew_for_other_data(tmp_path, other):
    csv_source().cache(tmp_path / "cache")
    check_same(other().cache(tmp_path / "cache"), other())
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_a_change_in_the_middle_of_a_stream_is_seen(tmp_path):
    x = np.zeros((5000, 1))
    gd.IterableSource([(x,)]).cache(tmp_path / "cache")
    x[3000] = 1
    cached = gd.IterableSource([(x,)]).cache(tmp_path / "cache")
    np.testing.assert_array_equal(whole(cached)[0], x)


def test_targets_that_are_no_longer_there_are_gone(tmp_path):
    x = np.ones((5, 2))
    gd.ArraySource(x, np.ones(5)).cache(tmp_path / "cache")
    assert whole(gd.ArraySource(x).cache(tmp_path / "cache"))[1] is None


def test_a_pipe_in_the_place_of_the_description_is_not_waited_for(tmp_path):
    csv_source().cache(tmp_path / "cache")
    become_pipe(tmp_path / "cache" / "minigd-cache.json")
    with pytest.raises(gd.DataError, match="is not a minigd cache"):
        csv_source().cache(tmp_path / "cache")


def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "cat.png").write_bytes(b"cat")
    with pytest.raises(gd.DataError, match=r"photos exists and is not a minigd cache"):
        csv_source().cache(folder)
    with pytest.raises(gd.DataError, match=r"exists and is not a minigd cache"):
        csv_source().cache(folder / "cat.png")
    assert [path.name for path in folder.iterdir()] == ["cat.png"]
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def failing(rows):
    """Return a source that can be counted without error, but fails while it is written."""
    calls = []

    def pieces():
        calls.append(None)
        yield np.ones((rows, 1)), np.ones(rows)
        if len(calls) > 1:
            raise OSError("the disk is gone")
        yield np.ones((rows, 1)), np.ones(rows)

    return gd.IterableSource(pieces)


def test_a_failure_leaves_no_half_written_folder(tmp_path):
    with pytest.raises(OSError, match="the disk is gone"):
        failing(5).cache(tmp_path / "cache")
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_the_cache_that_was_there(tmp_path):
    csv_source().cache(tmp_path / "cache")
    with pytest.raises(OSError, match="the disk is gone"):
        failing(5).cache(tmp_path / "cache")
    check_same(csv_source().cache(tmp_path / "cache"), csv_source())
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_no_piece_is_cast_to_the_dtype_of_the_first(tmp_path):
    pieces = [(np.array([[1]]),), (np.array([[2.5]]),)]
    with pytest.raises(gd.DataError, match=r"row 1 of .* is float64, but the first one is int64"):
        gd.IterableSource(pieces).cache(tmp_path / "cache")
    assert list(tmp_path.iterdir()) == []


def test_a_generator_can_not_be_cached_and_says_what_to_do(tmp_path):
    with pytest.raises(gd.DataError, match="pass a function that makes a new one"):
        gd.IterableSource((np.ones((2, 1)),) for _ in range(3)).cache(tmp_path / "cache")
    assert list(tmp_path.iterdir()) == []


def test_one_number_changed_in_memory_makes_the_cache_anew(tmp_path):
    x = np.arange(10_000.0).reshape(5000, 2)
    gd.ArraySource(x.copy()).cache(tmp_path / "rows")
    x[1, 0] = -777
    cached, _ = gd.ArraySource(x).cache(tmp_path / "rows").take(slice(0, 3))
    np.testing.assert_array_equal(cached, x[:3])


# Files of a cache --------------------------------------------------------------------------------

DAMAGES = {
    "no y": lambda folder: (folder / "y.npy").unlink(),
    "no x": lambda folder: (folder / "x.npy").unlink(),
    "an empty x": lambda folder: (folder / "x.npy").write_bytes(b""),
    "a short y": lambda folder: os.truncate(folder / "y.npy", 200),
    "zeros in x": lambda folder: overwrite(folder / "x.npy", bytes(64)),
    "a description cut short": lambda folder: os.truncate(folder / "minigd-cache.json", 20),
    "a description of an older minigd": lambda folder: (folder / "minigd-cache.json").write_text(
        json.dumps(json.loads((folder / "minigd-cache.json").read_text())["source"])
    ),
    "a deep description": lambda folder: (folder / "minigd-cache.json").write_text("[" * 100_000),
    "another name": lambda folder: (folder / "minigd-cache.json").write_text(
        (folder / "minigd-cache.json").read_text().replace("y.npy", "/dev/zero")
    ),
    "a pipe for x": lambda folder: become_pipe(folder / "x.npy"),
}


def become_pipe(path):
    path.unlink()
    os.mkfifo(path)


def overwrite(path, data):
    with path.open("r+b") as file:
        file.seek(-len(data), os.SEEK_END)
        file.write(data)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_cache_that_lost_something_is_written_again(tmp_path, damage):
    csv_source().cache(tmp_path / "cache")
    DAMAGES[damage](tmp_path / "cache")
    check_same(csv_source().cache(tmp_path / "cache"), csv_source())
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("most", [50, 4000])
def test_a_disk_that_fills_is_an_error_that_names_the_file_and_its_size(tmp_path, there, most):
    resource = pytest.importorskip("resource")
    x = np.arange(3000.0).reshape(1000, 3)
    if there:
        csv_source().cache(tmp_path / "cache")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    # A limit of the process simulates a full disk: a mapped file would raise SIGBUS.
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, old[1]))
    try:
        with pytest.raises(OSError, match="24,000 bytes are needed there; free some") as caught:
            gd.ArraySource(x, x[:, 0]).cache(tmp_path / "cache")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert caught.value.filename == str(tmp_path / "cache" / "x.npy")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == before


@pytest.mark.parametrize("at", range(1, 5))
def test_a_disk_that_fills_at_any_write(tmp_path, monkeypatch, at):
    # Each write is named: that of x, of y, and of the description.
    calls = []
    real = cache._NewFile.write

    def write(self, data):
        calls.append(self.name)
        if len(calls) == at:
            with self._naming():
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(self, data)

    monkeypatch.setattr(cache._NewFile, "write", write)
    source = gd.ArraySource(np.ones((10, 2)), np.ones(10))
    with pytest.raises(OSError, match=r"No space left on device.*free some space") as caught:
        source.cache(tmp_path / "rows")
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(tmp_path / "rows" / calls[-1])
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_the_source_is_not_one_of_the_cache(tmp_path):
    def pieces():
        yield np.ones((5, 1)), np.ones(5)
        raise OSError(errno.EIO, "an error of the disk that is read")

    source = gd.IterableSource(pieces)
    source.rows, source._fingerprint = 10, {"rows": 10}
    with pytest.raises(OSError, match="that is read") as caught:
        source.cache(tmp_path / "rows")
    assert caught.value.filename is None
    assert list(tmp_path.iterdir()) == []


def test_files_are_flushed_before_their_names_count(tmp_path, monkeypatch):
    done = []
    inodes = {}

    def fsync(descriptor):
        done.append(os.fstat(descriptor).st_ino)

    def replace(old, new):
        inodes.update({path.name: path.stat().st_ino for path in Path(old).iterdir()})
        assert set(inodes.values()) <= set(done)
        return real(old, new)

    real = os.replace
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    csv_source().cache(tmp_path / "rows")
    assert inodes.keys() == {"x.npy", "y.npy", "minigd-cache.json"}


@pytest.mark.parametrize("more", [-1, 1])
def test_a_source_that_gives_other_rows_than_it_counted(tmp_path, more):
    source = gd.ArraySource(np.ones((10 + more, 2)))
    source.count = lambda: 10
    with pytest.raises(gd.DataError, match=r"gave 10 rows at first and now gives (9|more)"):
        source.cache(tmp_path / "rows")
    assert list(tmp_path.iterdir()) == []


def test_the_files_are_those_that_numpy_would_write(tmp_path):
    x, y = np.arange(60.0).reshape(20, 3), np.arange(20)
    gd.ArraySource(x, y).cache(tmp_path / "rows")
    for name, array in (("x", x), ("y", y)):
        np.save(tmp_path / f"{name}.npy", array)
        written = (tmp_path / "rows" / f"{name}.npy").read_bytes()
        assert written == (tmp_path / f"{name}.npy").read_bytes()
