"""Flat memory by address, products in it, and subnormal numbers, which Numba does not offer.

A compiled step gets all its arrays as one array of addresses: each use of a Numba array costs the
compiler milliseconds.

This module imports Numba: import it where Numba is known to be installed.
"""

import platform
from collections.abc import Iterator, Sequence
from typing import Any

from minigd.execution.targets.vector_math import extending, ir, numba


def _type_pointer(_: Any, address: Any, kind: Any) -> Any:
    """Return the address of numbers as a pointer, which can be indexed like an array."""
    pointer = numba.types.CPointer(kind.dtype)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(pointer))

    return pointer(address, kind), generate


def _type_product(
    _: Any,
    gemm: Any,
    a: Any,
    a_start: Any,
    a_turned: Any,
    b: Any,
    b_start: Any,
    b_turned: Any,
    out: Any,
    start: Any,
    n: Any,
    k: Any,
    m: Any,
    factor: Any,
) -> Any:
    """Write a product of two matrices, each in row order or transposed, and a number.

    BLAS computes it, or a loop over the rows of a batch if all other sizes are known and small.

    Its arguments are BLAS's function; memory, offset and a flag for transposed of each matrix;
    memory and offset of the product; the numbers n, k and m of (n, k) times (k, m); and the number.
    """
    takes = (gemm, a, a_start, a_turned, b, b_start, b_turned, out, start, n, k, m, factor)
    # The value of a literal in the source. The rows of a batch have a name there.
    known: list[Any] = [getattr(t, "literal_value", None) for t in (n, k, m, a_turned, b_turned)]
    rows, inner, width, *turned = known
    summed = turned in ([True, False], [rows != 1, False])  # a single row counts as transposed

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        char, whole, number = ir.IntType(8), ir.IntType(32), context.get_value_type(out.dtype)
        if rows is None and turned[0] is False and _is_small(inner, width):
            for vectors in _split(builder, number, width):
                _multiply_rows(vectors, inner, turned[1], args)
        elif inner is None and summed and _is_small(rows, width):
            for vectors in _split(builder, number, width):
                _sum_rows(vectors, rows, args)
        else:
            _call_gemm(builder, [char, whole, number], args)
        return context.get_dummy_value()

    return numba.types.none(*takes), generate


SMALL = 24
"""The largest number of rows and columns of a weight matrix for which loops are faster than BLAS.

The rows of a batch don't count, so batches of all sizes give the same bits.
"""


def _is_small(rows: int | None, columns: int | None) -> bool:
    return rows is not None and columns is not None and max(rows, columns) <= SMALL


def _split(builder: Any, number: Any, width: int) -> Iterator["_Vectors"]:
    """Yield the columns of a matrix in parts of 16, 8, 4, 2 and 1, which fit into vectors."""
    first = 0
    for size in (16, 8, 4, 2, 1):
        while width - first >= size:
            yield _Vectors(builder, number, size, first, width)
            first += size


class _Vectors:
    """Writes operations on some columns of a matrix. The numbers of a row are a vector."""

    def __init__(self, builder: Any, number: Any, width: int, first: int, columns: int) -> None:
        self.builder, self.width, self.first, self._columns = builder, width, first, columns
        self.kind, self.loop = ir.VectorType(number, width), numba.core.cgutils.for_range
        self.zero = self.kind([0.0] * width)
        # It rounds once if the processor has such an instruction, and otherwise twice.
        name, takes = f"llvm.fmuladd.v{width}{number.intrinsic_name}", [self.kind] * 3
        function = ir.FunctionType(self.kind, takes)
        self._fmuladd = numba.core.cgutils.get_or_insert_function(builder.module, function, name)

    def cell(self, memory: Any, row: Any, width: int, column: int = 0) -> Any:
        """Return the address of a number of a matrix."""
        row, width, column = [
            ir.IntType(64)(i) if isinstance(i, int) else i for i in (row, width, column)
        ]
        return self.builder.gep(memory, [self.builder.add(self.builder.mul(row, width), column)])

    def row(self, memory: Any, row: Any) -> Any:
        """Return the address of these columns of a row, as that of a vector."""
        place = self.cell(memory, row, self._columns, self.first)
        return self.builder.bitcast(place, self.kind.as_pointer())

    def load(self, place: Any) -> Any:
        return self.builder.load(place, align=4)

    def of(self, numbers: Sequence[Any]) -> Any:
        """Return a vector of numbers."""
        vector = self.kind(ir.Undefined)
        for j, number in enumerate(numbers):
            vector = self.builder.insert_element(vector, number, ir.IntType(32)(j))
        return vector

    def add(self, total: Any, number: Any, vector: Any) -> Any:
        """Return total + number · vector."""
        return self.builder.call(self._fmuladd, [self.of([number] * self.width), vector, total])

    def store(self, total: Any, factor: Any, place: Any) -> None:
        """Store a vector times a number."""
        scaled = self.builder.fmul(total, self.of([factor] * self.width))
        self.builder.store(scaled, place, align=4)


def _multiply_rows(v: _Vectors, inner: int, turned: bool, arguments: Sequence[Any]) -> None:
    """Write a loop over the rows of a, each times a small matrix b."""
    _, a, a_start, _, b, b_start, _, out, start, n, _, _, factor = arguments
    a, b, out = [v.builder.gep(m, [at]) for m, at in ((a, a_start), (b, b_start), (out, start))]
    if turned:
        columns = [[v.cell(b, v.first + j, inner, i) for j in range(v.width)] for i in range(inner)]
        matrix = [v.of(list(map(v.load, column))) for column in columns]
    else:
        matrix = [v.load(v.row(b, i)) for i in range(inner)]
    with v.loop(v.builder, n) as loop:
        total = v.zero
        for i, vector in enumerate(matrix):
            total = v.add(total, v.load(v.cell(a, loop.index, inner, i)), vector)
        v.store(total, factor, v.row(out, loop.index))


def _sum_rows(v: _Vectors, rows: int, arguments: Sequence[Any]) -> None:
    """Write a loop over the rows of aᵀ and b, which adds their outer products to a small matrix."""
    _, a, a_start, _, b, b_start, _, out, start, _, k, _, factor = arguments
    a, b, out = [v.builder.gep(m, [at]) for m, at in ((a, a_start), (b, b_start), (out, start))]
    totals = [numba.core.cgutils.alloca_once(v.builder, v.kind) for _ in range(rows)]
    for total in totals:
        v.builder.store(v.zero, total)
    with v.loop(v.builder, k) as loop:
        vector = v.load(v.row(b, loop.index))
        for i, total in enumerate(totals):
            number = v.load(v.cell(a, loop.index, rows, i))
            v.builder.store(v.add(v.builder.load(total), number, vector), total)
    for i, total in enumerate(totals):
        v.store(v.builder.load(total), factor, v.row(out, i))


def _call_gemm(builder: Any, types: list[Any], arguments: Sequence[Any]) -> None:
    """Write the call of BLAS; `types` are those of a letter, a size and a number."""
    gemm, a, a_start, a_turned, b, b_start, b_turned, out, start, n, k, m, factor = arguments
    char, whole, number = types
    kinds = [char, char, *[whole] * 3, number, number, whole, number, whole, number, number, whole]
    function = ir.FunctionType(ir.VoidType(), [kind.as_pointer() for kind in kinds])

    def place(kind: Any, value: Any) -> Any:
        # In the first block, so that a loop does not use more of the stack in each iteration.
        with builder.goto_entry_block():
            slot = builder.alloca(kind)
        builder.store(value, slot)
        return slot

    def size(value: Any) -> Any:
        return place(whole, builder.trunc(value, whole))

    def letter(is_turned: Any) -> Any:
        return place(char, builder.select(is_turned, *[ir.Constant(char, ord(c)) for c in "TN"]))

    # BLAS uses column order, and sees each matrix transposed: it computes bᵀ aᵀ = (a b)ᵀ.
    words = [letter(b_turned), letter(a_turned), size(m), size(n), size(k), place(number, factor)]
    words += [builder.gep(b, [b_start]), size(builder.select(b_turned, k, m))]
    words += [builder.gep(a, [a_start]), size(builder.select(a_turned, n, k))]
    words += [place(number, ir.Constant(number, 0.0)), builder.gep(out, [start]), size(m)]
    builder.call(builder.inttoptr(gemm, function.as_pointer()), words)


FLUSH = 0x8000
"""The bit of an x86 processor's register MXCSR that replaces subnormal numbers by 0."""


def _type_flush_subnormals(_: Any, on: Any) -> Any:
    """Let the processor replace subnormal numbers by 0, or not. Return the old setting.

    It takes a hundred times as long for a subnormal number, and a running mean that shrinks by a
    tenth at each update becomes subnormal and stays so. Other processors than x86 are not changed.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if platform.machine().lower() not in ("x86_64", "amd64"):
            return ir.Constant(ir.IntType(1), 0)
        with builder.goto_entry_block():
            slot = builder.alloca(ir.IntType(32))

        def register(name: str) -> None:
            kind = ir.FunctionType(ir.VoidType(), [ir.IntType(8).as_pointer()])
            function = builder.module.declare_intrinsic(f"llvm.x86.sse.{name}", (), kind)
            builder.call(function, [builder.bitcast(slot, ir.IntType(8).as_pointer())])

        flag = ir.Constant(ir.IntType(32), FLUSH)
        register("stmxcsr")
        before = builder.load(slot)
        others = builder.and_(before, builder.not_(flag))
        builder.store(builder.select(args[0], builder.or_(before, flag), others), slot)
        register("ldmxcsr")
        return builder.icmp_unsigned("!=", before, others)

    return numba.types.boolean(numba.types.boolean), generate


pointer = extending.intrinsic(_type_pointer)
product = extending.intrinsic(prefer_literal=True)(_type_product)
flush_subnormals = extending.intrinsic(_type_flush_subnormals)
