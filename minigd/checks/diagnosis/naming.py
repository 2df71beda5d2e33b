"""The name of a bug: the simplest mistake that produces exactly this wrong gradient.

A mistake is named if it explains the numbers to rounding in every batch tried. If two can't be
distinguished, both are named. If none fits, none is named.
"""

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from minigd.checks.diagnosis.case import Case
from minigd.checks.diagnosis.parts import in_a_part
from minigd.checks.diagnosis.slips import Guess, another_derivative, otherwise, plain, two_at_once
from minigd.types import Array


def diagnose(cases: Sequence[Case]) -> str | None:
    """Return what a wrong gradient looks like, or None if no known mistake explains it.

    The cases are the gradient of one array in several batches: different sizes distinguish a factor
    of n from a constant one. Mistakes that can't be distinguished are joined by "or".

    Examples
    --------
    >>> import numpy as np
    >>> true = np.array([0.25, -1.0])
    >>> diagnose([Case(given=7 * true, true=true, n=7)])
    'the mean over the batch is missing (a factor of n = 7)'
    >>> of_two = Case(given=2 * true, true=true, n=2)
    >>> diagnose([of_two])
    'the mean over the batch is missing (a factor of n = 2), or a constant factor of 2'
    >>> diagnose([of_two, Case(given=3 * true, true=true, n=3)])
    'the mean over the batch is missing (a factor of n = 2)'
    >>> diagnose([Case(given=true + 0.1, true=true, n=2)])
    """
    cases = [case for case in cases if np.isfinite(case.true).all()]
    wrong = [case for case in cases if not case.right]
    if not wrong or not all(np.isfinite(case.given).all() for case in wrong):
        return None
    found = _simplest(cases, wrong)
    sizes = {case.n for case in wrong}
    if not found and not sizes & {case.n for case in cases if case.right}:
        found = _simplest(wrong, wrong)
        if found:
            found[0] = f"in a batch of {' or '.join(map(str, sorted(sizes)))} alone, {found[0]}"
    return ", or ".join(found[:3]).format(n=wrong[0].n) or None


def _simplest(cases: Sequence[Case], wrong: Sequence[Case]) -> list[str]:
    """Return the sentences of the simplest kind that explains all cases."""
    if all(case.unused and not case.true.any() for case in cases):
        return ["the true gradient is 0: forward does not use what backward returns a gradient for"]
    kinds: list[Callable[[], list[str]]] = [
        lambda: _in_all(cases, plain),
        lambda: _in_all(cases, otherwise),
        lambda: _one_divisor(cases) + _one_factor(cases),
        lambda: _in_all(wrong, in_a_part),
        lambda: _columns_left_out(cases),
        lambda: _multiple_of_the_parameter(cases),
        lambda: _in_all(cases, another_derivative),
        lambda: _statistics_taken_for_constants(wrong),
        lambda: _in_all(cases, two_at_once),
    ]
    return next((found for found in (kind() for kind in kinds) if found), [])


def _in_all(cases: Sequence[Case], guesses: Callable[[Case], Iterable[Guess]]) -> list[str]:
    """Return the sentences whose guess equals the given gradient in each case."""
    found: list[str] | None = None
    for case in cases:
        with np.errstate(all="ignore"):
            here = dict.fromkeys(s for s, guess in guesses(case) if case.is_like(guess))
        found = [s for s in here if found is None or s in found]
        if not found:
            break
    return found or []


# Slips with a number that has to be found first --------------------------------------------------


def _ratios(cases: Sequence[Case]) -> list[float] | None:
    """Return the factor of the error in each case, if nothing else is wrong."""
    ratios = []
    for case in cases:
        size = float((case.true * case.true).sum())
        ratio = float((case.given * case.true).sum()) / size if size > 0 else 0.0
        if ratio == 0 or not case.is_like(ratio * case.true):
            return None
        ratios.append(ratio)
    return ratios


def _same(numbers: Sequence[float], share: float) -> bool:
    return all(math.isclose(number, numbers[0], rel_tol=share) for number in numbers)


def _one_divisor(cases: Sequence[Case]) -> list[str]:
    """Find m where the gradient is divided by m and not by n: a fixed number, or an earlier n."""
    ratios = _ratios(cases)
    if ratios is None:
        return []
    share = max(100 * case.tolerance for case in cases)
    divisors = [case.n / ratio for case, ratio in zip(cases, ratios, strict=True)]
    m = round(divisors[0])
    whole = all(d > 0.5 and math.isclose(d, round(d), rel_tol=share) for d in divisors)
    earlier = all(round(d) in (*case.seen, case.n) for d, case in zip(divisors, cases, strict=True))
    if whole and earlier and any(case.seen for case in cases):
        earlier_n = next(
            round(d) for d, case in zip(divisors, cases, strict=True) if not case.right
        )
        return [f"it is divided by {earlier_n}, the size of an earlier batch, instead of n = {{n}}"]
    if whole and _same(divisors, share):
        return [f"it is divided by {m}, a fixed batch size, instead of n = {{n}}"]
    return []


def _one_factor(cases: Sequence[Case]) -> list[str]:
    ratios = _ratios(cases)
    # The same number repeated adds no information.
    numbers = {f"{number:.6g}" for case in cases for number in case.true.ravel() if number}
    if ratios and len(numbers) > 1 and _same(ratios, max(100 * case.tolerance for case in cases)):
        return [f"a constant factor of {ratios[0]:.6g}"]
    return []


def _multiple_of_the_parameter(cases: Sequence[Case]) -> list[str]:
    """Find c where c times the parameter, or c times its sign, was added."""
    for name, of in (("", lambda value: value), ("the sign of ", np.sign)):
        found: list[float] = []
        for case in cases:
            part = None if case.value is None else of(case.value)
            if part is None or not part.any() or part.size < 2:
                break
            found.append(float(((case.given - case.true) * part).sum() / (part * part).sum()))
            if not case.is_like(case.true + found[-1] * part):
                break
        else:
            if _same(found, 1e-6):
                price = "L1" if name else "L2"
                return [
                    f"{found[0]:.6g} times {name}the parameter itself is added: an {price} penalty "
                    "that is not in the loss"
                ]
    return []


def _columns_left_out(cases: Sequence[Case]) -> list[str]:
    """Find the columns of dy that are missing in dx, Σ_k a_k J_ijk dy_ik with a_k of 0 or 1."""
    terms, given = [], []
    for case in cases:
        if case.jacobian is None or case.dy is None or not case.is_complete:
            return []
        terms.append((case.jacobian * case.dy[:, None, :]).reshape(-1, case.dy.shape[1]))
        given.append(case.given.ravel())
    all_terms, all_given = np.concatenate(terms), np.concatenate(given)
    share = np.linalg.lstsq(all_terms, all_given, rcond=None)[0]
    kept = share.round()
    error = abs(all_terms @ kept - all_given).max()
    if not np.isin(kept, (0, 1)).all() or error > cases[0].tolerance * abs(all_given).max():
        return []
    columns = ", ".join(str(k) for k in np.flatnonzero(kept == 0))
    return [f"what comes from dy's columns {columns} is missing: it stays zero"]


def _statistics_taken_for_constants(cases: Sequence[Case]) -> list[str]:
    """Find columns or rows whose dx is dy with a factor and a shift, and whose true dx is not."""
    for axis, what in ((0, "column"), (1, "row")):
        long = [case for case in cases if _is_long_enough(case, axis)]
        if long and all(
            any(_lies_in(case, axis, case.given, b) and not _lies_in(case, axis, case.true, b)
                for b in ("1", "y"))
            for case in long
        ):  # fmt: skip
            return [
                f"the Jacobian is ignored in part: mean or variance of a {what}, or both, are "
                "treated as constants"
            ]
    return []


def _is_long_enough(case: Case, axis: int) -> bool:
    """Return whether a case is long enough that a fit of two numbers is not a coincidence."""
    if case.dy is None or case.y is None or case.jacobian is None or case.elementwise:
        return False
    fits = case.dy.shape == case.y.shape == case.true.shape
    return fits and case.by_row and case.is_complete and case.true.shape[axis] > 3


def _lies_in(case: Case, axis: int, gradient: Array, beside: str) -> bool:
    """Return whether each column (row) combines dy's and 1, or dy's and y minus its mean."""
    assert case.dy is not None
    assert case.y is not None
    centered = case.y - case.y.mean(axis=axis, keepdims=True)
    second = np.ones_like(case.dy) if beside == "1" else centered
    lines = [np.moveaxis(a, axis, 0).T for a in (gradient, case.dy, second)]
    size = abs(gradient).max()
    for line, *basis in zip(*lines, strict=True):
        columns = np.stack(basis, axis=1)
        fitted = columns @ np.linalg.lstsq(columns, line, rcond=None)[0]
        if abs(line - fitted).max() > 100 * case.tolerance * size:
            return False
    return True
