"""The passes that checks compare: of a layer alone, and of a model with a loss.

Each is the first pass of training, so a random layer draws the same numbers in all of them.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from minigd.data.batches import Batch, Batches
from minigd.data.row_weights import row_scale
from minigd.errors import DataError
from minigd.nn.layers import Layer
from minigd.nn.layers.base import like
from minigd.nn.losses import Loss
from minigd.nn.sequential import Sequential
from minigd.optim.gradient_transforms import Penalty
from minigd.types import Array


def forward(
    model: Sequential, x: Array, layers: Sequence[Layer] | None = None, train: bool = True
) -> Array:
    """Return the output of a model, or of some of its layers."""
    model.passes = 0
    return model.run_forward(model.layers if layers is None else layers, x, train=train)


# A layer alone ----------------------------------------------------------------------------------


def alone(layer: Layer, dtype: str = "float64") -> Sequential:
    """Return a new layer with the same values in its own model."""
    model = Sequential([like(layer)], layer.n_in, dtype=dtype)
    take_values(model, layer)
    return model


def take_values(model: Sequential, layer: Layer) -> None:
    """Copy parameters and buffers from another layer to the layer of a model on the host."""
    (own,) = model.layers
    model.load_arrays(
        {
            f"{kind}/{own.name}.{name}": layer.backend.to_numpy(value)
            for kind, values in (("params", layer.params), ("buffers", layer.buffers))
            for name, value in values.items()
        }
    )


def run(model: Sequential, x: Array, dy: Array) -> dict[str, Array]:
    """Return the gradients of one pass by short names, dx as ``x``, and the output as ``y``."""
    y = forward(model, x.copy()).copy()
    dx = model.run_backward(model.layers, dy.copy(), input_gradient=True)
    assert dx is not None
    grads = {name: grad.copy() for name, grad in model.layers[0].grads.items()}
    return {**grads, "y": y, "x": dx.copy()}


# A model under a loss ---------------------------------------------------------------------------


def new_loss(loss: Loss) -> Loss:
    """Return a loss with the same settings that has seen no batch."""
    return type(loss)(**loss.config())


class Setup(NamedTuple):
    """Everything that determines a loss: model, layers in use, loss, batch, weights, penalty."""

    model: Sequential
    layers: Sequence[Layer]
    loss: Loss
    x: Array
    y: Array
    weight: Array | None = None
    penalty: Penalty = Penalty()

    def copied(self, dtype: str | None = None) -> "Setup":
        """Return the same setup with a copy of the model, and with x in its dtype."""
        model = self.model.copy(dtype=dtype)
        layers = model.layers[: len(self.layers)]
        return self._replace(model=model, layers=layers, x=self.x.astype(model.dtype))

    def output(self, x: Array) -> Array:
        """Return the input of the loss."""
        return forward(self.model, x, self.layers)

    def value(self, x: Array) -> Any:
        """Return the loss, including the penalty."""
        z = self.output(x)
        mean = self.loss.mean(z, self.y, row_scale(self.weight))
        return mean + self.penalty.value(self.model)

    def per_example(self) -> Array:
        """Return each row's own loss."""
        z = self.output(self.x)
        return self.loss.per_example(z, self.loss.targets(self.y, z))

    def backward(self, input_gradient: bool = False) -> Array | None:
        """Fill the gradients after `value`, including the penalty, and return dx if wanted."""
        dx = self.model.run_backward(self.layers, self.loss.backward(), input_gradient)
        self.penalty.add_gradient(self.model)
        return dx


# Batches ----------------------------------------------------------------------------------------


def from_epochs(batches: Batches, count: int) -> Iterator[Batch]:
    """Yield the given number of batches with a row of nonzero weight, from successive epochs."""
    epoch = made = 0
    while made < count:
        before = made
        for batch in batches.epoch(epoch):
            if batch.weight is None or batch.weight.any():
                yield batch
                made += 1
                if made == count:
                    return
        if made == before:
            raise DataError("the rows do not fill a single batch: use a smaller batch_size")
        epoch += 1
