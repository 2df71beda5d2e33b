"""Every loss: its gradient by two methods, its value by definition, and its exactness far out.

Cross-entropies are checked from logits and from probabilities, with each kind of target they take.
"""

import numpy as np
import pytest
from gradients import common, loss_checks

import minigd as gd

cases = pytest.mark.parametrize("name", loss_checks.LOSSES)


weighted = pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])


@cases
@weighted
@pytest.mark.parametrize("method", ["complex", "central"])
@pytest.mark.parametrize("n", [1, 6])
@pytest.mark.pairs
def test_backward_is_n_times_the_derivative_of_the_mean(name, method, n, weighted):
    loss_checks.loss_gradient(name, method, n, weighted)


@cases
@weighted
@pytest.mark.parametrize("n", [1, 6])
@pytest.mark.pairs
def test_forward_is_the_mean_of_the_definition(name, n, weighted):
    loss_checks.loss_value(name, n, weighted)


@cases
def test_the_real_part_of_a_complex_loss_is_the_float_loss(name):
    loss_checks.loss_is_real_in_complex_numbers(name)


def test_logits_stay_exact_far_out():
    loss_checks.logits_stay_exact_far_out()


@pytest.mark.parametrize("from_logits", [False, True])
def test_soft_rows_may_miss_a_sum_of_one_by_rounding(from_logits):
    # Rows in single precision, or written with three digits, pass the check of targets.
    loss = gd.CategoricalCrossEntropy(from_logits)
    z = common.rng_of(11).dirichlet(np.ones(3), 2)
    y = np.array([[0.333, 0.333, 0.333], [0.2, 0.3, 0.5]])
    loss.forward(z, y)
    dz = loss.backward()
    for place in np.ndindex(z.shape):
        step = np.zeros(z.shape)
        step[place] = 1e-20
        numeric = 2 * loss.forward(z + 1j * step, y).imag / 1e-20
        assert abs(dz[place] - numeric) <= 1e-10
