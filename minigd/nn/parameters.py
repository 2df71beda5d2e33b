"""The flat vectors: all parameters of a network in one, their gradients in another.

Every W, b, dW and db is a named view into them, so that an update is one pass.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from minigd.backends.base import Backend, Views
from minigd.errors import CheckpointError, ShapeError, shown
from minigd.nn.layers.base import Declared, Layer
from minigd.storage.describe import Arrays
from minigd.types import Array

_MOST = 2**59
"""How many numbers of 16 bytes an array can have at most."""


class FlatParameters:
    """The parameters of layers and their gradients, as two vectors and as views by name.

    The weights of all layers come first, and all biases, scales and shifts after them.

    Parameters
    ----------
    layers : sequence of Layer
        Each bound to its place in a network, so that it has declared its parameters.
    backend : Backend
    dtype : numpy.dtype

    Attributes
    ----------
    flat_params, flat_grads : Array, shape (size,)
    params, grads : Views
        By the names of layer and parameter, ``"dense1.W"``.
    n_weights : int
        How many of the numbers are weights: ``flat_params[:n_weights]``.
    """

    def __init__(self, layers: Sequence[Layer], backend: Backend, dtype: Any) -> None:
        self.layers = layers
        declared = [(layer, spec) for layer in layers for spec in layer.declared_params]
        self._places: dict[str, slice] = {}
        end = self.n_weights = 0
        for layer, spec in sorted(declared, key=lambda pair: len(pair[1].shape) < 2):
            start, end = end, end + math.prod(spec.shape)
            self._places[f"{layer.name}.{spec.name}"] = slice(start, end)
            self.n_weights = end if len(spec.shape) > 1 else self.n_weights
        self.size = end
        if end > _MOST:
            raise ValueError(
                "the layers have more parameters than an array can hold: fewer inputs or units are "
                "needed"
            )
        self.allocate(backend, dtype)

    def allocate(self, backend: Backend, dtype: Any) -> None:
        """Make the two vectors, of zeros, and give each layer its views."""
        self.flat_params = backend.zeros((self.size,), dtype)
        self.flat_grads = backend.zeros((self.size,), dtype)
        for layer in self.layers:
            layer.params = self._views(layer, self.flat_params)
            layer.grads = self._views(layer, self.flat_grads)
        self.params = Views(
            {f"{layer.name}.{k}": v for layer in self.layers for k, v in layer.params.items()}
        )
        self.grads = Views(
            {f"{layer.name}.{k}": v for layer in self.layers for k, v in layer.grads.items()}
        )

    def _views(self, layer: Layer, vector: Array) -> Views:
        places = {name: self._places[f"{layer.name}.{name}"] for name, *_ in layer.declared_params}
        return Views(
            {name: vector[places[name]].reshape(shape) for name, shape, _ in layer.declared_params}
        )


def draw_first_values(
    layers: Sequence[Layer], rng: np.random.Generator, backend: Backend, dtype: Any
) -> None:
    """Fill the parameters of all layers, and then their buffers, by their initializers."""
    for layer in layers:
        for spec in layer.declared_params:
            layer.params[spec.name][...] = _draw(layer, spec, rng, backend, dtype)
    for layer in layers:
        layer.buffers = Views(
            {spec.name: _draw(layer, spec, rng, backend, dtype) for spec in layer.declared_buffers}
        )


def _draw(
    layer: Layer, spec: Declared, rng: np.random.Generator, backend: Backend, dtype: Any
) -> Array:
    values = np.asarray(spec.initializer(rng, spec.shape))
    if values.shape != spec.shape:
        raise ShapeError(
            f"the initializer of {layer.name}.{spec.name} returned shape {values.shape} for "
            f"{spec.shape}"
        )
    return backend.asarray(values, dtype=dtype)


def arrays_of(layers: Sequence[Layer]) -> dict[str, Array]:
    """Return all parameters and buffers, where they live, by the names that a file has for them."""
    params = {f"params/{layer.name}.{k}": v for layer in layers for k, v in layer.params.items()}
    buffers = {f"buffers/{layer.name}.{k}": v for layer in layers for k, v in layer.buffers.items()}
    return params | buffers


def check_arrays(layers: Sequence[Layer], arrays: Arrays) -> None:
    """Refuse the arrays of a file if they are not those that these layers declare.

    Raises
    ------
    CheckpointError
        If names or shapes are others, or a value is one that can't be.
    """
    for name, value in arrays.items():
        dtype = getattr(value, "dtype", type(value))
        if getattr(dtype, "kind", "") not in ("f", "c"):
            raise CheckpointError(f"{name} in the file is {dtype}, not real numbers")
    shapes = {
        f"{kind}/{layer.name}.{spec.name}": spec.shape
        for kind in ("params", "buffers")
        for layer in layers
        for spec in getattr(layer, f"declared_{kind}")
    }
    given = {name: value.shape for name, value in arrays.items()}
    if shapes != given:
        differ = min(n for n in shapes.keys() | given.keys() if shapes.get(n) != given.get(n))
        raise CheckpointError(
            f"the arrays are not those of this model: {differ} has shape "
            f"{given.get(differ, '(missing)')} in the file and "
            f"{shapes.get(differ, '(missing)')} in the model"
        )
    for layer in layers:
        for name in layer.nonnegative:
            least = np.min(np.real(arrays[f"buffers/{layer.name}.{name}"]))
            if least < 0:
                raise CheckpointError(
                    f"{layer.name}.{name} in the file holds {least}, and is never negative"
                )


def load_arrays(layers: Sequence[Layer], arrays: Arrays, backend: Backend, dtype: Any) -> None:
    """Write the arrays of a file into parameters and buffers, or refuse them all."""
    if not isinstance(arrays, Mapping):
        raise TypeError(f"arrays is a dict, and not {shown(arrays)}")
    check_arrays(layers, arrays)
    for name, value in arrays_of(layers).items():
        value[...] = backend.asarray(arrays[name], dtype=dtype)


def take_first_values(
    layers: Sequence[Layer], arrays: Arrays, backend: Backend, dtype: Any
) -> None:
    """Fill the parameters of all layers from the arrays of a file, and make their buffers."""
    for layer in layers:
        specs = layer.declared_buffers
        layer.buffers = Views({spec.name: backend.empty(spec.shape, dtype) for spec in specs})
    load_arrays(layers, arrays, backend, dtype)
