"""What follows the gradient: the recurrences of updaters, the rows of an epoch, and its loss.

Each is compared with its formula, over 100 steps or over 2300 rows, weighted and in windows.
"""

import pytest
from budgets import examples
from gradients import training_checks as checks
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize("name", checks.UPDATERS)
@pytest.mark.parametrize("scale", [1.0, 1e-8, 1e4])
def test_an_updater_follows_its_recurrence(name, scale):
    checks.updater_follows_its_recurrence(name, scale)


@pytest.mark.parametrize("scale", [1.0, 1e-8])
def test_adam_follows_the_reference_array_by_array(scale):
    checks.adam_follows_the_reference(scale)


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize(("n", "batch_size"), [(2300, 500), (2000, 500), (7, 10), (5, 1)])
def test_an_epoch_sees_every_row_once(n, batch_size, shuffle):
    checks.epoch_sees_every_row_once(n, batch_size, shuffle)


def test_shuffling_mixes_rows_and_not_batches():
    checks.shuffling_mixes_rows()


@pytest.mark.parametrize(("n", "batch_size"), [(2300, 500), (101, 100)])
def test_the_loss_of_an_epoch_is_the_mean_over_its_rows(n, batch_size):
    checks.epoch_loss_is_the_mean_over_rows(n, batch_size)


@pytest.mark.parametrize("reuse_buffers", [False, True])
def test_the_gradients_of_the_trainers_updates_compose(reuse_buffers):
    checks.trainer_gradients_compose(reuse_buffers=reuse_buffers)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_trainer_is_the_loop_by_hand(momentum):
    checks.trainer_is_the_loop_by_hand(momentum=momentum)


@pytest.mark.parametrize("n", [1, 2, 9, 40])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_step_is_the_weighted_mean_of_its_examples(n, seed):
    checks.step_is_the_weighted_mean_of_examples(n, seed)


@pytest.mark.parametrize(("n", "batch_size"), [(2300, 500), (101, 100)])
def test_an_epoch_of_weighted_rows_is_that_of_repeated_rows(n, batch_size):
    checks.weighted_epoch_is_that_of_repeated_rows(n, batch_size)


@pytest.mark.parametrize("weighted", [False, True])
def test_windows_of_2300_rows_are_large_batches(weighted):
    checks.window_is_one_large_batch(weighted=weighted)


@examples(25)
@given(
    n=st.integers(1, 80),
    batch_size=st.integers(1, 30),
    accumulate=st.integers(1, 9),
    weighted=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_windows_of_any_size_are_large_batches(**drawn):
    checks.window_is_one_large_batch(**drawn)
