"""A CSV becomes numbers as pandas and Python's csv read it, whatever the size of the blocks.

The type of each column is found once for the whole file; a missing value is never overlooked.
"""

import csv
import gzip
import io

import numpy as np
import pandas as pd
import pytest
from budgets import examples
from hypothesis import given
from hypothesis import strategies as st

import minigd as gd

properties = examples(12)
BLOCKS = (1, 17, 1 << 20)


def source(text, **options):
    data = text if isinstance(text, bytes) else text.encode()
    return gd.CsvSource(io.BytesIO(data), **{"dtype": "float64", **options})


def whole(rows):
    """Return all of x and y in order."""
    xs, ys = zip(*rows.chunks(), strict=True)
    return np.concatenate(xs), None if ys[0] is None else np.concatenate(ys)


def table(text, **options):
    x, y = whole(source(text, **options))
    return x.tolist(), None if y is None else y.tolist()


# What a file may look like -----------------------------------------------------------------------

PLAIN = "a,b\n1,2.5\n-3,4e2\n"
ROWS = [[1, 2.5], [-3, 400]]


@pytest.mark.few
@pytest.mark.parametrize("block_size", BLOCKS)
@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        PLAIN.removesuffix("\n"),
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("\n", "\r\n").removesuffix("\r\n"),
        "\ufeff" + PLAIN,
        '\ufeff"a",b\n1,2.5\n-3,4e2\n',
        PLAIN.replace(",", ", "),
        "\n" + PLAIN.replace("\n", "\n\n"),
        "\r\n" + PLAIN.replace("\n", "\r\n\r\n"),
        '"a","b"\n"1","2.5"\n"-3","4e2"\n',
        '"a", "b"\n1, "2.5"\n-3, "4e2"\n',
        "a,b\n1 ,2.50\n-3,+4E+002\n",
        "a,b\n1.0,25e-1\n-3.,400\n",
    ],
)
def test_the_same_rows_however_they_are_written(text, block_size):
    rows = source(text, block_size=block_size)
    assert rows.names == ["a", "b"]
    assert rows.rows == 2
    assert whole(rows)[0].tolist() == ROWS
    assert rows.take(slice(0, 2))[0].tolist() == ROWS


@pytest.mark.parametrize("separator", [";", "\t", "|", " "])
def test_other_separators(separator):
    assert table(PLAIN.replace(",", separator), separator=separator) == (ROWS, None)


# Blanks and tabs ---------------------------------------------------------------------------------


@pytest.mark.few
@pytest.mark.parametrize("separator", [" ", "\t", ",", ";", "|"])
@pytest.mark.parametrize("block_size", BLOCKS)
def test_a_missing_cell_shifts_nothing(separator, block_size):
    text = "y a b c\n3 1 2 4\n6  9 8\n7   \n  5 \n".replace(" ", separator)
    # The last row has no target.
    with pytest.raises(gd.DataError, match="line 5, column 'y': the value of the target"):
        source(text, target="y", missing=0.0, separator=separator, block_size=block_size)
    text = text.replace(f"\n{separator}{separator}5", f"\n2{separator}{separator}5")
    rows = source(text, target="y", missing=0.0, separator=separator, block_size=block_size)
    x, y = whole(rows)
    assert x.tolist() == [[1, 2, 4], [0, 9, 8], [0, 0, 0], [0, 5, 0]]
    assert y.tolist() == [3, 6, 7, 2]
    x, y = rows.take(np.array([3, 1, 2]))
    assert (x.tolist(), y.tolist()) == ([[0, 5, 0], [0, 9, 8], [0, 0, 0]], [2, 6, 7])
    dropped = source(text, target="y", missing="drop", separator=separator, block_size=block_size)
    assert (dropped.rows, dropped.dropped) == (1, 3)


cells = st.sampled_from(["", "1", "-2.5", '""', '"3"'])


@properties
@given(
    st.lists(st.lists(cells, min_size=3, max_size=3), min_size=1, max_size=12),
    st.sampled_from([" ", "\t", ",", ";"]),
    st.sampled_from(["\n", "\r\n"]),
    st.integers(1, 60),
)
def test_empty_cells_stay_in_their_columns(rows, separator, ends, block_size):
    rows = [*rows, ["7", "8", "9"]]  # a column with only empty cells would be refused
    text = ends.join(separator.join(row) for row in [["a", "b", "c"], *rows])
    made = source(text, missing=0.0, separator=separator, block_size=block_size)
    expected = [[float(cell.strip('"') or 0) for cell in row] for row in rows]
    assert whole(made)[0].tolist() == expected
    order = np.arange(len(rows))[::-1]
    assert made.take(order)[0].tolist() == expected[::-1]


@pytest.mark.parametrize("block_size", BLOCKS)
def test_spaces_around_tabs_are_skipped_and_cells_of_them_are_empty(block_size):
    text = "a\tb\tc\n1\t 2 \t3\n4\t \t 6\n \t8\t \n"
    rows = source(text, missing=0.0, separator="\t", block_size=block_size)
    assert whole(rows)[0].tolist() == [[1, 2, 3], [4, 0, 6], [0, 8, 0]]
    assert rows.take([2, 0])[0].tolist() == [[0, 8, 0], [1, 2, 3]]


ALIGNED = ' a    b\tname \n\n 1.5  2   \'x\r\n10    3 \t\t "y  z" \n   \t \n-4  5e1 """q"\n'


@pytest.mark.few
@pytest.mark.parametrize("block_size", BLOCKS)
@pytest.mark.parametrize("last", ["", "\n", " \n", "\r\n", "\n \t\n"])
def test_runs_of_blanks_separate_columns(block_size, last):
    text = ALIGNED.removesuffix("\n") + last
    rows = source(text, separator="blanks", block_size=block_size)
    assert rows.names == ["a", "b", 'name="q', "name='x", "name=y  z"]
    x = [[1.5, 2, 0, 1, 0], [10, 3, 0, 0, 1], [-4, 50, 1, 0, 0]]
    assert whole(rows)[0].tolist() == x
    assert rows.take(np.array([2, 0, 1, 2]))[0].tolist() == [x[2], x[0], x[1], x[2]]
    assert rows.places(np.arange(3)) == ["line 3", "line 4", "line 6"]


def test_a_cell_that_is_missing_between_runs_of_blanks_is_a_row_of_another_width():
    with pytest.raises(gd.DataError, match="line 3: the row has 1 field, and the table has 2"):
        source("a  b\n1  2\n3   \n", separator="blanks")
    rows = source('a  b\n1  2\n3  ""\nNA 4\n', separator="blanks", missing=0.0)
    assert whole(rows)[0].tolist() == [[1, 2], [3, 0], [0, 4]]


blanks = st.text(alphabet=" \t", max_size=3)
number = st.sampled_from(["1", "2.5", "-3", '"4"'])
line_ends = st.sampled_from(["\n", "\r\n", "\n\n", "\n \n"])
aligned = st.tuples(blanks, st.tuples(number, number), blanks.map(" ".__add__), blanks, line_ends)


@properties
@given(st.lists(aligned, min_size=1, max_size=12), st.integers(1, 60))
def test_runs_of_any_blanks_are_one_separator(rows, block_size):
    text = "a b\n" + "".join(
        before + between.join(row) + behind + end for before, row, between, behind, end in rows
    )
    made = source(text, separator="blanks", block_size=block_size)
    expected = [[float(cell.strip('"')) for cell in row] for _, row, *_ in rows]
    assert whole(made)[0].tolist() == expected
    assert made.take(np.arange(len(rows))[::-1])[0].tolist() == expected[::-1]
    same = pd.read_csv(io.StringIO(text), sep=r"\s+")
    np.testing.assert_array_equal(same.to_numpy(dtype=float), expected)


@pytest.mark.parametrize("separator", ["", ",,", "éé", r"\s+", "blank", None, 3, b","])
def test_a_separator_is_one_character(separator):
    with pytest.raises(ValueError, match="separator must be one character"):
        source(PLAIN, separator=separator)


@pytest.mark.parametrize("prefix", ["", "\ufeff", "\n"])
def test_a_file_without_header(prefix):
    text = prefix + PLAIN.removeprefix("a,b\n")
    assert table(text, columns=["a", "b"]) == (ROWS, None)
    with pytest.raises(gd.DataError, match=r"line [12]: the row has 2 fields.* 3 columns"):
        source(text, columns=["a", "b", "c"])


@pytest.mark.parametrize("names", [["a", "b"], ["size", "b"], ["size", "price"]])
@pytest.mark.parametrize("skip", [0, 2])
def test_names_are_not_given_to_a_file_that_has_them(names, skip):
    text = "by hand\n" * skip + PLAIN
    if names[0] == "size":
        text = text.replace("a,b", "area,b")
    skips = f"skip_lines={skip + 1}"
    message = rf": line {skip + 1} is a header; leave out columns=\[\.\.\.\], or add {skips}"
    with pytest.raises(gd.DataError, match=message):
        source(text, columns=names, skip_lines=skip)
    assert table(text, columns=names, skip_lines=skip + 1) == (ROWS, None)


def test_a_first_row_of_texts_is_no_header_for_that():
    for text, rows in (("a,1\nb,2\nc,3\n", 3), ("a,x\nb,y\na,x\n", 3), ("a,x\n1,y\n", 2)):
        assert source(text, columns=["one", "two"]).rows == rows
    for text, first in (("?,x\n1,y\n2,x\n3,x\n", r"\?"), ("a,\n1,2\n3,4\n5,6\n", "a")):
        with pytest.raises(gd.DataError, match=f"line 1, column 'one': '{first}' is not a number"):
            source(text, columns=["one", "two"], missing=0.0)


@pytest.mark.few
@pytest.mark.parametrize("block_size", BLOCKS)
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("prefix", ["", "\ufeff"])
def test_lines_at_the_top_that_are_no_rows(prefix, ends, block_size):
    top = prefix + "|1x3 Cross validator" + ends + 'made by "hand, 2 fields' + ends
    text = top + PLAIN.replace("\n", ends)
    rows = source(text, skip_lines=2, block_size=block_size)
    assert rows.names == ["a", "b"]
    assert whole(rows)[0].tolist() == ROWS
    assert rows.take(np.array([1, 0]))[0].tolist() == ROWS[::-1]
    bare = top + ends.join(PLAIN.splitlines()[1:])
    assert table(bare, skip_lines=2, columns=["a", "b"], block_size=block_size) == (ROWS, None)


def test_a_line_behind_those_skipped_is_named_by_its_number():
    with pytest.raises(gd.DataError, match="line 5: the row has 1 field,"):
        source("x\ny\na,b\n1,2\n3\n", skip_lines=2)
    with pytest.raises(gd.DataError, match="is empty after the 3 lines skipped"):
        source("a,b\n1,2\n", skip_lines=3)
    with pytest.raises(ValueError, match="skip_lines must be an integer, at least 0"):
        source(PLAIN, skip_lines=-1)


def test_long_lines_are_skipped_whole():
    top = "x" * 100_000 + "\n" + "\n" + "y" * 65_535 + "\n"
    assert table(top + PLAIN, skip_lines=3) == (ROWS, None)


@pytest.mark.parametrize("block_size", BLOCKS)
def test_what_stands_at_the_end_of_texts_is_taken_off(block_size):
    text = "a,grade,label\n1.,A*,<=50K.\n2.,B,>50K.\n3.,A,<=50K\n"
    rows = source(text, target="label", strip=".*", block_size=block_size)
    assert rows.classes == ["<=50K", ">50K"]
    assert rows.names == ["a", "grade=A", "grade=B"]
    assert whole(rows)[0].tolist() == [[1, 1, 0], [2, 0, 1], [3, 1, 0]]
    assert rows.take(np.array([2, 1]))[1].tolist() == [0, 1]
    assert source(text, target="label").classes == ["<=50K", "<=50K.", ">50K."]


@pytest.mark.parametrize("block_size", BLOCKS)
def test_units_behind_numbers_are_taken_off_and_letters_of_texts_are_not(block_size):
    text = "a,b,c,y\n212 m2,5%,bag,1\n-1.5m2,,beam2,2\n3, 0.5 % ,m2,3\n"
    rows = source(text, target="y", strip="% m2", missing="drop", block_size=block_size)
    assert rows.names == ["a", "b", "c=bag", "c=m2"]
    assert whole(rows)[0].tolist() == [[212, 5, 1, 0], [3, 0.5, 0, 1]]
    assert source(text, target="y", strip="% m2", missing="mean").take([1])[0][0, 0] == -1.5


def test_a_text_column_of_missing_values_alone_has_nothing_to_strip():
    schema = source("a,b\n1,x\n", missing="category").schema
    rows = source("a,b\n1,\n2,x.\n", schema=schema, strip=".", block_size=1)
    assert (rows.rows, rows.dropped) == (1, 1)


def test_prices_in_scientific_notation():
    # As in King County's file, where some prices are written so: they are whole numbers too.
    _, y = whole(source("id,price\n1,1.225e+006\n2,221900\n", target="price"))
    assert y.dtype == np.int64
    assert y.tolist() == [1225000, 221900]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", ["path", "text", "file"])
def test_paths_and_file_objects_plain_and_gzipped(tmp_path, packed, kind):
    path = tmp_path / "rows.csv"
    path.write_bytes(gzip.compress(PLAIN.encode()) if packed else PLAIN.encode())
    with open(path, "rb") as file:
        given_file = {"path": path, "text": str(path), "file": file}[kind]
        rows = gd.CsvSource(given_file)
        for _ in range(2):
            assert whole(rows)[0].tolist() == ROWS


def test_several_files_follow_one_another(tmp_path):
    pieces = [["1,2"], [], ["3,4", "5,6"]]
    paths = [tmp_path / f"{i}.csv" for i in range(3)]
    for path, lines in zip(paths, pieces, strict=True):
        path.write_text("\n".join(["a,b", *lines]))
    paths[2].write_bytes(gzip.compress(paths[2].read_bytes()))
    rows = gd.CsvSource(paths)
    assert rows.rows == 3
    assert whole(rows)[0].tolist() == [[1, 2], [3, 4], [5, 6]]


def test_files_of_other_columns_are_refused(tmp_path):
    (tmp_path / "0.csv").write_text("a,b\n1,2\n")
    (tmp_path / "1.csv").write_text("b,a\n1,2\n")
    message = r"1.csv, line 1: the columns differ from those of .*0.csv: column 1 is 'b' here and"
    with pytest.raises(gd.DataError, match=message):
        gd.CsvSource([tmp_path / "0.csv", tmp_path / "1.csv"])
    with pytest.raises(gd.DataError, match="no file was given"):
        gd.CsvSource([])


def test_a_file_object_of_text_is_refused():
    with pytest.raises(TypeError, match="open the file in binary mode, 'rb'"):
        gd.CsvSource(io.StringIO(PLAIN))
    with pytest.raises(TypeError, match="a CSV must be a path or a binary file object, not 3"):
        gd.CsvSource(3)


def test_two_readers_of_one_file_object_do_not_disturb_each_other():
    rows = source("a\n" + "".join(f"{i}\n" for i in range(100)), block_size=16)
    first, second = rows.chunks(), rows.chunks()
    seen = [[], []]
    for (x, _), (again, _) in zip(first, second, strict=True):
        seen[0] += x[:, 0].tolist()
        seen[1] += again[:, 0].tolist()
    assert seen == [list(range(100))] * 2


def test_rows_can_start_anywhere():
    rows = source("a\n" + "".join(f"{i}\n" for i in range(30)), block_size=16)
    for start in range(31):
        assert [v for x, _ in rows.chunks(start) for v in x[:, 0]] == list(range(start, 30))


# Which columns -----------------------------------------------------------------------------------

WIDE = "a,b,c,d\n1,2,3,4\n5,6,7,8\n"


@pytest.mark.parametrize(
    ("options", "names", "x", "y"),
    [
        ({}, "abcd", [[1, 2, 3, 4], [5, 6, 7, 8]], None),
        ({"target": "b"}, "acd", [[1, 3, 4], [5, 7, 8]], [2, 6]),
        ({"target": ["b"]}, "acd", [[1, 3, 4], [5, 7, 8]], [2, 6]),
        ({"target": ["d", "a"]}, "bc", [[2, 3], [6, 7]], [[4, 1], [8, 5]]),
        ({"features": ["c", "a"], "target": "d"}, "ca", [[3, 1], [7, 5]], [4, 8]),
        ({"features": ["c", "a"], "target": "a"}, "c", [[3], [7]], [1, 5]),
        ({"exclude": ["a", "d"]}, "bc", [[2, 3], [6, 7]], None),
        ({"exclude": {"a"}, "target": "c"}, "bd", [[2, 4], [6, 8]], [3, 7]),
    ],
)
def test_columns_are_chosen_by_name(options, names, x, y):
    assert source(WIDE, **options).names == list(names)
    assert table(WIDE, **options) == (x, y)


def test_what_is_named_must_be_there_and_once():
    for options in [{"target": "e"}, {"features": ["a", "e"]}, {"exclude": ["e"]}]:
        with pytest.raises(gd.DataError, match=r"line 1: there is no column 'e'; .* a, b, c, d"):
            source(WIDE, **options)
    with pytest.raises(gd.DataError, match="there is no column 'e'"):
        source(WIDE, categories={"e": ["x"]})
    with pytest.raises(gd.DataError, match="'a' is named twice"):
        source(WIDE, features=["a", "b", "a"])
    for name in ("features", "exclude"):
        with pytest.raises(
            TypeError, match=rf"{name} must be a list of names, \['abc'\], not one name"
        ):
            source(WIDE, **{name: "abc"})
    with pytest.raises(gd.DataError, match="no column is left to learn from"):
        source("a\n1\n", target="a")


# What a column becomes ---------------------------------------------------------------------------


@pytest.mark.parametrize("block_size", BLOCKS)
def test_text_becomes_one_column_a_level_in_sorted_order(block_size):
    text = "size,color,kind\n1,red,x\n2,blue,y\n3,red,x\n4,green,y\n"
    rows = source(text, block_size=block_size)
    assert rows.names == ["size", "color=blue", "color=green", "color=red", "kind=x", "kind=y"]
    frame = pd.get_dummies(pd.read_csv(io.StringIO(text)), prefix_sep="=", dtype=float)
    assert rows.names == list(frame.columns)
    np.testing.assert_array_equal(whole(rows)[0], frame.to_numpy())


@pytest.mark.parametrize("block_size", BLOCKS)
def test_a_label_first_seen_at_the_end_has_its_class_from_the_start(block_size):
    text = "a,label\n" + "1,m\n2,z\n" * 20 + "3,b\n"
    rows = source(text, target="label", block_size=block_size)
    assert rows.classes == ["b", "m", "z"]
    _, y = whole(rows)
    assert y.dtype == np.int64
    assert y.tolist() == [1, 2] * 20 + [0]


@pytest.mark.parametrize("block_size", BLOCKS)
def test_a_category_first_seen_at_the_end_is_a_column_from_the_start(block_size):
    rows = source("a,b\n" + "1,m\n" * 20 + "3,b\n", block_size=block_size)
    assert rows.names == ["a", "b=b", "b=m"]
    assert whole(rows)[0].tolist() == [[1, 0, 1]] * 20 + [[3, 1, 0]]


@pytest.mark.parametrize("block_size", BLOCKS)
def test_one_fraction_makes_the_whole_target_no_integer(block_size):
    text = "a,b\n" + "1,2\n" * 20
    assert whole(source(text, target="b", block_size=block_size))[1].dtype == np.int64
    for late in ("2.5", "1e300"):
        _, y = whole(source(f"{text}1,{late}\n", target="b", block_size=block_size))
        assert y.dtype == np.float64
        assert y.tolist() == [2.0] * 20 + [float(late)]


@pytest.mark.parametrize("block_size", BLOCKS)
def test_one_text_among_numbers_is_taken_for_a_slip_unless_said_otherwise(block_size):
    text = "a,b\n1,1\n1,2\n1,1\n1,x\n"
    with pytest.raises(
        gd.DataError, match=r"line 5, column 'b': 'x' is not a number, and most .* is;"
    ):
        source(text, block_size=block_size)
    rows = source(text, categories={"b": ["1", "2", "x"]}, block_size=block_size)
    assert rows.names == ["a", "b=1", "b=2", "b=x"]
    assert whole(rows)[0].argmax(axis=1).tolist() == [0] * 4
    assert whole(rows)[0][:, 1:].argmax(axis=1).tolist() == [0, 1, 0, 2]


@pytest.mark.parametrize("target", [None, "b"])
def test_one_text_behind_many_numbers_is_an_error_with_its_place(target):
    lines = "".join(f"1,{i}\n" for i in range(300))
    with pytest.raises(gd.DataError, match=r"line 302, column 'b': '\?' is not a n.*na=\['\?'\]"):
        source(f"a,b\n{lines}1,?\n", target=target, block_size=64)


@pytest.mark.parametrize("block_size", BLOCKS)
def test_columns_left_out_may_hold_anything(block_size):
    lines = [f"{i},{i if i < 40 else 'text'},2014{i % 12 + 1:02}01T000000" for i in range(60)]
    text = "\n".join(["a,b,date", *lines])
    rows = source(text, exclude=["b", "date"], block_size=block_size)
    assert whole(rows)[0][:, 0].tolist() == list(range(60))


def test_levels_and_classes_may_be_given_in_an_order_of_ones_own():
    text = "a,grade,label\n1,3,no\n2,1,yes\n"
    rows = source(
        text, target="label", categories={"grade": [1, 2, 3]}, classes=["yes", "no"], block_size=9
    )
    assert rows.names == ["a", "grade=1", "grade=2", "grade=3"]
    assert whole(rows)[0].tolist() == [[1, 0, 0, 1], [2, 1, 0, 0]]
    assert whole(rows)[1].tolist() == [1, 0]
    assert rows.classes == ["yes", "no"]


def test_classes_of_numbers():
    rows = source("a,digit\n1,7\n2,3\n", target="digit", classes=range(10))
    assert whole(rows)[1].tolist() == [7, 3]
    assert source("a,digit\n1,7\n", target="digit", classes=[3, 7]).take([0])[1].tolist() == [1]


def test_a_value_that_is_none_of_the_given_levels_is_named():
    message = "line 3, column 'b': 'y' is not among the 1 known value, 'x'"
    for options in ({"categories": {"b": ["x"]}}, {"target": "b", "classes": ["x"]}):
        with pytest.raises(gd.DataError, match=message):
            source("a,b\n1,x\n2,y\n", **options)


def test_levels_given_twice_are_refused():
    with pytest.raises(gd.DataError, match="'x' is named twice"):
        source("a,b\n1,x\n", categories={"b": ["x", "y", "x"]})
    with pytest.raises(gd.DataError, match="'1' is named twice"):
        source("a,b\n1,x\n", target="a", classes=[1, "1"])


@pytest.mark.parametrize("block_size", BLOCKS)
@pytest.mark.parametrize(
    "dates", ["2014-05-02 2015-01-31", "20140502T000000 20150131T000000", "2/5/2014 31/1/2015"]
)
def test_dates_become_numbers(dates, block_size):
    first, second = dates.split()
    text = f"a,when\n1,{first}\n2,{second}\n"
    days = source(text, block_size=block_size)
    assert days.names == ["a", "when year", "when month", "when day of week", "when days"]
    assert whole(days)[0][:, 1:].tolist() == [[2014, 5, 4, 0], [2015, 1, 5, 274]]
    assert source(text, exclude=["when"], block_size=block_size).names == ["a"]


@pytest.mark.parametrize("block_size", BLOCKS)
def test_free_text_is_refused_by_name(block_size):
    text = "a,note\n" + "".join(f"1,word{i}\n" for i in range(101))
    with pytest.raises(gd.DataError, match=r"column 'note' has more than 100 .*exclude=\['note'\]"):
        source(text, block_size=block_size)
    assert len(source(text.replace("word100", "word0"), block_size=block_size).names) == 101
    many = source(text, categories={"note": [f"word{i}" for i in range(101)]})
    assert len(many.names) == 102


def test_targets_of_text_must_stand_alone():
    with pytest.raises(gd.DataError, match="several targets must be numbers"):
        source("a,b,c\n1,x,2\n", target=["b", "c"])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtype(dtype):
    rows = source("a,b\n0.1,0.2\n0.3,0.4\n", target="b", dtype=dtype)
    x, y = whole(rows)
    assert x.dtype == y.dtype == dtype
    assert x[:, 0].tolist() == np.array([0.1, 0.3], dtype).tolist()


@properties
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_every_float_is_read_back_to_the_last_bit(values):
    x, _ = whole(source("a\n" + "".join(f"{v!r}\n" for v in values)))
    np.testing.assert_array_equal(x[:, 0], values)


# Missing values ----------------------------------------------------------------------------------

GAPS = 'a,color,y\n1,red,1\n,blue,2\n3,"",3\n4,NA,4\n5,red,nan\n6,blue,6\n'


@pytest.mark.parametrize("block_size", BLOCKS)
@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a,b\n1,2\n\n3,\n", "line 4, column 'b'"),
        ("a,b\n1,2\nNaN,4\n", "line 3, column 'a'"),
        ("a,b\n1,x\n2,y\n3,null\n", "line 4, column 'b'"),
        ('a,b\n"1\n",x\n2,""\n', "line 4, column 'b'"),
    ],
)
def test_a_missing_value_is_an_error_with_its_place(text, place, block_size):
    message = f"{place}: the value is missing; drop such rows with missing='drop', or fill"
    if "null" in text:
        message = f"{place}: 'null' means a missing value; if it is a value, keep it with keep_def"
    with pytest.raises(gd.DataError, match=message):
        whole(source(text, block_size=block_size))
    with pytest.raises(gd.DataError, match=message):
        source(text, block_size=block_size).take(slice(None, None, -1))


@pytest.mark.parametrize("block_size", BLOCKS)
def test_dropped_rows_are_counted(block_size):
    rows = source(GAPS, target="y", missing="drop", na=["NA"], block_size=block_size)
    assert (rows.rows, rows.dropped) == (2, 4)
    assert rows.names == ["a", "color=blue", "color=red"]
    assert whole(rows)[0].tolist() == [[1, 0, 1], [6, 1, 0]]
    assert whole(rows)[1].tolist() == [1, 6]
    assert rows.take(np.array([1, 0, 1]))[1].tolist() == [6, 1, 6]


def test_a_gap_in_a_column_left_out_drops_nothing():
    rows = source(GAPS, features=["a"], missing="drop")
    assert (rows.rows, rows.dropped) == (5, 1)
    assert whole(rows)[0][:, 0].tolist() == [1, 3, 4, 5, 6]


def test_a_number_may_stand_for_what_is_missing():
    text = GAPS.replace("nan", "5")
    x, y = table(text, target="y", missing=-1.0, na=["NA"])
    assert x == [[1, 0, 1], [-1, 1, 0], [3, 0, 0], [4, 0, 0], [5, 0, 1], [6, 1, 0]]
    assert y == [1, 2, 3, 4, 5, 6]


def test_no_number_stands_for_a_missing_target():
    with pytest.raises(
        gd.DataError,
        match=r"line 6, column 'y': the value of the target is missing; .* missing='drop'$",
    ):
        whole(source(GAPS, target="y", missing=0.0))


def test_what_means_missing_may_be_said():
    text = "a,b\n1,?\n2,x\n-99,y\n"
    assert source(text).names == ["a", "b=?", "b=x", "b=y"]
    rows = source(text, na=["?", "-99"], missing="drop")
    assert (rows.names, rows.dropped) == (["a", "b=x"], 2)
    assert table(text, na=["?", "-99"], missing=0)[0] == [[1, 0, 0], [2, 1, 0], [0, 0, 1]]


@pytest.mark.parametrize("missing", ["ignore", float("nan"), float("inf")])
def test_an_unknown_way_with_missing_values_is_refused(missing):
    with pytest.raises(ValueError, match="missing must be 'error', 'drop', 'category', 'mean'"):
        source(PLAIN, missing=missing)


def test_dropping_all_rows_is_an_error_that_says_so():
    with pytest.raises(
        gd.DataError, match=r"has no rows .* once 2 with missing values are dropped"
    ):
        source("a,b\n1,\n,2\n", missing="drop")
    with pytest.raises(gd.DataError, match=r"no rows .* once 1 with a missing value is dropped"):
        source("a,b\n1,\n", schema=source("a,b\n1,2\n").schema.replace(missing="drop"))


@pytest.mark.parametrize("missing", ["error", "drop", 0.0])
@pytest.mark.parametrize("value", ["inf", "-Infinity", "1e400", "1e39"])
def test_infinity_is_an_error_with_its_line_even_behind_dropped_rows(value, missing):
    text = f"a,b\n1,1\n{'NA' if missing == 'drop' else 2},2\n{value},3\n"
    for options in ({}, {"target": "a"}):
        with pytest.raises(
            gd.DataError, match=r"line 4, column 'a': (-?inf is not finite|1e\+39 does not)"
        ):
            whole(source(text, missing=missing, dtype="float32", **options))


# Blocks ------------------------------------------------------------------------------------------

words = st.sampled_from(["red", "blue", "a,b", 'say "x"', "two\nlines", "é"])
numbers = st.sampled_from(["1", "2.5", "-3e1", "0.1"])
gaps = st.sampled_from(["", "NA"])


@properties
@given(
    st.lists(st.tuples(numbers | gaps, words | gaps, numbers), min_size=1, max_size=25),
    st.integers(1, 400),
    st.sampled_from(["drop", 0.5]),
)
def test_the_size_of_the_blocks_changes_nothing(rows, block_size, missing):
    out = io.StringIO()
    csv.writer(out).writerows([("n", "w", "t"), ("7", "red", "1"), *rows])
    text = out.getvalue()
    one, other = (
        source(text, target="t", missing=missing, na=["NA"], block_size=size)
        for size in (block_size, 1 << 20)
    )
    assert (one.names, one.rows, one.dropped) == (other.names, other.rows, other.dropped)
    assert one.fingerprint() == other.fingerprint()
    for a, b in zip(whole(one), whole(other), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@properties
@given(
    st.lists(st.tuples(st.integers(-99, 99), words), min_size=1, max_size=25), st.integers(1, 200)
)
def test_every_row_of_csv_comes_exactly_once(rows, block_size):
    out = io.StringIO()
    csv.writer(out).writerows([("n", "w"), *rows])
    levels = sorted({word for _, word in rows})
    made = source(out.getvalue(), block_size=block_size)
    assert made.names == ["n", *(f"w={level}" for level in levels)]
    x, _ = whole(made)
    again = list(csv.DictReader(io.StringIO(out.getvalue(), newline="")))
    assert x[:, 0].tolist() == [int(row["n"]) for row in again]
    assert [levels[i] for i in x[:, 1:].argmax(axis=1)] == [row["w"] for row in again]


@pytest.mark.parametrize(
    "values",
    [
        ["1,234", "5,678", "9,000"],
        ["$1234", "$99", "$5"],
        ["12%", "13%", "99%"],
        ["1 000", "2 000", "3 000"],
        ["−1", "−2", "−3"],
    ],
)
def test_numbers_in_a_notation_that_is_not_read_are_no_categories(values):
    text = "a,b\n" + "".join(f'"{value}",1\n' for value in values)
    with pytest.raises(gd.DataError, match="column 'a' holds numbers in a format that is not"):
        source(text)
    assert len(source(text, categories={"a": values}).names) == 4


@pytest.mark.few
@pytest.mark.parametrize("dressed", ["2,25", "1,234", "$5", "5%"])
@pytest.mark.parametrize("share", [1, 50, 90, 299])
def test_a_number_in_another_notation_is_no_missing_value_however_few(dressed, share):
    lines = [f'"{dressed}",1' if i < share else f"{i},1" for i in range(300)]
    text = "\n".join(["a,b", *reversed(lines)])
    with pytest.raises(gd.DataError, match="column 'a' holds numbers in a format") as caught:
        source(text)
    message = str(caught.value)
    way = {"2,25": "read it with decimal=',', or ", "5%": ""}.get(
        dressed, "read it with thousands="
    )
    assert f"such as {dressed!r} (line {302 - share}); {way}" in message
    assert "leave the column out with exc" in message
    assert way or "or write numbers plainly" in message
    assert "na=" not in str(caught.value)
    schema = source("a,b\n1,2\n").schema
    with pytest.raises(gd.DataError, match=r"column 'a': .* format that is not parsed; .*write it"):
        source(f'a,b\n1,2\n"{dressed}",2\n', schema=schema)


def test_what_means_a_missing_value_may_be_most_of_a_column():
    lines = [f"{i if i < 40 else '?'},1" for i in range(100)]
    with pytest.raises(gd.DataError, match=r"line 42, column 'a': '\?' is not a n.*na=\['\?'\]"):
        source("\n".join(["a,b", *lines]))


def test_texts_among_dates_may_mean_a_missing_value():
    text = "day,b\n2014-05-02,1\n2014-05-03,2\nunknown,3\n"
    with pytest.raises(gd.DataError, match=r"holds dates, and other texts such as 'unknown'.*na="):
        source(text)
    assert source(text, na=["unknown"], missing="mean").rows == 3


@pytest.mark.parametrize("block_size", BLOCKS)
def test_days_as_numbers_are_dates_also_where_the_first_is_in_a_dropped_row(block_size):
    text = "a,day\n,20131231\n1,20190817\n2,20190819\n"
    days = source(text, missing="drop", block_size=block_size)
    assert days.names == ["a", "day day of week", "day days"]
    assert whole(days)[0].tolist() == [[1, 5, 0], [2, 0, 2]]


@pytest.mark.parametrize("other", [20141302, 20140002, 20140532, 20140500, 18991231, 21010101])
def test_numbers_that_are_not_all_days_are_numbers(other):
    assert source(f"a,b\n20140502,1\n{other},2\n").names == ["a", "b"]


def test_days_as_numbers_are_taken_where_they_are_asked_for():
    assert source("day,b\n20140502,1\n20140503,2\n", features=["day"]).names == ["day"]


def test_a_name_that_a_category_makes_too_is_refused():
    with pytest.raises(gd.DataError, match="two columns of x would be called 'color=red'"):
        source("color,color=red\nred,1\nblue,2\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"missing": None}, "missing must be 'error', 'drop', 'category', 'mean'"),
        ({"missing": True}, "missing must be 'error', 'drop', 'category', 'mean'"),
        ({"target": 1}, "target must be the name of a column"),
        ({"separator": '"'}, "separator must be one character"),
        ({"na": "?"}, "na must be a list"),
        ({"columns": "ab"}, "columns must be a list"),
        ({"categories": "a"}, "categories is a dict"),
        ({"categories": {"a": []}}, "must be a list of levels"),
        ({"dtype": "int32"}, "dtype must be 'float32' or 'float64'"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        source("a,b\n1,2\n", **options)


@pytest.mark.slow
def test_long_rows_are_fetched_a_few_at_a_time():
    wide = ",".join([f"1.25{'0' * 45}"] * 500)
    names = ",".join(f"c{i}" for i in range(500))
    rows = source(f"{names}\n" + f"{wide}\n" * 300)
    assert 100 < rows.gather < 250  # 25 kB per row, 4 MiB in all
