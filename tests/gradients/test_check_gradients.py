"""`minigd.check_gradients` as a tool: its messages for wrong models, and that it changes nothing.

If it can't decide, because the loss is not a number, it must not pass.
"""

import re

import numpy as np
import pytest
from budgets import examples
from gradients import mean_checks, network_checks
from hypothesis import given
from hypothesis import strategies as st
from oracles import students

import minigd as gd


def rows(n=6, width=3, seed=0):
    return np.random.default_rng([seed, n]).standard_normal((n, width))


class Off(gd.Dense):
    """A Dense layer that is wrong in one entry of b's gradient."""

    def backward(self, dy):
        dx = super().backward(dy)
        self.grads["b"][1] -= 0.25
        return dx


@pytest.mark.parametrize("method", ["complex", "central"])
def test_a_failure_names_parameter_index_values_errors_and_tolerance(method):
    model = gd.Sequential([gd.Dense(3), gd.Tanh(), Off(2)], inputs=3)
    with pytest.raises(gd.GradientError) as caught:
        gd.check_gradients(model, "mse", rows(), rows(6, 2), method=method)
    how, allowed = {
        "complex": ("complex step", "1e-10"),
        "central": ("central difference", "1e-06"),
    }[method]
    text = str(caught.value)
    assert text.startswith(f"off1.b: backward disagrees with the {how}. Worst at [1]: ")
    own, numeric = map(float, re.search(rf"gave (\S+), the {how} (\S+);", text).groups())
    assert numeric - own == pytest.approx(0.25, abs=1e-6)
    assert re.search(
        r"absolute error 0\.25, relative error \S+; off by \S+ of the largest entry", text
    )
    assert f"(allowed: {allowed};" in text


def test_the_worst_array_is_named_where_several_are_wrong():
    class Worse(gd.Dense):
        def backward(self, dy):
            dx = super().backward(dy)
            self.grads["W"] *= 1.01
            self.grads["b"] *= 2
            return dx

    model = gd.Sequential([gd.Dense(3), gd.Tanh(), Worse(2)], inputs=3, dtype="float64")
    with pytest.raises(gd.GradientError, match=r"^worse1\.b"):
        gd.check_gradients(model, "mse", rows(), rows(6, 2))


@pytest.mark.few
@pytest.mark.parametrize("layer", students.ALL)
def test_layers_from_outside_pass_in_a_network_and_fail_with_their_slip(layer):
    def model(slip):
        layers = [gd.Dense(4), layer(slip), gd.Dense(3), gd.Softmax()]
        return gd.Sequential(layers, inputs=3, seed=1)

    x, y = rows(7), np.arange(7) % 3
    gd.check_gradients(model(False), "categorical_crossentropy", x, y)
    with pytest.raises(gd.GradientError):
        gd.check_gradients(model(True), "categorical_crossentropy", x, y)


@examples(12)
@given(
    chosen=st.lists(st.sampled_from([*students.ALL, gd.Tanh, gd.ReLU]), min_size=1, max_size=3),
    loss=st.sampled_from(["mse", "binary_crossentropy", "categorical_crossentropy"]),
    n=st.integers(1, 6),
    seed=st.integers(0, 2**31),
)
def test_right_layers_in_random_networks_are_no_false_alarm(chosen, loss, n, seed):
    layers = [layer for kind in chosen for layer in (gd.Dense(3), kind())]
    last = {"mse": [], "binary_crossentropy": [gd.Sigmoid()]}.get(loss, [gd.Softmax()])
    model = gd.Sequential([*layers, gd.Dense(2), *last], inputs=3, seed=seed)
    rng = np.random.default_rng(seed)
    # Off zero, or a dead layer puts all that follows exactly on its kinks.
    model.flat_params += 0.1 * rng.standard_normal(model.flat_params.shape)
    y = rng.integers(0, 2, n if loss.startswith("cat") else (n, 2))
    gd.check_gradients(model, loss, rng.standard_normal((n, 3)), y)


@pytest.mark.slow
def test_a_bias_without_effect_is_no_false_alarm_of_the_central_difference():
    # Normalize takes the bias before it out again: its gradient is 0, and numerically noise.
    for seed in range(360, 400):
        layers = [gd.Dense(3), students.Magnitude(), gd.Dense(3), students.Normalize(), gd.Dense(2)]
        model = gd.Sequential(layers, inputs=3, seed=seed)
        gd.check_gradients(model, "mse", rows(5, seed=seed), rows(5, 2, seed=seed + 1))


@pytest.mark.parametrize("on_device", [False, True])
def test_a_model_on_another_device_is_checked_with_its_own_rows(stand_in, on_device):
    model = gd.Sequential([gd.Dense(3), gd.Tanh(), gd.Dense(2)], inputs=3, backend=stand_in)
    x, y = rows(), rows(6, 2)
    if on_device:
        x, y = stand_in.asarray(x), stand_in.asarray(y)
    assert max(gd.check_gradients(model, "mse", x, y).values()) < 1e-10
    assert max(gd.check_layer(model.layers[0], x).values()) < 1e-10


def test_the_model_the_loss_and_the_data_stay_as_they_are():
    model = mean_checks.tanh_network().copy(dtype="float32")
    loss = gd.CategoricalCrossEntropy()
    x, y = mean_checks.labelled(6)
    model.flat_grads[...] = 7.0
    before = [a.copy() for a in (model.flat_params, model.flat_grads, x, y)]
    gd.check_gradients(model, loss, x, y)
    for one, other in zip((model.flat_params, model.flat_grads, x, y), before, strict=True):
        assert np.array_equal(one, other)
    with pytest.raises(RuntimeError):
        loss.backward()
    with pytest.raises(RuntimeError):
        model.backward(np.ones((6, 3)))


def test_a_check_between_forward_and_backward_does_not_disturb_them():
    model, (x, y) = mean_checks.tanh_network(), mean_checks.labelled(6)
    _, expected = mean_checks.loss_and_gradient(model, x, y)
    objective = gd.Objective(model, "categorical_crossentropy")
    objective.forward(x, y)
    gd.check_gradients(model, "categorical_crossentropy", x[::-1], y)
    objective.backward()
    assert np.array_equal(model.flat_grads, expected)


def test_of_a_large_array_three_hundred_entries_are_drawn_by_the_seed():
    model = gd.Sequential([gd.Dense(40), gd.Tanh(), gd.Dense(1)], inputs=30)
    x, y = rows(4, 30), rows(4, 1)
    first = gd.check_gradients(model, "mse", x, y, seed=3)
    assert first == gd.check_gradients(model, "mse", x, y, seed=3)
    assert first != gd.check_gradients(model, "mse", x, y, seed=4)


class Stale(gd.Tanh):
    """Keeps the output of the pass before."""

    def forward(self, x, train=False):
        y = np.tanh(x)
        if train:
            self.keep(getattr(self, "before", y))
            self.before = y
        return y


def test_a_stale_cache_is_an_error():
    model = gd.Sequential([gd.Dense(3), Stale(), gd.Dense(2)], inputs=3)
    with pytest.raises(gd.GradientError):
        gd.check_gradients(model, "mse", rows(), rows(6, 2))


def test_lists_and_flat_targets_are_taken():
    model = gd.Sequential([gd.Dense(1)], inputs=2)
    gd.check_gradients(model, "mse", [[1, 2], [3, 4], [5, 6]], [0, 1, 2])


def test_targets_that_do_not_fit_are_refused():
    model = gd.Sequential([gd.Dense(2)], inputs=3)
    with pytest.raises(gd.ShapeError):
        gd.check_gradients(model, "mse", rows(), rows(6, 3))


def test_a_model_at_its_minimum_is_no_error():
    model = gd.Sequential([gd.Dense(2)], inputs=3, dtype="float64")
    for scale in (1.0, 100.0):
        x = scale * rows()
        for method in ("complex", "central"):
            gd.check_gradients(model, "mse", x, model.forward(x), method=method)


@pytest.mark.parametrize("scale", [3.0, 10.0, 16.0, 30.0, 100.0, 1000.0])
@pytest.mark.parametrize("output", ["sigmoid", "softmax"])
def test_a_confident_model_is_no_error(output, scale):
    # Half the rows are confidently wrong; from logits the gradient is exact for any of them.
    model = network_checks.network(
        output, {"sigmoid": "bce, flat labels", "softmax": "cce, classes"}[output]
    )
    model.flat_params *= scale
    x = rows()
    classes = model.n_out if model.n_out > 1 else 2
    y = np.arange(6) % classes
    loss = "binary_crossentropy" if output == "sigmoid" else "categorical_crossentropy"
    errors = gd.check_gradients(model, loss, x, y)
    assert all(np.isfinite(error) for error in errors.values()), errors


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_rows_that_are_not_finite_are_refused(bad):
    x = rows()
    x[2, 1] = bad
    model = gd.Sequential([gd.Dense(2)], inputs=3)
    with np.errstate(invalid="ignore"), pytest.raises((gd.GradientError, gd.DataError)):
        gd.check_gradients(model, "mse", x, rows(6, 2))


def test_a_loss_that_is_not_finite_does_not_pass():
    class Infinite(gd.Loss):
        def per_example(self, z, y):
            return (z - y).sum(axis=1) * np.inf

        def gradient(self, z, y):
            return np.ones_like(z)

    model = gd.Sequential([gd.Dense(2)], inputs=3)
    with np.errstate(invalid="ignore"), pytest.raises((gd.GradientError, gd.DataError)):
        gd.check_gradients(model, Infinite(), rows(), rows(6, 2))


def test_soft_rows_in_single_precision_are_no_error():
    y = np.random.default_rng(5).dirichlet(np.ones(3), 6).astype("float32")
    model = gd.Sequential([gd.Dense(3), gd.Softmax()], inputs=3)
    gd.check_gradients(model, "categorical_crossentropy", rows(), y, method="complex")


# Weights of rows, penalties, layers that draw -------------------------------------------------


class Unweighed(gd.MeanSquaredError):
    """Forgets the weights of rows in the gradient."""

    def backward(self):
        z, y, _ = self._kept
        self._kept = (z, y, None)
        return super().backward()


def test_a_loss_that_forgets_weights_is_an_error_where_there_are_some():
    model = gd.Sequential([gd.Dense(2)], inputs=3)
    gd.check_gradients(model, Unweighed(), rows(), rows(6, 2))
    gd.check_gradients(model, Unweighed(), rows(), rows(6, 2), [3.0] * 6)
    with pytest.raises(gd.GradientError, match=r"^dense1\.[Wb]: backward disagrees"):
        gd.check_gradients(model, Unweighed(), rows(), rows(6, 2), np.arange(1.0, 7.0))


@pytest.mark.parametrize("weight", [[1.0, 2.0], [[1.0]] * 6, [-1.0] * 6, [0.0] * 6, [np.nan] * 6])
def test_weights_that_are_none_are_refused(weight):
    model = gd.Sequential([gd.Dense(2)], inputs=3)
    with pytest.raises(gd.DataError, match="sample_weight"):
        gd.check_gradients(model, "mse", rows(), rows(6, 2), weight)


@pytest.mark.parametrize("penalty", [{"l1": -0.1}, {"l2": np.nan}, {"l2": "much"}])
def test_penalties_that_are_none_are_refused(penalty):
    model = gd.Sequential([gd.Dense(2)], inputs=3)
    with pytest.raises(ValueError, match=r"l[12] must be a number, at least 0"):
        gd.check_gradients(model, "mse", rows(), rows(6, 2), **penalty)


def by_batch():
    layers = [gd.Dense(4), gd.BatchNorm(), gd.Tanh(), gd.Dropout(0.4), gd.Dense(2)]
    return gd.Sequential(layers, inputs=3, seed=2)


def test_statistics_and_counts_of_a_model_stay_as_they_are():
    model = by_batch()
    model.fit(rows(20), rows(20, 2), loss="mse", batch_size=5)
    before = model.arrays(), model.passes
    gd.check_gradients(model, "mse", rows(), rows(6, 2))
    gd.check_layer(model.layers[1], rows(6, 4))
    gd.check_layer(model.layers[3], rows(6, 4))
    assert model.passes == before[1] == 4
    for name, array in model.arrays().items():
        np.testing.assert_array_equal(array, before[0][name])


def test_a_check_does_not_depend_on_the_passes_before_it():
    model = by_batch()
    errors = []
    for passes in (0, 1, 1000):
        model.passes = passes
        errors.append(gd.check_gradients(model, "mse", rows(), rows(6, 2), seed=4))
    assert errors[0] == errors[1] == errors[2]


class Noise(students.Identity):
    """Draws from a generator of its own, so that no two passes are the same function."""

    def forward(self, x, train=False):
        self.rng = getattr(self, "rng", np.random.default_rng(0))
        return x * self.rng.normal(1.0, 0.1, size=x.shape) if train else x


def test_a_layer_that_draws_by_no_rule_has_no_derivative():
    model = gd.Sequential([gd.Dense(3), Noise(), gd.Dense(2)], inputs=3)
    with pytest.raises(gd.GradientError):
        gd.check_gradients(model, "mse", rows(), rows(6, 2))
    with pytest.raises(gd.GradientError):
        gd.check_layer(Noise(), rows())


@pytest.mark.slow
def test_a_bias_that_batch_norm_takes_out_again_is_no_false_alarm():
    # Its gradient is 0, the sum of numbers that a column of hardly any spread makes large.
    for seed in range(100):
        rng = np.random.default_rng(seed)
        model = gd.Sequential([gd.Dense(1), gd.BatchNorm(), gd.Dense(2)], inputs=1, seed=seed)
        x = 1 + 10.0 ** rng.uniform(-4, 0) * rng.normal(size=(4, 1))
        for method in ("complex", "central"):
            gd.check_gradients(model, "mse", x, 3 * rng.normal(size=(4, 2)), method=method)
