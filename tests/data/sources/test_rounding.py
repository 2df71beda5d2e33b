"""What a dtype loses of a column, against the numbers before and after the conversion.

A table reports it in its first pass, an array before training.
"""

import io
import warnings

import numpy as np
import pandas as pd
import pytest
from budgets import examples
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

import minigd as gd
from minigd.data.tables.precision import WIDER_MODEL, Rounding, check_rounding, extreme

properties = examples(50)


def lost(column, dtype="float32"):
    rounding = Rounding(dtype)
    rounding.add(np.asarray(column, dtype="float64").reshape(-1, 1))
    return bool(rounding.lost[0])


def near(offset, width, n=50, seed=0):
    return offset + width * np.random.default_rng(seed).uniform(size=n)


@properties
@given(
    exponent=st.integers(-30, 30),
    fraction=st.floats(1, 2),
    width=st.floats(-3, 3),
    sign=st.sampled_from([-1, 1]),
    n=st.integers(2, 60),
)
def test_a_column_is_lost_where_few_of_its_numbers_are_left(exponent, fraction, width, sign, n):
    offset = sign * fraction * 2.0**exponent
    apart = float(np.spacing(np.float32(abs(offset))))
    column = near(offset, apart * 10.0**width, n)
    left = len(np.unique(column.astype("float32")))
    if left == 1:
        assert lost(column)
    if lost(column):
        assert left <= 5
    # Numbers that float32 holds exactly are not lost.
    assert not lost(column.astype("float32"))
    assert not lost(column, "float64")


@pytest.mark.parametrize(
    "column",
    [
        [3.5] * 9,
        [0.1] * 9,  # float32 does not hold it exactly
        np.tile([0.1 + 0.2, 0.3], 9),  # one number, except for rounding
        near(1e9, 1e4),
        near(0.0, 1e-30),
        [2.0**24, 2.0**24 + 2] * 5,  # neighbors in float32
        np.append(near(1e9, 1.0), 0.0),  # 0 and the others stay different
        [1e30, 1e39],  # too large for float32: another error
        [-1.7e308, 1.7e308],
        [np.nan, 1.0, 2.0],
        [np.nan, np.nan],
    ],
)
def test_what_can_be_told_apart_or_is_a_constant_is_not_lost(column):
    assert not lost(column)


@pytest.mark.parametrize(
    "column",
    [
        near(1e9, 1.0),
        near(-1e9, 1.0),
        near(1e9 + 31.5, 1.0),  # only two numbers are left
        near(1.0, 1e-9),
        near(0.0, 1e-50),
        np.append(near(1e9, 1.0), np.nan),
    ],
)
def test_what_can_not_be_told_apart_is_lost(column):
    assert lost(column)


@properties
@given(cuts=st.lists(st.integers(1, 20), min_size=1, max_size=6), seed=st.integers(0, 50))
def test_pieces_come_to_what_the_whole_does(cuts, seed):
    rng = np.random.default_rng(seed)
    x = 10.0 ** rng.uniform(0, 9, 4) + rng.uniform(size=(sum(cuts), 4))
    whole, pieces = Rounding("float32"), Rounding("float32")
    whole.add(x)
    for piece in np.split(x, np.cumsum(cuts)[:-1]):
        pieces.add(piece)
        pieces.add(piece[:0])
    for name in ("low", "high", "lost"):
        np.testing.assert_array_equal(getattr(pieces, name), getattr(whole, name))


def test_what_is_not_looked_at_is_not_lost():
    # Columns that grow, are far from 0 at first or later, are constant for a while, or have gaps.
    rng = np.random.default_rng(5)
    for k in range(60):
        scale, offset = 10.0 ** rng.integers(-40, 12, (2, 4, 5)).astype(float)
        pieces = offset[:, None] * rng.integers(0, 2, (4, 1, 5)) + scale[:, None] * rng.normal(
            size=(4, 130, 5)
        ) * rng.integers(0, 2, (4, 1, 5))
        pieces[rng.random(pieces.shape) < 0.1 * (k % 3)] = np.nan
        rounding = Rounding("float32")
        for piece in pieces:
            rounding.add(piece)
        x = pieces.reshape(-1, 5)
        with np.errstate(over="ignore", invalid="ignore"):
            moved = np.fmax.reduce(abs(x - x.astype("float32")))
        low, high = np.fmin.reduce(x), np.fmax.reduce(x)
        noise = 1e4 * np.finfo("float64").eps * np.fmax(abs(low), abs(high))
        expected = (moved > (high - low) / 4) & (high - low > noise) & np.isfinite(moved)
        np.testing.assert_array_equal(rounding.lost, expected)


@pytest.mark.parametrize("pick", [np.fmin, np.fmax, np.minimum, np.maximum])
@pytest.mark.parametrize("rows", [1, 63, 64, 128, 1000])
def test_extremes_in_long_loops_are_those_of_the_rows(pick, rows):
    rng = np.random.default_rng(rows)
    x = rng.normal(size=(rows, 3))
    x[rng.random(x.shape) < 0.001 * rows / 64] = np.nan
    for layout in (x, np.asfortranarray(x), x[:, :0], x[:, 1:]):
        np.testing.assert_array_equal(extreme(pick, layout), pick.reduce(layout))


# Arrays -----------------------------------------------------------------------------------------


def quiet(x, y, dtype="float32"):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_rounding(x, y, dtype)


def test_targets_are_refused_in_words(backend):
    x = backend.asarray(np.ones((50, 2)))
    for y in (near(1e9, 1.0), near(1e9, 1.0).reshape(-1, 1)):
        before = y.copy()
        with pytest.raises(gd.DataError) as caught:
            check_rounding(x, backend.asarray(y), "float32")
        assert str(caught.value) == (
            f"y goes from {float(y.min())!r} to {float(y.max())!r}, and numbers there are 64 apart "
            "in float32, which can't tell its values from each other; subtract a number near them "
            "first, or give the model dtype='float64'"
        )
        np.testing.assert_array_equal(y, before)
        quiet(x, backend.asarray(y), "float64")
        quiet(x, backend.asarray(y - 1e9))


def test_a_column_of_several_is_named(backend):
    good, bad = near(0.0, 1.0), near(1e9, 1.0)
    two = backend.asarray(np.column_stack([good, bad]))
    with pytest.raises(gd.DataError, match=r"^column 1 of y \(counted from 0\) goes from 1000"):
        check_rounding(backend.asarray(good.reshape(-1, 1)), two, "float32")
    # One column of x may be useless; the others are not.
    with pytest.warns(UserWarning, match=r"^column 1 of x \(counted from 0\) goes from 1000"):
        check_rounding(two, backend.asarray(good), "float32")


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "float32"])
def test_what_the_dtype_holds_is_not_looked_at(dtype):
    class Unread(np.ndarray):
        def __array_ufunc__(self, *args, **kwargs):
            raise AssertionError("it was read")

    y = np.arange(5).astype(dtype).view(Unread)
    quiet(y.reshape(-1, 1), y)


def test_whole_numbers_are_looked_at_too():
    time = 1_700_000_000 + np.arange(50)
    x = np.ones((50, 1))
    with pytest.raises(gd.DataError, match=r"from 1700000000\.0 to 1700000049\.0.* 128 apart"):
        check_rounding(x, time, "float32")
    quiet(x, time, "float64")
    quiet(x, np.arange(50))


def test_a_sparse_matrix_is_not_looked_at():
    quiet(sparse.csr_matrix(np.full((50, 1), 1e9) + np.arange(50).reshape(-1, 1)), np.arange(50.0))


def test_a_doubt_about_some_rows_is_settled_by_all():
    rows = np.unique(np.linspace(0, 4999, 1000).astype(int))
    others = np.setdiff1d(np.arange(5000), rows)
    x = np.ones((5000, 1))
    # The sampled numbers are near each other, and one of the others is far away.
    y = near(1e9, 1.0, 5000)
    y[others[7]] = 0.0
    quiet(x, y)
    # The sampled numbers are equal, and the others are not.
    y = np.full(5000, 1e9 + 0.3)
    quiet(x, y)
    y[others] = near(1e9, 1.0, len(others))
    with pytest.raises(gd.DataError, match="64 apart"):
        check_rounding(x, y, "float32")


# Whole numbers ----------------------------------------------------------------------------------

INTEGERS = {"int64": (-(2**63), 2**63 - 1), "uint64": (0, 2**64 - 1), ">i8": (-(2**63), 2**63 - 1)}
INTEGERS |= {"int32": (-(2**31), 2**31 - 1), "uint8": (0, 255)}


@st.composite
def columns_of_integers(draw):
    """Return whole numbers, far apart or near each other, near an end of the dtype or not."""
    dtype = draw(st.sampled_from(sorted(INTEGERS)))
    low, high = INTEGERS[dtype]
    ends = [low, high, 0, high // 2, high // 2 + 1, high // 1024]
    center = draw(st.sampled_from(ends) | st.integers(low, high))
    width = 2 ** draw(st.integers(0, 40))
    near = st.integers(max(low, center - width), min(high, center + width))
    return dtype, draw(st.lists(near, min_size=1, max_size=12))


def moved_by(value, dtype):
    """Return how far a conversion moves a whole number, as a Python integer."""
    with np.errstate(over="ignore"):
        converted = np.array([value]).astype(dtype)[0]
    return abs(value - int(converted)) if np.isfinite(converted) else None


@examples(50)
@given(columns_of_integers(), st.sampled_from(["float32", "float64"]), st.integers(0, 12))
def test_whole_numbers_are_compared_exactly(column, dtype, cut):
    kind, values = column
    x = np.array(values, dtype=kind).reshape(-1, 1)
    rounding = Rounding(dtype)
    rounding.add(x[:cut])
    rounding.add(x[cut:])
    moved = [moved_by(value, dtype) for value in values]
    assert rounding.low[0] == min(values)
    assert rounding.high[0] == max(values)
    assert bool(rounding.lost[0]) == (4 * max(moved) > max(values) - min(values) > 0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("base", [2**58, -(2**60), 2**63 - 50, 2**63, 2**64 - 50])
def test_whole_numbers_that_become_one_are_refused_and_named_in_full(base, dtype):
    y = np.array([base + i for i in range(50)], dtype="uint64" if base > 0 else "int64")
    x = np.arange(50.0).reshape(-1, 1)
    words = f"goes from {base} to {base + 49}, .*near them first$"
    with pytest.raises(gd.DataError, match=f"^y {words}"):
        check_rounding(x, y, dtype)
    with pytest.warns(UserWarning, match=f"^x {words}"):
        check_rounding(y.reshape(-1, 1), x[:, 0], dtype)
    quiet(x, y - y.min(), dtype)


def test_float64_is_advised_where_it_helps():
    for base, helps in ((10**9, True), (2**53, True), (2**58, False), (2**62, False)):
        rounding = Rounding("float32")
        rounding.add((base + np.arange(50)).reshape(-1, 1))
        assert (WIDER_MODEL in rounding.problem("y", 0, WIDER_MODEL)) is helps
        wider = Rounding("float64")
        wider.add((base + np.arange(50)).reshape(-1, 1))
        assert bool(wider.lost[0]) is not helps


# Training ---------------------------------------------------------------------------------------


def trainer(backend="numpy", dtype="float32", end=()):
    model = gd.Sequential([gd.Dense(1), *end], inputs=2, backend=backend, dtype=dtype)
    return gd.Trainer(model, "mse", gd.SGD(0.01))


def table(far_x=0.0, far_y=0.0, n=50):
    x = np.random.default_rng(1).normal(size=(n, 2))
    return x + far_x, x @ [1.0, 2.0] + far_y


def test_training_on_a_target_that_becomes_one_number_is_refused(backend):
    x, y = table(far_y=1e9)
    for rows in ((x, y), (backend.asarray(x), backend.asarray(y)), (gd.Batches(x, y), None)):
        own = trainer(backend)
        with pytest.raises(gd.DataError, match=r"^y goes from 9999999\d\d\..*64 apart in float32"):
            own.fit(*rows)
        assert own.updates == 0
        assert trainer(backend, "float64").fit(*rows)["loss"]


def test_standardising_it_comes_too_late():
    x, y = table(far_y=1e9)
    own = trainer(end=[gd.Rescale()])
    own.model.adapt(gd.Batches(x, y))
    with pytest.raises(gd.DataError, match="64 apart in float32"):
        own.fit(x, y)
    with pytest.raises(gd.DataError, match="64 apart in float32"):
        own.model.fit(x, y, loss="mse")


def test_the_estimator_refuses_it_too():
    x, y = table(far_y=1e9)
    with pytest.raises(gd.DataError, match="64 apart in float32"):
        gd.MiniBatchRegressor(dtype="float32").fit(x, y)
    # It takes the dtype of x by default.
    assert gd.MiniBatchRegressor(epochs=300, random_state=0).fit(x, y).score(x, y) > 0.9


def test_training_on_a_column_that_becomes_one_number_is_warned_of(backend):
    x, y = table(far_x=[0.0, 1e9])
    own = trainer(backend, end=[gd.Tanh()])
    with pytest.warns(UserWarning, match=r"^column 1 of x .* 64 apart in float32"):
        own.fit(x, y)
    assert own.updates == 1


def test_rows_that_count_for_nothing_may_hold_anything():
    x, y = table()
    y[3] = np.nan
    trainer().fit(x, y, sample_weight=np.arange(50) != 3)


def test_rows_that_do_not_count_neither_hide_a_loss_nor_make_one():
    x, y = table(far_y=1e9)
    weight = np.ones(50)
    weight[:5] = 0
    far = y.copy()
    far[:5] = 0.0
    with pytest.raises(gd.DataError, match="64 apart in float32"):
        trainer().fit(x, far, sample_weight=weight)
    constant = np.full(50, 1e9)
    constant[:5] = y[:5]
    trainer().fit(x, constant, sample_weight=weight)


def test_a_piece_of_good_data_may_be_alike():
    t = 1.7e9 + 60.0 * np.arange(4000)
    x = np.column_stack([t, np.arange(4000.0) % 7])
    quiet(x[:19], t[:19])
    model = gd.Sequential([gd.Standardize(), gd.Dense(1), gd.Rescale()], inputs=2)
    model.adapt(gd.Batches(x, t))
    model.fit(x[:2], t[:2], loss="mse")
    model.fit(x, t, loss="mse")
    # A user who passes pieces by hand gets no repeated warnings.
    for start in range(0, 4000, 400):
        model.fit(x[start : start + 30] * [0, 1] + [1.7e9, 0], t[start : start + 30], loss="mse")


def test_a_sum_taken_in_other_orders_is_constant():
    terms = np.random.default_rng(0).normal(1.5, size=100_000)
    y = np.array([np.cumsum(np.roll(terms, 3000 * k))[-1] for k in range(30)])
    assert y.min() < y.max()
    quiet(np.ones((30, 1)), y)


def test_columns_that_are_lost_are_told_together():
    x = near(1e9, 1.0).reshape(-1, 1) * np.ones((1, 784))
    with pytest.warns(UserWarning, match=r"^column 0 of x .*, like 783 more, goes") as caught:
        check_rounding(x, np.ones(50), "float32")
    assert len(caught) == 1


def test_numbers_that_are_too_small_are_to_be_multiplied():
    y = np.linspace(1e-60, 2e-60, 50)
    with pytest.raises(gd.DataError, match=r"multiply it by a large number first"):
        check_rounding(np.ones((50, 1)), y, "float32")
    x = np.column_stack([y, np.arange(50.0)])
    model = gd.Sequential([gd.Standardize(), gd.Dense(1)], inputs=2)
    model.adapt(gd.Batches(x, x[:, 1]))
    with pytest.warns(UserWarning, match="multiply it by a large number"):
        history = model.fit(x, x[:, 1], loss="mse")
    assert np.isfinite(history["loss"][0])


def test_only_the_rows_that_training_begins_with_are_looked_at():
    # Two validation rows, or two rows of a later piece, may be near each other.
    x, y = table()
    near_each_other = x[:2], np.array([1e9, 1e9 + 1])
    own = trainer()
    own.fit(x, y, validation_data=near_each_other)
    own.fit(x[:2], y[:2] * 0 + [1.0, 1.0 + 1e-9])
    own.evaluate(*near_each_other)


# Tables -----------------------------------------------------------------------------------------


def csv(table, **options):
    return gd.CsvSource(io.BytesIO(table.to_csv(index=False).encode()), **options)


def frames(table, **options):
    return gd.IterableSource([table[:20], table[20:]], **options)


kinds = pytest.mark.parametrize("make", [csv, frames])


@kinds
def test_a_target_of_a_table_is_refused(make):
    table = pd.DataFrame({"a": near(0.0, 1.0), "kind": ["p", "q"] * 25, "y": near(1e9, 1.0)})
    with pytest.raises(gd.DataError, match=r": column 'y' goes from 1000000000\.\d+ to .* float32"):
        make(table, target="y")
    (_, y), *_ = make(table, target="y", dtype="float64").chunks()
    assert len(np.unique(y)) == len(y) > 1
    make(table.assign(y=table["y"] - 1e9), target="y")


@kinds
def test_a_column_of_a_table_is_warned_of(make):
    table = pd.DataFrame({"a": near(1e9, 1.0), "kind": ["p", "q"] * 25, "y": near(0.0, 1.0)})
    with pytest.warns(UserWarning, match=r": column 'a' goes from 1000000000\.\d+ to .* float32"):
        make(table, target="y")
    make(table, target="y", exclude=["a"])


@kinds
def test_whole_numbers_of_a_target_stay_as_they_are(make):
    table = pd.DataFrame({"a": near(0.0, 1.0), "y": 10**9 + np.arange(50)})
    chunks = [y for _, y in make(table, target="y").chunks()]
    assert np.concatenate(chunks).tolist() == table["y"].tolist()


@kinds
def test_a_table_of_text_alone_has_no_numbers_to_lose(make):
    table = pd.DataFrame({"a": ["u", "v"] * 25, "y": ["p", "q", "p", "p", "q"] * 10})
    assert make(table, target="y").classes == ["p", "q"]


@kinds
def test_rows_left_out_are_not_looked_at(make):
    table = pd.DataFrame({"a": near(0.0, 1.0), "y": near(1e9, 1.0)})
    table.loc[3] = [np.nan, 0.0]
    with pytest.raises(gd.DataError, match="column 'y' goes from 1000000000"):
        make(table, target="y", missing="drop")
