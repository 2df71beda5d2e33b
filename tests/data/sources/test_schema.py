"""A table that is read with another table's schema becomes the same columns, in any order.

The oracle is pandas: columns chosen by name, one-hot by the first table's levels.
"""

import io
import re
import warnings

import numpy as np
import pandas as pd
import pytest
from budgets import examples
from hypothesis import given
from hypothesis import strategies as st

import minigd as gd
from minigd.data.tables.schema import MissingColumn, Schema

properties = examples(15)

TRAIN = "size,color,price\n1,red,10\n2,blue,20.5\n3,red,30\n4,green,40\n"


def csv(text, **options):
    return gd.CsvSource(io.BytesIO(text.encode()), **{"dtype": "float64", **options})


def frames(text, **options):
    return gd.IterableSource([pd.read_csv(io.StringIO(text))], **{"dtype": "float64", **options})


def whole(rows):
    xs, ys = zip(*rows.chunks(), strict=True)
    return np.concatenate(xs), None if ys[0] is None else np.concatenate(ys)


kinds = pytest.mark.parametrize("make", [csv, frames])


# The schema of another table ---------------------------------------------------------------------


@properties
@given(
    order=st.permutations(["size", "color", "price", "more"]),
    colors=st.lists(st.sampled_from(["red", "green", "blue"]), min_size=1, max_size=8),
    block_size=st.integers(1, 60),
)
def test_columns_are_found_by_name_and_become_those_of_the_schema(order, colors, block_size):
    schema = csv(TRAIN, target="price").schema
    table = pd.DataFrame({
        "size": np.arange(len(colors)) + 0.5, "color": colors, "price": 7.0, "more": "2014-05-02",
    })  # fmt: skip
    rows = csv(table[order].to_csv(index=False), schema=schema, block_size=block_size)
    assert rows.names == ["size", "color=blue", "color=green", "color=red"]
    x, y = whole(rows)
    levels = pd.Categorical(colors, ["blue", "green", "red"])
    np.testing.assert_array_equal(x[:, 0], table["size"])
    np.testing.assert_array_equal(x[:, 1:], pd.get_dummies(levels))
    assert y.tolist() == [7.0] * len(colors)
    assert rows.take(np.array([0]))[0].tolist() == x[:1].tolist()


@kinds
def test_a_table_without_the_target(make):
    schema = make(TRAIN, target="price").schema.replace(targets=[])
    x, y = whole(make("color,size\ngreen,5\n", schema=schema))
    assert (x.tolist(), y) == ([[5, 0, 1, 0]], None)


@kinds
def test_a_column_that_is_missing_is_named(make):
    schema = make(TRAIN, target="price").schema
    for text, column in (("size,price\n1,2\n", "color"), ("size,color\n1,red\n", "price")):
        with pytest.raises(MissingColumn, match=f"there is no column '{column}'; the columns are"):
            make(text, schema=schema)


@kinds
def test_a_schema_comes_alone(make):
    schema = make(TRAIN, target="price").schema
    for option in ({"target": "price"}, {"exclude": ["size"]}, {"missing": "drop"}):
        with pytest.raises(TypeError, match="a schema brings its own target"):
            make(TRAIN, schema=schema, **option)


@kinds
def test_a_schema_comes_back_from_what_is_saved_of_it(make):
    schema = make(TRAIN, target="color").schema
    again = Schema(**schema.state_dict())
    assert again.state_dict() == schema.state_dict()
    assert whole(make(TRAIN, schema=again))[1].tolist() == [2, 0, 2, 1]


def test_a_text_among_the_numbers_of_the_schema_is_an_error_with_its_place():
    schema = csv(TRAIN, target="price").schema
    with pytest.raises(gd.DataError, match="line 3, column 'size': 'big' is not a number"):
        csv("size,color,price\n1,red,1\nbig,red,2\n", schema=schema)


# Classes that are whole numbers ------------------------------------------------------------------


@kinds
def test_whole_numbers_are_classes_however_they_are_written(make):
    schema = make("a,k\n1,7\n2,3\n", target="k").schema.replace(classes=["3", "7"])
    rows = make("a,k\n1,7.0\n2,3e0\n3,+7\n", schema=schema)
    y = whole(rows)[1]
    assert (y.tolist(), y.dtype) == ([1, 0, 1], np.int64)
    with pytest.raises(
        gd.DataError, match="column 'k': 4 is not among the 2 known values, '3', '7'"
    ):
        make("a,k\n1,3\n2,4\n", schema=schema)


# Missing and unknown -----------------------------------------------------------------------------

GAPS = "a,color,size,y\n1,red,s,1\n2,,m,2\n,blue,s,3\n4,NA,s,4\n5,blue,m,\n6,red,m,6\n"


@kinds
@pytest.mark.parametrize("block_size", [1, 1 << 20])
def test_a_missing_category_is_a_level_and_a_missing_number_drops_its_row(make, block_size):
    options = {"block_size": block_size} if make is csv else {}
    rows = make(GAPS, target="y", missing="category", **options)
    assert rows.schema.names == ["a", "color=missing", "color=red", "size=m", "size=s"]
    x, y = whole(rows)
    assert x.tolist() == [[1, 0, 1, 0, 1], [2, 1, 0, 1, 0], [4, 1, 0, 0, 1], [6, 0, 1, 1, 0]]
    assert y.tolist() == [1, 2, 4, 6]
    assert (rows.rows, rows.dropped) == (4, 2)
    place = "line 4" if make is csv else "row 2"
    assert rows.first_dropped.endswith(f"{place}, column 'a': the value is missing")


def test_rows_with_a_missing_category_can_be_fetched_in_any_order():
    rows = csv(GAPS, target="y", missing="category")
    np.testing.assert_array_equal(rows.take(np.array([3, 1, 2]))[0], whole(rows)[0][[3, 1, 2]])


@kinds
def test_a_missing_target_of_text_is_no_class(make):
    rows = make("a,k\n1,x\n2,\n3,z\n", target="k", missing="category")
    assert (rows.schema.classes, rows.dropped) == (["x", "z"], 1)


def test_missing_among_numbers_makes_no_category_of_them():
    with pytest.raises(gd.DataError, match=r"line 4, column 'a': '\?' is not a number, and most"):
        csv("a,b\n,1\n2,1\n?,1\n4,1\n5,1\n", missing="category")


@kinds
def test_a_level_for_missing_values_is_there_only_where_the_schema_has_it(make):
    schema = make(GAPS, target="y", missing="category").schema.replace(targets=[])
    rows = make("a,color,size\n1,,s\n2,red,\n3,red,m\n", schema=schema)
    assert (rows.rows, rows.dropped) == (2, 1)
    assert whole(rows)[0].tolist() == [[1, 1, 0, 0, 1], [3, 0, 1, 1, 0]]
    assert "column 'size': the value is missing" in rows.first_dropped


@kinds
def test_rows_of_unknown_categories_are_dropped_where_the_schema_says_so(make):
    strict = make(TRAIN, target="price").schema
    text = "size,color,price\n1,red,1\n2,teal,2\n3,pink,3\n4,blue,4\n"
    with pytest.raises(
        gd.DataError, match="column 'color': 'teal' is not among the 3 known values"
    ):
        make(text, schema=strict)
    rows = make(text, schema=strict.replace(unknown="drop"))
    assert (rows.rows, rows.dropped) == (2, 2)
    assert whole(rows)[1].tolist() == [1, 4]
    assert [None if k is None else k.tolist() for _, _, k in rows.encoded()] == [
        [True, False, False, True]
    ]
    assert "column 'color': 'teal' is not among the 3 known values" in rows.first_dropped
    with pytest.raises(gd.DataError, match=r"no rows.* once 2 with missing or unknown .* 'teal'"):
        make("size,color,price\n2,teal,2\n3,pink,3\n", schema=strict.replace(unknown="drop"))


@pytest.mark.parametrize(
    ("value", "end"),
    [("red.", "."), ("red..", "."), ("red!.", "!."), ("St..", ""), ("re.", ""), ("red.x", "")],
)
def test_what_stands_at_the_end_of_a_value_not_known_is_seen(value, end):
    schema = csv("color,y\nred,1\nSt.,2\nblue,3\n", target="y").schema
    with pytest.raises(gd.DataError, match=re.escape(f"{value!r} is not among the 3")) as caught:
        csv(f"color,y\n{value},1\n", schema=schema)
    assert str(caught.value).endswith(
        f"at its end doesn't belong to it, pass strip={end!r}"
    ) == bool(end)
    if end:
        assert csv(f"color,y\n{value},1\n", schema=schema, strip=end).rows == 1


@kinds
def test_a_missing_category_is_not_an_unknown_one(make):
    schema = make(TRAIN, target="price").schema.replace(missing=-1.0, unknown="drop")
    rows = make("size,color,price\n1,,1\n,red,2\n3,teal,3\n", schema=schema)
    assert whole(rows)[0].tolist() == [[1, 0, 0, 0], [-1, 0, 0, 1]]


def test_an_index_is_that_of_the_rows_that_the_schema_keeps(tmp_path):
    path, index = tmp_path / "rows.csv", tmp_path / "rows.index"
    path.write_text(TRAIN.replace("green", "teal"))
    schema = csv(TRAIN, target="price").schema.replace(unknown="drop")
    for _ in range(2):
        rows = gd.CsvSource(path, schema=schema, index_path=index)
        assert rows.take(np.array([2, 0]))[1].tolist() == [30, 10]
    other = schema.replace(levels={"color": ["red"]})
    with pytest.raises(gd.CheckpointError, match="is an index of data other"):
        gd.CsvSource(path, schema=other, index_path=index).take(np.array([0]))


# Whole numbers of another table ------------------------------------------------------------------


def integers(values, dtype):
    return {"x": np.arange(len(values), dtype="float64"), "y": np.array(values, dtype)}


@pytest.mark.parametrize(
    ("fitted", "dtype", "given", "other", "row"),
    [
        ([1, 2], "int64", [3, 2**63 + 1], "uint64", 1),
        ([1, 2**63 + 5], "uint64", [-1, 3], "int64", 0),
        ([1, 2**63 + 5], "uint64", [3, 4, -(2**20)], "int32", 2),
        ([1, 2**60 + 1], "int64", [2**63, 1], "uint64", 0),
        ([1, 2**60 + 1], "int64", [1, 2**64], "object", 1),
    ],
)
def test_whole_numbers_never_wrap(fitted, dtype, given, other, row):
    schema = gd.IterableSource([integers(fitted, dtype)], target="y").schema
    source = gd.IterableSource([integers(fitted, dtype)], schema=schema)
    assert whole(source)[1].tolist() == fitted
    words = re.escape(f"row {row}, column 'y': {given[row]} does not fit {dtype}")
    with pytest.raises(gd.DataError, match=words):
        gd.IterableSource([integers(given, other)], schema=schema)


@pytest.mark.parametrize("text", ["9007199254740993", "-9007199254740993", "1e300"])
def test_digits_that_are_lost_are_not_shown(text):
    schema = csv("x,y\n1,1\n2,2\n", target="y").schema
    with pytest.raises(
        gd.DataError, match=r"line 2, column 'y': the number is beyond 2\*\*53, and"
    ):
        csv(f"x,y\n1,{text}\n", schema=schema)


@pytest.mark.parametrize("classes", [[False, True], [True, False], ["True", "False"]])
@pytest.mark.parametrize(
    "cells", [("True", "False"), ("true", "false"), ("TRUE", "FALSE"), ("1", "0"), ("1.0", "0.0")]
)
def test_truth_values_are_classes_and_levels_however_they_are_written(classes, cells):
    text = f"c,y\n{cells[0]},{cells[1]}\n{cells[1]},{cells[0]}\n"
    names = [str(one) for one in classes]
    true = names.index("True")
    source = csv(text, target="y", classes=classes, categories={"c": classes})
    again = csv(text, schema=Schema(**source.schema.state_dict()))
    for rows in (source, again):
        x, y = whole(rows)
        assert rows.classes == names
        assert y.tolist() == [1 - true, true]
        assert x[:, true].tolist() == [1, 0]


def test_of_two_levels_that_are_one_number_each_stands_for_its_own_text_alone():
    levels = {"c": ["1", "1.0", "2"]}
    x, _ = whole(csv("c,y\n1.0,1\n1,2\n2.00,3\n", target="y", categories=levels))
    assert x.argmax(axis=1).tolist() == [1, 0, 2]
    with pytest.raises(gd.DataError, match=r"'1\.00' is not among the 3 known values"):
        csv("c,y\n1.00,1\n", target="y", categories=levels)


def test_truth_values_some_of_which_are_missing_are_truth_values_too():
    schema = csv("c,y\nTrue,1\n,2\nFalse,3\n", target="y", missing="category").schema
    assert schema.names == ["c=False", "c=True", "c=missing"]
    x, _ = whole(csv("c,y\nTRUE,1\nfalse,2\n,3\n", schema=schema))
    assert x.argmax(axis=1).tolist() == [1, 0, 2]


def test_a_truth_value_beside_other_levels_is_a_text():
    with pytest.raises(gd.DataError, match="'true' is not among the 3 known values"):
        csv("c,y\ntrue,1\n", target="y", categories={"c": ["True", "False", "maybe"]})


@pytest.mark.parametrize("words", [["NA"], ["NA", "null", "NA", " NA "]])
def test_rows_that_leave_for_a_usual_word_are_named_with_a_schema_too(words):
    schema = csv("c,x,y\nZA,1,1\nDE,2,2\n", target="y", missing="drop").schema
    text = "c,x,y\nZA,1,1\n" + "".join(f"{word},2,2\n" for word in words)
    with pytest.warns(
        UserWarning, match="rows? left out, because 'NA' in column 'c'.*keep_default"
    ):
        source = csv(text, schema=schema)
    assert source.first_dropped.endswith("line 3, column 'c': 'NA' means a missing value")
    assert sum(source.missing_words["c"].values()) == len(words) == source.dropped
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert csv(text, schema=schema, na=["NA", "null"]).dropped == len(words)


def test_a_word_that_becomes_zeros_is_named():
    text = "c,x,y\nNA,1,1\nZA,2,2\nDE,,3\n"
    for options in ({"target": "y", "missing": 0.0}, {"schema": None}):
        if "schema" in options:
            options["schema"] = csv(text, target="y", missing=0.0, na=["NA"]).schema
        with pytest.warns(UserWarning, match="1 row with 0 at all levels, because 'NA' in column"):
            source = csv(text, **options)
        assert source.missing_words == {"c": {"NA": 1}}
        assert whole(source)[0][0].tolist() == [0, 0, 1]


@pytest.mark.parametrize("odd", [["q"], ["q", "r"], ["q", "r", "s"], ["q", "r", "s", "t"]])
def test_all_odd_texts_of_a_block_are_in_one_remedy_that_works(odd):
    schema = csv("x,z,y\n1,1,1\n2,2,2\n", target="y").schema.replace(missing="drop")
    text = "x,z,y\n1,1,1\n" + "".join(f"{word},{word},2\n" for word in odd)
    with pytest.raises(gd.DataError, match=r"line 3, column 'x': 'q' is not a number") as caught:
        csv(text, schema=schema)
    na = [remedy.options["na"] for remedy in caught.value.remedies]
    assert na == ([odd] if len(odd) <= 3 else [])
    if na:
        assert csv(text, schema=schema, na=na[0]).dropped == len(odd)


def test_a_schema_is_not_told_to_leave_a_column_out():
    schema = gd.IterableSource([{"x": [1.0], "y": [2.0]}], target="y").schema
    for odd in ([[1, 2]], [{"a": 1}], [b"x"], [1 + 2j]):
        with pytest.raises(gd.DataError, match="column 'x' holds values of type") as caught:
            gd.IterableSource([{"x": pd.Series(odd, dtype=object), "y": [2.0]}], schema=schema)
        assert "exclude" not in str(caught.value)


# Values that no schema takes ---------------------------------------------------------------------

BAD = {
    "missing": ("", "the value is missing"),
    "infinite": ("inf", "inf is not finite"),
    "beyond the dtype": ("1e39", "1e+39 does not fit float32"),
    "unknown": ("teal", "'teal' is not among the 2 known values, 'red', 'blue'"),
}


@pytest.mark.few
@kinds
@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("with_schema", [False, True])
@pytest.mark.parametrize("other", ["kind", "number", "y"])
def test_the_first_bad_row_is_named_and_the_first_column_in_it(make, bad, with_schema, other):
    columns = ["kind" if bad == "unknown" else "number", "other", "number", "kind", "y"]
    columns = list(dict.fromkeys(columns))
    good = {"number": "1.5", "other": "2", "kind": "red", "y": "0.5"}
    options = {"categories": {"kind": ["red", "blue"]}, "dtype": "float32", "target": "y"}

    def text(rows):
        return "\n".join(
            ",".join(row[c] for c in columns) for row in [{c: c for c in columns}, *rows]
        )

    schema = make(text([good, {**good, "kind": "blue"}, {**good, "y": "2"}]), **options).schema
    cell, problem = BAD[bad]
    rows = [dict(good) for _ in range(5)]
    rows[3] |= {other: "", columns[0]: cell}
    rows[4] = dict.fromkeys(columns, "")
    with pytest.raises(gd.DataError) as error:
        make(text(rows), **({"schema": schema} if with_schema else options))
    place = "line 5" if make is csv else "row 3"
    assert f"{place}, column {columns[0]!r}: {problem}" in str(error.value)
