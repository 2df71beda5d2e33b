"""A file that is malformed, or that changes, is an error with file, line and column.

If the error occurs in the middle of training, the model is as it was before that batch.
"""

import gzip
import io
import os
import re

import numpy as np
import pytest
from budgets import examples
from hypothesis import given
from hypothesis import strategies as st

import minigd as gd

BLOCKS = (1, 16, 1 << 20)
GOOD = "a,b,c\n1,2,3\n4,5,6\n7,8,9\n"


def written(tmp_path, text, name="rows.csv"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refused(path, message, **options):
    """Check that the file is refused with its name, whatever the blocks."""
    for block_size in BLOCKS:
        with pytest.raises(gd.DataError, match=message) as caught:
            gd.CsvSource(path, block_size=block_size, **options)
        assert str(caught.value).startswith(str(path))


# Malformed ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "fields"), [("4,5", 2), ("4", 1), ("4,5,6,7", 4), ("4,5,6,", 4), ('"4,5",6', 2)]
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_row_of_another_width(tmp_path, row, fields, newline):
    # Pandas would fill short rows with NaN and cut long ones.
    path = written(tmp_path, GOOD.replace("4,5,6", row).replace("\n", newline))
    refused(
        path, f"line 3: the row has {fields} field{'s' * (fields > 1)}, and the table has 3 columns"
    )


def test_rows_that_make_up_for_each_other(tmp_path):
    # The block has the right number of separators.
    path = written(tmp_path, "a,b,c\n1,2,3,4\n5,6\n7,8,9\n")
    refused(path, "line 2: the row has 4 fields")
    path = written(tmp_path, "a,b,c\n1,2,3\n5,6\n7,8,9,4\n")
    refused(path, "line 3: the row has 2 fields")


def test_the_line_counts_blank_lines_and_quoted_newlines(tmp_path):
    path = written(tmp_path, '"a\nx",b\n\n1,"2\n"\n3,"x,\ny"\n\n4\n')
    refused(path, "line 9: the row has 1 field,")


def test_a_line_of_blanks_is_no_row_and_no_blank_line(tmp_path):
    refused(written(tmp_path, GOOD + "   \n1,2,3\n"), "line 5: the row has 1 field,")
    refused(written(tmp_path, "a\n1\n2\n  \n3\n"), "line 4: this line does not parse as one row")


@pytest.mark.parametrize(
    ("data", "line", "advice"),
    [
        (
            "a,b\nx,café\n".encode("latin-1"),
            2,
            "it looks like cp1252: read it with encoding='cp1252'",
        ),
        (b"a,b\n" + b"1,2\n" * 50 + b"3,\xff\n", 52, "find out its encoding; if that is cp1252"),
        ("é,b\n1,2\n".encode("latin-1"), 1, "find out its encoding"),
    ],
)
def test_bytes_that_are_not_utf8(tmp_path, data, line, advice):
    refused(written(tmp_path, data), f"line {line}, byte .*is not UTF-8; {advice}")


def test_nul_bytes(tmp_path):
    refused(written(tmp_path, GOOD.replace("5", "5\0")), "line 3: a NUL byte")
    refused(written(tmp_path, GOOD.encode() + b"\0" * 100), "line 5: a NUL byte")


@pytest.mark.parametrize("text", ["", "\n\n", "\ufeff", "\r\n"])
def test_an_empty_file(tmp_path, text):
    refused(written(tmp_path, text), "is empty$")


@pytest.mark.parametrize("text", ["a,b\n", "a,b", "a,b\n\n\r\n"])
def test_a_header_alone(tmp_path, text):
    refused(written(tmp_path, text), "has no rows under its header")


def test_a_missing_column(tmp_path):
    refused(written(tmp_path, GOOD), "line 1: there is no column 'y'; .* a, b, c$", target="y")
    advice = r"1, 2, 3; if the file has no header, pass header=False, target='3'$"
    refused(written(tmp_path, GOOD.removeprefix("a,b,c\n")), advice, target="y")


@pytest.mark.parametrize("text", ["a,b,a\n1,2,3\n", 'a,b," a "\n1,2,3\n'])
def test_two_columns_of_one_name(tmp_path, text):
    path = written(tmp_path, text)
    advice = r"name all columns with columns=\['a', 'b', 'a.1'\], skip_lines=1$"
    refused(path, f"line 1: two columns are called 'a'; {advice}")


def test_two_given_columns_of_one_name(tmp_path):
    refused(written(tmp_path, GOOD), "two columns are called 'a'", columns=["a", "b", "a"])


def test_a_quote_that_never_closes(tmp_path):
    refused(written(tmp_path, GOOD.replace("4,5", '4,"5')), "line 3: a quote opens here")
    refused(written(tmp_path, '"' + GOOD), "line 1: a quote opens here")


def test_a_lone_carriage_return(tmp_path):
    refused(written(tmp_path, "a,b\n1,2\r3,4\n5,6\n"), "line 2: the row has 3 fields")
    assert gd.CsvSource(written(tmp_path, "a,b\r1,2\r3,4\r")).rows == 2
    message = r"line 1: .*end lines in .*, not in a lone \\r"
    refused(written(tmp_path, "a,b\r1,2\r3,4\n5,6\n"), message)


def test_a_lone_carriage_return_in_a_single_column(tmp_path):
    message = r"line 3: this line does not parse as one row: end lines in .* not in a lone \\r"
    refused(written(tmp_path, "a\n0\n1\r2\n3\n"), message)


@pytest.mark.few
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("rows", "line"),
    [
        (["1\r2", "", "3"], 2),  # the same number of rows as in pandas, but other rows
        (["1", "2", "", "3\r4"], 5),  # in the last row of a block
        (["1", "\r2"], 3),
        (["b", "a\r", "c\r\r"], None),  # these end lines: \r\r\n
        (['1"\r"2', "3"], 2),
        (['1\r"2', '3"'], 2),  # for pandas, the quote opens a field
        (["1", "2\r\r3", "", ""], 3),
        (["1", " \r ", "2"], 3),
    ],
)
def test_a_lone_carriage_return_wherever_it_is(tmp_path, rows, line, end):
    text = end.join(["x", *rows, ""])
    if line is None:
        for block_size in BLOCKS:
            source = gd.CsvSource(io.BytesIO(text.encode()), block_size=block_size)
            assert source.names == ["x=a", "x=b", "x=c"]
    else:
        message = rf"line {line}: this line does not parse as one row: end lines in .*, not in a"
        refused(written(tmp_path, text), message)


@pytest.mark.parametrize("text", ["x,y\n1,2\n3\r,4\n", "x,y\n1,2\n3,\r4\n5,6", "x,y\n1,2\n3,4\r"])
def test_a_lone_carriage_return_between_as_many_fields_as_columns(tmp_path, text):
    path = written(tmp_path, text)
    if text.endswith("\r"):
        assert gd.CsvSource(path).take(slice(0, 2))[0].tolist() == [[1, 2], [3, 4]]
    else:
        refused(path, "line 3: this line does not parse as one row: end lines in")


@pytest.mark.few
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("separator", [",", " ", "blanks"])
@pytest.mark.parametrize("start", ["", " ", "\t "])
def test_a_mark_of_the_order_of_bytes_inside_is_read_alike_in_all_blocks(mark, separator, start):
    # As in joined files: it is part of its cell, which is not a number.
    rows = ["red 1", "blue 2", f"{start}{mark}red 3", "red 4"]
    text = "\n".join(["c n", *rows, ""]).replace(" ", " " if separator != "," else ",")
    if separator != "blanks" and start:
        return
    found = []
    for block_size in (1, 9, 12, 1 << 20):
        source = gd.CsvSource(io.BytesIO(text.encode()), separator=separator, block_size=block_size)
        assert source.schema.levels == {"c": sorted({"red", "blue", f"{mark}red"})}
        found.append(np.concatenate([x for x, _ in source.chunks()]).tolist())
        for row in range(4):  # each is the first one that is parsed
            assert source.take(np.array([row]))[0].tolist() == found[0][row : row + 1]
    assert all(one == found[0] for one in found)


@pytest.mark.few
@pytest.mark.parametrize("cell", ["77\n", "\n77", "77\r", "7\n7", "\n\n", "77 \n "])
@pytest.mark.parametrize("last", [False, True])
def test_a_number_with_the_end_of_a_line_in_quotes_is_none(tmp_path, cell, last):
    # Pandas would read it as a number, in blocks in which all other cells are numbers.
    rows = [f'"{i}",{i}\n' for i in range(220)]
    rows.insert(len(rows) if last else 1, f'"{cell}",5\n')
    path = written(tmp_path, "a,b\n" + "".join(rows))
    message = rf"line {222 if last else 3}, column 'a': {re.escape(repr(cell))} is not a number"
    for block_size in (1000, 1 << 20):
        with pytest.raises(gd.DataError, match=message):
            gd.CsvSource(path, block_size=block_size)


def test_long_fields_are_no_lone_carriage_returns(tmp_path):
    long = "x" * 200_000
    text = f'{long},"{long},"\n1,2\n'
    assert gd.CsvSource(written(tmp_path, text)).schema.features == [long, f"{long},"]
    refused(written(tmp_path, text.replace(",", "\r,", 1)), r"line 1: end lines in .* lone \\r$")


@pytest.mark.parametrize("opened", [1, 2, 50])
@pytest.mark.parametrize("separator", [",", "blanks"])
def test_a_quote_that_never_closes_in_a_file(tmp_path, monkeypatch, opened, separator):
    monkeypatch.setattr("minigd.data.sources.csv_blocks.MOST_OF_A_ROW", 1 << 12)
    lines = ["a,b,c"] + ["1,2,3"] * 1200
    lines[opened - 1] = '1,"2,3'
    text = "\n".join(lines).replace(",", "," if separator == "," else "  ")
    refused(
        written(tmp_path, text),
        f"line {opened}: a quote opens here and never closes.*; close it",
        separator=separator,
    )


def test_a_carriage_return_in_quotes_is_text(tmp_path):
    rows = gd.CsvSource(written(tmp_path, 'a,b\n1,"x\ry"\n'))
    assert rows.names == ["a", "b=x\ry"]


@pytest.mark.parametrize("cut", [60, -3])
def test_a_damaged_gzipped_file(tmp_path, cut):
    packed = gzip.compress(("a,b\n" + "".join(f"{i},{i * i}\n" for i in range(5000))).encode())
    refused(written(tmp_path, packed[:cut]), "the file is damaged: .*ended before")
    spoilt = packed[:200] + bytes(200) + packed[400:]
    refused(written(tmp_path, spoilt), "the file is damaged: ")


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none.csv"):
        gd.CsvSource(tmp_path / "none.csv")


def test_a_bad_row_of_a_second_file_has_its_own_line(tmp_path):
    first, second = written(tmp_path, GOOD, "0.csv"), written(tmp_path, GOOD + "1,2\n", "1.csv")
    with pytest.raises(gd.DataError, match=r"1.csv, line 5: the row has 2 fields"):
        gd.CsvSource([first, second])
    second.write_text(GOOD + "1,,2\n")
    with pytest.raises(gd.DataError, match=r"1.csv, line 5, column 'b': the value is missing"):
        gd.CsvSource([first, second])


@examples(50)
@given(st.text(alphabet='a1,"\n\r \0', max_size=24))
def test_any_text_is_read_or_refused_but_never_misread(text):
    try:
        rows = gd.CsvSource(io.BytesIO(("x,y\n" + text).encode()), missing=0.0)
    except gd.DataError:
        return
    xs = [x for x, _ in rows.chunks()]
    assert sum(map(len, xs)) == rows.rows
    np.testing.assert_array_equal(rows.take(np.arange(rows.rows))[0], np.concatenate(xs))


# A file that changes -----------------------------------------------------------------------------

LONG = "x,y\n" + "".join(f"{i / 100},{i % 7}\n" for i in range(200))


def edit(path, text):
    """Write other content, and restore the time of the last edit."""
    before = os.stat(path)
    path.write_text(text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


CHANGES = {
    "edited": lambda path: edit(path, LONG.replace("1.5,3", "1.55,3")),
    "truncated": lambda path: os.truncate(path, len(LONG) // 2),
    "emptied": lambda path: os.truncate(path, 0),
    "appended": lambda path: path.write_text(LONG + "1,2\n"),
    "replaced": lambda path: os.replace(written(path.parent, LONG.replace("3", "4"), "o"), path),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("shuffle", [False, True])
def test_a_file_that_changes_between_epochs(tmp_path, change, shuffle):
    path = written(tmp_path, LONG)
    batches = gd.Batches(gd.CsvSource(path, target="y"), batch_size=30, shuffle=shuffle)
    trainer = gd.Trainer(gd.Sequential([gd.Dense(1)], inputs=1), "mse", gd.SGD(0.01))
    trainer.fit(batches)
    before = trainer.model.flat_params.copy()
    CHANGES[change](path)
    with pytest.raises(gd.DataError, match=r"rows.csv has changed since.*new CsvSource"):
        trainer.fit(batches)
    np.testing.assert_array_equal(trainer.model.flat_params, before)
    assert (trainer.epoch, trainer.updates) == (1, 7)


def test_an_edit_of_the_same_length_with_its_time_put_back_is_seen(tmp_path):
    path = written(tmp_path, LONG)
    rows = gd.CsvSource(path, target="y")
    list(rows.chunks())
    changed = os.stat(path).st_ctime_ns
    # The clock of the file system may be coarse.
    while os.stat(path).st_ctime_ns == changed:
        edit(path, LONG.replace("1.5,3", "1.5,4"))
    for read in (lambda: list(rows.chunks()), lambda: rows.take(np.array([3]))):
        with pytest.raises(gd.DataError, match="has changed since it was opened"):
            read()


def test_a_file_that_changes_within_an_epoch_is_seen_at_its_end_at_the_latest(tmp_path):
    path = written(tmp_path, LONG)
    rows = gd.CsvSource(path, target="y", block_size=64)
    chunks = rows.chunks()
    next(chunks)
    path.write_text(LONG.replace("0.99,", "0.98,"))
    with pytest.raises(gd.DataError, match=r"rows.csv has changed since it was opened"):
        list(chunks)


def test_a_file_that_was_only_touched_is_the_same(tmp_path):
    path = written(tmp_path, LONG)
    rows = gd.CsvSource(path, target="y")
    x, y = rows.take(slice(0, 200))
    os.utime(path, ns=(1, 1))
    path.chmod(0o600)
    np.testing.assert_array_equal(rows.take(slice(0, 200))[0], x)
    # A copy that replaces it is the same file too.
    os.replace(written(tmp_path, LONG, "copy.csv"), path)
    np.testing.assert_array_equal(rows.take(slice(0, 200))[1], y)
    np.testing.assert_array_equal(np.concatenate([x for x, _ in rows.chunks()]), x)


def test_a_file_that_was_moved_has_the_same_fingerprint(tmp_path):
    path = written(tmp_path, LONG)
    rows = gd.CsvSource(path, target="y")
    moved = path.rename(tmp_path / "moved.csv")
    assert gd.CsvSource(moved, target="y").fingerprint() == rows.fingerprint()


def test_how_a_file_is_read_shows_in_its_fingerprint(tmp_path):
    text = "a,b\n1,2\n?,4\n-1,6\n"
    path = written(tmp_path, text)
    options = [
        {"missing": "drop", "na": ["?"]},
        {"missing": "drop", "na": ["?", "-1"]},
        {"missing": 0.0, "na": ["?"]},
        {"missing": "drop", "na": ["?"], "dtype": "float64"},
        {"missing": "drop", "na": ["?"], "features": ["b"]},
    ]
    prints = [str(gd.CsvSource(path, **given).fingerprint()) for given in options]
    assert len(set(prints)) == len(options)


# In the middle of training -----------------------------------------------------------------------


@pytest.mark.parametrize("prefetch", [0, 3])
@pytest.mark.parametrize("bad", ["1e300", "-1e39"])
def test_a_bad_value_leaves_the_model_as_it_was_before_its_batch(tmp_path, bad, prefetch):
    lines = [f"{i / 100},{i % 7}" for i in range(100)]
    lines[57] = f"{bad},1"
    path = written(tmp_path, "x,y\n" + "\n".join(lines))
    rows = gd.CsvSource(path, target="y", block_size=40, dtype="float64")
    rows.schema = rows.schema.replace(dtype="float32")  # the first pass would have refused it

    def trained(source):
        trainer = gd.Trainer(gd.Sequential([gd.Dense(1)], inputs=1), "mse", gd.SGD(0.01))
        return trainer, gd.Batches(source, batch_size=10, prefetch=prefetch)

    trainer, batches = trained(rows)
    with pytest.raises(gd.DataError, match=r"rows.csv, line 59, column 'x'"):
        trainer.fit(batches)
    # The earlier batches are rows 0 to 49.
    good = written(tmp_path, "x,y\n" + "\n".join(lines[:50]), "good.csv")
    other, batches = trained(gd.CsvSource(good, target="y"))
    other.fit(batches)
    assert trainer.updates == 5
    np.testing.assert_array_equal(trainer.model.flat_params, other.model.flat_params)
    trainer.fit(batches)
    assert trainer.updates == 10
