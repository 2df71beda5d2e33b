"""Every output layer with every loss that takes its outputs, through a small network.

A last Sigmoid or Softmax that training leaves out is checked both ways: left out, and as it stands.
"""

import pytest
from gradients import loss_checks, network_checks

pairings = pytest.mark.parametrize(("output", "loss"), network_checks.PAIRINGS)
LEFT_OUT = [
    *[("sigmoid", name) for name in loss_checks.LOSSES if name.startswith("bce, ")],
    *[("softmax", name) for name in loss_checks.LOSSES if name.startswith("cce, ")],
]


@pairings
@pytest.mark.parametrize("method", ["complex", "central"])
def test_gradients_are_derivatives(output, loss, method):
    network_checks.network_gradient(output, loss, method)


@pairings
def test_gradients_are_derivatives_for_one_row(output, loss):
    network_checks.network_gradient(output, loss, n=1)


@pytest.mark.parametrize(("output", "loss"), LEFT_OUT)
def test_a_layer_left_out_changes_no_gradient(output, loss):
    network_checks.pairing_is_the_chain_rule(output, loss)
