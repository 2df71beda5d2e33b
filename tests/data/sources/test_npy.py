"""Rows of `.npy` files come as from the arrays themselves, while the file stays on the disk.

What is no table of numbers is refused with the name of the file.
"""

import numpy as np
import pytest
from budgets import examples
from hypothesis import given
from hypothesis import strategies as st

import minigd as gd


def saved(tmp_path, **arrays):
    paths = []
    for name, array in arrays.items():
        paths.append(tmp_path / f"{name}.npy")
        np.save(paths[-1], array)
    return paths


def table(n=23):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 3)), rng.normal(size=n)


@pytest.mark.parametrize("dtype", ["float64", "float32", "int16", "uint8", "bool", ">f4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_rows_are_those_of_the_array(tmp_path, dtype, order):
    x = np.array([[0, 1], [1, 0], [1, 1]], dtype=dtype, order=order)
    source = gd.NpySource(*saved(tmp_path, x=x))
    assert source.rows == 3
    for rows in (slice(1, 3), np.array([2, 0, 2])):
        own, none = source.take(rows)
        assert own.dtype == dtype
        assert none is None
        np.testing.assert_array_equal(own, x[rows])


@examples(25)
@given(rows=st.lists(st.integers(0, 22), max_size=30))
def test_x_and_y_belong_together(tmp_path_factory, rows):
    x, y = table()
    source = gd.NpySource(*saved(tmp_path_factory.mktemp("npy"), x=x, y=y))
    own_x, own_y = source.take(np.array(rows, dtype=int))
    np.testing.assert_array_equal(own_x, x[rows])
    np.testing.assert_array_equal(own_y, y[rows])


def test_a_slice_is_a_view_of_the_file_which_can_not_be_written(tmp_path):
    source = gd.NpySource(*saved(tmp_path, x=table()[0]))
    own, _ = source.take(slice(2, 5))
    assert np.shares_memory(own, source.x)
    with pytest.raises(ValueError, match="read-only"):
        own[...] = 0


def test_equal_content_has_one_fingerprint_and_other_content_another(tmp_path):
    x, y = table()
    first = gd.NpySource(*saved(tmp_path, x=x, y=y)).fingerprint()
    assert gd.NpySource(*saved(tmp_path, x2=x, y2=y)).fingerprint() == first
    assert gd.ArraySource(x, y).fingerprint() == first
    for other in (x + 1, x[:-1], x.astype("float32")):
        assert gd.NpySource(*saved(tmp_path, o=other, p=y[: len(other)])).fingerprint() != first


@pytest.mark.parametrize("x", [np.zeros(3), np.zeros((2, 2, 2)), np.zeros((0, 2)), np.float64(1)])
def test_what_is_no_table_is_refused(tmp_path, x):
    with pytest.raises(gd.ShapeError, match=r"x.npy has shape .* a table of rows is needed"):
        gd.NpySource(*saved(tmp_path, x=x))


def test_x_and_y_of_different_lengths(tmp_path):
    with pytest.raises(gd.ShapeError, match=r"x.npy has 3 rows of x and 4 of y"):
        gd.NpySource(*saved(tmp_path, x=np.zeros((3, 1)), y=np.zeros(4)))
    with pytest.raises(gd.ShapeError, match=r"x.npy has 3 rows of x and no of y"):
        gd.NpySource(*saved(tmp_path, x=np.zeros((3, 1)), y=np.float64(1)))


@pytest.mark.parametrize("dtype", ["U3", "complex128", "datetime64[D]"])
def test_what_is_no_number_is_refused(tmp_path, dtype):
    with pytest.raises(gd.DataError, match=r"x of .*x.npy must hold numbers"):
        gd.NpySource(*saved(tmp_path, x=np.zeros((2, 2), dtype)))


def test_objects_are_refused_and_never_unpickled(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.array([[print]], dtype=object), allow_pickle=True)
    with pytest.raises(gd.DataError, match=r"x.npy is not a .npy file of numbers"):
        gd.NpySource(path)


def test_other_and_damaged_files_are_refused(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.zeros((100, 2)))
    whole = path.read_bytes()
    for content in (whole[:500], whole[:20], b"a,b\n1,2\n", b""):
        path.write_bytes(content)
        with pytest.raises(gd.DataError, match=r"x.npy is not a .npy file of numbers"):
            gd.NpySource(path)
    np.savez(tmp_path / "x.npz", x=np.zeros((3, 2)))
    with pytest.raises(gd.DataError, match=r"x.npz is an archive of arrays"):
        gd.NpySource(tmp_path / "x.npz")
    with pytest.raises(FileNotFoundError):
        gd.NpySource(tmp_path / "none.npy")


def test_nan_is_placed_when_its_batch_comes(tmp_path):
    x, y = table(50)
    x[33, 1] = np.nan
    source = gd.NpySource(*saved(tmp_path, x=x, y=y))
    trainer = gd.Trainer(gd.Sequential([gd.Dense(1)], inputs=3), "mse", "sgd")
    with pytest.raises(gd.DataError, match="x holds nan at row 33, column 1"):
        trainer.fit(gd.Batches(source, batch_size=10))
    assert trainer.updates == 3


def test_each_flipped_bit_of_a_header_is_refused_by_name_or_changes_no_size(tmp_path):
    x = table()[0]
    (path,) = saved(tmp_path, x=x)
    whole, errors = path.read_bytes(), []
    for bit in range(8 * 128):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        try:
            assert gd.NpySource(path).x.nbytes == x.nbytes
        except gd.DataError as error:
            errors.append(str(error))
    assert len(errors) > 900
    assert all(str(path) in error for error in errors)


@pytest.mark.parametrize("shape", [(10**12, 3), (10**18, 10**18), (22, 3)])
def test_a_shape_that_the_file_does_not_have_is_refused(tmp_path, shape):
    (path,) = saved(tmp_path, x=table()[0])
    data = path.read_bytes().replace(b"(23, 3)", str(shape).encode())
    path.write_bytes(data.replace(b" " * (len(data) - path.stat().st_size), b"", 1))
    with pytest.raises(gd.DataError, match=r"x\.npy is not a \.npy file of numbers: its "):
        gd.NpySource(path)
