"""The contribution of each example to the gradient: its norm, and a limit on it.

Row i of every dy is the gradient of example i's own loss, so a backward pass over the batch already
contains all examples' gradients, and none needs to be computed separately.
"""

import copy

import numpy as np

from minigd.errors import check_number
from minigd.nn.layers import LAYERS
from minigd.nn.layers.base import with_inner
from minigd.nn.objective import Objective
from minigd.types import Array


class RowClipping:
    """A limit on the norm of each example's own gradient, before the mean is taken.

    ::

        g = (1/n) Σ_i g_i min(1, c / |g_i|)

    Parameters
    ----------
    limit : float or None
        c, above 0, or None for no limit.

    Source: Abadi et al. (2016), "Deep learning with differential privacy", Algorithm 1, without its
    noise.
    """

    def __init__(self, limit: float | None) -> None:
        self.limit = None if limit is None else check_number("clip_rows", limit)
        if self.limit == 0:
            raise ValueError("clip_rows must be above 0: with 0 the model would not learn")


def backward(objective: Objective, clipping: RowClipping, scale: Array | None = None) -> Array:
    """Fill the model's gradients after a training pass, and return each example's norm.

    ::

        norm_i = |∂ℓ_i/∂θ|,    |∂ℓ_i/∂W|² + |∂ℓ_i/∂b|² = (|x_i|² + 1) |dy_i|²  for a Dense layer

    With row weights, ℓ_i is n w_i/Σw times the loss of example i. In float32, |x_i| and |dy_i| of a
    Dense layer may be as large as 1.8e19. Beyond that, their squares overflow.

    Parameters
    ----------
    objective : Objective
        After its ``forward``.
    clipping : RowClipping
        It limits the example's gradient without its weight.
    scale : Array, shape (n,), optional
        The row weights passed to the loss, n w_i/Σw.

    Returns
    -------
    Array, shape (n,)
        Before any clipping, in the model's dtype, on its backend.

    Raises
    ------
    ValueError
        If a layer couples the rows of a batch, or does not define `row_squares`.

    Source: Goodfellow (2015), "Efficient per-example gradient computations", equation 3.
    """
    model, layers = objective.model, objective.layers
    dz = objective.loss.backward()
    model.check_gradient(dz, dz.shape, objective.loss)
    # Backward runs a second time, and a custom layer may have changed its kept arrays.
    kept = [
        layer.held
        if layer.held is None or LAYERS.get(type(layer).__name__) is type(layer)
        else tuple([copy.copy(array) for array in layer.held])
        for layer in with_inner(layers)
    ]
    squares: list[Array] = []
    model.run_backward(layers, dz, squares=squares)
    if not squares:
        raise ValueError("the model has no parameters, so there are no gradients of rows")
    # In the dtype of the layers' results, which may have a larger range than the model's.
    length = model.backend.xp.sqrt(sum(squares[1:], squares[0]))
    if clipping.limit is not None:
        for layer, arrays in zip(with_inner(layers), kept, strict=True):
            if arrays is not None:
                layer.keep(*arrays)
        # backward is linear in dy, so a row's own gradient is scaled with it.
        with np.errstate(all="ignore"):
            own = length if scale is None else length / scale
            share = model.backend.xp.minimum(1, clipping.limit / own)
        share = share.astype(model.dtype, copy=False)
        model.run_backward(layers, dz * share.reshape(-1, 1))
    return length.astype(model.dtype, copy=False)
