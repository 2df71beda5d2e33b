"""The formulas of the layers, line by line, each with the numbers that the real run gave."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from minigd import formulas
from minigd.insight.explain.recorder import Recorder
from minigd.nn.layers import (
    ELU,
    GELU,
    BatchNorm,
    Dense,
    Dropout,
    Layer,
    LayerNorm,
    LeakyReLU,
    ReLU,
    Rescale,
    Residual,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Standardize,
    Tanh,
)
from minigd.types import Array

UNKNOWN = "formula not known"


class Formula(NamedTuple):
    """A formula, its value, and a note beside it; no value if it was not computed."""

    text: str
    value: Array | None
    remark: str = ""

    def with_remark(self, remark: str) -> "Formula":
        """Return the formula with one remark more."""
        return self._replace(remark="; ".join(part for part in (self.remark, remark) if part))


class Explained(NamedTuple):
    """What a layer or a loss computes, and the numbers that its formulas start from."""

    given: dict[str, Any]
    forward: list[Formula]
    backward: list[Formula]


def dense(run: Recorder) -> Explained:
    """Return the lines of an affine map; its gradients are means over the batch."""
    (x, y), k = run.names, run.k
    bias = f" + b{k}" if "b" in run.params else ""
    return Explained(
        {f"{name}{k}": value for name, value in run.params.items()},
        [Formula(f"{y} = {x}·W{k}{bias}", run.y)],
        [
            Formula(f"dW{k} = {x}ᵀ·d{y} / n", run.grads.get("W")),
            Formula(f"db{k} = Σᵢ d{y} / n", run.grads.get("b")),
            Formula(f"d{x} = d{y}·W{k}ᵀ", run.dx),
        ],
    )


def simple(forward: str, backward: str, **constants: str) -> Callable[[Recorder], Explained]:
    """Return the entry of a layer without parameters.

    Its constants are buffers or attributes of the layer, each with its name in formulas.
    """

    def entry(run: Recorder) -> Explained:
        (x, y), k = run.names, run.k
        own = {name: f"{called}{k}" for name, called in constants.items()}
        names = {"x": x, "y": y, "dy": f"d{y}", **own}
        values = {**vars(run.layer), **run.buffers}
        return Explained(
            {called: values[name] for name, called in own.items()},
            [Formula(f"{y} = {forward.format(**names)}", run.y)],
            [Formula(f"d{x} = {backward.format(**names)}", run.dx)],
        )

    return entry


def gated(run: Recorder) -> Explained:
    """Return the lines of x times a factor p that depends on x."""
    (x, y), layer, p, given = run.names, run.layer, f"p{run.k}", {"π": math.pi}
    root = "√(2 / π)"
    if isinstance(layer, SiLU):
        given, value = {}, formulas.sigmoid(run.x)
        share, slope = f"1 / (1 + exp(−{x}))", f"{x} ⊙ {p} ⊙ (1 − {p})"
    elif isinstance(layer, GELU) and layer.approximate:
        value = formulas.sigmoid(2 * math.sqrt(2 / math.pi) * (run.x + 0.044715 * run.x**3))
        share = f"½·(1 + tanh({root}·({x} + 0.044715·{x} ⊙ {x}²)))"
        slope = f"2·{root}·{x} ⊙ (1 + 0.134145·{x}²) ⊙ {p} ⊙ (1 − {p})"
    else:
        value = formulas.normal_cdf(run.x)
        share, slope = f"½·(1 + erf({x} / √2))", f"{x} ⊙ exp(−½·{x}²) / √(2·π)"
    return Explained(
        given,
        [Formula(f"{p} = {share}", value), Formula(f"{y} = {x} ⊙ {p}", run.y)],
        [Formula(f"d{x} = d{y} ⊙ ({p} + {slope})", run.dx)],
    )


def layer_norm(run: Recorder) -> Explained:
    """Return the lines of rows that are each brought to mean 0 and variance 1."""
    (x, y), k = run.names, run.k
    assert isinstance(run.layer, LayerNorm)
    mean = run.x.mean(axis=1, keepdims=True)
    deviation = np.sqrt(((run.x - mean) ** 2).mean(axis=1, keepdims=True))
    width, root = np.asarray(run.x.shape[1]), f"√(σ{k}² + ε{k})"
    g = run.dy * run.params["gamma"] if run.dx is not None else None
    return Explained(
        {
            **{f"{name}{k}": value for name, value in run.params.items()},
            **{f"width{k}": width, f"ε{k}": run.layer.epsilon},
        },
        [
            Formula(f"μ{k} = Σₖ {x} / width{k}", mean),
            Formula(f"σ{k} = √(Σₖ ({x} − μ{k})² / width{k})", deviation),
            Formula(f"x̂{k} = ({x} − μ{k}) / {root}", run.inside[0]),
            Formula(f"{y} = gamma{k} ⊙ x̂{k} + beta{k}", run.y),
        ],
        [
            Formula(f"dgamma{k} = Σᵢ (d{y} ⊙ x̂{k}) / n", run.grads.get("gamma")),
            Formula(f"dbeta{k} = Σᵢ d{y} / n", run.grads.get("beta")),
            Formula(f"g{k} = gamma{k} ⊙ d{y}", g),
            Formula(
                f"d{x} = (g{k} − Σₖ g{k} / width{k} − x̂{k} ⊙ Σₖ (g{k} ⊙ x̂{k}) / width{k}) / {root}",
                run.dx,
                "this subtracts the effect of each number on the others of its row",
            ),
        ],
    )


def batch_norm(run: Recorder) -> Explained:
    """Return the lines of a layer in which each row depends on the others."""
    (x, y), k, layer = run.names, run.k, run.layer
    assert isinstance(layer, BatchNorm)
    x_hat = run.inside[0]
    given = {f"{name}{k}": value for name, value in {**run.params, **run.buffers}.items()}
    given |= {f"momentum{k}": layer.momentum, f"ε{k}": layer.epsilon}
    if len(run.x) == 1 or not layer.trainable:
        root = f"√(variance{k} + ε{k})"
        alone = "one row has no variance: the running statistics are used instead"
        if not layer.trainable:
            alone = "the layer is not trained: it uses the running statistics"
        forward = [Formula(f"x̂{k} = ({x} − mean{k}) / {root}", x_hat, alone)]
        dx, coupled = f"d{y} ⊙ gamma{k} / {root}", ""
    else:
        mean = run.x.mean(axis=0)
        deviation = np.sqrt(((run.x - mean) ** 2).mean(axis=0))
        root = f"√(σ{k}² + ε{k})"
        forward = [
            Formula(f"μ{k} = Σᵢ {x} / n", mean),
            Formula(f"σ{k} = √(Σᵢ ({x} − μ{k})² / n)", deviation),
            Formula(f"x̂{k} = ({x} − μ{k}) / {root}", x_hat),
        ]
        dx = f"gamma{k} / {root} ⊙ (d{y} − dbeta{k} − x̂{k} ⊙ dgamma{k})"
        coupled = "the last two terms are the effect of each row on the others"
    forward.append(Formula(f"{y} = gamma{k} ⊙ x̂{k} + beta{k}", run.y))
    if len(run.x) > 1 and layer.trainable:
        kept, new = f"momentum{k}", f"(1 − momentum{k})"
        forward += [
            Formula(f"mean{k} ← {kept}·mean{k} + {new}·μ{k}", run.buffers_after["mean"]),
            Formula(
                f"variance{k} ← {kept}·variance{k} + {new}·σ{k}²·n / (n − 1)",
                run.buffers_after["variance"],
                "for predictions, by the unbiased variance",
            ),
        ]
    return Explained(
        given,
        forward,
        [
            Formula(f"dgamma{k} = Σᵢ (d{y} ⊙ x̂{k}) / n", run.grads.get("gamma")),
            Formula(f"dbeta{k} = Σᵢ d{y} / n", run.grads.get("beta")),
            Formula(f"d{x} = {dx}", run.dx, coupled),
        ],
    )


def dropout(run: Recorder) -> Explained:
    """Return the lines of a layer that draws a mask."""
    (x, y), k, layer = run.names, run.k, run.layer
    assert isinstance(layer, Dropout)
    mask = (run.inside[0] != 0).astype(run.x.dtype)
    drawn = f"0 with probability {layer.rate:g}, else 1; training pass {layer.passes} decides"
    return Explained(
        {f"rate{k}": layer.rate},
        [
            Formula(f"mask{k} = drawn(rate{k})", mask, drawn),
            Formula(f"{y} = {x} ⊙ mask{k} / (1 − rate{k})", run.y),
        ],
        [Formula(f"d{x} = d{y} ⊙ mask{k} / (1 − rate{k})", run.dx)],
    )


def residual(run: Recorder) -> Explained:
    """Return the lines of the layers inside, and of the sum."""
    (x, y), f = run.names, f"f{run.k}"
    given: dict[str, Any] = {}
    forward = [Formula(f"{f} = {x}", run.x)]
    backward: list[Formula] = []
    for each in run.inner:
        own = LAYERS.get(type(each.layer), unknown_layer)(each)
        given |= own.given
        forward += own.forward
        backward[:0] = own.backward
    last = run.inner[-1].names[1]
    forward.append(Formula(f"{y} = {x} + {last}", run.y))
    backward.insert(0, Formula(f"d{last} = d{y}", run.inner[-1].dy))
    return Explained(given, forward, [*backward, Formula(f"d{x} = d{y} + d{f}", run.dx)])


def unknown_layer(run: Recorder) -> Explained:
    """Return the numbers of a layer from outside the package."""
    (x, y), kind = run.names, type(run.layer).__name__
    own = {name: parameter(run.layer, run.k, name) for name in run.params}
    grads = [
        Formula(f"d{own[name]} = {kind}.backward(d{y})", grad, UNKNOWN)
        for name, grad in run.grads.items()
    ]
    return Explained(
        {own[name]: value for name, value in run.params.items()},
        [Formula(f"{y} = {kind}({x})", run.y, UNKNOWN)],
        [*grads, Formula(f"d{x} = {kind}.backward(d{y})", run.dx, UNKNOWN)],
    )


def parameter(layer: Layer, k: str, name: str) -> str:
    """Return the name of a layer's parameter in formulas: ``W1``, or ``swish1.beta``."""
    plain = "".join(c if c.isalnum() else "_" for c in name)
    return f"{plain}{k}" if type(layer) in LAYERS else f"{layer.name}.{plain}"


LETTERS: dict[type[Layer], str] = {
    Dense: "z",
    **dict.fromkeys((Tanh, Sigmoid, ReLU, LeakyReLU, ELU, GELU, SiLU, Softplus, Softmax), "a"),
    **dict.fromkeys((BatchNorm, LayerNorm), "h"),
    Dropout: "u",
    Residual: "c",
    Standardize: "s",
    Rescale: "r",
}
"""The name of a layer's output in formulas; o for a layer from outside the package."""

LAYERS: dict[type[Layer], Callable[[Recorder], Explained]] = {
    Dense: dense,
    Tanh: simple("tanh({x})", "{dy} ⊙ (1 − {y}²)"),
    Sigmoid: simple("1 / (1 + exp(−{x}))", "{dy} ⊙ {y} ⊙ (1 − {y})"),
    ReLU: simple("max({x}, 0)", "{dy} ⊙ [{y} > 0]"),
    LeakyReLU: simple(
        "max({x}, 0) + {slope}·min({x}, 0)",
        "{dy} ⊙ ([{y} > 0] + {slope}·[{y} ≤ 0])",
        slope="slope",
    ),
    ELU: simple(
        "max({x}, 0) + {alpha}·(exp(min({x}, 0)) − 1)",
        "{dy} ⊙ ([{y} > 0] + ({y} + {alpha}) ⊙ [{y} ≤ 0])",
        alpha="α",
    ),
    GELU: gated,
    SiLU: gated,
    Softplus: simple("max({x}, 0) + log(1 + exp(−|{x}|))", "{dy} / (1 + exp(−{x}))"),
    Softmax: simple("exp({x}) / Σₖ exp({x})", "{y} ⊙ ({dy} − Σₖ ({dy} ⊙ {y}))"),
    BatchNorm: batch_norm,
    LayerNorm: layer_norm,
    Dropout: dropout,
    Residual: residual,
    Standardize: simple("({x} − {mean}) / {std}", "{dy} / {std}", mean="mean_x", std="std_x"),
    Rescale: simple("{x} ⊙ {std} + {mean}", "{dy} ⊙ {std}", mean="mean_y", std="std_y"),
}
