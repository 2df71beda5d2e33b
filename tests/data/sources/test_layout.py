"""What a file shows by itself: columns without a name, short headers, and where rows begin.

A column that only numbers or names the rows is never used as a feature without a warning.
"""

import io

import numpy as np
import pandas as pd
import pytest
from budgets import examples
from hypothesis import given
from hypothesis import strategies as st

import minigd as gd
from minigd.data.sources.csv_layout import as_columns, find_layout

FRAME = pd.DataFrame({"a": [1.5, 2.5, 3.5, 4.5], "b": [1, 0, 1, 0], "y": [2.0, 4.5, 6.0, 8.0]})
X = FRAME[["a", "b"]].to_numpy().tolist()


def source(text, target="y", **options):
    return gd.CsvSource(io.BytesIO(text.encode()), target, **options)


def whole(rows):
    xs, ys = zip(*rows.chunks(), strict=True)
    return np.concatenate(xs).tolist(), np.concatenate(ys).tolist()


# Columns without a name ---------------------------------------------------------------------------

INDEXED = {
    "counted": (FRAME.to_csv(), ["Unnamed: 0"]),
    "counted from 1": (FRAME.set_axis(range(1, 5)).to_csv(), ["Unnamed: 0"]),
    "of others": (FRAME.set_axis([7, 3, 9, 20]).to_csv(), ["Unnamed: 0"]),
    "of texts": (FRAME.set_axis(list("pqrs")).to_csv(), ["Unnamed: 0"]),
    "two levels": (
        FRAME.set_axis(pd.MultiIndex.from_product([[1, 2], [3, 4]])).to_csv(),
        ["Unnamed: 0", "Unnamed: 1"],
    ),
    "read and written": (
        pd.read_csv(io.StringIO(FRAME.to_csv())).to_csv(index=False), ["Unnamed: 0"],
    ),
    "twice": (
        pd.read_csv(io.StringIO(FRAME.to_csv())).to_csv(), ["Unnamed: 0.1", "Unnamed: 0"],
    ),
    "in the middle": ("a,,b,y\n1.5,7,1,2\n2.5,7,0,4.5\n3.5,8,1,6\n4.5,8,0,8\n", ["Unnamed: 1"]),
    "quoted": ('"","a","b","y"\n"1",1.5,1,2\n"2",2.5,0,4.5\n"3",3.5,1,6\n"4",4.5,0,8\n',
               ["Unnamed: 0"]),
}  # fmt: skip


@pytest.mark.parametrize("name", INDEXED)
def test_a_column_without_a_name_is_warned_of_by_name(name):
    text, unnamed = INDEXED[name]
    with pytest.warns(UserWarning, match="no name, as when pandas writes the index") as caught:
        rows = source(text)
    assert len(caught) == 1
    assert str(caught[0].filename) == __file__
    assert f"exclude={unnamed}" in str(caught[0].message)
    assert all(repr(one) in str(caught[0].message) for one in unnamed)
    assert {name.partition("=")[0] for name in rows.names} == {"a", "b", *unnamed}
    [remedy] = caught[0].message.remedies
    assert whole(source(text, **remedy.options)) == (X, FRAME["y"].tolist())
    # A column that was requested by name, or by a schema, is used without a warning.
    source(text, features=["a", *unnamed])
    assert source(text, None, schema=rows.schema).names == rows.names
    assert source(text, unnamed[0], exclude=["b", *unnamed[1:]]).names == ["a", "y"]


@pytest.mark.parametrize("name", [name for name in INDEXED if name != "of texts"])
def test_a_column_without_a_name_has_the_name_that_pandas_gives(name):
    text, _ = INDEXED[name]
    header = text.partition("\n")[0].replace('"', "").split(",")
    assert as_columns(header) == list(pd.read_csv(io.StringIO(text)).columns)


@given(st.lists(st.sampled_from(["", "a", "a.1", "Unnamed: 0", "Unnamed: 1", "Unnamed: 1.1"])))
def test_names_made_up_are_new_ones(fields):
    columns = as_columns(fields)
    made = [column for column, field in zip(columns, fields, strict=True) if not field]
    assert [c for c, field in zip(columns, fields, strict=True) if field] == [*filter(None, fields)]
    assert len(set(made)) == len(made)
    assert not set(made) & set(fields)
    assert len(set(as_columns(fields, twice=True))) == len(fields)


# Headers with one name fewer ----------------------------------------------------------------------


def by_r(sep=",", names=None, quote='"'):
    """Return the frame as R's write.table writes it: without a name above those of the rows."""
    names = [str(i + 1) for i in range(4)] if names is None else names
    lines = [sep.join(f"{quote}{c}{quote}" for c in FRAME.columns)]
    for name, row in zip(names, FRAME.to_numpy().tolist(), strict=True):
        lines.append(sep.join([f"{quote}{name}{quote}", *map(str, row)]))
    return "\n".join(lines) + "\n"


SHORT = {
    "R": (by_r(), {}, "Unnamed: 0"),
    "R, blanks": (by_r(" "), {"separator": " "}, "Unnamed: 0"),
    "R, tabs": (by_r("\t", quote=""), {"separator": "\t"}, "Unnamed: 0"),
    "R, runs of blanks": (by_r("   "), {"separator": "blanks"}, "Unnamed: 0"),
    "R, names": (by_r(names=["Mazda RX4", "Fiat, 128", "Merc", "Duster"]), {}, "Unnamed: 0"),
    "R, under a title": ("cars\n" + by_r(), {"skip_lines": 1}, "Unnamed: 0"),
    "at the end": ("a,b,y\n1.5,1,2,\n2.5,0,4.5,\n3.5,1,6,\n4.5,0,8,\n", {}, "Unnamed: 3"),
    "at the end, quoted": ('a;b;y\n1.5;1;2;""\n2.5;0;4.5; \n3.5;1;6;\r\n4.5;0;8;\n',
                           {"separator": ";"}, "Unnamed: 3"),
}  # fmt: skip


@pytest.mark.few
@pytest.mark.parametrize("block_size", [1, 1 << 20])
@pytest.mark.parametrize("name", SHORT)
def test_a_header_with_one_name_less_is_explained(name, block_size):
    text, options, unnamed = SHORT[name]
    options = {**options, "block_size": block_size}
    said = "as when R writes row names" if name[0] == "R" else "of which the last is empty"
    line = 1 + options.get("skip_lines", 0)
    message = (
        f"line {line}: the header has 3 names, but the rows have 4 fields, {said}: that column is "
        rf"'{unnamed}'; leave it out with exclude=\['{unnamed}'\]"
    )
    with pytest.raises(gd.DataError, match=message) as caught:
        source(text, **options)
    mended = source(text, **options, **caught.value.remedies[0].options)
    assert whole(mended) == (X, FRAME["y"].tolist())
    assert mended.take(np.array([2, 0]))[0].tolist() == [X[2], X[0]]
    # Another such file becomes the same columns, by their names.
    again = source(text, None, schema=mended.schema, **options)
    assert whole(again) == (X, FRAME["y"].tolist())


def test_names_of_rows_are_learned_from_where_they_are_asked_for():
    rows = source(by_r(), features=["Unnamed: 0", "a"])
    assert whole(rows)[0] == [[i + 1, a] for i, (a, _) in enumerate(X)]


def test_one_odd_row_does_not_make_a_header_short():
    for text in ("a,b,y\n1,2,3,4\n5,6\n7,8,9\n", "a,b,y\n1,2,3\n4,5,6\n7,8,9,\n"):
        with pytest.raises(gd.DataError, match=r"the table has 3 columns; fix the line"):
            source(text)


def test_a_short_header_longer_than_a_block():
    wide = [f"gene{i:0>70}" for i in range(1000)]
    lines = [f"r{k},{','.join(['1', '2.5'] * 500)}" for k in range(3)]
    text = "\n".join([",".join(wide), *lines])
    assert len(text.partition("\n")[0]) > 1 << 16
    with pytest.raises(gd.DataError, match=r"the header has 1000 names, but the rows have 1001"):
        source(text, wide[0])
    assert source(text, wide[0], exclude=["Unnamed: 0"]).names == wide[1:]


def test_several_files_with_short_headers():
    files = [io.BytesIO(by_r().encode()), io.BytesIO(by_r().encode())]
    assert gd.CsvSource(files, "y", exclude=["Unnamed: 0"]).rows == 8
    with pytest.raises(gd.DataError, match="the columns differ"):
        gd.CsvSource([files[0], io.BytesIO(FRAME.to_csv(index=False).encode())], "y")


# Where a table begins, and what separates ---------------------------------------------------------


@examples(25)
@given(
    above=st.lists(
        st.sampled_from(["# logger 7", "# a, b", "", "Prices of 2024", "by hand; of course", "'"]),
        max_size=6,
    ),
    separator=st.sampled_from([",", ";", "\t", "|", "blanks"]),
    names=st.booleans(),
    ends=st.sampled_from(["\n", "\r\n"]),
)
def test_lines_above_a_header_are_counted(above, separator, names, ends):
    mark = "  " if separator == "blanks" else separator
    lines = [*above, mark.join("uvwy"), *(mark.join(f"{i}.5" for i in range(k, k + 4))
                                          for k in range(12))]  # fmt: skip
    data = [line.encode() for line in ends.join(lines).split("\n")]
    layout = find_layout(data, ",", b",", named={"y"} if names else ())
    assert (layout.separator, layout.skip_lines) == (separator, len(above))
    assert (layout.fields, layout.width, layout.numbers) == (list("uvwy"), 4, 1.0)


@pytest.mark.parametrize(
    "text",
    ["", "\n\n", "a\n1\n2\n", "just words here\n", "a,b,c\n1,2\n3\n4,5,6,7\n", "\xff\n", '"a\nb\n'],
)
def test_what_is_no_table_has_no_layout(text):
    lines = text.encode("latin-1").split(b"\n")
    assert find_layout(lines, ",", b",") is None


def test_a_decimal_comma_separates_nothing():
    lines = [b"a;b;y", *(b"%d,5;%d,25;3" % (i, i) for i in range(9))]
    assert find_layout(lines, ",", b",").separator == ";"
    assert find_layout(lines[1:], ",", b",", columns=3).separator == ";"


def test_a_header_of_numbers_that_is_known_by_a_name_may_have_one_less_than_the_rows():
    lines = [b"exported by hand", b"2019;2020", b"a;1;2", b"b;3;4", b"c;5;6"]
    found = find_layout(lines, ",", b",", named={"2020"})
    assert (found.separator, found.skip_lines, found.fields) == (";", 1, ["2019", "2020"])


@pytest.mark.parametrize("named", [(), {"b"}])
def test_one_row_in_ten_may_have_other_fields(named):
    for odd, known in ((1, True), (4, False)):
        lines = [b"a;b", *[b"1;2"] * (20 - odd), *[b"odd"] * odd]
        assert (find_layout(lines, ",", b",", named=named) is not None) == known


def test_a_title_of_as_many_words_as_there_are_columns_is_none_of_the_rows():
    found = find_layout([b"Prices in thousands", b"a b c", b"1 2 3", b"4 5 6"], ",", b",")
    assert (found.separator, found.skip_lines) == ("blanks", 1)


@pytest.mark.parametrize(("separator", "width"), [(";", 2), (",", 3)])
def test_of_two_separators_alike_the_one_that_was_said_is_kept(separator, width):
    found = find_layout([b"p,q,r;s"] * 4, separator, separator.encode())
    assert (found.separator, found.width) == (separator, width)


@pytest.mark.parametrize("line", ["\tunknown", "7\t", "\t7.5"])
def test_tabs_beside_an_empty_cell_are_no_run_of_blanks(line):
    lines = ["a\ty", *(f"{i}\t{i}.5" for i in range(60)), line]
    layout = find_layout([line.encode() for line in lines], ",", b",")
    assert (layout.separator, layout.width) == ("\t", 2)
