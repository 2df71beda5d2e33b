"""Random networks that are right, or wrong by noise: layers, losses, batches, weights, penalties.

In a right one, each layer also passes alone, with its actual input. A seed determines each network.
"""

import warnings

import pytest
from gradients.common import rng_of
from oracles import students

import minigd as gd
from minigd.checks.diagnosis import explain
from minigd.optim.gradient_transforms import Penalty

HIDDEN = [gd.Tanh, gd.Sigmoid, gd.ReLU, gd.LeakyReLU, gd.Softmax, gd.BatchNorm]
HIDDEN += [gd.ELU, gd.GELU, lambda: gd.GELU(True), gd.SiLU, gd.Softplus, gd.LayerNorm]
HIDDEN += [lambda: gd.Residual([gd.LayerNorm(), gd.SiLU()])]
HIDDEN += [lambda: gd.Dropout(0.3), *students.ALL]
LOSSES = [
    lambda: gd.MeanSquaredError(),
    lambda: gd.Huber(0.7),
    lambda: gd.BinaryCrossEntropy(from_logits=True),
    lambda: gd.BinaryCrossEntropy(label_smoothing=0.1),
    lambda: gd.CategoricalCrossEntropy(from_logits=True),
    lambda: gd.CategoricalCrossEntropy(),
    lambda: gd.MeanAbsoluteError(),
    lambda: gd.Quantile(0.3),
    lambda: gd.Poisson(),
    lambda: gd.Hinge(),
    lambda: gd.Focal(from_logits=True),
    lambda: gd.Focal(1.5, None),
]


class Noisy(gd.Dense):
    """A dense layer whose dW is off by numbers that follow no rule."""

    def backward(self, dy):
        dx = super().backward(dy)
        dW = self.grads["W"]
        dW += rng_of(int(abs(dW.sum()) * 1e6)).standard_normal(dW.shape)
        return dx


def draw(seed, last=gd.Dense):
    """Return a model off its first values, a loss, x, y, weights or None, and a penalty."""
    rng = rng_of(seed, 8)
    loss = LOSSES[rng.integers(len(LOSSES))]()
    categorical = isinstance(loss, gd.CategoricalCrossEntropy)
    outputs, n = int(rng.integers(1 + categorical, 5)), int(rng.integers(1, 13))
    categorical |= isinstance(loss, gd.Hinge) and outputs > 1
    layers = []
    for _ in range(rng.integers(0, 4)):
        layers.append(gd.Dense(int(rng.integers(1, 7)), bias=bool(rng.integers(2))))
        layers.append(HIDDEN[rng.integers(len(HIDDEN))]())
    layers.append(last(outputs))
    if loss.takes_probabilities:
        layers.append(gd.Softmax() if categorical else gd.Sigmoid())
    model = gd.Sequential(layers, int(rng.integers(1, 7)), dtype="float64", seed=seed)
    model.flat_params += 0.3 * rng.standard_normal(model.flat_params.shape)
    x, y = rng.standard_normal((n, model.n_in)), rng.standard_normal((n, outputs))
    if categorical:
        y = rng.integers(0, outputs, n)
    elif isinstance(loss, gd.BinaryCrossEntropy | gd.Hinge):
        y = (y > 0).astype(float)
    elif isinstance(loss, gd.Poisson):
        y = y * y
    weight = rng.uniform(0.1, 3.0, n) if rng.integers(2) else None
    penalty = {"l1": float(rng.choice([0, 0.1])), "l2": float(rng.choice([0, 0.3]))}
    return model, loss, x, y, weight, {**penalty, "decay_bias": bool(rng.integers(2))}


def raises_no_alarm(seed):
    """Check a right network, and that no part of it would be given a name of a bug."""
    model, loss, x, y, weight, penalty = draw(seed)
    gd.check_gradients(model, loss, x, y, weight, **penalty)
    objective = gd.Objective(model, loss)
    found = explain(model, objective.layers, objective.loss, x, y, weight, Penalty(**penalty))
    assert found is None, f"network {seed}: {found}"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for layer in model.layers:
            gd.check_layer(layer, x, seed=seed)
            x = model.run_forward([layer], x, train=True)


def check_noise(seed):
    """Check the gradients of a network that is wrong by noise."""
    model, loss, x, y, weight, penalty = draw(seed, last=Noisy)
    gd.check_gradients(model, loss, x, y, weight, **penalty)


def noise_has_no_name(seed):
    """Check that a network that is wrong by noise is caught, and is not named."""
    with pytest.raises(gd.GradientError) as caught:
        check_noise(seed)
    assert caught.value.diagnosis is None, f"network {seed}: {caught.value}"
