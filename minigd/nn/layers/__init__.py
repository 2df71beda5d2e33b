"""The layers, one concept per file: functions of a batch, with hand-written gradients.

It may import what `nn` may.
Start with `dense.py`, then `base.py`.
"""

from minigd.nn.layers.activations import (
    ELU,
    GELU,
    LeakyReLU,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from minigd.nn.layers.base import Layer
from minigd.nn.layers.batch_norm import BatchNorm
from minigd.nn.layers.dense import Dense
from minigd.nn.layers.dropout import Dropout
from minigd.nn.layers.layer_norm import LayerNorm
from minigd.nn.layers.residual import Residual
from minigd.nn.layers.scaling import Rescale, Standardize

LAYERS: dict[str, type[Layer]] = {
    layer.__name__: layer
    for layer in (
        Dense,
        Tanh,
        Sigmoid,
        ReLU,
        LeakyReLU,
        ELU,
        GELU,
        SiLU,
        Softplus,
        Softmax,
        BatchNorm,
        LayerNorm,
        Dropout,
        Residual,
        Standardize,
        Rescale,
    )
}

__all__ = [
    "ELU",
    "GELU",
    "LAYERS",
    "BatchNorm",
    "Dense",
    "Dropout",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "ReLU",
    "Rescale",
    "Residual",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Standardize",
    "Tanh",
]
