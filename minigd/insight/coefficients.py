"""The coefficients of a linear model, in the units of the data.

The weights are converted by formula, so that Standardize and Rescale are no longer needed.
"""

from typing import Any

import numpy as np

from minigd.errors import validated
from minigd.nn.layers import Dense, Rescale, Sigmoid, Softmax, Standardize
from minigd.nn.sequential import Sequential
from minigd.types import Array


@validated
def coefficients(model: Sequential) -> tuple[Array, Array]:
    """Return slope and intercept of a linear model in the units of x and y.

    With z = ((x − m) / s)·W + b from Standardize and Dense, and y = z σ + μ from Rescale::

        slope_jk     = W_jk σ_k / s_j
        intercept_k  = (b_k − Σ_j m_j W_jk / s_j) σ_k + μ_k

    Parameters
    ----------
    model : Sequential
        One Dense layer, perhaps Standardize before it and Rescale after it. A last Sigmoid or
        Softmax is left out: the coefficients are then those of the logits.

    Returns
    -------
    slope : array of float64, shape (n_in, n_out)
    intercept : array of float64, shape (n_out,)

    Raises
    ------
    ValueError
        If the model is not linear.

    Examples
    --------
    >>> import numpy as np, minigd as gd
    >>> model = gd.Sequential([gd.Standardize(), gd.Dense(1), gd.Rescale()], inputs=1)
    >>> X = np.array([[0.0], [2.0]])
    >>> model.adapt(gd.Batches(X, np.array([5.0, 9.0])))
    >>> model.params["dense1.W"][...] = 1.0
    >>> slope, intercept = gd.coefficients(model)
    >>> slope.tolist(), intercept.tolist()
    ([[2.0]], [5.0])
    """
    layers: list[Any] = list(model.layers)
    before = layers.pop(0) if isinstance(layers[0], Standardize) else None
    rescale = layers.pop() if layers and isinstance(layers[-1], Rescale) else None
    if layers and isinstance(layers[-1], Sigmoid | Softmax):
        layers.pop()
    if before is not None:
        before.check_ready()
    if rescale is not None:
        rescale.check_ready()
    if len(layers) != 1 or not isinstance(layers[0], Dense):
        raise ValueError(
            "only a linear model has coefficients (one Dense layer, optionally with Standardize "
            f"before and Rescale after it), but this is {model!r}"
        )

    def host(values: Array) -> Array:
        return model.backend.to_numpy(values).astype(np.float64)

    slope, intercept = host(layers[0].params["W"]), host(layers[0].params["b"])
    if before is not None:
        slope = slope / host(before.buffers["std"])[:, None]
        intercept = intercept - host(before.buffers["mean"]) @ slope
    if rescale is not None:
        scale = host(rescale.buffers["std"])
        slope = slope * scale
        intercept = intercept * scale + host(rescale.buffers["mean"])
    return slope, intercept
