"""Parts of batches: together they are the batches of one process, to the bit, from every source."""

import gzip

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
    (folder / "t.csv.gz").write_bytes(gzip.compress((folder / "t.csv").read_bytes()))
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
    """Compare batches with their parts, of which there is one list for each rank."""
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


def copied(epoch):
    """Return the batches of an epoch, of which none is overwritten."""
    return list(epoch)


@pytest.mark.each
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("make", SOURCES)
def test_the_parts_of_a_batch_are_the_batch(tmp_path, make, how):
    whole = batches_of(SOURCES[make](tmp_path), how)
    if whole.source.rows != ROWS and how == "weighted" and whole.source.weight is not None:
        pytest.skip("it has weights of its own")
    (tmp_path / "cut").mkdir()
    source = SOURCES[make](tmp_path / "cut")
    whole.source.count()
    for size in (1, 2, 3, 4):
        cut = batches_of(source, how)
        parts = [cut.part(rank, size) for rank in range(size)]
        for part in parts:
            assert (len(part), part.sizes, part.dropped) == (len(cut), cut.sizes, cut.dropped)
            assert part.state_dict() == whole.state_dict()
        for epoch, start in ((0, 0), (1, 2)):
            own = [copied(part.epoch(epoch, start)) for part in parts]
            check_parts(copied(whole.epoch(epoch, start)), own)
        own = [copied(part.in_order()) for part in parts]
        check_parts(copied(whole.in_order()), own)
