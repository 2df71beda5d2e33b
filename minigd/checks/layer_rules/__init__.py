"""The rules for layers other than the gradient: what training, prediction and files require.

It may import what `checks` may. Training is tried with the trainer itself. Start with `training.py`
and `prediction.py`.
"""

import numpy as np

from minigd.checks.layer_rules.declared import (
    check_copies,
    check_numbers,
    note_undeclared,
    remedy,
    undeclared,
)
from minigd.checks.layer_rules.parts import LayerWarning
from minigd.checks.layer_rules.prediction import check_prediction
from minigd.checks.layer_rules.row_squares import check_row_squares
from minigd.checks.layer_rules.training import check_inputs, check_training
from minigd.checks.passes import alone
from minigd.errors import GradientError, ShapeError
from minigd.nn.sequential import Sequential
from minigd.types import Array

__all__ = ["LayerWarning", "check_rules"]


def check_rules(model: Sequential, x: Array, dy: Array, tolerance: float = 0.0) -> list[str]:
    """Refuse broken rules in the layer of a float64 model, and return what may be intended.

    The layer has the right gradients, within `tolerance` of the largest entry. It is not changed.

    Examples
    --------
    >>> import numpy as np, minigd as gd
    >>> class Forgets(gd.Dense):
    ...     def forward(self, x, train=False):
    ...         y = super().forward(x, train)
    ...         return y if train else y - self.params["b"]
    >>> model = gd.Sequential([Forgets(2)], inputs=3, dtype="float64")
    >>> model.params["forgets1.b"][...] = [1.0, 2.0]
    >>> check_rules(model, np.ones((4, 3)), np.ones((4, 2)))
    Traceback (most recent call last):
    minigd.errors.GradientError: forgets1: forward gives different numbers with train=False ...
    """
    (layer,) = model.layers
    with np.errstate(all="ignore"):
        check_numbers(layer, x, dy)
        check_inputs(alone(layer), x, dy)
        used = undeclared(layer, x, dy)
        check_copies(layer, used, x, dy)
        notes = note_undeclared(layer, used)
        try:
            check_training(layer, x, dy)
        except ShapeError as error:
            wide = {path: u for path, u in used.items() if u.array.dtype == "float64"}
            if not wide:
                raise
            why = f"{next(iter(wide))} is float64: {remedy(layer, wide)}"
            raise GradientError(str(error), why) from error
        notes += check_prediction(layer, x, dy)
        check_row_squares(layer, x, dy, max(1e-7, tolerance))
    return notes
