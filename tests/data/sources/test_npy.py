"""Rows of `.npy` files are those of the arrays themselves, while the file stays on the disk.

Anything but a table of numbers is refused with the name of the file.
"""

import os
import pickle
import re
import threading

import numpy as np
import pytest
from budgets import examples
from hypothesis import given
from hypothesis import strategies as st

import minigd as gd
from minigd.backends.base import get_backend
from minigd.backends.workspace import Workspace
from minigd.data.sources import file_reads


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


def test_a_slice_of_rows_that_are_kept_is_a_view_which_can_not_be_written(tmp_path):
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


# Files that are not kept in memory, and files that change ----------------------------------------

KINDS = {"kept": {}, "read": {"HELD": 0}, "read in small pieces": {"HELD": 0, "PIECE": 64}}
KINDS["read in pieces of a row"] = {"HELD": 0, "GAP": 0, "PIECE": 1}
KINDS["read row by row"] = {"HELD": 0, "GAP": 0}


@pytest.fixture(params=KINDS)
def kind(request, monkeypatch):
    for name, value in KINDS[request.param].items():
        monkeypatch.setattr(file_reads, name, value)
    return request.param


@pytest.mark.few
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(), (2,), (2, 3)])
@pytest.mark.parametrize("dtype", ["float32", ">f8", "uint8"])
def test_rows_that_are_read_are_those_of_the_array(tmp_path, kind, order, shape, dtype):
    rng = np.random.default_rng(1)
    x = np.asarray(rng.integers(0, 9, (57, 5)), dtype, order=order)
    y = np.asarray(rng.integers(0, 9, (57, *shape)), dtype, order=order)
    source = gd.NpySource(*saved(tmp_path, x=x, y=y))
    workspace = Workspace(get_backend("numpy"))
    workspace.thread = threading.get_ident()
    some = [rng.permutation(57), rng.integers(0, 57, 90), np.array([56]), np.array([], int)]
    some += [np.array([50, 3, 7, 50, 4])]
    for rows in (*some, slice(3, 50), slice(None), slice(40, 3, -2), slice(9, 9), slice(50, 99)):
        spaces = [None, workspace] if isinstance(rows, np.ndarray) else [None]
        for space in spaces:
            own_x, own_y = source.take(rows, space)
            assert own_x.dtype == own_y.dtype == np.dtype(dtype)
            np.testing.assert_array_equal(own_x, x[rows])
            np.testing.assert_array_equal(own_y, y[rows])
    np.testing.assert_array_equal(np.concatenate([x for x, _ in source.chunks(7)]), x[7:])
    np.testing.assert_array_equal(source.take(np.array([-1, -57]))[0], x[[-1, 0]])
    for bad in ([57], [-58], [3, 99]):
        with pytest.raises(IndexError):
            source.take(np.array(bad))
    assert source.fingerprint() == gd.ArraySource(x, y).fingerprint()
    again = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(again.take(slice(0, 57))[0], x)


def test_training_has_the_bits_of_the_array(tmp_path, kind):
    x, y = table(230)
    models = []
    for source in (gd.NpySource(*saved(tmp_path, x=x, y=y)), gd.ArraySource(x, y)):
        models.append(gd.Sequential([gd.Dense(3), gd.Tanh(), gd.Dense(1)], inputs=3, seed=0))
        models[-1].fit(source, loss="mse", batch_size=50, epochs=2)
    np.testing.assert_array_equal(models[0].flat_params, models[1].flat_params)


def replaced(path):
    np.save(path.parent / "other.npy", np.ones((200, 3)))
    os.replace(path.parent / "other.npy", path)


CHANGES = {
    "cut short": lambda path: os.truncate(path, path.stat().st_size // 2),
    "cut short by a byte": lambda path: os.truncate(path, path.stat().st_size - 1),
    "emptied": lambda path: path.write_bytes(b""),
    "longer": lambda path: path.write_bytes(path.read_bytes() + bytes(24)),
    "written again": lambda path: np.save(path, np.ones((200, 3))),
    "replaced": replaced,
}


@pytest.mark.few
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("which", ["x", "y"])
def test_a_file_that_changes_is_an_error_that_names_it(tmp_path, kind, change, order, which):
    x = np.asarray(np.random.default_rng(0).normal(size=(200, 3)), order=order)
    paths = saved(tmp_path, x=x, y=x)
    source = gd.NpySource(*paths)
    source.take(np.array([3, 1]))
    model = gd.Sequential([gd.Dense(3)], inputs=3)
    trainer = gd.Trainer(model, "mse", gd.SGD(0.01))
    batches = gd.Batches(source, batch_size=30, shuffle=True)
    trainer.fit(batches)
    before = model.flat_params.copy()
    path = paths["xy".index(which)]
    CHANGES[change](path)
    os.utime(path, ns=(1, 1))  # whatever the clock of the file system
    for read in (
        lambda: source.take(slice(190, 200)),
        lambda: source.take(np.array([199, 0])),
        lambda: list(source.chunks()),
        lambda: trainer.fit(batches),
    ):
        with pytest.raises(gd.DataError, match=rf"{which}.npy has changed since it was opened"):
            read()
    np.testing.assert_array_equal(model.flat_params, before)
    assert gd.NpySource(paths[1 - "xy".index(which)]).rows == 200


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("rows", [slice(0, 200), np.arange(200)[::-1], np.array([5, 190])])
def test_a_file_that_is_cut_short_while_it_is_read(tmp_path, kind, monkeypatch, order, rows):
    x = np.asarray(np.random.default_rng(0).normal(size=(200, 3)), order=order)
    (path,) = saved(tmp_path, x=x)
    source = gd.NpySource(path)
    real = file_reads._PREADV

    def cut(*arguments):
        os.truncate(path, 1000)
        return real(*arguments)

    monkeypatch.setattr(file_reads, "_PREADV", cut)
    with pytest.raises(gd.DataError, match=r"x.npy has changed since it was opened"):
        source.take(rows)


def test_a_file_that_was_only_touched_or_linked_is_the_same(tmp_path, kind):
    (path,) = saved(tmp_path, x=table()[0])
    source = gd.NpySource(path)
    path.chmod(0o600)
    os.link(path, tmp_path / "link.npy")
    np.testing.assert_array_equal(source.take(slice(0, 23))[0], table()[0])


@pytest.mark.parametrize("which", ["x", "y"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("part", [False, True])
def test_a_value_that_is_not_finite_is_named_with_its_file_and_row(tmp_path, which, value, part):
    x, y = table(50)
    {"x": x, "y": y}[which][33, ...] = value
    whole = gd.NpySource(*saved(tmp_path, x=x, y=y))
    sides = whole.split(0.3) if part else [whole]
    column = ", column 0" if which == "x" else ""
    message = rf"{which}.npy: {which} holds {value} at row 33{column} \(counted from 0\)"
    errors = []
    for source in sides:
        trainer = gd.Trainer(gd.Sequential([gd.Dense(1)], inputs=3), "mse", "sgd")
        for act in (trainer.fit, trainer.evaluate):
            try:
                act(gd.Batches(source, batch_size=10, shuffle=act == trainer.fit))
            except gd.DataError as error:
                errors.append(str(error))
    assert len(errors) == 2
    assert all(re.search(message, error) for error in errors)
