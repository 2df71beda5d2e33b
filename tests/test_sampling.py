"""The selection of cases: `pairs` has any two values together, and `each` has each value.

`few` has the given number of cases, spread over all.
"""

import itertools
from types import SimpleNamespace

import pytest
from conftest import not_needed

VALUES = {"layer": ["dense", "tanh", "relu"], "dtype": ["float32", "float64"], "n": [1, 7, 50]}


def case(mark, **params):
    """Return a stand-in for a case of a test with such a mark."""
    return SimpleNamespace(
        callspec=SimpleNamespace(params=params),
        get_closest_marker=lambda name: mark if name == mark.name else None,
    )


@pytest.mark.parametrize(
    ("mark", "strength", "most"), [("each", 1, 3), ("pairs", 2, 12)], ids=["each", "pairs"]
)
def test_what_meets_in_all_combinations_meets_in_those_that_are_left(mark, strength, most):
    items = [
        case(getattr(pytest.mark, mark).mark, **dict(zip(VALUES, each, strict=True)))
        for each in itertools.product(*VALUES.values())
    ]

    def meetings(chosen):
        return {
            one
            for item in chosen
            for one in itertools.combinations(item.callspec.params.items(), strength)
        }

    left_out = not_needed(items)
    left = [item for item in items if item not in left_out]
    assert meetings(left) == meetings(items)
    assert len(left) <= most


@pytest.mark.parametrize(
    ("mark", "cases", "run"),
    [
        (pytest.mark.few, 11, [0, 2, 4, 6, 8, 10]),
        (pytest.mark.few(3), 8, [0, 3, 7]),
        (pytest.mark.few(1), 8, [7]),
        (pytest.mark.few, 4, [0, 1, 2, 3]),
    ],
    ids=["six", "three", "one", "all"],
)
def test_few_cases_are_spread_over_all(mark, cases, run):
    items = [case(mark.mark, number=k) for k in range(cases)]
    left_out = not_needed(items)
    assert [k for k, item in enumerate(items) if item not in left_out] == run
