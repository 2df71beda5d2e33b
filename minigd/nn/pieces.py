"""A forward pass over pieces of rows, with bits that do not depend on where the rows come from."""

from collections.abc import Sequence
from typing import Any

from minigd.backends.base import get_backend
from minigd.nn.layers import Layer
from minigd.types import Array

_BLOCK = 16
"""A multiple of the number of rows that BLAS processes at once in a product with a vector."""


def run_piece(model: Any, layers: Sequence[Layer], x: Array, name: str, rows: Any) -> Array:
    """Return the output of the first layers for a piece of some rows, on the device of x."""
    on_device = model.backend.holds(x)
    home = model.backend if on_device else get_backend("numpy")
    home.check_finite(x, name, rows)
    if not on_device:
        x = model.backend.asarray(home.convert(x, model.dtype, name, rows))
    n, x = len(x), model.convert(x, name, rows)
    if model.n_weights == model.n_in and n % _BLOCK:
        # In a product with a vector, BLAS processes blocks of rows, and adds the remaining rows in
        # another order.
        x = model.backend.xp.concatenate([x, x[-1:].repeat(-n % _BLOCK, axis=0)])
    y = model.run_forward(layers, x, train=False)[:n]
    return y if on_device else model.backend.to_numpy(y)
