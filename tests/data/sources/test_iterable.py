"""Rows from frames, dicts, tuples and Arrow batches, read again in every epoch.

An iterator is used once, and the second time is an error that says what to do.
"""

import datetime
import decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from budgets import examples
from hypothesis import given
from hypothesis import strategies as st

import minigd as gd

properties = examples(25)


def whole(source):
    xs, ys = zip(*source.chunks(), strict=True)
    return np.concatenate(xs), None if ys[0] is None else np.concatenate(ys)


def frame(n=10):
    colors = ["red", "green", "blue"]
    return pd.DataFrame(
        {"a": np.arange(n) / 4, "color": [colors[i % 3] for i in range(n)], "y": np.arange(n)}
    )


def slices(n, sizes):
    """Return slices that cut n rows into pieces of these sizes, over and over."""
    start = 0
    while start < n:
        for size in sizes:
            yield slice(start, min(start + size, n))
            start += size


KINDS = {
    "frame": lambda part: part,
    "dict": lambda part: part.to_dict("list"),
    "dict of arrays": lambda part: {c: part[c].to_numpy() for c in part},
    "table": lambda part: pa.Table.from_pandas(part, preserve_index=False),
    "batch": lambda part: pa.RecordBatch.from_pandas(part, preserve_index=False),
    "categorical": lambda part: part.astype({"color": "category"}),
    "object": lambda part: part.astype(object),
    "shuffled index": lambda part: part.set_index(part["y"].to_numpy()[::-1]),
}


# Pieces ------------------------------------------------------------------------------------------


@pytest.mark.few
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sizes", [[10], [3], [1], [4, 1]])
def test_tables_of_any_kind_give_the_same_rows(kind, sizes):
    rows = frame()
    pieces = [KINDS[kind](rows[s]) for s in slices(10, sizes) if s.start < 10]
    source = gd.IterableSource(pieces, target="y")
    assert source.rows == 10
    x, y = whole(source)
    expected = pd.get_dummies(rows[["a", "color"]], dtype=float).to_numpy(dtype="float32")
    np.testing.assert_array_equal(x, expected)
    assert (x.dtype, y.dtype) == (np.float32, np.int64)
    assert y.tolist() == list(range(10))


@properties
@given(st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_tuples_come_as_they_are(sizes):
    x, y = np.arange(40.0).reshape(20, 2), np.arange(20)
    pieces = [(x[s], y[s]) for s in slices(20, sizes) if s.start < 20]
    source = gd.IterableSource(pieces)
    for _ in range(2):
        own_x, own_y = whole(source)
        np.testing.assert_array_equal(own_x, x)
        np.testing.assert_array_equal(own_y, y)
    for start in range(20):
        assert [v for _, part in source.chunks(start) for v in part] == list(range(start, 20))


def test_x_alone_and_lists():
    source = gd.IterableSource([([[1, 2]],), ([[3, 4], [5, 6]],)])
    x, y = whole(source)
    assert x.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert y is None
    assert source.count() == 3


def test_options_are_those_of_a_csv():
    rows = frame().assign(when="2020-01-01")
    source = gd.IterableSource(
        [rows[:5], rows[5:]],
        target="color",
        features=["y", "a"],
        classes=["red", "green", "blue"],
        dtype="float64",
    )
    x, y = whole(source)
    np.testing.assert_array_equal(x, rows[["y", "a"]])
    assert y.tolist() == [i % 3 for i in range(10)]
    assert gd.IterableSource([rows]).names[-1] == "when year"
    with pytest.raises(gd.DataError, match="there is no column 'z'"):
        gd.IterableSource([rows], target="z")
    with pytest.raises(ValueError, match="missing must be 'error', 'drop', 'category', 'mean'"):
        gd.IterableSource([rows], target="y", missing="ignore")


def test_numbers_may_be_categories():
    # Whole numbers have the same text, whether a piece holds them as integers or as floats.
    pieces = [{"a": [1, 2], "grade": [3, 1]}, {"a": [1, 2], "grade": [2.0, np.nan]}]
    source = gd.IterableSource(pieces, categories={"grade": [1, 2, 3]}, missing=0.0)
    assert whole(source)[0][:, 1:].tolist() == [[0, 0, 1], [1, 0, 0], [0, 1, 0], [0, 0, 0]]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pd.array([1, None, 3], dtype="Int64"), [1, -1, 3]),
        (pd.array([1.5, None, 3], dtype="Float32"), [1.5, -1, 3]),
        (pd.array([True, None, False], dtype="boolean"), [1, -1, 0]),
        ([True, None, False], [1, -1, 0]),
        ([decimal.Decimal("1.5"), None, decimal.Decimal(2)], [1.5, -1, 2]),
        ([1, None, 2.5], [1, -1, 2.5]),
    ],
)
def test_numbers_with_gaps_are_numbers(values, expected):
    rows = pd.DataFrame({"a": values, "b": [1, 2, 3]})
    for pieces in ([rows], [rows[:1], rows[1:]], [rows[:2], rows[2:]]):
        source = gd.IterableSource(pieces, missing=-1.0)
        assert whole(source)[0][:, 0].tolist() == expected


def test_a_gap_among_whole_numbers_of_many_digits_is_filled():
    source = gd.IterableSource([{"id": [2**60, None], "y": [0.5, 1.5]}], "y", missing=-1)
    ((x, _),) = source.chunks()
    assert x.tolist() == [[2**60], [-1]]
    frame = pd.DataFrame({"id": pd.array([1, 2**60 + 1, None], dtype="Int64")})
    schema = gd.IterableSource([frame[:2]]).schema
    with pytest.raises(gd.DataError, match="row 2, column 'id': the value is missing"):
        gd.IterableSource([frame], schema=schema)


@pytest.mark.parametrize(
    ("late", "names"),
    [
        (pd.Series([3, 4], dtype="category"), ["a=1", "a=3", "a=4"]),
        (pd.Series([None, None], dtype="string"), ["a"]),
        (pd.Series([None, None], dtype="category"), ["a"]),
    ],
)
def test_a_piece_may_be_of_another_dtype(late, names):
    pieces = [pd.DataFrame({"a": [1.0]}), pd.DataFrame({"a": late})]
    assert gd.IterableSource(pieces, missing=0.0).names == names


def test_what_comes_late_is_settled_from_the_start():
    pieces = [{"a": [1], "y": [2]}, {"a": ["x"], "y": [2.5]}, {"a": [None], "y": [3]}]
    source = gd.IterableSource(pieces, target="y", missing=0.0)
    x, y = whole(source)
    assert x.tolist() == [[1, 0], [0, 1], [0, 0]]
    assert y.tolist() == [2, 2.5, 3]


def test_dates_become_numbers():
    for first in (pd.Timestamp("2020-01-01"), datetime.date(2020, 1, 1)):
        rows = pd.DataFrame({"a": [1, 2], "when": [first, first + datetime.timedelta(3)]})
        source = gd.IterableSource([rows])
        assert source.names == ["a", "when day of week", "when days"]
        assert whole(source)[0].tolist() == [[1, 2, 0], [2, 5, 3]]


@pytest.mark.parametrize("values", [pd.Categorical([2.0, 1.0, 2.0]), ["x", 1.0, "x"]])
def test_a_category_that_is_a_whole_float_is_written_as_in_a_file(values):
    source = gd.IterableSource([pd.DataFrame({"c": values, "y": [1, 2, 3]})], target="y")
    assert source.names == ["c=1", f"c={'x' if 'x' in list(values) else 2}"]
    assert whole(source)[0].argmax(axis=1).tolist() == [1, 0, 1]


def test_a_duration_is_all_of_its_seconds():
    times = pd.to_timedelta(["1.5 s", "2 days", "-1 s"])
    x, _ = whole(gd.IterableSource([pd.DataFrame({"t": times, "y": [1, 2, 3]})], target="y"))
    assert x[:, 0].tolist() == [1.5, 172_800, -1]


def test_missing_values_are_named_dropped_or_filled():
    rows = frame()
    rows.loc[[2, 7], "a"] = np.nan
    rows.loc[4, "color"] = None
    pieces = [rows[:3], rows[3:]]
    with pytest.raises(gd.DataError, match="the iterable, row 2, column 'a': the value is missing"):
        whole(gd.IterableSource(pieces, target="y"))
    with pytest.raises(gd.DataError, match="the iterable, row 5, column 'a': the value is missing"):
        gd.IterableSource([frame()[:3], rows[5:]], target="y")
    source = gd.IterableSource(pieces, target="y", missing="drop")
    assert (source.rows, source.dropped) == (7, 3)
    assert whole(source)[1].tolist() == [0, 1, 3, 5, 6, 8, 9]
    filled = whole(gd.IterableSource(pieces, target="y", missing=9.0))[0]
    assert filled[[2, 7], 0].tolist() == [9, 9]
    assert filled[4].tolist() == [1, 0, 0, 0]


def test_the_pieces_given_are_not_changed():
    rows = frame()
    before = rows.copy()
    whole(gd.IterableSource([rows], target="y"))
    pd.testing.assert_frame_equal(rows, before)


# Rows one by one ---------------------------------------------------------------------------------


class Tensor:
    """An array of another library, like PyTorch's."""

    def __init__(self, values, grad=False):
        self._values, self._grad = np.asarray(values), grad

    shape = property(lambda self: self._values.shape)
    ndim = property(lambda self: self._values.ndim)

    def __len__(self):
        return len(self._values)

    def __getitem__(self, index):
        return Tensor(self._values[index])

    def __iter__(self):
        return (Tensor(value) for value in self._values)

    def item(self):
        return self._values.item()

    def __array__(self, dtype=None, copy=None):
        if self._grad:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad.")
        return self._values.astype(dtype or self._values.dtype)


class Dataset:
    """Rows by number, like PyTorch's: it has neither an iterator nor an end."""

    def __init__(self, n, make):
        self._n, self._make = n, make

    def __len__(self):
        return self._n

    def __getitem__(self, index):
        assert 0 <= index < self._n
        return self._make(index)


class Loader:
    """Batches of a data set as lists of tensors, like PyTorch's; each pass is a new iterator."""

    def __init__(self, x, y, size):
        self._x, self._y, self._size = x, y, size

    def __iter__(self):
        for start in range(0, len(self._x), self._size):
            rows = slice(start, start + self._size)
            yield [Tensor(self._x[rows]), Tensor(self._y[rows])]


X, Y = np.arange(60.0).reshape(30, 2) / 8, np.arange(30) % 3
OF_ROWS = {
    "pairs": lambda: [(X[i], Y[i]) for i in range(30)],
    "pairs of lists": lambda: [(X[i].tolist(), int(Y[i])) for i in range(30)],
    "lists": lambda: [[X[i].tolist(), int(Y[i])] for i in range(30)],
    "tensors": lambda: [(Tensor(X[i]), Tensor(Y[i])) for i in range(30)],
    "a data set": lambda: Dataset(30, lambda i: (Tensor(X[i]), Y[i])),
    "a data set of tensors": lambda: Dataset(30, lambda i: (Tensor(X[i]), Tensor(Y[i]))),
    "a loader": lambda: Loader(X, Y, 7),
    "a generator": lambda: lambda: ((X[i], Y[i]) for i in range(30)),
    "rows and pieces": lambda: [(X[0], Y[0]), (X[1:9], Y[1:9]), *zip(X[9:], Y[9:], strict=True)],
}


@pytest.mark.parametrize("kind", OF_ROWS)
def test_rows_with_their_targets_are_those_of_arrays(kind):
    source = gd.IterableSource(OF_ROWS[kind]())
    for _ in range(2):
        x, y = whole(source)
        np.testing.assert_array_equal(x, X)
        np.testing.assert_array_equal(y, Y)
        assert (x.dtype, y.dtype.kind) == (np.float64, "i")
    assert [v for _, part in source.chunks(17) for v in part] == Y[17:].tolist()


RECORDS = {
    "dicts": lambda rows: rows.to_dict("records"),
    "dicts of scalars of NumPy": lambda rows: [dict(r) for _, r in rows.astype(object).iterrows()],
    "dicts of tensors": lambda rows: [
        {k: v if isinstance(v, str) else Tensor(v) for k, v in r.items()}
        for r in rows.to_dict("records")
    ],
    "lists of dicts": lambda rows: [rows[:4].to_dict("records"), rows[4:].to_dict("records")],
    "a data set": lambda rows: Dataset(len(rows), lambda i: rows.iloc[i].to_dict()),
    "rows and tables": lambda rows: [*rows[:3].to_dict("records"), rows[3:]],
    "a loader": lambda rows: [
        {k: list(p[k]) if k == "color" else Tensor(p[k]) for k in p} for p in (rows[:6], rows[6:])
    ],
}


@pytest.mark.parametrize("kind", RECORDS)
def test_rows_as_dicts_are_those_of_a_frame(kind):
    rows = frame()
    source = gd.IterableSource(RECORDS[kind](rows), target="y")
    right = gd.FrameSource(rows, target="y")
    assert source.names == right.names
    for own, expected in zip(whole(source), whole(right), strict=True):
        assert own.dtype == expected.dtype
        np.testing.assert_array_equal(own, expected)


def test_a_row_without_a_key_lacks_a_value():
    rows = [{"a": 2**60 + 1, "b": "u"}, {"b": "v"}, {"a": None, "b": "u"}]
    with pytest.raises(gd.DataError, match="the iterable, row 1, column 'a': the value is missing"):
        gd.IterableSource(rows)
    ((_, y),) = gd.IterableSource(rows, target="a", missing="drop").chunks()
    assert y.tolist() == [2**60 + 1]
    late = [{"a": 1}] * 1024 + [{"a": 1, "c": 2}]
    with pytest.raises(gd.DataError, match="a row has a column 'c' that the first rows lack"):
        gd.IterableSource(late)


@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        ([(X[0], 1), (np.zeros(3), 2)], "gives rows of 2 and of 3 numbers"),
        ([(X[0], 1), (X[1],)], "gives rows with a target and rows without one"),
        ([(X[0], "red")], "y must hold numbers"),
        ([({"a": 1.0}, 2)], "gives a tuple of a dict.*name the target"),
        ([(X, Tensor(Y, grad=True))], "y can't be converted to"),
        ([[X, Y, Y]], r"gives list, not \(x, y\)"),
        ([{"a": object()}], "column 'a' holds values of type object"),
        ([object()], "gives object; a piece is"),
        (Dataset(3, lambda i: "text"), "gives str; a piece is"),
    ],
)
def test_rows_that_are_none(pieces, message):
    with pytest.raises(gd.DataError, match=message):
        whole(gd.IterableSource(pieces))


@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        (3, "pieces must be an iterable or a function, not 3"),
        (None, "pieces must be an iterable or a function, not None"),
        ("rows.csv", "pieces must be an iterable or a function, not 'rows.csv'"),
        (frame(), "DataFrame is one table: use FrameSource"),
        ({"a": [1.0]}, "dict is one table: use FrameSource"),
        (pa.table({"a": [1.0]}), "Table is one table: use FrameSource"),
        (lambda epoch: [], "called without arguments, but needs some"),
        (lambda: None, "returned None: it must return an iterable of pieces"),
        (lambda: 3, "returned 3: it must return an iterable of pieces"),
    ],
)
def test_what_gives_no_pieces_is_refused_in_words(pieces, message):
    with pytest.raises(TypeError, match=message):
        whole(gd.IterableSource(pieces))


# Once, and again ---------------------------------------------------------------------------------


class Opened:
    """A function whose passes are counted: those begun, and those that were closed."""

    def __init__(self, pieces):
        self._pieces, self.begun, self.closed = pieces, 0, 0

    def __call__(self):
        self.begun += 1
        return self._read()

    def _read(self):
        try:
            yield from self._pieces
        finally:
            self.closed += 1


@pytest.mark.parametrize("kind", ["arrays", "rows", "tables", "dicts"])
def test_a_function_is_called_once_for_each_pass(kind):
    pieces = {
        "arrays": [(X[:9], Y[:9]), (X[9:], Y[9:])],
        "rows": list(zip(X, Y, strict=True)),
        "tables": [frame()[:4], frame()[4:]],
        "dicts": frame().to_dict("records"),
    }[kind]
    is_table = kind in ("tables", "dicts")
    opened = Opened(pieces)
    source = gd.IterableSource(opened, target="y" if is_table else None)
    # The first pass over a table, or the look that shows that it is not a table.
    assert (opened.begun, opened.closed) == (1, int(is_table))
    for epoch in range(3):
        whole(source)
        assert opened.begun == opened.closed == epoch + 1 + is_table
    for _ in source.chunks():
        break
    assert opened.begun == opened.closed == 4 + is_table


def test_texts_that_come_late_begin_the_first_pass_once_more():
    opened = Opened([{"a": [1], "y": [2]}, {"a": ["x"], "y": [3]}])
    gd.IterableSource(opened, target="y")
    assert opened.begun == opened.closed == 2


def test_what_fails_is_closed():
    for pieces in ([], [{"a": [[1]]}], [(X, Y), (X[:, :1], Y)]):
        opened = Opened(pieces)
        with pytest.raises(gd.DataError):
            whole(gd.IterableSource(opened))
        assert opened.begun == opened.closed > 0


def test_a_function_may_keep_what_it_returns():
    kept = []

    def make():
        kept.append(iter([(X, Y)]))
        return kept[-1]

    source = gd.IterableSource(make)
    for _ in range(3):
        np.testing.assert_array_equal(whole(source)[1], Y)


def made():
    for i in range(5):
        yield np.array([[float(i)], [i + 0.5]]), np.array([i, i])


def test_a_generator_is_good_for_one_epoch_and_says_how_to_have_more():
    trainer = gd.Trainer(gd.Sequential([gd.Dense(1)], inputs=1), "mse", gd.SGD(0.01))
    trainer.fit(gd.Batches(gd.IterableSource(made()), batch_size=3))
    assert (trainer.epoch, trainer.updates) == (1, 4)
    again = gd.Trainer(gd.Sequential([gd.Dense(1)], inputs=1), "mse", gd.SGD(0.01))
    with pytest.raises(gd.DataError, match=r"read only once.*pass a function.*lambda"):
        again.fit(gd.Batches(gd.IterableSource(made()), batch_size=3), epochs=2)
    assert (again.epoch, again.updates) == (1, 4)
    np.testing.assert_array_equal(again.model.flat_params, trainer.model.flat_params)


def test_a_function_is_good_for_every_epoch():
    source = gd.IterableSource(made)
    model = gd.Sequential([gd.Dense(1)], inputs=1)
    history = model.fit(source, loss="mse", batch_size=3, epochs=3, shuffle=False)
    assert len(history["loss"]) == 3


def test_a_function_that_gives_the_same_generator_again_is_found_out():
    # The first look at it would lose its first piece.
    once = made()
    with pytest.raises(gd.DataError, match="returns the same iterator each time"):
        gd.IterableSource(lambda: once)


def test_a_generator_of_tables_needs_a_function():
    with pytest.raises(gd.DataError, match=r"needs a first pass.*pass a function"):
        gd.IterableSource((frame() for _ in range(2)), target="y")
    assert gd.IterableSource(lambda: (frame() for _ in range(2)), target="y").rows == 20


# Refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        ([], "the iterable gives no rows"),
        ([(np.zeros((0, 2)), np.zeros(0))], "the iterable gives no rows"),
        ([3], "gives int; a piece is a tuple"),
        (["text"], "gives str; a piece is a tuple"),
        ([[[1.0]]], "gives list; a piece is a tuple"),
        ([np.zeros((2, 2))], "gives ndarray; a piece is a tuple"),
        ([(np.zeros((2, 1)), np.zeros(2)), {"a": [1]}], r"gives dict, not \(x, y\)"),
        ([{"a": [1]}, (np.zeros((2, 1)),)], "gives tuple; a piece"),
        ([(np.zeros((2, 1)), np.zeros(2), np.zeros(2))], r"gives tuple, not \(x, y\)"),
        ([(np.zeros((2, 1)), np.zeros(3))], "gives 2 rows of x with 3 of y"),
        ([(np.zeros(2), np.zeros(2))], "x must be a table"),
        ([(np.zeros((2, 1)),), (np.zeros((2, 2)),)], r"shapes \[\(1,\)\] of the first piece"),
        ([(np.zeros((2, 1)), np.zeros(2)), (np.zeros((2, 1)),)], r"of the first piece"),
        ([(np.array([["a"]]),)], "x must hold numbers"),
        ([(np.zeros((1, 1)), np.array(["a"]))], "y must hold numbers"),
        ([{"a": [1], "b": [2]}, {"a": [1]}], "a piece has no column 'b'; its columns are a"),
        ([pd.DataFrame([[1, 2]], columns=["a", "a"])], "two columns are called 'a'"),
    ],
)
def test_pieces_that_are_none(pieces, message):
    with pytest.raises(gd.DataError, match=message):
        whole(gd.IterableSource(pieces))


def test_columns_may_come_in_another_order_and_with_others_between():
    source = gd.IterableSource([{"a": [1], "b": [2]}, {"c": ["?"], "b": [4], "a": [3]}])
    assert whole(source)[0].tolist() == [[1, 2], [3, 4]]


def test_pieces_that_change_from_epoch_to_epoch():
    for piece in ({"a": [1.0, 2.0]}, (np.ones((2, 1)),)):
        pieces = [piece] * 3
        source = gd.IterableSource(pieces)
        whole(source)
        source.count()
        pieces.append(piece)
        with pytest.raises(gd.DataError, match="gave 6 rows at first and now gives 8"):
            whole(source)


# Fingerprints ------------------------------------------------------------------------------------


@properties
@given(st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_the_fingerprint_does_not_depend_on_the_pieces(sizes):
    x, y = np.arange(40.0).reshape(20, 2), np.arange(20)
    pieces = [(x[s], y[s]) for s in slices(20, sizes) if s.start < 20]
    assert gd.IterableSource(pieces).fingerprint() == gd.IterableSource([(x, y)]).fingerprint()


def test_one_changed_value_shows_in_the_fingerprint_wherever_it_is():
    x, y = np.zeros((5000, 1)), np.zeros(5000)
    prints = {str(gd.IterableSource([(x, y)]).fingerprint())}
    for row in (0, 2500, 4999):
        for array in (x, y):
            array[row] = 1
            prints.add(str(gd.IterableSource([(x, y)]).fingerprint()))
            array[row] = 0
    assert len(prints) == 7


@pytest.mark.parametrize(
    "columns",
    [{"a": [1.0, 2.0], "y": [1.0]}, {"a": np.ones((2, 2)), "y": [1.0, 2.0]}],
)
@pytest.mark.parametrize("late", [False, True])
def test_a_dict_that_is_no_table_is_refused(columns, late):
    pieces = [{"a": [1.0, 2.0], "y": [1.0, 2.5]}] * late + [columns]
    with pytest.raises(gd.DataError, match="the iterable gives a dict that is not a table"):
        gd.IterableSource(pieces, target="y")


def test_frames_in_tuples_are_numbers_as_elsewhere():
    dummies = pd.get_dummies(pd.DataFrame({"size": [1.5, 2.0], "color": ["red", "blue"]}))
    half = pd.Series([0.5, 1.5], dtype="float16")
    ((x, y),) = gd.IterableSource([(dummies, half)]).chunks()
    assert x.tolist() == [[1.5, 0.0, 1.0], [2.0, 1.0, 0.0]]
    assert y.tolist() == [0.5, 1.5]
    text = pd.DataFrame({"size": [1.5], "color": ["red"]})
    with pytest.raises(gd.DataError, match="x must hold numbers, and its column 'color' is"):
        list(gd.IterableSource([(text, np.ones(1))]).chunks())
