"""The hidden layers of an estimator: made from widths, or given as layers."""

from typing import Any

from minigd.backends.base import backend_of
from minigd.data.batches import Batches
from minigd.data.row_weights import counting_rows, take_rows
from minigd.errors import find_by_name
from minigd.interop.sklearn.arguments import ACTIVATIONS, check_hidden, makes_layers, units_of
from minigd.nn.layers import (
    ELU,
    GELU,
    BatchNorm,
    Dense,
    Dropout,
    Layer,
    LeakyReLU,
    ReLU,
    SiLU,
    Standardize,
)
from minigd.nn.layers.base import like
from minigd.nn.layers.scaling import Adapted
from minigd.nn.moments import Moments
from minigd.nn.sequential import Sequential


def hidden_layers(estimator: Any, width: int) -> list[Layer]:
    """Return new hidden layers that are not in a model yet, for rows of this width."""
    if estimator.layers is None:
        return _of_widths(estimator)
    given = estimator.layers
    if makes_layers(given) and (given := given(width)) is None:
        raise TypeError(f"layers({width}) returned None: it must return a list of layers")
    return [like(layer) for layer in check_hidden(given)]


def is_linear(hidden: list[Layer]) -> bool:
    """Tell whether a model with these hidden layers is linear."""
    return all(isinstance(layer, Standardize) for layer in hidden)


def _of_widths(estimator: Any) -> list[Layer]:
    layers: list[Layer] = []
    for units in units_of(estimator.hidden):
        activation = _activation(estimator.activation)
        rectifies = isinstance(activation, ReLU | LeakyReLU | ELU | GELU | SiLU)
        layers.append(Dense(units, "he_normal" if rectifies else "glorot_uniform"))
        layers += [BatchNorm(), activation] if estimator.batch_norm else [activation]
        layers += [Dropout(estimator.dropout)] if estimator.dropout else []
    return layers


def _activation(given: Any) -> Layer:
    if isinstance(given, Layer):
        return like(given)
    return find_by_name("activation", given, ACTIVATIONS)()


def adapt_ends(model: Sequential, batches: Batches) -> None:
    """Adapt a first Standardize and a last Rescale, reading all rows once.

    Rows are weighted: a row of weight 2 counts as two rows.
    """
    ends = [layer for layer in (model.layers[0], model.layers[-1]) if isinstance(layer, Adapted)]
    found = [Moments() for _ in ends]
    for batch in batches.in_order() if ends else ():
        rows = counting_rows(batch.weight)
        weight = take_rows(batch.weight, rows)
        for layer, moments in zip(ends, found, strict=True):
            columns = layer.columns(batch)
            columns = take_rows(backend_of(columns).to_numpy(columns), rows)
            if len(columns):
                moments.add(columns, weight)
    for layer, moments in zip(ends, found, strict=True):
        layer.set_moments(moments)
