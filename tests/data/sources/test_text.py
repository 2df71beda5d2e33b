"""Rows in the bytes of a text file: Python's csv finds the same ones, whatever the blocks.

Each row has its place and its line in the file.
"""

import csv
import io
import re

import numpy as np
import pytest
from budgets import examples
from hypothesis import given
from hypothesis import strategies as st

import minigd as gd
from minigd.data.sources import csv_blocks
from minigd.data.sources.csv_blocks import BLANKS, check_fields, read_blocks, scan, split, squeeze

properties = examples(50)
# Few letters, so quotes, doubled quotes and newlines are often next to each other.
fields = st.text(alphabet='ab",\n é', max_size=6)
tables = st.lists(st.lists(fields, min_size=2, max_size=4), min_size=1, max_size=8)


def written(rows, newline="\n", last=True):
    out = io.StringIO()
    csv.writer(out, lineterminator=newline).writerows(rows)
    text = out.getvalue() if last else out.getvalue().removesuffix(newline)
    return text.encode()


def found(data, size):
    """Return the text and the line of each row."""
    rows = []
    for block in read_blocks(io.BytesIO(data), "f.csv", size):
        for row, (start, end) in enumerate(zip(block.starts, block.ends, strict=True)):
            rows.append((block.data[start:end].decode(), block.line_of(row)))
    return rows


@properties
@given(tables, st.integers(1, 60), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_rows_are_those_of_csv_each_on_its_line(rows, size, newline, last):
    data = written(rows, newline, last)
    at = found(data, size)
    assert [next(csv.reader(io.StringIO(text, newline=""))) for text, _ in at] == rows
    lines = [1]
    for text, _ in at:
        lines.append(lines[-1] + text.count("\n") + 1)
    assert [line for _, line in at] == lines[:-1]


@properties
@given(st.text(alphabet='a", \n', max_size=30), st.integers(1, 12))
def test_any_text_is_cut_as_csv_cuts_it(text, size):
    # Here quotes may be anywhere, even in the middle of fields. Neither side counts blank rows.
    data = text.encode()
    rows = [row for row in csv.reader(io.StringIO(text, newline="")) if row]
    try:
        at = found(data, size)
    except gd.DataError:
        # For Python the end of the file closes the quote; here that is an error.
        with pytest.raises(csv.Error):
            list(csv.reader(io.StringIO(text, newline=""), strict=True))
        return
    assert [next(csv.reader(io.StringIO(text, newline=""))) for text, _ in at] == rows


@properties
@given(tables, st.integers(1, 60))
def test_separators_lie_between_the_fields_of_csv(rows, size):
    for block in read_blocks(io.BytesIO(written(rows)), "f.csv", size):
        for start, end in zip(block.starts, block.ends, strict=True):
            row = next(csv.reader(io.StringIO(block.data[start:end].decode(), newline="")))
            inside = (block.separators >= start) & (block.separators < end)
            assert inside.sum() == len(row) - 1


@properties
@given(st.lists(st.integers(1, 5), min_size=1, max_size=12), st.integers(1, 5), st.integers(1, 200))
def test_the_first_row_of_another_width_is_named(widths, expected, size):
    data = "".join(",".join("x" * width) + "\n" for width in widths).encode()
    wrong = [(line, width) for line, width in enumerate(widths, 1) if width != expected]
    blocks = read_blocks(io.BytesIO(data), "f.csv", size)
    if not wrong:
        for block in blocks:
            check_fields(block, "f.csv", expected)
        return
    line, width = wrong[0]
    fields, columns = (
        f"{k} {what}{'s' * (k > 1)}" for k, what in ((width, "field"), (expected, "column"))
    )
    message = f"f.csv, line {line}: the row has {fields}, and the table has {columns}$"
    with pytest.raises(gd.DataError, match=message):
        [check_fields(block, "f.csv", expected) for block in blocks]


def test_blocks_join_up_to_the_file():
    data = written([["a", "b\nc"], ["d", 'e"f'], ["g", "h"]])
    for size in range(1, len(data) + 3):
        blocks = list(read_blocks(io.BytesIO(data), "f.csv", size))
        assert b"".join(block.data for block in blocks) == data
        assert [block.offset for block in blocks] == list(
            np.cumsum([0, *(len(block.data) for block in blocks)])[:-1]
        )


def test_spaces_before_a_quote_count_only_where_they_are_skipped():
    data = b'1, "a,b"\n2, c\n'
    assert len(scan(data)[1]) == 3
    assert len(scan(data, spaces=True)[1]) == 2


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize(
    ("data", "line"), [(b'a,b\n1,"2\n3,4\n', 2), (b'a\n1\n2\n"', 4), (b'"a\nb\n', 1)]
)
def test_a_quote_that_never_closes_is_named_with_its_line(data, line, size):
    with pytest.raises(gd.DataError, match=f"f.csv, line {line}: a quote opens .* never closes"):
        list(read_blocks(io.BytesIO(data), "f.csv", size))


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_byte_that_is_not_utf8_is_named_with_its_line(size):
    data = "a,b\né,1\nü,2\n".encode() + "ñ,3\n".encode("latin-1")
    with pytest.raises(gd.DataError, match=r"f.csv, line 4, byte 1 of it: 0xf1 is not UTF-8"):
        list(read_blocks(io.BytesIO(data), "f.csv", size))


# Runs of blanks ----------------------------------------------------------------------------------


@properties
@given(st.text(alphabet='a" \t\n\r', max_size=40))
def test_runs_of_blanks_are_separators_outside_quotes_alone(text):
    # Rows and fields are those of the text in which each run is one comma, found by hand.
    data = text.encode()
    ends, separators = scan(data, BLANKS)
    inside, opens = False, True
    fields, own_ends, line_start = [], [], True
    i = 0
    while i < len(text):
        letter = text[i]
        if inside:
            if text[i : i + 2] == '""':
                i += 1
            elif letter == '"':
                inside = False
        elif letter == '"' and opens:
            inside, opens, line_start = True, False, False
        elif letter == "\n":
            own_ends.append(i)
            opens = line_start = True
        elif letter in " \t":
            run = i
            while i + 1 < len(text) and text[i + 1] in " \t":
                i += 1
            if not line_start and not re.match(r"\r?(\n|\Z)", text[i + 1 :]):
                fields.append(run)
            opens = True
        else:
            opens = line_start = False
        i += 1
    assert ends.tolist() == own_ends
    assert separators.tolist() == fields


@properties
@given(st.text(alphabet='a" \t\n', max_size=40))
def test_squeezed_rows_have_the_same_fields(text):
    data = text.encode()
    ends, separators = scan(data, BLANKS)
    squeezed = squeeze(data, BLANKS)
    again, single = scan(squeezed, b" ")
    assert len(again) == len(ends)
    assert len(single) == len(separators)
    assert squeeze(squeezed, BLANKS) == squeezed
    assert squeeze(data, b",") == data


def test_fields_of_a_row():
    assert split(b'a, "b, c" ,\r\n', b",") == ["a", "b, c", ""]
    assert split(b"a   b\n", b" ") == ["a", "", "", "b"]
    assert split(b'  a \t "b  c"  \r\n', BLANKS) == ["a", "b  c"]
    assert split(b" \n", BLANKS) == split(b"", b",") == []


# Rows that do not end ----------------------------------------------------------------------------


def endless(lines=4000, before=3, kind='1,"2\n'):
    """Return a table in which the quote that is opened on line `before` + 1 never closes."""
    return (b"1,2\n" * before) + kind.encode() + b"3,4\n" * lines


@pytest.mark.parametrize(
    "kind", ['1,"2\n', '"1,2\n', '1,"x ""y"" \n', '"a",""",2\n', '"a\nb","2\n']
)
@pytest.mark.parametrize("size", [1, 64, 4096])
def test_a_quote_that_never_closes_takes_linear_time_and_bounded_memory(monkeypatch, kind, size):
    scanned = []
    real = csv_blocks.scan
    monkeypatch.setattr(csv_blocks, "scan", lambda d, *o: scanned.append(len(d)) or real(d, *o))
    line = 4 + kind.count("\n") - 1
    for most in (1 << 12, 1 << 30):
        scanned.clear()
        monkeypatch.setattr(csv_blocks, "MOST_OF_A_ROW", most)
        data = endless(kind=kind)
        within = f" within {most:,} bytes" if most < len(data) else ""
        message = f"^f.csv, line {line}: a quote opens here and never closes{within}; close it"
        with pytest.raises(gd.DataError, match=message):
            list(read_blocks(io.BytesIO(data), "f.csv", size))
        assert max(scanned) <= most + 2 * size
        assert sum(scanned) <= 4 * len(data) + 16 * size


def test_a_long_field_of_many_lines_is_read_up_to_the_bound(monkeypatch):
    monkeypatch.setattr(csv_blocks, "MOST_OF_A_ROW", 1 << 12)
    for length, size, good in ((4000, 8, True), (5000, 8, False), (5000, 8192, True)):
        field = ("line\n" * length)[:length]
        data = b"1,2\n" + written([["a", field], ["b", "c"]])
        blocks = read_blocks(io.BytesIO(data), "f.csv", size)
        if good:
            rows = [r for b in blocks for r in csv.reader(io.StringIO(b.data.decode(), newline=""))]
            assert rows == [["1", "2"], ["a", field], ["b", "c"]]
        else:
            with pytest.raises(gd.DataError, match=r"line 2: .* within 4,096 .* block_size=16384"):
                list(blocks)


def test_a_row_without_an_end_is_no_open_quote(monkeypatch):
    monkeypatch.setattr(csv_blocks, "MOST_OF_A_ROW", 1 << 12)
    data = b'1,"a"\n' + b'2,"b"' * 2000
    with pytest.raises(gd.DataError, match="line 2: the row does not end within 4,096 bytes"):
        list(read_blocks(io.BytesIO(data), "f.csv", 16))


def test_many_quotes_in_one_field_take_linear_time():
    # Only the first quote of a field is checked; the time for each would grow with the field.
    field = b'a"' * 50_000
    marks = list(csv_blocks._walk(b"1," + field + b",2\n", b",", True))
    assert [at for _, at in marks] == [1, 2 + len(field), 4 + len(field)]


@properties
@given(st.text(alphabet='a", \n\r', max_size=40), st.sampled_from([b",", BLANKS]))
def test_a_lone_return_outside_quotes_is_found(text, separator):
    data = (text + "\n").encode()
    if separator == BLANKS:
        data = data.replace(b",", b"\t")
    inside, fresh, reopens, lone = False, True, False, []
    for i, letter in enumerate(data.decode()):
        mark = letter in "\n\r" or letter.encode() in separator
        if letter == '"':
            # A doubled quote closes and opens again.
            inside, reopens = (not inside and (fresh or reopens)), inside
            fresh = False
            continue
        reopens = False
        if not inside:
            if letter == "\r" and data[i + 1 : i + 2] not in (b"\n", b"\r"):
                lone.append(i)
            fresh = mark or (fresh and letter == " ")
    if not inside:
        assert csv_blocks._lone_return(data, separator, True) == (lone[0] if lone else -1)


def test_rows_of_returns_alone_are_blank():
    data = b"1,2\r\r\n\r\r\n\r\n3,4\r\n"
    for size in (1, 5, 100):
        assert [row.rstrip("\r") for row, _ in found(data, size)] == ["1,2", "3,4"]


@properties
@given(st.lists(fields, min_size=1, max_size=4))
def test_fields_are_those_of_csv(row):
    data = written([row])
    expected = next(csv.reader(io.StringIO(data.decode(), newline=""), skipinitialspace=True), [])
    assert split(data, b",") == [field.strip() for field in expected]


def test_a_field_may_be_longer_than_those_of_csv():
    long = "x" * 200_000
    assert split(f'{long},"{long},",2\n'.encode(), b",") == [long, f"{long},", "2"]
    for row in (b"a\rb,c\n", b'"a\r",b\rc\n'):
        with pytest.raises(ValueError, match="not in a lone"):
            split(row, b",")
