"""The flat vectors: one with all parameters of a network, one with their gradients.

Every W, b, dW and db is a named view into them, so an update is one pass.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from minigd.backends.base import Backend, Views
from minigd.errors import CheckpointError, ShapeError, check_list, shown
from minigd.nn.layers.base import Declared, Layer, with_inner
from minigd.storage.describe import Arrays
from minigd.types import Array

_MOST = 2**59
"""The largest possible number of 16-byte numbers in an array."""


class FlatParameters:
    """The parameters of layers and their gradients, as two vectors and as views by name.

    The weights of all layers come first, then all biases, scales and shifts. Parameters of frozen
    layers and their gradients, which are not used, are in separate arrays.

    Parameters
    ----------
    layers : sequence of Layer
        Each has its place in a network, and its parameters are declared.
    backend : Backend
    dtype : numpy.dtype

    Attributes
    ----------
    flat_params, flat_grads : Array, shape (size,)
    params, grads : Views
        By the names of layer and parameter, ``"dense1.W"``.
    n_weights : int
        How many of the numbers are weights: ``flat_params[:n_weights]``.
    names : tuple of str
        Of the parameters in `flat_params`, in their order.
    """

    def __init__(self, layers: Sequence[Layer], backend: Backend, dtype: Any) -> None:
        self.layers = layers
        trained = [layer for layer in layers if not layer.is_frozen]
        declared = [(layer, spec) for layer in trained for spec in layer.declared_params]
        self._places: dict[str, slice] = {}
        end = self.n_weights = 0
        for layer, spec in sorted(declared, key=lambda pair: len(pair[1].shape) < 2):
            start, end = end, end + math.prod(spec.shape)
            self._places[f"{layer.name}.{spec.name}"] = slice(start, end)
            self.n_weights = end if len(spec.shape) > 1 else self.n_weights
        self.size, self.names = end, tuple(self._places)
        if end > _MOST:
            raise ValueError(
                "the layers have more parameters than an array can hold: use fewer inputs or units"
            )
        self.allocate(backend, dtype)

    def allocate(self, backend: Backend, dtype: Any) -> None:
        """Create the two vectors, of zeros, and give each layer its views."""
        vectors = [backend.zeros((self.size,), dtype) for _ in ("params", "grads")]
        self.flat_params, self.flat_grads = vectors
        self.params, self.grads = Views(), Views()
        for layer in self.layers:
            views = _apart if layer.is_frozen else self._views
            layer.params, layer.grads = [views(layer, vector) for vector in vectors]
            self.params.update({f"{layer.name}.{k}": v for k, v in layer.params.items()})
            if not layer.is_frozen:
                self.grads.update({f"{layer.name}.{k}": v for k, v in layer.grads.items()})

    def _views(self, layer: Layer, vector: Array) -> Views:
        places = {name: self._places[f"{layer.name}.{name}"] for name, *_ in layer.declared_params}
        return Views(
            {name: vector[places[name]].reshape(shape) for name, shape, _ in layer.declared_params}
        )


def _apart(layer: Layer, vector: Array) -> Views:
    """Return arrays of zeros for a frozen layer, outside the vector."""
    zeros, dtype = layer.backend.zeros, vector.dtype
    return Views({name: zeros(shape, dtype) for name, shape, _ in layer.declared_params})


def draw_first_values(
    layers: Sequence[Layer], rng: np.random.Generator, backend: Backend, dtype: Any
) -> None:
    """Fill the parameters of all layers, and then their buffers, with their initializers."""
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
    """Return all parameters and buffers, on their backend, by their names in a file."""
    params = {f"params/{layer.name}.{k}": v for layer in layers for k, v in layer.params.items()}
    buffers = {f"buffers/{layer.name}.{k}": v for layer in layers for k, v in layer.buffers.items()}
    return params | buffers


def check_arrays(layers: Sequence[Layer], arrays: Arrays) -> None:
    """Refuse the arrays of a file if they are not those that these layers declare.

    Raises
    ------
    CheckpointError
        If names or shapes differ, or a value is impossible.
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
            f"the arrays do not match this model: {differ} has shape "
            f"{given.get(differ, '(missing)')} in the file and "
            f"{shapes.get(differ, '(missing)')} in the model"
        )
    for layer in layers:
        for name in layer.nonnegative:
            least = np.min(np.real(arrays[f"buffers/{layer.name}.{name}"]))
            if least < 0:
                raise CheckpointError(
                    f"{layer.name}.{name} in the file contains {least}, but must not be negative"
                )


def load_arrays(layers: Sequence[Layer], arrays: Arrays, backend: Backend, dtype: Any) -> None:
    """Write the arrays of a file into parameters and buffers, or refuse them all."""
    if not isinstance(arrays, Mapping):
        raise TypeError(f"arrays must be a dict, not {shown(arrays)}")
    check_arrays(layers, arrays)
    for name, value in arrays_of(layers).items():
        value[...] = backend.asarray(arrays[name], dtype=dtype)


def take_first_values(
    layers: Sequence[Layer], arrays: Arrays, backend: Backend, dtype: Any
) -> None:
    """Fill the parameters of all layers from the arrays of a file, and create their buffers."""
    for layer in layers:
        specs = layer.declared_buffers
        layer.buffers = Views({spec.name: backend.empty(spec.shape, dtype) for spec in specs})
    load_arrays(layers, arrays, backend, dtype)


def load_layers(model: Any, other: Any, names: Sequence[str] | None) -> None:
    """Write the arrays of another model's layers into the layers with the same names."""
    if not hasattr(other, "arrays"):
        raise TypeError(
            f"load_weights takes a minigd.Sequential, such as gd.load(path), not {shown(other)}"
        )
    own = {layer.name: layer for layer in model.all_layers}
    chosen = list(own) if names is None else check_list("layers", names, "name")
    shapes, given = (_shapes(each.all_layers) for each in (model, other))
    for name in chosen:
        if name not in own or shapes[name] != given.get(name):
            raise _other_layer(name, shapes, given)
    taken = with_inner(own[name] for name in chosen)
    chosen = [layer.name for layer in taken]
    values = {
        key: value
        for key, value in other.arrays().items()
        if key.partition("/")[2].rpartition(".")[0] in chosen
    }
    load_arrays(taken, values, model.backend, model.dtype)


def _shapes(layers: Sequence[Layer]) -> dict[str, dict[str, tuple[int, ...]]]:
    """Return the shapes of the arrays of each layer by the layer's name."""
    return {
        layer.name: {name: a.shape for name, a in {**layer.params, **layer.buffers}.items()}
        for layer in layers
    }


def _other_layer(name: str, shapes: dict[str, Any], given: dict[str, Any]) -> ShapeError:
    """Describe how a layer differs between two models, and list the layers that are the same."""
    words = [
        "has no such layer" if name not in of else f"has {of[name] or 'no arrays'}"
        for of in (shapes, given)
    ]
    same = [n for n, own in shapes.items() if own and own == given.get(n)]
    hint = f"; layers={same} would fit" if same else ""
    return ShapeError(f"{name}: this model {words[0]}, but the other model {words[1]}{hint}")
