"""What a pass with train=False may do: predict, without changing the layer or its gradients."""

import numpy as np

from minigd.backends.base import place
from minigd.checks.diagnosis.batches import between
from minigd.checks.layer_rules.parts import (
    arrays,
    draws,
    is_rounding,
    is_same,
    modifies,
    predicted,
)
from minigd.checks.passes import alone, forward, run
from minigd.errors import GradientError
from minigd.nn.layers import Layer
from minigd.nn.sequential import Sequential
from minigd.types import Array


def check_prediction(layer: Layer, x: Array, dy: Array) -> list[str]:
    """Refuse a layer that does more than predict with train=False."""
    rng = np.random.default_rng(0)
    trained = alone(layer)
    before = trained.arrays()
    trained_y = run(trained, x, dy)["y"]
    after = trained.arrays()
    changed = [name for name in before if not is_same(before[name], after[name])]
    moved = [name.partition(".")[2] for name in changed if name.startswith("buffers/")]
    for name in changed:
        if name.startswith("params/"):
            raise GradientError(
                f"{layer.name}: a pass changes the parameter {name.partition('.')[2]!r}, which "
                "only the updater may change: work on a copy"
            )
    outputs = []
    for passes in (1, 2):
        for each in trained.all_layers:
            each.passes = passes
        outputs.append(predicted(trained, x.copy()))
    now = trained.arrays()
    if not is_same(*outputs) and all(is_same(after[name], now[name]) for name in now):
        raise GradientError(
            f"{layer.name}: two predictions of the same rows differ: draw only `if train:`"
        )
    more = between(x, len(x) + 1, rng)[0]
    y = _predict_only(layer, x, more)
    _check_between(layer, x, dy, more)
    if not moved and not draws(layer):
        _check_same(layer, x, y, trained_y)
    elif moved and not draws(layer):
        _check_running(trained, x, moved)
    unnamed = [name for name in moved if name not in layer.running]
    if not unnamed:
        return []
    names = (*layer.running, *unnamed)
    return [
        f"a training pass changes the buffer {unnamed[0]!r}, but after a step that diverges, fit "
        f"restores only the buffers that the class names: write running = {names!r} in it"
    ]


def _predict_only(layer: Layer, x: Array, more: Array) -> Array:
    """Return the output with train=False, and refuse other effects of such a pass."""
    model, own_x = alone(layer), x.copy()
    (own,) = model.layers
    before = model.arrays()
    y = predicted(model, own_x)
    if not np.array_equal(own_x, x):
        raise modifies(layer, "x", " with train=False")
    at_first = {path: array.copy() for path, array in arrays(own).items()}
    predicted(model, more)
    for name, array in model.arrays().items():
        if not is_same(array, before[name]):
            what = {"params": "parameter", "buffers": "buffer"}[name.partition("/")[0]]
            short = name.partition(".")[2]
            raise GradientError(
                f"{layer.name}: forward changes the {what} {short!r} with train=False, but "
                "predictions must not change the model: change it only `if train:`"
            )
    kept = [
        path
        for path, array in arrays(own).items()
        if path not in at_first or not is_same(array, at_first[path])
    ]
    if kept or any(each.held is not None for each in model.all_layers):
        work = "; for a work array, use self.empty(name, shape)" if kept else ""
        raise GradientError(
            f"{layer.name} keeps {kept[0] if kept else 'arrays'} of a forward pass with "
            "train=False: keep arrays only in training, `if train: self.keep(x)`, and take them in "
            f"backward, `(x,) = self.kept()`{work}"
        )
    return y


def _check_between(layer: Layer, x: Array, dy: Array, more: Array) -> None:
    """Refuse a layer whose gradient depends on a prediction between forward and backward."""
    expected, model = run(alone(layer), x, dy), alone(layer)
    forward(model, x.copy())
    predicted(model, more)
    found: dict[str, Array] = {}
    try:
        dx = model.run_backward(model.layers, dy.copy(), input_gradient=True)
        found = {"x": np.array(dx), **model.layers[0].grads}
    except Exception as error:  # a custom layer may do anything
        found["error"] = np.array(str(error))
    if not all(
        name in found and is_same(expected[name], found[name]) for name in (*layer.params, "x")
    ):
        raise GradientError(
            f"{layer.name}: a forward pass with train=False, between forward and backward, changes "
            "the gradient: set what backward uses only `if train:`"
        )


def _check_same(layer: Layer, x: Array, y: Array, trained: Array) -> None:
    """Refuse a layer whose predictions differ from its training outputs without a reason."""

    def forward(x: Array) -> Array:
        return predicted(model, x)

    model = alone(layer)
    if is_rounding(trained, y, model, x, forward):
        return
    error = np.where(np.isfinite(y), np.abs(y - trained), np.inf)
    i = np.unravel_index(int(np.argmax(error)), y.shape)
    left_out = [name for name in layer.params if _is_left_out(layer, name, x)]
    raise GradientError(
        f"{layer.name}: forward gives different numbers with train=False and train=True: "
        f"{y[i]:.6g} and {trained[i]:.6g} at {place(i)}. A layer that may differ has buffers "
        "that a training pass changes (add_buffer, running), or draws (draws = True)",
        f"with train=False, forward leaves out {left_out[0]}" if left_out else None,
    )


def _is_left_out(layer: Layer, name: str, x: Array) -> bool:
    """Return whether a parameter changes the output in training but not in a prediction."""
    changes = []
    for train in (True, False):
        outputs = []
        for move in (0.0, 1.0):
            model = alone(layer)
            p = model.layers[0].params[name]
            p += move * np.random.default_rng(0).uniform(0.5, 1.0, p.shape)
            outputs.append(np.array(forward(model, x, train=train)))
        changes.append(not _is_close(*outputs))
    return changes == [True, False]


def _is_close(one: Array, other: Array) -> bool:
    """Return whether outputs are equal up to rounding, also of a number added and subtracted."""
    near = 1e-9 * float(np.abs(other).max(initial=0.0))
    return np.allclose(one, other, rtol=1e-9, atol=near, equal_nan=True)


def _check_running(trained: Sequential, x: Array, moved: list[str]) -> None:
    """Refuse a layer with running buffers that predicts without them, or without a parameter."""
    (layer,) = trained.layers
    for name in layer.params:
        if _is_left_out(layer, name, x):
            raise GradientError(
                f"{layer.name}: forward uses the parameter {name!r} with train=True but not with "
                "train=False"
            )
    y = predicted(trained, x)
    if not np.isfinite(y).all():
        raise GradientError(
            f"{layer.name}: with train=False, forward returns numbers that are not finite"
        )
    first = predicted(trained, x[:1])
    if _is_close(first, y[:1]):
        return
    for name in moved:
        buffer = layer.buffers[name]
        buffer[...] = 1.5 * buffer + 1
    if _is_close(predicted(trained, x), y):
        raise GradientError(
            f"{layer.name}: a prediction for a row depends on the other rows of the batch, not "
            f"on {moved[0]!r}, which training updates: with train=False use self.buffers instead "
            "of the statistics of the batch"
        )
