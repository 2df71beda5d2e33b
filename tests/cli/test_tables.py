"""Tables are opened by the endings of their names, and the task follows from the target."""

import gzip

import numpy as np
import pandas as pd
import pytest

import minigd as gd
from minigd.cli.tables import Reading, choose_task, open_table

FRAME = pd.DataFrame({"a": [1.5, 2.5, 3.5], "color": ["red", "blue", "red"], "y": [1, 2, 3]})
X = [[1.5, 0, 1], [2.5, 1, 0], [3.5, 0, 1]]


def whole(table):
    xs, ys = zip(*table.chunks(), strict=True)
    return np.concatenate(xs).tolist(), np.concatenate(ys).tolist()


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "parquet", "pq", "txt"])
def test_a_table_is_the_same_however_it_is_stored(tmp_path, kind):
    path = tmp_path / f"rows.{kind}"
    text = FRAME.to_csv(index=False).encode()
    if kind.startswith("p"):
        FRAME.to_parquet(path)
    else:
        path.write_bytes(gzip.compress(text) if kind.endswith("gz") else text)
    assert whole(open_table(path, target="y")) == (X, [1, 2, 3])


def test_columns_of_an_array_have_numbers_for_names(tmp_path):
    path = tmp_path / "rows.npy"
    np.save(path, np.arange(12).reshape(4, 3))
    table = open_table(path, target="1", exclude=["0"])
    assert table.schema.names == ["2"]
    assert whole(table) == ([[2], [5], [8], [11]], [1, 4, 7, 10])
    named = open_table(path, Reading(columns=("a", "b", "c")), target="c")
    assert named.schema.names == ["a", "b"]
    with pytest.raises(gd.DataError, match="has 3 columns, but 2 names were given"):
        open_table(path, Reading(columns=("a", "b")))


def test_the_target_of_an_array_may_be_an_array_of_its_own(tmp_path):
    np.save(tmp_path / "X.npy", np.arange(6.0).reshape(3, 2))
    np.save(tmp_path / "y.npy", [7, 8, 9])
    table = open_table(tmp_path / "X.npy", target=str(tmp_path / "y.npy"))
    assert table.schema.names == ["0", "1"]
    assert whole(table)[1] == [7, 8, 9]


def test_an_array_larger_than_a_piece_comes_whole(tmp_path):
    X = np.arange(20_000.0).reshape(-1, 1)
    np.save(tmp_path / "X.npy", np.hstack([X, X]))
    x, _ = whole(open_table(tmp_path / "X.npy", target="1"))
    assert x == X.tolist()


def test_a_table_of_another_program_is_read_as_it_is(tmp_path):
    path = tmp_path / "rows.data"
    path.write_text('made by hand\n1.225e+006; "?"; "3"; x.\n"2"; b; 4; y\n')
    reading = Reading(("a", "b", "c", "k"), separator=";", na=("?",), skip_lines=1, strip=".")
    table = open_table(path, reading, target="k")
    assert (table.names, table.classes) == (["a", "b=b", "b=missing", "c"], ["x", "y"])
    assert whole(table) == ([[1225000, 0, 1, 3], [2, 1, 0, 4]], [0, 1])


# The task ----------------------------------------------------------------------------------------


def target(tmp_path, values, **options):
    path = tmp_path / "rows.csv"
    pd.DataFrame({"a": np.arange(len(values)), "y": values}).to_csv(path, index=False)
    return choose_task(open_table(path, target="y"), **options)


@pytest.mark.parametrize(
    ("values", "task", "classes"),
    [
        (["no", "yes", "no"], "classification", ["no", "yes"]),
        ([2, 10, 2, -1], "classification", ["-1", "2", "10"]),
        (list(range(20)), "classification", [str(i) for i in range(20)]),
        (list(range(21)), "regression", None),
        ([1.0, 2.0, 1.0], "classification", ["1", "2"]),
        ([1.0, 2.5, 1.0], "regression", None),
    ],
)
def test_the_task_follows_from_the_target(tmp_path, values, task, classes):
    settled, schema, _ = target(tmp_path, values)
    assert (settled, schema.classes) == (task, classes)


def test_the_task_may_be_said(tmp_path):
    assert target(tmp_path, [1, 2, 3], task="regression")[0] == "regression"
    many = list(range(30))
    _, schema, _ = target(tmp_path, many, task="classification")
    assert schema.classes == [str(i) for i in many]
    with pytest.raises(gd.DataError, match="'y' holds text, such as 'a', 'b', not numbers"):
        target(tmp_path, ["a", "b"], task="regression")
    with pytest.raises(gd.DataError, match="'y' holds fractions, but classes are text or whole"):
        target(tmp_path, [1.5, 2.0], task="classification")


def test_why_is_said_in_words(tmp_path):
    assert target(tmp_path, ["a", "b"])[2] == "which holds text"
    assert target(tmp_path, [0, 1])[2] == (
        "which holds 2 different whole numbers; if it is a quantity, pass --task regression"
    )
    assert target(tmp_path, range(30))[2] == "which holds more than 20 different whole numbers"
    assert target(tmp_path, [0.5, 1])[2] == "which holds fractions"


@pytest.mark.parametrize("values", [["a", "a"], [3, 3, 3]])
def test_a_target_of_one_class_teaches_nothing(tmp_path, values):
    with pytest.raises(gd.DataError, match=f"the target 'y' is '{values[0]}' in every row"):
        target(tmp_path, values)


@pytest.mark.parametrize(
    ("values", "task", "shown"),
    [
        ([3.5] * 3, None, "3.5"),
        ([3] * 3, "regression", "3"),
        ([0.1] * 3, None, "0.1"),
        ([-2.5e-7] * 9000, None, "-2.5e-07"),
    ],
)
def test_a_quantity_that_is_always_the_same_teaches_nothing(tmp_path, values, task, shown):
    with pytest.raises(gd.DataError, match=f"the target 'y' is '{shown}' in every row: nothing"):
        target(tmp_path, values, task=task)


def test_a_quantity_may_begin_with_many_equal_rows(tmp_path):
    # More than one piece of the file.
    assert target(tmp_path, [3.5] * 200_000 + [4.0])[0] == "regression"


def test_whole_numbers_that_become_one_as_fractions_are_refused(tmp_path):
    near = [10**9 + i for i in range(30)]
    with pytest.raises(gd.DataError, match=r"the target 'y' goes from 1000000000\.0 to .* float32"):
        target(tmp_path, near)
    assert target(tmp_path, near, task="classification")[0] == "classification"
    assert target(tmp_path, [10**9 + 1000 * i for i in range(30)])[0] == "regression"


def test_a_regression_takes_fractions_later_where_the_training_had_whole_numbers(tmp_path):
    _, schema, _ = target(tmp_path, range(30))
    path = tmp_path / "test.csv"
    path.write_text("y,a\n1.5,2\n")
    assert whole(open_table(path, schema=schema)) == ([[2]], [1.5])


# Messages about a file, and about its columns -----------------------------------------------------


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("said", "written", "words"),
    [
        (",", ";", "if ';' and not ',' separates columns, pass separator=';'"),
        (",", "\t", r"if '\t' and not ',' separates columns, pass separator='\t'"),
        (";", ",", "if ',' and not ';' separates columns, pass separator=','"),
        (",", "|", "pass separator='|'"),
    ],
)
def test_another_separator_is_seen(tmp_path, said, written, words, packed):
    path = tmp_path / ("rows.csv.gz" if packed else "rows.csv")
    FRAME.to_csv(path, index=False, sep=written)
    with pytest.raises(gd.DataError, match="there is no column 'y'; the columns are") as caught:
        open_table(path, Reading(separator=said), target="y")
    assert str(caught.value).endswith(words)
    assert open_table(path, Reading(separator=written), target="y").rows == 3


def test_another_separator_is_seen_without_a_header(tmp_path):
    path = tmp_path / "rows.csv"
    FRAME.to_csv(path, index=False, sep=";", header=False)
    with pytest.raises(gd.DataError, match=r"has 1 field, and the table has 3.*separator=';'$"):
        open_table(path, Reading(columns=("a", "color", "y")), target="y")
    path.write_text("by, hand; of course\n1;2\n3;4\n")
    advice = "there is no header, pass separator=';', header=False, target='2'$"
    with pytest.raises(gd.DataError, match=advice):
        open_table(path, Reading(skip_lines=1), target="y")


def test_no_separator_is_blamed_for_something_else(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("a;b,y\n1,2\n")
    with pytest.raises(gd.DataError) as caught:
        open_table(path, target="z")
    assert str(caught.value).endswith("there is no column 'z'; the columns are a;b, y")
    path.write_text("a;b\n1\n")
    with pytest.raises(gd.DataError, match=r"no column 'z'; the columns are a;b; if the fi"):
        open_table(path, target="z")
    path.write_text("y\n1\n")
    with pytest.raises(gd.DataError, match=r"no column is left to learn from$"):
        open_table(path, target="y")
    path.write_text("a;b;c\n1,2\n3,4\n")
    with pytest.raises(gd.DataError, match=r"; name all 2 columns with columns=\['A', 'B'\]$"):
        open_table(path, Reading(columns=("a", "b", "c"), skip_lines=1), target="c")
    path.write_bytes(b"\x89\tPNG\xea\t\n1\t2\n")
    with pytest.raises(gd.DataError, match=r"0x89 is not UTF-8; find out its encoding"):
        open_table(path, target="PNG")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_target_is_not_left_out(tmp_path, kind):
    path = tmp_path / f"rows.{kind}"
    FRAME.to_csv(path, index=False) if kind == "csv" else FRAME.to_parquet(path)
    with pytest.raises(gd.DataError, match="the target 'y' is among the columns to leave out: rem"):
        open_table(path, target="y", exclude=["a", "y"])
    assert open_table(path, target="y", exclude=["a"]).rows == 3


def test_a_target_in_an_array_of_its_own_is_not_left_out(tmp_path):
    for name in ("X", "y"):
        np.save(tmp_path / f"{name}.npy", np.ones((3, 1)))
    with pytest.raises(gd.DataError, match="the target 'y' is among the columns to leave out"):
        open_table(tmp_path / "X.npy", target=str(tmp_path / "y.npy"), exclude=["y"])


@pytest.mark.parametrize(
    ("kind", "reading", "option"),
    [
        ("parquet", Reading(na=("?",)), "--na"),
        ("pq", Reading(columns=("a", "b", "y")), "--columns"),
        ("parquet", Reading(separator=";"), "--separator"),
        ("npy", Reading(skip_lines=1), "--skip-lines"),
        ("npy", Reading(strip="."), "--strip"),
    ],
)
def test_what_is_of_no_use_for_a_file_is_refused(tmp_path, kind, reading, option):
    path = tmp_path / f"rows.{kind}"
    if kind == "npy":
        np.save(path, np.eye(3))
    else:
        FRAME.to_parquet(path)
    words = f"{option} says how a CSV is written, but .* is not a CSV"
    with pytest.raises(gd.DataError, match=words):
        open_table(path, reading, target="y")
