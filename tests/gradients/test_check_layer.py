"""`minigd.check_layer` on custom layers: right ones pass, and for wrong ones the error says where.

A layer that does not work with complex numbers is checked by the central difference.
"""

import re

import numpy as np
import pytest
from oracles import students

import minigd as gd

layers = pytest.mark.parametrize("layer", students.ALL)
kinked = pytest.mark.parametrize("layer", students.KINKED)


def rows(n, width=4, seed=0):
    return np.random.default_rng([seed, n]).standard_normal((n, width))


@pytest.mark.each
@layers
@pytest.mark.parametrize("method", ["auto", "central"])
@pytest.mark.parametrize("n", [1, 2, 9])
def test_a_right_layer_passes(layer, method, n):
    for seed in range(5):
        errors = gd.check_layer(layer(), rows(n, seed=seed), method=method, seed=seed)
        assert "x" in errors
        assert all(np.isfinite(error) for error in errors.values())


@layers
@pytest.mark.parametrize("method", ["auto", "central"])
def test_a_wrong_gradient_fails(layer, method):
    with pytest.raises(gd.GradientError, match="backward disagrees"):
        gd.check_layer(layer(slip=True), rows(9), method=method)


@pytest.mark.parametrize("layer", [*students.KINKED, students.Softsign])
@pytest.mark.parametrize("offset", [0.0, 1e-12, 1e-8, 3e-7, 1e-6, 3e-6, 1e-5, 1e-4])
def test_a_kink_is_no_error_at_it_and_near_it(layer, offset):
    x = np.array([[offset, -offset, 0.7], [-offset, 0.3, offset], [1 + offset, 1 - offset, -1.0]])
    gd.check_layer(layer(), x)
    gd.check_layer(layer(), x, method="central")


@kinked
def test_a_wrong_slope_beside_kinks_is_an_error(layer):
    x = np.array([[0.0, 0.5, -0.5], [0.2, 0.0, 0.9]])
    with pytest.raises(gd.GradientError):
        gd.check_layer(layer(slip=True), x)


@pytest.mark.parametrize("x", [np.zeros((3, 2)), [[0, 1], [2, 3]], [1.0, 2.0]])
def test_lists_integers_zeros_and_a_single_row_are_fine(x):
    for make in (gd.Tanh, gd.ReLU, lambda: gd.Dense(3), students.Square, students.Leaky):
        gd.check_layer(make(), x)


@pytest.mark.parametrize("scale", [1e-3, 1e2, 1e4])
def test_unscaled_columns_are_no_error(scale):
    x = rows(6) * scale
    for make in (lambda: gd.Dense(3), gd.ReLU, students.Scale, students.Leaky, students.Magnitude):
        gd.check_layer(make(), x)


class ByColumn(gd.Layer):
    """Columns less their mean, over their deviation, as textbooks have it.

    The slip is that the mean is taken for a constant on the way back. ``real`` is a layer that
    takes no complex numbers.
    """

    def __init__(self, slip=False, real=False):
        self.slip, self.real = slip, real

    def forward(self, x, train=False):
        if self.real:
            x = np.array([[float(v) for v in row] for row in x], x.real.dtype)
        centred = x - x.mean(axis=0)
        scale = 1 / np.sqrt((centred * centred).mean(axis=0) + 1e-3)
        if train:
            self.keep(centred * scale, scale)
        return centred * scale

    def backward(self, dy):
        y, scale = self.kept()
        dy = dy - y * (dy * y).mean(axis=0)
        return scale * (dy if self.slip else dy - dy.mean(axis=0))


# How many deviations from 0 the columns lie. A central difference of float64 has no digits beyond.
far_off = pytest.mark.parametrize("far", [1e3, 1e4, 1e5, 1e6])
farther = pytest.mark.parametrize("far", [1e3, 1e4, 1e5, 1e6, 1e7, 1e8])


@pytest.mark.each
@farther
@pytest.mark.parametrize("n", [3, 20, 100])
@pytest.mark.parametrize("layer", [gd.BatchNorm, ByColumn])
def test_columns_far_from_zero_are_no_error(layer, n, far):
    # The layers are right to the digits that x has: tests/nn/layers/test_batch_norm.py.
    for seed in range(3):
        gd.check_layer(layer(), far + rows(n, 3, seed), seed=seed)


@far_off
@pytest.mark.parametrize("n", [2, 3, 20])
def test_nor_are_they_for_a_layer_that_takes_no_complex_numbers(n, far):
    gd.check_layer(ByColumn(real=True), far + rows(n, 3))
    gd.check_layer(gd.BatchNorm(), far + rows(n, 3))
    gd.check_layer(gd.BatchNorm(), far + rows(n, 3), method="central")


@farther
@pytest.mark.parametrize("n", [3, 20])
def test_a_wrong_gradient_far_from_zero_is_an_error(n, far):
    with pytest.raises(gd.GradientError, match="backward disagrees with the complex step"):
        gd.check_layer(ByColumn(slip=True), far + rows(n, 3))


@far_off
def test_so_it_is_by_the_central_difference(far):
    with pytest.raises(gd.GradientError, match="backward disagrees with the central difference"):
        gd.check_layer(ByColumn(slip=True, real=True), far + rows(20, 3))


class Noise(students.Identity):
    """Adds something else each time, which is more than any rounding."""

    rng = np.random.default_rng(0)

    def forward(self, x, train=False):
        return x + 1e-3 * self.rng.standard_normal(x.shape)


@far_off
def test_noise_is_no_rounding(far):
    for layer in (Noise, ByMemory):
        with pytest.raises(gd.GradientError):
            gd.check_layer(layer(), far + rows(20, 3))


def test_a_layer_in_a_model_is_checked_at_its_own_values():
    model = gd.Sequential([students.Scale(), gd.Dense(2)], inputs=3)
    model.params["scale1.s"][...] = [1e3, 1.0, 1e-3]
    before = model.flat_params.copy(), model.flat_grads.copy()
    for layer in model.layers:
        gd.check_layer(layer, rows(4, 3))
    assert np.array_equal(model.flat_params, before[0])
    assert np.array_equal(model.flat_grads, before[1])


class Off(gd.Dense):
    """A Dense layer that is wrong in one entry of W's gradient."""

    def backward(self, dy):
        dx = super().backward(dy)
        self.grads["W"][1, 2] += 0.5
        return dx


@pytest.mark.parametrize(
    ("method", "how", "allowed"),
    [("complex", "complex step", "1e-10"), ("central", "central difference", "1e-06")],
)
def test_a_failure_names_parameter_index_values_errors_and_tolerance(method, how, allowed):
    with pytest.raises(gd.GradientError) as caught:
        gd.check_layer(Off(3), rows(6, 2), method=method)
    text = str(caught.value)
    assert text.startswith(f"off1.W: backward disagrees with the {how}. Worst at [1, 2]: ")
    pattern = rf"backward gave (\S+), the {how} (\S+); absolute error (\S+), relative error (\S+);"
    own, numeric, absolute, relative = map(float, re.search(pattern, text).groups())
    assert own - numeric == pytest.approx(0.5, abs=1e-6)
    assert absolute == pytest.approx(0.5, rel=1e-2)
    assert relative == pytest.approx(0.5 / abs(numeric), rel=1e-2)
    assert f"of the largest entry (allowed: {allowed}; batch of" in text


def test_the_tolerance_given_is_the_one_used_and_named():
    with pytest.raises(gd.GradientError, match=r"allowed: 0\.001;"):
        gd.check_layer(Off(3), rows(6, 2), tolerance=1e-3)
    gd.check_layer(Off(3), rows(6, 2), tolerance=100.0)


class Small(gd.Dense):
    """A Dense layer whose dW is off by a part in ten million, as single precision would be."""

    def backward(self, dy):
        dx = super().backward(dy)
        self.grads["W"][...] *= 1 + 1e-7
        return dx


@pytest.mark.parametrize("method", ["auto", "complex"])
def test_an_analytic_layer_is_held_to_the_complex_step(method):
    with pytest.raises(gd.GradientError, match="complex step"):
        gd.check_layer(Small(3), rows(6), method=method)


class Adds(students.Scale):
    """Adds to one gradient."""

    def backward(self, dy):
        before = self.grads["s"].copy()
        dx = super().backward(dy)
        self.grads["s"][...] += before
        return dx


class Rebinds(students.Scale):
    """Leaves its gradients in arrays of its own."""

    def backward(self, dy):
        self.grads = {name: grad.copy() for name, grad in self.grads.items()}
        return super().backward(dy)


@pytest.mark.parametrize("layer", [Adds, Rebinds])
def test_a_gradient_added_to_or_left_elsewhere_is_named(layer):
    with pytest.raises(gd.GradientError, match=r"1\.s: .* adds to the gradient, or does not write"):
        gd.check_layer(layer(), rows(5))


class ScalesX(students.Identity):
    """Doubles x in place."""

    def forward(self, x, train=False):
        x *= 2
        return x

    def backward(self, dy):
        return 2 * dy


class CutsX(students.Identity):
    """Clips x in place, which changes nothing the second time."""

    def forward(self, x, train=False):
        x[x < 0] = 0
        if train:
            self.keep(x.copy())
        return x.copy()

    def backward(self, dy):
        (x,) = self.kept()
        return dy * (x > 0)


class ScalesDy(students.Identity):
    """Modifies dy and returns the right dx all the same."""

    def backward(self, dy):
        dx = dy.copy()
        dy += 1.0
        return dx


@pytest.mark.parametrize(
    ("layer", "what"), [(ScalesX, "x"), (CutsX, "x"), (ScalesDy, "dy")], ids=["scale", "cut", "dy"]
)
def test_a_layer_that_modifies_its_input_is_named(layer, what):
    x = rows(5)
    before = x.copy()
    with pytest.raises(gd.GradientError, match=rf"1 modifies {what},"):
        gd.check_layer(layer(), x)
    assert np.array_equal(x, before)


class ByMemory(students.Identity):
    """Reads x in memory order."""

    def forward(self, x, train=False):
        return x.ravel(order="K").reshape(x.shape).copy()


def test_a_layer_that_reads_memory_order_is_named():
    with pytest.raises(gd.GradientError, match="column order"):
        gd.check_layer(ByMemory(), rows(5))


class FirstRow(students.Scale):
    """The mean taken over the size of the first batch ever seen."""

    def backward(self, dy):
        self.first = getattr(self, "first", len(dy))
        dx = super().backward(dy)
        self.grads["s"][...] *= len(dy) / self.first
        return dx


def test_a_mean_over_a_stale_n_is_an_error():
    with pytest.raises(gd.GradientError, match=r"firstrow1\.s: .* shape \(1, 4\)"):
        gd.check_layer(FirstRow(), rows(6))


class Stale(students.Square):
    """Keeps the x of the pass before."""

    def forward(self, x, train=False):
        y = super().forward(x, train)
        if train:
            kept, self.before = getattr(self, "before", x), x.copy()
            self.keep(kept)
        return y


@pytest.mark.parametrize("n", [1, 6])
def test_a_stale_cache_is_an_error(n):
    # Where batches differ in size, NumPy or the model may be the first to say so.
    with pytest.raises((gd.GradientError, ValueError)):
        gd.check_layer(Stale(), rows(n))


class Squares(gd.Layer):
    """x², with dy·dy instead of x·dy in the backward pass, which is the same if dy is x."""

    def forward(self, x, train=False):
        self.keep(x)
        return x * x

    def backward(self, dy):
        self.kept()
        return 2 * dy * dy


@pytest.mark.parametrize("seed", [0, 1, 5])
def test_dy_is_another_than_an_x_that_was_drawn_from_the_same_seed(seed):
    x = np.random.default_rng(seed).standard_normal((5, 3))
    with pytest.raises(gd.GradientError):
        gd.check_layer(Squares(), x, seed=seed)


class SkipsAsFirst(students.Scale):
    """Leaves out its own gradients where only dx is not wanted."""

    def backward(self, dy):
        return super().backward(dy) if self.wants_dx else None


def test_gradients_left_out_together_with_dx_are_an_error():
    with pytest.raises(gd.GradientError):
        gd.check_layer(SkipsAsFirst(), rows(5))


class Root(students.Elementwise):
    """√x, which is not a number below 0, with a slope that is one."""

    def f(self, x):
        return np.sqrt(x)

    def slope(self, x):
        return 0.5 / np.sqrt(np.abs(x) + 1)


def test_an_output_that_is_not_finite_is_an_error():
    with np.errstate(invalid="ignore"), pytest.raises(gd.GradientError):
        gd.check_layer(Root(), np.full((2, 2), -1.0))


@pytest.mark.parametrize("x", [[[np.nan, 1.0]], [[np.inf, 1.0]], np.zeros((0, 2))])
def test_rows_that_can_not_be_checked_are_refused(x):
    with pytest.raises((gd.GradientError, ValueError)):
        gd.check_layer(gd.Tanh(), x)


def test_the_complex_step_asked_for_is_refused_with_the_reason():
    with pytest.raises(gd.GradientError, match=r"TypeError.*use method='central'"):
        gd.check_layer(students.FloatTanh(), rows(3), method="complex")
    with pytest.raises(ValueError, match="'auto', 'complex' or 'central'"):
        gd.check_layer(gd.Tanh(), rows(3), method="numeric")
