"""Recomputes an explanation with plain Python floats, by reading its formulas.

A small calculator for the notation of `minigd.explain`: it knows the numbers of earlier lines, but
not layers, losses or NumPy. So it detects wrong formulas and wrong numbers.
"""

import math
import re

ROUNDING = 2.0**-53


class Number:
    """A float, and how far rounding may have moved it, in units of one rounding."""

    def __init__(self, value, moved=0.0):
        self.value, self.moved = float(value), moved

    def __add__(self, other):
        value = self.value + other.value
        return Number(value, self.moved + other.moved + abs(value))

    def __neg__(self):
        return Number(-self.value, self.moved)

    def __sub__(self, other):
        return self + -other

    def __mul__(self, other):
        value = self.value * other.value
        moved = abs(self.value) * other.moved + abs(other.value) * self.moved
        return Number(value, moved + abs(value))

    def __truediv__(self, other):
        value = self.value / other.value
        return Number(
            value, (self.moved + abs(value) * other.moved) / abs(other.value) + abs(value)
        )

    def __abs__(self):
        return Number(abs(self.value), self.moved)

    def through(self, function, slope):
        """Return function(self); `slope` takes the function's value to its derivative."""
        value = function(self.value)
        return Number(value, abs(slope(value)) * self.moved + abs(value))


FUNCTIONS = {
    "exp": lambda a: a.through(math.exp, lambda y: y),
    "log": lambda a: a.through(math.log, lambda y: math.exp(-y)),
    "tanh": lambda a: a.through(math.tanh, lambda y: 1 - y * y),
    "erf": lambda a: a.through(math.erf, lambda y: 2 / math.sqrt(math.pi)),  # at most
    "√": lambda a: a.through(math.sqrt, lambda y: 0.5 / y if y else 0.0),
    "|": abs,
    "max": lambda a, b: a if a.value >= b.value else b,
    "min": lambda a, b: a if a.value <= b.value else b,
    ">": lambda a, b: Number(a.value > b.value),
    "≤": lambda a, b: Number(a.value <= b.value),
    "+": Number.__add__,
    "−": Number.__sub__,
    "⊙": Number.__mul__,
    "/": Number.__truediv__,
}


class Grid:
    """Rows of numbers; one number is a grid of one row and one column."""

    def __init__(self, rows):
        self.rows = rows
        self.shape = len(rows), len(rows[0])

    @classmethod
    def of(cls, line):
        """Return the value of a line: a vector is a column if it holds a number an example."""
        value = line.value.tolist()
        if line.value.ndim == 0:
            value = [[value]]
        elif line.value.ndim == 1:
            value = [[v] for v in value] if line.by_row else [value]
        return cls([[Number(v) for v in row] for row in value])

    @property
    def turned(self):
        return Grid([list(column) for column in zip(*self.rows, strict=True)])

    def at(self, i, j):
        """Return an entry; one row serves all rows, and one column all columns."""
        return self.rows[i if self.shape[0] > 1 else 0][j if self.shape[1] > 1 else 0]

    def each(self, name, *others):
        """Apply a function entry by entry."""
        grids = (self, *others)
        shape = []
        for sizes in zip(*(g.shape for g in grids), strict=True):
            if len({size for size in sizes if size != 1}) > 1:
                raise ValueError(f"{name}: {[g.shape for g in grids]} do not fit")
            shape.append(max(sizes))
        function = FUNCTIONS[name]
        return Grid(
            [
                [function(*(g.at(i, j) for g in grids)) for j in range(shape[1])]
                for i in range(shape[0])
            ]
        )

    def product(self, other):
        """Return the product of two matrices, or with a number."""
        if (1, 1) in (self.shape, other.shape):
            return self.each("⊙", other)
        if self.shape[1] != other.shape[0]:
            raise ValueError(f"no product of {self.shape} and {other.shape}")
        columns = other.turned.rows
        return Grid(
            [
                [total([a * b for a, b in zip(r, c, strict=True)]) for c in columns]
                for r in self.rows
            ]
        )

    def sum_rows(self):
        return Grid([[total(column) for column in self.turned.rows]])

    def largest(self, among):
        """Return the largest number of each row, of those whose flag is 1."""
        rows = [
            [number for number, flag in zip(row, flags, strict=True) if flag.value]
            for row, flags in zip(self.rows, among.rows, strict=True)
        ]
        return Grid([[max(row, key=lambda number: number.value)] for row in rows])

    def sum_columns(self):
        return self.turned.sum_rows().turned


def total(numbers):
    """Return the sum, from left to right."""
    result = numbers[0]
    for number in numbers[1:]:
        result = result + number
    return result


TOKEN = re.compile("Σ[ᵢₖ]|[0-9]+(?:\\.[0-9]+)?|[^\\W\\d½²ᵀᵢₖ](?:(?![²ᵀ½])[\\w.\u0302])*|\\S")


class Calculator:
    """Evaluates the right-hand side of a formula.

    From the loosest to the tightest: ``+ −``, then ``· ⊙ /`` from left to right, then the signs in
    front (``− √ Σᵢ Σₖ``), then those behind (``² ᵀ ^``).
    """

    def __init__(self, formula, values):
        self.tokens, self.values = [*TOKEN.findall(formula), "end"], values
        self.used = []

    def result(self):
        found = self.sum()
        assert self.tokens == ["end"], f"left over: {self.tokens}"
        return found

    def next(self, *wanted):
        token = self.tokens.pop(0)
        assert not wanted or token in wanted, f"{token!r} where {wanted} belongs"
        return token

    def sum(self):
        found = self.term()
        while self.tokens[0] in ("+", "−"):
            found = found.each(self.next(), self.term())
        return found

    def term(self):
        found = self.signed()
        while self.tokens[0] in ("·", "⊙", "/"):
            sign, other = self.next(), self.signed()
            found = found.product(other) if sign == "·" else found.each(sign, other)
        return found

    def signed(self):
        if self.tokens[0] == "−":
            self.next()
            return Grid([[Number(0)]]).each("−", self.signed())
        if self.tokens[0] == "√":
            self.next()
            return self.signed().each("√")
        if self.tokens[0] in ("Σᵢ", "Σₖ"):
            rows = self.next() == "Σᵢ"
            inside = self.signed()
            return inside.sum_rows() if rows else inside.sum_columns()
        return self.raised()

    def raised(self):
        found = self.atom()
        while self.tokens[0] in ("²", "ᵀ", "^"):
            sign = self.next()
            if sign == "²":
                found = found.each("⊙", found)
            elif sign == "ᵀ":
                found = found.turned
            else:
                power = int(self.atom().at(0, 0).value)
                base = found.at(0, 0).value
                found = Grid([[Number(base**power, power * base**power)]])
        return found

    def atom(self):
        token = self.next()
        if token == "½":
            return Grid([[Number(0.5)]])
        if token[0].isdecimal():
            return Grid([[Number(token)]])
        if token == "(":
            found = self.sum()
            self.next(")")
            return found
        if token == "|":
            found = self.sum()
            self.next("|")
            return found.each("|")
        if token == "[":
            left = self.sum()
            found = left.each(self.next(">", "≤"), self.sum())
            self.next("]")
            return found
        if self.tokens[0] == "(":
            return self.call(token)
        self.used.append((token, self.tokens[0] == "ᵀ"))
        return self.values[token]

    def call(self, name):
        self.next("(")
        arguments = [self.sum()]
        while self.tokens[0] == ",":
            self.next()
            arguments.append(self.sum())
        self.next(")")
        if name == "maxₖ":
            return arguments[0].largest(arguments[1])
        if name == "onehot":
            classes, k = arguments[0], int(arguments[1].at(0, 0).value)
            return Grid([[Number(j == row[0].value) for j in range(k)] for row in classes.rows])
        return arguments[0].each(name, *arguments[1:])


def recompute(trace, relative=1e-12):
    """Recompute every line from the numbers of earlier ones, and return how many were compared.

    Allowed is `relative`, and what some roundings can do where a difference makes more of it.

    Raises
    ------
    AssertionError
        If a number, a name or a shape is not what the formula says.
    """
    arrays = {line.name: line for line in trace.given}
    values = {name: Grid.of(line) for name, line in arrays.items()}
    compared = 0
    for line in trace.lines:
        left, _, right = line.formula.partition(" ← " if " ← " in line.formula else " = ")
        assert left == line.name, line.formula
        got = Grid.of(line)
        assert all(name in values for name in line.operands), f"{line!r}: unknown operands"
        if "formula not known" in line.remark:
            values[left], arrays[left] = got, line
            continue
        if right.startswith("drawn("):
            assert {n.value for row in got.rows for n in row} <= {0.0, 1.0}, line
            values[left], arrays[left] = got, line
            continue
        calculator = Calculator(right, {name: values[name] for name in line.operands})
        try:
            want = calculator.result()
        except (KeyError, ValueError, OverflowError, ZeroDivisionError) as error:
            raise AssertionError(f"{line!r}: {error!r}") from error
        names = {name for name, _ in calculator.used}
        assert names == set(line.operands), f"{line!r}: {line.operands}"
        check_shapes(line, calculator.used, arrays)
        assert want.shape == got.shape, f"{line!r}: {got.shape} and not {want.shape}"
        for i in range(got.shape[0]):
            for j in range(got.shape[1]):
                a, b = got.at(i, j).value, want.at(i, j)
                allowed = relative * abs(b.value) + 16 * ROUNDING * b.moved
                assert abs(a - b.value) <= allowed, f"{line!r} at {i, j}: {a} and not {b.value}"
        values[left], arrays[left] = got, line
        compared += 1
    return compared


def check_shapes(line, used, arrays):
    """Compare the shapes that a line shows with those of what it uses, turned where it says so."""
    want = []
    for name, turned in used:
        shape = arrays[name].value.shape
        want += [str(shape[::-1] if turned else shape)] if shape else []
    assert re.findall(r"\(\d+,(?: \d+)?\)", line.shapes) == want, f"{line!r}: {line.shapes}"
