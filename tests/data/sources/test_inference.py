"""What a first pass finds in columns where guesses are possible: each test is a past mistake."""

import datetime
import decimal
import io
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from budgets import examples
from hypothesis import example, given
from hypothesis import strategies as st
from pyarrow import parquet

import minigd as gd
from minigd.data.tables import inference
from minigd.data.tables.column_problems import MOST_LEVELS
from minigd.data.tables.grammar import Notation
from minigd.data.tables.remedy import TableWarning

properties = examples(15)


def csv(text, **options):
    return gd.CsvSource(io.BytesIO(text.encode()), **{"dtype": "float64", **options})


def lines(header, rows):
    return "\n".join([header, *rows]) + "\n"


def whole(source):
    xs, ys = zip(*source.chunks(), strict=True)
    return np.concatenate(xs), None if ys[0] is None else np.concatenate(ys)


# What a number is ----------------------------------------------------------------------------

ODD = ["1_000", "１２", "٣", "1 000", "1\u00a0000", "x", "?", "-", "True", "−5", "1,5", "Na", "5 L"]


@pytest.mark.each
@pytest.mark.parametrize("text", ODD)
@pytest.mark.parametrize("place", [3, 250])
@pytest.mark.parametrize("target", ["y", "a"])
@pytest.mark.parametrize("missing", ["error", "drop", "category", 0.0])
def test_a_text_among_numbers_is_refused_with_its_place(text, place, target, missing):
    rows = [f"{i / 8},{i / 4}" for i in range(300)]
    rows[place] = f'"{text}",{place / 4}'
    with pytest.raises(gd.DataError) as caught:
        csv(lines("a,y", rows), target=target, missing=missing)
    message = str(caught.value)
    assert "column 'a'" in message
    assert repr(text) in message
    assert f"line {place + 2}" in message
    assert "free text" not in message


@pytest.mark.few
@pytest.mark.parametrize("text", ["NAN", "Nan", "nan", "-NaN", " nAn ", "NA", "null", "N/A"])
@pytest.mark.parametrize("place", [3, 250])
def test_a_missing_number_is_missing_however_it_is_written(text, place):
    rows = [f"{i / 8},{i / 4}" for i in range(300)]
    rows[place] = f"{text},{place / 4}"
    data = lines("a,y", rows)
    source = csv(data, target="y", missing="drop")
    assert (source.names, source.rows, source.dropped) == (["a"], 299, 1)
    assert csv(data, target="y", missing=-1.0).take([place])[0].tolist() == [[-1]]
    source = csv(data, target="a", missing="drop")
    assert (source.names, source.classes, source.dropped) == (["y"], None, 1)
    with pytest.raises(gd.DataError, match=f"line {place + 2}, column 'a': the value is missing"):
        csv(data, target="y")


@pytest.mark.parametrize("blank", ["\u00a0", "\u202f", "\u2007", " ", "\t"])
def test_a_blank_at_the_end_of_a_number_does_not_matter(blank):
    rows = [f'"{i / 8}{blank}","{blank}{i / 4}"' for i in range(50)]
    x, y = whole(csv(lines("a,y", rows), target="y"))
    assert x[:, 0].tolist() == [i / 8 for i in range(50)]
    assert y.tolist() == [i / 4 for i in range(50)]


def test_numbers_with_one_odd_cell_are_never_free_text():
    rows = [f"{i / 1000:.3f},{i}" for i in range(500)]
    rows[7] = "n.d.,7"
    with pytest.raises(gd.DataError, match=r"line 9, column 'a': 'n.d.' is not a number, and most"):
        csv(lines("a,y", rows), target="y")
    strings = pd.DataFrame({"a": [f"{i / 1000:.3f}" for i in range(500)], "y": range(500)})
    with pytest.raises(gd.DataError, match=r"'a' holds numbers written as text, such as '0.000'"):
        gd.IterableSource([strings], target="y")
    with pytest.raises(gd.DataError, match=r"'a' holds numbers written as text, such as '0.000'"):
        gd.IterableSource([strings], target="a", features=["y"])


@pytest.mark.parametrize(
    "digits", ["０１２３４５６７８９", "٠١٢٣٤٥٦٧٨٩", "۰۱۲۳۴۵۶۷۸۹", "०१२३४५६७८९"]
)
@pytest.mark.parametrize("n", [3, 150])
@pytest.mark.parametrize("target", ["y", "a"])
def test_columns_in_digits_of_another_script_are_no_categories(digits, n, target):
    script = str.maketrans("0123456789", digits)
    rows = [f"{str(10 + i).translate(script)},{i / 2}" for i in range(n)]
    with pytest.raises(gd.DataError, match="column 'a' holds numbers in a format") as caught:
        csv(lines("a,y", rows), target=target)
    assert f"{'10'.translate(script)!r} (line 2)" in str(caught.value)


@pytest.mark.parametrize("block_size", [1, 20, 1 << 20])
def test_a_mark_of_the_order_of_bytes_among_the_rows_is_part_of_its_cell(block_size):
    rows = [f"{i},{i / 2}" for i in range(9)]
    rows[6] = "\ufeff6,3"
    with pytest.raises(gd.DataError, match=r"line 8, column 'a': '\\ufeff6' is not a number, and"):
        csv(lines("a,y", rows), target="y", block_size=block_size)
    rows[6] = "\ufeffa,y"
    with pytest.raises(gd.DataError, match="line 8: the header is repeated"):
        csv(lines("a,y", rows), target="y", block_size=block_size)


def test_whole_codes_that_are_typed_as_text_are_categories():
    frame = pd.DataFrame({"zip": ["01234", "1234", "99999"], "y": [1.0, 2.0, 3.5]})
    assert gd.IterableSource([frame], target="y").names == ["zip=01234", "zip=1234", "zip=99999"]


# Codes, and all columns at once -------------------------------------------------------------


def codes(n=120):
    return [f"{1000 + i}" if i % 3 else f"A/5 {i}" for i in range(n)]


def test_codes_are_to_be_left_out_and_not_taken_for_missing_values():
    rows = [f"{code},{i % 2}" for i, code in enumerate(codes())]
    with pytest.raises(gd.DataError) as caught:
        csv(lines("ticket,y", rows), target="y")
    message = str(caught.value)
    assert "column 'ticket' holds numbers and 40 texts, such as 'A/5 0' (line 2)" in message
    assert message.index("exclude=['ticket']") < message.index("categories=")
    assert "na=" not in message


@pytest.mark.parametrize("odd", [["?"], ["?", "-"], ["?", "-", "x"]])
def test_few_odd_texts_are_all_in_one_remedy_that_works(odd):
    rows = [f"{odd[i % len(odd)] if i < 12 else i},{i % 2}" for i in range(100)]
    data = lines("a,y", rows)
    with pytest.raises(gd.DataError) as caught:
        csv(data, target="y")
    (na,) = (r.options["na"] for r in caught.value.remedies if "na" in r.options)
    assert sorted(na) == sorted(odd)
    assert csv(data, target="y", na=na, missing="drop").rows == 88


def test_all_columns_that_must_be_left_out_are_in_one_message():
    n = 150
    table = pd.DataFrame(
        {
            "a": np.arange(n) / 8,
            "when": pd.date_range("2020-01-01", periods=n).astype(str),
            "day": [20200101 + i % 28 for i in range(n)],
            "name": [f"name {i}" for i in range(n)],
            "blank": [None] * n,
            "ticket": [*codes(n)],
            "odd": ["?" if i == 5 else str(i) for i in range(n)],
            "y": np.arange(n) % 2,
        }
    )
    data = table.to_csv(index=False)
    with pytest.raises(gd.DataError) as caught:
        csv(data, target="y", missing="drop")
    first = caught.value.remedies[0].options
    assert first == {"exclude": ["name", "blank", "ticket"], "na": ["?"]}
    source = csv(data, target="y", missing="drop", **first)
    assert (source.names[0], source.names[-1], source.rows) == ("a", "odd", n - 1)
    assert source.names[1:5] == ["when month", "when day of week", "when days", "day day of week"]
    with pytest.raises(gd.DataError) as caught:
        gd.IterableSource([table.assign(lists=[[1]] * n)], target="y", missing="drop")
    assert caught.value.remedies[0].options["exclude"] == [
        *("name", "blank", "ticket", "odd", "lists")
    ]


def test_a_few_codes_among_numbers_are_to_be_left_out_first():
    rows = [f"{'PC 17599' if i == 5 else 'A/5 21' if i == 8 else 100 + i},{i}" for i in range(30)]
    with pytest.raises(gd.DataError) as caught:
        csv(lines("ticket,y", rows), target="y")
    options = [list(remedy.options) for remedy in caught.value.remedies]
    assert options == [["exclude"], ["na"], ["categories"], []]


@pytest.mark.parametrize("missing", ["error", "drop", "category", 0.0])
def test_a_column_without_any_value_is_named(missing):
    data = lines("a,empty,y", [f"{i},,{i / 2}" for i in range(30)])
    with pytest.raises(gd.DataError, match=r"column 'empty' has no value in any row.*'empty'\]"):
        csv(data, target="y", missing=missing)
    assert csv(data, target="y", missing=missing, exclude=["empty"]).rows == 30
    frame = pd.DataFrame({"a": [1.0, 2], "empty": [None, None], "y": [0.5, 1]})
    with pytest.raises(gd.DataError, match="column 'empty' has no value in any row"):
        gd.IterableSource([frame], target="y", missing=missing)
    with pytest.raises(gd.DataError, match=r"column 'empty' has no value .* choose another target"):
        csv(data, target="empty", missing="drop")


@pytest.mark.parametrize("block_size", [1, 20, 1 << 20])
def test_a_column_that_begins_with_gaps_is_not_blank(block_size):
    rows = [f"{i},,{'' if i < 20 else i},{i / 2}" for i in range(30)]
    with pytest.raises(gd.DataError, match=r"line 2, column 'b': the value is missing"):
        csv(lines("a,empty,b,y", rows), target="y", block_size=block_size)
    words = [f"{'NA' if i < 20 else 'ZA'},{i}" for i in range(30)]
    with pytest.raises(gd.DataError, match=r"line 2, column 'c': 'NA' means a missing value"):
        csv(lines("c,y", words), target="y", block_size=block_size)


# Which rows count ----------------------------------------------------------------------------


@pytest.mark.few
@pytest.mark.parametrize("text", ["unknown", "x", "?"])
@pytest.mark.parametrize("missing", ["drop", "category"])
@pytest.mark.parametrize("place", [0, 40])
def test_a_row_that_is_dropped_decides_nothing(text, missing, place):
    rows = [f"{i / 8},{i / 4}" for i in range(50)]
    rows[place] = f",{text}"
    data = lines("a,y", rows)
    with pytest.raises(gd.DataError, match=rf"line {place + 2}, column 'y'") as caught:
        csv(data, target="y", missing=missing)
    assert repr(text) in str(caught.value)
    source = csv(data, target="y", missing=missing, na=[text])
    assert (source.rows, source.dropped, source.classes) == (49, 1, None)


def test_a_level_of_dropped_rows_alone_is_no_level():
    data = lines("a,color,y", ["1,red,1", "2,blue,2", ",green,3"])
    assert csv(data, target="y", missing="drop").names == ["a", "color=blue", "color=red"]
    frame = pd.read_csv(io.StringIO(data))
    source = gd.IterableSource([frame], target="y", missing="drop")
    assert source.names == ["a", "color=blue", "color=red"]


def test_columns_of_text_with_gaps_are_no_numbers_where_each_row_has_one_of_them():
    data = lines("a,b,y", ["p,,1", ",q,2", "r,,3", ",s,4"])
    source = csv(data, target="y", missing="category")
    assert source.names == ["a=missing", "a=p", "a=r", "b=missing", "b=q", "b=s"]
    assert (source.rows, source.dropped) == (4, 0)


# Missing, or a value -------------------------------------------------------------------------

COUNTRY = lines("country,y", ["NA,1", "ZA,2", "US,3", "NA,4", ",5"])


def test_a_level_that_is_named_is_never_missing():
    source = csv(COUNTRY, target="y", categories={"country": ["NA", "ZA", "US"]}, missing=0.0)
    assert whole(source)[0].tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0], [0, 0, 0]]
    other = csv(COUNTRY, schema=source.schema)
    np.testing.assert_array_equal(whole(other)[0], whole(source)[0])
    assert csv(COUNTRY, target="y", schema=None, keep_default_na=False, missing="drop").names == [
        *("country=NA", "country=US", "country=ZA")
    ]


def test_a_class_that_is_named_is_never_missing():
    data = lines("a,rest", [f"{i},{'None' if i % 2 else 'Apnea'}" for i in range(20)])
    source = csv(data, target="rest", classes=["None", "Apnea"])
    assert whole(source)[1].tolist() == [1, 0] * 10
    assert csv(data, target="rest", keep_default_na=False).classes == ["Apnea", "None"]


@pytest.mark.parametrize("word", ["NA", "None", "null", "N/A", "<NA>"])
def test_rows_that_leave_for_a_usual_word_are_reported_with_the_option(word):
    data = lines("a,rest", [f"{i},{word if i % 2 else 'Apnea'}" for i in range(20)])
    pattern = rf"10 rows left out, because '{word}' in column 'rest' .*keep_default_na=False"
    with pytest.warns(TableWarning, match=pattern):
        source = csv(data, target="rest", missing="drop")
    assert source.rows == 10
    assert source.missing_words == {"rest": {word: 10}}
    with pytest.raises(gd.DataError, match=rf"'{word}' means a missing value; if it is a value, k"):
        csv(data, target="rest")
    for quiet in ({"na": [word]}, {"keep_default_na": False}):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            csv(data, target="rest", missing="drop", **quiet)


def test_a_word_of_frames_is_a_value():
    frame = pd.DataFrame({"country": ["NA", "ZA", None], "y": [1.0, 2.5, 3]})
    source = gd.IterableSource([frame], target="y", missing="drop")
    assert source.names == ["country=NA", "country=ZA"]


def test_tables_that_differ_in_the_words_have_other_fingerprints():
    plain = csv("a,y\n1,2\n").fingerprint()
    assert plain != csv("a,y\n1,2\n", keep_default_na=False).fingerprint()
    assert "keep_default_na" not in plain  # caches and checkpoints of older versions stay valid


# Whole numbers keep their digits ------------------------------------------------------------

BIG = [998877665544332211, 1234567890123456789, 1234567890123456790, 2**53 + 1]


def sources_of(ids, **options):
    """Return the same rows from a CSV, a Parquet file and frames, some with nullable dtypes."""
    x = np.arange(len(ids)) / 8
    yield csv(lines("x,id", [f"{a},{b}" for a, b in zip(x, ids, strict=True)]), **options)
    yield csv(
        lines("x,id", [f"{a},{b}" for a, b in zip(x, ids, strict=True)]), block_size=32, **options
    )
    file = io.BytesIO()
    kind = pa.uint64() if max(ids) >= 2**63 else pa.int64()
    parquet.write_table(pa.table({"x": x, "id": pa.array(ids, kind)}), file)
    yield gd.ParquetSource(file, **options)
    dtype = "UInt64" if max(ids) >= 2**63 else "Int64"
    yield gd.IterableSource([{"x": x, "id": np.array(ids, dtype.lower())}], **options)
    yield gd.IterableSource([pd.DataFrame({"x": x, "id": pd.array(ids, dtype)})], **options)
    yield gd.IterableSource([{"x": x, "id": np.array(ids, dtype=object)}], **options)


@properties
@example([0, 2**64 - 1])
@example([-(2**63), 2**63 - 1])
@given(
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=2, max_size=8)
    | st.lists(st.integers(0, 2**64 - 1), min_size=2, max_size=8)
)
def test_whole_targets_keep_all_their_digits(ids):
    for source in sources_of(ids, target="id"):
        y = whole(source)[1]
        assert y.dtype.kind in "iu"
        assert [int(value) for value in y] == ids
        if source.random_access:
            assert [int(value) for value in source.take(np.arange(len(ids)))[1]] == ids


def test_classes_of_big_whole_numbers_are_those_of_the_file():
    ids = BIG * 5
    for source in sources_of(ids, target="id", classes=BIG):
        assert source.classes == [str(value) for value in BIG]
        assert whole(source)[1].tolist() == [0, 1, 2, 3] * 5


def test_a_gap_takes_no_digit_of_the_others():
    rows = [f"{i},{value}" for i, value in enumerate([*BIG, ""])]
    assert whole(csv(lines("x,id", rows), target="id", missing="drop"))[1].tolist() == BIG
    file = io.BytesIO()
    parquet.write_table(pa.table({"x": [1, 2, 3, 4, 5], "id": [*BIG, None]}), file)
    assert whole(gd.ParquetSource(file, target="id", missing="drop"))[1].tolist() == BIG


@pytest.mark.parametrize("place", [10, 20])
@pytest.mark.parametrize("late", ["0.5", "1e300", str(2**64), str(-(2**63) - 1)])
def test_what_is_beyond_whole_numbers_makes_a_quantity(late, place):
    values = [str(2**60 + i * 2**40) for i in range(20)]
    values.insert(place, late)
    rows = [f"{i},{value}" for i, value in enumerate(values)]
    _x, y = whole(csv(lines("x,id", rows), target="id", block_size=64))
    assert y.dtype == np.float64
    assert y.tolist() == [float(value) for value in values]


def test_digits_are_looked_for_behind_a_fraction_too():
    # float64 holds the first number exactly, rounds the second, and reads the third as the first.
    values = [2**60, f"{2**60 + 256}.5", 2**60 + 100]
    rows = [f"{i},{value}" for i, value in enumerate(values)]
    for block_size in (16, 1 << 20):
        with pytest.raises(gd.DataError, match=r"'id' goes from .* float64"):
            csv(lines("x,id", rows), target="id", dtype="float64", block_size=block_size)


@pytest.mark.parametrize("ids", [[2**64 + 1, 2**64 + 2], [10**30 + 1, 10**30 + 2], [-1, -(2**64)]])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_target_beyond_64_bits_that_the_dtype_makes_one_is_refused(ids, dtype):
    rows = [f"{i},{value}" for i, value in enumerate(ids * 5)]
    pieces = [{"x": range(10), "id": np.array(ids * 5, dtype=object)}]
    if ids[0] < 0:  # which are far apart
        assert whole(csv(lines("x,id", rows), target="id", dtype=dtype))[1][1] == -(2.0**64)
        return
    with pytest.raises(gd.DataError, match=f"'id' goes from {ids[0]} to {ids[1]}, .* {dtype}"):
        csv(lines("x,id", rows), target="id", dtype=dtype)
    with pytest.raises(gd.DataError, match=f"'id' goes from {ids[0]} to {ids[1]}, .* {dtype}"):
        gd.IterableSource(pieces, target="id", dtype=dtype)


def test_a_text_among_big_whole_numbers_is_refused_with_its_place():
    rows = [f"{i},{2**60 + i}" for i in range(200)]
    rows[150] = "150,none"
    for block_size in (64, 1 << 20):
        with pytest.raises(gd.DataError, match="line 152, column 'id': 'none' is not a number"):
            csv(lines("x,id", rows), target="id", block_size=block_size)


# Labels that are numbers --------------------------------------------------------------------


@pytest.mark.few
@pytest.mark.parametrize("given", [[1, 2], [1.0, 2.0], ["1", "2"], np.array([1, 2])])
@pytest.mark.parametrize("cells", [("1.0", "2"), ("1", "2.00"), ("1.000", " 2 ")])
def test_a_label_matches_the_number_however_it_is_written(given, cells):
    data = lines("x,y", [f"{i},{cells[i % 2]}" for i in range(10)])
    assert whole(csv(data, target="y", classes=given))[1].tolist() == [0, 1] * 5
    data = lines("k,y", [f"{cells[i % 2]},{i}" for i in range(10)])
    x = whole(csv(data, target="y", categories={"k": given}))[0]
    assert x.tolist() == [[1, 0], [0, 1]] * 5
    frame = {"k": [float(cells[i % 2]) for i in range(10)], "y": range(10)}
    assert whole(gd.IterableSource([frame], target="y", categories={"k": given}))[0].tolist() == [
        *([[1, 0], [0, 1]] * 5)
    ]


def test_a_code_is_not_the_number_that_it_looks_like():
    data = lines("k,y", ["01,1", "1,2"])
    with pytest.raises(gd.DataError, match="line 2, column 'k': '01' is not among the 2 known"):
        whole(csv(data, target="y", categories={"k": [1, 2]}))
    source = csv(data, target="y", categories={"k": ["01", "1"]})
    assert whole(source)[0].tolist() == [[1, 0], [0, 1]]


# Types of columns ---------------------------------------------------------------------------

TRUE = [True, False, True]


@pytest.mark.parametrize(
    "values",
    [
        TRUE,
        np.array(TRUE),
        pd.array(TRUE, "boolean"),
        pd.array(TRUE, pd.ArrowDtype(pa.bool_())),
        np.array(TRUE, dtype=object),
    ],
    ids=["list", "numpy", "nullable", "arrow", "objects"],
)
def test_truth_values_are_the_numbers_0_and_1(values):
    rows = pd.DataFrame({"area": [1.5, 2, 3], "garden": values, "n": [1, 2, 3], "y": [0.5, 1, 2]})
    file = io.BytesIO()
    rows.to_parquet(file)
    for make in (
        lambda **o: gd.IterableSource([rows], **o),
        lambda **o: gd.ParquetSource(file, **o),
    ):
        source = make(target="y")
        assert source.names == ["area", "garden", "n"]
        assert whole(source)[0].tolist() == [[1.5, 1, 1], [2, 0, 2], [3, 1, 3]]
        y = whole(make(target="garden"))[1]
        assert (y.tolist(), y.dtype) == ([1, 0, 1], np.int64)


@pytest.mark.parametrize("text", ["True", "false", "TRUE"])
def test_truth_values_in_words_are_not_taken_for_missing_ones(text):
    frame = pd.DataFrame({"a": [True, False, True], "b": [1.5, 2.0, 3.0], "y": [1.5, 2.0, 3.0]})
    schema = gd.IterableSource([frame], target="y").schema
    with pytest.raises(gd.DataError, match="write truth values as 1 and 0") as caught:
        gd.CsvSource(io.BytesIO(f"b,a,y\n1,{text},2\n".encode()), schema=schema)
    assert "na=" not in str(caught.value)
    assert gd.CsvSource(io.BytesIO(b"b,a,y\n1,1,2\n"), schema=schema).rows == 1


def test_dummies_of_pandas_are_numbers():
    frame = pd.get_dummies(pd.DataFrame({"c": ["a", "b", "a"], "v": [1.0, 2, 3]}))
    x, _y = whole(gd.IterableSource([frame], target="v"))
    assert x.tolist() == [[1, 0], [0, 1], [1, 0]]


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ([[1.0], [2.0], [3.0]], "list"),
        ([{"a": 1}, {"a": 2}, {"a": 3}], "dict"),
        ([(1,), (2,), (3,)], "tuple"),
        ([b"a", b"b", b"c"], "bytes"),
        ([{1}, {2}, {3}], "set"),
        ([1 + 2j, 2j, 3j], "complex"),
        ([None, [1.0], None], "list"),
        ([1, 2, [3]], "list"),
        ([object(), object(), object()], "object"),
    ],
)
def test_what_no_column_can_be_is_refused_by_name(values, what):
    frame = pd.DataFrame({"emb": values, "x": [1, 2, 3], "y": [0.5, 1, 2]})
    for target in ("y", "emb"):
        with pytest.raises(gd.DataError, match=f"column 'emb' holds .*{what}") as caught:
            gd.IterableSource([frame], target=target)
        assert "object at" not in str(caught.value) or what == "object"
    assert gd.IterableSource([frame], target="y", exclude=["emb"]).names == ["x"]
    late = [{"emb": [None], "x": [1], "y": [0.5]}, frame]
    with pytest.raises(gd.DataError, match="column 'emb' holds"):
        gd.IterableSource(late, target="y", missing=0.0)


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.int64()), pa.struct([("a", pa.int64())]), pa.map_(pa.string(), pa.int64())]
)
def test_nested_columns_of_parquet_are_refused_by_name(kind):
    value = {"list": [1], "struct": {"a": 1}, "map": [("a", 1)]}[str(kind).partition("<")[0]]
    file = io.BytesIO()
    table = pa.table({"emb": pa.array([value] * 3, kind), "x": [1, 2, 3], "y": [0.5, 1, 2]})
    parquet.write_table(table, file)
    with pytest.raises(gd.DataError, match=r"column 'emb' holds values .*exclude=\['emb'\]"):
        gd.ParquetSource(file, target="y")
    assert gd.ParquetSource(file, target="y", exclude=["emb"]).names == ["x"]


def test_durations_are_seconds():
    spans = pd.to_timedelta([1, 90, 3600], unit="s")
    for values in (spans, spans.to_pytimedelta().tolist(), [*spans[:2], None]):
        frame = pd.DataFrame({"t": values, "y": [1.0, 2, 3.5]})
        x, _ = whole(gd.IterableSource([frame], target="y", missing=3600.0))
        assert x[:, 0].tolist() == [1, 90, 3600]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "longdouble", "int8", "uint64"])
def test_numbers_of_any_size_are_read_without_a_warning(dtype):
    frame = pd.DataFrame({"a": np.arange(300).astype(dtype), "y": np.arange(300) / 2})
    x, _ = whole(gd.IterableSource([frame], target="y", dtype="float64"))
    assert x[:, 0].tolist() == np.arange(300).astype(dtype).tolist()


def test_decimals_and_days_are_numbers():
    frame = pd.DataFrame({"a": [decimal.Decimal("1.5"), decimal.Decimal(2)], "y": [1.0, 2.5]})
    assert whole(gd.IterableSource([frame], target="y"))[0].tolist() == [[1.5], [2]]
    frame["a"] = [datetime.date(2020, 1, 1), datetime.date(2020, 1, 2)]
    assert gd.IterableSource([frame], target="y").names == ["a day of week", "a days"]


def test_many_texts_are_refused_still():
    rows = [f"name {i},{i}" for i in range(MOST_LEVELS + 1)]
    with pytest.raises(gd.DataError, match=r"column 'a' has more than 100 different texts"):
        csv(lines("a,y", rows), target="y")


def test_an_infinite_number_is_refused_with_its_place():
    for text in ("inf", "-Infinity", "1e400", " INF"):
        with pytest.raises(gd.DataError, match=r"line 3, column 'a': -?inf is not finite"):
            csv(f"a,y\n1,2\n{text},3\n", target="y")


@pytest.mark.parametrize("offset", [2**60, 2**53, 10**9])
@pytest.mark.parametrize("block_size", [256, 1 << 20])
def test_a_whole_target_that_the_dtype_makes_one_is_refused_where_it_is_trained_on(
    offset, block_size, tmp_path
):
    rows = [f"{i / 8},{offset + i % 50}" for i in range(100)]
    for source in (
        csv(lines("x,y", rows), target="y", block_size=block_size),
        csv(lines("x,y", rows), target="y", block_size=block_size).split(0.2)[0],
        csv(lines("x,y", rows), target="y", block_size=block_size).cache(tmp_path / "rows"),
        gd.IterableSource([{"x": range(100), "y": [offset + i % 50 for i in range(100)]}], "y"),
    ):
        for dtype in ("float32", "float64"):
            model = gd.Sequential([gd.Dense(1)], inputs=1, dtype=dtype)
            batches = gd.Batches(source, batch_size=10)
            trainer = gd.Trainer(model, "mse", gd.SGD(1e-30))
            if dtype == "float64" and offset < 2**60:
                trainer.fit(batches, epochs=1)
            else:
                with pytest.raises(gd.DataError, match=rf"y'? goes from {offset}(\.0)? to"):
                    trainer.fit(batches, epochs=1)


# Found at the start, and not in the first epoch --------------------------------------------------


@pytest.mark.parametrize(
    ("text", "options", "problem"),
    [
        (
            "c,y\na,1\nz,2\n",
            {"categories": {"c": ["a", "b"]}},
            "'z' is not among the 2 known values",
        ),
        ("c,y\n1,a\n2,z\n", {"classes": ["a", "b"]}, "'z' is not among the 2 known values"),
        ("c,y\n1,1\n1e39,2\n", {"dtype": "float32"}, "1e+39 does not fit float32"),
        (
            "c,y\n1,1\n-1e39,2\n",
            {"dtype": "float32", "missing": 0.0},
            "-1e+39 does not fit float32",
        ),
        ("c,y\n1,1\n2,1e39\n3,0.5\n", {"dtype": "float32"}, "1e+39 does not fit float32"),
        ("c,y\n1,0.5\n2,1e39\n", {"dtype": "float32"}, "1e+39 does not fit float32"),
        ("c,y\n1,1\n70000,2\n", {"dtype": "float16"}, "70000.0 does not fit float16"),
    ],
)
def test_what_no_epoch_could_read_is_refused_at_once(text, options, problem):
    for block_size in (4, 1 << 20):
        with pytest.raises(gd.DataError) as caught:
            csv(text, target="y", block_size=block_size, **options)
        assert f"line 3, column '{'y' if ',z' in text or ',1e39' in text else 'c'}'" in str(
            caught.value
        )
        assert problem in str(caught.value)


def test_whole_targets_beyond_the_dtype_of_x_are_read():
    assert whole(csv("c,y\n1,1\n2,70000\n", target="y", dtype="float16"))[1].tolist() == [1, 70000]


def test_rows_that_are_dropped_may_hold_what_is_not_known():
    source = csv("c,x,y\na,1,1\nz,,2\n", target="y", categories={"c": ["a"]}, missing="drop")
    assert (source.rows, source.dropped) == (1, 1)


@pytest.mark.parametrize("block_size", [60, 400, 1 << 20])
def test_big_whole_numbers_may_be_classes_beside_texts(block_size):
    cells = [str(2**53 + 1)]
    cells += [str(i % 3) for i in range(250)] + [f"k{i % 5}" for i in range(900)]
    text = lines("x,y", [f"{i},{cell}" for i, cell in enumerate(cells)])
    source = csv(text, target="y", block_size=block_size)
    assert source.classes == sorted(set(cells))
    assert [source.classes[k] for k in whole(source)[1]] == cells


@pytest.mark.parametrize("word", ["NA", "NA ", " NA", "NA\u00a0", "null "])
def test_a_level_that_is_named_is_a_value_with_blanks_around_it(word):
    source = csv(f"c,y\n{word},1\nZA,2\n", target="y", categories={"c": [word.strip(), "ZA"]})
    assert whole(source)[0].tolist() == [[1, 0], [0, 1]]


def test_a_word_with_blanks_is_named_once():
    with pytest.warns(TableWarning, match=r"3 rows left out, because 'NA' .* pass na=\['NA'\]$"):
        csv('c,y\nNA,1\nNA ,2\n"NA\u00a0",4\nb,3\n', target="y", missing="drop")


@pytest.mark.parametrize(
    "cells",
    [
        ["True", "False", "1", "0"],
        ["1", "0", "true"],
        ["TRUE", *map(str, range(9))],
        ["1", "false"],
    ],
)
@pytest.mark.parametrize("target", ["x", "y"])
def test_truth_values_among_numbers_are_refused(cells, target):
    text = lines("x,y", [f"{cell},{i + 0.5}" for i, cell in enumerate(cells)])
    with pytest.raises(gd.DataError, match="truth values such as") as caught:
        csv(text, target=target)
    assert "write truth values as 1 and 0" in str(caught.value)
    assert "na=" not in str(caught.value)
    plain = [cell.upper().replace("TRUE", "1").replace("FALSE", "0") for cell in cells]
    csv(lines("x,y", [f"{cell},{i + 0.5}" for i, cell in enumerate(plain)]), target=target)


@pytest.mark.parametrize("block_size", [4, 1 << 20])
def test_a_header_once_more_among_texts_is_refused(block_size):
    with pytest.raises(gd.DataError, match="line 4: the header is repeated"):
        csv("a,y\nu,p\nv,q\na,y\nu,p\n", target="y", block_size=block_size)
    # A cell may have the name of its column, and a row may have all names in other columns.
    assert csv("a,y\nu,p\na,q\nv,y\n", target="y", block_size=block_size).rows == 3


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "cells",
    [
        ["1234567890123456789.5", "1234567890123456790"],
        ["1234567890123456789.5", "1234567890123456789.75"],
        ["9007199254740993.5", "9007199254740993", "9007199254740993.25"],
    ],
)
def test_fractions_that_float64_makes_one_are_refused(cells, dtype):
    rows = [f"{i},{cell}" for i, cell in enumerate(cells * 20)]
    with pytest.raises(gd.DataError, match=f"goes from {min(cells)}"):
        csv(lines("x,y", rows), target="y", dtype=dtype)
    columns = {"x": np.arange(len(rows)), "y": [decimal.Decimal(cell) for cell in cells * 20]}
    with pytest.raises(gd.DataError, match=f"goes from {min(cells)}"):
        gd.IterableSource([columns], target="y", dtype=dtype)


def test_fractions_with_many_digits_that_differ_in_the_first_ones_are_read():
    y = whole(csv("x,y\n1,1234567890123456789.5\n2,3\n", target="y"))[1]
    assert y.tolist() == [1234567890123456789.5, 3.0]


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (decimal.Decimal("Infinity"), "row 0, column 'x': inf is not finite"),
        (decimal.Decimal("-1e400"), "row 0, column 'x': -inf is not finite"),
        (10**400, "row 0, column 'x': inf is not finite"),
        (-(10**400), "row 0, column 'x': -inf is not finite"),
        (np.complex64(1 + 2j), "column 'x' holds values of type complex64"),
        (1 + 2j, "column 'x' holds values of type complex"),
    ],
)
@pytest.mark.parametrize("column", ["x", "y"])
def test_objects_that_are_no_finite_numbers_are_refused(value, problem, column):
    other = "y" if column == "x" else "x"
    columns = {column: pd.Series([value, 1], dtype=object), other: [1.0, 2.0]}
    with pytest.raises(gd.DataError, match=problem.replace("'x'", f"'{column}'")):
        gd.IterableSource([columns], target="y", dtype="float64")


@pytest.mark.parametrize("text", ["{}%", "{},5", "{} kg"])
def test_numbers_of_a_frame_in_another_format_get_no_option_of_files(text):
    frame = pd.DataFrame({"x": [text.format(i) for i in range(1, 120)], "y": range(119)})
    with pytest.raises(gd.DataError) as caught:
        gd.FrameSource(frame, target="y")
    assert "strip=" not in str(caught.value)
    assert "decimal=" not in str(caught.value)


# A short cut ---------------------------------------------------------------------------------


def numbers_of_many_kinds(rows=400):
    """Return columns of numbers as text; each is of a kind that the first pass records."""
    rng = np.random.default_rng(3)
    common = [f"{v:.3f}" for v in rng.normal(size=rows)]
    gaps = ["" if k % 90 == 40 else v for k, v in enumerate(common)]
    return {
        "plain": common,
        "gaps": gaps,
        "blank at first": ["" if k < 250 else v for k, v in enumerate(common)],
        "days": [f"2014{k % 12 + 1:02d}{k % 28 + 1:02d}" for k in range(rows)],
        "counts": [str(k + 7) for k in range(rows)],
        "far": [f"{1e9 + float(v):.3f}" for v in common],
        "long": [str(9007199254740993 + k % 5) for k in range(rows)],
        "whole": [str(k % 7) for k in range(rows)],
        "fraction at last": [str(k) if k < rows - 3 else "0.5" for k in range(rows)],
        "too large": [v if k != 350 else "1e300" for k, v in enumerate(common)],
        "infinite": [v if k != 350 else "inf" for k, v in enumerate(common)],
        "text at last": [v if k != 350 else "red" for k, v in enumerate(common)],
        "seconds": [str(1_400_000_000 + 86_400 * k) for k in range(rows)],
    }


def outcome(text, **options):
    """Return everything that a source reports about a table, or its error."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            source = csv(text, block_size=400, **options)
        except gd.DataError as error:
            return str(error)
        x, y = whole(source)
    counts = source.rows, source.dropped, source.first_dropped, source.gaps, source.left_out
    said = [str(warning.message) for warning in caught]
    return (
        counts,
        source.schema.state_dict(),
        source.target_problems,
        said,
        x.tobytes(),
        y.tobytes(),
    )


@pytest.mark.few(8)
@pytest.mark.parametrize("missing", ["error", "drop", "flag"])
@pytest.mark.parametrize("target", ["plain", "whole", "long", "fraction at last", "far"])
@pytest.mark.parametrize("column", list(numbers_of_many_kinds(1)))
def test_a_frame_of_numbers_alone_is_noted_as_any_other(column, target, missing, monkeypatch):
    columns = numbers_of_many_kinds()
    names = list(dict.fromkeys([column, "plain", target]))
    text = lines(",".join(names), map(",".join, zip(*(columns[c] for c in names), strict=True)))
    options = {"target": target, "missing": missing, "dtype": "float32", "leave_out": True}
    options |= {"dates": {column: "epoch"}} if column == "seconds" else {}
    found = outcome(text, **options)
    monkeypatch.setattr(inference._Seen, "_add_complete", lambda self, frame: False)
    assert outcome(text, **options) == found


# Rows that sum up the others -------------------------------------------------------------------

CELLS = {
    "text": lambda i: f"p{i % 3}",
    "numbers": lambda i: str(i % 7),
    "dates": lambda i: f"2024-01-{i % 28 + 1:02d}",
}


@pytest.mark.few(8)
@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("quote", ["", '"'])
@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("word", ["Total", "SUMME:"])
def test_the_row_of_sums_leaves_by_the_advice_given(word, kind, quote, place):
    rows = [[f"{quote}{CELLS[kind](i)}{quote}", f"{i / 8}"] for i in range(40)]
    rows.append([f"{quote}{word}{quote}", "97.5"])
    text = lines("c,a,y" if place == 0 else "a,c,y", [
        ",".join([*row[:: 1 - 2 * place], f"{k / 4}"]) for k, row in enumerate(rows)
    ])  # fmt: skip
    options = {"target": "y", "missing": {"*": "flag"}}
    try:
        (advice,) = csv(text, **options).suspicions
        assert kind == "text"
    except gd.DataError as error:
        assert kind != "text"
        advice = error
    assert f"line 42: column 'c' ends in {word!r}" in str(advice) or kind != "text"
    remedy = advice.remedies[0].options
    assert set(remedy) == ({"comment"} if place == 0 else {"na", "missing"})
    followed = csv(
        text, **{**options, **remedy, "missing": {"*": "flag", **remedy.get("missing", {})}}
    )
    assert followed.rows == 40
    assert followed.suspicions == []
    assert whole(followed)[1].tolist() == [k / 4 for k in range(40)]


def test_the_row_of_sums_is_to_be_taken_out_where_its_column_has_gaps():
    rows = [f"{i / 8},{'' if i == 5 else 'red'},{i / 4}" for i in range(40)]
    text = lines("a,c,y", [*rows, "97.5,Total,195"])
    (advice,) = csv(text, target="y", missing="flag").suspicions
    assert str(advice).endswith("; if the line sums up the others, remove it from the file")


# Cells in single quotes, and units of several words ---------------------------------------------


def test_cells_in_single_quotes_are_what_is_within():
    texts = ["red", "o''clock", "NA", ""]
    rows = [f"'{i / 8}','{texts[i % 4]}','{i}','{i / 4}'" for i in range(40)]
    text = lines("'a','c d','n','y'", rows)
    with pytest.raises(gd.DataError, match=r"no column 'y'.*; if single quotes are not") as caught:
        csv(text, target="y")
    options = {**caught.value.remedies[-1].options, "missing": "flag"}
    source = csv(text, target="y", **options)
    assert source.names == ["a", "c d=missing", "c d=o'clock", "c d=red", "n"]
    x, y = whole(source)
    assert x[:, 0].tolist() == [i / 8 for i in range(40)]
    assert x[:, 1:4].tolist() == [[i % 4 > 1, i % 4 == 1, i % 4 == 0] for i in range(40)]
    assert (x[:, 4].tolist(), y.tolist()) == ([*range(40)], [i / 4 for i in range(40)])


@pytest.mark.few(6)
@pytest.mark.parametrize("unit", ["sq ft", "sq. ft.", "US dollars", "EUR per month", "m2"])
@pytest.mark.parametrize("between", ["", " ", "\u00a0"])
def test_a_unit_may_have_several_words(unit, between):
    rows = [f"{i / 2}{between}{unit},{i / 4}" for i in range(40)]
    (advice,) = csv(lines("a,y", rows), target="y", missing="flag").suspicions
    source = csv(lines("a,y", rows), target="y", **advice.remedies[0].options)
    assert whole(source)[0][:, 0].tolist() == [i / 2 for i in range(40)]


@pytest.mark.parametrize(
    ("strip", "cell", "number"),
    [("m cm", "5 cm", 5), ("m", "5 mm", None), ("ft sq", "5 sq ft", 5), ("sq ft", "5 sqft", None),
     ("% vol", "5 % vol", 5), ("'", "'5'", 5), ("' kg", "'5 kg'", 5), ("kg", "kg", None)],
)  # fmt: skip
def test_units_are_taken_off_as_whole_words(strip, cell, number):
    assert Notation(strip=strip).read(cell) == number


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("kind", CELLS)
def test_sums_between_the_rows_leave_too(kind, place):
    rows = [[CELLS[kind](i), f"{i / 8}"] for i in range(40)]
    rows[20:20], rows[10:10] = [["Subtotal", "99"]], [["Subtotal", "98"]]
    cells = [",".join([*row[:: 1 - 2 * place], f"{k / 4}"]) for k, row in enumerate(rows)]
    text = lines("c,a,y" if place == 0 else "a,c,y", cells)
    options = {"target": "y", "missing": {"*": "flag"}}
    try:
        (advice,) = csv(text, **options).suspicions
    except gd.DataError as error:
        advice = error
    assert "if the lines sum up the others, leave them out with " in str(advice)
    assert "line 12, column 'c'" in str(advice) or kind != "numbers"
    remedy = advice.remedies[0].options
    options |= {**remedy, "missing": {"*": "flag", **remedy.get("missing", {})}}
    assert whole(csv(text, **options))[1].tolist() == [
        k / 4 for k in range(42) if k not in (10, 21)
    ]


@pytest.mark.parametrize("labels", [["°C,hPa,state"], ["How warm?,And the air?,What?", "Q1,Q2,Q3"]])
@pytest.mark.parametrize("width", [1, 2])
def test_units_and_labels_below_the_header_are_no_row(labels, width):
    rows = [f"{i / 8},{i},{'ab'[i % 2]}" for i in range(40)]
    text = lines("t,p,y", [*labels, *rows])
    options = {"target": "y", "missing": {"*": "flag"}, "exclude": ["p"][width - 1 :]}
    with pytest.raises(gd.DataError) as caught:
        csv(text, **options)
    advice = caught.value.remedies[0]
    assert advice.words.startswith("if the row holds units or labels, leave it out")
    advised = {**advice.options, "missing": {"*": "flag", **advice.options["missing"]}}
    source = csv(text, **{**options, **advised})
    assert (source.rows, source.dropped, source.classes) == (40, len(labels), ["a", "b"])
    # A single word further down, or one that may mean a missing value, is treated as before.
    for other in ([*rows[:9], "warm,1,a", *rows], ["-,1,a", *rows]):
        with pytest.raises(gd.DataError) as caught:
            csv(lines("t,p,y", other), **options)
        assert "units or labels" not in str(caught.value)


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["($1,234.50)", "$12.25", "($3.00)"], [-1234.5, 12.25, -3]),
        (["1.234,50-", "12,25", "3,00-"], [-1234.5, 12.25, -3]),
        (["(1 234,50 €)", "12,25 €", "- 3,00 €"], [-1234.5, 12.25, -3]),
    ],
)
def test_negative_numbers_of_accounts(cells, values):
    text = lines("a;x", [f"{cells[i % 3]};{i}" for i in range(40)])
    with pytest.raises(gd.DataError) as caught:
        csv(text, target="a", separator=";")
    source = csv(text, target="a", separator=";", **caught.value.remedies[0].options)
    assert whole(source)[1].tolist() == [values[i % 3] for i in range(40)]


def test_parentheses_around_whole_numbers_are_texts_as_before():
    source = csv(lines("a,y", [f"({i % 3}),{i}" for i in range(40)]), target="y")
    assert source.names == ["a=(0)", "a=(1)", "a=(2)"]


@pytest.mark.parametrize("word", ["#DIV/0!", "#REF!", "#N/A", "#NAME?"])
def test_the_error_of_a_spreadsheet_is_no_comment(word):
    rows = [f"{word if i % 9 == 0 else i / 8},{i}" for i in range(40)]
    options = {"target": "y", "missing": "flag"}
    if word != "#N/A":
        with pytest.raises(gd.DataError) as caught:
            csv(lines("a,y", rows), **options)
        options |= caught.value.remedies[0].options
        assert options["na"] == [word]
    source = csv(lines("a,y", rows), **options)
    assert (source.rows, source.gaps) == (40, {"a": 5})


def test_an_exponent_of_fortran_is_no_unit():
    rows = [f"{1 + i / 100:.4f}D+01,{i % 7}" for i in range(40)]
    source = csv(lines("a,b,y", [f"{row},{i}" for i, row in enumerate(rows)]), target="y",
                 leave_out=True)  # fmt: skip
    assert source.suspicions == []
    assert "id or free text" in source.left_out["a"]


def test_codes_that_begin_with_0_are_named():
    cells = {"zip": "02134", "plain": "2134", "zero": "0", "fraction": "0.5", "sign": "-01"}
    rows = [",".join([*cells.values(), "1"]), *(f"{i},{i},{i},{i},{i},{i}" for i in range(40))]
    (advice,) = csv(lines(",".join([*cells, "y"]), rows), target="y").suspicions
    assert "column 'zip' holds codes that begin with 0, such as '02134', and is read" in str(advice)
    followed = csv(lines(",".join([*cells, "y"]), rows), target="y", **advice.remedies[0].options)
    assert followed.suspicions == []
    assert "zip=02134" in followed.names
