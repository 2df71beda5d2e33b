"""The mean over the batch: gradients of batches, weighted by their rows, add up to those of all.

2300 rows in batches of 500 end in one of 300, and that is where a wrong mean shows.
"""

import pytest
from budgets import examples
from gradients import mean_checks
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize("shuffle", [False, True])
def test_five_batches_of_2300_rows_are_the_full_batch(shuffle):
    mean_checks.batches_compose_to_the_full_batch(2300, 500, shuffle=shuffle)


@examples(10)
@given(n=st.integers(1, 200), batch_size=st.integers(1, 60), seed=st.integers(0, 2**31))
def test_batches_of_any_size_are_the_full_batch(n, batch_size, seed):
    mean_checks.batches_compose_to_the_full_batch(n, batch_size, seed, shuffle=bool(seed % 2))


@pytest.mark.parametrize("n", [1, 2, 9])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_network_is_the_mean_of_its_examples(n, seed):
    mean_checks.network_is_the_mean_of_examples(n, seed)
