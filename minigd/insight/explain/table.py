"""The formulas of the package, line by line: losses and updaters here, layers in `layers.py`.

Each entry pairs a formula with the numbers of the real run, so it can be recomputed.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from minigd import formulas
from minigd.insight.explain.layers import (
    LAYERS,
    LETTERS,
    UNKNOWN,
    Explained,
    Formula,
    parameter,
    unknown_layer,
)
from minigd.nn.losses import (
    BinaryCrossEntropy,
    CategoricalCrossEntropy,
    Focal,
    Hinge,
    Huber,
    Loss,
    MeanAbsoluteError,
    MeanSquaredError,
    Poisson,
    Quantile,
)
from minigd.optim.updaters import SGD, Adagrad, Adam, AdamW, Nadam, RAdam, RMSprop, Updater
from minigd.types import Array

__all__ = [
    "LAYERS",
    "LETTERS",
    "LOSSES",
    "UNKNOWN",
    "UPDATERS",
    "Formula",
    "parameter",
    "unknown_layer",
]


# Losses ---------------------------------------------------------------------------------------


class LossRun(NamedTuple):
    """The loss's part in the step, on the host: outputs, targets, the loss of each example."""

    loss: Any
    names: tuple[str, str]
    z: Array
    y: Array
    targets: Array
    each: Array | None

    def explained(self, lines: list[Formula], each: str, gradient: str, **given: Any) -> Explained:
        """Return lines, then ℓᵢ, and the gradient; its value is the dy of the last layer."""
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


def absolute(run: LossRun) -> Explained:
    """Return the lines of absolute errors."""
    z, y = run.names
    error = Formula(f"e = {z} − {y}", run.z - run.targets)
    return run.explained([error], "Σₖ |e| / K", "([e > 0] − [0 > e]) / K")


def quantile(run: LossRun) -> Explained:
    """Return the lines of errors that weigh 1 − q above the target and q below."""
    z, y = run.names
    error = Formula(f"e = {z} − {y}", run.z - run.targets)
    return run.explained(
        [error],
        "Σₖ (e ⊙ ([e > 0] − q)) / K",
        "([e > 0] ⊙ (1 − q) − [0 > e] ⊙ q) / K",
        q=np.asarray(run.loss.quantiles),
    )


def poisson(run: LossRun) -> Explained:
    """Return the lines of counts, whose rates are the exponentials of the outputs."""
    z, y = run.names
    rate = Formula(f"μ = exp({z})", np.exp(run.z))
    return run.explained([rate], f"Σₖ (μ − {y} ⊙ {z}) / K", f"(μ − {y}) / K")


def hinge(run: LossRun) -> Explained:
    """Return the lines of a margin: of one score, or of the true class over its best rival."""
    (z, y), s = run.names, run.targets
    if run.z.shape[1] == 1:
        return run.explained(
            [Formula(f"s = 2·{y} − 1", s)], f"Σₖ max(0, 1 − s ⊙ {z})", f"−s ⊙ [1 > s ⊙ {z}]"
        )
    rows = f"onehot({y}, K)" if run.y.ndim == 1 else y
    rival = np.where(s > 0, -np.inf, run.z).max(axis=1, keepdims=True)
    true = np.where(s > 0, run.z, -np.inf).max(axis=1, keepdims=True)
    lines = [
        Formula(f"true = {rows}", (s > 0).astype(run.z.dtype)),
        Formula(f"rival = maxₖ({z}, [true ≤ 0])", rival, "the largest score of a wrong class"),
        Formula(f"m = 1 + rival − Σₖ (true ⊙ {z})", 1 + rival - true),
        Formula(f"r = [rival ≤ {z}] ⊙ [true ≤ 0]", ((run.z >= rival) & (s < 0)) * 1.0),
    ]
    return run.explained(lines, "max(0, m)", "[m > 0] ⊙ (r / Σₖ r − true)")


def focal(run: LossRun) -> Explained:
    """Return the lines of K yes-or-no outputs, each times the γ-th power of its error."""
    z, y = run.names
    smoothing, lines, over = run.loss.label_smoothing, [], ""
    if smoothing:
        lines, y = [Formula(f"target = (1 − smoothing)·{y} + ½·smoothing", run.targets)], "target"
    if run.loss.from_logits:
        lines += [
            Formula(f"p = 1 / (1 + exp(−{z}))", formulas.sigmoid(run.z)),
            Formula(f"q = 1 / (1 + exp({z}))", formulas.sigmoid(-run.z)),
        ]
    else:
        lines += [Formula(f"p = {z}", run.z), Formula("q = 1 − p", 1 - run.z)]
        over = " / (p ⊙ q)"
    given = {"γ": run.loss.gamma, "smoothing": smoothing}
    if run.loss.alpha is None:
        yes, no = y, f"(1 − {y})"
    else:
        yes, no, given["α"] = f"α·{y}", f"(1 − α)·(1 − {y})", run.loss.alpha
    of_p, of_q = "exp(γ·log(p))", "exp(γ·log(q))"
    wrong, right = "(p − γ·q ⊙ log(q))", "(q − γ·p ⊙ log(p))"
    return run.explained(
        lines,
        f"−Σₖ ({yes} ⊙ {of_q} ⊙ log(p) + {no} ⊙ {of_p} ⊙ log(q)) / K",
        f"({no} ⊙ {of_p} ⊙ {wrong} − {yes} ⊙ {of_q} ⊙ {right}){over} / K",
        **given,
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
        # The rows of y sum to 1 only up to rounding, which changes the gradient.
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
    MeanAbsoluteError: absolute,
    Quantile: quantile,
    Poisson: poisson,
    Focal: focal,
    Hinge: hinge,
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
    """Return the lines of a step that is shorter while the gradient's size is uncertain."""
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
