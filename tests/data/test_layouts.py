"""Arrays of any layout in memory: the same rows, the same training, and no copy of them per batch.

`np.take` copies all of an array that is not C-contiguous. The peak of allocated memory shows each
such copy, so nothing here is timed.
"""

import threading
import tracemalloc
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest
from budgets import examples
from hypothesis import given
from hypothesis import strategies as st

import minigd as gd
from minigd.backends.base import get_backend
from minigd.backends.frames import by_rows
from minigd.backends.workspace import Workspace
from minigd.cli.train import train

ROWS, WIDTH = 4000, 20


def numbers(dtype="float64", rows=ROWS, width=WIDTH):
    return np.random.default_rng(0).normal(size=(rows, width), scale=20).astype(dtype)


def unaligned(x):
    packed = np.empty(len(x), dtype=[("flag", "u1"), ("x", x.dtype, x.shape[1])])
    packed["x"] = x
    return packed["x"]


def between(x, axis):
    wide = np.repeat(x, 2, axis=axis)
    return wide[::2] if axis == 0 else wide[:, ::2]


NEXT_TO_EACH_OTHER = {
    "C": lambda x: x,
    "a column left out": lambda x: np.hstack([x[:, :1], x])[:, 1:],
    "rows backwards": lambda x: np.ascontiguousarray(x[::-1])[::-1],
    "columns backwards": lambda x: np.ascontiguousarray(x[:, ::-1])[:, ::-1],
    "every other row": lambda x: between(x, 0),
    "one row, broadcast": lambda x: np.broadcast_to(x[0], x.shape),
    "one column, broadcast": lambda x: np.broadcast_to(x[:, :1], x.shape),
    "unaligned": unaligned,
    "other byte order": lambda x: x.astype(x.dtype.newbyteorder(">")),
}
APART = {
    "Fortran": np.asfortranarray,
    "some rows of Fortran": lambda x: np.asfortranarray(np.vstack([x[:1], x]))[1:],
    "Fortran backwards": lambda x: np.asfortranarray(x[::-1])[::-1],
    "Fortran, other byte order": lambda x: np.asfortranarray(x.astype(x.dtype.newbyteorder(">"))),
    "every other column": lambda x: between(x, 1),
    "frame": pd.DataFrame,
    "columns of a frame": lambda x: pd.DataFrame(np.hstack([x[:, :1], x])).iloc[:, 1:],
}
LAYOUTS = {**NEXT_TO_EACH_OTHER, **APART}

layouts = pytest.mark.parametrize("layout", LAYOUTS)
dtypes = pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int64", "uint8"])


@contextmanager
def peak(of):
    """Record in `of` the most bytes that were allocated in the block."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        yield
        of.append(tracemalloc.get_traced_memory()[1] - before)
    finally:
        tracemalloc.stop()


def lent():
    workspace = Workspace(get_backend("numpy"))
    workspace.thread = threading.get_ident()
    return workspace


# Batches -----------------------------------------------------------------------------------------


@layouts
@dtypes
@pytest.mark.parametrize("into", ["fresh memory", "a workspace"])
@pytest.mark.pairs
def test_a_batch_holds_the_rows_of_the_array(layout, dtype, into):
    x = LAYOUTS[layout](numbers(dtype, 230))
    truth = np.array(x)
    workspace = lent() if into == "a workspace" else None
    epoch = gd.Batches(x, batch_size=50, shuffle=True, seed=3).epoch(1, 0, workspace)
    seen = []
    for batch in epoch:
        np.testing.assert_array_equal(batch.x, truth[batch.rows])
        seen += batch.rows.tolist()
    assert sorted(seen) == list(range(230))


@pytest.mark.few
@layouts
@dtypes
def test_a_shuffled_epoch_copies_no_more_than_a_batch_at_a_time(layout, dtype):
    x = LAYOUTS[layout](numbers(dtype))
    # A column of a table; targets often are one.
    y = numbers(dtype)[:, -1]
    batches = gd.Batches(x, y, batch_size=50, shuffle=True)
    index = 8 * ROWS
    # A small batch is cut from about 64 KiB that are gathered at once.
    piece = 2**16 + 50 * WIDTH * 8
    found = []
    for workspace in (None, lent()):
        with peak(found):
            for _ in batches.epoch(0, 0, workspace):
                pass
    assert max(found) < 1.5 * index + 3 * piece


@examples(25)
@given(st.data())
def test_any_strided_view_gives_its_rows(data):
    base = np.arange(7 * 11 * 5.0).reshape(7, 11, 5)
    view = base[data.draw(st.integers(0, 6))]
    view = view.T if data.draw(st.booleans()) else view
    steps = [data.draw(st.sampled_from([-2, -1, 1, 2])) for _ in range(2)]
    view = view[:: steps[0], :: steps[1]]
    rows = np.array(data.draw(st.lists(st.integers(0, len(view) - 1), min_size=1, max_size=20)))
    truth = [[float(number) for number in view[row]] for row in rows]
    backend = get_backend("numpy")
    assert backend.take(view, rows).tolist() == truth
    out = np.empty((len(rows), view.shape[1]))
    assert backend.take(view, rows, out) is out
    assert out.tolist() == truth
    assert by_rows(view).tolist() == view.tolist()


def test_a_row_number_that_is_none_is_refused_in_any_layout():
    for x in (np.zeros((3, 2)), np.zeros((3, 2), order="F")):
        with pytest.raises(IndexError):
            gd.ArraySource(x).take(np.array([100]))


@pytest.mark.few
@layouts
def test_looking_for_nan_allocates_no_array_like_x(layout):
    x = LAYOUTS[layout](numbers(rows=40_000))
    # Copies by the frame itself, as for columns next to each other, are not minigd's.
    held = x.to_numpy() if hasattr(x, "to_numpy") else x
    found = []
    with peak(found):
        gd.ArraySource(held)
    assert found[0] < held.size / 2


@pytest.mark.few
@layouts
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_is_found_in_any_layout(layout, bad):
    for row in (0, 17, ROWS - 1):
        x = numbers()
        x[row, 3] = bad
        x = LAYOUTS[layout](x)
        if np.isfinite(np.asarray(x)).all():
            continue  # broadcast from a row or a column without the bad value
        with pytest.raises(gd.DataError, match=f"x holds {bad} at row {row if row else ''}"):
            gd.ArraySource(x)


# Training ----------------------------------------------------------------------------------------


def targets(x):
    x = np.asarray(x, dtype="float64")
    return np.tanh(x[:, 0] - x[:, -1]) + x[:, 1]


def trained(x, y, shuffle=True, dtype="float32", **settings):
    model = gd.Sequential([gd.Dense(6), gd.Tanh(), gd.Dense(1)], inputs=WIDTH, dtype=dtype)
    history = model.fit(x, y, loss="mse", shuffle=shuffle, batch_size=50, epochs=2, **settings)
    return model, history


@pytest.mark.each
@layouts
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int64"])
def test_training_comes_to_the_bits_of_a_c_array(layout, shuffle, dtype):
    x = LAYOUTS[layout](numbers(dtype, 230))
    truth = np.array(x).astype(dtype)
    y = targets(truth)
    weight = np.arange(230) % 3
    for settings_ in ({}, {"sample_weight": weight}, {"dtype": "float64"}):
        model, history = trained(x, y, shuffle, **settings_)
        same, other = trained(truth, y, shuffle, **settings_)
        np.testing.assert_array_equal(model.flat_params, same.flat_params)
        assert history["loss"] == other["loss"]
        np.testing.assert_array_equal(model.predict(x), same.predict(truth))
        np.testing.assert_array_equal(model.forward(x), same.forward(truth))
        assert model.evaluate(x, y) == same.evaluate(truth, y)


@pytest.mark.few
@layouts
def test_fit_copies_rows_that_lie_apart_once_and_others_never(layout):
    x = LAYOUTS[layout](numbers(rows=20_000))
    held = x.to_numpy() if hasattr(x, "to_numpy") else x
    y = targets(held)
    batches = gd.Batches(held, y, batch_size=200, shuffle=True)
    trainer = gd.Trainer(gd.Sequential([gd.Dense(1)], inputs=WIDTH), "mse", gd.SGD(1e-6))
    found = []
    # Not counting the copy that the check of the targets makes.
    trainer.fit(batches)
    with peak(found):
        trainer.fit(batches)
    whole = 8 * 20_000 * WIDTH
    assert found[0] < (1.4 if layout in APART else 0.4) * whole
    assert batches.source.x is held


@pytest.mark.parametrize("layout", APART)
def test_rows_in_order_are_not_copied_by_fit(layout):
    x = LAYOUTS[layout](numbers(rows=20_000))
    held = x.to_numpy() if hasattr(x, "to_numpy") else x
    y = targets(held)
    batches = gd.Batches(held, y, batch_size=50)
    trainer = gd.Trainer(gd.Sequential([gd.Dense(1)], inputs=WIDTH), "mse", gd.SGD(1e-6))
    trainer.fit(batches)
    found = []
    with peak(found):
        trainer.fit(batches)
        trainer.evaluate(batches)
        trainer.model.predict(held)
    assert found[0] < 0.4 * 8 * 20_000 * WIDTH


@pytest.mark.few
@pytest.mark.parametrize("Estimator", [gd.MiniBatchClassifier, gd.MiniBatchRegressor])
@layouts
def test_estimators_come_to_the_bits_of_a_c_array(Estimator, layout):
    x = LAYOUTS[layout](numbers(rows=230))
    truth = np.array(x)
    y = targets(truth) if Estimator is gd.MiniBatchRegressor else np.arange(230) % 3
    one, other = (
        Estimator(hidden=[4], epochs=2, random_state=0).fit(rows, y) for rows in (x, truth)
    )
    np.testing.assert_array_equal(one.model_.flat_params, other.model_.flat_params)
    np.testing.assert_array_equal(one.predict(x), other.predict(truth))


def test_a_gpu_keeps_rows_next_to_each_other(stand_in):
    x = np.asfortranarray(numbers())
    batches = gd.Batches(x, targets(x), shuffle=True).on(stand_in)
    assert stand_in.holds(batches.source.x)
    assert batches.source.x.flags.c_contiguous
    np.testing.assert_array_equal(stand_in.to_numpy(batches.source.x), x)


# Files -------------------------------------------------------------------------------------------


def allocates_less(most, run):
    """Tell whether a run allocates less than `most` at its peak, in one of three tries.

    Other allocations, such as those of an import or of garbage from other tests, occur only once.
    The allocations of the run itself occur each time.
    """
    found = []
    for _ in range(3):
        with peak(found):
            run()
        if found[-1] < most:
            return True
    print(f"at least {min(found)} bytes, where {most:.0f} are allowed")
    return False


@pytest.mark.few(2)
@pytest.mark.parametrize("dtype", ["float64", "float16", ">f4"])
def test_a_fortran_npy_is_never_in_memory_as_a_whole(tmp_path, dtype):
    x = np.asfortranarray(numbers(dtype, rows=40_000))
    y = np.asfortranarray(targets(x))
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    source = gd.NpySource(tmp_path / "x.npy", tmp_path / "y.npy")
    assert source.x.flags.f_contiguous
    assert not source.x.flags.c_contiguous

    def opened():
        return gd.NpySource(tmp_path / "x.npy", tmp_path / "y.npy")

    def take():
        source = opened()
        for start in range(0, 40_000, 500):
            rows = np.arange(start, start + 500)[::-1]
            np.testing.assert_array_equal(source.take(rows)[0], x[rows])
        source.fingerprint()

    def train():
        batches = gd.Batches(opened(), batch_size=200, shuffle=True)
        trainer = gd.Trainer(gd.Sequential([gd.Dense(1)], inputs=WIDTH), "mse", gd.SGD(1e-6))
        for _ in batches:
            pass
        trainer.fit(batches, epochs=2)
        trainer.evaluate(batches)

    assert allocates_less(2**15, opened)
    assert allocates_less(x.nbytes / 2, take)
    # The order takes 8 bytes per row.
    assert allocates_less(x.nbytes / 4 + 2 * 8 * 40_000, train)


def test_a_fortran_npy_trains_to_the_bits_of_its_array(tmp_path):
    x = np.asfortranarray(numbers(rows=230))
    y = targets(x)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    models = []
    for source in (gd.NpySource(tmp_path / "x.npy", tmp_path / "y.npy"), gd.ArraySource(x, y)):
        models.append(gd.Sequential([gd.Dense(3), gd.Tanh(), gd.Dense(1)], inputs=WIDTH))
        models[-1].fit(source, loss="mse", batch_size=50, epochs=2)
    np.testing.assert_array_equal(models[0].flat_params, models[1].flat_params)


@pytest.mark.slow
@pytest.mark.parametrize(
    "dtype", ["float16", *(pytest.param(d, marks=pytest.mark.slow) for d in ("float64", ">f8"))]
)
def test_the_shell_trains_on_a_fortran_npy_in_pieces(tmp_path, dtype):
    x = np.asfortranarray(numbers(dtype, rows=75_000) / 64)
    np.save(tmp_path / "x.npy", x)
    found = []
    with peak(found):
        train(
            tmp_path / "x.npy", "3", tmp_path / "model.npz",
            hidden=[], batch_size=5000, epochs=1, progress=False,
        )  # fmt: skip
    # As float64 the whole array has 12 MB; pieces have 8,192 rows, and exist in several forms.
    assert found[0] < 8 * x.size
    model = gd.load(tmp_path / "model.npz")
    assert model.n_in == WIDTH - 1
