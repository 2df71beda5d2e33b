"""A CSV is parsed once: later passes read numbers that were kept, and they are the same bits."""

import os
import subprocess
import sys
import tempfile
from collections import namedtuple

import numpy as np
import pytest

import minigd as gd
from minigd.data.sources import kept_rows
from minigd.data.sources.csv_parser import Parser
from minigd.data.sources.kept_rows import KeptRows

ROWS = 300
KINDS = {
    "numbers": {"target": "c", "features": ["a", "b"]},
    "another order": {"target": "a", "features": ["c", "b"]},
    "float64": {"target": "c", "features": ["a", "b"], "dtype": "float64"},
    "a whole target": {"target": "k", "features": ["a", "b"]},
    "classes of a whole target": {"target": "k", "features": ["a"], "classes": [0, 1, 2]},
    "two targets": {"target": ["a", "c"], "features": ["b", "k"]},
    "no target": {"features": ["a", "b"]},
    "texts": {"target": "c", "exclude": ["gap", "id"]},
    "a target of text": {"target": "who", "features": ["a", "b"]},
    "rows dropped": {"target": "c", "features": ["a", "gap"], "missing": "drop"},
    "means": {"target": "c", "features": ["gap", "a"], "missing": "mean"},
    "medians and texts": {"target": "c", "exclude": ["id"], "missing": "median"},
    "flags": {"target": "c", "features": ["a", "gap"], "missing": "flag"},
    "a number for gaps": {"target": "c", "features": ["a", "gap"], "missing": -1},
    "logs": {"target": "c", "features": ["a", "b"], "logs": ["a"]},
    "beyond float64": {"target": "id", "features": ["a", "b"]},
    "columns left out": {"target": "c", "exclude": ["gap", "who"], "leave_out": True},
}


@pytest.fixture
def path(tmp_path):
    """Return a CSV file with a column of each kind."""
    rng = np.random.default_rng(7)
    lines = ["a,b,c,k,who,gap,id"]
    for row, (a, b, c, gap) in enumerate(rng.normal(size=(ROWS, 4)) * 100):
        cell = "" if gap > 120 else f"{gap:.2f}"
        line = f"{a:.4f},{b!r},{c:.3e},{row % 3},{'xyz'[row % 3]},{cell},{2**60 + row}"
        lines.append(line.replace("np.float64(", "").replace(")", ""))
    file = tmp_path / "rows.csv"
    file.write_text("\n".join(lines) + "\n")
    return file


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return the folder for temporary files, which is empty."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def passes(source):
    """Return the rows as bytes, twice, from all ways to read them."""
    batches = gd.Batches(source, batch_size=100, shuffle=True, seed=3)
    index = np.array([5, -1, 5, 0, ROWS // 3])
    found = []
    for epoch in range(2):
        pairs = [*source.chunks(), *source.chunks(11), source.take(index)]
        pairs += [source.take(slice(4, 9)), source.take(slice(20, 3, -2)), source.take(slice(0))]
        pairs += [(batch.x, batch.y) for batch in batches.epoch(epoch)]
        x = np.concatenate([x for x, _ in pairs])
        y = None if pairs[0][1] is None else np.concatenate([y for _, y in pairs])
        found.append((x.dtype, x.tobytes(), None if y is None else (y.dtype, y.tobytes())))
    return found


@pytest.mark.few(6)
@pytest.mark.parametrize("options", KINDS.values(), ids=list(KINDS))
def test_the_rows_kept_are_those_of_the_text(path, folder, monkeypatch, options):
    source = gd.CsvSource(path, block_size=6000, **options)
    found = passes(source)
    assert source._kept.rows is not None
    with monkeypatch.context() as without:
        without.setattr(KeptRows, "wanted", lambda self: False)
        plain = gd.CsvSource(path, block_size=6000, **options)
        expected = passes(plain)
        assert plain._kept.rows is None
    assert found == expected
    assert source.fingerprint() == plain.fingerprint()


@pytest.mark.parametrize("kind", ["numbers", "texts", "means"])
def test_the_parts_of_a_split_are_those_of_the_text(path, folder, monkeypatch, kind):
    parts = gd.CsvSource(path, **KINDS[kind]).split(0.3, seed=1)
    with monkeypatch.context() as without:
        without.setattr(KeptRows, "wanted", lambda self: False)
        expected = gd.CsvSource(path, **KINDS[kind]).split(0.3, seed=1)
        for part, other in zip(parts, expected, strict=True):
            for (x, y), (x2, y2) in zip(part.chunks(), other.chunks(), strict=True):
                assert x.tobytes() == x2.tobytes()
                assert (y is None and y2 is None) or y.tobytes() == y2.tobytes()


@pytest.mark.parametrize(("kind", "most"), [("numbers", 0), ("texts", 1), ("means", 0)])
def test_a_file_is_parsed_once_or_where_it_holds_texts_twice(path, folder, monkeypatch, kind, most):
    source = gd.CsvSource(path, **KINDS[kind])
    parsed = []
    read = Parser.read
    monkeypatch.setattr(Parser, "read", lambda *given: parsed.append(1) or read(*given))
    batches = gd.Batches(source, batch_size=30, shuffle=True)
    for _ in range(3):
        assert sum(len(batch.x) for batch in batches) == source.rows
    sum(len(x) for x, _ in source.chunks())
    assert len(parsed) <= most


@pytest.mark.parametrize("kind", ["numbers", "texts"])
def test_where_there_is_no_room_the_text_is_read(path, folder, monkeypatch, kind):
    expected = passes(gd.CsvSource(path, **KINDS[kind]))
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(kept_rows.shutil, "disk_usage", lambda where: usage(10, 10, 1000))
    source = gd.CsvSource(path, **KINDS[kind])
    assert passes(source) == expected
    assert source._kept.rows is None


@pytest.mark.parametrize("kind", ["numbers", "texts"])
@pytest.mark.parametrize("after", [0, 2])
def test_where_writing_fails_the_text_is_read(path, folder, monkeypatch, kind, after):
    expected = passes(gd.CsvSource(path, **KINDS[kind]))
    add, added = kept_rows._Numbers.add, []

    def fail(self, array):
        added.append(1)
        if len(added) > after:
            raise OSError(28, "No space left on device")
        add(self, array)

    monkeypatch.setattr(kept_rows._Numbers, "add", fail)
    source = gd.CsvSource(path, block_size=6000, **KINDS[kind])
    assert passes(source) == expected
    assert source._kept.rows is None


def test_one_hot_columns_that_take_many_times_the_text_are_not_kept(tmp_path, folder):
    path = tmp_path / "levels.csv"
    lines = [f"{row % 80},{row}" for row in range(8000)]
    path.write_text("\n".join(["a,y", *lines]) + "\n")
    source = gd.CsvSource(path, target="y", categories={"a": None})
    passes(source)
    assert source._kept.rows is None


@pytest.mark.skipif(os.name != "posix", reason="Windows removes an open file when it is closed")
def test_what_is_kept_has_no_name_and_is_gone_with_the_process(path, folder):
    code = f"""
import os, tempfile
import minigd as gd
tempfile.tempdir = {str(folder)!r}
source = gd.CsvSource({str(path)!r}, target="c", features=["a", "b"])
assert source._kept.rows is not None
print(os.listdir(tempfile.tempdir), flush=True)
os.kill(os.getpid(), 9)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (-9, "[]\n"), run.stderr
    assert os.listdir(folder) == []


def test_a_pass_that_is_left_early_keeps_nothing_and_the_next_one_does(path, folder):
    source = gd.CsvSource(path, block_size=6000, **KINDS["texts"])
    chunks = source.chunks()
    next(chunks)
    chunks.close()
    assert source._kept.rows is None
    sum(len(x) for x, _ in source.chunks())
    assert source._kept.rows is not None


def test_a_file_that_has_changed_is_refused_although_its_rows_are_kept(path, folder):
    source = gd.CsvSource(path, target="c", features=["a", "b"])
    assert source._kept.rows is not None
    path.write_text(path.read_text().replace("1", "2"))
    for read in (lambda: next(source.chunks()), lambda: source.take(slice(0, 2))):
        with pytest.raises(gd.DataError, match="has changed since it was opened"):
            read()


def test_many_sources_leave_files_to_open_for_all_else(path, folder):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Numbers from here on are free, even if other tests left files open or close some meanwhile.
    above_all = max(map(int, os.listdir("/dev/fd"))) + 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (2 * above_all + 20, before[1]))
    try:
        sources = [gd.CsvSource(path, **KINDS["numbers"])]
        while sources[-1].checked:
            sources.append(gd.CsvSource(path, **KINDS["numbers"]))
        more = [os.dup(0) for _ in range(above_all)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    for descriptor in more:
        os.close(descriptor)
    assert sources[0].checked
    assert passes(sources[-1]) == passes(sources[0])


def test_an_index_that_is_to_be_written_is_written(path, folder, tmp_path):
    source = gd.CsvSource(path, index_path=tmp_path / "rows.npz", **KINDS["numbers"])
    sum(len(x) for x, _ in gd.Batches(source, batch_size=30, shuffle=True))
    assert (tmp_path / "rows.npz").exists()


def test_much_of_it_is_said_once(path, folder, monkeypatch, capfd):
    monkeypatch.setattr(kept_rows, "SAID_FROM", 1000)
    source = gd.CsvSource(path, target="c", features=["a", "b"])
    passes(source)
    said = capfd.readouterr().err
    assert said.count("rows.csv: the rows are kept as numbers in") == 1
    assert str(folder) in said


def test_another_schema_is_not_that_of_the_rows_kept(path, folder):
    source = gd.CsvSource(path, target="c", features=["a", "b"])
    assert source.checked
    source.schema = source.schema.replace(dtype="float64")
    x, _ = source.take(slice(0, 5))
    assert not source.checked
    assert x.tobytes() == gd.CsvSource(path, **KINDS["float64"]).take(slice(0, 5))[0].tobytes()
