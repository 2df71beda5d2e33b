"""Objects and nested values come back from JSON as they were, and what JSON can't hold is named."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigd as gd
from minigd.storage.describe import arguments, describe, join_arrays, rebuild, split_arrays


class Configured:
    """Describes itself by the attributes that its constructor keeps."""

    def config(self):
        return arguments(self)


class Scale(Configured):
    """Keeps its arguments, as scikit-learn's estimators do."""

    def __init__(self, factor=2.0, shift=None):
        self.factor, self.shift = factor, shift


class Forgetful(Configured):
    """Keeps no argument."""

    def __init__(self, factor, shift=0):
        self.shift = shift


class Variadic:
    """Takes arguments that have no names."""

    def __init__(self, *widths):
        self.widths = widths


class Bare(Configured):
    """Takes no arguments."""


def test_an_object_is_described_by_its_arguments_and_made_again():
    description = json.loads(json.dumps(describe(Scale(3.0))))
    assert description == {"class": "Scale", "arguments": {"factor": 3.0, "shift": None}}
    again = rebuild(description, {"Scale": Scale})
    assert type(again) is Scale
    assert (again.factor, again.shift) == (3.0, None)


def test_a_class_without_arguments_needs_no_init():
    assert arguments(Bare()) == {}
    assert type(rebuild(describe(Bare()), {"Bare": Bare})) is Bare


def test_an_argument_that_was_not_kept_is_named_with_the_line_to_write():
    with pytest.raises(TypeError, match=r"Forgetful.__init__ takes 'factor' .*`self\.factor = fac"):
        arguments(Forgetful(1))


def test_arguments_without_names_are_refused_and_not_dropped():
    with pytest.raises(TypeError, match="Variadic"):
        arguments(Variadic(10, 20))


def test_an_argument_that_no_file_holds_is_named():
    with pytest.raises(TypeError, match="Scale can't be saved: its argument 'shift' is <built-in"):
        describe(Scale(shift=print))


def test_only_known_classes_are_made():
    with pytest.raises(gd.CheckpointError, match=r"a class 'Scale' .*custom=\[Scale\]"):
        rebuild(describe(Scale()), {"Bare": Bare})


@pytest.mark.parametrize("arguments", [{"units": 3}, {"units": -1, "initializer": "zeros"}])
def test_arguments_that_a_class_does_not_take_are_refused(arguments):
    known = {"Dense": gd.Dense if "initializer" in arguments else Scale}
    with pytest.raises(gd.CheckpointError, match="Dense does not take the arguments in the file"):
        rebuild({"class": "Dense", "arguments": arguments}, known)


# Nested dicts ---------------------------------------------------------------------------------

plain = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 5), st.floats(), st.text(), st.lists(st.integers())
)
scalars = st.builds(
    lambda kind, value: np.dtype(kind).type(value),
    st.sampled_from(["float32", "float64", "int64", "bool"]),
    st.integers(0, 1),
)
tensors = st.builds(
    lambda kind, shape: np.ones(shape, dtype=kind),
    st.sampled_from(["float32", "int64"]),
    st.lists(st.integers(0, 3), max_size=2),
)
names = st.one_of(st.just("array"), st.text(st.characters(exclude_characters="/"), max_size=3))
trees = st.recursive(
    plain | scalars | tensors, lambda inner: st.dictionaries(names, inner, max_size=3), max_leaves=8
)


def assert_same(given, found):
    if isinstance(given, dict):
        assert list(found) == list(given)
        for name, value in given.items():
            assert_same(value, found[name])
    elif isinstance(given, np.ndarray | np.generic):
        assert found.dtype == given.dtype
        assert found.shape == given.shape
        assert found.tobytes() == given.tobytes()
    else:
        assert type(found) is type(given)
        assert found == given or found != found


@given(trees)
def test_nested_dicts_come_back_as_they_were(tree):
    arrays = {}
    text = json.dumps(split_arrays(tree, "run", arrays))
    assert_same(tree, join_arrays(json.loads(text), arrays))


def test_a_number_of_numpys_keeps_its_dtype_and_so_the_bits_of_what_it_goes_into():
    arrays = {}
    value = np.float32(0.1)
    (found,) = join_arrays(split_arrays({"v": value}, "run", arrays), arrays).values()
    assert (found * 3.3).dtype == (value * 3.3).dtype == np.float32


def test_names_that_a_file_would_change_are_refused():
    with pytest.raises(TypeError, match="run/losses can't be saved: its name 3 is not text"):
        split_arrays({"losses": {3: 0.5}}, "run", {})
    with pytest.raises(ValueError, match="two arrays have the name 'run/a/b'"):
        split_arrays({"a": {"b": np.ones(1)}, "a/b": np.zeros(1)}, "run", {})
