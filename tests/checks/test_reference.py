"""The naive twins, compared with SciPy, scikit-learn and numbers computed by hand.

Other tests use them as the truth. So here they are compared with the engine only at the end, in a
test of the mean over the batch.
"""

import math

import numpy as np
import pytest
from scipy import special
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler

import minigd as gd
from minigd.checks import reference


def arrays(*shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape) for shape in shapes]


@pytest.mark.parametrize(
    ("n", "size", "expected"),
    [(2300, 500, [500] * 4 + [300]), (6, 3, [3, 3]), (1, 5, [1]), (3, 1, [1, 1, 1])],
)
def test_batch_sizes(n, size, expected):
    assert reference.batch_sizes(n, size) == expected
    assert [s.stop - s.start for s in gd.batch_slices(n, size)] == expected


def test_dense_is_the_sum_over_inputs():
    x, W, b = arrays((5, 4), (4, 3), (3,))
    np.testing.assert_allclose(reference.dense(x, W, b), np.einsum("ij,jk->ik", x, W) + b)


def test_dense_backward_is_the_derivative_along_any_direction():
    # f(W, b, x) = Σ_i dy_i · y_i is linear in W and in b: its differences are exact.
    x, W, b, dy = arrays((5, 4), (4, 3), (3,), (5, 3))
    along_W, along_b, along_x = arrays(W.shape, b.shape, x.shape, seed=1)
    dW, db, dx = reference.dense_backward(x, W, dy)

    def mean_loss(x, W, b):
        return (dy * reference.dense(x, W, b)).sum() / 5

    here = mean_loss(x, W, b)
    assert (dW * along_W).sum() == pytest.approx(mean_loss(x, W + along_W, b) - here)
    assert (db * along_b).sum() == pytest.approx(mean_loss(x, W, b + along_b) - here)
    # dx belongs to each example alone: its rows are not divided by n.
    assert (dx * along_x).sum() / 5 == pytest.approx(mean_loss(x + along_x, W, b) - here)


def test_batch_norm_is_a_scikit_learn_scaler_with_a_scale_and_a_shift():
    x, gamma, beta = arrays((8, 3), (3,), (3,))
    x = 4 * x + 10
    expected = gamma * StandardScaler().fit_transform(x) + beta
    y = reference.batch_norm(x, gamma, beta, epsilon=0.0)
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-14)
    # ε adds to the variance, and not to its root.
    flat = reference.batch_norm(np.tile(x[:1], (4, 1)), gamma, beta, epsilon=0.25)
    np.testing.assert_array_equal(flat, np.tile(beta, (4, 1)))
    y = reference.batch_norm(np.array([[-3.0], [3.0]]), np.ones(1), np.zeros(1), epsilon=16.0)
    np.testing.assert_array_equal(y, [[-0.6], [0.6]])


@pytest.mark.parametrize("n", [1, 2, 6])
def test_batch_norm_backward_is_the_complex_step_of_batch_norm(n):
    x, gamma, beta, dy = arrays((n, 3), (3,), (3,), (n, 3))
    dgamma, dbeta, dx = reference.batch_norm_backward(x, gamma, dy, epsilon=0.1)

    def slopes(at):
        """Return n ∂L/∂ of an array's entries, for L the mean over rows of dy_i · y_i."""
        place = {"x": x, "gamma": gamma, "beta": beta}
        found = np.zeros(place[at].shape)
        for index in np.ndindex(found.shape):
            moved = {name: array.astype(complex) for name, array in place.items()}
            moved[at][index] += 1e-20j
            found[index] = (dy * reference.batch_norm(**moved, epsilon=0.1)).sum().imag / 1e-20
        return found

    np.testing.assert_allclose(dx, slopes("x"), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(dgamma, slopes("gamma") / n, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(dbeta, slopes("beta") / n, rtol=1e-12)


@pytest.mark.parametrize("x", [-30.0, -1.0, 0.0, 0.5, 30.0])
def test_sigmoid(x):
    assert reference.sigmoid(x) == pytest.approx(special.expit(x), rel=1e-14)


def test_textbook_formulas_overflow_where_they_say():
    with pytest.raises(OverflowError):
        reference.sigmoid(-710.0)
    with np.errstate(over="ignore", invalid="ignore"):
        assert np.isnan(reference.softmax(np.array([710.0, 0.0]))[0])


def test_softmax_and_its_jacobian():
    (x,) = arrays((6,))
    np.testing.assert_allclose(reference.softmax(x), special.softmax(x), rtol=1e-14)
    jacobian = reference.softmax_jacobian(reference.softmax(x))
    for k in range(6):  # a complex step gives a column to the last digits
        step = x + 1e-20j * np.eye(6)[k]
        column = reference.softmax(step).imag / 1e-20
        np.testing.assert_allclose(jacobian[:, k], column, rtol=1e-12, atol=1e-16)


def test_cross_entropy_and_its_gradient():
    (x,) = arrays((4,))
    p = special.softmax(x)
    for label in range(4):
        value, dx = reference.cross_entropy(x, label)
        assert value == pytest.approx(log_loss([label], [p], labels=range(4)), rel=1e-13)
        np.testing.assert_allclose(dx, p - np.eye(4)[label], atol=1e-15)


def test_adam_by_hand():
    # With g = 2, then −1: m = 0.2, then 0.08; v = 0.004, then 0.004996.
    adam = reference.Adam(learning_rate=0.1, beta1=0.9, beta2=0.999, epsilon=1e-8)
    p = adam.update([np.array([1.0])], [np.array([2.0])])
    first = 1 - 0.1 * 2 / (2 + 1e-8)
    assert p[0][0] == pytest.approx(first, rel=1e-14)
    p = adam.update(p, [np.array([-1.0])])
    m, v = 0.08 / (1 - 0.81), 0.004996 / (1 - 0.998001)
    assert p[0][0] == pytest.approx(first - 0.1 * m / (math.sqrt(v) + 1e-8), rel=1e-12)


def test_twins_do_not_modify_what_they_are_given():
    given = arrays((5, 4), (4, 3), (5, 3))
    before = [a.copy() for a in given]
    reference.dense_backward(*given)
    reference.batch_norm(given[0], *np.ones((2, 4)))
    reference.batch_norm_backward(given[0], np.ones(4), given[0])
    params, grads = given[:1], [np.ones((5, 4))]
    reference.Adam().update(params, grads)
    for array, expected in zip(given, before, strict=True):
        np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize("n", [1, 2, 7])
def test_the_engines_gradient_is_the_mean_of_the_examples_gradients(backend, n):
    layers = [gd.Dense(5), gd.Tanh(), gd.Dense(4), gd.Tanh(), gd.Dense(3)]
    model = gd.Sequential(layers, inputs=2, backend=backend, dtype="float64", seed=4)
    (x,), y = arrays((n, 2)), np.arange(n) % 3
    weights = [
        tuple(backend.to_numpy(model.params[f"dense{i}.{name}"]).copy() for name in "Wb")
        for i in (1, 2, 3)
    ]
    examples = reference.per_example_gradients(x, y, weights)
    assert len(examples) == n

    loss = gd.CategoricalCrossEntropy(from_logits=True)
    loss.forward(model.forward(backend.asarray(x), train=True), backend.asarray(y))
    model.backward(loss.backward())
    for i in range(3):
        for j, name in enumerate("Wb"):
            mean = sum(example[i][j] for example in examples) / n
            gradient = backend.to_numpy(model.grads[f"dense{i + 1}.{name}"])
            np.testing.assert_allclose(gradient, mean, rtol=1e-12, atol=1e-15)
