"""What the name of a bug is found from: the part at fault, alone, in batches of several sizes.

The loss is tried first and then each layer, the last one first; each is made anew for each batch,
and then run after another batch, to see whether it remembers what it should not.
"""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from minigd.backend import Array
from minigd.diagnosis import diagnose
from minigd.gradient import Penalty
from minigd.layers import Layer
from minigd.losses import Loss
from minigd.model import Sequential
from minigd.slips import Case

STALE = "a stale cache: it is the gradient of the batch before"
_STEP = {"complex128": 1e-20, "float64": 1e-6}
_MOST_ENTRIES = 300

Cases = dict[str, Case]
Rows = tuple[Array, Array]


def explain(
    model: Sequential,
    layers: Sequence[Layer],
    loss: Loss | None,
    x: Array,
    y: Array,
    weight: Array | None = None,
    penalty: Penalty | None = None,
    first: str = "",
) -> tuple[str, str] | None:
    """Return which gradient is wrong and what it looks like, or None where nothing explains it.

    Parameters
    ----------
    model : Sequential
        In float64, on the host.
    layers : sequence of Layer
        Those of the model that are in use.
    loss : Loss or None
        None for a layer alone, whose dy is given as y.
    x, y : array, shape (n, n_in) and what the loss takes
    weight : array, shape (n,), optional
    penalty : Penalty, optional
    first : str
        The array to begin with, if it is wrong and can be explained.

    Returns
    -------
    (str, str) or None
        The array, such as ``dense1.W``, and the sentence.
    """
    penalty = penalty or Penalty()
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        inputs = _inputs(model, layers, x)
        dy = y
        if loss is not None:
            found = _explain_loss(loss, inputs[-1], y, weight)
            if found:
                return "the gradient of the loss", found
            dy = _of_loss(loss, inputs[-1], y, weight)
        for i in reversed(range(len(layers))):
            layer = layers[i]
            begin = first.removeprefix(f"{layer.name}.")
            name, found = _explain_layer(layer, inputs[i], dy, penalty, begin)
            if found:
                dx = "x" if loss is None else f"dx of {layer.name}"
                where = {"x": dx, "": layer.name}.get(name, f"{layer.name}.{name}")
                return where, found
            dy = _run(_alone(layers[i]), inputs[i], dy)["x"]
        if loss is None:
            return None
        return _explain_whole(model, len(layers), loss, x, y, weight, penalty, first)


def _inputs(model: Sequential, layers: Sequence[Layer], x: Array) -> list[Array]:
    """Return each layer's input, and the output of the last."""
    inputs, twin = [x], model.copy()
    for i in range(len(layers)):
        twin.passes = 0
        inputs.append(twin.run_forward(twin.layers[i : i + 1], inputs[-1], train=True).copy())
    return inputs


def _more(rows: Array, n: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return n rows between those of a batch, and which rows they are nearest to."""
    one, other = rng.integers(len(rows), size=(2, n))
    share = rng.uniform(0.6, 0.9, (n, 1))
    between = share * rows[one] + (1 - share) * rows[other]
    return between * rng.uniform(0.85, 1.0, between.shape), one


def _sizes(n: int, *widths: int) -> list[int]:
    """Return three more sizes of batches, none of which is n or a width."""
    return [m for m in (3, 7, 5, 11, 4, 6, 8) if m not in (n, *widths)][:3]


# Derivatives ------------------------------------------------------------------------------------


def _slopes(
    make: Callable[[str], tuple[Callable[[], Array], Array]], places: Sequence[Any]
) -> tuple[Array, float]:
    """Return the derivatives of an output with respect to some entries, and how exact they are.

    By the complex step where it agrees with the central difference, which is the judge.
    """
    central = _steps(*make("float64"), places, "float64")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", np.exceptions.ComplexWarning)
            exact = _steps(*make("complex128"), places, "complex128")
    except Exception:  # whatever a layer from outside does with complex numbers
        return central, 1e-5
    size = abs(central).max(initial=0.0)
    if np.allclose(exact, central, rtol=1e-5, atol=1e-6 * size, equal_nan=True):
        return exact, 1e-8
    return central, 1e-5


def _steps(output: Callable[[], Array], target: Array, places: Sequence[Any], dtype: str) -> Array:
    step, found = _STEP[dtype], []
    for place in places:
        before = target[place]
        if dtype == "complex128":
            target[place] = before + 1j * step
            found.append(np.imag(output()) / step)
        else:
            target[place] = before + step
            above = np.array(output())
            target[place] = before - step
            found.append((above - np.array(output())) / (2 * step))
        target[place] = before
    return np.array(found)


def _block(shape: tuple[int, ...]) -> tuple[Array, ...] | None:
    """Return the places along each axis that are looked at, or None for all of them."""
    if math.prod(shape) <= _MOST_ENTRIES:
        return None
    most = int(_MOST_ENTRIES ** (1 / len(shape)))
    return tuple(np.unique(np.linspace(0, size - 1, most).astype(int)) for size in shape)


def _places(shape: tuple[int, ...], block: tuple[Array, ...] | None) -> list[Any]:
    axes = block or tuple(np.arange(size) for size in shape)
    return [tuple(int(i) for i in place) for place in np.stack(
        [axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")], axis=1
    )]  # fmt: skip


def _cut(array: Array, block: tuple[Array, ...] | None) -> Array:
    return array if block is None else array[np.ix_(*block)]


# A layer alone ----------------------------------------------------------------------------------


def _alone(layer: Layer, dtype: str = "float64") -> Sequential:
    """Return a new layer of the same values in a model of its own."""
    model = Sequential([type(layer)(**layer.config())], layer.n_in, dtype=dtype)
    (own,) = model.layers
    model.load_arrays(
        {f"params/{own.name}.{name}": value for name, value in layer.params.items()}
        | {f"buffers/{own.name}.{name}": value for name, value in layer.buffers.items()}
    )
    return model


def _run(model: Sequential, x: Array, dy: Array) -> dict[str, Array]:
    """Return y, dx as x, and the gradients of one pass."""
    model.passes = 0
    y = model.run_forward(model.layers, x.copy(), train=True).copy()
    dx = model.run_backward(model.layers, dy.copy(), input_gradient=True)
    assert dx is not None
    grads = {name.partition(".")[2]: grad.copy() for name, grad in model.grads.items()}
    return {**grads, "y": y, "x": dx.copy()}


def _explain_layer(
    layer: Layer, x: Array, dy: Array, penalty: Penalty, first: str
) -> tuple[str, str | None]:
    if not np.array_equal(_run(_alone(layer), x, dy)["y"], _run(_alone(layer), x, dy)["y"]):
        return "", "forward gives other numbers each time, so that it has no derivative"
    rng = np.random.default_rng(0)
    batches = [(x, dy)]
    for n in _sizes(len(x), layer.n_in, layer.n_out):
        batches.append((_more(x, n, rng)[0], rng.standard_normal((n, layer.n_out))))
    fresh = [_cases(layer, batch, penalty) for batch in batches]
    name, found = _first_explained(fresh, first)
    if found or not all(case.right for cases in fresh for case in cases.values()):
        return name, found
    other = (_more(x, len(x), rng)[0], rng.standard_normal(dy.shape))
    same = [
        _cases(layer, second, penalty, first)
        for first, second in [(batches[0], other), (other, batches[0])]
    ]
    name, found = _first_explained(same, first)
    if found:
        return name, found
    pairs = [(1, 2), (2, 1), (0, 1), (1, 0), (2, 0)]
    try:
        mixed = [_cases(layer, batches[j], penalty, batches[i]) for i, j in pairs]
    except (ValueError, IndexError):
        return "x", "a stale cache: it fails on a batch of another size than the one before"
    return _first_explained(mixed, first)


def _first_explained(cases: Sequence[Cases], first: str) -> tuple[str, str | None]:
    """Return the array that can be explained, `first` or else the one furthest off, and how."""

    def share(name: str) -> float:
        case = cases[0][name]
        error = float(abs(case.given - case.true).max() / (abs(case.true).max() + 1e-300))
        return math.inf if name == first else error

    for name in sorted(cases[0], key=share, reverse=True):
        found = diagnose([case[name] for case in cases])
        if found:
            return name, found
    return "", None


def _cases(layer: Layer, batch: Rows, penalty: Penalty, earlier: Rows | None = None) -> Cases:
    """Return what is known of each gradient of a new layer in one batch, or after another one."""
    model = _alone(layer)
    if earlier is not None:
        _run(model, *earlier)
    rubbish = np.random.default_rng(1).standard_normal(model.flat_grads.shape)
    model.flat_grads[...] = rubbish
    before = {name.partition(".")[2]: grad.copy() for name, grad in model.grads.items()}
    given = _run(model, *batch)
    x, dy = batch
    known = Case(
        x, x, len(x), x=x, y=given["y"], dy=dy, l1=penalty.l1, l2=penalty.l2, params=layer.params
    )
    cases = _true_cases(layer, known)
    if earlier is not None:
        cases = _remembered(layer, cases, known, earlier)
    return {
        name: replace(case, given=_cut(given[name], case.block), before=before[name]
                      if name in before and case.block is None else None)
        for name, case in cases.items()
    }  # fmt: skip


def _true_cases(layer: Layer, known: Case) -> Cases:
    """Return for each parameter, and for x, the true gradient and what each row adds to it."""
    x, dy, y = known.x, known.dy, known.y
    assert x is not None
    assert dy is not None
    cases = {}
    for name, value in layer.params.items():
        block = _block(value.shape)
        slopes, tolerance = _layer_slopes(layer, x, name, block)
        each = np.einsum("e...k,...k->...e", slopes, dy)
        shape = _cut(value, block).shape
        without_dy = slopes.sum(axis=2).mean(axis=1).reshape(shape)
        cases[name] = replace(
            known,
            true=each.mean(axis=0).reshape(shape),
            each=each.reshape(len(x), *shape),
            value=_cut(value, block),
            block=block,
            tolerance=tolerance,
            others={"dy is left out: the chain rule stops here": without_dy},
        )
    deltas = [c.each for c in cases.values() if c.each is not None and c.each.shape == dy.shape]
    block = _block(x.shape)
    slopes, tolerance = _layer_slopes(layer, x, "x", block)
    shape = _cut(x, block).shape
    rows = np.repeat((np.arange(len(x)) if block is None else block[0]), shape[1])
    cases["x"] = replace(
        known,
        true=np.einsum("enk,nk->e", slopes, dy).reshape(shape),
        by_row=True,
        delta=deltas[0] if deltas else None,
        jacobian=slopes[np.arange(len(rows)), rows].reshape(*shape, -1),
        block=block,
        tolerance=tolerance,
    )
    if cases["x"].elementwise:
        columns = np.tile((np.arange(shape[1]) if block is None else block[1]), shape[0])
        others = {}
        for there, at in (("y, the output", y), ("dy", dy)):
            if at is not None:
                slopes, _ = _layer_slopes(layer, at, "x", block)
                slope = slopes[np.arange(len(rows)), rows, columns].reshape(shape)
                guess = slope * _cut(dy, block)
                others[f"the derivative is taken at {there}, and not at x, the input"] = guess
        cases["x"] = replace(cases["x"], others=others)
    return cases


def _layer_slopes(
    layer: Layer, x: Array, name: str, block: tuple[Array, ...] | None
) -> tuple[Array, float]:
    """Return ∂y/∂p of shape (entries, n, n_out), for a parameter or for x."""

    def make(dtype: str) -> tuple[Callable[[], Array], Array]:
        model = _alone(layer, dtype)
        own = x.astype(dtype)

        def output() -> Array:
            model.passes = 0
            return model.run_forward(model.layers, own, train=True)

        return output, own if name == "x" else model.layers[0].params[name]

    shape = x.shape if name == "x" else layer.params[name].shape
    return _slopes(make, _places(shape, block))


def _remembered(layer: Layer, cases: Cases, known: Case, earlier: Rows) -> Cases:
    """Add what the gradients would be if the layer remembered the batch before."""
    x, dy = earlier
    before = _true_cases(layer, replace(known, x=x, dy=dy, y=None, n=len(x)))
    mixed: Mapping[str, Case] = {}
    if known.dy is not None and known.dy.shape == dy.shape:
        mixed = _true_cases(layer, replace(known, x=x, y=None))
    found = {}
    for name, case in cases.items():
        others = dict(case.others)
        if mixed:
            others[STALE] = mixed[name].true
            others[f"{STALE}, dy and all"] = before[name].true
            delta = cases["x"].delta if cases["x"].delta is not None else known.dy
            assert delta is not None
            if case.value is not None:
                others["a stale cache: x is that of the batch before"] = x.T @ delta / len(x)
        if name != "x":
            others["the gradient is added to that of the batch before, += for ="] = (
                case.true + before[name].true
            )
        found[name] = replace(case, others=others, seen=(len(x),))
    return found


# A loss alone -----------------------------------------------------------------------------------


def _scale(weight: Array | None) -> Array | None:
    return None if weight is None else weight * (len(weight) / weight.sum())


def _of_loss(loss: Loss, z: Array, y: Array, weight: Array | None) -> Array:
    """Return dz as a new loss of the same kind gives it."""
    own = type(loss)(**loss.config())
    own.mean(z.copy(), y, _scale(weight))
    return own.backward().copy()


def _explain_loss(loss: Loss, z: Array, y: Array, weight: Array | None) -> str | None:
    rng = np.random.default_rng(0)
    batches = [(z, y, weight)]
    for n in _sizes(len(z), z.shape[1]):
        rows, which = _more(z, n, rng)
        own = None if weight is None else weight[which] + weight.max() * rng.uniform(0.1, 1, n)
        batches.append((rows, y[which], own))
    cases = [_loss_case(loss, *batch) for batch in batches]
    found = diagnose(cases)
    if found or not all(case.right for case in cases):
        return found
    # A new batch after the first one: whether the loss remembers targets or outputs.
    own = type(loss)(**loss.config())
    rows, which = _more(z, len(z), rng)
    others = np.roll(y, 1, axis=0)[which]
    own.mean(rows, others, _scale(weight))
    own.backward()
    own.mean(z.copy(), y, _scale(weight))
    case = cases[0]
    stale = {
        STALE: _loss_case(loss, rows, others, weight).true,
        "a stale cache: the targets are those of the batch before": _loss_case(
            loss, z, others, weight
        ).true,
        "a stale cache: the outputs are those of the batch before": _loss_case(
            loss, rows, y, weight
        ).true,
    }
    return diagnose([replace(case, given=_cut(own.backward(), case.block), others=stale)])


def _loss_case(loss: Loss, z: Array, y: Array, weight: Array | None) -> Case:
    scale, block = _scale(weight), _block(z.shape)

    def slopes(targets: Array) -> tuple[Array, float]:
        def make(dtype: str) -> tuple[Callable[[], Array], Array]:
            own, rows = type(loss)(**loss.config()), z.astype(dtype)
            return lambda: np.asarray(own.mean(rows, targets, scale)), rows

        found, tolerance = _slopes(make, _places(z.shape, block))
        return len(z) * found.reshape(_cut(z, block).shape), tolerance

    true, tolerance = slopes(y)
    own = type(loss)(**loss.config())
    rows = own.targets(y, z)
    if rows.shape != z.shape and rows.ndim == 1:
        rows = (rows[:, None] == np.arange(z.shape[1])).astype("float64")
    others = {}
    if y.shape == rows.shape:
        others["the target is left out"] = slopes(0 * y)[0]
    return Case(
        given=_cut(_of_loss(loss, z, y, weight), block),
        true=true,
        n=len(z),
        by_row=True,
        x=z,
        y=rows,
        scale=scale,
        weight=weight,
        others=others,
        block=block,
        tolerance=tolerance,
    )


# The whole, with weights and penalty --------------------------------------------------------------


def _explain_whole(
    model: Sequential,
    depth: int,
    loss: Loss,
    x: Array,
    y: Array,
    weight: Array | None,
    penalty: Penalty,
    first: str,
) -> tuple[str, str] | None:
    rng = np.random.default_rng(0)
    batches = [(x, y, weight)]
    for n in _sizes(len(x)):
        which = rng.integers(len(x), size=n)
        own = None if weight is None else weight[which] + weight.max() * rng.uniform(0.1, 1, n)
        batches.append((x[which], y[which], own))
    for name in sorted(model.params, key=lambda name: name != first):
        cases = [_whole_case(model, depth, loss, *batch, penalty, name) for batch in batches]
        found = diagnose(cases)
        if found:
            return name, found
    return None


def _whole_case(
    model: Sequential,
    depth: int,
    loss: Loss,
    x: Array,
    y: Array,
    weight: Array | None,
    penalty: Penalty,
    name: str,
) -> Case:
    value, scale = model.params[name], _scale(weight)
    block = _block(value.shape)

    def each_loss(twin: Sequential, own: Loss) -> Array:
        twin.passes = 0
        z = twin.run_forward(twin.layers[:depth], x.astype(twin.dtype), train=True)
        return own.per_example(z, own.targets(y, z))

    def make(dtype: str) -> tuple[Callable[[], Array], Array]:
        twin, own = model.copy(dtype=dtype), type(loss)(**loss.config())
        return lambda: each_loss(twin, own), twin.params[name]

    slopes, tolerance = _slopes(make, _places(value.shape, block))
    shape = _cut(value, block).shape
    each = slopes.T.reshape(len(x), *shape)
    twin, own = model.copy(), type(loss)(**loss.config())
    twin.passes = 0
    own.mean(twin.run_forward(twin.layers[:depth], x, train=True), y, scale)
    twin.run_backward(twin.layers[:depth], own.backward())
    penalty.add_gradient(twin)
    pays = penalty.decay_bias or value.ndim > 1
    part = _cut(penalty.l1 * np.sign(value) + penalty.l2 * value, block)
    data = each if scale is None else each * scale.reshape(-1, *[1] * len(shape))
    return Case(
        given=_cut(twin.grads[name].copy(), block),
        true=data.mean(axis=0) + (part if pays else 0),
        n=len(x),
        each=each,
        value=_cut(value, block),
        scale=scale,
        weight=weight,
        l1=penalty.l1,
        l2=penalty.l2,
        pays=pays,
        block=block,
        tolerance=tolerance,
    )
