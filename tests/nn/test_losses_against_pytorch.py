"""The losses against PyTorch's, where it is installed: 300 updates in float64.

Definitional differences: its PoissonNLLLoss and L1Loss take the mean over all numbers, as ours do;
it has no quantile loss, no hinge loss of Crammer and Singer's and no focal loss, which are written
here with its operations; its HuberLoss is ours. Where an error is exactly 0 both take a slope of 0.
"""

import numpy as np
import pytest

import minigd as gd

torch = pytest.importorskip("torch")
F = torch.nn.functional

X = np.random.default_rng(0).normal(size=(64, 5))
Y = np.random.default_rng(1).normal(size=(64, 3))
KINDS, FLAGS = Y.argmax(axis=1), (Y > 0.2).astype(float)


def quantiles(z, y):
    e, q = z - y[:, None], torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    return torch.maximum((1 - q) * e, -q * e).mean()


def crammer_singer(z, y):
    own = F.one_hot(y, z.shape[1]).bool()
    rival = z.masked_fill(own, -torch.inf).max(dim=1).values
    return F.relu(1 + rival - z[own]).mean()


def focal(z, y):
    p, each = torch.sigmoid(z), F.binary_cross_entropy_with_logits(z, y, reduction="none")
    right, share = p * y + (1 - p) * (1 - y), 0.25 * y + 0.75 * (1 - y)
    return (share * (1 - right) ** 2 * each).mean()


LOSSES = {
    "mae": (gd.MeanAbsoluteError(), Y, F.l1_loss),
    "huber": (gd.Huber(0.5), Y, lambda z, y: F.huber_loss(z, y, delta=0.5)),
    "quantiles": (gd.Quantile([0.1, 0.5, 0.9]), Y[:, 0], quantiles),
    "poisson": (gd.Poisson(), np.floor(abs(3 * Y)), lambda z, y: F.poisson_nll_loss(z, y)),
    "hinge": (gd.Hinge(), FLAGS[:, :1], lambda z, y: F.relu(1 - (2 * y - 1) * z).mean()),
    "hinge of classes": (gd.Hinge(), KINDS, crammer_singer),
    "focal": (gd.Focal(from_logits=True), FLAGS, focal),
    "mse": (gd.MeanSquaredError(), Y, F.mse_loss),
    "bce": (gd.BinaryCrossEntropy(True), FLAGS, F.binary_cross_entropy_with_logits),
    "cce": (gd.CategoricalCrossEntropy(True, 0.1), KINDS,
            lambda z, y: F.cross_entropy(z, y, label_smoothing=0.1)),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", LOSSES)
def test_300_updates_are_pytorchs(name):
    loss, y, theirs = LOSSES[name]
    outputs = 1 if name == "hinge" else 3
    model = gd.Sequential([gd.Dense(8), gd.Tanh(), gd.Dense(outputs)], inputs=5, dtype="float64")
    weights = [torch.tensor(p.copy(), requires_grad=True) for p in model.params.values()]
    step = torch.optim.SGD(weights, lr=0.05, momentum=0.9)
    trainer = gd.Trainer(model, loss, gd.SGD(0.05, momentum=0.9))
    W1, b1, W2, b2 = weights
    x, target = torch.tensor(X), torch.tensor(y)
    for k in range(300):
        part = slice(16 * (k % 4), 16 * (k % 4) + 16)
        step.zero_grad()
        value = theirs(torch.tanh(x[part] @ W1 + b1) @ W2 + b2, target[part])
        value.backward()
        step.step()
        ours = float(trainer.step(X[part], y[part]))
        assert ours == pytest.approx(value.item(), rel=1e-7, abs=1e-9)
    for p, w in zip(model.params.values(), weights, strict=True):
        np.testing.assert_allclose(p, w.detach().numpy(), rtol=0, atol=1e-7)
