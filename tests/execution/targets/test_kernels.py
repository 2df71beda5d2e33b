"""Operations as CUDA C: the numbers of NumPy, whoever runs the text, a thread alone or teams.

No GPU is needed: a C++ compiler runs the text on the host, and NVRTC, where CuPy brings it,
compiles it as it would for a GPU.
"""

import functools
import itertools

import numpy as np
import pytest
from oracles import host_cuda
from test_formulas import CONSTANTS, INPUTS, draw

from minigd import formulas
from minigd.execution import tracer
from minigd.execution.program import Program
from minigd.execution.targets import kernels
from minigd.execution.targets.groups import grouped
from minigd.execution.targets.lowering import Form
from minigd.execution.targets.words import C
from minigd.execution.tracer import NotTraceable, Traced

pytestmark = pytest.mark.skipif(host_cuda.compiler() is None, reason=host_cuda.MISSING)
SPECIAL = [np.nan, np.inf, -np.inf, 1e4, -1e4, 0.0, -0.0, 1.0]
ROWS = ["softmax", "softmax_backward", "log_softmax"]


class Printed:
    """A function of arrays as kernels, which work on the arrays that it was traced on."""

    def __init__(self, function, *arrays):
        self.arrays = [a.copy() for a in arrays]
        program = Program(self.arrays[0], self.arrays[-1])
        with np.errstate(all="ignore"), tracer._recording(program.operations):
            results = function(*[a.view(Traced) for a in self.arrays])
            results = results if isinstance(results, tuple) else (results,)
            self.results = [tracer.plain_array(a) for a in results]
        form = Form(program)
        (groups, *_), kept = grouped(form.sections, form, C)
        kept |= {form.roots[form.number(a)] for a in self.results}
        made = (kernels.kernel_of(g, form.memory, kept, set(), set()) for g in groups)
        self.kernels, self.memory = [kernel for kernel in made if kernel], form.memory

    def run(self, code, threads=None):
        """Return the results; with a number of threads, blocks have so many at once."""
        for a in self.results:
            a[...] = 7
        for kernel in self.kernels:
            blocks, _ = kernel.grid()
            pointers = [self.memory[m].ctypes.data for m in kernel.memory]
            host_cuda.launch(
                code, kernel.name, blocks, threads or 1, pointers, together=threads is not None
            )
        return [a.copy() for a in self.results]


def text_of(*printed):
    """Return one text of all kernels."""
    texts = [kernel.text for each in printed for kernel in each.kernels]
    return "\n".join(dict.fromkeys([kernels.HEAD, *texts]))


# Formulas and operations ------------------------------------------------------------------------


def formula(name):
    return functools.partial(getattr(formulas, name), **CONSTANTS.get(name, {}))


def special(name, dtype):
    """Return all combinations of special numbers, for the inputs of a formula."""
    count = INPUTS[name]
    grids = np.meshgrid(*[SPECIAL] * min(count, 3), indexing="ij")
    return [
        np.vstack([grids[k % len(grids)].reshape(-1, 8)] * 2).astype(dtype) for k in range(count)
    ]


@pytest.mark.each
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("inputs", [lambda name, dtype: draw(name, (9, 7), dtype), special])
def test_a_formula_is_one_kernel_with_its_numbers(inputs, dtype):
    cases = {}
    for name in INPUTS:
        given = inputs(name, dtype)
        cases[name] = given, Printed(formula(name), *given)
    code = text_of(*[printed for _, printed in cases.values()])
    for name, (given, printed) in cases.items():
        assert [kernel.mode for kernel in printed.kernels] == [
            "rows" if name in ROWS else "each"
        ], name
        with np.errstate(all="ignore"):
            expected = formula(name)(*given)
        expected = expected if isinstance(expected, tuple) else (expected,)
        largest = max(float(np.abs(a[np.isfinite(a)]).max(initial=1.0)) for a in given)
        for one, other in zip(printed.run(code), expected, strict=True):
            tolerance = 16 * np.finfo(dtype).eps
            np.testing.assert_allclose(
                one, other, rtol=tolerance, atol=tolerance * largest, err_msg=name
            )


ONE = ["negative", "square", "absolute", "sign", "sqrt", "tanh", "exp", "log", "log1p", "isfinite"]
TWO = ["add", "subtract", "multiply", "divide", "maximum", "minimum", "equal", "not_equal"]
TWO += ["greater", "greater_equal", "less", "less_equal"]
LOGICAL = {
    "and": lambda a, b: np.logical_and(a > 0, b > 1),
    "or": lambda a, b: (a > 0) | (b > 1),
    "xor": lambda a, b: (a > 0) ^ (b > 1),
    "not": lambda a, b: np.logical_not(a > 0),
    "inverted": lambda a, b: ~(a > 0),
    "where": lambda a, b: np.where(a > b, a, 3.0),
    "to another dtype": lambda a, b: (a > b).astype("float64"),
    "infinite": lambda a, b: np.where(a > b, np.inf, -np.inf),
    "no number": lambda a, b: np.where(a > b, np.nan, a),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_each_operation_is_numpys_for_special_numbers_too(dtype):
    pairs = np.array(list(itertools.product(SPECIAL, SPECIAL)), dtype).T.copy()
    functions = {name: getattr(np, name) for name in ONE + TWO} | LOGICAL
    cases = {}
    for name, function in functions.items():
        cases[name] = function, Printed(function, *(pairs[:1] if name in ONE else pairs))
    code = text_of(*[printed for _, printed in cases.values()])
    for name, (function, printed) in cases.items():
        with np.errstate(all="ignore"):
            expected = function(*(pairs[:1] if name in ONE else pairs))
        (found,) = printed.run(code)
        assert found.dtype == expected.dtype
        eps = 4 * np.finfo(dtype).eps
        np.testing.assert_allclose(found, expected, rtol=eps, atol=0, err_msg=name)


def test_words_are_whole_numbers_modulo_2_to_the_64():
    places = np.arange(1, 30, dtype="uint64")
    printed = Printed(lambda p: formulas.mixed(p, key=np.uint64(2**64 - 5)), places)
    (found,) = printed.run(text_of(printed))
    np.testing.assert_array_equal(found, formulas.mixed(places, key=np.uint64(2**64 - 5)))


# Teams -------------------------------------------------------------------------------------------


def twice_normalized(x):
    """Go through rows three times."""
    e = np.exp(x - x.max(axis=1, keepdims=True))
    d = e / e.sum(axis=1, keepdims=True) - 0.25
    return d / np.sqrt((d * d).sum(axis=1, keepdims=True)), e


def standardized(x):
    """Go through columns twice, and store what each has."""
    mean = x.mean(axis=0)
    d = x - mean
    variance = (d * d).mean(axis=0)
    return d / np.sqrt(variance + 1e-5), mean, variance


def picked(x):
    """Take a number of each row, and some that are not there."""
    return x[np.arange(len(x)), np.arange(len(x)) % x.shape[1]] * 2


TEAMS = {
    "rows": (twice_normalized, ["rows"]),
    "columns": (standardized, ["columns"]),
    "a number of each row": (picked, ["rows"]),
    "all": (lambda x: x.sum() / 7, ["whole"]),
    "the largest of all": (lambda x: abs(x).max(), ["each", "whole"]),
    "rows, then all": (lambda x: (x * x).sum(axis=1).mean(), ["rows", "whole"]),
    "both ways": (lambda x: x / x.sum(axis=1, keepdims=True) - x.mean(axis=0), None),
}


@functools.cache
def teams(width):
    rng = np.random.default_rng(0)
    cases = {}
    for name, (function, modes) in TEAMS.items():
        x = rng.normal(size=(5, width)) + 3
        cases[name] = function, modes, x, Printed(function, x)
    return cases, text_of(*[case[-1] for case in cases.values()])


@pytest.mark.each
@pytest.mark.parametrize("threads", [None, 8, 16])
@pytest.mark.parametrize("width", [2, 11])
def test_teams_of_threads_put_their_parts_together(width, threads):
    cases, code = teams(width)
    for name, (function, modes, x, printed) in cases.items():
        if modes is not None:
            assert [kernel.mode for kernel in printed.kernels] == modes, name
        expected = function(x)
        expected = expected if isinstance(expected, tuple) else (expected,)
        for one, other in zip(printed.run(code, threads), expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-13, err_msg=name)


def test_what_is_overwritten_is_read_before():
    def function(x, y):
        x += y
        y[...] = x * 2
        return x - y.sum(axis=1, keepdims=True), x, y

    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(2, 4, 3))
    printed = Printed(function, x, y)
    # What was traced is done to the arrays, which are as before for the run.
    for array, before in zip(printed.arrays, (x, y), strict=True):
        array[...] = before
    kept = [a.copy() for a in printed.arrays]
    code = text_of(printed)
    for kernel in printed.kernels:
        pointers = [printed.memory[m].ctypes.data for m in kernel.memory]
        host_cuda.launch(code, kernel.name, kernel.grid()[0], 1, pointers)
    expected = function(*kept)
    for one, other in zip(printed.results, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-14)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.min(axis=1),
        lambda x: np.cosh(x),
        lambda x: x[np.arange(len(x))[::-1], np.zeros(len(x), int)],
        lambda x: x.astype("float16") + 1,
    ],
)
def test_what_has_no_kernel_is_refused(function):
    with pytest.raises(NotTraceable):
        Printed(function, np.ones((3, 2)))
