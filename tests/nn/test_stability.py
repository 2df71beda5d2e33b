"""Stability: logits of ±10,000 in float32 give a finite loss and the gradient p − y.

No divide, overflow or invalid operation happens on the way, and nothing is clipped.
"""

import numpy as np
import pytest
from budgets import examples
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, log_expit, log_softmax, softmax

import minigd as gd

BIG = 1e4
# Row i of x picks row i of W: one logit a row, or three.
ONE = np.array([[BIG], [BIG], [-BIG], [-BIG], [0.0]], "float32")
ONE_Y = np.array([1, 0, 1, 0, 1])
THREE = np.array([[BIG, 0, -BIG], [BIG, 0, -BIG], [-BIG, BIG, BIG], [BIG] * 3], "float32")
THREE_Y = np.array([0, 2, 1, 2])

CASES = {
    "binary": (ONE, ONE_Y, "binary_crossentropy", gd.Sigmoid, gd.BinaryCrossEntropy),
    "categorical": (
        *(THREE, THREE_Y, "categorical_crossentropy"),
        *(gd.Softmax, gd.CategoricalCrossEntropy),
    ),
}
cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
# Underflow is not an error: exp(−10,000) is 0.
careful = {"divide": "raise", "over": "raise", "invalid": "raise"}


def truth(z, y):
    """Return the mean loss and the rows of p − y in float64, from SciPy."""
    z = z.astype("float64")
    if z.shape[1] == 1:
        y = y[:, None]
        gradient = (1 - y) * expit(z) - y * expit(-z)
        return -(y * log_expit(z) + (1 - y) * log_expit(-z)).mean(), gradient
    one_hot = np.eye(z.shape[1])[y]
    return -(one_hot * log_softmax(z, axis=1)).sum(axis=1).mean(), softmax(z, axis=1) - one_hot


def model_of(z, *last, backend="numpy"):
    """Make a model that turns row i of the unit matrix into the logits z[i]."""
    model = gd.Sequential([gd.Dense(z.shape[1]), *last], inputs=len(z), backend=backend)
    model.params["dense1.W"][...] = model.backend.asarray(z)
    return model


@cases
def test_the_loss_by_hand(backend, case):
    z, y, _, _, loss_class = case
    loss = loss_class(from_logits=True)
    with np.errstate(**careful):
        value = loss.forward(backend.asarray(z), backend.asarray(y))
        dz = loss.backward()
    expected, gradient = truth(z, y)
    assert value.dtype == dz.dtype == np.float32
    assert float(value) == pytest.approx(expected, rel=1e-6)
    # float32 next to 1: half a unit in the last place is 6e-8.
    np.testing.assert_allclose(backend.to_numpy(dz), gradient, rtol=0, atol=1.2e-7)


@cases
def test_a_step_by_hand(backend, case):
    z, y, _, _, loss_class = case
    model, loss, n = model_of(z, backend=backend), loss_class(from_logits=True), len(z)
    with np.errstate(**careful):
        out = model.forward(backend.asarray(np.eye(n)), train=True)
        value = loss.forward(out, backend.asarray(y))
        model.backward(loss.backward())
        gd.SGD(1.0).update(model)
    expected, gradient = truth(z, y)
    assert float(value) == pytest.approx(expected, rel=1e-6)
    # x is the unit matrix, so that dW is dz over the n rows.
    dW = backend.to_numpy(model.grads["dense1.W"])
    np.testing.assert_allclose(dW, gradient / n, rtol=0, atol=1.2e-7)


@cases
def test_the_objective_in_training(case):
    z, y, name, last, _ = case
    model = model_of(z, last())
    objective = gd.Objective(model, name)
    # A trainer looks for numbers that are not finite itself and silences NumPy; here it may speak.
    with np.errstate(**careful):
        value, _ = objective.forward(np.eye(len(z), dtype="float32"), y)
        objective.backward()
    expected, gradient = truth(z, y)
    assert float(value) == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(model.grads["dense1.W"], gradient / len(z), rtol=0, atol=1.2e-7)


@pytest.mark.few
@cases
@pytest.mark.parametrize("updater", [gd.SGD(0.1), gd.SGD(0.1, 0.9), gd.Adam(0.1)])
def test_fit_through_a_last_activation(backend, case, updater):
    z, y, name, last, _ = case
    model = model_of(z, last(), backend=backend)
    history = model.fit(
        np.eye(len(z)), y, loss=name, updater=updater, epochs=5, batch_size=2, metrics=["accuracy"]
    )
    expected, _ = truth(z, y)
    # The first epoch's loss is that of the first weights, but for a few steps of at most 0.1.
    assert history["loss"][0] == pytest.approx(expected, rel=1e-3)
    assert np.isfinite(history["loss"]).all()
    params = backend.to_numpy(model.flat_params)
    assert np.isfinite(params).all()
    # Rows that are right already have gradient 0 and the wrong ones move: nothing is clipped.
    moved = np.abs(params[: z.size].reshape(z.shape) - z).max(axis=1)
    assert (moved > 0).any()


@cases
def test_predict_and_evaluate(backend, case):
    z, y, name, last, _ = case
    model = model_of(z, last(), backend=backend)
    model.fit(np.eye(len(z)), y, loss=name, updater=gd.SGD(0.0))
    expected, gradient = truth(z, y)
    with np.errstate(**careful):
        p = model.predict(np.eye(len(z)))
        values = model.evaluate(np.eye(len(z)), y)
    labels = y[:, None] if z.shape[1] == 1 else np.eye(3)[y]
    np.testing.assert_allclose(p, gradient + labels, rtol=0, atol=1.2e-7)
    assert values["loss"] == pytest.approx(expected, rel=1e-6)


@examples(50)
@given(st.floats(-BIG, BIG, width=32), st.sampled_from([0, 1]))
def test_binary_cross_entropy_of_any_logit(z, y):
    loss, z, y = gd.BinaryCrossEntropy(from_logits=True), np.array([[z]], "float32"), np.array([y])
    with np.errstate(**careful):
        value = loss.forward(z, y)
        dz = loss.backward()
    expected, gradient = truth(z, y)
    assert float(value) == pytest.approx(expected, rel=1e-6, abs=1e-37)
    np.testing.assert_allclose(dz, gradient, rtol=1e-6, atol=1e-37)


@examples(50)
@given(st.lists(st.floats(-BIG, BIG, width=32), min_size=3, max_size=3), st.integers(0, 2))
def test_categorical_cross_entropy_of_any_logits(z, y):
    loss, z, y = gd.CategoricalCrossEntropy(from_logits=True), np.array([z], "f4"), np.array([y])
    with np.errstate(**careful):
        value = loss.forward(z, y)
        dz = loss.backward()
    expected, gradient = truth(z, y)
    # log Σ exp of three is at least 0 and at most log 3 above the largest: an error of a unit in
    # the last place of it, 1.2e-7, stays where the loss itself is near 0.
    assert float(value) == pytest.approx(expected, rel=1e-6, abs=2e-7)
    # A difference of two logits is rounded to float32: a relative error of 6e-8 of it, in the
    # exponent, where p = exp(d) for d of some units at most.
    np.testing.assert_allclose(dz, gradient, rtol=0, atol=4e-7)
