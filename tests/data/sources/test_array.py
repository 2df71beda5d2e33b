"""Rows from arrays: taken by slice or by number, on any device.

Anything but a table of finite numbers is refused, with the place of the problem.
"""

import numpy as np
import pandas as pd
import pytest
from budgets import examples
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

import minigd as gd


def table(n=23):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 3)), rng.normal(size=n)


def test_arrays_are_held_and_not_copied():
    x, y = table()
    source = gd.ArraySource(x, y)
    assert source.x is x
    assert source.y is y
    assert source.rows == 23


def test_a_slice_gives_views(backend):
    x, y = (backend.asarray(a) for a in table())
    own_x, own_y = gd.ArraySource(x, y).take(slice(5, 9))
    own_x[...] = 0
    own_y[...] = 0
    assert float(abs(x[5:9]).max()) == 0
    assert float(abs(y[5:9]).max()) == 0
    assert float(abs(x[:5]).min()) > 0


@examples(25)
@given(st.lists(st.integers(0, 22), min_size=1, max_size=30))
def test_numbers_give_copies_of_these_rows(rows):
    x, y = table()
    own_x, own_y = gd.ArraySource(x, y).take(np.array(rows))
    assert own_x.tolist() == [x[i].tolist() for i in rows]
    assert own_y.tolist() == [float(y[i]) for i in rows]
    assert not np.shares_memory(own_x, x)


def test_rows_are_gathered_where_they_are(backend):
    x, y = table()
    source = gd.ArraySource(backend.asarray(x), backend.asarray(y))
    own_x, own_y = source.take(np.array([7, 2, 7]))
    assert backend.holds(own_x)
    np.testing.assert_array_equal(backend.to_numpy(own_x), x[[7, 2, 7]])
    np.testing.assert_array_equal(backend.to_numpy(own_y), y[[7, 2, 7]])


@pytest.mark.parametrize("dtype", ["float64", "float32", "int16", "uint8", "bool"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_dtype_and_values_stay_as_given(dtype, order):
    x = np.array([[0, 1], [1, 0], [1, 1]], dtype=dtype, order=order)
    for rows in (slice(1, 3), np.array([1, 2])):
        own, none = gd.ArraySource(x).take(rows)
        assert own.dtype == dtype
        assert none is None
        np.testing.assert_array_equal(own, x[1:])


# Fingerprints ------------------------------------------------------------------------------------


def test_equal_data_have_equal_fingerprints(backend):
    x, y = table()
    print_of = gd.ArraySource(x, y).fingerprint()
    assert gd.ArraySource(x.copy(), y.copy()).fingerprint() == print_of
    assert gd.ArraySource(np.asfortranarray(x), y).fingerprint() == print_of
    assert gd.ArraySource(backend.asarray(x), backend.asarray(y)).fingerprint() == print_of


def test_one_changed_value_shows():
    x, y = table()
    prints = {gd.ArraySource(x, y).fingerprint()["sha256"]}
    for i, j in np.ndindex(x.shape):
        other = x.copy()
        other[i, j] += 1e-12
        prints.add(gd.ArraySource(other, y).fingerprint()["sha256"])
    for i in range(len(y)):
        other = y.copy()
        other[i] += 1e-12
        prints.add(gd.ArraySource(x, other).fingerprint()["sha256"])
    assert len(prints) == 1 + x.size + y.size


def test_shape_and_dtype_show():
    x, y = table()
    print_of = gd.ArraySource(x, y).fingerprint()
    for other in [
        gd.ArraySource(x),
        gd.ArraySource(x, y[:, None]),
        gd.ArraySource(x.astype("float32"), y),
        gd.ArraySource(x[:-1], y[:-1]),
    ]:
        assert other.fingerprint() != print_of


def test_the_ends_of_many_rows_are_sampled():
    x = np.zeros((100_000, 1))
    print_of = gd.ArraySource(x).fingerprint()
    for i in (0, -1):
        other = x.copy()
        other[i] = 1
        assert gd.ArraySource(other).fingerprint() != print_of


# Refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("given_y", "length"), [(np.zeros(4), "4"), (np.float64(1), "no")])
def test_x_and_y_of_different_lengths(given_y, length):
    message = f"x has 3 rows and y has {length}: each row of x needs one of y"
    with pytest.raises(gd.ShapeError, match=message):
        gd.ArraySource(np.zeros((3, 2)), given_y)


def test_a_row_of_numbers_is_no_table():
    with pytest.raises(gd.ShapeError, match=r"x has shape \(3,\).*x.reshape\(-1, 1\) makes a col"):
        gd.ArraySource(np.zeros(3))
    with pytest.raises(gd.ShapeError, match=r"x has shape \(3, 2, 2\), but a table of rows"):
        gd.ArraySource(np.zeros((3, 2, 2)))


@pytest.mark.parametrize("shape", [(0, 2), (2, 0)])
def test_empty_tables(shape):
    with pytest.raises(gd.DataError, match="there is nothing to train on"):
        gd.ArraySource(np.zeros(shape))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nan_and_infinity_are_placed(backend, bad, dtype):
    x, y = np.zeros((5, 3), dtype), np.zeros(5, dtype)
    x[3, 1] = bad
    with pytest.raises(gd.DataError, match=f"x holds {bad} at row 3, column 1 .counted from 0"):
        gd.ArraySource(backend.asarray(x), backend.asarray(y))
    x[3, 1], y[4] = 0, bad
    with pytest.raises(gd.DataError, match=f"y holds {bad} at row 4 .counted from 0"):
        gd.ArraySource(backend.asarray(x), backend.asarray(y))


def test_the_largest_finite_numbers_are_no_infinity():
    # The sum of their squares overflows; a quick check must not mistake that for an infinity.
    gd.ArraySource(np.full((5, 3), np.finfo("float32").max, "float32"))


@pytest.mark.parametrize(
    ("x", "remedy"),
    [
        ([["a", "b"], ["c", "d"]], "encode text"),
        (np.array([[1, None], [2, 3]]), "encode text"),
        (np.array([["2020-01-01"]], dtype="datetime64[D]"), "converts times to seconds"),
        (np.zeros((2, 2), "complex128"), "keep the real part"),
    ],
)
def test_what_is_no_number_is_refused_with_its_dtype(x, remedy):
    with pytest.raises(gd.DataError, match=f"x must hold numbers, but its dtype is .*{remedy}"):
        gd.ArraySource(x)


def test_text_as_targets_is_refused():
    with pytest.raises(gd.DataError, match=r"y must hold numbers.*the first value is str.*'yes'"):
        gd.ArraySource(np.zeros((2, 1)), np.array(["yes", "no"]))


def test_ragged_rows_are_refused():
    with pytest.raises(gd.DataError, match="x can't be converted to an array"):
        gd.ArraySource([[1, 2], [3]])


def test_rows_on_two_devices_are_refused(stand_in):
    x, y = table()
    with pytest.raises(gd.BackendError, match=r"y.get\(\)"):
        gd.ArraySource(x, stand_in.asarray(y))
    with pytest.raises(gd.BackendError, match=r"y is a numpy.ndarray on the host"):
        gd.ArraySource(stand_in.asarray(x), y)


# Frames ------------------------------------------------------------------------------------------


def test_a_frame_is_the_array_under_it():
    x, y = table()
    index = range(22, -1, -1)
    frame, series = pd.DataFrame(x, columns=list("abc"), index=index), pd.Series(y, index=index)
    source = gd.ArraySource(frame, series)
    own_x, own_y = source.take(np.array([7, 2, 7]))
    np.testing.assert_array_equal(own_x, x[[7, 2, 7]])
    np.testing.assert_array_equal(own_y, y[[7, 2, 7]])
    assert source.fingerprint() == gd.ArraySource(x, y).fingerprint()
    assert source.names == list("abc")
    assert gd.ArraySource(frame, pd.DataFrame(y, index=index)).y.shape == (23, 1)


def test_columns_of_several_dtypes_become_one():
    frame = pd.DataFrame({"a": [1, 2], "b": [0.5, 1.5], "c": [True, False]})
    own, _ = gd.ArraySource(frame.astype({"a": "Int64", "b": "Float32"})).take(slice(0, 2))
    assert own.tolist() == [[1, 0.5, 1], [2, 1.5, 0]]


@pytest.mark.parametrize("dtype", ["Int64", "Float64", "boolean", "int64[pyarrow]"])
def test_a_missing_value_of_a_frame_is_placed(dtype):
    frame = pd.DataFrame({"a": [1, 2, 3], "b": pd.array([1, 0, None], dtype=dtype)})
    with pytest.raises(gd.DataError, match="x holds nan at row 2, column 1"):
        gd.ArraySource(frame)


@pytest.mark.parametrize(
    "column", [["x", "y"], pd.Categorical([1, 2]), pd.to_datetime(["2020-01-01"] * 2), [1, None]]
)
def test_a_column_that_holds_no_numbers_is_named(column):
    frame = pd.DataFrame({"a": [1, 2], "b": pd.Series(column, dtype=getattr(column, "dtype", "O"))})
    with pytest.raises(gd.DataError, match=r"x must hold numbers, and its column 'b' is .*encode"):
        gd.ArraySource(frame)
    with pytest.raises(gd.DataError, match=r"y must hold numbers, and its column 'b' is .*encode"):
        gd.ArraySource(frame[["a"]], frame["b"])


# Sparse rows -------------------------------------------------------------------------------------


def sparse_table(kind, n=23):
    x = np.where(np.random.default_rng(0).random((n, 5)) < 0.2, 1.5, 0.0)
    return x, kind(x)


SPARSE = [sparse.csr_array, sparse.csc_array, sparse.coo_array, sparse.csr_matrix]


@pytest.mark.parametrize("kind", SPARSE)
def test_sparse_rows_come_dense_a_batch_at_a_time(kind):
    x, given_x = sparse_table(kind)
    source = gd.ArraySource(given_x, np.arange(23))
    for rows in (slice(3, 9), np.array([7, 2, 7])):
        own, own_y = source.take(rows)
        assert type(own) is np.ndarray
        np.testing.assert_array_equal(own, x[rows])
        np.testing.assert_array_equal(own_y, np.arange(23)[rows])


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("kind", SPARSE)
def test_sparse_rows_train_to_the_bits_of_dense_ones(kind, shuffle):
    x, given_x = sparse_table(kind)
    y = np.arange(23) % 2
    models = []
    for rows in (x, given_x):
        models.append(gd.Sequential([gd.Dense(4), gd.Tanh(), gd.Dense(1)], inputs=5))
        models[-1].fit(rows, y, loss="mse", batch_size=5, shuffle=shuffle, epochs=2)
    np.testing.assert_array_equal(models[0].flat_params, models[1].flat_params)
    assert models[0].evaluate(x, y) == models[1].evaluate(given_x, y)


def test_a_bad_value_among_sparse_ones_is_refused():
    x, _ = sparse_table(sparse.csr_array)
    x[3, 1] = np.nan
    given_x = sparse.csr_array(x)
    given_x.data[0] = 0  # a stored zero counts like the other values
    with pytest.raises(gd.DataError, match="x holds nan at row 3, column 1"):
        gd.ArraySource(given_x)


def test_equal_sparse_data_have_equal_fingerprints():
    x, given_x = sparse_table(sparse.csr_array)
    print_of = gd.ArraySource(given_x).fingerprint()
    assert gd.ArraySource(sparse.coo_array(x)).fingerprint() == print_of
    x[2, 2] += 1
    assert gd.ArraySource(sparse.csr_array(x)).fingerprint() != print_of


def test_a_row_number_that_is_none_is_refused_and_a_negative_one_counts_from_the_end():
    rows = gd.ArraySource([[0.0, 1.0], [2.0, 3.0]])
    np.testing.assert_array_equal(rows.take(np.array([-1]))[0], [[2.0, 3.0]])
    with pytest.raises(IndexError):
        rows.take(np.array([100]))
