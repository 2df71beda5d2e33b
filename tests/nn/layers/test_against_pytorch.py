"""Training with each smooth activation and LayerNorm, against PyTorch in float64.

Definitions are the same, ε under the root included. At five times the learning rate the network of
norms is chaotic: what rounds at 1e-16 has grown to 0.2 after 300 updates.
"""

import numpy as np
import pytest

import minigd as gd

torch = pytest.importorskip("torch")


class Sum(torch.nn.Sequential):
    """x + f(x)."""

    def forward(self, x):
        return x + super().forward(x)


NAMES = (("W", "weight"), ("b", "bias"), ("gamma", "weight"), ("beta", "bias"))
PAIRS = {
    "elu": (lambda: gd.ELU(0.7), lambda: torch.nn.ELU(0.7)),
    "gelu": (gd.GELU, torch.nn.GELU),
    "gelu by tanh": (lambda: gd.GELU("tanh"), lambda: torch.nn.GELU("tanh")),
    "silu": (gd.SiLU, torch.nn.SiLU),
    "softplus": (gd.Softplus, torch.nn.Softplus),
    "layer norm": (gd.LayerNorm, lambda: torch.nn.LayerNorm(6, dtype=torch.float64)),
    "residual": (
        lambda: gd.Residual([gd.Dense(5), gd.Tanh(), gd.Dense(6)]),
        lambda: Sum(
            torch.nn.Linear(6, 5, dtype=torch.float64),
            torch.nn.Tanh(),
            torch.nn.Linear(5, 6, dtype=torch.float64),
        ),
    ),
    "frozen": (gd.GELU, torch.nn.GELU),
}


def pairs(layers, modules):
    """Yield each layer with its module, those inside of a Residual as well."""
    for layer, module in zip(layers, modules, strict=True):
        if isinstance(layer, gd.Residual):
            yield from pairs(layer.layers, module)
        else:
            yield layer, module


def theirs(model, make):
    """Return a network of PyTorch with the parameters of a model."""
    linear = {"dtype": torch.float64}
    layers = [torch.nn.Linear(4, 6, **linear), make(), torch.nn.Linear(6, 6, **linear), make()]
    net = torch.nn.Sequential(*layers, torch.nn.Linear(6, 2, **linear))
    with torch.no_grad():
        for layer, module in pairs(model.layers, net):
            for own, name in (
                ("W", "weight"),
                ("b", "bias"),
                ("gamma", "weight"),
                ("beta", "bias"),
            ):
                if own in layer.params:
                    getattr(module, name).copy_(torch.from_numpy(layer.params[own].T))
    return net


@pytest.mark.slow
@pytest.mark.parametrize("name", PAIRS)
def test_three_hundred_updates_are_pytorchs(name):
    make, other = PAIRS[name]
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(60, 4)), rng.normal(size=(60, 2))
    layers = [gd.Dense(6), make(), gd.Dense(6), make(), gd.Dense(2)]
    model = gd.Sequential(layers, 4, dtype="float64", seed=2)
    net = theirs(model, other)
    if name == "frozen":
        model.layers[0].trainable = model.layers[2].trainable = False
        net[0].requires_grad_(False)
        net[2].requires_grad_(False)
    trained = [p for p in net.parameters() if p.requires_grad]
    step = torch.optim.SGD(trained, lr=0.01, momentum=0.9)
    updater, loss = gd.SGD(0.01, momentum=0.9), gd.MeanSquaredError()
    for i in range(300):
        rows = slice(20 * (i % 3), 20 * (i % 3) + 20)
        loss.forward(model.forward(X[rows], train=True), Y[rows])
        model.backward(loss.backward())
        updater.update(model)
        step.zero_grad()
        difference = net(torch.from_numpy(X[rows])) - torch.from_numpy(Y[rows])
        (difference**2).mean().backward()
        step.step()
    for layer, module in pairs(model.layers, net):
        for own, name in NAMES:
            if own in layer.params:
                found = getattr(module, name).detach().numpy().T
                np.testing.assert_allclose(layer.params[own], found, rtol=1e-7, atol=1e-7)
    x = rng.normal(size=(5, 4))
    np.testing.assert_allclose(
        model.predict(x), net(torch.from_numpy(x)).detach().numpy(), rtol=1e-7, atol=1e-7
    )
