"""What training requires of a layer: x and dy do not change, and a trainer can make steps."""

from collections.abc import Callable

import numpy as np

from minigd.checks.layer_rules.parts import (
    Identity,
    Projection,
    is_rounding,
    modifies,
    with_train_false,
)
from minigd.errors import DivergenceError, GradientError
from minigd.nn.layers import Dense, Layer
from minigd.nn.layers.base import like
from minigd.nn.sequential import Sequential
from minigd.optim.updaters import SGD
from minigd.training.trainer import Trainer
from minigd.types import Array


def check_inputs(model: Sequential, x: Array, dy: Array) -> None:
    """Refuse a layer that changes x or dy, or reads them in memory order."""
    layer = model.layers[0]
    x_before, dy_before = x.copy(), dy.copy()

    def forward(x: Array) -> Array:
        return np.array(layer.forward(x, True))

    def backward(x: Array, dy: Array = dy) -> Array:
        layer.forward(x, True)
        layer.wants_dx = True
        return np.array(layer.backward(dy))

    def turned(call: Callable[..., Array], *given: Array) -> Array:
        try:
            return call(*map(np.asfortranarray, given))
        except Exception as error:
            raise GradientError(
                f"{layer.name}: {call.__name__} fails for an array in column order, with "
                f"{type(error).__name__}: {error}; index by rows and columns and not by memory"
            ) from error

    y, dx = forward(x), backward(x)
    if not (np.array_equal(x, x_before) and np.array_equal(dy, dy_before)):
        raise modifies(layer, "dy" if np.array_equal(x, x_before) else "x")
    for call, one, other in (
        (forward, y, turned(forward, x)),
        (backward, dx, turned(backward, x, dy)),
    ):
        if not is_rounding(one, other, model, x, call):
            raise GradientError(
                f"{layer.name}: {call.__name__} gives other numbers for an array in column order; "
                "index by rows and columns and not by memory"
            )


def check_training(layer: Layer, x: Array, dy: Array) -> None:
    """Let a trainer make steps in float32, with and without reused memory."""
    for name in layer.running:
        if name not in layer.buffers:
            raise GradientError(
                f"{layer.name}: running names {name!r}, which is not a buffer: declare it in "
                f"build, self.add_buffer({name!r}, shape)"
            )
    x, dy = x.astype("float32"), dy.astype("float32")
    if not np.isfinite(x).all():
        return  # rows for a float64 model, which a float32 model refuses
    one, other = (_gradients_in_training(layer, x, dy, reuse) for reuse in (True, False))
    for again, fresh in zip(one, other, strict=True):
        near = 1e-5 * float(np.abs(fresh).max(initial=0.0))
        if not np.allclose(again, fresh, rtol=1e-4, atol=near):
            raise GradientError(
                f"{layer.name}: gradients differ in training, where memory is reused: "
                "self.empty returns the same array for the same name, so give each "
                "array its own name, and copy what is needed after the step"
            )


def _gradients_in_training(layer: Layer, x: Array, dy: Array, reuse: bool) -> list[Array]:
    """Return the gradients of some steps, with dx as that of a Dense layer before."""
    own = like(layer)
    model = Sequential([Dense(layer.n_in), own, Identity()], layer.n_in)
    model.params[f"{model.layers[0].name}.W"] = np.eye(layer.n_in)
    for views, values in ((own.params, layer.params), (own.buffers, layer.buffers)):
        for name, value in values.items():
            views[name] = value
    trainer = Trainer(model, Projection(), SGD(0.0), reuse_buffers=reuse, fast=False)
    found = []
    try:
        for rows in (slice(None), slice(0, 1), slice(None)):
            trainer.step(x[rows], dy[rows])
            found.append(model.flat_grads.copy())
        with with_train_false():
            trainer.evaluate(x, dy)
    except DivergenceError as error:
        what = str(error).partition(" is ")[0]
        if what.startswith("the loss"):
            what = "the output"
        elif what.startswith(f"the gradient of {model.layers[0].name}."):
            what = "dx"
        raise GradientError(
            f"{own.name}: in float32, as fit trains, {what} is not finite, "
            "but in float64 it is. float32 holds at most 3.4e38, and numbers below 1e-45 become 0: "
            "rewrite the formula to keep intermediate results in that range"
        ) from error
    return found
