"""Every layer: its gradient by two methods, the textbook's formula, and the manners of a layer.

dy is random throughout, because ones hide errors: they make softmax's true gradient zero.
"""

import pytest
from gradients import layer_checks

layers = pytest.mark.parametrize(
    "make", layer_checks.LAYERS.values(), ids=list(layer_checks.LAYERS)
)
methods = pytest.mark.parametrize("method", ["complex", "central"])


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


@layers
def test_a_batch_does_not_depend_on_those_before_it(make):
    layer_checks.layer_treats_batches_alike(make)


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
