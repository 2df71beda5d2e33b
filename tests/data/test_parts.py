"""Parts of batches: together they are the batches of one process, to the bit, from every source."""

import functools
import gzip
import itertools
import os

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import minigd as gd

ROWS, WIDTH = 53, 3


def table():
    rng = np.random.default_rng(0)
    return rng.standard_normal((ROWS, WIDTH)), rng.integers(0, 3, ROWS)


def frame():
    x, y = table()
    named = pd.DataFrame(x, columns=["a", "b", "c"])
    colors = np.array(["red", "blue", "green"])[np.arange(ROWS) % 3]
    return named.assign(color=colors, y=y)


def pairs():
    x, y = table()
    return [(x[k : k + 7], y[k : k + 7]) for k in range(0, ROWS, 7)]


def csv(folder, **options):
    frame().to_csv(folder / "t.csv", index=False)
    return gd.CsvSource(folder / "t.csv", "y", block_size=300, **options)


def several(folder):
    for k in range(3):
        frame()[k * 20 : (k + 1) * 20].to_csv(folder / f"{k}.csv", index=False)
    return gd.CsvSource(str(folder / "*.csv"), "y")


def gz(folder):
    csv(folder)
    (folder / "t.csv.gz").write_bytes(gzip.compress((folder / "t.csv").read_bytes(), mtime=0))
    return gd.CsvSource(folder / "t.csv.gz", "y")


def with_gaps(folder, missing):
    rows = frame()
    rows.loc[::5, "b"] = np.nan
    rows.to_csv(folder / "g.csv", index=False)
    return gd.CsvSource(folder / "g.csv", "y", missing=missing, block_size=300)


def npy(folder, order="C"):
    x, y = table()
    np.save(folder / "x.npy", np.array(x, order=order))
    np.save(folder / "y.npy", y)
    return gd.NpySource(folder / "x.npy", folder / "y.npy")


def idx(folder):
    images = np.random.default_rng(1).integers(0, 256, (ROWS, 2, 2), dtype=np.uint8)
    head = bytes([0, 0, 8, 3, 0, 0, 0, ROWS, 0, 0, 0, 2, 0, 0, 0, 2])
    (folder / "images").write_bytes(head + images.tobytes())
    labels = bytes([0, 0, 8, 1, 0, 0, 0, ROWS]) + (images[:, 0, 0] % 3).tobytes()
    (folder / "labels").write_bytes(labels)
    return gd.IdxSource(folder / "images", folder / "labels")


def parquet(folder):
    frame().to_parquet(folder / "t.parquet", row_group_size=10)
    return gd.ParquetSource(folder / "t.parquet", "y")


SOURCES = {
    "an array": lambda folder: gd.ArraySource(*table()),
    "columns first": lambda folder: gd.ArraySource(np.asfortranarray(table()[0]), table()[1]),
    "without targets": lambda folder: gd.ArraySource(table()[0]),
    "a sparse matrix": lambda folder: gd.ArraySource(sparse.csr_matrix(table()[0]), table()[1]),
    "a frame": lambda folder: gd.FrameSource(frame(), "y"),
    "a CSV": csv,
    "a CSV of numbers": lambda folder: csv(folder, exclude=["color"]),
    "a CSV with an index": lambda folder: csv(folder, index_path=folder / "index.npz"),
    "several CSVs": several,
    "a CSV whose rows are dropped": lambda folder: with_gaps(folder, "drop"),
    "a CSV whose gaps are filled": lambda folder: with_gaps(folder, "mean"),
    "a gzipped CSV": gz,
    "npy": npy,
    "npy, columns first": lambda folder: npy(folder, "F"),
    "idx": idx,
    "parquet": parquet,
    "pieces": lambda folder: gd.IterableSource(pairs()),
    "a function": lambda folder: gd.IterableSource(lambda: iter(pairs())),
    "frames": lambda folder: gd.IterableSource([frame()[:20], frame()[20:]], "y"),
    "a cache": lambda folder: csv(folder).cache(folder / "cache"),
    "a part": lambda folder: csv(folder).split(0.3)[0],
    "a part held out": lambda folder: with_gaps(folder, "median").split(0.3)[1],
    "a part of a stream": lambda folder: gd.IterableSource(pairs()).split(0.3)[0],
}
HOW = {
    "in order": {},
    "whole": {"batch_size": None},
    "small batches": {"batch_size": 2},
    "shuffled": {"shuffle": True, "seed": 3},
    "without the tail": {"shuffle": True, "tail": "drop"},
    "read ahead": {"shuffle": True, "prefetch": 2},
    "growing": {"batch_size": gd.BatchGrowth(4, 2.0, epochs=1)},
    "weighted": {"sample_weight": np.arange(ROWS) % 4},
}


def batches_of(source, how):
    options = {"batch_size": 10, **HOW[how]}
    if options.get("shuffle") and not source.random_access:
        options["buffer"] = 16
    if "sample_weight" in options:
        options["sample_weight"] = options["sample_weight"][: source.count()]
        if source.random_access and next(source.chunks())[1] is None:
            del options["sample_weight"]
    return gd.Batches(source, **options)


def numbers(rows):
    return np.arange(rows.start, rows.stop) if isinstance(rows, slice) else np.asarray(rows)


def check_parts(whole, parts):
    """Compare batches with their parts, given as one list for each rank."""
    assert {len(part) for part in parts} == {len(whole)}
    for batch, *own in zip(whole, *parts, strict=True):
        n = len(batch.x)
        for rank, part in enumerate(own):
            assert len(part.x) == (rank + 1) * n // len(own) - rank * n // len(own)
            np.testing.assert_array_equal(numbers(part.whole), numbers(batch.rows))
            assert len(part) == len(batch)
        for k, array in enumerate(batch):
            together = np.concatenate([part[k] for part in own])
            assert {part[k].dtype for part in own} == {array.dtype}
            assert together.tobytes() == np.ascontiguousarray(array).tobytes()
            assert together.shape == array.shape
        rows = np.concatenate([numbers(part.rows) for part in own])
        np.testing.assert_array_equal(rows, numbers(batch.rows))


def cases():
    """Return all sources, with ways to cut batches and numbers of processes in turn."""
    ways = list(itertools.product((2, 4, 1, 3), HOW))
    return [
        (make, *reversed(ways[(k + 5 * i) % len(ways)]))
        for i, make in enumerate(SOURCES)
        for k in range(len(ways))
    ]


@pytest.mark.filterwarnings("ignore:.*can't be read in parts")
@pytest.mark.few(13)
@pytest.mark.parametrize(("make", "how", "size"), cases())
def test_the_parts_of_a_batch_are_the_batch(tmp_path, make, how, size):
    whole = batches_of(SOURCES[make](tmp_path), how)
    (tmp_path / "cut").mkdir()
    source = SOURCES[make](tmp_path / "cut")
    whole.source.count()
    cut = batches_of(source, how)
    parts = [cut.part(rank, size) for rank in range(size)]
    for part in parts:
        assert (len(part), part.sizes, part.dropped) == (len(cut), cut.sizes, cut.dropped)
        assert part.state_dict() == whole.state_dict()
    for epoch, start in ((0, 0), (1, 2)):
        own = [list(part.epoch(epoch, start)) for part in parts]
        check_parts(list(whole.epoch(epoch, start)), own)
    check_parts(list(whole.in_order()), [list(part.in_order()) for part in parts])


# What is read ------------------------------------------------------------------------------------

LONG = 6_000


def bytes_read():
    """Return how many bytes this process has read so far, according to the system."""
    with open("/proc/self/io") as file:
        return int(file.readline().split()[1])


def long_frame():
    rng = np.random.default_rng(4)
    columns = {name: rng.standard_normal(LONG) for name in "abcd"}
    return pd.DataFrame({**columns, "y": rng.integers(0, 2, LONG)})


def long_csv(folder):
    long_frame().assign(color=np.array(["red", "blue"])[np.arange(LONG) % 2]).to_csv(
        folder / "t.csv", index=False
    )
    return gd.CsvSource(folder / "t.csv", "y", index_path=folder / "index")


def long_numbers(folder):
    long_frame().to_csv(folder / "t.csv", index=False)
    return gd.CsvSource(folder / "t.csv", "y")


def long_npy(folder):
    np.save(folder / "x.npy", long_frame().to_numpy())
    return gd.NpySource(folder / "x.npy")


def long_parquet(folder):
    long_frame().to_parquet(folder / "t.parquet", row_group_size=125)
    return gd.ParquetSource(folder / "t.parquet", "y")


SHARES = [(long_csv, 1500), (long_numbers, 1500), (long_npy, 1500), (long_parquet, 1500)]


@pytest.mark.skipif(not os.path.exists("/proc/self/io"), reason="the system does not count bytes")
@pytest.mark.few(2)
@pytest.mark.parametrize(("make", "batch_size"), [*SHARES, (long_csv, None)])
def test_each_process_reads_about_its_share(tmp_path, make, batch_size):
    source = make(tmp_path)
    shuffle = batch_size is None
    if shuffle:
        # Rows that are close together in the file are read together; those of few batches are not.
        source.gather, batch_size = 500, 125
    batches = gd.Batches(source, batch_size=batch_size, shuffle=shuffle)

    def read(batches):
        for _ in batches.epoch(0):
            pass
        before = bytes_read()
        for _ in batches.epoch(1):
            pass
        return bytes_read() - before

    whole = read(batches.part(0, 1))
    for size in (2, 3, 4):
        own = [read(batches.part(rank, size)) for rank in range(size)]
        # The last 64 KiB of a Parquet file are always read.
        assert max(own) < 1.1 * whole / size + 70_000


@pytest.mark.filterwarnings("ignore")
@pytest.mark.few(2)
@pytest.mark.parametrize(
    ("missing", "shuffle"), [("error", False), ("drop", True), ("mean", False), ("error", True)]
)
def test_a_row_is_parsed_once(tmp_path, monkeypatch, missing, shuffle):
    make = csv if missing == "error" else functools.partial(with_gaps, missing=missing)
    (tmp_path / "whole").mkdir()
    options = {"batch_size": 10, "shuffle": shuffle}
    others = gd.Batches(make(tmp_path / "whole"), **options)
    expected = [list(others.epoch(epoch)) for epoch in range(4)]
    part = gd.Batches(make(tmp_path), **options).part(1, 3)
    parsed, fetch = [], gd.CsvSource._fetch

    def counted(source, part, starts, wanted):
        parsed.append(len(wanted))
        return fetch(source, part, starts, wanted)

    monkeypatch.setattr(gd.CsvSource, "_fetch", counted)
    owns = []
    for epoch in range(4):
        own = list(part.epoch(epoch))
        owns += [numbers(batch.rows) for batch in own]
        for batch, whole in zip(own, expected[epoch], strict=True):
            places = np.isin(numbers(whole.rows), numbers(batch.rows))
            assert whole.x[places].tobytes() == np.ascontiguousarray(batch.x).tobytes()
            np.testing.assert_array_equal(whole.y[places], batch.y)
    assert sum(parsed) == len(np.unique(np.concatenate(owns)))


def test_what_cannot_be_read_in_parts_is_warned_of_once(tmp_path):
    remedies = {
        "a gzipped CSV": "unpack it, or cache it once, source.cache(folder)",
        "pieces": "cache it once, source.cache(folder)",
        "a part of a stream": "cache it once, source.cache(folder)",
    }
    for make, remedy in remedies.items():
        batches = gd.Batches(SOURCES[make](tmp_path))
        with pytest.warns(UserWarning, match="each of the 3 processes reads all of it") as caught:
            batches.part(0, 3)
        batches.part(1, 3)  # without a warning
        assert len(caught) == 1
        assert str(caught[0].message).endswith(f"no faster than in one; {remedy}")
        assert caught[0].filename == __file__


def test_what_can_be_read_in_parts_is_not_warned_of(tmp_path, recwarn):
    for make in ("an array", "a CSV", "npy", "parquet", "a frame", "a part held out"):
        gd.Batches(SOURCES[make](tmp_path)).part(0, 2)
    assert not recwarn.list


@pytest.mark.parametrize(("rank", "size"), [(2, 2), (-1, 2), (0, 0), (0.5, 2), (0, "2")])
def test_a_rank_that_is_none_is_refused(rank, size):
    with pytest.raises(ValueError, match="must be"):
        gd.Batches(*table()).part(rank, size)


def test_the_parts_follow_an_array_to_another_backend(stand_in):
    batches = gd.Batches(*table(), batch_size=10, shuffle=True)
    for part in (batches.part(1, 3), gd.Batches(*table(), batch_size=10).part(1, 3)):
        for moved, here in zip(part.on(stand_in), part, strict=True):
            assert stand_in.holds(moved.x)
            np.testing.assert_array_equal(stand_in.to_numpy(moved.x), here.x)


@pytest.mark.filterwarnings("ignore:.*can't be read in parts")
def test_class_weights_and_those_of_rows_are_the_ones_of_the_whole(tmp_path):
    for weights in ({0: 2.0, 1: 5.0}, "balanced"):
        for make in ("an array", "a CSV of numbers", "pieces", "a part of a stream"):
            batches = gd.Batches(SOURCES[make](tmp_path), batch_size=7, class_weight=weights)
            parts = [list(batches.part(rank, 3).epoch(0)) for rank in range(3)]
            check_parts(list(batches.epoch(0)), parts)
