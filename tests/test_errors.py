"""What each error is caught as, and what the shared checks of names and whole numbers say.

A user catches `ValueError` for data and files, and the names below for finer cases.
"""

import numpy as np
import pytest

import minigd as gd
from minigd.errors import check_integer, unknown_name


@pytest.mark.parametrize(
    ("error", "base"),
    [
        (gd.DataError, ValueError),
        (gd.ShapeError, gd.DataError),
        (gd.CheckpointError, ValueError),
        (gd.GradientError, ArithmeticError),
        (gd.DivergenceError, FloatingPointError),
        (gd.BackendError, RuntimeError),
    ],
)
def test_each_error_can_be_caught_as_the_builtin_it_refines(error, base):
    assert issubclass(error, base)


def test_a_missing_gpu_is_no_data_error():
    assert not issubclass(gd.BackendError, ValueError)


def test_an_unknown_name_is_answered_with_the_known_ones_in_order():
    error = unknown_name("loss", "msr", {"mse": 1, "huber": 2})
    assert isinstance(error, ValueError)
    assert str(error) == "unknown loss 'msr'; the known ones are 'huber', 'mse'"


@pytest.mark.parametrize("value", [1, 500, np.int64(3), np.uint8(7)])
def test_whole_numbers_of_any_integer_type_become_int(value):
    whole = check_integer("epochs", value)
    assert type(whole) is int
    assert whole == value


@pytest.mark.parametrize("value", [0, -1, 1.0, 2.5, "3", None, True, np.bool_(True), np.nan, [1]])
def test_what_is_no_whole_number_from_the_lowest_on_is_refused(value):
    with pytest.raises(ValueError, match="epochs must be an integer, at least 1, not ") as caught:
        check_integer("epochs", value)
    assert repr(value) in str(caught.value)


def test_the_lowest_and_the_alternative_are_named():
    assert check_integer("seed", 0, 0) == 0
    with pytest.raises(ValueError, match=r"at least 1, or None for all, not 0\Z"):
        check_integer("batch_size", 0, also=", or None for all")
