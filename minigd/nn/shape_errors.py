"""Errors for arrays that do not have the shape or dtype that a model needs."""

from typing import Any

from minigd.errors import DataError, ShapeError
from minigd.types import Array


def rows_error(x: Array, n_in: int, what: str) -> DataError:
    """Return the error for rows that a model does not accept, or for no rows."""
    if x.ndim == 2 and x.shape[1] == n_in:
        return DataError(f"{what} has no rows")
    hint = ""
    if x.ndim == 1:
        hint = f": {what}.reshape(-1, 1) makes it a column, {what}[None] a single row"
    return ShapeError(
        f"{what} has shape {x.shape} and the model takes rows of {n_in} numbers, "
        f"shape (n, {n_in}){hint}"
    )


def result_error(
    model: Any, layer: str, method: str, got: Any, shape: tuple[int, ...]
) -> ShapeError:
    """Return the error for a wrong result of a layer's method."""
    given = "None" if got is None else f"{type(got).__name__} {got!r:.100}"
    if model.backend.holds(got):
        given = f"an array of shape {got.shape} and dtype {got.dtype}"
    hint = "y.astype(x.dtype)" if method == "forward" else "dx.astype(dy.dtype)"
    return ShapeError(
        f"{layer}: {method} returned {given}; it must return shape {shape} and dtype "
        f"{model.dtype}" + (f": return {hint}" if getattr(got, "shape", None) == shape else "")
    )


def gradient_error(model: Any, dz: Any, shape: tuple[int, ...], loss: Any) -> ShapeError:
    """Return the error for a wrong result of a loss's `gradient`."""
    given = f"{dz.shape} and dtype {dz.dtype}" if model.backend.holds(dz) else repr(dz)
    return ShapeError(
        f"{type(loss).__name__}.gradient returned {given}; it must return shape {shape} and "
        f"dtype {model.dtype}"
    )
