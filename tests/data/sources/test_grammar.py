"""The grammar of numbers and missing values, against what pandas, Arrow and Python accept."""

import io
import math

import numpy as np
import pandas as pd
import pytest
from budgets import examples
from hypothesis import example, given
from hypothesis import strategies as st

import minigd as gd
from minigd.data.tables.grammar import (
    USUAL_MISSING,
    MissingTexts,
    read_number,
    read_whole,
)

properties = examples(50)
cells = st.text(
    st.sampled_from("0123456789+-.eE_ ,xnaiftTrueNAIFls\t\v\f\u00a0\u202f１٣−"), max_size=8
)

NUMBERS = ["1", "+1", "-1", "007", "1.", ".5", "-.5e-3", "1E5", " 2", "2 ", "\t2", "2\u00a0"]
NUMBERS += ["\u202f2", "2\u2007", "\u00a02\u00a0", "1e400", "-1e-400", "inf", "-Infinity"]
MISSING = ["", " ", "NaN", "nan", "NAN", "Nan", "nAn", "-nan", "+NaN", " NAN ", *USUAL_MISSING]
TEXTS = ["1_000", "１２", "٣", "१", "1,5", "1 000", "1\u00a0000", "0x1A", "1e", "--1", "1-", "True"]
TEXTS += [
    "false",
    "−1",
    "$1",
    "5%",
    "?",
    ".",
    "-",
    "none",
    "Na",
    "x",
    "1e5.0",
    "1d5",
    "infin",
    "5L",
]


@pytest.mark.parametrize("text", NUMBERS)
def test_a_number_is_read_as_python_reads_it(text):
    assert read_number(text) == float(text.strip())


@pytest.mark.parametrize("text", TEXTS)
def test_what_is_no_number_and_not_missing_is_a_text(text):
    assert read_number(text) is None
    assert text not in MissingTexts()


@pytest.mark.parametrize("text", sorted(MISSING))
def test_a_missing_value_is_written_in_many_ways(text):
    assert text in MissingTexts()
    values, wrong = MissingTexts().to_numbers([text])
    assert math.isnan(values[0])
    assert not wrong[0]


def test_the_usual_words_are_those_of_pandas():
    from pandas._libs.parsers import STR_NA_VALUES

    assert {text for text in STR_NA_VALUES if text.strip("+-").lower() != "nan"} == {
        "",
        *USUAL_MISSING,
    }


@properties
@given(cells)
@example("0" * 400 + "1")
def test_python_reads_every_number_of_the_grammar_alike(text):
    value = read_number(text)
    if value is not None:
        assert value == float(text.strip()) or math.isnan(value)


@examples(50)
@given(st.lists(cells.filter(lambda text: '"' not in text), min_size=1, max_size=5))
@example(["True", "FALSE"])
@example(["1", "True"])
@example(["NAN", "1"])
@example(["\v5", "5\f"])
def test_a_file_is_read_by_the_grammar_and_not_by_the_parser(column):
    # In small blocks, the first rows hold only numbers, and all texts come later.
    lines = [*("7,1\n" for _ in range(6)), *(f'"{text}",1\n' for text in column)]
    missing = MissingTexts()
    expected = [math.nan if t.lstrip(" ") in missing else read_number(t) for t in column]
    for block_size in (16, 1 << 20):
        data = io.BytesIO(("a,b\n" + "".join(lines)).encode())
        options = {"missing": -4.0, "dtype": "float64", "block_size": block_size}
        if None in expected or any(map(math.isinf, expected)):
            with pytest.raises(gd.DataError):
                gd.CsvSource(data, **options)
        else:
            x, _ = gd.CsvSource(data, **options).take(slice(6, None))
            wanted = [-4.0 if math.isnan(value) else value for value in expected]
            np.testing.assert_array_equal(x[:, 0], wanted)


@properties
@given(st.integers(-(2**70), 2**70), st.sampled_from(["{}", "{}.0", " {}\u00a0", "{}."]))
def test_whole_numbers_keep_all_their_digits(value, form):
    assert read_whole(form.format(value)) == value


@pytest.mark.parametrize("text", ["0.5", "1e-3", "1e-400", "nan", "inf", "x", "", "1e300"])
def test_what_is_not_a_whole_number_is_none(text):
    assert read_whole(text) is None


def test_the_words_of_the_caller_come_beside_the_usual_ones_or_instead_of_them():
    beside, instead = MissingTexts(["?", -999]), MissingTexts(["?", "-999"], usual=False)
    for text in ("?", " ? ", "-999", "-999.0", "-9.99e2", ""):
        assert text in beside
        assert text in instead
    assert "NA" in beside
    assert "NA" not in instead
    assert "nan" not in instead
    # In a column of numbers, NaN is not a number in any case.
    assert math.isnan(instead.to_numbers(["nan"])[0][0])
    assert beside.is_usual("NA")
    assert not beside.is_usual("?")
    assert not MissingTexts(["NA"]).is_usual("NA")


def test_a_column_of_numbers_is_that_of_pandas_where_pandas_reads_it():
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=500) * 10.0 ** rng.integers(-300, 300, 500)
    texts = [repr(x) for x in numbers.tolist()]
    values, wrong = MissingTexts().to_numbers(texts)
    data = io.StringIO("\n".join(["a", *texts]))
    exact = {} if pd.__version__ >= "3.1" else {"float_precision": "round_trip"}
    np.testing.assert_array_equal(values, pd.read_csv(data, **exact)["a"])
    assert not wrong.any()


@pytest.mark.parametrize("word", ["9007199254740992", "9007199254740992.0", "9.007199254740992e15"])
def test_a_whole_number_that_means_missing_is_told_from_its_neighbors(word):
    texts = ["9007199254740991", "9007199254740992", "9007199254740993", "9007199254740992.00"]
    missing = MissingTexts([word])
    assert [text in missing for text in texts] == [False, True, False, True]
    values, wrong = missing.to_numbers(texts)
    assert np.isnan(values).tolist() == [False, True, False, True]
    assert not wrong.any()
    file = io.BytesIO("\n".join(["x,y", *(f"{text},{text}" for text in texts)]).encode() + b"\n")
    with_word = gd.CsvSource(file, target="y", na=[word], missing="drop", dtype="float64")
    assert (with_word.rows, with_word.dropped) == (2, 2)
    assert with_word.take(slice(0, 2))[1].tolist() == [9007199254740991, 9007199254740993]


@given(st.lists(st.sampled_from([*NUMBERS, *MISSING, *TEXTS, "-999", "-999.0", "\x1c1", "1\n"])))
def test_a_column_is_read_as_its_cells_are(texts):
    for missing in (MissingTexts(), MissingTexts(["-999", "x"]), MissingTexts(usual=False)):
        values, wrong = missing.to_numbers(texts)
        numbers = [math.nan if text in missing else read_number(text) for text in texts]
        assert wrong.tolist() == [number is None for number in numbers]
        expected = [math.nan if number is None else number for number in numbers]
        np.testing.assert_array_equal(values, np.array(expected, dtype=np.float64))
