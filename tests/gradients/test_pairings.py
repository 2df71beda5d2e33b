"""Every output layer with every loss that takes its outputs, weights and penalties, in a network.

A last Sigmoid or Softmax that training leaves out is checked both ways: left out, and included.
"""

import pytest
from gradients import loss_checks, network_checks

pairings = pytest.mark.parametrize(("output", "loss"), network_checks.PAIRINGS)
of_output = pytest.mark.parametrize("output", network_checks.OUTPUTS)
LEFT_OUT = [
    *[("sigmoid", name) for name in loss_checks.LOSSES if name.startswith(("bce, ", "focal, "))],
    *[("softmax", name) for name in loss_checks.LOSSES if name.startswith("cce, ")],
]


@pytest.mark.each
@pairings
@pytest.mark.parametrize("method", ["complex", "central"])
def test_gradients_are_derivatives(output, loss, method):
    network_checks.network_gradient(output, loss, method)


@of_output
def test_gradients_of_weighted_rows_are_derivatives(output):
    for loss in [loss for other, loss in network_checks.PAIRINGS if other == output]:
        network_checks.network_gradient(output, loss, weighted=True)


@pytest.mark.each
@pytest.mark.parametrize("hidden", ["batch norm", "dropout", "leaky relu"])
@pytest.mark.parametrize("method", ["complex", "central"])
@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("weighted", [False, True])
def test_gradients_through_a_hidden_layer_are_derivatives(hidden, method, n, weighted):
    network_checks.network_gradient(
        "softmax",
        "cce, smoothed",
        method,
        n,
        weighted=weighted,
        hidden=[hidden, "tanh", hidden],
        widths=[4, 3, 5],
    )


@pytest.mark.parametrize("penalty", network_checks.PENALTIES)
@pytest.mark.parametrize("method", ["complex", "central"])
@pytest.mark.parametrize("hidden", ["tanh", "batch norm"])
def test_gradients_with_a_penalty_are_derivatives(penalty, method, hidden):
    network_checks.network_gradient(
        "dense", "mse, three outputs", method, weighted=True, penalty=penalty, hidden=[hidden]
    )


@pytest.mark.parametrize("penalty", network_checks.PENALTIES)
@pytest.mark.parametrize(("n", "accumulate"), [(1, 1), (5, 1), (5, 3)])
@pytest.mark.parametrize("hidden", ["tanh", "batch norm"])
def test_a_penalty_is_added_once_whatever_the_batches(penalty, n, accumulate, hidden):
    network_checks.penalty_is_the_formula(*penalty, n, accumulate, hidden)


@pytest.mark.parametrize("penalty", network_checks.PENALTIES)
def test_a_penalty_is_the_sums_over_what_pays(penalty):
    network_checks.penalty_value_is_the_formula(*penalty)


@of_output
def test_gradients_are_derivatives_for_one_row(output):
    for loss in [loss for other, loss in network_checks.PAIRINGS if other == output]:
        network_checks.network_gradient(output, loss, n=1)


@pytest.mark.parametrize(("output", "loss"), LEFT_OUT)
def test_a_layer_left_out_changes_no_gradient(output, loss):
    network_checks.pairing_is_the_chain_rule(output, loss)
