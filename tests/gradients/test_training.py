"""What follows the gradient: the recurrences of updaters, the rows of an epoch, and its loss.

Each is held to the formula on paper, over 100 steps or over 2300 rows.
"""

import pytest
from gradients import training_checks as checks


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
