"""The compiled parser of plain numbers: the bits of the grammar, or none at all."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigd as gd
from minigd.data.sources import csv_parser, plain_numbers
from minigd.data.sources.plain_numbers import _parse, is_worth, parse_plain
from minigd.data.tables.grammar import read_number

pytest.importorskip("numba")

PLAIN = ["0", "-0", "+1", "007", "1.", ".5", "-.25", "12.50", "9007199254740992", "0.1", "-3.14159",
         "1234567890.123456", "0.000000000000000001", "123456789012345.6"]  # fmt: skip
OTHERS = ["", ".", "-", "+-1", "1e3", "nan", "inf", " 1", "1 ", '"1"', "1_0", "1,5", "x", "1.2.3",
          "9007199254740993", "12345678901234567890", "0.0000000000000000001", "\t1"]  # fmt: skip
KEPT = np.array([1, -1, 0])


@pytest.fixture(autouse=True)
def for_all_sizes(monkeypatch):
    monkeypatch.setattr(plain_numbers, "WORTH_USING", 0)
    monkeypatch.setattr(plain_numbers, "WORTH_IMPORTING", 0)


def parse(cells, end="\n", separator=";"):
    """Return rows of three columns after parsing; the middle one is not in use."""
    text = "".join(separator.join(row) + end for row in cells)
    return parse_plain(text.encode(), separator.encode(), KEPT, len(cells))


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("cell", PLAIN)
def test_plain_numbers_have_the_bits_of_the_grammar(cell, end):
    expected = read_number(cell)
    table = parse([[cell, "red", "1"], ["2", "", cell]], end)
    assert table.tobytes() == np.array([[1.0, expected], [expected, 2.0]]).tobytes()


@pytest.mark.parametrize("cell", OTHERS)
def test_whatever_else_there_is_is_left_to_the_parser_of_all(cell):
    assert parse([["1", "", "2"], [cell, "", "1"]]) is None
    assert parse([["1", "", "2"], ["1", "", cell]]) is None


@pytest.mark.parametrize(
    "data",
    [b"1;2\n", b"1;2;3;4\n", b"1;2;3", b"1;2;3\n\n", b"\n1;2;3\n", b'1;"\n";3\n', b"1\n2;3\n",
     b"\xef\xbb\xbf1;2;3\n", b"1;2;3\n4;5;6\n", b"", b"1;\r2;3\n", b"1;2\r;3\n", b"1;2;3\r\r\n"],
)  # fmt: skip
def test_rows_of_another_form_are_left_to_it_too(data):
    assert parse_plain(data, b";", KEPT, 1) is None


@pytest.mark.parametrize("separator", [b".", b"-", b"+", b"7", b" \t"])
def test_separators_that_may_be_in_a_number_are_left_to_it(separator):
    assert parse_plain(separator.join([b"1"] * 3) + b"\n", separator, KEPT, 1) is None


decimals = st.builds(
    lambda sign, whole, fraction: f"{sign}{whole}{'.' if fraction else ''}{fraction}",
    st.sampled_from(["", "-", "+"]),
    st.integers(0, 10**12).map(str),
    st.text("0123456789", max_size=9),
)


@given(st.lists(st.tuples(decimals, decimals), min_size=1, max_size=20))
def test_it_agrees_with_python_to_the_bit_or_gives_nothing(rows):
    table = parse([[a, "", b] for a, b in rows])
    expected = np.array([[float(b), float(a)] for a, b in rows])
    digits = max(sum(c.isdigit() for c in cell) for row in rows for cell in row)
    assert table is None or table.tobytes() == expected.tobytes()
    assert table is not None or digits > 15


@given(st.binary(max_size=40).map(lambda data: data + b"\n"))
def test_any_bytes_are_read_within_their_bounds(data):
    # Without compilation, an index beyond the end is an error.
    table = np.empty((max(1, data.count(b"\n")), 2))
    bytes_ = np.frombuffer(data, np.uint8)
    with np.errstate(over="ignore"):
        _parse(bytes_, ord(";"), KEPT, table, plain_numbers._POWERS)


@pytest.mark.parametrize("na", [[], ["-1"], ["?"]])
def test_a_table_is_the_same_with_it_and_without(tmp_path, monkeypatch, na):
    rng = np.random.default_rng(1)
    lines = [
        f"{a:.4f},{k % 5 - 2},t{k},{b:.2f}" for k, (a, b) in enumerate(rng.normal(size=(90, 2)))
    ]
    lines[70] = "1e-3,1,t,2"
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(["a,k,t,y", *lines]) + "\n")
    options = {"target": "y", "exclude": ["t"], "na": na, "missing": "drop", "block_size": 500}
    used = []
    monkeypatch.setattr(
        csv_parser, "parse_plain", lambda *given: used.append(parse_plain(*given)) or used[-1]
    )
    x, y = gd.CsvSource(path, **options).take(slice(None))
    found = [table is not None for table in used]
    assert (any(found) and not all(found)) if na != ["-1"] else not used
    monkeypatch.setattr(csv_parser, "is_worth", lambda size: False)
    expected = gd.CsvSource(path, **options).take(slice(None))
    assert (x.tobytes(), y.tobytes()) == tuple(array.tobytes() for array in expected)


def test_it_is_not_used_where_numba_compiles_nothing(monkeypatch):
    import numba

    assert is_worth(1)
    plain_numbers._compiled.cache_clear()
    monkeypatch.setattr(numba.config, "DISABLE_JIT", True)
    assert parse_plain(b"1;2;3\n", b";", KEPT, 1) is None
    plain_numbers._compiled.cache_clear()


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("bad", ["1;2", "1;2;3;4", "1;t\rt;3", '1;"t";3', "", "1;t;x", "\r"])
def test_lines_and_refusals_are_the_same_with_it_and_without(tmp_path, monkeypatch, bad, end):
    path = tmp_path / "rows.csv"
    rows = [f"{k};t{k};{k / 4}" for k in range(60)]
    rows[41:41] = [bad]
    path.write_bytes(end.join(["a;t;y", *rows, ""]).encode())
    found = []
    for worth in (True, False):
        monkeypatch.setattr(csv_parser, "is_worth", lambda size, worth=worth: worth)
        try:
            options = {"target": "y", "exclude": ["t"], "separator": ";", "block_size": 100}
            source = gd.CsvSource(path, **options)
            found.append((source.rows, source.places(np.array([0, 50])), source.take([50])))
        except gd.DataError as error:
            found.append(str(error))
    assert repr(found[0]) == repr(found[1])
