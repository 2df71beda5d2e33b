"""A row of a table has the same bits in every source and format, in numbers of every kind.

BLAS sums a product of matrices in an order that depends on the number of rows. Rows must therefore
be cut in the same way, however a source reads them.
"""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import minigd as gd

ROWS, WIDTH = 1100, 24
"""More rows than are predicted at once, and enough columns for sums in more than one order."""

HIDDEN = {"linear": (), "network": (100,)}


def table():
    """Return columns of numbers, and a target that depends on them."""
    x = np.random.default_rng(0).standard_normal((ROWS, WIDTH))
    return x, (x[:, :1] - x[:, 1:2]) ** 2


def frame(x, y):
    named = pd.DataFrame(x, columns=[f"c{i}" for i in range(WIDTH)])
    return named.assign(y=y[:, 0])


def model_of(kind, dtype="float32", last=()):
    hidden = [layer for width in HIDDEN[kind] for layer in (gd.Dense(width), gd.Tanh())]
    return gd.Sequential([*hidden, gd.Dense(1), *last], inputs=WIDTH, dtype=dtype, seed=1)


def uneven(x, y):
    """Return rows in pieces of 1, 2, 3, ... rows."""
    ends = np.cumsum(np.arange(60))
    parts = zip(np.split(x, ends), np.split(y, ends), strict=True)
    return [part for part in parts if len(part[0])]


def filled_again(x, y):
    """Return pieces in an array that is filled again for each."""
    a, b = np.empty((11, WIDTH), x.dtype), np.empty((11, 1), y.dtype)
    for start in range(0, ROWS, 11):
        a[...], b[...] = x[start : start + 11], y[start : start + 11]
        yield a, b


def csv_of(x, y, folder):
    frame(x, y).to_csv(folder / "t.csv", index=False)
    return folder / "t.csv"


def parquet_of(x, y, folder):
    frame(x, y).to_parquet(folder / "t.parquet", row_group_size=97)
    return folder / "t.parquet"


def npy_of(x, y, folder):
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", y)
    return gd.NpySource(folder / "x.npy", folder / "y.npy")


OPTIONS = {"target": "y", "dtype": "float64"}
SOURCES = {
    "an array": lambda x, y, folder: gd.ArraySource(x, y),
    "columns first": lambda x, y, folder: gd.ArraySource(np.asfortranarray(x), y),
    "every second": lambda x, y, folder: gd.ArraySource(x.repeat(2, axis=0)[::2], y),
    "uneven pieces": lambda x, y, folder: gd.IterableSource(uneven(x, y)),
    "pieces filled again": lambda x, y, folder: gd.IterableSource(lambda: filled_again(x, y)),
    "rows": lambda x, y, folder: gd.IterableSource(
        [(row, float(b)) for row, (b,) in zip(x, y, strict=True)]
    ),
    "a frame": lambda x, y, folder: gd.FrameSource(frame(x, y), **OPTIONS),
    "frames": lambda x, y, folder: gd.IterableSource(
        [frame(x, y)[:300], frame(x, y)[300:]], **OPTIONS
    ),
    "a CSV": lambda x, y, folder: gd.CsvSource(csv_of(x, y, folder), **OPTIONS),
    "a CSV in short blocks": lambda x, y, folder: gd.CsvSource(
        csv_of(x, y, folder), **OPTIONS, block_size=100_000
    ),
    "a Parquet file": lambda x, y, folder: gd.ParquetSource(parquet_of(x, y, folder), **OPTIONS),
    "npy files": npy_of,
    "a cache": lambda x, y, folder: gd.CsvSource(csv_of(x, y, folder), **OPTIONS).cache(
        folder / "cache"
    ),
}


@pytest.fixture(params=SOURCES)
def source(request, tmp_path):
    """Return a function that makes a source of a table's rows."""
    return lambda x, y: SOURCES[request.param](x, y, tmp_path)


def test_predictions(source):
    x, y = table()
    rows = source(x, y)
    for kind, dtype in itertools.product(HIDDEN, ("float32", "float64")):
        model = model_of(kind, dtype)
        np.testing.assert_array_equal(model.predict(rows), model.predict(x))


@pytest.mark.each
@pytest.mark.parametrize("kind", HIDDEN)
def test_training_and_evaluation(source, kind):
    x, y = table()
    found = []
    for rows in (gd.ArraySource(x, y), source(x, y)):
        model = model_of(kind)
        batches = gd.Batches(rows, batch_size=300)
        history = model.fit(batches, loss="mse", metrics=["r2"], validation_data=rows)
        scores = [model.evaluate(rows), {k: v for k, v in history.items() if k != "seconds"}]
        found.append((model.flat_params.copy(), scores))
    np.testing.assert_array_equal(found[1][0], found[0][0])
    assert found[1][1] == found[0][1]


def test_a_sparse_matrix_and_numbers_of_another_order_of_bytes():
    x, _ = table()
    model = model_of("network")
    for form in (sparse.csr_matrix, sparse.csc_array, lambda x: x.astype(">f8")):
        np.testing.assert_array_equal(model.predict(form(x)), model.predict(x))


def test_an_estimator():
    x, y = table()
    estimator = gd.MiniBatchRegressor(hidden=(100,), epochs=1).fit(x, y[:, 0])
    expected = estimator.predict(x)
    for make in ("uneven pieces", "a frame", "columns first"):
        np.testing.assert_array_equal(estimator.predict(SOURCES[make](x, y, None)), expected)
    np.testing.assert_array_equal(estimator.model_.predict(x)[:, 0], expected)


# One row at a time ---------------------------------------------------------------------------


def sums_alike(width, dtype):
    """Tell whether this BLAS gives a row the same product in every block of 16 rows."""
    x, w = np.random.default_rng(2).standard_normal((2, 1024, width)).astype(dtype)
    whole = np.dot(x, w[:1].T)
    return all(
        np.array_equal(np.dot(x[k : k + n], w[:1].T), whole[k : k + n])
        for n in (16, 80)
        for k in range(0, 1024 - n, n)
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("width", [3, WIDTH, 333])
def test_a_linear_model_gives_a_row_the_same_number_beside_any_others(width, dtype):
    if not sums_alike(width, dtype):
        pytest.skip("this BLAS sums a row otherwise in each place of a product")
    x = np.random.default_rng(1).standard_normal((ROWS, width)).astype(dtype)
    model = gd.Sequential([gd.Dense(1), gd.Sigmoid()], inputs=width, dtype=dtype, seed=1)
    expected = model.predict(x)
    for size in (1, 7, 100, 1000):
        some = [model.predict(x[k : k + size]) for k in range(0, ROWS, size)][: 200 // size + 1]
        np.testing.assert_array_equal(np.concatenate(some), expected[: sum(map(len, some))])
        np.testing.assert_array_equal(model.predict(x, batch_size=size), expected)
