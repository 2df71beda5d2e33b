"""Every layer: its gradient by two methods, the textbook formula, and the rules of layers.

dy is always random, because ones hide errors: with them softmax's true gradient is zero.
"""

import pytest
from gradients import layer_checks

LAYERS = layer_checks.LAYERS
layers = pytest.mark.parametrize("make", LAYERS.values(), ids=list(LAYERS))
methods = pytest.mark.parametrize("method", ["complex", "central"])


@pytest.mark.each
@layers
@methods
@pytest.mark.parametrize("n", [1, 2, 7, 33])
def test_backward_is_the_derivative(make, method, n):
    layer_checks.layer_gradient(make, method, n)


@layers
@pytest.mark.parametrize("width", [1, 2, 40])
def test_backward_is_the_derivative_at_any_width(make, width):
    layer_checks.layer_gradient(make, width=width, seeds=(0,))


@pytest.mark.parametrize("name", layer_checks.TEXTBOOK)
def test_activation_is_the_textbooks(name):
    layer_checks.activation_is_the_textbooks(name)


@pytest.mark.parametrize("name", layer_checks.TEXTBOOK)
def test_activation_is_finite_far_out(name):
    layer_checks.activation_is_finite_far_out(name)


@pytest.mark.parametrize(("width", "units", "n"), [(4, 4, 6), (3, 5, 1), (1, 1, 9), (6, 2, 13)])
def test_dense_gradients_are_means_of_outer_products(width, units, n):
    layer_checks.dense_is_the_explicit_mean(width, units, n)


@pytest.mark.parametrize("name", LAYERS)
def test_a_batch_does_not_depend_on_those_before_it(name):
    layer_checks.layer_treats_batches_alike(LAYERS[name], name in layer_checks.BY_BATCH)


# Two rows go to ±1 wherever they are, and little but rounding is left of dx unless ε is large.
@pytest.mark.parametrize(("n", "epsilon"), [(2, 0.1), (3, 1e-5), (6, 1e-5), (6, 0.1), (20, 1e-5)])
def test_batch_norm_is_that_of_the_loops(n, epsilon):
    layer_checks.batch_norm_is_the_loops(n, epsilon)


@pytest.mark.parametrize(("n", "epsilon"), [(1, 1e-5), (2, 0.1), (6, 1e-5)])
def test_layer_norm_is_that_of_the_loops(n, epsilon):
    layer_checks.layer_norm_is_the_loops(n, epsilon)


@pytest.mark.parametrize("momentum", [0.0, 0.8, 0.99])
def test_running_statistics_follow_their_recurrence(momentum):
    layer_checks.batch_norm_runs_its_statistics(momentum)


@pytest.mark.parametrize("rate", [0.1, 0.4, 0.8])
def test_dropout_is_its_input_in_the_mean(rate):
    layer_checks.dropout_is_its_input_in_the_mean(rate)


@layers
def test_backward_belongs_to_the_last_training_batch(make):
    layer_checks.layer_uses_the_last_training_batch(make)


@layers
def test_inputs_and_dy_are_not_modified(make):
    layer_checks.layer_leaves_inputs_alone(make)


@layers
def test_memory_order_does_not_matter(make):
    layer_checks.layer_takes_any_memory_order(make)


@layers
def test_gradients_are_written_and_not_added(make):
    layer_checks.layer_writes_its_gradients(make)


@layers
def test_the_real_part_of_a_complex_forward_is_the_float_forward(make):
    layer_checks.layer_is_real_in_complex_numbers(make)
