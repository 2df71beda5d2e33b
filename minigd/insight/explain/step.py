"""A training step, made by the real layers, loss and updater, and written down line by line.

The formulas of the numbers are those of `table.py`.
"""

import math
from typing import Any, NamedTuple

from minigd.data.row_weights import row_scale
from minigd.insight.explain.recorder import Recorder, all_on_host, on_host
from minigd.insight.explain.table import (
    LAYERS,
    LETTERS,
    LOSSES,
    UNKNOWN,
    UPDATERS,
    Formula,
    LossRun,
    parameter,
    unknown_layer,
    unknown_loss,
    unknown_updater,
)
from minigd.insight.explain.writer import Writer
from minigd.nn.layers import Layer, Rescale, Residual
from minigd.nn.losses import Loss
from minigd.nn.objective import Objective
from minigd.nn.sequential import Sequential
from minigd.optim.updaters import PerLayer, Updater
from minigd.types import Array


class _Names(NamedTuple):
    """A layer's number, and the names of its input and its output."""

    k: str
    x: str
    y: str


def write_step(
    objective: Objective, updater: Updater, x: Array, y: Array, weight: Array | None
) -> Writer:
    """Make one step with a model, a loss and an updater that it may change, and write it down.

    x and y are checked, on the model's backend; none of the weights is 0.
    """
    model, backend = objective.model, objective.model.backend
    scale = None
    if weight is not None:
        scale = backend.asarray(row_scale(weight), dtype=model.dtype)
    named: dict[int, _Names] = {}
    _name(model.layers, "x", {}, named)
    recorders = [_recorder(layer, named) for layer in objective.layers]
    objective.layers = list(recorders)
    L, z = objective.forward(x, y, scale)
    objective.backward()

    writer = Writer()
    writer.add_inputs({"x": on_host(backend, x), "n": len(x), "K": z.shape[1], "wᵢ": weight})
    writer.means = {f"d{name}" for name in _parameters(model, named).values()}
    explained = []
    for each in recorders:
        explained.append(LAYERS.get(type(each.layer), unknown_layer)(each))
        writer.add_inputs(explained[-1].given)
        writer.write("forward", each.name, explained[-1].forward)

    output = recorders[-1].names[1] if recorders else "x"
    gradient = _write_loss(writer, objective, named, output, (L, z, y, scale))
    dz = recorders[-1].dy if recorders else None
    writer.write("backward", type(objective.loss).__name__, [gradient._replace(value=dz)])
    for each, (_, _, backward) in zip(reversed(recorders), reversed(explained), strict=True):
        made = [formula for formula in backward if formula.value is not None]
        if made and each.dx is None:
            made[-1] = made[-1].with_remark(
                f"d{each.names[0]} is not needed: no layer before {each.name} has parameters"
            )
        writer.write("backward", each.name, made)
    _write_update(writer, model, updater, _parameters(model, named))
    return writer


def _name(layers: list[Layer], x: str, counts: dict[str, int], named: dict[int, _Names]) -> None:
    """Name the layers of a chain by their `id`, and those inside a Residual, one after another."""
    for layer in layers:
        letter = LETTERS.get(type(layer), "o")
        counts[letter] = counts.get(letter, 0) + 1
        k = str(counts[letter])
        named[id(layer)] = _Names(k, x, f"{letter}{k}")
        x = f"{letter}{k}"
        if type(layer) is Residual:
            _name(layer.layers, f"f{k}", counts, named)


def _recorder(layer: Layer, named: dict[int, _Names]) -> Recorder:
    """Return a recorder of a layer, and of the layers inside a Residual."""
    inner: list[Recorder] = []
    if type(layer) is Residual:
        inner = [_recorder(each, named) for each in layer.layers]
        layer.layers = list(inner)
    return Recorder(layer, *named[id(layer)], inner=inner)


def _parameters(model: Sequential, named: dict[int, _Names]) -> dict[str, str]:
    """Return the name of each parameter in formulas, by its name in the model."""
    found = {}
    for layer in model.all_layers:
        if id(layer) in named:
            for name in layer.params:
                key = f"{layer.name}.{name}"
                found[key] = parameter(layer, named[id(layer)].k, name)
    return {key: found[key] for key in model.params}


def _write_loss(
    writer: Writer,
    objective: Objective,
    named: dict[int, _Names],
    output: str,
    step: tuple[Any, Array, Array, Array | None],
) -> Formula:
    """Write down the loss, and return the formula of its gradient."""
    L, z, y, scale = step
    loss, model, backend = objective.loss, objective.model, objective.model.backend
    kind, last = type(loss).__name__, model.layers[-1]
    compared = objective.targets(y)
    # One output has a column of targets, and classes are a vector, however y was given.
    y = y.reshape(z.shape).astype(model.dtype) if y.size == z.size else y.reshape(-1)
    name, lines, remark = "y", [], ""
    if objective.paired:
        remark = f"{last.name} is skipped in training: the loss takes its input, {output}"
    if objective.paired and isinstance(last, Rescale):
        mean, std = (f"{of}_y{named[id(last)].k}" for of in ("mean", "std"))
        buffers = all_on_host(backend, last.buffers)
        writer.add_inputs({mean: buffers["mean"], std: buffers["std"], "y": on_host(backend, y)})
        name, y = "target", compared
        lines = [Formula(f"target = (y − {mean}) / {std}", on_host(backend, y))]
    writer.add_inputs({name: on_host(backend, y)})

    targets = loss.targets(compared, z)
    is_mean = type(loss) in LOSSES or type(loss).mean is Loss.mean
    each = on_host(backend, loss.per_example(z, targets)) if is_mean else None
    run = LossRun(
        loss=loss,
        names=(output, name),
        z=on_host(backend, z),
        y=on_host(backend, y),
        targets=on_host(backend, targets),
        each=each,
    )
    entry = LOSSES.get(type(loss), unknown_loss)
    given, forward, (gradient,) = entry(run)
    writer.add_inputs(given)
    lines += forward

    mean = "L = Σᵢ ℓᵢ / n" if is_mean else f"L = {kind}({output}, {name})"
    if scale is not None:
        lines.append(Formula("sᵢ = n·wᵢ / Σᵢ wᵢ", on_host(backend, scale)))
        mean = mean.replace("ℓᵢ", "(sᵢ ⊙ ℓᵢ)")
        left, _, right = gradient.text.partition(" = ")
        gradient = gradient._replace(text=f"{left} = sᵢ ⊙ ({right})")
    result = Formula(mean, on_host(backend, L), "" if is_mean else UNKNOWN)
    if not math.isfinite(L):
        result = result.with_remark("a Trainer makes no update from a loss that is not finite")
    lines.append(result)
    lines[0] = lines[0].with_remark(remark)
    writer.write("loss", kind, lines)
    return gradient


def _write_update(
    writer: Writer, model: Sequential, updater: Updater, parameters: dict[str, str]
) -> None:
    def split(vector: Array) -> dict[str, Array]:
        """Return the parts of a vector of all parameters, by the names of these in formulas."""
        model.flat_grads = vector
        return {parameters[key]: on_host(model.backend, g) for key, g in model.grads.items()}

    rate, follows = updater.learning_rate, ""
    if updater.schedule is not None:
        follows = (
            f"η follows {updater.schedule!r}, here after {updater.step} updates and "
            f"{updater.epoch} epochs"
        )
    zero = model.backend.zeros(model.flat_params.shape, model.dtype)
    before = {name: (zero + updater.state.get(name, 0)) for name in updater.state_names}
    updater.update(model)
    inner = updater.updater if type(updater) is PerLayer else updater
    formula = UPDATERS.get(type(inner), unknown_updater)(inner, rate)
    if formula.remark:
        inner, formula = updater, unknown_updater(updater, rate)
    decays = split(inner.fixed(model)[0]) if formula.decay else {}
    own = {} if inner is updater else _of_layers(*map(split, updater.fixed(model)[:2]))
    new = {"": split(model.flat_params)}
    for name, vector in before.items():
        writer.add_inputs({f"{name}{p}": value for p, value in split(vector).items()})
        new[name] = split(updater.state[name])

    writer.add_inputs({"η": rate, **formula.given, **own})
    lines = list(formula.first)
    for p in new[""]:
        for template in formula.each:
            text = template.format(p=p)
            state = text.partition(" ← ")[0].removesuffix(p)
            if not state and formula.decay and decays[p].any():
                text += formula.decay.format(p=p)
            if not state:
                text = _per_layer(text, p, own)
            lines.append(Formula(text, new[state][p], formula.remark))
    if lines:
        lines[0] = lines[0].with_remark(follows)
    writer.write("update", type(updater).__name__, lines)


def _of_layers(shares: dict[str, Array], decays: dict[str, Array]) -> dict[str, float]:
    """Return the share of the rate and the decay of each parameter that differs from most."""
    found = {f"r{p}": float(share.flat[0]) for p, share in shares.items() if share.flat[0] != 1}
    return found | {f"λ{p}": float(d.flat[0]) for p, d in decays.items() if d.flat[0]}


def _per_layer(text: str, p: str, own: dict[str, float]) -> str:
    """Return the line of a parameter p with its share of the step and its own decay in it."""
    if f"λ{p}" in own:
        text += f" − η·λ{p}·{p}"
    if f"r{p}" not in own:
        return text
    terms = text.removeprefix(f"{p} ← {p} − ").replace(" − η·λ", " + η·λ")
    return f"{p} ← {p} − r{p}·({terms})"
