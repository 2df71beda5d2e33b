"""Several processes that open a file as one find what one process finds, each from its part."""

import io
import pickle
import threading

import numpy as np
import pandas as pd
import pytest
from budgets import examples
from hypothesis import given
from hypothesis import strategies as st

import minigd as gd
from minigd.data.sources import csv_files, csv_pieces, together
from minigd.data.sources.together import opening_together


class Thread:
    """One of several processes, which are threads here; their messages are pickled."""

    def __init__(self, rank, size, shared):
        self.rank, self.size, self._shared = rank, size, shared

    def gather(self, value):
        barrier, values = self._shared
        values[self.rank] = pickle.dumps(value)
        barrier.wait(60)
        found = [pickle.loads(values[rank]) for rank in range(self.size)]
        barrier.wait(60)
        return found

    def wait(self):
        self._shared[0].wait(60)


def run(size, work):
    """Return the result of `work(comm)` in each process, or its error."""
    shared, results = (threading.Barrier(size), {}), [None] * size

    def one(rank):
        try:
            results[rank] = work(Thread(rank, size, shared))
        except Exception as error:
            results[rank] = error

    threads = [threading.Thread(target=one, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    return results


def opened(path, size, **options):
    def work(comm):
        with opening_together(comm):
            return gd.CsvSource(path, **options)

    return run(size, work)


def known(source):
    """Return all that a first pass finds."""
    if isinstance(source, Exception):
        return type(source), str(source)
    return {
        "schema": source.schema.state_dict(),
        "fingerprint": source.fingerprint(),
        "rows": source.rows,
        "dropped": [source.dropped, source.first_dropped, dict(source.dropped_by)],
        "names": [source.names, source.classes],
        "words": [dict(source.missing_words), dict(source.gaps), dict(source.unknown)],
        "left out": dict(source.left_out),
        "suspicions": [str(one) for one in source.suspicions],
        "target": dict(source.target_problems),
    }


def alone(path, **options):
    try:
        return gd.CsvSource(path, **options)
    except gd.DataError as error:
        return error


ROWS = 300


def columns():
    rng = np.random.default_rng(0)
    days = pd.Series(pd.date_range("2020-01-28", periods=ROWS, freq="36h"))
    return {
        "numbers": rng.standard_normal(ROWS),
        "whole": rng.integers(0, 9, ROWS),
        "count": np.arange(7, ROWS + 7),
        "days": days.dt.strftime("%Y%m%d").astype(int),
        "dates": days.dt.strftime("%Y-%m-%d"),
        "times": days.dt.strftime("%d.%m.%Y %H:%M"),
        "mixed": days.dt.strftime("%Y-%m-%d").where(np.arange(ROWS) != 222, "2020-02-02 10:00"),
        "colors": np.array(["red", "green", "blue, or so"])[rng.integers(0, 3, ROWS)],
        "late": np.where(np.arange(ROWS) < 280, "a", "z"),
        "lines": np.array(["one\nline", 'an "odd" one', "plain"])[np.arange(ROWS) % 3],
        "ids": [f"id{k}" for k in range(ROWS)],
        "text in the end": [*map(str, range(ROWS - 1)), "many"],
        "gaps": np.where(np.arange(ROWS) % 7 == 5, np.nan, rng.standard_normal(ROWS)),
        "gaps in the end": np.where(np.arange(ROWS) < 250, 1.5, np.nan),
        "blank": np.full(ROWS, np.nan),
        "words": np.where(np.arange(ROWS) % 50 == 40, "NA", "x"),
        "large": 2**53 + rng.integers(0, 9, ROWS),
        "lost": 1e9 + rng.random(ROWS),
        "y": rng.integers(0, 2, ROWS),
        "wide": rng.integers(0, 2**40, ROWS),
        "half": np.where(np.arange(ROWS) == 200, 0.5, rng.integers(0, 9, ROWS)),
        "beyond": np.where(np.arange(ROWS) == 200, 1e39, 1.0),
    }


COLUMNS = columns()
CASES = [
    (["numbers", "whole", "y"], {}),
    (["colors", "late", "numbers", "y"], {}),
    (["lines", "numbers", "y"], {}),
    (["dates", "times", "y"], {}),
    (["mixed", "numbers", "y"], {}),
    (["numbers", "days", "y"], {}),
    (["count", "numbers", "ids", "y"], {"leave_out": True}),
    (["count", "colors", "blank", "y"], {"leave_out": True}),
    (["text in the end", "numbers", "y"], {}),
    (["text in the end", "late", "y"], {"categories": {"text in the end": None}}),
    (["gaps", "numbers", "y"], {}),
    (["gaps", "gaps in the end", "y"], {"missing": "drop"}),
    (["gaps", "words", "numbers", "y"], {"missing": "mean"}),
    (["gaps", "words", "y"], {"missing": {"gaps": "flag", "words": "category"}}),
    (["words", "numbers", "y"], {"missing": "drop"}),
    (["blank", "numbers", "y"], {"missing": "drop"}),
    (["large", "numbers", "y"], {}),
    (["lost", "numbers", "y"], {}),
    (["numbers", "wide"], {"target": "wide"}),
    (["numbers", "half"], {"target": "half"}),
    (["numbers", "large"], {"target": "large"}),
    (["numbers", "beyond"], {"target": "beyond"}),
    (["numbers", "colors"], {"target": "colors"}),
    (["colors", "ids", "y"], {"min_count": 5}),
    (["colors", "numbers", "y"], {"classes": ["1", "0"]}),
    (["colors", "y"], {"categories": {"colors": ["red", "green"]}}),
]


def written(path, names, **layout):
    pd.DataFrame({name: COLUMNS[name] for name in names}).to_csv(path, index=False, **layout)
    return path


@pytest.mark.filterwarnings("ignore")
@pytest.mark.few(4)
@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize(("names", "options"), CASES)
def test_several_processes_find_what_one_finds(tmp_path, names, options, size):
    path = written(tmp_path / "t.csv", names)
    options = {"target": "y", "block_size": 500, **options}
    expected = known(alone(path, **options))
    for found in opened(path, size, **options):
        assert known(found) == expected


@pytest.mark.filterwarnings("ignore")
def test_nobody_reads_alone_where_parts_go_together(tmp_path, monkeypatch):
    """Otherwise the test above would compare one process with itself."""
    names = ["colors", "late", "lines", "dates", "gaps", "words", "count", "y"]
    path = written(tmp_path / "t.csv", names)
    options = {"target": "y", "missing": "drop", "block_size": 2000, "leave_out": True}
    expected = known(alone(path, **options))

    def frames(source, kinds):
        raise AssertionError("one process reads all rows")

    monkeypatch.setattr(gd.CsvSource, "frames", frames)
    for found in opened(path, 3, **options):
        assert known(found) == expected
    assert list(expected["left out"]) == ["count"]


def test_several_files_are_one_table(tmp_path):
    for k, rows in enumerate((5, 200, 1, 60)):
        table = pd.DataFrame({name: COLUMNS[name] for name in ("colors", "lines", "gaps", "y")})
        table[:rows].to_csv(tmp_path / f"{k}.csv", index=False)
    options = {"target": "y", "block_size": 700, "missing": "drop"}
    expected = known(alone(str(tmp_path), **options))
    for found in opened(str(tmp_path), 4, **options):
        assert known(found) == expected


@examples(3)
@given(
    st.lists(st.sampled_from(['"a\n1,2\n"', '"b, 3"', "c", '"d ""e"" f"', ""]), min_size=3),
    st.sampled_from(["\n", "\r\n", "\n\n"]),
    st.integers(2, 4),
)
def test_a_row_begins_where_no_quote_is_open(tmp_path_factory, texts, end, size):
    path = tmp_path_factory.mktemp("quotes") / "t.csv"
    rows = [f"{text},{k % 3}" for k, text in enumerate(texts)]
    path.write_text(end.join(["text,y", *rows, ""]), newline="")
    options = {"target": "y", "block_size": 30, "missing": "drop"}
    expected = known(alone(path, **options))
    for found in opened(path, size, **options):
        assert known(found) == expected


@pytest.mark.parametrize(
    "content",
    [
        "a,y\n1,2\n3\n" + "4,5\n" * 50,
        "a,y\n" + "1,2\n" * 50 + "3\n",
        "a,y\n" + "1,2\n" * 50 + '"3,4\n',
        "a,y\n" + "1,2\n" * 50 + ",4\n" + "1,2\n" * 20,
        "a,y\n" + "1,2\n" * 50 + "1e999,4\n",
        "a,y\n",
        "",
        "a,y\n\n\n1,2\n",
        "a;y\n" + "1;2\n" * 50,
        "y\n" + "1\n" * 60,
    ],
)
def test_an_error_is_that_of_one_process(tmp_path, content):
    (tmp_path / "t.csv").write_text(content)
    expected = known(alone(tmp_path / "t.csv", target="y"))
    for found in opened(tmp_path / "t.csv", 3, target="y"):
        assert known(found) == expected


def test_where_one_process_can_not_read_the_file_the_first_reads_alone(tmp_path, monkeypatch):
    path = written(tmp_path / "t.csv", ["numbers", "colors", "y"])
    expected = known(alone(path, target="y"))
    lines = csv_pieces._lines

    def failing(source, k, start, stop):
        if start > source._parts[k].body:
            raise OSError("this process can't read the file")
        return lines(source, k, start, stop)

    monkeypatch.setattr(csv_pieces, "_lines", failing)
    for found in opened(path, 2, target="y"):
        assert known(found) == expected


def test_each_process_reads_its_share(tmp_path, monkeypatch):
    """All processes together read each row twice: to count lines, and to parse it."""
    path = written(tmp_path / "t.csv", ["numbers", "colors", "late", "y"])
    length = path.stat().st_size
    read = {}

    def counting(function):
        def counted(file, *arguments):
            data = function(file, *arguments)
            name = threading.current_thread().name
            read[name] = read.get(name, 0) + len(data)
            return data

        return counted

    monkeypatch.setattr(csv_pieces._Within, "read", counting(csv_pieces._Within.read))
    opened(path, 3, target="y", block_size=500)
    assert length * 1.8 < sum(read.values()) < length * 2.3
    parsed = read.pop("minigd-prefetch")  # by a thread of each process
    assert parsed < 1.1 * length
    assert max(read.values()) < 1.3 * length / 3


def test_a_checksum_is_put_together(tmp_path):
    data = np.random.default_rng(0).integers(0, 256, 100_001, dtype=np.uint8).tobytes()
    (tmp_path / "file").write_bytes(data)
    whole = csv_files.measure(tmp_path / "file")
    assert run(3, lambda comm: together._measure(comm, tmp_path / "file")) == [whole] * 3
    assert csv_files.measure_part(tmp_path / "file", 100, 300)[0] == 200


def test_what_is_not_a_path_is_read_by_each(tmp_path):
    content = written(tmp_path / "t.csv", ["colors", "y"]).read_bytes()
    expected = known(alone(tmp_path / "t.csv", target="y"))

    def work(comm):
        with opening_together(comm):
            return gd.CsvSource(io.BytesIO(content), target="y")

    for found in run(2, work):
        assert known(found)["schema"] == expected["schema"]
        assert found.rows == ROWS


# What is computed when it is first needed --------------------------------------------------------


def settled(make, size):
    """Return the sources of some processes, after `settle`."""

    def work(comm):
        source = make(comm)
        source.settle(comm)
        return source

    return run(size, work)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.few(2)
@pytest.mark.parametrize("missing", ["drop", "mean", "median"])
def test_means_and_the_index_of_rows_are_found_together(tmp_path, missing):
    path = written(tmp_path / "t.csv", ["gaps", "colors", "lines", "y"])
    options = {"target": "y", "block_size": 2000, "missing": missing}
    expected = alone(path, **options)
    starts = expected._rows_by_number.starts
    index = tmp_path / "index"
    found = settled(lambda comm: gd.CsvSource(path, **options, index_path=index), 3)
    assert gd.CsvSource(path, **options, index_path=index)._rows_by_number._load() is not None
    for source in found:
        assert source.schema.fills == expected.schema.fills
        for own, whole in zip(source._rows_by_number._starts, starts, strict=True):
            np.testing.assert_array_equal(own, whole)
        rows = np.array([250, 3, 4, 100])
        for array, whole in zip(source.take(rows), expected.take(rows), strict=True):
            np.testing.assert_array_equal(array, whole)


@pytest.mark.filterwarnings("ignore")
def test_a_parquet_file_is_gone_through_once(tmp_path, monkeypatch):
    path = tmp_path / "t.parquet"
    table = pd.DataFrame({name: COLUMNS[name] for name in ("gaps", "colors", "dates", "y")})
    table.to_parquet(path, row_group_size=40)
    options = {"target": "y", "missing": "drop"}
    expected = gd.ParquetSource(path, **options)
    passes, tables = [], gd.ParquetSource._tables

    def counted(source):
        passes.append(threading.current_thread().name)
        return tables(source)

    monkeypatch.setattr(gd.ParquetSource, "_tables", counted)

    def make(comm):
        with opening_together(comm):
            return gd.ParquetSource(path, **options)

    found = settled(make, 3)
    assert len(set(passes)) == 1
    for source in found:
        assert known(source) == known(expected)


def test_what_has_nothing_to_settle_is_left_alone():
    pairs = [(np.ones((2, 1)), np.ones(2))]
    for pieces in (iter(pairs), pairs):
        for source in settled(lambda comm, pieces=pieces: gd.IterableSource(pieces), 2):
            assert isinstance(source, gd.IterableSource)
