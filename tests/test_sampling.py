"""What is left of combinations: in `pairs` each two values still meet, in `each` each occurs."""

import itertools
from types import SimpleNamespace

import pytest
from conftest import not_needed

VALUES = {"layer": ["dense", "tanh", "relu"], "dtype": ["float32", "float64"], "n": [1, 7, 50]}


@pytest.mark.parametrize(("strength", "most"), [(1, 3), (2, 12), (3, 18)])
def test_what_meets_in_all_combinations_meets_in_those_that_are_left(strength, most):
    items = [
        SimpleNamespace(callspec=SimpleNamespace(params=dict(zip(VALUES, each, strict=True))))
        for each in itertools.product(*VALUES.values())
    ]

    def meetings(chosen):
        return {
            one
            for item in chosen
            for one in itertools.combinations(item.callspec.params.items(), strength)
        }

    left_out = not_needed(items, strength)
    left = [item for item in items if item not in left_out]
    assert meetings(left) == meetings(items)
    assert len(left) <= most
