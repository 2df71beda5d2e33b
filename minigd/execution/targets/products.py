"""Products of small matrices as loops, where they take less time than a call of BLAS.

Each function adds to an array that the caller has filled with a layer's bias or with zeros. All
take row-major arrays of one dtype, and the numbers of rows and columns. Where k and m are
constants, as in printed source, the loops are compiled for them.

Every sum is taken in the order of its index, with one rounding for each product that it adds. So a
row of a result has the same bits whatever the other rows are and however many there are. Processors
without a fused multiply-add round twice each time. A sum of K products is within
(K + 1) u Σ|aₖ bₖ| of the exact one, where u is half the dtype's epsilon; twice that without.

This module imports Numba: import it where Numba is known to be installed.
"""

from minigd.execution.targets.vector_math import extending, multiply_add, strict
from minigd.types import Array

LARGEST = 400
"""The most multiplications for which loops take less time, on one thread.

In nanoseconds, loops / `np.dot` inside Numba, float32, on a processor with AVX-512:

=============  =============  =============  =============
n, k, m        x @ W          x.T @ dy       dy @ W.T
=============  =============  =============  =============
1, 2, 10       18 / 69        11 / 115       27 / 81
1, 10, 10      38 / 78        33 / 121       47 / 110
4, 10, 10      74 / 68        95 / 129       117 / 158
8, 10, 10      138 / 78       183 / 139      192 / 189
32, 10, 1      110 / 136      136 / 110      101 / 207
100, 10, 10    1655 / 365     2051 / 504     2064 / 666
32, 32, 32     7203 / 535     6531 / 489     12103 / 1307
=============  =============  =============  =============

With OpenBLAS's kernels for AVX2 the limit would be about 800. A call of `np.dot` from Python takes
450 ns more than one inside Numba.
"""


@extending.register_jitable  # type: ignore[untyped-decorator, unused-ignore]
def use_loops(n: int, k: int, m: int) -> bool:
    """Tell whether the products of x (n, k), W (k, m) and dy (n, m) are faster as loops."""
    return n * k * m <= LARGEST


@strict
def add_product(x: Array, W: Array, y: Array, n: int, k: int, m: int) -> None:
    """Add x @ W, of shapes (n, k) and (k, m), to y."""
    for i in range(n):
        for p in range(k):
            a = x[i, p]
            for j in range(m):
                y[i, j] = multiply_add(a, W[p, j], y[i, j])


@strict
def add_product_of_transposed(x: Array, dy: Array, dW: Array, n: int, k: int, m: int) -> None:
    """Add x.T @ dy, of shapes (k, n) and (n, m), to dW."""
    for i in range(n):
        for p in range(k):
            a = x[i, p]
            for j in range(m):
                dW[p, j] = multiply_add(a, dy[i, j], dW[p, j])


@strict
def add_product_with_transposed(dy: Array, W: Array, dx: Array, n: int, k: int, m: int) -> None:
    """Add dy @ W.T, of shapes (n, m) and (m, k), to dx."""
    for i in range(n):
        for p in range(k):
            total = dx[i, p]
            for j in range(m):
                total = multiply_add(dy[i, j], W[p, j], total)
            dx[i, p] = total
