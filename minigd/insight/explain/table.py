"""The formulas of the package, line by line: what each layer, loss and updater computes.

Each entry pairs a formula with the numbers that the real run gave, so that it can be recomputed.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from minigd import formulas
from minigd.insight.explain.recorder import Recorder
from minigd.nn.layers import (
    BatchNorm,
    Dense,
    Dropout,
    Layer,
    LeakyReLU,
    ReLU,
    Rescale,
    Sigmoid,
    Softmax,
    Standardize,
    Tanh,
)
from minigd.nn.losses import (
    BinaryCrossEntropy,
    CategoricalCrossEntropy,
    Huber,
    Loss,
    MeanSquaredError,
)
from minigd.optim.updaters import SGD, Adagrad, Adam, AdamW, Nadam, RAdam, RMSprop, Updater
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


# Layers ---------------------------------------------------------------------------------------


def dense(run: Recorder) -> Explained:
    """Return the lines of an affine map; its gradients are means over the batch."""
    (x, y), k = run.names, run.k
    bias = f" + b{k}" if "b" in run.params else ""
    return Explained(
        {f"{name}{k}": value for name, value in run.params.items()},
        [Formula(f"{y} = {x}·W{k}{bias}", run.y)],
        [
            Formula(f"dW{k} = {x}ᵀ·d{y} / n", run.grads["W"]),
            Formula(f"db{k} = Σᵢ d{y} / n", run.grads.get("b")),
            Formula(f"d{x} = d{y}·W{k}ᵀ", run.dx),
        ],
    )


def simple(forward: str, backward: str, **constants: str) -> Callable[[Recorder], Explained]:
    """Return the entry of a layer without parameters.

    Its constants are buffers or attributes of the layer, each with the name that formulas have.
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


def batch_norm(run: Recorder) -> Explained:
    """Return the lines of a layer in which each row depends on the others."""
    (x, y), k, layer = run.names, run.k, run.layer
    assert isinstance(layer, BatchNorm)
    x_hat = run.inside[0]
    given = {f"{name}{k}": value for name, value in {**run.params, **run.buffers}.items()}
    given |= {f"momentum{k}": layer.momentum, f"ε{k}": layer.epsilon}
    if len(run.x) == 1:
        root = f"√(variance{k} + ε{k})"
        alone = "one row has no variance: the running statistics take its place"
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
        coupled = "the last two terms are what each row's change does to the others"
    forward.append(Formula(f"{y} = gamma{k} ⊙ x̂{k} + beta{k}", run.y))
    if len(run.x) > 1:
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
            Formula(f"dgamma{k} = Σᵢ (d{y} ⊙ x̂{k}) / n", run.grads["gamma"]),
            Formula(f"dbeta{k} = Σᵢ d{y} / n", run.grads["beta"]),
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
    """Return the name that formulas have for a layer's parameter: ``W1``, or ``swish1.beta``."""
    plain = "".join(c if c.isalnum() else "_" for c in name)
    return f"{plain}{k}" if type(layer) in LAYERS else f"{layer.name}.{plain}"


LETTERS: dict[type[Layer], str] = {
    Dense: "z",
    **dict.fromkeys((Tanh, Sigmoid, ReLU, LeakyReLU, Softmax), "a"),
    BatchNorm: "h",
    Dropout: "u",
    Standardize: "s",
    Rescale: "r",
}
"""What the output of a layer is called; that of one from outside the package is o."""

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
    Softmax: simple("exp({x}) / Σₖ exp({x})", "{y} ⊙ ({dy} − Σₖ ({dy} ⊙ {y}))"),
    BatchNorm: batch_norm,
    Dropout: dropout,
    Standardize: simple("({x} − {mean}) / {std}", "{dy} / {std}", mean="mean_x", std="std_x"),
    Rescale: simple("{x} ⊙ {std} + {mean}", "{dy} ⊙ {std}", mean="mean_y", std="std_y"),
}


# Losses ---------------------------------------------------------------------------------------


class LossRun(NamedTuple):
    """The loss's part in the step, on the host: outputs, targets, the loss of each example."""

    loss: Any
    names: tuple[str, str]
    z: Array
    y: Array
    targets: Array
    each: Array | None

    def explained(
        self, lines: list[Formula], each: str, gradient: str, **given: float
    ) -> Explained:
        """Return lines, then ℓᵢ, and the gradient, whose value is what the last layer was given."""
        own = Formula(f"ℓᵢ = {each}", self.each)
        return Explained(given, [*lines, own], [Formula(f"d{self.names[0]} = {gradient}", None)])


def squared(run: LossRun) -> Explained:
    """Return the lines of squared errors."""
    z, y = run.names
    error = Formula(f"e = {z} − {y}", run.z - run.targets)
    return run.explained([error], "Σₖ e² / K", "2·e / K")


def huber(run: LossRun) -> Explained:
    """Return the lines of squared errors, absolute beyond δ."""
    z, y = run.names
    e = run.z - run.targets
    limited = np.minimum(abs(e), run.loss.delta)
    return run.explained(
        [Formula(f"e = {z} − {y}", e), Formula("c = min(|e|, δ)", limited)],
        "Σₖ (c ⊙ (|e| − ½·c)) / K",
        "max(−δ, min(e, δ)) / K",
        δ=run.loss.delta,
    )


def binary(run: LossRun) -> Explained:
    """Return the lines of K yes-or-no outputs."""
    z, y = run.names
    smoothing, lines = run.loss.label_smoothing, []
    if smoothing:
        lines, y = [Formula(f"target = (1 − smoothing)·{y} + ½·smoothing", run.targets)], "target"
    if run.loss.from_logits:
        lines += [
            Formula(f"p = 1 / (1 + exp(−{z}))", formulas.sigmoid(run.z)),
            Formula(f"q = 1 / (1 + exp({z}))", formulas.sigmoid(-run.z)),
        ]
        each = f"Σₖ (max({z}, 0) − {z} ⊙ {y} + log(1 + exp(−|{z}|))) / K"
        gradient = f"((1 − {y}) ⊙ p − {y} ⊙ q) / K"
    else:
        each = f"−Σₖ ({y} ⊙ log({z}) + (1 − {y}) ⊙ log(1 − {z})) / K"
        gradient = f"((1 − {y}) / (1 − {z}) − {y} / {z}) / K"
    return run.explained(lines, each, gradient, smoothing=smoothing)


def categorical(run: LossRun) -> Explained:
    """Return the lines of one class out of K."""
    z, y = run.names
    smoothing, lines = run.loss.label_smoothing, []
    rows, targets = f"onehot({y}, K)" if run.y.ndim == 1 else y, run.targets
    if targets.ndim == 1:
        targets = (targets[:, None] == np.arange(run.z.shape[1])).astype(run.z.dtype)
    if smoothing:
        rows = f"(1 − smoothing)·{rows} + smoothing / K"
    if rows != y:
        lines, y = [Formula(f"target = {rows}", targets)], "target"
    if run.loss.from_logits:
        lines += [
            Formula(f"logp = {z} − log(Σₖ exp({z}))", formulas.log_softmax(run.z)),
            Formula(f"p = exp({z}) / Σₖ exp({z})", formulas.softmax(run.z)),
        ]
        # Rows that are given sum to 1 up to some rounding, which the gradient minds.
        p = "p" if run.targets.ndim == 1 else f"p ⊙ Σₖ {y}"
        each, gradient = f"−Σₖ ({y} ⊙ logp)", f"{p} − {y}"
    else:
        each, gradient = f"−Σₖ ({y} ⊙ log({z}))", f"−{y} / {z}"
    return run.explained(lines, each, gradient, smoothing=smoothing)


def unknown_loss(run: LossRun) -> Explained:
    """Return the numbers of a loss from outside the package."""
    (z, y), kind = run.names, type(run.loss).__name__
    return Explained(
        {},
        [Formula(f"ℓᵢ = {kind}({z}, {y})", run.each, UNKNOWN)],
        [Formula(f"d{z} = {kind}.gradient({z}, {y})", None, UNKNOWN)],
    )


LOSSES: dict[type[Loss], Callable[[LossRun], Explained]] = {
    MeanSquaredError: squared,
    Huber: huber,
    BinaryCrossEntropy: binary,
    CategoricalCrossEntropy: categorical,
}


# Updaters -------------------------------------------------------------------------------------


class Update(NamedTuple):
    """What an updater computes: once, then for each parameter, here called {p}."""

    given: dict[str, Any]
    first: list[Formula]
    each: tuple[str, ...]
    decay: str = ""
    remark: str = ""


def sgd(updater: Any, rate: float) -> Update:
    """Return the lines of a step along the gradient, plain or with momentum."""
    if not updater.momentum:
        return Update({}, [], ("{p} ← {p} − η·d{p}",))
    step = "(d{p} + μ·v{p})" if updater.nesterov else "v{p}"
    return Update(
        {"μ": updater.momentum}, [], ("v{p} ← μ·v{p} + d{p}", f"{{p}} ← {{p}} − η·{step}")
    )


def adam(updater: Any, rate: float) -> Update:
    """Return the lines of a step in units of the gradient's own size."""
    constants = updater.formula(rate)[1]
    given = {"β₁": updater.beta1, "β₂": updater.beta2, "ε": updater.epsilon, "t": updater.step}
    corrections = "α and ε̂ carry the corrections m / (1 − β₁^t) and v / (1 − β₂^t)"
    v = "v_max{p}" if updater.amsgrad else "v{p}"
    largest = ("v_max{p} ← max(v_max{p}, v{p})",) if updater.amsgrad else ()
    return Update(
        given,
        [
            Formula("α = η·√(1 − β₂^t) / (1 − β₁^t)", np.asarray(constants["rate"]), corrections),
            Formula("ε̂ = ε·√(1 − β₂^t)", np.asarray(constants["epsilon"])),
        ],
        (
            "m{p} ← β₁·m{p} + (1 − β₁)·d{p}",
            "v{p} ← β₂·v{p} + (1 − β₂)·d{p}²",
            *largest,
            f"{{p}} ← {{p}} − α·m{{p}} / (√{v} + ε̂)",
        ),
    )


def nadam(updater: Any, rate: float) -> Update:
    """Return the lines of Adam with the momentum of the next update."""
    adams, constants, t = adam(updater, rate), updater.formula(rate)[1], updater.step
    given = {"μ": updater.mu(t), "μ.next": updater.mu(t + 1), "Π": updater.product(t)}
    root = "α = η·√(1 − β₂^t)·(1 − μ) / (1 − Π)"
    ahead = "α.next = η·√(1 − β₂^t)·μ.next / (1 − Π·μ.next)"
    products = "Π is the product of μ in all updates so far"
    return adams._replace(
        given={**adams.given, **given},
        first=[
            Formula(root, np.asarray(constants["rate"]), products),
            Formula(ahead, np.asarray(constants["ahead"])),
            adams.first[1],
        ],
        each=(*adams.each[:2], "{p} ← {p} − (α·d{p} + α.next·m{p}) / (√v{p} + ε̂)"),
    )


def radam(updater: Any, rate: float) -> Update:
    """Return the lines of a step as long as the knowledge of the gradient's size allows."""
    adams, constants = adam(updater, rate), updater.formula(rate)[1]
    longest, length = updater.lengths()
    first = [
        Formula("ρ.max = 2 / (1 − β₂) − 1", np.asarray(longest)),
        Formula("ρ = ρ.max − 2·t·β₂^t / (1 − β₂^t)", np.asarray(length)),
    ]
    alpha, step = "α = η / (1 − β₁^t)", "{p} ← {p} − α·m{p}"
    if constants["adaptive"]:
        alpha += "·√((1 − β₂^t)·(ρ − 4)·(ρ − 2)·ρ.max / ((ρ.max − 4)·(ρ.max − 2)·ρ))"
        step += " / (√v{p} + ε)"
    first.append(Formula(alpha, np.asarray(constants["rate"]), "√v divides where ρ is above 5"))
    return adams._replace(first=first, each=(*adams.each[:2], step))


def adamw(updater: Any, rate: float) -> Update:
    """Return the lines of Adam, with a share of each weight taken off separately."""
    plain = adam(updater, rate)
    return plain._replace(given={**plain.given, "λ": updater.weight_decay}, decay=" − η·λ·{p}")


def steps(*each: str, **constants: str) -> Callable[[Any, float], Update]:
    """Return the entry of an updater with these lines; its constants are attributes of it."""

    def entry(updater: Any, rate: float) -> Update:
        given = {name: getattr(updater, attribute) for name, attribute in constants.items()}
        return Update(given, [], each)

    return entry


def unknown_updater(updater: Any, rate: float) -> Update:
    """Return the numbers of an updater from outside the package."""
    return Update({}, [], (f"{{p}} ← {type(updater).__name__}({{p}}, d{{p}})",), remark=UNKNOWN)


UPDATERS: dict[type[Updater], Callable[[Any, float], Update]] = {
    SGD: sgd,
    Adam: adam,
    AdamW: adamw,
    Nadam: nadam,
    RAdam: radam,
    RMSprop: steps(
        "v{p} ← ρ·v{p} + (1 − ρ)·d{p}²",
        "{p} ← {p} − η·d{p} / (√v{p} + ε)",
        ρ="rho",
        ε="epsilon",
    ),
    Adagrad: steps("v{p} ← v{p} + d{p}²", "{p} ← {p} − η·d{p} / (√v{p} + ε)", ε="epsilon"),
}
