"""Groups of operations as loops of Python: the numbers of NumPy, whatever shares a loop."""

import numpy as np
import pytest
from oracles.interpreted import interpreted

from minigd.execution import tracer
from minigd.execution.program import Program
from minigd.execution.targets.groups import grouped
from minigd.execution.targets.loops import lines_of
from minigd.execution.targets.lowering import Form
from minigd.execution.targets.source import HEAD
from minigd.execution.targets.words import PYTHON
from minigd.execution.tracer import Traced


def printed(function, x):
    """Return the results of a function of an array as loops, and the lines of those."""
    program = Program(x, x)
    with np.errstate(all="ignore"), tracer._recording(program.operations):
        results = function(x.view(Traced))
        results = results if isinstance(results, tuple) else (results,)
        results = [tracer.plain_array(a) for a in results]
    form = Form(program)
    (groups, *_), kept = grouped(form.sections, form, PYTHON)
    kept |= {form.roots[form.number(a)] for a in results}
    lines = [line for group in groups for line in lines_of(group, kept)]
    for a in results:
        a[...] = 7
    arrays = {f"m{k}": memory for k, memory in enumerate(form.memory)}
    names = [f"{name} = places[{k}]" for k, name in enumerate(arrays, 2)]
    body = "\n".join(f"    {line}" for line in [*names, *lines])
    interpreted(f"{HEAD}\n\ndef run(places):\n{body}\n", arrays)()
    return results, lines


def in_turn(x):
    """Read a sum of columns where the rows that it is of are read."""
    total = x.sum(axis=0)
    return x - total, x * total, total


def shifted(x):
    """Read in a row what the row before has written."""
    y = x * 2
    y[1:] += x[:-1]
    return y * 3, y


CASES = {
    "rows": lambda x: x / np.exp(x - x.max(axis=1, keepdims=True)).sum(axis=1, keepdims=True),
    "columns": lambda x: (x - x.mean(axis=0)) / (x * x).mean(axis=0),
    "the largest of columns": lambda x: (x - x.max(axis=0), x.max(axis=0)),
    "columns while they are summed": in_turn,
    "rows that others have changed": shifted,
    "picked": lambda x: x[np.arange(len(x)), np.arange(len(x)) % x.shape[1]] * 2,
    "all": lambda x: x / x.sum(),
    "rows, then all": lambda x: (x * x).sum(axis=1).mean(),
    "turned": lambda x: (x.T * 2, x.T.sum(axis=0), x.T.sum(axis=1)),
}


@pytest.mark.parametrize("name", CASES)
def test_numbers_are_numpys(name):
    x = np.random.default_rng(0).normal(size=(5, 3)) + 3
    expected = CASES[name](x.copy())
    found, _ = printed(CASES[name], x)
    expected = expected if isinstance(expected, tuple) else (expected,)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-14, atol=1e-14)


def test_what_goes_row_after_row_is_one_loop_and_shares_it():
    _, lines = printed(lambda x: np.tanh(np.exp(-x) * 2) + x, np.ones((5, 3)))
    assert [line for line in lines if "for" in line] == ["for i in range(15):"]
    _, lines = printed(lambda x: (x * x[0]).sum(axis=1) / 2, np.ones((5, 3)))
    assert [line.strip() for line in lines if "for" in line] == [
        "for i in range(5):",
        "for j in range(3):",
    ]
