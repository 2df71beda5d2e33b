"""One table in the notations that people use: all of them have the same rows, to the bit.

The oracle is the plain file: commas, UTF-8, and nothing that is not a row.
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
from minigd.data.sources.csv_text import Dialect, open_text

HEADER = ["größe", "Farbe, außen", "y"]
CELLS = [
    ["1.5", "blau", "1"],
    ["-2.25e3", 'rot "hell"', "0.1"],
    ["0.1", "grün\nund gelb", "3"],
    ["7", "#7", "2"],
    ["1e-300", "Ä§|;\t^", "0.30000000000000004"],
    ["0.30000000000000004", "blau", "-1"],
]


def text(separator=",", end="\n", cells=CELLS, header=HEADER, quoting=csv.QUOTE_MINIMAL):
    out = io.StringIO()
    lines = csv.writer(out, delimiter=separator, lineterminator=end, quoting=quoting)
    lines.writerows([header, *cells] if header else cells)
    return out.getvalue()


def rows(data, **options):
    """Return x, y and the names of a table, read in order."""
    data = data.encode() if isinstance(data, str) else data
    source = gd.CsvSource(io.BytesIO(data), "y", dtype="float64", **options)
    xs, ys = zip(*source.chunks(), strict=True)
    x, y = np.concatenate(xs), np.concatenate(ys)
    if source.random_access:
        some = np.array([3, 0, 5, 3])
        assert source.take(some)[0].tobytes() == x[some].tobytes()
    return x.tobytes(), y.tobytes(), source.names


PLAIN = rows(text())
COMMENTED = "# Kölner Liste\n" + text().replace("\n7,", '\n#,"\n  # 8;"\n7,', 1) + "#"
ALIGNED = text("\t", header=["größe", "Farbe", "y"]).replace("\t", "   \t ")

# What is in a file, and the options that read it.
NOTATIONS = {
    **{f"separator {s!r}": (text(s), {"separator": s}) for s in "\t;|^~:@§¦│· x"},
    **{
        f"encoding {one}": (text(quoting=csv.QUOTE_ALL).encode(one), {"encoding": one})
        for one in (
            *("utf-8", "utf-8-sig", "UTF8", "latin-1", "cp1252", "windows-1252", "cp1250"),
            *("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be", "utf-7", "gb18030"),
        )
    },
    "a BOM": (text().encode("utf-8-sig"), {}),
    "a BOM twice": (b"\xff\xfe" + text().encode("utf-16-le"), {"encoding": "utf-16-le"}),
    "a letter separates in cp1252": (
        text("§").encode("cp1252"), {"encoding": "cp1252", "separator": "§"},
    ),
    "tabs in UTF-16, as Excel writes": (
        text("\t", "\r\n").encode("utf-16"), {"encoding": "utf-16", "separator": "\t"},
    ),
    "sep=;": ("sep=;\n" + text(";"), {}),
    "sep=; with a BOM": (("sep=;\r\n" + text(";", "\r\n")).encode("utf-8-sig"), {}),
    "sep of a tab": ("SEP=\t\n" + text("\t"), {}),
    "sep in quotes": ('"sep=|"\n' + text("|"), {}),
    "sep of a letter": ("sep=§\n" + text("§"), {}),
    "sep in UTF-16": (("sep=;\n" + text(";")).encode("utf-16"), {"encoding": "utf-16"}),
    "sep that is given too": ("sep=;\n" + text(";"), {"separator": ";"}),
    "sep above other lines": ("sep=;\nby hand\n" + text(";"), {"skip_lines": 2}),
    "comments": (COMMENTED, {"comment": "#"}),
    "comments of two letters": (COMMENTED.replace("#", "//"), {"comment": "//"}),
    "comments in UTF-16": (COMMENTED.encode("utf-16"), {"encoding": "utf-16", "comment": "#"}),
    "comments with returns": (
        COMMENTED.replace("\n", "\r\n"), {"comment": "#"},
    ),
    "comments below skipped lines": ("a\nb\n" + COMMENTED, {"comment": "#", "skip_lines": 2}),
}  # fmt: skip


def expected(data, name):
    if name.startswith("comments of two"):
        return rows(text().replace("#", "//"))
    if name == "comments with returns":
        return rows(text().replace("\n", "\r\n"))
    if "\r\n" in name or name in ("tabs in UTF-16, as Excel writes", "sep=; with a BOM"):
        return rows(text(end="\r\n"))
    return PLAIN


@pytest.mark.each
@pytest.mark.parametrize("size", [1 << 21, 7])
@pytest.mark.parametrize("name", NOTATIONS)
def test_every_notation_has_the_same_rows(name, size):
    data, options = NOTATIONS[name]
    assert rows(data, **options, block_size=size) == expected(data, name)


def test_runs_of_blanks_may_have_comments():
    data = "  # by hand\n a  b\ty \n 1   2  3\n\t# more\n4 5   6\n"
    source = gd.CsvSource(io.BytesIO(data.encode()), "y", separator="blanks", comment="#")
    assert source.take([1, 0])[0].tolist() == [[4, 5], [1, 2]]
    assert source.places(np.array([1])) == ["line 5"]


def test_a_schema_is_one_whatever_the_notation():
    schema = gd.CsvSource(io.BytesIO(text().encode()), "y").schema
    data, options = NOTATIONS["tabs in UTF-16, as Excel writes"]
    source = gd.CsvSource(io.BytesIO(data), schema=schema, **options)
    assert source.names == PLAIN[2]


@given(
    st.lists(
        st.one_of(
            st.text('#"\n, a', max_size=8).map(lambda t: ("comment", t.replace("\n", " "))),
            st.lists(st.text('#"\n, a', max_size=6), min_size=2, max_size=2).map(
                lambda cells: ("row", cells)
            ),
        ),
        min_size=1,
        max_size=8,
    ),
    st.sampled_from([1, 5, 1 << 20]),
)
@examples(60)
def test_lines_that_begin_with_the_mark_are_left_out_and_no_others(lines, size):
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerow(["a", "b", "y"])
    cells = []
    for number, (kind, what) in enumerate(lines):
        if kind == "comment":
            out.write(f"#{what}\n")
        else:
            writer.writerow([*what, f"{number}"])
            cells.append([*what, number])
    if not cells:
        return
    source = gd.CsvSource(
        io.BytesIO(out.getvalue().encode()), comment="#", columns=None, block_size=size,
        features=["y"],
    )  # fmt: skip
    x = np.concatenate([x for x, _ in source.chunks()])
    assert x[:, 0].tolist() == [cell[-1] for cell in cells]
    assert source.take(np.arange(len(cells))[::-1])[0].tolist() == x[::-1].tolist()


# What can't be read ------------------------------------------------------------------------------

REFUSED = {
    "a byte": ("k,y\né,1\n".encode("latin-1"), {"encoding": "ascii"}, "line 2: 0xe9 is not ascii"),
    "no letter": (b"k,y\nx,1\n\x81,2\n", {"encoding": "cp1252"}, "line 3: 0x81 is not cp1252"),
    "no mark": (
        "k,y\nx,1\n".encode("utf-16-be"), {"encoding": "utf-16"}, "does not begin with the byte "
        "order mark of utf-16; name the order of its bytes with encoding='utf-16-be'",
    ),
    "half a pair": (
        b"k,y\nx,1\n\\ud800,2\n", {"encoding": "unicode_escape"}, "line 3: '\\ud800' is not a char",
    ),
    "a name of a host": (b"k,y\nx,1\n\xff,2\n", {"encoding": "idna"}, "line 1: 0xff is not idna"),
    "no place": (b"k,y\nx,1\n", {"encoding": "punycode"}, "line 1: it is not punycode: Invalid"),
    "half a letter": ("y\n1\n2\n".encode("utf-16")[:-1], {"encoding": "utf-16"}, "line 3: 0x0a is"),
    "another file": (
        text().encode("utf-16"), {"encoding": "cp1252"}, "is text in UTF-16, not in UTF-8; "
        "read it with encoding='utf-16'",
    ),
    "a stand-in": ("a§y\n\x1f§1\n", {"separator": "§"}, "line 2: 0x1f can't be read where '§'"),
    "two separators": (
        "sep=;\na;y\n1;2\n", {"separator": "|"}, "line 1: the file says that ';' separates columns",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_can_not_be_read_is_named_with_its_line(name):
    data, options, message = REFUSED[name]
    with pytest.raises(gd.DataError, match=re.escape(message)):
        rows(data, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"encoding": "no such"}, {"encoding": "hex"}, {"encoding": ""}, {"encoding": "rot13"},
        {"separator": ""}, {"separator": '"'}, {"separator": "\n"}, {"separator": "::"},
        {"separator": "\r"}, {"comment": '"'}, {"comment": "#\n"}, {"comment": ","},
        {"comment": ";;", "separator": ";"}, {"comment": " "},
    ],
)  # fmt: skip
def test_arguments_that_read_no_file_are_refused(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} "):
        gd.CsvSource(io.BytesIO(b"a,y\n1,2\n"), "y", **options)


# Remedies ----------------------------------------------------------------------------------------

MENDED = {
    "UTF-16": (text().encode("utf-16"), {"encoding": "utf-16"}),
    "UTF-16 without a mark": (text().encode("utf-16-be"), {"encoding": "utf-16-be"}),
    "UTF-32": (text().encode("utf-32"), {"encoding": "utf-32"}),
    "latin-1": (text(cells=[["1", "blau", "2"], ["2", "Köln", "3"]]).encode("latin-1"),
                {"encoding": "cp1252"}),
    "another": (text().encode("latin-1"), {"encoding": "cp1252"}),
    "comments": ("a,b,y\n1,2,3\n# by hand\n4,5,6\n", {"comment": "#"}),
    "comments with commas": ("a,b,y\n1,2,3\n// by, hand\n4,5,6\n", {"comment": "//"}),
    "sep": ("sep=;\na;y\n1;2\n", {"separator": ";"}, {"separator": ","}),
}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in MENDED if name != "sep"])
def test_the_remedy_reads_the_file(name):
    data, options = MENDED[name]
    data = data.encode() if isinstance(data, str) else data
    with pytest.raises(gd.DataError) as caught:
        gd.CsvSource(io.BytesIO(data), "y")
    assert caught.value.remedies[0].options == options
    source = gd.CsvSource(io.BytesIO(data), "y", **options)
    assert source.rows == (6 if data.count(b"\n") > 5 else 2)


def test_a_file_in_utf_8_that_is_read_otherwise_is_warned_of():
    with pytest.warns(UserWarning, match="seems to be in UTF-8, but is read as cp1252") as caught:
        rows(text(), encoding="cp1252")
    assert caught[0].message.remedies[0].options == {"encoding": "utf-8"}
    assert str(caught[0].filename) == __file__


def test_the_middle_of_a_translated_file_is_out_of_reach():
    source = gd.CsvSource(io.BytesIO(text().encode("utf-16")), "y", encoding="utf-16")
    assert not source.random_access
    with pytest.raises(gd.DataError, match=r"is in utf-16, so rows .* source.cache\(folder\)"):
        source.take([1])


def test_what_a_file_is_read_as_is_in_its_fingerprint():
    prints = [
        gd.CsvSource(io.BytesIO(data), "y", **options).fingerprint()
        for data, options in (
            (b"k,y\nx,1\n#,2\n", {}),
            (b"k,y\nx,1\n#,2\n", {"comment": "#"}),
            (b"k,y\nx,1\n#,2\n", {"encoding": "cp1252"}),
        )
    ]
    assert all(a != b for i, a in enumerate(prints) for b in prints[:i])


class Counting(io.BytesIO):
    """A file that records the most bytes that are read at once."""

    most = 0

    def read(self, size=-1):
        data = super().read(size)
        self.most = max(self.most, len(data))
        return data


def test_a_file_is_translated_some_bytes_at_a_time():
    file = Counting(("a,ö\n" * 200_000).encode("utf-16"))
    with open_text(file, Dialect.make(",", "utf-16", ""), "rows") as text_of:
        read = [len(text_of.read(1000)) for _ in range(900)]
        text_of.seek(500_001)
        assert text_of.read(4) == b",\xc3\xb6\n"
    assert set(read) == {1000}
    assert file.most <= 1 << 16


def written(value, decimal, group, digits):
    """Return a number in the notation of a country."""
    return f"{value:,.{digits}f}".translate({ord(","): group, ord("."): decimal})


# Marks of decimals and of groups, and what the columns a and y look like.
COUNTRIES = {
    "Germany": (",", ".", "{}", "{}"),
    "Germany, in euros": (",", ".", "{}", "{} €"),
    "France": (",", "\u202f", "{}", "{} €"),
    "Poland": (",", "\u00a0", "{}", "{}"),
    "Sweden": (",", " ", "{}", "{}"),
    "Switzerland": (".", "\u2019", "{}", "{}"),
    "the States": (".", ",", "{}", "${}"),
}


@pytest.mark.each
@pytest.mark.parametrize("gap", ["", "?"])
@pytest.mark.parametrize("country", COUNTRIES)
def test_following_the_advice_reads_the_numbers_of_a_country(country, gap):
    decimal, group, *looks = COUNTRIES[country]
    ways, numbers = [(decimal, group, 2), (decimal, group, 0)], [[1.25, 502963], [0.5, 982]]
    numbers = [*numbers, *([0.25 * i, 1000 * i + i] for i in range(3, 23))]
    lines = [
        ";".join(look.format(written(v, *w)) for v, w, look in zip(row, ways, looks, strict=True))
        for row in numbers
    ]
    lines[20:20] = [f"{gap};7"] if gap else []
    data, options = "\n".join(["a;y", *lines]).encode(), {"separator": ";", "missing": "drop"}
    for _ in range(3):
        try:
            source = gd.CsvSource(io.BytesIO(data), "y", dtype="float64", **options)
            break
        except gd.DataError as error:
            options |= error.remedies[0].options
    x, y = source.take(np.arange(source.rows))
    assert np.column_stack([x, y]).tolist() == numbers


@pytest.mark.parametrize("marks", [(",", ""), (",", "."), (",", " ")])
@pytest.mark.parametrize("cell", ["502.9631", "12.34", "1.2e3", "-.5", "1.234.5"])
def test_a_point_is_no_decimal_mark_where_that_is_a_comma(cell, marks):
    options = {"separator": ";", "decimal": marks[0], "thousands": marks[1]}
    data = f"a;y\n1,5;{cell}\n2,5;7\n3,5;8\n".encode()
    with pytest.raises(gd.DataError, match="'y' holds numbers in a format that is not parsed"):
        gd.CsvSource(io.BytesIO(data), "y", **options)
    named = gd.CsvSource(io.BytesIO(data), "y", na=[cell], missing="drop", **options)
    assert (next(named.chunks())[1].tolist(), named.dropped) == ([7, 8], 1)
