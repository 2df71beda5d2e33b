"""The two numerical derivatives, compared with known derivatives."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigd.checks import numerical

FUNCTIONS = {
    "square": (lambda x: x * x, lambda x: 2 * x),
    "sine": (np.sin, np.cos),
    "exponential": (np.exp, np.exp),
    "cube less itself": (lambda x: x**3 - x, lambda x: 3 * x * x - 1),
}
each = pytest.mark.parametrize(("f", "slope"), FUNCTIONS.values(), ids=FUNCTIONS)


@each
@given(st.floats(-3, 3))
def test_the_complex_step_is_exact_and_leaves_the_array_as_it_was(f, slope, at):
    x = np.array([[at, 1.0], [2.0, -1.0]], "complex128")
    before = x.copy()
    found = numerical.complex_step(lambda: f(x), x, (0, 0))
    assert found[0, 0] == pytest.approx(slope(at), rel=1e-14, abs=1e-15)
    assert np.count_nonzero(found.ravel()[1:]) == 0
    np.testing.assert_array_equal(x, before)


@each
@given(st.floats(-3, 3))
def test_the_central_difference_is_near_and_leaves_the_array_as_it_was(f, slope, at):
    x = np.array([at, 1.0])
    found = numerical.central_difference(lambda: f(x).sum(), x, 0, own=slope(at))
    assert found == pytest.approx(slope(at), rel=1e-8, abs=1e-8)
    # A wrong gradient does not come out as its own derivative.
    wrong = slope(at) + 0.1
    assert numerical.central_difference(lambda: f(x).sum(), x, 0, own=wrong) != pytest.approx(wrong)
    found, kinked = numerical.central_differences(lambda: f(x), x, [0, 1])
    np.testing.assert_allclose(found, np.diag(slope(x)), rtol=1e-7, atol=1e-7)
    assert not kinked.any()
    assert x.tolist() == [at, 1.0]


@pytest.mark.parametrize("own", [-1.0, -0.5, 0.0, 1.0])
def test_at_a_kink_anything_between_both_slopes_is_right(own):
    x = np.array([0.0, 2.0])
    assert numerical.central_difference(lambda: abs(x).sum(), x, 0, own) == own
    assert numerical.central_difference(lambda: abs(x).sum(), x, 0, 1.5) != 1.5
    found, kinked = numerical.central_differences(lambda: abs(x), x, [0, 1])
    assert kinked.tolist() == [[True, False], [False, False]]
    assert found[1].tolist() == pytest.approx([0.0, 1.0])


def test_a_dropped_imaginary_part_is_an_error():
    x = np.array([1.0 + 1j])
    with pytest.raises(np.exceptions.ComplexWarning), numerical.complex_kept():
        x.astype("float64")
    with numerical.complex_kept():
        assert math.isclose(x.real[0], 1.0)
