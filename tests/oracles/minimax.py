"""Minimax polynomials by Remez's exchange, in 50 digits: the coefficients of `vector_math`.

Run as a script, it prints them. It needs only the standard library.
"""

from collections.abc import Callable
from decimal import Decimal, localcontext
from math import cos, pi

DIGITS = 50
LN_2 = Decimal("0.69314718055994530941723212145817656807550013436025525412068")
Function = Callable[[Decimal], Decimal]


def exp_tail(r: Decimal) -> Decimal:
    """Return Q of exp(r) = 1 + r + r² Q(r)."""
    if abs(r) > Decimal("1e-6"):
        return (r.exp() - 1 - r) / (r * r)
    return Decimal(1) / 2 + r / 6 + r * r / 24 + r**3 / 120


def exp_weight(r: Decimal) -> Decimal:
    """Return what an error of Q is worth in exp(r) − 1, as a fraction of it."""
    return r * r / abs(r.exp() - 1) if abs(r) > Decimal("1e-6") else abs(r)


def log_tail(z: Decimal) -> Decimal:
    """Return L of 2 artanh(s) = 2 s + s z L(z), for z = s²."""
    s = z.sqrt()
    if z > Decimal("1e-10"):
        return (((1 + s) / (1 - s)).ln() - 2 * s) / (s * z)
    return Decimal(2) / 3 + 2 * z / 5 + 2 * z * z / 7


def log_weight(z: Decimal) -> Decimal:
    """Return what an error of L is worth in 2 artanh(s), as a fraction of it."""
    return z / 2


def exp_polynomial(degree: int) -> list[Decimal]:
    """Return the coefficients of Q, the constant first, for |r| up to ln 2 / 2."""
    high = LN_2 / 2 * Decimal("1.0001")  # what rounds to the nearest multiple may miss it by a bit
    return remez(exp_tail, exp_weight, -high, high, degree)


def log_polynomial(degree: int) -> list[Decimal]:
    """Return the coefficients of L, the constant first: s = f / (2 + f), 1 + f from √½ to √2."""
    root = Decimal(2).sqrt()
    high = ((root - 1) / (root + 1)) ** 2 * Decimal("1.0001")
    return remez(log_tail, log_weight, Decimal(0), high, degree)


def remez(
    function: Function, weight: Function, low: Decimal, high: Decimal, degree: int
) -> list[Decimal]:
    """Return the polynomial whose largest weighted error on [low, high] is the least."""
    with localcontext() as context:
        context.prec = DIGITS
        grid = _chebyshev(low, high, 40 * (degree + 2))
        exact = [(t, function(t), weight(t)) for t in grid]
        # Chebyshev's points; one at which an error weighs nothing cannot be among them.
        points = [exact[40 * i + 20] for i in range(degree + 2)]
        for _ in range(12):
            rows = [
                [t**k for k in range(degree + 1)] + [(-1) ** i / w, value]
                for i, (t, value, w) in enumerate(points)
            ]
            found = _solve(rows)[:-1]
            errors = [w * (value - horner(found, t)) for t, value, w in exact]
            peaks = _alternating(errors, degree + 2)
            if [exact[i] for i in peaks] == points:
                break
            points = [exact[i] for i in peaks]
        return found


def horner(coefficients: list[Decimal], t: Decimal) -> Decimal:
    """Return the polynomial at t."""
    total = Decimal(0)
    for c in reversed(coefficients):
        total = total * t + c
    return total


def _chebyshev(low: Decimal, high: Decimal, n: int) -> list[Decimal]:
    middle, half = (high + low) / 2, (high - low) / 2
    return [middle - half * Decimal(cos(pi * (i + 0.5) / n)) for i in range(n)]


def _alternating(errors: list[Decimal], n: int) -> list[int]:
    """Return the places of n extremes of alternating sign, the largest."""
    runs: list[int] = []
    for i, error in enumerate(errors):
        if runs and (errors[runs[-1]] > 0) == (error > 0):
            if abs(error) > abs(errors[runs[-1]]):
                runs[-1] = i
        else:
            runs.append(i)
    while len(runs) > n:
        del runs[0 if abs(errors[runs[0]]) < abs(errors[runs[-1]]) else -1]
    return runs


def _solve(rows: list[list[Decimal]]) -> list[Decimal]:
    """Return the solution of linear equations, the right side last in each row."""
    n = len(rows)
    for k in range(n):
        pivot = max(range(k, n), key=lambda i: abs(rows[i][k]))
        rows[k], rows[pivot] = rows[pivot], rows[k]
        rows[k] = [a / rows[k][k] for a in rows[k]]
        for i in range(n):
            if i != k:
                factor = rows[i][k]
                rows[i] = [a - factor * b for a, b in zip(rows[i], rows[k], strict=True)]
    return [row[-1] for row in rows]


if __name__ == "__main__":
    for name, polynomial, degrees in (
        ("exp", exp_polynomial, (5, 10)),
        ("log", log_polynomial, (2, 6)),
    ):
        for degree in degrees:
            print(name, degree, [float(c) for c in polynomial(degree)])
