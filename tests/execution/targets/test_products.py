"""Products of small matrices as loops: near the exact ones, each row the same among any others."""

import numpy as np
import pytest
from budgets import examples
from hypothesis import given
from hypothesis import strategies as st

numba = pytest.importorskip("numba")

from minigd.execution.targets import products  # noqa: E402

sizes = st.integers(1, 40)
dtypes = st.sampled_from(["float32", "float64"])


@numba.njit(error_model="numpy")
def forward(x, W, y, n, k, m):
    products.add_product(x, W, y, n, k, m)


@numba.njit(error_model="numpy", fastmath=True)
def weights(x, dy, dW, n, k, m):
    products.add_product_of_transposed(x, dy, dW, n, k, m)


@numba.njit(error_model="numpy")
def inputs(dy, W, dx, n, k, m):
    products.add_product_with_transposed(dy, W, dx, n, k, m)


PRODUCTS = {
    forward: lambda x, W, dy: (x, W, (x, W)),
    weights: lambda x, W, dy: (x.T, dy, (x, dy)),
    inputs: lambda x, W, dy: (dy, W.T, (dy, W)),
}
by_product = pytest.mark.parametrize("product", PRODUCTS, ids=lambda p: p.__name__)


def drawn(n, k, m, dtype, seed):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=s).astype(dtype) for s in ((n, k), (k, m), (n, m))]


@by_product
@given(n=sizes, k=sizes, m=sizes, dtype=dtypes, seed=st.integers(0, 9))
@examples(50)
def test_a_product_is_near_the_exact_one(product, n, k, m, dtype, seed):
    a, b, arguments = PRODUCTS[product](*drawn(n, k, m, dtype, seed))
    start = np.random.default_rng(seed).normal(size=(len(a), b.shape[1])).astype(dtype)
    found = start.copy()
    product(*arguments, found, n, k, m)
    wide = np.longdouble if dtype == "float64" else np.float64
    exact = start + a.astype(wide) @ b.astype(wide)
    size = np.abs(start) + np.abs(a.astype(wide)) @ np.abs(b)
    unit = np.finfo(dtype).eps / 2
    assert (np.abs(found - exact) <= (a.shape[1] + 1) * unit * size).all()


@by_product
@given(n=sizes, k=sizes, m=sizes, dtype=dtypes)
@examples(20)
def test_a_row_has_the_same_bits_among_other_rows_and_columns(product, n, k, m, dtype):
    x, W, dy = drawn(n, k, m, dtype, seed=1)
    rows, columns, arguments = PRODUCTS[product](x, W, dy)
    whole = np.zeros((len(rows), columns.shape[1]), dtype)
    product(*arguments, whole, n, k, m)
    for i in {0, len(rows) // 2, len(rows) - 1}:
        for j in {0, columns.shape[1] - 1}:
            # The loops of the first function on one row and one column.
            alone = np.zeros((1, 1), dtype)
            row, column = rows[i : i + 1].copy(), columns[:, j : j + 1].copy()
            forward(row, column, alone, 1, row.shape[1], 1)
            assert alone[0, 0] == whole[i, j]


@by_product
def test_rows_past_n_are_left_alone(product):
    x, W, dy = drawn(5, 3, 4, "float32", seed=2)
    _, _, arguments = PRODUCTS[product](x, W, dy)
    kept = np.full((5, 4), 7, "float32")
    product(*arguments, kept, 3, 3, 3)
    assert (kept[3:] == 7).all()
    assert (kept[:, 3:] == 7).all()


def test_small_products_are_loops_for_python_and_for_numba():
    assert products.use_loops(1, 10, 10)
    assert not products.use_loops(100, 10, 10)
    compiled = numba.njit(lambda n: products.use_loops(n, 10, 10))
    assert [compiled(n) for n in (1, 4, 5)] == [True, True, False]
